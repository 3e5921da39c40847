"""Sweeps: nested subsets, what is shared with the base, resuming, several seeds and processes, the final segmentation."""
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from wood_nb.ood.features import FeatureStore
from wood_nb.base.files import DataError, read_json, write_json
from wood_nb.data.augment import Augment
from wood_nb.data.images import write_mask
from wood_nb.scores.printed import read_points
from wood_nb.runs.config import preset
from wood_nb.runs.pipeline import execute
from wood_nb.runs.run import is_done, Run, unlabelled_split
from wood_nb.masks.package import check_package
from wood_nb.masks.learn import PairAugment, recipe
from wood_nb.runs.final import explained, finish_point, recipe_for, segmentation_place, to_validate_on
from wood_nb.runs.share import keep_only, link_tree, mask_folder, open_point, run_point
from wood_nb.runs.sweep import (bases_of, distance_factor, grid_settings, nested_subsets, show_sweep, stand_in, sweep,
                                tasks_a1, tasks_a2)

torch.set_num_threads(1)


def config(data='scenes:', **options):
    made = preset('tiny', data, **options)
    small = replace(made.classifier, steps=6, augment=Augment.small(48), precision='no')
    return replace(made, classifier=small, wood=replace(made.wood, train=replace(small, lr=0.01), clusters=3, ood_batch=4),
                   mine_threshold=0.0, mirror=False, scenes={'train': 24, 'val': 8, 'ood': 4, 'pool': 48, 'size': 64})


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    "A run of a few steps on a few scenes, brought to its seeds."
    run = Run.create(tmp_path_factory.mktemp('runs')/'base', config())
    return execute(run, 'seeds', say=lambda line: None).path


@pytest.fixture(scope='module')
def store(base): return Run(base).features()


def tree(folder): return {str(o.relative_to(folder)): o.stat().st_mtime_ns for o in sorted(folder.rglob('*')) if o.is_file()}


# --- subsets ------------------------------------------------------------------------------------------------------------

def test_subsets_are_nested_and_spread_over_the_clusters():
    cluster = np.repeat([0, 1, 2], [60, 30, 10])
    store = FeatureStore([f'{n}' for n in range(100)], np.zeros((100, 2)), np.zeros((100, 1)), cluster, np.zeros((3, 2)))
    subsets = nested_subsets(store, [50, 10, 20, 100], seed=3)
    assert [len(o) for o in subsets.values()] == [10, 20, 50, 100] and set(subsets[10]) < set(subsets[20]) < set(subsets[50])
    for n in (10, 20, 50):
        counts = np.bincount(cluster[[int(o) for o in subsets[n]]], minlength=3)
        assert np.abs(counts - np.array([6, 3, 1])*n/10).max() <= 1, (n, counts)
    assert nested_subsets(store, [10], 3) == {10: subsets[10]} != nested_subsets(store, [10], 4)
    with pytest.raises(DataError, match='between 0 and 100'): nested_subsets(store, [101])


# --- one point ----------------------------------------------------------------------------------------------------------

def test_a_point_shares_what_does_not_change(base, tmp):
    before = tree(base)
    point = run_point(tmp/'p', base, {'tau': 0.5, 'distance_weight': 1.0})
    stages = point.note['stages']
    assert [n for n in stages if stages[n].get('adopted')] == ['data', 'classifier', 'mining', 'clusters', 'continued']
    assert point.config.wood.tau == 0.5 and is_done(point, 'seeds') and {o['method'] for o in point.results()} == {'cam', 'wood'}
    mine, theirs = ({(o['method'], o['split']): o['miou'] for o in Run(p).results()} for p in (tmp/'p', base))
    assert mine['cam', 'val'] == theirs['cam', 'val'] and tree(base) == before
    assert (tmp/'p/maps/cam/val').is_dir() and (tmp/'p/classifier/weights.safetensors').stat().st_ino == (base/'classifier/weights.safetensors').stat().st_ino


def test_a_finished_point_is_not_done_again(base, tmp):
    run_point(tmp/'p', base, {'tau': 0.5})
    before = {k: v for k, v in tree(tmp/'p').items() if k != 'run.json'}
    run_point(tmp/'p', base, {'tau': 0.5})
    assert {k: v for k, v in tree(tmp/'p').items() if k != 'run.json'} == before


def test_a_point_of_fewer_pictures(base, store, tmp):
    ids = nested_subsets(store, [5])[5]
    point = run_point(tmp/'p', base, {'clusters': 2}, ids)
    assert sorted(point.ood().ids) == ids and len(point.features()) == 5 and point.features().k == 2
    assert not point.note['stages']['clusters'].get('adopted') and len(Run(base).ood()) == len(store)
    manifest = point.manifest()
    assert {manifest.images[o].by for o in manifest.with_decision('drop')} >= {'auto:not in the subset'}


