import os
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault('MPLBACKEND', 'agg')
OPEN, BROWSERS = [], ExitStack()      # the browser of this process, while tests need it


def pytest_configure(config):
    config.addinivalue_line('markers', 'browser: drives a real JupyterLab in Chromium')
    config.addinivalue_line('markers', 'slow: takes more than a few seconds')
    config.addinivalue_line('markers', 'gpu: needs a CUDA device')


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    "Browser tests first, then slow ones: no process is left with a long file at the end."
    items.sort(key=lambda o: (o.get_closest_marker('browser') is None, o.get_closest_marker('slow') is None))
    gpu = [o for o in items if o.get_closest_marker('gpu')]
    if gpu:
        import torch
        if not torch.cuda.is_available():
            for o in gpu: o.add_marker(pytest.mark.skip(reason='needs a CUDA device'))


def pytest_xdist_make_scheduler(config, log):
    "With `--dist loadfile` a file goes to one process as a whole, and all files `*_browser.py` to one, which mostly waits."
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition('::')[0]
            return 'browser' if file.endswith('_browser.py') else file

    return ByFile(config, log) if config.getvalue('dist') == 'loadfile' else None


@pytest.fixture(scope='session')
def root() -> Path: return ROOT


@pytest.fixture(scope='session')
def shared() -> Path:
    "The folder with golden outputs and real photographs that lies beside a development checkout: $WOOD_SHARED or ../shared."
    folder = Path(os.environ.get('WOOD_SHARED') or ROOT.parent/'shared')
    if not folder.is_dir(): pytest.skip('no folder with golden outputs and real photographs ($WOOD_SHARED, or ../shared)')
    return folder


@pytest.fixture(scope='session')
def golden(shared) -> Path: return shared/'golden'


@pytest.fixture(scope='session')
def warm():
    "Python processes forked from one that has loaded the libraries: `warm.python` in place of sys.executable (tests/warm.py)."
    from warm import Warm
    with Warm() as warm: yield warm


@pytest.fixture(scope='session')
def lab_server(tmp_path_factory, request):
    "A JupyterLab on a copy of the notebooks, for all browser tests."
    import jlab
    import nbtools
    jlab.need_browser()
    with jlab.Server(nbtools.stage(tmp_path_factory.mktemp('lab')), request.getfixturevalue('warm')) as server: yield server


@pytest.fixture(scope='module')
def browser():
    "The one browser of this process."
    import jlab
    jlab.need_browser()
    if not OPEN: OPEN.append(BROWSERS.enter_context(jlab.Browser()))
    return OPEN[0]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    "The browser ends with the last test in a row that needs it: other tests fork."
    if OPEN and not (nextitem and nextitem.get_closest_marker('browser')):
        OPEN.clear()
        BROWSERS.close()


@pytest.fixture(scope='module')
def lab(lab_server, browser):
    "That JupyterLab in the browser, for the tests of a file; widget_lab.Corner makes a folder in it."
    import jlab
    with jlab.Lab(lab_server, browser) as lab: yield lab


@pytest.fixture
def tmp(tmp_path, monkeypatch) -> Path:
    "An empty folder that is also the current one."
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope='module')
def one_thread():
    "One thread for torch: sums come out the same every time. Asked for with `pytest.mark.usefixtures`."
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def quickest():
    """Processor seconds of the quickest of several calls. The collector of garbage waits meanwhile: it walks through everything
    that the tests before have left in this process, which can take longer than what is measured."""
    import gc
    import time

    def seconds(work, times: int = 3) -> float:
        spent = []
        for _ in range(times):
            start = time.process_time()
            work()
            spent.append(time.process_time() - start)
        return min(spent)

    gc.collect()
    gc.disable()
    yield seconds
    gc.enable()
