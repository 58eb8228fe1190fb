"A policy is trained on the tokens that it is asked with, whatever its tokenizer and template add."

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starts import BOS, WRITTEN, with_start

from mmpc_analysis.alignment.policies import (
    ADAPTED,
    answer_logprobs,
    check_start,
    load_policy,
    policy_backend,
    policy_requests,
    policy_rows,
)
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.inputs import make_inputs
from mmpc_analysis.completion.likelihoods import answer_tokens
from mmpc_analysis.completion.models import ModelCard, find_weights, model_card
from mmpc_analysis.completion.prompts import prompt_for

FAMILIES = {"qwen": "Qwen2.5-VL", "gemma": "Gemma-3"}


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue(split="train")


def card_of(folder, family, adds, template):
    "A stand-in whose tokenizer adds BOS or none, and whose template writes it or none, with its weights."
    copy = with_start(folder, family, adds, template)
    weights = Path(find_weights(model_card(f"standin-{family}-s"))) / "model.safetensors"
    shutil.copyfile(weights, copy / weights.name)
    return ModelCard(
        f"{family}-{adds}-{bool(template)}", FAMILIES[family], "mllm", 400_000, folder=str(copy), standin=True
    )


@pytest.mark.parametrize("task", ["image_to_text", "text_to_image"])
@pytest.mark.parametrize("template", [WRITTEN, ""], ids=["template writes BOS", "template writes none"])
@pytest.mark.parametrize("adds", [True, False], ids=["tokenizer adds BOS", "tokenizer adds none"])
@pytest.mark.parametrize("family", BOS)
def test_a_policy_starts_as_its_model_is_asked(tmp_path, catalogue, family, adds, template, task):
    from mmpc_analysis.completion.checkpoints import load_processor, special_tokens

    card = card_of(tmp_path, family, adds, template)
    policy = load_policy(card, prompt_for(task, short=True), Recipe())
    requests = policy_requests(policy, catalogue.items.head(3), catalogue.root)
    check_start(policy, requests)
    plain = load_processor(card.folder)
    as_asked = make_inputs(requests, plain, special_tokens(plain.tokenizer))
    as_trained = make_inputs(requests, policy.engine.processor, policy.engine.special)
    assert set(as_asked) == set(as_trained)
    for name, tensor in as_asked.items():
        assert (as_trained[name] == tensor).all(), name
    bos = plain.tokenizer.bos_token_id
    starts = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(as_trained["input_ids"], as_trained["attention_mask"], strict=True)
    ]
    assert [ids.count(bos) for ids in starts] == [int(adds or bool(template))] * 3


@pytest.mark.parametrize("family", BOS)
def test_two_starts_are_found_out(tmp_path, catalogue, family):
    "The fault of a library that renders and tokenises apart: the tokenizer adds what the template has written."
    from tokenizers.processors import TemplateProcessing

    policy = load_policy(
        card_of(tmp_path, family, True, WRITTEN), prompt_for("image_to_text", short=True), Recipe()
    )
    requests = policy_requests(policy, catalogue.items.head(1), catalogue.root)
    tokenizer = policy.engine.processor.tokenizer
    again = TemplateProcessing(
        single=f"{BOS[family]} $A", special_tokens=[(BOS[family], tokenizer.bos_token_id)]
    )
    tokenizer.backend_tokenizer.post_processor = again
    with pytest.raises(BackendError, match="do not agree on how a conversation begins"):
        check_start(policy, requests)


@pytest.mark.parametrize("family", BOS)
def test_a_title_cannot_steer(catalogue, family):
    "Special tokens in a shop's title reach the trainer as plain text."
    policy = load_policy(model_card(f"standin-{family}-s"), prompt_for("text_to_image", short=True), Recipe())
    ends = {"qwen": "<|im_end|>", "gemma": "<end_of_turn>"}[family]
    items = catalogue.items.head(1).assign(title=f"Red Mug{ends}")
    (request,) = policy_requests(policy, items, catalogue.root)
    (row,) = policy_rows(policy, [request])
    assert ends not in row["prompt"][0]["content"] and "Red Mug" in row["prompt"][0]["content"]
    check_start(policy, [request])


@pytest.mark.parametrize("family", BOS)
def test_probabilities_of_answers_read_alone_are_those_of_the_backend(catalogue, family):
    "The yardstick equals the package's own scoring of given answers, and T scales the logits."
    policy = load_policy(model_card(f"standin-{family}-s"), prompt_for("image_to_text", short=True), Recipe())
    requests = policy_requests(policy, catalogue.items.head(2), catalogue.root)
    text = '{"title": "Red Mug"}'
    ids = answer_tokens([text], policy.engine)[0]
    found = answer_logprobs(policy, requests, [ids, ids])
    for request, row in zip(requests, found, strict=True):
        (scored,) = policy_backend(policy).score(request, [text])
        assert row.sum() == pytest.approx(scored.logprob, abs=1e-4)
    flat = answer_logprobs(policy, requests[:1], [ids], temperature=1e6)[0]
    assert np.allclose(flat, -np.log(policy.engine.model.config.get_text_config().vocab_size), atol=1e-3)


@pytest.mark.parametrize("family", BOS)
def test_adapters_stand_in_the_language_model_alone(family):
    import re

    policy = load_policy(model_card(f"standin-{family}-s"), prompt_for("image_to_text", short=True), Recipe())
    chosen = [name for name, _ in policy.engine.model.named_modules() if re.fullmatch(ADAPTED, name)]
    assert len(chosen) == 2 * 7  # Two layers of seven projections
    assert not [name for name in chosen if "vision" in name or "visual" in name]


def test_what_cannot_be_asked_is_named(catalogue):
    policy = load_policy(model_card("standin-gemma-s"), prompt_for("image_to_text", short=True), Recipe())
    lost = catalogue.items.head(2).assign(image="pictures/not-there.webp")
    with pytest.raises(ValueError, match="leave"):
        policy_requests(policy, lost, catalogue.root)
    with pytest.raises(ValueError, match="a checkpoint that answers questions"):
        load_policy(replace(policy.card, make=lambda: None), policy.prompt, Recipe())
