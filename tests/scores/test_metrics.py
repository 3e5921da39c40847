"Seeds, counts, sweeps, intervals and their files: against the reference's figures, plain loops, and bad input."
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion

from wood_nb.base.files import DataError, read_npz, write_npz
from wood_nb.scores.bootstrap import (bootstrap_difference, draws, Interval, pair_counts, plot_bootstrap, read_counts,
                                      resampled_iou, write_counts)
from wood_nb.scores.curves import (all_confusions, Curve, curve_rows, ImageRecord, Levels, plot_curves, THRESHOLDS,
                                   ThresholdSweep, write_curves)
from wood_nb.scores.seeds import confusion_matrix, image_counts, iou, mean_present, plot_confusion, Scores, seed
from wood_nb.scores.tables import PerClassTable


def reference_seed(cam, keys, threshold):
    "The definition: a background map at the threshold before the others, then arg-max."
    stack = np.concatenate([np.full((1, *cam.shape[1:]), threshold, np.float32), cam])
    return np.append(0, np.asarray(keys, int) + 1)[stack.argmax(0)]


def reference_iou(preds, trues, n):
    "Class by class, by sets of pixels, in plain Python."
    hits, unions = [0] * n, [0] * n
    for pred, true in zip(preds, trues):
        for p, t in zip(np.ravel(pred).tolist(), np.ravel(true).tolist()):
            if t == 255:
                continue
            unions[t] += 1
            if p == t:
                hits[t] += 1
            else:
                unions[p] += 1
    return [h / u if u else math.nan for h, u in zip(hits, unions)]


def an_image(rng, n_classes=6, height=13, width=11, most=4, steps=20):
    keys = np.sort(rng.choice(n_classes, rng.integers(0, most), replace=False))
    cam = (np.round(rng.random((len(keys), height, width)) * steps) / steps).astype(np.float32)
    return cam, keys, rng.choice([*range(n_classes + 1), 255], (height, width)).astype(np.uint8)


@pytest.fixture
def images():
    rng = np.random.default_rng(3)
    return [an_image(rng) for _ in range(9)]


@pytest.fixture
def sweep(images):
    sweep = ThresholdSweep(np.arange(1, 20) / 20, n_classes=6)
    for image in images:
        sweep.add(*image)
    return sweep


# the reference's figures

@pytest.fixture
def golden_seeds(golden):
    values = read_npz(golden / "seed_eval.npz")
    n = sum(name.startswith("cam") for name in values)
    return [(values[f"cam{i}"], values[f"keys{i}"], values[f"gt{i}"]) for i in range(n)], values


def test_golden_sweep_is_exact(golden_seeds):
    images, values = golden_seeds
    sweep = ThresholdSweep(values["thresholds"], n_classes=20)
    for image in images:
        sweep.add(*image)
    assert np.array_equal(sweep.miou(), values["miou"])
    assert np.array_equal([sweep.scores(n).iou for n in range(len(values["thresholds"]))], values["per_class_iou"], equal_nan=True)


def test_golden_one_threshold_at_a_time_is_exact(golden_seeds):
    images, values = golden_seeds
    for n, t in enumerate(values["thresholds"]):
        matrix = sum(confusion_matrix(seed(cam, keys, t), true, 21) for cam, keys, true in images)
        assert Scores.from_confusion(matrix).miou == values["miou"][n]
        assert np.array_equal(Scores.from_confusion(matrix).iou, values["per_class_iou"][n], equal_nan=True)


# seeds

@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.1, 0.3, 1 / 3, 0.7, 1.0])
def test_seed_follows_the_definition_ties_included(images, threshold):
    for cam, keys, _ in images:
        expected = reference_seed(cam, keys, threshold)
        mask = seed(cam, keys, threshold)
        assert mask.dtype == np.uint8 and np.array_equal(mask, expected)
        on_torch = seed(torch.from_numpy(cam), torch.from_numpy(keys), threshold)
        assert isinstance(on_torch, torch.Tensor) and np.array_equal(on_torch.numpy(), expected)


