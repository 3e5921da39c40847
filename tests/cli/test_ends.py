"""How the command ends: on request, without memory, with a reader process killed, on any console."""
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.base.jobs import do_all
from wood_nb.base.memory import at_work
from wood_nb.base.stop import Stopped
from wood_nb.cli import parser
from wood_nb.cli.errors import diagnosis, REMEDIES
from wood_nb.data.images import image_size, read_image, read_mask
from wood_nb.data.splits import Item, Split
from wood_nb.runs.config import STAGE_TEXTS
from wood_nb.runs.tiny import tiny_run
from wood_nb.train.predict import predict_all
from wood_nb.train.safe import TrainingStopped


def failing(error: BaseException, stage: str | None = None) -> BaseException:
    "The error as it arrives, from a stage or from none."
    try:
        if stage is None: raise error
        with at_work(stage): raise error
    except BaseException as found: return found


# --- the last line ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_last_line_says_how_to_go_on(number, code, monkeypatch, capsys):
    for error, words in [(TrainingStopped('stopped after step 5 of 8; run again to go on', number), 'stopped after step 5 of 8'),
                         (failing(Stopped(number), 'maps'), 'in maps')]:
        def fail(args, error=error): raise error
        monkeypatch.setattr(parser, 'stage_command', fail)
        assert parser.main(['maps', 'a run', '--again']) == code
        err = capsys.readouterr().err.strip()
        assert words in err and err.endswith(": wood maps 'a run'") and len(err.splitlines()) == 1


