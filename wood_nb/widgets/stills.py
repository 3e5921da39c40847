"""A widget that leaves its picture behind: where there is no kernel, a saved notebook shows the picture and no error"""

import os
from typing import Any

from ..base.html import Html, tag
from .prune import with_twin

_CHILD, _PANEL = ".jp-OutputArea-child", ".jp-OutputArea-output.lm-Panel"
_MARK = f"{_CHILD}:has(style.wood-still)"
# Three outputs: the picture, this style, the widget. JupyterLab writes an error, which is text without elements, where it finds no
# kernel's widget: it is hidden then, else the picture.
_STYLE = f"""
{_MARK} {{display: none}}
{_MARK} + {_CHILD}:has({_PANEL}.jupyter-widgets):not(:has({_PANEL} *)) {{display: none}}
{_CHILD}:has(+ {_CHILD} style.wood-still):has(+ {_CHILD} + {_CHILD} {_PANEL} *) {{display: none}}
"""


def parts_shown(shown: Any) -> list[dict[str, Any]]:
    "What a notebook is given of something with a `widget` and a `to_figure`, output by output."
    whole = with_twin(shown)
    picture = {kind: content for kind, content in whole.items() if kind.startswith("image/")}
    if not picture or "VSCODE_PID" in os.environ:  # there outputs are pages of their own, and cannot hide one another
        return [whole]
    name = {"text/plain": whole["text/plain"]}
    alone = {kind: content for kind, content in whole.items() if kind not in picture}
    return [picture | name, {"text/html": tag("style", Html(_STYLE), class_="wood-still"), "text/plain": ""}, alone]


def display_with_still(shown: Any) -> None:
    "Show the widget, and its picture where the widget cannot be shown."
    from IPython.display import display

    for bundle in parts_shown(shown):
        display(bundle, raw=True)
