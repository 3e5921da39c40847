"""Options that are told once: a field of a dataclass is a flag of the command line."""
import argparse
from argparse import ArgumentTypeError
from dataclasses import asdict, dataclass, MISSING
from operator import attrgetter

import pytest

from wood_nb.base.options import add_flag, changed_options, completed, given, how_many, names, nested, option, options_of, or_none, positive, positive_numbers
from wood_nb.runs.config import preset, RefineConfig, RunConfig, SegmentConfig


@dataclass(frozen=True)
class Inner:
    rate: float = option(0.1, 'how quickly')
    size: int = option(8, 'how many', shared=True)
    quiet: str = 'not asked for'


@dataclass(frozen=True)
class Outer:
    place: str = option(MISSING, 'where')
    first: Inner = nested(Inner, of='first')
    second: Inner = nested(Inner, prefix='more', of='second')
    mirror: bool = option(True, 'not mirrored', flag='--no-mirror')
    kind: str = option('a', '100 % of a kind', choices=('a', 'b'))


def parsed(*words) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for flag in options_of(Outer): add_flag(parser, flag)
    return parser.parse_args(words)


def test_fields_become_flags():
    flags = {o.flag: o for o in options_of(Outer)}
    assert list(flags) == ['--place', '--rate', '--size', '--more-rate', '--no-mirror', '--kind']
    assert flags['--size'].sets == ('first.size', 'second.size') and flags['--more-rate'].sets == ('second.rate',)
    assert flags['--more-rate'].help == 'how quickly, second (default 0.1)' and flags['--kind'].help == '100 %% of a kind (default a)'


def test_what_is_given_sets_fields_and_nothing_else():
    assert given(parsed(), options_of(Outer)) == {}
    asked = parsed('--size', '3', '--no-mirror', '--more-rate', '1e-3', '--kind', 'b', '--place', 'here')
    assert given(asked, options_of(Outer)) == {'place': 'here', 'first.size': 3, 'second.size': 3, 'second.rate': 0.001, 'mirror': False, 'kind': 'b'}
    with pytest.raises(SystemExit): parsed('--kind', 'c')


@pytest.mark.parametrize('kind', [RunConfig, RefineConfig, SegmentConfig])
def test_options_of_runs_set_fields_that_exist(kind):
    flags = options_of(kind)
    assert len({o.flag for o in flags}) == len(flags) and all(o.told.help for o in flags)
    if kind is RunConfig:
        for flag in flags:
            for field in flag.sets: attrgetter(field)(RunConfig(''))


def test_readers():
    assert names('a, b,') == ('a', 'b') and or_none('None') is None and or_none('x') == 'x'
    assert how_many('all') is None and how_many('12') == 12 and positive('1') == 1 and positive_numbers('1,.5') == (1, .5)
    for read, text in ((how_many, '-1'), (how_many, 'x'), (positive, '0'), (positive_numbers, '1,0'), (positive_numbers, '')):
        with pytest.raises(ArgumentTypeError, match='give'): read(text)


def test_an_option_that_came_later_has_not_changed():
    "Resuming a run of before said `wood.zero_labels None -> image`."
    before = asdict(preset('small', 'voc:x', seed=3))
    del before['wood']['zero_labels'], before['head']['spread'], before['also']
    now = asdict(preset('small', 'voc:x', seed=4))
    assert changed_options(completed(before, asdict(RunConfig('voc:x'))), now)[-1] == 'seed 3 -> 4'
    assert not [o for o in changed_options(completed(before, asdict(RunConfig('voc:x'))), now) if 'None' in o]
    assert completed({'scenes': {'pool': 9}}, {'scenes': {}, 'a': 1}) == {'scenes': {'pool': 9}, 'a': 1}
