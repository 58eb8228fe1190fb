"""Fills: the truth cannot matter, the order cannot matter, known rows stay, and each fill against a plain computation."""

import numpy as np
import pytest
from fill_cases import hidden_at, shown_of, world
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.recommendation import fills
from mmpc_analysis.recommendation.fills import FILLS, NEED_KNOWN, fill_features, shuffled
from mmpc_analysis.recommendation.visible_features import VisibleFeatures, mask

BLIND = tuple(p for p in FILLS if p not in ("completion", "oracle", "shuffled"))


# ---------------------------------------------------------------- what a fill may not do


@pytest.mark.parametrize("policy", BLIND)
@pytest.mark.parametrize("rate", [0.2, 0.8, 1.0])
def test_the_hidden_truth_does_not_matter_by_one_bit(policy, rate):
    w, hidden = world(), hidden_at(rate)
    before = fill_features(shown_of(w, hidden), policy)
    for lie in (1e30, -1.0, 0.0):
        w[1][hidden] = lie
        after = fill_features(shown_of(w, hidden), policy)
        assert after.values.tobytes() == before.values.tobytes()


def test_a_failed_completion_is_never_the_truth():
    w, hidden = world(), hidden_at(0.5)
    answers = np.where(np.arange(60)[:, None] % 2 == 0, 5.0, np.nan).astype(np.float32) * np.ones((1, 7))
    failed = hidden & np.isnan(answers).any(1)
    found = fill_features(shown_of(w, hidden), "completion", answers)
    assert failed.sum() > 5 and found.fallback == failed.sum() and found.missing == hidden.sum()
    assert (found.values[failed] == 0).all() and (found.values[hidden & ~failed] == 5).all()
    assert not (found.values[failed] == w[1][failed]).any()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e300])
def test_one_number_that_is_none_makes_a_completion_failed(broken):
    w, hidden = world(), hidden_at(0.5)
    answers = np.ones(w[1].shape)
    place = np.flatnonzero(hidden)[0]
    answers[place, 3] = broken
    found = fill_features(shown_of(w, hidden), "completion", answers, fallback="random")
    assert found.fallback == 1 and np.isfinite(found.values).all()
    assert np.array_equal(found.values[place], fill_features(shown_of(w, hidden), "random").values[place])


@pytest.mark.parametrize("policy", BLIND)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_known_rows_come_back_bit_for_bit_and_nothing_is_changed(policy, rate):
    w, hidden = world(), hidden_at(rate)
    w[1][~hidden, 0] = -0.0
    shown = shown_of(w, hidden)
    copies = [np.array(part) for part in (shown.own, shown.other, shown.categories, shown.purchases)]
    found = fill_features(shown, policy)
    assert found.values.dtype == np.float32 and np.isfinite(found.values).all()
    assert found.values[~hidden].tobytes() == w[1][~hidden].tobytes()
    after = (shown.own, shown.other, shown.categories, shown.purchases)
    for was, part in zip(copies, after, strict=True):
        assert was.tobytes() == np.asarray(part).tobytes() or list(was) == list(part)
    assert found.dropped.sum() == (hidden.sum() if policy == "drop" else 0)


def test_an_item_that_never_had_a_vector_is_filled_like_a_hidden_one():
    w, hidden = world(), hidden_at(0.3)
    never = np.flatnonzero(~hidden)[0]
    w[1][never] = np.nan
    found = fill_features(shown_of(w, hidden), "category_mean")
    hidden[never] = True
    assert found.missing == hidden.sum()
    assert found.values.tobytes() == fill_features(shown_of(w, hidden), "category_mean").values.tobytes()


# ---------------------------------------------------------------- order, nesting, counts


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(BLIND), st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.9]))
def test_reordering_the_items_reorders_the_result(policy, seed, rate):
    items, truth, other, categories, purchases = w = world(seed)
    hidden = hidden_at(rate, seed=seed)
    order = np.random.default_rng(seed).permutation(60)
    moved = np.stack([purchases[:, 0], np.argsort(order)[purchases[:, 1]]], axis=1)[::-1]
    turned = items[order], truth[order], other[order], categories[order], moved
    one, two = (
        fill_features(shown_of(w, hidden), policy),
        fill_features(shown_of(turned, hidden[order]), policy),
    )
    assert one.values[order].tobytes() == two.values.tobytes()
    assert (one.missing, one.fallback, one.elsewhere) == (two.missing, two.fallback, two.elsewhere)


