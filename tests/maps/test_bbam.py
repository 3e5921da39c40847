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
from wood_nb.maps.bbam import (bbam, bbam_batch, BBAMConfig, changed, class_maps, find_masks, initial_mask, jittered, load_box_masks,
                               mask_cost, mask_size, masked, named_boxes, positive_copies, save_box_masks, tasks_of, total_variation,
                               whole_overlap)
from wood_nb.nets.detector import Answers, box_heads, BoxHeads

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
