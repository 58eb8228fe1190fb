"""Tokens against one step of the processor: fixtures of both families, and code that makes them otherwise."""

import json
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from starts import BOS, WRITTEN, with_start

from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.completion import backends, inputs
from mmpc_analysis.completion.backends import TransformersBackend
from mmpc_analysis.completion.checkpoints import (
    BackendError,
    Engine,
    escape_special_tokens,
    limit_pixels,
    load_processor,
    special_tokens,
)
from mmpc_analysis.completion.inputs import make_inputs
from mmpc_analysis.completion.models import ModelCard, model_card
from mmpc_analysis.completion.prompts import conversation, own_prompt, prompt_for
from mmpc_analysis.completion.protocol import Request
from mmpc_analysis.completion.tokenisation import (
    check_tokens,
    extra_starts,
    one_step,
    picture_fault,
    probe_requests,
    row_difference,
    served_processor,
    split_rows,
)

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
TASKS = ("image_to_text", "text_to_image")


@pytest.fixture(scope="module")
def items():
    return pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").iloc[::12].head(4)


def engine_of(source, **settings):
    "A backend that can tokenise and cannot answer: its files without weights."
    backend = TransformersBackend(str(source), **settings)
    processor = load_processor(str(source))
    limit_pixels(processor.image_processor, backend.pixels)
    vars(backend)["engine"] = Engine(processor, None, special_tokens(processor.tokenizer))
    return backend


def questions(items, backend, task, prompt=None):
    "Real questions, the blind one and the probes."
    prompt, rows = prompt or prompt_for(task), items.itertuples(index=False)
    if task == "text_to_image":
        real = [Request(r.item_id, conversation(prompt, title=r.title), None) for r in rows]
    else:
        real = [
            Request(r.item_id, conversation(prompt, image=True), backend.fit(open_image(ROOT, r.image)))
            for r in rows
        ]
    return real + probe_requests(prompt, backend.engine.processor, backend.fit)


def doubled(requests, processor, special):
    "Two steps, the second of which adds what the tokenizer adds."
    return two_steps(requests, processor, special, {})


def blanket(requests, processor, special):
    "Two steps, the second of which adds nothing."
    return two_steps(requests, processor, special, {"add_special_tokens": False})


def two_steps(requests, processor, special, how):
    turns = json.loads(json.dumps([r.conversation for r in requests]))
    for part in (part for (turn,) in turns for part in turn["content"] if part["type"] == "text"):
        part["text"] = escape_special_tokens(part["text"], special)
    texts = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    pictures = [[r.image] for r in requests if r.image is not None]
    how = how | ({"images": pictures} if pictures else {})
    return dict(processor(text=texts, padding=True, return_tensors="pt", **how))


STARTS = [
    pytest.param(family, adds, template, id=f"{family}-{'adds' if adds else 'adds none'}-{'writes' if template else 'writes none'}")
    for family in BOS for adds in (True, False) for template in (WRITTEN, "")
]  # fmt: skip


@pytest.mark.parametrize(("family", "adds", "template"), STARTS)
def test_every_start_passes_and_naive_code_fails_where_it_is_wrong(tmp_path, items, monkeypatch, family, adds, template):  # fmt: skip
    backend = engine_of(with_start(tmp_path, family, adds, template), batch_size=5)
    first = backend.engine.processor.tokenizer.convert_tokens_to_ids(BOS[family])
    wrong = {make_inputs: False, doubled: adds and bool(template), blanket: adds and not template}
    for task in TASKS:
        asked = questions(items, backend, task)
        for request in asked:
            ids = one_step(request, backend.engine.processor, backend.engine.special)["input_ids"][0].tolist()
            assert ids.count(first) == (ids[0] == first) == int(adds or bool(template))
        for naive, expected in wrong.items():
            monkeypatch.setattr(backends, "make_inputs", naive)
            found = check_tokens(backend, asked)
            assert (found["error"] == "").all() and found["seen"].all() and len(found) == len(asked)
            assert (found["difference"] != "").tolist() == [expected] * len(asked), naive.__name__
            if expected:
                number = 2 if naive is doubled else 1
                assert found["difference"].str.contains(f"differs is number {number}, ", regex=False).all()
        monkeypatch.setattr(backends, "make_inputs", make_inputs)


