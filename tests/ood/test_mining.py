"""Mining: bounded memory, the order of things, near-duplicates at every angle, rules by name, every refusal."""
import io
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from wood_nb.train.predict import Prediction
from wood_nb.base.files import DataError
from wood_nb.data.sources import load_pool
from wood_nb.ood.manifest import Manifest
from wood_nb.ood.mining import flag_duplicates, mine, random_candidates, rank_candidates
from wood_nb.ood.pruning import prune_auto, prune_file, prune_none, read_screened, typical_p
from wood_nb.data.twins import (find_duplicates, find_leaks, group_pairs, hamming, hash_items, near_pairs,
                               perceptual_hash, shrink, small_grey)

CLASSES = ('boat', 'train')


def scene(seed, size=(90, 60)):
    "A random smooth picture: blurred noise, different for every seed."
    noise = np.random.default_rng(seed).integers(0, 255, (7, 9, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def make_pool(root, n=12):
    root.mkdir(parents=True, exist_ok=True)
    for i in range(n): scene(i).save(root/f'p{i:02d}.png')
    return load_pool(root)


def batches(p, size=3, order=None):
    "Rows of p as predictions, in batches."
    p, order = np.asarray(p, np.float32), np.arange(len(p)) if order is None else np.asarray(order)
    for i in range(0, len(p), size):
        at = order[i:i + size]
        yield Prediction(at, p[at], np.zeros((len(at), 2), np.float32))


@pytest.fixture
def pool(tmp_path): return make_pool(tmp_path/'pool')


@pytest.fixture
def p(): return np.random.default_rng(1).random((12, 2)).astype(np.float32)


# --- ranking ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('size', [1, 5, 12])
@pytest.mark.parametrize('k', [1, 3, 100])
def test_rank_equals_sorting(p, size, k):
    order = np.random.default_rng(2).permutation(12)
    tally = rank_candidates(batches(p, size, order), CLASSES, .5, k)
    for c, name in enumerate(CLASSES):
        rows = [i for i in range(12) if p[i].argmax() == c and p[i, c] > .5]
        rows.sort(key=lambda i: (-p[i, c], i))
        assert [i for _, i in tally.top[name]] == rows[:k] and tally.above[name] == len(rows)
    assert tally.scored == 12 and tally.highest == p.max()


def test_ties_go_to_the_first_and_threshold_is_strict():
    p = np.array([[.5, 0], [.8, 0], [.8, .8], [.8, 0]])
    assert rank_candidates(batches(p, 2, [3, 2, 1, 0]), CLASSES, .5, 2).top['boat'] == [(pytest.approx(.8), 1), (pytest.approx(.8), 2)]
    assert rank_candidates(batches(p), CLASSES, .5, 9).above == {'boat': 3, 'train': 0}


def test_memory_does_not_grow_with_the_pool():
    rng = np.random.default_rng(0)
    stream = (Prediction(np.arange(i, i + 500), rng.random((500, 20), np.float32), None) for i in range(0, 60_000, 500))
    tracemalloc.start()
    tally = rank_candidates(stream, [str(i) for i in range(20)], .5, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tally.scored == 60_000 and peak < 600_000  # p alone would be 4.8 MB


def test_mine(pool, p):
    manifest = mine(batches(p), pool, CLASSES, threshold=.3, per_class=4, source={'weights': 'abc'})
    assert manifest.source == {'rank': 'hardest', 'threshold': .3, 'per_class': 4, 'scored': 12, 'weights': 'abc', 'above': manifest.source['above']}
    assert manifest.pool['images'] == 12 and len(manifest.pool['sha256']) == 64
    for id, c in manifest.images.items():
        row = p[int(id[1:])]
        assert c.file == f'{id}.png' and c.predicted == CLASSES[row.argmax()] and c.p == pytest.approx(row.max(), abs=1e-6)
    assert max(map(len, manifest.by_class().values())) == 4


@pytest.mark.parametrize('call, said', [
    (dict(threshold=1.0), 'threshold'), (dict(per_class=0), 'at least 1'), (dict(threshold=.9999), r'none of 12 pictures .*the highest is 0\.\d+')])
def test_mine_refusals(pool, p, call, said):
    with pytest.raises(DataError, match=said): mine(batches(p*.99), pool, CLASSES, **call)


def test_predictions_that_do_not_fit(pool, p):
    with pytest.raises(DataError, match='do not fit 3 classes'): mine(batches(p), pool, ('a', 'b', 'c'))
    p[3, 1] = np.nan
    for call in (lambda: mine(batches(p), pool, CLASSES), lambda: random_candidates(batches(p), pool, CLASSES, 3)):
        with pytest.raises(DataError, match='training diverged'): call()


def test_random_candidates(pool, p):
    def draw(seed, **options): return list(random_candidates(batches(p, **options), pool, CLASSES, 5, seed).images)
    assert draw(0) == draw(0, size=1) == draw(0, order=np.arange(12)[::-1]) != draw(1)
    counts = np.zeros(12)
    for seed in range(400):
        for id in draw(seed): counts[int(id[1:])] += 1
    assert abs(counts/400 - 5/12).max() < .1 and random_candidates(batches(p), pool, CLASSES, 5).source['rank'] == 'random'
    for n, said in ((0, 'at least one'), (13, '12 readable')):
        with pytest.raises(DataError, match=said): random_candidates(batches(p), pool, CLASSES, n)


def test_mine_pool_skips_and_counts(tmp_path):
    from wood_nb.ood.mining import mine_pool
    from wood_nb.nets.backbones import build_net
    pool = make_pool(tmp_path/'pool', 5)
    (tmp_path/'pool'/'p02.png').write_bytes(b'')
    pool = load_pool(tmp_path/'pool')
    known = make_pool(tmp_path/'val', 2)
    known.name = 'val'
    skipped = []
    net = build_net('tiny', CLASSES)
    manifest = mine_pool(net, pool, [known], threshold=0.0, skipped=skipped, batch_size=2, title=None)
    assert set(manifest.images) == {'p00', 'p01', 'p03', 'p04'} and manifest.source['skipped'] == 1 == len(skipped)
    assert 'p02' in skipped[0]['file'] and manifest.flags('leak_of') == {'p00': 'val/p00', 'p01': 'val/p01'}


# --- hashes ----------------------------------------------------------------------------------------------------------
def grey(image):
    buffer = io.BytesIO()
    image.save(buffer, 'PNG')
    return shrink(small_grey(io.BytesIO(buffer.getvalue())))


def bits(a, b): return (a ^ b).bit_count()


@pytest.mark.parametrize('seed', range(5))
def test_hash_is_robust_and_telling(seed):
    image = scene(seed, (300, 200))
    plain, mirrored = perceptual_hash(grey(image))
    assert plain.bit_count() == 32
    jpeg = io.BytesIO()
    image.save(jpeg, 'JPEG', quality=40)
    for other in (image.resize((120, 80)), Image.open(jpeg), image.convert('L'), image.convert('RGB').point(lambda v: .8*v + 20)):
        assert bits(plain, perceptual_hash(grey(other))[0]) <= 3
    assert bits(mirrored, perceptual_hash(grey(ImageOps.mirror(image)))[0]) <= 2
    assert bits(plain, mirrored) > 10 and bits(plain, perceptual_hash(grey(scene(seed + 50)))[0]) > 10


def test_hash_of_every_kind_of_file(tmp_path):
    image = scene(3, (256, 192))
    kinds = {'a.jpg': image, 'b.png': image, 'c.png': image.convert('P'), 'd.png': image.convert('RGBA'), 'e.jpg': image.convert('CMYK'),
             'f.png': image.convert('L'), 'h.webp': image}
    for name, it in kinds.items(): it.save(tmp_path/name)
    Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16)*256).save(tmp_path/'g.png')
    for name in ('x.jpg', 'y.png'): (tmp_path/name).write_bytes((tmp_path/('a.jpg' if name == 'x.jpg' else 'b.png')).read_bytes()[:400])
    skipped = []
    hashes = hash_items(load_pool(tmp_path).items, skipped=skipped)
    assert hashes.names == list('abcdefgh') and {s['file'] for s in skipped} == {'x', 'y'}
    assert max(bits(int(h), int(hashes.plain[0, 0])) for h in hashes.plain[:, 0]) <= 3
    assert find_duplicates(hashes) == {name: 'a' for name in 'bcdefgh'}


def test_flat_pictures_have_no_hash_of_noise(tmp_path):
    for i, colour in enumerate(('black', 'white', 'teal')): Image.new('RGB', (64, 48), colour).save(tmp_path/f'{i}.png')
    assert not hash_items(load_pool(tmp_path).items).plain.any()


def test_no_hashes():
    none = hash_items([])
    assert len(none.plain) == 0 and find_duplicates(none) == {} and find_leaks(none, none) == {}


@pytest.mark.parametrize('radius', [0, 1, 2, 3])
def test_near_pairs_equal_brute_force(radius):
    rng = np.random.default_rng(radius)
    base = rng.integers(0, 2**64, 300, dtype=np.uint64)
    flips = [base]
    for n in (1, 2, 3, 4, 5):  # copies with n bits flipped, so that some lie just outside
        copy = base.copy()
        for row in range(300): copy[row] ^= np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, n, replace=False).astype(np.uint64))
        flips.append(copy)
    hashes = np.concatenate(flips)
    brute = np.argwhere(np.triu(hamming(hashes[:, None], hashes[None]) <= radius, 1))
    assert (near_pairs(hashes, radius) == brute).all() and len(near_pairs(hashes, radius)) == len(brute)


