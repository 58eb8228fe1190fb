"Figures and sentences of the Recommendation Benchmark: each is another one when the numbers are others."

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis import tables
from mmpc_analysis.report.components import Absent
from mmpc_analysis.report.recommendations import (
    fill_figure,
    fill_order,
    floor_of,
    link_sentence,
    recovered_figure,
    recovered_sentence,
    use_figure,
    use_sentence,
    worth,
)
from mmpc_analysis.report.run import Run

HOSTILE = "<script>alert(1)</script> & <b>x</b>"
WHERE = ("vbpr", "text", 1.0, "recall@20")


def row(recommender, fill, term, estimate, half=0.05, p=np.nan, modality="text", rate=1.0, method="m"):
    "One row of a recovery table."
    told = {"recommender": recommender, "modality": modality, "rate": rate, "fill": fill, "category": "all"}
    told |= {"metric": "recall@20", "question": "other_users", "term": term, "estimate": estimate, "n": 500}
    return told | {
        "low": estimate - half, "high": estimate + half, "p_value": p, "p_adjusted": p, "method": method,
    }  # fmt: skip


def table(*rows):
    return tables.validate(pd.DataFrame(list(rows)), tables.RECOVERY)


def shares(*told):
    "Recovered fractions and the p-values of the gains behind them."
    parts = [(row("vbpr", f, "recovered", e), row("vbpr", f, "gain", e / 10, 0.01, p)) for f, e, p in told]
    return table(*[r for pair in parts for r in pair])


def use(estimate, half=0.05, modality="text"):
    return pd.Series(row("vbpr", "shuffled", "use", estimate, half, modality=modality))


@pytest.mark.parametrize(
    "estimate, start",
    [
        (0.2, "VBPR uses the titles:"),
        (-0.2, "VBPR does worse with the true titles than"),
        (0.01, "VBPR was not shown to use the titles:"),
        (-0.01, "VBPR was not shown to use the titles:"),
    ],
)
def test_use_is_said_only_where_the_interval_says_it(estimate, start):
    said = use_sentence(use(estimate))
    assert said.startswith(start) and f"{estimate:.3f}".replace("-", "\u2212") in said
    assert ("Nothing is said of completed titles" in said) == (estimate < 0.05)


def test_use_without_an_interval_is_not_shown_and_prints_no_nan():
    said = use_sentence(use(0.3, np.nan, "image"))
    assert said.startswith("VBPR was not shown to use the pictures") and "(no interval)" in said
    assert "nan" not in said


def test_the_best_model_is_the_one_with_the_largest_fraction():
    told = [("a", 0.6, 0.001), ("b", 0.4, 0.001), ("co_purchase_mean", 0.2, 0.001)]
    said = recovered_sentence(shares(*told), *WHERE)
    assert "the best model for VBPR, a, brings back 60% (55% to 65%) of what was lost;" in said
    assert said.endswith("the best baseline, co purchase mean, 20% (15% to 25%).")
    exchanged = recovered_sentence(shares(("b", 0.6, 0.001), ("a", 0.4, 0.001), told[2]), *WHERE)
    assert "for VBPR, b, brings back 60%" in exchanged


def test_a_gain_that_does_not_stand_is_called_so():
    said = recovered_sentence(shares(("a", 0.6, 0.2), ("random", 0.1, 0.001)), *WHERE)
    assert "of what was lost, a difference from the floor that was not shown;" in said
    assert said.count("not shown") == 1
    assert "not shown" in recovered_sentence(shares(("a", 0.6, np.nan)), *WHERE)


def test_a_fill_worse_than_the_floor_is_called_so():
    said = recovered_sentence(shares(("a", -0.2, 0.001)), *WHERE)
    assert "\u221220%" in said and said.endswith("of what was lost, worse than the floor.")
    assert "worse" not in recovered_sentence(shares(("a", -0.2, 0.3)), *WHERE)


def test_without_a_model_the_baseline_is_told_alone():
    said = recovered_sentence(shares(("random", 0.1, 0.001)), *WHERE)
    assert "the best baseline for VBPR, random, brings back 10%" in said
    assert said.endswith("no fraction of a model is known.")


def test_no_fraction_is_said_with_its_reason():
    why = "not given: the recommender was not shown to use this modality"
    rows = [row("vbpr", "a", "recovered", np.nan, method=why), row("vbpr", "a", "gain", 0.1, p=0.001)]
    said = recovered_sentence(table(*rows), *WHERE)
    assert said == (
        "With 100% of the titles hidden, no recovered fraction is given for VBPR: "
        "the recommender was not shown to use this modality."
    )


