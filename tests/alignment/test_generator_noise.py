"""The generator's noise: variances that are known are found again, intervals cover, and what a model writes is measured."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from mmpc_analysis.alignment.drawn_rewards import DrawnJudge
from mmpc_analysis.alignment.generator_noise import (
    NOISE_BOUNDS,
    measure_noise,
    noise_rows,
    noise_share,
    noise_verdict,
)
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.completion.protocol import Answer, Offers, Sampling
from mmpc_analysis.tables import ALIGNMENT_CHECKS, validate


def simulated(rng, items, prompt, seed, rest, prompts=6, noises=4, spread=0.0):
    "Similarities with known variances; `spread` lets products differ in theirs."
    weight = np.exp(spread * rng.normal(size=(2, items, 1, 1)) - spread**2 / 2)
    made = rng.normal(size=(items, 1, 1)) + np.sqrt(prompt * weight[0]) * rng.normal(size=(items, prompts, 1))
    return (
        made
        + np.sqrt(seed) * rng.normal(size=(items, 1, noises))
        + np.sqrt(rest * weight[1]) * rng.normal(size=(items, prompts, noises))
    )


@pytest.mark.parametrize("prompt", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("seeds", [1, 2])
def test_known_shares_are_found_again(prompt, seeds):
    found = noise_share(simulated(np.random.default_rng(1), 2000, prompt, 0.5, 0.5), seeds)
    assert found.share == pytest.approx(0.5 / seeds / (prompt + 0.5 / seeds), abs=0.02)
    assert found.share_without == pytest.approx(1 / seeds / (prompt + 1 / seeds), abs=0.02)
    assert found.deviation == pytest.approx(np.sqrt(prompt), abs=0.03)
    assert (found.seed_variance, found.residual_variance) == pytest.approx((0.5, 0.5), abs=0.03)


@pytest.mark.parametrize(("prompt", "spread"), [(0.05, 0.0), (0.5, 0.0), (3.0, 0.0), (0.5, 0.7)])
def test_intervals_cover(prompt, spread):
    rng, hits, runs = np.random.default_rng(2), np.zeros(3), 150
    truth = 0.25 / (prompt + 0.25), 0.5 / (prompt + 0.5), np.sqrt(prompt)
    for _ in range(runs):
        found = noise_share(simulated(rng, 24, prompt, 0.5, 0.5, spread=spread))
        bounds = [(found.low, found.high), (found.low_without, found.high_without)]
        bounds.append((found.deviation_low, found.deviation_high))
        hits += [low <= true <= high for true, (low, high) in zip(truth, bounds, strict=True)]
    assert (hits / runs >= (0.90 if not spread else 0.87)).all()
    assert (hits[:2] / runs).min() < 1  # An interval that always covers is too wide


def test_the_rank_has_a_share_of_its_own():
    equal = simulated(np.random.default_rng(3), 100, 1.0, 0.0, 1.0)
    halves = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    agreement = [spearmanr(*(item[:, half].mean(1) for half in pair))[0] for item in equal for pair in halves]
    assert noise_share(equal, resolution=0).rank_share == pytest.approx(1 - np.mean(agreement))
    close = 0.0001 * equal + 0.30  # Differences that no eye would see
    assert noise_share(close, resolution=0).rank_share == pytest.approx(1 - np.mean(agreement))
    rounded = noise_share(close)
    assert np.isnan(rounded.rank_share) and rounded.equal == 0  # All are ties
    assert np.isnan(noise_share(equal[:, :, :3]).rank_share)  # Two against two need four


def test_two_answers_that_are_equal_change_no_share():
    values = simulated(np.random.default_rng(4), 1500, 1.0, 0.5, 0.5)
    doubled = np.concatenate([values, values], axis=1)
    assert noise_share(doubled).share == pytest.approx(noise_share(values).share)
    assert noise_share(doubled).seed_variance > noise_share(values).seed_variance  # Own noise would part them


def test_a_generator_without_noise_and_a_writer_without_variety():
    rng = np.random.default_rng(5)
    still = noise_share(np.repeat(rng.random((30, 5, 1)), 4, axis=2))
    assert (still.share, still.share_without, still.rank_share) == pytest.approx((0, 0, 0), abs=1e-9)
    same = noise_share(np.repeat(rng.random((30, 1, 4)), 5, axis=1))
    assert np.isnan(same.share) and same.equal == 1 and "nothing to learn" in noise_verdict(same)
    rows = noise_rows(same, "a").set_index("measure")
    assert rows.loc["noise_share", "verdict"] == rows.loc["equal_drawings", "verdict"] == "hopeless"


def test_unknown_prompts_and_few_groups():
    values = simulated(np.random.default_rng(6), 12, 1.0, 0.5, 0.5)
    holed = values.copy()
    holed[0, :5], holed[1, 0, 0] = np.nan, np.nan  # One prompt left; one drawing lost
    found = noise_share(holed)
    assert (found.items, found.groups) == (11, 11)
    assert found == noise_share(holed[1:])
    one_lost = values.copy()
    one_lost[:, 5] = np.nan
    assert noise_share(one_lost) == noise_share(values[:, :5])
    few = noise_share(values, groups=np.repeat([0, 1, 2, 3], 3))
    assert few.groups == 4 and np.isnan(few.low) and few.share == pytest.approx(noise_share(values).share)
    assert noise_rows(few, "a").set_index("measure").loc["noise_share", "verdict"] == "doubtful"
    assert "%" in noise_verdict(few) and "is open" in noise_verdict(few)


def test_products_of_one_group_are_one_witness():
    values = simulated(np.random.default_rng(7), 10, 1.0, 0.5, 0.5)
    alone, twice = noise_share(values), noise_share(np.concatenate([values, values]), groups=[*range(10)] * 2)
    assert (twice.low, twice.high) == pytest.approx((alone.low, alone.high))


def test_verdicts_follow_the_bounds():
    rng = np.random.default_rng(8)
    for prompt, verdict in ((1.0, "fine"), (0.02, "doubtful"), (0.0, "hopeless")):
        found = noise_share(simulated(rng, 100, prompt, 0.0, 0.1))
        rows = validate(noise_rows(found, "standin-gemma-s", 0.02), ALIGNMENT_CHECKS).set_index("measure")
        assert rows.loc["noise_share", "verdict"] == verdict
        assert rows.loc["noise_share", "bound"] == NOISE_BOUNDS[0]
        assert rows.loc["picture_seconds", "value"] == 0.02
        assert set(rows.loc[["prompt_deviation", "noise_share_without_common_seeds"], "verdict"]) == {"told"}


class Writer:
    "Writes a colour for each product, now and then no object."

    identity, precision, batch_size, offers = "writer", "none", 8, Offers(samples=True)

    def sample(self, requests, sampling):
        self.asked = sampling, [request.conversation[0]["content"][-1]["text"] for request in requests]
        texts = ['{"prompt": "red"}', '{"prompt": "green"}', "no object"]
        return [[Answer(r.key, texts[i % 3], "stop") for i in range(sampling.n)] for r in requests]


def test_what_a_model_writes_is_measured(tmp_path):
    from PIL import Image

    catalogue = load_catalogue("embedded", split="train")
    drawn = []

    def paint(prompts, seeds):
        drawn.extend(zip(prompts, seeds, strict=True))
        return [
            Image.new("RGB", (32, 32), (prompt, (seed % 200,) * 3)[seed % 2])
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    judge, writer = DrawnJudge(catalogue.root, str(tmp_path), draw_them=paint), Writer()
    prompt = prompt_for("text_to_image", short=True)
    found = measure_noise(writer, catalogue.items, judge, prompt, 4, 5, 3, Sampling(temperature=1.1, seed=9))
    assert (writer.asked[0].n, writer.asked[0].temperature, writer.asked[0].seed) == (5, 1.1, 9)
    assert all(title in text for title, text in zip(found.items["title"], writer.asked[1], strict=True))
    assert found.texts[0].tolist() == ["red", "green", "", "red", "green"]
    assert found.similarity.shape == (4, 5, 3) and np.isnan(found.similarity[:, 2]).all()
    assert found.drawn == len(drawn) == 4 * 2 * 3 and found.picture_seconds > 0
    assert found.share(1).items == 4
    again = measure_noise(writer, catalogue.items, judge, prompt, 4, 5, 3)
    assert again.drawn == 0 and len(drawn) == 24 and np.isnan(again.picture_seconds)
    pd.testing.assert_frame_equal(again.items, found.items)
    assert set(
        measure_noise(writer, catalogue.items, judge, prompt, 4, 2, 2, seed=1).items["item_id"]
    ) != set(found.items["item_id"])
