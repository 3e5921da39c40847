"""What the explorer looks like: the map, cards, thumbnails, boxes and buttons, the keys; what they do is in explorer_state"""

import io
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..base.html import Html, data_address, jpeg_bytes, tag
from ..data.splits import Split
from ..ood.candidates import COLOURS, DECISIONS, SIGNS, Cluster, thumbnail
from ..ood.clusters import mosaic, square
from .exploring import COLOURINGS, INSIDE, ORDERS, Exploration, cluster_counts, colouring_of, colours_of_clusters, described
from .parts import Closable, choice, page_script, row
from .prune import GRID_STYLE, NOTHING, PREDICTED, button

try:
    import anywidget
    import ipywidgets as widgets
    import traitlets
except ImportError as error:
    raise ImportError("the explorer needs ipywidgets and anywidget: pip install 'wood_nb[lab]'") from error


class Thumbnails:
    "Thumbnails of candidates (below a folder) and of in-distribution pictures, made when asked for."

    def __init__(self, root: Path, inside: Split | None = None, side: int = 112):
        self.root, self.inside = root, {} if inside is None else {item.id: item.image for item in inside.items}
        self.of = lru_cache(6000)(lambda path: jpeg_bytes(thumbnail(path, side)))

    def candidate(self, file: str) -> bytes:
        return self.of(self.root / file)

    def known(self, id: str) -> bytes | None:
        "Of an in-distribution picture, if its file is known."
        return self.of(self.inside[id]) if id in self.inside else None

    def strip(self, paths: Sequence[str], columns: int, side: int = 56) -> bytes:
        "Some candidates as squares in rows."
        squares = [square(Image.open(io.BytesIO(self.candidate(path))), side) for path in paths]
        return jpeg_bytes(Image.fromarray(mosaic(squares, columns)))


MAP_STYLE = """
.wood-map {--ink: var(--jp-ui-font-color1, #1c1c1c); --ground: var(--jp-layout-color0, #fff);
  color: var(--ink); background: var(--ground); font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif)}
.wood-map-frame {position: relative; height: 460px; border: 1px solid var(--jp-border-color1, #bbb); border-radius: 6px;
  overflow: hidden}
.wood-map canvas {position: absolute; inset: 0; width: 100%; height: 100%}
.wood-map-pointer {cursor: crosshair; touch-action: none}
.wood-map-pointer:focus-visible {outline: 3px solid #0072b2; outline-offset: -3px}
.wood-map-tip {position: absolute; display: none; gap: 8px; pointer-events: none; z-index: 3; padding: 6px; max-width: 330px;
  background: var(--jp-layout-color1, #fff); color: var(--ink); border: 1px solid var(--jp-border-color0, #777);
  border-radius: 6px; box-shadow: 0 2px 8px #0004; overflow-wrap: anywhere}
.wood-map-tip img {width: 112px; height: 112px; object-fit: contain}
.wood-map-tip strong {display: block}
.wood-map-legend {display: flex; flex-wrap: wrap; gap: 2px 4px; margin-top: 4px; max-height: 76px; overflow-y: auto}
.wood-map-key {font: inherit; font-size: 12px; color: var(--ink); background: none; border: 1px solid transparent;
  border-radius: 4px; padding: 0 5px; cursor: pointer}
.wood-map-key:hover, .wood-map-key:focus-visible {border-color: var(--ink); outline: none}
.wood-map-mark {font-weight: 700}
"""


class PictureMap(anywidget.AnyWidget):
    "Points in the unit square with thumbnails on hover; says what is lassoed, clicked and typed."
    _esm = page_script("cells.js", "map.js")
    _css = MAP_STYLE
    xy = traitlets.Bytes().tag(sync=True)  # float32 [n, 2]
    kind = traitlets.Bytes().tag(sync=True)  # uint8 [n]: candidate, in-distribution, prototype
    colour = traitlets.Bytes().tag(sync=True)  # uint16 [n]: line of the legend
    flags = traitlets.Bytes().tag(sync=True)  # uint8 [n]: 1 selected, 2 filtered out
    legend = traitlets.List().tag(sync=True)  # label, colour, shape
    names = traitlets.List().tag(sync=True)  # of the prototypes, which come last
    label = traitlets.Unicode("map of pictures").tag(sync=True)


def _map_flags(look: Exploration) -> np.ndarray:
    "Per point 1 if selected, plus 2 if the filter hides it, uint8 `[n]`."
    flags = np.zeros(len(look.land.kind), np.uint8)
    flags[[look.land.row[id] for id in look.selection]] = 1
    if look.words.strip():
        passing = set(look.passing())
        flags[:len(look.ids)] |= np.array([0 if id in passing else 2 for id in look.ids], np.uint8)
        flags[(look.land.kind == INSIDE)] |= 2
    return flags


