"""Controls: the choice by hand, a rule learnt and applied, failures that stay failures, and no truth that leaks."""

import json
import re
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.alignment.controls import (
    bare_title,
    best_of_n,
    ceiling_of_n,
    consensus_choice,
    draw_answers,
    example_prompt,
    filler_rule,
    strip_filler,
    strip_words,
    title_as_prompt,
    with_examples,
)
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.completions import completion_rows, plan_questions
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.completion.protocol import Answer, Offers, Sampling
from mmpc_analysis.store import hash_unit
from mmpc_analysis.tables import ALIGNMENTS, COMPLETIONS, USABLE, validate

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
CARD, PROMPT = model_card("standin-gemma-s"), prompt_for("image_to_text", short=True)
WRITER = prompt_for("text_to_image", short=True)


@pytest.fixture(scope="module")
def catalogue():
    rows = pd.read_csv(f"{ROOT}/items.csv", dtype=str)
    return rows[rows["category"].isin(sorted(rows["category"].unique())[:2])].reset_index(drop=True)


@pytest.fixture(scope="module")
def test(catalogue):
    return catalogue.query("split == 'test'").groupby("category").head(4).reset_index(drop=True)


@pytest.fixture(scope="module")
def train(catalogue):
    return catalogue.query("split == 'train'").groupby("category").head(30).reset_index(drop=True)


def said(title):
    return json.dumps({"title": title, "prompt": title})


@dataclass
class Sampler:
    "Draws known answers: by default its picture's pixels choose a word, and every third answer differs."

    identity: str = "sampler"
    precision: str = "float32"
    batch_size: int = 3
    offers: Offers = field(default_factory=lambda: Offers(samples=True, logprobs=True))
    texts: list | None = None  # The same drawn answers to every question
    worst: bool = False
    bad: set = field(default_factory=set)  # Keys it fails on
    asked: list = field(default_factory=list)

    def word(self, request):
        pixels = np.asarray(request.image).mean() if request.image is not None else 0.0
        return f"thing {pixels:.3f}"

    def ask(self, requests):
        if self.worst:
            raise BackendError("no engine")
        self.asked += requests
        if wrong := self.bad & {r.key for r in requests}:
            raise RuntimeError(f"cannot do {len(wrong)}")
        return [Answer(r.key, said(self.word(r)), "stop", 5.0, 3.0, 0.5, -1.0) for r in requests]

    def sample(self, requests, sampling):
        self.ask(requests)
        drawn = []
        for r in requests:
            texts = self.texts or [
                said(self.word(r) + (" odd" if i % 3 == 0 else "")) for i in range(sampling.n)
            ]
            drawn.append([Answer(r.key, t, "stop", 5.0, 3.0, 0.5, -float(i)) for i, t in enumerate(texts)])
        return drawn


# ---------------------------------------------------------------- best of n


def test_the_choice_by_hand():
    # Word F1: a b / a b c = 2*2/5 = .8; a b / d = 0; a b c / a b c d = 2*3/7 = .857; a b / a b c d = 2*2/6 = .667
    assert consensus_choice(["a b", "d", "a b c"], [-2, 0, -1]) == 2
    assert consensus_choice(["a b", "a b c", "a b c d"]) == 1  # .733 against .829 and .762
    assert consensus_choice(["x", "a", "a"]) == 1
    assert consensus_choice([None, "a", None, "b"], [np.nan] * 4) == 1
    assert consensus_choice([None, "a", None]) == 1
    assert consensus_choice(["a", "b"], [np.nan, -3.0]) == 1
    assert consensus_choice([]) == consensus_choice([None]) == -1


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    bags = [list(rng.choice(list("abcdef"), rng.integers(1, 5), replace=False)) for _ in range(6)]
    means = [
        np.mean([2 * len(set(a) & set(b)) / (len(a) + len(b)) for j, b in enumerate(bags) if j != i])
        for i, a in enumerate(bags)
    ]
    assert consensus_choice([" ".join(b) for b in bags]) == int(np.argmax(np.round(means, 9)))


