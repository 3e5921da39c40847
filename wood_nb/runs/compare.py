"""Two runs, or two methods of one, class by class: the difference, and an interval that says whether to believe it"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.files import DataError
from ..maps.methods import CAM, HEAD, WOOD, method_name
from ..scores.bootstrap import Interval, bootstrap_difference, pair_counts, read_counts
from ..scores.rows import caption, one_decimal, read_results, signed, table_row
from .run import Run


class Side(NamedTuple):
    "One side of a comparison: a row of metrics.json, and the per-image counts behind it."
    run: Run
    row: dict
    ids: list[str]
    counts: np.ndarray  # int64 [images, C + 1, 3]


def rows_of(run: Run) -> list[dict]:
    "The seed rows of a run that have per-image counts."
    rows = read_results(run.path / "metrics.json")
    return [row for row in rows if row["stage"] == "seed"
            and row.get("other_classes", run.config.others) == run.config.others]


def find_side(run: Run, method: str, split: str) -> Side:
    "The scores of a method on a split, with their counts; an error says what there is instead."
    rows = rows_of(run)
    found = [row for row in rows if (row["method"], row["split"]) == (method, split)]
    if not found:
        known = ", ".join(f"{row['method']} on {row['split']}" for row in rows) or "no scores (does it have masks?)"
        raise DataError(f"{run.path}: no scores of {method} on {split}; there are {known}")
    ids, counts, _ = read_counts(place := run.path / "eval" / f"{method}-{split}.npz")
    if counts.shape[1] != len(found[0]["per_class"]):
        raise DataError(f"{place}: counts of {counts.shape[1]} classes, but metrics.json has {len(found[0]['per_class'])}; "
                        "run the stage 'seeds' again")
    return Side(run, found[0], ids, counts)


def choose_sides(runs: Sequence[Run], methods: Sequence[str] | None, method: str | None,
                 split: str | None) -> tuple[Side, Side]:
    "The two sides that the words on the command line mean."
    if len(runs) == 1:
        scored = {row["method"] for row in rows_of(runs[0])}
        pairs = [(runs[0], name) for name in methods or (CAM, HEAD if HEAD in scored and WOOD not in scored else WOOD)]
    else:
        both = [row["method"] for row in rows_of(runs[0]) if row["method"] in {r["method"] for r in rows_of(runs[1])}]
        name = method or (both[0] if both and WOOD not in both else WOOD)
        pairs = list(zip(runs, methods or (name, name)))
    split = split or pairs[0][0].config.splits[-1]
    first, second = (find_side(run, name, split) for run, name in pairs)
    if list(first.row["per_class"]) != list(second.row["per_class"]):
        raise DataError(f"{second.run.path}: other classes than {first.run.path}; compare runs with the same classes")
    return first, second


def side_names(first: Side, second: Side) -> tuple[str, str]:
    "Short names that tell the sides apart: by method, by run, or by both."
    methods = [method_name(side.row["method"]) for side in (first, second)]
    runs = [side.run.path.resolve().name for side in (first, second)]
    if first.run.path == second.run.path:
        return methods[0], methods[1]
    runs = runs if runs[0] != runs[1] else [str(side.run.path) for side in (first, second)]
    return (runs[0], runs[1]) if methods[0] == methods[1] else (f"{runs[0]} {methods[0]}", f"{runs[1]} {methods[1]}")


def interval_text(interval: Interval) -> str:
    "'+1.2 to +3.4', a dash where the class is absent."
    return "–" if interval.low != interval.low else f"{signed(100 * interval.low)} to {signed(100 * interval.high)}"


def compare_rows(first: Side, second: Side, draws: int = 2000) -> tuple[list[list[str]], int]:
    "A line per class and one for the mean: both scores, difference, interval; and the number of common images."
    shared, ours, theirs = pair_counts(second.ids, second.counts, first.ids, first.counts)
    interval = bootstrap_difference(ours, theirs, draws, names=list(second.row["per_class"]))
    rows = []
    for name, value in second.row["per_class"].items():
        before = first.row["per_class"][name]
        points = None if value is None or before is None else value - before
        rows.append([name, one_decimal(before), one_decimal(value), signed(points), interval_text(interval.per_class[name])])
    means = (first.row["miou"], second.row["miou"])
    points = None if None in means else means[1] - means[0]
    return [*rows, ["mean", *map(one_decimal, means), signed(points), interval_text(interval)]], len(shared)


def context_rows(first: Side, second: Side, folders: Sequence[Path]) -> tuple[list[list[str]], int]:
    """Two lines per class, the share of its maps (in these folders) on the object and on its main context in per cent; and over how
    many common images. No lines without context masks."""
    from ..maps.cam import iterate_maps, with_maps
    from ..scores.context import OBJECT, context_shares, find_contexts

    split = second.run.split(second.row["split"])
    if (contexts := find_contexts(split, second.run.config.contexts)) is None:
        return [], 0
    split = with_maps(split, *folders)
    maps = {str(folder): {split[n].id: found for n, found in iterate_maps(split, folder)} for folder in folders}
    before, after = (context_shares(split, maps, contexts)[str(folder)] for folder in folders)
    rows = []
    for label in (label for label in before.classes if label in after.classes):
        for place in filter(None, (OBJECT, before.main_context(label))):
            shares = [100 * side.share(label, place) for side in (before, after)]
            rows.append([f"{label} on {place}", *map(one_decimal, shares), signed(shares[1] - shares[0])])
    return rows, len(split) - before.without


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    "A Markdown table, padded so that a terminal shows it well."
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(header))]
    padded = [[v.rjust(w) if n else v.ljust(w) for n, (v, w) in enumerate(zip(line, widths))] for line in lines]
    text = [f"| {' | '.join(line)} |" for line in padded]
    text.insert(1, "|" + "|".join("-" * (w + 1) + (":" if n else "-") for n, w in enumerate(widths)) + "|")
    return "\n".join(text)


def context_text(first: Side, second: Side, names: Sequence[str]) -> str:
    "What the maps of both sides lie on, as a table; '' without maps or context masks."
    folders = [side.run.path / "maps" / side.row["method"] / side.row["split"] for side in (first, second)]
    if not all(folder.is_dir() for folder in folders):
        return ""
    try:
        rows, images = context_rows(first, second, folders)
    except DataError as error:  # the scores hold without the data they were measured on
        return f"\n\nWhat the maps lie on could not be measured: {error}"
    if not rows:
        return ""
    title = f"What the maps lie on, in per cent of their weight, over {images} images with context masks:"
    return f"\n\n{title}\n\n{text_table(['map of', *names, 'difference'], rows)}"


def compare_text(first: Side, second: Side, draws: int = 2000) -> str:
    "The comparison as text: a table, and the facts that the scores rest on."
    names, (rows, common) = side_names(first, second), compare_rows(first, second, draws)
    facts = caption([table_row(name, side.row) for name, side in zip(names, (first, second))])
    seen = "" if common == len(first.ids) == len(second.ids) else \
        f" Intervals: over the {common} images in common; scores: over {len(first.ids)} and {len(second.ids)}."
    return (f"{text_table(['class', *names, 'difference', '95 % interval'], rows)}\n\n{facts}{seen}"
            f"{context_text(first, second, names)}")
