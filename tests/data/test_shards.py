"""Streams: order, shards of strangers, broken archives, known labels, every refusal."""
import gzip
import io
import tarfile
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.images import read_image, read_small
from wood_nb.data.shards import UNOPENED, Known, expand, label_names, open_parts, read_known
from wood_nb.data.sources import load_pool


def every(place, name): return True


def pack(path, files, mode='w', kinds=None):
    "A shard of (name, bytes); `kinds`: name -> tar's letter for its kind."
    with tarfile.open(path, mode) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), (kinds or {}).get(name, tarfile.REGTYPE)
            info.linkname = 'a.jpg' if kinds and name in kinds else ''
            tar.addfile(info, io.BytesIO(content))
    return path


def stream(path, wanted=every, **options):
    part, = open_parts([path], **options)
    return list(part.samples(wanted))


def test_a_folder_is_streamed_in_the_order_of_the_pool(tmp_path):
    for name in ('b.jpg', 'a/z.png', 'a b.jpg', 'a-1.jpg', 'a/b/c.JPG', 'note.txt', '.hidden.jpg', '.git/x.jpg', 'B.jpg'):
        (tmp_path/'pool'/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'pool'/name).write_bytes(name.encode())
    (tmp_path/'out.jpg').write_bytes(b'secret')
    (tmp_path/'pool'/'link.jpg').symlink_to(tmp_path/'out.jpg')
    found = stream(tmp_path/'pool')
    linked = [sample for sample in found if sample.why]
    assert [(sample.name, sample.content) for sample in linked] == [('link.jpg', b'')] and 'link out of' in linked[0].why
    pool = load_pool(tmp_path/'pool')
    assert [sample.name for sample in found if not sample.why] == [item.image.relative_to(tmp_path/'pool').as_posix() for item in pool.items]
    assert all(sample.content == sample.name.encode() for sample in found if not sample.why)


@pytest.mark.parametrize('name, mode', [('a.tar', 'w'), ('a.tar.gz', 'w:gz'), ('a.tar.xz', 'w:xz')])
def test_samples_of_a_shard(tmp_path, name, mode):
    files = [('./0.jpg', b'zero'), ('./0.json', b'{"label": "boat", "labels": ["x", 3]}'), ('d/0.cls', b'car;tram\n'), ('d/0.PNG', b'one'),
             ('d/0.seg.png', b'mask'), ('d/1.pth', b'?'), ('d/1.pickle', b'?'), ('._junk.jpg', b'?'), ('2.jpg', b'')]
    found = stream(pack(tmp_path/name, files, mode))
    assert [(s.name, s.content, set(s.labels)) for s in found if not s.why] == [('0.jpg', b'zero', {'boat', 'x'}),
                                                                               ('d/0.PNG', b'one', {'car', 'tram'}), ('2.jpg', b'', set())]
    assert [(s.name, s.content) for s in found if s.why] == [('d/1', b'')] and 'no picture among' in found[2].why


def test_what_is_not_wanted_is_not_read(tmp_path, monkeypatch):
    path = pack(tmp_path/'a.tar', [(f'{n}.jpg', b'x') for n in range(4)])
    read, asked = [], []
    extract = tarfile.TarFile.extractfile
    monkeypatch.setattr(tarfile.TarFile, 'extractfile', lambda tar, info: (read.append(info.name), extract(tar, info))[1])
    found = stream(path, lambda place, name: (asked.append((place, name)), name == '2.jpg')[1])
    assert read == ['2.jpg'] and asked == [(n, f'{n}.jpg') for n in range(4)]
    assert [s.why for s in found] == [UNOPENED, UNOPENED, '', UNOPENED]


@pytest.mark.parametrize('name, kind, said', [
    ('x.jpg', tarfile.SYMTYPE, 'a link'), ('x.jpg', tarfile.LNKTYPE, 'a link'), ('x.jpg', tarfile.CHRTYPE, 'a device'),
    ('x.jpg', tarfile.FIFOTYPE, 'a device'), ('/x.jpg', None, 'leads out'), ('a/../../x.jpg', None, 'leads out'),
    ('a\\x.jpg', None, 'characters'), ('a\udcff.jpg', None, 'characters'), ('a\nx.jpg', None, 'characters'), ('y'*201 + '.jpg', None, 'too long')])
