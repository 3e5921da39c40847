"""The house rules: who may import whom, what the core may need, what lies at the top, what a wheel carries."""
import ast
import functools
import os
import statistics
import subprocess
import sys
import zipfile

import nbtools
import pytest
from nbtools import ROOT

LIB = ROOT/'wood_nb'
FLOORS = [{'base'}, {'data'}, {'scenes', 'nets'}, {'train'}, {'maps', 'scores'}, {'ood'}, {'masks', 'report'}, {'runs'},
          {'widgets', 'cli'}]      # a room imports from floors below, and from its own room without a circle
BESIDE = {('scores', 'maps.methods')}      # the one look across a floor: tables name methods as the registry does
PLAIN = {'base', 'report', 'cli', 'widgets'}      # rooms of ordinary Python; the others are exported from lessons
HIDDEN = 'fastcore nbdev execnb ghapi IPython ipywidgets anywidget ipykernel jupyterlab notebook traitlets timm pandas'.split()
NEEDED = set('torch torchvision numpy scipy sklearn PIL matplotlib tqdm accelerate safetensors filelock'.split())
TOP = set('nbs wood_nb tests docs settings.ini setup.py README.md CHANGELOG.md CONTRIBUTING.md CITATION.cff Makefile LICENSE'.split())
MADE = ('__all__', '"""')      # lines that nbdev writes: the list of names, and the subtitle as docstring
PATHS = sorted(o for o in LIB.rglob('*.py') if o.name not in ('__init__.py', '_modidx.py', '__main__.py'))
CORE = [o for o in PATHS if 'widgets' not in o.relative_to(LIB).parts]


def name(path) -> str: return '.'.join(path.relative_to(ROOT).with_suffix('').parts)
def top(path) -> str: return path.relative_to(LIB).with_suffix('').parts[0]


def floor(module: str) -> int:
    found = [i for i, names in enumerate(FLOORS) if module in names]
    assert found, f'{module} has no floor yet: give it one in FLOORS'
    return found[0]


@functools.cache
def tree(path) -> ast.Module: return ast.parse(path.read_text(encoding='utf-8'), str(path))


@functools.cache
def imports(path) -> frozenset[str]:
    "Every module imported anywhere in a file, also within functions; relative imports made absolute."
    found, package = set(), name(path).split('.')
    for o in ast.walk(tree(path)):
        if isinstance(o, ast.Import): found |= {a.name for a in o.names}
        elif isinstance(o, ast.ImportFrom):
            base = '.'.join(package[:-o.level]) if o.level else ''
            module = '.'.join(filter(None, (base, o.module)))
            found |= {f'{module}.{a.name}' for a in o.names} if module == 'wood_nb' else {module}
    return frozenset(found)


def functions(path): return [o for o in ast.walk(tree(path)) if isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef))]
def length(f) -> int: return f.end_lineno - f.lineno + 1
each = lambda paths: pytest.mark.parametrize('path', paths, ids=name)  # noqa: E731


def module(path) -> str: return '.'.join(path.relative_to(LIB).with_suffix('').parts)
def ours(path) -> set[str]: return {o.removeprefix('wood_nb.') for o in imports(path) if o.startswith('wood_nb.')} - {'__version__'}
def room(name: str) -> str: return name.split('.')[0]


@each(PATHS)
def test_a_module_imports_only_from_floors_below(path):
    own = room(module(path))
    wrong = {o for o in ours(path) if room(o) != own and floor(room(o)) >= floor(own) and (own, o) not in BESIDE}
    assert not wrong, f'{name(path)} imports {sorted(wrong)}, which lie not below it: {FLOORS}'


def test_no_module_imports_itself_in_a_circle():
    graph, done = {module(o): ours(o) for o in PATHS}, {}
    def visit(one, way):
        assert one not in way, f'a circle of imports: {" -> ".join([*way[way.index(one):], one])}'
        if one in done: return
        for other in sorted(graph.get(one, ())): visit(other, [*way, one])
        done[one] = True
    for one in graph: visit(one, [])


@each(CORE)
def test_the_core_needs_the_declared_requirements_only(path):
    foreign = {o.split('.')[0] for o in imports(path)} - set(sys.stdlib_module_names) - NEEDED - {'wood_nb', '__future__'}
    optional = {'timm'} if module(path) == 'nets.timm_nets' else set()
    assert not foreign - optional, f'{name(path)} imports {sorted(foreign)}: put it in settings.ini with a reason, or do without'


def test_requirements_are_the_declared_ones():
    import re
    asked = {re.split(r'[<>=\[!~]', o)[0] for o in nbtools.settings()['requirements'].split()}
    assert asked == {'torch', 'torchvision', 'numpy', 'scipy', 'scikit-learn', 'pillow', 'matplotlib', 'tqdm', 'accelerate', 'safetensors',
                     'filelock'}


BARE = """
import importlib, sys
class Hide:
    "A finder that does not find the hidden modules, as if they were not installed."
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split('.')[0] in {hidden!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hide(o) for o in sys.meta_path]
for o in {modules!r}: importlib.import_module(o)
assert 'matplotlib.pyplot' not in sys.modules, 'a core module chooses the drawing backend when it is imported'
loaded = set(o.split('.')[0] for o in sys.modules)
assert not loaded & {hidden!r}, loaded & {hidden!r}
assert not [o for o in sys.modules if o.startswith('wood_nb.widgets')], 'a core module imports a widget'
"""


