"""The widgets on a whole run: their numbers are those of the run, and the screen is given little more than it shows."""
import io
import re
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')
import ipywidgets.widgets.widget as iw  # noqa: E402

from wood_nb.data.images import IGNORE  # noqa: E402
from wood_nb.maps.methods import method_name  # noqa: E402
from wood_nb.ood.manifest import Manifest  # noqa: E402
from wood_nb.report.page import leads_out  # noqa: E402
from wood_nb.runs.run import Run  # noqa: E402
from wood_nb.runs.tiny import tiny_run  # noqa: E402
from wood_nb.widgets.bench.features import candidate_store  # noqa: E402
from wood_nb.widgets.explorer import explore  # noqa: E402
from wood_nb.widgets.inspecting import (  # noqa: E402
    ORDERS,
    gains,
    image_mean,
    image_score,
    indices,
    method_of,
    seed_of,
    sweep_of,
)
from wood_nb.widgets.inspector import inspect_run  # noqa: E402
from wood_nb.widgets.live import LiveCurves  # noqa: E402
from wood_nb.widgets.prune import PruneGrid  # noqa: E402
from wood_nb.widgets.seeds import SeedExplorer, class_rows  # noqa: E402
from wood_nb.widgets.tour import without_decisions  # noqa: E402


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A copy, so that nothing is written into the run that is shared."
    folder = tmp_path_factory.mktemp('runs')/'tiny'
    shutil.copytree(tiny_run().path, folder)
    return Run(folder)


@pytest.fixture(scope='module')
def inspector(run): return inspect_run(run)


@pytest.fixture
def explorer(run, tmp_path): return explore(run, without_decisions(run.manifest()), by='jane', k=8, path=tmp_path/'m.json', cache=tmp_path)


def test_features_of_candidates_are_kept_until_the_classifier_changes(run, monkeypatch):
    first, images = candidate_store(run), run.manifest().images
    assert set(first.ids.tolist()) == images.keys()
    monkeypatch.setattr('wood_nb.widgets.bench.features.looked_at', lambda *_, **__: pytest.fail('they are there'))
    assert (candidate_store(run).features == first.features).all()


def test_parts_of_a_cluster_are_merged_again_and_all_of_it_is_saved(explorer, run):
    explorer.next_cluster()
    bench, largest = explorer.bench, explorer.bench.strip.focus
    size = len(bench.strip.members(largest))
    assert len(bench.strip.cards()) == 8 and explorer.do('split')
    other, = {cluster.id for cluster in explorer.manifest.clusters} - set(range(8))
    explorer.do('merge', others=[other])
    assert explorer.manifest.merges[-1]['from'] == [other] and len(bench.strip.members(largest)) == size
    explorer.drop()
    explorer.autosave.flush()
    saved = Manifest.load(explorer.path, run.pool())
    assert saved == explorer.manifest and saved.progress()[0] == size and saved.undo() and not saved.progress()[0]


def test_the_page_of_the_explorer_is_smaller_than_the_pool(explorer, run):
    page = explorer.to_html()
    pictures = sum(map(len, re.findall(r'data:image/[^"\')]+', page)))  # the rest is code, the same for every pool
    assert leads_out(page) == [] and 10_000 < pictures < sum(item.image.stat().st_size for item in run.pool().items)
    assert Image.open(io.BytesIO(explorer.to_png())).width > 1000


def test_thresholds_are_those_of_the_run(inspector, run):
    look = inspector.look
    assert look.thresholds == {method_name(r['method']): r['threshold'] for r in run.results() if r['split'] == 'val'}
    assert [method_of(name) for name in look.methods] == ['cam', 'wood'] and method_of('W-OoD + IRN') == 'wood+irn' and method_of('mine') == 'mine'


