"Per-class tables: what is compared with what, every format with awkward names, and the rows of metrics.json."
import csv
import io
import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest

from wood_nb.base.files import DataError, write_json
from wood_nb.scores.seeds import Scores
from wood_nb.scores.rows import (average_seeds, caption, OVERALL, percent, read_results, result_row, row_names, signed,
                                 table_row, write_results)
from wood_nb.scores.tables import difference, is_best, PerClassTable, plot_gains, tint

KNOWN = dict(split="val", threshold=0.2, threshold_from="train masks", crf=False, seed=0)
NASTY = ["plain", "<script>alert('x')</script>", "a|b", "50% & $3 #1_x {y} ~z^2 \\w", "*bold* _it_ `code` [link](x)", "two\nlines"]


class Parsed(HTMLParser):
    "Cells of an HTML table as (text, style, bold), and every tag that occurs; checks that tags are closed."

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.open = [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(["", dict(attributes).get("style", ""), False])
        if tag == "b":
            self.rows[-1][-1][2] = True

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1][0] += data


@pytest.fixture
def table():
    return PerClassTable({"CAM": {"boat": 30.0, "train": 41.24, "sofa": None},
                          "W-OoD": {"boat": 28.5, "train": 52.0, "sofa": None}}, **KNOWN)


# what is compared with what

def test_mean_is_over_the_classes_present(table):
    assert table.row("CAM").miou == pytest.approx(35.62) and table.baseline.name == "CAM"
    assert table.differences() == pytest.approx({"boat": -1.5, "train": 10.76, "sofa": None, "mean": 4.63})


def test_a_published_mean_stands():
    row = table_row("FickleNet", {"a": 60.0, "b": 70.0}, miou=65.3, measured=False, source="table A3")
    assert row.miou == 65.3 and row.label == "FickleNet†"


def test_rows_from_scores_and_from_metrics_json():
    scores = Scores.from_confusion(np.array([[5, 1, 0], [1, 3, 0], [0, 0, 0]]), ["x", "y"])
    result = result_row(scores, method="cam", **KNOWN)
    for row in (table_row("a", scores, **KNOWN), table_row("a", result)):
        assert row.miou == percent(scores.miou) and row.per_class == scores.per_class and row.per_class["y"] is None
        assert {key: row.facts[key] for key in KNOWN} == KNOWN


def test_no_comparison_across_splits_or_class_sets():
    val, test = table_row("a", {"x": 50.0, "y": 40.0}, split="val"), table_row("b", {"x": 60.0, "y": 50.0}, split="test")
    assert difference(test, val, "x") is None and not is_best(test, [val, test], "x")
    fewer = table_row("c", {"x": 70.0, "y": None}, split="val")
    assert difference(fewer, val, "x") == 20 and difference(fewer, val, OVERALL) is None
    assert is_best(fewer, [val, fewer], "x") and not is_best(fewer, [val, fewer], OVERALL)
    assert "means are over different classes" in caption([val, fewer])


def test_ties_as_printed_share_the_bold():
    rows = [table_row(n, {"x": v}) for n, v in (("a", 41.24), ("b", 41.2), ("c", 41.1))]
    assert [is_best(row, rows, "x") for row in rows] == [True, True, False]
    assert not is_best(rows[0], rows[:1], "x")


def test_baseline_can_be_chosen(table):
    other = PerClassTable({r.name: r.per_class for r in table.rows}, baseline="W-OoD")
    assert other.differences()["train"] == pytest.approx(-10.76)
    with pytest.raises(ValueError, match="no row 'x'.*CAM, W-OoD"):
        PerClassTable({r.name: r.per_class for r in table.rows}, baseline="x").differences()


def test_what_a_table_refuses(table):
    with pytest.raises(ValueError, match="already"):
        table.add("CAM", {"boat": 1.0})
    with pytest.raises(ValueError, match=r"unknown facts \['treshold'\]"):
        table.add("x", {"boat": 1.0}, treshold=0.2)
    with pytest.raises(ValueError, match="two rows"):
        PerClassTable({"one": {"boat": 1.0}}).differences()
    with pytest.raises(ValueError, match="'classes' or 'paper'"):
        table.to_html("wide")
    with pytest.raises(ValueError, match="no row 'nobody'"):
        table.sorted_by("nobody")


def test_sorting(table):
    assert table.sorted_by("difference").classes == ("train", "boat", "sofa")
    assert table.sorted_by("CAM").classes == ("train", "boat", "sofa")
    assert table.sorted_by("class").classes == ("boat", "sofa", "train")
    assert table.sorted_by("class", reverse=True).classes == ("train", "sofa", "boat")
    by_boat = table.sorted_by("mean")
    assert [row.name for row in by_boat.rows] == ["W-OoD", "CAM"] and by_boat.baseline.name == "CAM"
    assert table.classes == ("boat", "train", "sofa") and [row.name for row in table.rows] == ["CAM", "W-OoD"]


