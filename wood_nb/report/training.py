"""The trainings and the run itself: loss curves, configuration, versions, timings, and what was skipped"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from ..base.charts import Line, line_chart
from ..base.html import Field, Html, bar, duration, table, tag
from ..maps.methods import ALSO, CAM, CLASSIFIER, METHODS, WOOD, method_name
from ..train.loop import smooth
from .page import Section
from .run_data import ReportData


_STAGE_NAMES = {CLASSIFIER: "Classifier", METHODS[CAM].trains: "Continued without OoD pictures (the control)",
                WOOD: METHODS[WOOD].label}


_TERM_NAMES = {"loss": "total", "loss/cls": "classification", "loss/ood": "zero labels", "loss/distance": "distance",
               "loss/min": "lowest quarter", "loss/er": "views apart (ER)", "loss/ecr": "views apart after PCM (ECR)"}


def _term_lines(rows: Sequence[Mapping[str, float]], terms: Sequence[str], most: int = 300) -> list[Line]:
    "Lines of some loss terms: smoothed, thinned out to `most` points, raw values behind."
    lines = []
    for n, term in enumerate(terms):
        steps, raw = zip(*[(row["step"], row[term]) for row in rows if term in row])
        every = max(1, -(-len(raw) // most))
        window = min(len(raw), max(1, len(raw) // 25))
        name = _TERM_NAMES.get(term, term)
        lines.append(Line(name, steps[::every], smooth(raw, window)[::every], f"s{n % 5}", raw=raw[::every]))
    return lines


def _terms_of(rows: Sequence[Mapping[str, float]]) -> list[str]:
    "The loss terms of a log; the total only where it is more than its one part."
    parts = [key for key in dict.fromkeys(key for row in rows for key in row) if key.startswith("loss/")]
    return ["loss"] if len(parts) == 1 else ["loss", *parts]


def training_name(stage: str) -> str:
    "How a training is called in reports, by its folder in the run: as 'classifier', 'also/seam'."
    return _STAGE_NAMES.get(stage) or method_name(stage.removeprefix(f"{ALSO}/"))


def _log_figure(stage: str, rows: Sequence[Mapping[str, float]]) -> Html:
    "Charts of one training, and how long and fast it was."
    terms = _terms_of(rows)
    name = training_name(stage)
    groups = [[t for t in terms if (t == "loss/distance") == apart] for apart in (False, True)]
    charts = [line_chart(_term_lines(rows, group), "step", "loss", f"{name}: {', '.join(group)} over {len(rows)} steps",
                         zero=group != ["loss/distance"], height=230) for group in groups if group]
    speeds, last = [row["images_per_s"] for row in rows if row.get("images_per_s")], rows[-1]
    words = [f"{last['step']:,} steps", f"{last['epoch']:g} passes" if "epoch" in last else "",
             f"{median(speeds):.0f} images/s" if speeds else "",
             f"final loss {mean(row['loss'] for row in rows[-20:]):.4f}"]
    facts = tag("figcaption", " · ".join(filter(None, words)))
    return tag("figure", tag("h3", name), facts, tag("div", charts, class_="charts"))


def training_section(data: ReportData) -> Section | None:
    "The training curves of every stage."
    figures = [_log_figure(stage, rows) for stage, rows in data.logs.items() if rows]
    return Section("training", "Training", tag("div", figures, class_="charts")) if figures else None


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    "Nested options as one level: `augment.crop`."
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _plain(value: Any) -> str:
    "The value of an option, as people write it."
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _options(title: str, content: Mapping[str, Any]) -> Html:
    "A list of names and values under a title."
    pairs = [(tag("dt", key), tag("dd", _plain(value))) for key, value in flattened(content).items()]
    return tag("div", tag("h3", title), tag("dl", pairs))


def _config_lists(data: ReportData) -> Html:
    "The configuration: the run's own options, then those of its trainings."
    own = {key: value for key, value in data.config.items() if not isinstance(value, Mapping)}
    nested = {key: value for key, value in data.config.items() if isinstance(value, Mapping) and value}
    if "train" in nested.get(WOOD, {}):
        nested[f"{METHODS[WOOD].label} training"] = nested[WOOD]["train"]
        nested[WOOD] = {key: value for key, value in nested[WOOD].items() if key != "train"}
    titles = {CLASSIFIER: "Classifier training", WOOD: METHODS[WOOD].label, "scenes": "Scenes"}
    lists = [_options(titles.get(key, key), value) for key, value in nested.items()]
    return tag("div", _options("Run", own), lists, _options("Versions", data.note.get("versions", {})), class_="cards")


def _remembered(info: Mapping[str, Any]) -> str:
    "What a stage noted, in a line; longer lists stand elsewhere."
    short = {key: value for key, value in flattened(info).items() if not isinstance(value, (list, dict))}
    return ", ".join(f"{key} {_plain(value)}" for key, value in short.items())


def _timing_table(note: Mapping[str, Any]) -> Html:
    "The stages with the time each took and what it noted."
    stages = {name: stage for name, stage in note.get("stages", {}).items() if stage.get("seconds") is not None}
    total = sum(stage["seconds"] for stage in stages.values())
    rows = []
    for name, stage in stages.items():
        seconds, finished = stage["seconds"], (stage.get("finished") or "")[:16].replace("T", " ")
        time = Field(bar(seconds / max(total, 1e-9), duration(seconds)), seconds)
        rows.append([name, time, finished, _remembered(stage.get("info") or {})])
    foot = ["all", Field(duration(total), total), "", ""]
    header = ["stage", Field("time"), "finished (UTC)", "noted"]
    return tag("div", table(header, rows, foot=foot, cards=True), class_="wrap")


def skipped_list(note: Mapping[str, Any], root: str = "", most: int = 40) -> list[Html]:
    "What could not be used and why; at most `most` are named, all are counted."
    skipped = note.get("skipped", [])
    if not skipped:
        return [tag("p", "Nothing was skipped: every file that the run looked at could be read.")]
    files = [str(row["file"]).removeprefix(root).lstrip("/") for row in skipped[:most]]
    rows = [[row.get("stage", "–"), tag("code", file), str(row["why"])] for row, file in zip(skipped, files)]
    more = f" The first {most} are listed; all are in run.json." if len(skipped) > most else ""
    listed = tag("div", table(["stage", "file", "why"], rows, cards=True), class_="wide")
    return [tag("p", f"{len(skipped):,} files were skipped.{more}"), listed]


def run_section(data: ReportData) -> Section:
    "Configuration, versions, timings, command."
    command = data.note.get("command")
    typed = tag("p", "Command: ", tag("code", command)) if command else None
    folded = tag("details", tag("summary", "Configuration and versions"), _config_lists(data), open=True)
    return Section("run", "This run", [typed, tag("h3", "Time"), _timing_table(data.note), folded])


def skipped_section(data: ReportData) -> Section:
    "What was skipped and why."
    root = str(Path(data.pool[0].image).parent) if data.pool is not None and len(data.pool) else ""
    return Section("skipped", "Skipped", skipped_list(data.note, root))
