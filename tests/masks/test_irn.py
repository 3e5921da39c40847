"""IRN: labels, network, losses, walk, instances; and the reference's own outputs, where they lie beside the checkout."""
import json
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from wood_nb.train.safe import TrainingStopped
from wood_nb.base.files import DataError
from wood_nb.data.augment import Augment, normalise
from wood_nb.data.images import IGNORE, read_mask, VOC_CLASSES, write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.maps.advcam import AdvCAMConfig, climb_split
from wood_nb.maps.cam import cam, localise, maps_for
from wood_nb.masks.instances import (average_precision, clusters_of, _components, find_instances, _hits, instance_truth,
                                     Instances, _settle)
from wood_nb.masks.irn import (_colour_wheel, displacement_colours, five_features, irn_maps, irn_masks, IRNet, IRNLoss,
                               load_irn, load_irn_state, mean_displacement, open_irn, pair_kinds, Relations, relations,
                               spread, train_irn)
from wood_nb.masks.labels import (confident_labels, irn_labels, IRNConfig, IRNTrain, with_masks, LabelledImages,
                                  _moved_along)
from wood_nb.maps.cam import load_maps, Maps, save_maps
from wood_nb.masks.psa import AffinityNet, psa_maps, PSAConfig
from wood_nb.nets.backbones import build_net
from wood_nb.nets.weights import save_weights
from wood_nb.nets.wrap import wrap
from wood_nb.masks.walk import half_disc

CLASSES = ('cat', 'dog', 'boat')


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def small_net():
    torch.manual_seed(0)
    return IRNet(build_net('tiny', CLASSES), crop=32)


