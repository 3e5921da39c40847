"""Whatever is wrong with data is reported once, with the file, the line and the remedy; what is right comes in unchanged."""
import json
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.data import images
from wood_nb.base.files import DataError
from wood_nb.base.pictures import palette
from wood_nb.data.augment import Augment, denormalise, jittered, normalise
from wood_nb.data.images import IGNORE, read_image, read_mask, VOC_CLASSES, write_mask
from wood_nb.data.sources import coco_csv, labels_from_xml, load_csv, load_pool, load_voc, open_split
from wood_nb.data.splits import Item, read_ids, Split

RNG = np.random.default_rng(0)


def picture(width=24, height=16) -> Image.Image:
    "A smooth picture: JPEG keeps it nearly as it is."
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + y) * 4 % 256], 2).astype(np.uint8))


def says(error, *parts) -> bool:
    "Whether a message is one line that holds all `parts` and a remedy after a semicolon."
    message = str(error.value)
    assert '\n' not in message, message
    assert ';' in message or 'say ' in message, f'no remedy: {message}'
    for part in parts: assert str(part) in message, f'{part!r} is not in: {message}'
    return True


def xml(*names) -> str:
    return '<annotation>\n' + ''.join(f' <object>\n  <name>{o}</name>\n </object>\n' for o in names) + '</annotation>\n'


@pytest.fixture
def voc(tmp_path):
    "Three pictures in the VOC layout: a boat; a train with a car; a cow."
    for folder in ('JPEGImages', 'SegmentationClass', 'Annotations', 'ImageSets/Segmentation'): (tmp_path/folder).mkdir(parents=True)
    for id, names in {'a': ['boat'], 'b': ['train', 'car'], 'c': ['cow']}.items():
        picture().save(tmp_path/f'JPEGImages/{id}.jpg')
        mask = np.zeros((16, 24), np.uint8)
        for n, name in enumerate(names): mask[n * 5:n * 5 + 5, 2:9] = VOC_CLASSES.index(name) + 1
        mask[15] = IGNORE
        write_mask(tmp_path/f'SegmentationClass/{id}.png', mask)
        (tmp_path/f'Annotations/{id}.xml').write_text(xml(*names))
    (tmp_path/'ImageSets/Segmentation/train.txt').write_text('a\nb\nc\n')
    return tmp_path


@pytest.fixture
def table(tmp_path):
    "A folder with a picture `a.png` and a function that writes `mine.csv` there."
    picture().save(tmp_path/'a.png')

    def write(text: str | bytes):
        (tmp_path/'mine.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path/'mine.csv'
    return write


# --- images -----------------------------------------------------------------------------------------------------------

def broken_files(folder):
    whole = folder/'whole.jpg'
    picture(64, 64).save(whole)
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(folder/'whole.png')
    (folder/'zero.jpg').write_bytes(b'')
    (folder/'cut.jpg').write_bytes(whole.read_bytes()[:500])
    (folder/'cut.png').write_bytes((folder/'whole.png').read_bytes()[:5000])
    (folder/'text.jpg').write_text('<html>404 not found</html>')
    (folder/'head.jpg').write_bytes(whole.read_bytes()[:20])
    (folder/'noise.png').write_bytes(b'\x89PNG\r\n\x1a\n' + RNG.bytes(300))
    (folder/'noise.gif').write_bytes(b'GIF89a' + RNG.bytes(300))
    (folder/'noise.tif').write_bytes(b'II*\0' + RNG.bytes(300))
    (folder/'noise.webp').write_bytes(b'RIFF' + struct.pack('<I', 300) + b'WEBPVP8 ' + RNG.bytes(300))
    (folder/'folder.jpg').mkdir()
    return sorted(o.name for o in folder.iterdir() if not o.name.startswith('whole'))


def test_unreadable_images(tmp_path):
    for name in [*broken_files(tmp_path), 'missing.jpg']:
        with pytest.raises(DataError) as error: read_image(tmp_path/name)
        assert says(error, tmp_path/name, 'list')
        if name == 'zero.jpg': assert says(error, 'empty')
    with pytest.raises(DataError) as error: images.image_size(tmp_path/'zero.jpg')
    assert says(error, 'zero.jpg')


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    picture(64, 64).save(tmp_path/'big.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(DataError, match='big.png'): read_image(tmp_path/'big.png')


@pytest.mark.parametrize('mode,suffix,close', [('L', 'png', None), ('P', 'png', 24), ('P', 'gif', 24), ('RGBA', 'png', 0),
                                               ('CMYK', 'tif', 2), ('CMYK', 'jpg', 12), ('1', 'png', None), ('LA', 'png', None),
                                               ('YCbCr', 'jpg', 12), ('RGB', 'webp', 40), ('RGB', 'bmp', 0)])
def test_all_modes_become_rgb(tmp_path, mode, suffix, close):
    picture().convert(mode).save(tmp_path/f'x.{suffix}')
    found = read_image(tmp_path/f'x.{suffix}')
    assert found.mode == 'RGB' and found.size == (24, 16)
    if close is not None: assert np.abs(np.asarray(found, int) - np.asarray(picture(), int)).mean() <= close


@pytest.mark.parametrize('dtype,top', [(np.uint16, 65535), (np.int32, 65535)])
def test_16_bits_are_scaled_down(tmp_path, dtype, top):
    ramp = np.linspace(0, top, 256).astype(dtype)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path/'x.tif')
    found = np.asarray(read_image(tmp_path/'x.tif'))
    assert np.abs(found[0, :, 0].astype(int) - np.arange(256)).max() <= 1 and (found[..., 0] == found[..., 2]).all()


def test_a_dark_16_bit_image_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path/'x.png')
    assert np.asarray(read_image(tmp_path/'x.png')).max() <= 1


