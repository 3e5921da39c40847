"""The reference implementation's own outputs (../shared/golden, beside a development checkout): ours agree with them."""
import numpy as np
import pytest
import torch
from golden_net import filled  # noqa: F401 (a fixture)
from PIL import Image

from wood_nb.train.batches import Batch
from wood_nb.data.augment import normalise
from wood_nb.maps.cam import cam, cam_batch
from wood_nb.ood.wood import distance_loss, distances, harden, nearest_clusters, perturb, WOoDConfig, WOoDLoss

CLOSE = 1e-4  # of the largest value


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def net(filled): return filled()


@pytest.fixture
def case(golden, request):
    with np.load(golden/f'{request.param}.npz', allow_pickle=False) as file: return dict(file)


def off(found, wanted) -> float:
    "Largest difference relative to the largest value."
    found, wanted = (np.asarray(o.detach() if torch.is_tensor(o) else o, np.float64) for o in (found, wanted))
    assert found.shape == wanted.shape, f'{found.shape} instead of {wanted.shape}'
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def tensors(case, *names): return [torch.from_numpy(case[n]) for n in names]


@pytest.mark.parametrize('case', ['classifier'], indirect=True)
def test_classifier(net, case):
    with torch.no_grad(): out = net(normalise(Image.fromarray(case['image']))[None])
    assert off(out.logits, case['logits']) < CLOSE and off(out.z, case['feature']) < CLOSE


@pytest.mark.parametrize('case', ['cam'], indirect=True)
def test_cam(net, case):
    image, keys = Image.fromarray(case['image']), np.flatnonzero(case['label'])
    found = cam(net, image, keys)
    assert found.keys.tolist() == case['keys'].tolist() and found.size == case['image'].shape[:2]
    assert off(found.stride4, case['cam_stride4']) < CLOSE and off(found.full, case['cam_full']) < CLOSE
    both = cam_batch(net, [image, image], [keys, keys[::-1]])
    assert all(off(o.stride4, case['cam_stride4']) < CLOSE for o in both)


@pytest.mark.parametrize('case', ['distance_loss'], indirect=True)
def test_distance_loss(case):
    features, labels, prototypes, centres = tensors(case, 'features', 'labels', 'class_prototypes', 'ood_centroids')
    features.requires_grad_()
    to_classes, to_ood = distances(features, prototypes), distances(features, centres)
    chosen = nearest_clusters(to_ood.detach(), float(case['ood_dist_topk']), 'batch')
    assert off(to_ood[~chosen].min(), case['threshold']) < CLOSE and chosen.sum() == 160
    loss = distance_loss(to_classes, to_ood, labels, chosen, 'mean')
    loss.backward()
    assert off(loss, case['loss']) < CLOSE and off(features.grad, case['grad_features']) < CLOSE


@pytest.mark.parametrize('case', ['distance_loss'], indirect=True)
def test_distance_loss_of_the_object(case):
    features, labels, prototypes, centres = tensors(case, 'features', 'labels', 'class_prototypes', 'ood_centroids')
    loss = WOoDLoss(prototypes, torch.ones(20), centres, WOoDConfig.official(tau=float(case['ood_dist_topk'])))
    features.requires_grad_()
    found = loss.distance(features, labels)
    found.backward()
    assert off(found, case['loss']) < CLOSE and off(features.grad, case['grad_features']) < CLOSE


@pytest.mark.parametrize('case', ['perturb'], indirect=True)
def test_perturb(case):
    image, grad = tensors(case, 'image', 'grad')
    assert off(perturb(image, grad, float(case['epsilon'])), case['out']) < CLOSE


@pytest.mark.parametrize('case', ['wood_step'], indirect=True)
def test_wood_step(filled, case):
    images, labels, ood, prototypes, centres = tensors(case, 'images', 'labels', 'ood_images', 'class_prototypes', 'ood_centroids')
    config, net = WOoDConfig.official(), filled()
    for option, name in [('distance_weight', 'distance_lambda'), ('ood_weight', 'ood_coeff'), ('perturb', 'epsilon'),
                         ('tau', 'ood_dist_topk'), ('ignored_class', 'ignored_class')]:
        assert getattr(config, option) == case[name], f'WOoDConfig.official has another {option}'
    net.train()
    loss = WOoDLoss(prototypes, torch.ones(20), centres, config)
    terms = loss(net, Batch(images, labels, ood))
    terms['loss'].backward()
    for term, name in [('cls', 'bce'), ('distance', 'distance_loss'), ('ood', 'ood_loss'), ('loss', 'total')]:
        assert off(terms[term], case[name]) < CLOSE, term
    assert off(net.classifier.weight.grad[:, :, 0, 0], case['grad_classifier']) < CLOSE
    for stage in (3, 4):
        of_stage = [p.grad.square().sum() for n, p in net.named_parameters() if n.startswith(f'backbone.layer{stage}.')]
        assert off(sum(of_stage).sqrt(), case[f'grad_norm_layer{stage}']) < CLOSE


@pytest.mark.parametrize('case', ['wood_step'], indirect=True)
def test_wood_step_perturbs_the_images_alike(filled, case):
    "In float64: in float32 a single unit that rounds to the other side of zero moves the gradient by more than the closeness."
    net = filled(torch.float64)
    found = harden(net, torch.from_numpy(case['ood_images']).double(), float(case['epsilon']))
    assert off(found, case['perturbed']) < CLOSE
    with torch.no_grad(): logits = net(found).logits
    assert logits.argmax(1).tolist() == case['argmax_after_perturbation'].tolist()
