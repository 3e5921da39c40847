"""The result: a headline, a card per comparison, curves over thresholds, classes, and what to know before quoting"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.charts import Gain, Line, Stroke, gain_chart, interval_chart, line_chart
from ..base.html import Field, Html, table, tag
from .page import Section
from .run_data import BASELINE, Pair, ReportData, is_own, label_of, read_curves, scored, seed_rows
from ..maps.methods import HEAD, WOOD, colour_of, dash_of, method_name
from ..scores.bootstrap import Interval
from ..scores.rows import caption, one_decimal, signed, table_row
from ..scores.tables import PerClassTable, fields_of


def verdict(pair: Pair) -> str:
    "The result in one sentence."
    points, interval = pair.points, pair.interval
    theirs = label_of(pair.baseline)
    size = f"{one_decimal(abs(points))} points {'more' if points > 0 else 'less'} than {theirs}'s"
    if one_decimal(abs(points)) == "0.0":
        size = f"the same as {theirs}'s"
    open_ = interval is not None and interval.low <= 0 <= interval.high
    doubt = "; the images do not settle which is better" if open_ and size[0] != "t" else ""
    reached = f"{one_decimal(pair.other['miou'])} mIoU on {pair.other['split']}"
    return f"{label_of(pair.other)} seeds reach {reached}, {size}{doubt}"


def headline(data: ReportData, pairs: Sequence[Pair]) -> str:
    "One sentence for the top of the page."
    last = [p for p in pairs if p.other["split"] == data.split.name and is_own(data, p.other)]
    if last:
        return verdict(last[0])
    rows = [row for row in seed_rows(data) if row["split"] == data.split.name] or seed_rows(data)
    if rows:
        return f"{label_of(rows[0])} seeds reach {one_decimal(rows[0]['miou'])} mIoU on {rows[0]['split']}"
    return f"Localisation maps of {len(data.split)} images; without masks there are no scores"


def _reach_of(pairs: Sequence[Pair]) -> float:
    "A round number of points that all intervals lie within."
    ends = [100 * v for p in pairs if p.interval for v in (p.interval.low, p.interval.high)]
    most = max((abs(v) for v in [*ends, *(p.points for p in pairs)] if math.isfinite(v)), default=1)
    return next((r for r in (1, 2, 5, 10, 20, 50) if r >= most), 100)


def _interval_words(interval: Interval) -> str:
    "An interval in words."
    return f"{100 * interval.level:.0f} % interval {signed(100 * interval.low)} to {signed(100 * interval.high)}"


def _pair_card(pair: Pair, reach: float) -> Html:
    "Baseline, method, difference and interval of one split, with the facts they rest on."
    points, images = pair.points, pair.other.get("images")
    kind = "up" if points > 0 else "down"
    before, after = (f"{label_of(row)} {one_decimal(row['miou'])}" for row in (pair.baseline, pair.other))
    parts = [tag("div", pair.other["split"], f" · {images:,} images" if images else "", class_="soft"),
             tag("div", signed(points), " points", class_=f"big {kind}"), tag("div", f"{before} → {after}")]
    if pair.interval:
        words = _interval_words(pair.interval)
        ends = (100 * pair.interval.low, 100 * pair.interval.high)
        parts += [interval_chart(points, *ends, reach, f"{signed(points)} points, {words}"),
                  tag("div", words, class_="soft")]
    facts = caption([table_row(label_of(row), row) for row in (pair.baseline, pair.other)])
    return tag("div", *parts, tag("small", facts), class_="card")


def _cards(data: ReportData, pairs: Sequence[Pair]) -> Html:
    "A card per comparison, the last split first."
    reach = _reach_of(pairs)
    splits = list(dict.fromkeys(pair.other["split"] for pair in pairs))
    order = sorted(pairs, key=lambda pair: -splits.index(pair.other["split"]))
    return tag("div", [_pair_card(pair, reach) for pair in order], class_="cards fit")


def _yes_no(value: Any) -> str:
    "A fact that is true, false or not stated."
    return {True: "yes", False: "no"}.get(value, "not stated")


def _score_row(row: Mapping[str, Any]) -> list:
    "One row of `metrics.json`, with all that it rests on."
    number = [Field(one_decimal(v), v) for v in (row["miou"], row.get("precision"), row.get("recall"))]
    threshold = Field(None if row.get("threshold") is None else f"{row['threshold']:g}", row.get("threshold"))
    origin = "here" if row.get("measured") is not False else f"no: {row.get('source') or 'source not stated'}"
    facts = [str(row.get("seed", "not stated")), _yes_no(row.get("crf")), row.get("images"), origin]
    return [label_of(row), row.get("stage", "seed"), row["split"], *number, threshold,
            row.get("threshold_from") or "not stated", row.get("other_classes", "not stated"), *facts]


def _score_table(data: ReportData) -> Html:
    "All scores of the run."
    header = ["method", "stage", "split", *map(Field, ("mIoU", "precision", "recall", "threshold")),
              "threshold from", "other classes", "seed", "CRF", Field("images"), "measured"]
    note = "Scores in per cent, means over the classes present."
    return table(header, map(_score_row, scored(data)), note, sortable=True)


def _threshold_notes(data: ReportData) -> list[str]:
    "Where the thresholds come from."
    origins = {row.get("threshold_from"): row for row in scored(data) if row.get("threshold") is not None}
    found = []
    for origin, row in origins.items():
        if origin == "fixed":
            found.append(f"The threshold of the seeds was fixed beforehand at {row['threshold']:g}, without any mask.")
        elif origin:
            found.append(f"The threshold of each method is the best on {origin}: scores on that split are therefore "
                         "a little flattering. Masks played no part in training.")
    return found


def _pruning_note(config: Mapping[str, Any]) -> str:
    "Who decided which candidates are out of distribution."
    rule, counts = config.get("prune"), config.get("prune_counts")
    if rule == "auto":
        return ("Candidates were pruned by an automatic rule, not by a person: what scores like a typical picture of "
                "a class was dropped.")
    if rule == "none":
        return "Candidates were not pruned: pictures that contain a class are used as out-of-distribution as well."
    truth = "the drawn scenes' own truth, which no real pool has"
    by = truth if rule == "truth" else f"the list {Path(str(rule)).name}"
    what = {"run": "a class of this run", "voc": "any VOC class", "any": "anything at all"}.get(counts, "a class")
    return f"Candidates were pruned by {by}: what contains {what} was dropped, unsure entries included."


_FLAGS = {"leak_of": "nearly equal a training or validation image",
          "duplicate_of": "are nearly identical to another candidate"}


def _ood_notes(data: ReportData) -> list[str]:
    "What the use of OoD pictures rests on."
    if data.manifest is None:
        return ["The run had no candidates, so no out-of-distribution picture was used: there is only CAM."]
    found = [_pruning_note(data.config)]
    if data.config.get("mine") == "random":
        found.append("Control: the candidates were drawn at random, not chosen for being hard.")
    for kind, words in _FLAGS.items():
        if count := len(data.manifest.flags(kind)):
            found.append(f"Candidates that {words}: {count:,}. They are left out unless a person kept them.")
    if share := data.config.get("let_in"):
        found.append(f"On purpose, {100 * share:.0f} % of the dropped pictures were let in all the same.")
    if "continued" in data.logs:
        found.append("CAM is the classifier trained on for as many steps as W-OoD, from the same weights and without "
                     "OoD pictures, so that longer training explains nothing.")
    return found


def notes(data: ReportData) -> list[str]:
    "What to know before quoting the scores."
    dealt = {"ignore": "ignored", "background": "counted as background"}.get(data.others, data.others)
    found = _threshold_notes(data) + _ood_notes(data)
    if scored(data):
        found.append(f"Pixels of classes outside the run are {dealt}.")
    if len({row["seed"] for row in scored(data) if row.get("seed") is not None}) == 1:
        found.append("One random seed: the intervals are over images, not over trainings. Repeat with other seeds "
                     "before believing a small difference.")
    info = data.note.get("stages", {}).get("data", {}).get("info", {})
    return found + [note.rstrip(".") + "." for note in info.get("notes", [])]


def result_section(data: ReportData, pairs: Sequence[Pair]) -> Section:
    "Scores first, then what they rest on."
    told = tag("ul", [tag("li", note) for note in notes(data)], class_="plain")
    if not scored(data):
        return Section("result", "Result", [tag("p", "The data set has no masks, so seeds could not be scored."), told])
    more = tag("details", tag("summary", "All scores"), _score_table(data), open=not pairs)
    shown = _cards(data, pairs) if pairs else None
    return Section("result", "Result", [shown, more, tag("h3", "Before quoting these scores"), told])


_DASHES = {"-": (), "--": (6, 3), ":": (2, 3), "-.": (8, 3, 2, 3)}


def stroke_of(method: str) -> Stroke:
    "Colour and dashes of a method, as the registry has them: the same on the whole page and in every picture."
    dash = dash_of(method)
    return Stroke(colour_of(method), _DASHES[dash] if isinstance(dash, str) else tuple(2 * d for d in dash[1]))


def _curve_lines(data: ReportData, split: str, curves: Mapping[str, np.ndarray]) -> list[Line]:
    "The curves of a split, each with its score at the chosen threshold."
    rows = [row for row in seed_rows(data) if row["split"] == split and row.get("threshold") is not None]
    chosen = {row["method"]: row for row in reversed(rows)}
    lines = []
    for method, (x, y) in curves.items():
        row = chosen.get(method)
        mark = (row["threshold"], row["miou"]) if row else None
        name = f"{method_name(method)}{f' {one_decimal(mark[1])} at {mark[0]:g}' if mark else ''}"
        lines.append(Line(name, x, y, stroke_of(method), mark))
    return lines


def curve_section(data: ReportData) -> Section | None:
    "A chart of mIoU over thresholds for each split."
    charts = []
    for split, curves in read_curves(data.path / "curves.csv").items():
        lines = _curve_lines(data, split, curves)
        label = f"mIoU of seeds over thresholds on {split}: {'; '.join(line.name for line in lines)}"
        charts.append(tag("figure", tag("figcaption", split), line_chart(lines, "threshold", "mIoU (%)", label)))
    text = "Rings mark the thresholds that were used. A broad plateau forgives a badly chosen one."
    return Section("curves", "Thresholds", [tag("p", text), tag("div", charts, class_="charts")]) if charts else None


MAIN = WOOD  # the method whose gains are shown, where there are several


def _sortable_table(found: PerClassTable) -> Html:
    "IoU per class and method, the mean as the last row; it can be sorted."
    header, *body, mean = fields_of(found)
    return table(header, body, caption(found.rows), mean, sortable=True)


def _class_table(rows: Sequence[Mapping[str, Any]]) -> Html:
    "IoU per class of rows of one split, the baseline first."
    return _sortable_table(PerClassTable.from_results(sorted(rows, key=lambda row: row["method"] != BASELINE)))


def method_lines(found: PerClassTable) -> Html:
    "IoU per class, one method per line: for many methods."
    header, *body = fields_of(found, "paper")
    return table(header, body, caption(found.rows), sortable=True)


def class_gains(pair: Pair) -> dict[str, Gain]:
    "The difference per class with its interval, largest gain first; classes that are absent are left out."
    theirs, gains = pair.baseline["per_class"], {}
    for name, value in pair.other["per_class"].items():
        if value is None or theirs.get(name) is None:
            continue
        points, interval = value - theirs[name], pair.interval.per_class.get(name) if pair.interval else None
        known = interval is not None and math.isfinite(interval.low)
        gains[name] = Gain(points, signed(points), (100 * interval.low, 100 * interval.high) if known else None)
    return dict(sorted(gains.items(), key=lambda item: -item[1].value))


def _gains_figure(pair: Pair) -> Html:
    "Bars of the difference per class, with a caption."
    gains, names = class_gains(pair), f"{label_of(pair.other)} over {label_of(pair.baseline)}"
    label = f"Points of IoU of {names}: {', '.join(f'{name} {gain.text}' for name, gain in gains.items())}"
    words = f"{names} in points of IoU{', thin lines: 95 % intervals' if pair.interval else ''}"
    return tag("figure", gain_chart(gains, label), tag("figcaption", words))


def class_section(data: ReportData, pairs: Sequence[Pair]) -> Section | None:
    "A per-class table and the gains for each split, the last split first and open."
    own = [row for row in seed_rows(data) if is_own(data, row)]
    splits = list(dict.fromkeys(row["split"] for row in own))[::-1]
    parts = []
    for split in splits:
        compared = {p.other["method"] for p in pairs if is_own(data, p.other)}
        main = [p for p in pairs if p.other["method"] == (MAIN if MAIN in compared else HEAD) and is_own(data, p.other)]
        bars = [_gains_figure(p) for p in main if p.other["split"] == split]
        body = tag("div", _class_table([row for row in own if row["split"] == split]), bars, class_="charts")
        parts.append(tag("details", tag("summary", split), body, open=split == splits[0]))
    return Section("classes", "Classes", parts) if parts else None
