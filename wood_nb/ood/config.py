"""The options of W-OoD training, by name: our defaults, those of the paper, and those of the released code

A plain module, so that a configuration can be read and checked before torch is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..base.files import check_options
from ..base.options import how_many, names, nested, option, positive
from ..train.config import TrainConfig

Rule = tuple[Callable[[Any], bool], str]  # a test of a value, and what the value must be

TERMS = ("both", "zero-label", "distance", "none")  # which terms of the loss are used; "none" is the control
WITH_CENTRES = ("both", "distance")  # of these, what needs prototypes and centres
SCOPES = ("image", "batch")
SCALES = ("mean", "sum")
UNITS = ("centres", "feature")
STARTS = ("k-means++", "first")
ZERO_LABELS = ("image", "dense")
HEAD_KINDS = ("dense", "zero", "none")  # of OoD features on the last layer: single places, pooled, none (the control)
_GROUP = "W-OoD"  # of the options on the command line
_RELEASED = {"ood_weight": 0.25, "tau_scope": "batch", "unit": "feature", "margin": None, "perturb": 0.07, "ignored_class": 4,
             "kmeans_start": "first"}  # what the released code does in its own way


def _one_of(names: tuple[str, ...]) -> Rule:
    "One of these names."
    def fine(value: Any) -> bool:
        return value in names
    return fine, " or ".join(map(repr, names))


def _at_least(low: int, none: str = "") -> Rule:
    "A number from `low` on; `none`: what None means, where it is allowed."
    def fine(value: Any) -> bool:
        return bool(none) if value is None else value >= low
    return fine, f"at least {low}, or None {none}".strip() if none else f"a number, at least {low}"


def _is_share(value: Any) -> bool:
    return 0 < value <= 1


def _is_margin(value: Any) -> bool:
    return value is None or value > 0


def check_wood(config: "WOoDConfig") -> None:
    "Refuse options that make no sense."
    check_options(
        config,
        terms=_one_of(TERMS),
        ood_batch=_at_least(1),
        ood_images=_at_least(1, none="for all"),
        ood_weight=_at_least(0),
        zero_labels=_one_of(ZERO_LABELS),
        clusters=_at_least(2, none="for the default"),
        distance_weight=_at_least(0),
        tau=(_is_share, "a share above 0, at most 1"),
        tau_scope=_one_of(SCOPES),
        scale=_one_of(SCALES),
        unit=_one_of(UNITS),
        margin=(_is_margin, "above 0, or None for no margin"),
        perturb=_at_least(0),
        refresh=_at_least(0),
        kmeans_start=_one_of(STARTS),
    )


@dataclass(frozen=True)
class WOoDConfig:
    "How to train with OoD images. `paper()` and `official()` are faithful; the defaults are ours."
    train: TrainConfig = nested(TrainConfig, prefix="wood", of="W-OoD and its control")
    terms: str = option("both", "which terms of the loss W-OoD uses; none is the control", choices=TERMS, group=_GROUP)
    ood_batch: int = option(16, "OoD pictures per step", group=_GROUP)
    ood_images: int | None = option(None, "use only this many OoD pictures, the hardest (default: all)", read=int, group=_GROUP)
    ood_weight: float = option(1.0, "weight of the zero-label loss", group=_GROUP)  # code 0.25
    zero_labels: str = option("image", "in training, an OoD picture is a zero label as a whole (image, the paper), or at every place of "
                              "it (dense)", choices=ZERO_LABELS, group=_GROUP)
    clusters: int | None = option(None, "number of clusters K (default: a tenth of the pictures, from 2 to 50)", read=int, group=_GROUP)
    distance_weight: float = option(0.007, "weight of the distance loss (lambda)", group=_GROUP)
    tau: float = option(0.2, "share of the clusters, the nearest, to push away from", group=_GROUP)
    tau_scope: str = "image"  # "image" (paper) or "batch" (code)
    scale: str = "mean"  # of the distance loss: "sum" (paper) or "mean" (code: divided by K)
    unit: str = "centres"  # of distances: "feature" (as they are) or "centres" (mean prototype-to-centre distance = 1)
    margin: float | None = 1.5  # in that unit: pushing stops here; None: never (paper and code)
    perturb: float = option(0.0, "step on OoD pictures up the gradient, 0 for none", group=_GROUP)  # code 0.07
    ignored_class: int | None = None  # OoD images predicted as this class are not counted; code 4 (bottle)
    refresh: int = 0  # compute all centres again every so many steps; 0: never (code)
    recluster: bool = option(False, "W-OoD keeps away from clusters of its own (K-means, as the paper), whatever a person has made of the "
                                    "run's", group=_GROUP)
    kmeans_start: str = "k-means++"  # of K-means (the run's clusters, too); code "first": from the first K pictures, ten rounds

    def __post_init__(self) -> None:
        check_wood(self)

    @classmethod
    def paper(cls, **options: Any) -> "WOoDConfig":
        "As the paper says: summed distances, no margin, OoD images as they are, weight 1, lambda 0.007, tau 20 %, K 50."
        stated = {"train": TrainConfig.official(), "clusters": 50, "scale": "sum", "unit": "feature", "margin": None}
        return cls(**{**stated, **options})

    @classmethod
    def official(cls, **options: Any) -> "WOoDConfig":
        """As the released code does: batch-wide tau, distances over B*K, weight 0.25, perturbed OoD images, class 4
        ignored, K-means from the first pictures."""
        return cls(**{"train": TrainConfig.official(), "clusters": 50, **_RELEASED, **options})

    def as_released(self) -> bool:
        "Whether loss and centres are those of the released code (`official`), however many pictures and steps there are."
        return all(getattr(self, name) == value for name, value in _RELEASED.items())


def check_head(config: "HeadConfig") -> None:
    "Refuse options that make no sense."
    check_options(
        config,
        kind=_one_of(HEAD_KINDS),
        controls=(lambda value: set(value) <= set(HEAD_KINDS), f"of {', '.join(map(repr, HEAD_KINDS))}"),
        long_side=(lambda value: value is None or value >= 32, "at least 32 pixels, or None"),
        places=(lambda value: value is None or value >= 1, "at least 1, or None for all"),
        absent=_at_least(0),
        ood_weight=_at_least(0),
        spread=(lambda value: 0 <= value <= 64, "from 0 to 64"),
        l2=(lambda value: value > 0, "above 0: it makes the answer unique"),
    )


@dataclass(frozen=True)
class HeadConfig:
    "How to solve for the last layer with OoD pictures (`ood.head`)."
    kind: str = option("dense", "OoD pictures on the last layer: as single places (dense), pooled (zero), or not at all (none)",
                       choices=HEAD_KINDS, group=_GROUP)
    controls: tuple[str, ...] = option(("none",), "kinds that are solved and drawn beside it, as none,zero", read=names, group=_GROUP)
    long_side: int | None = option(None, "pixels of the long side of pictures whose features the last layer is solved from (default: "
                                   "--long-side)", read=int, group=_GROUP)
    places: int | None = option(4000, "single places of OoD pictures, at random; or all that are kept, which are then read from the "
                                "disk in each pass", read=how_many, group=_GROUP)
    absent: int = option(0, "places of training images too, at random: zero labels of the classes that these lack", read=int, group=_GROUP)
    ood_weight: float = option(1.0, "weight of the OoD pictures on the last layer", group=_GROUP)
    spread: float = option(1.0, "how strictly maps of the last layer are spread along what looks alike: the power of the likeness of two "
                           "places (1: widely, 8: to their own kind; 0: not at all)", read=float, group=_GROUP)
    l2: float = 1e-5  # weight of the squared distance to the classifier's rows
    keep_near: bool = True  # to these rows; False: to 0
    balance: bool = False  # labels of rare classes count more

    def __post_init__(self) -> None:
        check_head(self)

    def all_kinds(self) -> list[str]:
        "Its kind, then those of its controls."
        return list(dict.fromkeys((self.kind, *self.controls)))


@dataclass(frozen=True)
class ScreenConfig:
    "How a stream of candidates is screened (`ood.screen`)."
    per_class: int = option(500, "pictures that are kept of each class", read=positive)
    threshold: float = option(0.5, "pictures count as candidates above this p of a class")
    every: int = option(2000, "pictures between two checkpoints", read=positive)
    exact: bool = option(False, "decode JPEG whole (default: at the smallest scale that is enough)")
    threads: int = option(0, "threads that decode ahead (default: one for each core)")

    def __post_init__(self):
        check_options(self, per_class=_at_least(1), threshold=(lambda value: 0 <= value < 1, "from 0 to below 1"), every=_at_least(1),
                      threads=_at_least(0))
