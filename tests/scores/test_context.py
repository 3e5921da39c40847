"What maps lie on: exact shares by hand, masks that are missing or wrong, maps that are zero, and what a classifier makes of a map."
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError
from wood_nb.data.images import weight_shares, write_mask
from wood_nb.data.sources import load_voc
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import Maps, weight_on_object
from wood_nb.nets.camnet import CamNet
from wood_nb.scenes.scenes import PLACES, draw_scene, draw_scenes, SCENE_CLASSES
from wood_nb.scores.context import (OBJECT, UNLABELLED, Contexts, cluster_shares, context_chart, context_colour, context_folder, context_lines,
                                    context_shares, context_table, find_contexts, main_places, moves, removal_curves)

SIZE = (6, 8)  # height, width of every picture here


@dataclass
class Drawn:
    "Maps of one picture, at full size."
    keys: np.ndarray
    maps: np.ndarray

    def at_full_size(self):
        return self.maps


def drawn(*heats, keys=None):
    return Drawn(np.arange(len(heats)) if keys is None else np.array(keys), np.array(heats, np.float32))


@pytest.fixture
def voc(tmp_path):
    "Three pictures of a boat (rows 2 and 3) between sky (rows 0 and 1) and water (rows 4 and 5); the last has no context mask."
    for name in ("JPEGImages", "SegmentationClass", "ContextClass", "ImageSets/Segmentation"):
        (tmp_path / name).mkdir(parents=True)
    mask, around = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    mask[2:4], around[:2], around[4:] = 4, 7, 10
    for id in "abc":
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "JPEGImages" / f"{id}.jpg")
        write_mask(tmp_path / "SegmentationClass" / f"{id}.png", mask)
        if id != "c":
            write_mask(tmp_path / "ContextClass" / f"{id}.png", around)
    (tmp_path / "context_classes.txt").write_text("0 unlabelled\n7 sky\n10 open water\n")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("a\nb\nc\n")
    return tmp_path


def rows(*heights):
    "A map that has one height in each of the six rows."
    return np.repeat(np.array(heights, np.float32)[:, None], SIZE[1], 1)


@pytest.fixture
def split(voc):
    return load_voc(voc, "val", ["boat"])


def test_exact_shares_of_a_case_made_by_hand(split):
    maps = {"a": drawn(rows(0, 1, 4, 3, 2, 0)), "b": drawn(rows(1, 1, 0, 2, 0, 0)), "c": drawn(rows(1, 1, 1, 1, 1, 1))}
    found = context_shares(split, {"cam": maps}, find_contexts(split))["cam"]
    assert found.places == (OBJECT, *("",) * 6, "sky", "", "", "open water", UNLABELLED)
    one, two = (dict(zip(found.places, found.images["boat"][id].tolist())) for id in "ab")
    assert (one[OBJECT], one["sky"], one["open water"], one[UNLABELLED]) == (0.7, 0.1, 0.2, 0)
    assert (two[OBJECT], two["sky"], two["open water"], two[UNLABELLED]) == (0.5, 0.5, 0, 0)
    assert found.share("boat", OBJECT) == 0.6 and found.share("boat", "sky") == 0.3 and found.main_context("boat") == "sky"
    assert found.without == 1 and list(found.images["boat"]) == ["a", "b"], "the picture without a context mask is told, and not counted"


def test_shares_add_up_to_one_and_agree_with_the_weight_on_the_object(tmp_path):
    root = draw_scenes(tmp_path / "scenes", 8, 8, 0, 0, 48, progress=False)
    val, dice = load_voc(root, "val", SCENE_CLASSES), np.random.default_rng(0)
    maps = {item.id: Maps(np.array(item.labels), dice.random((len(item.labels), 12, 12), np.float32), (48, 48)) for item in val.items}
    found = context_shares(val, {"cam": maps}, find_contexts(val))["cam"]
    each = [shares for images in found.images.values() for shares in images.values()]
    assert len(each) >= 8 and np.allclose(np.sum(each, 1), 1) and found.without == 0
    on_object = weight_on_object(val, maps)
    assert on_object == pytest.approx({name: found.share(name, OBJECT) for name in found.classes})


def test_maps_that_are_zero_are_told_and_not_counted_as_zero(split):
    maps = {"a": drawn(rows(0, 0, 1, 1, 0, 0)), "b": drawn(rows(0, 0, 0, 0, 0, 0)), "c": drawn(rows(0, 0, 0, 0, 0, 0))}
    found = context_shares(split, {"cam": maps}, find_contexts(split))
    assert found["cam"].share("boat", OBJECT) == 1 and found["cam"].empty == {"boat": 1}
    table = context_table(found)
    assert table.columns[-1] == "empty maps, not counted" and table.rows[0][-1] == 1
    stored = {id: Maps(each.keys, each.maps, SIZE, each.maps) for id, each in maps.items()}
    assert weight_on_object(split, stored) == {"boat": 1.0}
    assert weight_on_object(split, {id: stored["b"] for id in "abc"}) == {}


