"""What is hidden: the same on every machine, nested, at the right rate, and for the stated reason."""

import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.missing import (
    MECHANISMS,
    category_weights,
    gaps,
    hide,
    summarise_hidden,
    tilt_draws,
    uniform_draws,
)
from mmpc_analysis.catalogue.purchases import simulate_interactions
from mmpc_analysis.tables import HIDDEN, validate

RATES = (0.0, 0.2, 0.5, 0.8, 1.0)
GOLDEN = json.loads((ROOT / "tests" / "data" / "catalogue" / "draws.json").read_text(encoding="utf-8"))


def shop(n=400, seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"i{k:05d}" for k in range(n)]
    items = pd.DataFrame(
        {"item_id": ids, "category": rng.choice(list("ABCDE"), n), "title": "t", "image": "p.png"}
    )
    bought = pd.DataFrame({"item_id": rng.choice(ids, 3 * n, p=np.arange(1, n + 1) / (n * (n + 1) / 2))})
    return items, bought


# ---------------------------------------------------------------- the same everywhere


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['seed']}-{row['modality']}")
def test_draws_are_what_was_written_down(row):
    assert uniform_draws([row["item_id"]], row["modality"], row["seed"])[0] == row["draw"]


def test_the_golden_draws_follow_from_the_hash_alone():
    for row in GOLDEN:
        text = "\x1f".join([str(row["seed"]), row["modality"], row["item_id"]])
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        assert (int.from_bytes(digest[:8], "big") >> 11) / 2**53 == row["draw"]


def test_the_mask_does_not_depend_on_the_hash_seed_of_the_process():
    code = (
        "import pandas as pd; from mmpc_analysis.catalogue.missing import hide;"
        "items = pd.DataFrame({'item_id': [str(i) for i in range(99)], 'category': [str(i % 7) for i in range(99)],"
        " 'title': 't', 'image': 'p'});"
        "print(hide(items, 'text', 0.5, 'by_category').to_json())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": s},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for s in ("0", "1", "2")
    }
    assert len(printed) == 1 and len(printed.pop()) > 1000


def test_known_masks_of_a_small_shop():
    items, _ = shop(10)
    mine = [hashlib.sha256(f"7\x1fimage\x1f{i}".encode()).digest()[:8] for i in items["item_id"]]
    below = [int.from_bytes(d, "big") / 2**64 < 0.5 for d in mine]
    assert hide(items, "image", 0.5, seed=7)["item_id"].tolist() == items.loc[below, "item_id"].tolist()


# ---------------------------------------------------------------- nested, at its rate


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True),
    st.sampled_from(MECHANISMS),
    st.sampled_from(["text", "image"]),
    st.integers(0, 2**40),
    st.lists(st.floats(0, 1), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_masks_are_nested_and_ignore_the_order_of_rows(ids, mechanism, modality, seed, rates, random):
    items = pd.DataFrame({"item_id": ids, "category": [c[0] for c in ids], "title": "t", "image": "p"})
    bought = pd.DataFrame({"item_id": [*ids[:3], *ids[:1], "someone else's"]})
    order = list(range(len(ids)))
    random.shuffle(order)
    masks = []
    for rate in sorted(rates):
        mask = hide(items, modality, rate, mechanism, seed, bought)
        other = hide(items.iloc[order], modality, rate, mechanism, seed, bought.iloc[::-1])
        pd.testing.assert_frame_equal(mask, other)
        masks.append(set(mask["item_id"]))
    assert all(a <= b for a, b in itertools.pairwise(masks))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("modality", ["text", "image"])
def test_the_share_hidden_is_the_rate(mechanism, modality):
    items, bought = shop(20_000, seed=1)
    for rate in RATES:
        mask = hide(items, modality, rate, mechanism, 3, bought)
        validate(mask, HIDDEN)
        assert abs(len(mask) / len(items) - rate) < 4 * np.sqrt(rate * (1 - rate) / len(items)) + 1e-12
        assert (mask["u"] < rate).all() and (mask["u"] >= 0).all()


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=12), st.floats(0.01, 0.99))
def test_the_expected_share_is_exactly_the_rate(w, rate):
    "Item i is hidden when its draw is below p_i, so the mean of the p_i must be the rate."
    w = np.array(w)
    low, high = np.zeros(len(w)), np.ones(len(w))
    for _ in range(60):  # p_i by bisection: the largest draw at which item i is still hidden
        middle = (low + high) / 2
        hidden = np.array([tilt_draws(np.full(len(w), m), w)[i] < rate for i, m in enumerate(middle)])
        low, high = np.where(hidden, middle, low), np.where(hidden, high, middle)
    assert np.mean(low) == pytest.approx(rate, abs=1e-6)
    if w.min() > 1e-3 and w.max() < 1e3 and np.all((low > 1e-6) & (low < 1 - 1e-6)):
        odds = low / (1 - low) / w
        assert odds == pytest.approx(np.full(len(w), odds[0]), rel=1e-4)


