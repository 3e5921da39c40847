"""The segmentation networks: sizes, shapes, weights in and out, learning; and WideResNet-38."""
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wood_nb.base.files import DataError
from wood_nb.data.images import VOC_CLASSES
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.nets.weights import save_weights
from wood_nb.nets.deeplab import (AtrousSum, build_segnet, _caffe_name, CaffeColours, dilate, load_segnet, NETWORKS,
                                  open_segnet, seg_names, _strongest_of)
from wood_nb.nets.wideresnet import WideBlock, WideBottleneck, wideresnet38

CLASSES = ('boat', 'train')


pytestmark = pytest.mark.usefixtures('one_thread')


def on_meta(name, side=321, classes=VOC_CLASSES, **options):
    with torch.device('meta'):
        net = build_segnet(name, classes, **options).eval()
        return net, net(torch.empty(2, 3, side, side))


def weights(net): return sum(o.numel() for o in net.parameters())


# --- sizes and shapes ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', NETWORKS)
def test_logits_have_background_and_the_published_size(name):
    _, out = on_meta(name)
    side = 21 if name == 'deeplab_mobilenet' else 41
    assert out.logits.shape == (2, 21, side, side) and all(o.shape[1] == 21 for _, o in out.parts)


def test_deeplab2_has_resnet101_and_four_convolutions():
    net, _ = on_meta('deeplab2_resnet101')
    assert weights(net) == 44_549_160 - 2_049_000 + 4*(2048*21*9 + 21) == 44_048_532
    assert [o.dilation[0] for o in net.classifier.children()] == [6, 12, 18, 24]
    assert {o.dilation for n, o in net.backbone.layer4.named_modules() if n.endswith('conv2')} == {(4, 4)}
    strides = [n for n, o in net.backbone.named_modules() if isinstance(o, nn.Conv2d) and o.stride == (2, 2)]
    assert strides == ['conv1', 'layer2.0.conv2', 'layer2.0.downsample.0']


@pytest.mark.parametrize('name,count', [('deeplab3_resnet101', 60_996_202), ('deeplab3_resnet50', 42_004_074)])
def test_deeplab3_is_torchvisions(name, count):
    net, out = on_meta(name)
    assert weights(net) == count and [w for w, _ in out.parts] == [1.0, 0.5]


def test_wideresnet38_has_38_layers_and_the_published_maps():
    with torch.device('meta'): net = wideresnet38()
    long_way = [n for n, o in net.named_modules() if isinstance(o, nn.Conv2d) and 'branch1' not in n]
    assert len(long_way) == 37 and weights(net) == 105_070_912
    assert net(torch.empty(1, 3, 448, 448, device='meta')).shape == (1, 4096, 56, 56)
    assert [o.dilation[0] for n, o in net.named_modules() if n in ('b4.conv_branch2a', 'b5.conv_branch2a', 'b5_1.conv_branch2a', 'b6.conv_branch2b1', 'b7.conv_branch2b1')] == [1, 1, 2, 4, 4]


def test_wideresnet38_is_a_backbone_with_a_map():
    with torch.device('meta'):
        net = build_net('wideresnet38', CLASSES)
        out = net(torch.empty(1, 3, 64, 64))
    assert out.z.shape == (1, 4096) and net.class_maps(out.features).shape == (1, 2, 8, 8) and len(net.stages) == 4
    with pytest.raises(DataError, match='offers 8'): build_net('wideresnet38', stride=16)
    with torch.device('meta'), pytest.raises(DataError, match='converted file'): build_net('wideresnet38', weights='imagenet')


def test_wide_blocks_pass_the_sum_on():
    for block in (WideBlock(4, 4, 4), WideBottleneck(8, 8, 4, 0.5)):
        block.eval()
        last = block.conv_branch2b1 if isinstance(block, WideBlock) else block.conv_branch2b2
        nn.init.zeros_(last.weight)
        x = torch.randn(1, last.out_channels, 5, 5)
        shortcut = x if isinstance(block, WideBlock) else block.conv_branch1(F.relu(block.bn_branch2a(x)))
        assert torch.equal(block(x), shortcut)


def test_dilation_keeps_the_weights_and_the_map():
    stage = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1, 2))
    before = [o.clone() for o in stage.parameters()]
    dilate(stage, 2)
    assert stage(torch.zeros(1, 3, 12, 16)).shape == (1, 4, 12, 16) and all(map(torch.equal, before, stage.parameters()))


