"Corrections for many tests against R, statsmodels and their definitions."

import json

import numpy as np
import pandas as pd
import pytest
from correlation_cases import DATA
from statsmodels.stats.multitest import multipletests

from mmpc_analysis.analysis.multiplicity import adjust_p_values, benjamini_hochberg, holm, max_t


def test_holm_equals_statsmodels():
    rng = np.random.default_rng(1)
    p = rng.uniform(0, 0.2, 25)
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_a_test_that_was_not_made_is_kept_and_not_counted(correct):
    p = np.random.default_rng(1).uniform(0, 0.2, 25)
    gap = np.insert(p, 4, np.nan)
    np.testing.assert_array_equal(np.delete(correct(gap), 4), correct(p))
    assert np.isnan(correct(gap)[4]) and len(correct([])) == 0 and np.isnan(correct([np.nan])).all()


def test_benjamini_and_hochberg_is_what_its_definition_says():
    "The least of p * m / rank over the p-values that are not smaller, ties and ones included."
    rng = np.random.default_rng(2)
    for digits in (1, 2, 16):
        p = np.round(rng.uniform(size=30) ** 2, digits)
        least = [min(q * len(p) / (p <= q).sum() for q in p[p >= own]) for own in p]
        np.testing.assert_allclose(benjamini_hochberg(p), least, atol=1e-12, rtol=0)


ADJUSTED = json.loads((DATA / "comparison/r.json").read_text())["p_adjust"]


@pytest.mark.parametrize("case", ADJUSTED, ids=range(len(ADJUSTED)))
def test_corrections_equal_r(case):
    p = np.array(case["p"], float)
    np.testing.assert_allclose(holm(p), np.array(case["holm"], float), atol=1e-12)
    np.testing.assert_allclose(benjamini_hochberg(p), np.array(case["benjamini_hochberg"], float), atol=1e-12)


def test_correction_says_what_it_was_and_among_how_many():
    rows = pd.DataFrame({"p_value": [0.01, 0.02, np.nan, 0.03, 0.04], "term": list("xxxxy")})
    out = adjust_p_values(rows, [True, False, True, True, True], apart=("term",))
    assert out["correction"].tolist() == [
        "holm, 2 tests",
        "benjamini_hochberg, 1 test",
        "none",
        "holm, 2 tests",
        "holm, 1 test",
    ]
    np.testing.assert_allclose(out["p_adjusted"], [0.02, 0.02, np.nan, 0.03, 0.04])
    assert "p_adjusted" not in rows


def test_max_t_by_a_plain_loop_and_its_interval_agrees_with_its_p():
    rng = np.random.default_rng(0)
    t, drawn = rng.normal(0, 2, 7), rng.normal(size=(999, 7))
    found = max_t(t, drawn)
    wanted = [(1 + sum(max(abs(v) for v in row) >= abs(value) for row in drawn)) / 1000 for value in t]
    np.testing.assert_allclose(found.p_adjusted, wanted)
    np.testing.assert_array_equal(found.p_adjusted <= 0.05, np.abs(t) >= found.critical)
    gap = max_t(np.append(t, np.nan), np.column_stack([drawn, np.full(999, np.nan)]))
    np.testing.assert_allclose(gap.p_adjusted[:7], wanted)
    assert gap.critical == found.critical and np.isnan(gap.p_adjusted[7])
    assert np.isnan(max_t([np.nan], np.full((9, 1), np.nan)).critical)
