"""Files of products from strangers: their columns, cells, encodings and broken lines."""

import gzip
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmpc_analysis.catalogue.cells import cell_text
from mmpc_analysis.catalogue.delimited import split_lines
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.listings import read_listings
from mmpc_analysis.catalogue.profiles import map_columns


def write(folder, text, name="items.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


# ---------------------------------------------------------------- columns and cells


def test_columns_are_recognised_by_common_names():
    assert map_columns(["ASIN", "Product-Title", "Image URL", "Department", "Price"]) == {
        "item_id": "ASIN", "title": "Product-Title", "image": "Image URL", "category": "Department",
    }  # fmt: skip
    assert map_columns(["id", "name"], {"title": "id"}) == {"title": "id"}


def test_a_column_serves_once_unless_the_user_says_otherwise():
    assert map_columns(["file"], {"item_id": "file", "image": "file"}) == {"item_id": "file", "image": "file"}
    assert map_columns(["file"], {"item_id": "file"}) == {"item_id": "file"}


@given(
    st.one_of(
        st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text()), st.booleans(), st.binary()
    )
)
def test_a_cell_is_text_that_utf8_can_store_or_refused(value):
    try:
        text = cell_text(value, ", ")
    except ValueError:
        return
    assert text is None or (text == text.strip() and text and text.encode())


def test_ids_stay_the_text_they_are_and_so_do_titles_that_are_no_placeholders(tmp_path):
    path = write(
        tmp_path, "id,title\n007,None\n0008,NA\n9e5,null\n1.0,nan\ntrue,1984\nN/A,None but the Brave\n"
    )
    catalogue = load_catalogue(path)
    assert catalogue.items[["item_id", "title"]].values.tolist() == [
        ["N/A", "None but the Brave"],
        ["true", "1984"],
    ]
    assert catalogue.set_aside["item_id"].tolist() == ["007", "0008", "9e5", "1.0"]
    items = load_catalogue(path, placeholders=()).items
    assert dict(zip(items["item_id"], items["title"], strict=True)) == {
        "007": "None", "0008": "NA", "9e5": "null", "1.0": "nan", "true": "1984", "N/A": "None but the Brave",
    }  # fmt: skip


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("encoding", "noted"), [("utf-8", False), ("utf-8-sig", False), ("utf-16", False), ("cp1252", True)]
)
def test_encodings(tmp_path, encoding, noted):
    catalogue = load_catalogue(
        write(tmp_path, "sku;titel\nä1;Flöte\n", encoding=encoding), columns={"title": "titel"}
    )
    assert catalogue.items["title"].tolist() == ["Flöte"]
    assert ("Windows-1252" in catalogue.note) is noted


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(tmp_path, separator, newline):
    rows = [["sku", "name", "brand"], ["1", '"a, b; c"', "x"], ["2", "d", ""]]
    path = write(tmp_path, newline.join(separator.join(row) for row in rows))
    items = load_catalogue(path).items
    assert items["title"].tolist() == ["a, b; c", "d"]
    assert items["brand"].isna().tolist() == [False, True]


def test_a_tsv_is_split_by_tabs_whatever_its_header_holds(tmp_path):
    path = write(tmp_path, "id\ttitle, in full, as sold\n1\tKite\n", "items.tsv")
    assert load_catalogue(path, columns={"title": "title, in full, as sold"}).items["title"].tolist() == [
        "Kite"
    ]


def test_an_unclosed_quote_costs_one_line(tmp_path):
    lines = ["id,title"] + [f"{i},Title {i}" for i in range(500)]
    lines[201] = '200,"Title 200'
    catalogue = load_catalogue(write(tmp_path, "\n".join(lines)))
    assert len(catalogue.items) == 499
    assert catalogue.set_aside["row"].tolist() == [202]
    assert catalogue.set_aside["kept"].tolist() == [False]


def test_a_table_aligned_with_blanks_is_read():
    lines = [
        'sku  ,"name"  , brand \r\n',
        '1    ,"a, b"  , x\r\n',
        '2    ,"c"     ,"y" \r\n',
        '3,"d" e,z\r\n',
        '4 , "f", g',
    ]
    found = dict(split_lines(lines, ","))
    assert [cell.strip() for cell in found[1]] == ["sku", "name", "brand"]
    assert [cell.strip() for cell in found[2]] == ["1", "a, b", "x"]
    assert [cell.strip() for cell in found[3]] == ["2", "c", "y"]
    assert "cannot be split" in found[4] and found[5] == ["4 ", "f", "g"]


