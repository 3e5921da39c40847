"""Maps of fixed images over the steps of a training: move the slider, watch the boat appear"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.files import DataError
from ..base.html import plain
from ..base.pictures import Picture, broken, close_rows, fill
from ..data.images import share_on
from ..data.splits import Split
from ..maps.cam import overlay
from ..maps.methods import CLASSIFIER
from ..runs.film import Film
from ..runs.run import Run
from .inspecting import Panel, enlarged
from .inspector import PanelView, panel_state
from .parts import row
from .stills import Shown
from .sheets import SCREEN

try:
    import ipywidgets as widgets
except ImportError as error:
    raise ImportError("the view of a training's maps needs ipywidgets: pip install 'wood_nb[lab]'") from error


@dataclass
class FilmLook:
    "What is on the screen: the film, and which of its steps (`place` in `film.steps`; by default the last)."
    film: Film
    place: int = -1
    opacity: float = 0.6
    size: int = 240  # pixels of the long side of a picture, at least

    def __post_init__(self) -> None:
        self.place %= len(self.film.steps)

    @property
    def step(self) -> int:
        return self.film.steps[self.place]

    def go(self, step: int) -> None:
        "To the last step with maps that is not after this one; the first if there is none."
        self.place = max(0, int(np.searchsorted(self.film.steps, step, "right")) - 1)

    def turn(self, by: int) -> None:
        "Some places on, or back; not beyond the ends."
        self.place = min(max(0, self.place + by), len(self.film.steps) - 1)

    def panel(self, index: int, step: int) -> Panel:
        "The map of an image's first class after some steps, with the share of its weight on the object where that is known."
        split = self.film.split
        item, image = split[index], split.image(index)
        if not item.labels:
            return Panel(item.id, "no class", np.asarray(image))
        key = min(item.labels)
        heat, scale = self.film.heat(step, index, key), max(1, round(self.size / max(image.size)))
        share = share_on(heat, split.mask(index), key + 1) if item.mask is not None else None
        words = split.classes[key] + (f", {100 * share:.0f} % on it" if share is not None else "")
        return Panel(item.id, words, enlarged(overlay(image, heat, self.opacity), scale))

    def panels(self) -> list[Panel]:
        "All images after the present step."
        return [self.panel(index, self.step) for index in range(len(self.film.split))]


def film_picture(look: FilmLook, columns: int = 6, width: float = SCREEN) -> Picture:
    "A row per image, a column per step (at most `columns`, evenly apart), `width` cm wide."
    steps, left = look.film.some(columns), 0.8
    rows = [[look.panel(index, step) for step in steps] for index in range(len(look.film.split))]
    figure, axes = close_rows([found[0].bare.shape[:2] for found in rows], len(steps), width, left)
    for line, found in zip(axes, rows):
        for axis, panel in zip(line, found):
            fill(axis, panel.bare)
        words = plain(broken(f"{found[0].title} {found[-1].text.partition(',')[0]}", (width - left) / len(steps), 7))
        line[0].annotate(words, (0, 0.5), (-3, 0), "axes fraction", "offset points", rotation=90, ha="right", va="center", fontsize=7)
    for axis, step in zip(axes[0], steps):
        axis.set_title(f"after {step:,} steps" if step else "at the start", fontsize=8, pad=3)
    return figure


class FilmView(Shown):
    """Maps of a few images with a slider over the steps of a training. `source`: a `Film`, a run (with `stage`, as 'wood'), or the folder
    of a training (with its `split`). `go(step)` and `turn(by)` do what slider and arrow keys do."""

    def __init__(self, source: Film | Run | str | Path, stage: str = CLASSIFIER, split: Split | None = None, **options: Any):
        self.look = FilmLook(_opened(source, stage, split), **options)
        self.view, self.words = PanelView(), widgets.HTML()
        last = len(self.look.film.steps) - 1
        self.slider = widgets.IntSlider(self.look.place, 0, last, readout=False, description="step", layout={"width": "420px"})
        self.player = widgets.Play(value=self.look.place, min=0, max=last, interval=400, layout={"width": "130px"})
        widgets.link((self.player, "value"), (self.slider, "value"))
        self.slider.observe(lambda change: self._show(change["new"]), "value")
        self.view.on_msg(self.hear)
        self.widget = widgets.VBox([row(self.slider, self.player, self.words), self.view])
        self.widget.add_class("wood-inspector").add_class("wood-film")
        self.refresh()

    def refresh(self) -> None:
        "Draw the maps after the present step."
        state = panel_state(self.look.panels())
        with self.view.hold_sync():
            self.view.panels, self.view.pictures = state["panels"], state["pictures"]
        self.words.value = f"after {self.look.step:,} of {self.look.film.steps[-1]:,} steps"

    def _show(self, place: int) -> None:
        if place != self.look.place:
            self.look.place = place
            self.refresh()

    def go(self, step: int) -> None:
        "To the maps of a step, or of the last one before it."
        self.look.go(step)
        self._follow()

    def turn(self, by: int = 1) -> None:
        "To the next step that has maps, or back."
        self.look.turn(by)
        self._follow()

    def _follow(self) -> None:
        self.slider.value = self.look.place
        self.refresh()

    def hear(self, _: Any, message: dict, buffers: Sequence) -> None:
        "A key of the page: left and right."
        if message.get("type") == "key" and message["key"] in ("ArrowLeft", "ArrowRight"):
            self.turn(1 if message["key"] == "ArrowRight" else -1)

    def to_figure(self, columns: int = 6, width: float = SCREEN) -> Picture:
        "Images by steps as a picture; its `save('film.pdf')` writes it."
        return film_picture(self.look, columns, width)


def _opened(source: Film | Run | str | Path, stage: str, split: Split | None) -> Film:
    "The film that is meant."
    if isinstance(source, Film):
        return source
    if isinstance(source, Run):
        return Film(source.path / stage, split or source.split(source.config.splits[-1]))
    if split is None:
        raise DataError(f"{source}: name the split whose images are in it, too")
    return Film(source, split)
