"""All points of a map, which stay as they are while one decides; and the clusters that they fall into"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...base.files import DataError
from ...ood.atlas import project_groups
from ...ood.candidates import Cluster
from ...ood.features import FeatureStore
from ...ood.kmeans import kmeans
from ...ood.manifest import Manifest

CANDIDATE, INSIDE, PROTOTYPE = 0, 1, 2  # kinds of points


@dataclass
class Landscape:
    "All points of a map; they stay as they are while one decides. Rows: candidates, in-distribution pictures, prototypes."
    store: FeatureStore  # the candidates
    classes: tuple[str, ...]
    inside: FeatureStore | None = None
    given: np.ndarray | None = None  # float32 [C, d]: mean feature of each class
    seed: int = 0
    cache: Path | None = None  # folder that keeps t-SNE and UMAP

    def __post_init__(self) -> None:
        self.row = {id: n for n, id in enumerate(self.store.ids.tolist())}
        unknown = np.full((len(self.classes), self.store.features.shape[1]), np.nan, np.float32)
        self.prototypes = unknown if self.given is None else self.given  # NaN rows for classes without pictures
        self.starred = [c for c in range(len(self.classes)) if np.isfinite(self.prototypes[c]).all()]
        self.layouts: dict[str, np.ndarray] = {}

    @property
    def kind(self) -> np.ndarray:
        "What each point is, uint8 `[n]`."
        return np.repeat([CANDIDATE, INSIDE, PROTOTYPE], [len(self.store), self.others, len(self.starred)]).astype(np.uint8)

    @property
    def others(self) -> int:
        "Number of in-distribution pictures."
        return 0 if self.inside is None else len(self.inside)

    def layout(self, method: str = "pca") -> np.ndarray:
        "Points in the unit square, float32 `[n, 2]`, by 'pca', 'tsne' or 'umap'; all three kinds together."
        if method not in self.layouts:
            inside = [self.inside.features] if self.inside is not None and self.others else []
            groups = [self.store.features, *inside, self.prototypes[self.starred]]
            kept = self.cache / f"map-{method}.npz" if self.cache and method != "pca" else None
            self.layouts[method] = np.concatenate(project_groups(*groups, method=method, seed=self.seed, cache=kept))
        return self.layouts[method]


def listed(manifest: Manifest) -> Landscape:
    "All candidates of a manifest without a place on any map: where nobody has features, or needs them."
    ids, p = list(manifest.images), np.zeros((len(manifest.images), len(manifest.classes)), np.float32)
    for n, candidate in enumerate(manifest.images.values()):
        p[n, manifest.classes.index(candidate.predicted)] = candidate.p
    land = Landscape(FeatureStore(np.array(ids, str), np.zeros((len(ids), 1), np.float32), p), manifest.classes)
    land.layouts["pca"] = np.full((len(ids), 2), 0.5, np.float32)
    return land


def point_of(land: Landscape, n: int) -> list[str]:
    "What to say about point `n` of the map, which is no candidate, a short line each; the first is its name."
    if land.kind[n] == PROTOTYPE:
        return [
            land.classes[land.starred[n - len(land.store) - land.others]],
            "class prototype: mean feature of its training images",
        ]
    assert land.inside is not None, "a point that is neither candidate nor prototype is a training image"
    p = land.inside.p[n - len(land.store)]
    return [str(land.inside.ids[n - len(land.store)]), "in-distribution", f"{land.classes[p.argmax()]} {p.max():.2f}"]


def begin_clusters(manifest: Manifest, store: FeatureStore, k: int | None = None, seed: int = 0) -> None:
    "Give the manifest clusters of all candidates in `store`, unless it has them, or a person has worked on those it has."
    held = {m for c in manifest.clusters for m in c.members}
    if manifest.grouped_by_hand() or held >= set(store.ids.tolist()):
        return
    numbers = store.cluster if store.k and k is None else kmeans(store.features, k, seed)[0]
    manifest.set_clusters({str(id): int(n) for id, n in zip(store.ids, numbers)})


def split_members(land: Landscape, cluster: Cluster, parts: int) -> list[list[str]]:
    "Members of a cluster in `parts` groups by K-means on their features, largest first."
    unknown = [m for m in cluster.members if m not in land.row]
    rows = [land.row[m] for m in cluster.members if m in land.row]
    if not 2 <= parts <= len(rows):
        raise DataError(f"{cluster.name} has {len(rows)} pictures: it can be split into 2 to {len(rows)} parts, not {parts}")
    groups, _ = kmeans(land.store.features[rows], parts, land.seed)
    found = [land.store.ids[rows][groups == g].tolist() for g in range(groups.max() + 1)]
    if len(found) < 2:
        raise DataError(f"{cluster.name}: all pictures have the same features, so there is nothing to split")
    return [found[0] + unknown, *found[1:]]
