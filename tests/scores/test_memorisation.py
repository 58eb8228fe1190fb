"""What answers say about memory: by hand, against another implementation, and how often it is said of nobody."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from mmpc_analysis.report.recall import recall_words
from mmpc_analysis.scores.memorisation import date_gap, date_table, recall_shares, recall_table, tells_title
from mmpc_analysis.scores.memory_probe import wrong_partners
from mmpc_analysis.tables import PROBES

WORDS = [f"w{n}" for n in range(40)]


def catalogue(rng, n=36):
    titles = [" ".join(rng.choice(WORDS, 4, replace=False)) for _ in range(n)]
    about = {"item_id": [f"i{k:03}" for k in range(n)], "category": ["Home", "Toys", "Pets"] * (n // 3)}
    return pd.DataFrame(about | {"title": titles, "image": None, "split": None, "parent_id": None})


def probes(items, answer, models=("a",), conditions=("blind",), outcome="ok"):
    rows = [
        {"item_id": i.item_id, "parent_id": i.item_id, "category": i.category, "model": m, "condition": c, "text": answer(m, c, i)}
        for m in models for c in conditions for i in items.itertuples(index=False)
    ]  # fmt: skip
    rest = dict.fromkeys(["shown", "raw_text", "finish_reason"]) | {
        "precision": "",
        "prompt": "p",
        "key": "k",
        "outcome": outcome,
    }
    return pd.DataFrame(rows).assign(**rest)[PROBES.names]


def test_a_title_that_is_known_by_heart_wins_every_comparison():
    items = catalogue(np.random.default_rng(0))
    row = recall_table(probes(items, lambda m, c, i: i.title), items).iloc[0]
    assert row["estimate"] == 1 and row["shown"] and row["items"] == 36 and row["low"] > 0.85


@pytest.mark.parametrize(
    "habit",
    [
        lambda rng, items: lambda m, c, i: "w0 w1 w2",  # The same words for everything
        lambda rng, items: lambda m, c, i: rng.choice(items.loc[items["category"] == i.category, "title"]),
        lambda rng, items: lambda m, c, i: " ".join(rng.choice(WORDS, 4)),
        lambda rng, items: lambda m, c, i: "nothing in common",
    ],
    ids=["constant", "another title", "random words", "no word"],
)
def test_who_remembers_nothing_is_rarely_said_to_recall(habit):
    said, means = 0, []
    for trial in range(40):
        rng = np.random.default_rng(trial)
        items = catalogue(rng)
        table = recall_table(
            probes(items, habit(rng, items), models=("a", "b"), conditions=("blind",)), items
        )
        said += table["shown"].any()
        means += table["estimate"].tolist()
    assert abs(np.mean(means) - 0.5) < 0.02
    assert said <= 5  # Of 40; at a true 5% more than 5 have a chance of 1.4%


def test_failed_answers_recall_nothing_and_shown_products_are_no_distractors():
    items = catalogue(np.random.default_rng(1), 6)
    rows = probes(items, lambda m, c, i: None, outcome="refused")
    assert (
        recall_shares(rows, items).tolist() == [np.nan] * 6 or np.isnan(recall_shares(rows, items)).all()
    )  # One other each
    items = catalogue(np.random.default_rng(1), 12)
    rows = probes(items, lambda m, c, i: None, outcome="refused")
    assert (recall_shares(rows, items) == 0.5).all() and recall_table(rows, items)["answered"].iloc[0] == 0
    other = {
        i: items.loc[(items["category"] == c) & (items["item_id"] != i), "item_id"].iloc[0]
        for i, c in zip(items["item_id"], items["category"], strict=True)
    }
    seen = probes(
        items,
        lambda m, c, i: items.set_index("item_id")["title"][other[i.item_id]],
        conditions=("wrong_picture",),
    )
    seen["shown"] = seen["item_id"].map(other)
    assert (
        recall_shares(seen, items).mean() > 0.35
    )  # Were the pictured title among them it could not pass 1/3 + ties
    assert (recall_shares(seen.assign(shown=None), items) < recall_shares(seen, items) + 1e-12).all()


def frame(rng, n=200, effect=0.0, skew=0.0):
    category = rng.choice(["a", "b", "c"], n)
    newer = rng.random(n) < 0.3 + 0.3 * (category == "b")
    group = rng.integers(0, n // 2, n)
    d = (
        effect * newer
        + 0.5 * (category == "b")
        + skew * rng.exponential(1, n // 2)[group]
        + rng.normal(0, 1, n)
    )
    return pd.DataFrame({"d": d, "newer": newer, "category": category, "group": group})


def test_the_gap_is_the_coefficient_of_a_regression_with_categories():
    rows = frame(np.random.default_rng(5), effect=-0.4)
    fit = smf.ols("d ~ newer + C(category)", rows.assign(newer=rows["newer"].astype(float))).fit()
    found = date_gap(*(rows[c].to_numpy() for c in ("d", "newer", "category", "group")))
    assert found["estimate"] == pytest.approx(fit.params["newer"], abs=1e-12)


def test_one_category_without_groups_is_welchs_test():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 12), rng.normal(0.3, 3, 30)
    n = len(a) + len(b)
    found = date_gap(np.concatenate([a, b]), np.arange(n) < len(a), np.full(n, "x"), np.arange(n))
    expected = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("skew", "n"), [(0.0, 60), (1.0, 200)])
def test_the_interval_covers_and_seldom_accuses(skew, n):
    hits = accused = 0
    for trial in range(200):
        rows = frame(np.random.default_rng(trial), n, -0.2, skew)
        found = date_gap(*(rows[c].to_numpy() for c in ("d", "newer", "category", "group")))
        hits += found["low"] <= -0.2 <= found["high"]
        accused += found["high"] < -0.2
    assert hits >= 180 and accused <= 12  # Binomial limits of 95% and 2.5% of 200, at one in a thousand


@pytest.mark.parametrize("newer", [np.zeros(8, bool), np.ones(8, bool), np.arange(8) < 1])
def test_without_two_sides_there_is_no_number_or_no_interval(newer):
    found = date_gap(np.arange(8.0), newer, np.full(8, "x"), np.arange(8))
    assert np.isnan(found["low"]) and np.isnan(found["estimate"]) == (newer.all() or not newer.any())


def test_a_category_with_one_side_says_nothing():
    rows = frame(np.random.default_rng(4))
    more = pd.concat([rows, rows.assign(category="z", newer=True, d=1e6)])
    found = [date_gap(*(r[c].to_numpy() for c in ("d", "newer", "category", "group"))) for r in (rows, more)]
    assert found[0] == found[1]


def test_the_template_is_taken_off_item_by_item():
    rng, n = np.random.default_rng(9), 80
    about = {
        "item_id": [f"i{k}" for k in range(n)],
        "parent_id": [f"i{k}" for k in range(n)],
        "category": "Home",
    }
    seen = pd.Series(np.arange(n), index=about["item_id"])
    hard = np.where(np.arange(n) >= 40, 0.1, 0.5)  # Newer titles are harder for everybody
    rows = [about | {"model": "template", "role": "floor", "family": "", "value": hard}]
    rows += [about | {"model": "m", "role": "model", "family": "f", "value": hard + rng.normal(0.1, 0.05, n)}]
    scores = pd.concat(map(pd.DataFrame, rows)).assign(
        task="image_to_text", metric="token_f1", level="word", precision="", prompt=""
    )
    row = date_table(scores, seen, 40, ("token_f1",)).iloc[0]
    assert abs(row["estimate"]) < 0.05 and not row["shown"] and row["before"] == 40
    bare = date_table(
        scores.assign(value=scores["value"].where(scores["model"] == "m", 0.0)), seen, 40, ("token_f1",)
    )
    assert bare["shown"].iloc[0]


def test_no_title_is_held_against_more_products_than_another():
    "Of one answer to all, whatever suits it wins as often as it is lost to: the mean is one half up to ten draws each."
    found = []
    for trial in range(6):
        items = catalogue(np.random.default_rng([trial, 3]), 201).assign(category="Home")
        found.append(
            recall_table(probes(items, lambda m, c, i: "w0 w1 w2 w3 w4 w5"), items)["estimate"].iloc[0]
        )
    assert (
        np.sqrt(np.mean((np.array(found) - 0.5) ** 2)) < 0.0145
    )  # A pool of 100 for all would give 0.29 sqrt(1/100 - 1/201)


@pytest.mark.parametrize("picture", [False, True])
def test_large_listing_groups_do_not_win_for_a_model_that_names_their_words(picture):
    "By hand: a group of three A and three alone; the answer is A. Unweighted, 3 products win 3 of 3 and 3 lose 3 of 5."
    rows = [("Home", "A", k) for k in range(3)] + [("Home", f"s{k}", k) for k in range(3)]
    items = pd.DataFrame(rows, columns=["category", "parent_id", "n"]).assign(image=None, split=None)
    items["item_id"] = [f"{n:03}" for n in range(6)]
    items["title"] = [f"A{n}" if p == "A" else f"B{n}" for n, p in enumerate(items["parent_id"])]
    items["title"] = items["title"].where(items["parent_id"] != "A", "cup " + items["title"])
    found = []
    for seed in range(60 if picture else 1):
        given = probes(items, lambda m, c, i: "cup").assign(parent_id=items["parent_id"].to_numpy())
        if picture:
            given = given.assign(shown=given["item_id"].map(wrong_partners(items, seed)))
        found.append(recall_table(given, items, seed=seed)["estimate"].iloc[0])
    # Alone: 3 x weight 3 x 1 + 3 x weight 5 x (0 + 0 + 0 + 1/2 + 1/2) / 5 = 9 + 3, of 9 + 15
    assert np.mean(found) == pytest.approx(0.5, abs=0.03 if picture else 1e-12)


@pytest.mark.parametrize(
    ("item_id", "title", "told"),
    [
        ("console-atari-2600", "Atari 2600, home console", True),
        ("REDMUG-XL", "Red mug", True),  # Run together
        ("B07XJ8C8F5", "Red mug", False),
        ("100234", "Game 100234", False),  # A number is no word of a title
        ("a-1", "A mug", False),  # One letter says nothing
        ("кружка-7", "Синяя Кружка", True),
    ],
)
def test_an_identifier_that_holds_a_word_of_the_title_tells_it(item_id, title, told):
    assert tells_title(item_id, title) is told


def test_a_model_that_repeats_an_identifier_remembers_nothing():
    items = catalogue(np.random.default_rng(4))
    names = ["mug", "kite", "lamp", "ball", "desk", "sofa"]
    items["title"] = [f"{names[n % 6]} {names[n % 5]}x" for n in range(len(items))]
    items["item_id"] = [f"{title.replace(' ', '-')}-{n}" for n, title in enumerate(items["title"])]
    row = recall_table(probes(items, lambda m, c, i: i.item_id.replace("-", " ")), items).iloc[0]
    assert row["items"] == 0 and not row["shown"] and np.isnan(row["estimate"])
    assert "cannot be told" in " ".join(recall_words(pd.DataFrame([row])))
