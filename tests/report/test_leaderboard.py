"""Sentences and the matrix of model against model, against data made to contradict them."""

import numpy as np
import pandas as pd
import pytest
from simulated_scores import simulated_conclusions
from slope_rows import PLACE

from mmpc_analysis.report.leaderboard import comparison_words, contrast_matrix


@pytest.fixture(scope="module")
def made():
    return simulated_conclusions()


def pairs(*kinds, margin=0.02):
    "Comparisons: a pair told apart either way, equal, both, neither, or untested."
    ends = {
        "first": (0.1, 0.05, 0.15),
        "second": (-0.2, -0.3, -0.1),
        "equal": (0.0, -0.01, 0.01),
        "neither": (0.01, -0.05, 0.07),
    }
    ends |= {"both": (0.01, 0.005, 0.015), "untested": (0.0, np.nan, np.nan)}
    rows = []
    for k, kind in enumerate(kinds):
        at, low, high = ends[kind]
        verdict = "equivalent" if kind in ("equal", "both") else "undecided"
        row = PLACE | {
            "category": "all",
            "model": f"m{k}",
            "other": f"n{k}",
            "estimate": at,
            "low_joint": low,
            "high_joint": high,
        }
        rows.append(row | {"verdict": verdict, "margin": margin})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("kinds", "apart", "equal", "neither", "untested"),
    [
        (
            ("first", "equal", "neither"),
            "one is told apart",
            "One pair is shown to be equal",
            "One pair is neither",
            None,
        ),
        (
            ("neither", "neither"),
            "none are told apart",
            "No pairs are shown to be equal",
            "Two pairs are neither",
            None,
        ),
        (("both", "second"), "two are told apart", "One pair is shown to be equal", None, None),
        (
            ("untested", "equal"),
            "none are told apart",
            "One pair is shown to be equal",
            None,
            "One pair allows no test",
        ),
        (("untested", "untested"), "none are told apart", None, None, "Two pairs allow no test"),
    ],
)
def test_comparison_words_count_what_is_shown_and_what_is_not(kinds, apart, equal, neither, untested):
    text = " ".join(comparison_words(pairs(*kinds)))
    for words, found in (
        (apart, "told apart by"),
        (equal, "shown to be equal within"),
        (neither, "neither told apart"),
        (untested, "no test"),
    ):
        assert (found in text) == (words is not None) and (words or "") in text
    assert ("no equality" in text) == (neither is not None)


def test_the_largest_difference_is_told_from_the_better_side():
    assert "n1 over m1 by 0.2 (0.1 to 0.3)" in comparison_words(pairs("first", "second"))[0]
    assert "m0 over n0 by 0.1 (0.05 to 0.15)" in comparison_words(pairs("first", "neither"))[0]
    assert "most clearly" not in comparison_words(pairs("neither"))[0]
    assert "equal" not in " ".join(comparison_words(pairs("first", "neither", margin=np.nan)))


def test_the_matrix_marks_what_the_table_shows(made):
    rows = made["comparisons"].query("category == 'all'").copy()
    figure = contrast_matrix(rows, "image_to_text", "chrf").data[0]
    names = list(figure.x)
    for _, row in rows.iterrows():
        i, j = names.index(row["model"]), names.index(row["other"])
        assert figure.z[i][j] == pytest.approx(row["estimate"]) and figure.z[j][i] == pytest.approx(
            -row["estimate"]
        )
        apart = row["low_joint"] > 0 or row["high_joint"] < 0
        assert ("*" in figure.text[i][j]) == apart == ("*" in figure.text[j][i])
        assert ("=" in figure.text[i][j]) == (row["verdict"] == "equivalent")
        assert list(figure.customdata[j][i]) == pytest.approx([-row["high_joint"], -row["low_joint"]])
    none = rows.assign(low_joint=np.nan, high_joint=np.nan, verdict="undecided")
    text = contrast_matrix(none, "image_to_text", "chrf").data[0].text
    assert not any("*" in cell or "=" in cell for row in text for cell in row)
