"""Figures draw what their table says and nothing else, whoever wrote the names in it."""

import json

import pandas as pd
import plotly.graph_objects as go
import pytest
from report_tables import HOSTILE, METRICS, MODELS, TASK, averages_table, unknown
from simulated_scores import simulated_conclusions

from mmpc_analysis.report.figures import PALETTE, colour_of
from mmpc_analysis.report.leaderboard import contrast_matrix
from mmpc_analysis.report.level_contrasts import level_panels
from mmpc_analysis.report.outcomes import outcome_bars
from mmpc_analysis.report.scale import score_against_scale
from mmpc_analysis.report.size import scale_lines, slope_forest
from mmpc_analysis.report.weak_spots import heatmap
from mmpc_analysis.tables import AVERAGES, empty


@pytest.fixture(scope="module")
def made():
    return simulated_conclusions()


def draw(name, averages, metric="ssim"):
    "Any of the four figures."
    return {
        "heatmap": lambda: heatmap(averages, TASK, metric),
        "scale": lambda: score_against_scale(averages, TASK, metric),
        "outcomes": lambda: outcome_bars(averages, TASK),
        "levels": lambda: level_panels(averages, TASK, list(METRICS)),
    }[name]()


FIGURES = ("heatmap", "scale", "outcomes", "levels")


every = pytest.mark.parametrize("name", FIGURES)


def texts(figure):
    "Every text of a figure."

    def walk(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    return list(walk(json.loads(figure.to_json())))


@every
def test_a_figure_is_made_and_its_table_left_alone(name):
    averages = averages_table()
    before = averages.copy(deep=True)
    figure = draw(name, averages)
    assert isinstance(figure, go.Figure) and len(figure.data)
    pd.testing.assert_frame_equal(averages, before)


@every
def test_its_title_is_a_question(name):
    assert draw(name, averages_table()).layout.title.text.split(" (")[0].endswith("?")


@every
def test_axes_of_numbers_say_what_they_measure(name):
    layout = draw(name, averages_table()).layout.to_plotly_json()
    axes = {
        k: v for k, v in layout.items() if k.startswith(("xaxis", "yaxis")) and v.get("type") != "category"
    }
    assert axes or name == "heatmap"
    assert all(axis["title"]["text"] for axis in axes.values())
    if name == "heatmap":
        assert draw(name, averages_table()).data[0].colorbar.title.text == "Mean ssim"


def test_units_are_named():
    assert "count" in draw("scale", averages_table()).layout.xaxis.title.text
    assert "%" in draw("outcomes", averages_table()).layout.xaxis.title.text


@every
def test_the_order_of_rows_and_strange_indices_change_nothing(name):
    averages = averages_table()
    shuffled = averages.sample(frac=1, random_state=3)
    assert draw(name, shuffled).to_json() == draw(name, averages).to_json()


@every
def test_names_from_outside_are_text_and_never_markup(name):
    models = dict(MODELS) | {role: (HOSTILE, role, "<b>family</b>", 1e9) for role in ("model", "blind")}
    averages = averages_table(models, categories=("all", "Toys <i>& Games</i>"))
    shown = texts(draw(name, averages))
    for text in shown:
        for mark in ("<script", "<a ", "<i>", "<b>family", "\u202e"):
            assert mark not in text, text
    assert any("&lt;script&gt;" in text for text in shown)


@every
def test_a_model_has_one_colour_everywhere(name):
    figure, wanted = draw(name, averages_table()), {m: colour_of(m) for m in MODELS}
    found = {}
    for trace in figure.data:
        if trace.type == "scatter" and trace.mode == "markers":
            found[trace.legendgroup] = trace.marker.color
        if trace.type == "bar" and not isinstance(trace.marker.color, str):
            found |= dict(zip(trace.y, trace.marker.color, strict=True))
    assert all(wanted[model] == colour for model, colour in found.items())
    assert len(found) == (3 if name in ("scale", "levels") else 0)


@every
def test_one_model_is_a_figure(name):
    figure = draw(name, averages_table({"": MODELS["gemma-3-4b"]}, categories=("all",)))
    assert len(figure.data) >= 1


@every
def test_an_empty_table_is_refused_with_what_was_asked(name):
    with pytest.raises(ValueError, match=f"no task '{TASK}'; it has no rows"):
        draw(name, empty(AVERAGES))


@every
def test_a_table_of_floors_is_refused(name):
    averages = averages_table()
    with pytest.raises(ValueError, match="no model to show, only floors and the ceiling"):
        draw(name, averages[averages["role"] != "model"])


@every
def test_a_row_that_stands_twice_is_refused(name):
    averages = averages_table()
    with pytest.raises(ValueError, match="twice; keep the rows of one run"):
        draw(name, pd.concat([averages, averages[averages["category"] == "all"]]))


@every
def test_a_table_without_a_column_is_refused(name):
    with pytest.raises(ValueError, match="no column 'high'"):
        draw(name, averages_table().drop(columns="high"))


def test_a_metric_or_category_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no metric 'fid'; it has effnet_cosine"):
        heatmap(averages_table(), TASK, "fid")
    with pytest.raises(ValueError, match="no category 'Books'; it has All_Beauty"):
        score_against_scale(averages_table(), TASK, "ssim", "Books")
    with pytest.raises(ValueError, match="at least one metric"):
        level_panels(averages_table(), TASK, [])


def test_unknown_scores_are_said_to_be_unknown():
    averages = unknown(averages_table())
    assert {text for line in heatmap(averages, TASK, "ssim").data[0].text for text in line} == {"\u2013"}
    assert all(name.endswith("(no score)") for name in level_panels(averages, TASK, ["ssim"]).data[0].y)
    said = score_against_scale(averages, TASK, "ssim").layout.annotations
    assert [note.text for note in said] == ["No model of known size has a score."]
    assert not any("%" in name for name in outcome_bars(averages, TASK).data[0].y)


def luminance(colour):
    "Relative luminance of WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_palette_is_that_of_okabe_and_ito():
    published = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"}
    assert len(set(PALETTE)) == 6 and set(PALETTE) <= published
    assert "#F0E442" not in PALETTE  # yellow, 1.3 to 1 on white
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in PALETTE)


def test_colours_hold_for_stand_ins_blind_runs_and_strangers():
    assert colour_of("standin-gemma-l") == colour_of("gemma-3-27b") != colour_of("standin-qwen-l")
    assert colour_of("somebody's model") == colour_of("somebody's model") in PALETTE
    marks = [t for t in score_against_scale(averages_table(), TASK, "ssim").data if t.mode == "markers"]
    assert {t.marker.color for t in marks if t.legendgroup == "gemma-3-4b"} == {colour_of("gemma-3-4b")}
    assert colour_of("oracle") == colour_of("template") == colour_of("shuffled") not in PALETTE


def test_foreign_names_are_text(made):
    bad = "<a href='//x.example'>win</a>"
    frames = {n: f.replace({"a-s": bad, "c0": bad, "a": bad}) for n, f in made.items()}
    at = ("image_to_text", "chrf")
    drawn = [
        scale_lines(frames["averages"], frames["lines"], *at),
        slope_forest(frames["slopes"], *at),
        contrast_matrix(frames["comparisons"], *at),
    ]
    for figure in drawn:
        assert "<a" not in json.dumps(figure.to_dict(), default=str)
        assert figure.layout.title.text.split(" (")[0].endswith("?") and figure.layout.xaxis.title.text
