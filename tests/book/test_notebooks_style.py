"""The notebooks are the product: they open well, stay small, show things, and hold nothing of the machine they ran on."""
import ast
import json
import re
import statistics

import nbtools
import pytest
from nbtools import code_cells, directives, read, source

NOTEBOOKS = nbtools.notebooks()
LESSONS = [o for o in NOTEBOOKS if o.stem != 'index']
MACHINE = re.compile(r'(?<![\w.])(/(?:home|root|Users|work|mnt|media|opt|tmp|private|srv|content|workspace)/[\w.-]+|[A-Z]:\\\\?Users)|(?:file|https?)://(?:127\.0\.0\.1|localhost)')
each = lambda paths: pytest.mark.parametrize('path', paths, ids=lambda o: o.stem)  # noqa: E731


def lines(cell) -> int: return len(source(cell).strip().splitlines())
def is_import(line: str) -> bool: return bool(re.match(r'(from \S+ import |import |if TYPE_CHECKING:)', line))


def is_one_class(cell) -> bool:
    "Whether a cell holds one class and nothing else: a class stays whole."
    text = '\n'.join(o for o in source(cell).splitlines() if not o.startswith(('%', '!')))
    body = ast.parse(text).body
    return len(body) == 1 and isinstance(body[0], ast.ClassDef)



def where(i, cell) -> str: return f'cell {i}: {source(cell).strip().splitlines()[0][:70] if source(cell).strip() else "(empty)"}'


def outputs(nb):
    for i, c in enumerate(nb['cells']):
        for o in c.get('outputs', []): yield i, c, o


def pictures(nb) -> int: return sum(any(k.startswith('image/') for k in o.get('data', {})) for _, _, o in outputs(nb))


@each(NOTEBOOKS)
def test_opening_and_closing(path):
    nb = read(path)
    first = source(nb['cells'][0]).strip().splitlines()
    assert nb['cells'][0]['cell_type'] == 'markdown' and first[0].startswith('# '), 'the first cell is the title'
    assert all(o.startswith('> ') or not o for o in first[1:]) and len(first) > 1, 'title and > subtitle only: nbdev loses anything else'
    assert nb['metadata'].get('kernelspec', {}).get('name') == 'python3', 'the kernel is python3, which every machine has'
    if nbtools.is_guide(nb): return
    assert any(d.startswith('default_exp') for c in nb['cells'][:3] for d in directives(c)), 'default_exp near the top'
    last = nb['cells'][-1]
    assert 'hide' in directives(last) and 'nbdev_export()' in source(last), 'the last cell exports, hidden'


@each(NOTEBOOKS)
def test_cells_are_short(path):
    nb = read(path)
    code = [c for c in code_cells(nb) if source(c).strip()]
    long = [where(i, c) for i, c in enumerate(nb['cells']) if c['cell_type'] == 'code' and lines(c) > (60 if is_one_class(c) else 40)]
    assert not long, f'over 40 lines, or 60 of a whole class: {long}'
    assert statistics.median(map(lines, code)) <= 11, 'the median code cell is too long'
    assert 4*(len(nb['cells']) - len(code_cells(nb))) >= len(code), 'fewer than one text cell to four code cells'
    assert not [where(i, c) for i, c in enumerate(nb['cells']) if not source(c).strip()], 'an empty cell'


@each(LESSONS)
def test_imports_have_cells_of_their_own(path):
    for i, c in enumerate(read(path)['cells']):
        if 'export' not in directives(c): continue
        body = [o for o in source(c).splitlines() if o.strip() and not o.lstrip().startswith('#') and not o[0].isspace() and o[0] not in ')']
        if any(map(is_import, body)): assert all(map(is_import, body)), f'imports and other code share {where(i, c)}'


@each(NOTEBOOKS)
def test_outputs_are_small_and_sound(path):
    nb = read(path)
    most = 400_000 if path.stem == 'index' else 300_000     # the README's figure is 1,200 pixels wide
    for i, c, o in outputs(nb):
        assert o['output_type'] != 'error', f'{where(i, c)} shows an error: {o.get("ename")}'
        assert len(json.dumps(o)) < most, f'{where(i, c)} has an output of {len(json.dumps(o))//1000} kB ({most//1000} at most)'
        text = ''.join(o.get('text', ''))
        noise = re.search(r'Traceback \(most recent call last\)|\.py:\d+: \w*Warning', text)
        assert not noise, f'{where(i, c)} shows: {text[:200]}'
    assert path.stat().st_size < 2_500_000, f'{path.stat().st_size/1e6:.1f} MB in all (2.5 at most)'


@each(NOTEBOOKS)
def test_pictures_are_shown(path): assert pictures(read(path)) >= 1, 'a lesson shows pictures: run it and keep its outputs'


@each(NOTEBOOKS)
def test_no_machine_paths(path):
    nb = read(path)
    for i, c in enumerate(nb['cells']):
        m = MACHINE.search(source(c))
        assert not m, f'{where(i, c)} names {m[0]}'
    for i, c, o in outputs(nb):
        data = [v for k, v in o.get('data', {}).items() if k.startswith('text/')] + [o.get('text', '')]
        for text in map(''.join, data):
            m = MACHINE.search(re.sub(r'base64,[A-Za-z0-9+/=]+', '', text))
            assert not m, f'the output of {where(i, c)} names {m[0]}'
