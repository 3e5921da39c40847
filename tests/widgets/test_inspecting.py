"""The inspector's plain model and its widgets without a display: thresholds, IoU, orders, pixels, figures, tables, refusals."""
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wood_nb.base.files import DataError
from wood_nb.data.images import write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.scores.context import Contexts
from wood_nb.widgets.inspecting import (class_table, confused_pixels, difference, gains, heat, image_score, indices, Inspection, lies_on,
                                        MapFolder, open_inspection, ORDERS, outline, panels, scope, seed_of, sweep_of)
from wood_nb.widgets.sheets import contact_sheet, view_picture
from wood_nb.maps.cam import Maps, save_maps

SIZE, CLASSES = (40, 60), ('boat', 'train')


def bump(x, y, spread=8.0):
    rows, columns = np.mgrid[:SIZE[0], :SIZE[1]]
    return np.exp(-((rows - y)**2 + (columns - x)**2)/(2*spread**2)).astype(np.float32)


@pytest.fixture
def split(tmp_path):
    "Three images of a boat at (20, 20); the second holds a train at (45, 20) too; the third has a name like HTML."
    items = []
    for n, name in enumerate(['a', 'b', '<b>$c']):
        Image.fromarray(np.full((*SIZE, 3), 90 + 40*n, np.uint8)).save(tmp_path/f'{name}.jpg')
        mask = np.zeros(SIZE, np.uint8)
        mask[12:28, 12:28] = 1
        if n == 1: mask[12:28, 38:52] = 2
        write_mask(tmp_path/f'{name}.png', mask)
        items.append(Item(name, tmp_path/f'{name}.jpg', (0, 1) if n == 1 else (0,), tmp_path/f'{name}.png'))
    return Split('val', items, CLASSES)


@pytest.fixture
def methods(split, tmp_path):
    "`good` finds the boat, `bad` is off by n pixels in the n-th image (from 4 on), so its loss grows."
    for name, off in (('good', 0), ('bad', 4)):
        for n, item in enumerate(split.items):
            found = [bump(20 + off*(n + 1), 20)] + ([bump(45, 20)] if n == 1 else [])
            maps = Maps(np.array(item.labels), np.stack(found)[:, ::4, ::4], SIZE, np.stack(found))
            save_maps(tmp_path/name/f'{item.id}.npz', maps)
    return {name: tmp_path/name for name in ('bad', 'good')}


@pytest.fixture
def look(split, methods): return open_inspection(split, methods)


def test_maps_seeds_and_scores_agree_with_a_hand_count(look):
    look.thresholds['good'] = .5
    mask, found = look.split.mask(0), heat(look, 'good')
    seed = seed_of(look, 'good')
    assert (seed == (found > .5)).all()
    by_hand = ((mask == 1) & (seed == 1)).sum() / ((mask == 1) | (seed == 1)).sum()
    assert np.isclose(image_score(look, 'good').shown, by_hand)
    assert (difference(look) == heat(look, 'good') - heat(look, 'bad')).all()


def test_a_threshold_changes_seed_and_iou(look):
    look.thresholds['good'] = .2
    large, before = (seed_of(look, 'good') > 0).sum(), image_score(look, 'good')
    look.thresholds['good'] = .8
    assert (seed_of(look, 'good') > 0).sum() < large and image_score(look, 'good') != before


def test_orders(look):
    look.order = ORDERS[1]
    assert gains(look).min() > 0 and indices(look)[0] == int(gains(look).argmax())
    look.order = ORDERS[2]
    assert indices(look)[0] == int(gains(look).argmin())
    look.order, look.only = ORDERS[0], 1
    assert indices(look) == [1], 'only images with a train'
    look.only = None
    assert [look.split[n].id for n in indices(look)] == sorted(look.split.ids)


def test_an_order_is_settled_when_chosen(look):
    look.order = ORDERS[1]
    before = look.places()
    look.thresholds['good'] = .95
    assert look.places() == before and look.places(again=True) == indices(look)
    start = look.index
    for _ in look.split.items: look.step(1)
    assert look.index == start, 'round at the ends'


