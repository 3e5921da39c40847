"""Kinds of values: what fits, and where a fault is said to lie; archives that claim more than they hold; pipes."""
import io
import json
import os
import resource
import zipfile
from typing import Any

import numpy as np
import pytest

from wood_nb.base.files import check_plain, DataError, is_plain_name, parse_json, read_json, read_npz, read_text, write_npz
from wood_nb.base.formats import FORMATS
from wood_nb.base.schema import (Array, either, FLAG, kind_of, many, maybe, number, one_of, record, row_of, table, TEXT, whole)


@pytest.mark.parametrize('kind, good, bad', [
    (TEXT, ['', 'a'], [None, 1, ['a']]), (FLAG, [True, False], [0, 1, 'true', None]),
    (number(), [0, -1.5, 10**9], [True, '1', float('nan'), float('inf'), 10**400, None]), (number(0, 1), [0, 1, .5], [-.1, 1.1]),
    (whole(0), [0, 7], [-1, 1.0, True, 2**63]), (one_of('a', 1), ['a', 1], ['b', True, 1.0]), (maybe(TEXT), [None, 'a'], [1]),
    (either(TEXT, many(TEXT)), ['a', ['a']], [1, [1]]), (many(whole(), 2), [[1, 2], (1, 2)], [[1], [1, 'a'], 'ab', {}]),
    (row_of(TEXT, whole()), [['a', 1]], [[1, 'a'], ['a']]), (table(whole()), [{}, {'a': 1}], [[], {'a': 'b'}]),
    (record({'a': TEXT}, {'b': TEXT}), [{'a': ''}, {'a': '', 'z': 1}], [{}, {'a': 1}, {'a': '', 'b': 1}, []]),
    (record({'a': TEXT}, closed=True), [{'a': ''}], [{'a': '', 'z': 1}])])
def test_kinds(kind, good, bad):
    assert not [value for value in good if kind(value, 'x') is not None]
    assert not [value for value in bad if kind(value, 'x') is None]


@pytest.mark.parametrize('hint, good, bad', [
    (int | None, [None, 3], ['3', 3.5, True]), (float, [1, 1.5], ['1', None]), (tuple[str, ...], [['a'], ()], ['a', [1]]),
    (tuple[int, int], [[1, 2]], [[1], [1, 2, 3]]), (dict[str, int], [{'a': 1}], [{'a': 'b'}, []]), (dict, [{'a': []}], [1]), (Any, [1, None], [])])
def test_kinds_of_type_hints(hint, good, bad):
    assert not [v for v in good if kind_of(hint)(v, 'x')] and all(kind_of(hint)(v, 'x') for v in bad)


def test_the_place_of_a_fault():
    kind = record({'rows': many(record({'score': table(number(0, 100))}))})
    assert kind({'rows': [{'score': {}}, {'score': {'boat': 'high'}}]}, '') == "rows[1].score.boat is 'high', not a number from 0 to 100"
    assert kind({'rows': [{}]}, '') == 'rows[0].score is missing' and kind([], '') == 'the content is a list of 0, not an object'
    assert '\x1b' not in kind({'rows': [{'score': {'\x1b[2J': '\x1b[2J'}}]}, '') and len(kind({'rows': 'x' * 9999}, '')) < 200


def write(path, content, format='wood_nb.metrics', **more):
    path.write_text(json.dumps({'format': format, 'version': 1, **content, **more}))
    return path


ROW = {'method': 'cam', 'stage': 'seed', 'split': 'val', 'miou': 40.0, 'per_class': {'boat': 40.0}}


@pytest.mark.parametrize('change, said', [
    ({'miou': 'high'}, "results[0].miou is 'high'"), ({'miou': 140}, 'a number from 0 to 100'), ({'per_class': []}, 'results[0].per_class is a list of 0'),
    ({'per_class': {'boat': [1]}}, 'results[0].per_class.boat'), ({'crf': 'no'}, 'results[0].crf'), ({'method': None}, 'results[0].method is None')])
def test_a_row_of_metrics(tmp_path, change, said):
    with pytest.raises(DataError) as error: read_json(write(tmp_path/'m.json', {'results': [{**ROW, **change}]}), 'wood_nb.metrics')
    assert said in str(error.value) and str(error.value).startswith(f'{tmp_path}/m.json: ') and 'restore' in str(error.value)


def test_keys_of_others_are_kept_and_what_is_missing_is_named(tmp_path):
    assert read_json(write(tmp_path/'m.json', {'results': [{**ROW, 'mine': [1]}], 'theirs': 1}), 'wood_nb.metrics')['theirs'] == 1
    for content, format, said in [({}, 'wood_nb.run', 'config is missing'), ({'config': {}}, 'wood_nb.run', 'config.data is missing'),
                                  ({'points': [1]}, 'wood_nb.point', 'points[0] is 1, not an object'), ({'results': 1}, 'wood_nb.metrics', 'results is 1'),
                                  ({'classes': {}}, 'wood_nb.evaluation', 'method is missing')]:
        with pytest.raises(DataError, match='m.json: ') as error: read_json(write(tmp_path/'m.json', content, format), format)
        assert said in str(error.value)
    assert {'wood_nb.run', 'wood_nb.metrics', 'wood_nb.evaluation', 'wood_nb.point', 'wood_nb.manifest', 'wood_nb.maps', 'wood_nb.masks'} <= FORMATS.keys()


