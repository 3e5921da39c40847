"""The loop: the same bits after an interruption, the same weights in parts, in processes and with workers; clear ends when it goes wrong."""
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch.nn import functional as F
from two_ranks import environment, in_two

from wood_nb.train import loop
from wood_nb.train import predict as predicting
from wood_nb.train.batches import StepSampler
from wood_nb.train.config import TrainConfig
from wood_nb.train.loop import build_optimizer, classification_loss, set_poly_rate, step_loader, train
from wood_nb.train.predict import predict, predict_all
from wood_nb.train.safe import read_log, TrainingStopped
from wood_nb.base.files import DataError
from wood_nb.data.augment import Augment, normalise
from wood_nb.data.splits import Item, Split
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.nets.camnet import freeze_norm
from wood_nb.ood.wood import train_wood, WOoDConfig

CONFIG = TrainConfig(steps=8, batch_size=4, lr=0.1, lr_head=0.1, augment=Augment.small(32), freeze_stages=0, checkpoint_every=2)
WOOD = WOoDConfig(train=CONFIG, ood_batch=4, clusters=3, distance_weight=0.1, refresh=3, perturb=0.05)


pytestmark = pytest.mark.usefixtures('one_thread')


def pictures(folder, name, count, classes=('red', 'green')) -> Split:
    "Noise with a red or a green square in it (neither without `classes`)."
    folder.mkdir(parents=True, exist_ok=True)
    items, rng = [], np.random.default_rng(len(name))
    for n in range(count):
        pixels, labels = rng.integers(0, 100, (36, 40, 3)).astype(np.uint8), ()
        if classes:
            x, y = rng.integers(4, 20, 2)
            pixels[y:y + 12, x:x + 12, n % 2] = 255
            labels = (n % 2,)
        Image.fromarray(pixels).save(folder/f'{name}{n}.png')
        items.append(Item(f'{name}{n}', folder/f'{name}{n}.png', labels))
    return Split(name, items, tuple(classes))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    return pictures(folder, 'inside', 10), pictures(folder, 'ood', 7, ())


def fresh(seed=0):
    torch.manual_seed(seed)
    return build_net('tiny', ('red', 'green'))


def fit(data, config=CONFIG, out=None, net=None, **options):
    "A network after training by `config`: a TrainConfig, or a WOoDConfig for W-OoD."
    net = net or fresh()
    if isinstance(config, WOoDConfig): train_wood(net, *data, config, out, **options)
    else: train(net, data[0], config, out=out, **options)
    return net


def same(a, b) -> bool: return all(torch.equal(x, b.state_dict()[n]) for n, x in a.state_dict().items())


def farthest(a, b) -> float: return max(float((x.detach() - y.detach()).abs().max()) for x, y in zip(a.parameters(), b.parameters()))


def moved(a) -> float: return farthest(a, fresh())


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):
    "A function that gives the network of an uninterrupted training, trained once."
    kept = {}

    def get(config):
        key = repr(config)
        if key not in kept: kept[key] = fit(data, config, tmp_path_factory.mktemp('whole'))
        return kept[key]
    return get


# --- interrupted and resumed ----------------------------------------------------------------------------------------------

CASES = {'frozen norm': CONFIG, 'own norm': replace(CONFIG, freeze_norm=False, checkpoint_every=3), 'plain SGD': replace(CONFIG, momentum=0.0),
         'bf16, clipped': replace(CONFIG, precision='bf16', channels_last=True, freeze_norm=False, clip=1.0),
         'W-OoD': WOOD, 'W-OoD, official': WOoDConfig.official(train=CONFIG, ood_batch=4, clusters=3)}


def stop_in(monkeypatch, step, place):
    "A file STOP appears while the step of this number is computed."
    calls, backward = [], loop._backward

    def counted(*args):
        calls.append(1)
        if len(calls) == step: (place/'STOP').touch()
        return backward(*args)
    monkeypatch.setattr(loop, '_backward', counted)


