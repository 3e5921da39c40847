"""The workbench with a stopwatch, in a real JupyterLab. Not a test: run it by hand, from a checkout, with tests and tests/widgets on PYTHONPATH.

    python tests/widgets/bench_workbench.py photographs FOLDER RUN             100 decisions by key, three clusters dropped, in a copy of its manifest
    python tests/widgets/bench_workbench.py many FOLDER                        20,000 drawn pictures (made once, 80 MB): times and memory
    python tests/widgets/bench_workbench.py live FOLDER RUN                    20 clusters of a copy of RUN dropped: until its maps have moved"""
import json
import os
import sys
import time
from pathlib import Path

import jlab
import numpy as np
import widget_lab as w
from PIL import Image, ImageDraw
from widget_lab import until

LOOK = """
import time

def memory(): return '/'.join(str(int(open('/proc/self/status').read().split(f'{name}:')[1].split()[0]) // 1024) for name in ('VmRSS', 'RssAnon'))

start = time.perf_counter()
work = {made}
print('MADE', time.perf_counter() - start, time.time(), memory())
work
"""
MADE = dict(many="Workbench(manifest, pool, store, by='jane', path='m.json')", live="workbench(run, live=True, by='jane', path='m.json')",
            photographs="workbench(run, without_decisions(run.manifest()), by='jane', path='m.json')")
N, GROUPS = 20_000, 40
DRAWN = """
import json, time
import numpy as np
from wood_nb.data.sources import load_pool
from wood_nb.ood.features import FeatureStore
from wood_nb.ood.candidates import Candidate, file_of
from wood_nb.ood.manifest import fingerprint, Manifest
from wood_nb.widgets.bench.workbench import Workbench
pool = load_pool('pool')
n, names, rng = len(pool), tuple(f'class{c}' for c in range(20)), np.random.default_rng(0)
group = np.arange(n) % 40
centres = rng.normal(0, 3, (40, 512)).astype(np.float32)
p = rng.random((n, 20)).astype(np.float32)
store = FeatureStore(pool.ids, centres[group] + rng.normal(0, 1, (n, 512)).astype(np.float32), p, group, centres)
images = {item.id: Candidate(file_of(item), names[int(p[i].argmax())], float(p[i].max())) for i, item in enumerate(pool.items)}
manifest = Manifest(names, images, fingerprint(pool))
"""
RUN = """
from pathlib import Path
import torch
from wood_nb.runs.run import Run
from wood_nb.runs.share import link_tree
from wood_nb.widgets import workbench
from wood_nb.widgets.tour import without_decisions
if not Path('run').exists(): link_tree(Path('RUN'), Path('run'))
run = Run('run')
"""
WATCH = """() => { const pair = document.querySelector('.wb-pins .wb-pair'), begun = performance.now(); window.movedMs = 0;      // until its pixels are others
  new MutationObserver((_, watch) => { window.movedMs = performance.now() - begun; watch.disconnect(); }).observe(pair, { attributes: true, attributeFilter: ['data-turn'] }); }"""
END = "print('END', memory())"


def draw_pool(folder: Path):
    "Circles on a ground whose colour is the group's."
    folder.mkdir(parents=True, exist_ok=True)
    rng, grounds = np.random.default_rng(0), np.random.default_rng(1).integers(40, 255, (GROUPS, 3))
    for i in range(len(list(folder.glob('*.jpg'))), N):
        image = Image.new('RGB', (160, 120), tuple(map(int, grounds[i % GROUPS])))
        draw = ImageDraw.Draw(image)
        for x, y, wide, *colour in rng.integers(0, (130, 90, 40, 255, 255, 255), (6, 6)).tolist(): draw.ellipse((x, y, x + wide + 4, y + wide + 4), fill=tuple(colour))
        image.save(folder/f'p{i:05d}.jpg', quality=80)


def cell_text(page, n: int) -> str: return ''.join(''.join(o.get('text', '')) for o in page.cells()[n]['outputs'])
def decided(folder: Path) -> int: return sum(c['decision'] != 'undecided' for c in json.loads((folder/'m.json').read_text())['images'].values())


def by_key(page, keys: str) -> list[float]:
    "ms from each key until the next picture is framed, as a person waits for it."
    place, found = lambda: page.p.evaluate("document.querySelector('.wb-cursor')?.dataset.place"), []  # noqa: E731
    for key in keys:
        before, start = place(), time.perf_counter()
        page.p.keyboard.press(key)
        until(lambda before=before: place() != before, 5)
        found.append(1000*(time.perf_counter() - start))
    return found


def photographs(page, folder: Path) -> dict:
    "A hundred pictures by key, one after the other as each comes, and again as fast as one types; then three clusters."
    n = 100
    page.p.locator('.wb-grid').focus()
    start, waits = time.perf_counter(), by_key(page, 'kkd'*33 + 'k')
    until(lambda: (folder/'m.json').is_file() and decided(folder) == n)
    found = dict(pictures=len(json.loads((folder/'m.json').read_text())['images']), keys=n, seconds=time.perf_counter() - start, wait_ms_median=np.median(waits), wait_ms_p90=np.quantile(waits, .9), in_file=decided(folder))
    w.shot(page, 'photographs-decided')
    page.p.keyboard.press(']')
    start = time.perf_counter()
    for _ in range(3): page.p.keyboard.press('Shift+D')
    gone = lambda: [c['id'] for c in json.loads((folder/'m.json').read_text())['clusters'] if c['decision'] == 'drop']  # noqa: E731
    until(lambda: len(gone()) == 3, 20)
    return found | dict(clusters_dropped=gone(), actions=4, clusters_s=time.perf_counter() - start)


