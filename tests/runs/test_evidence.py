"""The evidence: what is chosen by is not what is scored, controls are what they say, and the numbers are those of the parts alone."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wood_nb.base.files import DataError, read_json
from wood_nb.cli.parser import main
from wood_nb.data.augment import Augment
from wood_nb.maps.methods import CLASSIFIER, HEAD
from wood_nb.maps.cam import normalise_maps
from wood_nb.ood.head import drawn_maps, map_scores, solve_head
from wood_nb.runs.config import preset
from wood_nb.runs.evidence import ABSENT, class_table, evidence, evidence_table, judging, outside_ids, plot_evidence, RANDOM, Size, solve, UNPRUNED
from wood_nb.runs.pipeline import execute
from wood_nb.runs.run import Run

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
    "A few drawn scenes, trained for a few steps, mined and pruned by the truth."
    made = preset('tiny', 'scenes:', scenes={'train': 24, 'val': 8, 'ood': 8, 'pool': 24, 'size': 64}, wood_by='head', mine_threshold=0.,
                  mine_per_class=12)
    made = replace(made, classifier=replace(made.classifier, steps=4, batch_size=4, augment=Augment.small(48)))
    return execute(Run.create(tmp_path_factory.mktemp('run')/'run', made), upto='mining', say=lambda text: None)


@pytest.fixture(scope='module')
def found(run): return evidence(run, (32, 64), 2, 10)


def test_images_that_choose_a_threshold_are_never_scored(run):
    train, val = run.split('train'), run.split('val')
    chosen, scored, words = judging(train, val, 10)
    assert len(chosen) == 8 and scored is val and words == '8 images of train' and judging(train, val, 24)[2] == 'train'
    bare = replace(train, items=[replace(item, mask=None) for item in train.items])
    chosen, scored, words = judging(bare, val, 10)
    assert not set(chosen.ids) & set(scored.ids) and set(chosen.ids) | set(scored.ids) == set(val.ids) and 'half' in words
    with pytest.raises(DataError, match="split 'train'.*masks to score by"): judging(val, bare, 10)


def test_controls_are_what_they_say(run):
    ids, images = outside_ids(run), run.manifest().images
    assert set(ids[HEAD]) == set(run.ood().ids) and len(ids[RANDOM]) == len(ids[HEAD]) and set(ids[RANDOM]) <= set(run.pool().ids)
    assert set(ids[UNPRUNED]) > set(ids[HEAD]) and {images[id].decision for id in ids[UNPRUNED]} == {'keep', 'drop'}
    assert not [id for each in ids.values() for id in each if id in images and images[id].flagged]
    assert outside_ids(run) == ids, 'drawn by the seed of the run'


def test_rows_are_those_of_the_parts_alone(run, found):
    size = Size(run, 64, 10)
    rows = size.net.classifier.weight.detach()[:, :, 0, 0]
    assert torch.equal(solve([size], CLASSIFIER), rows)
    by_hand = solve_head(size.inside.pooled(), size.Y, size.outside.places(4000, size.ids[HEAD], 1)[0], 'dense', anchor=rows).weight
    assert torch.equal(solve([size], HEAD, 1), by_hand) and not torch.equal(solve([size], RANDOM, 1), by_hand)
    row, = (each for each in found if each.name == HEAD and each.sides == (64,))
    threshold = map_scores(size.on_chosen, size.chosen, by_hand, 1.0)[0].best()[0]
    sweep, shares = map_scores(size.on_scored, size.scored, by_hand, 1.0)
    assert row.threshold[1] == threshold and row.miou[1] == pytest.approx(100*sweep.scores_at(threshold).miou)
    assert row.share[1] == pytest.approx(100*np.mean(list(shares.values()))) and len(row.counts) == 8


def test_maps_of_several_sizes_are_added_up(run):
    sizes = [Size(run, side, 10) for side in (32, 64)]
    id, rows = sizes[0].scored.ids[0], torch.randn(2, sizes[0].net.dim, generator=torch.Generator().manual_seed(0))
    small, large = (torch.einsum('kd,dhw->khw', rows, size.on_scored.grid(id)).relu() for size in sizes)
    by_hand = F.interpolate(small[None], large.shape[1:], mode='bilinear', align_corners=False)[0] + large
    caches = [size.on_scored for size in sizes]
    assert torch.allclose(drawn_maps(caches, id, rows), normalise_maps(by_hand)) and torch.allclose(drawn_maps(caches[::-1], id, rows), normalise_maps(by_hand))
    assert small.shape != large.shape and not torch.allclose(drawn_maps(caches[1:], id, rows), normalise_maps(by_hand), atol=0.01)


def test_every_way_at_every_size_and_its_baseline(run, found):
    names = [CLASSIFIER, 'head-none', 'head-zero', HEAD, RANDOM, UNPRUNED, ABSENT]
    assert [(each.sides, each.name) for each in found] == [(sides, name) for sides in ((32,), (64,), (32, 64)) for name in names]
    for each in found:
        assert len(each.miou) == (2 if each.name in names[3:] else 1) and (each.interval is None) == (each.name in names[:2])
    without, = (each for each in found if each.sides == (64,) and each.name == 'head-none')
    for each in found:
        if each.sides == (64,) and each.interval:
            assert 100*each.interval.difference == pytest.approx(each.miou[0] - without.miou[0])
    noted = read_json(run.path/'evidence.json', 'wood_nb.evidence')
    assert [row['miou'] for row in noted['rows']] == [list(each.miou) for each in found] and noted['crf'] is False and noted['images'] == 8
    assert len(evidence_table(found).rows) == 21 and plot_evidence(found).axes
    table = class_table(found, (64,))
    assert [row[0] for row in table.rows] == ['background', *run.split('val').classes]


def test_the_command_and_its_refusals(run, found, capsys):
    assert main(['evidence', str(run.path), '--sides', '32', '--draws', '1', '--most', '10']) == 0
    out = capsys.readouterr().out
    assert 'random pictures' in out and 'over head-none' in out and '8 images of train' in out and 'evidence.json' in out
    with pytest.raises(DataError, match='at least one size'): evidence(run, ())
