"""Errors that name the file and the remedy, options that are checked, and files that are complete or absent.

Every file of a run is written by `write_whole`, `write_json` or `write_npz`: a reader sees the old file or the new one,
never half of it, even after a power cut. JSON files carry their format and version; arrays are never unpickled."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever only wants an error or JSON need not wait for arrays
    import numpy as np


class DataError(ValueError):
    "Something is wrong with the data; the message names the file, the fault and the remedy."


def now() -> str:
    "The time, UTC, ISO 8601 to the second."
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_options(config: Any, **rules: tuple[Callable[[Any], bool], str]) -> None:
    "Refuse the first option of `config` that breaks its rule: option = (test of a value, what it must be)."
    for name, (fine, rule) in rules.items():
        value = getattr(config, name)
        try:
            good = fine(value)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise DataError(f"{name}={value!r}: must be {rule}")


@cache
def _machine() -> str:
    "A mark of this machine since it was started and, in a container, of its processes: elsewhere a number is another process."
    def told(read: Callable[[], str]) -> str:
        try:
            return read()
        except OSError:  # not Linux
            return ""

    facts = platform.node(), told(Path("/proc/sys/kernel/random/boot_id").read_text), told(lambda: os.readlink("/proc/self/ns/pid"))
    return sha256(repr(facts).encode()).hexdigest()[:8]


def temporary_name(path: str | Path) -> Path:
    "A name beside `path` that no other process, thread, container or machine takes."
    return Path(path).with_name(f".{_machine()}-{os.getpid()}-{secrets.token_hex(6)}.tmp")


def _is_alive(process: int) -> bool:
    "Whether a process of this machine still runs."
    if os.name == "nt":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


_LEFT = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{12}\.tmp")
_DAY = 24 * 3600


def clear_leftovers(folder: str | Path) -> int:
    "Remove what processes that are gone have left half written in a folder; returns how many files the folder holds."
    count = 0
    with contextlib.suppress(OSError), os.scandir(folder) as files:
        for file in files:
            count += 1
            if found := _LEFT.fullmatch(file.name):
                dead = found[1] == _machine() and not _is_alive(int(found[2]))
                with contextlib.suppress(OSError):
                    if dead or time.time() - file.stat().st_mtime > _DAY:
                        os.unlink(file.path)
    return count


_LOOKED: dict[Path, tuple[float, int]] = {}  # folder -> when it was last looked through, how many files it held


def _clear_now_and_then(folder: Path) -> None:
    "Clear leftovers before a file is written; a folder of many files is not listed for each of them."
    when, count = _LOOKED.get(folder, (0.0, 0))
    if count <= 200 or time.monotonic() - when > 60:
        _LOOKED[folder] = (time.monotonic(), clear_leftovers(folder))


def sync_folder(folder: str | Path) -> None:
    "Have the disk remember the names in a folder, where the system can do that."
    if os.name != "nt":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def write_whole(path: str | Path, mode: str = "wb") -> Iterator[Any]:
    "Open `path` for writing so that it appears complete or not at all, also after a power cut."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_now_and_then(path.parent)
    temporary, text = temporary_name(path), "b" not in mode
    try:
        with open(temporary, mode, encoding="utf-8" if text else None, newline="\n" if text else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def empty_folder(folder: str | Path) -> None:
    "Remove a folder with all that is in it; of a link to a folder, what it points to is emptied and the link stays."
    folder = Path(folder)
    if not folder.is_symlink():
        return shutil.rmtree(folder)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def write_json(path: str | Path, content: dict) -> None:
    "Write `content`, which carries `format` and `version`, as JSON; whole or not at all."
    if not {"format", "version"} <= content.keys():
        raise DataError(f"{path}: a JSON file of wood_nb must carry 'format' and 'version'; add them")
    with write_whole(path, "w") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


def read_json(path: str | Path, format: str, version: int = 1) -> dict:
    "Read JSON written by `write_json`, refusing another format or a newer version."
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; run the stage that writes it first") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); "
                        "restore it from a copy, or delete it and run the stage again") from None
    if not isinstance(content, dict) or content.get("format") != format:
        raise DataError(f"{path}: not a {format} file; check the path")
    if content.get("version") != version:
        raise DataError(f"{path}: {format} version {content.get('version')}, but this wood_nb reads version {version}; "
                        "update wood_nb")
    return content


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    "Write arrays as a compressed `.npz`, whole or not at all; object arrays (pickles) are refused."
    import numpy as np

    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise DataError(f"{path}: array '{name}' holds Python objects; store numbers or text")
    with write_whole(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take any name for `allow_pickle`


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    "Read an `.npz` without ever unpickling."
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; run the stage that writes it first") from None
    except Exception as error:
        raise DataError(f"{path}: not a readable .npz ({error}); delete it and run its stage again") from None
