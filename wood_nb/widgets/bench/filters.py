"""The words of a filter: which candidates each of them holds for"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from math import isclose
from operator import ge, gt, le, lt

from ...ood.candidates import Candidate

_FIELDS: dict[str, Callable[[Candidate, str], str]] = {
    "class": lambda c, cluster: c.predicted, "cluster": lambda c, cluster: cluster, "is": lambda c, cluster: c.decision,
    "by": lambda c, cluster: c.by or "", "contains": lambda c, cluster: " ".join(c.contains),
    "flag": lambda c, cluster: "duplicate " * bool(c.duplicate_of) + "leak" * bool(c.leak_of)}


FILTERS = ", ".join(f"{name}:" for name in _FIELDS) + ", p>0.9; a minus before it means the opposite"


_NUMBER = re.compile(r"p(<=|>=|<|>|=)([0-9]*\.?[0-9]+)$")
_COMPARE: dict[str, Callable[[float, float], bool]] = {"<": lt, ">": gt, "<=": le, ">=": ge, "=": partial(isclose, rel_tol=1e-5)}


def holds(word: str, id: str, candidate: Candidate, cluster: str) -> bool:
    "Whether one word of a filter holds for a candidate."
    if word.startswith("-") and len(word) > 1:
        return not holds(word[1:], id, candidate, cluster)
    if number := _NUMBER.match(word):
        return _COMPARE[number[1]](candidate.p, float(number[2]))
    key, _, value = word.partition(":")
    if value and key in _FIELDS:
        return value in _FIELDS[key](candidate, cluster).casefold()
    fields = (id, candidate.predicted, cluster, candidate.decision, *candidate.contains)
    return any(word in text.casefold() for text in fields)
