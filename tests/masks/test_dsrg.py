"""DSRG: growing and losses as the golden file has them, growing by loops, the losses by their formulas, a training, the errors."""
import numpy as np
import pytest
import torch
from golden_net import far
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.masks.dsrg import boundary_loss, DSRGConfig, floored, grow, growing_loss, refine, seed_loss, seeds_of
from wood_nb.masks.learn import build_recipe, PairAugment, recipe, SegTrainConfig, train_segnet
from wood_nb.train.config import deciding

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def case(golden):
    with np.load(golden/'dsrg.npz', allow_pickle=False) as file: return dict(file)


def unpacked(case, name): return np.unpackbits(case[name], axis=-1)[..., :int(case['width'])].astype(bool)


def test_golden_dsrg_growing(case):
    for seeds, refined, label, wanted in zip(unpacked(case, 'seeds'), case['refined'], case['labels'], unpacked(case, 'grown')):
        assert np.array_equal(grow(seeds, refined, label > 0), wanted)


def test_golden_dsrg_losses(case):
    refined, grown = torch.from_numpy(case['refined']), torch.from_numpy(unpacked(case, 'grown'))
    for name, loss in (('seed', lambda p: seed_loss(p, grown)), ('boundary', lambda p: boundary_loss(p, refined.to(p)))):
        for kind in (torch.float32, torch.float64):
            logits = torch.from_numpy(case['logits'].astype(np.float32)).to(kind).requires_grad_()
            found = loss(floored(logits))
            found.backward()
            assert abs(float(found.detach()) - float(case[f'{name}_loss'])) < 1e-5*max(1, float(case[f'{name}_loss']))
            assert far(logits.grad[:, :3], case[f'grad_{name}_first3']) < 1e-3


# -- growing by loops ---------------------------------------------------------------------------------------------------

def grown_by_loops(seeds, p, present, config):
    "Pixel by pixel, regions by flooding."
    seeds, (values, height, width) = seeds.copy(), seeds.shape
    label = np.full((height, width), -1)
    own = [v for v in range(values) if present[v]]
    for y in range(height):
        for x in range(width):
            for v in range(values):
                if seeds[v, y, x]: label[y, x] = v
            best = max(own, key=lambda v: p[v, y, x])
            if p[best, y, x] > (config.background if best == 0 else config.foreground): label[y, x] = best
    for v in own:
        frozen, seen = seeds.copy(), set()
        for start in zip(*np.nonzero(label == v)):
            if start in seen: continue
            region, front = {start}, [start]
            while front:
                y, x = front.pop()
                for near in ((y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)):
                    if 0 <= near[0] < height and 0 <= near[1] < width and label[near] == v and near not in region:
                        region.add(near)
                        front.append(near)
            seen |= region
            if not any(frozen[v][at] for at in region): continue
            for at in region:
                if not (frozen[(slice(None), *at)].sum() == 1 and not frozen[v][at]): seeds[v][at] = True
    return seeds


@pytest.mark.parametrize('seed', range(12))
def test_growing_is_what_the_loops_say(seed):
    rng = np.random.default_rng(seed)
    values, height, width = int(rng.integers(2, 6)), int(rng.integers(1, 14)), int(rng.integers(1, 14))
    p = rng.dirichlet(np.full(values, 0.3), (height, width)).transpose(2, 0, 1)
    seeds = rng.random((values, height, width)) < 0.12
    present = rng.random(values) < 0.7
    present[int(rng.integers(values))] = True
    config = DSRGConfig(foreground=0.6, background=0.7)
    before = seeds.copy()
    found = grow(seeds, p, present, config)
    assert np.array_equal(found, grown_by_loops(seeds, p, present, config)) and np.array_equal(seeds, before)
    assert (found >= seeds).all() and np.array_equal(found[~present], seeds[~present])


def test_corners_join_and_other_seeds_stay():
    p = np.zeros((3, 3, 3))
    p[1] = 0.9*np.eye(3)
    seeds = np.zeros((3, 3, 3), bool)
    seeds[1, 0, 0] = seeds[2, 1, 1] = True
    found = grow(seeds, p, np.ones(3))
    assert np.array_equal(found[1], [[True, False, False], [False, False, False], [False, False, True]]), 'across the other seed, not onto it'
    seeds[0, 1, 1] = True
    assert np.array_equal(grow(seeds, p, np.ones(3))[1], np.eye(3, dtype=bool)), 'a pixel of two seeds can be given a third'


def test_thresholds_are_exceeded_not_reached():
    seeds = np.zeros((2, 1, 2), bool)
    seeds[1, 0, 0] = True
    for value, joins in ((0.5, False), (0.51, True)):
        p = np.array([[[0.4, 0.4]], [[0.9, value]]])
        assert grow(seeds, p, np.ones(2), DSRGConfig(foreground=0.5))[1, 0, 1] == joins