def test_floats_that_are_no_numbers(tmp_path):
    Image.fromarray(np.array([[np.nan, np.inf], [10, 255]], np.float32)).save(tmp_path/'x.tif')
    assert np.asarray(read_image(tmp_path/'x.tif')).shape == (2, 2, 3)


def test_transparency_lies_on_white(tmp_path):
    clear = Image.new('RGBA', (4, 4), (255, 0, 0, 0))
    clear.save(tmp_path/'rgba.png')
    Image.new('LA', (4, 4), (0, 0)).save(tmp_path/'la.png')
    indexed = Image.new('P', (4, 4), 3)
    indexed.putpalette(palette().tobytes())
    indexed.save(tmp_path/'p.png', transparency=3)
    for name in ('rgba', 'la', 'p'): assert (np.asarray(read_image(tmp_path/f'{name}.png')) == 255).all(), name


def test_exif_rotation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture().save(tmp_path/'x.jpg', exif=exif)
    assert read_image(tmp_path/'x.jpg').size == images.image_size(tmp_path/'x.jpg') == (24, 16)


# --- masks ------------------------------------------------------------------------------------------------------------

def test_masks_there_and_back(tmp_path):
    mask = RNG.integers(0, 21, (7, 9)).astype(np.int64)
    mask[0, 0] = IGNORE
    write_mask(tmp_path/'m.png', mask)
    with Image.open(tmp_path/'m.png') as image: assert image.mode == 'P' and np.array(image.getpalette()[:9]).tolist() == palette(3).ravel().tolist()
    found = read_mask(tmp_path/'m.png', 20, (9, 7))
    assert found.dtype == np.uint8 and (found == mask).all()


def test_masks_that_are_wrong(tmp_path):
    write_mask(tmp_path/'m.png', np.full((7, 9), 21))
    Image.fromarray(palette()[np.full((7, 9), 3)]).save(tmp_path/'rgb.png')
    Image.new('I;16', (9, 7)).save(tmp_path/'deep.png')
    (tmp_path/'zero.png').write_bytes(b'')
    (tmp_path/'cut.png').write_bytes((tmp_path/'m.png').read_bytes()[:-40])
    for name, size, said in [('m', None, 'mask value 21'), ('m', (9, 8), '9x7, its image 9x8'), ('rgb', None, 'RGB'),
                             ('deep', None, 'I;16'), ('zero', None, 'not a readable mask'), ('cut', None, 'cut.png'), ('none', None, 'no such mask')]:
        with pytest.raises(DataError) as error: read_mask(tmp_path/f'{name}.png', 20, size)
        assert says(error, tmp_path/f'{name}.png', said)
    assert (read_mask(tmp_path/'m.png', 21) == 21).all()


