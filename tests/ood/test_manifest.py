"""The manifest: every refusal, undo without limit, files by hand, merging, clusters, and speed at paper size."""
import json
import os
import random
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.sources import load_pool
from wood_nb.ood.candidates import Candidate, draw_candidates, file_of, pool_root, thumbnail
from wood_nb.ood.manifest import (carry_over, export_ood_list, export_positives, fingerprint, Manifest, manifest_text,
                                  summary, usable_split)
from wood_nb.ood.opinions import agreement, cohen_kappa, cost_table, merge

CLASSES = ('boat', 'train')


def make_pool(root, n=6, folder=''):
    (root/folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(n): Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(root/folder/f'p{i}.png')
    return load_pool(root)


def make_manifest(pool, **options):
    images = {item.id: Candidate(file_of(item), CLASSES[i % 2], round(.99 - .05*i, 3)) for i, item in enumerate(pool.items)}
    return Manifest(CLASSES, images, fingerprint(pool), **options)


@pytest.fixture
def pool(tmp_path): return make_pool(tmp_path/'pool')


@pytest.fixture
def manifest(pool): return make_manifest(pool)


def test_ranked_and_by_class(manifest):
    assert manifest.by_class() == {'boat': ['p0', 'p2', 'p4'], 'train': ['p1', 'p3', 'p5']}
    manifest.images['p2'].duplicate_of = 'p0'
    assert manifest.ranked('boat', flagged=False) == ['p0', 'p4']
    with pytest.raises(DataError, match="'cat' is not a class here; there are boat, train"): manifest.ranked('cat')


@pytest.mark.parametrize('arguments, said', [
    (('p9', 'keep', ()), 'p9'), (('p0', 'perhaps', ()), 'perhaps'), (('p0', 'drop', ('cat',)), 'cat'),
    (('p0', 'keep', ('boat',)), 'only a dropped picture'), ((['p0', 'p9'], 'keep', ()), 'p9')])
def test_refusals_change_nothing(manifest, arguments, said):
    before = manifest_text(manifest)
    with pytest.raises(DataError, match=said): manifest.decide(*arguments, by='jane')
    assert manifest_text(manifest) == before


@pytest.mark.parametrize('by', ['', '  ', None])
def test_a_decision_has_an_author(manifest, by):
    with pytest.raises(DataError, match='whose'): manifest.decide('p0', 'keep', by=by)


def test_nothing_to_decide_leaves_no_step(manifest):
    manifest.decide([], 'keep', by='jane')
    assert not manifest.history and manifest.undo() is None and manifest.redo() is None


def test_undo_redo_at_random_equals_replay(manifest):
    rng, texts = random.Random(0), [manifest_text(manifest)]
    ids = list(manifest.images)
    for _ in range(40):
        some = rng.sample(ids, rng.randint(1, 4))
        decision = rng.choice(['keep', 'drop', 'undecided'])
        contains = rng.sample(CLASSES, rng.randint(0, 2)) if decision == 'drop' else ()
        manifest.decide(some, decision, contains, by=rng.choice(['jane', 'omar']), seconds=rng.choice([None, 1.5]), note=rng.choice(['', 'n']))
        texts.append({id: c.state() for id, c in manifest.images.items()})
    place = 40
    for _ in range(500):
        if rng.random() < .5: place -= manifest.undo() is not None
        else: place += manifest.redo() is not None
        if place: assert {id: c.state() for id, c in manifest.images.items()} == texts[place]
    while manifest.undo(): pass
    assert manifest.progress() == (0, 6) and len(manifest.undone) == 40
    assert all(c == Candidate(c.file, c.predicted, c.p) for c in manifest.images.values())
    manifest.redo()
    manifest.decide('p0', 'keep', by='jane')
    assert not manifest.undone and len(manifest.history) == 2


def test_history_survives_the_file(manifest, tmp_path):
    manifest.decide(['p0', 'p1'], 'drop', ['train', 'boat'], by='jane', seconds=3.0)
    manifest.decide('p0', 'keep', by='jane', seconds=1.0)
    manifest.undo()
    again = Manifest.load(manifest.save(tmp_path/'m.json'))
    assert again == manifest and again.images['p0'].contains == ['boat', 'train']
    again.redo()
    assert again.images['p0'].seconds == 2.5  # 1.5 of the first, 1 of the second
    again.undo(), again.undo()
    assert again.progress()[0] == 0 and again.undo() is None


def test_seconds(manifest):
    manifest.decide(['p0', 'p1'], 'keep', by='jane', seconds=4)
    manifest.decide('p0', 'drop', by='jane', seconds=1)
    manifest.decide('p1', 'keep', by='omar', seconds=7)  # another person: her time counts from nought
    manifest.decide('p2', 'keep', by='jane')  # not measured
    assert manifest.seconds_summary() == {'all': {'n': 2, 'median': 5.0, 'total': 10.0}, 'boat': {'n': 1, 'median': 3.0, 'total': 3.0},
                                          'train': {'n': 1, 'median': 7.0, 'total': 7.0}}
    assert '720' in str(cost_table(manifest)) and Manifest(CLASSES, {}).seconds_summary() == {}


def test_usable(manifest):
    manifest.images['p1'].duplicate_of, manifest.images['p2'].leak_of = 'p0', 'val/x'
    manifest.decide(['p0', 'p1', 'p2', 'p3'], 'keep', by='auto:none')
    manifest.decide('p4', 'drop', ['boat'], by='jane')
    assert manifest.usable() == ['p0', 'p3'] and manifest.usable(include_undecided=True) == ['p0', 'p3', 'p5']
    manifest.decide('p1', 'keep', by='jane')
    assert manifest.usable() == ['p0', 'p1', 'p3'] and manifest.kept() == ['p0', 'p1', 'p2', 'p3']
    assert manifest.positives() == {'p4': ['boat']} and manifest.flags() == {'p1': 'p0'} and manifest.flags('leak_of') == {'p2': 'val/x'}


def test_usable_split_and_exports(tmp_path):
    pool = make_pool(tmp_path/'pool', folder='a b/c')
    manifest = make_manifest(pool)
    with pytest.raises(DataError, match='no usable OoD picture among 6'): usable_split(manifest, pool)
    ids = list(manifest.images)
    manifest.decide(ids[::-2], 'keep', by='jane')
    manifest.decide(ids[0], 'drop', ['train'], by='jane')
    split = usable_split(manifest, pool)
    assert split.ids == ids[1::2] and split.image(0).size == (60, 40)
    assert export_ood_list(manifest, tmp_path/'ood_list.txt') == 3
    assert (tmp_path/'ood_list.txt').read_text() == 'a b/c/p1.png\na b/c/p3.png\na b/c/p5.png\n'
    assert export_positives(manifest, tmp_path/'new.csv') == 1 and (tmp_path/'new.csv').read_text() == 'image,labels\na b/c/p0.png,train\n'
    assert load_pool(tmp_path/'pool', tmp_path/'ood_list.txt').ids == split.ids


@pytest.mark.parametrize('name', ['#sharp.png', ' space.png', 'two\nlines.png'])
def test_a_list_cannot_hold_every_name(manifest, tmp_path, name):
    manifest.images['p0'].file = name
    manifest.decide('p0', 'keep', by='jane')
    with pytest.raises(DataError, match='rename'): export_ood_list(manifest, tmp_path/'list.txt')
    assert not (tmp_path/'list.txt').exists()


NAMES = ['<img src=x onerror=alert(1)>.png', 'a;b,c.png', 'naïve ☃.png', 'with "quotes\' and $math$.png', '-rf.png', 'two\nlines.png']


def test_odd_names_stay_names(tmp_path):
    (tmp_path/'pool').mkdir()
    for name in NAMES: Image.new('RGB', (8, 8)).save(tmp_path/'pool'/name)
    (tmp_path/'pool'/'caf\udce9.png').write_bytes((tmp_path/'pool'/NAMES[0]).read_bytes())  # a name that is no UTF-8
    pool = load_pool(tmp_path/'pool')
    manifest = make_manifest(pool)
    manifest.decide(list(manifest.images), 'keep', by='<b>jane</b>')
    assert Manifest.load(manifest.save(tmp_path/'m.json'), pool) == manifest
    (tmp_path/'m.json').read_bytes().decode('utf-8')
    assert len(usable_split(manifest, pool)) == len(pool)
    draw_candidates(manifest, pool_root(pool), list(manifest.images)).png()


# --- files -----------------------------------------------------------------------------------------------------------
def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize('change, said', [
    (lambda d: d.update(version=2), 'version 2'), (lambda d: d.update(format='x'), 'not a wood_nb.manifest'),
    (lambda d: d['images']['p0'].update(decision='yes'), "image 'p0': 'yes' is not a decision"),
    (lambda d: d['images']['p0'].update({'class': 'cat'}), "image 'p0': 'cat' is not a class"),
    (lambda d: d['images']['p0'].update(contains=['cat']), "image 'p0': 'cat' is not a class"),
    (lambda d: d['images']['p0'].update(duplicate_of='gone'), "'gone' is named in duplicate_of"),
    (lambda d: d['images']['p0'].pop('file'), 'images.p0.file is missing'), (lambda d: d.pop('images'), 'images is missing'),
    (lambda d: d.update(images=[1]), 'images is a list of 1, not an object'),
    (lambda d: d['images']['p0'].update(contains=None), 'images.p0.contains is None, not a list'),
    (lambda d: d['images']['p0'].update(p='high'), "image 'p0': p must be"),
    (lambda d: d['images']['p0'].update(file='../../etc/passwd'), "image 'p0': .* leads out"),
    (lambda d: d.update(clusters=[{'id': 0, 'name': 'a', 'members': ['gone']}]), "'gone' is named")])
def test_broken_files(manifest, tmp_path, change, said):
    path = edit(manifest.save(tmp_path/'m.json'), change)
    with pytest.raises(DataError, match=said) as error: Manifest.load(path)
    assert 'm.json' in str(error.value)


def test_not_json_and_missing(tmp_path):
    (tmp_path/'m.json').write_text('{"format": "wood_nb.man')
    with pytest.raises(DataError, match='not valid JSON'): Manifest.load(tmp_path/'m.json')
    with pytest.raises(DataError, match='no such file'): Manifest.load(tmp_path/'none.json')
    with pytest.raises(DataError, match='no file yet'): Manifest(CLASSES, {}).save()


def test_only_the_needed_keys(tmp_path):
    (tmp_path/'m.json').write_text(json.dumps({'format': 'wood_nb.manifest', 'version': 1, 'classes': ['boat'], 'images': {
        'a': {'file': 'a.jpg', 'class': 'boat', 'p': 1}}}))
    manifest = Manifest.load(tmp_path/'m.json')
    assert manifest.images['a'] == Candidate('a.jpg', 'boat', 1) and manifest.created


def test_keys_of_others_survive(manifest, tmp_path):
    def add(d):
        d['lab'] = {'room': 3}
        d['images']['p0']['colour'] = 'red'
        d['clusters'] = [{'id': 0, 'name': 'a', 'members': ['p0'], 'montage': 'a.png'}]
    path = edit(manifest.save(tmp_path/'m.json'), add)
    again = Manifest.load(path)
    again.decide('p0', 'keep', by='jane')
    again.rename_cluster(0, 'b', by='jane')
    data = json.loads(again.save().read_text())
    assert data['lab'] == {'room': 3} and data['images']['p0']['colour'] == 'red' and data['clusters'][0]['montage'] == 'a.png'


def test_one_image_a_line(manifest, tmp_path):
    before = manifest.save(tmp_path/'m.json').read_text().splitlines()
    manifest.decide('p3', 'keep', by='jane')
    after = manifest.save().read_text().splitlines()
    assert sum('"p3"' in line and '"file"' in line for line in after) == 1
    assert sum(line not in before for line in after) <= 3  # the picture, and its step of the history


def test_a_crash_while_saving_leaves_the_old_file(manifest, tmp_path, monkeypatch):
    path = manifest.save(tmp_path/'m.json')
    before = path.read_bytes()
    manifest.decide('p0', 'keep', by='jane')
    monkeypatch.setattr('wood_nb.ood.manifest.manifest_text', lambda m: 1/0)
    with pytest.raises(ZeroDivisionError): manifest.save()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir() if p.is_file()] == ['m.json']


