"""The localisation inspector in a real JupyterLab: a slider moves outline and IoU, a click gives values, keys browse."""
import pytest
import widget_lab as w
from widget_lab import until

pytestmark = pytest.mark.browser
CELLS = [w.FRESH, """
from wood_nb.widgets.inspector import inspect_run
inspector = inspect_run(run, folder='.')
inspector.widget
""", "'the end'"]

PLACES = """() => {      // how many panels, rows, widths
  const boxes = [...document.querySelectorAll('.wood-panel-frame')].map(o => o.getBoundingClientRect());
  return [boxes.length, ...['top', 'width'].map(name => new Set(boxes.map(box => Math.round(box[name]))).size)]; }"""


@pytest.fixture(scope='module')
def corner(lab): return w.Corner(lab, 'inspector', CELLS)


def words(page, n: int) -> str: return page.p.locator('.wood-panel-text').nth(n).inner_text()
def place(page) -> str: return page.p.locator('.wood-inspector').inner_text()


def pixels(page, n: int) -> list:
    "The picture of panel n as the page shows it."
    return page.p.evaluate("""async n => { const picture = document.querySelectorAll('.wood-panel img')[n]; await picture.decode();
      const canvas = document.createElement('canvas'); canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
      const g = canvas.getContext('2d'); g.drawImage(picture, 0, 0); return [...g.getImageData(0, 0, canvas.width, canvas.height).data]; }""", n)


def test_slider_class_click_and_keys(corner):
    with corner.open('t.ipynb') as page:
        page.p.set_viewport_size(dict(width=1440, height=1100))
        w.tidy(page)
        page.run_all()
        page.p.wait_for_selector('.wood-inspector[data-ready]')
        page.p.wait_for_function("document.querySelectorAll('.wood-panel img')[4]?.naturalWidth > 100")
        before_cells = [c['source'] for c in page.cells()]
        page.p.locator('.wood-order select').select_option('largest gain first')
        assert until(lambda: ', 1 of 48' in place(page))
        w.shot(page, 'inspector-light')
        # on a narrow screen, too, the maps of both methods are in one row
        for width in (1100, 1440):
            page.p.set_viewport_size(dict(width=width, height=1100))
            assert until(lambda: page.p.evaluate(PLACES) == [5, 1, 1]), (width, page.p.evaluate(PLACES))
            w.shot(page, f'inspector-{width}')
        # the slider: another outline, another IoU
        text, picture = words(page, 3), pixels(page, 3)
        handle, base = page.p.locator('.wood-threshold-1 .noUi-handle'), page.p.locator('.wood-threshold-1 .noUi-base').bounding_box()
        box = handle.bounding_box()
        page.p.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2); page.p.mouse.down()
        page.p.mouse.move(base['x'] + base['width']*.75, base['y'] + base['height']/2, steps=5); page.p.mouse.up()
        assert until(lambda: 'threshold 0.7' in words(page, 3))
        assert until(lambda: words(page, 3).split('IoU')[1] != text.split('IoU')[1])
        assert until(lambda: pixels(page, 3) != picture)
        # a click on a pixel: every method's value
        page.p.locator('.wood-panel-frame').nth(2).click(position=dict(x=100, y=90))
        assert until(lambda: 'pixel (' in place(page))
        line = next(o for o in place(page).splitlines() if o.startswith('pixel ('))
        assert 'CAM 0.' in line and 'W-OoD 0.' in line and 'truth:' in line
        # keys: next and back, thresholds; the notebook is unharmed
        assert page.p.evaluate(w.OWNS_KEYS)
        first = next(o for o in place(page).splitlines() if ' of 48' in o)
        page.p.keyboard.press('ArrowRight')
        assert until(lambda: ', 2 of 48' in place(page))
        page.p.keyboard.press('p')
        assert until(lambda: first in place(page))
        text = words(page, 2)
        page.p.keyboard.press('ArrowUp')
        assert until(lambda: words(page, 2) != text)
        for key in ('x', 'd', 'd', 'c', 'g', 'b'): page.p.keyboard.press(key)
        assert [c['source'] for c in page.cells()] == before_cells
        page.p.keyboard.press('w')
        assert until(lambda: list(corner.folder.glob('val-*.png')))
        # the table: a heading sorts, twice the other way, a row opens its image; then the grid: a cell opens its images
        page.p.keyboard.press('t')
        table = page.p.locator('.wood-images')
        heading = table.locator('thead button', has_text='gain')
        for way in ('descending', 'ascending'):
            heading.click()
            table.locator(f'th[aria-sort={way}]', has_text='gain').wait_for()
        worst = table.locator('tbody tr').nth(1)
        name = worst.locator('button').inner_text()
        worst.locator('td').first.click()
        assert until(lambda: f'{name}, 2 of 48 (by gain, smallest first)' in place(page))
        table.locator('tr[aria-current] button', has_text=name).wait_for()
        page.p.keyboard.press('m')
        cell = page.p.locator('.wood-confusions tbody tr').nth(1).locator('button').first
        cell.click()
        page.p.locator('.wood-confusions button[aria-pressed=true]').wait_for()
        assert until(lambda: 'W-OoD takes' in place(page) and 'for background' in place(page))
        w.shot(page, 'inspector-table')
        page.p.keyboard.press('a')
        assert until(lambda: ', 1 of 48;' in place(page))
        # what hurts most with one click, a figure of it for a paper with the second
        worst = [page.p.locator('.wood-images tbody tr').nth(n).locator('button').inner_text() for n in range(5)]
        page.p.get_by_role('button', name='Largest losses').click()
        names = lambda: [page.p.locator('.wood-shot').nth(n).get_attribute('title') for n in range(5)]  # noqa: E731
        assert until(lambda: names() == worst), (names(), worst)
        page.p.locator('.wood-format select').select_option('PDF')
        page.p.get_by_role('button', name='Contact sheet').click()
        assert until(lambda: [o for o in corner.folder.glob('contact-*.pdf') if o.read_bytes()[:5] == b'%PDF-'])
        page.p.keyboard.press('?')
        w.in_the_dark(page, 'inspector-dark')
        assert not page.errors() and not page.problems, page.errors() + page.problems
