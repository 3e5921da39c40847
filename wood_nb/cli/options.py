"""Everything from a terminal: `wood run`, `wood demo`, every stage by itself, and errors in one line"""

import argparse
import json
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..base.files import DataError
from ..runs.config import PRESETS, RunConfig, preset, with_seed
from ..runs.run import STAGES, Run
from ..scores.curves import THRESHOLDS


def names(text: str) -> tuple[str, ...]:
    "Words with commas between them."
    return tuple(word.strip() for word in text.split(",") if word.strip())


def scales(text: str) -> tuple[float, ...]:
    "Positive numbers with commas between them."
    values = tuple(float(word) for word in names(text))
    if not values or min(values) <= 0:
        raise ValueError("scales are positive")
    return values


def threshold(text: str) -> float:
    "A threshold that is swept: 0.01 to 0.99 in steps of 0.01."
    near = min(THRESHOLDS, key=lambda t: abs(t - float(text)))
    if abs(near - float(text)) > 1e-9:
        raise ValueError(f"thresholds are swept from {THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g} in steps of 0.01")
    return near


def positive(text: str) -> int:
    "A whole number from 1."
    if int(text) < 1:
        raise ValueError("this begins at 1")
    return int(text)


def whole_numbers(text: str) -> tuple[int, ...]:
    "Whole numbers with commas between them."
    return tuple(map(int, names(text)))


def sizes(text: str) -> tuple[int | str, ...]:
    "Numbers of pictures and words, commas between them: 0,classes,500,all."
    return tuple(int(word) if word.isdigit() else word for word in names(text))


def grid(text: str) -> list[tuple[float, float]]:
    "Pairs tau:lambda with commas between them."
    return [(float(tau), float(weight)) for tau, weight in (word.split(":") for word in names(text))]


def factor(text: str) -> float | str:
    "A number, or 'measured'."
    return text if text == "measured" else float(text)


def or_none(text: str) -> str | None:
    "Text, or nothing for 'none'."
    return None if text.lower() == "none" else text


def how_many(text: str) -> int | None:
    "A number of images, at least 0, or None for 'all'."
    if text == "all":
        return None
    if not text.isdecimal():
        raise ArgumentTypeError(f"'{text}': say a number of images, or all")
    return int(text)


class Option(NamedTuple):
    "A word of the command line, the fields of `RunConfig` it sets, how its value is read, and what it does."
    flag: str
    sets: tuple[str, ...]
    read: Callable[[str], Any] | bool  # a bool: the option is a switch and sets this value
    help: str
    choices: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        "Its name among the parsed arguments."
        return self.flag[2:].replace("-", "_")


BOTH = ("classifier.", "wood.train.")  # both trainings


DATA_OPTIONS = (
    Option("--data", ("data",), str,
           "voc:FOLDER (VOC layout), csv:FOLDER (SPLIT.csv files) or scenes:FOLDER (drawn there)"),
    Option("--candidates", ("candidates",), or_none,
           "folder of unlabelled pictures to mine; without one there is no W-OoD"),
    Option("--candidates-list", ("candidates_list",), or_none, "list of paths below that folder, one a line"),
    Option("--labels", ("labels",), str, "of a VOC folder: xml, masks, a CSV image,labels, or auto"),
    Option("--classes", ("classes",), names, "use only these classes, commas between them"),
    Option("--others", ("others",), str, "what pixels of other classes count as", ("ignore", "background")),
    Option("--splits", ("splits",), names, "train on the first; maps and seeds for all"),
    Option("--long-side", ("long_side",), int, "pixels of the long side when pictures are scored and clustered"))


NET_OPTIONS = (
    Option("--backbone", ("backbone",), str, "resnet18, resnet50, resnet101, mobilenet_v2 or tiny"),
    Option("--stride", ("stride",), int, "output stride of the backbone"),
    Option("--weights", ("weights",), or_none, "imagenet, none, or a file of weights"))