def test_seed_compares_in_float32():
    value = np.float32(0.1)  # slightly above 0.1 in double precision
    assert float(value) > 0.1 and not seed(np.full((1, 1, 1), value), [0], 0.1).any()


def test_seed_takes_what_people_have():
    cam = np.zeros((1, 4, 4), np.float16)
    cam[0, 1, 2] = 1
    cam.flags.writeable = False
    assert seed(cam, (19,), 0.5)[1, 2] == 20
    assert seed(cam[:, ::-1], [19], 0.5)[2, 2] == 20
    assert seed(torch.from_numpy(cam.copy()).requires_grad_(), [0], 0.5).sum() == 1
    assert not seed(np.zeros((0, 4, 4), np.float32), [], -1.0).any()


@pytest.mark.parametrize("cam, keys, says", [
    (np.zeros((2, 4, 4)), [0], r"maps \[2, 4, 4\] and keys \[1\]"),
    (np.zeros((4, 4)), [0], r"must be \[k, H, W\]"),
    (np.full((1, 4, 4), np.nan), [0], "NaN")])
def test_seed_refuses(cam, keys, says):
    with pytest.raises(ValueError, match=says):
        seed(cam, keys, 0.5)


# counting

def test_confusion_matrix_agrees_with_sklearn():
    rng = np.random.default_rng(0)
    pred, true = rng.integers(0, 5, (20, 30)), rng.choice([0, 1, 2, 3, 4, 255], (20, 30))
    seen = true != 255
    expected = sklearn_confusion(true[seen], pred[seen], labels=range(5))
    for dtype in (np.uint8, np.int32, np.int64):
        assert np.array_equal(confusion_matrix(pred.astype(dtype), true.astype(dtype), 5), expected)
    on_torch = confusion_matrix(torch.from_numpy(pred), torch.from_numpy(true), 5)
    assert on_torch.dtype == torch.int64 and np.array_equal(on_torch.numpy(), expected)


@pytest.mark.gpu
def test_on_the_device_as_on_the_cpu(images):
    here, there = (ThresholdSweep(n_classes=6) for _ in range(2))
    for cam, keys, true in images:
        here.add(cam, keys, true)
        there.add(torch.from_numpy(cam).cuda(), keys, torch.from_numpy(true).cuda())
        on_device = seed(torch.from_numpy(cam).cuda(), keys, 0.3)
        assert on_device.is_cuda and np.array_equal(on_device.cpu().numpy(), seed(cam, keys, 0.3))
        assert confusion_matrix(on_device, torch.from_numpy(true), 7).is_cuda
    assert np.array_equal(here.joint, there.joint)


@pytest.mark.parametrize("pred, true, says", [
    ([[3]], [[0]], "predicted mask holds 3"), ([[0]], [[9]], "true mask holds 9"), ([[-1]], [[0]], "holds -1"),
    ([[255]], [[0]], "predicted mask holds 255"), ([[0, 0]], [[0]], "resize")])
def test_confusion_matrix_refuses(pred, true, says):
    with pytest.raises(ValueError, match=says):
        confusion_matrix(np.array(pred), np.array(true), 3)


def test_a_prediction_of_255_under_ignored_pixels_is_nobodys_business():
    assert confusion_matrix(np.array([255, 1]), np.array([255, 1]), 2).tolist() == [[0, 0], [0, 1]]


def test_scores_count_over_the_data_set(images):
    preds = [reference_seed(cam, keys, 0.4) for cam, keys, _ in images]
    trues = [true for *_, true in images]
    counts = np.stack([image_counts(p, t, 7) for p, t in zip(preds, trues)])
    scores = Scores.from_counts(counts)
    assert np.array_equal(scores.iou, reference_iou(preds, trues, 7), equal_nan=True)
    assert scores.miou == pytest.approx(np.nanmean(scores.iou))
    per_image = np.nanmean(iou(counts), 0)
    assert not np.allclose(per_image, scores.iou)