def test_an_unfinished_base_is_refused(base, tmp):
    Run.create(tmp/'new', config())
    with pytest.raises(DataError, match="stage 'data' is not finished"): run_point(tmp/'p', tmp/'new', {})
    with pytest.raises(DataError, match='run it to its seeds'): sweep('A1', tmp/'s', [tmp/'new'])


def test_links_are_for_files_that_are_written_whole(tmp):
    (tmp/'a').mkdir()
    (tmp/'a/w.safetensors').write_text('w')
    (tmp/'a/train.jsonl').write_text('1')
    link_tree(tmp/'a', tmp/'b')
    assert (tmp/'b/w.safetensors').stat().st_ino == (tmp/'a/w.safetensors').stat().st_ino
    assert (tmp/'b/train.jsonl').stat().st_ino != (tmp/'a/train.jsonl').stat().st_ino


def test_taking_over_a_stage_can_be_begun_again(base, tmp):
    "A sweep stopped in the middle of linking: what is there already is let be, and what is missing comes."
    run_point(tmp/'p', base, {'tau': 0.5})
    point = Run(tmp/'p')
    del point.note['stages']['classifier']
    point.save()
    (tmp/'p/classifier/train.jsonl').unlink()
    assert run_point(tmp/'p', base, {'tau': 0.5}).note['stages']['classifier']['adopted'] == 'base'
    assert (tmp/'p/classifier/train.jsonl').read_bytes() == (base/'classifier/train.jsonl').read_bytes()


def test_a_link_is_replaced_not_written_through(tmp, monkeypatch):
    "Another file under the name is taken away, whole; its other names keep what they had. Also on a disk without links."
    for name, text in (('old/w.npz', 'old'), ('a/w.npz', 'new'), ('a/metrics.json', 'new')): (tmp/name).parent.mkdir(exist_ok=True), (tmp/name).write_text(text)
    for links in (True, False):
        target = tmp/f'b-{links}'
        link_tree(tmp/'old', target)
        (target/'metrics.json').write_text('a longer text than the new one')
        with monkeypatch.context() as patch:
            if not links: patch.setattr('os.link', lambda a, b: (_ for _ in ()).throw(OSError('no links here')))
            link_tree(tmp/'a', target)
        assert (target/'w.npz').read_text() == (target/'metrics.json').read_text() == 'new' and (tmp/'old/w.npz').read_text() == 'old'
        assert sorted(o.name for o in target.iterdir()) == ['metrics.json', 'w.npz']


def test_what_stands_for_a_base_follows_it(base, tmp):
    "Figures of the base as it was are not kept when it has been run again otherwise."
    run = Run(shutil.copytree(base, tmp/'run'))
    stand_in(run, tmp/'s')
    (tmp/'s/mine').touch()
    stand_in(run, tmp/'s')
    assert (tmp/'s/mine').is_file()
    run.config = replace(run.config, threshold=0.5)
    write_json(run.path/'metrics.json', {**read_json(run.path/'metrics.json', 'wood_nb.metrics'), 'results': []})
    stand_in(run, tmp/'s')
    assert not (tmp/'s/mine').exists() and Run(tmp/'s').results() == [] and Run(base).results()


# --- whole sweeps -------------------------------------------------------------------------------------------------------

def test_sweep_a1_from_a_finished_run(base, store, tmp):
    before = tree(base)
    with pytest.warns(UserWarning, match=f'has {len(store)} OoD pictures, so there is no point of 1000000'):
        runs = sweep('A1', tmp/'s', [base], sizes=(0, 5, 10**6, 'all'))
    points = read_points(runs, 'A1', 'seed', 'val')
    assert [o['images'] for o in points] == [0, 5, len(store)] and tree(base) == before
    rows = {(o['method'], o['split']): o['miou'] for o in Run(base).results()}
    assert points[0].miou == (rows['cam', 'val'],) and points[2].miou == (rows['wood', 'val'],)
    assert show_sweep('A1', runs, split='val').png()[:4] == b'\x89PNG' and runs == sweep('A1', tmp/'s', [base], sizes=(0, 5, 'all'))


