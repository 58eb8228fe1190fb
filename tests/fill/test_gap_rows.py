"""Gaps and known products are treated alike: what the ones lack the others do not show."""

import pandas as pd
import pytest

from mmpc_analysis.catalogue.embedded import Catalogue
from mmpc_analysis.fill.gap_rows import find_gap_rows, unseen_columns


def catalogue(n=40, gaps=10, group=1):
    ids = [f"i{k:03}" for k in range(n)]
    items = pd.DataFrame({
        "item_id": ids, "category": "Toys", "title": [None if k < gaps else f"Toy number {k}" for k in range(n)],
        "image": [f"{i}.png" for i in ids], "brand": None, "description": None, "keywords": None,
        "parent_id": [f"g{k // group}" for k in range(n)], "split": None,
    })  # fmt: skip
    return Catalogue("shop", items, ".", items.head(0), "note")


def cells_of(shop, **columns):
    return shop.items[["item_id"]].assign(**columns)


def test_one_of_a_listing_group_is_known_and_the_choice_ignores_the_order_of_rows():
    shop = catalogue(group=3)
    rows = find_gap_rows(shop, cells_of(shop), known=8, seed=4)
    assert len(rows.known) == 8 and rows.known["parent_id"].is_unique
    shuffled = Catalogue("shop", shop.items.sample(frac=1, random_state=1), ".", shop.items.head(0), "note")
    again = find_gap_rows(shuffled, cells_of(shop).sample(frac=1, random_state=2), known=8, seed=4)
    assert again.known["item_id"].tolist() == rows.known["item_id"].tolist()
    assert set(find_gap_rows(shop, cells_of(shop), known=8, seed=5).known["item_id"]) != set(
        rows.known["item_id"]
    )


def test_more_gaps_do_not_change_which_products_are_known():
    "A product that loses its title leaves the others where they were."
    shop = catalogue(n=60, gaps=10)
    before = find_gap_rows(shop, cells_of(shop), known=20)
    lost = before.known["item_id"].iloc[0]
    shop.items.loc[shop.items["item_id"] == lost, "title"] = None
    after = find_gap_rows(shop, cells_of(shop), known=20)
    assert set(before.known["item_id"]) - set(after.known["item_id"]) == {lost}
    assert len(after.known) == 20


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("SEO", lambda k: f"Buy Toy number {k} now" if k >= 10 else f"Buy {k}", "repeats the title"),
        ("meta", lambda k: f"NUMBER {k}, toy!" if k % 4 == 0 else "x", "repeats the title"),
        ("colour", lambda k: "red" if k >= 10 else None, "there in 0% of the gaps"),
        ("empty", lambda k: None, "there in 0% of the gaps and 0% of the known"),
        ("size", lambda k: "L" if k >= 10 or k < 5 else None, "there in 50% of the gaps and 100%"),
    ],
)
def test_columns_that_tell_more_of_known_products_are_hidden_from_both(name, values, reason):
    shop = catalogue()
    cells = cells_of(shop, **{name: [values(k) for k in range(40)], "fine": "wood"})
    rows = find_gap_rows(shop, cells)
    assert rows.seen == ("fine",) and list(rows.hidden) == [name] and reason in rows.hidden[name]


def test_a_column_that_only_gaps_have_is_seen():
    "It tells less of known products, so nothing looks better than it is."
    shop = catalogue()
    cells = cells_of(shop, note=["made of oak" if k < 10 or k > 20 else None for k in range(40)])
    assert find_gap_rows(shop, cells).seen == ("note",)


def test_titles_without_words_repeat_nothing():
    known = pd.DataFrame({"item_id": ["a", "b"], "note": ["x", "y"]})
    assert unseen_columns(known, known, pd.Series(["!!!", "★"])) == {}


def test_a_shop_without_any_title_has_gaps_and_says_that_nothing_is_known():
    shop = catalogue(n=5, gaps=5)
    rows = find_gap_rows(shop, cells_of(shop, colour="red"))
    assert (
        len(rows.gaps) == 5 and rows.known.empty and "nothing is known of the error" in " ".join(rows.notes)
    )


def test_products_without_title_and_picture_are_told():
    shop = catalogue()
    shop.items.loc[[0, 1], "image"] = None
    rows = find_gap_rows(shop, cells_of(shop))
    assert (
        len(rows.gaps) == 8
        and "Without title and without a picture here, so nothing can be asked: 2." in rows.notes
    )


def test_refusals():
    shop = catalogue(gaps=0)
    with pytest.raises(ValueError, match="a product with a picture and without a title, and has none; note"):
        find_gap_rows(shop, cells_of(shop))
    with pytest.raises(ValueError, match="known must be at least 1 product, got -3"):
        find_gap_rows(catalogue(), cells_of(catalogue()), known=-3)