def test_absent_classes_have_no_figure():
    matrix = np.zeros((4, 4), int)
    matrix[0, 0], matrix[1, 1], matrix[1, 0], matrix[0, 2] = 6, 3, 1, 2  # class 2 claimed, never there; 3 absent
    scores = Scores.from_confusion(matrix, ["a", "b", "c"])
    assert scores.iou[2] == 0 and np.isnan(scores.iou[3]) and scores.miou == pytest.approx((6 / 9 + 3 / 4 + 0) / 3)
    assert scores.precision[2] == 0 and np.isnan(scores.recall[2]) and np.isnan(scores.precision[3])
    assert scores.mean_recall == pytest.approx((6 / 8 + 3 / 4) / 2)
    assert scores.per_class == {"background": 66.667, "a": 75.0, "b": 0.0, "c": None}
    assert "–" in scores._repr_html_() and "3.5" not in repr(scores)


def test_nothing_counted_gives_no_figure_and_no_warning(recwarn):
    scores = Scores.from_confusion(np.zeros((3, 3), int))
    assert math.isnan(scores.miou) and math.isnan(scores.mean_precision) and not recwarn.list


def test_names_must_fit():
    with pytest.raises(ValueError, match="2 class names for 4 values"):
        Scores.from_confusion(np.zeros((4, 4), int), ["a", "b"][:2] + ["background"][:0])
    assert Scores.from_confusion(np.zeros((2, 2), int), ["bg", "x"]).classes == ("bg", "x")


def test_a_class_name_is_no_html():
    assert "<i>" not in Scores.from_confusion(np.eye(2, dtype=int), ["<i>x"])._repr_html_()


# the sweep

def test_sweep_equals_one_threshold_at_a_time(images, sweep):
    trues = [true for *_, true in images]
    for n, t in enumerate(sweep.thresholds):
        preds = [reference_seed(cam, keys, t) for cam, keys, _ in images]
        scores = sweep.scores_at(t)
        assert np.array_equal(scores.iou, reference_iou(preds, trues, 7), equal_nan=True)
        assert np.array_equal(scores.confusion, sum(confusion_matrix(p, t, 7) for p, t in zip(preds, trues)))
        assert np.array_equal(sweep.image_counts(t), [image_counts(p, t, 7) for p, t in zip(preds, trues)])
        assert sweep.miou()[n] == scores.miou and sweep.precision()[n] == scores.mean_precision
        assert sweep.recall()[n] == scores.mean_recall


def test_a_figure_does_not_depend_on_other_thresholds(images, sweep):
    "The reference's evaluator never empties its lists between thresholds, so its figures are running averages."
    for t in sweep.thresholds[::4]:
        alone = ThresholdSweep([t], n_classes=6)
        for image in images:
            alone.add(*image)
        assert np.array_equal(alone.scores(0).confusion, sweep.scores_at(t).confusion)
    last = ThresholdSweep([*sweep.thresholds[-2:], 0.99], n_classes=6)
    for image in images[::-1]:
        last.add(*image)
    assert last.miou()[0] == sweep.miou()[-2] and last.scores_at(0.95).miou == sweep.scores_at(0.95).miou


def test_asking_changes_nothing(sweep):
    before = sweep.joint.copy()
    first = sweep.miou(), sweep.best()[1].miou, sweep.image_counts(0.5)
    second = sweep.miou(), sweep.best()[1].miou, sweep.image_counts(0.5)
    assert np.array_equal(before, sweep.joint) and all(map(np.array_equal, first, second))


def test_torch_and_numpy_maps_count_alike(images, sweep):
    other = ThresholdSweep(sweep.thresholds, n_classes=6)
    for cam, keys, true in images:
        other.add(torch.from_numpy(cam), keys.tolist(), torch.from_numpy(true.astype(np.int64)))
    assert np.array_equal(other.joint, sweep.joint)


@pytest.mark.parametrize("thresholds", [
    np.arange(1, 100) / 100, [0.5], [0.1, 0.1000001, 0.5], [-1, 0, 0.3, 1, 2, 3], 0.1 + np.arange(50) / 1e4])
