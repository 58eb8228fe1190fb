"A training is repeated, broken off and taken up again, and watched; what is trained on is what was asked."

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("trl")
pytest.importorskip("peft")

from starts import BOS, WRITTEN
from test_policies import card_of

from mmpc_analysis.alignment.grpo import (
    align,
    logprob_gap,
    make_trainer,
    need_align,
    quiet_training,
    restore_weights,
)
from mmpc_analysis.alignment.policies import load_policy, policy_requests
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.alignment.rewards import Reward, default_reward
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.checkpoints import BackendError, torch_threads
from mmpc_analysis.completion.completions import complete
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.prompts import prompt_for

WORDS = Reward("image_to_text", (("word_f1", 1.0),))
SHORT = Recipe(steps=4, questions=4, group=4, save_every=2)
WHO = {"task": "image_to_text", "base": "b", "treatment": "grpo", "seed": 0}
TIMES = ("seconds", "cpu_seconds")


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue(split="train")


def curve(aligned):
    "What a training measured, but for the time it took."
    rows = aligned.steps[~aligned.steps["measure"].isin(TIMES)]
    return rows.pivot(index="step", columns="measure", values="value")


@pytest.mark.parametrize("lora", [0, 4], ids=["all weights", "adapters"])
@pytest.mark.parametrize(("adds", "template"), [(True, WRITTEN), (True, ""), (False, WRITTEN)])
@pytest.mark.parametrize("family", BOS)
def test_a_batch_has_the_probabilities_of_answers_read_alone(
    tmp_path, catalogue, family, adds, template, lora
):
    recipe = Recipe(steps=1, questions=4, group=4, lora_rank=lora)
    policy = load_policy(
        card_of(tmp_path, family, adds, template), prompt_for("image_to_text", short=True), recipe
    )
    with torch_threads(1), quiet_training():
        trainer, _ = make_trainer(
            policy, catalogue.items.head(8), WORDS, str(tmp_path / "run"), catalogue.root, WHO
        )
        requests = policy_requests(policy, catalogue.items.head(8), catalogue.root)
        assert logprob_gap(trainer, policy, requests) < 1e-4


@pytest.mark.parametrize("family", BOS)
def test_a_shifted_batch_is_refused(tmp_path, catalogue, family, monkeypatch):
    "Had the second rendering begun once more, the probabilities would not have been those of the model that is asked."
    import mmpc_analysis.alignment.grpo as training

    monkeypatch.setattr(training, "check_start", lambda policy, requests: None)
    policy = load_policy(
        card_of(tmp_path, family, False, WRITTEN), prompt_for("image_to_text", short=True), SHORT
    )
    real = training.answer_logprobs
    monkeypatch.setattr(
        training, "answer_logprobs", lambda p, r, ids, t: real(p, r, [i[1:] + i[:1] for i in ids], t)
    )
    with quiet_training(), pytest.raises(BackendError, match="must be those of answers read alone"):
        make_trainer(policy, catalogue.items.head(8), WORDS, str(tmp_path / "run"), catalogue.root, WHO)


def test_the_same_run_is_the_same_and_another_seed_another(tmp_path, catalogue):
    given = ("standin-gemma-s", catalogue.items.head(16), "image_to_text", WORDS)
    how = {"root": catalogue.root, "recipe": SHORT, "progress": False}
    one, two = (align(*given, str(tmp_path / name), **how) for name in ("one", "two"))
    pd.testing.assert_frame_equal(curve(one), curve(two))
    other = align(*given, str(tmp_path / "one"), seed=1, **how)
    assert other.card.name == "standin-gemma-s-grpo-1" and not curve(other).equals(curve(one))
    assert one.record["answers"] == 4 * 4 * 4 and one.record["steps"] == 4
    assert align(*given, str(tmp_path / "one"), **how).record == one.record  # Read, not made again
    longer = align(*given, str(tmp_path / "one"), **how | {"recipe": Recipe(steps=1, questions=4, group=4)})
    assert longer.record["steps"] == 1  # Another recipe is another run


SCRIPT = textwrap.dedent("""
    import sys
    from mmpc_analysis.alignment.recipes import Recipe
    from mmpc_analysis.alignment.rewards import Reward
    from mmpc_analysis.alignment.grpo import align
    from mmpc_analysis.catalogue.items import load_catalogue
    c = load_catalogue(split="train")
    recipe = Recipe(steps=6, questions=4, group=4, save_every=2, lora_rank=int(sys.argv[3]), learning_rate=1e-3)
    align(sys.argv[2], c.items.head(16), "image_to_text", Reward("image_to_text", (("word_f1", 1.0),)), sys.argv[1],
          root=c.root, recipe=recipe, progress=False)
""")


