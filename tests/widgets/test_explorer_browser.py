"""The cluster explorer in a real JupyterLab: hover, lasso, keep and drop by mouse and key, undo, and finding it all again."""
import json
import statistics
from collections import Counter

import pytest
import widget_lab as w
from widget_lab import at_rest, until

pytestmark = pytest.mark.browser
CELLS = [w.FRESH, """
from wood_nb.widgets.explorer import explore
explorer = explore(run, Manifest.load(path), by='jane', path=path, k=8)
explorer.widget
""", "'the end'"]


@pytest.fixture(scope='module')
def corner(lab): return w.Corner(lab, 'explorer', CELLS)


@pytest.fixture(scope='module')
def page(corner):
    "One page for all tests; one of them comes back to it."
    with corner.open('t.ipynb') as page:
        start(page)
        yield page


def start(page):
    page.p.set_viewport_size(dict(width=1440, height=1700))
    w.tidy(page)
    page.run_all()
    page.p.wait_for_selector('.wood-explorer[data-ready]')
    page.p.wait_for_selector('.wood-thumb')


def decided(corner) -> dict[str, str]:
    "What the file says."
    return {id: c['decision'] for id, c in json.loads((corner.folder/'manifest.json').read_text())['images'].items() if c['decision'] != 'undecided'}


def everyone(corner) -> int:
    "How many candidates the manifest has."
    return len(json.loads((corner.folder/'manifest.json').read_text())['images'])


def some_words(corner) -> tuple[str, int]:
    "A filter that some candidates pass, and not all; and how many pass."
    found = [(c['class'], c['p']) for c in json.loads((corner.folder/'manifest.json').read_text())['images'].values()]
    name = Counter(name for name, _ in found).most_common(1)[0][0]
    middle = statistics.median(p for other, p in found if other == name)
    least = f'{int(100 * middle) / 100 - .01:.2f}'
    return f'class:{name} p>{least}', sum(other == name and p > float(least) for other, p in found)


def canvas(page): return page.p.locator('.wood-map-pointer')


def hover_any(page, enough=lambda found: True) -> int:
    "Moves over the map until a point answers for which `enough` is true; gives its number."
    box = canvas(page).bounding_box()
    for y in range(60, int(box['height']) - 20, 25):
        for x in range(30, int(box['width']) - 30, 7):
            page.p.mouse.move(box['x'] + x, box['y'] + y)
            found = page.p.evaluate("+(document.querySelector('.wood-map').dataset.hover ?? -1)")
            if found >= 0 and enough(found): return found
    raise AssertionError('no point found by hovering')


def hover_undecided(page) -> tuple[float, float]:
    "Moves over the map to an undecided candidate; gives where the pointer is."
    box = canvas(page).bounding_box()
    for y in range(60, int(box['height']) - 20, 25):
        for x in range(30, int(box['width']) - 30, 7):
            page.p.mouse.move(box['x'] + x, box['y'] + y)
            if page.p.locator('.wood-map-tip').is_visible() and until(lambda: 'undecided' in tip(page), 3): return box['x'] + x, box['y'] + y
    raise AssertionError('no undecided picture found by hovering')


def shows_picture(page) -> bool:
    "Whether a thumbnail comes to where the pointer is. (Waiting inside the page needs `eval`, which the static page forbids.)"
    return until(lambda: page.p.evaluate("document.querySelector('.wood-map-tip img').naturalWidth > 20"))


def looks_ahead(page):
    "A test of a hovered point: does the page, while the pointer rests there, fetch more than was pointed at? (Some lie alone.)"
    pointed = set()
    known = lambda: page.p.evaluate("+(document.querySelector('.wood-map').dataset.known ?? 0)")  # noqa: E731

    def test(found: int) -> bool:
        pointed.add(found)
        return is_candidate(page) and shows_picture(page) and until(lambda: known() > len(pointed), 2)
    return test


def tip(page) -> str: return page.p.locator('.wood-map-tip').inner_text()
def is_candidate(page) -> bool: return 'in-distribution' not in tip(page)      # training images have no picture on the static page