def test_best_of_n_takes_what_agrees_and_says_what_it_cost(test):
    backend = Sampler()
    run = best_of_n(backend, test, PROMPT, CARD, n=6, seed=3, root=ROOT)
    rows, cost = run.completions, run.alignment.iloc[0]
    assert (rows["outcome"] == "ok").all() and not rows["text"].str.contains("odd").any()
    assert rows["item_id"].tolist() == test["item_id"].tolist()
    assert set(rows["model"]) == {"standin-gemma-s-best_of_n-3"} and set(rows["base"]) == {CARD.name}
    assert set(rows["role"]) == {"model"} and set(rows["seconds"]) == {3.0}  # Six answers of half a second
    assert (cost["treatment"], cost["seed"], cost["answers"], cost["steps"]) == (
        "best_of_n",
        3,
        6 * len(test),
        0,
    )
    assert cost["cpu_seconds"] == 0 and cost["answer_seconds"] > 0
    validate(rows, COMPLETIONS), validate(run.alignment, ALIGNMENTS)


def test_unusable_draws_neither_stand_nor_vote(test):
    broken, echo = "A lamp, I think", "{}"
    some = Sampler(texts=[broken, broken, broken, said("red lamp"), said("lamp")])
    assert set(best_of_n(some, test, PROMPT, CARD, root=ROOT).completions["text"]) == {"red lamp"}
    none = best_of_n(Sampler(texts=[broken, echo]), test, PROMPT, CARD, root=ROOT).completions
    assert set(none["outcome"]) == {"invalid"} and none["text"].isna().all()
    assert set(none["raw_text"]) == {broken}  # The first failure stands for all


def test_a_question_that_cannot_be_answered_fails_alone(test):
    asked = plan_questions(test, PROMPT, "sampler", ROOT)
    lost = test.assign(image=["pictures/none.webp", *test["image"][1:]])
    backend = Sampler(bad={asked["key"].iloc[4]})
    rows = best_of_n(backend, lost, PROMPT, CARD, root=ROOT).completions
    assert rows.index[rows["outcome"] == "engine_error"].tolist() == [0, 4]
    assert (rows["outcome"].drop([0, 4]) == "ok").all() and "cannot do 1" in rows["raw_text"][4]
    with pytest.raises(BackendError, match="no engine"):
        best_of_n(Sampler(worst=True), test, PROMPT, CARD, root=ROOT)


def test_another_choice_has_another_key(test):
    keys = [set(plan_questions(test, PROMPT, "sampler", ROOT)["key"])]
    for more in ({}, {"n": 4}, {"seed": 1}, {"temperature": 0.5}, {"top_p": 0.9}):
        keys.append(set(best_of_n(Sampler(), test, PROMPT, CARD, root=ROOT, **more).completions["key"]))
    assert len(set.union(*keys)) == sum(map(len, keys))
    again = best_of_n(Sampler(), test[::-1], PROMPT, CARD, root=ROOT).completions
    assert set(again["key"]) == keys[1]


def test_equal_questions_are_drawn_for_once(test):
    twice = pd.concat([test, test.assign(item_id=test["item_id"] + "-b")], ignore_index=True)
    backend = Sampler()
    rows = best_of_n(backend, twice, PROMPT, CARD, root=ROOT).completions
    assert len(backend.asked) == rows["key"].nunique() == len(test) and len(rows) == 2 * len(test)


# ---------------------------------------------------------------- the ceiling


def test_the_ceiling_knows_the_truth_and_is_no_model(test):
    texts = [said("nothing"), said("nothing"), *map(said, test["title"])]
    drawn = draw_answers(Sampler(texts=texts), test, PROMPT, Sampling(len(texts)), ROOT)
    rows = ceiling_of_n(drawn, CARD, test)
    assert rows["text"].tolist() == test["title"].tolist()
    assert set(rows["role"]) == {"ceiling"} and set(rows["model"]) == {"standin-gemma-s-ceiling_of_n-0"}
    run = best_of_n(None, test, PROMPT, CARD, root=ROOT, drawn=drawn)
    assert not set(rows["key"]) & set(run.completions["key"])


