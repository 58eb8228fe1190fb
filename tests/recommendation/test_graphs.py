"""Graphs against scipy, scikit-learn, torch.multinomial and MMRec's dumps, and with data made to break them."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from mmpc_analysis.recommendation.graphs import (
    distinct_pairs,
    edge_weights,
    graph_of_edges,
    layer_mean,
    neighbour_graph,
    propagate,
    sample_edges,
    user_item_graph,
)
from mmpc_analysis.recommendation.neighbours import (
    cached_neighbours,
    item_graph,
    nearest_items,
    neighbours_key,
)

DATA = ROOT / "tests" / "data" / "recommendation" / "mmrec"
FREEDOM = sorted(p.stem for p in DATA.glob("freedom_*.npz"))
SOUND = [case for case in FREEDOM if not case.endswith("mmrec_bug")]


def small():
    return np.load(DATA / "data_small.npz")


def dumped(found, key):
    "A graph that MMRec dumped, as a dense array of 64 bits."
    shape = tuple(found[f"{key}/shape"])
    dense = np.zeros(shape)
    np.add.at(dense, tuple(found[f"{key}/indices"]), found[f"{key}/values"].astype(float))
    return dense


def dense(graph):
    return graph.matrix().to_dense().numpy()


def some_pairs(rng, n_users, n_items, n):
    return np.stack([rng.integers(n_users, size=n), rng.integers(n_items, size=n)], axis=1)


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (300, 200)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_and_its_gradient_are_scipys(shape, dtype):
    rng = np.random.default_rng(0)
    matrix = sparse.random(*shape, density=0.1, random_state=rng).tocoo()
    graph = graph_of_edges(matrix.row, matrix.col, matrix.data, shape, dtype=dtype)
    x = torch.tensor(rng.normal(size=(shape[1], 64)), dtype=dtype, requires_grad=True)
    upstream = torch.tensor(rng.normal(size=(shape[0], 64)), dtype=dtype)
    out = propagate(graph, x)
    out.backward(upstream)
    within = 1e-13 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(out.detach(), matrix @ x.detach().numpy(), atol=within)
    np.testing.assert_allclose(x.grad, matrix.T @ upstream.numpy(), atol=within)


def test_a_vector_that_is_not_contiguous_is_multiplied_as_it_reads():
    graph = user_item_graph(some_pairs(np.random.default_rng(0), 7, 5, 20), 7, 5, torch.float64)
    x = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).T.requires_grad_()
    assert not x.is_contiguous()
    torch.testing.assert_close(propagate(graph, x), graph.matrix().to_dense() @ x, atol=1e-14, rtol=0)
    propagate(graph, x).T.sum().backward()  # The gradient comes expanded and turned
    torch.testing.assert_close(x.grad, graph.matrix().to_dense().sum(0)[:, None].expand(12, 3))


@pytest.mark.parametrize("layers", [0, 1, 4])
def test_the_mean_over_layers_and_its_gradient_are_those_of_dense_powers(layers):
    rng = np.random.default_rng(1)
    graph = neighbour_graph(some_pairs(rng, 20, 15, 90), 20, 15, torch.float64)  # Not symmetric
    x = torch.tensor(rng.normal(size=(35, 8)), requires_grad=True)
    plain = torch.tensor(dense(graph))
    wanted = sum(torch.linalg.matrix_power(plain, n) for n in range(layers + 1)) @ x / (layers + 1)
    upstream = torch.tensor(rng.normal(size=(35, 8)))
    (by_dense,) = torch.autograd.grad(wanted, x, upstream)
    ours = layer_mean(graph, x, layers)
    (by_ours,) = torch.autograd.grad(ours, x, upstream)
    torch.testing.assert_close(ours, wanted, atol=1e-14, rtol=0)
    torch.testing.assert_close(by_ours, by_dense, atol=1e-14, rtol=0)


def test_inputs_stay_as_they_are():
    pairs = np.array([[1, 0], [0, 1], [0, 1]])
    before, x = pairs.copy(), torch.ones(4, 2)
    layer_mean(user_item_graph(pairs, 2, 2), x, 2)
    np.testing.assert_array_equal(pairs, before)
    assert (x == 1).all()


def test_a_graph_without_edges_gives_zeros():
    graph = user_item_graph(np.empty((0, 2), dtype=int), 2, 3)
    x = torch.ones(5, 4, requires_grad=True)
    out = propagate(graph, x)
    out.sum().backward()
    assert (out == 0).all() and (x.grad == 0).all()
    assert dense(neighbour_graph(np.empty((0, 2), dtype=int), 2, 3)).shape == (5, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same():
    graph = user_item_graph(some_pairs(np.random.default_rng(0), 70, 50, 400), 70, 50)
    x = torch.randn(120, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer_mean(graph.to("cuda"), x.cuda(), 3).cpu(), layer_mean(graph, x, 3))


# ---------------------------------------------------------------- purchases


def test_the_graph_of_purchases_is_mmrecs():
    data, found = small(), np.load(DATA / "freedom_both.npz")
    ours = dense(user_item_graph(data["train"], int(data["n_users"]), int(data["n_items"]), torch.float64))
    theirs = dumped(found, "graph/norm_adj")
    assert ((ours > 0) == (theirs > 0)).all()
    assert np.abs(ours - theirs).max() < 1e-7
    assert np.abs(ours[119]).sum() == 0 and np.abs(ours[:, -1]).sum() == 0  # Never bought, never buying


@pytest.mark.parametrize("case", SOUND)
def test_thinned_graphs_are_mmrecs(case):
    data, found = small(), np.load(DATA / f"{case}.npz")
    kept = (
        found["graph/kept_edges"].T if "graph/kept_edges" in found else data["train"]
    )  # No dropout, all kept
    ours = user_item_graph(kept, int(data["n_users"]), int(data["n_items"]), torch.float64)
    assert np.abs(dense(ours) - dumped(found, "graph/masked_adj")).max() < 2e-7  # Theirs has 32 bits
    weights = edge_weights(found["graph/edge_indices_all"].T, int(data["n_users"]), int(data["n_items"]))
    assert np.abs(weights - found["graph/edge_sampling_weights"]).max() < 1e-7


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30), st.randoms())
def test_order_and_repetition_do_not_matter(pairs, random):
    again = pairs + pairs[: len(pairs) // 2]
    random.shuffle(again)
    one, two = (
        user_item_graph(np.array(p, dtype=int).reshape(-1, 2), 6, 4, torch.float64) for p in (pairs, again)
    )
    np.testing.assert_array_equal(dense(one), dense(two))
    np.testing.assert_array_equal(dense(one), dense(one).T)


def test_the_mean_over_neighbours_has_rows_that_add_up_to_one():
    data = small()
    n_users, n_items = int(data["n_users"]), int(data["n_items"])
    mean = dense(neighbour_graph(data["train"], n_users, n_items, torch.float64))
    bought = np.zeros((200, 200))
    bought[data["train"][:, 0], data["train"][:, 1] + n_users] = 1
    bought += bought.T
    np.testing.assert_allclose(mean, bought / np.maximum(bought.sum(1, keepdims=True), 1), atol=1e-15)


@pytest.mark.parametrize(
    "pairs", [[[0, -1]], [[2, 0]], [[0, 3]], [[0.5, 1.0]], [0, 1], [[0, 1, 2]], [["a", "b"]], [[True, False]]]
)
def test_pairs_that_are_no_purchases_are_refused(pairs):
    with pytest.raises(ValueError, match=r"(codes|pairs) must be"):
        distinct_pairs(np.array(pairs), 2, 3)


def test_a_product_beyond_the_end_is_refused():
    graph = user_item_graph(np.array([[0, 0]]), 1, 1)
    for wrong in (torch.ones(1, 3), torch.ones(3, 3), torch.ones(2)):
        with pytest.raises(ValueError, match="needs a vector for each of its 2 columns"):
            propagate(graph, wrong)
        with pytest.raises(ValueError, match="needs a vector"):
            layer_mean(graph, wrong, 1)


# ---------------------------------------------------------------- sampling


def test_edges_are_drawn_as_by_torchs_multinomial():
    rng, draws = np.random.default_rng(0), 30_000
    weights = torch.tensor(rng.gamma(0.7, size=12) + 0.02)
    one, two = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    ours = np.bincount(np.concatenate([sample_edges(weights, 5, one) for _ in range(draws)]), minlength=12)
    theirs = torch.multinomial(weights.expand(draws, -1), 5, generator=two).flatten().bincount(minlength=12)
    share, other = ours / draws, theirs.numpy() / draws
    error = np.sqrt((share * (1 - share) + other * (1 - other)) / draws)
    assert (np.abs(share - other) < 4.5 * error + 1e-12).all()
    assert share.max() > 2 * share.min()  # The weights do something


def test_the_first_draw_is_in_proportion_to_the_weights():
    weights, draws = np.array([1.0, 2, 3, 4]), 40_000
    generator = torch.Generator().manual_seed(3)
    share = np.bincount([sample_edges(weights, 1, generator)[0] for _ in range(draws)]) / draws
    assert np.abs(share - weights / 10).max() < 0.01


def test_more_edges_than_multinomial_takes():
    n = 2**24 + 5
    with pytest.raises(RuntimeError, match=r"2\^24"):
        torch.multinomial(torch.ones(n), 3)
    drawn = sample_edges(np.ones(n), 1000, torch.Generator().manual_seed(0))
    assert len(drawn) == 1000 and (np.diff(drawn) > 0).all() and drawn.max() < n


def test_a_draw_depends_on_its_generator_alone():
    weights = np.arange(1, 100.0)
    torch.manual_seed(5)
    one = sample_edges(weights, 30, torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    torch.manual_seed(6)
    two = sample_edges(weights, 30, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(one, two)
    torch.manual_seed(5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("n", [0, 1, 98, 99])
def test_as_many_as_asked_and_never_one_of_weight_zero(n):
    weights = np.r_[np.zeros(5), np.geomspace(1e-300, 1e300, 99)]
    drawn = sample_edges(weights, n, torch.Generator().manual_seed(0))
    assert len(set(drawn.tolist())) == n and (drawn >= 5).all()


@pytest.mark.parametrize("weights", [[1.0, -1], [1.0, np.inf], [1.0, np.nan]])
def test_weights_that_are_no_rates_are_refused(weights):
    with pytest.raises(ValueError, match="finite and not negative"):
        sample_edges(weights, 1, torch.Generator())


# ---------------------------------------------------------------- neighbours


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
    data, found = small(), np.load(DATA / f"{case}.npz")
    for name in ("image", "text"):
        if f"graph/knn_{name}/neighbours" in found:
            ours = nearest_items(data[f"{name}_feat"], 10)
            np.testing.assert_array_equal(np.sort(ours), np.sort(found[f"graph/knn_{name}/neighbours"]))


@pytest.mark.parametrize("case", SOUND)
def test_the_graph_of_items_is_mmrecs(case):
    data, found = small(), np.load(DATA / f"{case}.npz")
    names = [n for n in ("image", "text") if f"graph/{n}/values" in found]
    ours = item_graph({n: data[f"{n}_feat"] for n in names}, dtype=torch.float64)
    assert np.abs(dense(ours) - dumped(found, "graph/mm_adj")).max() < 1e-8
    torch.testing.assert_close(ours.transpose.matrix().to_dense(), ours.matrix().to_dense().T, atol=0, rtol=0)


def test_zero_rows_are_nobodys_neighbours_unlike_in_mmrec():
    data, found = small(), np.load(DATA / "freedom_zero_mmrec_bug.npz")
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


def test_every_fixture_is_there():
    assert len(SOUND) >= 4 and "freedom_zero_mmrec_bug" in FREEDOM
    assert {json.loads((DATA / f"{case}.json").read_text("utf-8"))["model"] for case in FREEDOM} == {
        "FREEDOM"
    }