def undo_all(page, corner):
    "Takes back one step after the other, until nothing is decided."
    canvas(page).focus()
    while before := decided(corner):
        page.p.keyboard.press('z')
        until(lambda: decided(corner) != before, 5)


def lasso(page, left=.02, top=.02, right=.98, bottom=.98):
    "A lasso round a part of the map."
    box, mouse = canvas(page).bounding_box(), page.p.mouse
    at = lambda x, y: (box['x'] + x*box['width'], box['y'] + y*box['height'])  # noqa: E731
    mouse.move(*at(left, top)); mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom)): mouse.move(*at(*corner), steps=8)
    mouse.up()


def text(page, selector: str) -> str: return page.p.locator(selector).first.inner_text()
def selected(page) -> int:
    words = page.p.locator('.wood-keep-button', has_text='Keep ').nth(1).inner_text().split()
    return int(words[1].replace(',', '')) if len(words) > 1 else 0


def test_hover_lasso_decide_undo_and_find_it_again(corner, page):
    w.shot(page, 'explorer-light')
    before = [c['source'] for c in page.cells()]
    # hover: a thumbnail and its lines
    hover_any(page)
    assert shows_picture(page)
    assert page.p.locator('.wood-map-tip').is_visible() and page.p.locator('.wood-map-tip div div').count() >= 1
    # lasso, and drop by mouse
    lasso(page, bottom=.75)
    n = until(lambda: selected(page))
    assert n > 20
    page.p.locator('.wood-drop-button', has_text=f'Drop {n}').first.click()        # the one beside the map
    assert until(lambda: len(decided(corner)) == n) and set(decided(corner).values()) == {'drop'}
    # undo by key; keys go nowhere else: the notebook keeps its cells
    canvas(page).focus()
    page.p.keyboard.press('z')
    assert until(lambda: not decided(corner))
    for key in ('x', 'd', 'd', 'y', 'y', 'b', 'm'): page.p.keyboard.press(key)
    page.p.keyboard.press('Control+z')
    page.p.keyboard.press('Escape')
    assert [c['source'] for c in page.cells()] == before
    assert until(lambda: selected(page) == 0), 'all of these keys have been heard'
    # a cluster by key: next, keep it whole
    undo_all(page, corner)
    page.p.keyboard.press(']')
    size = until(lambda: selected(page))
    page.p.keyboard.press('Shift+K')
    assert until(lambda: len(decided(corner)) == size) and set(decided(corner).values()) == {'keep'}
    # one thumbnail by key: the one with the focus
    thumb = page.p.locator('.wood-thumb').nth(2)
    thumb.focus()
    page.p.keyboard.press('d')
    assert until(lambda: sorted(decided(corner).values()).count('drop') == 1)
    place = lambda: page.p.evaluate("document.activeElement.className.match(/place-(\\d+)/)?.[1]")  # noqa: E731
    assert until(lambda: place() == '3'), 'the next one has the focus'
    page.p.keyboard.press('ArrowRight')
    assert place() == '4'
    kept = decided(corner)
    w.shot(page, 'explorer-decided')
    page.p.keyboard.press('v')
    w.in_the_dark(page, 'explorer-dark')
    assert not page.errors() and not page.problems, page.errors() + page.problems
    # reload the page: a new kernel finds everything
    page.save()
    page.come_back()
    start(page)
    page.problems[:] = [o for o in page.problems if 'widget model not found' not in o]      # outputs of the last session, drawn before the cells ran
    assert decided(corner) == kept
    assert f'{len(kept)} of {everyone(corner)} decided' in page.p.locator('.wood-explorer').inner_text()
    assert page.p.locator('.wood-card.wood-focus').count() == 0
    page.p.locator('.wood-card').nth(0).click()
    page.p.wait_for_selector('.wood-thumb.wood-keep')
    canvas(page).focus()
    page.p.keyboard.press('z')        # the way back is kept too
    assert until(lambda: list(decided(corner).values()).count('drop') == 0)
    assert not page.errors() and not page.problems, page.errors() + page.problems


