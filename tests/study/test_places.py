"""Where the weights are, what fits, and what to do, on machines that are only described."""

import json
from dataclasses import replace

import pytest

from mmpc_analysis.completion.memory import memory_estimate, published_shapes
from mmpc_analysis.completion.models import ModelCard, all_models, model_card
from mmpc_analysis.completion.own_models import own_model
from mmpc_analysis.study.choices import ModelChoice
from mmpc_analysis.study.places import (
    Load,
    Machine,
    device_on,
    fit_row,
    fit_verdict,
    free_disk,
    load_of,
    precision_on,
    room_on,
    this_machine,
    weights_place,
)

NAN = float("nan")
TWO = Machine(8, 64.0, (("NVIDIA L4", 20.0), ("NVIDIA L4", 10.0)), lambda folder: 100.0)
NONE = Machine(2, 16.0, disk=lambda folder: 100.0)


def cached(monkeypatch, folder, card, files, index=None):
    "A hub cache that holds some files of a card's snapshot."
    root = folder / ("models--" + card.hub_id.replace("/", "--")) / "snapshots" / card.revision
    root.mkdir(parents=True)
    (root / "config.json").write_text("{}")
    for name, size in files.items():
        (root / name).write_bytes(b"0" * size)
    if index:
        (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(enumerate(index))}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))

    def find(repo, name, revision=None):
        return str(root / name) if repo == card.hub_id and (root / name).exists() else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", find)


@pytest.mark.parametrize(
    ("files", "index", "where", "present"),
    [
        ({}, None, "not here", 0),
        ({"model.safetensors": 1000}, None, "hub cache", 1000),
        (
            {"a.safetensors": 1000, "b.safetensors": 500},
            ["a.safetensors", "b.safetensors"],
            "hub cache",
            1500,
        ),
        ({"a.safetensors": 1000}, ["a.safetensors", "b.safetensors"], "half in the cache", 1000),
    ],
)
def test_a_snapshot_is_whole_only_with_all_its_parts(monkeypatch, tmp_path, files, index, where, present):
    card = model_card("gemma-3-4b")
    cached(monkeypatch, tmp_path, card, files, index)
    place = weights_place(card)
    assert (place.where, place.folder, place.here) == (where, str(tmp_path), where == "hub cache")
    missing = 0 if where == "hub cache" else (card.parameters * 2 - present) / 1e9
    assert place.download == pytest.approx(missing)


def test_the_published_cards_say_what_is_downloaded():
    # 2 bytes of bfloat16 for each parameter that the card counts
    gb = {card.name: card.parameters * 2 / 1e9 for card in all_models().values() if card.hub_id}
    expected = {"qwen2.5-vl-7b": 16.6, "qwen2.5-vl-32b": 66.9, "qwen2.5-vl-72b": 146.8}
    expected |= {"gemma-3-4b": 8.6, "gemma-3-12b": 24.4, "gemma-3-27b": 54.9, "sd3.5-large-turbo": 16.1}
    assert {name: round(value, 1) for name, value in gb.items()} == expected
    for card in (c for c in all_models().values() if c.hub_id and c.role == "mllm"):
        assert published_shapes()[card.hub_id].parameters == card.parameters


def test_embedded_own_and_served_models_need_no_download(tmp_path):
    stand_in = model_card("standin-gemma-s")
    assert weights_place(stand_in).where == "embedded"
    assert weights_place(own_model(stand_in.folder, name="mine")).where == "folder"
    assert weights_place(model_card("gemma-3-4b"), "http://localhost:1/v1").where == "server"
    made = ModelCard("made", "own", "mllm", None, make=lambda: None)
    assert [weights_place(card).download for card in (stand_in, made)] == [0, 0]
    assert weights_place(made).where == "own engine"


@pytest.mark.parametrize(
    ("device", "machine", "expected"),
    [
        ("auto", TWO, ("cuda", "bfloat16", 18.0)),  # nine tenths of 20
        ("auto", NONE, ("cpu", "float32", 16.0)),
        ("cuda:1", TWO, ("cuda:1", "bfloat16", 9.0)),
        ("cuda:7", TWO, ("cuda:7", "bfloat16", 0.0)),
        ("cuda", NONE, ("cuda", "bfloat16", 0.0)),
        ("spread", TWO, ("spread", "bfloat16", 27.0)),
    ],
)
def test_a_device_has_a_format_and_room(device, machine, expected):
    got = device_on(machine, device)
    assert (
        got,
        precision_on(got, model_card("gemma-3-4b")),
        pytest.approx(room_on(machine, got)),
    ) == expected


