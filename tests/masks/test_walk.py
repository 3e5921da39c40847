"""Affinities and the walk: against plain loops, against the dense matrix, and against the reference's own output."""
import numpy as np
import pytest
import torch

from wood_nb.base.files import DataError
from wood_nb.base.pictures import outline
from wood_nb.masks.walk import (boundary_affinity, feature_affinity, half_disc, path, power_weights,
                                propagate, slid, Transition, transition, walk)


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def generator(): return torch.Generator().manual_seed(0)


def dense(affinity, radius, beta):
    "The matrix of the walk by two loops over pixels."
    height, width = affinity.shape[-2:]
    matrix = np.eye(height * width)
    for n, (down, right) in enumerate(half_disc(radius)):
        for y in range(height):
            for x in range(width):
                if y + down < height and 0 <= x + right < width:
                    i, j = y * width + x, (y + down) * width + x + right
                    matrix[i, j] = matrix[j, i] = float(affinity[n, y, x]) ** beta
    return matrix / matrix.sum(0)


def test_half_disc_and_paths():
    assert len(half_disc(5)) == 34 and len(half_disc(10)) == 152
    assert len(set(half_disc(10)) | {(-y, -x) for y, x in half_disc(10)}) == 304
    assert path((1, 1)) == ((0, 0), (0, 1), (1, 0), (1, 1)) and set(path((-2, 0))) == {(0, 0), (-1, 0), (-2, 0)}
    for offset in half_disc(6):
        assert (0, 0) in path(offset) and offset in path(offset)
        for y, x in path(offset): assert abs(offset[0]*x - offset[1]*y) / np.hypot(*offset) < 1


@pytest.mark.parametrize('radius', [-1, 0, 1])
def test_a_radius_too_small_is_refused(radius):
    with pytest.raises(DataError, match='radius'): half_disc(radius)


def test_boundary_affinity_by_loops(generator):
    edge = torch.rand(2, 8, 9, generator=generator)
    inner, whole = boundary_affinity(edge, 4, border=False), boundary_affinity(edge, 4)
    assert inner.shape == (2, len(half_disc(4)), 5, 3) and whole.shape == (2, len(half_disc(4)), 8, 9)
    for n, offset in enumerate(half_disc(4)):
        assert torch.equal(whole[:, n, :5, 3:6], inner[:, n])
        for y in range(8):
            for x in range(9):
                cells = [(y + dy, x + dx) for dy, dx in path(offset)]
                inside = all(0 <= a < 8 and 0 <= b < 9 for a, b in cells)
                wanted = 1 - max(float(edge[1, a, b]) for a, b in cells) if inside else 0
                assert abs(float(whole[1, n, y, x]) - wanted) < 1e-6


def test_the_gradient_is_that_of_the_maximum(generator):
    edge = torch.rand(1, 7, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: boundary_affinity(e, 3, border=False), edge, eps=1e-7)
    assert torch.autograd.gradcheck(lambda e: boundary_affinity(e, 3), edge, eps=1e-7)


def test_feature_affinity_by_hand(generator):
    features = torch.randn(1, 5, 6, 8, generator=generator)
    found, inner = feature_affinity(features, 3), feature_affinity(features, 3, border=False)
    for n, (down, right) in enumerate(half_disc(3)):
        assert torch.allclose(slid(found[:, n], (0, 0), 3), inner[:, n], atol=1e-6)
        for y in range(6):
            for x in range(8):
                inside = y + down < 6 and 0 <= x + right < 8
                wanted = torch.exp(-(features[0, :, y, x] - features[0, :, y + down, x + right]).abs().mean()) if inside else 0
                assert abs(float(found[0, n, y, x]) - float(wanted)) < 1e-6


@pytest.mark.parametrize('size', [(1, 1), (1, 6), (5, 1), (3, 3), (7, 12)])
@pytest.mark.parametrize('normalise', ['columns', 'rows'])
def test_a_step_is_the_dense_product(generator, size, normalise):
    edge, maps = torch.rand(2, *size, generator=generator).double(), torch.rand(2, 3, *size, generator=generator).double()
    affinity = boundary_affinity(edge, 5)
    step = transition(affinity, 5, 7.0, normalise)
    for b in range(2):
        matrix = torch.from_numpy(dense(affinity[b], 5, 7.0))
        matrix = matrix if normalise == 'columns' else matrix.T
        many = torch.linalg.matrix_power(matrix, 50)
        assert torch.allclose(step(maps.flatten(2))[b], maps[b].flatten(1) @ matrix, atol=1e-13)
        assert torch.allclose(walk(step, maps, 50, 0)[b].flatten(1), maps[b].flatten(1) @ many, atol=1e-12)
        assert torch.allclose(walk(step, maps, 50)[b].flatten(1), maps[b].flatten(1) @ many, atol=1e-6)


