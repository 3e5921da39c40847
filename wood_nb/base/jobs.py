"""How many OoD pictures does it take, and how hard should it push? Tables A1 and A2 on your own data"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from tqdm.auto import tqdm

from .memory import keep_freed_memory


def share_machine(threads: int) -> None:
    "Set up a process that is one of several: its share of the threads, and its memory kept."
    torch.set_num_threads(threads)
    keep_freed_memory()


def do_all(work: Callable[[Any], Any], tasks: Sequence[Any], jobs: int = 1, title: str = "points") -> list[Any]:
    "`work` on each task, in `jobs` processes at once; the first failure ends it, and what is finished stays."
    if jobs <= 1:
        return [work(task) for task in tqdm(tasks, desc=title, unit="run")]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(tqdm(pool.map(work, tasks), total=len(tasks), desc=title, unit="run"))


def threads_each(jobs: int) -> int:
    "How many threads each of several processes gets."
    return max(1, (os.cpu_count() or 1) // max(1, jobs))