def test_sweep_a2_over_any_grid(base, tmp):
    runs = sweep('A2', tmp/'s', [base], grid=[(20, 0.01), (40, 0.02)], factor=2)
    points = read_points(runs, 'A2', 'seed', 'train')
    assert [(o['tau'], o['lambda']) for o in points] == [(20, 0.02), (40, 0.04)] and show_sweep('A2', runs).png()[:4] == b'\x89PNG'
    assert Run(runs[0]).config.wood.distance_weight == 0.02 and Run(runs[0]).config.wood.tau == 0.2
    assert read_json(runs[0]/'point.json', 'wood_nb.point')['points'] == [{'sweep': 'A2', 'method': 'wood', 'setting': {'tau': 20.0, 'lambda': 0.02}}]


@pytest.mark.slow
def test_two_seeds_in_two_processes_are_the_same_sweep(tmp):
    few = replace(config(), scenes={'train': 16, 'val': 4, 'ood': 4, 'pool': 24, 'size': 48})
    both = [sweep('A1', tmp/f'{jobs}', few, seeds=(0, 1), jobs=jobs, sizes=(0, 4)) for jobs in (1, 2)]
    points = [read_points(runs, 'A1', 'seed', 'val') for runs in both]
    assert len(points[0]) == 2 and all(len(o.miou) == 2 for o in points[0])
    for a, b in zip(*points): assert a.setting == b.setting and np.allclose(a.miou, b.miou, atol=0.5)


def test_the_printed_grid_and_its_scale(base, store):
    printed, ours = grid_settings(), grid_settings(distance_factor(Run(base)))
    assert len(printed) == 16 and printed[6] == {'tau': 20.0, 'lambda': 0.007} and {o['tau'] for o in printed} == {10, 20, 30, 40}
    ratios = [b['lambda']/a['lambda'] for a, b in zip(printed, ours)]
    assert np.allclose(ratios, ratios[0], rtol=1e-3) and ratios[0] > 0
    run = Run(base)
    run.config = replace(run.config, wood=replace(run.config.wood, unit='feature'))
    assert distance_factor(run) == store.k
    run.config = replace(run.config, wood=replace(run.config.wood, scale='sum'))
    assert distance_factor(run) == 1


def test_what_cannot_be_swept(base, tmp):
    with pytest.raises(DataError, match='say A1'): sweep('A3', tmp, [base])
    with pytest.raises(DataError, match='no candidates'): bases_of(tmp, preset('small', 'voc:here'))
    assert [o.wood for o in tasks_a2(tmp, base, [{'tau': 30, 'lambda': 0.5}])] == [{'tau': 0.3, 'distance_weight': 0.5}]
    assert len(tasks_a1(tmp, base, (0,))) == 1 and tasks_a1(tmp, base, (0,))[0].method == 'cam'
    assert [o.setting['images'] for o in tasks_a1(tmp, base, ('classes',))] == [len(Run(base).split('train').classes)]
    for size in ('many', -1):
        with pytest.raises(DataError, match=f"size '{size}': say a number of pictures, or classes, all"): tasks_a1(tmp, base, (size,))


def test_only_usable_pictures_are_left_out(base, store, tmp):
    point = run_point(tmp/'p', base, {'tau': 0.5})
    keep_only(point, store.ids.tolist())
    assert sorted(point.ood().ids) == sorted(store.ids.tolist())


# --- the final segmentation ---------------------------------------------------------------------------------------------

def test_a_sweep_can_go_on_to_the_final_segmentation(base, tmp):
    made = recipe('scenes', steps=2, batch_size=4, augment=PairAugment((1.0,), 48), precision='no')
    runs = sweep('A1', tmp/'s', [base], sizes=(0, 'all'), made=made)
    points = read_points(runs, 'A1', 'segmentation', 'val')
    assert len(points) == 2 and not (base/'segmentation').exists() and not (base/'masks-seed').exists()


SHORT = {'batch_size': 4, 'augment': PairAugment((1.0,), 48), 'precision': 'no'}


def test_networks_have_folders_of_their_own(base, tmp):
    "A second network on the same masks does not meet the first one's folder; each is found again."
    run = run_point(tmp/'p', base, {'tau': 0.5})
    tiny, other = recipe('scenes', steps=1, **SHORT), recipe('scenes', steps=1, network='deeplab_mobilenet', **SHORT)
    for made in (tiny, other, tiny, other): finish_point(run, 'wood', made)
    assert sorted(o.name for o in (tmp/'p/segmentation').iterdir()) == ['wood', 'wood@deeplab_mobilenet']
    assert segmentation_place(run, 'cam', 'deeplab_tiny') == tmp/'p/segmentation/cam'
    assert {o['network'] for o in run.results() if o['stage'] == 'segmentation'} == {'deeplab_tiny', 'deeplab_mobilenet'}


