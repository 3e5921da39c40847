"""The last layer: the objective and its gradient, one answer from any start, leaks refused, features kept and noticed to be others."""
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wood_nb.base.files import DataError
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.nets.backbones import build_net
from wood_nb.ood import cache as caching
from wood_nb.ood.cache import backbone_mark, cache_features, kept_predictions, on_disk
from wood_nb.ood.config import HeadConfig
from wood_nb.ood.head import (_OnDisk, _weighted, balanced, check_leaks, cluster_values, fit_head, head_loss, map_clusters, map_scores, plot_values,
                              solve_head, value_table, with_head)
from wood_nb.train.predict import equal_batches, predict_all


N, D, C, M = 60, 24, 3, 90


def drawn(seed: int = 0):
    "Features of images with a direction for each class, one for the context it stands on; OoD places show contexts only."
    make = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=make)  # noqa: E731
    Y = (torch.rand(N, C, generator=make) < 0.4).float()
    thing, context = torch.eye(D)[:C], torch.eye(D)[C:2*C]
    Z = Y @ (thing + 2*context) + 0.3*rand(N, D)
    P = 2*context[torch.arange(M) % C] + 0.3*rand(M, D)
    return Z, Y, P


@pytest.fixture
def pictures(tmp_path):
    "Eight small pictures, four to train on and four that show no class."
    from PIL import Image

    numbers = np.random.default_rng(0)
    for n in range(8):
        Image.fromarray(numbers.integers(0, 255, (64, 64 if n % 3 else 48, 3), np.uint8)).save(tmp_path/f'p{n}.png')
    items = [Item(f'p{n}', str(tmp_path/f'p{n}.png'), (n % 2,) if n < 4 else ()) for n in range(8)]
    return Split('train', items[:4], ('a', 'b')), Split('ood', items[4:], ('a', 'b'))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build_net('tiny', ('a', 'b')).eval()


# ------------------------------------------------------------------------------------------------------------ the solve

@pytest.mark.parametrize('options', [{}, {'class_weight': torch.tensor([1., 2., 3.])}, {'absent': True}, {'ood': None}])
def test_gradient_is_that_of_autograd(options):
    Z, Y, P = (t.double() for t in drawn())
    options = {'ood': P, 'anchor': torch.ones(C, D).double()/9, 'class_weight': None, 'absent': None, **options}
    if options['class_weight'] is not None: options['class_weight'] = options['class_weight'].double()
    if options['absent']: options['absent'] = Z[:20], Y[:20]
    at = torch.randn(C, D, generator=torch.Generator().manual_seed(3)).double().requires_grad_()
    head_loss(at, Z, Y, ood_weight=0.7, l2=0.01, **options).backward()
    loss, gradient = _weighted(Z, Y, options['ood'], 0.7, 0.01, *(options[o] for o in ('anchor', 'class_weight', 'absent'))) \
        .loss_and_gradient(at.detach())
    assert torch.allclose(gradient, at.grad, atol=1e-12)
    assert math.isclose(float(loss), head_loss(at, Z, Y, ood_weight=0.7, l2=0.01, **options).item(), rel_tol=1e-12)


def test_from_two_starts_comes_one_answer():
    Z, Y, P = drawn()
    there = [solve_head(Z, Y, P, 'dense', l2=1e-3, start=start, double=True, tolerance=1e-6)
             for start in (None, 3*torch.randn(C, D, generator=torch.Generator().manual_seed(1)))]
    assert all(o.converged for o in there) and torch.allclose(there[0].weight, there[1].weight, atol=1e-3)
    warm = solve_head(Z, Y, P, 'dense', l2=1e-3, start=there[0].weight)
    assert warm.passes <= 2 and warm.converged and torch.allclose(warm.weight, there[0].weight, atol=1e-4), 'a start at the answer stays there'


def test_the_loss_falls_in_every_step_and_the_end_is_told():
    Z, Y, P = drawn()
    found = solve_head(Z, Y, P, 'dense')
    assert all(after < before for before, after in zip(found.losses, found.losses[1:])) and found.converged and found.gradient <= 3e-4
    assert math.isclose(found.loss, head_loss(found.weight, Z, Y, P).item(), rel_tol=1e-4)
    short = solve_head(Z, Y, P, 'dense', most_steps=2)
    assert not short.converged and short.gradient > 1e-4 and len(short.losses) == 3 and not short.noted()['converged']
    seen = []
    assert torch.equal(found.weight, solve_head(Z, Y, P, 'dense', on_step=lambda n, rows: seen.append((n, rows))).weight), 'deterministic'
    assert [n for n, _ in seen] == [*range(1, len(found.losses))] and torch.equal(seen[-1][1], found.weight) and not torch.equal(seen[0][1], found.weight)


