"""What two processes do in test_training.py, and one process to compare: every training, maps, predictions and masks into one folder."""
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from test_training import CONFIG, fresh, pictures

from wood_nb.base import ranks
from wood_nb.base.files import write_json
from wood_nb.data.augment import Augment
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Split
from wood_nb.maps.cam import localise
from wood_nb.masks.irn import irn_maps, IRNet, train_irn
from wood_nb.masks.labels import IRNConfig, IRNTrain
from wood_nb.masks.learn import PairAugment, SegTrainConfig, train_segnet
from wood_nb.masks.psa import AffinityNet, psa_maps, PSAAugment, PSAConfig, PSATrain, train_psa
from wood_nb.masks.segment import segment_split
from wood_nb.nets.deeplab import build_segnet
from wood_nb.ood.wood import BestWeights, train_wood, WOoDConfig
from wood_nb.train.predict import predict_all

OFFICIAL = WOoDConfig.official(train=replace(CONFIG, steps=6), ood_batch=4, clusters=3)
IRN = IRNConfig(train=IRNTrain(steps=4, batch_size=4, lr=0.05, lr_head=0.1, momentum=0.9, precision='no', augment=Augment((36, 44), 32)),
                crf=None, radius=3, steps=4, foreground=0.5, background=0.3)
PSA = PSAConfig(train=PSATrain(steps=4, batch_size=4, lr=0.01, lr_head=0.1, momentum=0.9, clip=1.0, precision='no', freeze_norm=True,
                               augment=PSAAugment(32, (36, 44))), crf=None, radius=2, steps=4, border=True)
SEG = SegTrainConfig(steps=4, batch_size=4, lr=0.02, lr_head=0.1, update_every=1, augment=PairAugment((1.0, 1.25), 32), precision='no')


def with_squares(folder: Path) -> Split:
    "Ten pictures with masks of their squares, of different sizes on purpose: the processes do not see equally many pixels of a kind."
    split = pictures(folder, 'inside', 10)
    items = []
    for n, item in enumerate(split.items):
        mask = np.where((split.image(n).size[0] > 0) & (np.asarray(split.image(n))[..., n % 2] == 255), n % 2 + 1, 0).astype(np.uint8)
        mask[:2 * n] = 255
        mask[16:18, 16:18] = n % 2 + 1
        write_mask(folder/f'masks/{item.id}.png', mask)
        items.append(replace(item, mask=folder/f'masks/{item.id}.png'))
    return replace(split, items=items, raw_classes=2)


def everything(split: Split, ood: Split, out: Path) -> None:
    "Train and use each kind of network; scores go to `scores.json`."
    net = fresh()
    train_wood(net, split, ood, OFFICIAL, out/'official', title=None, on_step=(best := BestWeights(split, 2, out/'official')))
    best.settle(6, net)
    found = predict_all(net, split, title=None)
    localise(net, split, out/'maps', scales=(1.0,), title='')
    irn = IRNet(net, 32)
    train_irn(irn, split, out/'maps', out/'irn', IRN, title=None)
    irn_maps(irn, split, out/'maps', out/'walked', IRN, batch_size=2, title='')
    torch.manual_seed(0)
    affine = AffinityNet(net)
    train_psa(affine, split, out/'maps', out/'psa', PSA, title=None)
    psa_maps(affine, split, out/'maps', out/'affine', PSA, batch_size=2, title='')
    torch.manual_seed(0)
    segnet = build_segnet('deeplab_tiny', split.classes)
    training = train_segnet(segnet, split, SEG, out/'seg', split, 2, title=None)
    segment_split(segnet, split, out/'segmented', keep=True, title='')
    if ranks.is_first():
        write_json(out/'scores.json', {'format': 'test', 'version': 1, 'p': found.p.tolist(), 'index': found.index.tolist(),
                                       'validation': training.validation, 'displacement': irn.mean_displacement.tolist()})


def noting_writes(note: Path) -> None:
    "From now on each file that this process writes whole is noted."
    replaced = os.replace

    def noted(old, new):
        with open(note, 'a') as file: file.write(f'{new}\n')
        return replaced(old, new)
    os.replace = noted


if __name__ == '__main__':
    torch.set_num_threads(1)
    out, folder = map(Path, sys.argv[1:])
    noting_writes(out/f'wrote{os.environ["RANK"]}')
    import test_training as tests
    tests.in_one_of_two(out, folder)
    everything(tests.read_again(folder, 'inside', 10, masks=True), tests.read_again(folder, 'ood', 7), out/'all')
    import torch.distributed
    torch.distributed.destroy_process_group()
