"""BBAM: its parts and whole runs against the reference's values, masks alone and together, and what is refused."""
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_net import far, fill
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import roi_align

from wood_nb.base.files import DataError
from wood_nb.data.augment import normalise
from wood_nb.data.boxes import Boxes
from wood_nb.maps.bbam import (bbam, bbam_batch, BBAMConfig, canvas_of, changed, class_maps, find_masks, initial_mask, jittered, load_box_masks,
                               mask_cost, mask_size, masked, MaskStack, named_boxes, positive_copies, save_box_masks, tasks_of, total_variation,
                               whole_overlap)
from wood_nb.nets.backbones import build_net
from wood_nb.nets.detector import Answers, box_heads, BoxHeads, detector_on

pytestmark = pytest.mark.usefixtures('one_thread')
OFFICIAL = BBAMConfig.official()


def stored(golden: Path, name: str) -> dict:
    with np.load(golden/f'{name}.npz', allow_pickle=False) as file: return {key: file[key] for key in file.files}


def tensors(of: dict, *names: str) -> list[torch.Tensor]: return [torch.from_numpy(of[name]) for name in names]


# --- parts -----------------------------------------------------------------------------------------------------------

def test_golden_bbam_parts(golden):
    "`bbam_parts`: total variation, overlap, objective, strides."
    of = stored(golden, 'bbam_parts')
    mask = torch.from_numpy(of['mask']).requires_grad_()
    variation = total_variation(mask)
    assert far(variation[0].item(), of['tv']) < 1e-6
    variation.sum().backward()
    assert far(mask.grad, of['grad_tv']) < 1e-5
    assert np.abs(whole_overlap(*tensors(of, 'boxes_a', 'boxes_b')).numpy() - of['iou']).max() < 1e-5
    for height, width, area, stride, rows, columns in of['strides']:
        ours = OFFICIAL.stride_of(area, (height, width))
        assert abs(ours - stride) < 1e-5*stride and mask_size(ours, (int(height), int(width))) == (rows, columns)


def test_golden_bbam_parts_objective(golden):
    "`bbam_parts`: the objective and its gradients."
    of = stored(golden, 'bbam_parts')
    parts = {name: torch.from_numpy(of[name]).requires_grad_() for name in ('logits_after', 'regression_after', 'mask')}
    now = Answers(parts['logits_after'], parts['regression_after'].unflatten(1, (-1, 4)))
    logits, regression = tensors(of, 'logits_before', 'regression_before')
    values = torch.full((len(logits),), int(of['class_index']))
    cost = changed(now, Answers(logits, regression.unflatten(1, (-1, 4))), values).mean() + mask_cost(parts['mask'][0], OFFICIAL)
    cost.backward()
    assert abs(cost.item() - of['objective']) < 1e-5
    for name, key in (('logits_after', 'grad_logits'), ('regression_after', 'grad_regression'), ('mask', 'grad_mask')):
        assert far(parts[name].grad, of[key]) < 1e-5


# --- whole runs ------------------------------------------------------------------------------------------------------

def filled(*shape: int, name: str) -> torch.Tensor:
    "A weight by its name, for any number of dimensions."
    return fill(name, (*shape, 1, 1))[..., 0, 0] if len(shape) == 2 else fill(name, shape)


class Layer(nn.Conv2d):
    "A convolution of stride 2 and a ReLU, its weight made from its name."
    def __init__(self, name: str, outputs: int, inputs: int):
        super().__init__(inputs, outputs, 3, 2, 1, bias=False)
        self.weight.data = filled(outputs, inputs, 3, 3, name=name)

    def forward(self, x): return F.relu(super().forward(x))


def small_detector() -> BoxHeads:
    "The detector of `bbam_run`."
    fc, cls, reg = filled(32, 256, name='fc'), filled(6, 32, name='cls'), filled(24, 32, name='reg')*0.1
    body = nn.Sequential(Layer('a', 8, 3), Layer('b', 16, 8), Layer('c', 16, 16))
    def pool(features, boxes, sizes): return roi_align(features['0'], boxes, 4, 1/8, 2)
    def head(pooled): return F.relu(F.linear(pooled.flatten(1), fc))
    return BoxHeads(body, pool, head, lambda x: (F.linear(x, cls), F.linear(x, reg)), BoxCoder((10.0, 10.0, 5.0, 5.0))).eval()


