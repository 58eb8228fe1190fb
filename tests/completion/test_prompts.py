"""What is asked is frozen, since a changed word is a changed benchmark and needs a new id and snapshot; and answers are asked for in one form."""

import hashlib
import re

import pytest
from conftest import ROOT

from mmpc_analysis.completion.prompts import (
    PROMPTS,
    conversation,
    copy_share,
    prompt_for,
)
from mmpc_analysis.tables import TASKS

SNAPSHOTS = ROOT / "tests" / "prompts"


@pytest.mark.parametrize("prompt_id", sorted(PROMPTS))
def test_text_is_its_snapshot(prompt_id):
    assert PROMPTS[prompt_id].text + "\n" == (SNAPSHOTS / f"{prompt_id}.txt").read_text(encoding="utf-8")


def test_every_snapshot_has_its_prompt():
    assert {path.stem for path in SNAPSHOTS.glob("*.txt")} == set(PROMPTS)


def test_answer_limits_are_frozen_too():
    limits = {p.id: (p.task, p.answer_key, p.max_new_tokens) for p in PROMPTS.values()}
    assert limits == {
        "title-full-1": ("image_to_text", "title", 128),
        "prompt-full-1": ("text_to_image", "prompt", 256),
        "title-short-1": ("image_to_text", "title", 64),
        "prompt-short-1": ("text_to_image", "prompt", 64),
    }


def test_short_prompts_are_what_the_stand_ins_were_trained_on():
    assert prompt_for("image_to_text", short=True).text == 'Write the product title as JSON: {"title": "..."}'
    assert prompt_for("text_to_image", short=True).text == 'Write an image prompt as JSON: {"prompt": "..."}'


@pytest.mark.parametrize("task", TASKS)
def test_full_prompts_ask_for_english_json_with_one_key(task):
    prompt = prompt_for(task)
    assert (
        "English" in prompt.text and "JSON object" in prompt.text and f'"{prompt.answer_key}"' in prompt.text
    )
    assert set(re.findall(r'\{"(\w+)":', prompt.text)) == {prompt.answer_key}
    assert prompt.example in prompt.text and copy_share(prompt.example, prompt) == 1.0


def test_image_prompt_names_the_token_limit_and_its_example_keeps_it():
    prompt = prompt_for("text_to_image")
    assert "77 tokens" in prompt.text
    assert len(re.findall(r"\w+|[^\w\s]", prompt.example)) < 60


def test_nothing_in_a_conversation_depends_on_a_family():
    assert "family" not in conversation.__annotations__ and "model" not in prompt_for.__annotations__


@pytest.mark.parametrize("hostile", ["a\nb", "a\r\nb", "a\u2028b", "a\x0bb", "\n\na b\t"])
def test_a_title_stays_one_line(hostile):
    text = conversation(prompt_for("text_to_image", short=True), title=hostile)[0]["content"][-1]["text"]
    assert text.splitlines() == ['Write an image prompt as JSON: {"prompt": "..."}', "Title: a b"]


def test_the_conversation_is_one_user_turn():
    turns = conversation(prompt_for("image_to_text"), image=True)
    assert [t["role"] for t in turns] == ["user"]
    assert [part["type"] for part in turns[0]["content"]] == ["image", "text"]


def test_two_calls_share_nothing():
    first, second = (conversation(prompt_for("image_to_text"), image=True) for _ in range(2))
    first[0]["content"].clear()
    assert len(second[0]["content"]) == 2


def test_snapshots_are_plain_ascii():
    digest = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in SNAPSHOTS.glob("*.txt")}
    assert len(set(digest.values())) == len(digest) == 4
    assert all(p.read_bytes().isascii() for p in SNAPSHOTS.glob("*.txt"))
