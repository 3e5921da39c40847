"""FickleNet trained beside, without OoD pictures and with them: by the registry alone it is a method like any other."""
from dataclasses import replace

import pytest
import torch

from wood_nb.base.files import read_json
from wood_nb.data.augment import Augment
from wood_nb.maps.config import FickleConfig
from wood_nb.maps.ficklenet import FickleNet
from wood_nb.maps.methods import ALSO, CLASSIFIER, colour_of, method_name
from wood_nb.runs.config import preset
from wood_nb.runs.pipeline import execute, methods_of
from wood_nb.runs.run import fingerprint, Run, run_stage

BOTH = ('ficklenet', 'ficklenet-ood')
OWN = FickleConfig(steps=2, window=3, draws=4, rule='votes')


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
    made = preset('tiny', 'scenes:', scenes={'train': 12, 'val': 4, 'ood': 6, 'pool': 16, 'size': 64}, wood_by='head', mine_threshold=0.,
                  mine_per_class=8, also=BOTH, ficklenet=OWN, scales=(1., .5))
    few = replace(made.classifier, steps=3, batch_size=4, augment=Augment.small(48))
    made = replace(made, classifier=few, wood=replace(made.wood, train=replace(few, freeze_norm=True), ood_batch=4, clusters=2),
                   head=replace(made.head, places=100))
    return execute(Run.create(tmp_path_factory.mktemp('run')/'fickle', made), say=lambda _: None)


def test_it_is_a_method_like_any(run):
    nets = [run.net(f'{ALSO}/{name}') for name in BOTH]
    assert all(isinstance(net, FickleNet) and net.config == OWN and not net.training for net in nets)
    assert not torch.equal(nets[0].classifier.weight, nets[1].classifier.weight)
    assert {row['method'] for row in run.results()} >= set(BOTH) and methods_of(run.config)['ficklenet'] == 'also/ficklenet'
    assert [method_name(name) for name in BOTH] == ['FickleNet', 'FickleNet + OoD'] and len({colour_of(name) for name in BOTH}) == 2
    assert 'FickleNet + OoD' in (run.path/'report.html').read_text()
    noted = run.note['stages'][ALSO]['info']
    assert {name: noted[name]['steps'] for name in BOTH} == dict.fromkeys(BOTH, 2)
    assert {'loss/ood', 'loss/distance'} <= set(noted['ficklenet-ood']) and 'loss/ood' not in noted['ficklenet']


def test_its_maps_are_drawn_as_the_options_say(run):
    note = read_json(run.path/'maps'/'ficklenet'/'val'/'maps.json', 'wood_nb.maps')
    assert (note['rule'], note['draws'], note['threshold'], note['scales']) == ('votes', 4, .35, [1., .5])
    maps = run.maps('ficklenet', 'val')
    assert len(maps) == 4 and all(0 <= own.stride4.min() <= own.stride4.max() <= 1 for own in maps.values() if len(own.keys))
    assert {float(v) for own in maps.values() for v in own.stride4.ravel()} <= {0., .25, .5, .75, 1.}, 'shares of four draws'


def test_only_what_has_changed_is_done_again(run):
    again = Run(run.path)
    assert not run_stage(again, ALSO)
    again.config = replace(run.config, ficklenet=replace(OWN, p=.6))
    assert fingerprint(again, ALSO) != fingerprint(run, ALSO) and fingerprint(again, CLASSIFIER) == fingerprint(run, CLASSIFIER)
    assert Run(run.path).config.ficklenet == OWN
