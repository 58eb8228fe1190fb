"""What is asked is frozen, since a changed word is a changed benchmark and needs a new id and snapshot; and answers are read: hostile texts, the habits of json-repair, and random titles."""

import hashlib
import json
import random
import re
import string

import pytest
from conftest import ROOT

from mmpc_analysis.completion.prompts import (
    PROMPTS,
    ReadAnswer,
    conversation,
    copy_share,
    find_objects,
    find_prompt,
    is_refusal,
    own_prompt,
    prompt_for,
    read_answer,
    repair_answer,
    usable_text,
)
from mmpc_analysis.tables import OUTCOMES, TASKS, USABLE

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


# ---------------------------------------------------------------- answers


CASES = [
    # plain, wrapped, fenced
    ('{"title": "Red Mug"}', "stop", "ok", "Red Mug"),
    ('  {"title":"Red Mug"}\n', "stop", "ok", "Red Mug"),
    ('```json\n{"title": "Red Mug"}\n```', "stop", "ok", "Red Mug"),
    ('```\n{"title": "Red Mug"}', "length", "ok", "Red Mug"),
    ('Here is it: {"title": "Red Mug"} - enjoy!', "stop", "ok", "Red Mug"),
    ('[{"title": "Red Mug"}]', "stop", "ok", "Red Mug"),
    # braces, quotes and escapes inside strings
    ('{"title": "Mug {blue} }"}', "stop", "ok", "Mug {blue} }"),
    ('{"title": "24\\" Monitor"}', "stop", "ok", '24" Monitor'),
    ('{"title": "Caf\\u00e9 \\u2615 Mug"}', "stop", "ok", "Café ☕ Mug"),
    ('{"title": "A \\\\ B"}', "stop", "ok", "A \\ B"),
    ('I use { and } freely. {"title": "Red Mug"}', "stop", "ok", "Red Mug"),
    # several objects: the first usable one is the answer
    ('{"title": "Red Mug"}{"title": "Blue Cup"}', "stop", "ok", "Red Mug"),
    ('{"title": "..."} then {"title": "Red Mug"}', "stop", "ok", "Red Mug"),
    ('{"thought": "a mug"} {"title": "Red Mug"}', "stop", "ok", "Red Mug"),
    ('{"title": "Red Mug"} {"title": "Blue', "length", "ok", "Red Mug"),
    # other keys, places and cases
    ('{"title": "Red Mug", "price": 3, "tags": ["a"]}', "stop", "ok", "Red Mug"),
    ('{"Title": "Red Mug"}', "stop", "repaired", "Red Mug"),
    ('{"product": {"title": "Red Mug"}}', "stop", "repaired", "Red Mug"),
    ('{"name": "Red Mug"}', "stop", "invalid", None),
    ('{"titel": "Red Mug"}', "stop", "invalid", None),
    # mended
    ('{"title": "Red Mug"', "stop", "repaired", "Red Mug"),
    ('{"title": "Red Mug', "stop", "repaired", "Red Mug"),
    ("{'title': 'Red Mug'}", "stop", "repaired", "Red Mug"),
    ("{title: Red Mug}", "stop", "repaired", "Red Mug"),
    ('{"title": "Red Mug",}', "stop", "repaired", "Red Mug"),
    ('{"title": "Red\nMug"}', "stop", "repaired", "Red Mug"),
    ('{\u201ctitle\u201d: \u201cRed Mug\u201d}', "stop", "repaired", "Red Mug"),
    ('```json\n{"title": "Red Mug"\n```', "stop", "repaired", "Red Mug"),
    ('{"title": "Red Mug ```', "stop", "repaired", "Red Mug"),
    ('"title": "Red Mug"', "stop", "repaired", "Red Mug"),
    ('{"title": "Monitor 24" Black"}', "stop", "repaired", 'Monitor 24" Black'),
    ('{"title": "Red Mug"; "x"}', "stop", "invalid", None),
    # the token limit
    ('{"title": "Red Mu', "length", "truncated", None),
    ('{"title": "Red Mug"', "length", "repaired", "Red Mug"),
    ('{"title"', "length", "truncated", None),
    ('{"tit', "length", "truncated", None),
    ("The picture shows a mug which", "length", "truncated", None),
    ("", "length", "truncated", None),
    ('{"title": ""', "length", "truncated", None),
    ('{"title": "Red Mug", "description": "a very', "length", "repaired", "Red Mug"),
    # nothing said
    ("", "stop", "invalid", None),
    (None, "stop", "invalid", None),
    ("Red Mug", "stop", "invalid", None),
    ("{}", "stop", "invalid", None),
    ("{", "stop", "invalid", None),
    ("null", "stop", "invalid", None),
    *((f'{{"title": {json.dumps(v)}}}', "stop", "invalid", None)
      for v in ("", "  ", "error", "Error", "ERROR.", "None", "null", "N/A", "n/a", "NaN", "-", "...", "title", "\n",
                "\u200b", None, 12, 1.5, True, [], ["Red Mug"], {"de": "Tasse"})),
    # refusals
    ("I'm sorry, but I can't help with that.", "stop", "refused", None),
    ("I\u2019m sorry, I cannot identify people.", "stop", "refused", None),
    ('{"title": "I am unable to view the image"}', "stop", "refused", None),
    ("As an AI language model, I", "length", "refused", None),
    ('{"title": "Sorry! Board Game"}', "stop", "ok", "Sorry! Board Game"),
    ('{"title": "I Can\'t Believe It\'s Not Butter"}', "stop", "ok", "I Can't Believe It's Not Butter"),
    ("whatever", "filter", "refused", None),
    # the engine
    ('{"title": "Red Mug"}', "error", "engine_error", None),
]  # fmt: skip


