"""Seed explorer, sortable table, live view and the tour's helpers, without a display."""
import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')

from test_inspecting import methods, split  # noqa: F401 (fixtures)
from wood_nb.base.files import DataError
from wood_nb.widgets.inspecting import open_inspection, ORDERS, sweep_of
from wood_nb.ood.candidates import Candidate
from wood_nb.ood.manifest import Manifest
from wood_nb.report.page import leads_out
from wood_nb.scores.tables import PerClassTable
from wood_nb.widgets.inspector import LocalizationInspector
from wood_nb.widgets.live import Beside, LiveCurves, state_of, Tail
from wood_nb.widgets.seeds import CLASS_ORDERS, class_rows, SeedExplorer
from wood_nb.widgets.stills import parts_shown
from wood_nb.widgets.table import table_state, TableView
from wood_nb.widgets.tour import decided, stand_in

EVIL = '<img src=x onerror=alert(1)>'


# seeds

@pytest.fixture
def inspector(split, methods, tmp_path): return LocalizationInspector(split, methods, folder=tmp_path/'out')  # noqa: F811


def test_sliders_of_both_move_together(inspector):
    seeds = SeedExplorer(inspector)
    seeds.sliders['good'].value = .6
    assert inspector.sliders['good'].value == .6 and inspector.look.thresholds['good'] == .6 and 'threshold 0.60' in inspector.view.panels[3][1]
    inspector.sliders['bad'].value = .2
    assert seeds.sliders['bad'].value == .2 and 'bad: ' in seeds.words.value
    seeds.take_best()
    assert inspector.look.thresholds == {name: sweep_of(inspector.look, name).best()[0] for name in ('bad', 'good')}


def test_rows_are_the_scores_at_the_thresholds(split, methods):  # noqa: F811
    look = open_inspection(split, methods, {'bad': .4, 'good': .3})
    rows = {r.name: r for r in class_rows(look)}
    assert list(rows) and set(rows) == {'background', 'boat', 'train'}
    assert rows['boat'].method == pytest.approx(sweep_of(look, 'good').scores_at(.3).per_class['boat'], abs=.05)
    assert rows['boat'].gain == pytest.approx(rows['boat'].method - rows['boat'].baseline) and rows['boat'].gain > 10
    for order in CLASS_ORDERS: assert len(class_rows(look, order)) == 3
    assert [r.name for r in class_rows(look, 'as in the data')] == ['background', 'boat', 'train']
    assert class_rows(look, 'loss')[-1].gain == max(r.gain for r in rows.values())


def test_a_class_opens_its_images(inspector):
    seeds = SeedExplorer(inspector)
    n = next(n for n, r in enumerate(seeds.rows) if r.name == 'train')
    seeds.names[n].click()
    assert inspector.look.only == 1 and inspector.look.index == 1 and inspector.look.order == ORDERS[1] and inspector.only_box.value == 1
    assert inspector.look.class_shown == 1
    assert seeds.names[next(n for n, r in enumerate(seeds.rows) if r.name == 'background')].disabled


def test_seed_twins(inspector, tmp_path):
    seeds = SeedExplorer(inspector.look)
    assert leads_out(seeds.to_html(tmp_path/'s.html')) == [] and Image.open(io.BytesIO(seeds.to_png())).size[0] > 500
    assert seeds._repr_mimebundle_()['text/plain'] == 'SeedExplorer'
    picture, style, widget = parts_shown(seeds)
    assert 'wood-still' in style['text/html'] and not set(picture) & set(widget) - {'text/plain'}, 'its picture stays where there is no kernel'


# table

@pytest.fixture
def figures():
    table = PerClassTable({'CAM': {'boat': 10.0, EVIL: 20.0}, 'W-OoD': {'boat': 30.0, EVIL: 15.0}}, split='val')
    return table.add('paper', {'boat': 50.0}, measured=False, source='a paper', split='test')


def test_table_state_tells_measured_from_reported(figures):
    state = table_state(figures)
    boat = state['rows'][0]
    assert [c['reported'] for c in boat[:4]] == [False, False, False, True] and boat[2]['best'] and not boat[1]['best']
    assert '0,114,178' in boat[4]['tint'] and '230,110,0' in state['rows'][1][4]['tint'] and boat[4]['text'] == '+20.0'
    assert state['foot'][0]['text'] == 'mean' and any('a paper' in note for note in state['notes'])


def test_table_exports_and_names(figures, tmp_path):
    view = TableView(figures, tmp_path)
    for kind in ('csv', 'md', 'tex', 'html'): assert view.export(kind).stat().st_size > 100
    page = (tmp_path/'per-class.html').read_text()
    assert EVIL not in page and leads_out(page) == [] and 'class="sort"' in page
    assert Image.open(io.BytesIO(view.to_png())).size[0] > 300


# live

def write(path, rows): path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
def step(n, **more): return {'step': n, 'loss': 1/n, 'lr': .1, 'images_per_s': 50.0, 'eta': 10.0, **more}


