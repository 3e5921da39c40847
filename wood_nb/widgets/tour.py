"""From a raw pool of pictures to better maps, in ten minutes and without typing code"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.splits import Split
from ..maps.cam import localise
from ..maps.methods import CLASSIFIER, WOOD, method_name
from ..nets.backbones import open_net
from ..ood.candidates import Candidate, is_person
from ..ood.manifest import Manifest
from ..ood.wood import train_wood
from ..runs.run import Run


def without_decisions(manifest: Manifest) -> Manifest:
    "A copy in which nothing is decided; duplicates and leaks stay flagged."
    images = {id: Candidate(c.file, c.predicted, c.p, duplicate_of=c.duplicate_of, leak_of=c.leak_of)
              for id, c in manifest.images.items()}
    return Manifest(manifest.classes, images, dict(manifest.pool), dict(manifest.source))


def fresh_manifest(run: Run, path: str | Path) -> Manifest:
    "The candidates of a run with nothing decided, saved at `path`; what is there already is opened again."
    if Path(path).is_file():
        return Manifest.load(path, run.pool())
    manifest = without_decisions(run.manifest())
    manifest.save(path)
    return manifest


def by_truth(manifest: Manifest, id: str, truth: Mapping[str, Sequence[str]]) -> tuple[str, list[str], str]:
    "What is to be decided of a picture whose content is known."
    contains = [name for name in manifest.classes if name in truth.get(id, ())]
    return ("drop" if contains else "keep", contains, "")


def stand_in(manifest: Manifest, truth: Mapping[str, Sequence[str]]) -> Manifest:
    "A copy decided by the known truth: dropped where a picture holds a class, kept where it holds none."
    copy = without_decisions(manifest)
    copy.decide_each({id: by_truth(copy, id, truth) for id in copy.images}, by="file:truth.csv")
    return copy


def decided(manifest: Manifest, truth: Mapping[str, Sequence[str]]) -> tuple[Manifest, str]:
    "The manifest if a person has kept anything in it, else what the stand-in makes of it; and whose decisions these are."
    people = sorted({c.by or "" for c in manifest.images.values() if c.decision == "keep" and is_person(c.by)})
    return (manifest, ", ".join(people)) if people else (stand_in(manifest, truth), "the stand-in, who knows the truth")


def train_with(run: Run, ood: Split, out: Path) -> Path:
    "W-OoD training of a run's classifier with these OoD pictures, then maps of its last split; returns the folder of the maps."
    config, split = run.config.wood, run.split(run.config.splits[-1])
    train_wood(
        run.net(CLASSIFIER),
        run.split(run.config.splits[0]),
        ood,
        config,
        out / WOOD,
        run.config.long_side,
        title=method_name(WOOD),
    )
    net = open_net(out / WOOD / "weights.safetensors")
    return localise(net, split, out / "maps", WOOD, run.config.scales, run.config.mirror)
