"""The workbench without a screen: selection, filter, order, marks, decisions, undo, clusters, the viewer, what is refused."""
import itertools
import json

import numpy as np
import pytest
from PIL import Image
from wood_nb.base.files import DataError
from wood_nb.ood.candidates import Candidate
from wood_nb.ood.features import FeatureStore
from wood_nb.ood.manifest import Manifest
from wood_nb.widgets.bench.filters import holds
from wood_nb.widgets.bench.grid import SORTS
from wood_nb.widgets.bench.land import begin_clusters, Landscape
from wood_nb.widgets.bench.map import COLOURINGS
from wood_nb.widgets.bench.rows import look_of
from wood_nb.widgets.bench.state import Bench
from wood_nb.widgets.bench.strip import badge, STRIP_ORDERS

CLASSES, GROUPS = ('boat', 'train'), 3
CENTRES = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]], np.float32)


def made(tmp_path, sizes=(12, 10, 8), **options) -> Bench:
    "Three groups far apart, ids a00.. in any order of groups, pictures of growing darkness."
    rng, group = np.random.default_rng(0), np.repeat(np.arange(GROUPS), sizes)
    n = len(group)
    features = CENTRES[group] + rng.normal(0, .3, (n, 3)).astype(np.float32)
    p = np.clip(rng.random((n, 2)), .01, .99).astype(np.float32)
    store = FeatureStore([f'a{i:02d}' for i in range(n)], features, p)
    images = {id: Candidate(f'{id}.png', CLASSES[int(q.argmax())], float(q.max())) for id, q in zip(store.ids.tolist(), p)}
    images['a01'].duplicate_of = 'a00'
    manifest = Manifest(CLASSES, images)
    manifest.set_clusters({id: int(g) for id, g in zip(store.ids.tolist(), group)})
    for i in range(n): Image.new('RGB', (40, 30), (255 - 8*i,)*3).save(tmp_path/f'a{i:02d}.png')
    land = Landscape(store, CLASSES, FeatureStore(['in0', 'in1'], CENTRES[1:] * .9, np.eye(2, dtype=np.float32)), CENTRES[[1, 2]] * .9)
    ticks = itertools.count(0, 2.0)
    return Bench(manifest, land, tmp_path, 'jane', clock=lambda: float(next(ticks)), **options)


@pytest.fixture
def bench(tmp_path): return made(tmp_path)


def decisions(bench) -> dict[str, str]: return {id: c.decision for id, c in bench.manifest.images.items() if c.decision != 'undecided'}
def ids(bench, rows) -> list[str]: return [bench.rows.ids[n] for n in rows]


# -- selecting --
def test_nothing_selected_shows_all_and_a_selection_only_itself(bench):
    assert len(bench.grid.shown()) == 30 and bench.grid.targets() == []
    bench.select([3, 4, 5])
    assert sorted(bench.grid.shown()) == [3, 4, 5] == sorted(bench.grid.targets())
    bench.select([5, 6], 'add'); bench.select([3], 'remove')
    assert sorted(bench.grid.targets()) == [4, 5, 6] and bench.message.text == '3 selected'
    bench.select([6, 7], 'toggle')
    assert sorted(bench.grid.targets()) == [4, 5, 7]
    with pytest.raises(DataError, match='set, add, remove'): bench.select([1], 'more')


def test_lasso_and_box_hold_what_lies_inside(bench):
    xy = bench.map.xy()
    middle = xy[:12].mean(0)
    loop = middle + .2*np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    bench.lasso(loop.tolist())
    inside = set(bench.grid.targets())
    assert inside == {n for n in range(30) if (abs(xy[n] - middle) < .2).all()} and 8 <= len(inside) < 30
    bench.clear(); bench.box([*(middle + .2), *(middle - .2)])
    assert set(bench.grid.targets()) == inside, 'corners in any order'
    bench.box([0, 0, 1, 1], 'remove')
    assert not bench.grid.selected.any()
    bench.lasso([[0, 0], [1, 1]])
    assert not bench.grid.selected.any(), 'a line holds nothing'


