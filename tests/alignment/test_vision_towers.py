"""Vision towers: they are encoders like the package's own, tell products apart, and belong to the other family."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mmpc_analysis.alignment.vision_towers import (
    load_tower,
    other_family,
    register_tower,
    tower_name,
    twin_retrieval,
)
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.pictures import open_image, read_images
from mmpc_analysis.completion.checkpoints import load_processor, load_weights
from mmpc_analysis.completion.models import find_weights, model_card, register_model
from mmpc_analysis.completion.own_models import own_model
from mmpc_analysis.metrics.cards import ENCODERS, METRICS
from mmpc_analysis.metrics.own_metrics import check_metric
from mmpc_analysis.metrics.picture_encoders import encode_images, pooled_vectors
from mmpc_analysis.metrics.text_encoders import EncoderMissing
from mmpc_analysis.scores.measures import available_metrics, item_context
from mmpc_analysis.scores.picture_measures import image_values

BOTH = ("standin-gemma-s", "standin-qwen-s")
UNSEEN = load_catalogue("embedded", split="unseen")
NAMES = [
    "standin_qwen_s_tower_" + ending for ending in ("patch_cosine", "cosine", "retrieval", "retrieval_back")
]


@pytest.fixture(autouse=True)
def restored():
    "The tables as they were, whatever a test registers."
    before = dict(METRICS), dict(ENCODERS)
    yield
    for table, rows in zip((METRICS, ENCODERS), before, strict=True):
        table.clear()
        table.update(rows)


@pytest.mark.parametrize("model", BOTH)
def test_the_tower_gives_what_the_language_model_is_shown(model):
    source = find_weights(model_card(model))
    processor, whole = load_processor(source), load_weights(source)
    picture = open_image(UNSEEN.root, UNSEEN.items["image"][5])
    inputs = processor.image_processor([picture.resize((64, 64), 3)], return_tensors="pt", do_resize=False)
    inputs = {name: value for name, value in inputs.items() if name != "num_crops"}
    with torch.inference_mode():
        shown = whole.model.get_image_features(**inputs).pooler_output
    shown = torch.stack(list(shown)).reshape(-1, 64).numpy()
    seen = encode_images(load_tower(model), np.asarray(picture.resize((64, 64), 3))[None])
    assert seen.maps[0] == pytest.approx(shown, abs=1e-5)
    assert seen.pooled[0] == pytest.approx(shown.mean(0), abs=1e-5)


@pytest.mark.parametrize("model", BOTH)
def test_a_picture_looks_the_same_in_any_company_and_in_batches(model):
    tower = load_tower(model)
    squares = read_images(UNSEEN.root, UNSEEN.items["image"][:5].tolist(), (tower.size,))[0][tower.size]
    together = encode_images(tower, squares)
    assert np.array_equal(encode_images(tower, squares[::-1]).pooled[::-1], together.pooled)
    in_batches = encode_images(replace(tower, batch=4), squares)
    assert in_batches.pooled == pytest.approx(together.pooled, abs=1e-5)


def test_registered_it_has_metrics_that_keep_their_promises():
    encoder = register_tower("standin-qwen-s")
    assert (encoder.name, encoder.task) == ("standin_qwen_s_tower", "text_to_image")
    assert [name for name, card in METRICS.items() if card.encoder == encoder.name] == NAMES
    for name in NAMES:
        check_metric(name)
    assert encoder.version != register_tower("standin-qwen-m").version
    assert METRICS[NAMES[0]].version == encoder.version


def test_scoring_finds_it_by_name():
    register_tower("standin-qwen-s")
    names, missing, encoders = available_metrics(NAMES)
    assert (names, missing) == (NAMES, []) and encoders["standin_qwen_s_tower"].size == 64
    items = UNSEEN.items.iloc[:30].reset_index(drop=True)
    known = item_context(items, "text_to_image", UNSEEN.root)
    rows = pd.DataFrame(
        {"item_id": items["item_id"], "candidate": [(UNSEEN.root, image) for image in items["image"]]}
    )
    values, why = image_values(rows, names, known, encoders)
    assert not why and values[NAMES[1]] == pytest.approx(np.ones(30)) and np.nanmin(values[NAMES[2]]) == 1


def test_products_that_no_tower_saw_are_told_apart():
    items = UNSEEN.items[UNSEEN.items["brand"].isin(["Twemoji", "Noto", "Fluent 3D"])].reset_index(drop=True)
    found = twin_retrieval(load_tower("standin-qwen-s"), items, UNSEEN.root)
    groups = found.groupby("parent_id")["auc"].mean()
    assert groups.mean() - 4 * groups.sem() > 0.5 and found["auc"].mean() == pytest.approx(0.9, abs=0.07)
    assert found["nearest"].mean() > 5 * found["chance"].mean()
    rng = np.random.default_rng(0)
    tower = load_tower("standin-qwen-s")
    maps, pooled = type(tower.maps)(10**6), type(tower.pooled)(10**6)
    noise = lambda picture: (torch.from_numpy(rng.normal(size=(4, 8))), torch.from_numpy(rng.normal(size=8)))  # noqa: E731
    blind = replace(tower, network=noise, maps=maps, pooled=pooled)
    assert twin_retrieval(blind, items, UNSEEN.root)["auc"].mean() == pytest.approx(0.5, abs=0.1)


def test_twins_are_other_designers_of_the_same_product():
    items = UNSEEN.items[
        UNSEEN.items["parent_id"].isin(sorted(set(UNSEEN.items["parent_id"]))[:8])
    ].reset_index(drop=True)
    tower = load_tower("standin-gemma-s")
    found = twin_retrieval(tower, items, UNSEEN.root).set_index("item_id")
    several = items.groupby("parent_id")["brand"].transform("nunique") > 1
    assert set(found.index) == set(items["item_id"][several])
    vectors = pooled_vectors(tower, read_images(UNSEEN.root, items["image"].tolist(), (64,))[0][64])
    row = int(np.flatnonzero(several)[0])
    near = vectors @ vectors[row]
    twins = (
        (items["parent_id"] == items["parent_id"][row]) & (items["brand"] != items["brand"][row])
    ).to_numpy()
    others = (items["parent_id"] != items["parent_id"][row]).to_numpy()
    by_hand = np.mean([a > b for a in near[twins] for b in near[others]])
    assert found.loc[items["item_id"][row], "auc"] == pytest.approx(by_hand)
    assert found.loc[items["item_id"][row], "chance"] == pytest.approx(
        twins.sum() / (twins.sum() + others.sum())
    )


def test_the_judge_is_of_the_other_family_and_of_the_same_size():
    pairs = {
        f"standin-{a}-{size}": f"standin-{b}-{size}"
        for size in "sml"
        for a, b in (("gemma", "qwen"), ("qwen", "gemma"))
    }
    assert {name: other_family(model_card(name)).name for name in pairs} == pairs
    card = model_card("standin-gemma-s")
    aligned = own_model(card.folder, family="Gemma-3", name="standin-gemma-s-grpo-0")
    register_model(aligned)
    assert other_family(aligned).name == "standin-qwen-s"
    assert other_family(model_card("qwen2.5-vl-72b")).name == "gemma-3-27b"


def test_names_are_fit_for_metrics():
    card = model_card("standin-gemma-s")
    assert tower_name(card) == "standin_gemma_s_tower"
    assert tower_name(replace(card, name="Qwen2.5-VL-7B")) == "qwen2_5_vl_7b_tower"
    assert tower_name(replace(card, name="3-own")) == "model_3_own_tower"


def test_a_folder_without_a_tower_says_so(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    card = replace(model_card("standin-gemma-s"), folder=str(tmp_path))
    with pytest.raises(EncoderMissing, match="has no tower to load"):
        load_tower(card)
