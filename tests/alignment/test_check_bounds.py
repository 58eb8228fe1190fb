"""Check bounds: a verdict follows its interval, and a sentence never says another thing than its rows."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpc_analysis.alignment.check_bounds import (
    READINESS_BOUNDS,
    judge_measure,
    judged_rows,
    readiness_bounds,
    readiness_sentence,
)

NAN = float("nan")
OPENINGS = {
    "hopeless": "It is not worth training",
    "doubtful": "It is doubtful whether training",
    "fine": "Nothing speaks against training",
}


def rows_of(**figures):
    "Rows of measures that are given as value, low, high; a measure's unit does not matter here."
    found = {name: ("share", *ends, 48) for name, ends in figures.items()}
    return judged_rows(found, "image_to_text", "mine")


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("measure", "ends", "expected"),
    [
        ("words_kept", (0.59, 0.45, 0.7), (0.6, "doubtful")),  # The start at temperature .5, which lost
        ("words_kept", (0.29, 0.2, 0.4), (0.6, "doubtful")),
        ("words_kept", (0.14, 0.08, 0.19), (0.2, "hopeless")),  # At temperature 1, which collapsed
        ("words_kept", (0.14, 0.08, 0.25), (0.6, "doubtful")),
        ("words_kept", (0.92, 0.8, 1.0), (0.6, "fine")),
        ("words_kept", (0.6, NAN, NAN), (0.6, "fine")),
        ("words_kept", (0.1, NAN, NAN), (0.2, "hopeless")),
        ("silent_groups", (0.28, 0.16, 0.42), (0.3, "fine")),  # The most of the trainings that gained
        ("silent_groups", (0.65, 0.5, 0.8), (0.3, "doubtful")),
        ("silent_groups", (1.0, 0.93, 1.0), (0.9, "hopeless")),
        ("silent_groups", (0.25, 0.01, 0.95), (0.3, "doubtful")),
        ("by_heart", (0.9, 0.8, 1.0), (0.1, "doubtful")),  # Never hopeless alone
        ("by_heart", (-0.1, -0.3, 0.1), (0.1, "fine")),
        ("sampled_words", (0.15, 0.1, 0.2), (0.15, "fine")),
    ],
)
def test_verdicts_by_hand(measure, ends, expected):
    assert judge_measure(measure, *ends) == expected


@pytest.mark.parametrize(("measure", "value"), [("distinct", 0.5), ("hours", 2.0), ("words_kept", NAN)])
def test_what_has_no_bound_or_is_unknown_is_told(measure, value):
    bound, verdict = judge_measure(measure, value)
    assert math.isnan(bound)
    assert verdict == "told"


@given(
    st.sampled_from(sorted(READINESS_BOUNDS)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
def test_better_is_never_judged_worse(measure, value, better_by, below, above):
    "Moving a figure and its interval to the better side never lowers the verdict."
    bound = READINESS_BOUNDS[measure]
    shift = better_by if bound.fine > bound.hopeless else -better_by
    order = ("hopeless", "doubtful", "fine")
    ends = value, value - below, value + above
    before = judge_measure(measure, *ends)[1]
    after = judge_measure(measure, *(end + shift for end in ends))[1]
    assert order.index(after) >= order.index(before)
    wider = judge_measure(measure, value, value - below - 1, value + above + 1)[1]
    assert wider == "doubtful" or (measure == "by_heart" and wider == before)


def test_bounds_say_why_and_what_to_do():
    table = readiness_bounds()
    assert table["measure"].tolist() == list(READINESS_BOUNDS)
    for bound in READINESS_BOUNDS.values():
        assert bound.fine != bound.hopeless
        assert "{value}" in bound.finding
        assert "{bound}" in bound.finding
        assert len(bound.reason) > 30
        assert bound.remedy


# ---------------------------------------------------------------- sentences

FIGURES = st.dictionaries(
    st.sampled_from(sorted(READINESS_BOUNDS)),
    st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.floats(0, 0.3)).map(
        lambda f: (f[0], max(0.0, f[0] - f[1]), min(1.0, f[0] + f[2]))
    ),
    min_size=1,
)


@given(FIGURES)
def test_a_sentence_says_what_its_rows_say(figures):
    "The opening is that of the worst verdict, every number is one of the rows', and what is fine is no reason."
    rows = rows_of(**figures)
    sentence = readiness_sentence(rows)
    worst = next(v for v in OPENINGS if v in set(rows["verdict"]))
    assert [v for v, opening in OPENINGS.items() if sentence.startswith(opening)] == [worst]
    allowed = {f"{x:.1%}" for x in [*rows["value"], *rows["bound"]]}
    allowed |= {f"{READINESS_BOUNDS[name].hopeless:.1%}" for name in rows["measure"]}
    assert set(re.findall(r"\d+\.\d%", sentence)) <= allowed
    for row in rows.itertuples():
        finding = READINESS_BOUNDS[row.measure].finding.format(
            value=f"{row.value:.1%}", bound=f"{row.bound:.1%}"
        )
        if finding in sentence:
            assert row.verdict == worst != "fine"
    if worst != "fine":
        assert sentence.count("held against") == min(3, (rows["verdict"] == worst).sum())
        assert ("more. What" in sentence) == ((rows["verdict"] == worst).sum() > 3)


def test_one_changed_row_turns_the_sentence():
    "The same table with one verdict after another made worse: a sentence that was written before would contradict it."
    good = rows_of(words_kept=(0.9, 0.8, 1.0), silent_groups=(0.1, 0.05, 0.2), head_room=(0.2, 0.1, 0.3))
    assert readiness_sentence(good).startswith(
        "Nothing speaks against training mine on titles: all 3 judged figures"
    )
    doubtful = rows_of(words_kept=(0.9, 0.8, 1.0), silent_groups=(0.5, 0.4, 0.6), head_room=(0.2, 0.1, 0.3))
    assert (
        "in 50.0% of the groups all answers get the same reward, held against 30.0%."
        in readiness_sentence(doubtful)
    )
    bad = rows_of(words_kept=(0.1, 0.05, 0.15), silent_groups=(0.5, 0.4, 0.6), head_room=(0.2, 0.1, 0.3))
    sentence = readiness_sentence(bad)
    assert sentence.startswith("It is not worth training mine on titles: drawn titles keep 10.0%")
    assert "held against 20.0%" in sentence
    assert "50.0%" not in sentence
    assert sentence.endswith("What may help: lower the temperature.")


def test_too_few_items_do_not_sound_like_a_bad_figure():
    sentence = readiness_sentence(rows_of(silent_groups=(0.2, 0.01, 0.95)))
    assert sentence.startswith("It is doubtful")
    assert "20.0% of the groups" in sentence
    assert "so few items do not rule out 90.0%" in sentence
    assert "rule out" not in readiness_sentence(rows_of(silent_groups=(0.5, 0.01, 0.95)))


def test_rows_of_another_page_are_reasons_too():
    noise = pd.DataFrame([("text_to_image", "mine", "noise_share", 0.93, 0.9, 0.96, 0.5, 24, "share", "hopeless")],
                         columns=["task", "base", "measure", "value", "low", "high", "bound", "n", "unit", "verdict"])  # fmt: skip
    rest = rows_of(head_room=(0.2, 0.1, 0.3), invalid=(0.99, 0.95, 1.0)).assign(task="text_to_image")
    sentence = readiness_sentence(pd.concat([rest, noise]))
    assert sentence.startswith(
        "It is not worth training mine on image prompts: 93.0% of what tells prompts apart is the generator's noise; 99.0%"
    )
    unknown = readiness_sentence(noise.assign(value=NAN, low=NAN, high=NAN))
    assert "noise share is unknown" in unknown
    assert "nan" not in unknown


def test_time_and_memory_come_last():
    rows = rows_of(head_room=(0.2, 0.1, 0.3))
    told = {"hours": (2.25, "h"), "step_gigabytes": (5.5, "GB")}
    more = [rows.assign(measure=name, value=value, unit=unit, verdict="told", low=NAN, high=NAN, bound=NAN)
            for name, (value, unit) in told.items()]  # fmt: skip
    sentence = readiness_sentence(pd.concat([rows, *more]))
    assert sentence.endswith(
        "the figure that is judged is fine, which promises no gain. The whole recipe would take 2.2 hours and 5.5 GB."
    )
    assert "recipe" not in readiness_sentence(rows)
    more[0]["value"] = 0.5
    assert readiness_sentence(pd.concat([rows, more[0]])).endswith("would take 30.0 minutes.")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (rows_of(distinct=(0.5, 0.4, 0.6)), "must judge something"),
        (pd.concat([rows_of(head_room=(1, 1, 1)), rows_of(head_room=(1, 1, 1)).assign(base="x")]), "one model and task, got 2"),
        (rows_of(head_room=(1, 1, 1)).drop(columns="verdict"), "verdict"),
    ],
)  # fmt: skip
def test_refusals(rows, words):
    with pytest.raises(ValueError, match=words):
        readiness_sentence(rows)
