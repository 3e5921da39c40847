"""The paper's tables: every mean recomputed, flagged rows, measured figures beside printed ones, four forms."""
import csv
import io
import json

import pytest
from matplotlib.figure import Figure

from wood_nb.base.files import DataError, read_json, write_json
from wood_nb.data.images import VOC_CLASSES
from wood_nb.maps.methods import METHODS, system_of, system_rows, with_ood
from wood_nb.scores.printed import (check_means, flagged, grid_rows, GridCell, measured_grids, other_methods, paper_table, plot_grids,
                                    plot_images, Point, read_points, reported, reported_grid, reported_rows, table_a3,
                                    table_text, write_table)
from wood_nb.scores.rows import write_results


def make_run(place, miou=50.0, data='scenes:here', method='wood', stage='segmentation', split='val', seed=0, point=None, crf=False):
    write_json(place/'run.json', {'format': 'wood_nb.run', 'version': 1, 'config': {'data': data}})
    write_results(place/'metrics.json', [{'method': method, 'stage': stage, 'split': split, 'seed': seed, 'crf': crf, 'miou': miou, 'other_classes': 'ignore',
                                          'per_class': {'background': miou, 'train': miou}, 'measured': True, 'source': None, 'threshold': None, 'threshold_from': None}])
    if point: write_json(place/'point.json', {'format': 'wood_nb.point', 'version': 1, 'points': [{'method': method, **point}]})
    return place


# --- what was printed ---------------------------------------------------------------------------------------------------

def test_every_mean_is_that_of_its_values_or_flagged():
    checks = check_means()
    assert len(checks) == 16 and {(o.name, o.split) for o in checks if abs(o.off) > 0.06} == {('FickleNet‡', 'test'), ('BBAM‡', 'val')}
    assert all('mean differs' in o.flags for o in checks if abs(o.off) > 0.06)
    ficklenet, = [o for o in checks if o.name.startswith('Fickle') and o.split == 'test']
    assert round(ficklenet.recomputed, 1) == 65.0 and ficklenet.printed == 65.3


def test_the_flagged_rows():
    assert {(o.method, o.split, o.flags) for o in flagged()} == {
        ('SSDD', 'test', ('repeats val',)), ('FickleNet', 'test', ('mean differs',)), ('BBAM', 'val', ('mean differs', 'box labels')), ('BBAM', 'test', ('box labels',)),
        ('AdvCAM', 'val', ('other figure in its own paper',)), ('AdvCAM', 'test', ('other figure in its own paper',))}
    said = {(o.method, o.split): ' '.join(o.remarks) for o in flagged()}
    assert '65.5' in said['SSDD', 'test'] and '68.1' in said['AdvCAM', 'val'] and '68.0' in said['AdvCAM', 'test']


def test_no_two_rows_are_alike_but_the_flagged_ones():
    rows = reported_rows()
    alike = [(a.method, a.split, b.split) for i, a in enumerate(rows) for b in rows[i + 1:] if a.values == b.values]
    assert alike == [('SSDD', 'val', 'test')] and 'repeats val' in reported_rows('test')[2].flags


def test_who_has_rows_where():
    methods = {split: [o.method for o in reported_rows(split)] for split in ('val', 'test')}
    assert methods['val'] == ['PSA', 'CIAN', 'SEAM', 'FickleNet', 'SSDD', 'BBAM', 'AdvCAM', 'W-OoD', 'W-OoD']
    assert methods['test'] == [o for o in methods['val'] if o not in ('CIAN', 'SEAM')] and reported('A3')['absent'] == {'test': ['CIAN', 'SEAM']}
    assert all(list(o.values) == ['background', *VOC_CLASSES] and o.source for o in reported_rows())


def test_the_printed_figures_agree_with_the_document_they_come_from(shared):
    lines = (shared/'seed.md').read_text(encoding='utf-8').splitlines()
    printed = [o.split('\t') for o in lines if o.count('\t') == 22 and not o.startswith('\t') and o.split('\t')[1]]
    ours = [[*row.values.values(), row.miou] for row in reported_rows()]
    assert len(printed) == 16 and ours == [[float(o.split()[0]) for o in line[1:]] for line in printed]


