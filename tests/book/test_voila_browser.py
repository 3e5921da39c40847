"""The tour as a page of its own, served by voila: no code to be seen, and the widgets work. Skips where voila or Chromium is missing."""
import re

import jlab
import nbtools
import pytest
import widget_lab as w

pytestmark = pytest.mark.browser
HERE = 'http://127.0.0.1:'


class Voila(jlab.Server):
    "A private voila that shows one notebook."
    NAME = 'voila'

    def command(self) -> list[str]:
        return ['-m', 'voila', 'nbs/0_begin/01_tour.ipynb', '--no-browser', '--Voila.ip=127.0.0.1', f'--port={self.port}']

    def status(self) -> str: return 'voila/static/voila.js'


@pytest.fixture(scope='module')
def voila(tmp_path_factory, request, browser):
    pytest.importorskip('voila', reason='voila is not installed (extra dev)')
    jlab.need_browser()
    with Voila(nbtools.stage(tmp_path_factory.mktemp('voila')), request.getfixturevalue('warm')) as server, jlab.Lab(server, browser) as voila: yield voila


@pytest.fixture
def page(voila):
    "The tour, read from this server only: voila's own page asks another one for icons, and gets none here."
    context = voila.browser.new_context(viewport=dict(width=1440, height=1500))
    page = jlab.Page(context.new_page(), 240)
    page.p.route(lambda url: url.startswith('http') and not url.startswith(HERE), lambda route: route.fulfill(body='', content_type='text/css'))
    page.p.goto(f'{HERE}{voila.server.port}/', wait_until='commit')
    yield page
    context.close()


def test_the_tour_works_without_code(page):
    page.p.wait_for_selector('.wb[data-ready]')
    explorer = page.p.locator('.wb').first
    explorer.locator('.wb-card').nth(0).click()
    explorer.locator('.wb-card[aria-pressed=true]').wait_for()
    drop = explorer.locator('.wb-right .wb-do-drop', has_text=re.compile(r'Drop \d'))
    size = int(drop.inner_text().removeprefix('Drop '))
    assert size > 3
    explorer.locator('.wb-count', has_text=f'{size} selected').wait_for()
    drop.click()
    explorer.locator('.wb-report', has_text=f'{size} of ').wait_for()
    explorer.locator('.wb-card').nth(0).locator('.wb-decided .wb-drop').wait_for()
    inspector = page.p.locator('.wood-inspector[data-ready]').first
    inspector.wait_for()
    inspector.get_by_title('next image (→)').click()
    inspector.get_by_text(', 2 of 48').wait_for()
    w.shot(page, 'voila')
    assert 'explorer = explore(' not in page.p.locator('body').inner_text() and not page.problems, page.problems
