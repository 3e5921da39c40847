"""The options of methods that are trained beside (`wood run --also`), by name: our defaults, and those of the released code

A plain module, so that a configuration can be read and checked before torch is loaded.
"""

from dataclasses import dataclass
from typing import Any

from ..base.files import check_options
from ..base.options import option, positive

_GROUP = "methods beside"  # of the options on the command line


def check_seam(config: "SeamConfig") -> None:
    "Refuse options that make no sense."
    share = (lambda v: 0 < v <= 1, "a share above 0, at most 1")
    weight = (lambda v: v >= 0, "a number, at least 0")
    check_options(config, jitter=(lambda v: 0 <= v < 1, "a share, at least 0 and below 1"),
                  reduce=(lambda v: 0 < v < 1, "above 0 and below 1: the second view is smaller"), hardest=share, lowest=share,
                  er_weight=weight, ecr_weight=weight, min_weight=weight,
                  taps=(lambda v: len(v) == 2 and 1 <= v[0] < v[1] <= 4, "two stages of the backbone, from 1 to 4, in order"),
                  steps=(lambda v: v is None or v >= 1, "at least 1, or None"))


@dataclass(frozen=True)
class SeamConfig:
    "How SEAM compares two views of an image. `official()` is the released code; the defaults suit small pictures."
    steps: int | None = option(None, "training steps of SEAM (default: as many as W-OoD)", read=positive, group=_GROUP)
    reduce: float = option(0.5, "size of SEAM's second view, as a share of the first; the released code takes 0.3", group=_GROUP)
    jitter: float = option(0.0, "strength of the changes of colour in SEAM's training; the released code takes 0.3", group=_GROUP)
    dense: bool = option(False, "SEAM's OoD pictures are zero labels at every place of its maps (default: as --zero-labels says)",
                         group=_GROUP)
    er_weight: float = 1.0  # of what the class maps of both views differ in
    ecr_weight: float = 1.0  # of what the maps after PCM differ in from the other view's
    min_weight: float = 1.0  # of the quarter that should be background
    hardest: float = 0.2  # share of all entries, the largest, that count among the differences after PCM
    lowest: float = 0.25  # share of the places, the lowest, that should be background
    taps: tuple[int, ...] = (2, 3)  # stages of the backbone, of four, after which PCM looks at the features

    def __post_init__(self) -> None:
        check_seam(self)

    @classmethod
    def official(cls, **options: Any) -> "SeamConfig":
        "As the released code: the second view at 0.3 of the first (its crops have 448 pixels), and colours that change."
        return cls(**{"reduce": 0.3, "jitter": 0.3, **options})


RULES = ("any", "mean", "votes")  # how FickleNet's many maps of a picture become one
UNVERIFIED = {"window": 9, "p": 0.9, "draws": 200, "threshold": 0.35}  # constants of its paper as remembered: no source confirms them


def check_fickle(config: "FickleConfig") -> None:
    "Refuse options that make no sense."
    count = (lambda v: v >= 1 and v == int(v), "a whole number, at least 1")
    check_options(config, window=(lambda v: v in range(1, 100, 2), "an odd number of cells, such as 5, below 100"),
                  p=(lambda v: 0 <= v < 1, "a probability, at least 0 and below 1"), draws=count,
                  rule=(lambda v: v in RULES, " or ".join(map(repr, RULES))), threshold=(lambda v: 0 < v < 1, "a share between 0 and 1"),
                  seed=(lambda v: v >= 0 and v == int(v), "a whole number, at least 0"),
                  steps=(lambda v: v is None or v >= 1, "at least 1, or None"))


@dataclass(frozen=True)
class FickleConfig:
    "FickleNet's windows and draws. The defaults are ours, for maps of about 12 cells a side; `official()` is the paper as remembered."
    steps: int | None = option(None, "training steps of FickleNet (default: as many as W-OoD)", read=positive, group=_GROUP)
    window: int = option(5, "cells on a side of FickleNet's windows, odd", read=positive, group=_GROUP)
    p: float = option(0.7, "probability that FickleNet drops a cell of a window", group=_GROUP)
    rescale: bool = False  # divide what is kept by 1 - p, as ordinary dropout does; whether the paper did is not known
    draws: int = option(50, "maps that FickleNet draws of each picture", read=positive, group=_GROUP)
    rule: str = option("any", "how these become one: the largest value (any), the mean, or the share above the threshold (votes)",
                       choices=RULES, group=_GROUP)
    threshold: float = option(0.35, "above which one of FickleNet's maps is a vote", group=_GROUP)
    seed: int = 0  # of the draws; training has its own

    def __post_init__(self) -> None:
        check_fickle(self)

    @classmethod
    def official(cls, **options: Any) -> "FickleConfig":
        "As we remember the paper (`UNVERIFIED`), whose authors published no code."
        return cls(**{**UNVERIFIED, **options})
