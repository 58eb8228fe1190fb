"""A file comes back with its gaps filled, and every other byte of it as it was."""

import gzip
import io
import json
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.fill.plain_files import write_plain

NEW = ["title_source", "title_model", "title_confidence", "title_checked"]
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def titles_of(catalogue, words="New kite", **more):
    "A title for every gap of a catalogue."
    ids = catalogue.items.loc[catalogue.items["title"].isna(), "item_id"]
    titles = pd.DataFrame({"item_id": ids, "title": [f"{words} {i}" for i in ids]})
    return titles.assign(**{"model": "m-1", "confidence": 0.97, "checked": False} | more)


def fill_bytes(folder, data, name="shop.csv", encoding=None, **more):
    "What becomes of a file of these bytes: the result, its bytes, the catalogue before, and the titles."
    path = Path(folder, name)
    path.write_bytes(data)
    catalogue = load_catalogue(path, encoding=encoding)
    titles = titles_of(catalogue, **more)
    done = write_plain(path, catalogue, titles, Path(folder, "filled"), encoding)
    assert path.read_bytes() == data
    assert sorted(p.name for p in Path(folder, "filled").iterdir()) == [Path(done.path).name]
    return done, Path(done.path).read_bytes(), catalogue, titles


def check_products(done, before, titles, encoding=None):
    "Read what was written: the same products, with the new titles."
    after = load_catalogue(done.path, encoding=encoding)
    expected = before.items.set_index("item_id")
    expected.loc[titles["item_id"], "title"] = titles["title"].tolist()
    pd.testing.assert_frame_equal(after.items.set_index("item_id"), expected)
    return after


# --- text with separators ---------------------------------------------------------------------------------------------

LETTERS = "abc XYZ.'5"
WIDE = {
    "utf-8": "é日😀",
    "cp1252": "é€",
    "gb18030": "é日€😀",
    "cp932": "日ア",
    "utf-16": "é日😀",
    "utf-16-le": "é日",
    "cp1251": "жЯ",
}


@st.composite
def delimited(draw):
    "A file, the same filled as the rules say, its encoding, and how many rows are filled."
    encoding = draw(st.sampled_from([*WIDE, "utf-8-sig"]))
    tabs = draw(st.booleans())
    told = not tabs and draw(st.booleans())
    separator = "\t" if tabs else draw(st.sampled_from(",;|"))
    quoted = not tabs and draw(st.booleans())
    text = st.text(LETTERS + WIDE.get(encoding, "é"), max_size=6)
    special = (
        st.sampled_from([separator, '"', 'x"y', "a\nb", "a\r\nb", " b"]) if not tabs else st.just('5" x')
    )
    end = st.sampled_from(["\n", "\r\n", "\r"])

    def cell(value, force=False):
        must = any(c in value for c in (separator, '"', "\n", "\r")) or value != value.strip() or force
        return '"' + value.replace('"', '""') + '"' if not tabs and (must or draw(st.booleans())) else value

    def both(line):
        before.append(line), after.append(line)

    before, after, filled = [], [], 0
    both(f"sep={separator}" + draw(end) if told else "")
    header = separator.join(f'"{n}"' if quoted else n for n in ("id", "title", "image", "note"))
    last = draw(end)
    both(header)
    after.append("".join(separator + (f'"{n}"' if quoted else n) for n in NEW))
    both(last)
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["gap", "gap", "title", "broken", "blank", "again"]))
        last = draw(end)
        if kind == "blank":
            both(last)
            continue
        if kind == "broken":
            cells = draw(st.sampled_from([2, 3, 6, 8]))
            both(separator.join(["x"] * cells))
            after.append("".join(separator + ('""' if quoted else "") for _ in NEW) if cells == 8 else "")
            both(last)
            continue
        name = "again" if kind == "again" else f"i{number}"
        seen = "again" in "".join(before)
        image, note = f"https://a.b/{number}.jpg", cell(draw(st.one_of(text, special)))
        title = "" if kind != "title" else "T" + draw(text).strip()
        raw = cell(title)
        new, marks = raw, [""] * 4
        if kind == "gap" or (kind == "again" and not seen):
            new = f"New kite {name}"
            filled += 1
            marks = ["model", "m-1", "0.97", "no"]
            new = f'"{new}"' if quoted or raw.startswith('"') else new
        marks = [f'"{m}"' if quoted else m for m in marks]
        start, rest = cell(name) + separator, separator + cell(image) + separator + note
        both(start)
        before.append(raw), after.append(new)
        both(rest)
        after.append("".join(separator + m for m in marks))
        both(last)
    if draw(st.booleans()) and not before[-1].strip("\r\n"):
        before.pop(), after.pop()  # No line end at the end of the file
    data = ["".join(parts).encode(encoding) for parts in (before, after)]
    return data[0], data[1], encoding, filled, tabs


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(delimited())
def test_a_text_file_keeps_every_other_byte(tmp_path_factory, case):
    data, expected, encoding, filled, tabs = case
    if not filled:
        return
    folder = tmp_path_factory.mktemp("shop")
    done, found, before, titles = fill_bytes(folder, data, "shop.tsv" if tabs else "shop.csv", encoding)
    assert len(titles) == filled == done.rows, done.notes
    assert found == expected, done.notes
    after = check_products(done, before, titles, encoding)
    assert before.set_aside["row"].tolist() == after.set_aside["row"].tolist()