@pytest.mark.parametrize('case,place', [*((case, '.') for case in CASES), ('W-OoD', '..')])
def test_the_same_bits_after_stop(data, whole, tmp_path, case, place, monkeypatch):
    config, out = CASES[case], tmp_path/'run/stage'
    out.mkdir(parents=True)
    wanted = whole(config)
    stop_in(monkeypatch, 5, out/place)
    with pytest.raises(TrainingStopped, match='after step 5 of 8, saved in .*; run again'): fit(data, config, out)
    assert (out/'checkpoint.safetensors').is_file() and not (out/'weights.safetensors').exists()
    assert [row['step'] for row in read_log(out/'train.jsonl')] == [1, 2, 3, 4, 5]
    resumed = fit(data, config, out)
    assert same(resumed, wanted) and same(open_net(out/'weights.safetensors'), resumed) and moved(resumed) > 1e-4
    assert [row['step'] for row in read_log(out/'train.jsonl')] == [*range(1, 9)]
    assert not (out/place/'STOP').exists() and sorted(o.name for o in out.iterdir()) == ['train.jsonl', 'weights.safetensors']


KILLED = '''
import os, signal, sys
sys.path[:0] = {path!r}
import test_training as t
from pathlib import Path
import wood_nb.train.loop as c
out, data = Path(sys.argv[2]), (t.pictures(Path(sys.argv[3]), 'inside', 10), t.pictures(Path(sys.argv[3]), 'ood', 7, ()))
t.torch.set_num_threads(1)
calls, backward = [], c._backward
def die(*args):
    calls.append(1)
    if len(calls) == 8: os.kill(os.getpid(), signal.SIGKILL)
    return backward(*args)
c._backward = die
t.fit(data, t.CASES[sys.argv[1]], out)
'''


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='needs signals')
@pytest.mark.parametrize('case', ['own norm', 'W-OoD'])
def test_the_same_bits_after_kill_9(data, whole, tmp_path, case, warm):
    "Killed in step 8, after the checkpoint of step 6 and with step 7 in the log."
    out = tmp_path/'stage'
    code = KILLED.format(path=[str(Path(__file__).parent), *sys.path])
    done = subprocess.run([*warm.python, '-c', code, case, out, data[0][0].image.parent], env={**os.environ, 'OMP_NUM_THREADS': '1'},
                          capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (out/'checkpoint.safetensors').is_file() and [row['step'] for row in read_log(out/'train.jsonl')] == [*range(1, 8)]
    with open(out/'train.jsonl', 'a') as file: file.write('{"step": 8, "lo')
    assert same(fit(data, CASES[case], out), whole(CASES[case]))
    assert [row['step'] for row in read_log(out/'train.jsonl')] == [*range(1, 9)]
    assert len((out/'train.jsonl').read_text().splitlines()) == 8


def stopped(data, config, out, at=2, net=None):
    out.mkdir(parents=True, exist_ok=True)

    def touch(step, net):
        if step == at - 1: (out/'STOP').touch()
    with pytest.raises(TrainingStopped): fit(data, config, out, net=net, on_step=touch)


def test_a_checkpoint_of_another_training_is_refused(data, whole, tmp_path):
    stopped(data, CONFIG, tmp_path)
    others = {'lr': replace(CONFIG, lr=0.2), 'steps': replace(CONFIG, steps=9), 'augment': replace(CONFIG, augment=Augment.small(40)), 'seed': replace(CONFIG, seed=1)}
    for name, other in others.items():
        with pytest.raises(DataError, match=f'checkpoint.safetensors: .*differs in {name}; delete it'): fit(data, other, tmp_path)
    with pytest.raises(DataError, match='differs in images;'): fit((data[0].subset(range(9)), data[1]), CONFIG, tmp_path)
    with pytest.raises(DataError, match='differs in .*ood images'): fit(data, WOOD, tmp_path)
    resumed = fit(data, replace(CONFIG, workers=0, log_every=3, checkpoint_every=100), tmp_path)
    assert same(resumed, whole(CONFIG)), 'what does not decide the result may change'


def test_a_checkpoint_of_another_loss_is_refused(data, tmp_path, monkeypatch):
    stop_in(monkeypatch, 2, tmp_path)
    with pytest.raises(TrainingStopped): fit(data, WOOD, tmp_path)
    with pytest.raises(DataError, match='differs in loss;'): fit(data, replace(WOOD, tau=0.5), tmp_path)


def test_a_checkpoint_from_before_an_option_came_is_resumed(data, whole, tmp_path):
    "Its loss does not name `recluster`: that asks for nothing at its default, and for another training otherwise."
    stopped(data, WOOD, tmp_path)
    with safe_open(tmp_path/'checkpoint.safetensors', 'pt') as file: config = json.loads(file.metadata()['config'])
    assert not {'recluster', 'train'} & config['loss'].keys() and config['loss']['tau'] == WOOD.tau
    assert not {'workers', 'compile', 'checkpoint_seconds', 'log_every'} & config.keys() and config['lr'] == CONFIG.lr
    with pytest.raises(DataError, match='differs in loss;'): fit(data, replace(WOOD, recluster=True), tmp_path)
    assert same(fit(data, WOOD, tmp_path), whole(WOOD))


@pytest.mark.parametrize('content', [b'', b'no checkpoint', None])
def test_a_broken_checkpoint_says_so(data, tmp_path, content):
    stopped(data, CONFIG, tmp_path)
    file = tmp_path/'checkpoint.safetensors'
    file.write_bytes(file.read_bytes()[:-99] if content is None else content)
    with pytest.raises(DataError, match='checkpoint.safetensors: not a readable checkpoint .*; delete it'): fit(data, CONFIG, tmp_path)


# --- the same weights another way -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('case', ['classifier', 'W-OoD'])
def test_accumulation_equals_the_full_batch(data, whole, case):
    wood = replace(WOOD, perturb=0.0, refresh=0)  # a perturbation depends on its batch
    config = CONFIG if case == 'classifier' else wood
    parts = replace(CONFIG, accumulate=4)
    found = fit(data, parts if case == 'classifier' else replace(wood, train=parts))
    assert farthest(found, whole(config)) < 2e-5 < 1e-4 < moved(found)


def test_parts_must_be_equal(data):
    with pytest.raises(DataError, match=r'batch_size=4 does not divide into 1 process\(es\) with 3 micro-batch\(es\) each; take a multiple of 3'):
        fit(data, replace(CONFIG, accumulate=3))
    with pytest.raises(DataError, match='ood_batch=6 does not divide'): fit(data, replace(WOOD, ood_batch=6, train=replace(CONFIG, accumulate=4)))


def test_workers_change_nothing(data, whole):
    assert same(fit(data, replace(CONFIG, workers=2)), whole(CONFIG))
    assert same(fit(data, replace(WOOD, train=replace(CONFIG, workers=1))), whole(WOOD))


def read_again(folder, name, count, masks=False) -> Split:
    "The pictures that `pictures` has drawn there."
    items = [Item(f'{name}{n}', folder/f'{name}{n}.png', (n % 2,) if name == 'inside' else (), folder/f'masks/{name}{n}.png' if masks else None) for n in range(count)]
    return Split(name, items, ('red', 'green') if name == 'inside' else (), raw_classes=2 if masks else None)


def in_one_of_two(out: Path, folder: Path) -> None:
    "What each of two processes does: trainings, a STOP that only the second one sees coming, a batch that does not divide."
    data, rank = (read_again(folder, 'inside', 10), read_again(folder, 'ood', 7)), int(os.environ['RANK'])
    fit(data, CONFIG, out/'classifier')
    fit(data, FOR_TWO, out/'wood')

    def touch(step, net):
        if step == 2 and rank == 1: (out/'stopped/STOP').touch()
    (out/'stopped').mkdir(exist_ok=True)
    try: fit(data, CONFIG, out/'stopped', on_step=touch)
    except TrainingStopped as error: (out/f'said{rank}').write_text(str(error))
    fit(data, CONFIG, out/'stopped')
    try: fit(data, replace(CONFIG, batch_size=3))
    except DataError as error: (out/f'odd{rank}').write_text(str(error))


FOR_TWO = WOoDConfig(train=CONFIG, ood_batch=4, clusters=3, distance_weight=0.1, refresh=3)


def test_two_processes_give_the_weights_of_one(data, whole, tmp_path, warm):
    "Gloo on the CPU, as torchrun or `accelerate launch --cpu` start it."
    from in_processes import everything, with_squares
    folder = tmp_path/'pictures'
    split = with_squares(folder)
    pictures(folder, 'ood', 7, ())
    here = Path(__file__).parent
    assert not (said := in_two(warm, here/'in_processes.py', tmp_path, folder, env=environment(here, *sys.path), timeout=900)), said
    for name, config in [('classifier', CONFIG), ('wood', FOR_TWO), ('stopped', CONFIG)]:
        found, wanted = open_net(tmp_path/name/'weights.safetensors'), whole(config)
        assert farthest(found, wanted) < 2e-5 < 1e-4 < moved(found), name
        assert [row['step'] for row in read_log(tmp_path/name/'train.jsonl')] == [*range(1, 9)], 'one process writes the log'
    assert {(tmp_path/f'said{rank}').read_text() for rank in (0, 1)} == {f"stopped by the file STOP after step 3 of 8, saved in {tmp_path/'stopped'/'checkpoint.safetensors'}; run again to go on"}
    assert 'multiple of 2' in (tmp_path/'odd0').read_text() and 'multiple of 2' in (tmp_path/'odd1').read_text()
    log = read_log(tmp_path/'classifier/train.jsonl')
    alone = train(fresh(), data[0], CONFIG)
    assert np.allclose([row['loss'] for row in log], [row['loss'] for row in alone], atol=1e-4), 'the log holds the mean over both'
    everything(split, read_again(folder, 'ood', 7), tmp_path/'one')
    compare_folders(tmp_path/'one', tmp_path/'all')
    wrote = [(tmp_path/f'wrote{rank}').read_text().split() for rank in (0, 1)]
    assert not set(wrote[0]) & set(wrote[1]), 'a file that both have written'
    by_the_other = {'/'.join(Path(o).relative_to(tmp_path).parts[1:-1]) for o in wrote[1]}
    assert by_the_other == {'maps', 'walked', 'affine', 'segmented', 'irn/labels', 'psa/labels'}, 'the second process writes its maps, labels and masks, and nothing else'


def compare_folders(one: Path, two: Path) -> None:
    "All that one process has made is the same, but for rounding, as what two have made."
    from safetensors.torch import load_file
    from wood_nb.base.files import read_json
    from wood_nb.maps.cam import load_maps
    files = sorted(o.relative_to(one) for o in one.rglob('*') if o.is_file())
    assert files == sorted(o.relative_to(two) for o in two.rglob('*') if o.is_file()) and len(files) > 50
    for file in files:
        if file.suffix == '.safetensors':
            a, b = load_file(one/file), load_file(two/file)
            assert max(float((a[name].float() - b[name].float()).abs().max()) for name in a) < 1e-4, file
        elif file.suffix == '.npz' and file.parts[0] != 'segmented':
            assert np.allclose(load_maps(one/file).stride4, load_maps(two/file).stride4, atol=5e-3), file
        elif file.name == 'train.jsonl':
            a, b = ([{k: v for k, v in row.items() if k.startswith(('loss', 'step'))} for row in read_log(folder/file)] for folder in (one, two))
            assert len(a) == len(b) and all(x == pytest.approx(y, abs=1e-4) for x, y in zip(a, b)), file
        elif file.suffix == '.png' and file.name != 'progress.png':
            assert (np.asarray(Image.open(one/file)) != np.asarray(Image.open(two/file))).mean() < 0.01, file
    a, b = (read_json(folder/'scores.json', 'test') for folder in (one, two))
    assert a['index'] == b['index'] == [*range(10)] and np.allclose(a['p'], b['p'], atol=1e-4)
    assert np.allclose(a['displacement'], b['displacement'], atol=1e-4)
    assert [r['step'] for r in a['validation']] == [r['step'] for r in b['validation']]
    assert [r['miou'] for r in a['validation']] == pytest.approx([r['miou'] for r in b['validation']], abs=0.5)
    assert read_json(one/'official/best.json', 'wood_nb.best')['miou'] == pytest.approx(read_json(two/'official/best.json', 'wood_nb.best')['miou'], abs=0.5)


def test_bf16_and_back(data, whole):
    net = fit(data, replace(CONFIG, precision='bf16'))
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in net.parameters())
    assert 0 < farthest(net, whole(CONFIG)) and moved(net) > 1e-4
    assert net(torch.zeros(1, 3, 32, 32)).features.dtype == torch.float32 and 'forward' not in vars(net)
    assert same(fit(data, CONFIG), whole(CONFIG)), 'a process can train in one precision, then in another'
    again = fit(data, replace(CONFIG, precision='bf16'), net=fit(data, CONFIG))
    assert torch.isfinite(next(again.parameters())).all()
    fit(data, replace(WOOD, train=replace(CONFIG, precision='bf16', steps=3)))


