"""Drawn rewards: nothing is drawn twice, a group shares its noise, a kill costs a batch, and what fails comes last."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.alignment.drawn_rewards import (
    RESOLUTION,
    DrawnJudge,
    drawn_part,
    group_ranks,
    judge_similarity,
    noise_seeds,
    similarity_part,
)
from mmpc_analysis.alignment.rewards import RewardInput
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.pictures import open_image, read_images, square_image
from mmpc_analysis.completion.answers import ReadAnswer
from mmpc_analysis.completion.devices import BackendError
from mmpc_analysis.completion.drawing import image_seed
from mmpc_analysis.completion.generators import draw_batch, generator_setup, load_generator
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.metrics.images import effnet_cosine
from mmpc_analysis.store import stored_lines

CATALOGUE = load_catalogue("embedded", split="train")
TWO = CATALOGUE.items[CATALOGUE.items["brand"] == "Twemoji"].iloc[[3, 30]].reset_index(drop=True)


class Brush:
    "Paints a colour that follows from prompt and noise, fails on some prompts, and remembers what it painted."

    def __init__(self, bad=(), power=None):
        self.drawn, self.batches, self.bad, self.power = [], 0, bad, power

    def __call__(self, prompts, seeds):
        if set(prompts) & set(self.bad):
            raise RuntimeError("cannot draw this")
        if self.power == self.batches:
            raise KeyboardInterrupt
        self.batches += 1
        self.drawn += zip(prompts, seeds, strict=True)
        colours = [
            tuple(hashlib.sha256(f"{p}{s}".encode()).digest()[:3])
            for p, s in zip(prompts, seeds, strict=True)
        ]
        return [Image.new("RGB", (32, 32), colour) for colour in colours]


def judge_with(brush, folder, **about):
    return DrawnJudge(CATALOGUE.root, str(folder), draw_them=brush, **about)


def rows(*numbers):
    return TWO.iloc[list(numbers)]


def given(texts, numbers, groups, outcomes=None):
    outcomes = outcomes or ["ok"] * len(texts)
    answers = tuple(ReadAnswer(o, t if o == "ok" else None) for o, t in zip(outcomes, texts, strict=True))
    prompt = prompt_for("text_to_image", short=True)
    return RewardInput(prompt, answers, rows(*numbers), np.array(groups), np.full(len(texts), 9))


# ---------------------------------------------------------------- drawn once, from the same noise


def test_nothing_is_drawn_twice(tmp_path):
    brush = Brush()
    judge = judge_with(brush, tmp_path)
    first = judge_similarity(judge, ["a", "a", "b", "a"], rows(0, 0, 0, 1))
    assert (
        len(brush.drawn) == len(set(brush.drawn)) == 6
    )  # a and b for one item, a for the other, two noises each
    assert np.array_equal(first[0], first[1]) and not np.array_equal(first[0], first[3])
    again = judge_similarity(judge, ["b", "a"], rows(0, 0))
    assert len(brush.drawn) == 6 and np.array_equal(again, first[[2, 0]])
    other = Brush()
    reborn = judge_with(other, tmp_path)
    assert np.array_equal(
        judge_similarity(reborn, ["a", "b", "a", "c"], rows(0, 0, 1, 1))[:3], first[[0, 2, 3]]
    )
    assert {prompt for prompt, _ in other.drawn} == {"c"}


def test_all_answers_to_an_item_share_their_noise(tmp_path):
    brush = Brush()
    judge_similarity(judge_with(brush, tmp_path, seeds=3), ["a", "b", "c", "a"], rows(0, 0, 1, 1))
    drawn = pd.DataFrame(brush.drawn, columns=["prompt", "seed"]).groupby("prompt")["seed"].agg(set)
    assert len(drawn["a"]) == 6 and drawn["b"] < drawn["a"] and drawn["c"] < drawn["a"]
    assert not drawn["b"] & drawn["c"]


def test_noise_follows_from_seed_and_item_and_is_not_that_of_the_examination(tmp_path):
    judge = judge_with(Brush(), tmp_path, seeds=4)
    seeds = noise_seeds(judge, "mug")
    assert seeds == noise_seeds(judge, "mug") and len(set(seeds)) == 4
    assert not set(seeds) & set(noise_seeds(replace(judge, seed=1), "mug"))
    assert image_seed(0, "mug") not in seeds
    assert all(0 <= seed < 2**60 for seed in seeds)


@pytest.mark.parametrize("about", [{"seed": 5}, {"steps": 2}])
def test_what_changes_a_picture_is_drawn_again(tmp_path, about):
    first, second = Brush(), Brush()
    judge_similarity(judge_with(first, tmp_path), ["a"], rows(0))
    judge_similarity(judge_with(second, tmp_path, **about), ["a"], rows(0))
    assert len(second.drawn) == 2


def test_a_further_noise_draws_only_that(tmp_path):
    brush = Brush()
    judge = judge_with(brush, tmp_path)
    two = judge_similarity(judge, ["a"], rows(0))
    three = judge_similarity(replace(judge, seeds=3), ["a"], rows(0))
    assert len(brush.drawn) == 3 and np.array_equal(three[:, :2], two)


def test_another_true_picture_is_compared_anew(tmp_path):
    brush = Brush()
    judge = judge_with(brush, tmp_path)
    judge_similarity(judge, ["a"], rows(0))
    judge_similarity(judge, ["a"], rows(0).assign(image=TWO["image"][1]))
    assert len(brush.drawn) == 4


# ---------------------------------------------------------------- kills and failures


def test_a_kill_costs_at_most_a_batch(tmp_path):
    texts = [f"prompt {i}" for i in range(10)]
    killed = Brush(power=3)
    with pytest.raises(KeyboardInterrupt):
        judge_similarity(judge_with(killed, tmp_path, batch_size=4), texts, rows(*[0] * 10))
    assert len(stored_lines(str(tmp_path))[0]) == len(killed.drawn) == 12
    after = Brush()
    resumed = judge_similarity(judge_with(after, tmp_path, batch_size=4), texts, rows(*[0] * 10))
    assert len(after.drawn) == 8 and not set(after.drawn) & set(killed.drawn)
    whole = judge_similarity(judge_with(Brush(), tmp_path / "whole"), texts, rows(*[0] * 10))
    assert np.array_equal(resumed, whole)


def test_a_line_that_was_cut_short_is_drawn_again(tmp_path):
    judge_similarity(judge_with(Brush(), tmp_path), ["a", "b"], rows(0, 0))
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    after = Brush()
    judge_similarity(judge_with(after, tmp_path), ["a", "b"], rows(0, 0))
    assert len(after.drawn) == 1


def test_a_failed_drawing_is_last_and_no_error(tmp_path):
    brush = Brush(bad={"bad"})
    judge = judge_with(brush, tmp_path)
    with pytest.warns(RuntimeWarning, match="could not draw 2 of 8 pictures: RuntimeError: cannot draw this"):
        near = judge_similarity(judge, ["a", "bad", "b", "c"], rows(0, 0, 0, 0))
    assert np.isnan(near[1]).all() and np.isfinite(near[[0, 2, 3]]).all()
    with pytest.warns(RuntimeWarning, match="2 of 2"):
        ranks = drawn_part(judge).compute(given(["a", "bad", "b", "c"], [0] * 4, [0] * 4))
    assert ranks[1] == 0 and ranks.max() == 1
    brush.bad = ()
    assert np.isfinite(judge_similarity(judge, ["bad"], rows(0))).all()  # It was not written off


def test_one_noise_that_fails_costs_the_prompt_its_place(tmp_path):
    unlucky = noise_seeds(judge_with(None, tmp_path), TWO["item_id"][0])[1]

    def paint(prompts, seeds):
        if ("b", unlucky) in zip(prompts, seeds, strict=True):
            raise RuntimeError("no")
        return Brush()(prompts, seeds)

    with pytest.warns(RuntimeWarning, match="1 of 4"):
        near = judge_similarity(judge_with(paint, tmp_path), ["a", "b"], rows(0, 0))
    assert np.isnan(near).tolist() == [[False, False], [False, True]]


def test_a_generator_that_draws_nothing_is_an_error(tmp_path):
    with pytest.raises(
        BackendError, match="could not draw 4 of 4 pictures: RuntimeError: cannot draw this; mend"
    ):
        judge_similarity(judge_with(Brush(bad={"a", "b"}), tmp_path), ["a", "b"], rows(0, 0))


# ---------------------------------------------------------------- ranks and parts


def test_ranks_stay_within_groups_and_share_ties():
    values = np.array([0.3, 0.1, 0.3, 0.2, 0.9, 0.8, 0.7])
    ranks = group_ranks(values, np.array([4, 4, 4, 4, 1, 2, 1]))
    assert ranks == pytest.approx([5 / 6, 0, 5 / 6, 1 / 3, 1, 0.5, 0])
    order = np.array([6, 2, 0, 4, 1, 5, 3])
    assert group_ranks(values[order], np.array([4, 4, 4, 4, 1, 2, 1])[order]) == pytest.approx(ranks[order])


def test_every_group_has_the_mean_rank_one_half():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(600) < 0.2, np.nan, rng.integers(0, 5, 600))
    groups = np.repeat(np.arange(60), 10)
    assert pd.Series(group_ranks(values, groups)).groupby(groups).mean().to_numpy() == pytest.approx(
        np.full(60, 0.5)
    )


def test_differences_below_the_resolution_are_ties():
    values, groups = np.array([0.512, 0.5135, 0.44, 0.61]), np.zeros(4)
    assert group_ranks(values, groups, RESOLUTION) == pytest.approx([0.5, 0.5, 0, 1])
    assert group_ranks(values, groups) == pytest.approx([1 / 3, 2 / 3, 0, 1])


def test_the_part_pays_by_group_and_draws_no_unusable_answer(tmp_path):
    brush = Brush()
    judge = judge_with(brush, tmp_path)
    texts, numbers, groups = ["a", "b", "c", "a", "b", "d"], [0, 0, 0, 1, 1, 1], [3, 3, 3, 7, 7, 7]
    rank, similarity = drawn_part(judge, resolution=0), similarity_part(judge)
    outcomes = ["ok", "ok", "ok", "ok", "ok", "invalid"]
    paid = rank.compute(given(texts, numbers, groups, outcomes))
    near = judge_similarity(judge, texts[:5], rows(*numbers[:5])).mean(1)
    assert paid[:3] == pytest.approx(group_ranks(near[:3], np.zeros(3)))
    assert paid[5] == 0 and sorted(paid[3:5]) == [0.5, 1]
    assert "d" not in {prompt for prompt, _ in brush.drawn}
    shown = similarity.compute(given(texts, numbers, groups, outcomes))
    assert shown == pytest.approx([*np.clip(near, 0, 1), 0]) and len(brush.drawn) == 10
    assert (rank.name, rank.task, rank.encoder, rank.metrics) == (
        "image_rank",
        "text_to_image",
        "effnet",
        ("effnet_cosine",),
    )
    assert similarity.encoder == "effnet"


def test_a_reward_of_answers_that_are_all_refused_draws_nothing(tmp_path):
    judge = judge_with(Brush(bad={"a"}), tmp_path)
    paid = drawn_part(judge).compute(given(["a", "a"], [0, 0], [0, 0], ["refused", "invalid"]))
    assert paid.tolist() == [0.5, 0.5]  # Ties; the gate makes them 0


# ---------------------------------------------------------------- the generator itself


def test_a_real_drawing_is_compared_as_the_metric_does(tmp_path):
    judge = DrawnJudge(CATALOGUE.root, str(tmp_path), steps=1, device="cpu")
    text = "Drawing of Alarm Clock, Twemoji style"
    near = judge_similarity(judge, [text, "Guitar"], rows(0, 0))
    setup = generator_setup("standin-sd3", device="cpu", steps=1)
    pipeline = load_generator(setup.source, setup.revision, setup.device, setup.precision, setup.offload)
    drawn = draw_batch(pipeline, [text] * 2, noise_seeds(judge, TWO["item_id"][0]), setup.settings)
    made = np.stack([square_image(picture, 128) for picture in drawn])
    true = np.stack([square_image(open_image(CATALOGUE.root, TWO["image"][0]), 128)] * 2)
    assert near[0] == pytest.approx(effnet_cosine(true, made), abs=1e-6)
    assert near.shape == (2, 2) and len(stored_lines(str(tmp_path))[0]) == 4


def test_true_pictures_drawn_again_are_as_near_as_can_be(tmp_path):
    squares = read_images(CATALOGUE.root, [TWO["image"][0]], (128,))[0][128]
    judge = judge_with(lambda prompts, seeds: [Image.fromarray(squares[0])] * len(prompts), tmp_path)
    assert judge_similarity(judge, ["whatever"], rows(0)) == pytest.approx(np.ones((1, 2)))
