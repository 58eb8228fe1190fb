"""Lines with separators: quotes that mean something or nothing, broken lines, and the time they take."""

import csv
import gzip
import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.delimited import header_names, read_delimited, split_lines, split_tabs
from mmpc_analysis.catalogue.records import read_records


def rows(path, **kwargs):
    return [row for _, row in read_records(path, **kwargs).rows(None)]


def write(path, text, encoding="utf-8"):
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


TITLES = ['"Deluxe pan', "Small pan", 'Pan 12"', '5" x 7" "frame"', 'a "b" c']


@pytest.mark.parametrize("name", ["a.tsv", "a.tab", "a.txt", "a.tsv.gz"])
@pytest.mark.parametrize(
    "titles", [TITLES, ['"Deluxe pan', 'Small pan"'], ['"', '""', '"x"y'], ['say "hi', "b", 'c"']]
)
def test_quotes_of_a_feed_mean_nothing(tmp_path, name, titles):
    text = "id\ttitle\tprice\n" + "".join(f"{n}\t{title}\t1\n" for n, title in enumerate(titles))
    assert [row["title"] for row in rows(write(tmp_path / name, text))] == titles


@pytest.mark.parametrize("cell", ["two\nlines", "a\tb", 'a "b"\nc', "one\n\ntwo", 'x"\t"y'])
def test_quotes_of_a_spreadsheet_with_tabs_hold_its_cells_together(tmp_path, cell):
    file = io.StringIO()
    csv.writer(file, dialect="excel-tab", lineterminator="\r\n").writerows(
        [["id", "title"], ["1", cell], ["2", "plain"], ["3", 'an "inner" one']]
    )
    assert [row["title"] for row in rows(write(tmp_path / "a.tsv", file.getvalue()))] == [
        cell,
        "plain",
        'an "inner" one',
    ]


def test_a_broken_line_does_not_change_what_quotes_mean(tmp_path):
    sheet = 'id\ttitle\n1\t"two\nlines"\n2\n3\t"a\tb"\n4\t"c\nd"\n'
    found = list(read_records(write(tmp_path / "a.tsv", sheet)).rows(None))
    assert [place for place, _ in found] == [2, 4, 5, 6]
    assert found[1][1] == "has 1 cells, the header has 2" and found[3][1]["title"] == "c\nd"
    feed = 'id\ttitle\n1\t"Deluxe pan\n2\n3\tSmall pan\n'
    found = list(read_records(write(tmp_path / "b.tsv", feed)).rows(None))
    assert [place for place, _ in found] == [2, 3, 4] and found[0][1]["title"] == '"Deluxe pan'


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\t\r\n\0", exclude_categories=["Cs"]), max_size=6),
            min_size=2,
            max_size=2,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_plain_cells_between_tabs_come_back_unless_a_program_enclosed_them_all(cells):
    lines = ["id\ttitle\n", *("\t".join(row) + "\n" for row in cells)]
    found = [row for _, row in split_tabs(lambda: iter(lines))][1:]
    expected = [row for row in cells if "".join(row).strip() or "\t".join(row).strip()]
    opened = [cell for row in cells for cell in row if cell.startswith('"')]
    whole = [len(c) > 1 and c.endswith('"') and '"' not in c[1:-1].replace('""', "") for c in opened]
    if opened and all(whole):
        expected = [[c[1:-1].replace('""', '"') if c.startswith('"') else c for c in row] for row in expected]
    assert found == expected


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
def test_a_first_line_names_the_separator(tmp_path, first, encoding):
    path = write(
        tmp_path / "a.csv", f'{first}\r\nid;title, long\r\n1;"Flöte;\r\nrot"\r\n2;a,b,c\r\n', encoding
    )
    found = list(read_records(path).rows(None))
    assert found == [
        (3, {"id": "1", "title, long": "Flöte;\r\nrot"}),
        (5, {"id": "2", "title, long": "a,b,c"}),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id;title;price, EUR\n1;Kite, red;9,99\n", ["id", "title", "price, EUR"]),
        ("id,title; long,price\n1,a;b;c,2\n", ["id", "title; long", "price"]),
        ("id|title, a, b|price\n1|Kite|2\n", ["id", "title, a, b", "price"]),
        ("title\nKite, red\n", ["title"]),
        ('"id";"a;b"\n1;2\n', ["id", "a;b"]),
    ],
)
def test_the_separator_is_what_makes_an_even_table(tmp_path, text, names):
    assert read_records(write(tmp_path / "a.csv", text)).names == names


def test_a_zero_byte_costs_its_line(tmp_path):
    found = list(read_records(write(tmp_path / "a.csv", "id,title\n1,Ki\0te\n2,Pan\n")).rows(None))
    assert found == [(2, "holds a zero byte, which is no text"), (3, {"id": "2", "title": "Pan"})]
    found = list(read_records(write(tmp_path / "a.tsv", "id\ttitle\n1\tKi\0te\n2\tPan\n")).rows(None))
    assert found[0][1].startswith("holds a zero byte") and found[1][1]["id"] == "2"


@pytest.mark.parametrize(
    "line",
    ['a,x","\n', '1,"open\n', '1,"a" b\n', '"""\n', 'x,"a\n', "2,a,b\n", 'a,"b""\n', '",\n'],
    ids=range(8),
)
def test_any_trouble_is_read_in_a_time_that_grows_with_the_file(line):
    "Ten times the lines take about ten times as long, also where every line opens a quote that never closes."

    def seconds(count):
        began = time.process_time()
        seen = sum(1 for _ in split_lines(["id,title\n", *[line] * count, "9,z\n"], ","))
        assert seen
        return time.process_time() - began

    seconds(1000)
    assert seconds(40_000) < 5


def test_a_cell_of_any_legal_length_and_lines_is_one_record():
    long = "line\n" * 20_000  # 100,000 characters
    lines = list(io.StringIO(f'id,text\n1,"{long}"\n2,b\n', newline=""))
    assert [cells for _, cells in split_lines(lines, ",")] == [["id", "text"], ["1", long], ["2", "b"]]


def test_lines_are_read_one_by_one():
    "The reader takes no more lines than the record in hand, so a file is never held."
    taken = []

    def lines():
        for n in range(1000):
            taken.append(n)
            yield f"{n},x\n"

    records = split_lines(lines(), ",")
    next(records), next(records)
    assert len(taken) == 2


@pytest.mark.parametrize("text", ["", "\n\n", ",,\n1,2,3\n", "a,a\n1,2\n"])
def test_a_header_without_names_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"has no header|twice"):
        read_delimited(write(tmp_path / "a.csv", text), [])


def test_a_header_of_very_many_columns_is_read_in_time(tmp_path):
    names = [f"c{n}" for n in range(60_000)]
    started = time.process_time()
    assert header_names(names, "a.csv") == names
    with pytest.raises(ValueError, match="'c7' twice"):
        header_names([*names, "c7"], "a.csv")
    assert time.process_time() - started < 5  # The square of their number would take minutes
