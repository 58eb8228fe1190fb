"""Sentences and figures about slopes, against data made to contradict each of their claims."""

import re

import numpy as np
import pandas as pd
import pytest
from hostile_shop import hostile_run
from simulated_scores import SIZES, simulated, simulated_conclusions
from slope_rows import DOWN, OPEN, UP, size, slope

from mmpc_analysis.analysis import conclusions
from mmpc_analysis.report.size import category_words, equality_words, scale_lines, scale_words, slope_forest


@pytest.fixture(scope="module")
def made():
    return simulated_conclusions()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


def test_three_models_of_two_families_leave_nothing_to_say_in_general():
    scores = simulated(items=10, sizes={n: SIZES[n] for n in ("a-s", "a-l", "b-s")})
    slopes = conclusions.slope_table(scores).query("category == 'all'").set_index("question")
    assert np.isfinite(slopes["low"]["these_models"]) and np.isnan(slopes["low"]["scale_in_general"])
    assert "nothing can be said" in scale_words(slopes.reset_index())[1]
    assert "in general" not in " ".join(scale_words(slopes.reset_index()))


@pytest.mark.parametrize(
    ("these", "general", "among", "in_general", "together"),
    [
        (
            UP,
            OPEN,
            "larger models scored better",
            "no evidence about size in general",
            "whether other models would is open",
        ),
        (
            DOWN,
            OPEN,
            "larger models scored worse",
            "no evidence about size in general",
            "whether other models would is open",
        ),
        (UP, UP, "larger models scored better", "score better in general", "same answer"),
        (DOWN, DOWN, "larger models scored worse", "score worse in general", "same answer"),
        (
            OPEN,
            OPEN,
            "other products could turn the order",
            "no evidence about size in general",
            "is evidence that size makes no difference",
        ),
        (
            OPEN,
            UP,
            "other products could turn the order",
            "score better in general",
            "more closely than chance",
        ),
    ],
)
def test_scale_words_follow_both_answers(these, general, among, in_general, together):
    said = scale_words(size(these, general))
    for sentence, words in zip(said, (among, in_general, together), strict=False):
        assert words in sentence
    everything = {
        "larger models scored better", "larger models scored worse", "other products could turn the order",
        "no evidence about size", "score better in general", "score worse in general", "same answer",
        "whether other models would is open", "more closely than chance", "Neither answer is evidence",
    }  # fmt: skip
    text = " ".join(said)
    for words in everything:
        assert (words in text) == any(
            words in w or w in words
            for w in (
                among,
                in_general,
                together,
                "Neither answer is evidence" if these == general == OPEN else among,
            )
        ), words
    assert ("cannot show either" in text) == (general == OPEN)


def test_on_an_error_a_falling_line_means_better():
    assert "larger models scored better" in scale_words(size(DOWN, OPEN, metric="mse"))[0]
    assert "larger models scored worse" in scale_words(size(UP, OPEN, metric="mse"))[0]


def test_a_claim_rests_on_the_corrected_p_value():
    rows = size(UP, UP)
    rows["p_adjusted"] = 0.2
    assert "could turn the order" in scale_words(rows)[0] and "no evidence" in scale_words(rows)[1]
    assert "Holm, 2 tests" in scale_words(rows)[0]
    assert "larger" not in scale_words(rows.assign(p_adjusted=np.nan))[0]


def test_few_models_cannot_show_equality_and_many_can():
    few = pd.Series(slope("scale_in_general", 0.0, -0.1, 0.1, 0.9))
    assert "cannot show either" in equality_words(few) and "32 models" in equality_words(few)
    many = pd.Series(slope("scale_in_general", 1e-6, -0.1, 0.1, 0.9, models=400, families=2, dof=397.0))
    assert "is shown that the correlation" in equality_words(many)
    away = many.copy()
    away["estimate"] = 6 * away["standard_error"]
    assert "is not shown that the correlation" in equality_words(away)
    assert "cannot show" in equality_words(
        pd.Series(slope("scale_in_general", 0.0, -1, 1, 0.9, models=2, families=1))
    )


