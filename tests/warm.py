"""Python processes that start in a moment: each is forked from one that has loaded the large libraries already.

`with Warm() as warm: subprocess.run([*warm.python, 'script.py', ...])` runs what `[sys.executable, 'script.py', ...]` would (also
`-c CODE` and `-m MODULE`), in the same folder and environment, and ends as that would; `warm.kernels(folder)` makes JupyterLab start its
kernels so. What a library reads when it is loaded is that of the first process; only the modules of LOADED are
shared, the checkout itself is imported by each process for itself. $WOOD_WARM names an address that is open already.

Three processes work together. The *door* has the libraries, and forks at each call. Its child, the *keeper*, forks the program, waits for
its end and tells the caller; if the caller is killed, the keeper kills the program. The caller is this file as a script, without
any library: it hands over its words, folder, environment and output, passes signals on, and ends as the program did."""
import json
import os
import signal
import socket
import sys

LOADED = ('torch', 'torchvision', 'torch.utils.data', 'sklearn.cluster', 'matplotlib.figure', 'matplotlib.backends.backend_agg', 'accelerate', 'safetensors.torch',
          'scipy.ndimage', 'tqdm.auto', 'ipykernel.kernelapp', 'ipykernel.ipkernel', 'ipykernel.zmqshell', 'ipywidgets', 'anywidget')
OPENED = 180       # seconds that loading may take
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# -- the caller -------------------------------------------------------------------------------------------------------

def call(address: str, words: list[str]):
    "Has the program run, and ends as it does."
    import time
    end = time.monotonic() + OPENED
    while not os.path.exists(address) and time.monotonic() < end: time.sleep(.05)
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(address)
        socket.send_fds(door, [b'.'], [0, 1, 2])
        door.sendall(json.dumps([words, os.getcwd(), dict(os.environ)]).encode() + b'\n')
        answers = door.makefile()
        program = int(answers.readline())
        for number in PASSED_ON: signal.signal(number, lambda number, _: os.kill(program, number))
        status = int(answers.readline() or -signal.SIGKILL)
    if status >= 0: os._exit(status)
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)


# -- the door ---------------------------------------------------------------------------------------------------------

def open_door(address: str, modules: list[str]):
    "Loads the modules and forks a process for each caller, until standard input ends."
    import importlib
    import selectors
    del sys.path[0]     # this folder
    for name in modules:
        try: importlib.import_module(name)
        except ImportError: pass        # of an extra that is not installed: who needs it will say so
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)       # keepers need no burial
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as ready:
        door.bind(f'{address}.part')
        door.listen(64)
        os.rename(f'{address}.part', address)
        for o in (door, sys.stdin): ready.register(o, selectors.EVENT_READ)
        while not any(key.fileobj is sys.stdin for key, _ in ready.select()):
            caller, _ = door.accept()
            if not os.fork(): return keep(caller)
            caller.close()


def keep(caller: socket.socket):
    "Forks the program that is asked for; only the program returns from here."
    import select
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, *_ = socket.recv_fds(caller, 1, 3)
    words, folder, environment = json.loads(caller.makefile().readline())
    if not (program := os.fork()):
        os.setsid()
        caller.close()
        for n, file in enumerate(files): os.dup2(file, n); os.close(file)
        os.chdir(folder)
        os.environ.clear(); os.environ.update(environment)
        return run(words)
    for file in files: os.close(file)
    caller.sendall(f'{program}\n'.encode())
    ended = os.pidfd_open(program)
    if ended not in select.select([caller, ended], [], [])[0]:       # the caller is gone
        try: os.killpg(program, signal.SIGKILL)
        except ProcessLookupError: os.kill(program, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    try: caller.sendall(f'{status}\n'.encode())
    except OSError: pass
    os._exit(0)


def run(words: list[str]):
    "As `python WORDS` would."
    import runpy
    import types
    sys.path[:0] = [o for o in os.environ.get('PYTHONPATH', '').split(os.pathsep) if o and o not in sys.path]
    if backend := os.environ.get('MPLBACKEND'): sys.modules['matplotlib'].rcParams['backend'] = backend     # they were loaded in another
    if threads := os.environ.get('OMP_NUM_THREADS'): sys.modules['torch'].set_num_threads(int(threads))     # environment
    if encoding := os.environ.get('PYTHONIOENCODING'):
        for stream, errors in ((sys.stdout, 'strict'), (sys.stderr, 'backslashreplace')): stream.reconfigure(encoding=encoding, errors=errors)
    first, *rest = words
    if first == '-m':
        sys.argv, sys.path[:0] = rest, [os.getcwd()]
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    elif first == '-c':
        sys.argv, sys.path[:0] = ['-c', *rest[1:]], ['']
        sys.modules['__main__'] = types.ModuleType('__main__')
        exec(compile(rest[0], '<string>', 'exec'), vars(sys.modules['__main__']))
    else:
        sys.argv, sys.path[:0] = words, [os.path.dirname(os.path.abspath(first))]
        runpy.run_path(first, run_name='__main__')


# -- for tests --------------------------------------------------------------------------------------------------------

class Warm:
    "The door as a process: `python` stands for sys.executable."

    def __enter__(self):
        import subprocess
        import tempfile
        self.folder = tempfile.TemporaryDirectory(prefix='wood-warm-')
        known = os.environ.get('WOOD_WARM')
        self.process, self.address = None, known or f'{self.folder.name}/door'
        can = hasattr(os, 'pidfd_open')      # Linux; elsewhere Python starts as ever
        self.python = [sys.executable, '-I', '-S', os.path.abspath(__file__), self.address] if can else [sys.executable]
        if can and not known:
            self.process = subprocess.Popen([sys.executable, __file__, '--door', self.address, *LOADED], stdin=subprocess.PIPE)
        return self

    def kernels(self, folder) -> str:
        "A folder for $JUPYTER_PATH, in which the kernel `python3` is one of these processes."
        (folder/'kernels'/'python3').mkdir(parents=True)
        spec = dict(argv=[*self.python, '-m', 'ipykernel_launcher', '-f', '{connection_file}'], display_name='Python 3 (ipykernel)',
                    language='python', env=dict(MPLBACKEND='module://matplotlib_inline.backend_inline'))
        (folder/'kernels'/'python3'/'kernel.json').write_text(json.dumps(spec))
        return str(folder)

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()      # not by closing its input alone: a process forked meanwhile may hold the other end
            self.process.wait()
            self.process.stdin.close()
        self.folder.cleanup()


if __name__ == '__main__':
    if sys.argv[1] == '--door': open_door(sys.argv[2], sys.argv[3:])
    else: call(sys.argv[1], sys.argv[2:])
