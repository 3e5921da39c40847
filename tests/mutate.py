"""A mutation pass: small faults are put into the core modules, one at a time, and the tests of their room should notice.

`python tests/mutate.py [--count 60] [--seed 0] [--rooms maps,ood,...]`: says which faults live. It works on a copy, takes
some minutes for every fault, and is no part of `make test`."""
import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ('maps', 'ood', 'masks', 'scores', 'train', 'nets')
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
            ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
REACHED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Add}
SILENT = (ast.Raise, ast.JoinedStr, ast.AnnAssign)  # messages and options are not what is tried


def other(node: ast.AST) -> ast.AST | None:
    "The node with a fault in it; None where there is none to make."
    new = copy.deepcopy(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED: new.ops[0] = COMPARED[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp) and type(node.op) in REACHED: new.op = REACHED[type(node.op)]()
    elif isinstance(node, ast.BoolOp): new.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not): return new.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool): new.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)): new.value = node.value + 1
    else: return None
    return new


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    "(parent, field, place in it, node) of all that can get a fault, within functions."
    def below(node: ast.AST, inside: bool) -> Iterator:
        for field, value in ast.iter_fields(node):
            for n, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if not isinstance(child, ast.AST) or isinstance(child, SILENT) or field in ('annotation', 'returns', 'decorator_list'): continue
                if isinstance(child, ast.FunctionDef) and 'Picture' in ast.unparse(child.returns or ast.Constant(None)): continue  # only looks
                if inside and other(child) is not None: yield node, field, n, child
                yield from below(child, inside or isinstance(child, ast.FunctionDef))
    yield from below(tree, False)


def faults(rooms: list[str], count: int, seed: int) -> Iterator[tuple[Path, int]]:
    "Files and numbers of places in them, drawn at random, as many in each room."
    rng = random.Random(seed)
    for n in range(count):
        files = [file for file in sorted((ROOT/'wood_nb'/rooms[n % len(rooms)]).glob('*.py')) if file.name != '__init__.py']
        sizes = [len(list(places(ast.parse(file.read_text())))) for file in files]
        file = rng.choices(files, sizes)[0]
        yield file.relative_to(ROOT), rng.randrange(sizes[files.index(file)])


def faulty(source: str, place: int) -> tuple[str, str]:
    "The module with one fault, and what was done where."
    tree = ast.parse(source)
    parent, field, n, node = list(places(tree))[place]
    new = other(node)
    told = f'line {node.lineno}: {ast.unparse(node)}  ->  {ast.unparse(new)}'
    if n is None: setattr(parent, field, new)
    else: getattr(parent, field)[n] = new
    return ast.unparse(ast.fix_missing_locations(tree)), told


def tried(work: Path, room: str, seconds: int) -> bool:
    "Whether the tests of a room notice (a training that never ends is noticed, too)."
    words = [sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', '-m', 'not slow and not browser and not gpu', f'tests/{room}']
    env = {**os.environ, 'PYTHONPATH': str(work), 'PYTHONDONTWRITEBYTECODE': '1', 'OMP_NUM_THREADS': '1'}
    try: return subprocess.run(words, cwd=work, env=env, capture_output=True, timeout=seconds, preexec_fn=lambda: os.nice(19)).returncode != 0
    except subprocess.TimeoutExpired: return True


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument('--count', type=int, default=60)
    asked.add_argument('--seed', type=int, default=0)
    asked.add_argument('--rooms', default=','.join(ROOMS))
    asked.add_argument('--seconds', type=int, default=900, help='the longest that the tests of a room may take')
    args = asked.parse_args()
    lived, done = [], 0
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for name in ('wood_nb', 'tests'): shutil.copytree(ROOT/name, work/name)
        for file in ROOT.iterdir():
            if file.is_file(): shutil.copy(file, work)
        for room in args.rooms.split(','):
            if tried(work, room, args.seconds): sys.exit(f'the tests of {room} fail, or take more than {args.seconds} s, without any fault')
        for file, number in faults(args.rooms.split(','), args.count, args.seed):
            source = (ROOT/file).read_text()
            text, told = faulty(source, number)
            (work/file).write_text(text)
            killed = tried(work, file.parts[1], args.seconds)
            (work/file).write_text(source)
            done += 1
            if not killed: lived.append(f'{file}, {told}')
            print(f'{done:3} {"killed" if killed else "LIVES "} {file}, {told}', flush=True)
    print(f'{len(lived)} of {done} live', *lived, sep='\n  ')


if __name__ == '__main__': main()
