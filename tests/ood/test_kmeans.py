"K-means that holds: the reference's labels, no NaN, no empty cluster, clear errors."
import logging

import numpy as np
import pytest
from sklearn.decomposition import PCA

from wood_nb.base.files import DataError, read_npz
from wood_nb.ood import kmeans as room
from wood_nb.ood.kmeans import (checked_points, default_k, distinct_rows, k_curve, kmeans, plot_k_curve,
                                principal_components, tidy_clusters)


def blobs(n=120, d=6, centres=4, seed=0):
    rng = np.random.default_rng(seed)
    at = rng.normal(size=(centres, d)) * 5
    return (at[rng.integers(0, centres, n)] + rng.normal(size=(n, d))).astype(np.float32)


def lloyd(points, k, rounds):
    "The reference's algorithm, written out; points without empty clusters only."
    points = points.astype(np.float64)
    centres = points[:k].copy()
    for _ in range(rounds):
        labels = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
        centres = np.stack([points[labels == j].mean(0) for j in range(k)])
    return labels, centres


def test_golden_kmeans(golden):
    case = read_npz(golden / "kmeans.npz")
    labels, centroids = kmeans(case["features"], int(case["k"]), init="first", max_iter=int(case["iterations"]))
    assert (labels == case["labels"]).all()
    assert np.abs(centroids - case["centroids"]).max() < 1e-4


@pytest.mark.parametrize("rounds", [2, 3, 10])
@pytest.mark.parametrize("seed", range(4))
def test_first_k_start_is_lloyd_even_unconverged(rounds, seed):
    points = np.random.default_rng(seed).normal(size=(300, 8)).astype(np.float32)
    labels, centroids = kmeans(points, 9, init="first", max_iter=rounds)
    by_hand, centres = lloyd(points, 9, rounds)
    assert (labels == by_hand).all() and np.abs(centroids - centres).max() < 1e-5


def test_default_k():
    assert [default_k(n) for n in (1, 2, 19, 29, 30, 499, 500, 5190)] == [1, 2, 2, 2, 3, 49, 50, 50]


def test_default_k_is_logged(caplog):
    with caplog.at_level(logging.INFO, "wood_nb.ood.kmeans"):
        kmeans(blobs(40))
    assert "40 pictures, so 4 clusters by default" in caplog.text


@pytest.mark.parametrize("k", [121, 0, -3])
def test_k_beyond_the_pictures(k):
    with pytest.raises(DataError, match=f"k={k}: 120 pictures.*between 1 and 120"):
        kmeans(blobs(120), k)


@pytest.mark.parametrize("options", [dict(init="random"), dict(max_iter=1)])
def test_unknown_options(options):
    with pytest.raises(DataError, match="say"):
        kmeans(blobs(), 3, **options)


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(4), np.zeros((3, 0)), np.full((3, 2), np.nan)])
def test_points_that_are_none(bad):
    with pytest.raises(DataError):
        kmeans(bad)


@pytest.mark.parametrize("init", ["k-means++", "first"])
@pytest.mark.parametrize("distinct", [1, 2, 4])
def test_fewer_distinct_points_than_k(init, distinct):
    points = np.repeat(blobs(distinct, seed=3), 12, axis=0)
    with pytest.warns(UserWarning, match=f"only {distinct} different"):
        labels, centroids = kmeans(points, 9, init=init)
    assert np.isfinite(centroids).all() and len(centroids) == distinct
    assert np.bincount(labels).tolist() == [12] * distinct


def test_minus_zero_is_zero():
    assert distinct_rows(checked_points(np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]]))) == [0, 2]


def test_equal_rows_among_the_first_k():
    points = blobs(200, centres=3)
    points[1] = points[0]  # what turned the plain algorithm's centres to NaN
    labels, centroids = kmeans(points, 3, init="first", max_iter=10)
    assert np.isfinite(centroids).all() and np.bincount(labels, minlength=3).min() > 0
    points[:] = points[0]
    points[0] += 1
    labels, centroids = kmeans(points, 2, init="first")
    assert sorted(np.bincount(labels)) == [1, 199]


@pytest.mark.parametrize("whole", [20_000, 64])
def test_centres_are_means_and_clusters_are_numbered_by_size(whole):
    points = blobs(500, centres=7)
    labels, centroids = kmeans(points, 12, whole=whole)
    sizes = np.bincount(labels)
    assert sizes.min() > 0 and (np.diff(sizes) <= 0).all() and len(sizes) == len(centroids)
    assert np.abs(centroids - [points[labels == j].mean(0) for j in range(len(sizes))]).max() < 1e-4
    assert labels.dtype == np.int64 and centroids.dtype == np.float32


def test_same_seed_same_clusters():
    points = blobs(300, d=20, centres=11)
    one, two = kmeans(points, 8, seed=5), kmeans(points, 8, seed=5)
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()


def test_k_one_and_k_n():
    points = blobs(20)
    labels, centroids = kmeans(points, 1)
    assert (labels == 0).all() and np.allclose(centroids[0], points.mean(0), atol=1e-5)
    labels, centroids = kmeans(points, 20)
    assert sorted(labels) == list(range(20))


def test_one_picture():
    labels, centroids = kmeans(blobs(1))
    assert labels.tolist() == [0] and len(centroids) == 1


def test_empty_clusters_are_dropped():
    points = blobs(6)
    with pytest.warns(UserWarning, match="1 of 3 clusters came out empty"):
        labels, centroids = tidy_clusters(points, np.array([0, 0, 2, 2, 2, 0]), 3, by_size=False)
    assert labels.tolist() == [0, 0, 1, 1, 1, 0] and len(centroids) == 2


