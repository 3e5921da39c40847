"""Follow a run's log while it grows, in this process or another, and stop it"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..base.charts import CHARTS, LIGHT, Chart, Line, line_chart
from ..base.files import DataError, write_whole
from ..base.html import Html, duration, tag
from ..base.jobs import Job
from ..base.pictures import Picture
from ..report.page import Section, page
from ..train.loop import smooth
from ..train.safe import log_row
from .parts import button, row, write_text
from .stills import Shown
from .seeds import theme

try:
    import ipywidgets as widgets
except ImportError as error:
    raise ImportError("the live view needs ipywidgets: pip install 'wood_nb[lab]'") from error


class Tail:
    "The rows of a `train.jsonl`, read on as it grows."

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.rows: list[dict] = []
        self.place, self.head = 0, b""

    def read(self) -> bool:
        "Take in what is new; True if anything has changed."
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return self._begin_again() if self.rows else False
        with open(self.path, "rb") as file:
            if size < self.place or file.read(len(self.head)) != self.head:
                self._begin_again()
            file.seek(self.place)
            return self.take(file.read())

    def _begin_again(self) -> bool:
        "Forget what was read: the log was cut or replaced."
        self.rows, self.place, self.head = [], 0, b""
        return True

    def take(self, new: bytes) -> bool:
        "Take in new bytes up to the last whole line; True if there was one."
        whole = new[:new.rfind(b"\n") + 1]
        if not self.place:
            self.head = whole[:64]
        for line in whole.splitlines():
            try:
                self.rows.append(log_row(line))
            except ValueError:
                continue  # a damaged line; the next ones are as good as ever
        self.place += len(whole)
        return bool(whole)


def _terms_of(rows: Sequence[dict]) -> list[str]:
    "The loss terms of a log; the total alone if there is only one term."
    terms = [key for key in dict.fromkeys(k for r in rows[-5:] for k in r) if key.startswith("loss/")]
    return ["loss", *terms] if len(terms) > 1 else ["loss"]


def _loss_chart(rows: Sequence[dict], width: int = 520) -> Chart:
    "Loss terms over steps, smoothed, with the raw values faint behind."
    lines = []
    for n, key in enumerate(_terms_of(rows)):
        known = [(r["step"], float(r[key])) for r in rows if r.get(key) is not None]
        steps, values = zip(*known) if known else ((0,), (0.0,))
        width_ = max(1, len(values) // 40)
        lines.append(Line(key, steps, list(smooth(values, width_)), f"s{n % 5}", raw=values if width_ > 1 else None))
    return line_chart(lines, "step", "loss", "loss over steps", width=width, height=230)


def _small_chart(rows: Sequence[dict], key: str, words: str) -> Chart:
    "One quantity over steps."
    known = [(r["step"], float(r[key])) for r in rows if r.get(key) is not None] or [(0, 0.0)]
    steps, values = zip(*known)
    return line_chart([Line(words, steps, values)], "step", "", f"{words} over steps", width=250, height=150)


_OVER = ("stopped", "failed")
_QUIET = 30.0  # seconds without news after which a training seems to have ended


def state_of(folder: Path, rows: Sequence[dict], clock: float | None = None) -> str:
    "What a training is doing: 'waiting', 'running', 'stopping', 'stopped', 'finished' or 'silent'."
    clock, log = time.time() if clock is None else clock, folder / "train.jsonl"
    age = clock - log.stat().st_mtime if log.is_file() else 0.0
    if rows and rows[-1].get("eta") == 0:
        return "finished"
    if any((place / "STOP").exists() for place in (folder, folder.parent)):
        return "stopping" if rows and age < _QUIET else "stopped"
    return "waiting" if not rows else "running" if age < _QUIET else "silent"


_WORDS = {"silent": f"no news for {_QUIET:.0f} s and more", "stopping": "stopping after this step",
          "after": "trained; what follows is under way", "failed": "ended with an error"}


def _facts_html(folder: Path, rows: Sequence[dict], state: str) -> Html:
    "Step, loss, rate, speed and time left in one line."
    words = _WORDS.get(state, state)
    if not rows:
        return tag("span", tag("b", words), f" for {folder.name}/train.jsonl")
    last = rows[-1]
    parts = [
        f"step {last['step']:,}",
        f"loss {last.get('loss', float('nan')):.4g}",
        f"rate {last.get('lr', float('nan')):.3g}",
        f"{last.get('images_per_s', 0):.0f} images/s",
    ] + ([f"{duration(last.get('eta'))} left"] if state == "running" else [])
    return tag("span", tag("b", words), " · ", " · ".join(parts))


_LIVE_STYLE = "<style>" + theme(".wood-live") + CHARTS + """
.wood-live {--paper: var(--jp-layout-color0, #fff)}
.wood-live .widget-html-content {line-height: 1.5; color: var(--jp-ui-font-color1, #222)}
.wood-live .jupyter-button:focus-visible {outline: 3px solid #0072b2; outline-offset: 1px}
</style>"""


class LiveCurves(Shown):
    """Follows the training in `folder`; looks every `every` seconds (0: only when `refresh()` is called). `job`: whose training it is,
    if it runs beside this process; the button stops it at once, and no file STOP is left. There is one view of a folder: made again,
    as when its cell is run again, the new one takes the place of the old one, which is closed."""

    shown: dict[Path, LiveCurves] = {}

    def __init__(self, folder: str | Path, every: float = 1.0, job: Job | None = None):
        self.folder, self.every, self.job, self.closed = Path(folder), every, job, threading.Event()
        if self.folder.is_file():
            raise DataError(f"{self.folder}: give the folder of a training, in which train.jsonl lies, not a file")
        if before := self.shown.pop(self.folder.resolve(), None):
            before.close()
        self.shown[self.folder.resolve()] = self
        self.tail = Tail(self.folder / "train.jsonl")
        self.widget = self.build()
        self.refresh(anyway=True)
        if every:
            self.thread = threading.Thread(target=self.follow, daemon=True)
            self.thread.start()

    def build(self) -> widgets.VBox:
        self.facts, self.chart, self.small = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.stop_button = button("Stop training", "training ends after this step, with a checkpoint", self.stop)
        self.follow_box = widgets.Checkbox(True, description="follow", indent=False, layout={"width": "90px"})
        style = widgets.HTML(_LIVE_STYLE, layout=widgets.Layout(display="none"))
        return widgets.VBox(
            [style, row(self.facts, self.stop_button, self.follow_box, grid_gap="14px"), row(self.chart, self.small)]
        ).add_class("wood-live")

    # -- reading, showing, stopping --
    @property
    def state(self) -> str:
        "As `state_of`; of a job also 'after' (trained, but not done) and 'failed'."
        found, job = state_of(self.folder, self.tail.rows), self.job
        if job is None or job.state == "done":
            return found
        return job.state if job.state != "running" else "after" if found == "finished" else found

    def how_far(self) -> Html:
        "Where the training is, in a line: for a cell that is run again when it is done."
        self.refresh()
        return tag("p", _facts_html(self.folder, self.tail.rows, self.state),
                   ". Run this cell again when it is done." if self.job is not None and self.job.running else "")

    def refresh(self, anyway: bool = False) -> bool:
        "Read on and show what is new; True if there was anything."
        news = self.tail.read()
        facts = _facts_html(self.folder, self.tail.rows, self.state)
        if facts != self.facts.value:
            self.facts.value = facts
        if (news or anyway) and self.tail.rows:
            self.chart.value = _loss_chart(self.tail.rows)
            self.small.value = _small_chart(self.tail.rows, "lr", "rate") + _small_chart(self.tail.rows, "images_per_s", "images/s")
        self.stop_button.disabled = self.state in ("finished", *_OVER, "stopping")
        return news

    def stop(self) -> None:
        "Training ends after the step under way: by its job, or by a file STOP."
        if self.job is not None:
            self.job.stop()
            self.refresh()
            return
        try:
            with write_whole(self.folder / "STOP") as file:
                file.write(b"stopped from the live view\n")
        except OSError as error:
            self.facts.value = tag("span", f"STOP could not be written: {error}", style="color:#fff;background:#a33")
            return
        self.refresh()

    def follow(self) -> None:
        "Look once in a while until the training ends."
        while not self.closed.wait(self.every):
            if self.follow_box.value:
                self.refresh()
            if self.state in ("finished", *_OVER):
                self.refresh()
                break

    def close(self) -> None:
        "Look no more, and take the view off the page."
        self.closed.set()
        if self.shown.get(self.folder.resolve()) is self:
            del self.shown[self.folder.resolve()]
        super().close()

    def to_figure(self) -> Picture:
        "The curves as a picture."
        return _log_picture(self.tail.rows, self.folder.name)

    def to_html(self, path: str | Path | None = None) -> str:
        "A page of its own, as things stand; written to `path` if given."
        charts = (
            tag("div", _loss_chart(self.tail.rows), _small_chart(self.tail.rows, "lr", "rate"), class_="charts")
            if self.tail.rows
            else "no steps yet"
        )
        lead = tag("div", tag("h1", f"Training: {self.folder.name}"), tag("p", _facts_html(self.folder, self.tail.rows, self.state)))
        return write_text(page("Training", lead, [Section("curves", "Curves", charts)]), path)


def _log_picture(rows: Sequence[dict], title: str = "") -> Picture:
    "Loss terms over steps."
    figure = Picture(figsize=(6, 2.6), layout="constrained")
    axis = figure.subplots()
    for n, key in enumerate(_terms_of(rows) if rows else []):
        known = [(r["step"], r[key]) for r in rows if r.get(key) is not None]
        steps, values = zip(*known)
        axis.plot(
            steps,
            smooth(values, max(1, len(values) // 40)),
            color=LIGHT[f"s{n % 5}"],
            linestyle=("-", "--", "-.", ":")[n % 4],
            label=key,
        )
    axis.set(xlabel="step", ylabel="loss", title=title)
    if rows:
        axis.legend(frameon=False, fontsize=9)
    return figure


class Beside:
    "Work in a thread of its own, as in `job = Beside(train, net, split, config, out=folder)`."

    def __init__(self, work: Callable, *args: Any, **options: Any):
        self.result: Any = None
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.run, args=(work, args, options), daemon=True)
        self.thread.start()

    def run(self, work: Callable, args: tuple, options: dict) -> None:
        try:
            self.result = work(*args, **options)
        except Exception as error:  # kept, and raised where one waits for it
            self.error = error

    @property
    def running(self) -> bool:
        return self.thread.is_alive()

    def wait(self, seconds: float | None = None) -> Any:
        "What the work returned; raises what it raised, and `TimeoutError` if it is not done after `seconds`."
        self.thread.join(seconds)
        if self.running:
            raise TimeoutError(f"still running after {seconds:g} s")
        if self.error is not None:
            raise self.error
        return self.result
