"Confidence of suggestions: the regression against scikit-learn, folds that see nothing, and areas against brute force."

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from mmpc_analysis.fill import confidence as page


def by_sklearn(signals, wrong, ridge=1.0):
    "Intercept and weights of the same penalised likelihood, with the two half observations."
    lacking = np.isnan(signals)
    used = [j for j in range(signals.shape[1]) if np.ptp(signals[~lacking[:, j], j]) > 0]
    marks = [j for j in range(signals.shape[1]) if lacking[:, j].any()]
    x = np.column_stack([signals[:, used], lacking[:, marks]])
    x = np.nan_to_num((x - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0))
    x, y = np.vstack([x, np.zeros((2, x.shape[1]))]), np.concatenate([1 - wrong, [1, 0]])
    weight = np.concatenate([np.ones(len(wrong)), [0.5, 0.5]])
    model = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=10_000).fit(x, y, sample_weight=weight)
    return model.intercept_[0], model.coef_[0]


@pytest.mark.parametrize("seed", range(6))
def test_the_regression_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    n, ridge = int(rng.integers(20, 300)), [1.0, 0.1, 10.0][seed % 3]
    signals = rng.normal(size=(n, 4)) * [1, 100, 1e-3, 1] + [0, -50, 7, 0]
    signals[rng.random(n) < 0.2, 1] = np.nan
    wrong = (rng.random(n) < 1 / (1 + np.exp(1 + 2 * signals[:, 0]))).astype(float)
    fit = page.fit_logistic(signals, wrong, ridge)
    intercept, weights = by_sklearn(signals, wrong, ridge)
    assert fit.intercept == pytest.approx(intercept, abs=1e-5)
    assert fit.weights == pytest.approx(weights, abs=1e-5)


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_one_class_alone_gives_its_share_with_half_observations(wrong):
    fit = page.fit_logistic(np.random.default_rng(0).normal(size=(30, 3)), np.full(30, wrong))
    right = (30.5 if wrong == 0 else 0.5) / 31
    assert page.predict_right(fit, np.full((2, 3), 9.0)) == pytest.approx([right, right], abs=1e-8)


def test_a_signal_that_separates_perfectly_stays_finite():
    sure = np.concatenate([np.full(50, -1e6), np.full(50, 1e6)])[:, None]
    fit = page.fit_logistic(sure, np.repeat([1.0, 0.0], 50))
    low, high = page.predict_right(fit, np.array([[-1e6], [1e6]]))
    assert 0 < low < 0.1 and 0.9 < high < 1
    assert np.isfinite(page.predict_right(fit, np.array([[1e300], [-1e300]]))).all()


def test_constant_and_absent_signals_change_nothing():
    rng = np.random.default_rng(1)
    x, wrong, groups = rng.normal(size=(80, 2)), (rng.random(80) < 0.3).astype(float), np.arange(80)
    more = np.column_stack([x, np.full(80, 0.1 + 0.2), np.full(80, np.nan), np.full(80, -4.0)])
    one, two = page.cross_fit(x, wrong, groups), page.cross_fit(more, wrong, groups)
    assert two.out_of_fold == pytest.approx(one.out_of_fold, abs=1e-12)
    assert all(list(model.columns) == [0, 1] and len(model.indicators) == 0 for model in two.models)


def made_up(n=200, groups=90, seed=2):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x[rng.random(n) < 0.1, 2] = np.nan
    return x, (rng.random(n) < 1 / (1 + np.exp(1 + x[:, 0]))).astype(float), rng.integers(0, groups, n)


def test_each_fold_is_judged_by_a_regression_of_all_others():
    x, wrong, groups = made_up()
    found = page.cross_fit(x, wrong, groups)
    for k in range(5):
        out = found.fold == k
        b, w = by_sklearn(x[~out], wrong[~out])
        lacking = np.isnan(x[~out])
        marks = [j for j in range(3) if lacking[:, j].any()]
        train, test = (np.column_stack([part, np.isnan(part)[:, marks]]) for part in (x[~out], x[out]))
        z = np.nan_to_num((test - np.nanmean(train, axis=0)) / np.nanstd(train, axis=0))
        assert found.out_of_fold[out] == pytest.approx(1 / (1 + np.exp(-b - z @ w)), abs=1e-5)


def test_a_listing_group_lies_in_one_fold_and_wrong_ones_are_spread():
    x, wrong, groups = made_up()
    found = page.cross_fit(x, wrong, groups, seed=3)
    assert all(len(set(found.fold[groups == g])) == 1 for g in set(groups))
    bad = {g for g in set(groups) if wrong[groups == g].max() == 1}
    counts = [len({g for g in bad if found.fold[groups == g][0] == k}) for k in range(5)]
    assert max(counts) - min(counts) <= 1
    assert not np.array_equal(found.fold, page.cross_fit(x, wrong, groups, seed=4).fold)


def test_the_order_of_products_does_not_matter():
    x, wrong, groups = made_up()
    order = np.random.default_rng(5).permutation(len(x))
    one = page.cross_fit(x, wrong, groups)
    two = page.cross_fit(x[order], wrong[order], groups[order])
    assert two.out_of_fold == pytest.approx(one.out_of_fold[order], abs=1e-9)


def test_noise_is_not_mistaken_for_knowledge():
    "In the sample a regression on noise sorts well; out of fold it must not."
    inside, outside = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, wrong = rng.normal(size=(60, 8)), (rng.random(60) < 0.3).astype(float)
        found = page.cross_fit(x, wrong, np.arange(60), seed=seed)
        inside.append(roc_auc_score(1 - wrong, page.predict_right(page.fit_logistic(x, wrong), x)))
        outside.append(roc_auc_score(1 - wrong, found.out_of_fold))
    assert np.mean(inside) > 0.7
    assert np.mean(outside) < 0.53


