"Two one-sided tests against their intervals, and Bayes factors against R."

import numpy as np
import pytest
from comparison_cases import SEEDS, R, make_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmpc_analysis.analysis.comparison import (
    paired_contrasts,
)
from mmpc_analysis.analysis.equivalence import (
    bayes_factor_r,
    bayes_factor_t,
    best_equivalence_p,
    bounds,
    correlation_equivalence_p,
    equivalence,
    models_needed,
    no_effect_sentence,
    one_sided,
)


@given(SEEDS, st.floats(-0.3, 0.3), st.floats(0.01, 0.6))
@settings(max_examples=40, deadline=None)
def test_equivalence_and_its_interval_never_disagree(seed, gap, margin):
    values = np.random.default_rng(seed).normal(size=(25, 2)) * 0.3 + [gap, 0]
    found = paired_contrasts(make_scores(values), [("a", "b")], draws=399)["all"]
    low, high = bounds(found)
    not_worse, not_better = one_sided(found, margin)
    assert (not_worse[0] <= 0.05) == (low[0] > -margin) and (not_better[0] <= 0.05) == (high[0] < margin)


def test_one_sided_p_values_are_close_to_students_for_normal_differences():
    d = np.random.default_rng(0).normal(0.1, 1, 200)
    found = paired_contrasts(make_scores(np.column_stack([d, np.zeros(200)])), [("a", "b")], draws=20_000)[
        "all"
    ]
    for margin in (0.05, 0.1, 0.2):
        not_worse, not_better = one_sided(found, margin)
        assert not_worse[0] == pytest.approx(
            stats.ttest_1samp(d, -margin, alternative="greater").pvalue, abs=0.012
        )
        assert not_better[0] == pytest.approx(
            stats.ttest_1samp(d, margin, alternative="less").pvalue, abs=0.012
        )


def test_verdicts_follow_the_truth_and_never_contradict_the_interval():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(400, 1))
    scores = make_scores(hard + 0.2 * rng.normal(size=(400, 4)) + [0.0, 0.0, 0.5, 0.08])
    table = equivalence(scores, margin=0.1).query("category == 'all'").set_index("term")
    assert table.loc["a within the margin of b", "verdict"] == "equivalent"
    assert table.loc["a within the margin of c", "verdict"] == "inferior"
    assert table.loc["c within the margin of d", "verdict"] == "not inferior"
    assert table.loc["b within the margin of d", "verdict"] == "undecided"
    for _, row in table.iterrows():
        if row["verdict"] == "equivalent":
            assert row["low"] > -0.1 and row["high"] < 0.1
        if row["verdict"] == "not inferior":
            assert row["low"] > -0.1 and row["high"] >= 0.1
        if row["verdict"] == "inferior":
            assert row["high"] < -0.1
    assert (table["p_adjusted"] >= table["p_value"] - 1e-12).all() and set(table["question"]) == {
        "these_models"
    }


def test_too_little_is_undecided_and_never_equivalent():
    for values in (np.ones((6, 2)), np.random.default_rng(0).normal(size=(4, 2))):
        table = equivalence(make_scores(values), margin=100.0, draws=50)
        assert set(table["verdict"]) == {"undecided"} and table["bf01"].isna().all()


@pytest.mark.parametrize("models", [2, 6])
def test_identical_models_are_equal_and_said_to_be(models):
    values = np.random.default_rng(0).random((30, 1)).repeat(models, axis=1)
    table = equivalence(make_scores(values), margin=0.001, draws=50)
    assert set(table["verdict"]) == {"equal"} and (table["estimate"] == 0).all()
    assert len(table) == 2 * models * (models - 1) / 2


def test_two_models_that_failed_everywhere_are_not_called_equal():
    values = np.zeros((30, 3))
    scores = make_scores(values, outcome="invalid")
    scores.loc[scores["model"] == "c", "outcome"] = "ok"  # Usable, and wrong on every item
    table = equivalence(scores, margin=0.02, draws=50).query("category == 'all'").set_index("term")
    assert table.loc["a within the margin of b", "verdict"] == "all failed"
    assert table.loc["a within the margin of c", "verdict"] == "equal"


def test_a_pair_that_differs_on_few_of_many_items_is_equivalent_and_on_few_of_few_is_undecided():
    for items, verdict in ((500, "equivalent"), (40, "undecided")):
        values = np.random.default_rng(0).random((items, 1)).repeat(2, axis=1)
        values[:3, 1] = 1 - values[:3, 0]
        row = equivalence(make_scores(values), margin=0.03, draws=50).iloc[-1]
        assert row["verdict"] == verdict and (row["high"] < 0.03) == (verdict == "equivalent")