def test_near_pairs_of_crowded_bands():
    "All in a few buckets: still exact, and nothing is lost between steps."
    hashes = np.unique(np.random.default_rng(0).integers(0, 2**12, 700, dtype=np.uint64))
    brute = np.argwhere(np.triu(hamming(hashes[:, None], hashes[None]) <= 3, 1))
    assert (near_pairs(hashes) == brute).all()
    for few in (np.zeros(0, np.uint64), hashes[:1]): assert near_pairs(few).shape == (0, 2)
    for radius in (-1, 4):
        with pytest.raises(DataError, match='up to 3 bits'): near_pairs(hashes, radius)


def test_hamming_without_numpy_2(monkeypatch):
    a, b = np.random.default_rng(0).integers(0, 2**64, (2, 5, 4), dtype=np.uint64)
    new = hamming(a, b)
    monkeypatch.delattr(np, 'bitwise_count', raising=False)
    assert (hamming(a, b) == new).all()
    assert (new == [[int(x ^ y).bit_count() for x, y in zip(r, s)] for r, s in zip(a.tolist(), b.tolist())]).all()


def test_groups():
    assert group_pairs(0, []) == [] and group_pairs(5, [(4, 3), (3, 1), (0, 2)]) == [0, 1, 0, 1, 1]


def test_duplicates_and_leaks(tmp_path):
    from wood_nb.ood.candidates import Candidate
    from wood_nb.ood.manifest import fingerprint
    pool = make_pool(tmp_path/'pool', 6)
    scene(2).resize((200, 140)).save(tmp_path/'pool'/'a_big_2.png')
    ImageOps.mirror(scene(2)).save(tmp_path/'pool'/'z_mirror_2.png')
    pool, train = load_pool(tmp_path/'pool'), make_pool(tmp_path/'train', 1)
    ImageOps.mirror(scene(4)).save(tmp_path/'train'/'other.jpg')
    scene(77).save(tmp_path/'train'/'p00.png')
    train = load_pool(tmp_path/'train', name='train')
    images = {item.id: Candidate(item.image.name, 'boat', .9 - .01*i) for i, item in enumerate(pool.items)}
    images['z_mirror_2'].p = .99
    manifest = Manifest(CLASSES, images, fingerprint(pool))
    for _ in range(2):  # flagging again changes nothing
        flag_duplicates(manifest, pool, [train])
        assert manifest.flags() == {'a_big_2': 'z_mirror_2', 'p02': 'z_mirror_2'}
        assert manifest.flags('leak_of') == {'p04': 'train/other'}
    flag_duplicates(manifest, pool)
    assert not manifest.flags('leak_of')