@pytest.mark.parametrize(
    ("name", "lora"), [("standin-gemma-s", 0), ("standin-qwen-s", 0), ("standin-gemma-s", 4)]
)
def test_a_killed_training_goes_on_to_the_same_curve(tmp_path, catalogue, name, lora):
    "Gemma's stored names are not those in memory: a trainer that loads by name would go on from the base."
    recipe = Recipe(steps=6, questions=4, group=4, save_every=2, lora_rank=lora, learning_rate=1e-3)
    given = (name, catalogue.items.head(16), "image_to_text", WORDS)
    whole = align(*given, str(tmp_path / "whole"), root=catalogue.root, recipe=recipe, progress=False)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), name, str(lora)], stderr=subprocess.DEVNULL
    )
    until = time.time() + 120
    while time.time() < until and not list((tmp_path / "killed").glob("*/steps/00000003.jsonl")):
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder,) = (tmp_path / "killed").iterdir()
    assert (folder / "checkpoints" / "checkpoint-2").is_dir() and not (folder / "record.json").exists()
    resumed = align(*given, str(tmp_path / "killed"), root=catalogue.root, recipe=recipe, progress=False)
    pd.testing.assert_frame_equal(curve(resumed), curve(whole))
    one, two = (
        next(Path(a.card.adapter or a.card.folder).glob("*.safetensors")).read_bytes()
        for a in (whole, resumed)
    )
    assert one == two


def test_a_checkpoint_of_another_model_is_refused(tmp_path, catalogue):
    policy = load_policy(model_card("standin-gemma-s"), prompt_for("image_to_text", short=True), SHORT)
    with pytest.raises((BackendError, RuntimeError), match=r"remove it|size mismatch"):
        restore_weights(policy, policy.engine.model, model_card("standin-qwen-s").folder)


@pytest.mark.parametrize("lora", [0, 4])
def test_what_comes_out_is_a_model_of_its_own(tmp_path, catalogue, lora):
    recipe = Recipe(steps=2, questions=4, group=4, lora_rank=lora, learning_rate=3e-3)
    how = {"root": catalogue.root, "progress": False}
    aligned = align(
        "standin-qwen-s",
        catalogue.items.head(16),
        "image_to_text",
        WORDS,
        str(tmp_path / "a"),
        recipe=recipe,
        **how,
    )
    assert (aligned.card.base, aligned.card.standin) == ("standin-qwen-s", True)
    rows = complete(catalogue.items.head(6), aligned.card, "image_to_text", out=str(tmp_path / "run"), **how)
    assert set(rows["base"]) == {"standin-qwen-s"} and set(rows["prompt"]) == {"title-short-1"}
    assert set(rows["model"]) == {"standin-qwen-s-grpo-0"} and rows["outcome"].isin(["ok", "repaired"]).any()


def test_truncated_answers_teach_nothing(tmp_path, catalogue):
    "With room for a few tokens every answer is cut: no reward, no gradient, and the weights stay."
    recipe = Recipe(steps=1, questions=2, group=4, max_new_tokens=3, learning_rate=1e-2, warm_up=0)
    how = {"root": catalogue.root, "progress": False, "recipe": recipe, "guarded": False}
    aligned = align("standin-gemma-s", catalogue.items.head(4), "image_to_text", WORDS, str(tmp_path), **how)
    row = aligned.steps.set_index("measure")["value"]
    assert row["truncated"] == 1 and not row["gradient"] > 0


def test_a_planted_collapse_is_caught(tmp_path, catalogue):
    "A learning rate a hundred times too high ends in a tripwire, not in a finished run."
    recipe = Recipe(steps=40, questions=4, group=8, learning_rate=3e-2, warm_up=1, save_every=40)
    how = {"root": catalogue.root, "progress": False, "recipe": recipe}
    aligned = align(
        "standin-gemma-s",
        catalogue.items.head(32),
        "image_to_text",
        default_reward("image_to_text"),
        str(tmp_path),
        **how,
    )
    assert aligned.record["stopped"] and aligned.record["steps"] < 40
    assert aligned.alarms["action"].eq("stopped").sum() >= 1


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    import mmpc_analysis.alignment.grpo as training

    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install 'mmpc_analysis\[align\]'"):
        need_align()
    with pytest.raises(BackendError, match="trl, peft, datasets"):
        align("standin-gemma-s", pd.DataFrame(), "image_to_text", WORDS, "nowhere", root="nowhere")
    assert not os.path.exists("nowhere")
