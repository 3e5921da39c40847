"""FickleNet: windows with holes by three ways, the golden case, masks from seeds, the network, maps, W-OoD, speed, the errors."""
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_net import far
from PIL import Image
from torch.nn import functional as F

from wood_nb.base.files import DataError, read_json
from wood_nb.data.augment import Augment
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import cam, load_maps
from wood_nb.maps import ficklenet
from wood_nb.maps.config import FickleConfig, RULES, UNVERIFIED
from wood_nb.maps.ficklenet import (draw_cams, Draws, expand, expanded_convolution, fickle_batch, fickle_split, fickle_training, FickleHead,
                                    FickleNet, FickleTrain, keep_masks, open_fickle, thinned_convolution)
from wood_nb.maps.methods import FICKLE
from wood_nb.nets.backbones import build_net
from wood_nb.nets.weights import save_weights
from wood_nb.ood.config import WOoDConfig
from wood_nb.ood.wood import train_wood, WOoDLoss
from wood_nb.train.batches import Batch
from wood_nb.train.config import TrainConfig
from wood_nb.train.loop import train

pytestmark = pytest.mark.usefixtures('one_thread')
SMALL = FickleConfig(window=3, p=0.5, draws=6)
TWO = (1.0, 0.5)  # scales


def picture(seed=0, size=(64, 48)):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope='module')
def start():
    torch.manual_seed(0)
    return build_net('tiny', ('a', 'b', 'c')).eval()


@pytest.fixture
def net(start): return FickleNet(start, SMALL).eval()


# -- the golden case ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def case(golden):
    with np.load(golden/'ficklenet.npz', allow_pickle=False) as file: found = dict(file)
    shape = found['keep_shape'].tolist()
    bits = np.unpackbits(found['keep'], axis=1)[:, :int(np.prod(shape[1:]))]
    tensors = {name: torch.from_numpy(found[name]) for name in ('x', 'weight', 'bias', 'label')}
    return {**found, **tensors, 'x': tensors['x'][None], 'keep': torch.from_numpy(bits.reshape(shape).astype(bool))}


def test_golden_ficklenet_windows(case):
    x, weight, keep, bias = (case[name] for name in ('x', 'weight', 'keep', 'bias'))
    found = thinned_convolution(x, weight, keep, bias)
    assert far(found, case['outputs']) < 1e-5
    expanded = expanded_convolution(x.expand(len(keep), -1, -1, -1), weight, keep) + bias[:, None, None]
    assert far(expanded, case['outputs']) < 1e-5 and (found - expanded).abs().max() < 1e-6
    assert far(thinned_convolution(x, weight, torch.ones_like(keep[:1]), bias)[0], case['all_kept']) < 1e-5
    assert np.array_equal(expand(x, weight.shape[-1])[0, 0].numpy(), case['expanded_first'])


def test_golden_ficklenet_scores_and_maps(case):
    x, weight, keep, bias = (case[name] for name in ('x', 'weight', 'keep', 'bias'))
    scores = thinned_convolution(x, weight, keep, bias).mean((2, 3))
    assert far(scores, case['scores']) < 1e-4
    assert abs(float(F.binary_cross_entropy_with_logits(scores[0], case['label'])) - float(case['loss'])) < 1e-5
    assert far(draw_cams(x, weight, keep), case['grad_maps']) < 1e-4


def test_golden_ficklenet_aggregation(case):
    keys = case['label'].numpy().nonzero()[0]
    draws = Draws(float(case['threshold']))
    for part in torch.from_numpy(case['grad_maps'][:, keys]).split([1, 3, 2]): draws.add(part)
    assert far(draws.map('mean'), case['mean_maps']) < 1e-4 and far(draws.map('votes'), case['votes']) < 1e-4
    assert (draws.labels(keys) == case['aggregated']).mean() > 0.995
    assert np.array_equal((draws.map('any') > draws.threshold).any(0).numpy(), case['aggregated'] != 255)


# -- windows with holes -------------------------------------------------------------------------------------------------