def test_a_leak_names_the_nearest():
    from wood_nb.data.twins import Hashes
    def hashes(**values):
        spread = np.array([[v]*3 for v in values.values()], np.uint64)
        return Hashes(list(values), spread, ~spread)
    pool, known = hashes(a=0b111, b=1 << 50), hashes(x=0b0, y=0b110, z=0b1111)
    assert find_leaks(pool, known) == {'a': 'y', 'b': 'x'} and find_leaks(pool, known, 0) == {}
    assert find_leaks(hashes(a=7), hashes(x=6, y=7)) == {'a': 'y'}


@pytest.mark.parametrize('seed', range(4))
def test_crops_and_copies_are_found(tmp_path, seed):
    rng = np.random.default_rng(seed)
    for i in range(12):
        image = scene(100*seed + i, (240, 180))
        image.save(tmp_path/f'{i:02d}.png')
        margin = rng.uniform(.01, .03)
        box = (margin*240, margin*180, 240 - margin*240, 180 - margin*180)
        copy = image.resize(image.size, Image.Resampling.BICUBIC, box).point(lambda v: v*.95)
        (ImageOps.mirror(copy) if i % 2 else copy).save(tmp_path/f'{i:02d}_copy.jpg')
    found = find_duplicates(hash_items(load_pool(tmp_path).items))
    assert set(found.items()) <= {(f'{i:02d}_copy', f'{i:02d}') for i in range(12)} and len(found) >= 11


