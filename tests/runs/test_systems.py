"""The systems of table A3 beside one another: which rows, which steps, masks and networks of each, what they took, resumed, shown."""
import os
import shutil
import warnings
from dataclasses import replace

import pytest

from wood_nb.base.files import DataError
from wood_nb.base.memory import measured
from wood_nb.cli.parser import main
from wood_nb.maps.methods import CAM, system_rows, TRUTH, WOOD
from wood_nb.ood.features import FeatureStore
from wood_nb.runs import figures, systems
from wood_nb.runs.config import preset, SystemsConfig
from wood_nb.runs.figures import figure_a3, folders_for, write_figures
from wood_nb.runs.run import Run
from wood_nb.runs.systems import (class_table, cost_of, do_step, make_runs, MASKS, measure_run, methods_beside_of, methods_to_compare, NETWORK,
                                  on_the_way, pairs_of, plot_systems, read_costs, read_systems, refinement, STAGE, Step, steps_of, systems_result, systems_table, write_systems)
from wood_nb.runs.tiny import tiny_run

pytestmark = pytest.mark.usefixtures('one_thread')
SHORT = SystemsConfig(systems=('ssdd', 'bbam'), box_steps=1, mask_steps=1, network_steps=1)
ALL = SystemsConfig()


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Run:
    "A copy of the small run with four training scenes and two to judge by."
    folder = tmp_path_factory.mktemp('systems')/'run'
    shutil.copytree(tiny_run().path, folder, ignore=shutil.ignore_patterns('features', '.lock*'))
    for name, count in (('train', 4), ('val', 2)):
        lines = folder/'scenes/ImageSets/Segmentation'/f'{name}.txt'
        lines.write_text(''.join(lines.read_text().splitlines(True)[:count]))
    inside = FeatureStore.load(folder/'clusters/inside.npz')
    inside.select(Run(folder).split('train').ids).save(folder/'clusters/inside.npz')  # the report lays these out
    return Run(folder)


def test_every_system_is_compared_with_and_without_ood():
    methods = methods_to_compare(ALL)
    assert len(methods) == len(set(methods)) == 19 and methods[:2] == [CAM, WOOD] and methods[-1] == TRUTH
    assert set(system_rows().values()) <= set(methods) and methods_beside_of(methods) == ('seam', 'seam-ood', 'ficklenet', 'ficklenet-ood')
    assert methods_to_compare(SystemsConfig(systems=('seam',))) == [CAM, WOOD, 'seam+psa', 'seam-ood+psa', TRUTH]
    assert methods_to_compare(ALL, candidates=False) == [CAM, 'cam+advcam+irn', 'cam+irn', 'cam+psa', 'cam+psa+ssdd', 'cam+irn+cian', 'bbam', 'seam+psa', 'ficklenet', TRUTH]
    assert methods_to_compare(SystemsConfig(systems=('wood',))) == [CAM, WOOD, 'cam+advcam+irn', 'wood+advcam+irn', TRUTH]
    with pytest.raises(DataError, match="'dsrg' is not a method here; there are wood, advcam"): SystemsConfig(systems=('dsrg',))


def test_steps_come_in_order_and_once():
    steps = steps_of(preset('tiny', 'scenes:', also=('seam',)), ['wood+advcam+irn', 'wood+irn+cian', TRUTH])
    assert steps == [Step(STAGE, o) for o in ('classifier', 'clusters', 'continued', 'wood', 'also', 'seeds')] + \
        [Step(MASKS, o) for o in ('wood', 'wood+advcam', 'wood+irn', 'wood+advcam+irn')] + [Step(NETWORK, o) for o in ('wood+advcam+irn', 'wood+irn+cian', TRUTH)]
    assert on_the_way('cam+psa+ssdd') == ['cam', 'cam+psa', 'cam+psa+ssdd'] and on_the_way('ficklenet') == ['ficklenet']


def test_masks_are_asked_for_by_the_name_of_a_method(run):
    asked = {name: refinement(run, name, ALL) for name in ('wood+advcam+irn', 'seam+psa', 'cam+psa+ssdd', 'cam')}
    told = {name: (o.methods, o.advcam, o.irn, o.psa, o.ssdd, bool(o.crf)) for name, o in asked.items()}
    assert told == {'wood+advcam+irn': ((WOOD,), None, True, False, False, False), 'seam+psa': (('seam',), 0, False, True, False, False),
                    'cam+psa+ssdd': ((CAM,), 0, False, True, True, True), 'cam': ((CAM,), 0, False, False, False, False)}
    assert asked['wood+advcam+irn'].climbing.iterations == ALL.climbing


