"""Purchases: files made to mislead, and simulated ones against what was planted."""

import gzip
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmpc_analysis.catalogue.purchases import (
    PreferenceModel,
    _probabilities,
    _shelf,
    layout_columns,
    read_interactions,
    simulate_interactions,
    user_preference,
)


def read_quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_interactions(*args, **kwargs)


# ---------------------------------------------------------------- files


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("a.jsonl", {"user_id": "u", "parent_asin": "p", "asin": "x", "timestamp": 1_600_000_000_999}),
        ("a.jsonl.gz", {"user_id": "u", "asin": "p", "timestamp": 1_600_000_000_000}),
        ("a.json.gz", {"reviewerID": "u", "asin": "p", "unixReviewTime": 1_600_000_000}),
        ("a.json", {"reviewerID": " u ", "asin": "p", "unixReviewTime": "1600000000", "reviewText": "\n"}),
    ],
)
def test_amazon_reviews_of_every_year(tmp_path, name, record):
    rows = read_interactions(write(tmp_path / name, json.dumps(record) + "\n\n"))
    assert rows.iloc[0].tolist() == ["u", "p", 1_600_000_000] and rows.attrs["set_aside"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "user_id,parent_asin,rating,timestamp\nu,p,5.0,1600000000000\n"),
        ("a.csv.gz", "\ufeffuser_id,item_id,timestamp\nu,p,1.6e9\n"),
        ("a.csv", "user_id;item_id;timestamp\nu;p;2020-09-13T12:26:40Z\n"),
        ("a.tsv", 'user_id\titem_id\ttimestamp\n"u"\tp\t2020-09-13 14:26:40+02:00\r\n'),
        ("a.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\tp\t5\t1600000000.7\n"),
        ("a.inter", "userID\titemID\ttimestamp\nu\tp\t1600000000\n"),
    ],
)
def test_text_files_of_every_kind(tmp_path, name, text):
    assert read_interactions(write(tmp_path / name, text)).iloc[0].tolist() == ["u", "p", 1_600_000_000]


def test_parquet_and_rows_in_memory_agree(tmp_path):
    rows = pd.DataFrame(
        {
            "buyer": [1, 2, 3],
            "sku": ["007", "8", "9"],
            "when": pd.to_datetime(["2020-09-13T12:26:40", None, "2020-01-01T00:00:00"]),
            "unused": [[1], [2], [3]],
        }
    )
    rows.to_parquet(tmp_path / "a.parquet")
    columns = {"user_id": "buyer", "item_id": "sku", "timestamp": "when"}
    stored, held = (read_quietly(source, columns=columns) for source in (tmp_path / "a.parquet", rows))
    pd.testing.assert_frame_equal(stored, held)
    assert stored.iloc[0].tolist() == ["1", "007", 1_600_000_000]
    assert stored.attrs["set_aside"] == [(2, "has no time between 1970 and 2100")]
    aware = rows.assign(when=rows["when"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    pd.testing.assert_frame_equal(read_quietly(aware, columns=columns), held)


def test_every_bad_line_is_set_aside_with_its_number_and_said(tmp_path):
    good = {"user_id": "u", "asin": "a", "timestamp": 1_600_000_000_000}
    lines = [
        json.dumps(good),
        "{",
        "[1, 2]",
        '"text"',
        "null",
        "[" * 100_000,
        json.dumps(good | {"user_id": None}),
        json.dumps(good | {"user_id": "  "}),
        json.dumps(good | {"user_id": True}),
        json.dumps(good | {"asin": ["a"]}),
        json.dumps(good | {"asin": "\ud800"}),
        json.dumps(good | {"timestamp": None}),
        json.dumps(good | {"timestamp": "soon"}),
        json.dumps(good | {"timestamp": [1]}),
        json.dumps(good | {"timestamp": {"a": 1}}),
        json.dumps(good | {"timestamp": True}),
        json.dumps(good | {"timestamp": float("nan")}),
        json.dumps(good | {"timestamp": float("inf")}),
        json.dumps(good | {"timestamp": -1}),
        json.dumps(good | {"timestamp": 10**400}),
        json.dumps(good | {"user_id": 12}),
    ]
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    with pytest.warns(UserWarning, match=r"a.jsonl: 19 of 21 rows were set aside; the first, row 2, is not"):
        rows = read_interactions(path)
    assert rows["user_id"].tolist() == ["u", "12"]
    assert [row for row, _ in rows.attrs["set_aside"]] == list(range(2, 21))
    assert all(reason.split()[0] in ("is", "has") for _, reason in rows.attrs["set_aside"])


def test_a_bad_line_of_a_text_file_takes_no_other_with_it(tmp_path):
    text = 'user_id,item_id,timestamp\na,x,1\nb,"y,2\nc,z,3,4\nd,w\ne,v,5\n'
    rows = read_quietly(write(tmp_path / "a.csv", text))
    assert rows["user_id"].tolist() == ["a", "e"]
    assert [row for row, _ in rows.attrs["set_aside"]] == [3, 4, 5]


def test_milliseconds_for_seconds_are_an_error(tmp_path):
    rows = pd.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [1_600_000_000_000]})
    with pytest.raises(ValueError, match="unit='ms'"):
        read_interactions(rows)
    assert read_interactions(rows, unit="ms")["timestamp"].tolist() == [1_600_000_000]
    with pytest.raises(ValueError, match="unit='s'"):
        read_interactions(rows.rename(columns={"item_id": "asin"}).assign(timestamp=1_600_000_000))
    with pytest.raises(ValueError, match="unit must be one of s, ms"):
        read_interactions(rows, unit="us")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "a,b\n1,2\n", "are not those of ours or mmrec"),
        ("a.jsonl", "", "are not those of"),
        ("a.jsonl", "{broken\n", "are not those of"),
        ("a.csv", "user_id,item_id,timestamp\n", "are not those of|no row that can be used"),
        ("a.pkl", "x", "must end in .csv"),
        ("a.csv", "user_id,item_id,timestamp,item_id\na,b,1,c\n", "'item_id' twice"),
    ],
)
def test_files_that_hold_no_purchases_are_errors(tmp_path, name, text, said):
    with pytest.raises(ValueError, match=said):
        read_interactions(write(tmp_path / name, text))


