"""The pruning grid, driven without a display: clicks, pages, undo, time, saving and what happens when saving fails."""
import base64
import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('ipywidgets')

from wood_nb.base.files import DataError
from wood_nb.data.sources import load_pool
from wood_nb.ood.candidates import Candidate, file_of
from wood_nb.ood.manifest import fingerprint, Manifest
from wood_nb.widgets import prune
from wood_nb.widgets.prune import jpeg_address, NOTHING, PREDICTED, PruneGrid, Session

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


def test_first_page(grid):
    assert grid.session.name == 'boat' and grid.session.on_page == ['p00', 'p01', 'p02', 'p05']  # no duplicate, no leak
    assert [t.description for t in grid.thumbs] == ['? boat 0.99', '? boat 0.98', '? boat 0.97', '? boat 0.94']
    assert 'page 1 of 3' in grid.page_text.value and '0 of 11 boat decided, 0 of 20 in all' in grid.counts.value
    assert grid.pictures.value.count('data:image/jpeg;base64,') == 4 and 'wood-undecided' in grid.thumbs[0]._dom_classes


def test_click_drops_and_takes_back(grid):
    grid.thumbs[1].click()
    assert decision(grid, 'p01') == ('drop', ['boat']) and '\u2715' in grid.thumbs[1].description
    assert 'wood-drop' in grid.thumbs[1]._dom_classes and 'wood-undecided' not in grid.thumbs[1]._dom_classes
    assert 'contains boat' in grid.thumbs[1].tooltip
    grid.click('p01')
    assert decision(grid, 'p01') == ('undecided', [])
    grid.brush_box.value = 'keep'
    grid.click('p01')
    assert decision(grid, 'p01') == ('keep', [])
    grid.brush_box.value = 'drop'
    grid.click('p01')
    assert decision(grid, 'p01') == ('drop', ['boat']) and on_disk(grid).images['p01'].decision == 'drop'


def test_drop_remembers_what_it_contained(grid):
    grid.contains_box.value = 'train'
    grid.click('p00')
    assert decision(grid, 'p00') == ('drop', ['train'])
    grid.contains_box.value = PREDICTED
    grid.click('p00'), grid.click('p00')
    assert decision(grid, 'p00') == ('drop', ['train'])
    grid.contains_box.value = NOTHING
    grid.click('p01')
    assert decision(grid, 'p01') == ('drop', []) and grid.manifest.positives() == {'p00': ['train']}


def test_keep_the_rest_and_pages(grid):
    grid.click('p02')
    grid.buttons['Keep the rest'].click()
    assert [decision(grid, id)[0] for id in grid.session.on_page] == ['keep', 'keep', 'drop', 'keep']
    assert decision(grid, 'p03')[0] == 'undecided'  # the duplicate was not on the page
    for _ in range(5): grid.buttons['Next'].click()
    assert 'page 3 of 3' in grid.page_text.value and [t.layout.display for t in grid.thumbs] == [None, None, None, 'none']
    assert not grid.click_place(3) and grid.click_place(2)
    for _ in range(5): grid.buttons['Back'].click()
    assert grid.session.page == 0 and grid.pictures.value.count('data:') == 4
    before = len(grid.manifest.history)
    grid.keep_rest()
    assert len(grid.manifest.history) == before  # nothing was left to keep


def test_duplicates_on_request(grid):
    grid.flagged_box.value = True
    assert grid.session.on_page == ['p00', 'p01', 'p02', 'p03'] and grid.thumbs[3].description.startswith('=?')
    grid.forward()
    assert grid.thumbs[0].description.startswith('!?') and 'of 13 boat' in grid.counts.value
    grid.forward(), grid.forward()
    grid.flagged_box.value = False  # fewer pages now
    assert grid.session.page == 2 and grid.session.on_page


def test_change_of_class(grid):
    grid.forward()
    grid.class_box.value = 'train'
    assert grid.session.page == 0 and grid.session.on_page[0] == 'p13' and 'of 7 train' in grid.counts.value
    with pytest.raises(DataError, match='cat'): grid.session.show('cat')


def test_undo_goes_where_it_happened(grid):
    grid.click('p01')
    grid.class_box.value = 'train'
    grid.forward()
    grid.buttons['Undo'].click()
    assert grid.class_box.value == 'boat' and grid.session.page == 0 and decision(grid, 'p01')[0] == 'undecided'
    assert on_disk(grid).progress()[0] == 0 and len(on_disk(grid).undone) == 1
    grid.buttons['Redo'].click()
    assert decision(grid, 'p01') == ('drop', ['boat'])
    grid.undo()
    assert not grid.undo() and not grid.manifest.history and grid.redo() and not grid.redo()


