"""The workbench in a real JupyterLab: what lies inside the window, which pictures an action changes, how long it takes; light and dark, wide and narrow."""
import json

import pytest
import widget_lab as w
from widget_lab import until

pytestmark = pytest.mark.browser
CELLS = [w.FRESH, """
from wood_nb.widgets import workbench
bench = workbench(run, Manifest.load(path), by='jane', path=path, k=12)
bench.save()
bench
""", "'the end'"]
SIZES = ((1440, 900), (1100, 800))
PARTS = ('.wb-bar', '.wb-map-frame', '.wb-legend', '.wb-message', '.wb-grid', '.wb-cards', '.wb-filter', '.wb-progress', '.wb-strip')
OUTSIDE = """names => {      // what of these, and of all buttons that are shown, is not wholly inside window and workbench
  const home = document.querySelector('.wb').getBoundingClientRect(), wide = Math.min(innerWidth, home.right), high = Math.min(innerHeight, home.bottom);
  const buttons = [...document.querySelectorAll('.wb-deciders button, .wb-bar button, .wb-map .wb-head > :not(.wb-grow), .wb-strip .wb-head button')].filter(o => o.offsetParent);
  return [...names.map(name => document.querySelector(name)), ...buttons].filter(o => { const b = o.getBoundingClientRect();
    return b.width < 4 || b.height < 4 || b.left < home.left - 1 || b.top < home.top - 1 || b.right > wide + 1 || b.bottom > high + 1
           || o.tagName === 'BUTTON' && o.scrollWidth > o.clientWidth + 1; }).map(o => o.className + ' ' + o.textContent.slice(0, 30)); }"""


@pytest.fixture(scope='module')
def corner(lab): return w.Corner(lab, 'bench', CELLS)


@pytest.fixture(scope='module')
def page(corner):
    with corner.open('t.ipynb') as page:
        page.p.set_viewport_size(dict(width=1440, height=900))
        w.tidy(page)
        page.run_all()
        page.p.wait_for_selector('.wb[data-ready]')
        page.p.wait_for_selector('.wb-cell img[src]')
        yield page


@pytest.fixture(autouse=True)
def afresh(page, corner):
    "Nothing is selected, filtered or decided; nothing has gone wrong."
    show(page)
    page.p.locator('.wb-grid').focus()
    for key in ('Escape', 'Escape', 'Escape'): page.p.keyboard.press(key)
    if page.p.locator('.wb-filter').input_value(): page.p.locator('.wb-filter').fill('')
    if steps := len(manifest(corner)['history']):
        keys(page, *['z']*steps)
        until(lambda: not decided(corner), 20)
    page.p.locator('.wb-grid').focus()
    page.p.keyboard.press('Escape')
    until(lambda: count(page).startswith('all'), 5)
    yield
    assert not page.errors() and not page.problems, page.errors() + page.problems


def show(page): page.p.evaluate("document.querySelector('.wb').scrollIntoView({block: 'end'})")
def manifest(corner) -> dict: return json.loads((corner.folder/'manifest.json').read_text())
def decided(corner) -> dict[str, str]: return {id: c['decision'] for id, c in manifest(corner)['images'].items() if c['decision'] != 'undecided'}
def members(corner, cluster: int) -> set[str]: return set(next(c['members'] for c in manifest(corner)['clusters'] if c['id'] == cluster))
def count(page) -> str: return page.p.locator('.wb-count').inner_text()
def number(page) -> int: return int(page.p.locator('.wb-right .wb-do-drop').inner_text().partition(' ')[2].replace(',', '') or 0)
def timing(page, name: str) -> float: return float(page.p.evaluate(f"document.querySelector('.wb').dataset.{name}"))
def cells(page): return page.p.locator('.wb-cell:visible')
def keys(page, *names): [page.p.keyboard.press(name) for name in names]


