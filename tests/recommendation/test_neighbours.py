"""Neighbours against scikit-learn, full tables and MMRec's dumps, and with data made to break them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrec_cases import DATA, dense, dumped, small

from mmpc_analysis.recommendation.neighbours import (
    cached_neighbours,
    item_graph,
    nearest_items,
    neighbours_key,
)

SOUND = sorted(p.stem for p in DATA.glob("freedom_*.npz") if not p.stem.endswith("mmrec_bug"))


def by_definition(features, k):
    "Neighbours by a full table of cosines and a stable sort, for data without near ties."
    rows = np.asarray(features, dtype=float)
    length = np.linalg.norm(rows, axis=1)
    cosine = np.divide(
        rows @ rows.T,
        np.outer(length, length),
        where=np.outer(length, length) > 0,
        out=np.full((len(rows),) * 2, -np.inf),
    )
    found = []
    for i, row in enumerate(cosine):
        others = [j for j in np.argsort(-row, kind="stable") if j != i and np.isfinite(row[j])]
        found.append(([i, *others] + [-1] * k)[:k])
    return np.array(found)


@pytest.mark.parametrize("case", SOUND)
def test_neighbours_are_mmrecs(case):
    (data, _), found = small(), np.load(DATA / f"{case}.npz")
    for name in ("image", "text"):
        if f"graph/knn_{name}/neighbours" in found:
            ours = nearest_items(data[f"{name}_feat"], 10)
            np.testing.assert_array_equal(np.sort(ours), np.sort(found[f"graph/knn_{name}/neighbours"]))


@pytest.mark.parametrize("case", SOUND)
def test_the_graph_of_items_is_mmrecs(case):
    (data, _), found = small(), np.load(DATA / f"{case}.npz")
    names = [n for n in ("image", "text") if f"graph/{n}/values" in found]
    ours = item_graph({n: data[f"{n}_feat"] for n in names}, dtype=torch.float64)
    assert np.abs(dense(ours) - dumped(found, "graph/mm_adj")).max() < 1e-8
    torch.testing.assert_close(ours.transpose.matrix().to_dense(), ours.matrix().to_dense().T, atol=0, rtol=0)


def test_zero_rows_are_nobodys_neighbours_unlike_in_mmrec():
    (data, _), found = small(), np.load(DATA / "freedom_zero_mmrec_bug.npz")
    gone = data["zero_image_rows"]
    intact = np.setdiff1d(np.arange(80), gone)
    image = data["image_feat"].copy()
    image[gone] = 0
    theirs = found["graph/knn_image/neighbours"]
    assert np.isin(theirs[intact], gone).sum(axis=1).tolist() == [5] * len(
        intact
    )  # The bug: half of all places
    ours = nearest_items(image, 10)
    assert not np.isin(ours[intact], gone).any() and (ours[intact] >= 0).all()
    np.testing.assert_array_equal(ours[gone], np.c_[gone, np.full((5, 9), -1)])
    # Who lost no neighbour keeps the row that it had before
    before = nearest_items(data["image_feat"], 10)
    untouched = intact[~np.isin(before[intact], gone).any(axis=1)]
    assert len(untouched) > 10
    np.testing.assert_array_equal(ours[untouched], before[untouched])
    values = dense(item_graph({"image": image}, dtype=torch.float64))
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-6)
    assert (values[np.ix_(intact, gone)] == 0).all()


@pytest.mark.parametrize(
    ("n", "width", "k"), [(1, 3, 10), (5, 2, 10), (300, 64, 10), (400, 7, 3), (90, 4, 1)]
)
def test_neighbours_are_those_of_the_full_table(n, width, k):
    features = np.random.default_rng(n).normal(size=(n, width))
    features[:: max(n // 5, 2)] = 0
    np.testing.assert_array_equal(nearest_items(features, k), by_definition(features, k))


def test_neighbours_are_scikit_learns():
    from sklearn.neighbors import NearestNeighbors

    features = np.random.default_rng(0).normal(size=(2000, 48)).astype(np.float32)
    wanted = (
        NearestNeighbors(n_neighbors=10, metric="cosine")
        .fit(features.astype(float))
        .kneighbors(features.astype(float))[1]
    )
    ours = nearest_items(features, 10)
    np.testing.assert_array_equal(ours[:, 0], np.arange(2000))
    np.testing.assert_array_equal(np.sort(ours), np.sort(wanted))


@pytest.mark.parametrize("threads", [1, 2])
def test_block_and_threads_change_nothing(threads):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 384))
    crowd = centres[rng.integers(60, size=700)]
    crowd = crowd + 1e-9 * rng.normal(size=crowd.shape)  # Cosines that 32 bits cannot tell apart
    same = centres[rng.integers(60, size=300)]  # And items that are the same
    features = np.concatenate([crowd, same, np.zeros((20, 384)), 3 * same[:50]])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        first = nearest_items(features, 10, 256)
        for block in (1, 3, 64, 101, 5000):
            np.testing.assert_array_equal(nearest_items(features, 10, block), first)
    finally:
        torch.set_num_threads(before)


def test_equal_items_come_by_code_and_the_item_itself_first():
    features = np.tile([[1.0, 2.0], [1.0, -2.0]], (15, 1))  # Two kinds of fifteen, even and odd
    ours = nearest_items(features, 4)
    for i, row in enumerate(ours):
        others = [j for j in range(i % 2, 30, 2) if j != i][:3]
        assert row.tolist() == [i, *others]
    wide = nearest_items(features, 20)
    assert all(a < b for row in wide for a, b in pairwise(row[1:15].tolist()))
    assert all(set(row[:15] % 2) == {i % 2} for i, row in enumerate(wide))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-120, 1e120), st.integers(1, 12))
def test_length_does_not_matter_and_permuting_items_permutes_neighbours(seed, scale, k):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 5))
    features[rng.random(40) < 0.2] = 0
    ours = nearest_items(features, k)
    scales = 2.0 ** rng.integers(-40, 40, size=(40, 1))
    np.testing.assert_array_equal(nearest_items(features * scales, k), ours)
    np.testing.assert_array_equal(nearest_items(features * scale, k)[:, 0], ours[:, 0])
    order = rng.permutation(40)
    moved = nearest_items(features[order], k)
    back = np.where(moved >= 0, order[moved], -1)
    np.testing.assert_array_equal(back, ours[order])


def test_unknown_rows_are_like_zero_rows_and_half_known_ones_are_refused():
    features = np.random.default_rng(0).normal(size=(30, 4))
    zero, unknown = features.copy(), features.copy()
    zero[[3, 8]], unknown[[3, 8]] = 0, np.nan
    np.testing.assert_array_equal(nearest_items(zero, 5), nearest_items(unknown, 5))
    unknown[3, 0] = 1.0
    with pytest.raises(ValueError, match="1 rows are NaN in part"):
        nearest_items(unknown, 5)
    with pytest.raises(ValueError, match="not infinite"):
        nearest_items(np.array([[np.inf, 1]]), 5)
    assert nearest_items(np.empty((0, 4)), 5).shape == (0, 5)
    np.testing.assert_array_equal(nearest_items(np.zeros((2, 4)), 2), [[0, -1], [1, -1]])


def test_half_of_a_catalogue_filled_with_one_mean_stays_fast_and_right():
    features = np.random.default_rng(0).normal(size=(3000, 32))
    features[1000:] = features.mean(0)
    ours = nearest_items(features, 10)
    assert ours[2999].tolist() == [2999, *range(1000, 1009)]
    assert ours[1000].tolist() == [1000, *range(1001, 1010)]
    part = nearest_items(features[:1001], 10)
    changed = (ours[:1000] != part[:1000]).any(axis=1)
    assert not (changed & ~np.isin(part[:1000], 1000).any(axis=1)).any()


def test_no_copy_of_all_rows_in_64_bits_is_made():
    import tracemalloc

    features = np.random.default_rng(0).normal(size=(12_000, 500)).astype(np.float32)
    features[6000:] = features[:6000]  # Kinds are half of the items; torch's memory is not counted here
    tracemalloc.start()
    try:
        nearest_items(features, 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.9 * features.nbytes  # One copy of all rows in 64 bits would be 2, on top of blocks


def test_a_crowd_in_one_block_leaves_the_others_right():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(900, 16))
    features[::3] = features[0] + 1e-4 * rng.normal(size=(300, 16))  # Too near for 32 bits, far enough for 64
    ours = nearest_items(features, 10)
    np.testing.assert_array_equal(ours[1::3], by_definition(features, 10)[1::3])
    assert (ours[::3] % 3 == 0).all()


# ---------------------------------------------------------------- kept by content


def test_neighbours_are_read_again_only_for_the_same_features(tmp_path):
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    first = cached_neighbours(features, 5, tmp_path)
    (file,) = tmp_path.iterdir()
    planted = np.tile(np.arange(5), (40, 1))
    file.write_bytes(planted.astype("<i8").tobytes())
    np.testing.assert_array_equal(cached_neighbours(features, 5, tmp_path), planted)  # It is read
    changed = features.copy()
    changed[7, 3] = np.nextafter(changed[7, 3], np.float32(9))  # One bit of one number
    keys = {
        neighbours_key(f, k)
        for f, k in ((features, 5), (changed, 5), (features, 6), (features.T, 5), (features.astype(float), 5))
    }
    assert len(keys) == 5
    np.testing.assert_array_equal(cached_neighbours(changed, 5, tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_are_never_stale_and_a_cut_file_is_made_again(tmp_path):
    rng = np.random.default_rng(0)
    features = {"text": rng.normal(size=(40, 6)), "image": rng.normal(size=(40, 9))}
    for image in (0.10, 0.15):  # MMRec writes both to one file
        shares = {"image": image, "text": 1 - image}
        kept, fresh = (item_graph(features, 5, shares, folder=f) for f in (tmp_path, None))
        torch.testing.assert_close(kept.matrix().to_dense(), fresh.matrix().to_dense(), atol=0, rtol=0)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-13])
    again = item_graph(features, 5, shares, folder=tmp_path)
    torch.testing.assert_close(again.matrix().to_dense(), fresh.matrix().to_dense(), atol=0, rtol=0)
    assert {file.stat().st_size for file in tmp_path.iterdir()} == {40 * 5 * 8}
