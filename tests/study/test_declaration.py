"""A study as it is written down: read, refused, written and read again."""

import datetime
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pandas as pd
import pytest

from mmpc_analysis.study.asked import check_study, prompts_by_task, prompts_of
from mmpc_analysis.study.choices import (
    CatalogueChoice,
    MissingChoice,
    ModelChoice,
    PriceChoice,
    ScoreChoice,
    Study,
)
from mmpc_analysis.study.declaration import (
    purchases_of,
    read_catalogue,
    read_study,
    study_from,
    study_toml,
)


@pytest.mark.parametrize(
    "study",
    [
        Study(),
        Study(
            missing=MissingChoice(rates=(0.5, 1.0)),
            scores=ScoreChoice(metrics=("chrf",), weights={"clip": "x/y"}),
        ),
        Study(
            name='quote " and \\ and é',
            catalogue=CatalogueChoice(columns={"title": "Produkt Name", "item_id": 'a"b'}),
            models={"my model": ModelChoice(source="x/y", parameters=7, family="f")},
            prices={
                "my model": PriceChoice(hour_price=2.5, currency="EUR", source="a bill", date="2026-11-25")
            },
        ),
    ],
)
def test_a_study_survives_its_file(study, tmp_path):
    (tmp_path / "study.toml").write_text(study_toml(study), encoding="utf-8")
    assert read_study(tmp_path / "study.toml") == study


def test_a_file_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ValueError, match=r"bad\.toml is not valid TOML"):
        read_study(tmp_path / "bad.toml")


def test_a_study_made_in_python_is_held_to_the_same_rules():
    check_study(Study())
    for study, message in (
        (Study(seed="1"), "seed must be of type int, got '1'"),
        (Study(catalogue=CatalogueChoice(limit=-1)), "catalogue.limit must be at least 0, got -1"),
        (Study(missing=MissingChoice(rates=())), "missing.rates must be a list of at least one value"),
        (Study(scores=ScoreChoice(level=1.0)), r"scores.level must lie in \(0, 1\), got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            check_study(study)
    with pytest.raises(FrozenInstanceError):
        Study().seed = 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": True}, "seed must be of type int, got True"),
        ({"seed": 1.0}, "seed must be of type int, got 1.0"),
        ({"name": datetime.date(2026, 1, 1)}, "name must be of type str"),
        ({"completion": {"models": "qwen"}}, "completion.models must be a list, got 'qwen'"),
        ({"completion": {"models": ["a", 2]}}, "completion.models must be of type str, got 2"),
        ({"completion": {"blind": 1}}, "completion.blind must be of type bool, got 1"),
        (
            {"models": {"mine": 3}},
            "models.mine must be a section of its own, got 3",
        ),
        ({"recommendation": {"learning_rate": 0}}, "recommendation.learning_rate must be above 0, got 0"),
        ({"scores": {"level": float("nan")}}, "scores.level must"),
        (
            {"catalogue": {"colour": 1}},
            r"section \[catalogue\] has no key 'colour'; did you mean|it knows source",
        ),
        ({"catalog": {}}, "the study has no key 'catalog'; did you mean 'catalogue'"),
    ],
)
def test_a_refusal_is_one_line_that_names_the_place(given, message):
    with pytest.raises(ValueError, match=message) as refused:
        study_from(given)
    assert "\n" not in str(refused.value) and "pydantic" not in str(refused.value)


def test_the_package_imports_without_pydantic():
    code = "import sys, mmpc_analysis, mmpc_analysis.study.command_line; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# ---------------------------------------------------------------- prompts

PLAIN = {"task": "image_to_text", "text": 'Name it as {"title": "..."}'}


def test_prompts_are_chosen_for_a_task_and_own_ones_count():
    study = study_from(
        {
            "completion": {
                "prompts": {"image_to_text": ["title-short-1", "plain"]},
                "own_prompts": {"plain": PLAIN},
            }
        }
    )
    check_study(study)
    found = prompts_of(study)
    assert [p.id for p in found["image_to_text"]] == ["title-short-1", "plain"]
    assert found["image_to_text"][1].text == PLAIN["text"] and found["text_to_image"] == ()
    names = ["prompt-full-1", "plain", "title-full-1"]
    assert prompts_by_task(study, names) == {
        "text_to_image": ("prompt-full-1",),
        "image_to_text": ("plain", "title-full-1"),
    }


