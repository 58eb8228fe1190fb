"""Checkpoints: loaded alike whatever their files say, and prompts that start with one BOS."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files

import pandas as pd
import pytest
import torch
from PIL import Image
from starts import BOS, WRITTEN, with_start

from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.backends import TransformersBackend
from mmpc_analysis.completion.checkpoints import (
    PINNED,
    BackendError,
    escape_special_tokens,
    fit_image,
    greedy_settings,
    load_engine,
    load_processor,
    may_add_bos,
    pinned_options,
    special_tokens,
    torch_threads,
)
from mmpc_analysis.completion.inputs import make_inputs
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Request

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")


TITLE, PROMPT = prompt_for("image_to_text", short=True), prompt_for("text_to_image", short=True)


@pytest.fixture(scope="module")
def items():
    return pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").iloc[::12]


def told(items, limit=40):
    return [Request(i, conversation(PROMPT, title=title), None, limit)
            for i, title in zip(items["item_id"], items["title"], strict=True)]  # fmt: skip


@pytest.mark.parametrize("named", ["Qwen25VLImageTextProcessor", "Qwen2_5_VLProcessor", None])
def test_any_processor_class_in_the_file_loads(tmp_path, named):
    copy = shutil.copytree(find_weights(model_card("standin-qwen-s")), tmp_path / "copy")
    for name in ("processor_config.json", "tokenizer_config.json"):
        settings = json.loads((copy / name).read_text())
        settings.pop("processor_class", None)
        (copy / name).write_text(json.dumps(settings | ({"processor_class": named} if named else {})))
    processor = load_processor(str(copy))
    assert type(processor).__name__ == "Qwen25VLImageTextProcessor" and hasattr(processor, "image_processor")


def test_one_end_token_as_a_number():
    from transformers import GenerationConfig

    tokenizer = load_processor(find_weights(model_card("standin-gemma-s"))).tokenizer
    assert greedy_settings(GenerationConfig(eos_token_id=6), tokenizer).eos_token_id == sorted(
        {6, tokenizer.eos_token_id}
    )


def test_a_text_model_is_refused(tmp_path):
    copy = shutil.copytree(find_weights(model_card("standin-gemma-s")), tmp_path / "copy")
    for name in ("processor_config.json", "tokenizer_config.json"):
        settings = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps(settings | {"processor_class": "NoSuchProcessor"}))
    with pytest.raises((BackendError, ValueError, OSError)):
        load_processor(str(copy))


def test_hub_ids_are_pinned():
    for revision in (None, "main", "v1", "0" * 39):
        with pytest.raises(BackendError, match="pinned revision"):
            pinned_options("Qwen/Qwen2.5-VL-7B-Instruct", revision)
    assert not pinned_options("Qwen/Qwen2.5-VL-7B-Instruct", "a" * 40)["trust_remote_code"]
    for name in (
        "qwen2.5-vl-7b",
        "qwen2.5-vl-32b",
        "qwen2.5-vl-72b",
        "gemma-3-4b",
        "gemma-3-12b",
        "gemma-3-27b",
    ):
        assert load_backend(name).identity.startswith(
            f"transformers|{model_card(name).hub_id}@{model_card(name).revision}"
        )


def in_a_fresh_python(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


ASK = """
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.protocol import Request
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.catalogue.pictures import open_image
prompt = prompt_for("image_to_text", short=True)
picture = open_image({root!r}, "pictures/console-atari-2600.webp")
backend = load_backend("standin-qwen-s")
print(backend.ask([Request("k", conversation(prompt, image=True), picture, 12)])[0].text.replace(" ", "_"))
print(type(backend.engine.processor.image_processor).__name__)
"""


def test_a_torchvision_that_does_not_import_changes_nothing(tmp_path):
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    info = tmp_path / "torchvision-0.99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99.0\n")
    code, plain = ASK.format(root=ROOT), load_backend("standin-qwen-s")
    request = Request(
        "k", conversation(TITLE, image=True), open_image(ROOT, "pictures/console-atari-2600.webp"), 12
    )
    expected = [
        plain.ask([request])[0].text.replace(" ", "_"),
        type(plain.engine.processor.image_processor).__name__,
    ]
    assert in_a_fresh_python(code, PYTHONPATH=str(tmp_path)) == expected
    late = "import transformers\nfrom transformers.utils import is_torchvision_available as t\nt()\n" + code
    assert in_a_fresh_python(late, PYTHONPATH=str(tmp_path)) == expected


def test_a_crop_making_processor_gets_the_picture_as_it_is():
    from types import SimpleNamespace

    picture = Image.new("RGB", (500, 300))
    assert fit_image(picture, SimpleNamespace(size={}, do_resize=True, do_pan_and_scan=True)) is picture
    assert fit_image(picture, SimpleNamespace(size={}, do_resize=False)) is picture


def test_threads_are_restored_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_engine_reports_its_family():
    engine = load_engine(find_weights(model_card("standin-gemma-s")))
    assert engine.model.config.model_type == "gemma3" and not engine.model.training


# ---------------------------------------------------------------- decoding that no checkpoint can change

WILD = {
    "as Qwen2.5-VL's": {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.000001, "top_k": 1, "top_p": 0.001},
    "as Gemma-3's": {"do_sample": True, "top_k": 64, "top_p": 0.95, "cache_implementation": "hybrid"},
    "penalties": {"repetition_penalty": 5.0, "encoder_repetition_penalty": 2.0, "no_repeat_ngram_size": 1, "length_penalty": 9.0},
    "drawn": {"do_sample": True, "temperature": 9.0, "min_p": 0.01, "typical_p": 0.2, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1},
    "suppressed": {"suppress_tokens": list(range(100, 900)), "begin_suppress_tokens": list(range(10, 1900))},
    "forced": {"forced_bos_token_id": 77, "forced_eos_token_id": 78, "exponential_decay_length_penalty": [1, 9.0]},
    "lengths": {"min_length": 300, "min_new_tokens": 30, "max_length": 3, "max_new_tokens": 2, "max_time": 0.0001},
    "forbidden": {"bad_words_ids": [[n] for n in range(100, 900)], "sequence_bias": [[[200], -50.0]], "guidance_scale": 3.0},
    "beams": {"num_beams": 4, "num_return_sequences": 2, "early_stopping": True},
    "guesses": {"prompt_lookup_num_tokens": 4, "penalty_alpha": 0.6, "low_memory": True, "stop_strings": ["e"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def plain_answers(items):
    return {name: [(a.text, a.output_tokens) for a in load_backend(name).ask(told(items[:4]))]
            for name in ("standin-gemma-s", "standin-qwen-s")}  # fmt: skip


@pytest.mark.parametrize("kind", WILD)
@pytest.mark.parametrize("name", ["standin-gemma-s", "standin-qwen-s"])
def test_no_generation_setting_of_a_checkpoint_changes_an_answer(tmp_path, items, plain_answers, name, kind):
    copy = shutil.copytree(find_weights(model_card(name)), tmp_path / "copy")
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | WILD[kind]))
    answers = TransformersBackend(str(copy)).ask(told(items[:4]))
    assert [(a.text, a.output_tokens) for a in answers] == plain_answers[name]


def test_nor_do_those_that_an_old_checkpoint_keeps_in_its_configuration(tmp_path, items, plain_answers):
    copy = shutil.copytree(find_weights(model_card("standin-gemma-s")), tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    wild = {
        "repetition_penalty": 5.0,
        "do_sample": True,
        "temperature": 9.0,
        "suppress_tokens": list(range(100, 900)),
    }
    (copy / "config.json").write_text(json.dumps(config | wild))
    answers = TransformersBackend(str(copy)).ask(told(items[:4]))
    assert [(a.text, a.output_tokens) for a in answers] == plain_answers["standin-gemma-s"]


def test_what_is_pinned_is_what_is_used():
    settings = load_engine(find_weights(model_card("standin-qwen-s"))).model.generation_config
    assert {name: getattr(settings, name) for name in PINNED} == PINNED
    off = {
        "temperature": (None, 1.0),
        "top_k": (None, 50),
        "top_p": (None, 1.0),
    }  # None, or the library's default, with no drawing
    assert all(getattr(settings, name) in values for name, values in off.items())
    for name in (
        "suppress_tokens",
        "begin_suppress_tokens",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "bad_words_ids",
        "stop_strings",
    ):
        assert getattr(settings, name) is None


# ---------------------------------------------------------------- one BOS


def in_one_step(request, processor):
    "The ids that the processor makes of a request when it renders and tokenises at once."
    special = special_tokens(processor.tokenizer)
    turns = [turn | {"content": [{"type": "image", "image": request.image} if part["type"] == "image"
                                 else part | {"text": escape_special_tokens(part["text"], special)} for part in turn["content"]]}
             for turn in request.conversation]  # fmt: skip
    return processor.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=True)


def assert_one_step(requests, processor, bos_due):
    "Batched rows without their padding are the rows of one step, with as many BOS as are due; ids of the batch."
    made = make_inputs(requests, processor, special_tokens(processor.tokenizer))
    first = processor.tokenizer.bos_token_id
    for number, (request, due) in enumerate(zip(requests, bos_due, strict=True)):
        mask = made["attention_mask"][number].bool()
        expected, ids = in_one_step(request, processor), made["input_ids"][number][mask].tolist()
        assert ids == expected["input_ids"][0]
        assert (ids[0] == first, ids.count(first)) == (bool(due), due)
        assert mask.tolist() == sorted(mask.tolist())  # All padding is on the left
        for name in {"token_type_ids", "mm_token_type_ids"} & set(made) & set(expected):
            assert made[name][number][mask].tolist() == list(expected[name][0]), name
    return made["attention_mask"]


@pytest.mark.parametrize("template", [WRITTEN, ""], ids=["template writes BOS", "template writes none"])
@pytest.mark.parametrize("adds", [True, False], ids=["tokenizer adds BOS", "tokenizer adds none"])
@pytest.mark.parametrize("family", BOS)
def test_a_prompt_starts_as_in_one_step(tmp_path, items, family, adds, template):
    processor = load_processor(str(with_start(tmp_path, family, adds, template)))
    assert (processor.tokenizer("a")["input_ids"][0] == processor.tokenizer.bos_token_id) == adds
    due = int(adds or bool(template))
    attack = [Request("attack", conversation(PROMPT, title=f"{BOS[family]} Mug"), None)]
    texts = told(items[:5]) + attack + [Request("long", conversation(PROMPT, title="Red Mug " * 20), None)]
    assert not assert_one_step(texts, processor, [due] * 7).all()  # Some rows are padded
    pictures = [open_image(ROOT, image).resize((64, 64)) for image in items["image"][:5]]
    longer = replace(TITLE, text=TITLE.text + " In a few words.")
    alike = [Request(str(i), conversation(TITLE, image=True), p) for i, p in enumerate(pictures)]
    mixed = [Request(r.key, conversation(longer, image=True), r.image) for r in alike[:2]]
    assert assert_one_step(alike, processor, [due] * 5).all()
    assert not assert_one_step(alike + mixed, processor, [due] * 7).all()
    assert not assert_one_step(alike[:1] + mixed[:1], processor, [due] * 2).all()
    assert assert_one_step(texts[:1], processor, [due]).all() and assert_one_step(alike[:1], processor, [due]).all()  # fmt: skip


@pytest.mark.parametrize("adds", [True, False], ids=["tokenizer adds BOS", "tokenizer adds none"])
@pytest.mark.parametrize("family", BOS)
def test_a_template_may_write_bos_before_some_conversations(tmp_path, items, family, adds):
    template = "{% if messages[0]['role'] == 'system' %}" + WRITTEN + "{% endif %}"
    processor = load_processor(str(with_start(tmp_path, family, adds, template)))
    plain = told(items[:3])
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    with_system = [replace(r, conversation=[system, *r.conversation]) for r in plain]
    for requests, due in ((plain, [int(adds)] * 3), (with_system, [1] * 3), (plain + with_system, [int(adds)] * 3 + [1] * 3)):  # fmt: skip
        assert_one_step(requests, processor, due)


def test_prompts_that_may_have_started_twice_have_other_keys(tmp_path):
    for family in BOS:
        for size in "sml":
            assert load_backend(f"standin-{family}-{size}").identity.endswith("|float32|greedy")
        for adds in (True, False):
            source = with_start(tmp_path / f"{family} {adds}", family, adds, WRITTEN)
            assert TransformersBackend(str(source)).identity.endswith(
                "|greedy|one BOS" if adds else "|greedy"
            )
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": True}))
    assert may_add_bos(str(source))
    (source / "tokenizer_config.json").unlink()
    assert may_add_bos(str(source)) and may_add_bos("google/gemma-3-4b-it")