@pytest.mark.slow
def test_a_million_hashes():
    import time
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 1_000_000, dtype=np.uint64)
    hashes[500_000:500_500] = hashes[:500] ^ np.uint64(0b10001 << 30)
    start = time.perf_counter()
    pairs = near_pairs(hashes)
    print(f'{time.perf_counter() - start:.1f} s')
    assert {(i, i + 500_000) for i in range(500)} <= set(map(tuple, pairs.tolist())) and len(pairs) < 520


# --- rules -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def mined(pool):
    p = np.zeros((12, 2), np.float32)
    p[:6, 0], p[6:, 1] = np.linspace(.95, .6, 6), np.linspace(.95, .6, 6)
    return mine(batches(p), pool, CLASSES)


def test_prune_none(mined):
    mined.decide('p00', 'drop', ['boat'], by='jane')
    assert prune_none(mined) == 11 and mined.images['p00'].decision == 'drop' and mined.images['p01'].by == 'auto:none'
    assert prune_none(mined, overwrite=True) == 12 and len(mined.kept()) == 12
    mined.undo(), mined.undo()
    assert mined.progress() == (1, 12)


def test_prune_auto(mined):
    assert prune_auto(mined, {'boat': .8, 'train': .7}) == 12
    for id, c in mined.images.items():
        limit = {'boat': .8, 'train': .7}[c.predicted]
        assert (c.decision, c.contains, c.by) == (('drop', [c.predicted], 'auto:typical') if c.p >= limit else ('keep', [], 'auto:typical'))
    assert len(mined.history) == 1 and mined.undo() and mined.progress()[0] == 0
    with pytest.raises(DataError, match='no training image is labelled train'): prune_auto(mined, {'boat': .8})
    assert mined.progress()[0] == 0


def test_typical_p(pool, p):
    from dataclasses import replace
    labels = [(0,), (0, 1), (0,), ()] + [()]*8
    split = replace(pool, classes=(*CLASSES, 'cat'), items=[replace(i, labels=y) for i, y in zip(pool.items, labels)])
    p = np.concatenate([p, p[:, :1]], 1)
    typical = typical_p(batches(p, order=np.arange(12)[::-1]), split)
    assert typical == {'boat': pytest.approx(np.median(p[:3, 0])), 'train': pytest.approx(p[1, 1])}


def screened(tmp_path, rows, header='image,scene,contains'):
    path = tmp_path/'screened.csv'
    path.write_text('\n'.join([header, *rows]) + '\n')
    return path


ROWS = ['p00.png,quay,', 'p01.png,quay,boat', 'p02.png,quay,boat?', 'p03.png,quay,chair', 'p04.png,quay,chair?;train', 'p05.png,quay,drawing',
        'nowhere.png,x,boat']


