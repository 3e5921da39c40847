"""CIAN: the block, who meets whom, the losses, networks and trainings with it, commands; and the public code's own outputs."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from segnets import stopping_at_four
from wood_nb.base.files import DataError
from wood_nb.base.options import options_of
from wood_nb.data.images import IGNORE, write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.maps.methods import colour_of, method_name
from wood_nb.masks.cian import (attention, CIANConfig, CIANLoss, classes_of_labels, classes_of_masks, completion_targets, context_loss,
                                cross_entropy, CrossAffinity, CrossNet, CrossTrainConfig, group_batches, groups_of, GroupSampler, masks_at,
                                ShownImages, strange_mass, where_it_looks, with_cross, with_partners, without_partner)
from wood_nb.masks.dynamic import reopen
from wood_nb.masks.learn import build_recipe, pixel_loss, PairAugment, quick_scores, recipe, SegTrainConfig, train_segnet
from wood_nb.masks.segment import final_segmentation
from wood_nb.nets.deeplab import build_segnet, open_segnet
from wood_nb.nets.weights import save_weights
from wood_nb.runs.config import SegmentConfig
from wood_nb.train.batches import Batch
from wood_nb.train.safe import TrainingStopped

CROSS = CIANConfig(width=8)
PLAIN = SegTrainConfig(steps=4, batch_size=4, lr=0.005, lr_head=0.01, clip=1.0, update_every=1, augment=PairAugment((1.0, 1.25), 32), checkpoint_every=2)
CONFIG = CrossTrainConfig.around(PLAIN, CROSS)

pytestmark = pytest.mark.usefixtures('one_thread')


def far(found, wanted) -> float:
    "The largest difference over the largest absolute value."
    found, wanted = (torch.as_tensor(np.asarray(o.detach() if torch.is_tensor(o) else o), dtype=torch.float64) for o in (found, wanted))
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max()/wanted.abs().max())


# --- the public code's outputs ------------------------------------------------------------------------------------------

@pytest.fixture
def affinity(golden):
    with np.load(golden/'cian_affinity.npz') as file: return {name: torch.from_numpy(file[name]) for name in file.files}


def block_of(known: dict, **options) -> CrossAffinity:
    "The block of `cian_affinity`: dot products unless told otherwise."
    dim, width = known['conv_out_weight'].shape[:2]
    block = CrossAffinity(dim, CIANConfig(**{'width': width, 'similarity': 'dot', 'group': int(known['group_size']), **options}))
    names = dict(query='conv_embed_q', key='conv_embed_k', value='conv_embed_v', out='conv_out')
    state = {f'{ours}.weight': known[f'{theirs}_weight'] for ours, theirs in names.items()}
    norm = dict(weight='gamma', bias='beta', running_mean='moving_mean', running_var='moving_var')
    state |= {f'norm.{ours}': known[f'bn_out_{theirs}'].clone() for ours, theirs in norm.items()}
    block.load_state_dict({**block.state_dict(), **state})
    return block


def added(block: CrossAffinity, x, told): return block.norm(block.out(told.unflatten(2, x.shape[2:])))


def test_cian_affinity_in_prediction(affinity):
    x, block = affinity['x'], block_of(affinity).eval()
    seen = block.embedded(x)
    assert far(attention(seen.query, seen.key, 'dot'), affinity['attention_self']) < 1e-4
    assert far(block.heard(seen).unflatten(2, x.shape[2:]), affinity['message_self']) < 1e-4
    for name, options in dict(self_eval={}, self_eval_cosine=dict(similarity='cosine'), self_eval_nopool=dict(pool=False)).items():
        assert far(block_of(affinity, **options).eval().alone(x) - x, affinity[name]) < 1e-4, name
    paths = block_of(affinity, own=False).eval()(x)
    assert far(paths.cross - x, affinity['cross_eval_partner_only']) < 1e-4 and far(paths.own - x, affinity['self_eval']) < 1e-4


def test_cian_affinity_in_training(affinity):
    "Both paths, each by its own statistics, and the gradients of all weights and of the features."
    block, x = block_of(affinity).train(), affinity['x'].clone().requires_grad_()
    own, cross = (path - x for path in block(x))
    assert far(own, affinity['self_train']) < 1e-4 and far(cross, affinity['cross_train_max']) < 1e-4
    assert far(block_of(affinity, merge='mean').train()(affinity['x']).cross - affinity['x'], affinity['cross_train_avg']) < 1e-4
    (own*affinity['cotangent'][0] + cross*affinity['cotangent'][1]).sum().backward()
    found = dict(x=x, conv_embed_q_weight=block.query.weight, conv_embed_k_weight=block.key.weight, conv_embed_v_weight=block.value.weight,
                 conv_out_weight=block.out.weight, bn_out_gamma=block.norm.weight, bn_out_beta=block.norm.bias)
    for name, tensor in found.items(): assert far(tensor.grad, affinity[f'grad_{name}']) < 1e-3, name


def test_cian_affinity_moves_its_statistics_twice_if_asked(affinity):
    both, once = (block_of(affinity, update_both=o).train() for o in (True, False))
    for block in (both, once): block(affinity['x'])
    for name, own in (('mean', 'running_mean'), ('var', 'running_var')):
        assert far(getattr(both.norm, own), affinity[f'moving_{name}_after']) < 1e-4
        assert far(getattr(once.norm, own), affinity[f'moving_{name}_after']) > 1e-3
    once.alone(affinity['x'])      # by itself the own path has a statistic as well
    single = block_of(affinity).train()
    for _ in range(2): single.alone(affinity['x'])
    assert torch.allclose(single.norm.running_mean, once.norm.running_mean, atol=1e-6)


@pytest.fixture
def losses(golden):
    with np.load(golden/'cian_losses.npz') as file: return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


def gradient(logits, loss) -> torch.Tensor:
    "Of as many times the loss as there are images."
    logits = logits.detach().float().clone().requires_grad_()
    (len(logits)*loss(logits)).backward()
    return logits.grad


def test_cian_losses(losses):
    masks = losses['label'].long()
    own, cross = losses['logits_self'], losses['logits_cross'].float()
    targets = completion_targets(cross, classes_of_masks(masks, 21))
    other = masks_at(losses['label_other_size'], cross.shape[2:], 21)
    found = dict(seed_self=gradient(own, lambda o: cross_entropy(o, masks)), seed_cross=gradient(cross, lambda o: cross_entropy(o, masks)),
                 completion_self=gradient(own, lambda o: cross_entropy(o, targets)),
                 completion_cross=gradient(cross, lambda o: cross_entropy(o, completion_targets(o, classes_of_masks(masks, 21)))),
                 seed_other_size=gradient(own, lambda o: cross_entropy(o, other)))
    for name, grad in found.items():
        assert far(grad[..., ::3, ::3], losses[f'grad_{name}']) < 1e-4, name
        assert float(grad.double().norm()) == pytest.approx(float(losses[f'grad_{name}_l2']), rel=1e-4), name


def test_cian_pairs(golden):
    with np.load(golden/'cian_pairs.npz') as known:
        batches = list(group_batches(known['labels'], known['order'], int(known['batch_size']), int(known['group_size']), int(known['blocks'])))
        assert np.array_equal(batches, known['batches'])


# --- who meets whom -----------------------------------------------------------------------------------------------------

def random_labels(n, classes, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, classes)) < 0.25
    labels[np.arange(n), rng.integers(0, classes, n)] = True
    return labels


def test_those_passed_over_wait_behind_older_ones():
    "0 passes 1 to 4 over and takes 5. Then 1 takes 3 and passes 2 over, which now waits behind 4; 4 takes 7, and only then comes 2."
    classes = ['a', 'b', 'c', 'b', 'd', 'a', 'c', 'd']
    labels = np.array([[one == other for other in 'abcd'] for one in classes])
    assert list(groups_of(labels, range(8), 2)) == [[0, 5], [1, 3], [4, 7], [2, 6]]


@pytest.mark.parametrize('size, parts', [(2, 1), (2, 2), (3, 1), (3, 2), (4, 3)])
def test_groups_share_classes_in_every_part(size, parts):
    labels, per = random_labels(200, 6), 2*size
    batches = list(group_batches(labels, np.random.default_rng(1).permutation(200), per*parts, size, parts))
    assert batches and len({o for batch in batches for o in batch}) == sum(map(len, batches))
    for batch in batches:
        for part in np.reshape(batch, (parts, size, 2)):
            for members in part.T: assert all((labels[a] & labels[b]).any() for a in members for b in members)


def test_steps_are_the_same_after_a_restart():
    labels = random_labels(40, 4)
    whole = list(GroupSampler(labels, 8, 2, 3, 0, 20))
    assert list(GroupSampler(labels, 8, 2, 3, 13, 20)) == whole[13:] and len({epoch for epoch, _ in sum(whole, [])}) > 2
    assert list(GroupSampler(labels, 8, 2, 4, 0, 20)) != whole


def test_batches_must_divide_into_groups():
    with pytest.raises(DataError, match=r'batch_size=10 does not divide into 2 part\(s\) with groups of 2 .*take a multiple of 4'):
        next(group_batches(random_labels(40, 4), range(40), 10, 2, 2))


def test_a_sampler_that_never_fills_a_batch_says_so():
    with pytest.raises(DataError, match='no batch of 8 images in groups of 2 could be drawn from 6 images'):
        next(iter(GroupSampler(random_labels(6, 2), 8, 2, 0, 0, 5)))


def test_images_without_a_partner():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert without_partner(labels).tolist() == [2, 3]
    items = [Item(f'{n}', f'{n}.png', tuple(np.flatnonzero(row))) for n, row in enumerate(labels)]
    split = Split('train', items, ('a', 'b', 'c'))
    with pytest.raises(DataError, match=r"2\.png: it shows c, and no other image of split 'train' does.*1 more.*--skip-alone"): with_partners(split)
    assert with_partners(split, skip_alone=True).ids == ['0', '1']
    with pytest.raises(DataError, match='shows no class at all'): with_partners(split.subset([3, 0, 1]))
    with pytest.raises(DataError, match='no two images share a class'): with_partners(split.subset([0, 2]), skip_alone=True)
    assert with_partners(split.subset([0, 1])).ids == ['0', '1']


# --- the block ----------------------------------------------------------------------------------------------------------

def test_at_first_the_block_is_not_there():
    x = torch.randn(6, 10, 5, 7)
    for options in ({}, dict(group=3), dict(similarity='cosine', pool=False), dict(merge='mean', own=False)):
        paths = CrossAffinity(10, CIANConfig(**options))(x)
        assert torch.equal(paths.own, x) and torch.equal(paths.cross, x)


def test_groups_of_three_by_hand():
    "Every member hears the two others and itself; whoever is in another group changes nothing."
    torch.manual_seed(0)
    block = CrossAffinity(10, CIANConfig(width=4, group=3)).eval()
    torch.nn.init.ones_(block.norm.weight)
    x = torch.randn(6, 10, 5, 7)
    seen, cross = block.embedded(x), block(x).cross
    for n in range(6):
        members = [m for m in range(6) if m % 2 == n % 2]
        told = [seen.value[m] @ (seen.key[m].T @ seen.query[n]/2).softmax(0) for m in members]
        assert torch.allclose(cross[n] - x[n], added(block, x[n:n + 1], torch.stack(told).amax(0)[None])[0], atol=1e-5)


def test_keys_start_as_the_queries_unless_told_otherwise():
    "So a place first listens to its like."
    torch.manual_seed(0)
    twin, apart = CrossAffinity(10), CrossAffinity(10, CIANConfig.official())
    assert torch.equal(twin.key.weight, twin.query.weight) and not torch.equal(apart.key.weight, apart.query.weight)
    twin = CrossAffinity(10, CIANConfig(similarity='cosine', pool=False))
    seen = twin.embedded(torch.randn(1, 10, 4, 4))
    assert torch.equal(attention(seen.query, seen.key, 'cosine')[0].argmax(0), torch.arange(16))


def test_scaled_attention_does_not_depend_on_the_width():
    def heard(width, similarity):
        weights = attention(torch.randn(1, width, 40), torch.randn(1, width, 100), similarity)
        return float((-(weights*weights.clamp(min=1e-12).log()).sum(1)).exp().mean())
    torch.manual_seed(0)
    assert heard(1024, 'dot') < 2 and heard(1024, 'cosine') > 95 and abs(heard(1024, 'scaled') - heard(16, 'scaled')) < 15


@pytest.mark.parametrize('images', [3, 0, 1])
def test_a_batch_that_is_no_multiple_of_the_group(images):
    with pytest.raises(DataError, match=f'a batch of {images} image.s. does not divide into groups of 2; .*eval'):
        CrossAffinity(8, CROSS)(torch.zeros(images, 8, 4, 4))


@pytest.mark.parametrize('options, message', [
    (dict(group=1), 'group=1: must be a whole number, at least 2'), (dict(similarity='rbf'), "similarity='rbf': must be 'dot'"),
    (dict(merge='sum'), "merge='sum'"), (dict(complete='all'), "complete='all'"), (dict(resize='bilinear'), "resize='bilinear'"),
    (dict(width=0), 'width=0'), (dict(completion=-1), 'completion=-1'), (dict(ood_mass=1.0), 'ood_mass=1.0'), (dict(ood=-0.1), 'ood=-0.1')])
def test_options_that_make_no_sense(options, message):
    with pytest.raises(DataError, match=message): CIANConfig(**options)


def test_official_is_the_public_code():
    made, training = CIANConfig.official(), CrossTrainConfig.official()
    assert (made.similarity, made.complete, made.resize, made.update_both, made.pool, made.merge, made.own, made.group) == (
        'dot', 'crop', 'one-hot', True, True, 'max', True, 2) and not made.twin and made.ood == 0 == CIANConfig().ood
    assert (training.lr, training.lr_head, training.weight_decay, training.momentum, training.batch_size, training.epochs) == (5e-4, 5e-3, 5e-4, 0.9, 16, 20)
    assert not training.balanced and training.augment == PairAugment((0.5, 0.75, 1.0, 1.25, 1.5), 321) and training.cross == made
    assert training.total_steps(10_582) == 13_228 and training.rate_step(700) == 661
    assert {o.flag for o in options_of(CIANConfig)} >= {'--similarity', '--group', '--completion', '--complete', '--ood'}


# --- the losses ---------------------------------------------------------------------------------------------------------

def test_which_classes_may_be_completed():
    masks = torch.tensor([[[0, 255], [2, 2]], [[255, 255], [255, 1]]])
    assert classes_of_masks(masks, 4).tolist() == [[True, False, True, False], [False, True, False, False]]
    assert classes_of_labels(torch.tensor([[1., 0, 0], [0, 1, 1]])).tolist() == [[True, True, False, False], [True, False, True, True]]
    logits = F.one_hot(torch.tensor([[[3, 0], [2, 1]]]), 4).permute(0, 3, 1, 2).float()
    assert completion_targets(logits, classes_of_masks(masks[:1], 4)).tolist() == [[[255, 0], [2, 255]]]
    assert completion_targets(logits, classes_of_labels(torch.tensor([[0, 0, 1]]))).tolist() == [[[3, 0], [255, 255]]]


def test_no_gradient_through_the_target_and_no_nan_without_one():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    nothing = completion_targets(logits, torch.zeros(2, 3, dtype=torch.bool))
    assert not nothing.requires_grad and (nothing == IGNORE).all()
    loss = cross_entropy(logits, nothing)
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize('label', [3, 37, 254])
def test_labels_of_unknown_classes(label):
    with pytest.raises(DataError, match=f'a label is {label}, but the network tells 3 values apart .0 to 2; 255 is not known.*check the class list'):
        cross_entropy(torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 255], [label, 1]]]))


def test_labels_of_another_size_are_classes_that_were_there():
    masks = torch.zeros(1, 32, 32, dtype=torch.long)
    masks[:, 5:20, 7:25], masks[:, :3] = 15, 255
    for size in ((11, 13), (64, 50), (5, 5)): assert set(masks_at(masks, size, 21).unique().tolist()) <= {0, 15, 255}
    assert torch.equal(masks_at(masks, (32, 32), 21), masks)


# --- networks and trainings ---------------------------------------------------------------------------------------------

def picture(n, rng):
    "A picture of 40x32 pixels with a square of class a or b, and its mask."
    pixels, mask = rng.integers(0, 80, (32, 40, 3), np.uint8), np.zeros((32, 40), np.uint8)
    mask[8:24, 10:30], mask[0] = n % 2 + 1, 255
    pixels[mask == n % 2 + 1] += np.array([[150, 0, 0], [0, 150, 0]], np.uint8)[n % 2]
    return Image.fromarray(pixels), mask


@pytest.fixture
def data(tmp):
    items, rng = [], np.random.default_rng(0)
    for n in range(8):
        image, mask = picture(n, rng)
        image.save(f'{n}.png')
        write_mask(f'masks/{n}.png', mask)
        items.append(Item(f'{n}', tmp/f'{n}.png', (n % 2,), tmp/f'masks/{n}.png'))
    return Split('train', items, ('a', 'b'), raw_classes=2)


@pytest.fixture
def ood(tmp):
    "Three pictures without labels and masks."
    items, rng = [], np.random.default_rng(1)
    for n in range(3):
        Image.fromarray(rng.integers(0, 255, (36, 48, 3), np.uint8)).save(f'ood{n}.png')
        items.append(Item(f'ood{n}', tmp/f'ood{n}.png'))
    return Split('ood', items, ('a', 'b'))


def net(seed=0, cross=CROSS, **options):
    torch.manual_seed(seed)
    made = CrossNet(build_segnet('deeplab_tiny', ('a', 'b'), **options), cross)
    torch.nn.init.ones_(made.cross.norm.weight)
    return made


def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize('name, pyramid, size', [('deeplab_tiny', (), 32), ('deeplab_tiny', (0.5, 0.75), 32), ('deeplab_mobilenet', (), 64),
                                                 ('deeplab3_resnet50', (), 33)])
def test_any_network_takes_the_block(name, pyramid, size):
    "At first it answers as without; prediction needs no partner; in training both paths answer in the same form."
    torch.manual_seed(0)
    plain = build_segnet(name, ('a', 'b'), pyramid=pyramid).eval()
    crossed, images = CrossNet(plain, replace(CROSS, width=4)).eval(), torch.randn(1, 3, size, size)
    with torch.no_grad(): assert torch.equal(plain(images).logits, crossed(images).logits)
    out = crossed.train()(torch.randn(2, 3, size, size))
    assert len(out.parts) == len(plain.train()(torch.randn(2, 3, size, size)).parts) and out.strange is None
    assert out.cross.logits.shape == out.logits.shape == out.cross.parts[-1][1].shape
    (out.logits.sum() + out.cross.logits.sum()).backward()
    assert all(p.grad is not None for p in crossed.cross.parameters())


def test_a_network_with_the_block_is_saved_and_opened(tmp):
    made = net(cross=CIANConfig(width=6, similarity='cosine', pool=False, merge='mean', own=False), pyramid=(0.5,))
    save_weights(made, 'cross.safetensors')
    again = reopen('cross.safetensors', ('a', 'b'))
    assert same(made, again) and not again.training and again.pyramid == (0.5,)
    assert [getattr(again.cross.config, o) for o in ('width', 'similarity', 'pool', 'merge', 'own')] == [6, 'cosine', False, 'mean', False]
    with pytest.raises(DataError, match='parts of its own .cross.; open it with wood_nb.masks.dynamic.reopen'): open_segnet('cross.safetensors')
    with pytest.raises(DataError, match='was trained for 2 classes'): reopen('cross.safetensors', ('a',))
    save_weights(build_segnet('deeplab_tiny', ('a', 'b')), 'plain.safetensors')
    assert not isinstance(reopen('plain.safetensors'), CrossNet)


def test_frozen_norms_leave_the_new_one_alone():
    from wood_nb.nets.camnet import freeze_norm
    made = net()
    freeze_norm(made)
    made.train()
    assert made.cross.norm.training and not made.backbone.layer1.bn1.training


def test_the_loss_has_four_terms_that_add_up(data):
    batch = Batch(torch.randn(4, 3, 32, 32), torch.randint(0, 3, (4, 32, 32)), None, torch.tensor([[1., 0], [1, 1], [1, 0], [0, 1]]))
    batch.labels[:, 0] = 255
    made = net().train()
    for complete in ('image', 'crop'):
        for balanced in (True, False):
            config = replace(CONFIG, balanced=balanced, cross=replace(CROSS, complete=complete, completion=0.5))
            terms = {name: value.detach() for name, value in CIANLoss(config, data)(made, batch).items()}
            assert float(terms['loss']) == pytest.approx(float(terms['pixels'] + terms['pixels_cross'] + 0.5*(terms['completion'] + terms['completion_cross'])))
            with torch.no_grad(): out, small = made(batch.images), batch.labels[:, 4::8, 4::8]
            assert float(terms['pixels']) == pytest.approx(float(pixel_loss(out.logits, small, balanced)), rel=1e-4)
            allowed = classes_of_labels(batch.shown) if complete == 'image' else classes_of_masks(small, 3)
            wanted = cross_entropy(out.logits, completion_targets(out.cross.logits, allowed))
            assert float(terms['completion']) == pytest.approx(float(wanted), rel=1e-4)
    assert set(CIANLoss(replace(CONFIG, cross=replace(CROSS, completion=0)), data)(made, batch)) == {'loss', 'pixels', 'pixels_cross'}
    with torch.no_grad(): shares = CIANLoss(replace(CONFIG, cross=CIANConfig.official(width=8)), data)(made, batch)
    assert float(shares['pixels']) == pytest.approx(float(pixel_loss(out.logits, masks_at(batch.labels, (4, 4), 3), True)), rel=1e-3)


def test_training_with_the_block_learns(data, tmp):
    made = net()
    torch.nn.init.zeros_(made.cross.norm.weight)      # as it starts
    config = replace(CONFIG, steps=30, freeze_norm=False, train_norm=True, lr=0.01, lr_head=0.02)
    training = train_segnet(made, data, config, tmp/'out', title=None)
    assert quick_scores(made, data).miou > 0.4 and training.log[-1]['loss'] < 0.8*training.log[0]['loss']
    assert {'loss/pixels', 'loss/pixels_cross', 'loss/completion', 'loss/completion_cross'} <= set(training.log[-1])
    assert same(reopen(tmp/'out'/'weights.safetensors', ('a', 'b')), made) and float(made.cross.norm.weight.detach().abs().max()) > 0


def test_interrupted_and_resumed_is_bit_identical(data, ood, tmp, monkeypatch):
    "With OoD partners, whose batches are drawn beside; other options of the block are another training."
    config = replace(CONFIG, steps=6, cross=replace(CROSS, ood=0.5))
    whole, first, second = net(), net(), net(seed=5)
    expected = train_segnet(whole, data, config, tmp/'whole', title=None, ood=ood)
    with monkeypatch.context() as patch:
        patch.setattr('wood_nb.masks.cian.CIANLoss', stopping_at_four(CIANLoss))
        with pytest.raises(TrainingStopped): train_segnet(first, data, config, tmp/'halves', title=None, ood=ood)
    with pytest.raises(DataError, match='differs in cross'):
        train_segnet(net(), data, replace(config, cross=replace(CROSS, ood=0.6)), tmp/'halves', title=None, ood=ood)
    resumed = train_segnet(second, data, config, tmp/'halves', title=None, ood=ood)
    assert same(whole, second) and [o['loss/ood'] for o in resumed.log] == [o['loss/ood'] for o in expected.log] and len(resumed.log) == 6


def test_examples_carry_the_labels_and_parts_keep_their_groups(data, ood):
    pixels, mask, shown = ShownImages(data, CONFIG.augment, 0)[0, 1]
    assert pixels.shape == (3, 32, 32) and shown.tolist() == [0, 1] and set(mask.unique().tolist()) <= {0, 2, 255}
    assert (ShownImages(ood, CONFIG.augment, 0)[0, 1][1] == 255).all()
    sampler = replace(CONFIG, batch_size=8, accumulate=2).places(data, 8, 0, 0, 3)
    for batch in sampler:
        for part in (batch[:4], batch[4:]): assert [data[i].labels for _, i in part[:2]] == [data[i].labels for _, i in part[2:]]
    assert not isinstance(CONFIG.places(ood, 4, 0, 0, 3), GroupSampler)
    with pytest.raises(DataError, match='batch_size=6 does not divide into 2 part'): next(iter(replace(CONFIG, accumulate=2).places(data, 6, 0, 0, 3)))


# --- OoD partners -------------------------------------------------------------------------------------------------------

def test_attention_that_goes_over_to_an_ood_picture():
    "Places that look like what is only in the OoD picture look there; the others stay at home."
    block = CrossAffinity(2, CIANConfig(width=2, similarity='dot', pool=False))
    with torch.no_grad():
        for layer in (block.query, block.key): layer.weight.copy_(10*torch.eye(2)[:, :, None, None])
    home, away = torch.tensor([1., 0]), torch.tensor([0., 1])
    x = home[None, :, None, None].repeat(1, 1, 3, 4)
    x[0, :, 0, 0] = 0.3*away      # a place that resembles the OoD picture more than anything at home
    others = away[None, :, None, None].repeat(1, 1, 3, 4)
    mass = strange_mass(block, x, others)
    assert mass.shape == (1, 3, 4) and mass[0, 0, 0] > 0.99 and (mass.flatten()[1:] < 0.01).all()
    assert torch.allclose(strange_mass(block, x, x), torch.full((1, 3, 4), 0.5))      # the same picture twice: one half
    with pytest.raises(DataError, match='no OoD picture to attend to'): strange_mass(block, x, others[:0])


def test_context_is_taught_background():
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    mass = torch.tensor([[[0.2, 0.5], [0.6, 0.9]]])
    context_loss(logits, mass).backward()
    assert (logits.grad[0, 0, 1] < 0).all() and (logits.grad[0, 1:, 1] > 0).all() and (logits.grad[:, :, 0] == 0).all()
    assert context_loss(logits, mass, 0.95) == 0


def test_ood_partners_change_the_training_and_only_if_asked(data, ood):
    def trained(weight, pictures):
        made = net()
        train_segnet(made, data, replace(CONFIG, steps=2, cross=replace(CROSS, ood=weight)), title=None, ood=pictures)
        return made
    without = trained(0.0, None)
    assert same(without, trained(0.5, None)) and same(without, trained(0.0, ood)) and not same(without, trained(0.5, ood))


# --- pictures, recipes, commands ----------------------------------------------------------------------------------------

def test_where_a_pixel_looks(data):
    made = net()
    heat = where_it_looks(made, data.image(0), data.image(2), [(0, 0), (31, 39), (16, 20)])
    assert heat.shape == (3, 2, 3) and np.allclose(heat.sum((1, 2)), 1) and made.training


def test_a_recipe_with_the_block():
    made = with_cross(recipe('scenes', steps=3, batch_size=4), CROSS)
    assert made.train.steps == 3 and made.train.cross == CROSS and made.network == 'deeplab_tiny' and recipe('scenes').train.lr == made.train.lr
    built, plain = build_recipe(made, ('a', 'b')), build_recipe(recipe('scenes'), ('a', 'b'))
    assert isinstance(built, CrossNet) and all(torch.equal(built.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())


def test_a_final_segmentation_with_the_block(data, tmp):
    "Its rows have its name; a folder of other options is refused; masks need no partner."
    made = with_cross(recipe('scenes', steps=2, batch_size=4, augment=PairAugment((1.0,), 32)), CROSS)
    rows = final_segmentation(tmp/'out', 'wood+irn+cian', data, [data.subset([0], 'val')], made, title=None)
    assert rows[0]['method'] == 'wood+irn+cian' and rows[0]['images'] == 1 and (tmp/'out/masks/val/0.png').is_file()
    with pytest.raises(DataError, match='made otherwise .train'):
        final_segmentation(tmp/'out', 'wood+irn+cian', data, [data.subset([0], 'val')], replace(made, train=replace(made.train, cross=CIANConfig())), title=None)


def test_the_registry_names_it():
    assert method_name('wood+irn+cian') == 'W-OoD + IRN + CIAN' and colour_of('wood+irn+cian') == colour_of('wood')


def test_options_of_the_block_without_it_are_refused():
    assert SegmentConfig(cross=True, cross_ood=0.1, skip_alone=True).cross_ood == 0.1
    for options in (dict(cross_official=True), dict(cross_ood=0.1), dict(skip_alone=True)):
        with pytest.raises(DataError, match='give --cross, too'): SegmentConfig(**options)
    with pytest.raises(DataError, match='cross_ood=-1'): SegmentConfig(cross=True, cross_ood=-1)
