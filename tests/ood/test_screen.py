"""Screening: the ranking of mining, kills at the worst moments, what is left out unopened, every refusal."""
import csv
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.images import image_id
from wood_nb.data.shards import Known, read_known
from wood_nb.data.sources import load_pool
from wood_nb.ood import screen as module
from wood_nb.ood.config import ScreenConfig
from wood_nb.ood.mining import mine
from wood_nb.ood.screen import screen
from wood_nb.train.predict import Prediction, predict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]/'data'))
from test_shards import pack  # noqa: E402

CLASSES = ('boat', 'train')


def colour(n):
    "A colour of which p is made; some pictures are equal, so that there are ties."
    return tuple(np.random.default_rng(n % 37).integers(0, 255, 3).tolist())


def jpeg(n, size=(32, 32)):
    import io
    file = io.BytesIO()
    Image.new('RGB', size, colour(n)).save(file, 'JPEG')
    return file.getvalue()


def by_colour(net, pictures, long_side, skipped, title, precision):
    "A stand-in for `predict`, without a network: p is how red and how green a picture is."
    for n in range(len(pictures)):
        try:
            p = np.asarray(pictures.image(n), np.float32).mean((0, 1))[:2]/255
        except DataError as error:
            skipped.append({'file': pictures[n].id, 'why': str(error)})
            continue
        yield Prediction(np.array([n]), p[None], np.zeros((1, 1)))


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setattr(module, 'predict', by_colour)
    monkeypatch.setattr(module, 'infer', lambda net: net)
    return SimpleNamespace(classes=CLASSES)


@pytest.fixture(scope='module')
def shards(tmp_path_factory):
    "Three shards of 30 pictures, some broken, one with the name of another shard's, one with a label."
    folder = tmp_path_factory.mktemp('shards')
    for n in range(3):
        files = [(f'{i:03d}.jpg', jpeg(i) if i % 11 else b'broken') for i in range(30*n, 30*n + 30)]
        pack(folder/f's-{n}.tar', [*files, ('x.jpg', jpeg(5)), ('x.cls', b'train' if n == 1 else b'tree')])
    return folder/'s-{0..2}.tar'


CONFIG = ScreenConfig(per_class=8, every=7, threshold=.3, threads=2)


def files_in(folder): return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob('*.jpg'))}


def test_the_ranking_is_that_of_mining_with_a_network(tmp_path):
    from wood_nb.nets.backbones import build_net
    net = build_net('tiny', CLASSES)
    for n in range(25):
        (tmp_path/'pool'/str(n % 3)).mkdir(parents=True, exist_ok=True)
        (tmp_path/'pool'/str(n % 3)/f'{n:02d}.jpg').write_bytes(jpeg(n, (32, 64) if n % 2 else (32, 32)))
    (tmp_path/'pool'/'broken.jpg').write_bytes(b'')
    pool, skipped = load_pool(tmp_path/'pool'), []
    mined = mine(predict(net, pool, 64, skipped=skipped, title=None), pool, CLASSES, .1, 6)
    found = screen(net, [tmp_path/'pool'], tmp_path/'out', ScreenConfig(threshold=.1, per_class=6, every=4), long_side=64, title=None)
    assert found.above == mined.source['above'] and found.counts['scored'] == 25 and found.counts['skipped'] == len(skipped) == 1
    for name in CLASSES:
        ranked = {image_id(kept.name): kept.p for kept in found.top[name]}
        assert list(ranked) == mined.ranked(name) and all(p == pytest.approx(mined.images[id].p, abs=1e-5) for id, p in ranked.items())
    assert {len(part) for part in (files_in(tmp_path/'out'), load_pool(tmp_path/'out'))} == {found.kept}


