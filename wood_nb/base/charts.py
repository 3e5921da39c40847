"""Charts as SVG: lines, bars, a histogram and an interval, in light and dark, legible on a telephone"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .html import Html, number, tag


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    "Round numbers (steps of 1, 2 or 5 times a power of ten) from `low` to `high`, at most `most`."
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= most - 1)
    return [round(n * step, 10) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Plane:
    "Where numbers lie on a chart: ranges of x and y, size in pixels, margins left for the axes."
    xs: tuple[float, float]
    ys: tuple[float, float]
    width: int = 360
    height: int = 215
    left: int = 44
    right: int = 14
    top: int = 14
    bottom: int = 40

    def x(self, value: float) -> float:
        low, high = self.xs
        return self.left + (value - low) / ((high - low) or 1) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.ys
        share = (value - low) / ((high - low) or 1)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        "The line through the points, in the language of SVG; it is broken where a value is not finite."
        points: list[str] = []
        pen = "M"
        for x, y in zip(xs, ys):
            if math.isfinite(x) and math.isfinite(y):
                points.append(f"{pen}{self.x(x):.1f} {self.y(y):.1f}")
            pen = "L" if math.isfinite(x) and math.isfinite(y) else "M"
        return "".join(points)


# paper and ink, gains and losses, five kinds of lines, and how much white a line's own colour gets
LIGHT = {"paper": "#ffffff", "ground": "#f6f6f3", "ink": "#1c1d1f", "soft": "#5c6066", "line": "#dfdfda",
         "gain": "#0072b2", "loss": "#b84d08", "s0": "#0072b2", "s1": "#65696f", "s2": "#009e73", "s3": "#b0568f",
         "s4": "#9a6b00", "paler": "0%"}


DARK = {"paper": "#1b1d21", "ground": "#121316", "ink": "#e9e9ec", "soft": "#a5aab2", "line": "#34373d",
        "gain": "#62b5ee", "loss": "#f0975a", "s0": "#62b5ee", "s1": "#a9aeb6", "s2": "#3fc79d", "s3": "#e08cc0",
        "s4": "#e6b450", "paler": "45%"}


def colours(where: str) -> str:
    "Style that gives the elements `where` (a CSS selector) the colours, light or dark as the reader's system asks."
    light, dark = (";".join(f"--{name}:{value}" for name, value in names.items()) for names in (LIGHT, DARK))
    by_night = f"@media (prefers-color-scheme:dark){{{where}{{{dark};color-scheme:dark}}}}"
    return f"{where}{{{light};color-scheme:light}}\n{by_night}\n"


CHARTS = """.chart{max-width:100%;height:auto;font:12px system-ui,sans-serif;overflow:visible}
.chart text{fill:var(--soft)} .chart .strong{fill:var(--ink)} .chart .title{fill:var(--ink);font-weight:600}
.chart .grid{stroke:var(--line);stroke-width:1} .chart .zero{stroke:var(--soft);stroke-width:1}
.chart path{fill:none;stroke-width:2;stroke-linejoin:round} .chart .faint{stroke-width:1;opacity:.35}
.chart .s0{stroke:var(--s0)} .chart .s1{stroke:var(--s1);stroke-dasharray:6 3}
.chart .s2{stroke:var(--s2);stroke-dasharray:2 2}
.chart .s3{stroke:var(--s3);stroke-dasharray:8 2 2 2} .chart .s4{stroke:var(--s4);stroke-dasharray:1 3}
.chart .faint{stroke-dasharray:none} .chart circle.s0,.chart circle.s1,.chart circle.s2,.chart circle.s3,
.chart circle.s4{
fill:var(--paper);stroke-width:2;stroke-dasharray:none}
.chart .own{stroke:var(--own);stroke:color-mix(in srgb,var(--own),white var(--paler))}
.chart circle.own{fill:var(--paper);stroke-width:2;stroke-dasharray:none!important}
.chart .gain{fill:var(--gain)} .chart .loss{fill:var(--loss)} .chart .same{fill:var(--soft)}
.chart .range{fill:var(--soft);opacity:.35}
.chart .dot{stroke:var(--paper);stroke-width:.7;fill-opacity:.92} .chart .known{fill:var(--soft);opacity:.3}
.chart .frame{fill:none;stroke-width:2.5}
.chart .lead{stroke-width:1;opacity:.8} .chart .star{font-size:22px;fill:var(--ink);stroke:var(--paper);
stroke-width:2.5;paint-order:stroke}
.chart .name{font-size:14px;font-weight:650;fill:var(--ink);stroke:var(--paper);stroke-width:4;paint-order:stroke;
stroke-linejoin:round}
.chart .whisker{stroke:var(--ink);stroke-width:1.2;opacity:.75}
"""


class Chart(Html):
    "An SVG element: part of a page, or a picture of its own in a notebook."

    def _repr_html_(self) -> None:  # type: ignore[override]  # None tells a notebook to take the SVG
        "None: a notebook shows the SVG."

    def _repr_svg_(self) -> str:
        ground = "<rect width='100%' height='100%' fill='var(--paper)'></rect>"
        head, _, rest = self.partition(">")
        return f"{head} xmlns='http://www.w3.org/2000/svg'><style>{colours('.chart')}{CHARTS}</style>{ground}{rest}"


def chart(plane: Plane, *parts: Any, label: str) -> Chart:
    "The chart of a plane; `label` is read aloud in its place."
    size = dict(viewBox=f"0 0 {plane.width} {plane.height}", width=plane.width, height=plane.height)
    return Chart(tag("svg", *parts, class_="chart", role="img", aria_label=label, **size))


def axes(plane: Plane, x_label: str, y_label: str) -> list[Html]:
    "Grid lines, round numbers along both sides, names of the axes."
    low, right = plane.height - plane.bottom, plane.width - plane.right
    parts = []
    for value in ticks(*plane.ys):
        y = plane.y(value)
        parts.append(tag("line", x1=plane.left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", number(value), x=plane.left - 6, y=y + 4.0, text_anchor="end"))
    for value in ticks(*plane.xs):
        parts.append(tag("text", number(value), x=plane.x(value), y=low + 16, text_anchor="middle"))
    below = tag("text", x_label, x=(plane.left + right) / 2, y=plane.height - 6, text_anchor="middle")
    return [*parts, below, tag("text", y_label, x=plane.left - 6, y=plane.top - 12)]


class Stroke(NamedTuple):
    "How a line is drawn: a colour `#rrggbb`, and dashes as lengths of stroke and gap in pixels."
    colour: str
    dashes: tuple[float, ...] = ()


def _looks(style: str | Stroke, more: str = "") -> dict[str, str]:
    "Attributes of a line: a class of the style sheet (`s0` to `s4`), or a colour and dashes of its own."
    if isinstance(style, str):
        return {"class_": f"{style}{more}"}
    dashes = f";stroke-dasharray:{' '.join(f'{d:g}' for d in style.dashes)}" if style.dashes and not more else ""
    return {"class_": f"own{more}", "style": f"--own:{style.colour}{dashes}"}


class Line(NamedTuple):
    "One line of a chart."
    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str | Stroke = "s0"
    mark: tuple[float, float] | None = None
    raw: Sequence[float] | None = None
    points: bool = False  # whether every value is marked, as where few were measured


def _legend_places(names: Iterable[str], left: float, width: float) -> list[tuple[float, float]]:
    "Where the names of lines or colours go above a plot: (x, y), in as many rows as they need."
    places = []
    x, y = left, 9.0
    for name in names:
        wide = 46 + 6.4 * len(name)
        if x > left and x + wide > width + 18:
            x, y = left, y + 17
        places.append((x, y))
        x += wide
    return places


def _legend(lines: Sequence[Line], places: Sequence[tuple[float, float]]) -> list[Html]:
    "A sample of each line and its name."
    samples = [tag("path", d=f"M{x:.0f} {y:.0f}h22", **_looks(line.style)) for line, (x, y) in zip(lines, places)]
    return samples + [tag("text", line.name, x=x + 28, y=y + 4, class_="strong") for line, (x, y) in zip(lines, places)]


def _limits(values: Iterable[float], zero: bool = False, room: float = 0.04) -> tuple[float, float]:
    "The range of the finite values with a little room, from zero on if asked; (0, 1) without values."
    finite = [float(v) for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite + [0.0] * zero), max(finite)
    pad = room * ((high - low) or abs(high) or 1)
    return (low if zero and low == 0 else low - pad), high + pad


def _ring(plane: Plane, line: Line, mark: tuple[float, float], r: float = 5) -> Html:
    "A marked point of a line."
    x, y = mark
    name = tag("title", f"{line.name}: {y:.1f} at {x:g}")
    return tag("circle", name, cx=plane.x(x), cy=plane.y(y), r=r, **_looks(line.style))


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, label: str, zero: bool = True,
               width: int = Plane.width, height: int = 230) -> Chart:
    "Lines over a common axis, marked points as rings, names above."
    every = [v for line in lines for v in (*line.y, *(() if line.raw is None else line.raw))]
    places = _legend_places([line.name for line in lines], 4, width)
    more = int(places[-1][1]) - 9
    xs = _limits([v for line in lines for v in line.x], room=0)
    plane = Plane(xs, _limits(every, zero), width, height + more, top=44 + more)
    raw = [tag("path", d=plane.path(line.x, line.raw), **_looks(line.style, " faint")) for line in lines if line.raw is not None]
    drawn = [tag("path", d=plane.path(line.x, line.y), **_looks(line.style)) for line in lines]
    marks = [_ring(plane, line, line.mark) for line in lines if line.mark]
    marks += [_ring(plane, line, (x, y), 3.5) for line in lines if line.points for x, y in zip(line.x, line.y) if math.isfinite(y)]
    return chart(plane, _legend(lines, places), axes(plane, x_label, y_label), raw, drawn, marks, label=label)


class Part(NamedTuple):
    "A piece of a stacked bar: its name, its share of the bar (0 to 1), a colour `#rrggbb`."
    name: str
    share: float
    colour: str


class Stack(NamedTuple):
    "A bar of pieces that add up to 1."
    name: str
    parts: Sequence[Part]


def _ink_on(colour: str) -> str:
    "Black or white, whichever is read more easily on a colour."
    red, green, blue = bytes.fromhex(colour[1:])
    return "#1c1d1f" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "#ffffff"


def _stack_bar(plane: Plane, group: str, stack: Stack, y: float) -> list[Html]:
    "The pieces of a bar side by side, with their numbers, and their names where there is room; the name of the bar on its left."
    pieces, low = [tag("text", stack.name, x=plane.left - 8, y=y + 13, text_anchor="end")], 0.0
    for part in stack.parts:
        left, wide = plane.x(low), plane.x(low + part.share) - plane.x(low)
        low += part.share
        words = f"{100 * part.share:.0f}"
        named = f"{words} {part.name}"
        title = tag("title", f"{group}, {stack.name}: {100 * part.share:.1f} % {part.name}")
        pieces.append(tag("rect", title, x=left, y=y, width=max(wide, 0.0), height=17, style=f"fill:{part.colour};stroke:var(--paper)"))
        if wide >= 7.5 * len(words) + 6:
            shown = named if wide >= 6.6 * len(named) + 8 else words
            pieces.append(tag("text", shown, x=left + 5, y=y + 13, style=f"fill:{_ink_on(part.colour)};pointer-events:none"))
    return pieces


def _stack_legend(parts: Mapping[str, str], width: int) -> tuple[list[Html], int]:
    "A square and a name for each colour, and the height that they take."
    places = _legend_places(parts, 4, width)
    marks = [tag("rect", x=x, y=y - 6, width=14, height=12, style=f"fill:{colour}") for colour, (x, y) in zip(parts.values(), places)]
    names = [tag("text", name, x=x + 20, y=y + 4, class_="strong") for name, (x, y) in zip(parts, places)]
    return [*marks, *names], int(places[-1][1]) + 16 if places else 0


def stack_chart(groups: Mapping[str, Sequence[Stack]], label: str, width: int = 760) -> Chart:
    "Bars stacked from shares, in groups by name. The first piece of a bar has the bar's own colour; the legend explains the others."
    stacks = [stack for group in groups.values() for stack in group]
    legend, top = _stack_legend({part.name: part.colour for stack in stacks for part in stack.parts[1:]}, width)
    inner = 7 * max((len(stack.name) for stack in stacks), default=0)
    left = 24 + inner + 7 * max(map(len, groups), default=0)
    plane = Plane((0, 1), (0, 1), width, top + 19 * len(stacks) + 9 * len(groups) + 4, left, 4)
    drawn, y = [], float(top)
    for name, group in groups.items():
        drawn.append(tag("text", name, x=4, y=y + 13, class_="strong"))
        for stack in group:
            drawn += _stack_bar(plane, name, stack, y)
            y += 19
        y += 9
    return chart(plane, legend, drawn, label=label)


class Gain(NamedTuple):
    "One bar: a difference in points, as text, and its interval if there is one."
    value: float
    text: str
    interval: tuple[float, float] | None = None


def _gain_bar(plane: Plane, name: str, gain: Gain, y: float) -> list[Html]:
    "A bar from zero to its value, its interval as a thin line, its name far left, its number far right."
    left, right = sorted((plane.x(0), plane.x(gain.value)))
    kind = "gain" if gain.value > 0 else "loss" if gain.value < 0 else "same"
    edge = plane.width - plane.right
    low, high = (min(max(plane.x(v), plane.left), edge) for v in gain.interval or (0, 0))
    box = dict(x=left, y=y + 4, width=max(right - left, 1.0), height=14, rx=2)
    return [tag("rect", tag("title", f"{name} {gain.text}"), class_=kind, **box),
            tag("line", x1=low, x2=high, y1=y + 11, y2=y + 11, class_="whisker") if gain.interval else Html(),
            tag("text", name, x=plane.left - 10, y=y + 15, text_anchor="end", class_="strong"),
            tag("text", gain.text, x=plane.width - 2, y=y + 15, text_anchor="end", class_="strong")]


def gain_chart(gains: Mapping[str, Gain], label: str, width: int = Plane.width) -> Chart:
    "Horizontal bars by name, in the order given; long intervals are cut off at the edge."
    low, high = _limits([gain.value for gain in gains.values()] + [0.0], room=0.12)
    left = 16 + min(150, 7 * max(map(len, gains), default=0))
    plane = Plane((low, high), (0, 1), width, 22 * len(gains) + 8, left, 52)
    bars = [_gain_bar(plane, name, gain, 4.0 + 22 * n) for n, (name, gain) in enumerate(gains.items())]
    zero = tag("line", x1=plane.x(0), x2=plane.x(0), y1=0, y2=plane.height, class_="zero")
    return chart(plane, zero, bars, label=label)


def _column(plane: Plane, count: int, low: float, high: float) -> Html:
    "A bar of a histogram from `low` to `high`."
    kind = "same" if low < 0 < high else "gain" if low > 0 else "loss"
    return tag("rect", tag("title", f"{count}"), x=plane.x(low) + 0.5, width=max(plane.x(high) - plane.x(low) - 1, 0.5),
               y=plane.y(count), height=plane.y(0) - plane.y(count), class_=kind)


def histogram(values: Sequence[float], x_label: str, label: str, bins: int = 41) -> Chart:
    "How many values fall where; bars right of zero in the colour of gains, left of it in that of losses."
    finite = np.asarray([v for v in values if math.isfinite(v)], float)
    reach = max(1e-6, float(np.abs(finite).max(initial=0))) * (1 + 1e-9)
    counts, edges = np.histogram(finite, bins | 1, (-reach, reach))
    plane = Plane((-reach, reach), (0, max(1, int(counts.max())) * 1.05), height=180, top=24)
    bars = [_column(plane, int(n), a, b) for n, a, b in zip(counts, edges, edges[1:]) if n]
    zero = tag("line", x1=plane.x(0), x2=plane.x(0), y1=plane.top, y2=plane.y(0), class_="zero")
    return chart(plane, axes(plane, x_label, "images"), bars, zero, label=label)


def interval_chart(value: float, low: float, high: float, reach: float, label: str, width: int = 260) -> Chart:
    "A dot at `value` with its interval, on a line from -`reach` to `reach` with zero in the middle."
    plane = Plane((-reach, reach), (0, 1), width, 46, 8, 8, 4, 18)
    kind = "gain" if low > 0 else "loss" if high < 0 else "same"
    long = max(plane.x(high) - plane.x(low), 1.0)
    parts = [tag("line", x1=8, x2=width - 8, y1=14, y2=14, class_="grid"),
             tag("line", x1=plane.x(0), x2=plane.x(0), y1=4, y2=26, class_="zero"),
             tag("rect", x=plane.x(low), width=long, y=9, height=10, rx=5, class_="range"),
             tag("circle", cx=plane.x(value), cy=14, r=6, class_=kind)]
    words = ((f"−{reach:g}", -reach, "start"), ("no difference", 0, "middle"), (f"+{reach:g}", reach, "end"))
    below = [tag("text", text, x=plane.x(at), y=42, text_anchor=anchor) for text, at, anchor in words]
    return chart(plane, parts, below, label=label)
