"""Score against size shows the table, and the table of correlations names what it holds."""

import numpy as np
import pytest
from hostile_shop import hostile_run
from report_tables import MODELS, TASK, averages_table, error_ends, row_of

from mmpc_analysis.report.figures import colour_of
from mmpc_analysis.report.run import read_run
from mmpc_analysis.report.scale import effect_table, score_against_scale


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


def test_marks_against_scale_are_the_estimates_with_their_intervals():
    averages = averages_table()
    figure = score_against_scale(averages, TASK, "ssim")
    marks = [t for t in figure.data if t.mode == "markers"]
    assert len(marks) == 4  # three models, and one blind run at the size of its model
    for mark in marks:
        hollow = mark.marker.symbol.endswith("-open")
        source = row_of(averages, f"blind {mark.legendgroup}" if hollow else mark.legendgroup)
        low, high = error_ends(mark.error_y, mark.y)
        assert list(mark.x) == [MODELS[mark.legendgroup][3]]
        assert list(mark.y) == [source["estimate"]]
        assert (low[0], high[0]) == pytest.approx((source["low"], source["high"]))
        assert list(mark.customdata[0]) == [source["low"], source["high"], source["n"]]


def test_floors_and_ceiling_are_lines_at_their_height():
    averages = averages_table()
    lines = {t.name.split(" (")[0]: t for t in score_against_scale(averages, TASK, "ssim").data if t.name}
    for model in ("template", "shuffled", "oracle"):
        assert set(lines[model].y) == {row_of(averages, model)["estimate"]}
        assert lines[model].line.color == colour_of(model)
    assert len({lines[m].line.dash for m in ("template", "shuffled", "oracle")}) == 3


def test_a_model_of_unknown_size_is_no_mark_at_all():
    averages = averages_table().assign(parameters=np.nan)
    figure = score_against_scale(averages, TASK, "ssim")
    assert not [t for t in figure.data if t.mode == "markers"]
    assert figure.layout.annotations[0].text == "No model of known size has a score."


def test_a_table_with_pearson_is_not_called_one_of_rank_correlations(run):
    effects = read_run(str(run[1])).tables["effects"]
    captions = {
        name: str(effect_table(rows, "image_to_text", ["token_f1"]))
        for name, rows in (("both", effects), ("ranks", effects[effects["term"] != "pearson"]))
    }
    assert "Correlation of score" in captions["both"] and "Rank correlation" not in captions["both"]
    assert "Rank correlation of score" in captions["ranks"]
