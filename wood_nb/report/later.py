"""What came after the seeds: pseudo masks, final segmentations, their outlines and confusions, the steps in pictures"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..base.html import Field, Html, fitted, img, table, tag
from ..data.images import read_mask
from ..maps.cam import load_maps, with_maps
from ..maps.methods import CRF, TRUTH, followed_by, from_boxes, method_name
from .maps import HEAT, SIDE, class_chips, heat_picture, panel, truth_picture
from .page import Section
from .result import method_lines
from .run_data import BASELINE, LATER, ReportData, evaluations, later_rows, with_networks
from ..scores.rows import one_decimal
from ..scores.tables import SHORT_NAMES, PerClassTable


def _later_tables(data: ReportData, stage: str) -> list[Html]:
    "IoU per class of the masks of a stage: a table for the split, one for its beginning if AdvCAM stopped there; rows from boxes apart."
    rows = later_rows(data, stage)
    tables = []
    for split, boxes in dict.fromkeys((row["split"], from_boxes(row["method"])) for row in rows):
        found = with_networks([row for row in rows if row["split"] == split and from_boxes(row["method"]) == boxes])
        images = next(iter(found.values())).get("images", "?")
        title = f"{split}, {images} images{', learnt from boxes' if boxes else ''}"
        tables += [tag("h4", title), method_lines(PerClassTable(found))]
    return tables


def _boundary_table(found: Mapping[str, dict]) -> Html:
    "Boundary F per class, a line for each segmentation."
    classes = [SHORT_NAMES.get(name, name) for name in next(iter(found.values()))["classes"]]
    rows = []
    for name, note in found.items():
        values = [*(own["boundary_f"] for own in note["classes"].values()), note["mean_boundary_f"]]
        rows.append([name, *(Field(one_decimal(v), v) for v in values)])
    words = "Per cent; an outline is right within 0.75 % of the diagonal."
    return table(["boundary F", *map(Field, (*classes, "mean"))], rows, words, sortable=True)


def _confusion_table(found: Mapping[str, dict], most: int = 5) -> Html:
    "The largest confusions of each segmentation."
    rows = [[name, pair["true"], pair["taken_for"], Field(one_decimal(100 * pair["share"]), pair["share"])]
            for name, note in found.items() for pair in note["confusions"][:most]]
    return table(["trained on", "class", "taken for", Field("% of its pixels")], rows, sortable=True)


def _evaluation_parts(data: ReportData) -> list[Html]:
    "Outlines and confusions of the final segmentations, if there are any."
    found = evaluations(data)
    title = tag("h3", "Final segmentation: boundary F and what is confused with what")
    return [title, _boundary_table(found), _confusion_table(found)] if found else []


def _refined(data: ReportData) -> dict[str, float | None]:
    "Methods that have maps and masks of the split shown, and the threshold of their masks; those that learn from boxes have none."
    rows = [row for row in later_rows(data, "mask") if not from_boxes(row["method"])]
    return {row["method"]: row.get("threshold") for row in rows if _map_folder(data, row["method"]).is_dir()}


def _made_of_masks(data: ReportData, id: str) -> dict[str, Path]:
    "Name -> mask of an image by each method that works on masks and has no maps, as SSDD."
    methods = [row["method"] for row in later_rows(data, "mask") if not from_boxes(row["method"])]
    return _mask_files(data, id, [method for method in dict.fromkeys(methods) if not _map_folder(data, method).is_dir()])


def _mask_files(data: ReportData, id: str, methods: Iterable[str]) -> dict[str, Path]:
    "Name -> mask of an image by each of these methods that has one."
    files = {method_name(m): data.path / "masks" / m / data.split.name / f"{id}.png" for m in methods}
    return {name: file for name, file in files.items() if file.is_file()}


def _crf_masks(data: ReportData, id: str, methods: Iterable[str]) -> dict[str, Path]:
    "Name -> mask of an image after the CRF: of the baseline, and of the last other method."
    last = [BASELINE, *(m for m in methods if m != BASELINE)][-1]
    return _mask_files(data, id, [followed_by(method, CRF) for method in (BASELINE, last)])


def _step_row(data: ReportData, id: str, cuts: Mapping[str, float | None]) -> Html:
    "An image, its map by every method (with the mask at its threshold), its masks after the CRF and SSDD, the truth."
    index = data.split.ids.index(id)
    image, n = data.split.image(index), data.split.n_classes
    panels = [panel(fitted(image, SIDE), f"image {id}", "image")]
    for method, threshold in cuts.items():
        maps, name = load_maps(_map_folder(data, method) / f"{id}.npz"), method_name(method)
        panels.append(panel(heat_picture(image, maps, threshold), f"{name} map of {id}", name))
    files = {**_crf_masks(data, id, cuts), **_made_of_masks(data, id)}
    masks = [(name, read_mask(file, n)) for name, file in files.items()]
    if data.split[index].mask is not None:
        masks.append((method_name(TRUTH), data.split.mask(index)))
    panels += [panel(truth_picture(image, mask), f"{name} of {id}", name) for name, mask in masks]
    return tag("figure", tag("figcaption", class_chips(data.split, data.split[index].labels), tag("code", id)),
               tag("div", panels), class_="row")


def _map_folder(data: ReportData, method: str) -> Path:
    "Where the maps of the split shown lie."
    return data.path / "maps" / method / data.split.name


def _step_rows(data: ReportData, most: int = 6) -> list[Html]:
    "Images drawn at random from those that every method has maps of."
    cuts = _refined(data)
    shown = with_maps(data.split, *(_map_folder(data, method) for method in cuts))
    drawn = np.random.default_rng(0).permutation(len(shown))[:most if cuts else 0]
    return [_step_row(data, shown.ids[i], cuts) for i in sorted(drawn)]


def relation_pictures(data: ReportData) -> list[Html]:
    "What IRN has learnt, as `wood refine` drew it: boundaries, displacement, maps before and after the walk."
    files = sorted((data.path / "refine").glob("*/relations.png"))
    return [tag("figure", img(Image.open(file).convert("RGB"), f"boundaries and displacement, {file.parent.name}"),
                tag("figcaption", method_name(file.parent.name))) for file in files]


def later_section(data: ReportData) -> Section | None:
    "Tables and pictures of what came after the seeds."
    tables = [part for stage, title in LATER.items() if later_rows(data, stage)
              for part in (tag("h3", title), *_later_tables(data, stage))]
    parts = [*tables, *_evaluation_parts(data)]
    if not parts:
        return None
    rows, relations = _step_rows(data), relation_pictures(data)
    if rows:
        line = "White line: the mask before the CRF. Images drawn at random."
        parts += [tag("h3", "Step by step"), tag("p", HEAT, line), *rows]
    if relations:
        parts += [tag("h3", "Boundaries and displacement"), *relations]
    return Section("masks", f"Masks, {data.split.name}", parts)