def test_levels_are_those_of_a_binary_search(thresholds):
    limits = torch.tensor(np.array(thresholds), dtype=torch.float32)
    near = torch.cat([limits, torch.nextafter(limits, torch.tensor(-9.0)), torch.nextafter(limits, torch.tensor(9.0))])
    values = torch.cat([near, torch.rand(5000), torch.tensor([-math.inf, -2.0, -0.0, 0.0, 1.0, 7.0, math.inf])])
    assert torch.equal(Levels(thresholds)(values).long(), torch.bucketize(values, limits))


def test_an_image_without_a_class_is_background():
    sweep = ThresholdSweep([-0.5, 0.5], n_classes=2)
    sweep.add(np.zeros((0, 2, 2), np.float32), [], np.array([[0, 1], [2, 255]], np.uint8))
    for n in range(2):
        assert sweep.scores(n).confusion.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert sweep.image_counts(0.5).tolist() == [[[1, 3, 1], [0, 0, 1], [0, 0, 1]]]


def test_best_is_the_first_of_the_highest():
    sweep = ThresholdSweep([0.1, 0.2, 0.3, 0.9], classes=["x"])
    sweep.add(np.array([[[0.05, 0.25, 0.8]]]), [0], np.array([[0, 0, 1]], np.uint8))
    assert sweep.best()[0] == 0.3 and sweep.best()[1].miou == 1 and sweep.best()[1].classes == ("background", "x")
    flat = ThresholdSweep([0.1, 0.2], n_classes=1)
    flat.add(np.array([[[0.9]]]), [0], np.array([[1]], np.uint8))
    assert flat.best()[0] == 0.1 and len(flat) == 1


@pytest.mark.parametrize("thresholds", [[], [0.2, 0.1], [0.1, 0.1], [0.1, math.nan], [math.inf]])
def test_thresholds_must_ascend(thresholds):
    with pytest.raises(ValueError, match="strictly ascending"):
        ThresholdSweep(thresholds, n_classes=2)


@pytest.mark.parametrize("cam, keys, true, says", [
    (np.zeros((1, 2, 2)), [5], np.zeros((2, 2), np.uint8), r"keys \[5\]"),
    (np.zeros((1, 2, 2)), [-1], np.zeros((2, 2), np.uint8), r"keys \[-1\]"),
    (np.zeros((2, 2, 2)), [1, 1], np.zeros((2, 2), np.uint8), "at most once"),
    (np.zeros((1, 2, 2)), [0], np.zeros((2, 3), np.uint8), "bring the maps to mask size"),
    (np.zeros((1, 2, 2)), [0], np.full((2, 2), 3, np.uint8), "true mask holds 3"),
    (np.zeros((1, 2, 2)), [0], np.full((2, 2), 300), "true mask holds 300"),
    (np.full((1, 2, 2), np.nan), [0], np.zeros((2, 2), np.uint8), "NaN")])
def test_sweep_refuses_and_stays_as_it_was(cam, keys, true, says):
    sweep = ThresholdSweep([0.5], n_classes=2)
    with pytest.raises(ValueError, match=says):
        sweep.add(cam.astype(np.float32), keys, true)
    assert not sweep.joint.any() and len(sweep) == 0


def test_sweep_says_what_it_lacks():
    with pytest.raises(ValueError, match="n_classes or classes"):
        ThresholdSweep([0.5])
    with pytest.raises(ValueError, match="1 to 254"):
        ThresholdSweep([0.5], n_classes=255)
    with pytest.raises(ValueError, match="no pixel"):
        ThresholdSweep([0.5], n_classes=1).best()
    with pytest.raises(ValueError, match="nearest is 0.5"):
        ThresholdSweep([0.2, 0.5], n_classes=1).scores_at(0.45)


def test_memory_stays_small():
    sweep = ThresholdSweep(n_classes=20)
    rng = np.random.default_rng(0)
    sweep.add(rng.random((2, 60, 80), np.float32), [3, 18], np.zeros((60, 80), np.uint8))
    assert sum(array.nbytes for array in sweep.images[0]) < 3000 and len(THRESHOLDS) == 99


