"""What each of two processes does in test_head.py: the last layer from places that stay on the disk. `python on_disk.py FOLDER OUT`; with
LAUNCH=1 it starts both itself, as `accelerate.notebook_launcher` does on GPUs."""
import os
import sys
from pathlib import Path

import torch

from wood_nb.base.ranks import state
from wood_nb.data.splits import Item, Split
from wood_nb.nets.backbones import build_net
from wood_nb.ood.cache import FeatureCache, _read_blocks
from wood_nb.ood.config import HeadConfig
from wood_nb.ood.head import fit_head

torch.set_num_threads(1)


def cache(folder: Path) -> FeatureCache:
    "What is kept in a folder."
    blocks = tuple(_read_blocks(folder))
    return FeatureCache(folder, tuple(id for block in blocks for id in block.ids), blocks)


def solved(folder: Path, places: int | None = None):
    "The last layer from `folder/inside` and `folder/outside`, all places of which are read from the disk."
    torch.manual_seed(0)
    net, inside = build_net('tiny', ('a', 'b')).eval(), cache(folder/'inside')
    split = Split('train', [Item(id, id, (int(id[1:]) % 2,)) for id in inside.ids], ('a', 'b'))
    return fit_head(net, inside, split, cache(folder/'outside'), HeadConfig(places=places, l2=0.01))


def work(folder: str, out: str) -> None:
    found = solved(Path(folder))
    torch.save({'weight': found.weight, 'passes': found.passes}, f'{out}{state().process_index}.pt')


if __name__ == '__main__':
    if os.environ.get('LAUNCH'):
        from accelerate import debug_launcher
        debug_launcher(work, sys.argv[1:], num_processes=2)
    else: work(*sys.argv[1:])
