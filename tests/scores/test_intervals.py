"""Intervals of means: the formulas against other implementations, and simulated coverage."""

import importlib.util
import json

import numpy as np
import pytest
import statsmodels.api as sm
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from mmpc_analysis.scores import intervals
from mmpc_analysis.scores.intervals import binomial_bounds, mean_bounds, mean_spread

SIMULATED = json.loads((ROOT / "tests" / "data" / "scores" / "coverage_means.json").read_text("utf-8"))
spec = importlib.util.spec_from_file_location(
    "coverage_means", ROOT / "tools" / "experiments" / "coverage_means.py"
)
coverage_means = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage_means)
DESIGNS = coverage_means.designs()


def of_items(values, low=0.0, high=1.0, level=0.95):
    "Bounds of the mean of single items."
    values = np.asarray(values, dtype=float)[:, None]
    lower, upper, how = mean_bounds(mean_spread(values, np.ones_like(values)), low, high, level)
    return float(lower[0]), float(upper[0]), how[0]


# ---------------------------------------------------------------- one formula at a time


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("heads", "tosses"), [(0, 5), (1, 5), (3, 10), (20, 20), (143, 287), (1, 287)])
def test_mid_p_by_scipys_binomial_and_root_finder(heads, tosses, level):
    def above(p):
        return stats.binom.sf(heads, tosses, p) + stats.binom.pmf(heads, tosses, p) / 2

    tail = (1 - level) / 2
    low = optimize.brentq(lambda p: above(p) - tail, 1e-15, 1 - 1e-15, xtol=1e-15) if heads else 0
    high = (
        optimize.brentq(lambda p: 1 - above(p) - tail, 1e-15, 1 - 1e-15, xtol=1e-15) if heads < tosses else 1
    )
    found = [bound[0] for bound in binomial_bounds([heads], [tosses], level)]
    assert found == pytest.approx((low, high), abs=1e-10)


@given(st.floats(0.001, 0.999), st.floats(1, 1e6), st.floats(0.5, 0.999))
@settings(max_examples=80, deadline=None)
def test_mid_p_bounds_hold_their_tails_for_any_number_of_heads(share, trials, level):
    from scipy.special import betainc

    heads = share * trials
    low, high = (bound[0] for bound in binomial_bounds([heads], [trials], level))
    assert 0 <= low <= share <= high <= 1
    for bound, a, b in ((low, heads, trials - heads), (1 - high, trials - heads, heads)):
        if bound > 1e-6:  # The other bound is known as one less a number, to sixteen places
            half = (betainc(a, b + 1, bound) + betainc(a + 1, b, bound)) / 2
            assert half == pytest.approx((1 - level) / 2, rel=1e-6)


def test_equal_groups_have_the_textbooks_error_and_unequal_ones_that_of_statsmodels():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 4))
    spread = mean_spread(values, np.ones_like(values))
    np.testing.assert_allclose(spread.error, stats.sem(values), rtol=1e-12)
    np.testing.assert_allclose(spread.degrees, 11, rtol=1e-9)
    np.testing.assert_allclose(spread.skew, stats.skew(values) / np.sqrt(12), rtol=1e-9)
    sizes = rng.integers(1, 9, 400)
    group = np.repeat(np.arange(400), sizes)
    items = rng.normal(size=400)[group] + rng.normal(size=len(group))
    theirs = sm.OLS(items, np.ones(len(items))).fit(
        cov_type="cluster", cov_kwds={"groups": group, "use_correction": False}
    )
    ours = mean_spread(np.bincount(group, items)[:, None], sizes[:, None])
    assert ours.mean[0] == pytest.approx(items.mean(), abs=1e-12)
    assert ours.error[0] == pytest.approx(theirs.bse[0], rel=0.01) and ours.error[0] > theirs.bse[0]


def test_error_and_degrees_of_unequal_groups_by_whole_matrices():
    "Bell and McCaffrey's definition, with the square matrices written out."
    rng = np.random.default_rng(1)
    sizes = np.array([1.0, 1, 2, 5, 8, 3, 3])
    total, share = rng.normal(size=7) * sizes, sizes / sizes.sum()
    hat = np.eye(7) - np.outer(share, np.ones(7))
    rest, scale = (np.eye(7) - np.outer(sizes, np.ones(7)) / sizes.sum()) @ total, np.diag(1 / (1 - share))
    covariance = hat @ np.diag(sizes * (1 + (sizes - 1) / 2)) @ hat.T
    product = scale @ covariance
    spread = mean_spread(total[:, None], sizes[:, None])
    assert spread.error[0] ** 2 == pytest.approx(rest @ scale @ rest / sizes.sum() ** 2, rel=1e-12)
    wanted = np.trace(product) ** 2 / np.trace(product @ product)
    assert spread.degrees[0] == pytest.approx(wanted, rel=1e-9)


