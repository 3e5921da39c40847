"""Curves of several runs over one another: losses, what was measured on the way, and mIoU over thresholds"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..base.charts import Chart, Line, Stroke, line_chart
from ..base.files import DataError, write_whole
from ..base.html import Html, tag
from ..maps.methods import method_name
from ..scores.rows import read_results
from ..scores.tables import COLOURS
from ..train.loop import smooth
from ..train.safe import read_log
from .page import Section, page, preview
from .run_data import read_curves
from .training import training_name

_MOST = 300  # points of a line


def _strokes(names: Iterable[str]) -> dict[str, Stroke]:
    "A colour for each run, with dashes where the colours come round again."
    return {name: Stroke(COLOURS[n % len(COLOURS)], (6, 3) * (n // len(COLOURS))) for n, name in enumerate(names)}


def _folders(runs: Mapping[str, str | Path] | Sequence[str | Path]) -> dict[str, Path]:
    "Name -> folder of each run, with its log or anything of a run in it."
    if isinstance(runs, Mapping):
        named = dict(runs)
    else:
        short = [Path(folder).resolve().name for folder in runs]
        named = dict(zip(short if len(set(short)) == len(short) else map(str, runs), runs))
    if missing := [folder for folder in named.values() if not Path(folder).is_dir()]:
        raise DataError(f"{missing[0]}: there is no such folder; name folders of runs or of trainings")
    return {name: Path(folder) for name, folder in named.items()}


def trainings_in(folder: Path) -> dict[str, Path]:
    "The trainings in a run, as 'wood' or 'segmentation/wood': those that have a log. The folder of a single training has one, '.'."
    if (folder / "train.jsonl").is_file():
        return {".": folder}
    logs = [log for depth in ("*", "*/*", "*/*/*") for log in sorted(folder.glob(f"{depth}/train.jsonl"))]
    return {log.parent.relative_to(folder).as_posix(): log.parent for log in logs}


def _loss_line(name: str, rows: Sequence[Mapping[str, float]], stroke: Stroke) -> Line:
    "The total loss of a training, smoothed, at most `_MOST` points."
    every, values = max(1, -(-len(rows) // _MOST)), [row["loss"] for row in rows]
    steps = [row["step"] for row in rows]
    return Line(name, steps[::every], smooth(values, max(1, len(rows) // 25))[::every].tolist(), stroke)


def _training_charts(title: str, folders: Mapping[str, Path], strokes: Mapping[str, Stroke]) -> list[Chart]:
    "Losses of a training in each run that has it and, if some were measured on the way, these scores."
    logs = {name: rows for name, folder in folders.items() if (rows := read_log(folder / "train.jsonl"))}
    tried = {name: rows for name, folder in folders.items() if (rows := read_log(folder / "validation.jsonl", needs=("miou",)))}
    lines = [_loss_line(name, rows, strokes[name]) for name, rows in logs.items()]
    points = [Line(name, [row["step"] for row in rows], [row["miou"] for row in rows], strokes[name], points=True)
              for name, rows in tried.items()]
    charts = [line_chart(lines, "step", "loss", f"{title}: loss of {', '.join(logs)} over steps")] if lines else []
    if points:
        words = f"{title}: mIoU measured during training, of {', '.join(tried)}"
        charts.append(line_chart(points, "step", "mIoU (%), measured on the way", words, zero=False))
    return charts


def _chosen(folder: Path) -> dict[tuple[str, str], tuple[float, float]]:
    "(split, method) -> threshold and mIoU of the seeds of a run."
    file = folder / "metrics.json"
    rows = [row for row in (read_results(file) if file.is_file() else []) if row["stage"] == "seed"]
    return {(row["split"], row["method"]): (row["threshold"], row["miou"]) for row in reversed(rows) if row["miou"] is not None}


def _threshold_charts(folders: Mapping[str, Path], strokes: Mapping[str, Stroke]) -> dict[str, Chart]:
    "Title -> mIoU of the seeds over thresholds, with the chosen threshold of each run, for every split and method."
    curves = {name: read_curves(folder / "curves.csv") for name, folder in folders.items()}
    chosen = {name: _chosen(folder) for name, folder in folders.items()}
    every = dict.fromkeys((split, method) for found in curves.values() for split, methods in found.items() for method in methods)
    charts = {}
    for split, method in every:
        lines = []
        for name, found in curves.items():
            if method in found.get(split, {}):
                x, y = np.asarray(found[split][method]).tolist()
                lines.append(Line(name, x, y, strokes[name], chosen[name].get((split, method))))
        title = f"{method_name(method)}, {split}"
        charts[title] = line_chart(lines, "threshold", "mIoU (%)", f"Seeds of {title} over thresholds")
    return charts


def _sections(runs: Mapping[str, str | Path] | Sequence[str | Path]) -> list[Section]:
    folders = _folders(runs)
    strokes, trainings = _strokes(folders), {name: trainings_in(folder) for name, folder in folders.items()}
    figures = []
    for training in dict.fromkeys(each for found in trainings.values() for each in found):
        title = "Single trainings" if training == "." else training_name(training)
        charts = _training_charts(title, {name: found[training] for name, found in trainings.items() if training in found}, strokes)
        if charts:
            figures.append(tag("figure", tag("h3", title), tag("div", charts, class_="charts")))
    seeds = [tag("figure", tag("h3", title), chart) for title, chart in _threshold_charts(folders, strokes).items()]
    found = [Section("training", "Training", figures), Section("seeds", "Seeds over thresholds", tag("div", seeds, class_="charts"))]
    kept = [section for section, parts in zip(found, (figures, seeds)) if parts]
    if not kept:
        raise DataError(f"{', '.join(map(str, folders.values()))}: no train.jsonl and no curves.csv; train first, or name other folders")
    return kept


def overlay_curves(runs: Mapping[str, str | Path] | Sequence[str | Path]) -> Html:
    """The curves of runs over one another, for a notebook: losses of each training (smoothed), scores measured on the way (from
    `validation.jsonl`) as points, mIoU over thresholds with a ring at the chosen one. `runs`: folders, or name -> folder; the folder of a
    single training will do."""
    return preview([[tag("h2", section.title), section.body] for section in _sections(runs)])


def write_overlay(path: str | Path, runs: Mapping[str, str | Path] | Sequence[str | Path]) -> Path:
    "The same as a page of its own, which works offline; returns its path."
    sections = _sections(runs)
    lead = tag("div", tag("h1", "Curves of several runs"), tag("p", ", ".join(_folders(runs))))
    with write_whole(path, "w") as file:
        file.write(page("Curves of several runs", lead, sections))
    return Path(path)