def test_refused_members(tmp_path, name, kind, said):
    files = [('a.jpg', b'a'), (name, b'' if kind else b'x'), ('z.jpg', b'z')]
    first, odd, last = stream(pack(tmp_path/'a.tar', files, kinds={name: kind} if kind else None))
    assert odd.name.isprintable() and said in odd.why and odd.content == b'' and (first.content, last.content) == (b'a', b'z')


def huge_header(kind, size):
    info = tarfile.TarInfo('long')
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def test_broken_shards_say_so_and_keep_what_came_before(tmp_path):
    sound = pack(tmp_path/'a.tar', [('0.jpg', b'x'*600), ('1.jpg', b'y'*600)]).read_bytes()
    damaged = bytearray(sound)
    damaged[1536 + 10] ^= 1      # the second header
    cases = {'damaged': bytes(damaged), 'cut in a picture': sound[:1536 + 512 + 100], 'cut in a header': sound[:1536 + 100],
             'a header as large as the memory': sound[:1536] + huge_header(tarfile.XHDTYPE, 2**40) + sound[1536:],
             'a long name as large': sound[:1536] + huge_header(tarfile.GNUTYPE_LONGNAME, 2**33) + sound[1536:]}
    for what, content in cases.items():
        (tmp_path/'b.tar').write_bytes(content)
        first, last = stream(tmp_path/'b.tar')
        assert first.content == b'x'*600 and 'fetch the shard again' in last.why, what
    for name, content in (('c.tar', b''), ('d.tar', b'\x1f\x8b nonsense'*99), ('e.tar.gz', gzip.compress(sound)[:60])):
        (tmp_path/name).write_bytes(content)
        assert 'fetch the shard again' in stream(tmp_path/name)[-1].why, name


def test_sizes_are_limited_before_a_byte_is_read(tmp_path, monkeypatch):
    from wood_nb.data import shards
    monkeypatch.setattr(shards, 'LARGEST', 10)
    monkeypatch.setattr(shards, '_BESIDE', 1000)
    files = [('0.jpg', b'x'*11), ('1.jpg', b'x'*10), ('2.jpg', b'y'), ('2.json', b' '*1001), ('3.jpg', b'z'), ('3.json', b'{')]
    whys = [sample.why for sample in stream(pack(tmp_path/'a.tar', files))]
    assert 'too many' in whys[0] and whys[1] == '' and 'too many' in whys[2] and 'not valid JSON' in whys[3]
    (tmp_path/'pool').mkdir()
    (tmp_path/'pool'/'a.jpg').write_bytes(b'x'*11)
    assert 'store it smaller' in stream(tmp_path/'pool')[0].why


def test_memory_does_not_grow_with_the_shard(tmp_path):
    def peak(n):
        path = pack(tmp_path/f'{n}.tar', ((f'{i:06d}.jpg', b'x'*100) for i in range(n)))
        tracemalloc.start()
        assert sum(1 for part in open_parts([path]) for _ in part.samples()) == n
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top
    assert peak(800) < 1.2*peak(80)


def test_lists(tmp_path):
    (tmp_path/'pool'/'train').mkdir(parents=True)
    for name in ('a.jpg', 'b.jpg', 'train/c.jpg'): (tmp_path/'pool'/name).write_bytes(name.encode())
    (tmp_path/'l.csv').write_text('image,labels\na.jpg,boat;car\n./b.jpg,\nnone.jpg,\n../l.csv,\n')
    (tmp_path/'ids.csv').write_text('ImageID,Subset\na,test\nc,train\n')
    (tmp_path/'ids.txt').write_text('# ids\ntrain/c\nb.jpg\n')
    def read(name): return [(s.name, s.content != b'') for s in stream(tmp_path/name, root=tmp_path/'pool')]
    assert read('l.csv') == [('a.jpg', True), ('b.jpg', True), ('none.jpg', False), ('../l.csv', False)]
    assert stream(tmp_path/'l.csv', root=tmp_path/'pool')[0].labels == {'boat', 'car'}
    assert read('ids.csv') == [('a.jpg', True), ('train/c.jpg', True)] and read('ids.txt') == [('train/c.jpg', True), ('b.jpg', True)]
    (tmp_path/'odd.csv').write_text('name\na\n')
    with pytest.raises(DataError, match='lacks the column image or imageid'): stream(tmp_path/'odd.csv')