def test_segmentation_can_be_validated_while_it_trains(base, tmp, monkeypatch):
    "wood segment --every N: a curve and a picture; off unless asked for; the same weights."
    from wood_nb.cli.parser import main
    run_point(tmp/'p', base, {'tau': 0.5})
    monkeypatch.setattr('wood_nb.masks.learn.recipe', lambda name, **o: recipe(name, **{**SHORT, **o}))
    for method, more in (('wood', ['--every', '1']), ('cam', [])): assert main(['segment', 'p', '--methods', method, '--steps', '2', *more]) == 0
    rows = (tmp/'p/segmentation/wood/validation.jsonl').read_text().splitlines()
    assert len(rows) == 2 and '"val"' in rows[0] and (tmp/'p/segmentation/wood/progress.png').is_file() and not (tmp/'p/segmentation/cam/progress.png').exists()
    page = (tmp/'p/report.html').read_text(encoding='utf-8')
    assert 'boundary F and what is confused with what' in page
    assert len(read_json(tmp/'p/segmentation/wood/masks/val/evaluation.json', 'wood_nb.evaluation')['co_occurrence']) == len(Run(base).split('val').classes)
    assert explained(Run(base)).keywords['store'].k == Run(base).features().k
    with pytest.raises(SystemExit): main(['segment', 'p', '--every', '0'])


def test_segmentation_with_the_cross_image_block(base, tmp, monkeypatch, capsys):
    "wood segment --cross: a network beside the plain one, named so in rows, report and table; wood package finds it, too."
    from wood_nb.cli.parser import main
    from wood_nb.scores.printed import table_a3
    run_point(tmp/'p', base, {'tau': 0.5})
    monkeypatch.setattr('wood_nb.masks.learn.recipe', lambda name, **o: recipe(name, **{**SHORT, **o}))
    words, cross = ['--steps', '2'], ['--cross', '--skip-alone', '--cross-ood', '0.1']
    for more in ([], cross): assert main(['segment', 'p', '--methods', 'wood', *words, *more]) == 0
    assert 'W-OoD + CIAN, val: ' in capsys.readouterr().out
    assert sorted(o.name for o in (tmp/'p/segmentation').iterdir()) == ['wood', 'wood+cian']
    assert {o['method'] for o in Run(tmp/'p').results() if o['stage'] == 'segmentation'} == {'wood', 'wood+cian'}
    assert 'loss/ood' in (tmp/'p/segmentation/wood+cian/train.jsonl').read_text()
    assert 'W-OoD + CIAN' in (tmp/'p/report.html').read_text(encoding='utf-8')
    assert 'W-OoD + CIAN' in repr(table_a3('val', [tmp/'p']))
    assert main(['package', 'p', 'val', '--method', 'wood', *words, *cross]) == 0 and (tmp/'p/segmentation/wood+cian/val.tgz').is_file()
    assert main(['segment', 'p', '--cross-ood', '0.1']) == 2 and 'give --cross, too' in capsys.readouterr().err


def test_a_split_without_masks_cannot_be_validated_on(base, tmp):
    run = Run(shutil.copytree(base, tmp/'p'))
    for file in (run.path/'scenes/SegmentationClass').glob('val*.png'): file.unlink()
    with pytest.raises(DataError, match="'val' has no masks to validate on; train without --every"): to_validate_on(Run(tmp/'p'))


def test_masks_ignored_everywhere_can_be_left_out(base, tmp, capsys, monkeypatch):
    from wood_nb.cli.parser import main
    run = run_point(tmp/'p', base, {'tau': 0.5})
    masks = mask_folder(run, 'wood')
    write_mask(masks/f"{run.split('train').ids[0]}.png", np.full((64, 64), 255, np.uint8))
    monkeypatch.setattr('wood_nb.masks.learn.recipe', lambda name, **o: recipe(name, **{**SHORT, **o}))
    words = ['segment', 'p', '--methods', 'wood', '--steps', '1']
    assert main(words) == 2 and '--skip-ignored' in capsys.readouterr().err
    assert main([*words, '--skip-ignored']) == 0


