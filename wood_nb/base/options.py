"""An option is told once: the field of a dataclass carries its flag, its help, its choices and how its text is read

`option` and `nested` make fields; `options_of` lists what a dataclass, with all that is nested in it, can be asked for.
The command line is made from that list; nothing here knows of a command.
"""

import argparse
import json
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

Reader = Callable[[str], Any]


def names(text: str) -> tuple[str, ...]:
    "Words separated by commas."
    return tuple(word.strip() for word in text.split(",") if word.strip())


def positive_numbers(text: str) -> tuple[float, ...]:
    "Positive numbers separated by commas."
    values = tuple(float(word) for word in names(text))
    if not values or min(values) <= 0:
        raise ArgumentTypeError(f"'{text}': give positive numbers")
    return values


def positive(text: str) -> int:
    "A whole number, at least 1."
    if int(text) < 1:
        raise ArgumentTypeError(f"'{text}': give a whole number, at least 1")
    return int(text)


def or_none(text: str) -> str | None:
    "Text, or nothing for 'none'."
    return None if text.lower() == "none" else text


def how_many(text: str) -> int | None:
    "A number, at least 0, or None for 'all'."
    if text == "all":
        return None
    if not text.isdecimal():
        raise ArgumentTypeError(f"'{text}': give a number, or all")
    return int(text)


@dataclass(frozen=True)
class Option:
    "What the field of a dataclass says of itself."
    help: str
    flag: str | None = None  # None: the name of the field
    read: Reader | None = None  # None: the type of the default
    choices: tuple[str, ...] | None = None
    group: str = ""
    shared: bool = False  # one flag sets this field in all the dataclasses of this kind
    switch: bool = False  # the flag takes no value and turns the default round


@dataclass(frozen=True)
class Nested:
    "What a field that holds another dataclass says of the options in it."
    prefix: str = ""  # of their flags
    of: str = ""  # whose they are, in words


def option(default: Any, help: str, **told: Any) -> Any:
    "A field with a default, and with what the command line has to know of it (see `Option`)."
    kept = {"default": default} if default is not MISSING else {}
    return field(**kept, metadata={"option": Option(help, switch=isinstance(default, bool), **told)})


def nested(kind: type, **told: Any) -> Any:
    "A field that holds a dataclass with options of its own (see `Nested`)."
    return field(default_factory=kind, metadata={"nested": Nested(**told)})


@dataclass(frozen=True)
class Flag:
    "A flag of the command line, and the fields it sets, as in `wood.train.lr`."
    flag: str
    sets: tuple[str, ...]
    told: Option
    default: Any

    @property
    def key(self) -> str:
        "Its name among the parsed arguments."
        return self.flag[2:].replace("-", "_")

    @property
    def help(self) -> str:
        "Its help, with the default if that says something."
        silent = "default" in self.told.help or self.default in (None, (), "", MISSING) or self.told.switch
        return (self.told.help if silent else f"{self.told.help} (default {_typed(self.default)})").replace("%", "%%")


def _typed(value: Any) -> str:
    "A default as one would type it."
    if isinstance(value, tuple):
        return ",".join(map(_typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _own_flag(f: Field, way: str, inside: Nested) -> Flag:
    "The flag of one field, which may lie in a nested dataclass."
    told = f.metadata["option"]
    name = told.flag or f"--{f.name.replace('_', '-')}"
    if told.shared:
        return Flag(name, (f"{way}{f.name}",), told, f.default)
    words = Option(**{**vars(told), "help": f"{told.help}, {inside.of}"}) if inside.of else told
    return Flag(f"--{inside.prefix}-{name[2:]}" if inside.prefix else name, (f"{way}{f.name}",), words, f.default)


def _flags(kind: type, way: str, inside: Nested) -> Iterable[Flag]:
    for f in fields(kind):
        if "option" in f.metadata:
            yield _own_flag(f, way, inside)
        elif "nested" in f.metadata:
            kind_inside: Any = f.default_factory  # a nested dataclass is its own factory
            yield from _flags(kind_inside, f"{way}{f.name}.", f.metadata["nested"])


def options_of(kind: type) -> list[Flag]:
    "All flags of a dataclass, in the order of its fields; a shared flag stands once and sets several fields."
    found: dict[str, Flag] = {}
    for flag in _flags(kind, "", Nested()):
        before = found.get(flag.flag)
        found[flag.flag] = Flag(flag.flag, before.sets + flag.sets, before.told, before.default) if before else flag
    return list(found.values())


def _metavar(flag: Flag, read: Reader) -> str | None:
    if flag.told.choices:
        return None
    return "X" if read in (int, float, positive) else "TEXT"


def add_flag(group: Any, flag: Flag) -> None:
    "Hand one flag to argparse; what is not given leaves no trace among the arguments."
    words: dict[str, Any] = {"dest": flag.key, "default": argparse.SUPPRESS, "help": flag.help}
    if flag.told.switch:
        group.add_argument(flag.flag, action="store_const", const=not flag.default, **words)
        return
    read = flag.told.read or (type(flag.default) if isinstance(flag.default, (int, float, str)) else str)
    group.add_argument(flag.flag, type=read, choices=flag.told.choices, metavar=_metavar(flag, read), **words)


def given(args: argparse.Namespace, flags: Iterable[Flag]) -> dict[str, Any]:
    "Field -> value, for the flags that were given."
    return {name: getattr(args, flag.key) for flag in flags if flag.key in args for name in flag.sets}


def completed(old: dict, defaults: dict) -> dict:
    "A configuration (as a dict) with the defaults of the options that it lacks, because they came later."
    def one(key: str, value: Any) -> Any:
        both = isinstance(value, dict) and isinstance(defaults.get(key), dict)
        return completed(value, defaults[key]) if both else value
    return {**defaults, **{key: one(key, value) for key, value in old.items()}}


def changed_options(old: dict, new: dict, prefix: str = "") -> list[str]:
    "What differs between two configurations (as dicts), as 'wood.tau 0.2 -> 0.3'."
    found = []
    for key in new:
        if isinstance(new[key], dict) and isinstance(old.get(key), dict):
            found += changed_options(old[key], new[key], f"{prefix}{key}.")
        elif json.loads(json.dumps(new[key])) != old.get(key):
            found.append(f"{prefix}{key} {old.get(key)} -> {new[key]}")
    return found
