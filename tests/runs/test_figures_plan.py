"""Figures A1-A4 on a run, and the plan of the reproduction."""
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.cli import parser
from wood_nb.cli import options
from wood_nb.runs import figures
from wood_nb.runs import plan
from wood_nb.runs.config import preset
from wood_nb.base.device import cores
from wood_nb.base.files import DataError
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.scores.printed import reported_rows


@pytest.fixture
def split(tmp):
    items = []
    for n in range(4):
        Image.new('RGB', (24, 16), (n*60, 90, 20)).save(f'{n}.png')
        write_mask(f'true/{n}.png', np.full((16, 24), n % 2, np.uint8))
        items.append(Item(f'{n}', tmp/f'{n}.png', (0,) if n % 2 else (), tmp/f'true/{n}.png'))
    return Split('val', items, ('boat',), raw_classes=1)


def test_pictures_at_random_are_the_same_for_the_same_seed():
    assert figures.at_random(range(100), 5, 1) == figures.at_random(range(100), 5, 1) != figures.at_random(range(100), 5, 2)
    assert figures.at_random([7], 5) == [7] and figures.at_random([], 5) == []


def test_pictures_of_a_class(split):
    assert figures.with_class(split, 'boat') == [1, 3]
    with pytest.raises(DataError, match="'train' is not a class"): figures.with_class(split, 'train')


def test_masks_of_several_folders_beside_each_other(split, tmp):
    picture = figures.figure_a4(split, {'ours': tmp/'true', 'theirs': tmp/'true'}, n=3)
    assert len(picture.axes) == 3*4 and 'at random (seed 0)' in picture.get_supxlabel() and picture.png()[:4] == b'\x89PNG'
    assert '>theirs</text>' in picture.save('a4.svg').read_text()
    with pytest.raises(DataError, match='there are none'): figures.figure_a4(split, {})
    with pytest.raises(DataError, match="no picture of split 'val' has a mask of each of ours, empty"):
        figures.figure_a4(split, {'ours': tmp/'true', 'empty': tmp/'nothing'})


def test_masks_of_the_beginning_of_a_split_are_drawn_from_it(split, tmp):
    "AdvCAM of the first pictures only: those are shown, and the caption says so."
    for n in range(2): write_mask(f'some/{n}.png', np.zeros((16, 24), np.uint8))
    picture = figures.figure_a4(split, {'all': tmp/'true', 'some': tmp/'some'})
    assert len(picture.axes) == 2*4 and 'of the 2 that have all masks' in picture.get_supxlabel()


class FakeRun:
    "A run folder with masks in it."
    def __init__(self, path, *also): self.path, self.config = path, SimpleNamespace(also=also)


def test_mask_folders_prefer_the_final_segmentation(tmp):
    for place in ('segmentation/wood/masks/val', 'segmentation/cam/masks/val', 'masks/wood/val', 'masks/advcam/val', 'masks/advcam/train'):
        write_mask(tmp/place/'x.png', np.zeros((2, 2), np.uint8))
    found = figures.mask_folders(FakeRun(tmp), 'val')
    assert list(found) == ['CAM', 'W-OoD', 'AdvCAM (pseudo masks)', 'W-OoD (pseudo masks)'] and found['W-OoD'] == tmp/'segmentation/wood/masks/val'
    assert list(figures.mask_folders(FakeRun(tmp), 'train')) == ['AdvCAM (pseudo masks)']


@pytest.mark.parametrize('places,names', [
    (['masks/cam', 'masks/cam+irn', 'masks/cam+irn+crf', 'masks/cam+advcam', 'masks/wood', 'masks/wood+irn', 'masks/wood+advcam', 'segmentation/cam', 'segmentation/wood'],
     ['CAM + IRN (pseudo masks)', 'CAM + AdvCAM (pseudo masks)', 'W-OoD + IRN (pseudo masks)']),
    (['segmentation/cam+irn', 'segmentation/cam+advcam+irn', 'segmentation/wood+irn', 'segmentation/wood+advcam+irn', 'segmentation/wood+advcam+irn@deeplab1_wideresnet38',
      'masks/cam+irn', 'masks/cam+advcam+irn', 'masks/wood+advcam+irn'], ['CAM + IRN', 'CAM + AdvCAM + IRN', 'W-OoD + AdvCAM + IRN']),
    (['segmentation/truth', 'segmentation/wood', 'segmentation/cam'], ['CAM', 'W-OoD']), ([], [])])
