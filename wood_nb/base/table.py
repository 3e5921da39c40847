"""A table that shows itself: in a notebook as HTML, elsewhere as text"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .html import Field, Html, bare_table


def cell_text(value: Any) -> str:
    "A value as it stands in a table: three digits, thousands with commas, nothing for None."
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


@dataclass(repr=False)
class Table:
    "Columns and rows; numbers are rounded and aligned right, all text is escaped."
    columns: Sequence[str]
    rows: Sequence[Sequence]

    def cells(self) -> list[list[str]]:
        "The rows as text."
        return [[cell_text(value) for value in row] for row in self.rows]

    def _repr_html_(self) -> Html:
        numeric = [all(isinstance(row[n], (int, float, type(None))) for row in self.rows) for n in range(len(self.columns))]
        header = [Field(name, number=is_number) for name, is_number in zip(self.columns, numeric)]
        return bare_table(header, [[Field(cell_text(v), number=n) for v, n in zip(row, numeric)] for row in self.rows])

    def __repr__(self) -> str:
        rows = [[str(column) for column in self.columns], *self.cells()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        return "\n".join("  ".join(v.ljust(w) for v, w in zip(row, widths)).rstrip() for row in rows)
