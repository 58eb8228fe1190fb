"""The queue of titles for people: what is in it, what it tells, and what it must not tell."""

import csv
import io
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from review_rows import HOSTILE, suggested

from mmpc_analysis.catalogue.tables_for_people import read_people_csv
from mmpc_analysis.fill.review_queue import (
    QUEUE_COLUMNS,
    confidence_words,
    review_queue,
    review_reasons,
    review_sample,
    write_queue,
)
from mmpc_analysis.tables import TableError


def mixed(filled=40, withheld=10):
    names = [f"Kite {n}" for n in range(filled + withheld)]
    return suggested(names, ["filled"] * filled + ["withheld"] * withheld)


def test_all_withheld_and_a_sample_of_the_filled():
    queue = review_queue(mixed(), sample=8, seed=1)
    kinds = queue["status"].value_counts().to_dict()
    assert kinds == {"withheld": 10, "filled": 8}
    of = queue.set_index("status")["probability"]
    assert (of["filled"] == 8 / 40).all() and of["withheld"].isna().all()
    assert queue["row"].tolist() == list(range(1, 19))
    assert queue["item_id"].is_unique and queue["code"].is_unique


def test_what_is_known_or_empty_is_not_in_the_queue():
    rows = suggested(["A", None, "  ", "D", "E"], ["known", "withheld", "withheld", "withheld", "filled"])
    assert sorted(review_queue(rows)["suggestion"]) == ["D", "E"]


def test_where_too_little_was_left_the_whole_answer_is_shown():
    rows = suggested(["Acme 20"], ["withheld"], removed="Acme; 20").assign(title=None)
    queue = review_queue(rows)
    assert queue["suggestion"].tolist() == ["Acme 20"]
    assert "in which nothing supports: Acme; 20" in queue["reasons"][0]


@pytest.mark.parametrize(
    "sample, drawn, probability", [(0, 0, None), (3, 3, 3 / 40), (40, 40, 1), (99, 40, 1)]
)
def test_the_sample_has_its_size_and_its_probability(sample, drawn, probability):
    filled = review_queue(mixed(), sample=sample)["probability"].dropna()
    assert len(filled) == drawn
    assert probability is None or (filled == probability).all()


def test_every_pair_is_drawn_equally_often():
    "Two of four, over 6,000 seeds: each of the six pairs 1,000 times, with a standard deviation of 28.9."
    items = pd.Series(list("abcd"))
    seen = pd.Series([tuple(sorted(review_sample(items, 2, seed)[0])) for seed in range(6000)])
    times = seen.value_counts().reindex(list(combinations("abcd", 2)), fill_value=0)
    assert (abs(times - 1000) < 4.5 * np.sqrt(6000 / 6 * 5 / 6)).all()


def test_the_order_of_the_rows_changes_nothing():
    rows = mixed()
    one, other = review_queue(rows, 8, seed=5), review_queue(rows.sample(frac=1, random_state=0), 8, seed=5)
    pd.testing.assert_frame_equal(one, other)
    assert not one.equals(review_queue(rows, 8, seed=6))


def test_the_place_in_the_queue_tells_nothing():
    "Ranks of 50 sampled among 100 rows: the mean over 20 seeds is 50.5 with a standard error of 0.65."
    rows = mixed(50, 50)
    means = []
    for seed in range(20):
        queue = review_queue(rows, 50, seed)
        means.append(queue.loc[queue["status"] == "filled", "row"].mean())
    assert abs(np.mean(means) - 50.5) < 4 * np.sqrt(50 * 50 * 101 / 12) / 50 / np.sqrt(20)


def test_the_sample_stands_among_the_first_rows_of_a_long_queue():
    rows = mixed(100, 300)
    queue = review_queue(rows, 20, mixed=60)
    assert (queue["status"][:60] == "filled").sum() == 20 and (queue["status"][60:] == "withheld").all()
    assert len(queue) == 320 and queue["item_id"].is_unique
    assert (review_queue(rows, 20, mixed=0)["status"][:20] == "filled").all()


