"""Behind the localisation inspector: maps of several methods, seeds at their thresholds, IoU of one image, and images by gain"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from tqdm import tqdm

from ..base.files import DataError
from ..base.html import plain
from ..base.pictures import Picture, picture_grid
from ..data.images import IGNORE, weight_shares
from ..data.splits import Split
from ..maps.cam import Maps, load_maps, overlay
from ..maps.methods import METHODS
from ..scores.context import UNLABELLED, Contexts, find_contexts, place_mask
from ..scores.curves import THRESHOLDS, ThresholdSweep
from ..scores.seeds import image_counts, iou, mean_present, seed


def method_of(name: str) -> str:
    "The registry's name of a method that is shown by its label: `wood+irn` for 'W-OoD + IRN'; other names as they are."
    known = {method.label: method.name for method in METHODS.values()}
    return "+".join(known.get(part, part) for part in name.split(" + "))


class MapFolder(Mapping):
    "Image id -> `Maps`, read from a folder of `.npz` when asked for."

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: there is no such folder; draw the maps first (wood run, or localise)")
        self.read = lru_cache(512)(lambda id: load_maps(self.folder / f"{id}.npz"))

    def __getitem__(self, id: str) -> Maps:
        return self.read(id)

    def __contains__(self, id: object) -> bool:
        return (self.folder / f"{id}.npz").is_file()

    def __iter__(self) -> Iterator[str]:
        return (path.relative_to(self.folder).with_suffix("").as_posix() for path in sorted(self.folder.rglob("*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _with_all_maps(split: Split, methods: Mapping[str, Mapping[str, Maps]]) -> Split:
    "The images of a split that have maps of every method."
    kept = [n for n, id in enumerate(split.ids) if all(id in maps for maps in methods.values())]
    if len(split) and not kept:
        raise DataError(f"no image of split '{split.name}' has maps of all of {', '.join(methods)}; draw them, or choose other methods")
    return split.subset(kept, split.name)


ORDERS = ("name", "largest gain first", "largest loss first", "lowest IoU first")


def swept(threshold: float) -> float:
    "The nearest of the thresholds at which images are counted: 0.01 to 0.99."
    return min(THRESHOLDS, key=lambda known: abs(known - threshold))


def scope(look: Inspection) -> str:
    "How many of the images are looked at, if not all."
    return f"{len(look.split)} of {look.out_of} images have maps of every method" if look.out_of else ""


def heat(look: Inspection, method: str, index: int | None = None) -> np.ndarray:
    "The map of the class shown, float32 `[H, W]` in [0, 1]; zeros where the method has no map of it."
    index = look.index if index is None else index
    keys = look.methods[method][look.split[index].id].keys.tolist()
    whole = look.whole(method, index)
    if look.class_shown not in keys:
        return np.zeros(look.methods[method][look.split[index].id].size, np.float32)
    return whole[keys.index(look.class_shown)]


def seed_of(look: Inspection, method: str, index: int | None = None) -> np.ndarray:
    "The seed of a method at its threshold, uint8 `[H, W]`: 0 background, class index + 1."
    index = look.index if index is None else index
    maps = look.methods[method][look.split[index].id]
    return seed(look.whole(method, index), maps.keys, look.thresholds[method])


def difference(look: Inspection) -> np.ndarray:
    "Map of the second method of the pair minus that of the first, float32 `[H, W]` in [-1, 1]."
    baseline, method = look.pair
    return heat(look, method) - heat(look, baseline)


class ImageScore(NamedTuple):
    "IoU of one image as fractions: of the class shown, and the mean over the classes there (background included)."
    shown: float
    mean: float


def image_score(look: Inspection, method: str, index: int | None = None) -> ImageScore:
    "How well the seed of a method fits the ground truth; NaN without masks."
    index = look.index if index is None else index
    if look.split[index].mask is None:
        return ImageScore(math.nan, math.nan)
    values = iou(image_counts(seed_of(look, method, index), look.split.mask(index), look.split.n_classes + 1))
    return ImageScore(
        float(values[look.class_shown + 1]) if look.class_shown is not None else math.nan, float(mean_present(values))
    )


def sweep_of(look: Inspection, method: str) -> ThresholdSweep:
    "Counts of all images at all thresholds, made once per method."
    if not look.scored:
        raise DataError(f"split '{look.split.name}' has no masks, so seeds cannot be scored; choose the order 'name'")
    if method not in look.sweeps:
        sweep = ThresholdSweep(classes=look.split.classes)
        for index in tqdm(range(len(look.split)), desc=f"scoring {method}", unit="image"):
            item = look.split[index]
            maps = look.methods[method][item.id]
            sweep.add(maps.at_full_size(), maps.keys, look.split.mask(index))
        look.sweeps[method] = sweep
    return look.sweeps[method]


def _best_thresholds(look: Inspection) -> dict[str, float]:
    "For each method the threshold of its highest mIoU on this split."
    return {name: sweep_of(look, name).best()[0] for name in look.methods}


def _image_ious(look: Inspection, method: str, threshold: float | None = None) -> np.ndarray:
    "IoU of each image, float64 `[n]`: of the class `only` if one is chosen, else the mean over the classes there."
    values = iou(sweep_of(look, method).image_counts(look.thresholds[method] if threshold is None else threshold))
    return mean_present(values) if look.only is None else values[:, look.only + 1]


def image_mean(look: Inspection, method: str, index: int) -> float:
    "Mean IoU of one image at the method's threshold: looked up if all images have been counted, else counted now."
    sweep, threshold = look.sweeps.get(method), look.thresholds[method]
    if sweep is None or not np.isclose(sweep.thresholds, threshold).any():
        return image_score(look, method, index).mean
    return float(mean_present(iou(sweep.images[index].counts(sweep.index(threshold)))))


def gains(look: Inspection) -> np.ndarray:
    "IoU of the second method of the pair minus that of the first, per image, float64 `[n]`."
    baseline, method = look.pair
    return _image_ious(look, method) - _image_ious(look, baseline)


def indices(look: Inspection) -> list[int]:
    "Places of the images to browse, in order; images without a number come last."
    found = [n for n, item in enumerate(look.split.items) if look.only is None or look.only in item.labels]
    if look.order == ORDERS[0]:
        return sorted(found, key=lambda n: look.split[n].id)
    key = (
        _image_ious(look, look.pair[1]) if look.order == ORDERS[3] else gains(look) * (-1 if look.order == ORDERS[1] else 1)
    )
    return sorted(found, key=lambda n: (np.isnan(key[n]), key[n]))


@dataclass
class Inspection:
    "What is on the screen of an inspector, and the way from image to image."
    split: Split
    methods: dict[str, Mapping[str, Maps]]
    thresholds: dict[str, float] = field(default_factory=dict)
    opacity: float = 0.6
    index: int = 0  # place of the image in the split
    shown: int | None = None  # class index; None: the first class of the image
    order: str = ORDERS[0]
    only: int | None = None  # images with this class only
    pair: tuple[str, str] | None = None  # (baseline, method) of differences and gains
    truth: bool = False  # whether the true outline is drawn on the maps too
    size: int = 280  # pixels of the long side of a panel, at least
    out_of: int | None = None  # images of the whole split, if some are left out for want of maps
    contexts: Contexts | None = None  # what lies around the objects

    def __post_init__(self) -> None:
        if not self.methods or not len(self.split):
            raise DataError("nothing to inspect: give at least one method and a split with images")
        names = list(self.methods)
        self.pair = self.pair or (names[0], names[-1])
        self.sweeps: dict[str, ThresholdSweep] = {}
        self.whole = lru_cache(64)(lambda method, index: self.methods[method][self.split[index].id].at_full_size())
        self.around = lru_cache(64)(lambda index: self.contexts.read(self.split[index]) if self.contexts else None)
        self.thresholds = {name: swept(self.thresholds.get(name, 0.3)) for name in names}
        self.scored = all(item.mask is not None for item in self.split.items)

    @property
    def item(self):
        return self.split[self.index]

    @property
    def class_shown(self) -> int | None:
        "The class whose maps are shown: the one chosen if the image has it, else its first; None if it has none."
        labels = sorted(self.item.labels)
        return self.shown if self.shown in labels else (labels[0] if labels else None)

    settled: tuple[tuple, list[int], dict[str, float]] | None = None

    def places(self, again: bool = False) -> list[int]:
        "The images to browse, in the order as it was when it was chosen."
        key = (self.order, self.only, self.pair)
        if again or self.settled is None or self.settled[0] != key:
            self.settled = key, indices(self), dict(self.thresholds)
        return self.settled[1]

    @property
    def stale(self) -> bool:
        "Whether the order is one of scores at thresholds that have been moved since."
        return self.order != ORDERS[0] and self.settled is not None and self.settled[2] != self.thresholds

    def replace(self, method: str, maps: Mapping[str, Maps] | str | Path) -> None:
        "Other maps for a method that is shown: what was counted of the old ones is forgotten, its threshold is the best one again."
        found = maps if isinstance(maps, Mapping) else MapFolder(maps)
        if method not in self.methods:
            raise DataError(f"'{method}' is not shown; there are {', '.join(self.methods)}")
        if missing := [id for id in self.split.ids if id not in found]:
            raise DataError(f"no map of {missing[0]} ({len(missing)} such images); draw them first")
        self.methods[method], self.settled = found, None
        self.sweeps.pop(method, None)
        self.whole.cache_clear()
        if self.scored:
            self.thresholds[method] = sweep_of(self, method).best()[0]

    def step(self, by: int) -> None:
        "To the next image in the order, or back; round at the ends."
        places = self.places()
        if places:
            at = places.index(self.index) + by if self.index in places else 0
            self.index = places[at % len(places)]

    def show(self, id: str) -> None:
        "Go to an image by its id."
        if id not in self.split.ids:
            raise DataError(f"split '{self.split.name}' has no image '{id}'")
        self.index = self.split.ids.index(id)

    def turn_class(self) -> None:
        "To the next class of the image."
        labels = sorted(self.item.labels)
        if labels:
            self.shown = labels[(labels.index(self.class_shown) + 1) % len(labels)]

    def values_at(self, x: int, y: int) -> dict[str, float]:
        "Every method's value at a pixel, for the class shown."
        height, width = heat(self, self.pair[0]).shape
        if not (0 <= x < width and 0 <= y < height):
            raise DataError(f"pixel ({x}, {y}) lies outside of the image ({width}x{height})")
        return {name: float(heat(self, name)[y, x]) for name in self.methods}


def outline(mask: np.ndarray, width: int = 1) -> np.ndarray:
    "Pixels within `width` of the edge of a mask `[H, W]`, on both of its sides, bool `[H, W]`."
    mask, edge = mask.astype(bool), np.zeros(mask.shape, bool)
    for _ in range(width):
        grown = mask.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                grown |= np.roll(mask, step, axis) & _inner(mask.shape, axis, step)
        edge, mask = edge | (grown & ~mask), grown
    return edge


def _inner(shape: tuple[int, int], axis: int, step: int) -> np.ndarray:
    "All pixels but the line that `np.roll` carries over from the other side, bool `[H, W]`."
    keep = np.ones(shape, bool)
    line = 0 if step > 0 else -1
    keep[(line, slice(None)) if axis == 0 else (slice(None), line)] = False
    return keep


def enlarged(pixels: np.ndarray, scale: int, smooth: bool = True) -> np.ndarray:
    "An array `[H, W]` or `[H, W, 3]` scaled up by a whole number."
    size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    return np.asarray(
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST)
    )


def ringed(picture: np.ndarray, mask: np.ndarray, colour: Sequence[int] = (255, 255, 255)) -> np.ndarray:
    "The picture with the outline of a mask in `colour`, edged in black, uint8 `[H, W, 3]`."
    picture = picture.copy()
    picture[outline(mask, 3)] = (0, 0, 0)
    picture[outline(mask, 2)] = colour
    return picture


def tinted(image: np.ndarray, signed: np.ndarray, opacity: float) -> np.ndarray:
    "An image with a difference `[H, W]` in [-1, 1] over it: purple where the second method is higher, orange where the first."
    colour = colormaps["PuOr"](0.5 + signed.clip(-1, 1) / 2)[..., :3] * 255
    weight = opacity * np.abs(signed).clip(0, 1)[..., None] ** 0.5
    return (image * (1 - weight) + colour * weight).astype(np.uint8)


class Panel(NamedTuple):
    "One picture of the view: its title, a line beneath it, uint8 `[h, w, 3]`."
    title: str
    text: str
    pixels: np.ndarray


def _per_cent(value: float) -> str:
    "A fraction as per cent with one decimal; a dash for NaN."
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _scale_of(look: Inspection) -> int:
    "How often the image is enlarged for a panel."
    return max(1, round(look.size / max(look.split.image(look.index).size)))


def lies_on(look: Inspection, method: str) -> str:
    "The two places that most of the map of the class shown lies on, in a few words; '' where no mask says what lies around."
    c, around = look.class_shown, look.around(look.index)
    if look.contexts is None or around is None or c is None:
        return ""
    mask = None if look.item.mask is None else look.split.mask(look.index)
    name, names = look.split.classes[c], look.contexts.names
    places = place_mask(around, names, c, name, mask)
    if places is None:
        return ""
    shares = weight_shares(heat(look, method), places, len(names) + 2)
    if shares is None:
        return "zero everywhere"
    most = sorted(zip(shares.tolist(), (name, *names, UNLABELLED)), key=lambda pair: -pair[0])[:2]
    return ", ".join(f"{100 * share:.0f} % on {place}" for share, place in most if share >= 0.005)


def _method_panel(look: Inspection, method: str) -> Panel:
    "The map of one method over the image, with the outline of its seed and the IoU it has."
    scale, c, threshold = _scale_of(look), look.class_shown, look.thresholds[method]
    image = Image.fromarray(enlarged(np.asarray(look.split.image(look.index)), scale))
    pixels = overlay(image, enlarged(heat(look, method), scale), look.opacity)
    if look.truth and look.item.mask is not None and c is not None:
        pixels = ringed(pixels, enlarged((look.split.mask(look.index) == c + 1).astype(np.uint8), scale, False), (240, 228, 66))
    if c is not None:
        pixels = ringed(pixels, enlarged((seed_of(look, method) == c + 1).astype(np.uint8), scale, False))
    score, name = image_score(look, method), look.split.classes[c] if c is not None else "no class"
    words = (
        f"IoU {name} {_per_cent(score.shown)}, mean {_per_cent(score.mean)}"
        if look.item.mask is not None
        else "no mask, no IoU"
    )
    lying = lies_on(look, method)
    return Panel(method, f"threshold {threshold:.2f}; {words}{f'; {lying}' if lying else ''}", pixels)


def _bright(mask: np.ndarray) -> np.ndarray:
    "A mask `[H, W]` as uint8 `[H, W, 3]`: a bright hue for each class, which stands out on a darkened image."
    values = np.arange(256)
    colours = hsv_to_rgb(np.column_stack([values * 0.618034 % 1, np.full(256, 0.55), np.ones(256)]))
    colours[IGNORE] = 0.8
    return (255 * colours[mask]).astype(np.uint8)


def panels(look: Inspection) -> list[Panel]:
    "Image, ground truth if there is one, every method, and the difference of the pair."
    image, scale = np.asarray(look.split.image(look.index)), _scale_of(look)
    large, names = enlarged(image, scale), [look.split.classes[k] for k in sorted(look.item.labels)]
    found = [Panel("image", ", ".join(names) or "no class", large)]
    if look.item.mask is not None:
        true = enlarged(look.split.mask(look.index), scale, False)
        drawn = np.where(true[..., None] > 0, 0.3 * large + 0.7 * _bright(true), 0.55 * large)
        found.append(Panel("ground truth", f"split {look.split.name}", drawn.astype(np.uint8)))
    found += [_method_panel(look, method) for method in look.methods]
    if look.pair[0] != look.pair[1]:
        baseline, method = look.pair
        words = f"purple: {method} higher; orange: {baseline} higher"
        found.append(
            Panel(f"{method} − {baseline}", words, tinted(large, enlarged(difference(look), scale), 0.9))
        )
    return found


def view_picture(look: Inspection, size: float = 2.1) -> Picture:
    "The panels in one row, with titles and lines."
    found = panels(look)
    figure, axes = picture_grid(1, len(found), size + 0.8, size)
    for axis, panel in zip(axes[0], found):
        axis.imshow(panel.pixels)
        axis.set_title(plain(panel.title), fontsize=9)
        axis.text(
            0.5,
            -0.03,
            plain(panel.text.replace("; ", "\n").replace(", mean", "\nmean")),
            transform=axis.transAxes,
            fontsize=9,
            ha="center",
            va="top",
        )
    figure.suptitle(plain(look.item.id), fontsize=9)
    return figure


def contact_sheet(look: Inspection, places: Sequence[int], size: float = 1.6) -> Picture:
    "A row per image (by place in the split): image, truth, methods with their seeds, difference; IoU under each map."
    kept, rows = look.index, []
    for look.index in places:
        rows.append((look.item.id, panels(look)))
    look.index = kept
    if not rows:
        raise DataError("a contact sheet of no images: choose some")
    figure, axes = picture_grid(len(rows), max(len(found) for _, found in rows), size + 0.4, size)
    for line, (id, found) in zip(axes, rows):
        for axis, panel in zip(line, found):
            axis.imshow(panel.pixels)
            words = panel.title if "IoU" not in panel.text else f"{panel.title}\n{panel.text.split('; ')[1].split(',')[0]}"
            axis.set_title(plain(id if panel.title == "image" else words), fontsize=9)
    return figure


def open_inspection(split: Split, methods: Mapping[str, Mapping[str, Maps] | str | Path],
                    thresholds: Mapping[str, float] | None = None, **options: object) -> Inspection:
    """An inspection of the images that have maps of every method; a method is a dict of maps or a folder. Thresholds not
    given are the best on these images, if they have masks; context masks not given are those that the data set has."""
    sources = {name: MapFolder(maps) if isinstance(maps, (str, Path)) else maps for name, maps in methods.items()}
    part = _with_all_maps(split, sources)
    left_out = {} if len(part) == len(split) else {"out_of": len(split)}
    look = Inspection(part, sources, dict(thresholds or {}), **{"contexts": find_contexts(part), **left_out, **options})
    if look.scored and set(sources) - set(thresholds or {}):
        look.thresholds = {name: look.thresholds[name] if name in (thresholds or {}) else best
                           for name, best in _best_thresholds(look).items()}
    return look