def briefly(run, method, config):
    "What is asked for, with trainings of a step."
    made = refinement(run, method, config)
    affine, choosing = (replace(each, train=replace(each.train, steps=1, batch_size=4)) for each in (made.affine, made.choosing))
    return replace(made, affine=affine, choosing=choosing)


def test_networks_learn_from_masks_of_ssdd_and_of_boxes(run, capsys, monkeypatch):
    "wood segment on masks whose notes are of a kind of their own; BBAM's leave pixels open. What a step took is noted once."
    monkeypatch.setattr(systems, 'refinement', briefly)
    steps = [Step(MASKS, o) for o in ('cam+psa+ssdd', 'bbam')]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert [do_step(run, step, SHORT) for step in steps] == [True]*2
        before = read_costs(run)
        assert [do_step(run, step, SHORT) for step in steps] == [False]*2 and read_costs(run) == before
        assert not do_step(run, steps[-1], replace(SHORT, systems=())), 'which systems are chosen matters not'
        assert main(['segment', str(run.path), '--methods', 'cam+psa+ssdd,bbam', '--steps', '1']) == 0
    assert 'CAM + PSA + SSDD, val: ' in capsys.readouterr().out
    assert {row['method'] for row in Run(run.path).results() if row['stage'] == 'segmentation'} == {'cam+psa+ssdd', 'bbam'}
    assert all((run.path/'segmentation'/o/'masks/val').is_dir() for o in ('cam+psa+ssdd', 'bbam'))
    assert cost_of(run, 'cam+psa+ssdd')['masks'] == pytest.approx(before[MASKS]['cam+psa+ssdd']['processor_seconds'], abs=.06)


def test_figures_show_any_methods_of_a_run(run, tmp, monkeypatch):
    "Of maps of all kinds, and of final segmentations or else pseudo masks."
    assert len(figure_a3(run, n=2, methods=('cam', 'cam+psa', 'bbam')).axes) == 2*5
    assert list(folders_for(run, 'val', ('bbam', 'cam+psa'))) == ['BBAM', 'CAM + PSA (pseudo masks)']
    monkeypatch.setattr(figures, 'figure_a2', lambda run: figures.figure_a4(run.split('val'), {}))  # its clusters are those of the whole list
    assert main(['figures', str(run.path), '--out', str(tmp/'drawn'), '--methods', 'cam+psa,bbam']) == 0
    assert {o.name for o in (tmp/'drawn').iterdir()} == {'A3.png', 'A4.png'}, 'the two pictures of val show no class of A1'
    with pytest.raises(DataError, match="'seam' is not a method here; there are bbam, cam"): write_figures(run, tmp/'drawn', methods=('seam',))
    with pytest.raises(DataError, match="'ssdd' is not a method here"): figure_a3(run, methods=('cam', 'ssdd'))


# --- what comes out -----------------------------------------------------------------------------------------------------

def test_the_result_and_how_it_is_shown(run, tmp):
    result = systems_result([run.path], SHORT, 'wood systems')
    assert read_systems(write_systems(result, tmp/'systems.json')) == result and result['images'] == {'train': 4, 'val': 2}
    assert pairs_of(result) == [('cam+psa+ssdd', None), ('bbam', None)], 'what has no final segmentation yet is left out'
    table = systems_table(result, 'seed')
    assert [row[0] for row in table.rows] == ['SSDD', 'BBAM (boxes)'] and table.rows[0][1] != '–' and table.rows[1][1] == '–'
    assert [row.name for row in class_table(result).rows] == ['CAM + PSA + SSDD']
    assert len(plot_systems(result).axes) == 3


def test_what_was_measured_for_this_kit_can_be_shown():
    result = read_systems()
    assert {CAM, WOOD} <= set(result['costs']) <= set(methods_to_compare(ALL)) and result['command'].startswith('wood systems')
    finals = {row['method']: row for row in result['rows'] if row['stage'] == 'segmentation'}
    assert set(finals) == set(result['costs']) and all(len(row['miou_each']) == len(result['seeds']) for row in finals.values())