@pytest.mark.parametrize('mask', [np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 256), np.full((2, 2), -1), np.full((2, 2), 0.5)])
def test_what_is_no_mask_is_not_written(tmp_path, mask):
    with pytest.raises(DataError, match='integers'): write_mask(tmp_path/'m.png', mask)
    assert not list(tmp_path.iterdir())


def test_a_mask_of_another_size_than_its_image(voc):
    write_mask(voc/'SegmentationClass/b.png', np.zeros((16, 25), np.uint8))
    split = load_voc(voc, 'train')
    split.mask(0)
    with pytest.raises(DataError) as error: split.mask(1)
    assert says(error, 'b.png', '25x16', '24x16')


def test_a_mask_whose_image_is_broken(voc):
    split = load_voc(voc, 'train')
    (voc/'JPEGImages/a.jpg').write_bytes(b'')
    with pytest.raises(DataError) as error: split.mask(0)
    assert says(error, 'a.jpg', 'empty')


def test_a_mask_value_above_the_class_count(voc):
    write_mask(voc/'SegmentationClass/a.png', np.full((16, 24), 30))
    with pytest.raises(DataError) as error: load_voc(voc, 'train', labels='masks')
    assert says(error, 'a.png', 'mask value 30', '20 classes')
    with pytest.raises(DataError) as error: load_voc(voc, 'train').mask(0)
    assert says(error, 'a.png', 'mask value 30')


# --- the VOC layout -----------------------------------------------------------------------------------------------------

def test_voc(voc):
    split = load_voc(voc, 'train')
    assert split.ids == ['a', 'b', 'c'] and split.classes == VOC_CLASSES and len(split) == 3
    assert split[1].labels == (6, 18) and split.label_matrix().sum() == 4 and split.label_matrix()[0, 3] == 1
    assert split.image(0).size == (24, 16) and set(np.unique(split.mask(1))) == {0, 7, 19, 255}
    assert load_voc(voc, 'train', labels='masks').label_matrix().tolist() == split.label_matrix().tolist()
    assert split.subset([2, 0], 'part').ids == ['c', 'a'] and split.subset([0], 'part').name == 'part'


def test_other_classes_are_ignored_or_background(voc):
    split = load_voc(voc, 'train', ['train', 'boat'])
    assert split.ids == ['a', 'b'] and 'left out' in split.notes[0] and split.notes[0].startswith('train: 1 images')
    assert split[1].labels == (0,) and set(np.unique(split.mask(1))) == {0, 1, 255} and (split.mask(1) == 255).sum() == 24 + 35
    split = load_voc(voc, 'train', ['train', 'boat'], others='background')
    assert (split.mask(1) == 255).sum() == 24
    with pytest.raises(DataError) as error: load_voc(voc, 'train', others='maybe')
    assert says(error, 'maybe', 'ignore')


def test_aug_masks_come_first(voc):
    (voc/'SegmentationClassAug').mkdir()
    for id in 'abc': write_mask(voc/f'SegmentationClassAug/{id}.png', np.full((16, 24), 4))
    assert load_voc(voc, 'train').mask(1).max() == 4
    assert load_voc(voc, 'train', masks='SegmentationClass').mask(1).max() == 255


def test_lists_of_many_kinds(voc):
    (voc/'any.txt').write_bytes('\ufeff# a comment\n\n  b  \r\nc\n'.encode())
    assert load_voc(voc, voc/'any.txt').ids == ['b', 'c']
    (voc/'two.txt').write_text('/JPEGImages/a.jpg /SegmentationClassAug/a.png\n/JPEGImages/c.jpg /SegmentationClassAug/c.png\n')
    split = load_voc(voc, str(voc/'two.txt'))
    assert split.ids == ['a', 'c'] and split.name == 'two'


