"""The out-of-distribution pictures: mined, pruned and used; their clusters, and a map of the features"""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image
from matplotlib.colors import to_hex

from ..base.charts import Chart, Plane, chart
from ..base.html import Field, Html, duration, image_uri, img, table, tag
from ..data.splits import Split
from ..maps.methods import WOOD
from ..ood.atlas import project_groups, push_apart, ring_places
from ..ood.candidates import DECISIONS, Candidate
from ..ood.clusters import (ClusterCard, cluster_colours, cluster_names, describe_clusters, members, mosaic,
                                  stratified_subset, thumbnails)
from ..ood.features import FeatureStore, class_prototypes
from ..ood.manifest import Manifest
from .page import Section
from .run_data import ReportData


def _used_ids(data: ReportData) -> list[str]:
    "The OoD pictures that training used, hardest first."
    usable = set(data.features.ids.tolist()) if data.features is not None else \
        set(data.manifest.usable(data.config.get("prune") == "none"))
    return sorted(usable & data.manifest.images.keys(), key=lambda id: (-data.manifest.images[id].p, id))


def _flow(data: ReportData) -> list[tuple[int, str]]:
    "The numbers from the pool to the pictures used, each with what it counts."
    manifest, source = data.manifest, data.manifest.source
    size = data.manifest.pool.get("images")
    above = sum(source["above"].values()) if source.get("above") else None
    hard = "candidates drawn at random" if source.get("rank") == "random" else "hardest candidates"
    steps = [(size, "pictures in the pool"), (source.get("scored") if source.get("scored") != size else None, "scored"),
             (above, f"p(c) > {source.get('threshold', 0.5):g}"), (len(manifest), hard),
             (len(manifest.with_decision("drop")), "dropped"),
             (len(manifest.with_decision("undecided")) or None, "undecided"),
             (len(manifest.flags("duplicate_of")), "near-duplicates"), (len(manifest.flags("leak_of")), "leaks"),
             (len(_used_ids(data)), "used")]
    return [(n, words) for n, words in steps if n is not None]


def _flow_list(data: ReportData) -> Html:
    "The numbers as a row of boxes."
    return tag("ol", [tag("li", tag("b", f"{n:,}"), tag("span", words)) for n, words in _flow(data)], class_="flow")


def _decision_counts(candidates: Sequence[Candidate]) -> list[int]:
    "How many are kept, dropped, undecided."
    return [sum(c.decision == decision for c in candidates) for decision in DECISIONS]


def _decision_table(manifest: Manifest) -> Html:
    "Decisions by whom or what made them, with the time they took where it was measured."
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in manifest.images.values():
        groups[candidate.by or "nobody"].append(candidate)
    rows = []
    for by, found in sorted(groups.items(), key=lambda item: -len(item[1])):
        seconds = [c.seconds for c in found if c.seconds is not None and c.decision != "undecided"]
        times = (median(seconds), sum(seconds)) if seconds else (None, None)
        rows.append([by, *_decision_counts(found), *(Field(duration(t), t) for t in times)])
    header = ["decided by", *map(Field, (*DECISIONS, "median time", "time in all"))]
    return table(header, rows, "auto: a rule; file: a list; otherwise a person. Times only where they were measured.")


def _candidate_table(data: ReportData) -> Html:
    "Candidates per predicted class, what was decided, how many were used."
    used = set(_used_ids(data))
    rows = []
    for name, ids in data.manifest.by_class().items():
        images = [data.manifest.images[id] for id in ids]
        counts = [len(ids), *_decision_counts(images), sum(c.flagged for c in images), sum(id in used for id in ids)]
        p = [Field(f"{c.p:.2f}", c.p) for c in (images[0], images[-1])] if images else [Field(None)] * 2
        rows.append([name, *counts, *p])
    header = ["predicted class", *map(Field, ("candidates", *DECISIONS, "flagged", "used", "highest p", "lowest p"))]
    return table(header, rows, "Flagged: near-duplicates of another candidate, or leaks.", sortable=True)


