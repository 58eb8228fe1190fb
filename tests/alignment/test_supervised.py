"Plain training: its loss is that of the answer's tokens, in one piece or in several, and its best weights stay."

from pathlib import Path

import numpy as np
import pytest

from mmpc_analysis.alignment.policies import load_policy, policy_backend, policy_requests
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.alignment.supervised import SupervisedRecipe, answer_loss, answer_object, supervise
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.likelihoods import answer_tokens
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.prompts import prompt_for

PROMPT = prompt_for("image_to_text", short=True)


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue(split="train")


def made(catalogue, out, n=16, name="standin-gemma-s", **how):
    items = catalogue.items.head(n)
    answers = [answer_object(f"New {title} Set", PROMPT) for title in items["title"]]
    how = {"recipe": SupervisedRecipe(steps=8, learning_rate=2e-3, looks=4)} | how
    return supervise(name, items, answers, "image_to_text", str(out), root=catalogue.root, **how)


@pytest.mark.parametrize("name", ["standin-gemma-s", "standin-qwen-s"])
def test_the_loss_is_that_of_the_answers_tokens(catalogue, name):
    policy = load_policy(model_card(name), PROMPT, Recipe())
    requests = policy_requests(policy, catalogue.items.head(3), catalogue.root)
    texts = ['{"title": "Red Mug"}', '{"title": "A much longer title of a red mug"}', '{"title": "Hat"}']
    loss = answer_loss(policy, requests, answer_tokens(texts, policy.engine))
    scored = [policy_backend(policy).score(r, [t])[0] for r, t in zip(requests, texts, strict=True)]
    by_hand = -sum(s.logprob for s in scored) / sum(s.tokens for s in scored)
    assert float(loss.detach()) == pytest.approx(by_hand, abs=1e-4)


def test_pieces_of_a_batch_are_the_batch(tmp_path, catalogue):
    whole, pieces = (
        made(catalogue, tmp_path / str(rows), adapters=Recipe(rows=rows, questions=8, group=2))
        for rows in (0, 4)
    )
    losses = [a.steps[a.steps["measure"] == "loss"]["value"].to_numpy() for a in (whole, pieces)]
    assert np.allclose(*losses, atol=1e-4)


def test_a_habit_is_learnt_and_the_base_remembered(tmp_path, catalogue):
    aligned = made(catalogue, tmp_path, recipe=SupervisedRecipe(steps=40, learning_rate=2e-3))
    losses = aligned.steps[aligned.steps["measure"] == "loss"]["value"].to_numpy()
    assert losses[-1] < losses[0] / 4
    assert (aligned.card.base, aligned.card.standin, aligned.record["steps"]) == ("standin-gemma-s", True, 40)
    assert (
        made(catalogue, tmp_path, recipe=SupervisedRecipe(steps=40, learning_rate=2e-3)).record
        == aligned.record
    )


def looker(values):
    "A look that sees given values, one after the other."
    left = list(values)
    look = lambda policy, model: {"look/token_f1": left.pop(0)}  # noqa: E731
    look.key = str(values)
    return look


@pytest.mark.parametrize(
    ("values", "kept"),
    [((0.1, 0.2, 0.9, 0.3, 0.4), 4), ((0.9, 0.2, 0.1, 0.3, 0.4), 0), ((0.1, 0.2, 0.3, 0.4, 0.5), 8)],
)
def test_the_best_look_decides_which_weights_stay(tmp_path, catalogue, values, kept):
    aligned = made(catalogue, tmp_path, look=looker(values))
    row = aligned.steps[aligned.steps["measure"] == "kept_step"]["value"]
    assert row.tolist() == [kept]
    same = made(catalogue, tmp_path / "cut", recipe=SupervisedRecipe(steps=max(kept, 1), learning_rate=2e-3))
    weights = [next(Path(a.card.folder).glob("*.safetensors")).read_bytes() for a in (aligned, same)]
    assert (weights[0] == weights[1]) == (kept > 0)  # Nothing kept is the start itself, not one update


def test_a_budget_decides_the_number_of_updates(tmp_path, catalogue):
    short, long = (made(catalogue, tmp_path / str(b), budget=b).record for b in (0.01, 2.0))
    assert short["steps"] == 5 and long["steps"] > 5  # Five are timed
    assert 0.5 < long["cpu_seconds"] < 8


def test_adapters_learn_alone(tmp_path, catalogue):
    pytest.importorskip("peft")
    aligned = made(catalogue, tmp_path, name="standin-qwen-s", adapters=Recipe(lora_rank=4))
    assert aligned.card.adapter and aligned.card.folder == model_card("standin-qwen-s").folder


def test_every_item_needs_an_answer(tmp_path, catalogue):
    with pytest.raises(ValueError, match="every item needs one answer, got 16 items and 0 answers"):
        supervise(
            "standin-gemma-s",
            catalogue.items.head(16),
            [],
            "image_to_text",
            str(tmp_path),
            root=catalogue.root,
        )
