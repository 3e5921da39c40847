"""A whole run on one page: the figures and what they rest on, the pictures they come from, and everything that was left out"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..base.charts import Line, line_chart
from ..base.html import Field, Html, bar, duration, table, tag
from .page import Section
from .run_data import ReportData


STAGE_NAMES = {"classifier": "Classifier", "continued": "Continued without OoD pictures (the control)",
               "wood": "W-OoD"}


TERM_NAMES = {"loss": "total", "loss/cls": "classification", "loss/ood": "zero labels", "loss/distance": "distance"}


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    "Running mean over `window` values (fewer at the ends), float64 `[n]`."
    ones, values = np.ones(max(1, window)), np.asarray(values, float)
    sums, counts = (np.convolve(v, ones, "same")[:len(v)] for v in (values, np.ones(len(values))))
    return sums / counts


def term_lines(rows: Sequence[Mapping[str, float]], terms: Sequence[str], most: int = 300) -> list[Line]:
    "Lines of some loss terms: smoothed, thinned out to `most` points, raw values behind."
    every, window = max(1, -(-len(rows) // most)), min(len(rows), max(1, len(rows) // 25) | 1)
    steps, lines = [row["step"] for row in rows][::every], []
    for n, term in enumerate(terms):
        raw = [row.get(term, math.nan) for row in rows]
        name, style = TERM_NAMES.get(term, term), f"s{n % 5}"
        lines.append(Line(name, steps, smoothed(raw, window)[::every], style, None, raw[::every]))
    return lines


def terms_of(rows: Sequence[Mapping[str, float]]) -> list[str]:
    "The loss terms of a log; the total only where it is more than its one part."
    parts = [key for key in dict.fromkeys(key for row in rows for key in row) if key.startswith("loss/")]
    return ["loss"] if len(parts) == 1 else ["loss", *parts]


def log_figure(stage: str, rows: Sequence[Mapping[str, float]]) -> Html:
    "Charts of one training, and how long and fast it was."
    terms, name = terms_of(rows), STAGE_NAMES.get(stage, stage)
    groups = [[t for t in terms if (t == "loss/distance") == apart] for apart in (False, True)]
    charts = [line_chart(term_lines(rows, group), "step", "loss", f"{name}: {', '.join(group)} over {len(rows)} steps",
                         zero=group != ["loss/distance"], height=230) for group in groups if group]
    speeds, last = [row["images_per_s"] for row in rows if row.get("images_per_s")], rows[-1]
    words = [f"{last['step']:,} steps", f"{last['epoch']:g} passes" if "epoch" in last else "",
             f"{median(speeds):.0f} images/s" if speeds else "",
             f"final loss {np.mean([row['loss'] for row in rows[-20:]]):.4f}"]
    facts = tag("figcaption", " · ".join(filter(None, words)))
    return tag("figure", tag("h3", name), facts, tag("div", charts, class_="charts"))


def training_section(data: ReportData) -> Section | None:
    "The training curves of every stage."
    figures = [log_figure(stage, rows) for stage, rows in data.logs.items() if rows]
    return Section("training", "Training", tag("div", figures, class_="charts")) if figures else None


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    "Nested options as one level: `augment.crop`."
    found = {}
    for key, value in config.items():
        found |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def plain(value: Any) -> str:
    "An option as people write it."
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def options(title: str, content: Mapping[str, Any]) -> Html:
    "A list of names and values under a title."
    pairs = [(tag("dt", key), tag("dd", plain(value))) for key, value in flattened(content).items()]
    return tag("div", tag("h3", title), tag("dl", pairs))


def config_lists(data: ReportData) -> Html:
    "The configuration: the run's own options, then those of its trainings."
    own = {key: value for key, value in data.config.items() if not isinstance(value, Mapping)}
    nested = {key: value for key, value in data.config.items() if isinstance(value, Mapping) and value}
    if isinstance(nested.get("wood"), Mapping) and "train" in nested["wood"]:
        nested["wood"] = dict(nested["wood"])
        nested["W-OoD training"] = nested["wood"].pop("train")
    titles = {"classifier": "Classifier training", "wood": "W-OoD", "scenes": "Scenes"}
    lists = [options(titles.get(key, key), value) for key, value in nested.items()]
    return tag("div", options("Run", own), lists, options("Versions", data.note.get("versions", {})), class_="cards")


def remembered(info: Mapping[str, Any]) -> str:
    "What a stage noted, in a line; longer lists stand elsewhere."
    short = {key: value for key, value in flattened(info).items() if not isinstance(value, (list, dict))}
    return ", ".join(f"{key} {plain(value)}" for key, value in short.items())


def timing_table(note: Mapping[str, Any]) -> Html:
    "The stages with the time each took and what it noted."
    stages = {name: stage for name, stage in note.get("stages", {}).items() if stage.get("seconds") is not None}
    total, rows = sum(stage["seconds"] for stage in stages.values()), []
    for name, stage in stages.items():
        seconds, finished = stage["seconds"], (stage.get("finished") or "")[:16].replace("T", " ")
        time = Field(bar(seconds / max(total, 1e-9), duration(seconds)), seconds)
        rows.append([name, time, finished, remembered(stage.get("info") or {})])
    header, foot = ["stage", Field("time"), "finished (UTC)", "noted"], ["all", Field(duration(total), total), "", ""]
    return table(header, rows, foot=foot)


def skipped_list(note: Mapping[str, Any], root: str = "", most: int = 40) -> list[Html]:
    "What could not be used and why; at most `most` are named, all are counted."
    skipped = note.get("skipped", [])
    if not skipped:
        return [tag("p", "Nothing was skipped: every file that the run looked at could be read.")]
    files = [str(row["file"]).removeprefix(root).lstrip("/") for row in skipped[:most]]
    rows = [[row.get("stage", "–"), tag("code", file), str(row["why"])] for row, file in zip(skipped, files)]
    more = f" The first {most} are listed; all are in run.json." if len(skipped) > most else ""
    listed = tag("div", table(["stage", "file", "why"], rows), class_="wide")
    return [tag("p", f"{len(skipped):,} files were skipped.{more}"), listed]


def run_section(data: ReportData) -> Section:
    "Configuration, versions, timings, command."
    command = data.note.get("command")
    typed = tag("p", "Command: ", tag("code", command)) if command else None
    folded = tag("details", tag("summary", "Configuration and versions"), config_lists(data), open=True)
    return Section("run", "This run", [typed, tag("h3", "Time"), timing_table(data.note), folded])


def skipped_section(data: ReportData) -> Section:
    "What was skipped and why."
    root = str(Path(data.pool[0].image).parent) if data.pool is not None and len(data.pool) else ""
    return Section("skipped", "Skipped", skipped_list(data.note, root))
