"""Two runs: FOLDER/whole goes through, FOLDER/run is ended in the middle of each stage by kill -9, by SIGTERM or by Ctrl-C, and goes on (where
something is trained, by kill -9 and then by one of the others).

`python interrupted.py FOLDER`: all in one process and its forks, so that what takes long to load is loaded once."""
import itertools
import os
import shlex
import signal
import sys
from pathlib import Path

import accelerate  # noqa: F401  loaded here, for all forks
import sklearn.cluster  # noqa: F401
import torch

import wood_nb.maps.cam
import wood_nb.masks.pseudo
import wood_nb.runs.final
import wood_nb.runs.pipeline
import wood_nb.runs.refine
import wood_nb.train.loop
import wood_nb.train.predict
from wood_nb.cli.parser import main

torch.set_num_threads(1)

SCENES = '{"train":16,"val":4,"ood":6,"pool":20,"size":48}'
RUN = ['run', '--data', 'scenes:', '--preset', 'tiny', '--set', f'scenes={SCENES}', '--set', 'classifier.augment.crop=32', '--set',
       'wood.train.augment.crop=32', '--set', 'classifier.steps=6', '--set', 'wood.train.steps=6', '--set', 'classifier.checkpoint_every=1', '--batch-size', '4', '--ood-batch', '4', '--clusters',
       '2', '--mine-threshold', '0', '--precision', 'no', '--ablation', 'distance', '--also', 'seam-ood', '--prune', 'none', '--maps-batch', '2', '--out']
STEP = (wood_nb.train.loop, '_backward', 2)
GENTLE = (signal.SIGTERM, signal.SIGINT)     # in turn: both take the same way
RUN_PLACES = {'data': (wood_nb.runs.pipeline, 'draw_scenes', 1), 'classifier': STEP, 'mining': (wood_nb.train.predict, '_as_batch', 1),
              'clusters': (wood_nb.runs.pipeline, 'project', 1), 'continued': STEP, 'wood': STEP, 'ablation': STEP, 'also': STEP,
              'maps': (wood_nb.maps.cam, 'save_maps', 9), 'seeds': (wood_nb.runs.pipeline, 'write_counts', 2),
              'report': (wood_nb.runs.pipeline, 'write_report', 1)}
TRAINS = ('classifier', 'continued', 'wood', 'ablation', 'also', 'refine', 'segment')


def place(stage: str, where: tuple, number: int) -> None:
    "In this process, let the signal come at the n-th call of a function in that stage (None: in any)."
    module, name, nth = where
    calls, work, run_stage, now = [], getattr(module, name), wood_nb.runs.pipeline.run_stage, [None]

    def staged(run, name, *more):
        now[0] = name
        return run_stage(run, name, *more)

    def counted(*args, **options):
        calls.append(now[0]) if now[0] == stage or stage not in RUN_PLACES else None
        if len(calls) == nth: os.kill(os.getpid(), number)
        return work(*args, **options)
    wood_nb.runs.pipeline.run_stage = staged
    setattr(module, name, counted)


def in_fork(words: list[str], log: Path, *disturb) -> tuple[int, str]:
    "Exit code (or minus the signal) of a `wood` command in a process of its own, and what it said."
    if not (pid := os.fork()):
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if disturb: place(*disturb)
        code = main(words)
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), log.read_text()


def disturb(words: list[str], stage: str, where: tuple, number: int, run: Path, log: Path) -> None:
    "One command, ended in this stage; its last line is as it should be."
    code, said = in_fork(words, log, stage, where, number)
    assert code == (-number if number == signal.SIGKILL else 128 + number), (stage, code, said)
    if number == signal.SIGKILL: return
    last = [line for line in said.splitlines() if line.startswith('wood: ')][-1]
    assert last.startswith('wood: stopped by') and last.endswith(f': wood {shlex.join(words)}'), (stage, last)
    assert (stage in TRAINS) == ('checkpoint.safetensors' in last) == ('after step' in last), (stage, last)
    assert stage not in TRAINS or list(run.rglob('checkpoint.safetensors')), stage


def through(run: Path, log: Path, disturbed: bool = False) -> None:
    "All commands, each stage of them ended on the way, if asked for; what is wrong ends this with a message."
    gentle, either = itertools.cycle(GENTLE), itertools.cycle((signal.SIGKILL, *GENTLE))
    commands = [([*RUN, str(run)], RUN_PLACES),
                (['refine', str(run), '--size', '48', '--methods', 'wood', '--crf', 'none'], {'refine': (*STEP[:2], 1)}),
                (['segment', str(run), '--steps', '6', '--methods', 'wood'], {'segment': STEP})]
    for words, places in commands:
        for stage, where in places.items() if disturbed else ():
            numbers = (signal.SIGKILL, next(gentle)) if stage in TRAINS else (next(either),)
            for number in numbers: disturb(words, stage, where, number, run, log)
        code, said = in_fork(words, log)
        assert code == 0, (words, said)


if __name__ == '__main__':
    folder = Path(sys.argv[1])
    through(folder/'whole', folder/'log.txt')
    through(folder/'run', folder/'log.txt', disturbed=True)