def test_classes_turn(look):
    look.index = 1
    assert look.class_shown == 0
    look.turn_class()
    assert look.class_shown == 1
    look.index = 0
    assert look.class_shown == 0, 'an image without the class shows its own'


def test_values_at_a_pixel(look):
    assert look.values_at(20, 20)['good'] > .99 and look.values_at(20, 20)['bad'] < look.values_at(20, 20)['good']
    for x, y in ((-1, 0), (60, 0), (0, 40)):
        with pytest.raises(DataError, match='outside'): look.values_at(x, y)


@pytest.mark.parametrize('width', [1, 2])
def test_outline_matches_a_slow_one(width):
    mask = np.random.default_rng(0).random((17, 13)) > .7
    grown = mask.copy()
    for _ in range(width):
        new = grown.copy()
        for r, c in zip(*np.nonzero(grown)):
            for dr, dc in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                if 0 <= r + dr < 17 and 0 <= c + dc < 13: new[r + dr, c + dc] = True
        grown = new
    assert (outline(mask, width) == (grown & ~mask)).all()


def test_panels_and_pictures(look):
    found = panels(look)
    assert [p.title for p in found] == ['image', 'ground truth', 'bad', 'good', 'good − bad']
    assert all(p.pixels.dtype == np.uint8 and p.pixels.shape == found[0].pixels.shape for p in found)
    look.show('<b>$c')
    assert view_picture(look).png()[:4] == b'\x89PNG', 'a dollar is no formula'
    index = look.index
    assert contact_sheet(look, [0, 1]).png()[:4] == b'\x89PNG' and look.index == index
    with pytest.raises(DataError): contact_sheet(look, [])


def test_without_masks_only_names_order(split, methods):
    bare = Split('x', [Item(i.id, i.image, i.labels) for i in split.items], CLASSES)
    look = open_inspection(bare, methods)
    assert [p.title for p in panels(look)] == ['image', 'bad', 'good', 'good − bad'] and np.isnan(image_score(look, 'good').mean)
    look.order = ORDERS[1]
    with pytest.raises(DataError, match='no masks'): indices(look)


def test_what_is_missing_is_said(split, methods, tmp_path):
    with pytest.raises(DataError, match='no such folder'): MapFolder(tmp_path/'nowhere')
    with pytest.raises(DataError, match='nothing to inspect'): Inspection(split, {})
    with pytest.raises(DataError, match="no image 'z'"): open_inspection(split, methods).show('z')
    assert len(MapFolder(methods['good'])) == 3 and set(MapFolder(methods['good'])) == set(split.ids)


# the widgets

@pytest.fixture
def inspector(split, methods, tmp_path):
    pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')
    from wood_nb.widgets.inspector import LocalizationInspector
    return LocalizationInspector(split, methods, folder=tmp_path/'out')


def key(inspector, name): inspector.hear(None, {'type': 'key', 'key': name}, [])


def test_widget_slider_draws_again(inspector):
    before = list(inspector.view.pictures)
    inspector.sliders['good'].value = .77
    assert inspector.look.thresholds['good'] == .77 and 'threshold 0.77' in inspector.view.panels[3][1]
    assert inspector.view.pictures[3] != before[3] and inspector.view.pictures[2] == before[2]
    inspector.opacity_box.value = .1
    assert inspector.view.pictures[2] != before[2]


def test_widget_keys(inspector):
    first, t = inspector.look.index, dict(inspector.look.thresholds)
    key(inspector, 'ArrowRight')
    assert inspector.look.index != first
    key(inspector, 'p')
    assert inspector.look.index == first
    key(inspector, 'ArrowUp')
    assert inspector.look.thresholds['good'] == pytest.approx(t['good'] + .01) and inspector.sliders['good'].value == pytest.approx(t['good'] + .01)
    key(inspector, 'ArrowDown'); key(inspector, 'g'); key(inspector, '+'); key(inspector, '?'); key(inspector, 'nonsense')
    assert inspector.look.truth and inspector.look.opacity == .7 and inspector.help.layout.display is None
    key(inspector, 'o')
    assert inspector.order_box.value == ORDERS[1] and inspector.look.index == inspector.look.places()[0]