def test_a_lasso_takes_only_what_the_filter_shows(bench):
    bench.filter('class:boat')
    bench.box([0, 0, 1, 1])
    assert {bench.rows.candidate(n).predicted for n in bench.grid.targets()} == {'boat'}
    bench.filter('')
    assert bench.state()['targets'] == bench.state()['selected'] < 30


def test_a_cluster_is_selected_whole_and_stays_in_focus_while_it_is_the_selection(bench):
    bench.go(1)
    assert sorted(bench.grid.targets()) == list(range(12, 22)) and bench.strip.focus == 1
    bench.go(2, 'add')
    assert bench.strip.focus is None and len(bench.grid.targets()) == 18
    bench.step_cluster(); assert bench.strip.focus == 0
    bench.step_cluster(-1); assert bench.strip.focus == 2
    bench.entry(1); assert bench.strip.focus == 1, 'a line of the legend is a cluster'
    assert not bench.do('go', cluster=9) and 'there is no cluster 9' in bench.message.text


# -- filter and order --
@pytest.mark.parametrize('word, expected', [
    ('p>0.5', True), ('p<=0.5', False), ('class:boat', True), ('-class:boat', False), ('cluster:ail', True), ('is:keep', False), ('is:undecided', True),
    ('flag:leak', True), ('flag:duplicate', False), ('contains:boat', False), ('by:', False), ('x9', True), ('-', False), ('p>x', False), ('rails', True)])
def test_filter_words(word, expected):
    assert holds(word, 'x9', Candidate('x9.jpg', 'boat', .75, leak_of='train/y'), 'rails') is expected


def test_a_filter_that_nothing_passes_names_the_word(bench):
    assert bench.do('filter', words='is:undecided p>0.5') and bench.message.text.endswith('shown')
    assert not bench.do('filter', words='is:undecided zebra') and "'zebra'" in bench.message.text and bench.message.bad
    assert bench.state()['shown'] == 0 and bench.targets('single') == []


def test_orders(bench):
    for sort in SORTS: bench.sort(sort); bench.measure(); assert sorted(bench.grid.shown()) == list(range(30)), sort
    bench.sort('p')
    assert (np.diff(bench.rows.p[bench.grid.shown()]) <= 0).all()
    bench.sort('name'); assert ids(bench, bench.grid.shown()) == sorted(bench.rows.ids)
    bench.sort('similar', 20)
    assert bench.grid.shown()[0] == 20 and set(bench.grid.shown()[:10].tolist()) == set(range(12, 22))
    bench.sort('dark')
    assert bench.grid.shown().tolist() == list(range(29, -1, -1)), 'the darkest first'
    assert not bench.do('sort', sort='beauty')


def test_dark_and_blurred_pictures_are_looked_at_when_an_order_needs_it(bench):
    assert np.isnan(bench.rows.blur).all()
    bench.sort('blur')
    assert bench.measure(10) == 20 and np.isfinite(bench.rows.blur).sum() == 10
    assert bench.measure() == 0 and bench.measure() == 0
    stripes = np.zeros((40, 40), np.uint8); stripes[::2] = 255
    smooth = np.linspace(0, 255, 40).astype(np.uint8)[None].repeat(40, 0)
    (sharp, dark), (soft, _) = look_of(Image.fromarray(stripes)), look_of(Image.fromarray(smooth))
    assert sharp < .1 < .5 < soft and dark == pytest.approx(.5, abs=.01)


def test_values_are_an_order_of_strip_and_grid(bench):
    bench.sort('value'); assert bench.message.bad
    bench.set_values({1: 3.0, 0: -1.0}, 'points of mIoU')
    assert set(bench.grid.shown()[:10].tolist()) == set(range(12, 22)) and set(bench.grid.shown()[-8:].tolist()) == set(range(22, 30))
    bench.set('strip', 'value')
    assert [(c['id'], c['value']) for c in bench.strip.cards()] == [(1, 3.0), (0, -1.0), (2, None)]
    assert bench.state()['value_name'] == 'points of mIoU'
    with pytest.raises(DataError, match='no cluster 7'): bench.set_values({7: 1})


