"""All images of an inspector as a table that sorts by any column: IoU, gain, weight on the object, and whatever else one knows of them"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..base.files import DataError
from ..data.splits import Split
from ..nets.camnet import CamNet
from ..train.predict import predict_all
from .inspecting import Inspection, gains, image_ious, sweep_of
from .parts import Closable, page_script

try:
    import anywidget
    import ipywidgets as widgets
    import traitlets
except ImportError as error:
    raise ImportError("the table of images needs ipywidgets and anywidget: pip install 'wood_nb[lab]'") from error

def image_losses(net: CamNet, split: Split, long_side: int | None = None) -> dict[str, float]:
    "Image id -> binary cross-entropy of a classifier, mean over the classes: a column for the table. Unreadable images are an error."
    found = predict_all(net, split, long_side=long_side, title=None)
    y, p = split.label_matrix()[found.index], found.p.clip(1e-7, 1 - 1e-7)
    losses = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(1)
    return {split[index].id: float(loss) for index, loss in zip(found.index, losses)}


Choose = Callable[[str, Sequence[int], int], Any]  # words, places in the split, number of the one to show
_NAMES = ("image", "classes")  # the columns that hold text


@dataclass
class ImageTable:
    "A row per image of an inspection; `more`: further columns, as name -> {image id: number}."
    look: Inspection
    more: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by: str = _NAMES[0]
    down: bool = False  # whether the largest come first

    def columns(self) -> dict[str, np.ndarray]:
        """Numbers per image, float64 `[n]`, NaN where there are none: IoU in per cent (of the class the inspection is restricted to, else
        the mean), points gained, share of the weight of maps on their objects in per cent, and `more`."""
        look, ids = self.look, self.look.split.ids
        found = {f"IoU {name}": 100 * image_ious(look, name) for name in look.methods}
        if look.pair[0] != look.pair[1]:
            found["gain"] = 100 * gains(look)
        for name in look.methods:
            sweep_of(look, name)
            found[f"on object {name}"] = 100 * look.on_object[name]
        return found | {name: np.array([known.get(id, np.nan) for id in ids], float) for name, known in self.more.items()}

    def classes(self) -> list[str]:
        "The labels of each image in words."
        return [", ".join(self.look.split.classes[k] for k in sorted(item.labels)) for item in self.look.split.items]

    def order(self) -> list[int]:
        "Places of the images, sorted; those without a number come last, whichever way."
        texts: dict[str, Sequence[str]] = dict(zip(_NAMES, (self.look.split.ids, self.classes())))
        if self.by in texts:
            return sorted(range(len(self.look.split)), key=texts[self.by].__getitem__, reverse=self.down)
        values = self.columns()[self.by]
        return np.lexsort((-values if self.down else values, np.isnan(values))).tolist()

    def sort(self, by: str) -> None:
        "Sort by a column; if it is sorted by that already, turn round. Of numbers the largest come first, of texts the first letters."
        if by not in (*_NAMES, *self.columns()):
            raise DataError(f"no column '{by}'; there are {', '.join((*_NAMES, *self.columns()))}")
        self.by, self.down = by, not self.down if by == self.by else by not in _NAMES


_STYLE = """
.wood-images {max-height: 290px; overflow: auto; border: 1px solid var(--jp-border-color2, #ccc); border-radius: 4px;
  color: var(--jp-ui-font-color1, #1c1c1c); background: var(--jp-layout-color1, #fff);
  font: 13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif)}
.wood-images table {border-collapse: collapse; margin: 0; width: 100%}
.wood-images th, .wood-images td {padding: 2px 12px; text-align: right; border: 0; white-space: nowrap;
  font-variant-numeric: tabular-nums; border-bottom: 1px solid var(--jp-border-color2, #ddd)}
.wood-images :is(th, td):nth-child(-n+2) {text-align: left}
.wood-images thead th {position: sticky; top: 0; background: var(--jp-layout-color1, #fff); z-index: 1}
.wood-images button {all: unset; cursor: pointer} .wood-images thead button {font-weight: 600}
.wood-images button:focus-visible {outline: 3px solid #0072b2}
.wood-images thead button::after {content: " ↕"; opacity: .4}
.wood-images [aria-sort=descending] button::after {content: " ↓"; opacity: 1}
.wood-images [aria-sort=ascending] button::after {content: " ↑"; opacity: 1}
.wood-images tbody tr {cursor: pointer} .wood-images tbody tr:hover td, .wood-images tbody tr:hover th {background: #0072b222}
.wood-images tr[aria-current] :is(td, th) {background: #0072b233; font-weight: 600}
.wood-images .wood-more {padding: 6px 12px; text-decoration: underline}
"""


class _ImagesView(anywidget.AnyWidget):
    "Draws rows in the order it is told; says which heading or row was clicked."
    _esm = page_script("elements.js", "images.js")
    _css = _STYLE
    heads: traitlets.List = traitlets.List().tag(sync=True)
    ids: traitlets.List = traitlets.List().tag(sync=True)
    classes: traitlets.List = traitlets.List().tag(sync=True)
    values: traitlets.List = traitlets.List().tag(sync=True)  # a list per column of numbers, None where there is none
    order: traitlets.List = traitlets.List().tag(sync=True)
    by: traitlets.List = traitlets.List().tag(sync=True)  # heading, and whether the largest come first
    here = traitlets.Int(-1).tag(sync=True)  # place of the image in view


class ImageList(Closable):
    "The table of an inspection's images. A click on a row hands all of them, in the order of the table, to `choose`."

    def __init__(self, look: Inspection, choose: Choose, more: Mapping[str, Mapping[str, float]] | None = None):
        self.table, self.choose, self.view = ImageTable(look, {} if more is None else more), choose, _ImagesView()
        self.view.ids, self.view.classes = look.split.ids, self.table.classes()
        self.view.on_msg(self.hear)
        self.widget = widgets.VBox([self.view])

    def refresh(self) -> None:
        "Show the numbers at the present thresholds."
        columns, table = self.table.columns(), self.table
        with self.view.hold_sync():
            self.view.heads = [*_NAMES, *columns]
            self.view.values = [[None if np.isnan(v) else round(float(v), 4) for v in values] for values in columns.values()]
            self.view.order, self.view.by, self.view.here = table.order(), [table.by, table.down], table.look.index

    def sort(self, by: str) -> None:
        "Sort by a column; a second time: the other way round."
        self.table.sort(by)
        self.refresh()

    def pick(self, n: int) -> Any:
        "Show the image in row `n` (from 0), with those around it in the table as its neighbours."
        table = self.table
        return self.choose(f"by {table.by}, {'largest' if table.down else 'smallest'} first", table.order(), n)

    def hear(self, _: Any, message: dict, buffers: Sequence) -> None:
        "A message of the page: a heading or a row was clicked."
        if message.get("type") == "sort" and message.get("by") in self.view.heads:
            self.sort(message["by"])
        elif message.get("type") == "pick" and 0 <= int(message["row"]) < len(self.view.order):
            self.pick(int(message["row"]))