def lasso(page, left=.5, top=.02, right=.98, bottom=.98):
    box, mouse = page.p.locator('.wb-map-pointer').bounding_box(), page.p.mouse
    at = lambda x, y: (box['x'] + x*box['width'], box['y'] + y*box['height'])  # noqa: E731
    mouse.move(*at(left, top)); mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom)): mouse.move(*at(*corner), steps=5)
    mouse.up()


def theme(page, name: str): page.p.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme}).then(() => null)", f'JupyterLab {name}')


def test_all_of_it_lies_inside_the_window(page, corner):
    "Wide and narrow, light and dark, with a selection whose number is long; 780 pixels are high enough."
    page.p.keyboard.press('a')
    assert until(lambda: number(page) > 200)
    for name in ('Light', 'Dark'):
        theme(page, name)
        for width, height in (*SIZES, (1440, 780), (1100, 700)):
            page.p.set_viewport_size(dict(width=width, height=height))
            page.p.wait_for_timeout(150); show(page)
            assert until(lambda: not page.p.evaluate(OUTSIDE, PARTS), 4), f'{width} x {height}, {name}: {page.p.evaluate(OUTSIDE, PARTS)} is not to be seen'
            assert until(lambda: cells(page).count() >= 6 and cells(page).nth(5).locator('img[src]').count(), 5), f'{width} x {height}, {name}'
            shown = page.p.evaluate("""() => { const grid = document.querySelector('.wb-grid').getBoundingClientRect();
              return [...document.querySelectorAll('.wb-cell')].filter(o => o.offsetParent && o.getBoundingClientRect().bottom <= grid.bottom).length }""")
            assert shown >= 3, 'whole pictures'
            w.shot(page, f'bench-{width}x{height}-{name.lower()}')
    theme(page, 'Light')
    page.p.set_viewport_size(dict(width=1440, height=900))


def test_the_button_acts_on_the_lasso_it_names(page, corner):
    page.p.locator('.wb-card').nth(1).click()
    assert until(lambda: count(page) == f'{len(members(corner, 1))} selected')
    lasso(page)
    assert until(lambda: number(page) not in (0, len(members(corner, 1)))) and page.p.locator('.wb-card[aria-pressed=true]').count() == 0
    n, order = number(page), page.p.locator('.wb-cell').nth(0).get_attribute('title').splitlines()[0]
    assert timing(page, 'lassoMs') < 1000
    page.p.locator('.wb-right .wb-do-drop').click()
    assert until(lambda: len(decided(corner)) == n) and set(decided(corner).values()) == {'drop'} and order in decided(corner)
    assert until(lambda: f'{n} pictures dropped' in page.p.locator('.wb-message').inner_text())
    page.p.keyboard.down('Shift'); lasso(page, .02, .02, .5); page.p.keyboard.up('Shift')
    assert until(lambda: number(page) > n), 'Shift adds'
    page.p.keyboard.down('Alt'); lasso(page, .02, .02, .5); page.p.keyboard.up('Alt')
    assert until(lambda: number(page) == n), 'Alt takes away'


def test_three_clusters_in_four_keys(page, corner):
    keys(page, ']', 'Shift+D', 'Shift+D', 'Shift+D')
    gone = members(corner, 0) | members(corner, 1) | members(corner, 2)
    assert until(lambda: set(decided(corner)) == gone) and set(decided(corner).values()) == {'drop'}
    assert until(lambda: page.p.locator('.wb-card[aria-pressed=true]').get_attribute('data-cluster') == '3'), 'the next one'


