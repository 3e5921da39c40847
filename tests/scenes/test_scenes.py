"""Drawn scenes on disk: whole or not at all, the same from any number of processes, masks, labels and annotations agreeing."""
import csv
import json

import numpy as np
import pytest
from PIL import Image

from wood_nb.scenes import scenes
from wood_nb.base.files import DataError
from wood_nb.data.images import VOC_CLASSES
from wood_nb.data.sources import load_pool, load_voc
from wood_nb.scenes.scenes import CONTEXT, draw_candidate, draw_scene, draw_scenes, plan_scene, SCENE_CLASSES

FEW = {"train": 16, "val": 8, "ood": 8, "pool": 24, "size": 48, "progress": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_scenes(tmp_path_factory.mktemp("drawn") / "scenes", **FEW)


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_folder_reads_as_voc(root):
    for labels in ("xml", "masks", root / "labels.csv"):
        train = load_voc(root, "train", SCENE_CLASSES, labels)
        assert len(train) == 16 and set(np.concatenate([item.labels for item in train.items])) == set(range(len(SCENE_CLASSES)))
        assert train.items == load_voc(root, "train", SCENE_CLASSES, "masks").items
    for i in range(16):
        mask = train.mask(i)
        assert mask.shape == (48, 48) and set(np.unique(mask)) - {0} == {label + 1 for label in train[i].labels}


def test_mask_files_carry_voc_values(root):
    for path in (root / "SegmentationClass").glob("*.png"):
        with Image.open(path) as mask, Image.open(root / "SegmentationObject" / path.name) as instances:
            assert mask.mode == instances.mode == "P"
            mask, instances = np.array(mask), np.array(instances)
        assert {VOC_CLASSES[value - 1] for value in np.unique(mask) if value} <= set(SCENE_CLASSES)
        assert ((mask > 0) == (instances > 0)).all()


def test_ood_pictures_and_pool(root):
    assert len(load_pool(root / "ood", root / "ood" / "ood_list.txt")) == 8
    pool, truth = load_pool(root / "pool", root / "pool" / "pool.txt"), rows(root / "pool" / "truth.csv")
    assert [item.image.name for item in pool.items] == [row["image"] for row in truth]
    assert {name for row in truth for name in row["contains"].split(";") if name} <= set(SCENE_CLASSES)
    assert all(bool(row["contains"]) == (row["kind"] in ("object", "leak")) for row in truth if row["kind"] != "copy")
    assert all(bool(row["original"]) == (row["kind"] in ("copy", "leak")) for row in truth)


def test_two_processes_draw_what_one_draws(tmp_path, monkeypatch):
    many = {**FEW, "train": 80, "val": 0, "pool": 8}
    assert contents(draw_scenes(tmp_path / "one", **many, workers=1)) == contents(draw_scenes(tmp_path / "two", **many, workers=2))


def test_a_small_set_is_the_beginning_of_a_large_one(root, tmp_path):
    small = draw_scenes(tmp_path / "small", **{**FEW, "train": 8, "pool": 5})
    for path in sorted(p for p in small.rglob("*.*") if p.suffix in (".jpg", ".png", ".xml")):
        assert path.read_bytes() == (root / path.relative_to(small)).read_bytes()


def test_the_same_scenes_are_not_drawn_twice(root, monkeypatch):
    monkeypatch.setattr(scenes, "write_scene", lambda *args: pytest.fail("drawn again"))
    assert draw_scenes(root, **FEW) == root


def test_other_scenes_are_never_overwritten(root, tmp_path):
    before = contents(root)
    with pytest.raises(DataError, match="seed = 0, not 1"):
        draw_scenes(root, **{**FEW, "seed": 1})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("unsaved")
    with pytest.raises(DataError, match="not empty"):
        draw_scenes(tmp_path / "mine", **FEW)
    assert contents(root) == before and [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    real = scenes.write_scene

    def fails(root, spec, part, i):
        if part == "val" and i == 3:
            raise OSError("disk full")
        return real(root, spec, part, i)
    monkeypatch.setattr(scenes, "write_scene", fails)
    with pytest.raises(OSError, match="disk full"):
        draw_scenes(tmp_path / "scenes", **FEW)
    assert not list(tmp_path.iterdir())


def test_the_faster_of_two_wins(tmp_path, monkeypatch):
    "Another process finishes the same folder while this one draws: its folder stays, ours goes."
    real, done = scenes.write_lists, []

    def slow(place, rows):
        if not done:
            done.append(True)
            draw_scenes(tmp_path / "other", **FEW).rename(tmp_path / "scenes")
        real(place, rows)
    monkeypatch.setattr(scenes, "write_lists", slow)
    assert draw_scenes(tmp_path / "scenes", **FEW).is_dir() and [p.name for p in tmp_path.iterdir()] == ["scenes"]


@pytest.mark.parametrize("wrong", [{"size": 8}, {"train": -1}, {"co_occurrence": 1.5}])
def test_nonsense_is_refused(tmp_path, wrong):
    with pytest.raises(DataError, match="cannot be drawn"):
        draw_scenes(tmp_path / "scenes", **{**FEW, **wrong})


def test_a_split_may_be_empty(tmp_path):
    root = draw_scenes(tmp_path / "scenes", **{**FEW, "val": 0, "ood": 0, "pool": 0})
    assert not (root / "pool").exists() and json.loads((root / "scenes.json").read_text())["val"] == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_co_occurrence_is_what_was_asked_for(share):
    from random import Random
    names = [SCENE_CLASSES[i % len(SCENE_CLASSES)] for i in range(400)]
    own = [CONTEXT[name] in plan_scene(Random(i), [name], share).contexts for i, name in enumerate(names)]
    assert abs(np.mean(own) - share) < (0.08 if share == 0.5 else 1e-9)


def test_every_actor_is_seen():
    "Placed with care: in 400 scenes no class that was cast is hidden or out of the picture."
    for i in range(400):
        scene = draw_scene(7, "train", i, 32)
        assert {actor.name for actor in scene.plan.actors} == set(scene.names), i


def test_the_pool_has_something_of_everything():
    found = [draw_candidate(0, i, 32) for i in range(200)]
    assert {one.kind for one in found} == set(scenes.KINDS)
    assert 0.15 < np.mean([bool(one.contains) for one in found]) < 0.4