# -- cursor, marks, window --
def test_the_cursor_is_always_on_something_that_is_shown(bench):
    first = bench.state()['cursor']
    assert first == bench.grid.shown()[0]
    bench.move(3); assert bench.grid.place() == 3
    bench.move(-9); assert bench.grid.place() == 0
    bench.move(99); assert bench.grid.place() == 29
    bench.go(1); assert bench.state()['place'] == 0
    assert bench.grid.window(2, 3) == bench.grid.shown()[2:5].tolist() and bench.grid.window(9, 5) == bench.grid.shown()[9:].tolist()


def test_marks_are_what_is_acted_on(bench):
    bench.go(0)
    shown = bench.grid.shown().tolist()
    bench.mark(shown[2]); bench.mark(shown[5], 'range')
    assert bench.grid.targets() == shown[2:6] == bench.grid.single()
    bench.mark(shown[3]); assert bench.grid.targets() == [shown[n] for n in (2, 4, 5)]
    bench.clear(); assert bench.grid.targets() == shown, 'marks go first'
    bench.clear(); assert bench.grid.targets() == []
    bench.go(0); bench.move(1); bench.move(2, extend=True)
    assert bench.grid.targets() == shown[1:4], 'from where the cursor was'


# -- deciding --
def test_a_small_key_decides_one_picture_and_goes_on(bench):
    bench.go(0)
    shown = bench.grid.shown().tolist()
    for n in range(3): bench.decide('keep' if n < 2 else 'drop', 'single')
    assert decisions(bench) == dict(zip(ids(bench, shown[:3]), ('keep', 'keep', 'drop'))) and bench.grid.place() == 3
    assert bench.manifest.images[ids(bench, shown)[2]].contains == [bench.rows.candidate(shown[2]).predicted]
    assert bench.manifest.images[ids(bench, shown)[0]].by == 'jane' and bench.manifest.images[ids(bench, shown)[0]].seconds > 0
    bench.set('advance', False); bench.decide('keep', 'single'); assert bench.grid.place() == 3
    bench.set('advance', True); bench.move(99); bench.decide('keep', 'single')
    assert bench.grid.place() == 11 and 'the last one' in bench.message.text


def test_with_a_filter_the_next_one_comes_to_the_cursor(bench):
    bench.filter('is:undecided')
    shown = bench.grid.shown().tolist()
    bench.move(2)
    bench.decide('drop', 'single')
    assert bench.grid.cursor == shown[3] and bench.grid.place() == 2
    for n in (4, 5): bench.mark(shown[n])
    bench.decide('keep', 'single')
    assert bench.grid.cursor == shown[6] and len(bench.grid.shown()) == 27


def test_the_buttons_name_and_act_on_the_selection(bench):
    bench.go(0); bench.select([20, 21], 'add')
    n = bench.state()['targets']
    bench.decide('drop', contains=['train'])
    assert n == 14 == len(decisions(bench)) and set(decisions(bench).values()) == {'drop'}
    assert {tuple(c.contains) for c in bench.manifest.images.values() if c.decision == 'drop'} == {('train',)}
    assert all(c.decision == 'undecided' for c in bench.manifest.clusters), 'it was no cluster'
    assert bench.message.text == '14 pictures dropped as train; z takes it back'


def test_a_whole_cluster_is_decided_as_one_and_the_next_undecided_comes(bench):
    bench.go(0); bench.decide('drop')
    assert bench.manifest.cluster(0).decision == 'drop' and bench.strip.focus == 1
    bench.decide('drop'); bench.decide('drop')
    assert set(decisions(bench)) == set(bench.rows.ids) and len(bench.manifest.history) == 3
    assert bench.strip.focus == 2, 'there is no other to decide'
    bench.undo()
    assert bench.manifest.cluster(2).decision == 'undecided' and bench.strip.focus == 2 and len(decisions(bench)) == 22
    bench.undo(); assert bench.strip.focus == 1
    bench.redo(); assert len(decisions(bench)) == 22 and bench.manifest.cluster(1).decision == 'drop'


def test_a_part_of_a_cluster_is_no_cluster(bench):
    bench.go(0); bench.filter('class:boat')
    bench.decide('keep')
    assert bench.manifest.cluster(0).decision == 'undecided' and 0 < len(decisions(bench)) < 12