@pytest.mark.parametrize('box', [0, 1])
def test_golden_bbam_run(golden, box):
    "`bbam_run`: proposals, positives, first mask, every objective and mask of a whole run."
    of, heads = stored(golden, 'bbam_run'), small_detector()
    image = normalise(of['image'])
    size = tuple(image.shape[1:])
    boxes = Boxes(of['boxes'][box:box + 1], of['labels'][box:box + 1] - 1, size)
    copies = torch.from_numpy(of[f'proposals{box}'])
    with torch.no_grad(): answers = heads(heads.features(image[None]), [copies], size)
    assert far(answers.logits[:6], of[f'logits{box}']) < 1e-4 and far(answers.deltas[:6].flatten(1), of[f'regression{box}']) < 1e-4
    named, moved = named_boxes(answers, heads.decode(answers.deltas, copies))
    assert np.abs(whole_overlap(moved, torch.from_numpy(boxes.corners[0])).numpy() - of[f'iou{box}']).max() < 1e-5
    rows = positive_copies(named, moved, torch.from_numpy(boxes.corners[0]), int(of['labels'][box]), OFFICIAL)
    assert rows.tolist() == of[f'positive{box}'].tolist()
    steps = len(of[f'losses{box}'])
    task, = tasks_of(heads, image, boxes, OFFICIAL, [copies])
    assert torch.equal(task.proposals, copies[rows]) and np.array_equal(task.start, of[f'initial_mask{box}'])
    assert abs(OFFICIAL.stride_of(boxes.areas[0], size) - of[f'stride{box}']) < 1e-6
    seen = {}
    _, history = find_masks(heads, image[None], [task], replace(OFFICIAL, steps=steps),
                            lambda step, masks: seen.update({step: masks[0].detach().clone()}))
    assert np.abs(history[:, 0].numpy() - of[f'losses{box}']).max() < 1e-4
    for step in (1, 10, steps): assert np.abs(seen[step].numpy() - of[f'mask{box}_step{step}']).max() < 5e-3
    corner = masked(image[None], [seen[1]])[0, :, ::7, ::7]
    assert far(corner, of[f'masked_image{box}_corner']) < 1e-4


@pytest.mark.slow
def test_golden_bbam_torchvision(golden):
    "`bbam_torchvision`: the same on torchvision's Faster R-CNN, whose weights are made from their names."
    of = stored(golden, 'bbam_torchvision')
    net = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=21).eval()
    for name, tensor in net.state_dict().items():
        made = filled(*tensor.shape, name=name) if tensor.ndim in (2, 4) else fill(name, tensor.shape)
        if name == 'roi_heads.box_predictor.bbox_pred.weight': made = made*0.05
        tensor.copy_(made)
    heads, image = box_heads(net.requires_grad_(False)), normalise(of['image'])
    size, copies = tuple(image.shape[1:]), torch.from_numpy(of['proposals'])
    boxes = Boxes(of['box'][None], of['label'][None] - 1, size)
    with torch.no_grad(): answers = heads(heads.features(image[None]), [copies], size)
    assert far(answers.logits, of['logits']) < 1e-4 and far(answers.deltas.flatten(1), of['regression']) < 1e-4
    stride = OFFICIAL.stride_of(boxes.areas[0], size)
    moved = heads.decode(answers.deltas, copies)[:, int(of['label'])]
    start = initial_mask(moved, stride, size)
    assert abs(stride - of['stride']) < 1e-6 and np.array_equal(start, of['initial_mask'])
    task = tasks_of(heads, image, boxes, replace(OFFICIAL, overlaps=(0.0,)), [copies])[0]._replace(
        proposals=copies, before=answers, start=start)
    seen = []
    _, history = find_masks(heads, image[None], [task], replace(OFFICIAL, steps=len(of['losses'])),
                            lambda step, masks: seen.append(masks[0].detach().clone()))
    assert far(history[:, 0], of['losses']) < 1e-3
    assert np.abs(torch.stack(seen).numpy() - of['masks']).mean() < 5e-3


# --- ours ------------------------------------------------------------------------------------------------------------

SMALL = BBAMConfig(steps=6, proposals=200, reference_side=150)  # of the small detector, which knows no scale


@pytest.fixture(scope='module')
def heads() -> BoxHeads: return small_detector()


@pytest.fixture(scope='module')
def picture(golden) -> np.ndarray: return stored(golden, 'bbam_run')['image']


def boxes_of_run(golden) -> Boxes:
    of = stored(golden, 'bbam_run')
    return Boxes(of['boxes'], of['labels'] - 1, of['image'].shape[:2])


