"""Files of the reference: what it writes is read, and nothing in it is run."""
import collections
import io
import os
import pickle
import resource
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from wood_nb.base.files import DataError, read_json
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import load_maps
from wood_nb.maps.reference import bring_in, read_object, read_reference_cam

KEYS, CAM = np.array([3, 11]), np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
FULL = np.random.default_rng(1).random((2, 18, 23)).astype(np.float32)


def content(**other): return {'keys': torch.from_numpy(KEYS), 'cam': torch.from_numpy(CAM), 'high_res': FULL, **other}


def write(path, value, protocol=4):
    "As numpy.save writes an object, at any pickle protocol."
    header = {'descr': '|O', 'fortran_order': False, 'shape': ()}
    with open(path, 'wb') as file:
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(np.array(value, dtype=object), file, protocol=protocol)
    return path


@pytest.mark.parametrize('protocol', [3, 4])
@pytest.mark.parametrize('kind', [
    lambda a: a, torch.from_numpy, lambda a: torch.from_numpy(np.stack([a, a]))[1], lambda a: torch.from_numpy(np.moveaxis(a, -1, 0).copy()).movedim(0, -1), np.asfortranarray])
def test_arrays_and_tensors_come_back(tmp_path, kind, protocol):
    path = write(tmp_path/'a.npy', content(cam=kind(CAM), high_res=kind(FULL), keys=kind(KEYS)), protocol)
    maps = read_reference_cam(path)
    assert maps.keys.tolist() == [3, 11] and maps.size == (18, 23) and maps.keys.dtype == np.int64
    assert np.array_equal(maps.stride4, CAM) and np.array_equal(maps.full, FULL)


def test_as_numpy_saves(tmp_path):
    np.save(tmp_path/'a.npy', content())
    assert np.array_equal(read_reference_cam(tmp_path/'a.npy').full, FULL)


@pytest.mark.parametrize('dtype', ['float16', 'float64', '>f4', 'int64'])
def test_types_of_numbers(tmp_path, dtype):
    maps = read_reference_cam(write(tmp_path/'a.npy', content(high_res=(4 * FULL).astype(dtype))))
    assert np.allclose(maps.full, (4 * FULL).astype(dtype), atol=1e-3) and maps.full.dtype == np.float32


def test_classes_ascend(tmp_path):
    maps = read_reference_cam(write(tmp_path/'a.npy', content(keys=torch.tensor([11, 3]))))
    assert maps.keys.tolist() == [3, 11] and np.array_equal(maps.full, FULL[::-1])


def test_psa_and_npz(tmp_path):
    maps = read_reference_cam(write(tmp_path/'psa.npy', {11: FULL[1], 3: FULL[0]}))
    assert maps.keys.tolist() == [3, 11] and np.array_equal(maps.full, FULL) and maps.stride4.shape == (2, 5, 6)
    np.savez(tmp_path/'copy.npz', keys=KEYS, cam=CAM, high_res=FULL)
    assert np.array_equal(read_reference_cam(tmp_path/'copy.npz').stride4, CAM)


def test_no_class_at_all(tmp_path):
    maps = read_reference_cam(write(tmp_path/'a.npy', {'keys': np.zeros(0, int), 'cam': np.zeros((0, 5, 6), 'f4'), 'high_res': np.zeros((0, 18, 23), 'f4')}))
    assert len(maps.keys) == 0 and maps.size == (18, 23)


class Calls:
    def __init__(self, function, *arguments): self.what = function, arguments
    def __reduce__(self): return self.what


class Plain:
    def __init__(self): self.x = 1


@pytest.mark.parametrize('guest', [
    lambda p: Calls(os.system, f'touch {p}'), lambda p: Calls(subprocess.Popen, ['touch', str(p)]), lambda p: Calls(eval, '1'),
    lambda p: Calls(getattr, Plain, '__init__'), lambda p: Plain(), lambda p: Plain, lambda p: collections.Counter('ab'), lambda p: {1, 2},
    lambda p: Calls(open, str(p), 'w'), lambda p: Calls(np.load, str(p)), lambda p: Calls(torch.load, str(p)), lambda p: np.array([Plain()]),
    lambda p: Calls(torch.hub.load, 'x', 'y'), lambda p: 1.5, lambda p: range(3)])
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_nothing_is_run(tmp_path, guest, protocol):
    path = write(tmp_path/'trap.npy', content(guest=guest(tmp_path/'guest')), protocol)
    with pytest.raises(DataError, match='trap.npy'): read_reference_cam(path)
    assert not (tmp_path/'guest').exists()


