"""What is known of each candidate, as columns: class, p, decision, cluster, distance, blur, darkness"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...base.files import DataError
from ...ood.candidates import DECISIONS, Candidate, Cluster, thumbnail
from ...ood.manifest import Manifest
from .land import Landscape

DUPLICATE, LEAK = 1, 2  # flags


def look_of(image: Image.Image) -> tuple[float, float]:
    "How blurred and how dark a picture is, both from 0 to 1; a small picture is enough."
    grey = np.asarray(image.convert("L"), np.float32) / 255
    if min(grey.shape) < 3:
        return 1.0, 1.0 - float(grey.mean())
    edges = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(1 / (1 + 20 * edges.std())), 1.0 - float(grey.mean())


@dataclass
class Rows:
    "The candidates of a manifest in the order of their features: row 0, 1, ... Decisions are read from the manifest, the one truth."
    manifest: Manifest
    land: Landscape
    root: Path  # the folder that the files of candidates are relative to

    def __post_init__(self) -> None:
        if unknown := [id for id in self.land.row if id not in self.manifest.images]:
            raise DataError(f"'{unknown[0]}' has features but is no candidate of the manifest ({len(unknown)} such pictures); "
                            "open the manifest with the features of its own candidates")
        self.ids = list(self.land.row)
        place = {name: n for n, name in enumerate(self.manifest.classes)}
        self.predicted = np.array([place[self.candidate(n).predicted] for n in range(len(self))], np.uint16)
        self.p = np.array([self.candidate(n).p for n in range(len(self))], np.float32)
        self.decision = np.full(len(self), DECISIONS.index("undecided"), np.uint8)
        self.flagged = np.zeros(len(self), np.uint8)
        self.blur, self.dark = np.full((2, len(self)), np.nan, np.float32)
        self.read()
        self.regroup()

    def __len__(self) -> int:
        return len(self.ids)

    def candidate(self, row: int) -> Candidate:
        "What the manifest says of a row."
        return self.manifest.images[self.ids[row]]

    def of(self, ids: Iterable[str]) -> np.ndarray:
        "The rows of these ids, without those that have no features."
        return np.array([self.land.row[id] for id in ids if id in self.land.row], np.int64)

    def read(self, ids: Iterable[str] | None = None) -> None:
        "Read decisions and flags again from the manifest, of `ids` or of all."
        for row in range(len(self)) if ids is None else self.of(ids).tolist():
            candidate = self.candidate(row)
            self.decision[row] = DECISIONS.index(candidate.decision)
            self.flagged[row] = DUPLICATE * bool(candidate.duplicate_of) + LEAK * bool(candidate.leak_of)

    def regroup(self) -> None:
        "Read the clusters again: which one each row is in (its place among the manifest's, or -1), and how far from its centre."
        self.cluster = np.full(len(self), -1, np.int32)
        features, size = self.land.store.features, len(self.manifest.clusters)
        self.centres = np.full((size, features.shape[1]), np.nan, np.float32)
        self.far = np.full(len(self), np.inf, np.float32)
        for place, cluster in enumerate(self.manifest.clusters):
            rows = self.of(cluster.members)
            if len(rows):
                self.cluster[rows], self.centres[place] = place, features[rows].mean(0)
                self.far[rows] = np.linalg.norm(features[rows] - self.centres[place], axis=1)

    def cluster_of(self, row: int) -> Cluster | None:
        "The cluster that a row is in."
        return self.manifest.clusters[self.cluster[row]] if self.cluster[row] >= 0 else None

    def place_of(self, id: int | None) -> int:
        "The place of a cluster among the manifest's, -1 if it is not there."
        return next((n for n, cluster in enumerate(self.manifest.clusters) if cluster.id == id), -1)

    def unlike(self, row: int) -> np.ndarray:
        "Distance of the features of every row to those of one, float32 `[n]`."
        features = self.land.store.features
        return np.linalg.norm(features - features[row], axis=1)

    def file(self, row: int) -> Path:
        "The file of a picture."
        return self.root / self.candidate(row).file

    def measure(self, rows: Iterable[int]) -> None:
        "Find blur and darkness of these rows; what is known already is not looked at again."
        for row in rows:
            if np.isnan(self.blur[row]):
                self.blur[row], self.dark[row] = look_of(thumbnail(self.file(row), 128))
