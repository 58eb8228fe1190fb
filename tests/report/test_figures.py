"""Figures draw what their table says and nothing else, whoever wrote the names in it."""

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.report.figures import PALETTE, colour_of, ordered
from mmpc_analysis.report.level_contrasts import level_panels
from mmpc_analysis.report.outcomes import outcome_bars
from mmpc_analysis.report.size import score_against_scale
from mmpc_analysis.report.weak_spots import heatmap
from mmpc_analysis.report.wording import label, number
from mmpc_analysis.tables import AVERAGES, OUTCOMES, empty, system_names, validate

TASK = "text_to_image"
METRICS = {"ssim": "pixel", "effnet_patch_cosine": "patch", "effnet_cosine": "semantic"}
MODELS = {
    "qwen2.5-vl-7b": ("qwen2.5-vl-7b", "model", "Qwen2.5-VL", 7e9),
    "qwen2.5-vl-72b": ("qwen2.5-vl-72b", "model", "Qwen2.5-VL", 72e9),
    "gemma-3-4b": ("gemma-3-4b", "model", "Gemma-3", 4e9),
    "blind gemma-3-4b": ("gemma-3-4b", "blind", "Gemma-3", 4e9),
    "template": ("template", "floor", "", np.nan),
    "shuffled": ("shuffled", "floor", "", np.nan),
    "oracle": ("oracle", "ceiling", "", np.nan),
}
HOSTILE = "<script>alert(1)</script><a href='//x.example'>\u202egnp</a>"


def table(models=MODELS, categories=("all", "Toys_and_Games", "All_Beauty"), seed=0):
    "An averages table with asymmetric intervals and counts that differ from row to row."
    rng, rows = np.random.default_rng(seed), []
    for model, role, family, parameters in models.values():
        for category in categories:
            counts = rng.integers(1, 20, len(OUTCOMES))
            for metric, level in METRICS.items():
                value = rng.uniform(0.2, 0.8)
                low, high = value - rng.uniform(0.01, 0.1), value + rng.uniform(0.01, 0.1)
                usable = counts[:2].sum() / counts.sum()
                place = (TASK, model, role, "", "", "", family, parameters, category, metric, level)
                rows.append((*place, value, low, high, counts.sum(), usable, *counts))
    return validate(pd.DataFrame(rows, columns=AVERAGES.names), AVERAGES)


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


def row(averages, model, metric="ssim", category="all"):
    found = averages[
        (system_names(averages) == model)
        & (averages["metric"] == metric)
        & (averages["category"] == category)
    ]
    assert len(found) == 1
    return found.iloc[0]


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


# ---------------------------------------------------------------- what all have in common


@every
def test_a_figure_is_made_and_its_table_left_alone(name):
    averages = table()
    before = averages.copy(deep=True)
    figure = draw(name, averages)
    assert isinstance(figure, go.Figure) and len(figure.data)
    pd.testing.assert_frame_equal(averages, before)


@every
def test_its_title_is_a_question(name):
    assert draw(name, table()).layout.title.text.split(" (")[0].endswith("?")


@every
def test_axes_of_numbers_say_what_they_measure(name):
    layout = draw(name, table()).layout.to_plotly_json()
    axes = {
        k: v for k, v in layout.items() if k.startswith(("xaxis", "yaxis")) and v.get("type") != "category"
    }
    assert axes or name == "heatmap"
    assert all(axis["title"]["text"] for axis in axes.values())
    if name == "heatmap":
        assert draw(name, table()).data[0].colorbar.title.text == "Mean ssim"


def test_units_are_named():
    assert "count" in draw("scale", table()).layout.xaxis.title.text
    assert "%" in draw("outcomes", table()).layout.xaxis.title.text


@every
def test_the_order_of_rows_and_strange_indices_change_nothing(name):
    averages = table()
    shuffled = averages.sample(frac=1, random_state=3)
    assert draw(name, shuffled).to_json() == draw(name, averages).to_json()


@every
def test_names_from_outside_are_text_and_never_markup(name):
    models = dict(MODELS) | {role: (HOSTILE, role, "<b>family</b>", 1e9) for role in ("model", "blind")}
    averages = table(models, categories=("all", "Toys <i>& Games</i>"))
    shown = texts(draw(name, averages))
    for text in shown:
        for mark in ("<script", "<a ", "<i>", "<b>family", "\u202e"):
            assert mark not in text, text
    assert any("&lt;script&gt;" in text for text in shown)


