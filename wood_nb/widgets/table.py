"""A per-class table whose columns sort at a click, with best scores in bold, differences in colour, and exports"""

from pathlib import Path
from typing import Any

from ..base.charts import LIGHT
from ..base.html import Field, table, tag
from ..base.pictures import Picture
from ..report.page import Section, page
from ..scores.rows import footnotes
from ..scores.tables import Cell, PerClassTable, table_cells, tint
from .parts import button, message, page_script, row, write_text
from .stills import Shown

try:
    import anywidget
    import ipywidgets as widgets
    import traitlets
except ImportError as error:
    raise ImportError("the table view needs ipywidgets and anywidget: pip install 'wood_nb[lab]'") from error


def _cell_state(cell: Cell, reported: bool) -> dict[str, Any]:
    "A cell as the browser gets it."
    return {
        "text": cell.text,
        "value": cell.value,
        "best": cell.best,
        "tint": tint(cell.value) if cell.role == "difference" else "",
        "reported": reported,
    }


def table_state(figures: PerClassTable) -> dict[str, Any]:
    "Heading, rows, foot and notes of a table, classes downwards."
    header, *rows = table_cells(figures)
    reported = [False] + [not row.measured for row in figures.rows] + [False] * len(header)
    lines = [[_cell_state(cell, reported[n]) for n, cell in enumerate(line)] for line in rows]
    return {"head": [cell.text for cell in header], "rows": lines[:-1], "foot": lines[-1],
            "notes": [figures.caption, *footnotes(figures.rows)]}


_TABLE_STYLE = """
.wood-table {overflow-x: auto; color: var(--jp-ui-font-color1, #1c1c1c); font: 13px/1.5 var(--jp-ui-font-family, system-ui, sans-serif)}
.wood-table table {border-collapse: collapse; margin: 0} .wood-table th, .wood-table td {padding: 3px 12px; text-align: right; border: 0;
  border-bottom: 1px solid var(--jp-border-color2, #ddd); font-variant-numeric: tabular-nums; white-space: nowrap}
.wood-table th:first-child {text-align: left} .wood-table thead button {all: unset; cursor: pointer; font-weight: 600}
.wood-table thead button:focus-visible {outline: 3px solid #0072b2}
.wood-table thead button::after {content: " ↕"; opacity: .5}
.wood-table [aria-sort=descending] button::after {content: " ↓"; opacity: 1}
.wood-table [aria-sort=ascending] button::after {content: " ↑"; opacity: 1}
.wood-table tfoot th, .wood-table tfoot td {border-top: 1px solid var(--jp-ui-font-color1, #222); font-weight: 600}
.wood-table .wood-reported {font-style: italic}
.wood-table p {font-size: 12px; max-width: 70em; margin: 6px 0; color: var(--jp-ui-font-color2, #555)}
"""


class SortableTable(anywidget.AnyWidget):
    "A table whose columns sort at a click on their heading."
    _esm = page_script("elements.js", "table.js")
    _css = _TABLE_STYLE
    content = traitlets.Dict().tag(sync=True)


class TableView(Shown):
    "A `PerClassTable` to sort and to export; `folder`: where exports go."

    def __init__(self, figures: PerClassTable, folder: str | Path = ".", name: str = "per-class"):
        self.figures, self.folder, self.name = figures, Path(folder), name
        self.view, self.status = SortableTable(content=table_state(figures)), widgets.HTML()
        makers = {"csv": figures.to_csv, "md": figures.to_markdown, "tex": figures.to_latex, "html": self.to_html}
        self.buttons = {
            kind: button(words, f"write {name}.{kind}", lambda kind=kind: self.export(kind))
            for kind, words in {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "html": "Page"}.items()
        }
        self.makers = makers
        self.widget = widgets.VBox([self.view, row(*self.buttons.values(), self.status)]).add_class("wood-table-view")

    def export(self, kind: str) -> Path:
        "Write the table as 'csv', 'md', 'tex' or 'html'; returns the file."
        path = self.folder / f"{self.name}.{kind}"
        write_text(self.makers[kind](), path)
        self.status.value = message(f"written: {path.name}")
        return path

    def to_figure(self) -> Picture:
        "The table as a picture."
        return _table_picture(self.figures)

    def to_html(self, path: str | Path | None = None) -> str:
        "A page of its own, sortable, which works offline; written to `path` if given."
        return write_text(_table_page(self.figures), path)


def _table_picture(figures: PerClassTable, height: float = 0.24) -> Picture:
    "The table drawn: best figures bold, differences tinted, reported rows in italics."
    cells = table_cells(figures)
    picture = Picture(figsize=(1.5 + 1.25 * (len(cells[0]) - 1), height * (len(cells) + 0.4)), layout="constrained")
    axis = picture.subplots()
    axis.axis("off")
    drawn = axis.table([[cell.text for cell in line] for line in cells], loc="center", edges="horizontal", cellLoc="right")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    drawn.scale(1, 1.15)
    for (line, column), box in drawn.get_celld().items():
        _draw_cell(
            box,
            cells[line][column],
            line in (0, len(cells) - 1),
            1 <= column <= len(figures.rows) and not figures.rows[column - 1].measured,
        )
    return picture


def _draw_cell(box: Any, cell: Cell, strong: bool, reported: bool) -> None:
    "Weight, slant and colour of one cell of a drawn table."
    box.get_text().set(weight="bold" if strong or cell.best else "normal", style="italic" if reported else "normal")
    if cell.role == "difference" and cell.value is not None and tint(cell.value):
        box.get_text().set_color(LIGHT["gain" if cell.value > 0 else "loss"])


def _page_field(cell: Cell) -> Any:
    "A cell of the page: its text in bold if best, its number for sorting, its tint."
    if cell.role == "name":
        return cell.text
    text = tag("b", cell.text) if cell.best else cell.text
    return Field(text, cell.value, tint(cell.value) if cell.role == "difference" else None)


def _table_page(figures: PerClassTable) -> str:
    "A whole HTML document."
    header, *lines = [[_page_field(cell) for cell in line] for line in table_cells(figures)]
    notes = [figures.caption, *footnotes(figures.rows)]
    body = table(header, lines[:-1], " ".join(notes), lines[-1], sortable=True, cards=False)  # its header sorts: it stays in sight
    return page("IoU per class", tag("h1", "IoU per class"), [Section("table", "Classes", body)])
