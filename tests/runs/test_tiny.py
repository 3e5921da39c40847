"""The mark by which the tiny run is found: of the code that shapes it, and kept, for it takes a second to make."""
import pytest

from wood_nb.runs import tiny


@pytest.fixture
def code(tmp_path, monkeypatch):
    "One module that shapes the run, in a kit of its own."
    file = tmp_path/'kit'/'base'/'a.py'
    file.parent.mkdir(parents=True)
    file.write_text('x = 1\n')
    monkeypatch.setattr(tiny, 'ROOMS', ('base',))
    monkeypatch.setattr(tiny, '__file__', str(tmp_path/'kit'/'runs'/'tiny.py'))
    monkeypatch.setenv('WOOD_CACHE', str(tmp_path/'cache'))
    return file


def test_it_follows_code_not_words(code):
    first = tiny._source_mark()
    code.write_text('"What it is."\nx = 1  # one\n')
    assert tiny._source_mark() == first
    code.write_text('x = 2\n')
    assert tiny._source_mark() not in (first, '')
    code.write_text('x = 1\n')
    assert tiny._source_mark() == first


def test_modules_that_were_read_are_not_read_again(code, monkeypatch):
    first, read = tiny._source_mark(), []
    monkeypatch.setattr(tiny, '_code', lambda file: read.append(file) or 'other')
    assert tiny._source_mark() == first and not read
    code.write_text('x = 3\n')
    assert tiny._source_mark() != first and read == [code]
