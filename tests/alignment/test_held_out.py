"""Held out: no group and no hand crosses, whatever the order, and a catalogue that grows keeps its parts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpc_analysis.alignment.held_out import (
    ALIGNMENT_PARTS,
    HANDS,
    alignment_parts,
    hands_of,
    part_items,
    parts_table,
)
from mmpc_analysis.catalogue.items import load_catalogue

ITEMS = load_catalogue(check_pictures="none").items
SISTERS = [("Fluent Flat", "Fluent 3D"), ("Noto", "Noto Classic")]


def shop(groups, brands=("Acme", "Bolt", None), split=None):
    "A catalogue with the given sizes of its listing groups."
    rows = [(f"g{g:03d}-{n}", f"g{g:03d}", brands[(g + n) % len(brands)]) for g, size in enumerate(groups)
            for n in range(size)]  # fmt: skip
    items = pd.DataFrame(rows, columns=["item_id", "parent_id", "brand"]).assign(
        title="Kettle", image="k.png"
    )
    if split is not None:
        items["split"] = [split[i % len(split)] for i in range(len(items))]
    return items


def part_of(parts):
    return dict(zip(parts["item_id"], parts["part"], strict=True))


def crossing(items, parts):
    "Listing groups in two parts, what steps aside not counted."
    joined = items.merge(parts, on="item_id").query("part != 'aside'")
    return joined.groupby("parent_id")["part"].nunique().gt(1).sum()


# ---------------------------------------------------------------- the embedded catalogue


@given(st.sets(st.sampled_from(sorted(set(HANDS.values()))), min_size=1, max_size=3), st.integers(0, 50))
def test_no_hand_is_trained_and_tested(held, seed):
    "Sisters stay together, and every item keeps to the split that the stand-ins kept to."
    items = ITEMS.merge(alignment_parts(ITEMS, sorted(held), seed=seed), on="item_id")
    hands = hands_of(items)
    assert set(hands[items["part"] == "test"]) == held
    assert not set(hands[items["part"].isin(["train", "look"])]) & held
    for sisters in SISTERS:
        of_sisters = items[items["brand"].isin(sisters)]
        assert {"train", "test"} - set(of_sisters["part"])
    assert set(items.loc[items["part"] == "test", "split"]) == {"test"}
    assert set(items.loc[items["part"].isin(["train", "look"]), "split"]) == {"train"}
    assert (items["part"] == "unseen").equals(items["split"] == "unseen")


def test_the_counts_of_the_embedded_catalogue_are_those_of_its_columns():
    "Counted from the columns alone: 61 + 40 by Noto and 51 by Twemoji in the split test."
    parts = alignment_parts(ITEMS)
    away = ITEMS["brand"].isin(["Noto", "Noto Classic", "Twemoji"])
    test = (ITEMS["split"] == "test") & away
    assert test.sum() == 152
    assert sorted(parts.query("part == 'test'")["item_id"]) == sorted(ITEMS.loc[test, "item_id"])
    learnt = (ITEMS["split"] == "train") & ~away
    assert parts["part"].isin(["train", "look"]).sum() == learnt.sum()
    assert len(parts) == len(ITEMS)
    assert set(parts["part"]) == set(ALIGNMENT_PARTS)


def test_a_set_stands_for_its_hand():
    by_set, by_hand = alignment_parts(ITEMS, ["Noto Classic"]), alignment_parts(ITEMS, ["Noto"])
    assert by_set.equals(by_hand)
    assert not by_hand.equals(alignment_parts(ITEMS, ["Twemoji"]))


@given(st.integers(0, 100), st.floats(0.02, 0.4))
def test_look_takes_whole_groups_out_of_train(seed, share):
    parts = alignment_parts(ITEMS, look_share=share, seed=seed)
    joined = ITEMS.merge(parts, on="item_id")
    look, train = (set(joined.loc[joined["part"] == name, "parent_id"]) for name in ("look", "train"))
    assert not look & train
    groups = len(look | train)  # Binomial: five standard deviations
    assert abs(len(look) - share * groups) < 5 * np.sqrt(groups * share * (1 - share)) + 1
    more = set(
        joined.loc[alignment_parts(ITEMS, look_share=share + 0.1, seed=seed)["part"] == "look", "parent_id"]
    )
    assert look <= more


def test_nobody_may_be_held_out():
    "An empty list is a wish, None is none: then all new pictures test."
    joined = ITEMS.merge(alignment_parts(ITEMS, []), on="item_id")
    assert (joined["part"] == "test").equals(joined["split"] == "test")


def test_the_table_confesses_shared_concepts():
    "Test items share their concept with training items of other hands; unseen and look do not."
    parts = alignment_parts(ITEMS)
    table = parts_table(ITEMS, parts).set_index("part")
    train, test = (part_items(ITEMS, parts, name) for name in ("train", "test"))
    shared = set(test["parent_id"]) & set(train["parent_id"])
    assert table.loc["test", "groups_in_train"] == len(shared) > 0
    assert table.loc[["look", "unseen"], "groups_in_train"].eq(0).all()
    assert table["items"].sum() == len(ITEMS)
    assert table.loc["test", "hands"] == 2
    assert table.loc["test", "by"] == "Noto, Twemoji"
    assert (
        table.loc["train", "groups"] == table.loc["train", "groups_in_train"] == train["parent_id"].nunique()
    )


# ---------------------------------------------------------------- any other catalogue

GROUPS = st.lists(st.integers(1, 4), min_size=60, max_size=90)


@given(GROUPS, st.integers(0, 20), st.randoms())
def test_no_group_crosses_in_any_order(groups, seed, random):
    items = shop(groups)
    parts = alignment_parts(items, seed=seed)
    assert crossing(items, parts) == 0
    assert set(parts["part"]) <= {"train", "look", "test"}
    order = list(range(len(items)))
    random.shuffle(order)
    again = alignment_parts(items.iloc[order], seed=seed)
    assert again["item_id"].tolist() == items["item_id"].iloc[order].tolist()
    assert part_of(again) == part_of(parts)


@given(GROUPS, st.integers(1, 40), st.integers(0, 20))
def test_a_catalogue_that_grows_keeps_its_parts(groups, more, seed):
    "New products, and new variants of old ones."
    before = part_of(alignment_parts(shop(groups), seed=seed))
    grown = shop([size + (g % 2) for g, size in enumerate(groups)] + [2] * more)
    after = part_of(alignment_parts(grown, seed=seed))
    assert before.items() <= after.items()


@given(GROUPS, st.sampled_from([["Acme"], ["Bolt"]]), st.booleans())
def test_brands_are_held_out_with_their_groups(groups, held, divided):
    items = shop(groups, split=("train", "test", "train", "unseen") if divided else None)
    try:
        parts = alignment_parts(items, held)
    except ValueError as error:  # Mixed brands leave few groups to learn from
        assert "at least 5 listing groups" in str(error)
        return
    joined = items.merge(parts, on="item_id")
    assert crossing(items, parts) == 0
    assert set(joined.loc[joined["part"] == "test", "brand"]) == set(held)
    touched = set(items.loc[items["brand"].isin(held), "parent_id"])
    assert not touched & set(joined.loc[joined["part"].isin(["train", "look"]), "parent_id"])


def test_a_split_of_ones_own_is_kept_to():
    "By hand: of three items in a group one is new, so it is the test and its sisters step aside."
    items = shop([3] * 30)
    items["split"] = np.where(
        items["item_id"].str.endswith("-0") & (items["parent_id"] < "g010"), "test", "train"
    )
    items.loc[items["parent_id"] == "g029", "split"] = ["unseen", "train", "test"]
    joined = items.merge(alignment_parts(items, look_share=0), on="item_id").set_index("item_id")
    assert joined.loc["g000-0", "part"] == "test"
    assert joined.loc[["g000-1", "g000-2"], "part"].tolist() == ["aside", "aside"]
    assert joined.loc[["g029-0", "g029-1", "g029-2"], "part"].tolist() == ["unseen", "aside", "aside"]
    assert joined.loc["g010-0":"g028-2", "part"].unique().tolist() == ["train"]


def test_the_shares_are_about_six_one_three():
    "Two thousand groups: three standard deviations are .031."
    part = alignment_parts(shop([1] * 2000))["part"]
    for name, share in (("train", 0.6), ("look", 0.1), ("test", 0.3)):
        assert abs((part == name).mean() - share) < 0.033
    other = alignment_parts(shop([1] * 2000), seed=1)["part"]
    assert (part != other).mean() > 0.3


def test_without_groups_every_item_stands_alone():
    items = shop([1] * 80).drop(columns=["parent_id", "brand"])
    parts = alignment_parts(items)
    assert set(parts["part"]) == {"train", "look", "test"}
    assert parts_table(items, parts)["groups"].sum() == 80


def test_items_without_title_or_picture_are_in_no_part():
    items = shop([1] * 80)
    items.loc[0, "title"], items.loc[1, "image"], items.loc[2, "title"] = None, np.nan, "  "
    parts = alignment_parts(items)
    assert len(parts) == 77
    assert not set(parts["item_id"]) & set(items["item_id"][:3])


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("items", "hold_out", "words"),
    [
        (ITEMS, ["Twemojy"], "did you mean 'Twemoji'"),
        (ITEMS, ["Samsong"], "did you mean 'Samsung'"),
        (ITEMS, ["OpenMoji", "x"], "there is no hand 'OpenMoji'"),
        (ITEMS, sorted(set(ITEMS["brand"])), "must leave a hand to train on"),
        (ITEMS.query("split == 'test'"), None, "the part train must have at least 5"),
        (ITEMS, ["Kodak"], "the part test must have at least 5 listing groups, it has 0"),
        (shop([1] * 8), None, "must have at least 5 listing groups"),
        (shop([1] * 80).drop(columns="brand"), ["Acme"], "there are no brands"),
        (pd.concat([shop([1] * 80)] * 2), None, "item_id must be unique, 'g000-0' is not"),
    ],
)  # fmt: skip
def test_refusals(items, hold_out, words):
    with pytest.raises(ValueError, match=words):
        alignment_parts(items, hold_out)
