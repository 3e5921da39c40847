"""The workbench's widget without a display: what the page is told and asks for, saving, refusals, pictures, stills; and its files."""
import io
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')

from four_kinds import draw_pool, EVIL, mined
from wood_nb.ood.manifest import Manifest
from wood_nb.report.page import leads_out
from wood_nb.widgets.bench.front import page_module
from wood_nb.widgets.bench.workbench import Workbench
from wood_nb.widgets.explorer import ClusterExplorer
from wood_nb.widgets.parts import Autosave
from wood_nb.widgets.stills import parts_shown


@pytest.fixture
def pool(tmp_path): return draw_pool(tmp_path/'pool', 300)


@pytest.fixture
def work(pool, tmp_path):
    manifest, store = mined(pool)
    made = Workbench(manifest, pool, store, by='jane', path=tmp_path/'m.json', k=4)
    made.sent = []
    made.widget.send = lambda content, buffers=None: made.sent.append((content, buffers))
    return made


def ask(work, action, **how): work.hear(None, {'type': 'do', 'action': action, 'how': how}, [])
def column(work, name, kind): return np.frombuffer(getattr(work.widget, name), kind)
def saved(work): return Manifest.load(work.path)


def test_the_page_is_told_of_all_that_changes(work):
    assert len(column(work, 'xy', '<f4')) == 80 and len(column(work, 'order', '<u4')) == 40 and len(work.widget.cards) == 4
    ask(work, 'go', cluster=1)
    members = work.bench.strip.members(1)
    assert set(column(work, 'order', '<u4')) == set(members) and (column(work, 'flags', 'u1')[:40] & 1).sum() == 10
    assert work.widget.state['targets'] == 10 and work.widget.state['focus'] == 1
    ask(work, 'decide', decision='drop')
    assert saved(work).progress() == (10, 40) and {c['id']: c['drop'] for c in work.widget.cards}[1] == 10
    assert work.widget.saved.startswith('saved ') and 'dropped' in work.widget.state['message']
    ask(work, 'undo'); assert saved(work).progress() == (0, 40)
    assert work.widget.marks[1]['colour'] == work.widget.legend[1]['colour'] == next(c for c in work.widget.cards if c['id'] == 1)['colour']


def test_only_what_differs_is_sent(work):
    changed = []
    work.widget.observe(lambda change: changed.append(change['name']))
    ask(work, 'move', by=1)
    assert set(changed) == {'state'}


def test_thumbnails_and_pictures_come_when_they_are_asked_for(work):
    work.hear(None, {'type': 'thumbs', 'rows': [0, 39, 99]}, [])
    (content, buffers), = work.sent
    assert content['rows'] == [0, 39] and content['names'][0] == [work.bench.rows.ids[0]]
    assert all(max(Image.open(io.BytesIO(b)).size) <= 176 for b in buffers), 'a grey card for the broken one'
    work.hear(None, {'type': 'picture', 'row': 5}, []); work.hear(None, {'type': 'picture', 'row': 77}, [])
    (content, (picture,)), = work.sent[1:]
    assert content['kind'] == 'image/jpeg' and Image.open(io.BytesIO(picture)).size == (300, 90), 'as it is'


def test_what_is_refused_is_said_and_changes_nothing(work):
    work.save()
    before = work.path.read_bytes()
    ask(work, 'decide', decision='keep')
    assert work.widget.state['bad'] and 'nothing is selected' in work.widget.state['message'] and work.path.read_bytes() == before
    ask(work, 'set', name='by', value=''); ask(work, 'decide', decision='keep', what='single')
    assert 'write your name' in work.widget.state['message'] and work.path.read_bytes() == before
    with pytest.raises(Exception, match='nothing that the workbench does'): ask(work, '__init__')


def test_a_save_that_fails_is_said_and_the_next_one_tries_again(work, tmp_path):
    work.path = tmp_path/'m.json'/'no'/'folder.json'
    (tmp_path/'m.json').write_text('{}')
    ask(work, 'decide', decision='keep', what='single')
    assert work.widget.state['message'].startswith('NOT SAVED') and work.widget.state['bad'] and not work.saved
    (tmp_path/'m.json').unlink(); work.path = tmp_path/'m.json'
    assert work.save() and saved(work).progress()[0] == 1


def test_what_another_person_saves_meanwhile_is_shown(work):
    work.save()
    other = saved(work)
    other.decide(work.bench.rows.ids[30], 'keep', by='bob'); other.save()
    ask(work, 'decide', decision='drop', what='single')
    assert work.widget.state['decided'] == 2 == saved(work).progress()[0]
    assert column(work, 'flags', 'u1')[30] >> 3 & 3 == 0, 'kept'


