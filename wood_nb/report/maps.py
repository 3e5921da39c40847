"""A whole run on one page: the figures and what they rest on, the pictures they come from, and everything that was left out"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from matplotlib.colors import to_hex

from ..base.charts import histogram
from ..base.html import Html, fitted, img, tag
from ..data.images import IGNORE
from ..data.splits import Split
from ..maps.cam import Maps, overlay
from ..ood.clusters import cluster_colours
from .page import Section
from .result import MAIN
from .run_data import BASELINE, ReportData, counts_of, is_own, seed_rows
from ..scores.rows import one_decimal, signed
from ..maps.methods import method_name
from ..scores.seeds import iou, mean_present, seed


def image_scores(data: ReportData, method: str) -> dict[str, float]:
    "Image id -> mean IoU over the classes in that image (in the truth or in the seed), as a fraction."
    rows = [row for row in seed_rows(data) if row["method"] == method and row["split"] == data.split.name]
    found = counts_of(data, rows[0]) if rows else None
    return dict(zip(found[0], mean_present(iou(found[1])).tolist())) if found else {}


def shown_methods(data: ReportData) -> list[str]:
    "The methods whose maps are shown: the baseline and the main one, as far as they are there."
    wanted = [method for method in (BASELINE, MAIN) if method in data.maps]
    return wanted or list(data.maps)[:2]


def image_gains(data: ReportData) -> dict[str, float]:
    "Image id -> difference in mean IoU of the main method over the baseline, in points."
    first, *others = [image_scores(data, method) for method in shown_methods(data)] or [{}]
    shared = [id for id in data.split.ids if others and id in first and id in others[-1]]
    return {id: 100 * (others[-1][id] - first[id]) for id in shared if math.isfinite(others[-1][id] - first[id])}


def choose_images(ids: Sequence[str], gains: Mapping[str, float], each: int = 4,
                  seed: int = 0) -> dict[str, list[str]]:
    "Ids of the biggest gains, the biggest losses, and of others drawn at random; no image twice."
    order = sorted((id for id in ids if id in gains), key=lambda id: -gains[id])
    best = [id for id in order[:each] if gains[id] > 0]
    worst = [id for id in order[::-1][:each] if gains[id] < 0]
    rest = [id for id in ids if id not in {*best, *worst}]
    drawn = np.random.default_rng(seed).permutation(len(rest))[:each if gains else 2 * each]
    return {"Biggest gains": best, "Biggest losses": worst, "Drawn at random": [rest[i] for i in sorted(drawn)]}


SIDE = 288  # pixels of the long side of a picture in the report


def outline(mask: np.ndarray) -> np.ndarray:
    "bool `[H, W]`: pixels of `mask` whose right or lower neighbour has another value."
    edge = np.zeros(mask.shape, bool)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    return edge


def grown(marked: np.ndarray) -> np.ndarray:
    "bool `[H, W]`: `marked` and the pixels to the right of it and below."
    more = marked.copy()
    more[1:] |= marked[:-1]
    more[:, 1:] |= more[:, :-1]
    return more


def enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    "A mask at PIL `size` (W, H), nearest pixel."
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def heat_picture(image: Image.Image, maps: Maps, threshold: float | None) -> Image.Image:
    "The highest of the image's maps as heat over it, with the outline of its seed in white on black."
    shown, full = fitted(image, SIDE), maps.at_full_size()
    heat = full.max(0) if len(full) else np.zeros(maps.size, np.float32)
    pixels = overlay(shown, np.asarray(Image.fromarray(heat).resize(shown.size, Image.Resampling.BILINEAR)))
    if threshold is not None:
        edge = grown(outline(enlarged(seed(full, maps.keys, threshold), shown.size)))
        pixels[grown(grown(edge[::-1, ::-1])[::-1, ::-1])], pixels[edge] = 20, 255
    return Image.fromarray(pixels)


def value_colours(n_classes: int) -> np.ndarray:
    "Colours of mask values, uint8 `[256, 3]`: bright ones for the classes, pale for ignored pixels."
    found = np.full((256, 3), 235, np.uint8)
    found[1:n_classes + 1] = (255 * cluster_colours(n_classes)).astype(np.uint8)
    return found


def truth_picture(image: Image.Image, mask: np.ndarray, n_classes: int) -> Image.Image:
    "The true mask in colours over the image in grey; ignored pixels pale."
    shown = fitted(image, SIDE)
    grey = np.asarray(shown.convert("L").convert("RGB"), np.float32) * 0.8
    values = enlarged(mask, shown.size)
    weight = np.where(values == 0, 0, np.where(values == IGNORE, 0.6, 0.72))[..., None]
    return Image.fromarray((grey * (1 - weight) + value_colours(n_classes)[values] * weight).astype(np.uint8))


def class_chips(split: Split, labels: Iterable[int]) -> list[Html]:
    "Class names with their colours."
    colours = value_colours(split.n_classes) / 255
    return [tag("span", tag("span", class_="chip", style=f"background:{to_hex(colours[c + 1])}"), split.classes[c],
                " ")
            for c in labels]


def panel(picture: Image.Image, alt: str, words: Any) -> Html:
    "A picture with a line below it."
    return tag("div", img(picture, alt), tag("small", words))


def image_row(data: ReportData, id: str, thresholds: Mapping[str, float], scores: Mapping[str, Mapping[str, float]],
              gain: float | None) -> Html:
    "Image, map per method, ground truth of one image, with its figures."
    index = data.split.ids.index(id)
    image, item = data.split.image(index), data.split[index]
    names = ", ".join(data.split.classes[c] for c in item.labels) or "no class"
    panels = [panel(fitted(image, SIDE), f"image {id}", "image")]
    for method in shown_methods(data):
        name, score = method_name(method), scores[method].get(id)
        words = name if score is None else f"{name}, {one_decimal(100 * score)}"
        panels.append(panel(heat_picture(image, data.maps[method][id], thresholds.get(method)),
                            f"{name} map of {names} in {id}", words))
    if item.mask is not None:
        panels.append(panel(truth_picture(image, data.split.mask(index), data.split.n_classes), f"true mask of {id}",
                            "ground truth"))
    change = tag("b", signed(gain), " points ", class_="up" if gain > 0 else "down") if gain is not None else None
    return tag("figure", tag("figcaption", change, class_chips(data.split, item.labels), tag("code", id)),
               tag("div", panels), class_="row")


def fared(gains: Mapping[str, float], main: str) -> str:
    "How many images gained and lost."
    up, down = sum(v > 0 for v in gains.values()), sum(v < 0 for v in gains.values())
    middle = median(gains.values())
    same = len(gains) - up - down
    return (f"{main} is better in {up:,} of {len(gains):,} images, worse in {down:,}, the same in {same:,}; the median "
            f"change is {signed(middle)} points.")


HEAT = "Heat: where the network looked (the highest of the maps of the image's classes). "


LINE = ("White line: the seed at the threshold that was scored. Figures: mean IoU over the classes of that one image, "
        "background included.")


def map_section(data: ReportData) -> Section | None:
    "Maps beside each other: biggest gains, biggest losses, and images drawn at random."
    methods, gains = shown_methods(data), image_gains(data)
    if not methods:
        return None
    rows = [row for row in seed_rows(data) if row["split"] == data.split.name and is_own(data, row)]
    thresholds = {row["method"]: row["threshold"] for row in rows if row.get("threshold") is not None}
    scores, parts = {method: image_scores(data, method) for method in methods}, [tag("p", HEAT, LINE if rows else "")]
    if gains:
        told, label = tag("p", fared(gains, method_name(methods[-1]))), "difference in an image's mean IoU (points)"
        bars = histogram(list(gains.values()), label, f"Histogram: {label}")
        parts = [tag("div", tag("div", parts, told, class_="text"), bars, class_="charts")]
    for title, ids in choose_images(data.split.ids, gains).items():
        if ids:
            parts += [tag("h3", title), *(image_row(data, id, thresholds, scores, gains.get(id)) for id in ids)]
    return Section("maps", f"Maps, {data.split.name}", parts)
