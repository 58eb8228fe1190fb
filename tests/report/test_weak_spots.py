"""The heatmap shows the table."""

import re

import pytest
from report_tables import MODELS, TASK, averages_table, row_of

from mmpc_analysis.report.figures import ordered
from mmpc_analysis.report.level_contrasts import level_panels
from mmpc_analysis.report.outcomes import outcome_bars
from mmpc_analysis.report.weak_spots import category_table, heatmap


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


ALIKE = {
    "underscore": ("all", "pet_food", "pet food", "toys", "tools"),
    "the pooled mean": ("all", "All products", "toys", "tools", "games"),
    "control": ("all", "toys\x07", "toys", "tools", "games"),
    "cut": ("all", f"{'long ' * 8}one", f"{'long ' * 8}two", "tools", "games"),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_categories_with_one_label_have_a_row_each(kind):
    averages = averages_table(categories=ALIKE[kind])
    trace = heatmap(averages, TASK, "ssim").data[0]
    assert len(trace.y) == len(set(trace.y)) == 5
    down = sorted(ALIKE[kind], key=lambda c: (c != "all", c.casefold()))
    for k, category in enumerate(down):
        assert trace.z[k][0] == row_of(averages, trace.x[0], category=category)["estimate"]
    table = category_table(averages, TASK, "ssim")
    heads = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert len(heads) == len(set(heads)) == 5


def test_models_with_one_label_have_a_column_each():
    averages = averages_table({**MODELS, "gemma 3_4b": ("gemma 3_4b", "model", "Gemma-3", 5e9), "gemma_3 4b": ("gemma_3 4b", "model", "Gemma-3", 6e9)})  # fmt: skip
    for figure, names in (
        (heatmap(averages, TASK, "ssim"), lambda f: f.data[0].x),
        (level_panels(averages, TASK, ["ssim"]), lambda f: f.data[0].y),
        (outcome_bars(averages, TASK), lambda f: f.data[0].y),
    ):
        shown = list(names(figure))
        assert len(shown) == len(set(shown)) and sum("gemma" in name for name in shown) >= 3
