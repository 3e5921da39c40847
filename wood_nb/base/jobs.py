"""The same work on many tasks, in one process or several that share the machine; and one long work beside a notebook.

Several processes pay off where one training cannot use all cores: small networks, many runs of a sweep."""

import atexit
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from tqdm import tqdm

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


class Job:
    """Work in a process of its own, as in `job = Job(train, net, split, config, out=folder)`: this process goes on meanwhile, and
    can end it. `work` is a function of a module, not of the notebook. `log`: a file for what it prints, which is lost without one;
    `threads`: by default all cores but one, which is left to this process."""

    def __init__(self, work: Callable, *args: Any, log: str | Path | None = None, threads: int | None = None, **options: Any):
        if log is not None:
            Path(log).parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = multiprocessing.Pipe(duplex=False)
        self.result: Any = None
        self.error: BaseException | None = None
        self.asked, self.over = False, threading.Event()  # to stop; done, stopped or failed
        self.listeners: list[Callable[[Any], Any]] = []
        self.lock = threading.Lock()
        tasks = (theirs, work, args, options, threads or max(1, cores() - 1), log)
        self.process = _context(work).Process(target=_do_apart, args=tasks, name="wood job")  # type: ignore[attr-defined]  # no stub has it
        self.process.start()
        theirs.close()
        atexit.register(self.stop)
        threading.Thread(target=self._hear, args=(ours,), daemon=True, name="wood job").start()

    def _hear(self, pipe: Connection) -> None:
        "Wait for what the work returns, or for the end of its process."
        try:
            done, content = pipe.recv()
        except EOFError:
            done, content = False, None
        except Exception as error:
            done, content = False, RuntimeError(f"what it said cannot be read: {error}")
        self.process.join()
        if done:
            self.result = content
        else:
            self.error = content or RuntimeError(f"its process ended, with {self.process.exitcode}")
        self.over.set()
        atexit.unregister(self.stop)
        self._tell()

    @property
    def running(self) -> bool:
        return not self.over.is_set()

    @property
    def state(self) -> str:
        "'running', 'stopping', 'done', 'stopped' or 'failed'."
        if self.running:
            return "stopping" if self.asked else "running"
        return "done" if self.error is None else "stopped" if self.asked else "failed"

    def stop(self) -> None:
        "End the work: a training after the step under way, with a checkpoint, anything else at once. A second time: at once in any case."
        if self.running and self.process.is_alive():
            (self.process.kill if self.asked else self.process.terminate)()
        self.asked = True

    def wait(self, seconds: float | None = None) -> Any:
        "What the work returned; raises what it raised, and `TimeoutError` if it is not done after `seconds`."
        if not self.over.wait(seconds):
            raise TimeoutError(f"still running after {seconds:g} s")
        if self.error is not None:
            raise self.error
        return self.result

    def ready(self, seconds: float = 0) -> bool:
        "Whether the result is there, after at most `seconds`; raises what the work raised, unless it was stopped. In a check it waits."
        self.over.wait(None if "IN_TEST" in os.environ else seconds)
        if self.state == "failed":
            self.wait()
        return self.state == "done"

    def when_done(self, call: Callable[[Any], Any]) -> None:
        "Call `call(result)` as soon as the result is there, in a thread of its own; at once if it is there."
        self.listeners.append(call)
        self._tell()

    def _tell(self) -> None:
        "Tell listeners, each once."
        with self.lock:
            while self.state == "done" and self.listeners:
                self.listeners.pop(0)(self.result)


def _do_apart(pipe: Connection, work: Callable, args: tuple, options: dict, threads: int, log: str | Path | None) -> None:
    "In the process of a job: work, and say what came of it. It gives way to the notebook, and ends with it."
    try:
        with open(log or os.devnull, "ab", 0) as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        _begin(threads)
        if hasattr(os, "nice"):
            os.nice(5)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        answer = True, work(*args, **options)
    except BaseException as error:  # sent, and raised where one waits for it
        answer = False, error
    try:
        pipe.send(answer)
    except Exception as error:
        pipe.send((False, RuntimeError(f"what it returned cannot be sent to this process: {error}")))


def _end_with_parent() -> None:
    "Who started this is gone: end as at a signal."
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
