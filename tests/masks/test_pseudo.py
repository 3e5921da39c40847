"""Pseudo masks: the rule, the CRF among an image's own classes, the writer and its record, the figures, the errors."""
import numpy as np
import pytest
from PIL import Image
from wood_nb.masks.crf import crf_labels
from wood_nb.base.files import DataError, read_json, write_json
from wood_nb.data.images import read_mask, write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import Maps, save_maps
from wood_nb.scores.seeds import image_counts, Scores, seed
from wood_nb.maps.cam import maps_for
from wood_nb.masks.pseudo import (best_threshold, both_masks, count_masks, mask_row, MaskConfig, pseudo_mask, scores_of,
                                  show_masks, write_masks)

SIZE = (24, 32)
CRF = {'crf': 'irn-label', 'crf_scale': 6.0}


pytestmark = pytest.mark.usefixtures('one_thread')


def scene(seed=0):
    "A disc on a ground, and maps that are a blurred disc beside it."
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :32]
    true = (x - 16) ** 2 + (y - 12) ** 2 < 50
    image = (np.where(true[..., None], [200, 60, 60], [60, 140, 60]) + rng.normal(0, 3, (24, 32, 3))).clip(0, 255).astype(np.uint8)
    heat = np.exp(-((x - 18) ** 2 + (y - 11) ** 2) / 60).astype(np.float32)
    return Image.fromarray(image), true, heat


def maps_of(*keys, seed=0):
    heat = scene(seed)[2]
    full = np.stack([np.roll(heat, 6 * n, 1) for n in range(len(keys))]) if keys else np.zeros((0, 24, 32), np.float32)
    return Maps(np.array(keys, np.int64), full[:, ::4, ::4], SIZE, full)


@pytest.fixture
def case(tmp_path):
    "Three images, labels and masks, and their maps."
    items = []
    for n, labels in enumerate([(1,), (0, 2), ()]):
        image, true, _ = scene(n)
        image.save(tmp_path/f'{n}.png')
        write_mask(tmp_path/f'{n}-mask.png', true.astype(np.uint8) * (labels[0] + 1 if labels else 0))
        save_maps(tmp_path/'maps'/'x'/f'{n}.npz', maps_of(*labels, seed=n), 'float32')
        items.append(Item(f'x/{n}', tmp_path/f'{n}.png', labels, tmp_path/f'{n}-mask.png'))
    write_json(tmp_path/'maps'/'maps.json', {'format': 'wood_nb.maps', 'version': 1, 'method': 'advcam', 'split': 'train', 'weights': 'abc'})
    return Split('train', items, ('a', 'b', 'c'), raw_classes=3), tmp_path/'maps'


@pytest.mark.parametrize('threshold', [0.0, 0.2, 0.7])
def test_without_a_crf_it_is_the_seed(threshold):
    maps = maps_of(2, 5)
    assert np.array_equal(pseudo_mask(scene()[0], maps, MaskConfig(threshold)), seed(maps.full, maps.keys, threshold))


def test_the_power_comes_first():
    maps = maps_of(0)
    assert np.array_equal(pseudo_mask(scene()[0], maps, MaskConfig(0.25, power=2)) > 0, maps.full[0] ** 2 > 0.25)


def test_the_other_background():
    scores = scores_of(maps_of(0, 1), MaskConfig(alpha=4, power=1))
    assert np.allclose(scores[0], (1 - maps_of(0, 1).full.max(0)) ** 4) and scores.shape == (3, 24, 32)
    wider, narrower = (pseudo_mask(scene()[0], maps_of(0), MaskConfig(alpha=a)) > 0 for a in (16, 2))
    assert wider.sum() > narrower.sum() > 0


def test_a_crf_on_labels_is_that_of_irn():
    image, true, _ = scene()
    plain = pseudo_mask(image, maps_of(1), MaskConfig(0.3))
    found = pseudo_mask(image, maps_of(1), MaskConfig(0.3, **CRF))
    from wood_nb.masks.crf import crf_config
    assert np.array_equal(found, crf_labels(image, plain, crf_config('irn-label').at_scale(6)))
    assert ((found > 0) == true).mean() > ((plain > 0) == true).mean()


def test_a_crf_on_probabilities():
    image, true, _ = scene()
    found = pseudo_mask(image, maps_of(1), MaskConfig(0.3, crf_on='probabilities', **CRF))
    assert set(np.unique(found)) <= {0, 2} and ((found > 0) == true).mean() > 0.9


def test_nothing_but_the_classes_of_the_image():
    assert set(np.unique(pseudo_mask(scene()[0], maps_of(3, 7), MaskConfig(0.3, **CRF)))) <= {0, 4, 8}


