"""The map of the workbench: where each picture lies, its colour, and which pictures a lasso or a box holds"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.path import Path as Outline

from ...base.files import DataError
from ...ood.candidates import COLOURS, DECISIONS
from .land import point_of
from .rows import Rows
from .strip import badge

COLOURINGS = ("cluster", "class", "p", "decision")
GREY = "#8c8c8c"
_DECIDED = {"keep": "dot", "drop": "cross", "undecided": "ring"}
_STEPS = 8  # of p


def layouts() -> dict[str, str]:
    "The layouts that can be had here."
    return {"pca": "PCA", "tsne": "t-SNE"} | ({"umap": "UMAP"} if find_spec("umap") else {})


@dataclass
class Map:
    "Points in the unit square: the candidates first, then in-distribution pictures, then class prototypes."
    rows: Rows
    method: str = "pca"
    colour: str = "cluster"

    def xy(self) -> np.ndarray:
        "Where the points lie, float32 `[n, 2]`."
        return self.rows.land.layout(self.method)

    def lay_out(self, method: str) -> None:
        "Choose a layout."
        if method not in layouts():
            raise DataError(f"layout '{method}': say one of {', '.join(layouts())}")
        self.rows.land.layout(method)
        self.method = method

    def paint(self, colour: str) -> None:
        "Choose what the colours mean."
        if colour not in COLOURINGS:
            raise DataError(f"colour='{colour}': say one of {', '.join(COLOURINGS)}")
        self.colour = colour

    # -- which candidates lie within --
    def lasso(self, outline: Sequence[Sequence[float]]) -> np.ndarray:
        "The rows of candidates inside a closed line `[k, 2]` on the map."
        if len(outline) < 3:
            return np.zeros(0, np.int64)
        return np.flatnonzero(Outline(np.asarray(outline, float)).contains_points(self.xy()[:len(self.rows)]))

    def box(self, left: float, low: float, right: float, high: float) -> np.ndarray:
        "The rows of candidates inside a box, whichever two of its corners are given."
        corners = np.sort(np.array([[left, low], [right, high]], float), 0)
        xy = self.xy()[:len(self.rows)]
        return np.flatnonzero(((xy >= corners[0]) & (xy <= corners[1])).all(1))

    def entry(self, label: int) -> np.ndarray:
        "The rows of candidates of one line of the legend."
        return np.flatnonzero(self.labels()[:len(self.rows)] == label)

    # -- colours --
    def _candidates(self) -> tuple[np.ndarray, list[dict[str, str]]]:
        "The line of the legend of each candidate, and the legend."
        rows = self.rows
        if self.colour == "decision":
            return rows.decision, [{"label": name, "colour": COLOURS[name], "shape": _DECIDED[name]} for name in DECISIONS]
        if self.colour == "class":
            return rows.predicted, [{"label": name, **badge(n)} for n, name in enumerate(rows.manifest.classes)]
        if self.colour == "p":
            shades = colormaps["cividis"](np.linspace(0, 1, _STEPS))
            names = [f"p {n / _STEPS:.2f} to {(n + 1) / _STEPS:.2f}" for n in range(_STEPS)]
            legend = [{"label": name, "colour": to_hex(shade), "shape": "dot"} for name, shade in zip(names, shades)]
            return (rows.p * _STEPS).clip(0, _STEPS - 1).astype(int), legend
        clusters = rows.manifest.clusters
        legend = [{"label": c.name, **badge(c.id)} for c in clusters] + [{"label": "in no cluster", "colour": GREY, "shape": "dot"}]
        return np.where(rows.cluster < 0, len(clusters), rows.cluster), legend

    def labels(self) -> np.ndarray:
        "The line of the legend of each point, uint16 `[n]`; the last line is for what is no candidate."
        labels, legend = self._candidates()
        return np.concatenate([labels, np.full(len(self.rows.land.kind) - len(labels), len(legend))]).astype("<u2")

    def legend(self) -> list[dict[str, str]]:
        "What colours and shapes mean, a line each."
        return self._candidates()[1] + [{"label": "in-distribution", "colour": GREY, "shape": "square"}]

    def stars(self) -> list[str]:
        "The names of the prototypes, which are the last points."
        land = self.rows.land
        return [land.classes[c] for c in land.starred]

    def lines(self, point: int) -> list[str]:
        "What to say about a point that is no candidate."
        return point_of(self.rows.land, point)
