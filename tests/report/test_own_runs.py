"""Scores without a study become a page: the sections that they can fill, and no word about what was not done."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_scores import SIZES, answered, simulated

from mmpc_analysis import store, tables
from mmpc_analysis.metrics.cards import METRICS
from mmpc_analysis.report.own_runs import report_scores
from mmpc_analysis.report.run import read_run
from mmpc_analysis.scores.own_scores import from_scores

FAST = {"draws": 40}


@pytest.fixture(autouse=True)
def known_metrics():
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


TWO, THREE = (dict(list(SIZES.items())[:k]) for k in (2, 3))  # Of one family


def own(metric="points", sizes=THREE, **how):
    table = simulated(items=12, sizes=sizes, metric="chrf")
    columns = {"item": "item_id", "category": "category"} | (
        {"parameters": "parameters", "family": "family"} if how.pop("sized", True) else {}
    )
    return from_scores(table, **columns, value="value", metric=metric, **{"bounds": None} | how)


def words(path):
    page = Path(path).read_text(encoding="utf-8")
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return re.findall(r'<section id="([^"]+)"', page), html.unescape(re.sub("<[^>]+>", " ", body))


def test_a_page_of_scores_alone_says_nothing_of_completions(tmp_path):
    sections, text = words(report_scores(own(), str(tmp_path), **FAST))
    assert sections == [
        "short",
        "scores",
        "categories",
        "scale",
        "size",
        "varying",
        "against",
        "power",
        "reading",
        "provenance",
    ]
    assert "How good are these models?" in text
    assert "Three models with scores on 24 items in two categories" in text
    for absent in (
        "were asked",
        "hidden from the model",
        "Usable",
        "could not be used",
        "set aside were",
        "titles",
        "pictures",
        "template",
        "shuffled",
    ):
        assert absent not in text, absent
    assert "level" not in re.sub(
        "Level against level|of the level|on the own level",
        "",
        text.split("Scores")[1].split("Categories")[0],
    )
    assert "nobody said what became of the answers" in text


def test_costs_make_decisions(tmp_path):
    costs = pd.DataFrame(
        {"task": "own_scores", "model": list(THREE), "cost": np.arange(1.0, 4), "unit": "USD"}
    )
    scores = own(bounds=(-3, 3))
    sections, _ = words(report_scores(scores, str(tmp_path), costs=costs, **FAST))
    run = read_run(str(tmp_path))
    assert "cost" in sections and set(run.tables["decisions"]["unit"]) == {"USD"}
    want = costs.set_index("model")["cost"].to_dict()
    assert run.tables["frontier"].groupby("model")["cost"].first().to_dict() == want
    sections, _ = words(report_scores(scores, str(tmp_path), **FAST))
    assert "cost" not in sections and read_run(str(tmp_path)).tables["frontier"].empty


ODD = {
    "no sizes": lambda: own(sized=False),
    "one model": lambda: own(sizes=dict(list(SIZES.items())[:1])),
    "one item": lambda: own().query("item_id == 'i0-000'"),
    "lower, two models, unknown, outcomes": lambda: own(
        "word_error", dict(list(SIZES.items())[:2]), direction="lower", outcome="outcome"
    ).assign(value=lambda scores: scores["value"].where(scores.index % 5 > 0)),
}


@pytest.mark.parametrize("kind", ODD)
def test_small_and_odd_tables_have_a_page(tmp_path, kind):
    sections, text = words(report_scores(ODD[kind](), str(tmp_path), **FAST))
    assert {"short", "scores", "provenance"} <= set(sections) and "nan" not in re.findall(r"[a-z]+", text)
    assert ("outcomes" in sections) == ("outcomes" in kind)
    assert ("scale" in sections) == (kind != "no sizes")
    assert ("Word error, lower is better" in text) == ("lower" in kind)
    assert ("Ten scores are unknown" in text) == ("unknown" in kind)


def test_a_page_of_scores_and_completions_is_that_of_a_run(tmp_path):
    scores = simulated(items=12, sizes=THREE)
    items = scores.drop_duplicates("item_id")[["item_id", "category"]].assign(title="a cup", split="test")
    path = report_scores(scores, str(tmp_path), completions=answered(scores), items=items, **FAST)
    sections, text = words(path)
    assert {"cost", "examples", "outcomes", "aside"} <= set(sections)
    assert "Three models were asked to write the missing title of 24 products" in text
    assert "Usable" in text and "machine hours" in text


def test_the_cards_of_metrics_are_remembered(tmp_path):
    path = report_scores(
        own("word_error", TWO, direction="lower", bounds=(None, None)), str(tmp_path), **FAST
    )
    before = words(path)[1]
    code = f"from mmpc_analysis import write_report; from mmpc_analysis.metrics.cards import METRICS; write_report({str(tmp_path)!r}); print(METRICS['word_error'].better)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "lower", done.stderr
    assert words(path)[1] == before
    assert (
        json.loads((tmp_path / "manifest.json").read_text())["metrics"]["word_error"]["direction"] == "lower"
    )


def test_a_name_of_markup_is_text(tmp_path):
    attack = "<img src=x onerror=alert(1)>"
    sizes = {attack: 1e9, "b-s": 2e9}
    path = report_scores(own(sizes=sizes), str(tmp_path), title=attack, **FAST)
    assert "<img" not in Path(path).read_text(encoding="utf-8").split("</script>")[-1]
    assert attack in words(path)[1] and "<img src=x" not in re.sub(
        "<script.*?</script>", "", Path(path).read_text(encoding="utf-8"), flags=re.S
    )


def test_the_run_of_a_study_is_left_alone(tmp_path):
    store.write_text(f"{tmp_path}/manifest.json", json.dumps({"study": {"name": "demo"}}))
    store.write_shard(tables.empty(tables.COMPLETIONS), tables.COMPLETIONS, f"{tmp_path}/completions")
    with pytest.raises(ValueError, match="is the run of a study"):
        report_scores(own(), str(tmp_path), **FAST)
    assert store.shard_names(f"{tmp_path}/completions")
