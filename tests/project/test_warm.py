"""A process forked from a warm one is like one that Python starts: words, folder, environment, output, end."""
import os
import signal
import subprocess
import sys
import time

import pytest

SAYS = 'import os, sys; print(sys.argv, os.getcwd(), os.environ["HERE"], __name__); sys.stderr.write("and"); sys.exit(int(sys.argv[-1]))'


@pytest.mark.parametrize('first', [['-c', SAYS], ['said.py'], ['-m', 'said']])
def test_as_python_would(warm, first, tmp):
    (tmp/'said.py').write_text(SAYS)
    cold, quick = (subprocess.run([*python, *first, 'a b', '3'], env={**os.environ, 'HERE': 'here'}, capture_output=True, text=True)
                   for python in ([sys.executable], warm.python))
    assert (quick.returncode, quick.stdout, quick.stderr) == (cold.returncode, cold.stdout, cold.stderr) and quick.returncode == 3


def test_an_error_and_a_signal(warm, tmp):
    failed = subprocess.run([*warm.python, '-c', 'print(1); 1/0'], capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stdout == '1\n' and failed.stderr.endswith('ZeroDivisionError: division by zero\n')
    killed = subprocess.run([*warm.python, '-c', 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'])
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_caller_ends_the_program(warm, number, tmp):
    with subprocess.Popen([*warm.python, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'], stdout=subprocess.PIPE) as caller:
        program = int(caller.stdout.readline())
        caller.send_signal(number)
        assert caller.wait(20) == -number
    end = time.monotonic() + 20
    while os.path.exists(f'/proc/{program}/stat') and time.monotonic() < end: time.sleep(.01)
    assert not os.path.exists(f'/proc/{program}/stat')
