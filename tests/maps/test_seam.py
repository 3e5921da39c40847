"""SEAM beside the values of its released code (../shared/golden, beside a development checkout), and what else it must do."""
import os
import subprocess
import zlib
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from wood_nb.base.files import DataError
from wood_nb.maps import spread as spreading
from wood_nb.maps.config import SeamConfig
from wood_nb.maps.seam import (hardest, load_seam, max_norm, min_pool, only_strongest, open_seam, pcm_input, seam_batch, seam_losses,
                               seam_training, SeamLoss, SeamNet, SeamTrain, SeamView, stretched)
from wood_nb.maps.spread import spread
from wood_nb.masks.psa import with_background
from wood_nb.nets.backbones import build_net
from wood_nb.nets.camnet import CamNet
from wood_nb.nets.weights import save_weights
from wood_nb.nets.wideresnet import WideBlock, WideBottleneck, WideResNet
from wood_nb.nets.wrap import wrap
from wood_nb.ood.config import WOoDConfig
from wood_nb.ood.wood import WOoDLoss
from wood_nb.scores.seeds import seed
from wood_nb.train.batches import Batch
from wood_nb.train.config import TrainConfig

pytestmark = pytest.mark.usefixtures('one_thread')
CLASSES = tuple('abcdefghijklmnopqrst')
PUBLISHED = SeamConfig.official()


@pytest.fixture
def case(golden, request):
    with np.load(golden/f'{request.param}.npz', allow_pickle=False) as file:
        return {k: torch.from_numpy(v).float() if v.dtype == np.float16 else torch.from_numpy(v) for k, v in file.items()}


def golden_case(name): return pytest.mark.parametrize('case', [name], indirect=True)


def off(found, wanted) -> float:
    "Largest difference relative to the largest value."
    assert found.shape == wanted.shape, f'{tuple(found.shape)} instead of {tuple(wanted.shape)}'
    return float((found - wanted).detach().abs().max()/wanted.detach().abs().max())


def by_name(name: str, *shape: int) -> torch.Tensor:
    "The weights that the golden cases agree on."
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=g)*(2/np.prod(shape[1:]))**.5


class Body(nn.Sequential):
    "The small backbone of the golden step: four convolutions with rectifiers."

    def __init__(self):
        parts = OrderedDict()
        for name, shape, stride in (('c1', (8, 3, 3, 3), 2), ('c4', (16, 8, 3, 3), 2), ('c5', (12, 16, 3, 3), 2), ('c6', (20, 12, 3, 3), 1)):
            parts[name] = nn.Conv2d(shape[1], shape[0], 3, stride, 1, bias=False)
            parts[name].weight.data = by_name(f'{name}.weight', *shape)
            parts[f'{name}_relu'] = nn.ReLU()
        super().__init__(parts)


@pytest.fixture
def net() -> SeamNet:
    "The network of the golden step; fc8's output for the background is dead weight there, and not here."
    made = SeamNet(CamNet(Body(), 20, CLASSES, [[c, f'{c}_relu'] for c in ('c1', 'c4', 'c5', 'c6')]), PUBLISHED)
    made.classifier.weight.data = by_name('fc8.weight', 21, 20, 1, 1)[1:]
    for name in ('f8_3', 'f8_4', 'f9'):
        layer = getattr(made, name)
        layer.weight.data = by_name(f'{name}.weight', *layer.weight.shape)
    return made


@golden_case('seam_pcm')
@pytest.mark.parametrize('block', [spreading._BLOCK, 400])
def test_pcm(case, block, monkeypatch):
    monkeypatch.setattr(spreading, '_BLOCK', block)
    assert off(spread(case['attention_features'], case['attention_cam']), case['attention_out']) < 1e-5
    assert off(pcm_input(case['raw_cam'][:, 1:]), case['pcm_input']) < 1e-5
    made = SimpleNamespace(f9=lambda looks: F.conv2d(looks, by_name('f9.weight', 192, 195, 1, 1)))
    assert off(SeamNet.attend(made, case['features'], case['cam']), case['out']) < 1e-5


