"""Maps as they are looked at and stored: the colour over a picture, the progress bar, maps of sizes that are no multiple of 16."""
import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import (cam_batch, class_activation, iterate_maps, load_maps, localise, localise_all, Maps, normalise_maps, overlay, scaled, stride4,
                              _sum_scales, store_maps)
from wood_nb.nets.backbones import build_net
from wood_nb.ood.head import with_head


def test_heat_lies_over_the_picture_by_the_root_of_its_height():
    found = overlay(Image.new('RGB', (3, 1), (100, 100, 100)), np.array([[0, .25, 1]]), strength=.5)
    from matplotlib import colormaps
    colours = colormaps['turbo']([0, .25, 1])[:, :3] * 255
    assert (found[0, 0] == 100).all() and found.shape == (1, 3, 3)
    for n, weight in ((1, .25), (2, .5)): assert np.abs(found[0, n] - (100 * (1 - weight) + colours[n] * weight)).max() <= 1
    assert (overlay(Image.new('RGB', (1, 1)), np.array([[7.0]])) == overlay(Image.new('RGB', (1, 1)), np.array([[1.0]]))).all()


def a_split(place) -> Split:
    Image.new('RGB', (20, 12)).save(place/'a.png')
    return Split('val', [Item('a', place/'a.png', (0,))], ('cat',))


@pytest.mark.parametrize('title', ['drawn', ''])
def test_a_bar_is_shown_with_a_title_only(title, tmp_path, capsys):
    store_maps(a_split(tmp_path), tmp_path/'out', lambda places: [Maps(np.array([0]), np.zeros((1, *stride4((12, 20))), np.float32), (12, 20))],
               title=title)
    said = capsys.readouterr().err
    assert (tmp_path/'out/a.npz').is_file() and (title in said) and bool(said) == bool(title)


def test_the_first_picture_without_maps_is_named(tmp_path):
    with pytest.raises(DataError, match=r'out/a\.npz: there is no such file; run the stage that writes it'):
        list(iterate_maps(a_split(tmp_path), tmp_path/'out'))


def test_a_full_map_is_the_one_of_the_padded_picture_cut_off(monkeypatch):
    "Pictures are padded to multiples of 16, and the map is scaled up to that size, as in the reference."
    net, asked = build_net('tiny', ('cat',)), []
    real = torch.nn.functional.interpolate
    monkeypatch.setattr('wood_nb.maps.cam.F.interpolate', lambda x, size, **how: (asked.append(tuple(size)), real(x, size, **how))[1])
    _, full = _sum_scales([net], [Image.new('RGB', (50, 33))], [[0]], (1.0,), mirror=False)
    assert (48, 64) in asked and full.shape == (1, 1, 33, 50)


def test_maps_of_the_wanted_classes_are_those_of_all(monkeypatch):
    "Images of one batch want different numbers of classes, one wants none; only the wanted rows of the classifier are asked."
    torch.manual_seed(0)
    net, asked = build_net('tiny', tuple('abcdefg')).eval(), []
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)) for _ in range(3)]
    with torch.no_grad(): every = class_activation(net, torch.stack([scaled(image, 1.0) for image in images]))
    real = net.class_maps
    monkeypatch.setattr(net, 'class_maps', lambda features, classes: (asked.append(list(classes)), real(features, classes))[1])
    found = cam_batch(net, images, [(5, 2), (), (2,)], (1.0,), full=True)
    assert asked == [[2, 5]] * 2 and [maps.keys.tolist() for maps in found] == [[2, 5], [], [2]]
    assert found[1].stride4.shape == (0, 12, 16) and found[1].full.shape == (0, 48, 64)
    for maps, own in zip(found[::2], every[::2]):
        for size, values in ((stride4((48, 64)), maps.stride4), ((48, 64), maps.full)):
            wanted = normalise_maps(torch.nn.functional.interpolate(own[None, maps.keys], size, mode='bilinear'))[0]
            assert values.shape == wanted.shape and np.allclose(values, wanted, atol=1e-5)
    none, = cam_batch(net, images[:1], [()], (1.0,))
    assert none.stride4.shape == (0, 12, 16)


def test_memory_of_a_map_does_not_grow_with_the_classes(monkeypatch):
    "Of a thousand classes one is enlarged."
    net, shapes = build_net('tiny', [f'class {n}' for n in range(1000)]).eval(), []
    real = torch.nn.functional.interpolate
    monkeypatch.setattr('wood_nb.maps.cam.F.interpolate', lambda x, *args, **how: (shapes.append(tuple(x.shape)), real(x, *args, **how))[1])
    cam_batch(net, [Image.new('RGB', (96, 64))], [[7]], (1.0,), full=True)
    assert shapes == [(1, 1, 8, 12)] * 2


def test_no_bar_where_all_maps_are_there(tmp_path, capsys):
    split, made = a_split(tmp_path), [Maps(np.array([0]), np.zeros((1, *stride4((12, 20))), np.float32), (12, 20))]
    for _ in range(2): store_maps(split, tmp_path/'out', lambda places: made, title='drawn')
    assert capsys.readouterr().err.count('0/1') == 1


def test_networks_that_share_a_backbone_are_drawn_in_one_pass_of_it(tmp_path, monkeypatch):
    torch.manual_seed(0)
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path/'a.png')
    split = Split('val', [Item('a', tmp_path/'a.png', (1,))], ('cat', 'dog'))
    net, passes = build_net('tiny', split.classes).eval(), []
    nets = {'cam': net, 'head': with_head(net, torch.randn(2, net.dim), 1.0), 'head-none': with_head(net, torch.randn(2, net.dim), 1.0)}
    monkeypatch.setattr('wood_nb.maps.cam.infer', lambda net: (net.backbone.register_forward_hook(lambda *_: passes.append(1)), net)[1])
    localise_all(nets, split, {name: tmp_path/name for name in nets}, dict.fromkeys(nets, 'w'), scales=(1.0, 0.5), title='')
    assert len(passes) == 4, 'two scales, each mirrored'
    localise(net, split, tmp_path/'alone', scales=(1.0,), title='')
    monkeypatch.setattr('wood_nb.maps.cam.infer', lambda net: 1/0)  # no copy is made where nothing is missing
    localise_all(nets, split, {name: tmp_path/name for name in nets}, dict.fromkeys(nets, 'w'), scales=(1.0, 0.5), title='')
    localise(net, split, tmp_path/'alone', scales=(1.0,), title='')
    for name, each in nets.items():
        alone, = cam_batch(each, [split.image(0)], [[1]], (1.0, 0.5))
        assert np.abs(load_maps(tmp_path/name/'a.npz').stride4 - alone.stride4).max() < 1e-3, name
