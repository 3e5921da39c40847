"""A look at data before training: one small folder for each kind of fault, each found, with its severity and its remedy."""
import json
import os
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.cli.commands import amount_of
from wood_nb.cli.parser import main
from wood_nb.data.check import _AT_ONCE, Amount, KINDS, Finding, check_data, most_at_once, odd_names
from wood_nb.data.images import read_image, write_mask
from wood_nb.data.sources import load_csv, load_pool, load_voc, open_split
from wood_nb.data.splits import read_ids
from wood_nb.maps.cam import _PIXELS
from wood_nb.runs.config import preset

RNG = np.random.default_rng(0)


def noise(size=(32, 24)) -> Image.Image:
    "A picture unlike any other: large blocks of random colour."
    return Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)


class Folder:
    "A CSV data set in a folder: three pictures to train on, two to validate, labels cat and dog, masks that agree."

    def __init__(self, path):
        self.path, self.rows = path, {'train': [], 'val': []}
        for n in range(5):
            self.add('train' if n < 3 else 'val', f'p{n}.png', ('cat', 'dog')[n % 2], noise())
            self.mask(f'p{n}', n % 2 + 1)

    def add(self, split, name, labels, image=None):
        if image is not None: image.save(self.path/name)
        self.rows[split].append([name, labels, f'{name.rpartition(".")[0]}_mask.png'])

    def mask(self, stem, value, size=(32, 24)):
        mask = np.zeros(size[::-1], np.uint8)
        mask[2:9, 3:9] = value
        write_mask(self.path/f'{stem}_mask.png', mask)

    def look(self, **options):
        for split, rows in self.rows.items():
            text = '\n'.join(','.join(f'"{o}"' for o in row) for row in [['image', 'labels', 'mask'], *rows])
            (self.path/f'{split}.csv').write_text(text, encoding='utf-8')
        return check_data(f'csv:{self.path}', **{'title': None, **options})


@pytest.fixture
def folder(tmp_path): return Folder(tmp_path)


def pool(folder):
    place = folder.path/'pool'
    place.mkdir()
    for n in range(3): noise().save(place/f'c{n}.jpg')
    return place


def test_sound_data_have_nothing_but_a_note(folder):
    found = folder.look(candidates=pool(folder))
    assert {o.kind for o in found.findings} == {'balance'} and not found.failed
    assert found.sizes['train'][0] == 3 and '1 note' in found.summary()


# --- one fault of each kind: what is done to the folder, the kind, words of the finding --------------------------------------

def truncated(f): (f.path/'p1.png').write_bytes((f.path/'p1.png').read_bytes()[:90])
def gone(f): (f.path/'p1.png').unlink()
def twice(f): f.rows['train'].append(f.rows['train'][0])
def resized(f): noise((20, 20)).save(f.path/'p0.png')
def coloured(f): Image.new('RGB', (32, 24)).save(f.path/'p0_mask.png')
def high_value(f): f.mask('p0', 128)
def no_mask_file(f): (f.path/'p0_mask.png').write_bytes(b'')
def empty_masks(f): [f.mask(f'p{n}', 255) for n in range(3)]
def another_class(f): f.mask('p0', 2)
def part(f): f.rows['train'][0][2] = ''
def rare(f): f.rows['train'] = [[f'q{n}.png', 'dog' if n else 'cat', ''] for n in range(22) if not noise().save(f.path/f'q{n}.png')]
def joined(f): f.rows['train'][0][1] = 'cat dog'
def comma(f): f.rows['train'][0][1] = 'cat,dog'
def bar(f): f.rows['train'][0][1] = 'cat|dog'
def capital(f): f.rows['train'][0][1] = 'Cat'
def no_pictures(f): f.rows['val'][0][1] = 'horse'
def unlabelled(f): f.rows['train'][0][1] = ''
def same_file(f): f.rows['val'][0] = f.rows['train'][0]
def same_bytes(f): (f.path/'p3.png').write_bytes((f.path/'p0.png').read_bytes())
def nearly(f): read_image(f.path/'p0.png').resize((64, 48)).save(f.path/'p3.png'); f.mask('p3', 2, (64, 48))
def dark(f): Image.fromarray(np.full((24, 32), 200, np.uint16)).save(f.path/'p0.png')
def floats(f): Image.fromarray(RNG.random((24, 32), np.float32)).save(f.path/'x.tif'); f.rows['train'][0][0] = 'x.tif'
def twelve_bits(f): Image.fromarray(RNG.integers(0, 4096, (24, 32)).astype(np.uint16)).save(f.path/'p0.png')
def blanks(f): f.add('train', 'Photo 1.png', 'cat', noise()); f.mask('Photo 1', 1)
def stray(f): (f.path/'sample_submission.csv').write_text('id,prediction\n1,0.5\n')