def test_a_packed_file_stays_packed(tmp_path):
    data = b"id,title,image\n1,,https://a.b/1.jpg\n"
    done, found, before, titles = fill_bytes(tmp_path, gzip.compress(data), "shop.csv.gz")
    assert gzip.decompress(found) == (
        b"id,title,image,title_source,title_model,title_confidence,title_checked\n"
        b"1,New kite 1,https://a.b/1.jpg,model,m-1,0.97,no\n"
    )
    assert Path(done.path).name == "shop-filled.csv.gz"
    check_products(done, before, titles)


def test_signs_that_can_be_written_in_two_ways_keep_their_bytes(tmp_path):
    twice = b"\xfa\x4a\x81\xca"  # Of Windows' Shift_JIS, each has another spelling that Python would write
    assert twice.decode("cp932").encode("cp932") != twice
    data = (
        b"id,title,image,note\r\n1,,https://a.b/1.jpg," + twice + b"\r\n2,," + b"https://a.b/2.jpg," + twice
    )
    _, found, _, _ = fill_bytes(tmp_path, data, encoding="cp932")
    head = b"id,title,image,note,title_source,title_model,title_confidence,title_checked\r\n"
    rows = [b"%d,New kite %d,https://a.b/%d.jpg,%s,model,m-1,0.97,no" % (n, n, n, twice) for n in (1, 2)]
    assert found == head + b"\r\n".join(rows)


def test_a_title_that_the_encoding_cannot_write_is_told(tmp_path):
    data = "id,title,image\n1,,https://a.b/1.jpg\n2,,https://a.b/é.jpg\n".encode("cp1252")
    path = tmp_path / "shop.csv"
    path.write_bytes(data)
    catalogue = load_catalogue(path, encoding="cp1252")
    titles = titles_of(catalogue)
    titles.loc[titles["item_id"] == "1", "title"] = "日本の凧"
    done = write_plain(path, catalogue, titles, tmp_path / "out", "cp1252")
    lines = Path(done.path).read_bytes().decode("cp1252").splitlines()
    assert lines[1:] == ["1,,https://a.b/1.jpg,,,,", "2,New kite 2,https://a.b/é.jpg,model,m-1,0.97,no"]
    assert done.rows == 1
    assert [n for n in done.notes if n.startswith("No title was written for 1: its title has '日'")]


