"""Marks of drawn pictures: read back by a parser of its own, escaped, safe with hostile facts, kept beside what was there."""

import io
import xml.etree.ElementTree as ET

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmpc_analysis.catalogue.pictures import ImageError
from mmpc_analysis.fill.picture_marks import DRAWN_SOURCE, PictureMark, mark_image, read_mark
from mmpc_analysis.fill.picture_packets import read_packet, replace_packet

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
DC = "{http://purl.org/dc/elements/1.1/}"
XMP = "{http://ns.adobe.com/xap/1.0/}"
CAMERA = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def picture(kind="PNG", **how):
    Image.new("RGB", (6, 5), "red").save(buffer := io.BytesIO(), kind, **how)
    return buffer.getvalue()


def packet(facts, about='rdf:about=""'):
    spaces = " ".join(
        f'xmlns:{name}="{space[1:-1]}"' for name, space in {"rdf": RDF, "i": IPTC, "dc": DC, "x": XMP}.items()
    )
    return f"<rdf:RDF {spaces}><rdf:Description {about}>{facts}</rdf:Description></rdf:RDF>".encode()


def facts(data):
    "All properties of a picture, by an XML reader of its own: name to texts."
    found = {}
    for group in fromstring(read_packet(data)).iter(f"{RDF}Description"):
        for name, value in group.attrib.items():
            found.setdefault(name, []).append(value)
        for node in group:
            found.setdefault(node.tag, []).append("".join(node.itertext()))
    return found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_reader_of_xml_finds_the_facts(kind):
    title = 'Mug <b>"A & B"</b> ]]> \'x\' <?xpacket end="w"?>'
    found = facts(mark_image(picture(kind), "standin & <sd3>", title))
    assert found[f"{IPTC}DigitalSourceType"] == [DRAWN_SOURCE]
    assert found[f"{IPTC}AISystemUsed"] == found[f"{XMP}CreatorTool"] == ["standin & <sd3>"]
    assert found[f"{DC}title"] == [title]


def test_the_value_is_that_of_the_newscodes():
    assert DRAWN_SOURCE == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def test_the_packet_stands_alone_in_a_png_and_its_title_has_a_language():
    data = mark_image(picture(), "m", "Kite")
    assert data.count(b"XML:com.adobe.xmp") == 1 and data.index(b"XML:com.adobe.xmp") < data.index(b"IDAT")
    alt = fromstring(read_packet(data)).find(f".//{DC}title/{RDF}Alt/{RDF}li")
    assert alt.attrib == {"{http://www.w3.org/XML/1998/namespace}lang": "x-default"}


@given(st.text(max_size=60), st.text(max_size=40))
def test_any_title_and_model_can_be_read_back(title, model):
    mark = read_mark(mark_image(picture(), model, title))
    assert mark.drawn
    assert (as_xml(mark.title), as_xml(mark.model)) == (as_xml(title), as_xml(model))


def as_xml(text):
    "What XML 1.0 can hold of a text, with line ends as its readers see them."
    held = [
        c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
    ]
    return "".join(held).replace("\r\n", "\n").replace("\r", "\n").strip()


def test_marking_twice_changes_nothing():
    for kind in ("PNG", "JPEG", "WEBP", "AVIF"):
        once = mark_image(picture(kind), "m", "  Kite\u0001 ")
        assert mark_image(once, "m", "  Kite\u0001 ") == once


def test_another_model_takes_the_place_of_the_first_and_the_tool_stays():
    again = facts(mark_image(mark_image(picture(), "first"), "second"))
    assert again[f"{IPTC}AISystemUsed"] == ["second"] and again[f"{IPTC}DigitalSourceType"] == [DRAWN_SOURCE]
    assert again[f"{XMP}CreatorTool"] == ["first"]


@pytest.mark.parametrize(
    ("inside", "about"),
    [
        (f"<i:DigitalSourceType>{CAMERA}</i:DigitalSourceType>", ""),
        (f'<i:DigitalSourceType rdf:resource="{CAMERA}"/>', ""),
        ("", f'i:DigitalSourceType="{CAMERA}"'),
        (f"<i:DigitalSourceType>{CAMERA}</i:DigitalSourceType>" * 2, ""),
    ],
)
def test_a_photograph_is_read_in_every_form_and_corrected(inside, about):
    data = replace_packet(picture(), packet(f"<dc:rights>Smith &amp; Sons</dc:rights>{inside}", about))
    assert read_mark(data) == PictureMark(CAMERA) and not read_mark(data).drawn
    found = facts(mark_image(data, "m"))
    assert found[f"{IPTC}DigitalSourceType"] == [DRAWN_SOURCE]
    assert found[f"{DC}rights"] == ["Smith & Sons"]


def test_an_owner_s_title_is_kept():
    own = '<dc:title><rdf:Alt><rdf:li xml:lang="de">Becher</rdf:li></rdf:Alt></dc:title>'
    data = mark_image(replace_packet(picture(), packet(own)), "m", "Mug")
    assert facts(data)[f"{DC}title"] == ["Becher"] and read_mark(data).title == "Becher"


def test_whatever_else_a_packet_says_is_the_same_afterwards():
    extra = (
        "<dc:subject><rdf:Bag><rdf:li>red</rdf:li><rdf:li>mug</rdf:li></rdf:Bag></dc:subject><!-- note -->"
    )
    data = replace_packet(picture(), b'<?xpacket begin="" id="W5"?>' + packet(extra) + b"<?xpacket end='w'?>")
    marked = read_packet(mark_image(data, "m", "Mug"))
    assert (
        extra.encode() in marked
        and marked.startswith(b"<?xpacket")
        and marked.endswith(b"<?xpacket end='w'?>")
    )


BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "bad",
    [
        BOMB.encode() + packet("<dc:rights>&b;</dc:rights>"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>", b"", b"\xff\xfe\x00", b"<a/>", b"<?xml version='1.0' encoding='no-such'?><a/>",
    ],
)  # fmt: skip
def test_hostile_facts_are_refused_by_name(bad):
    data = replace_packet(picture(), bad)
    for call in (lambda: read_mark(data, "a.png"), lambda: mark_image(data, "m", "t", "a.png")):
        with pytest.raises(ImageError, match=r"the facts of 'a\.png'"):
            call()


def test_tiff_and_other_kinds_are_refused_by_name():
    for kind in ("TIFF", "GIF", "BMP"):
        with pytest.raises(ImageError, match="save it as PNG, JPEG, WEBP or AVIF"):
            mark_image(picture(kind), "m")
        with pytest.raises(ImageError, match=r"'a\.x'"):
            read_mark(picture(kind), "a.x")


def test_a_picture_without_facts_says_nothing():
    assert read_mark(picture()) == PictureMark("", "", "") and not read_mark(picture()).drawn


def test_pillow_and_elementtree_agree_without_us():
    with Image.open(io.BytesIO(mark_image(picture("JPEG"), "m", "Mug"))) as image:
        tree = ET.fromstring(image.info["xmp"])
    assert tree.find(f".//{IPTC}DigitalSourceType").text == DRAWN_SOURCE
