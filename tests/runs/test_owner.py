"""The run folder has one owner: stages done again, contents instead of time stamps, what is kept, links, two processes."""
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from PIL import Image

from wood_nb.base.contents import Contents, marked_by_time
from wood_nb.base.files import DataError, read_json
from wood_nb.base.locks import one_writer
from wood_nb.cli.parser import main
from wood_nb.data.augment import Augment
from wood_nb.masks.segment import add_results
from wood_nb.ood.manifest import Manifest
from wood_nb.runs import pipeline
from wood_nb.runs.config import preset
from wood_nb.runs.pipeline import execute
from wood_nb.runs.run import Run, fingerprint, is_done, joined_notes, run_stage, stage_note, what_changed

torch.set_num_threads(1)


def small_config():
    made = preset('tiny', 'scenes:')
    few = replace(made.classifier, steps=3, augment=Augment.small(48), precision='no')
    return replace(made, classifier=few, wood=replace(made.wood, train=replace(few, lr=0.01), clusters=3, ood_batch=4), ablation=('zero-label',),
                   mine_threshold=0.0, mirror=False, scales=(1.0,), scenes={'train': 12, 'val': 4, 'ood': 4, 'pool': 24, 'size': 64})


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    "A run of a few steps with every stage but the report."
    run = Run.create(tmp_path_factory.mktemp('runs')/'whole', small_config())
    return execute(run, 'seeds', say=lambda line: None).path


@pytest.fixture
def run(whole, tmp_path) -> Run: return Run(shutil.copytree(whole, tmp_path/'run'))


@pytest.fixture
def words(tmp_path) -> list[str]:
    "A run on two pictures as words of the command line; they lie in the folder `data`."
    data = tmp_path/'data'
    data.mkdir()
    for split in ('train', 'val'):
        Image.new('RGB', (40, 40), 'red').save(data/f'{split}.png')
        with open(data/f'{split}.csv', 'w', newline='') as file: csv.writer(file).writerows([('image', 'labels'), (f'{split}.png', 'a')])
    return ['run', '--data', f'csv:{data}', '--preset', 'small', '--backbone', 'tiny', '--weights', 'none', '--batch-size', '2', '--set',
            'classifier.freeze_stages=0', '--set', 'classifier.steps=2', '--upto', 'classifier', '--out', str(tmp_path/'run')]


def files(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_ino for file in folder.rglob('*') if file.is_file()}


# --- doing a stage again ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['classifier', 'clusters', 'continued', 'wood', 'ablation', 'maps', 'mining', 'seeds'])
def test_a_stage_is_done_again_on_a_real_run(run, name, capsys):
    before = files(run.path/name) if (run.path/name).is_dir() else {'curves.csv': (run.path/'curves.csv').stat().st_ino}
    assert main([name, str(run.path), '--again']) == 0
    out = capsys.readouterr().out
    now = files(run.path/name) if (run.path/name).is_dir() else {'curves.csv': (run.path/'curves.csv').stat().st_ino}
    written = [file for file in before if file in now and now[file] != before[file]]
    assert before.keys() == now.keys() and written, f'{name} was not done again'
    if name not in ('mining', 'seeds'): assert f'{name}: done again, because of --again; what it replaces is kept as' in out
    assert not list(run.path.glob('*.old-*')) and 'again' not in read_json(run.path/'run.json', 'wood_nb.run')
    assert main(['seeds', str(run.path)]) == 0 and f'{name}: unchanged, skipped' in capsys.readouterr().out


def test_a_run_that_was_left_without_a_note_goes_on(run, capsys):
    "What `--again` of an older version left: no note of the stage, but notes of stages that need it."
    run.note['stages'].pop('maps')
    run.save()
    assert main(['seeds', str(run.path)]) == 0 and is_done(Run(run.path), 'maps')


def test_doing_it_again_may_be_interrupted(run, monkeypatch, capsys):
    def stopped(run): raise KeyboardInterrupt
    monkeypatch.setitem(pipeline.STAGES, 'maps', replace(pipeline.STAGES['maps'], work=stopped))
    assert main(['maps', str(run.path), '--again']) == 130
    kept, = run.path.glob('maps.old-*')
    assert (kept/'cam').is_dir() and f'rm -r {kept}' in capsys.readouterr().out
    monkeypatch.undo()
    assert main(['maps', str(run.path)]) == 0 and (run.path/'maps/cam').is_dir() and not kept.exists()