def test_channels_last_is_the_same_training(data, whole):
    assert farthest(fit(data, replace(CONFIG, channels_last=True)), whole(CONFIG)) < 1e-3


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_a_compiled_network_learns_the_same(data, whole, tmp_path, backend):
    net = fit(data, replace(CONFIG, compile=backend, steps=8), tmp_path)
    assert farthest(net, whole(CONFIG)) < 2e-5 < 1e-4 < moved(net)
    assert net._compiled_call_impl is None and same(open_net(tmp_path/'weights.safetensors'), net), 'names are those of the plain network'


def test_compiling_does_not_decide(data, whole, tmp_path):
    stopped(data, replace(CONFIG, compile='eager'), tmp_path)
    assert farthest(fit(data, CONFIG, tmp_path), whole(CONFIG)) < 2e-5


class Recorded:
    "In the place of torch's DataLoader: what it was asked for."

    def __init__(self, dataset, **how): self.how = how


def test_beside_a_gpu_pictures_are_read_ahead_into_pinned_memory(data, monkeypatch):
    from wood_nb.base import device as devices
    monkeypatch.setattr(loop, 'DataLoader', Recorded)
    plain = step_loader(data[0], CONFIG, 4, 0, 0, 1).how
    assert (plain['num_workers'], plain['pin_memory'], plain['prefetch_factor']) == (0, False, None)
    monkeypatch.setattr(loop, 'best_device', lambda: torch.device('cuda', 0))
    monkeypatch.setattr(devices, 'cores', lambda: 9)
    how = step_loader(data[0], CONFIG, 4, 0, 0, 1, streams=2).how
    assert (how['num_workers'], how['pin_memory']) == (4, True) and how['prefetch_factor'] > 1
    assert step_loader(data[0], replace(CONFIG, workers=0), 4, 0, 0, 1).how['num_workers'] == 0


