"""A model that was trained from another, from a section of a study to the report."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis import store, tables
from mmpc_analysis.completion.checkpoints import load_weights
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.completion.own_models import write_lineage
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.study.asked import cards_of
from mmpc_analysis.study.declaration import study_from
from mmpc_analysis.study.forecast import forecast
from mmpc_analysis.study.readiness import check_run
from mmpc_analysis.study.stages import run_study, sizes_of_starts

START = "standin-gemma-s"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    "A LoRA adapter on a stand-in, as a training would leave it."
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    model = load_weights(find_weights(model_card(START)))
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear"))
    numbers = torch.Generator().manual_seed(0)
    for key, weight in model.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(weight, std=0.05, generator=numbers)
    model.save_pretrained(folder)
    write_lineage(folder, f"{START}-grpo-0", model_card(START), "adapter")
    return folder


def study_with(folder, **section):
    models = [START, "standin-gemma-m", "mine"]
    return study_from(
        {
            "name": "trained",
            "catalogue": {"limit": 10},
            "completion": {"models": models, "tasks": ["image_to_text"], "blind": False},
            "models": {"mine": {"source": str(folder), **section}},
            "scores": {"metrics": ["token_f1", "chrf"], "draws": 100},
        }
    )


@pytest.fixture(scope="module")
def finished(adapter, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, run_study(study_with(adapter), str(out), progress=False, say=lambda line: None)


def table(out, declared):
    return store.read_shards(f"{out}/{declared.name}", declared)


def test_it_goes_through_every_stage_with_its_base_beside_it(finished):
    out, run = finished
    completions = table(out, tables.COMPLETIONS)
    assert completions.groupby("model")["base"].agg(set).to_dict() == {
        START: {""}, "standin-gemma-m": {""}, "mine": {START},
    }  # fmt: skip
    assert set(completions["prompt"]) == {prompt_for("image_to_text", short=True).id}
    assert not completions["outcome"].eq("engine_error").any() and set(completions["family"]) == {"Gemma-3"}
    texts = completions.pivot(index="item_id", columns="model", values="raw_text")
    assert (texts["mine"] != texts[START]).any()
    for declared in (tables.SCORES, tables.AVERAGES):
        rows = table(out, declared).query("role == 'model'")
        assert set(rows.loc[rows["model"] == "mine", "base"]) == {START}
        assert set(rows.loc[rows["model"] != "mine", "base"]) == {""}
    pairs = table(out, tables.COMPARISONS)
    assert {*pairs["model"], *pairs["other"]} == {START, "standin-gemma-m", "mine"}
    assert "mine" in Path(run.report).read_text("utf-8")
    facts = json.loads((out / "manifest.json").read_text("utf-8"))["models"]["mine"]
    assert facts["base"] == START and not facts["embedded"] and "+" in facts["weights"]


def test_nothing_is_claimed_of_size_by_it(finished):
    out, _ = finished
    effects = table(out, tables.EFFECTS)
    assert effects.query("scope == 'pooled'")["models"].max() == 2
    slopes = table(out, tables.SLOPES)
    assert set(slopes["models"]) == {2}
    scores = table(out, tables.SCORES)
    sized = sizes_of_starts(scores)
    assert sized.loc[scores["base"].ne(""), "parameters"].isna().all()
    pd.testing.assert_frame_equal(sized[scores["base"].eq("")], scores[scores["base"].eq("")])
    alone = scores[scores["base"].eq("")]
    assert sizes_of_starts(alone) is alone


def test_it_is_forecast_as_the_stand_in_that_it_was(adapter):
    found = forecast(study_with(adapter))
    assert found.refusal == ""
    questions = found.questions.set_index("model")
    assert set(questions["prompt"]) == {prompt_for("image_to_text", short=True).id}
    assert set(found.pictures["name"]) == {"Gemma-3, stand-in"}
    place = found.places.set_index("model").loc["mine"]
    assert place["weights"] == "folder" and place["verdict"] == "fits"
    assert np.isclose(place["needs"], found.places.set_index("model").loc[START, "needs"])


def test_a_section_says_what_the_lineage_does_not(adapter):
    card = cards_of(study_with(adapter, family="mine", parameters=9))["mine"]
    assert (card.name, card.family, card.parameters, card.base, card.standin) == (
        "mine",
        "mine",
        9,
        START,
        True,
    )
    assert cards_of(study_with(adapter))["mine"].family == "Gemma-3"


def test_an_adapter_that_cannot_be_loaded_is_found_before_the_first_question(adapter, tmp_path, monkeypatch):
    study = study_with(adapter)
    check_run(study, str(tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        (ValueError, RuntimeError), match=r"models\.mine.*pip install 'mmpc_analysis\[align\]'"
    ):
        check_run(study, str(tmp_path / "out"))
