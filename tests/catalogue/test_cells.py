"""Cells of strangers' files: HTML, invisible characters, and the forms in which a picture is named."""

import base64
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.cells import (
    PictureBytes,
    image_cell,
    image_entries,
    plain_html,
    plain_prose,
    visible_text,
)

# ---------------------------------------------------------------- HTML


class Reader(HTMLParser):
    "The text of well-formed HTML, by another parser."

    def __init__(self):
        super().__init__()
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.text.append(" " if tag in ("p", "li", "br", "h2") else "")

    def handle_endtag(self, tag):
        self.text.append(" " if tag in ("p", "li", "h2") else "")

    def handle_data(self, data):
        self.text.append(data)


words = st.text(alphabet="abé 1,.", max_size=8)
pages = st.recursive(
    words,
    lambda inner: st.one_of(
        st.builds(
            lambda tag, x: f"<{tag}>{x}</{tag}>", st.sampled_from(["p", "b", "li", "H2", "span", "em"]), inner
        ),
        st.builds(lambda x, a: f'<a href="/{a}" title=\'x > "y"\'>{x}</a>', inner, st.sampled_from("ab")),
        st.builds(lambda x, y: f"{x}<br/>{y}", inner, inner),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(pages)
def test_the_text_of_a_page_is_what_pythons_parser_reads(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert plain_html(page).split() == "".join(reader.text).split()


@pytest.mark.parametrize(
    "text",
    ["I <3 mugs", "a < b and b > a", "a<b and c>d", "<Limited Edition> Vinyl", "I </3 you", "x <!-- y", "<", "<>", "< p >",
     "Vintage <1950", "AT&T <-> Bell", "<strongbox> 3 l", "Size <M>"],
)  # fmt: skip
def test_what_is_no_tag_stays(text):
    assert plain_prose(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<p>Warm <b>wool</b></p>\n<p>socks</p>", "Warm wool socks"),
        ('<P CLASS="x">Mug</P><BR>0.3&nbsp;l', "Mug 0.3 l"),
        ("<script>alert('<p>x</p>')</script >Mug<style>p{}</style>", "Mug"),
        ("<script>never closed", "never closed"),
        ("Kite<!-- <p>old</p> --> red", "Kite red"),
        ("<![CDATA[<b>Top</b>]]>", "Top"),
        ("&lt;p&gt;Salt &amp;amp; pepper&lt;/p&gt;", "Salt & pepper"),
        ("Mug&lt;br&gt;blue", "Mug blue"),
        ("<td>red</td><td>blue</td>", "red blue"),
        ("H<sub>2</sub>O bottle", "H2O bottle"),
        ('<img src="a.jpg" alt="x > y">', ""),
        ("Learn &lt;table&gt; and &lt;form&gt;", "Learn <table> and <form>"),
    ],
)
def test_html_as_a_person_reads_it(text, shown):
    assert plain_prose(text)[0] == shown


@pytest.mark.parametrize(
    "text", ["<!--" * 50_000, "<a " * 60_000, "<p '" * 50_000, "<script" * 40_000, "</p" * 60_000, "<b>" * 60_000, '<a x="' * 40_000]
)  # fmt: skip
def test_hostile_html_is_read_in_time(text):
    start = time.perf_counter()
    plain_prose(text)
    assert time.perf_counter() - start < 3


@settings(deadline=None)
@given(st.text(alphabet="<>/!-p&;lgt b'\"=[]", max_size=40))
def test_any_text_is_cleaned_once_and_without_an_error(text):
    once = plain_html(text)
    assert "<" in text or once == text
    assert plain_prose(text)[0] is not None


# ---------------------------------------------------------------- characters that nobody sees


def test_invisible_characters_go_and_those_that_matter_stay():
    assert visible_text("\ufeffRed\u200bceramic\u200bmug\u2060") == "Red ceramic mug"
    assert visible_text("re\u00admov\u200eable\x07") == "removable"
    persian, family = "می\u200cخواهم", "👨\u200d👩\u200d👧"  # noqa: RUF001
    assert visible_text(persian) == persian and visible_text(family) == family
    assert visible_text("ไทย\u200bแลนด์") == "ไทย\u200bแลนด์"
    assert plain_prose("Blue\r\nmug\u2028x")[0] == "Blue mug x"
    assert plain_prose("\u200b\ufeff") == ("", ["invisible characters"])


# ---------------------------------------------------------------- pictures


PNG = b"\x89PNG..."


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        ("a.jpg", ["a.jpg"]),
        (["a.jpg", None, "", "b.jpg"], ["a.jpg", "b.jpg"]),
        (np.array(["a.jpg", "b.jpg"]), ["a.jpg", "b.jpg"]),
        ({"bytes": PNG, "path": None}, [PictureBytes(PNG)]),
        ({"bytes": PNG, "path": "x/1.png"}, [PictureBytes(PNG, "x/1.png")]),
        (
            [{"bytes": PNG, "path": "1.png"}, {"bytes": None, "path": "2.png"}],
            [PictureBytes(PNG, "1.png"), "2.png"],
        ),
        (np.array([{"bytes": PNG, "path": None}, None], dtype=object), [PictureBytes(PNG)]),
        (PNG, [PictureBytes(PNG)]),
        ({"bytes": None, "path": None}, []),
        ([{"large": "l", "hi_res": "h"}, {"thumb": "t"}], ["h", "t"]),
        ({"hi_res": np.array([None, "h2"], dtype=object), "large": np.array(["l1", "l2"])}, ["l1", "h2"]),
        ([{"src": "https://a.example/1"}, {"url": "u"}], ["https://a.example/1", "u"]),
        ("data:image/png;base64," + base64.b64encode(PNG).decode(), [PictureBytes(PNG)]),
        ("//cdn.example/a.jpg", ["https://cdn.example/a.jpg"]),
        ("//server/share", ["//server/share"]),
        (float("nan"), []),
    ],
)
def test_every_form_of_naming_pictures(value, entries):
    assert image_entries(value) == entries
    first = entries[0] if entries else None
    assert image_cell(value) == (first.name if isinstance(first, PictureBytes) else first)