def test_a_storage_with_a_guest(tmp_path):
    "The bytes of a tensor are a pickle too."
    inner = pickle.dumps(Calls(os.system, f'touch {tmp_path/"guest"}'))
    path = write(tmp_path/'trap.npy', content(cam=Calls(torch.storage._load_from_bytes, inner)))
    with pytest.raises(DataError, match='trap.npy'): read_reference_cam(path)
    assert not (tmp_path/'guest').exists()


def test_a_tensor_beyond_its_numbers(tmp_path):
    storage = torch.from_numpy(CAM).clone().storage()
    for offset, size, stride in [(50, (2, 5, 6), (30, 6, 1)), (0, (2, 5, 600), (30, 6, 1)), (-1, (2, 5, 6), (30, 6, 1)), (0, (2, 5, 6), (30, 6, -1))]:
        trap = Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())
        with pytest.raises(DataError, match='beyond'): read_object(write(tmp_path/'a.npy', content(cam=trap)))


def test_the_refusal_names_what_and_the_way_round(tmp_path):
    with pytest.raises(DataError, match=r"asks for '(posix|nt)\.system'.*where it was made.*savez"):
        read_reference_cam(write(tmp_path/'a.npy', content(x=Calls(os.system, 'true'))))


@pytest.mark.parametrize('make, says', [
    (lambda p: None, 'no such file'),
    (lambda p: p.write_bytes(b''), 'damaged'),
    (lambda p: p.write_bytes(b'\x93NUMPY'), 'damaged'),
    (lambda p: write(p, content()) and p.write_bytes(p.read_bytes()[:600]), 'damaged'),
    (lambda p: np.save(p, np.zeros((2, 3))), 'where a dictionary of maps is expected'),
    (lambda p: write(p, [1, 2]), 'damaged|no maps'),
    (lambda p: write(p, content(cam=torch.zeros(2, 4, 4))), 'a quarter of it'),
    (lambda p: write(p, content(keys=torch.tensor([1]))), 'for 1 classes'),
    (lambda p: write(p, content(keys=torch.tensor([1, 1]))), 'twice'),
    (lambda p: write(p, content(high_res=FULL * np.nan)), 'NaN'),
    (lambda p: write(p, {'keys': KEYS, 'cam': CAM}), 'high_res'),
    (lambda p: zipfile.ZipFile(p, 'w').close(), 'damaged')])
def test_other_files_are_one_clear_error(tmp_path, make, says):
    make(tmp_path/'a.npy')
    with pytest.raises(DataError, match=says): read_reference_cam(tmp_path/'a.npy')


def test_cut_anywhere(tmp_path):
    whole = write(tmp_path/'a.npy', content()).read_bytes()
    for end in range(0, len(whole), 97):
        (tmp_path/'b.npy').write_bytes(whole[:end])
        with pytest.raises(DataError, match='b.npy'): read_reference_cam(tmp_path/'b.npy')


def test_bits_turned(tmp_path):
    "A damaged file gives maps or an error, never anything else."
    whole, rng = write(tmp_path/'a.npy', content()).read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(whole)
        for place in rng.integers(0, len(bad), 3): bad[place] ^= 1 << rng.integers(8)
        (tmp_path/'b.npy').write_bytes(bytes(bad))
        try: read_reference_cam(tmp_path/'b.npy')
        except DataError: pass


@pytest.fixture
def split(tmp_path):
    from PIL import Image
    Image.new('RGB', (23, 18)).save(tmp_path/'a.png')
    return Split('train', [Item('a', tmp_path/'a.png', (3, 11))], tuple('abcdefghijkl'))


def test_a_folder_is_brought_in(split, tmp_path, capsys):
    write(tmp_path/'a.npy', content())
    bring_in(split, tmp_path, tmp_path/'told', 'advcam', title='brought')
    assert 'brought' in capsys.readouterr().err
    out = bring_in(split, tmp_path, tmp_path/'maps', 'advcam', title=None)
    maps = load_maps(out/'a.npz')
    assert np.allclose(maps.stride4, CAM, atol=1e-3) and np.allclose(maps.full, FULL, atol=1e-3)
    assert read_json(out/'maps.json', 'wood_nb.maps')['method'] == 'advcam'
    mark = (out/'a.npz').stat().st_mtime_ns
    assert bring_in(split, tmp_path, out, 'advcam', title=None) == out and (out/'a.npz').stat().st_mtime_ns == mark
    assert not capsys.readouterr().err, 'no bar without a title'


