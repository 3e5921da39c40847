"""Curves of several runs over one another: losses, scores on the way, thresholds; what is missing is said."""
import json

import pytest

from wood_nb.base.files import DataError
from wood_nb.cli import parser
from wood_nb.report.overlay import overlay_curves, trainings_in, write_overlay
from wood_nb.report.page import leads_out
from wood_nb.train.safe import add_validation, read_log


def log(folder, n, scale=1.0):
    folder.mkdir(parents=True)
    (folder/'train.jsonl').write_text(''.join(json.dumps({'step': k, 'loss': scale/k}) + '\n' for k in range(1, n + 1)))


@pytest.fixture
def runs(tmp_path):
    "Two runs: the second has W-OoD, too, measured twice on the way, and a curve over thresholds."
    log(tmp_path/'one'/'classifier', 40)
    log(tmp_path/'<b>two'/'classifier', 1000, 2.0)
    log(tmp_path/'<b>two'/'segmentation'/'wood', 30)
    for step, miou in ((10, 20.0), (30, 40.0), (20, 30.0)): add_validation(tmp_path/'<b>two'/'segmentation'/'wood', {'step': step, 'miou': miou})
    (tmp_path/'<b>two'/'curves.csv').write_text('method,stage,split,seed,threshold,miou,precision,recall\n'
                                                'wood,seed,val,0,0.1,20,,\nwood,seed,val,0,0.2,30,,\n')
    return [tmp_path/'one', tmp_path/'<b>two']


def test_runs_lie_over_one_another(runs):
    text = overlay_curves(runs)
    assert list(trainings_in(runs[1])) == ['classifier', 'segmentation/wood']
    assert text.count('<svg') == 4 and text.count('loss of one') == 1 and '<b>two' not in text and '&lt;b&gt;two' in text
    assert text.count('<circle') == 2, 'a point for each measured score; those of steps done again are gone'
    assert 'Seeds of W-OoD, val over thresholds' in text
    assert [row['step'] for row in read_log(runs[1]/'segmentation'/'wood'/'validation.jsonl', needs=('miou',))] == [10, 20]


def test_a_training_alone_and_names_of_ones_own(runs):
    text = overlay_curves({'slow': runs[0]/'classifier', 'fast': runs[1]/'classifier'})
    assert text.count('<svg') == 1 and 'loss of slow, fast over steps' in text


def test_the_command_writes_a_page_for_any_number_of_runs(runs, tmp_path, capsys):
    page = tmp_path/'curves.html'
    assert parser.main(['compare', *map(str, [*runs, runs[0]]), '--curves', str(page)]) == 0
    assert 'curves: ' in capsys.readouterr().out and leads_out(page.read_text()) == []


def test_what_is_missing_is_said(tmp_path, runs):
    with pytest.raises(DataError, match='nowhere: there is no such folder'): overlay_curves([tmp_path/'nowhere'])
    (tmp_path/'empty').mkdir()
    with pytest.raises(DataError, match='no train.jsonl and no curves.csv'): write_overlay(tmp_path/'x.html', [tmp_path/'empty'])
