"""AVIF: every item lies where the table says, before and after; moving pictures and foreign parts are refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from mmpc_analysis.catalogue.pictures import ImageError
from mmpc_analysis.fill.avif_boxes import avif_packets, avif_with_packet, split_boxes

PIXELS = np.random.default_rng(1).integers(0, 255, (40, 60, 4), dtype=np.uint8)


def avif(mode="RGB", **how):
    Image.fromarray(PIXELS).convert(mode).save(buffer := io.BytesIO(), "AVIF", **how)
    return buffer.getvalue()


def box(data, *path):
    "The content of a box by the names that lead to it: a reader of its own."
    for name in path:
        at = 0
        while data[at + 4 : at + 8] != name:
            at += int.from_bytes(data[at : at + 4])
            assert at < len(data), name
        data = data[at + 8 + 4 * (name == b"meta") : at + int.from_bytes(data[at : at + 4])]
    return data


def contents(data):
    "The bytes of each item, by its number, for tables with fields of 4 or 8 bytes and one extent."
    table = box(data, b"meta", b"iloc")
    version, size = table[0], table[4] >> 4
    base, count, found = table[5] >> 4, int.from_bytes(table[6:8]), {}
    step = 2 + (2 if version else 0) + 2 + base + 2 + size + (table[4] & 15)
    for k in range(count):
        row = table[8 + k * step : 8 + (k + 1) * step]
        at = 6 if version else 4
        start = int.from_bytes(row[at : at + base]) + int.from_bytes(
            row[at + base + 2 : at + base + 2 + size]
        )
        length = int.from_bytes(row[at + base + 2 + size :])
        found[int.from_bytes(row[:2])] = data[start : start + length]
    return found


@pytest.mark.parametrize(
    "how", [{}, {"mode": "RGBA"}, {"exif": Image.Exif().tobytes() + b"x" * 9}, {"mode": "L"}]
)
def test_items_are_where_the_table_says(how):
    data = avif(**how)
    marked = avif_with_packet(data, b"<facts/>")
    before, after = contents(data), contents(marked)
    new = max(after)
    assert new == max(before) + 1 and after.pop(new) == b"<facts/>"
    assert after == before and all(before.values())


def test_the_picture_is_what_the_facts_are_tied_to():
    marked = avif_with_packet(avif("RGBA"), b"<facts/>")
    primary = int.from_bytes(box(marked, b"meta", b"pitm")[4:6])
    tie = box(marked, b"meta", b"iref")[-14:]
    assert tie == struct.pack(">I4sHHH", 14, b"cdsc", max(contents(marked)), 1, primary)
    names = box(marked, b"meta", b"iinf")
    assert int.from_bytes(names[4:6]) == len(contents(marked)) == names.count(b"infe")


def test_a_box_that_goes_on_to_the_end_is_closed_first():
    data = avif()
    name, start, _, end = split_boxes(data)[-1]
    assert name == b"mdat" and end == len(data)
    endless = data[:start] + b"\x00" * 4 + data[start + 4 :]
    marked = avif_with_packet(endless, b"<facts/>")
    assert avif_packets(marked) == [b"<facts/>"] and contents(marked)[1] == contents(data)[1]


@pytest.mark.parametrize("where", [b"moov", b"meta"])
def test_moving_pictures_and_two_tables_are_refused(where):
    data = avif()
    with pytest.raises(ImageError, match="one picture that stands still"):
        avif_packets(data + struct.pack(">I", 8) + where)


def test_parts_in_other_files_are_refused():
    data = bytearray(avif())
    at = data.index(b"iloc") + 4
    version, base = data[at], data[at + 5] >> 4
    place = at + 8 + 2 + (2 if version else 0)
    assert data[place : place + 2] == b"\x00\x00" and base in (0, 4, 8)
    data[place + 1] = 1
    with pytest.raises(ImageError, match="parts in other files or items"):
        avif_with_packet(bytes(data), b"<facts/>")
