"""The book on a small tree of notebooks: order, navigation, contents, links, outputs, pages; and the real one is up to date."""
import json
import shutil
import subprocess
import sys

import pytest
from nbtools import ROOT, read, source

sys.path.insert(0, str(ROOT/'.ci'))
import book  # noqa: E402
import docs  # noqa: E402
import lessons  # noqa: E402

LAST = dict(cell_type='code', id='last', metadata={}, execution_count=None, outputs=[],
            source=['#| hide\n', 'import nbdev; nbdev.nbdev_export()'])


def md(text, id='md'): return dict(cell_type='markdown', id=id, metadata={}, source=text.splitlines(keepends=True))
def code(text, id='code', outputs=()): return dict(LAST, id=id, source=text.splitlines(keepends=True), outputs=list(outputs))


def notebook(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = dict(display_name='python3', language='python', name='python3')
    path.write_text(book.text_of(dict(cells=list(cells), metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)))


@pytest.fixture
def tree(tmp_path):
    "A project of three lessons in two chapters; the second of them exports nothing."
    nbs = tmp_path/'nbs'
    notebook(nbs/'index.ipynb', md('# Kit\n\n> All of it', 'a'), md('See [formats](../docs/formats.md#masks-in-files).', 'b'))
    notebook(nbs/'1_data'/'01_images.ipynb', md('# Images\n\n> Read safely', 'a'), code('#| default_exp data.images', 'b'),
             code('#| export\nx = 1', 'c'), md('## What is read\n\nThen [maps](../10_maps/01_cam.ipynb).', 'd'), LAST)
    notebook(nbs/'1_data'/'02_guide.ipynb', md('# A [short] guide\n\n> By hand', 'a'), code('x', 'b'))
    notebook(nbs/'10_maps'/'01_cam.ipynb', md('# CAM\n\n> Classic', 'a'), code('#| default_exp maps.cam', 'b'),
             code('#| exports\ny = 1', 'c'), LAST)
    notebook(nbs/'_drafts'/'01_not.ipynb', md('# Not\n\n> yet', 'a'))
    (tmp_path/'docs').mkdir()
    (tmp_path/'docs'/'formats.md').write_text('# Formats\n\n## Masks in `files`\n\n```sh\n# no heading [a](b)\n```\n')
    (tmp_path/'README.md').write_text('[images](nbs/1_data/01_images.ipynb#what-is-read) `[code](nowhere)`\n')
    return tmp_path


def test_lessons_are_in_order(tree):
    assert [o.path for o in book.lessons(tree)] == ['1_data/01_images.ipynb', '1_data/02_guide.ipynb', '10_maps/01_cam.ipynb']
    assert [(o.title, o.subtitle, o.module) for o in book.lessons(tree)] == [
        ('Images', 'Read safely', 'data.images'), ('A [short] guide', 'By hand', ''), ('CAM', 'Classic', 'maps.cam')]
    assert list(book.chapters(tree)) == ['Data', 'Localisation maps']


def test_navigation_is_second_and_last_but_the_export(tree):
    book.write(tree)
    cells = read(tree/'nbs'/'1_data'/'01_images.ipynb')['cells']
    line = r'[Contents](../index.ipynb) · [A \[short\] guide →](02_guide.ipynb)'
    assert [c['id'] for c in cells] == ['a', 'book-top', 'b', 'c', 'd', 'book-bottom', 'last']
    assert source(cells[1]) == f'<!-- book:top -->\n\n{line}' and source(cells[-2]) == f'<!-- book:bottom -->\n\n{line}'
    cells = read(tree/'nbs'/'1_data'/'02_guide.ipynb')['cells']
    assert [c['id'] for c in cells] == ['a', 'book-top', 'b', 'book-bottom']
    assert source(cells[1]).endswith('[← Images](01_images.ipynb) · [Contents](../index.ipynb) · [CAM →](../10_maps/01_cam.ipynb)')


def test_contents_stay_where_they_were_put(tree):
    index = tree/'nbs'/'index.ipynb'
    book.write(tree)
    nb = read(index)
    assert source(nb['cells'][2]).splitlines()[4:] == [
        '### Data', '', '- [Images](1_data/01_images.ipynb): Read safely (`data.images`)',
        r'- [A \[short\] guide](1_data/02_guide.ipynb): By hand', '',
        '### Localisation maps', '', '- [CAM](10_maps/01_cam.ipynb): Classic (`maps.cam`)']
    nb['cells'] = [nb['cells'][i] for i in (0, 2, 1)]
    index.write_text(book.text_of(nb))
    assert book.differences(tree) == []
    (tree/'nbs'/'1_data'/'02_guide.ipynb').unlink()
    assert {o.name for o in book.differences(tree)} == {'index.ipynb', '01_images.ipynb', '01_cam.ipynb'}
    assert book.write(tree) == 3 and book.write(tree) == 0
    assert [c['id'] for c in read(index)['cells']] == ['a', 'book-contents', 'b']


def test_nbdev_clean_changes_nothing(tree):
    clean = pytest.importorskip('nbdev.clean')
    book.write(tree)
    for path in (tree/'nbs').rglob('*.ipynb'):
        before = path.read_text()
        clean.process_write(warn_msg='', proc_nb=clean.clean_nb, f_in=path)
        assert path.read_text() == before


def test_broken_links_are_told(tree):
    book.write(tree)
    assert book.broken(tree) == []
    notebook(tree/'nbs'/'1_data'/'02_guide.ipynb', md('# Guide\n\n> x'), md(
        '[gone](03_gone.ipynb) [a](https://a.org) [`x`](01_images.ipynb#What-is-read) [no](01_images.ipynb#what-not) [self](#guide) '
        '<img src="../p.png"> [out](../../../x.md) [ref]\n\n[ref]: no.md\n\n```\n[a](b)\n```'))
    where = 'nbs/1_data/02_guide.ipynb: link to '
    assert book.broken(tree) == [where + o for o in ('03_gone.ipynb: no such file', '01_images.ipynb#what-not: no such heading',
        '../p.png: no such file', '../../../x.md: leads out of the repository', 'no.md: no such file')]


def test_check_and_write_as_commands(tree):
    "Run in a copy of the tools; the first check fails, and after writing there is nothing to say."
    for o in ('.ci/book.py', 'tests/nbtools.py'):
        (tree/o).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT/o, tree/o)
    run = lambda flag: subprocess.run([sys.executable, tree/'.ci'/'book.py', flag], capture_output=True, text=True)  # noqa: E731
    assert run('--check').returncode == 1
    assert run('--write').stdout == '3 lessons in 2 chapters; 4 notebooks written.\n'
    last = run('--check')
    assert (last.returncode, last.stdout) == (0, '')


