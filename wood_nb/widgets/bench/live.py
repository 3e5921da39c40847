"""Watch the maps move: the last layer is solved again for what is kept now, and the pictures one watches are mapped with it"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ...base.files import DataError
from ...base.html import jpeg_bytes
from ...data.images import image_size, share_on, weight_shares
from ...data.splits import Split
from ...maps.cam import maps_for, overlay, with_maps
from ...maps.methods import CLASSIFIER, method_name
from ...ood.cache import FeatureCache, cache_features
from ...ood.head import drawn_maps, labels_of, rows_of, solve_head
from ...ood.manifest import Manifest
from ...runs.pipeline import CANDIDATES, INSIDE, kept_features, OUTSIDE
from ...runs.run import Run
from ...scores.context import find_contexts, place_mask
from ...scores.curves import ThresholdSweep

_PLACES = 4000
_TOLERANCE = 1e-6  # a cluster moves the gradient by a hundred-thousandth of that at rows of 0; from the last solve it takes few steps
_EARLY = 20  # steps of a solve after which maps are moved for the first time: some six tenths of the way, in a third of the time
_CALM = 0.05  # seconds without another decision before a solve begins
_SIDE, _LARGE = 320, 1200  # pixels of a pinned map, and of one that is enlarged
_COUNTED = 160  # pixels of the longer side of a map whose weight is counted after each decision
WITHOUT, START, BEFORE, NOW = "without OoD pictures", "at the start", "before the last step", "now"


@dataclass(frozen=True)
class Look:
    """What a last layer makes of the pictures that are watched; per cent, None where there are no masks. It is there as soon as the layer
    is solved: until the maps are counted there are no numbers."""
    weight: Tensor = field(repr=False)  # [C, D]
    kept: int  # OoD pictures that it was solved with
    seconds: float  # of solving, and of counting
    share: float | None = None  # of a map's weight on its object
    miou: float | None = None  # of seeds at their best threshold: for looking, not a result
    contexts: dict[str, float] = field(default_factory=dict)  # name -> share of a map's weight
    counted: bool = False

    def line(self, before: Look | None = None, between: str = "; ") -> str:
        "The numbers in a line; with those of `before`, how they moved. `between`: what stands between them."
        def moved(now: float, old: float | None) -> str:
            return f"{now:.1f} %" if old is None else f"{old:.1f} → {now:.1f} %"
        parts = [f"{self.kept:,} OoD pictures"] + ["counting …"] * (not self.counted)
        if self.share is not None:
            parts.append(f"on the object {moved(self.share, before.share if before else None)}")
        parts += [f"{name} {moved(share, before.contexts.get(name) if before else None)}" for name, share in self.contexts.items()]
        if self.miou is not None:
            parts.append(f"seeds {moved(self.miou, before.miou if before else None)} mIoU, for looking only")
        return between.join(parts)


class Watched:
    "Pictures that are watched: features at all places, masks and context masks. Numbers are counted on small copies of maps and masks."

    def __init__(self, run: Run, split: Split):
        self.split, self.spread = split, run.config.head.spread
        self.cache = kept_features(run, run.net(CLASSIFIER), split, f"{split.name}-{len(split)}-whole", None)
        self.place = {item.id: n for n, item in enumerate(split.items)}
        contexts = find_contexts(split, run.config.contexts)
        self.names = () if contexts is None else contexts.names
        self.around = [None if contexts is None else contexts.read(item) for item in split.items]
        self.sizes = [image_size(item.image)[::-1] for item in split.items]
        self.mask = lru_cache(None)(split.mask)  # read once, not at each decision; nor are the others found twice
        self.small, self.where = lru_cache(None)(self._small), lru_cache(None)(self._where)

    def _small(self, n: int) -> np.ndarray:
        "The mask of a picture at the size at which weight is counted."
        return _nearest(self.mask(n), _COUNTED)

    def _where(self, n: int, key: int) -> np.ndarray | None:
        "On which context each pixel of that lies, int64, as in `place_mask`; None if the picture has no context mask."
        around, mask = self.around[n], self.small(n)
        if around is None:
            return None
        found = place_mask(_nearest(around, _COUNTED), self.names, key, self.split.classes[key], mask)
        return None if found is None else found.astype(np.int64)

    def maps(self, id: str, weight: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        "Maps of the classes of a picture by a last layer, `[k, H, W]`, at full size or at another one."
        n = self.place[id]
        keys = torch.tensor(sorted(self.split[n].labels), dtype=torch.long)
        maps = drawn_maps([self.cache], id, weight[keys], self.spread)
        return F.interpolate(maps[None], size or self.sizes[n], mode="bilinear", align_corners=False)[0]

    @torch.inference_mode()
    def numbers(self, weight: Tensor) -> tuple[float | None, float | None, dict[str, float]]:
        "Share on the object, mIoU at the best threshold (per cent; None without masks), the three largest contexts -> share."
        sweep, shares, places = ThresholdSweep(classes=self.split.classes), [], []
        for n, item in enumerate(self.split.items):
            if item.mask is None:
                continue
            mask, keys = self.small(n), np.array(sorted(item.labels), np.int64)
            maps = self.maps(item.id, weight, mask.shape).numpy()
            sweep.add(maps, keys, mask)
            for key, heat in zip(keys.tolist(), maps):
                shares += [] if (share := share_on(heat, mask, key + 1)) is None else [share]
                places += self._on_contexts(n, key, heat)
        mean = 100 * np.mean(places, 0) if places else np.zeros(0)
        largest = np.argsort(-mean)[:3].tolist()
        return (100 * float(np.mean(shares)) if shares else None, 100 * sweep.best()[1].miou if shares else None,
                {self.names[k]: float(mean[k]) for k in largest})

    def _on_contexts(self, n: int, key: int, heat: np.ndarray) -> list[np.ndarray]:
        "Shares of one map on each context; none if the picture has no context mask."
        where = self.where(n, key)
        found = None if where is None else weight_shares(heat, where, len(self.names) + 2)
        return [] if found is None else [found[1:-1]]


class Newest:
    "Work in the background, after `calm` seconds without another ask: of those that come meanwhile only the newest counts."

    def __init__(self, work: Callable[[Callable[[], bool]], None], calm: float = _CALM):
        self.work, self.calm = work, calm
        self.asked, self.done, self.closed = 0, 0, False
        self.change = threading.Condition()
        self.thread: threading.Thread | None = None

    def ask(self) -> None:
        "Work soon; `work(outdated)` can ask whether there is something newer to do."
        with self.change:
            self.asked += 1
            self.change.notify_all()
            if self.thread is None:
                self.thread = threading.Thread(target=self._go_on, name="live head", daemon=True)
                self.thread.start()
                atexit.register(self.close)

    def _newer(self, mark: int, seconds: float | None = None) -> bool:
        "Wait until there is a newer ask than this, at most so long."
        return self.change.wait_for(lambda: self.closed or self.asked > mark, seconds)

    def _go_on(self) -> None:
        while True:
            with self.change:
                self._newer(self.done)
                while not self.closed and self._newer(mark := self.asked, self.calm):
                    pass
                if self.closed:
                    return
            self.work(lambda: self.closed or self.asked > mark)
            with self.change:
                self.done = mark
                self.change.notify_all()

    def wait(self, seconds: float = 60) -> bool:
        "Whether all that was asked for is done within so many seconds."
        with self.change:
            return self.change.wait_for(lambda: self.done == self.asked, seconds)

    def close(self) -> None:
        "Work no more; what is under way is waited for, for a while: a process must not end in the midst of it."
        with self.change:
            self.closed = True
            self.change.notify_all()
        atexit.unregister(self.close)
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(10)


class LiveHead:
    """The last layer under one's hands. `ask()` after each change of the manifest: what is kept then is solved for in the background,
    the newest ask wins; each of `moved` is called with the new `Look` as soon as maps can be drawn by it, each of `told` when its numbers
    are counted, and in a calm moment each of `valued` with what clusters are worth.
    `watched`: split whose pictures are looked at, at most `most`, evenly; `undecided`: such pictures count, too."""

    def __init__(self, run: Run, manifest: Manifest, watched: str | None = None, most: int = 80, undecided: bool = False):
        self.run, self.manifest, self.undecided, split = run, manifest, undecided, run.split(watched or run.config.splits[-1])
        self.watched = Watched(run, split.subset(range(0, len(split), max(1, -(-len(split) // most)))))
        self.net, inside = run.net(CLASSIFIER), run.split(run.config.splits[0])
        cache = kept_features(run, self.net, inside, inside.name, INSIDE)
        self.Z, self.Y, self.rows = cache.pooled(), labels_of(inside, cache.ids), rows_of(self.net)
        self._read_outside(run)
        self.bare = self.look([])
        self.solved_for = set(self.kept())
        self.first = self.before = self.last = self.look(self.solved_for)
        self.stored = _stored_maps(run, self.watched.split)
        self.moved: list[Callable[[Look], None]] = []
        self.told: list[Callable[[Look], None]] = []
        self.valued: list[Callable[[dict[int, float]], None]] = []
        self.without: dict[int, Tensor] = {}
        self._drawn, self._shot, self._picture = lru_cache(48)(self._draw), lru_cache(48)(self._draw_over), lru_cache(16)(self._read)
        self.later = Newest(self._work)

    def _read_outside(self, run: Run) -> None:
        "Features at some places of every candidate that may be kept, the same whatever is kept."
        pool, ids = run.pool(), set(self.manifest.images)
        self.mined = pool.subset([n for n, id in enumerate(pool.ids) if id in ids])
        cache = kept_features(run, self.net, self.mined, CANDIDATES, OUTSIDE)
        if not len(cache):
            raise DataError(f"{run.path}: no candidate of the manifest can be read; check the folder of candidates")
        each = max(2, min(64, -(-_PLACES // len(cache))))
        at, owner = cache.places()
        some = np.concatenate([np.flatnonzero(owner == n)[:each] for n in range(len(cache))])
        self.at, self.owner = at[some], np.array(cache.ids)[owner[some]]

    def kept(self) -> list[str]:
        "The OoD pictures that count now."
        return self.manifest.usable(self.undecided)

    def solve(self, kept: Collection[str], start: Tensor | None = None, on_step: Callable[[int, Tensor], None] | None = None) -> Tensor:
        "Rows of the classifier `[C, D]` for these OoD pictures; without any, the solve without OoD. `on_step`: as of `solve_head`."
        at = self.at[torch.from_numpy(np.isin(self.owner, list(kept)))]
        kind = "dense" if len(at) else "none"
        return solve_head(self.Z, self.Y, at, kind, anchor=self.rows, start=start, tolerance=_TOLERANCE, on_step=on_step).weight

    def look(self, kept: Collection[str], start: Tensor | None = None) -> Look:
        "Solve for these OoD pictures, and look at the watched ones."
        begun = time.perf_counter()
        return self._counted(Look(self.solve(kept, start), len(kept), time.perf_counter() - begun))

    def _counted(self, look: Look) -> Look:
        begun = time.perf_counter()
        share, miou, contexts = self.watched.numbers(look.weight)
        return replace(look, seconds=look.seconds + time.perf_counter() - begun, share=share, miou=miou, contexts=contexts, counted=True)

    def now(self) -> Look:
        "Solve for what is kept now, and look."
        self._move()
        self.last = self._counted(self.last)
        return self.last

    def _move(self, calls: Sequence[Callable[[Look], None]] = ()) -> None:
        "Solve for what is kept now; the numbers are not counted yet. Each of `calls` is told on the way, and at the end."
        kept, old, begun = set(self.kept()), self.last, time.perf_counter()

        def show(weight: Tensor) -> None:
            self.last = Look(weight, len(kept), time.perf_counter() - begun)
            if kept != self.solved_for:
                self.before, self.solved_for, self.without = old, kept, {}
            for call in calls:
                call(self.last)
        show(self.solve(kept, old.weight, lambda step, weight: show(weight) if calls and step == _EARLY else None))

    # -- in the background --
    def ask(self) -> None:
        "Something has changed: solve soon."
        self.later.ask()

    def _work(self, outdated: Callable[[], bool]) -> None:
        self._move(self.moved)
        if outdated():
            return
        self.last = self._counted(self.last)
        for call in self.told:
            call(self.last)
        if self.valued and (values := self.values(outdated)) is not None:
            for tell in self.valued:
                tell(values)

    def close(self) -> None:
        "End the work in the background."
        self.later.close()

    # -- what each cluster does --
    def values(self, outdated: Callable[[], bool] = lambda: False) -> dict[int, float] | None:
        """Cluster -> what it adds to the share on objects of the watched pictures, in points; without masks, the zero-label loss that it
        takes away from its own pictures. None if it is `outdated()` before it is done."""
        kept, full, found, without = set(self.kept()), self.last, {}, {}
        for cluster in self.manifest.clusters:
            if outdated():
                return None
            own = kept & set(cluster.members)
            if own and own != kept:
                without[cluster.id] = self.solve(kept - own, full.weight)
                found[cluster.id] = self._worth(own, full, without[cluster.id])
        self.without = without
        return found

    def _worth(self, own: Collection[str], full: Look, weight: Tensor) -> float:
        "What pictures are worth of which the last layer `weight` knows nothing."
        if full.share is not None:
            return full.share - (self.watched.numbers(weight)[0] or 0.0)
        at = self.at[torch.from_numpy(np.isin(self.owner, list(own)))]
        return float(F.softplus(at @ weight.T).mean() - F.softplus(at @ full.weight.T).mean())

    def pulls(self, id: str, wait: bool = True) -> list[tuple[int, float]]:
        """Which clusters pull the maps of this picture: (cluster, mean change without it, as a share of the map's mean), largest first.
        None are known until there is a solve without each, which takes seconds: `wait` for it."""
        if not self.without and wait:
            self.values()
        now = self.watched.maps(id, self.last.weight)
        mean = now.mean().clamp(min=1e-6)
        moved = {k: float((self.watched.maps(id, weight) - now).abs().mean() / mean) for k, weight in self.without.items()}
        return sorted(moved.items(), key=lambda each: -each[1])

    # -- which pictures --
    def typical(self, most: int = 3) -> list[str]:
        "Pictures to pin to begin with: of different classes, those whose maps OoD pictures move most."
        weight, found = self.last.weight, []
        for item in self.watched.split.items:
            if item.labels:
                now, old = (self.watched.maps(item.id, each)[0] for each in (weight, self.bare.weight))
                found.append((float((now - old).abs().mean()), item.id, min(item.labels)))
        chosen: dict[int, str] = {}
        for _, id, key in sorted(found, reverse=True):
            chosen.setdefault(key, id)
        return list(chosen.values())[:most]

    # -- maps by any last layer, or of any method that has drawn some --
    @property
    def looks(self) -> dict[str, Look]:
        "Last layers by name."
        return {WITHOUT: self.bare, START: self.first, BEFORE: self.before, NOW: self.last}

    def names(self) -> list[str]:
        "Whose maps can be compared: those of last layers, then of the methods that have maps of the watched pictures."
        return [*self.looks, *self.stored]

    def heat(self, id: str, name: str) -> np.ndarray:
        "The map `[H, W]` of the first class of a watched picture by one of `names()`."
        return self._drawn(id, self._drawn_by(name))

    def _drawn_by(self, name: str) -> Tensor | Path:
        "The last layer, or the folder of maps, that a name stands for."
        look = self.looks.get(name)
        return self.stored[name] if look is None else look.weight

    def _draw(self, id: str, by: Tensor | Path) -> np.ndarray:
        if isinstance(by, Tensor):
            return self.watched.maps(id, by)[0].numpy()
        n = self.watched.place[id]
        maps = maps_for(self.watched.split, n, by)
        return maps.at_full_size()[maps.keys.tolist().index(min(self.watched.split[n].labels))]

    @torch.inference_mode()
    def belief(self, id: str, name: str) -> np.ndarray:
        """Where a candidate looks like the class that it is taken for, `[h, w]`, by a last layer. In units of the largest value without OoD
        pictures, so that a map fades where the classifier has learned better."""
        if name not in self.looks:
            raise DataError(f"{name} has drawn no maps of candidates; choose one of {', '.join(self.looks)}")
        key, grid = self.watched.split.classes.index(self.manifest.images[id].predicted), self._seen(id).grid(id)
        bare, mine = (torch.einsum("d,dhw->hw", weight[key], grid).relu() for weight in (self.bare.weight, self.looks[name].weight))
        return (mine / (bare.max() + 1e-5)).clamp(max=1).numpy()

    def _seen(self, id: str) -> FeatureCache:
        "Features at all places of a candidate: few are looked at, so they are made when they are asked for."
        config = self.run.config
        side, one = config.head.long_side or config.long_side, self.mined.subset([self.mined.ids.index(id)])
        return cache_features(self.net, one, self.run.path / "features" / f"seen-{side or 'own'}", side, None, title=None,
                              precision=config.classifier.precision)

    # -- pictures --
    def pair(self, id: str, left: str, right: str, candidate: bool = False) -> list[bytes]:
        "The picture, and with the maps of two of `names()` over it, as large JPEGs; of a watched picture or of a candidate."
        split = self.mined if candidate else self.watched.split
        image = _shrunk(split.image(split.ids.index(id)), _LARGE)
        heats = [(self.belief if candidate else self.heat)(id, name) for name in (left, right)]
        return [jpeg_bytes(shot, 92) for shot in (image, *(_over(image, heat) for heat in heats))]

    def pins(self, ids: Iterable[str], left: str = WITHOUT, right: str = NOW) -> list[dict]:
        "Pinned maps, for `Workbench.pin`: the first map of each picture by two of `names()`, to be laid over one another."
        return [self._pin(id, left, right) for id in ids]

    def _pin(self, id: str, left: str, right: str) -> dict:
        split, n = self.watched.split, self.watched.place[id]
        key, heats = min(split[n].labels), [self.heat(id, name) for name in (left, right)]
        note = id if split[n].mask is None else self._on_object(n, key, heats)
        pair = [self._shot(id, self._drawn_by(name)) for name in (left, right)]
        return {"id": id, "title": split.classes[key], "note": note, "pair": pair}

    def _read(self, id: str) -> Image.Image:
        return _shrunk(self.watched.split.image(self.watched.place[id]), _SIDE)

    def _draw_over(self, id: str, by: Tensor | Path) -> bytes:
        return jpeg_bytes(_over(self._picture(id), self._drawn(id, by)))

    def _on_object(self, n: int, key: int, heats: Sequence[np.ndarray]) -> str:
        found = [weight_shares(heat, self.watched.mask(n)) for heat in heats]
        return " → ".join("empty" if share is None else f"{100 * share[key + 1]:.0f} %" for share in found) + " on the object"

    def headline(self, left: str = WITHOUT, right: str = NOW) -> str:
        "The numbers of all watched pictures, a line each, as far as these two maps are those of last layers."
        looks = [self.looks[name] for name in (left, right) if name in self.looks]
        return looks[-1].line(looks[0] if len(looks) > 1 else None, "\n") if looks else ""


def _stored_maps(run: Run, split: Split) -> dict[str, Path]:
    "Folders of the methods that have drawn maps of all pictures of a split, by the names of the methods."
    folders = sorted((run.path / "maps").glob(f"*/{split.name}"))
    return {method_name(folder.parent.name): folder for folder in folders if len(with_maps(split, folder)) == len(split)}


def _nearest(values: np.ndarray, side: int) -> np.ndarray:
    "A mask whose longer side has at most so many pixels; each keeps the value at its place."
    step = max(1, -(-max(values.shape) // side))
    return np.ascontiguousarray(values[step // 2::step, step // 2::step])


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    "A picture whose longer side has at most so many pixels."
    return ImageOps.contain(image, (side, side)) if max(image.size) > side else image


def _over(image: Image.Image, heat: np.ndarray) -> Image.Image:
    "A map of any size over a picture."
    fitted = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    return Image.fromarray(overlay(image, np.asarray(fitted)))
