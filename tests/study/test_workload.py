"""How many questions and tokens, against hand counts, transformers' own resizing and what engines report."""

from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.checkpoints import load_processor
from mmpc_analysis.completion.completions import load_requests, plan_questions
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.pixels import PICTURE_RULES
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.study.choices import (
    CatalogueChoice,
    CompletionChoice,
    MemorisationChoice,
    MissingChoice,
    Study,
)
from mmpc_analysis.study.study_inputs import prepare_inputs
from mmpc_analysis.study.workload import (
    count_trainings,
    disk_table,
    picture_rule,
    picture_sizes,
    picture_table,
    question_table,
    sample_items,
    text_tokens,
    token_row,
)

QWEN, GEMMA = PICTURE_RULES["Qwen2.5-VL"], PICTURE_RULES["Gemma-3"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    study = Study(
        catalogue=CatalogueChoice(limit=50),
        missing=MissingChoice(rates=(0.5, 1.0)),
        completion=CompletionChoice(models=("standin-qwen-s", "standin-gemma-s"), device="cpu"),
    )
    return prepare_inputs(study, str(tmp_path_factory.mktemp("run")))


def test_tokens_of_known_sizes():
    sizes = [(1000, 1000), (500, 500), (4000, 3000)]
    table = picture_table(sizes, {"plain": (QWEN, 0), "budget": (QWEN, 1_003_520), "gemma": (GEMMA, 802_816)})
    table = table.set_index("name")
    # 36 x 36, 18 x 18 and 143 x 107; within the budget 35 x 35 and 41 x 30
    assert (table.loc["plain", "median"], table.loc["plain", "most"]) == (1296, 143 * 107)
    assert (table.loc["budget", "median"], table.loc["budget", "most"]) == (35 * 35, 41 * 30)
    assert set(table.loc["gemma", ["median", "high", "most"]]) == {256}


def test_an_impossible_picture_and_an_unknown_family_are_left_out():
    table = picture_table([(6000, 10), (280, 280)], {"qwen": (QWEN, 0), "other": (None, 0)})
    assert table["pictures"].tolist() == [1, 0] and table["most"].tolist()[0] == 100
    assert table["most"].isna().tolist() == [False, True]


def test_broken_pictures_are_left_out_of_the_sizes(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    items = pd.DataFrame({"image": ["a.png", "b.png", "gone.png", None]})
    assert picture_sizes(items, str(tmp_path)) == [(30, 20)]


@pytest.mark.parametrize("name", ["standin-qwen-s", "standin-gemma-s"])
@pytest.mark.parametrize("task", ["image_to_text", "text_to_image"])
def test_tokens_are_those_that_the_engine_reports(inputs, name, task):
    card, prompt = model_card(name), prompt_for(task, short=True)
    items = sample_items(inputs, task, 6)
    sizes = picture_sizes(items, inputs.catalogue.root)
    row = token_row(items, sizes, prompt, picture_rule(card, card.folder), 0, load_processor(card.folder))
    backend = load_backend(card, device="cpu", batch_size=6)
    rows = list(
        plan_questions(items, prompt, backend.identity, inputs.catalogue.root).itertuples(index=False)
    )
    requests, _ = load_requests(rows, prompt, inputs.catalogue.root, getattr(backend, "fit", None))
    asked = pd.Series([answer.input_tokens for answer in backend.ask(requests)]).mean()
    marks = 6 if task == "image_to_text" else 0  # What a template writes around a picture
    assert row["counted"] == "tokenizer" and abs(row["input_tokens"] - asked) <= marks


def test_words_are_guessed_from_characters_where_no_tokenizer_is():
    prompt = prompt_for("text_to_image")
    turns = [conversation(prompt, "Kite"), conversation(prompt, "A red kite")]
    characters = len(prompt.text) + len("\nTitle: ") + (4 + 10) / 2
    assert text_tokens(turns) == (pytest.approx(characters / 4 + 12), "characters")


def test_a_sample_is_the_same_twice_and_no_larger_than_asked(inputs):
    first, again = (sample_items(inputs, "image_to_text", 10)["item_id"].tolist() for _ in range(2))
    assert first == again and len(set(first)) == 10
    assert len(sample_items(inputs, "image_to_text")) == 50


def test_questions_are_items_once_and_blind_once_and_drawings_are_of_both(inputs):
    table = question_table(inputs)
    assert table["questions"].tolist() == [51] * 4  # 50 items at the largest rate, and one blind
    assert table["drawings"].tolist() == [0, 100, 0, 100]
    seeing = prepare_inputs(
        Study(
            catalogue=CatalogueChoice(limit=50),
            completion=CompletionChoice(
                models=("standin-qwen-s",),
                blind=False,
                prompts={"image_to_text": ("title-short-1", "title-full-1")},
            ),
        ),
        inputs.out,
    )
    table = question_table(seeing)
    assert table["questions"].tolist() == [50, 50, 50] and table["drawings"].sum() == 50


def test_products_that_are_only_named_are_asked_about_twice_by_each_model_in_its_first_words(
    inputs, tmp_path
):
    prompts = {"image_to_text": ("title-short-1", "title-full-1")}
    asked = replace(inputs.study.completion, prompts=prompts)
    study = replace(inputs.study, completion=asked, memorisation=MemorisationChoice(items=3))
    table = question_table(prepare_inputs(study, str(tmp_path)))
    named = 2 * inputs.selected.groupby("category").size().clip(upper=3).sum()
    titles = table[table["task"] == "image_to_text"]
    assert titles["named"].tolist() == [named, 0] * 2 and titles["questions"].tolist() == [51 + named, 51] * 2
    assert not table.loc[table["task"] == "text_to_image", "named"].any()


def test_what_is_never_hidden_is_not_asked_about(tmp_path):
    study = Study(catalogue=CatalogueChoice(limit=50), missing=MissingChoice(rates=(0.2, 0.5)))
    found = prepare_inputs(study, str(tmp_path))
    table, ids = question_table(found), found.hidden.groupby("modality")["item_id"].nunique()
    assert set(table.loc[table["task"] == "image_to_text", "items"]) == {ids["text"]}
    assert set(table.loc[table["task"] == "text_to_image", "items"]) == {ids["image"]}
    assert 10 < ids["text"] < 40


def test_trainings_are_the_conditions_of_the_grid(inputs):
    # By hand: popularity trains once; vbpr and freedom with 5 seeds, whole, and for each of 2 modalities shuffled and
    # with 5 fills and 2 models at the one rate
    questions = question_table(inputs)
    assert count_trainings(inputs, questions) == 1 + 2 * 5 * (1 + 2 * (1 + 5 + 2))
    few = prepare_inputs(Study(catalogue=CatalogueChoice(limit=20)), inputs.out)
    assert count_trainings(few, question_table(few)) == 0


def test_disk_by_hand():
    questions = pd.DataFrame({"questions": [1000, 1000], "drawings": [0, 500]})
    table = disk_table(questions, 1024).set_index("what")["gb"]
    assert table["pictures"] == pytest.approx(500 * 1024**2 * 1.5 / 1e9)
    assert table["answers"] == pytest.approx(2000 * 450 / 1e9)