@pytest.fixture
def split(tmp_path):
    "Four pictures of 40 x 32 (one of them 36 x 28), a bright square on dark ground, with CAMs that find its middle."
    items, folder = [], tmp_path/'maps'
    for n in range(4):
        rng = np.random.default_rng(n)
        width, height = (36, 28) if n == 3 else (40, 32)
        pixels = rng.integers(20, 60, (height, width, 3), dtype=np.uint8)
        pixels[8:24, 8:28] = rng.integers(190, 230, (16, 20, 3))
        Image.fromarray(pixels).save(tmp_path/f'p{n}.png')
        mask = np.zeros((height, width), np.uint8)
        mask[8:24, 8:28] = n % 2 + 1
        write_mask(tmp_path/'masks'/f'p{n}.png', mask)
        write_mask(tmp_path/'SegmentationObject'/f'p{n}.png', (mask > 0).astype(np.uint8))
        heat = np.zeros((1, -(-height // 4), -(-width // 4)), np.float32)
        heat[0, 2:6, 2:7], heat[0, 3:5, 3:6] = 0.25, 1
        save_maps(folder/f'p{n}.npz', Maps(np.array([n % 2]), heat, (height, width)))
        items.append(Item(f'p{n}', tmp_path/f'p{n}.png', (n % 2,), tmp_path/'masks'/f'p{n}.png'))
    return Split('train', items, CLASSES, raw_classes=3)


@pytest.fixture
def config(): return IRNConfig(train=IRNTrain(steps=3, batch_size=2, lr=0.01, lr_head=0.1, momentum=0.9, augment=Augment((30, 44), 32)),
                               radius=3, crf=None, threshold=0.3)


# options

@pytest.mark.parametrize('wrong', [dict(foreground=0.1), dict(background=0), dict(foreground=1.0), dict(background=0.5)])
def test_thresholds_out_of_order(wrong):
    with pytest.raises(DataError, match='background <= foreground'): IRNConfig(**wrong)


def test_presets():
    assert (IRNConfig().foreground, IRNConfig().background, IRNConfig().power, IRNConfig().threshold) == (0.30, 0.15, 1.5, 0.22)
    assert (IRNConfig.irn().background, IRNConfig.irn().power, IRNConfig.irn().threshold) == (0.05, 1.0, 0.25)
    assert IRNConfig.small().steps == 67 and IRNConfig.small().train.augment.crop == 192 and IRNConfig.small(96).train.augment.crop == 96
    assert IRNConfig.small(500).steps == 256 and IRNConfig.small(20, steps=5).steps == 5
    assert IRNConfig.advcam().foreground == 0.35 and IRNConfig.irn(power=2.0).power == 2
    with pytest.raises(DataError, match='not known'): IRNConfig(crf='no-such')


# labels

def picture(size=(16, 16)): return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_sure_and_unsure():
    heat = np.linspace(0, 1, 16, dtype=np.float32)[None, None].repeat(16, 1)
    maps = Maps(np.array([4]), heat[:, ::4, ::4], (16, 16), heat)
    labels = confident_labels(picture(), maps, IRNConfig(crf=None))
    assert labels[0].tolist() == [0]*3 + [IGNORE]*2 + [5]*11
    bent = confident_labels(picture(), maps, IRNConfig())
    assert set(np.unique(bent)) <= {0, 5, IGNORE} and bent.dtype == np.uint8


def test_two_classes_keep_their_values():
    heat = np.zeros((2, 16, 16), np.float32)
    heat[0, :, :8], heat[1, :, 8:] = 0.9, 0.8
    labels = confident_labels(picture(), Maps(np.array([2, 7]), heat[:, ::4, ::4], (16, 16), heat), IRNConfig(crf=None))
    assert (labels[:, :8] == 3).all() and (labels[:, 8:] == 8).all()


@pytest.mark.parametrize('crf', [None, 'irn-label'])
def test_maps_that_say_nothing(crf):
    config = IRNConfig(crf=crf)
    none = confident_labels(picture(), Maps(np.zeros(0, np.int64), np.zeros((0, 4, 4), np.float32), (16, 16)), config)
    zero = confident_labels(picture(), Maps(np.array([1]), np.zeros((1, 4, 4), np.float32), (16, 16)), config)
    assert (none == 0).all() and (zero == IGNORE).all(), 'no class: background; a class that is nowhere: unsure everywhere'


@pytest.mark.parametrize('heat, wanted', [(1.0, 3), (0.2, IGNORE), (0.1, 0)])
def test_one_pixel(heat, wanted):
    maps = Maps(np.array([2]), np.full((1, 1, 1), heat, np.float32), (1, 1))
    assert confident_labels(picture((1, 1)), maps, IRNConfig()).tolist() == [[wanted]]


def test_no_maps_for_an_image(split, tmp_path, config):
    (tmp_path/'maps'/'p2.npz').unlink()
    with pytest.raises(DataError, match=r'p2\.npz: there is no such file; run the stage'):
        irn_labels(split, tmp_path/'maps', tmp_path/'labels', config, title=None)


def test_maps_of_another_class_or_size(split, tmp_path):
    save_maps(tmp_path/'maps'/'p0.npz', Maps(np.array([2]), np.ones((1, 8, 10), np.float32), (32, 40)))
    with pytest.raises(DataError, match='class 2.*not among the labels of p0'): maps_for(split, 0, tmp_path/'maps')
    save_maps(tmp_path/'maps'/'p0.npz', Maps(np.array([0]), np.ones((1, 10, 8), np.float32), (40, 32)))
    with pytest.raises(DataError, match='draw the maps again'): maps_for(split, 0, tmp_path/'maps')


def test_labels_of_exact_maps_are_those_of_maps_never_stored(split, tmp_path):
    "Full size and float32, of CAM and of AdvCAM; otherwise stored maps are coarser, and a folder of one kind is not resumed as the other."
    torch.manual_seed(0)
    net, config = build_net('tiny', CLASSES), IRNConfig(crf=None)
    net.classifier.weight.data.abs_()  # maps that are not zero
    places = {exact: localise(net, split, tmp_path/f'cam{exact}', scales=(1.0,), batch_size=1, title='', exact=exact) for exact in (False, True)}
    climbed = climb_split(net, split, tmp_path/'climbed', AdvCAMConfig(iterations=1, scales=(1.0,)), limit=1, title='', exact=True)
    assert load_maps(climbed/'p0.npz').full.dtype == np.float32
    for n in range(4):
        fresh = cam(net, split.image(n), split[n].labels, (1.0,))
        exact, coarse = (maps_for(split, n, place) for place in (places[True], places[False]))
        assert np.array_equal(exact.full, fresh.full) and np.array_equal(exact.stride4, fresh.stride4) and coarse.full is None
        assert np.array_equal(*(confident_labels(split.image(n), maps, config) for maps in (exact, fresh)))
        assert not np.array_equal(coarse.at_full_size(), fresh.full)
    with pytest.raises(DataError, match='exact'): localise(net, split, places[False], scales=(1.0,), title='', exact=True)


def test_labels_are_written_once(split, tmp_path, config):
    out = irn_labels(split, tmp_path/'maps', tmp_path/'labels', config, title=None)
    first = (out/'p1.png').stat().st_mtime_ns
    (out/'p0.png').unlink()
    irn_labels(split, tmp_path/'maps', tmp_path/'labels', config, title=None)
    assert (out/'p0.png').is_file() and (out/'p1.png').stat().st_mtime_ns == first
    assert set(np.unique(read_mask(out/'p1.png', 3))) == {0, 2, IGNORE}
    with pytest.raises(DataError, match='foreground'): irn_labels(split, tmp_path/'maps', out, replace(config, foreground=0.5), title=None)
    assert json.loads((out/'labels.json').read_text())['format'] == 'wood_nb.labels'


def test_labels_move_with_their_image():
    "An image painted from its own label map: after the same augmentation, colours and labels still agree."
    labels = np.zeros((40, 52), np.uint8)
    labels[5:30, 8:20], labels[12:38, 30:50] = 1, 2
    colours = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0]], np.uint8)
    augment = Augment((40, 80), 48)
    for n in range(12):
        image = augment(Image.fromarray(colours[labels]), np.random.default_rng(n))
        moved = _moved_along(labels, augment, np.random.default_rng(n))
        assert moved.shape == (48, 48) and moved.dtype == torch.uint8
        red, green = (image[:2] > 0.3)
        seen = moved[moved != IGNORE]
        guess = (red * 1 + green * 2)[moved != IGNORE]
        assert (seen == guess).float().mean() > 0.95
        assert image[:, moved == IGNORE].abs().max() == 0 if (moved == IGNORE).any() else True


