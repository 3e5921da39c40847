"""The report: one file, nothing from outside, nothing that runs, whatever names it is given; and honest about what it shows."""
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wood_nb.ood.features import cluster_store, FeatureStore
from wood_nb.data.images import write_mask
from wood_nb.data.sources import load_pool
from wood_nb.data.splits import Item, Split
from wood_nb.ood.candidates import Candidate
from wood_nb.ood.manifest import Manifest
from wood_nb.maps.cam import Maps, save_maps
from wood_nb.scores.bootstrap import write_counts
from wood_nb.scores.context import Contexts, context_shares, moves, OBJECT
from wood_nb.scores.curves import curve_rows, THRESHOLDS, ThresholdSweep, write_curves
from wood_nb.scores.rows import result_row
from wood_nb.base.files import write_json
from wood_nb.base.html import as_html, img
from wood_nb.maps.methods import CAM, colour_of, dash_of, IRN, WOOD
from wood_nb.report.context import context_section
from wood_nb.report.page import leads_out, page, preview
from wood_nb.report.later import later_section, relation_pictures
from wood_nb.report.maps import choose_images, heat_picture, image_gains, SIDE, truth_picture
from wood_nb.report.ood import cluster_section, mining_section
from wood_nb.report.report import report_html, write_report
from wood_nb.report.result import class_gains, curve_section, headline, notes, stroke_of, verdict
from wood_nb.report.run_data import evaluations, find_pairs, read_curves, ReportData, seed_rows
from wood_nb.report.training import flattened, skipped_list, training_section

NASTY = '<img src=x onerror=alert(1)>"\'&'
CLASSES = ('cat', '<b>dog</b>')
SIZE = (40, 30)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def make_split(folder: Path, name: str, n: int, masks=True) -> Split:
    items = []
    for i in range(n):
        image, mask, label = folder/f'{name}{i}.png', folder/f'{name}{i}_mask.png', i%2
        picture(i).save(image)
        truth = np.zeros(SIZE[::-1], np.uint8)
        truth[5:20, 5 + i:25] = label + 1
        write_mask(mask, truth)
        items.append(Item(f'{name}{i}', image, (label,), mask if masks else None))
    return Split(name, items, CLASSES)


def make_maps(split: Split, spill: float) -> dict:
    "Maps that find the object and `spill` of its surroundings."
    found = {}
    for i, item in enumerate(split.items):
        inside = split.mask(i) > 0 if item.mask else np.zeros(SIZE[::-1], bool)
        heat = np.where(inside, 1, spill*np.random.default_rng(i).random(inside.shape)).astype(np.float32)
        small = np.asarray(Image.fromarray(heat).resize((10, 8), Image.Resampling.BOX))[None]
        found[item.id] = Maps(np.array(item.labels), small, SIZE[::-1])
    return found


