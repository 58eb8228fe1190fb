"""Sentences and bars of what varies, against data made to contradict them."""

import pandas as pd
import pytest
from simulated_scores import simulated_conclusions
from slope_rows import PLACE

from mmpc_analysis.analysis.claims import variance_claim
from mmpc_analysis.report.variation import variance_bars, variance_words
from mmpc_analysis.tables import CLAIMS, validate


@pytest.fixture(scope="module")
def made():
    return simulated_conclusions()


def varied(shares, low=0.0, high=0.03, estimate=0.01):
    rows = [
        PLACE | {"term": term, "share": s, "estimate": estimate, "low": low, "high": high, "n": 6}
        for term, s in shares.items()
    ]
    return pd.DataFrame(rows)


def test_variance_words_name_the_largest_two_and_the_models():
    said = variance_words(varied({"item": 0.6, "residual": 0.3, "model": 0.1}))
    assert "60% of the variance of chrf lies between products and 30% in one model on one product" in said[0]
    turned = variance_words(varied({"item": 0.05, "residual": 0.25, "model": 0.7}))
    assert "70% of the variance of chrf lies between models of one family and size and 25%" in turned[0]
    for low, words in ((0.0, "may not differ at all"), (0.005, "0.01 (0.005 to 0.03)")):
        rows = varied({"item": 0.6, "residual": 0.3, "model": 0.1}, low=low).assign(
            category="all", method="made"
        )
        claim = pd.DataFrame([variance_claim(rows.iloc[2])])
        assert words in variance_words(rows, validate(claim, CLAIMS))[1]
    assert "too few models" in variance_words(varied({"item": 1.0}).head(0))[0]


def test_bars_of_variance_show_the_table_and_compute_nothing(made):
    at = ("image_to_text", "chrf")
    bars = variance_bars(made["variances"], *at).data[0]
    assert sorted(bars.x) == sorted(made["variances"]["estimate"])
