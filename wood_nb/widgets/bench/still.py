"""The workbench on paper: map, pictures of the selection, and the clusters in words"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from ...base.html import plain
from ...base.pictures import Picture
from ...ood.candidates import SIGNS, thumbnail
from ..exploring import CANDIDATE, PROTOTYPE
from .state import Bench
from .strip import badge

_MARKERS = {"dot": "o", "square": "s", "triangle": "^", "diamond": "D", "bar": "_", "ring": "$\\circ$", "cross": "x"}


def _draw_points(axis: Axes, bench: Bench) -> None:
    "The points in the colours chosen, the largest clusters by name."
    xy, labels, legend, kind = bench.map.xy(), bench.map.labels(), bench.map.legend(), bench.rows.land.kind
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axis.axis("off")
    for n, entry in enumerate(legend):
        mine = (labels == n) & (kind != PROTOTYPE)
        faint = n == len(legend) - 1
        axis.scatter(*xy[mine].T, s=10 if faint else 22, c=entry["colour"], marker=_MARKERS[entry["shape"]], alpha=0.35 if faint else 1,
                     linewidths=1, zorder=1 if faint else 2)
    chosen = np.flatnonzero(bench.grid.selected)
    axis.scatter(*xy[chosen].T, s=46, facecolors="none", edgecolors="black", linewidths=0.7, zorder=3)
    for card in bench.strip.cards()[:30]:
        text = axis.text(*xy[card["faces"][0]], plain(card["name"].removeprefix("cluster ")), fontsize=9, weight="bold", ha="center", zorder=4)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _draw_shot(axis: Axes, bench: Bench, row: int) -> None:
    "A picture framed in the colour of its cluster."
    cluster, candidate = bench.rows.cluster_of(row), bench.rows.candidate(row)
    axis.imshow(np.asarray(thumbnail(bench.rows.file(row), 150)))
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color=badge(cluster.id)["colour"] if cluster else "#8c8c8c", linewidth=3)
    axis.set_title(plain(f"{SIGNS[candidate.decision]} {candidate.predicted} {candidate.p:.2f}"), fontsize=8, pad=3)


def draw_still(bench: Bench, columns: int = 6, lines: int = 4) -> Picture:
    "Map at the left, pictures at the right, as they stand now."
    figure = Picture(figsize=(13, 5.2), layout="constrained")
    places = figure.add_gridspec(lines, columns + 5)
    _draw_points(figure.add_subplot(places[:, :5]), bench)
    for n, row in enumerate(bench.grid.window(0, columns * lines)):
        _draw_shot(figure.add_subplot(places[n // columns, 5 + n % columns]), bench, row)
    state, known = bench.state(), int((bench.rows.land.kind == CANDIDATE).sum())
    chosen = f"{state['selected']:,} of {known:,} selected" if state["selected"] else f"all {known:,} pictures"
    figure.suptitle(plain(f"{chosen}; {state['report']}; {len(bench.strip.cards())} clusters"), fontsize=10, ha="left", x=0.01)
    return figure