def _strip(pool: Split, ids: Sequence[str], columns: int, rows: int = 1, size: int = 64) -> Image.Image | None:
    "Thumbnails of the first `columns` x `rows` ids that are in the pool, as one picture; None if there is none."
    known = set(pool.ids)
    found = [id for id in ids if id in known][:columns * rows]
    wide = columns if len(found) >= columns * rows else -(-len(found) // rows) if len(found) > columns else len(found)
    found = found[:max(1, len(found) // max(1, wide)) * wide]
    return Image.fromarray(mosaic(thumbnails(pool, found, size), wide, gap=0)) if found else None


def _strip_img(pool: Split, ids: Sequence[str], columns: int, rows: int, alt: str) -> Html | None:
    "A strip as an image; a short one is as much narrower."
    picture = _strip(pool, ids, columns, rows)
    return None if picture is None else img(picture, alt, style=f"width:{100 * picture.width / (64 * columns):.0f}%")


def _candidate_card(data: ReportData, name: str, used: Sequence[str], dropped: Sequence[str]) -> Html:
    "What was used and what was dropped of one predicted class."
    parts = []
    for title, ids in (("used", used), ("dropped", dropped)):
        if picture := _strip_img(data.pool, ids, 6, 1, f"{title}, predicted as {name}: {', '.join(ids[:6])}"):
            p = [data.manifest.images[id].p for id in ids]
            parts += [tag("small", f"{len(ids):,} {title}, p from {p[0]:.2f} to {p[-1]:.2f}"), picture]
    return tag("div", tag("b", name), parts, class_="card")


def _candidate_cards(data: ReportData, most: int = 24) -> list[Html]:
    "A card for each predicted class that has candidates, for the `most` largest."
    images, used = data.manifest.images, _used_ids(data)
    lists = {name: ids for name, ids in data.manifest.by_class().items() if ids}
    largest = sorted(lists, key=lambda name: -len(lists[name]))[:most]
    cards = []
    for name in (n for n in lists if n in largest):
        dropped = [id for id in lists[name] if images[id].decision == "drop"]
        cards.append(_candidate_card(data, name, [id for id in used if images[id].predicted == name], dropped))
    left = len(lists) - len(largest)
    more = tag("p", f"{left} classes with fewer candidates are not shown.", class_="soft") if left else None
    return [tag("div", cards, class_="cards"), *([more] if more else [])]


def mining_section(data: ReportData) -> Section | None:
    "From the pool to the pictures that were used."
    if data.manifest is None or data.pool is None:
        return None
    text = "Unlabelled pictures on which the classifier fires, from the pool to those that training used."
    tables = tag("div", _candidate_table(data), _decision_table(data.manifest), class_="charts")
    leaks = [f"{id} is nearly {other}" for id, other in data.manifest.flags("leak_of").items()]
    listed = f"Leaks: {', '.join(leaks[:10])}{' …' if len(leaks) > 10 else '.'}"
    told = tag("p", listed, class_="warn") if leaks else None
    cards = [tag("h3", "The hardest of each class"), _candidate_cards(data)]
    return Section("candidates", "Candidates", [tag("p", text), _flow_list(data), told, tables, cards])


def prototypes_of(data: ReportData) -> np.ndarray:
    "Mean feature of the training images of each class, `[C, d]`, NaN without images."
    return class_prototypes(data.inside, data.inside_split)


def _cluster_names(data: ReportData) -> dict[int, str]:
    "The names that people gave to clusters."
    return cluster_names(data.features, data.manifest.clusters) if data.manifest is not None else {}


def _cluster_card(pool: Split, card: ClusterCard, colour: str, pictures: int) -> Html:
    "Thumbnails nearest to the centre first; size, what they are taken for, which prototypes are near."
    taken = ", ".join(f"{name} {n}" for name, n in card.taken_for[:3])
    near = ", ".join(f"{name} {distance:.1f}" for name, distance in card.nearest[:3])
    shown = _strip_img(pool, card.members, pictures // 2, 2,
                      f"pictures of {card.name}: {', '.join(card.members[:pictures])}")
    chip = tag("span", class_="chip", style=f"background:{colour}")
    title = tag("div", chip, tag("b", card.name), f" · {card.size:,} pictures")
    words = [f"near {near}" if near else None, f"taken for {taken}; mean p {card.p:.2f}"]
    return tag("div", title, shown, [tag("small", line) for line in words if line], class_="card")


def _cluster_cards(data: ReportData, first: int = 12, most: int = 60) -> list[Html]:
    "Cards of the clusters, largest first: `first` at once, the others folded away."
    cards = describe_clusters(data.features, prototypes_of(data), data.inside_split.classes, _cluster_names(data))
    found = sorted(cards, key=lambda card: -card.size)
    colours = cluster_colours(data.features.k)
    pictures = 10 if len(found) < 30 else 8
    drawn = [_cluster_card(data.pool, card, to_hex(colours[card.id]), pictures) for card in found[:most]]
    parts = [tag("div", drawn[:first], class_="cards")]
    if drawn[first:]:
        left = f" ({len(found) - most} smaller ones are not shown)" if len(found) > most else ""
        more = tag("summary", f"{len(drawn) - first} more clusters{left}")
        parts.append(tag("details", more, tag("div", drawn[first:], class_="cards")))
    return parts


class _Places(NamedTuple):
    "Where everything lies on the map: coordinates in the unit square."
    store: FeatureStore  # the OoD pictures shown
    ood: np.ndarray  # [n, 2]
    inside: np.ndarray  # [m, 2]
    classes: np.ndarray  # [C, 2], NaN where a class has no prototype


def _find_places(data: ReportData, most: int = 1200) -> _Places:
    "OoD pictures (at most `most`), some training images and prototypes, projected together (t-SNE, kept on disk)."
    store = data.features
    if len(store) > most:
        store = store.select(stratified_subset(store, most))
    some = data.inside.features[::max(1, len(data.inside) // 300)]
    folder = data.path / "clusters"
    cache = folder / "map.npz" if folder.is_dir() else None
    return _Places(store, *project_groups(store.features, some, prototypes_of(data), method="tsne", cache=cache))


def _dots(plane: Plane, xy: np.ndarray, colours: Sequence[str], names: Sequence[str]) -> list[Html]:
    "A dot for each point, with its name when the mouse points at it."
    return [tag("circle", tag("title", name), cx=plane.x(x), cy=plane.y(y), r=4, style=f"fill:{colour}", class_="dot")
            for (x, y), colour, name in zip(xy.tolist(), colours, names)]


def _pinned(plane: Plane, pool: Split, id: str, at: tuple[float, float], to: tuple[float, float], colour: str,
           name: str) -> list[Html]:
    "A thumbnail at `to` with a line to the point `at` and a name below it."
    (x, y), picture = (plane.x(to[0]), plane.y(to[1])), _strip(pool, [id], 1, size=96)
    box = dict(x=x - 30, y=y - 30, width=60, height=60)
    line = f"M{plane.x(at[0]):.0f} {plane.y(at[1]):.0f}L{x:.0f} {y:.0f}"
    shown = tag("image", tag("title", id), href=image_uri(picture), **box) if picture is not None else Html()
    return [tag("path", d=line, style=f"stroke:{colour}", class_="lead"), shown,
            tag("rect", rx=2, style=f"stroke:{colour}", class_="frame", **box),
            tag("text", name, x=x, y=y + 44, text_anchor="middle")]


def _ring(plane: Plane, data: ReportData, places: _Places, most: int = 18) -> list[list[Html]]:
    "For each of the largest clusters the picture nearest to its centre, around the map, with a line to its place."
    store, colours, named = places.store, cluster_colours(places.store.k), _cluster_names(data)
    sizes = np.bincount(store.cluster[store.cluster >= 0], minlength=store.k)
    largest = [int(k) for k in np.argsort(-sizes, kind="stable")[:most] if sizes[k]]
    rows = [int(members(store, k)[0]) for k in largest]
    spots = ring_places(places.ood[rows], (0.98, 0.62))
    return [_pinned(plane, data.pool, store.ids[row], places.ood[row], to, to_hex(colours[k]), named.get(k, str(k)))
            for k, row, to in zip(largest, rows, spots)]


def _stars(plane: Plane, xy: np.ndarray, names: Sequence[str]) -> list[Html]:
    "The class prototypes as stars with their names; those that do not exist are left out."
    parts = []
    for (x, y), (a, b), name in zip(xy.tolist(), push_apart(xy + [0, 0.04], 0.05).tolist(), names):
        if math.isfinite(x):
            parts += [tag("text", "★", x=plane.x(x), y=plane.y(y) + 7, text_anchor="middle", class_="star"),
                      tag("text", name, x=plane.x(a), y=plane.y(b) + 4, text_anchor="middle", class_="name")]
    return parts


def _feature_map(data: ReportData) -> Chart:
    "The map: OoD pictures in the colours of their clusters, training images grey, class prototypes as stars."
    places = _find_places(data)
    plane = Plane((-0.58, 1.58), (-0.22, 1.22), 1000, 670, 0, 0, 0, 0)
    colours = [*map(to_hex, cluster_colours(places.store.k)), "#999999"]
    squares = [(plane.x(x) - 2.5, plane.y(y) - 2.5) for x, y in places.inside.tolist()]
    known = [tag("rect", x=x, y=y, width=5, height=5, class_="known") for x, y in squares]
    named = [f"{id}, cluster {cluster}" for id, cluster in zip(places.store.ids, places.store.cluster)]
    shown = _dots(plane, places.ood, [colours[c] for c in places.store.cluster], named)
    classes = _stars(plane, places.classes, data.inside_split.classes)
    return chart(plane, known, _ring(plane, data, places), shown, classes,
                 label="Map of the features: OoD pictures by cluster, training images, class prototypes")


def _trained_with(data: ReportData) -> str:
    "Which centres W-OoD was trained with, in words."
    told = data.note.get("stages", {}).get(WOOD, {}).get("info", {}).get("centres_from")
    return f"the OoD centres of W-OoD are from {told}" if told else "they are those of K-means"


def cluster_section(data: ReportData) -> Section | None:
    "Clusters of the OoD pictures, and the map."
    if None in (data.features, data.inside, data.inside_split, data.pool) or not data.features.k:
        return None
    text = (f"{len(data.features):,} pictures in {data.features.k} clusters of their features; {_trained_with(data)}. “near” "
            "names the class prototypes with the smallest distance to the centre; “taken for” the predicted classes.")
    legend = ("t-SNE: neighbours are neighbours in the features; distances between groups mean little. Dots: OoD "
              "pictures in the colour of their cluster; grey squares: training images; stars: class prototypes.")
    scrolled = tag("div", _feature_map(data), tabindex=0, role="region", aria_label="map")
    drawn = tag("figure", scrolled, tag("figcaption", legend), class_="map")
    return Section("clusters", "Clusters", [tag("p", text), drawn, _cluster_cards(data)])
