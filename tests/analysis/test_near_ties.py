"Near ties against scipy's permutation test and binomial intervals, and how often their bounds hold."

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmpc_analysis.analysis.near_ties import (
    FEWEST,
    NearTie,
    differing,
    nearly_tied,
    sign_flip_p,
    tie_bounds,
    tie_margin_p,
)


@pytest.mark.parametrize("k", [2, 5, 9, 12])
def test_sign_flips_equal_scipys_permutation_test(k):
    rng = np.random.default_rng(k)
    for shift in (0, 0.5, 2):
        moved = rng.normal(shift, 1, k)
        found = stats.permutation_test(
            (moved,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
        )
        p_value = sign_flip_p(np.concatenate([moved, np.zeros(30)]))
        assert p_value == pytest.approx(found.pvalue, abs=1e-12) and p_value >= 2.0 ** (1 - k) - 1e-12


def test_random_flips_are_close_to_all_and_never_zero():
    rng = np.random.default_rng(0)
    moved = rng.normal(0.4, 1, 18)
    flips = (np.arange(2**18)[:, None] >> np.arange(18)) & 1
    exact = (np.abs((2 * flips - 1) @ moved) >= moved.sum() - 1e-9).mean()
    assert sign_flip_p(moved) == pytest.approx(exact, abs=4 * np.sqrt(exact / 4096) + 1e-3)
    assert sign_flip_p(np.ones(40)) == 2 / 4096


def test_sign_flips_keep_their_level():
    rng = np.random.default_rng(0)
    p = [sign_flip_p(np.where(rng.random(80) < 0.1, rng.standard_t(2, 80), 0)) for _ in range(3000)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)


@pytest.mark.parametrize(
    ("below", "above", "groups"), [(0, 0, 200), (2, 1, 200), (0, 6, 40), (5, 5, 30), (0, 0, FEWEST)]
)
def test_bounds_are_clopper_and_pearsons_times_the_range(below, above, groups):
    sums = np.r_[np.full(below, -0.25), np.full(above, 0.5), np.zeros(groups - below - above)]
    low, high = tie_bounds(NearTie(sums, np.ones(groups), 2.0), 0.9)
    ends = [stats.binomtest(k, groups).proportion_ci(0.9, method="exact").high for k in (below, above)]
    assert (low, high) == pytest.approx((-2 * ends[0], 2 * ends[1]), abs=1e-12)
    margin = 0.3
    wanted = [stats.binomtest(k, groups, margin / 2, alternative="less").pvalue for k in (below, above)]
    assert tie_margin_p(NearTie(sums, np.ones(groups), 2.0), margin) == pytest.approx(wanted, abs=1e-12)


def test_a_difference_that_all_groups_have_is_bounded_about_itself():
    low, high = tie_bounds(NearTie(np.full(50, 0.6), np.full(50, 2.0), 1.0))
    share = 1 - 0.025 ** (1 / 50)
    assert (low, high) == pytest.approx((0.3 - 1.3 * share, 0.3 + 0.7 * share), abs=1e-12)


def test_typical_values_by_every_subset():
    sums, sizes = np.array([0.1, -0.3, 0.2, 0.5, 0.05, 9.0, 0.4]), np.array([1.0, 2, 1, 3, 1, 1, 2])
    means = sorted(
        sums[list(at)].sum() / sizes[list(at)].sum() for k in range(1, 8) for at in combinations(range(7), k)
    )
    low, high = tie_bounds(NearTie(sums, sizes, np.inf), 0.9)
    place = int(0.05 * 128)
    assert (low, high) == pytest.approx((means[place - 1], means[-place]), abs=1e-12)
    worse, better = tie_margin_p(NearTie(sums, sizes, np.inf), 0.2)
    assert worse == pytest.approx((1 + sum(m <= -0.2 for m in means)) / 128)
    assert better == pytest.approx((1 + sum(m >= 0.2 for m in means)) / 128)


@given(st.integers(0, 10_000), st.floats(0.005, 0.5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_bounds_and_margin_tests_never_disagree(seed, margin, dense):
    rng = np.random.default_rng(seed)
    share = 1.0 if dense else 0.06
    sums = np.where(rng.random(40) < share, rng.standard_t(1, 40) * 0.1, 0).clip(-1, 1)
    tie = NearTie(sums, rng.integers(1, 4, 40).astype(float), 1.0)
    low, high = tie_bounds(tie, 0.9)
    worse, better = tie_margin_p(tie, margin)
    assert (worse <= 0.05) == (low > -margin) and (better <= 0.05) == (high < margin)
    assert low <= sums.sum() / tie.sizes.sum() <= high


def test_bounds_hold_for_listing_groups_of_one_to_eight():
    rng, hits = np.random.default_rng(0), []
    for _ in range(2000):
        sizes = rng.integers(1, 9, 60).astype(float)
        each = np.where(rng.random(60) < 0.04, rng.random(60), 0.0)
        low, high = tie_bounds(NearTie(each * sizes, sizes, 1.0))
        hits.append(low <= 0.02 <= high)
    assert np.mean(hits) >= 0.95


def test_typical_values_hold_where_tails_are_heavy():
    rng, hits = np.random.default_rng(0), []
    for _ in range(1000):
        low, high = tie_bounds(NearTie(rng.standard_t(2, 40), np.ones(40), np.inf))
        hits.append(low <= 0 <= high)
    assert np.mean(hits) == pytest.approx(0.95, abs=3 * np.sqrt(0.05 * 0.95 / 1000))


@pytest.mark.parametrize(
    ("sums", "tied"),
    [
        (np.zeros(100), True),
        (np.r_[np.ones(6), np.zeros(94)], True),
        (np.r_[np.ones(7), np.zeros(94)], False),
        (np.full(100, 0.3), True),
        (np.random.default_rng(0).normal(size=100), False),
        (np.random.default_rng(0).normal(size=100) + 100 * np.eye(100)[0], True),
        (np.r_[np.random.default_rng(0).normal(size=40) * np.geomspace(1, 1e-4, 40), np.zeros(160)], True),
        (np.random.default_rng(0).random(6), True),
    ],
    ids=["same", "six", "seven", "constant", "normal", "one wild", "shrinking", "six in all"],
)
def test_what_is_nearly_tied(sums, tied):
    assert nearly_tied(sums, np.ones(len(sums))) == tied
    assert nearly_tied(-3 * sums, np.ones(len(sums))) == tied


def test_the_usual_difference_and_who_has_another():
    usual, differ = differing(np.array([0.2, 0.4, 0.2, 1.0]), np.array([1.0, 2, 1, 2]))
    assert usual == 0.2 and differ.tolist() == [False, False, False, True]
    usual, differ = differing(np.arange(4.0), np.ones(4))
    assert usual == 0 and differ.sum() == 3
