"""What a file may hold: kinds of values, looked at as the file is read, so that a fault is told where it lies

A kind is a function (value, place) -> the fault in words, or None. `record`, `table` and `many` put kinds together, `kind_of` makes
one from a type hint, `Array` says what an array of an `.npz` must be. Nothing is read here."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

if TYPE_CHECKING:  # whoever only reads JSON need not wait for arrays
    import numpy as np

Kind = Callable[[Any, str], str | None]
HUGE = 1e300  # numbers beyond it are taken for a fault, as are NaN and infinity
DEEPEST = 64  # how deep lists and objects may lie within each other


def shown(value: Any) -> str:
    "A value as a message shows it: short, and on one line."
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 10 ** 30:
        return "a huge number"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _within(place: str, key: str) -> str:
    "The place of `key` in the object at `place`."
    name = key if key.isprintable() and len(key) <= 40 and "." not in key else shown(key)
    return f"{place}.{name}" if place else name


def simple(words: str, fits: Callable[[Any], bool]) -> Kind:
    "A kind that is one test; `words` say what the value must be."
    def look(value: Any, place: str) -> str | None:
        return None if fits(value) else f"{place or 'the content'} is {shown(value)}, not {words}"
    return look


def anything(value: Any, place: str) -> str | None:
    "Any value."
    return None


TEXT = simple("text", lambda value: isinstance(value, str))
FLAG = simple("true or false", lambda value: isinstance(value, bool))


def number(low: float = -HUGE, high: float = HUGE) -> Kind:
    "A finite number in a range."
    words = "a number" if (low, high) == (-HUGE, HUGE) else f"a number from {low:g} " + ("on" if high == HUGE else f"to {high:g}")
    return simple(words, lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high)


def whole(low: int = -2 ** 63, high: int = 2 ** 63 - 1) -> Kind:
    "A whole number in a range."
    words = "a whole number" + (f", at least {low}" if low > -2 ** 63 else "") + (f", at most {high}" if high < 2 ** 63 - 1 else "")
    return simple(words, lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high)


def one_of(*values: Any) -> Kind:
    "One of these values."
    return simple(" or ".join(map(repr, values)), lambda value: any(value == v and type(value) is type(v) for v in values))


def maybe(kind: Kind) -> Kind:
    "This kind, or null."
    return lambda value, place: None if value is None else kind(value, place)


def either(*kinds: Kind) -> Kind:
    "One of these kinds; the fault that is told is that of the first."
    def look(value: Any, place: str) -> str | None:
        faults = [kind(value, place) for kind in kinds]
        return None if None in faults else faults[0]
    return look


def many(kind: Kind, length: int | None = None) -> Kind:
    "A list of this kind, of a certain length if one is given."
    def look(value: Any, place: str) -> str | None:
        if not isinstance(value, (list, tuple)) or length not in (None, len(value)):
            return f"{place or 'the content'} is {shown(value)}, not a list{'' if length is None else f' of {length}'}"
        return next((fault for n, one in enumerate(value) if (fault := kind(one, f"{place}[{n}]"))), None)
    return look


def row_of(*kinds: Kind) -> Kind:
    "A list with one value of each of these kinds."
    def look(value: Any, place: str) -> str | None:
        fault = many(anything, len(kinds))(value, place)
        parts = () if fault else enumerate(zip(kinds, value))
        return fault or next((wrong for n, (kind, one) in parts if (wrong := kind(one, f"{place}[{n}]"))), None)
    return look


def table(kind: Kind) -> Kind:
    "An object with any keys, its values of this kind."
    def look(value: Any, place: str) -> str | None:
        if not isinstance(value, dict):
            return f"{place or 'the content'} is {shown(value)}, not an object"
        return next((fault for key, one in value.items() if (fault := kind(one, _within(place, key)))), None)
    return look


def record(needed: Mapping[str, Kind], also: Mapping[str, Kind] | None = None, closed: bool = False) -> Kind:
    "An object with the keys `needed`, and perhaps those of `also`; other keys are let be, or refused by name if it is `closed`."
    known = {**needed, **(also or {})}

    def look(value: Any, place: str) -> str | None:
        if not isinstance(value, dict):
            return f"{place or 'the content'} is {shown(value)}, not an object"
        if missing := [key for key in needed if key not in value]:
            return f"{_within(place, missing[0])} is missing"
        if closed and (strange := [key for key in value if key not in known]):
            return f"{_within(place, strange[0])} is not known; known are {', '.join(known)}"
        return next((fault for key, kind in known.items() if key in value and (fault := kind(value[key], _within(place, key)))), None)
    return look


_SIMPLE: dict[Any, Kind] = {bool: FLAG, int: whole(), float: number(), str: TEXT, Any: anything, types.NoneType: one_of(None)}


def kind_of(hint: Any) -> Kind:
    "The kind of a type hint: numbers, text, `X | None`, tuples and lists, dictionaries; what else there is fits anything."
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        own = sorted(inside, key=lambda part: part is types.NoneType)
        return either(*map(kind_of, own))
    if origin is tuple and Ellipsis not in inside:
        return row_of(*map(kind_of, inside))
    if origin in (tuple, list):
        return many(kind_of(inside[0]))
    if (origin or hint) is dict:
        return table(kind_of(inside[1]) if inside else anything)
    return _SIMPLE.get(hint, anything)


def content_fault(content: Any, finite: bool = False) -> str | None:
    "What no content may be: lists and objects more than `DEEPEST` deep within each other; numbers that are not `finite`, if asked."
    level = [content]
    for _ in range(DEEPEST):
        level = [child for one in level if isinstance(one, (dict, list)) for child in (one.values() if isinstance(one, dict) else one)]
        if finite and any(isinstance(child, float) and not -HUGE <= child <= HUGE for child in level):
            return "a number that is not finite"
        if not level:
            return None
    return "lists or objects nested too deep"


@dataclass(frozen=True)
class Array:
    "What an array must be: numpy's letters for its type (`f` float, `iu` whole, `U` text), its shape, the range of its values."
    letters: str
    shape: Sequence[int | str]  # a name stands for one size in all arrays of the file
    low: float | None = None  # None: values are not looked at
    high: float = HUGE
    needed: bool = True


def header_fault(found: Mapping[str, tuple[np.dtype, tuple[int, ...]]], wanted: Mapping[str, Array]) -> str | None:
    "What is wrong with arrays by name -> (dtype, shape), looked at before a number of them is read."
    sizes: dict[str, int] = {}
    for name, rule in wanted.items():
        if name not in found:
            if rule.needed:
                return f"no array '{name}' in this file"
            continue
        dtype, shape = found[name]
        fits = len(shape) == len(rule.shape) and all(
            size == (want if isinstance(want, int) else sizes.setdefault(want, size)) for size, want in zip(shape, rule.shape))
        if dtype.kind not in rule.letters or not fits:
            names = {"f": "float", "i": "int", "u": "unsigned", "U": "text", "b": "bool"}
            wish = " or ".join(names[letter] for letter in rule.letters)
            known = [str(sizes.get(want, want) if isinstance(want, str) else want) for want in rule.shape]
            return f"array '{name}' is {str(dtype)[:20]} {list(shape)}, not {wish} [{', '.join(known)}]"
    return None


def value_fault(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Array]) -> str | None:
    "What is wrong with the values of arrays of the right types and shapes: out of range, infinite or not a number."
    for name, rule in wanted.items():
        array = arrays.get(name)
        if array is None or rule.low is None or not array.size:
            continue
        low, high = array.min().item(), array.max().item()
        if not rule.low <= low <= high <= rule.high:
            bounds = "finite" if rule.low == -HUGE else f"from {rule.low:g} " + ("on" if rule.high == HUGE else f"to {rule.high:g}")
            return f"array '{name}' holds values from {low:g} to {high:g}; they must be {bounds}"
    return None