@pytest.mark.parametrize('text', ['[' * 50_000, '{"a":' * 50_000, '[' * 500 + ']' * 500, '{"a": NaN}', '{"a": [1e999]}', '1' * 5000])
def test_json_that_no_reader_can_use(tmp_path, text):
    (tmp_path/'x.json').write_text(f'{{"format": "wood_nb.x", "version": 1, "a": {text}}}')
    with pytest.raises(DataError, match='not valid JSON'): read_json(tmp_path/'x.json', 'wood_nb.x')
    if 'N' not in text and 'e' not in text:
        with pytest.raises(ValueError): parse_json(text)


def grown(work) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def header(shape, dtype='<f4') -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {'descr': dtype, 'fortran_order': False, 'shape': shape})
    return file.getvalue()


def archive(path, content: bytes, zeros=0):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file, file.open('a.npy', 'w') as member:
        member.write(content)
        for _ in range(zeros): member.write(bytes(2**20))
    return path


def test_a_small_archive_cannot_fill_the_memory(tmp_path):
    def read(path, said):
        with pytest.raises(DataError, match=said): read_npz(path)
    bomb = archive(tmp_path/'bomb.npz', header((400, 2**18)), 400)
    assert bomb.stat().st_size < 2**20 and grown(lambda: read(bomb, r'400 MB of memory.*may fill 256 MB')) < 100
    for shape in [(2**40,), (2**62, 2**62), (10**5, 10**5)]: read(archive(tmp_path/'lie.npz', header(shape) + bytes(400)), 'says .* but holds')
    np.save(tmp_path/'plain.npy', np.zeros(3)); (tmp_path/'plain.npy').rename(tmp_path/'plain.npz')
    read(tmp_path/'plain.npz', 'not a readable')
    with zipfile.ZipFile(tmp_path/'bz.npz', 'w', zipfile.ZIP_BZIP2) as file: file.writestr('a.npy', header((1,)) + bytes(4))
    read(tmp_path/'bz.npz', 'another way')


def test_arrays_are_what_they_must_be(tmp_path):
    path, rules = tmp_path/'a.npz', dict(a=Array('f', ['n', 3], 0, 1), b=Array('iu', ['n']), c=Array('U', [], needed=False))
    good = dict(a=np.zeros((2, 3), 'f4'), b=np.arange(2))
    write_npz(path, **good, other=np.arange(5))
    assert read_npz(path, **rules).keys() == {'a', 'b'} and read_npz(path).keys() == {'a', 'b', 'other'}
    for change, said in [(dict(a=np.zeros((2, 4), 'f4')), r"array 'a' is float32 \[2, 4\], not float \[2, 3\]"), (dict(b=np.arange(3)), r"'b' is int64 \[3\], not int or unsigned \[2\]"),
                         (dict(a=np.zeros((2, 3), int)), "'a' is int64"), (dict(c=np.array(1)), "'c' is int64"), (dict(a=np.full((2, 3), np.nan)), "'a' holds values from nan"),
                         (dict(a=np.full((2, 3), 2.0)), 'from 0 to 1')]:
        write_npz(path, **{**good, **change})
        with pytest.raises(DataError, match=said): read_npz(path, **rules)
    write_npz(path, a=good['a'])
    with pytest.raises(DataError, match="no array 'b'"): read_npz(path, **rules)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
def test_nobody_waits_for_a_pipe(tmp_path):
    from wood_nb.data.images import image_size, read_image, read_mask
    from wood_nb.data.sources import labels_from_xml
    from wood_nb.data.splits import read_list
    from wood_nb.maps.reference import read_object
    from wood_nb.nets.weights import read_metadata, read_state
    from wood_nb.ood.candidates import thumbnail
    from wood_nb.ood.pruning import read_screened
    from wood_nb.data.twins import small_grey
    os.mkfifo(pipe := tmp_path/'a.jpg')
    for read in (read_image, image_size, lambda p: read_mask(p, 2), small_grey, lambda p: labels_from_xml(p, ['a']), read_list, read_screened, read_state,
                 read_metadata, read_object, read_npz, read_text, lambda p: read_json(p, 'x')):
        with pytest.raises(DataError, match='a.jpg: is a pipe'): read(pipe)
    assert thumbnail(pipe).size == (96, 96)
    with pytest.raises(DataError, match='is a folder'): check_plain(tmp_path)
    with pytest.raises(DataError, match='character 0'): check_plain('a\0b')


def test_names_of_lists():
    assert all(map(is_plain_name, ['val', 'train_aug', 'a.b', '.hidden'])) and not any(map(is_plain_name, ['', ' ', '.', '..', 'a/b', '../x', 'a\\b', 'a\0', 'a\nb']))
