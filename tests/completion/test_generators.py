"""Generators: where they run, what identifies their pictures, and when their memory comes back."""

import gc
import inspect
import json
import shutil
import weakref
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.completion import devices, generators
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.drawing import image_seed
from mmpc_analysis.completion.generators import (
    absent_parts,
    call_settings,
    draw_batch,
    free_generator,
    generator_facts,
    generator_setup,
    load_generator,
    place_generator,
)
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.completion.own_models import own_model

GENERATOR = "standin-sd3"
ROOT = files("mmpc_analysis") / "data" / "catalogue"


@pytest.fixture
def two_gpus(monkeypatch):
    "As if torch saw two GPUs; nothing is moved to them."
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)


# ---------------------------------------------------------------- choices


def test_without_a_gpu_a_generator_runs_on_the_cpu_in_float32(monkeypatch):
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    for name in (GENERATOR, "sd3.5-large-turbo"):
        setup = generator_setup(name)
        assert (setup.device, setup.precision, setup.offload) == ("cpu", "float32", "none")


def test_on_a_gpu_it_computes_as_its_card_says(two_gpus):
    turbo = generator_setup("sd3.5-large-turbo")
    assert (turbo.device, turbo.precision) == ("cuda", "bfloat16")
    assert (generator_setup(GENERATOR).precision, model_card(GENERATOR).precision) == ("float16", "float16")
    assert generator_setup("sd3.5-large-turbo", precision="float32").precision == "float32"
    assert generator_setup("sd3.5-large-turbo", device="cuda:1", offload="model").offload == "model"
    assert generator_setup("sd3.5-large-turbo", device="cpu").precision == "float32"


def test_what_changes_a_picture_is_in_the_identity_and_nothing_else(two_gpus):
    base = generator_setup(GENERATOR, device="cuda").identity
    same = (
        {"device": "cuda:1"},
        {"device": "auto"},
        {"offload": "model"},
        {"offload": "sequential"},
        {"steps": 4},
    )
    for change in same:
        assert generator_setup(GENERATOR, **{"device": "cuda"} | change).identity == base, change
    other = ({"precision": "float32"}, {"precision": "bfloat16"}, {"steps": 3}, {"device": "cpu"})
    found = {generator_setup(GENERATOR, **{"device": "cuda"} | change).identity for change in other}
    assert base not in found and len(found) == 3  # On a CPU and on a GPU in float32 it is the same


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"generator": "standin-qwen-s"}, "must be a model that draws, got the mllm 'standin-qwen-s'"),
        ({"device": "spread"}, "one GPU such as cuda:1"),
        ({"device": "gpu"}, "'gpu'"),
        ({"offload": "model"}, "here it runs on the CPU; leave it none"),
        ({"offload": "sequential", "device": "auto"}, "here it runs on the CPU; leave it none"),
        ({"offload": "disk"}, "none, model, sequential, got 'disk'"),
        ({"precision": "int8"}, "got 'int8'"),
        ({"precision": "float16"}, "choose float32 or bfloat16"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(monkeypatch, choice, expected):
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    with pytest.raises(ValueError, match=expected):
        generator_setup(**{"generator": GENERATOR, "device": "cpu"} | choice)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch, two_gpus):
    with pytest.raises(BackendError, match="'cuda:2' is not there"):
        generator_setup(GENERATOR, device="cuda:2")


def test_the_facts_say_what_was_used_and_fit_into_json(two_gpus):
    facts = generator_facts(generator_setup("sd3.5-large-turbo", offload="model", steps=8))
    assert json.loads(json.dumps(facts)) == facts
    expected = {
        "generator": "sd3.5-large-turbo",
        "used_precision": "bfloat16",
        "device": "cuda",
        "offload": "model",
    }
    assert facts.items() >= expected.items() and facts["settings"]["num_inference_steps"] == 8
    assert facts["weights"] == model_card("sd3.5-large-turbo").revision


def test_the_stand_in_is_called_with_four_steps_and_no_guidance():
    for name in (GENERATOR, "sd3.5-large-turbo"):
        settings = call_settings(model_card(name))
        assert settings["num_inference_steps"] == 4 and settings["guidance_scale"] == 0.0
    assert call_settings(model_card(GENERATOR), steps=2)["num_inference_steps"] == 2


# ---------------------------------------------------------------- loading, moving, letting go


def test_a_third_text_encoder_that_is_not_there_is_named():
    absent = absent_parts(find_weights(model_card(GENERATOR)))
    assert all(value is None for value in absent.values())
    assert {"text_encoder_3", "tokenizer_3"} <= set(absent)
    assert absent_parts("owner/name") == {}


@pytest.mark.parametrize("offload", generators.OFFLOADS)
def test_offload_is_handed_to_the_pipeline_with_its_device(offload):
    told = []

    class Pipeline:
        def to(self, device):
            told.append(("none", device))
            return self

        def enable_model_cpu_offload(self, device):
            told.append(("model", device))

        def enable_sequential_cpu_offload(self, device):
            told.append(("sequential", device))

    pipeline = Pipeline()
    assert place_generator(pipeline, "cuda:1", offload) is pipeline and told == [(offload, "cuda:1")]