def timed(page, name: str, act) -> float:
    "What the page says an action took, from the pointer or key to the last thing that it changed."
    page.p.evaluate(f"delete document.querySelector('.wb').dataset.{name}")
    act()
    return float(until(lambda: page.p.evaluate(f"document.querySelector('.wb').dataset.{name}"), 10) or np.nan)


def hovers(page, times: int = 120, pause: int = 250) -> list[float]:
    "ms from a point being hovered to its picture, of those that were not there yet; so many places, so many ms between them, as a hand makes them."
    box, rng, found = page.p.locator('.wb-map-pointer').bounding_box(), np.random.default_rng(1), []
    for x, y in rng.uniform(.15, .85, (times, 2)):
        page.p.evaluate("delete document.querySelector('.wb-map').dataset.hoverMs")
        page.p.mouse.move(box['x'] + x*box['width'], box['y'] + y*box['height'])
        page.p.wait_for_timeout(pause)
        found.append(float(page.p.evaluate("document.querySelector('.wb-map').dataset.hoverMs") or 0))
    return [ms for ms in found if ms > 1]


def lasso(page, left=.1, top=.1, right=.6, bottom=.7):
    box = page.p.locator('.wb-map-pointer').bounding_box()
    at = lambda x, y: (box['x'] + x*box['width'], box['y'] + y*box['height'])  # noqa: E731
    page.p.mouse.move(*at(left, top)); page.p.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom)): page.p.mouse.move(*at(*corner), steps=12)
    page.p.mouse.up()


def many(page) -> dict:
    "Hover, lasso, keep 3,000, scroll."
    hover, lassos = hovers(page), [timed(page, 'lassoMs', lambda n=n: lasso(page, right=.5 + .05*n)) for n in range(5)]
    page.p.locator('.wb-grid').focus()
    page.p.keyboard.press('Escape')
    cards = page.p.locator('.wb-card')
    for n in range(6): cards.nth(n).click(modifiers=['Shift'] if n else [])
    until(lambda: '3,000' in page.p.locator('.wb-count').inner_text(), 10)
    keep = timed(page, 'decideMs', lambda: page.p.locator('.wb-right .wb-do-keep').click())
    w.shot(page, 'many')
    start = time.perf_counter()
    page.p.evaluate("document.querySelector('.wb-grid').scrollTop = 60000")
    until(lambda: page.p.evaluate("[...document.querySelectorAll('.wb-cell')].filter(o => o.offsetParent).every(o => o.querySelector('img').src)"), 20)
    scroll = time.perf_counter() - start
    return dict(hover_ms=dict(n=len(hover), median=np.median(hover), p90=np.quantile(hover, .9)), lasso_to_buttons_ms=[round(o) for o in lassos],
                keep_3000_ms=keep, scrolled_far_s=scroll, page_heap_MB=page.p.evaluate('Math.round(performance.memory.usedJSHeapSize/1e6)'))


def live(page) -> dict:
    "Clusters dropped one after the other; ms from the key to other pixels of the first pinned map, and until its numbers are counted."
    moved, counted, said = [], [], lambda: page.p.locator('.wb-pins figcaption').first.inner_text()
    page.p.wait_for_selector('.wb-pins .wb-pair[data-turn]')
    page.p.locator('.wb-grid').focus()
    for _ in range(20):
        page.p.keyboard.press(']')
        page.p.wait_for_timeout(2500)
        page.p.evaluate(WATCH)
        start = time.perf_counter()
        page.p.keyboard.press('Shift+D')
        moved.append(until(lambda: page.p.evaluate('window.movedMs'), 30))
        until(lambda: 'counting' not in said(), 30)
        counted.append(1000*(time.perf_counter() - start))
    w.shot(page, 'live-dropped')
    return dict(moved_ms=[round(o) for o in moved], moved_ms_median=np.median(moved), counted_ms_median=np.median(counted), said=said())


def main(kind: str, folder: Path, *more: str):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('m.json', 't.ipynb'): (folder/name).unlink(missing_ok=True)
    if kind == 'many': draw_pool(folder/'pool')
    first = DRAWN if kind == 'many' else RUN.replace('RUN', str(Path(*more).resolve()))
    w.write_notebook(folder/'t.ipynb', [first, LOOK.replace('{made}', MADE[kind]), END])
    with jlab.Server(folder) as server, jlab.Lab(server) as lab, lab.open('t.ipynb', timeout=300) as page:
        page.p.set_viewport_size(dict(width=1440, height=900))
        w.tidy(page)
        page.p.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        page.p.wait_for_selector('.wb-cell img[src]')
        seen = time.time()
        until(lambda: 'END' in cell_text(page, 2), 120)
        made, at, memory = cell_text(page, 1).partition('MADE')[2].split()[:3]
        found = dict(load=os.getloadavg(), made_s=float(made), first_picture_after_s=seen - float(at), kernel_MB_resident_own=memory)
        page.p.evaluate("document.querySelector('.wb').scrollIntoView({block: 'end'})")
        page.p.wait_for_timeout(1500)
        w.shot(page, f'{kind}-first')
        found |= photographs(page, folder) if kind == 'photographs' else dict(many=many, live=live)[kind](page)
        found['load_after'] = os.getloadavg()
        page.p.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
        page.command('notebook:run-cell')
        until(lambda: 'END' in cell_text(page, 2), 20)
        print(json.dumps(found | dict(kernel_MB_resident_own_after=cell_text(page, 2).split()[-1]), indent=1, default=float), page.errors() + page.problems)


if __name__ == '__main__':
    assert jlab.browser_path(), 'needs Chromium'
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
