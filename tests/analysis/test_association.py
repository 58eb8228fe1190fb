"Coefficients and permutation p-values against scipy, R and published tables."

import json
import warnings

import numpy as np
import pytest
from correlation_cases import DATA, permutation_p
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

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

CASES = json.loads((DATA / "correlation/published.json").read_text())["cases"]


R = json.loads((DATA / "correlation/r.json").read_text())


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
