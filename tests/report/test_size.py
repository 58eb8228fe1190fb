"""Figures about slopes show their table."""

import re

import numpy as np
import pytest
from hostile_shop import hostile_run
from simulated_scores import simulated_conclusions

from mmpc_analysis.report.size import scale_lines, slope_forest


@pytest.fixture(scope="module")
def made():
    return simulated_conclusions()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


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
    assert "No effect of size on the token f1 can be estimated from two models" in words
    assert 'id="slopes-image-to-text"' not in body and 'id="lines-image-to-text"' not in body
    assert 'id="comparisons-image-to-text"' in body and 'id="comparisons-text-to-image"' in body
    assert 'id="powers-text-to-image"' in body
    assert "two models apart" in words and "measured time of this machine" in words