def by_loops(x, weight, keep):
    "Window by window, in double precision."
    (n, height, width, s, _), half = keep.shape, keep.shape[-1]//2
    padded = F.pad(x.double(), (half,)*4)
    out = torch.zeros(n, len(weight), height, width, dtype=torch.double)
    for d in range(n):
        for i in range(height):
            for j in range(width):
                window = padded[d % len(x), :, i:i + s, j:j + s]*keep[d, i, j]
                out[d, :, i, j] = (weight.double()*window).sum((1, 2, 3))
    return out


@pytest.mark.parametrize('batch, channels, outputs, size, window', [(1, 3, 2, (5, 7), 3), (3, 6, 4, (9, 9), 9), (2, 1, 1, (6, 5), 1),
                                                                    (2, 8, 5, (11, 8), 5), (1, 5, 3, (7, 12), 7)])
def test_expansion_sum_and_loops_agree(batch, channels, outputs, size, window):
    g = torch.Generator().manual_seed(window)
    x, weight = torch.randn(batch, channels, *size, generator=g), torch.randn(outputs, channels, window, window, generator=g)
    keep = torch.rand(batch, *size, window, window, generator=g) > 0.6
    weight = weight/weight.flatten(1).norm(dim=1)[:, None, None, None]
    found, wanted = thinned_convolution(x, weight, keep), by_loops(x, weight, keep)
    assert far(found, wanted) < 1e-6 and far(expanded_convolution(x, weight, keep), wanted) < 1e-6
    exact = thinned_convolution(x.double(), weight.double(), keep)
    assert far(exact, wanted) < 1e-12
    assert torch.equal(expand(x, window)[:, :, window//2::window, window//2::window], x)


def test_many_draws_of_one_picture_are_draws_of_copies():
    x, weight, keep = torch.randn(1, 4, 6, 7), torch.randn(3, 4, 3, 3), torch.rand(5, 6, 7, 3, 3) > 0.5
    copies = x.expand(5, -1, -1, -1)
    assert torch.allclose(thinned_convolution(x, weight, keep), thinned_convolution(copies, weight, keep), atol=1e-5)
    assert torch.allclose(draw_cams(x, weight, keep), draw_cams(copies, weight, keep), atol=1e-6)


def test_gradients_are_those_of_the_expansion():
    x, weight = torch.randn(2, 4, 6, 7, dtype=torch.double), torch.randn(3, 4, 5, 5, dtype=torch.double)
    keep, out = torch.rand(2, 6, 7, 5, 5) > 0.5, torch.randn(2, 3, 6, 7, dtype=torch.double)
    grads = []
    for way in (thinned_convolution, expanded_convolution):
        a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
        (way(a, b, keep)*out).sum().backward()
        grads.append((a.grad, b.grad))
    assert all(torch.allclose(one, other, atol=1e-10) for one, other in zip(*grads))


def test_grad_cam_is_autograds():
    x = torch.randn(1, 4, 6, 7, dtype=torch.double, requires_grad=True)
    weight, keep = torch.randn(3, 4, 5, 5, dtype=torch.double), torch.rand(4, 6, 7, 5, 5) > 0.7
    scores, found = thinned_convolution(x, weight, keep).mean((2, 3)), draw_cams(x, weight, keep)
    for n in range(4):
        for k in range(3):
            gradient, = torch.autograd.grad(scores[n, k], x, retain_graph=True)
            assert torch.allclose(found[n, k], F.relu((x*gradient).sum(1))[0], atol=1e-12)


# -- masks --------------------------------------------------------------------------------------------------------------

def test_masks_are_functions_of_image_draw_look_and_seed():
    first = keep_masks('x/1', range(6), (5, 4), 3, 0.5)
    assert first.shape == (6, 5, 4, 3, 3) and first.dtype == torch.bool and first[..., 1, 1].all()
    assert torch.equal(first[2:4], keep_masks('x/1', (2, 3), (5, 4), 3, 0.5)), 'whatever else is drawn'
    others = [keep_masks('x/2', range(6), (5, 4), 3, 0.5), keep_masks('x/1', range(6), (5, 4), 3, 0.5, seed=1),
              keep_masks('x/1', range(6), (5, 4), 3, 0.5, look=1), keep_masks('x/1', range(6, 12), (5, 4), 3, 0.5)]
    assert not any(torch.equal(first, other) for other in others)
    assert len({tuple(draw.flatten().tolist()) for draw in first}) == 6


@pytest.mark.parametrize('p', [0.0, 0.3, 0.9])
def test_the_share_that_is_kept(p):
    keep = keep_masks('a', range(30), (12, 12), 5, p)
    off_centre = (keep.sum((-2, -1)) - 1).float().mean()/24
    assert abs(off_centre - (1 - p)) < 0.01 and (p > 0 or keep.all())


# -- the network --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('window, p', [(3, 0.5), (5, 0.7), (9, 0.9)])
def test_the_expected_score_is_the_classifiers(window, p, rescale):
    "Where windows do not hang over the edge: features that are constant, in the middle of the map."
    classifier = torch.nn.Conv2d(6, 4, 1)
    head = FickleHead(6, 4, FickleConfig(window=window, p=p, rescale=rescale), bias=True)
    head.start_from(classifier)
    unscaled = classifier.weight/(1 + (window**2 - 1)*(1 - p))
    assert torch.allclose(head.weight*head.factor, unscaled.expand_as(head.weight), atol=1e-6)
    x = torch.randn(1, 6, 1, 1).expand(600, -1, window, window)
    half = window//2
    with torch.no_grad():
        draws, mean = head.train()(x)[:, :, half, half], head.eval()(x[:1])[0, :, half, half]
        wanted = classifier(x[:1])[0, :, half, half]
    assert torch.allclose(mean, wanted, atol=1e-5) and draws.std(0).min() > 0
    assert ((draws.mean(0) - wanted).abs() < 5*draws.std(0)/600**0.5).all()


def test_each_image_of_a_batch_has_a_mask_of_its_own(start):
    net = FickleNet(start, SMALL).train()
    torch.manual_seed(3)
    with torch.no_grad(): outputs = net.classifier(torch.ones(1, start.dim, 6, 6).expand(8, -1, -1, -1))
    assert len({tuple(o.flatten().tolist()) for o in outputs}) == 8


def test_eval_mode_says_the_same_twice_and_is_a_camnet(net, start):
    x = torch.randn(2, 3, 64, 48)
    with torch.no_grad(): one, two, before = net(x), net(x), start(x)
    assert torch.equal(one.logits, two.logits) and torch.equal(one.z, before.z) and one.logits.shape == (2, 3)
    assert torch.allclose(net.class_maps(one.features).mean((2, 3)), one.logits, atol=1e-5), 'this classifier has no bias'
    assert cam(net, picture(), [0, 2]).stride4.shape == (2, 12, 16)
    assert all(a is not b for a, b in zip(net.parameters(), start.parameters())), 'the classifier stays as it was'


def test_a_full_window_without_holes_is_a_convolution(start):
    whole = FickleNet(start, replace(SMALL, p=0.0))
    x = torch.randn(2, start.dim, 6, 8)
    with torch.no_grad():
        assert torch.allclose(whole.train().classifier(x), whole.eval().classifier(x), atol=1e-5)
        assert torch.allclose(whole.classifier(x), F.conv2d(x, whole.classifier.weight, padding=1), atol=1e-5)


def test_saved_and_opened(net, start, tmp_path):
    save_weights(net, tmp_path/'w.safetensors')
    again = open_fickle(tmp_path/'w.safetensors')
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values()))
    assert again.config == SMALL and again.classifier.kernel_size == (3, 3) and not again.training and again.arch['network'] == FICKLE
    one, two = (fickle_batch(n, [picture()], [[1]], ['a'], TWO)[0].stride4 for n in (net, again))
    assert np.array_equal(one, two)
    made, own = fickle_training(start, replace(SMALL, rescale=True, rule='votes'))
    save_weights(made, tmp_path/'other.safetensors')
    assert own is None and open_fickle(tmp_path/'other.safetensors').config == made.config
    save_weights(start, tmp_path/'cam.safetensors')
    with pytest.raises(DataError, match='holds no FickleNet'): open_fickle(tmp_path/'cam.safetensors')


