"""Figures that show themselves in a notebook, grids of images, and the colours in which masks are stored and shown.

`palette` is PASCAL VOC's own, dark on black: masks on disk carry it, so that any viewer opens them as VOC's tools do.
`bright_palette` is for people: masks are shown in it, alone or over their image (`show_mask`)."""

import base64
import io
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from .files import DataError, write_whole


def palette(n: int = 256) -> np.ndarray:
    "The PASCAL VOC palette, uint8 `[n, 3]`: mask value -> RGB, as written into mask files."
    values, colours = np.arange(n), np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((values >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


GROUND, PALE = "282a30", "ebebeb"  # mask value 0, and 255: pixels that are not counted
# Okabe and Ito's seven colours for all kinds of sight, then those that lie farthest from all before them, as seen with
# normal sight and without red or green cones.
BRIGHT = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7", "5a3cff", "00ff87", "d20f3c",
          "5a78ff", "a5d2a5", "b4a54b", "d200b4", "1e7878", "2dd2e1", "b4e15a", "5a693c", "a50fd2", "4bd278")


def bright_palette(n: int = 256) -> np.ndarray:
    "Colours to show masks in, uint8 `[n, 3]`: 0 dark, 1 to 20 bright and far apart (then again), 255 pale."
    names = [GROUND, *(BRIGHT[k % len(BRIGHT)] for k in range(254)), PALE]
    return np.array([tuple(bytes.fromhex(name)) for name in names], np.uint8)[:n]


def show_mask(image: Image.Image | np.ndarray | None, mask: np.ndarray, weight: float = 0.72) -> np.ndarray:
    """The mask `[H, W]` in bright colours as uint8 `[H, W, 3]`: over the grey `image` with opacity `weight`, or alone.

    Value 0 leaves the image as it is, pixels to ignore (255) are pale."""
    colours = bright_palette()[mask]
    if image is None:
        return colours
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if image.size != mask.shape[::-1]:
        raise DataError(f"a mask of {mask.shape[1]}x{mask.shape[0]} over an image of {image.width}x{image.height}; "
                        "resize one of them first")
    grey = np.asarray(image.convert("L").convert("RGB"), np.float32) * 0.8
    share = np.where(mask == 0, 0, np.where(mask == 255, weight * 0.8, weight))[..., None]
    return (grey * (1 - share) + colours * share).astype(np.uint8)


def outline(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """bool `[H, W]`: pixels of `mask` whose right or lower neighbour has another value, and all that lie less than
    `width` steps (right, left, up or down) from one of them."""
    edge = np.zeros(mask.shape, bool)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    for _ in range(width - 1):
        thin = edge.copy()
        edge[1:] |= thin[:-1]
        edge[:-1] |= thin[1:]
        edge[:, 1:] |= thin[:, :-1]
        edge[:, :-1] |= thin[:, 1:]
    return edge


STORED_DPI = 110  # of a figure that is kept in a notebook
DRAWN_COLOURS = 4096  # more than that, and a figure holds photographs
SHARP = 2  # how many times sharper it is shown while one works: screens have twice the pixels
PRINT_DPI = 300  # of a figure that is written as PNG for a page
FORMATS = ("png", "pdf", "svg")
# Text stays text in a PDF and an SVG, and the same figure has the same bytes.
_VECTOR: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "wood_nb"}
_UNDATED: dict[str, dict] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def format_of(path: str | Path) -> str:
    "The format that the name of a figure's file asks for: 'png', 'pdf' or 'svg'."
    kind = Path(path).suffix[1:].lower()
    if kind not in FORMATS:
        raise DataError(f"{path}: figures are written as {', '.join(FORMATS)}; let the name end in one of these")
    return kind


def _seen_texts(artist: Artist) -> Iterator[Text]:
    "Texts in a figure or a part of it; axes that are switched off are left out, for whoever looks at their ticks has them made."
    if isinstance(artist, Axis) and not (artist.get_visible() and artist.axes.axison):
        return
    if isinstance(artist, Text):
        yield artist
    for part in artist.get_children():
        yield from _seen_texts(part)


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook and needs no display.

    Shown live it has twice the pixels, for the screen's own resolution; `$WOOD_FIGURE_DPI` (set by `make lessons`)
    says how many dots per inch are stored instead."""
    exact = False  # whether it is written in exactly its size; else it is cut to what is drawn

    def draw(self, renderer: Any) -> None:
        "Texts are drawn as they stand: a `$` in a name begins no formula (the numbers of a logarithmic axis are formulas)."
        scales = [axis for place in self.axes for axis in (place.xaxis, place.yaxis) if axis.get_scale() != "linear"]
        numbers = {label for axis in scales for label in axis.get_ticklabels(which="both")}
        for text in _seen_texts(self):
            if text not in numbers and "$" in text.get_text():
                text.set_text(text.get_text().replace(r"\$", "$"))
            text.set_parse_math(text in numbers)
        super().draw(renderer)

    def png(self, dpi: int = 80) -> bytes:
        "The figure as PNG bytes."
        return self.written("png", dpi)

    def written(self, kind: str, dpi: int = PRINT_DPI) -> bytes:
        "The figure as 'png', or as 'pdf' or 'svg': lines and text stay what they are, photographs keep their own pixels."
        for axis in self.axes:
            if not axis.axison:  # ticks that nobody sees would take half of the time
                axis.xaxis.set_visible(False)
                axis.yaxis.set_visible(False)
        buffer = io.BytesIO()
        cut: dict[str, Any] = {} if self.exact else {"bbox_inches": "tight", "pad_inches": 0.05}
        images = {image: image.get_interpolation() for place in self.axes for image in place.images} if kind != "png" else {}
        try:
            for image in images:
                image.set_interpolation("none")
            with matplotlib.rc_context(_VECTOR):
                self.savefig(buffer, format=kind, dpi=dpi, metadata=_UNDATED[kind], **cut)
        finally:
            for image, how in images.items():
                image.set_interpolation(how)
        return buffer.getvalue()

    def save(self, path: str | Path, dpi: int = PRINT_DPI) -> Path:
        "Write the figure in the format that the name ends in (png, pdf, svg); returns the path."
        content = self.written(format_of(path), dpi)
        with write_whole(path) as file:
            file.write(content)
        return Path(path)

    def compact(self, dpi: int = STORED_DPI) -> tuple[str, bytes, tuple[int, int]]:
        "(MIME type, bytes, (width, height)): an indexed PNG of a drawing, a JPEG where there are photographs."
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(self.png(dpi))) as png:
            image = png.convert("RGB")
            if image.getcolors(DRAWN_COLOURS) is None:
                image.save(buffer, "JPEG", quality=74, subsampling=2, optimize=True)  # no difference to the eye
                return "image/jpeg", buffer.getvalue(), image.size
            image.quantize(192).save(buffer, "PNG", optimize=True)
        return "image/png", buffer.getvalue(), image.size

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict]]:
        dpi = int(os.environ.get("WOOD_FIGURE_DPI") or SHARP * STORED_DPI)
        kind, content, (width, height) = self.compact(dpi)
        size = {"width": round(width * STORED_DPI / dpi), "height": round(height * STORED_DPI / dpi)}
        return {kind: base64.b64encode(content).decode()}, {kind: size}


def picture_grid(rows: int, columns: int, size: float = 1.6, width: float | None = None) -> tuple[Picture, np.ndarray]:
    "A `Picture` and its axes `[rows, columns]`, frames off; `size` is a cell's height in inches, `width` its width."
    figure = Picture(figsize=((width or size) * columns, size * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


_INCH = 2.54  # cm
PAGE = 17.4  # cm: a figure across both columns of a conference paper


def broken(text: str, width: float, points: float) -> str:
    "A text in lines that fit into `width` cm in letters of so many points."
    return "\n".join(textwrap.wrap(text, max(8, int(width / _INCH * 72 / (0.56 * points)))))


def close_rows(shapes: Sequence[tuple[int, int]], columns: int, width: float = PAGE, left: float = 0.0, top: float = 0.5,
               under: float = 0.0, bottom: float = 0.0) -> tuple[Picture, np.ndarray]:
    """A `Picture` exactly `width` cm wide and its axes `[rows, columns]`, without gaps: the cells of a row have the shape (height, width)
    of its pictures. `left`, `top`, `under` (each row) and `bottom` are cm left for text."""
    cell = (width - left) / columns
    heights = [cell * high / wide for high, wide in shapes]
    y = whole = top + sum(heights) + under * len(shapes) + bottom
    figure = Picture(figsize=(width / _INCH, whole / _INCH))
    figure.exact = True
    axes = np.empty((len(shapes), columns), object)
    y -= top
    for line, height in zip(axes, heights):
        y -= height
        for n in range(columns):
            line[n] = figure.add_axes(((left + n * cell) / width, y / whole, cell / width, height / whole))
            line[n].axis("off")
        y -= under
    return figure, axes


def fill(axis: Axes, pixels: np.ndarray) -> None:
    "A picture `[H, W, 3]` that fills its cell."
    axis.imshow(pixels, aspect="auto")


def show_images(images: Sequence, titles: Sequence[str] | None = None, columns: int = 6, size: float = 1.6) -> Picture:
    "A grid of images (PIL, uint8 or float arrays `[H, W, 3]` or `[H, W]`), with a line of text over each."
    columns = max(1, min(columns, len(images)))
    figure, axes = picture_grid(max(1, -(-len(images) // columns)), columns, size + (0.2 if titles else 0), size)
    for n, image in enumerate(images):
        axis = axes.flat[n]
        axis.imshow(np.asarray(image), cmap="gray")
        if titles:
            axis.set_title(str(titles[n]), fontsize=9)
    return figure