def test_tail_reads_on_and_notices_a_cut(tmp_path):
    log = tmp_path/'train.jsonl'
    tail = Tail(log)
    assert not tail.read() and tail.rows == []
    lines = [json.dumps(step(n)) + '\n' for n in range(1, 9)]
    log.write_text(lines[0] + '{"st')
    assert tail.read() and tail.rows == [step(1)] and not tail.read()
    log.write_text(lines[0] + lines[1] + 'broken\n' + lines[2])
    assert tail.read() and [r['step'] for r in tail.rows] == [1, 2, 3]
    log.write_text(lines[0])
    assert tail.read() and [r['step'] for r in tail.rows] == [1]
    log.write_text(lines[6] * 3)
    assert tail.read() and len(tail.rows) == 3, 'another log of the same name'
    log.unlink()
    assert tail.read() and tail.rows == []


def test_states(tmp_path):
    rows = [step(1)]
    assert state_of(tmp_path, []) == 'waiting'
    write(tmp_path/'train.jsonl', rows)
    assert state_of(tmp_path, rows) == 'running' and state_of(tmp_path, rows, time.time() + 99) == 'silent'
    (tmp_path/'STOP').touch()
    assert state_of(tmp_path, rows) == 'stopping' and state_of(tmp_path, rows, time.time() + 99) == 'stopped'
    assert state_of(tmp_path, [step(2, eta=0)]) == 'finished'


def test_live_follows_and_stops(tmp_path):
    live = LiveCurves(tmp_path/'wood', every=0)
    assert 'waiting' in live.facts.value and live.to_figure().png()
    (tmp_path/'wood').mkdir()
    write(tmp_path/'wood'/'train.jsonl', [step(n, **{'loss/cls': .5, 'loss/ood': .1}) for n in range(1, 30)])
    assert live.refresh() and '<svg' in live.chart.value and 'loss/ood' in live.chart.value and 'step 29' in live.facts.value
    assert not live.refresh(), 'nothing new'
    live.stop()
    assert (tmp_path/'wood'/'STOP').is_file() and live.stop_button.disabled
    assert leads_out(live.to_html()) == []
    with pytest.raises(DataError, match='not a file'): LiveCurves(tmp_path/'wood'/'train.jsonl')


class PretendJob:
    "As `base.jobs.Job`, without a process."
    state, stops = 'running', 0
    @property
    def running(self): return self.state in ('running', 'stopping')
    def stop(self): self.state, self.stops = 'stopping', self.stops + 1


def test_a_training_beside_the_notebook_is_stopped_by_its_job_and_says_how_far_it_is(tmp_path):
    job = PretendJob()
    live = LiveCurves(tmp_path, every=0, job=job)
    assert live.state == 'waiting' and 'Run this cell again' in live.how_far()
    write(tmp_path/'train.jsonl', [step(1), step(2)])
    assert 'step 2' in live.how_far() and live.state == 'running' and not live.stop_button.disabled
    live.stop()
    assert job.stops == 1 and live.state == 'stopping' and live.stop_button.disabled and not (tmp_path/'STOP').exists()
    job.state = 'stopped'
    assert 'stopped' in live.how_far() and 'Run this cell again' not in live.how_far()
    write(tmp_path/'train.jsonl', [step(1), step(2), step(3, eta=0)])
    for state, shown in (('running', 'what follows is under way'), ('failed', 'ended with an error'), ('done', 'finished')):
        job.state = state
        assert shown in live.how_far() and live.stop_button.disabled is (state != 'running')


def test_a_view_of_a_job_ends_with_it(tmp_path):
    write(tmp_path/'train.jsonl', [step(1)])
    job = PretendJob()
    live = LiveCurves(tmp_path, every=.02, job=job)
    job.state = 'failed'
    live.thread.join(10)
    assert not live.thread.is_alive() and 'ended with an error' in live.facts.value


def test_live_follows_by_itself(tmp_path):
    write(tmp_path/'train.jsonl', [step(1)])
    live = LiveCurves(tmp_path, every=.05)
    write(tmp_path/'train.jsonl', [step(1), step(2), step(3, eta=0)])
    live.thread.join(10)
    assert not live.thread.is_alive() and 'finished' in live.facts.value, 'it ends with the training'


def test_work_beside_keeps_what_it_raises():
    job = Beside(lambda: 1/0)
    with pytest.raises(ZeroDivisionError): job.wait(5)
    slow = Beside(time.sleep, .5)
    with pytest.raises(TimeoutError): slow.wait(.01)


# tour

def test_the_stand_in_leaves_the_manifest_alone():
    manifest = Manifest(('boat',), {'a': Candidate('a.jpg', 'boat', .9), 'b': Candidate('b.jpg', 'boat', .8)})
    chosen, whose = decided(manifest, {'a': ['boat'], 'b': ['sofa']})
    assert 'stand-in' in whose and manifest.progress()[0] == 0
    assert chosen.images['a'].decision == 'drop' and chosen.images['a'].contains == ['boat'] and chosen.kept() == ['b']
    manifest.decide('a', 'keep', by='jane')
    assert decided(manifest, {})[0] is manifest and decided(manifest, {})[1] == 'jane'
    assert stand_in(manifest, {}).history and np.all([c.by == 'file:truth.csv' for c in stand_in(manifest, {}).images.values()])


def test_the_tour_shows_no_picture_from_outside_its_folder(root):
    "voila serves the notebook's own folder, and ends where a picture lies elsewhere."
    assert not re.findall(r'!\[[^\]]*\]\(\.\./[^)]*\)', (root/'nbs'/'0_begin'/'01_tour.ipynb').read_text())