def test_pictures_by_key_as_fast_as_one_types(page, corner):
    "Each key decides the framed picture and goes on; none is lost, however fast they come."
    keys(page, ']')
    assert until(lambda: number(page) == len(members(corner, 0)))
    for n in range(24): page.p.keyboard.press('kd'[n % 2])
    assert until(lambda: len(decided(corner)) == 24) and set(decided(corner)) <= members(corner, 0)
    assert sorted(decided(corner).values()) == ['drop']*12 + ['keep']*12
    cursor = page.p.locator('.wb-cursor')
    assert until(lambda: cursor.get_attribute('data-place') == '24')
    inside = page.p.evaluate("() => { const a = document.querySelector('.wb-cursor').getBoundingClientRect(), b = document.querySelector('.wb-grid').getBoundingClientRect(); return a.top >= b.top && a.bottom <= b.bottom }")
    assert inside, 'the frame stays in view'
    keys(page, 'z', 'z'); assert until(lambda: len(decided(corner)) == 22)
    keys(page, 'y'); assert until(lambda: len(decided(corner)) == 23)
    assert len(page.cells()) == 3, 'no key has reached the notebook'


def test_marks_by_mouse_and_what_dropped_pictures_contain(page, corner):
    keys(page, ']', ']')
    assert until(lambda: number(page) == len(members(corner, 1)))
    for n in (1, 3): cells(page).nth(n).click()
    assert until(lambda: number(page) == 2) and '2 marked' in count(page)
    names = {page.p.locator('.wb-marked').nth(n).get_attribute('title').splitlines()[0] for n in range(2)}
    keys(page, 'c')
    page.p.locator('.wb-menu label', has_text='train').click()
    assert page.p.locator('.wb-menu .wb-do-drop').inner_text() == 'Drop 2 with train'
    w.shot(page, 'bench-contains')
    page.p.locator('.wb-menu .wb-do-drop').click()
    assert until(lambda: set(decided(corner)) == names) and all(manifest(corner)['images'][id]['contains'] == ['train'] for id in names)
    keys(page, 'Escape'); assert until(lambda: number(page) == len(members(corner, 1)))


def test_a_picture_as_large_as_the_screen(page, corner):
    keys(page, ']', 'ArrowRight', ' ')
    page.p.wait_for_selector('.wb-viewer[data-full]:not([data-full="-1"])')
    title = lambda: page.p.locator('.wb-side h4').inner_text()  # noqa: E731
    first = title()
    assert page.p.locator('.wb-side').inner_text().count('cluster 0') == 1 and 'nobody yet' in page.p.locator('.wb-side dl').inner_text()
    w.shot(page, 'bench-viewer')
    before = page.p.locator('.wb-stage .wb-whole').bounding_box()['width']
    keys(page, '+'); assert page.p.locator('.wb-stage .wb-whole').bounding_box()['width'] > before*1.3
    keys(page, 'd')
    assert until(lambda: decided(corner) == {first: 'drop'}) and until(lambda: title() != first), 'on to the next one'
    keys(page, 'ArrowLeft'); assert until(lambda: title() == first) and until(lambda: 'jane' in page.p.locator('.wb-side dl').inner_text())
    page.p.locator('.wb-side .wb-do-keep').click(); assert until(lambda: decided(corner) == {first: 'keep'})
    keys(page, ' '); assert until(lambda: not page.p.locator('.wb-viewer').is_visible())
    page.p.locator('.wb-cell[data-place="2"]:visible').dblclick(); assert until(lambda: page.p.locator('.wb-viewer').is_visible()) and '3 of' in page.p.locator('.wb-side').inner_text()
    assert page.p.locator('.wb-marked').count() == 0


def test_what_is_refused_is_said_in_view(page, corner):
    page.p.keyboard.press('/')
    page.p.keyboard.type('is:undecided zebra'); page.p.keyboard.press('Enter')
    message = page.p.locator('.wb-message')
    assert until(lambda: "nothing passes 'zebra'" in message.inner_text()) and 'wb-bad' in message.get_attribute('class')
    page.p.locator('.wb-filter').fill(''); keys(page, 'Escape')
    page.p.locator('.wb-by').fill(''); page.p.locator('.wb-by').press('Tab')
    page.p.locator('.wb-grid').focus()
    keys(page, 'k')
    assert until(lambda: 'write your name' in message.inner_text()) and not decided(corner)
    page.p.locator('.wb-by').fill('jane'); page.p.locator('.wb-by').press('Tab')
    page.p.locator('.wb-grid').focus()
    assert page.p.evaluate(w.OWNS_KEYS)
    keys(page, '?'); assert page.p.locator('.wb-help-sheet').is_visible()
    w.shot(page, 'bench-keys')
    keys(page, 'Escape'); assert not page.p.locator('.wb-help-sheet').is_visible()