def rotated(f):
    exif = Image.Exif()
    exif[0x112] = 6
    noise().save(f.path/'r.jpg', exif=exif)
    f.rows['train'][0][0] = 'r.jpg'


CASES = [(truncated, 'unreadable', 'p1.png'), (gone, 'lists', 'p1.png'), (twice, 'lists', "'p0' is in line 2"), (resized, 'masks', '32x24'),
         (coloured, 'masks', 'RGB'), (high_value, 'masks', '128'), (no_mask_file, 'masks', 'empty file'), (empty_masks, 'empty masks', '0, 255'),
         (another_class, 'unmarked', 'p0 (cat)'), (another_class, 'unlabelled', 'p0 (dog)'), (part, 'part masks', 'no mask'),
         (rare, 'imbalance', '1 (cat) to 21 (dog)'), (joined, 'class names', "'cat dog'"), (comma, 'class names', "'cat,dog'"),
         (bar, 'class names', "'cat|dog'"), (capital, 'class names', "'Cat' and 'cat'"), (no_pictures, 'no images', 'horse'),
         (unlabelled, 'no labels', 'p0'), (same_file, 'overlap', 'p0'), (same_bytes, 'overlap', 'p3 = p0'), (nearly, 'twins', 'p3 = p0'),
         (dark, 'dark', 'p0'), (floats, 'numbers', 'floats up to 1'), (twelve_bits, 'numbers', '12-bit numbers'), (rotated, 'rotated', 'EXIF'),
         (blanks, 'blanks', "'Photo 1'"), (stray, 'notes', 'sample_submission.csv')]


@pytest.mark.parametrize('fault,kind,words', CASES, ids=lambda o: getattr(o, '__name__', None))
def test_a_fault_of_a_split(folder, fault, kind, words):
    fault(folder)
    found = folder.look()
    assert any(words in str(o) for o in found.of(kind)), repr(found)
    assert found.failed == any(o.severity == 'error' for o in found.findings) and (KINDS[kind][0] != 'error' or found.failed)


def far_away(f, place):
    other = f.path/'elsewhere'
    other.mkdir()
    noise().save(other/'far.jpg')
    (place/'link.jpg').symlink_to(other/'far.jpg')
    (place/'sub').symlink_to(other)


def cut(f, place): (place/'c1.jpg').write_bytes((place/'c1.jpg').read_bytes()[:200])
def leak(f, place): read_image(f.path/'p0.png').save(place/'c0.jpg')
def copied(f, place): (place/'c0.png').write_bytes((f.path/'p4.png').read_bytes())


@pytest.mark.parametrize('fault,kind,words', [(cut, 'skipped', 'c1'), (leak, 'leaks', 'c0 = p0'), (copied, 'notes', ''), (far_away, 'notes', '2 left out')],
                         ids=lambda o: getattr(o, '__name__', None))
def test_a_fault_of_the_candidates(folder, fault, kind, words):
    place = pool(folder)
    if fault is copied: (place/'c0.jpg').unlink()
    fault(folder, place)
    found = folder.look(candidates=place)
    assert not found.failed
    assert any(words in str(o) for o in found.of('leaks' if fault is copied else kind)), repr(found)


