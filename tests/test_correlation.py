"Rank correlations against scipy, permutation p-values against scipy and published tables, and intervals by simulation."

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mmpc_analysis.correlation import (
    bootstrap_means,
    holm,
    in_words,
    kendall,
    orders,
    permutation_p,
    ranks,
    scale_effect,
    scale_warning,
    spearman,
)
from mmpc_analysis.tables import SCORES

CASES = json.loads((Path(__file__).parent / "data/correlation/published.json").read_text())["cases"]
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
        np.testing.assert_allclose([spearman(x, y), kendall(x, y)], wanted, atol=1e-12, rtol=0)
        np.testing.assert_array_equal(ranks(y), stats.rankdata(y))


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_one_call_for_many_draws_equals_many_calls(measure):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=6), rng.integers(0, 5, (3, 40, 6)).astype(float)
    y[0, 0] = 1.0
    y[1, 1, 2] = np.nan
    together = measure(x, y)
    one_by_one = np.array([[measure(x, row) for row in block] for block in y])
    np.testing.assert_array_equal(together, one_by_one)
    assert together.shape == (3, 40) and np.isnan(together[0, 0]) and np.isnan(together[1, 1])


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_coefficients_keep_their_symmetries(measure):
    rng = np.random.default_rng(5)
    for _ in range(50):
        x, y = rng.uniform(1, 9, 6), rng.integers(0, 5, 6).astype(float)
        if len(set(y)) == 1:
            continue
        value = measure(x, y)
        order = rng.permutation(6)
        assert measure(x[order], y[order]) == pytest.approx(value, abs=1e-12)
        assert measure(np.log10(x), 3 * y + 7) == pytest.approx(value, abs=1e-12)
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
    listed = orders(9)
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
    values = rng.normal(size=(400, 3)) + 2 * rng.normal(size=(400, 1))
    means = bootstrap_means(values, np.arange(400), 4000, np.random.default_rng(0))
    theory = np.cov(values.T, ddof=0) / 400
    np.testing.assert_allclose(np.cov(means.T), theory, rtol=0.12)
    np.testing.assert_allclose(means.mean(0), values.mean(0), atol=4 * np.sqrt(theory.max() / 4000))


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
    slow = [np.vstack([groups[k] for k in row]).mean(0) for row in chance.integers(3, size=(20, 3))]
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_blocks_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(0).normal(size=(30, 2))
    whole = bootstrap_means(values, np.arange(30), 101, np.random.default_rng(4))
    monkeypatch.setattr("mmpc_analysis.correlation.ceil", lambda _: 7)
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
            drawn = np.random.default_rng(3).integers(len(part), size=(200, len(part)))
            spread = [stats.spearmanr(size[members], part[d][:, members].mean(0)).statistic for d in drawn]
            interval = one[one["question"] == "these_models"][["low", "high"]].to_numpy()[0]
            np.testing.assert_allclose(interval, np.quantile(spread, [0.05, 0.95]), atol=1e-12)


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
    assert effects[effects["question"] == "scale_in_general"]["low"].isna().all()
    assert effects[effects["question"] == "these_models"]["p_value"].isna().all()
    assert pooled["p_value"].dropna().between(0, 1).all()


def test_one_item_gives_an_interval_of_no_width_and_n_says_so():
    effects = scale_effect(make_scores(np.arange(6.0)[None]), draws=20).query("question == 'these_models'")
    assert (effects["low"] == effects["high"]).all() and set(effects["n"]) == {1}


def test_questions_are_kept_apart():
    effects = scale_effect(make_scores(np.random.default_rng(0).normal(size=(30, 6))), draws=50)
    pooled = effects[(effects["scope"] == "pooled") & (effects["category"] == "all")]
    assert dict(zip(pooled["question"], pooled["n"], strict=True)) == {
        "these_models": 30,
        "scale_in_general": 6,
    }
    tests = effects[effects["question"] == "scale_in_general"]
    for _, part in tests.groupby("term"):
        np.testing.assert_allclose(part["p_adjusted"], multipletests(part["p_value"], method="holm")[1])


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
    with pytest.raises(ValueError, match="one of spearman, kendall, got 'pearson'"):
        permutation_p(np.arange(3), np.arange(3), "pearson")