def test_figure_a4_shows_the_three_of_the_paper(places, names, tmp):
    "IRN, AdvCAM and ours, the furthest of each, of one kind; not a dozen columns."
    for place in places: write_mask(tmp/place/('masks/val' if place.startswith('seg') else 'val')/'x.png', np.zeros((2, 2), np.uint8))
    assert list(figures.paper_folders(FakeRun(tmp), 'val')) == names
    if places: write_mask(tmp/places[0].partition('/')[0]/'seam'/('masks/val' if places[0].startswith('seg') else 'val')/'x.png', np.zeros((2, 2), np.uint8))
    assert len(figures.paper_folders(FakeRun(tmp, 'seam'), 'val')) == len(names) + bool(places), 'and what was trained beside'
    assert ('W-OoD + AdvCAM + IRN, deeplab1_wideresnet38' in figures.mask_folders(FakeRun(tmp), 'val')) == any('@' in o for o in places)


# --- the plan -----------------------------------------------------------------------------------------------------------

def test_what_is_missing_is_named_first(tmp):
    made = plan.plan(tmp/'data')
    text = repr(made)
    assert text.startswith('## Missing') and sum('get it from' in o for o in made.missing) == 5 and 'measure first' in text
    for item in plan.DOWNLOADS:
        for name in item.files:
            place = tmp/'data'/name
            if place.suffix: place.parent.mkdir(parents=True, exist_ok=True), place.touch()
            else: place.mkdir(parents=True, exist_ok=True)
    assert not [o for o in plan.plan(tmp/'data').missing if 'get it from' in o]


def test_too_small_a_disk_is_found(tmp, monkeypatch):
    monkeypatch.setattr(plan.shutil, 'disk_usage', lambda p: type('usage', (), {'free': 3e9}))
    assert any(o.startswith('disk: 3 GB free') for o in plan.plan(tmp).missing)


@pytest.mark.skipif(torch.cuda.is_available(), reason='says what a machine without a GPU is told')
def test_no_gpu_is_said(tmp): assert any(o.startswith('GPU: none') for o in plan.plan(tmp).missing)


def test_hours_follow_from_measured_rates():
    rates = (plan.Rate('resnet50', 512, 16, 'no', 100.0, 10.0, 'a GPU'), plan.Rate('deeplab2_resnet101', 321, 10, 'bf16', 50.0, 9.0, 'a GPU'),
             plan.Rate('deeplab2_resnet101', 321, 10, 'no', 20.0, 11.0, 'a GPU'))
    made = plan.plan('.', rates)
    steps = {step.name: step for step in made.steps}
    read = plan.ESTIMATED.images_per_s
    assert made.hours(steps['classifier']) == pytest.approx(52_910/100/3600 + 52_910/read/3600)
    tried, hours = plan.TRAIN + plan.VAL, made.hours(steps['segmentation, ResNet-101, and val'])
    assert hours == pytest.approx(300_000/50/3600 + (300_000 + tried)/read/3600 + tried/3600/cores(), rel=0.01)
    faster = plan.plan('.', (*rates, plan.Rate(plan.READING, 512, 1, 'no', 1e9, None, 'here')))
    assert faster.hours(steps['classifier']) == pytest.approx(52_910/100/3600) and 'estimated' not in repr(faster) and 'estimated' in repr(made)
    assert plan.plan('.').hours(steps['classifier']) is None and 'Together: ' in repr(made) and '50 images/s, 9.0 GB (a GPU)' in repr(made)


def test_every_command_of_the_plan_is_understood(tmp):
    "And is the paper's chain: AdvCAM of all pictures with W-OoD, IRN on it, both networks, a CRF at the end."
    commands = [shlex.split(step.command)[1:] for step in plan.paper_steps('data') if step.command]
    understood = {tuple(words): parser.build_parser().parse_args(words) for words in commands}
    parsed = [o for words, o in understood.items() if words[0] != 'refine']
    assert {o.recipe for o in parsed[4:]} == {'advcam-recipe', 'wr38'} and all(o.crf for o in parsed[4:])
    for name, words in ((o.recipe, o) for o in parsed[4:]):
        assert 'wood+advcam+irn' in (words.method if hasattr(words, 'method') else words.methods) and getattr(words, 'weights', None) == ('data/weights/wideresnet38.pth' if name == 'wr38' else None)
    assert ['refine', 'runs/official', '--methods', 'wood', '--advcam', 'all'] in commands
    config = options.configured(parsed[0])
    assert (config.long_side, config.splits, config.wood) == (500, ('train_aug', 'train', 'val'), preset('official', 'x').wood)
    assert (config.prune, config.candidates, config.candidates_list) == ('none', 'data/ood', 'data/ood_list.txt')
    assert {'ood', 'ood_list.txt', plan.WR38} <= {name for item in plan.DOWNLOADS for name in item.files}