def test_a_ceiling_by_one_s_own_reward(test):
    drawn = draw_answers(Sampler(texts=[said("a"), said("a b c"), "no"]), test, PROMPT, Sampling(3), ROOT)
    seen = []

    def longest(given):
        seen.append(
            (given.prompt.id, len(given.items), given.items["title"].nunique(), given.tokens.tolist())
        )
        return np.array([len(t) for t in given.texts]) * np.where(given.usable, 1.0, np.nan)

    assert set(ceiling_of_n(drawn, CARD, test, longest)["text"]) == {"a b c"}
    assert set(map(str, seen)) == {str((PROMPT.id, 3, 1, [3.0, 3.0, 3.0]))}


# ---------------------------------------------------------------- examples


def shown_titles(backend):
    found = {}
    for request in backend.asked:
        text = request.conversation[0]["content"][-1]["text"]
        found[request.key] = re.findall(r'^\{"title": (".*")\}$', text, re.M)
    return found


def test_examples_are_training_titles_of_the_item_s_category(test, train):
    backend = Sampler()
    run = with_examples(backend, test, PROMPT, CARD, train, root=ROOT)
    found, rows = shown_titles(backend), run.completions
    for key, category in zip(rows["key"], rows["category"], strict=True):
        titles = [json.loads(t) for t in found[key]]
        due = train[train["category"] == category].drop_duplicates("title")
        due = sorted(due["item_id"], key=lambda item: hash_unit(0, "example", item))[:3]
        assert titles == train.set_index("item_id").loc[due, "title"].tolist()
    assert set(rows["prompt"]) == {"title-short-1-examples-3"} and set(rows["model"]) == {
        "standin-gemma-s-examples-0"
    }
    cost = run.alignment.iloc[0]
    assert (cost["items"], cost["answers"], cost["cpu_seconds"]) == (6, 0, 0.0) and cost["answer_seconds"] > 0
    assert all(
        len(r.conversation[0]["content"]) == 2 for r in backend.asked
    )  # The item's picture, and no other


def test_the_order_of_training_items_does_not_matter_but_the_seed_does(test, train):
    keys = [
        set(with_examples(Sampler(), test, PROMPT, CARD, rows, seed=seed, root=ROOT).completions["key"])
        for rows, seed in ((train, 0), (train[::-1], 0), (train, 1))
    ]
    assert keys[0] == keys[1] and not keys[0] & keys[2]


def test_a_category_without_examples_is_asked_without(test, train):
    first, second = sorted(test["category"].unique())
    backend = Sampler()
    run = with_examples(backend, test, PROMPT, CARD, train[train["category"] == second], root=ROOT)
    assert first in run.note and second not in run.note
    assert sorted(map(len, shown_titles(backend).values())) == [0] * 4 + [3] * 4
    assert run.completions["prompt"].nunique() == 1 and (run.completions["outcome"] == "ok").all()


def test_titles_that_would_break_the_prompt_are_not_shown(test, train):
    hostile = ['Mug {"title": "x"}', "Mug {name}", "", None]
    titles = [hostile[i % 4] if i % 2 else t for i, t in enumerate(train["title"])]
    backend = Sampler()
    run = with_examples(backend, test, PROMPT, CARD, train.assign(title=titles), k=40, root=ROOT)
    assert (run.completions["outcome"] == "ok").all()
    assert not any(t in str(shown) for shown in shown_titles(backend).values() for t in hostile[:2])


def test_image_prompts_have_no_truth_to_show(test, train):
    left_out = with_examples(Sampler(), test, WRITER, CARD, train, root=ROOT)
    assert len(left_out.completions) == len(left_out.alignment) == 0 and "no true text" in left_out.note
    own = train.assign(text=[f"photo of {t}" for t in train["title"]], reward=np.arange(len(train)) / 100)
    backend = Sampler()
    run = with_examples(backend, test, WRITER, CARD, own, k=2, root=ROOT)
    text = backend.asked[0].conversation[0]["content"][-1]["text"]
    category = run.completions.set_index("key").loc[backend.asked[0].key, "category"]
    best = own[own["category"] == category].nlargest(2, "reward")
    for title, prompt in zip(best["title"], best["text"], strict=True):
        assert f'Title: {title}\n{{"prompt": {json.dumps(prompt, ensure_ascii=False)}}}' in text
    assert text.rindex("Title: ") > text.rindex('{"prompt": "photo')  # The item's own title comes last
    with pytest.raises(ValueError, match="no item that is asked about"):
        with_examples(Sampler(), test, PROMPT, CARD, test, root=ROOT)


