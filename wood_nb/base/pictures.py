"""Figures that show themselves in a notebook, and the colours of masks"""

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from matplotlib.figure import Figure


def palette(n: int = 256) -> np.ndarray:
    "The PASCAL VOC palette, uint8 `[n, 3]`: mask value -> RGB."
    values, colours = np.arange(n), np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((values >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def colour_mask(mask: np.ndarray) -> np.ndarray:
    "A mask `[H, W]` as uint8 `[H, W, 3]` in the VOC palette."
    return palette()[mask]


STORED_DPI = 110  # of a figure that is kept in a notebook
DRAWN_COLOURS = 4096  # more than that, and a figure holds photographs
SHARP = 2  # how many times sharper it is shown while one works: screens have twice the pixels


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook and needs no display.

    Shown live it has twice the pixels, for the screen's own resolution; `$WOOD_FIGURE_DPI` (set by `make lessons`)
    says how many dots per inch are stored instead."""

    def png(self, dpi: int = 80) -> bytes:
        "The figure as PNG bytes."
        for axis in self.axes:
            if not axis.axison:  # ticks that nobody sees would take half of the time
                axis.xaxis.set_visible(False), axis.yaxis.set_visible(False)
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.05)
        return buffer.getvalue()

    def compact(self, dpi: int = STORED_DPI) -> tuple[str, bytes, tuple[int, int]]:
        "(MIME type, bytes, (width, height)): an indexed PNG of a drawing, a JPEG where there are photographs."
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(self.png(dpi))) as image:
            image = image.convert("RGB")
            if image.getcolors(DRAWN_COLOURS) is None:
                image.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
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
