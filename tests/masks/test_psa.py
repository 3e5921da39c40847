"""PSA: labels from two backgrounds, features, loss, walk."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from golden_net import far, fill_state, named_image, stored
from wood_nb.data.augment import normalise
from wood_nb.data.images import IGNORE
from wood_nb.data.splits import Item, Split
from wood_nb.masks.irn import IRNet
from wood_nb.maps.cam import load_maps, Maps, save_maps
from wood_nb.nets.backbones import build_net
from wood_nb.nets.weights import save_weights
from wood_nb.nets.wrap import wrap
from wood_nb.masks.psa import (affinity_labels, affinity_walk, AffinityImages, AffinityNet, cell_labels, _grid_affinity, _grid_scores,
                               load_psa, open_psa, psa_labels, psa_maps, PSAAugment, PSAConfig, PSALoss, PSATrain, read_planes, _stride8, at_size,
                               train_psa, with_background)
from wood_nb.scores.seeds import seed
from wood_nb.masks.walk import feature_affinity, half_disc, transition, walk

CLASSES = ('cat', 'dog', 'boat')


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def net():
    torch.manual_seed(0)
    return AffinityNet(build_net('tiny', CLASSES))


@pytest.fixture
def config(): return PSAConfig(train=PSATrain(steps=3, batch_size=2, lr=0.001, lr_head=0.01, momentum=0.9, augment=PSAAugment(64)),
                               radius=3, crf=None, border=True)


@pytest.fixture
def split(tmp_path):
    "Three pictures of 72 x 64, a bright square on dark ground, with CAMs that find its middle; no masks."
    items = []
    for n in range(3):
        pixels = np.random.default_rng(n).integers(20, 60, (64, 72, 3), dtype=np.uint8)
        pixels[16:48, 16:56] += 150
        Image.fromarray(pixels).save(tmp_path/f'p{n}.png')
        heat = np.zeros((1, 16, 18), np.float32)
        heat[0, 4:12, 4:14], heat[0, 5:11, 5:12] = 0.25, 0.95
        save_maps(tmp_path/'maps'/f'p{n}.npz', Maps(np.array([n]), heat, (64, 72)))
        items.append(Item(f'p{n}', tmp_path/f'p{n}.png', (n,)))
    return Split('train', items, CLASSES, raw_classes=3)


@pytest.mark.parametrize('wrong', [dict(low=32, high=4), dict(low=0), dict(low=-1)])
def test_exponents_out_of_order(wrong):
    with pytest.raises(DataError, match='low <= high'): PSAConfig(**wrong)


def test_two_backgrounds():
    heat = np.linspace(0, 1, 32, dtype=np.float32)[None, None].repeat(8, 1)
    labels = affinity_labels(Image.new('RGB', (32, 8)), Maps(np.array([4]), heat[:, ::4, ::4], (8, 32), heat), PSAConfig(crf=None))
    expected = [5 if v > (1 - v) ** 4 else 0 if v <= (1 - v) ** 32 else IGNORE for v in heat[0, 0]]
    assert labels[0].tolist() == expected and {0, 5, IGNORE} == set(expected)
    assert with_background(torch.tensor([[[0.5]], [[0.2]]]), 2).flatten().tolist() == [0.25, 0.5, torch.tensor(0.2).item()]


@pytest.mark.parametrize('crf', [None, 'psa'])
def test_maps_that_say_nothing_and_one_pixel(crf):
    config, image = PSAConfig(crf=crf), Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    none = affinity_labels(image, Maps(np.zeros(0, np.int64), np.zeros((0, 3, 4), np.float32), (12, 16)), config)
    zero = affinity_labels(image, Maps(np.array([1]), np.zeros((1, 3, 4), np.float32), (12, 16)), config)
    pixel = affinity_labels(Image.new('RGB', (1, 1)), Maps(np.array([1]), np.ones((1, 1, 1), np.float32), (1, 1)), config)
    assert (none == 0).all() and (zero == IGNORE).all() and pixel.tolist() == [[2]]


def test_labels_need_maps(split, tmp_path, config):
    out = psa_labels(split, tmp_path/'maps', tmp_path/'labels', config, title=None)
    planes = read_planes(out/'p1.png', split.image(1))
    assert planes.shape == (4, 64, 72) and set(cell_labels(planes).unique().tolist()) == {0, 1, IGNORE}
    (tmp_path/'maps'/'p1.npz').unlink()
    with pytest.raises(DataError, match=r'p1\.npz'): psa_labels(split, tmp_path/'maps', tmp_path/'other', config, title=None)


@pytest.mark.parametrize('backbone', ['tiny', 'resnet18', 'mobilenet_v2'])
@pytest.mark.parametrize('size', [(64, 64), (33, 50), (1, 1)])
def test_any_backbone_and_size(backbone, size):
    net = AffinityNet(build_net(backbone, CLASSES)).eval()
    with torch.no_grad(): assert net(torch.zeros(1, 3, *size)).shape == (1, 448, *_stride8(size))


def test_to_size():
    ramp = torch.arange(16.).reshape(1, 1, 4, 4)
    assert torch.equal(at_size(ramp, (4, 4)), ramp) and torch.equal(at_size(ramp, (2, 2)), torch.nn.functional.avg_pool2d(ramp, 2))
    assert at_size(ramp, (8, 8)).shape == (1, 1, 8, 8)


def test_loss_by_loops(config):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 6, 6, 7, generator=generator)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, IGNORE])[torch.randint(7, (1, 6, 7), generator=generator)].to(torch.uint8)
    sums = {'background': [], 'foreground': [], 'different': []}
    for down, right in half_disc(3):
        for y in range(4):
            for x in range(2, 5):
                a, b = int(labels[0, y, x]), int(labels[0, y + down, x + right])
                if IGNORE in (a, b): continue
                alike = float(torch.exp(-(features[0, :, y, x] - features[0, :, y + down, x + right]).abs().mean()))
                kind = 'different' if a != b else 'foreground' if a else 'background'
                sums[kind].append(-np.log(1 + 1e-5 - alike) if a != b else -np.log(alike + 1e-5))
    terms = PSALoss(config).total(features, labels)
    for kind, values in sums.items(): assert values and abs(float(terms[kind]) - np.mean(values)) < 1e-4, kind
    assert abs(float(terms['loss']) - (np.mean(sums['background']) + np.mean(sums['foreground'])) / 4 - np.mean(sums['different']) / 2) < 1e-4
    nothing = PSALoss(config).total(features, torch.full_like(labels, IGNORE))
    assert all(float(v) == 0 for v in nothing.values())


def test_training_saves_and_opens(net, split, tmp_path, config):
    stem = net.backbone.stem[0].weight.clone()
    rows = train_psa(net, split, tmp_path/'maps', tmp_path/'psa', config, title=None)
    assert rows[-1]['step'] == 3 and torch.equal(stem, net.backbone.stem[0].weight), 'the first stages stay as they are'
    again = open_psa(tmp_path/'psa'/'weights.safetensors')
    image = normalise(split.image(0))[None]
    with torch.no_grad(): assert torch.equal(net.eval()(image), again(image))
    with pytest.raises(DataError, match='radius 5'): train_psa(net, split, tmp_path/'maps', tmp_path/'psa', replace(config, radius=5), None)


def test_other_networks_are_refused(tmp_path):
    save_weights(IRNet(build_net('tiny', CLASSES)), tmp_path/'irn.safetensors')
    with pytest.raises(DataError, match='no PSA network'): open_psa(tmp_path/'irn.safetensors')
    import torchvision
    with pytest.raises(DataError, match='four stages'): AffinityNet(wrap(torchvision.models.resnet18(), CLASSES))


def test_half_is_the_argmax(net, split, config):
    "Threshold 0.5 on the shares is the arg-max of the walked maps with their background, by the dense matrix."
    maps = [Maps(np.array([0, 2]), np.random.default_rng(n).random((2, 16, 18)).astype(np.float32) ** 3, (64, 72)) for n in range(2)]
    images = [split.image(n) for n in range(2)]
    found = affinity_walk(net, images, maps, config)
    for image, before, after in zip(images, maps, found):
        with torch.no_grad(): affinity = feature_affinity(net.eval()(normalise(image)[None]), 3)[0].double()
        height, width = affinity.shape[-2:]
        matrix = torch.eye(height * width, dtype=torch.float64)
        for n, (down, right) in enumerate(half_disc(3)):
            for y in range(height - down):
                for x in range(max(0, -right), min(width, width - right)):
                    i, j = y * width + x, (y + down) * width + x + right
                    matrix[i, j] = matrix[j, i] = affinity[n, y, x] ** 8
        full = with_background(torch.from_numpy(before.at_full_size()).double(), 16)  # the power first, the means afterwards
        scores = torch.nn.functional.avg_pool2d(full[None], 8)[0].flatten(1) @ torch.linalg.matrix_power(matrix / matrix.sum(0), 256)
        fine = torch.nn.functional.interpolate(scores.reshape(1, 3, height, width), (16, 18), mode='bilinear', align_corners=False)[0]
        assert np.abs(after.stride4 - (fine[1:] / (fine[1:] + fine[:1])).numpy()).max() < 1e-4
        best = np.concatenate([np.full((1, 16, 18), 0.5), after.stride4]).argmax(0)
        assert (best == fine.argmax(0).numpy()).mean() > 0.995


def test_walk_folder(net, split, tmp_path, config):
    folder = psa_maps(net, split, tmp_path/'maps', tmp_path/'out', config, title='')
    found = load_maps(folder/'p0.npz')
    assert found.stride4.shape == (1, 16, 18) and 0 <= found.stride4.min() <= found.stride4.max() <= 1
    none = Maps(np.zeros(0, np.int64), np.zeros((0, 16, 18), np.float32), (64, 72))
    zero = Maps(np.array([1]), np.zeros((1, 16, 18), np.float32), (64, 72))
    a, b = affinity_walk(net, [split.image(0)] * 2, [none, zero], config)
    assert a.stride4.shape == (0, 16, 18) and b.stride4.max() == 0 and affinity_walk(net, [split.image(0)], [none], config)[0].keys.size == 0


# --- as the reference (jiwoon-ahn/psa) ----------------------------------------------------------------------------------

def test_labels_are_means_of_probabilities_by_loops():
    "A crop at any pixel, 8 x 8 means of both stacks, then the largest; what lies beyond the image is unsure."
    rng = np.random.default_rng(0)
    strong, weak = (rng.dirichlet(np.ones(3), (40, 48)).transpose(2, 0, 1) for _ in range(2))
    strong[:, 24:, 32:] = weak[:, 24:, 32:] = 0
    expected = np.full((5, 6), IGNORE)
    for y in range(5):
        for x in range(6):
            a, b = ([float(p[8*y:8*y + 8, 8*x:8*x + 8].mean()) for p in part] for part in (strong, weak))
            if max(a + b) < 1e-5: continue
            if a.index(max(a)): expected[y, x] = a.index(max(a))
            if b.index(max(b)) == 0: expected[y, x] = 0
    planes = torch.from_numpy(np.concatenate([strong, weak])*255).round().byte()
    assert np.array_equal(cell_labels(planes).numpy(), expected) and {0, 1, 2, IGNORE} == set(np.unique(expected))


def test_crops_are_black_beyond_the_image_and_move_as_their_planes(split):
    image, plane = split.image(0), torch.full((2, 64, 72), 255, dtype=torch.uint8)
    plane[:, :, :36] = 100
    black = normalise(np.zeros((1, 1, 3), np.uint8))
    seen = set()
    for n in range(12):
        pixels, planes = PSAAugment(80, jitter=(0, 0, 0, 0))(image, plane, np.random.default_rng(n))
        outside = planes[0] == 0
        assert outside.sum() == 80*80 - 64*72 and torch.allclose(pixels[:, outside], black[:, 0])
        left = int(planes[0].amax(0).nonzero()[0])
        seen.add(bool(planes[0].amax(0)[left] == 255))
        top = int(planes[0].amax(1).nonzero()[0])
        own = normalise(image).flip(-1) if planes[0].amax(0)[left] == 255 else normalise(image)
        assert torch.allclose(pixels[:, top:top + 64, left:left + 72], own, atol=1e-6)
    assert seen == {True, False}, 'some are mirrored'
    jittered = [PSAAugment(80)(image, plane, np.random.default_rng(n))[0] for n in range(4)]
    assert len({float(each.max()) for each in jittered}) == 4


def test_planes_of_another_image_and_odd_crops_are_refused(split, tmp_path, config):
    out = psa_labels(split, tmp_path/'maps', tmp_path/'labels', config, title=None)
    with pytest.raises(DataError, match=r'p1\.png.*make the labels again'): read_planes(out/'p1.png', Image.new('RGB', (70, 64)))
    with pytest.raises(DataError, match=r'p1\.png.*make the labels again'): read_planes(out/'p1.png', Image.new('RGB', (72, 60)))
    with pytest.raises(DataError, match='multiple of it'): AffinityImages(split, PSAAugment(60), 0)


def test_what_learns_on_wideresnet38():
    "All but conv1a and b2, no batch norm; dropout is on while batch norm keeps its statistics."
    from wood_nb.nets.camnet import freeze_norm, freeze_stages
    net = bare_wide()
    freeze_stages(net, PSATrain().freeze_stages)
    freeze_norm(net)
    groups = PSATrain().groups(net)
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    assert {n for n in learning if n.startswith('backbone.')} == {n for n, p in net.named_parameters() if n.startswith('backbone.') and p.ndim == 4
                                                                   and not n.startswith(('backbone.conv1a.', 'backbone.b2.', 'backbone.b2_'))}
    assert any(n.startswith('backbone.b3.') for n in learning) and sum(len(g['params']) for g in groups) == len(learning)
    net.train()
    assert net.backbone.b6.dropout.training and not net.backbone.b6.bn_branch2a.training and not net.backbone.bn7.training


def bare_wide():
    "PSA on WideResNet-38 without spending seconds on random weights."
    with torch.device('meta'): net = build_net('wideresnet38')
    return AffinityNet(net.to_empty(device='cpu'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    "A checkpoint of the reference's form, weights filled by name."
    net, path = bare_wide(), tmp_path_factory.mktemp('psa')/'resnet38_aff.pth'
    names = {n.removeprefix('backbone.'): t.shape for n, t in net.state_dict().items() if not n.endswith('num_batches_tracked')}
    torch.save(fill_state(names), path)
    load_psa(net, path)
    return net.eval()


def test_a_checkpoint_of_the_reference_returns_its_affinities_and_walk(checkpoint):
    net, golden, config = checkpoint, stored('psa'), PSAConfig()
    image = Image.fromarray(named_image('psa image', 100, 117))
    y, x = np.mgrid[:100, :117]
    heat = np.stack([np.exp(-((y - v)**2 + (x - h)**2)/(2*s*s)) for v, h, s in ((40, 35, 18), (65, 80, 14))]).astype(np.float32)
    maps = Maps(np.array([0, 1]), heat[:, ::4, ::4], (100, 117), heat)
    with torch.inference_mode(): features = net(torch.nn.functional.pad(normalise(image)[None], (0, 3, 0, 4)))
    assert far(feature_affinity(features, 5, border=False)[0].flatten(1), golden['affinity']) < 1e-4
    step = transition(_grid_affinity(features, config), config.radius, config.beta)
    assert far(walk(step, _grid_scores([maps], config.alpha, torch.device('cpu')), config.steps)[0], golden['walked']) < 1e-4
    labels = np.unpackbits(golden['labels'], axis=-1)[..., :117]
    found = affinity_walk(net, [image], [maps], config)[0]
    assert (seed(found.at_full_size(), found.keys, 0.5) == labels[0] + 2*labels[1]).mean() > 0.985


def test_a_file_without_affinities_is_no_checkpoint(net, tmp_path):
    torch.save({'conv1a.weight': torch.zeros(64, 3, 3, 3)}, tmp_path/'cls.pth')
    with pytest.raises(DataError, match='not a checkpoint of PSA'): load_psa(net, tmp_path/'cls.pth')


def test_a_grid_too_small_for_pairs_stays_as_it_is(net, split):
    "Without pairs near the border, maps of a few cells do not walk: as the reference."
    heat = np.random.default_rng(0).random((1, 16, 18)).astype(np.float32)
    config = PSAConfig(radius=9)
    features = torch.randn(1, 4, 8, 9)
    assert (_grid_affinity(features, config) == 0).all() and _grid_affinity(features, replace(config, border=True)).max() > 0
    assert affinity_walk(net, [split.image(0)], [Maps(np.array([0]), heat, (64, 72))], config)[0].stride4.shape == (1, 16, 18)