def test_a1_grows_and_a2_has_its_best_cell():
    a1 = reported('A1')
    assert a1['images'] == [0, 20, 500, 5190] and a1['miou'] == [67.5, 68.1, 69.0, 69.8]
    cells = reported_grid()
    assert len(cells) == 16 and max(cells, key=lambda o: o.miou)[:3] == (20, 0.007, 53.3) and set(grid_rows(cells)) == {10, 20, 30, 40}
    with pytest.raises(DataError, match='A1, A2 and A3'): reported('A4')


def test_what_other_methods_report():
    "Every row has a source and says what it uses; W-OoD's rows are those of A3."
    rows = other_methods()
    assert len(rows) > 40 and all(o.source and any(v is not None for v in (o.val, o.test, o.coco)) for o in rows)
    assert {(o.network, o.val, o.test) for o in rows if o.method == 'W-OoD'} == {('ResNet-101', 69.8, 69.9), ('WideResNet-38', 70.7, 70.1)}
    assert [(o.val, o.test, o.coco) for o in rows if o.method in ('SSC', 'WeCLIP+')] == [(72.7, None, 47.0), (None, 83.9, 56.3)]
    assert all(o.uses for o in rows if 'CLIP' in o.method) and len({(o.method, o.network, o.source) for o in rows}) == len(rows)
    text = table_text(paper_table('others'), 'markdown')
    assert 'SSC' in text and text.index('MoRe') < text.index('WeCLIP+')


# --- measured beside printed --------------------------------------------------------------------------------------------

def test_printed_and_measured_never_share_a_block(tmp):
    runs = [make_run(tmp/'a'), make_run(tmp/'b', 52.0, seed=1), make_run(tmp/'c', 40.0, 'voc:there/VOC2012')]
    table = table_a3('val', runs)
    assert [o.heading for o in table.blocks] == ['Reported, val', 'Measured here: drawn scenes, segmentation, split val', 'Measured here: VOC2012, segmentation, split val',
                                                 'What each row rests on']
    assert [[row.measured for row in o.table.rows] for o in table.blocks[:3]] == [[False]*9, [True], [True]]
    assert table.blocks[1].table.rows[0].miou == 51.0 and table.blocks[1].table.rows[0].facts['seed'] == [0, 1]


def test_the_printed_mean_stands_and_repeated_rows_win_nothing():
    table = table_a3('test').blocks[0].table
    rows = {row.name: row for row in table.rows}
    assert rows['FickleNet‡'].miou == 65.3 and rows['SSDD‡'].miou == 64.9
    html = table_text(table_a3('test'), 'html')
    assert '<b>83.7</b>' not in html and 'CIAN and SEAM have no row on test' in html and '65.5' in html


def test_a_run_without_the_stage_is_named(tmp):
    make_run(tmp/'a', stage='seed')
    with pytest.raises(DataError, match=r"no measured scores for stage 'segmentation' on split 'val' .it has seed on val"): paper_table('A3', [tmp/'a'])
    with pytest.raises(DataError, match='no such file'): paper_table('A3', [tmp/'nothing'])
    with pytest.raises(DataError, match='rows for val and test'): paper_table('A3', split='train')


def make_systems(place, seed):
    "A run with a final segmentation of every system, each without OoD pictures and with them, and of the true masks."
    make_run(place, seed=seed)
    base = read_json(place/'metrics.json', 'wood_nb.metrics')['results'][0]
    methods = dict.fromkeys(o for row in ('cam', *system_rows().values(), 'truth') for o in (row, with_ood(row)) if o)
    rows = [{**base, 'method': method, 'miou': 30.0 + n + (2 + seed)*('ood' in method or 'wood' in method)} for n, method in enumerate(methods)]
    masks = [{**base, 'method': 'seam+psa', 'stage': 'mask', 'split': 'train', 'threshold': .3 + seed/10, 'threshold_from': 'train masks'}]
    write_results(place/'metrics.json', rows + masks)
    return place


