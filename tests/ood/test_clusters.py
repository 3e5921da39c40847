"Feature stores, projections, cards, pictures and subsets: what the notebook does not show."
import importlib.util
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.ood.atlas import plot_map, project, project_groups, push_apart, ring_places, unit_square
from wood_nb.ood.clusters import (cluster_records, describe_clusters, members, montage, mosaic, plot_nearness,
                                  show_clusters, stratified_subset, thumbnails)
from wood_nb.ood.features import class_means, class_prototypes, cluster_store, extract, FeatureStore, positions
from wood_nb.base.files import DataError, write_npz
from wood_nb.data.sources import load_pool


def blobs(n=120, d=6, centres=4, seed=0):
    rng = np.random.default_rng(seed)
    at = rng.normal(size=(centres, d)) * 5
    return (at[rng.integers(0, centres, n)] + rng.normal(size=(n, d))).astype(np.float32)


def a_store(n=120, c=3, **options):
    p = np.random.default_rng(1).random((n, c)).astype(np.float32)
    return FeatureStore([f"pool/{i:03}" for i in range(n)], blobs(n, **options), p)


@pytest.fixture
def pool(tmp_path):
    for i in range(120):
        path = tmp_path / "pool" / f"{i:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (30 + i % 7, 24), (2 * i, 100, 255 - 2 * i)).save(path)
    return load_pool(tmp_path)


# --- feature store


def test_store_round_trip(tmp_path):
    store = cluster_store(a_store(), 5)
    store.save(tmp_path / "features.npz")
    again = FeatureStore.load(tmp_path / "features.npz")
    for name, value in vars(store).items():
        assert (getattr(again, name) == value).all() and getattr(again, name).dtype == value.dtype
    assert (again.features.dtype, again.p.dtype, again.cluster.dtype) == (np.float32, np.float32, np.int64)
    assert again.ids.dtype.kind == "U" and again.k == 5 and len(again) == 120
    with np.load(tmp_path / "features.npz", allow_pickle=False) as file:
        assert set(file.files) == {"ids", "features", "p", "cluster", "centroids"}


def test_store_before_clustering_and_empty(tmp_path):
    store = a_store(7)
    assert store.k == 0 and (store.cluster == -1).all() and store.centroids.shape == (0, 6)
    empty = FeatureStore([], np.zeros((0, 4)), np.zeros((0, 2)))
    empty.save(tmp_path / "empty.npz")
    assert len(FeatureStore.load(tmp_path / "empty.npz")) == 0


@pytest.mark.parametrize("change, says", [
    (dict(ids=["a", "a", "b"]), "once"),
    (dict(features=np.zeros((2, 4))), "do not fit"),
    (dict(features=np.zeros(3)), "do not fit"),
    (dict(p=np.zeros((3,))), "do not fit"),
    (dict(centroids=np.zeros((2, 5))), "centroids"),
    (dict(cluster=np.zeros(2, int)), "3 integers"),
    (dict(cluster=np.zeros(3)), "3 integers"),
    (dict(cluster=np.array([0, 1, 2]), centroids=np.zeros((2, 4))), "between -1 and 1"),
    (dict(cluster=np.array([0, 0, -2]), centroids=np.zeros((2, 4))), "between -1 and 1"),
    (dict(features=np.array([[0, 0, 0, 0], [0, np.nan, 0, 0], [0, 0, 0, 0]])), "'b' first"),
    (dict(features=np.full((3, 4), 1e39)), "infinite"),
    (dict(p=np.full((3, 2), np.inf)), "infinite"),
    (dict(centroids=np.full((1, 4), np.nan)), "centroid is not finite"),
])
def test_store_refuses(change, says):
    with pytest.raises(DataError, match=says):
        FeatureStore(**{"ids": ["a", "b", "c"], "features": np.zeros((3, 4)), "p": np.zeros((3, 2)), **change})


