"""The same work on many tasks, in one process or several that share the machine.

Several processes pay off where one training cannot use all cores: small networks, many runs of a sweep."""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import Any

from tqdm.auto import tqdm

from . import ranks
from .device import cores
from .memory import keep_freed_memory
from .stop import Stopped, listen


def share_machine(threads: int) -> None:
    "Set up a process that is one of several: its share of the threads, and its memory kept."
    import torch  # only processes that train need it

    torch.set_num_threads(threads)
    keep_freed_memory()


def do_all(work: Callable[[Any], Any], tasks: Sequence[Any], jobs: int = 1, title: str | None = "points", unit: str = "run",
           chunk: int = 1, threads: int | None = None) -> list[Any]:
    """The results of `work` on each task, in order, by `jobs` processes, `chunk` tasks at a time; the first failure is raised.
    Without a title no bar is shown; `threads`: of each of several processes."""
    bar: dict[str, Any] = {"total": len(tasks), "desc": title, "unit": unit, "disable": title is None}
    if jobs <= 1:
        return [work(task) for task in tqdm(tasks, **bar)]
    pool = ProcessPoolExecutor(jobs, mp_context=_context(work), initializer=_begin, initargs=(threads,))
    try:
        results = list(tqdm(pool.map(partial(_unless_stopped, work), tasks, chunksize=chunk), **bar))
    except BaseException as error:
        if isinstance(error, Stopped):
            _pass_on(pool, error.number)
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    return results


def _context(work: Callable[[Any], Any]) -> BaseContext:
    "Processes that begin with nothing of this one; where that can be, forked from a server that imports what they need only once."
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([getattr(work, "func", work).__module__])
    return context


def _begin(threads: int | None) -> None:
    "Set up a process of a pool."
    listen()
    ranks.leave()
    if threads:
        share_machine(threads)


_stopped: list[int] = []  # in a process of a pool: the signal that has ended a task


def _unless_stopped(work: Callable[[Any], Any], task: Any) -> Any:
    "`work` on a task; after a signal nothing more is begun, though a pool hands out its next tasks early."
    if _stopped:
        raise Stopped(_stopped[0])
    try:
        return work(task)
    except Stopped as error:
        _stopped.append(error.number)
        raise


def _pass_on(pool: ProcessPoolExecutor, number: int) -> None:
    "Ask the processes of a pool, too, to end: those that train write a checkpoint."
    for process in list(getattr(pool, "_processes", None) or ()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def threads_each(jobs: int) -> int:
    "How many threads each of several processes gets."
    return max(1, cores() // max(1, jobs))
