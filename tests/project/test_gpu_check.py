"""`make gpu-check`, dry: the whole of it on a CPU in toy size, for two of its trainings; what it compares is far from vacuous."""
import json
import os
import subprocess
import sys

import pytest
from nbtools import ROOT

SCRIPT = ROOT/'tests/gpu_check.py'


@pytest.mark.slow
def test_dry_run(tmp_path, root, warm):
    done = subprocess.run([*warm.python, SCRIPT, '--dry-run', '--only', 'classifier', 'deeplab', '--out', tmp_path/'out.json'], env={**os.environ, 'PYTHONPATH': str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = json.loads((tmp_path/'out.json').read_text())
    assert found['device'].startswith('CPU') and found['versions']['torch'] and [row['what'] for row in found['rows']].count('asked') == 2 * 9 and len(found['rows']) == 2 * 9 + 2 * 2 * 2
    assert all(row['fine'] and row['images_per_s'] > 0 for row in found['rows'])
    assert all(row['differs'] <= row['bound'] for row in found['rows'] if row['what'] == 'parity') and 'out.json' in done.stdout


def test_a_difference_is_one():
    sys.path.insert(0, str(SCRIPT.parent))
    from gpu_check import difference
    assert difference('wood', [{'loss': 1.1}, {'loss': 2}], [{'loss': 1}, {'loss': 2}]) == pytest.approx(0.1)
    assert difference('advcam', [{'maps': [0, 1]}, {'maps': []}], [{'maps': [0.5, 1]}, {'maps': []}]) == 0.25
