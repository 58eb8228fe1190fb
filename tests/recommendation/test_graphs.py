"""Graphs against scipy, torch.multinomial and MMRec's dumps, and with data made to break them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrec_cases import DATA, dense, dumped, small
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

FREEDOM = sorted(p.stem for p in DATA.glob("freedom_*.npz"))
SOUND = [case for case in FREEDOM if not case.endswith("mmrec_bug")]


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
    (data, _), found = small(), np.load(DATA / "freedom_both.npz")
    ours = dense(user_item_graph(data["train"], int(data["n_users"]), int(data["n_items"]), torch.float64))
    theirs = dumped(found, "graph/norm_adj")
    assert ((ours > 0) == (theirs > 0)).all()
    assert np.abs(ours - theirs).max() < 1e-7
    assert np.abs(ours[119]).sum() == 0 and np.abs(ours[:, -1]).sum() == 0  # Never bought, never buying


@pytest.mark.parametrize("case", SOUND)
def test_thinned_graphs_are_mmrecs(case):
    (data, _), found = small(), np.load(DATA / f"{case}.npz")
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
    data, _ = small()
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


def test_every_fixture_is_there():
    assert len(SOUND) >= 4 and "freedom_zero_mmrec_bug" in FREEDOM
    assert {json.loads((DATA / f"{case}.json").read_text("utf-8"))["model"] for case in FREEDOM} == {
        "FREEDOM"
    }
