"A look is the same each time, leaves the model as it was, and is named by what it is made of."

from dataclasses import replace

import numpy as np
import pytest

from mmpc_analysis.alignment.looks import LookSettings, make_look
from mmpc_analysis.alignment.policies import load_policy
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.completions import complete
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.scores.scoring import score


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue()


def settings_of(catalogue, *metrics, **more):
    items = catalogue.items[catalogue.items["split"] == "test"].head(12)
    return LookSettings(items, catalogue.items, catalogue.root, metrics, **more)


@pytest.mark.parametrize("name", ["standin-gemma-s", "standin-qwen-s"])
def test_a_look_measures_what_a_run_would(tmp_path, catalogue, name):
    settings = settings_of(catalogue, "token_f1", "rouge_l")
    policy = load_policy(model_card(name), prompt_for("image_to_text", short=True), Recipe())
    policy.engine.model.train()
    look = make_look(settings)
    seen = look(policy, policy.engine.model)
    assert policy.engine.model.training  # It goes on learning
    assert look(policy, policy.engine.model) == seen
    rows = complete(
        settings.items, name, "image_to_text", root=catalogue.root, out=str(tmp_path), progress=False
    )
    scores = score(
        rows,
        catalogue.items,
        root=catalogue.root,
        run=str(tmp_path),
        metrics=["token_f1", "rouge_l"],
        progress=False,
    )
    scores = scores[scores["role"] == "model"]
    for metric, values in scores.groupby("metric")["value"]:
        assert seen[f"look/{metric}"] == pytest.approx(values.mean(), abs=1e-12)
        assert seen[f"look_se/{metric}"] == pytest.approx(values.std(ddof=1) * np.sqrt(2 / 12))
    assert seen["look/items"] == 12 and 0 < seen["look/distinct"] <= 1
    assert seen["truth_words"] == pytest.approx(settings.items["title"].str.split().str.len().mean())


def test_image_prompts_are_drawn_before_they_are_looked_at(tmp_path, catalogue):
    settings = settings_of(catalogue, "ssim", folder=str(tmp_path), generator="standin-sd3", steps=2)
    settings = replace(settings, items=settings.items.head(4))
    policy = load_policy(model_card("standin-gemma-s"), prompt_for("text_to_image", short=True), Recipe())
    seen = make_look(settings)(policy, policy.engine.model)
    assert -1 <= seen["look/ssim"] <= 1 and list((tmp_path / "pictures").rglob("*.jsonl"))


def test_looks_of_other_items_metrics_or_steps_have_other_keys(catalogue):
    settings = settings_of(catalogue, "token_f1")
    others = [
        replace(settings, items=settings.items.head(11)), replace(settings, metrics=("rouge_l",)),
        replace(settings, seed=1), replace(settings, steps=3),
    ]  # fmt: skip
    keys = [make_look(one).key for one in (settings, *others)]
    assert len(set(keys)) == 5 and make_look(settings).key == keys[0]
    with pytest.raises(ValueError, match="no_metric"):
        make_look(replace(settings, metrics=("no_metric",)))