# facts

def test_caption_says_shared_facts_once_and_others_by_name(table):
    assert caption(table.rows) == ("IoU in %; split val; threshold 0.2 (chosen on train masks); without CRF; "
                                   "random seed 0; measured here.")
    table.add("reported", {"boat": 1.0, "train": 2.0}, split="val", measured=False, source="their table 2")
    text = table.caption
    assert "CAM, W-OoD: threshold 0.2 (chosen on train masks)" in text and "reported: reported, not measured here" in text
    assert "Not stated for all rows: CRF" in text
    assert "† Reported, not measured here. reported: their table 2." in table.to_markdown()


def test_what_is_not_stated_is_named():
    assert caption([table_row("a", {"x": 1.0})]) == "IoU in %; measured here. Not stated: split, threshold, CRF, random seed."
    assert "origin not stated" in caption([table_row("a", {"x": 1.0}, threshold=0.1)])
    assert "threshold" not in caption([table_row("a", {"x": 1.0}, stage="segmentation", split="val", crf=True, seed=1)])


# formats

def test_html_cells_colours_and_signs(table):
    text = table.to_html()
    rows = Parsed(text).rows
    assert [c[0] for c in rows[0]] == ["class", "CAM", "W-OoD", "W-OoD − CAM"] and table._repr_html_() == text
    assert [c[0] for c in rows[2]] == ["train", "41.2", "52.0", "+10.8"] and rows[2][2][2] and not rows[2][1][2]
    assert [c[0] for c in rows[1]] == ["boat", "30.0", "28.5", "−1.5"] and rows[1][1][2]
    assert [c[0] for c in rows[3]] == ["sofa", "–", "–", "–"] and [c[0] for c in rows[4]] == ["mean", "35.6", "40.2", "+4.6"]
    assert "rgba(0,114,178" in rows[2][3][1] and "rgba(230,110,0" in rows[1][3][1] and "rgba" not in rows[3][3][1]


def test_html_brings_no_colours_of_its_own_but_transparent_ones(table):
    text = table.to_html() + table.to_html("paper", differences=True)
    assert Parsed(text).tags <= {"div", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "b", "p", "br"}
    assert "#" not in text and "white;" not in text and ";color" not in text and "script" not in text
    for part in text.split("rgba(")[1:]:
        assert float(part.split(")")[0].split(",")[3]) <= 0.6


