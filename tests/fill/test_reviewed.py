"The error of what was filled: its formula, its exact interval, and that both cover, also for few errors."

from math import comb

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.fill.reviewed import edit_changes, exact_share, filled_error, sampled_rows, wrong_decisions


def shop_of(confidence, status="filled"):
    n = len(confidence)
    shop = pd.DataFrame({"item_id": [f"i{k}" for k in range(n)], "confidence": confidence})
    shop = shop.assign(
        category="Kites", known=False, model="m", precision="", prompt="p", key="k", outcome="ok"
    )
    return shop.assign(suggestion="Kite", title="Kite", status=status)


def reviews_of(shop, at, wrong, probability, **more):
    rows = pd.DataFrame({"item_id": shop["item_id"].to_numpy()[at], "suggestion": "Kite", "status": "filled"})
    rows = rows.assign(probability=probability, decision=np.where(wrong, "reject", "accept"))
    return rows.assign(**more)


@pytest.mark.parametrize(
    ("shown", "edited", "changes"),
    [
        ("Blue T-Shirt", "blue t shirt", False),
        ("Kite, red (large)", "KITE RED LARGE.", False),
        ("Nike\u2122 shoe", "Nike shoe", False),
        ("Kite 4.5 m", "Kite 45 m", True),
        ("Kite 4.5 m", "Kite 4.5m", False),
        ("Rope 1 0 m", "Rope 10 m", True),
        ("Juice 5%", "Juice 5", True),
        ('Screen 12"', "Screen 12", True),
        ("Range -5 C", "Range 5 C", True),
        ("Size 4, blue", "Size 4 blue", False),
        ("C++ book", "C book", True),
        (
            "\u0915\u093f\u0924\u093e\u092c",
            "\u0915\u0941\u0924\u093e\u092c",
            True,
        ),  # Another vowel sign is another word
        ("\uff2b\uff49\uff54\uff45", "kite", False),  # Full-width letters are letters
        ("Caf\u00e9", "Cafe\u0301", False),
        ("Caf\u00e9", "Cafe", True),
        (None, "Kite", True),
    ],
)
def test_an_edit_counts_where_it_changes_more_than_style(shown, edited, changes):
    assert edit_changes(shown, edited) is changes


def test_decisions():
    rows = pd.DataFrame({"item_id": list("abcd"), "suggestion": "Kite", "status": "filled", "rater": "ann"})
    rows = rows.assign(decision=["accept", "edit", "reject", "open"], title=[None, "kite!", None, None])
    np.testing.assert_array_equal(wrong_decisions(rows), [0, 0, 1, np.nan])
    np.testing.assert_array_equal(wrong_decisions(rows.assign(title="Bowl")), [0, 1, 1, np.nan])
    with pytest.raises(ValueError, match="must be one of accept, edit, reject, open"):
        wrong_decisions(rows.assign(decision="ok"))


def by_enumeration(x, n, population, level):
    "Every number of wrong ones whose two tails are above alpha/2, by counting subsets."
    total, kept = comb(population, n), []
    for k in range(population + 1):
        pmf = [comb(k, i) * comb(population - k, n - i) / total for i in range(n + 1)]
        if sum(pmf[: x + 1]) > (1 - level) / 2 and sum(pmf[x:]) > (1 - level) / 2:
            kept.append(k / population)
    return min(kept), max(kept)


@pytest.mark.parametrize(
    ("x", "n", "population"), [(0, 5, 12), (2, 6, 20), (6, 6, 20), (3, 12, 12), (1, 1, 30), (0, 50, 61)]
)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_exact_interval_by_enumeration(x, n, population, level):
    assert exact_share(x, n, population, level) == pytest.approx(by_enumeration(x, n, population, level))


def ppi_mean(y, f, f_other):
    "Power-tuned prediction-powered mean, as the paper and ppi-python have it; its variance for new draws."
    n, m = len(y), len(f_other)
    power = np.mean((y - y.mean()) * (f - f.mean())) / ((1 + n / m) * np.var(np.concatenate([f, f_other])))
    power = min(max(power, 0), 1)
    estimate = power * f_other.mean() + (y - power * f).mean()
    return estimate, power, power**2 * f_other.var() / m + (y - power * f).var() / n


@pytest.mark.parametrize("seed", range(4))
def test_prediction_powered_estimate_is_that_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(2, 1, 500)
    wrong = rng.random(500) > confidence
    at = rng.choice(500, 120, replace=False)
    shop, rest = shop_of(confidence), np.setdiff1d(np.arange(500), at)
    found = filled_error(reviews_of(shop, at, wrong[at], 120 / 500), shop)
    y, f = wrong[at].astype(float), 1 - confidence
    estimate, power, variance = ppi_mean(y, f[at], f[rest])
    assert found.method == "prediction-powered"
    assert found.estimate == pytest.approx(estimate, abs=1e-12)
    assert found.power == pytest.approx(power, abs=1e-12)
    from scipy.stats import t

    ours = ((found.high - found.low) / 2 / t.ppf(0.975, 118)) ** 2
    # The paper asks for the mean of all that could ever be drawn, which varies by var(y) / N around that of these N.
    assert ours + y.var() / 500 == pytest.approx(variance, rel=0.05)
    assert found.high - found.low < found.exact_high - found.exact_low