def forest(sides, general=OPEN):
    rows = [slope("these_models", *side, category=f"c{k}") for k, side in enumerate(sides)]
    return pd.DataFrame(
        rows + [slope("scale_in_general", *general, category=f"c{k}") for k in range(len(sides))]
    )


@pytest.mark.parametrize(
    ("sides", "counts", "ends"),
    [
        ([UP, UP, OPEN], "better in two, worse in none, and the slope is open in one", "overlap"),
        (
            [UP, DOWN, OPEN],
            "better in one, worse in one, and the slope is open in one",
            "lie apart, though the two were picked",
        ),
        ([OPEN, OPEN, OPEN], "better in none, worse in none, and the slope is open in three", "overlap"),
        ([DOWN, DOWN], "better in none, worse in two, and the slope is open in none", "overlap"),
    ],
)
def test_category_words_count_and_name_the_ends(sides, counts, ends):
    said = category_words(forest(sides))
    assert counts in said[0] and ends in said[2]
    assert ("overlap" in said[2]) != ("lie apart" in said[2])
    assert "as the sample it is better in none" in said[1]
    assert (
        "as the sample it is better in " + {2: "two", 3: "three"}[len(sides)]
        in category_words(forest(sides, UP))[1]
    )


def test_the_ends_of_the_forest_are_the_highest_and_the_lowest():
    said = category_words(forest([OPEN, DOWN, UP]))[2]
    assert "highest slope is that of c2" in said and "lowest that of c1" in said
    assert len(category_words(forest([UP]))) == 2  # One category has no ends
    assert "In no category" in category_words(forest([UP]).assign(estimate=np.nan))[0]


def test_sentences_from_real_tables_agree_with_what_was_simulated():
    "No effect, a strong effect with equal models, and a strong effect among models that differ as much."
    said = {}
    for name, (rise, spread) in {"none": (0.0, 0.0), "law": (0.2, 0.0), "six": (0.1, 0.15)}.items():
        slopes = conclusions.slope_table(simulated(slope=rise, model=spread, items=60, seed=11))
        said[name] = " ".join(scale_words(slopes))
    assert "no evidence about size in general" in said["none"] and "scored better" not in said["none"]
    assert "Both questions get the same answer" in said["law"]
    assert (
        "no evidence about size in general" in said["six"] and "other products could turn" not in said["six"]
    )


def test_the_forest_shows_the_table_and_computes_nothing(made):
    at = ("image_to_text", "chrf")
    forest = slope_forest(made["slopes"], *at)
    for trace, question in zip(forest.data, ("these_models", "scale_in_general"), strict=True):
        rows = made["slopes"][made["slopes"]["question"] == question]
        assert list(trace.x) == rows["estimate"].tolist()
        assert np.add(trace.x, trace.error_x.array) == pytest.approx(rows["high"].to_numpy())
        assert np.subtract(trace.x, trace.error_x.arrayminus) == pytest.approx(rows["low"].to_numpy())


def test_the_two_questions_never_look_alike(made):
    forest = slope_forest(made["slopes"], "image_to_text", "chrf")
    looks = [(t.marker.symbol, t.marker.color, t.name) for t in forest.data]
    assert all(a != b for a, b in zip(*looks, strict=True))
    fans = [
        t
        for t in scale_lines(made["averages"], made["lines"], "image_to_text", "chrf").data
        if t.fill == "toself"
    ]
    assert {(f.line.width > 0) for f in fans} == {True, False} and len(fans) == 4
    assert [f.showlegend for f in fans] == [True, True, False, False]


def test_two_models_get_reasons_and_no_figures_of_size(run):
    body = re.sub(r"<script.*?</script>", "", run[2], flags=re.S)
    words = re.sub("<[^>]+>", "", body)
    assert "No slope of token f1 over size can be estimated from two models" in words
    assert 'id="slopes-image-to-text"' not in body and 'id="lines-image-to-text"' not in body
    assert 'id="comparisons-image-to-text"' in body and 'id="comparisons-text-to-image"' in body
    assert 'id="powers-text-to-image"' in body
    assert "two models apart" in words and "measured time of this machine" in words