def test_the_map_answers_a_pointer(page, corner):
    "Hover shows a picture; a legend's line selects, and its count follows; Ctrl and wheel zooms and keeps the selection."
    box = page.p.locator('.wb-map-pointer').bounding_box()
    spot = page.p.evaluate("""() => { const c = document.querySelector('.wb-map-points'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      for (let i = 3; i < d.length; i += 4) if (d[i] > 200) return [(i >> 2) % c.width, Math.floor((i >> 2) / c.width)]; }""")
    page.p.mouse.move(box['x'] + spot[0] + 2, box['y'] + spot[1] + 2)
    assert until(lambda: page.p.locator('.wb-tip').is_visible() and page.p.evaluate("document.querySelector('.wb-tip img').naturalWidth > 20"))
    line = page.p.locator('.wb-key').nth(2)
    line.click()
    n = len(members(corner, 2))
    assert until(lambda: number(page) == n) and f'{n} of {n}' in line.inner_text()
    page.p.mouse.move(box['x'] + 200, box['y'] + 200)
    before = page.p.evaluate("+document.querySelector('.wb-map').dataset.drawn")
    page.p.keyboard.down('Control'); page.p.mouse.wheel(0, -600); page.p.keyboard.up('Control')
    assert until(lambda: page.p.evaluate("+document.querySelector('.wb-map').dataset.drawn") < before) and number(page) == n
    page.p.locator('.wb-grid').focus(); keys(page, '0')


def drag(page, way: list[tuple[float, float]]):
    "Over the map, by the left button; places as shares of its width and height."
    box, mouse = page.p.locator('.wb-map-pointer').bounding_box(), page.p.mouse
    for n, (x, y) in enumerate(way):
        mouse.move(box['x'] + x*box['width'], box['y'] + y*box['height'], steps=5)
        if not n: mouse.down()
    mouse.up()


def points(page) -> str: return page.p.evaluate("document.querySelector('.wb-map-points').toDataURL()")


def test_a_box_selects_and_panning_selects_nothing(page):
    lasso(page)
    assert until(lambda: number(page) > 0)
    n = number(page)
    keys(page, 't')
    assert page.p.locator('.wb-map-pointer').get_attribute('data-tool') == 'box'
    drag(page, [(.02, .02), (.98, .98)]); assert until(lambda: number(page) > n)
    drag(page, [(.5, .02), (.98, .98)]); assert until(lambda: number(page) == n), 'as by a lasso along its edges'
    page.p.keyboard.down('Alt'); drag(page, [(.5, .02), (.98, .98)]); page.p.keyboard.up('Alt')
    assert until(lambda: number(page) == 0), 'Alt takes away'
    drag(page, [(.5, .02), (.98, .98)]); assert until(lambda: number(page) == n)
    home = w.at_rest(lambda: points(page), .3)
    for tool, key in (('pan', None), ('lasso', 'Control')):
        page.p.locator('.wb-grid').focus(); keys(page, 't')
        assert page.p.locator('.wb-map-pointer').get_attribute('data-tool') == tool
        if key: page.p.keyboard.down(key)
        drag(page, [(.5, .5), (.7, .6)])
        if key: page.p.keyboard.up(key)
        assert until(lambda: points(page) != home), tool
        page.p.locator('.wb-grid').focus(); keys(page, '0')
        assert until(lambda: points(page) == home) and number(page) == n, tool