@pytest.mark.parametrize(("adds_special", "wrong_where"), [(True, WRITTEN), (False, "")])
@pytest.mark.parametrize("family", BOS)
def test_naive_begin_once_fails_in_the_shared_and_the_whole_way(tmp_path, items, monkeypatch, family, adds_special, wrong_where):  # fmt: skip
    backend = engine_of(with_start(tmp_path, family, True, wrong_where))
    monkeypatch.setattr(inputs, "begin_once", lambda texts, tokenizer: (texts, adds_special))
    for task in TASKS:
        found = check_tokens(backend, questions(items, backend, task))
        assert (found["difference"] != "").all()


@pytest.mark.parametrize("family", BOS)
def test_a_start_that_no_file_declares_is_written_once(tmp_path, items, family):
    source = with_start(tmp_path, family, True, BOS[family])
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": None}))
    backend = engine_of(source)
    processor, special = backend.engine.processor, backend.engine.special
    assert processor.tokenizer.bos_token_id is None
    first = processor.tokenizer.convert_tokens_to_ids(BOS[family])
    ask = questions(items, backend, "text_to_image")
    raw = processor.apply_chat_template(ask[-1].conversation, tokenize=True, add_generation_prompt=True, return_dict=True)  # fmt: skip
    assert raw["input_ids"][0][:2] == [first, first]  # One step itself writes two
    assert extra_starts(raw["input_ids"][0], processor.tokenizer) == 1
    assert one_step(ask[-1], processor, special)["input_ids"][0, :2].tolist().count(first) == 1
    for task in TASKS:
        assert (check_tokens(backend, questions(items, backend, task))["difference"] == "").all()


@pytest.mark.parametrize("family", BOS)
def test_prompts_of_ones_own_and_both_ways(items, family):
    backend = engine_of(model_card(f"standin-{family}-s").folder, batch_size=3)
    for task, words in (("image_to_text", '{"title": "…"} ¿qué? \U0001f9f6'), ("text_to_image", '{"prompt": 1} e\u0301')):  # fmt: skip
        asked = questions(items, backend, task, own_prompt("mine", task, words))
        found = check_tokens(backend, asked)
        assert found["seen"].all() and not found["difference"].any() and found["due"].gt(5).all()


# ---------------------------------------------------------------- pictures


def spoil(change):
    "`make_inputs` with tensors that are changed afterwards."

    def made(requests, processor, special):
        tensors = make_inputs(requests, processor, special)
        change(tensors, processor.tokenizer.convert_tokens_to_ids(["<image_soft_token>", "<|image_pad|>"]))
        return tensors

    return made


def no_types(tensors, tokens):
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in tensors:
            tensors[name] = torch.zeros_like(tensors[name])


def shifted_types(tensors, tokens):
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in tensors:
            tensors[name] = tensors[name].roll(1, 1)


def lost_types(tensors, tokens):
    for name in ("token_type_ids", "mm_token_type_ids"):
        tensors.pop(name, None)


def masked_picture(tensors, tokens):
    places = torch.isin(tensors["input_ids"], torch.tensor([t for t in tokens if t is not None]))
    tensors["attention_mask"][places] = 0


def other_pixels(tensors, tokens):
    tensors["pixel_values"] = tensors["pixel_values"].flip(0)


def turned_grid(tensors, tokens):
    if "image_grid_thw" in tensors:
        tensors["image_grid_thw"] = tensors["image_grid_thw"][:, [0, 2, 1]] + 2


SPOILT = [no_types, shifted_types, lost_types, masked_picture, other_pixels]