def test_saving_guards_the_work_of_others(manifest, tmp_path):
    path = manifest.save(tmp_path/'m.json')
    manifest.decide('p1', 'keep', by='jane')
    manifest.save()
    fresh = Manifest.load(path)
    fresh.path = fresh.stamp = None  # as mined again
    with pytest.raises(DataError, match='holds decisions of a person'): fresh.save(path)
    fresh.decide('p0', 'keep', by='omar')
    fresh.save(path, instead_of=Manifest.load(path))
    assert Manifest.load(path).progress()[0] == 2
    other = make_manifest_like(fresh)
    assert Manifest.load(other.save(path, force=True)).progress()[0] == 0


def make_manifest_like(old): return Manifest(old.classes, {id: Candidate(c.file, c.predicted, c.p) for id, c in old.images.items()}, old.pool)
def states(manifest): return {id: (c.decision, c.by) for id, c in manifest.images.items() if c.decision != 'undecided'}


def test_two_savers_of_one_file_lose_nothing(manifest, tmp_path, monkeypatch):
    path = manifest.save(tmp_path/'m.json')
    monkeypatch.chdir(tmp_path)
    omar, held = Manifest.load('m.json'), manifest.images['p0']
    omar.decide(['p0', 'p2'], 'drop', ['boat'], by='omar', seconds=4)
    omar.save()
    manifest.decide('p1', 'keep', by='jane')
    manifest.decide('p3', 'drop', by='jane')
    manifest.save()
    wanted = {'p0': ('drop', 'omar'), 'p1': ('keep', 'jane'), 'p2': ('drop', 'omar'), 'p3': ('drop', 'jane')}
    assert states(manifest) == states(Manifest.load(path)) == wanted and manifest == Manifest.load(path)
    assert [step['by'] for step in manifest.history] == ['omar', 'jane', 'jane'] and manifest.images['p0'] is held and held.contains == ['boat']
    manifest.undo(), manifest.undo()  # one's own steps come last, so they are undone first
    assert states(manifest) == {id: wanted[id] for id in ('p0', 'p2')}
    manifest.redo()
    manifest.save()
    omar.decide('p5', 'keep', by='omar')
    omar.save()
    assert states(omar) == states(Manifest.load(path)) == {**{id: wanted[id] for id in ('p0', 'p1', 'p2')}, 'p5': ('keep', 'omar')}


