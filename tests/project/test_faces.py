"""The face of each package: a few names, imported when they are asked for, and `import wood_nb` costs next to nothing."""
import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from wood_nb.base.lazy import attach

LIBRARY = Path(__file__).resolve().parents[2]/'wood_nb'
PACKAGES = ['wood_nb', *(f'wood_nb.{o.parent.name}' for o in sorted(LIBRARY.glob('*/__init__.py')))]
WIDGETS = ('wood_nb.widgets',)  # need the extra `lab`


def seen_by_editors(package: str) -> dict[str, tuple[str, ...]]:
    "What stands below `if TYPE_CHECKING:`, as module -> names."
    tree = ast.parse(Path(import_module(package).__file__).read_text(encoding='utf-8'))
    block, = (o for o in tree.body if isinstance(o, ast.If))
    return {o.module: tuple(a.name for a in o.names) for o in block.body}


def attached(package: str) -> dict[str, tuple[str, ...]]:
    "What `attach` is told."
    tree = ast.parse(Path(import_module(package).__file__).read_text(encoding='utf-8'))
    call, = (o for o in ast.walk(tree) if isinstance(o, ast.Call))
    return ast.literal_eval(call.args[1])


@pytest.mark.parametrize('package', PACKAGES)
def test_a_face_shows_a_few_names_and_all_are_there(package):
    if package in WIDGETS: pytest.importorskip('anywidget')
    face = import_module(package)
    assert len(face.__all__) <= 14 and face.__all__ == sorted(face.__all__) == dir(face)
    for name in face.__all__: assert getattr(face, name) is not None and not name.startswith('_')


@pytest.mark.parametrize('package', PACKAGES)
def test_editors_and_python_see_the_same_face(package): assert seen_by_editors(package) == attached(package)


@pytest.mark.parametrize('package', PACKAGES)
def test_no_name_of_a_face_is_that_of_a_module(package):
    "`from wood_nb.runs import sweep` would be the function or the module, depending on what was imported before."
    folder = Path(import_module(package).__file__).parent
    modules = {o.stem for o in folder.glob('*.py')} | {o.name for o in folder.iterdir() if o.is_dir()}
    assert not modules & set(import_module(package).__all__)


def test_what_a_face_does_not_have_is_said():
    with pytest.raises(ImportError): from wood_nb import nothing  # noqa: F401
    with pytest.raises(AttributeError, match="'wood_nb.data' has no attribute 'nothing'; it shows Augment"): import_module('wood_nb.data').nothing


def test_attach():
    get, names, public = attach('wood_nb.base', {'files': ['DataError']})
    assert names() == public == ['DataError'] and get('DataError').__module__ == 'wood_nb.base.files'


QUICK = """
import sys, time
start = time.process_time()
import wood_nb
spent = time.process_time() - start
assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules), 'import wood_nb is to load nothing'
print(spent)
"""


def test_importing_the_package_is_quick():
    said = subprocess.run([sys.executable, '-c', QUICK], capture_output=True, text=True, check=True).stdout
    assert float(said) < 0.1
