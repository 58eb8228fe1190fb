"""Alignment checks: a fake engine with known answers, every figure worked out by hand, and a real stand-in at both ends."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.alignment.alignment_checks import (
    by_heart_rows,
    check_alignment,
    readiness_rows,
    rewarded_answers,
    step_rows,
)
from mmpc_analysis.alignment.check_bounds import readiness_sentence
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.alignment.rewards import Reward, default_reward
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.completion.protocol import Answer, Offers

TITLE = prompt_for("image_to_text", short=True)
WORDS = Reward("image_to_text", (("word_f1", 1.0),))
GROUP = Recipe(group=4)


def exact(k):
    return json.dumps({"title": f"thing{k} red"})


def half(k):
    return json.dumps({"title": f"thing{k} blue"})  # F1 = 2*1/(2+2)


def none(k):
    return json.dumps({"title": "zzz"})


def broken(k):
    return "thing"


class Fake:
    "An engine that reads the number of a picture from its colour, or of a title from its word."

    identity, precision, batch_size, offers = "fake", "none", 4, Offers(samples=True)

    def __init__(self, greedy, drawn, reasons=None):
        self.greedy, self.drawn, self.reasons, self.seen = greedy, drawn, reasons or {}, []

    def _number(self, request):
        return (
            request.image.getpixel((0, 0))[0]
            if request.image
            else int(request.conversation[0]["content"][0]["text"].split("thing")[1].split()[0])
        )

    def _answer(self, request, text, place):
        k = self._number(request)
        reason = self.reasons.get((k, place), "stop")
        return Answer(request.key, text(k), reason, 5.0, float(len(text(k))), 0.25)

    def ask(self, requests):
        self.seen += [("ask", self._number(r), r.max_new_tokens) for r in requests]
        return [self._answer(r, self.greedy(self._number(r)), 0) for r in requests]

    def sample(self, requests, sampling):
        self.seen += [("sample", sampling)]
        texts = [self.drawn(self._number(r))[: sampling.n] for r in requests]
        return [
            [self._answer(r, t, n) for n, t in enumerate(ts, 1)]
            for r, ts in zip(requests, texts, strict=True)
        ]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(40):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"{k}.png")
    return str(folder)


def shop(numbers=range(10), **columns):
    items = pd.DataFrame({"item_id": [f"i{k:02d}" for k in numbers], "category": "Toys"})
    items["title"], items["image"] = [f"thing{k} red" for k in numbers], [f"{k}.png" for k in numbers]
    return items.assign(parent_id=items["item_id"], brand="Acme").assign(**columns)


def mixed_greedy(k):
    return exact if k < 5 else half if k < 8 else none


def mixed_drawn(k):
    return [exact, half, none, broken] if k < 5 else [half] * 4 if k < 8 else [none, none, half, half]


def figures(rows):
    return rows.set_index("measure")


@pytest.fixture(scope="module")
def mixed(root):
    answers = rewarded_answers(
        Fake(mixed_greedy, mixed_drawn, {(0, 4): "length"}), shop(), TITLE, WORDS, GROUP, root
    )
    return answers, figures(readiness_rows(answers, "image_to_text", "mine"))


# ---------------------------------------------------------------- figures by hand


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("greedy_reward", (5 * 1 + 3 * 0.5 + 2 * 0) / 10),  # .65
        (
            "sampled_reward",
            (5 * 0.375 + 3 * 0.5 + 2 * 0.25) / 10,
        ),  # Of (1, .5, 0, 0), (.5, ...), (0, 0, .5, .5): .3875
        ("reward_kept", 0.3875 / 0.65),
        ("greedy_words", 0.65),
        ("words_kept", 0.3875 / 0.65),
        ("greedy_accuracy", 0.5),
        ("sampled_accuracy", 5 * 0.25 / 10),
        ("accuracy_kept", 0.25),
        ("silent_groups", 0.3),
        ("head_room", (5 * 0.625 + 3 * 0 + 2 * 0.25) / 10),
        ("over_greedy", 2 * 0.5 / 10),
        (
            "reward_sd",
            (5 * np.sqrt(0.6875 / 3) + 2 * np.sqrt(0.25 / 3)) / 10,
        ),  # Squares .390625 + .015625 + 2*.140625
        ("invalid", 5 * 0.25 / 10),
        ("truncated", 0.25 / 10),
        ("distinct", (5 * 1 + 3 * 0.25 + 2 * 0.5) / 10),
        ("greedy_distinct", 9 / 10),  # zzz is said twice
        ("answer_seconds", 0.25),
    ],
)
def test_figures_by_hand(mixed, measure, value):
    assert mixed[1].loc[measure, "value"] == pytest.approx(value, abs=1e-12)
    assert mixed[1].loc[measure, "n"] == 10


def test_the_share_of_silent_groups_has_the_exact_interval(mixed):
    "Three of ten, from the tables of Clopper and Pearson: .067 to .652."
    row = mixed[1].loc["silent_groups"]
    assert (row["low"], row["high"]) == pytest.approx((0.0667395, 0.6524529), abs=1e-6)


def test_intervals_hold_their_value_and_come_from_listing_groups(root, mixed):
    rows = mixed[1].dropna(subset=["low", "high"])
    assert ((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"])).all()
    without = {
        "answer_seconds",
        "accuracy_kept",
        "greedy_distinct",
    }  # All equal, the same ratio everywhere, a count
    assert set(mixed[1].index) - set(rows.index) == without
    paired = shop(parent_id=[f"g{k // 2}" for k in (0, 5, 1, 6, 2, 7, 3, 8, 4, 9)])
    numbers = shop().assign(parent_id=[f"g{k // 2}" for k in range(10)])
    engine = Fake(mixed_greedy, mixed_drawn)
    alike = figures(check_alignment(engine, numbers, TITLE, WORDS, GROUP, root, base="mine"))
    apart = figures(check_alignment(engine, paired, TITLE, WORDS, GROUP, root, base="mine"))
    alone = figures(check_alignment(engine, shop(), TITLE, WORDS, GROUP, root, base="mine"))
    width = [t.loc["greedy_reward", "high"] - t.loc["greedy_reward", "low"] for t in (alike, alone)]
    assert width[0] > width[1]
    assert alike.loc["greedy_reward", "value"] == apart.loc["greedy_reward", "value"]


def test_the_ratio_errs_as_a_bootstrap_says(root):
    "Half the width of the interval is about twice the error that drawing items anew gives."
    greedy = {k: exact if k % 3 else half for k in range(40)}
    drawn = {
        k: [exact] * (k % 5) + [half] * (4 - k % 5) if k % 2 else [half, none, none, none] for k in range(40)
    }
    answers = rewarded_answers(Fake(greedy.get, drawn.get), shop(range(40)), TITLE, WORDS, GROUP, root)
    row = figures(readiness_rows(answers, "image_to_text", "mine")).loc["reward_kept"]
    g = answers[answers["number"] == 0].set_index("item_id")["reward"]
    s = answers[answers["number"] > 0].groupby("item_id")["reward"].mean()[g.index]
    rng = np.random.default_rng(0)
    places = rng.integers(0, 40, (4000, 40))
    error = (s.to_numpy()[places].mean(1) / g.to_numpy()[places].mean(1)).std()
    assert row["value"] == pytest.approx(s.mean() / g.mean())
    assert (row["high"] - row["low"]) / 2 == pytest.approx(2.02 * error, rel=0.15)


def test_few_right_answers_say_nothing_about_what_is_kept(root):
    "Four greedy answers are right: the ratio is unknown, not judged, and not 0."
    answers = rewarded_answers(
        Fake(lambda k: exact if k < 4 else half, lambda k: [half] * 4), shop(), TITLE, WORDS, GROUP, root
    )
    row = figures(readiness_rows(answers, "image_to_text", "mine")).loc["accuracy_kept"]
    assert np.isnan(row["value"])
    assert row["verdict"] == "told"


def test_a_start_that_earns_nothing_has_nothing_to_keep(root):
    rows = check_alignment(
        Fake(lambda k: none, lambda k: [none] * 4), shop(), TITLE, WORDS, GROUP, root, base="mine"
    )
    table = figures(rows)
    assert table.loc[["reward_kept", "words_kept", "accuracy_kept"], "value"].isna().all()
    assert table.loc["silent_groups", "value"] == 1
    assert table.loc["sampled_words", "verdict"] == "doubtful"  # Ten items do not rule out .02
    assert not readiness_sentence(rows).startswith("Nothing")


# ---------------------------------------------------------------- traps


def test_the_trap_good_greedily_and_noise_when_drawn(root):
    "With the default reward a wrong title keeps its floor, so that only the words give it away."
    engine = Fake(lambda k: exact, lambda k: [none] * 15 + [half] if k % 2 else [none] * 16)
    rows = check_alignment(
        engine, shop(range(40)), TITLE, default_reward("image_to_text"), Recipe(), root, base="mine"
    )
    table = figures(rows)
    assert table.loc["words_kept", "value"] == pytest.approx(0.5 / 16 / 2)
    assert table.loc["words_kept", "verdict"] == "hopeless"
    assert table.loc["reward_kept", "value"] > 0.2
    assert "drawn titles keep 1.6% of the greedy titles' word F1" in readiness_sentence(rows)


def test_a_collapsed_start_is_seen(root):
    engine = Fake(lambda k: none, lambda k: [exact, half, none, none])
    table = figures(check_alignment(engine, shop(range(40)), TITLE, WORDS, GROUP, root, base="mine"))
    assert table.loc["greedy_distinct", "value"] == 1 / 40
    assert table.loc["greedy_distinct", "verdict"] == "hopeless"


def test_one_title_for_two_items_is_no_collapse(root):
    "Ten pictures of five things, each called by its name: five of five titles."
    items = shop(title=[f"thing{k // 2} red" for k in range(10)])
    engine = Fake(lambda k: lambda _: exact(k // 2), lambda k: [half] * 4)
    table = figures(check_alignment(engine, items, TITLE, WORDS, GROUP, root, base="mine"))
    assert table.loc["greedy_distinct", "value"] == 1


def test_what_is_known_by_heart(root):
    "Ten known items earn 1, ten new ones .5; with all equal the bounds are those of 0 spread in ten groups."
    engine = Fake(lambda k: exact if k < 10 else half, lambda k: [exact, exact, exact, half])
    known, new = shop(range(10)), shop(range(10, 20))
    rows = check_alignment(engine, known, TITLE, WORDS, GROUP, root, base="mine", fresh=new)
    table = figures(rows)
    assert table.loc["fresh_reward", "value"] == 0.5
    assert table.loc["by_heart", "value"] == 0.5
    assert table.loc["by_heart", "low"] < 0.5 < table.loc["by_heart", "high"]
    assert table.loc["by_heart", "verdict"] == "doubtful"
    assert "known by heart" in readiness_sentence(rows)
    same = figures(
        check_alignment(engine, known, TITLE, WORDS, GROUP, root, base="mine", fresh=shop(range(10)))
    )
    assert same.loc["by_heart", "value"] == 0
    assert [entry[0] for entry in engine.seen].count("sample") == 2  # New items are only asked greedily


def test_the_difference_has_the_bounds_of_zou_and_donner():
    "From the two intervals: d - sqrt((m1 - l1)^2 + (u2 - m2)^2)."
    rng = np.random.default_rng(1)
    tables = [pd.DataFrame({"number": 0, "reward": rng.uniform(0, top, 30), "parent_id": [f"{top} {n}" for n in range(30)]})
              for top in (1.0, 0.6)]  # fmt: skip
    table = figures(by_heart_rows(*tables, "image_to_text", "mine"))
    from mmpc_analysis.scores.intervals import mean_bounds, mean_spread

    ends = []
    for part in tables:
        spread = mean_spread(part[["reward"]].to_numpy(), np.ones((30, 1)))
        low, high, _ = mean_bounds(spread, 0, 1)
        ends.append((part["reward"].mean(), low[0], high[0]))
    (m1, l1, u1), (m2, l2, u2) = ends
    row = table.loc["by_heart"]
    assert row["value"] == pytest.approx(m1 - m2)
    assert row["low"] == pytest.approx(m1 - m2 - np.sqrt((m1 - l1) ** 2 + (u2 - m2) ** 2))
    assert row["high"] == pytest.approx(m1 - m2 + np.sqrt((u1 - m1) ** 2 + (m2 - l2) ** 2))


# ---------------------------------------------------------------- asking


def test_asks_as_the_recipe_will(root):
    engine = Fake(mixed_greedy, mixed_drawn)
    recipe = Recipe(group=3, temperature=0.7, top_p=0.9, max_new_tokens=33)
    answers = rewarded_answers(engine, shop(), TITLE, WORDS, recipe, root, seed=5)
    (_, sampling), *asked = engine.seen
    assert (sampling.n, sampling.temperature, sampling.top_p, sampling.seed) == (3, 0.7, 0.9, 5)
    assert {limit for _, _, limit in asked} == {33}
    assert answers.groupby("item_id")["number"].apply(list).tolist() == [[0, 1, 2, 3]] * 10


def test_items_are_drawn_by_the_seed_and_not_by_their_order(root):
    engine, items = Fake(mixed_greedy, mixed_drawn), shop(range(40))
    chosen = [set(rewarded_answers(engine, table, TITLE, WORDS, GROUP, root, most=8, seed=seed)["item_id"])
              for table, seed in ((items, 0), (items[::-1], 0), (items, 1))]  # fmt: skip
    assert len(chosen[0]) == 8
    assert chosen[0] == chosen[1] != chosen[2]
    everything = rewarded_answers(engine, items, TITLE, WORDS, GROUP, root, most=0)
    assert everything["item_id"].nunique() == 40


def test_what_the_engine_lost_is_left_out(root):
    engine = Fake(mixed_greedy, mixed_drawn, {(0, 0): "error", (9, 2): "error"})
    answers = rewarded_answers(engine, shop(), TITLE, WORDS, GROUP, root)
    assert set(answers["item_id"]) == {f"i{k:02d}" for k in range(1, 9)}
    assert figures(readiness_rows(answers, "image_to_text", "mine"))["n"].eq(8).all()


def test_pictures_that_cannot_be_opened_are_left_out(root):
    items = shop()
    items.loc[3, "image"] = "gone.png"
    assert (
        rewarded_answers(Fake(mixed_greedy, mixed_drawn), items, TITLE, WORDS, GROUP, root)[
            "item_id"
        ].nunique()
        == 9
    )


def test_one_question_is_asked_once_and_image_prompts_have_no_words(root):
    "Two items with one title are one question about an image prompt."
    items = shop(title=[f"thing{k // 2} red" for k in range(10)])
    prompts = [json.dumps({"prompt": f"a red thing {text}"}) for text in ("now", "then", "x x x x", "now")]
    engine = Fake(lambda k: lambda _: prompts[0], lambda k: [lambda _, t=t: t for t in prompts])
    reward = Reward("text_to_image", (("novelty", 1.0),))
    answers = rewarded_answers(engine, items, prompt_for("text_to_image", short=True), reward, GROUP, root)
    assert answers["item_id"].nunique() == 5
    assert answers["words"].isna().all()
    assert answers["right"].any()  # By the full reward alone
    table = figures(readiness_rows(answers, "text_to_image", "mine"))
    assert table.loc["distinct", "value"] == 0.75
    assert np.isnan(table.loc["sampled_words", "value"])
    assert table.loc["sampled_words", "verdict"] == "told"


def test_parts_that_rank_see_the_whole_group(root):
    "The greedy answer is rewarded among the drawn ones, and all brands of the items are known."
    from mmpc_analysis.alignment.rewards import REWARD_PARTS, RewardPart

    seen = []

    def part(given):
        seen.append((np.bincount(given.groups), given.brands, given.items["item_id"].tolist()))
        return np.full(len(given.answers), 0.5)

    REWARD_PARTS["probe"] = RewardPart("probe", "image_to_text", "", part)
    try:
        items = shop(brand=["Acme", "Bolt"] * 5)
        rewarded_answers(
            Fake(mixed_greedy, mixed_drawn),
            items,
            TITLE,
            Reward("image_to_text", (("probe", 1),)),
            GROUP,
            root,
        )
    finally:
        del REWARD_PARTS["probe"]
    sizes, brands, ids = seen[0]
    assert sizes.tolist() == [5] * 10
    assert brands == ("Acme", "Bolt")
    assert all(len(set(ids[n : n + 5])) == 1 for n in range(0, 50, 5))


# ---------------------------------------------------------------- time, and a real model


def test_time_of_the_whole_recipe():
    "By hand: 500 steps of 18 s are 2.5 hours."
    rows = figures(
        step_rows(
            {"seconds": 18, "cpu_seconds": 20, "gigabytes": 3}, Recipe(steps=500), "image_to_text", "mine"
        )
    )
    assert rows.loc["hours", "value"] == 2.5
    assert rows["verdict"].eq("told").all()
    assert rows["unit"].to_dict() == {
        "step_seconds": "s",
        "step_cpu_seconds": "s",
        "step_gigabytes": "GB",
        "hours": "h",
    }
    assert "hours" not in figures(step_rows({"gigabytes": 3}, Recipe(), "image_to_text", "mine")).index


def test_a_stand_in_at_both_ends_of_temperature():
    "Next to no temperature draws the greedy answer every time; a high one draws noise."
    catalogue = load_catalogue(check_pictures="none")
    items = catalogue.items.query("split == 'test'").iloc[::24]
    engine, how = load_backend("standin-gemma-s"), (TITLE, WORDS)
    cold, hot = (
        figures(check_alignment(engine, items, *how, replace(GROUP, temperature=t), catalogue.root, base="s"))
        for t in (1e-3, 5.0)
    )
    assert cold.loc["sampled_reward", "value"] == pytest.approx(cold.loc["greedy_reward", "value"])
    assert cold.loc["greedy_reward", "value"] > 0.2
    assert cold.loc["silent_groups", "value"] == 1
    assert cold.loc["distinct", "value"] == 0.25
    assert cold.loc["silent_groups", "verdict"] != "fine"
    assert hot.loc["greedy_reward", "value"] == pytest.approx(cold.loc["greedy_reward", "value"])
    assert hot.loc["sampled_reward", "value"] < 0.05
    assert hot.loc["invalid", "value"] > 0.8


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"items": shop(range(4))}, "at least 5 listing groups, got 4"),
        ({"items": shop(parent_id="one")}, "at least 5 listing groups, got 1"),
        ({"items": shop(image="gone.png")}, "the first problem: .*gone.png"),
        ({"recipe": Recipe(group=1)}, "compared with its group"),
        ({"reward": default_reward("text_to_image")}, "expected one for image_to_text"),
        ({"step": {"minutes": 3}}, "step may hold seconds"),
        ({"step": {"seconds": -3}}, "must be at least 0, got -3"),
    ],
)
def test_refusals(root, changes, words):
    given = {"items": shop(), "prompt": TITLE, "reward": WORDS, "recipe": GROUP, "root": root} | changes
    with pytest.raises(ValueError, match=words):
        check_alignment(Fake(mixed_greedy, mixed_drawn), **given, base="mine")


def test_an_engine_that_cannot_draw_is_refused(root):
    engine = Fake(mixed_greedy, mixed_drawn)
    engine.offers = Offers(logprobs=True)
    with pytest.raises(ValueError, match="Fake must offer samples, it offers logprobs"):
        check_alignment(engine, shop(), TITLE, WORDS, GROUP, root, base="mine")
    assert not engine.seen
