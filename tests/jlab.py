"""A real JupyterLab in Chromium, for tests: `with Server(folder) as server, Lab(server) as lab, lab.open('nbs/t.ipynb') as page: page.run_all()`.

Server and browser are processes that all files of tests share; the browser ends with the last test that needs it, because others
fork. The server has its own port, token, and folders for configuration, data, settings and workspaces, so nothing of the
person who runs the tests is read or written. Needs playwright (extra `dev`) and a Chromium or Chrome on the machine; playwright's
own browsers are not used."""
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, ExitStack
from pathlib import Path

import pytest
from nbtools import ROOT
from warm import Warm

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome')
STARTED = 180       # seconds a server may take to answer


def browser_path() -> str | None: return os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, BROWSERS)), None)


def need_browser():
    "Skips, saying what is missing."
    pytest.importorskip('playwright', reason='playwright is not installed (extra dev)')
    pytest.importorskip('jupyterlab', reason='jupyterlab is not installed (extra lab)')
    if not browser_path(): pytest.skip('no Chromium on this machine (Debian: apt install chromium; or name one in $CHROMIUM)')


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Page:
    "One notebook in the browser: `p` is playwright's page, `problems` what the console reported."
    WIDGET = 'window.jupyterapp.shell.currentWidget'

    def __init__(self, p, timeout: float):
        self.p, self.timeout, self.problems = p, timeout, []
        p.set_default_timeout(timeout*1000)
        p.on('console', lambda m: self.note(m.text, (m.location or {}).get('url', '')) if m.type == 'error' else None)
        p.on('pageerror', lambda e: self.note(str(e), 'page'))

    def note(self, text: str, url: str):
        if not is_benign(text, url): self.problems.append(f'{text} ({url})')

    def goto(self, url: str):
        self.url = url
        self.p.goto(url)
        self.p.wait_for_function(f'window.jupyterapp && {self.WIDGET} && {self.WIDGET}.sessionContext')
        self.p.evaluate(f'async () => {{ await {self.WIDGET}.context.ready; await {self.WIDGET}.sessionContext.ready; }}')

    def command(self, name: str):
        "A JupyterLab command by its name, awaited."
        return self.p.evaluate(f"() => window.jupyterapp.commands.execute('{name}').then(() => null)")

    def run_all(self):
        "Runs every cell and waits for the last; stops at the first error, as JupyterLab does."
        self.command('notebook:run-all-cells')
        self.p.wait_for_function(f"{self.WIDGET}.sessionContext.session?.kernel?.status === 'idle'")

    def cells(self) -> list[dict]:
        "The cells with their outputs, from the model (off-screen cells are not in the page)."
        return self.p.evaluate(f'() => {self.WIDGET}.content.model.toJSON()')['cells']

    def save(self): self.command('docmanager:save')
    def end_kernel(self): self.p.evaluate(f'() => {self.WIDGET}.sessionContext.shutdown()')

    def come_back(self):
        "As a person the next day: the page is loaded again, and a new kernel runs it."
        self.end_kernel()
        self.goto(self.url)

    def errors(self) -> list[str]:
        "Cells that failed, never ran, or wrote a traceback."
        found = []
        for i, c in enumerate(self.cells()):
            if c['cell_type'] != 'code': continue
            head = f'cell {i} ({"".join(c["source"]).strip().splitlines()[0][:60] if c["source"] else ""})'
            for o in c['outputs']:
                if o['output_type'] == 'error': found.append(f'{head}: {o["ename"]}: {o["evalue"]}')
                elif 'Traceback (most recent' in ''.join(o.get('text', '')): found.append(f'{head}: {"".join(o["text"])[-500:]}')
            if not c['execution_count'] and ''.join(c['source']).strip(): found.append(f'{head}: did not run')
        return found


def is_benign(text: str, url: str) -> bool: return False
def is_root() -> bool: return hasattr(os, 'geteuid') and os.geteuid() == 0