def score(folder: Path, split: Split, maps: dict, threshold=0.5, others='ignore') -> list[dict]:
    rows, curves = [], []
    for method, found in maps.items():
        sweep = ThresholdSweep(classes=split.classes)
        for i, item in enumerate(split.items): sweep.add(found[item.id].at_full_size(), found[item.id].keys, split.mask(i))
        rows.append(result_row(sweep.scores_at(threshold), method=method, split=split.name, threshold=threshold,
                               threshold_from='train masks', seed=0, images=len(split), run='r', other_classes=others))
        curves += curve_rows(sweep, method, split.name, seed=0)
        write_counts(folder/'eval'/f'{method}-{split.name}.npz', split.ids, sweep.image_counts(threshold), threshold)
    write_curves(folder/'curves.csv', curves)
    return rows


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> ReportData:
    "A run as if it had been: two methods, a pool with an unreadable picture, a manifest, clusters, logs."
    folder = tmp_path_factory.mktemp('run')
    for name in ('images', 'pool', 'clusters'): (folder/name).mkdir()
    val, train = make_split(folder/'images', 'val', 8), make_split(folder/'images', 'train', 6)
    maps = {'cam': make_maps(val, 0.9), 'wood': make_maps(val, 0.3)}
    for i in range(14): picture(100 + i).save(folder/'pool'/f'p{i}.png')
    (folder/'pool'/'p3.png').write_bytes(b'no picture')
    pool, rng = load_pool(folder/'pool'), np.random.default_rng(0)
    images = {id: Candidate(f'{id}.png', CLASSES[n%2], 0.9 - n/40, 'drop' if n%5 == 0 else 'keep', [CLASSES[0]]*(n%5 == 0),
                            by=NASTY if n < 3 else 'auto:typical', seconds=2.0 if n < 3 else None) for n, id in enumerate(pool.ids)}
    images['p7'].leak_of, images['p8'].duplicate_of = f'val/{NASTY}', 'p9'
    manifest = Manifest(CLASSES, images, {'root': 'pool', 'images': 14}, {'threshold': 0.5, 'scored': 13, 'above': {'cat': 7}})
    ids = manifest.usable()
    store = cluster_store(FeatureStore(ids, rng.normal(size=(len(ids), 6)), rng.random((len(ids), 2))), 3)
    manifest.set_clusters({id: int(k) for id, k in zip(store.ids, store.cluster)}, {0: NASTY})
    inside = FeatureStore(train.ids, rng.normal(size=(6, 6)), rng.random((6, 2)))
    log = [{'step': n + 1, 'loss': 1/(n + 1), 'loss/cls': 0.5/(n + 1), 'loss/distance': -0.1*n, 'images_per_s': 30.0} for n in range(40)]
    note = {'config': {'data': NASTY, 'others': 'ignore', 'prune': 'auto', 'seed': 0, 'wood': {'train': {'lr': 0.1}, 'tau': 0.2}},
            'versions': {'wood_nb': '0.1.0'}, 'created': '2026-01-31T12:00:00+00:00', 'command': f'wood run --data {NASTY}',
            'stages': {'data': {'seconds': 1.0, 'finished': '2026-01-31T12:00:00', 'info': {'notes': [f'left out: {NASTY}'], 'n': 3}}},
            'skipped': [{'file': f'{folder}/pool/p3.png', 'why': NASTY, 'stage': 'mining'}]}
    return ReportData(NASTY, note, score(folder, val, maps), folder, val, maps, {'classifier': log, 'continued': log, 'wood': log},
                      pool, manifest, store, inside, train)


@pytest.fixture(scope='module')
def document(data) -> str: return report_html(data)


def test_nothing_leads_out_and_nothing_runs(document):
    assert leads_out(document) == []
    head = unescape(document[:2000])
    assert document.count('<script') == 1 and "script-src 'sha256-" in head and "default-src 'none'" in head
    assert 'http://' not in document and 'https://' not in document


def test_names_stay_text(document):
    assert '<img src=x' not in document and '<b>dog' not in document
    assert document.count('&lt;img src=x onerror=alert(1)&gt;') >= 6  # run, option, command, note, cluster, person, leak


def test_every_section_is_there(document):
    for id in ('result', 'curves', 'classes', 'maps', 'candidates', 'clusters', 'training', 'run', 'skipped'):
        assert f'<section id="{id}"' in document and f'href="#{id}"' in document
    assert document.count('<h1>') == 1 and 'lang="en"' in document and 'prefers-color-scheme:dark' in document
    assert 'alt=""' not in document and document.count('<img ') == document.count(' alt="')


def context_masks(item) -> np.ndarray | None:
    "Water below, sky above, and no mask of the last image."
    return None if item.id == 'val7' else np.repeat(np.where(np.arange(SIZE[1]) < 12, 2, 1).astype(np.uint8)[:, None], SIZE[0], 1)


def test_what_maps_lie_on_is_a_section_where_the_data_know_it(data, document):
    assert '<section id="contexts"' not in document and context_section(data) is None, 'no context masks'
    known = replace(data, contexts=Contexts((NASTY, 'sky'), context_masks))
    text = report_html(known)
    assert '<section id="contexts"' in text and 'What the maps lie on' in text and leads_out(text) == [] and '<img src=x' not in text
    found = context_shares(known.split, known.maps, known.contexts)
    assert all(line in unescape(text) for line in moves(found['cam'], found['wood']))
    assert 'Images without a context mask, left out: 1.' in text and text.count('CAM: ') >= len(CLASSES)
    assert found['wood'].share('cat', OBJECT) > found['cam'].share('cat', OBJECT)
    nothing = {method: {id: replace(each, stride4=0*each.stride4) for id, each in maps.items()} for method, maps in data.maps.items()}
    assert context_section(replace(known, maps=nothing)) is None and context_section(replace(known, maps={})) is None