def test_damaged_lines_and_cells_stay_as_they_are(tmp_path):
    rows = b"".join(b"g%d,Kit\xc3\xa9,https://a.b/g%d.jpg\n" % (n, n) for n in range(30))
    bad = b"b1,Kit\xe9,https://a.b/b1.jpg\n" + b'b2,"open,https://a.b/b2.jpg\n'
    done, found, _, _ = fill_bytes(tmp_path, b"id,title,image\n" + rows + bad + b"a,,https://a.b/a.jpg\n")
    assert (
        found.splitlines()[31] == b"b1,Kit\xe9,https://a.b/b1.jpg,,,,"
    )  # A title stands there, though damaged
    assert found.splitlines()[32] == b'b2,"open,https://a.b/b2.jpg'
    assert found.splitlines()[33] == b"a,New kite a,https://a.b/a.jpg,model,m-1,0.97,no"
    assert done.rows == 1 and "No title was written for b1" in done.notes[0]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "xlsx", "parquet"])
def test_a_second_fill_continues_the_columns(tmp_path, kind):
    shop = pd.DataFrame(
        {"id": list("abc"), "title": ["Kite", None, None], "image": [f"https://a.b/{c}.jpg" for c in "abc"]}
    )
    path = tmp_path / f"shop.{kind}"
    if kind in ("csv", "tsv"):
        shop.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind in ("jsonl", "json"):
        shop.to_json(path, orient="records", lines=kind == "jsonl")
    else:
        shop.to_parquet(path) if kind == "parquet" else shop.to_excel(path, index=False)
    first = load_catalogue(path)
    titles = titles_of(first).set_index("item_id", drop=False)
    once = write_plain(path, first, titles.loc[["b"]], tmp_path / "1")
    again = load_catalogue(once.path)
    assert again.items["title"].isna().tolist() == [False, False, True]
    twice = write_plain(once.path, again, titles.loc[["c"]].assign(model=None, checked=True), tmp_path / "2")
    last = load_catalogue(twice.path)
    assert last.items["title"].tolist() == ["Kite", "New kite b", "New kite c"]
    from mmpc_analysis.catalogue.records import read_records

    records = read_records(twice.path)
    assert records.names == ["id", "title", "image", *NEW]
    marks = [tuple(str(row.get(name) or "") for name in NEW) for _, row in records.rows(None)]
    assert marks == [("",) * 4, ("model", "m-1", "0.97", "no"), ("person", "", "0.97", "yes")]


def test_columns_of_the_shop_are_not_taken_for_ours(tmp_path):
    data = b"id,title,image,title_source\n1,,https://a.b/1.jpg,import\n"
    _, found, _, _ = fill_bytes(tmp_path, data)
    assert found == (
        b"id,title,image,title_source,mmpc_title_source,mmpc_title_model,mmpc_title_confidence,mmpc_title_checked\n"
        b"1,New kite 1,https://a.b/1.jpg,import,model,m-1,0.97,no\n"
    )


def test_only_the_row_that_was_read_is_filled(tmp_path):
    data = b"id,title,image\n1,,\n1,,https://a.b/1.jpg\n1,,https://a.b/2.jpg\n"
    _, found, _, _ = fill_bytes(tmp_path, data)
    assert found.splitlines()[1:] == [
        b"1,,,,,,",
        b"1,New kite 1,https://a.b/1.jpg,model,m-1,0.97,no",
        b"1,,https://a.b/2.jpg,,,,",
    ]


def test_a_file_without_titles_or_ids_gets_a_column(tmp_path):
    _, found, _, _ = fill_bytes(tmp_path, b"image\nhttps://a.b/one.jpg\n")
    assert found.splitlines()[0] == b"image,title," + ",".join(NEW).encode()
    assert found.splitlines()[1] == b"https://a.b/one.jpg,New kite one,model,m-1,0.97,no"


