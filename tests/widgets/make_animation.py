"""Draws docs/images/workbench.webp, "drop a cluster, watch the boat": drives the live workbench in a real JupyterLab and keeps frames.

    .venv/bin/python tests/widgets/make_animation.py [FILE] [--frames FOLDER]      two minutes; needs Chromium, as the browser tests do

Pictures and numbers are those of the tiny run. They were chosen for being easy to see: the cluster that is most often taken for cars,
which shows streets, and of all boats and trains of the validation images the one whose map gains most by it."""
import argparse
import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import jlab  # noqa: E402
import nbtools  # noqa: E402
import matplotlib  # noqa: E402
import widget_lab as w  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

CELLS = ["""
from pathlib import Path
from wood_nb.data.images import share_on
from wood_nb.runs.run import Run
from wood_nb.runs.share import link_tree
from wood_nb.runs.tiny import tiny_run
from wood_nb.widgets import workbench
from wood_nb.widgets.bench.live import LiveHead
from wood_nb.widgets.tour import without_decisions

link_tree(tiny_run().path, Path('run'))
run = Run('run')
manifest, names = without_decisions(run.manifest()), run.split('val').classes
bench = workbench(run, manifest, by='jane', k=12, path='manifest.json', cache='.')
live = LiveHead(run, manifest)
cars = max((c for c in manifest.clusters if len(c.members) > 9),
           key=lambda c: sum(manifest.images[id].predicted == 'car' for id in c.members)/len(c.members))
weight = live.solve(cars.members)

def gain(item) -> float:
    "What the map of a picture's first class gains on its object with that cluster."
    n, key = live.watched.place[item.id], min(item.labels)
    shares = [share_on(live.watched.maps(item.id, each)[0].numpy(), live.watched.mask(n), key + 1) for each in (live.bare.weight, weight)]
    return -1.0 if None in shares else shares[1] - shares[0]

items = [item for item in live.watched.split.items if item.labels]
best = [max((item for item in items if names[min(item.labels)] == name), key=gain).id for name in ('boat', 'train')]
bench.watch(live, best)
bench.do('flicker', show='right')
""", "bench", "print(cars.id, best)"]
HIGH, SIDE = 44, 1100      # pixels: of the line of words, and the width of a frame
FONT = ImageFont.truetype(Path(matplotlib.get_data_path())/'fonts'/'ttf'/'DejaVuSans.ttf', 20)