def test_values_and_pinned_maps_have_their_place(work):
    work.bench.set_values({2: 1.5}, 'points'); work.refresh()
    assert {c['id']: c['value'] for c in work.widget.cards} == {0: None, 1: None, 2: 1.5, 3: None} and work.widget.state['value_name'] == 'points'
    work.pin([{'title': 'boat', 'note': '0.61', 'picture': b'jpeg'}])
    assert work.widget.pins[0]['title'] == 'boat'


def test_its_picture_stays_where_there_is_no_kernel(work):
    ask(work, 'go', cluster=0)
    picture, style, widget = parts_shown(work)
    kind, = (key for key in picture if key.startswith('image/'))
    assert len(picture[kind]) > 10_000 and 'wood-still' in style['text/html']
    assert 'application/vnd.jupyter.widget-view+json' in widget and not any(key.startswith('image/') for key in widget)
    assert work.to_png()[:4] == b'\x89PNG'


def test_in_vs_code_outputs_cannot_hide_one_another(work, monkeypatch):
    monkeypatch.setenv('VSCODE_PID', '1')
    whole, = parts_shown(work)
    assert any(key.startswith('image/') for key in whole) and 'application/vnd.jupyter.widget-view+json' in whole


def test_the_explorer_is_the_workbench_with_its_buttons_as_methods(pool, tmp_path):
    manifest, store = mined(pool)
    explorer = ClusterExplorer(manifest, pool, store, by='jane', path=tmp_path/'m.json', k=4)
    assert isinstance(explorer, Workbench) and explorer.next_cluster() and explorer.drop() and explorer.bench.strip.focus == 1
    assert explorer.previous_cluster() and explorer.manifest.cluster(0).decision == 'drop' and explorer.undo() and not explorer.undo() and explorer.redo()
    assert explorer.clear() and explorer.mark_place(0) and explorer.mark_place(3) and explorer.keep() and explorer.manifest.progress()[0] == 12
    assert explorer.select(explorer.bench.rows.ids[:2]) and explorer.filter('is:keep') and explorer.focus_cluster(2) and not explorer.filter('zebra')


def test_a_page_without_a_kernel_holds_all_it_needs_and_names_stay_text(work, tmp_path):
    ask(work, 'go', cluster=1); ask(work, 'rename', name='</script><b>bold')
    page = work.to_html(tmp_path/'p.html')
    assert EVIL not in page and '</script><b>' not in page and leads_out(page) == [] and page == (tmp_path/'p.html').read_text()
    data = json.loads(page.split('type="application/json" id="data">')[1].split('</script>')[0])
    assert data['names'][work.bench.rows.ids.index(EVIL)] == [EVIL] and len(data['thumbs']) == 40 and len(data['names']) == 40
    assert len(json.loads(work.to_html(most=3).split('id="data">')[1].split('</script>')[0])['thumbs']) == 3


def test_autosave_waits_when_saving_is_slow():
    done, autosave = [], Autosave(lambda: done.append(1), quiet=30)
    autosave(); autosave.took = 9
    autosave(), autosave()
    assert len(done) == 1
    autosave.flush()
    assert len(done) == 2 and autosave.timer is None
    autosave.close()


def test_names_are_only_names(work):
    assert EVIL in work.bench.rows.ids[0] or EVIL in work.bench.rows.ids
    assert 'innerHTML' not in page_module().replace('never innerHTML', ''), 'text is set as text'


def test_the_page_is_one_module_without_a_network():
    text = page_module()
    assert 'import ' not in [line[:7] for line in text.splitlines()] and text.count('export default') == 1
    assert 'http://' not in text and 'https://' not in text
    names = [line.split()[1].split('(')[0] for line in text.splitlines() if line.startswith(('const ', 'class ', 'function ')) and ' = ' not in line[:6]]
    assert len(names) == len(set(names)), 'each name once'


@pytest.mark.skipif(not shutil.which('node'), reason='no node on this machine')
def test_the_page_is_valid(tmp_path):
    (tmp_path/'page.mjs').write_text(page_module())
    r = subprocess.run(['node', '--check', tmp_path/'page.mjs'], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr


def test_a_manifest_that_takes_long_to_write_waits_for_a_pause(work):
    work.autosave.took = 1
    ask(work, 'decide', decision='keep', what='single')
    assert work.autosave.timer and not work.path.exists()
    work.close()
    assert saved(work).progress()[0] == 1, 'and is saved when it closes'


def test_state_is_small(work): assert len(json.dumps(work.bench.state())) < 2000


def test_the_film_of_the_readme_is_small_and_readable(root):
    "tests/widgets/make_animation.py makes it."
    path = root/'docs'/'images'/'workbench.webp'
    with Image.open(path) as film: frames, width = film.n_frames, film.width
    assert path.stat().st_size < 3_000_000 and width >= 900 and frames > 12
    assert 'docs/images/workbench.webp' in (root/'README.md').read_text()[:1500], 'at the top'
