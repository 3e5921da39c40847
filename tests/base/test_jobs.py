"""Work is done in order by one process or several, which share the machine; freed memory may be kept."""
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from wood_nb.base import device
from wood_nb.base.jobs import do_all, Job, threads_each
from wood_nb.base.memory import Shelf, keep_freed_memory
from wood_nb.base.stop import patient, requested


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


def test_a_shelf_keeps_results_side_by_side(monkeypatch):
    monkeypatch.setattr(Shelf, '_NUMBERS', 10)
    shelf, given = Shelf(), [np.arange(n, dtype=np.float32).reshape(-1, 2) for n in (4, 6, 2, 40, 0)]
    kept = [shelf.put(array) for array in given]
    for array in given: array += 100
    assert all(np.array_equal(array, copy + 100) and array.shape == copy.shape for array, copy in zip(given, kept))
    assert kept[0].base is kept[1].base and kept[2].base is not kept[0].base and kept[3].base.size == 40, 'a new one where it no longer fits'


def test_freed_memory():
    assert keep_freed_memory() in (True, False)  # False where the C library is not glibc


# -- one work beside this process --
def pid_and_threads(text: str) -> tuple[int, int]:
    print(text)
    return os.getpid(), torch.get_num_threads()


def patient_work(folder: Path) -> str:
    "As a training: it asks after each step whether to end, and leaves something when it does."
    with patient():
        for n in range(1000):
            (folder/'step').write_text(str(n))
            if requested():
                (folder/'checkpoint').touch()
                raise RuntimeError(f'stopped after step {n}')
            time.sleep(.02)
    return 'never'


def test_a_job_works_in_a_process_of_its_own(tmp_path):
    told = []
    job = Job(pid_and_threads, 'hello', log=tmp_path/'new'/'log', threads=1)
    job.when_done(told.append)
    pid, threads = job.wait(60)
    assert pid != os.getpid() and threads == 1 and job.state == 'done' and job.ready() and (tmp_path/'new'/'log').read_text() == 'hello\n'
    job.when_done(told.append)
    deadline = time.time() + 5
    while len(told) < 2 and time.time() < deadline: time.sleep(.01)
    assert told == [(pid, threads)]*2, 'who comes late is told as well, each once'


def test_what_a_job_raises_is_raised_where_one_waits():
    job = Job(math.sqrt, -1.0)
    with pytest.raises(ValueError, match='domain|nonneg'): job.wait(60)
    with pytest.raises(ValueError, match='domain|nonneg'): job.ready()
    assert job.state == 'failed'
    job = Job(threading.Lock)
    with pytest.raises(RuntimeError, match='cannot be sent'): job.wait(60)


def test_a_job_is_stopped_at_once_and_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv('IN_TEST', raising=False)
    job = Job(patient_work, tmp_path)
    deadline = time.time() + 60
    while not (tmp_path/'step').exists() and time.time() < deadline: time.sleep(.02)
    assert job.state == 'running' and not job.ready() and job.process.is_alive()
    with pytest.raises(TimeoutError): job.wait(.01)
    began = time.perf_counter()
    job.stop()
    assert job.asked and not job.ready(30) and job.state == 'stopped' and time.perf_counter() - began < 5
    assert (tmp_path/'checkpoint').exists() and not (tmp_path/'STOP').exists()
    with pytest.raises(RuntimeError, match='stopped after step'): job.wait(1)


def test_a_process_that_dies_is_told():
    job = Job(os._exit, 3)
    with pytest.raises(RuntimeError, match='ended, with 3'): job.wait(60)


def test_a_job_ends_with_the_process_that_began_it(tmp_path):
    code = f"""if __name__ == '__main__':
    import sys, time; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
    from pathlib import Path
    from test_jobs import patient_work
    from wood_nb.base.jobs import Job
    folder = Path({str(tmp_path)!r})
    job = Job(patient_work, folder)
    while not (folder/'step').exists(): time.sleep(.02)
"""
    (tmp_path/'begin.py').write_text(code)
    assert subprocess.run([sys.executable, tmp_path/'begin.py'], timeout=60).returncode == 0
    assert (tmp_path/'checkpoint').exists(), 'as if it had been stopped'
