"""Refinement of a run: what is judged on what, and what a run that cannot be refined is told. The lesson runs the whole of it."""
from pathlib import Path

import numpy as np
import pytest
from wood_nb.data import DataError, Item, Split
from wood_nb.refine import RefineConfig, network_of, refined_methods, to_judge
from wood_nb.segtrain import recipe
from wood_nb.sweep import recipe_crf


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
        config = type('C', (), dict(candidates=None, data='voc:x', ablation=()))
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
    from wood_nb.cli import result_line
    row = dict(method='wood+irn', stage='segmentation', split='val', miou=36.7, threshold=None, crf=True, other_classes='ignore')
    assert result_line(row) == 'W-OoD + IRN + CRF  val      mIoU  36.7  other classes: ignore (segmentation)'
