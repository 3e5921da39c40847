"""Names of methods stand in the registry and nowhere else: who means one writes `WOOD`, or `followed_by(WOOD, IRN)`."""
import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from wood_nb.maps.methods import METHODS

LIBRARY = Path(__file__).resolve().parents[2]/'wood_nb'
REGISTRY = 'maps.methods'

# text that happens to read like a method: module -> text -> what it is there
OTHERWISE = {
    'cli.commands': {'wood': 'the name of the command', 'truth': 'a value of the option prune'},
    'cli.parser': {'wood': 'the name of the command'},
    'maps.reference': {'cam': 'a field of the files of the reference code'},
    'masks.crf': {'psa': 'a set of parameters of the CRF', 'ssdd': 'a set of parameters of the CRF'},
    'masks.dsrg': {'psa': 'a set of parameters of the CRF'},
    'masks.names': {'psa': 'a set of parameters of the CRF', 'ssdd': 'a set of parameters of the CRF'},
    'masks.psa': {'psa': 'a set of parameters of the CRF'},
    'nets.timm_nets': {'head': 'a part of networks of timm', 'classifier': 'a part of networks of timm'},
    'ood.config': {'wood': 'the beginning of its flags, as in --wood-lr'},
    'report.page': {'wood': 'a class of the style sheet', 'head': 'the head of a page'},
    'runs.bench': {'head': 'what is timed', 'classifier': 'a part of a network', 'psa': 'parameters of the CRF'},
    'report.result': {'truth': 'a value of the option prune'},
    'runs.config': {'classifier': 'a field and its stage', 'wood': 'a field and its stage', 'head': 'a field and its stage', 'truth': 'a value of the option prune'},
    'runs.plan': {'wood': 'the name of the command and of a stage'},
    'runs.pipeline': {'truth': 'a value of the option prune', 'head': 'a value of the option --wood'},
    'widgets.bench.alone': {'head': 'a part of the page'},
    'widgets.inspector': {'truth': 'a field of what the widget shows'},
    'widgets.table': {'head': 'the head of a table'},
}
EVERYWHERE = {'crf': 'a field of rows, notes and configurations: the CRF that was used, if any'}

MODULES = [o for o in sorted(LIBRARY.rglob('*.py')) if o.name not in ('__init__.py', '_modidx.py')]
def module(path: Path) -> str: return '.'.join(path.relative_to(LIBRARY).with_suffix('').parts)


def is_method(text: str) -> bool:
    "Whether text is a method, methods joined by +, or the beginning or end of such a name."
    words = text.split('+')
    return any(words) and all(o in METHODS or not o for o in words)


def silent(tree: ast.AST) -> Iterator[ast.AST]:
    "Docstrings, and the names that a module exports."
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr): yield node.value
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__': yield from ast.walk(node.value)


def literals(code: str) -> list[tuple[int, str]]:
    "Line and text of the strings that read like methods."
    tree = ast.parse(code)
    skipped = {id(o) for o in silent(tree)}
    texts = [o for o in ast.walk(tree) if isinstance(o, ast.Constant) and isinstance(o.value, str) and id(o) not in skipped]
    return [(o.lineno, o.value) for o in texts if is_method(o.value)]


@pytest.mark.parametrize('path', [o for o in MODULES if module(o) != REGISTRY], ids=module)
def test_method_names_stand_in_the_registry_only(path):
    known = {**EVERYWHERE, **OTHERWISE.get(module(path), {})}
    found = [f'line {line}: {text!r}' for line, text in literals(path.read_text(encoding='utf-8')) if text not in known]
    assert not found, f'{module(path)} spells methods itself: {", ".join(found)}; import them from wood_nb.{REGISTRY}'


def test_what_is_excused_is_there():
    for name, texts in OTHERWISE.items():
        code = (LIBRARY/f'{name.replace(".", "/")}.py').read_text(encoding='utf-8')
        assert set(texts) <= {text for _, text in literals(code)}, f'{name} needs no excuse any more'


def test_literals_are_found():
    code = '"wood is a docstring"\n__all__ = ["cam"]\ndef f(m): "cam"; return m == "wood", f"{m}+irn", "wood+irn", "woods", "irn+"\n'
    assert sorted(text for _, text in literals(code)) == ['+irn', 'irn+', 'wood', 'wood+irn']
