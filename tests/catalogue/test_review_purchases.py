"""Purchases from reviews, against a plain reading with everything in memory; cores, in every form of the files, streamed."""

import gzip
import itertools
import json
import os
import sys
import threading
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue import review_purchases
from mmpc_analysis.catalogue.cores import k_core
from mmpc_analysis.catalogue.review_purchases import amazon_purchases, review_seconds
from mmpc_analysis.store import cached_table
from mmpc_analysis.tables import INTERACTIONS

sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
import make_amazon_files as make

TWO = ["All_Beauty", "Toys_and_Games"]
ITEMS = [make.product_id(category, n) for category in TWO for n in range(0, 20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("reviews")
    make.write_amazon(path / "gz", TWO, 30, 900, form="jsonl.gz")
    make.write_amazon(path / "jsonl", TWO, 30, 900, form="jsonl", layout="hub")
    return path


def plain_reading(folder, items, fewest, buyers):
    "All reviews in memory, filtered by the words of the rule, the core by taking out one user or item at a time."
    first = {}
    for category in TWO:
        for line in gzip.decompress((folder / f"{category}.jsonl.gz").read_bytes()).splitlines():
            try:
                row = json.loads(line.decode())
                stars, when = float(row["rating"]), float(row["timestamp"])
            except (ValueError, TypeError, KeyError):
                continue
            item, user = row.get("parent_asin") or row.get("asin"), row["user_id"]
            if item not in items or not user or "\0" in user or not 4 <= stars <= 5:
                continue
            when = when if when < 1e11 else when / 1000
            if 631_152_000 <= when < 4_102_444_800:
                first[user, item] = min(int(when), first.get((user, item), 2**62))
    left = set(first)
    while True:
        users, bought = (
            pd.Series([u for u, _ in left]).value_counts(),
            pd.Series([i for _, i in left]).value_counts(),
        )
        bad = next((p for p in left if users[p[0]] < fewest or bought[p[1]] < buyers), None)
        if bad is None:
            return {(u, i, first[u, i]) for u, i in left}
        left = {
            p
            for p in left
            if (p[0] != bad[0] or users[bad[0]] >= fewest) and (p[1] != bad[1] or bought[bad[1]] >= buyers)
        }


@pytest.mark.parametrize(("fewest", "buyers"), [(1, 1), (5, 1), (5, 5), (8, 3), (4, 4), (60, 1)])
def test_purchases_are_those_of_a_plain_reading(folder, fewest, buyers, monkeypatch):
    monkeypatch.setattr(review_purchases, "_PACKED", 100)  # Many packs
    rows = amazon_purchases(folder / "gz", TWO, ITEMS, min_purchases=fewest, min_buyers=buyers)
    expected = plain_reading(folder / "gz", set(ITEMS), fewest, buyers)
    assert set(rows.itertuples(index=False, name=None)) == expected and len(rows) == len(expected)
    assert rows.equals(rows.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True))
    assert bool(expected) == (fewest != 60)


def test_plain_and_packed_lines_and_pipes_say_the_same(folder, tmp_path):
    packed, plain = (amazon_purchases(folder / form, TWO, ITEMS, min_purchases=3) for form in ("gz", "jsonl"))
    pd.testing.assert_frame_equal(packed, plain)
    assert packed.attrs["counts"] == plain.attrs["counts"]
    os.mkfifo(tmp_path / "All_Beauty.jsonl")
    lines = (folder / "jsonl" / "raw" / "review_categories" / "All_Beauty.jsonl").read_bytes()
    writer = threading.Thread(target=(tmp_path / "All_Beauty.jsonl").write_bytes, args=(lines,))
    writer.start()
    piped = amazon_purchases(tmp_path, TWO[:1], ITEMS, min_purchases=3)
    writer.join()
    pd.testing.assert_frame_equal(piped, amazon_purchases(folder / "gz", TWO[:1], ITEMS, min_purchases=3))


def test_parquet_says_what_its_rows_say(tmp_path):
    make.write_amazon(tmp_path / "a", TWO, 30, 900, form="parquet", hostile=False, shards=2)
    make.write_amazon(tmp_path / "b", TWO, 30, 900, form="jsonl.gz", hostile=False)
    parts = [amazon_purchases(tmp_path / form, TWO, ITEMS, min_purchases=3) for form in "ab"]
    pd.testing.assert_frame_equal(*parts)
    assert len(parts[0]) > 100


def test_every_row_is_counted_once(folder):
    rows = amazon_purchases(folder / "gz", TWO, ITEMS)
    counts = rows.attrs["counts"]
    written = sum(len(list(make.review_rows(category, 30, 900))) for category in TWO)
    assert counts["rows read"] == written and counts["rows that could not be read"] == 6
    fates = ("of these without a user, rating or time", "of these rated too low", "positive reviews")
    assert counts["reviews of chosen products"] == sum(counts[fate] for fate in fates)
    assert len(rows.attrs["set_aside"]) == 6 + counts["of these without a user, rating or time"]
    assert counts["purchases"] == len(rows) and counts["users left"] == rows["user_id"].nunique()
    assert f"{counts['users left']:,} people" in rows.attrs["note"]


def test_hostile_reviews_are_read_or_set_aside(folder):
    rows = amazon_purchases(folder / "gz", TWO[:1], ITEMS, min_purchases=1, min_buyers=1)
    of = rows[rows["user_id"] == "AHOSTILE"].set_index("item_id")["timestamp"]
    ids = [make.product_id(TWO[0], n) for n in range(12)]
    start = make.FIRST
    assert of[ids[0]] == start + 900 and of[ids[5]] == start + 7000 and of[ids[6]] == start + 8000
    assert set(of.index) == {ids[n] for n in (0, 1, 5, 6, 11)}
    assert "AFOURONLY" in set(rows["user_id"])
    five = amazon_purchases(folder / "gz", TWO[:1], ITEMS, min_purchases=5, min_buyers=1)
    assert "AFOURONLY" not in set(five["user_id"]) and "AHOSTILE" in set(five["user_id"])
    reasons = " ".join(reason for _, reason in rows.attrs["set_aside"])
    assert all(
        word in reasons
        for word in ("no rating between", "no usable user", "no time between", "is a str", "not JSON")
    )


def test_nobody_left_is_an_empty_table_that_says_so(folder):
    none = amazon_purchases(folder / "gz", TWO, ["NOBODY"])
    assert none.empty and list(none) == ["user_id", "item_id", "timestamp"]
    assert none.attrs["counts"]["reviews of chosen products"] == 0 and "0 people" in none.attrs["note"]


def test_users_who_share_a_hash_are_told_apart(folder, monkeypatch):
    expected = amazon_purchases(folder / "gz", TWO, ITEMS, min_purchases=6)
    monkeypatch.setattr(
        pd.util, "hash_array", lambda users, categorize: np.full(len(users), 7, dtype="uint64")
    )
    pd.testing.assert_frame_equal(amazon_purchases(folder / "gz", TWO, ITEMS, min_purchases=6), expected)


def test_the_table_is_kept_with_its_counts(folder, tmp_path):
    first = cached_table(
        str(tmp_path), INTERACTIONS, ["k"], lambda: amazon_purchases(folder / "gz", TWO, ITEMS)
    )
    again = cached_table(str(tmp_path), INTERACTIONS, ["k"], lambda: pytest.fail("read again"))
    assert again.attrs["counts"] == first.attrs["counts"] and again.equals(first)


def test_products_in_the_place_of_reviews_are_refused(folder, tmp_path):
    os.link(folder / "gz" / "meta_All_Beauty.jsonl.gz", tmp_path / "All_Beauty.jsonl.gz")
    with pytest.raises(ValueError, match="holds no reviews"):
        amazon_purchases(tmp_path, ["All_Beauty"], ITEMS)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1_600_000_000_999, 1_600_000_000), ("1600000000999", 1_600_000_000), (1_600_000_000.7, 1_600_000_000), (631_152_000, 631_152_000),
     (631_151_999, None), (4_102_444_800_000, None), ("1e400", None), ([], None), (False, None), (10**400, None), ("", None)],
)  # fmt: skip
def test_times(value, seconds):
    assert review_seconds(value) == seconds


