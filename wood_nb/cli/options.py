"""Words of the command line: how they are read, and how they become the configuration of a run

What a run can be asked for is told by the fields of its configuration (`runs.config`); here argparse is given it.
"""

import argparse
from argparse import ArgumentTypeError, Namespace
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ..base.files import DataError, parse_json
from ..base.options import Flag, add_flag, given, names, options_of
from ..runs.config import PRESETS, STAGE_TEXTS, RunConfig, noted_config, preset, with_seed


def whole_numbers(text: str) -> tuple[int, ...]:
    "Whole numbers separated by commas."
    return tuple(map(int, names(text)))


def sizes(text: str) -> tuple[int | str, ...]:
    "Numbers of pictures and words, separated by commas: 0,classes,500,all."
    return tuple(int(word) if word.isdigit() else word for word in names(text))


def grid(text: str) -> list[tuple[float, float]]:
    "Pairs tau:lambda separated by commas."
    return [(float(tau), float(weight)) for tau, weight in (word.split(":") for word in names(text))]


def factor(text: str) -> float | str:
    "A number, or 'measured'."
    return text if text == "measured" else float(text)


def alias(text: str) -> tuple[str, tuple[str, ...]]:
    "'bird=Duck,Eagle' as a class and further labels that mean it."
    name, equals, labels = text.partition("=")
    if not equals or not names(labels):
        raise ArgumentTypeError(f"'{text}': write CLASS=LABEL,...")
    return name.strip(), names(labels)


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
        raise ValueError("write NAME=VALUE")
    try:
        value = parse_json(value)
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


def add_options(parser: argparse.ArgumentParser, flags: list[Flag]) -> None:
    "Flags below the titles of their groups."
    groups: dict[str, Any] = {"": parser}
    for flag in flags:
        title = flag.told.group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        add_flag(groups[title], flag)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    "All options of a run, in groups."
    main = parser.add_argument_group("run")
    main.add_argument("--preset", choices=tuple(PRESETS),
                      help="numbers that belong together; options change them (default 'default', for scenes 'demo')")
    main.add_argument("--out", type=Path,
                      help="run folder (default runs/NAME); an existing one is resumed with the options given")
    main.add_argument("--upto", choices=tuple(STAGE_TEXTS), metavar="STAGE", help=f"stop after this stage: {', '.join(STAGE_TEXTS)}")
    main.add_argument("--set", dest="settings", metavar="NAME=VALUE", type=read_setting, action="append", default=[],
                      help="any other field of the configuration, as in wood.margin=2")
    main.add_argument("--no-check", action="store_true", help="do not look at all pictures first (as wood check does)")
    main.add_argument("--check-workers", type=int, metavar="N", help="processes of that look (default: up to 4)")
    add_options(parser, options_of(RunConfig))


_CHECKED = ("data", "candidates", "candidates_list", "links", "labels", "classes", "others", "splits")


def check_flags() -> list[Flag]:
    "The options of a run that say which data it reads."
    return [flag for flag in options_of(RunConfig) if flag.sets[0] in _CHECKED]


def default_out(data: str) -> Path:
    "runs/NAME, by the name of the data's folder."
    place = data.partition(":")[2]
    return Path("runs") / ((Path(place).resolve().name if place else "") or data.partition(":")[0])


def starting_point(args: Namespace) -> RunConfig:
    "The configuration that options are put on top of."
    if args.preset is None and args.out is not None and (args.out / "run.json").is_file():
        return noted_config(args.out / "run.json")[1]
    if not getattr(args, "data", None):
        raise DataError("name the data: --data voc:FOLDER, csv:FOLDER or scenes:FOLDER")
    return preset(args.preset or ("demo" if args.data.startswith("scenes:") else "default"), args.data)


def configured(args: Namespace) -> RunConfig:
    "The configuration that parsed arguments ask for; sets `args.out` where it was left open."
    if args.out is None and getattr(args, "data", None):
        args.out = default_out(args.data)
    config = starting_point(args)
    for field, value in (*given(args, options_of(RunConfig)).items(), *args.settings):
        config = with_field(config, field, value)
    return with_seed(config)


SCENE_OPTIONS = {"train": (int, "training images"), "val": (int, "validation images"), "ood": (int, "OoD pictures"),
                 "pool": (int, "candidates"), "size": (int, "pixels of a side"), "seed": (int, "random seed"),
                 "co_occurrence": (float, "share of images with the usual context")}
