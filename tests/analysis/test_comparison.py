"Paired comparisons by the long way round and against statsmodels and R, and the coverage of intervals."

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from comparison_cases import DATA, SEEDS, R, make_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mmpc_analysis.analysis.comparison import (
    RULES,
    _mean_and_error,
    _moments,
    _other_views,
    compare,
    refilled,
    sensitivity,
    sensitivity_sentence,
)
from mmpc_analysis.metrics.cards import METRICS
from mmpc_analysis.tables import EFFECTS, TableError, validate

COVERAGE = json.loads((DATA / "coverage.json").read_text())


def test_clustered_stratified_error_by_a_plain_loop():
    rng = np.random.default_rng(0)
    sizes = {"x": 7, "y": 12, "z": 1}
    d, stratum, cluster = [], [], []
    for name, k in sizes.items():
        for c in range(k):
            m = rng.integers(1, 5)
            d += rng.normal(c % 3, 1, m).tolist()
            stratum += [name] * m
            cluster += [f"{name}{c}"] * m
    d, stratum, cluster = np.array(d), np.array(stratum), np.array(cluster)
    mean, variance = d.mean(), 0.0
    for name in sizes:
        e = np.array([(d[cluster == c] - mean).sum() for c in np.unique(cluster[stratum == name])])
        variance += len(e) * e.var(ddof=1) if len(e) > 1 else 0.0
    parts = [_moments(d[stratum == s][:, None], cluster[stratum == s], 0, rng) for s in sizes]
    found = _mean_and_error(parts)
    assert found[0][0, 0] == pytest.approx(mean, abs=1e-12)
    assert found[1][0, 0] == pytest.approx(np.sqrt(variance) / len(d), abs=1e-12)


def test_error_equals_statsmodels_clustered_by_parent():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(25), rng.integers(1, 6, 25))
    d = rng.normal(size=25)[cluster] + rng.normal(size=len(cluster))
    fit = sm.OLS(d, np.ones(len(d))).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False}
    )
    ours = _mean_and_error([_moments(d[:, None], cluster, 0, rng)])[1][0, 0]
    assert ours == pytest.approx(fit.bse[0] * np.sqrt(25 / 24), rel=1e-10)


def test_every_draw_is_the_mean_and_error_of_the_items_drawn():
    rng = np.random.default_rng(2)
    d, cluster = rng.normal(size=(9, 2)), np.array(list("aabbbcccc"))
    found = _mean_and_error([_moments(d, cluster, 6, np.random.default_rng(5))])
    groups = [d[cluster == c] for c in "abc"]
    for b, row in enumerate(np.random.default_rng(5).integers(3, size=(6, 3)), start=1):
        drawn = [groups[k] for k in row]
        mean = np.vstack(drawn).mean(0)
        e = np.array([(g - mean).sum(0) for g in drawn])
        np.testing.assert_allclose(found[0][b], mean, atol=1e-12)
        wanted = np.sqrt(3 * e.var(0, ddof=1)) / sum(map(len, drawn))
        np.testing.assert_allclose(found[1][b], wanted, atol=1e-7)


def test_table_by_the_long_way_round():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(60, 3)) * [1, 1, 2] + [0, 0.4, 0.2]
    categories = ["Mugs"] * 25 + ["Hats"] * 35
    table = compare(make_scores(values, categories=categories), draws=500)
    validate(table, EFFECTS)
    assert set(table["question"]) == {"these_models"} and set(table["unit"]) == {"item"}
    for category, at in {"all": slice(None), "Mugs": slice(25), "Hats": slice(25, None)}.items():
        part = table[table["category"] == category]
        assert part["term"].tolist() == ["a over b", "a over c", "b over c"]
        for (i, j), (_, row) in zip(combinations(range(3), 2), part.iterrows(), strict=True):
            d = values[at, i] - values[at, j]
            assert row["estimate"] == pytest.approx(d.mean(), abs=1e-12)
            if category != "all":
                assert row["error"] == pytest.approx(stats.sem(d), abs=1e-12)
                assert row["p_value"] == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.06)
            assert row["p_wilcoxon"] == pytest.approx(
                stats.wilcoxon(d, method="exact" if len(d) <= 50 else "asymptotic").pvalue
            )
            assert row["d_z"] == pytest.approx(d.mean() / d.std(ddof=1), abs=1e-12)
            assert row["low"] + row["high"] == pytest.approx(2 * row["estimate"])
            assert row["low_joint"] <= row["low"] <= row["estimate"] <= row["high"] <= row["high_joint"]
            assert row["p_max_t"] >= row["p_value"]
            assert (row["low"] > 0 or row["high"] < 0) == (row["p_value"] <= 0.05)
            assert (row["low_joint"] > 0 or row["high_joint"] < 0) == (row["p_max_t"] <= 0.05)
    claims, screen = table[table["category"] == "all"], table[table["category"] != "all"]
    np.testing.assert_allclose(claims["p_adjusted"], multipletests(claims["p_value"], method="holm")[1])
    np.testing.assert_allclose(screen["p_adjusted"], multipletests(screen["p_value"], method="fdr_bh")[1])


