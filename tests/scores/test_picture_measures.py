"""Each text and picture meets its encoder once, on the device that was named, in batches where the device wants them."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mmpc_analysis
from mmpc_analysis.metrics import batches
from mmpc_analysis.metrics import picture_encoders as pe
from mmpc_analysis.metrics import text_encoders as te
from mmpc_analysis.scores.contests import contest
from mmpc_analysis.scores.scoring import score
from mmpc_analysis.scores.whole_sets import score_sets

CATALOGUE = Path(mmpc_analysis.__file__).parent / "data" / "catalogue"
ITEMS = pd.read_csv(CATALOGUE / "items.csv", dtype=str)
SHELF = ITEMS[ITEMS["category"] == "Musical_Instruments"].head(30).reset_index(drop=True)
SOME = SHELF.head(12)
PLACES = {"root": str(CATALOGUE), "run": str(CATALOGUE)}
TITLES = ["minilm_cosine", "minilm_bertscore_f1", "minilm_retrieval"]
PICTURES = ["effnet_patch_cosine", "effnet_cosine", "effnet_retrieval", "effnet_retrieval_back"]


def answers(task, shifts=(1, 2)):
    "Models that answer with another item's truth, so that what they say is a truth and a distractor as well."
    parts = []
    for shift in shifts:
        rows = {
            "item_id": SOME["item_id"], "category": SOME["category"], "task": task, "model": f"m{shift}", "family": "F",
            "parameters": 1e9, "precision": "float32", "role": "model", "prompt": "p", "outcome": "ok", "raw_text": "",
            "key": [f"{i}{shift}" for i in SOME["item_id"]], "text": None, "image": None, "finish_reason": "stop",
        }  # fmt: skip
        column = "text" if task == "image_to_text" else "image"
        title = "title" if column == "text" else "image"
        parts.append(pd.DataFrame(rows | {column: np.roll(SOME[title], shift)}))
    return pd.concat(parts, ignore_index=True)


def forget():
    "Encoders as they are after loading."
    te._load.cache_clear()
    pe._effnet.cache_clear()


@pytest.fixture
def counted(monkeypatch):
    "How often each text and each picture meets its encoder."
    forget()
    texts, pictures = Counter(), Counter()
    encode, alone = te.encode_tokens, pe._effnet_pass

    def count_texts(ids, encoder):
        texts.update(map(tuple, ids))
        return encode(ids, encoder)

    def count_picture(network, picture):
        pictures[hashlib.sha256(picture.tobytes()).hexdigest()] += 1
        return alone(network, picture)

    monkeypatch.setattr(te, "encode_tokens", count_texts)
    monkeypatch.setattr(pe, "_effnet_pass", count_picture)
    yield texts, pictures
    forget()


def everything(task, metrics, **how):
    "Scores, sets and contests of a task, as a run makes them."
    rows = answers(task)
    scores = score(rows, SHELF, metrics=metrics, progress=False, **PLACES, **how)
    sets = score_sets(rows, SHELF, draws=5, **PLACES, **{k: v for k, v in how.items() if k != "group"})
    held = contest(rows, SHELF, metrics=metrics, **PLACES, **{k: v for k, v in how.items() if k != "group"})
    return scores, sets, held


@pytest.mark.parametrize("group", [1, 5, 32])
def test_each_title_is_encoded_once_over_metrics_models_floors_and_contests(group, counted):
    texts, _ = counted
    everything("image_to_text", TITLES, group=group)
    truths = te.token_ids(sorted(set(SHELF["title"])), te.load_text_encoder(te.minilm_folder()))
    assert set(texts.values()) == {1} and {tuple(row) for row in truths} <= set(texts)


@pytest.mark.parametrize("group", [1, 5, 32])
def test_each_picture_is_encoded_once_over_metrics_models_floors_sets_and_contests(group, counted):
    _, pictures = counted
    everything("text_to_image", PICTURES, group=group)
    assert set(pictures.values()) == {1} and len(pictures) > len(
        SHELF
    )  # Truths, and pictures of the template


def test_an_item_stands_near_its_partner_so_a_small_memory_is_enough(counted, monkeypatch):
    "Room for a few groups, not for the catalogue: the shuffled partner is the next item, so it is still there."
    _, pictures = counted
    rows = answers("text_to_image", (1,))
    rows["image"] = SOME["image"].iloc[0]  # One drawing, so that memory has only truths to keep
    encoder = pe.load_effnet()
    monkeypatch.setattr(encoder.maps, "most", 6 * 16 * 1280)
    score(rows, SOME, metrics=["effnet_patch_cosine"], group=2, progress=False, **PLACES)
    assert (
        len(encoder.maps) == 6 and sum(pictures.values()) <= len(pictures) + 2
    )  # The first item is the last one's


def test_a_folder_of_features_serves_every_stage_and_run(counted, tmp_path, monkeypatch):
    _, pictures = counted
    rows, how = answers("text_to_image"), {"features": str(tmp_path), **PLACES}
    first = score(rows, SHELF, metrics=PICTURES, progress=False, **how)
    calls = sum(pictures.values())
    for _ in range(2):
        pe._effnet.cache_clear()  # As in another process
        monkeypatch.setattr(pe, "_KEPT", 1)
        monkeypatch.setattr(pe, "_MAPS", 1)
        score_sets(rows, SHELF, draws=5, **how)
        contest(rows, SHELF, metrics=PICTURES, **how)
        scores = score(rows, SHELF, metrics=PICTURES, progress=False, **how)
        pd.testing.assert_frame_equal(scores, first, check_exact=True)
    assert sum(pictures.values()) == calls == len(pictures) == len(list(tmp_path.rglob("*.npz")))


@pytest.mark.parametrize(("task", "metrics"), [("image_to_text", TITLES), ("text_to_image", PICTURES)])
def test_batches_give_the_scores_of_the_processor(task, metrics, monkeypatch):
    "As on a graphics card, on the processor: the same to 1e-5, whatever the groups."
    forget()
    one_by_one = everything(task, metrics)
    monkeypatch.setitem(batches.BATCHES, "cpu", 8)
    for group in (3, 32):
        forget()
        batched = everything(task, metrics, group=group)
        pd.testing.assert_frame_equal(batched[0], one_by_one[0], check_exact=False, rtol=0, atol=1e-5)
        pd.testing.assert_frame_equal(
            batched[2], one_by_one[2]
        )  # Who wins does not hang on the fifth digit here
        sets = [table.select_dtypes("number").to_numpy() for table in (batched[1], one_by_one[1])]
        np.testing.assert_allclose(*sets, rtol=1e-3, atol=1e-4)
    assert te.load_text_encoder(te.minilm_folder()).batch == pe.load_effnet().batch == 8
    forget()


def test_the_device_reaches_every_encoder(monkeypatch):
    "cpu:0 is a processor by another name; nothing may be loaded under the usual one."
    devices = {"texts": set(), "pictures": set()}
    text, picture = te._load, pe._effnet
    monkeypatch.setattr(te, "_load", lambda *given: devices["texts"].add(given[2]) or text(*given))
    monkeypatch.setattr(pe, "_effnet", lambda *given: devices["pictures"].add(given[2]) or picture(*given))
    everything(
        "image_to_text", [*TITLES, "minilm_bertscore_precision", "minilm_bertscore_recall"], device="cpu:0"
    )
    everything("text_to_image", PICTURES, device="cpu:0")
    assert devices == {"texts": {"cpu:0"}, "pictures": {"cpu:0"}}


def test_a_device_that_is_not_there_is_refused_before_anything_is_scored():
    for make in (score, score_sets, contest):
        for device, why in (
            ("gpu", "device must be auto, cpu or cuda"),
            ("cuda:99", "finds no CUDA|is 'cuda:99'"),
        ):
            if device == "gpu" or not __import__("torch").cuda.is_available():
                with pytest.raises(ValueError, match=why):
                    make(answers("text_to_image"), SHELF, device=device, **PLACES)


def test_a_metric_that_loads_a_network_by_itself_is_told_the_device(monkeypatch):
    from mmpc_analysis.metrics import semantic

    asked = []

    def fake(pictures, texts, weights, device):
        asked.append((weights, device))
        return np.zeros(len(texts))

    monkeypatch.setattr(semantic, "clip_score", fake)
    how = {"metrics": ["clip_score"], "weights": {"clip": "a folder"}, "device": "cpu:0"}
    score(answers("image_to_text"), SHELF, progress=False, **how, **PLACES)
    assert set(asked) == {("a folder", "cpu:0")}