def test_batches_go_to_the_device_without_waiting():
    how = loop._open_accelerator(CONFIG).dataloader_config
    assert how.non_blocking and how.split_batches


def test_the_scale_of_fp16_is_resumed(data, tmp_path):
    from wood_nb.train.safe import Checkpoint
    net = fresh()

    def checkpoint(scaler): return Checkpoint(tmp_path/'c.safetensors', net, build_optimizer(net, CONFIG), classification_loss, {}, scaler)
    old = torch.amp.GradScaler('cpu', init_scale=512.0, growth_interval=7)
    old.scale(torch.ones(()))
    checkpoint(old).save(3)
    new = torch.amp.GradScaler('cpu')
    assert checkpoint(new).load() == 3 and new.state_dict() == old.state_dict() and new.get_scale() == 512
    assert checkpoint(None).load() == 3, 'in another precision it says nothing'
    checkpoint(None).save(4)
    fresh_scaler = torch.amp.GradScaler('cpu')
    assert checkpoint(fresh_scaler).load() == 4 and fresh_scaler.get_scale() == 65536
    from safetensors.torch import load, save
    content = (tmp_path/'c.safetensors').read_bytes()
    about = json.loads(content[8:8 + int.from_bytes(content[:8], 'little')])['__metadata__']
    for bad in ('[]', '{"scale": -1}', '{"scale": NaN}', 'x'):
        (tmp_path/'c.safetensors').write_bytes(save(load(content), {**about, 'scaler': bad}))
        with pytest.raises(DataError, match='not a readable checkpoint'): checkpoint(old).load()