def test_listed_candidates_that_are_missing(folder):
    place = pool(folder)
    (folder.path/'list.txt').write_text('c0\nc1.jpg\nnowhere.jpg\n')
    found = folder.look(candidates=place, candidates_list=folder.path/'list.txt')
    assert [(o.count, 'nowhere' in str(o)) for o in found.of('missing')] == [(1, True)] and not found.of('skipped') and not found.failed
    assert folder.look(candidates=folder.path/'nothing').failed


def test_memory_and_disk(folder, monkeypatch):
    monkeypatch.setattr('wood_nb.data.check.free_memory', lambda: 1e6)
    monkeypatch.setattr('shutil.disk_usage', lambda path: type('Usage', (), {'free': 1e6}))
    found = folder.look()
    assert [len(found.of(kind)) for kind in ('memory', 'disk')] == [1, 1] and not found.failed


@pytest.mark.parametrize('batch, long_side, most', [(8, None, (4*500*375, 4, 1)), (2, None, (2*500*375, 2, 1)), (8, 250, (4*250*187.5, 4, 1))])
def test_memory_is_asked_of_pictures_that_are_drawn_at_once(batch, long_side, most):
    assert _AT_ONCE == _PIXELS
    sizes = [(500, 374), *[(500, 375)]*4, (600, 500)]
    assert most_at_once(sizes, Amount(batch=batch, long_side=long_side)) == most
    assert most_at_once([*sizes, (4000, 3000), (4000, 3000)], Amount(batch=batch)) == (12e6, 1, 6)


def test_a_run_says_what_it_asks_for():
    "Measured: a MobileNet of 9 MB takes 536 bytes a pixel with its mirror image, 385 without; maps 0.084, full ones 1.13, exact ones 2.3."
    small = preset('small', 'csv:x', classes=('cat',), wood_by='train')
    asked = amount_of(small)
    assert asked.per_pixel == pytest.approx(385 if not small.mirror else 536, rel=.1) and 4*9e6 < asked.networks < 8*9e6
    many = amount_of(replace(small, candidates='y', ablation=('zero-label',), scales=(1.0, 2.0), full_maps=True, maps_batch=3))
    assert many.per_pixel == 4*asked.per_pixel and many.batch == 3 and many.written == pytest.approx(4*1.13, rel=.1) and many.networks > asked.networks + 25e6
    both = amount_of(replace(small, candidates='y', wood_by='both'))
    assert both.written > amount_of(replace(small, candidates='y')).written, 'maps of the last layer besides'


def test_every_kind_has_a_test_and_a_remedy():
    tested = {kind for _, kind, _ in CASES} | {'skipped', 'leaks', 'missing', 'memory', 'disk', 'balance'}
    assert tested == set(KINDS)
    for kind, (severity, remedy) in KINDS.items():
        assert severity in ('error', 'warning', 'note') and (remedy or kind in ('lists', 'masks', 'balance', 'notes'))


def test_many_faults_are_told_at_once(folder):
    for fault in (truncated, coloured, joined): fault(folder)
    folder.rows['val'][0][0] = 'nowhere.png'
    found = folder.look()
    assert {o.kind for o in found.findings} >= {'unreadable', 'masks', 'class names', 'lists'}
    order = [o.severity for o in found.findings]
    assert order == sorted(order, key=('error', 'warning', 'note').index)
    assert '<table' in found._repr_html_() and str(folder.path) not in repr(found)


def test_the_table_is_safe_to_show(folder):
    (folder.path/'<b>.png').write_bytes(b'no picture')
    folder.rows['train'][0][0] = '<b>.png'
    assert '<b>.png' not in folder.look()._repr_html_()


def test_a_second_look_decodes_nothing(folder, monkeypatch):
    cache = folder.path/'look.json'
    first = folder.look(cache=cache)
    assert first.decoded == 5 and not first.known
    monkeypatch.setattr('wood_nb.data.check.decode', lambda path: pytest.fail('decoded again'))
    again = folder.look(cache=cache)
    assert again.decoded == 0 and again.known and again.findings == first.findings
    os.utime(folder.path/'p0.png')      # the same bytes at another time
    assert folder.look(cache=cache).findings == first.findings
    monkeypatch.undo()
    truncated(folder)
    changed = folder.look(cache=cache)
    assert changed.decoded == 1 and changed.failed and not changed.known


