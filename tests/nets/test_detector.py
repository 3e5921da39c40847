"""Detectors: on backbones of the kit, answers on given boxes beside torchvision's own, saved and opened, and what is refused."""
import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn, retinanet_resnet50_fpn

from wood_nb.base.files import DataError
from wood_nb.nets.backbones import build_net
from wood_nb.nets import detector as module
from wood_nb.nets.detector import box_heads, build_detector, detector_on, open_detector, Reader
from wood_nb.nets.weights import save_weights

pytestmark = pytest.mark.usefixtures('one_thread')
CLASSES = ('cat', 'dog', 'bird')
BOXES = [torch.tensor([[4.0, 4, 30, 40], [0, 0, 64, 48], [10, 20, 60, 44]]), torch.tensor([[8.0, 2, 20, 33]])]


@pytest.fixture(scope='module')
def detector():
    torch.manual_seed(0)
    return build_detector('tiny', CLASSES).eval()


@pytest.fixture(scope='module')
def pictures() -> torch.Tensor: return torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def test_it_answers_as_any_detector_of_torchvision(detector, pictures):
    found = detector(list(pictures))
    assert [sorted(o) for o in found] == [['boxes', 'labels', 'scores']]*2 and all((o['labels'] >= 1).all() for o in found)
    targets = [{'boxes': BOXES[0], 'labels': torch.tensor([1, 2, 3])}, {'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0, dtype=torch.int64)}]
    losses = detector.train()(list(pictures), targets)
    detector.eval()
    assert sorted(losses) == ['loss_box_reg', 'loss_classifier', 'loss_objectness', 'loss_rpn_box_reg']
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())


def test_images_are_taken_as_they_are(detector, pictures):
    "Ours are normalised and have their size: torchvision must not do either again."
    images, _ = detector.transform(list(pictures))
    assert torch.equal(images.tensors, pictures) and images.image_sizes == [(48, 64)]*2


@pytest.mark.parametrize('backbone,stride', [('tiny', 8), ('tiny', 16), ('resnet18', 16), ('mobilenet_v2', 16)])
def test_any_backbone_of_the_kit(backbone, stride, pictures):
    net = build_detector(backbone, CLASSES, stride).eval()
    with torch.no_grad(): heads = box_heads(net)(box_heads(net).features(pictures), BOXES, (48, 64))
    assert heads.logits.shape == (4, 4) and heads.deltas.shape == (4, 4, 4)
    assert net.rpn.anchor_generator.sizes == (tuple(stride*k for k in (2, 4, 8, 16)),)


@pytest.mark.parametrize('which, cells', [('ours', 600), ('ours', 10), ('torchvision', 600)])
def test_boxes_that_stay_are_read_as_they_are_pooled(which, cells, detector, pictures, monkeypatch):
    "Of features that change, with the gradient; on a large map, and on several, they are pooled."
    monkeypatch.setattr(module, '_MOST_CELLS', cells)
    torch.manual_seed(0)
    net = detector if which == 'ours' else fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4).eval()
    heads = box_heads(net.requires_grad_(False))
    with torch.no_grad(): features = heads.features(pictures)
    reader = Reader(heads, features, BOXES, (48, 64))
    others = {name: torch.randn_like(seen).requires_grad_() for name, seen in features.items()}
    read, pooled = reader(others), heads(others, BOXES, (48, 64))
    assert reader.fixed == (which == 'ours' and cells == 600)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(read, pooled))
    one, other = (torch.autograd.grad(answers.deltas.square().sum(), list(others.values()), allow_unused=True, materialize_grads=True)
                  for answers in (read, pooled))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one, other))


def test_a_backbone_is_cut_after_its_stages(detector, pictures):
    heads = box_heads(detector)
    with torch.no_grad():
        for stage in range(4):
            assert torch.equal(heads.after(heads.before(pictures, stage), stage)['0'], heads.features(pictures)['0'])
    assert heads.before(pictures, 2).shape[1:] == (48, 12, 16) and len(heads.parts) == 4
    assert len(box_heads(fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4)).parts) == 1


@pytest.mark.parametrize('which', ['ours', 'torchvision'])
def test_answers_on_given_boxes_are_those_of_the_whole_detector(which, detector, pictures):
    "The logits and deltas that the roi heads themselves compute for these proposals."
    torch.manual_seed(0)
    net = detector if which == 'ours' else fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4).eval()
    heads, seen = box_heads(net), {}
    hook = net.roi_heads.box_predictor.register_forward_hook(lambda module, inputs, outputs: seen.update(all=outputs))
    with torch.no_grad():
        features = heads.features(pictures)
        net.roi_heads(features, BOXES, [(48, 64)]*2)
        hook.remove()
        answers = heads(features, BOXES, (48, 64))
        assert torch.allclose(answers.logits, seen['all'][0], atol=1e-5) and torch.allclose(answers.deltas.flatten(1), seen['all'][1], atol=1e-5)
        alone = heads(heads.features(pictures[1:]), BOXES[1:], (48, 64))
    assert torch.allclose(alone.logits, answers.logits[3:], atol=1e-4), 'pictures of a batch do not mix'
    assert torch.equal(answers.of(torch.tensor([2])).deltas, answers.deltas[2:3])


def test_a_box_without_deltas_stays_and_edges_do_not_cut(detector):
    heads, boxes = box_heads(detector), BOXES[0]
    assert torch.allclose(heads.decode(torch.zeros(3, 4, 4), boxes), boxes[:, None].expand(3, 4, 4), atol=1e-5)
    far = torch.zeros(3, 4, 4)
    far[..., 0] = -20.0
    assert heads.decode(far, boxes).min() < 0


def test_saved_and_opened(detector, pictures, tmp_path):
    save_weights(detector, tmp_path/'d.safetensors')
    again = open_detector(tmp_path/'d.safetensors')
    assert again.classes == CLASSES and not again.training
    for name, tensor in detector.state_dict().items(): assert torch.equal(tensor, again.state_dict()[name]), name


def test_it_has_a_backbone_of_its_own():
    net = build_net('tiny', CLASSES)
    made = detector_on(net)
    with torch.no_grad(): next(made.backbone.parameters()).zero_()
    assert next(net.backbone.parameters()).abs().sum() > 0 and made.arch['stride'] == 8


def test_what_is_refused(tmp_path):
    with pytest.raises(DataError, match='CamNet has no box heads'): box_heads(build_net('tiny', CLASSES))
    with pytest.raises(DataError, match='RetinaNet has no box heads'): box_heads(retinanet_resnet50_fpn(weights=None, weights_backbone=None))
    save_weights(build_net('tiny', CLASSES), tmp_path/'c.safetensors')
    with pytest.raises(DataError, match=r'c\.safetensors: holds no detector of wood_nb'): open_detector(tmp_path/'c.safetensors')
    wrapped = build_net('tiny', CLASSES)
    wrapped.arch = {}
    with pytest.raises(DataError, match='a detector on a wrapped network could not be opened again'): detector_on(wrapped)
