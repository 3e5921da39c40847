"""A widget that leaves its picture behind: where there is no kernel, a saved notebook shows the picture and no error"""

import base64
import os
from pathlib import Path
from typing import Any

from ..base.html import Html, tag
from ..base.pictures import Picture
from .parts import Closable, write_bytes

_CHILD, _PANEL = ".jp-OutputArea-child", ".jp-OutputArea-output.lm-Panel"
_MARK = f"{_CHILD}:has(style.wood-still)"
# Three outputs: the picture, this style, the widget. JupyterLab writes an error, which is text without elements, where it finds no
# kernel's widget: it is hidden then, else the picture.
_STYLE = f"""
{_MARK} {{display: none}}
{_MARK} + {_CHILD}:has({_PANEL}.jupyter-widgets):not(:has({_PANEL} *)) {{display: none}}
{_CHILD}:has(+ {_CHILD} style.wood-still):has(+ {_CHILD} + {_CHILD} {_PANEL} *) {{display: none}}
"""


def _twin(shown: Any) -> dict[str, str]:
    "The static picture of something with a `to_figure`; a line of text if drawing fails, as that must not hide the widget."
    try:
        kind, content, _ = shown.to_figure().compact()
        return {kind: base64.b64encode(content).decode()}
    except Exception as error:  # whatever matplotlib may raise
        return {"text/plain": f"{type(shown).__name__} (no picture: {error})"}


def with_twin(shown: Any) -> dict[str, str]:
    "What a notebook shows of something with a `widget` and a `to_figure`: the widget, or the picture where there are none."
    bundle = shown.widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle  # anywidget adds metadata
    return {**(data or {}), "text/plain": type(shown).__name__, **_twin(shown)}


def parts_shown(shown: Any) -> list[dict[str, Any]]:
    "What a notebook is given of something with a `widget` and a `to_figure`, output by output."
    whole = with_twin(shown)
    picture = {kind: content for kind, content in whole.items() if kind.startswith("image/")}
    if not picture or "VSCODE_PID" in os.environ:  # there outputs are pages of their own, and cannot hide one another
        return [whole]
    name = {"text/plain": whole["text/plain"]}
    alone = {kind: content for kind, content in whole.items() if kind not in picture}
    return [picture | name, {"text/html": tag("style", Html(_STYLE), class_="wood-still"), "text/plain": ""}, alone]


class Shown(Closable):
    "Something that shows itself by its `widget`, and by the picture that `to_figure` draws where there is no kernel for a widget."
    DPI = 150  # of `to_png`

    def to_figure(self) -> Picture:
        "What it shows now, as a picture."
        raise NotImplementedError

    def to_png(self, path: str | Path | None = None, dpi: int | None = None) -> bytes:
        "The picture as PNG; written to `path` if given."
        return write_bytes(self.to_figure().png(dpi or self.DPI), path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        "Widget and picture as one output, for whoever asks for one."
        return with_twin(self)

    def _ipython_display_(self) -> None:
        "Show the widget, and its picture where the widget cannot be shown."
        from IPython.display import display

        for bundle in parts_shown(self):
            display(bundle, raw=True)
