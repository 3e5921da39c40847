"""What a file holds, as a mark: the same for a copy, another one after a change. A second look is quick.

A file is read again only if its size or its time stamps have changed since the last look, which a JSON file remembers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from .files import DataError, check_plain, read_json, write_json

_FORMAT = "wood_nb.contents"
_JUST_NOW = 2 * 10**9  # nanoseconds in which a file may change twice and keep its time stamp
_SEEN: dict[str, list] = {}  # file -> size, times, sha256: what this process has found, whoever asked


def marked_by_time(file: str | Path) -> str:
    "Size and time of a file: how inputs were marked before their contents were."
    stat = os.stat(file)
    return f"{stat.st_size} {stat.st_mtime_ns}"


def sha256_of(file: str | Path) -> str:
    "The sha256 of what an ordinary file holds."
    check_plain(file)
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class Contents:
    """Marks of what files hold, remembered in the file `path` (None: as long as the process runs). `changed`: files that held
    something else at the last look."""

    def __init__(self, path: str | Path | None = None):
        self.path = path and Path(path)
        self.known: dict[str, list] | None = None  # file -> size, times, sha256
        self.changed: list[str] = []
        self.news = False

    def _read(self) -> dict[str, list]:
        "What the last look found; a cache that cannot be read is as good as none."
        with contextlib.suppress(OSError, DataError):
            return read_json(self.path, _FORMAT)["files"] if self.path else {}
        return {}

    def recall(self) -> dict[str, list]:
        "What the last look found, read once; all that asks for marks in this process has it from then on."
        if self.known is None:
            self.known = self._read()
            _SEEN.update(self.known)
        return self.known

    def mark(self, file: str | Path) -> str:
        "Size and sha256 of a file."
        known, name, stat = self.recall(), os.path.abspath(file), os.stat(file)
        facts = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        old = known.get(name, [None] * 4)
        if old[:3] == facts:
            return f"{stat.st_size} {old[3]}"
        sha = _SEEN[name][3] if _SEEN.get(name, [])[:3] == facts else sha256_of(file)
        if old[3] not in (None, sha) and name not in self.changed:
            self.changed.append(name)
        self.note(name, facts, sha)
        return f"{stat.st_size} {sha}"

    def note(self, name: str, facts: list[int], sha: str) -> None:
        "Remember the sha256 of a file of which size and times were taken before it was read, unless it may still be changing."
        if time.time_ns() - max(facts[1:]) > _JUST_NOW:
            self.recall()[name] = _SEEN[name] = [*facts, sha]
            self.news = True

    def take(self, other: Contents) -> None:
        "Know what another look has found, too, such as that of a run on the same data."
        self.known = {**(other._read() if other.known is None else other.known), **(self._read() if self.known is None else self.known)}
        self.news = True

    def save(self) -> None:
        "Remember what was found; a folder that cannot be written to keeps nothing."
        if self.news and self.known is not None and self.path:
            with contextlib.suppress(OSError):
                write_json(self.path, {"format": _FORMAT, "version": 1, "files": self.known})
            self.news = False


def content_mark(file: str | Path) -> str:
    "Size and sha256 of a file, which a process reads once, as long as its size and its time stamps stay."
    return Contents().mark(file)