@pytest.mark.parametrize('line,said', [('../x', 'leads out'), ('/etc/passwd', 'leads out'), ('b/../../x', 'leads out'), ('out', 'is a link out'),
                                       ('door/secret', 'is a link out'), ('b', "'b' is in line 1"), ('nowhere', 'no image')])
def test_bad_lines_of_a_list(voc, tmp_path_factory, line, said):
    outside = tmp_path_factory.mktemp('outside')
    picture().save(outside/'secret.jpg')
    (voc/'JPEGImages/out.jpg').symlink_to(outside/'secret.jpg')
    (voc/'JPEGImages/door').symlink_to(outside)
    (voc/'bad.txt').write_text(f'b\n# the next one is bad\n{line}\n')
    with pytest.raises(DataError) as error: load_voc(voc, voc/'bad.txt')
    assert says(error, f'{voc/"bad.txt"}, line 3', said)


def test_links_within_the_root_are_fine(voc):
    (voc/'JPEGImages/copy.jpg').symlink_to(voc/'JPEGImages/a.jpg')
    (voc/'Annotations/copy.xml').write_text(xml('boat'))
    (voc/'more.txt').write_text('copy\n')
    assert load_voc(voc, voc/'more.txt').ids == ['copy']


def test_lists_that_cannot_be_read(voc):
    listed = voc/'ImageSets/Segmentation/val.txt'
    for content, said in [(None, 'no such list'), (b'', 'empty'), (b'\n# only a comment\n', 'empty'), (b'caf\xe9\n', 'UTF-8')]:
        if content is not None: listed.write_bytes(content)
        with pytest.raises(DataError) as error: load_voc(voc, 'val')
        assert says(error, listed, said)
    with pytest.raises(DataError) as error: load_voc(voc/'JPEGImages', 'train')
    assert says(error, 'no folder JPEGImages')


def test_annotations_that_are_wrong(voc):
    for content, said in [(xml('boat', 'unicorn'), ', line 6'), (xml('boat', ''), "''"), ('<annotation><object>', 'not valid XML'),
                          (b'<a>\xff</a>', 'not valid XML'), (None, 'no such annotation')]:
        file = voc/'Annotations/b.xml'
        if content is None: file.unlink()
        else: file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError) as error: load_voc(voc, 'train')
        assert says(error, file, said)
    (voc/'Annotations/b.xml').write_text('<annotation><object><name> boat </name><part><name>head</name></part></object></annotation>')
    assert load_voc(voc, 'train')[1].labels == (3,)


def test_a_missing_mask(voc):
    (voc/'SegmentationClass/b.png').unlink()
    with pytest.raises(DataError) as error: load_voc(voc, 'train', labels='masks')
    assert says(error, 'train.txt, line 2', "no mask for 'b'")
    split = load_voc(voc, 'train')
    with pytest.raises(DataError) as error: split.mask(1)
    assert says(error, 'b', 'no masks')


def test_labels_from_a_csv(voc):
    (voc/'labels.csv').write_text('image,labels\na.jpg,boat;person\nb,train\nc.jpg,\n')
    split = load_voc(voc, 'train', labels=voc/'labels.csv')
    assert [o.labels for o in split.items] == [(3, 14), (18,), ()]
    (voc/'labels.csv').write_text('image,labels\na.jpg,boat\nc,cow\n')
    with pytest.raises(DataError) as error: load_voc(voc, 'train', labels=voc/'labels.csv')
    assert says(error, 'labels.csv', "'b'")
    (voc/'labels.csv').write_text('image,labels\na.jpg,boat\nb.jpg,choochoo\n')
    with pytest.raises(DataError) as error: load_voc(voc, 'train', labels=voc/'labels.csv')
    assert says(error, 'labels.csv, line 3', 'choochoo')


def test_classes_that_are_none(voc):
    for classes, said in [(['boat', 'unicorn'], "'unicorn' is not a class"), (['boat', 'boat'], 'twice'), (['sheep'], 'shows any of sheep')]:
        with pytest.raises(DataError) as error: load_voc(voc, 'train', classes)
        assert says(error, said)