def test_pairs_stand_on_their_own_items_and_listing_groups():
    rng = np.random.default_rng(0)
    values = rng.random((200, 1)) + 0.02 * rng.normal(size=(200, 3))
    values[:60, 2] = np.nan
    scores = make_scores(values).assign(parent_id=np.repeat(np.arange(200) // 4, 3).astype(str))
    table = equivalence(scores, margin=0.02, draws=200).query("category == 'all'").set_index("term")
    assert table.loc["a within the margin of b", ["n", "items"]].tolist() == [50, 200]
    assert table.loc["a within the margin of c", ["n", "items"]].tolist() == [35, 140]
    assert set(table["verdict"]) == {"equivalent"} and set(table["unit"]) == {"parent_id"}


@pytest.mark.parametrize(
    "case", R["bayes_factors"]["t"], ids=lambda c: f"t{c['t']} n{c['n']} r{c['scale']:.2f}"
)
def test_bayes_factor_of_a_mean_equals_r(case):
    assert -np.log(bayes_factor_t(case["t"], case["n"], case["scale"])) == pytest.approx(
        case["log_bf10"], abs=1e-6
    )


@pytest.mark.parametrize("case", R["bayes_factors"]["r"], ids=lambda c: f"r{c['r']} n{c['n']}")
def test_bayes_factor_of_a_correlation_equals_r(case):
    assert -np.log(bayes_factor_r(case["r"], case["n"])) == pytest.approx(case["log_bf10"], abs=1e-6)


def test_bayes_factor_by_adaptive_quadrature_to_nine_digits():
    from scipy.integrate import quad

    for t, n in ((0.0, 6), (2.24, 80), (5.0, 30)):
        nu, scale = n - 1, 0.5**0.5

        def integrand(u, t=t, n=n, nu=nu, scale=scale):
            g = np.exp(u)
            prior = scale / np.sqrt(2 * np.pi) * g**-1.5 * np.exp(-(scale**2) / 2 / g) * g
            return (1 + n * g) ** -0.5 * (1 + t**2 / ((1 + n * g) * nu)) ** (-(nu + 1) / 2) * prior

        top = quad(integrand, -12, 45, epsabs=0, epsrel=1e-12, limit=500)[0]
        wanted = (1 + t**2 / nu) ** (-(nu + 1) / 2) / top
        assert bayes_factor_t(t, n) == pytest.approx(wanted, rel=1e-9)


def test_bayes_factor_speaks_for_equality_and_survives_a_large_t():
    assert bayes_factor_t(0, 1000) > 20 and bayes_factor_t(40, 1000) < 1e-100
    assert bayes_factor_t(3, 50) == bayes_factor_t(-3, 50)
    assert bayes_factor_t(0, 50, scale=2.0) > bayes_factor_t(0, 50, scale=0.2)


def test_equivalence_of_a_correlation_is_out_of_reach_of_six_models():
    for bound in (0.1, 0.3, 0.5):
        best = best_equivalence_p(6, bound)
        assert best > 0.05
        for r in (-0.4, -0.1, 0.05, 0.3):
            assert correlation_equivalence_p(r, 6, bound) > best
        n = models_needed(bound)
        assert best_equivalence_p(n, bound) <= 0.05 < best_equivalence_p(n - 1, bound)
        fisher = np.ceil((1.6448536 / np.arctanh(bound)) ** 2 + 3)
        assert abs(n - fisher) <= max(2, 0.01 * fisher)


@given(st.integers(3, 400), st.floats(0.05, 0.9), st.floats(-0.95, 0.95))
@settings(max_examples=60, deadline=None)
def test_sentence_about_no_effect_claims_nothing_that_the_numbers_deny(models, bound, r):
    text = no_effect_sentence(models, bound, r)
    p, best = correlation_equivalence_p(r, models, bound), best_equivalence_p(models, bound)
    assert ("cannot show" in text) == (best > 0.05)
    assert (f"lies within {bound:g} of zero (p" in text and "not shown" not in text) == (p <= 0.05)
    assert ("not shown" in text) == (best <= 0.05 < p)
    assert ("evidence for none" in text) == (bayes_factor_r(r, models) >= 3)
    assert ("evidence for one" in text) == (
        bayes_factor_r(r, models) <= 1 / 3 and bayes_factor_r(0, models) >= 3
    )
    assert ("Nor can a Bayes factor" in text) == (bayes_factor_r(0.0, models) < 3)