def test_all_systems_of_the_registry_stand_under_the_printed_ones(tmp):
    assert {METHODS[name].label for name in system_rows()} == {o.method for o in reported_rows()} | {'IRN'}
    assert [with_ood(o) for o in ('cam', 'cam+irn', 'seam+psa', 'bbam', 'wood+irn', 'truth')] == ['wood', 'wood+irn', 'seam-ood+psa', 'bbam-ood', None, None]
    assert [system_of(o) for o in ('wood+advcam+irn', 'seam-ood+psa', 'cam+irn+cian', 'seam')] == ['wood', 'seam', 'cian', None]
    table = table_a3('val', [make_systems(tmp/f'{seed}', seed) for seed in (0, 1)])
    labels, boxes, truth, facts = table.blocks[1:]
    assert [row.name for row in labels.table.rows][:6] == ['CAM + PSA', 'W-OoD + PSA', 'CAM + IRN + CIAN', 'W-OoD + IRN + CIAN', 'SEAM + PSA', 'SEAM + OoD + PSA']
    assert ['true masks' in truth.heading, 'boxes' in boxes.heading] == [True]*2 and [row.name for row in boxes.table.rows] == ['BBAM', 'BBAM, OoD negatives']
    lines = {line[0].text: [cell.text for cell in line[1:]] for line in facts.table.cells}
    assert lines['W-OoD (ResNet-101)'][:2] == ['W-OoD', 'reported'] and not facts.remarks
    assert lines['SEAM + OoD + PSA'] == ['SEAM with OoD', 'measured', 'drawn scenes, val', 'none', '0, 1', 'without', '47.5 ± 0.7', '+3.5 ± 0.7']
    assert lines['SEAM + PSA'][3] == '0.3, 0.4 (train masks)' and lines['W-OoD + AdvCAM + IRN'][0] == 'W-OoD' and lines['CAM'][0] == '–'
    few = table_a3('val', [make_run(tmp/'few')]).blocks[-1]
    assert few.remarks[0].startswith('Not measured in these runs: W-OoD, AdvCAM, IRN')
    assert 'SEAM + OoD' in table_text(table, 'latex') and 'What each row rests on' in table_text(table, 'csv')


def test_points_of_a_sweep_fill_a1(tmp):
    runs = [make_run(tmp/f'{n}-{s}', 40 + n/10 + s, method='cam' if not n else 'wood', seed=s, point={'sweep': 'A1', 'setting': {'images': n}}) for n in (20, 0, 8) for s in (0, 2)]
    table = paper_table('A1', runs)
    assert [c.text for c in table.blocks[1].table.cells[0]] == ['OoD pictures', '0', '8', '20']
    assert [c.text for c in table.blocks[1].table.cells[1]] == ['mIoU', '41.0 ± 1.4', '41.8 ± 1.4', '43.0 ± 1.4'] and table.blocks[1].table.cells[1][3].best
    assert read_points(runs, 'A1', 'segmentation', 'val')[0] == Point((('images', 0),), (40.0, 42.0), 'drawn scenes')


def add_row(place, **changes):
    content = read_json(place/'metrics.json', 'wood_nb.metrics')
    write_results(place/'metrics.json', [*content['results'], {**content['results'][0], **changes}])


def test_a_point_is_the_headline_of_its_run(tmp):
    "Of the two rows of a run with some classes only, the one that its configuration names, whichever comes last."
    run = make_run(tmp/'a', 40.0, point={'sweep': 'A1', 'setting': {'images': 0}})
    add_row(run, other_classes='background', miou=30.0)
    assert read_points([run], 'A1', 'segmentation', 'val')[0].miou == (40.0,)
    assert 'other classes: ignore.' in table_text(paper_table('A1', [run]), 'markdown')
    write_json(run/'run.json', {'format': 'wood_nb.run', 'version': 1, 'config': {'data': 'scenes:here', 'others': 'background'}})
    assert read_points([run], 'A1', 'segmentation', 'val')[0] == Point((('images', 0),), (30.0,), 'drawn scenes', 'background')


