"""Notebooks for the browser tests of the widgets: written into a folder, opened in a private JupyterLab."""
import json
import os
import time
from pathlib import Path

import jlab

FRESH = """
from pathlib import Path
from wood_nb.ood.candidates import Candidate
from wood_nb.ood.manifest import Manifest
from wood_nb.runs.tiny import tiny_run
run, path = tiny_run(), Path('manifest.json')
if not path.exists():
    mined = run.manifest()
    Manifest(mined.classes, {id: Candidate(c.file, c.predicted, c.p) for id, c in mined.images.items()}, mined.pool).save(path)
"""


OWNS_KEYS = "document.activeElement.hasAttribute('data-lm-suppress-shortcuts')"      # of the focused element itself: else Notebook 7 takes them


def write_notebook(path: Path, cells: list[str]):
    code = [dict(cell_type='code', id=f'c{n}', metadata={}, source=text.strip(), outputs=[], execution_count=None) for n, text in enumerate(cells)]
    kernel = dict(name='python3', display_name='python3', language='python')
    path.write_text(json.dumps(dict(cells=code, metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)))


class Corner:
    "A folder of its own in a JupyterLab, with the notebook t.ipynb; `open` takes names within it."

    def __init__(self, lab: jlab.Lab, name: str, cells: list[str]):
        self.lab, self.name, self.folder, self.browser = lab, name, lab.folder/name, lab.browser
        self.folder.mkdir()
        write_notebook(self.folder/'t.ipynb', cells)

    def open(self, notebook: str, timeout: float = 120): return self.lab.open(f'{self.name}/{notebook}', timeout)


def tidy(page):
    "Room for the widget: no side bar, no windows over it."
    page.p.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area').catch(() => {})")


def until(test, seconds: float = 60):
    "Waits for the kernel to have done its part; gives the last value."
    end = time.time() + seconds
    while not (value := test()) and time.time() < end: time.sleep(.05)
    return value


def at_rest(look, seconds: float = 2):
    "Waits until what `look` gives has not changed for `seconds`, and gives it."
    value, since, end = look(), time.time(), time.time() + 60
    while time.time() - since < seconds:
        assert time.time() < end, 'it never comes to rest'
        time.sleep(.05)
        if (now := look()) != value: value, since = now, time.time()
    return value


def shot(page, name: str, selector: str | None = None):
    "A screenshot into $WOOD_BROWSER_SHOTS, if that is set."
    if folder := os.environ.get('WOOD_BROWSER_SHOTS'):
        Path(folder).mkdir(parents=True, exist_ok=True)
        place = page.p.locator(selector).first if selector else page.p
        place.screenshot(path=Path(folder)/f'{name}.png')


def in_the_dark(page, name: str):
    "A screenshot in the dark theme, which is then left again: the next page is in the same JupyterLab."
    theme = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme}).then(() => null)"
    page.p.evaluate(theme, 'JupyterLab Dark')
    page.p.wait_for_timeout(800)
    shot(page, name)
    page.p.evaluate(theme, 'JupyterLab Light')