def test_a_study_file_holds_the_words_of_a_prompt_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text('\ufeffName it as {"title": "..."}\n', encoding="utf-8")
    own = '[completion.own_prompts.plain]\ntask = "image_to_text"\nfile = "words.txt"\nmax_new_tokens = 32\n'
    (tmp_path / "study.toml").write_text(own)
    study = read_study(tmp_path / "study.toml")
    (tmp_path / "words.txt").unlink()
    assert study.completion.own_prompts["plain"] == PLAIN | {"max_new_tokens": 32}
    (tmp_path / "again.toml").write_text(study_toml(study))
    assert read_study(tmp_path / "again.toml") == study and "words.txt" not in study_toml(study)
    with pytest.raises(ValueError, match=r"completion.own_prompts.plain: .*words.txt"):
        read_study(tmp_path / "study.toml")


@pytest.mark.parametrize(
    ("completion", "message"),
    [
        ({"prompts": {"image_to_text": []}}, "must be a list of at least one value"),
        (
            {"prompts": {"image_to_text": ["full"]}},
            "there is no prompt 'full'; there are title-full-1, prompt-full-1",
        ),
        ({"prompts": {"image_to_text": ["title-ful-1"]}}, "did you mean 'title-full-1'"),
        (
            {"prompts": {"image_to_text": ["prompt-full-1"]}},
            "asks for text_to_image, expected one for image_to_text",
        ),
        ({"prompts": {"image_to_text": ["title-full-1"] * 2}}, "must name each prompt once"),
        (
            {"prompts": {"text_to_image": ["prompt-full-1"]}, "tasks": ["image_to_text"]},
            "of a task of the study",
        ),
        (
            {"own_prompts": {"p": {"task": "titles", "text": "x"}}},
            "completion.own_prompts.p: task must be one of",
        ),
        ({"own_prompts": {"p": {"text": "x"}}}, "takes task, text or file"),
        ({"own_prompts": {"title-full-1": PLAIN}}, "name of another prompt"),
        ({"own_prompts": {"p q": PLAIN}}, "is named by letters"),
        ({"own_prompts": {"p": PLAIN | {"text": "What is it?"}}}, "object with the key 'title'"),
        ({"own_prompts": {"p": PLAIN | {"text": 'Shorten {name} to {"title": "..."}'}}}, r"holds '\{name\}'"),
        ({"own_prompts": {"p": PLAIN | {"max_new_tokens": 0}}}, "at least one token"),
        ({"own_prompts": {"p": PLAIN | {"file": "x.txt"}}}, "got both"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused_before_anything_is(completion, message):
    with pytest.raises(ValueError, match=message):
        check_study(study_from({"completion": completion}))


def test_placeholders_and_the_form_of_dates_are_keys_of_a_study(tmp_path):
    (tmp_path / "shop.csv").write_text("id,title\na,N/A\nb,Mug\n")
    (tmp_path / "buys.csv").write_text("user_id,item_id,timestamp\nu,a,01/02/2024\nv,b,03/04/2024\n")
    given = {"catalogue": {"source": str(tmp_path / "shop.csv"), "placeholders": False}}
    study = study_from(given | {"recommendation": {"interactions": str(tmp_path / "buys.csv")}})
    items = read_catalogue(study.catalogue).items
    assert items["title"].tolist() == ["N/A", "Mug"]
    assert read_catalogue(CatalogueChoice(source=study.catalogue.source)).items["title"].tolist() == ["Mug"]
    with pytest.raises(ValueError, match=r"date_format under \[recommendation\]"):
        purchases_of(study, items)
    for form, days in {
        "%d/%m/%Y": ["2024-02-01", "2024-04-03"],
        "%m/%d/%Y": ["2024-01-02", "2024-03-04"],
    }.items():
        told = replace(study, recommendation=replace(study.recommendation, date_format=form))
        found = purchases_of(told, items).sort_values("item_id")["timestamp"]
        assert [str(day)[:10] for day in pd.to_datetime(found, unit="s")] == days
        (tmp_path / "s.toml").write_text(study_toml(told))
        assert read_study(tmp_path / "s.toml") == replace(told, name=told.name)