def test_undo_and_redo_go_where_it_happened(bench):
    bench.go(0)
    first = bench.grid.cursor
    bench.decide('keep', 'single'); bench.move(5)
    bench.undo(); assert bench.grid.cursor == first and not decisions(bench) and 'taken back' in bench.message.text
    bench.redo(); assert len(decisions(bench)) == 1
    bench.undo(); assert not bench.do('undo') and bench.message.text == 'there is nothing to undo'
    assert bench.do('redo') and not bench.do('redo')


def test_what_is_taken_back_elsewhere_is_shown(bench):
    bench.go(1); bench.decide('drop', what='single'); bench.go(2); bench.undo()
    assert bench.strip.focus == 1 and bench.manifest.history == []


def test_the_rest_is_kept_and_a_brush_decides_by_a_click(bench):
    bench.go(0)
    first, second, third = bench.grid.window(0, 3)
    bench.set('brush', 'drop'); bench.click(second)
    assert decisions(bench) == {bench.rows.ids[second]: 'drop'} and bench.grid.cursor == second, 'a click goes nowhere'
    bench.keep_rest(0, 3)
    assert [bench.rows.candidate(row).decision for row in (first, second, third)] == ['keep', 'drop', 'keep'] and bench.grid.place() == 3
    bench.click(second); assert bench.rows.candidate(second).decision == 'undecided'
    bench.click(first, 'range'); assert bench.grid.marked[first], 'Shift marks'
    with pytest.raises(DataError, match='nothing is left'): bench.keep_rest(0, 1)
    with pytest.raises(DataError, match='not shown'): bench.click(bench.strip.members(1)[0])


def test_a_double_click_changes_nothing(bench):
    bench.go(0)
    first, second = bench.grid.window(0, 2)
    bench.decide('keep', 'single')
    before, steps = decisions(bench), len(bench.manifest.history)
    for brush in ('', 'drop', 'keep'):
        bench.set('brush', brush)
        for row in (first, second): bench.click(row); bench.click(row, 'back')
        assert decisions(bench) == before and len(bench.manifest.history) == steps and not bench.grid.marked.any(), brush
    bench.set('by', '')
    assert not bench.do('click', row=first) and not bench.do('click', row=first, how='back') and decisions(bench) == before, 'nothing was decided'


def test_nobody_decides_without_a_name_and_nothing_without_a_target(bench):
    assert not bench.do('decide', decision='keep') and 'nothing is selected' in bench.message.text
    bench.set('by', ' ')
    assert not bench.do('decide', decision='keep', what='single') and 'write your name' in bench.message.text
    bench.set('by', 'auto:x'); assert not bench.do('decide', decision='keep', what='single')
    assert not decisions(bench) and not bench.manifest.history
    with pytest.raises(DataError, match='nothing that the workbench does'): bench.do('_changed', ids=[])
    assert not bench.do('set', name='rows', value=1)


def test_others_hear_of_every_change(bench):
    heard = []
    bench.on_decision(lambda ids: heard.append(list(ids)))
    bench.go(2); bench.decide('keep'); bench.undo(); bench.redo(); bench.decide('drop', 'single')
    assert [len(ids) for ids in heard] == [8, 8, 8, 1]


def test_what_dropped_pictures_contain_may_be_set_once(bench):
    bench.set('contains', []); bench.decide('drop', 'single')
    bench.set('contains', ['train', 'boat']); bench.decide('drop', 'single')
    assert [c.contains for c in bench.manifest.images.values() if c.decision == 'drop'] in ([[], ['boat', 'train']], [['boat', 'train'], []])


# -- two maps of one picture --
def test_a_divider_is_dragged_and_two_maps_flicker(bench):
    left, right = (Image.new('RGB', (10, 4), colour) for colour in ('red', 'blue'))
    seen = lambda: [bench.wipe.seen(left, right).getpixel((x, 2)) == (255, 0, 0) for x in (0, 4, 9)]  # noqa: E731
    assert seen() == [True, True, False]
    bench.do('drag', at=.2); assert seen() == [True, False, False]
    bench.do('drag', at=7); assert bench.state()['wipe']['at'] == 1.0 and seen() == [True, True, True]
    bench.do('flicker'); assert bench.wipe.show == 'left'
    bench.do('flicker'); assert bench.wipe.show == 'right' and seen() == [False]*3
    bench.do('flicker', show='both'); assert bench.wipe.show == 'both' and bench.wipe.at == 1.0
    bench.do('flicker'); bench.do('drag', at=.5); assert seen() == [True, True, False], 'who drags wants to see both'
    assert not bench.do('flicker', show='neither') and 'both, left, right' in bench.message.text


