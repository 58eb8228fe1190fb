"""Claims of alignment say what their table bears and nothing else, and are seldom false: an audit that is redrawn here in part."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis import tables
from mmpc_analysis.alignment.alignment_claims import (
    ALIGNED_QUESTION,
    ALIGNMENT_QUESTIONS,
    ALIGNMENT_SILENT,
    ALIGNMENT_STATEMENTS,
    alignment_claims,
)
from mmpc_analysis.analysis.multiplicity import holm

sys.path.insert(0, str(ROOT / "tools" / "experiments"))
import alignment_null
from code_fingerprint import code_fingerprint

AUDIT = json.loads((ROOT / "tests/data/alignment/alignment_null.json").read_text("utf-8"))
VERDICTS = ("better", "worse", "equivalent", "not shown", "one seed")


def effect(
    verdict, treatment="grpo", against="before", metric="minilm_retrieval", task="image_to_text", **other
):
    "A row of the effects that bears its verdict."
    numbers = {
        "better": (0.1, 0.05, 0.15, 0.01, 1.0),
        "worse": (-0.1, -0.15, -0.05, 0.01, 1.0),
        "equivalent": (0.001, -0.01, 0.01, 0.6, 0.01),
        "not shown": (0.03, -0.05, 0.11, 0.3, 0.6),
        "one seed": (0.1, 0.05, 0.15, np.nan, np.nan),
        "trained on": (0.3, 0.2, 0.4, np.nan, np.nan),
    }[verdict]
    row = dict(zip(("estimate", "low", "high", "p_adjusted", "p_equivalent"), numbers, strict=True))
    row |= {
        "task": task,
        "category": "all",
        "metric": metric,
        "level": "semantic",
        "base": "start",
        "treatment": treatment,
        "against": against,
    }
    row |= {
        "trained_on": "reward" if verdict == "trained on" else "",
        "question": "this_training" if verdict == "one seed" else "change",
    }
    row |= {
        "term": "t",
        "p_value": row["p_adjusted"],
        "n": 110,
        "method": "made",
        "seeds": 3,
        "margin": 0.02,
        "verdict": verdict,
    }
    return (
        row
        | {"before": 0.3, "after": 0.3 + row["estimate"], "items": 150, "left_out": 2, "witness": True}
        | other
    )


def claims_of(*rows, **how):
    return alignment_claims(pd.DataFrame(list(rows)), **how)


# ---------------------------------------------------------------- what is said


def test_every_verdict_belongs_to_a_question_and_asserts_something_or_nothing():
    assert not set(ALIGNMENT_STATEMENTS) & ALIGNMENT_SILENT
    assert {*ALIGNMENT_STATEMENTS} | ALIGNMENT_SILENT == {
        (q, v) for q in ALIGNMENT_QUESTIONS for v in VERDICTS
    }
    assert set(ALIGNED_QUESTION) == set(tables.TASKS)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("task", list(tables.TASKS))
def test_a_claim_has_the_verdict_and_numbers_of_its_row(verdict, task):
    row = effect(verdict, task=task)
    found = claims_of(row).iloc[0]
    assert (found["question"], found["verdict"]) == (ALIGNED_QUESTION[task], verdict)
    assert (found["subject"], found["other"], found["n"]) == ("start-grpo", "before", 110)
    assert tuple(found[["estimate", "low", "high"]]) == (row["estimate"], row["low"], row["high"])
    p = row["p_equivalent"] if verdict == "equivalent" else row["p_adjusted"]
    assert found["p_value"] == p or np.isnan([found["p_value"], p]).all()
    detail = json.loads(found["detail"])
    assert (detail["base"], detail["treatment"], detail["seeds"], detail["margin"]) == (
        "start",
        "grpo",
        3,
        0.02,
    )
    assert (detail["items"], detail["left_out"]) == (150, 2)


def test_metrics_that_disagree_are_both_told():
    found = claims_of(
        effect("better"), effect("worse", metric="brand_hit"), effect("not shown", metric="clip_score")
    )
    assert found.set_index("metric")["verdict"].to_dict() == {
        "minilm_retrieval": "better",
        "brand_hit": "worse",
        "clip_score": "not shown",
    }


def test_a_gain_that_is_too_small_to_matter_says_so():
    small = effect("better", estimate=0.01, low=0.005, high=0.015, p_equivalent=0.01)
    assert json.loads(claims_of(small)["detail"].iloc[0])["within_margin"] is True
    assert json.loads(claims_of(effect("better"))["detail"].iloc[0])["within_margin"] is False


def test_a_control_that_wins_is_told_beside_one_that_loses():
    found = claims_of(
        effect("better"), effect("better", "supervised"), effect("worse", "examples"),
        effect("worse", against="supervised"), effect("better", against="examples"),
    )  # fmt: skip
    controls = found[found["question"] == "beats_control"].set_index("other")
    assert controls["verdict"].to_dict() == {"supervised": "worse", "examples": "better"}
    details = controls["detail"].map(json.loads)
    assert details["supervised"]["best_control"] and not details["examples"]["best_control"]
    assert (details["supervised"]["control_verdict"], details["examples"]["control_verdict"]) == (
        "better",
        "worse",
    )
    assert details["examples"]["control_estimate"] == -0.1


def test_no_claim_rests_on_a_rewarded_metric_or_on_one_that_is_no_witness():
    assert claims_of(effect("trained on"), effect("better", metric="brand_hit", witness=False)).empty
    found = claims_of(effect("trained on", metric="chrf"), effect("not shown"))
    assert found["metric"].tolist() == ["minilm_retrieval"] and found["verdict"].tolist() == ["not shown"]


def test_other_treatments_speak_when_they_are_asked():
    rows = effect("better"), effect("worse", "strip_filler")
    assert claims_of(*rows)["subject"].tolist() == ["start-grpo"]
    assert sorted(claims_of(*rows, treatments=("grpo", "strip_filler"))["subject"]) == [
        "start-grpo",
        "start-strip_filler",
    ]


def test_two_starts_have_claims_of_their_own():
    found = claims_of(effect("better"), effect("worse", base="other"))
    assert found.set_index("subject")["verdict"].to_dict() == {"start-grpo": "better", "other-grpo": "worse"}


def test_guards_go_with_a_claim():
    alarms = pd.DataFrame(
        [
            ("image_to_text", "start", "grpo", s, t, "entropy", 0.1, 0.2, a)
            for s, t, a in ((0, 10, "warned"), (1, 10, "warned"), (1, 20, "stopped"))
        ]
        + [("image_to_text", "other", "grpo", 2, 5, "entropy", 0.1, 0.2, "stopped")],
        columns=tables.ALARMS.names,
    )
    checks = pd.DataFrame(
        {
            "task": "image_to_text",
            "base": ["start", "start", "other"],
            "verdict": ["fine", "doubtful", "hopeless"],
        }
    )
    detail = json.loads(claims_of(effect("better"), checks=checks, alarms=alarms)["detail"].iloc[0])
    assert (detail["warned"], detail["stopped"], detail["check"]) == (1, 1, "doubtful")
    plain = json.loads(claims_of(effect("better"))["detail"].iloc[0])
    assert not {"warned", "stopped", "check"} & set(plain)


def test_categories_are_silent_unless_asked_and_then_corrected_together():
    rows = [
        effect("not shown", category=f"c{k}", p_value=p, low=0.01, p_adjusted=0.2)
        for k, p in enumerate((0.001, 0.02, 0.04, 0.9))
    ]
    assert set(claims_of(effect("not shown"), *rows)["category"]) == {"all"}
    found = claims_of(effect("not shown"), *rows, categories=True).set_index("category")
    assert found["verdict"].to_dict() == {
        "all": "not shown",
        "c0": "better",
        "c1": "not shown",
        "c2": "not shown",
        "c3": "not shown",
    }
    np.testing.assert_allclose(found["p_value"].iloc[1:], holm(np.array([0.001, 0.02, 0.04, 0.9])))


# ---------------------------------------------------------------- tables that contradict themselves


@pytest.mark.parametrize(
    ("verdict", "change"),
    [
        ("better", {"low": -0.01}),
        ("better", {"p_adjusted": 0.2}),
        ("better", {"estimate": -0.1, "low": -0.15, "high": -0.05}),
        ("better", {"p_adjusted": np.nan}),
        ("better", {"low": np.nan}),
        ("worse", {"high": 0.01}),
        ("worse", {"p_adjusted": 0.2}),
        ("equivalent", {"p_equivalent": 0.2}),
        ("equivalent", {"p_equivalent": np.nan}),
        ("better", {"trained_on": "reward"}),
        ("not shown", {"trained_on": "same words"}),
        ("trained on", {"trained_on": ""}),
    ],
)
def test_a_verdict_that_its_numbers_do_not_bear_is_refused(verdict, change):
    assert len(claims_of(effect(verdict))) == (verdict != "trained on")
    with pytest.raises(ValueError, match="does not go with its numbers"):
        claims_of(effect(verdict, **change))


def test_random_tables_make_no_claim_against_their_numbers():
    rng = np.random.default_rng(0)
    rows = []
    for k in range(300):
        row = effect(
            rng.choice([*VERDICTS, "trained on"]), metric=f"m{k}", task=rng.choice(list(tables.TASKS))
        )
        rows.append(row | {"witness": bool(rng.random() < 0.8)})
    found, known = claims_of(*rows), pd.DataFrame(rows).set_index("metric")
    assert set(found["metric"]) == set(known.index[known["witness"] & (known["trained_on"] == "")])
    for _, row in found.iterrows():
        assert row["verdict"] == known.loc[row["metric"], "verdict"]
        assert row["verdict"] != "better" or row["low"] > 0
        assert row["verdict"] != "worse" or row["high"] < 0


# ---------------------------------------------------------------- the audit


def test_the_audit_is_of_this_code():
    assert AUDIT["code"] == code_fingerprint(*alignment_null.CODE), (
        "what makes claims of alignment computes something else than when it was audited; run tools/experiments/alignment_null.py"
    )


@pytest.mark.parametrize("world", list(alignment_null.WORLDS))
def test_the_first_study_of_each_world_is_redrawn_exactly(world):
    assert alignment_null.digest(alignment_null.claims_of(world, 0)) == AUDIT["first"][world]


@pytest.mark.parametrize(
    "row", AUDIT["claims"], ids=lambda r: f"{r['world']}-{r['question']}-{r['verdict']}-{r['of categories']}"
)
def test_a_kind_of_claim_is_false_in_at_most_a_twentieth(row):
    assert row["families"] >= 150
    assert row["false"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / row["families"])


def test_every_statement_is_audited_in_every_world():
    kinds = {(r["world"], r["question"], r["verdict"]) for r in AUDIT["claims"] if not r["of categories"]}
    assert kinds == {(world, *key) for world in alignment_null.WORLDS for key in ALIGNMENT_STATEMENTS}


def test_claims_are_made_where_there_is_something_to_find():
    found = {
        (r["question"], r["verdict"]): r
        for r in AUDIT["claims"]
        if r["world"] == "better titles, same pictures" and not r["of categories"]
    }
    assert found["titles_aligned", "better"]["claimed"] >= 0.95
    assert found["pictures_aligned", "equivalent"]["claimed"] >= 0.5
    assert found["beats_control", "better"]["claimed"] >= 0.45  # Half of the families are about pictures
