"""Small pieces that the widgets share: boxes and lists, pictures as bytes, messages, writing to a file"""

import re
import warnings
from collections.abc import Sequence
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
