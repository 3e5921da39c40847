"""The cluster explorer with 20,000 pictures in a real JupyterLab: times, memory, size of what is sent. Not a test: run it by hand.

    .venv/bin/python tests/bench_explorer.py FOLDER      pictures are drawn into FOLDER once (80 MB)"""
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import jlab
import widget_lab

N, GROUPS = 20_000, 40
CELLS = ["""
import json, time
import numpy as np
from wood_nb.data.sources import load_pool
from wood_nb.ood.features import FeatureStore
from wood_nb.ood.candidates import Candidate, file_of
from wood_nb.ood.manifest import fingerprint, Manifest
from wood_nb.widgets.explorer import ClusterExplorer
pool = load_pool('pool')
n, names, rng = len(pool), tuple(f'class{c}' for c in range(20)), np.random.default_rng(0)
group = np.arange(n) % 40
centres = rng.normal(0, 3, (40, 512)).astype(np.float32)
p = rng.random((n, 20)).astype(np.float32)
store = FeatureStore(pool.ids, centres[group] + rng.normal(0, 1, (n, 512)).astype(np.float32), p, group, centres)
images = {item.id: Candidate(file_of(item), names[int(p[i].argmax())], float(p[i].max())) for i, item in enumerate(pool.items)}
manifest = Manifest(names, images, fingerprint(pool))
""", """
start = time.perf_counter()
explorer = ClusterExplorer(manifest, pool, store, by='jane', path='m.json')
made = time.perf_counter() - start
explorer.widget
""", """
def size(value): return len(value) if isinstance(value, bytes) else len(json.dumps(value, default=str))

def ms(work):
    start = time.perf_counter()
    work()
    return round(1000 * (time.perf_counter() - start))

memory = int(open('/proc/self/status').read().split('VmRSS:')[1].split()[0]) // 1024
found = dict(made_s=round(made, 2), map_state_kB=sum(map(size, explorer.map.get_state().values())) // 1000, kernel_MB=memory)
found['select_5000_ms'] = ms(lambda: explorer.select(explorer.look.ids[:5000]))
found['filter_ms'] = ms(lambda: explorer.set('words', 'class3 p>0.9'))
explorer.set('words', '')
explorer.select(explorer.look.ids[:3000])
found |= dict(keep_3000_ms=ms(explorer.keep), undo_ms=ms(explorer.undo), save_ms=ms(explorer.save))
explorer.clear()
print('FOUND', json.dumps(found))
"""]
POINTS = """() => { const c = document.querySelector('.wood-map-points'); if (!c || !c.width) return false;
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n > 5000; }"""


def draw_pool(folder: Path):
    "Circles on a ground whose colour is the group's."
    folder.mkdir(parents=True, exist_ok=True)
    rng, grounds = np.random.default_rng(0), np.random.default_rng(1).integers(40, 255, (GROUPS, 3))
    for i in range(len(list(folder.glob('*.jpg'))), N):
        image = Image.new('RGB', (160, 120), tuple(map(int, grounds[i % GROUPS])))
        draw = ImageDraw.Draw(image)
        for x, y, w, *colour in rng.integers(0, (130, 90, 40, 255, 255, 255), (6, 6)).tolist(): draw.ellipse((x, y, x + w + 4, y + w + 4), fill=tuple(colour))
        image.save(folder/f'p{i:05d}.jpg', quality=80)


def hovers(page, box, times: int = 40) -> list[float]:
    "From the movement of the mouse to the thumbnail on the screen, in ms, as the map itself takes it."
    rng, found = np.random.default_rng(1), []
    for x, y in rng.uniform(.2, .8, (times, 2)):
        page.p.evaluate("delete document.querySelector('.wood-map').dataset.hoverMs")
        page.p.mouse.move(box['x'] + x*box['width'], box['y'] + y*box['height'])
        try: page.p.wait_for_function("document.querySelector('.wood-map').dataset.hoverMs", timeout=1500)
        except Exception: continue      # no point there
        found.append(float(page.p.evaluate("document.querySelector('.wood-map').dataset.hoverMs")))
    return found


def lassos(page, box, times: int = 5) -> tuple[list[float], list[float]]:
    "ms that the map took to find the points, and ms until the kernel had answered and the buttons named them."
    own, whole, label = [], [], "document.querySelectorAll('.wood-keep-button')[1].innerText.includes(' ')"
    at = lambda x, y: (box['x'] + x*box['width'], box['y'] + y*box['height'])  # noqa: E731
    for _ in range(times):
        page.p.mouse.move(*at(.1, .1)); page.p.mouse.down()
        for corner in ((.6, .1), (.6, .7), (.1, .7)): page.p.mouse.move(*at(*corner), steps=12)
        start = time.perf_counter()
        page.p.mouse.up()
        page.p.wait_for_function(label)
        whole.append(round(1000*(time.perf_counter() - start)))
        own.append(float(page.p.evaluate("document.querySelector('.wood-map').dataset.lassoMs")))
        page.p.keyboard.press('Escape')
        page.p.wait_for_function(f'!{label}')
    return own, whole


def main(folder: Path):
    draw_pool(folder/'pool')
    for name in ('m.json', 't.ipynb'): (folder/name).unlink(missing_ok=True)
    widget_lab.write_notebook(folder/'t.ipynb', CELLS)
    with jlab.Server(folder) as server, jlab.Lab(server) as lab, lab.open('t.ipynb', timeout=300) as page:
        page.p.set_viewport_size(dict(width=1440, height=1500))
        widget_lab.tidy(page)
        start = time.perf_counter()
        page.p.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        page.p.wait_for_function(POINTS)
        found = dict(run_all_to_first_picture_s=round(time.perf_counter() - start, 1))
        while not page.cells()[-1]['outputs']: page.p.wait_for_timeout(200)
        found |= json.loads(page.cells()[-1]['outputs'][0]['text'].split('FOUND')[1])
        page.p.wait_for_timeout(2000)
        page.p.locator('.wood-map-pointer').scroll_into_view_if_needed()
        box = page.p.locator('.wood-map-pointer').bounding_box()
        hover, (own, whole) = hovers(page, box), lassos(page, box)
        found |= dict(hover_ms=dict(n=len(hover), median=np.median(hover), p90=np.quantile(hover, .9)), lasso_map_ms=np.median(own),
                      lasso_to_buttons_ms=np.median(whole), page_heap_MB=page.p.evaluate('Math.round(performance.memory.usedJSHeapSize/1e6)'))
        widget_lab.shot(page, 'explorer-20000')
        print(json.dumps(found, indent=1, default=float), page.errors() + page.problems)


if __name__ == '__main__':
    assert jlab.browser_path(), 'needs Chromium'
    main(Path(sys.argv[1]))