@pytest.mark.parametrize("raw,reason,outcome,text", CASES, ids=range(len(CASES)))
def test_cases(raw, reason, outcome, text):
    assert read_answer(raw, "title", reason) == ReadAnswer(outcome, text)


def test_the_other_key():
    assert read_answer('{"prompt": "a red mug"}', "prompt").text == "a red mug"
    assert read_answer('{"title": "Red Mug"}', "prompt").outcome == "invalid"


def random_title(rng):
    letters = string.ascii_letters + string.digits + " {}[]\":,\\/'`éß茶☕\u00a0-"
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, 40))) + "X"


def test_any_title_survives_the_round_trip():
    rng = random.Random(0)
    for _ in range(500):
        title = random_title(rng)
        before = rng.choice(["", "Sure: ", "```json\n", "a { b } "])
        after = rng.choice(["", "\n```", " }", ' {"title": "Other"}'])
        for ascii_ in (True, False):
            got = read_answer(before + json.dumps({"title": title}, ensure_ascii=ascii_) + after, "title")
            assert got == ReadAnswer("ok", " ".join(title.split())), title


def test_a_cut_answer_is_whole_or_nothing():
    rng = random.Random(1)
    for _ in range(60):
        title = random_title(rng).replace('"', "").replace("\\", "")
        whole, full = " ".join(title.split()), json.dumps({"title": title}, ensure_ascii=False)
        for cut in range(len(full)):
            got = read_answer(full[:cut], "title", "length")
            assert got.text in (None, whole), (full[:cut], got)
            assert got.outcome in ("truncated", "repaired")


def test_a_cut_answer_with_escapes_is_whole_or_nothing():
    full = json.dumps({"title": 'The "Great" \\ 5" Mug ☕'})
    for cut in range(len(full)):
        assert read_answer(full[:cut], "title", "length").text in (None, 'The "Great" \\ 5" Mug ☕'), full[
            :cut
        ]


def test_noise_never_raises_and_only_usable_outcomes_have_a_text():
    rng = random.Random(2)
    pieces = [
        "{",
        "}",
        '"',
        "'",
        '"title"',
        ":",
        ",",
        "[",
        "]",
        "\\",
        "\n",
        "```",
        "json",
        "Mug",
        " ",
        "null",
        "1e9",
        "\ud800",
        "\x00",
    ]
    for _ in range(3000):
        raw = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 25)))
        for reason in ("stop", "length"):
            got = read_answer(raw, "title", reason)
            assert got.outcome in OUTCOMES and (got.text is None) == (got.outcome not in USABLE)
            assert got.text is None or got.text.encode("utf-8")


@pytest.mark.parametrize(
    "raw",
    ["{" * 100_000, '{"a":' * 50_000, '{"title": "' + "x" * 1_000_000, "[" * 100_000, '"title":' * 10_000],
)
def test_monstrous_texts_are_read_in_no_time(raw):
    assert read_answer(raw, "title", "length").outcome in ("truncated", "repaired")


def test_half_characters_and_control_characters_do_not_reach_a_title():
    assert read_answer('{"title": "Mug \\ud83d"}', "title").text == "Mug"
    assert read_answer('{"title": "Mug\\u0000Red"}', "title").text == "Mug Red"


def test_json_repair_alone_would_take_the_last_of_two():
    import json_repair

    both = '{"title": "Red Mug"}{"title": "Blue Cup"}'
    assert json_repair.loads(both) != {"title": "Red Mug"}
    assert [o["title"] for o in find_objects(both)] == ["Red Mug", "Blue Cup"]


def test_json_repair_alone_would_keep_a_stray_quote():
    import json_repair

    broken = '{"title": "Monitor 24" Black"}'
    assert json_repair.loads(broken)["title"].endswith('"')
    assert repair_answer(broken, "title")[0] == 'Monitor 24" Black'


def test_error_is_never_a_title():
    assert [usable_text(t) for t in ("error", " Error ", "ERROR!", "error.")] == [None] * 4
    assert usable_text("Error Fare: The Board Game") == "Error Fare: The Board Game"


def test_refusals_are_phrases():
    assert not is_refusal("Sorry, Wrong Number (DVD)") and not is_refusal("As An Aid to Memory, Notebook")
    assert is_refusal("I can not create this") and is_refusal("I am not able to see the image")


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