def test_a_placeholder_is_written_over_and_told(tmp_path):
    data = b"id,title,image\n1,N/A,https://a.b/1.jpg\n2,tba,https://a.b/2.jpg\n3,Kite,https://a.b/3.jpg\n"
    done, found, _, _ = fill_bytes(tmp_path, data)
    assert found.splitlines()[1].startswith(b"1,New kite 1,")
    assert any("written over" in note and "'N/A'" in note for note in done.notes)
    assert found.splitlines()[3] == b"3,Kite,https://a.b/3.jpg,,,,"


@pytest.mark.parametrize(
    "rows",
    [
        b'1\t\thttps://a.b/1.jpg\t5" disc\n',
        b'1\t\thttps://a.b/1.jpg\t"a ""b"""\n',
        b'1\t\thttps://a.b/1.jpg\t"a\nb"\n',
    ],
)
def test_quotation_marks_between_tabs_keep_their_meaning(tmp_path, rows):
    done, found, before, titles = fill_bytes(tmp_path, b"id\ttitle\timage\tnote\n" + rows, "shop.tsv")
    assert found.endswith(rows[:2] + b"New kite 1" + rows[2:-1] + b"\tmodel\tm-1\t0.97\tno\n")
    check_products(done, before, titles)
    path = tmp_path / "shop.tsv"
    titles["title"] = '"Kite"'
    done = write_plain(path, before, titles, tmp_path / "2")
    assert done.rows == 0 and "quotation mark" in done.notes[0]
    assert load_catalogue(done.path).items["title"].isna().all()


# --- JSON -------------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | st.text('aé日"\\{}[]:, ', max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text('ab"}', max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def json_objects(draw):
    "An object as text up to its title's value, from there to its end, and what it says."
    blank = st.sampled_from(["", " ", "  ", "\t"])
    given_title = draw(st.booleans())
    known = draw(st.integers(0, 2)) == 0
    members = [
        ("id", None),
        ("image", None),
        *draw(st.dictionaries(st.sampled_from(["a", "b", "title_x"]), VALUES)).items(),
    ]
    members += (
        [("title", "Kite" if known else draw(st.sampled_from([None, "", " "])))]
        if known or given_title
        else []
    )
    return draw(st.permutations(members)), [draw(blank) for _ in range(4)], draw(st.booleans()), known


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(
    st.lists(
        st.one_of(json_objects(), st.sampled_from(["", "{broken", "[1]", '"x"'])), min_size=1, max_size=5
    ),
    st.booleans(),
)
def test_json_keeps_every_other_byte(tmp_path_factory, cases, as_list):
    before, after, gaps = [], [], 0
    cases = [case for case in cases if not as_list or isinstance(case, tuple)]
    for number, case in enumerate(cases):
        if isinstance(case, str):
            before.append(case), after.append(case)
            continue
        members, (first, colon, comma, last), ascii_only, known = case
        written = lambda value, ascii_only=ascii_only: json.dumps(value, ensure_ascii=ascii_only)  # noqa: E731
        values = {"id": f"i{number}", "image": f"https://a.b/{number}.jpg"}
        shown = [[f'"{key}"{colon}:{colon}', written(values.get(key, value))] for key, value in members]
        sides = "{" + first, last + "}"
        before.append(f"{comma},{comma}".join(map("".join, shown)).join(sides))
        if not known:
            gaps += 1
            new = {
                "title": f"New kite i{number}",
                **dict(zip(NEW, ["model", "m-1", 0.97, "no"], strict=True)),
            }
            for pair, (key, _) in zip(shown, members, strict=True):
                pair[1] = json.dumps(new.pop("title")) if key == "title" else pair[1]
            shown += [[f'"{key}"{colon}:{colon}', json.dumps(value)] for key, value in new.items()]
        after.append(f"{comma},{comma}".join(map("".join, shown)).join(sides))
    if not gaps:
        return
    files = ["[" + ",\n".join(lines) + "]\n" if as_list else "\n".join(lines) for lines in (before, after)]
    folder = tmp_path_factory.mktemp("shop")
    name = "shop.json" if as_list else "shop.jsonl"
    done, found, catalogue, titles = fill_bytes(folder, files[0].encode(), name)
    assert found.decode() == files[1]
    assert done.rows == gaps
    check_products(done, catalogue, titles)


