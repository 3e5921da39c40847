"""No option can be forgotten: each field of RunConfig changes the fingerprint of a stage, or is listed with a reason."""
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from wood_nb.base.contents import Contents
from wood_nb.base.files import DataError
from wood_nb.data.images import write_mask
from wood_nb.maps.config import FickleConfig, SeamConfig
from wood_nb.masks.crf import CRF_PRESETS
from wood_nb.masks.learn import RECIPES
from wood_nb.masks.names import CRF_NAMES, RECIPE_NAMES
from wood_nb.ood.config import HeadConfig, WOoDConfig
from wood_nb.runs.config import RunConfig, STAGE_TEXTS
from wood_nb.runs.pipeline import stages_of
from wood_nb.runs.run import fingerprint, Run, stage, STAGES
from wood_nb.runs.tiny import tiny_run
from wood_nb.train.config import TrainConfig

NO_INFLUENCE = {'maps_batch': 'how many pictures go through the network at once',
                'film': 'maps that are written beside a training, to be looked at',
                'labels': 'where labels are read from; the labels themselves are in the marks of the lists',
                'links': 'which candidates there are; these are in the marks of the pool'}

OTHER = dict(candidates_list='some.txt', classes=('train', 'boat'), others='background', splits=('val', 'train'), backbone='resnet18', stride=8,
             weights='imagenet', classifier=TrainConfig(lr=.5), wood=WOoDConfig(tau=.5), mine='random', mine_threshold=.7, mine_per_class=3,
             prune='none', prune_counts='any', let_in=.5, ablation=('distance',), long_side=64, scales=(1.0, 2.0), mirror=False, full_maps=True, exact_maps=True, maps_long_side=48,
             wood_by='head', head=HeadConfig(places=9), also=('seam-ood',), seam=SeamConfig(reduce=.3), ficklenet=FickleConfig(window=3), threshold=.5, choose_by='val', scenes={'train': 3}, seed=7)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory) -> Run:
    "A copy of the shared run, without its maps."
    folder = tmp_path_factory.mktemp('runs')/'run'
    return Run(shutil.copytree(tiny_run().path, folder, ignore=shutil.ignore_patterns('maps', 'checkpoint*')))


@pytest.fixture(scope='module')
def listed(drawn) -> Run:
    "The same pictures, as a VOC folder with a folder of candidates."
    run = Run(drawn.path)
    run.config = replace(run.config, data=f'voc:{run.path}/scenes', candidates=f'{run.path}/scenes/pool', prune='auto', wood_by='both', also=('seam', 'ficklenet'))
    return run


def changed(run: Run, **options) -> str | None:
    "The first stage whose fingerprint these options change."
    other = Run(run.path)
    other.config = replace(run.config, **options)
    names = stages_of(other.config)
    if names != (own := stages_of(run.config)): return next(n for n in [*names, *own] if n not in names or n not in own)
    return next((name for name in names if fingerprint(other, name) != fingerprint(run, name)), None)


@pytest.mark.parametrize('name', [f.name for f in fields(RunConfig) if f.name not in NO_INFLUENCE])
def test_every_option_changes_a_fingerprint(name, drawn, listed):
    pool = Path(listed.config.candidates)
    (pool/'some.txt').write_text('\n'.join(sorted(o.name for o in pool.glob('*.jpg'))[:5]))
    twin = shutil.copytree(listed.path/'scenes', listed.path/'twin', dirs_exist_ok=True) if name in ('data', 'candidates') else None
    other = {'data': f'voc:{twin}', 'candidates': f'{twin}/ood_twin', 'candidates_list': str(pool/'some.txt')}.get(name, OTHER.get(name))
    if name == 'contexts':
        other = f'{listed.path}/contexts'
        Path(other).mkdir()
        (Path(other)/'context_classes.txt').write_text('1 water')
    if name == 'candidates': shutil.copytree(twin/'pool', other, ignore=shutil.ignore_patterns('*0.jpg'), dirs_exist_ok=True)
    run = drawn if name == 'scenes' else listed
    assert getattr(run.config, name) != other and changed(run, **{name: other}), f'no stage depends on {name}: say so in NO_INFLUENCE, with the reason'


def test_what_has_no_influence_is_an_option(listed):
    assert set(NO_INFLUENCE) <= {f.name for f in fields(RunConfig)}
    assert changed(listed, labels='masks') is None  # drawn annotations and masks name the same classes


def test_stages_depend_on_fields_that_exist(drawn):
    for step in STAGES.values():
        step.depends(drawn)
        assert set(step.needs) <= set(STAGES)


def test_stages_are_those_that_help_tells_of(): assert list(STAGES) == list(STAGE_TEXTS)


def test_a_stage_has_to_be_told_of():
    with pytest.raises(DataError, match='STAGE_TEXTS'): stage('dreaming')(lambda run: {})
    with pytest.raises(DataError, match='not in CLEARED'): stage('seeds', clears=True)(lambda run: {})


def test_runs_of_before_stay_valid():
    "The order in which a stage reads its options stays; only marks of files may differ (the shared run may be a copy)."
    run = tiny_run()
    old = [name for name in stages_of(run.config) if fingerprint(run, name) != run.note['stages'][name]['fingerprint']]
    assert set(old) <= {'mining'}


def test_names_known_without_torch():
    assert CRF_NAMES == tuple(CRF_PRESETS) and RECIPE_NAMES == tuple(RECIPES)


def test_a_report_depends_on_context_masks_that_are_files(listed, tmp_path):
    "Drawn scenes have none, so that reports of before stay as they are; masks beside photographs count by what they hold."
    run = Run(listed.path)
    run.config = replace(listed.config, contexts=str(tmp_path))
    (tmp_path/'context_classes.txt').write_text('1 water\n2 sky\n')
    write_mask(tmp_path/f'{run.split("val").ids[0]}.png', np.ones((96, 96), np.uint8))
    assert STAGES['report'].depends(listed) is None and STAGES['report'].depends(run)
    marks = fingerprint(run, 'report')
    write_mask(tmp_path/f'{run.split("val").ids[0]}.png', np.full((96, 96), 2, np.uint8))
    run.contents = Contents(tmp_path/'contents.json')
    assert fingerprint(run, 'report') != marks
