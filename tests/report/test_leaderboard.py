"""The matrix of model against model shows what its table says."""

import numpy as np
import pytest
from simulated_scores import simulated_conclusions

from mmpc_analysis.report.leaderboard import contrast_matrix


@pytest.fixture(scope="module")
def made():
    return simulated_conclusions()


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
