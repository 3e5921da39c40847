"""Features of a run's candidates, and the mean feature of each class"""

from __future__ import annotations

import numpy as np

from ...base.files import DataError
from ...data.splits import Split
from ...maps.methods import CLASSIFIER
from ...ood.features import FeatureStore, class_prototypes, extract
from ...runs.pipeline import CANDIDATES, looked_at
from ...runs.run import Run


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