class Evil:
    "Unpickling it creates the file BOO."
    def __reduce__(self): return (open, ('BOO', 'w'))


def test_pickled_labels_are_refused_with_the_remedy(voc, monkeypatch):
    monkeypatch.chdir(voc)
    np.save(voc/'cls_labels.npy', {'a': Evil()}, allow_pickle=True)
    with pytest.raises(DataError) as error: load_voc(voc, 'train', labels=voc/'cls_labels.npy')
    assert says(error, 'cls_labels.npy', "labels='xml'", 'image,labels')
    assert not (voc/'BOO').exists()
    pickle.loads(pickle.dumps(Evil())).close()  # the trap is armed
    assert (voc/'BOO').exists()


# --- CSV and COCO ---------------------------------------------------------------------------------------------------------

def test_csv(table):
    path = table('\ufeffimage,labels,mask,note\na.png,thing; other thing ,m.png,x\n')
    write_mask(path.parent/'m.png', np.full((16, 24), 2))
    split = load_csv(path)
    assert split.classes == ('other thing', 'thing') and split[0].labels == (0, 1) and split.name == 'mine' and split.mask(0).max() == 2
    split = load_csv(path, ['thing'], 'x')
    assert split.classes == ('thing',) and split.mask(0).max() == 1 and split.name == 'x'


@pytest.mark.parametrize('text,said', [
    ('a.png,cat\n', ', line 1: the header'), ('', ', line 1: the header'), ('image,labels\n', 'no images'), ('image,labels\na.png,\n', 'no row carries a label'),
    ('image,labels\na.png,cat\na.png,dog\n', ", line 3: 'a' is in line 2"), ('image,labels\nb.png,cat\n', ', line 2: there is no image'),
    ('image,labels\n,cat\n', ', line 2: no image'), ('image,labels\na.png,cat,dog\n', ', line 2: more cells'), ('image,labels\n../a.png,cat\n', ', line 2'),
    ('image,labels\n/a.png,cat\n', ', line 2'), ('image,labels,mask\na.png,cat,../m.png\n', ', line 2'), ('image,labels,mask\na.png,cat,m.png\n', ', line 2: there is no mask'),
    (b'image,labels\na.png,c\xe4t\n', 'UTF-8'), ('image,labels\n"a.png,cat\n', '')])
def test_csv_that_is_wrong(table, text, said):
    path = table(text)
    with pytest.raises(DataError) as error: load_csv(path)
    assert says(error, path, said)


def test_csv_with_a_label_that_is_no_class(table):
    path = table('image,labels\na.png,cat;dgo\n')
    with pytest.raises(DataError) as error: load_csv(path, all_classes=['cat', 'dog'])
    assert says(error, f'{path}, line 2', "'dgo' is not a class", 'cat, dog')
    with pytest.raises(DataError) as error: load_csv(path, ['cat', 'dog'])
    assert says(error, "'dog' is not a class")
    with pytest.raises(DataError) as error: load_csv(path.with_name('none.csv'))
    assert says(error, 'no such CSV')


def test_open_split(table, voc):
    path = table('image,labels\na.png,b\n')
    path.rename(path.with_name('train.csv'))
    (path.parent/'classes.txt').write_text('# names\nc\nb\n')
    split = open_split(f'csv:{path.parent}', 'train')
    assert split.classes == ('c', 'b') and split[0].labels == (1,)
    (path.parent/'classes.txt').write_text('c\nc\nb\n')
    with pytest.raises(DataError) as error: open_split(f'csv:{path.parent}', 'train')
    assert says(error, 'twice')
    assert len(open_split(f'voc:{voc}', 'train')) == 3
    with pytest.raises(DataError) as error: open_split('photos', 'train')
    assert says(error, 'photos', 'voc:FOLDER')


