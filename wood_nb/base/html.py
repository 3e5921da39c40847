"""Pieces of HTML: text that cannot break out of its place, elements, tables, pictures that travel inside the page"""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .text import visible


class Html(str):
    "Text that is HTML already; any other string is escaped when it gets into a page."

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"<{len(self)} characters of HTML>"


def as_html(content: Any) -> Html:
    "HTML of anything: `Html` as it is, lists piece by piece, None as nothing, all else as escaped text."
    if isinstance(content, Html):
        return content
    if isinstance(content, (list, tuple, Iterator)):
        return Html("".join(map(as_html, content)))
    text = "" if content is None else str(content)
    return Html(escape(visible(text)))  # odd bytes of file names, too


def plain(text: str) -> str:
    "A text that matplotlib draws as it stands."
    return text.replace("$", r"\$")


_VOID = ("img", "meta", "br")  # elements that have no end


def _attribute(name: str, value: Any) -> str:
    "One attribute, escaped; floats to four digits, True as a bare name."
    name = name.rstrip("_").replace("_", "-")
    text = f"{value:.4g}" if isinstance(value, float) else value
    return name if value is True else f'{name}="{as_html(str(text))}"'


def tag(name: str, /, *content: Any, **attributes: Any) -> Html:
    "The element `name` with its content and attributes; attributes that are None or False are left out."
    words = [name, *(_attribute(k, v) for k, v in attributes.items() if v is not None and v is not False)]
    return Html(f"<{' '.join(words)}>" + ("" if name in _VOID else f"{as_html(content)}</{name}>"))


def fitted(image: Image.Image | np.ndarray, side: int) -> Image.Image:
    "The picture as RGB with its long side scaled to `side` pixels."
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    scale = side / max(image.size)
    return image.convert("RGB").resize([max(1, round(n * scale)) for n in image.size], Image.Resampling.BICUBIC)


def jpeg_bytes(image: Image.Image | np.ndarray, quality: int = 80, optimize: bool = False) -> bytes:
    "A picture as JPEG; `optimize` makes it smaller and takes longer."
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=optimize)
    return buffer.getvalue()


def data_address(jpeg: bytes) -> str:
    "JPEG bytes as a `data:` address."
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def image_uri(image: Image.Image | np.ndarray, quality: int = 80) -> str:
    "The picture as a `data:` address (JPEG)."
    return data_address(jpeg_bytes(image, quality, optimize=True))


def img(image: Image.Image | np.ndarray, alt: str, **attributes: Any) -> Html:
    "An `<img>` that holds its picture; `alt` says what it shows."
    width, height = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    return tag("img", src=image_uri(image), alt=alt, width=width, height=height, **attributes)


class Field(NamedTuple):
    "A cell of a table: what it shows, the number it stands for (None: it is text, or absent), and a style."
    content: Any
    value: float | None = None
    style: str | None = None
    number: bool = True


def as_field(content: Any) -> Field:
    "Any cell as a `Field`: integers and floats are numbers, all else is text."
    if isinstance(content, Field):
        return content
    is_number = isinstance(content, (int, float)) and not isinstance(content, bool)
    return Field(f"{content:,}", content) if is_number else Field(content, number=False)


_LINE = "border-top:1px solid;"  # above the last row of a bare table


def _bare_style(field: Field, style: str = "") -> str:
    "What a cell needs where there is no style sheet: numbers on the right, text on the left."
    return f"text-align:{'right' if field.number else 'left'};white-space:nowrap;{style}{field.style or ''}"


def cell(content: Any, name: str = "td", scope: str | None = None, bare: bool = False, style: str = "",
         column: str | None = None) -> Html:
    "One cell; numbers stand on the right, what is absent is a dash; `column` names it where the page is narrow."
    field = as_field(content)
    shown = "–" if field.content is None else field.content
    if bare:
        return tag(name, shown, scope=scope, style=_bare_style(field, style))
    value = None if not field.number else "" if field.value is None else f"{field.value:.6g}"
    kind = "n" if field.number else None
    return tag(name, shown, scope=scope, class_=kind, style=field.style, data_value=value, data_column=column)


def row(cells: Sequence[Any], bare: bool = False, style: str = "", columns: Sequence[str] = ()) -> Html:
    "A row whose first cell names it."
    names = [*columns, *[None] * (len(cells) - len(columns))]
    kinds = [("th", "row"), *[("td", None)] * (len(cells) - 1)]
    return tag("tr", [cell(c, *kind, bare, style, name) for c, kind, name in zip(cells, kinds, names)])


def _head(header: Sequence[Any], bare: bool) -> Html:
    "The names of the columns."
    fields = [c if isinstance(c, Field) else Field(c, number=False) for c in header]
    looks = [{"style": _bare_style(f)} if bare else {"class_": "n" if f.number else None} for f in fields]
    return tag("thead", tag("tr", [tag("th", f.content, scope="col", **look) for f, look in zip(fields, looks)]))


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], caption: Any = None, foot: Sequence[Any] = (),
          sortable: bool = False, cards: bool | None = None) -> Html:
    """A table for our pages, with a caption, row and column names, and a last row that stays last.

    It scrolls if it is wide; with `cards` (by default from six columns on) it becomes a list on a narrow page."""
    many = len(header) > 5 if cards is None else cards
    columns = [as_field(c).content for c in header] if many else ()
    body = tag("tbody", [row(r, columns=columns) for r in rows])
    below = tag("tfoot", row(foot, columns=columns)) if foot else None
    above = tag("caption", tag("span", caption)) if caption else None
    kinds = " ".join(word for word, is_so in (("sort", sortable), ("many", many)) if is_so)
    drawn = tag("table", above, _head(header, False), body, below, class_=kinds or None)
    return tag("div", drawn, class_="scroll", tabindex=0, role="region", aria_label="table")


def bare_table(header: Sequence[Any], rows: Iterable[Sequence[Any]], notes: Sequence[Any] = (),
               foot: Sequence[Any] = ()) -> Html:
    "A table for notebooks, without our style sheet: alignment is written into the cells, notes stand below."
    body = tag("tbody", [row(r, True) for r in rows])
    drawn = tag("table", _head(header, True), body, tag("tfoot", row(foot, True, _LINE)) if foot else None)
    lines = [piece for note in notes for piece in (tag("br"), note)][1:]
    return tag("div", drawn, tag("p", lines, style="font-size:85%") if lines else None, style="overflow-x:auto")


def bar(share: float, text: Any) -> Html:
    "Text over a bar of its share (0 to 1)."
    return tag("span", tag("span", style=f"width:{100 * min(1, max(0, share)):.1f}%"), tag("b", text), class_="bar")


def duration(seconds: float | None) -> str:
    "Seconds as people say them: '8.2 s', '3 min 20 s', '1 h 05 min'."
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: float) -> str:
    "A round number for an axis, with a true minus."
    return f"{value:,.6g}".replace("-", "−")
