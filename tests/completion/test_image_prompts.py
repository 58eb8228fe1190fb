"""Image prompts: how much of them a generator reads, measured with its own tokenizers."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.completion.generators import call_settings, draw_batch, load_generator
from mmpc_analysis.completion.image_prompts import (
    PromptReader,
    cut_prompts,
    cut_prompts_line,
    prompt_lengths,
    prompt_readers,
    read_prompts,
)
from mmpc_analysis.completion.models import ModelCard, find_weights, model_card
from mmpc_analysis.completion.own_models import own_model
from mmpc_analysis.tables import COMPLETIONS, DRAWINGS, empty, validate

GENERATOR = "standin-sd3"
LONG = "drawing of a red paper lantern with a golden ring, round, festive, "


@pytest.fixture(scope="module")
def readers():
    return prompt_readers(GENERATOR)


def written(rows):
    "Completions from item, model, text and what else differs."
    rows = pd.DataFrame(
        [dict(zip(("item_id", "model", "text"), row[:3], strict=True)) | dict(*row[3:]) for row in rows]
    )
    given = {"category": "Home", "task": "text_to_image", "family": "F", "parameters": 1.0, "precision": "float32",
             "role": "model", "prompt": "p", "outcome": "ok", "finish_reason": "stop"}  # fmt: skip
    for name, value in given.items():
        rows[name] = rows[name].fillna(value) if name in rows else value
    return validate(rows.assign(key=[str(i) for i in range(len(rows))]), COMPLETIONS)


class Words:
    "A tokenizer of words with a number for each, and marks where a text begins and ends."

    model_max_length = 99

    def __call__(self, texts, truncation=False, max_length=None):
        ids = [[1, *(int.from_bytes(word.encode(), "big") for word in text.split()), 2] for text in texts]
        return {
            "input_ids": [
                [*row[: max_length - 1], 2] if truncation and len(row) > max_length else row for row in ids
            ]
        }


def word_readers(*limits):
    return [PromptReader(f"tokenizer_{n}", Words(), limit) for n, limit in enumerate(limits, 1)]


# ---------------------------------------------------------------- limits


def test_the_stand_in_reads_twenty_tokens_with_both_encoders(readers):
    assert [(r.name, r.limit) for r in readers] == [("tokenizer", 20), ("tokenizer_2", 20)]


@pytest.mark.parametrize(
    ("encoder", "tokenizer", "call", "expected"),
    [
        ({"model_type": "clip_text_model", "max_position_embeddings": 77}, 77, {}, 77),
        (
            {"model_type": "clip_text_model", "max_position_embeddings": 77},
            10**30,
            {"max_sequence_length": 256},
            77,
        ),
        ({"model_type": "t5"}, 512, {"max_sequence_length": 256}, 256),
        ({"model_type": "t5"}, 512, {"max_sequence_length": 512}, 512),
        ({"model_type": "t5"}, 512, {}, 256),  # StableDiffusion3Pipeline's own default
    ],
)
def test_clip_reads_its_places_and_t5_what_the_call_says(
    monkeypatch, tmp_path, encoder, tokenizer, call, expected
):
    import transformers

    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text("{}")
    index = {
        "_class_name": "StableDiffusion3Pipeline",
        "tokenizer": ["transformers", "Fake"],
        "tokenizer_2": [None, None],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    made = type(
        "Fake",
        (),
        {"from_pretrained": classmethod(lambda cls, *_, **__: cls()), "model_max_length": tokenizer},
    )
    monkeypatch.setattr(transformers, "Fake", made, raising=False)
    config = type("Config", (), encoder)()
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: config)
    card = ModelCard("g", "SD3", "generator", 1, folder=str(tmp_path), call=tuple(call.items()))
    (reader,) = prompt_readers(card)
    assert reader.limit == expected


def test_a_prompt_at_the_limit_is_whole_and_one_word_more_is_cut(readers):
    word = "red"
    ids = readers[0].tokenizer([" ".join([word] * n) for n in range(1, 30)])["input_ids"]
    at_limit = next(n for n, row in enumerate(ids, 1) if len(row) == 20)
    found = read_prompts([" ".join([word] * n) for n in (at_limit, at_limit + 1)], readers)
    assert found["tokens"].tolist() == [20, 21] and found["cut_by"].tolist() == [0, 2]
    assert found["read"][0] == found["read"][1] and found["whole"][0] != found["whole"][1]


# ---------------------------------------------------------------- what is read


def test_by_hand_with_two_encoders():
    # BOS and EOS count: five words are seven tokens; the first encoder reads six, the second eight
    found = read_prompts(["a b", "a b c d e", "a b c d e f g"], word_readers(6, 8))
    assert found["tokens"].tolist() == [4, 7, 9] and found["limit"].tolist() == [8, 8, 8]
    assert found["cut_by"].tolist() == [0, 1, 2] and found["encoders"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "pair",
    [
        (LONG + "isolated on white", LONG + "lying on a wooden table"),
        (LONG, LONG + "b"),
        ("кружка " * 40, "кружка " * 41),
        ("红色陶瓷马克杯" * 9, "红色陶瓷马克杯" * 9 + "带盖"),
        ("🏮" * 50, "🏮" * 51),
    ],
)
def test_prompts_that_differ_after_the_limit_are_one_picture(readers, pair):
    found = read_prompts(list(pair), readers)
    assert found["read"].nunique() == 1 and found["whole"].nunique() == 2
    settings = call_settings(model_card(GENERATOR))
    one, two = draw_batch(load_generator(find_weights(model_card(GENERATOR))), list(pair), [5, 5], settings)
    assert one.tobytes() == two.tobytes()  # The generator agrees with the count


def test_prompts_that_differ_before_the_limit_are_two_pictures(readers):
    pair = ["a red mug", "a blue mug"]
    found = read_prompts(pair, readers)
    assert found["read"].nunique() == 2 and found["cut_by"].tolist() == [0, 0]
    settings = call_settings(model_card(GENERATOR))
    one, two = draw_batch(load_generator(find_weights(model_card(GENERATOR))), pair, [5, 5], settings)
    assert one.tobytes() != two.tobytes()


def test_capitals_are_no_cut(readers):
    drawings = prompt_lengths(written([("mug", "a", "A Red Mug"), ("mug", "b", "a red mug")]))
    assert drawings["read"].nunique() == 1 and cut_prompts(drawings)["shared"].sum() == 0


@pytest.mark.parametrize("text", ["", " ", "\n", "<|endoftext|> mug", "\ud800mug"[1:], "x" * 5000])
def test_any_text_is_measured(readers, text):
    found = read_prompts([text], readers)
    assert found["tokens"][0] >= 2 and found["cut_by"][0] in (0, 2)


# ---------------------------------------------------------------- the table and its counts


def test_only_usable_image_prompts_are_in_the_table():
    rows = written(
        [
            ("mug", "a", "a red mug"),
            ("mug", "b", "a red mug", {"outcome": "repaired"}),
            ("mug", "c", "a red mug", {"outcome": "truncated"}),
            ("mug", "d", "Red Mug", {"task": "image_to_text"}),
        ]
    )
    before = rows.copy()
    drawings = prompt_lengths(rows)
    assert drawings["model"].tolist() == ["a", "b"] and list(drawings) == DRAWINGS.names
    assert (drawings["generator"] == GENERATOR).all() and drawings["parent_id"].tolist() == ["mug", "mug"]
    pd.testing.assert_frame_equal(rows, before)
    assert prompt_lengths(rows.head(0)).equals(empty(DRAWINGS))


def test_counts_by_hand():
    rows = [
        ("lantern", "a", LONG + "on white"), ("lantern", "b", LONG + "on a table"), ("lantern", "c", "a lantern"),
        ("mug", "a", LONG + "on white"), ("mug", "b", "a mug"), ("mug", "c", "a mug"),
        ("cup", "a", LONG + "in a box"),  # As long as the lantern's and read the same, but with other noise
    ]  # fmt: skip
    told = cut_prompts(prompt_lengths(written(rows))).set_index("model")
    assert told["prompts"].tolist() == [3, 2, 2] and told["known"].tolist() == [3, 2, 2]
    assert told["cut"].tolist() == [3, 1, 0] and told["partly_cut"].tolist() == [0, 0, 0]
    assert told["shared"].tolist() == [
        1,
        1,
        0,
    ]  # The lantern of a and b; two models that agree share nothing by a cut


def test_two_wordings_and_two_precisions_are_systems_of_their_own():
    rows = [
        ("lantern", "a", LONG + "on white"), ("lantern", "a", LONG + "on a table", {"prompt": "q"}),
        ("lantern", "a", "a lantern", {"precision": "nf4"}), ("lantern", "a", LONG + "in a box", {"role": "blind"}),
    ]  # fmt: skip
    told = cut_prompts(prompt_lengths(written(rows)))
    assert len(told) == 4 and told["cut"].sum() == 3 and told["shared"].sum() == 3


def test_cut_by_some_encoders_only_is_told_apart():
    lengths = read_prompts(["a b", "a b c d e", "a b c d e f g"], word_readers(6, 8))
    rows = written([(f"item-{i}", "a", "x") for i in range(3)])[
        ["item_id", "category", "model", "role", "precision", "prompt"]
    ]
    drawings = validate(pd.concat([rows, lengths], axis=1).assign(generator="g"), DRAWINGS)
    told = cut_prompts(drawings).iloc[0]
    assert (told["prompts"], told["cut"], told["partly_cut"], told["shared"]) == (3, 1, 1, 0)
    assert cut_prompts_line(drawings) == "1 of 3 prompts cut at 8 tokens, 1 more by some of the text encoders"


def test_the_order_of_the_rows_does_not_matter():
    rows = written([("lantern", m, LONG + m) for m in "abc"] + [("mug", m, "a mug") for m in "abc"])
    drawings = prompt_lengths(rows)
    shuffled = prompt_lengths(rows.sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(cut_prompts(drawings), cut_prompts(shuffled))
    pd.testing.assert_frame_equal(cut_prompts(drawings), cut_prompts(drawings.set_index(np.arange(6)[::-1])))


@pytest.mark.parametrize("lost", ["tokenizer", "tokenizer/tokenizer.json", "text_encoder_2/config.json"])
def test_a_generator_without_tokenizers_leaves_lengths_unknown(tmp_path, lost):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    shutil.rmtree(copy / lost) if (copy / lost).is_dir() else (copy / lost).unlink()
    card = own_model(str(copy), parameters=1, role="generator")
    drawings = prompt_lengths(written([("mug", "a", LONG)]), card)
    assert drawings["tokens"].isna().all() and drawings["encoders"].tolist() == [0]
    told = cut_prompts(drawings).iloc[0]
    assert (told["prompts"], told["known"], told["cut"], told["shared"]) == (1, 0, 0, 0)
    assert "not known" in cut_prompts_line(drawings)


def test_the_line_is_empty_where_nothing_was_cut():
    assert cut_prompts_line(prompt_lengths(written([("mug", "a", "a mug")]))) == ""
    assert cut_prompts_line(empty(DRAWINGS)) == ""
    line = cut_prompts_line(
        prompt_lengths(written([("l", "a", LONG + "x"), ("l", "b", LONG + "y"), ("m", "b", "m")]))
    )
    assert line == "2 of 3 prompts cut at 20 tokens, 2 differ from another only after the cut"
