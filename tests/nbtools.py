"""What the tests and .ci/check.py need to know about notebooks: reading them, their flags, and a copy to run elsewhere."""
import json
import os
import re
import shutil
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = re.compile(r'^\s*#\s*\|\s*(.+?)\s*$', re.M)
WIDGETS = re.compile(r'^\s*(?:from|import)\s+wood_nb\.widgets\b', re.M)


def settings(root=ROOT) -> dict:
    parser = ConfigParser(delimiters=['='])
    parser.read(root/'settings.ini', encoding='utf-8')
    return parser['DEFAULT']


def notebooks(root=ROOT) -> list[Path]:
    "The lessons, in order; as nbdev does, without files and folders whose names begin with `_` or `.`."
    files = (o for o in (root/'nbs').rglob('*.ipynb') if not any(p[0] in '_.' for p in o.relative_to(root).parts))
    return sorted(files)


def read(path) -> dict: return json.loads(Path(path).read_text(encoding='utf-8'))
def source(cell) -> str: return ''.join(cell['source'])
def code_cells(nb) -> list[dict]: return [c for c in nb['cells'] if c['cell_type'] == 'code']


def directives(cell) -> list[str]:
    "The `#|` lines at the top of a code cell, as in `export` or `echo: false`."
    if cell['cell_type'] != 'code': return []
    found = []
    for line in source(cell).splitlines():
        m = DIRECTIVE.match(line)
        if m: found.append(m[1])
        elif line.strip(): break
    return found


def is_skipped(cell, root=ROOT) -> bool:
    "Whether `nbdev_test` leaves this cell out: flagged in settings.ini (slow, gpu, data, ...), or never evaluated."
    flags = set(settings(root).get('tst_flags', '').split())
    return any(d.split(':')[0] in flags or re.fullmatch(r'eval:\s*false', d, re.I) for d in directives(cell))


def uses_widgets(path) -> bool:
    "Whether a notebook imports anything of wood_nb.widgets."
    return any(WIDGETS.search(source(c)) for c in code_cells(read(path)))


def shares_run(path) -> bool:
    "Whether a notebook uses the tiny run, which is built once for all of them."
    return any('tiny_run' in source(c) for c in code_cells(read(path)))


def is_guide(nb) -> bool:
    "Whether a notebook exports nothing: it shows how something is used that is plain Python elsewhere."
    return not any(d.split()[0] in ('export', 'exports', 'exporti') for c in code_cells(nb) for d in directives(c))


def stage(folder, root=ROOT) -> Path:
    """A copy of the project's notebooks in `folder`, to be run by a real kernel without touching the checkout: cells that
    `nbdev_test` skips are left out, and the exporting cell at the end exports within the copy."""
    folder = Path(folder)
    for part in ('nbs', 'wood_nb', 'docs'):
        if (root/part).exists():
            shutil.copytree(root/part, folder/part, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '_notebooks'))
    shutil.copy(root/'settings.ini', folder)
    for path in notebooks(folder):
        nb = read(path)
        nb['cells'] = [c for c in nb['cells'] if not is_skipped(c, root)]
        path.write_text(json.dumps(nb), encoding='utf-8')
    return folder


def compile_once():
    """Starts again so that all processes of a check share compiled modules, in the environment's folder `pycache`. Without it each of
    them would compile PyTorch for itself where the environment says PYTHONDONTWRITEBYTECODE: half of all processor time."""
    if sys.pycache_prefix: return
    os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
    os.environ['PYTHONPYCACHEPREFIX'] = str(Path(sys.prefix)/'pycache')
    os.execv(sys.executable, [sys.executable, *sys.argv])