def test_categories_keep_their_own_means():
    rng = np.random.default_rng(2)
    parts = [rng.normal(k, 1 + k, n) for k, n in enumerate((6, 10, 30))]
    values, strata = np.concatenate(parts)[:, None], np.repeat([0, 1, 2], [6, 10, 30])
    spread = mean_spread(values, np.ones_like(values), strata)
    pieces = np.array([len(p) ** 2 * p.var(ddof=1) / len(p) for p in parts]) / 46**2
    assert spread.error[0] == pytest.approx(np.sqrt(pieces.sum()), rel=1e-12)
    free = np.array([len(p) - 1 for p in parts])
    assert spread.degrees[0] == pytest.approx(
        pieces.sum() ** 2 / (pieces**2 / (free + 2)).sum() - 2, rel=1e-9
    )
    mixed = rng.permutation(46)
    again = mean_spread(values[mixed], np.ones_like(values), strata[mixed])
    assert again.error[0] == pytest.approx(spread.error[0], rel=1e-12)


def test_a_category_with_one_group_is_compared_with_the_mean_of_all():
    values, strata = np.array([[0.0], [1], [2], [3], [9]]), np.array([0, 0, 0, 0, 1])
    spread = mean_spread(values, np.ones((5, 1)), strata)
    inside = 16 * np.var([0, 1, 2, 3], ddof=1) / 4
    assert spread.error[0] ** 2 == pytest.approx((inside + (9 - 3) ** 2 / (1 - 1 / 5)) / 25, rel=1e-12)


# ---------------------------------------------------------------- bounds


def test_without_ends_and_skew_the_bounds_are_students():
    values = np.array([-2.0, -1, 0, 1, 2, 5, 3, 1, -1, -3, -5])  # Symmetric about 0
    low, high, how = of_items(values, -np.inf, np.inf)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 10, 0, stats.sem(values)), abs=1e-5)
    assert how == "skewed t 0.95"


def test_one_end_gives_a_poisson_count():
    "Counts with variance near their mean: the bounds are those of the whole count, by scipy."
    counts = np.array([3.0] * 100 + [1.0] * 100 + [2.0] * 100 + [0.6, 3.4] * 60)
    low, high, _ = of_items(counts, 0, np.inf)
    spread = mean_spread(counts[:, None], np.ones((len(counts), 1)))
    heads = (spread.mean[0] / spread.error[0]) ** 2 * (1.959964 / stats.t.ppf(0.975, len(counts) - 1)) ** 2

    def middle(m):
        return (stats.gamma.cdf(m, heads) + stats.gamma.cdf(m, heads + 1)) / 2

    theirs = [optimize.brentq(lambda m, at=at: middle(m) - at, 1, 1e5) for at in (0.025, 0.975)]
    assert (low, high) == pytest.approx(tuple(np.array(theirs) * spread.mean[0] / heads), rel=2e-4)


@pytest.mark.parametrize(("heads", "n"), [(0, 5), (1, 10), (5, 10), (10, 10), (7, 287)])
def test_heads_and_tails_get_the_interval_of_a_share(heads, n):
    low, high, _ = of_items([1] * heads + [0] * (n - heads))
    assert (low, high) == pytest.approx([b[0] for b in binomial_bounds([heads], [n], 0.95)], abs=1e-9)


def test_nothing_seen_is_not_nothing():
    "All 0, all alike inside the scale, all alike on other scales: an interval with a width, never a point."
    unseen = 1 - 0.05 ** (1 / 20)
    assert of_items([0] * 20)[:2] == pytest.approx((0, unseen))
    assert of_items([1] * 20)[:2] == pytest.approx((1 - unseen, 1))
    assert of_items([0.3] * 20)[:2] == pytest.approx((0.3 - unseen * 0.3, 0.3 + unseen * 0.7))
    assert of_items([0] * 20, -1, 1)[:2] == pytest.approx((-unseen, unseen))
    assert of_items([1 - 1e-7, 1] * 10, -1, 1)[2] == "all equal, 0.95"
    for low, high in ((0, np.inf), (-np.inf, 0.5), (-np.inf, np.inf)):
        assert np.isnan(of_items([0.3] * 20, low, high)[:2]).all()


def test_nothing_seen_on_one_side_of_a_value_that_most_have():
    "Two models alike on 19 of 20: the bound on the side that showed nothing reaches as far as what may be unseen."
    unseen = 1 - 0.05 ** (1 / 20)
    low, _, _ = of_items([0] * 19 + [0.2], -1, 1)
    assert low <= 0.01 - unseen + 1e-12
    _, high, _ = of_items([0] * 18 + [-0.2, -0.1], -1, 1)
    assert high >= -0.015 + unseen - 1e-12


