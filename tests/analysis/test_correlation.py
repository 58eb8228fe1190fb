"Effects of size by the long way round, resampling by simulation, and what is refused."

import warnings

import numpy as np
import pandas as pd
import pytest
from correlation_cases import MODELS, make_scores, permutation_p
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mmpc_analysis.analysis.association import (
    COEFFICIENTS,
    spearman,
)
from mmpc_analysis.analysis.correlation import (
    bootstrap_means,
    coefficient_bounds,
    equal_means_p,
    expanded,
    scale_effect,
)
from mmpc_analysis.report.scale import scale_warning
from mmpc_analysis.report.wording import in_words
from mmpc_analysis.tables import TableError


def test_bootstrap_spread_equals_theory_and_is_paired():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(40, 3)) + 2 * rng.normal(size=(40, 1))
    means = bootstrap_means(values, np.arange(40), 40_000, np.random.default_rng(0))
    theory = np.cov(values.T) / 40
    np.testing.assert_allclose(np.cov(means.T), theory, rtol=0.04)
    np.testing.assert_allclose(means.mean(0), values.mean(0), atol=4 * np.sqrt(theory.max() / 40_000))


def test_bootstrap_keeps_the_mix_of_categories_and_has_the_spread_of_stratified_means():
    rng = np.random.default_rng(5)
    sizes = [4, 9, 30, 1]
    strata = np.repeat(np.arange(4), sizes)
    values = rng.normal(size=(44, 2)) + 50 * strata[:, None]
    means = bootstrap_means(values, np.arange(44), 40_000, np.random.default_rng(0), strata)
    theory = sum((n / 44) ** 2 * values[strata == k].var(0, ddof=1) / n for k, n in enumerate(sizes) if n > 1)
    np.testing.assert_allclose(means.var(0), theory, rtol=0.04)
    mixed = bootstrap_means(values, np.arange(44), 2000, np.random.default_rng(0))
    assert (mixed.std(0) > 10 * means.std(0)).all()


def test_bootstrap_draws_whole_clusters():
    "Four copies of each item are worth one item, not four."
    rng = np.random.default_rng(2)
    base = rng.normal(size=(50, 2))
    copies, label = np.repeat(base, 4, axis=0), np.repeat(np.arange(50), 4)
    clustered = bootstrap_means(copies, label, 2000, np.random.default_rng(0))
    plain = bootstrap_means(base, np.arange(50), 2000, np.random.default_rng(0))
    np.testing.assert_allclose(clustered, plain, atol=1e-12)
    naive = bootstrap_means(copies, np.arange(200), 2000, np.random.default_rng(0))
    np.testing.assert_allclose(naive.std(0) * 2, plain.std(0), rtol=0.1)


def test_bootstrap_means_of_unequal_clusters_by_a_plain_loop():
    rng = np.random.default_rng(3)
    values, label = rng.normal(size=(9, 2)), np.array(list("aabbbcccc"))
    fast = bootstrap_means(values, label, 20, np.random.default_rng(11))
    chance, groups = np.random.default_rng(11), [values[label == c] for c in "abc"]
    slow = [np.vstack([groups[k] for k in row]).mean(0) for row in chance.integers(3, size=(20, 2))]
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_blocks_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(0).normal(size=(30, 2))
    whole = bootstrap_means(values, np.arange(30), 101, np.random.default_rng(4))
    monkeypatch.setattr("mmpc_analysis.analysis.correlation.ceil", lambda _: 7)
    blocks = bootstrap_means(values, np.arange(30), 101, np.random.default_rng(4))
    np.testing.assert_allclose(whole, blocks, atol=1e-12, rtol=0)


