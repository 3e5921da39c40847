"""Thousands of pictures on one map: see what they have in common, keep or drop them by the cluster, undo"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..base.files import DataError
from ..base.pictures import Picture
from ..data.splits import Split
from ..maps.methods import CLASSIFIER
from ..ood.candidates import pool_root
from ..ood.features import FeatureStore, class_prototypes, extract
from ..ood.manifest import Manifest
from ..runs.pipeline import CANDIDATES, looked_at
from ..runs.run import Run
from .explorer_page import explorer_page, explorer_png
from .explorer_state import Autosave, Explorer
from .explorer_views import Thumbnails
from .exploring import Exploration, Landscape, begin_clusters, draw_map
from .parts import write_bytes, write_text
from .prune import user_name, with_twin


class ClusterExplorer(Explorer):
    """Explore OoD candidates and decide them. `manifest`: a `Manifest` or its file; `pool`: their pictures; `store`:
their features. `inside`, `inside_split`: features and pictures of the training images; `k`: clusters, if there are
none yet; `by`: your name; `path`: where to save, by default the manifest's file; `cache`: folder that keeps layouts."""

    def __init__(self, manifest: Manifest | str | Path, pool: Split, store: FeatureStore,
                 inside: FeatureStore | None = None, inside_split: Split | None = None,
                 prototypes: np.ndarray | None = None, by: str | None = None, path: str | Path | None = None,
                 k: int | None = None, seed: int = 0, cache: str | Path | None = None):
        manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest, pool)
        if prototypes is None and inside is not None and inside_split is not None:
            prototypes = prototypes_of(inside, inside_split)
        land = Landscape(store, manifest.classes, inside, prototypes, seed, Path(cache) if cache else None)
        begin_clusters(manifest, store, k, seed)
        self.path, self.saved, self.autosave = Path(path) if path else manifest.path, True, Autosave(self.save)
        look = Exploration(manifest, land, user_name() if by is None else by)
        self.start(look, Thumbnails(pool_root(pool), inside_split))
        self.connect()
        said = "every decision is saved" if self.path else "no file: nothing is saved; give the explorer a path"
        self.tell(said, bad=not self.path)

    def close(self) -> None:
        "Save what waits to be saved, and take the explorer off the page."
        self.autosave.close()
        super().close()

    def to_figure(self) -> Picture:
        "The map in its present colours, as a picture."
        return draw_map(self.look, self.method)

    def to_png(self, path: str | Path | None = None, dpi: int = 110) -> bytes:
        "Map and typical pictures of the largest clusters as PNG; written to `path` if given."
        return write_bytes(explorer_png(self, dpi), path)

    def to_html(self, path: str | Path | None = None, most: int = 6000, side: int = 48) -> str:
        "A page of its own with the map (hover, lasso, colours), which works offline; written to `path` if given."
        return write_text(explorer_page(self, most, side), path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        "The widget, and its picture for front ends without widgets."
        return with_twin(self)


def prototypes_of(inside: FeatureStore, split: Split) -> np.ndarray:
    "Mean feature of each class over the labelled pictures, float32 `[C, d]`."
    known = set(split.ids)
    if strangers := sum(id not in known for id in inside.ids.tolist()):
        raise DataError(
            f"{strangers} in-distribution features belong to no picture of split '{split.name}'; "
            "give the split that the features were made from"
        )
    return class_prototypes(inside, split)


def candidate_store(run: Run) -> FeatureStore:
    "Features of all candidates of a run, decided or not; kept in `clusters/candidates.npz` until the classifier changes."
    path, weights = run.path / "clusters" / "candidates.npz", run.path / CLASSIFIER / "weights.safetensors"
    images, pool = run.manifest().images, run.pool()
    if path.is_file() and path.stat().st_mtime >= weights.stat().st_mtime:
        store = FeatureStore.load(path)
        if set(store.ids.tolist()) == images.keys():
            return store
    split = pool.subset([n for n, id in enumerate(pool.ids) if id in images])
    store = extract(looked_at(run, run.net(CLASSIFIER), split, CANDIDATES), split)
    store.save(path)
    return store


def explore(run: Run, manifest: Manifest | None = None, **options: Any) -> ClusterExplorer:
    "The explorer of a run's candidates; what is decided goes into its manifest (or into `manifest`)."
    inside = run.class_features() if (run.path / "clusters" / "inside.npz").is_file() else None
    given = run.path / "mining" / "manifest.json" if manifest is None else manifest
    return ClusterExplorer(given, run.pool(), candidate_store(run), inside, run.split(run.config.splits[0]),
                           **{"cache": run.path / "clusters", "seed": run.config.seed, **options})
