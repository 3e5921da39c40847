"""Maps side by side: the images with the biggest gains, those with the biggest losses, and some drawn at random"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from matplotlib.colors import to_hex

from ..base.charts import histogram
from ..base.html import Html, fitted, img, tag
from ..base.pictures import bright_palette, outline, show_mask
from ..data.splits import Split
from ..maps.cam import Maps, overlay
from ..maps.methods import TRUTH, method_name
from .page import Section
from .result import MAIN
from .run_data import BASELINE, ReportData, counts_of, is_own, seed_rows
from ..scores.rows import one_decimal, signed
from ..scores.seeds import iou, mean_present, seed


def _image_scores(data: ReportData, method: str) -> dict[str, float]:
    "Image id -> mean IoU over the classes in that image (in the truth or in the seed), as a fraction."
    rows = [row for row in seed_rows(data) if row["method"] == method and row["split"] == data.split.name]
    found = counts_of(data, rows[0]) if rows else None
    return dict(zip(found[0], mean_present(iou(found[1])).tolist())) if found else {}


def _shown_methods(data: ReportData) -> list[str]:
    "The methods whose maps are shown: the baseline and the main one, as far as they are there."
    wanted = [method for method in (BASELINE, MAIN) if method in data.maps]
    return wanted or list(data.maps)[:2]


def image_gains(data: ReportData) -> dict[str, float]:
    "Image id -> difference in mean IoU of the main method over the baseline, in points."
    first, *others = [_image_scores(data, method) for method in _shown_methods(data)] or [{}]
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


def _grown(marked: np.ndarray) -> np.ndarray:
    "bool `[H, W]`: `marked` and the pixels to the right of it and below."
    more = marked.copy()
    more[1:] |= marked[:-1]
    more[:, 1:] |= more[:, :-1]
    return more


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    "A mask at PIL `size` (W, H), nearest pixel."
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def heat_picture(image: Image.Image, maps: Maps, threshold: float | None) -> Image.Image:
    "The highest of the image's maps as heat over it, with the outline of its seed in white on black."
    shown = fitted(image, SIDE)
    full = maps.at_full_size()
    heat = full.max(0) if len(full) else np.zeros(maps.size, np.float32)
    pixels = overlay(shown, np.asarray(Image.fromarray(heat).resize(shown.size, Image.Resampling.BILINEAR)))
    if threshold is not None:
        edge = _grown(outline(_enlarged(seed(full, maps.keys, threshold), shown.size)))
        pixels[_grown(_grown(edge[::-1, ::-1])[::-1, ::-1])] = 20
        pixels[edge] = 255
    return Image.fromarray(pixels)


def truth_picture(image: Image.Image, mask: np.ndarray) -> Image.Image:
    "A mask in bright colours over the image in grey; ignored pixels pale."
    shown = fitted(image, SIDE)
    return Image.fromarray(show_mask(shown, _enlarged(mask, shown.size)))


def class_chips(split: Split, labels: Iterable[int]) -> list[Html]:
    "Class names with their colours."
    colours = bright_palette() / 255
    return [tag("span", tag("span", class_="chip", style=f"background:{to_hex(colours[c + 1])}"), split.classes[c],
                " ")
            for c in labels]


def panel(picture: Image.Image, alt: str, words: Any) -> Html:
    "A picture with a line below it."
    return tag("div", img(picture, alt), tag("small", words))


def _image_row(data: ReportData, id: str, thresholds: Mapping[str, float], scores: Mapping[str, Mapping[str, float]],
              gain: float | None) -> Html:
    "Image, map per method, ground truth of one image, with its scores."
    index = data.split.ids.index(id)
    image, item = data.split.image(index), data.split[index]
    names = ", ".join(data.split.classes[c] for c in item.labels) or "no class"
    panels = [panel(fitted(image, SIDE), f"image {id}", "image")]
    for method in _shown_methods(data):
        name, score = method_name(method), scores[method].get(id)
        words = name if score is None else f"{name}, {one_decimal(100 * score)}"
        panels.append(panel(heat_picture(image, data.maps[method][id], thresholds.get(method)),
                            f"{name} map of {names} in {id}", words))
    if item.mask is not None:
        panels.append(panel(truth_picture(image, data.split.mask(index)), f"true mask of {id}",
                            method_name(TRUTH)))
    change = tag("b", signed(gain), " points ", class_="up" if gain > 0 else "down") if gain is not None else None
    return tag("figure", tag("figcaption", change, class_chips(data.split, item.labels), tag("code", id)),
               tag("div", panels), class_="row")


def _fared(gains: Mapping[str, float], main: str) -> str:
    "How many images gained and lost."
    up, down = sum(v > 0 for v in gains.values()), sum(v < 0 for v in gains.values())
    same = len(gains) - up - down
    return (f"{main} is better in {up:,} of {len(gains):,} images, worse in {down:,}, the same in {same:,}; the median "
            f"change is {signed(median(gains.values()))} points.")


HEAT = "Heat: where the network looked (the highest of the maps of the image's classes). "


_LINE = ("White line: the seed at the threshold that was scored. Numbers: mean IoU over the classes of that one image, "
        "background included.")


def map_section(data: ReportData) -> Section | None:
    "Maps side by side: biggest gains, biggest losses, and images drawn at random."
    methods, gains = _shown_methods(data), image_gains(data)
    if not methods:
        return None
    rows = [row for row in seed_rows(data) if row["split"] == data.split.name and is_own(data, row)]
    thresholds = {row["method"]: row["threshold"] for row in rows if row.get("threshold") is not None}
    scores = {method: _image_scores(data, method) for method in methods}
    parts = [tag("p", HEAT, _LINE if rows else "")]
    if gains:
        told = tag("p", _fared(gains, method_name(methods[-1])))
        label = "difference in an image's mean IoU (points)"
        bars = histogram(list(gains.values()), label, f"Histogram: {label}")
        parts = [tag("div", tag("div", parts, told, class_="text"), bars, class_="charts")]
    for title, ids in choose_images(data.split.ids, gains).items():
        if ids:
            parts += [tag("h3", title), *(_image_row(data, id, thresholds, scores, gains.get(id)) for id in ids)]
    return Section("maps", f"Maps, {data.split.name}", parts)
