"""The grid of the workbench: which pictures are selected, shown and marked, in which order, and which one the keys act on"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...base.files import DataError
from .filters import FILTERS, holds
from .rows import Rows

WAYS = ("set", "add", "remove", "toggle")
SORTS = {"typical": "typical first", "p": "p, high first", "similar": "like one picture", "value": "value of the cluster, high first",
         "blur": "blurred first", "dark": "dark first", "name": "name"}
MEASURED = ("blur", "dark")  # orders that look at the pictures themselves


def _change(mask: np.ndarray, rows: Sequence[int] | np.ndarray, how: str) -> np.ndarray:
    "A mask after `rows` were set, added, removed or toggled; the mask itself stays as it is."
    if how not in WAYS:
        raise DataError(f"how='{how}': say one of {', '.join(WAYS)}")
    changed = np.zeros_like(mask) if how == "set" else mask.copy()
    rows = np.asarray(rows, np.int64)
    changed[rows] = ~changed[rows] if how == "toggle" else how != "remove"
    return changed


@dataclass
class Grid:
    "Selection, filter, order, marks and cursor. The selection (nothing selected: everything), filtered and sorted, is what it shows."
    rows: Rows
    words: str = ""  # the filter
    sort: str = "typical"
    like: int = -1  # the row that others are compared with
    cursor: int = -1  # the row that single keys act on
    anchor: int = -1  # where a range of marks begins

    def __post_init__(self) -> None:
        self.selected, self.marked = np.zeros((2, len(self.rows)), bool)
        self.value = np.full(len(self.rows), np.nan, np.float32)  # of each row's cluster; the strip writes it
        self.refresh()

    def refresh(self) -> None:
        "Filter and sort again, when it is asked next; marks of what is no longer shown go."
        self.held: np.ndarray | None = None
        self.passes: np.ndarray | None = None

    # -- selecting --
    def select(self, rows: Sequence[int] | np.ndarray, how: str = "set") -> int:
        "Select rows; returns how many are selected now. What was marked is marked no longer."
        self.selected, self.held = _change(self.selected, rows, how), None
        self.cursor = -1 if how == "set" else self.cursor
        self.unmark()
        return int(self.selected.sum())

    def select_all(self) -> int:
        "Select all that the filter lets through."
        return self.select(np.flatnonzero(self.passing()))

    # -- filter and order --
    def passing(self) -> np.ndarray:
        "Which rows the filter lets through, bool `[n]`."
        if self.passes is None:
            self.passes = self._passing(self.words.casefold().split())
        return self.passes

    def _passing(self, words: Sequence[str]) -> np.ndarray:
        if not words:
            return np.ones(len(self.rows), bool)
        names = [cluster.name for cluster in self.rows.manifest.clusters] + [""]
        return np.array([all(holds(word, id, self.rows.manifest.images[id], names[place]) for word in words)
                         for id, place in zip(self.rows.ids, self.rows.cluster)], bool)

    def filter(self, words: str) -> int:
        "Show only what all of these words hold for; refuses, and names, a word that holds for nothing. Returns how many are shown."
        self.words = words
        self.refresh()
        lost = next((word for word in words.casefold().split() if not self._passing([word]).any()), None)
        if lost is not None:
            raise DataError(f"nothing passes '{lost}'; a word is part of a name, or one of {FILTERS}")
        return len(self.shown())

    def order(self, sort: str, like: int = -1) -> None:
        "Choose an order; `like`: the row that others are compared with, by default the cursor's or the first shown."
        if sort not in SORTS:
            raise DataError(f"sort='{sort}': say one of {', '.join(SORTS)}")
        if sort == "similar":
            shown = self.shown()
            self.like = like if like >= 0 else self.cursor if self.cursor >= 0 else int(shown[0]) if len(shown) else -1
        self.sort, self.held = sort, None

    def keys(self) -> np.ndarray:
        "What rows are sorted by, smallest first, float32 `[n]`."
        rows = self.rows
        if self.sort == "similar" and self.like >= 0:
            return rows.unlike(self.like)
        found: dict[str, np.ndarray] = {"p": -rows.p, "value": -self.value, "blur": -rows.blur, "dark": -rows.dark,
                                        "name": np.zeros(len(rows))}
        return found.get(self.sort, rows.far)

    def shown(self) -> np.ndarray:
        "The rows that are shown, in order. The cursor is always on one of them, and marks are only on them."
        if self.held is None:
            found = np.flatnonzero(self.passing() & (self.selected if self.selected.any() else True))
            names = np.array(self.rows.ids)[found] if self.sort == "name" else found
            self.held = found[np.lexsort((names, self.keys()[found]))]  # NaN comes last
            there = np.isin(np.arange(len(self.rows)), self.held)
            self.marked &= there
            if self.cursor < 0 or not there[self.cursor]:
                self.cursor = int(self.held[0]) if len(self.held) else -1
        return self.held

    def shows(self, row: int) -> bool:
        "Whether a row is shown."
        return row >= 0 and bool((self.shown() == row).any())

    def window(self, first: int, count: int) -> list[int]:
        "So many of the rows that are shown, from the first on."
        return self.shown()[max(0, first):max(0, first) + count].tolist()

    def unmeasured(self) -> np.ndarray:
        "Rows that are shown and whose blur and darkness nobody has looked at yet, if the order needs them."
        shown = self.shown()
        return shown[np.isnan(self.rows.blur[shown])] if self.sort in MEASURED else shown[:0]

    # -- the cursor, and marks one by one --
    def place(self) -> int:
        "Where the cursor's row stands among those shown, or -1."
        found = np.flatnonzero(self.shown() == self.cursor)
        return int(found[0]) if len(found) else -1

    def move(self, by: int, extend: bool = False) -> int:
        "Move the cursor, never beyond the ends; `extend`: mark all on the way. Returns its row."
        shown, place = self.shown(), self.place()
        if not len(shown):
            return -1
        if extend and self.anchor < 0:
            self.anchor = self.cursor
        self.cursor = int(shown[min(max(0, place + by), len(shown) - 1)])
        if extend:
            self.mark(self.cursor, "range")
        return self.cursor

    def mark(self, row: int, how: str = "toggle") -> None:
        "Mark a row, or unmark it; 'range': all from the last one touched to it. The cursor goes there."
        if not self.shows(row):
            return
        if how == "range" and self.shows(self.anchor):
            shown = self.shown()
            ends = sorted(int(np.flatnonzero(shown == one)[0]) for one in (self.anchor, row))
            self.marked = _change(self.marked, shown[ends[0]:ends[1] + 1], "add")
        else:
            self.marked, self.anchor = _change(self.marked, [row], "toggle" if how == "range" else how), row
        self.cursor = row

    def unmark(self) -> None:
        "Mark nothing."
        self.marked, self.anchor = np.zeros(len(self.rows), bool), -1

    # -- what buttons and keys act on --
    def targets(self) -> list[int]:
        "What the buttons act on: what is marked, or else the selection as far as it is shown; nothing if nothing is selected."
        shown = self.shown()
        if self.marked.any():
            return shown[self.marked[shown]].tolist()
        return shown.tolist() if self.selected.any() else []

    def single(self) -> list[int]:
        "What the small keys act on: what is marked, or else the picture of the cursor."
        if len(self.shown()) and not self.marked.any():
            return [self.cursor]
        return self.targets()

    def step_past(self, rows: Sequence[int], place: int) -> bool:
        "After `rows`, of which the last stood at `place`, were decided: the cursor on the next one; False at the end."
        shown = self.shown()
        after = place + 1 if self.shows(rows[-1]) else max(0, place + 1 - len(rows))  # else the filter has let them go
        self.unmark()
        if after < len(shown):
            self.cursor = int(shown[after])
            return True
        self.cursor = int(shown[-1]) if len(shown) else -1
        return False
