"""Several processes that work on one thing, each with a GPU or some cores of its own, as `torchrun` or `accelerate launch` start them.

All talk goes through accelerate, and all of it is here: who is first (the only one that writes a file that all share), who draws
which pictures, what all add up. In a single process every function is what it says for one, and accelerate is not loaded.

The command line lets the first process `lead`: it alone holds the lock of the run folder, reads, decides and writes, as if there
were no other; the others wait, and help with what it does `together`: trainings, maps, labels, masks, predictions."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from accelerate import PartialState
    from torch import Tensor

_T = TypeVar("_T")
_PATIENCE = timedelta(hours=12)  # the others wait while the first mines or scores; torch would give up after ten minutes


class _Here:
    "How this process stands to the others at the moment."
    alone = False  # it works as if there were no others
    leads = False  # they wait for what it does `together`
    torn = False  # something done together has failed
    led = 0  # how often `lead` was called


def several() -> bool:
    "Whether this process works as one of several."
    return _started_as_several() and not _Here.alone


def _started_as_several() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def helps() -> bool:
    "Whether this process was started to help another one; the processes need not know one another yet."
    return _started_as_several() and int(os.environ.get("RANK", 0)) > 0


@contextmanager
def _standing(alone: bool, leads: bool = False) -> Iterator[None]:
    "The process stands so to the others meanwhile."
    before = _Here.alone, _Here.leads
    _Here.alone, _Here.leads = alone, leads
    try:
        yield
    finally:
        _Here.alone, _Here.leads = before


def state() -> PartialState:
    "accelerate's view of the processes; the first call makes them known to one another."
    import torch
    from accelerate import PartialState

    if several() and not PartialState._shared_state:
        atexit.register(_part)
        return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    return PartialState()


def count() -> int:
    "How many processes there are."
    return state().num_processes if several() else 1


def is_first() -> bool:
    "Whether this process is the one that writes what all share."
    return state().is_main_process if several() else True


def wait() -> None:
    "Wait until all processes are here, so that what the others have written is there."
    if several():
        state().wait_for_everyone()


@contextmanager
def first_before_others() -> Iterator[None]:
    "The first process does the work; the others wait, and then find it done. Each does it as if it were alone."
    if not several():
        yield
        return
    with state().main_process_first(), _standing(alone=True):
        yield


def is_mine(place: int) -> bool:
    "Whether the picture at this place is this process's: they are dealt out in turn."
    return not several() or place % state().num_processes == state().process_index


def mine(places: Iterable[int]) -> list[int]:
    "Those of some places that are this process's."
    return [place for place in places if is_mine(place)]


def from_first(make: Callable[[], _T]) -> _T:
    "What `make` returns in the first process, in all of them: it is called there only, as if that were alone."
    if not several():
        return make()
    made: list[Any] = [None]
    if is_first():
        with _standing(alone=True):
            made = [make()]
    return _said_by_first(made)


def _said_by_first(said: list[Any]) -> Any:
    "The only entry of a list in the first process, in all of them."
    from accelerate.utils import broadcast_object_list

    state()
    broadcast_object_list(said)
    return said[0]


def of_all(own: _T) -> list[_T]:
    "What each of the processes has, in their order, in all of them."
    if not several():
        return [own]
    from accelerate.utils import gather_object

    state()
    return gather_object([own])


def joined(own: Iterable[_T]) -> list[_T]:
    "The entries of the lists of all processes, one list after the other, in all of them."
    return [entry for entries in of_all(list(own)) for entry in entries]


def sum_of_all(own: np.ndarray) -> np.ndarray:
    "The sum of an array over the processes."
    return reduce(add, of_all(own))


def mean_of_all(value: Tensor) -> Tensor:
    "The mean of a tensor over the processes, without a gradient."
    return _reduced(value, "mean")


def total_of_all(value: Tensor) -> Tensor:
    "The sum of a tensor over the processes, without a gradient, the same to the last digit in all of them."
    return _reduced(value, "sum")


def _reduced(value: Tensor, how: str) -> Tensor:
    if not several():
        return value
    from accelerate.utils import reduce as reduce_tensors

    return reduce_tensors(value.detach().to(state().device, copy=True), how).to(value.device)


def rows_of_all(rows: Tensor) -> Tensor:
    "The rows of a tensor in all processes, one below the other, without a gradient."
    if not several():
        return rows
    from accelerate.utils import gather

    return gather(rows.detach().contiguous())


def lead(work: Callable[[], None], ready: Callable[[], object] | None = None) -> None:
    """Do `work` in the first process, as if it were alone, but for what it does `together` with the others, which wait for that, and
    get `ready` meanwhile: load what they will need."""
    if not several():
        return work()
    _Here.torn, _Here.led = False, _Here.led + 1
    if is_first():
        with _standing(alone=True, leads=True):
            try:
                work()
            finally:
                if not _Here.torn:
                    _tell(None)
    else:
        if ready:
            ready()
        while (task := _said_by_first([None])) is not None:
            task()


def _tell(task: Callable[[], Any] | None) -> None:
    "Tell the others, which wait in `lead`, what to help with; None: there is nothing more."
    with _standing(alone=False):
        _said_by_first([task])


def together(work: Callable[..., _T], *args: Any, **options: Any) -> _T:
    """`work(*args)`, in all processes if this one leads them; returns what it returns here. The others have copies of the arguments,
    so these must be such as can be pickled. Without others, and within such work, `work` is just called."""
    if not _Here.leads:
        return work(*args, **options)
    _tell(partial(work, *args, **options))
    with _standing(alone=False):
        try:
            return work(*args, **options)
        except BaseException:
            _Here.torn = True  # the others have failed, too, or wait for this process in the midst of the work
            raise


def leave() -> None:
    "From now on this process is none of several: it belongs to a pool of one of them."
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)


def _part() -> None:
    "Close the connections, as torch wants it at the end: a process that leaves them open may be aborted on its way out."
    import torch.distributed

    if _Here.torn:  # the others may wait in the midst of something
        return
    with suppress(Exception):
        torch.distributed.destroy_process_group()


def is_first_to_fail() -> bool:
    "Whether this process is the first that ends with an error: the only one that says why."
    if not _started_as_several():
        return True
    import torch.distributed

    if not torch.distributed.is_initialized():  # all fail in the same way, before they know one another
        return not helps()
    try:
        return torch.distributed.distributed_c10d._get_default_store().add(f"wood_nb.failed.{_Here.led}", 1) == 1
    except RuntimeError:  # the process that keeps the count has ended
        return False


def lost_another(error: BaseException) -> bool:
    "Whether an error says no more than that another process has ended."
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not _started_as_several() or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.distributed.DistError) or any(name in str(error) for name in ("gloo", "NCCL"))
