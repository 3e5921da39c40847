"The bench: every stage on small drawn data, its file, and what has become slower."
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from wood_nb.base.files import DataError, read_json
from wood_nb.cli.parser import main
from wood_nb.runs import bench as room
from wood_nb.runs.bench import (bench, bench_table, Beside, Drawn, Growth, growth, growth_table, measure, plot_bench, plot_growth, QUICK, roof, save_bench,
                                slower, Size, STAGES, Work)

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def timings(): return bench(QUICK)


def test_every_stage_is_timed(timings):
    assert [timing.stage for timing in timings] == list(STAGES)
    for timing in timings:
        assert timing.seconds > 0 and timing.count > 0 and (timing.memory is None or 0 <= timing.memory < 2000)
        assert (timing.network is not None) == (timing.stage in ('maps', 'one class of many', 'mining', 'features'))
        assert all(ratio > 0 for ratio in timing.ratios.values())
        assert timing.network is None or 0 < timing.network < 1, 'reading a picture takes time, too'
    text = repr(bench_table(timings))
    assert all(stage in text for stage in STAGES) and 'of naive' in text and 'of bare' in text and plot_bench(timings).png()


def test_what_is_slower_is_named(timings, tmp_path):
    save_bench(tmp_path/'old.json', timings, QUICK)
    late = [replace(timing, seconds=2 * timing.seconds) if timing.stage == 'walk' else timing for timing in timings]
    said, = slower(tmp_path/'old.json', late, QUICK)
    assert said.startswith('walk: 2.00 times as long as before') and slower(tmp_path/'old.json', late[:2], QUICK) == []
    with pytest.raises(DataError, match='a bench of another size; compare with one'): slower(tmp_path/'old.json', timings, Size())
    content = json.loads((tmp_path/'old.json').read_text())
    (tmp_path/'wrong.json').write_text(json.dumps(content | {'stages': [{'stage': 'walk', 'seconds': -1}]}))
    with pytest.raises(DataError, match=r'wrong.json: stages\[0\].seconds is -1'): slower(tmp_path/'wrong.json', timings, QUICK)
    (tmp_path/'old.json').write_text(json.dumps(content | {'threads': 99}))
    with pytest.raises(DataError, match='a bench of another threads'): slower(tmp_path/'old.json', timings, QUICK)


def test_a_task_is_measured(tmp_path):
    "The quickest repeat counts; what others do in part is counted in full; what copies of the network take is inside."
    drawn, waits = Drawn(tmp_path, QUICK), iter([0.0, 0.03, 0.01, 0.02])
    from wood_nb.nets.infer import infer
    slow = SimpleNamespace(backbone=drawn.net.backbone)
    def task():
        wait = next(waits)
        time.sleep(wait)
        with torch.no_grad(): infer(drawn.net)(torch.zeros(1, 3, 32, 32))
    found = measure('walk', Work('images', 4, task, slow, {'other': Beside(lambda: time.sleep(0.01), 0.1)}))
    assert 0.01 <= found.seconds and 0.1 <= found.beside['other'] < 0.5 and 0 < found.network < 1
    assert found.ratios['other'] == found.seconds / found.beside['other'] and not drawn.net.backbone._forward_hooks


@pytest.mark.skipif(not room.Path('/proc/self/clear_refs').exists(), reason='Linux notes the most memory of a process')
def test_memory_at_most():
    few, many = (measure('walk', Work('numbers', n, lambda n=n: torch.ones(n * 250_000), None, {}), 1).memory for n in (1, 80))
    assert few < 40 < 70 < many < 120


def test_what_grows_in_proportion_has_the_exponent_one():
    square = Growth('walk', 'pixels', (10, 20, 40, 80), (1., 4., 16., 64.))
    line = Growth('head', 'points', (1, 2, 4, 8), (3., 6., 12., 24.))
    assert abs(square.exponent - 2) < 1e-9 and abs(line.exponent - 1) < 1e-9
    text = repr(growth_table([square, line]))
    assert '2.00' in text and '1.00' in text and '64 s / 80' in text and plot_growth([square, line]).png()


def test_four_sizes_are_timed():
    told, size = [], replace(QUICK, images=4)
    found = growth(size, ('evaluation', 'walk', 'maps'), told.append)
    assert [each.stage for each in found] == ['walk', 'evaluation'] and told == found, 'maps are not among those that grow'
    assert found[1].amounts == (2, 4, 8, 16) and all(seconds > 0 for each in found for seconds in each.seconds)
    assert [round(n/found[0].amounts[0]) for n in found[0].amounts] == [1, 2, 4, 8]


def test_the_roof():
    top = roof(256, 8, 2)
    assert top.device and top.gflops > 0 and top.copied > 0 and 'GFLOP/s' in str(top) and 'threads: 1)' in str(top)


def test_the_command(tmp_path, capsys):
    words = ['bench', '--quick', '--stages', 'walk,evaluation', '--out', str(tmp_path/'bench.json')]
    assert main([*words, '--curves']) == 0
    said = capsys.readouterr().out
    assert 'evaluation' in said and 'roof: ' in said and 'walk: grows as pixels to the power' in said and 'exponent' in said
    content = read_json(tmp_path/'bench.json', 'wood_nb.bench')
    assert [each['stage'] for each in content['curves']] == ['walk', 'evaluation'] and content['roof']['gflops'] > 0
    old = json.loads((tmp_path/'bench.json').read_text())
    for stage in old['stages']: stage['seconds'] = 1e-6 if stage['stage'] == 'walk' else 1e6
    (tmp_path/'old.json').write_text(json.dumps(old))
    assert main([*words[:4], '--compare', str(tmp_path/'old.json')]) == 0
    said = capsys.readouterr().out
    assert 'walk: ' in said and 'times as long as before' in said and 'evaluation: ' not in said.partition('beside')[2]
    assert main(['bench', '--quick', '--stages', 'dance']) != 0 and "stage 'dance' is not one of the bench" in capsys.readouterr().err
    assert main(['bench', '--quick', '--compare', str(tmp_path/'none.json')]) != 0 and 'none.json' in capsys.readouterr().err