def test_damaged_gzip_is_an_error_that_says_so(tmp_path):
    path = write(tmp_path / "a.jsonl.gz", json.dumps({"user_id": "u", "item_id": "i", "timestamp": 1}) + "\n")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="is damaged"):
        read_interactions(path)


def test_columns_win_over_the_layout():
    found, unit = layout_columns(["user_id", "asin", "bought"], columns={"timestamp": "bought"})
    assert found == {"user_id": "user_id", "item_id": "asin", "timestamp": "bought"} and unit == "s"
    with pytest.raises(ValueError, match="not those of mmrec"):
        layout_columns(["user_id", "item_id", "timestamp"], layout="mmrec")


# ---------------------------------------------------------------- simulated purchases


def shelf(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "item_id": [f"i{k:03d}" for k in range(n)],
            "category": rng.choice(list("ABC"), n),
            "parent_id": rng.choice([None, *"pqrstuv"], n),
            "brand": rng.choice(["x", "y", None], n),
        }
    )


def planted(items, users, seed, preferences):
    "Probabilities of the first purchase, per user."
    ids, traits, popularity = _shelf(items, seed)
    rng = lambda user: np.random.default_rng([seed, user])  # noqa: E731
    return {
        u: pd.Series(_probabilities(traits, popularity, rng(u), preferences), index=ids) for u in range(users)
    }


def test_user_preference_is_what_the_simulation_uses():
    items = shelf()
    assert user_preference(items, 3, seed=5).equals(
        planted(items, 4, 5, PreferenceModel())[3].rename("probability")
    )


def test_purchases_do_not_depend_on_row_order_or_on_further_users():
    items = shelf()
    base = simulate_interactions(items, users=50, seed=4)
    mixed = items.sample(frac=1, random_state=1)
    assert base.equals(simulate_interactions(mixed, users=50, seed=4))
    more = simulate_interactions(items, users=80, seed=4)
    assert base.equals(more[more["user_id"].isin(base["user_id"])].reset_index(drop=True))
    assert not base.equals(simulate_interactions(items, users=50, seed=5))


def test_purchases_are_marked_sorted_and_unique(tmp_path):
    bought = simulate_interactions(shelf(), users=100, seed=2)
    assert bought.attrs["simulated"] is True and bought["simulated"].all()
    assert not bought.duplicated(["user_id", "item_id"]).any()
    assert (bought.groupby("user_id")["timestamp"].diff().dropna() > 0).all()
    assert bought.groupby("user_id").size().min() >= 5
    bought.to_parquet(tmp_path / "b.parquet")
    assert pd.read_parquet(tmp_path / "b.parquet")["simulated"].all()
    assert simulate_interactions(shelf(3), users=4).groupby("user_id").size().tolist() == [3, 3, 3, 3]


def test_first_purchases_follow_the_planted_probabilities():
    items, users = shelf(), 3000
    bought = simulate_interactions(items, users=users, seed=11)
    first = bought.groupby("user_id")["item_id"].first()
    expected = sum(planted(items, users, 11, PreferenceModel()).values())
    observed = first.value_counts().reindex(expected.index, fill_value=0)
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    flat = expected.sum() / len(expected)
    assert stats.chisquare(observed, np.full(len(expected), flat)).pvalue < 1e-6


@pytest.mark.parametrize(
    ("trait", "weight", "others"),
    [("category_weight", 1.5, (0.75, 2.5)), ("concept_weight", 1.0, (0.3, 2.0)), ("designer_weight", 0.8, (0.0, 1.8)), ("popularity_share", 0.3, (0.1, 0.6))],
)  # fmt: skip
def test_the_planted_weights_are_the_likeliest(trait, weight, others):
    items, users = shelf(), 1500
    truth = PreferenceModel(**{"designer_weight": 0.8, trait: weight})
    first = (
        simulate_interactions(items, users=users, seed=7, preferences=truth)
        .groupby("user_id")["item_id"]
        .first()
    )

    def likelihood(value):
        chances = planted(items, users, 7, PreferenceModel(**{"designer_weight": 0.8, trait: value}))
        return sum(np.log(chances[user][item]) for user, item in enumerate(first))

    best = likelihood(weight)
    assert all(best > likelihood(value) + 2 for value in others)


def test_items_without_concept_or_designer_still_sell():
    items = shelf().assign(parent_id=None, brand=None)
    assert len(simulate_interactions(items, users=10)) >= 50
