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
WIDE = {"utf-8": "é日😀", "cp1252": "é€", "gb18030": "é日€😀", "cp932": "日ア", "utf-16": "é日😀", "utf-16-le": "é日", "cp1251": "жЯ"}


@st.composite
def delimited(draw):
    "A file, the same filled as the rules say, its encoding, and how many rows are filled."
    encoding = draw(st.sampled_from([*WIDE, "utf-8-sig"]))
    tabs = draw(st.booleans())
    told = not tabs and draw(st.booleans())
    separator = "\t" if tabs else draw(st.sampled_from(",;|"))
    quoted = not tabs and draw(st.booleans())
    text = st.text(LETTERS + WIDE.get(encoding, "é"), max_size=6)
    special = st.sampled_from([separator, '"', 'x"y', "a\nb", "a\r\nb", " b"]) if not tabs else st.just('5" x')
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
            both(separator.join(["x"] * draw(st.sampled_from([2, 3, 6]))) + last)
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
