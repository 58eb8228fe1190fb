"""Encodings of files as shops save them: read as they were written, or refused with the option that helps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpc_analysis.catalogue.text_encodings import find_encoding

TITLES = {
    "cp1252": [
        "Café crème",
        "Flöte für Kinder",
        "Men\u2019s hat",
        "Oven 200°C",
        "LEGO® set™",
        "São João ção",
    ],
    "cp1250": ["Dřevěná lžíce a vidlička", "Żółty kubek", "Łyżka drewniana"],
    "cp1251": ["Красная кружка", "Набор ножей", "Щётка LEGO"],  # noqa: RUF001
    "gb18030": ["红色陶瓷马克杯", "蓝色茶壶 LEGO 500ml", "不锈钢刀具套装"],
    "big5": ["紅色陶瓷馬克杯", "藍色茶壺", "不鏽鋼刀具組"],
    "cp932": ["赤いマグカップ", "青いティーポット", "包丁 セット 5点"],
    "cp949": ["빨간 머그컵", "파란 찻주전자", "나무 숟가락"],
    "cp1253": ["Κούπα κόκκινη", "Ξύλινο κουτάλι", "Σετ μαχαιριών"],
}


def chosen(data, encoding=None):
    return find_encoding(lambda: [data[k : k + 7] for k in range(0, len(data), 7)], "a.csv", encoding)


def table(titles, described=False):
    said = ",A long description in plain English" * described
    return "id,title,price\n" + "".join(f"{n},{title},9.99{said}\n" for n, title in enumerate(titles))


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("codec", TITLES)
def test_a_few_titles_are_read_as_they_were_written(codec, described):
    text = table(TITLES[codec], described)
    found = chosen(text.encode(codec))
    assert text.encode(codec).decode(found.codec) == text
    assert "which is a guess" in found.note and "--encoding" in found.note


@pytest.mark.parametrize("title", TITLES["cp1252"])
def test_one_western_title_is_enough(title):
    text = table([title])
    assert text.encode("cp1252").decode(chosen(text.encode("cp1252")).codec) == text


@pytest.mark.parametrize(
    ("codec", "title"), [("gb18030", "茶"), ("cp949", "컵"), ("big5", "紅杯"), ("euc_jp", "茶碗")]
)
def test_a_few_characters_are_no_guess(codec, title):
    with pytest.raises(ValueError, match=r"a\.csv is not UTF-8, and .*--encoding"):
        chosen(table([title]).encode(codec))


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("titles", [["Kite"], ["红色陶瓷马克杯", "茶"], ["Café"]])
def test_what_the_bytes_say_needs_no_note(codec, titles):
    text = table(titles)
    found = chosen(text.encode(codec))
    assert text.encode(codec).decode(found.codec).removeprefix("\ufeff") == text and found.note == ""


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
def test_utf8_is_never_taken_for_anything_else(text):
    data = (text + "\n").encode()
    if not data.startswith((b"PK\x03\x04", b"PAR1", b"%PDF")):
        assert chosen(data).codec in ("utf-8", "utf-8-sig")


def test_a_damaged_line_of_a_utf8_file_stays_one_line():
    lines = [f"{n},Flöte {n}".encode() for n in range(50)]
    lines[20] = "20,Flöte".encode("cp1252")
    found = chosen(b"\n".join(lines))
    assert (found.codec, found.errors) == ("utf-8", "surrogateescape") and "not UTF-8: 1;" in found.note


def test_one_bad_byte_among_plain_lines_is_western():
    data = b"\n".join([b"id,title", *[b"1,Kite"] * 30, "2,Flöte".encode("cp1252")])
    assert chosen(data).codec == "cp1252"


@pytest.mark.parametrize("encoding", ["utf-9", "hex", "rot13", "", "no such\0"])
def test_an_unknown_encoding_is_said(encoding):
    if encoding:
        with pytest.raises(ValueError, match="encoding must be one that Python knows"):
            chosen(b"id\n1\n", encoding)
    else:
        assert chosen(b"id\n1\n", encoding).codec == "utf-8"


@pytest.mark.parametrize(("codec", "line"), [("ascii", 3), ("utf-8", 3), ("shift_jis", 3), ("cp932", 3)])
def test_a_wrong_encoding_says_where_it_does_not_fit(codec, line):
    data = "id\n1\nCafé,\n".encode("cp1252")
    with pytest.raises(ValueError, match=rf"is not {codec}: .*line {line}"):
        chosen(data, codec)


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"PK\x03\x04", r"\.xlsx"), (b"PAR1", r"\.parquet"), (b"\xd0\xcf\x11\xe0", "protected")],
)
def test_other_files_under_the_name_of_a_text(start, said):
    with pytest.raises(ValueError, match=f"is no text but .*{said}"):
        chosen(start + bytes(100))


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<html>", "\ufeff \n<HTML lang=en>", "<!doctype HTML><p>"])
def test_a_web_page_is_no_table(text):
    with pytest.raises(ValueError, match=r"shop\.csv is no text but a web page"):
        find_encoding(lambda: [text.encode()], "shop.csv")


def test_a_table_that_speaks_of_pages_is_one():
    assert find_encoding(lambda: [b"id,body\n1,<html>\n"], "shop.csv").codec == "utf-8"