def test_load_names_the_file(tmp_path):
    with pytest.raises(DataError, match="nowhere.npz"):
        FeatureStore.load(tmp_path / "nowhere.npz")
    write_npz(tmp_path / "part.npz", ids=np.array(["a"]))
    with pytest.raises(DataError, match="part.npz.*'features'"):
        FeatureStore.load(tmp_path / "part.npz")
    write_npz(tmp_path / "nan.npz", ids=np.array(["a"]), features=np.full((1, 2), np.nan), p=np.zeros((1, 2)),
              cluster=np.array([-1]), centroids=np.zeros((0, 2)))
    with pytest.raises(DataError, match="nan.npz.*NaN"):
        FeatureStore.load(tmp_path / "nan.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "nan.npz").read_bytes()[:200])
    with pytest.raises(DataError, match="cut.npz"):
        FeatureStore.load(tmp_path / "cut.npz")


def test_select():
    store = cluster_store(a_store(), 4)
    part = store.select(["pool/007", "pool/003"])
    assert part.ids.tolist() == ["pool/007", "pool/003"] and part.k == 4
    assert (part.features == store.features[[7, 3]]).all() and (part.cluster == store.cluster[[7, 3]]).all()
    assert len(store.select([])) == 0
    with pytest.raises(DataError, match="'nobody'"):
        store.select(["pool/007", "nobody"])


def test_extract_restores_the_order_and_leaves_out_what_was_skipped(pool):
    z, p = torch.randn(120, 5), torch.rand(120, 2)
    indices = [torch.tensor(index) for index in ([9, 4, 2], [0, 7], [7, 1])]
    batches = [(index, p[index], z[index]) for index in indices]
    store = extract(iter(batches), pool)
    kept = [0, 1, 2, 4, 7, 9]  # 7 came twice, as when several processes pad their share
    assert store.ids.tolist() == [pool.ids[i] for i in kept]
    assert (store.features == z[kept].numpy()).all() and (store.p == p[kept].numpy()).all()
    as_numpy = extract([tuple(np.asarray(part) for part in batch) for batch in batches], pool)
    assert (as_numpy.features == store.features).all()
    half = extract([(index, p[index].bfloat16(), z[index].bfloat16()) for index, _, _ in batches], pool)
    assert np.abs(half.features - store.features).max() < 0.05


def test_extract_of_nothing(pool):
    with pytest.raises(DataError, match="no picture could be read"):
        extract(iter([]), pool)


# --- projections


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 60])
def test_project_any_number_of_pictures(method, n):
    xy = project(blobs(n), method)
    assert xy.shape == (n, 2) and xy.dtype == np.float32 and np.isfinite(xy).all()
    assert 0 <= xy.min() and xy.max() <= 1
    if n > 1:
        assert np.isclose((xy.max(0) - xy.min(0)).max(), 1, atol=1e-5)


@pytest.mark.parametrize("points", [np.ones((30, 4)), np.repeat(blobs(3), 10, axis=0), blobs(30, d=1)])
@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_project_degenerate(points, method):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.isfinite(project(points, method)).all()


def test_project_keeps_shape_and_separates_groups():
    assert np.allclose(unit_square(np.array([[0, 0], [4, 2.0]])), [[0, 0.25], [1, 0.75]])
    points = np.concatenate([blobs(40, centres=1), blobs(40, centres=1) + 60])
    for method in ("pca", "tsne"):
        xy = project(points, method)
        assert np.linalg.norm(xy[:40].mean(0) - xy[40:].mean(0)) > 3 * xy[:40].std()