def killed(work):
    "Do `work` in a process of its own, which must end by SIGKILL."
    if (child := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def after(calls, function, before=False):
    "A function that kills its process in so many calls of it."
    left = iter(range(calls - 1))
    def call(*args, **options):
        last = next(left, None) is None
        if last and before: os.kill(os.getpid(), signal.SIGKILL)
        made = function(*args, **options)
        if last: os.kill(os.getpid(), signal.SIGKILL)
        return made
    return call


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_three_times_the_result_is_the_same(net, shards, tmp_path, monkeypatch):
    whole = screen(net, [shards], tmp_path/'whole', CONFIG, title=None)
    assert 0 < whole.kept < sum(whole.above.values()) and whole.counts == {'scored': 83, 'excluded': 1, 'skipped': 9, 'bytes': whole.counts['bytes']}
    def work(): screen(net, [shards], tmp_path/'out', CONFIG, title=None)
    for name, wrapped in (('settle', after(3, module.settle, before=True)),      # pictures are there, the checkpoint is not
                          ('write_json', after(4, module.write_json)),         # what has been pushed out is still there
                          ('_take', after(3, module._take))):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, wrapped)
            killed(work)
    found = screen(net, [shards], tmp_path/'out', CONFIG, title=None)
    assert (found.top, found.above, found.counts, found.highest) == (whole.top, whole.above, whole.counts, whole.highest)
    for name in ('candidates.csv', 'skipped.csv'): assert (tmp_path/'out'/name).read_bytes() == (tmp_path/'whole'/name).read_bytes()
    assert files_in(tmp_path/'out') == files_in(tmp_path/'whole') and len(files_in(tmp_path/'out')) == found.kept
    rows = list(csv.DictReader(open(tmp_path/'out'/'candidates.csv')))
    assert len(rows) == found.kept and all((tmp_path/'out'/row['image']).is_file() and row['class'] in CLASSES for row in rows)
    skipped = list(csv.DictReader(open(tmp_path/'out'/'skipped.csv')))
    assert [row['name'] for row in skipped] == [f'{n:03d}.jpg' for n in range(0, 90, 11)] and 's-0' == skipped[0]['part']


def test_any_blocks_give_the_same(net, shards, tmp_path):
    found = [screen(net, [shards], tmp_path/str(every), ScreenConfig(per_class=8, every=every, threshold=.3), title=None) for every in (11, 500)]
    assert found[0].top == found[1].top


def test_more_sources_go_on_and_other_ones_are_refused(net, shards, tmp_path):
    folder, out = shards.parent, tmp_path/'out'
    screen(net, [folder/'s-0.tar'], out, CONFIG, title=None)
    found = screen(net, [shards], out, CONFIG, title=None)
    assert found.top == screen(net, [shards], tmp_path/'whole', CONFIG, title=None).top
    for sources, config, said in (([folder/'s-1.tar'], CONFIG, 'other sources'), ([shards], ScreenConfig(per_class=9), 'another threshold, per_class')):
        with pytest.raises(DataError, match=said): screen(net, sources, out, config, title=None)
    with pytest.raises(DataError, match='another labels'): screen(net, [shards], out, CONFIG, Known(), title=None)


def test_the_best_of_parts_are_the_best_of_all(net, shards, tmp_path):
    whole = screen(net, [shards], tmp_path/'whole', CONFIG, title=None)
    for name, part in (('a', 's-0.tar'), ('b', 's-{1..2}.tar')): screen(net, [shards.parent/part], tmp_path/name, CONFIG, title=None)
    found = screen(net, [tmp_path/'a', tmp_path/'b'], tmp_path/'all', CONFIG, title=None)
    def ranking(screened): return {c: [(kept.p, Path(kept.name).name) for kept in rows] for c, rows in screened.top.items()}
    assert ranking(found) == ranking(whole)


def test_what_has_changed_meanwhile_is_refused(net, tmp_path, monkeypatch):
    for n in range(6): (tmp_path/'pool').mkdir(exist_ok=True), (tmp_path/'pool'/f'{n}.jpg').write_bytes(jpeg(n))
    with monkeypatch.context() as patch:
        patch.setattr(module, '_save', lambda folder, found, save=module._save: (save(folder, found), 1/0))
        with pytest.raises(ZeroDivisionError): screen(net, [tmp_path/'pool'], tmp_path/'out', ScreenConfig(every=4), title=None)
    (tmp_path/'pool'/'2.jpg').unlink()
    with pytest.raises(DataError, match="has changed since it was begun .'3.jpg' is not its picture 4"):
        screen(net, [tmp_path/'pool'], tmp_path/'out', ScreenConfig(every=4), title=None)