def test_fp16_on_a_cpu_is_one_line(data):
    with pytest.raises(DataError, match='fp16 needs a GPU'): fit(data, replace(CONFIG, precision='fp16'))


# --- when it goes wrong -----------------------------------------------------------------------------------------------------

def test_a_loss_that_is_no_number_ends_it_with_the_remedy(data, tmp_path):
    calls = []

    def loss(net, batch):
        calls.append(1)
        terms = classification_loss(net, batch)
        return {'loss': terms['loss'] * (math.nan if len(calls) == 6 else 1)}
    net = fresh()
    with pytest.raises(FloatingPointError, match='the loss is nan.*lower the learning rate.*checkpoint is kept'): train(net, data[0], CONFIG, loss, out=tmp_path)
    assert (tmp_path/'checkpoint.safetensors').is_file() and not (tmp_path/'weights.safetensors').exists() and not net.training
    assert [row['step'] for row in read_log(tmp_path/'train.jsonl')] == [1, 2, 3, 4, 5]
    train(net, data[0], CONFIG, loss, out=tmp_path)
    assert all(torch.isfinite(p).all() for p in net.parameters()), 'the checkpoint is sound'


@pytest.mark.parametrize('every', [1, 100])
def test_weights_that_are_no_numbers_are_never_stored(data, tmp_path, every):
    "A finite loss whose gradient takes the weights beyond the largest number."
    def steep(net, batch): return {'loss': classification_loss(net, batch)['loss'] * 1e30}
    config = replace(CONFIG, lr=1e38, lr_head=1e38, steps=2 if every == 1 else 1, checkpoint_every=every)
    with pytest.raises(FloatingPointError, match='weights are no longer finite.*lower the learning rate'): train(fresh(), data[0], config, steep, out=tmp_path)
    assert not (tmp_path/'weights.safetensors').exists() and not (tmp_path/'checkpoint.safetensors').exists()


