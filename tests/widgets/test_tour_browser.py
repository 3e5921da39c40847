"""The tour as a person takes it: from opening it to a saved manifest with three clusters dropped, clicks counted."""
import json
import re

import pytest
import widget_lab as w

pytestmark = pytest.mark.browser


def test_three_clusters_dropped_in_eight_clicks(lab):
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
        explorer = page.p.locator('.wood-explorer[data-ready]').first
        explorer.wait_for()
        for n in (0, 1, 2):
            card = explorer.locator('.wood-card').nth(n)
            card.scroll_into_view_if_needed()
            click(card)
            explorer.locator('.wood-card.wood-focus').wait_for()
            drop = explorer.locator('.wood-drop-button').first
            page.p.wait_for_function("n => document.querySelectorAll('.wood-explorer .wood-card')[n].className.includes('wood-focus')", arg=n)
            click(drop)
            page.p.wait_for_function("n => document.querySelectorAll('.wood-explorer .wood-card')[n].innerText.includes('✕')", arg=n)
        w.shot(page, 'tour')
        assert clicks == 8
        page.p.wait_for_function("() => /saved \\d/.test(document.querySelector('.wood-explorer').innerText)")
        source = 'explorer.autosave.flush(); print(explorer.path.resolve(), explorer.saved)'      # saving may wait for a pause
        page.p.evaluate(f"""async code => {{ const kernel = {page.WIDGET}.sessionContext.session.kernel; const future = kernel.requestExecute({{ code }});
          window.said = ''; future.onIOPub = m => {{ if (m.header.msg_type === 'stream') window.said += m.content.text; }}; await future.done; }}""", source)
        path, saved = page.p.evaluate('window.said').split()
        clusters = json.loads(open(path).read())['clusters']
        assert saved == 'True' and [c['decision'] for c in clusters].count('drop') == 3
        assert not page.errors() and not page.problems, page.errors() + page.problems
