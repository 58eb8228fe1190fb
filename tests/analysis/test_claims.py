"""Claims are what their tables bear, and are false no more often than they say: an audit that is redrawn here in part."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from simulated_scores import answered, simulated

from mmpc_analysis.analysis.claims import analysis_tables
from mmpc_analysis.analysis.headlines import headline_averages
from mmpc_analysis.analysis.size_claims import welch_p
from mmpc_analysis.analysis.statements import CLAIM_QUESTIONS, SILENT, STATEMENTS

sys.path.insert(0, str(ROOT / "tools" / "experiments"))
import audit_claims
from code_fingerprint import code_fingerprint, source_fingerprint

AUDIT = json.loads((ROOT / "tests/data/analysis/audit.json").read_text("utf-8"))
OUTSIDE = {
    ("equal", "size_by_category"),
    ("models vary", "size_by_category"),
}  # Above the limit; the page on claims prints it
KINDS = [(world, kind) for world, kinds in AUDIT["shares"].items() for kind in kinds]


def test_every_verdict_belongs_to_a_question_and_asserts_something_or_nothing():
    assert {question for question, _ in {*STATEMENTS} | SILENT} == set(CLAIM_QUESTIONS)
    assert not set(STATEMENTS) & SILENT and all(STATEMENTS.values())


def test_every_statement_is_audited():
    "Levels have null studies of their own, in test_levels."
    assert {key for key in STATEMENTS if key[0] != "level"} == set(audit_claims.HOLDS)


def test_the_audit_is_of_this_code():
    assert AUDIT["code"] == code_fingerprint(*audit_claims.CODE), (
        "the pages that make claims compute something else than when they were audited; run tools/experiments/audit_claims.py"
    )


@pytest.mark.parametrize("world", list(audit_claims.WORLDS))
def test_a_fiftieth_of_the_audit_is_redrawn_exactly(world):
    digests = AUDIT["digests"][world].split()
    assert len(digests) == AUDIT["studies"]
    for number in range(0, len(digests), 50):
        assert audit_claims.claims_of(world, number)[0] == digests[number]


@pytest.mark.parametrize(("world", "kind"), KINDS)
def test_a_kind_of_claim_is_false_in_at_most_a_twentieth_of_studies(world, kind):
    row = AUDIT["shares"][world][kind]
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / row["studies"])
    assert (row["false"] <= limit) == ((world, kind) not in OUTSIDE)


def test_claims_are_made_where_there_is_something_to_find():
    apart = AUDIT["shares"]["apart"]
    for kind in ("best", "floor", "pair", "size", "category", "cost", "size_by_category"):
        assert apart[kind]["claimed"] >= 0.8, kind


def test_the_fingerprint_is_of_code_and_not_of_words():
    code = 'def f(x: int, y=2) -> int:\n    "doc"\n    total = 0  # why\n    for item in x:\n        total += item * y\n    return total\n'
    same = (
        code.replace("total", "whole")
        .replace('"doc"', '"other"')
        .replace("item", "thing")
        .replace(": int", "")
    )
    assert source_fingerprint(code) == source_fingerprint(same)
    for old, new in (
        ("* y", "+ y"),
        ("y=2", "y=3"),
        ("+=", "-="),
        ("return total", "return item"),
        ("x", "z"),
    ):
        assert source_fingerprint(code) != source_fingerprint(code.replace(old, new))


def test_welch_is_the_test_of_statsmodels():
    from statsmodels.stats.oneway import anova_oneway

    rng = np.random.default_rng(0)
    samples = [rng.normal(m, s, n) for m, s, n in ((0, 1, 5), (0.5, 3, 12), (0.2, 0.5, 30), (1, 2, 8))]
    means, errors, dof = np.array([(x.mean(), x.std(ddof=1) / len(x) ** 0.5, len(x) - 1) for x in samples]).T
    assert welch_p(means, errors, dof) == pytest.approx(
        anova_oneway(samples, use_var="unequal").pvalue, rel=1e-9
    )
    assert np.isnan(welch_p(means[:1], errors[:1], dof[:1]))


def claims_of(scores):
    makers = analysis_tables(scores, answered(scores), headline_averages(scores), draws=99)
    return makers["claims"]()


def test_two_families_that_each_rise_are_one_claim_whatever_the_pooled_sign():
    "In each family larger is better; the family of larger models is worse, so the pooled sign is negative."
    sizes = {"a-s": 1e9, "a-m": 2e9, "a-l": 4e9, "b-s": 3e10, "b-m": 6e10, "b-l": 1.2e11}
    scores = simulated(slope=0.3, items=40, sizes=sizes, noise=0.05)
    scores["value"] -= np.where(scores["family"] == "b", 0.6, 0.0)
    means = scores.groupby("model")["value"].mean()
    assert pd.Series(sizes).corr(means, method="spearman") < 0
    found = claims_of(scores)
    assert found.query("question == 'size' and category == 'all'")["verdict"].tolist() == ["better"]


def test_a_claim_names_the_rows_it_rests_on():
    found = claims_of(simulated(items=20))
    for _, row in found.iterrows():
        table, place = row["rests_on"].split(": ")
        assert f"metric={row['metric']}" in place and f"category={row['category']}" in place
        assert table in (
            "averages",
            "comparisons",
            "floor_gains",
            "slopes",
            "scores",
            "variances",
            "decisions",
            "lost",
        )
        assert isinstance(json.loads(row["detail"]), dict)