def test_effects_by_the_long_way_round():
    "Every number of one group, recomputed with pandas and scipy only."
    rng = np.random.default_rng(6)
    values = rng.normal(size=(70, 6)) + np.array([0, 0.2, 0.1, 0.05, 0.3, 0.25])
    categories = ["Electronics"] * 40 + ["All_Beauty"] * 30
    effects = scale_effect(make_scores(values, categories=categories), draws=200, seed=3, level=0.9)
    size = np.log10([count for *_, count in MODELS])
    for _category, rows in {
        "all": slice(None),
        "Electronics": slice(40),
        "All_Beauty": slice(40, None),
    }.items():
        part = values[rows]
        for _scope, members in {"pooled": range(6), "A": range(3), "B": range(3, 6)}.items():
            members = list(members)
            one = effects.query("category == @_category and scope == @_scope and term == 'spearman'")
            wanted = stats.spearmanr(size[members], part[:, members].mean(0)).statistic
            np.testing.assert_allclose(one["estimate"], wanted, atol=1e-12)
            chance = np.random.default_rng(3)
            blocks = [part[:30], part[30:]] if len(part) == 70 else [part]  # All_Beauty is drawn first
            total = 0
            for block in [blocks[0]] if len(blocks) == 1 else [values[40:], values[:40]]:
                n = len(block)
                drawn = chance.integers(n, size=(200, n - 1))
                total = total + np.array([block[d].sum(0) for d in drawn]) * n / (n - 1)
            means = total[:, members] / len(part)
            spread = [stats.spearmanr(size[members], m).statistic for m in means]
            gap = np.array(
                [[m[i] - m[j] for i in members for j in members if i < j] for m in part.mean(0)[None]]
            )
            moved = np.array(
                [
                    [m[members.index(i)] - m[members.index(j)] for i in members for j in members if i < j]
                    for m in means
                ]
            )
            t = gap / moved.std(0)
            largest = np.abs((moved - gap) / moved.std(0)).max(1)
            alike = (1 + (largest >= np.abs(t).max()).sum()) / 201
            tail = stats.norm.cdf(stats.t.ppf(0.05, len(part) - len(blocks)))
            wanted = [-1, 1] if alike > 0.1 else np.quantile(spread, [tail, 1 - tail])
            row = one[one["question"] == "these_models"]
            np.testing.assert_allclose(row["p_alike"], alike, atol=1e-12)
            np.testing.assert_allclose(row[["low", "high"]].to_numpy()[0], wanted, atol=1e-12)


def test_effects_do_not_depend_on_row_order_or_on_other_metrics():
    rng = np.random.default_rng(9)
    scores = make_scores(rng.normal(size=(40, 6)))
    other = make_scores(rng.normal(size=(40, 6)), metric="bleu")
    alone = scale_effect(scores, draws=100)
    both = scale_effect(pd.concat([other, scores]).sample(frac=1, random_state=1), draws=100)
    columns = ["estimate", "low", "high", "p_value", "n", "undefined"]
    pd.testing.assert_frame_equal(
        alone[columns], both[both["metric"] == "token_f1"][columns].reset_index(drop=True)
    )


def test_floors_ceiling_and_models_of_unknown_size_are_ignored():
    rng = np.random.default_rng(9)
    scores = make_scores(rng.normal(size=(40, 6)))
    floors = make_scores(rng.normal(size=(40, 2)), [("template", "", np.nan), ("oracle", "", np.nan)])
    floors["role"] = floors["model"].map({"template": "floor", "oracle": "ceiling"})
    floors = pd.concat([floors, scores[scores["model"] == "a3"].assign(role="blind", value=9.0)])
    scores["role"] = "model"
    unknown = make_scores(rng.normal(size=(40, 1)), [("api", "C", np.nan)]).assign(role="model")
    pd.testing.assert_frame_equal(
        scale_effect(scores, draws=50), scale_effect(pd.concat([scores, floors, unknown]), draws=50)
    )


def test_items_without_a_score_for_every_model_are_left_out_and_counted():
    values = np.random.default_rng(9).normal(size=(40, 6))
    holes = values.copy()
    holes[3, 2] = np.nan
    effects = scale_effect(make_scores(holes), draws=50)
    assert set(effects["items"]) == {39} and set(effects["left_out"]) == {1}
    without = scale_effect(make_scores(np.delete(values, 3, axis=0)), draws=50)
    np.testing.assert_allclose(effects["estimate"], without["estimate"])
    absent = make_scores(values).drop(index=17)
    assert set(scale_effect(absent, draws=50)["left_out"]) == {1}


@pytest.mark.parametrize(
    ("values", "models", "estimate"),
    [
        (np.ones((10, 6)), MODELS, "nan"),
        (np.full((10, 6), np.nan), MODELS, "nan"),
        (np.arange(6) + np.zeros((10, 1)), MODELS, "number"),
        (np.arange(1) + np.zeros((10, 1)), MODELS[:1], "nan"),
    ],
    ids=["all tied", "all unknown", "no noise", "one model"],
)
def test_corner_cases_give_nan_and_no_warning(values, models, estimate):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effects = scale_effect(make_scores(values, models), draws=20)
    pooled = effects[effects["scope"] == "pooled"]
    assert pooled["estimate"].isna().all() == (estimate == "nan")
    ranked = effects[effects["term"] != "pearson"]
    assert ranked[ranked["question"] == "scale_in_general"]["low"].isna().all()
    assert effects[effects["question"] == "these_models"]["p_value"].isna().all()
    assert pooled["p_value"].dropna().between(0, 1).all()


