"""The explorer on paper and on disk: a PNG of map and clusters, and a page that opens without kernel or network"""

import base64
import io
import json
from typing import Any

from PIL import Image

from ..base.html import Html, data_address, jpeg_bytes, plain, tag
from ..base.pictures import picture_grid
from ..ood.candidates import DECISIONS
from ..ood.clusters import mosaic, square
from ..report.page import policy
from .explorer_state import Explorer
from .explorer_views import MAP_STYLE, STYLE, card_html, map_state
from .exploring import COLOURINGS, cluster_counts, described, point_lines
from .parts import page_script


def explorer_png(explorer: Explorer, dpi: int = 110, rows: int = 8) -> bytes:
    "The map, and to its right a strip of typical pictures for each of the largest clusters."
    clusters = explorer.look.clusters()[:rows]
    top = Image.open(io.BytesIO(explorer.to_figure().png(dpi))).convert("RGB")
    figure, axes = picture_grid(max(1, len(clusters)), 1, 4.6 / max(1, len(clusters)), 4.2)
    for axis, cluster in zip(axes[:, 0], clusters):
        axis.imshow(Image.open(io.BytesIO(explorer.cluster_strip(cluster, 8, 8))))
        counts = cluster_counts(explorer.look, cluster)
        marks = ", ".join(f"{counts[d]} {d}" for d in DECISIONS if counts[d])
        axis.set_title(
            plain(f"{described(explorer.look, cluster).card.caption}; {marks}"), fontsize=9, loc="left", pad=2
        )
    side = Image.open(io.BytesIO(figure.png(dpi))).convert("RGB")
    sheet = Image.new("RGB", (top.width + side.width, max(top.height, side.height)), "white")
    sheet.paste(top, (0, 0))
    sheet.paste(side, (top.width, 0))
    buffer = io.BytesIO()
    sheet.quantize(192).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _page_data(explorer: Explorer, most: int, side: int) -> dict[str, Any]:
    "What the page carries: points, legends, lines, and thumbnails (of at most `most` candidates) on one sheet."
    look, colour = explorer.look, explorer.look.colour
    state, encode = map_state(look, explorer.method), lambda raw: base64.b64encode(raw).decode()
    colours = {name: made(look) for name, made in COLOURINGS.items()}
    squares = [
        square(Image.open(io.BytesIO(explorer.shots.candidate(explorer.manifest.images[id].file))), side)
        for id in look.ids[:most]
    ]
    columns = max(1, int(len(squares) ** 0.5 + 1))
    return {
        "n": len(look.land.kind),
        "label": state["label"],
        "names": state["names"],
        "first": colour,
        "side": side + 3,
        "columns": columns,
        "xy": encode(state["xy"]),
        "kind": encode(state["kind"]),
        "sheet": data_address(jpeg_bytes(Image.fromarray(mosaic(squares, columns)), 70)),
        "colours": {
            name: {"index": encode(c.index.astype("<u2").tobytes()), "legend": c.legend} for name, c in colours.items()
        },
        "shot": side,
        "drawn": len(squares),
        "lines": [point_lines(look, n) for n in range(len(look.land.kind))],
    }


def _page_clusters(explorer: Explorer) -> list[Html]:
    "A card per cluster for the page."
    found = []
    for cluster in explorer.look.clusters():
        strip = explorer.cluster_strip(cluster, 12, 12, 48)
        found.append(tag("article", tag("h3", cluster.name), card_html(explorer.look, cluster, strip), class_="wood-side"))
    return found


def explorer_page(explorer: Explorer, most: int = 6000, side: int = 48) -> str:
    "A whole HTML document."
    script = page_script("cells.js", "map.js", "map_page.js")
    data = json.dumps(_page_data(explorer, most, side)).replace("<", "\\u003c")
    style = Html(MAP_STYLE + _PAGE_STYLE + STYLE.replace("<style>", "").replace("</style>", ""))
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "Cluster map"),
        tag("style", style),
    ]
    body = [
        tag("h1", "Out-of-distribution pictures by what the network sees in them"),
        tag("p", explorer.look.report()),
        tag("main", tag("div", id="map"), tag("section", id="chosen", aria_live="polite")),
        tag("h2", "Clusters"),
        tag("div", _page_clusters(explorer), class_="wood-cards"),
        tag("script", Html(data), type="application/json", id="data"),
        tag("script", Html(script), type="module"),
    ]
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body, class_='wood-explorer'), lang='en')}\n"


_PAGE_STYLE = """
:root {color-scheme: light dark; --jp-ui-font-color1: light-dark(#1c1c1c, #e8e8e8); --jp-ui-font-color2: light-dark(#555, #aaa);
  --jp-layout-color0: light-dark(#fff, #141414); --jp-layout-color1: light-dark(#fff, #222);
  --jp-border-color1: light-dark(#bbb, #555); --jp-border-color2: light-dark(#ccc, #444)}
body {font: 15px/1.5 system-ui, sans-serif; margin: 24px auto; max-width: 1240px; padding: 0 16px;
  color: var(--jp-ui-font-color1); background: var(--jp-layout-color0)}
main {display: flex; flex-wrap: wrap; gap: 16px} #map {flex: 2 1 520px} #chosen {flex: 1 1 320px}
#chosen div {display: flex; flex-wrap: wrap; gap: 4px; max-height: 420px; overflow-y: auto}
#chosen figure {margin: 0; width: 76px; font-size: 11px; overflow-wrap: anywhere} #chosen img {width: 72px; height: 72px}
.wood-cards {display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 14px}
article {border: 1px solid var(--jp-border-color1); border-radius: 8px; padding: 8px 12px} h3 {margin: 2px 0 6px}
label {display: inline-block; margin-bottom: 6px}
"""
