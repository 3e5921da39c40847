"""A grid of thumbnails on top of the manifest: click to drop, keep the rest, undo, and the seconds are counted"""

from __future__ import annotations

import base64
import getpass
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from ..base.files import DataError
from ..base.html import data_address, jpeg_bytes
from ..base.pictures import Picture
from ..data.splits import Split
from ..ood.candidates import COLOURS, DECISIONS, SIGNS, Candidate, draw_candidates, is_person, pool_root, thumbnail
from ..ood.manifest import Manifest
from .parts import Closable, message, save_decisions, write_bytes

try:
    import ipywidgets as widgets
except ImportError as error:
    raise ImportError("the pruning grid needs ipywidgets: pip install 'wood_nb[lab]'") from error


PREDICTED, NOTHING = "as predicted", "no class (of no use)"  # what a dropped picture contains


@dataclass
class Session:
    "A sitting: one person, one class, one page, with undo, redo and a report. Plain Python: no display, no file."
    manifest: Manifest
    by: str
    name: str  # the class whose candidates are shown
    per_page: int = 24
    page: int = 0
    flagged: bool = False  # whether duplicates and leaks are shown; they need no decision
    brush: str = "drop"  # or "keep"
    contains: str = PREDICTED  # or a class, or NOTHING
    cap: float = 60.0  # seconds; who takes longer went for coffee
    clock: Callable[[], float] = time.monotonic
    remembered: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self):
        self.since = self.clock()

    @property
    def ids(self) -> list[str]:
        "All candidates of the class, highest p first."
        return self.manifest.ranked(self.name, self.flagged)

    @property
    def on_page(self) -> list[str]:
        return self.ids[self.page * self.per_page:][:self.per_page]

    def turn(self, pages: int) -> int:
        "Forward, or back if negative, never beyond the ends; returns the number of pages."
        count = max(1, -(-len(self.ids) // self.per_page))
        self.page = min(max(0, self.page + pages), count - 1)
        return count

    def show(self, name: str) -> None:
        "Go to the first page of class `name`."
        self.manifest.ranked(name)  # refuses an unknown class
        self.name, self.page = name, 0

    # -- what a click does to the manifest --
    def spent(self) -> float:
        "Seconds since the last decision, at most `cap`; the clock starts again."
        before, self.since = self.since, self.clock()
        return round(min(max(0.0, self.since - before), self.cap), 3)

    def dropped_for(self, id: str) -> list[str]:
        "The classes that `id` is said to contain when it is dropped now."
        if self.contains == NOTHING:
            return []
        if self.contains != PREDICTED:
            return [self.contains]
        return self.remembered.get(id) or [self.manifest.images[id].predicted]

    def decide(self, ids: Sequence[str], decision: str, contains: Sequence[str] = ()) -> None:
        if not self.by.strip() or not is_person(self.by.strip()):
            raise DataError("write your name into the field 'by' first; auto: and file: are for rules")
        self.manifest.decide(ids, decision, contains, by=self.by.strip(), seconds=self.spent())

    def click(self, id: str) -> None:
        "Apply the brush to a picture; what has its decision already becomes undecided."
        candidate = self.manifest.images.get(id)
        if candidate is not None and candidate.decision == self.brush:
            if candidate.contains:
                self.remembered[id] = list(candidate.contains)
            self.decide([id], "undecided")
        else:
            self.decide([id], self.brush, self.dropped_for(id) if self.brush == "drop" and candidate else ())

    def keep_rest(self) -> None:
        "Keep what is still undecided on this page."
        if rest := [id for id in self.on_page if self.manifest.images[id].decision == "undecided"]:
            self.decide(rest, "keep")

    def step(self, action: Callable[[], dict | None]) -> bool:
        "Undo or redo, and go to the page where it happened; False if there was nothing to do."
        entry = action()
        if entry is None:
            return False
        self.since = self.clock()
        changed = [change[0] for change in entry["changes"] if change[0] in self.manifest.images]
        if changed and not set(changed) & set(self.on_page):
            self.go_to(changed[0])
        return True

    def go_to(self, id: str) -> None:
        "Turn to the page that shows `id`."
        candidate = self.manifest.images[id]
        self.name, self.flagged = candidate.predicted, self.flagged or candidate.flagged
        self.page = self.ids.index(id) // self.per_page

    def progress(self) -> tuple[int, int]:
        "(decided, all) in this class."
        return self.manifest.progress(self.ids)

    def report(self) -> str:
        "Progress of the class and of all, and the median seconds of a decision."
        (done, n), (all_done, all_n) = self.progress(), self.manifest.progress()
        cost = self.manifest.seconds_summary().get("all")
        text = f"{done:,} of {n:,} {self.name} decided, {all_done:,} of {all_n:,} in all"
        return text + (f", {cost['median']:.1f} s a decision" if cost else "")

    def undo(self) -> bool:
        return self.step(self.manifest.undo)

    def redo(self) -> bool:
        return self.step(self.manifest.redo)


def jpeg_address(path: Path, side: int = 96) -> str:
    "A thumbnail of at most `side` pixels as a `data:` address."
    return data_address(jpeg_bytes(thumbnail(path, side)))


def page_style(root: str, addresses: Sequence[str]) -> str:
    "CSS that gives place 0, 1, ... of grid `root` its picture."
    rules = (f'.{root} .place-{n} {{background-image: url("{address}")}}' for n, address in enumerate(addresses))
    return f"<style>{''.join(rules)}</style>"


GRID_STYLE = """<style>
.wood-prune .wood-thumb {background-repeat: no-repeat; background-position: center 3px;
  width: 112px; height: 128px; padding: 100px 0 0 0; line-height: 20px; border: 4px solid; margin: 3px;
  font-size: 12px; border-radius: 4px; background-size: auto; flex: none;
  color: var(--jp-ui-font-color1, #222); background-color: var(--jp-layout-color1, #fff)}
.wood-prune .wood-thumb:focus-visible {outline: 3px solid var(--jp-ui-font-color1, #222); outline-offset: 1px}
""" + "".join(f".wood-prune .wood-thumb.wood-{d} {{border-color: {COLOURS[d]}}}\n" for d in DECISIONS) + """
.wood-prune .wood-thumb.wood-drop {background-color: color-mix(in srgb, #d55e00 25%, var(--jp-layout-color1, #fff))}
.wood-prune .wood-thumb.wood-keep {background-color: color-mix(in srgb, #0072b2 25%, var(--jp-layout-color1, #fff))}
.wood-prune .wood-bad {color: #fff; background: #a33; padding: 0 6px}
.wood-prune .widget-html-content {line-height: 1.5}
</style>"""


def button(text: str, hint: str, action: Callable[[], Any], width: str = "auto") -> widgets.Button:
    "A button that calls `action`."
    made = widgets.Button(description=text, tooltip=hint, layout=widgets.Layout(width=width))
    made.on_click(lambda _: action())
    return made


def draw_thumb(thumb: widgets.Button, candidate: Candidate) -> None:
    "Caption, hint and frame of one picture."
    marks = "!" * bool(candidate.leak_of) + "=" * bool(candidate.duplicate_of) + SIGNS[candidate.decision]
    thumb.description = f"{marks} {candidate.predicted} {candidate.p:.2f}"
    contains = f", contains {', '.join(candidate.contains)}" if candidate.contains else ""
    thumb.tooltip = f"{candidate.file}: {candidate.decision}{contains}"
    for decision in DECISIONS:
        (thumb.add_class if decision == candidate.decision else thumb.remove_class)(f"wood-{decision}")


def user_name() -> str:
    "The name of who is logged in, or nothing where that name says nothing."
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return ""
    return "" if name in ("root", "jovyan", "user") else name


def _twin(shown: Any) -> dict[str, str]:
    "The static picture of something with a `to_figure`; a line of text if drawing fails, as that must not hide the widget."
    try:
        kind, content, _ = shown.to_figure().compact()
        return {kind: base64.b64encode(content).decode()}
    except Exception as error:  # whatever matplotlib may raise
        return {"text/plain": f"{type(shown).__name__} (no picture: {error})"}


def with_twin(shown: Any) -> dict[str, str]:
    "What a notebook shows of something with a `widget` and a `to_figure`: the widget, or the picture where there are none."
    bundle = shown.widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle  # anywidget adds metadata
    return {**(data or {}), "text/plain": type(shown).__name__, **_twin(shown)}


class PruneGrid(Closable):
    """Prune a manifest by hand. `manifest`: a `Manifest` or its file; `by`: your name; `path`: where to save, by
default its file. `click(id)`, `keep_rest()`, `undo()`, ... do what the buttons do; `to_figure()` is the page as a picture."""

    ACTIONS = [("Back", "the page before", "back"), ("Next", "the page after", "forward"),
               ("Keep the rest", "keep what is undecided on this page", "keep_rest"),
               ("Undo", "take the last step back", "undo"), ("Redo", "do it again", "redo"),
               ("Save", "write the manifest now", "save")]

    def __init__(self, manifest: Manifest | str | Path, pool: Split, by: str | None = None,
                 path: str | Path | None = None, name: str | None = None, per_page: int = 24, side: int = 96,
                 **options: Any):
        manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest, pool)
        name = name or max(manifest.classes, key=lambda c: len(manifest.ranked(c)))
        session = Session(manifest, user_name() if by is None else by, name, per_page, **options)
        self.path, self.saved, self.root_folder = Path(path) if path else manifest.path, True, pool_root(pool)
        self.start(session, self.root_folder, side)
        said = "every decision is saved at once" if self.path else "no file: nothing is saved; give the grid a path"
        self.tell(said, bad=not self.path)

    def build(self, classes: Sequence[str], places: int, by: str) -> widgets.VBox:
        self.root = f"wood-prune-{object.__hash__(self)}"
        self.class_box = widgets.Dropdown(options=[(c, c) for c in classes], description="class")
        self.by_box = widgets.Text(value=by, description="by", placeholder="your name", layout={"width": "220px"})
        self.brush_box = widgets.ToggleButtons(options=["drop", "keep"], description="a click means", tooltips=[
            "the picture contains a class", "the picture is good out-of-distribution material"],
            style={"button_width": "60px", "description_width": "initial"})
        self.contains_box = widgets.Dropdown(options=[PREDICTED, *classes, NOTHING], description="it contains")
        self.flagged_box = widgets.Checkbox(description="show duplicates and leaks", indent=False)
        self.page_text, self.counts, self.status = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.bar = widgets.IntProgress(min=0, layout=widgets.Layout(width="160px"))
        self.pictures = widgets.HTML(layout=widgets.Layout(display="none"))
        self.thumbs = [button("", "", lambda n=n: self.click_place(n), "112px") for n in range(places)]
        for n, thumb in enumerate(self.thumbs):
            thumb.add_class("wood-thumb").add_class(f"place-{n}")
        self.buttons = {text: button(text, hint, getattr(self, method)) for text, hint, method in self.ACTIONS}
        rows = [[self.class_box, self.by_box, self.flagged_box], [self.brush_box, self.contains_box],
                [*self.buttons.values(), self.page_text], [self.bar, self.counts, self.status]]
        flow = widgets.Layout(flex_flow="row wrap", align_items="center")
        body = widgets.Box(self.thumbs, layout=flow)
        style = widgets.HTML(GRID_STYLE, layout=widgets.Layout(display="none"))
        box = widgets.VBox([style, self.pictures, *(widgets.Box(row, layout=flow) for row in rows), body])
        return box.add_class("wood-prune").add_class(self.root)

    # -- a session on the screen --
    def start(self, session: Session, root: Path, side: int) -> None:
        "Build the widgets for `session`; thumbnails are made when a page first shows them, and kept."
        self.session, self.manifest = session, session.manifest
        self.drawn: list[str] | None = None
        self.address = lru_cache(4096)(lambda file: jpeg_address(root / file, side))
        self.widget = self.build(session.manifest.classes, session.per_page, session.by)
        self.refresh()
        for box, name in ((self.class_box, "name"), (self.by_box, "by"), (self.brush_box, "brush"),
                          (self.contains_box, "contains"), (self.flagged_box, "flagged")):
            box.observe(lambda change, name=name: self.set(name, change["new"]), "value")

    def set(self, what: str, value: Any) -> None:
        "Change the class shown ('name'), or 'by', 'brush', 'contains', 'flagged' or 'page' of the session."
        if what == "name" and value != self.session.name:
            self.session.show(value)
        setattr(self.session, what, value)
        self.session.turn(0)
        self.refresh()

    def refresh(self) -> None:
        "Bring every widget up to date."
        session, ids = self.session, self.session.on_page
        if ids != self.drawn:
            addresses = [self.address(self.manifest.images[id].file) for id in ids]
            self.pictures.value, self.drawn = page_style(self.root, addresses), ids
        for n, thumb in enumerate(self.thumbs):
            thumb.layout.display = None if n < len(ids) else "none"
            if n < len(ids):
                draw_thumb(thumb, self.manifest.images[ids[n]])
        self.class_box.value, self.flagged_box.value = session.name, session.flagged
        self.page_text.value = f"page {session.page + 1} of {session.turn(0)}"
        done, n = session.progress()
        self.bar.max, self.bar.value, self.counts.value = max(1, n), done, escape(session.report())

    # -- what the buttons do; all of it can be called from Python --
    def act(self, action: Callable, *args: Any) -> bool:
        "Do something to the manifest, save it, show it; what is refused is said, and False."
        try:
            changed = action(*args) is not False
        except DataError as error:
            changed = False
            self.tell(str(error), bad=True)
        saved = changed and self.save()
        self.refresh()
        return saved

    def click(self, id: str) -> bool:
        "Apply the brush to a picture."
        return self.act(self.session.click, id)

    def click_place(self, n: int) -> bool:
        "Apply the brush to the picture at place `n` of the page."
        return n < len(self.session.on_page) and self.click(self.session.on_page[n])

    def keep_rest(self) -> bool:
        return self.act(self.session.keep_rest)

    def undo(self) -> bool:
        return self.act(self.session.undo)

    def redo(self) -> bool:
        return self.act(self.session.redo)

    def back(self) -> None:
        self.set("page", self.session.page - 1)

    def forward(self) -> None:
        self.set("page", self.session.page + 1)

    def tell(self, text: str, bad: bool = False) -> None:
        self.status.value = message(text, bad)

    def save(self, path: str | Path | None = None) -> bool:
        "Write the manifest (to `path`, from now on); if that fails, say why and go on."
        return save_decisions(self, path)

    def to_figure(self, columns: int = 6) -> Picture:
        "The page as a picture, for paper and for notebooks without a kernel."
        return draw_candidates(self.manifest, self.root_folder, self.session.on_page, columns)

    def to_png(self, path: str | Path | None = None, dpi: int = 110) -> bytes:
        "The page as PNG; written to `path` if given."
        return write_bytes(self.to_figure().png(dpi), path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        "The widget, and its picture for front ends without widgets."
        return with_twin(self)