def test_masks_are_the_same_together_and_alone(heads, picture, golden):
    "Batches of any size, and images of a batch in any order: each mask as if it were alone."
    boxes, images = boxes_of_run(golden), [Image.fromarray(picture), Image.fromarray(picture[:, ::-1].copy())]
    mirrored = replace(boxes, corners=np.stack([210 - boxes.corners[:, 2], boxes.corners[:, 1], 210 - boxes.corners[:, 0], boxes.corners[:, 3]], 1))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        both = bbam_batch(heads, images, [boxes, mirrored], SMALL)
        single = [bbam(heads, image, own, replace(SMALL, batch=1)) for image, own in zip(images, (boxes, mirrored))]
    assert [[m.positives for m in own] for own in both] == [[m.positives for m in own] for own in single] and both[0][0].positives
    for ours, alone in zip(sum(both, []), sum(single, [])): assert (ours.mask - alone.mask).abs().max() < 1e-4
    assert both[0][0].mask.min() >= 0 and both[0][0].mask.max() <= 1


def test_masks_of_several_sizes_stand_side_by_side():
    "Enlarged, weighed and changed as each alone; what is beyond a mask's own cells stays 0."
    g = torch.Generator().manual_seed(0)
    masks = [torch.rand(size, generator=g) for size in ((3, 5), (4, 2), (1, 1))]
    stack = MaskStack(masks, (9, 12))
    for mask, found in zip(masks, stack.enlarged()):
        assert torch.allclose(found[0], F.interpolate(mask[None, None], (9, 12), mode='bilinear', align_corners=True)[0, 0], atol=1e-6)
    cells = stack.cells.requires_grad_()
    costs = mask_cost(cells, SMALL, stack.own)
    assert torch.allclose(costs, torch.stack([mask_cost(mask, SMALL) for mask in masks]))
    costs.sum().backward()
    assert not cells.grad[~stack.own].any() and all(torch.equal(mask, found) for mask, found in zip(masks, stack.each()))


def test_masks_over_features_show_all_or_a_grey_picture(picture):
    "Behind each stage: with a mask of ones what the picture gives, with zeros what a grey one does; a backbone that cannot be cut: pixels."
    torch.manual_seed(0)
    made, image = box_heads(detector_on(build_net('tiny', 'ab')).requires_grad_(False)), normalise(picture)[None]
    whole, grey = (made.features(x)['0'] for x in (image, torch.zeros_like(image)))
    for stage in range(4):
        canvas = canvas_of(made, image, stage)
        assert len(canvas.seen) == 1 and canvas.stage == stage
        for value, wanted in ((1.0, whole), (0.0, grey)):
            seen = canvas.under(torch.full((1, 1, *canvas.seen.shape[-2:]), value))
            assert torch.allclose(made.after(seen, stage)['0'], wanted, atol=1e-4)
    assert canvas_of(small_detector(), image, 2).stage == 0


def test_a_rate_that_falls(): assert [BBAMConfig(lr=1.0, steps=4, falling=falling).rate(2) for falling in (True, False)] == [0.5, 1.0]


def test_a_smaller_picture_gets_as_many_cells():
    for config, cells in ((SMALL, (9, 9)), (replace(SMALL, stride=(16.0, 0.0)), (9, 9))):
        assert mask_size(config.stride_of(0, (150, 150)), (150, 150)) == mask_size(config.stride_of(0, (50, 50)), (50, 50)) == cells
    assert mask_size(OFFICIAL.stride_of(25, (10, 10)), (10, 10)) == (1, 1), 'one cell at least'


def test_corners_outside_the_picture_do_not_wrap_around():
    mask = initial_mask(torch.tensor([[-40.0, -40, 12, 12], [25, 25, 900, 900]]), 10.0, (40, 50))
    assert mask.shape == (4, 5) and mask.tolist() == [[1, 0, 0, 0, 0], [0]*5, [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert not initial_mask(torch.tensor([[-90.0, -90, -20, -20]]), 10.0, (40, 50)).any()


def test_thresholds_fall_until_enough_copies_count():
    box, config = torch.tensor([0.0, 0, 100, 100]), BBAMConfig(most=3)
    width = torch.tensor([100.0, 95, 91, 88, 86, 83, 79])  # overlaps 1, 0.95, 0.91, 0.88, 0.86, 0.83, 0.79
    moved = torch.stack([torch.zeros(7), torch.zeros(7), width, torch.full((7,), 100.0)], 1)
    named = torch.full((7,), 2)
    assert positive_copies(named, moved, box, 2, config).tolist() == [0, 1, 2], '0.85 gives five, of which three are taken'
    assert positive_copies(named, moved, box, 2, replace(config, most=9)).tolist() == [0, 1, 2, 3, 4, 5], 'what 0.8 gives is kept'
    named[:5] = 1
    assert positive_copies(named, moved, box, 2, config).tolist() == [5] and not len(positive_copies(named, moved, box, 3, config))


def test_jitter_keeps_copies_in_the_picture():
    box = np.array([2, 3, 40, 30], np.float32)
    copies = jittered(box, (32, 44), replace(SMALL, proposals=500), np.random.default_rng(0))
    assert copies.shape == (500, 4) and copies.min() == 0 and copies[:, 2].max() == 44 and copies[:, 3].max() == 32
    moved = (copies - torch.from_numpy(box)).abs()/torch.tensor([38.0, 27, 38, 27])
    assert moved.max() <= 0.3 + 1e-5 and moved.max() > 0.25 and (copies[:, 2:] > copies[:, :2]).all()
    assert torch.equal(copies, jittered(box, (32, 44), replace(SMALL, proposals=500), np.random.default_rng(0)))


def test_overlap_of_boxes_apart_and_without_area():
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 20, 30, 30], [5.9, 5.9, 5.9, 5.9], [5, 0, 15, 10]])
    assert whole_overlap(boxes, torch.tensor([0.0, 0, 10, 10])).tolist() == pytest.approx([0.81, 0, 0, 1/3])


