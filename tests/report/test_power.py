"""Sentences and curves of power, against data made to contradict them."""

import numpy as np
import pandas as pd
import pytest
from simulated_scores import simulated_conclusions
from slope_rows import PLACE

from mmpc_analysis.report.power import power_curves, power_words


@pytest.fixture(scope="module")
def made():
    return simulated_conclusions()


def powered(least, **more):
    "Detectable effects of the designs (question, models, items)."
    rows = [
        PLACE
        | {
            "category": "all",
            "question": q,
            "models": m,
            "items": n,
            "effect": 0.0,
            "power": 0.05,
            "detectable": d,
        }
        for (q, m, n), d in least.items()
    ]
    return pd.DataFrame(rows)


DESIGNS = {
    ("these_models", 2, 100): 0.04, ("these_models", 2, 400): 0.02,
    ("scale_in_general", 6, 100): 0.05, ("scale_in_general", 6, 400): 0.045, ("scale_in_general", 12, 100): 0.03,
}  # fmt: skip


def test_power_words_say_what_can_be_seen_and_nothing_of_what_was():
    said = power_words(powered(DESIGNS))
    assert (
        said[0]
        == "In chrf 80% of studies tell two models apart that differ by 0.04 on 100 products, or by 0.02 on 400 products."
    )
    assert (
        "six models need a slope of 0.05" in said[1]
        and "400 products 0.045" in said[1]
        and "12 models 0.03" in said[1]
    )
    assert len(said) == 2 and "observed" not in " ".join(said)


def test_power_words_of_a_study_without_a_degree_of_freedom():
    never = powered(DESIGNS | {("scale_in_general", 6, 100): np.inf, ("scale_in_general", 6, 400): np.inf})
    said = power_words(never)
    assert "find no effect however large" in said[1] and "400 products never" in said[1] and len(said) == 2
    two = {k: v for k, v in DESIGNS.items() if k[0] == "these_models"}
    assert len(power_words(powered(two))) == 1
    assert "cannot be simulated" in power_words(powered(DESIGNS).head(0))[0]


def test_curves_of_power_show_the_table_and_compute_nothing(made):
    at = ("image_to_text", "chrf")
    curves = power_curves(made["powers"], *at)
    assert sum(len(c.y) for c in curves.data) == len(made["powers"])
    assert sorted(y for c in curves.data for y in c.y) == sorted(made["powers"]["power"])
