"""The network of the golden files: a fixture for the tests that compare ours with the reference's own outputs."""
import math
import zlib
from pathlib import Path

import numpy as np
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


# --- golden values in tests/golden: made from names, so that they need no folder beside the checkout ---------------------

QUIET = ('increase.bn.weight', 'bn_branch2b1.weight', 'bn_branch2b2.weight')  # norms in residual branches


def fill_state(shapes: dict) -> dict:
    "Tensors for names and shapes, as tests/golden/README.md says."
    return {name: torch.full(tuple(shape), 0.2) if name.endswith(QUIET) else fill(name, tuple(shape)) for name, shape in shapes.items()}


def named_image(name: str, height: int, width: int) -> np.ndarray:
    "The image of this name, uint8 `[H, W, 3]`."
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    coarse = torch.randint(0, 256, (-(-height // 8), -(-width // 8), 3), generator=g)
    return coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)[:height, :width].to(torch.uint8).numpy()


def stored(name: str) -> dict:
    "The arrays of a file in tests/golden."
    with np.load(Path(__file__).parent/'golden'/f'{name}.npz', allow_pickle=False) as file: return dict(file)


def far(a, b) -> float:
    "The largest difference, over the largest value of `b`."
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, f'{a.shape} and {b.shape}'
    return float(np.abs(a - b).max()/np.abs(b).max())