def test_networks_are_kept_apart(tmp):
    "Two networks of one run are two points and two blocks, not two seeds nor one figure over the other."
    runs = [make_run(tmp/f'{n}', 40.0 + n, point={'sweep': 'A1', 'setting': {'images': n}}) for n in (0, 9)]
    for n, run in zip((0, 9), runs):
        write_results(run/'metrics.json', [{**read_json(run/'metrics.json', 'wood_nb.metrics')['results'][0], 'network': net, 'miou': miou + n}
                                           for net, miou in (('small', 10), ('large', 50))])
    points = {(o.data, o['images']): o.miou for o in read_points(runs, 'A1', 'segmentation', 'val')}
    assert points == {(f'drawn scenes, {net}', n): (miou + n,) for net, miou in (('small', 10), ('large', 50)) for n in (0, 9)}
    assert len(paper_table('A1', runs).blocks) == 3 and [o.heading for o in table_a3('val', runs[:1]).blocks[1:-1]] == [
        f'Measured here: drawn scenes, {net}, segmentation, split val' for net in ('small', 'large')]


def test_points_of_a_sweep_fill_a2(tmp):
    runs = [make_run(tmp/f'{tau}-{w}', tau + w, stage='seed', split='train', point={'sweep': 'A2', 'setting': {'tau': tau, 'lambda': w}}) for tau in (10, 20) for w in (0.5, 0.25)]
    grid = measured_grids(runs)['drawn scenes']
    assert grid[0] == GridCell(10, 0.25, 10.25, '10.2') and len(paper_table('A2', runs).blocks) == 2
    assert plot_grids({'reported': reported_grid(), 'measured': grid}).png()[:4] == b'\x89PNG'
    with pytest.raises(DataError, match='no point of sweep A1'): paper_table('A1', runs, stage='seed', split='train')
    with pytest.raises(DataError, match='point.json'): paper_table('A1', [make_run(tmp/'plain')])


def test_the_best_cell_of_a_grid_is_framed():
    from wood_nb.scores.printed import _draw_grid
    axis = Figure().subplots()
    _draw_grid(axis, {.1: [GridCell(.1, 1, 40.0, '40'), GridCell(.1, 2, 50.0, '50')], .2: [GridCell(.2, 1, 45.0, '45')]})
    frame, = axis.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((.5, -.5), 1, 1)  # the cell of column 1, row 0


# --- four forms ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['A1', 'A2', 'A3', 'others'])
def test_all_forms_of_all_tables(name, tmp):
    table = paper_table(name)
    for suffix in ('.md', '.html', '.tex', '.csv'): assert write_table(table, tmp/f't{suffix}').stat().st_size > 80
    latex, markdown = (tmp/'t.tex').read_text(), (tmp/'t.md').read_text()
    assert latex.count(r'\begin{tabular}') == latex.count(r'\end{tabular}') == 1 and (r'\%' in latex or name == 'others') and '### Reported' in markdown
    assert {o[0] for o in csv.reader(io.StringIO((tmp/'t.csv').read_text()))} == {table.blocks[0].heading}
    with pytest.raises(DataError, match='write a table as'): write_table(table, tmp/'t.doc')


def test_csv_has_full_figures(tmp):
    lines = list(csv.reader(io.StringIO(table_text(table_a3('val'), 'csv'))))
    assert len(lines) == 10 and lines[-1][1] == 'W-OoD (WideResNet-38)' and lines[-1][-1] == '70.7'


def test_pictures_of_a1():
    assert plot_images({'a': [(0, 60.0, None), (20, 61.0, 0.5)], 'b': [(0, 50.0, None)]}).png()[:4] == b'\x89PNG'


def test_the_data_file_is_plain_and_complete():
    from pathlib import Path

    import wood_nb.scores.printed
    content = json.loads(Path(wood_nb.scores.printed.__file__).with_name('reported.json').read_text(encoding='utf-8'))
    assert content['format'] == 'wood_nb.reported' and all(content[name]['source'] if name != 'A3' else True for name in ('A1', 'A2', 'A3'))


def test_a_point_whose_setting_says_nothing(tmp_path):
    from wood_nb.scores.printed import read_points
    for sweep, setting, name in [('A1', {}, 'images'), ('A2', {'tau': 20}, 'lambda')]:
        write_json(tmp_path/'point.json', {'format': 'wood_nb.point', 'version': 1, 'points': [{'sweep': sweep, 'method': 'wood', 'setting': setting}]})
        with pytest.raises(DataError, match=f"point.json: .* lacks '{name}'"): read_points([tmp_path], sweep, 'seed', 'val')
