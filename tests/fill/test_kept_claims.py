"""Which claims stay: the curve against scipy and scikit-learn, and what must hold for the rule."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from mmpc_analysis.fill.kept_claims import keep_claims, platt_curve


def drawn(n, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    yes = rng.normal(0, 2, n)
    return yes, (rng.uniform(size=n) < expit(0.5 + scale * yes)).astype(float)


@pytest.mark.parametrize(("n", "seed", "shift"), [(30, 0, 0), (200, 1, 0), (80, 2, 100), (50, 3, -40)])
def test_the_curve_is_the_one_of_scipy(n, seed, shift):
    yes, true = drawn(n, seed)
    ones = true.sum()
    target = np.where(true == 1, (ones + 1) / (ones + 2), 1 / (n - ones + 2))

    def loss(w):
        value = w[0] + w[1] * yes
        return np.sum(np.logaddexp(0, value) - target * value)

    want = minimize(loss, [0, 0], method="BFGS", options={"gtol": 1e-9}).x
    intercept, slope = platt_curve(yes + shift, true)
    np.testing.assert_allclose([intercept + slope * shift, slope], want, rtol=1e-4, atol=1e-4)


def test_the_curve_is_the_one_of_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    yes, true = drawn(300, 4)
    other = calibration._SigmoidCalibration().fit(yes, true)  # 1 / (1 + exp(a * yes + b))
    np.testing.assert_allclose(platt_curve(yes, true), (-other.b_, -other.a_), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("yes", "true", "probability"),
    [
        ([1, 2, 3, 4], [1, 1, 1, 1], 5 / 6),  # Smoothed: (4 + 1) / (4 + 2)
        ([1, 2, 3, 4], [0, 0, 0, 0], 1 / 6),
        ([2, 2, 2, 2], [1, 0, 1, 0], 1 / 2),
    ],
)
def test_a_yes_without_use_gives_everybody_the_same(yes, true, probability):
    intercept, slope = platt_curve(np.array(yes, float), np.array(true, float))
    assert expit(intercept + slope * np.array(yes, float)) == pytest.approx([probability] * 4, abs=1e-3)


def test_perfectly_separated_claims_have_a_finite_curve():
    intercept, slope = platt_curve(np.array([-3.0, -2, 2, 3]), np.array([0.0, 0, 1, 1]))
    assert np.isfinite([intercept, slope]).all() and slope > 0


def test_huge_and_tiny_odds_stay_finite():
    assert np.isfinite(
        platt_curve(np.array([-1e6, 1e6, 1e-9, 5.0] * 10), np.array([0.0, 1, 0, 1] * 10))
    ).all()


def table(n=300, seed=0, kind="brand", per_group=2):
    yes, true = drawn(n, seed)
    return pd.DataFrame(
        {
            "item_id": [f"i{row}" for row in range(n)],
            "parent_id": [f"g{row // per_group}" for row in range(n)],
            "kind": kind,
            "supported": False,
            "yes": yes,
            "true": true,
        }
    )


def test_a_claim_s_probability_does_not_know_its_own_truth_nor_its_group_s():
    claims = table()
    before = keep_claims(claims).probability
    changed = claims.copy()
    changed.loc[claims["parent_id"] == "g7", "true"] = 1 - changed["true"]
    after = keep_claims(changed).probability
    mine = (claims["parent_id"] == "g7").to_numpy()
    np.testing.assert_array_equal(before[mine], after[mine])
    assert np.abs(before - after)[~mine].max() > 1e-4  # Others did learn from it


def test_gaps_teach_nothing_and_get_the_mean_of_the_folds():
    claims = table()
    gaps = claims.head(40).assign(true=np.nan, parent_id=lambda t: "gap" + t["parent_id"])
    both = pd.concat([claims, gaps], ignore_index=True)
    result = keep_claims(both)
    np.testing.assert_array_equal(result.probability[:300], keep_claims(claims).probability)
    np.testing.assert_allclose(result.probability[300:], result.probability[:40], atol=0.1)


def test_the_order_of_claims_changes_nothing():
    claims = table()
    turned = claims.sample(frac=1, random_state=1)
    one, two = keep_claims(claims), keep_claims(turned)
    np.testing.assert_allclose(one.probability[turned.index], two.probability, atol=1e-8)


def test_supported_claims_stay_whatever_the_model_says_and_teach_nothing():
    claims = table()
    known = table(50, 9).assign(supported=True, yes=-50.0, true=1.0, parent_id="sup")
    result = keep_claims(pd.concat([claims, known], ignore_index=True))
    assert result.kept[300:].all() and np.isnan(result.probability[300:]).all()
    np.testing.assert_array_equal(result.probability[:300], keep_claims(claims).probability)


def test_too_few_claims_keep_nothing_and_say_so():
    for claims in (table(29, per_group=1), table(300, per_group=100)):
        result = keep_claims(claims)
        assert not result.kept.any() and "too few to learn from" in result.notes[0]
    assert keep_claims(table(30, per_group=1)).probability.shape == (30,)
    assert np.isfinite(keep_claims(table(30, per_group=1)).probability).all()


def test_a_claim_that_nobody_was_asked_about_goes():
    claims = table()
    claims.loc[5, "yes"] = np.nan
    result = keep_claims(claims)
    assert not result.kept[5] and np.isnan(result.probability[5])


def test_kinds_are_learnt_apart():
    both = pd.concat([table(), table(kind="number", seed=3).assign(true=0.0)], ignore_index=True)
    result = keep_claims(both)
    assert result.kept[:300].any() and not result.kept[300:].any()
    assert len(result.notes) == 2


def test_of_what_is_kept_the_named_share_is_true():
    shares, kept = [], []
    for seed in range(20):
        claims = table(400, seed, per_group=1)
        claims["yes"] *= 3  # Three times too sure
        result = keep_claims(claims, cut=0.8)
        shares.append(claims["true"].to_numpy()[result.kept])
        kept.append(result.kept.mean())
    everything = np.concatenate(shares)
    error = np.sqrt(0.8 * 0.2 / len(everything))
    assert everything.mean() > 0.8 - 3 * error  # Each one kept has at least 0.8, so their mean has more
    assert np.mean(kept) > 0.2


def test_no_claims_at_all():
    result = keep_claims(table(10).head(0))
    assert result.kept.shape == (0,) and result.notes == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"claims": table(10).drop(columns="yes")}, "no column 'yes'"),
        ({"cut": 0}, "cut must be above 0"),
        ({"cut": 90}, "cut must be above 0"),
        ({"claims": table(10).assign(true=0.5)}, "1, 0 or NaN"),
    ],
)
def test_refusals(change, said):
    with pytest.raises(ValueError, match=said):
        keep_claims(**({"claims": table(10)} | change))
