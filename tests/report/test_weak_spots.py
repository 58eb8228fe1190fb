"""The heatmap shows the table."""

import pytest
from report_tables import TASK, averages_table, row_of

from mmpc_analysis.report.figures import ordered
from mmpc_analysis.report.weak_spots import heatmap


def test_cells_of_the_heatmap_are_the_estimates():
    averages = averages_table()
    trace = heatmap(averages, TASK, "ssim").data[0]
    assert list(trace.y) == ["All products", "All Beauty", "Toys and Games"]
    assert list(trace.x) == [m for m in ordered(averages) if m != "oracle" and "blind" not in m]
    for k, category in enumerate(("all", "All_Beauty", "Toys_and_Games")):
        for j, model in enumerate(trace.x):
            source = row_of(averages, model, category=category)
            assert trace.z[k][j] == source["estimate"]
            assert list(trace.customdata[k][j]) == [source["low"], source["high"], source["n"]]
            assert float(trace.text[k][j]) == pytest.approx(source["estimate"], abs=0.005)