class Server:
    "A private JupyterLab on `folder`; with `warm`, its kernels are forked from a process that has loaded the libraries."
    NAME = 'JupyterLab'

    def __init__(self, folder, warm: Warm | None = None): self.folder, self.warm = Path(folder).resolve(), warm

    def __enter__(self):
        self.home, self.port, self.token = Path(tempfile.mkdtemp(prefix='wood-lab-')), free_port(), secrets.token_hex(16)
        self.write_settings()
        self.log = open(self.home/'server.log', 'w')
        self.process = subprocess.Popen([sys.executable, *self.command()], cwd=self.folder, env=self.environment(), stdout=self.log,
                                        stderr=subprocess.STDOUT)
        try: self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def command(self) -> list[str]:
        return ['-m', 'jupyterlab', '--no-browser', '--ip=127.0.0.1', f'--port={self.port}', '--ServerApp.port_retries=0',
                f'--IdentityProvider.token={self.token}', f'--ServerApp.root_dir={self.folder}', '--LabApp.expose_app_in_browser=True',
                *(['--allow-root'] if is_root() else [])]

    def status(self) -> str:
        "What answers as soon as the server is up."
        return f'api/status?token={self.token}'

    def environment(self) -> dict:
        own = {f'JUPYTER_{k}_DIR': str(self.home/k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')}
        own |= dict(JUPYTERLAB_WORKSPACES_DIR=str(self.home/'workspaces'), JUPYTERLAB_SETTINGS_DIR=str(self.home/'settings'),
                    IPYTHONDIR=str(self.home/'ipython'), JUPYTER_CONFIG_PATH=str(ROOT/'.ci'/'jupyter'),
                    PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))))      # kernels import this checkout
        if self.warm: own['JUPYTER_PATH'] = self.warm.kernels(self.home/'warm')
        inherited = {k: v for k, v in os.environ.items() if k not in ('MPLBACKEND', 'IN_TEST')}
        return inherited | own

    def write_settings(self):
        "No question about news, which would cover a corner of the page."
        folder = self.home/'settings'/'@jupyterlab'/'apputils-extension'
        folder.mkdir(parents=True)
        (folder/'notification.jupyterlab-settings').write_text(json.dumps(dict(fetchNews='false', checkForUpdates=False)))

    def wait(self):
        end = time.time() + STARTED
        while time.time() < end:
            if self.process.poll() is not None: raise RuntimeError(f'{self.NAME} ended: {self.said()}')
            try: return urllib.request.urlopen(f'http://127.0.0.1:{self.port}/{self.status()}', timeout=2).close()
            except OSError: time.sleep(.2)
        raise TimeoutError(f'{self.NAME} did not answer within {STARTED} s: {self.said()}')

    def said(self) -> str: return (self.home/'server.log').read_text()[-3000:]

    def __exit__(self, *_):
        self.process.terminate()
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill(); self.process.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)


class Browser:
    "A headless Chromium; there can be one in a process."

    def __enter__(self):
        from playwright.sync_api import sync_playwright
        self.playwright = sync_playwright().start()
        args = ['--disable-gpu', '--disable-gpu-rasterization', *(['--no-sandbox'] if is_root() else [])]
        try: self.browser = self.playwright.chromium.launch(executable_path=browser_path(), headless=True, args=args)
        except BaseException:
            self.playwright.stop()
            raise
        return self.browser

    def __exit__(self, *_):
        self.browser.close()
        self.playwright.stop()


class Lab:
    "A server in a browser (by default one of its own), which keeps what it has loaded."
    def __init__(self, server: Server, browser=None):
        self.server, self.folder, self.browser, self.own = server, server.folder, browser, ExitStack()

    def __enter__(self):
        if not self.browser: self.browser = self.own.enter_context(Browser())
        shared = self.browser.contexts      # a context has loaded JupyterLab's own pages once
        self.context = shared[0] if shared else self.browser.new_context(viewport=dict(width=1280, height=900))
        return self

    @contextmanager
    def open(self, notebook: str, timeout: float = 120):
        "A notebook of the folder in a page of its own; its kernel ends with it."
        page = Page(self.context.new_page(), timeout)
        try:
            page.goto(f'http://127.0.0.1:{self.server.port}/lab/tree/{notebook}?reset&token={self.server.token}')
            yield page
            page.end_kernel()
        finally: page.p.close()

    def __exit__(self, *_): self.own.close()