def test_places_on_the_disk_are_those_in_memory(net, pictures, tmp_path, monkeypatch):
    "Read in small blocks: the same loss, gradient and rows; a subset of the pictures, too; what is not there is refused."
    monkeypatch.setattr(caching, '_ROWS', 3)
    split, ood = pictures
    inside, outside = (cache_features(net, o, tmp_path/name, title=None) for o, name in ((split, 'inside'), (ood, 'outside')))
    for ids in (None, ood.ids[1:3]):
        at, far = outside.places(ids=ids)[0], on_disk(outside, ids)
        assert far.shape == tuple(at.shape) and len(far) == len(at) and torch.equal(torch.cat(list(far.blocks())), at) and len(far.parts) > 2
        together = fit_head(net, inside, split, outside, HeadConfig(places=None, l2=0.01), ids=ids)
        alone = fit_head(net, inside, split, outside, HeadConfig(places=len(at), l2=0.01), ids=ids)
        assert together.converged and torch.allclose(together.weight, alone.weight, atol=1e-4) and math.isclose(together.loss, alone.loss, rel_tol=1e-5)
    Z, Y = inside.pooled().double(), torch.eye(2).double()[[0, 1, 0, 1]]
    rows = torch.randn(2, Z.shape[1], generator=torch.Generator().manual_seed(1)).double()
    both = [_weighted(Z, Y, each, 0.7, 0.01, None, None, None) for each in (outside.places()[0].double(), None)]
    far = replace(both[1], far=_OnDisk(on_disk(outside), 0.7))
    for a, b in zip(both[0].loss_and_gradient(rows), far.loss_and_gradient(rows)): assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    bare = cache_features(net, ood, tmp_path/'bare', places=0, title=None)
    with pytest.raises(DataError, match='needs features of OoD pictures'): fit_head(net, inside, split, bare, HeadConfig(places=None))


