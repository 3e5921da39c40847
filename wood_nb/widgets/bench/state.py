"""The workbench without a screen: seven parts that share one set of rows, and what happens between them"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...base.files import DataError
from ...ood.candidates import DECISIONS
from ...ood.manifest import Manifest
from .land import Landscape, split_members
from .bar import Bar, Message
from .grid import Grid
from .map import Map
from .rows import Rows
from .strip import Strip
from .viewer import Viewer
from .wipe import Wipe

_CHOICES = {"brush": ("", "drop", "keep"), "mode": ("all", "grid")}
_DONE = {"keep": "kept", "drop": "dropped", "undecided": "undecided again"}


class Bench:
    """Map, strip, grid, viewer, wipe, bar and message over one manifest. Each part can be asked by itself; `do(...)` does what the
    page asks for, brings the parts together, and says what has happened. `on_decision(call)`: `call(ids)` follows every change."""

    def __init__(self, manifest: Manifest, land: Landscape, root: str | Path, by: str = "", **options: Any):
        self.manifest, self.rows = manifest, Rows(manifest, land, Path(root))
        self.map, self.strip, self.grid = Map(self.rows), Strip(self.rows), Grid(self.rows)
        self.viewer, self.bar, self.message = Viewer(self.rows, self.grid), Bar(self.rows, by, **options), Message()
        self.wipe, self.mode = Wipe(), "all"  # or "grid": without map and clusters
        self.listeners: list[Callable[[list[str]], Any]] = []
        self.strip.describe()

    # -- hooks for others: what each cluster is worth, and what follows a decision --
    def on_decision(self, call: Callable[[list[str]], Any]) -> None:
        "Call `call(ids)` after every decision, undo and redo, with the ids of the pictures that it changed."
        self.listeners.append(call)

    def set_values(self, values: Mapping[int, float], name: str = "value") -> None:
        "What the clusters are worth, by id: shown in the strip, and an order of strip and grid."
        self.strip.set_values(values, name)
        self.grid.value = self.strip.row_values()
        self.grid.held = None

    def reread(self) -> None:
        "Read everything again from the manifest, after others have changed it."
        self.rows.read()
        self._regrouped()

    def _regrouped(self) -> None:
        "After a change of the clusters."
        self.rows.regroup()
        known = {cluster.id for cluster in self.manifest.clusters}
        self.strip.value = {id: value for id, value in self.strip.value.items() if id in known}
        self.strip.describe()
        self.grid.value = self.strip.row_values()
        if self.strip.focus not in known:
            self.strip.focus = None
        self.grid.refresh()

    def _changed(self, ids: list[str]) -> None:
        "After a change of decisions: what the filter lets through may differ, and listeners hear of it."
        if self.grid.words.strip():
            self.grid.refresh()
        for call in self.listeners:
            call(ids)

    # -- selecting: on the map, by cluster, by filter --
    def select(self, rows: Sequence[int] | np.ndarray, how: str = "set") -> None:
        "Select rows, by whatever means they were found."
        n = self.grid.select(rows, how)
        self.strip.focus = None
        hidden = n - len(self.grid.shown())
        also = f", of which the filter hides {hidden:,}" * (hidden > 0)
        self.message.say(f"{n:,} selected{also}" if n else "nothing selected: all are shown")

    def lasso(self, outline: Sequence[Sequence[float]], how: str = "set") -> None:
        "Select what lies inside a closed line on the map, as far as the filter lets it through."
        self.select([row for row in self.map.lasso(outline).tolist() if self.grid.passing()[row]], how)

    def box(self, corners: Sequence[float], how: str = "set") -> None:
        "Select what lies inside a box (left, low, right, high) on the map, as far as the filter lets it through."
        self.select([row for row in self.map.box(*corners).tolist() if self.grid.passing()[row]], how)

    def entry(self, label: int, how: str = "set") -> None:
        "Select the pictures of one line of the legend."
        if self.map.colour == "cluster" and how == "set" and label < len(self.manifest.clusters):
            return self.go(self.manifest.clusters[label].id)
        return self.select(self.map.entry(label), how)

    def show_class(self, name: str) -> None:
        "Select all that is taken for one class."
        if name not in self.manifest.classes:
            raise DataError(f"there is no class '{name}'; there are {', '.join(self.manifest.classes)}")
        self.select(np.flatnonzero(self.rows.predicted == self.manifest.classes.index(name)))

    def select_all(self) -> None:
        "Select all that the filter lets through."
        self.select(np.flatnonzero(self.grid.passing()))

    def clear(self) -> None:
        "Unmark; if nothing is marked, select nothing."
        if self.grid.marked.any():
            return self.grid.unmark()
        return self.select([])

    def go(self, cluster: int, how: str = "set") -> None:
        "Select a cluster, and keep it in focus."
        members = self.strip.members(cluster)
        self.select(members, how)
        if how == "set":
            self.strip.focus = cluster
            self.message.say(f"{self.manifest.cluster(cluster).name}: {len(members):,} pictures")

    def step_cluster(self, by: int = 1) -> None:
        "To the next cluster of the strip, or the one before."
        if (id := self.strip.beside(by)) is not None:
            self.go(id)

    # -- filter, order, colours, layout --
    def filter(self, words: str) -> None:
        "Show only what the words hold for."
        n = self.grid.filter(words)
        self.message.say(f"{n:,} shown" if words.strip() else "")

    def sort(self, sort: str, row: int = -1) -> None:
        "Choose the order of the grid; `row`: the picture that others are compared with."
        self.grid.order(sort, row)
        if sort == "similar" and self.grid.like >= 0:
            self.message.say(f"sorted by likeness to {self.rows.ids[self.grid.like]}")
        if sort == "value" and not self.strip.value:
            self.message.say("no cluster has a value yet: give them with set_values", bad=True)

    def measure(self, most: int | None = None) -> int:
        "Look at pictures whose blur and darkness the order needs; at most so many. Returns how many are left."
        left = self.grid.unmeasured()
        self.rows.measure(left[:most].tolist())
        if len(left):
            self.grid.held = None
        return max(0, len(left) - (len(left) if most is None else most))

    # -- cursor and marks --
    def move(self, by: int, extend: bool = False) -> None:
        "Move the cursor by so many pictures."
        self.grid.move(by, extend)

    def mark(self, row: int, how: str = "toggle") -> None:
        "Mark a picture, or unmark it; 'range': all from the last one."
        self.grid.mark(row if row >= 0 else self.grid.cursor, how)

    def click(self, row: int, how: str = "toggle") -> None:
        """What a click on a picture does: it marks; or the brush decides, and a second click takes that back. 'range' always marks;
        'back' is the second half of a double click, which takes back what the first one did."""
        if how == "back":
            return self._click_back(row) if self.bar.brush else self.mark(row)
        if not self.bar.brush or how == "range":
            return self.mark(row, how)
        if not self.grid.shows(row):
            raise DataError("that picture is not shown: choose its class, or change the filter")
        self.grid.cursor = row
        known = DECISIONS[self.rows.decision[row]]
        self._decide_rows([row], "undecided" if known == self.bar.brush else self.bar.brush)

    def _click_back(self, row: int) -> None:
        "Take back what the brush has just decided for a picture."
        self.bar.person()  # without a name it has decided nothing
        changed = [change[0] for change in self.manifest.history[-1]["changes"]] if self.manifest.history else []
        if changed == [self.rows.ids[row]]:
            self.undo()

    # -- deciding --
    def targets(self, what: str = "all") -> list[int]:
        "The rows that a decision acts on: 'all' is what the buttons name, 'single' what the small keys act on."
        if self.wipe.large:
            return []
        if self.viewer.open:
            return [self.viewer.row]
        return self.grid.single() if what == "single" else self.grid.targets()

    def decide(self, decision: str, what: str = "all", contains: Sequence[str] | None = None) -> None:
        "One decision for the targets; then on, if the bar says so."
        rows = self.targets(what)
        if self.wipe.large:
            raise DataError("a pinned picture is only looked at: go back (Escape) to decide")
        if not rows:
            raise DataError("nothing is selected: draw a lasso, choose a cluster, or click a picture")
        place = int(np.flatnonzero(self.grid.shown() == rows[-1])[0])
        whole = self.strip.focus
        if whole is not None and not (self.grid.selected.sum() == len(rows) and np.array_equal(np.sort(rows), self.strip.members(whole))):
            whole = None
        self._decide_rows(rows, decision, contains, whole)
        if self.bar.advance:
            self._advance(rows, place, what, whole)

    def _decide_rows(self, rows: Sequence[int], decision: str, contains: Sequence[str] | None = None, whole: int | None = None) -> None:
        "One decision for these rows; it is said, and listeners hear of it."
        ids = self.bar.decide(rows, decision, contains, whole)
        self._say_decided(ids, decision)
        self._changed(ids)

    def keep_rest(self, first: int = 0, count: int | None = None) -> None:
        "Keep what is still undecided among so many of the pictures shown, by default all; then on to the one after them."
        shown, last = self.grid.shown(), None if count is None else first + count
        rows = [row for row in shown[first:last].tolist() if DECISIONS[self.rows.decision[row]] == "undecided"]
        if not rows:
            raise DataError("nothing is left to keep here")
        self._decide_rows(rows, "keep")
        if self.bar.advance and last is not None:
            self.grid.move(min(last, len(shown) - 1) - self.grid.place())

    def _say_decided(self, ids: Sequence[str], decision: str) -> None:
        held = sorted({name for id in ids for name in self.manifest.images[id].contains})
        also = f" as {', '.join(held[:3])}{' ...' * (len(held) > 3)}" if held else ""
        self.message.say(f"{f'{len(ids):,} pictures' if len(ids) > 1 else ids[0]} {_DONE[decision]}{also}; z takes it back")

    def _advance(self, rows: Sequence[int], place: int, what: str, whole: int | None) -> None:
        "After a decision: to the next picture, or after a whole cluster to the next one that has something to decide."
        single = what == "single" or self.viewer.open
        if whole is not None and not single:
            following, said = self.strip.beside(1, undecided=True), self.message.text
            if following is not None and following != whole:
                self.go(following)
                self.message.say(f"{said}. Next: {self.manifest.cluster(following).name}")
        elif single and not self.grid.step_past(rows, place):
            self.message.say(f"{self.message.text}. That was the last one here")

    def undo(self) -> None:
        "Take back the last step, and go where it happened."
        self._settle(self.bar.undo(), "taken back")

    def redo(self) -> None:
        "Do again what was undone last."
        self._settle(self.bar.redo(), "done again")

    def _settle(self, entry: dict, word: str) -> None:
        ids = [change[0] for change in entry["changes"] if change[0] in self.manifest.images]
        groups = [change[0] for change in entry.get("clusters", []) if self.rows.place_of(change[0]) >= 0]
        if entry.get("clusters"):
            self._regrouped()
        self._changed(ids)
        if groups:
            self.go(groups[0])
        elif len(rows := self.rows.of(ids)):
            self._reveal(rows)
        what = f"{len(ids):,} decisions" if len(ids) > 1 else ids[0] if ids else "a change of the clusters"
        self.message.say(f"{word}: {what}")

    def _reveal(self, rows: Sequence[int] | np.ndarray) -> None:
        "The cursor on the first of these rows; if others are selected, its cluster or class is now."
        row = int(rows[0])
        if self.grid.selected.any() and not self.grid.selected[row]:
            cluster = self.rows.cluster_of(row)
            if self.mode == "grid":
                self.show_class(self.rows.candidate(row).predicted)
            elif cluster is not None:
                self.go(cluster.id)
        if self.grid.shows(row):
            self.grid.cursor = row

    # -- clusters: names, merges, splits --
    def _focused(self) -> int:
        if self.strip.focus is None:
            raise DataError("no cluster is chosen: click one in the strip, or press ]")
        return self.strip.focus

    def rename(self, name: str) -> None:
        "Name the cluster in focus."
        if not name.strip():
            raise DataError("a cluster needs a name: write one")
        self.manifest.rename_cluster(self._focused(), name.strip(), self.bar.person())
        self._regrouped()

    def merge(self, others: Sequence[int]) -> None:
        "Take other clusters into the one in focus."
        into = self._focused()
        self.manifest.merge_clusters(into, list(others), self.bar.person())
        self._regrouped()
        self.go(into)

    def split(self, parts: int = 2) -> None:
        "K-means within the cluster in focus; the largest part keeps its number."
        id = self._focused()
        groups = split_members(self.rows.land, self.manifest.cluster(id), parts)
        self.manifest.split_cluster(id, groups, self.bar.person())
        self._regrouped()
        self.go(id)

    # -- whatever the page asks for --
    def set(self, name: str, value: Any) -> None:
        "Change 'by', 'contains', 'advance', 'brush', 'mode', 'colour', 'layout' or 'strip' (the order of the clusters)."
        others = {"colour": self.map.paint, "layout": self.map.lay_out, "strip": self.strip.sort}
        if name in others:
            others[name](value)
        elif name in ("by", "contains", "advance"):
            setattr(self.bar, name, value)
        elif value in _CHOICES.get(name, ()):
            setattr(self if name == "mode" else self.bar, name, value)
        else:
            raise DataError(f"'{name}' cannot be set to {value!r} here")

    ACTIONS = ("select", "lasso", "box", "entry", "select_all", "clear", "go", "step_cluster", "filter", "sort", "move", "mark", "decide",
               "undo", "redo", "rename", "merge", "split", "set", "show", "close_viewer", "measure", "compare", "drag", "flicker",
               "enlarge", "overlay", "click", "keep_rest", "show_class")
    CHANGES = ("decide", "click", "keep_rest", "undo", "redo", "rename", "merge", "split")  # of these, those that change the manifest

    def show(self, row: int = -1) -> None:
        "A picture as large as the screen."
        self.wipe.large = ""
        self.viewer.show(row)

    def close_viewer(self) -> None:
        "Back to the grid."
        self.wipe.large = ""
        self.viewer.close()

    # -- two maps of one picture --
    def compare(self, left: str = "", right: str = "") -> None:
        "Choose the maps left and right of the divider."
        self.wipe.choose(left, right)

    def drag(self, at: float) -> None:
        "Put the divider somewhere, from 0 to 1."
        self.wipe.drag(at)

    def flicker(self, show: str = "") -> None:
        "One of the two maps whole, or 'both' again."
        self.wipe.flicker(show)

    def enlarge(self, id: str = "", by: int = 0) -> None:
        "A pinned picture as large as the screen."
        self.wipe.enlarge(id, by)
        self.viewer.close()

    def overlay(self, on: bool | None = None) -> None:
        "Lay maps over the picture in the viewer, or take them off."
        if not self.wipe.names:
            raise DataError("there are no maps: open the workbench with live=True")
        self.viewer.maps = not self.viewer.maps if on is None else on

    def do(self, action: str, **how: Any) -> bool:
        "Do one of `ACTIONS`; what is refused is said in the message, and False."
        if action not in self.ACTIONS:
            raise DataError(f"'{action}' is nothing that the workbench does")
        try:
            getattr(self, action)(**how)
        except DataError as error:
            self.message.say(str(error), bad=True)
            return False
        return True

    # -- what the page shows --
    def flags(self) -> np.ndarray:
        "A byte for each point: 1 selected, 2 hidden by the filter, 4 marked, 8 times the decision, 32 a duplicate, 64 a leak."
        rows, others = self.rows, len(self.rows.land.kind) - len(self.rows)
        found = self.grid.selected + 2 * ~self.grid.passing() + 4 * self.grid.marked + 8 * rows.decision + 32 * rows.flagged
        return np.concatenate([found, np.full(others, 2 * bool(self.grid.words.strip()))]).astype(np.uint8)

    def state(self) -> dict[str, Any]:
        "What is small enough for words: counts, names, the message, the options chosen."
        grid, bar = self.grid, self.bar
        shown, targets = len(grid.shown()), self.targets()
        return {"shown": shown, "selected": int(grid.selected.sum()), "marked": int(grid.marked.sum()), "targets": len(targets),
                "cursor": grid.cursor, "place": grid.place(), "words": grid.words, "sort": grid.sort, "like": grid.like, "by": bar.by,
                "contains": bar.contains, "advance": bar.advance, "brush": bar.brush, "mode": self.mode, "colour": self.map.colour,
                "layout": self.map.method,
                "strip": self.strip.order, "focus": self.strip.focus, "value_name": self.strip.value_name, "report": bar.report(),
                "decided": int((self.rows.decision != DECISIONS.index("undecided")).sum()), "undo": len(self.manifest.history),
                "redo": len(self.manifest.undone), "message": self.message.text, "bad": self.message.bad, "viewer": self.viewer.row,
                "unmeasured": len(grid.unmeasured()), "wipe": self.wipe.state(), "maps": self.viewer.maps,
                "facts": self.viewer.facts(self.viewer.row) if self.viewer.row >= 0 else []}