@pytest.mark.parametrize(
    "value", [{"width": 3, "height": 4}, True, [{"colour": "red"}], "data:image/gif;base64,#"]
)
def test_a_cell_that_names_pictures_in_no_known_way_is_no_silence(value):
    with pytest.raises(ValueError, match=r"expected|is not base64"):
        image_entries(value)


@pytest.mark.parametrize(
    ("cell", "entries"),
    [
        ("a.jpg,b.PNG", ["a.jpg", "b.PNG"]), ("a b.jpg | c/d.webp", ["a b.jpg", "c/d.webp"]),
        ("https://e.org/1.jpg, https://e.org/2", ["https://e.org/1.jpg", "https://e.org/2"]),
        ("https://e.org/1 https://e.org/2", ["https://e.org/1", "https://e.org/2"]),
        ("//cdn.e.org/1.jpg;//cdn.e.org/2.jpg", ["https://cdn.e.org/1.jpg", "https://cdn.e.org/2.jpg"]),
        ("https://e.org/w_80,h_60/a.jpg", ["https://e.org/w_80,h_60/a.jpg"]), ("https://e.org/a,b.jpg", ["https://e.org/a,b.jpg"]),
        ("https://e.org/?u=https://f.org/a.jpg", ["https://e.org/?u=https://f.org/a.jpg"]), ("Mug, large.jpg", ["Mug, large.jpg"]),
        ("a;b|c", ["a;b|c"]), ("a.jpg,", ["a.jpg"]), (",", [","]),
    ],
)  # fmt: skip
def test_several_pictures_in_one_cell_and_separators_that_are_none(cell, entries):
    assert image_entries(cell) == entries


@pytest.mark.parametrize(
    "text", ["Oil\n lamp", "Oil \r\n\r\n lamp", "Oil\u2028lamp", "<p>Oil</p>\n<p>lamp</p>"]
)
def test_a_title_over_two_lines_has_one_blank_between(text):
    assert plain_prose(text)[0] == "Oil lamp"