@pytest.mark.parametrize("layout", ["classes", "paper"])
def test_awkward_names_survive_every_format(layout):
    table = PerClassTable({name: {c: 10.0 * i + j for j, c in enumerate(NASTY)} for i, name in enumerate(NASTY)}, split="<b>")
    parsed = Parsed(table.to_html(layout))
    assert parsed.tags <= {"div", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "b", "p", "br"}
    assert [c[0] for c in parsed.rows[0]][1:7] == NASTY and len({len(row) for row in parsed.rows}) == 1
    lines = [line for line in table.to_markdown(layout).splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1 and len({len(line) for line in lines}) == 1
    assert "<script" not in table.to_markdown().replace("\\<", "")
    body = table.to_latex(layout).split("\\toprule")[1].split("\\bottomrule")[0]
    assert body.count("{") - body.count("\\{") == body.count("}") - body.count("\\}") and "\n\n" not in body
    columns = table.to_latex(layout).split("\\begin{tabular}{")[1].split("}")[0]
    for line in body.splitlines():
        if line.endswith("\\\\"):
            assert line.replace("\\&", "").count("&") == len(columns) - 1
    rows = list(csv.reader(io.StringIO(table.to_csv(layout))))
    assert len({len(row) for row in rows}) == 1 and NASTY[1] in sum(rows, [])


def test_latex(table):
    table.add("AdvCAM", {"boat": 1.0, "train": 2.0}, split="val", measured=False, source="a & b")
    text = table.to_latex(label="tab:x")
    assert text.startswith("\\begin{table}\n\\centering\n\\caption{IoU in \\%") and "\\label{tab:x}" in text
    assert "AdvCAM\\textsuperscript{\\dag} & 1.0 & 2.0 & -- & 1.5 \\\\" in text and "\\textbf{52.0}" in text
    assert "AdvCAM: a \\& b" in text and "\\begin{tabular}{lrrrr}" in text
    lines = text.splitlines()
    assert [n - lines.index("\\toprule") for n, line in enumerate(lines) if line == "\\midrule"] == [2], "a rule below the head, and no other"
    assert "$-$1.5" in table.to_latex("classes") and text.isascii()


def test_csv_is_for_programs(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert rows[0]["method"] == "CAM" and rows[0]["sofa"] == "" and float(rows[0]["train"]) == 41.24
    assert rows[0]["measured"] == "true" and rows[0]["threshold_from"] == "train masks" and rows[1]["mean"] == "40.25"
    by_class = list(csv.DictReader(io.StringIO(table.to_csv("classes"))))
    assert float(by_class[1]["W-OoD − CAM"]) == 10.76 and by_class[2]["CAM"] == ""


def test_short_names_in_papers_only():
    table = PerClassTable({"a": {"background": 1.0, "tvmonitor": 2.0}})
    assert "bkg" in table.to_latex() and "tvmonitor" in table.to_html() and "bkg" not in table.to_html()


def test_one_row_has_no_best_and_no_difference():
    text = PerClassTable({"a": {"x": 1.0}}).to_html()
    assert "<b>" not in text and "−" not in text


def test_an_empty_table_can_be_looked_at():
    assert "class" in repr(PerClassTable()) and "<table>" in PerClassTable()._repr_html_() and PerClassTable().to_latex()


@pytest.mark.parametrize("value, text", [(3.14, "+3.1"), (-5.06, "−5.1"), (0, "0.0"), (-0.04, "0.0"), (0.05, "+0.1"),
                                         (None, "–"), (math.nan, "–")])
def test_signed(value, text):
    assert signed(value) == text


def test_tint_follows_size_and_sign():
    strengths = [float(tint(v).split(",")[-1][:-2]) for v in (0.5, 5, -50)]
    assert strengths == sorted(strengths) and strengths[-1] == 0.6 and tint(None) == tint(0.01) == ""


def test_bars(table):
    picture = plot_gains(table)
    assert picture.png()[:4] == b"\x89PNG" and "sofa" not in [t.get_text() for t in picture.axes[0].get_yticklabels()]
    assert [t.get_text() for t in picture.axes[0].texts] == ["−1.5", "+10.8"]


# metrics.json

def results():
    scores = Scores.from_confusion(np.array([[50, 2, 0], [10, 30, 0], [0, 0, 0]]), ["boat", "sofa"])
    return [result_row(scores, method=m, split="val", threshold=0.2 + s / 100, threshold_from="train masks", seed=s, images=3)
            for m in ("cam", "wood") for s in range(2)]


def test_result_rows_have_the_form_of_docs_formats(tmp_path):
    row = results()[0]
    assert set(row) == {"method", "stage", "split", "threshold", "threshold_from", "crf", "seed", "miou", "per_class", "precision",
                        "recall", "images", "other_classes", "run", "measured", "source"}
    assert row["per_class"] == {"background": 80.645, "boat": 71.429, "sofa": None} and row["miou"] == 76.037
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    write_results(tmp_path / "metrics.json", results())
    assert read_results(tmp_path / "metrics.json") == results()


def test_figures_need_their_origin():
    scores = Scores.from_confusion(np.eye(2, dtype=int))
    with pytest.raises(ValueError, match="where it comes from"):
        result_row(scores, method="cam", split="val", threshold=0.2)
    with pytest.raises(ValueError, match="source"):
        result_row(scores, method="cam", split="val", measured=False)


def test_bad_metrics_files(tmp_path):
    write_json(tmp_path / "metrics.json", {"format": "wood_nb.metrics", "version": 1, "results": [{"method": "cam", "split": "val"}]})
    with pytest.raises(DataError, match=r"metrics.json: results\[0\].stage is missing"):
        read_results(tmp_path / "metrics.json")
    write_json(tmp_path / "metrics.json", {"format": "wood_nb.metrics", "version": 2, "results": []})
    with pytest.raises(DataError, match="version 2"):
        read_results(tmp_path / "metrics.json")


def test_names_are_distinct():
    rows = results()
    assert row_names(rows[::2]) == ["CAM", "W-OoD"]
    assert row_names(rows) == ["CAM, seed 0", "CAM, seed 1", "W-OoD, seed 0", "W-OoD, seed 1"]
    assert row_names([rows[0], rows[0]]) == ["CAM (1)", "CAM (2)"]
    assert row_names([{**rows[0], "method": "mine"}]) == ["mine"]
    assert len(PerClassTable.from_results(rows).rows) == 4


def test_seeds_are_averaged():
    rows = [{**row, "miou": row["miou"] + row["seed"]} for row in results()]
    averaged = average_seeds(rows)
    assert [row["method"] for row in averaged] == ["cam", "wood"] and averaged[0]["seed"] == [0, 1]
    assert averaged[0]["miou"] == pytest.approx(76.537) and averaged[0]["miou_std"] == pytest.approx(0.707, abs=1e-3)
    assert averaged[0]["threshold"] == pytest.approx([0.2, 0.21]) and averaged[0]["per_class"]["sofa"] is None
    table = PerClassTable.from_results(averaged)
    assert "76.5 ± 0.7" in table.to_markdown() and "$\\pm$" in table.to_latex()
    assert "thresholds 0.2, 0.21 (chosen on train masks)" in table.caption and "random seeds 0, 1" in table.caption
    assert average_seeds(rows[:1]) == rows[:1] and "miou_std" not in average_seeds(rows[:1])[0]
