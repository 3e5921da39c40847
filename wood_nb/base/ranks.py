"""Several processes that work on one thing, each with a GPU or some cores of its own, as `torchrun` or `accelerate launch` start them.

All talk goes through accelerate, and all of it is here: who is first (the only one that writes a file that all share), who draws
which pictures, what all add up. In a single process every function is what it says for one, and accelerate is not loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from accelerate import PartialState
    from torch import Tensor

_T = TypeVar("_T")
_PATIENCE = timedelta(hours=12)  # the others wait while the first makes labels or clusters; torch would give up after ten minutes


def several() -> bool:
    "Whether this process is one of several."
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def state() -> PartialState:
    "accelerate's view of the processes; the first call makes them known to one another."
    import torch
    from accelerate import PartialState

    if several() and not PartialState._shared_state:
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


_going_first: list[bool] = []  # whether a block of `first_before_others` is under way here


@contextmanager
def first_before_others() -> Iterator[None]:
    "The first process does the work; the others wait, and then find it done. Within such a block another one changes nothing."
    if not several() or _going_first:
        yield
        return
    with state().main_process_first():
        _going_first.append(True)
        try:
            yield
        finally:
            _going_first.pop()


def is_mine(place: int) -> bool:
    "Whether the picture at this place is this process's: they are dealt out in turn."
    return not several() or place % state().num_processes == state().process_index


def mine(places: Iterable[int]) -> list[int]:
    "Those of some places that are this process's."
    return [place for place in places if is_mine(place)]


def from_first(make: Callable[[], _T]) -> _T:
    "What `make` returns in the first process, in all of them: it is called there only."
    if not several():
        return make()
    from accelerate.utils import broadcast_object_list

    told: list[Any] = [make() if is_first() else None]
    broadcast_object_list(told)
    return told[0]


def of_all(own: _T) -> list[_T]:
    "What each of the processes has, in their order, in all of them."
    if not several():
        return [own]
    from accelerate.utils import gather_object

    state()
    return gather_object([own])


def sum_of_all(own: np.ndarray) -> np.ndarray:
    "The sum of an array over the processes."
    return reduce(add, of_all(own))


def mean_of_all(value: Tensor) -> Tensor:
    "The mean of a tensor over the processes, without a gradient."
    if not several():
        return value
    from accelerate.utils import reduce as reduce_tensors

    return reduce_tensors(value.detach().clone(), "mean")


def rows_of_all(rows: Tensor) -> Tensor:
    "The rows of a tensor in all processes, one below the other, without a gradient."
    if not several():
        return rows
    from accelerate.utils import gather

    return gather(rows.detach().contiguous())
