"""Networks of timm by name, offline and with random weights: one convolutional, transformers with registers and without."""
from importlib.util import find_spec

import pytest
import safetensors.torch
import torch
from torch import nn

from wood_nb.base.files import DataError
from wood_nb.masks.irn import IRNet
from wood_nb.nets import backbones, timm_nets
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.nets.camnet import freeze_stages
from wood_nb.nets.infer import infer
from wood_nb.nets.weights import save_weights

pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.skipif(not find_spec('timm'), reason='timm is not installed')]
CNN, PLAIN, REGISTERS = 'timm:test_resnet', 'timm:test_vit', 'timm:test_vit2'
ALL = (CNN, PLAIN, REGISTERS, 'timm:test_vit3', 'timm:test_efficientnet', 'timm:test_convnext')


@pytest.mark.parametrize('name', ALL)
def test_a_feature_at_each_place_of_any_picture(name):
    "Shapes at odd sizes, and gradients that reach every weight; nothing is left over that never learns."
    net = build_net(name, ('a', 'b'), 16)
    for height, width in ((64, 96), (33, 71)):
        out = net.eval()(torch.randn(2, 3, height, width))
        assert out.features.shape == (2, net.dim, -(-height//16), -(-width//16)) and out.logits.shape == (2, 2)
        assert torch.allclose(net.class_maps(out.features).mean((2, 3)), out.logits, atol=1e-4 * float(1 + out.logits.abs().max()))
    out.logits.sum().backward()
    assert torch.allclose(net.classifier.weight.grad[0, :, 0, 0], out.z.sum(0), rtol=1e-3, atol=1e-5)
    assert all(p.grad is not None for p in net.parameters())
    assert net.arch == {'backbone': name, 'stride': 16, 'classes': ['a', 'b']}


@pytest.mark.parametrize('name', [PLAIN, REGISTERS])
def test_places_of_a_transformer_are_where_the_patches_are(name):
    "A change in one patch moves the feature there most; prefix tokens are dropped. At another stride the picture is scaled."
    net, images = build_net(name, ('a',)).eval(), torch.zeros(1, 3, 64, 96)
    assert net.arch['stride'] == 16
    changed = images.clone()
    changed[:, :, 16:32, 64:80] = 2
    with torch.no_grad():
        moved = (net(changed).features - net(images).features).norm(dim=1)[0]
        assert moved.flatten().argmax() == 1 * 6 + 4 and moved.shape == (4, 6)
        assert build_net(name, ('a',), 8).eval()(images).features.shape[2:] == (8, 12)
        assert build_net(name, ('a',), 20).eval()(images).features.shape[2:] == (4, 5)


@pytest.mark.parametrize('name', [PLAIN, REGISTERS])
def test_mirrored_features(name):
    "With a patch embedding, positions and pictures that are their own mirror images, features are those of the mirrored picture."
    net = build_net(name, ('a',)).eval()
    model, weight = net.backbone.model, net.backbone.model.patch_embed.proj.weight
    with torch.no_grad():
        weight.copy_((weight + weight.flip(-1)) / 2)
        prefix = model.pos_embed.shape[1] - model.patch_embed.num_patches
        grid = model.pos_embed[:, prefix:].unflatten(1, model.patch_embed.grid_size)
        model.pos_embed[:, prefix:] = ((grid + grid.flip(2)) / 2).flatten(1, 2)
        images = torch.randn(1, 3, 45, 83)
        found, mirrored = net(images).features, net(images.flip(-1)).features.flip(-1)
    assert torch.allclose(found, mirrored, atol=1e-3) and not torch.allclose(found, found.flip(-1), atol=1e-1)


@pytest.mark.parametrize('name', [CNN, PLAIN, REGISTERS])
def test_saved_opened_and_made_ready(name, tmp_path, monkeypatch):
    "As a normal file of a `CamNet`, which rebuilds its network without a download."
    import timm         # takes seconds, so that only the process that runs these tests loads it
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda *args, pretrained=False, **options: pytest.fail('a download') if pretrained else create(*args, **options))
    net = build_net(name, ('boat', 'train'), 8 if name == PLAIN else None).eval()
    save_weights(net, tmp_path/'w.safetensors')
    again, images = open_net(tmp_path/'w.safetensors'), torch.randn(1, 3, 65, 47)
    with torch.no_grad():
        assert torch.equal(again(images).features, net(images).features) and again.arch == net.arch
        quick = infer(net)
        for images in (torch.randn(1, 3, 64, 64), torch.randn(1, 3, 65, 47)):
            assert torch.allclose(quick(images).features, net(images).features, atol=1e-3), 'nothing was fixed to one size'


@pytest.mark.parametrize('name', ALL)
def test_stages_are_frozen_by_name(name):
    "All parts are in one of four stages, in their order; the last one learns longest."
    net = build_net(name, ('a',), 16)
    stages = [part for stage in net.stages for part in stage]
    assert len(net.stages) == 4 and all(net.stages) and len(stages) == len(set(stages))
    left = []
    for count in range(5):
        freeze_stages(net, count)
        left.append(sum(p.numel() for p in net.parameters() if p.requires_grad))
    assert left == sorted(set(left), reverse=True) and left[-1] == net.classifier.weight.numel()


def test_a_block_is_not_frozen_for_the_beginning_of_its_name():
    with torch.device('meta'): net = build_net('timm:vit_tiny_patch16_224', ('a',))
    freeze_stages(net, 1)
    free = {int(n.split('.')[3]) for n, p in net.named_parameters() if '.blocks.' in n and p.requires_grad}
    assert free == set(range(3, 12)), 'blocks.1 is frozen, blocks.10 and blocks.11 are not'


@pytest.mark.parametrize('name', [CNN, PLAIN, 'timm:test_efficientnet', 'timm:test_convnext'])
def test_a_file_with_timms_names(name, tmp_path):
    "Its head is left out; the file of another model is refused in one line."
    import timm
    theirs = timm.create_model(name.removeprefix('timm:'))
    nn.init.normal_(next(theirs.parameters()))
    safetensors.torch.save_file(theirs.state_dict(), tmp_path/'model.safetensors')
    net = build_net(name, ('a',), 16, tmp_path/'model.safetensors')
    own, first = net.backbone.model.state_dict(), next(iter(theirs.state_dict()))
    assert all(torch.equal(own[n], t) for n, t in theirs.state_dict().items() if n in own) and first in own
    for other in ('timm:test_vit3', 'resnet18'):
        with pytest.raises(DataError, match='model.safetensors: ') as error: build_net(other, ('a',), None, tmp_path/'model.safetensors')
        assert '\n' not in str(error.value)


@pytest.mark.parametrize('name,stride,said', [
    ('timm:no_such_net', None, "'timm:no_such_net' is not known to timm"), ('timm:vit_tiny_patch16', None, 'did you mean .*vit_tiny_patch16_'),
    ('timm:hf-hub:someone/net', None, 'is not known'), ('timm:../net', None, 'is not known'), ('timm:', None, 'is not known'),
    ('timm:test_vit.nobody', None, 'cannot be used'), ('timm:mobilenetv3_small_050', 16, 'mobilenetv3_small_050 offers 32'),
    ('timm:mixer_s32_224', None, 'cannot be used as a backbone')])
def test_what_is_refused(name, stride, said):
    with pytest.raises(DataError, match=said) as error: build_net(name, ('a',), stride)
    assert '\n' not in str(error.value)


def test_irn_wants_stages_that_follow_one_another():
    with pytest.raises(DataError, match='not timm:NAME'): IRNet(build_net(CNN, ('a',)))


def test_without_timm_or_its_server_the_remedy_is_named(monkeypatch):
    def offline(*args, **options): raise OSError('no route\nto host')
    with monkeypatch.context() as patch:
        patch.setattr(timm_nets, '_bare_model', offline)
        with pytest.raises(DataError, match=r'timm:test_vit could not be had from timm \(no route\).*--weights FILE'): timm_nets.timm_state(PLAIN)
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    with pytest.raises(DataError, match=r"pip install 'wood_nb\[weights\]'"): build_net(PLAIN)


def test_published_weights_are_timms(monkeypatch):
    "`imagenet` asks timm, and its answer is loaded by name."
    torch.manual_seed(1)
    theirs = timm_nets._bare_model('test_vit', None)
    monkeypatch.setattr(backbones, 'timm_state', lambda name: theirs.state_dict())
    net = build_net(PLAIN, ('a',), weights='imagenet')
    assert all(torch.equal(a, b) for a, b in zip(net.backbone.model.state_dict().values(), theirs.state_dict().values()))
