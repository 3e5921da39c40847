"""Requests to end, memory that runs out, and characters that nobody sees."""
import errno
import os
import signal
import threading
import zipfile

import numpy as np
import pytest

from wood_nb.base import stop
from wood_nb.base.files import DataError, read_npz
from wood_nb.base.html import as_html
from wood_nb.base.memory import at_work, GPU, MEMORY, place_of, ran_out, SHARED, THREADS
from wood_nb.base.pictures import show_images
from wood_nb.base.stop import listening, patient, requested, Stopped
from wood_nb.base.text import visible

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number): os.kill(os.getpid(), number)


# --- signals ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('number', SIGNALS)
def test_work_that_trains_nothing_ends_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match='stopped by') as found, listening():
        send(number)
        pytest.fail('went on')
    assert found.value.number == number and signal.getsignal(number) is before


@pytest.mark.parametrize('number', SIGNALS)
def test_a_training_is_asked_and_ends_when_it_likes(number):
    steps = []
    with pytest.raises(Stopped) as found, patient():
        send(number)
        send(number)  # whoever sends one may send more
        steps += ['went on', requested()]
    assert steps == ['went on', number] and found.value.number == number and requested() == 0


def test_a_second_ctrl_c_does_not_wait(monkeypatch):
    steps, now = [], [100.0]
    monkeypatch.setattr(stop.time, 'monotonic', lambda: now[0])
    with pytest.raises(Stopped), patient():
        send(signal.SIGINT)
        steps.append('went on')
        now[0] += 1
        send(signal.SIGINT)
        steps.append('and on')
    assert steps == ['went on'] and requested() == 0


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with listening(): send(signal.SIGHUP)
    finally: signal.signal(signal.SIGHUP, before)


def test_threads_have_no_signals_and_need_none():
    found = []

    def work():
        with listening(), patient(): found.append('done')
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ['done']


# --- memory -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('error, what', [
    (MemoryError(), MEMORY), (MemoryError('std::bad_alloc'), MEMORY), (RuntimeError('could not create a primitive'), MEMORY),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), MEMORY),
    (OSError(errno.ENOMEM, 'Cannot allocate memory'), MEMORY), (RuntimeError("can't start new thread"), THREADS),
    (OSError(errno.EAGAIN, 'Resource temporarily unavailable'), THREADS), (RuntimeError('CUDA out of memory. Tried to allocate'), GPU),
    (RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling'), GPU), (RuntimeError('unable to mmap 98 bytes from file'), SHARED),
    (DataError('out of memory.jpg: not a readable image'), None), (RuntimeError('shapes differ'), None), (OSError(errno.ENOENT, 'bad_alloc'), None)])
def test_what_ran_out(error, what): assert ran_out(error) == what


def test_an_error_knows_its_stage():
    with pytest.raises(MemoryError) as found, at_work('maps'): raise MemoryError()
    assert place_of(found.value) == 'maps' and place_of(MemoryError()) is None


def test_memory_is_no_broken_archive(tmp_path, monkeypatch):
    def fail(*args, **options): raise MemoryError('no room')
    np.savez(tmp_path/'a.npz', x=np.ones(3))
    monkeypatch.setattr(zipfile.ZipFile, 'open', fail)
    with pytest.raises(MemoryError): read_npz(tmp_path/'a.npz')


# --- text -------------------------------------------------------------------------------------------------------------------

HOSTILE = 'a\x1b[31mred\x07\u202egpj.exe\x9b\u2066\udcffz\ufeff'


def test_nothing_unseen_is_left():
    text = visible(HOSTILE)
    assert text == r'a\x1b[31mred\x07\u202egpj.exe\x9b\u2066\udcffz\ufeff' and text.isprintable() and text.isascii()
    assert visible('two lines\n\tand “quotes”, Ä, 日本, 🐈') == 'two lines\n\tand “quotes”, Ä, 日本, 🐈'
    assert as_html(HOSTILE).isprintable()


@pytest.mark.parametrize('title', ['$', 'a$b$c', r'$\frac{', 'cost: 5$ and $\\alpha', '$_$'])
def test_a_dollar_in_a_title_is_a_dollar(title):
    picture = show_images([np.zeros((8, 8), np.uint8)], [title])
    assert picture.png().startswith(b'\x89PNG') and picture.axes[0].get_title() == title
    assert not picture.axes[0].title.get_parse_math()


def test_numbers_of_a_logarithmic_axis_stay_formulas():
    picture = show_images([np.zeros((8, 8), np.uint8)])
    axis = picture.axes[0]
    axis.axis('on')
    axis.set_yscale('log')
    picture.png()
    assert any(label.get_parse_math() and label.get_text() for label in axis.yaxis.get_ticklabels()) and not axis.title.get_parse_math()
