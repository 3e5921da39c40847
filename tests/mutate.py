"""A mutation pass: small faults are put into the core modules, one at a time, and the tests of their room should notice.

`python tests/mutate.py [--count 60] [--seed 0] [--rooms maps,ood,...]`: says which faults live. It works on a copy; the tests of
each room run once, to note which functions each test calls, and a fault meets only the tests that call the function it is in (some
20 seconds). What lives meets all tests of its room before it is called alive. It is no part of `make test`."""
import argparse
import ast
import copy
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

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


@cache
def size(file: Path) -> int:
    "How many faults a module can get."
    return len(list(places(ast.parse(file.read_text()))))


def faults(rooms: list[str], count: int, seed: int) -> Iterator[tuple[Path, int]]:
    "Files and numbers of places in them, drawn at random, as many in each room."
    rng = random.Random(seed)
    for n in range(count):
        files = [file for file in sorted((ROOT/'wood_nb'/rooms[n % len(rooms)]).glob('*.py')) if file.name != '__init__.py']
        file = rng.choices(files, list(map(size, files)))[0]
        yield file.relative_to(ROOT), rng.randrange(size(file))


def faulty(source: str, place: int) -> tuple[str, str]:
    "The module with one fault, and what was done where."
    tree = ast.parse(source)
    parent, field, n, node = list(places(tree))[place]
    new = other(node)
    told = f'line {node.lineno}: {ast.unparse(node)}  ->  {ast.unparse(new)}'
    if n is None: setattr(parent, field, new)
    else: getattr(parent, field)[n] = new
    return ast.unparse(ast.fix_missing_locations(tree)), told


class Noted:
    "A plugin of pytest ($MUTATE_NOTES names its file): which functions of the library each test calls, and how long it takes."

    def __init__(self, file: Path):
        self.file, self.where, self.calls, self.seconds, self.failed = file, '', {}, {}, []
        self.library = str(Path.cwd()/'wood_nb') + os.sep

    def called(self, frame, *_) -> None:
        code = frame.f_code
        if code.co_filename.startswith(self.library): self.calls.setdefault(self.where, set()).add((code.co_filename[len(self.library):], code.co_firstlineno))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.where, began = item.nodeid, time.monotonic()
        threading.settrace(self.called)
        sys.settrace(self.called)
        try: return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self.seconds[item.nodeid] = time.monotonic() - began

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        before, shared = self.where, fixturedef.scope != 'function'
        if shared: self.where = before.partition('::')[0]  # what a shared fixture calls, all tests of the file depend on
        try: return (yield)
        finally: self.where = before

    def pytest_runtest_logreport(self, report):
        if report.failed: self.failed.append(report.nodeid)

    def pytest_sessionfinish(self):
        calls = {where: sorted(called) for where, called in self.calls.items()}
        self.file.write_text(json.dumps({'calls': calls, 'seconds': self.seconds, 'failed': self.failed}))


def pytest_configure(config) -> None:
    if 'MUTATE_NOTES' in os.environ: config.pluginmanager.register(Noted(Path(os.environ['MUTATE_NOTES'])))


FORKS = multiprocessing.get_context('forkserver')  # what takes long to import is imported once
FORKS.set_forkserver_preload(['torch', 'torchvision', 'accelerate', 'matplotlib.pyplot', 'sklearn.decomposition', 'pytest'])