def test_nothing_to_train_on(data):
    with pytest.raises(DataError, match="split 'none' is empty"): train(fresh(), Split('none', [], ('red', 'green')), CONFIG)
    with pytest.raises(DataError, match='no OoD image'): train_wood(fresh(), data[0], data[1].subset([]), WOOD)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_broken_picture_is_named(data, tmp_path, workers):
    (tmp_path/'broken.png').write_bytes(b'')
    split = replace(data[0], items=[Item('broken', tmp_path/'broken.png', (0,))])
    with pytest.raises(DataError, match='broken.png: an empty file; replace it'): train(fresh(), split, replace(CONFIG, workers=workers))


# --- the parts ------------------------------------------------------------------------------------------------------------

def test_every_epoch_shows_every_image_once():
    shown = [place for batch in StepSampler(7, 3, 0, 0, 14) for place in batch]
    assert len(shown) == 42 and {epoch for epoch, _ in shown} == set(range(6))
    orders = [[i for e, i in shown if e == epoch] for epoch in range(6)]
    assert all(sorted(o) == [*range(7)] for o in orders) and len(set(map(tuple, orders))) > 3
    assert [*StepSampler(7, 3, 0, 5, 14)] == [*StepSampler(7, 3, 0, 0, 14)][5:] and len(StepSampler(7, 3, 0, 5, 14)) == 9
    assert [*StepSampler(7, 3, 1, 0, 2)] != [*StepSampler(7, 3, 0, 0, 2)]
    assert [*StepSampler(2, 5, 0, 0, 1)] and len([*StepSampler(2, 5, 0, 0, 1)][0]) == 5


def test_augmentation_is_a_function_of_epoch_and_image(data):
    first, again, later = (list(step_loader(data[0], CONFIG, 4, 0, start, 9)) for start in (0, 0, 4))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again)) and all(torch.equal(a[0], b[0]) for a, b in zip(first[4:], later))
    dataset = step_loader(data[0], CONFIG, 4, 0, 0, 1).dataset
    assert not torch.equal(dataset[0, 3][0], dataset[1, 3][0]) and torch.equal(dataset[0, 3][1], dataset[1, 3][1])