def test_one_item_gives_an_order_and_no_interval():
    effects = scale_effect(make_scores(np.arange(6.0)[None]), draws=20).query("question == 'these_models'")
    assert effects["low"].isna().all() and effects["estimate"].notna().all()
    assert set(effects["n"]) == {1} and set(effects["method"]) == {"no interval: nothing to resample"}


def test_questions_units_and_families_of_tests_are_kept_apart():
    scores = make_scores(
        np.random.default_rng(0).normal(size=(30, 6)), categories=["Mugs"] * 15 + ["Hats"] * 15
    )
    effects = scale_effect(scores, draws=50)
    pooled = effects[(effects["scope"] == "pooled") & (effects["category"] == "all")]
    assert {q: {u} for q, u in zip(pooled["question"], pooled["unit"], strict=True)} == {
        "these_models": {"item"},
        "scale_in_general": {"model"},
    }
    assert {q: set(part["n"]) for q, part in pooled.groupby("question")} == {
        "these_models": {30},
        "scale_in_general": {6},
    }
    tests = effects[effects["question"] == "scale_in_general"]
    claim = tests["category"].eq("all") & tests["scope"].isin(["pooled", "within_family"])
    for term in COEFFICIENTS:
        for rows, method in ((tests[claim], "holm"), (tests[~claim], "fdr_bh")):
            part = rows[rows["term"] == term]
            np.testing.assert_allclose(part["p_adjusted"], multipletests(part["p_value"], method=method)[1])
            assert part["correction"].str.startswith("holm" if method == "holm" else "benjamini").all()
    assert effects[effects["question"] == "these_models"]["p_value"].isna().all()


def test_interval_covers_the_order_of_these_models():
    "The true order of the six by expected score: 95% intervals over 150 products hold its rho at least 93% of the time."
    truth = np.array([0.1, 0.3, 0.2, 0.6, 0.5, 0.7])
    size = np.log10([count for *_, count in MODELS])
    target, hits, runs = spearman(size, truth), 0, 300
    rng = np.random.default_rng(12)
    for _ in range(runs):
        values = truth + rng.normal(size=(150, 1)) + 0.6 * rng.normal(size=(150, 6))
        drawn = spearman(size, bootstrap_means(values, np.arange(150), 300, rng))
        low, high = np.quantile(drawn, [0.025, 0.975])
        hits += low - 1e-12 <= target <= high + 1e-12
    assert hits / runs >= 0.93


@pytest.mark.parametrize("models", range(0, 14))
def test_warning_states_the_number_of_models(models):
    text = scale_warning(models)
    assert text.lower().startswith(f"{in_words(models)} model{'s' if models != 1 else ''} ")
    assert ("nothing about other models" in text) == (models > 1)
    assert ("p-value" in text) == (models >= 3)


def test_bad_settings_are_refused():
    scores = make_scores(np.ones((4, 6)))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        scale_effect(scores, draws=0)
    with pytest.raises(ValueError, match="no column 'shop'"):
        scale_effect(scores, cluster="shop")
    with pytest.raises(ValueError, match="one of pearson, spearman, kendall, got 'cosine'"):
        permutation_p(np.arange(3), np.arange(3), "cosine")


def test_scopes_need_families():
    values = np.random.default_rng(0).normal(size=(30, 6))
    one = [(name, "A", count) for name, _, count in MODELS]
    apart = [(name, name, count) for name, _, count in MODELS]
    assert set(scale_effect(make_scores(values), draws=20)["scope"]) == {"pooled", "within_family", "A", "B"}
    assert set(scale_effect(make_scores(values, one), draws=20)["scope"]) == {"pooled", "A"}
    alone = scale_effect(make_scores(values, apart), draws=20)
    assert set(alone["scope"]) == {"pooled", *(name for name, *_ in MODELS)}
    assert alone[alone["scope"] != "pooled"]["estimate"].isna().all()


def test_smallest_p_says_what_three_models_cannot():
    effects = scale_effect(
        make_scores(np.random.default_rng(0).normal(size=(30, 6)) + np.arange(6)), draws=50
    )
    smallest = effects[effects["term"] == "kendall"].groupby("scope")["smallest_p"].first()
    assert smallest.to_dict() == pytest.approx(
        {"A": 2 / 6, "B": 2 / 6, "pooled": 2 / 720, "within_family": 2 / 36}
    )


def test_duplicated_rows_are_refused():
    scores = make_scores(np.ones((4, 6)))
    with pytest.raises(TableError, match="repeats item_id"):
        scale_effect(pd.concat([scores, scores.iloc[[3]]]))


def test_clusters_in_two_categories_or_unknown_are_refused():
    scores = make_scores(np.ones((4, 6)), categories=["Mugs", "Mugs", "Hats", "Hats"])
    with pytest.raises(ValueError, match="'cup' does not lie in exactly one category"):
        scale_effect(scores.assign(concept="cup"), cluster="concept")
    with pytest.raises(ValueError, match="'a missing value' does not lie"):
        scale_effect(scores.assign(shop=scores["item_id"].where(scores.index > 0)), cluster="shop")