def test_any_two_maps_can_be_compared_and_a_pinned_picture_enlarged(bench):
    for action, how in (('compare', dict(left='CAM')), ('enlarge', {}), ('overlay', {})):
        assert not bench.do(action, **how) and 'live=True' in bench.message.text
    bench.wipe.offer(['CAM', 'W-OoD', 'now'], 'CAM', 'now', ['p0', 'p1'])
    turn = bench.wipe.turn
    assert bench.do('compare', left='W-OoD') and (bench.wipe.left, bench.wipe.right) == ('W-OoD', 'now') and bench.wipe.turn > turn
    bench.show(3)
    for by, large in ((0, 'p0'), (1, 'p1'), (1, 'p0'), (-1, 'p1')):
        assert bench.do('enlarge', by=by) and bench.state()['wipe']['large'] == large and not bench.viewer.open
    assert not bench.do('enlarge', id='p7') and 'p0, p1' in bench.message.text
    bench.select([1, 2])
    assert bench.state()['targets'] == 0 and not bench.do('decide', decision='drop') and not decisions(bench)
    bench.close_viewer(); assert bench.state()['wipe']['large'] == '' and bench.state()['targets'] == 2
    bench.do('enlarge'); bench.show(1); assert bench.wipe.large == '' and bench.viewer.open
    assert bench.do('overlay') and bench.state()['maps'] and bench.do('overlay') and not bench.state()['maps']


# -- viewer --
def test_the_viewer_shows_one_picture_and_decides_only_that(bench, tmp_path):
    bench.go(0)
    shown = bench.grid.shown().tolist()
    bench.mark(shown[4]); bench.show(shown[1])
    assert bench.state()['viewer'] == shown[1] and bench.targets() == [shown[1]]
    bench.decide('drop')
    assert list(decisions(bench)) == ids(bench, [shown[1]]) and bench.state()['viewer'] == shown[2]
    facts = dict(bench.state()['facts'])
    assert facts['decided by'] == 'nobody yet' and facts['cluster'].startswith('cluster 0')
    bench.move(-1); assert dict(bench.state()['facts'])['decided by'].startswith('jane')
    bench.close_viewer(); assert bench.state()['viewer'] == -1
    assert bench.viewer.picture(3) == ((tmp_path/'a03.png').read_bytes(), 'image/png')
    assert 'duplicate of a00' in bench.viewer.doubles(1) and bench.viewer.doubles(0) == 'doubled by a01' and bench.viewer.doubles(5) == 'none'
    (tmp_path/'a03.png').unlink(); content, kind = bench.viewer.picture(3)
    assert kind == 'image/jpeg' and content[:2] == b'\xff\xd8', 'a grey card for a file that is gone'


# -- clusters, colours, what the page gets --
def test_cards_say_what_is_decided_and_what_is_near(bench):
    bench.go(0); bench.mark(0); bench.mark(1); bench.decide('keep')
    cards = {c['id']: c for c in bench.strip.cards()}
    assert [(c['size'], c['keep'], c['undecided']) for c in cards.values()] == [(12, 2, 10), (10, 0, 10), (8, 0, 8)]
    assert cards[1]['near'] == 'boat' and cards[2]['near'] == 'train' and cards[1]['away'] < 2 < cards[0]['away']
    assert cards[0]['colour'] == bench.map.legend()[0]['colour'], 'the same on the map'
    assert len(cards[0]['faces']) == 3 and set(cards[0]['faces']) < set(range(12))
    for order in STRIP_ORDERS: bench.set('strip', order); assert len(bench.strip.cards()) == 3
    assert len({tuple(badge(n).values()) for n in range(45)}) == 45


