"""The mIoU curve with the slider on it, per-class bars of two methods, and a click on a class opens its images"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ..base.charts import CHARTS, DARK, LIGHT, Chart, Gain, Line, gain_chart, line_chart
from ..base.html import Html, plain, table, tag
from ..base.pictures import Picture
from ..maps.methods import CAM, WOOD, colour_of, dash_of
from ..report.page import Section, page
from ..scores.rows import one_decimal, signed
from .inspecting import ORDERS, Inspection, method_of, sweep_of
from .inspector import LocalizationInspector, slider
from .parts import button, choice, row, write_text
from .stills import Shown

try:
    import ipywidgets as widgets
except ImportError as error:
    raise ImportError("the seed explorer needs ipywidgets: pip install 'wood_nb[lab]'") from error


_STYLES = {WOOD: "s0", CAM: "s1"}  # as in reports: W-OoD blue, CAM grey and dashed; others take the rest in turn


def _line_style(look: Inspection, name: str) -> str:
    "The class, in the style sheet of charts, of a method's curve and bars."
    others = [other for other in look.methods if method_of(other) not in _STYLES]
    return _STYLES.get(method_of(name)) or f"s{2 + others.index(name) % 3}"


def _curve_chart(look: Inspection, width: int = 520) -> Chart:
    "mIoU in per cent over thresholds, a line a method, with a ring at its threshold."
    lines = []
    for name in look.methods:
        sweep, threshold = sweep_of(look, name), look.thresholds[name]
        values = 100 * sweep.miou()
        lines.append(
            Line(
                name,
                sweep.thresholds.tolist(),
                values.tolist(),
                _line_style(look, name),
                (threshold, float(values[sweep.index(threshold)])),
            )
        )
    return line_chart(
        lines, "threshold", "mIoU (%)", f"mIoU of {', '.join(look.methods)} over thresholds", width=width, height=250
    )


def _best_words(look: Inspection) -> str:
    "Where each method is now, and where it would be best on this split."
    parts = []
    for name in look.methods:
        sweep = sweep_of(look, name)
        best, scores = sweep.best()
        here = 100 * sweep.scores_at(look.thresholds[name]).miou
        parts.append(
            f"{name}: {one_decimal(here)} % at {look.thresholds[name]:.2f} (highest {one_decimal(100 * scores.miou)} % at {best:g})"
        )
    return "; ".join(parts) + f". Split {look.split.name}, {len(look.split)} images, no CRF"


class ClassRow(NamedTuple):
    "One class: IoU in per cent of the two methods (None where absent), and the gain in points."
    name: str
    index: int | None  # class index; None is the background
    baseline: float | None
    method: float | None

    @property
    def gain(self) -> float | None:
        return None if self.baseline is None or self.method is None else self.method - self.baseline


CLASS_ORDERS = ("gain", "loss", "as in the data", "IoU")


def class_rows(look: Inspection, order: str = CLASS_ORDERS[0]) -> list[ClassRow]:
    "All classes and the background, in order; absent classes last."
    ours, theirs = (
        sweep_of(look, name).scores_at(look.thresholds[name]).per_class for name in (look.pair[1], look.pair[0])
    )
    rows = [ClassRow(name, n - 1 if n else None, theirs[name], ours[name]) for n, name in enumerate(ours)]
    keys: dict[str, Callable[[ClassRow], float]] = {
        "gain": lambda r: -(r.gain or 0),
        "loss": lambda r: r.gain or 0,
        "IoU": lambda r: -(r.method or 0),
        "as in the data": lambda r: 0,
    }
    return sorted(rows, key=lambda r: (r.gain is None, keys[order](r)))


def _bars_html(r: ClassRow, styles: tuple[str, str] = ("s0", "s1")) -> Html:
    "Two bars, baseline above method, in the colours of their curves, with their numbers and the gain."
    def line(value: float | None, style: str) -> Html:
        share = 0 if value is None else value
        return tag("div", tag("span", style=f"width:{share:.1f}%;background:var(--{style})"), tag("i", one_decimal(value)))
    kind = "same" if not r.gain else "up" if r.gain > 0 else "down"
    return Html(tag("div", tag("div", line(r.baseline, styles[0]), line(r.method, styles[1]), class_="wood-pair"),
                    tag("b", signed(r.gain), class_=kind), class_="wood-bars"))


def theme(where: str) -> str:
    "The colours of charts, as JupyterLab's theme asks, or else as the reader's system does."
    light, dark = (";".join(f"--{name}:{value}" for name, value in names.items()) for names in (LIGHT, DARK))
    return (f"{where}{{{light}}}\n@media (prefers-color-scheme:dark){{{where}{{{dark}}}}}\n"
            f"body[data-jp-theme-light=true] {where}{{{light}}}\nbody[data-jp-theme-light=false] {where}{{{dark}}}\n")


_SEED_STYLE = "<style>" + theme(".wood-seeds") + CHARTS + """
.wood-seeds {--paper: var(--jp-layout-color0, #fff)}
.wood-seeds .widget-html-content {line-height: 1.4; color: var(--jp-ui-font-color1, #222)}
.wood-seeds .wood-class {flex: none; width: 130px; text-align: right} .wood-seeds .wood-class:focus-visible {outline: 3px solid #0072b2}
.wood-bars {display: flex; gap: 10px; align-items: center; width: 380px} .wood-bars b {width: 52px; text-align: right}
.wood-bars .up {color: var(--gain)} .wood-bars .down {color: var(--loss)}
.wood-pair {flex: 1} .wood-pair div {position: relative; height: 13px; margin: 1px 0}
.wood-pair i {position: relative; font: 11px/13px system-ui; padding-left: 4px}
.wood-pair span {position: absolute; left: 0; top: 0; bottom: 0; border-radius: 2px; opacity: .4}
</style>"""


class SeedExplorer(Shown):
    "The mIoU curve with sliders, and classes by gain. `source`: an inspector, which then follows, or an `Inspection`."

    def __init__(self, source: LocalizationInspector | Inspection):
        self.inspector = source if isinstance(source, LocalizationInspector) else None
        self.look = source.look if self.inspector else source
        for name in self.look.methods:
            sweep_of(self.look, name)
        self.widget = self.build(self.look)
        self.refresh()
        self.order_box.observe(lambda _: self.refresh(), "value")
        for name, box in self.sliders.items():
            if self.inspector:
                widgets.link((self.inspector.sliders[name], "value"), (box, "value"))
            box.observe(lambda change, name=name: self.set_threshold(name, change["new"]), "value")

    def build(self, look: Inspection) -> widgets.Box:
        self.chart, self.words = widgets.HTML(), widgets.HTML()
        self.sliders = {name: slider(name, look.thresholds[name], 0.01) for name in look.methods}
        self.order_box = choice("classes by", CLASS_ORDERS, "230px", "classes")
        best = button("Best on this split", "move every slider to the highest point of its curve", self.take_best)
        left = widgets.VBox(
            [self.chart, *self.sliders.values(), row(best), self.words], layout=widgets.Layout(flex="1 1 520px")
        )
        self.names = [
            button("", "show its images in the inspector", lambda n=n: self.click(n), "130px").add_class("wood-class")
            for n in range(look.split.n_classes + 1)
        ]
        self.bars = [widgets.HTML() for _ in self.names]
        self.head = widgets.HTML()
        right = widgets.VBox(
            [row(self.order_box), self.head, *(row(name, bar) for name, bar in zip(self.names, self.bars))],
            layout=widgets.Layout(flex="1 1 520px"),
        )
        style = widgets.HTML(_SEED_STYLE, layout=widgets.Layout(display="none"))
        box = row(style, left, right)
        box.layout.align_items = "flex-start"
        return box.add_class("wood-seeds")

    # -- what is on the screen, and what is asked --
    def refresh(self) -> None:
        look = self.look
        self.chart.value, self.words.value = _curve_chart(look), escape(_best_words(look))
        self.rows = class_rows(look, self.order_box.value)
        self.head.value = escape(f"IoU (%): {look.pair[0]} above, {look.pair[1]} below; gain in points")
        styles = tuple(_line_style(look, name) for name in look.pair)
        for name, bar, r in zip(self.names, self.bars, self.rows):
            name.description, name.disabled, bar.value = r.name, r.index is None or self.inspector is None, _bars_html(r, styles)

    def set_threshold(self, method: str, value: float) -> None:
        "Move one threshold, here and in the inspector."
        self.look.thresholds[method] = round(value, 2)
        self.refresh()

    def take_best(self) -> None:
        for name, box in self.sliders.items():
            box.value = sweep_of(self.look, name).best()[0]

    def click(self, n: int) -> None:
        "Show the images of the class in row `n` in the inspector, largest gain first."
        if self.inspector is not None and self.rows[n].index is not None:
            self.inspector.look.shown = self.rows[n].index
            self.inspector.look.order, self.inspector.look.among = ORDERS[1], None
            self.inspector.set("only", self.rows[n].index)

    def to_figure(self) -> Picture:
        "Curves and bars as a picture."
        return _seeds_picture(self.look, self.rows)

    def to_html(self, path: str | Path | None = None) -> str:
        "A page of its own, which works offline; written to `path` if given."
        return write_text(_seeds_page(self.look, self.rows), path)


def _seeds_picture(look: Inspection, rows: Sequence[ClassRow]) -> Picture:
    "The curves on the left, gains per class on the right."
    figure = Picture(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in look.methods:
        sweep, t, method = sweep_of(look, name), look.thresholds[name], method_of(name)
        value = 100 * sweep.scores_at(t).miou
        left.plot(
            sweep.thresholds,
            100 * sweep.miou(),
            color=colour_of(method),
            linestyle=dash_of(method),
            label=plain(f"{name}: {value:.1f} at {t:.2f}"),
        )
        left.plot(t, value, "o", color=colour_of(method))
    left.set(xlabel="threshold", ylabel="mIoU (%)")
    left.legend(frameon=False, fontsize=9)
    known = [r for r in reversed(rows) if r.gain is not None]
    bars = right.barh(
        [r.name for r in known], [r.gain for r in known], color=[LIGHT["gain" if r.gain > 0 else "loss"] for r in known]
    )
    right.bar_label(bars, [signed(r.gain) for r in known], fontsize=9, padding=2)
    right.margins(x=0.15)
    right.axvline(0, color="black", linewidth=0.8)
    right.set_xlabel(plain(f"points of IoU, {look.pair[1]} over {look.pair[0]}"))
    return figure


def _seeds_page(look: Inspection, rows: Sequence[ClassRow]) -> str:
    "A whole HTML document."
    charts = tag(
        "div",
        _curve_chart(look),
        gain_chart({r.name: Gain(r.gain, signed(r.gain)) for r in rows if r.gain is not None}, "Gain per class"),
        class_="charts",
    )
    cells = [[r.name, *(None if v is None else round(v, 1) for v in (r.baseline, r.method, r.gain))] for r in rows]
    figures = table(["class", *look.pair, "gain"], cells, "IoU in per cent, gain in points", sortable=True)
    lead = tag("div", tag("h1", "Seeds over thresholds"), tag("p", _best_words(look)))
    return page(
        "Seeds over thresholds",
        lead,
        [Section("curve", "Curves and gains", charts), Section("classes", "Classes", figures)],
    )
