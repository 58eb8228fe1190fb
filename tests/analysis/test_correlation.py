"Rank correlations against scipy, permutation p-values against scipy and published tables, and intervals by simulation."

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mmpc_analysis.analysis.association import (
    COEFFICIENTS,
    correlation_interval,
    correlation_tail,
    kendall,
    orders,
    pearson,
    permutation_test,
    ranks,
    spearman,
)
from mmpc_analysis.analysis.correlation import bootstrap_means, equal_means_p, expanded, scale_effect
from mmpc_analysis.analysis.multiplicity import adjust_p_values, benjamini_hochberg, holm, max_t
from mmpc_analysis.analysis.stability import concordance, rank_agreement, rank_stability
from mmpc_analysis.report.scale import scale_warning
from mmpc_analysis.report.wording import in_words
from mmpc_analysis.tables import SCORES, TableError

DATA = ROOT / "tests" / "data" / "analysis"
CASES = json.loads((DATA / "correlation/published.json").read_text())["cases"]
R = json.loads((DATA / "correlation/r.json").read_text())
MODELS = [
    ("a1", "A", 1e9),
    ("a2", "A", 4e9),
    ("a3", "A", 16e9),
    ("b1", "B", 2e9),
    ("b2", "B", 8e9),
    ("b3", "B", 32e9),
]


def make_scores(values, models=MODELS, metric="token_f1", categories=None, task="image_to_text"):
    "A scores table from an (items, models) array."
    values = np.asarray(values, dtype=float)
    categories = categories or ["Electronics"] * len(values)
    rows = [
        (f"i{i:04d}", categories[i], task, name, family, count, metric, "word", values[i, j], "ok")
        for i in range(len(values))
        for j, (name, family, count) in enumerate(models)
    ]
    columns = SCORES.names
    return pd.DataFrame(rows, columns=columns)


def permutation_p(x, y, coefficient="spearman"):
    return permutation_test(x, y, coefficient).p_value


def draw(rng, n, ties):
    "n numbers, with ties or without."
    return rng.integers(0, 4, n).astype(float) if ties else rng.normal(size=n)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [3, 6, 11])
def test_coefficients_equal_scipy(n, ties):
    rng = np.random.default_rng(n)
    for _ in range(100):
        x, y = draw(rng, n, ties), draw(rng, n, ties)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = stats.spearmanr(x, y).statistic, stats.kendalltau(x, y, variant="b").statistic
            straight = stats.pearsonr(x, y).statistic
        np.testing.assert_allclose([spearman(x, y), kendall(x, y)], wanted, atol=1e-12, rtol=0)
        np.testing.assert_allclose(pearson(x, y), straight, atol=1e-12, rtol=0)
        np.testing.assert_array_equal(ranks(y), stats.rankdata(y))


@pytest.mark.parametrize("measure", [spearman, kendall, pearson])
def test_one_call_for_many_draws_equals_many_calls(measure):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=6), rng.integers(0, 5, (3, 40, 6)).astype(float)
    y[0, 0] = 1.0
    y[1, 1, 2] = np.nan
    together = measure(x, y)
    one_by_one = np.array([[measure(x, row) for row in block] for block in y])
    np.testing.assert_allclose(together, one_by_one, atol=1e-12)
    assert together.shape == (3, 40) and np.isnan(together[0, 0]) and np.isnan(together[1, 1])


