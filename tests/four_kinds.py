"""Forty candidates in four clear clusters, one with a name that looks like HTML, one that is broken: for tests of widgets."""
from pathlib import Path

import numpy as np
from PIL import Image

from wood_nb.data.sources import load_pool
from wood_nb.data.splits import Split
from wood_nb.ood.candidates import Candidate, file_of
from wood_nb.ood.features import FeatureStore
from wood_nb.ood.manifest import fingerprint, Manifest

CLASSES, EVIL = ('boat', 'train'), '<img src=x onerror=alert(1)>'


def draw_pool(folder: Path, wide: int = 120) -> Split:
    "Noise, 90 pixels high."
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(40): Image.fromarray(rng.integers(0, 255, (90, wide, 3), np.uint8)).save(folder/(f'p{i:02d}.jpg' if i else f'{EVIL}.jpg'))
    (folder/'p39.jpg').write_bytes(b'broken')
    return load_pool(folder)


def mined(pool: Split) -> tuple[Manifest, FeatureStore]:
    "All of them undecided, ten in each cluster."
    rng = np.random.default_rng(1)
    features = np.repeat(np.eye(4, dtype=np.float32)*9, 10, 0) + rng.normal(0, .2, (40, 4)).astype(np.float32)
    images = {item.id: Candidate(file_of(item), CLASSES[n % 2], .9) for n, item in enumerate(pool.items)}
    return Manifest(CLASSES, images, fingerprint(pool)), FeatureStore(pool.ids, features, rng.random((40, 2)).astype(np.float32))