def test_an_example_prompt_without_examples_says_the_same():
    assert example_prompt(PROMPT, [], "bare").text == PROMPT.text


# ---------------------------------------------------------------- filler


def answered(items, texts, outcome="stop"):
    questions = plan_questions(items.assign(image=None), PROMPT, "made", ROOT)
    questions = questions.assign(key=[f"k{i}" for i in range(len(items))], problem=None)
    texts = [t if t.startswith("!") else said(t) for t in texts]
    answers = {f"k{i}": Answer(f"k{i}", t.lstrip("!"), outcome, 5.0, 3.0, 0.5) for i, t in enumerate(texts)}
    return completion_rows(questions, answers, PROMPT, CARD, "float32")


def made_items(titles):
    return pd.DataFrame(
        {"item_id": [f"i{i}" for i in range(len(titles))], "category": "c", "title": titles, "image": "x"}
    )


def test_a_rule_is_learnt_by_hand():
    # "new" 10 of 10 and true once: share .1; "set" 6 and never true; "lamp" true always; "odd" in 4 only
    items = made_items(["New Lamp", *["Lamp"] * 9])
    texts = [f"New Lamp{' Set' if i < 6 else ' odd'}" for i in range(10)]
    rule = filler_rule(answered(items, texts), items)
    assert rule.table.to_dict("records") == [{"word": "set", "answers": 6, "true": 0, "share": 0.0}]
    loose = filler_rule(answered(items, texts), items, share=0.11, least=4)
    assert loose.words == {"new", "set", "odd"} and loose.table["word"].tolist() == ["new", "set", "odd"]
    assert not filler_rule(answered(items, texts), items, often=0.7).words  # Seven answers at least
    assert (rule.items, rule.answers) == (10, 10) and rule.cpu_seconds >= 0


def test_failed_answers_and_unknown_titles_teach_nothing():
    items = made_items(["Lamp"] * 12)
    rows = answered(items, ["!New thing"] * 6 + ["New Lamp"] * 6)
    assert filler_rule(rows, items).items == 6
    assert filler_rule(rows, items.assign(title=[None] * 7 + ["Lamp"] * 5)).items == 5
    with pytest.raises(ValueError, match="no usable answer"):
        filler_rule(rows, items.assign(title=None))
    with pytest.raises(ValueError, match="learnt from titles"):
        filler_rule(title_as_prompt(items, CARD).completions, items)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("New Desk Lamp, Premium, (Set)", "Desk Lamp"),
        ("NEW: Lamp (Set of 2) - Premium", "Lamp (of 2)"),
        ("Lamp (2, Set)", "Lamp (2)"),
        ("Lamp | New | Red", "Lamp | Red"),
        ("Newton Setting", "Newton Setting"),
        ("Lamp - red, 2-pack", "Lamp - red, 2-pack"),
        ("Men's new hat", "Men's hat"),
        ("New-Set lamp", "lamp"),
        ("New Set", "New Set"),
        ("Lamp []", "Lamp []"),
    ],
)
def test_words_are_struck_out_cleanly(text, due):
    words = frozenset({"new", "set", "premium"})
    assert strip_words(text, words) == due == strip_words(due, words)


def test_stripping_keeps_the_contract():
    items = made_items(["Lamp"] * 10)
    rule = filler_rule(answered(items, ["New Lamp Set"] * 10), items, cpu_seconds=2.0)
    rows = answered(items, ["New Lamp Set", "!New Lamp Set", "New Set", *["Mug"] * 7])
    run = strip_filler(rows, rule, CARD, answer_seconds=0.25)
    after = run.completions
    assert after["text"].fillna("-").tolist() == ["Lamp", "-", "New Set", *["Mug"] * 7]
    assert after["outcome"].tolist() == rows["outcome"].tolist() and after["outcome"][1] == "invalid"
    assert after["raw_text"].tolist() == rows["raw_text"].tolist()
    assert not set(after["key"]) & set(rows["key"]) and after["key"].nunique() == rows["key"].nunique()
    assert rows["text"][0] == "New Lamp Set" and set(rows["model"]) == {CARD.name}  # The input is not changed
    cost = run.alignment.iloc[0]
    assert (cost["items"], cost["answers"]) == (10, 10)
    assert cost["cpu_seconds"] >= 2.0 and 0.25 <= cost["answer_seconds"] < 0.5
    assert set(after["model"]) == {"standin-gemma-s-strip_filler-0"}


