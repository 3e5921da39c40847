"""The pruning grid, driven without a display: clicks, pages, the rest, undo, time, saving and what happens when saving fails."""
import itertools
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')

from wood_nb.data.sources import load_pool
from wood_nb.ood.candidates import Candidate, file_of
from wood_nb.ood.manifest import fingerprint, Manifest
from wood_nb.widgets import parts
from wood_nb.widgets.prune import pruning, PruneGrid, UNFLAGGED

CLASSES = ('boat', 'train')


@pytest.fixture
def pool(tmp_path):
    (tmp_path/'pool').mkdir()
    rng = np.random.default_rng(0)
    for i in range(20): Image.fromarray(rng.integers(0, 255, (120, 180, 3), np.uint8)).save(tmp_path/'pool'/f'p{i:02d}.jpg')
    return load_pool(tmp_path/'pool')


@pytest.fixture
def manifest(pool, tmp_path):
    "Thirteen boats (one of them a duplicate, one a leak), seven trains."
    images = {item.id: Candidate(file_of(item), CLASSES[i >= 13], round(.99 - .01*i, 3)) for i, item in enumerate(pool.items)}
    images['p03'].duplicate_of, images['p04'].leak_of = 'p00', 'val/x'
    manifest = Manifest(CLASSES, images, fingerprint(pool))
    manifest.save(tmp_path/'m.json')
    return manifest


@pytest.fixture
def grid(manifest, pool):
    ticks = itertools.count(0, 2.0)
    return PruneGrid(manifest, pool, by='jane', per_page=4, clock=lambda: next(ticks))


def decision(grid, id): return grid.manifest.images[id].decision, grid.manifest.images[id].contains
def on_disk(grid): return Manifest.load(grid.path)
def said(grid) -> str: return grid.widget.state['message']


def test_it_is_the_workbench_without_a_map(grid):
    state = grid.widget.state
    assert (state['mode'], state['brush'], state['colour'], state['sort']) == ('grid', 'drop', 'class', 'p') and state['words'] == UNFLAGGED
    assert grid.on_page == ['p00', 'p01', 'p02', 'p05'] and state['shown'] == 11, 'boats, without duplicate and leak, highest p first'
    assert [entry['label'] for entry in grid.widget.legend[:2]] == list(CLASSES), 'a click there chooses the class'
    assert PruneGrid(grid.manifest, grid_pool(grid), by='jane', flagged=True).widget.state['shown'] == 13


def grid_pool(grid): return load_pool(grid.bench.rows.root)


def test_a_click_drops_and_takes_back(grid):
    grid.click_place(1)
    assert decision(grid, 'p01') == ('drop', ['boat']) == (on_disk(grid).images['p01'].decision, on_disk(grid).images['p01'].contains)
    grid.click('p01')
    assert decision(grid, 'p01') == ('undecided', [])
    grid.do('set', name='brush', value='keep'); grid.click('p01')
    assert decision(grid, 'p01') == ('keep', [])
    grid.do('set', name='brush', value=''); grid.click('p02')
    assert decision(grid, 'p02')[0] == 'undecided' and grid.widget.state['marked'] == 1, 'without a brush it marks'
    assert not grid.do('set', name='brush', value='burn') and 'cannot be set' in said(grid)
    grid.do('set', name='brush', value='drop'); grid.do('set', name='contains', value=['train']); grid.click('p05')
    assert grid.manifest.positives() == {'p05': ['train']}


def test_keep_the_rest_and_pages(grid):
    grid.click('p02'); grid.keep_rest()
    assert [decision(grid, id)[0] for id in grid.on_page] == ['keep', 'keep', 'drop', 'keep'] and decision(grid, 'p03')[0] == 'undecided'
    assert grid.bench.grid.place() == 4, 'on to the next ones'
    for _ in range(5): grid.turn(1)
    assert grid.page == 2 and len(grid.on_page) == 3 and not grid.click_place(3) and grid.click_place(2)
    for _ in range(5): grid.turn(-1)
    assert grid.page == 0 and not grid.keep_rest() and 'nothing is left' in said(grid)


def test_another_class_and_undo_goes_back_to_the_first(grid):
    grid.click('p01')
    assert grid.show_class('train') and grid.on_page[0] == 'p13' and not grid.show_class('cat') and "no class 'cat'" in said(grid)
    assert not grid.click('p01') and 'not shown' in said(grid) and not grid.click('nobody')
    assert grid.undo() and 'p01' in grid.on_page and decision(grid, 'p01')[0] == 'undecided' and on_disk(grid).progress()[0] == 0
    assert grid.redo() and decision(grid, 'p01') == ('drop', ['boat'])
    grid.undo(); assert not grid.undo() and 'nothing to undo' in said(grid)


