"""What a run has to show: its scores, the pairs that may be compared, its curves, and what came after the seeds"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.files import DataError, read_json, read_text
from ..base.schema import TEXT, number, record
from ..data.splits import Split
from ..maps.cam import Maps
from ..maps.methods import CAM, TRUTH, method_name
from ..ood.features import FeatureStore
from ..ood.manifest import Manifest
from ..scores.bootstrap import Interval, bootstrap_difference, pair_counts, read_counts
from ..scores.context import Contexts
from ..scores.rows import step_name


@dataclass
class ReportData:
    "What a run has to show."
    name: str
    note: dict  # run.json
    results: list[dict]  # rows of metrics.json
    path: Path  # the run folder
    split: Split  # the split whose pictures are shown
    maps: dict[str, dict[str, Maps]] = field(default_factory=dict)  # method -> image id -> maps of that split
    logs: dict[str, list[dict]] = field(default_factory=dict)  # stage -> lines of train.jsonl
    pool: Split | None = None
    manifest: Manifest | None = None
    features: FeatureStore | None = None  # of the OoD pictures
    inside: FeatureStore | None = None  # of the training images
    inside_split: Split | None = None
    contexts: Contexts | None = None  # what lies around the objects of `split`

    @property
    def config(self) -> dict:
        return self.note.get("config", {})

    @property
    def others(self) -> str:
        "What the run does with pixels of classes outside of it."
        return self.config.get("others", "ignore")


BASELINE = CAM
_SAME = ("stage", "split", "seed", "crf", "other_classes", "measured")  # what rows must share to be compared


class Pair(NamedTuple):
    "A row and its baseline, and the bootstrap interval of their difference if there is one."
    baseline: dict
    other: dict
    interval: Interval | None

    @property
    def points(self) -> float:
        "The difference in mIoU, in points."
        return self.other["miou"] - self.baseline["miou"]


def label_of(row: Mapping[str, Any]) -> str:
    "The name of a row's method."
    return method_name(row["method"])


def is_own(data: ReportData, row: Mapping[str, Any]) -> bool:
    "Whether a row treats other classes as the run itself does."
    return row.get("other_classes", data.others) == data.others


def scored(data: ReportData) -> list[dict]:
    "The rows that have a score, those with the run's own treatment of other classes first."
    return sorted((row for row in data.results if row.get("miou") is not None), key=lambda row: not is_own(data, row))


def seed_rows(data: ReportData) -> list[dict]:
    "Those of them that are about seeds, not about masks made later."
    return [row for row in scored(data) if row.get("stage", "seed") == "seed"]


def counts_of(data: ReportData, row: Mapping[str, Any]) -> tuple[list[str], np.ndarray] | None:
    "Ids and per-image triples `[n, C + 1, 3]` of a row, if they are there and at its threshold."
    path = data.path / "eval" / f"{row['method']}-{row['split']}.npz"
    if row.get("stage", "seed") != "seed" or not is_own(data, row) or not path.is_file():
        return None
    ids, counts, threshold = read_counts(path)
    fits = row.get("threshold") is None or math.isclose(threshold, row["threshold"], abs_tol=1e-9)
    return (ids, counts) if fits and counts.shape[1] == len(row["per_class"]) else None


def _interval_of(data: ReportData, baseline: dict, other: dict) -> Interval | None:
    "The paired bootstrap interval of `other` minus `baseline` over the images they share."
    theirs, ours = counts_of(data, baseline), counts_of(data, other)
    if theirs is None or ours is None or set(theirs[0]).isdisjoint(ours[0]):
        return None
    _, first, second = pair_counts(*ours, *theirs)
    return bootstrap_difference(first, second, names=list(other["per_class"]))


def find_pairs(data: ReportData) -> list[Pair]:
    "Every method beside its baseline."
    def same(row: dict) -> tuple:
        return tuple(row.get(key) for key in _SAME)
    rows = seed_rows(data)
    first = {same(row): row for row in reversed(rows) if row["method"] == BASELINE}
    return [Pair(first[same(row)], row, _interval_of(data, first[same(row)], row))
            for row in rows if row["method"] != BASELINE and same(row) in first]


_CURVE = record({"split": TEXT, "method": TEXT, "threshold": number(0, 1), "miou": number(0, 100)})


def read_curves(path: Path) -> dict[str, dict[str, np.ndarray]]:
    "`curves.csv` as split -> method -> thresholds and mIoU, float `[2, T]`; nothing if there is no such file."
    lines: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    again = "delete it and run the stage 'seeds' again"
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""))) if path.is_file() else []
    except csv.Error as error:
        raise DataError(f"{path}: not a readable CSV ({error}); {again}") from None
    for n, row in enumerate(rows, 2):
        try:
            values = {"split": row["split"], "method": row["method"], "threshold": float(row["threshold"]), "miou": float(row["miou"] or 0)}
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{path}, line {n}: not a line of a curve; {again}") from None
        if fault := _CURVE(values, ""):
            raise DataError(f"{path}, line {n}: {fault}; {again}")
        lines[row["split"]][row["method"]].append((values["threshold"], values["miou"] if row["miou"] else math.nan))
    return {split: {method: np.array(sorted(points)).T for method, points in methods.items()}
            for split, methods in lines.items()}


LATER = {"mask": "Pseudo masks", "segmentation": "Final segmentation, by what the network was trained on"}


def later_rows(data: ReportData, stage: str) -> list[dict]:
    "Rows of a later stage on the split that is shown, or on its beginning, as in `val[:100]`."
    own = data.split.name
    return [row for row in scored(data) if row.get("stage") == stage and is_own(data, row)
            and (row["split"] == own or row["split"].startswith(f"{own}["))]


def with_networks(rows: Sequence[dict]) -> dict[str, dict]:
    "Rows by what was done, and by the segmentation network where there are several."
    several = len({row.get("network") for row in rows}) > 1
    return {step_name(row) + (f", {row.get('network')}" if several else ""): row for row in rows}


def evaluations(data: ReportData) -> dict[str, dict]:
    "What is known of each final segmentation of the split shown, by what was done."
    files = sorted((data.path / "segmentation").glob(f"*/masks*/{data.split.name}/evaluation.json"))
    notes = [read_json(file, "wood_nb.evaluation") for file in files]
    return with_networks(sorted(notes, key=lambda note: note["method"] == TRUTH))  # the ceiling comes last