@pytest.mark.slow
def test_the_core_imports_on_a_bare_machine(tmp_path):
    "As on a GPU box: torch and the other requirements, but no notebook tool at all; and the drawing backend is left alone."
    script = BARE.format(hidden=set(HIDDEN), modules=[name(o) for o in CORE])
    env = {k: v for k, v in os.environ.items() if k != 'MPLBACKEND'}
    r = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert r.returncode == 0, r.stderr


@each(PATHS)
def test_exported_code_is_small_and_typed(path):
    fs, text = functions(path), path.read_text(encoding='utf-8').splitlines()
    public = [o for o in tree(path).body if isinstance(o, (ast.FunctionDef, ast.ClassDef)) and not o.name.startswith('_')]
    arguments = [(f, a) for f in public if isinstance(f, ast.FunctionDef) for a in (*f.args.args, *f.args.kwonlyargs)]
    wrong = [f'line {i} is longer than 140' for i, o in enumerate(text, 1) if len(o) > 140 and not o.startswith(MADE)]
    wrong += [f'{o.name} has {length(o)} lines (40 at most)' for o in fs if length(o) > 40]
    wrong += [f'public {o.name} has no docstring' for o in public if not ast.get_docstring(o)]
    wrong += [f'public {f.name}({a.arg}) has no type' for f, a in arguments if not a.annotation]
    if fs and statistics.median(map(length, fs)) > (21 if 'widgets' in path.relative_to(LIB).parts else 14): wrong.append('the median function is too long')
    assert not wrong, '\n'.join([name(path), *wrong])


@each(PATHS)
def test_no_pickle_and_no_star(path):
    t = tree(path)
    assert not {'pickle', 'dill', 'joblib', 'cloudpickle'} & {o.split('.')[0] for o in imports(path)}, 'pickles'
    assert not {'tqdm.auto', 'tqdm.notebook'} & imports(path), 'bars of widgets: errors when a saved notebook is opened again; import tqdm from tqdm'
    assert not [o for o in ast.walk(t) if isinstance(o, ast.ImportFrom) and any(a.name == '*' for a in o.names)], 'star import'
    for call in (o for o in ast.walk(t) if isinstance(o, ast.Call)):
        kw, f = {k.arg: ast.unparse(k.value) for k in call.keywords}, ast.unparse(call.func)
        assert kw.get('allow_pickle', 'False') == 'False', f'line {call.lineno}: allow_pickle'
        if f == 'torch.load': assert kw.get('weights_only') == 'True', f'line {call.lineno}: torch.load without weights_only=True'


def tracked() -> list[str]:
    r = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    if r.returncode or not r.stdout: pytest.skip('not a git checkout')
    return [o for o in r.stdout.split('\0') if o]


def test_the_top_level_is_the_agreed_one():
    extra = {o.split('/')[0] for o in tracked()} - TOP
    assert not {o for o in extra if not o.startswith('.')}, f'unexpected at the top level: {extra}'


def test_nothing_large_or_private_is_tracked():
    files = [o for o in tracked() if (ROOT/o).exists()]
    large = [o for o in files if (ROOT/o).stat().st_size > 2_500_000]
    assert not large, f'over 2.5 MB: {large}'
    odd = [o for o in files if '_notebooks/' in o or '.ipynb_checkpoints' in o or o.endswith(('.pyc', '.pkl', '.pt', '.pth', '.npy'))]
    assert not odd, f'does not belong into the repository: {odd}'


def test_one_version_everywhere():
    import wood_nb
    version = nbtools.settings()['version']
    assert wood_nb.__version__ == version
    assert f'\nversion: {version}\n' in (ROOT/'CITATION.cff').read_text()
    assert version in (ROOT/'CHANGELOG.md').read_text()


@pytest.mark.slow
def test_a_wheel_carries_the_notebooks(tmp_path):
    "Built from a copy, so that the checkout stays clean; then `wood notebooks` runs from the unpacked wheel alone."
    pytest.importorskip('setuptools')
    copy = nbtools.stage(tmp_path/'project')
    for o in ('setup.py', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CITATION.cff'): (copy/o).write_bytes((ROOT/o).read_bytes())
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', tmp_path, copy]
    r = subprocess.run(pip, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-3000:]
    wheel, = tmp_path.glob('*.whl')
    unpacked = tmp_path/'unpacked'
    zipfile.ZipFile(wheel).extractall(unpacked)
    def within(folder): return {str(o.relative_to(folder)) for o in folder.rglob('*.ipynb')}
    inside = within(unpacked/'wood_nb'/'_notebooks')
    assert inside == {str(o.relative_to(ROOT/'nbs')) for o in nbtools.notebooks()}
    assert (unpacked/'wood_nb'/'data'/'images.py').exists() and not (unpacked/'tests').exists()
    assert {'main.js', 'bench.css'} <= {o.name for o in (unpacked/'wood_nb'/'widgets'/'bench').iterdir()}
    script = f'import sys; sys.path.insert(0, {str(unpacked)!r}); import wood_nb.cli.parser as c; assert c.__file__.startswith(sys.path[0]); sys.exit(c.main())'
    r = subprocess.run([sys.executable, '-c', script, 'notebooks', 'lessons'], cwd=tmp_path, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-3000:]
    assert within(tmp_path/'lessons') == inside