@pytest.mark.parametrize("measure", [spearman, kendall, pearson])
def test_coefficients_keep_their_symmetries(measure):
    rng = np.random.default_rng(5)
    for _ in range(50):
        x, y = rng.uniform(1, 9, 6), rng.integers(0, 5, 6).astype(float)
        if len(set(y)) == 1:
            continue
        value = measure(x, y)
        order = rng.permutation(6)
        assert measure(x[order], y[order]) == pytest.approx(value, abs=1e-12)
        assert measure(2 * x - 5, 3 * y + 7) == pytest.approx(value, abs=1e-12)
        if measure is not pearson:
            assert measure(np.log10(x), np.exp(y)) == pytest.approx(value, abs=1e-12)
        assert measure(x, -y) == pytest.approx(-value, abs=1e-12)
        assert measure(y, x) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_worked_examples_of_others(case):
    x, y = np.array(case["x"], float), np.array(case["y"], float)
    if "spearman" in case:
        assert spearman(x, y) == pytest.approx(case["spearman"], abs=case.get("tolerance", 1e-12))
    if "kendall" in case:
        assert kendall(x, y) == pytest.approx(case["kendall"], abs=case.get("tolerance", 1e-12))
    if "p_spearman" in case:
        assert permutation_p(x, y, "spearman") == pytest.approx(case["p_spearman"], abs=1e-12)
    if "p_kendall" in case:
        assert permutation_p(x, y, "kendall") == pytest.approx(case["p_kendall"], abs=1e-12)


def test_exact_p_of_kendall_equals_scipys_exact_method():
    rng = np.random.default_rng(3)
    for n in (4, 6, 7):
        for _ in range(10):
            x, y = rng.normal(size=n), rng.normal(size=n)
            wanted = stats.kendalltau(x, y, method="exact").pvalue
            assert permutation_p(x, y, "kendall") == pytest.approx(wanted, abs=1e-12)


def test_exact_p_of_spearman_equals_scipys_permutation_test():
    rng = np.random.default_rng(4)
    for ties in (False, True):
        x, y = rng.normal(size=6), draw(rng, 6, ties)
        result = stats.permutation_test(
            (y,),
            lambda v, x=x: stats.spearmanr(x, v).statistic,
            permutation_type="pairings",
            n_resamples=np.inf,
            alternative="two-sided",
        )
        observed = abs(result.statistic)
        wanted = (np.abs(result.null_distribution) >= observed - 1e-12).mean()
        assert len(result.null_distribution) == 720
        assert permutation_p(x, y) == pytest.approx(wanted, abs=1e-12)


def test_random_orders_stand_in_for_all_of_them():
    listed = orders((0,) * 9)
    assert listed.shape == (10_000, 9) and (listed[0] == np.arange(9)).all()
    assert (np.sort(listed, axis=1) == np.arange(9)).all()
    x, y = np.arange(9.0), np.array([2, 1, 4, 3, 6, 5, 8, 7, 9.0])
    wanted = stats.kendalltau(x, y, method="exact").pvalue
    assert permutation_p(x, y, "kendall") == pytest.approx(wanted, abs=2e-3)
    assert permutation_p(np.arange(12), np.arange(12)) == 1 / 10_000


def test_permutation_test_keeps_its_level():
    rng = np.random.default_rng(8)
    p = np.array([permutation_p(np.arange(6), rng.normal(size=6)) for _ in range(2000)])
    assert (p <= 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.05)


def test_holm_equals_statsmodels():
    rng = np.random.default_rng(1)
    p = rng.uniform(0, 0.2, 25)
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12, rtol=0)
    gap = np.insert(p, 4, np.nan)
    np.testing.assert_allclose(np.delete(holm(gap), 4), holm(p))
    assert np.isnan(holm(gap)[4]) and len(holm([])) == 0


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
    floors = make_scores(
        rng.normal(size=(40, 2)), [("template", "floor", np.nan), ("oracle", "ceiling", np.nan)]
    )
    unknown = make_scores(rng.normal(size=(40, 1)), [("api", "C", np.nan)])
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
    assert "nothing about other models" in text
    assert ("p-value" in text) == (models >= 3)


def test_bad_settings_are_refused():
    scores = make_scores(np.ones((4, 6)))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        scale_effect(scores, draws=0)
    with pytest.raises(ValueError, match="no column 'parent_id'"):
        scale_effect(scores, cluster="parent_id")
    with pytest.raises(ValueError, match="one of pearson, spearman, kendall, got 'cosine'"):
        permutation_p(np.arange(3), np.arange(3), "cosine")


