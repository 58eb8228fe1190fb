"""Workbooks and feeds from strangers: what cells say, and what no reader should believe."""

import io
import re
import zipfile
from datetime import date, datetime, time, timedelta

import pytest
from openpyxl import Workbook

from mmpc_analysis.catalogue.foreign_files import Limits, TooLargeError
from mmpc_analysis.catalogue.records import read_records


def book(path, *sheets):
    made = Workbook()
    made.remove(made.active)
    for title, rows in sheets:
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def rows(path, **kwargs):
    return list(read_records(path, **kwargs).rows(None))


def edited(path, out, member, change):
    "A workbook with one of its members changed."
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name).decode()
            new.writestr(name, change(data) if name.endswith(member) else data)
    return out


def test_a_cell_says_what_a_person_sees(tmp_path):
    values = [
        "007",
        12345.0,
        0.5,
        4006381333931,
        True,
        date(2024, 1, 15),
        datetime(2024, 1, 15, 10, 30),
        time(9, 5),
        timedelta(hours=2),
        " x ",
        None,
        "#N/A text",
    ]
    names = [f"c{n}" for n in range(len(values))]
    path = book(tmp_path / "a.xlsx", ("S", [names, values]))
    assert list(rows(path)[0][1].values()) == [
        "007", 12345, 0.5, 4006381333931, "TRUE", "2024-01-15", "2024-01-15T10:30:00", "09:05:00", "2:00:00", " x ", None, "#N/A text",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "value", "said"),
    [("00000", 7, "00007"), ("000", 1234, "1234"), ("0", 7, 7), ("0.00", 7, 7), ("#,##0", 1000, 1000)],
)
def test_an_id_that_is_shown_with_zeros_keeps_them(tmp_path, shown, value, said):
    made = Workbook()
    made.active.append(["id", "title"])
    made.active.append([value, "Kite"])
    made.active["A2"].number_format = shown
    made.save(tmp_path / "a.xlsx")
    assert rows(tmp_path / "a.xlsx")[0][1]["id"] == said


def test_a_formula_is_its_last_result_and_an_error_is_no_value(tmp_path):
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title", "n"], ["1", "=A1&B1", "=1/0"]]))

    def calculated(xml):
        xml = re.sub(r"<v ?/>", "<v></v>", xml)
        xml = xml.replace(
            '<c r="B2"><f>A1&amp;B1</f><v></v>', '<c r="B2" t="str"><f>A1&amp;B1</f><v>Red kite</v>'
        )
        return xml.replace('<c r="C2"><f>1/0</f><v></v>', '<c r="C2" t="e"><f>1/0</f><v>#DIV/0!</v>')

    edited(path, tmp_path / "b.xlsx", "sheet1.xml", calculated)
    assert rows(tmp_path / "b.xlsx") == [(2, {"id": "1", "title": "Red kite", "n": None})]


def test_the_first_sheet_with_a_header_is_read_and_the_others_are_said(tmp_path):
    path = book(
        tmp_path / "a.xlsm",
        ("Empty", []),
        (
            "Stock",
            [["Prices of May"], [], ["id", "title"], ["1", "Kite"], [], ["2", "Pan"], ["3"], ["4", "a", "b"]],
        ),
        ("Old", [["x", "y"]]),
    )
    records = read_records(path)
    assert records.names == ["id", "title"] and records.kind == "xlsx"
    assert list(records.rows(None)) == [
        (4, {"id": "1", "title": "Kite"}), (6, {"id": "2", "title": "Pan"}), (7, {"id": "3", "title": None}), (8, "has 3 cells, the header has 2"),
    ]  # fmt: skip
    assert records.notes == [
        "The workbook has the sheets Empty, Stock, Old; Stock was read. Save another as a file of its own to read it.",
        "The header was found in row 3; what stands above it was passed over.",
    ]


def test_one_column_is_a_table_and_no_sheet_is_none(tmp_path):
    assert rows(book(tmp_path / "a.xlsx", ("S", [["title"], ["Kite"], ["Pan"]]))) == [
        (2, {"title": "Kite"}),
        (3, {"title": "Pan"}),
    ]
    with pytest.raises(ValueError, match="has no sheet with a header"):
        read_records(book(tmp_path / "b.xlsx", ("S", [])))
    with pytest.raises(ValueError, match="column 'title' twice"):
        read_records(book(tmp_path / "c.xlsx", ("S", [["title", "title"]])))