def test_each_score_says_what_it_rests_on(document):
    for words in ('split val', 'threshold 0.5 (chosen on train masks)', 'random seed 0', 'without CRF', 'measured here', '95 % interval'):
        assert words in document, words


def test_it_is_small_and_written_whole(data, tmp_path, monkeypatch):
    path = write_report(tmp_path/'report.html', data)
    assert path.stat().st_size < 5e6
    before = path.read_bytes()
    monkeypatch.setattr('wood_nb.report.report.page', lambda *a: 1/0)
    with pytest.raises(ZeroDivisionError): write_report(path, data)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_counts_and_rows_agree(data):
    [pair] = find_pairs(data)
    assert pair.points == pytest.approx(100*pair.interval.difference, abs=0.01) and pair.points > 0
    assert verdict(pair) == headline(data, [pair]) and 'more than CAM' in verdict(pair)
    assert list(class_gains(pair)) == sorted(class_gains(pair), key=lambda c: -class_gains(pair)[c].value)


def test_stale_counts_give_no_interval(data):
    moved = replace(data, results=[{**row, 'threshold': THRESHOLDS[3]} for row in data.results])
    assert [pair.interval for pair in find_pairs(moved)] == [None]
    elsewhere = replace(data, results=[{**row, 'other_classes': 'background'} for row in data.results])
    assert [pair.interval for pair in find_pairs(elsewhere)] == [None]


def test_only_what_can_be_compared_is_compared(data):
    cam, wood = data.results
    for key, value in (('split', 'train'), ('seed', 1), ('crf', True), ('stage', 'mask'), ('measured', False)):
        assert find_pairs(replace(data, results=[cam, {**wood, key: value}])) == []


def test_a_doubtful_difference_is_called_doubtful(data):
    [pair] = find_pairs(data)
    open_ = pair._replace(interval=replace(pair.interval, low=-0.1))
    assert 'do not settle' in verdict(open_) and 'settle' not in verdict(pair)
    worse = pair._replace(baseline=pair.other, other=pair.baseline)
    assert 'less than' in verdict(worse)


def test_losses_are_shown_like_gains():
    gains = {f'i{n}': float(n - 10) for n in range(20)}
    best, worst, drawn = choose_images(list(gains), gains, each=3).values()
    assert best == ['i19', 'i18', 'i17'] and worst == ['i0', 'i1', 'i2'] and len(drawn) == 3
    assert not {*drawn} & {*best, *worst} and choose_images(list(gains), gains, 3) == choose_images(list(gains), gains, 3)
    best, worst, _ = choose_images(list(gains), {id: 1.0 for id in gains}, each=3).values()
    assert len(best) == 3 and worst == []


def test_image_gains_are_those_of_the_images(data):
    gains = image_gains(data)
    assert set(gains) == set(data.split.ids) and np.mean(list(gains.values())) > 0


def test_without_candidates(data):
    alone = replace(data, results=data.results[:1], maps={'cam': data.maps['cam']}, manifest=None, pool=None, features=None, inside=None)
    document = report_html(alone)
    assert leads_out(document) == [] and 'no candidates' in document and '<section id="clusters"' not in document
    assert 'CAM seeds reach' in document


def test_without_masks(data, tmp_path):
    split = Split('val', [replace(item, mask=None) for item in data.split.items], CLASSES)
    document = report_html(replace(data, results=[], split=split, path=tmp_path))
    assert 'without masks there are no scores' in document and '<section id="classes"' not in document
    assert document.count('class="row"') == 8  # all images, drawn at random
    empty = report_html(replace(data, results=[], split=split, path=tmp_path, maps={}, logs={}))
    assert '<section id="maps"' not in empty


def test_images_without_labels_and_maps(data):
    item = replace(data.split[0], labels=())
    split = Split('val', [item, *data.split.items[1:]], CLASSES)
    none = Maps(np.zeros(0, np.int64), np.zeros((0, 8, 10), np.float32), SIZE[::-1])
    maps = {method: {**found, item.id: none} for method, found in data.maps.items()}
    assert 'no class' in report_html(replace(data, split=split, maps=maps, results=[]))