def test_background_must_be_surer():
    p = np.array([[[0.95, 0.95]], [[0.05, 0.05]]])
    seeds = np.array([[[True, False]], [[False, False]]])
    assert not grow(seeds, p, np.ones(2))[0, 0, 1] and grow(seeds, p, np.ones(2), DSRGConfig(background=0.9))[0, 0, 1]


# -- losses -------------------------------------------------------------------------------------------------------------

def test_an_image_without_seeds_costs_nothing():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    seeds = torch.zeros(2, 3, 4, 5, dtype=torch.bool)
    assert seed_loss(floored(logits), seeds) == 0
    seeds[0, 2, 1, 1] = True
    loss = seed_loss(floored(logits), seeds)
    loss.backward()
    assert torch.isclose(loss, -floored(logits)[0, 2, 1, 1].log()/2) and torch.isfinite(logits.grad).all() and not logits.grad[1].any()


def test_masks_become_seeds():
    mask = torch.tensor([[[0, 1], [255, 2]]])
    assert seeds_of(mask, 3).int().tolist() == [[[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 1]]]]


def test_a_refined_answer_follows_the_picture():
    images = torch.full((1, 3, 64, 64), -1.0)
    images[..., 32:] = 1.0
    p = torch.full((1, 2, 16, 16), 0.5)
    p[0, 1, :, 8:11], p[0, 0, :, 8:11] = 0.9, 0.1
    p[0, 0, :, :6], p[0, 1, :, :6] = 0.8, 0.2
    found = refine(images, p, DSRGConfig(crf_scale=4))
    assert torch.allclose(found.sum(1), torch.ones(1, 16, 16), atol=1e-5) and found[0, 1, 8, 14] > 0.7 > 0.3 > found[0, 1, 8, 6]


def test_both_losses_reach_the_logits():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    masks = torch.full((2, 8, 8), 255)
    masks[0, 2:4, 2:4] = 1  # the second image has no seed at all
    seeds, boundary = growing_loss(torch.randn(2, 3, 32, 32), masks, logits, DSRGConfig(crf_scale=4))
    (seeds + boundary).backward()
    assert seeds > 0 and boundary > 0 and torch.isfinite(logits.grad).all() and logits.grad[1].any()


# -- as an option of a training of segmentation -------------------------------------------------------------------------

@pytest.fixture
def scenes(tmp_path):
    "Four pictures, dark left and bright right, of which a few pixels are known."
    for n in range(4):
        pixels = np.full((48, 48, 3), 40, np.uint8)
        pixels[:, 20 + n:] = 220
        Image.fromarray(pixels).save(tmp_path/f'{n}.png')
        mask = np.full((48, 48), 255, np.uint8)
        mask[8:16, 32:40], mask[8:40, 4:10] = 1, 0
        write_mask(tmp_path/f'm{n}.png', mask)
    items = [Item(str(n), tmp_path/f'{n}.png', (0,), mask=tmp_path/f'm{n}.png') for n in range(4)]
    return Split('train', items, ('a',))


def test_a_training_that_grows(scenes):
    made = recipe('scenes', steps=4, batch_size=4, growing=DSRGConfig(crf_scale=4), augment=PairAugment((1.,), 48))
    net = build_recipe(made, scenes.classes)
    log, _ = train_segnet(net, scenes, made.train, title=None)
    assert {'loss', 'loss/seeds', 'loss/boundary'} <= set(log[-1]) and 'loss/pixels' not in log[-1] and log[-1]['loss'] < log[0]['loss']
    row = log[0]
    assert row['loss'] == pytest.approx(row['loss/seeds'] + row['loss/boundary'], rel=1e-4)


def test_trainings_of_before_are_the_same_training():
    plain, growing = SegTrainConfig(), SegTrainConfig(growing=DSRGConfig())
    assert 'growing' not in deciding(plain, bare=True) and deciding(growing, bare=True)['growing']['ratio'] == 20


@pytest.mark.parametrize('call, says', [
    (lambda: grow(np.zeros((3, 4, 4), bool), np.zeros((3, 4, 5)), np.ones(3)), 'size of the network'),
    (lambda: grow(np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4)), np.ones(2)), 'size of the network'),
    (lambda: grow(np.zeros((4, 4), bool), np.zeros((4, 4)), np.ones(4)), 'size of the network'),
    (lambda: grow(np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4)), np.zeros(3)), 'no value at all'),
    (lambda: DSRGConfig(foreground=1.2), 'foreground=1.2: must be a probability'),
    (lambda: DSRGConfig(background=0), 'background=0: must be a probability'),
    (lambda: DSRGConfig(ratio=1), 'ratio=1: must be above 1'),
    (lambda: DSRGConfig(floor=0), 'floor=0: must be above 0'),
    (lambda: DSRGConfig(crf='none'), "CRF 'none' is not known")])
def test_bad_input_is_one_clear_error(call, says):
    with pytest.raises(DataError, match=says): call()