def test_the_order_of_images_has_no_influence(split):
    dice = np.random.default_rng(1)
    split = Split("val", [Item(f"{n}", split[0].image, (0,), split[0].mask) for n in range(40)], split.classes, split.lut, split.raw_classes)
    contexts = Contexts(("sky",), lambda item: np.uint8(np.arange(48).reshape(SIZE) < 16))
    maps = {item.id: drawn(dice.random(SIZE) ** 4) for item in split.items}
    straight = context_shares(split, {"cam": maps}, contexts)["cam"]
    turned = context_shares(split.subset(range(39, -1, -1)), {"cam": maps}, contexts)["cam"]
    assert (straight.mean("boat") == turned.mean("boat")).all() and straight.typical("boat") == turned.typical("boat")


def test_the_context_mask_names_the_object_where_there_is_no_true_mask(split):
    items = [Item(item.id, item.image, item.labels) for item in split.items]
    bare = Split("val", items, split.classes)
    around = np.zeros(SIZE, np.uint8)
    around[:3], around[3:5] = 1, 2
    maps = {item.id: drawn(rows(0, 0, 1, 3, 0, 0)) for item in items}
    found = context_shares(bare, {"cam": maps}, Contexts(("sky", "boat"), lambda item: around))["cam"]
    assert found.share("boat", OBJECT) == 0.75 and found.share("boat", "boat") == 0 and found.share("boat", "sky") == 0.25
    assert not context_shares(bare, {"cam": maps}, Contexts(("sky",), lambda item: around))["cam"].classes


def test_a_mask_of_another_size_is_refused(voc, split):
    write_mask(voc / "ContextClass" / "a.png", np.zeros((5, 8), np.uint8))
    with pytest.raises(DataError, match=r"ContextClass/a\.png: the mask is 8x5, its image 8x6"):
        find_contexts(split).read(split[0])


@pytest.mark.parametrize("value", [8, 11, 200])
def test_a_value_without_a_name_is_refused_and_255_is_unlabelled(voc, split, value):
    mask = np.full(SIZE, 255, np.uint8)
    write_mask(voc / "ContextClass" / "a.png", mask)
    assert not find_contexts(split).read(split[0]).any()
    mask[0, 0] = value
    write_mask(voc / "ContextClass" / "a.png", mask)
    with pytest.raises(DataError, match=rf"a\.png: the value {value} has no name in context_classes.txt; add the line '{value} NAME'"):
        find_contexts(split).read(split[0])


def test_folders_are_found_named_or_missed(voc, split, tmp_path):
    assert find_contexts(split).folder == voc / "ContextClass"
    (voc / "ContextClass").rename(tmp_path / "elsewhere")
    assert find_contexts(split) is None
    assert find_contexts(split, tmp_path / "elsewhere").names[6] == "sky"
    (voc / "context_classes.txt").unlink()
    (tmp_path / "elsewhere").rename(voc / "ContextClass")
    assert find_contexts(split) is None, "a folder without a list of names is some other folder"
    with pytest.raises(DataError, match="context_classes.txt is neither in it nor beside it"):
        context_folder(voc / "ContextClass")
    with pytest.raises(DataError, match="no such folder of context masks"):
        find_contexts(split, tmp_path / "nowhere")


@pytest.mark.parametrize("line", ["water", "x water", "255 water", "7", "-1 water"])
def test_a_line_that_is_not_a_value_and_a_name_is_refused(voc, line):
    (voc / "context_classes.txt").write_text(f"7 sky\n{line}\n")
    with pytest.raises(DataError, match=r"context_classes\.txt, line 2: .* write lines such as '10 water'"):
        context_folder(voc / "ContextClass")


def test_drawn_scenes_know_their_places(tmp_path):
    root = draw_scenes(tmp_path / "scenes", 8, 8, 0, 0, 48, progress=False)
    val = load_voc(root, "val", SCENE_CLASSES)
    contexts = find_contexts(val)
    boat = next(i for i, item in enumerate(val.items) if item.labels == (SCENE_CLASSES.index("boat"),))
    around = contexts.read(val[boat])
    assert contexts.names == PLACES and (around == draw_scene(0, "val", boat, 48).places).all()
    assert around[-1, 0] == PLACES.index("water") + 1 and around[0, 0] == PLACES.index("sky") + 1
    assert not around[val.mask(boat) > 0].any(), "a thing is not a place"
    assert contexts.read(Item("holiday", val[0].image)) is None


