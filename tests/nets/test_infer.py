"A network made to be asked: the same function, the same names, less to compute, and the one that is trained is left alone."
import copy

import numpy as np
import pytest
import torch
from torch import nn

from wood_nb.masks.irn import IRNet
from wood_nb.nets import infer as room
from wood_nb.nets.backbones import build_net
from wood_nb.nets.deeplab import build_segnet
from wood_nb.nets.infer import infer


def lived(net):
    "With statistics as of a training, so that a norm that is lost would be missed."
    torch.manual_seed(0)
    for name, buffer in net.named_buffers():
        if name.endswith('running_var'): buffer.uniform_(0.5, 2)
        if name.endswith('running_mean'): buffer.normal_(0, 0.2)
    return net


def norms(net): return sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())
def numbers(out): return torch.cat([part.flatten() for part in (out if isinstance(out, tuple) else (out,)) if isinstance(part, torch.Tensor)])


@pytest.mark.parametrize('make, left', [
    (lambda: build_net('tiny', ('a', 'b')), 0), (lambda: build_net('mobilenet_v2', ('a', 'b'), 8), 0), (lambda: build_net('resnet18', ('a',)), 0),
    (lambda: build_segnet('deeplab_tiny', ('a', 'b')), 0), (lambda: IRNet(build_net('resnet18', ('a',)), crop=64), 0)])
def test_the_same_function_without_its_norms(make, left):
    net, images = lived(make()), torch.randn(2, 3, 64, 96)
    net.train()
    modes = [part.training for part in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    quick = infer(net)
    assert type(quick) is type(net) and norms(net) > norms(quick) == left and not any(part.training for part in quick.modules())
    assert modes == [part.training for part in net.modules()] and all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [name for name, _ in quick.named_modules()] == [name for name, _ in net.named_modules()], 'stages are found by their names'
    assert any(parameter.requires_grad for parameter in net.parameters()) and not any(parameter.requires_grad for parameter in quick.parameters())
    with torch.inference_mode(): found, wanted = numbers(quick(images)), numbers(net.eval()(images))
    assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max()))
    assert infer(quick) is quick, 'twice is as good as once'
    assert infer(copy.deepcopy(quick).train()).training is False


class Twice(nn.Module):
    "What a convolution returns goes to its norm and to the end; another convolution is used twice; a third has a norm without statistics."

    def __init__(self):
        super().__init__()
        self.conv, self.again, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norm, self.first, self.bare = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x):
        x = self.conv(x)
        return self.bare(self.third(self.first(self.again(x + self.norm(x))) + self.again(x)))


def test_a_norm_stays_where_it_cannot_go():
    net, images = lived(Twice()).eval(), torch.randn(2, 3, 16, 16)
    quick = infer(net)
    assert norms(quick) == 3
    with torch.inference_mode(): assert torch.allclose(quick(images), net(images), atol=1e-5)


def test_parts_of_what_cannot_be_traced_are_folded():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = build_net('tiny', ('a',)).backbone

        def forward(self, x): return self.inside(x if x.sum() > 1e9 else 2 * x)
    net, images = lived(Odd()).eval(), torch.randn(1, 3, 32, 32)
    quick = infer(net)
    assert norms(quick) == 0
    with torch.inference_mode(): assert torch.allclose(quick(images), net(images), atol=1e-4)


def test_on_the_gpu_if_there_is_one(monkeypatch):
    "The copy goes there; the network stays."
    net = build_net('tiny', ('a',))
    monkeypatch.setattr(room, 'best_device', lambda: torch.device('meta'))
    assert next(infer(net).parameters()).device.type == 'meta' and next(net.parameters()).device.type == 'cpu'


def test_a_batch_filled_up_for_a_gpu_changes_no_answer(tmp_path, monkeypatch):
    "Predictions, features and maps with batches filled up and scaled by threads, as on a GPU; five pictures of one size, three of another."
    from PIL import Image

    from wood_nb.data.splits import Item, Split
    from wood_nb.maps import cam as cams
    from wood_nb.maps import ficklenet, seam
    from wood_nb.maps.config import FickleConfig, SeamConfig
    from wood_nb.ood import cache
    from wood_nb.train import predict
    rng = np.random.default_rng(0)
    for n in range(8): Image.fromarray(rng.integers(0, 255, (64, 96 if n < 5 else 64, 3), np.uint8)).save(tmp_path/f'{n}.png')
    split = Split('some', [Item(str(n), tmp_path/f'{n}.png', (n % 2,)) for n in range(8)], ('a', 'b'))
    net = build_net('tiny', ('a', 'b')).eval()
    fickle, other = ficklenet.fickle_training(net, FickleConfig(window=3))[0].eval(), seam.seam_training(net, SeamConfig())[0].eval()
    images, labels = [split.image(n) for n in range(5)], [split[n].labels for n in range(5)]

    def everything(folder):
        said = predict.predict_all(net, split, title=None)
        features = cache.cache_features(net, split, tmp_path/folder, places=None, title=None, wanted=lambda plain: torch.arange(len(plain)) % 2 == 0)
        maps = [*cams.cam_batch(net, images, labels), *seam.seam_batch(other, images, labels), *ficklenet.fickle_batch(fickle, images, labels, list('abcde'))]
        return [said.p, said.z, features.pooled().numpy(), *(each.stride4 for each in maps)]
    plain, seen = everything('plain'), []
    for module in (predict, cache, cams):
        monkeypatch.setattr(module, 'filled', lambda images: seen.append(len(images)) or room.filled(images, always=True))
    monkeypatch.setattr(cams, 'readers', lambda device: 3)
    again = everything('filled')
    assert 5 in seen and len(room.filled(torch.zeros(5, 3, 4, 4), always=True)) == 8 and len(room.filled(torch.zeros(5, 3, 4, 4))) == 5
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(plain, again, strict=True))