def test_listing_groups_are_what_is_drawn_unless_told_otherwise():
    "Four copies of each product in one group: the intervals are those of the products alone, and n counts groups."
    values = np.random.default_rng(20).normal(size=(40, 6)) + np.arange(6) / 8
    alone = make_scores(values)
    copies = make_scores(np.repeat(values, 4, axis=0))
    copies["parent_id"] = "thing-" + (copies["item_id"].str[1:].astype(int) // 4).astype(str).str.zfill(4)
    one, four = (scale_effect(s, draws=200).query("question == 'these_models'") for s in (alone, copies))
    bounds = ["estimate", "low", "high", "p_alike", "n"]
    np.testing.assert_allclose(four[bounds].to_numpy(), one[bounds].to_numpy(), atol=1e-12)
    assert (set(one["unit"]), set(four["unit"]), set(four["items"])) == ({"item"}, {"parent_id"}, {160})
    by_item = scale_effect(copies, draws=200, cluster="item_id").query("question == 'these_models'")
    assert set(by_item["n"]) == {160} and set(by_item["unit"]) == {"item"}


def test_listing_groups_in_two_categories_join_them_in_the_pooled_effects():
    values = np.random.default_rng(21).normal(size=(40, 6)) + np.arange(6) / 2
    scores = make_scores(values, categories=["Mugs"] * 20 + ["Hats"] * 20)
    parents = {f"i{k:04d}": f"g{k % 20:02d}" for k in range(40)}
    effects = scale_effect(scores.assign(parent_id=scores["item_id"].map(parents)), draws=99)
    rows = effects.query("question == 'these_models' and scope == 'pooled'").groupby("category")["n"].first()
    assert rows.to_dict() == {"all": 20, "Mugs": 20, "Hats": 20}


@pytest.mark.parametrize("cluster", ["parent_id", "item_id"])
def test_interval_covers_the_order_where_listings_go_together(cluster):
    "Groups of 1 to 8 listings, alike by 0.8: drawing groups holds Pearson's coefficient, drawing items does not."
    rng, hits, runs = np.random.default_rng(22), 0, 400
    truth = np.array([0.1, 0.2, 0.3, 0.25, 0.4, 0.5])
    size = np.log10([count for *_, count in MODELS])
    target = COEFFICIENTS["pearson"](size, truth)
    for _ in range(runs):
        group = np.repeat(np.arange(40), rng.integers(1, 9, 40))
        values = truth + 0.2 * rng.normal(size=(40, 6))[group] + 0.1 * rng.normal(size=(len(group), 6))
        label = group if cluster == "parent_id" else np.arange(len(group))
        drawn = COEFFICIENTS["pearson"](size, bootstrap_means(values, label, 199, rng))
        estimate = float(COEFFICIENTS["pearson"](size, values.mean(0)))
        low, high = coefficient_bounds(estimate, drawn, 0.95, len(set(label)) - 1)
        hits += low <= target <= high
    assert hits / runs >= 0.92 if cluster == "parent_id" else hits / runs < 0.85


def test_models_that_differ_by_noise_only_get_the_whole_range():
    rng = np.random.default_rng(3)
    level = 0.95
    whole = 0
    for _ in range(200):
        values = rng.normal(size=(40, 1)) + rng.normal(size=(40, 6))
        drawn = bootstrap_means(values, np.arange(40), 199, rng)
        whole += equal_means_p(values.mean(0), drawn, np.zeros(6)) > 1 - level
    assert whole / 200 > 0.90
    far = scale_effect(make_scores(values + np.arange(6)), draws=99).query("question == 'these_models'")
    assert not far["method"].str.startswith("whole").any()
    near = scale_effect(
        make_scores(np.tile(rng.normal(size=(40, 1)), 6) + 1e-3 * rng.normal(size=(40, 6))), draws=99
    )
    pooled = near.query("question == 'these_models' and scope == 'pooled'")
    assert (pooled["method"].str.startswith("whole") == (pooled["p_alike"] > 0.05)).all()
    assert (pooled.loc[pooled["p_alike"] > 0.05, ["low", "high"]] == [-1, 1]).all(axis=None)


@given(st.integers(2, 400))
def test_expanded_percentiles_lie_further_out(dof):
    low, high = expanded(0.95, dof)
    assert 0 < low < 0.025 and low + high == pytest.approx(1)
    assert stats.norm.ppf(low) == pytest.approx(stats.t.ppf(0.025, dof), abs=1e-9)
