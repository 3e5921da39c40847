"""Help comes at once: no command loads torch, or anything else that takes seconds, before it is asked to work."""
import subprocess
import sys

import pytest

HEAVY = ['torch', 'torchvision', 'sklearn', 'matplotlib', 'scipy', 'numpy', 'PIL']

HELP = """
import sys, time
start = time.process_time()
from wood_nb.cli.parser import build_parser
parser = build_parser()
text = parser.format_help()
commands = next(action.choices for action in parser._actions if hasattr(action.choices, 'values'))
for command in commands.values(): text += command.format_help()
spent = time.process_time() - start
loaded = set({heavy}) & set(sys.modules)
assert not loaded, loaded
print(len(commands), spent)
"""

RUN = """
import sys
from wood_nb.runs import Run
loaded = {'torchvision', 'torch._dynamo', 'sympy', 'scipy.stats', 'accelerate', 'sklearn', 'matplotlib'} & set(sys.modules)
assert not loaded, loaded
"""

WORKBENCH = """
import sys
import numpy as np
from wood_nb.ood.atlas import project
from wood_nb.widgets.bench.workbench import Workbench
project(np.eye(9))
loaded = {'torchvision', 'sklearn', 'pandas'} & set(sys.modules)
assert not loaded, loaded
"""


def python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_of_every_command_loads_nothing_heavy_and_is_quick():
    count, spent = python('-c', HELP.format(heavy=HEAVY)).split()
    assert int(count) > 20 and float(spent) < 0.5


@pytest.mark.parametrize('words', [['--version'], ['--help'], ['run', '--help']])
def test_the_command_itself(words): assert 'wood' in python('-m', 'wood_nb.cli', *words)


def test_a_run_is_looked_at_without_what_trains_it(): python('-c', RUN)


def test_a_workbench_holds_nothing_in_memory_that_only_others_need(): python('-c', WORKBENCH)