@pytest.mark.parametrize('linked', [False, True])
def test_going_back_to_earlier_options_takes_back_what_was_made(run, monkeypatch, capsys, linked):
    "Also by way of unfinished work, which is kept in its place; nothing but `NAME.old-DATE` is believed to be kept."
    if linked: (run.path/'maps').rename(run.path/'elsewhere'), (run.path/'maps').symlink_to('elsewhere')
    def stopped(run):
        (run.path/'maps').mkdir(exist_ok=True)
        (run.path/'maps/half').write_text('')
        raise KeyboardInterrupt
    before, at = files(run.path/'maps'), lambda scales: Run.create(run.path, replace(run.config, scales=scales))  # noqa: E731
    other = at((.5,))
    monkeypatch.setitem(pipeline.STAGES, 'maps', replace(pipeline.STAGES['maps'], work=stopped))
    with pytest.raises(KeyboardInterrupt): execute(other, 'maps', say=print)
    assert 'going back to the earlier options takes it back' in capsys.readouterr().out
    other.note['stages']['maps']['replaced']['../maps.old-1'] = other.note['stages']['maps']['replaced'][f'{run.path}/maps.old-2'] = {}
    other.save()
    execute(at(run.config.scales), 'seeds', say=print)
    told, half = capsys.readouterr().out, list(run.path.rglob('half'))
    assert 'maps: taken back from' in told and told.count('unchanged, skipped') == 9 and 'maps.old-' in str(half[0]) and len(half) == 1
    assert {name: n for name, n in files(run.path/'maps').items() if 'old-' not in name} == before
    with pytest.raises(KeyboardInterrupt): execute(at((.5,)), 'maps', say=print)
    assert 'taken back' in capsys.readouterr().out and (run.path/'maps/half').exists() and len(list(run.path.rglob('maps.old-*'))) == 1
    monkeypatch.undo()
    execute(at((.5,)), 'maps', say=print)
    assert not list(run.path.rglob('*.old-*')) and 'replaced' not in Run(run.path).note['stages']['maps']


# --- contents, not time stamps ------------------------------------------------------------------------------------------

def test_touched_and_copied_data_train_nothing_again(words, tmp_path, capsys):
    assert main(words) == 0
    before = files(tmp_path/'run/classifier')
    for file in (tmp_path/'data').iterdir(): os.utime(file, (1, 1))
    assert main(words) == 0 and files(tmp_path/'run/classifier') == before
    shutil.copy(tmp_path/'data/train.png', tmp_path/'copy.png'), shutil.move(tmp_path/'copy.png', tmp_path/'data/train.png')
    assert main(words) == 0 and files(tmp_path/'run/classifier') == before
    assert 'done again' not in capsys.readouterr().out


def test_changed_data_are_named_and_what_was_trained_is_kept_until_then(words, tmp_path, capsys, monkeypatch):
    assert main(words) == 0
    before, wanted = (tmp_path/'run/classifier/weights.safetensors').read_bytes(), tmp_path/'data/train.png'
    for file in (tmp_path/'data').iterdir(): os.utime(file, (1, 1))
    monkeypatch.setattr('wood_nb.base.contents._JUST_NOW', -1)
    assert main(words) == 0  # remembers
    Image.new('RGB', (40, 40), 'blue').save(wanted)
    os.utime(wanted, (1, 1))
    seen, real = [], pipeline.train

    def train(*args, **options):
        kept, = (tmp_path/'run').glob('classifier.old-*')
        seen.append((kept/'weights.safetensors').read_bytes())
        return real(*args, **options)
    monkeypatch.setattr(pipeline, 'train', train)
    capsys.readouterr()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f'data: done again, because of the files and labels of the lists ({wanted})' in out
    assert 'classifier: done again, because of the stage data; what it replaces is kept as' in out and 'rm -r' in out
    assert seen == [before] and not list((tmp_path/'run').glob('*.old-*')) and (tmp_path/'run/classifier/weights.safetensors').read_bytes() != before


def test_changed_options_are_named(run):
    run.config = replace(run.config, long_side=99, wood=replace(run.config.wood, tau=.5))
    assert what_changed(run, 'mining') == ['long_side 256 -> 99'] or what_changed(run, 'mining')[0].endswith('-> 99')
    assert 'wood.tau 0.2 -> 0.5' in what_changed(run, 'wood') and what_changed(run, 'seeds') == []
    run.note['stages']['mining']['fingerprint'] = 'another'
    assert what_changed(run, 'clusters') == ['the stage mining']