def test_a_hover_says_what_was_decided_a_moment_ago(corner, page):
    undo_all(page, corner)
    at = hover_undecided(page)
    canvas(page).focus()
    for key in ('Enter', 'd'): page.p.keyboard.press(key)
    assert until(lambda: 'drop' in tip(page) and 'undecided' not in tip(page)), 'the pointer rests'
    page.p.mouse.move(at[0], at[1] - 400)
    page.p.mouse.move(*at)
    assert until(lambda: 'drop' in tip(page)), 'it comes back'
    page.p.keyboard.press('z')
    assert until(lambda: 'undecided' in tip(page))
    assert shows_picture(page)
    assert not page.errors() and not page.problems, page.errors() + page.problems


def test_keys_decide_what_the_mouse_has_marked(corner, page):
    undo_all(page, corner)
    page.p.locator('.wood-card').nth(0).click()
    size = until(lambda: selected(page) > 3 and selected(page))
    assert size
    for n in range(3): page.p.locator('.wood-thumb').nth(n).click()
    assert until(lambda: selected(page) == 3)
    page.p.keyboard.press('k')
    assert until(lambda: len(decided(corner)) == 3), 'the three, though one has the focus'
    for n in range(3): page.p.locator('.wood-thumb').nth(n).click()
    assert until(lambda: selected(page) == size)
    page.p.keyboard.press('d')
    assert until(lambda: list(decided(corner).values()).count('drop') == size), 'unmarking by mouse singles nothing out'
    page.p.keyboard.press('ArrowLeft')
    page.p.keyboard.press('u')
    assert until(lambda: len(decided(corner)) == size - 1), 'a thumbnail reached by the keyboard'
    assert not page.errors() and not page.problems, page.errors() + page.problems


def test_filter_names_and_boxes_do_not_leak_keys(corner, page):
    canvas(page).focus()
    page.p.keyboard.press('/')
    words, few = some_words(corner)
    assert 0 < few < everyone(corner)
    page.p.keyboard.type(words)
    page.p.keyboard.press('Escape')
    page.p.keyboard.press('a')
    assert until(lambda: selected(page) == few), 'a key waits for the words typed before it'
    page.p.keyboard.press(']')
    assert at_rest(page.p.locator('.wood-name input').input_value)
    page.p.keyboard.press('n')
    page.p.keyboard.type('dd xx')
    page.p.keyboard.press('Enter')
    names = lambda: [c['name'] for c in json.loads((corner.folder/'manifest.json').read_text())['clusters']]  # noqa: E731
    assert until(lambda: 'dd xx' in names())
    assert len(page.cells()) == 3 and not page.errors() and not page.problems, page.errors() + page.problems


def test_the_page_opens_from_disk(corner, tmp_path):
    "The static twin: hover and lasso without kernel and server, from file://."
    from wood_nb.ood.candidates import Candidate
    from wood_nb.ood.manifest import Manifest
    from wood_nb.runs.tiny import tiny_run
    from wood_nb.widgets.explorer import explore
    run = tiny_run()
    mined = run.manifest()
    fresh = Manifest(mined.classes, {id: Candidate(c.file, c.predicted, c.p) for id, c in mined.images.items()}, mined.pool)
    explore(run, fresh, by='jane', path=tmp_path/'m.json', k=8).to_html(tmp_path/'map.html')
    p, problems = corner.browser.new_page(viewport=dict(width=1280, height=1100)), []
    p.on('console', lambda m: problems.append(m.text) if m.type == 'error' else None)
    p.on('pageerror', lambda e: problems.append(str(e)))
    p.on('request', lambda r: None if r.url.startswith(('file:', 'data:', 'blob:')) else problems.append(r.url))
    p.goto((tmp_path/'map.html').as_uri())
    p.wait_for_selector('.wood-map-key')
    p.set_default_timeout(120_000)
    page = type('Standalone', (), dict(p=p))
    hover_any(page, lambda found: is_candidate(page))
    assert shows_picture(page)
    hover_any(page, looks_ahead(page))
    lasso(page)
    p.wait_for_selector('#chosen figure')
    assert p.locator('#chosen h2').inner_text() == f'{len(fresh.images)} selected'
    p.locator('#map select').select_option('decision')
    w.shot(page, 'explorer-page')
    assert not problems, problems
    p.close()