def test_a_random_direction_is_the_items_own_at_every_rate():
    w = world()
    fewer, more = hidden_at(0.3), hidden_at(0.8)
    assert (more >= fewer).all() and fewer.any()
    one, two = (fill_features(shown_of(w, h), "random").values[fewer].astype(float) for h in (fewer, more))
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)


def test_a_random_vector_does_not_depend_on_who_else_is_in_the_shop():
    items, vectors = (
        np.array(list("abcd"), dtype=object),
        np.array([[np.nan], [np.nan], [2], [2]], np.float32),
    )
    vectors = np.repeat(vectors, 5, axis=1)
    whole = fill_features(VisibleFeatures(items, vectors), "random").values
    for left_out in (0, 2):
        kept = np.arange(4) != left_out
        assert np.array_equal(
            fill_features(VisibleFeatures(items[kept], vectors[kept]), "random").values, whole[kept]
        )


def test_random_has_the_lengths_of_the_known_and_no_direction():
    items = np.array([f"i{k}" for k in range(4000)], dtype=object)
    truth = np.random.default_rng(0).standard_normal((4000, 3)).astype(np.float32)
    hidden = hidden_at(0.5, 4000)
    noise = fill_features(VisibleFeatures(items, mask(truth, hidden)), "random").values[hidden].astype(float)
    known, drawn = (np.linalg.norm(v.astype(float), axis=1) for v in (truth[~hidden], noise))
    assert np.abs(drawn[:, None] - known).min(axis=1).max() < 1e-5
    from scipy.stats import ks_2samp

    assert ks_2samp(drawn, known).pvalue > 0.01
    units = noise / drawn[:, None]
    assert np.abs(units.mean(0)).max() < 4 / np.sqrt(3 * hidden.sum())
    again = fill_features(VisibleFeatures(items, mask(truth, hidden)), "random", seed=1).values[hidden]
    assert not (again == noise.astype(np.float32)).any()


@pytest.mark.parametrize("policy", BLIND)
def test_where_nothing_is_known_it_is_counted(policy):
    found = fill_features(shown_of(world(), np.ones(60, bool)), policy)
    assert found.missing == 60
    if policy in NEED_KNOWN and policy != "drop":
        assert found.fallback == 60 and (found.values == 0).all()
    else:
        assert found.fallback == 0
    if policy == "random":
        np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-6)


def test_a_category_without_a_known_item_takes_the_mean_of_all_and_is_counted():
    w = world()
    hidden = w[3] == "c2"
    found = fill_features(shown_of(w, hidden), "category_mean")
    assert found.elsewhere == hidden.sum() > 0 and found.fallback == 0
    np.testing.assert_allclose(
        found.values[hidden], np.tile(w[1][~hidden].mean(0), (hidden.sum(), 1)), atol=1e-6
    )
    more = hidden.copy()
    more[np.flatnonzero(w[3] != "c2")[0]] = True
    assert fill_features(shown_of(w, more), "category_mean").elsewhere == hidden.sum()


# ---------------------------------------------------------------- each fill against a plain computation


def test_category_mean_is_that_of_pandas():
    import pandas as pd

    w, hidden = world(), hidden_at(0.5)
    means = pd.DataFrame(np.where(hidden[:, None], np.nan, w[1])).groupby(w[3]).transform("mean")
    found = fill_features(shown_of(w, hidden), "category_mean").values[hidden]
    np.testing.assert_allclose(found, means[hidden], atol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 256])
