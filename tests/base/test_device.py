"""How a device computes: one rule, shown without a GPU by what torch is asked for; reading ahead; one process is all there is."""
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from wood_nb.base import device as devices
from wood_nb.base import ranks
from wood_nb.base.device import ahead, asked_how, asked_in, lift, precision_here, readers, Way, way_of
from wood_nb.base.files import DataError

CPU, GPU = torch.device('cpu'), torch.device('cuda', 0)


@pytest.fixture
def card(monkeypatch):
    "A function that makes torch say that GPUs have this compute capability."
    return lambda *able: monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: able)


@pytest.mark.parametrize('able,auto,last', [((9, 0), 'bf16', True), ((8, 0), 'bf16', True), ((7, 5), 'no', True), ((6, 1), 'no', False)])
def test_a_gpu_computes_in_what_it_does_best(card, able, auto, last):
    card(*able)
    assert way_of(GPU) == Way(auto, last) and way_of(GPU, 'fp16') == Way('fp16', last)
    assert way_of(GPU, 'fp32') == way_of(GPU, 'no') == Way('no', last)
    assert asked_how(GPU, 'auto') == asked_how(GPU, 'fp32') == {} and asked_how(GPU, 'bf16') == {'precision': 'bf16'}


def test_a_cpu_computes_in_full_unless_told():
    assert way_of(CPU) == way_of(CPU, 'fp32') == Way('no', False) and way_of(CPU, 'bf16', True) == Way('bf16', True)
    with pytest.raises(DataError, match='fp16 needs a GPU.*--precision'): way_of(CPU, 'fp16')
    for precision in ('auto', 'bf16', 'fp16'): assert isinstance(asked_in(CPU, precision), nullcontext) and asked_how(CPU, precision) == {}


def test_networks_are_asked_in_mixed_precision_where_it_is_named(card, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, 'autocast', lambda *how: asked.append(how) or nullcontext())
    card(8, 0)
    for precision in ('bf16', 'auto', 'fp32', 'fp16'): asked_in(GPU, precision)
    assert asked == [('cuda', torch.bfloat16), ('cuda', torch.float16)]


def test_the_precision_here():
    assert precision_here(CPU) == precision_here(torch.device('meta')) == 'no'
    for kind, name in ((torch.bfloat16, 'bf16'), (torch.float16, 'fp16')):
        with torch.autocast('cpu', kind): assert precision_here(CPU) == name
    assert lift('fp16') > 1 == lift('bf16')


def test_readers_share_the_cores(monkeypatch):
    monkeypatch.setattr(devices, 'cores', lambda: 16)
    assert readers(CPU) == 0 and readers(CPU, 3) == 3 and readers(GPU, 0) == 0
    assert readers(GPU) == 15 and readers(GPU, streams=2) == 7
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    assert readers(GPU) == 3
    monkeypatch.setattr(devices, 'cores', lambda: 128)
    assert readers(GPU) == 16
    monkeypatch.setattr(devices, 'cores', lambda: 2)
    assert readers(GPU, streams=2) == 1, 'the training itself is never kept from reading'
    assert devices.cores() == 2 and isinstance(readers(GPU), int)


@pytest.mark.parametrize('threads', [0, 1, 3])
def test_reading_ahead_keeps_the_order_and_raises_in_turn(threads):
    def read(n):
        if n == 7: raise DataError('seven')
        return n * n, threading.current_thread() is threading.main_thread()
    found = []
    with pytest.raises(DataError, match='seven'):
        for n, (square, here) in ahead(read, range(12), threads):
            found.append((n, square))
            assert here == (threads == 0)
    assert found == [(n, n * n) for n in range(7)]


def test_reading_ahead_is_bounded():
    begun = []
    stream = ahead(begun.append, iter(range(100)), 2)
    next(stream)
    assert len(begun) <= 2 * 2 + 1
    stream.close()


def test_one_process_is_all_there_is():
    assert not ranks.several() and ranks.is_first() and ranks.count() == 1
    assert ranks.mine(range(3)) == [0, 1, 2] and ranks.of_all('own') == ['own'] and ranks.from_first(lambda: 5) == 5
    rows = torch.ones(2, requires_grad=True)
    assert ranks.rows_of_all(rows) is rows and ranks.mean_of_all(rows) is rows and ranks.sum_of_all(np.arange(2)).tolist() == [0, 1]
    with ranks.first_before_others(): ranks.wait()
