"""A whole run on one page: its scores and what they rest on, the pictures behind them, and all that was left out"""

from collections.abc import Sequence
from pathlib import Path

from ..base.files import write_whole
from ..base.html import Html, tag
from .context import context_section
from .later import later_section
from .maps import map_section
from .ood import cluster_section, mining_section
from .page import page
from .result import class_section, curve_section, headline, result_section
from .run_data import Pair, ReportData, find_pairs
from .training import run_section, skipped_section, training_section


def _lead(data: ReportData, pairs: Sequence[Pair]) -> list[Html]:
    "The top of the page: the result in one sentence, and what this is."
    number = f"seed {data.config['seed']}" if "seed" in data.config else None
    facts = [f"run {data.name}", data.note.get("created", "")[:10], data.config.get("backbone"), number]
    about = f"Localisation maps from image-level labels, and the seeds made of them: {', '.join(data.split.classes)}."
    return [tag("div", " · ".join(filter(None, facts)), class_="soft"), tag("h1", headline(data, pairs)),
            tag("p", about, class_="soft")]


def report_html(data: ReportData) -> str:
    "The report as one HTML document."
    pairs = find_pairs(data)
    version = data.note.get("versions", {}).get("wood_nb", "")
    sections = [result_section(data, pairs), curve_section(data), class_section(data, pairs), context_section(data),
                map_section(data), later_section(data), mining_section(data), cluster_section(data), training_section(data),
                run_section(data), skipped_section(data)]
    foot = f"Made by wood_nb {version} from the folder of run {data.name}. One file, no network."
    return page(f"{data.name}: W-OoD report", _lead(data, pairs), [s for s in sections if s], foot)


def write_report(path: str | Path, data: ReportData) -> Path:
    "Write the report, whole or not at all; returns its path."
    path = Path(path)
    with write_whole(path, "w") as file:
        file.write(report_html(data))
    return path
