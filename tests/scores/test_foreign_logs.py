"""Logs of other harnesses, hand-made after their documented fields, become scores."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.scores.foreign_logs import read_inspect, read_lmms_eval
from mmpc_analysis.scores.own_scores import from_scores

DATA = ROOT / "tests" / "data" / "scores"


def test_samples_of_lmms_eval():
    log = read_lmms_eval(DATA / "lmms_eval")
    assert set(log["model"]) == {"org__model-7B", "org__model-72B"}
    assert set(log["category"]) == {"vqa_lite", "ocr_lite"}
    assert set(log["metric"]) == {"exact_match", "relaxed", "anls"}
    assert log.attrs["left_out"] == {"vqa_parts": 8}
    means = log[log["metric"] == "exact_match"].groupby("model")["value"].mean()
    assert means.to_dict() == {"org__model-7B": 0.5, "org__model-72B": 0.75}
    ocr = log[log["metric"] == "anls"].set_index("item")["value"]
    assert ocr["ocr_lite/0"] == 0.25 and math.isnan(ocr["ocr_lite/1"])
    scores = from_scores(log[log["metric"] == "exact_match"], metric="metric", category="category")
    assert len(scores) == 8 and scores["value"].notna().all()


def test_filters_of_lm_eval_are_metrics_of_their_own():
    log = read_lmms_eval(DATA / "samples_gsm_lite_2026-11-01T12-00-00.123456.jsonl", model="m")
    assert set(log["category"]) == {"gsm_lite"} and not log.duplicated(["item", "metric"]).any()
    means = log.groupby("metric")["value"].mean().to_dict()
    assert means == {"exact_match_strict_match": 0.5, "exact_match_flexible_extract": 1.0}


def test_what_is_no_log_of_samples_is_refused(tmp_path):
    file = tmp_path / "20261101_samples_vqa.jsonl"
    file.write_text('{"doc_id": 0, "acc": 1}\nnot json\n')
    with pytest.raises(ValueError, match="line 2: expected a sample as JSON"):
        read_lmms_eval(file, model="m")
    file.write_text('{"id": 0, "acc": 1}\n')
    with pytest.raises(ValueError, match="line 1: expected a sample with doc_id"):
        read_lmms_eval(file, model="m")
    file.write_text('{"doc_id": 0, "acc": {"right": 1}}\n')
    with pytest.raises(ValueError, match=r"no sample with a score was found.*'acc': 1"):
        read_lmms_eval(file, model="m")
    with pytest.raises(ValueError, match="expected a number in 'acc', got dict"):
        read_lmms_eval(file, model="m", metrics=["acc"])
    with pytest.raises(ValueError, match="expected a number in 'f1', got nothing"):
        read_lmms_eval(file, model="m", metrics=["f1"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file ending in .jsonl"):
        read_lmms_eval(tmp_path / "empty")


def test_a_folder_of_any_name(tmp_path):
    folder = tmp_path / "run [v1]" / "org__m"
    folder.mkdir(parents=True)
    (folder / "2026_samples_vqa.jsonl").write_text('{"doc_id": 0, "acc": 1}\n')
    assert read_lmms_eval(tmp_path / "run [v1]")["model"].tolist() == ["org__m"]


def test_logs_of_inspect():
    log = read_inspect(DATA / "inspect")
    match = log[log["metric"] == "match"]
    of_one = match[(match["model"] == "openai/gpt-4o") & (match["epoch"] == 1)].set_index("item")
    assert of_one["value"].iloc[:4].tolist() == [1.0, 0.0, 0.5, 0.0] and np.isnan(of_one["value"].iloc[4])
    assert of_one["outcome"].tolist() == ["ok", "ok", "ok", "invalid", "engine_error"]
    assert set(log["metric"]) == {"match", "judge_accuracy", "judge_style"}
    scores = from_scores(match, metric="metric", category="category", outcome="outcome", repeats="mean")
    assert len(scores) == 10 and scores.attrs["own_scores"]["repeated"] == 10
    assert scores["value"].isna().sum() == 1


def test_epochs_are_averaged():
    log = read_inspect(DATA / "inspect")
    style = log[log["metric"] == "judge_style"]
    with pytest.raises(ValueError, match="repeats='mean'"):
        from_scores(style, metric="metric", bounds=(0, 5))
    scores = from_scores(style, metric="metric", bounds=(0, 5), repeats="mean")
    assert scores["value"].dropna().tolist() == [1.5] * 9


def test_a_table_of_samples_df():
    table = pd.DataFrame(
        {"sample_id": ["x", "y"], "eval_id": "e", "id": ["s1", 2], "epoch": 1, "model": "m", "task_name": "vqa",
         "score_match": ["C", "I"], "score_f1": [0.5, np.nan], "error": [None, None]}
    )  # fmt: skip
    log = read_inspect(table)
    assert log.set_index(["item", "metric"])["value"].to_dict()[("vqa/s1", "match")] == 1
    assert log["value"].isna().sum() == 1 and set(log["item"]) == {"vqa/s1", "vqa/2"}
    with pytest.raises(ValueError, match="add EvalModel to its columns, or give model"):
        read_inspect(table.drop(columns="model"))
    assert set(read_inspect(table.drop(columns="model"), model="n")["model"]) == {"n"}


@pytest.mark.parametrize("value", ["good", [1, 2], "c"])
def test_a_value_that_is_no_score_is_refused(tmp_path, value):
    sample = {"id": "s1", "epoch": 1, "scores": {"match": {"value": value}}}
    (tmp_path / "log.json").write_text(json.dumps({"eval": {"model": "m", "task": "t"}, "samples": [sample]}))
    with pytest.raises(
        ValueError, match=r"log.json, sample 's1', match: expected a number or one of C, I, P, N"
    ):
        read_inspect(tmp_path)


def test_what_is_no_log_of_inspect_is_refused(tmp_path):
    file = tmp_path / "log.json"
    for text, said in (
        ("{", "is no JSON"),
        ("[]", "has no eval.model"),
        ('{"eval": {"model": "m"}, "samples": null}', "holds no samples"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_inspect(file)
    with pytest.raises(ValueError, match=r"inspect log convert .*run.eval --to json"):
        read_inspect(tmp_path / "run.eval")
