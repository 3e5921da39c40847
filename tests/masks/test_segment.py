"""Segmenting and judging: looks averaged, windows, storage, the server's package, outlines, several processes."""
import io
import tarfile
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from two_ranks import environment, in_two

from wood_nb.ood.features import FeatureStore
from wood_nb.base.contents import content_mark
from wood_nb.base.files import DataError, read_json, write_json, write_npz
from wood_nb.base.pictures import palette
from wood_nb.data.images import read_mask, VOC_CLASSES, write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.scores.seeds import confusion_matrix, Scores
from wood_nb.nets.backbones import build_net
from wood_nb.masks.package import check_package, _package_place, _png_bytes, _voc_values, write_package
from wood_nb.masks.segment import (add_results, final_segmentation, _full_logits, Inference, load_probabilities,
                                   _noted_mark, probabilities, save_probabilities, segment_split, _tiled_logits, _window_starts)
from wood_nb.ood.false_positives import cluster_words, false_positives
from wood_nb.scores.evaluation import evaluate, largest_confusions
from wood_nb.scores.outlines import boundary_counts, boundary_f, fill_ignored
from wood_nb.nets.deeplab import build_segnet
from wood_nb.masks.learn import mask_mark, PairAugment, recipe
from wood_nb.scores.rows import read_results

CLASSES = ('cat', 'train')


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def data(tmp):
    "Five pictures of 40x32 pixels; the first shows both classes, the last has no label at all."
    rng, items = np.random.default_rng(0), []
    for n in range(5):
        Image.fromarray(rng.integers(0, 255, (32, 40, 3), np.uint8)).save(f'{n}.png')
        mask = np.zeros((32, 40), np.uint8)
        if n < 4: mask[6:20, 5:25] = n % 2 + 1
        if n == 0: mask[22:30, 20:38] = 2
        mask[:2] = 255
        write_mask(f'true/{n}.png', mask)
        items.append(Item(f'{n}', tmp/f'{n}.png', ((0, 1), (1,), (0,), (1,), ())[n], tmp/f'true/{n}.png'))
    return Split('val', items, CLASSES, raw_classes=2)


@pytest.fixture
def folder(data, tmp):
    "Predictions: the truth moved by two pixels, 255 filled with background; a train in the last picture."
    for n in range(5):
        pred = np.roll(np.where(data.mask(n) == 255, 0, data.mask(n)), 2, 1)
        if n == 4: pred[10:20, 10:20] = 2
        write_mask(tmp/f'pred/{n}.png', pred)
    return tmp/'pred'


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build_segnet('deeplab_tiny', CLASSES).eval()


# --- probabilities ------------------------------------------------------------------------------------------------------

def test_probabilities_sum_to_one_at_any_size(net):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8))
    for options in ({}, {'mirror': True}, {'scales': (0.5, 1.5)}, {'window': 24}, {'scales': (1.0, 2.0), 'mirror': True, 'window': 32}):
        p = probabilities(net, image, **options)
        assert p.shape == (3, 37, 53) and p.dtype == np.float32 and np.allclose(p.sum(0), 1, atol=1e-5)