def test_a_sheet_that_claims_a_million_columns_costs_nothing(tmp_path):
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title"], ["1", "Kite"]]))
    edited(path, tmp_path / "b.xlsx", "sheet1.xml", lambda xml: xml.replace("A1:B2", "A1:XFD1048576"))
    assert rows(tmp_path / "b.xlsx") == [(2, {"id": "1", "title": "Kite"})]


LAUGHS = '<!DOCTYPE x [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


def shared(path, out, texts):
    "A workbook whose cells are texts of a shared table, as Excel writes them."
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    found = []

    def number(match):
        found.append(match[2])
        return f'<c r="{match[1]}" t="s"><v>{len(found) - 1}</v></c>'

    pattern = r'<c r="(\w+)" t="inlineStr"><is><t>(.*?)</t></is></c>'
    edited(path, out, "sheet1.xml", lambda xml: re.sub(pattern, number, xml))
    override = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    edited(out, path, "[Content_Types].xml", lambda xml: xml.replace("</Types>", override))
    items = "".join(f"<si><t>{text}</t></si>" for text in found)
    sst = f'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">{items}</sst>'
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as members:
        members.writestr("xl/sharedStrings.xml", texts(sst))
    return path


def test_shared_texts_are_read_and_have_a_limit(tmp_path):
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title"], ["007", "Kite"]]))
    shared(path, tmp_path / "b.xlsx", str)
    assert rows(path) == [(2, {"id": "007", "title": "Kite"})]
    with pytest.raises(TooLargeError, match="bytes of shared texts"):
        read_records(path, limits=Limits(held=100))
    with pytest.raises(TooLargeError, match="unpacks to more than"):
        read_records(path, limits=Limits(floor=100, ratio=1))


@pytest.mark.parametrize("member", ["sheet1.xml", "workbook.xml", "sharedStrings.xml"])
def test_entities_in_a_workbook_are_refused(tmp_path, member):
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title"], ["1", "Kite"]]))

    def laugh(xml):
        return LAUGHS + (xml.split("?>", 1)[1] if xml.startswith("<?xml") else xml).replace("Kite", "&b;")

    if member == "sharedStrings.xml":
        shared(path, tmp_path / "b.xlsx", laugh)
    else:
        path = edited(path, tmp_path / "b.xlsx", member, laugh)
    with pytest.raises(ValueError, match=r"cannot be read as a workbook .*Forbidden"):
        read_records(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"id,title\n1,Kite\n", b"PK\x03\x04 cut", b"\xd0\xcf\x11\xe0" + bytes(600), b"<html></html>"],
)
def test_what_is_no_workbook_says_what_to_do(tmp_path, data):
    (tmp_path / "a.xlsx").write_bytes(data)
    with pytest.raises(ValueError, match=r"save it anew as \.xlsx without a password, or as \.csv"):
        read_records(tmp_path / "a.xlsx")


@pytest.mark.parametrize("ending", [".xls", ".xlsb", ".ods"])
def test_other_workbooks_say_what_to_save_them_as(ending):
    with pytest.raises(ValueError, match=r"save it as \.xlsx or \.csv"):
        read_records("stock" + ending)


# ---------------------------------------------------------------- feeds

GOOGLE = """<?xml version="1.0"{encoding}?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title><link>https://a.example</link>
<item><title>Kite | Shop</title><g:title>Kite &amp; tail</g:title><g:id>007</g:id><link>https://a.example/7</link>
<g:image_link>https://a.example/1.jpg</g:image_link>
<g:additional_image_link>b.jpg</g:additional_image_link><g:additional_image_link>c.jpg</g:additional_image_link>
<g:shipping><g:country>DE</g:country><g:price>5 EUR</g:price></g:shipping><g:shipping><g:country>FR</g:country></g:shipping>
<description><![CDATA[<b>Flöte</b> & more]]></description></item><!-- a comment -->
<item><g:id>008</g:id><g:structured_title><g:digital_source_type>trained_algorithmic_media</g:digital_source_type><g:content>Red mug</g:content></g:structured_title><g:brand/></item>
</channel></rss>"""