def test_a_document_with_a_list_in_it(tmp_path):
    data = '\ufeff{"count": 2, "products" : [ {"id":1,"title":"","image":"https://a.b/1.jpg", "p": 1.50}, {"id": 2, "title": "é",\n "image": ""} ]}\n'
    _, found, _, _ = fill_bytes(tmp_path, data.encode("utf-16-le"), "shop.json")
    new = '"title":"New kite 1"'
    marks = ', "title_source":"model", "title_model":"m-1", "title_confidence":0.97, "title_checked":"no"'.replace(
        ", ", ","
    )
    expected = data.replace('"title":""', new, 1).replace("1.50}", "1.50" + marks + "}")
    assert found.decode("utf-16-le") == expected


# --- workbooks, Parquet and memory ------------------------------------------------------------------------------------


def workbook(rows, **more):
    "A workbook as bytes, and a formula in it with a result that no library writes."
    from openpyxl import Workbook
    from openpyxl.styles import PatternFill

    book, file = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.active["B3"].fill = PatternFill("solid", "FFFF00")
    book.create_sheet("Notes")["A1"] = "kept"
    book.save(file)
    out = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                data = re.sub(rb"<f>(.*?)</f><v\s*/?>(</v>)?", rb"<f>\1</f><v>2</v>", data)
                for old_text, new_text in more.items():
                    data = data.replace(old_text.encode(), new_text.encode())
            new.writestr(name, data)
        new.writestr("xl/media/image1.png", b"\x89PNG a picture that libraries lose")
    return out.getvalue()


ROWS = [
    ["Price list"],
    ["id", "title", "image", "price"],
    [1, None, "https://a.b/1.jpg", "=1+1"],
    [2, "Kite", "https://a.b/2.jpg", 3],
]


def test_a_workbook_keeps_everything_else(tmp_path):
    data = workbook([*ROWS, [3, "n/a", "https://a.b/3.jpg", 4]])
    done, found, before, titles = fill_bytes(tmp_path, data, "shop.xlsx")
    assert done.rows == 2
    check_products(done, before, titles)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(io.BytesIO(found)) as new:
        assert old.namelist() == new.namelist()
        for name in old.namelist():
            if name != "xl/worksheets/sheet1.xml":
                assert old.read(name) == new.read(name), name
        sheet, was = (
            new.read("xl/worksheets/sheet1.xml").decode(),
            old.read("xl/worksheets/sheet1.xml").decode(),
        )
    without = re.sub(r'<c r="[E-H]\d+"[^>]*>.*?</c>', "", sheet)
    title = re.compile(r'<c r="B[35]".*?(?:/>|</c>)')
    bare = lambda text: title.sub("", re.sub(r' spans="[^"]*"|ref="A1:[DH]5"', "", text))  # noqa: E731
    assert bare(without) == bare(was)
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(found))
    assert [cell.value for cell in book.active[3]] == [
        1,
        "New kite 1",
        "https://a.b/1.jpg",
        "=1+1",
        "model",
        "m-1",
        0.97,
        "no",
    ]
    assert book.active["B3"].fill.fgColor.rgb == "00FFFF00"
    assert load_workbook(io.BytesIO(found), data_only=True).active["D3"].value == 2