def test_sweep_options_of_the_command_line(base, store, tmp, capsys):
    "Sizes, a grid, seeds; what does not fit is one line."
    from wood_nb.cli.parser import main
    assert main(['sweep', 'A1', str(base), '--out', 'a', '--sizes', '0,5,all']) == 0
    assert [o['images'] for o in read_points(list((tmp/'a').iterdir()), 'A1', 'seed', 'val')] == [0, 5, len(store)]
    assert main(['sweep', 'A2', str(base), '--out', 'b', '--grid', '20:0.01,40:0.02', '--factor', '2']) == 0
    assert sorted(o.name for o in (tmp/'b').iterdir()) == ['A2-20-0.02-0', 'A2-40-0.04-0']
    capsys.readouterr()
    for words, said in ((['A1', str(base), '--sizes', 'some'], "size 'some'"), (['A1', str(base), str(base), '--seeds', '0,1'], 'leave one')):
        assert main(['sweep', *words, '--out', 'c']) == 2 and said in capsys.readouterr().err
    with pytest.raises(SystemExit): main(['sweep', 'A2', str(base), '--out', 'c', '--grid', '20'])


def test_seeds_of_the_command_line_make_bases(base, tmp, monkeypatch):
    from wood_nb.cli import parser
    asked = {}
    def told(kind, folder, config, seeds, **rest): asked.update(config=config, seeds=seeds); return []
    monkeypatch.setattr('wood_nb.runs.sweep.sweep', told)
    monkeypatch.setattr('wood_nb.scores.printed.paper_table', lambda *o, **k: '')
    assert parser.main(['sweep', 'A1', str(base), '--out', 'c', '--seeds', '0,1,2']) == 0
    assert asked == {'config': Run(base).config, 'seeds': (0, 1, 2)}


def test_refined_masks_come_before_seeds(base, tmp):
    run = run_point(tmp/'p', base, {'tau': 0.5})
    assert mask_folder(run, 'wood') == tmp/'p/masks-seed/wood/train' and len(list(mask_folder(run, 'wood').glob('*.png'))) == 24
    (tmp/'p/masks/wood/train').mkdir(parents=True)
    (tmp/'p/masks/wood/train/x.png').touch()
    assert mask_folder(run, 'wood') == tmp/'p/masks/wood/train'
    with pytest.raises(DataError, match="no seeds of method 'advcam'"): mask_folder(run, 'advcam')
    with pytest.raises(DataError, match='no such mask'): finish_point(run, 'wood', recipe('scenes', steps=1))


def test_points_have_no_ablation_of_their_own(base, tmp_path):
    "What the base measures beside W-OoD is not measured again at every point."
    run = Run(base)
    run.config = replace(run.config, ablation=('zero-label',))
    assert open_point(tmp_path/'point', run, {'tau': .3}).config.ablation == () and Run(tmp_path/'point').config.wood.tau == .3


def test_a_package_of_a_list_without_labels(base, tmp, capsys):
    "A test list has pictures only; its masks come out as the server takes them, and the network is trained once."
    from wood_nb.cli.parser import main
    run = Run(shutil.copytree(base, tmp/'p'))
    voc, ids = run.path/'scenes', run.split('val').ids[:2]
    (voc/'ImageSets/Segmentation/test.txt').write_text('\n'.join(ids) + '\n')
    for id in ids: (voc/f'SegmentationClass/{id}.png').unlink()
    for out in ('a.tgz', 'b.tar'):
        assert main(['package', 'p', 'test', '--steps', '1', '--method', 'truth', '--out', out]) == 0
        with tarfile.open(out) as tar: names = tar.getnames()
        assert names == [f'results/VOC2012/Segmentation/comp6_test_cls/{id}.png' for id in ids]
        assert check_package(out, unlabelled_split(run, 'test')) == 2
    assert str((tmp/'a.tgz').resolve()) in capsys.readouterr().out
    assert main(['package', 'p', 'none', '--steps', '1']) == 2 and 'none.txt' in capsys.readouterr().err
    run.config = replace(run.config, data='csv:x.csv')
    with pytest.raises(DataError, match='csv:x.csv.*not a folder in the VOC layout'): unlabelled_split(run, 'test')


def test_a_recipe_takes_the_weights_of_the_run(base):
    "No download where the run already had a file for the same backbone; another backbone, another start."
    run = Run(base)
    run.config = replace(run.config, seed=3, backbone='mobilenet_v2', weights='here.safetensors')
    assert recipe_for(run, recipe('small')).weights == 'here.safetensors' and recipe_for(run, recipe('small')).train.seed == 3
    assert recipe_for(run, recipe('small', weights='other.pth')).weights == 'other.pth'
    assert recipe_for(run, recipe('advcam-recipe')).weights == 'imagenet' and recipe_for(run, recipe('scenes')).weights is None
    run.config = replace(run.config, weights='imagenet')
    assert recipe_for(run, recipe('small')).weights == 'imagenet'
    run.config = replace(run.config, backbone='wideresnet38', weights='wr38.pth')
    assert recipe_for(run, recipe('wr38')).weights == 'wr38.pth'