def test_undo_of_a_hidden_duplicate_shows_it(grid):
    grid.flagged_box.value = True
    grid.forward()
    grid.click('p04')
    grid.flagged_box.value = False
    grid.class_box.value = 'train'
    grid.undo()
    assert grid.flagged_box.value and 'p04' in grid.session.on_page


def test_time_is_shared_capped_and_added(manifest, pool):
    now = [0.0]
    grid = PruneGrid(manifest, pool, by='jane', per_page=4, clock=lambda: now[0], cap=30)

    def after(seconds, action, *arguments):
        now[0] += seconds
        action(*arguments)
    after(2, grid.click, 'p00')
    after(6, grid.keep_rest)
    seconds = {id: grid.manifest.images[id].seconds for id in grid.session.on_page}
    assert seconds == {'p00': 2, 'p01': 2, 'p02': 2, 'p05': 2}
    after(3, grid.click, 'p01')
    assert grid.manifest.images['p01'].seconds == 5
    after(4, grid.forward)
    after(1, grid.click, 'p06')  # looking and turning the page count too
    after(9999, grid.click, 'p07')  # coffee
    after(-50, grid.click, 'p08')  # a clock set back
    assert [grid.manifest.images[id].seconds for id in ('p06', 'p07', 'p08')] == [5, 30, 0]
    assert '2.0 s a decision' in grid.counts.value


@pytest.mark.parametrize('name', ['', '   ', 'auto:me', 'file:x'])
def test_a_name_is_needed(manifest, pool, name):
    grid = PruneGrid(manifest, pool, by=name, per_page=4)
    assert not grid.click('p00') and not grid.keep_rest()
    assert 'your name' in grid.status.value and 'wood-bad' in grid.status.value and grid.manifest.progress()[0] == 0
    grid.by_box.value = ' omar '
    assert grid.click('p00') and grid.manifest.images['p00'].by == 'omar'


def test_default_name(manifest, pool, monkeypatch):
    monkeypatch.setattr(prune.getpass, 'getuser', lambda: 'ada')
    assert PruneGrid(manifest, pool).by_box.value == 'ada'
    monkeypatch.setattr(prune.getpass, 'getuser', lambda: 'root')
    assert PruneGrid(manifest, pool).by_box.value == ''

    def nobody(): raise OSError
    monkeypatch.setattr(prune.getpass, 'getuser', nobody)
    assert PruneGrid(manifest, pool).by_box.value == ''


def test_unknown_picture(grid):
    assert not grid.click('nobody') and 'nobody' in grid.status.value and not grid.manifest.history


def test_from_the_file_and_back(grid, pool, tmp_path):
    grid.click('p00')
    again = PruneGrid(tmp_path/'m.json', pool, by='jane')
    assert decision(again, 'p00') == ('drop', ['boat']) and again.undo() and 'saved' in again.status.value
    data = json.loads((tmp_path/'m.json').read_text())
    assert data['undone'] and data['images']['p00']['decision'] == 'undecided'


def test_disk_full_loses_nothing(grid, monkeypatch):
    def full(self, *args, **options): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, 'save', full)
        assert not grid.click('p00') and not grid.saved
        assert 'NOT SAVED' in grid.status.value and 'No space left' in grid.status.value and 'wood-bad' in grid.status.value
        grid.click('p01')
        assert decision(grid, 'p00')[0] == decision(grid, 'p01')[0] == 'drop' and '\u2715' in grid.thumbs[1].description
    grid.buttons['Save'].click()
    assert grid.saved and on_disk(grid).progress()[0] == 2 and 'wood-bad' not in grid.status.value


def test_another_window(grid, tmp_path):
    other = Manifest.load(tmp_path/'m.json')
    other.decide('p05', 'keep', by='omar')
    other.save()
    assert grid.click('p00') and decision(grid, 'p05')[0] == 'keep' and on_disk(grid).progress()[0] == 2
    other.decide('p01', 'keep', by='omar')
    other.decide('p02', 'keep', by='omar')
    other.save()
    assert grid.click('p01') and on_disk(grid).progress()[0] == 4 and 'otherwise; the later decision holds' in grid.status.value
    other.images.pop('p03')
    other.save(tmp_path/'m.json', force=True)
    assert not grid.click('p04') and 'lists other candidates' in grid.status.value and 'NOT SAVED' in grid.status.value
    assert grid.save(tmp_path/'jane.json') and Manifest.load(tmp_path/'jane.json').progress()[0] == 5


