"""The last layer under one's hands: what is solved is what is kept, the newest ask wins, undo takes the maps back, pins follow."""
import io
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.augment import Augment
from wood_nb.maps.cam import Maps, save_maps, stride4
from wood_nb.ood.head import solve_head
from wood_nb.runs.config import preset
from wood_nb.runs.pipeline import execute
from wood_nb.runs.run import Run
from wood_nb.runs.share import link_tree
from wood_nb.widgets.bench import live as module
from wood_nb.widgets.bench.live import BEFORE, NOW, START, WITHOUT, LiveHead, Newest
from wood_nb.widgets.bench.workbench import workbench

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> Run:
    "A few drawn scenes, trained for a few steps, mined, pruned by the truth and clustered."
    config = preset('tiny', 'scenes:', scenes={'train': 24, 'val': 8, 'ood': 8, 'pool': 24, 'size': 64}, mine_threshold=0., mine_per_class=12)
    config = replace(config, classifier=replace(config.classifier, steps=16, batch_size=8, augment=Augment.small(48)),
                     wood=replace(config.wood, clusters=3))
    run = execute(Run.create(tmp_path_factory.mktemp('run')/'run', config), upto='clusters', say=lambda text: None)
    LiveHead(run, run.manifest()).close()  # its features are there from now on
    return run


@pytest.fixture
def run(made, tmp_path) -> Run:
    link_tree(made.path, tmp_path/'run')
    return Run(tmp_path/'run')


@pytest.fixture
def live(run):
    live = LiveHead(run, run.manifest())
    yield live
    live.close()


def test_what_is_solved_is_what_is_kept(live):
    kept = live.kept()
    assert len(kept) > 3 and live.first.kept == len(kept) and set(live.owner) == set(live.manifest.images)
    at = live.at[[id in set(kept[:3]) for id in live.owner]]
    by_hand = solve_head(live.Z, live.Y, at, 'dense', anchor=live.rows, tolerance=1e-7).weight
    off, other = ((weight - by_hand).norm() for weight in (live.solve(kept[:3]), live.first.weight))
    assert off < 0.02*other, 'to the tolerance of a live solve'
    assert live.bare.kept == 0 and torch.equal(live.bare.weight, live.solve([]))
    assert torch.equal(live.solve([]), solve_head(live.Z, live.Y, anchor=live.rows, tolerance=1e-6).weight), 'without OoD pictures: head-none'


def test_numbers_are_those_of_the_watched_pictures(live):
    look = live.first
    assert look.counted and 0 < look.share < 100 and 0 < look.miou < 100 and len(live.watched.split) == 8
    assert len(look.contexts) == 3 and sum(look.contexts.values()) < 100 - look.share + 1e-6
    assert f'{look.kept} OoD pictures; on the object {look.share:.1f} %' in look.line() and 'for looking only' in look.line()
    assert f'{look.share:.1f} → {look.share:.1f} %' in look.line(look)


def test_dropping_moves_the_maps_and_undo_takes_them_back(live, monkeypatch):
    monkeypatch.setattr(module, '_EARLY', 2)
    told, moved = [], []
    live.told.append(told.append)
    live.moved.append(lambda look: moved.append((look, len(told))))
    id = live.watched.split.ids[0]
    before = live.watched.maps(id, live.first.weight)
    live.manifest.decide(live.kept(), 'drop', by='ann')
    live.ask()
    assert live.later.wait(30) and told[-1].kept == 0
    (early, _), (first, before_told) = moved
    moving = [float((live.watched.maps(id, weight) - before).abs().max()) for weight in (early.weight, first.weight)]
    assert 0 < moving[0] != moving[1] and early.kept == 0 and 'counting' in early.line(), 'on the way to where they come to rest'
    assert before_told == 0 and 'counting' in first.line() and first.weight is told[0].weight and 'counting' not in told[0].line(), 'maps move first'
    far = (live.watched.maps(id, live.last.weight) - before).abs().max()
    live.manifest.undo()
    live.ask()
    assert live.later.wait(30) and told[-1].kept == live.first.kept and len(told) == 2
    assert (live.watched.maps(id, live.last.weight) - before).abs().max() < 0.05*far, 'to the tolerance of a live solve'


def test_the_newest_ask_wins_and_nothing_is_lost():
    seen, begun, go = [], threading.Event(), threading.Event()

    def work(outdated) -> None:
        begun.set()
        go.wait(5)
        seen.append(outdated())
    newest = Newest(work, calm=0.01)
    newest.ask()
    assert begun.wait(5)
    for _ in range(20): newest.ask()
    go.set()
    assert newest.wait(10) and seen == [True, False], 'the first was outdated, and the other twenty were one'
    newest.close()
    newest.ask()
    time.sleep(0.05)
    assert len(seen) == 2 and not newest.wait(0.01)


def test_values_of_clusters_and_what_pulls_a_map(live):
    clusters = live.manifest.clusters
    emptied = set(clusters[0].members) & set(live.kept())
    live.manifest.decide(sorted(emptied), 'drop', by='ann')
    live.now()
    values = live.values()
    assert set(values) == {c.id for c in clusters[1:] if set(c.members) & set(live.kept())}
    one = next(iter(values))
    without = live.solve(set(live.kept()) - set(live.manifest.cluster(one).members), live.last.weight)
    assert values[one] == pytest.approx(live.last.share - live.watched.numbers(without)[0])
    pulls = live.pulls(live.watched.split.ids[0])
    assert {k for k, _ in pulls} == set(values) and [m for _, m in pulls] == sorted((m for _, m in pulls), reverse=True) and pulls[0][1] > 0
    assert live.values(outdated=lambda: True) is None
    live.manifest.decide(live.kept()[:1], 'drop', by='ann')
    live.now()
    assert live.pulls(live.watched.split.ids[0], wait=False) == [], 'those solves were for other pictures'