def test_widget_click_and_exports(inspector):
    inspector.hear(None, {'type': 'click', 'x': 20/60, 'y': .5}, [])
    assert 'pixel (20, 20)' in inspector.values.value and 'truth: boat' in inspector.values.value
    inspector.hear(None, {'type': 'click', 'x': 7, 'y': -3}, [])
    assert 'pixel (59, 0)' in inspector.values.value, 'kept inside'
    assert inspector.export_view() and inspector.export_sheet(rows=2) and 'written' in inspector.status.value
    assert all(Image.open(o).size[0] > 300 for o in inspector.folder.iterdir()) and len(list(inspector.folder.iterdir())) == 2
    assert Image.open(io.BytesIO(inspector.to_png())).size[0] > 300


def test_values_of_a_pixel_go_with_their_image(inspector):
    inspector.hear(None, {'type': 'click', 'x': 20/60, 'y': .5}, [])
    inspector.set_threshold('good', .97)
    assert inspector.view.point == [20/60, .5] and 'pixel (20, 20)' in inspector.values.value, 'it stays while the image does'
    for leave in (lambda: inspector.click_shot(1), lambda: inspector.show('b'), lambda: key(inspector, 'ArrowRight')):
        inspector.hear(None, {'type': 'click', 'x': .5, 'y': .5}, [])
        at = inspector.look.index
        leave()
        assert inspector.look.index == at or ('click a pixel' in inspector.values.value and inspector.view.point == [])


def test_an_order_that_has_become_old_is_sorted_again_when_asked(inspector):
    assert inspector.again_button.disabled
    inspector.order_box.value = ORDERS[1]
    assert inspector.again_button.disabled
    inspector.set_threshold('good', .97)
    assert not inspector.again_button.disabled, 'the images stay where they are while a threshold moves'
    key(inspector, 'r')
    assert inspector.again_button.disabled and inspector.look.index == inspector.look.places()[0]


def test_widget_page_and_names(inspector, tmp_path):
    from wood_nb.report.page import leads_out
    inspector.show('<b>$c')
    page = inspector.to_html(tmp_path/'p.html')
    assert '<b>$c' not in page.replace('<b>good', '') and leads_out(page) == [] and (tmp_path/'p.html').stat().st_size > 10_000
    assert '<b>$c' not in inspector.place_text.value


def test_widget_boxes(inspector):
    inspector.only_box.value = 1
    assert inspector.look.index == 1 and inspector.near == [1]
    inspector.class_box.value = 1
    assert inspector.look.class_shown == 1 and 'train' in inspector.view.panels[2][1]
    inspector.only_box.value = -1
    assert len(inspector.near) == 3
    inspector.click_shot(2)
    assert inspector.look.index == inspector.near[2]
    inspector.method_box.value = 'bad'
    assert inspector.look.pair == ('bad', 'bad') and len(inspector.view.panels) == 4


def test_lowest_and_odd_thresholds_order_too(inspector):
    for value in (0, -3, .005): inspector.set_threshold('good', value)
    assert inspector.look.thresholds['good'] == .01 and inspector.sliders['good'].min == .01
    inspector.set_threshold('bad', .3251)
    assert inspector.set('order', ORDERS[1]) and inspector.next() and inspector.look.thresholds['bad'] == .33


def test_an_order_that_is_refused_is_taken_back(inspector, monkeypatch):
    inspector.look.thresholds = dict.fromkeys(inspector.look.thresholds, 0.0)        # behind the widgets' back
    inspector.order_box.value = ORDERS[1]
    assert 'not swept' in inspector.status.value and inspector.look.order == inspector.order_box.value == ORDERS[0]
    assert inspector.next() and 'wood-bad' not in inspector.status.value


def test_a_file_that_vanishes_is_said(inspector, methods):
    inspector.look.show('b')
    inspector.look.methods['good'].read.cache_clear(), inspector.look.whole.cache_clear()
    (methods['good']/'<b>$c.npz').unlink()
    assert not inspector.show('<b>$c') and 'no such file' in inspector.status.value
    assert inspector.show('a') and 'wood-bad' not in inspector.status.value


