"""Refinement of a run: what is judged on what, and what a run that cannot be refined is told. The lesson runs the whole of it."""
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wood_nb.maps.advcam import AdvCAMConfig
from wood_nb.base.files import DataError, read_json, write_json
from wood_nb.data.splits import Item, Split
from wood_nb.runs.run import Run
from wood_nb.runs.tiny import tiny_run
from wood_nb.runs.config import preset
from wood_nb.runs.refine import (climbing_config, drop_outdated, irn_config, mask_sets, network_of, refine, RefineConfig, refined_methods,
                                 ssdd_pairs, to_judge)
from wood_nb.masks.learn import recipe
from wood_nb.runs.final import recipe_crf


def split(n: int = 10) -> Split: return Split('val', [Item(f'i{k}', Path(f'i{k}.png'), (0,)) for k in range(n)], ('a', 'b'))


@pytest.mark.parametrize('masks, limit, parts', [(10, 0, [('val', 10)]), (10, None, [('val', 10)]), (10, 4, [('val', 10), ('val[:4]', 4)]),
                                                 (4, 4, [('val[:4]', 4)]), (10, 10, [('val', 10)]), (10, 99, [('val', 10)])])
def test_every_method_is_judged_where_advcam_is(masks, limit, parts):
    assert [(part.name, len(part)) for part in to_judge(split(), masks, limit)] == parts


def test_methods_in_the_order_of_the_table():
    assert refined_methods(RefineConfig(advcam=3)) == ['cam', 'wood', 'cam+advcam', 'wood+advcam', 'cam+irn', 'wood+irn']
    assert refined_methods(RefineConfig(methods=('wood',), irn=False)) == ['wood']


def test_small_pictures_have_a_smaller_crf_and_a_shorter_walk():
    small = RefineConfig.small(128)
    assert small.crf_scale == small.walking.crf_scale == 500/128 and small.walking.steps < RefineConfig().walking.steps


def test_bad_input_is_named():
    with pytest.raises(DataError, match='irn-label'): RefineConfig(crf='no such thing')

    class FakeRun:
        path = 'here'
        config = type('C', (), dict(candidates=None, data='voc:x', ablation=(), also=(), wood_by='train'))
    with pytest.raises(DataError, match="no method 'wood' in this run; it has cam"): network_of(FakeRun, 'wood')


def test_the_crf_of_a_recipe_mends_probabilities():
    rng, image = np.random.default_rng(0), np.full((20, 24, 3), 60, np.uint8)
    image[:, 12:] = 200
    p = np.where(np.arange(24) < 12, .7, .3)*np.ones((20, 1)) + rng.normal(0, .25, (20, 24)).clip(-.29, .29)
    p = np.stack([p, 1 - p]).clip(.01, .99).astype(np.float32)
    mended = recipe_crf(recipe('advcam-recipe'))(image, p)
    assert mended.shape == p.shape and np.allclose(mended.sum(0), 1, atol=1e-4)
    wrong = lambda q: (q.argmax(0) != (np.arange(24) >= 12)).mean()  # noqa: E731
    assert wrong(mended) < wrong(p)


def test_a_row_without_a_threshold_is_a_line_too():
    from wood_nb.cli.commands import result_line
    row = dict(method='wood+irn', stage='segmentation', split='val', miou=36.7, threshold=None, crf=True, other_classes='ignore')
    assert result_line(row) == 'W-OoD + IRN + CRF  val      mIoU  36.7  other classes: ignore (segmentation)'


def trimmed_run(folder: Path) -> Run:
    "A copy of the small run with the first eight scenes of each split."
    run = Run(shutil.copytree(tiny_run().path, folder/'run'))
    for name in ('train', 'val'):
        listed = run.path/f'scenes/ImageSets/Segmentation/{name}.txt'
        listed.write_text(''.join(listed.read_text().splitlines(True)[:8]))
    return run


@pytest.mark.slow
def test_what_climbs_may_walk(tmp_path):
    "AdvCAM of all images, then IRN and PSA on its maps: the chain of the paper's final figures, on a cut-down run; then once more."
    run = trimmed_run(tmp_path)
    small = RefineConfig.small(96, methods=('wood',), advcam=None, psa=True, crf=None, climbing=AdvCAMConfig(iterations=2, scales=(1.0,)))
    short = lambda config: replace(config, train=replace(config.train, steps=2, batch_size=4), crf=None)  # noqa: E731
    small = replace(small, walking=short(small.walking), affine=short(small.affine))
    run = Run.create(run.path, replace(run.config, exact_maps=True))
    said = []
    rows = refine(run, small, said.append)
    assert [row['method'] for row in rows if row['split'] == 'val'] == refined_methods(small) == [
        'wood', 'wood+advcam', 'wood+irn', 'wood+psa', 'wood+advcam+irn', 'wood+advcam+psa']
    assert 'W-OoD + AdvCAM + IRN, val: ' in '\n'.join(said) and all(row['images'] == 8 for row in rows)
    assert len(list((run.path/'masks/wood+advcam+irn/val').glob('*.png'))) == 8
    for name in ('wood+advcam', 'wood+irn', 'wood+psa'):
        with np.load(next((run.path/'maps'/name/'val').glob('*.npz'))) as maps: assert maps['cam_stride4'].dtype == np.float32, name
    assert [row['miou'] for row in refine(run, small, said.append)] == [row['miou'] for row in rows]
    assert network_of(run, 'wood+advcam') == 'wood' and irn_config(small, 'cam+advcam').foreground == .35