def map_state(look: Exploration, method: str = "pca") -> dict[str, Any]:
    "All traits of a map."
    colouring, land = colouring_of(look), look.land
    label = (
        f"Map of {len(look.ids)} candidates and {land.others} in-distribution pictures. Arrows go from point to point, "
        "Enter selects, plus and minus zoom, question mark shows all keys"
    )
    return dict(
        xy=land.layout(method).astype("<f4").tobytes(),
        kind=land.kind.tobytes(),
        colour=colouring.index.astype("<u2").tobytes(),
        flags=_map_flags(look).tobytes(),
        legend=colouring.legend,
        names=[land.classes[c] for c in land.starred],
        label=label,
    )


def _decision_bar(counts: dict[str, int], total: int) -> Html:
    "Shares of keep, drop and undecided as one bar, with the numbers beside it."
    parts = [tag("span", style=f"flex:{counts.get(d, 0)};background:{COLOURS[d]}") for d in DECISIONS]
    words = ", ".join(f"{SIGNS[d]} {counts.get(d, 0)} {d}" for d in DECISIONS if counts.get(d))
    return Html(tag("div", parts, class_="wood-bar", role="img", aria_label=words) + tag("div", f"{words} (of {total})"))


def card_html(look: Exploration, cluster: Cluster, strip: bytes) -> Html:
    "The facts about one cluster."
    card = described(look, cluster).card
    seen = ", ".join(f"{name} {n}" for name, n in card.taken_for[:4])
    near = ", ".join(f"{name} {far:.1f}" for name, far in card.nearest[:4]) or "no prototypes"
    facts = {"Pictures": f"{card.size}", "Taken for": f"{seen}; mean p {card.p:.2f} for {card.top_class}",
             "Near to": near, "Spread": f"{card.spread:.1f} mean distance to the centre"}
    rows = [Html(tag("dt", name) + tag("dd", text)) for name, text in facts.items()]
    picture = tag("img", src=data_address(strip), alt=f"typical pictures of {card.name}", class_="wood-strip")
    return Html(picture + tag("dl", rows) + _decision_bar(cluster_counts(look, cluster), len(cluster.members)))


def card_words(look: Exploration, cluster: Cluster) -> str:
    "Three short lines for the small card of a cluster."
    card, counts = described(look, cluster).card, cluster_counts(look, cluster)
    marks = "  ".join(f"{SIGNS[d]} {counts[d]}" for d in DECISIONS if counts[d])
    return f"{card.name}\n{card.size} pictures, {card.top_class} {card.p:.2f}\n{marks}"


def card_colours(root: str, look: Exploration, clusters: Sequence[Cluster]) -> str:
    "CSS that gives card 0, 1, ... the colour that its cluster has on the map."
    colours = colours_of_clusters(look.manifest)
    rules = (f".{root} .wood-card.card-{n} {{border-left: 7px solid {colours[c.id]}}}" for n, c in enumerate(clusters))
    return f"<style>{''.join(rules)}</style>"


STYLE = GRID_STYLE.replace("wood-prune", "wood-explorer") + """<style>
.wood-explorer {gap: 6px; padding: 2px; color: var(--jp-ui-font-color1, #222)}
.wood-explorer .widget-html-content {line-height: 1.45; color: var(--jp-ui-font-color1, #222)}
.wood-explorer .jupyter-button:focus-visible, .wood-explorer input:focus-visible, .wood-explorer select:focus-visible
  {outline: 3px solid #0072b2; outline-offset: 1px}
.wood-explorer .wood-thumb, .wood-explorer .wood-card {flex: none}
.wood-explorer .wood-thumb {width: 124px; height: 146px; padding-top: 118px; background-position: center 2px}
.wood-explorer .wood-thumb.wood-marked {outline: 4px solid var(--jp-ui-font-color1, #222); outline-offset: -1px}
.wood-explorer .wood-side dl {display: grid; grid-template-columns: auto 1fr; gap: 1px 10px; margin: 6px 0}
.wood-explorer .wood-side dt {font-weight: 400; white-space: nowrap; color: var(--jp-ui-font-color2, #555)}
.wood-explorer .wood-side dd {margin: 0}
.wood-explorer .wood-strip {max-width: 100%; border-radius: 4px; display: block}
.wood-explorer .wood-bar {display: flex; height: 9px; border-radius: 4px; overflow: hidden; margin: 6px 0 2px}
.wood-explorer .wood-card {background-repeat: no-repeat; background-position: center 4px; width: 186px; height: 122px;
  padding: 62px 6px 4px; line-height: 17px; font-size: 12px; white-space: pre; text-align: left; margin: 3px; overflow: hidden;
  border: 2px solid var(--jp-border-color2, #ccc); border-radius: 5px; text-overflow: ellipsis;
  color: var(--jp-ui-font-color1, #222); background-color: var(--jp-layout-color1, #fff)}
.wood-explorer .wood-card.wood-focus {border-color: var(--jp-ui-font-color1, #222); border-width: 3px}
.wood-explorer .wood-keep-button {background: #0072b2; color: #fff} .wood-explorer .wood-drop-button {background: #b34a00; color: #fff}
.wood-explorer kbd {border: 1px solid var(--jp-border-color1, #999); border-radius: 3px; padding: 0 5px; font: 12px monospace;
  color: inherit; background: none; box-shadow: none}
.wood-explorer .wood-help div {columns: 3 230px}
</style>"""


