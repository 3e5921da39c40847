"""Masks are shown in colours that stay apart; figures show themselves at the size and sharpness that was asked for."""
import base64
import io

import numpy as np
import pytest
from matplotlib.axis import Axis
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.base.pictures import bright_palette, broken, close_rows, fill, palette, picture_grid, show_images, show_mask

RNG = np.random.default_rng(0)
DEUTAN = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])  # Machado et al. 2009
PROTAN = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])


def linear(colours):
    share = colours / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(light):
    xyz = light.clip(0, 1) @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.089]).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def nearest(colours) -> float:
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    return distances[~np.eye(len(colours), dtype=bool)].min()


def test_voc_palette():
    assert palette(3).tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]] and palette()[255].tolist() == [224, 224, 192]
    assert palette()[[0, 15]].tolist() == [[0, 0, 0], [192, 128, 128]]


def test_bright_colours_stay_apart():
    light = linear(bright_palette()[[*range(21), 255]].astype(float))
    assert nearest(lab(light)) > 20
    assert min(nearest(lab(light[:9] @ sight.T)) for sight in (DEUTAN, PROTAN)) > 10  # eight classes
    assert lab(light[1:])[:, 0].min() > 35 > lab(light[:1])[0, 0]  # all are brighter than the ground


def test_bright_palette_has_a_colour_for_every_value():
    colours = bright_palette()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8 and bright_palette(21).shape == (21, 3)
    assert (colours[1] == colours[21]).all() and (colours[255] > 200).all()


def test_masks_over_images():
    image, mask = Image.fromarray(RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)), np.zeros((5, 7), np.uint8)
    mask[0, 0], mask[4, 6] = 2, 255
    alone, over = show_mask(None, mask), show_mask(image, mask)
    assert alone.shape == over.shape == (5, 7, 3) and over.dtype == np.uint8
    assert (alone[0, 0] == bright_palette()[2]).all() and (over[1, 1] == over[1, 1, 0]).all()
    assert (show_mask(np.asarray(image), mask) == over).all()
    assert np.abs(show_mask(image, mask, 1.0)[0, 0].astype(int) - bright_palette()[2]).max() <= 1
    with pytest.raises(DataError, match="7x5 over an image of 9x5"):
        show_mask(image.resize((9, 5)), mask)


def shown(figure):
    (kind, content), = figure._repr_mimebundle_()[0].items()
    return kind, Image.open(io.BytesIO(base64.b64decode(content))), figure._repr_mimebundle_()[1][kind]


def test_figures_are_twice_as_sharp_live(monkeypatch):
    figure = show_images([np.full((8, 8), n) for n in range(3)], "abc", columns=2)
    monkeypatch.delenv("WOOD_FIGURE_DPI", raising=False)
    _, live, size = shown(figure)
    monkeypatch.setenv("WOOD_FIGURE_DPI", "110")
    kind, stored, same = shown(figure)
    assert kind == "image/png" and abs(live.width - 2 * stored.width) <= 4 and abs(size["width"] - same["width"]) <= 2
    assert stored.width == same["width"] > 300


def test_what_is_stored_is_what_it_says():
    noise = RNG.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    smooth = Image.fromarray(noise).resize((400, 400), Image.Resampling.BICUBIC)
    for image in (noise, smooth, np.zeros((8, 8))):
        kind, content, size = show_images([image], size=3).compact()
        with Image.open(io.BytesIO(content)) as stored:
            assert kind == f"image/{stored.format.lower()}" and stored.size == size


def test_grids_have_room_for_all():
    figure, axes = picture_grid(2, 3)
    assert axes.shape == (2, 3) and not any(axis.axison for axis in axes.flat)
    assert len(show_images([np.zeros((4, 4))] * 7, columns=3).axes) == 9 and len(show_images([]).axes) == 1
    words = show_images([np.zeros((4, 4))], ["one"]).axes[0].title
    assert words.get_text() == "one" and words.get_fontsize() >= 9


def test_figures_are_written_as_their_name_says(tmp_path):
    figure, ((axis,),) = close_rows([(3, 6)], 1, width=10, top=1)
    fill(axis, RNG.integers(0, 256, (3, 6, 3)).astype(np.uint8))
    axis.set_title("50 $ of it")
    with Image.open(figure.save(tmp_path / "a.png", dpi=254)) as png:
        assert png.size == (1000, 600), "10 cm across, the picture half as high, and a line of text"
    svg = figure.save(tmp_path / "a.svg").read_text()
    assert ">50 $ of it</text>" in svg and figure.save(tmp_path / "a.PDF").read_bytes()[:5] == b"%PDF-"
    pixels = base64.b64decode(svg.partition("base64,")[2].partition('"')[0].replace("\n", ""))
    with Image.open(io.BytesIO(pixels)) as inside:
        assert inside.size == (6, 3), "a photograph keeps its own pixels"
    with pytest.raises(DataError, match="a.bmp: figures are written as png, pdf, svg"):
        figure.save(tmp_path / "a.bmp")
    assert broken("a word and another", 1.5, 8).count("\n") == 2


def test_ticks_that_nobody_sees_are_not_made(monkeypatch):
    figure = show_images([np.zeros((8, 8))] * 4, ["costs $a$ and $b$"] * 4, columns=2)
    monkeypatch.setattr(Axis, "_get_tick", lambda *args, **options: pytest.fail("a tick was made"))
    figure.compact()
    assert not figure.axes[0].title.get_parse_math(), "texts are drawn as they stand"
