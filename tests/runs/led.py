"""What each of two processes does in test_led.py: the commands of a toy run, then two that fail.

`torchrun ... led.py FOLDER`; exit codes and what was said go to FOLDER/said<RANK>."""
import contextlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from wood_nb.cli.parser import main
from wood_nb.masks import learn
from wood_nb.runs import pipeline

torch.set_num_threads(1)

SCENES = '{"train":16,"val":5,"ood":6,"pool":20,"size":48}'
RUN = ['run', '--data', 'scenes:', '--preset', 'tiny', '--set', f'scenes={SCENES}', '--set', 'classifier.augment.crop=32', '--set',
       'classifier.freeze_norm=true', '--set', 'wood.train.augment.crop=32', '--set', 'classifier.steps=6', '--set', 'wood.train.steps=6', '--batch-size', '4', '--ood-batch', '4',
       '--clusters', '2', '--mine-threshold', '0', '--precision', 'no', '--prune', 'none', '--maps-batch', '2', '--choose-by', 'train', '--out']


def commands(run: Path) -> list[list[str]]:
    "A run from beginning to end."
    return [[*RUN, str(run)], ['refine', str(run), '--size', '48', '--methods', 'wood', '--workers', '1'],
            ['segment', str(run), '--methods', 'wood+irn']]


def small_recipe() -> learn.Recipe:
    "The recipe for scenes with few steps and frozen batch norms: half a batch has other statistics than the whole."
    made = learn.recipe('scenes')
    return replace(made, train=replace(made.train, steps=4, batch_size=4, freeze_norm=True, lr=0.01, precision='no', augment=learn.PairAugment((1.0,), 32)))


def said(words: list[str]) -> dict:
    "Exit code and words of a command."
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    return {'code': code, 'out': out.getvalue(), 'err': err.getvalue()}


def breaking(run) -> dict:
    "A stage that fails in the second process, while the first one waits for it."
    if os.environ['RANK'] == '1': raise MemoryError
    torch.distributed.barrier()
    return {}


if __name__ == '__main__':
    folder, learn.RECIPES['scenes'] = Path(sys.argv[1]), small_recipe()
    found = [said(words) for words in commands(folder/'two'/'run')]
    found.append(said([*RUN, str(folder/'odd'), '--batch-size', '3']))
    found.append(said(['maps', str(folder/'nothing')]))
    pipeline.STAGES['classifier'] = replace(pipeline.STAGES['classifier'], work=breaking)
    found.append(said(['classifier', str(folder/'odd')]))
    (folder/f'said{os.environ["RANK"]}').write_text(json.dumps(found))
    os._exit(0)  # the connection is torn