def test_a_person_sees_nothing_that_tells_the_sample(tmp_path):
    rows = mixed().assign(confidence=0.7, reason=None)
    rows.loc[rows["status"] == "withheld", "reason"] = "confidence 0.70 is below the threshold 0.80"
    text = Path(write_queue(review_queue(rows, 10), tmp_path / "review.csv")).read_text("utf-8-sig")
    seen = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    assert tuple(seen.columns) == QUEUE_COLUMNS
    for word in ("filled", "withheld", "threshold", "probability"):
        assert word not in text
    same = seen.drop(columns=["row", "suggestion", "item_id", "code", "picture"])
    assert len(same.drop_duplicates()) == 1  # Rows of both kinds say the same but for what they are about


def test_a_rule_that_was_broken_is_told_and_the_threshold_is_not():
    row = suggested(
        ["=Kite"], ["withheld"], reason="begins with =; Confidence 0.2 is too low; nothing can be promised"
    )
    assert review_reasons(row.iloc[0]) == ["begins with ="]


def test_reasons_are_the_same_for_filled_and_withheld():
    more = {"agreement": 0.1, "yes": -2.0, "lift_rank": 0.2, "removed": "Acme", "outcome": "truncated"}
    filled, withheld = (suggested(["Kite"], [s], **more).iloc[0] for s in ("filled", "withheld"))
    assert review_reasons(filled) == review_reasons(withheld)
    assert len(review_reasons(filled)) == 5
    fine = {"agreement": 0.5, "yes": 0.0, "lift_rank": np.nan, "removed": None}
    assert review_reasons(suggested(["Kite"], ["filled"], **fine).iloc[0]) == []


@pytest.mark.parametrize(
    "confidence, words",
    [
        (1, "very likely"),
        (0.95, "very likely"),
        (0.9499, "likely"),
        (0.5, "as likely as not"),
        (0.2, "unlikely"),
        (0, "very unlikely"),
        (np.nan, "not known"),
    ],
)
def test_a_confidence_in_words(confidence, words):
    assert confidence_words(confidence, "brand") == f"no wrong brand: {words}"


@pytest.mark.parametrize("risk", ["", "number", "type", "title", "taste"])
def test_words_of_a_confidence_never_speak_of_the_whole_title(risk):
    "A title that names no wrong number may name another thing: nobody may read that it is right."
    (queue,) = (review_queue(mixed(1, 1).assign(confidence=0.997), 1, risk=risk),)
    (said,) = set(queue["likely"])
    about, how = said.split(": ")
    assert how == "very likely" and about not in ("", "right") and not re.search(r"\bright$", said)
    assert {"number": "number", "type": "type", "title": "words", "taste": "taste", "": "one way"}[
        risk
    ] in about


def test_cells_of_the_row_stand_beside_the_title():
    cells = pd.DataFrame(
        {"item_id": ["001", "000"], "Vendor": ["Windy\n Ltd", None], "Body": ["x" * 500, ""]}
    )
    queue = review_queue(suggested(["A", "B", "C"], ["withheld"] * 3), cells=cells).set_index("item_id")
    assert queue["other_cells"].to_dict() == {
        "000": "",
        "001": f"Vendor: Windy Ltd \u00b7 Body: {'x' * 300}",
        "002": "",
    }


def test_hostile_titles_are_written_without_power_and_read_back_whole(tmp_path):
    rows = suggested(HOSTILE, ["withheld"] * len(HOSTILE))
    queue = review_queue(rows)
    data = Path(write_queue(queue, tmp_path / "review.csv")).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    text = data.decode("utf-8-sig")
    cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
    assert [c for c in cells if c.strip(" \t\"'\u202e")[:1] in tuple("=+-@") and c[0] != "'"] == ["-5"]
    back = read_people_csv(text).set_index("item_id")["suggestion"]
    assert back.to_dict() == queue.set_index("item_id")["suggestion"].to_dict()


def test_a_code_is_text_to_a_spreadsheet():
    codes = review_queue(mixed(), 40)["code"]
    assert codes.str.fullmatch("q[0-9a-f]{12}").all()


def test_an_empty_table_makes_an_empty_queue(tmp_path):
    queue = review_queue(suggested(["Kite"], ["known"]))
    assert queue.empty
    header = Path(write_queue(queue, tmp_path / "review.csv")).read_text("utf-8-sig")
    assert header.strip() == ",".join(QUEUE_COLUMNS)


def test_what_is_refused():
    with pytest.raises(ValueError, match="0 or more filled rows, got -1"):
        review_queue(mixed(), sample=-1)
    with pytest.raises(TableError, match="has no column 'status'"):
        review_queue(mixed().drop(columns="status"))
