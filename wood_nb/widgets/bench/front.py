"""The page of the workbench: one widget whose traits are what the parts say, and whose messages ask them for something"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from ...base.files import DataError
from .filters import FILTERS
from .land import CANDIDATE
from .shots import Thumbnails
from ..parts import page_script
from .grid import SORTS
from .live import LiveHead
from .map import layouts
from .state import Bench
from .strip import STRIP_ORDERS, badge

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError("the workbench needs ipywidgets and anywidget: pip install 'wood_nb[lab]'") from error

_MODULES = ("base", "map", "strip", "grid", "bar", "wipe", "viewer", "main")  # each imports from those before it only
_COLOURS = {"cluster": "cluster", "class": "taken for", "p": "p", "decision": "decision"}


def page_module(*more: str) -> str:
    "The modules of the page as one, as anywidget wants it; more modules follow."
    return page_script("elements.js", "cells.js", *(f"bench/{name}.js" for name in (*_MODULES, *more)))


def bench_style() -> str:
    "What the page looks like."
    return (files("wood_nb.widgets.bench") / "bench.css").read_text(encoding="utf-8")


class BenchPage(anywidget.AnyWidget):
    "Columns as bytes, little-endian; small things as JSON. Rows are those of the candidates; `xy`, `kind`, `labels` and `flags` go on."
    _esm = page_module()
    _css = bench_style()
    xy = traitlets.Bytes().tag(sync=True)  # float32 [n, 2]
    kind = traitlets.Bytes().tag(sync=True)  # uint8 [n]: candidate, in-distribution, prototype
    labels = traitlets.Bytes().tag(sync=True)  # uint16 [n]: line of the legend
    flags = traitlets.Bytes().tag(sync=True)  # uint8 [n], see Bench.flags
    clusters = traitlets.Bytes().tag(sync=True)  # uint16 [rows]: place in marks
    predicted = traitlets.Bytes().tag(sync=True)  # uint16 [rows]
    p = traitlets.Bytes().tag(sync=True)  # float32 [rows]
    order = traitlets.Bytes().tag(sync=True)  # uint32: the rows that the grid shows
    legend: traitlets.List = traitlets.List().tag(sync=True)  # label, colour, shape
    marks: traitlets.List = traitlets.List().tag(sync=True)  # name, colour, shape of each cluster
    cards: traitlets.List = traitlets.List().tag(sync=True)
    classes: traitlets.List = traitlets.List().tag(sync=True)
    stars: traitlets.List = traitlets.List().tag(sync=True)  # names of the prototypes, the last points
    options = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)  # see Bench.state
    saved = traitlets.Unicode().tag(sync=True)
    pins: traitlets.List = traitlets.List().tag(sync=True)  # pinned maps: title, note, and picture or pair (bytes)


def fixed_values(bench: Bench) -> dict[str, Any]:
    "Traits that stay as they are."
    rows = bench.rows
    options = {"sorts": SORTS, "strip": STRIP_ORDERS, "colours": _COLOURS, "layouts": layouts(), "filters": FILTERS}
    return {"kind": rows.land.kind.tobytes(), "predicted": rows.predicted.astype("<u2").tobytes(), "p": rows.p.astype("<f4").tobytes(),
            "classes": list(rows.manifest.classes), "stars": bench.map.stars(), "options": options}


def page_values(bench: Bench) -> dict[str, Any]:
    "Traits that follow what one does."
    clusters = bench.rows.cluster
    marks = [{"name": cluster.name, **badge(cluster.id)} for cluster in bench.manifest.clusters]
    return {"xy": bench.map.xy().astype("<f4").tobytes(), "labels": bench.map.labels().tobytes(), "flags": bench.flags().tobytes(),
            "clusters": np.where(clusters < 0, 65535, clusters).astype("<u2").tobytes(), "legend": bench.map.legend(), "marks": marks,
            "cards": bench.strip.cards(), "order": bench.grid.shown().astype("<u4").tobytes(), "state": bench.state()}


def new_page(bench: Bench) -> BenchPage:
    "The page of a workbench, filled."
    page = BenchPage(**fixed_values(bench))
    fill_page(page, bench)
    return page


def fill_page(page: BenchPage, bench: Bench) -> None:
    "Bring the page up to date; only what differs is sent, in one message."
    with page.hold_sync():
        for name, value in page_values(bench).items():
            if getattr(page, name) != value:
                setattr(page, name, value)


def send_thumbs(page: BenchPage, bench: Bench, shots: Thumbnails, points: list[int]) -> None:
    "Send thumbnails and names of points; one that has no picture has an empty one."
    rows, kind, found = bench.rows, bench.rows.land.kind, []
    points = [n for n in points if 0 <= n < len(kind)]
    for n in points:
        known = shots.candidate(rows.candidate(n).file) if kind[n] == CANDIDATE else shots.known(bench.map.lines(n)[0])
        found.append(known or b"")
    names = [[rows.ids[n]] if kind[n] == CANDIDATE else bench.map.lines(n) for n in points]
    page.send({"type": "thumbs", "rows": points, "names": names}, found)


def send_picture(page: BenchPage, bench: Bench, row: int) -> None:
    "Send a picture as it is."
    if 0 <= row < len(bench.rows):
        content, kind = bench.viewer.picture(row)
        page.send({"type": "picture", "row": row, "kind": kind}, [content])


def _pulled(bench: Bench, live: LiveHead, id: str, most: int = 3) -> str:
    "Which clusters pull the map of a pinned picture most, in words; nothing until that is known."
    names = {cluster.id: cluster.name for cluster in bench.manifest.clusters}
    found = [(names[cluster], share) for cluster, share in live.pulls(id, wait=False) if cluster in names]
    return ", ".join(f"{name} ({100 * share:.1f} %)" for name, share in found[:most])


def send_maps(page: BenchPage, bench: Bench, live: LiveHead, row: int, id: str) -> None:
    "Send a pinned picture, or (row >= 0) a candidate, and the two maps that are compared; or why there are none."
    wipe, content, said, pulled = bench.wipe, [], "", ""
    try:
        if row >= 0:
            content = live.pair(bench.rows.ids[row], wipe.left, wipe.right, candidate=True)
        elif id in wipe.pinned:
            content, pulled = live.pair(id, wipe.left, wipe.right), _pulled(bench, live, id)
    except DataError as error:
        said = str(error)
    page.send({"type": "maps", "row": row, "id": id, "turn": wipe.turn, "said": said, "pulled": pulled}, content)
