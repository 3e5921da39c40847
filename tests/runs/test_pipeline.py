"""Run folders: what is done again and what is not, what people decided stays, what the run has not made is never touched."""
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wood_nb.runs import pipeline
from wood_nb.train.config import TrainConfig
from wood_nb.train.safe import stop_files, TrainingStopped
from wood_nb.base.files import DataError, read_json, write_json
from wood_nb.ood.kmeans import kmeans
from wood_nb.ood.manifest import Manifest
from wood_nb.runs.config import RunConfig
from wood_nb.runs.pipeline import chosen_by, execute, stages_of
from wood_nb.runs.run import clear_stage, fingerprint, Run, run_stage, STAGES, what_changed
from wood_nb.runs.tiny import tiny_run
from wood_nb.scores.tables import PerClassTable
from wood_nb.ood.wood import WOoDConfig


@pytest.fixture
def run(tmp_path) -> Run:
    "A copy of the shared run, without its maps."
    return Run(shutil.copytree(tiny_run().path, tmp_path/'run', ignore=shutil.ignore_patterns('maps', 'checkpoint*')))


@pytest.fixture
def quick(monkeypatch):
    "Mining without networks: the manifest of the run as it was mined, undecided."
    def mined(run, net, skipped):
        old = tiny_run().manifest()
        images = {id: replace(c, decision='undecided', contains=[], by=None, at=None, seconds=None) for id, c in old.images.items()}
        return Manifest(old.classes, images, old.pool, dict(old.source))
    monkeypatch.setattr(pipeline, 'mine_candidates', mined)
    monkeypatch.setattr(pipeline, 'flag_duplicates', lambda *args, **options: None)
    monkeypatch.setattr(pipeline, 'predict', lambda *args, **options: iter(()))
    monkeypatch.setattr(pipeline, 'typical_p', lambda predictions, inside: dict.fromkeys(range(20), .5))


def mined_again(run: Run, **options) -> Manifest:
    "The manifest after mining with other options."
    run.config = replace(run.config, **options)
    assert run_stage(run, 'mining')
    return run.manifest()


def kept(manifest: Manifest) -> set[str]: return set(manifest.with_decision('keep'))


@pytest.mark.parametrize('place', ['classifier', 'maps/images', 'wood'])
def test_data_in_a_folder_that_the_run_clears_are_refused(tmp_path, place):
    for config in (RunConfig(f'voc:{tmp_path/place}'), RunConfig(f'voc:{tmp_path}', candidates=str(tmp_path/place))):
        with pytest.raises(DataError, match='clears for itself'): Run.create(tmp_path, config)
    assert not (tmp_path/'run.json').exists()


@pytest.mark.parametrize('name', sorted(STAGES))
def test_what_no_run_has_made_is_never_deleted(tmp_path, name):
    mine = tmp_path/name/'mine.jpg'
    mine.parent.mkdir()
    mine.write_bytes(b'dear')
    run = Run.create(tmp_path, RunConfig(f'voc:{tmp_path}/elsewhere'))
    if STAGES[name].clears:
        with pytest.raises(DataError, match='no run has made it'): clear_stage(run, name)
    else:
        run.note['stages'][name] = {'fingerprint': 'of older options'}
        clear_stage(run, name)
    assert mine.read_bytes() == b'dear'


def test_a_stage_of_the_run_is_cleared(run):
    clear_stage(run, 'wood')
    assert not (run.path/'wood').exists() and (run.path/'continued').is_dir()


def test_another_rule_decides_anew_but_not_what_a_person_decided(run, quick):
    manifest = run.manifest()
    first = manifest.ranked('cat')[0]
    manifest.decide(first, 'drop', ['cat'], by='jane')
    manifest.save()
    assert kept(mined_again(run, prune='none')) == set(manifest.images) - {first}
    truth = {id for id, names in run.pool_truth().items() if not names}
    assert kept(mined_again(run, prune='truth')) == truth & set(manifest.images) - {first}
    some = kept(mined_again(run, let_in=.5))
    assert kept(mined_again(run, let_in=0.)) == truth & set(manifest.images) - {first} < some