def test_what_was_skipped():
    rows = [{'file': f'/pool/{NASTY}{n}', 'why': 'empty file', 'stage': 'mining'} for n in range(1000)]
    text = str(as_html(skipped_list({'skipped': rows}, '/pool')))
    assert '1,000 files were skipped' in text and text.count('<tr>') == 41 and '<img' not in text and '/pool' not in text
    assert 'Nothing was skipped' in str(as_html(skipped_list({})))


def test_declared_choices_are_told(data):
    told = ' '.join(notes(data))
    for words in ('automatic rule', 'best on train masks', 'as many steps as W-OoD', 'One random seed', 'are ignored', 'left out'):
        assert words in told, words
    random = replace(data, note={**data.note, 'config': {**data.config, 'mine': 'random', 'prune': 'none', 'let_in': 0.3}})
    assert all(words in ' '.join(notes(random)) for words in ('drawn at random', 'not pruned', '30 %'))
    fixed = replace(data, results=[{**row, 'threshold_from': 'fixed'} for row in data.results])
    assert 'fixed beforehand' in ' '.join(notes(fixed))


def test_many_classes_and_clusters_stay_small(data):
    names, ids = tuple(f'class {n}' for n in range(80)), data.pool.ids
    images = {id: Candidate(f'{id}.png', names[n], 0.9, 'keep', by='auto:none') for n, id in enumerate(ids)}
    many = replace(data, manifest=Manifest(names, images, {'images': 14}, {}), features=None, inside=None)
    assert len(report_html(many)) < 3e6


def test_pieces():
    assert leads_out(page('t', 'lead', [], img(picture(0), NASTY))) == []
    assert flattened({'a': {'b': 1}, 'c': 2}) == {'a.b': 1, 'c': 2}
    for bad in ('<a href="x.html">', '<p onclick="x">', '<div style="background:url(x)">', '<iframe srcdoc="">', '<link rel=x>'):
        assert leads_out(bad), bad
    assert '<b>x</b>' not in preview('<b>x</b>') and '<style>' in preview()


def test_a_method_is_drawn_as_the_registry_says(document):
    assert stroke_of(WOOD).colour == stroke_of('wood+irn+crf').colour == colour_of(WOOD) and stroke_of(WOOD).dashes == ()
    assert stroke_of(CAM).dashes and stroke_of('cam+irn').dashes == tuple(2*d for d in dash_of(IRN)[1])
    curves = document.partition('<section id="curves"')[2].partition('</section>')[0]
    assert f'--own:{colour_of(WOOD)}"' in curves and f'--own:{colour_of(CAM)};stroke-dasharray' in curves


def test_rings_lie_on_their_curves(data):
    curves = read_curves(data.path/'curves.csv')['val']
    for row in seed_rows(data):
        x, y = curves[row['method']]
        assert y[np.argmin(np.abs(x - row['threshold']))] == pytest.approx(row['miou'], abs=0.01)
    assert curve_section(replace(data, path=data.path/'nowhere')) is None


def test_training_curves_are_thinned_and_bear_gaps(data):
    log = [{'step': n + 1, 'loss': 1.0, 'loss/cls': 1.0} | ({'loss/ood': 0.5} if n%3 else {}) for n in range(5000)]
    text = str(as_html(training_section(replace(data, logs={'wood': log})).body))
    assert '5,000 steps' in text and 'zero labels' in text and 'nan' not in text and len(text) < 60_000