def over_a_picture(page, total: int) -> tuple[float, float]:
    "Where on the map a candidate lies; the pointer is on it."
    box = page.p.locator('.wb-map-pointer').bounding_box()
    spots = page.p.evaluate("""() => { const { width, height } = document.querySelector('.wb-map-points'), found = [];
      const drawn = document.querySelector('.wb-map-points').getContext('2d').getImageData(0, 0, width, height).data;
      for (let i = 0; i < width * height; i++) if (drawn[4 * i + 3] > 200) found.push([i % width, Math.floor(i / width)]);
      return found; }""")
    for x, y in spots[::40]:
        page.p.mouse.move(box['x'] + x, box['y'] + y)
        if 0 <= page.p.evaluate("+document.querySelector('.wb-map').dataset.hover") < total: return box['x'] + x, box['y'] + y
    raise AssertionError('no picture on the map')


def test_a_double_click_on_the_map_keeps_the_selection(page, corner):
    n, total = len(members(corner, 2)), len(manifest(corner)['images'])
    page.p.locator('.wb-card[data-cluster="2"]').click(); assert until(lambda: number(page) == n)
    whole = w.at_rest(lambda: points(page), .3)
    keys(page, '+'); assert until(lambda: points(page) != whole)
    page.p.mouse.dblclick(*over_a_picture(page, total))
    assert until(lambda: points(page) == whole, 5), 'all of the map'
    page.p.wait_for_timeout(600)
    assert number(page) == n and page.p.locator('.wb-card[aria-pressed=true]').get_attribute('data-cluster') == '2'
    page.p.mouse.click(*over_a_picture(page, total))
    assert until(lambda: number(page) == 1), 'a click selects the one'


MARKS = """async () => {      // of each line of the legend: its colour, and how many pixels of the map have it
  const rgb = (d, i) => [d[i], d[i + 1], d[i + 2]], found = [], map = document.querySelector('.wb-map-points');
  const drawn = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;
  for (const key of document.querySelectorAll('.wb-key:enabled')) {
    const img = new Image(); img.src = key.querySelector('.wb-badge').style.backgroundImage.slice(5, -2); await img.decode();
    const g = new OffscreenCanvas(img.width, img.height).getContext('2d'); g.drawImage(img, 0, 0);
    const colour = rgb(g.getImageData(img.width >> 1, img.height >> 1, 1, 1).data, 0);
    let alike = 0;
    for (let i = 0; i < drawn.length; i += 4) if (drawn[i + 3] > 200 && rgb(drawn, i).every((v, n) => Math.abs(v - colour[n]) < 5)) alike++;
    found.push([colour.join(), alike]);
  }
  return found; }"""


def test_the_legend_holds_every_mark_in_the_colours_of_the_map(page, corner):
    "Light and dark; what does not fit is reached by the wheel; a number is said to be one of pictures."
    wanted, seen = len(manifest(corner)['clusters']), {}
    for name in ('Light', 'Dark'):
        theme(page, name)
        page.p.wait_for_timeout(300)
        assert until(lambda: len(m := page.p.evaluate(MARKS)) == wanted and min(n for _, n in m) > 10, 5), (name, page.p.evaluate(MARKS))
        seen[name] = {colour for colour, _ in page.p.evaluate(MARKS)}
    theme(page, 'Light')
    assert not seen['Light'] & seen['Dark'], 'lighter in the dark'
    last, frame = page.p.locator('.wb-key').last, page.p.locator('.wb-legend').bounding_box()
    right = lambda: last.bounding_box()['x'] + last.bounding_box()['width'] - frame['x'] - frame['width']  # noqa: E731
    assert page.p.locator('.wb-key').count() == wanted + 1 and right() > 0
    page.p.mouse.move(frame['x'] + 40, frame['y'] + 10); page.p.mouse.wheel(0, 4000)
    assert until(lambda: right() <= 1, 5)
    assert page.p.locator('.wb-key').first.get_attribute('aria-label').startswith(f'cluster 0: {len(members(corner, 0))} pictures')


