"""The workbench on paper: map, pictures of the selection, and the clusters in words"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from PIL import Image, ImageOps

from ...base.html import plain
from ...base.pictures import Picture
from ...ood.candidates import COLOURS, SIGNS, thumbnail
from .land import CANDIDATE, PROTOTYPE
from .map import GREY
from .state import Bench
from .strip import badge

_MARKERS = {"dot": "o", "square": "s", "triangle": "^", "diamond": "D", "bar": "_", "ring": "$\\circ$", "cross": "x"}
_SIDE, _EDGE = 150, 5  # pixels of a picture and of its frame


def _draw_points(axis: Axes, bench: Bench) -> None:
    "The points in the colours chosen, the largest clusters by name."
    xy, labels, legend, kind = bench.map.xy(), bench.map.labels(), bench.map.legend(), bench.rows.land.kind
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axis.axis("off")
    for n, entry in enumerate(legend):
        mine = (labels == n) & (kind != PROTOTYPE)
        faint = n == len(legend) - 1
        axis.scatter(xy[mine, 0], xy[mine, 1], s=10 if faint else 22, c=entry["colour"], marker=_MARKERS[entry["shape"]],
                     alpha=0.35 if faint else 1, linewidths=1, zorder=1 if faint else 2)
    chosen = np.flatnonzero(bench.grid.selected)
    axis.scatter(xy[chosen, 0], xy[chosen, 1], s=46, facecolors="none", edgecolors="black", linewidths=0.7, zorder=3)
    for card in bench.strip.cards()[:30]:
        name = plain(card["name"].removeprefix("cluster "))
        x, y = xy[card["faces"][0]]
        text = axis.text(x, y, name, fontsize=9, weight="bold", ha="center", zorder=4)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _framed(bench: Bench, row: int) -> Image.Image:
    "A picture on white, framed in the colour of its cluster, or of its decision where there is no map."
    cluster, room = bench.rows.cluster_of(row), _SIDE - 2 * _EDGE
    colour = badge(cluster.id)["colour"] if cluster else GREY
    if bench.mode == "grid":
        colour = COLOURS[bench.rows.candidate(row).decision]
    shot = ImageOps.contain(thumbnail(bench.rows.file(row), room), (room, room))
    frame = Image.new("RGB", (_SIDE, _SIDE), colour)
    frame.paste("white", (_EDGE, _EDGE, _SIDE - _EDGE, _SIDE - _EDGE))
    frame.paste(shot, ((_SIDE - shot.width) // 2, (_SIDE - shot.height) // 2))
    return frame


def _draw_shots(axis: Axes, bench: Bench, columns: int, lines: int) -> None:
    "The first pictures of the grid as one sheet, with what they are taken for and what was decided."
    wide, high = _SIDE + 8, _SIDE + 24
    sheet = Image.new("RGB", (columns * wide, lines * high), "white")
    axis.axis("off")
    for n, row in enumerate(bench.grid.window(0, columns * lines)):
        left, top, candidate = n % columns * wide, n // columns * high, bench.rows.candidate(row)
        sheet.paste(_framed(bench, row), (left, top + 20))
        axis.text(left + 2, top + 15, plain(f"{SIGNS[candidate.decision]} {candidate.predicted} {candidate.p:.2f}"), fontsize=8)
    axis.imshow(np.asarray(sheet))


def draw_still(bench: Bench) -> Picture:
    "Map at the left, pictures at the right, as they stand now; or the pictures alone."
    alone, state, known = bench.mode == "grid", bench.state(), int((bench.rows.land.kind == CANDIDATE).sum())
    figure = Picture(figsize=(13, 4.2) if alone else (13, 5.4))
    if alone:
        _draw_shots(figure.add_axes((0.005, 0.01, 0.99, 0.9)), bench, 12, 3)
    else:
        _draw_points(figure.add_axes((0, 0.01, 0.44, 0.92)), bench)
        _draw_shots(figure.add_axes((0.445, 0.01, 0.55, 0.92)), bench, 6, 4)
    chosen = f"{state['selected']:,} of {known:,} selected" if state["selected"] else f"all {known:,} pictures"
    clusters = "" if alone else f"; {len(bench.strip.cards())} clusters"
    figure.text(0.01, 0.95, plain(f"{chosen}; {state['report']}{clusters}"), fontsize=10)
    return figure
