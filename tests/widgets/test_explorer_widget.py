"""The explorer's widgets, driven without a display: keys, messages, saving, refusals, twins, and names that look like HTML."""
import io
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')

from four_kinds import draw_pool, EVIL, mined
from wood_nb.widgets.exploring import ORDERS
from wood_nb.ood.manifest import Manifest
from wood_nb.report.page import leads_out
from wood_nb.widgets import explorer_views as views
from wood_nb.widgets.explorer import ClusterExplorer
from wood_nb.widgets.explorer_state import Autosave
from wood_nb.widgets.explorer_views import KEYS
from wood_nb.widgets.prune import NOTHING


@pytest.fixture
def pool(tmp_path): return draw_pool(tmp_path/'pool')


@pytest.fixture
def explorer(pool, tmp_path):
    manifest, store = mined(pool)
    made = ClusterExplorer(manifest, pool, store, by='jane', path=tmp_path/'m.json', k=4)
    made.save()
    return made


def saved(explorer): return Manifest.load(explorer.path)


def test_every_key_has_its_method(explorer):
    for method, _ in KEYS.values(): assert callable(getattr(explorer, method))


def test_keys_walk_and_decide(explorer):
    explorer.press(']')
    first = explorer.look.focus
    assert explorer.decide_buttons['Keep'].description == 'Keep 10' and not explorer.decide_buttons['Keep'].disabled
    explorer.press('k')
    assert saved(explorer).progress() == (10, 40)
    explorer.press('D')
    assert saved(explorer).cluster(first).decision == 'drop'
    explorer.press('d', place=0), explorer.press('u', place=1)
    assert saved(explorer).images[explorer.page_ids[1]].decision == 'undecided'
    for _ in range(4): explorer.press('z')
    assert saved(explorer).progress() == (0, 40)
    for _ in range(4): explorer.press('Ctrl+y')
    assert saved(explorer).progress() == (9, 40)
    assert explorer.bar.value == 9 and '9 of 40 decided' in explorer.counts.value


def test_nothing_to_undo_is_said(explorer):
    assert not explorer.undo() and 'nothing to undo' in explorer.status.value
    assert not explorer.keep() and 'nothing is selected' in explorer.status.value
    assert not explorer.keep_cluster() and 'no cluster is chosen' in explorer.status.value
    assert explorer.press('q') is None and explorer.press('Tab') is None


def test_lasso_message_selects(explorer):
    explorer.hear(None, {'type': 'select'}, [np.array([0, 3, 39, 4000], '<u4').tobytes()])
    assert explorer.look.selection == [explorer.look.ids[n] for n in (0, 3, 39)]
    flags = np.frombuffer(explorer.map.flags, np.uint8)
    assert np.flatnonzero(flags & 1).tolist() == [0, 3, 39]


def test_hover_answers_also_for_a_broken_file(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer.map, 'send', lambda content, buffers=None: sent.append((content, buffers)))
    for n in (0, explorer.look.ids.index('p39'), 10_000): explorer.hear(None, {'type': 'hover', 'index': n}, [])
    assert len(sent) == 2 and all(Image.open(io.BytesIO(b[0])).size[0] > 50 for _, b in sent)


@pytest.mark.parametrize('change', [
    lambda e: e.keep(), lambda e: e.decide_cluster('drop'), lambda e: e.rename('rails'), lambda e: e.merge(), lambda e: e.split(2), lambda e: e.undo(), lambda e: e.redo()],
    ids=['keep', 'drop cluster', 'rename', 'merge', 'split', 'undo', 'redo'])
def test_every_change_makes_the_map_forget_what_it_knew(explorer, monkeypatch, change):
    explorer.next_cluster(), explorer.keep(), explorer.drop(), explorer.undo()
    sent = []
    monkeypatch.setattr(explorer.map, 'send', lambda content, buffers=None: sent.append(content))
    assert change(explorer) and sent == [{'type': 'forget'}]


def test_looking_and_refusals_leave_the_map_what_it_knew(explorer, monkeypatch):
    monkeypatch.setattr(explorer.map, 'send', lambda content, buffers=None: pytest.fail(f'sent {content}'))
    explorer.next_cluster(), explorer.click_place(1), explorer.set('words', 'p'), explorer.rename(' '), explorer.undo()


def test_a_key_brings_the_words_typed_before_it(explorer):
    press = lambda key, words: explorer.hear(None, {'type': 'key', 'key': key, 'place': -1, 'words': words}, [])  # noqa: E731
    press('a', 'class:boat')
    assert len(explorer.look.selection) == 20 and explorer.filter_box.value == 'class:boat'
    press('a', '')
    assert len(explorer.look.selection) == 40


