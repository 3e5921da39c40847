"""All that `make test` checks, in order, a line each; the last line counts. Run from a checkout, in its environment.

    make test                              everything
    make test ARGS="--only lessons"        one step or several of: install export clean book readme lint tiny lessons pytest
    make test ARGS="--only lessons -k 03"      only the lessons whose names contain 03 (pytest gets -k too)

Steps run side by side, the long lessons first; what needs the tiny run waits until it is built, and pytest begins when the last
lesson has begun, so that no core idles.

Nothing is written into the checkout: what exports or cleans does so in a copy that is then compared."""
import argparse
import functools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT/'tests')]
import book  # noqa: E402
import nbtools  # noqa: E402
import readme  # noqa: E402
import warm  # noqa: E402

STEPS = 'install export clean book readme lint tiny lessons pytest'.split()
GOAL = dict(tiny=90, notebook=20)      # seconds on two idle cores: beyond it the line says so, and does not fail
CORES = os.cpu_count() or 1
WARM = multiprocessing.get_context('forkserver')
running: set = set()     # processes to end when the check is interrupted


class Tally:
    "Counts, and prints a line for each thing that was checked."
    def __init__(self): self.passed = self.failed = self.skipped = 0; self.lock, self.bad = threading.Lock(), []

    def add(self, name: str, ok: bool | None, seconds: float, detail: str = '', note: str = ''):
        word = {True: 'ok', False: 'FAIL', None: 'skip'}[ok]
        with self.lock:
            if ok: self.passed += 1
            elif ok is None: self.skipped += 1
            else: self.failed += 1; self.bad.append(name)
            print(f'  {word:4} {name:<58} {seconds:6.1f} s{"  " + note if note else ""}', flush=True)
            if detail and ok is not True: print('\n'.join('       ' + o for o in detail.strip().splitlines()[-60:]), flush=True)


def run(*command, cwd=ROOT, timeout=600, env=None, show=False) -> tuple[int, str]:
    "A command in a process group of its own, ended as a whole when it takes too long; its exit code and what it said."
    pipe = None if show else subprocess.PIPE
    p = subprocess.Popen([str(o) for o in command], cwd=cwd, stdout=pipe, stderr=subprocess.STDOUT if pipe else None, text=True,
                         encoding='utf-8', errors='replace', env=os.environ | (env or {}), start_new_session=True)
    running.add(p)
    try: text, code = p.communicate(timeout=timeout)[0] or '', p.returncode
    except subprocess.TimeoutExpired:
        end(p)
        text, code = (p.communicate()[0] or '') + f'\nended: it took more than {timeout} s', 1
    finally: running.discard(p)
    return code, text


def end(p):
    try: os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError: pass


def tool(name: str) -> Path: return Path(sys.executable).with_name(name)
def python(*args) -> tuple: return (sys.executable, *args)


# -- the checks: each returns (ok, detail, note) ---------------------------------------------------------------------

def check_install(tally, a):
    t = time.time()
    code, text = run(*python('-m', 'pip', 'check'))
    tally.add('pip check: the installed packages agree', code == 0, time.time() - t, text)
    t = time.time()
    code, text = run(*python('-c', 'import wood_nb; print(wood_nb.__file__)'), cwd=HERE)
    here = code == 0 and Path(text.strip()).resolve().is_relative_to(ROOT)
    tally.add('wood_nb is installed from this checkout', here, time.time() - t, text)


def files(folder: Path, suffixes: tuple) -> dict[str, bytes]:
    return {str(o.relative_to(folder)): o.read_bytes() for o in sorted(folder.rglob('*')) if o.suffix in suffixes and o.is_file() and o.name != '_modidx.py'}


def changed(before: dict, after: dict) -> list[str]: return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def unchanged(tally, name: str, command: str, part: str, suffixes: tuple, advice: str, prepare=None):
    "Runs an nbdev command in a copy of the project and compares."
    t = time.time()
    with tempfile.TemporaryDirectory(prefix='wood-check-') as folder:
        copy = Path(folder)/'project'
        ignore = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '_notebooks')
        for o in ('nbs', 'wood_nb'): shutil.copytree(ROOT/o, copy/o, ignore=ignore)
        for o in ('settings.ini', 'setup.py'): shutil.copy(ROOT/o, copy)
        before = files(copy/part, suffixes)
        if prepare: prepare(copy)
        code, text = run(tool(command), cwd=copy)
        wrong = changed(before, files(copy/part, suffixes))
    detail = text if code else '\n'.join([*(f'{part}/{o}' for o in wrong), advice])
    tally.add(name, code == 0 and not wrong, time.time() - t, detail)