def test_measuring_leaves_nothing_unmeasured(tmp, monkeypatch, capsys):
    "What `wood plan --measure` measures is what the plan needs."
    def measured(network, crop, batch, precision='no', steps=3, pyramid=()): return plan.Rate(network, crop, batch, precision, 2.0, None, f'{pyramid}')
    monkeypatch.setattr(plan, 'measure_rate', measured)
    assert parser.main(['plan', '--root', 'data', '--measure']) == 0
    said = capsys.readouterr().out
    assert 'not measured' not in said and 'measure first' not in said and 'Together: ' in said
    reading, *others = plan.measure_rates()
    assert reading.network == plan.READING and reading.images_per_s > 1
    assert [(o.network, o.crop, o.device) for o in others] == [('resnet50', 512, '()'), ('deeplab2_resnet101', 321, '(0.5, 0.75)'), ('deeplab1_wideresnet38', 448, '()')]
    assert parser.main(['plan', '--root', 'data']) == 0 and 'measure first' in capsys.readouterr().out


def test_a_stage_that_does_not_fit_has_its_own_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda n: type('gpu', (), {'total_memory': 12e9}))
    found, = plan.gpu_lacks(plan.paper_steps())
    assert 'AdvCAM is said to take 18' in found and 'AdvCAMConfig(batch=1)' in found
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda n: type('gpu', (), {'total_memory': 8e9}))
    assert 'accumulate=2' in plan.gpu_lacks(plan.paper_steps())[1]


def test_hours_in_words(): assert [plan.hours_text(o) for o in (None, 0.5, 3.21, 72)] == ['not measured', '30 min', '3.2 h', '3.0 days']


def test_a_rate_is_measured():
    rate = plan.measure_rate('deeplab_tiny', 64, 2, steps=1, pyramid=(0.5,))
    assert rate.images_per_s > 0 and rate.network == 'deeplab_tiny' and plan.measure_rate('tiny', 64, 2, steps=1).images_per_s > 0


def test_expected_figures_come_from_the_tables():
    values = {o.what: o.value for o in plan.expected_figures()}
    assert values['seeds of CAM + W-OoD, train'] == 53.3 and all(o.source for o in plan.expected_figures())
    assert {v for w, v in values.items() if w.startswith('final')} == {row.miou for row in reported_rows() if row.method == 'W-OoD'}


def test_the_expectations_are_those_of_what_is_run_and_scored():
    "Splits of the expected numbers are scored by some step; every number has a kind of source; the two forms stand beside each other."
    made = plan.plan('data')
    scored = {name for step in made.steps for name in step.scores}
    assert {'train', 'val', 'train_aug'} <= scored and all(step.trains in ('', 'train_aug') for step in made.steps)
    assert all(e.kind in ('paper', 'released code', 'authors', 'later paper') and e.source for e in made.expected)
    assert all('--preset official' in (step.command or '--preset official') for step in made.steps[:4]) and '--preset paper' in made.beside[1]
    assert plan.plan('data', preset='paper').commands[0][:3] == ('run', '--preset', 'paper') and preset('paper', 'x').long_side == 500
    with pytest.raises(DataError, match="'small' is not known"): plan.paper_steps(preset='small')


def test_a_plan_is_written(tmp):
    text = Path(plan.write_plan(plan.plan(tmp), tmp/'plan.md')).read_text(encoding='utf-8')
    assert all(part in text for part in ('## Downloads', '## Stages', '## Commands', 'wood run --preset official', '## Beside it', 'wood run --preset paper', '## Expect'))
    rates = [plan.Rate(network, 1, 1, 'no', 1.0, None, '') for network in ('resnet50', 'deeplab2_resnet101', 'deeplab1_wideresnet38')]
    assert plan.plot_hours(plan.plan(tmp, rates)).png()
    with pytest.raises(DataError, match='measure first'): plan.plot_hours(plan.plan(tmp, rates[:2]))
