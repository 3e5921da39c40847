"""The inspector's view and its contact sheets as figures: panels without gaps, at the width of a page, text and outlines as vectors"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..base.files import DataError
from ..base.html import plain
from ..base.pictures import Picture, broken, close_rows, fill
from .inspecting import Edge, Inspection, Panel, panels

SCREEN = 27.0  # cm: in a notebook, where PAGE would be narrow
_TITLE, _SMALL = 8, 7  # points
_LINE = 0.31  # cm from one small line to the next


def _draw_edge(axis: Axes, edge: Edge) -> None:
    "An outline as a line in its colour on a black one; it stays a line in a PDF."
    if edge.mask.any() and not edge.mask.all():
        for width, colour in ((1.7, "black"), (0.8, tuple(value / 255 for value in edge.colour))):
            axis.contour(edge.mask, [0.5], colors=[colour], linewidths=width)


def _draw_panel(axis: Axes, panel: Panel) -> None:
    "A panel in its cell: the picture, its outlines, the words of its corner."
    fill(axis, panel.bare)
    limits = axis.axis()
    for edge in panel.edges:
        _draw_edge(axis, edge)
    axis.axis(limits)
    if panel.label:
        box = {"boxstyle": "square,pad=0.25", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
        axis.annotate(plain(panel.label), (0, 0), (3, 3), "axes fraction", "offset points", fontsize=_SMALL, color="white", bbox=box)


def _words(text: str, cell: float) -> str:
    "The words below a panel `cell` cm wide, in lines that fit."
    return "\n".join(broken(part, cell, _SMALL) for part in text.replace(", mean", "; mean").split("; "))


def _figure(rows: Sequence[Sequence[Panel]], width: float, words: bool) -> Picture:
    "Rows of panels, those of one title in one column, titles on top; with `words` their lines beneath each."
    titles = list(dict.fromkeys(panel.title for panel in max(rows, key=len)))
    told = {id(panel): _words(panel.text, width / len(titles)) for found in rows for panel in found if words}
    under = 0.15 + _LINE * (1 + max(text.count("\n") for text in told.values())) if words else 0.0
    figure, axes = close_rows([found[0].bare.shape[:2] for found in rows], len(titles), width, under=under)
    for line, found in zip(axes, rows):
        for panel in found:
            axis = line[titles.index(panel.title)]
            _draw_panel(axis, panel)
            text = plain(told.get(id(panel), ""))
            axis.annotate(text, (0.5, 0), (0, -3), "axes fraction", "offset points", fontsize=_SMALL, ha="center", va="top")
    for axis, title in zip(axes[0], titles):
        axis.set_title(plain(title), fontsize=_TITLE, pad=3)
    return figure


def view_picture(look: Inspection, width: float = SCREEN) -> Picture:
    "The panels of the image in view in one row, `width` cm wide, with titles and the lines beneath."
    found = panels(look, 1)
    return _figure([[found[0]._replace(text=look.item.id), *found[1:]]], width, words=True)


def contact_sheet(look: Inspection, places: Sequence[int], width: float = SCREEN) -> Picture:
    "A row per image (by place in the split): image, truth, methods with their seeds, difference; the IoU of its class in each map."
    kept, rows = look.index, []
    try:
        for look.index in places:
            rows.append(panels(look, 1))
    finally:
        look.index = kept
    if not rows:
        raise DataError("a contact sheet of no images: choose some")
    return _figure(rows, width, words=False)