def forget_exports(copy: Path):
    "So that a module whose notebook has gone, or that was written by hand beside one, is noticed."
    for o in (copy/'wood_nb').rglob('*.py'):
        if 'AUTOGENERATED' in o.read_text(encoding='utf-8')[:400]: o.unlink()


def check_export(tally, a):
    unchanged(tally, 'nbdev_export changes nothing', 'nbdev_export', 'wood_nb', ('.py',), 'run: nbdev_export', forget_exports)


def check_clean(tally, a):
    unchanged(tally, 'nbdev_clean changes nothing', 'nbdev_clean', 'nbs', ('.ipynb',), 'run: nbdev_clean')


def check_readme(tally, a):
    t = time.time()
    if not (ROOT/'nbs'/'index.ipynb').exists(): found = ['nbs/index.ipynb is not there']
    else: found = readme.differences()
    tally.add('README.md is in step with nbs/index.ipynb', not found, time.time() - t, '\n'.join([*found, 'run: make readme']))


def check_book(tally, a):
    t = time.time()
    code, text = run(*python(HERE/'book.py', '--check'))
    tally.add(f'links and contents of {len(book.lessons())} lessons are in step', code == 0, time.time() - t, text)


def check_lint(tally, a):
    "ruff and mypy, with the settings in .ruff.toml and .mypy.ini; their caches stay out of the checkout."
    for name, command in (('ruff finds nothing', ('ruff', 'check', '--no-cache', 'wood_nb', 'tests', '.ci', 'setup.py')),
                          ('mypy finds nothing', ('mypy', '--cache-dir', os.devnull))):
        t = time.time()
        code, text = run(*python('-m', *command))
        tally.add(name, code == 0, time.time() - t, text)


def check_tiny(tally, a):
    t = time.time()
    code, text = run(tool('wood'), 'tiny', timeout=900)
    s = time.time() - t
    tally.add('the tiny run that all notebooks share is built', code == 0, s, text, late(s, GOAL['tiny']))


def late(seconds: float, goal: float) -> str: return f'(over its {goal} s)' if seconds > goal else ''


def chosen(a) -> list[Path]: return [o for o in nbtools.notebooks() if not a.k or a.k in o.relative_to(ROOT/'nbs').as_posix()]