def test_a_file_with_odd_options_is_refused(net, tmp_path):
    for options, says in (({**net.arch['options'], 'window': 4}, 'w.safetensors: window=4'), ({**net.arch['options'], 'window': 5}, 'classifier.weight'),
                          ({**net.arch['options'], 'rule': ['x']}, 'w.safetensors'), ({**net.arch['options'], 'p': 'x'}, 'p=')):
        net.arch = {**net.arch, 'options': options}
        save_weights(net, tmp_path/'w.safetensors')
        with pytest.raises(DataError, match=says): open_fickle(tmp_path/'w.safetensors')


# -- many maps, one answer ----------------------------------------------------------------------------------------------

def test_rules():
    maps = torch.tensor([[[[0.2, 1.0, 0.4]], [[0.0, 2.0, 0.2]]], [[[0.4, 0.1, 0.0]], [[1.0, 0.4, 0.0]]]])
    draws = Draws(0.35)
    draws.add(maps[:1])
    draws.add(maps[1:])
    assert torch.allclose(draws.map('any'), torch.tensor([[[1.0, 1.0, 0.4]], [[1.0, 1.0, 0.1]]]))
    assert torch.allclose(draws.map('mean'), torch.tensor([[[0.6, 0.625, 0.2]], [[0.5, 0.7, 0.05]]]))
    assert torch.allclose(draws.map('votes'), torch.tensor([[[0.5, 0.5, 0.5]], [[0.5, 1.0, 0.0]]]))
    assert draws.labels([3, 7]).tolist() == [[4, 8, 4]]
    high = Draws(0.999)
    high.add(maps[:1])
    assert high.labels([3, 7]).tolist() == [[255, 8, 255]] or high.labels([3, 7]).tolist() == [[255, 4, 255]]


