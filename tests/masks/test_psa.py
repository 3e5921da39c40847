"""PSA: labels from two backgrounds, features, loss, walk."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.augment import Augment, normalise
from wood_nb.data.images import IGNORE, read_mask
from wood_nb.data.splits import Item, Split
from wood_nb.masks.irn import IRNet
from wood_nb.maps.cam import load_maps, Maps, save_maps
from wood_nb.nets.backbones import build_net
from wood_nb.nets.weights import save_weights
from wood_nb.nets.wrap import wrap
from wood_nb.masks.psa import (affinity_labels, affinity_walk, AffinityNet, open_psa, psa_labels, psa_maps, PSAConfig,
                               PSALoss, PSATrain, _stride8, _to_size, train_psa, with_background)
from wood_nb.masks.walk import feature_affinity, half_disc

CLASSES = ('cat', 'dog', 'boat')


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def net():
    torch.manual_seed(0)
    return AffinityNet(build_net('tiny', CLASSES))


@pytest.fixture
def config(): return PSAConfig(train=PSATrain(steps=3, batch_size=2, lr=0.001, lr_head=0.01, momentum=0.9, augment=Augment((60, 76), 64)),
                               radius=3, crf=None)


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
    assert set(np.unique(read_mask(out/'p1.png', 3))) == {0, 2, IGNORE}
    (tmp_path/'maps'/'p1.npz').unlink()
    with pytest.raises(DataError, match=r'p1\.npz'): psa_labels(split, tmp_path/'maps', tmp_path/'other', config, title=None)


@pytest.mark.parametrize('backbone', ['tiny', 'resnet18', 'mobilenet_v2'])
@pytest.mark.parametrize('size', [(64, 64), (33, 50), (1, 1)])
def test_any_backbone_and_size(backbone, size):
    net = AffinityNet(build_net(backbone, CLASSES)).eval()
    with torch.no_grad(): assert net(torch.zeros(1, 3, *size)).shape == (1, 448, *_stride8(size))


def test_to_size():
    ramp = torch.arange(16.).reshape(1, 1, 4, 4)
    assert torch.equal(_to_size(ramp, (4, 4)), ramp) and torch.equal(_to_size(ramp, (2, 2)), torch.nn.functional.avg_pool2d(ramp, 2))
    assert _to_size(ramp, (8, 8)).shape == (1, 1, 8, 8)


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
        coarse = torch.nn.functional.avg_pool2d(torch.from_numpy(before.stride4)[None].double(), 2)[0]
        scores = with_background(coarse, 16).flatten(1) @ torch.linalg.matrix_power(matrix / matrix.sum(0), 256)
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
