"""Training a detector: targets, augmentation that keeps boxes on their objects, losses, resuming, and what is refused."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.boxes import Boxes
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.nets.detector import build_detector
from wood_nb.train.batches import Batch
from wood_nb.train.detect import as_targets, BoxAugment, BoxedImages, DetectorConfig, DetectorLoss, train_detector

pytestmark = pytest.mark.usefixtures('one_thread')
CLASSES = ('red', 'green')
TINY = DetectorConfig(steps=3, batch_size=2, augment=BoxAugment((32, 40)), freeze_stages=0, freeze_norm=False, precision='no', workers=0)


def bright(n: int) -> tuple[np.ndarray, np.ndarray]:
    "A picture of 40 x 48 pixels with one or two bright squares, and its mask."
    rng = np.random.default_rng(n)
    image, mask = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8), np.zeros((40, 48), np.uint8)
    for value, left in ((1, 2), (2, 28))[:1 + n % 2]:
        top = int(rng.integers(2, 20))
        image[top:top + 14, left:left + 14, value - 1] = 230
        mask[top:top + 14, left:left + 14] = value
    return image, mask


@pytest.fixture(scope='module')
def split(tmp_path_factory) -> Split:
    folder, items = tmp_path_factory.mktemp('bright'), []
    for n in range(6):
        image, mask = bright(n)
        Image.fromarray(image).save(folder/f'{n}.png')
        write_mask(folder/f'{n}-mask.png', mask)
        items.append(Item(str(n), folder/f'{n}.png', tuple(np.unique(mask)[1:].tolist()[k] - 1 for k in range(1 + n % 2)), folder/f'{n}-mask.png'))
    return Split('train', items, CLASSES)


@pytest.fixture(scope='module')
def empty(split) -> Split: return replace(split, name='ood', items=[replace(o, labels=(), mask=None) for o in split.items[:3]])


def test_targets_are_padded():
    boxes = Boxes(np.array([[1, 2, 3, 4]], np.float32), np.array([5]), (9, 9))
    assert as_targets(boxes, 2).tolist() == [[1, 2, 3, 4, 5], [-1]*5] and as_targets(Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (9, 9)), 0).shape == (0, 5)


def test_boxes_stay_on_their_objects(split):
    "Whatever the scale and the side: the bright pixels lie in the box, and hardly any outside."
    examples = BoxedImages(split, BoxAugment((30, 64)), 0)
    sides = set()
    for epoch in range(8):
        picture, target = examples[epoch, 2]
        assert picture.shape == (3, 64, 64) and target.shape == (2, 5) and (target[1] == -1).sum() >= 1
        x0, y0, x1, y1 = target[0, :4].round().int().tolist()
        light = picture[0] > picture[0].max() - 1.5
        assert light[y0:y1, x0:x1].float().mean() > 0.7 and light.sum() < 1.3*(y1 - y0)*(x1 - x0)
        sides.add(x0 < 12)
    assert sides == {True, False}, 'some are mirrored'
    a, b = examples[3, 1], examples[3, 1]
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_a_detector_learns_and_resumes(split, tmp_path):
    def trained(out, steps=None):
        torch.manual_seed(0)
        net = build_detector('tiny', CLASSES)
        rows = train_detector(net, split, TINY if steps is None else replace(TINY, steps=steps), out, title=None)
        return net, rows
    net, rows = trained(tmp_path/'a')
    assert len(rows) == 3 and {'loss', 'loss/objectness', 'loss/classifier'} <= set(rows[0]) and (tmp_path/'a'/'weights.safetensors').is_file()
    again, _ = trained(tmp_path/'b')
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values()))


def test_pictures_without_boxes_are_negatives(split, empty):
    torch.manual_seed(0)
    net, examples = build_detector('tiny', CLASSES).train(), BoxedImages(split, TINY.augment, 0)
    images, labels = map(torch.stack, zip(*(examples[0, n] for n in range(2))))
    loss = DetectorLoss(examples.targets)
    plain = loss(net, Batch(images, labels))
    mixed = loss(net, Batch(images, labels, torch.randn(2, 3, 40, 40)))
    assert set(plain) == set(mixed) == {'loss', 'classifier', 'box_reg', 'objectness', 'rpn_box_reg'} and mixed['loss'].isfinite()
    assert abs(plain['loss'].item() - sum(v.item() for k, v in plain.items() if k != 'loss')) < 1e-5
    assert BoxedImages(empty, TINY.augment, 0)[0, 1][1].shape == (0, 5)
    rows = train_detector(net, split, TINY, ood=empty, title=None)
    assert np.isfinite(rows[-1]['loss'])


def test_what_decides_is_noted(split):
    "Other boxes are another training."
    first, second = (DetectorLoss(BoxedImages(part, TINY.augment, 0).targets) for part in (split, split.subset(range(4))))
    assert first.config != second.config


def test_what_is_refused(split, empty):
    net = build_detector('tiny', CLASSES)
    with pytest.raises(DataError, match='a picture with labels cannot be a negative'): train_detector(net, split, TINY, ood=split, title=None)
    with pytest.raises(DataError, match='the detector knows red, green, but the split has the classes red'):
        train_detector(net, replace(split, classes=('red',)), TINY, title=None)
    with pytest.raises(DataError, match='an image without boxes, but labelled red'):
        lost = replace(split, items=[replace(split.items[0], mask=split.items[0].mask.with_name('none.png'))])
        write_mask(lost.items[0].mask, np.zeros((40, 48), np.uint8))
        train_detector(net, lost, TINY, title=None)
    official = DetectorConfig.official()
    assert (official.steps, official.batch_size, official.lr, official.weight_decay, official.momentum) == (18_000, 16, 0.01, 1e-4, 0.9)
