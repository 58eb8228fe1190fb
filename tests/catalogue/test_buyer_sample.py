"""Products drawn by their buyers: against a plain draw with everything in memory; nested, whatever the order of the rows."""

import gzip
import itertools
import json
import random
import sys

import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.catalogue.amazon_2023 import load_amazon
from mmpc_analysis.catalogue.buyer_sample import _Buyers, buyer_sample
from mmpc_analysis.catalogue.review_purchases import amazon_purchases
from mmpc_analysis.store import hash_unit

sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
import make_amazon_files as make

TOYS = ["Toys_and_Games"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("buyers")
    make.write_amazon(path, [*TOYS, "Electronics"], 80, 1200)
    return path


def good_reviews(folder):
    "Pairs of user and product of all good reviews, all in memory."
    pairs = set()
    for line in gzip.decompress((folder / "Toys_and_Games.jsonl.gz").read_bytes()).splitlines():
        try:
            row = json.loads(line.decode())
            stars, when = float(row["rating"]), float(row["timestamp"])
        except (ValueError, TypeError, KeyError):
            continue
        user, item = row["user_id"], row.get("parent_asin") or row["asin"]
        when = when if when < 1e11 else when / 1000
        if user and "\0" not in user and 4 <= stars <= 5 and 631_152_000 <= when < 4_102_444_800:
            pairs.add((user, item))
    return pairs


def plain_draw(pairs, most, seed, fewest, buyers):
    "The core by taking out whoever has too few, then people one after the other."
    while True:
        users, items = (pd.Series([p[k] for p in pairs]).value_counts() for k in (0, 1))
        left = {(u, i) for u, i in pairs if users[u] >= fewest and items[i] >= buyers}
        if left == pairs:
            break
        pairs = left
    taken = set()
    for user in sorted({u for u, _ in pairs}, key=lambda user: hash_unit("amazon-2023 user", seed, user)):
        more = taken | {i for u, i in pairs if u == user}
        if len(more) > most:
            break
        taken = more
    return sorted(taken)


@pytest.mark.parametrize(
    ("most", "fewest", "buyers"), [(28, 5, 5), (40, 5, 5), (10**6, 5, 5), (30, 8, 1), (30, 2, 7)]
)
def test_the_draw_is_that_of_a_plain_one(folder, most, fewest, buyers):
    draw = buyer_sample(folder, TOYS, most, 3, min_purchases=fewest, min_buyers=buyers)
    assert draw == plain_draw(good_reviews(folder), most, 3, fewest, buyers)
    assert 0 < len(draw) <= most


def test_a_larger_draw_only_adds(folder):
    draws = [set(buyer_sample(folder, TOYS, most)) for most in (15, 25, 35, 50)]
    assert all(a <= b for a, b in itertools.pairwise(draws)) and draws[0] < draws[-1]
    assert set(buyer_sample(folder, TOYS, 0)) >= draws[-1]


def test_under_a_bar_the_order_of_rows_does_not_matter(folder, tmp_path):
    lines = gzip.decompress((folder / "Toys_and_Games.jsonl.gz").read_bytes()).splitlines(keepends=True)
    random.Random(2).shuffle(lines)
    (tmp_path / "Toys_and_Games.jsonl").write_bytes(b"".join(lines))
    given = {"min_purchases": 4, "min_buyers": 2, "most_held": 300}
    draw = buyer_sample(folder, TOYS, 25, **given)
    assert draw == buyer_sample(tmp_path, TOYS, 25, **given) and draw


def test_whoever_is_below_the_bar_has_all_purchases():
    rng = random.Random(5)
    bought = [(f"u{rng.randrange(200)}", f"i{n}") for n in range(3000)]
    buyers = _Buyers(1, 500)
    for user, item in bought:
        buyers.add(user, item)
    assert 0 < len(buyers.users) <= 500 and buyers.bar in (1 / 8, 1 / 16)
    below = [(u, i) for u, i in bought if hash_unit("amazon-2023 user", 1, u) < buyers.bar]
    assert list(zip(buyers.users, buyers.items, strict=True)) == below


def test_a_catalogue_of_the_draw_has_purchases_where_a_draw_of_products_has_few(tmp_path):
    make.write_amazon(tmp_path, TOYS, 2000, 6000, users=600, hostile=False)
    ids = buyer_sample(tmp_path, TOYS, 60, min_purchases=4, min_buyers=2)
    chosen, drawn = load_amazon(tmp_path, TOYS, 0, only=ids), load_amazon(tmp_path, TOYS, len(ids))
    assert chosen.items["item_id"].tolist() == ids and len(drawn.items) == len(ids)
    kept = [
        amazon_purchases(tmp_path, TOYS, c.items["item_id"], min_purchases=4, min_buyers=1)
        for c in (chosen, drawn)
    ]
    assert kept[0]["user_id"].nunique() > kept[1]["user_id"].nunique()
    assert kept[0]["item_id"].nunique() == len(ids)


def test_only_is_a_choice_among_products_that_count(folder):
    ids = [make.product_id("Electronics", n) for n in (0, 5, 9)]
    catalogue = load_amazon(folder, ["Electronics"], 0, only=[*ids, "H0Elec0003", "NOWHERE"])
    assert set(catalogue.items["item_id"]) == set(ids)


def test_categories_are_drawn_apart(folder):
    both = buyer_sample(folder, ["Electronics", *TOYS], 25)
    assert both == sorted({*buyer_sample(folder, TOYS, 25), *buyer_sample(folder, ["Electronics"], 25)})