def test_products_that_nobody_can_judge_teach_nothing_and_are_judged():
    x, wrong, groups = made_up(groups=10_000)
    wrong[:30] = np.nan
    one = page.cross_fit(x, wrong, groups)
    x2 = x.copy()
    x2[:30] += 5
    two = page.cross_fit(x2, wrong, groups)
    assert not np.isnan(one.out_of_fold).any()
    assert two.out_of_fold[30:] == pytest.approx(one.out_of_fold[30:], abs=1e-12)
    assert not np.allclose(two.out_of_fold[:30], one.out_of_fold[:30])


@pytest.mark.parametrize(
    ("wrong", "groups"), [([], []), ([0.0], ["a"]), ([0.0, 1.0], ["a", "a"]), ([np.nan, 1.0], ["a", "b"])]
)
def test_too_few_known_products_give_no_confidence(wrong, groups):
    x = np.zeros((len(wrong), 2))
    found = page.cross_fit(x, wrong, groups)
    assert found.models == () and np.isnan(found.out_of_fold).all()
    assert np.isnan(page.predict_confidence(found, np.zeros((3, 2)))).all()


def test_a_gap_gets_the_mean_of_the_folds_and_nothing_is_changed():
    x, wrong, groups = made_up()
    before = x.copy(), wrong.copy(), groups.copy()
    found, gaps = page.cross_fit(x, wrong, groups), np.array([[0.0, np.nan, 1.0], [np.nan] * 3])
    want = np.mean([page.predict_right(model, gaps) for model in found.models], axis=0)
    assert page.predict_confidence(found, gaps) == pytest.approx(want, abs=1e-15)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, (x, wrong, groups), strict=True))


def test_a_table_of_reliability_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    c = rng.beta(5, 2, 333)
    right = (rng.random(333) < c).astype(float)
    table = page.reliability(np.append(c, [np.nan, 0.5]), np.append(right, [1, np.nan]), bins=8)
    share, mean = calibration_curve(right, c, n_bins=8, strategy="quantile")
    assert table["right"].to_numpy() == pytest.approx(share) and table[
        "confidence"
    ].to_numpy() == pytest.approx(mean)
    assert table.attrs == {"brier": pytest.approx(brier_score_loss(right, c)), "n": 333, "left_out": 2}
    for row in table.itertuples():
        bounds = binomtest(round(row.right * row.n), row.n).proportion_ci(0.95, method="exact")
        assert (row.low, row.high) == pytest.approx((bounds.low, bounds.high))


def test_reliability_of_one_confidence_and_of_nothing():
    table = page.reliability(np.full(20, 0.9), np.ones(20))
    assert (len(table), table["n"].sum(), table["high"][0]) == (1, 20, 1.0)
    assert len(page.reliability([], [])) == 0 and np.isnan(page.reliability([], []).attrs["brier"])


def area_by_hand(confidence, wrong):
    "Mean over all orders that respect the confidence of the mean risk over coverages."
    blocks = [
        [w for c, w in zip(confidence, wrong, strict=True) if c == v]
        for v in sorted(set(confidence), reverse=True)
    ]
    areas = []
    for orders in itertools.product(*(list(itertools.permutations(block)) for block in blocks)):
        row = [w for block in orders for w in block]
        areas.append(np.mean([sum(row[: k + 1]) / (k + 1) for k in range(len(row))]))
    return np.mean(areas)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6))
def test_areas_are_means_over_all_orders_of_ties(rows):
    c, w = np.array(rows, dtype=float).T
    assert page.aurc(c, w) == pytest.approx(area_by_hand(c, w))
    assert page.excess_aurc(c, w) == pytest.approx(area_by_hand(c, w) - area_by_hand(-w, w), abs=1e-12)
    assert page.aurc(np.exp(c), w) == pytest.approx(page.aurc(c, w))


def test_the_curve_takes_ties_together_and_leaves_out_what_is_unknown():
    table = page.risk_coverage([0.9, 0.5, 0.5, np.nan, 0.1], [0, 1, 0, 1, np.nan])
    assert table["threshold"].tolist() == [0.9, 0.5] and table["accepted"].tolist() == [1, 3]
    assert table["risk"].tolist() == pytest.approx([0, 1 / 3]) and table["coverage"].iloc[-1] == 1
    assert len(page.risk_coverage([], [])) == 0 and np.isnan(page.aurc([], []))


def test_two_equal_orders_do_not_differ_and_the_sign_says_which_is_better():
    rng = np.random.default_rng(4)
    c, groups = rng.random(300), np.arange(300)
    w = (rng.random(300) > c).astype(float)
    same = page.aurc_difference(c, 10 * c, w, groups, draws=50)
    assert (same["estimate"], same["low"], same["high"]) == (0, 0, 0)
    better = page.aurc_difference(c, rng.random(300), w, groups, draws=200)
    assert better["low"] < better["estimate"] < better["high"] < 0
    assert np.isnan(page.aurc_difference(c, c, w, np.zeros(300))["low"])


def test_intervals_of_a_difference_cover_it():
    "Two scores that both say nothing: the true difference is 0."
    covered = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        w, groups = np.repeat(rng.random(40) < 0.3, 2).astype(float), np.repeat(np.arange(40), 2)
        first, second = np.repeat(rng.random(40), 2), rng.random(80)
        row = page.aurc_difference(first, second, w, groups, draws=200, seed=seed)
        covered.append(row["low"] <= 0 <= row["high"])
    assert np.mean(covered) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 120)