MINING_OPTIONS = (
    Option("--mine", ("mine",), str, "the hardest candidates, or as many at random (a control)", ("hard", "random")),
    Option("--mine-threshold", ("mine_threshold",), float, "keep candidates with p(c) above this"),
    Option("--per-class", ("mine_per_class",), int, "keep so many candidates of each class"),
    Option("--prune", ("prune",), str,
           "auto (a rule, declared), none, truth (drawn scenes), or a file: CSV image,contains; manifest.json; list.txt of what to keep"),
    Option("--prune-counts", ("prune_counts",), str, "a picture goes if the CSV names a class of this",
           ("run", "voc", "any")),
    Option("--let-in", ("let_in",), float, "share of the dropped pictures let in all the same (0 to 1)"))


WOOD_OPTIONS = (
    Option("--terms", ("wood.terms",), str, "which loss terms W-OoD uses",
           ("both", "zero-label", "distance", "none")),
    Option("--ood-images", ("wood.ood_images",), int, "use only the hardest so many"),
    Option("--ood-batch", ("wood.ood_batch",), int, "OoD pictures a step"),
    Option("--ood-weight", ("wood.ood_weight",), float, "weight of the zero-label loss"),
    Option("--distance-weight", ("wood.distance_weight",), float, "weight of the distance loss (lambda)"),
    Option("--tau", ("wood.tau",), float, "share of the nearest clusters to push away from"),
    Option("--clusters", ("wood.clusters",), int, "number of clusters K (default: pictures / 10, from 2 to 50)"),
    Option("--perturb", ("wood.perturb",), float, "step on OoD pictures up the gradient, 0 for none"),
    Option("--ablation", ("ablation",), names, "further trainings with only these terms: zero-label,distance,none"))


TRAIN_OPTIONS = (
    Option("--epochs", ("classifier.epochs",), float, "passes over the images, classifier"),
    Option("--wood-epochs", ("wood.train.epochs",), float, "passes over the images, W-OoD and its control"),
    Option("--batch-size", tuple(f"{b}batch_size" for b in BOTH), int, "images a step"),
    Option("--lr", ("classifier.lr",), float, "learning rate of the backbone, classifier"),
    Option("--lr-head", ("classifier.lr_head",), float, "learning rate of the last layer, classifier"),
    Option("--wood-lr", ("wood.train.lr",), float, "learning rate of the backbone, W-OoD"),
    Option("--wood-lr-head", ("wood.train.lr_head",), float, "learning rate of the last layer, W-OoD"),
    Option("--precision", tuple(f"{b}precision" for b in BOTH), str, "mixed precision", ("no", "bf16", "fp16")),
    Option("--workers", tuple(f"{b}workers" for b in BOTH), int, "processes that read images"))


SEED_OPTIONS = (
    Option("--scales", ("scales",), scales, "scales at which maps are drawn, summed"),
    Option("--no-mirror", ("mirror",), False, "do not add the maps of the mirrored image"),
    Option("--full-maps", ("full_maps",), True, "store maps at full size too"),
    Option("--threshold", ("threshold",), threshold,
           "of the seeds (default: the best on the masks of the first split, declared)"),
    Option("--choose-by", ("choose_by",), or_none,
           "split whose masks choose among the epochs of W-OoD and its control (default: none do, the last is taken)"),
    Option("--seed", ("seed",), int, "random seed of everything"))


GROUPS = {"data": DATA_OPTIONS, "network": NET_OPTIONS, "candidates": MINING_OPTIONS, "W-OoD": WOOD_OPTIONS,
          "training": TRAIN_OPTIONS, "maps and seeds": SEED_OPTIONS}


OPTIONS = tuple(option for group in GROUPS.values() for option in group)


def with_field(config: Any, name: str, value: Any) -> Any:
    "A copy of a (nested) configuration with the field `name`, as in 'wood.train.lr', set."
    first, _, rest = name.partition(".")
    known = [f.name for f in fields(config)]
    if first not in known:
        raise DataError(f"{type(config).__name__} has no option '{first}'; its options are {', '.join(known)}")
    if rest and not is_dataclass(getattr(config, first)):
        raise DataError(f"'{first}' of {type(config).__name__} has no parts, so there is no '{name}'")
    return replace(config, **{first: with_field(getattr(config, first), rest, value) if rest else value})