@golden_case('seam_pieces')
def test_pieces(case):
    assert (max_norm(case['x']) - case['max_norm']).abs().max() < 1e-6
    assert abs(min_pool(case['min_pool_x']) - case['min_pool']) < 1e-6
    assert (only_strongest(case['onehot_x']) - case['onehot']).abs().max() < 1e-6


def assert_losses(terms, case, close):
    for name, wanted in (('cls', (case['loss_cls1'] + case['loss_cls2'])/2), ('min', (case['loss_rvmin1'] + case['loss_rvmin2'])/2),
                         ('er', case['loss_er']), ('ecr', case['loss_ecr1'] + case['loss_ecr2']), ('loss', case['loss'])):
        assert abs(terms[name] - wanted) < close, name
    assert abs(terms['cls'] + terms['min'] - case['loss_cls']) < close


@golden_case('seam_losses')
def test_losses(case):
    maps = {name: case[name].requires_grad_() for name in ('cam1', 'pcm1', 'cam2', 'pcm2')}
    views = [SeamView(maps[f'cam{n}'][:, 1:], maps[f'pcm{n}']) for n in (1, 2)]
    terms = seam_losses(*views, case['label'], PUBLISHED)
    assert_losses(terms, case, 1e-5)
    terms['loss'].backward()
    for name in ('cam1', 'pcm1'): assert off(maps[name].grad[:, :6], case[f'grad_{name}_first6']) < 1e-4, name
    for name in ('cam2', 'pcm2'): assert off(maps[name].grad, case[f'grad_{name}']) < 1e-4, name


@golden_case('seam_step')
@pytest.mark.parametrize('block', [spreading._BLOCK, 100])
def test_step(net, case, block, monkeypatch):
    monkeypatch.setattr(spreading, '_BLOCK', block)
    with torch.no_grad(): view = net.view(case['images'])
    assert off(view.cam[:, :1], case['cam_first2'][:, 1:]) < 1e-3 and off(view.pcm[:, :2], case['pcm_first2']) < 1e-3
    assert off(view.cam.mean((2, 3)), case['cam_mean'][:, 1:]) < 1e-3 and off(view.pcm.mean((2, 3)), case['pcm_mean']) < 1e-3
    terms = SeamLoss(PUBLISHED)(net, Batch(case['images'], case['label']))
    assert_losses(terms, case, 1e-4)
    terms['loss'].backward()
    for name in ('c1', 'c4', 'c5', 'c6'):
        assert off(net.backbone.get_submodule(name).weight.grad.norm(), case[f'grad_{name}']) < 1e-3, name
    for name in ('f8_3', 'f8_4', 'f9'): assert off(getattr(net, name).weight.grad.norm(), case[f'grad_{name}']) < 1e-3, name
    rows = net.classifier.weight.grad[:, :, 0, 0]
    assert off(rows, case['grad_fc8_full'][1:]) < 1e-3 and off(rows.norm(), case['grad_fc8']) < 1e-3
    assert not case['grad_fc8_full'][0].any(), 'the output that is left out here learns nothing'
    assert off(net.f9.weight.grad[:8, :, 0, 0], case['grad_f9_row']) < 1e-3


@golden_case('seam_infer')
def test_inference(case):
    found = stretched(case['maps'].sum(0))
    assert (found - case['out']).abs().max() < 1e-5
    for alpha in (4, 24): assert (with_background(found, alpha)[0] - case[f'background{alpha}']).abs().max() < 1e-5
    assert (seed(found.numpy(), case['keys'].numpy(), .26) == case['labels26'].numpy()).all()


@pytest.fixture(scope='module')
def tiny() -> SeamNet: return SeamNet(build_net('tiny', CLASSES[:3]), SeamConfig()).eval()