def test_fewer_than_five_groups_get_no_interval_however_many_items():
    total, count = np.array([[3.0], [4.0], [1.0], [2.0]]), np.full((4, 1), 10.0)
    low, high, how = mean_bounds(mean_spread(total, count), 0, 1)
    assert np.isnan([low[0], high[0]]).all() and how[0] == "no interval: fewer than 5 groups"
    five = mean_bounds(mean_spread(np.append(total, [[2.0]], axis=0), np.full((5, 1), 10.0)), 0, 1)
    assert np.isfinite(five[0]).all() and intervals.FEWEST_GROUPS == 5
    assert of_items([0, 0.5, 1, 0.2])[2].startswith("no interval")


def test_series_without_scores_stand_beside_others_and_warn_nothing():
    import warnings

    total, count = np.random.default_rng(0).random((8, 3)), np.ones((8, 3))
    count[:, 1], total[:, 1] = 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spread = mean_spread(total, count)
        low, high, _ = mean_bounds(spread, 0, 1)
    assert np.isnan([spread.mean[1], low[1], high[1]]).all() and spread.groups.tolist() == [8, 0, 8]
    alone = mean_bounds(mean_spread(total[:, :1], count[:, :1]), 0, 1)
    assert (low[0], high[0]) == (alone[0][0], alone[1][0])


@given(st.lists(st.floats(0, 1), min_size=5, max_size=40), st.floats(0.5, 20), st.floats(-5, 5))
@settings(max_examples=60, deadline=None)
def test_bounds_follow_the_scale_and_stay_on_it(values, stretch, shift):
    low, high, _ = of_items(values)
    mean = np.mean(values)
    assert -1e-12 <= low <= mean + 1e-9 and mean - 1e-9 <= high <= 1 + 1e-12
    moved = np.array(values) * stretch + shift
    there = of_items(moved, shift, shift + stretch)
    assert there[:2] == pytest.approx((low * stretch + shift, high * stretch + shift), abs=1e-4 * stretch)
    turned = of_items(1 - np.array(values))
    assert turned[:2] == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_copies_of_a_listing_add_nothing():
    values = np.random.default_rng(3).random((30, 1))
    once, often = mean_spread(values, np.ones((30, 1))), mean_spread(4 * values, np.full((30, 1), 4.0))
    for a, b in zip(mean_bounds(once, 0, 1)[:2], mean_bounds(often, 0, 1)[:2], strict=True):
        assert a[0] == pytest.approx(b[0], abs=1e-9)


def test_a_score_outside_its_scale_takes_the_end_away():
    values = [1.2, 1.4, 0.9, 1.1, 1.3, 1.0]
    assert of_items(values)[1] > 1.3 and of_items(values)[2] == "skewed t 0.95"


# ---------------------------------------------------------------- coverage


def promised(name):
    "The least and the most that the share of studies may be, before Monte Carlo errors."
    kind, law, n = name.split("|")
    promise = coverage_means.LAWS[law].promise if law in coverage_means.LAWS else "wide"
    if promise == "none" or kind == "few":
        return None
    grouped = kind.startswith("grouped")
    return 0.93, 0.97 if promise == "strict" or (n == "287" and not grouped) else 1.0


@pytest.mark.parametrize("name", [name for name in DESIGNS if promised(name)])
def test_coverage_keeps_its_promise(name):
    row, (least, most) = SIMULATED["designs"][name], promised(name)
    assert row["given"] == SIMULATED["studies"] or name.split("|")[2] == "20"
    for bound, sign in ((least, -1), (most, 1)):
        error = np.sqrt(bound * (1 - bound) / row["given"])
        assert sign * row["coverage"] <= sign * (bound + sign * 2 * error)


def test_what_is_not_promised_is_stored_as_it_is():
    rows = SIMULATED["designs"]
    assert set(rows) == set(DESIGNS)
    for law in ("long tail", "1 in 5 fails"):
        assert rows[f"single|{law}|5"]["coverage"] < 0.92
        assert all(rows[f"single|{law}|{n}"]["coverage"] >= 0.93 - 2 * 0.0057 for n in (20, 40, 287))


@pytest.mark.parametrize("name", DESIGNS)
def test_the_first_of_fifty_blocks_redrawn_is_the_stored_one(name):
    given, hits, width = coverage_means.block(0, name, DESIGNS[name])
    stored = SIMULATED["designs"][name]["first"]
    assert [given, hits] == stored[:2] and (stored[2] is None or width == pytest.approx(stored[2], abs=1e-7))
