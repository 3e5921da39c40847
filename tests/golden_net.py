"""The network of the golden files: a fixture for the tests that compare ours with the reference's own outputs."""
import math
import zlib

import pytest
import torch

from wood_nb.data.images import VOC_CLASSES
from wood_nb.nets.backbones import build_net
from wood_nb.nets.camnet import freeze_norm
from wood_nb.nets.weights import load_state


def fill(name: str, shape) -> torch.Tensor:
    "The tensor of this name, as the README of the golden files says."
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if len(shape) == 4: return torch.randn(shape, generator=g) * math.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    if name.endswith('bn3.weight'): return torch.full(shape, 0.2)
    return torch.ones(shape) if name.endswith(('weight', 'running_var')) else torch.zeros(shape)


@pytest.fixture(scope='module')
def filled(golden):
    "A function that makes the network of the golden files."
    net = build_net('resnet50', VOC_CLASSES, stride=16)
    names = [n.removeprefix('backbone.') for n in net.state_dict() if not n.endswith('num_batches_tracked')]
    state = {n: fill(n, tuple(net.state_dict()[n if n.startswith('classifier') else f'backbone.{n}'].shape)) for n in names}

    def make(dtype=torch.float32):
        net = build_net('resnet50', VOC_CLASSES, stride=16)
        assert load_state(net, state, 'golden') == [], 'torchvision names and classifier.weight are all that is needed'
        freeze_norm(net)
        return net.to(dtype).eval()
    return make
