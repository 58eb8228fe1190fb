"""Bars of each level show the table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_tables import METRICS, TASK, averages_table, error_ends, row_of

from mmpc_analysis.report.level_contrasts import level_panels


def test_bars_of_each_level_are_the_estimates_with_their_intervals():
    averages = averages_table()
    figure = level_panels(averages, TASK, list(METRICS))
    bars = [t for t in figure.data if t.type == "bar"]
    assert len(bars) == len(METRICS)
    for metric, bar in zip(METRICS, bars, strict=True):
        sources = [row_of(averages, model, metric) for model in bar.y]
        assert list(bar.x) == [s["estimate"] for s in sources]
        low, high = error_ends(bar.error_x, bar.x)
        assert low == pytest.approx([s["low"] for s in sources])
        assert high == pytest.approx([s["high"] for s in sources])
    assert [t.showlegend for t in figure.data if t.name == "oracle (ceiling)"] == [True, False, False]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
@settings(max_examples=20, deadline=None)
def test_whatever_the_scores_no_figure_changes_them(values):
    averages = averages_table(categories=("all",))
    proper = (averages["role"] == "model") & (averages["metric"] == "ssim")
    averages.loc[proper, "estimate"] = values
    bar = level_panels(averages, TASK, ["ssim"]).data[0]
    assert dict(zip(bar.y, bar.x, strict=True)) == dict(
        zip(averages.loc[proper, "model"], values, strict=True)
    )


def test_an_unknown_interval_draws_no_bar():
    averages = averages_table()
    averages.loc[averages["model"] == "gemma-3-4b", ["low", "high"]] = np.nan
    bar = level_panels(averages, TASK, ["ssim"]).data[0]
    place = list(bar.y).index("gemma-3-4b")
    assert np.isnan(bar.error_x.array[place]) and np.isfinite(bar.x[place])