@pytest.mark.parametrize('spoil', [lambda c: '{', lambda c: '[]', lambda c: json.dumps({**c, 'files': 3}),
                                   lambda c: json.dumps({**c, 'files': {k: {**v, 'size': 'large'} for k, v in c['files'].items()}}),
                                   lambda c: json.dumps({**c, 'files': {k: {**v, 'values': [300], 'hash': [[1]]} for k, v in c['files'].items()}}),
                                   lambda c: json.dumps({**c, 'files': {k: [1] for k in c['files']}, 'findings': 'x'})])
def test_a_damaged_memory_is_forgotten(folder, spoil):
    cache = folder.path/'look.json'
    first = folder.look(cache=cache)
    cache.write_text(spoil(json.loads(cache.read_text())))
    again = folder.look(cache=cache)
    assert again.decoded == 5 and again.findings == first.findings


def test_several_processes_see_the_same(folder, monkeypatch):
    monkeypatch.setattr('wood_nb.data.check._MANY', 2)
    assert folder.look(workers=2).findings == folder.look().findings


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes here')
def test_what_is_not_a_file_does_not_hang(folder):
    place = pool(folder)
    os.mkfifo(place/'pipe.jpg')
    (place/'folder.png').mkdir()
    found = folder.look(candidates=place)
    assert [o.count for o in found.of('skipped')] == [1] and 'pipe' in str(found.of('skipped')[0])


# --- the command ------------------------------------------------------------------------------------------------------------

def test_the_command(folder, capsys):
    place = pool(folder)
    folder.look()
    assert main(['check', '--data', f'csv:{folder.path}', '--candidates', str(place), '--workers', '1']) == 0
    assert '1 note' in capsys.readouterr().out
    truncated(folder)
    assert main(['check', '--data', f'csv:{folder.path}', '--workers', '1']) == 2
    out, err = capsys.readouterr()
    assert 'error' in out and 'p1.png' in err.splitlines()[-1] and 'Traceback' not in err
    assert main(['check', '--data', 'scenes:']) == 2 and main(['check']) == 2 and main(['check', '--data', 'csv:nowhere']) == 2


def test_a_run_looks_first(folder, capsys, monkeypatch):
    monkeypatch.setattr('wood_nb.runs.pipeline.execute', lambda *a: pytest.fail('training began'))
    truncated(folder)
    folder.look()
    words = ['run', '--data', f'csv:{folder.path}', '--out', str(folder.path/'run')]
    assert main(words) == 2 and 'p1.png' in capsys.readouterr().err.splitlines()[-1]
    began = []
    monkeypatch.setattr('wood_nb.runs.pipeline.execute', lambda *a: began.append(1))
    assert main([*words, '--no-check']) == 0 and began
    noise().save(folder.path/'p1.png')
    assert main(words) == 0 and main(words) == 0
    assert 'as at the last look' in capsys.readouterr().out and (folder.path/'run/check.json').is_file()


# --- readers: what is accepted, and what is said of the rest ------------------------------------------------------------------

@pytest.fixture
def voc(tmp_path):
    for name in ('JPEGImages', 'ImageSets/Segmentation', 'Annotations'): (tmp_path/name).mkdir(parents=True)

    def add(file, listed=None):
        noise().save(tmp_path/'JPEGImages'/file, 'JPEG')
        stem = file.rpartition('.')[0]
        (tmp_path/f'Annotations/{stem}.xml').write_text('<annotation><object><name>cat</name></object></annotation>')
        with open(tmp_path/'ImageSets/Segmentation/train.txt', 'a', encoding='utf-8') as file: file.write(f'{listed or stem}\n')
        return tmp_path
    return add