# ---------------------------------------------------------------- against R, and what cannot be


@pytest.mark.parametrize("case", R["cor_test"], ids=lambda c: f"n{len(c['x'])}")
def test_coefficients_and_exact_p_values_equal_r(case):
    x, y = np.array(case["x"]), np.array(case["y"])
    for term in COEFFICIENTS:
        assert permutation_test(x, y, term).estimate == pytest.approx(case[term], abs=1e-12)
    assert permutation_p(x, y, "kendall") == pytest.approx(case["p_kendall"], abs=1e-9)
    assert permutation_p(x, y, "spearman") == pytest.approx(case["p_spearman"], abs=1e-9)


@pytest.mark.parametrize("case", R["partial"], ids=range(len(R["partial"])))
def test_partial_coefficients_equal_those_of_residuals_in_r(case):
    x, y, family = np.array(case["x"]), np.array(case["y"]), np.array(R["families"])
    for term, measure in COEFFICIENTS.items():
        assert measure(x, y, family) == pytest.approx(case[term], abs=1e-12)
        shifted = y + np.where(family == "a", 100.0, 0.0)
        if term != "spearman":  # ranks among all models change when a family is lifted
            assert measure(x, shifted, family) == pytest.approx(case[term], abs=1e-10)


@pytest.mark.parametrize("case", R["normal"], ids=lambda c: f"n{c['n']} rho{c['rho']} r{c['r']}")
def test_distribution_of_r_equals_hotellings_density_at_thirty_digits(case):
    found = correlation_tail(np.arctanh(case["rho"]), np.arctanh(case["r"]), case["n"])
    assert found == pytest.approx(case["above"], abs=1e-11)


@pytest.mark.parametrize("n", [3, 4, 6, 30, 300])
@pytest.mark.parametrize("r", [-0.95, -0.2, 0.0, 0.5, 0.999])
def test_bounds_are_where_the_tails_are(n, r):
    low, high = correlation_interval(r, n, 0.9)
    assert correlation_tail(np.arctanh(low), np.arctanh(r), n) == pytest.approx(0.05, abs=1e-9)
    assert correlation_tail(np.arctanh(high), np.arctanh(r), n) == pytest.approx(0.95, abs=1e-9)
    assert low < r < high and correlation_interval(-r, n, 0.9) == pytest.approx((-high, -low), abs=1e-9)


def test_interval_leaves_out_zero_exactly_when_the_t_test_rejects():
    for n in (4, 6, 15):
        for r in np.linspace(0.05, 0.99, 20):
            p = 2 * stats.t.sf(r * np.sqrt((n - 2) / (1 - r**2)), n - 2)
            assert (correlation_interval(r, n)[0] > 0) == (p < 0.05)


def test_no_interval_where_none_can_be_given():
    for r, n in ((0.5, 2), (1.0, 6), (-1.0, 6), (np.nan, 6)):
        assert np.isnan(correlation_interval(r, n)).all()


# ---------------------------------------------------------------- designs


@given(arrays(float, 6, elements=st.integers(-4, 4)), st.permutations(range(6)))
@settings(max_examples=60, deadline=None)
def test_relabelling_models_changes_nothing(y, order):
    x, family, order = np.array([1.0, 2, 4, 1.5, 3, 6]), np.array(list("aaabbb")), list(order)
    for term in COEFFICIENTS:
        for within in (None, family):
            one = permutation_test(x, y, term, within)
            two = permutation_test(x[order], y[order], term, None if within is None else within[order])
            np.testing.assert_allclose([one.estimate, one.p_value], [two.estimate, two.p_value], atol=1e-12)
            assert one.orders == two.orders == (720 if within is None else 36)
            assert np.isnan(one.p_value) or one.smallest <= one.p_value <= 1


