"""W-OoD's parts: the presets differ where the paper and the code differ, the losses stay finite, and each bad input is said clearly."""
import logging
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from wood_nb.train.batches import Batch
from wood_nb.train.config import TrainConfig
from wood_nb.train.loop import classification_loss
from wood_nb.train.predict import predict_all
from wood_nb.base.files import DataError, read_json
from wood_nb.data.augment import Augment
from wood_nb.data.splits import Item, Split
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.nets.camnet import freeze_norm
from wood_nb.ood import wood
from wood_nb.ood.kmeans import kmeans
from wood_nb.ood.wood import (distance_loss, distances, find_centres, harden, nearest_clusters, perturb,
                              train_wood, WOoDConfig, WOoDLoss, zero_label_loss)

CLASSES = ('red', 'green', 'blue')
QUICK = TrainConfig(steps=2, batch_size=2, augment=Augment.small(32), freeze_stages=0)


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp('noise'), np.random.default_rng(0)
    for n in range(8):
        Image.fromarray(rng.integers(0, 255, (36, 36, 3)).astype(np.uint8)).save(folder/f'{n}.png')
    return folder


def split(folder, name, labels) -> Split:
    return Split(name, [Item(f'{n}', folder/f'{n}.png', own) for n, own in enumerate(labels)], CLASSES)


def net():
    torch.manual_seed(0)
    return build_net('tiny', CLASSES)


def loss_for(config, prototypes=None, known=None, centres=None) -> WOoDLoss:
    torch.manual_seed(1)
    return WOoDLoss(torch.rand(3, 128) if prototypes is None else prototypes, torch.ones(3, dtype=torch.bool) if known is None else known,
                    torch.rand(5, 128) if centres is None else centres, config)


def batch(n=4, m=4, size=32) -> Batch:
    torch.manual_seed(2)
    return Batch(torch.rand(n, 3, size, size), torch.eye(3)[torch.arange(n) % 3], torch.rand(m, 3, size, size) if m else None)


def test_the_presets_are_the_papers_and_the_codes():
    paper, official = WOoDConfig.paper(), WOoDConfig.official()
    assert (paper.scale, paper.tau_scope, paper.ood_weight, paper.perturb, paper.ignored_class) == ('sum', 'image', 1.0, 0.0, None)
    assert (official.scale, official.tau_scope, official.ood_weight, official.perturb, official.ignored_class) == ('mean', 'batch', 0.25, 0.07, 4)
    for config in (paper, official):
        assert (config.tau, config.distance_weight, config.clusters, config.unit, config.margin) == (0.2, 0.007, 50, 'feature', None)
    assert paper.train.momentum < 0.01 and WOoDConfig().train.momentum == 0.9, 'the reference trains by plain SGD, we do not'


def test_the_two_scopes_of_tau_differ():
    d = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [11.0, 12.0, 13.0, 14.0, 15.0]])
    assert nearest_clusters(d, 0.4, 'image').sum(1).tolist() == [2, 2]
    assert nearest_clusters(d, 0.4, 'batch').sum(1).tolist() == [4, 0], 'near images get many clusters, far ones none'
    assert nearest_clusters(d, 0.01, 'image').sum(1).tolist() == [1, 1], 'at least one'


def test_the_sum_is_the_mean_times_the_number_of_clusters():
    d = torch.rand(4, 7) + 1
    parts = (torch.rand(4, 3), d, torch.eye(3)[[0, 1, 2, 0]], nearest_clusters(d, 0.3))
    assert torch.allclose(distance_loss(*parts, scale='sum'), 7 * distance_loss(*parts, scale='mean'))


