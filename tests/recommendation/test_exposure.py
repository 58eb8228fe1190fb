"""Exposure: shares of lists by plain loops, parity where nothing tells items apart, and intervals by another computation."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmpc_analysis.recommendation.benchmark import Benchmark
from mmpc_analysis.recommendation.exposure import (
    AGAINST,
    WEIGHTS,
    exposure_rows,
    exposure_table,
    filled_exposure,
)
from mmpc_analysis.recommendation.features import ItemFeatures
from mmpc_analysis.recommendation.grids import Condition, Grid, conditions
from mmpc_analysis.recommendation.ranking import Ranked
from mmpc_analysis.recommendation.splits import split_of_codes
from mmpc_analysis.recommendation.training import SMALL


def lists(top):
    top = np.asarray(top)
    return Ranked(np.arange(len(top)), top, np.zeros(top.shape, bool), np.ones(len(top), int), {}, {})


def shop(users=90, items=60):
    rng = np.random.default_rng(2)
    pairs = np.stack([np.repeat(np.arange(users), 6), *[np.zeros(users * 6, int)]], axis=1)
    pairs[:, 1] = np.concatenate([rng.choice(items, 6, replace=False) for _ in range(users)])
    part = np.tile([0, 0, 0, 0, 1, 2], users)
    split = split_of_codes(*(pairs[part == p] for p in range(3)), users, items)
    features = ItemFeatures(split.items, *rng.normal(size=(2, items, 4)).astype(np.float32))
    hidden = {("text", 0.5): rng.random(items) < 0.5, ("both", 0.2): rng.random(items) < 0.2}
    how = {"training": replace(SMALL, epochs=2), "metrics": ("recall@10",)}
    return Benchmark(split, np.array(["a", "b"] * (items // 2), dtype=object), features, hidden, **how)


SHOP = shop()
POPULARITY = Condition("popularity", "none", 0.0, "none", 0)


# ---------------------------------------------------------------- one list


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(8, 20))
def test_shares_are_those_of_plain_loops(seed, k, items):
    rng = np.random.default_rng(seed)
    top = np.stack([rng.permutation(items)[:8] for _ in range(6)])
    for row, length in enumerate(rng.integers(0, 9, 6)):
        top[row, length:] = -1
    filled = rng.random(items) < 0.4
    found = filled_exposure(lists(top), filled, k)
    for row, codes in enumerate(top):
        places = [(place, code) for place, code in enumerate(codes[:k], 1) if code >= 0]
        for name, weight in (("slots", lambda p: 1.0), ("attention", lambda p: 1 / math.log2(1 + p))):
            whole = sum(weight(p) for p, _ in places)
            if not whole:
                assert np.isnan(found[name][row])
                continue
            share = sum(weight(p) for p, code in places if filled[code]) / whole
            assert found[name][row] == pytest.approx(share, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_filled_and_complete_share_the_whole_and_names_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    top, filled = np.stack([rng.permutation(15)[:6] for _ in range(5)]), rng.random(15) < 0.5
    new = rng.permutation(15)
    turned = np.zeros(15, bool)
    turned[new] = filled
    for name in WEIGHTS:
        one, rest = (filled_exposure(lists(top), f, 6)[name] for f in (filled, ~filled))
        np.testing.assert_allclose(one + rest, 1, atol=1e-12)
        np.testing.assert_array_equal(filled_exposure(lists(new[top]), turned, 6)[name], one)


def test_lists_drawn_at_random_are_at_parity():
    rng = np.random.default_rng(0)
    filled = np.arange(50) < 20
    top = np.stack([rng.permutation(50)[:10] for _ in range(4000)])
    for name in WEIGHTS:
        share = filled_exposure(lists(top), filled, 10)[name]
        assert abs(share.mean() - 0.4) < 4 * share.std() / np.sqrt(4000)


def test_the_first_place_has_more_attention_than_the_last():
    first, last = (
        filled_exposure(lists([row]), np.array([True, False, False]), 3) for row in ([0, 1, 2], [1, 2, 0])
    )
    assert first["slots"] == last["slots"] == pytest.approx(1 / 3)
    assert first["attention"][0] > 1 / 3 > last["attention"][0]


# ---------------------------------------------------------------- conditions


def test_every_condition_has_its_users_and_the_yardsticks_stand_beside_every_mask():
    grid = Grid(("vbpr", "popularity"), ("text", "both"), (0.5,), ("zeros", "drop"), (0,), SHOP.metrics)
    bench = replace(
        SHOP, hidden={("text", 0.5): SHOP.hidden["text", 0.5], ("both", 0.5): SHOP.hidden["both", 0.2]}
    )
    rows = exposure_rows(bench, conditions(grid), k=10, progress=False)
    places = set(rows[["recommender", "modality", "fill"]].itertuples(index=False, name=None))
    fills = {("vbpr", f) for f in ("zeros", "drop", "oracle")} | {("popularity", "none")}
    assert places == {(r, m, f) for r, f in fills for m in ("text", "both")}, "and none is shuffled"
    assert (rows.loc[rows["fill"] == "drop", list(WEIGHTS)] == 0).all(axis=None)
    shares = rows.groupby("modality")["in_catalogue"].unique()
    assert shares["text"] == [bench.hidden["text", 0.5].mean()] and shares["both"] == [
        bench.hidden["both", 0.5].mean()
    ]
    test = bench.split.test
    for user, item in test[:20]:
        mine = rows[(rows["user_id"] == bench.split.users[user]) & (rows["modality"] == "text")]
        assert set(mine["bought"]) == {float(bench.hidden["text", 0.5][item])}


def test_the_lists_are_those_that_the_benchmark_judges():
    "By hand for popularity: the most bought items that a user does not have."
    from mmpc_analysis.recommendation.ranking import tie_order

    rows = exposure_rows(SHOP, [POPULARITY], k=10, progress=False)
    filled, split = SHOP.hidden["text", 0.5], SHOP.split
    counts, rank = np.bincount(split.train[:, 1], minlength=60), np.argsort(tie_order(split.items))
    order = sorted(range(60), key=lambda i: (-counts[i], rank[i]))
    for user in range(10):
        known = set(
            np.concatenate([split.train, split.valid])[:, 1][
                np.concatenate([split.train, split.valid])[:, 0] == user
            ]
        )
        shown = [i for i in order if i not in known][:10]
        mine = rows[(rows["user_id"] == split.users[user]) & (rows["modality"] == "text")]
        assert mine["slots"].item() == pytest.approx(filled[shown].mean())


def test_a_share_of_the_catalogue_is_one_of_what_may_be_recommended():
    some = np.arange(60) < 30
    rows = exposure_rows(replace(SHOP, candidates=some), [POPULARITY], k=10, progress=False)
    wanted = {SHOP.hidden[place][:30].mean() for place in SHOP.hidden}
    assert set(rows["in_catalogue"]) == wanted


# ---------------------------------------------------------------- the table


def made(values, bought, recommender="vbpr", share=0.5):
    "Rows of (users, seeds) shares."
    users, seeds = np.shape(values)
    parts = [
        pd.DataFrame({
            "user_id": [f"u{u:03d}" for u in range(users)], "recommender": recommender, "modality": "text", "rate": 0.5,
            "fill": "zeros", "seed": seed, "slots": values[:, seed], "attention": values[:, seed] / 2, "bought": bought,
            "in_catalogue": share,
        })
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_a_ratio_and_its_interval_are_those_of_students_t():
    "For a recommender without chance the users are the only source of it."
    rng = np.random.default_rng(5)
    values = rng.uniform(0, 0.6, (80, 1))
    table = exposure_table(made(values, np.full(80, 0.4), "popularity", share=0.25), level=0.9)
    row = table[(table["weight"] == "slots") & (table["against"] == "catalogue")].iloc[0]
    low, high = stats.t.interval(0.9, 79, values.mean(), stats.sem(values[:, 0]))
    assert (row["ratio"], row["low"], row["high"]) == pytest.approx(
        (values.mean() / 0.25, low / 0.25, high / 0.25)
    )
    constant = table[(table["weight"] == "slots") & (table["against"] == "purchases")].iloc[0]
    assert (constant["low"], constant["high"]) == pytest.approx((low / 0.4, high / 0.4)), (
        "a known share below"
    )
    assert (
        set(table["weight"]) == set(WEIGHTS)
        and set(table["against"]) == set(AGAINST)
        and (table["n"] == 80).all()
    )


def test_the_ratio_to_purchases_covers_as_often_as_it_says():
    "Shares of lists and of purchases of the same users, correlated; the true ratio is 0.8."
    rng, hits, times = np.random.default_rng(8), 0, 150
    for _ in range(times):
        liking = rng.uniform(0.2, 0.8, 60)
        shown = np.clip(0.8 * liking + rng.normal(0, 0.05, 60), 0, 1)
        wanted = np.clip(liking + rng.normal(0, 0.1, 60), 0, 1)
        table = exposure_table(made(shown[:, None], wanted, "popularity"))
        row = table[(table["weight"] == "slots") & (table["against"] == "purchases")].iloc[0]
        hits += row["low"] < 0.8 < row["high"]
    assert abs(hits / times - 0.95) < 3 * np.sqrt(0.95 * 0.05 / times)


def test_after_one_training_there_is_no_interval_and_trainings_widen_it():
    rng = np.random.default_rng(4)
    of_user = rng.uniform(0.2, 0.6, (50, 1))
    still = exposure_table(made(np.tile(of_user, 4), of_user[:, 0]))
    moved = exposure_table(made(of_user + np.array([-0.1, 0, 0.05, 0.05]), of_user[:, 0]))
    width = [(t["high"] - t["low"]).iloc[0] for t in (still, moved)]
    assert width[1] > 2 * width[0] and still["ratio"].iloc[0] == pytest.approx(moved["ratio"].iloc[0])
    assert exposure_table(made(of_user, of_user[:, 0]))[["low", "high"]].isna().all(axis=None)


def test_a_user_who_is_shown_nothing_or_is_not_ranked_is_left_out_of_the_count():
    values = np.full((30, 2), 0.5)
    rows = made(values, np.full(30, 0.5))
    rows.loc[0, ["slots", "attention"]] = np.nan
    rows = rows.drop(index=31)  # The second user after the second training
    table = exposure_table(rows)
    assert (table["n"] == 28).all() and table["share"].iloc[0] == 0.5


def test_where_nobody_buys_what_was_filled_there_is_no_ratio_to_purchases():
    table = exposure_table(made(np.random.default_rng(0).uniform(0, 1, (20, 3)), np.zeros(20)))
    of_purchases = table[table["against"] == "purchases"]
    assert of_purchases[["ratio", "low", "high"]].isna().all(axis=None)
    assert table.loc[table["against"] == "catalogue", ["ratio", "low", "high"]].notna().all(axis=None)


# ---------------------------------------------------------------- hostile input


@pytest.mark.parametrize(
    ("top", "filled", "k", "said"),
    [
        ([[0, 1]], np.array([True, False]), 0, "k must lie from 1 to 2"),
        ([[0, 1]], np.array([True, False]), 3, "k must lie from 1 to 2"),
        ([[0, 2]], np.array([True, False]), 2, "filled must be a boolean for each item"),
        ([[0, 1]], np.array([1, 0]), 2, "filled must be a boolean for each item"),
        ([[0, 1]], np.array([[True], [False]]), 2, "filled must be a boolean for each item"),
    ],
)
def test_what_cannot_be_counted_is_refused(top, filled, k, said):
    with pytest.raises(ValueError, match=said):
        filled_exposure(lists(top), filled, k)