def test_a_workbook_of_another_hand(tmp_path):
    "Elements with a prefix, cells without addresses, and notes beside the table."
    data = workbook(ROWS)
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        sheet = old.read("xl/worksheets/sheet1.xml").decode()
    sheet = re.sub(r' r="[A-Z]*\d+"', "", sheet).replace('<worksheet xmlns="', '<worksheet xmlns:x="')
    sheet = re.sub(r"<(/?)(\w)", r"<\1x:\2", sheet)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, sheet if name == "xl/worksheets/sheet1.xml" else old.read(name))
    done, _, before, titles = fill_bytes(tmp_path, out.getvalue(), "shop.xlsx")
    assert done.rows == 1
    check_products(done, before, titles)


def test_notes_beside_a_sheet_are_not_written_over(tmp_path):
    data = workbook([*ROWS, [3, None, "https://a.b/3.jpg", 4, None, "call them"]])
    done, _, _, _ = fill_bytes(tmp_path, data, "shop.xlsx")
    from openpyxl import load_workbook

    sheet = load_workbook(done.path).active
    assert [cell.value for cell in sheet[2]] == ["id", "title", "image", "price", None, None, *NEW]
    assert sheet["F5"].value == "call them" and sheet["B5"].value is None
    assert sheet["B3"].value == "New kite 1"