def test_a_copied_run_mines_nothing_again(whole, tmp_path, capsys):
    copy = tmp_path/'copy'
    shutil.copytree(whole, copy, copy_function=shutil.copyfile)  # other times
    assert main(['seeds', str(copy)]) == 0
    assert capsys.readouterr().out.count('unchanged, skipped') == 9


def test_runs_of_before_keep_what_they_have_done(run):
    "Notes without contents: valid while the times are as noted, and by contents from then on."
    pool = sorted((run.path/'scenes/pool').glob('*.jpg'))
    for name in list(run.note['stages']):
        run.by_time = True
        note = stage_note(run, name)
        run.by_time = False
        run.note['stages'][name] = {**{k: v for k, v in run.note['stages'][name].items() if k not in ('reads', 'before')}, 'fingerprint': note['fingerprint']}
    run.save()
    assert fingerprint(run, 'mining') != run.note['stages']['mining']['fingerprint'] and is_done(run, 'mining')
    assert not (lambda r: (os.utime(pool[0], (5, 5)), is_done(r, 'mining'))[1])(Run(run.path))
    os.utime(pool[0], ns=(pool[1].stat().st_mtime_ns,)*2), shutil.copystat(pool[1], pool[0])
    times = {file: file.stat().st_mtime_ns for file in pool}
    run.by_time = True
    run.note['stages']['mining']['fingerprint'] = fingerprint(run, 'mining')
    run.by_time = False
    run.save()
    told = []
    execute(Run(run.path), 'mining', say=told.append)
    assert all('unchanged' in line for line in told) and times
    os.utime(pool[0], (7, 7))
    execute(Run(run.path), 'mining', say=told.append)
    assert all('unchanged' in line for line in told) and len(told) == 6


def test_a_second_look_reads_nothing(tmp_path, monkeypatch):
    file, cache = tmp_path/'a', tmp_path/'contents.json'
    file.write_bytes(b'a')
    os.utime(file, (1, 1))
    monkeypatch.setattr('wood_nb.base.contents._JUST_NOW', -10**12)
    first = Contents(cache)
    mark = first.mark(file)
    first.save()
    monkeypatch.setattr('hashlib.file_digest', lambda *args: pytest.fail('read again'))
    assert Contents(cache).mark(file) == mark and Contents(tmp_path/'none.json').changed == []
    monkeypatch.undo()
    file.write_bytes(b'b')
    os.utime(file, (1, 1))  # same size, same time
    again = Contents(cache)
    assert again.mark(file) != mark and again.changed == [str(file)] and marked_by_time(file) == f'1 {10**9}'
    for text in ('', '[]', '{"format": "wood_nb.contents", "files": {"x": 1}}'):
        cache.write_text(text)
        assert Contents(cache).mark(file) == again.mark(file)
    taken = Contents(tmp_path/'other.json')
    taken.take(first)
    assert taken.known and str(file) in taken.known


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path):
    (tmp_path/'a').write_bytes(b'a')
    look = Contents(tmp_path/'contents.json')
    look.mark(tmp_path/'a')
    assert look.known == {} and not look.news


# --- links --------------------------------------------------------------------------------------------------------------

def test_a_stage_folder_may_be_a_link_to_another_disk(run, tmp_path, capsys):
    disk = tmp_path/'disk'
    (run.path/'maps').rename(disk)
    (run.path/'maps').symlink_to(disk)
    before = files(disk)
    assert main(['maps', str(run.path), '--again']) == 0
    after = files(disk)
    assert (run.path/'maps').is_symlink() and after.keys() == before.keys() and not set(after.values()) & set(before.values())
    shutil.rmtree(disk)
    assert main(['maps', str(run.path), '--again']) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'a link to one that is gone' in err and str(disk) in err


# --- two processes ------------------------------------------------------------------------------------------------------

def test_a_second_command_on_a_run_is_refused_and_readers_are_not(run, capsys):
    done, held = threading.Event(), threading.Event()

    def hold():
        with one_writer(run.path):
            held.set()
            done.wait(30)
    thread = threading.Thread(target=hold)
    thread.start(), held.wait()
    (run.path/'STOP').touch()
    before = files(run.path)
    try:
        for words in (['maps', run.path], ['refine', run.path], ['segment', run.path], ['package', run.path, 'val'], ['figures', run.path],
                      ['run', '--data', 'scenes:', '--out', run.path]):
            assert main(list(map(str, words))) == 2, words
            err = capsys.readouterr().err.strip().splitlines()
            assert len(err) == 1 and f'process {os.getpid()} on ' in err[0] and 'since 20' in err[0], err
        assert files(run.path) == before  # its STOP is for the first one
        assert main(['compare', str(run.path), '--methods', 'cam', 'wood', '--draws', '5']) == 0 and Run(run.path).results()
        for work in (lambda: execute(Run(run.path)), lambda: Run.create(run.path, run.config), lambda: run_stage(Run(run.path), 'maps')):
            with pytest.raises(DataError, match='is writing there'): work()
    finally:
        done.set(), thread.join()


