"""One writer at a time, for a folder or for a file; who only reads never waits.

The lock is the operating system's (filelock), so it ends with the process that holds it, however that ends. A note beside it
says who that is."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .files import DataError, clear_leftovers, now

_HELD: set[tuple[Path, int, int]] = set()  # lock, process, thread


def _own(lock: Path) -> tuple[Path, int, int]:
    "What a lock that this thread holds is remembered by."
    return lock.parent.resolve() / lock.name, os.getpid(), threading.get_ident()


def _note_of(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.json")


def _write_note(lock: Path) -> None:
    "Say beside a lock who holds it."
    note = {"format": "wood_nb.lock", "version": 1, "pid": os.getpid(), "host": platform.node(), "since": now(),
            "command": shlex.join(sys.argv)}
    with contextlib.suppress(OSError):
        _note_of(lock).write_text(json.dumps(note), encoding="utf-8")


def holder(lock: Path) -> str:
    "Who holds a lock, in words."
    try:
        note = json.loads(_note_of(lock).read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']} ({note['command']}), since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _tidy(lock: Path) -> None:
    "Remove note and lock file, while the lock is held: whoever waits for a file that is gone takes a new one."
    with contextlib.suppress(OSError):
        _note_of(lock).unlink(missing_ok=True)
        if not lock.stat().st_size:  # where a disk knows no locks, filelock writes into the file, and removes it itself
            lock.unlink()


@contextlib.contextmanager
def locked(lock: Path, what: str, remedy: str, wait: float = 0.0) -> Iterator[None]:
    "Hold a lock file; after `wait` seconds in vain a `DataError` names who does. A thread that holds it may ask again."
    key = _own(lock)
    if key in _HELD:
        yield
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    own = FileLock(lock)
    try:
        own.acquire(timeout=wait, poll_interval=0.01)
    except Timeout:
        raise DataError(f"{what}: {holder(lock)} is writing there; {remedy}") from None
    try:
        _HELD.add(key)
        _write_note(lock)
        yield
    finally:
        _HELD.discard(key)
        _tidy(lock)
        own.release()


@contextlib.contextmanager
def one_writer(folder: str | Path) -> Iterator[None]:
    "Be the only process that writes into a run folder; another one is refused at once. Leftovers of dead ones are cleared."
    folder = Path(folder)
    remedy = f"wait until it has ended, or stop it with: touch {shlex.quote(str(folder / 'STOP'))}"
    asked_before = any(lock == folder.resolve() / ".lock" for lock, *_ in _HELD)
    with locked(folder / ".lock", str(folder), remedy):
        for place, _, _ in () if asked_before else os.walk(folder):
            clear_leftovers(place)
        yield


@contextlib.contextmanager
def lent(folder: str | Path) -> Iterator[None]:
    "Be let in by the writer of a run folder: for one of several processes that it has begun, and waits for."
    key = _own(Path(folder) / ".lock")
    if key in _HELD:
        yield
        return
    _HELD.add(key)
    try:
        yield
    finally:
        _HELD.discard(key)


@contextlib.contextmanager
def changing(path: str | Path, wait: float = 60.0) -> Iterator[None]:
    "Read a file, change it and write it while no other process does so; others wait for their turn."
    path = Path(path)
    with locked(path.with_name(f".{path.name}.lock"), str(path), "try again when it has ended", wait):
        yield
