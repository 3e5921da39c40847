"""Maps as they are looked at and stored: the colour over a picture, the progress bar, maps of sizes that are no multiple of 16."""
import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import cam_batch, class_activation, iterate_maps, Maps, normalise_maps, overlay, scaled, stride4, _sum_scales, store_maps
from wood_nb.nets.backbones import build_net


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
    _, full = _sum_scales(net, [Image.new('RGB', (50, 33))], [[0]], (1.0,), mirror=False)
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


def test_memory_of_a_map_does_not_grow_with_the_classes():
    "No tensor of the size of the picture is made for more classes than are asked for."
    net, sizes = build_net('tiny', [f'class {n}' for n in range(300)]).eval(), []
    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):
            out = call(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, torch.Tensor) and out.ndim == 4 and out.shape[1] not in (24, 48, 96, 128) else 0)
            return out
    with Seen(): cam_batch(net, [Image.new('RGB', (96, 64))], [[7]], full=True)
    assert max(sizes) <= 2 * 3 * 192 * 128, 'only the picture at scale 2 and its like'
