"""What the maps lie on: their weight on the object and on each context, by class and method, with a typical picture of each class"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ..base.html import Html, fitted, table, tag
from ..maps.cam import overlay
from ..maps.methods import HEAD, method_name
from ..scores.context import OBJECT, Contexts, MapShares, context_chart, context_colour, context_lines, context_shares, context_table, moves
from .maps import SIDE, panel
from .page import Section
from .result import MAIN
from .run_data import BASELINE, ReportData

_ABOUT = ("How much of a map's weight lies on the object, and how much on what is around it, in per cent: means over the pictures of "
          "{split} that show the class. No threshold plays a part. The first piece of each bar is the object, in the colour of the method.")
_TYPICAL = ("For each class the picture whose shares under {method} are nearest to the mean of the class, with the outlines of its "
            "contexts. It was not chosen for how well it came out.")


def _pair(methods: Sequence[str]) -> list[str]:
    "The methods to show as before and after."
    after = [method for method in (MAIN, HEAD) if method in methods][:1]
    return [method for method in (BASELINE, *after) if method in methods] or list(methods)[:2]


def _resized(pixels: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    "An array `[H, W]` at PIL `size` (W, H)."
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def _legend(around: np.ndarray, contexts: Contexts) -> list[Html]:
    "The contexts of a picture with their colours."
    names = [contexts.names[value - 1] for value in np.unique(around) if value]
    return [tag("span", tag("span", class_="chip", style=f"background:{context_colour(contexts, name)}"), name, " ") for name in names]


def _words(shares: MapShares, name: str, id: str, place: str | None) -> str:
    "The shares of one map on its object and on the main context of its class."
    each = shares.images[name].get(id)
    if each is None:
        return "zero everywhere"
    found = {where: 100 * float(each[shares.places.index(where)]) for where in (OBJECT, *([place] if place else []))}
    return ", ".join(f"{share:.0f} % on {name if where == OBJECT else where}" for where, share in found.items())


def _class_row(data: ReportData, contexts: Contexts, found: Mapping[str, MapShares], name: str) -> Html:
    "The typical picture of a class with the outlines of its contexts, and its map by each method."
    first = next(iter(found.values()))
    id, place, key = first.typical(name), first.main_context(name), data.split.classes.index(name)
    index = data.split.ids.index(id)
    image, around = fitted(data.split.image(index), SIDE), contexts.read(data.split[index])
    lines = _resized(around, image.size, Image.Resampling.NEAREST)
    panels = [panel(Image.fromarray(context_lines(np.asarray(image), lines, contexts)), f"contexts of {id}", _legend(around, contexts))]
    for method, shares in found.items():
        maps = data.maps[method][id]
        heat = _resized(maps.at_full_size()[maps.keys.tolist().index(key)], image.size, Image.Resampling.BILINEAR)
        words = f"{method_name(method)}: {_words(shares, name, id, place)}"
        drawn = Image.fromarray(context_lines(overlay(image, heat), lines, contexts))
        panels.append(panel(drawn, f"map of {name} in {id}, {words}", words))
    return tag("figure", tag("figcaption", tag("b", name), " ", tag("code", id)), tag("div", panels), class_="row")


def _left_out(found: Mapping[str, MapShares]) -> str:
    "What was not counted, in words; '' if nothing was left out."
    told = []
    if without := next(iter(found.values())).without:
        told.append(f"Images without a context mask, left out: {without:,}.")
    for method, each in found.items():
        if each.empty:
            told.append(f"Maps of {method_name(method)} that are zero everywhere, not counted: {sum(each.empty.values()):,}.")
    return " ".join(told)


def context_section(data: ReportData) -> Section | None:
    "Shares as sentences, a chart, a table and pictures; nothing if the data have no context masks."
    if data.contexts is None or not data.maps:
        return None
    found = context_shares(data.split, data.maps, data.contexts)
    if not all(each.classes for each in found.values()):
        return None
    pair = _pair(list(found))
    parts = [tag("p", _ABOUT.format(split=data.split.name), " ", _left_out(found))]
    if len(pair) > 1:
        lines = [tag("li", line) for line in moves(found[pair[0]], found[pair[1]])]
        parts += [tag("h3", f"From {method_name(pair[0])} to {method_name(pair[1])}"), tag("ul", lines, class_="plain")]
    numbers = context_table(found)
    parts.append(tag("figure", tag("div", context_chart(found, data.contexts, width=1000)), class_="map"))
    parts.append(tag("details", tag("summary", "All shares"), table(numbers.columns, numbers.rows, sortable=True)))
    shown = {method: found[method] for method in pair}
    rows = [_class_row(data, data.contexts, shown, name) for name in found[pair[0]].classes]
    return Section("contexts", "What the maps lie on", [*parts, tag("p", _TYPICAL.format(method=method_name(pair[0]))), *rows])
