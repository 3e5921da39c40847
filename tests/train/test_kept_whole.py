"""What a training and a look at a network leave as they were: time between checkpoints, modes of modules, bounded memory."""
import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.base.memory import measured
from wood_nb.data.augment import Augment
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import cam, load_maps, localise, _of_one_size, show_maps
from wood_nb.nets.backbones import build_net
from wood_nb.nets.camnet import freeze_norm
from wood_nb.ood.config import WOoDConfig
from wood_nb.train import safe
from wood_nb.train.config import deciding, TrainConfig
from wood_nb.train.loop import train
from wood_nb.train.predict import equal_batches, predict, show_predictions
from wood_nb.train.safe import reader_killed, TrainingStopped

CONFIG = TrainConfig(steps=6, batch_size=2, augment=Augment.small(32), freeze_stages=0, checkpoint_every=1000)

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def split(tmp_path) -> Split:
    "Three pictures: of the first class, of the second, of none; their names are formulas of TeX."
    for n in range(3): Image.new('RGB', (40 + 8*(n == 2), 40), (80*n, 9, 9)).save(tmp_path/f'{n}.png')
    labels = ((0,), (1,), ())
    return Split('some', [Item(f'${n}', tmp_path/f'{n}.png', own) for n, own in enumerate(labels)], ('a$b', '$\\frac{'))


def net(): return build_net('tiny', ('a$b', '$\\frac{'))


def test_predictions_lie_on_shelves(split):
    "Those of all batches in two blocks: between what batches free they would need gigabytes in a long pass."
    one, two = (predict(asked, split, batch_size=1, title=None) for asked in [net()]*2)
    found = list(one)
    assert len(found) == 3 and found[0].p.base is found[2].p.base is not found[0].z.base is found[2].z.base
    for a, b in zip(found, two): assert np.array_equal(a.p, b.p) and np.array_equal(a.z, b.z) and a.p.base is not b.p.base


