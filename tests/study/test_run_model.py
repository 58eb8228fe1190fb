"""The model that a run chose: its numbers as they stand, its way of being asked, and what to do where none was chosen."""

from dataclasses import replace

import pandas as pd
import pytest

from mmpc_analysis import store, tables
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.study.choices import CompletionChoice, ModelChoice, Study
from mmpc_analysis.study.declaration import study_toml
from mmpc_analysis.study.run_model import model_of_run, title_decision


def averages(rows):
    "Averages of titles over all products: model, precision, prompt, role, metric, estimate."
    keys = ["model", "precision", "prompt", "role", "metric", "estimate"]
    frame = pd.DataFrame([dict(zip(keys, row, strict=True)) for row in rows])
    frame["level"] = frame["metric"].map({"minilm_cosine": "semantic", "token_f1": "word", "chrf": "word"})
    fixed = {"task": "image_to_text", "category": "all", "family": "F", "n": 40, "coverage": 1.0}
    fixed |= {"low": frame["estimate"] - 0.1, "high": frame["estimate"] + 0.1, "method": "t", "groups": 40}
    return tables.validate(frame.assign(**fixed), tables.AVERAGES)


def decision(chosen, metric="minilm_cosine", **more):
    row = {"task": "image_to_text", "category": "all", "metric": metric, "question": "these_models"}
    row |= {"level": "semantic" if metric == "minilm_cosine" else "word", "margin": 0.04, "best": "big"}
    row |= {"chosen": chosen, "established": True, "good_enough": 1, "cost": 2.5, "best_cost": 9.0}
    row |= {"unit": "USD", "estimate": -0.01, "low": -0.03, "risk": 0.01, "unpriced": 0, "n": 40}
    return row | {"method": "m", "verdict": "established", "apart": ""} | more


SMALL = [
    ("standin-qwen-s", "float32", "title-short-1", "model", m, e)
    for m, e in (("minilm_cosine", 0.6), ("token_f1", 0.4))
]
BIG = [
    ("standin-qwen-l", "float32", "title-short-1", "model", m, e)
    for m, e in (("minilm_cosine", 0.7), ("token_f1", 0.5))
]
FLOOR = [("template", "", "", "floor", m, 0.3) for m in ("minilm_cosine", "token_f1")]


def write_run(folder, rows, decisions, study=None, engines=None):
    store.write_shard(averages(rows), tables.AVERAGES, f"{folder}/averages")
    if decisions:
        store.write_shard(
            tables.validate(pd.DataFrame(decisions), tables.DECISIONS),
            tables.DECISIONS,
            f"{folder}/decisions",
        )
    if study:
        (folder / "study.toml").write_text(study_toml(study))
    if engines:
        import json

        (folder / "engines.json").write_text(json.dumps(engines))
    return str(folder)


def test_the_model_its_numbers_and_its_prompt(tmp_path):
    run = write_run(tmp_path, SMALL + BIG + FLOOR, [decision("standin-qwen-s")])
    found = model_of_run(run)
    assert found.card == model_card("standin-qwen-s") and found.prompt.id == "title-short-1"
    assert found.numbers[["metric", "estimate", "n"]].values.tolist() == [
        ["token_f1", 0.4, 40],
        ["minilm_cosine", 0.6, 40],
    ]
    assert found.numbers["low"].tolist() == pytest.approx([0.3, 0.5])
    assert (found.facts["run"], found.facts["cost"], found.facts["unit"]) == (run, 2.5, "USD")
    assert "standin-qwen-s is the cheapest model shown to be no more than 0.04 worse" in found.sentence
    assert found.facts["sentence"] == found.sentence


def test_the_coarsest_headline_metric_decides(tmp_path):
    decisions = [decision("standin-qwen-l", "token_f1"), decision("standin-qwen-s")]
    found = model_of_run(write_run(tmp_path, SMALL + BIG, decisions))
    assert (found.card.name, found.facts["metric"]) == ("standin-qwen-s", "minilm_cosine")


def test_a_metric_that_is_no_headline_does_not_decide(tmp_path):
    chrf = [("standin-qwen-s", "float32", "title-short-1", "model", "chrf", 0.4)]
    found = model_of_run(
        write_run(
            tmp_path, SMALL + BIG + chrf, [decision("standin-qwen-l", "chrf"), decision("standin-qwen-s")]
        )
    )
    assert found.card.name == "standin-qwen-s"


