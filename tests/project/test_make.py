"""What `make` says when it cannot install: one clear line each. Nothing is installed here."""
import os
import shutil
import subprocess
import sys

import pytest
from nbtools import ROOT

TOOLS = 'sh make cat grep awk df date sed tail cut rm mkdir sleep ls test id dirname echo'.split()
pytestmark = pytest.mark.skipif(sys.platform == 'win32' or not shutil.which('make'), reason='needs make')


@pytest.fixture
def make(tmp_path):
    "`make` in a copy of the Makefile's world, in a folder with a blank in its name, on a machine with a few basic tools."
    project, tools = tmp_path/'a folder', tmp_path/'bin'
    shutil.copytree(ROOT/'.ci', project/'.ci', ignore=shutil.ignore_patterns('__pycache__'))
    for o in ('Makefile', 'settings.ini', 'setup.py'): shutil.copy(ROOT/o, project)
    tools.mkdir()
    for o in TOOLS: (tools/o).symlink_to(shutil.which(o))

    def run(*args, python=None, **env):
        if python: (tools/'python3').write_text(f'#!/bin/sh\n{python}\n'); (tools/'python3').chmod(0o755)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS', 'PYTHON', 'VENV', 'DISK_GB'))}
        r = subprocess.run(['make', *args], cwd=project, env=inherited | dict(PATH=str(tools)) | env, capture_output=True, text=True, timeout=60)
        said = [o for o in r.stderr.splitlines() if not o.startswith('make')]
        return r.returncode, said, project
    return run


REAL = f'exec "{sys.executable}" "$@"'


def test_help_is_the_default(make):
    code, said, _ = make()
    assert code == 0 and not said


def test_no_python(make):
    code, said, project = make('demo')
    assert code and len(said) == 1 and 'no Python 3.11 or newer found' in said[0] and not (project/'.venv').exists()


def test_an_old_python(make):
    code, said, _ = make('demo', python='exit 1')
    assert code and len(said) == 1 and 'no Python 3.11' in said[0]
    code, said, _ = make('demo', 'PYTHON=python3', python='exit 1')
    assert code and len(said) == 1 and 'PYTHON=python3' in said[0]


def test_no_venv_module(make):
    code, said, _ = make('test', python=f'case "$2" in *ensurepip*) exit 1;; esac; {REAL}')
    assert code and len(said) == 1 and 'python3-venv' in said[0]


def test_no_disk(make):
    code, said, project = make('lab', python=REAL, DISK_GB='1000000')
    assert code and len(said) == 1 and 'too little disk' in said[0] and not (project/'.venv').exists()


def test_a_folder_that_is_no_environment_is_left_alone(make):
    *_, project = make()
    (project/'.venv').mkdir()
    (project/'.venv'/'precious.txt').write_text('mine')
    code, said, _ = make('venv', python=REAL, DISK_GB='0')
    assert code and len(said) == 1 and 'no virtual environment' in said[0] and (project/'.venv'/'precious.txt').exists()


@pytest.mark.slow
def test_no_network(make):
    "An index that does not answer: the log's last lines, then one line that says what to do; the next run starts over."
    dead = dict(PIP_INDEX_URL='http://127.0.0.1:9/', PIP_RETRIES='1', PIP_NO_CACHE_DIR='1', PIP_FIND_LINKS='', PIP_EXTRA_INDEX_URL='', PIP_CONFIG_FILE=os.devnull)
    code, said, project = make('venv', python=REAL, DISK_GB='0', **dead)
    assert code and 'check the network' in said[-1] and not (project/'.venv'/'.installed').exists()
    assert (project/'.venv'/'install.log').exists()
