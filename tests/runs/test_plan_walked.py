"""The commands of the plan, word for word, from beginning to end: on drawn scenes, with small settings behind the same names."""
import shutil
from dataclasses import replace

import pytest
import torch

from wood_nb.cli import parser
from wood_nb.maps.advcam import AdvCAMConfig
from wood_nb.masks import learn
from wood_nb.nets.deeplab import build_segnet
from wood_nb.ood.config import WOoDConfig
from wood_nb.runs import plan
from wood_nb.runs import refine as refining
from wood_nb.runs.config import PRESETS, RefineConfig
from wood_nb.scenes.scenes import draw_scenes
from wood_nb.scores.rows import read_results

SIZE = 48


def lay_out(root):
    "What the plan expects below its root, drawn."
    voc = draw_scenes(root/plan.VOC, train=8, val=2, ood=6, pool=2, size=SIZE, workers=1, progress=False)
    lists = root/plan.LISTS
    shutil.copy(lists/'train.txt', lists/'train_aug.txt')
    (lists/'train.txt').write_text('\n'.join((lists/'train_aug.txt').read_text().split()[:3]) + '\n')
    (lists/'test.txt').write_text((lists/'val.txt').read_text())
    pictures = sorted((voc/'ood').rglob('*.jpg')) or sorted((voc/'pool').rglob('*.jpg'))
    (root/'ood').mkdir()
    for picture in pictures: shutil.copy(picture, root/'ood'/picture.name)
    (root/'ood_list.txt').write_text('\n'.join(p.name for p in pictures) + '\n')


def small_settings(monkeypatch):
    "The same names, small numbers: presets, recipes, refinement."
    tiny, wood = PRESETS['tiny'](), PRESETS['tiny']()['wood']
    few = replace(tiny['classifier'], epochs=1.0, batch_size=4)
    monkeypatch.setitem(PRESETS, 'official', lambda: {
        'backbone': 'tiny', 'weights': None, 'scales': (1.0,), 'classifier': few, 'mine_threshold': 0.0, 'long_side': SIZE,
        'wood': replace(WOoDConfig.official(clusters=2, ood_batch=4), train=replace(wood.train, epochs=1.0, batch_size=4))})
    scenes = learn.recipe('scenes', steps=1, batch_size=2)
    for name, network in zip(plan.RECIPES_USED, ('deeplab_mobilenet', 'deeplab_tiny')):  # two networks, as there
        monkeypatch.setitem(learn.RECIPES, name, replace(scenes, network=network, crf=learn.RECIPES[name].crf))
    done, small = refining.refine, RefineConfig.small(SIZE)
    walking = replace(small.walking, train=replace(small.walking.train, epochs=1.0, batch_size=4))

    def refined(run, config, *rest):
        return done(run, replace(config, walking=walking, crf_scale=small.crf_scale, climbing=AdvCAMConfig(iterations=2, scales=(1.0,))), *rest)
    monkeypatch.setattr(refining, 'refine', refined)


@pytest.mark.slow
def test_every_command_of_the_plan_runs(tmp, monkeypatch, capsys):
    lay_out(tmp/'data')
    small_settings(monkeypatch)
    (tmp/'data'/plan.WR38).parent.mkdir()
    torch.save(build_segnet('deeplab_tiny').backbone.state_dict(), tmp/'data'/plan.WR38)
    made = plan.plan('data')
    assert not [line for line in made.missing if 'get it from' in line and 'SBD' not in line]
    for words in made.commands:
        code = parser.main(list(words))
        said = capsys.readouterr()
        assert code == 0, (words, said.err)
    rows = read_results(tmp/'runs/official/metrics.json')
    scored = {(row['stage'], row['method'], row['split']) for row in rows}
    for step in made.steps:
        for name in step.scores: assert name.startswith('test') or any(split == name for _, _, split in scored), (step.name, name)
    assert {('seed', 'cam', 'train'), ('seed', 'wood', 'train'), ('segmentation', plan.METHOD, 'val')} <= scored
    assert len(list((tmp/'runs/official').glob('test-*.tgz'))) == 2 and plan.METHOD in {method for _, method, _ in scored}