def test_k_curve():
    rows = k_curve(blobs(200, centres=5, seed=2))
    best = max(rows, key=lambda row: row["silhouette"])
    assert best["k"] in (4, 5, 6) and rows[0]["inertia"] > rows[-1]["inertia"]
    assert plot_k_curve(rows, 5).png()
    assert k_curve(blobs(2)) == k_curve(np.ones((9, 2))) == []


def test_principal_components():
    points = blobs(50, d=8)
    z = principal_components(points.astype(float), 3)
    assert z.shape == (50, 3) and (np.diff(z.var(0)) <= 0).all() and np.allclose(z.mean(0), 0, atol=1e-6)
    assert principal_components(points[:1], 2).tolist() == [[0]]  # as many as there are points or dimensions
    assert principal_components(points[:2], 5).shape == (2, 2)


@pytest.mark.parametrize("n, dtype, near", [(200, np.float64, 1e-9), (9000, np.float16, 0.02)])
def test_principal_components_are_those_of_scikit_learn(n, dtype, near):
    "Signs, too; the many are found in rounds."
    points = (blobs(n, d=500, centres=9) * np.linspace(1, 3, 500)).astype(dtype)
    found, exact = principal_components(points, 3), PCA(3, svd_solver="full").fit_transform(points.astype(np.float64))
    assert np.abs(found - exact).max() < near * np.abs(exact).max()
    assert (found == principal_components(points, 3)).all()


def watched(monkeypatch):
    "Notes of every fit: how many points, how many numbers of each, how many starts."
    seen, real = [], room._fit

    def fit(some, *args, **options):
        seen.append((*some.shape, options["n_init"]))
        return real(some, *args, **options)
    monkeypatch.setattr(room, "_fit", fit)
    return seen


def inertia(points, labels, centroids): return float(((points.astype(np.float64) - centroids[labels]) ** 2).sum())


@pytest.mark.parametrize("init", ["k-means++", "first"])
def test_many_points_are_fitted_block_by_block_from_the_disk(init, tmp_path, monkeypatch):
    "Float16, mapped from a file: no array of all points is made, and the clusters are as good as those of all points at once."
    points = blobs(3000, d=16, centres=9).astype(np.float16)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    monkeypatch.setattr(room, "_NUMBERS", 16 * 100)
    monkeypatch.setattr(room, "_SAMPLED", 20)
    seen = watched(monkeypatch)
    labels, centroids = kmeans(mapped, 9, init=init, whole=500)
    whole = kmeans(points, 9, init=init, n_init=4)
    counts = [count for count, *_ in seen]
    assert counts == [500, 3000] if init == "k-means++" else counts == [3000]
    assert labels.dtype == np.int64 and centroids.dtype == np.float32 and np.bincount(labels).min() > 0
    assert np.abs(centroids - [points[labels == j].mean(0, dtype=np.float64) for j in range(9)]).max() < 1e-4
    assert inertia(points, labels, centroids) < 1.01 * inertia(points, *whole)
    again = kmeans(mapped, 9, init=init, whole=500)
    assert (labels == again[0]).all() and (centroids == again[1]).all()


def test_clusters_far_from_zero():
    "What all points share costs no digits: float32 holds seven of them."
    points = blobs(800, centres=5)
    plain, moved = kmeans(points, 5), kmeans(points + 3000, 5)
    assert (plain[0] == moved[0]).all() and (plain[0] == kmeans(points + 3000, 5, whole=400)[0]).mean() > 0.99


def test_points_are_not_copied():
    points = blobs(50)
    assert checked_points(points) is points and checked_points(points.astype(np.float16)).dtype == np.float16
    assert checked_points(points.astype(np.float64)).dtype == np.float32 and checked_points([[1, 2]]).dtype == np.float32


def test_fewer_starts_for_many_points(monkeypatch):
    seen = watched(monkeypatch)
    monkeypatch.setattr(room, "_FEW", 200)
    for n, asked in ((200, None), (201, None), (201, 3)): kmeans(blobs(n), 3, n_init=asked)
    assert [starts for *_, starts in seen] == [4, 2, 3]


@pytest.mark.parametrize("whole", [20_000, 500])
def test_many_numbers_settle_along_the_leading_axes(whole, monkeypatch):
    "In fewer numbers, and no worse: the mean squared distance is that of all numbers from four starts, or less."
    seen = watched(monkeypatch)
    points = blobs(2100, d=130, centres=30) / 5 + 2000
    found = kmeans(points, 20, whole=whole)
    assert [width for _, width, _ in seen] == [50] and np.bincount(found[0]).min() > 0
    full = tidy_clusters(points, room._fit(points, 20, 300, n_init=4, random_state=0), 20, by_size=True)
    assert inertia(points, *found) < 1.01 * inertia(points, *full)
    again = kmeans(points, 20, whole=whole)
    assert (found[0] == again[0]).all() and (found[1] == again[1]).all()


def test_points_that_only_differ_across_the_leading_axes(monkeypatch):
    "Centres that coincide there are none the less twenty different ones in all numbers."
    monkeypatch.setattr(room, "_settled", lambda some, k, *args, **options: np.zeros(len(some), int))
    labels, centroids = kmeans(blobs(2100, d=130, centres=30), 20)
    assert np.isfinite(centroids).all() and len(centroids) == 20


def test_no_more_rows_are_looked_at_than_needed():
    class Rows(np.ndarray):
        def __iter__(self): return (row if n < 4 else pytest.fail("four rows were enough") for n, row in enumerate(np.asarray(self)))
    assert distinct_rows(np.array([[1.0], [1.0], [2.0], [3.0], [4.0]]).view(Rows), 3) == [0, 2, 3]