def test_the_mirrored_look_is_turned_back(net):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8))
    both, other = (probabilities(net, o, mirror=True) for o in (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    assert np.allclose(both, other[..., ::-1], atol=1e-5) and not np.allclose(both, probabilities(net, image), atol=1e-3)


@pytest.mark.parametrize('length,window', [(100, 60), (59, 60), (1000, 321), (322, 321), (640, 64)])
def test_windows_cover_everything_and_overlap(length, window):
    starts = _window_starts(length, window)
    ends = [o + window for o in starts]
    assert starts[0] == 0 and ends[-1] >= length and (len(starts) == 1 or ends[-1] == length)
    assert all(b <= e - window//4 for e, b in zip(ends, starts[1:]))


def test_a_window_that_fits_changes_nothing(net):
    images = torch.randn(1, 3, 40, 48)
    with torch.no_grad():
        assert torch.equal(_tiled_logits(net, images, 48), _full_logits(net, images))
        parts = _tiled_logits(net, images, 32)
    assert parts.shape == (1, 3, 40, 48) and torch.isfinite(parts).all()


def test_probabilities_are_stored_in_bytes_without_pickles(tmp):
    p = np.random.default_rng(0).dirichlet(np.full(21, 0.05), (50, 60)).transpose(2, 0, 1).astype(np.float32)
    p[5] = 0
    save_probabilities(tmp/'p.npz', p)
    again = load_probabilities(tmp/'p.npz')
    assert again.shape == p.shape and np.abs(again - p).max() <= 1/510 + 1e-6 and (again[5] == 0).all()
    with np.load(tmp/'p.npz', allow_pickle=False) as stored: assert 5 not in stored['values'] and stored['p'].dtype == np.uint8
    np.savez(tmp/'q.npz', other=1)
    with pytest.raises(DataError, match="no array 'values'"): load_probabilities(tmp/'q.npz')


# --- a folder of masks --------------------------------------------------------------------------------------------------

def test_masks_of_a_split_and_what_is_noted(net, data, tmp):
    out = segment_split(net, data, tmp/'out', Inference((0.5, 1.0), True), keep=True)
    note = read_json(out/'predictions.json', 'wood_nb.predictions')
    assert note['scales'] == [0.5, 1.0] and note['crf'] is None and note['classes'] == list(CLASSES)
    for n in range(5):
        p = probabilities(net, data.image(n), (0.5, 1.0), True)
        assert np.array_equal(read_mask(out/f'{n}.png', 2), p.argmax(0)) and np.abs(load_probabilities(out/f'{n}.npz') - p).max() < 0.002


def test_an_unfinished_folder_is_taken_up(net, data, tmp):
    segment_split(net, data.subset(range(3)), tmp/'out')
    before = {n: (tmp/f'out/{n}.png').stat().st_mtime_ns for n in range(3)}
    segment_split(net, data, tmp/'out')
    assert before == {n: (tmp/f'out/{n}.png').stat().st_mtime_ns for n in range(3)} and (tmp/'out/4.png').is_file()
    with pytest.raises(DataError, match='predictions made otherwise .mirror'): segment_split(net, data, tmp/'out', Inference(mirror=True))


def test_a_crf_has_a_name_and_is_used(net, data, tmp):
    def all_train(image, p):
        assert image.dtype == np.uint8 and image.shape == (32, 40, 3) and p.shape == (3, 32, 40)
        return np.eye(3, dtype=np.float32)[2][:, None, None] + 0*p
    out = segment_split(net, data, tmp/'out', Inference(crf='toy'), all_train)
    assert all((read_mask(out/f'{n}.png', 2) == 2).all() for n in range(5))
    for how, crf in ((Inference(), all_train), (Inference(crf='toy'), None)):
        with pytest.raises(DataError, match='give both or neither'): segment_split(net, data, tmp/'other', how, crf)


# --- the server's package -----------------------------------------------------------------------------------------------

def test_a_package_is_what_the_server_wants(data, folder, tmp):
    path = write_package(data, folder, tmp/'results.tar', CLASSES)
    with tarfile.open(path) as tar:
        assert sorted(tar.getnames()) == [f'results/VOC2012/Segmentation/comp6_test_cls/{n}.png' for n in range(5)]
        image = Image.open(tar.extractfile(f'{_package_place("test")}/4.png'))
        assert image.mode == 'P' and image.size == (40, 32) and image.getpalette()[:9] == palette(3).ravel().tolist()
        assert set(np.unique(image)) == {0, VOC_CLASSES.index('train') + 1}
    assert check_package(path, data) == 5 and _voc_values(CLASSES).tolist() == [0, 8, 19]


def test_a_package_of_a_folder_that_lacks_ids(data, folder, tmp):
    for n in (1, 3): (folder/f'{n}.png').unlink()
    with pytest.raises(DataError, match=r"no mask for '1' .2 of the 5"): write_package(data, folder, tmp/'r.tar', CLASSES)
    with pytest.raises(DataError, match=r"no mask for '1' .2 of the 5"): evaluate(data, folder, title=None)
    assert not (tmp/'r.tar').exists()


def test_masks_the_server_would_turn_down(data, folder, tmp):
    write_mask(folder/'2.png', np.full((32, 40), 255, np.uint8))
    with pytest.raises(DataError, match='255 in a mask for the server'): write_package(data, folder, tmp/'r.tar', CLASSES)
    write_mask(folder/'2.png', np.zeros((40, 32), np.uint8))
    with pytest.raises(DataError, match='the mask is 32x40, its image 40x32'): write_package(data, folder, tmp/'r.tar', CLASSES)
    with pytest.raises(DataError, match="no class 'unicorn'"): write_package(data, folder, tmp/'r.tar', ('unicorn',))
    assert not (tmp/'r.tar').exists()


def packed(path, files):
    with tarfile.open(path, 'w') as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def grey(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, 'PNG')
    return buffer.getvalue()


def test_faulty_packages_are_found(data, tmp):
    good = _png_bytes(np.zeros((32, 40), np.uint8))
    place = _package_place('test')
    whole = {f'{place}/{n}.png': good for n in range(5)}
    assert check_package(packed(tmp/'a.tar', whole), data) == 5
    cases = [({**whole, f'{place}/5.png': good}, "'5' is not on the list"), (dict(list(whole.items())[1:]), "'0' is missing"),
             ({**whole, '../x.png': good}, 'does not belong'), ({**whole, f'{place}/2.png': grey(np.zeros((32, 40), np.uint8))}, 'mode is L'),
             ({**whole, f'{place}/2.png': _png_bytes(np.zeros((40, 32), np.uint8))}, r'2.png .*\(32, 40\)'),
             ({**whole, f'{place}/2.png': _png_bytes(np.full((32, 40), 21, np.uint8))}, 'value 21')]
    odd = Image.open(io.BytesIO(good))
    odd.putpalette([7]*768)
    buffer = io.BytesIO()
    odd.save(buffer, 'PNG')
    cases.append(({**whole, f'{place}/2.png': buffer.getvalue()}, "another palette"))
    for files, said in cases:
        with pytest.raises(DataError, match=said): check_package(packed(tmp/'b.tar', files), data)
    (tmp/'c.tar').write_bytes(b'no tar')
    with pytest.raises(DataError, match='not a readable tar'): check_package(tmp/'c.tar', data)


# --- outlines -----------------------------------------------------------------------------------------------------------

def square(left=20): return np.pad(np.ones((20, 20), np.uint8), ((20, 20), (left, 40 - left)))


def test_outlines_within_the_tolerance_are_right():
    assert boundary_f(boundary_counts(square(), square(), 2)).tolist() == [1, 1]
    assert boundary_f(boundary_counts(square(21), square(), 2, 0.012)).tolist() == [1, 1]  # 60x60: one pixel
    assert boundary_f(boundary_counts(square(26), square(), 2, 0.012))[1] < 0.7


def test_outline_counts_by_hand():
    counts = boundary_counts(np.zeros((60, 60), np.uint8), square(), 3)
    assert counts[1].tolist() == [0, 0, 0, 4*19] and counts[2].tolist() == [0]*4
    score = boundary_f(counts)
    assert score[1] == 0 and np.isnan(score[2])


def test_the_border_of_the_picture_is_no_outline():
    half = np.zeros((10, 10), np.uint8)
    half[:, 5:] = 1
    assert boundary_counts(half, half, 2)[:, 3].tolist() == [10, 10]


def test_unknown_bands_are_filled_to_their_middle():
    line = np.full((1, 20), 255, np.uint8)
    line[0, :6], line[0, 14:] = 0, 1
    assert fill_ignored(line, 4)[0].tolist() == [0]*10 + [1]*10
    assert (fill_ignored(line, 1)[0] == 255).sum() == 6 and (fill_ignored(np.full((3, 3), 255, np.uint8), 5) == 255).all()


# --- judging ------------------------------------------------------------------------------------------------------------

def test_an_evaluation_counts_what_the_confusion_matrix_counts(data, folder):
    found = evaluate(data, folder, title=None)
    total = sum(confusion_matrix(read_mask(folder/f'{n}.png', 2), data.mask(n), 3) for n in range(5))
    assert np.array_equal(found.scores.confusion, total) and found.scores.miou == Scores.from_confusion(total, CLASSES).miou
    assert found.counts.shape == (5, 3, 3) and np.array_equal(found.counts.sum(0), found.scores.counts)
    assert np.isfinite(found.boundary_f).all() and 'boundary F' in found._repr_html_()


def test_confusions_are_sorted_by_their_share(data, folder):
    write_mask(folder/'2.png', np.full((32, 40), 2, np.uint8))
    pairs = largest_confusions(evaluate(data, folder, title=None).scores)
    assert pairs[0][:2] == ('cat', 'train') and [o.share for o in pairs] == sorted([o.share for o in pairs], reverse=True)
    assert all(o.true != o.taken_for for o in pairs)


def test_what_false_positives_lie_on(data, folder):
    found, net = evaluate(data, folder, title=None), build_net('tiny', CLASSES).eval()
    store = FeatureStore(['a', 'b'], np.eye(2, 128, dtype=np.float32), np.zeros((2, 2)), np.array([0, 1]), np.eye(2, 128, dtype=np.float32)*[[1e3], [1e-3]])
    report = false_positives(data, folder, found, net, store, {1: 'rails'})
    train = report[1]
    assert train.name == 'train' and train.strays == 1 and train.worst[0] == '4' and train.on[0][0] == 'background'
    assert train.false == int(found.scores.confusion[[0, 1], 2].sum()) and train.clusters == (('rails', len(train.worst)),)
    assert 'rails' in report._repr_html_() and false_positives(data, folder, found)[0].clusters == ()


TWO = """
import os, sys
import numpy as np
from test_segment_worker import load
from wood_nb.scores.evaluation import evaluate
split, folder = load(sys.argv[1])
found = evaluate(split, folder, title=None)
np.savez(f'{sys.argv[1]}/two-{os.environ["RANK"]}.npz', confusion=found.scores.confusion, counts=found.counts, boundary=found.boundary)
"""

WORKER = """
from pathlib import Path
from wood_nb.data.splits import Item, Split
def load(place):
    tmp = Path(place)
    items = [Item(f'{n}', tmp/f'{n}.png', (), tmp/f'true/{n}.png') for n in range(5)]
    return Split('val', items, ('cat', 'train'), raw_classes=2), tmp/'pred'
"""


def test_two_processes_give_the_same_figures_as_one(data, folder, tmp, root, warm):
    alone = evaluate(data, folder, title=None)
    (tmp/'test_segment_worker.py').write_text(WORKER)
    (tmp/'two.py').write_text(TWO)
    assert not (said := in_two(warm, 'two.py', str(tmp), env=environment(root, tmp))), said
    for rank in (0, 1):
        with np.load(tmp/f'two-{rank}.npz') as found:
            assert np.array_equal(found['confusion'], alone.scores.confusion) and np.array_equal(found['counts'], alone.counts)
            assert np.array_equal(found['boundary'], alone.boundary)


@pytest.mark.gpu
def test_the_gpu_counts_the_same(data, folder):
    assert np.array_equal(evaluate(data, folder, device='cuda', title=None).scores.confusion, evaluate(data, folder, title=None).scores.confusion)


# --- from masks to figures ----------------------------------------------------------------------------------------------

def test_the_last_stage_in_one_call(data, tmp):
    made = recipe('scenes', steps=3, batch_size=2, augment=PairAugment((1.0,), 32), precision='no', crf='toy', seed=4)
    call = lambda **o: final_segmentation(tmp/'seg', 'wood', data.subset(range(4), 'train'), [data], replace(made, **o), lambda image, p: p, 'run')  # noqa: E731
    rows = call()
    assert [(o['split'], o['crf'], o['stage'], o['seed'], o['network'], o['images']) for o in rows] == [('val', c, 'segmentation', 4, 'deeplab_tiny', 5) for c in (False, True)]
    assert rows[0]['miou'] == rows[1]['miou'] and rows[0]['measured'] and rows == call()
    with pytest.raises(DataError, match='segmentation made otherwise'): call(train=replace(made.train, steps=4))
    assert sorted(o.name for o in (tmp/'seg').iterdir() if o.name != 'contents.json') == ['masks', 'masks-toy', 'segmentation.json', 'train.jsonl', 'weights.safetensors']


def test_masks_of_the_same_size_are_told_apart_by_what_they_hold(tmp):
    for name in 'ab': (tmp/f'{name}.png').write_bytes(b'mask ' + name.encode())
    split = lambda name: Split('train', [Item('one', tmp/'a.png', (0,), tmp/f'{name}.png')], CLASSES)  # noqa: E731
    assert mask_mark(split('a')) != mask_mark(split('b'))
    (tmp/'b.png').write_bytes(b'mask a')
    assert mask_mark(split('a')) == mask_mark(split('b'))
    old = mask_mark(split('a'), lambda file: file.stat().st_size)[:16]  # as older versions have noted it
    for noted, kept in ((old, old), ('0'*16, mask_mark(split('a'))), (None, mask_mark(split('a')))):
        if noted: write_json(tmp/'segmentation.json', {'format': 'wood_nb.segmentation', 'version': 1, 'network': 'deeplab_tiny', 'masks': noted})
        else: (tmp/'segmentation.json').unlink()
        assert _noted_mark(tmp/'segmentation.json', split('a'), content_mark) == kept


def test_what_an_evaluation_says_is_kept_beside_the_masks(data, tmp):
    "Boundary F, precision, recall, confusions, co-occurrence; without and with the CRF."
    made = recipe('scenes', steps=2, batch_size=2, augment=PairAugment((1.0,), 32), precision='no', crf='toy')
    row, _ = final_segmentation(tmp/'seg', 'wood', data.subset(range(4), 'train'), [data], made, lambda image, p: p)
    plain, refined = (read_json(tmp/f'seg/{name}/val/evaluation.json', 'wood_nb.evaluation') for name in ('masks', 'masks-toy'))
    found = evaluate(data, tmp/'seg/masks/val', title=None)
    assert (plain['crf'], refined['crf'], plain['method'], plain['network'], plain['miou']) == (False, True, 'wood', 'deeplab_tiny', row['miou'])
    for n, (name, own) in enumerate(plain['classes'].items()):
        for key, values in (('iou', found.scores.iou), ('boundary_f', found.boundary_f), ('precision', found.scores.precision), ('recall', found.scores.recall)):
            assert own[key] == pytest.approx(100*values[n], abs=1e-3) if np.isfinite(values[n]) else own[key] is None, (name, key)
    assert [o['true'] for o in plain['confusions']] == [o.true for o in largest_confusions(found.scores, 10)]
    assert [o['name'] for o in plain['co_occurrence']] == list(CLASSES)


def test_a_cluster_without_a_name_is_called_by_what_it_is_taken_for():
    store = FeatureStore(['a', 'b', 'c'], np.eye(3), np.array([[0.1, 0.9], [0.8, 0.1], [0.2, 0.3]]), np.array([0, 1, 1]), np.eye(2, 3))
    assert cluster_words(store, CLASSES, {0: 'rails', 1: 'cluster 1'}) == {0: 'rails', 1: 'cluster 1 (taken for cat)'}


def test_probabilities_come_into_a_folder_of_masks(net, data, tmp):
    "Asked for later, they are made where they are missing, and nothing else is made again."
    out = segment_split(net, data, tmp/'out')
    assert not list(out.glob('*.npz'))
    segment_split(net, data.subset(range(2)), out, keep=True)
    before = {n: (out/f'{n}.npz').stat().st_mtime_ns for n in range(2)}
    segment_split(net, data, out, keep=True)
    assert len(list(out.glob('*.npz'))) == 5 and before == {n: (out/f'{n}.npz').stat().st_mtime_ns for n in range(2)}


def test_rows_take_the_place_of_their_like(tmp):
    row = {'method': 'cam', 'stage': 'segmentation', 'split': 'val', 'seed': 0, 'crf': False, 'other_classes': 'ignore', 'network': 'n', 'miou': 1.0, 'per_class': {}}
    add_results(tmp/'metrics.json', [row, {**row, 'seed': 1}])
    add_results(tmp/'metrics.json', [{**row, 'miou': 2.0}, {**row, 'crf': True}])
    assert [(o['seed'], o['crf'], o['miou']) for o in read_results(tmp/'metrics.json')] == [(1, False, 1.0), (0, False, 2.0), (0, True, 1.0)]


def test_a_start_that_cannot_be_had_claims_nothing(data, tmp):
    "Weights that are missing: after the remedy the same folder is used."
    made = recipe('scenes', steps=1, batch_size=2, augment=PairAugment((1.0,), 32), precision='no')
    with pytest.raises(DataError, match='none.safetensors'):
        final_segmentation(tmp/'seg', 'wood', data.subset(range(4), 'train'), [data], replace(made, weights='none.safetensors'))
    assert not (tmp/'seg').exists()
    assert len(final_segmentation(tmp/'seg', 'wood', data.subset(range(4), 'train'), [data], made)) == 1


@pytest.mark.parametrize('name', ['r.tgz', 'r.tar'])
def test_equal_masks_make_equal_packages(data, folder, tmp, name):
    first = write_package(data, folder, tmp/name, CLASSES).read_bytes()
    (tmp/'later').mkdir(); time.sleep(1.1)      # a second: gzip's time has no parts of it
    assert write_package(data, folder, tmp/'later'/name, CLASSES).read_bytes() == first and b'.tmp' not in first and name.encode() not in first


def test_packages_that_are_damaged(data, folder, tmp):
    whole = write_package(data, folder, tmp/'r.tgz', CLASSES).read_bytes()
    for content in (whole[:60], whole[:-40], b'', whole[:40] + bytes(30) + whole[70:], b'\x1f\x8b\x08' + bytes(20)):
        (tmp/'b.tgz').write_bytes(content)
        with pytest.raises(DataError, match='b.tgz'): check_package(tmp/'b.tgz', data)
    place = _package_place('test')
    with pytest.raises(DataError, match='not a readable PNG'): check_package(packed(tmp/'c.tar', {f'{place}/{n}.png': b'no picture' for n in range(5)}), data)


@pytest.mark.parametrize('change, said', [({'count': 2}, 'of values .* where there are 2'), ({'p': np.zeros((3, 4, 4))}, "'p' is float64"), ({'values': np.array([0, 0, 1])}, 'of values'),
                                          ({'values': np.array([0, 1])}, r"'values'|'p' is uint8"), ({'count': 10**6}, 'from 1 to 256'), ({'p': np.zeros((0, 2**20, 2**20), np.uint8), 'values': np.zeros(0, int)}, 'more than')])
def test_probabilities_that_are_not(tmp, change, said):
    sound = {'p': np.ones((3, 4, 4), np.uint8), 'values': np.arange(3), 'count': 3}
    write_npz(tmp/'p.npz', **sound)
    assert load_probabilities(tmp/'p.npz').shape == (3, 4, 4)
    write_npz(tmp/'p.npz', **{**sound, **change})
    with pytest.raises(DataError, match=f'p.npz: .*({said})'): load_probabilities(tmp/'p.npz')