@pytest.mark.parametrize("w", [[1e-12, 1e12], [1.0, 3.0], [1e300, 1e-300]])
def test_the_last_draw_below_one_is_hidden_at_rate_one(w):
    v = np.full(2, np.nextafter(1.0, 0.0))
    assert (tilt_draws(v, np.array(w)) < 1).all()
    assert (tilt_draws(np.zeros(2), np.array(w)) == 0).all()


def test_rate_zero_hides_nothing_and_one_hides_everything():
    items, bought = shop()
    for mechanism in MECHANISMS:
        assert hide(items, "text", 0, mechanism, 0, bought).empty
        assert len(hide(items, "text", 1, mechanism, 0, bought)) == len(items)


def test_modalities_and_seeds_are_drawn_apart():
    items, _ = shop(20_000)
    masks = {(m, s): set(hide(items, m, 0.5, seed=s)["item_id"]) for m in ("text", "image") for s in (0, 1)}
    for a, b in itertools.combinations(masks.values(), 2):
        assert abs(len(a & b) / len(items) - 0.25) < 0.02


def test_completely_at_random_an_item_does_not_care_about_the_others():
    items, _ = shop()
    alone = pd.concat([hide(items[i : i + 1], "text", 0.5) for i in range(50)])
    together = hide(items, "text", 0.5)
    assert set(alone["item_id"]) == set(together["item_id"]) & set(items["item_id"][:50])