def test_the_real_book_is_up_to_date():
    assert book.differences() == [], 'run: make book'
    assert book.broken() == []


# -- outputs ---------------------------------------------------------------------------------------------------------

PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
PICTURE = f'''import base64, kit.data.images
class Picture:
    def _repr_png_(self): return base64.b64decode("{PIXEL}")
Picture()'''


def result(**data):
    return dict(output_type='execute_result', execution_count=None, metadata={}, data={k.replace('_', '/'): v for k, v in data.items()})


@pytest.fixture
def kit(tree):
    "The tree with a small package: images imports base, cam is named in the face and asked for when needed."
    files = {'__init__.py': 'LAZY = {"cam": "maps.cam"}\ndef __getattr__(name): raise AttributeError(name)\n',
             'base.py': '# %% a cell\nX = 1\n', 'maps/__init__.py': '', 'maps/cam.py': 'Y = 2\n',
             'data/__init__.py': '', 'data/images.py': 'from ..base import X\n', 'data/view.js': '1'}
    for name, text in files.items():
        (tree/'kit'/name).parent.mkdir(parents=True, exist_ok=True)
        (tree/'kit'/name).write_text(text)
    (tree/'settings.ini').write_text('[DEFAULT]\nlib_path = kit\ntst_flags = slow gpu\n')
    return tree


@pytest.mark.parametrize('cell, files', [
    ('import kit.data.images', 'base.py data/images.py data/view.js'), ('import os', ''),
    ('from kit.data import images', 'base.py data/images.py data/view.js'), ('from kit import cam', '__init__.py maps/cam.py'),
    ('def f():\n    from kit.maps.cam import Y', 'maps/cam.py'),
    ('!kit run', '__init__.py base.py data/__init__.py data/images.py data/view.js maps/__init__.py maps/cam.py')])
