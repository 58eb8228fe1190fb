"A threshold set anew keeps its promise, and those who test it did not choose it."

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.fill.new_thresholds import new_threshold
from mmpc_analysis.store import hash_unit


def population(rng, known=300, gaps=400, reviewed=200, shift=0.0):
    "Known products and filled gaps whose titles are wrong with a known probability, which shift adds to for gaps."
    n = known + gaps
    shop = pd.DataFrame({"item_id": [f"i{k}" for k in range(n)], "confidence": rng.uniform(0.6, 1, n)})
    shop = shop.assign(
        category="Kites", known=np.arange(n) < known, model="m", precision="", prompt="p", key="k"
    )
    shop = shop.assign(
        outcome="ok", suggestion="Kite", title="Kite", status=np.where(shop["known"], "known", "filled")
    )
    risk = np.clip(0.25 * (1 - shop["confidence"].to_numpy()) + shift * ~shop["known"].to_numpy(), 0, 1)
    wrong = rng.random(n) < risk
    labels = pd.DataFrame(
        {"item_id": shop["item_id"][:known], "risk": "title", "wrong": wrong[:known].astype(float)}
    )
    at = known + rng.choice(gaps, reviewed, replace=False)
    reviews = pd.DataFrame(
        {"item_id": shop["item_id"].to_numpy()[at], "suggestion": "Kite", "status": "filled"}
    )
    reviews = reviews.assign(probability=reviewed / gaps, decision=np.where(wrong[at], "reject", "accept"))
    return shop, reviews, labels, risk


@pytest.mark.parametrize(("shift", "with_labels"), [(0.0, True), (0.0, False), (0.15, False)])
def test_the_promise_is_broken_in_at_most_the_named_share(shift, with_labels):
    rng, broken, runs = np.random.default_rng(7), 0, 25
    for run in range(runs):
        shop, reviews, labels, risk = population(rng, shift=shift)
        found = new_threshold(shop, reviews, 0.05, 0.9, labels if with_labels else None, seed=run)
        at = ~shop["known"] & (shop["confidence"] >= found.threshold)
        broken += at.any() and risk[at].mean() > 0.05
    assert broken / runs <= 0.1 + 2.6 * np.sqrt(0.1 * 0.9 / runs)


def test_the_bound_is_that_of_the_rows_that_did_not_choose():
    from scipy.stats import binomtest

    shop, reviews, labels, _ = population(np.random.default_rng(1))
    found = new_threshold(shop, reviews, 0.05, 0.9, labels, seed=3)
    exact = binomtest(found.wrong, found.accepted, alternative="less").proportion_ci(0.9, method="exact").high
    assert found.high == pytest.approx(exact)
    testing = [hash_unit(3, "half", item) >= 0.5 for item in reviews["item_id"]]
    above = reviews["item_id"].map(shop.set_index("item_id")["confidence"]) >= found.chosen
    assert found.reviewed == int((np.array(testing) & above).sum())
    flipped = reviews.assign(decision=np.where(testing, "reject", reviews["decision"]))
    other = new_threshold(shop, flipped, 0.05, 0.9, labels, seed=3)
    assert other.chosen == found.chosen  # Their decisions have no say in the choice
    assert other.rests_on == "nothing" and np.isnan(other.threshold)


def test_half_of_a_family_never_tests_what_the_other_half_chose():
    shop, reviews, labels, _ = population(np.random.default_rng(2))
    one = new_threshold(shop.assign(parent_id="one family"), reviews, 0.05, 0.9, labels)
    assert one.choosing in (0, len(reviews) + len(labels))


def test_never_laxer_than_before_and_nothing_without_filled_rows():
    shop, reviews, labels, _ = population(np.random.default_rng(4))
    labels["wrong"] = 0.0
    shop.loc[:100, "confidence"] = 0.1
    found = new_threshold(shop, reviews.assign(decision="accept"), 0.05, 0.9, labels)
    assert found.threshold >= shop.loc[shop["status"].eq("filled"), "confidence"].min()
    withheld = shop.assign(status=np.where(shop["known"], "known", "withheld"))
    nothing = new_threshold(withheld, reviews[:0], 0.05, 0.9, labels)
    assert (nothing.rests_on, nothing.filled, nothing.accepted) == ("nothing", 0, 0)


def test_uneven_probabilities_are_thinned():
    shop, reviews, _, _ = population(np.random.default_rng(5), reviewed=400)
    uneven = reviews.assign(decision="accept", probability=np.where(np.arange(400) < 200, 1.0, 0.25))
    found = new_threshold(shop, uneven, 0.05, 0.9)
    even = new_threshold(shop, reviews.assign(decision="accept"), 0.05, 0.9)
    assert 0.45 < found.accepted / even.accepted < 0.8  # A quarter of one half and all of the other: 5/8
