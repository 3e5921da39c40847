"""Small pieces that the widgets share: boxes and lists, pictures as bytes, messages, writing to a file"""

import atexit
import getpass
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..base.files import DataError, write_whole
from ..base.html import tag

try:
    import ipywidgets as widgets
except ImportError as error:
    raise ImportError("the widgets need ipywidgets: pip install 'wood_nb[lab]'") from error


def page_script(*names: str) -> str:
    "Modules of the widgets' pages as one, as a page wants it: without the lines that join them. Each uses those before it only."
    whole = "\n".join((files("wood_nb.widgets") / name).read_text(encoding="utf-8") for name in names)
    return re.sub(r"^export (?!default)", "", re.sub(r"^import .*\n", "", whole, flags=re.M), flags=re.M)


def row(*parts: Any, **layout: Any) -> widgets.Box:
    "Widgets in a line that wraps."
    return widgets.Box(parts, layout=widgets.Layout(flex_flow="row wrap", align_items="center", **layout))


def choice(label: str, options: Sequence, width: str = "230px", name: str = "") -> widgets.Dropdown:
    "A labelled list to choose from."
    made = widgets.Dropdown(
        options=options, description=label, layout={"width": width}, style={"description_width": "initial"}
    )
    return made.add_class(f"wood-{name or label}")


def button(text: str, hint: str, action: Callable[[], Any], width: str = "auto") -> widgets.Button:
    "A button that calls `action`."
    made = widgets.Button(description=text, tooltip=hint, layout=widgets.Layout(width=width))
    made.on_click(lambda _: action())
    return made


def page_style(root: str, addresses: Sequence[str]) -> str:
    "CSS that gives place 0, 1, ... of grid `root` its picture."
    rules = (f'.{root} .place-{n} {{background-image: url("{address}")}}' for n, address in enumerate(addresses))
    return f"<style>{''.join(rules)}</style>"


def message(text: str, bad: bool = False) -> str:
    "A line that screen readers read out; in red if something was refused."
    return tag("span", text, role="status", class_="wood-bad" if bad else None)


def close_all(widget: widgets.Widget) -> None:
    "Close a widget with all that lies in it: the kernel forgets them, and a page that shows them goes blank there."
    inside = [*getattr(widget, "children", ()), *(getattr(widget, name, None) for name in ("layout", "style"))]
    widget.close()
    for part in inside:
        if isinstance(part, widgets.Widget):
            close_all(part)


class Closable:
    "Something that shows itself by its `widget`."
    widget: widgets.Widget

    def close(self) -> None:
        "Take it off the page; what it shows is left as it is."
        close_all(self.widget)


def write_bytes(content: bytes, path: str | Path | None) -> bytes:
    "`content`, also written to `path` if that is given."
    if path is not None:
        with write_whole(path) as file:
            file.write(content)
    return content


def write_text(content: str, path: str | Path | None) -> str:
    "`content`, also written to `path` if that is given; UTF-8."
    write_bytes(content.encode("utf-8", "backslashreplace"), path)
    return content


def save_decisions(shown: Any, path: str | Path | None = None) -> bool:
    "Write the manifest of a widget (to `path`, from now on); if that fails or others decided otherwise, the widget says so and goes on."
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            shown.path = shown.manifest.save(path or shown.path)
    except (OSError, DataError) as error:
        shown.saved = False
        shown.tell(f"NOT SAVED: {error}. Decisions stay in memory, and the next save tries again", bad=True)
    else:
        shown.saved = True
        others = "".join(f"; {each.message}" for each in told if each.category is UserWarning)
        shown.tell(f"saved {datetime.now():%H:%M:%S} in {shown.path.name}{others}")
    return shown.saved


def user_name() -> str:
    "The name of who is logged in, or nothing where that name says nothing."
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return ""
    return "" if name in ("root", "jovyan", "user") else name


class Autosave:
    "Calls `save` after every change; at once while that is quick, else after `quiet` seconds without another."

    def __init__(self, save: Callable[[], Any], slow: float = 0.15, quiet: float = 1.0):
        self.save, self.slow, self.quiet, self.took = save, slow, quiet, 0.0
        self.timer: threading.Timer | None = None
        atexit.register(self.flush)

    def __call__(self) -> None:
        "There is something to save."
        if self.timer:
            self.timer.cancel()
        if self.took < self.slow:
            return self.run()
        self.timer = threading.Timer(self.quiet, self.run)
        self.timer.daemon = True
        self.timer.start()

    def run(self) -> None:
        "Save, and note how long that takes."
        self.timer, start = None, time.perf_counter()
        self.save()
        self.took = time.perf_counter() - start

    def flush(self) -> None:
        "Save now what is waiting."
        if self.timer:
            self.timer.cancel()
            self.run()

    def close(self) -> None:
        "Save what is waiting, and wait for no more."
        self.flush()
        atexit.unregister(self.flush)
