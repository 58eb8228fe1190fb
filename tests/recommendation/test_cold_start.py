"""Strict cold start: nothing of a cold item is learned from, nothing is lost, and what can and cannot tell new items apart."""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.recommendation.benchmark import (
    Benchmark,
    condition_keys,
    condition_lists,
    fill_condition,
    rank_condition,
    run_grid,
    training_inputs,
)
from mmpc_analysis.recommendation.cold_start import cold_benchmark, cold_items
from mmpc_analysis.recommendation.features import ItemFeatures
from mmpc_analysis.recommendation.grids import Condition, Grid, conditions
from mmpc_analysis.recommendation.recovery import recover
from mmpc_analysis.recommendation.splits import split_of_codes
from mmpc_analysis.recommendation.training import SMALL


def shop(seed=0, users=120, items=90, kinds=5):
    "Users who buy one kind, titles that tell the kind, pictures that tell nothing."
    rng = np.random.default_rng(seed)
    kind, taste = np.arange(items) % kinds, np.arange(users) % kinds
    liking = np.where(kind == taste[:, None], 1.0, 0.02)
    bought = [rng.choice(items, 7, replace=False, p=row / row.sum()) for row in liking]
    pairs = np.stack([np.repeat(np.arange(users), 7), np.concatenate(bought)], axis=1)
    part = np.tile([0, 0, 0, 0, 0, 1, 2], users)
    split = split_of_codes(*(pairs[part == p] for p in range(3)), users, items)
    titles = rng.normal(size=(kinds, 6))[kind] + 0.3 * rng.normal(size=(items, 6))
    features = ItemFeatures(
        split.items, titles.astype(np.float32), rng.normal(size=(items, 6)).astype(np.float32)
    )
    categories = np.array([f"c{k % 3}" for k in range(items)], dtype=object)
    how = {"training": replace(SMALL, epochs=15), "metrics": ("recall@5", "ndcg@5")}
    return Benchmark(split, categories, features, {}, **how)


SHOP = shop()
COLD = cold_items(SHOP.split.items, 0.25, seed=1)
BENCH = cold_benchmark(SHOP, COLD)
RATE = float(COLD.mean())


def oracle(name):
    return Condition(name, "none", 0.0, "oracle", 0)


def hidden_as(name, fill, modality="text"):
    return Condition(name, modality, RATE, fill, 0)


def recall(bench, condition):
    rows = rank_condition(bench, condition)
    return rows[(rows["category"] == "all") & (rows["metric"] == "recall@5")].set_index("user_id")["value"]


# ---------------------------------------------------------------- the draw


def test_the_draw_is_a_hash_nested_and_the_items_own():
    ids = np.array([f"i{k:04d}" for k in range(4000)], dtype=object)
    few, more = cold_items(ids, 0.2, seed=3), cold_items(ids, 0.6, seed=3)
    assert (few <= more).all() and abs(few.mean() - 0.2) < 0.03 and abs(more.mean() - 0.6) < 0.03
    digests = [hashlib.sha256("\x1f".join(["3", "cold", i]).encode()).digest() for i in ids[:60]]
    assert few[:60].tolist() == [(int.from_bytes(d[:8], "big") >> 11) / 2**53 < 0.2 for d in digests]
    assert np.array_equal(cold_items(ids[:100], 0.2, seed=3), few[:100])
    assert not np.array_equal(cold_items(ids, 0.2, seed=4), few)


# ---------------------------------------------------------------- what is learned from, and what judges


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.9))
def test_no_purchase_of_a_cold_item_is_learned_from_and_none_is_lost(seed, share):
    before = shop(seed, users=20, items=25).split
    cold = np.random.default_rng(seed).random(25) < share
    warm = replace(SHOP, split=before, features=blank(before), categories=np.array(["a"] * 25, dtype=object))
    if not cold.any() or not (~cold[before.train[:, 1]]).any():
        return
    try:
        split = cold_benchmark(warm, cold).split
    except ValueError as error:
        assert "bought a warm one to learn from" in str(error)
        return
    for part in ("train", "valid"):
        kept = getattr(before, part)[~cold[getattr(before, part)[:, 1]]]
        assert np.array_equal(getattr(split, part), kept)
    every = np.concatenate([before.train, before.valid, before.test])
    assert Counter(map(tuple, split.test)) == Counter(map(tuple, every[cold[every[:, 1]]]))
    assert np.array_equal(split.users, before.users) and np.array_equal(split.items, before.items)


def blank(split):
    return ItemFeatures(split.items, *np.ones((2, len(split.items), 1), np.float32))


def test_only_the_cold_lose_their_features():
    for modality in ("text", "image", "both"):
        _, features, _ = training_inputs(BENCH, hidden_as("vbpr", "zeros", modality))
        for name in ("text", "image"):
            truth, hit = getattr(SHOP.features, name), modality in (name, "both")
            np.testing.assert_array_equal(features[name][~COLD], truth[~COLD])
            assert (features[name][COLD] == (0 if hit else truth[COLD])).all()


