"""How a device computes best: precision and memory format of networks, processes that read pictures, work done ahead.

One rule for all: `way_of` says how a network is computed on a device. What only asks (maps, mining, features, segmentation) does so in
fp32 unless another precision is named: bf16 moves the mIoU of seeds by up to 0.6 points, and was no faster there (docs/results.md).

| device | precision `auto` of trainings | memory format |
|---|---|---|
| GPU from compute capability 8 (A100, RTX 30 and later) | bf16 | channels last |
| GPU of capability 7 (V100, T4, RTX 20) | fp32 (`fp16` may be asked for) | channels last |
| older GPU, CPU | fp32 | as it is, channels last if asked for |

bf16 and fp16 are mixed precision: weights, losses, sums over maps and random walks stay in 32 bits."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .files import DataError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "no")  # in which networks compute; auto: what the device does best; no: fp32
_MOST_READERS = 16  # more processes than this have never been faster, and each takes memory
_A = TypeVar("_A")
_B = TypeVar("_B")


@dataclass(frozen=True)
class Way:
    "How a network is computed: precision ('no' for fp32, 'bf16' or 'fp16', as accelerate names it), and whether channels lie last."
    precision: str
    channels_last: bool


def capability(device: torch.device) -> tuple[int, int]:
    "The compute capability of a GPU; (0, 0) of any other device."
    import torch

    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def way_of(device: torch.device, precision: str = "auto", channels_last: bool = False) -> Way:
    "How a network is best computed on a device, where the options leave a choice (see the table above)."
    able = capability(device)
    if precision == "auto":
        precision = "bf16" if able >= (8, 0) else "no"
    if precision == "fp32":
        precision = "no"
    if precision == "fp16" and device.type == "cpu":
        raise DataError("fp16 needs a GPU, and here is none; use --precision auto, bf16 or fp32")
    return Way(precision, channels_last or able >= (7, 0))


def _asked_way(device: torch.device, precision: str) -> Way:
    "How a network is asked: in full precision on a CPU, and where none is named."
    return way_of(device, precision) if device.type == "cuda" and precision != "auto" else Way("no", False)


def asked_in(device: torch.device, precision: str = "auto") -> AbstractContextManager:
    "The context in which a network is asked (not trained): mixed precision on a GPU if it is named; a CPU always answers in full."
    import torch

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(_asked_way(device, precision).precision)
    return torch.autocast(device.type, kind) if kind is not None else nullcontext()


def asked_how(device: torch.device, precision: str) -> dict[str, str]:
    "What a folder of maps or masks notes about `asked_in`: nothing for full precision."
    way = _asked_way(device, precision)
    return {} if way.precision == "no" else {"precision": way.precision}


def precision_here(device: torch.device) -> str:
    "The precision in which networks on a device compute in the present context: 'no', 'bf16' or 'fp16'."
    import torch

    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return "no"
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(torch.get_autocast_dtype(device.type), "no")


def lift(precision: str) -> float:
    "By how much to multiply what is differentiated: fp16 has nothing between 0 and 6e-8, and gradients of pictures are small."
    return 1024.0 if precision == "fp16" else 1.0


def cores() -> int:
    "Processor cores that this process may use."
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def readers(device: torch.device, asked: int | None = None, streams: int = 1) -> int:
    """How many processes (or threads) read and augment pictures: as `asked`, or, beside a GPU, all cores but one that are this
    process's share, divided among `streams` that are read at once. On a CPU none: the network needs the cores."""
    if asked is not None:
        return asked
    if device.type != "cuda":
        return 0
    share = cores() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    return max(1, min(_MOST_READERS, share - 1) // streams)


def ahead(read: Callable[[_A], _B], tasks: Iterable[_A], threads: int) -> Iterator[tuple[_A, _B]]:
    "Each task with what `read` makes of it, in order, read by so many threads before it is asked for; 0: only then."
    if threads < 1:
        yield from ((task, read(task)) for task in tasks)
        return
    waiting: deque[tuple[_A, Any]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for task in tasks:
                waiting.append((task, pool.submit(read, task)))
                if len(waiting) > 2 * threads:
                    first, found = waiting.popleft()
                    yield first, found.result()
            while waiting:
                first, found = waiting.popleft()
                yield first, found.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