def test_the_log(data, tmp_path):
    rows = train(fresh(), data[0], replace(CONFIG, log_every=3), out=tmp_path)
    assert rows == read_log(tmp_path/'train.jsonl') and [row['step'] for row in rows] == [3, 6, 8]
    assert all({'step', 'loss', 'loss/cls', 'lr', 'images_per_s', 'eta', 'epoch'} == row.keys() for row in rows)
    assert rows[0]['epoch'] == 1.2 and rows[-1]['eta'] == 0 and rows[0]['images_per_s'] > 0
    assert np.allclose([row['lr'] for row in rows], [0.1 * (1 - step / 8) ** 0.9 for step in (2, 5, 7)])
    assert read_log(tmp_path/'none.jsonl') == [] and len(read_log(tmp_path/'train.jsonl', 6)) == 2
    (tmp_path/'train.jsonl').write_text(json.dumps(rows[0]) + '\n{"step": 6, "los')
    assert read_log(tmp_path/'train.jsonl') == rows[:1]


def test_the_reference_recipe():
    config = TrainConfig.official()
    assert (config.lr, config.lr_head, config.momentum, config.weight_decay, config.batch_size, config.epochs, config.power) == (0.1, 1.0, 1e-4, 1e-4, 16, 5.0, 0.9)
    assert config.freeze_stages == 2 and config.freeze_norm and config.augment == Augment.voc() and config.total_steps(10582) in (3305, 3307)
    scratch = TrainConfig.scratch()
    assert (scratch.lr, scratch.lr_head, scratch.batch_size, scratch.epochs, scratch.freeze_stages, scratch.freeze_norm) == (0.1, 0.1, 32, 12.0, 0, False)
    net = build_net('tiny', ('a',))
    optimizer = build_optimizer(net, config)
    assert [g['lr'] for g in optimizer.param_groups] == [0.1, 1.0] and optimizer.param_groups[1]['params'] == [net.classifier.weight]
    assert set_poly_rate(optimizer, 50, 100, 0.9) == pytest.approx(0.1 * 0.5 ** 0.9) and optimizer.param_groups[1]['lr'] == pytest.approx(0.5 ** 0.9)


def test_the_loss_is_the_mean_over_images_and_classes(data):
    from wood_nb.train.batches import Batch
    net, images, labels = fresh().eval(), torch.randn(3, 3, 32, 32), torch.tensor([[1., 0], [0, 1], [0, 0]])
    p = net(images).logits.sigmoid()
    by_hand = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum() / 6
    assert torch.allclose(classification_loss(net, Batch(images, labels))['loss'], by_hand, atol=1e-6)


def test_it_learns(data):
    net = fit(data, replace(CONFIG, steps=60, freeze_norm=False))
    assert float(((predict_all(net, data[0], title=None).p > 0.5) == data[0].label_matrix()).mean()) > 0.9


def test_only_what_is_not_frozen_learns(data):
    before, net = fresh(), fit(data, replace(CONFIG, freeze_stages=2))
    changed = {n.split('.')[1] for (n, a), b in zip(net.named_parameters(), before.parameters()) if not torch.equal(a, b)}
    assert changed == {'layer3', 'layer4', 'weight'}
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), before.buffers())) and not net.training


def test_predictions(tmp_path):
    sizes = [(40, 36), (64, 32), (40, 36), (33, 70), (64, 32)]
    items = []
    for n, size in enumerate(sizes):
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(tmp_path/f'{n}.png')
        items.append(Item(str(n), tmp_path/f'{n}.png'))
    split, net = Split('x', items), fresh().eval()
    parts = list(predict(net, split, batch_size=2, title=None))
    assert sorted(int(i) for part in parts for i in part.index) == [0, 1, 2, 3, 4] and max(len(part.index) for part in parts) == 2
    found = predict_all(net, split, batch_size=2, title=None)
    assert found.index.tolist() == [0, 1, 2, 3, 4] and found.p.shape == (5, 2) and found.z.shape == (5, 128) and found.p.dtype == np.float32
    one = predict_all(net, split, batch_size=1, title=None)
    assert np.allclose(found.p, one.p, atol=1e-5) and np.allclose(found.z, one.z, atol=1e-4)
    with torch.no_grad(): out = net(normalise(split.image(1))[None])
    assert np.allclose(found.p[1], out.logits.sigmoid()[0], atol=1e-5) and np.allclose(found.z[1], out.z[0], atol=1e-4)
    assert predict_all(net, split, long_side=64, title=None).p.shape == (5, 2)


