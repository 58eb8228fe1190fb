"Figures of the Recommendation Benchmark: each is another one when the numbers are others."

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
    recovered_figure,
    use_figure,
    worth,
)
from mmpc_analysis.report.run import Run

HOSTILE = "<script>alert(1)</script> & <b>x</b>"


def row(recommender, fill, term, estimate, half=0.05, p=np.nan, modality="text", rate=1.0, method="m"):
    "One row of a recovery table."
    told = {"recommender": recommender, "modality": modality, "rate": rate, "fill": fill, "category": "all"}
    told |= {"metric": "recall@20", "question": "other_users", "term": term, "estimate": estimate, "n": 500}
    return told | {
        "low": estimate - half, "high": estimate + half, "p_value": p, "p_adjusted": p, "method": method,
    }  # fmt: skip


def table(*rows):
    return tables.validate(pd.DataFrame(list(rows)), tables.RECOVERY)


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
    names = ("recovery", "links", "claims")
    folder = ROOT / "nbs" / "results"
    found = {n: tables.validate(pd.read_parquet(folder / f"{n}.parquet"), tables.TABLES[n]) for n in names}
    return Run(str(folder), "", found, {"purchases": "simulated"})


def worded(run):
    return re.sub("<[^>]+>", " ", re.sub(r"<script.*?</script>", "", str(worth(run)), flags=re.S))


def test_worth_says_whose_purchases_and_closes_what_was_not_shown(published):
    words, rows = worded(published), published.tables["recovery"]
    assert f"{rows['n'].max():,} users are judged" in words and "purchases are simulated" in words
    own = replace(published, manifest={"purchases": "mine.csv"})
    assert "simulated" not in worded(own) and "read from mine.csv" in worded(own)
    uses = published.tables["claims"]
    closed = {
        "recovery": rows.assign(verdict=rows["verdict"].replace("used", "not shown")),
        "claims": uses[uses["question"] == "use"],
    }
    closed["claims"] = closed["claims"].assign(verdict="not shown")
    words = worded(replace(published, tables=published.tables | closed))
    assert words.count("was not shown to use the") >= (rows["term"] == "use").sum()
    assert "Gains over the floor" not in words and "content metric" not in words
    opened = published.tables | {
        "claims": uses.assign(verdict=uses["verdict"].mask(uses["question"] == "use", "used"))
    }
    opened["recovery"] = rows.assign(verdict=rows["verdict"].mask(rows["term"] == "use", "used"))
    words = worded(replace(published, tables=opened))
    assert words.count("Gains over the floor") == 2 and "was not shown to use the titles" not in words


def test_worth_is_left_out_where_no_recommender_reads_features(published):
    rows = published.tables["recovery"]
    with pytest.raises(Absent, match="reads titles or pictures"):
        worth(replace(published, tables=published.tables | {"recovery": rows[rows["term"] == "mean"]}))


def test_titles_and_pictures_hidden_together_have_a_piece_and_no_claim(published):
    "Nobody completes them, so cheap fills stand there with their numbers, and nothing is said of a model."
    from mmpc_analysis.recommendation.worth_claims import worth_claims

    rows = published.tables["recovery"]
    models = {*rows["fill"]} - {"zeros", "random", "category_mean", "co_purchase_mean", "shuffled", "oracle"}
    both = rows[(rows["modality"] == "text") & ~rows["fill"].isin(models)].assign(modality="both")
    recovery = pd.concat([rows, both], ignore_index=True)
    words = worded(replace(published, tables=published.tables | {"recovery": recovery}))
    assert "Hidden titles and pictures" in words and "Hidden titles and pictures" not in worded(published)
    kept = [worth_claims(r, published.tables["links"]) for r in (rows, recovery)]
    pd.testing.assert_frame_equal(*kept)