def test_keys_decide_what_is_marked(explorer):
    explorer.next_cluster()
    for place in (0, 1, 2): explorer.click_place(place)
    assert explorer.decide_buttons['Keep'].description == 'Keep 3'
    explorer.press('k', place=2)
    assert explorer.manifest.progress()[0] == 3, 'not the one with the focus alone'
    explorer.click_place(2)
    explorer.press('u', place=2)
    assert [explorer.manifest.images[id].decision for id in explorer.page_ids[:3]] == ['undecided', 'undecided', 'keep']
    for place in (0, 1): explorer.click_place(place)
    explorer.press('d', place=5)
    assert [n for n, id in enumerate(explorer.page_ids) if explorer.manifest.images[id].decision == 'drop'] == [5], 'nothing is marked'


def test_buttons_beside_the_map_act_on_the_selection(explorer):
    explorer.next_cluster()
    shown, first = explorer.look.focus, list(explorer.look.selection)
    assert explorer.beside_buttons['Drop'].description == 'Drop 10' and explorer.cluster_box.value == shown
    explorer.hear(None, {'type': 'select'}, [np.array([0, 3, 39], '<u4').tobytes()])
    assert explorer.look.focus is None and explorer.cluster_box.value == -1 and explorer.beside_buttons['Drop'].description == 'Drop 3'
    explorer.beside_buttons['Drop'].click()
    decided = {id for id, c in explorer.manifest.images.items() if c.decision == 'drop'}
    assert decided == {explorer.look.ids[n] for n in (0, 3, 39)} and explorer.manifest.cluster(shown).decision != 'drop'
    explorer.focus_cluster(shown)
    explorer.beside_buttons['Keep'].click()
    assert explorer.manifest.cluster(shown).decision == 'keep' and all(explorer.manifest.images[id].decision == 'keep' for id in first)
    explorer.clear()
    assert explorer.beside_buttons['Keep'].disabled and explorer.beside_buttons['Keep'].description == 'Keep'


def test_a_key_on_a_thumbnail_passes_the_focus_on(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer.map, 'send', lambda content, buffers=None: sent.append(content.get('at')))
    explorer.press('k', place=22), explorer.press('d', place=23)
    assert [at for at in sent if at] == ['.place-23', '.place-0'] and explorer.look.page == 1
    explorer.filter_box.value = 'is:undecided'
    first = explorer.page_ids[0]
    explorer.press('k', place=0)
    assert sent[-1] == '.place-0' and explorer.page_ids[0] != first, 'it was let go by the filter: the next one has its place'


def test_a_mistyped_filter_is_named(explorer):
    explorer.filter_box.value = 'class:boat traim'
    assert 'traim' in explorer.status.value and 'class:' in explorer.status.value
    explorer.filter_box.value = 'class:boat'
    assert explorer.status.value.count('traim') == 0


def test_cards_have_the_colours_of_the_map(explorer):
    style = explorer.card_pictures.value
    for n, cluster in enumerate(explorer.cards_shown):
        place = [c.id for c in explorer.manifest.clusters].index(cluster.id)
        assert f'.card-{n} {{border-left: 7px solid {explorer.map.legend[place]["colour"]}}}' in style


def test_a_name_with_dollars_is_drawn_and_shown(explorer):
    explorer.rename('between $5 and $6^', explorer.look.clusters()[0].id)
    assert 'image/png' in explorer._repr_mimebundle_() and explorer.to_png()[:4] == b'\x89PNG'


def test_a_picture_that_fails_does_not_hide_the_widget(explorer, monkeypatch):
    monkeypatch.setattr(explorer, 'to_figure', lambda: 1/0)
    bundle = explorer._repr_mimebundle_()
    assert 'application/vnd.jupyter.widget-view+json' in bundle and 'image/png' not in bundle and 'division' in bundle['text/plain']


def test_boxes(explorer):
    explorer.colour_box.value = 'decision'
    assert explorer.look.colour == 'decision' and explorer.map.legend[0]['label'] == 'keep'
    explorer.filter_box.value = 'class:train'
    assert np.frombuffer(explorer.map.flags, np.uint8).tolist().count(2) == 20
    explorer.select_all()
    assert len(explorer.look.selection) == 20
    explorer.order_box.value = ORDERS[1]
    assert explorer.look.order == ORDERS[1]
    explorer.filter_box.value = ''
    explorer.cluster_box.value = explorer.look.clusters()[1].id
    assert explorer.look.focus == explorer.look.clusters()[1].id and explorer.name_box.value
    explorer.name_box.value = 'platforms'
    assert saved(explorer).cluster(explorer.look.focus).name == 'platforms'
    explorer.contains_box.value = NOTHING
    explorer.drop()
    assert saved(explorer).images[explorer.page_ids[0]].contains == []
    explorer.contains_box.value = 'boat'
    explorer.drop()
    assert saved(explorer).images[explorer.page_ids[0]].contains == ['boat']