@pytest.mark.parametrize('file,listed,id', [('a.JPG', 'a', 'a'), ('a.jpeg', 'a', 'a'), ('a.PNG', 'a', 'a'), ('a.JPG', 'a.jpg', 'a'), ('a.jpg', 'a.jpg', 'a'),
                                            ('Photo 1.jpg', 'Photo 1', 'Photo 1'), ('a.b.Jpg', 'a.b', 'a.b'), ('1.tif', '/JPEGImages/1.png /Masks/1.png', '1')])
def test_voc_pictures_by_any_suffix(voc, file, listed, id):
    split = load_voc(voc(file, listed), 'train')
    assert split.ids == [id] and split[0].image.name == file and split[0].labels == (7,)


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_accents_in_either_form(voc, tmp_path, form):
    name, other = (unicodedata.normalize(o, 'café') for o in (form, {'NFC': 'NFD', 'NFD': 'NFC'}[form]))
    split = load_voc(voc(f'{name}.jpg', other), 'train')
    assert split.ids == [other] and split[0].labels == (7,) and 'accents' in split.notes[0]
    (tmp_path/'t.csv').write_text(f'image,labels\nJPEGImages/{other}.jpg,cat\n', encoding='utf-8')
    assert load_csv(tmp_path/'t.csv').image(0).mode == 'RGB'
    (tmp_path/'list.txt').write_text(f'{other}\n', encoding='utf-8')
    found = load_pool(tmp_path/'JPEGImages', tmp_path/'list.txt')
    assert found.image(0).mode == 'RGB' and found.ids == [name]      # manifests find a candidate by its id


@pytest.mark.parametrize('file,listed,words', [('2007_000032.jpg', '2007000032', 'underscore'), ('IMG_1.jpg', 'img_1', 'IMG_1.jpg'), ('a.jpg', 'b', 'no image')])
def test_what_is_there_instead(voc, file, listed, words):
    with pytest.raises(DataError, match=words): load_voc(voc(file, listed), 'train')


def test_a_mask_beside_a_picture_is_not_the_picture(tmp_path):
    noise().save(tmp_path/'a.png')
    (tmp_path/'t.csv').write_text('image,labels\na.jpg,cat\n')
    with pytest.raises(DataError, match='there is no image'): load_csv(tmp_path/'t.csv')


@pytest.mark.parametrize('text,ids', [('Photo 1\nPhoto 2\n', ['Photo 1', 'Photo 2']), ('2008_000001  1\n2008_000002 -1\n', ['2008_000001', '2008_000002']),
                                      ('/JPEGImages/a b.jpg /Masks/a b.png\n', ['a b']), ('JPEGImages/a.JPG\r\n', ['a'])])
def test_lines_of_lists(tmp_path, text, ids):
    (tmp_path/'l.txt').write_text(text)
    assert [id for _, id in read_ids(tmp_path/'l.txt')] == ids


@pytest.mark.parametrize('text', ['\ufeffimage;labels\r\na.png;"cat;dog"\r\n', 'Image,Labels\na.png,cat;dog\n', 'image, labels\na.png, cat;dog\n',
                                  'image\tlabels\na.png\tcat;dog\n', '"image";"labels"\n"a.png";"cat;dog"\n'])
def test_tables_as_spreadsheets_write_them(tmp_path, text):
    noise().save(tmp_path/'a.png')
    (tmp_path/'t.csv').write_text(text, encoding='utf-8')
    assert load_csv(tmp_path/'t.csv').classes == ('cat', 'dog')


def test_a_header_that_is_not_understood_is_shown(tmp_path):
    (tmp_path/'t.csv').write_text('file|class\na.png|cat\n')
    with pytest.raises(DataError, match=r"'file\|class'"): load_csv(tmp_path/'t.csv')


def test_a_stray_table_does_not_stop_a_split(tmp_path):
    noise().save(tmp_path/'a.png')
    (tmp_path/'train.csv').write_text('image,labels\na.png,cat\n')
    (tmp_path/'results.csv').write_bytes(b'\xff\xfe\0')
    split = open_split(f'csv:{tmp_path}', 'train')
    assert split.classes == ('cat',) and 'results.csv' in split.notes[0]