@pytest.mark.parametrize('config', [MaskConfig(), MaskConfig(alpha=4), MaskConfig(0.0, **CRF), MaskConfig(crf_on='probabilities', **CRF)])
def test_zero_maps_no_labels_one_pixel(config):
    zero = Maps(np.array([1]), np.zeros((1, 6, 8), np.float32), SIZE)
    assert not pseudo_mask(scene()[0], zero, config).any() and not pseudo_mask(scene()[0], maps_of(), config).any()
    dot = pseudo_mask(Image.new('RGB', (1, 1)), Maps(np.array([1]), np.ones((1, 1, 1), np.float32), (1, 1)), config)
    assert dot.tolist() == [[2]] and dot.dtype == np.uint8


def test_masks_are_written_once_and_recorded(case, tmp_path):
    split, folder = case
    config = MaskConfig(0.3, power=1.5, **CRF)
    out = write_masks(split, folder, tmp_path/'masks'/'advcam'/'train', config, title='')
    note = read_json(out/'masks.json', 'wood_nb.masks')
    assert (note['method'], note['split'], note['threshold'], note['power'], note['crf']) == ('advcam', 'train', 0.3, 1.5, 'irn-label')
    assert note['maps'] == {'method': 'advcam', 'weights': 'abc'}
    for n in range(3):
        with Image.open(out/'x'/f'{n}.png') as image: assert image.mode == 'P' and image.size == (32, 24)
        assert np.array_equal(read_mask(out/'x'/f'{n}.png', 3), pseudo_mask(split.image(n), maps_for(split, n, folder), config))
    (out/'x'/'1.png').unlink()
    marks = {o: o.stat().st_mtime_ns for o in out.rglob('*.png')}
    write_masks(split, folder, out, config, title='')
    assert all(o.stat().st_mtime_ns == mark for o, mark in marks.items()) and len(list(out.rglob('*.png'))) == 3
    with pytest.raises(DataError, match='threshold'): write_masks(split, folder, out, MaskConfig(0.4, power=1.5, **CRF), title='')


def test_figures_are_those_of_the_masks(case, tmp_path):
    split, folder = case
    rows = both_masks(split, folder, tmp_path/'masks', MaskConfig(0.3, **CRF), 'fixed', seed=3)
    for row, name, crf in zip(rows, ('advcam', 'advcam+crf'), (False, True)):
        place = tmp_path/'masks'/name/'train'
        counts = np.stack([image_counts(read_mask(place/'x'/f'{n}.png', 3), split.mask(n), 4) for n in range(3)])
        assert np.array_equal(count_masks(split, place), counts)
        assert row['miou'] == round(100 * Scores.from_counts(counts).miou, 3)
        assert (row['method'], row['stage'], row['split'], row['crf'], row['seed'], row['images']) == ('advcam', 'mask', 'train', crf, 3, 3)
        assert (row['threshold'], row['threshold_from'], row['crf_name']) == (0.3, 'fixed', 'irn-label' if crf else None)
    assert rows[1]['per_class']['b'] > rows[0]['per_class']['b'] and rows[0]['measured']


def test_rows_of_the_other_background_have_no_threshold(case, tmp_path):
    out = write_masks(*case, tmp_path/'out', MaskConfig(alpha=8), title='')
    row = mask_row(case[0], out, 'fixed')
    assert row['threshold'] is None and row['threshold_from'] is None and row['alpha'] == 8


def test_the_best_threshold_is_that_of_the_written_masks(case, tmp_path):
    split, folder = case
    best = best_threshold(split, folder, power=1.5)
    miou = {}
    for t in (best, best / 2, (1 + best) / 2):
        out = write_masks(split, folder, tmp_path/f'{t}', MaskConfig(t, power=1.5), title='')
        miou[t] = Scores.from_counts(count_masks(split, out)).miou
    assert max(miou, key=miou.get) == best


def test_picture(case, tmp_path):
    out = write_masks(*case, tmp_path/'out', MaskConfig(0.3), title='')
    assert show_masks(case[0], [0, 1], {'mask': out}).png()[:4] == b'\x89PNG'


@pytest.mark.parametrize('spoil, says', [
    (lambda f: (f/'x'/'1.npz').unlink(), 'no such file'),
    (lambda f: save_maps(f/'x'/'1.npz', maps_of(1)), 'class 1, which is not among the labels of x/1'),
    (lambda f: save_maps(f/'x'/'1.npz', Maps(np.array([0]), np.zeros((1, 2, 2), np.float32), (8, 8))), r'of \[8, 8\]')])
def test_maps_must_be_those_of_the_image(case, tmp_path, spoil, says):
    split, folder = case
    spoil(folder)
    with pytest.raises(DataError, match=says): write_masks(split, folder, tmp_path/'out', MaskConfig(), title='')
    assert (tmp_path/'out'/'x'/'0.png').is_file() and not (tmp_path/'out'/'x'/'1.png').exists()


@pytest.mark.parametrize('options', [{'threshold': -0.1}, {'threshold': 1.0}, {'power': 0}, {'alpha': 0}, {'crf': 'iron'}, {'crf_on': 'x'},
                                     {'crf_scale': 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(DataError): MaskConfig(**options)
