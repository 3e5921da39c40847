"""Boxes: from annotations and masks, and each way in which they can be wrong."""
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.boxes import annotation_file, boxes_from_mask, boxes_from_xml, boxes_of, make_boxes
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split


def annotation(*objects: tuple, difficult: int = 0) -> str:
    "The XML of objects (name, xmin, ymin, xmax, ymax)."
    limits = ('xmin', 'ymin', 'xmax', 'ymax')
    rows = [f'<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>' +
            ''.join(f'<{limit}>{v}</{limit}>' for limit, v in zip(limits, values)) + '</bndbox></object>' for name, *values in objects]
    return f'<annotation>{"".join(rows)}</annotation>'


@pytest.fixture
def folder(tmp_path) -> Path:
    "A VOC folder with one picture of 20 x 30 pixels, its annotation, and a mask of two parts."
    for name in ('JPEGImages/2020', 'Annotations/2020', 'SegmentationClass'): (tmp_path/name).mkdir(parents=True)
    Image.new('RGB', (30, 20)).save(tmp_path/'JPEGImages'/'2020'/'a.jpg')
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 3:9], mask[10:18, 20:30], mask[0, 0], mask[9, 9] = 1, 1, 255, 2
    write_mask(tmp_path/'SegmentationClass'/'a.png', mask)
    (tmp_path/'Annotations'/'2020'/'a.xml').write_text(annotation(('cat', 4, 3, 9, 8), ('sofa', 1, 1, 30, 20), ('dog', 1, 1, 30, 20)))
    return tmp_path


def split_of(folder: Path, **changes) -> Split:
    "The split of that picture."
    facts = {'id': '2020/a', 'image': folder/'JPEGImages'/'2020'/'a.jpg', 'labels': (0, 1), 'mask': folder/'SegmentationClass'/'a.png'}
    return Split('train', [Item(**{**facts, **changes})], ('cat', 'dog'))


def test_boxes_of_an_annotation_count_from_0_and_end_outside(folder):
    boxes = boxes_of(split_of(folder), 0)
    assert boxes.corners.tolist() == [[3, 2, 9, 8], [0, 0, 30, 20]] and boxes.labels.tolist() == [0, 1] and boxes.size == (20, 30)
    assert boxes.areas.tolist() == [36, 600] and boxes.corners.dtype == np.float32 and len(boxes) == 2, 'a sofa is not of this run'


def test_boxes_of_a_mask_are_its_connected_parts(folder):
    boxes = boxes_of(split_of(folder), 0, 'masks')
    assert boxes.corners.tolist() == [[3, 2, 9, 8], [20, 10, 30, 18]] and boxes.labels.tolist() == [0, 0], 'a single pixel is no object'
    assert len(boxes_from_mask(split_of(folder).mask(0), least=1)) == 3
    corner = np.zeros((8, 8), np.uint8)
    corner[0, 0] = corner[1, 1] = 3
    assert boxes_from_mask(corner, 2).corners.tolist() == [[0, 0, 2, 2]], 'neighbours at a corner belong together'
    assert len(boxes_from_mask(np.full((4, 4), 255, np.uint8), 1)) == 0


def test_auto_takes_the_annotation_where_there_is_one(folder):
    file = annotation_file(split_of(folder)[0])
    assert file == folder/'Annotations'/'2020'/'a.xml'
    file.unlink()
    assert len(boxes_of(split_of(folder), 0)) == 2 and annotation_file(split_of(folder)[0]) is None
    with pytest.raises(DataError, match='no annotation in Annotations/; add it, or take boxes from masks'): boxes_of(split_of(folder), 0, 'xml')
    with pytest.raises(DataError, match='neither an annotation nor a mask'): boxes_of(split_of(folder, mask=None), 0)


def test_difficult_objects_can_be_left_out(folder):
    file = folder/'Annotations'/'2020'/'a.xml'
    file.write_text(annotation(('cat', 4, 3, 9, 8), difficult=1))
    assert len(boxes_from_xml(file, ('cat',), (20, 30))) == 1 and len(boxes_from_xml(file, ('cat',), (20, 30), difficult=False)) == 0


def test_a_picture_without_labels_has_no_boxes_and_one_with_labels_must_have_some(folder):
    assert len(boxes_of(split_of(folder, labels=()), 0)) == 0
    (folder/'Annotations'/'2020'/'a.xml').write_text(annotation(('sofa', 1, 1, 9, 9)))
    with pytest.raises(DataError, match=r'a\.xml: an image without boxes, but labelled cat; draw them'): boxes_of(split_of(folder), 0)


@pytest.mark.parametrize('corners,fault', [
    ((0, 0, 32, 5), r'\(0, 0, 32, 5\) reaches out of the picture \(30x20\)'), ((-2, 0, 5, 5), 'reaches out'),
    ((0, 0, 5, 22), 'reaches out'), ((5, 5, 5, 9), 'has no area; correct or remove it'), ((9, 5, 5, 9), 'has no area'),
    ((30, 0, 31, 5), 'has no area'), ((float('nan'), 0, 5, 5), 'has no area')])
def test_boxes_outside_the_picture_or_without_area(corners, fault):
    with pytest.raises(DataError, match=f'somewhere: box 1 .*{fault}'): make_boxes([(0, corners)], (20, 30), 'somewhere')


def test_a_pixel_over_the_edge_is_put_back():
    assert make_boxes([(0, (-1, -1, 31, 21))], (20, 30), 'x').corners.tolist() == [[0, 0, 30, 20]]


def test_an_annotation_without_numbers(folder):
    file = folder/'Annotations'/'2020'/'a.xml'
    for text in (annotation(('cat', 'x', 3, 9, 8)), '<annotation><object><name>cat</name></object></annotation>'):
        file.write_text(text)
        with pytest.raises(DataError, match='an object has no numbers in <bndbox>'): boxes_of(split_of(folder), 0)
    file.write_text('<annotation>')
    with pytest.raises(DataError, match='not valid XML'): boxes_of(split_of(folder), 0)


def test_an_unknown_source(folder):
    with pytest.raises(DataError, match="boxes from 'guess': say auto, xml, masks"): boxes_of(split_of(folder), 0, 'guess')
