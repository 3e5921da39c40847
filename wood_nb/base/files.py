"""Errors that name the file and the remedy, options that are checked, and files that are complete or absent.

Every file of a run is written by `write_whole`, `write_json` or `write_npz`: a reader sees the old file or the new one,
never half of it. JSON files carry their format and version; arrays are never unpickled."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .memory import ran_out

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


@contextlib.contextmanager
def write_whole(path: str | Path, mode: str = "wb") -> Iterator[Any]:
    "Open `path` for writing so that it appears complete or not at all."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        text = "b" not in mode
        with open(temporary, mode, encoding="utf-8" if text else None, newline="\n" if text else None) as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
        if ran_out(error):
            raise
        raise DataError(f"{path}: not a readable .npz ({error}); delete it and run its stage again") from None