def test_parts(tmp_path):
    for name in ('a-00.tar', 'a-01.tar', 'a-02.tar'): pack(tmp_path/name, [])
    (tmp_path/'b').mkdir()
    pack(tmp_path/'b'/'a-00.tar', [])
    parts = open_parts([tmp_path/'a-{00..02}.tar', tmp_path/'b'/'a-*.tar', tmp_path/'b'])
    assert [part.label for part in parts] == ['a-00', 'a-01', 'a-02', 'a-00-2', 'b']
    assert expand('{8..10}/{0..1}.tar') == ['8/0.tar', '8/1.tar', '9/0.tar', '9/1.tar', '10/0.tar', '10/1.tar']
    for sources, said in ((['a-{00..03}.tar'], 'there is no .*a-03.tar'), (['x-*.tar'], 'there is no'), (['{2..1}.tar'], 'lower number'),
                          (['a-00.tar', './a-00.tar'], 'named twice'), (['c.zip'], 'neither a folder'), ([], 'no sources')):
        (tmp_path/'c.zip').touch()
        with pytest.raises(DataError, match=said): open_parts([tmp_path/source for source in sources])
    with pytest.raises(DataError, match='fetch it first'): open_parts(['https://a.org/b.tar'])


def test_known_labels(tmp_path):
    (tmp_path/'names.csv').write_text('LabelName,DisplayName\n/m/1,Airplane\n/m/2,Duck\n/m/3,Tree\n')
    rows = ['ImageID,Source,LabelName,Confidence', 'p1,v,/m/1,1', 'p2,v,/m/1,0', 'p3,v,/m/2,1.0', 'p4,v,/m/3,1', 'p5,m,/m/1,0.8']
    (tmp_path/'labels.csv').write_text('\n'.join(rows))
    def known(**options): return read_known(tmp_path/'labels.csv', ('aeroplane', 'bird'), tmp_path/'names.csv', **options)
    def found(k): return [n for n in range(1, 6) if k.has(f'train/p{n}.jpg')]
    assert found(known()) == [1, 5] and found(known(aliases={'bird': ('duck',)})) == [1, 3, 5] and not known().has('other.jpg')
    assert known().shows(['AIRPLANE']) and not known().shows(['duck']) and not Known().has('p1.jpg')
    (tmp_path/'own.csv').write_text('image,labels\nx/a.jpg,car;Bird\nb.jpg,car\n')
    own = read_known(tmp_path/'own.csv', ('bird',))
    assert own.has('x/a.png') and not own.has('a.png') and not own.has('b.jpg')
    with pytest.raises(DataError, match='--descriptions'): read_known(tmp_path/'labels.csv', ('bird',))
    with pytest.raises(DataError, match="'fish' is not a class"): label_names(('bird',), {'fish': ('cod',)})
    (tmp_path/'labels.csv').write_text('ImageID,LabelName,Confidence\na,bird,high\n')
    with pytest.raises(DataError, match="'high' of a is not a number"): read_known(tmp_path/'labels.csv', ('bird',))
    with pytest.raises(DataError, match='no such file'): read_known(tmp_path/'none.csv', ('bird',))


def test_a_small_decode_is_near_the_whole_one_and_refusals_name_the_picture(tmp_path, monkeypatch):
    from wood_nb.data import images
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC).save(tmp_path/'a.jpg', quality=95)
    content = (tmp_path/'a.jpg').read_bytes()
    def small(**options): return np.asarray(read_small(io.BytesIO(content), 'a.jpg', lambda size: (size[0]//8, size[1]//8), **options), float)
    whole = np.asarray(read_image(tmp_path/'a.jpg').resize((100, 75), Image.Resampling.BICUBIC), float)
    assert (small(exact=True) == whole).all() and 0 < np.abs(small() - whole).mean() < 2
    for bad in (b'', b'no picture', content[:900]):
        with pytest.raises(DataError, match='^shard/a.jpg: '): read_small(io.BytesIO(bad), 'shard/a.jpg', lambda size: size)
    monkeypatch.setattr(images, '_MOST_PIXELS', 1000)
    with pytest.raises(DataError, match='800 x 600 pixels are too many'): read_small(io.BytesIO(content), 'a.jpg', lambda size: size)