def test_what_a_lesson_depends_on(kit, cell, files):
    assert [o.relative_to(kit/'kit').as_posix() for o in lessons.Library(kit).files(cell)] == files.split()


def test_a_fingerprint_follows_code_and_nothing_else(kit):
    def now(*cells): return lessons.Library(kit).fingerprint(dict(cells=[code('import kit.data.images'), *cells]))
    first = now(md('text'), code('x', outputs=[result(text_plain='1')]))
    assert first == now(code('x'), md('other')) != now(code('y'))
    (kit/'kit'/'maps'/'cam.py').write_text('Y = 3\n')
    (kit/'kit'/'base.py').write_text('# %% another cell\nX = 1\n')
    assert first == now(code('x'))
    (kit/'kit'/'base.py').write_text('X = 2\n')
    assert first != now(code('x'))


def test_outputs_that_show_the_same_are_kept():
    old = [result(text_plain=['<A at 0x1f>']), dict(output_type='stream', name='stdout', text=['a\n', 'b\n'])]
    cells = [code('1', outputs=old[:1]), code('2', outputs=old[1:]), code('3', outputs=old[:1])]
    nb = dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)
    new = {0: [dict(result(text_plain='<A at 0x2e>'), execution_count=3)], 1: [dict(old[1], text='a\nb\n')],
           2: [result(**{'text_plain': 'W()', lessons.VIEW: dict(model_id='1')})]}
    assert lessons.with_outputs(nb, new) == 1
    assert nb['cells'][1]['outputs'] == old[1:] and list(nb['cells'][2]['outputs'][0]['data']) == ['text/plain']


@pytest.mark.parametrize('output, bar', [
    (dict(output_type='stream', name='stderr', text=['maps:  40%|##  | 4/10']), True),
    (dict(output_type='stream', name='stdout', text='40%|'), False),
    (result(**{'text_plain': 'maps:   0%|   |', lessons.VIEW: {}}), True),
    (result(text_plain='0%|', image_png=PIXEL), False), (result(text_plain='1'), False)])
def test_progress_bars_are_noise(output, bar): assert lessons.is_bar(output) == bar


@pytest.mark.slow
def test_lessons_are_made(kit, capsys):
    "A real kernel: pictures and text are stored, flagged cells keep their outputs, nothing runs twice, a failure changes nothing."
    pytest.importorskip('nbclient')
    guide, cam = kit/'nbs'/'1_data'/'02_guide.ipynb', kit/'nbs'/'10_maps'/'01_cam.ipynb'
    kept = result(text_plain=['before'])
    notebook(guide, md('# Guide\n\n> x'), code('print("one")\n1 + 1', 'b'), code('#| slow\n1/0', 'c', [kept]),
             code('#| eval: false\n1/0', 'd', [kept]), code(PICTURE, 'e'), LAST)
    notebook(cam, md('# CAM\n\n> x'), code('raise ValueError("no maps here")', 'b', [kept]), LAST)
    before = cam.read_text()
    maker = lessons.Maker(kit)
    assert maker.stale() == ['1_data/01_images.ipynb', '1_data/02_guide.ipynb', '10_maps/01_cam.ipynb', 'index.ipynb']
    assert [maker.make(o) for o in maker.stale('_')[1:]] == [True, False]
    assert 'ValueError: no maps here' in capsys.readouterr().out and cam.read_text() == before
    one, slow, never, picture = ([dict(o) for o in c['outputs']] for c in read(guide)['cells'][1:5])
    assert one[0]['text'] == ['one\n'] and one[1]['data'] == {'text/plain': ['2']} and slow == never == [kept]
    assert picture[0]['data']['image/png'] == PIXEL
    assert list(json.loads((kit/'nbs'/'.made.json').read_text())) == ['1_data/02_guide.ipynb']
    assert lessons.Maker(kit).stale('guide') == [] and lessons.Maker(kit).stale('guide', True) == ['1_data/02_guide.ipynb']
    (kit/'kit'/'base.py').write_text('X = 5\n')
    before = guide.read_text()
    maker = lessons.Maker(kit)
    assert maker.stale('guide') and maker.make('1_data/02_guide.ipynb') and guide.read_text() == before


# -- the site: what needs no MkDocs ----------------------------------------------------------------------------------

