"""The tour as a person takes it: from opening it to a saved manifest with three clusters dropped, clicks counted; and a training beside it."""
import json
import os
import re
import time

import pytest
import widget_lab as w
from widget_lab import until

from wood_nb.base.device import cores

pytestmark = pytest.mark.browser
TRAINING = [w.FRESH, """
from wood_nb.base.jobs import Job
from wood_nb.ood.manifest import usable_split
from wood_nb.widgets.explorer import explore
from wood_nb.widgets.live import LiveCurves
from wood_nb.widgets.tour import train_with
folder = Path('tour')
explorer = explore(run, Manifest.load(path), by='jane', k=12, path=path, cache=folder)
explorer
""", """
job = Job(train_with, run, usable_split(run.manifest(), run.pool()), folder, log=folder/'log')
live = LiveCurves(folder/'wood', every=0.3, job=job)
live
""", "live.to_figure() if job.ready() else live.how_far()", "'the end'"]
FOCUS = """n => new Promise(done => {      // milliseconds from a click on a card to its frame
  const card = document.querySelectorAll('.wb-card')[n], begun = performance.now();
  const look = () => document.querySelectorAll('.wb-card')[n].getAttribute('aria-pressed') === 'true' ? done(performance.now() - begun) : requestAnimationFrame(look);
  card.click(); look(); })"""


def test_three_clusters_dropped_in_six_clicks(lab):
    clicks = 0

    def click(place):
        nonlocal clicks
        place.click()
        clicks += 1

    with lab.open('nbs/0_begin/01_tour.ipynb', timeout=120) as page:
        page.p.set_viewport_size(dict(width=1440, height=1500))
        click(page.p.locator('.lm-MenuBar-itemLabel', has_text='Run').first)
        click(page.p.locator('.lm-Menu-itemLabel', has_text=re.compile('^Run All Cells$')))
        while not [c for c in page.cells() if c['cell_type'] == 'code'][-1]['execution_count']: page.p.wait_for_timeout(500)
        at = next(n for n, c in enumerate(page.cells()) if 'explorer = explore(' in ''.join(c['source']))
        page.p.evaluate(f"n => {page.WIDGET}.content.scrollToItem(n, 'start')", at)      # cells out of sight are not in the page
        explorer = page.p.locator('.wb[data-ready]').first
        explorer.wait_for()
        page.p.evaluate("document.querySelector('.wb').scrollIntoView({block: 'end'})")
        cards = explorer.locator('.wb-card')
        click(cards.first)
        for n in (0, 1, 2):  # after a whole cluster the next one comes by itself
            page.p.wait_for_function("n => document.querySelectorAll('.wb-card')[n].getAttribute('aria-pressed') === 'true'", arg=n)
            click(explorer.locator('.wb-right .wb-do-drop'))
        page.p.wait_for_function("() => document.querySelectorAll('.wb-card')[3].getAttribute('aria-pressed') === 'true'")
        w.shot(page, 'tour')
        assert clicks == 6
        page.p.wait_for_function("() => /saved \\d/.test(document.querySelector('.wb-saved').textContent)")
        source = 'explorer.autosave.flush(); print(explorer.path.resolve(), explorer.saved)'      # saving may wait for a pause
        page.p.evaluate(f"""async code => {{ const kernel = {page.WIDGET}.sessionContext.session.kernel; const future = kernel.requestExecute({{ code }});
          window.said = ''; future.onIOPub = m => {{ if (m.header.msg_type === 'stream') window.said += m.content.text; }}; await future.done; }}""", source)
        path, saved = page.p.evaluate('window.said').split()
        clusters = json.loads(open(path).read())['clusters']
        assert saved == 'True' and [c['decision'] for c in clusters].count('drop') == 3
        assert not page.errors() and not page.problems, page.errors() + page.problems


def test_widgets_answer_while_a_training_goes_on_and_it_is_stopped_at_once(lab):
    corner = w.Corner(lab, 'beside', TRAINING)
    with corner.open('t.ipynb') as page:
        page.p.set_viewport_size(dict(width=1440, height=1800))
        w.tidy(page)
        page.run_all()
        assert until(lambda: page.cells()[-1]['execution_count'] == 5, 120), page.errors()
        assert 'Run this cell again' in json.dumps(page.cells()[3]['outputs']), 'the notebook does not wait'
        page.p.wait_for_selector('.wb[data-ready]')
        live = page.p.locator('.wood-live')
        live.locator('b', has_text='running').wait_for()
        took = [page.p.evaluate(FOCUS, n) for n in (0, 1, 2, 3, 4)]
        assert live.locator('b').inner_text() == 'running', 'it has gone on meanwhile'
        busy = max(1, os.getloadavg()[0]/cores())  # the training, and whatever else is at work here
        assert sorted(took)[2] < 300*busy, (took, busy)
        w.shot(page, 'tour-training')
        began = time.time()
        live.locator('button', has_text='Stop training').click()
        assert until(lambda: 'stopped' in live.inner_text(), 30) and time.time() - began < 5*busy
        assert live.locator('button').is_disabled() and (corner.folder/'tour'/'wood'/'train.jsonl').exists()
        assert not list((corner.folder/'tour').rglob('STOP'))
        page.p.evaluate(f"() => {{ {page.WIDGET}.content.activeCellIndex = 3; return window.jupyterapp.commands.execute('notebook:run-cell').then(() => null) }}")
        assert until(lambda: 'stopped' in json.dumps(page.cells()[3]['outputs']), 20), 'and says so when it is asked again'
        assert not page.errors() and not page.problems, page.errors() + page.problems