# intervals

def two_methods(n=60, classes=4, gain=5, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 200, (n, classes)) * (rng.random((n, classes)) < 0.6)
    hit = (true * rng.uniform(0.3, 0.7, (n, classes))).astype(int)
    better = np.minimum(true, hit + gain * (true > 0))
    return [np.stack([h, h + 20 * (true > 0), true], -1).astype(np.int64) for h in (hit, better)]


def test_draws_are_with_replacement():
    weights = draws(7, 4000, np.random.default_rng(0))
    assert weights.shape == (4000, 7) and (weights.sum(1) == 7).all()
    assert np.allclose(weights.mean(0), 1, atol=0.06) and np.allclose(weights.var(0), 6 / 7, atol=0.08)


def test_bootstrap_equals_the_slow_way():
    base, better = two_methods()
    interval = bootstrap_difference(better, base, n=150, seed=4)
    rng, slow = np.random.default_rng(4), []
    for size in (100, 50):
        for weight in draws(len(base), size, rng).astype(int):
            sums = [np.repeat(c, weight, 0).sum(0) for c in (better, base)]
            slow.append(np.subtract(*(np.nanmean(c[:, 0] / (c[:, 1] + c[:, 2] - c[:, 0])) for c in sums)))
    assert np.allclose(interval.samples, slow, atol=1e-12)
    assert interval.mean == pytest.approx(np.mean(slow)) and interval.above_zero == np.mean(np.array(slow) > 0)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))
    assert interval.difference == pytest.approx(Scores.from_counts(better).miou - Scores.from_counts(base).miou)


def test_bootstrap_is_antisymmetric_repeatable_and_paired():
    base, better = two_methods()
    there, back = bootstrap_difference(better, base, seed=1), bootstrap_difference(base, better, seed=1)
    assert there.low == pytest.approx(-back.high) and there.low > 0 and there.above_zero == 1
    assert np.array_equal(there.samples, bootstrap_difference(better, base, seed=1).samples)
    same = bootstrap_difference(base, base, n=50)
    assert same.low == same.high == same.above_zero == 0
    assert there.high - there.low < bootstrap_difference(better, np.roll(base, 1, 0)).high - bootstrap_difference(
        better, np.roll(base, 1, 0)).low  # breaking the pairs widens the interval


def test_bootstrap_leaves_absent_classes_out():
    base, better = two_methods(n=12, classes=3)
    for counts in (base, better):
        counts[1:, 2] = 0  # in one image only: absent in about a third of the draws
    counts = np.concatenate([better, np.zeros((12, 1, 3), np.int64)], 1), np.concatenate([base, np.zeros((12, 1, 3), np.int64)], 1)
    interval = bootstrap_difference(*counts, n=400, names=["a", "rare", "never"])
    assert not np.isnan(interval.samples).any() and 0.2 < np.isnan(interval.per_class["rare"].samples).mean() < 0.5
    assert str(interval.per_class["never"]) == "absent" and "points" in str(interval.per_class["rare"])
    assert list(interval.per_class) == ["background", "a", "rare", "never"]


def test_bootstrap_interval_covers():
    "Of many data sets drawn from one population, about 95 % of the intervals hold the population's difference."
    pool = two_methods(n=4000, seed=5)
    truth = Scores.from_counts(pool[1]).miou - Scores.from_counts(pool[0]).miou
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        pick = rng.integers(4000, size=80)
        interval = bootstrap_difference(pool[1][pick], pool[0][pick], n=300)
        covered += interval.low <= truth <= interval.high
    assert 87 <= covered <= 100


def test_bootstrap_refuses():
    base, better = two_methods()
    for other in (better[:-1], better[0], better[:, :-1], better[:0]):
        with pytest.raises(ValueError, match="pair_counts"):
            bootstrap_difference(other, base)


