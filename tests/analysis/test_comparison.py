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
    naive, whole = compare(scores).iloc[-1], compare(scores, cluster="parent_id").iloc[-1]
    assert whole["error"] == pytest.approx(2 * naive["error"], rel=0.03)
    assert (naive["n"], whole["n"], whole["items"], whole["unit"]) == (160, 40, 160, "parent_id")


@pytest.mark.parametrize(
    "values",
    [
        np.ones((20, 2)),
        np.arange(20)[:, None] + np.array([0, 1.0]),
        np.full((20, 2), np.nan),
        np.vstack([np.ones((14, 2)), np.random.default_rng(0).normal(size=(6, 2))]),
        np.random.default_rng(0).normal(size=(1, 2)),
        np.random.default_rng(0).normal(size=(6, 2)),
    ],
    ids=["constant", "constant difference", "unknown", "six items differ", "one item", "six items"],
)
def test_no_interval_where_too_few_items_differ(values):
    with np.errstate(all="raise"):
        table = compare(make_scores(values), draws=50)
    if np.isnan(values).all():
        assert table.empty and list(table) == EFFECTS.names
        return
    assert table[["low", "high", "p_value", "p_max_t", "p_adjusted"]].isna().all(axis=None)
    assert (
        len(table) and table["method"].str.startswith("no interval").all() and table["estimate"].notna().all()
    )


def test_one_bad_pair_does_not_spoil_the_joint_interval():
    values = np.random.default_rng(0).normal(size=(40, 2))
    three = np.column_stack([values, values[:, 1] + (np.arange(40) == 3)])
    table = compare(make_scores(three)).query("category == 'all'").set_index("term")
    assert (
        np.isnan(table.loc["b over c", "low"])
        and np.isfinite(table.loc["a over b", ["low", "low_joint"]].astype(float)).all()
    )


def test_incomplete_items_are_left_out_for_every_model_and_counted():
    values = np.random.default_rng(0).normal(size=(40, 3))
    holes = values.copy()
    holes[5, 1] = np.nan
    table = compare(make_scores(holes), draws=50)
    assert set(table["items"]) == {39} and set(table["left_out"]) == {1}
    np.testing.assert_allclose(
        table["estimate"], compare(make_scores(np.delete(values, 5, 0)), draws=50)["estimate"]
    )
    scores = make_scores(values)
    with pytest.raises(TableError, match="repeats item_id"):
        compare(pd.concat([scores, scores.iloc[[0]]]))


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
        assert 0.93 <= shares["interval of one pair"] <= 0.97, design
        # Fifteen pairs on a few items are covered a little too well, which costs power and no truth.
        assert 0.93 <= shares["joint intervals of fifteen pairs"] <= 0.985, design


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
        assert shares["a false claim uncorrected"] > 0.2, design


def test_items_as_the_only_unit_fail_the_question_about_scale():
    shares = COVERAGE["wrong_question"]
    assert not off(shares["models' own sd 0"]["items as the only unit"], 0.05)
    assert shares["models' own sd 0.02"]["items as the only unit"] > 0.6
    for design in shares.values():
        assert not off(design["models as the unit"], 0.05)