def pictures(n: int, side: int = 48) -> torch.Tensor: return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize('backbone', ['tiny', 'resnet18', 'mobilenet_v2', 'efficientnet_lite0'])
def test_any_backbone_with_two_taps(backbone):
    made = SeamNet(build_net(backbone, CLASSES[:4], 8), SeamConfig()).eval()
    out = made(pictures(2, 40), pictures(1, 20))
    assert [tuple(o.shape) for view in out[3:] for o in view] == [(1, 4, 40, 40), (1, 5, 40, 40), (1, 4, 20, 20), (1, 5, 20, 20)]
    plain = made(pictures(2, 40))
    assert torch.allclose(out.logits, plain.logits, atol=1e-5) and plain.z.shape == (2, made.dim)


def test_taps_of_wideresnet_are_the_published_ones():
    "What enters b5 and b6, normalised and rectified, whatever stages are asked for; here in a narrow one."
    body = WideResNet(OrderedDict(conv1a=nn.Conv2d(3, 8, 3, 4, 1), b5=WideBlock(8, 8, 12, dilation=2), b6=WideBottleneck(12, 16, 4, .3), relu=nn.ReLU()))
    made = SeamNet(CamNet(body, 16, CLASSES[:2], [['conv1a'], ['b5'], ['b6'], ['relu']], {}), SeamConfig()).eval()
    assert (made.f8_3.in_channels, made.f8_4.in_channels) == (8, 12)
    assert made.view(pictures(1, 16)).pcm.shape == (1, 3, 16, 16)


def test_a_backbone_without_taps_is_named():
    head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(DataError, match='after stages 2 and 3, but this backbone has no stages that follow one another; take another'):
        SeamNet(wrap(head), SeamConfig())
    nested = CamNet(nn.Sequential(OrderedDict(model=nn.Conv2d(3, 4, 3))), 4, 'ab', [['model.a'], ['model.b'], ['model.c'], ['model.d']], {'backbone': 'timm:x'})
    with pytest.raises(DataError, match='timm:x has no stages'): SeamNet(nested, SeamConfig())


def test_a_network_is_saved_and_opened(tiny, tmp_path):
    save_weights(tiny, tmp_path/'seam.safetensors')
    again = open_seam(tmp_path/'seam.safetensors')
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(again.view(pictures(1)), tiny.view(pictures(1))))
    save_weights(build_net('tiny', 'ab'), tmp_path/'plain.safetensors')
    with pytest.raises(DataError, match='plain.safetensors: holds no network of SEAM; name weights'): open_seam(tmp_path/'plain.safetensors')


@pytest.mark.parametrize('options, words', [({'reduce': 1.}, 'reduce=1.0: must be above 0 and below 1'), ({'hardest': 0}, 'hardest=0'), ({'er_weight': -1}, 'er_weight'),
                                            ({'taps': (3, 2)}, 'taps'), ({'taps': (1, 5)}, 'taps'), ({'steps': 0}, 'steps=0'), ({'jitter': 1}, 'jitter=1')])
def test_options_that_make_no_sense(options, words):
    with pytest.raises(DataError, match=words): SeamConfig(**options)


def plainly_spread(features, maps):
    "The definition, with the whole matrix."
    unit = (features/(features.norm(dim=1, keepdim=True) + 1e-5)).flatten(2)
    alike = F.relu(torch.einsum('bci,bcj->bij', unit, unit))
    return torch.einsum('bki,bij->bkj', maps.flatten(2), alike/(alike.sum(1, keepdim=True) + 1e-5)).view_as(maps)


@pytest.mark.parametrize('block', [10**7, 500, 1])
def test_blocks_change_neither_maps_nor_gradients(block, monkeypatch):
    monkeypatch.setattr(spreading, '_BLOCK', block)
    generator = torch.Generator().manual_seed(0)
    features, maps = (torch.randn(2, c, 5, 7, generator=generator, dtype=torch.float32).requires_grad_() for c in (6, 4))
    weight = torch.randn(2, 4, 5, 7, generator=generator)
    found = [torch.autograd.grad((how(features, maps)*weight).sum(), (features, maps)) for how in (spread, plainly_spread)]
    assert all(off(a, b) < 1e-5 for a, b in zip(*found)) and off(spread(features, maps), plainly_spread(features, maps)) < 1e-5


