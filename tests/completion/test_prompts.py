"""What is asked is frozen, since a changed word is a changed benchmark and needs a new id and snapshot; and answers are asked for in one form."""

import hashlib
import re

import pytest
from conftest import ROOT

from mmpc_analysis.completion.answers import read_answer
from mmpc_analysis.completion.prompts import (
    PROMPTS,
    conversation,
    copy_share,
    find_prompt,
    own_prompt,
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


def test_a_wording_of_ones_own_reaches_the_model_word_by_word(tmp_path):
    text = 'Was ist das? Antworte als {"title": "..."}, höchstens zwölf Wörter.'
    (tmp_path / "mine.txt").write_text(text + "\n", encoding="utf-8")
    for prompt in (
        own_prompt("mine", "image_to_text", text),
        own_prompt("mine", "image_to_text", file=tmp_path / "mine.txt"),
    ):
        assert conversation(prompt, image=True)[0]["content"][1]["text"] == text
        assert read_answer('{"title": "Becher"}', prompt.answer_key).text == "Becher"
    keyed = own_prompt("mine", "text_to_image", "Describe a photo as {'scene': '...'}", answer_key="scene")
    assert read_answer('{"scene": "a mug"}', keyed.answer_key).text == "a mug"
    assert conversation(keyed, title="Mug")[0]["content"][0]["text"].endswith("\nTitle: Mug")


@pytest.mark.parametrize("field", ["{title}", "{ item_title }", "{{title}}", "${brand}", "{'{title}'}"])
def test_a_field_that_nothing_fills_is_refused(field):
    with pytest.raises(ValueError, match="nothing is filled in"):
        own_prompt("mine", "image_to_text", f'Shorten {field} to {{"title": "..."}}')


def test_prompts_are_found_by_name_and_for_their_task():
    assert all(find_prompt(prompt.id, prompt.task) is prompt for prompt in PROMPTS.values())
    assert find_prompt(PROMPTS["title-full-1"], "image_to_text") is PROMPTS["title-full-1"]
    for name in ("", "full", "title-full-2", "TITLE-FULL-1"):
        with pytest.raises(
            ValueError, match="there are title-full-1, prompt-full-1, title-short-1, prompt-short-1"
        ):
            find_prompt(name, "image_to_text")
