"""Averages and paired differences: means, listing groups, shards, and whether intervals cover."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from mmpc_analysis.scores.averages import (
    average,
    average_sums,
    joined_categories,
    merge_sums,
    paired_difference,
    sum_groups,
)


def made_up(model, values, category="A", **columns):
    rows = {
        "item_id": [f"i{k:05}" for k in range(len(values))], "category": category, "task": "image_to_text", "model": model,
        "family": "F", "parameters": 1e6, "role": "model", "metric": "chrf", "level": "word", "value": values, "outcome": "ok",
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


def test_means_are_means():
    rng = np.random.default_rng(0)
    category = rng.choice(["A", "B", "C"], 90, p=[0.6, 0.3, 0.1])
    scores = pd.concat([made_up(m, rng.random(90), category) for m in ("x", "y")])
    averages = average(scores).set_index(["model", "category"])
    for model in ("x", "y"):
        mine = scores[scores["model"] == model]
        assert averages.loc[(model, "all"), "estimate"] == pytest.approx(mine["value"].mean(), abs=1e-12)
        for name, values in mine.groupby("category")["value"]:
            row = averages.loc[(model, name)]
            assert row["estimate"] == pytest.approx(values.mean(), abs=1e-12) and row["n"] == len(values)
            assert row["low"] < row["estimate"] < row["high"]


def test_interval_of_many_items_equals_scipys_bca_bootstrap():
    "Another method and another implementation: with 400 items the two agree to a twentieth of their width."
    values = np.random.default_rng(3).beta(2, 5, 400)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=0).confidence_interval
    ours = average(made_up("x", values)).query("category == 'A'").iloc[0]
    assert (ours["low"], ours["high"]) == pytest.approx(
        (theirs.low, theirs.high), abs=0.05 * (theirs.high - theirs.low)
    )


def test_pooled_interval_keeps_the_mix_of_categories():
    "All of category A scores 1, all of B scores 0: the mix cannot move, what was not seen in 40 items can."
    scores = made_up("x", [1.0] * 10 + [0.0] * 30, ["A"] * 10 + ["B"] * 30)
    row, unseen = average(scores).query("category == 'all'").iloc[0], 1 - 0.05 ** (1 / 40)
    assert row[["estimate", "low", "high"]].tolist() == pytest.approx([0.25, 0.25 - unseen, 0.25 + unseen])
    rng = np.random.default_rng(0)
    apart = made_up("x", np.r_[rng.normal(0.8, 0.01, 10), rng.normal(0.2, 0.01, 30)], ["A"] * 10 + ["B"] * 30)
    row = average(apart).query("category == 'all'").iloc[0]
    assert row["high"] - row["low"] < 0.01


def test_intervals_cover():
    "Each study is a model of its own, in one table."
    studies = np.random.default_rng(4).normal(0.5, 0.1, (120, 60))
    rows = average(pd.concat([made_up(f"m{k:03}", v) for k, v in enumerate(studies)])).query(
        "category == 'all'"
    )
    assert len(rows) == 120 and 0.90 <= float(((rows["low"] <= 0.5) & (rows["high"] >= 0.5)).mean()) <= 0.99


def test_paired_intervals_cover_and_are_narrower():
    "Each study is a category of its own."
    rng = np.random.default_rng(5)
    hard, category = rng.random(3000), np.repeat([f"c{k:02}" for k in range(60)], 50)
    x, y = (hard + lead + rng.normal(0, 0.1, 3000) for lead in (0.05, 0))
    scores = pd.concat([made_up("x", x, category), made_up("y", y, category)])
    gaps = paired_difference(scores, ["x"], ["y"]).query("scope != 'all'").set_index("scope")
    alone = average(scores.query("model == 'x'")).query("category != 'all'").set_index("category")
    assert 0.86 <= float(((gaps["low"] <= 0.05) & (gaps["high"] >= 0.05)).mean()) <= 1.0
    assert (gaps["high"] - gaps["low"] < alone["high"] - alone["low"]).all() and len(gaps) == 60


def test_a_constant_lead_is_known_up_to_what_was_not_seen():
    values = np.random.default_rng(6).random(80) * 0.5
    both = pd.concat([made_up("x", values), made_up("y", values + 0.25)])
    gap = paired_difference(both, ["y"], ["x"]).iloc[-1]
    unseen = 1 - 0.05 ** (1 / 80)
    wanted = (0.25, 0.25 - unseen * 1.25, 0.25 + unseen * 0.75)
    assert (gap["estimate"], gap["low"], gap["high"]) == pytest.approx(wanted, abs=1e-9)


def test_no_chance_in_it_and_indifferent_to_order_and_to_other_categories():
    values = np.random.default_rng(7).random(80)
    scores = made_up("x", values, ["A", "B"] * 40)
    first = average(scores, seed=3)
    pd.testing.assert_frame_equal(
        first, average(scores.sample(frac=1, random_state=0), seed=4), check_exact=True
    )
    alone = average(scores[scores["category"] == "A"]).query("category == 'A'").iloc[0]
    assert alone["low"] == first.query("category == 'A'").iloc[0]["low"]


def test_lower_is_better_turns_the_sign():
    scores = pd.concat(
        [
            made_up("x", [0.1, 0.2, 0.1] * 4, metric="mse"),
            made_up("template", [0.4, 0.4, 0.4] * 4, metric="mse", role="floor"),
        ]
    )
    row = paired_difference(scores).query("scope == 'all'").iloc[0]
    assert (
        row["estimate"] == pytest.approx(0.4 - 0.4 / 3)
        and row["low"] > 0
        and row["question"] == "against_floor"
    )


def test_only_items_that_both_have_are_compared():
    scores = pd.concat([made_up("x", [1.0, np.nan, 0.5]), made_up("y", [0.5, 0.0, np.nan])])
    row = paired_difference(scores, ["x"], ["y"]).query("scope == 'all'").iloc[0]
    assert row["n"] == 1 and row["estimate"] == 0.5 and np.isnan(row["low"])


def test_families_pool_their_models_and_still_draw_items():
    values = np.random.default_rng(8).random(50)
    scores = pd.concat([made_up("x", values), made_up("y", values, parameters=2e6)])
    pooled = average(scores, by=("task", "family")).query("category == 'all'").iloc[0]
    single = average(scores).query("category == 'all' and model == 'x'").iloc[0]
    assert (pooled["model"], pooled["n"]) == ("F", 50) and np.isnan(pooled["parameters"])
    assert (pooled["low"], pooled["high"]) == pytest.approx((single["low"], single["high"]), abs=1e-12)


def test_nothing_known_is_nan_and_never_zero():
    row = average(made_up("x", [np.nan, np.nan], outcome="engine_error")).iloc[-1]
    assert row["n"] == 0 and row["coverage"] == 0 and row[["estimate", "low", "high"]].isna().all()
    assert row["groups"] == 0 and row["method"].startswith("no interval")


# ---------------------------------------------------------------- listing groups


def grouped(rng, groups=60, alike=0.8, models=("x", "y"), most=8, metric="chrf"):
    "Scores of models on listing groups of 1 to 8 items, in three categories."
    sizes = rng.integers(1, most + 1, groups)
    group = np.repeat(np.arange(groups), sizes)
    parent = np.array([f"thing-{k:03}" for k in range(groups)])[group]
    parts = []
    for model in models:
        value = np.sqrt(alike) * rng.normal(size=groups)[group] + np.sqrt(1 - alike) * rng.normal(
            size=len(group)
        )
        category = np.array(["A", "B", "C"])[group % 3]
        parts.append(made_up(model, 0.5 + 0.1 * value, category, parent_id=parent, metric=metric))
    return pd.concat(parts, ignore_index=True)


def test_items_stay_the_count_and_groups_stand_beside_it():
    scores = grouped(np.random.default_rng(0)).query("model == 'x'")
    rows = average(scores).set_index("category")
    for name, part in [("all", scores), *scores.groupby("category")]:
        assert rows.loc[name, ["n", "groups"]].tolist() == [
            part["item_id"].nunique(),
            part["parent_id"].nunique(),
        ]
    assert rows["method"].str.endswith("by parent_id").all()
    alone = average(scores, cluster="item_id").set_index("category")
    assert (alone["groups"] == alone["n"]).all() and (alone["method"].str.endswith("by item_id")).all()
    assert (alone["high"] - alone["low"] < rows["high"] - rows["low"]).all()


def test_width_is_that_of_statsmodels_clustered_error():
    scores = grouped(np.random.default_rng(1), groups=400).query("category == 'A' and model == 'x'")
    codes = pd.factorize(scores["parent_id"])[0]
    fit = sm.OLS(scores["value"].to_numpy(), np.ones(len(scores))).fit(
        cov_type="cluster", cov_kwds={"groups": codes}
    )
    row = average(scores).query("category == 'A'").iloc[0]
    wanted = 2 * fit.bse[0] * stats.t.ppf(0.975, codes.max())
    assert wanted * 0.99 < row["high"] - row["low"] < wanted * 1.08


def test_listings_without_a_known_group_are_their_own():
    scores = made_up("x", np.random.default_rng(2).random(30))
    pd.testing.assert_frame_equal(
        average(scores).drop(columns="method"), average(scores, cluster="item_id").drop(columns="method")
    )


def test_a_category_of_many_listings_in_few_groups_gets_no_interval():
    scores = made_up("x", np.random.default_rng(3).random(40), parent_id=[f"g{k % 4}" for k in range(40)])
    row = average(scores).query("category == 'A'").iloc[0]
    assert row[["n", "groups"]].tolist() == [40, 4] and np.isnan(row["low"])
    assert row["method"] == "no interval: fewer than 5 groups, by parent_id"


def test_groups_in_two_categories_join_them():
    assert joined_categories(np.array(list("AABBCD")), np.array(list("uvvwxy"))).tolist() == [
        0,
        0,
        0,
        0,
        2,
        3,
    ]
    scores = made_up("x", np.r_[np.full(20, 0.9), np.full(20, 0.1)] + 0.01, ["A"] * 20 + ["B"] * 20)
    apart, joined = (
        average(scores.assign(parent_id=parents, value=scores["value"] + np.tile([0, 0.01], 20))).iloc[-1]
        for parents in ([f"g{k:02}" for k in range(40)], [f"g{k % 20:02}" for k in range(40)])
    )
    assert (apart["groups"], joined["groups"]) == (40, 20) and joined["estimate"] == pytest.approx(
        apart["estimate"]
    )
    assert joined["high"] - joined["low"] > apart["high"] - apart["low"]


def test_paired_differences_by_group_are_as_wide_as_those_of_group_means():
    scores = grouped(np.random.default_rng(4), groups=45, most=1)
    copies = pd.concat([scores.assign(item_id=scores["item_id"] + f"-{k}") for k in range(5)])
    one, five = (paired_difference(s, ["x"], ["y"]).iloc[-1] for s in (scores, copies))
    assert (five["low"], five["high"]) == pytest.approx((one["low"], one["high"]), abs=1e-9)
    assert (one["n"], five["n"], one["groups"], five["groups"]) == (45, 225, 45, 45)
    assert five["method"] == "paired, effective binomial 0.95, by parent_id"


def test_two_models_that_answer_alike_differ_by_what_was_not_seen():
    values = np.random.default_rng(5).random(40)
    gap = paired_difference(pd.concat([made_up("x", values), made_up("y", values)]), ["x"], ["y"]).iloc[-1]
    unseen = 1 - 0.05 ** (1 / 40)
    assert (gap["estimate"], gap["low"], gap["high"]) == pytest.approx((0, -unseen, unseen))
    assert gap["method"] == "paired, all equal, 0.95, by parent_id"


def test_means_stay_on_the_scale_of_their_metric():
    "Token F1 in [0, 1], a cosine in [-1, 1], a ratio without an upper end, a metric without a card."
    values = np.array([0.0, 0, 0, 0, 0, 0.02, 0, 0.9])
    ends = {
        "token_f1": (0, 1),
        "minilm_cosine": (-1, 1),
        "length_ratio": (0, np.inf),
        "elo": (-np.inf, np.inf),
    }
    for metric, (low, high) in ends.items():
        row = average(made_up("x", values, metric=metric)).iloc[-1]
        assert low <= row["low"] < row["estimate"] < row["high"] <= high
    assert average(made_up("x", values)).iloc[-1]["low"] >= 0


# ---------------------------------------------------------------- shards


@pytest.mark.parametrize("by", [("task", "model"), ("task", "family")])
@pytest.mark.parametrize("seed", range(4))
def test_shards_add_up_to_the_single_run_however_they_are_cut(seed, by):
    "Items thrown at random into 5 shards, groups cut through, shards in any order."
    rng = np.random.default_rng(seed)
    scores = pd.concat([grouped(rng), grouped(rng, metric="minilm_cosine")], ignore_index=True)
    holes = rng.random(len(scores)) < 0.1
    scores.loc[holes, ["value", "outcome"]] = [np.nan, "engine_error"]
    scores.loc[rng.random(len(scores)) < 0.1, "outcome"] = "refused"
    shard = scores["item_id"].map({i: rng.integers(5) for i in scores["item_id"].unique()})
    parts = [sum_groups(scores[shard == k], by) for k in rng.permutation(5)]
    whole = average(scores, by)
    merged = average_sums(merge_sums(parts))
    pd.testing.assert_frame_equal(merged, whole, rtol=1e-11, atol=1e-12)
    pairs = merge_sums([merge_sums(parts[:2]), merge_sums(parts[2:])])
    pd.testing.assert_frame_equal(average_sums(pairs), whole, rtol=1e-11, atol=1e-12)


def test_shards_of_whole_groups_give_the_same_bits():
    rng = np.random.default_rng(9)
    scores = grouped(rng, groups=120)
    shard = scores["parent_id"].map({i: rng.integers(7) for i in scores["parent_id"].unique()})
    parts = [sum_groups(scores[shard == k]) for k in rng.permutation(7)]
    pd.testing.assert_frame_equal(average_sums(merge_sums(parts)), average(scores), check_exact=True)


def test_parts_of_models_merge_too_and_families_that_differ_are_several():
    scores = grouped(np.random.default_rng(10))
    parts = [sum_groups(scores[scores["model"] == m]) for m in ("y", "x")]
    pd.testing.assert_frame_equal(average_sums(merge_sums(parts)), average(scores), check_exact=True)
    mixed = [sum_groups(part, ("task",)) for part in (scores[:100], scores[100:].assign(family="G"))]
    assert set(average_sums(merge_sums(mixed))["family"]) == {"several"}


def test_sums_that_do_not_belong_together_are_refused():
    scores = grouped(np.random.default_rng(11))
    with pytest.raises(ValueError, match="summed by the same columns and cluster"):
        merge_sums([sum_groups(scores), sum_groups(scores, cluster="item_id")])
    with pytest.raises(ValueError, match="summed by the same columns and cluster"):
        merge_sums([])
    with pytest.raises(ValueError, match="no column 'shop'"):
        average(scores, cluster="shop")
    with pytest.raises(ValueError, match="shop is missing in a row"):
        average(scores.assign(shop=None), cluster="shop")