def in_a_copy(work: Path, words: list[str], env: dict[str, str]) -> None:
    "Run pytest, in a process of its own, on the copy in `work`; what it prints goes into `told.txt`."
    os.chdir(work)
    os.environ.update(env)
    tempfile.tempdir = None
    sys.path[:0] = [str(work), str(work/'tests')]
    sys.dont_write_bytecode = True
    told = os.open(work/'told.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2): os.dup2(told, stream)
    sys.exit(int(pytest.main(words)))


def tried(work: Path, tests: list[str], seconds: float, notes: Path | None = None) -> bool:
    "Whether these tests notice (a training that never ends is noticed, too)."
    words = ['-q', '-p', 'no:cacheprovider', '-m', 'not slow and not long and not browser and not gpu', *tests]
    env = {'PYTHONPATH': str(work), 'TMPDIR': str(work)}
    if notes: words, env = [*words, '-p', 'mutate'], {**env, 'MUTATE_NOTES': str(notes)}
    else: words.append('-x')
    process = FORKS.Process(target=in_a_copy, args=(work, words, env))
    process.start()
    process.join(seconds)
    if process.exitcode is None: process.kill()
    process.join()
    return process.exitcode != 0


def meets(noted: dict, file: Path, source: str, place: int) -> list[str]:
    "The tests that call the function in which the fault is, the quickest first."
    tree = ast.parse(source)
    line = list(places(tree))[place][3].lineno
    holds = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.lineno <= line <= node.end_lineno][-1]
    first = min([holds.lineno, *(mark.lineno for mark in holds.decorator_list)])
    name = str(file.relative_to('wood_nb'))
    called = {where for where, calls in noted['calls'].items() if any(at == name and first <= n <= holds.end_lineno for at, n in calls)}
    tests = [test for test in noted['seconds'] if (test in called or test.partition('::')[0] in called) and test not in noted['failed']]
    return sorted(tests, key=noted['seconds'].get)


def killed(work: Path, tests: list[str], room: dict, name: str, most: int) -> bool:
    "Whether a fault that lies in the copy is noticed: by the tests that meet it, else by any test of the room."
    if tests and tried(work, tests, min(most, 60 + 5 * sum(map(room['seconds'].get, tests)))): return True
    return tried(work, [f'tests/{name}', *(f'--deselect={test}' for test in room['failed'])], most)


def prepared(work: Path, rooms: list[str], most: int) -> dict[str, dict]:
    "The copy, and what the tests of each room call there; they must pass."
    for name in ('wood_nb', 'tests'): shutil.copytree(ROOT/name, work/name)
    for file in ROOT.iterdir():
        if file.is_file() and file.name != '.git': shutil.copy(file, work)
    if (ROOT.parent/'shared').is_dir(): os.environ.setdefault('WOOD_SHARED', str(ROOT.parent/'shared'))
    noted = {}
    for room in rooms:
        (work/'notes.json').unlink(missing_ok=True)
        tried(work, [f'tests/{room}'], most, work/'notes.json')
        if not (work/'notes.json').is_file(): sys.exit(f'the tests of {room} end otherwise, or take more than {most} s:\n{(work/"told.txt").read_text()[-3000:]}')
        noted[room] = json.loads((work/'notes.json').read_text())
        print(f'    {room}: {len(noted[room]["seconds"])} tests, {sum(noted[room]["seconds"].values()):.0f} s; '
              f'left out, as they fail while calls are noted: {noted[room]["failed"] or "none"}', flush=True)
    return noted


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument('--count', type=int, default=60)
    asked.add_argument('--seed', type=int, default=0)
    asked.add_argument('--rooms', default=','.join(ROOMS))
    asked.add_argument('--only', default='', help='numbers of faults, as 3,17: only these')
    asked.add_argument('--seconds', type=int, default=900, help='the longest that the tests of a room may take')
    args = asked.parse_args()
    lived, done, rooms = [], 0, args.rooms.split(',')
    os.environ.update(PYTHONDONTWRITEBYTECODE='1', OMP_NUM_THREADS='1', MPLBACKEND='agg')
    only = [int(n) for n in args.only.split(',') if n]
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as place:
        work = Path(place)
        drawn = [(n, *fault) for n, fault in enumerate(faults(rooms, args.count, args.seed), 1) if not only or n in only]
        noted = prepared(work, [room for room in rooms if any(file.parts[1] == room for _, file, _ in drawn)], args.seconds)
        for n, file, number in drawn:
            source, room = (work/file).read_text(), noted[file.parts[1]]
            text, told = faulty(source, number)
            (work/file).write_text(text)
            tests = meets(room, file, source, number)
            dead = killed(work, tests, room, file.parts[1], args.seconds)
            (work/file).write_text(source)
            done += 1
            if not dead: lived.append(f'{n:3} {file}, {told}')
            print(f'{n:3} {"killed" if dead else "LIVES "} {file}, {told}', flush=True)
    print(f'{len(lived)} of {done} live', *lived, sep='\n  ')


if __name__ == '__main__': main()