VIEW = """home => {      // what one sees of it
  const seen = names => [...home.querySelectorAll(names)].filter(o => o.offsetParent);
  return [...seen('.wb-count, .wb-message, .wb-report, .wb-right .wb-do, .wb-key b, .wb-now').map(o => o.textContent),
    ...['.wb-cursor', '.wb-marked', '.wb-is-drop'].map(name => seen(name).map(o => o.dataset.place).sort().join()),
    home.querySelector('.wb-card[aria-pressed=true]')?.dataset.cluster, home.querySelector('.wb-viewer').style.display]; }"""
BELOW = """async source => {      // a further cell, run
  const { commands, shell } = window.jupyterapp, book = shell.currentWidget.content;
  book.activeCellIndex = book.widgets.length - 1;
  await commands.execute('notebook:insert-cell-below');
  book.activeCell.model.sharedModel.setSource(source);
  await commands.execute('notebook:run-cell'); }"""


def test_two_views_of_one_workbench_agree(page, corner):
    "What is selected, marked, decided, enlarged and undone in one is so in the other."
    page.p.set_viewport_size(dict(width=1440, height=2300))
    page.p.evaluate(BELOW, 'bench')
    views = page.p.locator('.wb[data-ready]')
    assert until(lambda: views.count() == 2, 20)
    one, two = views.nth(0), views.nth(1)
    differ = lambda: [both for both in zip(one.evaluate(VIEW), two.evaluate(VIEW), strict=True) if both[0] != both[1]]  # noqa: E731

    def agree(): assert until(lambda: not differ(), 10), differ()
    try:
        n = len(members(corner, 1))
        two.locator('.wb-card[data-cluster="1"]').click()
        assert until(lambda: one.locator('.wb-count').inner_text() == f'{n} selected'); agree()
        one.locator('.wb-cell[data-place="2"]:visible').click()
        assert until(lambda: two.locator('.wb-marked').get_attribute('data-place') == '2'); agree()
        one.locator('.wb-right .wb-do-drop').click()
        assert until(lambda: len(decided(corner)) == 1) and until(lambda: two.locator('.wb-is-drop:visible').count() == 1); agree()
        two.locator('.wb-cell[data-place="2"]:visible').dblclick()
        assert until(lambda: one.locator('.wb-viewer').is_visible()); agree()
        two.locator('.wb-viewer').press('Escape')
        assert until(lambda: not one.locator('.wb-viewer').is_visible())
        two.locator('.wb-bar button', has_text='Undo').click()
        assert until(lambda: not decided(corner)) and until(lambda: one.locator('.wb-report').inner_text().startswith('0 of')); agree()
    finally:
        page.p.evaluate("() => { window.jupyterapp.commands.execute('notebook:delete-cell') }")
        page.p.set_viewport_size(dict(width=1440, height=900))
    assert until(lambda: views.count() == 1, 10)