@pytest.mark.parametrize('hours, holds', [((9, 10), 'omar'), ((10, 9), 'jane'), ((9, 9), 'jane')])
def test_of_two_decisions_on_one_picture_the_later_holds_and_both_stay_in_the_history(manifest, tmp_path, hours, holds):
    path = manifest.save(tmp_path/'m.json')
    omar = Manifest.load(path)
    manifest.decide(['p0', 'p1'], 'keep', by='jane', at=f'2026-01-01T{hours[0]:02}:00:00+00:00')
    omar.decide(['p0', 'p2'], 'drop', by='omar', at=f'2026-01-01T{hours[1]:02}:00:00+00:00')
    omar.save()
    with pytest.warns(UserWarning, match=f"1 of the same pictures otherwise; the later decision holds .'p0': {'drop' if holds == 'omar' else 'keep'} by {holds}"):
        manifest.save()
    again = Manifest.load(path)
    assert {id: by for id, (_, by) in states(again).items()} == {'p0': holds, 'p1': 'jane', 'p2': 'omar'} and again == manifest
    assert {'omar', 'jane'} <= {step['by'] for step in again.history}
    seen = {after['by'] for step in again.history for id, _, after in step['changes'] if id == 'p0'}
    assert seen == {'omar', 'jane'}
    while again.undo(): pass
    assert states(again) == {}