def test_without_masks_a_value_is_the_loss_that_a_cluster_takes(live):
    split = live.watched.split
    live.watched.split = replace(split, items=[replace(item, mask=None) for item in split.items])
    assert live.now().share is None and live.last.miou is None and 'mIoU' not in live.last.line()
    assert all(value > 0 for value in live.values().values()), 'solved without a cluster, the loss on its pictures is larger'
    assert live.pins(live.typical(1))[0]['note'] in split.ids


def test_the_workbench_shows_the_maps_and_lets_them_follow(run):
    bench = workbench(run, live=True, by='ann')
    try:
        head, *pins = bench.widget.pins
        assert head['title'] == '8 pictures watched' and 'on the object' in head['note'] and 1 <= len(pins) <= 3
        assert all(half[:2] == b'\xff\xd8' and '→' in pin['note'] for pin in pins for half in pin['pair'])
        assert bench.live.later.wait(30) and bench.bench.strip.value, 'clusters have their values'
        kept = bench.live.first.kept
        cluster = max(bench.manifest.clusters, key=lambda c: len(set(c.members) & set(bench.live.kept()))).id
        assert bench.do('go', cluster=cluster) and bench.do('decide', decision='drop') and bench.live.later.wait(30)
        assert int(bench.widget.pins[0]['note'].split()[0]) == len(bench.live.kept()) < kept
        pair = bench.widget.pins[1]['pair']
        assert pair[0] == pins[0]['pair'][0] and pair[1] != pins[0]['pair'][1], 'the right one has moved, the left one has not'
        assert bench.do('compare', left=BEFORE) and bench.widget.pins[1]['pair'][0] not in pair and bench.widget.pins[1]['pair'][1] == pair[1]
        assert bench.widget.state['wipe']['left'] == BEFORE and '→' in bench.widget.pins[0]['note']
        assert not bench.do('compare', right='AdvCAM') and "no maps 'AdvCAM'" in bench.bench.message.text
    finally: bench.close()
    assert bench.live.later.closed


def test_pictures_to_watch_can_be_named(run):
    ids = run.split('val').ids[:2]
    bench = workbench(run, live=ids, by='ann')
    assert len(bench.widget.pins) == 3
    bench.close()


def opened(content: bytes) -> np.ndarray: return np.asarray(Image.open(io.BytesIO(content)), np.float32)


def test_maps_before_and_now_and_those_of_methods_can_be_compared(run, live):
    assert live.names() == [WITHOUT, START, BEFORE, NOW]
    split, id = live.watched.split, live.watched.split.ids[0]
    for n, item in enumerate(split.items):
        keys = np.array(sorted(item.labels), np.int64)
        save_maps(run.path/'maps'/'cam'/'val'/f'{item.id}.npz', Maps(keys, np.ones((len(keys), *stride4((64, 64))), np.float32), (64, 64)))
    other = LiveHead(run, live.manifest)
    assert other.names()[-1] == 'CAM' and (other.heat(id, 'CAM') == 1).all() and other.heat(id, NOW).shape == (64, 64)
    plain, left, right = map(opened, other.pair(id, 'CAM', NOW))
    assert plain.shape == left.shape == right.shape and abs(left - right).mean() > 5 < abs(plain - left).mean()
    assert other.headline('CAM', NOW) == other.last.line(None, '\n') and other.headline('CAM', 'CAM') == ''
    other.close()


def test_what_a_candidate_is_taken_for_fades_where_the_classifier_has_learned_better(live):
    kept = live.kept()
    before, now = (np.mean([live.belief(id, name).mean() for id in kept[:4]]) for name in (WITHOUT, NOW))
    assert 0 < now < before and live.belief(kept[0], WITHOUT).max() == pytest.approx(1, abs=1e-3)
    assert len(live.pair(kept[0], WITHOUT, NOW, candidate=True)) == 3
    with pytest.raises(DataError, match='CAM has drawn no maps of candidates; choose one of without OoD'): live.belief(kept[0], 'CAM')


def test_the_page_asks_for_large_maps(run):
    bench = workbench(run, live=run.split('val').ids[:2], by='ann')
    try:
        assert bench.live.later.wait(30)
        sent = []
        bench.widget.send = lambda content, buffers=None: sent.append((content, buffers))
        bench.do('enlarge', by=0)
        for row, id in ((-1, bench.bench.wipe.large), (0, ''), (-1, 'elsewhere')): bench.hear(None, {'type': 'maps', 'row': row, 'id': id}, [])
        pulled = [content['pulled'] for content, _ in sent]
        (most, share), *_ = bench.live.pulls(bench.bench.wipe.large)
        assert pulled[0].startswith(f'{bench.manifest.cluster(most).name} ({100*share:.1f} %)') and pulled[1:] == ['', '']
        assert [len(buffers) for _, buffers in sent] == [3, 3, 0] and sent[0][0]['turn'] == bench.bench.wipe.turn
        assert not bench.do('decide', decision='drop') and 'only looked at' in bench.bench.message.text, 'nothing behind it is decided'
    finally: bench.close()
