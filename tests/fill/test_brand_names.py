"""Which names are brands, and which of them say nothing of whose product it is."""

import pandas as pd
import pytest

from mmpc_analysis.fill.brand_names import own_brand, same_brand, shop_brands


def shop(*rows):
    return pd.DataFrame(rows, columns=["title", "brand"])


def test_a_name_is_common_from_more_than_a_tenth_of_its_titles():
    own = [("Orange router", "Orange")] * 9
    assert shop_brands(shop(*own, ("Orange kite", "Acme"))).common == set()  # 1 of 10
    assert shop_brands(shop(*own, *[("Orange kite", "Acme")] * 2)).common == {"Orange"}  # 2 of 11


def test_titles_without_a_brand_say_nothing_of_common_names():
    assert (
        shop_brands(shop(("Orange router", "Orange"), ("Orange kite", None), ("Orange mug", "n/a"))).common
        == set()
    )


def test_a_name_listed_beside_the_shop_s_is_common_where_others_use_it():
    assert shop_brands(shop(("Case for Apple iPhone", "Spigen")), also=["Apple"]).common == {"Apple"}
    assert shop_brands(shop(("Case for iPhone", "Spigen")), also=["Apple"]).common == set()


def test_a_short_form_in_titles_of_the_longer_brand_is_not_common():
    assert (
        shop_brands(shop(("Philips bottle", "Philips Avent"), ("Philips shaver", "Philips"))).common == set()
    )


def test_placeholders_and_crumbs_are_no_brands():
    cells = ["n/a", "Unknown", "-", "", None, float("nan"), "5", "  ", "3M", " Acme  Inc ", "42"]
    assert [own_brand(cell) for cell in cells] == ["", "", "", "", "", "", "", "", "3M", "Acme Inc", "42"]


@pytest.mark.parametrize(
    ("name", "own", "same"),
    [
        ("Philips", "Philips Avent", True),
        ("Philips Avent", "Philips", False),
        ("NIKE", "nike\u00ae", True),
        ("Avent", "Philips Avent", True),
        ("Phil", "Philips", False),
        ("Nike", "", False),
    ],
)
def test_short_forms(name, own, same):
    assert same_brand(name, own) is same


def test_a_shop_without_a_brand_column_has_the_names_given():
    assert shop_brands(pd.DataFrame({"title": ["Kite"]}), also=["Acme", "Acme "]).names == ("Acme",)


def test_the_order_of_rows_changes_nothing():
    rows = [("Orange kite", "Acme"), ("Orange router", "Orange"), ("Nike shoe", "Nike")]
    assert shop_brands(shop(*rows)) == shop_brands(shop(*reversed(rows)))