def test_the_graph_says_nothing_of_a_cold_item_and_the_category_does():
    for fill in ("co_purchase_mean", "co_purchase_propagation", "co_purchase_pagerank", "co_purchase_heat"):
        found = fill_condition(BENCH, hidden_as("vbpr", fill))
        assert found.fallback == found.missing == COLD.sum() and not found.values[COLD].any()
    found = fill_condition(BENCH, hidden_as("vbpr", "category_mean"))
    assert found.fallback == 0
    item = np.flatnonzero(COLD)[0]
    same = ~COLD & (SHOP.categories == SHOP.categories[item])
    np.testing.assert_allclose(found.values[item], SHOP.features.text[same].mean(0), atol=1e-6)


def test_the_truth_of_the_cold_reaches_no_fill():
    lie = np.where(COLD[:, None], 5, SHOP.features.text).astype(np.float32)
    other = cold_benchmark(replace(SHOP, features=replace(SHOP.features, text=lie)), COLD)
    chosen = [
        hidden_as("vbpr", fill) for fill in ("zeros", "category_mean", "random", "nearest_other_modality")
    ]
    assert set(condition_keys(BENCH, chosen)) == set(condition_keys(other, chosen))
    assert set(condition_keys(BENCH, [oracle("vbpr")])) != set(condition_keys(other, [oracle("vbpr")]))


def test_another_question_is_another_result():
    chosen = [oracle("vbpr")]
    keys = [set(condition_keys(b, chosen)) for b in (SHOP, BENCH, cold_benchmark(SHOP, COLD, "all"))]
    assert not keys[0] & keys[1] and not keys[1] & keys[2] and not keys[0] & keys[2]


# ---------------------------------------------------------------- who is recommended what


def test_among_cold_only_cold_items_are_listed_and_among_all_a_list_is_no_better():
    every = cold_benchmark(SHOP, COLD, "all")
    lists = condition_lists(BENCH, oracle("vbpr"))
    assert COLD[lists.top].all()
    with_warm = condition_lists(every, oracle("vbpr"))
    assert not COLD[with_warm.top].all()
    known = {tuple(pair) for part in ("train", "valid") for pair in getattr(BENCH.split, part)}
    listed = {(u, i) for u, row in zip(with_warm.users, with_warm.top, strict=True) for i in row}
    assert not listed & known
    # The same training, fewer rivals: nobody finds less
    assert (lists.metrics["recall@5"] >= with_warm.metrics["recall@5"]).all()
    assert lists.metrics["recall@5"].mean() > 2 * with_warm.metrics["recall@5"].mean()


def test_true_titles_tell_new_items_apart_and_no_titles_do_not():
    chance = 5 / COLD.sum()
    for name in ("vbpr", "freedom"):
        assert recall(BENCH, oracle(name)).mean() > 2.5 * chance
        assert recall(BENCH, hidden_as(name, "zeros")).mean() < 1.6 * chance


def test_what_knows_purchases_only_is_at_chance_over_many_draws():
    "Each draw has its own luck, since all users get the same list; the mean of many has none."
    means, chances = [], []
    for seed in range(60):
        cold = cold_items(SHOP.split.items, 0.3, seed)
        bench = cold_benchmark(SHOP, cold)
        means.append(recall(bench, Condition("popularity", "none", 0.0, "none", 0)).mean())
        chances.append(5 / cold.sum())
    gap = np.array(means) - chances
    assert abs(gap.mean()) < 3 * gap.std(ddof=1) / np.sqrt(len(gap)) and gap.std() > 0


def test_who_scores_by_learned_vectors_alone_cannot_use_a_title():
    "BM3 reads features while it learns; those of a cold item are in no purchase it learns from."
    pairs = [recall(BENCH, c) for c in (oracle("bm3"), hidden_as("bm3", "zeros"))]
    assert pairs[0].equals(pairs[1])


def test_rankings_of_cold_items_answer_like_any_others(tmp_path):
    grid = Grid(("vbpr",), ("text",), (RATE,), ("zeros", "category_mean", "drop"), (0,), BENCH.metrics)
    found = recover(run_grid(BENCH, conditions(grid), str(tmp_path / "rankings"), progress=False))
    gains = found[(found["term"] == "gain") & (found["category"] == "all") & (found["metric"] == "recall@5")]
    means = found[(found["term"] == "mean") & (found["category"] == "all") & (found["metric"] == "recall@5")]
    means = means.set_index("fill")["estimate"]
    assert set(gains["fill"]) == {"category_mean", "drop"} and means["drop"] == 0
    assert means["oracle"] == pytest.approx(recall(BENCH, oracle("vbpr")).mean())
    judged = np.unique(BENCH.split.test[np.isin(BENCH.split.test[:, 0], BENCH.split.train[:, 0]), 0])
    assert set(gains["n"]) == {len(judged)}


# ---------------------------------------------------------------- hostile input


@pytest.mark.parametrize("share", [0, 1, -0.1, 20, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\)"):
        cold_items(SHOP.split.items, share)


@pytest.mark.parametrize(
    ("cold", "among", "said"),
    [
        (COLD[1:], "cold", "cold must be 90 booleans"),
        (COLD.astype(int), "cold", "cold must be 90 booleans"),
        (COLD, "warm", "among must be one of cold, all"),
        (np.zeros(90, bool), "cold", "nobody who bought one of 0 cold items"),
        (np.ones(90, bool), "all", "nobody who bought one of 90 cold items"),
    ],
)
def test_what_is_no_cold_start_is_refused(cold, among, said):
    with pytest.raises(ValueError, match=said):
        cold_benchmark(SHOP, cold, among)