def read_setting(text: str) -> tuple[str, Any]:
    "'wood.margin=2' as a field and its value (JSON; what is not JSON is text)."
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("say NAME=VALUE")
    try:
        value = json.loads(value)
    except ValueError:
        pass
    return name.strip(), tuple(value) if isinstance(value, list) else value


class Parser(argparse.ArgumentParser):
    "A parser whose errors are one line."

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ('{self.prog} --help' lists what it takes)\n")


def layout(prog: str) -> argparse.HelpFormatter:
    "Help in two columns, 100 characters wide, paragraphs as they were written."
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=100)


def typed(value: Any) -> str:
    "A default as one would type it."
    if isinstance(value, tuple):
        return ",".join(map(typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def described(option: Option, defaults: RunConfig) -> str:
    "The help of an option, with its default if there is one that says something."
    value = attrgetter(option.sets[0])(defaults)
    silent = "default" in option.help or value in (None, (), "") or isinstance(option.read, bool)
    return (option.help if silent else f"{option.help} (default {typed(value)})").replace("%", "%%")


def add_option(group: Any, option: Option, defaults: RunConfig) -> None:
    "Hand one option to argparse; what is not given leaves no trace."
    words: dict[str, Any] = {"dest": option.key, "default": argparse.SUPPRESS, "help": described(option, defaults)}
    if isinstance(option.read, bool):
        group.add_argument(option.flag, action="store_const", const=option.read, **words)
    else:
        group.add_argument(option.flag, type=option.read, choices=option.choices, **words,
                           metavar=None if option.choices else "X" if option.read in (int, float) else "TEXT")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    "All options of a run, in groups."
    defaults = RunConfig("")
    main = parser.add_argument_group("run")
    main.add_argument("--preset", choices=tuple(PRESETS),
                      help="numbers that belong together; options change them (default 'default', for scenes 'demo')")
    main.add_argument("--out", type=Path,
                      help="run folder (default runs/NAME); an existing one is taken up with the options given")
    main.add_argument("--upto", choices=tuple(STAGES), help="stop after this stage")
    main.add_argument("--set", dest="settings", metavar="NAME=VALUE", type=read_setting, action="append", default=[],
                      help="any other field of the configuration, as in wood.margin=2")
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option, defaults)


def default_out(data: str) -> Path:
    "runs/NAME, by the name of the data's folder."
    place = data.partition(":")[2]
    return Path("runs") / ((Path(place).resolve().name if place else "") or data.partition(":")[0])


def starting_point(args: Namespace) -> RunConfig:
    "The configuration that options are put on top of."
    if args.preset is None and args.out is not None and (args.out / "run.json").is_file():
        return Run(args.out).config
    if not getattr(args, "data", None):
        raise DataError("say where the data are: --data voc:FOLDER, csv:FOLDER or scenes:FOLDER")
    return preset(args.preset or ("demo" if args.data.startswith("scenes:") else "default"), args.data)


def configured(args: Namespace) -> RunConfig:
    "The configuration that parsed arguments ask for; sets `args.out` where it was left open."
    if args.out is None and getattr(args, "data", None):
        args.out = default_out(args.data)
    config = starting_point(args)
    for option in OPTIONS:
        for field in option.sets if option.key in args else ():
            config = with_field(config, field, getattr(args, option.key))
    for field, value in args.settings:
        config = with_field(config, field, value)
    return with_seed(config)


def changed_options(old: dict, new: dict, prefix: str = "") -> list[str]:
    "What differs between two configurations (as dicts), as 'wood.tau 0.2 -> 0.3'."
    found = []
    for key in new:
        if isinstance(new[key], dict) and isinstance(old.get(key), dict):
            found += changed_options(old[key], new[key], f"{prefix}{key}.")
        elif json.loads(json.dumps(new[key])) != old.get(key):
            found.append(f"{prefix}{key} {old.get(key)} -> {new[key]}")
    return found


SCENE_OPTIONS = {"train": (int, "training images"), "val": (int, "validation images"), "ood": (int, "OoD pictures"),
                 "pool": (int, "candidates"), "size": (int, "pixels of a side"), "seed": (int, "random seed"),
                 "co_occurrence": (float, "share of images with the usual context")}
