"""Decisions as they come back: from a spreadsheet, sorted, copied, half filled in, of another queue."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from review_rows import HOSTILE, suggested

from mmpc_analysis import tables
from mmpc_analysis.fill.review_decisions import agreed_decision, read_decision, read_reviews
from mmpc_analysis.fill.review_queue import queue_for_people, review_queue, write_queue

TITLES = ["Red kite", "Blue kite", "=Kite", "Größe M; rot"]
QUEUE = review_queue(suggested(TITLES, ["filled", "withheld", "withheld", "filled"]), sample=1, seed=0)
SHEET = queue_for_people(QUEUE)
CODE = QUEUE.set_index("item_id")["code"]
SAMPLED, CHOSEN = QUEUE.loc[QUEUE["status"] == "filled", "item_id"].item(), ["001", "002"]


def decide(sheet=SHEET, **decisions):
    "The sheet with some rows decided: item to decision, or to (decision, title)."
    sheet = sheet.copy()
    for item, what in decisions.items():
        decision, title = (what, "") if isinstance(what, str) else what
        sheet.loc[sheet["item_id"] == item.strip("_"), ["decision", "new_title"]] = [decision, title]
    return sheet


def outcome(reviews):
    "Item to (decision, title)."
    rows = reviews[["item_id", "decision", "title"]].astype(object)
    return {i: (d, None if pd.isna(t) else t) for i, d, t in rows.itertuples(index=False)}


def test_decisions_titles_status_and_probability():
    reviews = read_reviews(decide(_001="accept", _002=("edit", "Kite")), QUEUE)
    assert outcome(reviews) == {
        "001": ("accept", "Blue kite"),
        "002": ("edit", "Kite"),
        SAMPLED: ("open", None),
    }
    of = reviews.set_index("item_id")
    assert of["status"].to_dict() == {"001": "withheld", "002": "withheld", SAMPLED: "filled"}
    assert of.loc[SAMPLED, "probability"] == 0.5 and of.loc[CHOSEN, "probability"].isna().all()
    assert reviews.attrs == {"notes": [], "aside": []}
    assert list(reviews) == tables.REVIEWS.names


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_any_way_that_a_spreadsheet_saves(tmp_path, separator, encoding, end):
    sheet = decide(_001=" Accept ", _002=("EDITED", "Größe XL, 2 m; “rot”"))
    sheet = sheet[sheet.columns[::-1]].assign(Remarks="seen")
    sheet.columns = [name.replace("_", " ").title() for name in sheet.columns]
    path = tmp_path / ("review.tsv" if separator == "\t" else "review.csv")
    sheet.to_csv(path, index=False, sep=separator, encoding=encoding, lineterminator=end)
    with open(path, "ab") as file:
        file.write((separator * 13 + end).encode(encoding.replace("-sig", "").replace("utf-16", "utf-16-le")))
    reviews = read_reviews(path, QUEUE)
    assert outcome(reviews)["001"] == ("accept", "Blue kite")
    assert outcome(reviews)["002"] == ("edit", "Größe XL, 2 m; “rot”")


def test_a_first_line_that_names_the_separator(tmp_path):
    path = tmp_path / "review.csv"
    text = "sep=;\r\n" + decide(_001="accept").to_csv(index=False, sep=";")
    path.write_text(text, "utf-8-sig")
    assert outcome(read_reviews(path, QUEUE))["001"] == ("accept", "Blue kite")


def test_a_workbook(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = decide(_001="accept", _002=("edit", "24"))
    book.active.append(list(sheet))
    for row in sheet.itertuples(index=False):
        book.active.append([int(cell) if cell.isdigit() else cell for cell in row])  # 001 is 1, 24 a number
    book.save(tmp_path / "review.xlsx")
    found = outcome(read_reviews(tmp_path / "review.xlsx", QUEUE))
    assert found["001"] == ("accept", "Blue kite") and found["002"] == ("edit", "24")


def test_identifiers_that_became_numbers_are_found_by_the_code():
    sheet = decide(_001="accept", _002="reject").assign(item_id=["1.00E+05", "7", "8"])
    reviews = read_reviews(sheet, QUEUE)
    assert outcome(reviews)["001"][0] == "accept" and outcome(reviews)["002"][0] == "reject"
    assert reviews.attrs["aside"] == []


def test_without_codes_the_identifier_is_enough():
    sheet = decide(_001="accept")[["item_id", "decision"]]
    assert outcome(read_reviews(sheet, QUEUE))["001"] == ("accept", "Blue kite")


def test_one_column_sorted_without_the_others_sets_all_aside():
    sheet = decide(_001="accept", _002="accept")
    sheet["code"] = np.roll(sheet["code"], 1)
    reviews = read_reviews(sheet, QUEUE)
    assert set(reviews["decision"]) == {"open"}
    assert len(reviews.attrs["aside"]) == 3
    assert reviews.attrs["notes"][0].endswith("set aside; so in 3 rows")
    assert "sort whole rows" in reviews.attrs["notes"][0]


def test_rows_of_another_queue_are_kept_aside_and_told():
    sheet = pd.concat(
        [decide(_001="accept"), decide(_001="accept").assign(item_id="x9", code="q000000000000")]
    )
    reviews = read_reviews(sheet, QUEUE)
    assert outcome(reviews)["001"][0] == "accept"
    assert [row["item_id"] for row in reviews.attrs["aside"]] == ["x9"] * 3
    assert [row["decision"] for row in reviews.attrs["aside"]].count("accept") == 1
    assert "belongs to no row of this queue" in reviews.attrs["notes"][0]


def test_a_decision_about_an_earlier_suggestion_is_not_one_about_this():
    old = review_queue(suggested(["Pink kite"], ["withheld"], items=["001"]))
    sheet = queue_for_people(old).assign(decision="accept")
    for shown in (sheet, sheet.drop(columns="code")):
        reviews = read_reviews(shown, QUEUE)
        assert set(reviews["decision"]) == {"open"}
        assert "another title" in reviews.attrs["notes"][0]


def test_a_suggestion_that_was_overwritten_is_no_clear_acceptance():
    sheet = decide(_001="accept", _002="reject")
    sheet.loc[sheet["item_id"] == "001", "suggestion"] = "Blue kite, 2 m"
    reviews = read_reviews(sheet, QUEUE)
    assert outcome(reviews)["001"] == ("open", None) and outcome(reviews)["002"] == ("reject", None)
    assert "its suggestion was changed" in reviews.attrs["notes"][0]


def test_the_later_of_two_rows_counts_and_an_empty_one_does_not():
    sheet = pd.concat([decide(_001="accept"), decide(_001="reject"), SHEET], ignore_index=True)
    reviews = read_reviews(sheet, QUEUE)
    assert outcome(reviews)["001"] == ("reject", None)
    assert len(reviews.attrs["notes"]) == 1 and "decides again" in reviews.attrs["notes"][0]
    twice = read_reviews(pd.concat([decide(_001="accept")] * 2), QUEUE)
    assert twice.attrs["notes"] == []  # The same twice is no contradiction


def test_several_files_and_several_people(tmp_path):
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    decide(_001="accept").assign(rater="Ada").to_csv(paths[0], index=False)
    decide(_001="reject", _002="accept").to_csv(paths[1], index=False)
    reviews = read_reviews(paths, QUEUE, rater="Bo")
    found = {(r.item_id, r.rater): r.decision for r in reviews.itertuples()}
    assert found == {
        ("001", "Ada"): "accept",
        ("001", "Bo"): "reject",
        ("002", "Bo"): "accept",
        (SAMPLED, "Bo"): "open",
    }


@pytest.mark.parametrize(
    "decision, new_title, expected, told",
    [
        ("accept", "", ("accept", "Blue kite"), ""),
        ("", "", ("open", None), ""),
        ("", "Kite", ("edit", "Kite"), "the new title is taken"),
        ("accept", "Kite", ("edit", "Kite"), "the new title is taken"),
        ("edit", "Kite", ("edit", "Kite"), ""),
        ("edit", "Blue  kite", ("accept", "Blue kite"), ""),
        ("edit", "", ("open", None), "has no new title"),
        ("reject", "Kite", ("reject", None), "stays rejected"),
        ("perhaps", "", ("open", None), "other than accept"),
        ("perhaps", "Kite", ("open", None), "other than accept"),
    ],
)
def test_two_cells_that_may_not_agree(decision, new_title, expected, told):
    reviews = read_reviews(decide(_001=(decision, new_title)), QUEUE)
    assert outcome(reviews)["001"] == expected
    assert told in " ".join(reviews.attrs["notes"]) and bool(told) == bool(reviews.attrs["notes"])


@pytest.mark.parametrize(
    "word, decision", [("A", "accept"), ("Accepted.", "accept"), ("\xa0edit ", "edit"), ("OK", "accept")]
)
@pytest.mark.parametrize("case", [str, str.upper, str.lower])
def test_a_word_in_any_case(word, decision, case):
    assert read_decision(case(word)) == decision


def test_hostile_titles_come_back_whole(tmp_path):
    queue = review_queue(suggested(HOSTILE, ["withheld"] * len(HOSTILE)))
    sheet = queue_for_people(queue).assign(decision="accept")
    path = write_queue(queue.assign(decision="accept"), tmp_path / "review.csv")
    for source in (path, sheet):
        reviews = read_reviews(source, queue)
        assert set(reviews["decision"]) == {"accept"} and reviews.attrs["notes"] == []
        assert (
            reviews.set_index("item_id")["title"].to_dict()
            == queue.set_index("item_id")["suggestion"].to_dict()
        )


@settings(max_examples=200)
@given(st.text(max_size=8), st.text(max_size=12), st.text(min_size=1, max_size=12))
def test_a_title_comes_only_from_an_acceptance_or_an_edit(word, new_title, shown):
    decision, title, _ = agreed_decision(read_decision(word), new_title, shown)
    assert decision in ("accept", "edit", "reject", "open")
    assert (title is None) == (decision in ("reject", "open"))
    assert title is None or title in (shown, new_title.strip())


def test_a_line_that_cannot_be_split_is_told(tmp_path):
    lines = decide(_001="accept").to_csv(index=False).splitlines()
    path = tmp_path / "review.csv"
    path.write_text("\n".join([*lines, "only,three,cells"]), "utf-8")
    reviews = read_reviews(path, QUEUE)
    assert outcome(reviews)["001"][0] == "accept"
    assert "has 3 cells" in reviews.attrs["notes"][0]


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a reviewed file has decision, and code or item_id"):
        read_reviews(SHEET.drop(columns="decision"), QUEUE)
    with pytest.raises(ValueError, match="a reviewed file has decision"):
        read_reviews(SHEET.drop(columns=["code", "item_id"]), QUEUE)
    with pytest.raises(ValueError, match="queue has no column 'status'"):
        read_reviews(SHEET, SHEET)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="no header"):
        read_reviews(tmp_path / "empty.csv", QUEUE)