@pytest.mark.parametrize(
    "case", R["wilcoxon"], ids=lambda c: f"{len(c['d'])} {'exact' if c['exact'] else 'ties'}"
)
def test_signed_ranks_equal_r(case):
    assert _other_views(np.array(case["d"]))[0] == pytest.approx(case["p_value"], abs=1e-9)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_row_order_labels_and_other_categories_change_nothing(seed):
    rng = np.random.default_rng(seed)
    scores = make_scores(rng.normal(size=(24, 3)), categories=["Mugs", "Hats"] * 12)
    one = compare(scores, draws=100)
    pd.testing.assert_frame_equal(one, compare(scores.sample(frac=1, random_state=seed), draws=100))
    mugs = compare(scores[scores["category"] == "Mugs"], draws=100).query("category == 'Mugs'")
    same = ["estimate", "low", "high", "p_value", "p_max_t", "p_wilcoxon"]
    pd.testing.assert_frame_equal(
        mugs[same].reset_index(drop=True), one.query("category == 'Mugs'")[same].reset_index(drop=True)
    )
    swapped = compare(scores.assign(model=scores["model"].map({"a": "z", "b": "b", "c": "c"})), draws=100)
    there = one.set_index(["category", "model", "other"])["estimate"]
    for _, row in swapped.iterrows():
        first, second = (m.replace("z", "a") for m in (row["model"], row["other"]))
        wanted = there.get(
            (row["category"], first, second), -there.get((row["category"], second, first), np.nan)
        )
        assert row["estimate"] == pytest.approx(wanted, abs=1e-12)


@given(SEEDS, st.floats(0.1, 50), st.floats(-5, 5))
@settings(max_examples=20, deadline=None)
def test_affine_changes_scale_the_difference_and_leave_the_tests(seed, factor, shift):
    values = np.random.default_rng(seed).normal(size=(20, 3))
    one, two = compare(make_scores(values), draws=99), compare(make_scores(values * factor + shift), draws=99)
    for name in ("estimate", "low", "high", "low_joint", "error"):
        np.testing.assert_allclose(two[name], one[name] * factor, rtol=1e-6, atol=1e-9 * factor)
    for name in ("p_value", "p_max_t", "d_z"):
        np.testing.assert_allclose(two[name], one[name], atol=1e-6)


def test_lower_is_better_turns_the_sign():
    values = np.random.default_rng(0).uniform(size=(30, 2))
    up = compare(make_scores(values), draws=99)
    down = compare(make_scores(values, metric="mse", task="text_to_image"), draws=99)
    np.testing.assert_allclose(down["estimate"], -up["estimate"], atol=1e-12)