def test_beyond_the_margin_nothing_is_pushed():
    z = torch.tensor([[0.0, 0.0]], requires_grad=True)
    d = distances(z, torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    distance_loss(torch.zeros(1, 1), d, torch.zeros(1, 1), torch.ones_like(d, dtype=torch.bool), margin=2.0).backward()
    assert z.grad[0, 0] > 0 and z.grad[0, 1] == 0, 'the descent leads away from the near centre; the far one is left alone'


def test_the_gradient_is_finite_at_a_centre():
    z = torch.ones(1, 4, requires_grad=True)
    distances(z, torch.ones(2, 4)).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_zero_labels_by_hand_and_the_ignored_class():
    logits = torch.tensor([[0.0, 0.0], [-9.0, 3.0]])
    by_hand = torch.log1p(logits.exp()).mean(1)
    assert torch.allclose(zero_label_loss(logits), by_hand.mean())
    assert torch.allclose(zero_label_loss(logits, ignored_class=1), by_hand[0] / 2), 'ignored images still count in the mean, as in the code'


@pytest.mark.parametrize('tau', [0.1, 0.2, 0.3, 0.33, 0.5, 0.9])
@pytest.mark.parametrize('shape', [(16, 50), (7, 5), (3, 7), (1, 2), (13, 11)])
def test_the_batch_wide_share_is_rounded_as_the_code_does(shape, tau):
    "The threshold is the least of the int(n (1 - tau)) largest distances, and what lies below it is chosen."
    d = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    largest = torch.topk(d.flatten(), max(1, int(d.numel() * (1 - tau)))).values
    assert torch.equal(nearest_clusters(d, tau, 'batch'), d < largest[-1])


def test_perturbed_images_stay_in_the_range_of_the_batch():
    images = torch.rand(2, 3, 4, 4)
    moved = perturb(images, torch.randn_like(images), 0.5)
    assert images.min() <= moved.min() and moved.max() <= images.max() and not torch.equal(moved, images)
    assert torch.equal(perturb(images, torch.zeros_like(images), 0.5), images), 'no gradient, no step and no NaN'


def test_zero_labels_at_every_place_are_those_of_the_map_and_reach_backbone_and_last_layer():
    torch.manual_seed(0)
    net = build_net('tiny', ['cat', 'dog', 'sheep'], weights=None)
    batch = Batch(torch.rand(2, 3, 48, 64), torch.eye(3)[:2], torch.rand(3, 3, 48, 64))
    centres = torch.zeros(3, net.dim), torch.ones(3), torch.ones(2, net.dim)
    terms = WOoDLoss(*centres, WOoDConfig(terms='zero-label', zero_labels='dense'))(net.eval(), batch)
    maps = net.class_maps(net(batch.ood).features)
    assert maps.shape[2:] != (1, 1) and torch.allclose(terms['ood'], F.softplus(maps).mean(), rtol=1e-4)
    pooled = WOoDLoss(*centres, WOoDConfig(terms='zero-label'))(net, batch)
    assert terms['ood'].item() >= pooled['ood'].item(), 'softplus is convex: no mean of places is below that of their mean'
    terms['ood'].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (net.classifier.weight, next(net.backbone.parameters())))
    logits = torch.tensor([[0.0, 9.0], [1.0, 0.0]])
    assert torch.allclose(zero_label_loss(logits, 1, torch.ones(2, 2, 3, 3)), F.softplus(torch.ones(())) / 2), 'images are ignored as a whole'


@pytest.mark.parametrize('terms, names', [('none', {'loss', 'cls'}), ('zero-label', {'loss', 'cls', 'ood'}),
                                          ('distance', {'loss', 'cls', 'distance'}), ('both', {'loss', 'cls', 'ood', 'distance'})])
def test_the_terms_that_are_on_make_up_the_loss(terms, names):
    config = WOoDConfig(terms=terms, ood_weight=0.5, distance_weight=0.2)
    out = loss_for(config)(net().eval(), batch(m=0 if terms == 'none' else 4))
    parts = out['cls'] + 0.5 * out.get('ood', 0) + 0.2 * out.get('distance', 0)
    assert set(out) == names and torch.allclose(out['loss'], parts)


def test_a_class_without_images_is_reported_and_pulls_nothing(folder, caplog):
    inside, outside = split(folder, 'train', [(0,), (1,)]), split(folder, 'ood', [()] * 6)
    with caplog.at_level(logging.WARNING):
        prototypes, known, centres = find_centres(net(), inside, outside, 2, seed=0)
    assert known.tolist() == [True, True, False] and 'blue' in caplog.text and torch.isfinite(prototypes).all() and len(centres) == 2
    loss, z = loss_for(WOoDConfig(), prototypes, known, centres), torch.rand(1, 128, requires_grad=True)
    loss.distance(z, torch.tensor([[0.0, 0.0, 1.0]])).backward()
    pushed = z.grad.clone()
    z.grad = None
    loss.distance(z, torch.zeros(1, 3)).backward()
    assert torch.allclose(pushed, z.grad), 'only the push is left'