def test_neighbours_are_those_of_scikit_learn(block, monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(fills, "_BLOCK", block)
    rng = np.random.default_rng(3)
    n, hidden = 400, hidden_at(0.4, 400)
    items = np.array([f"{k:04d}" for k in range(n)], dtype=object)
    truth, other = rng.standard_normal((n, 6)).astype(np.float32), rng.standard_normal((n, 9))
    found = fill_features(
        VisibleFeatures(items, mask(truth, hidden), other), "nearest_other_modality"
    ).values[hidden]
    search = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(other[~hidden])
    distance, near = search.kneighbors(other[hidden])
    weight = np.maximum(1 - distance, 0)
    want = np.einsum("rk,rkw->rw", weight, truth[~hidden][near]) / weight.sum(1, keepdims=True)
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_an_item_that_looks_the_other_way_lends_nothing():
    items, other = np.array(list("abc"), dtype=object), np.array([[1, 0], [1, 1], [-1, 0.5]])
    own = np.array([[np.nan], [3], [100]], np.float32)
    assert fill_features(VisibleFeatures(items, own, other), "nearest_other_modality").values[0, 0] == 3


def test_neighbours_that_tie_are_taken_by_id_whatever_the_block(monkeypatch):
    n = 40
    items = np.array([f"{k:02d}" for k in range(n)], dtype=object)
    truth = np.arange(n, dtype=np.float32)[:, None]
    other = np.tile([[1.0, 2.0]], (n, 1))
    hidden = np.zeros(n, bool)
    hidden[[3, 20]] = True
    first = [k for k in range(n) if not hidden[k]][:10]
    for block in (1, 256):
        monkeypatch.setattr(fills, "_BLOCK", block)
        found = fill_features(
            VisibleFeatures(items, mask(truth, hidden), other), "nearest_other_modality"
        ).values
        np.testing.assert_allclose(found[[3, 20], 0], np.mean(first), rtol=1e-6)


def test_who_resembles_nobody_takes_the_fallback():
    items = np.array(list("abcde"), dtype=object)
    truth = np.ones((5, 2), np.float32)
    other = np.array([[1, 0], [0, 0], [np.nan, np.nan], [-1, 0], [0, 1]], float)
    hidden = np.array([False, True, True, True, True])
    found = fill_features(VisibleFeatures(items, mask(truth, hidden), other), "nearest_other_modality")
    assert found.fallback == 4 and (found.values[1:] == 0).all()


# ---------------------------------------------------------------- the control


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_shuffled_gives_everyone_anothers_vector(n, seed):
    items = np.array([f"i{k}" for k in range(n)], dtype=object)
    vectors = np.arange(n, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    found = shuffled(items, vectors, seed)
    assert not (found == vectors).any() and sorted(found[:, 0]) == list(range(n))
    order = np.random.default_rng(seed).permutation(n)
    assert np.array_equal(shuffled(items[order], vectors[order], seed), found[order])


def test_shuffled_leaves_an_item_without_a_vector_without():
    vectors = np.array([[1.0], [np.nan], [3.0], [4.0]], np.float32)
    found = shuffled(np.array(list("abcd"), dtype=object), vectors)
    assert np.isnan(found[1]).all() and sorted(found[[0, 2, 3], 0]) == [1, 3, 4]


# ---------------------------------------------------------------- hostile input


@pytest.mark.parametrize("policy", [p for p in BLIND if p in NEED_KNOWN and p != "drop"])
def test_a_fill_says_what_it_needs(policy):
    shown = VisibleFeatures(np.array(["a", "b"], dtype=object), np.array([[1.0], [np.nan]], np.float32))
    with pytest.raises(ValueError, match=r"this fill needs (categories|other|purchases)"):
        fill_features(shown, policy)


def test_one_item_and_none():
    for n in (0, 1):
        empty = VisibleFeatures(np.array(["a"], dtype=object)[:n], np.full((n, 2), np.nan, np.float32))
        for policy in ("zeros", "random", "drop"):
            assert fill_features(empty, policy).values.shape == (n, 2)


def test_fewer_known_items_than_lend_still_lend_where_the_last_item_is_hidden():
    "The place of a lender that is not there must not be read as the last item."
    other = np.array([[1.0, 0.1], [0.9, 0.3], [0.2, 1.0], [1.0, 0.2]])
    truth = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [7.0, 7.0]], np.float32)
    hidden = np.array([False, False, False, True])
    shown = VisibleFeatures(np.array(list("abcd"), dtype=object), mask(truth, hidden), other)
    found = fill_features(shown, "nearest_other_modality")
    unit = other / np.linalg.norm(other, axis=1, keepdims=True)
    weights = unit[:3] @ unit[3]
    assert found.fallback == 0
    assert found.values[3] == pytest.approx(weights @ truth[:3] / weights.sum(), abs=1e-6)
