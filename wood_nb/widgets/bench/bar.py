"""The bar of the workbench: decisions by a person, through the manifest, there and back, with the seconds they take"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from ...base.files import DataError
from ...ood.candidates import DECISIONS, is_person
from .rows import Rows

UNNAMED = "write your name into the field 'by' first; auto: and file: are for rules"


@dataclass
class Message:
    "The line that says what has happened, or why it has not."
    text: str = ""
    bad: bool = False

    def say(self, text: str, bad: bool = False) -> None:
        "Say something, instead of what was said before."
        self.text, self.bad = text, bad


@dataclass
class Bar:
    "Keep, drop, undecided, undo, redo. Whatever changes is in the manifest; the return values say which pictures these are."
    rows: Rows
    by: str = ""
    contains: list[str] | None = None  # what dropped pictures contain: None is as predicted, picture by picture
    advance: bool = True  # after a decision, to the next picture or cluster
    brush: str = ""  # what a click on a picture decides, drop or keep; nothing: it marks
    cap: float = 60.0  # seconds; who takes longer went for coffee
    clock: Callable[[], float] = time.monotonic
    seconds: list[float] = field(default_factory=list)  # of each decision of this sitting, per picture

    def __post_init__(self) -> None:
        self.since = self.clock()

    def person(self) -> str:
        "Whose decisions these are."
        if not self.by.strip() or not is_person(self.by.strip()):
            raise DataError(UNNAMED)
        return self.by.strip()

    def spent(self, pictures: int) -> float:
        "Seconds since the last decision, at most `cap`; the clock starts again."
        before, self.since = self.since, self.clock()
        seconds = round(min(max(0.0, self.since - before), self.cap), 3)
        self.seconds.append(seconds / max(1, pictures))
        return seconds

    def _held(self, id: str, decision: str, contains: Sequence[str] | None) -> list[str]:
        "What a picture is said to contain."
        if decision != "drop":
            return []
        said = self.contains if contains is None else contains
        return [self.rows.manifest.images[id].predicted] if said is None else list(said)

    def decide(self, rows: Sequence[int], decision: str, contains: Sequence[str] | None = None, cluster: int | None = None) -> list[str]:
        "One decision for these rows, and for `cluster` if they are the whole of it; `contains`: instead of the bar's. Returns the ids."
        manifest, person = self.rows.manifest, self.person()
        ids = [self.rows.ids[row] for row in rows]
        whole = manifest.cluster(cluster) if cluster is not None else None
        if whole is not None:
            ids += [id for id in whole.members if id not in self.rows.land.row]  # without features, but of the cluster
        before = whole.to_json() if whole is not None else None
        manifest.decide_each({id: (decision, self._held(id, decision, contains), "") for id in ids}, person, self.spent(len(ids)))
        if whole is not None:
            whole.decision = decision
            manifest.history[-1]["clusters"] = [[cluster, before, whole.to_json()]]
        self.rows.read(ids)
        return ids

    def _step(self, entry: dict | None, word: str) -> dict:
        "What undo and redo share."
        if entry is None:
            raise DataError(f"there is nothing to {word}")
        self.since = self.clock()
        self.rows.read(change[0] for change in entry["changes"])
        return entry

    def undo(self) -> dict:
        "Take back the last step; returns its entry in the history."
        return self._step(self.rows.manifest.undo(), "undo")

    def redo(self) -> dict:
        "Do again what was undone last; returns its entry in the history."
        return self._step(self.rows.manifest.redo(), "redo")

    def report(self) -> str:
        "Progress, and the median seconds of a decision of this sitting."
        decided = int((self.rows.decision != DECISIONS.index("undecided")).sum())
        pace = f", {median(self.seconds):.2g} s each" if self.seconds else ""
        return f"{decided:,} of {len(self.rows):,} decided{pace}"