def test_a_file_of_nothing_but_trouble_is_read_in_time(tmp_path):
    import time

    lines = ["id,title"] + ['1,"a" b', "2,a,b"] * 30_000
    start = time.perf_counter()
    assert sum(isinstance(cells, str) for _, cells in split_lines(lines, ",")) == 60_000
    assert time.perf_counter() - start < 10


def test_lines_over_lines_and_wrong_widths():
    lines = [
        "id,title\n",
        '1,"two\n',
        'lines"\n',
        "\n",
        "2,a,b\n",
        "3\n",
        '4,"say ""hi"""\n',
        '5,"x"y\n',
        "6,z\n",
    ]
    found = dict(split_lines(lines, ","))
    assert found[2] == ["1", "two\nlines"]
    assert found[5] == "has 3 cells, the header has 2"
    assert found[6] == "has 1 cells, the header has 2"
    assert found[7] == ["4", 'say "hi"']
    assert found[8].startswith("cannot be split")
    assert found[9] == ["6", "z"]
    assert set(found) == {1, 2, 5, 6, 7, 8, 9}


@settings(deadline=None)
@given(st.lists(st.text(alphabet='a,"\n\r;é', max_size=12), min_size=1, max_size=30))
def test_every_line_is_a_record_a_complaint_or_blank(texts):
    import io

    lines = list(io.StringIO("h,i\n" + "\n".join(texts), newline=""))
    seen = [line for line, _ in split_lines(lines, ",")]
    assert seen == sorted(set(seen))
    covered, at = set(), 0
    for line, cells in split_lines(lines, ","):
        height = (
            1
            if isinstance(cells, str)
            else 1
            + sum(c.replace("\r\n", "\n").count("\n") + c.replace("\r\n", "").count("\r") for c in cells)
        )
        covered |= set(range(line, line + height))
        at = line
    assert at <= len(lines)
    assert all(not lines[n - 1].strip("\r\n") for n in set(range(1, len(lines) + 1)) - covered)


def test_json_lines_say_what_is_wrong_with_each_line(tmp_path):
    rows = [
        '{"sku": 7, "name": "Seven", "tags": ["red", "soft"]}',
        "{broken",
        "[1, 2]",
        '"text"',
        "",
        '{"sku": "b", "name": ["a", "list"], "image": null}',
        '{"sku": "c", "name": "half \\ud83d"}',
        '{"sku": {"x": 1}, "name": "n"}',
        '{"sku": "d", "name": NaN}',
        "[" * 100_000,
        '{"sku": "e", "name": 1984, "price": 3}',
    ]
    catalogue = load_catalogue(write(tmp_path, "\n".join(rows), "items.jsonl"))
    assert catalogue.items["item_id"].tolist() == ["7", "e"]
    assert catalogue.items["keywords"].tolist()[0] == "red, soft"
    assert catalogue.items["title"].tolist() == ["Seven", "1984"]
    aside = catalogue.set_aside.set_index("row")
    assert aside.index.tolist() == [2, 3, 4, 6, 7, 8, 9, 10]
    assert aside["reason"].str.len().gt(0).all() and aside["remedy"].str.len().gt(0).all()
    assert "expected an object" in aside.loc[4, "reason"]
    assert aside.loc[6, "column"] == "title" and "is a list" in aside.loc[6, "reason"]
    assert not aside["kept"].any()


def test_a_line_that_says_null_is_set_aside_and_a_blank_one_is_none(tmp_path):
    path = write(tmp_path, 'null\n\n{"sku": "a", "name": "Kite"}\n', "items.jsonl")
    rows = read_listings(path).rows
    assert [(line, wrong) for line, _, wrong in rows] == [
        (1, {"": "is a NoneType, expected an object"}),
        (3, {}),
    ]