def test_an_undo_does_not_take_back_what_others_decided(manifest, tmp_path):
    manifest.decide(['p0', 'p1'], 'keep', by='jane', at='2026-01-01T09:00:00+00:00')
    path = manifest.save(tmp_path/'m.json')
    omar = Manifest.load(path)
    omar.decide(['p1', 'p2'], 'drop', by='omar')
    omar.save()
    manifest.undo()
    with pytest.warns(UserWarning, match="'p1': drop by omar"): manifest.save()
    assert states(manifest) == states(Manifest.load(path)) == {'p1': ('drop', 'omar'), 'p2': ('drop', 'omar')}


def test_what_was_changed_without_a_step_is_kept_as_well(manifest, people_of, tmp_path):
    path = manifest.save(tmp_path/'m.json')
    omar = Manifest.load(path)
    omar.decide('p0', 'keep', by='omar')
    omar.save()
    assert carry_over(manifest, people_of('jo')) == 6
    manifest.images['p3'].leak_of = 'val/x'
    with pytest.warns(UserWarning, match='otherwise'): manifest.save()
    again = Manifest.load(path)
    assert [again.images[f'p{n}'].by for n in range(6)] == ['omar', 'jo', 'jo', 'jo', 'jo', 'jo'] and again.images['p3'].leak_of == 'val/x'