def test_within_family_orders_move_nobody_to_another_family():
    family = (0, 1, 1, 0, 2, 1)
    listed = orders(family)
    assert (
        len(listed) == 2 * 6 and (listed[0] == np.arange(6)).all() and len({tuple(o) for o in listed}) == 12
    )
    assert (np.array(family)[listed] == np.array(family)).all()
    large = orders((0,) * 7 + (1,) * 6)
    assert (
        len(large) == 10_000 and (np.array((0,) * 7 + (1,) * 6)[large] == np.array((0,) * 7 + (1,) * 6)).all()
    )


def test_within_family_test_keeps_its_level_where_families_differ():
    "A family effect of any size is no evidence of scale within families, but fools the pooled test's estimate."
    rng, family = np.random.default_rng(0), np.array(list("aaabbb"))
    x = np.array([1.0, 2, 3, 4, 5, 6])
    p = [
        permutation_test(x, rng.normal(size=6) + 9 * (family == "b"), "pearson", family).p_value
        for _ in range(1000)
    ]
    assert (np.array(p) <= 0.06).mean() < 0.06 + 3 * np.sqrt(0.06 * 0.94 / 1000)
    assert (np.array(p) <= 0.5).mean() == pytest.approx(0.5, abs=0.05)


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
        scale_effect(scores.assign(parent_id="cup"), cluster="parent_id")
    with pytest.raises(ValueError, match="'a missing value' does not lie"):
        scale_effect(scores.assign(parent_id=scores["item_id"].where(scores.index > 0)), cluster="parent_id")


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


# ---------------------------------------------------------------- order of the models


def test_concordance_equals_friedmans_statistic_with_and_without_ties():
    rng = np.random.default_rng(0)
    for ties in (False, True):
        for m, k in ((2, 3), (9, 6), (5, 4)):
            values = rng.integers(0, 4, (m, k)).astype(float) if ties else rng.normal(size=(m, k))
            wanted = stats.friedmanchisquare(*values.T).statistic / (m * (k - 1))
            assert concordance(values) == pytest.approx(wanted, abs=1e-12)
    assert concordance(np.arange(5.0)[None].repeat(3, 0)) == pytest.approx(1)
    assert np.isnan(concordance(np.ones((3, 5)))) and np.isnan(concordance(np.full((3, 5), np.nan)))


def test_agreement_tells_a_common_order_from_none():
    rng = np.random.default_rng(1)
    categories = sorted(["a", "b", "c", "d", "e"] * 30)
    common = rank_agreement(
        make_scores(rng.normal(size=(150, 6)) + 3 * np.arange(6), categories=categories), draws=199
    )
    none = np.repeat(rng.normal(size=(5, 6)), 30, axis=0) * 3 + rng.normal(size=(150, 6))
    none = rank_agreement(make_scores(none, categories=categories), draws=199)
    for table in (common, none):
        assert list(zip(table["question"], table["unit"], table["n"], strict=True)) == [
            ("these_models", "item", 150),
            ("categories_in_general", "category", 5),
        ]
        row = table.iloc[0]
        assert row["low"] <= row["estimate"] <= row["high"] and np.isnan(row["p_value"])
    assert common["estimate"].iloc[0] == pytest.approx(1) and common["p_value"].iloc[1] == 1 / 200
    assert none["estimate"].iloc[0] < 0.6 and none["p_value"].iloc[1] > 0.05