def test_checkpoints_come_by_time_too(split, tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(safe.time, 'monotonic', lambda: now[0])
    save = safe.Checkpoint.save
    monkeypatch.setattr(safe.Checkpoint, 'save', lambda self, step: (written.append(step), save(self, step)))

    def later(step, net): now[0] += 50
    train(net(), split, CONFIG, out=tmp_path/'out', on_step=later, title=None)
    assert written == [3] and CONFIG.checkpoint_seconds == 120
    written.clear()
    train(net(), split, replace(CONFIG, checkpoint_seconds=50), out=tmp_path/'more', on_step=later, title=None)
    assert written == [1, 2, 3, 4, 5]


def test_the_time_that_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(safe.time, 'perf_counter', lambda: now[0])
    log = safe.Log(None, 2, 12)
    now[0] = 108.0
    assert log.add(4, 6)['eta'] == 4 * 8 and log.rows[0]['images_per_s'] == 6 * 2 / 8


@pytest.mark.parametrize('asked, said', [((0, 15, 1), (True, 15)), ((0, 30, 2), (True, 15)), ((0, 0, 0), (False, 0)), ((2, 0, 0), (True, 0))])
def test_processes_agree_on_the_signal_that_ends_them(asked, said):
    "As many as got it: sums over the processes of files, numbers and signals."
    together = SimpleNamespace(num_processes=2, device='cpu', reduce=lambda asks: torch.tensor(asked, dtype=torch.float))
    assert safe._asked_to_stop([], together) == said


@pytest.mark.parametrize('number, name', [(signal.SIGTERM, 'SIGTERM'), (signal.SIGINT, 'Ctrl-C'), (signal.SIGHUP, 'SIGHUP')])
def test_a_signal_is_a_stop(split, tmp_path, number, name):
    before = signal.getsignal(number)

    def send(step, net):
        if step == 2: os.kill(os.getpid(), number)
    with pytest.raises(TrainingStopped, match=f'stopped by {name} after step 3 of 6, saved in .*checkpoint.safetensors; run again') as found:
        train(net(), split, CONFIG, out=tmp_path/'out', on_step=send, title=None)
    assert found.value.number == number and signal.getsignal(number) is before
    rows = train(net(), split, CONFIG, out=tmp_path/'out', title=None)
    assert [row['step'] for row in rows] == [*range(1, 7)]


def test_how_a_training_goes_is_not_compared():
    quick, slow = (WOoDConfig(train=TrainConfig(workers=n, log_every=n + 1, checkpoint_every=n + 7, checkpoint_seconds=n)) for n in (0, 4))
    assert deciding(quick) == deciding(slow) != deciding(replace(slow, train=TrainConfig(lr=0.5)))
    assert 'checkpoint_seconds' not in json.dumps(deciding(quick)), 'runs of before stay valid'


def test_a_killed_reader_is_told_in_one_line():
    with pytest.raises(DataError, match=r'killed \(Bus error\).*--workers 0'), reader_killed():
        raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that')
    with pytest.raises(RuntimeError, match='shapes'), reader_killed(): raise RuntimeError('shapes differ')


@pytest.mark.parametrize('frozen', [False, True])
def test_a_look_leaves_the_mode_as_it_was(split, frozen):
    found = net().train()
    freeze_norm(found, frozen)
    modes = [module.training for module in found.modules()]
    cam(found, split.image(0), [0], (1.0,))
    assert [module.training for module in found.modules()] == modes
    list(predict(found, split, title=None))
    assert [module.training for module in found.modules()] == modes and found.training
    predict_one = next(predict(found.eval(), split, title=None))
    assert len(predict_one.p) and not found.training


def test_pictures_without_labels_and_names_with_dollars_are_shown(split):
    found = {item.id: cam(net(), split.image(n), item.labels, (1.0,)) for n, item in enumerate(split.items)}
    figure = show_maps(split, [0, 1, 2], {'a$': found})
    assert figure.png().startswith(b'\x89PNG') and 'no label' in [axis.get_title() for axis in figure.axes]
    assert show_predictions(split, [0, 1, 2], np.full((3, 2), 0.5)).png().startswith(b'\x89PNG')


def large(folder, count) -> Split:
    "Pictures of 2 to 3 megapixels, each of another size."
    items = []
    for n in range(count):
        Image.new('RGB', (1600 + 32*n, 1200)).save(folder/f'{n}.jpg')
        items.append(Item(str(n), folder/f'{n}.jpg', (0,)))
    return Split('pool', items, ('a',))


def test_pictures_that_wait_are_bounded_by_pixels(tmp_path, monkeypatch):
    pool, held, most = large(tmp_path, 40), [0], [0]
    read = Split.image

    def counted(self, index):
        image = read(self, index)
        held[0] += image.width * image.height
        most[0] = max(most[0], held[0])
        return image
    monkeypatch.setattr(Split, 'image', counted)
    seen = []
    with measured() as cost:      # above what is held now, not above the most that earlier tests have held
        for index, images in equal_batches(pool, None, 32, None):
            held[0] -= images[:, 0].numel()
            seen += index
    assert sorted(seen) == list(range(40)) and most[0] < 16_000_000
    assert cost['megabytes'] < 450, cost      # 264 to 312 by what the C library keeps; all forty at once are 1,100


def test_maps_of_large_pictures_are_drawn_one_by_one(tmp_path):
    pool = large(tmp_path, 1)
    pool.items[:] = [Item(str(n), pool[0].image, (0,)) for n in range(5)]
    assert [len(same) for same in _of_one_size(pool, range(5), 8)] == [2, 2, 1]


def test_large_pictures_can_be_looked_at_smaller(split, tmp_path):
    found, sizes = net().eval(), []
    found.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(max(inputs[0].shape[-2:])))
    for name, side in [('own', None), ('smaller', 20), ('larger', 99)]: localise(found, split, tmp_path/name, scales=(1.0, 2.0), long_side=side, title='')
    own, smaller, larger = (load_maps(tmp_path/name/'$0.npz') for name in ('own', 'smaller', 'larger'))
    assert own.size == smaller.size and own.stride4.shape == smaller.stride4.shape and np.array_equal(own.stride4, larger.stride4)
    assert {20, 40} <= set(sizes) and torch.isfinite(torch.from_numpy(smaller.stride4)).all()