def test_a_map_of_zeros_says_nothing():
    draws = Draws(0.35)
    draws.add(torch.zeros(3, 1, 2, 2))
    assert draws.map('any').max() == draws.map('votes').max() == 0 and (draws.labels([0]) == 255).all()


# -- maps of images -----------------------------------------------------------------------------------------------------

def test_maps_of_a_batch_are_those_of_each_alone(net, monkeypatch):
    images, labels, ids = [picture(0), picture(1), picture(2)], [[2, 0], [], [1]], ['a', 'b', 'c']
    together = fickle_batch(net, images, labels, ids, TWO, full=True)
    monkeypatch.setattr(ficklenet, '_AT_ONCE', 4)
    for image, keys, id, found in zip(images, labels, ids, together):
        alone, = fickle_batch(net, [image], [keys], [id], TWO, full=True)
        assert found.keys.tolist() == sorted(keys) and found.size == (48, 64)
        assert found.stride4.shape == (len(keys), 12, 16) and found.full.shape == (len(keys), 48, 64)
        assert np.allclose(found.stride4, alone.stride4, atol=1e-4) and np.allclose(found.full, alone.full, atol=1e-4)
        assert all(most == 0 or 0.99 < most <= 1 for most in found.stride4.max((1, 2), initial=0))
    assert together[0].stride4.max() > 0.99


@pytest.mark.parametrize('rule', RULES)
def test_more_draws_go_on_where_fewer_ended(net, rule):
    few, more = (fickle_batch(net, [picture()], [[0, 1]], ['a'], TWO, config=replace(SMALL, draws=n, rule=rule))[0].stride4 for n in (3, 30))
    assert np.isfinite(more).all() and 0 <= more.min() and more.max() <= 1 and not np.array_equal(few, more)
    if rule == 'any': assert (more >= few - 1e-6).all() and more.sum() > few.sum(), 'a union only grows'