@pytest.fixture
def people_of(manifest):
    "A manifest in which one person has dropped everything, long ago."
    def made(name):
        other = make_manifest_like(manifest)
        other.decide(list(other.images), 'drop', by=name, at='2020-01-01T00:00:00+00:00')
        return other
    return made


def test_clusters_of_two_people(manifest, tmp_path):
    manifest.set_clusters({f'p{n}': n // 2 for n in range(6)})
    path = manifest.save(tmp_path/'m.json')
    omar, cleo = Manifest.load(path), Manifest.load(path)
    omar.rename_cluster(0, 'rails', by='omar')
    omar.save()
    manifest.rename_cluster(1, 'water', by='jane')
    manifest.decide_cluster(2, 'drop', by='jane')
    manifest.save()
    assert [(c.name, c.decision) for c in Manifest.load(path).clusters] == [('rails', 'undecided'), ('water', 'undecided'), ('cluster 2', 'drop')]
    cleo.merge_clusters(0, [1], by='cleo')
    cleo.decide('p0', 'keep', by='cleo')
    with pytest.warns(UserWarning, match='changed the same clusters; theirs stay'): cleo.save()
    again = Manifest.load(path)
    assert [c.name for c in again.clusters] == ['rails', 'water', 'cluster 2'] and again.merges == [] and states(again)['p0'] == ('keep', 'cleo')
    assert any('left_out' in step for step in again.history) and again == cleo
    assert all(step['by'] == 'cleo' and step['at'] and 'clusters' not in step for step in again.history if 'left_out' in step)
    while again.undo(): pass
    assert states(again) == {} and [c.name for c in again.clusters] == ['cluster 0', 'cluster 1', 'cluster 2']


def test_a_file_that_was_mined_again_is_not_joined(manifest, tmp_path):
    path = manifest.save(tmp_path/'m.json')
    mined = Manifest.load(path)
    del mined.images['p0']
    mined.save()
    manifest.decide('p0', 'keep', by='jane')
    before = path.read_bytes()
    with pytest.raises(DataError, match='lists other candidates or classes now .* carry_over'): manifest.save()
    assert path.read_bytes() == before and states(manifest) == {'p0': ('keep', 'jane')}


def decide_a_third(path, name, first):
    manifest = Manifest.load(path)
    for n in range(first, 999, 3):
        manifest.decide(f'{n:04}', 'keep' if n % 2 else 'drop', by=name)
        if n % 240 == first: manifest.save()
    manifest.save()


@pytest.mark.skipif(os.name == 'nt', reason='forks')
def test_three_people_at_one_file_with_a_thousand_decisions(tmp_path):
    images = {f'{n:04}': Candidate(f'{n:04}.jpg', CLASSES[n % 2], .9) for n in range(1000)}
    path = Manifest(CLASSES, images, {'sha256': 'x'}).save(tmp_path/'m.json')
    people = [get_context('fork').Process(target=decide_a_third, args=(path, name, n)) for n, name in enumerate(('jane', 'omar', 'cleo'))]
    for process in people: process.start()
    for process in people: process.join(60)
    assert [process.exitcode for process in people] == [0, 0, 0]
    found = Manifest.load(path)
    assert states(found) == {f'{n:04}': ('keep' if n % 2 else 'drop', ('jane', 'omar', 'cleo')[n % 3]) for n in range(999)}
    assert sorted(change[0] for step in found.history for change in step['changes']) == [f'{n:04}' for n in range(999)]
    assert os.listdir(tmp_path) == ['m.json']


def test_a_rules_decisions_may_be_mined_anew(pool, tmp_path):
    first, second = make_manifest(pool), make_manifest(pool)
    first.decide('p0', 'keep', by='auto:none')
    first.save(tmp_path/'m.json')
    second.save(tmp_path/'m.json')
    assert Manifest.load(tmp_path/'m.json').progress()[0] == 0


def test_changed_pool(manifest, pool, tmp_path):
    path = manifest.save(tmp_path/'m.json')
    Manifest.load(path, pool)
    Image.new('RGB', (9, 9)).save(tmp_path/'pool'/'new.png')
    with pytest.warns(UserWarning, match='6 images then, 7 now.*mine again and carry_over'): Manifest.load(path, load_pool(tmp_path/'pool'))
    (tmp_path/'pool'/'p3.png').unlink()
    with pytest.raises(DataError, match="1 of 6 candidates are not in this pool, 'p3'"): Manifest.load(path, load_pool(tmp_path/'pool'))


def test_other_pixels_of_the_same_size_are_noticed(manifest, pool, tmp_path, recwarn):
    path, file = manifest.save(tmp_path/'m.json'), tmp_path/'pool'/'p0.png'
    held, stat = file.read_bytes(), file.stat()
    file.write_bytes(held[:-1] + b'x')
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.warns(UserWarning, match='6 images then, 6 now, some of them with other pixels'): Manifest.load(path, pool)
    recwarn.clear()
    manifest.pool.pop('contents')  # as older versions have written it
    Manifest.load(manifest.save(path), pool)
    file.write_bytes(held)  # another time stamp, the same pixels
    Manifest.load(make_manifest(pool).save(tmp_path/'n.json'), pool)
    assert not recwarn.list


def test_fingerprint_is_of_ids_sizes_and_contents_only(pool, tmp_path):
    moved = make_pool(tmp_path/'elsewhere')
    assert {key: fingerprint(moved)[key] == fingerprint(pool)[key] for key in fingerprint(pool)} == dict(root=False, images=True, sha256=True, contents=True)
    assert fingerprint(pool.subset(range(5, -1, -1)))['sha256'] == fingerprint(pool)['sha256']
    (tmp_path/'elsewhere'/'p0.png').write_bytes(b'x')
    assert fingerprint(moved)['sha256'] != fingerprint(pool)['sha256']
    with pytest.raises(DataError, match='is empty'): fingerprint(pool.subset([]))


# --- clusters --------------------------------------------------------------------------------------------------------
def test_clusters_and_their_undo(manifest, tmp_path):
    manifest.decide('p0', 'keep', by='jane')
    manifest.set_clusters({id: i % 3 for i, id in enumerate(manifest.images)}, {0: 'rails'})
    states = [json.dumps([c.to_json() for c in manifest.clusters]) + str(manifest.merges)]

    def did(action, *arguments, **options):
        action(*arguments, **options)
        states.append(json.dumps([c.to_json() for c in manifest.clusters]) + str(manifest.merges))
    did(manifest.rename_cluster, 1, 'water', by='jane')
    did(manifest.merge_clusters, 0, [2], by='jane')
    did(manifest.split_cluster, 0, [['p0', 'p2'], ['p3'], ['p5']], by='jane')
    did(manifest.decide_cluster, 0, 'drop', ['train'], by='jane', seconds=2)
    did(manifest.merge_clusters, 1, [0, 3], by='omar')
    assert [(c.id, c.name, c.decision, c.merged_from) for c in manifest.clusters] == [
        (1, 'water', 'undecided', [0, 2, 3]), (4, 'rails / 3', 'undecided', [])]
    assert [m['from'] for m in manifest.merges] == [[2], [0, 3]] and manifest.images['p2'].contains == ['train']
    again = Manifest.load(manifest.save(tmp_path/'m.json'))
    for m in (manifest, again):
        for state in states[-2::-1]:
            m.undo()
            assert json.dumps([c.to_json() for c in m.clusters]) + str(m.merges) == state
        assert m.images['p2'].decision == 'undecided' and m.images['p0'].decision == 'keep'
        for state in states[1:]:
            m.redo()
            assert json.dumps([c.to_json() for c in m.clusters]) + str(m.merges) == state
        assert m.images['p2'].decision == 'drop'


def test_cluster_refusals(manifest):
    with pytest.raises(DataError, match='not a candidate'): manifest.set_clusters({'nobody': 0})
    manifest.set_clusters({'p0': 0, 'p1': 0, 'p2': -1})
    assert [c.members for c in manifest.clusters] == [['p0', 'p1']]
    for call in (lambda: manifest.cluster(7), lambda: manifest.merge_clusters(0, [7], by='j'), lambda: manifest.decide_cluster(7, 'keep', by='j')):
        with pytest.raises(DataError, match='no cluster 7'): call()
    for parts in ([['p0']], [['p0', 'p1'], []], [['p0', 'p1'], ['p1']]):
        with pytest.raises(DataError, match='exactly once'): manifest.split_cluster(0, parts, by='j')
    with pytest.raises(DataError, match='maybe'): manifest.decide_cluster(0, 'maybe', by='j')
    assert not manifest.history and manifest.cluster(0).decision == 'undecided'


def test_new_clusters_keep_the_history_of_pictures(manifest):
    manifest.set_clusters({'p0': 0, 'p1': 1})
    manifest.decide_cluster(0, 'keep', by='jane')
    manifest.merge_clusters(0, [1], by='jane')
    manifest.set_clusters({'p0': 5})
    assert len(manifest.history) == 1 and not manifest.merges
    manifest.undo()
    assert manifest.images['p0'].decision == 'undecided' and [c.id for c in manifest.clusters] == [5]


# --- two people ------------------------------------------------------------------------------------------------------
@pytest.fixture
def people(pool):
    a, b = make_manifest(pool), make_manifest(pool)
    a.decide('p0', 'keep', by='jane', seconds=1), b.decide('p0', 'keep', by='omar', seconds=2)
    a.decide('p1', 'drop', ['train'], by='jane'), b.decide('p1', 'drop', ['boat'], by='omar')
    a.decide('p2', 'keep', by='jane'), b.decide('p2', 'drop', ['boat'], by='omar')
    a.decide('p3', 'keep', by='jane')
    a.decide('p4', 'drop', ['boat'], by='auto:typical'), b.decide('p4', 'keep', by='omar')
    return a, b


def test_merge(people):
    a, b = people
    both, agreed = merge(a, b)
    states = {id: (c.decision, c.contains, c.by, c.seconds) for id, c in both.images.items()}
    assert states == {'p0': ('keep', [], 'jane + omar', 3.0), 'p1': ('drop', ['boat', 'train'], 'jane + omar', None),
                      'p2': ('undecided', [], None, None), 'p3': ('keep', [], 'jane', None), 'p4': ('keep', [], 'omar', None),
                      'p5': ('undecided', [], None, None)}
    assert 'jane keep, omar drop' in both.images['p2'].note
    assert agreed.both == 4 and agreed.percent == 50 and [c[0] for c in agreed.conflicts] == ['p2', 'p4']
    assert agreed.confusion[('keep', 'undecided')] == 1 and 'kappa' in agreed._repr_html_()
    assert a.images['p2'].decision == 'keep' and not both.history  # the originals are untouched
    third, _ = merge(both, b)
    assert third.images['p0'].by == 'jane + omar'


@pytest.mark.parametrize('policy, decision', [('first', 'keep'), ('second', 'drop'), ('keep', 'keep'), ('drop', 'drop')])
def test_policies(people, policy, decision):
    assert merge(*people, policy=policy)[0].images['p2'].decision == decision


def test_merge_refusals(people, tmp_path):
    a, b = people
    with pytest.raises(DataError, match="'both' is not a policy"): merge(a, b, policy='both')
    other = make_manifest(make_pool(tmp_path/'other', n=5))
    with pytest.raises(DataError, match='different pools'): merge(a, other)
    b.classes = ('boat', 'train', 'cat')
    with pytest.raises(DataError, match='different classes'): merge(a, b)


def test_merge_of_different_lists_and_flags(people):
    a, b = people
    del a.images['p5'], b.images['p0']
    b.images['p3'].leak_of = 'val/x'
    b.set_clusters({'p1': 0})
    both, agreed = merge(a, b)
    assert set(both.images) == {f'p{i}' for i in range(6)} and both.images['p3'].leak_of == 'val/x'
    assert both.clusters[0].members == ['p1'] and both.clusters[0] is not b.clusters[0]


def test_kappa():
    pairs = [('keep', 'keep')]*20 + [('keep', 'drop')]*5 + [('drop', 'keep')]*10 + [('drop', 'drop')]*15
    sk = pytest.importorskip('sklearn.metrics')
    assert cohen_kappa(pairs) == pytest.approx(sk.cohen_kappa_score(*zip(*pairs))) == pytest.approx(.4)
    assert np.isnan(cohen_kappa([])) and np.isnan(cohen_kappa([('keep', 'keep')]*3)) and cohen_kappa([('keep', 'drop')]*3) == 0
    empty = agreement(Manifest(CLASSES, {}), Manifest(CLASSES, {}))
    assert empty.both == 0 and np.isnan(empty.percent)


def test_carry_over(people):
    a, b = people
    b.images['gone'] = Candidate('gone.png', 'boat', .5, 'keep', by='omar')
    assert carry_over(a, b) == 0 and carry_over(b, a) == 1 and b.images['p3'].by == 'jane' and 'gone' not in a.images


# --- pictures and speed ----------------------------------------------------------------------------------------------
def test_thumbnail(tmp_path):
    Image.new('RGB', (400, 200), 'red').save(tmp_path/'a.jpg')
    Image.new('I;16', (50, 50), 40000).save(tmp_path/'b.png')
    Image.new('CMYK', (300, 300)).save(tmp_path/'c.jpg')
    (tmp_path/'d.jpg').write_bytes(b'nothing')
    (tmp_path/'e.jpg').write_bytes((tmp_path/'a.jpg').read_bytes()[:300])
    sizes = [thumbnail(tmp_path/f'{n}', 96).size for n in ('a.jpg', 'b.png', 'c.jpg', 'd.jpg', 'e.jpg', 'none.jpg')]
    assert sizes == [(96, 48), (50, 50), (96, 96), (96, 96), (96, 96), (96, 96)]


def test_html_is_escaped(manifest):
    manifest.classes = ('boat', 'train', '<script>')
    manifest.images['p0'].predicted = '<script>'
    assert '<script>' not in manifest._repr_html_() and '&lt;script&gt;' in manifest._repr_html_() and '<script>' in str(summary(manifest))


def test_paper_size(tmp_path, quickest):
    "5,190 candidates, each decided alone, with the whole history: saving must not be felt."
    manifest = Manifest(CLASSES, {f'crawl/{i:05d}': Candidate(f'crawl/{i:05d}.jpg', CLASSES[i % 2], .9) for i in range(5190)}, {'sha256': 'x'})
    for id in manifest.images: manifest.decide(id, 'keep', by='jane', seconds=1.9)
    path = tmp_path/'m.json'
    assert quickest(lambda: manifest.save(path), 2) < 2 and quickest(lambda: Manifest.load(path), 2) < 2
    assert Manifest.load(path) == manifest


@pytest.mark.parametrize('change, said', [
    (lambda d: d['history'][0].update(changes='x'), 'history[0].changes'), (lambda d: d['history'].append(3), 'history[1] is 3'),
    (lambda d: d['history'][0]['changes'][0].pop(), 'history[0].changes[0] is a list of 2, not a list of 3'),
    (lambda d: d['history'][0]['changes'][0][1].update(decision='perhaps'), 'history[0].changes[0][1].decision'),
    (lambda d: d['history'][0].update(clusters=[[1, 'x', None]]), 'history[0].clusters[0][1]'), (lambda d: d.update(undone={}), 'undone is an object'),
    (lambda d: d.update(pool=[]), 'pool is a list'), (lambda d: d['images']['p0'].update(seconds='2'), "images.p0.seconds is '2'"),
    (lambda d: d.update(classes=['boat', 'train', 'boat']), 'stands there twice'), (lambda d: d['images']['p0'].update(file=''), 'not the path of a picture'),
    (lambda d: d.update(mine=float('nan')), 'not finite')])
def test_history_and_types_are_checked(manifest, tmp_path, change, said):
    manifest.decide('p0', 'keep', by='jane')
    path = edit(manifest.save(tmp_path/'m.json'), change)
    with pytest.raises(DataError, match='m.json') as error: Manifest.load(path)
    assert said in str(error.value)


def test_a_linked_folder_that_leads_out_of_the_pool_is_not_followed(pool, manifest, tmp_path):
    (tmp_path/'outside').mkdir(); (tmp_path/'pool/p0.png').rename(tmp_path/'outside/x.png')
    (tmp_path/'pool/door').symlink_to(tmp_path/'outside')
    pool = load_pool(tmp_path/'pool')
    manifest.images = {'door/x': Candidate('door/x.png', 'boat', .9, 'keep', by='jane'), 'p1': Candidate('p1.png', 'train', .9, 'keep', by='jane')}
    with pytest.raises(DataError, match="'door/x.png' is a link out of"): usable_split(manifest, pool)
    del manifest.images['door/x']
    assert usable_split(manifest, pool).ids == ['p1']