def test_images_without_all_maps_are_left_out_and_counted(split, methods, tmp_path):
    from wood_nb.widgets.inspector import LocalizationInspector
    (methods['good']/'b.npz').unlink()
    inspector = LocalizationInspector(split, methods, folder=tmp_path)
    assert inspector.look.split.ids == ['a', '<b>$c'] and '2 of 3 images have maps of every method' in inspector.place_text.value
    assert inspector.set('order', ORDERS[2]) and inspector.next() and '2 of 3 images' in inspector.to_html()
    with pytest.raises(DataError, match='no image of split'): LocalizationInspector(split, {'good': methods['good'], 'none': {}})
    assert scope(open_inspection(split, {'bad': methods['bad']})) == ''


def test_a_run_is_inspected_with_any_method_that_has_maps(tmp_path):
    import shutil
    pytest.importorskip('ipywidgets'); pytest.importorskip('anywidget')
    from wood_nb.runs.run import Run
    from wood_nb.runs.tiny import tiny_run
    from wood_nb.scores.rows import read_results, write_results
    from wood_nb.widgets.inspector import inspect_run
    shutil.copytree(tiny_run().path, tmp_path/'run', ignore=shutil.ignore_patterns('continued', 'clusters', '*.html'))
    run = Run(tmp_path/'run')
    walked = run.path/'maps'/'wood+irn'/'val'
    walked.mkdir(parents=True)
    for file in sorted((run.path/'maps'/'wood'/'val').glob('*'))[:6]: shutil.copy(file, walked)
    rows = read_results(run.path/'metrics.json')
    write_results(run.path/'metrics.json', [*rows, {**rows[-1], 'method': 'wood+irn', 'stage': 'mask', 'split': 'val[:6]', 'threshold': .4}])
    assert list(inspect_run(run).look.methods) == ['CAM', 'W-OoD']
    inspector = inspect_run(run, methods=['wood', 'wood+irn'])
    assert list(inspector.sliders) == ['W-OoD', 'W-OoD + IRN'] and inspector.look.thresholds['W-OoD + IRN'] == .4
    assert len(inspector.look.split) == len(list(walked.glob('*.npz'))) and 'of 48 images' in inspector.place_text.value
    with pytest.raises(DataError, match="no maps of 'wood[+]advcam' on val; there are those of cam, wood, wood[+]irn"):
        inspect_run(run, methods=['wood+advcam'])
    (tmp_path/'around').mkdir()
    (tmp_path/'around'/'context_classes.txt').write_text('1 water\n')
    run.config = replace(run.config, contexts=str(tmp_path/'around'))
    assert inspect_run(run).look.contexts.names == ('water',), 'those that --contexts names'


def test_the_caption_says_what_the_map_lies_on_where_that_is_known(split, methods, look):
    assert look.contexts is None and lies_on(look, 'good') == '' and all('on water' not in panel.text for panel in panels(look))
    around = np.ones(SIZE, np.uint8)
    around[:, 30:] = 2
    known = open_inspection(split, methods, contexts=Contexts(('water', 'sky'), lambda item: None if item.id == 'b' else around))
    found, mask = heat(known, 'good'), split.mask(0)
    on_boat, on_water = (round(100*float(found[part].sum()/found.sum())) for part in (mask == 1, (mask != 1) & (around == 1)))
    assert on_boat > on_water > 0 and lies_on(known, 'good') == f'{on_boat} % on boat, {on_water} % on water'
    assert panels(known)[3].text.endswith(f'; {on_boat} % on boat, {on_water} % on water') and view_picture(known) and contact_sheet(known, [0, 1])
    known.show('b')
    assert lies_on(known, 'good') == '', 'no context mask'


# figures for print

