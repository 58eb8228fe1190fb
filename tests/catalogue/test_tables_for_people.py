"""CSV files that people open in a spreadsheet: no cell of a stranger's runs there, and nothing is lost."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.tables_for_people import (
    csv_for_people,
    neutral_cell,
    plain_cell,
    read_people_csv,
)


@pytest.mark.parametrize(
    "cell",
    ['=HYPERLINK("http://evil","click")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\ttext", " =1", '"=1', "'=1", "＝1", "＋1", "－1", "＠A", "\ufeff=1", "\u200b=1", "\xa0=1", "-", "=", "+49 30 1234", "-5kg", "|cmd"],  # noqa: RUF001
)  # fmt: skip
def test_what_a_spreadsheet_would_run_is_text(cell):
    assert neutral_cell(cell) == "'" + cell and plain_cell("'" + cell) == cell


@pytest.mark.parametrize(
    "cell",
    [
        "-5",
        "+3.5",
        "-1,234.5",
        "-1e5",
        "+50%",
        "Kite",
        "a=b",
        "5-6",
        "",
        "'tis",
        "3 + 4",
        "a@b.example",
        -5,
        3.5,
        None,
        True,
    ],
)
def test_numbers_and_words_stay_as_they_are(cell):
    assert neutral_cell(cell) is cell


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("'\"=+-@ \t\r\n5.a＝"), max_size=6))  # noqa: RUF001
def test_the_apostrophe_comes_off_exactly(cell):
    assert plain_cell(neutral_cell(cell)) == cell
    shown = neutral_cell(cell)
    assert (
        not shown.startswith(("=", "+", "-", "@", "\t", "\r"))
        or shown.lstrip("+-").replace(".", "").isdigit()
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8),
            st.integers(-9, 9),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_table_comes_back_as_text(rows):
    frame = pd.DataFrame(rows, columns=["=title", "n"])
    text = csv_for_people(frame)
    assert read_people_csv(text).to_numpy().tolist() == [[title, str(n)] for title, n in rows]
    assert read_people_csv(text).columns.tolist() == ["=title", "n"]
    for row in csv.reader(io.StringIO(text)):
        assert not any(cell.startswith(("=", "@", "\t")) for cell in row)


def test_what_was_set_aside_cannot_run_and_is_shown_as_it_was(tmp_path):
    "A shop's formula, through the catalogue and its file of rows set aside."
    from mmpc_analysis.catalogue.items import load_catalogue

    items = pd.DataFrame(
        {"item_id": ["=1+1", "=1+1", "b"], "title": ['=HYPERLINK("http://evil","click")', "x", "Kite"]}
    )
    aside = load_catalogue(items).set_aside
    text = csv_for_people(aside)
    assert "=1+1" in aside["item_id"].tolist() and ",'=1+1," in text and ",=1+1," not in text
    assert "=1+1" in read_people_csv(text)["item_id"].tolist()


@pytest.mark.parametrize("text", ["x\r=1+1", "Kite\r\n=cmd|' /C calc'!A0", 'a"\r@SUM(1)', "\r"])
def test_a_carriage_return_starts_no_cell(text):
    frame = pd.DataFrame({"title": [text, "Kite"], "row": [1, 2]})
    written = csv_for_people(frame)
    records = list(csv.reader(io.StringIO(written, newline="")))  # Which ends a record at a bare one too
    assert [len(cells) for cells in records] == [2, 2, 2] and not any(
        cell[:1] in "=+-@" for cells in records for cell in cells if cell
    )
    assert read_people_csv(written)["title"].tolist() == [text, "Kite"]


@pytest.mark.parametrize(
    "start", ["\u2060", "\xad", "\u202e", "\x00", "\u180e", "\u200e", "\u2066", "﹦", "﹢", "﹣", "﹫"]
)
def test_what_nobody_sees_and_small_forms_hide_no_formula(start):
    cell = f"{start}=1+1"
    assert neutral_cell(cell) == f"'{cell}" and plain_cell(f"'{cell}") == cell
