"""The last layer on real photographs: seeds of head-none, head-zero and head-dense, from ImageNet's MobileNetV2 as it is, or trained.

`python tests/measure_head.py SHARED CACHE [SET ...] [--side 256 448] [--backbone NAME] [--trained RUNS] [--spread 1] [--knee] [--contexts]` prints a row for each set, size and kind, and for `none` and `dense` with
4,000 places of training images beside (zero labels of the classes that these lack: no OoD picture is needed for that). SHARED is the
folder of data sets (docs/results.md says which), CACHE keeps features (minutes to make, then seconds); RUNS/SET is a run whose classifier is taken instead of
ImageNet's network: rows then stay near its own, which are the first line. `--backbone efficientnet_lite2` is that of the extra
`weights`; `--spread 1` spreads maps along what looks alike, as runs do. Thresholds come from masks of train
(every fourth image of the animals; of the vehicles, whose train has no masks, from the even-numbered images of val: the odd ones are
scored). Maps are those of the mean of the features and the mirrored ones, one scale. `--contexts` prints on what the maps of val lie
instead, where the set has context masks (MSRC); `dense` is the mean of three draws of the places."""
import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch

from wood_nb.data.sources import load_pool, load_voc
from wood_nb.data.splits import Split
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.ood.cache import cache_features
from wood_nb.ood.config import HEAD_KINDS
from wood_nb.ood.head import check_leaks, drawn_maps, head_features, labels_of, map_scores, rows_of, solve_head
from wood_nb.scores.context import context_shares, find_contexts

CLASSES = {'msrc-contexts': 'aeroplane,bicycle,bird,boat,car,cat,cow,dog,sheep', 'voc-animals': 'cat,cow,dog,horse,person,sheep',
           'voc07-vehicles': 'bus,car,cat,train,person'}
OOD = {'msrc-contexts': 'ood-contexts', 'voc-animals': 'ood-candidates', 'voc07-vehicles': 'ood-contexts'}
PLACES = (250, 500, 1000, 2000, 4000, 8000, 16000)


def clean_pool(folder: Path) -> Split:
    "The candidates in which a careful viewer has seen none of the twenty classes, surely."
    pool = load_pool(folder/'images')
    with open(folder/'screened.csv') as file: seen = {Path(row['image']).stem: row['contains'].strip() for row in csv.DictReader(file)}
    return pool.subset([n for n, id in enumerate(pool.ids) if seen.get(Path(id).stem) == ''])


def splits_of(shared: Path, name: str) -> tuple[Split, Split, Split]:
    "Training images, those whose masks choose the threshold, those that are scored."
    train, val = (load_voc(shared/name, part, tuple(CLASSES[name].split(','))) for part in ('train', 'val'))
    if name == 'voc07-vehicles': return train, val.subset(range(0, len(val), 2)), val.subset(range(1, len(val), 2))
    return train, train.subset(range(0, len(train), 4)) if name == 'voc-animals' else train, val


class Bench:
    "A data set at one size: features of its images and OoD pictures, and rows of a classifier tried on them."

    def __init__(self, shared: Path, cache: Path, name: str, side: int, every: int = 1, trained: Path | None = None,
                 backbone: str = 'mobilenet_v2', spread: float = 0.0):
        self.spread = spread
        if trained is None:
            weights = shared/'weights'/'mobilenet_v2_imagenet.safetensors' if backbone == 'mobilenet_v2' else 'package'
            net, self.rows, cache = build_net(backbone, ['any'], weights=weights).eval(), None, cache/backbone
        else:
            net, cache = open_net(trained/name/'classifier'/'weights.safetensors'), cache/f'trained-{name}'
            self.rows = rows_of(net)
        self.train, self.masked, self.val = splits_of(shared, name)
        self.train = self.train.subset(range(0, len(self.train), every))
        def kept(split, part, places): return cache_features(net, split, cache/f'{part}-{side}', side, places, title=None)  # noqa: E704
        same = name == 'msrc-contexts'
        self.inside = kept(self.train, f'{name}-train', None if same else 8)
        self.on_val = kept(self.val, f'{name}-val', None)
        part = {'voc-animals': 'quarter', 'voc07-vehicles': 'val'}.get(name, 'train')
        self.on_masked = kept(self.masked, f'{name}-{part}', None)
        self.outside = kept(clean_pool(shared/OOD[name]), f'{OOD[name]}', 64)
        check_leaks(self.inside, self.outside)
        self.Y, self.Z = labels_of(self.train, self.inside.ids), self.inside.pooled()

    def solved(self, kind: str, places: int = 4000, seed: int = 0, absent: int = 0):
        "The head, and the seconds (of the clock, of the processor) of the solve."
        ood = head_features(self.outside, kind, places, seed=seed)
        at, owner = self.inside.places(absent, seed=seed)
        beside = (at, self.Y[torch.from_numpy(owner)]) if absent else None
        start = time.process_time()
        head = solve_head(self.Z, self.Y, ood, kind, anchor=self.rows, absent=beside)
        return head, head.seconds, time.process_time() - start

    def tried(self, weight: torch.Tensor, val: bool = True) -> dict:
        "Threshold of the masked images, and scores of val at it, unless it is not to be looked at."
        chosen, shares = map_scores(self.on_masked, self.masked, weight, self.spread)
        share = 100*np.mean(list(shares.values()))
        threshold, best = chosen.best()
        if not val: return {'train': 100*best.miou, 'train share': share}
        sweep, shares = map_scores(self.on_val, self.val, weight, self.spread)
        found = sweep.scores_at(threshold)
        return {'threshold': threshold, 'train': 100*best.miou, 'train share': share, 'val': 100*found.miou, 'val share': 100*np.mean(list(shares.values())),
                'iou': [round(100*float(o), 1) for o in found.iou], 'shares': {k: round(100*v, 1) for k, v in shares.items()}}