def test_bare_titles_count_only_where_it_is_declared():
    items = made_items(["Lamp"] * 10)
    rule = filler_rule(answered(items, ["New Lamp Set"] * 10), items)
    rows = answered(
        items, ["!New Lamp Set", "!The lamp is red.", '!{"name": 3}', "!I cannot see it", *["Mug"] * 6]
    )
    off, on = (strip_filler(rows, rule, CARD, rescue=rescue) for rescue in (False, True))
    assert off.completions["text"][:4].isna().all() and off.note == ""
    assert on.completions["outcome"][:4].tolist() == [
        "repaired",
        "invalid",
        rows["outcome"][2],
        rows["outcome"][3],
    ]
    assert on.completions["text"][0] == "Lamp" and on.completions["text"][1:4].isna().all()
    assert "bare titles" in on.note and not set(on.completions["key"]) & set(off.completions["key"])
    cut = answered(items, ["!New Lamp Set"] * 10, "length")
    assert strip_filler(cut, rule, CARD, rescue=True).completions["text"].isna().all()


@pytest.mark.parametrize(
    "text", ["", None, "one\ntwo", "Title: lamp?", "a " * 21, "<b>lamp</b>", "unknown product"]
)
def test_what_is_no_bare_title(text):
    assert bare_title(text) is None


# ---------------------------------------------------------------- the title, and what leaks


def test_the_title_is_the_image_prompt(test):
    run = title_as_prompt(test.assign(title=[None, *test["title"][1:]]), CARD, seed=2)
    rows = run.completions
    assert (
        rows["text"].fillna("-").tolist() == ["-", *test["title"][1:]]
        and rows["outcome"][0] == "engine_error"
    )
    assert set(rows["prompt"]) == {"title"} and set(rows["model"]) == {"standin-gemma-s-title-2"}
    assert run.alignment[["cpu_seconds", "answer_seconds"]].iloc[0].tolist() == [0.0, 0.0]
    assert set(rows["task"]) == {"text_to_image"} and rows["key"].nunique() == test["title"].nunique()


def test_no_control_s_answer_changes_with_the_truth_of_a_test_item(test, train):
    other = test.assign(
        title=[f"Quite another thing {i}" for i in range(len(test))],
        brand="Nobody",
        description="nothing",
        keywords="none",
    )
    items = made_items(["Lamp"] * 10)
    rule = filler_rule(answered(items, ["New thing Lamp"] * 10), items)

    def answers(rows):
        greedy = answered(rows, ["New thing"] * len(rows))
        runs = [
            best_of_n(Sampler(), rows, PROMPT, CARD, root=ROOT),
            with_examples(Sampler(), rows, PROMPT, CARD, train, root=ROOT),
            strip_filler(greedy, rule, CARD),
        ]
        return pd.concat([run.completions.drop(columns="seconds") for run in runs], ignore_index=True)

    pd.testing.assert_frame_equal(answers(test), answers(other))
    assert set(answers(test)["outcome"]) <= set(USABLE)


def test_no_picture_of_a_test_item_reaches_the_image_prompts(test, train):
    own = train.assign(text=[f"photo of {t}" for t in train["title"]], reward=1.0)
    other = test.assign(image=test["image"].to_numpy()[::-1])

    def answers(rows):
        runs = [
            best_of_n(Sampler(), rows, WRITER, CARD, root=ROOT),
            with_examples(Sampler(), rows, WRITER, CARD, own, root=ROOT),
            title_as_prompt(rows, CARD),
        ]
        return pd.concat([run.completions.drop(columns="seconds") for run in runs], ignore_index=True)

    pd.testing.assert_frame_equal(answers(test), answers(other))