def test_clusters_widen_the_interval_where_listings_go_together():
    rng = np.random.default_rng(0)
    copies = np.repeat(rng.normal(size=(40, 2)), 4, axis=0)
    scores = make_scores(copies).assign(parent_id=np.repeat(np.arange(160) // 4, 2).astype(str))
    naive, whole = compare(scores, cluster="item_id").iloc[-1], compare(scores).iloc[-1]
    assert whole["error"] == pytest.approx(2 * naive["error"], rel=0.03)
    assert (naive["n"], whole["n"], whole["items"], whole["unit"]) == (160, 40, 160, "parent_id")


@pytest.mark.parametrize(
    ("values", "p_value", "bounded"),
    [
        (np.full((20, 2), 0.5), 1.0, True),
        (np.full((20, 2), 0.5) + np.array([0.25, 0]), 2 / 2**20, True),
        (np.vstack([np.full((14, 2), 0.5), [[0.6, 0.5]] * 5 + [[0.5, 0.6]]]), 14 / 64, True),
        (np.random.default_rng(0).random((1, 2)), 1.0, False),
        (np.random.default_rng(0).random((6, 2)) + np.array([1, 0]), 2 / 64, True),
        (np.full((6, 2), 0.5), 1.0, False),
    ],
    ids=[
        "identical",
        "constant difference",
        "six items differ",
        "one item",
        "six items",
        "six identical items",
    ],
)
def test_near_ties_are_judged_exactly(values, p_value, bounded):
    with np.errstate(all="raise"):
        table = compare(make_scores(values), draws=50)
    row = table.query("category == 'all'").iloc[0]
    # Beyond twelve differing items 4,095 subsets and the empty one stand for all
    assert row["p_value"] == pytest.approx(p_value, abs=1e-3) and row["p_max_t"] == row["p_value"]
    assert row["degenerate"] and np.isnan(row["critical"]) and row["method"].startswith("exact sign flips")
    assert np.isfinite(row["low"]) == bounded and (
        not bounded or row["low"] <= row["estimate"] <= row["high"]
    )


def test_scores_that_are_unknown_everywhere_give_no_row():
    table = compare(make_scores(np.full((20, 2), np.nan)), draws=50)
    assert table.empty and list(table) == EFFECTS.names


def void(kind, rng, items=201):
    "Three models of which the last two are nearly tied, in three ways that once made the joint intervals useless."
    values = rng.normal(0.5, 0.05, (items, 2))
    last = values[:, 1].copy()
    if kind == "few":
        last[:8] += rng.normal(0, 0.01, 8) * np.geomspace(1, 1e-3, 8)
    if kind == "one wild":
        last[:31] += 1e-4 * rng.normal(size=31)
        last[0] += 0.4
    if kind == "three":
        last[:3] += 0.1
    return np.column_stack([values, last])


@pytest.mark.parametrize("kind", ["few", "one wild", "three"])
def test_a_near_tie_does_not_make_the_joint_intervals_void(kind):
    values = void(kind, np.random.default_rng(0))
    table = compare(make_scores(values)).query("category == 'all'").set_index("term")
    alone = compare(make_scores(values[:, :2])).query("category == 'all'").iloc[0]
    assert table["degenerate"].tolist() == [False, False, True]
    assert 1.9 < table["critical"].iloc[0] < 2.9 and table["critical"].nunique() == 1
    width = table.loc["a over b", "high_joint"] - table.loc["a over b", "low_joint"]
    assert width == pytest.approx(alone["high_joint"] - alone["low_joint"], rel=0.3)
    assert "of 201 groups differ" in table.loc["b over c", "method"]


def test_level_is_shared_between_regular_pairs_and_those_near_ties_that_could_be_claimed():
    rng = np.random.default_rng(1)
    values = rng.normal(0.5, 0.05, (60, 3))
    values[:, 2] = values[:, 1] + 0.1 * (np.arange(60) < 6)  # All six in favour of c: p = 2 / 64
    row = compare(make_scores(values)).query("category == 'all'").set_index("term").loc["b over c"]
    assert row["p_value"] == pytest.approx(2 / 64) and row["p_max_t"] == pytest.approx(3 * 2 / 64)
    values[4:, 2] = values[4:, 1]  # Four could never reach 5%
    row = compare(make_scores(values)).query("category == 'all'").set_index("term").loc["b over c"]
    assert row["p_value"] == row["p_max_t"] / 2 == 2 / 16  # Two regular pairs are left to correct for


def test_every_pair_stands_on_its_own_items():
    values = np.random.default_rng(0).normal(size=(40, 3))
    holes = values.copy()
    holes[5, 1] = np.nan
    table = compare(make_scores(holes), draws=50).query("category == 'all'").set_index("term")
    assert table["items"].to_dict() == {"a over b": 39, "a over c": 40, "b over c": 39}
    assert table["left_out"].tolist() == [1, 0, 1] and not table["common"].any()
    whole = compare(make_scores(values), draws=50).query("category == 'all'").set_index("term")
    less = (
        compare(make_scores(np.delete(values, 5, 0)), draws=50).query("category == 'all'").set_index("term")
    )
    assert whole["common"].all()
    for term, same in (("a over c", whole), ("a over b", less), ("b over c", less)):
        for name in ("estimate", "error"):
            assert table.loc[term, name] == pytest.approx(same.loc[term, name], abs=1e-12)
    assert table.loc["a over c", "low"] == whole.loc["a over c", "low"]
    scores = make_scores(values)
    with pytest.raises(TableError, match="repeats item_id"):
        compare(pd.concat([scores, scores.iloc[[0]]]))


def test_a_fifth_missing_at_random_costs_each_pair_a_third_and_not_two_thirds():
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.2, (60, 1)) + rng.normal(0, 0.05, (60, 5))
    missing = np.where(rng.random((60, 5)) < 0.2, np.nan, values)
    table = compare(make_scores(missing), draws=400).query("category == 'all'")
    both = [int((~np.isnan(missing[:, [i, j]])).all(1).sum()) for i, j in combinations(range(5), 2)]
    assert table["items"].tolist() == both  # Every item that a pair has, none less
    assert (~np.isnan(missing)).all(1).sum() < 30 < table["items"].min()
    assert 2.4 < table["critical"].iloc[0] < 3.6


def test_bootstrap_of_pairs_with_other_items_by_a_plain_loop():
    rng = np.random.default_rng(3)
    gaps = rng.normal(size=(12, 2))
    gaps[[1, 4, 5], 0], gaps[[0, 8], 1] = np.nan, np.nan
    clusters = np.repeat(np.arange(6), 2)
    mean, error = _mean_and_error([_moments(gaps, clusters, 5, np.random.default_rng(5))])
    weights = [
        np.ones(6, int),
        *(np.bincount(row, minlength=6) for row in np.random.default_rng(5).integers(6, size=(5, 6))),
    ]
    for b, weight in enumerate(weights):
        for j in range(2):
            drawn = [gaps[2 * k : 2 * k + 2, j] for k in range(6) for _ in range(weight[k])]
            drawn = [part[~np.isnan(part)] for part in drawn]
            drawn = [part for part in drawn if len(part)]
            at = np.concatenate(drawn).mean()
            e = np.array([(part - at).sum() for part in drawn])
            assert mean[b, j] == pytest.approx(at, abs=1e-12)
            wanted = np.sqrt(len(e) * e.var(ddof=1)) / sum(map(len, drawn)) if len(e) > 1 else 0
            assert error[b, j] == pytest.approx(wanted, abs=1e-9)


def half_lost(seed=1, items=60):
    "Two equally good models; the engine of b lost the hard half."
    rng = np.random.default_rng(seed)
    hard = np.where(np.arange(items) < items // 2, 0.9, 0.1)[:, None] + rng.normal(0, 0.02, (items, 2))
    scores = make_scores(hard)
    lost = (scores["model"] == "b") & (scores["item_id"] >= f"i{items // 2:04d}")
    scores.loc[lost, ["value", "outcome"]] = [np.nan, "engine_error"]
    return scores


@pytest.mark.parametrize("value", [np.nan, 0.0, 1.0])
def test_what_an_engine_lost_helps_nobody(value):
    scores = half_lost()
    lost = scores["outcome"] == "engine_error"
    own = scores.groupby("model")["value"].mean()
    assert own["b"] > own["a"] + 0.3  # What a mean over what there is would say
    row = compare(scores.assign(value=scores["value"].mask(lost, value))).query("category == 'all'").iloc[0]
    assert row["low"] < 0 < row["high"] and abs(row["estimate"]) < 0.02
    assert (row["items"], row["left_out"], row["apart"]) == (30, 30, True)
    assert not compare(make_scores(np.random.default_rng(0).random((30, 2))))["apart"].any()


def test_pairs_that_differ_in_prompt_or_precision_are_marked():
    values = np.random.default_rng(0).random((40, 3))
    scores = make_scores(values).assign(role="model", prompt="full", precision="float32")
    scores.loc[scores["model"] == "b", "prompt"] = "short"
    scores.loc[scores["model"] == "c", "precision"] = "nf4"
    table = compare(scores, draws=50).query(
        "category == 'all'"
    )  # Named with their prompts, of which there are two
    table.index = table["model"].str[0] + " over " + table["other"].str[0]
    assert table["same_prompt"].to_dict() == {"a over b": False, "a over c": True, "b over c": False}
    assert table["same_precision"].to_dict() == {"a over b": True, "a over c": False, "b over c": False}
    one = pd.concat([scores[scores["model"] == "a"], scores[scores["model"] == "b"].assign(model="a")])
    row = compare(one, draws=50).iloc[-1]
    assert (row["model"], row["other"], row["same_prompt"]) == ("a full", "a short", False)
    floor = make_scores(values[:, :1], "t").assign(role="floor", family="", prompt="", precision="")
    against = compare(pd.concat([scores, floor]), "t", draws=50)
    assert against["same_prompt"].all() and against["same_precision"].all()


def test_against_one_and_against_the_best():
    rng = np.random.default_rng(0)
    scores = make_scores(rng.normal(size=(50, 4)) + np.array([0, 2, 1, 0.5]))
    best = compare(scores, "best").query("category == 'all'")
    every = compare(scores).query("category == 'all'").set_index("term")
    assert best["term"].tolist() == ["b over c", "b over d", "b over a"] and (best["estimate"] > 0).all()
    turned = every.loc["a over b"]
    row = best.set_index("term").loc["b over a"]
    assert row["estimate"] == -turned["estimate"] and row["low_joint"] == -turned["high_joint"]
    assert row["p_max_t"] == turned["p_max_t"] and row["p_adjusted"] == turned["p_adjusted"]
    assert best["method"].str.endswith("best chosen by looking").all()
    named = compare(scores, "c").query("category == 'all'")
    assert named["term"].tolist() == ["a over c", "b over c", "d over c"]
    about = {"role": "floor", "family": "", "parameters": np.nan}
    floor = pd.concat([scores.assign(role="model"), make_scores(np.zeros((50, 1)), "t").assign(**about)])
    assert set(compare(floor, "t")["other"]) == {"t"} and "t" not in set(compare(floor)["other"])


def failing(metric="chrf", task="image_to_text"):
    "Two models, a fails on the first eight items, b on the last two; one of a's answers an engine ate."
    rng = np.random.default_rng(0)
    scores = make_scores(rng.uniform(0.4, 0.6, (30, 2)), metric=metric, task=task)
    a, item = scores["model"] == "a", scores["item_id"]
    bad = (a & (item < "i0008")) | (~a & (item > "i0027"))
    scores.loc[bad, ["value", "outcome"]] = [METRICS[metric].failure, "invalid"]
    scores.loc[a & (item == "i0010"), ["value", "outcome"]] = [np.nan, "engine_error"]
    return scores


@pytest.mark.parametrize(("metric", "task"), [("chrf", "image_to_text"), ("mse", "text_to_image")])
def test_rules_for_failures_by_hand(metric, task):
    scores = failing(metric, task)
    rows = sensitivity(scores, "a", "b", draws=100).query("category == 'all'").set_index("rule")
    wide = scores.pivot(index="item_id", columns="model", values="value")
    bad = scores.assign(bad=~scores["outcome"].isin(["ok", "repaired"])).pivot(
        index="item_id", columns="model", values="bad"
    )
    sign, card = (1, METRICS[metric]) if metric == "chrf" else (-1, METRICS[metric])
    best, worst = (card.high, card.low) if sign > 0 else (card.low, card.high)
    cases = {
        "failure value": wide.dropna(),
        "dropped": wide[~bad.any(axis=1)],
        "against": wide.mask(bad & [True, False], worst).mask(bad & [False, True], best),
        "favour": wide.mask(bad & [True, False], best).mask(bad & [False, True], worst),
    }
    assert list(cases) == list(RULES)
    for rule, table in cases.items():
        assert rows.loc[rule, "estimate"] == pytest.approx(sign * (table["a"] - table["b"]).mean(), abs=1e-12)
        assert rows.loc[rule, "items"] == len(table)
    assert (
        rows.loc["against", "estimate"]
        <= rows.loc["failure value", "estimate"]
        <= rows.loc["favour", "estimate"]
    )


def test_refilling_changes_a_copy_only():
    scores = failing()
    before = scores.copy()
    refilled(scores, {"a": "best"})
    pd.testing.assert_frame_equal(scores, before)
    pd.testing.assert_frame_equal(refilled(scores, {}), before)


@pytest.mark.parametrize(
    ("lows", "highs", "said"),
    [
        ([1, 1, 1, 1], [2, 2, 2, 2], "a is better than b under all 4 rules"),
        ([-2, -2, -2, -2], [-1, -1, -1, -1], "a is worse than b under all 4 rules"),
        ([-1, -1, -1, -1], [1, 1, 1, 1], "a is not clearly different from b under all 4 rules"),
        ([np.nan] * 4, [np.nan] * 4, "a cannot be compared with b under all 4 rules"),
        (
            [1, 1, -2, 1],
            [2, 2, -1, 2],
            "depends on the rule for failed completions: better under failure value, dropped, favour; worse under against.",
        ),
        ([1, -1, np.nan, 1], [2, 1, np.nan, 2], "not clearly different under dropped; unknown under against"),
    ],
)
def test_sentence_about_failures_says_what_the_rows_say(lows, highs, said):
    rows = pd.DataFrame({"rule": list(RULES), "model": "a", "other": "b", "low": lows, "high": highs})
    text = sensitivity_sentence(rows)
    assert said in text
    if "depends" not in text:
        assert text.count("under") == 1
    with pytest.raises(ValueError, match="one row per rule"):
        sensitivity_sentence(pd.concat([rows, rows]))


def off(share, promised):
    "Whether a simulated share lies above the promise by more than chance."
    return share > promised + 3 * np.sqrt(promised * (1 - promised) / COVERAGE["studies"])


def test_intervals_cover_what_they_promise():
    assert COVERAGE["studies"] >= 2000
    for name, share in COVERAGE["models_as_units"].items():
        if name.startswith("exact interval"):
            assert 0.93 <= share <= 0.97, name
    for design, shares in COVERAGE["differences"].items():
        # Fifteen pairs on a few items are covered a little too well, which costs power and no truth;
        # so are models that hardly ever differ, whose bounds hold for every distribution.
        tied = shares["near ties"] > 0.1
        assert 0.93 <= shares["interval of one pair"] <= (1 if tied else 0.97), design
        assert 0.93 <= shares["joint intervals of fifteen pairs"] <= (1 if tied else 0.985), design


def test_critical_values_of_fifteen_pairs_are_never_void():
    for design, shares in COVERAGE["differences"].items():
        least, median, most = (shares["critical value"][place] for place in ("least", "median", "most"))
        assert least > 1.9 and 2.4 < median < 4, design
        # Models that differ on 3% leave pairs just short of a near tie: intervals too wide, not yet mended
        outside = design == "200 items, models differ on 3%"
        assert (most < (6 if design == "14 items" else 5)) != outside, design
        few = outside or design == "14 items"  # Few items ask for more
        assert shares["critical value from 2.5 to 4"] >= (0.65 if few else 0.97), design
    assert COVERAGE["differences"]["60 items, a fifth missing"]["items of a pair"] > 0.6


def test_correlation_intervals_over_items_cover_at_least_what_they_promise():
    for design, shares in COVERAGE["correlations"].items():
        for name, share in shares.items():
            if "without the rule" not in name:
                assert share >= 0.93, (design, name)
                if name.startswith("pearson") and design.startswith("apart"):
                    assert share <= 0.97, (design, name)
    assert min(COVERAGE["concordances"].values()) >= 0.93


def test_without_the_rule_for_models_that_cannot_be_told_apart_intervals_fail():
    assert (
        COVERAGE["correlations"]["near, 30"]["pearson, without the rule for models that cannot be told apart"]
        < 0.91
    )


def test_tests_keep_their_level():
    for name, share in COVERAGE["models_as_units"].items():
        assert name.startswith("exact interval") or not off(share, 0.05), name
    for name, share in COVERAGE["margins"].items():
        assert share <= 0.07, name
    for design, shares in COVERAGE["differences"].items():
        for name in ("a false claim by max-T", "a false claim by Holm", "signed-rank test at 5%"):
            if not (name.startswith("signed") and "lopsided" in design):
                assert shares[name] <= 0.07, (design, name)
        assert shares["a false claim uncorrected"] > (0.02 if shares["near ties"] > 0.2 else 0.2), design


def test_items_as_the_only_unit_fail_the_question_about_scale():
    shares = COVERAGE["wrong_question"]
    assert not off(shares["models' own sd 0"]["items as the only unit"], 0.05)
    assert shares["models' own sd 0.02"]["items as the only unit"] > 0.6
    for design in shares.values():
        assert not off(design["models as the unit"], 0.05)