def test_parquet_of_the_datasets_library(tmp_path):
    import pyarrow as pa
    from PIL import Image
    from pyarrow import parquet

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")

    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}
    features["label"] = {"dtype": "int8", "_type": "Value"}
    table = pa.table(
        {
            "image": pa.array([{"bytes": file.getvalue(), "path": f"{n}.png"} for n in "abc"], struct),
            "text": pa.array(["Kite", None, None]).dictionary_encode(),
            "label": pa.array([1, 2, None], pa.int8()),
        }
    )
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}}), "own": "note"}
    )
    path = tmp_path / "shop.parquet"
    parquet.write_table(table, path, row_group_size=2, compression="zstd")
    catalogue = load_catalogue(path)
    done = write_plain(path, catalogue, titles_of(catalogue), tmp_path / "out")
    file = parquet.ParquetFile(done.path)
    assert (file.num_row_groups, file.metadata.row_group(0).column(0).compression) == (2, "ZSTD")
    result = file.read()
    assert result.select(["image", "label"]).equals(table.select(["image", "label"]))
    assert (
        result["text"].to_pylist() == ["Kite", "New kite b", "New kite c"]
        and result.schema.field("text").type == table.schema.field("text").type
    )
    told = json.loads(result.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(told) == result.column_names and told["title_confidence"]["dtype"] == "float64"
    assert result.schema.metadata[b"own"] == b"note" and done.rows == 2


def test_rows_in_memory_stay_as_they_are(tmp_path):
    shop = pd.DataFrame(
        {
            "id": ["a", "b"],
            "title": ["Kite", None],
            "image": ["https://a.b/1.jpg", "https://a.b/2.jpg"],
            "n": [1, 2],
        },
        index=[7, 9],
    )
    copy = shop.copy(deep=True)
    catalogue = load_catalogue(shop, root=tmp_path)
    done = write_plain(shop, catalogue, titles_of(catalogue), tmp_path / "out")
    pd.testing.assert_frame_equal(shop, copy)
    result = pd.read_parquet(done.path)
    pd.testing.assert_frame_equal(result[["id", "image", "n"]], shop[["id", "image", "n"]])
    assert result["title"].tolist() == ["Kite", "New kite b"] and result[
        "title_confidence"
    ].isna().tolist() == [True, False]


# --- folders ----------------------------------------------------------------------------------------------------------


def pictures(folder, *names):
    "Pictures in a folder."
    from PIL import Image

    for name in names:
        Image.new("RGB", (8, 8)).save(Path(folder, name))


def test_a_folder_of_pictures_gets_a_table(tmp_path):
    pictures(tmp_path, "=a.jpg", "b.png")
    catalogue = load_catalogue(tmp_path)
    titles = titles_of(catalogue).query("item_id == 'b'")
    done = write_plain(tmp_path, catalogue, titles, tmp_path / "filled")
    assert Path(done.path).name == "titles.csv"
    Path(done.path).rename(tmp_path / "titles.csv")
    again = load_catalogue(tmp_path).items.set_index("item_id")
    assert again["title"].fillna("").to_dict() == {"=a": "", "b": "New kite b"}
    assert not any(line.startswith(("=", "@")) for line in (tmp_path / "titles.csv").read_text().splitlines())


def test_loose_pictures_beside_a_table(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "shop.csv").write_text("id,title,image\na,,a.png\n")
    catalogue = load_catalogue(tmp_path)
    done = write_plain(tmp_path, catalogue, titles_of(catalogue), tmp_path / "filled")
    assert Path(done.path).read_text().splitlines()[1:] == ["a,New kite a,a.png,model,m-1,0.97,no"]
    assert (tmp_path / "filled" / "titles.csv").read_text().splitlines()[1:] == [
        "b,b.png,New kite b,model,m-1,0.97,no"
    ]
    assert done.rows == 2 and any("stand in no row" in note for note in done.notes)


def test_the_shipped_catalogue_with_gaps(tmp_path):
    from dataclasses import replace

    catalogue = load_catalogue()
    items = catalogue.items.assign(title=catalogue.items["title"].where(catalogue.items.index > 2, None))
    catalogue = replace(catalogue, items=items)
    done = write_plain("embedded", catalogue, titles_of(catalogue), tmp_path)
    assert done.rows == 3 and len(pd.read_csv(done.path)) == len(items)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_file_that_would_be_read_otherwise_is_not_handed_out(tmp_path, monkeypatch):
    from mmpc_analysis.fill import plain_files
    from mmpc_analysis.fill.filled_delimited import FilledRows

    def careless(source, file, fills, added, encoding):
        file.write(Path(source).read_bytes().replace(b"Kite", b"Kit"))
        return FilledRows()

    path = tmp_path / "shop.csv"
    path.write_bytes(b"id,title,image\n1,,https://a.b/1.jpg\n2,Kite,https://a.b/2.jpg\n")
    catalogue = load_catalogue(path)
    monkeypatch.setattr(plain_files, "fill_delimited", careless)
    done = write_plain(path, catalogue, titles_of(catalogue), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["titles.csv"]
    assert Path(done.path).read_text().splitlines()[1] == "1,,New kite 1,model,m-1,0.97,no"
    assert any("was not written back" in note for note in done.notes)


def test_a_feed_is_not_written_back(tmp_path):
    path = tmp_path / "feed.xml"
    path.write_text("<rss><channel><item><sku>1</sku><image>https://a.b/1.jpg</image></item></channel></rss>")
    catalogue = load_catalogue(path)
    done = write_plain(path, catalogue, titles_of(catalogue), tmp_path / "out")
    assert Path(done.path).name == "titles.csv" and "kind xml" in done.notes[0]


def test_the_source_is_never_written_over(tmp_path):
    path = tmp_path / "titles.csv"
    path.write_text("id,title,image\na,,https://a.b/1.jpg\n")
    (tmp_path / "titles-filled.csv").symlink_to(path)
    catalogue = load_catalogue(path)
    with pytest.raises(ValueError, match="is never written over"):
        write_plain(path, catalogue, titles_of(catalogue), tmp_path)
    assert path.read_text() == "id,title,image\na,,https://a.b/1.jpg\n"


def test_a_hostile_title_is_left_out(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("id,title,image\na,,https://a.b/1.jpg\nb,,https://a.b/2.jpg\n")
    catalogue = load_catalogue(path)
    titles = titles_of(catalogue).assign(title=["=1+1", "two\nlines"])
    done = write_plain(path, catalogue, titles, tmp_path / "out")
    assert done.rows == 0 and len(done.notes) == 2
    assert load_catalogue(done.path).items["title"].isna().all()
