"""The explorer without its pictures for paper: what each button, key and message does, and when the manifest is saved"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..base.files import DataError
from ..base.html import data_address, tag
from ..ood.candidates import Cluster
from .explorer_views import KEYS, ExplorerView, Thumbnails, card_colours, card_html, card_words, map_state
from .exploring import CANDIDATE, COLOURINGS, FILTERS, INSIDE, ORDERS, Exploration, described, nearest_clusters, point_lines
from .parts import message, save_decisions
from .prune import NOTHING, PREDICTED, draw_thumb, page_style


class Autosave:
    "Calls `save` after every change; at once while that is quick, else after `quiet` seconds without another."

    def __init__(self, save: Callable[[], Any], slow: float = 0.15, quiet: float = 1.0):
        self.save, self.slow, self.quiet, self.took = save, slow, quiet, 0.0
        self.timer: threading.Timer | None = None
        atexit.register(self.flush)

    def __call__(self) -> None:
        "There is something to save."
        if self.timer:
            self.timer.cancel()
        if self.took < self.slow:
            return self.run()
        self.timer = threading.Timer(self.quiet, self.run)
        self.timer.daemon = True
        self.timer.start()

    def run(self) -> None:
        "Save, and note how long that takes."
        self.timer, start = None, time.perf_counter()
        self.save()
        self.took = time.perf_counter() - start

    def flush(self) -> None:
        "Save now what is waiting."
        if self.timer:
            self.timer.cancel()
            self.run()

    def close(self) -> None:
        "Save what is waiting, and wait for no more."
        self.flush()
        atexit.unregister(self.flush)


def _focused(look: Exploration, id: int | None = None) -> int:
    "`id`, or else the cluster whose card is shown; an error if there is none."
    if id is None and look.focus is None:
        raise DataError("no cluster is chosen: choose one on its card, in the list, or with the key ]")
    return look.focus if id is None else id


class Explorer(ExplorerView):
    "Shows an exploration in the widgets, does what is asked for, and writes the manifest."

    # -- an exploration on the screen --
    def start(self, look: Exploration, shots: Thumbnails) -> None:
        "Build the widgets and fill them."
        self.look, self.manifest, self.shots, self.method = look, look.manifest, shots, "pca"
        self.lock, self.filling, self.drawn, self.drawn_cards, self.card_page = threading.RLock(), False, None, None, 0
        look.per_page = self.PLACES
        self.widget = self.build(look.land.classes, look.by)
        self.refresh()

    def refresh(self) -> None:
        "Bring every widget up to date."
        with self.lock:
            self.filling = True
            try:
                for part in (self._fill_map, self._fill_side, self._fill_cards, self._fill_grid, self._fill_top):
                    part()
            finally:
                self.filling = False

    def _fill_map(self) -> None:
        state = map_state(self.look, self.method)
        with self.map.hold_sync():
            for name, value in state.items():
                setattr(self.map, name, value)

    def _fill_top(self) -> None:
        done, n = self.manifest.progress(self.look.ids)
        self.bar.max, self.bar.value, self.counts.value = max(1, n), done, escape(self.look.report())
        self.colour_box.value, self.order_box.value = self.look.colour, self.look.order

    def _fill_side(self) -> None:
        clusters, look = self.look.clusters(), self.look
        there = look.focus in [c.id for c in clusters]
        self.cluster_box.options = [("all pictures", -1)] + [(f"{c.name} ({len(c.members)})", c.id) for c in clusters]
        self.cluster_box.value = look.focus if there else -1
        for box in (self.name_box, self.merge_box, self.parts_box, *self.cluster_buttons):
            box.disabled = not there
        cluster = self.manifest.cluster(look.focus) if there else None
        self.name_box.value = cluster.name if cluster else ""
        near = nearest_clusters(look, cluster) if cluster else []
        self.merge_box.options = [(f"{c.name} ({far:.1f} away)", c.id) for c, far in near]
        self.merge_box.value = near[0][0].id if near else None
        self.card.value = card_html(look, cluster, self.cluster_strip(cluster, 10, 5)) if cluster else \
            tag("p", "Choose a cluster: here, on its card below, or in the legend. Or draw a lasso round some points.")

    # -- the small cards of all clusters --
    def cluster_strip(self, cluster: Cluster, n: int, columns: int, side: int = 56) -> bytes:
        "The `n` most typical pictures of a cluster."
        members = described(self.look, cluster).card.members[:n]
        return self.shots.strip([self.manifest.images[id].file for id in members], columns, side)

    def _fill_cards(self) -> None:
        everyone = self.look.clusters()
        pages = max(1, -(-len(everyone) // self.CARDS))
        self.card_page = min(max(0, self.card_page), pages - 1)
        shown = self.cards_shown = everyone[self.card_page * self.CARDS:][:self.CARDS]
        self.cards_text.value = f"{len(everyone)} clusters" + (f", cards {self.card_page + 1} of {pages}" if pages > 1 else "")
        keys = [described(self.look, c).key for c in shown]
        if keys != self.drawn_cards:
            strips = (data_address(self.cluster_strip(c, 3, 3)) for c in shown)
            pictures = page_style(self.root, strips).replace(".place-", ".card-")
            self.card_pictures.value = pictures + card_colours(self.root, self.look, shown)
            self.drawn_cards = keys
        for n, card in enumerate(self.cards):
            card.layout.display = None if n < len(shown) else "none"
            if n < len(shown):
                card.description = card_words(self.look, shown[n])
                (card.add_class if shown[n].id == self.look.focus else card.remove_class)("wood-focus")

    # -- the thumbnails of one page --
    def _fill_grid(self) -> None:
        pages, shown, look = self.look.turn(), self.look.shown(), self.look
        ids = self.page_ids = shown[look.page * look.per_page:][:look.per_page]
        if ids != self.drawn:
            addresses = [data_address(self.shots.candidate(self.manifest.images[id].file)) for id in ids]
            self.pictures.value, self.drawn = page_style(self.root, addresses), ids
        for n, thumb in enumerate(self.thumbs):
            thumb.layout.display = None if n < len(ids) else "none"
            if n < len(ids):
                draw_thumb(thumb, self.manifest.images[ids[n]])
                (thumb.add_class if ids[n] in look.marked else thumb.remove_class)("wood-marked")
        self.page_text.value = f"page {look.page + 1} of {pages}"
        self._fill_target(len(shown))

    def _fill_target(self, shown: int) -> None:
        "What the buttons act on, in words."
        n, marked = len(self.look.targets()), len(set(self.look.marked))
        what = f"{marked} marked" if marked else f"{n:,} selected"
        self.target_text.value = tag("b", what) if n else tag("b", "nothing selected") + f", {shown:,} shown"
        for buttons in (self.decide_buttons, self.beside_buttons):
            for text, made in buttons.items():
                made.description, made.disabled = f"{text} {n:,}" if n else text, not n

    # -- doing things, and saying what was refused --
    def act(self, action: Callable, *args: Any, changes: bool = True) -> bool:
        "Do something, show it, and save if it changed the manifest; what is refused is said, and False."
        with self.lock:
            try:
                action(*args)
            except DataError as error:
                self.tell(str(error), bad=True)
                self.refresh()
                return False
            self.refresh()
            if changes:
                self.map.send({"type": "forget"})
                self.saved = False
                self.autosave()
                if self.autosave.timer:
                    self.tell("saving as soon as you pause")
        return True

    def tell(self, text: str, bad: bool = False) -> None:
        self.status.value = message(text, bad)

    # -- selecting --
    def select(self, ids: Sequence[str]) -> bool:
        "Select pictures by id."
        return self.act(self.look.select, ids, changes=False)

    def select_all(self) -> bool:
        return self.select(self.look.passing())

    def clear(self) -> bool:
        return self.act(self.look.go, None, changes=False)

    # -- from cluster to cluster --
    def focus_cluster(self, id: int | None) -> bool:
        "Show a cluster and select its pictures."
        return self.act(self.look.go, id, changes=False)

    def focus_card(self, n: int) -> bool:
        return n < len(self.cards_shown) and self.focus_cluster(self.cards_shown[n].id)

    def turn_cards(self, by: int) -> None:
        self.card_page += by
        self.refresh()

    def next_cluster(self) -> bool:
        return self.act(self.look.step_cluster, 1, changes=False)

    def previous_cluster(self) -> bool:
        return self.act(self.look.step_cluster, -1, changes=False)

    # -- pages and marks --
    def forward(self) -> bool:
        return self.act(self.look.turn, 1, changes=False)

    def back(self) -> bool:
        return self.act(self.look.turn, -1, changes=False)

    def click_place(self, n: int) -> bool:
        "Mark the picture at place `n` of the page, or unmark it."
        return n < len(self.page_ids) and self.act(self.look.mark, self.page_ids[n], changes=False)

    # -- filter, orders, colours, layouts --
    def set(self, what: str, value: Any) -> bool:
        "Change 'words' (the filter), 'order', 'colour' or 'by'."
        if what in ("words", "order"):
            self.look.page = 0
        if value == ORDERS[2] and self.look.like is None:
            return self.like()
        done = self.act(setattr, self.look, what, value, changes=False)
        if what == "words" and (lost := self.look.unmatched()):
            self.tell(f"no candidate passes '{lost[0]}'; a word is part of a name, or one of {FILTERS}")
        elif what == "words":
            self.tell("")
        return done

    def next_order(self) -> bool:
        return self.set("order", ORDERS[(ORDERS.index(self.look.order) + 1) % len(ORDERS)])

    def next_colour(self) -> bool:
        names = list(COLOURINGS)
        return self.set("colour", names[(names.index(self.look.colour) + 1) % len(names)])

    def like(self, place: int = -1) -> bool:
        "Sort by likeness to the picture at `place` of the page, or else to the first marked, or the first shown."
        ids = self.page_ids[place:place + 1] if place >= 0 else [*self.look.marked, *self.page_ids]
        if ids:
            self.look.like, self.look.order, self.look.page = ids[0], ORDERS[2], 0
            self.tell(f"sorted by likeness to {ids[0]}")
        return self.act(lambda: None, changes=False)

    def set_layout(self, method: str) -> bool:
        "Lay the map out by 'pca', 'tsne' or 'umap'."
        self.tell("laying out the map, which may take a minute ..." if method != "pca" else "")
        self.method = method
        done = self.act(lambda: None, changes=False)
        self.tell("")
        return done

    def toggle_help(self) -> None:
        self.help.layout.display = "none" if self.help.layout.display is None else None

    # -- decisions for pictures --
    @property
    def contains(self) -> list[str] | None:
        "What dropped pictures are said to contain: None is as predicted, picture by picture."
        value = self.contains_box.value
        return None if value == PREDICTED else [] if value == NOTHING else [value]

    def decide(self, decision: str, ids: Sequence[str] | None = None) -> bool:
        "One decision for `ids`, by default for the marked or selected pictures."
        if ids is None:
            return self.act(lambda: self.look.decide_targets(decision, self.contains))
        return self.act(lambda: self.look.decide(ids, decision, self.contains))

    def keep(self) -> bool:
        return self.decide("keep")

    def drop(self) -> bool:
        return self.decide("drop")

    def undecide(self) -> bool:
        return self.decide("undecided")

    def decide_place(self, decision: str, place: int) -> bool:
        "A decision for the picture at `place` of the page, which then passes the focus on: to the next, over the end of a page, too."
        id = self.page_ids[place]
        if not self.decide(decision, [id]):
            return False
        if place < len(self.page_ids) and self.page_ids[place] == id:  # else the filter let it go, and the next one has come
            place += 1
        if place >= len(self.page_ids) and self.look.page + 1 < self.look.turn():
            place = 0
            self.forward()
        if place < len(self.page_ids):
            self.map.send({"type": "focus", "at": f".place-{place}"})
        return True

    # -- decisions for a whole cluster --
    def decide_cluster(self, decision: str, id: int | None = None) -> bool:
        "One decision for a whole cluster, by default the one whose card is shown."
        return self.act(lambda: self.look.decide_cluster(_focused(self.look, id), decision, self.contains))

    def keep_cluster(self) -> bool:
        return self.decide_cluster("keep")

    def drop_cluster(self) -> bool:
        return self.decide_cluster("drop")

    def undecide_cluster(self) -> bool:
        return self.decide_cluster("undecided")

    # -- names, merges, splits --
    def rename(self, name: str, id: int | None = None) -> bool:
        return self.act(lambda: self.look.rename(_focused(self.look, id), name))

    def merge(self, other: int | None = None) -> bool:
        "Take cluster `other` (by default the one chosen in the list) into the one whose card is shown."
        return self.act(lambda: self.look.merge(_focused(self.look), other if other is not None else self._chosen_to_merge()))

    def _chosen_to_merge(self) -> int:
        if self.merge_box.value is None:
            raise DataError("there is no other cluster to take in")
        return self.merge_box.value

    def split(self, parts: int | None = None) -> bool:
        return self.act(lambda: self.look.split(_focused(self.look), parts or self.parts_box.value))

    # -- there and back --
    def undo(self) -> bool:
        return self.act(self._take_back, self.look.undo, "undo")

    def redo(self) -> bool:
        return self.act(self._take_back, self.look.redo, "redo")

    def _take_back(self, step: Callable, word: str) -> None:
        if step() is None:
            raise DataError(f"there is nothing to {word}")

    # -- what is asked and typed --
    def answer(self, n: int) -> None:
        "Send thumbnail and lines of point `n`."
        look = self.look
        if 0 <= n < len(look.land.kind):
            kind, picture = look.land.kind[n], None
            if kind == CANDIDATE:
                picture = self.shots.candidate(self.manifest.images[look.ids[n]].file)
            elif kind == INSIDE:
                picture = self.shots.known(str(look.land.inside.ids[n - len(look.ids)]))
            self.map.send({"type": "thumb", "index": n, "lines": point_lines(look, n)}, [picture] if picture else [])

    def press(self, key: str, place: int = -1) -> bool | None:
        "Do what `key` means; `place` is the thumbnail that has the focus, or -1. It is decided alone if nothing is marked."
        if key in ("k", "d", "u") and not self.look.marked and 0 <= place < len(self.page_ids):
            return self.decide_place({"k": "keep", "d": "drop", "u": "undecided"}[key], place)
        if key == "l":
            return self.like(place)
        return getattr(self, KEYS[key][0])() if key in KEYS else None

    # -- what the map and the boxes say --
    def connect(self) -> None:
        "Begin to listen."
        self.map.on_msg(self.hear)
        watched = {self.colour_box: lambda v: self.set("colour", v), self.order_box: lambda v: self.set("order", v),
                   self.filter_box: lambda v: self.set("words", v), self.by_box: lambda v: self.set("by", v),
                   self.layout_box: self.set_layout, self.name_box: self.rename,
                   self.cluster_box: lambda v: self.focus_cluster(None if v == -1 else v)}
        for box, action in watched.items():
            box.observe(lambda change, action=action: self.filling or action(change["new"]), "value")

    def hear(self, _: Any, message: dict, buffers: Sequence) -> None:
        "A message of the map: hovered, selected, or a key."
        if message.get("type") == "hover":
            self.answer(int(message["index"]))
        elif message.get("type") == "select":
            rows = np.frombuffer(buffers[0], "<u4")
            self.select([self.look.ids[n] for n in rows if n < len(self.look.ids)])
        elif message.get("type") == "key":
            self.filter_box.value = str(message.get("words", self.filter_box.value))  # a key may overtake what was typed before
            self.press(str(message["key"]), int(message.get("place", -1)))

    def save(self, path: str | Path | None = None) -> bool:
        "Write the manifest (to `path`, from now on); if that fails, say why and go on."
        with self.lock:
            return save_decisions(self, path)