def test_a_figure_for_print_keeps_text_outlines_and_pixels(inspector, tmp_path):
    inspector.show('b')
    figure = inspector.save(tmp_path/'view.svg').read_text()
    inspector.save(tmp_path/'sheet.pdf', rows=2)
    assert re.search(r'<svg [^>]*width="493[.]', figure), '17.4 cm, in points'
    assert '>good</text>' in figure and '>boat, train</text>' in figure and '>threshold 0' in figure, 'text is text'
    assert figure.count('<image ') == 5 and figure.count('<path ') >= 4, 'photographs, and outlines as lines'
    assert (tmp_path/'sheet.pdf').read_bytes()[:5] == b'%PDF-'
    assert inspector.save(tmp_path/'again.svg').read_text() == figure, 'the same figure has the same bytes'
    png = Image.open(inspector.save(tmp_path/'wide.png', rows=1, width=10))
    assert png.width == pytest.approx(10/2.54*300, abs=2)


def test_panels_of_a_sheet_touch(look):
    axes = [axis.get_position() for axis in contact_sheet(look, [0, 1]).axes]
    assert len(axes) == 10 and all(abs(a.x1 - b.x0) < 1e-6 for a, b in zip(axes[:5], axes[1:5])) and abs(axes[0].y0 - axes[5].y1) < 1e-6
    assert axes[0].x0 == 0 and axes[4].x1 == pytest.approx(1)


def test_an_image_without_a_mask_leaves_its_cell_empty(split, methods):
    items = [split.items[0], Item('b', split[1].image, split[1].labels, None)]
    look = open_inspection(Split('val', items, CLASSES), methods)
    figure = contact_sheet(look, [0, 1])
    assert [len(axis.images) for axis in figure.axes] == [1]*5 + [1, 0, 1, 1, 1]


def test_figures_are_written_in_the_format_that_was_chosen(inspector, tmp_path):
    inspector.format_box.value = 'PDF'
    assert inspector.export_view() and inspector.export_sheet(rows=2)
    assert sorted(o.name for o in inspector.folder.iterdir()) == ['a.pdf', 'contact-name.pdf']
    assert not inspector.export_view(tmp_path/'x.gif') and 'png, pdf, svg' in inspector.status.value and not (tmp_path/'x.gif').exists()


# some of the images: the worst, those of a confusion, those around a row of the table

def test_the_page_hears_every_key(inspector):
    from wood_nb.widgets.inspector import INSPECTOR_KEYS
    script = (Path(__file__).parents[2]/'wood_nb'/'widgets'/'panels.js').read_text()
    taken = re.search(r'TAKEN = new Set\(\[(.*?)\]', script)[1]
    assert set(re.findall(r"'(.*?)'", taken)) == set(INSPECTOR_KEYS)


def test_the_worst_images_are_one_click_away(inspector):
    inspector.method_box.value, inspector.baseline_box.value = 'bad', 'good'
    inspector.losses_button.click()
    worst = np.argsort(gains(inspector.look)).tolist()
    assert inspector.near == worst and inspector.look.index == worst[0] and inspector.shots[0].description.startswith('-')


def test_confusions_are_those_of_the_pixels(look):
    guess, true = seed_of(look, 'bad', 1), look.split.mask(1)
    found = confused_pixels(look, 'bad', 1, 0)
    assert found[1] == ((true == 1) & (guess == 0)).sum() and list(found.values()) == sorted(found.values(), reverse=True)
    whole = sweep_of(look, 'bad').scores_at(look.thresholds['bad']).confusion
    for cell in np.ndindex(3, 3): assert sum(confused_pixels(look, 'bad', *cell).values()) == whole[cell]


def test_a_confusion_opens_its_images(inspector):
    assert inspector.toggle_confusions() and inspector.drawer.children == (inspector.confusions.widget,)
    grid = inspector.confusions
    assert grid.view.names == ['background', 'boat', 'train'] and grid.view.shares[1][1] > 50
    grid.method_box.value = 'bad'
    grid.hear(None, {'type': 'pick', 'true': 1, 'taken': 0}, [])
    found = list(confused_pixels(inspector.look, 'bad', 1, 0))
    assert inspector.near == found and inspector.look.class_shown == 0 and 'bad takes boat for background' in inspector.place_text.value
    grid.hear(None, {'type': 'pick', 'true': 2, 'taken': 1}, [])
    if not confused_pixels(inspector.look, 'bad', 2, 1): assert 'no image' in inspector.status.value and inspector.near == found
    inspector.all_button.click()
    assert len(inspector.near) == 3 and inspector.all_button.disabled
    assert inspector.toggle_confusions() and inspector.drawer.children == ()
    inspector.close()