def test_links_of_a_pool(folder):
    place = pool(folder)
    far_away(folder, place)
    (place/'inside.jpg').symlink_to(place/'c0.jpg')
    (place/'sub2').mkdir()
    (place/'sub2/back').symlink_to(place)      # a circle
    found = load_pool(place)
    assert found.ids == ['c0', 'c1', 'c2', 'inside'] and '2 left out' in found.notes[0]
    allowed = load_pool(place, links=True)
    assert set(allowed.ids) == {'c0', 'c1', 'c2', 'inside', 'link', 'sub/far'} and not allowed.notes
    only = folder.path/'only'
    only.mkdir()
    (only/'x.jpg').symlink_to(folder.path/'elsewhere/far.jpg')
    with pytest.raises(DataError, match='--links'): load_pool(only)


# --- pixels -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind,top,suffix', [*((np.float32, top, 'tif') for top in (1, 255, 65535)), *((np.int32, top, 'tif') for top in (255, 4095, 65535)),
                                             *((np.uint16, top, suffix) for top in (4095, 65535) for suffix in ('tif', 'png')), (np.uint8, 255, 'png')])
def test_no_range_of_numbers_is_black(tmp_path, kind, top, suffix):
    ramp = np.linspace(0, top, 64).astype(kind)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path/f'x.{suffix}')
    found = np.asarray(read_image(tmp_path/f'x.{suffix}'))
    assert found.max() == 255 and len(np.unique(found)) == 64


@pytest.mark.parametrize('values', [np.linspace(-1, 1, 64, dtype=np.float32), np.linspace(0, 1e6, 64, dtype=np.float32), np.linspace(0, 2**30, 64).astype(np.int32)])
def test_numbers_of_no_known_range_are_refused(tmp_path, values):
    Image.fromarray(values[None].repeat(8, 0)).save(tmp_path/'x.tif')
    with pytest.raises(DataError, match='numbers from .* 8 bits'): read_image(tmp_path/'x.tif')


def deep_png(path, values):
    "A PNG with colours of 16 bits, which Pillow cannot write."
    import struct
    import zlib
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    h, w, _ = values.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 16, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def test_colours_of_16_bits(tmp_path):
    values = RNG.integers(0, 65536, (8, 9, 3))
    deep_png(tmp_path/'full.png', values)
    assert (np.asarray(read_image(tmp_path/'full.png')) == values >> 8).all()
    deep_png(tmp_path/'twelve.png', values >> 4)
    with pytest.raises(DataError, match='12-bit'): read_image(tmp_path/'twelve.png')


# --- scores and names --------------------------------------------------------------------------------------------------------

def test_scores_on_masks_without_a_class_are_warned_of():
    from wood_nb.scores.curves import ThresholdSweep
    from wood_nb.scores.seeds import Scores, confusion_matrix
    true = np.array([[0, 0], [255, 255]], np.uint8)
    with pytest.warns(UserWarning, match='empty seed scores 100'): Scores.from_confusion(confusion_matrix(true * 0, true, 3))
    sweep = ThresholdSweep(n_classes=2)
    sweep.add(np.ones((1, 2, 2), np.float32), [0], true)
    with pytest.warns(UserWarning, match='empty seed scores 100'): sweep.best()


def test_names_of_classes():
    assert not odd_names(['traffic light', 'light', 'potted-plant', 'black and white', 'cat', 'dog', 'rock'])
    for name in ('cat dog', 'cat_dog', 'dog-cat', 'cat/dog', 'cat+horse', 'owl|fox', 'owl,fox', 'cat;dog', 'CAT', 'dog ', 'cat & dog'):
        assert len(odd_names(['cat', 'dog', name])) >= 1, name


def test_a_finding_says_what_to_do():
    assert str(Finding('unreadable', 'train', 1, 'x')) == f'x; {KINDS["unreadable"][1]}' and Finding('notes', 'train', 1, 'x').remedy == ''