@pytest.mark.parametrize('options, dropped', [
    ({}, {'p01': ['boat'], 'p02': ['boat'], 'p04': ['train']}), ({'unsure': False}, {'p01': ['boat'], 'p04': ['train']}),
    ({'counts': 'voc'}, {'p01': ['boat'], 'p02': ['boat'], 'p03': [], 'p04': ['train']}),
    ({'counts': 'voc', 'unsure': False}, {'p01': ['boat'], 'p03': [], 'p04': ['train']}),
    ({'counts': 'any'}, {'p01': ['boat'], 'p02': ['boat'], 'p03': [], 'p04': ['train'], 'p05': []})])
def test_prune_file(mined, tmp_path, options, dropped):
    path = screened(tmp_path, ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert prune_file(mined, path, **options) == 6
    assert {id: mined.images[id].contains for id in mined.with_decision('drop')} == dropped
    assert len(mined.kept()) == 6 - len(dropped) and mined.images['p02'].note == 'boat?'
    assert {mined.images[id].by for id in mined.kept()} == {'file:screened.csv'} and mined.progress() == (6, 12)


def test_prune_file_names(tmp_path):
    for folder in ('a', 'b'): make_pool(tmp_path/'pool'/folder, 2)
    scene(9).save(tmp_path/'pool'/'a'/'only.png')
    pool = load_pool(tmp_path/'pool')
    manifest = mine(batches(np.full((5, 2), .9)), pool, CLASSES)
    assert prune_file(manifest, screened(tmp_path, ['a/p00.png,', 'b/p01,boat', 'only.png,', 'p01.png,boat'], 'image,contains')) == 3
    assert set(manifest.kept()) == {'a/p00', 'a/only'} and manifest.with_decision('drop') == ['b/p01']


@pytest.mark.parametrize('rows, header, said', [
    (['p00.png,quay,'], 'image,scene', 'line 1: the header'), (['p00.png,quay,boat,train'], 'image,scene,contains', 'line 2: too few or many'),
    (['p00.png,quay'], 'image,scene,contains', 'line 2: too few or many'),
    (['p00.png,a,', 'p00.png,b,boat'], 'image,scene,contains', "line 3: 'p00.png' stands there twice"),
    (['q.png,a,'], 'image,scene,contains', 'none of its 1 images is a candidate'), ([], 'image,scene,contains', 'none of its 0')])
def test_bad_csv(mined, tmp_path, rows, header, said):
    with pytest.raises(DataError, match=said): prune_file(mined, screened(tmp_path, rows, header))
    assert mined.progress()[0] == 0


def test_csv_that_is_none(mined, tmp_path):
    with pytest.raises(DataError, match='no such CSV'): prune_file(mined, tmp_path/'none.csv')
    (tmp_path/'x.csv').write_bytes(b'image,contains\n\xff\xfe,boat\n')
    with pytest.raises(DataError, match='UTF-8'): read_screened(tmp_path/'x.csv')
    with pytest.raises(DataError, match="'all' is not a way to count"): prune_file(mined, tmp_path/'x.csv', counts='all')


def test_a_slip_in_a_class_name_is_noticed(mined, tmp_path):
    with pytest.warns(UserWarning, match='baot'): prune_file(mined, screened(tmp_path, ['p00.png,quay,baot']))


# --- real photographs ------------------------------------------------------------------------------------------------
def test_real_pool(shared):
    "Thirteen pairs of near-equal photographs in the real pool, found among 1,930 pictures; none of them leaks into VOC."
    from wood_nb.data.sources import load_voc
    pool = load_pool(shared/'data'/'ood-candidates'/'images')
    voc = [load_voc(shared/'data'/'voc-animals', split) for split in ('train', 'val')]
    hashes = hash_items(pool.items)
    known = [hash_items(split.items, f'{split.name}/') for split in voc]
    assert all(find_leaks(hashes, k) == {} for k in known) and len(hashes.names) == 710
    doubles = find_duplicates(hashes)
    assert len(doubles) == 12 and doubles['mountain_0231'] == 'landscape_0079' and doubles['desert_0313'] == 'desert_0301'