KEYS = {  # key -> (method of the explorer, what it does)
    "k": ("keep", "keep what is marked; else the thumbnail reached by arrows; else the selection"),
    "d": ("drop", "drop it, as containing the class chosen"),
    "u": ("undecide", "make it undecided again"),
    "K": ("keep_cluster", "keep the whole cluster"),
    "D": ("drop_cluster", "drop the whole cluster"),
    "U": ("undecide_cluster", "make the whole cluster undecided"),
    "]": ("next_cluster", "next cluster"),
    "[": ("previous_cluster", "cluster before"),
    ".": ("forward", "next page"),
    ",": ("back", "page before"),
    "a": ("select_all", "select all that the filter shows"),
    "Escape": ("clear", "select nothing"),
    "m": ("merge", "merge the cluster chosen into this one"),
    "x": ("split", "split the cluster"),
    "z": ("undo", "undo"),
    "y": ("redo", "redo"),
    "s": ("next_order", "next order"),
    "l": ("like", "sort by likeness to the thumbnail with the focus"),
    "v": ("next_colour", "next colouring"),
    "w": ("save", "save now"),
    "?": ("toggle_help", "these lines"),
    "Ctrl+z": ("undo", ""),
    "Ctrl+y": ("redo", ""),
    "Ctrl+Z": ("redo", ""),
    "Ctrl+s": ("save", ""),
}


_JUMPS = {
    "/": "write a filter",
    "c": "choose the class that dropped pictures contain",
    "n": "write a name for the cluster",
    "o": "choose the order",
    "arrows": "walk from point to point, or from thumbnail to thumbnail",
    "Enter": "select the point; mark the thumbnail",
    "+ − 0": "zoom the map",
    "shift, alt": "add to, take from the selection",
}


def help_html() -> Html:
    "All keys, as a table in columns."
    lines = {key: words for key, (_, words) in KEYS.items() if words} | _JUMPS
    rows = [tag("div", tag("kbd", key), " ", words, style="columns:1") for key, words in lines.items()]
    return tag("div", rows)


def _layouts() -> list[tuple[str, str]]:
    "The projections that can be had here."
    return [("PCA", "pca"), ("t-SNE", "tsne")] + ([("UMAP", "umap")] if find_spec("umap") else [])