@pytest.fixture
def site(kit):
    "The pages of the small project, with a module docstring, a constant and a lesson that shows things."
    wanted = dict(lib_path='kit', lib_name='kit', description='d', git_url='https://h.org/kit', branch='main')
    (kit/'settings.ini').write_text('\n'.join(['[DEFAULT]', *(f'{k} = {v}' for k, v in wanted.items())]))
    links = 'See [files](../../docs/formats.md#Masks-in-files), [CAM](../10_maps/01_cam.ipynb) and [k](../../kit/base.py).'
    (kit/'kit'/'data'/'images.py').write_text('"""About images"""\nfrom ..base import X\nSIZE, _hidden = 1, 2\nTYPES: tuple = ()\n')
    notebook(kit/'nbs'/'1_data'/'02_guide.ipynb', md('# Guide\n\n> By hand', 'a'), code('#| hide\nsecret', 'b'),
             code('#| export\nshow()', 'c', [result(text_html=['<table style="x">\n', '\n', '<tr></tr></table>'])]),
             code('2', 'd', [result(text_plain=['2'])]), code('p', 'e', [result(image_png=PIXEL)]), md(links, 'f'))
    book.write(kit)
    docs.write_pages(kit/'pages', kit)
    return kit/'pages'


def test_pages_show_results_and_no_machinery(site):
    text = (site/'1_data'/'02_guide.md').read_text()
    assert text.startswith('\n# Guide\n\n> By hand\n\nNotebook `nbs/1_data/02_guide.ipynb`\n{ .lesson-note }\n')
    assert not [o for o in ('secret', '#|', 'book:', 'nbdev', '.ipynb)') if o in text]
    assert '```python\nshow()\n```\n\n<div class="result">\n<table style="x">\n<tr></tr></table>\n</div>' in text
    assert '```{ .text .output }\n2\n```' in text and '![](02_guide/01.png){ .output }' in text
    assert (site/'1_data'/'02_guide'/'01.png').exists()
    assert 'See [files](../docs/formats.md#masks-in-files), [CAM](../10_maps/01_cam.md) and ' in text
    assert '[k](https://h.org/kit/blob/main/kit/base.py)' in text
    assert 'exports [`kit.data.images`](../api/kit.data.md#kit.data.images)' in (site/'1_data'/'01_images.md').read_text()


def test_a_page_per_package(site, kit):
    assert docs.packages(kit) == {'kit': ['base'], 'kit.data': ['images'], 'kit.maps': ['cam']}
    assert (site/'api'/'kit.data.md').read_text() == '# kit.data\n\n::: kit.data.images\n\nConstants of `images`: `SIZE`, `TYPES`\n'
    assert '- [`images`](kit.data.md#kit.data.images): About images\n' in (site/'api'/'index.md').read_text()


def test_the_site_is_in_order_and_every_page_is_there(site, kit):
    lessons_, notes, library = docs.nav(kit)
    assert lessons_['Lessons'] == ['index.md', {'Data': [{'Images': '1_data/01_images.md'}, {'Guide': '1_data/02_guide.md'}]},
                                   {'Localisation maps': [{'CAM': '10_maps/01_cam.md'}]}]
    assert notes == {'Notes': [{'Files on disk': 'docs/formats.md'}]}
    assert library == {'Library': ['api/index.md', *({o: f'api/{o}.md'} for o in ('kit', 'kit.data', 'kit.maps'))]}
    assert all((site/o).exists() for o in ('index.md', '1_data/01_images.md', 'docs/formats.md', 'api/kit.md', 'assets/book.css'))
    assert json.loads(json.dumps(docs.config(site, kit/'_docs', kit)))['nav'] == docs.nav(kit)


def test_formulas_and_prices():
    assert docs.with_formulas('`$a$`, 5 $ and 6 $, $HOME') == '`$a$`, 5 $ and 6 $, $HOME'
    pytest.importorskip('latex2mathml')
    made = docs.with_formulas('for $x_i$ and\n\n$$y = 2$$')
    assert made.count('<math') == 2 and 'display="block"' in made and '_' not in made


def test_what_pages_fetch_is_found(tmp_path):
    (tmp_path/'a.html').write_text('<a href="https://a.org">a</a><script src="https://cdn.org/x.js"></script>'
                                   '<link href="b.css"><img src=//c.org/d.png>')
    assert [o.split(' src=')[0] for o in docs.fetched(tmp_path)] == ['a.html: <script', 'a.html: <img']