def threads(jobs: int) -> dict[str, str]: return dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), str(max(1, CORES // jobs)))


def in_child(path: str, log: str):
    "nbdev_test of one notebook, in a process that has the large libraries already; what it says goes into `log`."
    os.setsid()
    with open(log, 'wb') as file: os.dup2(file.fileno(), 1); os.dup2(file.fileno(), 2)
    import execnb.shell
    from nbdev.test import nbdev_test
    execnb.shell.set_matplotlib_formats = None      # else each figure, which shows itself, would be drawn again at twice its size
    nbdev_test(path=path, n_workers=0)


def run_child(path: Path, timeout: float = 600) -> tuple[int, str]:
    "A notebook in a process forked from a server that has imported the libraries: each by itself, without loading PyTorch again."
    with tempfile.TemporaryDirectory(prefix='wood-notebook-') as folder:
        log = Path(folder)/'log'
        p = WARM.Process(target=in_child, args=(str(path), str(log)))
        p.start()
        running.add(p)
        p.join(timeout)
        slow = p.is_alive()
        end(p)
        p.join()
        running.discard(p)
        text = log.read_text(encoding='utf-8', errors='replace') if log.exists() else ''
    return (1, f'{text}\nended: it took more than {timeout} s') if slow else (p.exitcode, text)


def test_lesson(tally, path: Path, ready: threading.Event):
    if nbtools.shares_run(path): ready.wait()
    t = time.time()
    code, text = run_child(path)
    s = time.time() - t
    tally.add(f'lesson {path.relative_to(ROOT/"nbs")}', code == 0, s, text, late(s, GOAL['notebook']))


def lessons(tally, a, jobs: int, ready: threading.Event) -> list:
    "A call for each lesson: first those that need no tiny run, and of each kind first those with widgets, which take longest."
    if not chosen(a): tally.add('lessons: there are none to run', a.k and None, 0)
    os.environ |= threads(jobs)   # read when the server starts
    WARM.set_forkserver_preload(['torch', 'torchvision', 'sklearn.cluster', 'matplotlib.pyplot', 'accelerate', 'torch._dynamo', 'nbdev.test', 'wood_nb.cli.parser'])
    order = sorted(chosen(a), key=lambda o: (nbtools.shares_run(o), not nbtools.uses_widgets(o)))
    return [functools.partial(test_lesson, tally, o, ready) for o in order]


def run_steps(tally, a):
    "All steps, `jobs` at a time; lessons that share the tiny run wait for it, and pytest comes last."
    jobs, ready, calls = a.jobs, threading.Event(), []

    def built():
        try: check_tiny(tally, a)
        finally: ready.set()

    if 'tiny' in a.only: calls.append(built)
    else: ready.set()
    calls += [functools.partial(globals()[f'check_{o}'], tally, a) for o in STEPS if o in a.only and o not in ('tiny', 'lessons', 'pytest')]
    if 'lessons' in a.only: calls += lessons(tally, a, jobs, ready)
    if 'pytest' in a.only: calls.append(functools.partial(check_pytest, tally, a))
    pool = ThreadPoolExecutor(jobs)
    try:
        for o in [pool.submit(o) for o in calls]: o.result()
    finally: pool.shutdown(wait=False, cancel_futures=True)


def counts(xml: Path) -> tuple[int, int, int]:
    "Passed, failed and skipped of a pytest run; nothing to read counts as one failure."
    if not xml.exists(): return 0, 1, 0
    suites = list(ET.parse(xml).getroot().iter('testsuite'))
    n, bad, skipped = (sum(int(o.get(k, 0)) for o in suites for k in ks) for ks in (['tests'], ['failures', 'errors'], ['skipped']))
    return n - bad - skipped, bad, skipped


def check_pytest(tally, a):
    "All tests; one process more, for that of the browser tests mostly waits (tests/conftest.py gives them to one)."
    t = time.time()
    os.environ |= threads(a.jobs)
    with tempfile.TemporaryDirectory(prefix='wood-pytest-') as folder, warm.Warm() as door:
        xml = Path(folder)/'pytest.xml'
        extra = ['-n', str(a.jobs + 1), '--dist', 'loadfile', '--no-loadscope-reorder', *(['-k', a.k] if a.k else [])]
        code, _ = run(*python('-m', 'pytest', 'tests', '-q', '-rs', '--durations=10', '--durations-min=3', f'--junitxml={xml}', *extra), timeout=1500, env={'WOOD_WARM': door.address}, show=True)
        passed, failed, skipped = counts(xml)
    if code not in (0, 5) and not failed: failed = 1
    tally.passed += passed; tally.failed += failed; tally.skipped += skipped
    if failed: tally.bad.append('pytest')
    print(f'  {"FAIL" if failed else "ok":4} {f"pytest: {passed} passed, {failed} failed, {skipped} skipped":<58} {time.time() - t:6.1f} s', flush=True)


def duration(seconds: float) -> str: return f'{int(seconds)//60} min {int(seconds)%60} s'


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--only', nargs='+', choices=STEPS, default=STEPS, metavar='STEP')
    ap.add_argument('-k', default='', metavar='PART', help='only lessons and tests whose names contain this')
    ap.add_argument('--jobs', type=int, default=CORES, help='lessons and test files at a time')
    a = ap.parse_args()
    os.environ.pop('IN_TEST', None)     # nbdev_export would do nothing
    os.environ.setdefault('WOOD_FIGURE_DPI', '60')      # figures are drawn and then forgotten
    tally, started = Tally(), time.time()
    if a.only == STEPS: print('Testing wood_nb: install, exports, links, README, types, every lesson, every test. 18 to 25 minutes on 2 cores.', flush=True)
    try: run_steps(tally, a)
    except KeyboardInterrupt:
        for p in list(running): end(p)
        print('\ninterrupted')
        tally.failed += 1; tally.bad.append('interrupted')
    if tally.bad: print('Failed: ' + '; '.join(tally.bad))
    print(f'Took {duration(time.time() - started)}.')
    print(f'{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped')
    return tally.failed > 0


if __name__ == '__main__':
    nbtools.compile_once()
    sys.exit(main())
