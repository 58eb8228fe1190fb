"What a trainer is paid for a batch, and what is counted beside it, computed by hand."

import math
from types import SimpleNamespace

import numpy as np
import pytest

from mmpc_analysis.alignment.counted_rewards import RewardCounter, answer_counts, reward_functions
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.alignment.rewards import Reward, RewardInput
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.answers import ReadAnswer
from mmpc_analysis.completion.prompts import prompt_for

END, PROMPT = 9, prompt_for("image_to_text", short=True)
REWARD = Reward("image_to_text", (("word_f1", 3.0), ("bounded_length", 1.0)))


@pytest.fixture(scope="module")
def items():
    return load_catalogue(split="train").items.head(3).assign(title=["Red Mug", "Blue Kite", "Green Hat"])


def counter(items, mask=True, **more):
    policy = SimpleNamespace(prompt=PROMPT, recipe=Recipe(mask_truncated=mask))
    return RewardCounter(policy, REWARD, items, {END}, **more)


def turns(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_a_part_is_paid_for_the_item_of_its_row(items):
    given = turns('{"title": "Blue Kite"}', '{"title": "Blue Kite"}')
    paid = counter(items)(given, [[1, END], [1, END]], [1, 0], 0)
    assert paid["word_f1"].tolist() == [1.0, 0.0]
    assert paid["reward"].tolist() == [1.0, 0.25]  # A quarter of the weight is length, which both keep


@pytest.mark.parametrize("mask", [True, False])
def test_an_answer_that_hit_the_limit_teaches_nothing_or_gets_nothing(items, mask):
    paid = counter(items, mask)(
        turns('{"title": "Red Mug"}', '{"title": "Red'), [[1, END], [1, 1]], [0, 0], 0
    )
    assert paid["reward"][0] == 1.0
    assert math.isnan(paid["reward"][1]) if mask else paid["reward"][1] == 0.0


def test_the_parts_of_a_batch_are_computed_once(items, monkeypatch):
    import mmpc_analysis.alignment.counted_rewards as page

    calls, real = [], page.reward_parts
    monkeypatch.setattr(page, "reward_parts", lambda *given: calls.append(1) or real(*given))
    one, batch, ids = counter(items), turns('{"title": "Red Mug"}'), [[1, END]]
    state = SimpleNamespace(global_step=4)
    values = [
        part(completions=batch, completion_ids=ids, row=[0], trainer_state=state)
        for part in reward_functions(one)
    ]
    assert values == [[1.0], [1.0]] and len(calls) == 1 and one.answered == 1
    one(batch, ids, [0], 5)  # Another update
    assert len(calls) == 2 and one.answered == 2
    assert [part.__name__ for part in reward_functions(one)] == ["word_f1", "bounded_length"]


def test_text_in_blocks_is_read_like_text(items):
    blocks = [[{"role": "assistant", "content": [{"type": "text", "text": '{"title": "Red Mug"}'}]}]]
    assert counter(items)(blocks, [[1, END]], [0], 0)["word_f1"].tolist() == [1.0]


def test_what_is_watched_is_counted_and_not_paid(items):
    one = counter(
        items, watched={"letters": lambda given: np.array([len(t) for t in given.texts], dtype=float)}
    )
    paid = one(turns('{"title": "Red Mug"}', '{"title": "Mug"}'), [[1, END]] * 2, [0, 0], 0)
    assert one.counts["letters"] == 5.0 and "letters" not in paid


def test_a_wrong_brand_of_the_catalogue_is_known_though_the_batch_lacks_it(items):
    reward = Reward("image_to_text", (("faithfulness", 1.0),))
    policy = SimpleNamespace(prompt=PROMPT, recipe=Recipe())
    batch = turns('{"title": "Twemoji Mug"}'), [[1, END]], [0], 0
    blind = RewardCounter(policy, reward, items, {END})(*batch)["reward"][0]
    knows = RewardCounter(policy, reward, items, {END}, brands=("Twemoji",))(*batch)["reward"][0]
    assert knows < blind


def test_counts_by_hand(items):
    texts = ["red red mug", "red red mug", "blue kite", None]
    answers = tuple(ReadAnswer("ok" if text else "invalid", text) for text in texts)
    given = RewardInput(PROMPT, answers, items.iloc[[0] * 4], np.zeros(4, int), np.array([4, 4, 3, 1]))
    found = answer_counts(given, np.array([False, False, False, False]))
    assert found["tokens"] == 3.0 and found["words"] == pytest.approx(8 / 3)
    assert (found["invalid"], found["truncated"]) == (0.25, 0.0)
    assert found["distinct"] == pytest.approx(2 / 3)
    assert found["repeated"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 3)
    assert math.isnan(found["copied"])  # The short prompt shows no example
    none = answer_counts(
        RewardInput(PROMPT, answers[3:], items.iloc[[0]], np.zeros(1, int), np.ones(1)), np.array([True])
    )
    assert math.isnan(none["words"]) and none["truncated"] == 1.0 and none["invalid"] == 0.0
