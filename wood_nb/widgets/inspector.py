"""Image, truth and the maps of any number of methods side by side: move a threshold, see the seed and its IoU move"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ..base.files import DataError
from ..base.html import Html, data_address, jpeg_bytes, tag
from ..base.pictures import FORMATS, PAGE, Picture
from ..data.splits import Split
from ..maps.methods import method_name
from ..ood.candidates import thumbnail
from ..report.page import Section, page
from ..runs.pipeline import methods_of
from ..runs.run import Run
from ..scores.context import find_contexts
from .confusions import ConfusionGrid
from .images import ImageList
from .inspecting import ORDERS, Among, Inspection, Panel, image_mean, open_inspection, panels, scope, sweep_of, swept
from .parts import button, choice, message, page_script, page_style, row, write_text
from .sheets import contact_sheet, view_picture
from .stills import Shown

try:
    import anywidget
    import ipywidgets as widgets
    import traitlets
except ImportError as error:
    raise ImportError("the inspector needs ipywidgets and anywidget: pip install 'wood_nb[lab]'") from error


_PANEL_STYLE = """
.wood-panels {display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; outline-offset: 3px;
  max-width: calc(var(--panels) * 246px - 10px); color: var(--jp-ui-font-color1, #1c1c1c);
  font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif)}
.wood-panels:focus-visible {outline: 3px solid #0072b2}
.wood-panel {margin: 0; min-width: 0} .wood-panel-title {font-weight: 600}
.wood-panel-text {font-size: 12px; color: var(--jp-ui-font-color2, #555); min-height: 34px}
.wood-panel-frame {position: relative; cursor: crosshair; line-height: 0; overflow: hidden}
.wood-panel-frame img {width: 100%; user-select: none}
.wood-panel-cross {display: none; position: absolute; pointer-events: none}
.wood-panel-cross::before, .wood-panel-cross::after {content: ""; position: absolute; background: #fff;
  outline: 1px solid #000}
.wood-panel-cross::before {left: 0; top: -700px; width: 1px; height: 1400px}
.wood-panel-cross::after {top: 0; left: -700px; height: 1px; width: 1400px}
.wood-panel-dot {display: none; position: absolute; width: 9px; height: 9px; margin: -6px; border: 2px solid #fff; border-radius: 50%;
  outline: 2px solid #000; pointer-events: none}
"""


class PanelView(anywidget.AnyWidget):
    "Pictures side by side; says where one clicked and which key was pressed."
    _esm = page_script("elements.js", "panels.js")
    _css = _PANEL_STYLE
    panels = traitlets.List().tag(sync=True)  # [title, text] each
    pictures = traitlets.List().tag(sync=True)  # JPEG bytes, in step with the panels
    point = traitlets.List().tag(sync=True)  # the pixel that was clicked, as fractions of width and height


def panel_state(found: Sequence[Panel]) -> dict[str, Any]:
    "Panels as traits."
    return {"panels": [[panel.title, panel.text] for panel in found],
            "pictures": [jpeg_bytes(Image.fromarray(panel.pixels), 90) for panel in found]}


_SCALE = ("#30123b", "#4777ef", "#1bcfd4", "#61fc6c", "#d2e935", "#fe9b2d", "#d93806", "#7a0402")  # turbo, 0 to 1


def _scale_html() -> Html:
    "The colour scale that all maps share."
    bar = tag(
        "span",
        style=f"display:inline-block;width:150px;height:11px;vertical-align:-1px;background:linear-gradient(to right,{','.join(_SCALE)})",
    )
    return Html(f"0 {bar} 1, the same for all maps; white: outline of the seed")


_NO_PIXEL = "click a pixel for every method's value there"


def _values_html(look: Inspection, x: int, y: int) -> Html:
    "Every method's value at a pixel, and what the truth says there."
    name = look.split.classes[look.class_shown] if look.class_shown is not None else "no class"
    found = [
        f"{method} {value:.3f}{' (seed)' if value > look.thresholds[method] else ''}"
        for method, value in look.values_at(x, y).items()
    ]
    truth = []
    if look.item.mask is not None:
        value = int(look.split.mask(look.index)[y, x])
        truth = [f"truth: {'ignored' if value == 255 else ('background', *look.split.classes)[value]}"]
    return tag("span", f"pixel ({x}, {y}), {name}: " + ", ".join(found + truth))


def _gain_words(look: Inspection, index: int) -> str:
    "What the second method of the pair gains in an image, in points; empty without masks."
    if look.item.mask is None or look.pair[0] == look.pair[1]:
        return ""
    baseline, method = (image_mean(look, name, index) for name in look.pair)
    return f"{100 * (method - baseline):+.1f}"


_INSPECTOR_STYLE = """<style>
.wood-inspector {gap: 6px; padding: 2px; color: var(--jp-ui-font-color1, #222)}
.wood-inspector .widget-html-content {line-height: 1.5; color: var(--jp-ui-font-color1, #222)}
.wood-inspector .jupyter-button:focus-visible {outline: 3px solid #0072b2; outline-offset: 1px}
.wood-inspector .wood-shot {flex: none; width: 108px; height: 112px; padding: 88px 0 0; line-height: 20px; font-size: 12px; margin: 2px;
  background-repeat: no-repeat; background-position: center 3px; border: 2px solid var(--jp-border-color2, #ccc); border-radius: 4px;
  color: var(--jp-ui-font-color1, #222); background-color: var(--jp-layout-color1, #fff)}
.wood-inspector .wood-shot.wood-here {border: 3px solid var(--jp-ui-font-color1, #222)}
.wood-inspector .wood-bad {color: #fff; background: #a33; padding: 0 6px}
.wood-inspector kbd {border: 1px solid var(--jp-border-color1, #999); border-radius: 3px; padding: 0 5px; font: 12px monospace;
  color: inherit; background: none; box-shadow: none}
</style>"""


INSPECTOR_KEYS = {
    "ArrowRight": ("next", "next image"),
    "ArrowLeft": ("previous", "image before"),
    "ArrowUp": ("raise_threshold", "higher thresholds"),
    "ArrowDown": ("lower_threshold", "lower thresholds"),
    "n": ("next", ""),
    "p": ("previous", ""),
    "c": ("next_class", "next class of the image"),
    "o": ("next_order", "next order"),
    "r": ("sort_again", "sort again, at the present thresholds"),
    "l": ("largest_losses", "images where the second method hurts most"),
    "a": ("all_images", "all images again"),
    "g": ("toggle_truth", "true outline"),
    "+": ("more_opaque", "stronger maps"),
    "-": ("less_opaque", "weaker maps"),
    "w": ("export_view", "write the view as a figure"),
    "s": ("export_sheet", "write a contact sheet"),
    "t": ("toggle_table", "table of all images"),
    "m": ("toggle_confusions", "what is taken for what"),
    "?": ("toggle_help", "these keys"),
}


def slider(label: str, value: float, low: float = 0.01, high: float = 0.99) -> widgets.FloatSlider:
    "A labelled slider in steps of 0.01."
    return widgets.FloatSlider(value, min=low, max=high, step=0.01, description=label, readout_format=".2f",
                               layout={"width": "330px"}, style={"description_width": "110px"})


class InspectorView(Shown):
    "All widgets of the inspector, without their behaviour."

    # -- the row of thumbnails one browses by, and what orders it --
    SHOTS = 9

    def _build_browser(self, look: Inspection) -> widgets.VBox:
        self.order_box = choice("order", ORDERS if look.scored else ORDERS[:1], "220px")
        names = [("all classes", -1)] + [(name, c) for c, name in enumerate(look.split.classes)]
        self.only_box = choice("images with", names, "240px", "only")
        before, after = button("◀", "image before (←)", self.previous, "44px"), button("▶", "next image (→)", self.next, "44px")
        self.again_button = button("Sort again", "the thresholds have moved since the images were sorted (r)", self.sort_again)
        self.losses_button = button("Largest losses", "images where the second method hurts most (l)", self.largest_losses)
        self.all_button = button("All images", "leave the images that were chosen (a)", self.all_images)
        self.losses_button.disabled = not look.scored
        self.place_text, self.shot_pictures = widgets.HTML(), widgets.HTML(layout={"display": "none"})
        self.shots = [button("", "", lambda n=n: self.click_shot(n), "108px") for n in range(self.SHOTS)]
        for n, shot in enumerate(self.shots):
            shot.add_class("wood-shot").add_class(f"shot-{n}")
        return widgets.VBox(
            [row(self.order_box, self.losses_button, self.again_button, self.only_box, self.all_button, before, after, self.place_text),
             self.shot_pictures, row(*self.shots)]
        )

    def build(self, look: Inspection) -> widgets.VBox:
        self.root = f"wood-inspector-{object.__hash__(self)}"
        style = widgets.HTML(_INSPECTOR_STYLE, layout=widgets.Layout(display="none"))
        self.view = PanelView()
        self.scale_text = widgets.HTML(_scale_html())
        self.values, self.status = widgets.HTML(_NO_PIXEL), widgets.HTML()
        self.help = widgets.HTML(_keys_html(), layout=widgets.Layout(display="none"))
        self.drawer = widgets.VBox()  # table and confusions, made when they are first asked for
        body = [style, self._build_browser(look), self._build_controls(look), self.help, self.view, row(self.scale_text),
                row(self.values, self.status, grid_gap="16px"), self.drawer]
        return widgets.VBox(body).add_class("wood-inspector").add_class(self.root)

    def _build_controls(self, look: Inspection) -> widgets.VBox:
        self.class_box = choice("class", [], "200px")
        self.sliders = {
            name: slider(name, look.thresholds[name]).add_class(f"wood-threshold-{n}") for n, name in enumerate(look.methods)
        }
        self.opacity_box = slider("opacity", look.opacity, 0.0, 1.0)
        self.baseline_box, self.method_box = choice("difference", list(look.methods), "190px"), choice(
            "from", list(look.methods), "170px"
        )
        self.truth_box = widgets.Checkbox(look.truth, description="true outline", indent=False, layout={"width": "130px"})
        self.format_box = choice("as", [kind.upper() for kind in FORMATS], "100px", "format")
        made = [
            button("Save view", "a figure of what is on the screen, for print (w)", self.export_view),
            button("Contact sheet", "a figure of the first images of this order, for print (s)", self.export_sheet),
            self.format_box,
            button("Keys", "all keys (?)", self.toggle_help),
        ]
        self.table_button = button("Table", "all images, to sort by any column (t)", self.toggle_table)
        self.confusions_button = button("Confusions", "what is taken for what, and the images of each case (m)", self.toggle_confusions)
        self.table_button.disabled = self.confusions_button.disabled = not look.scored
        made += [self.table_button, self.confusions_button]
        lines = [
            row(self.class_box, self.method_box, self.baseline_box, self.truth_box, *made),
            row(*self.sliders.values(), self.opacity_box),
        ]
        self.method_box.description, self.baseline_box.description = "difference: ", "minus"
        return widgets.VBox(lines)


_ARROWS = {"ArrowRight": "→", "ArrowLeft": "←", "ArrowUp": "↑", "ArrowDown": "↓"}


def _keys_html() -> Html:
    "All keys in a line."
    return Html(
        " &nbsp; ".join(
            tag("kbd", _ARROWS.get(key, key)) + Html(f" {escape(words)}")
            for key, (_, words) in INSPECTOR_KEYS.items()
            if words
        )
    )


def _inspection_page(look: Inspection, places: Sequence[int]) -> str:
    "A whole HTML document: a section per image, with its panels."
    kept, sections = look.index, []
    for n, look.index in enumerate(places):
        state = panel_state(panels(look))
        figures = [
            tag(
                "figure",
                tag("img", src=data_address(raw), alt=f"{title}: {text}"),
                tag("figcaption", tag("b", title), " ", text),
            )
            for (title, text), raw in zip(state["panels"], state["pictures"])
        ]
        body = tag("div", tag("div", figures), class_="row")
        sections.append(Section(f"image-{n}", f"{look.item.id} {_gain_words(look, look.index)}".strip(), body))
    look.index = kept
    best = "; ".join(f"{name} at {look.thresholds[name]:.2f}" for name in look.methods)
    lead = tag(
        "div",
        tag("h1", "Localisation maps"),
        tag(
            "p",
            f"Split {look.split.name}{f', {scope(look)}' if scope(look) else ''}, order: {look.order}. Thresholds: {best}. "
            "All maps share one colour scale; white outlines are seeds. IoU is that of the single image.",
        ),
    )
    return page("Localisation maps", lead, sections)


class LocalizationInspector(InspectorView):
    """Maps of methods side by side. `methods`: name -> folder, dict of `Maps`, or dict of any other tool's arrays (`ArrayMaps`);
`thresholds`: name -> threshold, by default each method's best on the split; `folder`: where exports go. `next()`,
`set_threshold()`, ... do what the widgets do."""

    def __init__(
        self,
        split: Split,
        methods: Mapping[str, Mapping[str, Any] | str | Path],
        thresholds: Mapping[str, float] | None = None,
        folder: str | Path = ".",
        **options: Any
    ):
        self.start(open_inspection(split, methods, thresholds, **options), Path(folder))
        self.view.on_msg(self.hear)
        watched = {
            self.order_box: "order",
            self.only_box: "only",
            self.class_box: "shown",
            self.opacity_box: "opacity",
            self.truth_box: "truth",
        }
        for box, what in watched.items():
            box.observe(lambda change, what=what: self.filling or self.set(what, change["new"]), "value")
        for name, box in self.sliders.items():
            box.observe(lambda change, name=name: self.filling or self.set_threshold(name, change["new"]), "value")
        for box in (self.baseline_box, self.method_box):
            box.observe(lambda _: self.filling or self.set("pair", (self.baseline_box.value, self.method_box.value)), "value")

    # -- an inspection on the screen --
    def start(self, look: Inspection, folder: Path) -> None:
        self.look, self.folder, self.filling, self.lock, self.drawn = look, folder, False, threading.RLock(), None
        self.table: ImageList | None = None
        self.more: dict[str, Mapping[str, float]] = {}  # further columns of the table
        self.confusions: ConfusionGrid | None = None
        self.pixel: tuple[int, int, int] | None = None  # image, x, y of the last click
        self.widget = self.build(look)
        self.order_box.value, self.only_box.value = look.order, -1 if look.only is None else look.only
        self.baseline_box.value, self.method_box.value = look.pair
        self.refresh()

    def refresh(self) -> None:
        "Bring every widget up to date."
        self.fill(self._fill_view, self._fill_values, self._fill_controls, self._fill_browser, self._fill_drawer)

    def fill(self, *parts: Callable[[], None]) -> None:
        "Write into widgets without taking that for the person's doing."
        with self.lock:
            self.filling = True
            try:
                for part in parts:
                    part()
            finally:
                self.filling = False

    def _fill_view(self) -> None:
        state = panel_state(panels(self.look))
        with self.view.hold_sync():
            self.view.panels, self.view.pictures = state["panels"], state["pictures"]

    def _fill_values(self) -> None:
        "The values of the pixel that was clicked: they follow class and thresholds, and go with the image."
        if self.pixel and self.pixel[0] == self.look.index:
            self.values.value = _values_html(self.look, *self.pixel[1:])
        else:
            self.pixel, self.view.point, self.values.value = None, [], _NO_PIXEL

    def _fill_drawer(self) -> None:
        "Table and confusions, if they are open: they follow the thresholds."
        for part in (self.table, self.confusions):
            if part is not None and part.widget in self.drawer.children:
                part.refresh()

    def _fill_controls(self) -> None:
        look = self.look
        self.class_box.options = [(look.split.classes[c], c) for c in sorted(look.item.labels)]
        self.class_box.value = look.class_shown
        for name, box in self.sliders.items():
            if abs(box.value - look.thresholds[name]) > 1e-6:  # a rounding error sent back would end the person's drag
                box.value = look.thresholds[name]
        self.opacity_box.value, self.truth_box.value, self.order_box.value = look.opacity, look.truth, look.order
        self.only_box.value = -1 if look.only is None else look.only

    # -- the row of thumbnails --
    def _fill_browser(self) -> None:
        look, places = self.look, self.look.places()
        self.again_button.disabled, self.all_button.disabled = not look.stale, look.among is None
        at = places.index(look.index) if look.index in places else 0
        first = max(0, min(at - self.SHOTS // 2, len(places) - self.SHOTS))
        self.near = places[first:first + self.SHOTS]
        if self.near != self.drawn:
            pictures = (data_address(jpeg_bytes(thumbnail(look.split[n].image, 84))) for n in self.near)
            self.shot_pictures.value, self.drawn = page_style(self.root, pictures).replace(".place-", ".shot-"), self.near
        for n, shot in enumerate(self.shots):
            shot.layout.display = None if n < len(self.near) else "none"
            if n < len(self.near):
                shot.description, shot.tooltip = (
                    _gain_words(look, self.near[n]) or look.split[self.near[n]].id,
                    look.split[self.near[n]].id,
                )
                (shot.add_class if self.near[n] == look.index else shot.remove_class)("wood-here")
        self.place_text.value = escape(
            f"{look.item.id}, {at + 1} of {len(places)}{f' ({look.among.words})' if look.among else ''}"
            + (f"; {scope(look)}" if scope(look) else "")
            + (
                f"; below each: points of mean IoU that {look.pair[1]} gains over {look.pair[0]}"
                if _gain_words(look, look.index)
                else ""
            )
        )

    # -- doing things, and saying what was refused --
    def act(self, action: Callable, *args: Any) -> bool:
        "Do something and show it; what is refused is said, and False."
        with self.lock:
            try:
                action(*args)
                self.refresh()
            except (ValueError, OSError) as error:
                self.tell(str(error), bad=True)
                self.fill(self._fill_controls)
                return False
            self.tell("")
        return True

    def tell(self, text: str, bad: bool = False) -> None:
        self.status.value = message(text, bad)

    # -- from image to image --
    def next(self) -> bool:
        return self.act(self.look.step, 1)

    def previous(self) -> bool:
        return self.act(self.look.step, -1)

    def show(self, id: str) -> bool:
        "Go to an image by its id."
        return self.act(self.look.show, id)

    def click_shot(self, n: int) -> bool:
        return n < len(self.near) and self.set("index", self.near[n])

    def set(self, what: str, value: Any) -> bool:
        "Change a field of the inspection: 'order', 'only', 'shown', 'opacity', 'truth', 'index'; go to the first image of a new order."
        return self.act(self.change, what, value)

    def change(self, what: str, value: Any) -> None:
        before = getattr(self.look, what)
        setattr(self.look, what, None if value == -1 and what == "only" else value)
        try:
            if what in ("order", "only", "among") and (places := self.look.places(again=True)):
                self.look.index = places[0]
        except ValueError:
            setattr(self.look, what, before)
            raise

    # -- some images: the worst, those of a table or of a confusion --
    def largest_losses(self) -> bool:
        "The images where the second method of the pair hurts most, the worst first."
        return self.set("order", ORDERS[2])

    def choose(self, words: str, places: Sequence[int], at: int = 0) -> bool:
        "Browse only these images (places in the split), in this order, from the one with number `at` on; `words` say which they are."
        def choose() -> None:
            if not len(places):
                raise DataError(f"no image: {words}")
            self.look.among, self.look.order, self.look.only = Among(words, tuple(places)), ORDERS[0], None
            self.look.index = places[at]
        return self.act(choose)

    def all_images(self) -> bool:
        "Browse all images again."
        return self.set("among", None)

    def toggle_table(self) -> bool:
        "Open or close the table of all images."
        if self.table is None and self.look.scored:
            self.table = ImageList(self.look, self.choose, self.more)
        return self._toggle(self.table)

    def add_column(self, name: str, values: Mapping[str, float]) -> bool:
        "A further column of the table, as image id -> number: the loss of a classifier (`image_losses`), say."
        self.more[name] = values
        return self.act(lambda: None)

    def toggle_confusions(self) -> bool:
        "Open or close the grid of what is taken for what."
        if self.confusions is None and self.look.scored:
            self.confusions = ConfusionGrid(self.look, self.choose)
        return self._toggle(self.confusions)

    def _toggle(self, part: ImageList | ConfusionGrid | None) -> bool:
        if part is None:
            return self.act(sweep_of, self.look, self.look.pair[1])  # says why there are no scores
        others = [child for child in self.drawer.children if child is not part.widget]
        is_open = len(others) < len(self.drawer.children)
        self.drawer.children = others if is_open else [*others, part.widget]
        return self.act(lambda: None)

    def replace(self, method: str, maps: Mapping[str, Any] | str | Path) -> bool:
        "Other maps for a method that is shown, as of a training that has ended meanwhile."
        return self.act(self.look.replace, method, maps)

    # -- thresholds, strength, classes --
    def set_threshold(self, method: str, value: float) -> bool:
        "Move the threshold of one method."
        self.look.thresholds[method] = swept(value)
        return self.act(lambda: None)

    def move_thresholds(self, by: float) -> bool:
        self.look.thresholds = {name: swept(t + by) for name, t in self.look.thresholds.items()}
        return self.act(lambda: None)

    def raise_threshold(self) -> bool:
        return self.move_thresholds(0.01)

    def lower_threshold(self) -> bool:
        return self.move_thresholds(-0.01)

    def more_opaque(self) -> bool:
        return self.set("opacity", min(1.0, round(self.look.opacity + 0.1, 2)))

    def less_opaque(self) -> bool:
        return self.set("opacity", max(0.0, round(self.look.opacity - 0.1, 2)))

    def next_class(self) -> bool:
        return self.act(self.look.turn_class)

    def next_order(self) -> bool:
        names = [name for name in ORDERS if self.look.scored or name == ORDERS[0]]
        return self.set("order", names[(names.index(self.look.order) + 1) % len(names)])

    def sort_again(self) -> bool:
        "Sort by the scores at the present thresholds, and go to the first image."
        return self.set("order", self.look.order)

    def toggle_truth(self) -> bool:
        return self.set("truth", not self.look.truth)

    def toggle_help(self) -> None:
        self.help.layout.display = "none" if self.help.layout.display is None else None

    # -- pictures and pages of what is on the screen --
    def to_figure(self) -> Picture:
        "The view as a picture."
        return view_picture(self.look)

    def sheet(self, rows: int = 8) -> Picture:
        "A contact sheet of the first images in the present order."
        return contact_sheet(self.look, self.look.places()[:rows])

    def save(self, path: str | Path, rows: int | None = None, width: float = PAGE) -> Path:
        """Write a figure for print, exactly `width` cm wide, as its name ends (.pdf, .svg, .png): the view, or with `rows` a contact
        sheet of the first images in the present order. Returns the path."""
        look = self.look
        return (view_picture(look, width) if rows is None else contact_sheet(look, look.places()[:rows], width)).save(path)

    def _export(self, path: Path, rows: int | None = None) -> bool:
        return self.act(self.save, path, rows) and (self.tell(f"written: {path.name}") or True)

    def export_view(self, path: str | Path | None = None) -> bool:
        "Write the view as a figure; into the inspector's folder, in the format chosen there, unless a path is given."
        return self._export(Path(path or self.folder / f"{self.look.item.id.replace('/', '_')}.{self.format_box.value.lower()}"))

    def export_sheet(self, path: str | Path | None = None, rows: int = 8) -> bool:
        "Write a contact sheet of the first images in the present order, like a view."
        name = f"contact-{self.look.order.replace(' ', '-')}.{self.format_box.value.lower()}"
        return self._export(Path(path or self.folder / name), rows)

    def to_html(self, path: str | Path | None = None, rows: int = 12) -> str:
        "A page of its own with the first images in the present order; written to `path` if given."
        return write_text(_inspection_page(self.look, self.look.places()[:rows]), path)

    # -- what the panels say --
    def hear(self, _: Any, message: dict, buffers: Sequence) -> None:
        "A message of the panels: a key, or a click on a pixel."
        if message.get("type") == "key" and message["key"] in INSPECTOR_KEYS:
            getattr(self, INSPECTOR_KEYS[message["key"]][0])()
        elif message.get("type") == "click":
            self.point_at(float(message["x"]), float(message["y"]))

    def point_at(self, x: float, y: float) -> None:
        "Show every method's value at a point, given as fractions of width and height."
        width, height = self.look.split.image(self.look.index).size
        column, line = (min(max(0, int(v * n)), n - 1) for v, n in ((x, width), (y, height)))
        self.view.point, self.pixel = [x, y], (self.look.index, column, line)
        self._fill_values()

    def close(self) -> None:
        "Take it off the page, with table and confusions."
        for part in (self.table, self.confusions):
            if part is not None:
                part.close()
        super().close()


def _map_folders(run: Run, split: str, methods: Sequence[str]) -> dict[str, Path]:
    "Where the maps of some methods of a run lie."
    drawn = {folder.parent.name: folder for folder in sorted((run.path / "maps").glob(f"*/{split}"))}
    if unknown := [method for method in methods if method not in drawn]:
        raise DataError(f"{run.path}: no maps of '{unknown[0]}' on {split}; there are those of {', '.join(drawn) or 'no method'}")
    return {method: drawn[method] for method in methods}


def _thresholds_of(run: Run, split: str) -> dict[str, float]:
    "The thresholds in metrics.json, by method: of the seeds, or else of the masks without CRF (perhaps of `val[:100]` only)."
    rows = run.results() if (run.path / "metrics.json").is_file() else []
    plain = [row for row in rows if row["split"].partition("[")[0] == split and not row.get("crf") and row.get("threshold")]
    return {row["method"]: row["threshold"] for row in sorted(plain, key=lambda row: row["stage"] == "seed")}


def inspect_run(run: Run, split: str | None = None, methods: Sequence[str] | None = None, **options: Any) -> LocalizationInspector:
    """The inspector of a run on its last split, unless another is named. `methods`: any that have maps in the run, such as
    `wood+advcam`; by default those which the run has trained. Thresholds as in metrics.json, names as in the tables."""
    name = split or run.config.splits[-1]
    folders = _map_folders(run, name, list(methods_of(run.config)) if methods is None else methods)
    thresholds = {method_name(method): t for method, t in _thresholds_of(run, name).items() if method in folders}
    named = {method_name(method): folder for method, folder in folders.items()}
    known = {"folder": run.path, "contexts": find_contexts(run.split(name), run.config.contexts)}
    return LocalizationInspector(run.split(name), named, thresholds, **{**known, **options})