def test_folders_that_are_refused(net, tmp_path):
    (tmp_path/'pool').mkdir()
    (tmp_path/'pool'/'a.jpg').write_bytes(jpeg(1))
    with pytest.raises(DataError, match='holds pool, which does not come from here'): screen(net, [tmp_path/'pool'], tmp_path, title=None)
    with pytest.raises(DataError, match='write into a folder beside it'): screen(net, [tmp_path/'pool'], tmp_path/'pool'/'out', title=None)
    found = screen(net, [tmp_path/'pool'], tmp_path/'out', ScreenConfig(threshold=0), title=None)
    note = json.loads((tmp_path/'out'/'screen.json').read_text())
    for name, kept in note['top'].items(): note['top'][name] = [[.9, 0, '../pool/a.jpg', 'pool', 'a.jpg']]
    (tmp_path/'out'/'screen.json').write_text(json.dumps(note))
    with pytest.raises(DataError, match='not a picture below'): screen(net, [tmp_path/'pool'], tmp_path/'out', ScreenConfig(threshold=0), title=None)
    assert found.kept == 1 and (tmp_path/'pool'/'a.jpg').is_file()


def test_known_pictures_are_not_opened(net, tmp_path):
    for n in range(4): (tmp_path/'pool').mkdir(exist_ok=True), (tmp_path/'pool'/f'{n}.jpg').write_bytes(jpeg(n))
    (tmp_path/'labels.csv').write_text('ImageID,LabelName,Confidence\n1,Boat,1\n2,Boat,0\n3,Tree,1\n')
    (tmp_path/'pool'/'1.jpg').chmod(0)
    (tmp_path/'pool'/'1.jpg').unlink()
    (tmp_path/'pool'/'1.jpg').symlink_to('nowhere')      # to open it would be an error
    found = screen(net, [tmp_path/'pool'], tmp_path/'out', ScreenConfig(threshold=0), read_known(tmp_path/'labels.csv', CLASSES), title=None)
    assert (found.counts['excluded'], found.counts['scored'], found.counts['skipped']) == (1, 3, 0)


def test_names_of_files_that_differ_in_the_suffix_only(net, tmp_path):
    (tmp_path/'pool').mkdir()
    for name in ('a.jpg', 'a.jpeg', 'a.JPG'): (tmp_path/'pool'/name).write_bytes(jpeg(1))
    found = screen(net, [tmp_path/'pool'], tmp_path/'out', ScreenConfig(threshold=0), title=None)
    assert len(load_pool(tmp_path/'out')) == found.kept == 3


def test_the_command(net, shards, tmp_path, capsys, monkeypatch):
    from wood_nb.cli import commands
    from wood_nb.cli.parser import main
    run = SimpleNamespace(path=tmp_path/'run', net=lambda stage: net, config=SimpleNamespace(long_side=64, classifier=SimpleNamespace(precision='auto')))
    monkeypatch.setattr(commands, 'open_run', lambda path: run)
    (tmp_path/'run'/'classifier').mkdir(parents=True)
    (tmp_path/'run'/'classifier'/'weights.safetensors').write_bytes(b'weights')
    (tmp_path/'pool').mkdir()
    for n in range(6): (tmp_path/'pool'/f'{n}.jpg').write_bytes(jpeg(n))
    (tmp_path/'list.txt').write_text('\n'.join(f'{n}.jpg' for n in range(6)))
    (tmp_path/'labels.csv').write_text('image,labels\n0.jpg,boat\n1.jpg,Elk\n')
    words = ['screen', 'run', str(tmp_path/'list.txt'), '--out', str(tmp_path/'out'), '--root', str(tmp_path/'pool'), '--labels',
             str(tmp_path/'labels.csv'), '--alias', 'train=elk', '--threshold', '0', '--per-class', '2']
    assert main(words) == 0
    told = capsys.readouterr().out
    assert '2 pictures are known' in told and 'kept of 4 scored' in told and len(load_pool(tmp_path/'out')) > 0
    assert main([*words[:-4], '--threshold', '0.999']) == 2 and 'was begun with another threshold' in capsys.readouterr().err
    words[4] = str(tmp_path/'none')
    assert main([*words[:-4], '--threshold', '0.999']) == 2 and 'no picture has p > 0.999' in capsys.readouterr().err