def test_surely_an_object_is_what_each_script_says():
    "0.35 for AdvCAM of a plain classifier (AdvCAM's script), 0.30 for that of W-OoD (W-OoD's), 0.30 without AdvCAM."
    levels = {before: irn_config(RefineConfig(), before).foreground for before in ('cam', 'cam+advcam', 'wood', 'wood+advcam', 'wood-distance+advcam')}
    assert levels == {'cam': .30, 'cam+advcam': .35, 'wood': .30, 'wood+advcam': .30, 'wood-distance+advcam': .30}


def test_advcam_counts_half_size_as_the_code_where_the_run_follows_the_code():
    class FakeRun:
        config = preset('official', 'voc:x', scales=(1.0, .5))
    how = climbing_config(FakeRun, RefineConfig())
    assert how == AdvCAMConfig.official(scales=(1.0, .5)) and how.weight(.5) == 1
    assert climbing_config(FakeRun, RefineConfig(advcam_halves='twice')) == AdvCAMConfig(scales=(1.0, .5))
    for name in ('paper', 'default', 'small'):
        FakeRun.config = preset(name, 'voc:x')
        assert climbing_config(FakeRun, RefineConfig()).weight(.5) == 2 and not climbing_config(FakeRun, RefineConfig(advcam_halves='once')).compensate


def test_masks_of_another_threshold_make_room(tmp_path):
    (tmp_path/'a.png').touch()
    write_json(tmp_path/'masks.json', {'format': 'wood_nb.masks', 'version': 1, 'threshold': .2})
    drop_outdated(tmp_path, .2)
    assert (tmp_path/'a.png').exists()
    drop_outdated(tmp_path, .3)
    assert not tmp_path.exists()


def test_knowledge_and_advice_of_ssdd():
    pairs = lambda **options: ssdd_pairs(RefineConfig(methods=('cam', 'wood'), **options))  # noqa: E731
    assert pairs() == []
    assert pairs(ssdd=True) == [('cam+irn', 'cam+irn+crf'), ('wood+irn', 'wood+irn+crf')]
    assert pairs(ssdd=True, irn=False) == [('cam', 'cam+crf'), ('wood', 'wood+crf')]
    assert pairs(ssdd=True, psa=True, advcam=None)[-1] == ('wood+advcam+psa', 'wood+advcam+psa+crf')
    assert pairs(knowledge='wood+irn', advice='cam+psa+crf') == [('wood+irn', 'cam+psa+crf')]
    assert RefineConfig(ssdd=True, ssdd_sign='swapped').choosing.rule.sign == 'swapped' and RefineConfig().choosing.rule.sign == 'paper'
    assert RefineConfig.small(96, accumulate=4).choosing.train.accumulate == 4 and RefineConfig.small(96).choosing.dilation == 3
    for options, words in (({'knowledge': 'wood'}, 'knowledge wood, advice None: name both'), ({'ssdd': True, 'crf': None}, 'name a CRF')):
        with pytest.raises(DataError, match=words): RefineConfig(**options)


@pytest.mark.slow
def test_ssdd_of_a_run(tmp_path):
    "From seeds and their CRF to masks of their own, rows, report and segmentation; done again, nothing changes; what does not fit is refused."
    from wood_nb.base.html import as_html
    from wood_nb.report.later import later_section
    from wood_nb.report.run_data import ReportData
    from wood_nb.runs.share import mask_folder
    run = trimmed_run(tmp_path)
    small = RefineConfig.small(96, methods=('wood',), irn=False, ssdd=True)
    small = replace(small, choosing=replace(small.choosing, train=replace(small.choosing.train, steps=2, batch_size=4)))
    said = []
    rows = refine(run, small, said.append)
    own = [row for row in rows if row['method'] == 'wood+ssdd']
    assert [row['split'] for row in own] == ['train', 'val'] and own[0]['threshold_from'] == 'train masks' and not own[0]['crf']
    assert own[0]['threshold'] == rows[0]['threshold'] and 'W-OoD + SSDD, val: ' in said[-1]
    assert mask_folder(run, 'wood+ssdd') == run.path/'masks/wood+ssdd/train' and len(list((run.path/'masks/wood+ssdd/val').glob('*.png'))) == 8
    weights = (run.path/'refine/wood+ssdd/weights.safetensors').stat().st_mtime_ns
    assert refine(run, small, said.append) == rows and (run.path/'refine/wood+ssdd/weights.safetensors').stat().st_mtime_ns == weights
    assert read_json(run.path/'refine/wood+ssdd/ssdd.json', 'wood_nb.ssdd')['advice'] == 'wood+crf'
    page = str(as_html(later_section(ReportData('run', run.note, run.results(), run.path, run.split('val'))).body))
    assert 'Step by step' in page and f'W-OoD + SSDD of {run.split("val").ids[0]}' in page
    again = replace(small, ssdd=False, knowledge='wood+crf', advice='wood')
    assert [row['method'] for row in refine(run, again, said.append)][-1] == 'wood+crf+ssdd' and 'wood+ssdd' in mask_sets(run, again)
    for options, words in (({'knowledge': 'wood', 'advice': 'wood+inr'}, "'wood\\+inr' is not a method here; there are wood, wood\\+crf, "),
                           ({'choosing': replace(small.choosing, width=8)}, 'was trained with other options'),
                           ({'ssdd_sign': 'swapped'}, 'holds masks made otherwise .rule differ.')):
        with pytest.raises(DataError, match=words): refine(run, replace(small, **options), said.append)