def test_names_merges_and_splits_and_their_way_back(bench):
    assert not bench.do('merge', others=[1]) and 'no cluster is chosen' in bench.message.text
    bench.go(0); bench.rename('sea'); bench.merge([2])
    assert [(c['name'], c['size']) for c in bench.strip.cards()] == [('sea', 20), ('cluster 1', 10)] and len(bench.grid.targets()) == 20
    bench.split(2)
    assert sorted(c['size'] for c in bench.strip.cards()) == [8, 10, 12]
    for _ in range(3): bench.undo()
    assert [c['name'] for c in bench.strip.cards()] == ['cluster 0', 'cluster 1', 'cluster 2']


@pytest.mark.parametrize('colour', COLOURINGS)
def test_every_point_has_a_line_of_the_legend(bench, colour):
    bench.set('colour', colour)
    labels, legend = bench.map.labels(), bench.map.legend()
    assert len(labels) == 34 and labels.max() == len(legend) - 1 and labels[30:].min() == len(legend) - 1
    bench.entry(int(labels[7]))
    assert 7 in bench.grid.targets()
    assert bench.map.stars() == ['boat', 'train'] and bench.map.lines(30)[:2] == ['in0', 'in-distribution'] and bench.map.lines(33)[0] == 'train'


def test_one_byte_says_all_of_a_point(bench):
    bench.go(0); bench.mark(3); bench.decide('drop'); bench.filter('is:undecided')
    flags = bench.flags()
    assert len(flags) == 34
    assert flags[3] & 1 and flags[3] & 2 and (flags[3] >> 3) & 3 == 1 and not flags[20] & 3 and (flags[20] >> 3) & 3 == 2
    assert flags[1] >> 5 == 1, 'a duplicate'
    json.dumps(bench.state())


def test_a_split_must_be_possible(bench):
    bench.go(2)
    for parts in (1, 9):
        with pytest.raises(DataError, match='can be split into 2 to 8 parts'): bench.split(parts)
    bench.rows.land.store.features[bench.strip.members(2)] = 1.0
    with pytest.raises(DataError, match='same features'): bench.split(2)


def test_clusters_of_a_person_are_left_alone(bench):
    bench.go(0); bench.rename('rails')
    begin_clusters(bench.manifest, bench.rows.land.store, 5)
    assert [cluster.name for cluster in bench.manifest.clusters][0] == 'rails' and len(bench.manifest.clusters) == 3


def test_features_of_strangers_are_refused(bench, tmp_path):
    del bench.manifest.images['a07']
    with pytest.raises(DataError, match="'a07' has features but is no candidate"): Bench(bench.manifest, bench.rows.land, tmp_path)


def test_what_others_have_changed_is_read_again(bench):
    bench.manifest.decide(['a05'], 'keep', by='bob'); bench.manifest.merge_clusters(0, [1], 'bob')
    bench.reread()
    assert bench.state()['decided'] == 1 and len(bench.strip.cards()) == 2


def test_twenty_thousand(tmp_path, quickest):
    "Selecting, deciding 3,000 and undoing them stay quick."
    n, rng = 20_000, np.random.default_rng(0)
    store = FeatureStore([f'p{i:05d}' for i in range(n)], rng.normal(size=(n, 8)).astype(np.float32), rng.random((n, 2)).astype(np.float32), np.arange(n) % 40, np.zeros((40, 8), np.float32))
    manifest = Manifest(CLASSES, {id: Candidate(f'{id}.jpg', 'boat', .5) for id in store.ids.tolist()})
    begin_clusters(manifest, store)
    bench = Bench(manifest, Landscape(store, CLASSES), tmp_path, 'jane')

    def shown(work):
        def whole(): work(); bench.state(); bench.flags()
        return whole
    xy = bench.map.xy()
    loop = xy.mean(0) + .1*np.stack([np.cos(np.linspace(0, 6, 60)), np.sin(np.linspace(0, 6, 60))], 1)
    assert quickest(shown(lambda: bench.lasso(loop.tolist()))) < .2 and bench.grid.selected.sum() > 1000
    keep = shown(lambda: (bench.select(np.arange(3000)), bench.decide('keep')))
    assert quickest(keep) < .3 and bench.state()['decided'] == 3000
    assert quickest(shown(bench.undo)) < .3 and bench.state()['decided'] == 0
    assert quickest(shown(lambda: bench.filter('is:undecided p>0.4'))) < .4
