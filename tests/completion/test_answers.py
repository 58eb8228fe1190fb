"""Answers are read: lines written by hand, hostile texts, the habits of json-repair, and random titles."""

import json
import random
import string

import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.completion.answers import (
    ReadAnswer,
    after_thinking,
    find_objects,
    is_refusal,
    quoted_value,
    read_answer,
    repair_answer,
    usable_text,
)
from mmpc_analysis.tables import OUTCOMES, USABLE

LINES = pd.read_csv(
    ROOT / "tests/data/completion/answers.tsv", sep="\t", quoting=3, keep_default_na=False, dtype=str
)
WRONG = {  # What is known to be read wrongly: an odd separator, tags of one model, a refusal without an inability
    '{"title"= "Tea Towel"}',
    '<SUMMARY>{"title": "Shelf"}</SUMMARY><CONCLUSION>{"title": "Oak Shelf"}</CONCLUSION>',
    "Sorry, no.",
}


def test_lines_written_by_hand_are_read_as_they_deserve():
    wrong = set()
    for raw, key, reason, outcome, text in LINES[
        ["raw_text", "key", "finish_reason", "outcome", "text"]
    ].itertuples(index=False):
        right = ReadAnswer(outcome, None if text == "-" else text)
        if read_answer(raw.replace("⏎", "\n"), key, reason) != right:
            wrong.add(raw)
    assert wrong == WRONG


def test_the_lines_are_many_and_a_third_of_those_written_first_lay_aside():
    assert len(LINES) >= 300 and not LINES.duplicated(["key", "finish_reason", "raw_text"]).any()
    parts = LINES["part"].value_counts()
    assert parts["aside"] >= 0.3 * (parts["aside"] + parts["open"])
    assert set(LINES["outcome"]) == set(OUTCOMES)
    assert ((LINES["text"] == "-") != LINES["outcome"].isin(USABLE)).all()


@pytest.mark.parametrize("opening,closing", [("<think>", "</think>"), ("<Thinking>", "</Thinking>"), ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"), ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<unused94>thought", "<unused95>")])  # fmt: skip
def test_every_kind_of_thinking_is_taken_out_and_a_cut_thought_is_no_answer(opening, closing):
    draft = '{"title": "Blue Cup"} ' * 3
    answer = '{"title": "Red Mug"}'
    assert read_answer(opening + draft + closing + answer, "title") == ReadAnswer("ok", "Red Mug")
    assert read_answer(draft + closing + answer, "title") == ReadAnswer("ok", "Red Mug")
    assert read_answer(opening + draft, "title", "length") == ReadAnswer("truncated", None)
    assert read_answer(opening + draft, "title", "stop") == ReadAnswer("invalid", None)
    for cut in range(len(answer)):
        whole = opening + draft + closing + answer[:cut]
        assert read_answer(whole, "title", "length").text in (None, "Red Mug"), whole


def test_a_long_thought_does_not_hide_the_answer():
    thought = "Is it a mug? " * 20_000
    assert read_answer(f'<think>{thought}</think>{{"title": "Red Mug"}}', "title").text == "Red Mug"
    assert after_thinking("<think>" * 20_000) == ""


@pytest.mark.parametrize("title", ['Pan 12", Black', 'Tote 14" x 16", Canvas', '55" TV', 'Frame (8" x 10"), Oak', '7" Single, "Help!", Vinyl',
    'Bit 3/8", 6" Long', 'Binder 1½", White', 'Rug 5\'3" x 7\'7", Grey', '"Relax" Candle'])  # fmt: skip
def test_quotes_inside_a_title_keep_the_whole_title(title):
    for raw in (
        f'{{"title": "{title}"}}',
        f'{{"title": "{title}", "brand": "Noto"}}',
        f'{{"title": "{title}"}} Enjoy!',
    ):
        assert read_answer(raw, "title") == ReadAnswer("repaired", title), raw
    for cut in range(len(title) - 1):  # Cut anywhere, half a title is never read
        raw = f'{{"title": "{title}'[: 11 + cut]
        assert read_answer(raw, "title", "length").text is None, raw
    assert quoted_value(f'{{"name": "{title}"}}', "title") is None


def test_examples_of_a_prompt_are_no_answer_and_others_may_be_given():
    example = '{"title": "Noto Tent, 2 Persons"}'
    assert read_answer(example, "title").outcome == "ok"
    assert read_answer(example, "title", examples=["Noto tent 2 persons"]) == ReadAnswer("invalid", None)
    both = example + '{"title": "Red Mug"}'
    assert read_answer(both, "title", examples=["Noto tent, 2 persons"]) == ReadAnswer("ok", "Red Mug")
    assert (
        read_answer(example + '{"title": "Red Mug', "title", examples=["Noto tent, 2 persons"]).text
        == "Red Mug"
    )


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
