"""Packets of facts in pictures: the container is right by hand, pixels are the same bytes, damage is refused."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from mmpc_analysis.catalogue.pictures import ImageError
from mmpc_analysis.fill.picture_packets import MOST_PACKET, packet_kind, read_packet, replace_packet

XMP = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'
PIXELS = np.random.default_rng(0).integers(0, 255, (23, 31, 4), dtype=np.uint8)


def picture(kind, mode="RGB", **how):
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(buffer := io.BytesIO(), kind, **how)
    return buffer.getvalue()


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.copy(), dict(image.info)


def chunks(data):
    "The chunks of a PNG, with their checksums checked: a reader of its own."
    at, found = 8, []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + content)
        found.append((name, content))
        at += 12 + size
    return found


CASES = [
    (kind, how)
    for kind in ("PNG", "JPEG", "WEBP", "AVIF")
    for how in (
        {},
        {"mode": "L"},
        {"exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00"},
        {"icc_profile": b"profile" * 100},
        {"mode": "RGBA", "lossless": True},
        {"lossless": True},
    )
    if not (kind == "JPEG" and how.get("mode") == "RGBA") and not (kind == "AVIF" and "lossless" in how)
] + [("JPEG", {"progressive": True, "comment": b"a"}), ("AVIF", {"mode": "RGBA"})]


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_pixels_and_all_other_facts_stay(kind, how):
    data = picture(kind, **how)
    marked = replace_packet(data, XMP)
    (before, old), (after, new) = opened(data), opened(marked)
    assert (after.mode, after.size, after.tobytes()) == (before.mode, before.size, before.tobytes())
    found = new.pop("xmp", None) or new.pop("XML:com.adobe.xmp").encode()
    assert found.rstrip(b"\x00") == XMP == read_packet(marked)
    for name in ("exif", "icc_profile", "comment", "progressive"):
        assert new.get(name) == old.get(name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_packet_takes_the_place_of_another_and_nothing_is_left_of_it(kind):
    data = picture(kind)
    once = replace_packet(data, XMP + b"<!-- secret -->" * 9)
    again = replace_packet(once, XMP)
    assert b"secret" not in again and read_packet(again) == XMP
    assert opened(again)[0].tobytes() == opened(data)[0].tobytes()
    if kind != "AVIF":  # Whose old place stays, blank
        assert again == replace_packet(data, XMP)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_the_packet_that_pillow_wrote_is_found_and_replaced(kind):
    how = {"xmp": b"<old/>"}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", "<old/>", zip=True)
        how = {"pnginfo": text}
    data = picture(kind, **how)
    assert read_packet(data) == b"<old/>"
    assert read_packet(replace_packet(data, XMP)) == XMP


def test_a_png_differs_by_one_chunk_behind_the_first():
    data = picture("PNG", pnginfo=_text("Author", "A. Smith"))
    before, after = chunks(data), chunks(replace_packet(data, XMP))
    assert after[1] == (b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + XMP)
    assert after[:1] + after[2:] == before


def _text(key, value):
    text = PngImagePlugin.PngInfo()
    text.add_text(key, value)
    return text


def test_a_jpeg_differs_by_one_segment_behind_jfif_and_exif():
    data = picture("JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00")
    marked = replace_packet(data, XMP)
    body = b"http://ns.adobe.com/xap/1.0/\x00" + XMP
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    at = marked.index(segment)
    assert marked[:at] + marked[at + len(segment) :] == data
    assert data.index(b"Exif") < at and data[at - 19 : at].endswith(
        b"\x08" + b"\x00" * 6
    )  # Right behind Exif


def test_a_second_view_behind_a_jpeg_stays():
    data = picture("JPEG") + b"second view \xff\xd9"
    assert replace_packet(data, XMP).endswith(b"second view \xff\xd9")


def test_a_plain_webp_becomes_an_extended_one_of_the_same_size():
    for how in ({"quality": 50}, {"lossless": True}, {"lossless": True, "mode": "RGBA"}):
        data = picture("WEBP", **how)
        marked = replace_packet(data, XMP)
        assert data[12:16] in (b"VP8 ", b"VP8L") or how.get("mode") == "RGBA"
        assert marked[12:20] == b"VP8X\x0a\x00\x00\x00"
        flags, wide, high = marked[20], marked[24:27], marked[27:30]
        assert flags & 0x04 and bool(flags & 0x10) == (how.get("mode") == "RGBA")
        assert int.from_bytes(wide, "little") + 1 == 31 and int.from_bytes(high, "little") + 1 == 23
        assert struct.unpack("<I", marked[4:8])[0] == len(marked) - 8 and len(marked) % 2 == 0


def test_moving_webp_keeps_its_frames():
    frames = [Image.fromarray(PIXELS).convert("RGB").rotate(90 * k) for k in range(3)]
    frames[0].save(buffer := io.BytesIO(), "WEBP", save_all=True, append_images=frames[1:], duration=40)
    with Image.open(io.BytesIO(replace_packet(buffer.getvalue(), XMP))) as image:
        assert image.n_frames == 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_every_file_that_ends_early_is_refused_or_whole(kind):
    data = replace_packet(picture(kind), XMP)
    for end in range(0, len(data), 7):
        try:
            replace_packet(data[:end], XMP)
        except ImageError as error:
            assert "save it" in str(error) and "'picture'" in str(error)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damage_is_named_and_never_a_defect(kind, at, byte):
    data = bytearray(DAMAGED[kind])
    data[at % len(data)] = byte
    with suppress(ImageError):
        read_packet(replace_packet(bytes(data), XMP))


DAMAGED = {kind: replace_packet(picture(kind), XMP) for kind in ("PNG", "JPEG", "WEBP", "AVIF")}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_two_packets_are_refused(kind):
    data = replace_packet(picture(kind), XMP)
    if kind == "PNG":
        chunk = data[33 : 33 + 12 + len(XMP) + 22]
        twice = data[:33] + chunk + data[33:]
    elif kind == "JPEG":
        at = data.index(b"\xff\xe1")
        twice = data[:at] + data[at : at + 33 + len(XMP)] + data[at:]
    else:
        extra = b"XMP " + struct.pack("<I", len(XMP)) + XMP + b"\x00" * (len(XMP) % 2)
        twice = data[:4] + struct.pack("<I", len(data) - 8 + len(extra)) + data[8:] + extra
    with pytest.raises(ImageError, match="has 2 packets of facts"):
        read_packet(twice)


def test_a_packet_that_unfolds_without_end_is_refused_early():
    packed = zlib.compress(b" " * 40_000_000, 9)
    body = b"iTXtXML:com.adobe.xmp\x00\x01\x00\x00\x00" + packed
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = picture("PNG")
    with pytest.raises(ImageError, match=f"of {MOST_PACKET + 1:,} bytes or more"):
        read_packet(data[:33] + chunk + data[33:])


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "BMP", "ICO"])
def test_other_kinds_are_refused(kind):
    with pytest.raises(ImageError, match="save it as PNG, JPEG, WEBP or AVIF"):
        packet_kind(picture(kind), f"a.{kind.lower()}")


def test_nothing_and_text_are_refused():
    for data in (
        b"",
        b"\x89PNG",
        b"hello",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"\x00\x00\x00\x18ftypheic" + b"\x00" * 12,
    ):
        with pytest.raises(ImageError, match="of a kind that cannot be marked safely"):
            read_packet(data)


def test_a_jpeg_has_no_room_for_more_than_a_segment():
    room = 65_535 - 2 - len(b"http://ns.adobe.com/xap/1.0/\x00")
    assert read_packet(replace_packet(picture("JPEG"), b" " * room)) == b" " * room
    with pytest.raises(ImageError, match="a JPEG holds 65,535"):
        replace_packet(picture("JPEG"), b" " * (room + 1))
    assert len(read_packet(replace_packet(picture("PNG"), b" " * 100_000))) == 100_000
