"""The workbench as a page that opens without kernel or network: it shows, and decides nothing"""

from __future__ import annotations

import base64
import json
from typing import Any

from ...base.html import Html, data_address, tag
from ...report.page import policy
from .front import fixed_values, page_module, bench_style, page_values
from .grid import SORTS, Grid
from .land import CANDIDATE
from .map import COLOURINGS, Map
from .shots import Thumbnails
from .state import Bench
from .wipe import Wipe

_SORTS = ("typical", "p", "name")  # orders that need nothing but what is known already
_STYLE = """
:root {color-scheme: light dark; --jp-ui-font-color1: light-dark(#1c1c1c, #e8e8e8); --jp-ui-font-color2: light-dark(#555, #aaa);
  --jp-layout-color0: light-dark(#fff, #141414); --jp-layout-color1: light-dark(#fff, #222); --jp-layout-color2: light-dark(#eee, #333);
  --jp-border-color2: light-dark(#ccc, #444)}
body {font: 15px/1.5 system-ui, sans-serif; margin: 12px; color: var(--jp-ui-font-color1); background: var(--jp-layout-color0)}
h1 {font-size: 20px; margin: 4px 0} p {margin: 0 0 8px}
"""


def _text(value: Any) -> Any:
    "Bytes as text; all else as it is."
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _page_data(bench: Bench, shots: Thumbnails, most: int) -> dict[str, Any]:
    "Everything that the page may ask for: traits, orders, colours, names, and thumbnails of at most `most` candidates."
    values, maps = fixed_values(bench) | page_values(bench), {name: Map(bench.rows, bench.map.method, name) for name in COLOURINGS}
    values["options"] |= {"sorts": {name: SORTS[name] for name in _SORTS}, "layouts": {bench.map.method: bench.map.method},
                          "strip": {bench.strip.order: "as saved"}, "alone": True}
    values |= {"pins": [], "saved": "", "state": {**values["state"], "wipe": Wipe().state()}}
    rows, kind = bench.rows, bench.rows.land.kind
    return {
        "values": {name: _text(value) for name, value in values.items()},
        "bytes": [name for name, value in values.items() if isinstance(value, bytes)],
        "orders": {name: _text(Grid(rows, sort=name).shown().astype("<u4").tobytes()) for name in _SORTS},
        "labels": {name: _text(made.labels().tobytes()) for name, made in maps.items()},
        "legends": {name: made.legend() for name, made in maps.items()},
        "names": [[rows.ids[n]] if kind[n] == CANDIDATE else bench.map.lines(n) for n in range(len(kind))],
        "thumbs": [data_address(shots.candidate(rows.candidate(n).file)) for n in range(min(most, len(rows)))],
    }


def page_alone(bench: Bench, shots: Thumbnails, most: int = 6000) -> str:
    "A whole HTML document."
    script = page_module("alone")
    data = json.dumps(_page_data(bench, shots, most)).replace("<", "\\u003c")
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "Out-of-distribution pictures"),
        tag("style", Html(_STYLE + bench_style())),
    ]
    body = [
        tag("h1", "Out-of-distribution pictures by what the network sees in them"),
        tag("p", bench.bar.report()),
        tag("main", id="bench"),
        tag("script", Html(data), type="application/json", id="data"),
        tag("script", Html(script), type="module"),
    ]
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"