@every
def test_a_model_has_one_colour_everywhere(name):
    figure, wanted = draw(name, table()), {m: colour_of(m) for m in MODELS}
    found = {}
    for trace in figure.data:
        if trace.type == "scatter" and trace.mode == "markers":
            found[trace.legendgroup] = trace.marker.color
        if trace.type == "bar" and not isinstance(trace.marker.color, str):
            found |= dict(zip(trace.y, trace.marker.color, strict=True))
    assert all(wanted[model] == colour for model, colour in found.items())
    assert len(found) == (3 if name in ("scale", "levels") else 0)


# ---------------------------------------------------------------- the numbers drawn are the table's


def test_cells_of_the_heatmap_are_the_estimates():
    averages = table()
    trace = heatmap(averages, TASK, "ssim").data[0]
    assert list(trace.y) == ["All products", "All Beauty", "Toys and Games"]
    assert list(trace.x) == [m for m in ordered(averages) if m != "oracle" and "blind" not in m]
    for k, category in enumerate(("all", "All_Beauty", "Toys_and_Games")):
        for j, model in enumerate(trace.x):
            source = row(averages, model, category=category)
            assert trace.z[k][j] == source["estimate"]
            assert list(trace.customdata[k][j]) == [source["low"], source["high"], source["n"]]
            assert float(trace.text[k][j]) == pytest.approx(source["estimate"], abs=0.005)


def bounds(error, values):
    return np.asarray(values) - error.arrayminus, np.asarray(values) + error.array


def test_marks_against_scale_are_the_estimates_with_their_intervals():
    averages = table()
    figure = score_against_scale(averages, TASK, "ssim")
    marks = [t for t in figure.data if t.mode == "markers"]
    assert len(marks) == 4  # three models, and one blind run at the size of its model
    for mark in marks:
        hollow = mark.marker.symbol.endswith("-open")
        source = row(averages, f"blind {mark.legendgroup}" if hollow else mark.legendgroup)
        low, high = bounds(mark.error_y, mark.y)
        assert list(mark.x) == [MODELS[mark.legendgroup][3]]
        assert list(mark.y) == [source["estimate"]]
        assert (low[0], high[0]) == pytest.approx((source["low"], source["high"]))
        assert list(mark.customdata[0]) == [source["low"], source["high"], source["n"]]


def test_floors_and_ceiling_are_lines_at_their_height():
    averages = table()
    lines = {t.name.split(" (")[0]: t for t in score_against_scale(averages, TASK, "ssim").data if t.name}
    for model in ("template", "shuffled", "oracle"):
        assert set(lines[model].y) == {row(averages, model)["estimate"]}
        assert lines[model].line.color == colour_of(model)
    assert len({lines[m].line.dash for m in ("template", "shuffled", "oracle")}) == 3


def test_bars_of_each_level_are_the_estimates_with_their_intervals():
    averages = table()
    figure = level_panels(averages, TASK, list(METRICS))
    bars = [t for t in figure.data if t.type == "bar"]
    assert len(bars) == len(METRICS)
    for metric, bar in zip(METRICS, bars, strict=True):
        sources = [row(averages, model, metric) for model in bar.y]
        assert list(bar.x) == [s["estimate"] for s in sources]
        low, high = bounds(bar.error_x, bar.x)
        assert low == pytest.approx([s["low"] for s in sources])
        assert high == pytest.approx([s["high"] for s in sources])
    assert [t.showlegend for t in figure.data if t.name == "oracle (ceiling)"] == [True, False, False]


def test_outcomes_are_the_counts():
    averages = table()
    figure = outcome_bars(averages, TASK)
    assert figure.layout.barnorm == "percent"
    for trace, outcome in zip(figure.data, OUTCOMES, strict=True):
        for name, count in zip(trace.y, trace.x, strict=True):
            model = name.split("  ")[0]
            assert count == row(averages, model)[outcome]
            assert name.endswith(f"{row(averages, model)['coverage']:.0%}")
    patterns = [trace.marker.pattern.shape for trace in figure.data]
    assert len(set(patterns)) == len(OUTCOMES)  # told apart without colour


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
@settings(max_examples=20, deadline=None)
def test_whatever_the_scores_no_figure_changes_them(values):
    averages = table(categories=("all",))
    proper = (averages["role"] == "model") & (averages["metric"] == "ssim")
    averages.loc[proper, "estimate"] = values
    bar = level_panels(averages, TASK, ["ssim"]).data[0]
    assert dict(zip(bar.y, bar.x, strict=True)) == dict(
        zip(averages.loc[proper, "model"], values, strict=True)
    )