def test_gzip_and_a_damaged_gzip(tmp_path):
    text = "".join(json.dumps({"id": str(i), "title": f"T{i}"}) + "\n" for i in range(5000)).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    assert len(load_catalogue(tmp_path / "a.jsonl.gz").items) == 5000
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text)[:-2000])
    with pytest.raises(ValueError, match="copy it again"):
        load_catalogue(tmp_path / "b.jsonl.gz")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"id,title\n1,a\n"))
    assert len(load_catalogue(tmp_path / "c.csv.gz").items) == 1
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(text)[:-2000])
    with pytest.raises(ValueError, match="copy it again"):
        load_catalogue(tmp_path / "d.csv.gz")


def test_parquet_keeps_ids_and_reads_lists(tmp_path):
    frame = pd.DataFrame(
        {"sku": [7, 8], "title": ["a", None], "features": [["x", "y"], []], "photo": [None, "p.png"]}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    Image.new("RGB", (6, 4), "red").save(tmp_path / "p.png")
    items = load_catalogue(tmp_path / "a.parquet").items
    assert items["item_id"].tolist() == ["7", "8"]
    assert items["keywords"].tolist()[0] == "x, y" and items["keywords"].isna()[1]
    assert items["image"].tolist()[1] == "p.png"
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-50])
    with pytest.raises(ValueError):
        load_catalogue(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no header"),
        ("a,a\n1,2\n", "column 'a' twice"),
        ("price\n3\n", "no column can be the item_id"),
    ],
)
def test_a_file_without_a_sense_says_so(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        load_catalogue(write(tmp_path, text))


def test_a_frame_with_a_column_twice_says_so():
    with pytest.raises(ValueError, match="a column twice among id, title, title"):
        load_catalogue(pd.DataFrame([["1", "a", "b"]], columns=["id", "title", "title"]))


# ---------------------------------------------------------------- HTML entities

ESCAPED = {
    "Black &amp; Decker &#39;Pro&#39; Drill": "Black & Decker 'Pro' Drill",
    "Salt &amp;amp; Pepper Mill": "Salt & Pepper Mill",
    "Pan 12&quot;, &frac12; price": 'Pan 12", ½ price',
    "Caf&eacute;&nbsp;Mug &#x2615;": "Café Mug ☕",
    "Cr&#232;me &ndash; 5 &lt; 6": "Crème – 5 < 6",  # noqa: RUF001
    "AT&T Phone, R&D; &unheardof;": "AT&T Phone, R&D; &unheardof;",
}


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "frame"])
def test_html_entities_are_written_out_and_counted(tmp_path, form):
    from mmpc_analysis.metrics.words import token_f1

    table = pd.DataFrame(
        {"id": [f"B{k}" for k in range(len(ESCAPED))], "title": list(ESCAPED), "brand": "Black &amp; Decker"}
    )
    source = tmp_path / f"feed.{form}"
    if form in ("csv", "tsv"):
        table.to_csv(source, index=False, sep="," if form == "csv" else "\t")
    elif form == "jsonl":
        table.to_json(source, orient="records", lines=True)
    elif form == "parquet":
        table.to_parquet(source)
    catalogue = load_catalogue(table if form == "frame" else source)
    titles = catalogue.items.set_index("item_id")["title"]
    assert titles.tolist() == list(ESCAPED.values())
    assert set(catalogue.items["brand"]) == {"Black & Decker"}
    assert (
        f"HTML entities such as &amp; were written out, cells: 5 of title, {len(ESCAPED)} of brand."
        in catalogue.note
    )
    assert token_f1(["Black & Decker 'Pro' Drill"], [titles["B0"]]).tolist() == [1]


def test_without_entities_there_is_no_note_and_ids_and_pictures_are_left_alone(tmp_path):
    table = pd.DataFrame({"id": ["A&amp;B"], "title": ["Mug &unheardof;"], "image": ["a&amp;b.jpg"]})
    catalogue = load_catalogue(table, root=tmp_path, check_pictures="none")
    assert catalogue.items["item_id"].tolist() == ["A&amp;B"] and "entities" not in catalogue.note
    assert load_catalogue(
        pd.DataFrame({"id": ["1", "2"], "title": ["&nbsp;", "Mug"], "image": None}), root=tmp_path
    ).items["title"].tolist() == ["Mug"]
