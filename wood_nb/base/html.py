"""One HTML file that anyone can open, offline, in ten years: text that cannot break out, tables, charts, pictures"""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


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
    return Html(escape(text.encode("utf-8", "backslashreplace").decode()))  # odd bytes of file names become visible


def plain(text: str) -> str:
    "A text that matplotlib draws as it stands."
    return text.replace("$", r"\$")


VOID = ("img", "meta")  # elements that have no end


def attribute(name: str, value: Any) -> str:
    "One attribute, escaped; floats to four digits, True as a bare name."
    name = name.rstrip("_").replace("_", "-")
    text = f"{value:.4g}" if isinstance(value, float) else value
    return name if value is True else f'{name}="{as_html(str(text))}"'


def tag(name: str, /, *content: Any, **attributes: Any) -> Html:
    "The element `name` with its content and attributes; attributes that are None or False are left out."
    words = [name, *(attribute(k, v) for k, v in attributes.items() if v is not None and v is not False)]
    return Html(f"<{' '.join(words)}>" + ("" if name in VOID else f"{as_html(content)}</{name}>"))


def fitted(image: Image.Image | np.ndarray, side: int) -> Image.Image:
    "The picture as RGB with its long side scaled to `side` pixels."
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    scale = side / max(image.size)
    return image.convert("RGB").resize([max(1, round(n * scale)) for n in image.size], Image.Resampling.BICUBIC)


def image_uri(image: Image.Image | np.ndarray, quality: int = 80) -> str:
    "The picture as a `data:` address (JPEG)."
    image, buffer = image if isinstance(image, Image.Image) else Image.fromarray(image), io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


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


def cell(content: Any, name: str = "td", scope: str | None = None) -> Html:
    "One cell; numbers stand on the right, what is absent is a dash."
    field = as_field(content)
    shown = "–" if field.content is None else field.content
    value = None if not field.number else "" if field.value is None else f"{field.value:.6g}"
    return tag(name, shown, scope=scope, class_="n" if field.number else None, style=field.style, data_value=value)


def row(cells: Sequence[Any]) -> Html:
    "A row whose first cell names it."
    return tag("tr", [cell(c, *(("th", "row") if not n else ())) for n, c in enumerate(cells)])


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], caption: Any = None, foot: Sequence[Any] = (),
          sortable: bool = False) -> Html:
    "A table with a caption, row and column names, and a last row that stays last; it scrolls if it is wide."
    names = [(c.content, "n") if isinstance(c, Field) else (c, None) for c in header]
    head = tag("tr", [tag("th", name, scope="col", class_=kind) for name, kind in names])
    parts = [tag("caption", caption) if caption else None, tag("thead", head), tag("tbody", [row(r) for r in rows]),
             tag("tfoot", row(foot)) if foot else None]
    drawn = tag("table", parts, class_="sort" if sortable else None)
    return tag("div", drawn, class_="scroll", tabindex=0, role="region", aria_label="table")


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