def two(split):
    "Shares of two methods: the map leaves the water for the boat."
    before, after = rows(0, 0, 1, 1, 4, 4), rows(0, 0, 4, 4, 1, 1)
    return context_shares(split, {"cam": {id: drawn(before) for id in "abc"}, "wood": {id: drawn(after) for id in "abc"}}, find_contexts(split))


def test_a_line_a_table_and_a_chart_say_the_same(split):
    found = two(split)
    assert moves(found["cam"], found["wood"]) == ["boat: 80 % of the map on open water → 20 %"]
    table = context_table(found)
    assert main_places(found) == ["open water"]
    assert table.columns == ["class", "method", "maps", OBJECT, "open water", "other contexts", UNLABELLED]
    assert table.rows == [["boat", "CAM", 2, 20.0, 80.0, 0.0, 0.0], ["boat", "W-OoD", 2, 80.0, 20.0, 0.0, 0.0]]
    chart = context_chart(found, find_contexts(split))
    assert "boat, CAM: 80.0 % open water" in chart and "boat, W-OoD: 80.0 % the object" in chart
    assert "#6b6b6b" in chart and "#0072b2" in chart, "the object has the colour of the method"


def test_no_two_contexts_of_a_scene_have_one_colour():
    contexts = Contexts((*PLACES, "", "water"), lambda item: None)
    colours = [context_colour(contexts, name) for name in PLACES if name != "meadow"]
    assert len(set(colours)) == len(colours) and all(len(colour) == 7 for colour in colours)
    assert context_colour(contexts, "water") == context_colour(Contexts(("water",), contexts.read), "water"), "in every data set"


def test_outlines_have_the_colours_of_their_contexts(split):
    contexts = find_contexts(split)
    drawn = context_lines(np.zeros((*SIZE, 3), np.uint8), contexts.read(split[0]), contexts)
    assert not drawn[2:4].any(), "the object's own pixels, which are unlabelled, stay as they are"
    assert drawn[1].any(1).all() and drawn[4].any(1).all() and (drawn[1] != drawn[4]).any() and not drawn[0].any()


def test_places_go_to_the_nearest_cluster():
    centres, features = np.array([[0.0, 0.0], [4.0, 0.0]]), np.zeros((2, 1, 4))
    features[0] = [[0, 1.9, 2.1, 9]]
    assert cluster_shares(np.array([[1.0, 2.0, 3.0, 2.0]]), features, centres).tolist() == [0.375, 0.625]
    assert cluster_shares(np.zeros((1, 4)), features, centres) is None
    with pytest.raises(DataError, match="make them with one network"):
        cluster_shares(np.ones((2, 4)), features, centres)


def test_the_helper_refuses_what_does_not_fit():
    ones = np.ones((2, 2))
    with pytest.raises(DataError, match="resize one of them first"):
        weight_shares(ones, np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="the mask holds 3, but its values run from 0 to 2"):
        weight_shares(ones, np.full((2, 2), 3), 3)
    with pytest.raises(DataError, match="NaN"):
        weight_shares(np.array([[1, np.nan]]), np.zeros((1, 2), np.uint8))


def bright_left() -> CamNet:
    "A network whose only class is sure where the left half of a picture is bright, and unsure where it is dark."
    net = CamNet(torch.nn.Conv2d(3, 1, 1, bias=False), 1, ["bright"])
    torch.nn.init.constant_(net.classifier.weight, 1.0)
    net.backbone.forward = lambda images: 40 * (images[..., :4].mean((1, 2, 3)) - 1)[:, None, None, None]
    return net


def test_a_map_of_what_the_classifier_uses_has_the_better_curves():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255
    image, left = Image.fromarray(pixels), np.tile(np.r_[np.ones(4), np.zeros(4)], (8, 1)).astype(np.float32)
    ask = partial(removal_curves, bright_left(), image, key=0, steps=8, blur=0.5)
    right, wrong = ask(heat=left), ask(heat=1 - left)
    assert right.deletion_area < 0.4 < 0.6 < wrong.deletion_area and right.insertion_area > wrong.insertion_area
    assert right.share.tolist() == [n / 8 for n in range(9)] and right.deletion[0] == right.insertion[-1] > 0.99
    assert (ask(heat=left).deletion == right.deletion).all(), "pixels of equal height have an order"


def test_a_map_without_an_order_is_refused():
    for heat in (np.zeros((8, 8)), np.ones((4, 8))):
        with pytest.raises(DataError, match="same size, and not zero everywhere"):
            removal_curves(bright_left(), Image.new("RGB", (8, 8)), heat, 0)