@pytest.mark.parametrize(
    ("plain", "four", "device", "machine", "verdict"),
    [
        (18.0, 5.0, "cuda", TWO, "fits"),
        (18.1, 5.0, "cuda", TWO, "fits with nf4"),
        (18.1, 18.1, "cuda", TWO, "only spread"),
        (27.1, 18.1, "cuda", TWO, "does not fit"),
        (26.0, 5.0, "spread", TWO, "fits"),
        (10.0, 5.0, "cuda:1", TWO, "fits with nf4"),
        (16.1, 1.0, "cpu", NONE, "does not fit"),
        (1.0, 1.0, "cpu", replace(NONE, memory=NAN), "unknown"),
        (NAN, NAN, "cpu", NONE, "unknown"),
    ],
)
def test_a_verdict_is_by_room_first_and_the_way_out_after(plain, four, device, machine, verdict):
    def needs(precision):
        return four if precision.startswith("nf4") else plain

    assert fit_verdict(needs, "bfloat16", device, machine) == verdict


def test_four_bits_that_were_asked_for_are_not_offered_again():
    assert fit_verdict(lambda precision: 19.0, "nf4-bfloat16", "cuda", TWO) == "only spread"


def test_four_bits_need_a_gpu_however_much_memory_there_is():
    row = fit_row(
        "a",
        model_card("gemma-3-4b"),
        replace(NONE, memory=4000.0),
        Load(4e9),
        ModelChoice(quantisation="nf4"),
    )
    assert row["verdict"] == "needs a GPU" and "CUDA" in row["todo"] and row["device"] == "cpu"
    assert (
        fit_verdict(lambda precision: 1.0, "nf4-float32", "cpu", TWO) == "needs a GPU"
    )  # Said so, beside two GPUs
    assert fit_verdict(lambda precision: 1.0, "nf4-bfloat16", "cuda", TWO) == "fits"


def test_memory_is_the_estimates_own():
    card, size = model_card("qwen2.5-vl-7b"), (1000, 800)
    load = load_of(card, size=size, text_tokens=150, new_tokens=64, pixels=500_000)
    shape = published_shapes()[card.hub_id]
    for precision in ("float32", "bfloat16", "nf4-bfloat16"):
        for batch in (1, 7):
            expected = memory_estimate(shape, batch, size, 150, 64, precision, 500_000).total / 1e9
            assert load.needs(precision, batch) == pytest.approx(expected)


def test_the_batch_shown_fits_and_the_next_would_not():
    load = load_of(model_card("qwen2.5-vl-7b"), size=(1000, 1000))
    batch = load.batch("bfloat16", "cuda", 18.0, 64)
    assert 1 <= batch < 64 and load.needs("bfloat16", batch) <= 18.0 < load.needs("bfloat16", batch + 1)
    assert load.batch("bfloat16", "cuda", 1000.0, 64) == 64


def test_a_model_of_unknown_build_is_weighed_by_its_weights_alone():
    assert Load(4e9).needs("bfloat16") == 8.0 and Load(4e9).needs("float32") == 16.0
    assert Load(4e9).needs("nf4-bfloat16") == pytest.approx(2.2)
    unknown = load_of(ModelCard("far", "own", "mllm", None, hub_id="org/far", revision="0" * 40))
    assert unknown.needs("bfloat16") != unknown.needs("bfloat16")


def test_a_row_says_what_to_do():
    row = fit_row("a", model_card("gemma-3-27b"), TWO, Load(27e9))
    assert (row["verdict"], row["precision"]) == ("fits with nf4", "bfloat16")
    assert row["todo"].replace("14.8", "14.9") == 'needs 54.0 GB of 18.0; quantisation = "nf4" needs 14.9'
    served = fit_row(
        "b", model_card("gemma-3-27b"), NONE, Load(27e9), ModelChoice(server="http://x/v1", concurrency=5)
    )
    assert (served["verdict"], served["batch"], served["todo"]) == ("not here", 5, "")


def test_this_machine_and_its_disk_are_told():
    machine = this_machine()
    assert machine.cores >= 1 and machine.memory > 0 and machine.disk("/not/there/yet") > 0
    assert free_disk("memory://run") != free_disk("memory://run")