def test_more_classes_than_a_mask_can_hold(table):
    names = [f'class {n:03}' for n in range(300)]
    path = table('image,labels\na.png,' + ';'.join(names) + '\n')
    split = load_csv(path)
    assert split.n_classes == 300 and split.label_matrix().sum() == 300
    write_mask(path.parent/'m.png', np.zeros((16, 24), np.uint8))
    table('image,labels,mask\na.png,' + ';'.join(names) + ',m.png\n')
    with pytest.raises(DataError) as error: load_csv(path)
    assert says(error, '300 classes')


def coco(folder, **changes):
    content = {'images': [{'id': 7, 'file_name': 'a.png'}, {'id': 9, 'file_name': 'b.png'}], 'categories': [{'id': 3, 'name': 'zebra'}, {'id': 1, 'name': 'ape'}],
               'annotations': [{'image_id': 7, 'category_id': 3}, {'image_id': 7, 'category_id': 1}, {'image_id': 7, 'category_id': 3}], **changes}
    (folder/'instances.json').write_text(json.dumps(content))
    return folder/'instances.json'


def test_coco(tmp_path):
    (tmp_path/'images').mkdir()
    for name in 'ab': picture().save(tmp_path/f'images/{name}.png')
    names = coco_csv(coco(tmp_path), tmp_path/'coco.csv', 'images')
    assert names == ('ape', 'zebra')
    split = load_csv(tmp_path/'coco.csv', all_classes=names)
    assert split.ids == ['images/a', 'images/b'] and split.label_matrix().tolist() == [[1, 1], [0, 0]]
    for changes in ({'annotations': [{'image_id': 1, 'category_id': 3}]}, {'images': None}, {'categories': [{}]}):
        with pytest.raises(DataError) as error: coco_csv(coco(tmp_path, **changes), tmp_path/'x.csv')
        assert says(error, 'instances.json')
    (tmp_path/'instances.json').write_text('{')
    with pytest.raises(DataError, match='not COCO annotations'): coco_csv(tmp_path/'instances.json', tmp_path/'x.csv')
    with pytest.raises(DataError, match='no such file'): coco_csv(tmp_path/'none.json', tmp_path/'x.csv')


# --- pools ----------------------------------------------------------------------------------------------------------------

def test_pools(tmp_path):
    (tmp_path/'b/.cache').mkdir(parents=True)
    for name in ('z.jpg', 'b/y.PNG', '.hidden.jpg', 'b/.cache/x.jpg'): picture().save(tmp_path/name)
    (tmp_path/'notes.txt').write_text('no picture')
    pool = load_pool(tmp_path)
    assert pool.ids == ['b/y', 'z'] and pool.image(0).size == (24, 16) and pool.classes == () and pool[0].labels == ()
    (tmp_path/'ood_list.txt').write_text('# the released format\nz.jpg\n\nb/y.PNG\n')
    assert load_pool(tmp_path, tmp_path/'ood_list.txt').ids == ['z', 'b/y']


@pytest.mark.parametrize('text,said', [('', 'empty'), ('# nothing\n', 'empty'), ('z.jpg\n../z.jpg\n', 'line 2'), ('/z.jpg\n', 'line 1'), ('out.jpg\n', 'line 1'),
                                       ('z.jpg\nz.png\n', "line 2: two pictures are called 'z'")])
def test_ood_lists_that_are_wrong(tmp_path, tmp_path_factory, text, said):
    outside = tmp_path_factory.mktemp('outside')/'x.jpg'
    picture().save(outside)
    (tmp_path/'out.jpg').symlink_to(outside)
    (tmp_path/'ood_list.txt').write_text(text)
    with pytest.raises(DataError) as error: load_pool(tmp_path, tmp_path/'ood_list.txt')
    assert says(error, tmp_path/'ood_list.txt', said)


def test_pools_that_are_wrong(tmp_path):
    for folder, said in [(tmp_path, 'no pictures'), (tmp_path/'none', 'no such folder')]:
        with pytest.raises(DataError) as error: load_pool(folder)
        assert says(error, folder, said)
    with pytest.raises(DataError, match='no such list'): load_pool(tmp_path, tmp_path/'none.txt')
    picture().save(tmp_path/'a.png')
    picture().save(tmp_path/'a.jpg')
    with pytest.raises(DataError) as error: load_pool(tmp_path)
    assert says(error, "two pictures are called 'a'")


