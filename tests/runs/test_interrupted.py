"""Ended in the middle of every stage by kill -9, then by SIGTERM or Ctrl-C, and resumed: the same files as of a run that went through."""
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

CLOCKS = ('images_per_s', 'eta', 'seconds', 'created', 'updated', 'started', 'finished', 'at', 'root', 'weights', 'run', 'name')


def timeless(content):
    "JSON without clocks and names of runs."
    if isinstance(content, dict): return {k: timeless(v) for k, v in content.items() if k not in CLOCKS}
    return [timeless(o) for o in content] if isinstance(content, list) else content


def content(file: Path):
    "What a file holds, to be compared; None for what need not be equal."
    if file.suffix == '.safetensors': return {k: v.tobytes() for k, v in load_file(file).items()}
    if file.suffix == '.npz': return {k: v.tobytes() for k, v in np.load(file).items()}
    if file.suffix == '.jsonl': return [timeless(json.loads(line)) for line in file.read_text().splitlines()]
    if file.suffix == '.json': return None if file.name in ('run.json', 'irn.json', 'segmentation.json') else timeless(json.loads(file.read_text()))
    return file.read_bytes() if file.suffix in ('.png', '.csv') else None


def files(folder: Path) -> set[str]:
    "Files of a run, without locks and without the cache of contents, which knows only files that are two seconds old."
    kept = (file for file in folder.rglob('*') if file.is_file() and '.lock' not in file.name and file.name != 'contents.json')
    return {str(file.relative_to(folder)) for file in kept}


@pytest.mark.slow
def test_a_run_ended_everywhere_and_resumed_is_the_same(tmp_path, root, warm):
    code = Path(__file__).with_name('interrupted.py')
    done = subprocess.run([*warm.python, code, tmp_path], env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, run = tmp_path/'whole', tmp_path/'run'
    names, later = files(whole), files(run)
    odd = {name for name in names ^ later if not (name.endswith('.tmp') or '.drawing/' in name)}  # of a process that was killed
    assert len(names) > 300 and not odd, sorted(odd)[:9]
    differ = [name for name in sorted(names) if content(whole/name) != content(run/name)]
    assert not differ, differ