@pytest.mark.slow
def test_two_processes_on_one_new_run(words, tmp_path):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    both = [subprocess.Popen([sys.executable, '-m', 'wood_nb.cli', *words, '--set', 'classifier.steps=12'], env=environment, stderr=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes and set(codes) <= {0, 2}  # the second one was refused, or came when the first had ended
    if 2 in codes: assert f'process {both[codes.index(0)].pid} on ' in told[codes.index(2)]
    assert len((tmp_path/'run/classifier/train.jsonl').read_text().splitlines()) <= 12


def add_rows(path: Path, name: str) -> None:
    for n in range(60): add_results(path, [dict(method=f'{name}{n}', stage='mask', split='val', miou=1.0, per_class={})])


@pytest.mark.skipif(os.name == 'nt', reason='forks')
def test_no_row_of_two_processes_is_lost(tmp_path):
    "Measured before: of 120 rows 103 were there."
    path = tmp_path/'metrics.json'
    both = [get_context('fork').Process(target=add_rows, args=(path, name)) for name in 'ab']
    for process in both: process.start()
    for process in both: process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(read_json(path, 'wood_nb.metrics')['results']) == 120 and os.listdir(tmp_path) == ['metrics.json']


def test_what_two_wrote_into_run_json_is_joined(run):
    other = Run(run.path)
    other.note['stages']['wood']['info'] = {'from': 'other'}
    other.note['note'] = 'by hand'
    other.note['skipped'] = [{'file': 'a', 'why': 'broken', 'stage': 'mining'}]
    other.save()
    run.note['stages'].pop('seeds')
    run.note['skipped'].append({'file': 'b', 'why': 'broken', 'stage': 'maps'})
    run.save()
    note = read_json(run.path/'run.json', 'wood_nb.run')
    assert note == run.note and note['note'] == 'by hand' and note['stages']['wood']['info'] == {'from': 'other'} and 'seeds' not in note['stages']
    assert [row['file'] for row in note['skipped']] == ['a', 'b']
    assert joined_notes({'a': 1, 'b': 1}, {'a': 2, 'b': 1}, {'a': 1, 'b': 3, 'c': 4}) == {'a': 2, 'b': 3, 'c': 4}


# --- decisions while mining goes on ---------------------------------------------------------------------------------------

def test_what_people_decide_while_mining_goes_on_is_kept(run, monkeypatch, capsys):
    path, real = run.path/'mining/manifest.json', pipeline.prune
    manifest = run.manifest()
    early, late, undone, gone = list(manifest.images)[:4]
    manifest.decide([early, undone, gone], 'drop', by='jane')
    manifest.save()

    def prune(run, mined, net):
        del mined.images[gone]
        for candidate in mined.images.values(): candidate.duplicate_of = None
        real(run, mined, net)
        people = Manifest.load(path)
        people.decide(late, 'drop', ['cat'], by='omar')
        people.decide(undone, 'undecided', by='jane')
        people.rename_cluster(people.clusters[0].id, 'rails', by='omar')
        people.save()
    monkeypatch.setattr(pipeline, 'prune', prune)
    assert main(['mining', str(run.path), '--again']) == 0
    found = run.manifest()
    assert [found.images[id].by for id in (early, late, undone)] == ['jane', 'omar', 'jane'] and found.images[late].contains == ['cat']
    assert found.images[undone].decision == 'undecided' and found.clusters[0].name == 'rails' and gone not in found.images
    kept, = path.parent.glob('manifest.old-*.json')
    assert Manifest.load(kept).images[gone].by == 'jane'


def test_a_point_of_two_sweeps_is_marked_in_turn(tmp_path):
    from wood_nb.runs.sweep import Task, mark_point
    threads = [threading.Thread(target=mark_point, args=(Task(tmp_path, tmp_path, 'A1', {'images': n}),)) for n in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(json.loads((tmp_path/'point.json').read_text())['points']) == 8
