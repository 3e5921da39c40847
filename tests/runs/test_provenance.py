"""What a row says of where its number comes from is true: thresholds are chosen on the split that is named, and on no other."""
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from wood_nb.base.files import DataError, read_json
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import Maps, save_maps
from wood_nb.runs.config import RefineConfig, RunConfig
from wood_nb.runs.pipeline import seeds_stage
from wood_nb.runs.refine import mask_rows, mask_threshold, refine

BEST = {'train': 0.3, 'val': 0.7, 'test': 0.5}  # the threshold at which the maps of each split are the truth


@pytest.fixture
def run(tmp_path):
    "A run without networks: maps whose object ends at 0.3 on the training images, at 0.7 on val, at 0.5 on test."
    splits = {}
    for name, best in BEST.items():
        items = []
        for n in range(2):
            id, mask, heat = f'{name}{n}', np.zeros((16, 16), np.uint8), np.full((16, 16), best - 0.1, np.float32)
            mask[4:12, 4:12] = 1
            heat[4:12, 4:12] = best + 0.1
            heat[0, 0] = 0
            heat[6, 6] = 1
            Image.new('RGB', (16, 16)).save(tmp_path/f'{id}.png')
            write_mask(tmp_path/f'm-{id}.png', mask)
            quarter = heat[::4, ::4]
            save_maps(tmp_path/'maps'/'cam'/name/f'{id}.npz', Maps(np.array([0]), quarter[None], (16, 16), heat[None]))
            items.append(Item(id, tmp_path/f'{id}.png', (0,), tmp_path/f'm-{id}.png'))
        splits[name] = Split(name, items, ('cat',))
    config = RunConfig('voc:nowhere', splits=tuple(BEST))
    return SimpleNamespace(path=tmp_path, config=config, note={'stages': {}}, split=lambda name, others=None: splits[name], results=lambda: [])


def of_train(threshold): return BEST['train'] - 0.1 < threshold <= BEST['train'] + 0.1


def test_masks_have_the_threshold_of_the_first_split(run):
    threshold, origin = mask_threshold(run, 'cam')
    assert origin == 'train masks' and of_train(threshold)
    run.config = RunConfig('voc:nowhere', splits=('val', 'train'))
    threshold, origin = mask_threshold(run, 'cam')
    assert origin == 'val masks' and BEST['val'] - 0.1 < threshold <= BEST['val'] + 0.1


def test_rows_of_masks_say_so(run, monkeypatch):
    monkeypatch.setattr('wood_nb.masks.pseudo.folder_mark', lambda folder: {}, raising=False)
    rows = mask_rows(run, 'cam', RefineConfig(crf=None))
    assert [row['split'] for row in rows] == list(BEST) and all(of_train(row['threshold']) and row['threshold_from'] == 'train masks' for row in rows)


def test_seeds_have_the_threshold_of_the_first_split(run):
    seeds_stage(run)
    rows = read_json(run.path/'metrics.json', 'wood_nb.metrics')['results']
    assert [row['split'] for row in rows] == list(BEST)
    assert all(of_train(row['threshold']) and row['threshold_from'] == 'train masks' for row in rows)
    miou = {row['split']: row['miou'] for row in rows}
    assert miou['train'] == 100 and miou['val'] < 60, 'on val another threshold would be best: it was not asked'


def test_without_masks_a_threshold_is_fixed(run):
    for name in BEST: run.split(name).items[:] = [Item(o.id, o.image, o.labels) for o in run.split(name).items]
    assert mask_threshold(run, 'cam') == (0.2, 'fixed')


def test_methods_that_are_none_are_refused_by_name(run):
    with pytest.raises(DataError, match="'nonsense' is not a method here; there are cam"): refine(run, RefineConfig(methods=('nonsense',)))
