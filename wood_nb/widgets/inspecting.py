"""Behind the localisation inspector: maps of several methods, seeds at their thresholds, IoU of one image, and images by gain"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from tqdm import tqdm

from ..base.files import DataError
from ..data.images import IGNORE, share_on, weight_shares
from ..data.splits import Split
from ..maps.cam import Maps, load_maps, overlay
from ..maps.methods import METHODS
from ..scores.context import UNLABELLED, Contexts, find_contexts, place_mask
from ..scores.curves import THRESHOLDS, ThresholdSweep
from ..scores.seeds import image_counts, iou, mean_present, seed
from ..scores.tables import PerClassTable


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


class ArrayMaps(Mapping):
    """Image id -> `Maps` made of the arrays of any other tool: `arrays[id][class name or index]` is `[h, w]`, at the size of the image or
    smaller. As with our own maps, what is negative counts as zero, and each map is divided by its maximum."""

    def __init__(self, split: Split, arrays: Mapping[str, Mapping[str | int, Any]]):
        self.split, self.arrays, self.places = split, arrays, {id: n for n, id in enumerate(split.ids)}
        if strange := [id for id in arrays if id not in self.places]:
            raise DataError(f"maps of '{strange[0]}', which is no image of split '{split.name}'; take the ids of the split (split.ids)")
        for id, found in arrays.items():
            for name in found:
                self._key(id, name)
        self.read = lru_cache(512)(self._maps)

    def _key(self, id: str, name: str | int) -> int:
        "The index of a class by its name or number; `DataError` if there is none, or the image is not labelled with it."
        classes, labels = self.split.classes, self.split[self.places[id]].labels
        key = classes.index(name) if name in classes else name
        if key not in labels:
            has = ", ".join(classes[k] for k in sorted(labels)) or "none"
            raise DataError(f"a map of '{name}' in {id}, which is not among its labels ({has}); leave it out")
        return int(key)

    def _maps(self, id: str) -> Maps:
        size = self.split.image(self.places[id]).size[::-1]
        found = {self._key(id, name): self._whole(id, name, array, size) for name, array in self.arrays[id].items()}
        whole = np.stack([found[key] for key in sorted(found)]) if found else np.zeros((0, *size), np.float32)
        return Maps(np.array(sorted(found), np.int64), whole[:, ::4, ::4], size, whole)

    def _whole(self, id: str, name: str | int, array: Any, size: tuple[int, int]) -> np.ndarray:
        "One map at the size (height, width) of its image, float32 in [0, 1]."
        heat = np.asarray(array, np.float32)
        if heat.ndim != 2 or not np.isfinite(heat).all():
            raise DataError(f"the map of '{name}' in {id}: {list(heat.shape)}, or with NaN or infinity in it; give finite numbers [h, w]")
        if heat.shape != size:
            heat = np.asarray(Image.fromarray(heat).resize(size[::-1], Image.Resampling.BILINEAR))
        heat = heat.clip(0)
        return heat / (heat.max() + 1e-5)

    def __getitem__(self, id: str) -> Maps:
        return self.read(id) if id in self.arrays else self.arrays[id]  # raises what a dictionary raises

    def __contains__(self, id: object) -> bool:
        return id in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def maps_of(split: Split, source: Mapping[str, Any] | str | Path) -> Mapping[str, Maps]:
    "Maps from wherever they come: a folder, a dictionary of `Maps`, or one of other tools' arrays (see `ArrayMaps`)."
    if isinstance(source, (str, Path)):
        return MapFolder(source)
    of_arrays = not isinstance(source, (MapFolder, ArrayMaps)) and any(isinstance(found, Mapping) for found in source.values())
    return ArrayMaps(split, source) if of_arrays else source


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
        sweep, shares = ThresholdSweep(classes=look.split.classes), []
        for index in tqdm(range(len(look.split)), desc=f"scoring {method}", unit="image"):
            maps, mask = look.methods[method][look.split[index].id], look.split.mask(index)
            whole = maps.at_full_size()
            sweep.add(whole, maps.keys, mask)
            known = [share_on(each, mask, key + 1) for each, key in zip(whole, maps.keys.tolist())]
            shares.append([share for share in known if share is not None])
        look.sweeps[method] = sweep
        look.on_object[method] = np.array([np.mean(found) if found else math.nan for found in shares])
    return look.sweeps[method]


def _best_thresholds(look: Inspection) -> dict[str, float]:
    "For each method the threshold of its highest mIoU on this split."
    return {name: sweep_of(look, name).best()[0] for name in look.methods}


def image_ious(look: Inspection, method: str, threshold: float | None = None) -> np.ndarray:
    "IoU of each image, float64 `[n]`: of the class `only` if one is chosen, else the mean over the classes there."
    values = iou(sweep_of(look, method).image_counts(look.thresholds[method] if threshold is None else threshold))
    return mean_present(values) if look.only is None else values[:, look.only + 1]


def image_mean(look: Inspection, method: str, index: int) -> float:
    "Mean IoU of one image at the method's threshold: looked up if all images have been counted, else counted now."
    sweep, threshold = look.sweeps.get(method), look.thresholds[method]
    if sweep is None or not np.isclose(sweep.thresholds, threshold).any():
        return image_score(look, method, index).mean
    return float(mean_present(iou(sweep.images[index].counts(sweep.index(threshold)))))


def confused_pixels(look: Inspection, method: str, true: int, taken_for: int) -> dict[int, int]:
    """Place of an image -> its pixels of mask value `true` that the seed of a method takes for value `taken_for`, most first; images
    without such pixels are left out. Only images that have both values are looked at."""
    found = {}
    for index, known in enumerate(sweep_of(look, method).images):
        if known.true[true] and (not taken_for or taken_for - 1 in known.keys):
            both = (look.split.mask(index) == true) & (seed_of(look, method, index) == taken_for)
            found[index] = int(both.sum())
    return {index: pixels for index, pixels in sorted(found.items(), key=lambda pair: -pair[1]) if pixels}


def gains(look: Inspection) -> np.ndarray:
    "IoU of the second method of the pair minus that of the first, per image, float64 `[n]`."
    baseline, method = look.pair
    return image_ious(look, method) - image_ious(look, baseline)


def indices(look: Inspection) -> list[int]:
    "Places of the images to browse, in order; images without a number come last."
    every = look.among.places if look.among else sorted(range(len(look.split)), key=lambda n: look.split[n].id)
    found = [n for n in every if look.only is None or look.only in look.split[n].labels]
    if look.order == ORDERS[0]:
        return found
    key = (
        image_ious(look, look.pair[1]) if look.order == ORDERS[3] else gains(look) * (-1 if look.order == ORDERS[1] else 1)
    )
    return sorted(found, key=lambda n: (np.isnan(key[n]), key[n]))


class Among(NamedTuple):
    "Some images, chosen elsewhere: how, in words, and their places in the split, in order."
    words: str
    places: tuple[int, ...]


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
    among: Among | None = None  # these images only
    pair: tuple[str, str] = None  # (baseline, method) of differences and gains; unless told otherwise the first and the last
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
        self.on_object: dict[str, np.ndarray] = {}  # method -> share of the weight of an image's maps on their objects, float64 [n]
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
        key = (self.order, self.only, self.pair, self.among)
        if again or self.settled is None or self.settled[0] != key:
            self.settled = key, indices(self), dict(self.thresholds)
        return self.settled[1]

    @property
    def stale(self) -> bool:
        "Whether the order is one of scores at thresholds that have been moved since."
        return self.order != ORDERS[0] and self.settled is not None and self.settled[2] != self.thresholds

    def replace(self, method: str, maps: Mapping[str, Any] | str | Path) -> None:
        "Other maps for a method that is shown: what was counted of the old ones is forgotten, its threshold is the best one again."
        found = maps_of(self.split, maps)
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


class Edge(NamedTuple):
    "An outline in a picture: the mask `[H, W]` that it goes round, and its colour."
    mask: np.ndarray
    colour: tuple[int, int, int] = (255, 255, 255)


class Panel(NamedTuple):
    "One picture of the view: its title, a line beneath it, uint8 `[h, w, 3]`, outlines in it, and a word or two for its corner in print."
    title: str
    text: str
    bare: np.ndarray
    edges: tuple[Edge, ...] = ()
    label: str = ""

    @property
    def pixels(self) -> np.ndarray:
        "The picture with its outlines, uint8 `[h, w, 3]`."
        picture = self.bare
        for edge in self.edges:
            picture = ringed(picture, edge.mask, edge.colour)
        return picture


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


_TRUE = (240, 228, 66)  # the true outline, yellow


def _edges(look: Inspection, method: str, scale: int) -> tuple[Edge, ...]:
    "The outline of a method's seed of the class shown, and the true one if it is wanted."
    if (c := look.class_shown) is None:
        return ()
    drawn = [(look.split.mask(look.index), _TRUE)] if look.truth and look.item.mask is not None else []
    drawn.append((seed_of(look, method), (255, 255, 255)))
    return tuple(Edge(enlarged((mask == c + 1).astype(np.uint8), scale, False), colour) for mask, colour in drawn)


def _method_panel(look: Inspection, method: str, scale: int) -> Panel:
    "The map of one method over the image, with the outline of its seed and the IoU it has."
    c, threshold = look.class_shown, look.thresholds[method]
    image = Image.fromarray(enlarged(np.asarray(look.split.image(look.index)), scale))
    pixels = overlay(image, enlarged(heat(look, method), scale), look.opacity)
    score, name = image_score(look, method), look.split.classes[c] if c is not None else "no class"
    words = (
        f"IoU {name} {_per_cent(score.shown)}, mean {_per_cent(score.mean)}"
        if look.item.mask is not None
        else "no mask, no IoU"
    )
    lying = lies_on(look, method)
    label = "" if math.isnan(score.shown) else f"{name} {_per_cent(score.shown)}" if len(look.item.labels) > 1 else _per_cent(score.shown)
    return Panel(method, f"threshold {threshold:.2f}; {words}{f'; {lying}' if lying else ''}", pixels, _edges(look, method, scale), label)


def _bright(mask: np.ndarray) -> np.ndarray:
    "A mask `[H, W]` as uint8 `[H, W, 3]`: a bright hue for each class, which stands out on a darkened image."
    values = np.arange(256)
    colours = hsv_to_rgb(np.column_stack([values * 0.618034 % 1, np.full(256, 0.55), np.ones(256)]))
    colours[IGNORE] = 0.8
    return (255 * colours[mask]).astype(np.uint8)


def panels(look: Inspection, scale: int | None = None) -> list[Panel]:
    """Image, ground truth if there is one, every method, and the difference of the pair; `scale`: how often they are enlarged (default:
    to the inspection's `size`)."""
    scale = scale or _scale_of(look)
    image = np.asarray(look.split.image(look.index))
    large, names = enlarged(image, scale), ", ".join(look.split.classes[k] for k in sorted(look.item.labels)) or "no class"
    found = [Panel("image", names, large, label=names)]
    if look.item.mask is not None:
        true = enlarged(look.split.mask(look.index), scale, False)
        drawn = np.where(true[..., None] > 0, 0.3 * large + 0.7 * _bright(true), 0.55 * large)
        found.append(Panel("ground truth", f"split {look.split.name}", drawn.astype(np.uint8)))
    found += [_method_panel(look, method, scale) for method in look.methods]
    if look.pair[0] != look.pair[1]:
        baseline, method = look.pair
        words = f"purple: {method} higher; orange: {baseline} higher"
        found.append(
            Panel(f"{method} − {baseline}", words, tinted(large, enlarged(difference(look), scale), 0.9))
        )
    return found


def class_table(look: Inspection) -> PerClassTable:
    "IoU per class of every method at its threshold, for papers and programs, too; other tools' methods stand under the names given here."
    scores = {name: sweep_of(look, name).scores_at(look.thresholds[name]).per_class for name in look.methods}
    return PerClassTable(scores, split=look.split.name)


def open_inspection(split: Split, methods: Mapping[str, Mapping[str, Any] | str | Path],
                    thresholds: Mapping[str, float] | None = None, **options: object) -> Inspection:
    """An inspection of the images that have maps of every method; a method is whatever `maps_of` takes. Thresholds not
    given are the best on these images, if they have masks; context masks not given are those that the data set has."""
    sources = {name: maps_of(split, maps) for name, maps in methods.items()}
    part = _with_all_maps(split, sources)
    left_out = {} if len(part) == len(split) else {"out_of": len(split)}
    look = Inspection(part, sources, dict(thresholds or {}), **{"contexts": find_contexts(part), **left_out, **options})
    if look.scored and set(sources) - set(thresholds or {}):
        look.thresholds = {name: look.thresholds[name] if name in (thresholds or {}) else best
                           for name, best in _best_thresholds(look).items()}
    return look