def test_no_large_matrix_is_made(monkeypatch):
    "At scale 2 of 375 x 500 pixels there are 94 x 125 places; the whole matrix would be 552 MB."
    largest = []
    def counted(unit, columns, values, *power):
        largest.append(unit.shape[0]*unit.shape[2]*columns.shape[2])
        return values[..., :columns.shape[2]]
    monkeypatch.setattr(spreading, '_block', counted)
    assert spread(torch.ones(1, 2, 94, 125), torch.ones(1, 3, 94, 125)).shape == (1, 3, 94, 125)
    assert 4*max(largest) <= 32e6 and sum(largest) == (94*125)**2
    spread(torch.ones(16, 2, 56, 56), torch.ones(16, 3, 56, 56))
    assert 4*max(largest) <= 32e6


def test_what_is_hardest_and_lowest():
    entries = torch.tensor([[[[0., -9., 1.], [2., 3., 4.]]], [[[8., 0., 0.], [0., 0., 0.]]]])
    assert hardest(entries, .34) == (9 + 4 + 8 + 0)/4 and hardest(entries, .01) == (9 + 8)/2
    assert min_pool(torch.tensor([[[[-1., 3.], [2., 5.]], [[0., -3.], [7., 1.]]]]), .5) == (0 + 3)/2


def test_identical_views_agree(tiny):
    "Where the second view is the first one, class maps are not apart; what is not labelled counts for nothing."
    view = SeamView(torch.rand(2, 3, 8, 8), torch.rand(2, 4, 8, 8))
    labels = torch.tensor([[1., 0, 0], [0, 1, 1]])
    terms = seam_losses(view, view, labels, SeamConfig())
    assert terms['er'] == 0 and terms['ecr'] > 0
    changed = view.cam.clone()
    changed[0, 1:] += torch.rand(2, 8, 8)
    other = seam_losses(SeamView(changed, view.pcm), view, labels, SeamConfig())
    assert other['er'] == 0 and torch.isclose(other['ecr'], terms['ecr']) and other['cls'] != terms['cls']
    assert torch.isfinite(seam_losses(view, view, torch.zeros(2, 3), SeamConfig())['loss'])


@pytest.mark.parametrize('zero_labels', ['image', 'dense'])
def test_with_ood_pictures(tiny, zero_labels):
    "Both of W-OoD's terms are added, on logits (or at every place) of OoD pictures and on the features of view 1; ER and ECR do not see them."
    images, ood, labels = pictures(3), pictures(5)[3:], torch.eye(3)
    config = WOoDConfig(zero_labels=zero_labels, ood_weight=2., distance_weight=.5)
    loss = WOoDLoss(torch.randn(3, 128), torch.ones(3), torch.randn(4, 128), config, SeamLoss(SeamConfig()))
    with torch.no_grad():
        terms, own = loss(tiny, Batch(images, labels, ood)), SeamLoss(SeamConfig())(tiny, Batch(images, labels, ood))
        logits = tiny(ood).logits if zero_labels == 'image' else tiny.class_maps(tiny(ood).features).flatten(2).mT.flatten(0, 1)
        z = tiny(images).z
    for name in ('cls', 'min', 'er', 'ecr'): assert torch.isclose(terms[name], own[name]), name
    assert torch.isclose(terms['ood'], F.softplus(logits).mean(), rtol=1e-4) and torch.isclose(terms['distance'], loss.distance(z, labels), rtol=1e-4)
    assert torch.isclose(terms['loss'], own['loss'] + 2*terms['ood'] + .5*terms['distance'], rtol=1e-4)


def test_all_new_layers_learn(tiny):
    "At the rate of the last layer; PCM's layers are reached by the losses, and the backbone is not reached through PCM."
    made, loss = seam_training(build_net('tiny', CLASSES[:3]), SeamConfig())
    rates = {id(p): group['lr'] for group in TrainConfig(lr=.1, lr_head=1.).groups(made) for p in group['params']}
    assert {name: rates[id(p)] for name, p in made.named_parameters() if 'backbone' not in name} == dict.fromkeys(
        ('classifier.weight', 'f8_3.weight', 'f8_4.weight', 'f9.weight'), 1.)
    made.view(pictures(2)).pcm.sum().backward()
    assert made.f8_3.weight.grad.any() and made.f9.weight.grad.any() and made.classifier.weight.grad is None
    assert all(p.grad is None for p in made.backbone.parameters())
    loss(made, Batch(pictures(2), torch.eye(3)[:2]))['loss'].backward()
    assert made.classifier.weight.grad.any() and all(p.grad is not None for p in made.backbone.parameters())