class Drawn:
    "The maps of a picture, from its features and rows of a classifier, at full size."

    def __init__(self, bench: Bench, index: int, weight: torch.Tensor):
        item = bench.val[index]
        self.keys, self.size = np.array(sorted(item.labels)), bench.val.mask(index).shape
        self.cache, self.id, self.weight = bench.on_val, item.id, weight[self.keys]

    def at_full_size(self) -> np.ndarray:
        maps = drawn_maps([self.cache], self.id, self.weight)
        return torch.nn.functional.interpolate(maps[None], self.size, mode='bilinear', align_corners=False)[0].numpy()


def on_contexts(bench: Bench, places: int = 4000) -> None:
    "Print the share of the maps of val on each context that matters, by kind and class."
    contexts = find_contexts(bench.val)
    if contexts is None: return print('  no context masks')
    weights = {f'{kind} {seed}': bench.solved(kind, places, seed)[0].weight for kind in HEAD_KINDS[::-1] for seed in range(3 if kind == 'dense' else 1)}
    maps = {name: {item.id: Drawn(bench, n, weight) for n, item in enumerate(bench.val.items)} for name, weight in weights.items()}
    found = context_shares(bench.val, maps, contexts)
    first = found['none 0']
    print(f'  empty maps: {({name: sum(each.empty.values()) for name, each in found.items()})}, images without a context mask: {first.without}')
    for name in first.classes:
        shares = {kind: np.array([each.mean(name) for key, each in found.items() if key.startswith(kind)]) for kind in HEAD_KINDS[::-1]}
        for n, place in enumerate(first.places):
            if max(each[:, n].mean() for each in shares.values()) < 0.03: continue
            numbers = '; '.join(f'{kind} {100*each[:, n].mean():.1f}' + (f' ± {100*each[:, n].std(ddof=1):.1f}' if len(each) > 1 else '')
                                for kind, each in shares.items())
            print(f'  {name} ({len(first.images[name])}) on {place}: {numbers}', flush=True)


def told(rows: list[dict], name: str) -> str:
    "Mean, and spread where there are several."
    values = [row[name] for row in rows]
    digits = 2 if name == 'threshold' else 1
    return f'{np.mean(values):.{digits}f}' + (f' ± {np.std(values, ddof=1):.{digits}f}' if len(values) > 1 else '')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('shared', type=Path)
    parser.add_argument('cache', type=Path)
    parser.add_argument('sets', nargs='*', default=list(CLASSES))
    parser.add_argument('--side', type=int, nargs='*', default=(256, 448))
    parser.add_argument('--trained', type=Path, metavar='RUNS', help='folder of runs, one of the name of each set, whose classifiers are taken')
    parser.add_argument('--backbone', default='mobilenet_v2', help="default mobilenet_v2; or one whose weights come as a package")
    parser.add_argument('--spread', type=float, default=0.0, help='power by which maps are spread (default 0: they are not)')
    parser.add_argument('--knee', action='store_true', help='the number of places instead; judged on masks of train only')
    parser.add_argument('--contexts', action='store_true', help='on what the maps lie, instead')
    parser.add_argument('--every', type=int, default=1, help='learn from every Nth training image only')
    args = parser.parse_args()
    for name, side in ((name, side) for name in args.sets for side in args.side):
        bench = Bench(args.shared, args.cache, name, side, args.every, args.trained, args.backbone, args.spread)
        print(f'{name} at {side}: {len(bench.train)} to learn, {len(bench.outside)} OoD, {len(bench.masked)} for the threshold, '
              f'{len(bench.val)} scored; {", ".join(bench.val.classes)}', flush=True)
        if args.contexts:
            on_contexts(bench)
            continue
        if bench.rows is not None:
            row = bench.tried(bench.rows)
            print('  as trained', '; '.join(f'{key} {told([row], key)}' for key in ('threshold', 'train', 'val', 'val share')), f'; IoU {row["iou"]}', flush=True)
        jobs = [('dense', n, 0) for n in PLACES] if args.knee else [
            *((kind, 4000, 0) for kind in HEAD_KINDS[::-1]), ('none', 4000, 4000), ('dense', 4000, 4000)]
        for kind, places, absent in jobs:
            heads = [bench.solved(kind, places, seed, absent) for seed in range(3 if kind == 'dense' or absent else 1)]
            rows = [bench.tried(head.weight, not args.knee) for head, _, _ in heads]
            keys = ('train', 'train share') if args.knee else ('threshold', 'train', 'val', 'val share')
            spent = f'{np.mean([o[1] for o in heads]):.2f} s, processor {np.mean([o[2] for o in heads]):.2f} s, {heads[0][0].passes} passes'
            print(f'  {kind:<6}{places if kind == "dense" else "":>6}{" + absent classes" * bool(absent)} ', '; '.join(f'{key} {told(rows, key)}' for key in keys), f'; {spent}',
                  '' if args.knee else f'; IoU {rows[0]["iou"]}; shares {rows[0]["shares"]}', flush=True)


if __name__ == '__main__': main()
