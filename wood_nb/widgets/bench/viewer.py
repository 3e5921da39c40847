"""One picture as large as the screen: its file as it is, and all that is known of it"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...base.html import jpeg_bytes
from ...ood.candidates import thumbnail
from .grid import Grid
from .rows import Rows

_SHOWN = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}
_MOST = 30_000_000  # bytes of a file that is sent as it is


@dataclass
class Viewer:
    "Shows the picture of the grid's cursor while it is open."
    rows: Rows
    grid: Grid
    open: bool = False
    maps: bool = False  # lay maps over it, where there are any

    @property
    def row(self) -> int:
        "The picture that is shown, or -1."
        return self.grid.cursor if self.open and len(self.grid.shown()) else -1

    def show(self, row: int = -1) -> None:
        "Open, on a row that the grid shows; by default on the cursor's."
        if self.grid.shows(row):
            self.grid.cursor = row
        self.open = len(self.grid.shown()) > 0

    def close(self) -> None:
        "Back to the grid."
        self.open = False

    def picture(self, row: int) -> tuple[bytes, str]:
        "The file of a picture and its type; as JPEG where a browser would not show the file."
        path = self.rows.file(row)
        kind = _SHOWN.get(path.suffix.lower())
        if kind and path.is_file() and path.stat().st_size <= _MOST:
            return path.read_bytes(), kind
        return jpeg_bytes(thumbnail(path, 4096), 92), "image/jpeg"

    def doubles(self, row: int) -> str:
        "What a picture doubles, and what doubles it."
        rows, id = self.rows, self.rows.ids[row]
        candidate = rows.candidate(row)
        copies = [rows.ids[n] for n in np.flatnonzero(rows.flagged).tolist() if rows.candidate(n).duplicate_of == id]
        said = [f"duplicate of {candidate.duplicate_of}"] * bool(candidate.duplicate_of)
        said += [f"leak of the training image {candidate.leak_of}"] * bool(candidate.leak_of)
        said += [f"doubled by {', '.join(copies[:4])}{' ...' * (len(copies) > 4)}"] * bool(copies)
        return "; ".join(said) or "none"

    def facts(self, row: int) -> list[tuple[str, str]]:
        "Name and text of what is known of a picture."
        candidate, cluster = self.rows.candidate(row), self.rows.cluster_of(row)
        held = f", contains {', '.join(candidate.contains)}" if candidate.contains else ""
        who = f"{candidate.by or 'nobody'}{f', {candidate.at}' if candidate.at else ''}" if candidate.by else "nobody yet"
        found = [("taken for", f"{candidate.predicted}, p {candidate.p:.3f}"), ("decision", candidate.decision + held), ("decided by", who),
                 ("cluster", f"{cluster.name}, {self.rows.far[row]:.2f} from its centre" if cluster else "none"),
                 ("duplicates", self.doubles(row)), ("file", candidate.file)]
        return found + [("note", candidate.note)] * bool(candidate.note)