def test_normalise_is_checked():
    with pytest.raises(DataError, match='columns'): transition(torch.ones(1, 34, 6, 6), 5, normalise='both')


@pytest.mark.parametrize('steps', [0, 1, 2, 7, 256, 1024])
def test_the_polynomial_is_the_power(steps):
    x, weights = np.linspace(-1, 1, 2001), power_weights(steps)
    assert abs(np.polynomial.chebyshev.chebval(x, weights) - x**steps).max() < 1e-6
    assert len(weights) <= max(steps + 1, 6*np.sqrt(steps + 1) + 2) and min(weights) >= 0


def test_the_walk_is_sparse_not_dense():
    "256 steps over a grid whose dense matrix would take 400 GB."
    step = transition(boundary_affinity(torch.zeros(1, 500, 640), 3), 3)
    assert step.weights.numel() < 30 * 500 * 640
    out = walk(step, torch.ones(1, 1, 500, 640), 4)
    assert torch.allclose(out, torch.ones_like(out), atol=1e-5)


def test_batches_do_not_mix(generator):
    edge, maps = torch.rand(3, 9, 10, generator=generator), torch.rand(3, 2, 9, 10, generator=generator)
    maps[1] = 0
    together = propagate(maps, edge)
    assert together[1].abs().max() == 0
    for b in range(3): assert torch.allclose(together[b], propagate(maps[b:b+1], edge[b:b+1])[0], atol=1e-6)


def test_no_class_at_all():
    assert propagate(torch.zeros(1, 0, 6, 7), torch.rand(1, 6, 7)).shape == (1, 0, 6, 7)


def test_maps_and_boundary_must_fit():
    with pytest.raises(DataError, match='one grid'): propagate(torch.ones(1, 2, 6, 7), torch.ones(1, 7, 6))


def test_walls_hold(generator):
    edge, maps = torch.zeros(1, 12, 20), torch.zeros(1, 1, 12, 20)
    edge[0, :, 9], maps[0, 0, 5, 3] = 1, 1
    out = propagate(maps, edge)[0, 0]
    assert out[:, 10:].abs().max() < 1e-6 < out[:, :9].min()


def test_outline():
    mask = np.zeros((5, 6), np.uint8)
    mask[1:3, 2:4] = 255
    assert outline(mask)[1].tolist() == [0, 1, 0, 1, 0, 0] and outline(mask)[4].sum() == 0
    wide = outline(mask, 2)
    assert wide[1].tolist() == [1, 1, 1, 1, 1, 0] and (wide >= outline(mask)).all() and wide[4].sum() == 0


@pytest.mark.parametrize('dtype, close', [(torch.float64, 2e-4), (torch.float32, 1e-3)])
def test_golden_random_walk(golden, dtype, close):
    with np.load(golden/'random_walk.npz', allow_pickle=False) as file: case = dict(file)
    maps, edge = (torch.from_numpy(case[name]).to(dtype)[None] for name in ('cam', 'edge'))
    found = propagate(maps, edge, int(case['radius']), float(case['beta']), 2 ** int(case['exp_times']))[0].numpy()
    assert abs(found - case['out']).max() < close * abs(case['out']).max()


@pytest.mark.gpu
def test_gpu_agrees(generator):
    edge, maps = torch.rand(2, 40, 50, generator=generator), torch.rand(2, 3, 40, 50, generator=generator)
    assert torch.allclose(propagate(maps.cuda(), edge.cuda()).cpu(), propagate(maps, edge), atol=1e-5)


def test_a_transition_needs_no_gradient():
    step = transition(boundary_affinity(torch.rand(1, 6, 6, requires_grad=True), 3), 3)
    assert isinstance(step, Transition) and not walk(step, torch.ones(1, 1, 6, 6)).requires_grad