def test_another_id_or_seed_is_another_draw(net):
    def draw(id='a', **options): return fickle_batch(net, [picture()], [[0]], [id], TWO, config=replace(SMALL, draws=1, **options))[0].stride4
    assert np.array_equal(draw(), draw()) and not np.array_equal(draw(), draw('b')) and not np.array_equal(draw(), draw(seed=1))


def test_the_network_stays_as_it_was(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.train()
    fickle_batch(net, [picture()], [[0]], ['a'], TWO)
    assert net.training and all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.fixture
def split(tmp_path):
    for n in range(4): picture(n, (64, 48) if n % 2 else (48, 64)).save(tmp_path/f'{n}.png')
    return Split('train', [Item(f'x/{n}', tmp_path/f'{n}.png', ((0,), (1, 2), (), (2,))[n]) for n in range(4)], ('a', 'b', 'c'))


def test_a_split_is_resumed_image_by_image(net, split, tmp_path):
    out = fickle_split(net, split, tmp_path/'maps', scales=TWO, title='')
    files = sorted(out.rglob('*.npz'))
    assert [f.stem for f in files] == ['0', '1', '2', '3']
    note = read_json(out/'maps.json', 'wood_nb.maps')
    assert (note['method'], note['rule'], note['draws'], note['scales']) == (FICKLE, 'any', 6, [1.0, 0.5])
    marks = [f.stat().st_mtime_ns for f in files[1:]]
    kept = load_maps(files[0]).stride4
    files[0].unlink()
    fickle_split(net, split, out, scales=TWO, title='', batch_size=1)
    assert [f.stat().st_mtime_ns for f in files[1:]] == marks and np.allclose(load_maps(files[0]).stride4, kept, atol=2e-3)
    with pytest.raises(DataError, match='draws differ'): fickle_split(net, split, out, scales=TWO, title='', config=replace(SMALL, draws=9))


# -- training, alone and with OoD pictures ------------------------------------------------------------------------------

QUICK = TrainConfig(steps=4, batch_size=4, lr=0.01, lr_head=0.05, freeze_stages=0, augment=Augment.small(48), log_every=1)


def test_training_is_the_same_twice_and_moves_the_head(start, split):
    ends = []
    for _ in range(2):
        net = FickleNet(start, SMALL)
        before = net.classifier.weight.detach().clone()
        log = train(net, split, QUICK, title=None)
        assert np.isfinite([row['loss'] for row in log]).all() and not torch.equal(before, net.classifier.weight)
        ends.append(net.classifier.weight.detach().clone())
    assert torch.equal(*ends), 'holes, too, are a function of seed and step'


@pytest.mark.parametrize('zero_labels', ['image', 'dense'])
def test_both_terms_of_wood_meet_the_holes(start, zero_labels):
    torch.manual_seed(0)
    net = FickleNet(start, SMALL).train()
    loss = WOoDLoss(torch.randn(3, net.dim), torch.ones(3), torch.randn(4, net.dim), WOoDConfig(zero_labels=zero_labels, clusters=4))
    batch = Batch(torch.randn(2, 3, 48, 48), torch.eye(3)[:2], torch.randn(2, 3, 48, 48))
    net.norm_frozen = True
    net.train()
    terms = [loss(net, batch) for _ in range(3)]
    assert set(terms[0]) == {'loss', 'cls', 'ood', 'distance'}
    assert len({float(o['ood'].detach()) for o in terms}) == 3, 'zero labels are asked of another draw each time'
    assert len({float(o['distance'].detach()) for o in terms}) == 1, 'the pooled features come before the head'
    terms[0]['ood'].backward()
    assert net.classifier.weight.grad.abs().sum() > 0


def test_wood_training(start, split):
    net = FickleNet(start, SMALL)
    ood = replace(split, items=[replace(item, id=f'o/{item.id}', labels=()) for item in split.items], name='ood')
    rows = train_wood(net, split, ood, WOoDConfig(train=QUICK, ood_batch=4, clusters=2), title=None)
    assert {'loss/cls', 'loss/ood', 'loss/distance'} <= set(rows[-1]) and np.isfinite(rows[-1]['loss'])


# -- speed and errors ---------------------------------------------------------------------------------------------------

def test_two_hundred_draws_take_less_than_a_second(start, quickest):
    "One image of 128 pixels, two classes, one scale, a window of 9, on one thread; the backbone runs once."
    config = FickleConfig.official()
    net, image, calls = FickleNet(start, config).eval(), picture(size=(128, 128)), []
    net.backbone.register_forward_hook(lambda *_: calls.append(1))
    seconds = quickest(lambda: fickle_batch(net, [image], [[0, 1]], ['a'], (1.0,), mirror=False))
    print(f'{seconds:.2f} s')
    assert seconds < 1 and len(calls) == 3


@pytest.mark.slow
def test_a_step_costs_little_more_than_the_classifiers(start):
    "Sixteen images of 96 pixels: windows of 5 against the 1x1 layer, in turn, best of three on one thread."
    nets, times = {'classifier': start, 'fickle': FickleNet(start, FickleConfig())}, {'classifier': [], 'fickle': []}
    x, y = torch.randn(16, 3, 96, 96), torch.zeros(16, 3)
    for _ in range(3):
        for name, net in nets.items():
            began = time.process_time()
            F.binary_cross_entropy_with_logits(net.train()(x).logits, y).backward()
            times[name].append(time.process_time() - began)
    start.eval()
    start.zero_grad()
    print({name: round(min(each), 3) for name, each in times.items()})
    assert min(times['fickle']) < 2*min(times['classifier'])


def test_official_uses_what_is_remembered():
    config = FickleConfig.official()
    assert UNVERIFIED == {'window': 9, 'p': 0.9, 'draws': 200, 'threshold': 0.35}
    assert {name: getattr(config, name) for name in UNVERIFIED} == UNVERIFIED and config.rule == 'any' and not config.rescale
    assert (FickleTrain().batch_size, FickleTrain().augment.crop) == (10, 321) and FickleConfig.official(window=7).window == 7


@pytest.mark.parametrize('options, says', [
    ({'window': 4}, 'window=4: must be an odd number'), ({'window': -1}, 'window=-1: must be an odd number'), ({'window': 101}, 'below 100'),
    ({'p': 1.0}, r'p=1\.0: must be a probability'), ({'p': -0.1}, r'p=-0\.1: must be a probability'), ({'p': float('nan')}, 'p=nan'),
    ({'draws': 0}, 'draws=0: must be a whole number'), ({'rule': 'most'}, "rule='most': must be 'any' or"),
    ({'threshold': 1.5}, r'threshold=1\.5: must be a share'), ({'seed': -1}, 'seed=-1: must be a whole number'), ({'steps': 0}, 'steps=0')])
def test_bad_options_are_refused(options, says):
    with pytest.raises(DataError, match=says): FickleConfig(**options)


@pytest.mark.parametrize('call, says', [
    (lambda net: fickle_batch(net, [picture()], [[3]], ['a']), 'class 3 is asked for'),
    (lambda net: fickle_batch(net, [picture()], [[-1]], ['a']), 'class -1 is asked for'),
    (lambda net: fickle_batch(net, [picture(), picture(size=(40, 40))], [[0], [0]], ['a', 'b']), '2 sizes'),
    (lambda net: fickle_batch(net, [picture()], [[0]], ['a', 'b']), 'an id for each'),
    (lambda net: fickle_batch(net, [picture(size=(32, 16))], [[0]], ['a'], TWO), r'2 x 4 cells is smaller than FickleNet\'s window of 3'),
    (lambda net: net(torch.zeros(1, 3, 16, 64)), 'smaller window'),
    (lambda net: net.train()(torch.zeros(2, 3, 64, 16)), 'smaller window'),
    (lambda net: cam(net, picture(size=(16, 16)), [0]), 'smaller window')])
def test_bad_input_is_one_clear_error(net, call, says):
    with pytest.raises(DataError, match=says): call(net)