@pytest.mark.parametrize("encoding", ["", "utf-8", "utf-16", "iso-8859-1", "windows-1252", "gb18030"])
@pytest.mark.parametrize("name", ["a.xml", "a.rss", "a.XML.gz"])
def test_a_google_feed_in_any_encoding(tmp_path, encoding, name):
    text = GOOGLE.format(encoding=f' encoding="{encoding}"' if encoding else "")
    import gzip

    data = text.encode(encoding or "utf-8")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    records = read_records(tmp_path / name)
    first, second = (row for _, row in records.rows(None))
    assert first == {
        "title": "Kite & tail", "id": "007", "link": "https://a.example/7", "image_link": "https://a.example/1.jpg",
        "additional_image_link": ["b.jpg", "c.jpg"], "shipping": [{"country": "DE", "price": "5 EUR"}, {"country": "FR"}],
        "description": "<b>Flöte</b> & more",
    }  # fmt: skip
    assert second["structured_title"] == {
        "digital_source_type": "trained_algorithmic_media",
        "content": "Red mug",
    }
    assert second["structured_title.content"] == "Red mug" and second["brand"] is None
    assert records.kind == "xml" and records.names[:4] == ["title", "link", "description", "id"]


def test_an_atom_feed_has_entries_and_addresses_in_attributes(tmp_path):
    atom = '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>S</title><entry><title>Kite</title><link rel="alternate" href="https://a.example/7"/><g:id>7</g:id></entry></feed>'
    (tmp_path / "a.xml").write_text(atom)
    assert rows(tmp_path / "a.xml") == [(1, {"title": "Kite", "link": "https://a.example/7", "id": "7"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS + "<rss><channel><item><title>&b;</title></item></channel></rss>", "defines entities"),
        (
            '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><item><id>&x;</id></item></rss>',
            "defines entities",
        ),
        ("<html><body>404</body></html>", "has no item and no entry"),
        ("", "is no XML"),
        ("<rss><channel>", "is no XML"),
        ("<rss>" + "<a>" * 500 + "</a>" * 500 + "</rss>", "more than 100 deep"),
        ('<?xml version="1.0" encoding="klingon"?><rss/>', "is no XML|does not know"),
    ],
)
def test_what_is_no_feed_is_refused(tmp_path, text, said):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=said):
        rows(tmp_path / "a.xml")


def test_a_feed_that_breaks_off_keeps_what_came_before(tmp_path):
    (tmp_path / "a.xml").write_text("<rss><channel><item><id>1</id></item><item><id>2</item></channel></rss>")
    found = rows(tmp_path / "a.xml")
    assert found[0] == (1, {"id": "1"}) and found[1][0] == 2 and "ends the feed" in found[1][1]


def test_an_endless_element_is_refused(tmp_path):
    (tmp_path / "a.xml").write_text("<rss><channel><item><title>" + "a" * 300_000)
    with pytest.raises(TooLargeError, match="element of more than 100,000 bytes"):
        rows(tmp_path / "a.xml", limits=Limits(line=100_000))
    many = "<rss><channel>" + f"<item><title>{'a' * 1000}</title></item>" * 500 + "</channel></rss>"
    (tmp_path / "b.xml").write_text(many)
    assert len(rows(tmp_path / "b.xml", limits=Limits(line=100_000))) == 500


def test_a_named_encoding_wins_over_what_the_feed_says(tmp_path):
    (tmp_path / "a.xml").write_bytes("<rss><item><title>Кружка</title></item></rss>".encode("cp1251"))
    assert rows(tmp_path / "a.xml", encoding="cp1251")[0][1]["title"] == "Кружка"


def test_bytes_of_a_zip_that_lie_about_their_size(tmp_path):
    "A member cannot unpack to more than it declares, so a small number in its header only damages the book."
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title"], *[[str(n), "Kite"] for n in range(2000)]]))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as members:
        size = next(m.file_size for m in members.infolist() if m.filename.endswith("sheet1.xml"))
    data = bytes(data).replace(size.to_bytes(4, "little"), (500).to_bytes(4, "little"))
    (tmp_path / "b.xlsx").write_bytes(data)
    try:
        found = rows(tmp_path / "b.xlsx")
    except ValueError as error:
        assert "save it anew" in str(error)
    else:
        assert isinstance(found[-1][1], str) and "damaged" in found[-1][1]


def test_a_cover_is_passed_over_and_failed_formulas_are_counted(tmp_path):
    path = book(
        tmp_path / "a.xlsx",
        ("Cover", [["Products of May"], ["Do not print"]]),
        ("Stock", [["id", "title"], ["1", "#N/A"], ["2", "#REF!"], ["#N/A", "Pan"], ["4", "Kite"]]),
    )
    records = read_records(path)
    found = dict(records.rows(None))
    assert records.names == ["id", "title"] and found[4] == {"id": None, "title": "Pan"}
    assert [found[k]["title"] for k in (2, 3, 5)] == [None, None, "Kite"]
    assert records.notes[0].startswith("The workbook has the sheets Cover, Stock; Stock was read.")
    assert records.notes[1:] == ["Cells whose formula failed, taken as empty: #N/A 2, #REF! 1."]


