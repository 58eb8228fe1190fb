"""Contests do not depend on what is contested with them, and lose nothing that failed."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis import tables
from mmpc_analysis.scores.contests import contest, contest_metrics
from mmpc_analysis.scores.floors import true_values
from mmpc_analysis.scores.measures import item_context, load_encoders
from mmpc_analysis.scores.picture_measures import image_values
from mmpc_analysis.scores.retrieval import CONTESTED, auc_against, item_distractors

CATALOGUE = str(ROOT / "mmpc_analysis/data/catalogue")
ITEMS = pd.read_csv(f"{CATALOGUE}/items.csv", dtype=str)
SOME = ITEMS[ITEMS["split"] == "test"].groupby("category").head(6)
PARENT = ITEMS.set_index("item_id")["parent_id"]
PIXELS = ["mse", "psnr", "ssim"]


def answers(task="image_to_text", model="m", shift=1, **columns):
    "Completions that answer with the truth of another item, so many places on."
    other = SOME.iloc[np.roll(np.arange(len(SOME)), shift)]
    rows = {
        "item_id": SOME["item_id"], "parent_id": SOME["parent_id"], "category": SOME["category"], "task": task, "model": model,
        "family": "F", "parameters": 1e9, "precision": "float32", "role": "model", "prompt": "p", "base": "", "key": "k",
        "outcome": "ok", "text": other["title"].tolist(), "image": other["image"].tolist(), "raw_text": "", "finish_reason": "stop",
        "input_tokens": 1, "output_tokens": 1, "seconds": 0.1,
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


def held(completions, metrics, **more):
    return contest(completions, ITEMS, root=CATALOGUE, run=CATALOGUE, metrics=metrics, **more)


@pytest.mark.parametrize("task", tables.TASKS)
def test_distractors_are_others_of_the_category_and_no_sisters(task):
    truth = true_values(ITEMS, task)
    met = item_distractors(ITEMS, truth, SOME["item_id"])
    by_id = ITEMS.set_index("item_id")
    for item, others in met.items():
        assert len(set(others)) == len(others) <= CONTESTED and item not in others
        assert {by_id.loc[j, "category"] for j in others} <= {by_id.loc[item, "category"]}
        assert {by_id.loc[j, "split"] for j in others} <= {"test"}
        assert PARENT[item] not in set(PARENT[others]) and truth[item] not in {truth[j] for j in others}
    assert item_distractors(ITEMS.sample(frac=1, random_state=1), truth, SOME["item_id"][:3]) == {
        i: met[i] for i in SOME["item_id"][:3]
    }
    assert item_distractors(ITEMS, truth, SOME["item_id"], seed=1) != met
    assert all(
        some == met[i][:5] for i, some in item_distractors(ITEMS, truth, SOME["item_id"], count=5).items()
    )


def test_parts_add_up_bit_for_bit():
    both = pd.concat([answers(), answers(model="n", shift=2)], ignore_index=True)
    metrics = ["token_f1", "chrf", "minilm_cosine", "minilm_bertscore_f1"]
    whole = held(both, metrics)
    for by in ("model", "category"):
        parts = pd.concat([held(part, metrics) for _, part in both.groupby(by)])
        keys = ["model", "item_id", "metric"]
        pd.testing.assert_frame_equal(
            parts.sort_values(keys, ignore_index=True),
            whole.sort_values(keys, ignore_index=True),
            check_exact=True,
        )
    tables.validate(whole, tables.CONTESTS)
    assert whole["value"].between(0, 1).all() and set(whole["parent_id"]) == set(SOME["parent_id"])


def test_pictures_win_what_their_metrics_say():
    "Against the scores of whole pictures, pair by pair; the logarithm of the squared error wins what it wins."
    table = held(answers("text_to_image"), [*PIXELS, "effnet_cosine", "effnet_patch_cosine"])
    digits = table.set_index(["item_id", "metric"])["won"].unstack()
    assert digits["mse"].tolist() == digits["psnr"].tolist()
    known = item_context(ITEMS, "text_to_image", CATALOGUE)
    encoders = load_encoders({})[0]
    completions = answers("text_to_image").set_index("item_id")["image"]
    for row in table[table["item_id"].isin(SOME["item_id"].iloc[[0, 20]])].itertuples():
        asked = [row.item_id, *json.loads(row.distractors)]
        pairs = pd.DataFrame(
            {"item_id": asked, "candidate": [(CATALOGUE, completions[row.item_id])] * len(asked)}
        )
        value = image_values(pairs, [row.metric], known, encoders)[0][row.metric] * (
            -1 if row.metric == "mse" else 1
        )
        assert row.value == pytest.approx(auc_against(value[0], value[1:]))


def test_the_truth_loses_to_nobody():
    for task, metrics in (("image_to_text", ["token_f1", "minilm_cosine"]), ("text_to_image", PIXELS)):
        assert (held(answers(task, shift=0), metrics)["value"] == 1).all()


def test_failures_tie_and_engine_losses_are_unknown():
    outcome = np.resize(["ok", "invalid", "refused", "truncated", "engine_error"], len(SOME))
    table = held(answers(outcome=outcome), ["token_f1", "minilm_cosine"])
    failed = table["outcome"].isin(["invalid", "refused", "truncated"])
    assert (table.loc[failed, "value"] == 0.5).all() and table.loc[failed, "won"].str.fullmatch("1+").all()
    lost = table["outcome"] == "engine_error"
    assert lost.any() and table.loc[lost, "value"].isna().all() and (table.loc[lost, "won"] == "").all()
    assert table.loc[~lost, "value"].notna().all() and len(table) == 2 * len(SOME)


def test_a_picture_that_does_not_open_is_an_engines_loss_and_no_distractor(tmp_path):
    root = str(tmp_path / "catalogue")
    shutil.copytree(CATALOGUE, root)
    item = SOME["item_id"].iloc[0]
    others = item_distractors(ITEMS, true_values(ITEMS, "text_to_image"), [item])[item]
    by_id = ITEMS.set_index("item_id")
    (tmp_path / "catalogue" / by_id.loc[others[0], "image"]).write_bytes(b"no picture")
    broken = answers("text_to_image")
    broken.loc[broken["item_id"] == SOME["item_id"].iloc[1], "image"] = "nowhere.webp"
    table = contest(broken, ITEMS, root=root, run=CATALOGUE, metrics=["mse"]).set_index("item_id")
    assert (
        json.loads(table.loc[item, "distractors"]) == others[1:]
        and len(table.loc[item, "won"]) == len(others) - 1
    )
    assert table.loc[SOME["item_id"].iloc[1], ["outcome", "won"]].tolist() == ["engine_error", ""]


def test_levels_speak_through_their_headline_metrics_and_never_through_claims():
    assert contest_metrics(
        ["token_recall", "token_f1", "chrf", "brand_hit", "length_ratio", "minilm_retrieval", "corpus_bleu"]
    ) == ["chrf", "token_f1"]
    assert contest_metrics(["token_recall", "token_f1"]) == ["token_f1", "token_recall"]
    assert contest_metrics([]) == [] and held(answers(), ["brand_hit"]).empty
    tables.validate(held(answers(), ["brand_hit"]), tables.CONTESTS)


def test_blind_runs_and_strangers_take_no_part():
    strangers = answers(model="n").assign(item_id=lambda rows: "no-" + rows["item_id"])
    mixed = pd.concat([answers(), answers(role="blind"), strangers], ignore_index=True)
    pd.testing.assert_frame_equal(held(mixed, ["chrf"]), held(answers(), ["chrf"]))


def test_a_run_holds_contests_again_when_what_they_rest_on_changes(tmp_path, monkeypatch):
    from mmpc_analysis.scores import contests
    from mmpc_analysis.scores.scoring import score
    from mmpc_analysis.study.stages import run_comparison

    calls, held_before = [], contests.contest
    monkeypatch.setattr(contests, "contest", lambda *a, **k: calls.append(k) or held_before(*a, **k))
    completions = answers()
    scores = score(
        completions, ITEMS, root=CATALOGUE, run=CATALOGUE, metrics=["token_f1", "chrf"], progress=False
    )
    study = SimpleNamespace(scores=SimpleNamespace(draws=20, level=0.95, weights={}), seed=0)
    inputs = SimpleNamespace(
        study=study, items=ITEMS, catalogue=SimpleNamespace(root=CATALOGUE), out=str(tmp_path)
    )
    first = run_comparison(inputs, completions, scores)[1]
    again = run_comparison(inputs, completions, scores)[1]
    assert len(calls) == 1 and set(first["term"]) == {"beaten"}
    pd.testing.assert_frame_equal(first, again)
    run_comparison(inputs, completions.assign(text="a mug"), scores)
    run_comparison(inputs, completions, scores.query("metric == 'chrf'"))
    study.seed = 1
    run_comparison(inputs, completions, scores)
    assert len(calls) == 4