def test_worthless_predictions_do_no_harm():
    rng = np.random.default_rng(3)
    wrong, at = rng.random(600) < 0.4, np.arange(100)
    shop = shop_of(np.full(600, 0.7))
    found = filled_error(reviews_of(shop, at, wrong[at], 1 / 6), shop)
    assert (found.power, found.estimate) == (0, pytest.approx(wrong[at].mean()))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_intervals_cover(rate):
    "Of 80 samples of 50 from 300 filled ones, at least 95% less 2.6 Monte Carlo errors hold the truth."
    rng, covered, runs = np.random.default_rng(int(rate * 100)), 0, 80
    for _ in range(runs):
        f = np.clip(rate * rng.gamma(2, 0.5, 300), 0, 1)
        wrong = rng.random(300) < f
        shop, at = shop_of(1 - f), rng.choice(300, 50, replace=False)
        found = filled_error(reviews_of(shop, at, wrong[at], 50 / 300), shop)
        covered += found.low - 1e-12 <= wrong.mean() <= found.high + 1e-12
    assert covered / runs >= 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / runs)


def test_no_error_seen_is_no_proof_that_there_is_none():
    shop = shop_of(np.full(1000, 0.99))
    found = filled_error(reviews_of(shop, np.arange(50), np.zeros(50, dtype=bool), 0.05), shop)
    assert (found.estimate, found.low, found.method) == (0, 0, "exact")
    assert 0.05 < found.high < 0.08  # 1 - 0.025**(1/50) = 0.071 for an endless population
    all_seen = filled_error(reviews_of(shop, np.arange(1000), np.arange(1000) < 3, 1.0), shop)
    assert (all_seen.low, all_seen.high) == (0.003, 0.003)


def test_weights_are_one_over_the_probability():
    shop = shop_of(np.full(10, 0.9))
    found = filled_error(reviews_of(shop, [0, 1], [True, False], [0.5, 0.25]), shop)
    assert found.share == pytest.approx(
        2 / (2 + 4)
    )  # By hand: 2 rows stand behind the wrong one, 4 behind the other
    assert 0 <= found.exact_low < found.share < found.exact_high <= 1


def test_open_rows_are_missing_and_withheld_rows_do_not_count():
    shop = shop_of(np.full(30, 0.9), status=["filled"] * 20 + ["withheld"] * 10)
    reviews = reviews_of(shop, np.arange(10), np.zeros(10, dtype=bool), 0.5)
    reviews.loc[:3, "decision"] = "open"
    chosen = reviews_of(shop, np.arange(20, 30), np.ones(10, dtype=bool), np.nan, status="withheld")
    found = filled_error(pd.concat([reviews, chosen]), shop)
    assert (found.filled, found.reviewed, found.missing, found.wrong) == (20, 6, 4, 0)
    nothing = filled_error(reviews.assign(decision="open"), shop)
    assert nothing.method == "none" and np.isnan([nothing.estimate, nothing.low, nothing.exact_high]).all()


def test_several_raters_are_one_row():
    shop = shop_of(np.full(4, 0.9))
    reviews = reviews_of(shop, [0, 0, 0, 1, 1, 2], [True, False, False, True, False, True], 0.5)
    reviews["rater"] = ["a", "b", "c", "a", "b", "a"]
    reviews.loc[5, "decision"] = "open"
    assert sampled_rows(reviews, shop)["wrong"].tolist()[:2] == [0, 1]  # A majority, and a tie
    assert np.isnan(sampled_rows(reviews, shop)["wrong"][2])
    with pytest.raises(ValueError, match="several probabilities"):
        sampled_rows(reviews.assign(probability=np.linspace(0.1, 0.5, 6)), shop)


def test_what_a_spreadsheet_changes_is_no_other_title():
    shop = shop_of(np.full(3, 0.9)).assign(title="+49 Caf\u00e9  kite", suggestion="+49 Caf\u00e9  kite Acme")
    reviews = reviews_of(shop, [0], [False], 0.5, suggestion="'+49 Cafe\u0301 kite")
    assert filled_error(reviews, shop).reviewed == 1
    with pytest.raises(ValueError, match="was reviewed as 'Bowl'"):
        filled_error(reviews.assign(suggestion="Bowl"), shop)
