"""Memory: how a process treats what it has freed, and how to tell that there is not enough of it.

By default the C library returns large blocks at once, and asks again. A training step on a CPU frees and asks for the same
tensors over and over, so keeping them makes it quicker."""

from __future__ import annotations

import ctypes
import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def keep_freed_memory() -> bool:
    "Let this process keep up to 2 GB that it has freed; False where the C library is not glibc, and nothing changes."
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_above, map_above = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return mallopt(trim_above, 2 ** 31 - 1) == mallopt(map_above, 2 ** 25) == 1


class Shelf:
    """Results of batches, put side by side. Left where they were made, small results lie between large blocks that are free again and
    no longer fit the next batch: a pass over 12,000 pictures took 2 GB that nothing was in. A shelf is too large for the heap."""
    _NUMBERS = 2 ** 23  # of 32 bits: 32 MB, which the system hands out for itself, and only as far as they are used

    def __init__(self) -> None:
        self._left: np.ndarray | None = None

    def put(self, array: np.ndarray) -> np.ndarray:
        "A copy of an array of float32 that lies on the shelf."
        import numpy as np

        if self._left is None or array.size > len(self._left):
            self._left = np.empty(max(array.size, self._NUMBERS), np.float32)
        copy, self._left = self._left[:array.size].reshape(array.shape), self._left[array.size:]
        copy[...] = array
        return copy


GPU, THREADS, SHARED, MEMORY = "memory of the GPU", "threads or processes", "shared memory (/dev/shm)", "memory"
_WORDS = {  # how torch, its libraries, Python and the system say it, in lower case; the first that fits counts
    GPU: ("cuda out of memory", "cuda error: out of memory", "status_alloc_failed", "hip out of memory", "mps backend out of memory"),
    THREADS: ("can't start new thread", "resource temporarily unavailable", "thread creation failed", "pthread_create"),
    SHARED: ("unable to open shared memory", "unable to mmap", "bus error", "/torch_"),
    MEMORY: ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc", "bad alloc",
             "could not create a primitive", "could not execute a primitive", "unable to allocate", "terminated abruptly"),
}


def ran_out(error: BaseException) -> str | None:
    "What there was not enough of, if that is what an error says; None for any other, such as a `DataError` with the name of a file."
    text = str(error).lower()
    if isinstance(error, OSError):
        known = {errno.ENOMEM: MEMORY, errno.EAGAIN: THREADS}
        return known.get(error.errno or 0) or (_said(text) if error.errno is None else None)
    if isinstance(error, MemoryError):
        return _said(text) or MEMORY
    return _said(text) if isinstance(error, RuntimeError) else None


def _said(text: str) -> str | None:
    return next((what for what, words in _WORDS.items() if any(word in text for word in words)), None)


@contextmanager
def at_work(place: str) -> Iterator[None]:
    "Note on an error that leaves the block which stage it comes from (`place_of`)."
    try:
        yield
    except BaseException as error:
        error.add_note(f"stage: {place}")
        raise


def place_of(error: BaseException) -> str | None:
    "The stage that an error comes from, if it was noted."
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("stage: ")]
    return notes[0].removeprefix("stage: ") if notes else None


def _kilobytes(name: str) -> int:
    "What Linux says of this process: VmRSS, the memory that it holds, or VmHWM, the most that it has held."
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status says nothing of {name}")


def _begin_anew() -> int:
    "Return freed memory to the system, let the record of the most memory begin again, and return what is held now, in kB."
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _kilobytes("VmRSS")


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """What a block takes of this process: `seconds`, `processor_seconds` (of all its threads) and, on Linux, `megabytes`, the most memory
    that it held above what was there before. The dict is filled when the block is left, by an error
    too."""
    cost: dict[str, float] = {}
    before = None
    with suppress(OSError):
        before = _begin_anew()
    begun, worked = time.perf_counter(), time.process_time()
    try:
        yield cost
    finally:
        cost |= {"seconds": round(time.perf_counter() - begun, 2), "processor_seconds": round(time.process_time() - worked, 2)}
        if before is not None:
            cost["megabytes"] = round(max(0, _kilobytes("VmHWM") - before) / 1024, 1)
