"""Errors that name the file and the remedy, options that are checked, and files that are complete or absent.

Every file of a run is written by `write_whole`, `write_json` or `write_npz`: a reader sees the old file or the new one,
never half of it, even after a power cut. JSON files carry their format and version; arrays are never unpickled."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .formats import FORMATS
from .memory import ran_out
from .schema import Array, anything, content_fault, header_fault, shown, value_fault

if TYPE_CHECKING:  # whoever only wants an error or JSON need not wait for arrays
    import numpy as np


class DataError(ValueError):
    "Something is wrong with the data; the message names the file, the fault and the remedy."


@contextlib.contextmanager
def told_of(path: str | Path) -> Iterator[None]:
    "Within it, a `DataError` says that it is about the file at `path`."
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def now() -> str:
    "The time, UTC, ISO 8601 to the second."
    return datetime.now(UTC).isoformat(timespec="seconds")


def is_plain_name(name: str) -> bool:
    "Whether a file or folder can be called so: no path, not empty, and not `.` or `..`."
    return bool(name.strip(" .")) and not set(name) & set("/\\\0\n\r")


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


_unsettled = threading.Event()  # set while the disk may not have some of the files yet


def settle() -> None:
    "Have the disk hold all that was written without waiting for it (`write_whole` with `wait` False)."
    if _unsettled.is_set() and hasattr(os, "sync"):
        _unsettled.clear()  # first: what is written meanwhile waits for the next time
        os.sync()


@contextlib.contextmanager
def write_whole(path: str | Path, mode: str = "wb", wait: bool = True) -> Iterator[Any]:
    """Open `path` for writing so that it appears complete or not at all, also after a power cut.

    One of thousands of files need not `wait` for the disk: `settle` does, once for all of them."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_now_and_then(path.parent)
    temporary, text = temporary_name(path), "b" not in mode
    try:
        with open(temporary, mode, encoding="utf-8" if text else None, newline="\n" if text else None) as file:
            yield file
            file.flush()
            if wait:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if wait:
            sync_folder(path.parent)
        else:
            _unsettled.set()
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


def check_plain(path: str | Path) -> None:
    "Refuse a folder, and what is no plain file: to open a named pipe would be to wait for ever. A missing file passes."
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        raise DataError(f"{str(path)!r}: a path cannot hold the character 0; correct it") from None
    except (OSError, TypeError):
        return  # whoever opens it says what is wrong; what lies in memory has no path
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise DataError(f"{path}: is {what}, not a file; correct the path, or the list that names it")


def read_text(path: str | Path, missing: str = "there is no such file; check the path") -> str:
    "The text of a file in UTF-8, a mark at its beginning left out; `missing`: what to say where there is no such file."
    check_plain(path)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: {missing}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error}); save it as UTF-8") from None


def parse_json(text: str | bytes, finite: bool = False) -> Any:
    "JSON as Python's values; a `ValueError` if it is not valid, nested too deep to be worked with, or has NaN where it must be `finite`."
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects nested too deep") from None
    if fault := content_fault(content, finite):
        raise ValueError(fault)
    return content


_AGAIN = "restore it from a copy, or delete it and run the stage again"


def read_json(path: str | Path, format: str, version: int = 1) -> dict:
    "Read JSON written by `write_json`, refusing another format, a newer version, and what the format does not allow (`base.formats`)."
    check_plain(path)
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"), finite=True)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; run the stage that writes it first") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); {_AGAIN}") from None
    if not isinstance(content, dict) or content.get("format") != format:
        raise DataError(f"{path}: not a {format} file; check the path")
    if content.get("version") != version:
        raise DataError(f"{path}: {format} version {shown(content.get('version'))}, but this wood_nb reads version {version}; "
                        "update wood_nb")
    if fault := FORMATS.get(format, anything)(content, ""):
        raise DataError(f"{path}: {fault}; correct it there, {_AGAIN}")
    return content


def write_npz(path: str | Path, *, wait: bool = True, **arrays: np.ndarray) -> None:
    "Write arrays as a compressed `.npz`, whole or not at all (see `write_whole`); object arrays (pickles) are refused."
    import numpy as np

    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise DataError(f"{path}: array '{name}' holds Python objects; store numbers or text")
    with write_whole(path, wait=wait) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take any name for `allow_pickle`


class _Unfit(Exception):
    "The arrays of a file are not what they must be."


NPZ_LIMIT = 256 * 2 ** 20, 100  # an `.npz` may fill so many bytes of memory, or so many times its size on disk, if that is more


def read_npz(path: str | Path, **wanted: Array) -> dict[str, np.ndarray]:
    """Read an `.npz` without ever unpickling: all arrays, or those `wanted`, which must be there and be so.

    Types, shapes and sizes are looked at before a number is read, so a small file cannot fill the memory."""
    check_plain(path)
    try:
        with zipfile.ZipFile(path) as file:
            return _arrays_in(file, os.path.getsize(path), wanted)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; run the stage that writes it first") from None
    except _Unfit as error:
        raise DataError(f"{path}: {error}; delete it and run its stage again") from None
    except Exception as error:  # a damaged file can fail anywhere
        if ran_out(error):  # nothing is wrong with the file
            raise
        raise DataError(f"{path}: not a readable .npz ({error}); delete it and run its stage again") from None


def _arrays_in(file: zipfile.ZipFile, size: int, wanted: Mapping[str, Array]) -> dict[str, np.ndarray]:
    "The arrays of an open archive of `size` bytes; `_Unfit` says what is wrong with them."
    from numpy.lib import format as npy

    members = {info.filename.removesuffix(".npy"): info for info in file.infolist() if info.filename.endswith(".npy")}
    members = {name: info for name, info in members.items() if not wanted or name in wanted}
    headers = {name: _npy_header(file, info) for name, info in members.items()}
    if fault := header_fault(headers, wanted):
        raise _Unfit(fault)
    total, most = sum(info.file_size for info in members.values()), max(NPZ_LIMIT[0], NPZ_LIMIT[1] * size)
    if total > most:
        raise _Unfit(f"it would fill {total / 2 ** 20:,.0f} MB of memory, and a file of {size:,} bytes may fill {most / 2 ** 20:,.0f} MB")
    arrays = {}
    for name, info in members.items():
        with file.open(info) as member:
            arrays[name] = npy.read_array(member, allow_pickle=False)
    if fault := value_fault(arrays, wanted):
        raise _Unfit(fault)
    return arrays


def _npy_header(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[np.dtype, tuple[int, ...]]:
    "Type and shape of an array in an archive, which must be as large as the archive says."
    from numpy.lib import format as npy

    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Unfit(f"'{info.filename}' is compressed in another way than numpy does")
    with file.open(info) as member:
        version = npy.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise _Unfit(f"'{info.filename}' has .npy version {version}")
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(member)
        if dtype.hasobject or member.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            why = "holds Python objects" if dtype.hasobject else f"says {list(shape)}, but holds {info.file_size:,} bytes"
            raise _Unfit(f"'{info.filename}' {why}")
    return dtype, shape
