"""The notebooks as a person meets them: in a real JupyterLab, in a real browser, run from top to bottom.

`make test` takes the first lesson of a chapter that exports (it runs all of them, but without a browser); WOOD_BROWSER_ALL=1 takes them all, WOOD_BROWSER_SHOTS=folder keeps a screenshot of each."""
import os
from pathlib import Path

import nbtools
import pytest
import widget_lab as w

pytestmark = pytest.mark.browser
EVERY = bool(os.environ.get('WOOD_BROWSER_ALL'))
SHOTS = os.environ.get('WOOD_BROWSER_SHOTS')
CHOSEN = ('1_data/01_images.ipynb',)
NOTEBOOKS = [o for o in nbtools.notebooks() if EVERY or o.relative_to(nbtools.ROOT/'nbs').as_posix() in CHOSEN]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda o: f'{o.parent.name}-{o.stem}')
def test_runs_without_an_error(lab, path):
    with lab.open(f'nbs/{path.relative_to(nbtools.ROOT/"nbs")}') as page:
        page.run_all()
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            page.p.screenshot(path=Path(SHOTS)/f'{path.parent.name}-{path.stem}.png')
        problems = page.errors() + page.problems
        assert not problems, '\n'.join(problems)


def test_the_lessons_chosen_are_opened():
    "A lesson that was renamed would otherwise be left out without a word."
    assert EVERY or len(NOTEBOOKS) == len(CHOSEN)


def test_saving_cleans(lab):
    "What `make lab` promises: execution counts do not reach the file."
    w.write_notebook(lab.folder/'nbs'/'t.ipynb', ['1 + 1', '2 + 2'])
    with lab.open('nbs/t.ipynb') as page:
        page.run_all()
        assert [c['execution_count'] for c in page.cells()] == [1, 2]
        page.save()
    saved = nbtools.code_cells(nbtools.read(lab.folder/'nbs'/'t.ipynb'))
    assert [(c['execution_count'], nbtools.source(c)) for c in saved] == [(None, '1 + 1'), (None, '2 + 2')]
    assert [o['data']['text/plain'] for c in saved for o in c['outputs']] == [['2'], ['4']]
