"""Fills along the graph of purchases: each against dense algebra, what they reach, and what cannot matter."""

import numpy as np
import pytest
from fill_cases import hidden_at, plain_counts, shown_of, world
from scipy.linalg import expm

from mmpc_analysis.recommendation import graph_fills
from mmpc_analysis.recommendation.fills import fill_features
from mmpc_analysis.recommendation.visible_features import VisibleFeatures, mask

GRAPH = ("co_purchase_mean", "co_purchase_propagation", "co_purchase_pagerank", "co_purchase_heat")


def test_co_purchase_mean_is_that_of_sets():
    w, hidden = world(), hidden_at(0.6)
    counts = plain_counts(w) * ~hidden
    total = counts.sum(1)
    found = fill_features(shown_of(w, hidden), "co_purchase_mean")
    able = hidden & (total > 0)
    want = counts @ np.nan_to_num(w[1]) / np.maximum(total, 1)[:, None]
    np.testing.assert_allclose(found.values[able], want[able], atol=1e-6)
    assert found.fallback == (hidden & (total == 0)).sum() > 0


def test_co_purchase_propagation_is_the_dense_iteration(monkeypatch):
    w, hidden = world(), hidden_at(0.9)
    counts = plain_counts(w)
    root = 1 / np.sqrt(np.maximum(counts.sum(1), 1))
    flow, start = root[:, None] * counts * root, np.where(hidden[:, None], 0, w[1]).astype(float)
    vectors = start
    for _ in range(graph_fills.HOPS):
        vectors = np.where(hidden[:, None], flow @ vectors, start)
    for columns in (1, 3, 256):
        monkeypatch.setattr(graph_fills, "_COLUMNS", columns)
        found = fill_features(shown_of(w, hidden), "co_purchase_propagation").values
        np.testing.assert_allclose(found, vectors, atol=1e-6)


def test_propagation_reaches_what_the_mean_cannot_and_no_further():
    items = np.array(list("abcde"), dtype=object)
    chain = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 3], [2, 4]])  # a - b - c, and d - e apart
    truth, hidden = np.full((5, 2), 3, np.float32), np.array([False, True, True, True, True])
    shown = VisibleFeatures(items, mask(truth, hidden), purchases=chain)
    assert fill_features(shown, "co_purchase_mean").fallback == 3
    found = fill_features(shown, "co_purchase_propagation")
    assert found.fallback == 2 and (found.values[2] > 0).all() and (found.values[3:] == 0).all()


def test_no_purchase_at_all_is_no_error():
    w = world()
    shown = VisibleFeatures(w[0], mask(w[1], hidden_at(0.5)), purchases=np.empty((0, 2), np.int64))
    for policy in GRAPH:
        assert fill_features(shown, policy).fallback == hidden_at(0.5).sum()


# ---------------------------------------------------------------- diffusion


def dense(w, policy):
    "The weights that a diffusion gives, by an inverse or an exponential of whole matrices."
    counts = plain_counts(w)
    step = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    eye = np.eye(len(step))
    return np.linalg.solve(eye - 0.9 * step, 0.1 * eye) if "pagerank" in policy else expm(5 * (step - eye))


@pytest.mark.parametrize("policy", GRAPH[2:])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_diffusion_is_that_of_dense_algebra(policy, rate, monkeypatch):
    w, hidden = world(), hidden_at(rate)
    weights = dense(w, policy) * ~hidden
    reach = weights.sum(1)
    want = weights @ np.where(hidden[:, None], 0, w[1]) / np.where(reach > 0, reach, 1)[:, None]
    able = hidden & (reach > 1e-6)
    for columns in (1, 3, 256):
        monkeypatch.setattr(graph_fills, "_COLUMNS", columns)
        found = fill_features(shown_of(w, hidden), policy)
        np.testing.assert_allclose(found.values[able], want[able], atol=2e-6)
        assert found.fallback == (hidden & ~able).sum() > 0
    assert able.sum() >= 2


