"""Thumbnails, made when they are asked for"""

from functools import lru_cache
from pathlib import Path

from ...base.html import jpeg_bytes
from ...data.splits import Split
from ...ood.candidates import thumbnail


class Thumbnails:
    "Thumbnails of candidates (below a folder) and of in-distribution pictures, made when asked for."

    def __init__(self, root: Path, inside: Split | None = None, side: int = 112):
        self.root, self.inside = root, {} if inside is None else {item.id: item.image for item in inside.items}
        self.of = lru_cache(6000)(lambda path: jpeg_bytes(thumbnail(path, side)))

    def candidate(self, file: str) -> bytes:
        return self.of(self.root / file)

    def known(self, id: str) -> bytes | None:
        "Of an in-distribution picture, if its file is known."
        return self.of(self.inside[id]) if id in self.inside else None