def worded(shot: bytes, text: str) -> Image.Image:
    "A screenshot with a line of words above it."
    image = Image.open(io.BytesIO(shot)).convert('RGB')
    image = image.resize((SIDE, round(image.height*SIDE/image.width)), Image.Resampling.LANCZOS) if image.width != SIDE else image
    frame = Image.new('RGB', (SIDE, image.height + HIGH), '#1c1c1c')
    frame.paste(image, (0, HIGH))
    ImageDraw.Draw(frame).text((16, HIGH//2), text, 'white', FONT, anchor='lm')
    return frame


class Film:
    "Frames of a page, each with its words and how long it stays."
    def __init__(self, page: jlab.Page): self.page, self.frames, self.stay = page, [], []

    def take(self, text: str, seconds: float):
        self.frames.append(worded(self.page.p.locator('.wb').screenshot(), text))
        self.stay.append(round(1000*seconds))

    def keys(self, *names: str): [self.page.p.keyboard.press(name) for name in names]

    def wipe(self, text: str, places, seconds: float = .12):
        "Drag the divider of the enlarged picture."
        rod, mouse = self.page.p.locator('.wb-stage .wb-rod').bounding_box(), self.page.p.mouse
        pair = self.page.p.locator('.wb-stage .wb-pair').bounding_box()
        mouse.move(rod['x'] + rod['width']/2, rod['y'] + 60)
        mouse.down()
        for at in places:
            mouse.move(pair['x'] + at*pair['width'], rod['y'] + 60)
            self.page.p.wait_for_timeout(60)
            self.take(text, seconds)
        mouse.up()

    def save(self, file: Path):
        self.frames[0].save(file, save_all=True, append_images=self.frames[1:], duration=self.stay, loop=0, quality=72, method=4)


def play(page: jlab.Page, film: Film):
    "The story: a cluster of streets is kept, and the map leaves the street for the boat; it is dropped, and the map falls back."
    cluster = ''.join(page.cells()[2]['outputs'][0]['text']).split()[0]
    note = lambda: page.p.locator('.wb-pins figcaption').nth(1).inner_text().split(' on ')[0].removeprefix('boat').strip()  # noqa: E731
    turn = "document.querySelector('.wb-pins .wb-pair').dataset.turn"

    def decide(*names: str):
        before = page.p.evaluate(turn)
        film.keys(*names)
        page.p.wait_for_function(f'{turn} !== {before!r}')
        page.p.wait_for_timeout(1500)

    page.p.locator('.wb-bar input[type=checkbox]').uncheck()
    page.p.locator('.wb-grid').focus()
    film.take(f'Where is the boat? {note().split(" → ")[0]} of its map lie on it, most of the rest lies in the sky.', 3)
    card = page.p.locator(f'.wb-card[data-cluster="{cluster}"]')
    card.click()
    page.p.wait_for_selector(f'.wb-card[data-cluster="{cluster}"][aria-pressed=true]')
    page.p.wait_for_timeout(800)
    film.take('A cluster of out-of-distribution pictures: streets, which the classifier takes for cars.', 3)
    page.p.locator('.wb-grid').focus()
    decide('Shift+K')
    film.take(f'Keep it: the last layer is solved again at once, and the map moves: {note()} on the boat.', 3.5)
    film.keys('h', 'p')
    page.p.wait_for_selector('.wb-viewer.wb-mapped')
    page.p.wait_for_timeout(500)
    film.take('Enlarged: without the cluster, and with it', 1)
    film.wipe('Enlarged: without the cluster, and with it', [.58, .66, .74, .66, .56, .44, .32, .2, .08, .2, .32, .42, .5])
    for n in range(6):
        film.keys('b')
        page.p.wait_for_timeout(250)
        film.take('... or flicker: ' + ('without', 'with')[n % 2], .6)
    film.keys(' ')
    page.p.wait_for_timeout(300)
    page.p.locator('.wb-grid').focus()
    decide('Shift+D')
    film.take(f'Drop the cluster, watch the boat: the map falls back to {note().split(" → ")[1]}.', 3)
    decide('z')
    film.take('Undo takes the maps back, too.', 2.5)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    ap.add_argument('file', nargs='?', type=Path, default=nbtools.ROOT/'docs'/'images'/'workbench.webp')
    ap.add_argument('--frames', type=Path, help='a folder for the single frames, as PNG')
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as folder, jlab.Server(folder) as server, jlab.Lab(server) as lab:
        with w.Corner(lab, 'film', CELLS).open('t.ipynb', 240) as page:
            page.p.set_viewport_size(dict(width=1325, height=880))
            w.tidy(page)
            page.run_all()
            page.p.wait_for_selector('.wb-pins .wb-pair[data-turn]')
            page.p.wait_for_selector('.wb-cell img[src]')
            w.until(lambda: page.cells()[-1]['execution_count'], 120)
            page.p.evaluate("document.querySelector('.wb').scrollIntoView({block: 'end'})")
            page.p.locator('.wb-grid').focus()
            film = Film(page)
            play(page, film)
            assert not page.errors() and not page.problems, page.errors() + page.problems
            print(''.join(page.cells()[2]['outputs'][0]['text']), page.p.locator('.wb').bounding_box())
    film.save(a.file)
    print(f'{a.file}: {len(film.frames)} frames of {film.frames[0].size}, {sum(film.stay)/1000:.1f} s, {a.file.stat().st_size/1e6:.2f} MB')
    for n, frame in enumerate(film.frames if a.frames else []):
        a.frames.mkdir(parents=True, exist_ok=True)
        frame.save(a.frames/f'{n:02}.png')


if __name__ == '__main__': main()