def test_agreement_p_is_uniform_where_categories_have_nothing_in_common():
    rng = np.random.default_rng(2)
    p = [
        rank_agreement(make_scores(rng.normal(size=(8, 6)), categories=list("aabbccdd")), draws=99)[
            "p_value"
        ].iloc[1]
        for _ in range(150)
    ]
    assert (np.array(p) <= 0.5).mean() == pytest.approx(0.5, abs=0.13)
    assert (np.array(p) <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_places_follow_the_direction_of_the_metric_and_the_noise():
    values = np.arange(6.0) + np.random.default_rng(0).normal(0, 1e-6, (20, 6))
    up, down = (
        rank_stability(make_scores(values)),
        rank_stability(make_scores(values, metric="mse", task="text_to_image")),
    )
    assert up["model"].tolist() == ["b3", "b2", "b1", "a3", "a2", "a1"] == down["model"].tolist()[::-1]
    assert (up["kept"] == 1).all() and (up["low"] == up["rank"]).all() and (up["high"] == up["rank"]).all()
    noise = rank_stability(make_scores(np.random.default_rng(0).normal(size=(20, 6))))
    assert noise["kept"].max() < 0.95 and (noise["low"] < noise["high"]).all()
    assert set(noise["question"]) == {"these_models"}


def test_stability_does_not_depend_on_row_order_or_other_categories():
    scores = make_scores(np.random.default_rng(0).normal(size=(40, 6)), categories=["a", "b"] * 20)
    one = rank_stability(scores, draws=50)
    two = rank_stability(scores.sample(frac=1, random_state=0), draws=50)
    pd.testing.assert_frame_equal(one, two)
    alone = rank_stability(scores[scores["category"] == "b"], draws=50)
    pd.testing.assert_frame_equal(alone, one[one["category"] == "b"].reset_index(drop=True))


@pytest.mark.parametrize("values", [np.ones((4, 6)), np.full((4, 6), np.nan)])
def test_no_concordance_where_all_is_tied_or_unknown(values):
    table = rank_agreement(make_scores(values, categories=list("abab")), draws=20)
    assert table["estimate"].isna().all() and table["method"].str.startswith("no concordance").all()


# ---------------------------------------------------------------- many tests

ADJUSTED = json.loads((DATA / "comparison/r.json").read_text())["p_adjust"]


@pytest.mark.parametrize("case", ADJUSTED, ids=range(len(ADJUSTED)))
def test_corrections_equal_r(case):
    p = np.array(case["p"], float)
    np.testing.assert_allclose(holm(p), np.array(case["holm"], float), atol=1e-12)
    np.testing.assert_allclose(benjamini_hochberg(p), np.array(case["benjamini_hochberg"], float), atol=1e-12)


def test_correction_says_what_it_was_and_among_how_many():
    rows = pd.DataFrame({"p_value": [0.01, 0.02, np.nan, 0.03, 0.04], "term": list("xxxxy")})
    out = adjust_p_values(rows, [True, False, True, True, True], apart=("term",))
    assert out["correction"].tolist() == [
        "holm, 2 tests",
        "benjamini_hochberg, 1 test",
        "none",
        "holm, 2 tests",
        "holm, 1 test",
    ]
    np.testing.assert_allclose(out["p_adjusted"], [0.02, 0.02, np.nan, 0.03, 0.04])
    assert "p_adjusted" not in rows


def test_max_t_by_a_plain_loop_and_its_interval_agrees_with_its_p():
    rng = np.random.default_rng(0)
    t, drawn = rng.normal(0, 2, 7), rng.normal(size=(999, 7))
    found = max_t(t, drawn)
    wanted = [(1 + sum(max(abs(v) for v in row) >= abs(value) for row in drawn)) / 1000 for value in t]
    np.testing.assert_allclose(found.p_adjusted, wanted)
    np.testing.assert_array_equal(found.p_adjusted <= 0.05, np.abs(t) >= found.critical)
    gap = max_t(np.append(t, np.nan), np.column_stack([drawn, np.full(999, np.nan)]))
    np.testing.assert_allclose(gap.p_adjusted[:7], wanted)
    assert gap.critical == found.critical and np.isnan(gap.p_adjusted[7])
    assert np.isnan(max_t([np.nan], np.full((9, 1), np.nan)).critical)
