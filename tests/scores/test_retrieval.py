"""Does a completion find its own item: ranks against a plain sort, chance, and one definition for a set and for a row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.scores.retrieval import auc_against, distractor_auc, retrieve


def plain_rank(queries, gallery, ids, i):
    "One query at a time, in pure Python numbers."
    cosines = [float(q @ queries[i]) / float(np.linalg.norm(q) * np.linalg.norm(queries[i])) for q in gallery]
    order = sorted(range(len(ids)), key=lambda j: (-round(cosines[j], 10), ids[j]))
    return order.index(i) + 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 25), st.integers(1, 3))
def test_ranks_are_those_of_a_plain_sort(seed, n, width):
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(-2, 3, (2, n, width)).astype(float) + 0.5  # Many ties, no zeros
    ids = rng.permutation([f"{i:02d}" for i in range(n)])
    found = retrieve(ids, ["x"] * n, queries, gallery)
    assert found["rank"].tolist() == [plain_rank(queries, gallery, ids.tolist(), i) for i in range(n)]
    assert found["reciprocal_rank"].between(0, 1).all() and found["percentile_rank"].between(0, 1).all()
    order = rng.permutation(n)
    again = retrieve(ids[order], ["x"] * n, queries[order], gallery[order])
    assert again["rank"].tolist() == found["rank"].iloc[order].tolist()


def test_twins_keep_their_order_whatever_the_product_rounds():
    rng = np.random.default_rng(0)
    one = rng.standard_normal((1, 700))
    ids = [f"{i:04d}" for i in range(600)]
    found = retrieve(ids, ["x"] * 600, np.repeat(one, 600, 0), np.repeat(one * 3, 600, 0))
    assert found["rank"].tolist() == list(range(1, 601))
    assert found["reciprocal_rank"].mean() == pytest.approx(found["chance"].mean())


def test_random_answers_are_at_chance_and_true_ones_at_the_top():
    rng = np.random.default_rng(3)
    ids, groups = [f"{i:03d}" for i in range(400)], np.repeat(list("abcd"), 100)
    true, noise = rng.standard_normal((2, 400, 16))
    perfect, random = retrieve(ids, groups, true * 2, true), retrieve(ids, groups, noise, true)
    assert (perfect["rank"] == 1).all() and (perfect["percentile_rank"] == 1).all()
    assert random["percentile_rank"].mean() == pytest.approx(0.5, abs=0.05)
    assert random["reciprocal_rank"].mean() == pytest.approx(random["chance"].mean(), abs=0.02)


def test_missing_and_lonely_items_are_nan():
    true = np.eye(4)
    drawn = true.copy()
    drawn[1] = np.nan
    found = retrieve(list("abcd"), ["x", "x", "x", "y"], drawn, true)
    assert found["rank"].isna().tolist() == [False, True, False, True]
    back = retrieve(list("abcd"), ["x", "x", "x", "y"], true, drawn)
    assert back["gallery"].tolist() == [2, 2, 2, 1] and back["rank"].isna().tolist() == [
        False,
        True,
        False,
        True,
    ]
    assert len(retrieve([], [], np.zeros((0, 3)), np.zeros((0, 3)))) == 0


# ---------------------------------------------------------------- against a fixed pool


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 25), st.integers(2, 6))
def test_against_all_others_the_share_is_the_percentile_rank(seed, n, width):
    rng = np.random.default_rng(seed)
    queries, targets = rng.standard_normal((2, n, width))
    queries, targets = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, targets))
    ranked = retrieve([f"{i:02d}" for i in range(n)], ["x"] * n, queries, targets)["percentile_rank"]
    others = [np.delete(targets, i, axis=0) for i in range(n)]
    assert distractor_auc(queries, targets, others) == pytest.approx(ranked.to_numpy(), abs=1e-12)


def test_a_row_gets_the_same_bits_in_any_company():
    rng = np.random.default_rng(0)
    queries, targets = rng.standard_normal((2, 20, 384))
    pools = list(rng.standard_normal((20, 50, 384)))
    whole = distractor_auc(queries, targets, iter(pools))
    alone = [distractor_auc(queries[[i]], targets[[i]], pools[i : i + 1])[0] for i in range(20)]
    assert whole.tolist() == alone


def test_too_few_distractors_and_what_is_missing_are_unknown():
    one, pool = np.eye(3)[:1], np.eye(3)[1:]
    assert np.isnan(distractor_auc(one, one, [pool[:1]])) and np.isnan(
        distractor_auc(one, one, [np.zeros(0)])
    )
    assert np.isnan(distractor_auc(one * np.nan, one, [pool])) and np.isnan(
        distractor_auc(one, one * np.nan, [pool])
    )
    assert distractor_auc(one, one, [pool]).tolist() == [1.0]
    assert distractor_auc(np.zeros((0, 3)), np.zeros((0, 3)), []).shape == (0,)
    assert auc_against(0.5, np.array([0.5, 0.5])) == 0.5


def test_pairs_of_unequal_length_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        distractor_auc(np.eye(2), np.eye(2), [np.eye(2)])
