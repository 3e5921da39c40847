"""What a step of training and the maps or masks of one image cost: each system of the seed beside its nearest neighbour. Processor time
of one thread, on the small run's drawn scenes (96 pixels, tiny backbone): `python tests/costs.py [PART ...]` prints them."""
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from wood_nb.maps.advcam import AdvCAMConfig, climb_split
from wood_nb.maps.bbam import bbam_split, BBAMConfig
from wood_nb.maps.cam import localise
from wood_nb.maps.config import FickleConfig, SeamConfig
from wood_nb.maps.ficklenet import fickle_split, fickle_training
from wood_nb.maps.seam import localise_seam, seam_training
from wood_nb.masks.cian import with_cross
from wood_nb.masks.dynamic import with_dynamic
from wood_nb.masks.irn import irn_maps, IRNet, train_irn
from wood_nb.masks.labels import IRNConfig, with_masks
from wood_nb.masks.learn import build_recipe, PairAugment, recipe, train_segnet
from wood_nb.masks.pseudo import MaskConfig, write_masks
from wood_nb.masks.segment import segment_split
from wood_nb.masks.ssdd import mask_pairs, ssdd_masks, SSDDConfig, SSDDNet, train_ssdd
from wood_nb.nets.detector import box_heads, detector_on
from wood_nb.runs.tiny import tiny_run
from wood_nb.train.detect import BoxAugment, DetectorConfig, train_detector
from wood_nb.train.loop import classification_loss, train

STEPS, BATCH, IMAGES = 3, 16, 8


def spent(work: Callable) -> float:
    "Milliseconds of processor time."
    start = time.process_time()
    work()
    return 1e3*(time.process_time() - start)


def a_step(run: Callable[[int], object]) -> float:
    "Milliseconds of a step: `run(steps)` with more steps, less that with one, so that what comes before them does not count."
    short = spent(lambda: run(1))
    return (spent(lambda: run(1 + STEPS)) - short)/STEPS


class Costs:
    "All that is measured, on copies of nothing but the small run's first scenes."

    def __init__(self):
        torch.set_num_threads(1)
        self.run, self.out = tiny_run(), Path(tempfile.mkdtemp())
        self.images = self.run.split('val').subset(range(IMAGES), 'val')
        self.train = self.run.split('train').subset(range(32), 'train')
        self.plain = replace(self.run.config.classifier, batch_size=BATCH, precision='no')
        cut = MaskConfig(next(row['threshold'] for row in self.run.results() if row['method'] == 'wood'))
        for name, how in (('K', cut), ('A', replace(cut, crf='ssdd', crf_scale=500/96))):
            for split in (self.train, self.images):
                write_masks(split, self.run.path/'maps/wood'/split.name, self.out/name/split.name, how, 'wood', title='')
        self.masks = with_masks(self.train, self.out/'K/train')

    def net(self): return self.run.net('classifier')

    def image(self, name: str, work: Callable[[Path], object]) -> float:
        return spent(lambda: work(self.out/name))/IMAGES

    def classifiers(self) -> dict[str, tuple[float | None, float | None]]:
        "CAM, SEAM and FickleNet."
        def steps(net, loss):
            return a_step(lambda n: train(net, self.train, replace(self.plain, steps=n), loss, title=None))
        (seam, own), (fickle, _) = seam_training(self.net(), SeamConfig()), fickle_training(self.net(), FickleConfig())
        return {'CAM': (steps(self.net(), classification_loss), self.image('cam', lambda out: localise(self.net(), self.images, out, title=''))),
                'SEAM': (steps(seam, own), self.image('seam', lambda out: localise_seam(seam, self.images, out, title=''))),
                'FickleNet, 50 draws': (steps(fickle, classification_loss),
                                        self.image('fickle', lambda out: fickle_split(fickle, self.images, out, title='')))}

    def refinements(self) -> dict[str, tuple[float | None, float | None]]:
        "IRN and SSDD's static stage."
        made = IRNConfig.small(96, crf_scale=500/96)
        irn = IRNet(self.net(), made.train.augment.crop)
        maps = self.run.path/'maps/wood'
        learning = lambda n: replace(made, crf=None, train=replace(made.train, steps=n, batch_size=BATCH))  # noqa: E731
        before = a_step(lambda n: train_irn(irn, self.train, maps/'train', self.out/f'irn{n}', learning(n), title=None))
        walk = self.image('irn', lambda out: irn_maps(irn, self.images, maps/'val', out, made, title=''))
        config = SSDDConfig.small(96)
        ssdd, pairs = SSDDNet(self.net(), config), mask_pairs(self.train, self.out/'K/train', self.out/'A/train', self.out/'pairs')
        own = a_step(lambda n: train_ssdd(ssdd, pairs, replace(config, train=replace(config.train, steps=n, batch_size=BATCH)), title=None))
        masks = self.image('ssdd', lambda out: ssdd_masks(ssdd, self.images, self.out/'K/val', self.out/'A/val', out/'work', out/'masks', config))
        return {'IRN': (before, walk), 'SSDD, static': (own, masks)}

    def segmentations(self) -> dict[str, tuple[float | None, float | None]]:
        "DeepLab, CIAN's block, SSDD's end-to-end stage."
        def both(name, made):
            net = build_recipe(made, self.masks.classes)
            own = a_step(lambda n: train_segnet(net, self.masks, replace(made.train, steps=n), title=None, absent='allow'))
            return own, self.image(name, lambda out: segment_split(net, self.images, out, title=''))
        base = recipe('scenes', batch_size=BATCH, augment=PairAugment((1.0,), 96), precision='no')
        kinds = {'DeepLab': base, 'CIAN': with_cross(base), 'SSDD, end to end': with_dynamic(base)}
        return {name: both(name, made) for name, made in kinds.items()}

    def boxes(self) -> dict[str, tuple[float | None, float | None]]:
        "AdvCAM and BBAM (masks of all boxes of an image)."
        climb = AdvCAMConfig(scales=(1.0,))
        slow = self.image('advcam', lambda out: climb_split(self.net(), self.images, out, climb))
        detector = detector_on(self.net())
        how = DetectorConfig(batch_size=BATCH, augment=BoxAugment((72, 96)))
        own = a_step(lambda n: train_detector(detector, self.train, replace(how, steps=n), title=None))
        train_detector(detector, self.train, replace(how, steps=40, batch_size=8, lr=0.05, lr_head=0.05, freeze_stages=3), title=None)
        heads = box_heads(detector.requires_grad_(False))
        quick, pixels = (self.image(name, lambda out, config=config: bbam_split(heads, self.images, out, config, title=''))
                         for name, config in (('bbam', BBAMConfig()), ('pixels', BBAMConfig.pixels())))
        return {'AdvCAM, one scale': (None, slow), 'BBAM': (own, quick), 'BBAM, over pixels': (None, pixels)}


def main(parts: list[str]) -> None:
    "Print the table, row by row; `parts`: methods of `Costs`, all by default."
    warnings.simplefilter('ignore')
    costs = Costs()
    print('| | a step of 16 images, ms | an image, ms |\n|---|---:|---:|', flush=True)
    for part in parts or ['classifiers', 'refinements', 'segmentations', 'boxes']:
        for name, (step, each) in getattr(costs, part)().items():
            print(f'| {name} | {"–" if step is None else f"{step:.0f}"} | {each:.0f} |', flush=True)


if __name__ == '__main__': main(sys.argv[1:])