class ExplorerView(Closable):
    "The widgets of the explorer, without their behaviour."

    # -- who decides, how the map looks, what is shown, how much is done --
    def _build_top(self, by: str) -> widgets.Box:
        self.by_box = widgets.Text(value=by, description="by", placeholder="your name", layout={"width": "150px"},
                                   style={"description_width": "initial"})
        self.colour_box, self.layout_box = choice("colour", list(COLOURINGS)), choice("layout", _layouts(), "150px")
        self.filter_box = widgets.Text(
            description="filter",
            placeholder="class:train -is:drop p>0.9",
            continuous_update=True,
            layout={"width": "300px"},
            style={"description_width": "initial"},
        ).add_class("wood-filter")
        self.buttons = {text: button(text, hint, getattr(self, method)) for text, hint, method in [
            ("Undo", "take the last step back (z)", "undo"), ("Redo", "do it again (y)", "redo"),
            ("Save", "write the manifest now (w)", "save"), ("Keys", "all keys (?)", "toggle_help")]}
        self.bar = widgets.IntProgress(min=0, layout=widgets.Layout(width="120px"))
        self.counts, self.status = widgets.HTML(), widgets.HTML()
        return widgets.VBox(
            [
                row(self.by_box, self.colour_box, self.layout_box, self.filter_box, *self.buttons.values()),
                row(self.bar, self.counts, self.status, grid_gap="12px"),
            ]
        )

    # -- the card of one cluster --
    def _build_side(self) -> widgets.VBox:
        self.cluster_box = choice("cluster", [], "250px")
        before, after = button("◀", "cluster before ([)", self.previous_cluster, "40px"), button(
            "▶", "next cluster (])", self.next_cluster, "40px"
        )
        self.card = widgets.HTML()
        self.name_box = widgets.Text(description="name", continuous_update=False, layout={"width": "250px"},
                                     style={"description_width": "initial"}).add_class("wood-name")
        self.beside_buttons = self._build_deciders()
        self.merge_box = choice("take in", [], "220px", "merge")
        self.parts_box = widgets.BoundedIntText(2, min=2, max=20, description="into", layout={"width": "100px"},
                                                style={"description_width": "initial"})
        self.cluster_buttons = [button("Merge", "take in the cluster chosen; nearest first (m)", self.merge),
                                button("Split", "K-means within the cluster (x)", self.split)]
        lines = [row(before, self.cluster_box, after), row(*self.beside_buttons.values()), self.card, self.name_box,
                 row(self.merge_box, self.cluster_buttons[0]), row(self.cluster_buttons[1], self.parts_box)]
        return widgets.VBox(lines, layout=widgets.Layout(flex="1 1 320px", width="350px", padding="0 0 0 12px")).add_class(
            "wood-side"
        )

    # -- the small cards of all clusters --
    CARDS = 12

    def _build_cards(self) -> widgets.VBox:
        self.cards = [button("", "", lambda n=n: self.focus_card(n), "186px") for n in range(self.CARDS)]
        for n, card in enumerate(self.cards):
            card.add_class("wood-card").add_class(f"card-{n}")
        self.cards_text = widgets.HTML()
        turn = [button(text, hint, lambda by=by: self.turn_cards(by), "40px") for text, hint, by in
                (("◀", "more clusters: back", -1), ("▶", "more clusters: on", 1))]
        return widgets.VBox([row(self.cards_text, *turn), row(*self.cards)])

    # -- the pictures that are selected, and what can be done with them --
    PLACES = 24

    def _build_deciders(self) -> dict[str, widgets.Button]:
        "Keep, Drop and Undecided: above the thumbnails, and once more beside the map; they say how many pictures they act on."
        made = {"Keep": button("Keep", "keep them (k)", self.keep), "Undecided": button("Undecided", "undecided again (u)", self.undecide),
                "Drop": button("Drop", "drop them, as containing the class chosen (d)", self.drop)}
        for text in ("Keep", "Drop"):
            made[text].add_class(f"wood-{text.lower()}-button")
        return {text: made[text] for text in ("Keep", "Drop", "Undecided")}

    def _build_decisions(self, classes: Sequence[str]) -> widgets.Box:
        self.target_text, self.decide_buttons = widgets.HTML(), self._build_deciders()
        self.contains_box = choice("it contains", [PREDICTED, *classes, NOTHING], "230px", "contains")
        return row(self.target_text, *self.decide_buttons.values(), self.contains_box, grid_gap="4px")

    def _build_grid(self) -> widgets.VBox:
        self.order_box = choice("order", ORDERS)
        self.like_button = button("Like this", "sort by likeness to the marked, or else the first, picture (l)", self.like)
        self.page_text = widgets.HTML()
        turn = [button("Back", "the page before (,)", self.back), button("Next", "the page after (.)", self.forward)]
        more = [
            button("Select all", "all that the filter shows (a)", self.select_all),
            button("Nothing", "select nothing (Esc)", self.clear),
        ]
        self.thumbs = [button("", "", lambda n=n: self.click_place(n), "124px") for n in range(self.PLACES)]
        for n, thumb in enumerate(self.thumbs):
            thumb.add_class("wood-thumb").add_class(f"place-{n}")
        return widgets.VBox([row(self.order_box, self.like_button, *turn, self.page_text, *more), row(*self.thumbs)])

    def build(self, classes: Sequence[str], by: str) -> widgets.VBox:
        self.root = f"wood-explorer-{object.__hash__(self)}"
        self.pictures, self.card_pictures = (widgets.HTML(layout={"display": "none"}) for _ in range(2))
        style = widgets.HTML(STYLE, layout=widgets.Layout(display="none"))
        self.map = PictureMap(layout=widgets.Layout(flex="1 1 520px", min_width="320px"))
        main = row(self.map, self._build_side())
        main.layout.align_items = "flex-start"
        self.help = widgets.HTML(help_html(), layout=widgets.Layout(display="none")).add_class("wood-help")
        body = [style, self.pictures, self.card_pictures, self._build_top(by), self.help, main, self._build_cards(),
                self._build_decisions(classes), self._build_grid()]
        return widgets.VBox(body).add_class("wood-explorer").add_class(self.root)
