"""Requests to end: SIGTERM, SIGHUP and Ctrl-C end the work in a safe place, as a file STOP does.

All files are written whole, so work that trains nothing ends at once, with `Stopped`. A training asks `requested` after
each step (`patient`), writes a checkpoint and ends. A second Ctrl-C does not wait for that."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = {getattr(signal, sign): name for sign, name in (("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP"))
         if hasattr(signal, sign)}
_TWICE = 0.5  # seconds: a launcher may pass on a Ctrl-C that this process has had from the terminal already


class Stopped(KeyboardInterrupt):
    "Somebody asked this process to end, by the signal `number`."

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {NAMES.get(self.number, 'a signal')}"


class _State:
    patient = 0  # how many trainings are under way, one inside the other
    asked = 0  # the signal that waits for one of them, or 0
    when = 0.0


def requested() -> int:
    "The signal that asks this process to end, or 0."
    return _State.asked


def _take(number: int, frame: FrameType | None) -> None:
    "A signal has come: noted while a training is under way, raised otherwise."
    again = number == signal.SIGINT and _State.asked and time.monotonic() - _State.when > _TWICE
    if again or not _State.patient:
        _State.asked = 0
        raise Stopped(number)
    if not _State.asked:
        _State.asked, _State.when = number, time.monotonic()
        os.write(2, b"\nstopping after this step, with a checkpoint (Ctrl-C once more: at once, without)\n")


def listen() -> dict:
    "Take the three signals from now on; returns what took them before. In a thread that cannot have them: nothing."
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, _take) for number in NAMES if signal.getsignal(number) is not signal.SIG_IGN}


@contextmanager
def listening() -> Iterator[None]:
    "Take the three signals meanwhile; one that is ignored, as SIGHUP under nohup, stays ignored."
    before = listen()
    try:
        yield
    finally:
        for number, taker in before.items():
            signal.signal(number, taker)


@contextmanager
def patient(wanted: bool = True) -> Iterator[None]:
    "Signals are noted meanwhile, for the training inside to ask for; one that it had no time for is raised at the end."
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    with listening():
        _State.patient += 1
        try:
            yield
            late = _State.asked
        finally:
            _State.patient -= 1
            _State.asked = _State.asked if _State.patient else 0
        if late and not _State.patient:
            raise Stopped(late)


def leave_to_parent(worker: int = 0) -> None:
    "In a process that reads images: what asks the whole group of processes to end is for the one that trains."
    for number in NAMES:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))  # the second is the parent's own