def test_resampled_iou_is_exact():
    counts, _ = two_methods()
    weights = draws(len(counts), 5, np.random.default_rng(0))
    for weight, row in zip(weights, resampled_iou(weights, counts)):
        assert np.array_equal(row, iou(np.repeat(counts, weight.astype(int), 0).sum(0)), equal_nan=True)


def test_mean_present():
    assert mean_present(np.array([1.0, np.nan, 3.0])) == 2 and np.isnan(mean_present(np.array([np.nan])))
    assert mean_present(np.array([[1.0, np.nan], [np.nan, np.nan]])).tolist()[0] == 1


# files and pictures

def test_counts_come_back(tmp_path, sweep):
    counts, ids = sweep.image_counts(0.25), [f"a/{n}" for n in range(9)]
    write_counts(tmp_path / "eval" / "cam-val.npz", ids, counts, 0.25)
    again = read_counts(tmp_path / "eval" / "cam-val.npz")
    assert again[0] == ids and np.array_equal(again[1], counts) and again[2] == 0.25
    stored = read_npz(tmp_path / "eval" / "cam-val.npz")
    assert stored["counts"].dtype == np.int64 and stored["threshold"].dtype == np.float64 and stored["ids"].dtype.kind == "U"


def test_counts_of_another_file_are_refused(tmp_path, sweep):
    write_npz(tmp_path / "x.npz", ids=np.array(["a"]))
    with pytest.raises(DataError, match="x.npz: no array 'counts'"):
        read_counts(tmp_path / "x.npz")
    with pytest.raises(DataError, match="no such file"):
        read_counts(tmp_path / "y.npz")
    with pytest.raises(ValueError, match="one for each"):
        write_counts(tmp_path / "z.npz", ["a"], sweep.image_counts(0.5), 0.5)


def test_runs_are_paired_by_id():
    first, second = two_methods(n=4)
    ids, a, b = pair_counts(["p", "q", "r", "s"], first, ["s", "x", "q", "p"], second)
    assert ids == ["p", "q", "s"] and np.array_equal(a, first[[0, 1, 3]]) and np.array_equal(b, second[[3, 2, 0]])
    with pytest.raises(ValueError, match="no image in common"):
        pair_counts(["p"], first[:1], ["q"], second[:1])


def test_curves_csv(tmp_path, sweep):
    write_curves(tmp_path / "curves.csv", [*curve_rows(sweep, "cam", "val", seed=0), *curve_rows(sweep, "wood", "val")])
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[0] == "method,stage,split,seed,threshold,miou,precision,recall" and len(lines) == 1 + 2 * 19
    assert lines[1].startswith("cam,seed,val,0,0.05,") and lines[20].startswith("wood,seed,val,,0.05,")
    assert float(lines[1].split(",")[5]) == pytest.approx(100 * sweep.miou()[0], abs=1e-3)


def test_fine_thresholds_are_not_rounded(tmp_path):
    sweep = ThresholdSweep([0.00012, 0.5], n_classes=1)
    sweep.add(np.array([[[0.9]]]), [0], np.array([[1]], np.uint8))
    assert curve_rows(sweep, "cam", "val")[0][4] == 0.00012


def test_pictures(sweep):
    base, better = two_methods()
    for picture in (plot_curves({"CAM": sweep, "W-OoD": sweep}), plot_confusion(sweep.best()[1]),
                    plot_bootstrap(bootstrap_difference(better, base, n=50), "title")):
        assert picture.png()[:4] == b"\x89PNG" and len(picture.png()) < 120_000
    with pytest.raises(ValueError, match="from_confusion"):
        plot_confusion(Scores.from_counts(base))


def test_parts_fit_together(images, sweep):
    assert isinstance(sweep, Curve) and isinstance(sweep.images[0], ImageRecord)
    assert all_confusions(sweep.joint).sum((1, 2)).tolist() == [sum((t != 255).sum() for *_, t in images)] * 19
    assert PerClassTable({"a": sweep.best()[1]}).rows[0].miou == round(100 * sweep.best()[1].miou, 3)
    assert isinstance(bootstrap_difference(sweep.image_counts(0.5), sweep.image_counts(0.5), n=10), Interval)