def test_the_loss_keeps_away_from_the_groups_it_is_given(folder, monkeypatch):
    "Centres are means of the pictures of each group that are there: a merge makes one of two, what was dropped counts for nothing."
    inside, outside = split(folder, 'train', [(0,), (1,), (2,)]), split(folder, 'ood', [()] * 6)
    seen, made = [], WOoDLoss.set_centres
    monkeypatch.setattr(WOoDLoss, 'set_centres', lambda self, *c: (seen.append(c[2]), made(self, *c))[1])

    def centres(groups, ood=outside, **options):
        train_wood(net(), inside, ood, WOoDConfig(train=replace(QUICK, steps=1), clusters=3, ood_batch=2, **options), title=None, groups=groups)
        return seen[-1]
    z = predict_all(net(), outside, title=None).z
    mean = lambda *rows: torch.from_numpy(z[list(rows)].mean(0))  # noqa: E731
    three = centres([['0', '1'], ['2', '3', '4'], ['5']])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(three, (mean(0, 1), mean(2, 3, 4), mean(5)), strict=True))
    two = centres([['0', '1', '5'], ['2', '3', '4']])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(two, (mean(0, 1, 5), mean(2, 3, 4)), strict=True))
    dropped = centres([['0', '1', 'gone'], ['2', '3', '4'], ['5'], ['also gone']], outside.subset([0, 2, 3]))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(dropped, (mean(0), mean(2, 3)), strict=True))
    assert torch.equal(centres(None), torch.from_numpy(kmeans(z, 3)[1]))
    with pytest.raises(DataError, match='--recluster'): centres([['gone']])
    assert [len(c) for c in seen[-4:]] == [3, 2, 2, 3]


def test_groups_are_found_again_with_the_network_of_that_step(folder):
    inside, outside = split(folder, 'train', [(0,), (1,), (2,)]), split(folder, 'ood', [()] * 6)
    other = net()
    with torch.no_grad(): next(other.backbone.parameters()).mul_(2)
    first, second = (find_centres(n, inside, outside, 3, 0, groups=[['0', '1', '2'], ['3']], bars=False)[2] for n in (net(), other))
    assert first.shape == second.shape and not torch.allclose(first, second)


def test_centres_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match='not finite'):
        loss_for(WOoDConfig(), centres=torch.full((5, 128), float('nan')))


def test_an_empty_ood_list_is_refused(folder):
    with pytest.raises(DataError, match='no OoD image'):
        train_wood(net(), split(folder, 'train', [(0,), (1,)]), split(folder, 'ood', []), WOoDConfig(train=QUICK))


def test_the_control_needs_no_ood_pictures(folder):
    log = train_wood(net(), split(folder, 'train', [(0,), (1,)]), split(folder, 'ood', []), WOoDConfig(train=QUICK, terms='none'))
    assert log[-1]['step'] == 2 and 'loss/ood' not in log[-1]


def test_a_distance_that_runs_away_is_said_once(caplog):
    loss, labels = loss_for(replace(WOoDConfig(), margin=None)), torch.eye(3)
    for step in range(30):
        loss.distance(torch.full((3, 128), 0.5 + max(0, step - 10)), labels)
    assert [o.levelname for o in caplog.records] == ['WARNING'] and 'distance_weight' in caplog.text


class OnItsWay:
    "A number that comes from the device only when `arrived` is set."
    arrived = False

    def __init__(self, value): self.value = value
    def has_come(self): return OnItsWay.arrived


@pytest.mark.parametrize('config', [WOoDConfig(perturb=0.05), WOoDConfig.official(clusters=3)], ids=['ours', 'official'])
def test_a_step_never_waits_for_the_device(config, monkeypatch):
    "Tensors without data raise when anyone wants to know a number: float(), bool(), .item(), .cpu(), a boolean index."
    monkeypatch.setattr(wood, '_Late', OnItsWay)
    net = build_net('tiny', CLASSES).to('meta')
    loss = WOoDLoss(torch.ones(3, net.dim), torch.ones(3), torch.rand(5, net.dim), config).to('meta')
    batch = Batch(*(torch.empty(size, device='meta') for size in ((4, 3, 64, 64), (4, 3), (3, 3, 64, 64))))
    for _ in range(3): loss(net, batch)['loss'].backward()
    assert loss.calls == 0 and len(loss.under_way) == 3
    for reads in (float, bool, lambda value: value.cpu()):
        with pytest.raises((RuntimeError, NotImplementedError)): reads(loss.under_way[0].value)


def test_a_distance_that_comes_late_is_watched_all_the_same(caplog, monkeypatch):
    monkeypatch.setattr(wood, '_Late', OnItsWay)
    monkeypatch.setattr(OnItsWay, 'arrived', False)
    loss = loss_for(replace(WOoDConfig(), margin=None))
    for step in range(30): loss.watch(torch.tensor(1.0 if step < 10 else 5.0))
    assert not caplog.records and len(loss.under_way) == 30
    monkeypatch.setattr(OnItsWay, 'arrived', True)
    loss.watch(torch.tensor(5.0))
    assert not loss.under_way and loss.calls == 31 and [o.levelname for o in caplog.records] == ['WARNING']


