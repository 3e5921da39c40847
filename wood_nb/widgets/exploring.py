"""Behind the cluster explorer: a map, a selection, a filter, an order, and decisions; plain Python, no display"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patheffects import withStroke

from ..base.files import DataError
from ..base.html import plain
from ..base.pictures import Picture
from ..ood.atlas import add_stars, project_groups
from ..ood.candidates import COLOURS, DECISIONS, Candidate, Cluster, is_person
from ..ood.clusters import ClusterCard, cluster_colours, describe_cluster
from ..ood.features import FeatureStore
from ..ood.kmeans import kmeans
from ..ood.manifest import Manifest

CANDIDATE, INSIDE, PROTOTYPE = 0, 1, 2  # kinds of points


@dataclass
class Landscape:
    "All points of a map; they stay as they are while one decides. Rows: candidates, in-distribution pictures, prototypes."
    store: FeatureStore  # the candidates
    classes: tuple[str, ...]
    inside: FeatureStore | None = None
    prototypes: np.ndarray | None = None  # float32 [C, d], NaN rows for classes without pictures
    seed: int = 0
    cache: Path | None = None  # folder that keeps t-SNE and UMAP

    def __post_init__(self) -> None:
        self.row = {id: n for n, id in enumerate(self.store.ids.tolist())}
        if self.prototypes is None:
            self.prototypes = np.full((len(self.classes), self.store.features.shape[1]), np.nan, np.float32)
        self.starred = [c for c in range(len(self.classes)) if np.isfinite(self.prototypes[c]).all()]
        self.layouts: dict[str, np.ndarray] = {}

    @property
    def kind(self) -> np.ndarray:
        "What each point is, uint8 `[n]`."
        return np.repeat([CANDIDATE, INSIDE, PROTOTYPE], [len(self.store), self.others, len(self.starred)]).astype(np.uint8)

    @property
    def others(self) -> int:
        "Number of in-distribution pictures."
        return 0 if self.inside is None else len(self.inside)

    def p(self) -> np.ndarray:
        "Probabilities of candidates and in-distribution pictures, float32 `[n, C]`."
        return self.store.p if self.inside is None else np.concatenate([self.store.p, self.inside.p])

    def layout(self, method: str = "pca") -> np.ndarray:
        "Points in the unit square, float32 `[n, 2]`, by 'pca', 'tsne' or 'umap'; all three kinds together."
        if method not in self.layouts:
            groups = [self.store.features, *([self.inside.features] if self.others else []), self.prototypes[self.starred]]
            kept = self.cache / f"map-{method}.npz" if self.cache and method != "pca" else None
            self.layouts[method] = np.concatenate(project_groups(*groups, method=method, seed=self.seed, cache=kept))
        return self.layouts[method]


_GREY = "#9a9a9a"
_SHAPES = {"keep": "dot", "drop": "cross", "undecided": "ring"}


@dataclass
class Colouring:
    "Which entry of the legend each point takes, uint16 `[n]`; an entry has label, colour and shape."
    index: np.ndarray
    legend: list[dict[str, str]]

    def colours(self) -> list[str]:
        "The colour of each point."
        return [self.legend[n]["colour"] for n in self.index]


def _entry(label: str, colour: Any, shape: str = "dot") -> dict[str, str]:
    "One line of a legend."
    return {"label": label, "colour": to_hex(colour), "shape": shape}


def colours_of_clusters(manifest: Manifest) -> dict[int, str]:
    "Cluster -> its colour, which it keeps when others are merged."
    palette = cluster_colours(1 + max((c.id for c in manifest.clusters), default=0))
    return {c.id: to_hex(palette[c.id]) for c in manifest.clusters}


def _by_cluster(look: Exploration) -> Colouring:
    "A colour per cluster; grey for what is in none, and for what is in distribution."
    clusters, cluster_of = look.manifest.clusters, look.cluster_of()
    colours = colours_of_clusters(look.manifest)
    place = {c.id: n for n, c in enumerate(clusters)} | {-1: len(clusters)}
    legend = [_entry(c.name, colours[c.id]) for c in clusters] + [
        _entry("in no cluster", _GREY),
        _entry("in-distribution", _GREY, "square"),
    ]
    index = [place[c] for c in cluster_of] + [len(clusters) + 1] * (len(look.land.kind) - len(cluster_of))
    return Colouring(np.array(index, np.uint16), legend)


def _by_class(look: Exploration) -> Colouring:
    "A colour per class that the classifier finds most likely."
    land = look.land
    seen = np.concatenate([land.p().argmax(1), np.array(land.starred, int)])
    return Colouring(
        seen.astype(np.uint16), [_entry(name, c) for name, c in zip(land.classes, cluster_colours(len(land.classes)))]
    )


def _by_p(look: Exploration) -> Colouring:
    "Ten steps of the highest class probability."
    land, steps = look.land, np.linspace(0.12, 0.95, 10)
    step = (land.p().max(1) * 10).clip(0, 9).astype(int)
    legend = [_entry(f"p {n / 10:.1f} to {(n + 1) / 10:.1f}", colormaps["viridis"](at)) for n, at in enumerate(steps)]
    return Colouring(np.concatenate([step, np.full(len(land.starred), 9)]).astype(np.uint16), legend)


def _by_decision(look: Exploration) -> Colouring:
    "Keep, drop, undecided: Okabe and Ito's colours, and a shape for each."
    known = [DECISIONS.index(look.manifest.images[id].decision) for id in look.ids]
    legend = [_entry(d, COLOURS[d], _SHAPES[d]) for d in DECISIONS] + [_entry("in-distribution", _GREY, "square")]
    rest = np.full(len(look.land.kind) - len(known), len(DECISIONS))
    return Colouring(np.concatenate([known, rest]).astype(np.uint16), legend)


COLOURINGS: dict[str, Callable[[Exploration], Colouring]] = {
    "cluster": _by_cluster, "predicted class": _by_class, "p(c)": _by_p, "decision": _by_decision}


def colouring_of(look: Exploration) -> Colouring:
    "The colouring chosen."
    return _remembered(look, "colouring", (look.colour, _decisions_mark(look)), lambda: COLOURINGS[look.colour](look))


_FIELDS: dict[str, Callable[[Candidate, str], str]] = {
    "class": lambda c, cluster: c.predicted, "cluster": lambda c, cluster: cluster, "is": lambda c, cluster: c.decision,
    "by": lambda c, cluster: c.by or "", "contains": lambda c, cluster: " ".join(c.contains),
    "flag": lambda c, cluster: "duplicate " * bool(c.duplicate_of) + "leak" * bool(c.leak_of)}


FILTERS = ", ".join(f"{name}:" for name in _FIELDS) + ", p>0.9; a minus before it means the opposite"


_NUMBER = re.compile(r"p(<=|>=|<|>|=)([0-9]*\.?[0-9]+)$")
_COMPARE = {"<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal, "=": np.isclose}


def holds(word: str, id: str, candidate: Candidate, cluster: str) -> bool:
    "Whether one word of a filter holds for a candidate."
    if word.startswith("-") and len(word) > 1:
        return not holds(word[1:], id, candidate, cluster)
    if number := _NUMBER.match(word):
        return bool(_COMPARE[number[1]](candidate.p, float(number[2])))
    key, _, value = word.partition(":")
    if value and key in _FIELDS:
        return value in _FIELDS[key](candidate, cluster).casefold()
    fields = (id, candidate.predicted, cluster, candidate.decision, *candidate.contains)
    return any(word in text.casefold() for text in fields)


ORDERS = ("typical first", "p(c), high first", "like one picture", "name")


def _decisions_mark(look: Exploration) -> tuple:
    "Differs whenever decisions or clusters differ: every change is a step of the history."
    history = look.manifest.history
    return len(history), len(look.manifest.undone), id(history[-1]) if history else 0


def _remembered(look: Exploration, name: str, key: tuple, make: Callable[[], Any]) -> Any:
    "What `make` returns, or returned last time under the same key; the key is held, so its parts stay what they are."
    held = look.memory.get(name)
    if held is None or held[0] != key:
        held = look.memory[name] = key, make()
    return held[1]


def _members_store(land: Landscape, cluster: Cluster) -> FeatureStore:
    "The members of a cluster as a store with one centre, their mean."
    rows = [land.row[m] for m in cluster.members if m in land.row]
    features = land.store.features[rows]
    return FeatureStore(
        land.store.ids[rows], features, land.store.p[rows], np.zeros(len(rows), int), features.mean(0)[None]
    )


@dataclass(frozen=True)
class Described:
    "A cluster as it was when it was looked at last."
    key: tuple  # name and members then
    card: ClusterCard
    centre: np.ndarray  # float32 [d]
    far: dict[str, float]  # member -> distance to the centre


def described(look: Exploration, cluster: Cluster) -> Described:
    "Card, centre and distances of a cluster, made again when its members or its name have changed."
    key = (cluster.name, len(cluster.members), hash(tuple(cluster.members)))
    if cluster.id not in look.known or look.known[cluster.id].key != key:
        store = _members_store(look.land, cluster)
        near = np.linalg.norm(look.land.prototypes - store.centroids[0], axis=1)
        card = replace(describe_cluster(store, 0, near, look.land.classes, cluster.name), id=cluster.id)
        far = np.linalg.norm(store.features - store.centroids[0], axis=1)
        look.known[cluster.id] = Described(key, card, store.centroids[0], dict(zip(store.ids.tolist(), far.tolist())))
    return look.known[cluster.id]


def _away(look: Exploration) -> dict[str, float]:
    "Distance of each candidate to the centre of its cluster; infinite where it is in none."
    far = dict.fromkeys(look.ids, float("inf"))
    for cluster in look.clusters():
        far.update(described(look, cluster).far)
    return far


def _likeness(look: Exploration, id: str) -> dict[str, float]:
    "Distance of the features of each candidate to those of picture `id`."
    features = look.land.store.features
    return dict(zip(look.ids, np.linalg.norm(features - features[look.land.row[id]], axis=1).tolist()))


def _in_order(look: Exploration, ids: Sequence[str]) -> list[str]:
    "`ids` in the order chosen; where nothing else decides, by name."
    if look.order == "name":
        return sorted(ids)
    if look.order == ORDERS[1]:
        return sorted(ids, key=lambda id: (-look.manifest.images[id].p, id))
    far = _likeness(look, look.like) if look.order == ORDERS[2] and look.like in look.land.row else _away(look)
    return sorted(ids, key=lambda id: (far[id], id))


def nearest_clusters(look: Exploration, cluster: Cluster) -> list[tuple[Cluster, float]]:
    "The other clusters with the distance between the centres, nearest first: candidates for merging."
    here, others = described(look, cluster).centre, [one for one in look.clusters() if one.id != cluster.id]
    found = [(one, float(np.linalg.norm(described(look, one).centre - here))) for one in others]
    return sorted(found, key=lambda pair: pair[1])


def cluster_counts(look: Exploration, cluster: Cluster) -> Counter:
    "Decision -> number of members."
    return Counter(look.manifest.images[m].decision for m in cluster.members)


def point_of(land: Landscape, n: int) -> list[str]:
    "What to say about point `n` of the map, which is no candidate, a short line each; the first is its name."
    if land.kind[n] == PROTOTYPE:
        return [
            land.classes[land.starred[n - len(land.store) - land.others]],
            "class prototype: mean feature of its training images",
        ]
    p = land.inside.p[n - len(land.store)]
    return [str(land.inside.ids[n - len(land.store)]), "in-distribution", f"{land.classes[p.argmax()]} {p.max():.2f}"]


def point_lines(look: Exploration, n: int) -> list[str]:
    "What to say about point `n` of the map, a short line each; the first is its name."
    return candidate_lines(look, look.ids[n]) if look.land.kind[n] == CANDIDATE else point_of(look.land, n)


def candidate_lines(look: Exploration, id: str) -> list[str]:
    "Name, class and p, cluster and distance to its centre, decision of a candidate."
    candidate = look.manifest.images[id]
    lines = [id, f"{candidate.predicted} {candidate.p:.2f}"]
    cluster = next((c for c in look.manifest.clusters if id in c.members), None)
    if cluster:
        lines.append(f"{cluster.name}, {described(look, cluster).far[id]:.1f} from its centre")
    contains = f", contains {', '.join(candidate.contains)}" if candidate.contains else ""
    marks = [f"duplicate of {candidate.duplicate_of}"] * bool(candidate.duplicate_of) + [
        f"leak of {candidate.leak_of}"
    ] * bool(candidate.leak_of)
    return [*lines, f"{candidate.decision}{contains}", *marks]


def split_members(land: Landscape, cluster: Cluster, parts: int) -> list[list[str]]:
    "Members of a cluster in `parts` groups by K-means on their features, largest first."
    unknown = [m for m in cluster.members if m not in land.row]
    store = _members_store(land, cluster)
    if not 2 <= parts <= len(store):
        raise DataError(f"{cluster.name} has {len(store)} pictures: it can be split into 2 to {len(store)} parts, not {parts}")
    groups, _ = kmeans(store.features, parts, land.seed)
    found = [store.ids[groups == g].tolist() for g in range(groups.max() + 1)]
    if len(found) < 2:
        raise DataError(f"{cluster.name}: all pictures have the same features, so there is nothing to split")
    return [found[0] + unknown, *found[1:]]


def _settle_after(look: Exploration, step: dict | None) -> dict | None:
    "After undo or redo: the clock starts again, and the focus goes to a cluster that is there."
    look.since = look.clock()
    ids = [c.id for c in look.manifest.clusters]
    if step and step.get("clusters"):
        look.go(next((c[0] for c in step["clusters"] if c[0] in ids), None))
    elif look.focus not in ids:
        look.go(None)
    return step


@dataclass
class Exploration:
    "A manifest on a landscape: what is selected, shown, in which order and colours; decisions, with undo and redo."
    manifest: Manifest
    land: Landscape
    by: str = ""
    words: str = ""  # the filter
    selection: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)  # thumbnails clicked one by one, within the selection
    focus: int | None = None  # the cluster whose card is shown
    order: str = ORDERS[0]
    like: str | None = None  # the picture that others are compared with
    colour: str = "cluster"
    page: int = 0
    per_page: int = 24
    cap: float = 60.0  # seconds; who takes longer went for coffee
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if unknown := [id for id in self.land.row if id not in self.manifest.images]:
            raise DataError(
                f"'{unknown[0]}' has features but is no candidate of the manifest ({len(unknown)} such pictures); "
                "explore the manifest with the features of its own candidates"
            )
        self.ids, self.since = list(self.land.row), self.clock()
        self.known: dict[int, Described] = {}
        self.memory: dict[str, tuple] = {}

    # -- what there is to see: nothing here changes a decision --
    def cluster_of(self) -> list[int]:
        "The cluster of each candidate, -1 for none."
        where = {member: c.id for c in self.manifest.clusters for member in c.members}
        return [where.get(id, -1) for id in self.ids]

    def clusters(self) -> list[Cluster]:
        "Clusters with at least one picture on the map, largest first."
        known = [c for c in self.manifest.clusters if any(m in self.land.row for m in c.members)]
        return sorted(known, key=lambda c: (-len(c.members), c.id))

    def passing(self) -> list[str]:
        "Candidates that the filter lets through, in the order of the features."
        words = self.words.casefold().split()
        if not words:
            return list(self.ids)
        names = {m: c.name for c in self.manifest.clusters for m in c.members}
        return [id for id in self.ids
                if all(holds(word, id, self.manifest.images[id], names.get(id, "")) for word in words)]

    def shown(self) -> list[str]:
        "What the grid pages through: the selection, or else all; filtered, and in order."
        key = (self.words, tuple(self.selection), self.order, self.like, _decisions_mark(self))
        return _remembered(self, "shown", key, self.find)

    def find(self) -> list[str]:
        "`shown`, found again."
        chosen, passing = set(self.selection), self.passing()
        return _in_order(self, [id for id in passing if id in chosen] if chosen else passing)

    def on_page(self) -> list[str]:
        return self.shown()[self.page * self.per_page:][:self.per_page]

    def unmatched(self) -> list[str]:
        "Words of the filter that no candidate passes."
        names = {m: c.name for c in self.manifest.clusters for m in c.members}
        return [word for word in self.words.casefold().split()
                if not any(holds(word, id, self.manifest.images[id], names.get(id, "")) for id in self.ids)]

    # -- deciding, for pictures and for whole clusters --
    def spent(self) -> float:
        "Seconds since the last decision, at most `cap`; the clock starts again."
        before, self.since = self.since, self.clock()
        return round(min(max(0.0, self.since - before), self.cap), 3)

    def person(self) -> str:
        if not self.by.strip() or not is_person(self.by.strip()):
            raise DataError("write your name into the field 'by' first; auto: and file: are for rules")
        return self.by.strip()

    def targets(self) -> list[str]:
        "What keep, drop and undecided act on: the marked thumbnails, else the selection as far as it is shown."
        shown = self.shown() if self.selection else []
        return [id for id in shown if id in set(self.marked)] or shown

    def decide(self, ids: Sequence[str], decision: str, contains: Sequence[str] | None = None) -> int:
        "One decision for `ids`; what is dropped contains `contains`, or (None) its predicted class. Returns how many."
        if not ids:
            raise DataError("nothing is selected: draw a lasso, click a picture, or choose a cluster")
        images, person = self.manifest.images, self.person()
        held = {id: [] if decision != "drop" else [images[id].predicted] if contains is None else list(contains) for id in ids}
        return self.manifest.decide_each({id: (decision, held[id], "") for id in ids}, person, self.spent())

    def decide_targets(self, decision: str, contains: Sequence[str] | None = None) -> int:
        "One decision for what is marked or selected; the whole of the cluster shown is decided as a cluster."
        ids = self.targets()
        if self.focus is not None and set(ids) == set(self.manifest.cluster(self.focus).members):
            return self.decide_cluster(self.focus, decision, contains)
        return self.decide(ids, decision, contains)

    def decide_cluster(self, id: int, decision: str, contains: Sequence[str] | None = None) -> int:
        "One decision for all members of a cluster, and for the cluster itself."
        cluster = self.manifest.cluster(id)
        before = cluster.to_json()
        count = self.decide(cluster.members, decision, contains)
        cluster.decision = decision
        self.manifest.history[-1]["clusters"] = [[id, before, cluster.to_json()]]
        return count

    # -- changing the clusters; undo and redo for all of it --
    def rename(self, id: int, name: str) -> None:
        if not name.strip():
            raise DataError("a cluster needs a name: write one")
        self.manifest.rename_cluster(id, name.strip(), self.person())

    def merge(self, into: int, other: int) -> None:
        "Cluster `other` becomes part of `into`."
        self.manifest.merge_clusters(into, [other], self.person())
        self.go(into)

    def split(self, id: int, parts: int = 2) -> list[int]:
        "K-means within one cluster; the largest part keeps its number. Returns the numbers of all parts."
        cluster = self.manifest.cluster(id)
        groups = split_members(self.land, cluster, parts)
        numbers = self.manifest.split_cluster(id, groups, self.person())
        self.go(id)
        return numbers

    def undo(self) -> dict | None:
        return _settle_after(self, self.manifest.undo())

    def redo(self) -> dict | None:
        return _settle_after(self, self.manifest.redo())

    # -- selecting, marking, from cluster to cluster --
    def select(self, ids: Iterable[str]) -> None:
        "Select pictures, and forget which were marked; the card of a cluster stays only while its pictures are the selection."
        known = set(ids)
        if self.focus is not None and known != set(self.manifest.cluster(self.focus).members):
            self.focus = None
        self.selection, self.marked, self.page = [id for id in self.ids if id in known], [], 0

    def mark(self, id: str) -> None:
        "Mark one picture of the selection, or unmark it; with nothing selected it becomes the selection."
        if not self.selection:
            return self.select([id])
        self.marked = [m for m in self.marked if m != id] + [id] * (id not in self.marked)

    def go(self, id: int | None) -> None:
        "Show cluster `id` and select its members; None: no cluster, nothing selected."
        self.focus = id
        self.select([] if id is None else self.manifest.cluster(id).members)

    def step_cluster(self, by: int) -> None:
        "To the next cluster (largest first), or back; round at the ends."
        ids = [c.id for c in self.clusters()]
        if ids:
            at = ids.index(self.focus) + by if self.focus in ids else (0 if by > 0 else -1)
            self.go(ids[at % len(ids)])

    def turn(self, by: int = 0) -> int:
        "Turn pages, never beyond the ends; returns the number of pages."
        count = max(1, -(-len(self.shown()) // self.per_page))
        self.page = min(max(0, self.page + by), count - 1)
        return count

    def report(self) -> str:
        "Progress, and the median seconds of a decision."
        return _remembered(self, "report", _decisions_mark(self), self.count)

    def count(self) -> str:
        "`report`, counted again."
        done, n = self.manifest.progress(self.ids)
        images = (self.manifest.images[id] for id in self.ids)
        times = [c.seconds for c in images if c.seconds is not None and c.decision != "undecided"]
        return f"{done:,} of {n:,} decided" + (f", {median(times):.2g} s a decision" if times else "")


def begin_clusters(manifest: Manifest, store: FeatureStore, k: int | None = None, seed: int = 0) -> None:
    "Give the manifest clusters of all candidates in `store`, unless it has them, or a person has worked on those it has."
    held = {m for c in manifest.clusters for m in c.members}
    if manifest.grouped_by_hand() or held >= set(store.ids.tolist()):
        return
    numbers = store.cluster if store.k and k is None else kmeans(store.features, k, seed)[0]
    manifest.set_clusters({str(id): int(n) for id, n in zip(store.ids, numbers)})


_MARKERS = {"dot": "o", "cross": "x", "ring": "$\\circ$", "square": "s", "star": "*"}


_MOST = 28  # lines of a legend; more would not be read


def _numbered(look: Exploration) -> dict[int, str]:
    "Entry of the legend -> its number on the map, the largest cluster first; only clusters are numbered."
    if look.colour != "cluster":
        return {}
    place = {c.id: n for n, c in enumerate(look.manifest.clusters)}
    return {place[c.id]: str(c.id) for c in look.clusters()}


def _draw_entry(axis: Axes, land: Landscape, xy: np.ndarray, mine: np.ndarray, line: dict[str, str], number: str) -> None:
    "The points of one entry of the legend (`mine`, bool `[n]`), and its number at their middle."
    shown = line["shape"] == "square" or (mine & (land.kind == CANDIDATE)).any()
    for kind, size, alpha in ((INSIDE, 9, 0.35), (CANDIDATE, 16, 1)):
        rows = mine & (land.kind == kind)
        if not rows.any():
            continue
        marker = "s" if kind == INSIDE else _MARKERS[line["shape"]]
        name = line["label"] if not number or line["label"] == f"cluster {number}" else f"{number}  {line['label']}"
        known = shown and (kind == CANDIDATE or line["shape"] == "square")
        axis.scatter(*xy[rows].T, s=size, c=line["colour"], linewidths=1, zorder=2 - kind, alpha=alpha, marker=marker,
                     label=plain(f"{name} ({rows.sum()})") if known else None)
        if number and kind == CANDIDATE:
            middle = np.median(xy[rows], axis=0)
            text = axis.text(*middle, number, fontsize=9, weight="bold", ha="center", va="center", zorder=4)
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def draw_map(look: Exploration, method: str = "pca", height: float = 4.6) -> Picture:
    "The landscape in the colouring chosen, clusters numbered, the selection outlined, prototypes as named stars."
    land, xy, colouring = look.land, look.land.layout(method), colouring_of(look)
    figure = Picture(figsize=(height * 2, height), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.06), aspect="equal")
    axis.axis("off")
    numbers = _numbered(look)
    for n in [*numbers] + [n for n in range(len(colouring.legend)) if n not in numbers]:
        _draw_entry(axis, land, xy, colouring.index == n, colouring.legend[n], numbers.get(n, ""))
    chosen = [land.row[id] for id in look.selection]
    axis.scatter(*xy[chosen].T, s=34, facecolors="none", edgecolors="black", linewidths=0.8, zorder=3)
    if land.starred:
        add_stars(axis, xy[land.kind == PROTOTYPE], [plain(land.classes[c]) for c in land.starred])
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[:_MOST], labels[:_MOST], loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False,
                ncols=1 + (len(handles) > _MOST // 2), columnspacing=1, handletextpad=0.2)
    return figure