def test_pruning_by_a_manifest_and_by_a_list(run, quick, tmp_path):
    other = tiny_run().manifest()
    picked = other.ranked('train')[:3]
    other.decide_each({id: ('keep' if id in picked else 'drop', [], '') for id in other.images}, by='jo')
    other.set_clusters({id: 0 for id in picked})
    other.rename_cluster(0, 'rails', by='jo')
    found = mined_again(run, prune=str(other.save(tmp_path/'jo.json')))
    assert kept(found) == set(picked) and found.images[picked[0]].by == 'jo' and found.cluster(0).name == 'rails'
    Run.create(run.path, run.config).path.joinpath('mining/manifest.json').unlink()
    (tmp_path/'ood_list.txt').write_text('\n'.join(other.images[id].file for id in picked[:2]))
    found = mined_again(run, prune=str(tmp_path/'ood_list.txt'))
    assert kept(found) == set(picked[:2]) and found.images[picked[0]].by == 'file:ood_list.txt'
    (tmp_path/'ood_list.txt').write_text('strange.jpg\n')
    with pytest.raises(DataError, match='none of its lines is a candidate'): mined_again(run)


def test_clusters_of_a_person_outlive_mining_and_clustering(run, quick):
    manifest = run.manifest()
    a, b = (c.id for c in manifest.clusters[:2])
    manifest.merge_clusters(a, [b], by='jane')
    manifest.rename_cluster(a, 'rails', by='jane')
    manifest.decide_cluster(a, 'drop', by='jane')
    manifest.save()
    wanted = [(c.name, c.decision, sorted(c.members)) for c in manifest.clusters]
    mined_again(run, let_in=.1)
    groups = lambda: [(c.name, c.decision, sorted(c.members)) for c in run.manifest().clusters]  # noqa: E731
    assert groups() == wanted
    assert run.manifest().grouped_by_hand() and not tiny_run().manifest().grouped_by_hand()


@pytest.mark.slow
def test_clustering_anew_leaves_the_clusters_of_a_person_alone(run):
    manifest = run.manifest()
    manifest.rename_cluster(manifest.clusters[0].id, 'rails', by='jane')
    manifest.save()
    run.config = replace(run.config, seed=5)
    run_stage(run, 'clusters')
    assert run.manifest().clusters[0].name == 'rails' and len(run.manifest().history) == len(manifest.history)


def centres_of(run: Run, monkeypatch, **options) -> np.ndarray:
    "The OoD centres that the loss of the stage `wood` sees; nothing is trained."
    seen = []
    monkeypatch.setattr('wood_nb.ood.wood.train', lambda net, split, config, loss, *rest: (seen.append(loss.centres), [{'step': 1}])[1])
    run.config = replace(run.config, wood=replace(run.config.wood, **options))
    STAGES['wood'].work(run)
    return seen[0].numpy()


def test_clusters_shown_are_clusters_trained(run, monkeypatch):
    "Two clusters merged, a picture dropped: one centre less, their mean. With --recluster the loss does not know of it."
    listed = run.path/'scenes/ImageSets/Segmentation/train.txt'
    listed.write_text(''.join(listed.read_text().splitlines(True)[::16]))
    before, own = centres_of(run, monkeypatch), centres_of(run, monkeypatch, recluster=True)
    assert np.allclose(before, run.features().centroids, atol=1e-5) and np.allclose(before, own, atol=1e-5), 'nobody has touched them'
    manifest = run.manifest()
    a, b = manifest.clusters[0], manifest.clusters[1]
    manifest.merge_clusters(a.id, [b.id], by='jane')
    manifest.save()
    rows = np.isin(run.features().ids, a.members + b.members)
    merged, shown = centres_of(run, monkeypatch, recluster=False), run.features()
    assert len(merged) == len(before) - 1 == shown.k and np.allclose(merged, shown.centroids, atol=1e-5), 'shown and trained are the same'
    assert np.allclose(merged[0], shown.features[rows].mean(0), atol=1e-4) and np.allclose(merged[1:], before[2:], atol=1e-5)
    manifest.decide(a.members[0], 'drop', by='jane')
    manifest.save()
    left = rows & (shown.ids != a.members[0])
    assert np.allclose(centres_of(run, monkeypatch)[0], shown.features[left].mean(0), atol=1e-4), 'what was dropped is left out'
    manifest.undo()
    manifest.save()
    assert np.allclose(centres_of(run, monkeypatch, recluster=True), own, atol=1e-5)


