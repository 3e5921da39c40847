"""Work is done in order by one process or several, which share the machine; freed memory may be kept."""
import math
import os

import pytest

from wood_nb.base import device
from wood_nb.base.jobs import do_all, threads_each
from wood_nb.base.memory import keep_freed_memory


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_and_a_failure_ends_it(jobs, capsys):
    assert do_all(math.sqrt, [4.0, 9.0, 16.0], jobs) == [2.0, 3.0, 4.0]
    with pytest.raises(ValueError):
        do_all(math.sqrt, [4.0, -1.0, 16.0], jobs)
    assert "points" in capsys.readouterr().err


def test_threads_are_shared():
    cores = device.cores()
    assert threads_each(1) == threads_each(0) == cores and threads_each(cores) == threads_each(10 * cores) == 1


def test_only_cores_that_the_process_may_use_are_counted(monkeypatch, root):
    "A container or a batch system often lets a process use a few of many cores; nobody asks how many the machine has."
    from wood_nb.cli.commands import processes
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 3}, raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 64)
    assert device.cores() == threads_each(1) == processes(None) == 2
    asks = [file.name for file in (root/'wood_nb').rglob('*.py') if 'cpu_count' in file.read_text(encoding='utf-8')]
    assert asks == ['device.py']


def test_freed_memory():
    assert keep_freed_memory() in (True, False)  # False where the C library is not glibc
