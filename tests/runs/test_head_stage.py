"""The last layer as a stage: solved after mining, drawn and scored like any method, skipped when nothing has changed."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from wood_nb.cli.parser import main
from wood_nb.data.augment import Augment
from wood_nb.maps.methods import CAM, CLASSIFIER, colour_of, CONTROLS, dash_of, HEAD, method_name, METHODS, WOOD
from wood_nb.ood.config import HeadConfig
from wood_nb.runs.compare import choose_sides
from wood_nb.runs.config import preset, RunConfig
from wood_nb.ood.cache import _read_blocks
from wood_nb.ood.features import FeatureStore
from wood_nb.runs.pipeline import chosen_by, execute, keeps_features, main_methods, methods_of, stages_of
from wood_nb.runs.run import Run
from wood_nb.train.predict import predict_all

KEPT = ['data', CLASSIFIER, 'mining', 'clusters', HEAD]


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
    "A run by the last layer alone, on a few drawn scenes."
    made = preset('tiny', 'scenes:', scenes={'train': 24, 'val': 8, 'ood': 8, 'pool': 24, 'size': 64}, wood_by='head', mine_threshold=0.,
                  mine_per_class=8, head=HeadConfig(controls=('none', 'zero'), places=200))
    made = replace(made, classifier=replace(made.classifier, steps=4, batch_size=4, augment=Augment.small(48)))
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('wood_nb.runs.pipeline.predict', None)  # all that the classifier says is made of kept features
        found = execute(Run.create(tmp_path_factory.mktemp('run')/'head', made), say=said.append)
    assert [o.split()[1] for o in said if o.endswith('...')] == [*KEPT, 'maps', 'seeds', 'report']
    return found


def test_stages_by_what_is_asked_for():
    voc = RunConfig('voc:x', candidates='pool')
    late = ['maps', 'seeds', 'report']
    assert stages_of(voc) == ['data', CLASSIFIER, 'mining', 'clusters', 'continued', WOOD, *late], 'runs of before stay as they are'
    assert stages_of(replace(voc, wood_by='head', ablation=('distance',))) == [*KEPT, *late]
    assert stages_of(replace(voc, wood_by='both')) == [*KEPT, 'continued', WOOD, *late]
    assert stages_of(replace(voc, wood_by='both', candidates=None)) == ['data', CLASSIFIER, *late]
    assert list(methods_of(replace(voc, wood_by='both'))) == [CAM, WOOD, HEAD, 'head-none']
    assert methods_of(replace(voc, wood_by='head')) == {CAM: CLASSIFIER, HEAD: HEAD, 'head-none': 'head/none'}
    assert {preset(name, 'voc:x').wood_by for name in ('default', 'small')} == {'both'} and preset('official', 'x').wood_by == 'train'
    chosen = replace(voc, wood_by='both', choose_by='val')
    assert chosen_by(chosen, WOOD) and not chosen_by(chosen, HEAD) and not chosen_by(chosen, 'head-none')


def test_masks_and_final_networks_are_made_of_each_way_that_the_run_has(run, monkeypatch):
    voc, asked = RunConfig('voc:x', candidates='pool'), []
    assert main_methods(voc) == (CAM, WOOD) and main_methods(replace(voc, wood_by='both')) == (CAM, WOOD, HEAD)
    assert main_methods(replace(voc, candidates=None)) == (CAM,)
    monkeypatch.setattr('wood_nb.runs.refine.refine', lambda run, config, *rest: asked.append(config.methods))
    monkeypatch.setattr('wood_nb.cli.commands.segment_all', lambda run, methods, *rest, **options: asked.append(methods))
    monkeypatch.setattr('wood_nb.cli.commands.tell_report', lambda run: None)
    for words in (['refine'], ['segment'], ['refine', '--methods', 'cam']): assert main([words[0], str(run.path), *words[1:]]) == 0
    assert asked == [(CAM, HEAD), (CAM, HEAD), (CAM,)], 'a run by the last layer alone has no W-OoD training'


def test_head_is_a_method_like_any(run):
    assert {row['method'] for row in run.results()} == {CAM, HEAD, 'head-none', 'head-zero'}
    assert len(run.maps(HEAD, 'val')) == 8 and 'OoD head' in (run.path/'report.html').read_text()
    nets = {name: run.net(name) for name in (CLASSIFIER, HEAD, 'head/none', 'head/zero')}
    rows = [net.classifier.weight.detach() for net in nets.values()]
    assert not any(torch.equal(a, b) for n, a in enumerate(rows) for b in rows[n+1:])
    assert all(torch.equal(a, b) for a, b in zip(nets[HEAD].backbone.parameters(), nets[CLASSIFIER].backbone.parameters()))
    noted = run.note['stages'][HEAD]['info']
    assert set(noted) == {'dense', 'none', 'zero'} and noted['dense']['loss'] > 0
    assert [side.row['method'] for side in choose_sides([run], None, None, None)] == [CAM, HEAD]


def test_each_picture_is_looked_at_once_for_mining_clusters_and_head(run):
    net, pool, train = run.net(CLASSIFIER), run.pool(), run.split('train')
    places = sorted((run.path/'features').iterdir())
    assert [place.name for place in places] == ['candidates-own', 'train-own'] and keeps_features(run.config)
    assert not keeps_features(replace(run.config, long_side=32, head=replace(run.config.head, long_side=64)))
    for place, split in zip(places, (pool, train)):
        ids = [id for block in _read_blocks(place) for id in block.ids]
        assert sorted(ids) == sorted(split.ids), 'each once'
    asked = dict(zip(pool.ids, predict_all(net, pool, title=None).p.max(1)))
    images = run.manifest().images
    assert max(abs(candidate.p - asked[id]) for id, candidate in images.items()) < 2e-3
    alone = execute(Run.create(run.path.parent/'alone', replace(run.config, data=f'scenes:{run.path}/scenes', wood_by='train')), 'clusters', str)
    assert not (alone.path/'features').exists()
    for name in ('features.npz', 'inside.npz'):
        ours, theirs = (FeatureStore.load(each.path/'clusters'/name) for each in (run, alone))
        assert ours.ids.tolist() == theirs.ids.tolist() and np.allclose(ours.features, theirs.features, rtol=2e-3, atol=2e-3)


def test_controls_have_names_and_looks_of_their_own():
    for name in CONTROLS:
        assert method_name(name) == CONTROLS[name].label and colour_of(name) == CONTROLS[name].colour and dash_of(name) == CONTROLS[name].dash
        assert name not in METHODS and colour_of(f'{name}+irn') == colour_of(name) and dash_of(f'{name}+irn') == METHODS['irn'].dash


def test_only_what_has_changed_is_done_again(run, capsys):
    made = (run.path/HEAD/'weights.safetensors').read_bytes()
    features = {file.name: file.stat().st_mtime_ns for file in (run.path/'features').rglob('*.npy')}
    said = []
    execute(Run(run.path), say=said.append)
    assert all('unchanged, skipped' in line for line in said)
    assert main(['head', str(run.path), '--kind', 'zero']) == 0
    after = Run(run.path)
    assert after.config.head.kind == 'zero' and after.config.wood_by == 'head' and (run.path/HEAD/'weights.safetensors').read_bytes() != made
    assert {file.name: file.stat().st_mtime_ns for file in (run.path/'features').rglob('*.npy')} == features, 'looked at once'
    assert 'head.kind' in capsys.readouterr().out
    assert main(['head', str(run.path), '--kind', 'dense']) == 0 and (run.path/HEAD/'weights.safetensors').read_bytes() == made, 'deterministic'
