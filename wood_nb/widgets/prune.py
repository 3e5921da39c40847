"""Pruning by hand: the workbench's grid of one class, without map and clusters; a click drops, and the rest is kept"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.splits import Split
from ..ood.candidates import pool_root
from ..ood.manifest import Manifest
from .bench.land import listed
from .bench.shots import Thumbnails
from .bench.state import Bench
from .bench.workbench import Workbench
from .parts import user_name

UNFLAGGED = "-flag:duplicate -flag:leak"  # a filter: neither needs a decision


def pruning(manifest: Manifest, root: str | Path, by: str = "", name: str | None = None, flagged: bool = False, brush: str = "drop",
            **options: Any) -> Bench:
    """A sitting over the candidates of one class, highest p first, without a page. `name`: the class, by default the one with most
    candidates; `flagged`: duplicates and leaks, too; `brush`: what a click decides, 'drop' or 'keep'; options are those of `Bar`."""
    bench = Bench(manifest, listed(manifest), root, by, brush=brush, **options)
    bench.mode = "grid"
    bench.map.paint("class")
    bench.grid.order("p")
    bench.filter("" if flagged else UNFLAGGED)
    bench.show_class(name or max(manifest.classes, key=lambda each: len(manifest.ranked(each))))
    bench.message.say("")
    return bench


class PruneGrid(Workbench):
    """Prune a manifest by hand. `manifest`: a `Manifest` or its file; `pool`: its pictures; `by`: your name; `path`: where to save, by
    default its file; `per_page`: how many pictures `on_page` holds, for use from Python (the page scrolls); `side`: pixels of a
    thumbnail; options are those of `pruning`."""

    def __init__(self, manifest: Manifest | str | Path, pool: Split, by: str | None = None, path: str | Path | None = None,
                 name: str | None = None, per_page: int = 24, side: int = 176, **options: Any):
        manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest, pool)
        self.per_page, self.page = per_page, 0
        bench = pruning(manifest, pool_root(pool), user_name() if by is None else by, name, **options)
        self.open(bench, Thumbnails(pool_root(pool), side=side), path)

    # -- a page of it, and what a click does; all of it can be called from Python --
    @property
    def on_page(self) -> list[str]:
        "The ids of the pictures of this page."
        return [self.bench.rows.ids[row] for row in self.bench.grid.window(self.page * self.per_page, self.per_page)]

    def turn(self, pages: int) -> None:
        "Forward, or back if negative, never beyond the ends."
        last = max(0, len(self.bench.grid.shown()) - 1) // self.per_page
        self.page = min(max(0, self.page + pages), last)
        self.do("move", by=self.page * self.per_page - self.bench.grid.place())

    def show_class(self, name: str) -> bool:
        "Go to the first page of another class."
        self.page = 0
        return self.do("show_class", name=name)

    def click(self, id: str) -> bool:
        "Apply the brush to a picture; what has its decision already becomes undecided."
        return self.do("click", row=self.bench.rows.land.row.get(id, -1))

    def click_place(self, n: int) -> bool:
        "Apply the brush to the picture at place `n` of the page."
        return n < len(self.on_page) and self.click(self.on_page[n])

    def keep_rest(self) -> bool:
        "Keep what is still undecided on this page."
        return self.do("keep_rest", first=self.page * self.per_page, count=self.per_page)

    def undo(self) -> bool:
        "Take back the last step, and go to the page where it happened."
        return self._go_there(self.do("undo"))

    def redo(self) -> bool:
        "Do again what was undone last, and go to the page where it happened."
        return self._go_there(self.do("redo"))

    def _go_there(self, done: bool) -> bool:
        self.page = max(0, self.bench.grid.place()) // self.per_page
        return done
