"""Boxes in a run: detector, masks, labels and rows; begun again nothing is done twice; box rows stand apart everywhere."""
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from wood_nb.base.files import DataError, read_json, write_json
from wood_nb.cli.parser import main
from wood_nb.data.images import read_mask
from wood_nb.maps.bbam import BBAMConfig, load_box_masks
from wood_nb.maps.cam import load_maps
from wood_nb.maps.methods import BBAM, BBAM_OOD, CAM, from_boxes, method_name, TRUTH, WOOD
from wood_nb.report.later import later_section
from wood_nb.report.run_data import ReportData
from wood_nb.runs.boxes import BoxRunConfig, use_boxes
from wood_nb.runs.run import Run
from wood_nb.runs.share import mask_folder
from wood_nb.runs.tiny import tiny_run
from wood_nb.scores.printed import table_a3
from wood_nb.scores.rows import write_results
from wood_nb.train.detect import DetectorConfig

pytestmark = pytest.mark.usefixtures('one_thread')
QUICK = BoxRunConfig.sized(96, images=2, detector=DetectorConfig(steps=2, batch_size=2), masks=BBAMConfig(steps=2, proposals=20, overlaps=(0.3,)))


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
    "A copy of the small run (links: whole files are written anew)."
    folder = tmp_path_factory.mktemp('boxes')/'run'
    shutil.copytree(tiny_run().path, folder, copy_function=os.link, ignore=shutil.ignore_patterns('features', '.lock*'))
    return Run(folder)


def quiet(run: Run, config: BoxRunConfig) -> list[dict]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return use_boxes(run, config, say=lambda text: None)


def test_sizes_of_the_run():
    made = BoxRunConfig.sized(128, ood=True)
    assert made.detector.augment.long_side == (96, 128) and made.method == BBAM_OOD and BoxRunConfig().method == BBAM


def test_detector_masks_labels_and_rows(run):
    rows = quiet(run, QUICK)
    assert [(row['method'], row['stage'], row['split'], row['images'], row['crf']) for row in rows] == [
        (BBAM, 'mask', 'train[:2]', 2, True), (BBAM, 'mask', 'val[:2]', 2, True)]
    first = run.split('val')[0]
    masks, boxes = load_box_masks(run.path/'maps'/BBAM/'val'/'boxes'/f'{first.id}.npz')
    maps = load_maps(run.path/'maps'/BBAM/'val'/f'{first.id}.npz')
    label = read_mask(run.path/'masks'/BBAM/'val'/f'{first.id}.png', len(run.split('val').classes))
    assert len(masks) == len(boxes) and maps.keys.tolist() == sorted(set(boxes.labels.tolist())) and label.shape == boxes.size
    assert [row for row in run.results() if row['method'] == BBAM] == rows and mask_folder(run, BBAM) == run.path/'masks'/BBAM/'train'
    files = {file: file.stat().st_mtime_ns for name in ('detector', 'maps', 'masks') for file in (run.path/name).rglob('*') if file.is_file()}
    assert quiet(run, QUICK) == rows
    assert files == {file: file.stat().st_mtime_ns for file in files}, 'nothing is made again'
    with pytest.raises(DataError, match='was trained with other options or pictures; delete the folder'):
        quiet(run, replace(QUICK, detector=replace(QUICK.detector, steps=3)))


def test_ood_pictures_as_negatives_are_a_method_of_their_own(run):
    rows = quiet(run, replace(QUICK, ood=True))
    assert {row['method'] for row in rows} == {BBAM_OOD} and method_name(BBAM_OOD) == 'BBAM, OoD negatives'
    plain, other = (read_json(run.path/'detector'/name/'detector.json', 'wood_nb.detector') for name in (BBAM, BBAM_OOD))
    assert plain['ood'] is None and other['ood'] and plain['config'] == other['config']


def test_rows_from_boxes_stand_apart(run):
    assert [from_boxes(name) for name in (BBAM, BBAM_OOD, 'bbam+crf', CAM, WOOD, TRUTH, 'mine')] == [True]*3 + [False]*4
    quiet(run, QUICK)
    kept = run.results()
    row = next(row for row in kept if row['method'] == BBAM and row['split'] == 'val[:2]')
    rows = [{**row, 'method': method, 'split': 'val'} for method in (CAM, BBAM, BBAM_OOD, TRUTH)]
    write_results(run.path/'metrics.json', rows)
    try: blocks = {block.heading: [row.name for row in block.table.rows] for block in table_a3('val', [run.path], 'mask').blocks[1:-1]}
    finally: write_results(run.path/'metrics.json', kept)
    assert blocks == {'Measured here: drawn scenes, mask, split val': ['CAM'], 'Measured here: drawn scenes, learnt from true masks, mask, split val': ['ground truth'],
                      'Measured here: drawn scenes, learnt from boxes, mask, split val': ['BBAM', 'BBAM, OoD negatives']}
    data = ReportData('run', run.note, rows, run.path, run.split('val').subset([], 'val'))
    words = ''.join(map(str, later_section(data).body))
    assert 'images, learnt from boxes' in words and 'Step by step' not in words


def test_the_command(run, capsys):
    "Over the same folder: what is there stays, and the report is written."
    for name in (f'detector/{BBAM}', f'maps/{BBAM}', f'masks/{BBAM}'): shutil.rmtree(run.path/name, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert main(['bbam', str(run.path), '--images', '1', '--steps', '1', '--mask-steps', '1', '--boxes', 'masks']) == 0
    said = capsys.readouterr().out
    assert 'BBAM + CRF (from boxes), val[:1]:' in said and 'report: ' in said
    assert read_json(run.path/'detector'/BBAM/'detector.json', 'wood_nb.detector')['config']['boxes'] == 'masks'
    with pytest.raises(SystemExit): main(['bbam', str(run.path), '--images', '0'])


def test_a_run_without_a_classifier(run, tmp_path):
    folder = tmp_path/'run'
    folder.mkdir()
    write_json(folder/'run.json', read_json(run.path/'run.json', 'wood_nb.run'))
    with pytest.raises(DataError, match="its classifier, from which the detector starts, is not trained yet"): use_boxes(Run(folder), QUICK)


def test_only_masks_that_are_there_can_be_learnt_from(run):
    from wood_nb.cli.commands import check_sources
    (run.path/'masks'/BBAM).mkdir(parents=True, exist_ok=True)
    check_sources(run, [BBAM, WOOD])
    shutil.rmtree(run.path/'masks'/BBAM_OOD, ignore_errors=True)
    with pytest.raises(DataError, match=f"'{BBAM_OOD}' is not a method here"): check_sources(run, [BBAM_OOD])
    assert Path(run.path/'masks'/BBAM).is_dir()
