"""What the seeds of a method take for what: a grid of all pairs of classes, each cell of which opens its images"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .images import Choose
from .inspecting import Inspection, confused_pixels, sweep_of
from .parts import Closable, choice, page_script, row

try:
    import anywidget
    import ipywidgets as widgets
    import traitlets
except ImportError as error:
    raise ImportError("the grid of confusions needs ipywidgets and anywidget: pip install 'wood_nb[lab]'") from error


def confusion_shares(look: Inspection, method: str) -> np.ndarray:
    "Share of the pixels of each true class taken for each class, float64 `[C + 1, C + 1]` (rows true); NaN for absent classes."
    counts = np.asarray(sweep_of(look, method).scores_at(look.thresholds[method]).confusion)
    whole = counts.sum(1, keepdims=True)
    return np.divide(counts, whole, out=np.full(counts.shape, np.nan), where=whole > 0)


_STYLE = """
.wood-confusions {overflow-x: auto; color: var(--jp-ui-font-color1, #1c1c1c);
  font: 12px/1.3 var(--jp-ui-font-family, system-ui, sans-serif)}
.wood-confusions table {border-collapse: collapse; margin: 0} .wood-confusions :is(th, td) {padding: 0; border: 0; background: none}
.wood-confusions thead th {writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; vertical-align: bottom; padding: 4px 0;
  font-weight: 500; height: 84px}
.wood-confusions thead th:first-child {writing-mode: horizontal-tb; transform: none; padding-right: 8px; text-align: right}
.wood-confusions tbody th {text-align: right; padding-right: 8px; font-weight: 500; white-space: nowrap}
.wood-confusions button {all: unset; display: block; box-sizing: border-box; width: 36px; height: 26px; text-align: center; cursor: pointer;
  border: 1px solid var(--jp-layout-color1, #fff); font-variant-numeric: tabular-nums}
.wood-confusions button:hover {border-color: currentColor} .wood-confusions button:focus-visible {outline: 3px solid #0072b2}
.wood-confusions button[disabled] {cursor: default; opacity: .35}
.wood-confusions button[aria-pressed=true] {border: 2px solid currentColor}
"""


class _ConfusionsView(anywidget.AnyWidget):
    "A grid of shares; says which cell was clicked."
    _esm = page_script("elements.js", "confusions.js")
    _css = _STYLE
    names: traitlets.List = traitlets.List().tag(sync=True)
    shares: traitlets.List = traitlets.List().tag(sync=True)  # per cent by row, None for absent classes
    opened: traitlets.List = traitlets.List().tag(sync=True)  # the cell whose images are shown: true, taken for


class ConfusionGrid(Closable):
    "Shares of each true class that seeds take for each class. A click on a cell hands its images to `choose`, most pixels first."

    def __init__(self, look: Inspection, choose: Choose):
        self.look, self.choose, self.view = look, choose, _ConfusionsView()
        self.view.names = ["background", *look.split.classes]
        self.method_box = choice("seeds of", list(look.methods), "260px", "confused")
        self.method_box.value = look.pair[1]
        self.method_box.observe(lambda _: self.refresh(), "value")
        self.view.on_msg(self.hear)
        words = widgets.HTML("per cent of the pixels of each true class (rows) that are taken for each class; a cell opens its images")
        self.widget = widgets.VBox([row(self.method_box, words), self.view])

    def refresh(self) -> None:
        "Show the shares at the present threshold."
        shares = confusion_shares(self.look, self.method_box.value)
        self.view.shares = [[None if np.isnan(share) else round(100 * float(share), 2) for share in line] for line in shares]

    def pick(self, true: int, taken_for: int) -> Any:
        "Show the images in which mask value `true` is taken for `taken_for` (0 background, class index + 1)."
        method, names = self.method_box.value, self.view.names
        found = confused_pixels(self.look, method, true, taken_for)
        self.look.shown = (taken_for or true) - 1 if taken_for or true else self.look.shown
        self.view.opened = [true, taken_for] if found else []
        return self.choose(f"{method} takes {names[true]} for {names[taken_for]}, most pixels first", list(found), 0)

    def hear(self, _: Any, message: dict, buffers: Sequence) -> None:
        "A message of the page: a cell was clicked."
        if message.get("type") == "pick" and all(0 <= int(message[key]) < len(self.view.names) for key in ("true", "taken")):
            self.pick(int(message["true"]), int(message["taken"]))
