"Maps averaged over the places that look alike."
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from wood_nb.base.files import DataError
from wood_nb.data.augment import normalise
from wood_nb.data.splits import Item, Split
from wood_nb.maps import spread as module
from wood_nb.maps.cam import cam_batch, class_activation, normalise_maps
from wood_nb.maps.spread import as_peaked, from_the_floor, likeness, spread, spread_maps
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.nets.weights import save_weights
from wood_nb.ood.cache import cache_features
from wood_nb.ood.head import drawn_maps, with_head


def by_loops(features, maps, power):
    "Place by place."
    out = torch.zeros_like(maps)
    for b, image in enumerate(features):
        unit = (image / (image.norm(dim=0) + 1e-5)).flatten(1)
        for v in range(unit.shape[1]):
            alike = torch.stack([max(0 * unit[0, 0], unit[:, u] @ unit[:, v]) ** power for u in range(unit.shape[1])])
            out[b].flatten(1)[:, v] = maps[b].flatten(1) @ alike / (alike.sum() + 1e-5)
    return out


@pytest.fixture
def some():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 3, 4, generator=generator), torch.rand(2, 3, 3, 4, generator=generator)


@pytest.mark.parametrize('power', [1.0, 2.0, 5.5])
def test_as_place_by_place(some, power):
    features, maps = some
    assert torch.allclose(spread(features, maps, power), by_loops(features, maps, power), atol=1e-5)
    assert torch.allclose((maps.flatten(2) @ likeness(features, power)).view_as(maps), by_loops(features, maps, power), atol=1e-5)


def test_a_few_places_at_a_time_is_the_same(some, monkeypatch):
    features, maps = some
    features.requires_grad_(); maps.requires_grad_()
    whole = spread(features, maps, 3)
    whole.square().sum().backward()
    gradients = features.grad.clone(), maps.grad.clone()
    features.grad = maps.grad = None
    monkeypatch.setattr(module, '_BLOCK', 2 * 12 * 5)      # five places of twelve
    parts = spread(features, maps, 3)
    parts.square().sum().backward()
    assert torch.allclose(whole, parts, atol=1e-6)
    for found, wanted in zip((features.grad, maps.grad), gradients): assert torch.allclose(found, wanted, atol=1e-5)


def test_attention_of_seam(golden):
    case = np.load(golden/'seam_pcm.npz')
    features, cam, wanted = (torch.from_numpy(case[f'attention_{o}']).float() for o in ('features', 'cam', 'out'))
    assert float((spread(features, cam) - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_a_large_power_leaves_the_map(some):
    features, maps = some
    assert torch.allclose(spread(features, maps, 60), maps, atol=0.05) and not torch.allclose(spread(features, maps, 1), maps, atol=0.05)


def test_maps_begin_at_their_floor(some):
    features, maps = some
    assert torch.allclose(spread_maps(features, maps, 2).amin((2, 3)), torch.zeros(2, 3)) and spread_maps(features, maps, 0) is maps
    assert torch.allclose(from_the_floor(maps + 3), from_the_floor(maps), atol=1e-6)


def test_seeds_of_peaked_maps_are_the_same(some):
    maps = normalise_maps(some[1])
    for threshold in (0.3, 0.6, 0.9): assert torch.equal(maps > threshold, as_peaked(maps) > threshold**3)
    assert torch.equal(maps.argmax(1), as_peaked(maps).argmax(1)) and float(as_peaked(maps).mean()) < float(maps.mean())


def test_other_places_are_refused(some):
    features, maps = some
    with pytest.raises(DataError, match='not of the same places'): spread(features, maps[..., :2])
    with pytest.raises(DataError, match='not of the same places'): spread(features[:1], maps)


def test_a_network_knows_how_its_maps_are_drawn(tmp_path):
    torch.manual_seed(0)
    net = build_net('tiny', ('a', 'b')).eval()
    images = normalise(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)))[None]
    other = with_head(net, torch.randn(2, net.dim), 2.0)
    save_weights(other, tmp_path/'net.safetensors')
    again = open_net(tmp_path/'net.safetensors')
    assert net.spread == 0 and other.spread == again.spread == 2.0
    assert with_head(again, torch.randn(2, net.dim)).spread == 0      # rows of another kind are not spread unasked
    with torch.no_grad():
        features = again.backbone(images)
        wanted = from_the_floor(spread(features, F.relu(again.class_maps(features)), 2.0))
        assert torch.allclose(class_activation(again, images, mirror=False), wanted, atol=1e-6)
        mirrored = class_activation(again, images.flip(-1))
        assert torch.allclose(class_activation(again, images), mirrored.flip(-1), atol=1e-5)


def test_maps_of_kept_features_are_those_of_the_picture(tmp_path):
    "Up to what lies between places: the network's maps are enlarged to a quarter of the picture, those of kept features by four."
    torch.manual_seed(0)
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)).resize((96, 64)).save(tmp_path/'a.png')
    split = Split('some', [Item('a', tmp_path/'a.png', (0, 1))], ('a', 'b'))
    net = build_net('tiny', split.classes).eval()
    weight = torch.randn(2, net.dim)
    cache = cache_features(net, split, tmp_path/'kept', places=None, mirror=False, title=None)
    for power in (0, 1.0, 4.0):
        found = drawn_maps([cache], 'a', weight, power)
        wanted = torch.from_numpy(cam_batch(with_head(net, weight, power), [split.image(0)], [[0, 1]], (1.0,), mirror=False)[0].stride4)
        enlarged = F.interpolate(found[None], wanted.shape[1:], mode='bilinear', align_corners=False)[0]
        assert np.corrcoef(enlarged.flatten(), wanted.flatten())[0, 1] > 0.98, power
