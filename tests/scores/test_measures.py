"""Metrics of one's own are computed, averaged, compared and judged like the package's, in whole and in parts."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.analysis.comparison import compare
from mmpc_analysis.analysis.conclusions import comparison_table, directional_metrics, margins
from mmpc_analysis.metrics.cards import ENCODERS, METRICS, Metric, headline_metrics
from mmpc_analysis.metrics.own_metrics import register_encoder, register_metric
from mmpc_analysis.metrics.picture_encoders import ImageEncoder
from mmpc_analysis.metrics.text_encoders import EncoderMissing
from mmpc_analysis.metrics.texts import score_pairs, tokens
from mmpc_analysis.metrics.words import jaccard
from mmpc_analysis.scores.averages import average
from mmpc_analysis.scores.contests import contest
from mmpc_analysis.scores.measures import available_metrics, item_context, text_values
from mmpc_analysis.scores.scoring import merge_scores, score
from mmpc_analysis.study.stages import run_scoring

CATALOGUE = str(ROOT / "mmpc_analysis/data/catalogue")
ITEMS = pd.read_csv(f"{CATALOGUE}/items.csv", dtype=str)
SOME = ITEMS[ITEMS["split"] == "test"].groupby("category").head(4).head(12)


@pytest.fixture(autouse=True)
def restored():
    "The tables as they were, whatever a test registers."
    before = dict(METRICS), dict(ENCODERS)
    yield
    for table, rows in zip((METRICS, ENCODERS), before, strict=True):
        table.clear()
        table.update(rows)


def answers(task="image_to_text", model="m", shift=0, **columns):
    "Completions that answer with the truth of another item, so many places on."
    other = SOME.iloc[np.roll(np.arange(len(SOME)), shift)]
    rows = {
        "item_id": SOME["item_id"], "category": SOME["category"], "task": task, "model": model, "family": "F",
        "parameters": 1e9, "precision": "float32", "role": "model", "prompt": "p", "base": "", "parent_id": "g", "key": "k", "outcome": "ok",
        "text": other["title"].tolist(), "image": other["image"].tolist(), "raw_text": "", "finish_reason": "stop",
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


scored = partial(score, root=CATALOGUE, run=CATALOGUE, progress=False)


def opening(references, candidates):
    first = partial(score_pairs, references, candidates)
    return first(lambda r, c: float(tokens(r)[:1] == tokens(c)[:1]))


def own(name="opening", **more):
    about = {
        "task": "image_to_text",
        "level": "word",
        "low": 0,
        "high": 1,
        "failure": 0,
        "formula": "made up",
    }
    return register_metric(Metric(name, **about | {"compute": opening} | more))


def values(scores, metric, model="m"):
    rows = scores[(scores["metric"] == metric) & (scores["model"] == model)]
    return rows.set_index("item_id")["value"]


# ---------------------------------------------------------------- a metric of titles


def test_ones_own_metric_is_scored_averaged_and_merged():
    own()
    half = np.where(np.arange(len(SOME)) % 2, "ok", "invalid")
    completions = pd.concat([answers(), answers(model="n", shift=1, outcome=half)], ignore_index=True)
    whole = scored(completions, ITEMS)
    assert "opening" in set(whole["metric"])
    assert (values(whole, "opening") == 1).all() and (values(whole, "opening", "oracle") == 1).all()
    failed = whole.query("metric == 'opening' and model == 'n' and outcome == 'invalid'")
    assert len(failed) and (failed["value"] == 0).all()
    parts = [scored(completions[completions["model"] == name], ITEMS) for name in "mn"]
    pd.testing.assert_frame_equal(merge_scores(parts), whole, check_exact=True)
    means = average(whole, draws=20).query("category == 'all' and metric == 'opening'")
    assert set(means["model"]) == {"m", "n", "oracle", "shuffled", "template"}
    assert means.set_index("model").loc["m", "estimate"] == 1


def test_ones_own_metric_takes_part_in_every_analysis():
    own("wrong_words", compute=lambda r, c: 1 - jaccard(r, c), better="lower", failure=1, leads=True)
    own("neutral", better="neither")
    completions = pd.concat([answers(shift=k, model=name) for k, name in enumerate("abc")], ignore_index=True)
    scores = scored(completions, ITEMS, metrics=["wrong_words", "neutral", "jaccard"])
    assert set(directional_metrics(scores)["metric"]) == {"wrong_words", "jaccard"}
    assert headline_metrics(average(scores, draws=10), "image_to_text") == ["wrong_words"]
    assert margins({"wrong_words"}) == {"wrong_words": 0.02}
    both = contest(
        completions.assign(input_tokens=1, output_tokens=1, seconds=0.1), ITEMS, root=CATALOGUE, run=CATALOGUE,
        metrics=["wrong_words", "neutral", "jaccard"],
    )  # fmt: skip
    won = both.set_index(["model", "item_id", "metric"])["won"].unstack()
    assert (
        set(both["metric"]) == {"wrong_words", "jaccard"}
        and won["wrong_words"].tolist() == won["jaccard"].tolist()
    )
    better = compare(scores[scores["metric"] == "wrong_words"], draws=50).query("category == 'all'")
    pair = better[(better["model"] == "a") & (better["other"] == "b")]
    flip = better[(better["model"] == "b") & (better["other"] == "a")]
    assert (pair["estimate"] > 0).all() and (flip["estimate"] < 0).all() and len(pair) + len(flip)
    table = comparison_table(scores, draws=50)
    assert (
        "wrong_words" in set(table["metric"])
        and table.query("metric == 'wrong_words'")["margin"].eq(0.02).all()
    )


def test_a_metric_gets_what_its_card_asks_for():
    seen = {}

    def look(items, brands, example, counts, candidates):
        seen["items"] = items["title"].tolist()
        seen.setdefault("texts", []).append(counts.texts)
        seen["brands"], seen["example"] = brands, example
        return np.ones(len(candidates))

    own("look", compute=look, needs=("items", "brands", "example", "counts", "candidates"))
    known = item_context(ITEMS, "image_to_text", CATALOGUE)
    rows = pd.DataFrame({"item_id": SOME["item_id"], "candidate": "a title"})
    text_values(rows, ["look"], known)
    counts = ITEMS.groupby("category").size()[SOME["category"].unique()]
    assert sorted(seen["texts"]) == sorted(counts)  # Once for each category, with its own titles
    assert seen["brands"] == SOME["brand"].tolist()[-len(seen["brands"]) :] and isinstance(
        seen["example"], str
    )


def test_an_answer_of_another_length_names_the_metric():
    own(compute=lambda r, c: [1.0])
    with pytest.raises(
        ValueError, match=r"metric 'opening' must give one number for each of \d+ rows.*check_metric"
    ):
        scored(answers(), ITEMS, metrics=["opening"])


def test_a_metric_cannot_change_what_the_next_one_is_given():
    def spoil(references, candidates):
        references[:] = candidates[:] = ["x"] * len(references)
        return np.ones(len(references))

    own("spoil", compute=spoil)
    both = scored(answers(shift=1), ITEMS, metrics=["spoil", "jaccard"])
    alone = scored(answers(shift=1), ITEMS, metrics=["jaccard"])
    pd.testing.assert_series_equal(values(both, "jaccard"), values(alone, "jaccard"))


# ---------------------------------------------------------------- a metric of pictures, and encoders


def grey(references, candidates):
    "Likeness of mean brightness."
    means = [stack.reshape(len(stack), -1).mean(1) for stack in (references, candidates)]
    return 1 - np.abs(means[0] - means[1]) / 255


def test_pictures_come_at_the_size_of_the_card():
    sizes = []

    def measured(references, candidates):
        sizes.append(references.shape[1:])
        return grey(references, candidates)

    own("grey", task="text_to_image", level="pixel", compute=measured, size=48)
    scores = scored(answers("text_to_image"), ITEMS, metrics=["grey", "mse"])
    assert set(sizes) == {(48, 48, 3)} and (values(scores, "grey") == 1).all()
    assert values(scores, "grey", "template").between(0, 1, inclusive="neither").all()


def colours(picture):
    "A made-up network: mean colours at four places, and of the whole."
    import torch

    places = torch.from_numpy(picture.astype(np.float32)).reshape(2, 16, 2, 16, 3).mean((1, 3)).reshape(4, 3)
    return places, places.mean(0)


def test_an_encoder_of_ones_own_brings_its_metrics():
    names = register_encoder("colours", lambda: ImageEncoder("colours", 32, "made-up", colours))
    assert set(names) == {
        "colours_cosine",
        "colours_patch_cosine",
        "colours_retrieval",
        "colours_retrieval_back",
    }
    scores = scored(
        pd.concat([answers("text_to_image"), answers("text_to_image", "n", 1)]), ITEMS, metrics=names
    )
    assert set(scores["metric"]) == set(names)
    for name in names[:2]:
        assert values(scores, name).to_numpy() == pytest.approx(1) and (values(scores, name, "n") < 1).any()
    assert values(scores, "colours_retrieval").mean() > values(scores, "colours_retrieval", "n").mean()


def test_an_encoder_of_titles_is_loaded_once_and_found_missing():
    loads = []

    def load():
        loads.append(1)
        return lambda texts: np.array([[len(tokens(t)), t.count("a"), 1.0] for t in texts]) / 99

    names = register_encoder("counts", load, task="image_to_text")
    scores = scored(answers(), ITEMS, metrics=names, group=2)
    assert set(scores["metric"]) == set(names) and len(loads) == 1
    assert (values(scores, "counts_retrieval") >= 0.5).all()

    def missing():
        raise EncoderMissing("buy it first")

    register_encoder("absent", missing, task="image_to_text")
    here, reasons, _ = available_metrics(["absent_cosine", "chrf"])
    assert here == ["chrf"] and reasons == [{"metric": "absent_cosine", "reason": "buy it first"}]


def test_an_encoder_goes_by_the_name_it_was_registered_under():
    register_encoder("mine", lambda: ImageEncoder("yours", 32, "made-up", colours))
    with pytest.raises(
        ValueError, match="encoder 'mine' loads one that is called 'yours'; give both one name"
    ):
        available_metrics(["mine_cosine"])


# ---------------------------------------------------------------- what a run keeps


def test_a_changed_metric_is_scored_again_and_an_unchanged_one_is_kept(tmp_path):
    calls = []

    def made(weight):
        def compute(references, candidates):
            calls.append(weight)
            return weight * opening(references, candidates)

        return compute

    completions = answers(seconds=0.1)
    study = SimpleNamespace(scores=SimpleNamespace(metrics=("opening",), weights={}, device="cpu"), seed=0)
    catalogue = SimpleNamespace(root=CATALOGUE)
    inputs = SimpleNamespace(study=study, items=ITEMS, catalogue=catalogue, out=str(tmp_path))
    stage = partial(run_scoring, inputs, completions, progress=False)
    card = own(compute=made(1.0), version="1")
    assert (values(stage(), "opening") == 1).all()
    asked = len(calls)
    assert asked and (values(stage(), "opening") == 1).all() and len(calls) == asked
    register_metric(replace(card, compute=made(0.5), version="2"))
    assert (values(stage(), "opening") == 0.5).all() and len(calls) > asked