@pytest.mark.parametrize('value, says', [
    (lambda: content(keys=torch.tensor([3, 10])), 'class 10, which is not among the labels of a'),
    (lambda: content(cam=torch.zeros(2, 3, 3), high_res=np.zeros((2, 9, 9), 'f4')), r'of \[9, 9\], but a is \[18, 23\]')])
def test_maps_of_other_images_are_refused(split, tmp_path, value, says):
    write(tmp_path/'a.npy', value())
    with pytest.raises(DataError, match=says): bring_in(split, tmp_path, tmp_path/'maps', title=None)


# --- files that claim more than they hold ------------------------------------------------------------------------------------
def pickled(path, *program):
    "A file of the reference with a hand-written pickle, whose last thing is the dictionary."
    with open(path, 'wb') as file:
        np.lib.format.write_array_header_1_0(file, {'descr': '|O', 'fortran_order': False, 'shape': ()})
        file.write(b'\x80\x04' + b''.join(program) + b'.')
    return path


def growth(path, says) -> int:
    "MB of memory by which a refusal makes the process grow."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=says) as error: read_reference_cam(path)
    assert 'a.npy: ' in str(error.value)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def test_a_tensor_of_stride_0_is_as_large_as_its_storage(tmp_path):
    storage = torch.zeros(1).storage()
    trap = Calls(torch._utils._rebuild_tensor_v2, storage, 0, (20, 5000, 5000), (0, 0, 0), False, collections.OrderedDict())
    assert growth(write(tmp_path/'a.npy', content(high_res=trap)), 'beyond its numbers') < 50


def test_one_array_many_times_is_more_than_the_file_holds(tmp_path):
    big = np.zeros((500, 500), np.float32)
    path = write(tmp_path/'a.npy', {n: big for n in range(3000)})
    assert path.stat().st_size < 2**21 and growth(path, 'more numbers than the .* bytes of the file hold') < 50


def test_a_compressed_archive_within(tmp_path):
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save(torch.zeros(2**22).storage(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist(): new.writestr(name, old.read(name))
    path = write(tmp_path/'a.npy', content(cam=Calls(torch.storage._load_from_bytes, packed.getvalue())))
    assert path.stat().st_size < 2**18 and growth(path, 'a compressed archive in the archive') < 20


def nested_lists(deep=9, wide=20) -> list:
    made = 1
    for _ in range(deep): made = [made] * wide
    return made


@pytest.mark.parametrize('value', [nested_lists(), [[1, 2], [3]], {'a': 1}, 'text', tuple([tuple([1] * 20)] * 20), None])
def test_lists_lie_outermost(tmp_path, value):
    assert growth(write(tmp_path/'a.npy', content(keys=value)), 'no array, or a list in a list') < 20
    assert read_reference_cam(write(tmp_path/'b.npy', content(keys=[3, 11]))).keys.tolist() == [3, 11]


def test_nobody_counts_what_is_nested_without_end(tmp_path):
    "A tuple of tuples through the memo, as a key, a name, a type, a shape: its hash or its text would take years."
    deep = b'K\x01' + b''.join(b'\x94' + b'h' + bytes([n]) + b'h' + bytes([n]) + b'\x87' for n in range(60))      # TUPLE3 of the last, thrice
    array = b'cnumpy.core.multiarray\n_reconstruct\n)R'
    for trap in (b'}' + deep + b'K\x01s', b'}' + b'\x8c\x01a' + deep + b'\x8c\x01b\x93s', b'}' + b'\x8c\x01acnumpy\ndtype\n(' + deep + b'tRs',
                 b'}\x8c\x01a' + array + b'(K\x01(' + deep + b'tcnumpy\ndtype\n(\x8c\x02f4tRNC\x04\0\0\0\0tbs', b'ccollections\nOrderedDict\n](' + deep + b'K\x01\x86e\x85R'):
        with pytest.raises(DataError, match='a.npy'): read_reference_cam(pickled(tmp_path/'a.npy', trap))


def test_the_same_bytes_over_and_over(tmp_path):
    content = io.BytesIO()
    torch.save(torch.zeros(1000).storage(), content)
    call = b'ctorch.storage\n_load_from_bytes\n'
    first = b'B' + len(content.getvalue()).to_bytes(4, 'little') + content.getvalue() + b'\x94'
    path = pickled(tmp_path/'a.npy', call + first + b'\x85R', *[call + b'h\0\x85R'] * 100)
    with pytest.raises(DataError, match='over and over'): read_reference_cam(path)
