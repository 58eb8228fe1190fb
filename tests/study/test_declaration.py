"""A study as it is written down: read, refused, written and read again."""

import datetime
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from mmpc_analysis.study.declaration import (
    CatalogueChoice,
    CompletionChoice,
    MissingChoice,
    ScoreChoice,
    Study,
    check_study,
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
            completion=CompletionChoice(own={"my model": {"source": "x/y", "parameters": 7, "family": "f"}}),
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
            {"completion": {"own": {"mine": 3}}},
            "completion.own.mine must be a table of keys and values, got 3",
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