def test_pictures_are_perturbed_alike_in_fp16():
    "Gradients of pictures are too small for fp16; they are lifted, and the step is that of full precision."
    torch.manual_seed(0)
    net, images = build_net('tiny', CLASSES).eval(), torch.randn(2, 3, 64, 64)
    net.classifier.weight.data *= 1e-4  # gradients of 1e-8 and less
    wanted = harden(net, images, 0.07) - images
    with torch.autocast('cpu', torch.float16): found = harden(net, images, 0.07) - images
    assert torch.isfinite(found).all() and float((found - wanted).abs().mean() / wanted.abs().mean()) < 0.1
    with torch.autocast('cpu', torch.float16):
        pixels = images.clone().requires_grad_()
        plain, = torch.autograd.grad(net(pixels).logits.float().amax(1).sum(), pixels)
    unlifted = perturb(images, plain.float(), 0.07) - images
    assert float((unlifted - wanted).abs().mean() / wanted.abs().mean()) > 0.2, 'without the lift the step is another one'


def test_statistics_of_batch_norm_stay_as_they_are(folder):
    mine = net()
    before = {name: value.clone() for name, value in mine.named_buffers() if 'running' in name}
    train_wood(mine, split(folder, 'train', [(0,), (1,), (2,)]), split(folder, 'ood', [()] * 5), WOoDConfig(train=QUICK, ood_batch=2, clusters=2))
    assert before and all(torch.equal(value, dict(mine.named_buffers())[name]) for name, value in before.items())


@pytest.mark.slow
def test_a_step_costs_what_a_plain_step_on_as_many_images_costs():
    "The better half of interleaved measurements: within 1.15 times."
    mine, both, plain = net().train(), batch(16, 16, 64), batch(32, 0, 64)
    freeze_norm(mine)
    loss, seconds = loss_for(WOoDConfig()), {'wood': [], 'plain': []}
    for _ in range(12):
        for name, compute, data in (('wood', loss, both), ('plain', classification_loss, plain)):
            start = time.process_time()
            compute(mine, data)['loss'].backward()
            seconds[name].append(time.process_time() - start)
    wood, control = (sum(sorted(o)[:6]) for o in seconds.values())
    assert wood < 1.15 * control, f'{wood / control:.2f} times a plain step'


def test_the_weights_of_the_best_look_are_kept(folder, tmp_path, monkeypatch):
    "Looks after every second step; the best of them becomes weights.safetensors, and an interrupted training knows it."
    scores, trained = iter([10, 30, 20]), net()
    monkeypatch.setattr(wood.ThresholdSweep, 'best', lambda self: (0.3, SimpleNamespace(miou=next(scores) / 100)))
    best = wood.BestWeights(split(folder, 'val', []), 2, tmp_path)
    for step in range(5):
        with torch.no_grad(): trained.classifier.weight.fill_(step)
        best(step, trained)
    assert read_json(tmp_path/'best.json', 'wood_nb.best') | {'step': 4, 'miou': 30.0, 'split': 'val'} == read_json(tmp_path/'best.json', 'wood_nb.best')
    with torch.no_grad(): trained.classifier.weight.fill_(9)
    wood.BestWeights(split(folder, 'val', []), 2, tmp_path).settle(6, trained)
    assert (open_net(tmp_path/'weights.safetensors').classifier.weight == 4).all() and not (tmp_path/'best.safetensors').exists()


def test_centres_are_found_again_by_the_network_of_that_step(folder, monkeypatch):
    "With `refresh` 2, before steps 2 and 4, each time by the network as it is then; without it, once."
    inside, outside = split(folder, 'in', [(n % 3,) for n in range(6)]), split(folder, 'out', [()]*8)
    config = WOoDConfig(train=replace(QUICK, steps=5, lr=0.1, lr_head=0.1), ood_batch=2, clusters=2, distance_weight=0.1)
    seen, weights = {}, {}
    for refresh in (0, 2):
        nets, losses = seen.setdefault(refresh, []), []

        def find(net, *args, nets=nets, **options):
            nets.append(net.classifier.weight.detach().clone())
            return find_centres(net, *args, **options)
        monkeypatch.setattr('wood_nb.ood.wood.find_centres', find)
        made = WOoDLoss.set_centres
        monkeypatch.setattr(WOoDLoss, 'set_centres', lambda self, *c, made=made, losses=losses: (losses.append(c[2]), made(self, *c))[1])
        trained = net()
        train_wood(trained, inside, outside, config if not refresh else replace(config, refresh=refresh), title=None)
        monkeypatch.setattr(WOoDLoss, 'set_centres', made)
        weights[refresh] = trained.classifier.weight.detach()
        assert len(nets) == len(losses) == (3 if refresh else 1)
    assert not torch.equal(seen[2][1], seen[2][0]) and not torch.equal(seen[2][2], seen[2][1]) and torch.equal(seen[0][0], seen[2][0])
    assert not torch.equal(weights[0], weights[2]), 'and the training goes by them'