def test_the_head_sums_its_branches():
    head, x = AtrousSum(8, 3, (1, 2)), torch.randn(1, 8, 6, 6)
    assert torch.allclose(head(x), head.c0(x) + head.c1(x))


def test_the_pyramid_keeps_the_strongest():
    net = build_segnet('deeplab_tiny', CLASSES, pyramid=(0.5, 0.75)).eval()
    plain = build_segnet('deeplab_tiny', CLASSES).eval()
    plain.load_state_dict(net.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad(): out, alone = net(images), plain(images)
    assert len(out.parts) == 4 and torch.equal(out.parts[0][1], alone.logits) and (out.logits >= alone.logits).all()
    assert torch.equal(out.logits, _strongest_of([o for _, o in out.parts[:3]])) and [o.shape[-1] for _, o in out.parts] == [8, 4, 6, 8]


@pytest.mark.parametrize('options,said', [({'network': 'unet'}, 'choose from deeplab2_resnet101'), ({'pyramid': (0.5, 1)}, 'between 0 and 1'),
                                          ({'network': 'deeplab_tiny', 'weights': 'none.pth'}, 'no such weights'),
                                          ({'network': 'deeplab_tiny', 'weights': 'imagenet'}, 'no ImageNet weights')])
def test_what_cannot_be_built(options, said):
    with pytest.raises(DataError, match=said): build_segnet(**options)


# --- weights in and out -------------------------------------------------------------------------------------------------

def test_a_saved_network_comes_back(tmp):
    net = build_segnet('deeplab_mobilenet', CLASSES, pyramid=(0.5,)).eval()
    save_weights(net, 'net.safetensors')
    again = open_segnet('net.safetensors', CLASSES)
    assert again.arch == net.arch and again.pyramid == (0.5,) and not again.training
    with torch.no_grad(): assert torch.equal(again(torch.ones(1, 3, 64, 64)).logits, net(torch.ones(1, 3, 64, 64)).logits)


def test_a_checkpoint_of_other_classes_is_refused(tmp):
    save_weights(build_segnet('deeplab_tiny', CLASSES), 'net.safetensors')
    with pytest.raises(DataError, match='trained for 2 classes .*these are 3'): open_segnet('net.safetensors', (*CLASSES, 'dog'))
    with pytest.raises(DataError, match='number of classes'): build_segnet('deeplab_tiny', ('dog',), 'net.safetensors')


def test_classifiers_and_segmentation_networks_are_not_mistaken(tmp):
    save_weights(build_segnet('deeplab_tiny', CLASSES), 'seg.safetensors')
    save_weights(build_net('tiny', CLASSES), 'cam.safetensors')
    with pytest.raises(DataError, match='use open_segnet'): open_net('seg.safetensors')
    with pytest.raises(DataError, match='no segmentation network'): open_segnet('cam.safetensors')
    with pytest.raises(DataError, match='not readable'): open_segnet('nothing.safetensors')


def test_a_classifier_gives_its_backbone(tmp):
    cam = build_net('tiny', CLASSES)
    save_weights(cam, 'cam.safetensors')
    net = build_segnet('deeplab_tiny', ('a', 'b', 'c'))
    new = load_segnet(net, 'cam.safetensors')
    assert all(map(torch.equal, cam.backbone.state_dict().values(), net.backbone.state_dict().values()))
    assert sorted(new) == sorted(n for n in net.state_dict() if n.startswith('classifier.'))


def test_a_head_that_is_half_there_is_refused(tmp):
    import json

    import safetensors.torch
    net = build_segnet('deeplab_tiny', CLASSES)
    state = {n: t for n, t in net.state_dict().items() if n != 'classifier.c2.bias'}
    safetensors.torch.save_file(state, 'net.safetensors', {'format': 'wood_nb.weights', 'arch': json.dumps(net.arch)})
    with pytest.raises(DataError, match='1 tensors are missing .classifier.c2.bias'): open_segnet('net.safetensors')


def caffe_names(net):
    "The names under which deeplab-pytorch keeps the tensors of our Caffe network."
    found = {}
    for name, tensor in net.state_dict().items():
        if name.endswith('num_batches_tracked'): continue
        kind, rest = name.split('.', 1)
        if kind == 'classifier': found[f'base.aspp.{rest}'] = tensor
        elif rest.startswith(('conv1', 'bn1')): found[f'base.layer1.conv1.{rest.replace("1", "", 1)}'] = tensor
        else:
            layer, block, part = rest.split('.', 2)
            for ours, theirs in (('conv1', 'reduce.conv'), ('bn1', 'reduce.bn'), ('conv2', 'conv3x3.conv'), ('bn2', 'conv3x3.bn'), ('conv3', 'increase.conv'),
                                 ('bn3', 'increase.bn'), ('downsample.0', 'shortcut.conv'), ('downsample.1', 'shortcut.bn')):
                if part.startswith(ours + '.'): part = theirs + part[len(ours):]; break
            found[f'base.layer{int(layer[5:]) + 1}.block{int(block) + 1}.{part}'] = tensor
    return found


def test_every_tensor_of_deeplab_pytorch_finds_its_place():
    with torch.device('meta'): net = build_segnet('deeplab2_resnet101_caffe')
    theirs = caffe_names(net)
    ours = seg_names(theirs, net)
    assert ours.keys() == {n for n in net.state_dict() if not n.endswith('num_batches_tracked')}
    assert all(ours[n] is t for n, t in zip(ours, theirs.values())) and all(ours[n].shape == net.state_dict()[n].shape for n in ours)
    assert _caffe_name('fc.weight') is None and _caffe_name('scale.layer2.block1.proj.bn.bias') == 'backbone.layer1.0.downsample.1.bias'


def test_caffe_strides_and_colours():
    with torch.device('meta'): net = build_segnet('deeplab2_resnet101_caffe')
    first = net.backbone.layer2[0]
    assert first.conv1.stride == (2, 2) and first.conv2.stride == (1, 1) and net.backbone.maxpool.ceil_mode
    from wood_nb.data.augment import normalise
    import numpy as np
    pixels = np.array([[[10, 20, 250]]], np.uint8)
    assert torch.allclose(CaffeColours()(normalise(pixels)[None])[0, :, 0, 0], torch.tensor([250, 20, 10]) - torch.tensor([104.008, 116.669, 122.675]), atol=1e-3)


def test_psa_files_load_by_name(tmp):
    with torch.device('meta'): net = build_segnet('deeplab1_wideresnet38', CLASSES)
    theirs = {n.removeprefix('backbone.'): t for n, t in net.state_dict().items() if n.startswith('backbone.')}
    assert seg_names({**theirs, 'fc8.weight': torch.empty(20, 4096, 1, 1)}, net).keys() == {f'backbone.{n}' for n in theirs}


# --- learning -----------------------------------------------------------------------------------------------------------

def losses_of(name, side, lr, steps):
    torch.manual_seed(0)
    net = build_segnet(name, CLASSES).train()
    images, masks = torch.randn(2, 3, side, side), torch.zeros(2, side, side, dtype=torch.long)
    masks[:, side//4:side//2, side//4:], images[:, :, side//4:side//2, side//4:] = 1, 2.0
    optimizer, losses = torch.optim.SGD(net.parameters(), lr, momentum=0.9), []
    for _ in range(steps):
        parts = net(images).parts
        loss = sum(w*F.cross_entropy(o, F.interpolate(masks[:, None].float(), o.shape[-2:], mode='nearest-exact').long()[:, 0]) for w, o in parts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize('name,side,lr', [('deeplab_tiny', 64, 0.02), pytest.param('deeplab_mobilenet', 64, 0.01, marks=pytest.mark.slow),
                                          pytest.param('deeplab2_resnet101', 65, 0.001, marks=pytest.mark.slow),
                                          pytest.param('deeplab1_wideresnet38', 33, 0.001, marks=pytest.mark.slow)])
def test_the_loss_falls_on_two_images(name, side, lr):
    losses = losses_of(name, side, lr, 10 if 'tiny' in name or 'mobilenet' in name else 6)
    assert sum(losses[-3:])/3 < 0.8*losses[0], losses


def test_deeplab3_learns_from_one_image_alone():
    torch.manual_seed(0)
    net = build_segnet('deeplab3_resnet50', ('a',), None).train()
    net(torch.randn(1, 3, 33, 33)).logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.classifier.parameters())
    norm = net.classifier[0].convs[-1][2]
    before = norm.running_mean.clone()
    net(torch.randn(2, 3, 33, 33))
    assert not torch.equal(norm.running_mean, before), 'two images have statistics'