def test_a_models_own_underscores_stay():
    said = recovered_sentence(shares(("my_model", 0.6, 0.001), ("co_purchase_mean", 0.1, 0.001)), *WHERE)
    assert "my_model" in said and "co purchase mean" in said


def linked(*told):
    keys = {"recommender": "vbpr", "modality": "text", "rate": 1.0, "metric": "recall@20", "n": 287}
    return pd.DataFrame(
        [
            keys | {"content_metric": m, "estimate": e, "low": e - 0.1, "high": e + 0.1, "p_adjusted": p}
            for m, e, p in told
        ]
    )


@pytest.mark.parametrize(
    "told, start, named",
    [
        ([("chrf", 0.1, 0.01), ("bleu", 0.3, 0.01)], "Of 2 content metrics, 2 tell what", "bleu"),
        ([("chrf", 0.3, 0.01), ("bleu", 0.1, 0.01)], "Of 2 content metrics, 2 tell what", "chrf"),
        ([("chrf", 0.1, 0.01), ("bleu", 0.3, 0.2)], "Of 2 content metrics, 1 tells what", "chrf"),
        ([("chrf", 0.1, 0.9)], "None of 1 content metric was shown", "chrf"),
        ([("chrf", -0.4, 0.01), ("bleu", -0.5, 0.01)], "None of 2 content metrics was shown", "chrf"),
        ([("chrf", 0.4, np.nan)], "None of 1 content metric was shown", "chrf"),
    ],
)
def test_the_link_is_that_of_the_strongest_metric_that_stands(told, start, named):
    said = link_sentence(linked(*told), *WHERE)
    assert said.startswith(start) and f"is {named}, rho" in said.replace("that of ", "")


def test_no_link_where_nothing_could_be_related():
    assert link_sentence(linked(("chrf", np.nan, np.nan)), *WHERE).startswith(
        "No content metric could be related"
    )
    assert link_sentence(linked(("chrf", 0.2, 0.01)), "bm3", *WHERE[1:]).startswith("No content metric")


def means(recommender, fills, oracle=True):
    found = [row(recommender, f, "mean", 0.3 + k / 100) for k, f in enumerate(fills)]
    return [*found, *([row(recommender, "oracle", "mean", 0.5, modality="none", rate=0.0)] if oracle else [])]


def grey(_):
    return "#595959"


def check_bars(traces, rows):
    "Every row has one trace, whose bars end where its interval does."
    assert len(traces) == len(rows)
    drawn = {
        (round(t.x[0] - t.error_x.arrayminus[0], 9), round(t.x[0], 9), round(t.x[0] + t.error_x.array[0], 9))
        for t in traces
    }
    assert drawn == {tuple(np.round(r, 9)) for r in rows[["low", "estimate", "high"]].to_numpy()}


def test_figures_draw_every_row_and_its_interval():
    rows = table(*means("vbpr", ("zeros", "random", "a")), row("vbpr", "shuffled", "use", 0.2))
    figure = fill_figure(rows, "recall@20", "text", 1.0, grey)
    check_bars(figure.data, rows[(rows["term"] == "mean") & (rows["fill"] != "oracle")])
    check_bars(use_figure(rows, "recall@20").data, rows[rows["term"] == "use"])
    assert sorted(s.x0 for s in figure.layout.shapes) == pytest.approx([0.3, 0.5])


def test_the_recovered_figure_has_a_line_per_fill_with_bars():
    rows = table(*[row("vbpr", f, "recovered", r, rate=r) for f in ("a", "random") for r in (0.8, 0.2)])
    figure = recovered_figure(rows, "recall@20", "text", "vbpr", grey)
    assert [t.name for t in figure.data] == ["a", "random"]
    for trace in figure.data:
        assert list(trace.y) == [0.2, 0.8]
        assert list(trace.error_y.array) == pytest.approx([0.05, 0.05])