def test_time_is_shared_and_capped(manifest, pool):
    now = [0.0]
    grid = PruneGrid(manifest, pool, by='jane', per_page=4, clock=lambda: now[0], cap=30)

    def after(seconds, action, *arguments):
        now[0] += seconds
        action(*arguments)
    after(2, grid.click, 'p00'); after(6, grid.keep_rest)
    assert {grid.manifest.images[id].seconds for id in grid.on_page} == {2}
    after(3, grid.click, 'p01'); assert grid.manifest.images['p01'].seconds == 5
    after(9999, grid.click, 'p07'); after(-50, grid.click, 'p08')
    assert [grid.manifest.images[id].seconds for id in ('p07', 'p08')] == [30, 0], 'coffee; a clock set back'


def test_a_name_is_needed_and_guessed(manifest, pool, monkeypatch):
    for name, expected in (('ada', 'ada'), ('root', '')):
        monkeypatch.setattr(parts.getpass, 'getuser', lambda name=name: name)
        assert PruneGrid(manifest, pool).widget.state['by'] == expected
    for name in ('', '   ', 'auto:me', 'file:x'):
        grid = PruneGrid(manifest, pool, by=name, per_page=4)
        assert not grid.click('p00') and not grid.keep_rest() and 'your name' in said(grid) and not manifest.history
    grid.do('set', name='by', value=' omar ')
    assert grid.click('p00') and manifest.images['p00'].by == 'omar'


def test_from_the_file_and_back(grid, pool, tmp_path):
    grid.click('p00')
    again = PruneGrid(tmp_path/'m.json', pool, by='jane')
    assert decision(again, 'p00') == ('drop', ['boat']) and again.undo() and again.widget.saved.startswith('saved')
    data = json.loads((tmp_path/'m.json').read_text())
    assert data['undone'] and data['images']['p00']['decision'] == 'undecided'


def test_a_full_disk_loses_nothing(grid, monkeypatch):
    def full(self, *args, **options): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, 'save', full)
        grid.click('p00')
        assert not grid.saved and said(grid).startswith('NOT SAVED') and 'No space left' in said(grid) and grid.widget.state['bad']
        grid.click('p01'); assert decision(grid, 'p00')[0] == decision(grid, 'p01')[0] == 'drop'
    assert grid.save() and on_disk(grid).progress()[0] == 2


def test_another_window(grid, tmp_path):
    other = Manifest.load(tmp_path/'m.json')
    other.decide('p05', 'keep', by='omar'); other.save()
    assert grid.click('p00') and decision(grid, 'p05')[0] == 'keep' and on_disk(grid).progress()[0] == 2
    other.decide('p01', 'keep', by='omar'); other.decide('p02', 'keep', by='omar'); other.save()
    assert grid.click('p01') and on_disk(grid).progress()[0] == 4 and 'the later decision holds' in said(grid)


def test_a_class_without_pictures_and_no_file(manifest, pool, tmp_path):
    for id in [id for id, c in manifest.images.items() if c.predicted == 'train']: del manifest.images[id]
    manifest.path = manifest.stamp = None
    grid = PruneGrid(manifest, pool, by='jane', name='train')
    assert grid.to_figure().png() and 'nothing is saved' in said(grid)
    grid.show_class('boat'); grid.click('p00')
    assert grid.save(tmp_path/'new.json') and on_disk(grid).progress()[0] == 1


def test_without_a_page(manifest, pool, tmp_path):
    bench = pruning(manifest, tmp_path/'pool', 'jane', 'train')
    bench.do('click', row=bench.grid.cursor); bench.do('keep_rest', count=3)
    assert manifest.progress() == (3, 20) and bench.grid.place() == 3


def test_one_click_at_paper_size(tmp_path, quickest):
    "5,190 candidates and a long history: a click and what the page is told of it take a fraction of a second."
    (tmp_path/'pool').mkdir()
    Image.new('RGB', (60, 60)).save(tmp_path/'pool'/'00000.jpg')
    pool = load_pool(tmp_path/'pool')
    manifest = Manifest(CLASSES, {f'{i:05d}': Candidate(f'{i:05d}.jpg', CLASSES[i % 2], .9) for i in range(5190)}, {'sha256': 'x'})
    for id in list(manifest.images)[500:]: manifest.decide(id, 'keep', by='jane', seconds=1.0)
    grid = PruneGrid(manifest, pool, by='jane', path=tmp_path/'m.json')
    places = itertools.count()
    assert quickest(lambda: grid.click_place(next(places)), 10) < .3 and grid.manifest.progress()[0] > 4690
    grid.close()