def test_the_real_pipeline_takes_what_offload_hands_it():
    from diffusers import DiffusionPipeline

    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        assert "device" in inspect.signature(getattr(DiffusionPipeline, name)).parameters


def test_the_chosen_type_reaches_the_weights():
    import torch

    pipeline = load_generator(find_weights(model_card(GENERATOR)), precision="bfloat16")
    assert {p.dtype for p in pipeline.transformer.parameters()} == {torch.bfloat16}
    free_generator()


def test_a_generator_is_let_go():
    pipeline = load_generator(find_weights(model_card(GENERATOR)))
    kept = weakref.ref(pipeline.transformer)
    assert load_generator(find_weights(model_card(GENERATOR))) is pipeline  # Once, not twice
    del pipeline
    free_generator()
    gc.collect()
    assert kept() is None and load_generator.cache_info().currsize == 0
    free_generator()  # Where there is none


def test_what_was_there_before_is_collected_before_a_generator_is_loaded(monkeypatch):
    free_generator()
    order = []
    monkeypatch.setattr(generators, "free_memory", lambda: order.append("free"))
    monkeypatch.setattr(
        generators, "place_generator", lambda pipeline, *_: order.append("placed") or pipeline
    )
    load_generator(find_weights(model_card(GENERATOR)))
    assert order == ["free", "placed"]
    free_generator()


def test_loading_shows_no_bar_of_its_own(capfd):
    from diffusers.utils import logging

    free_generator()
    load_generator(find_weights(model_card(GENERATOR)))
    assert "components" not in "".join(capfd.readouterr()) and logging.is_progress_bar_enabled()
    free_generator()


def test_weights_elsewhere_have_the_same_identity(tmp_path):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    card = own_model(str(copy), parameters=1, role="generator")
    assert generator_setup(card, device="cpu").weights == generator_setup(GENERATOR, device="cpu").weights


# ---------------------------------------------------------------- noise


def test_the_noise_of_each_picture_comes_from_the_cpu_and_its_own_seed():
    import torch

    given = {}

    def pipeline(**call):
        given.update(call)
        return SimpleNamespace(images=call["prompt"])

    assert draw_batch(pipeline, ["a", "b"], [7, 2**59], {"num_inference_steps": 4}) == ["a", "b"]
    assert [g.device.type for g in given["generator"]] == ["cpu", "cpu"]
    assert [g.initial_seed() for g in given["generator"]] == [7, 2**59]
    assert given["num_inference_steps"] == 4 and torch.is_inference_mode_enabled() is False


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_another_precision_the_noise_is_the_same_numbers_rounded(precision):
    import torch
    from diffusers.utils.torch_utils import randn_tensor

    dtype, shape = getattr(torch, precision), (2, 16, 8, 8)
    full, half = (
        randn_tensor(shape, generator=[torch.Generator("cpu").manual_seed(s) for s in (1, 2)], dtype=kind)
        for kind in (torch.float32, dtype)
    )
    assert torch.equal(full.to(dtype), half) and not torch.equal(full[0], full[1])


@pytest.fixture(scope="module")
def pipeline():
    return load_generator(find_weights(model_card(GENERATOR)))


def prompts_of(n):
    items = pd.read_csv(str(ROOT / "items.csv"), dtype=str)
    return [f"{title.split(',')[0]}, on white" for title in items["title"].iloc[:: len(items) // n][:n]]


def test_pictures_do_not_depend_on_their_batch(pipeline):
    texts, settings = prompts_of(7), call_settings(model_card(GENERATOR))
    seeds = [image_seed(0, text) for text in texts]
    together = [np.asarray(p, dtype=int) for p in draw_batch(pipeline, texts, seeds, settings)]
    alone = [
        np.asarray(draw_batch(pipeline, [t], [s], settings)[0], dtype=int)
        for t, s in zip(texts, seeds, strict=True)
    ]
    assert max(np.abs(a - b).max() for a, b in zip(together, alone, strict=True)) <= 2
    assert together[0].shape == (64, 64, 3) and np.ptp(together[0]) > 20


def test_the_same_batch_is_the_same_to_the_last_bit(pipeline):
    texts, settings = prompts_of(5), call_settings(model_card(GENERATOR))
    one, two = (draw_batch(pipeline, texts, [1, 2, 3, 4, 5], settings) for _ in range(2))
    assert [p.tobytes() for p in one] == [p.tobytes() for p in two]


def test_the_seed_matters(pipeline):
    settings = call_settings(model_card(GENERATOR))
    one, two = draw_batch(pipeline, ["Red Apple"] * 2, [1, 2], settings)
    assert one.tobytes() != two.tobytes()