def test_merge_split_and_undo(explorer):
    explorer.next_cluster()
    assert explorer.merge_box.value is not None
    explorer.merge()
    assert len(saved(explorer).clusters) == 3 and explorer.decide_buttons['Keep'].description == 'Keep 20'
    explorer.parts_box.value = 3
    explorer.split()
    assert len(saved(explorer).clusters) == 5
    explorer.undo(); explorer.undo()
    assert len(saved(explorer).clusters) == 4
    before = explorer.look.focus, len(saved(explorer).clusters)
    assert not explorer.split(1) and (explorer.look.focus, len(saved(explorer).clusters)) == before, 'one part is no split'
    assert not explorer.rename('  ') and 'needs a name' in explorer.status.value


def test_cards_and_pages(explorer):
    explorer.focus_card(2)
    assert explorer.look.focus == explorer.cards_shown[2].id and 'wood-focus' in explorer.cards[2]._dom_classes
    assert not explorer.focus_card(11)
    explorer.clear()
    explorer.forward(); explorer.forward()
    assert explorer.page_text.value == 'page 2 of 2' and explorer.thumbs[20].layout.display == 'none'
    explorer.like(3)
    assert explorer.look.order == ORDERS[2] and explorer.page_ids[0] == explorer.look.like


def test_a_name_is_only_a_name(explorer, tmp_path):
    "Names reach the page as text, in the widgets and in the file."
    explorer.rename('</script><b>bold', explorer.look.clusters()[0].id)
    explorer.focus_cluster(explorer.look.clusters()[0].id)
    html = [w.value for w in (explorer.card, explorer.status, explorer.counts, explorer.target_text, explorer.page_text)]
    assert not any('<img src=x' in text or '<b>bold' in text for text in html)
    page = explorer.to_html(tmp_path/'p.html')
    assert EVIL not in page and '</script><b>' not in page and leads_out(page) == []
    data = json.loads(page.split('type="application/json" id="data">')[1].split('</script>')[0])
    assert data['lines'][explorer.look.ids.index(EVIL)][0] == EVIL and data['n'] == 40


def test_state_is_small(explorer):
    "What the browser holds: one page of thumbnails, and some bytes a point."
    state = explorer.map.get_state()
    size = sum(len(v) for k, v in state.items() if isinstance(v, bytes))
    assert size == 40*(8 + 1 + 2 + 1) and len(explorer.pictures.value) < 24*12_000


def test_what_another_person_saves_is_joined(explorer):
    other = Manifest.load(explorer.path)
    id = next(id for id in other.images if id not in explorer.manifest.clusters[0].members)
    other.decide(id, 'keep', by='omar')
    other.save()
    explorer.next_cluster()
    explorer.keep()
    assert explorer.saved and Manifest.load(explorer.path).images[id].by == 'omar' and explorer.manifest.images[id].by == 'omar'
    assert {step['by'] for step in Manifest.load(explorer.path).history} > {'omar'}


def test_saving_that_fails_is_said_and_nothing_is_lost(explorer):
    other = Manifest.load(explorer.path)
    other.images.pop(list(other.images)[0])  # mined again
    other.clusters = []
    other.save()
    explorer.next_cluster()
    explorer.keep()
    assert not explorer.saved and 'NOT SAVED' in explorer.status.value and explorer.manifest.progress()[0] == 10
    assert explorer.save(explorer.path.with_name('mine.json')) and explorer.saved


def test_without_a_name_nothing_is_decided(explorer):
    explorer.by_box.value = ''
    explorer.next_cluster()
    assert not explorer.keep() and 'write your name' in explorer.status.value and explorer.manifest.progress()[0] == 0


def test_autosave_waits_when_saving_is_slow():
    done, autosave = [], Autosave(lambda: done.append(1), quiet=30)
    autosave()
    autosave.took = 9
    autosave(), autosave()
    assert len(done) == 1
    autosave.flush()
    assert len(done) == 2 and autosave.timer is None


def test_what_waits_to_be_saved_is_not_called_saved(explorer):
    explorer.autosave.took = 9
    explorer.next_cluster()
    explorer.keep()
    assert not explorer.saved and 'saving' in explorer.status.value and saved(explorer).progress() == (0, 40)
    explorer.autosave.flush()
    assert explorer.saved and 'saved' in explorer.status.value and saved(explorer).progress() == (10, 40)


def test_twins(explorer):
    explorer.next_cluster()
    png = Image.open(io.BytesIO(explorer.to_png()))
    assert png.size[0] > 600 and len(np.unique(np.asarray(png.convert('L')))) > 20
    bundle = explorer._repr_mimebundle_()
    assert 'image/png' in bundle and 'application/vnd.jupyter.widget-view+json' in bundle


def test_the_widget_module_brings_its_own_script():
    assert 'render' in views.PictureMap._esm and 'http' not in views.PictureMap._esm.replace('http-equiv', '') and '@import' not in views.PictureMap._css