# ---------------------------------------------------------------- small and broken tables


@every
def test_one_model_is_a_figure(name):
    figure = draw(name, table({"": MODELS["gemma-3-4b"]}, categories=("all",)))
    assert len(figure.data) >= 1


@every
def test_an_empty_table_is_refused_with_what_was_asked(name):
    with pytest.raises(ValueError, match=f"no task '{TASK}'; it has no rows"):
        draw(name, empty(AVERAGES))


@every
def test_a_table_of_floors_is_refused(name):
    averages = table()
    with pytest.raises(ValueError, match="no model to show, only floors and the ceiling"):
        draw(name, averages[averages["role"] != "model"])


@every
def test_a_row_that_stands_twice_is_refused(name):
    averages = table()
    with pytest.raises(ValueError, match="twice; keep the rows of one run"):
        draw(name, pd.concat([averages, averages[averages["category"] == "all"]]))


@every
def test_a_table_without_a_column_is_refused(name):
    with pytest.raises(ValueError, match="no column 'high'"):
        draw(name, table().drop(columns="high"))


def test_a_metric_or_category_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no metric 'fid'; it has effnet_cosine"):
        heatmap(table(), TASK, "fid")
    with pytest.raises(ValueError, match="no category 'Books'; it has All_Beauty"):
        score_against_scale(table(), TASK, "ssim", "Books")
    with pytest.raises(ValueError, match="at least one metric"):
        level_panels(table(), TASK, [])


def unknown(averages):
    return averages.assign(estimate=np.nan, low=np.nan, high=np.nan, coverage=np.nan)


def test_unknown_scores_are_said_to_be_unknown():
    averages = unknown(table())
    assert {text for line in heatmap(averages, TASK, "ssim").data[0].text for text in line} == {"\u2013"}
    assert all(name.endswith("(no score)") for name in level_panels(averages, TASK, ["ssim"]).data[0].y)
    said = score_against_scale(averages, TASK, "ssim").layout.annotations
    assert [note.text for note in said] == ["No model of known size has a score."]
    assert not any("%" in name for name in outcome_bars(averages, TASK).data[0].y)


def test_a_model_of_unknown_size_is_no_mark_at_all():
    averages = table().assign(parameters=np.nan)
    figure = score_against_scale(averages, TASK, "ssim")
    assert not [t for t in figure.data if t.mode == "markers"]
    assert figure.layout.annotations[0].text == "No model of known size has a score."


def test_an_unknown_interval_draws_no_bar():
    averages = table()
    averages.loc[averages["model"] == "gemma-3-4b", ["low", "high"]] = np.nan
    bar = level_panels(averages, TASK, ["ssim"]).data[0]
    place = list(bar.y).index("gemma-3-4b")
    assert np.isnan(bar.error_x.array[place]) and np.isfinite(bar.x[place])


# ---------------------------------------------------------------- colours, labels, numbers


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
    marks = [t for t in score_against_scale(table(), TASK, "ssim").data if t.mode == "markers"]
    assert {t.marker.color for t in marks if t.legendgroup == "gemma-3-4b"} == {colour_of("gemma-3-4b")}
    assert colour_of("oracle") == colour_of("template") == colour_of("shuffled") not in PALETTE


@given(st.text())
def test_a_label_is_short_and_has_no_markup(name):
    import html

    shown = label(name)
    assert "<" not in shown and ">" not in shown
    assert len(html.unescape(shown)) <= 34
    assert not any(ord(c) < 32 for c in shown)


@pytest.mark.parametrize(
    ("value", "spread", "shown"),
    [
        (0.41, 1, "0.410"),
        (-0.41, 1, "\u22120.410"),
        (12.34, 50, "12.3"),
        (12345.6, 1e5, "12,346"),
        (np.inf, 1, "\u2013"),
    ],
)
def test_numbers_have_the_decimals_of_their_column(value, spread, shown):
    assert number(value, spread) == shown
