"""The small run that the lessons share: drawn scenes, every stage, built once on a machine and then opened"""

import ast
import hashlib
import os
import shutil
import sys
from pathlib import Path

from filelock import FileLock

from ..base.files import write_whole
from .config import preset
from .pipeline import execute
from .run import Run

ROOMS = ("base", "data", "scenes", "nets", "train", "maps", "scores", "ood", "runs/config", "runs/run", "runs/pipeline")


def cache_folder() -> Path:
    "Where shared runs are kept: $WOOD_CACHE, else ~/.cache/wood_nb."
    return Path(os.environ.get("WOOD_CACHE") or Path.home() / ".cache" / "wood_nb")


def _code(file: Path) -> str:
    "What a module does, as text: comments, docstrings and layout do not count."
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
    return ast.dump(tree)


def _source_mark() -> str:
    """A hash of the modules that shape the tiny run, so that it is built again when they change. Reading them takes a second: for files
    that have been read before, the mark is kept."""
    here = Path(__file__).resolve().parents[1]
    files = [file for room in ROOMS for file in ([here / f"{room}.py"] if "/" in room else sorted((here / room).glob("*.py")))]
    kept = cache_folder() / "marks" / _hash(b"".join(file.read_bytes() for file in files) + sys.version.encode())
    if not kept.is_file():
        with write_whole(kept, "w") as file:
            file.write(_hash("".join(map(_code, files)).encode()))
    return kept.read_text()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def tiny_run() -> Run:
    "The run that the lessons share, built first if need be (about a minute); $WOOD_TINY names a run to use in its place."
    if os.environ.get("WOOD_TINY"):
        return Run(os.environ["WOOD_TINY"])
    folder = cache_folder() / f"tiny-{_source_mark()}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_folder() / "tiny.lock"):
            if not folder.is_dir():
                building = folder.with_name(f".{folder.name}.building")
                shutil.rmtree(building, ignore_errors=True)
                run = Run.create(building, preset("tiny", "scenes:"))
                run.note["name"] = "tiny"
                execute(run)
                os.rename(building, folder)
    return Run(folder)
