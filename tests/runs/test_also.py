"""Methods trained beside, as a stage: each from the classifier, drawn and scored like any method, resumed, skipped when nothing has changed."""
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wood_nb.base.files import DataError
from wood_nb.cli.commands import amount_of
from wood_nb.cli.parser import main
from wood_nb.data.augment import Augment
from wood_nb.maps.config import SeamConfig
from wood_nb.maps.methods import ALSO, CAM, CLASSIFIER, HEAD, methods_beside, WOOD
from wood_nb.maps.seam import SeamNet, SeamTrain
from wood_nb.runs import pipeline
from wood_nb.runs.config import preset, RunConfig
from wood_nb.runs.pipeline import chosen_by, execute, main_methods, methods_of, stages_of
from wood_nb.runs.run import fingerprint, Run, run_stage

BOTH = ('seam', 'seam-ood')


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
    "A run on a few drawn scenes that trains SEAM beside, without OoD pictures and with them, and neither W-OoD nor its control."
    made = preset('tiny', 'scenes:', scenes={'train': 16, 'val': 6, 'ood': 6, 'pool': 20, 'size': 64}, wood_by='head', mine_threshold=0.,
                  mine_per_class=8, also=BOTH, seam=SeamConfig(steps=2))
    few = replace(made.classifier, steps=4, batch_size=4, augment=Augment.small(48))
    made = replace(made, classifier=few, wood=replace(made.wood, train=replace(few, freeze_norm=True), ood_batch=4, clusters=2),
                   head=replace(made.head, places=100))
    said = []
    found = execute(Run.create(tmp_path_factory.mktemp('run')/'beside', made), say=said.append)
    assert [o.split()[1] for o in said if o.endswith('...')] == ['data', CLASSIFIER, 'mining', 'clusters', HEAD, ALSO, 'maps', 'seeds', 'report']
    return found


def test_stages_and_methods_by_what_is_asked_for():
    voc = RunConfig('voc:x')
    assert stages_of(replace(voc, also=('seam',))) == ['data', CLASSIFIER, ALSO, 'maps', 'seeds', 'report'], 'no candidates are needed'
    mined = replace(voc, candidates='pool', also=BOTH)
    assert ALSO not in stages_of(replace(mined, also=())) and stages_of(mined).index(ALSO) < stages_of(mined).index('maps')
    assert methods_of(mined) == {CAM: 'continued', WOOD: WOOD, 'seam': 'also/seam', 'seam-ood': 'also/seam-ood'}
    assert main_methods(mined) == (CAM, WOOD, *BOTH) and not chosen_by(replace(mined, choose_by='val'), 'seam-ood+irn')
    assert amount_of(preset('tiny', 'scenes:', also=BOTH)).networks > amount_of(preset('tiny', 'scenes:')).networks


def test_what_cannot_be_trained_beside_is_refused():
    with pytest.raises(DataError, match=f"also=.*must be of '{methods_beside()[0]}'"): RunConfig('voc:x', also=('cam',))
    with pytest.raises(DataError, match="'seam-ood': is trained with OoD pictures, but .* no candidates; give --candidates, or take 'seam'"):
        RunConfig('voc:x', also=('seam-ood',))


def test_a_method_beside_is_one_like_any(run):
    nets = [run.net(f'{ALSO}/{name}') for name in BOTH]
    assert all(isinstance(net, SeamNet) and not net.training for net in nets)
    assert not torch.equal(nets[0].classifier.weight, nets[1].classifier.weight) and not torch.equal(nets[0].f9.weight, nets[1].f9.weight)
    assert {row['method'] for row in run.results()} >= {CAM, HEAD, *BOTH} and len(run.maps('seam-ood', 'val')) == 6
    page = (run.path/'report.html').read_text()
    assert 'SEAM + OoD' in page and page.count('over 2 steps') >= 2
    noted = run.note['stages'][ALSO]['info']
    assert {name: noted[name]['steps'] for name in BOTH} == dict.fromkeys(BOTH, 2)
    assert 'loss/ood' in noted['seam-ood'] and 'loss/ood' not in noted['seam'] and noted['seam-ood']['centres_from'] == pipeline.PLAIN


def test_it_starts_from_the_classifier(run, monkeypatch):
    started = []
    monkeypatch.setattr(pipeline, 'train_wood', lambda net, *args, **options: started.append((net, args)) or [{'step': 1, 'loss': 0.}])
    monkeypatch.setattr(Path, 'is_file', lambda path: path.parts[-3] != ALSO and os.path.isfile(path))
    for name in BOTH: pipeline._trained_beside(run, name)
    monkeypatch.undo()
    before = run.net(CLASSIFIER)
    for net, _ in started:
        assert all(torch.equal(a, b) for a, b in zip(net.backbone.parameters(), before.backbone.parameters()))
        assert torch.equal(net.classifier.weight, before.classifier.weight)
    (_, plain), (_, ood) = started
    assert (plain[2].terms, len(plain[1]), plain[2].train.steps) == ('none', 0, 2) and ood[2].terms == 'both' and len(ood[1]) == len(run.ood())
    assert torch.equal(started[0][0].f9.weight, started[1][0].f9.weight), 'new layers begin alike'


def test_only_what_has_changed_is_done_again(run):
    again = Run(run.path)
    assert not run_stage(again, ALSO)
    again.config = replace(run.config, seam=replace(run.config.seam, reduce=.4))
    assert fingerprint(again, ALSO) != fingerprint(run, ALSO)
    plain = Run(run.path)
    plain.config = replace(run.config, also=('seam',))
    before = fingerprint(plain, ALSO)
    plain.config = replace(plain.config, wood=replace(plain.config.wood, ood_weight=.5))
    assert fingerprint(plain, ALSO) == before, 'a method without OoD pictures does not depend on them'


def test_options_of_its_own_stand_above_those_of_w_ood():
    base = preset('tiny', 'scenes:', also=BOTH)
    own = replace(base, seam=SeamConfig(jitter=.3, dense=True))
    for name in BOTH:
        plain, made = (pipeline._beside_config(config, name) for config in (base, own))
        assert plain.train == base.wood.train and plain.zero_labels == 'image' and made.zero_labels == 'dense'
        assert made.train == replace(base.wood.train, augment=replace(base.wood.train.augment, jitter=.3))
    assert SeamConfig.official().jitter == SeamTrain().augment.jitter == .3


def test_one_that_is_trained_is_not_trained_again_when_another_was_interrupted(run, monkeypatch):
    trained = []
    monkeypatch.setattr(pipeline, 'train_wood', lambda *args, **options: trained.append(args[6]) or [{'step': 2, 'loss': 0.}])
    weights = run.path/ALSO/'seam-ood'/'weights.safetensors'
    kept = weights.rename(weights.with_name('kept'))
    info = pipeline.also_stage(run)
    kept.rename(weights)
    assert trained == ['SEAM + OoD'] and info['seam']['steps'] == 2 and 'loss/er' in info['seam']


def test_the_command_line(run, capsys):
    assert main(['compare', str(run.path), '--methods', 'seam', 'seam-ood', '--draws', '5']) == 0 and 'SEAM + OoD' in capsys.readouterr().out
    assert main(['run', '--data', 'voc:nowhere', '--also', 'seem', '--out', str(run.path/'x')]) == 2
    assert f"also=('seem',): must be of {', '.join(map(repr, methods_beside()))}" in capsys.readouterr().err