def test_hostile_names_are_escaped():
    told = [row(HOSTILE, "shuffled", "use", 0.2), row(HOSTILE, HOSTILE, "recovered", 0.4)]
    rows = table(*means(HOSTILE, (HOSTILE, "zeros")), *told)
    for figure in (
        use_figure(rows, "recall@20"),
        fill_figure(rows, "recall@20", "text", 1.0, grey),
        fill_figure(rows, "recall@20", "text", 1.0, grey, HOSTILE),
        recovered_figure(rows, "recall@20", "text", HOSTILE, grey),
    ):
        text = json.dumps(figure.to_plotly_json(), default=list)
        assert "<script" not in text and "<b>x" not in text and "&lt;script" in text


def test_other_recommenders_and_other_fills_each_have_a_panel():
    rows = table(
        *means("mine", ("zeros", "a")),
        *means("vbpr", ("random", "b"), oracle=False),
        *means("bm3", ("zeros",)),
    )
    figure = fill_figure(rows, "recall@20", "text", 1.0, grey)
    assert [a.text for a in figure.layout.annotations] == ["VBPR", "BM3", "mine"]
    assert len(figure.data) == 5 and len(figure.layout.shapes) == 4


def test_long_names_that_differ_only_inside_stay_apart():
    names = ["m" * 25 + c + "n" * 25 for c in "ab"]
    figure = fill_figure(table(*means("vbpr", (*names, "zeros"))), "recall@20", "text", 1.0, grey)
    assert len({t.y[0] for t in figure.data}) == 3


def test_one_user_makes_a_figure_without_bars():
    lone = table(row("vbpr", "shuffled", "use", 0.2, np.nan))
    assert "no interval" in use_figure(lone, "recall@20").data[0].hovertemplate


def test_what_is_not_there_is_refused():
    rows = table(*means("vbpr", ("zeros",)))
    with pytest.raises(ValueError, match="no term 'use'; it has mean"):
        use_figure(rows, "recall@20")
    with pytest.raises(ValueError, match=r"no rate 0\.5; it has"):
        fill_figure(rows, "recall@20", "text", 0.5, grey)
    with pytest.raises(ValueError, match="no metric 'recall@20'; it has no rows"):
        fill_figure(table(row("vbpr", "shuffled", "mean", 0.2)), "recall@20", "text", 1.0, grey)
    with pytest.raises(ValueError, match="no recovered fraction of vbpr"):
        recovered_sentence(rows, *WHERE)
    with pytest.raises(ValueError, match="got no fill without a gain"):
        floor_of(rows[rows["fill"] == "oracle"])


def test_the_floor_is_found_and_comes_last():
    rows = table(
        *means("vbpr", ("a", "random", "zeros")),
        row("vbpr", "a", "gain", 0.1),
        row("vbpr", "zeros", "gain", 0.1),
    )
    assert floor_of(rows) == "random"
    assert fill_order(rows, "random")[-1] == "random" and fill_order(rows, "random")[0] == "a"


@pytest.fixture(scope="module")
def published():
    "The published tables as a run, as far as the section on recommenders reads them."
    names = ("recovery", "links")
    folder = ROOT / "nbs" / "results"
    found = {n: tables.validate(pd.read_parquet(folder / f"{n}.parquet"), tables.TABLES[n]) for n in names}
    return Run(str(folder), "", found, {"study": {"catalogue": {"source": "embedded"}}})


def worded(run):
    return re.sub("<[^>]+>", " ", re.sub(r"<script.*?</script>", "", str(worth(run)), flags=re.S))


def test_worth_says_whose_purchases_and_closes_what_was_not_shown(published):
    words, rows = worded(published), published.tables["recovery"]
    assert f"{rows['n'].max():,} users are judged" in words and "purchases are simulated" in words
    own = replace(published, manifest={"study": {"catalogue": {"source": "mine.csv"}}})
    assert "simulated" not in worded(own)
    unused = rows.assign(low=rows["low"].where(rows["term"] != "use", -0.1))
    closed = worded(replace(published, tables=published.tables | {"recovery": unused}))
    assert closed.count("was not shown to use the") >= (rows["term"] == "use").sum()
    assert "Gains over the floor" not in closed and "content metric" not in closed
    used = rows.assign(low=rows["low"].where(rows["term"] != "use", 0.1))
    opened = worded(replace(published, tables=published.tables | {"recovery": used}))
    assert opened.count("Gains over the floor") == 2 and "was not shown to use the titles" not in opened


def test_worth_is_left_out_where_no_recommender_reads_features(published):
    rows = published.tables["recovery"]
    with pytest.raises(Absent, match="reads titles or pictures"):
        worth(replace(published, tables=published.tables | {"recovery": rows[rows["term"] == "mean"]}))
