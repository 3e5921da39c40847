"""The command line in two processes, as torchrun starts them: the first leads, the second helps, and the run is that of one process."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from led import commands, said, small_recipe
from PIL import Image
from safetensors.torch import load_file

from wood_nb.base import ranks
from wood_nb.masks import learn

pytestmark = pytest.mark.usefixtures('one_thread')
HERE = Path(__file__).parent


def files(run: Path) -> set[str]:
    return {str(o.relative_to(run)) for o in run.rglob('*') if o.is_file() and o.name[0] != '.' and o.name != 'contents.json'}


def log(path: Path) -> list[dict]:
    "What does not depend on the clock."
    return [{k: v for k, v in json.loads(line).items() if k.startswith(('step', 'loss', 'lr', 'miou'))} for line in path.read_text().splitlines()]


def close(one: Path, two: Path) -> None:
    "The contents of a file are the same, but for rounding."
    if one.suffix == '.safetensors':
        a, b = load_file(one), load_file(two)
        assert all(np.allclose(a[name], b[name], atol=1e-4) for name in a | b), one
    elif one.suffix == '.npz' and 'maps' in one.parts:
        with np.load(one) as a, np.load(two) as b: assert np.allclose(a['cam_stride4'], b['cam_stride4'], atol=5e-3), one
    elif one.suffix == '.jsonl':
        assert all(x == pytest.approx(y, abs=2e-3) for x, y in zip(log(one), log(two), strict=True)), one
    elif one.suffix == '.png' and ('masks' in one.parts or 'labels' in one.parts):
        assert (np.asarray(Image.open(one)) != np.asarray(Image.open(two))).mean() < 0.02, one


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one(tmp_path, root, monkeypatch, warm):
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [root, *sys.path])), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([*warm.python, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '--no-python', *warm.python,
                           HERE/'led.py', tmp_path], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path/f'said{rank}').read_text()) for rank in (0, 1))
    one, two = tmp_path/'one'/'run', tmp_path/'two'/'run'
    monkeypatch.setitem(learn.RECIPES, 'scenes', small_recipe())
    for words, led, helped in zip(commands(one), first, second):
        alone = said(words)
        assert alone['code'] == led['code'] == helped['code'] == 0, (alone, led, helped)
        assert not helped['out'] and not helped['err'], 'only the first speaks'
        assert [line for line in led['out'].splitlines() if 'mIoU' in line] == [line for line in alone['out'].splitlines() if 'mIoU' in line]
    assert files(one) == files(two)
    for name in files(one): close(one/name, two/name)
    assert not list(two.glob('.lock*')), 'the lock is gone with its owner'

    assert [said_['code'] for said_ in (first[3], second[3])] == [2, 2], 'both fail in the same way'
    both = first[3]['err'] + second[3]['err']
    assert both.count('wood: ') == 1 and 'wood: batch_size=3 does not divide into 2 process(es)' in both, both
    assert 'not a run folder' in first[4]['err'] and first[4]['code'] == 2 and not second[4]['err'], 'what the first one finds out'
    assert first[5]['code'] and not first[5]['err'] and second[5]['code'] == 2, 'of two, the one that failed first speaks'
    assert second[5]['err'].startswith('wood: out of memory in classifier; ') and second[5]['err'].count('\n') == 1


def test_in_one_process_work_together_is_just_called():
    done = []
    assert ranks.lead(lambda: done.append(ranks.together(max, 1, 2, key=lambda v: -v))) is None and done == [1]
    assert not ranks.helps() and ranks.is_first_to_fail() and not ranks.lost_another(RuntimeError('gloo'))


def test_a_process_of_a_pool_is_none_of_several(monkeypatch):
    for name, value in (('WORLD_SIZE', '2'), ('RANK', '1'), ('LOCAL_RANK', '1'), ('LOCAL_WORLD_SIZE', '2')): monkeypatch.setenv(name, value)
    assert ranks.several() and ranks.helps() and not ranks.is_first_to_fail() and ranks.lost_another(RuntimeError('[gloo/pair.cc] Connection closed'))
    assert not ranks.lost_another(ValueError('gloo')) and not ranks.lost_another(RuntimeError('out of memory'))
    ranks.leave()
    assert not ranks.several() and not ranks.helps()