def test_many_pictures_are_placed_by_a_sample(tmp_path):
    "t-SNE sees a sample; the others come to lie among their own, and the warning says so."
    points = np.concatenate([blobs(150, centres=1), blobs(150, centres=1) + 60]).astype(np.float16)
    with pytest.warns(UserWarning, match="300 pictures: tsne lays out 100 of them"):
        xy = project(points, "tsne", cache=tmp_path / "xy.npz", sample=100)
    assert xy.shape == (300, 2) and 0 <= xy.min() and xy.max() <= 1 and np.isfinite(xy).all()
    middle = [xy[:150].mean(0), xy[150:].mean(0)]
    assert (np.linalg.norm(xy[:, None] - middle, axis=2).argmin(1) == np.repeat([0, 1], 150)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (project(points, "tsne", cache=tmp_path / "xy.npz", sample=100) == xy).all()
        project(points[:100], "tsne", sample=100)


def test_tsne_is_cached(tmp_path, monkeypatch):
    import wood_nb.ood.atlas as module
    points, cache, calls = blobs(30), tmp_path / "clusters" / "projection.npz", []
    layout = module._PROJECTIONS["tsne"]
    monkeypatch.setitem(module._PROJECTIONS, "tsne", lambda *a, **o: calls.append(1) or layout(*a, **o))
    first = project(points, "tsne", cache=cache)
    assert (project(points, "tsne", cache=cache) == first).all() and len(calls) == 1
    project(points, "tsne", seed=1, cache=cache)
    project(points + 1, "tsne", seed=1, cache=cache)
    project(points + 1, "tsne", seed=1, cache=cache, perplexity=5)
    assert len(calls) == 4
    cache.write_bytes(b"not an archive")
    project(points, "tsne", cache=cache)
    assert len(calls) == 5 and project(points, "tsne", cache=cache).shape == (30, 2) and len(calls) == 5


def test_project_methods():
    with pytest.raises(DataError, match="pca, tsne, umap"):
        project(blobs(), "mds")
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(DataError, match="pip install umap-learn"):
            project(blobs(), "umap")


def test_project_groups_keeps_missing_prototypes():
    prototypes = blobs(3)
    prototypes[1] = np.nan
    xy, stars = project_groups(blobs(20), prototypes)
    assert xy.shape == (20, 2) and np.isnan(stars[1]).all() and np.isfinite(stars[[0, 2]]).all()
    together = np.concatenate([xy, stars[[0, 2]]])
    assert np.allclose(together, project(np.concatenate([blobs(20), prototypes[[0, 2]]])))


# --- cards, pictures, subsets


def test_class_means():
    features, labels = np.arange(8.0).reshape(4, 2), np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    means = class_means(features, labels)
    assert means[:2].tolist() == [[1, 2], [3, 4]] and np.isnan(means[2]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_means(features, labels)


def test_class_prototypes_follow_the_ids(pool):
    split = replace(pool, classes=("a", "b"), items=[replace(item, labels=(n % 2,)) for n, item in enumerate(pool.items)])
    store = FeatureStore(pool.ids[10:14][::-1], np.array([[3.0], [2], [1], [0]]), np.zeros((4, 2)))
    assert class_prototypes(store, split).ravel().tolist() == [1, 2]
    with pytest.raises(DataError, match="'nobody'"):
        class_prototypes(FeatureStore(["nobody"], np.zeros((1, 1)), np.zeros((1, 2))), split)


def test_cards():
    store, classes = cluster_store(a_store(), 5), ("cow", "<b>", "sheep")
    prototypes = np.stack([store.centroids[2] + 0.5, np.full(6, np.nan), store.centroids[0]])
    cards = describe_clusters(store, prototypes, classes, {0: "rails & ties"})
    assert [card.id for card in cards] == [0, 1, 2, 3, 4]
    assert [card.name for card in cards[:2]] == ["rails & ties", "cluster 1"]
    card, rows = cards[0], np.flatnonzero(store.cluster == 0)
    assert card.nearest[0][0] == "sheep" and card.nearest[0][1] < 1e-4 and cards[2].nearest[0][0] == "cow"
    assert len(card.nearest) == 2  # a class without a prototype is near to nothing
    assert np.isclose(card.p, store.p[rows].mean(0).max()) and card.top_class == classes[store.p[rows].mean(0).argmax()]
    away = np.linalg.norm(store.features[rows] - store.centroids[0], axis=1)
    assert np.isclose(card.spread, away.mean(), atol=1e-4)
    assert list(card.members) == [store.ids[i] for i in rows[np.argsort(away)]] and card.size == len(rows)
    html = cards._repr_html_()
    assert "rails &amp; ties" in html and "&lt;b&gt;" in html and "<b>" not in html and html.count("<tr>") == 6
    assert "sheep (0.0)" in card.caption
    assert plot_nearness(cards, classes).png()


def test_cards_without_prototypes_and_without_clusters():
    store = cluster_store(a_store(), 3)
    cards = describe_clusters(store, np.full((3, 6), np.nan), ("a", "b", "c"))
    assert cards[0].nearest == () and cards[0].caption == f"cluster 0: {cards[0].size} pictures"
    assert plot_nearness(cards, ("a", "b", "c")).png()
    assert describe_clusters(a_store(), np.zeros((3, 6)), ("a", "b", "c")) == []
    with pytest.raises(DataError, match="2 classes"):
        describe_clusters(store, np.zeros((3, 6)), ("a", "b"))


def test_a_cluster_that_lost_its_members_has_no_card():
    store = cluster_store(a_store(), 3)
    part = store.select(store.ids[store.cluster != 1])
    assert [card.id for card in describe_clusters(part, np.zeros((3, 6)), ("a", "b", "c"))] == [0, 2]
    assert cluster_records(part)[1]["members"] == []


def test_pictures(pool):
    store = cluster_store(FeatureStore(pool.ids, blobs(120), np.random.default_rng(0).random((120, 3))), 5)
    prototypes, classes = blobs(3, seed=9), ("a", "b", "c")
    cards = describe_clusters(store, prototypes, classes)
    xy, stars = project_groups(store.features, prototypes)
    stars[1] = np.nan
    assert show_clusters(pool, cards).png() and show_clusters(pool, cards, blocks=9).png()
    assert show_clusters(pool, []).png()
    assert montage(pool, store.ids[:13], title="thirteen").png() and montage(pool, []).png()
    assert "data:image/jpeg" in cards.with_pictures(pool)._repr_html_() and cards.pictures == {}
    for colour in ("cluster", "class", "p"):
        assert plot_map(store, xy, classes, colour, xy, stars, pool, most=3, names={0: "rails"}).png()
    assert plot_map(a_store(), xy, classes, pictures=pool).png()  # before clustering: no thumbnails
    with pytest.raises(DataError, match="'cluster', 'class' or 'p'"):
        plot_map(store, xy, classes, "colour")


def test_a_picture_that_cannot_be_read_is_grey(pool):
    pool[3].image.write_bytes(b"")
    squares = thumbnails(pool, pool.ids[2:4], 16)
    assert (squares[1] == 200).all() and not (squares[0] == 200).all()
    with pytest.raises(DataError, match="'nobody'"):
        thumbnails(pool, ["nobody"])


def test_mosaic():
    sheet = mosaic([np.full((4, 4, 3), n, np.uint8) for n in range(5)], columns=3, gap=2)
    assert sheet.shape == (10, 16, 3) and sheet[0, 6, 0] == 1 and sheet[6, 0, 0] == 3 and (sheet[6:, 12:] == 255).all()


def test_mosaic_of_one():
    assert mosaic([np.zeros((4, 4, 3), np.uint8)], columns=3).shape == (4, 18, 3)


def test_few_points_lower_the_perplexity(monkeypatch):
    from wood_nb.ood.atlas import _tsne
    seen = []

    class Layout:
        def __init__(self, perplexity, **options): seen.append(perplexity)
        def fit_transform(self, points): return points[:, :2]
    monkeypatch.setattr("sklearn.manifold.TSNE", Layout)
    for n in (7, 200): _tsne(blobs(n), 0)
    assert seen == [2, 30]


def test_places_on_the_map():
    xy = np.random.default_rng(0).random((20, 2))
    ring = ring_places(xy)
    assert len(np.unique(ring.round(6), axis=0)) == 20
    assert np.linalg.norm((ring - 0.5) / (0.98, 0.72), axis=1).min() > 0.99
    assert ring_places(xy[:1]).shape == (1, 2)
    near = push_apart(np.array([[0.5, 0.5], [0.51, 0.5], [np.nan, np.nan], [0.9, 0.9]]), 0.1)
    assert np.linalg.norm(near[0] - near[1]) > 0.09 and np.isnan(near[2]).all() and near[3].tolist() == [0.9, 0.9]


def test_members_nearest_first():
    store = cluster_store(a_store(), 4)
    rows = members(store, 1)
    away = np.linalg.norm(store.features[rows] - store.centroids[1], axis=1)
    assert (np.diff(away) >= -1e-5).all() and set(rows) == set(np.flatnonzero(store.cluster == 1))


def test_subsets_nest_and_are_stratified():
    store = cluster_store(a_store(600, centres=9), 9)
    order = stratified_subset(store, 600, seed=3)
    assert sorted(order) == sorted(store.ids.tolist())
    sizes = np.bincount(store.cluster)
    for n in (0, 1, 20, 137, 500):
        subset = stratified_subset(store, n, seed=3)
        assert subset == order[:n]
        counts = np.bincount(store.select(subset).cluster, minlength=9)
        assert np.abs(counts - sizes * n / 600).max() < 2
    assert stratified_subset(store, 20, seed=4) != order[:20]
    assert len(stratified_subset(a_store(30), 7)) == 7  # without clusters: a random order
    for n in (601, -1):
        with pytest.raises(DataError, match=f"subset of {n} out of 600"):
            stratified_subset(store, n)


def test_records_are_json():
    import json
    store = cluster_store(a_store(), 4)
    records = cluster_records(store, {2: "rails"})
    assert json.loads(json.dumps(records)) == records and records[2]["name"] == "rails"
    assert set(records[0]) == {"id", "name", "members", "merged_from", "decision"}
    assert records[0]["decision"] == "undecided"
    assert sum(len(record["members"]) for record in records) == 120


def test_positions():
    assert positions(["a", "b", "c"], ["c", "a"], "here") == [2, 0]
    with pytest.raises(DataError, match="here: no picture 'x' .2 in all"):
        positions(["a"], ["x", "y"], "here")
