"""The cluster explorer: the workbench, with a method for each of its buttons"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..ood.manifest import Manifest
from ..runs.run import Run
from .bench.workbench import Workbench, of_run


class ClusterExplorer(Workbench):
    "`Workbench` with what its buttons do as methods; each returns whether it was done, and says in `bench.message` why not."

    def select(self, ids: Sequence[str]) -> bool:
        "Select pictures by id."
        return self.do("select", rows=self.bench.rows.of(ids))

    def focus_cluster(self, id: int) -> bool:
        "Select a cluster."
        return self.do("go", cluster=id)

    def next_cluster(self) -> bool:
        return self.do("step_cluster", by=1)

    def previous_cluster(self) -> bool:
        return self.do("step_cluster", by=-1)

    def clear(self) -> bool:
        "Select nothing, and mark nothing."
        return self.do("select", rows=[])

    def mark_place(self, n: int) -> bool:
        "Mark the picture at place `n` of the grid, or unmark it."
        return self.do("mark", row=self.bench.grid.window(n, 1)[0])

    def decide(self, decision: str, contains: Sequence[str] | None = None) -> bool:
        "One decision for what is marked, or else for the selection; the whole of a cluster is decided as a cluster."
        return self.do("decide", decision=decision, contains=contains)

    def keep(self) -> bool:
        return self.decide("keep")

    def drop(self) -> bool:
        return self.decide("drop")

    def filter(self, words: str) -> bool:
        "Show only what these words hold for."
        return self.do("filter", words=words)

    def undo(self) -> bool:
        return self.do("undo")

    def redo(self) -> bool:
        return self.do("redo")


def explore(run: Run, manifest: Manifest | str | Path | None = None, **options: Any) -> ClusterExplorer:
    "The explorer of a run's candidates; what is decided goes into its manifest (or into `manifest`)."
    return of_run(ClusterExplorer, run, manifest, **options)
