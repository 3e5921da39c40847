"""Seed explorer, live view and sortable table in a real JupyterLab: sliders that move together, a class that opens its
images, a training that grows and is stopped while the kernel is busy with it, columns that sort."""
import pytest
import widget_lab as w
from widget_lab import at_rest, until

pytestmark = pytest.mark.browser
CELLS = [w.FRESH, """
from wood_nb.widgets.inspector import inspect_run
from wood_nb.widgets.seeds import SeedExplorer
inspector = inspect_run(run, folder='.')
seeds = SeedExplorer(inspector)
seeds
""", "inspector", """
from wood_nb.scores.tables import PerClassTable
from wood_nb.widgets.table import TableView
figures = PerClassTable.from_results([r for r in run.results() if r['split'] == 'val' and r['other_classes'] == 'ignore'])
TableView(figures)
""", """
import json, shutil
from wood_nb.widgets.live import LiveCurves
folder = Path('training'); shutil.rmtree(folder, ignore_errors=True); folder.mkdir()
live = LiveCurves(folder, every=0.3)
live
"""]
BUSY = """
import time
from wood_nb.widgets.live import Beside
lines = (run.path/'wood'/'train.jsonl').read_text().splitlines()
def training():
    for n in range(10_000):
        if (folder/'STOP').exists(): return n
        with (folder/'train.jsonl').open('a') as log: log.write(json.dumps({**json.loads(lines[n % (len(lines) - 1)]), 'step': n + 1, 'eta': 99.0}) + '\\n')
        time.sleep(.05)
job = Beside(training)
"""


@pytest.fixture(scope='module')
def corner(lab):
    corner = w.Corner(lab, 'views', CELLS)
    w.write_notebook(corner.folder/'live.ipynb', [CELLS[0], CELLS[-1], BUSY])
    return corner


def test_seeds_and_inspector_move_together_and_the_table_sorts(corner):
    with corner.open('t.ipynb') as page:
        page.p.set_viewport_size(dict(width=1440, height=1900))
        w.tidy(page)
        page.run_all()
        page.p.wait_for_selector('.wood-inspector[data-ready]')
        seeds = page.p.locator('.wood-seeds')
        ring = lambda: seeds.locator('circle.s0').first.get_attribute('cx')  # noqa: E731
        before, panel = ring(), page.p.locator('.wood-panel-text').nth(3).inner_text()
        w.shot(page, 'views-light')
        handle = seeds.locator('.noUi-handle').nth(1)
        handle.focus()
        for _ in range(12): page.p.keyboard.press('ArrowRight')
        assert until(lambda: ring() != before)
        assert until(lambda: page.p.locator('.wood-panel-text').nth(3).inner_text() != panel), 'the inspector follows'
        at_rest(seeds.inner_text)        # rows are sorted by gain
        name = next(n for n in seeds.locator('.wood-class').all() if n.is_enabled())
        wanted = name.inner_text()
        name.click()
        assert until(lambda: page.p.locator('.wood-only select').evaluate('o => o.selectedOptions[0].label') == wanted)
        # the table sorts, both ways, and the mean stays at the foot
        table = page.p.locator('.wood-table table')
        column = lambda: list(table.locator('tbody td:nth-child(3)').all_inner_texts())  # noqa: E731
        heading = table.locator('thead button').nth(2)
        heading.click()
        down = column()
        assert [float(v) for v in down] == sorted(map(float, down), reverse=True)
        heading.click()
        assert column() == down[::-1] and table.locator('tfoot th').inner_text() == 'mean'
        w.in_the_dark(page, 'views-dark')
        assert not page.errors() and not page.problems, page.errors() + page.problems


def test_a_training_is_followed_and_stopped(corner):
    "A training beside the notebook: the view follows it, and its button ends it."
    with corner.open('live.ipynb') as page:
        w.tidy(page)
        page.p.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        live = page.p.locator('.wood-live')
        live.locator('b', has_text='running').wait_for()
        first = live.inner_text()
        assert until(lambda: live.inner_text() != first), 'the step moves on'
        page.p.wait_for_selector('.wood-live svg path', state='attached')
        w.shot(page, 'live')
        live.locator('button', has_text='Stop training').click()
        assert until(lambda: (corner.folder/'training'/'STOP').exists())
        assert until(lambda: 'stopping' in live.inner_text() and live.locator('button').is_disabled())
        at_rest(lambda: (corner.folder/'training'/'train.jsonl').stat().st_size, .5)
        assert not page.errors() and not page.problems, page.errors() + page.problems