def test_a_signal_ends_a_command(monkeypatch):
    monkeypatch.setattr(parser, 'tiny_command', lambda args: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert parser.main(['tiny']) == 143 and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize('stage', STAGE_TEXTS)
def test_memory_says_what_helps_in_this_stage(stage):
    line, code = diagnosis(failing(RuntimeError('could not create a primitive'), stage), 'wood x', 'run')
    assert code == 2 and line.startswith('out of memory') and (stage not in REMEDIES or f'in {stage}; {REMEDIES[stage]}' in line)
    flags = {word.strip(',') for word in REMEDIES.get(stage, '').split() if word.startswith('--')}
    run = {flag for action in parser.build_parser()._subparsers._group_actions[0].choices['run']._actions for flag in action.option_strings}
    assert flags <= run, 'what the line names exists'


@pytest.mark.parametrize('command', ['refine', 'segment', 'package', 'sweep'])
def test_remedies_of_commands_are_options_of_theirs(command):
    flags = {word.strip('(),') for word in REMEDIES[command].split() if word.strip('(').startswith('--')}
    own = {flag for action in parser.build_parser()._subparsers._group_actions[0].choices[command]._actions for flag in action.option_strings}
    assert flags and flags <= own


def test_other_shortages_say_other_things():
    assert 'of the GPU in maps' in diagnosis(failing(RuntimeError('CUDA out of memory. Tried to'), 'maps'))[0]
    assert 'OMP_NUM_THREADS' in diagnosis(RuntimeError("can't start new thread"))[0]
    assert '--shm-size' in diagnosis(RuntimeError('unable to mmap 9 bytes from file </torch_1>: Cannot allocate memory'))[0]


# --- memory is no broken picture ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('error', [MemoryError(), RuntimeError("can't start new thread"), OSError(12, 'Cannot allocate memory')])
def test_a_picture_for_which_there_is_no_memory_is_not_broken(error, tmp_path, monkeypatch):
    file = tmp_path/'a.png'
    Image.new('L', (9, 9)).save(file)

    def fail(*args, **options): raise error
    monkeypatch.setattr(Image, 'open', fail)
    for read in (read_image, image_size, lambda path: read_mask(path, 2)):
        with pytest.raises(type(error)) as found: read(file)
        assert not isinstance(found.value, DataError)


def test_mining_skips_no_picture_for_want_of_memory(tmp_path, monkeypatch):
    Image.new('RGB', (40, 40)).save(tmp_path/'a.png')
    split, skipped = Split('pool', [Item('a', tmp_path/'a.png')], ('x',)), []

    def fail(*args, **options): raise MemoryError()
    net = tiny_run().net('classifier')
    monkeypatch.setattr(Image.Image, 'convert', fail)
    with pytest.raises(MemoryError): predict_all(net, split, skipped=skipped, title=None)
    assert skipped == []


# --- processes and consoles ------------------------------------------------------------------------------------------------------

def a_csv_run(folder: Path, name: str = 'train') -> list[str]:
    "Words of a command that trains three steps on one picture."
    for split in ('train', 'val'):
        Image.new('RGB', (40, 40), 'red').save(folder/f'{split}.jpg')
        with open(folder/f'{split}.csv', 'w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows([('image', 'labels'), (f'{split}.jpg', 'a')])
    return ['run', '--data', f'csv:{folder}', '--backbone', 'tiny', '--weights', 'none', '--set', 'classifier.freeze_stages=0', '--set',
            'classifier.steps=3', '--out', f'{folder}/run']


KILLED = '''
import os, signal, sys, torch.utils.data as D, wood_nb.train.batches as b
get = b.AugmentedImages.__getitem__
def die(self, place):
    if D.get_worker_info(): os.kill(os.getpid(), signal.{sign})
    return get(self, place)
b.AugmentedImages.__getitem__ = die
from wood_nb.cli.parser import main
sys.exit(main(sys.argv[1:]))'''


@pytest.mark.slow
@pytest.mark.parametrize('sign', ['SIGBUS'])
def test_a_reader_process_that_is_killed_is_one_line(sign, tmp_path):
    words = [*a_csv_run(tmp_path), '--workers', '1', '--upto', 'classifier']
    done = subprocess.run([sys.executable, '-c', KILLED.format(sign=sign), *words], capture_output=True, text=True, timeout=300)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and '--workers 0' in last and '/dev/shm' in last and last.startswith('wood: '), done.stderr[-2000:]
    assert 'fault of wood_nb' not in done.stderr


@pytest.mark.parametrize('encoding', ['cp1252', 'ascii', 'cp437'])
def test_any_console_will_do(encoding, tmp_path):
    strange = '鳥 \x1b[31m−→\u202e.csv'
    done = subprocess.run([sys.executable, '-m', 'wood_nb.cli', 'run', '--data', f'csv:{tmp_path}/{strange}', '--out', f'{tmp_path}/{strange}'],
                          env={**os.environ, 'PYTHONIOENCODING': encoding, 'PYTHONUTF8': '0'}, capture_output=True, timeout=300)
    assert done.returncode == 2 and b'Traceback' not in done.stderr and b'\x1b' not in done.stdout + done.stderr
    assert b'wood: ' in done.stderr and rb'\x1b' in done.stderr and rb'\u202e' in done.stderr
    shown = subprocess.run([sys.executable, '-m', 'wood_nb.cli', 'run', '--help'], env={**os.environ, 'PYTHONIOENCODING': encoding, 'PYTHONUTF8': '0'},
                           capture_output=True, timeout=300)
    assert shown.returncode == 0 and not shown.stderr


POOLED = '''
import os, sys, time
from pathlib import Path
from wood_nb.base.jobs import do_all
from wood_nb.base.stop import listening, Stopped

def work(folder):
    (Path(folder)/f'{os.getpid()}.begun').touch()
    try: time.sleep(60)
    except Stopped:
        (Path(folder)/f'{os.getpid()}.ended').touch()
        raise

if __name__ == '__main__':
    with listening(): do_all(work, [sys.argv[1]]*5, 2)
'''


@pytest.mark.slow
def test_processes_of_a_pool_end_too(tmp_path):
    (tmp_path/'pooled.py').write_text(POOLED)
    with subprocess.Popen([sys.executable, tmp_path/'pooled.py', tmp_path], stderr=subprocess.PIPE) as work:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob('*.begun'))) < 2 and time.monotonic() < until: time.sleep(0.1)
        work.send_signal(signal.SIGTERM)
        work.communicate(timeout=30)
    assert len(list(tmp_path.glob('*.ended'))) == 2 and len(list(tmp_path.glob('*.begun'))) == 2, 'no further task was begun'


def test_do_all_raises_the_first_failure():
    with pytest.raises(ZeroDivisionError): do_all(lambda n: 1//n, [1, 0])
