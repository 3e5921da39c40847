"""Maps of a few images over the steps of a training: written while it trains, seen with a slider afterwards"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..base.files import DataError
from ..base.ranks import is_first, wait
from ..data.splits import Split
from ..maps.cam import Maps, cam_batch, claim_folder, load_maps, save_maps
from ..nets.camnet import CamNet, on_gpu

FILM = "film"  # the folder, in that of a training


def film_images(split: Split, most: int = 6) -> Split:
    "A few images to follow, the same each time: the first of every class, then the second ones, until there are `most`."
    by_class = [[n for n, item in enumerate(split.items) if c in item.labels] for c in range(split.n_classes)]
    rounds = [places[turn] for turn in range(most) for places in by_class if turn < len(places)]
    return split.subset(sorted(list(dict.fromkeys(rounds))[:most]), split.name)


@dataclass
class FilmMaker:
    """Passed to `train` as `on_step`: maps of the images of `split`, at one scale, every `every` steps, into `film/` of the training's
    folder `out`. A training that is resumed goes on with it; maps of steps that are done again are written again."""
    split: Split
    every: int
    out: Path

    def __post_init__(self) -> None:
        if self.every < 1 or not len(self.split):
            raise DataError(f"a film of {len(self.split)} images every {self.every} steps; take some images, and a number from 1 on")

    def __call__(self, step: int, net: CamNet) -> None:
        if step % self.every == 0:
            self.take(step, net)

    def take(self, step: int, net: CamNet) -> None:
        "Write the maps as they are after `step` steps; of several processes the first does."
        folder = self.out / FILM
        claim_folder(folder, {"split": self.split.name, "images": self.split.ids, "every": self.every, "classes": list(self.split.classes)},
                     FILM, "*/*.npz")
        if not is_first():
            return
        for index, item in enumerate(self.split.items):
            maps, = cam_batch(net, [self.split.image(index)], [item.labels], (1.0,), mirror=False)
            save_maps(folder / f"{step:06d}" / f"{item.id}.npz", maps)

    def settle(self, step: int, net: CamNet) -> None:
        "After the last step, for which `train` does not ask."
        with on_gpu(net):
            self.take(step, net)
        wait()


class Film:
    "The maps that a training has left: `steps`, and `maps(step)[image id]`. `folder`: that of the training, or its `film/`."

    def __init__(self, folder: str | Path, split: Split):
        self.folder = Path(folder) if Path(folder).name == FILM else Path(folder) / FILM
        found = sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir() and path.name.isdecimal())
        kept = [n for n, item in enumerate(split.items) if found and (found[0] / f"{item.id}.npz").is_file()]
        self.split = split.subset(kept, split.name)
        whole = [path for path in found if all((path / f"{id}.npz").is_file() for id in self.split.ids)]
        self.steps = [int(path.name) for path in whole]
        if not self.steps or not kept:
            raise DataError(f"{self.folder}: no maps of split '{split.name}' over steps; train with --film N, or name another split")
        self.maps = lru_cache(64)(self._read)

    def _read(self, step: int) -> dict[str, Maps]:
        if step not in self.steps:
            raise DataError(f"{self.folder}: no maps of step {step}; there are {', '.join(map(str, self.steps))}")
        return {id: load_maps(self.folder / f"{step:06d}" / f"{id}.npz") for id in self.split.ids}

    def heat(self, step: int, index: int, key: int) -> np.ndarray:
        "The map of class `key` in an image after some steps, float32 `[H, W]` in [0, 1]."
        maps = self.maps(step)[self.split[index].id]
        return maps.at_full_size()[maps.keys.tolist().index(key)]

    def some(self, n: int = 6) -> Sequence[int]:
        "At most `n` of the steps, the first and the last among them, evenly apart."
        places = np.linspace(0, len(self.steps) - 1, min(n, len(self.steps))).round().astype(int)
        return [self.steps[place] for place in dict.fromkeys(places.tolist())]