def test_no_copy_counts_is_said_and_its_mask_is_zero(heads, picture, golden):
    boxes = boxes_of_run(golden)
    with pytest.warns(UserWarning, match='scene 7: the detector finds box 1 in none of its copies, so its mask is zero'):
        found = bbam_batch(heads, [Image.fromarray(picture)], [replace(boxes, labels=np.array([3, 0]))], SMALL, ['scene 7'])[0]
    assert found[0].positives == 0 and not found[0].mask.any() and found[0].mask.shape == found[1].mask.shape and found[1].mask.any()
    maps = class_maps(found, replace(boxes, labels=np.array([3, 0])))
    assert maps.keys.tolist() == [0, 3] and not maps.stride4[1].any() and maps.stride4.shape == (2, 38, 53)


@pytest.mark.parametrize('changes,fault', [
    ({'labels': np.array([5, 0])}, 'a box of class 5, but the detector knows 0 to 4'),
    ({'labels': np.array([-1, 0])}, 'a box of class -1, but'),
    ({'corners': np.array([[0, 0, 500, 9], [0, 0, 9, 9]], np.float32)}, r'reaches out of the picture \(210x150\)'),
    ({'corners': np.array([[5, 5, 5, 9], [0, 0, 9, 9]], np.float32)}, 'has no area')])
def test_boxes_that_are_refused(heads, picture, golden, changes, fault):
    with pytest.raises(DataError, match=fault): bbam(heads, Image.fromarray(picture), replace(boxes_of_run(golden), **changes), SMALL)


@pytest.mark.parametrize('options', [{'steps': 0}, {'jitter': 0.5}, {'overlaps': (0.8, 0.9)}, {'overlaps': ()}, {'stride': (0, 48)},
                                     {'reference_side': 0}, {'most': 0}, {'stage': 4}])
def test_options_that_make_no_sense(options):
    with pytest.raises(DataError, match=next(iter(options))): BBAMConfig(**options)


def test_images_of_two_sizes(heads, golden):
    boxes = boxes_of_run(golden)
    with pytest.raises(DataError, match='2 images of 2 sizes, 2 sets of boxes'):
        bbam_batch(heads, [Image.new('RGB', (210, 150)), Image.new('RGB', (100, 90))], [boxes, boxes], SMALL)


def test_box_masks_on_disk(heads, picture, golden, tmp_path):
    boxes = boxes_of_run(golden)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = bbam(heads, Image.fromarray(picture), boxes, SMALL)
    save_box_masks(tmp_path/'a.npz', found, boxes)
    back, same = load_box_masks(tmp_path/'a.npz')
    assert all(torch.equal(a.mask, b.mask) and a.positives == b.positives for a, b in zip(found, back))
    assert np.array_equal(same.corners, boxes.corners) and same.labels.tolist() == boxes.labels.tolist() and same.size == boxes.size
    none = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (9, 9))
    save_box_masks(tmp_path/'b.npz', [], none)
    assert load_box_masks(tmp_path/'b.npz')[0] == []
    save_box_masks(tmp_path/'c.npz', [m._replace(mask=m.mask[:1]) for m in found], boxes)
    arrays = dict(np.load(tmp_path/'c.npz'))
    np.savez(tmp_path/'d.npz', **{**arrays, 'cells': arrays['cells'][:-1]})
    with pytest.raises(DataError, match=r'd\.npz: \d+ cells do not fill its masks'): load_box_masks(tmp_path/'d.npz')