def test_the_score_of_an_image_is_counted_right(inspector):
    look = inspector.look
    look.index = 3
    truth, ours = look.split.mask(look.index), seed_of(look, 'W-OoD') == look.class_shown + 1
    true, known = truth == look.class_shown + 1, truth != IGNORE
    assert image_score(look, 'W-OoD').shown == pytest.approx((true & ours).sum()/((true | ours) & known).sum())
    sweep_of(look, 'W-OoD')
    assert image_mean(look, 'W-OoD', look.index) == pytest.approx(image_score(look, 'W-OoD').mean)


def test_orders_begin_with_the_largest(inspector):
    look = inspector.look
    for order, extreme in ((ORDERS[1], np.nanmax), (ORDERS[2], np.nanmin)):
        look.order = order
        assert gains(look)[indices(look)[0]] == extreme(gains(look))
    look.order = ORDERS[0]


def test_the_mean_over_the_classes_is_the_miou(inspector):
    look = inspector.look
    rows = class_rows(look)
    assert [r.gain for r in rows] == sorted((r.gain for r in rows), reverse=True) and len(rows) == look.split.n_classes + 1
    assert sum(r.method for r in rows)/len(rows) == pytest.approx(100*sweep_of(look, 'W-OoD').scores_at(look.thresholds['W-OoD']).miou, abs=.1)


def test_methods_keep_their_colours(inspector):
    seeds = SeedExplorer(inspector.look)
    curves = seeds.to_figure().axes[0].lines
    assert curves[0].get_color() != curves[2].get_color() and curves[2].get_color() == '#0072b2' and seeds.chart.value.count('<circle') == 2


def test_maps_of_another_training_take_the_place_of_those_shown(run):
    inspector = inspect_run(run)
    seeds, look = SeedExplorer(inspector), inspector.look
    inspector.set('order', 'largest gain first')
    assert gains(look).any()
    best = sweep_of(look, 'CAM').best()[0]
    inspector.set_threshold('CAM', best)
    assert inspector.replace('W-OoD', run.path/'maps'/'cam'/'val')
    assert not gains(look).any() and look.thresholds['W-OoD'] == best, 'now the same as CAM'
    assert inspector.view.pictures[2] != inspector.view.pictures[0]
    seeds.refresh()
    assert {row.gain for row in class_rows(look)} <= {0.0}
    for name, maps, said in (('mine', {}, 'is not shown'), ('W-OoD', {}, 'draw them first'), ('CAM', run.path/'nothing', 'no such folder')):
        assert not inspector.replace(name, maps) and said in inspector.status.value
    inspector.close()


def alive() -> int: return len(iw._instances)


def test_every_widget_closes_with_all_that_lies_in_it(run, tmp_path):
    look = inspect_run(run)
    made = {'explorer': lambda: explore(run, without_decisions(run.manifest()), by='jane', k=8, path=tmp_path/'m.json', cache=tmp_path),
            'inspector': lambda: inspect_run(run), 'seeds': lambda: SeedExplorer(look),
            'pruning': lambda: PruneGrid(without_decisions(run.manifest()), run.pool(), by='jane', path=tmp_path/'p.json'),
            'curves': lambda: LiveCurves(run.path/'classifier', every=0)}
    for name, make in made.items():
        make().close()  # what comes once for all, such as a style, is there now
        before = alive()
        shown = make()
        assert alive() > before, name
        shown.close()
        assert alive() <= before, name


def test_a_cell_run_again_leaves_nothing(tmp_path):
    (tmp_path/'train.jsonl').write_text('{"step": 1, "loss": 0.5, "lr": 0.1, "images_per_s": 1, "eta": 9}\n')
    shown = LiveCurves(tmp_path, every=0.05)
    before = threading.active_count(), alive()
    for _ in range(5): shown, old = LiveCurves(tmp_path, every=0.05), shown
    old.thread.join(5)
    assert not old.thread.is_alive() and shown.thread.is_alive() and alive() == before[1]
    shown.close()
    shown.thread.join(5)
    assert not shown.thread.is_alive() and tmp_path.resolve() not in LiveCurves.shown