@pytest.mark.parametrize("wanted", [["B7"], ["A000007"]])
def test_memory_does_not_grow_with_the_reviews_of_other_products(tmp_path, wanted):
    def most_memory(rows):
        lines = (
            json.dumps(
                {
                    "rating": 5.0,
                    "text": "x" * 200,
                    "parent_asin": f"A{n:06d}",
                    "user_id": f"U{n}",
                    "timestamp": 1_600_000_000_000,
                }
            )
            for n in range(rows)
        )
        (tmp_path / "Electronics.jsonl").write_text("\n".join(lines))
        tracemalloc.start()
        counts = amazon_purchases(tmp_path, ["Electronics"], wanted).attrs["counts"]
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert counts["rows read"] == rows
        return most

    most_memory(100)  # What is imported on the way
    small, large = most_memory(1000), most_memory(20_000)
    assert large < small + 500_000


# ---------------------------------------------------------------- cores

PAIRS = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


@given(PAIRS, st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=60)
def test_a_core_is_the_largest_set_where_everybody_has_enough(pairs, k, buyers):
    rows = pd.DataFrame(
        [(f"u{u}", f"i{i}", 0) for u, i in sorted(pairs)], columns=["user_id", "item_id", "timestamp"]
    )
    core = set(k_core(rows, k, buyers)[["user_id", "item_id"]].itertuples(index=False, name=None))
    everything = list(rows[["user_id", "item_id"]].itertuples(index=False, name=None))
    users = sorted({u for u, _ in everything})
    largest = set()
    for size in range(len(users) + 1):  # Of every set of users, the items that enough of them have
        for some in itertools.combinations(users, size):
            left = {p for p in everything if p[0] in some}
            left = {p for p in left if sum(q[1] == p[1] for q in left) >= buyers}
            if {u for u, _ in left} == set(some) and all(sum(q[0] == u for q in left) >= k for u in some):
                largest |= left
    assert core == largest