@pytest.mark.parametrize(
    ("family", "change"), [(f, c) for f in BOS for c in SPOILT] + [("qwen", turned_grid)]
)
def test_tensors_of_pictures_that_do_not_line_up_are_found(monkeypatch, items, family, change):
    backend = engine_of(model_card(f"standin-{family}-s").folder)
    asked = [r for r in questions(items, backend, "image_to_text") if r.image is not None]
    monkeypatch.setattr(backends, "make_inputs", spoil(change))
    found = check_tokens(backend, asked)
    assert (found["difference"] != "").all(), found["difference"].tolist()


def test_a_wrong_row_of_the_shared_way_is_found(monkeypatch, items):
    backend = engine_of(model_card("standin-qwen-s").folder)
    asked = [r for r in questions(items, backend, "image_to_text") if r.key.startswith("probe")]
    shared, seen = inputs._shared_inputs, []

    def wrong(requests, processor, special):
        made = shared(requests, processor, special)
        if made is not None:
            seen.append(len(requests))
            made["mm_token_type_ids"] = made["mm_token_type_ids"].flip(1)
        return made

    assert not check_tokens(backend, asked)["difference"].any()
    monkeypatch.setattr(inputs, "_shared_inputs", wrong)
    assert check_tokens(backend, asked)["difference"].all() and seen == [6]  # Only the batch goes this way


def test_places_of_a_picture_as_computed_by_hand(tmp_path):
    """With the published patches of 14 pixels, merged by two, a side is rounded to multiples of 28: 640 x 360 becomes 644 x 364,
    or 23 x 13 = 299 tokens; 120 x 400 becomes 112 x 392, or 4 x 14 = 56; 28 x 28 grows to the least area, 56 x 56, or 4."""
    source = with_start(tmp_path, "qwen", False, "")
    settings = json.loads((source / "processor_config.json").read_text())
    settings["image_processor"] |= {
        "patch_size": 14, "size": {"shortest_edge": 3136, "longest_edge": 12845056},
    }  # fmt: skip
    (source / "processor_config.json").write_text(json.dumps(settings))
    backend = engine_of(source)
    probes = probe_requests(prompt_for("image_to_text"), backend.engine.processor)
    found = check_tokens(backend, probes)
    assert not found["difference"].any() and not found["error"].any()
    rows = [
        one_step(r, backend.engine.processor, backend.engine.special)["input_ids"] for r in probes if r.image
    ]
    token = backend.engine.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert [int((row == token).sum()) for row in rows] == [4, 4, 299, 299, 56, 56]


def test_a_processor_that_agrees_with_itself_is_held_against_the_model():
    backend = engine_of(model_card("standin-gemma-s").folder)
    processor, special = backend.engine.processor, backend.engine.special
    ask = Request("a", conversation(prompt_for("image_to_text"), image=True), Image.new("RGB", (64, 64)))
    row = one_step(ask, processor, special)
    small = type("Config", (), {"mm_tokens_per_image": 16, "image_token_id": 7})()
    large = type("Config", (), {"mm_tokens_per_image": 256, "image_token_id": 7})()
    assert picture_fault(row, processor, small) == picture_fault(row, processor) == ""
    assert picture_fault(row, processor, large) == "16 picture tokens where the picture needs 256"


def test_a_batch_is_cut_into_its_rows(items):
    backend = engine_of(model_card("standin-qwen-s").folder)
    processor, special = backend.engine.processor, backend.engine.special
    asked = questions(items, backend, "image_to_text")[-6:]
    due = [one_step(r, processor, special) for r in asked]
    longer = replace(asked[0], conversation=conversation(prompt_for("image_to_text", True), image=True))
    asked, due = [*asked, longer], [*due, one_step(longer, processor, special)]
    rows = split_rows(make_inputs(asked, processor, special), due)
    assert [row_difference(*pair, processor.tokenizer) for pair in zip(rows, due, strict=True)] == [""] * 7
    assert "differs is number" in row_difference(rows[-1], due[0], processor.tokenizer)
    assert len({row["pixel_values"].shape for row in rows}) > 1