@pytest.mark.parametrize("policy", GRAPH[2:])
def test_a_diffusion_reaches_the_far_and_not_the_severed(policy):
    items = np.array(list("abcde"), dtype=object)
    chain = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 3], [2, 4]])  # a - b - c, and d - e apart
    truth, hidden = np.full((5, 2), 3, np.float32), np.array([False, True, True, True, True])
    found = fill_features(VisibleFeatures(items, mask(truth, hidden), purchases=chain), policy)
    assert found.fallback == 2 and (found.values[3:] == 0).all()
    np.testing.assert_allclose(found.values[1:3], 3, rtol=1e-6)  # A mean has the length of what it is of


@pytest.mark.parametrize("policy", GRAPH[2:])
def test_a_long_chain_ends_in_the_fallback_and_never_in_noise(policy):
    "Far out the weights are smaller than the error of the iteration: what is said there must still be the truth, or nothing."
    n = 120
    items = np.array([f"{k:03d}" for k in range(n)], dtype=object)
    chain = np.array([[u, u + end] for u in range(n - 1) for end in (0, 1)])
    hidden = np.arange(n) > 0
    truth = np.full((n, 1), 7, np.float32)
    found = fill_features(VisibleFeatures(items, mask(truth, hidden), purchases=chain), policy)
    reached = found.values[1:, 0] != 0
    assert found.fallback == (~reached).sum() and 5 < reached.sum() < n - 1
    assert (np.diff(reached.astype(int)) <= 0).all(), "the near are reached, the far are not"
    np.testing.assert_allclose(found.values[1:, 0][reached], 7, rtol=1e-3)


@pytest.mark.parametrize("policy", GRAPH[2:])
def test_the_vectors_of_a_diffusion_lie_among_those_that_lend(policy):
    w, hidden = world(3), hidden_at(0.6, seed=3)
    found, known = fill_features(shown_of(w, hidden), policy), w[1][~hidden]
    filled = found.values[hidden]
    filled = filled[(filled != 0).any(1)]
    assert len(filled) > 10
    assert (filled >= known.min(0) - 1e-4).all() and (filled <= known.max(0) + 1e-4).all()


def test_the_nearer_counts_more_and_not_alone():
    "On a chain of which both ends are known: the mean knows one of them, a diffusion both."
    n = 6
    chain = np.array([[u, u + end] for u in range(n - 1) for end in (0, 1)])
    truth = np.zeros((n, 1), np.float32)
    truth[0] = 1
    hidden = np.array([False, *[True] * (n - 2), False])
    shown = VisibleFeatures(np.array(list("abcdef"), dtype=object), mask(truth, hidden), purchases=chain)
    mean, _, returns, heat = (fill_features(shown, policy).values[1:5, 0] for policy in GRAPH)
    assert mean[0] == 1 and mean[3] == 0
    assert (np.diff(returns) < 0).all() and (np.diff(heat) < 0).all()
    for found in (returns, heat):
        np.testing.assert_allclose(found + found[::-1], 1, atol=1e-6)
    assert mean[0] > max(returns[0], heat[0]) and min(returns[0], heat[0]) > 0.5


@pytest.mark.parametrize("policy", GRAPH)
def test_who_the_buyers_are_does_not_matter(policy):
    "Buyers under other numbers, purchases in another order, and each told twice."
    w, hidden = world(5), hidden_at(0.5, seed=5)
    items, truth, other, categories, purchases = w
    plain = fill_features(shown_of(w, hidden), policy).values
    renamed = np.stack([np.random.default_rng(0).permutation(40)[purchases[:, 0]], purchases[:, 1]], 1)
    for pairs in (renamed, purchases[::-1], np.concatenate([purchases, purchases])):
        again = fill_features(shown_of((items, truth, other, categories, pairs), hidden), policy).values
        assert again.tobytes() == plain.tobytes()
