"""`make gpu-check`: every training on this machine's GPU in fp32, bf16 and fp16, and every way of asking a network, on drawn scenes.

In under eight minutes. For each training two things. *Parity*: a few steps of the tiny network, whose losses must lie within BOUNDS of those of the CPU
(which is asked in a process of its own that sees no GPU). *Speed*: a few steps of the published network at its published size;
images a second and the most memory are printed. Then what only asks (maps, mining, walks, CRF, masks, the last layer) at the
published size: a second run of each is timed. At the end a JSON with the card's name and the versions; the exit status is 1 if
a loss lies outside its bound. `--dry-run` does the same on the CPU in toy size, without fp16, which a CPU has not."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from wood_nb.base.files import write_json  # noqa: E402
from wood_nb.data.augment import Augment  # noqa: E402
from wood_nb.data.images import write_mask  # noqa: E402
from wood_nb.data.sources import load_voc  # noqa: E402
from wood_nb.data.splits import Split  # noqa: E402
from wood_nb.maps.advcam import AdvCAMConfig, climb_split  # noqa: E402
from wood_nb.maps.cam import iterate_maps, localise  # noqa: E402
from wood_nb.maps.config import FickleConfig, SeamConfig  # noqa: E402
from wood_nb.maps.ficklenet import fickle_split, fickle_training  # noqa: E402
from wood_nb.maps.seam import localise_seam, seam_training  # noqa: E402
from wood_nb.masks.cian import CIANConfig, with_cross  # noqa: E402
from wood_nb.masks.dynamic import with_dynamic  # noqa: E402
from wood_nb.masks.irn import irn_maps, IRNet, train_irn  # noqa: E402
from wood_nb.masks.labels import IRNConfig, IRNTrain  # noqa: E402
from wood_nb.masks.learn import build_recipe, PairAugment, Recipe, SegTrainConfig, train_segnet  # noqa: E402
from wood_nb.masks.pseudo import MaskConfig, write_masks  # noqa: E402
from wood_nb.masks.psa import AffinityNet, PSAAugment, PSAConfig, PSATrain, train_psa  # noqa: E402
from wood_nb.masks.segment import segment_split  # noqa: E402
from wood_nb.masks.ssdd import mask_pairs, SSDDConfig, SSDDNet, SSDDTrain, train_ssdd  # noqa: E402
from wood_nb.nets.backbones import build_net  # noqa: E402
from wood_nb.nets.deeplab import build_segnet  # noqa: E402
from wood_nb.nets.detector import detector_on  # noqa: E402
from wood_nb.ood.cache import cache_features  # noqa: E402
from wood_nb.ood.head import solve_head  # noqa: E402
from wood_nb.ood.wood import train_wood, WOoDConfig  # noqa: E402
from wood_nb.runs.run import versions  # noqa: E402
from wood_nb.scenes.scenes import draw_scenes, SCENE_CLASSES  # noqa: E402
from wood_nb.train.config import TrainConfig  # noqa: E402
from wood_nb.train.detect import BoxAugment, DetectorConfig, train_detector  # noqa: E402
from wood_nb.train.loop import classification_loss, train  # noqa: E402
from wood_nb.train.predict import predict_all  # noqa: E402

FROM_NOTHING = ('deeplab', 'cian', 'dynamic')  # a ResNet-101 without weights of ImageNet overflows in fp16: no speed of it
BOUNDS = {'fp32': 0.01, 'bf16': 0.05, 'fp16': 0.03}  # of losses: relative to the CPU's, in any step (fp32: GPUs multiply in TF32)
DRAWN_BOUND = 0.1  # of the detector, which draws the proposals that it learns from by the device's own random numbers
MAP_BOUNDS = {'fp32': 0.01, 'bf16': 0.05, 'fp16': 0.03}  # of AdvCAM's maps: mean difference, maps from 0 to 1


@dataclass
class Scenes:
    "What all trainings work on."
    train: Split
    ood: Split
    maps: Path
    place: Path


@dataclass(frozen=True)
class Size:
    "How large a check is. `network`, `segnet`: by name; `steps` of a training, of which the first are not timed; `times` that what asks is run: the last is timed."
    network: str
    segnet: str
    crop: int
    batch: int
    steps: int
    pyramid: tuple = ()
    climbs: int = 6
    head: int = 10_582
    times: int = 2


PARITY = Size('tiny', 'deeplab_tiny', 64, 4, 4)
TOY_PARITY = Size('tiny', 'deeplab_tiny', 48, 2, 2, climbs=2)
TOY = Size('tiny', 'deeplab_tiny', 48, 2, 2, climbs=1, head=100, times=1)
FULL = Size('resnet50', 'deeplab2_resnet101', 320, 16, 14, (0.5, 0.75))


def seeded(build, *args, **options):
    torch.manual_seed(0)
    return build(*args, **options)


def options(size: Size, precision: str) -> dict:
    "What all trainings are told; rates are small, so that a step that fp16 skips hardly shows."
    return {'steps': size.steps, 'batch_size': size.batch, 'lr': 0.002, 'lr_head': 0.01, 'momentum': 0.9, 'precision': precision, 'clip': 5.0}


def of_image(size: Size, precision: str, kind: type = TrainConfig, **more):
    "The options of a training that crops images."
    return kind(**options(size, precision), freeze_stages=0, augment=Augment((size.crop, 5 * size.crop // 4), size.crop), **more)


def classifier(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    return train(seeded(build_net, size.network, SCENE_CLASSES, weights=None), scenes.train, of_image(size, precision), out=out, title=None)


def wood(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    config = WOoDConfig.official(train=of_image(size, precision), clusters=3, ood_batch=size.batch)
    return train_wood(seeded(build_net, size.network, SCENE_CLASSES, weights=None), scenes.train, scenes.ood, config, out, 64, title=None)


def irn(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    config = IRNConfig(train=of_image(size, precision, IRNTrain), crf=None, radius=3, foreground=0.5, background=0.3)
    net = seeded(IRNet, seeded(build_net, size.network, SCENE_CLASSES, weights=None), size.crop)
    return train_irn(net, scenes.train, scenes.maps, out, config, title=None)


def psa(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    config = PSAConfig(train=PSATrain(**options(size, precision), freeze_stages=0, augment=PSAAugment.small(size.crop)), crf=None, radius=3 if size.crop < 128 else 5)
    net = seeded(AffinityNet, seeded(build_net, size.network, SCENE_CLASSES, weights=None))
    return train_psa(net, scenes.train, scenes.maps, out, config, title=None)


def seam(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    net, loss = seam_training(seeded(build_net, size.network, SCENE_CLASSES, weights=None), SeamConfig())
    return train(net, scenes.train, of_image(size, precision), loss, out=out, title=None)


def ficklenet(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    net, _ = fickle_training(seeded(build_net, size.network, SCENE_CLASSES, weights=None), FickleConfig())
    return train(net, scenes.train, of_image(size, precision), classification_loss, out=out, title=None)


def detector(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    net = detector_on(seeded(build_net, size.network, SCENE_CLASSES, weights=None))
    config = DetectorConfig(**options(size, precision), freeze_stages=0, augment=BoxAugment((size.crop, 5 * size.crop // 4)))
    return train_detector(net, scenes.train, config, out, title=None)


def segnet(size: Size, precision: str, change: Callable[[Recipe], Recipe] = lambda made: made) -> Recipe:
    "How a segmentation network is trained, changed or not."
    made = SegTrainConfig(**options(size, precision), augment=PairAugment((1.0, 1.25), size.crop), enlarge=True)
    return change(Recipe(size.segnet, made, None, size.pyramid))


def deeplab(scenes: Scenes, size: Size, precision: str, out: Path, change: Callable[[Recipe], Recipe] = lambda made: made) -> list[dict]:
    made = segnet(size, precision, change)
    net = build_recipe(made, SCENE_CLASSES, seed=0)
    return train_segnet(net, scenes.train, made.train, out, absent='allow', title=None).log


def cian(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    """At a tenth of the rates, without the completion losses, which come and go with what a beginner is sure of: the first step, which
    fp16 may skip, would show."""
    def slowly(made: Recipe) -> Recipe:
        crossed = with_cross(made, CIANConfig(skip_alone=True, completion=0.0))
        return replace(crossed, train=replace(crossed.train, lr=made.train.lr / 10, lr_head=made.train.lr_head / 10))
    return deeplab(scenes, size, precision, out, slowly)


def dynamic(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    return deeplab(scenes, size, precision, out, with_dynamic)


def ssdd(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    "Knowledge: the true masks; advice: the same, two pixels to the right."
    for n, item in enumerate(scenes.train.items):
        for name, step in (('knowledge', 0), ('advice', 2)):
            write_mask(scenes.place/name/f'{item.id}.png', np.roll(scenes.train.mask(n), step, 1))
    pairs = mask_pairs(scenes.train, scenes.place/'knowledge', scenes.place/'advice', scenes.place/'pairs')
    how = SSDDTrain(**options(size, precision), augment=PairAugment((1.0, 1.25), size.crop))
    config = SSDDConfig(how, width=64, difference_width=64, dilation=2)
    net = seeded(SSDDNet, seeded(build_net, size.network, SCENE_CLASSES, weights=None), config)
    return train_ssdd(net, pairs, config, out, title=None)


def advcam(scenes: Scenes, size: Size, precision: str, out: Path) -> list[dict]:
    "The maps as rows, so that they can be compared like losses."
    net, some = seeded(build_net, size.network, SCENE_CLASSES, weights=None).eval(), scenes.train.subset(range(4))
    begun = time.perf_counter()
    climb_split(net, some, out, AdvCAMConfig(iterations=size.climbs, scales=(1.0,)), batch_size=4, title='', precision=precision)
    speed = len(some) / (time.perf_counter() - begun)
    return [{'step': n, 'maps': maps.stride4.ravel().tolist(), 'images_per_s': speed} for n, maps in iterate_maps(some, out)]


CHECKS = {'classifier': classifier, 'wood': wood, 'seam': seam, 'ficklenet': ficklenet, 'irn': irn, 'psa': psa, 'advcam': advcam,
          'deeplab': deeplab, 'cian': cian, 'dynamic': dynamic, 'ssdd': ssdd, 'detector': detector}


def head_task(count: int, device: str) -> Callable[[Path], object]:
    "The last layer of so many training and half as many OoD pictures (VOC's numbers are 10,582 and 5,190), 2,048 numbers of each."
    rng = torch.Generator().manual_seed(0)
    inside, outside = (torch.rand(n, 2048, generator=rng).pow_(4).to(device) for n in (count, count//2))
    labels = torch.rand(count, 20, generator=rng).lt(0.07).float().to(device)
    return lambda out: solve_head(inside, labels, outside, 'zero')


def asks(scenes: Scenes, size: Size, precision: str) -> dict[str, tuple[int, Callable[[Path], object]]]:
    "What is asked of networks in a run: name -> number of images, and what to do in a folder that is not there yet."
    images, few = scenes.train, scenes.train.subset(range(min(16, len(scenes.train))))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    net = seeded(build_net, size.network, SCENE_CLASSES, weights=None).eval()
    seam_net, fickle_net = seam_training(net, SeamConfig())[0].eval(), fickle_training(net, FickleConfig(window=3))[0].eval()
    walker, labels = IRNet(net, size.crop).eval(), IRNConfig.small(size.crop, crf_scale=size.crop / 500)
    segmenter = seeded(build_segnet, size.segnet, SCENE_CLASSES, None, size.pyramid).eval()
    quiet = {'title': '', 'precision': precision}
    return {'maps, 4 scales': (len(images), lambda out: localise(net, images, out, **quiet)),
            'SEAM maps': (len(few), lambda out: localise_seam(seam_net, few, out, **quiet)),
            'Fickle, 50 draws': (len(few), lambda out: fickle_split(fickle_net, few, out, **quiet)),
            'mining': (len(images), lambda out: predict_all(net, images, title=None, precision=precision)),
            'features': (len(images), lambda out: cache_features(net, images, out, title=None, precision=precision)),
            'walk': (len(few), lambda out: irn_maps(walker, few, scenes.maps, out, labels, title='')),
            'CRF': (len(few), lambda out: write_masks(few, scenes.maps, out, MaskConfig(crf='irn-label'), title='')),
            'segmentation': (len(few), lambda out: segment_split(segmenter, few, out, title='', precision=precision)),
            'last layer': (size.head, head_task(size.head, device))}


def scenes_in(place: Path, count: int, side: int) -> Scenes:
    "Drawn scenes, and maps of an untrained network to make labels from."
    if not (place/'maps').is_dir():
        draw_scenes(place, train=count, val=1, ood=1, pool=count, size=side, workers=1, progress=False)
    split, pool = load_voc(place, 'train', SCENE_CLASSES), sorted((place/'pool').glob('*.jpg'))
    from wood_nb.data.splits import Item
    ood = Split('ood', [Item(o.stem, o) for o in pool])
    net = seeded(build_net, 'tiny', SCENE_CLASSES, weights=None).eval()
    localise(net, split, place/'maps', scales=(1.0,), title='', precision='fp32')
    return Scenes(split, ood, place/'maps', place)


def difference(name: str, found: list[dict], wanted: list[dict]) -> float:
    "How far losses (or maps) are from those of the CPU, at most."
    if name == 'advcam':
        return max(float(np.abs(np.subtract(a['maps'], b['maps'])).mean()) for a, b in zip(found, wanted, strict=True) if a['maps'])
    return max(abs(a['loss'] - b['loss']) / max(abs(b['loss']), 1e-6) for a, b in zip(found, wanted, strict=True))


def cpu_losses(place: Path, size: Size, only: list[str]) -> dict[str, list[dict]]:
    "Each training's log on the CPU in full precision, from a process that sees no GPU."
    out = place/'cpu.json'
    more = ['--dry-run'] if size is TOY_PARITY else []
    subprocess.run([sys.executable, __file__, '--cpu-part', place, out, *more, '--only', *only], check=True, env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
    return json.loads(out.read_text())


def memory() -> float | None:
    return round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None


def measured(name: str, scenes: Scenes, size: Size, precision: str, what: str) -> tuple[list[dict], dict]:
    "One run of a training: its log, and its row of the result."
    out = Path(tempfile.mkdtemp(dir=scenes.place))
    if torch.cuda.is_available(): torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    try: rows, fault = CHECKS[name](scenes, size, precision, out/name), None
    except Exception as error: rows, fault = [], f'{type(error).__name__}: {error}'[:500]  # the other checks go on
    speeds = [row['images_per_s'] for row in rows[min(4, len(rows) - 1):]]
    row = {'training': name, 'precision': precision, 'what': what, 'network': size.segnet if name == 'deeplab' else size.network, 'crop': size.crop,
           'batch': size.batch, 'images_per_s': round(median(speeds), 1) if speeds else None, 'memory_gb': memory(),
           'seconds': round(time.perf_counter() - begun, 1), 'fault': fault, 'fine': fault is None}
    return rows, row


def asked(scenes: Scenes, size: Size, precision: str) -> Iterator[dict]:
    "A row for everything that is asked of a network: of two runs (in toy size one) the last is timed."
    for name, (count, task) in asks(scenes, size, precision).items():
        begun, fault, speed = time.perf_counter(), None, None
        if torch.cuda.is_available(): torch.cuda.reset_peak_memory_stats()
        try:
            for _ in range(size.times):
                start = time.perf_counter()
                task(Path(tempfile.mkdtemp(dir=scenes.place))/'out')
                speed = round(count / (time.perf_counter() - start), 1)
        except Exception as error: fault = f'{type(error).__name__}: {error}'[:500]
        yield {'training': name, 'precision': precision, 'what': 'asked', 'network': size.network, 'crop': size.crop, 'batch': None, 'images_per_s': speed,
               'memory_gb': memory(), 'seconds': round(time.perf_counter() - begun, 1), 'fault': fault, 'fine': fault is None}


def line(row: dict) -> str:
    differs = f"differs {row['differs']:.5f} (bound {row['bound']:g})" if row.get('differs') is not None else ''
    speed = f"{row['images_per_s'] or 0:8.1f} images/s  {row['memory_gb'] if row['memory_gb'] is not None else '-':>6} GB"
    return f"{'ok  ' if row['fine'] else 'FAIL'} {row['training']:<17} {row['precision']:<5} {row['what']:<7} {speed}  {row['seconds']:6.1f} s  {differs}{row['fault'] or ''}"


def check(place: Path, dry: bool, only: list[str], fast: bool = True, until: float = 420) -> list[dict]:
    "All rows, each printed as it is done: first parity of everything, then, if `fast`, what asks, and speed until so many seconds are over."
    begun, rows = time.perf_counter(), []
    precisions = ('fp32', 'bf16') if dry else ('fp32', 'bf16', 'fp16')
    scenes = scenes_in(place, 4, 48) if dry else scenes_in(place, 12, 96)
    parity = TOY_PARITY if dry else PARITY
    wanted = cpu_losses(place, parity, only)

    def done(row):
        rows.append(row)
        print(line(row), flush=True)
    for name in only:
        for precision in precisions:
            found, row = measured(name, scenes, parity, precision, 'parity')
            if row['fine']:
                row['bound'] = DRAWN_BOUND if name == 'detector' else (MAP_BOUNDS if name == 'advcam' else BOUNDS)[precision]
                row['differs'] = difference(name, found, wanted[name])
                row['fine'] = row['differs'] <= row['bound']
            done(row)
    large = scenes if dry else scenes_in(place/'large', 64, 384)
    for precision in precisions[:2] if fast else ():
        for row in asked(large, TOY if dry else FULL, precision): done(row)
    for name in only if fast else ():
        for precision in precisions[:2 if name in FROM_NOTHING else 3]:
            if time.perf_counter() - begun < until: done(measured(name, large, TOY if dry else FULL, precision, 'speed')[1])
            else: print(f'left out {name} {precision} speed: the time is up')
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--dry-run', action='store_true', help='on the CPU, in toy size')
    parser.add_argument('--only', nargs='+', choices=list(CHECKS), default=list(CHECKS), help='these trainings')
    parser.add_argument('--parity', action='store_true', help='losses only, no speed')
    parser.add_argument('--until', type=float, default=420, metavar='SECONDS', help='measure no further speed after so many (default 420)')
    parser.add_argument('--out', type=Path, default=Path('gpu-check.json'), help='where the figures go (default gpu-check.json)')
    parser.add_argument('--cpu-part', nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cpu_part:
        scenes = scenes_in(args.cpu_part[0], 12, 96)  # drawn already
        torch.set_num_threads(min(8, os.cpu_count() or 1))
        size = TOY_PARITY if args.dry_run else PARITY
        logs = {name: CHECKS[name](scenes, size, 'fp32', Path(tempfile.mkdtemp(dir=scenes.place))/name) for name in args.only}
        args.cpu_part[1].write_text(json.dumps(logs))
        return 0
    if not args.dry_run and not torch.cuda.is_available():
        print('gpu-check: no GPU that torch can use; --dry-run does the same on the CPU in toy size', file=sys.stderr)
        return 2
    begun, card = time.perf_counter(), 'CPU (dry run)' if args.dry_run else torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory(prefix='gpu-check-') as place: rows = check(Path(place), args.dry_run, args.only, not args.parity, args.until)
    bad = [f"{row['training']} {row['precision']} {row['what']}" for row in rows if not row['fine']]
    write_json(args.out, {'format': 'wood_nb.gpu_check', 'version': 1, 'device': card, 'cuda': torch.version.cuda, 'versions': versions(),
                          'seconds': round(time.perf_counter() - begun, 1), 'bounds': BOUNDS, 'map_bounds': MAP_BOUNDS, 'rows': rows})
    print(f"{card}: {len(rows) - len(bad)} of {len(rows)} fine in {time.perf_counter() - begun:.0f} s; figures in {args.out}"
          + (f"; not fine: {', '.join(bad)}" if bad else ''))
    return 1 if bad else 0


if __name__ == '__main__': sys.exit(main())
