"""The notebooks as a person meets them: in a real JupyterLab, in a real browser, run from top to bottom.

`make test` takes the first lesson and those with widgets; WOOD_BROWSER_ALL=1 takes them all, WOOD_BROWSER_SHOTS=folder
keeps a screenshot of each."""
import os
from pathlib import Path

import jlab
import nbtools
import pytest

pytestmark = pytest.mark.browser
EVERY = bool(os.environ.get('WOOD_BROWSER_ALL'))
SHOTS = os.environ.get('WOOD_BROWSER_SHOTS')
NOTEBOOKS = [o for i, o in enumerate(nbtools.notebooks()) if EVERY or i == 0 or nbtools.uses_widgets(o)]


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    jlab.need_browser()
    with jlab.Lab(nbtools.stage(tmp_path_factory.mktemp('lab'))) as lab: yield lab


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda o: o.stem)
def test_runs_without_an_error(lab, path):
    with lab.open(f'nbs/{path.relative_to(nbtools.ROOT/"nbs")}') as page:
        page.run_all()
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            page.p.screenshot(path=Path(SHOTS)/f'{path.stem}.png')
        problems = page.errors() + page.problems
        assert not problems, '\n'.join(problems)


def test_saving_cleans(lab):
    "What `make lab` promises: execution counts do not reach the file."
    path = NOTEBOOKS[0]
    name = f'nbs/{path.relative_to(nbtools.ROOT/"nbs")}'
    with lab.open(name) as page:
        page.run_all()
        assert any(c['execution_count'] for c in page.cells() if c['cell_type'] == 'code')
        page.save()
    saved = nbtools.read(lab.folder/name)
    assert all(c['execution_count'] is None for c in nbtools.code_cells(saved))
    assert [nbtools.source(c) for c in saved['cells']] == [nbtools.source(c) for c in nbtools.read(path)['cells'] if not nbtools.is_skipped(c)]