def test_pictures_alone_are_pruned_by_clicks(page, corner):
    "The pruning grid is this page without its map: choose a class, click the exceptions, keep the rest of what is in view."
    keys(page, 'Shift+M', 'v')
    assert until(lambda: not page.p.locator('.wb-map-frame').is_visible() and not page.p.locator('.wb-key').first.inner_text().startswith('cluster'))
    sizes = [int(text.split()[-1]) for text in page.p.locator('.wb-key:enabled').all_inner_texts()]
    page.p.locator('.wb-key').nth(sizes.index(max(sizes))).click()
    page.p.locator('.wb-bar select').select_option('drop')
    rest = page.p.locator('.wb-rest')
    assert until(lambda: number(page) == max(sizes) and cells(page).nth(3).locator('img[src]').count())
    place = lambda n: page.p.locator(f'.wb-cell[data-place="{n}"]:visible')  # noqa: E731
    gone = {place(n).get_attribute('title').splitlines()[0] for n in (1, 3)}
    for n in (1, 3): place(n).click()
    assert until(lambda: set(decided(corner)) == gone) and set(decided(corner).values()) == {'drop'}
    assert until(lambda: page.p.locator('.wb-cell.wb-is-drop:visible').count() == 2)      # the file is written before the page follows
    n = int(rest.inner_text().split()[-1])
    w.shot(page, 'bench-pictures-alone')
    rest.click()
    assert until(lambda: list(decided(corner).values()).count('keep') == n)
    if max(sizes) > n + 2:
        assert until(lambda: place(n + 2).is_visible()), 'on to the next ones'
        page.p.locator('.wb-grid').focus(); keys(page, 'r'); assert until(lambda: list(decided(corner).values()).count('keep') > n)
    w.in_the_dark(page, 'bench-pictures-alone-dark')
    page.p.set_viewport_size(dict(width=1100, height=800)); w.shot(page, 'bench-pictures-alone-1100')
    page.p.set_viewport_size(dict(width=1440, height=900))
    page.p.locator('.wb-bar select').select_option('')
    page.p.locator('.wb-grid').focus(); keys(page, 'v', 'v', 'v', 'Shift+M')
    assert until(lambda: page.p.locator('.wb-map-frame').is_visible())


def test_a_page_of_it_opens_from_disk(corner, tmp_path):
    "Hover, lasso, clusters and colours without kernel and server, from file://; nothing can be decided."
    from four_kinds import draw_pool, mined
    from wood_nb.widgets.bench.workbench import Workbench
    pool = draw_pool(tmp_path/'pool')
    manifest, store = mined(pool)
    work = Workbench(manifest, pool, store, by='jane', path=tmp_path/'m.json', k=4)
    work.to_html(tmp_path/'map.html')
    p, problems = corner.browser.new_page(viewport=dict(width=1440, height=900)), []
    p.on('console', lambda m: problems.append(m.text) if m.type == 'error' else None)
    p.on('pageerror', lambda e: problems.append(str(e)))
    p.on('request', lambda r: None if r.url.startswith(('file:', 'data:', 'blob:')) else problems.append(r.url))
    p.goto((tmp_path/'map.html').as_uri())
    p.wait_for_selector('.wb-cell img[src]')
    page = type('Standalone', (), dict(p=p))
    assert count(page) == 'all 40 shown' and not p.locator('.wb-right .wb-do-drop').is_visible()
    p.locator('.wb-card').nth(2).click(); assert until(lambda: count(page) == '10 selected', 5)
    p.keyboard.press('v'); assert until(lambda: p.locator('.wb-key').first.inner_text().startswith('boat'), 5)
    lasso(page, .01, .01, .99, .99); assert until(lambda: count(page) == '40 selected', 5)
    for key in ('Escape', 'g', 'd', 'ArrowRight'): p.keyboard.press(key)
    assert until(lambda: p.locator('.wb-cursor').get_attribute('data-place') == '1', 5)
    w.shot(page, 'bench-from-disk')
    assert not problems, problems
    p.close()


def test_without_a_kernel_its_picture_is_there_and_no_error(page, corner):
    seen = lambda: page.p.evaluate("[...document.querySelectorAll('.jp-OutputArea-child')].map(o => o.offsetHeight > 0)")  # noqa: E731
    assert until(lambda: seen() == [False, False, True, True], 20), f'the widget alone: {seen()}'
    page.save()
    page.end_kernel()
    keys(page, 'k')
    assert until(lambda: 'the kernel is busy, or has ended' in page.p.locator('.wb-message').inner_text(), 20)
    page.come_back()
    page.p.wait_for_selector('.jp-RenderedImage img')
    assert until(lambda: seen() == [True, False, False, True]), 'its picture alone'
    assert until(lambda: page.p.evaluate("document.querySelector('.jp-RenderedImage img').naturalWidth > 600"))
    w.shot(page, 'bench-without-a-kernel')
    assert all('model not found' in o or 'Cannot send' in o for o in page.problems), page.problems
    page.problems.clear()