def test_the_table_sorts_and_a_row_opens_its_image(inspector):
    key(inspector, 't')
    table, view = inspector.table.table, inspector.table.view
    assert view.heads == ['image', 'classes', 'IoU bad', 'IoU good', 'gain', 'on object bad', 'on object good']
    columns = table.columns()
    assert np.allclose(columns['gain'], columns['IoU good'] - columns['IoU bad']) and columns['on object good'].min() > columns['on object bad'].max()
    inspector.table.hear(None, {'type': 'sort', 'by': 'gain'}, [])
    assert view.by == ['gain', True] and view.order == np.argsort(-columns['gain']).tolist()
    inspector.table.hear(None, {'type': 'sort', 'by': 'gain'}, [])
    assert view.by == ['gain', False] and view.order == np.argsort(columns['gain']).tolist()
    inspector.table.hear(None, {'type': 'pick', 'row': 1}, [])
    assert inspector.look.index == view.order[1] == view.here and inspector.near == view.order and 'by gain, smallest first' in inspector.place_text.value
    before = view.values
    inspector.set_threshold('good', .9)
    assert view.values != before, 'it follows the thresholds'
    inspector.add_column('loss', {'b': 2.0})
    inspector.table.sort('loss')
    assert view.order[0] == 1 and view.values[-1] == [None, 2.0, None]
    with pytest.raises(DataError, match="no column 'age'"): inspector.table.sort('age')
    key(inspector, 't')
    assert inspector.drawer.children == ()


def test_without_masks_there_is_no_table(split, methods):
    from wood_nb.widgets.inspector import LocalizationInspector
    bare = LocalizationInspector(Split('x', [Item(i.id, i.image, i.labels) for i in split.items], CLASSES), methods)
    assert not bare.toggle_table() and 'no masks' in bare.status.value and bare.table_button.disabled and not bare.toggle_confusions()


# maps of other tools

def test_arrays_of_another_tool_stand_beside_ours(split, methods):
    "Small, negative, or above one: as our own maps are, they are scaled up, cut at zero, and divided by their maximum."
    arrays = {id: {'boat': 7*bump(20, 20)[::4, ::4] - .5} for id in split.ids}
    arrays['b'] = {0: bump(20, 20), 'train': bump(45, 20).astype(np.float64)}
    look = open_inspection(split, {'bad': methods['bad'], 'theirs': arrays})
    found = heat(look, 'theirs')
    assert found.shape == SIZE and found.min() == 0 and found.max() == pytest.approx(1, abs=1e-4) and abs(found - heat(look, 'bad')).max() > .2
    look.show('b')
    assert [look.methods['theirs']['b'].keys.tolist(), heat(look, 'theirs')[20, 20]] == [[0, 1], pytest.approx(1, abs=1e-4)]
    table = class_table(look)
    assert table.row('theirs').per_class['boat'] > table.row('bad').per_class['boat'] and 'theirs' in table.to_markdown()


@pytest.mark.parametrize('change,words', [
    ({'z': {'boat': bump(1, 1)}}, "'z', which is no image"), ({'a': {'bus': bump(1, 1)}}, "map of 'bus' in a, which is not among its labels [(]boat"),
    ({'a': {'train': bump(1, 1)}}, "map of 'train' in a"), ({'a': {'boat': bump(1, 1)[None]}}, 'finite numbers'),
    ({'a': {'boat': np.full(SIZE, np.nan)}}, 'finite numbers')])
def test_arrays_that_do_not_fit_are_named(split, change, words):
    with pytest.raises(DataError, match=words): open_inspection(split, {'theirs': {'a': {'boat': bump(20, 20)}, **change}})
