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


def marked_by_time(file: str | Path) -> str:
    "Size and time of a file: how inputs were marked before their contents were."
    stat = os.stat(file)
    return f"{stat.st_size} {stat.st_mtime_ns}"


class Contents:
    "Marks of what files hold, remembered in the file `path`. `changed`: files that held something else at the last look."

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.known: dict[str, list] | None = None  # file -> size, times, sha256
        self.changed: list[str] = []
        self.news = False

    def _read(self) -> dict[str, list]:
        "What the last look found; a cache that cannot be read is as good as none."
        with contextlib.suppress(OSError, DataError):
            return read_json(self.path, _FORMAT)["files"]
        return {}

    def mark(self, file: str | Path) -> str:
        "Size and sha256 of a file."
        if self.known is None:
            self.known = self._read()
        name, stat = os.path.abspath(file), os.stat(file)
        facts = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        old = self.known.get(name, [None] * 4)
        if old[:3] == facts:
            return f"{stat.st_size} {old[3]}"
        check_plain(file)
        with open(file, "rb") as content:
            sha = hashlib.file_digest(content, "sha256").hexdigest()
        if old[3] not in (None, sha) and name not in self.changed:
            self.changed.append(name)
        if time.time_ns() - max(facts[1:]) > _JUST_NOW:
            self.known[name], self.news = [*facts, sha], True
        return f"{stat.st_size} {sha}"

    def take(self, other: Contents) -> None:
        "Know what another look has found, too, such as that of a run on the same data."
        self.known = {**(other._read() if other.known is None else other.known), **(self._read() if self.known is None else self.known)}
        self.news = True

    def save(self) -> None:
        "Remember what was found; a folder that cannot be written to keeps nothing."
        if self.news and self.known is not None:
            with contextlib.suppress(OSError):
                write_json(self.path, {"format": _FORMAT, "version": 1, "files": self.known})
            self.news = False