def test_sheets_of_one_column_are_read_from_the_first(tmp_path):
    path = book(tmp_path / "a.xlsx", ("One", [["id"], ["1"]]), ("Two", [["title"], ["x"]]))
    assert list(read_records(path).rows(None)) == [(2, {"id": "1"})]


@pytest.mark.parametrize("many", [1, 30_000])
def test_formulas_that_nobody_calculated_are_counted(tmp_path, many):
    made = [["id", "title", "price"], *([k, "=1 wheel" if k % 3 else "Kite", 2.5] for k in range(many + 1))]
    path = book(tmp_path / "a.xlsx", ("Stock", made))
    records = read_records(path)
    lost = sum(k % 3 > 0 for k in range(many + 1))
    assert sum(row["title"] is None for _, row in records.rows(None)) == lost
    assert records.notes == [
        f"Formulas without a result, taken as empty: {lost:,}; open the workbook in a spreadsheet and save it."
    ]


def test_formulas_with_a_result_are_no_complaint(tmp_path):
    path = book(tmp_path / "a.xlsx", ("Stock", [["id", "title"], ["1", "=A1"], ["2", "=A2"]]))
    filled = edited(
        path,
        tmp_path / "b.xlsx",
        "sheet1.xml",
        lambda text: re.sub(r"</f><v ?(/>|></v>)", "</f><v>7</v>", text),
    )
    records = read_records(filled)
    assert list(records.rows(None)) == [(2, {"id": "1", "title": 7}), (3, {"id": "2", "title": 7})]
    assert records.notes == []


# ---------------------------------------------------------------- small files that ask for much


@pytest.mark.parametrize("number", ["1000000000", "1" + "0" * 30])
def test_a_row_far_away_is_not_walked_to(tmp_path, number):
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title"], ["1", "Kite"]]))
    far = f'<row r="{number}"><c t="n"><v>1</v></c></row></sheetData>'
    edited(path, tmp_path / "b.xlsx", "sheet1.xml", lambda xml: xml.replace("</sheetData>", far))
    found = rows(tmp_path / "b.xlsx")
    assert found[0] == (2, {"id": "1", "title": "Kite"}) and len(found) == 2
    assert "1,048,576" in found[1][1]


@pytest.mark.parametrize("inside", ["<row>{}</row></sheetData>", "</sheetData><extLst>{}</extLst>"])
def test_a_sheet_in_which_no_row_ends_is_not_held(tmp_path, inside):
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title"], ["1", "Kite"]]))
    more = inside.format("<c/>" * 20_000)
    edited(path, tmp_path / "b.xlsx", "sheet1.xml", lambda xml: xml.replace("</sheetData>", more))
    with pytest.raises(TooLargeError, match="without a row"):
        read_records(tmp_path / "b.xlsx", limits=Limits(line=40_000))


def test_a_long_list_of_styles_is_refused_by_its_size(tmp_path):
    path = book(tmp_path / "a.xlsx", ("S", [["id", "title"], ["1", "Kite"]]))
    many = "<xf/>" * 600_000 + "</cellXfs>"  # 3 MB of them were seen to take 400 MB and some ten seconds
    edited(path, tmp_path / "b.xlsx", "styles.xml", lambda xml: xml.replace("</cellXfs>", many))
    with pytest.raises(TooLargeError, match=r"styles\.xml unpacks to more than 50 times"):
        read_records(tmp_path / "b.xlsx")


def test_parts_of_parts_of_an_element_are_not_copied_at_every_depth(tmp_path):
    leaves = "".join(f"<a{n}/>" for n in range(2_000))
    text = f"<rss><channel><item><id>1</id>{'<x>' * 90}{leaves}{'</x>' * 90}</item></channel></rss>"
    (tmp_path / "a.xml").write_text(text)
    [(_, row)] = rows(tmp_path / "a.xml")
    names, level = 0, row
    while isinstance(level, dict):
        names, level = names + len(level), level["x" if "x" in level else "a0"]
    assert names < 3 * 2_000 + 3 * 90  # Each leaf under its own name, and once dotted