def test_unreadable_images_of_a_pool_are_skipped_counted_and_listed(tmp_path):
    from wood_nb.train.predict import predict, predict_all
    from wood_nb.nets.backbones import build_net
    broken = broken_files(tmp_path)
    for n in range(5): picture(40 + n, 30).save(tmp_path/f'good{n}.png')
    suffixes = {}
    for name in broken: suffixes.setdefault(name.split('.')[0], name)
    (tmp_path/'list.txt').write_text('\n'.join([*suffixes.values(), *(f'good{n}.png' for n in range(5)), 'missing.jpg']))
    pool, net, skipped = load_pool(tmp_path, tmp_path/'list.txt'), build_net('tiny', ('x', 'y')), []
    found = np.concatenate([o.index for o in predict(net, pool, 32, 2, skipped=skipped, title=None)])
    assert sorted(found) == [pool.ids.index(f'good{n}') for n in range(5)] and len(found) + len(skipped) == len(pool)
    assert {o['file'].split('.')[0] for o in skipped} == {*suffixes, 'missing'} and all('replace' in o['why'] or 'correct' in o['why'] for o in skipped)
    with pytest.raises(DataError, match='replace|correct'): list(predict(net, pool, title=None))
    with pytest.raises(DataError) as error: predict_all(net, pool.subset([0]), skipped=[], title=None)
    assert says(error, 'no image')


# --- tensors and augmentation -----------------------------------------------------------------------------------------------

def test_normalise_there_and_back():
    pixels = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    tensor = normalise(pixels)
    assert tensor.dtype == torch.float32 and tensor.shape == (3, 5, 7) and (denormalise(tensor) == pixels).all()
    assert torch.equal(normalise(Image.fromarray(pixels)), tensor)
    mean = np.array(images.MEAN) * 255
    assert normalise(np.broadcast_to(mean, (2, 2, 3))).abs().max() < 1e-5