# ---------------------------------------------------------------- both at once


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30, unique=True),
    st.sampled_from(MECHANISMS),
    st.integers(0, 2**40),
    st.lists(st.floats(0, 1), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_both_are_lost_together_nested_and_in_any_order(ids, mechanism, seed, rates, random):
    items = pd.DataFrame({"item_id": ids, "category": [c[0] for c in ids], "title": "t", "image": "p"})
    bought, order = pd.DataFrame({"item_id": [*ids[:3], *ids[:1]]}), list(range(len(ids)))
    random.shuffle(order)
    before = set()
    for rate in sorted(rates):
        mask = hide(items, "both", rate, mechanism, seed, bought)
        pd.testing.assert_frame_equal(mask, hide(items.iloc[order], "both", rate, mechanism, seed, bought))
        ids_of, names = mask["item_id"].tolist(), mask["modality"].tolist()
        assert ids_of == sorted(ids_of) and names == ["image", "text"] * (len(names) // 2)
        assert ids_of[::2] == ids_of[1::2] and mask["u"].tolist()[::2] == mask["u"].tolist()[1::2]
        assert before <= set(mask["item_id"])
        before = set(mask["item_id"])


def test_the_common_draw_is_one_of_its_own():
    "A third stream by hand, independent of those of text and image: half and half leave a quarter in any two."
    items, _ = shop(20_000)
    lost = {m: set(hide(items, m, 0.5, seed=4)["item_id"]) for m in ("text", "image", "both")}
    text = [hashlib.sha256("\x1f".join(["4", "both", i]).encode()).digest() for i in items["item_id"][:50]]
    draws = [(int.from_bytes(d[:8], "big") >> 11) / 2**53 for d in text]
    assert [i in lost["both"] for i in items["item_id"][:50]] == [d < 0.5 for d in draws]
    for a, b in itertools.combinations(lost.values(), 2):
        assert abs(len(a & b) / len(items) - 0.25) < 0.02


def test_independent_draws_lose_both_by_the_product_of_the_rates():
    items, _ = shop(20_000)
    lost = [set(hide(items, m, 0.3)["item_id"]) for m in ("text", "image")]
    shares = [len(lost[0] & lost[1]), len(lost[0] ^ lost[1]), len(items) - len(lost[0] | lost[1])]
    for found, wanted in zip(shares, (0.09, 0.42, 0.49), strict=True):
        assert abs(found / len(items) - wanted) < 0.015
    assert len(hide(items, "both", 0.3)) / len(items) == pytest.approx(0.6, abs=0.02), (
        "a row for each modality"
    )


def test_an_item_that_lacks_one_cannot_lose_both():
    items, bought = shop(200)
    items.loc[:19, "title"] = None
    items.loc[15:29, "image"] = None
    for mechanism in MECHANISMS:
        mask = hide(items, "both", 1.0, mechanism, 0, bought)
        assert set(mask["item_id"]) == set(items["item_id"][30:]) and len(mask) == 2 * 170


def test_one_table_cannot_hide_a_text_twice():
    items, _ = shop()
    apart = [hide(items, m, 0.5) for m in ("text", "both")]
    with pytest.raises(ValueError, match="item_id"):
        validate(pd.concat(apart), HIDDEN)
    assert validate(pd.concat([apart[0], hide(items, "both", 0.5, seed=1)]), HIDDEN)["seed"].nunique() == 2


# ---------------------------------------------------------------- for the stated reason


def test_by_category_multiplies_the_odds():
    items, _ = shop(60_000, seed=2)
    weights = {"A": 4.0, "B": 0.5}
    mask = hide(items, "text", 0.3, "by_category", 1, weights=weights)
    share = mask["category"].value_counts() / items["category"].value_counts()
    odds = share / (1 - share)
    for category, weight in {"A": 4.0, "B": 0.5, "D": 1.0, "E": 1.0}.items():
        assert odds[category] / odds["C"] == pytest.approx(weight, rel=0.12)


def test_by_popularity_multiplies_the_odds():
    items, _ = shop(60_000, seed=2)
    counts = np.arange(len(items)) % 3
    bought = pd.DataFrame({"item_id": np.repeat(items["item_id"].to_numpy(), counts)})
    mask = hide(items, "text", 0.5, "by_popularity", 1, bought)
    share = items["item_id"].isin(mask["item_id"]).groupby(counts).mean()
    odds = share / (1 - share)
    assert odds[0] / odds[1] == pytest.approx(2, rel=0.1)
    assert odds[0] / odds[2] == pytest.approx(3, rel=0.1)


def test_default_weights_are_symmetric_and_change_with_the_seed():
    categories = pd.Series(list("ABCDEFGHI"))
    weights = category_weights(categories, seed=0)
    assert np.log(weights).sum() == pytest.approx(0, abs=1e-12)
    assert sorted(weights)[0] == pytest.approx(1 / 3) and sorted(weights)[-1] == pytest.approx(3)
    assert not np.array_equal(weights, category_weights(categories, seed=1))
    assert category_weights(pd.Series(["A", "A"])).tolist() == [1.0, 1.0]


# ---------------------------------------------------------------- gaps and summaries


def test_what_is_absent_is_listed_and_not_hidden():
    items, bought = shop(200)
    items.loc[:19, "title"] = None
    items.loc[15:29, "image"] = None
    there = set(items["item_id"][30:])
    for mechanism in MECHANISMS:
        assert set(hide(items, "text", 1.0, mechanism, 0, bought)["item_id"]) == there
    listed = gaps(items)
    assert listed["modality"].value_counts().to_dict() == {"text": 20, "image": 15}
    assert not set(listed["item_id"]) & there


def test_summary_counts_every_category_of_every_mask():
    items, bought = shop()
    masks = pd.concat([hide(items, "text", r, m, 0, bought) for r in (0.2, 0.8) for m in MECHANISMS])
    table = summarise_hidden(masks, items)
    assert len(table) == 6 * 6
    pooled = table[table["category"] == "all"]
    assert (pooled["items"] == len(items)).all() and pooled["hidden"].sum() == len(masks)
    by_hand = masks.groupby(["mechanism", "rate", "category"]).size()
    for row in table[table["category"] != "all"].itertuples():
        assert row.hidden == by_hand.get((row.mechanism, row.rate, row.category), 0)
    assert summarise_hidden(masks[:0], items).empty


def test_inputs_are_not_changed():
    items, bought = shop()
    before = items.copy(), bought.copy()
    for mechanism in MECHANISMS:
        hide(items, "text", 0.5, mechanism, 0, bought)
    pd.testing.assert_frame_equal(items, before[0])
    pd.testing.assert_frame_equal(bought, before[1])


def test_simulated_purchases_steer_the_mask():
    items = load_catalogue(split="test").items
    bought = simulate_interactions(items, users=200)
    counts = items["item_id"].map(bought["item_id"].value_counts()).fillna(0)
    lost = items["item_id"].isin(hide(items, "image", 0.5, "by_popularity", interactions=bought)["item_id"])
    assert counts[lost].mean() < counts[~lost].mean()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"modality": "title"}, "modality must be one of text, image, both"),
        ({"rate": 1.01}, "rate must lie in"),
        ({"rate": -0.1}, "rate must lie in"),
        ({"rate": float("nan")}, "rate must lie in"),
        ({"mechanism": "mcar"}, "mechanism must be one of"),
        ({"mechanism": "by_popularity"}, "needs interactions"),
        (
            {"mechanism": "by_popularity", "interactions": pd.DataFrame({"item": ["a"]})},
            "no column 'item_id'",
        ),
        ({"mechanism": "by_popularity", "interactions": pd.DataFrame({"item_id": ["?"]})}, "same catalogue"),
        ({"mechanism": "by_category", "weights": {"Z": 2.0}}, "names category 'Z'"),
        ({"mechanism": "by_category", "weights": {"A": -1.0}}, "above 0 and finite"),
        ({"weights": {"A": 1.0}}, "weights belong to by_category"),
    ],
)
def test_what_cannot_be_followed_is_refused(arguments, said):
    items, _ = shop(30)
    with pytest.raises(ValueError, match=said):
        hide(items, **{"modality": "text", "rate": 0.5, **arguments})