def test_pictures_of_an_image_have_one_size(data):
    image, mask, maps = data.split.image(1), data.split.mask(1), data.maps['wood'][data.split[1].id]
    panels = [heat_picture(image, maps, 0.5), heat_picture(image, maps, None), truth_picture(image, mask)]
    assert {panel.size for panel in panels} == {(SIDE, SIDE*3//4)}
    edge = (np.asarray(panels[0]) == 255).all(-1)
    assert edge.any() and not (np.asarray(panels[1]) == 255).all(-1).any()
    pale = truth_picture(image, np.full_like(mask, 255))
    assert np.asarray(pale).min() > 100  # ignored pixels


def test_the_way_from_the_pool_loses_nobody(data):
    text = str(as_html(mining_section(data).body))
    assert '<b>14</b><span>pictures in the pool' in text and f'<b>{len(data.features)}</b><span>used' in text
    assert mining_section(replace(data, manifest=None)) is None and cluster_section(replace(data, features=None)) is None


def test_what_came_after_the_seeds(data, tmp_path):
    "Masks made by another stage have a table and pictures; an evaluation has its outlines; pairs of seeds stay as they are."
    for method in data.maps:
        for n, item in enumerate(data.split.items):
            write_mask(tmp_path/'masks'/f'{method}+crf'/'val'/f'{item.id}.png', data.split.mask(n))
            save_maps(tmp_path/'maps'/method/'val'/f'{item.id}.npz', data.maps[method][item.id])
    rows = [{**row, 'stage': 'mask', 'crf': True} for row in data.results]
    own = {'classes': {name: {'boundary_f': 40.0} for name in ('background', *CLASSES)}, 'mean_boundary_f': 44.0,
           'confusions': [{'true': 'cat', 'taken_for': 'background', 'share': 0.4}], 'method': 'wood'}
    write_json(tmp_path/'segmentation/wood/masks/val/evaluation.json', {'format': 'wood_nb.evaluation', 'version': 1, **own})
    later = replace(data, path=tmp_path, results=[*data.results, *rows])
    text = str(as_html(later_section(later).body))
    assert list(evaluations(later)) == ['W-OoD'] and '44.0' in text and 'CAM + CRF' in text and 'W-OoD + CRF' in text
    assert text.count('class="row"') == 6 and later_section(data) is None
    assert seed_rows(later) == seed_rows(data) and len(find_pairs(later)) == len(find_pairs(data))


NARROW = """() => {
  const small = [...document.querySelectorAll('svg.chart text')].filter(text => text.getClientRects().length).map(text => {
    const box = text.ownerSVGElement;
    return parseFloat(getComputedStyle(text).fontSize) * box.getBoundingClientRect().width / box.viewBox.baseVal.width;
  }).filter(size => size < 11);
  const cut = [...document.querySelectorAll('.scroll, figcaption, caption span')].filter(box => box.scrollWidth > box.clientWidth + 1);
  return [small, cut.map(box => box.textContent.slice(0, 60))];
}"""


@pytest.mark.browser
def test_in_a_browser(data, tmp_path, browser):
    "No complaint, no request, tables sort, and nothing is wider than a telephone, a tablet or a laptop; contexts are in it, too."
    path = tmp_path/'report.html'
    path.write_text(report_html(replace(data, contexts=Contexts((NASTY, 'sky'), context_masks))), encoding='utf-8')
    view, said = browser.new_page(viewport={'width': 390, 'height': 800}, color_scheme='dark'), []
    view.on('console', lambda message: said.append(message.text))
    view.on('pageerror', lambda error: said.append(str(error)))
    view.on('request', lambda request: said.append(request.url) if not request.url.startswith(('file:', 'data:')) else None)
    view.goto(path.as_uri())
    assert view.evaluate('document.documentElement.scrollWidth') <= 390
    view.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    for width in (1440, 768, 390):
        view.set_viewport_size({'width': width, 'height': 800})
        small, cut = view.evaluate(NARROW)
        assert small == [] and (width == 768 or cut == []), width  # type of 11 pixels; no table or caption is cut, but on a tablet they may scroll
        assert view.evaluate('document.documentElement.scrollWidth') <= width
    head = view.locator('#classes table.sort thead button').nth(3)
    head.click()
    column = '#classes table.sort >> nth=0 >> tbody td:nth-child(4)'
    values = [float(v) for v in view.locator(column).evaluate_all('cells => cells.map(cell => cell.dataset.value)')]
    assert values == sorted(values, reverse=True)
    view.close()
    assert said == []


def test_pictures_of_irn_with_a_transparent_channel(tmp_path):
    from types import SimpleNamespace
    (tmp_path/'refine'/'wood+irn').mkdir(parents=True)
    Image.new('RGBA', (40, 20), (255, 255, 255, 255)).save(tmp_path/'refine'/'wood+irn'/'relations.png')
    shown, = relation_pictures(SimpleNamespace(path=tmp_path))
    assert 'W-OoD + IRN' in str(shown) and 'data:image' in str(shown)