def test_memory_of_predictions_is_bounded(tmp_path, monkeypatch):
    for n in range(30): Image.new('RGB', (32 * (n % 15 + 1), 32)).save(tmp_path/f'{n}.png')
    split, alive = Split('x', [Item(str(n), tmp_path/f'{n}.png') for n in range(30)]), []
    for index, images in predicting.equal_batches(split, None, 1, None): alive.append(len(images))
    assert sum(alive) == 30
    waiting = predicting.equal_batches(split, None, 2, None)
    assert len(next(waiting)[0]) <= 2


def test_a_loss_of_ones_own(data):
    "Any function (net, batch) -> terms will do."
    def focal(net, batch):
        losses = F.binary_cross_entropy_with_logits(net(batch.images).logits, batch.labels, reduction='none')
        return {'loss': (losses ** 2).mean(), 'bce': losses.mean()}
    rows = train(fresh(), data[0], replace(CONFIG, steps=2), focal)
    assert rows[0].keys() >= {'loss', 'loss/bce'}


def test_frozen_norm_makes_the_batch_a_set(data):
    "What W-OoD relies on: OoD images in the same batch change nothing for the others."
    net, images = fresh(), torch.randn(5, 3, 32, 32)
    freeze_norm(net)
    net.train()
    assert torch.allclose(net(images).logits[:2], net(images[:2]).logits, atol=1e-5)


# --- damaged files of a training --------------------------------------------------------------------------------------------
def test_a_checkpoint_that_lacks_a_tensor(tmp_path):
    from fuzz import small_training
    from safetensors.torch import load, save
    path = tmp_path/'c.safetensors'
    small_training(path).save(7)
    whole, about = load(path.read_bytes()), json.loads(path.read_bytes()[8:8 + int.from_bytes(path.read_bytes()[:8], 'little')])['__metadata__']
    assert small_training(path).load() == 7
    for change, said in [(lambda t: t.pop('net.weight'), "'net.weight' is missing"), (lambda t: t.update({'net.weight': torch.zeros(9)}), r"'net.weight' is \(9,\), not \(2, 3\)"),
                         (lambda t: t.update({'optimizer.bias.momentum_buffer': torch.zeros(5)}), r'momentum_buffer. is \(5,\)'), (lambda t: t.update(x=torch.zeros(1)), "'x' belongs to no part")]:
        change(tensors := dict(whole))
        path.write_bytes(save(tensors, about))
        with pytest.raises(DataError, match=f'c.safetensors: .*{said}.*; delete the file to start again'): small_training(path).load()
    for change in ({'config': '[]'}, {'config': '[' * 50_000}, {'step': '-3'}, {'step': 'x'}):
        path.write_bytes(save(whole, {**about, **change}))
        with pytest.raises(DataError, match='c.safetensors: not a readable checkpoint'): small_training(path).load()


@pytest.mark.parametrize('line, said', [(b'\xff\xfe', 'not valid JSON'), (b'[1, 2]', 'the content is a list of 2'), (b'3', 'the content is 3'), (b'{"loss": 1}', 'step is missing'),
                                        (b'{"step": "2", "loss": 1}', "step is '2'"), (b'{"step": 2, "loss": null}', 'loss is None'), (b'[' * 50_000, 'not valid JSON')])
def test_a_damaged_line_of_the_log(tmp_path, line, said):
    "In the middle it is told; at the end, and behind the checkpoint, it is cut off."
    path, row = tmp_path/'train.jsonl', b'{"step": %d, "loss": 1.0}'
    path.write_bytes(b'\n'.join([row % 1, line, row % 3]) + b'\n')
    with pytest.raises(DataError, match='train.jsonl, line 2: ') as error: read_log(path)
    assert said in str(error.value) and 'only the curves' in str(error.value)
    assert [o['step'] for o in read_log(path, 1)] == [1]
    path.write_bytes(b'\n'.join([row % 1, row % 2, line]))
    assert [o['step'] for o in read_log(path)] == [1, 2]
