"""Pieces of HTML: nothing breaks out of its place, one table for our pages and one for notebooks, pictures inside the page."""
import base64
import io

import numpy as np
import pytest
from PIL import Image

from wood_nb.base.html import as_html, bar, bare_table, duration, Field, fitted, Html, image_uri, img, number, plain, table, tag

NASTY = '<img src=x onerror=alert(1)>"\'&'


def test_text_is_escaped_and_html_is_not():
    assert tag('p', 'a<b', Html('<br>'), None, ['c', 1]) == '<p>a&lt;b<br>c1</p>'
    assert tag('a', href='"x"') == '<a href="&quot;x&quot;"></a>' and tag('p', 'caf\udce9') == '<p>caf\\udce9</p>'
    assert as_html(iter([NASTY, Html('<b>')])).count('<') == 1 and as_html(None) == ''


def test_attributes():
    assert tag('input', class_='a', data_value=0.123456, hidden=True, title=None, open=False) == \
        '<input class="a" data-value="0.1235" hidden></input>'
    assert tag('img', alt='x') == '<img alt="x">' and tag('br') == '<br>'


def test_an_html_text_shows_itself():
    piece = tag('p', 'x')
    assert piece._repr_html_() == '<p>x</p>' and 'characters of HTML' in repr(piece)


def test_a_table_of_our_pages():
    text = table(['name', Field('n')], [['a', 1234], [NASTY, None]], 'words', ['all', 2.5], sortable=True)
    assert '<td class="n" data-value="1234">1,234</td>' in text and '–' in text and '<img' not in text
    assert '<caption><span>words</span></caption>' in text and '<tfoot>' in text and 'class="sort"' in text
    assert text.count('scope="row"') == 3 and text.count('scope="col"') == 2 and 'data-column' not in text


def test_a_wide_table_names_its_columns_in_each_cell():
    text = table([f'c{n}' for n in range(7)], [range(7)])
    assert 'class="many"' in text and 'data-column="c6"' in text


def test_a_table_for_notebooks_needs_no_style_sheet():
    text = bare_table(['class', Field('IoU')], [['cat', Field('1.0', 1.0)]], [NASTY, 'second'], ['mean', 1.0])
    assert 'class=' not in text and 'data-' not in text and text.count('text-align:right') == 3
    assert text.count('border-top:1px solid') == 2 and '<br>second' in text and '<img' not in text
    assert '<p' not in bare_table(['a'], [])


@pytest.mark.parametrize('seconds, text', [(None, '–'), (0.04, '0.0 s'), (59.96, '60.0 s'), (100, '1 min 40 s'), (3599.7, '1 h 00 min'), (3660, '1 h 01 min')])
def test_durations(seconds, text): assert duration(seconds) == text


def test_numbers_and_bars():
    assert number(-0.5) == '−0.5' and number(12345) == '12,345' and plain('a$b') == r'a\$b'
    assert 'width:100.0%' in bar(3, 'x') and 'width:0.0%' in bar(-1, 'x')


def test_pictures_travel_in_the_page():
    array = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    kind, _, content = image_uri(array).partition(',')
    assert kind == 'data:image/jpeg;base64' and Image.open(io.BytesIO(base64.b64decode(content))).size == (40, 30)
    assert fitted(array, 80).size == (80, 60) and fitted(Image.new('L', (1, 500)), 10).size == (1, 10)
    assert 'width="40" height="30"' in img(array, NASTY) and 'onerror=alert(1)&gt;' in img(array, NASTY)
