"""Metrics of whole sets: the same numbers as sacrebleu and as the distances themselves, and rules for what is missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sacrebleu.metrics import BLEU, CHRF

import mmpc_analysis
from mmpc_analysis import tables
from mmpc_analysis.scores.whole_sets import score_sets

CATALOGUE = Path(mmpc_analysis.__file__).parent / "data" / "catalogue"
ITEMS = pd.read_csv(CATALOGUE / "items.csv", dtype=str)
SOME = ITEMS[ITEMS["split"] == "test"].groupby("category").head(4).reset_index(drop=True)


def answers(items, task="image_to_text", model="m", **columns):
    "Completions of one model."
    rows = {
        "item_id": items["item_id"], "category": items["category"], "task": task, "model": model, "family": "F",
        "parameters": 1e9, "precision": "float32", "role": "model", "prompt": "p", "key": "k", "outcome": "ok",
        "text": items["title"], "image": items["image"], "raw_text": "", "finish_reason": "stop",
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


def run(completions, items=ITEMS, **options):
    return score_sets(
        completions, items, **({"root": str(CATALOGUE), "run": str(CATALOGUE), "draws": 20} | options)
    )


def value(sets, model, metric, category="all"):
    return sets.query("model == @model and metric == @metric and category == @category")["estimate"].item()


def test_corpus_scores_equal_sacrebleu():
    texts = [" ".join(title.split()[1:]) for title in SOME["title"]]
    sets = run(answers(SOME, text=texts))
    truth = [SOME["title"].tolist()]
    assert value(sets, "m", "corpus_bleu") == pytest.approx(
        BLEU().corpus_score(texts, truth).score / 100, abs=1e-9
    )
    assert value(sets, "m", "corpus_chrf") == pytest.approx(
        CHRF().corpus_score(texts, truth).score / 100, abs=1e-9
    )
    assert value(sets, "oracle", "corpus_bleu") == pytest.approx(1)


def test_a_failure_is_an_empty_title_and_an_engine_error_no_title():
    text = SOME["title"].tolist()
    outcome = ["invalid" if k % 4 == 0 else "engine_error" if k % 4 == 1 else "ok" for k in range(len(SOME))]
    sets = run(answers(SOME, text=text, outcome=outcome), metrics=["corpus_bleu"])
    kept = [(t if o == "ok" else "", t) for t, o in zip(text, outcome, strict=True) if o != "engine_error"]
    expected = BLEU().corpus_score([a for a, _ in kept], [[b for _, b in kept]]).score / 100
    assert value(sets, "m", "corpus_bleu") == pytest.approx(expected, abs=1e-9)
    row = sets.query("model == 'm' and category == 'all'").iloc[0]
    assert row["n"] == len(kept) and row["coverage"] == pytest.approx(outcome.count("ok") / len(SOME))


def test_the_true_pictures_are_at_no_distance_and_others_are():
    other = np.roll(SOME["image"], 5)
    both = pd.concat(
        [answers(SOME, "text_to_image", "true"), answers(SOME, "text_to_image", "b", image=other)]
    )
    grey = SOME["image"].iloc[0]
    sets = run(pd.concat([both, answers(SOME, "text_to_image", "one picture", image=grey)]))
    frechet = sets[sets["metric"] == "effnet_frechet"].set_index("model")
    assert frechet.loc["true", "estimate"] == pytest.approx(0, abs=1e-6)
    assert frechet.loc["b", "estimate"] == pytest.approx(0, abs=1e-6)  # A set has no order
    assert frechet.loc["one picture", "estimate"] > 100
    assert (frechet["floor"] > 0).all() and (frechet["n"] == len(SOME)).all()
    tables.validate(sets, tables.SETS)


def test_a_truth_that_does_not_open_and_a_model_that_drew_little(tmp_path):
    items = SOME.head(10).copy()
    for k, image in enumerate(items["image"]):
        (tmp_path / image).parent.mkdir(exist_ok=True)
        with Image.open(CATALOGUE / image) as picture:
            picture.convert("RGB").save(tmp_path / image)
        if k == 0:
            (tmp_path / image).write_bytes(b"no picture")
    few = ["ok"] * 3 + ["invalid"] * 7
    drawn = [answers(items, "text_to_image", "good"), answers(items, "text_to_image", "few", outcome=few)]
    sets = run(pd.concat(drawn), items, root=str(tmp_path), run=str(CATALOGUE))
    assert set(sets["model"]) == {"good"} and (sets["n"] == 9).all()
    assert run(answers(items.head(4), "text_to_image"), items, root=str(tmp_path)).empty


def test_names_of_floors_are_not_models_and_one_item_has_no_interval():
    sets = run(pd.concat([answers(SOME), answers(SOME, model="oracle", text="mug")]), metrics=["corpus_bleu"])
    assert value(sets, "oracle", "corpus_bleu") == pytest.approx(1)
    alone = run(answers(SOME.head(1)), metrics=["corpus_bleu"])
    assert alone[["low", "high"]].isna().all().all()
