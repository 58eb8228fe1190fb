"""Sentences of claims, against data made to contradict each of them."""

import re

import numpy as np
import pandas as pd
import pytest
from simulated_scores import SIZES, simulated
from slope_rows import DOWN, OPEN, PLACE, UP, size, slope

from mmpc_analysis import tables
from mmpc_analysis.analysis import claims, conclusions, size_claims
from mmpc_analysis.report.claim_words import claim_sentences, claims_where, pair_words, size_words


def claim_rows(rows, make):
    made = [make(row) for _, row in rows.iterrows()]
    return tables.validate(pd.DataFrame(made), tables.CLAIMS)


def claims_of_size(slopes):
    made = [size_claims.size_claim(row) for _, row in slopes.iterrows()]
    single = slopes[slopes["category"].ne("all") & slopes["question"].eq("these_models")]
    made += [size_claims.size_by_category_claim(single)] if len(single) > 1 else []
    return tables.validate(pd.DataFrame(made), tables.CLAIMS)


def pairs(*kinds, margin=0.02):
    "Comparisons: a pair told apart either way, equal, both, neither, or untested."
    ends = {
        "first": (0.1, 0.05, 0.15), "second": (-0.2, -0.3, -0.1), "equal": (0.0, -0.01, 0.01),
        "neither": (0.01, -0.05, 0.07), "both": (0.01, 0.005, 0.015), "untested": (0.0, np.nan, np.nan),
    }  # fmt: skip
    rows = []
    for k, kind in enumerate(kinds):
        at, low, high = ends[kind]
        row = PLACE | {"category": "all", "model": f"m{k}", "other": f"n{k}", "n": 40, "method": "made"}
        row |= {"estimate": at, "low": low, "high": high, "low_joint": low, "high_joint": high}
        row |= {"p_max_t": np.nan if kind == "untested" else 0.5, "margin": margin}
        rows.append(row | {"verdict": "equivalent" if kind in ("equal", "both") else "undecided"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("kinds", "apart", "equal", "neither", "untested"),
    [
        (
            ("first", "equal", "neither"),
            "one is told apart",
            "One pair is shown",
            "One pair is neither",
            None,
        ),
        (("neither", "neither"), "none are told apart", None, "Two pairs are neither", None),
        (("both", "second"), "two are told apart", "One pair is shown to be equal", None, None),
        (("untested", "equal"), "none are told apart", "One pair is shown", None, "One pair allows no test"),
        (("untested", "untested"), "none are told apart", None, None, "Two pairs allow no test"),
    ],
)
def test_pair_words_count_what_is_shown_and_what_is_not(kinds, apart, equal, neither, untested):
    text = " ".join(pair_words(claim_rows(pairs(*kinds), claims.pair_claim)))
    for words, found in (
        (apart, "told apart by"), (equal, "shown to be equal within"), (neither, "neither told apart"), (untested, "no test"),
    ):  # fmt: skip
        assert (found in text) == (words is not None) and (words or "") in text
    assert ("no equality" in text) == (neither is not None)


def test_the_largest_difference_is_told_from_the_better_side():
    said = {
        kinds: " ".join(pair_words(claim_rows(pairs(*kinds), claims.pair_claim)))
        for kinds in (("first", "second"), ("first", "neither"), ("neither",))
    }
    assert "n1 over m1, 0.2 (0.1 to 0.3)" in said["first", "second"]
    assert "m0 over n0, 0.1 (0.05 to 0.15)" in said["first", "neither"]
    assert "largest" not in said[("neither",)]


@pytest.mark.parametrize(
    ("these", "general", "among", "in_general"),
    [
        (UP, OPEN, "the larger ones scored better", "whether larger models score better in general is open"),
        (DOWN, OPEN, "the larger ones scored worse", "whether larger models score better in general is open"),
        (UP, UP, "the larger ones scored better", "larger models of these families score better in general"),
        (
            DOWN,
            DOWN,
            "the larger ones scored worse",
            "larger models of these families score worse in general",
        ),
        (OPEN, OPEN, "whether the larger ones of a family score better is open", "in general is open"),
        (
            OPEN,
            UP,
            "whether the larger ones of a family score better is open",
            "families score better in general",
        ),
    ],
)
def test_sentences_of_size_follow_both_answers(these, general, among, in_general):
    first, second = claim_sentences(claims_of_size(size(these, general)))
    assert among in first and in_general in second
    for words in ("scored better", "scored worse", "families score better", "families score worse"):
        assert (words in first + second) == (words in among + " " + in_general), words
    assert ("cannot show either" in second) == (general == OPEN)


def test_on_an_error_a_falling_line_means_better():
    first = claim_sentences(claims_of_size(size(DOWN, OPEN, metric="mse")))[0]
    assert "larger ones scored better" in first and "lower is better" in first
    assert "larger ones scored worse" in claim_sentences(claims_of_size(size(UP, OPEN, metric="mse")))[0]


def test_a_claim_rests_on_the_corrected_p_value():
    rows = size(UP, UP)
    rows["p_adjusted"] = 0.2
    first, second = claim_sentences(claims_of_size(rows))
    assert "is open" in first and "is open" in second and "Holm, 2 tests" in first
    assert "scored" not in claim_sentences(claims_of_size(rows.assign(p_adjusted=np.nan)))[0]


def test_few_models_cannot_show_that_size_does_not_matter_and_many_can():
    few = size_claims.size_claim(pd.Series(slope("scale_in_general", 0.0, -0.1, 0.1, 0.9)))
    assert few["verdict"] == "open" and '"needed": 32' in few["detail"]
    many = pd.Series(slope("scale_in_general", 1e-6, -0.1, 0.1, 0.9, models=400, families=2, dof=397.0))
    assert size_claims.size_claim(many)["verdict"] == "no matter"
    away = many.copy()
    away["estimate"] = 6 * away["standard_error"]
    assert size_claims.size_claim(away)["verdict"] == "open"


def test_three_models_of_two_families_leave_nothing_to_say_in_general():
    scores = simulated(items=10, sizes={n: SIZES[n] for n in ("a-s", "a-l", "b-s")})
    slopes = conclusions.slope_table(scores).query("category == 'all'")
    second = claim_sentences(claims_where(claims_of_size(slopes), "size_in_general"))[0]
    assert "nothing can be said" in second and "score better" not in second


def forest(sides, general=OPEN):
    rows = [slope("these_models", *side, category=f"c{k}") for k, side in enumerate(sides)]
    return claims_of_size(
        pd.DataFrame(
            rows + [slope("scale_in_general", *general, category=f"c{k}") for k in range(len(sides))]
        )
    )


@pytest.mark.parametrize(
    ("sides", "counts", "differ"),
    [
        ([UP, UP, OPEN], "models score better in two, and in one it is open.", False),
        ([UP, DOWN, OPEN], "models score better in one and worse in one, and in one it is open.", True),
        (
            [OPEN, OPEN, OPEN],
            "In none of three categories is it shown that larger ones of these models",
            False,
        ),
        ([DOWN, DOWN], "Of two categories, larger ones of these models score worse in two.", False),
    ],
)
def test_categories_are_counted_and_judged_together(sides, counts, differ):
    said = size_words(forest(sides))
    assert counts in said[0] and ("differs between" in said[2]) == differ != (
        "not shown to differ" in said[2]
    )
    assert "as the sample larger ones score better or worse" in said[1]
    assert f"score better in {({2: 'two', 3: 'three'})[len(sides)]}" in size_words(forest(sides, UP))[1]


def test_claims_from_real_tables_agree_with_what_was_simulated():
    "No effect, a strong effect with equal models, and a strong effect among models that differ as much."
    said = {}
    for name, (rise, spread) in {"none": (0.0, 0.0), "law": (0.2, 0.0), "six": (0.1, 0.15)}.items():
        slopes = conclusions.slope_table(simulated(slope=rise, model=spread, items=60, seed=11))
        said[name] = (
            claims_of_size(slopes[slopes["category"] == "all"]).set_index("question")["verdict"].to_dict()
        )
    assert said["none"]["size"] == "open" and said["law"] == {"size": "better", "size_in_general": "better"}
    assert said["six"]["size_in_general"] == "open" != said["six"]["size"]


def test_no_sentence_has_an_unfilled_field():
    scores = simulated(items=20, model=0.05)
    slopes = conclusions.slope_table(scores)
    for sentence in claim_sentences(claims_of_size(slopes)):
        assert not re.search(r"[{}]|nan|None|unknown", sentence), sentence