def test_without_a_file(manifest, pool, tmp_path):
    manifest.path = manifest.stamp = None
    grid = PruneGrid(manifest, pool, by='jane')
    assert 'nothing is saved' in grid.status.value
    assert not grid.click('p00') and decision(grid, 'p00')[0] == 'drop' and grid.save(tmp_path/'new.json') and grid.click('p01')


def test_names_never_become_html(tmp_path):
    (tmp_path/'pool').mkdir()
    name = '<img src=x onerror=alert(1)>.png'
    Image.new('RGB', (30, 20)).save(tmp_path/'pool'/name)
    pool = load_pool(tmp_path/'pool')
    classes = ('<b>boat</b>', 'train')
    manifest = Manifest(classes, {pool[0].id: Candidate(name, classes[0], .9)}, fingerprint(pool))
    grid = PruneGrid(manifest, pool, by='<i>jane</i>', path=tmp_path/'<u>m.json')
    grid.click(pool[0].id), grid.click('<s>nobody</s>')
    html = ''.join(w.value for w in (grid.pictures, grid.status, grid.counts, grid.page_text))
    assert not any(f'<{tag}' in html for tag in ('img', 'b>', 'i>', 'u>', 's>')) and '&lt;s&gt;' in grid.status.value
    grid.save()
    assert '&lt;u&gt;' in grid.status.value


def test_thumbnails_are_small_and_never_the_pool(grid, pool, tmp_path):
    data = base64.b64decode(grid.address('p00.jpg').split(',')[1])
    assert max(Image.open(io.BytesIO(data)).size) == 96 and len(data) < 9000
    assert len(grid.pictures.value) < 4*12_000
    (tmp_path/'broken.jpg').write_bytes(b'x')
    assert jpeg_address(tmp_path/'broken.jpg').startswith('data:image/jpeg') and jpeg_address(tmp_path/'none.jpg')


def test_page_is_sent_only_when_it_changes(grid):
    sent = []
    grid.pictures.observe(lambda change: sent.append(1), 'value')
    grid.click('p00'), grid.keep_rest(), grid.undo()
    assert not sent
    grid.forward()
    assert len(sent) == 1


def test_thumbnails_are_as_wide_as_their_pictures(grid):
    "Not as wide as their captions, which would cut the pictures."
    assert {thumb.layout.width for thumb in grid.thumbs} == {'112px'}


def test_twin_and_bundle(grid):
    grid.click('p00')
    png = grid.to_figure().png()
    assert png.startswith(b'\x89PNG') and len(png) < 200_000
    bundle = grid._repr_mimebundle_()
    assert 'application/vnd.jupyter.widget-view+json' in bundle and base64.b64decode(bundle.get('image/png') or bundle['image/jpeg'])[:3] in (b'\x89PN', b'\xff\xd8\xff')


def test_empty_class(manifest, pool):
    for id in [id for id, c in manifest.images.items() if c.predicted == 'train']: del manifest.images[id]
    grid = PruneGrid(manifest, pool, by='jane', name='train')
    assert 'page 1 of 1' in grid.page_text.value and '0 of 0 train' in grid.counts.value
    assert all(t.layout.display == 'none' for t in grid.thumbs) and grid.to_figure().png()
    grid.keep_rest(), grid.forward()


def test_session_needs_no_widget(manifest):
    session = Session(manifest, 'jane', 'train', per_page=3)
    session.click('p13')
    session.keep_rest()
    assert session.turn(0) == 3 and manifest.progress() == (3, 20)


def test_one_click_at_paper_size(tmp_path, quickest):
    "5,190 candidates and a long history: a click, its save and its picture take a fraction of a second."
    (tmp_path/'pool').mkdir()
    Image.new('RGB', (60, 60)).save(tmp_path/'pool'/'00000.jpg')
    pool = load_pool(tmp_path/'pool')
    manifest = Manifest(CLASSES, {f'{i:05d}': Candidate(f'{i:05d}.jpg', CLASSES[i % 2], .9) for i in range(5190)}, {'sha256': 'x'})
    for id in list(manifest.images)[500:]: manifest.decide(id, 'keep', by='jane', seconds=1.0)
    grid = PruneGrid(manifest, pool, by='jane', path=tmp_path/'m.json')
    grid.click('00000')
    others = iter(grid.thumbs[1:])
    assert quickest(lambda: next(others).click(), 10) < .7 and grid.saved
