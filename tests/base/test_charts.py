"""Charts: round numbers on the axes, broken lines where values are missing, colours and dashes of their own."""
import math
import re

import pytest

from wood_nb.base.charts import (CHARTS, colours, DARK, Gain, gain_chart, histogram, interval_chart, LIGHT, Line, line_chart, Part, Plane,
                                 Stack, stack_chart, Stroke, ticks)


@pytest.mark.parametrize('low, high', [(0, 1), (-1, 1), (0, 0), (12.3, 98), (0.0001, 0.0007), (-5e6, 3)])
def test_ticks_are_few_and_inside(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 6 and all(low - 1e-6 <= value <= high + 1e-6 for value in found)


def test_a_line_is_broken_where_values_are_missing():
    path = Plane((0, 3), (0, 1)).path([0, 1, 2, 3], [0.0, 1.0, math.nan, 0.5])
    assert path.count('M') == 2 and path.count('L') == 1 and 'nan' not in path


def test_lines_have_a_class_or_a_colour_and_dashes_of_their_own():
    lines = [Line('a', [0, 1], [0, 1], 's3'), Line('b', [0, 1], [1, 0], Stroke('#0072b2', (6, 3)), (0.5, 0.5), [1, 1])]
    text = line_chart(lines, 'x', 'y', 'label')
    assert 'class="s3"' in text and text.count('--own:#0072b2;stroke-dasharray:6 3') == 3  # line, legend, ring
    assert 'class="own faint" style="--own:#0072b2"' in text and 'aria-label="label"' in text
    assert line_chart([Line('none', [], [])], 'x', 'y', 'label')


def test_names_that_do_not_fit_go_to_another_row():
    def height(names): return int(re.search(r'viewBox="0 0 360 (\d+)"', line_chart([Line(n, [0], [0]) for n in names], 'x', 'y', ''))[1])
    assert height(['a', 'b']) < height(['a long name of a method', 'another long name of one'])


def test_gains_losses_and_their_intervals():
    text = gain_chart({'cat': Gain(2.0, '+2.0', (-50.0, 3.0)), 'dog': Gain(-1.0, '−1.0'), 'cow': Gain(0, '0.0')}, 'gains')
    assert all(f'class="{kind}"' in text for kind in ('gain', 'loss', 'same')) and text.count('whisker') == 1
    xs = [float(x) for x in re.findall(r'x[12]="([\d.-]+)"', text)]
    assert min(xs) >= 0 and max(xs) <= 360 and gain_chart({}, 'none')


def test_stacked_bars_are_as_wide_as_their_shares_and_name_every_piece():
    stacks = {'boat': [Stack('CAM', [Part('object', 0.25, '#6b6b6b'), Part('water', 0.75, '#a0b0ff')]), Stack('W-OoD', [Part('object', 1.0, '#0072b2')])]}
    text = stack_chart(stacks, 'shares')
    widths = [float(w) for w in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)"', text)]
    assert widths[-2] == pytest.approx(3 * widths[-3], rel=1e-3) and widths[-1] == pytest.approx(4 * widths[-3], rel=1e-3)
    assert 'boat, CAM: 75.0 % water' in text and '>75 water</text>' in text and text.count('>water</text>') == 1, 'a legend for what is not the bar itself'
    assert stack_chart({}, 'none')


def test_a_histogram_counts_all():
    values = [-2.0, -1.0, 0.0, 0.0, 1.0, math.nan]
    assert sum(map(int, re.findall(r'<title>(\d+)</title>', histogram(values, 'x', 'label')))) == 5
    assert histogram([], 'x', 'label')


@pytest.mark.parametrize('low, high, kind', [(1, 3, 'gain'), (-3, -1, 'loss'), (-1, 3, 'same')])
def test_an_interval_says_whether_zero_lies_inside(low, high, kind):
    assert f'class="{kind}"' in interval_chart(1, low, high, 5, 'label')


def test_alone_a_chart_brings_its_style_and_both_themes():
    svg = line_chart([Line('a', [0, 1], [0, 1])], 'x', 'y', 'label')._repr_svg_()
    assert "xmlns='http://www.w3.org/2000/svg'" in svg and 'prefers-color-scheme:dark' in svg and CHARTS in svg
    assert LIGHT.keys() == DARK.keys() and colours('.x').count('--paler') == 2
