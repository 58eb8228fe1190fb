"""Where names stand in a title: against a search by brute force, and the places themselves."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.fill.title_spans import NameIndex, fold_text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_every_piece_of_the_folded_text_comes_from_a_place_of_the_original(text):
    folded = fold_text(text)
    assert len(folded.text) == len(folded.starts) == len(folded.ends)
    assert all(0 <= a < b <= len(text) for a, b in zip(folded.starts, folded.ends, strict=True))
    assert list(folded.starts) == sorted(folded.starts) and list(folded.ends) == sorted(folded.ends)


@settings(max_examples=100, deadline=None)
@given(
    st.text(alphabet="abcXYZ 0189.,-/()", max_size=40).filter(lambda text: "(c)" not in text)
)  # A sign of rights
def test_plain_ascii_is_only_lowered(text):
    assert fold_text(text).text == text.lower()


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("NIKE®", "nike"),
        ("Nike(TM) air", "nike air"),
        ("Ni\u00adke", "nike"),
        ("Ni\u200bke", "ni ke"),  # A space of no width is a space
        ("\ufeffNike", "nike"),
        ("\uff2e\uff49\uff4b\uff45", "nike"),
        ("Nestle\u0301", "nestle"),
        ("Nestl\u00e9", "nestle"),
        ("Stra\u00dfe", "strasse"),
        ("a (c) b", "a (c) b"),  # Alone it is a bracket
        ("1\u00bd", "1 1/2"),
        ("5\u2033 x 7\u2032", "5\" x 7'"),
        ("\u0915\u094d\u0937", "\u0915\u094d\u0937"),  # The marks of Devanagari make another letter
        ("\u30ab\u3099", "\u30ac"),  # ka and its mark are ga
    ],
)
def test_one_form(text, folded):
    assert fold_text(text).text == folded


def by_force(names, text):
    "The longest name at each word, words by a plain regular expression."
    words = [(m[0].lower(), m.start(), m.end()) for m in re.finditer(r"[a-z]+", text, re.IGNORECASE)]
    found, at = [], 0
    while at < len(words):
        best = ""
        for name in names:
            wanted = name.lower().split()
            here = [word for word, _, _ in words[at : at + len(wanted)]]
            if here == wanted and len(wanted) > len(best.split()):
                best = name
        if best:
            found.append((best, words[at][1], words[at + len(best.split()) - 1][2]))
        at += max(len(best.split()), 1)
    return found


WORD = st.sampled_from(["ab", "ba", "a", "b", "Ab"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(WORD, min_size=1, max_size=3).map(" ".join), max_size=6),
    st.lists(WORD, max_size=10).map(", ".join),
)
def test_names_are_found_as_by_brute_force(names, text):
    names = list({name.lower(): name for name in reversed(names)}.values())
    assert [(one.name, one.start, one.end) for one in NameIndex(names).find(text)] == by_force(names, text)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("Apple", "Pineapple", None),
        ("Apple", "Apples", None),
        ("Apple", "Apple's pie", "Apple's"),
        ("Apple", "APPLE\u2019S pie", "APPLE\u2019S"),
        ("Levi's", "Levis jeans", "Levis"),
        ("Levi's", "Levi's\u00ae jeans", "Levi's\u00ae"),
        ("H&M", "Shirt by H & M", "H & M"),
        ("5.11", "5.11 Boots", "5.11"),
        ("5.11", "5 11 Boots", None),
        ("3M", "Tape 3m", "3m"),
        ("Coca-Cola", "coca cola can", "coca cola"),
        ("L'Or\u00e9al", "LOREAL Paris", "LOREAL"),
        ("\u7d22\u5c3c", "\u65b0\u6b3e\u7d22\u5c3c\u8033\u673a", "\u7d22\u5c3c"),
        ("Nike", "N\u200dike", "N\u200dike"),
    ],
)
def test_spellings_of_names(name, text, found):
    places = NameIndex([name]).find(text)
    assert [text[one.start : one.end] for one in places] == ([found] if found else [])


def test_of_two_names_read_alike_the_first_counts():
    assert [one.name for one in NameIndex(["NIKE", "Nike"]).find("nike")] == ["NIKE"]