def test_one_of_two_precisions_of_a_model_is_asked_as_it_was(tmp_path):
    fine = [("standin-qwen-s", "bfloat16", *row[2:]) for row in SMALL]
    own = {
        "fine": ModelChoice(card="standin-qwen-s", precision="bfloat16"),
        "plain": ModelChoice(card="standin-qwen-s"),
    }
    study = replace(Study(), models=own, completion=CompletionChoice(models=("plain", "fine")))
    engines = {
        "plain": {"model": "standin-qwen-s", "precision": "float32"},
        "fine": {"model": "standin-qwen-s", "precision": "bfloat16"},
    }
    names = set(tables.models_only(averages(SMALL + fine))["model"])
    assert names == {"standin-qwen-s float32", "standin-qwen-s bfloat16"}
    for chosen, name in (("standin-qwen-s bfloat16", "fine"), ("standin-qwen-s float32", "plain")):
        folder = tmp_path / name
        folder.mkdir()
        found = model_of_run(write_run(folder, SMALL + fine, [decision(chosen)], study, engines))
        assert (found.name, found.engine.get("precision")) == (name, "bfloat16" if name == "fine" else None)


def test_a_model_on_a_server_is_asked_there(tmp_path):
    far = [("far", "server", *row[2:]) for row in SMALL]
    choice = ModelChoice(
        server="http://localhost:9/v1", served="org/far", concurrency=3, key_variable="SHOP_KEY"
    )
    study = replace(
        Study(), models={"far": choice}, completion=CompletionChoice(models=("far", "standin-qwen-l"))
    )
    found = model_of_run(write_run(tmp_path, far + BIG, [decision("far")], study))
    assert found.engine == {
        "server": "http://localhost:9/v1",
        "served": "org/far",
        "concurrency": 3,
        "key_variable": "SHOP_KEY",
    }
    assert found.card.name == "far"


def test_a_prompt_of_one_s_own_is_asked_again(tmp_path):
    own = {"mine": {"task": "image_to_text", "text": 'Name it as {"title": "..."}.'}}
    completion = CompletionChoice(own_prompts=own, prompts={"image_to_text": ("mine",)})
    rows = [(m, p, "mine", *rest) for m, p, _, *rest in SMALL + BIG]
    found = model_of_run(
        write_run(tmp_path, rows, [decision("standin-qwen-s")], replace(Study(), completion=completion))
    )
    assert found.prompt.id == "mine"


def test_nothing_established_says_what_to_do(tmp_path):
    row = decision("standin-qwen-l", established=False, verdict="undecided", best="standin-qwen-l")
    with pytest.raises(
        ValueError,
        match=r"established no model for titles: .*undecided.*more products, or name a model with --model",
    ):
        model_of_run(write_run(tmp_path, SMALL + BIG, [row]))


def test_a_floor_says_that_no_model_is_better(tmp_path):
    row = decision("template", verdict="floor_suffices")
    with pytest.raises(ValueError, match="found no model that is shown to be better than template"):
        model_of_run(write_run(tmp_path, SMALL + BIG + FLOOR, [row]))


def test_a_run_without_a_decision_about_titles_says_so(tmp_path):
    other = decision("standin-qwen-s", task="text_to_image")
    for k, decisions in enumerate(([], [other], [decision("standin-qwen-s", category="Toys")])):
        (tmp_path / str(k)).mkdir()
        with pytest.raises(ValueError, match="chose no model for titles"):
            model_of_run(write_run(tmp_path / str(k), SMALL, decisions))


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no averages"):
        model_of_run(str(tmp_path / "typo"))


def test_a_model_that_the_study_does_not_name_is_refused(tmp_path):
    gone = [("gone", *row[1:]) for row in SMALL]
    with pytest.raises(ValueError, match="which its study does not name; name it with --model"):
        model_of_run(write_run(tmp_path, gone + BIG, [decision("gone")]))


def test_a_decision_about_a_system_without_averages_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no averages of it"):
        model_of_run(write_run(tmp_path, SMALL, [decision("standin-qwen-l")]))


def test_the_order_of_rows_changes_nothing():
    rows = [decision("a", "token_f1"), decision("b")]
    frame, means = pd.DataFrame(rows), averages(SMALL + BIG)
    assert (
        title_decision(frame, means, "r")["chosen"]
        == title_decision(frame[::-1], means[::-1], "r")["chosen"]
        == "b"
    )
