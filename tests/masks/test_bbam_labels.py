"""Labels from masks of boxes: the reference's values, boxes in boxes, boxes that the CRF loses, and what is refused."""
import numpy as np
import pytest
import torch

from wood_nb.base.files import DataError
from wood_nb.data.boxes import Boxes
from wood_nb.masks.bbam_labels import box_label, BoxLabelConfig, merged, object_masks, soft_mask
from wood_nb.masks.crf import DenseCRF

pytestmark = pytest.mark.usefixtures('one_thread')
OFFICIAL = BoxLabelConfig.official()


@pytest.fixture(scope='module')
def of(golden) -> dict:
    with np.load(golden/'bbam_labels.npz', allow_pickle=False) as file: return {key: file[key] for key in file.files}


def boxes_in(of: dict) -> Boxes: return Boxes(of['boxes'].astype(np.float32), of['classes'] - 1, of['image'].shape[:2])
def unpacked(packed: np.ndarray, width: int) -> np.ndarray: return np.unpackbits(packed, axis=-1)[..., :width].astype(bool)


@pytest.mark.parametrize('share,key', [(0.85, '085'), (0.2, '02')])
def test_golden_bbam_labels(of, share, key):
    "`bbam_labels`: beliefs and the CRF's objects, for the sure and the wide share."
    boxes, masks = boxes_in(of), [of[f'mask{n}'] for n in range(4)]
    for n, mask in enumerate(masks):
        soft = soft_mask(mask, boxes.corners[n], boxes.size, share, OFFICIAL)
        assert np.abs(soft - of[f'soft{n}_{key}']).max() < 1e-3
    found = object_masks(DenseCRF(of['image'], OFFICIAL.crf), masks, boxes, share, OFFICIAL)
    for n, own in enumerate(found): assert (own == of[f'label{n}_{key}']).mean() > 0.99


def test_golden_bbam_labels_semantic(of):
    "`bbam_labels`: one label from given masks, exactly, and all the way from masks of boxes."
    boxes, width = boxes_in(of), of['image'].shape[1]
    assert np.array_equal(merged(unpacked(of['exact_fg'], width), unpacked(of['exact_wide'], width), boxes), of['exact_semantic'])
    label = box_label(of['image'], [of[f'mask{n}'] for n in range(4)], boxes, OFFICIAL)
    assert (label == of['semantic']).mean() > 0.98


def scene() -> tuple[np.ndarray, np.ndarray]:
    "A bright square in noise that is dark, and where it is."
    image = np.random.default_rng(0).integers(0, 60, (60, 80, 3), dtype=np.uint8)
    truth = np.zeros((60, 80), bool)
    truth[20:36, 30:48] = True
    image[truth] = 220
    return image, truth


def test_a_mask_of_zeros_is_labelled_from_the_box_alone():
    image, truth = scene()
    boxes = Boxes(np.array([[28, 18, 50, 38]], np.float32), np.array([4]), (60, 80))
    label = box_label(image, [torch.zeros(5, 5)], boxes)
    own = label == 5
    assert own.sum() > 0.2*boxes.areas[0] and own[truth].mean() > 0.8 and not own[:18].any()


def test_a_small_box_that_loses_nearly_all_is_filled_again():
    image, _ = scene()
    boxes = Boxes(np.array([[30, 20, 48, 36]], np.float32), np.array([0]), (60, 80))
    assert boxes.areas[0] < 0.1*60*80
    point = np.zeros((30, 40))
    point[13, 18] = 1
    crf, narrow = DenseCRF(image, OFFICIAL.crf), BoxLabelConfig(blur=(0.0, 0.0), belief=0.99, reference_side=None)
    again = object_masks(crf, [point], boxes, 0.999, narrow)[0]
    never = object_masks(crf, [point], boxes, 0.999, BoxLabelConfig(blur=(0.0, 0.0), belief=0.99, reference_side=None, lost=0.0))[0]
    assert again.sum() > max(never.sum(), boxes.areas[0]/3)


def test_each_mask_keeps_its_class_where_another_box_is_lost():
    "The released code appends nothing for such a box, and shifts the classes of those after it."
    image, truth = scene()
    boxes = Boxes(np.array([[2, 2, 12, 12], [28, 18, 50, 38]], np.float32), np.array([0, 6]), (60, 80))
    label = box_label(image, [torch.zeros(4, 4), torch.ones(4, 4)], boxes, BoxLabelConfig(starts=(0.5,)))
    assert set(np.unique(label[truth])) <= {7, 255} and (label[truth] == 7).any()


def test_masks_of_any_size_and_no_boxes():
    image, _ = scene()
    assert soft_mask(np.ones((1, 1)), (0, 0, 80, 60), (60, 80), 0.2).shape == (60, 80)
    assert not box_label(image, [], Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (60, 80))).any()
    thin = soft_mask(np.random.default_rng(0).random((7, 2)), (10, 5, 11, 50), (60, 80), 0.85, OFFICIAL)
    assert thin.max() == 1 and not thin[:, :10].any() and not thin[:, 11:].any()


def test_painting_order_and_open_pixels():
    corners = np.array([[0, 0, 20, 20], [4, 4, 12, 12], [6, 6, 9, 9], [0, 0, 20, 20]], np.float32)
    boxes, full = Boxes(corners, np.array([0, 1, 2, 0]), (20, 24)), np.zeros((4, 20, 24), bool)
    for n, (x0, y0, x1, y1) in enumerate(corners.astype(int)): full[n, y0:y1, x0:x1] = True
    label = merged(full, full, boxes)
    assert label[7, 7] == 3 and label[5, 5] == 2 and label[1, 1] == 1 and label[1, 22] == 0, 'equal boxes are not in one another'
    wide = full.copy()
    wide[2, 4:12, 4:12] = True
    assert (merged(full, wide, boxes) == 255).sum() == 64 - 9


@pytest.mark.parametrize('options,fault', [({'sure': 1.0}, 'sure=1.0'), ({'sure': 0.1}, 'wide 0.2 is above sure 0.1'),
                                           ({'starts': ()}, 'starts'), ({'belief': 0}, 'belief=0')])
def test_options_that_make_no_sense(options, fault):
    with pytest.raises(DataError, match=fault): BoxLabelConfig(**options)


def test_as_many_masks_as_boxes():
    image, _ = scene()
    with pytest.raises(DataError, match='2 masks for 1 boxes; give one for each'):
        box_label(image, [torch.ones(2, 2)]*2, Boxes(np.array([[2, 2, 12, 12]], np.float32), np.array([0]), (60, 80)))