def test_maps_of_images(tiny):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (37, 50, 3), np.uint8)) for _ in range(2)]
    both = seam_batch(tiny, images, [[2, 0], []], (1., .5), full=True)
    alone, = seam_batch(tiny, images[:1], [[2]], (1., .5), full=True)
    assert both[0].keys.tolist() == [0, 2] and both[0].stride4.shape == (2, 10, 13) and both[0].full.shape == (2, 37, 50)
    assert np.abs(both[0].full[1] - alone.full[0]).max() < 1e-4 and 0 <= both[0].full.min() and both[0].full.max() <= 1
    assert both[1].stride4.shape == (0, 10, 13) and seam_batch(tiny, images, [[0], [1]])[0].full is None
    mirrored = seam_batch(tiny, [o.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for o in images], [[2, 0], []], (1., .5), full=True)
    assert np.abs(mirrored[0].full[..., ::-1] - both[0].full).max() < 1e-3, 'with its mirror image, an image is seen both ways'
    assert seam_batch(tiny, images, [[0], [1]], long_side=25)[0].size == (37, 50)


def test_a_class_without_any_activation_has_an_empty_map(): assert stretched(torch.zeros(2, 3, 4)).clamp(min=0).max() == 0


def test_a_checkpoint_of_the_released_code_is_read(tmp_path):
    "Its names, with an output for the background before those of the classes; anything else is refused by name."
    def narrow():
        parts = OrderedDict(conv1a=nn.Conv2d(3, 8, 3, 4, 1), b5=WideBlock(8, 8, 12, dilation=2), b6=WideBottleneck(12, 16, 4, .3))
        return SeamNet(CamNet(WideResNet(parts), 16, CLASSES[:2], [['conv1a'], ['b5'], ['b6'], ['b6']], {}), SeamConfig())
    net, other = narrow(), narrow()
    state = {f'module.{name.removeprefix("backbone.")}': value for name, value in net.state_dict().items() if not name.startswith('classifier')}
    state['module.fc8.weight'] = torch.cat([torch.randn(1, 16, 1, 1), net.classifier.weight.detach()])
    torch.save(state, tmp_path/'seam.pth')
    load_seam(other, tmp_path/'seam.pth')
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))
    torch.save({name: value for name, value in state.items() if 'f9' not in name}, tmp_path/'other.pth')
    with pytest.raises(DataError, match=r'other.pth: 1 tensors of the network are missing \(f9.weight'): load_seam(other, tmp_path/'other.pth')


def test_the_released_training_leaves_norms_alone(tiny):
    net, how = SeamNet(tiny, SeamConfig()), SeamTrain()
    body, head = how.groups(net)
    assert (body['lr'], head['lr'], how.momentum, how.batch_size) == (.01, .1, 5e-4, 8) and len(head['params']) == 4
    assert all(p.ndim == 4 for p in body['params']) and how.total_steps(10582) == 10582


@pytest.mark.slow
def test_pcm_takes_little_memory(root, warm):
    "At scale 2 of 375 x 500 pixels, of a whole process: 42 MB were measured, where the matrix alone would be 552 MB."
    code = ('import resource, torch; from wood_nb.maps.spread import spread\n'
            'def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024\n'
            'features, maps = torch.randn(1, 192, 94, 125), torch.rand(1, 21, 94, 125)\n'
            'with torch.inference_mode():\n'
            '    spread(features[..., :9, :9], maps[..., :9, :9]); before = peak(); spread(features, maps); print(peak() - before)')
    made = subprocess.run([*warm.python, '-c', code], cwd=root, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert made.returncode == 0, made.stderr
    assert float(made.stdout) < 200
