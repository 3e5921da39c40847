"""Maps over the steps of a training: written on the way, resumed, read again, shown with a slider."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.augment import Augment
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.nets.backbones import build_net
from wood_nb.runs.film import Film, film_images, FilmMaker
from wood_nb.runs.pipeline import _film
from wood_nb.runs.run import Run
from wood_nb.runs.tiny import tiny_run
from wood_nb.train.config import TrainConfig
from wood_nb.train.loop import train
from wood_nb.train.safe import TrainingStopped

CONFIG = TrainConfig(steps=5, batch_size=2, augment=Augment.small(32), freeze_stages=0, checkpoint_every=1)
CLASSES = ('cat', 'dog')

pytestmark = pytest.mark.usefixtures('one_thread')


def make_split(folder) -> Split:
    items = []
    for n in range(4):
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder/f'{n}.png')
        write_mask(folder/f'm{n}.png', np.pad(np.full((16, 16), n%2 + 1, np.uint8), ((12, 12), (16, 16))))
        items.append(Item(f'{n}', folder/f'{n}.png', (n%2,), folder/f'm{n}.png'))
    return Split('val', items, CLASSES)


def fresh():
    torch.manual_seed(0)
    return build_net('tiny', CLASSES)


@pytest.fixture(scope='module')
def split(tmp_path_factory): return make_split(tmp_path_factory.mktemp('pictures'))


@pytest.fixture(scope='module')
def made(split, tmp_path_factory):
    "A training of five steps that was stopped after three and resumed, and the network at its end."
    out, net = tmp_path_factory.mktemp('film'), fresh()
    maker = FilmMaker(film_images(split, 3), 2, out)

    def stop(step, net):
        maker(step, net)
        if step == 2: (out/'STOP').touch()
    with pytest.raises(TrainingStopped): train(net, split, CONFIG, out=out, on_step=stop, title=None)
    net = fresh()
    maker.settle(train(net, split, CONFIG, out=out, on_step=maker, title=None)[-1]['step'], net)
    return out, net


def test_a_film_is_that_of_a_training_that_was_not_stopped(made, split, tmp_path):
    out, net = made
    maker, through = FilmMaker(film_images(split, 3), 2, tmp_path), fresh()
    maker.settle(train(through, split, CONFIG, out=tmp_path, on_step=maker, title=None)[-1]['step'], through)
    one, other = Film(out, split), Film(tmp_path/'film', split)
    assert one.steps == other.steps == [0, 2, 4, 5] and one.split.ids == ['0', '1', '2']
    assert all((one.heat(step, 1, 1) == other.heat(step, 1, 1)).all() for step in one.steps)
    assert (one.heat(0, 0, 0) != one.heat(5, 0, 0)).any() and list(one.some(2)) == [0, 5]
    plain = fresh()
    train(plain, split, CONFIG, title=None)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), net.parameters())), 'looking changes nothing'
    assert sum(file.stat().st_size for file in (out/'film').rglob('*.npz')) < 12*2000


def test_images_of_a_film_are_of_all_classes(split):
    assert film_images(split, 3).ids == ['0', '1', '2'] and film_images(split.subset([0, 2])).ids == ['0', '2']


def test_what_does_not_fit_is_said(made, split, tmp_path):
    out, net = made
    with pytest.raises(DataError, match='made otherwise'): FilmMaker(split, 2, out).take(0, net)
    with pytest.raises(DataError, match='no maps of split'): Film(tmp_path, split)
    with pytest.raises(DataError, match='no maps of step 3; there are 0, 2, 4, 5'): Film(out, split).maps(3)
    with pytest.raises(DataError, match='every 0 steps'): FilmMaker(split, 0, out)


def test_a_run_makes_one_only_if_asked(tmp_path):
    run = Run(tiny_run().path)
    assert _film(run, 'wood') is None
    run.config = replace(run.config, film=50)
    maker = _film(run, 'wood')
    assert maker.every == 50 and maker.out == run.path/'wood' and len(maker.split) == 6 and maker.split.name == 'val'


def test_a_slider_goes_through_it(made, split, tmp_path):
    pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')
    from wood_nb.widgets.film import FilmView
    view = FilmView(made[0], split=split)
    assert view.look.step == 5 and len(view.view.pictures) == 3 and 'on it' in view.view.panels[0][1]
    last = list(view.view.pictures)
    view.slider.value = 0
    assert view.look.step == 0 and view.view.pictures != last and 'after 0 of 5 steps' in view.words.value
    view.hear(None, {'type': 'key', 'key': 'ArrowRight'}, [])
    assert view.look.step == 2 and view.slider.value == view.player.value == 1
    view.go(4.9)
    assert view.look.step == 4
    view.turn(9)
    assert view.look.step == 5 and view.view.pictures == last
    assert view.to_figure(2).save(tmp_path/'film.svg').read_text().count('<image ') == 6
    with pytest.raises(DataError, match='name the split'): FilmView(made[0])
    view.close()