def test_crop_must_fit_the_stride(split):
    with pytest.raises(DataError, match='multiple of it'): LabelledImages(split, Augment((30, 40), 30), 0)


# network

@pytest.mark.parametrize('backbone', ['tiny', 'resnet18', 'mobilenet_v2'])
@pytest.mark.parametrize('size', [(64, 64), (50, 71), (1, 1)])
def test_any_backbone_and_size(backbone, size):
    net = IRNet(build_net(backbone, CLASSES), crop=32).eval()
    with torch.no_grad(): out = net(torch.zeros(1, 3, *(max(32, side) for side in size)))
    rows, columns = (-(-max(32, side) // 4) for side in size)
    assert out.edge.shape == (1, rows, columns) and out.displacement.shape == (1, 2, rows, columns)
    found = relations(net, [Image.new('RGB', size[::-1])])
    assert found.edge.shape == (1, -(-size[0] // 4), -(-size[1] // 4)) and 0 <= found.edge.min() <= found.edge.max() <= 1


def test_a_boundary_is_the_mean_of_a_picture_and_its_mirror_image():
    torch.manual_seed(0)
    net, image = IRNet(build_net('tiny', CLASSES), crop=64), Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    edge, mirrored = (relations(net, [one]).edge[0] for one in (image, ImageOps.mirror(image)))
    assert torch.allclose(edge, mirrored.flip(-1), atol=1e-5) and not torch.allclose(edge, edge.flip(-1), atol=1e-3)


def test_five_features():
    net = build_net('resnet18', CLASSES)
    with torch.no_grad(): seen = five_features(net.backbone.eval(), net.stages, torch.zeros(1, 3, 64, 64))
    assert [f.shape[1] for f in seen] == [64, 64, 128, 256, 512] and [64 // f.shape[2] for f in seen] == [4, 4, 8, 16, 16]


def test_the_backbone_never_learns(small_net, split, tmp_path, config):
    before = {n: t.clone() for n, t in small_net.state_dict().items()}
    train_irn(small_net, split, tmp_path/'maps', tmp_path/'irn', config, title=None)
    after = small_net.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith('backbone.'))
    assert not torch.equal(before['fc_edge6.weight'], after['fc_edge6.weight'])
    assert not torch.equal(before['fc_dp7.3.weight'], after['fc_dp7.3.weight'])


def test_wrapped_networks_are_refused():
    import torchvision
    with pytest.raises(DataError, match='four stages'): IRNet(wrap(torchvision.models.resnet18(), CLASSES))


def test_checkpoints_of_other_networks(small_net, tmp_path):
    save_weights(build_net('tiny', CLASSES), tmp_path/'classifier.safetensors')
    with pytest.raises(DataError, match='no IRN network'): open_irn(tmp_path/'classifier.safetensors')
    with pytest.raises(DataError, match='no boundary heads'): load_irn(small_net, tmp_path/'classifier.safetensors')
    other = IRNet(build_net('resnet18', CLASSES))
    save_weights(other, tmp_path/'other.safetensors')
    with pytest.raises(DataError, match='do not belong to this network'): load_irn(small_net, tmp_path/'other.safetensors')
    (tmp_path/'broken.safetensors').write_bytes(b'nothing')
    with pytest.raises(DataError, match='not readable'): open_irn(tmp_path/'broken.safetensors')
    state = small_net.state_dict()
    state['fc_edge2.0.weight'] = torch.zeros(32, 7, 1, 1)
    with pytest.raises(DataError, match='fc_edge2.0.weight'): load_irn_state(small_net, state, 'a file')
    del state['fc_dp3.0.weight']
    with pytest.raises(DataError, match='missing'): load_irn_state(small_net, state, 'a file')


def test_saved_and_opened(small_net, tmp_path):
    small_net.mean_displacement.copy_(torch.tensor([0.5, -1.0]))
    save_weights(small_net, tmp_path/'w.safetensors')
    again = open_irn(tmp_path/'w.safetensors')
    assert again.crop == 32 and again.classes == CLASSES and again.mean_displacement.tolist() == [0.5, -1.0] and not again.training


# losses and training

def test_kinds_of_pairs():
    labels = torch.tensor([[[0, 0, 1, 1, IGNORE, 2]]*4], dtype=torch.uint8)
    background, foreground, different = pair_kinds(labels, 2)
    right = half_disc(2).index((0, 1))
    assert background[0, right, 0].tolist() == [False, False, False, False] and foreground[0, right, 0].tolist() == [False, True, False, False]
    assert different[0, right, 0].tolist() == [True, False, False, False]


def test_no_pair_of_a_kind_counts_nothing():
    loss = IRNLoss(IRNConfig(radius=3))
    terms = loss.total(torch.rand(1, 8, 8), torch.rand(1, 2, 8, 8), torch.full((1, 8, 8), IGNORE, dtype=torch.uint8))
    assert all(float(v) == 0 for v in terms.values())


def test_training_resumes_to_the_same_weights(split, tmp_path, config):
    def net():
        torch.manual_seed(0)
        return IRNet(build_net('tiny', CLASSES), crop=32)
    whole, parted = net(), net()
    train_irn(whole, split, tmp_path/'maps', tmp_path/'a'/'irn', config, title=None)
    (tmp_path/'b'/'irn').mkdir(parents=True)
    from wood_nb.train.loop import train
    labels = irn_labels(split, tmp_path/'maps', tmp_path/'b'/'irn'/'labels', config, title=None)

    def stop(step, _): (tmp_path/'b'/'STOP').touch() if step == 1 else None
    with pytest.raises(TrainingStopped):
        train(parted, with_masks(split, labels), config.train, IRNLoss(config), out=tmp_path/'b'/'irn', on_step=stop, title=None)
    parted = net()
    rows = train_irn(parted, split, tmp_path/'maps', tmp_path/'b'/'irn', config, title=None)
    assert rows[-1]['step'] == 3 and {'loss', 'loss/different', 'loss/centre', 'loss/still'} <= rows[-1].keys()
    for (name, a), b in zip(whole.state_dict().items(), parted.state_dict().values()): assert torch.allclose(a, b, atol=1e-6), name
    assert whole.mean_displacement.abs().max() > 0


def test_masks_are_never_read(split, tmp_path, config, small_net):
    blind = replace(split, items=[replace(item, mask=None) for item in split.items])
    train_irn(small_net, blind, tmp_path/'maps', tmp_path/'irn', config, title=None)
    assert open_irn(tmp_path/'irn'/'weights.safetensors').crop == 32


def test_radius_too_large_for_the_crop(split, tmp_path, config, small_net):
    with pytest.raises(DataError, match='radius 10'): train_irn(small_net, split, tmp_path/'maps', tmp_path/'irn', replace(config, radius=10), None)


def test_mean_displacement(small_net, split):
    with torch.no_grad(): small_net.fc_dp7[3].weight.zero_()
    assert mean_displacement(small_net, split).tolist() == [0, 0]


def test_only_what_is_wanted_is_computed(small_net, split, tmp_path, config, monkeypatch):
    "A walk needs no displacements and the mean displacement no boundaries; with both, nothing of a mirror image is computed to be thrown away."
    image, seen = split.image(0), []
    both, edge = relations(small_net, [image]), relations(small_net, [image], pointed=False)
    assert torch.equal(both.edge, edge.edge) and edge.displacement.shape == (0, *both.displacement.shape[1:]) and both.displacement.abs().max() > 0
    monkeypatch.setattr(IRNet, 'displacement', lambda self, features, size, real=IRNet.displacement: (seen.append(len(features[0])), real(self, features, size))[1])
    relations(small_net, [image, image])
    assert seen == [2]
    monkeypatch.setattr(IRNet, 'displacement', lambda *_: pytest.fail('nobody asked for displacements'))
    irn_maps(small_net, split, tmp_path/'maps', tmp_path/'walked', config, title='')
    monkeypatch.undo()
    monkeypatch.setattr(IRNet, 'edge', lambda *_: pytest.fail('nobody asked for boundaries'))
    mean_displacement(small_net, split)


def test_mean_displacement_is_over_upper_left_crops(split):
    "The network answers with the mean of what it sees: pictures are cut to the crop, and zeros beyond them count, as in the reference."
    class Seen(torch.nn.Module):
        crop = 34

        def __init__(self):
            super().__init__()
            self.register_parameter('one', torch.nn.Parameter(torch.ones(())))
            self.register_buffer('mean_displacement', torch.ones(2))

        def features(self, images): return [images]

        def pointed(self, features, size): return features[0][:, :2] + self.mean_displacement[:, None, None]
    wanted = torch.stack([torch.nn.functional.pad(normalise(split.image(n))[:2, :34, :34],
                                                  (0, 0, 0, 34 - min(34, split.image(n).height))).mean((1, 2)) for n in range(4)]).mean(0)
    for batch_size in (1, 3, 8): assert torch.allclose(mean_displacement(Seen(), split, batch_size), wanted, atol=1e-5)


# walks and masks

def test_walked_maps_reach_one_at_full_size(config):
    "A single peak: enlarged first, then divided, so that a threshold means what it says."
    heat = np.zeros((2, 9, 11), np.float32)
    heat[0, 4, 5], heat[1, 2, 2] = 1, 0.5
    found = spread([Maps(np.array([0, 3]), heat, (36, 42))], torch.full((1, 9, 11), 0.5), replace(config, steps=2))[0]
    assert abs(found.at_full_size().max() - 1) < 1e-5 and found.stride4.max() > 1.01


def test_maps_are_walked_in_batches(small_net, split, tmp_path, config):
    folder = irn_maps(small_net, split, tmp_path/'maps', tmp_path/'walked', config, batch_size=2, title='')
    for index, item in enumerate(split.items):
        found = load_maps(folder/f'{item.id}.npz')
        edge = relations(small_net, [split.image(index)]).edge
        alone = spread([maps_for(split, index, tmp_path/'maps')], edge, config)[0]
        assert abs(found.stride4 - alone.stride4).max() < 2e-3 and abs(found.at_full_size().max() - 1) < 1e-3 and found.size == alone.size
    first = (folder/'p0.npz').stat().st_mtime_ns
    irn_maps(small_net, split, tmp_path/'maps', folder, config, title='')
    assert (folder/'p0.npz').stat().st_mtime_ns == first
    with pytest.raises(DataError, match='power'): irn_maps(small_net, split, tmp_path/'maps', folder, replace(config, power=3.0), title='')
    masks = irn_masks(split, folder, tmp_path/'out', 0.3, title=None)
    assert set(np.unique(read_mask(masks/'p1.png', 3))) <= {0, 2} and json.loads((masks/'masks.json').read_text())['threshold'] == 0.3


def test_exact_maps_are_walked_exactly(small_net, split, tmp_path, config):
    "Of IRN and of PSA: stored in float32, as they were walked; the folder says so."
    torch.manual_seed(0)
    net = AffinityNet(build_net('tiny', CLASSES)).eval()
    affine = PSAConfig(crf=None, radius=2, steps=8, border=True)
    for draw, walker, how in ((irn_maps, small_net, config), (psa_maps, net, affine)):
        name = draw.__name__
        exact = draw(walker, split, tmp_path/'maps', tmp_path/name, how, batch_size=1, title='', exact=True)
        coarse = draw(walker, split, tmp_path/'maps', tmp_path/f'{name}16', how, batch_size=1, title='')
        with np.load(exact/'p0.npz') as kept, np.load(coarse/'p0.npz') as rounded:
            assert (kept['cam_stride4'].dtype, rounded['cam_stride4'].dtype) == (np.float32, np.float16)
            assert np.array_equal(kept['cam_stride4'].astype(np.float16), rounded['cam_stride4']) and (kept['cam_stride4'] != rounded['cam_stride4']).any()
        with pytest.raises(DataError, match='exact differ'): draw(walker, split, tmp_path/'maps', exact, how, title='')


def test_zero_and_absent_maps_stay_zero(config):
    edge = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    none = Maps(np.zeros(0, np.int64), np.zeros((0, 5, 6), np.float32), (20, 24))
    zero = Maps(np.array([1]), np.zeros((1, 5, 6), np.float32), (20, 24))
    a, b = spread([none, zero], edge, config)
    assert a.stride4.shape == (0, 5, 6) and b.stride4.shape == (1, 5, 6) and b.stride4.max() == 0
    assert spread([none, none], edge, config)[1].stride4.shape == (0, 5, 6)


@pytest.mark.parametrize('threshold', [0, 1, -0.2, 1.5])
def test_mask_threshold(split, tmp_path, threshold):
    with pytest.raises(DataError, match='between 0 and 1'): irn_masks(split, tmp_path/'maps', tmp_path/'out', threshold, title=None)


# instances

def field(height, width, centres):
    "A displacement field that points to the nearest of some centres."
    rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing='ij')
    to = torch.stack([torch.stack([y - rows, x - columns]) for y, x in centres])
    return to.gather(0, to.norm(dim=1).argmin(0).expand(1, 2, height, width))[0]


def test_cells_settle_at_their_centres():
    displacement = field(20, 30, [(9, 6), (10, 23)])
    row, column = _settle(displacement, 50)
    assert (row[:, :14] == 9).all() and (column[:, 17:] == 23).all()
    clusters = clusters_of(displacement)
    assert clusters.max() == 1 and clusters[0, 0] != clusters[0, 29]


def test_components_by_flood_fill():
    rng = np.random.default_rng(0)
    for density in (0.3, 0.6, 0.9, 1.0, 0.0):
        mask = rng.random((17, 23)) < density
        found = _components(torch.from_numpy(mask)).numpy()
        assert ((found > 0) == mask).all() and set(np.unique(found)) - {0} == set(range(1, found.max() + 1))
        seen = np.zeros(mask.shape, bool)
        parts = 0
        for start in zip(*np.nonzero(mask)):
            if seen[start]: continue
            parts, stack, part = parts + 1, [start], []
            seen[start] = True
            while stack:
                y, x = stack.pop()
                part.append((y, x))
                for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                    if 0 <= near[0] < 17 and 0 <= near[1] < 23 and mask[near] and not seen[near]:
                        seen[near] = True
                        stack.append(near)
            assert len({found[p] for p in part}) == 1 and (found == found[part[0]]).sum() == len(part)
        assert parts == found.max()


def test_two_of_a_kind(config):
    displacement = field(20, 30, [(9, 6), (10, 23)])
    edge = torch.zeros(1, 20, 30)
    edge[0, :, 14:16] = 1
    heat = np.zeros((1, 20, 30), np.float32)
    heat[0, 5:14, 2:12], heat[0, 5:14, 18:28] = 1, 0.8
    found = find_instances(Relations(edge, displacement[None]), Maps(np.array([1]), heat, (80, 120)), config)
    big = found.scores > 0
    assert big.sum() == 2 and (found.classes == 1).all() and found.masks.shape[1:] == (80, 120) and found.masks.sum(0).max() == 1
    none = find_instances(Relations(edge, displacement[None]), Maps(np.array([1]), heat * 0, (80, 120)), config)
    assert none.masks.shape == (0, 80, 120) and len(none.scores) == 0
    no_class = find_instances(Relations(edge, displacement[None]), Maps(np.zeros(0, np.int64), heat[:0], (80, 120)), config)
    assert no_class.masks.shape == (0, 80, 120)


def test_instances_know_no_power_and_a_threshold_of_their_own():
    "A map at 0.4 of the highest: 0.4 is above 0.25, but 0.4 to the power of 1.5 would not be above 0.26."
    displacement, edge = field(20, 30, [(9, 6), (10, 23)]), torch.zeros(1, 20, 30)
    edge[0, :, 14:16] = 1
    heat = np.zeros((1, 20, 30), np.float32)
    heat[0, :, :14], heat[0, :, 16:] = 1, 0.4
    case = Relations(edge, displacement[None]), Maps(np.array([1]), heat, (80, 120))
    one, other = (find_instances(*case, IRNConfig(power=power, threshold=t)) for power, t in ((1.0, 0.9), (3.0, 0.1)))
    assert (one.scores > 0).sum() == 2 and np.array_equal(one.masks, other.masks) and np.array_equal(one.scores, other.scores)
    assert (find_instances(*case, IRNConfig(), threshold=0.45).scores > 0).sum() == 1, 'the weaker one is background then'


def boxes(*spans, classes=None, scores=None):
    masks = np.zeros((len(spans), 10, 10), bool)
    for mask, (a, b) in zip(masks, spans): mask[:, a:b] = True
    n = len(spans)
    return Instances(masks, np.array(classes if classes is not None else [0]*n, np.int64), np.array(scores if scores is not None else [1.0]*n))


def test_hits():
    found = boxes((0, 4), (0, 5), (6, 9), scores=[0.5, 0.9, 0.8])
    assert _hits(found, boxes((0, 5), (6, 10))).tolist() == [False, True, True], 'a true instance is hit once, by the best score'
    assert _hits(boxes((0, 5)), boxes((0, 10))).tolist() == [True], 'exactly one half is enough, as in the VOC evaluation of chainercv'
    assert _hits(boxes((0, 4)), boxes((0, 10))).tolist() == [False]
    assert _hits(boxes(), boxes((0, 5))).tolist() == [] and _hits(boxes((0, 5)), boxes()).tolist() == [False]


def test_average_precision_by_hand():
    found = [boxes((0, 5), (5, 9), scores=[0.9, 0.2]), boxes((0, 9), scores=[0.5])]
    true = [boxes((0, 5), (5, 10)), boxes((0, 3))]
    ap = average_precision(found, true, ('cat', 'dog'))
    assert abs(ap['cat'] - (1 + 2/3) / 3) < 1e-12 and math.isnan(ap['dog']) and ap['mean'] == ap['cat']
    assert average_precision([boxes()], [boxes((0, 3))], ('cat',))['mean'] == 0


def test_true_instances(split):
    true = instance_truth(split, 1)
    assert true.masks.shape == (1, 32, 40) and true.classes.tolist() == [1] and true.masks.sum() == 16*20
    assert instance_truth(replace(split, items=[replace(split[0], mask=None)]), 0) is None


def test_colours():
    still = displacement_colours(np.zeros((2, 3, 3)))
    assert (still == 1).all() and _colour_wheel(11).shape == (11, 11, 3)
    right, down = (displacement_colours(np.array(v, float).reshape(2, 1, 1), 1.0)[0, 0] for v in ([0, 1], [1, 0]))
    assert right.tolist() == [1, 0, 0] and not np.allclose(right, down)


# the reference

def fill(name, shape):
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if len(shape) == 4: return torch.randn(shape, generator=g) * math.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    if name.endswith('bn3.weight'): return torch.full(shape, 0.2)
    return torch.ones(shape) if name.endswith(('weight', 'running_var')) else torch.zeros(shape)


def off(found, wanted): return float(np.abs(np.asarray(found, np.float64) - wanted).max() / np.abs(wanted).max())


def test_golden_network(golden):
    "A checkpoint with the reference's names, copies included, gives the reference's boundaries and displacements."
    with np.load(golden/'irn_net.npz', allow_pickle=False) as file: case = dict(file)
    net = IRNet(build_net('resnet50', VOC_CLASSES), crop=512)
    shapes = {n: tuple(t.shape) for n, t in net.state_dict().items() if not n.endswith('num_batches_tracked') and n != 'mean_displacement'}
    state = {n.replace('backbone.', 'resnet50.'): fill(n.removeprefix('backbone.'), s) for n, s in shapes.items()}
    copies = {f'stage1.0.{n.rpartition(".")[2]}': t for n, t in state.items() if n.startswith('resnet50.conv1')}
    copies |= {'edge_layers.0.0.weight': state['fc_edge1.0.weight'], 'resnet50.fc.weight': torch.zeros(1000, 2048),
               'mean_shift.running_mean': torch.zeros(2), 'fc_dp7.4.running_mean': torch.zeros(2)}
    load_irn_state(net, {f'module.{n}': t for n, t in (state | copies).items()}, 'golden')
    found = relations(net, [Image.fromarray(case['image'])])
    assert off(found.edge, case['edge']) < 1e-4 and off(found.displacement[0], case['displacement']) < 1e-4


def test_golden_losses(golden):
    with np.load(golden/'irn_losses.npz', allow_pickle=False) as file: case = dict(file)
    assert set(map(tuple, case['dst_offsets_yx'])) == set(half_disc(10))
    edge, displacement, labels = (torch.from_numpy(case[n]) for n in ('edge_sigmoid', 'displacement', 'segmentation'))
    terms = IRNLoss(IRNConfig(radius=int(case['radius']))).total(edge[0], displacement, labels[None])
    for ours, theirs in [('background', 'bg_pos_affinity'), ('foreground', 'fg_pos_affinity'), ('different', 'neg_affinity'),
                         ('centre', 'fg_displacement'), ('still', 'bg_displacement'), ('loss', 'total')]:
        assert abs(float(terms[ours]) - float(case[theirs])) < 1e-4 * abs(float(case[theirs])), ours


def test_maps_are_raised_to_the_power_before_the_walk(config):
    "Two cells beside each other, no boundary: the walk averages what the power has made of them."
    maps, edge = Maps(np.array([0]), np.array([[[1.0, 0.5, 0.2, 0.1]]*3], np.float32), (12, 16)), torch.full((1, 3, 4), 0.6)
    plain, raised = (spread([maps], edge, replace(config, power=power))[0].stride4 for power in (1.0, 2.0))
    squared = spread([Maps(maps.keys, maps.stride4 ** 2, maps.size)], edge, replace(config, power=1.0))[0].stride4
    assert np.allclose(raised, squared, atol=1e-6) and np.abs(plain - raised).max() > 0.01