def test_merging_clusters_trains_again_and_naming_them_does_not(run, monkeypatch):
    marks = lambda: [fingerprint(run, name) for name in ('clusters', 'wood')]  # noqa: E731
    before, manifest = marks(), run.manifest()
    manifest.rename_cluster(manifest.clusters[0].id, 'rails', by='jane')
    manifest.save()
    assert marks() == before and pipeline._centres_from(run) == pipeline.PLAIN
    manifest.merge_clusters(manifest.clusters[0].id, [manifest.clusters[1].id], by='jane')
    manifest.save()
    merged = marks()
    assert merged[0] == before[0] and merged[1] != before[1] and 'the clusters of the OoD pictures' in what_changed(run, 'wood')
    assert pipeline._centres_from(run) == pipeline.BY_HAND
    run.note['stages']['wood']['info']['centres_from'] = pipeline.BY_HAND
    rows = [{**row, **pipeline.told_of_weights(run, row['method'])} for row in run.results()]
    assert 'OoD centres from the run' in PerClassTable.from_results(rows).caption and not any('centres_from' in r for r in rows if r['method'] == 'cam')
    manifest.split_cluster(manifest.clusters[0].id, [manifest.clusters[0].members[:2], manifest.clusters[0].members[2:]], by='jane')
    manifest.save()
    assert marks()[1] not in (before[1], merged[1])
    for _ in range(2): manifest.undo()
    manifest.save()
    assert marks() == before, 'undone'
    run.config = replace(run.config, wood=replace(run.config.wood, recluster=True))
    own = marks()
    manifest.redo()
    manifest.save()
    assert marks() == own and own[1] != before[1] and pipeline._centres_from(run) == pipeline.OWN


def test_clusters_of_a_run_start_as_its_config_says(run):
    "From the first rows, ten rounds, where the code's K-means is asked for."
    run.config = replace(run.config, wood=replace(run.config.wood, kmeans_start='first'))
    assert fingerprint(run, 'clusters') != fingerprint(Run(run.path), 'clusters')
    listed = run.path/'scenes/ImageSets/Segmentation/train.txt'
    listed.write_text(''.join(listed.read_text().splitlines(True)[::16]))
    STAGES['clusters'].work(run)
    store = run.features()
    labels, centres = kmeans(store.features, run.config.wood.clusters, 0, 'first', max_iter=10)
    assert np.array_equal(store.cluster, labels) and np.allclose(store.centroids, centres, atol=1e-5)
    assert not np.array_equal(labels, kmeans(store.features, run.config.wood.clusters, 0)[0])


def test_what_a_stage_reads_is_in_its_fingerprint(run, tmp_path):
    csv = tmp_path/'screened.csv'
    csv.write_text('image,contains\na.jpg,cat\n')
    run.config = replace(run.config, prune=str(csv))
    before = fingerprint(run, 'mining'), fingerprint(run, 'maps')
    csv.write_text('image,contains\na.jpg,\n')
    assert fingerprint(run, 'mining') != before[0]
    run.config = replace(run.config, splits=('train',))
    assert fingerprint(run, 'maps') != before[1]


def test_stop_in_the_run_folder_is_seen_everywhere(run):
    for place in ('wood', 'ablation/zero-label', 'refine/wood+irn', 'segmentation/wood/net'):
        assert run.path/'STOP' in stop_files(run.path/place), place
    assert stop_files(Path('somewhere/else')) == [Path('somewhere/else/STOP'), Path('somewhere').absolute()/'STOP']


