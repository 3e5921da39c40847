"""The explorer's plain model: what is shown, what decisions do, what is refused; on made-up features, without a display."""
import itertools

import numpy as np
import pytest
from wood_nb.ood.features import FeatureStore
from wood_nb.base.files import DataError
from wood_nb.widgets.exploring import (begin_clusters, CANDIDATE, candidate_lines, cluster_counts, COLOURINGS, described,
                                       draw_map, Exploration, holds, INSIDE, Landscape, nearest_clusters, ORDERS,
                                       point_lines, PROTOTYPE)
from wood_nb.ood.candidates import Candidate
from wood_nb.ood.manifest import Manifest

CLASSES = ('boat', 'train')


def blobs(n=30, seed=0):
    "Three groups far apart, ids a00.., probabilities that go with them."
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]], np.float32)
    features = np.repeat(centres, n//3, 0) + rng.normal(0, .3, (n, 3)).astype(np.float32)
    p = np.clip(rng.random((n, 2)), .01, .99).astype(np.float32)
    return FeatureStore([f'a{i:02d}' for i in range(n)], features, p)


@pytest.fixture
def look():
    store = blobs()
    manifest = Manifest(CLASSES, {id: Candidate(f'{id}.jpg', CLASSES[int(q.argmax())], float(q.max())) for id, q in zip(store.ids.tolist(), store.p)})
    begin_clusters(manifest, store, 3)
    inside = FeatureStore(['in0', 'in1'], np.array([[9, 0, 0], [0, 9, 0]], np.float32), np.eye(2, dtype=np.float32))
    land = Landscape(store, CLASSES, inside, np.array([[9, 0, 0], [np.nan]*3], np.float32))
    ticks = itertools.count(0, 2.0)
    return Exploration(manifest, land, by='jane', per_page=8, clock=lambda: float(next(ticks)))


def test_the_landscape_holds_all_three_kinds(look):
    kinds = look.land.kind
    assert [(kinds == k).sum() for k in (CANDIDATE, INSIDE, PROTOTYPE)] == [30, 2, 1], 'a class without pictures has no star'
    xy = look.land.layout()
    assert xy.shape == (33, 2) and xy.dtype == np.float32 and np.isfinite(xy).all()
    assert look.land.layout() is xy, 'laid out once'
    assert point_lines(look, 32)[0] == 'boat' and point_lines(look, 30)[:2] == ['in0', 'in-distribution']


@pytest.mark.parametrize('name', COLOURINGS)
def test_every_point_has_a_colour(look, name):
    look.colour = name
    colouring = COLOURINGS[name](look)
    assert len(colouring.index) == 33 and colouring.index.max() < len(colouring.legend)
    assert all(c.startswith('#') for c in colouring.colours())


def test_decisions_differ_in_shape(look):
    look.decide(look.ids[:1], 'keep'); look.decide(look.ids[1:2], 'drop')
    colouring = COLOURINGS['decision'](look)
    assert [colouring.legend[colouring.index[n]]['shape'] for n in (0, 1, 2, 31)] == ['dot', 'cross', 'ring', 'square']


@pytest.mark.parametrize('word, expected', [
    ('p>0.5', True), ('p<=0.5', False), ('class:boat', True), ('-class:boat', False), ('cluster:ail', True), ('is:keep', False), ('is:undecided', True),
    ('flag:leak', True), ('flag:duplicate', False), ('contains:boat', False), ('by:', False), ('x9', True), ('-', False), ('p>x', False), ('rails', True)])
def test_filter_words(word, expected):
    one = Candidate('x9.jpg', 'boat', .75, leak_of='train/y')
    assert holds(word, 'x9', one, 'rails') is expected


def test_what_is_shown_is_selection_filter_and_order(look):
    look.select(look.ids[:20])
    look.words = 'class:boat'
    shown = look.shown()
    assert shown and set(shown) <= set(look.ids[:20]) and all(look.manifest.images[id].predicted == 'boat' for id in shown)
    assert look.targets() == shown, 'what is decided is what is seen'
    look.order = ORDERS[1]
    p = [look.manifest.images[id].p for id in look.shown()]
    assert p == sorted(p, reverse=True)
    look.words, look.order, look.like = '', ORDERS[2], look.ids[7]
    assert look.shown()[0] == look.ids[7] and set(look.shown()[:10]) == set(look.ids[:10]), 'its own group first'
    look.order = 'name'
    assert look.shown() == sorted(look.ids[:20])


def test_nothing_selected_decides_nothing(look):
    assert look.shown() and look.targets() == []
    with pytest.raises(DataError, match='nothing is selected'): look.decide(look.targets(), 'keep')


def test_marking_narrows_and_the_first_mark_selects(look):
    look.mark(look.ids[3])
    assert look.selection == [look.ids[3]] and not look.marked
    look.select(look.ids[:5])
    look.mark(look.ids[1]); look.mark(look.ids[2]); look.mark(look.ids[1])
    assert look.targets() == [look.ids[2]]


def test_pages_stop_at_the_ends(look):
    assert look.turn(+100) == 4 and look.page == 3 and len(look.on_page()) == 6
    look.turn(-100)
    assert look.page == 0
    look.select(look.ids[:3])
    assert look.turn() == 1 and look.page == 0


def test_cards_follow_the_members(look):
    a, b, c = look.clusters()
    card = described(look, a).card
    assert card.size == 10 and card.members[0] in a.members and card.spread < 1 and described(look, a).card is card, 'made once'
    assert [n.id for n, _ in nearest_clusters(look, a)] and nearest_clusters(look, a)[0][1] > 5
    look.merge(a.id, b.id)
    assert described(look, look.manifest.cluster(a.id)).card.size == 20 and look.focus == a.id and len(look.selection) == 20
    assert candidate_lines(look, look.ids[0])[2].endswith('from its centre')


def test_split_and_back(look):
    before = [c.to_json() for c in look.manifest.clusters]
    a, b, _ = look.clusters()
    look.merge(a.id, b.id)
    parts = look.split(a.id, 2)
    assert sorted(len(look.manifest.cluster(p).members) for p in parts) == [10, 10]
    look.undo(); look.undo()
    assert [c.to_json() for c in look.manifest.clusters] == before
    look.redo(); look.redo()
    assert len(look.manifest.clusters) == 3


def test_a_cluster_dropped_as_predicted_keeps_each_class(look):
    a = look.clusters()[0]
    assert look.decide_cluster(a.id, 'drop') == 10
    assert all(look.manifest.images[m].contains == [look.manifest.images[m].predicted] for m in a.members)
    assert look.manifest.cluster(a.id).decision == 'drop' and cluster_counts(look, a)['drop'] == 10
    look.undo()
    assert look.manifest.cluster(a.id).decision == 'undecided' and look.manifest.progress()[0] == 0
    look.redo()
    assert look.manifest.cluster(a.id).decision == 'drop' and look.manifest.progress()[0] == 10


def test_contains_can_be_said_or_denied(look):
    look.decide(look.ids[:1], 'drop', ['train']); look.decide(look.ids[1:2], 'drop', [])
    assert look.manifest.images[look.ids[0]].contains == ['train'] and look.manifest.images[look.ids[1]].contains == []
    look.decide(look.ids[:1], 'keep', ['train'])
    assert look.manifest.images[look.ids[0]].contains == [], 'what is kept contains nothing'


def test_time_is_shared_and_capped(look):
    look.decide(look.ids[:4], 'keep')
    assert look.manifest.history[-1]['seconds'] == 2.0 and look.manifest.images[look.ids[0]].seconds == .5
    look.clock = lambda: 1e6
    look.decide(look.ids[4:5], 'keep')
    assert look.manifest.images[look.ids[4]].seconds == 60


@pytest.mark.parametrize('by', ['', '  ', 'auto:me', 'file:x'])
def test_who_decides_has_a_name(look, by):
    look.by = by
    with pytest.raises(DataError, match='name'): look.decide(look.ids[:1], 'keep')
    with pytest.raises(DataError, match='name'): look.rename(0, 'x')


@pytest.mark.parametrize('parts', [1, 11])
def test_a_split_must_be_possible(look, parts):
    with pytest.raises(DataError, match='split into 2 to 10'): look.split(look.clusters()[0].id, parts)


def test_equal_features_cannot_be_split(look):
    a = look.clusters()[0]
    look.land.store.features[[look.land.row[m] for m in a.members]] = 1.0
    look.known.clear()
    with pytest.raises(DataError, match='same features'): look.split(a.id, 2)


def test_clusters_of_a_person_are_left_alone(look):
    look.rename(0, 'rails')
    assert look.manifest.grouped_by_hand()
    begin_clusters(look.manifest, look.land.store, 5)
    assert [c.name for c in look.manifest.clusters][0] == 'rails' and len(look.manifest.clusters) == 3


def test_features_of_strangers_are_refused(look):
    with pytest.raises(DataError, match='no candidate'):
        Exploration(look.manifest, Landscape(blobs(33), CLASSES))


def test_without_training_images(look):
    bare = Exploration(look.manifest, Landscape(look.land.store, CLASSES), by='jane')
    assert described(bare, bare.clusters()[0]).card.nearest == () and len(bare.land.layout()) == 30
    assert draw_map(bare).png()[:4] == b'\x89PNG'


def test_class_names_keep_apart_on_the_map(look):
    names = ('pottedplant', 'person $1 $2', 'aeroplane')
    look.land.classes, look.land.starred = names, [0, 1, 2]
    look.land.prototypes, look.land.layouts = np.array([[9, 0, 0], [9, .1, 0], [9, 0, .1]], np.float32), {}
    figure = draw_map(look)
    figure.png()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if not text.get_text().isdigit()]     # clusters are numbered
    assert len(boxes) == 3 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_twenty_thousand_stay_quick(quickest):
    "Selecting, filtering, ordering: fractions of a second each."
    n, rng = 20_000, np.random.default_rng(0)
    store = FeatureStore([f'p{i:05d}' for i in range(n)], rng.normal(size=(n, 64)).astype(np.float32), rng.random((n, 5)).astype(np.float32))
    manifest = Manifest(tuple('abcde'), {id: Candidate(f'{id}.jpg', 'a', .5) for id in store.ids.tolist()})
    manifest.set_clusters({id: i % 50 for i, id in enumerate(store.ids.tolist())})
    look = Exploration(manifest, Landscape(store, tuple('abcde')), by='jane')
    look.on_page()      # describes all clusters once

    def work(): look.select(look.ids[:5000]); look.on_page(); look.words = '77 is:undecided'; look.on_page(); look.decide(look.targets(), 'keep')
    assert quickest(work, 1) < 3