@pytest.mark.slow
@pytest.mark.parametrize('launch', [False, True])
def test_two_processes_read_a_share_each_and_find_the_same_rows(launch, net, pictures, tmp_path, root, warm, monkeypatch):
    from on_disk import solved
    from two_ranks import environment, in_two

    monkeypatch.setattr(caching, '_BLOCK', 2)      # two blocks, one for each
    for split, name in zip(pictures, ('inside', 'outside')): cache_features(net, split, tmp_path/name, title=None)
    alone, script = solved(tmp_path), Path(__file__).with_name('on_disk.py')
    if launch:
        env = {**environment(*sys.path), 'LAUNCH': '1'}
        done = subprocess.run([*warm.python, script, tmp_path, tmp_path/'rank'], env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
    else: assert not (said := in_two(warm, script, tmp_path, tmp_path/'rank', env=environment(*sys.path))), said
    first, second = (torch.load(tmp_path/f'rank{rank}.pt', weights_only=True) for rank in (0, 1))
    assert torch.equal(first['weight'], second['weight']) and first['passes'] == second['passes'] > 2
    assert torch.allclose(first['weight'], alone.weight, atol=1e-4) and not torch.allclose(alone.weight, solved(tmp_path, 1).weight, atol=1e-3)


def test_places_take_the_context_out_of_the_rows():
    Z, Y, P = drawn()
    on_context = {kind: float(torch.diagonal(solve_head(Z, Y, P, kind).weight[:, C:2*C]).mean()) for kind in ('none', 'dense')}
    on_things = float(torch.diagonal(solve_head(Z, Y, P, 'dense').weight[:, :C]).mean())
    assert on_context['none'] > 1 and on_context['dense'] < 0.5*on_context['none'] and on_things > on_context['dense']


def test_rare_classes_count_more_when_balanced():
    Z, Y, _ = drawn()
    Y[:, 0] *= (torch.arange(N) % 10 == 0)
    assert balanced(Y)[0] > balanced(Y)[1] >= 1
    p = [torch.sigmoid(Z @ solve_head(Z, Y, l2=1e-2, class_weight=w).weight.T)[Y[:, 0] > 0, 0].mean() for w in (None, balanced(Y))]
    assert p[1] > p[0]


def test_what_cannot_be_solved_is_refused():
    Z, Y, P = drawn()
    with pytest.raises(DataError, match="kind 'all' of head is not known; choose from dense, zero, none"): solve_head(Z, Y, P, 'all')
    with pytest.raises(DataError, match='needs features of OoD pictures'): solve_head(Z, Y, None, 'dense')
    with pytest.raises(DataError, match='make both with the same network'): solve_head(Z, Y, P[:, 1:], 'zero')
    with pytest.raises(DataError, match='do not fit'): solve_head(Z, Y[1:])
    for wrong in ({'kind': 'x'}, {'controls': ('x',)}, {'places': 0}, {'l2': 0}, {'long_side': 8}):
        with pytest.raises(DataError, match=next(iter(wrong))): HeadConfig(**wrong)


# ------------------------------------------------------------------------------------------------------------ the cache

def test_features_are_those_of_the_network_and_its_mirror(pictures, net, tmp_path):
    split, _ = pictures
    found = cache_features(net, split, tmp_path/'c', places=None, title=None)
    with torch.inference_mode():
        for index, images in equal_batches(split, None, 1, None):
            own = (net.backbone(images) + net.backbone(images.flip(-1)).flip(-1))[0]/2
            id = split.ids[index[0]]
            assert torch.allclose(found.grid(id), own, rtol=2e-3, atol=2e-3)
            assert torch.allclose(found.pooled([id])[0], own.mean((1, 2)), rtol=2e-3, atol=2e-3)
    rows, owner = found.places()
    assert len(rows) == sum(found.grid(id)[0].numel() for id in split.ids) and torch.equal(rows[owner == 2], found.grid('p2').flatten(1).T)
    assert torch.equal(found.places(9, seed=1)[0], found.places(9, seed=1)[0]) and len(set(found.places(9)[1])) > 1


def test_only_what_is_missing_is_made(pictures, net, tmp_path, monkeypatch):
    _, ood = pictures
    monkeypatch.setattr(caching, '_BLOCK', 2)
    whole = cache_features(net, ood, tmp_path/'c', places=3, title=None).pooled()
    asked = []
    kept = caching._looked_at
    def counted(net, split, places, *rest): asked.extend(places); return kept(net, split, places, *rest)  # noqa: E702
    monkeypatch.setattr(caching, '_looked_at', counted)
    (tmp_path/'c/00001.json').unlink()  # a kill before the block was noted
    assert torch.equal(cache_features(net, ood, tmp_path/'c', places=3, title=None).pooled(), whole) and asked == [2, 3]
    fewer = cache_features(net, ood.subset([3, 0]), tmp_path/'c', places=3, title=None)
    assert asked == [2, 3] and fewer.ids == ('p7', 'p4') and torch.equal(fewer.pooled(), whole[[3, 0]])
    with pytest.raises(DataError, match='p5'): fewer.pooled(['p5'])
    with pytest.raises(DataError, match='places=None'): fewer.grid('p7')


def test_other_weights_are_noticed_and_another_last_layer_is_none(pictures, net, tmp_path, caplog):
    _, ood = pictures
    old = cache_features(net, ood, tmp_path/'c', places=3, title=None).pooled()
    other = with_head(net, torch.ones(2, net.dim))
    assert backbone_mark(other) == backbone_mark(net) and torch.equal(cache_features(other, ood, tmp_path/'c', places=3, title=None).pooled(), old)
    with torch.no_grad(): next(other.backbone.parameters()).add_(0.1)
    with caplog.at_level('INFO'): new = cache_features(other, ood, tmp_path/'c', places=3, title=None).pooled()
    assert not torch.equal(new, old) and 'made again (backbone differ)' in caplog.text
    with caplog.at_level('INFO'): cache_features(other, ood, tmp_path/'c', long_side=96, places=3, title=None)
    assert 'long_side differ' in caplog.text


def test_a_changed_picture_is_looked_at_again_and_damage_is_told(pictures, net, tmp_path):
    from PIL import Image

    _, ood = pictures
    old = cache_features(net, ood, tmp_path/'c', places=3, title=None).pooled()
    Image.new('RGB', (50, 50), 'red').save(ood[1].image)
    found = cache_features(net, ood, tmp_path/'c', places=3, title=None)
    changed = (found.pooled() != old).any(1)
    assert changed.tolist() == [False, True, False, False] and len(found) == 4
    np.save(tmp_path/'c/00000-pooled.npy', np.zeros((1, 2)))
    with pytest.raises(DataError, match='00000-pooled.npy: holds float64'): found.pooled()
    note = json.loads((tmp_path/'c/00000.json').read_text())
    (tmp_path/'c/00000.json').write_text(json.dumps({**note, 'kept': []}))
    with pytest.raises(DataError, match='00000.json: its lists are not equally long'): cache_features(net, ood, tmp_path/'c', places=3, title=None)


@pytest.mark.parametrize('mirror', [True, False])
def test_what_is_kept_answers_for_the_network(pictures, net, tmp_path, mirror):
    split, _ = pictures
    found, asked = kept_predictions(net, cache_features(net, split, tmp_path/'c', mirror=mirror, title=None), split), predict_all(net, split, title=None)
    assert (found.index == asked.index).all() and np.abs(found.p - asked.p).max() < 1e-3
    assert np.allclose(found.z, asked.z, rtol=2e-3, atol=2e-3)


def test_places_are_kept_of_wanted_pictures_until_others_are_asked_for(pictures, net, tmp_path):
    _, ood = pictures
    whole = cache_features(net, ood, tmp_path/'whole', places=3, title=None)
    middle = whole.plain()[:, 0].median()
    some = cache_features(net, ood, tmp_path/'some', places=3, title=None, wanted=lambda plain: plain[:, 0] > middle + 1e-3)
    kept = {id for block in some.blocks for id, count in zip(block.ids, block.kept) if count}
    assert len(kept) == 2 and torch.equal(some.plain(), whole.plain()) and torch.equal(some.places(ids=sorted(kept))[0], whole.places(ids=sorted(kept))[0])
    none = cache_features(net, ood, tmp_path/'none', places=3, title=None, wanted=lambda plain: plain[:, 0] > 1e9)
    assert len(none) == 4 and not len(none.places()[0]) and torch.equal(none.pooled(), none.plain())
    again = cache_features(net, ood.subset([2, 0]), tmp_path/'none', places=3, title=None)
    assert torch.equal(again.places()[0], whole.places(ids=again.ids)[0]) and torch.equal(again.pooled(), whole.pooled(again.ids))
    assert [len(block.ids) for block in again.blocks] == [4, 2], 'only those that were asked for are looked at again'


def test_no_bar_where_all_features_are_there(pictures, net, tmp_path, capsys):
    for _ in range(2): cache_features(net, pictures[0], tmp_path/'c', places=3, title='features')
    assert capsys.readouterr().err.count('0/4') == 1


def test_unreadable_pictures_are_left_out_and_told(pictures, net, tmp_path):
    _, ood = pictures
    with open(ood[2].image, 'wb') as file: file.write(b'no picture')
    skipped = []
    found = cache_features(net, ood, tmp_path/'c', places=3, skipped=skipped, title=None)
    assert found.ids == ('p4', 'p5', 'p7') and [o['file'] for o in skipped] == ['p6']


# ------------------------------------------------------------------------------------------------------------- the two

def test_a_leak_is_refused(pictures, net, tmp_path):
    split, ood = pictures
    inside = cache_features(net, split, tmp_path/'in', places=3, title=None)
    leaky = Split('ood', [*ood.items, Item('copy', split[2].image, ())], ood.classes)
    outside = cache_features(net, leaky, tmp_path/'out', places=3, title=None)
    with pytest.raises(DataError, match="'copy' looks exactly like the training image 'p2'"): check_leaks(inside, outside)
    with pytest.raises(DataError, match='drop it'): fit_head(net, inside, split, outside, HeadConfig())
    fit_head(net, inside, split, outside, HeadConfig(), ids=ood.ids)
    fit_head(net, inside, split, outside, HeadConfig(), kind='none')


def test_the_rows_reach_the_network(pictures, net, tmp_path):
    split, ood = pictures
    inside, outside = (cache_features(net, each, tmp_path/each.name, title=None) for each in (split, ood))
    found = fit_head(net, inside, split, outside, HeadConfig(absent=20, balance=True))
    other = with_head(net, found.weight)
    assert torch.equal(other.classifier.weight[:, :, 0, 0], found.weight) and not torch.equal(net.classifier.weight, other.classifier.weight)
    other.classifier = nn.Conv2d(net.dim, 2, 1)
    with torch.no_grad(): assert with_head(other, found.weight)(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 2)


def test_a_cluster_given_twice_is_worth_next_to_nothing():
    Z, Y, P = drawn()
    cluster, at = np.arange(M) % C, (Z, Y)
    alone = {v.name: v for v in cluster_values(Z, Y, P, cluster, {0: 'a', 1: 'b', 2: 'c', 7: 'empty'}, at, l2=1e-3)}
    assert set(alone) == {'a', 'b', 'c'} and all(v.left > 3*v.with_it and max(v.moved) > 0.02 for v in alone.values())
    assert not any(v.hurts or v.share is not None for v in alone.values())
    twice = cluster_values(Z, Y, torch.cat([P, P[cluster == 0]]), np.r_[cluster, np.full((cluster == 0).sum(), 7)], {0: 'a', 7: 'its copy'}, at,
                           l2=1e-3)
    assert all(v.left - v.with_it < 0.2*(alone['a'].left - alone['a'].with_it) for v in twice)
    assert all(np.mean(v.moved) < np.mean(alone['a'].moved) for v in twice)


def test_clusters_are_judged_by_masks_where_there_are_some():
    Z, Y, P = drawn()
    on_context = lambda weight: (50 - 10*float(torch.diagonal(weight[:, C:2*C]).mean()), 40.)  # noqa: E731
    values = cluster_values(Z, Y, P, np.arange(M) % C, {0: 'a', 1: 'b', 2: 'c'}, (Z, Y), on_context, l2=1e-3)
    assert all(v.share > 0 and v.miou == 0 and not v.hurts for v in values)
    assert [v.share for v in values] == sorted((v.share for v in values), reverse=True)
    assert '+0.0' in repr(value_table(values)) and plot_values(values).png()
    worse = cluster_values(Z, Y, P, np.arange(M) % C, {0: 'a'}, (Z, Y), lambda weight: (-on_context(weight)[0], -on_context(weight)[0]), l2=1e-3)
    assert worse[0].hurts


def test_maps_by_cluster_go_to_the_nearest_centre(pictures, net, tmp_path):
    "As a count by hand has it; of maps that are zero nothing is said, and without rows the pictures themselves are counted."
    inside, _ = pictures
    cache = cache_features(net, inside, tmp_path/'whole', places=None, title=None)
    places, owner = cache.places()
    centres = places[[0, len(places)//2, -1]].numpy()
    weight = torch.stack([places.mean(0), -torch.ones(places.shape[1])])      # features are not negative: the second map is zero
    found = map_clusters(cache, inside, weight, centres)
    assert set(found) == {'a'} and np.isclose(found['a'].sum(), 1)
    nearest, heat = torch.cdist(places.double(), torch.from_numpy(centres).double()).argmin(1).numpy(), (places @ weight[0]).relu().numpy()
    by_hand = [[heat[(owner == n) & (nearest == k)].sum()/heat[owner == n].sum() for k in range(3)] for n in (0, 2)]
    assert np.allclose(found['a'], np.mean(by_hand, 0), atol=1e-5)
    assert set(map_clusters(cache, inside, None, centres)) == {'a', 'b'}


def test_maps_that_are_zero_have_no_share(pictures, net, tmp_path):
    "They are not counted as 0, and a class that has no other map is not there."
    inside, _ = pictures
    cache, items = cache_features(net, inside, tmp_path/'whole', places=None, title=None), []
    for n, item in enumerate(inside.items):
        mask = np.zeros(inside.image(n).size[::-1], np.uint8)
        mask[:, :32] = item.labels[0] + 1
        write_mask(tmp_path/f'{item.id}-mask.png', mask)
        items.append(replace(item, mask=tmp_path/f'{item.id}-mask.png'))
    weight = torch.stack([cache.pooled().mean(0), -torch.ones(cache.pooled().shape[1])])      # features are not negative: the second map is zero
    assert set(map_scores(cache, Split('train', items, ('a', 'b')), weight)[1]) == {'a'}