# ---------------------------------------------------------------- errors, and engines that show nothing


def test_a_question_or_batch_that_fails_is_no_difference(monkeypatch, items):
    backend = engine_of(model_card("standin-gemma-s").folder)
    asked = questions(items, backend, "text_to_image")

    def failing(requests, processor, special):
        if len(requests) > 1 or requests[0].key == asked[1].key:
            raise RuntimeError("no room")
        return make_inputs(requests, processor, special)

    monkeypatch.setattr(backends, "make_inputs", failing)
    found = check_tokens(
        backend, [*asked, Request("no text", [{"role": "user", "content": [{"type": "text"}]}])]
    )
    assert found.set_index("key")["error"][asked[1].key] == "RuntimeError: no room"
    assert "KeyError" in found.set_index("key")["error"]["no text"]
    assert not found["difference"].any() and found["seen"].sum() == len(asked) - 1
    assert np.isnan(found.set_index("key")["due"]["no text"])


def test_an_engine_that_can_prepare_nothing_ends_the_check(monkeypatch, items):
    def gone(*args):
        raise BackendError("padded on the right")

    monkeypatch.setattr(backends, "make_inputs", gone)
    backend = engine_of(model_card("standin-gemma-s").folder)
    with pytest.raises(BackendError, match="padded on the right"):
        check_tokens(backend, questions(items, backend, "text_to_image"))


def test_an_engine_that_shows_no_tokens_has_only_what_is_due(items):
    processor = served_processor(model_card("standin-gemma-s"))
    asked = questions(items, engine_of(model_card("standin-gemma-s").folder), "text_to_image")
    found = check_tokens(object(), asked, processor)
    assert not found["seen"].any() and found["due"].gt(0).all() and not found["difference"].any()
    assert check_tokens(object(), asked).empty


def test_a_served_processor_is_looked_for_on_this_machine_only(tmp_path):
    assert served_processor(model_card("standin-qwen-s")).tokenizer.padding_side == "left"
    assert served_processor(model_card("gemma-3-4b")) is None  # Not in the cache here
    assert served_processor(ModelCard("x", "own", "mllm", None)) is None
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert served_processor(ModelCard("x", "own", "mllm", None, folder=str(tmp_path))) is None


def test_probes_try_every_special_token_of_the_tokenizer():
    for family, written in (("gemma", "<bos>"), ("qwen", "<|im_end|>")):
        processor = engine_of(model_card(f"standin-{family}-s").folder).engine.processor
        said = " ".join(str(r.conversation) for r in probe_requests(prompt_for("text_to_image"), processor))
        assert written in said and re.search("e\u0301|a\u0308", said) and len(said) > 1500


@pytest.mark.parametrize(("pixels", "tokens"), [(None, 299), (100_352, 120)])
def test_a_pixel_budget_scales_both_ways_alike(tmp_path, items, pixels, tokens):
    """640 x 360 within 100,352 pixels, 128 tokens of 28 x 28: sides divided by 1.515 and rounded down, 420 x 224, or 15 x 8 = 120."""
    source = with_start(tmp_path, "qwen", False, "")
    settings = json.loads((source / "processor_config.json").read_text())
    settings["image_processor"] |= {
        "patch_size": 14, "size": {"shortest_edge": 3136, "longest_edge": 12845056},
    }  # fmt: skip
    (source / "processor_config.json").write_text(json.dumps(settings))
    backend = engine_of(source, pixels=pixels)
    found = check_tokens(backend, questions(items, backend, "image_to_text")).set_index("key")
    assert not found["difference"].any() and not found["error"].any() and found["seen"].all()
    places = found["due"] - found.loc["probe 1", "due"] + 4  # The smallest picture has four
    assert places["probe 3"] == places["probe 4"] == tokens