@pytest.mark.parametrize('size', [(24, 16), (3, 2), (1, 1), (1, 200), (300, 1), (37, 211)])
@pytest.mark.parametrize('augment', [Augment((320, 640), 512), Augment.small(48), Augment((8, 9), 64), Augment((64, 64), 16)])
def test_augmentation_has_one_shape(size, augment):
    image = picture(*size)
    views = [augment(image, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert all(o.shape == (3, augment.crop, augment.crop) and o.dtype == torch.float32 and torch.isfinite(o).all() for o in views)
    assert torch.equal(views[0], views[1])


def test_augmentation_does_what_it_says():
    long_sides, crops, mirrored, image = set(), set(), 0, picture(90, 60)
    assert Augment.voc() == Augment((320, 640), 512, 0.5)
    for seed in range(200):
        view = Augment((30, 32), 40)(image, np.random.default_rng(seed))
        inside = view.abs().sum(0) > 0
        long_sides.add(int(inside.any(0).sum()))
        crops.add((int(inside.any(0).float().argmax()), int(inside.any(1).float().argmax())))
        row = view[0, int(inside.any(1).float().argmax()) + 5][inside.any(0)]
        mirrored += bool(row[0] > row[-1])
        assert (view[:, ~inside] == 0).all()
    assert long_sides == {30, 31, 32} and len(crops) > 60 and 70 < mirrored < 130


def test_crops_of_large_images_are_full():
    view = Augment((100, 100), 16)(picture(90, 60), np.random.default_rng(0))
    assert (view.abs().sum(0) > 0).all()


def test_a_split_without_masks_or_items():
    split = Split('x', [Item('a', 'nowhere.png')], ('cat',))
    with pytest.raises(DataError) as error: split.mask(0)
    assert says(error, "'x' has no masks")
    assert Split('x', []).label_matrix().shape == (0, 0)


# --- readers that say what they found ----------------------------------------------------------------------------------------
@pytest.mark.parametrize('encoding', ['gb2312', 'shift_jis', 'euc-kr', 'utf-16', 'latin-1', 'utf-8', 'cp1251'])
def test_annotations_in_any_encoding(tmp_path, encoding):
    word = {'gb2312': '照片', 'shift_jis': '写真', 'euc-kr': '사진', 'cp1251': 'фото'}.get(encoding, 'é')
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<annotation><folder>{word}</folder><object><name>{word}</name></object></annotation>'
    (tmp_path/'a.xml').write_bytes(text.encode(encoding))
    assert labels_from_xml(tmp_path/'a.xml', ['boat', word]) == {word}
    with pytest.raises(DataError, match='a.xml, line 2: .* is not a class'): labels_from_xml(tmp_path/'a.xml', ['boat'])


@pytest.mark.parametrize('content', [b'<?xml version="1.0" encoding="martian"?><a/>', b'<?xml version="1.0" encoding="zip"?><a/>', b'<a>' * 50_000, b'', b'\0',
                                     b'<?xml version="1.0" encoding="gb2312"?><a>\xff\xff</a>', b'\xff\xfe<'])
def test_annotations_that_nobody_can_decode(tmp_path, content):
    (tmp_path/'a.xml').write_bytes(content)
    with pytest.raises(DataError, match='a.xml: not valid XML .*; '): labels_from_xml(tmp_path/'a.xml', ['boat'])


def test_one_image_has_one_name(tmp_path):
    picture().save(tmp_path/'a.jpg')
    (tmp_path/'list.txt').write_text('a.jpg\n./a.jpg\n')
    with pytest.raises(DataError, match="two pictures are called 'a'"): load_pool(tmp_path, tmp_path/'list.txt')
    (tmp_path/'val.csv').write_text('image,labels\na.jpg,boat\n.//a.jpg,boat\n')
    with pytest.raises(DataError, match="line 3: 'a' is in line 2 already"): load_csv(tmp_path/'val.csv')
    (tmp_path/'ids.txt').write_text('a\n./a\n')
    with pytest.raises(DataError, match="line 2: 'a' is in line 1 already"): read_ids(tmp_path/'ids.txt')
    (tmp_path/'list.txt').write_text('./a.jpg\n')
    assert load_pool(tmp_path, tmp_path/'list.txt').ids == ['a']


@pytest.mark.parametrize('name', ['..', '.', '', ' '])
def test_a_split_that_has_no_name(tmp_path, name):
    from wood_nb.runs.config import RunConfig
    with pytest.raises(DataError, match='splits=.*must be'): RunConfig('voc:x', splits=('train', name))
    picture().save(tmp_path/'a.jpg')
    (tmp_path/'val.csv').write_text('image,labels\na.jpg,boat\n')
    if name:
        with pytest.raises(DataError, match='no name for a folder'): load_csv(tmp_path/'val.csv', name=name)


def test_a_folder_that_is_called_like_a_picture(tmp_path):
    (tmp_path/'b.jpg').mkdir()
    picture().save(tmp_path/'a.jpg'); picture().save(tmp_path/'b.jpg/c.jpg')
    assert load_pool(tmp_path).ids == ['a', 'b.jpg/c']


def test_colours_are_changed_within_bounds_and_only_if_asked():
    image = Image.new('RGB', (4, 4), (120, 90, 60))
    found = {jittered(image, .3, np.random.default_rng(seed)).getpixel((0, 0)) for seed in range(40)}
    assert len(found) > 30 and all(120*.7**2 - 2 <= max(pixel) <= 120*1.3**2*1.1 for pixel in found)
    assert jittered(image, .3, np.random.default_rng(1)) == jittered(image, .3, np.random.default_rng(1))
    grey = Image.new('RGB', (4, 4), (100, 100, 100))
    assert {len(set(jittered(grey, .3, np.random.default_rng(seed)).getpixel((0, 0)))) for seed in range(9)} == {1}, 'grey stays grey'
    plain, same, other = (Augment((8, 8), 8, jitter=j)(image, np.random.default_rng(0)) for j in (0., 0., .3))
    assert torch.equal(plain, same) and not torch.allclose(plain, other, atol=.05)