def test_what_an_interrupted_step_took_is_added(run, monkeypatch):
    step, worked = Step(NETWORK, TRUTH), []

    def work(run, name, config):
        worked.append(sum(range(400_000)))
        if len(worked) == 1: raise KeyboardInterrupt
    monkeypatch.setitem(systems._WORK, NETWORK, work)
    with pytest.raises(KeyboardInterrupt): do_step(run, step, SHORT)
    first = read_costs(run)[NETWORK][TRUTH]
    assert do_step(run, step, SHORT) and not do_step(run, step, SHORT) and first['mark'] == ''
    assert read_costs(run)[NETWORK][TRUTH]['seconds'] > first['seconds'] > 0


def test_runs_are_made_or_asked_for_what_they_lack(run, tmp):
    made = make_runs([], tmp/'new', (0, 7), SystemsConfig(systems=('ficklenet',)))
    assert [Run(o).config.seed for o in made] == [0, 7] and Run(made[0]).config.also == ('ficklenet', 'ficklenet-ood')
    assert make_runs(made[:1], tmp, (), SystemsConfig(systems=('seam',))) == made[:1]
    assert Run(made[0]).config.also == ('ficklenet', 'ficklenet-ood', 'seam', 'seam-ood')
    quick, = make_runs([], tmp/'quick', (0,), SystemsConfig.quick(systems=('wood',)))
    assert Run(quick).config.scenes == {**Run(made[0]).config.scenes, 'train': 140} and Run(made[0]).config.scenes['train'] == 280


def test_the_command(tmp, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(systems, 'measure_systems', lambda runs, config, jobs, say: asked.append((runs, config, jobs)))
    monkeypatch.setattr(systems, 'systems_result', lambda runs, config, command: {'rows': [], 'costs': {}, 'format': 'wood_nb.systems', 'version': 1, 'command': command})
    assert main(['systems', '--out', 'there', '--seeds', '3', '--systems', 'seam', '--network-steps', '9']) == 0
    (runs, config, jobs), = asked
    assert [o.name for o in runs] == ['seed-3'] and config == SystemsConfig(systems=('seam',), network_steps=9) and jobs == 1
    assert read_systems('there/systems.json')['command'] == 'wood systems --out there --seeds 3 --systems seam --network-steps 9'
    assert main(['systems', '--out', 'there', '--quick', '--jobs', '2', '--network-steps', '9']) == 0 and main(['systems', '--out', 'whole']) == 0
    (runs, config, jobs), (each, usual, _) = asked[1:]
    assert [o.name for o in runs] == ['seed-0'] and config == SystemsConfig.quick(network_steps=9) and jobs == 2 and config.scenes == 140
    assert [o.name for o in each] == ['seed-0', 'seed-1', 'seed-2'] and usual == SystemsConfig()


def test_several_processes_share_the_steps_of_a_run(run, monkeypatch):
    "They are let in by this one, which holds the run, and each adds its rows and costs."
    plan = [Step(kind, name) for kind in (MASKS, NETWORK) for name in (CAM, WOOD)]
    monkeypatch.setattr(systems, 'steps_of', lambda *_: plan)
    monkeypatch.setattr(systems, 'report_stage', lambda run: None)
    assert measure_run(run.path, SHORT, jobs=2, threads=1) == str(run.path)
    costs, stages = read_costs(run), {MASKS: 'mask', NETWORK: 'segmentation'}
    made = {(row['stage'], row['method']) for row in Run(run.path).results()}
    assert all(costs[step.kind][step.name]['mark'] and (stages[step.kind], step.name) in made for step in plan)
    assert not do_step(run, plan[-1], SHORT)


def test_memory_of_a_block_is_what_it_holds_at_most_beyond_what_was_there():
    with measured() as cost:
        block = bytearray(60_000_000)
        block[::4096] = bytes([1])*len(block[::4096])
        del block
    with measured() as less: pass
    assert cost['seconds'] >= 0 and cost['processor_seconds'] >= 0
    if os.path.exists('/proc/self/clear_refs'): assert 55 < cost['megabytes'] < 90 and less['megabytes'] < 20