def test_stop_between_stages(run):
    (run.path/'STOP').touch()
    with pytest.raises(TrainingStopped, match='before data; run again'): execute(run, say=lambda line: None)
    assert not (run.path/'STOP').exists()
    execute(run, 'wood', say=lambda line: None)      # all of it done: nothing is trained


def test_new_seeds_say_what_they_make_outdated(tmp_path, caplog):
    run = Run(shutil.copytree(tiny_run().path, tmp_path/'run'))
    rows = run.results()
    write_json(run.path/'metrics.json', {'format': 'wood_nb.metrics', 'version': 1, 'results': [*rows, {**rows[0], 'stage': 'mask'}]})
    run.config = replace(run.config, threshold=.3)
    run_stage(run, 'seeds')
    assert 'run wood refine' in caplog.text and {row['stage'] for row in run.results()} == {'seed'}
    assert {row['threshold'] for row in run.results()} == {.3}


@pytest.mark.parametrize('make, words', [
    (lambda: WOoDConfig(scale='mena'), "scale='mena'"), (lambda: WOoDConfig(tau=20), 'tau=20: must be a share'),
    (lambda: WOoDConfig(tau_scope='images'), 'tau_scope'), (lambda: WOoDConfig(unit='feat'), 'unit'), (lambda: WOoDConfig(clusters=1), 'clusters=1'),
    (lambda: TrainConfig(batch_size=0), 'batch_size=0'), (lambda: TrainConfig(lr=-1), 'lr=-1'), (lambda: TrainConfig(epochs='five'), "epochs='five'"),
    (lambda: RunConfig('voc:x', let_in=30), 'let_in=30'), (lambda: RunConfig('voc:x', seed='abc'), "seed='abc'"),
    (lambda: RunConfig('voc:x', ablation=('zero', 'distnce')), 'ablation'), (lambda: RunConfig('voc:x', splits=('train', '/my/list.txt')), 'ImageSets')])
def test_slips_in_options_are_refused_at_once(make, words):
    with pytest.raises(DataError, match=words): make()


def test_stages_without_candidates():
    assert stages_of(RunConfig('voc:x')) == ['data', 'classifier', 'maps', 'seeds', 'report']


@pytest.mark.slow
def test_weights_chosen_by_masks_say_so(run, monkeypatch):
    "One look every two steps; the best on val is kept, and rows and captions name the masks that chose."
    listed = run.path/'scenes/ImageSets/Segmentation/val.txt'
    listed.write_text(''.join(listed.read_text().splitlines(True)[:6]))
    few = replace(run.config.wood.train, steps=4, batch_size=4)
    run.config = replace(run.config, choose_by='val', wood=replace(run.config.wood, train=few, ood_batch=4, terms='zero-label'))
    chooser, looks = pipeline._chooser(run, 'wood', few), []
    assert chooser.every == len(run.split('train'))//4
    chooser.every, look = 2, chooser.look
    monkeypatch.setattr(chooser, 'look', lambda step, net: looks.append((step, look(step, net))))
    monkeypatch.setattr(pipeline, '_chooser', lambda *args: chooser)
    run_stage(run, 'wood')
    note = read_json(run.path/'wood/best.json', 'wood_nb.best')
    assert [step for step, _ in looks] == [2, 4] and note['miou'] == max(miou for _, miou in looks)
    assert (run.path/'wood/weights.safetensors').is_file() and not (run.path/'wood/best.safetensors').exists()
    rows = [{**row, **chosen_by(run.config, row['method'])} for row in run.results()]
    assert 'weights chosen on val masks' in PerClassTable.from_results(rows).caption
    assert 'chosen' not in PerClassTable.from_results(run.results()).caption.replace('chosen on train masks', '')


def test_masks_that_are_to_choose_must_exist(run, monkeypatch):
    run.config = replace(run.config, choose_by='val')
    monkeypatch.setattr(pipeline, 'has_masks', lambda split: False)
    with pytest.raises(DataError, match="choose_by='val': not all"): pipeline._chooser(run, 'wood', run.config.wood.train)
