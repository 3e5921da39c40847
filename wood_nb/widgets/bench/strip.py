"""The strip of clusters: colour and shape, size, decision, nearest class, value; from one cluster to the next"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...base.files import DataError
from ...ood.candidates import DECISIONS
from .rows import Rows

PALETTE = ("#44aa99", "#cc6677", "#332288", "#ddcc77", "#88ccee", "#aa4499", "#117733", "#999933", "#882255")  # Tol's, for all eyes
SHAPES = ("dot", "square", "triangle", "diamond", "bar")
STRIP_ORDERS = {"size": "largest first", "value": "highest value first", "undecided": "most undecided first",
                "near": "nearest to a class first"}


def badge(number: int) -> dict[str, str]:
    "Colour and shape of number 0, 1, ...: nine colours, and another shape for each nine."
    return {"colour": PALETTE[number % len(PALETTE)], "shape": SHAPES[number // len(PALETTE) % len(SHAPES)]}


@dataclass
class Strip:
    "The clusters that have pictures here; one may be in focus. `value` is settable: what each is worth, by whoever can tell."
    rows: Rows
    focus: int | None = None  # the id of a cluster
    order: str = "size"
    value: dict[int, float] = field(default_factory=dict)  # cluster id -> what it is worth
    value_name: str = "value"  # what the number is, in a few words

    def set_values(self, values: Mapping[int, float], name: str = "value") -> None:
        "What clusters are worth, by id; the others have no value. `name` says what the number is."
        if unknown := [id for id in values if self.rows.place_of(id) < 0]:
            raise DataError(f"there is no cluster {unknown[0]}; there are {[c.id for c in self.rows.manifest.clusters]}")
        self.value, self.value_name = {id: float(value) for id, value in values.items()}, name

    def row_values(self) -> np.ndarray:
        "The value of the cluster of each row, NaN for none, float32 `[n]`."
        values = [self.value.get(cluster.id, np.nan) for cluster in self.rows.manifest.clusters] + [np.nan]
        return np.array(values, np.float32)[self.rows.cluster]

    def counts(self) -> np.ndarray:
        "Pictures of each cluster by decision, int `[K, 3]`."
        found = np.zeros((len(self.rows.manifest.clusters) + 1, len(DECISIONS)), np.int64)
        np.add.at(found, (self.rows.cluster, self.rows.decision), 1)  # -1 is the last
        return found[:-1]

    def nearest(self, place: int) -> tuple[str, float | None]:
        "The class whose prototype is nearest to a cluster, and how far; without prototypes the class it is mostly taken for."
        away = np.linalg.norm(self.rows.land.prototypes - self.rows.centres[place], axis=1)
        if np.isfinite(away).any():
            return self.rows.manifest.classes[int(np.nanargmin(away))], float(np.nanmin(away))
        taken = np.bincount(self.rows.predicted[self.rows.cluster == place], minlength=len(self.rows.manifest.classes))
        return self.rows.manifest.classes[int(taken.argmax())], None

    def faces(self, place: int, most: int = 3) -> list[int]:
        "The most typical pictures of a cluster."
        rows = np.flatnonzero(self.rows.cluster == place)
        return rows[np.argsort(self.rows.far[rows], kind="stable")[:most]].tolist()

    def describe(self) -> None:
        "Find again what stays the same while one decides; to be called when the clusters have changed."
        places = [n for n in range(len(self.rows.manifest.clusters)) if (self.rows.cluster == n).any()]
        self.fixed = {n: (*self.nearest(n), self.faces(n)) for n in places}

    def cards(self) -> list[dict[str, Any]]:
        "A card for each cluster, in order."
        found, counts = [], self.counts()
        for place, (near, away, faces) in self.fixed.items():
            cluster, value = self.rows.manifest.clusters[place], self.value.get(self.rows.manifest.clusters[place].id)
            by = dict(zip(DECISIONS, counts[place].tolist()))
            found.append({"id": cluster.id, "place": place, "name": cluster.name, "size": int(counts[place].sum()), **by,
                          **badge(cluster.id), "near": near, "away": None if away is None else round(away, 1), "value": value,
                          "faces": faces})
        keys = {"size": lambda c: -c["size"], "undecided": lambda c: -c["undecided"],
                "value": lambda c: (c["value"] is None, -(c["value"] or 0)), "near": lambda c: c["away"] or 0}
        return sorted(found, key=lambda c: (keys[self.order](c), c["id"]))

    def sort(self, order: str) -> None:
        "Choose the order of the cards."
        if order not in STRIP_ORDERS:
            raise DataError(f"order='{order}': say one of {', '.join(STRIP_ORDERS)}")
        self.order = order

    def members(self, id: int) -> np.ndarray:
        "The rows of a cluster."
        place = self.rows.place_of(id)
        if place < 0:
            raise DataError(f"there is no cluster {id}; there are {[c.id for c in self.rows.manifest.clusters]}")
        return np.flatnonzero(self.rows.cluster == place)

    def beside(self, by: int, undecided: bool = False) -> int | None:
        "The id of the next cluster, or of one before; `undecided`: that has pictures to decide. None if there is none."
        ids = [card["id"] for card in self.cards() if not undecided or card["undecided"] or card["id"] == self.focus]
        if self.focus not in ids:
            return (ids[0] if by > 0 else ids[-1]) if ids else None
        others = len(ids) > 1 or not undecided
        return ids[(ids.index(self.focus) + by) % len(ids)] if others else None
