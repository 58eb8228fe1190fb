"""Claims: found, supported and taken out, by hand and by what must hold for any title."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.fill.brand_names import BrandList
from mmpc_analysis.fill.found_claims import CLAIM_KINDS, Claim, find_claims, is_supported, remove_claims

BRANDS = ("Nike", "Acme", "3M", "Black & Decker", "\u8010\u514b")


def kinds(title, brands=BRANDS):
    return [(claim.kind, claim.text) for claim in find_claims(title, brands)]


@pytest.mark.parametrize(
    ("title", "claims"),
    [
        ("Nike Running Shoes", [("brand", "Nike")]),
        ("Nike's\u00ae Shoes", [("brand", "Nike's\u00ae")]),
        ("3M Tape", [("brand", "3M")]),  # Not an amount
        ("Black & Decker Drill 18V", [("brand", "Black & Decker"), ("number", "18V")]),
        ("Photo Frame 8 x 10 in", [("size", "8 x 10 in")]),
        ("Cable 2 x 3 m", [("size", "2 x 3 m")]),
        ("Beer 6 x 330 ml", [("number", "6 x 330 ml")]),
        ("Shirt, XL", [("size", "XL")]),
        ("Shoes size 42", [("size", "size 42")]),
        ("100% Cotton Shirt", [("material", "100% Cotton")]),
        ("100% Pure Cotton Shirt", [("material", "100% Pure Cotton")]),
        ("100% waterproof", [("number", "100%")]),
        ("3-in-1 Cable", [("number", "3-in-1")]),
        ("Drill X200", []),
        ("Magnifying Glass", []),
        ("Kite", []),
        ("", []),
    ],
)
def test_claims_of_a_title(title, claims):
    assert kinds(title) == claims


def test_common_names_are_no_claims():
    assert (
        find_claims("Orange Shirt by Acme", BrandList(("Acme", "Orange"), frozenset({"Orange"})))[0].text
        == "Acme"
    )


def test_materials_of_one_s_own():
    assert [(c.kind, c.text) for c in find_claims("Tisch aus Holz", (), {"holz": ("holz",)})] == [
        ("material", "Holz")
    ]
    assert find_claims("Cotton Shirt", (), {}) == []


@pytest.mark.parametrize(
    ("title", "cells", "supported"),
    [
        ("Bottle 500 ml", ["0.5 l"], True),
        ("Bottle 500 ml", ["0.7 l"], False),
        ("Bottle 500 ml", ["500"], False),  # Of what?
        ("Bottle 500 ml", [], False),
        ("Kite 3", ["3 m"], True),
        ("Frame 8 x 10 in", ["width 8 in", "height 10 in"], True),
        ("Frame 8 x 10 in", ["8 in"], False),
        ("Frame 8 x 10 in", ["20 x 25 cm"], True),
        ("Shirt, XL", ["S | M | XL"], True),
        ("Shirt, XL", ["Extra large"], True),
        ("Shirt, XL", ["L"], False),
        ("Socks S/M", ["S | M | L"], True),
        ("Socks S/M", ["M | L"], False),
        ("Nike's Shoes", ["NIKE, Inc."], True),
        ("Nike Shoes", ["Nikecorp"], False),
        ("Cotton Shirt", ["60% cotton"], True),
        ("100% Cotton Shirt", ["60% cotton"], False),
        ("100% Cotton Shirt", ["Fabric: 100% cotton"], True),
        ("Steel Pot", ["stainless steel"], True),
        ("Leather Bag", ["faux leather"], False),
        ("Spandex Top", ["5% Elastane"], True),
        ("Glass Lid", ["Glass"], True),  # A cell that is the material
        ("Pack of 6 Mugs", ["6 pcs"], True),
    ],
)
def test_support(title, cells, supported):
    (claim,) = find_claims(title, BRANDS)
    assert is_supported(claim, cells) is supported
    assert is_supported(claim, "\n".join(cells)) is supported
    assert is_supported(claim, [*cells, None, float("nan")]) is supported


@pytest.mark.parametrize(
    "title",
    [
        "Nike Shirt, XL, 100% Cotton, pack of 3",
        "8x10 in oak frame by Acme",
        "12 oz Glass Mug (2 pcs)",
        "Socks S/M 5-10 lb 3 in 1",
    ],
)
def test_a_claim_is_supported_by_its_own_title(title):
    claims = find_claims(title, BRANDS)
    assert len(claims) >= 2 and all(is_supported(claim, title) for claim in claims)


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("Nike Running Shoes", "Running Shoes"),
        ("Running Shoes by Nike", "Running Shoes"),
        ("Running Shoes from Nike, red", "Running Shoes, red"),
        ("Nike: Running Shoes", "Running Shoes"),
        ("Nike - Running Shoes", "Running Shoes"),
        ("[Nike] Running Shoes", "Running Shoes"),
        ("Running Shoes (Nike, size 42)", "Running Shoes"),
        ("Running Shoes (Nike, red)", "Running Shoes (red)"),
        ("Running Shoes, Nike, red", "Running Shoes, red"),
        ("Running Shoes | Nike | 42", "Running Shoes"),
        ("Running Shoes by Nike Inc.", "Running Shoes"),
        ("Nike's Running Shoes", "Running Shoes"),
        ("Coffee Mug (12 oz), Ceramic, White Handle", "Coffee Mug, White Handle"),
        ("Coffee Mug made of Ceramic", "Coffee Mug"),
        ("Coffee Mug made of Ceramic and Cork", "Coffee Mug"),
        ("Coffee Mug with Steel Handle", "Coffee Mug with Handle"),
        ("Blanket of 100% Wool for Kids", "Blanket for Kids"),
        ("Salt & Pepper Shaker Set of 2, Stainless Steel", "Salt & Pepper Shaker"),
        ("Garden Hose up to 50 m, green", "Garden Hose, green"),
        ("6-Piece Knife Set", "Knife Set"),
        ("Non-Stick Pan 28cm, Aluminium", "Non-Stick Pan"),
        ("\u8010\u514b\u8dd1\u978b \u7ea2\u8272", "\u8dd1\u978b \u7ea2\u8272"),
        ("Acme Mug", None),  # One word
        ("Nike 42", None),
        ("Mug, size M", None),
        ("Nike 100% Cotton of the XL", None),
        ("Kite and String", "Kite and String"),  # Nothing to take out
    ],
)
def test_what_is_left(title, left):
    assert remove_claims(title, find_claims(title, BRANDS)) == left


def test_a_conjunction_goes_with_one_of_two_claims_only():
    title = "Cotton and Wool Scarf, long"
    cotton, wool = find_claims(title)
    assert remove_claims(title, [wool]) == "Cotton Scarf, long"
    assert remove_claims(title, [cotton]) == "Wool Scarf, long"
    title = "Coffee Mug made of Ceramic and Cork"
    ceramic, cork = find_claims(title)
    assert remove_claims(title, [ceramic]) == "Coffee Mug made of Cork"
    assert remove_claims(title, [cork]) == "Coffee Mug made of Ceramic"
    assert remove_claims("Cup and Glass Saucer", find_claims("Cup and Glass Saucer")) == "Cup and Saucer"


PIECE = st.sampled_from(
    [
        "Nike",
        "Acme's",
        "12 oz",
        "8 x 10 in",
        "XL",
        "cotton",
        "100% wool",
        "kite",
        "Running",
        "shoes",
        "with",
        "of",
        "by",
        "and",
        "&",
        "red",
        "size M",
        "\u200b",
        "\u00bd l",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(PIECE, min_size=1, max_size=4).map(" ".join),
            st.sampled_from([", ", " - ", " | ", " ", "; "]),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ).map(
        lambda parts: "".join(
            (f"({words})" if inside else words) + between for words, between, inside in parts
        ).rstrip(" ,-|;")
    ),
    st.data(),
)
def test_what_must_hold_for_any_title(title, data):
    claims = find_claims(title, BRANDS)
    assert all(claim.kind in CLAIM_KINDS and title[claim.start : claim.end] == claim.text for claim in claims)
    assert all(a.end <= b.start for a, b in pairwise(claims))
    gone = [claim for claim in claims if data.draw(st.booleans())]
    left = remove_claims(title, gone)
    if not gone:
        assert left == title
    elif left is not None:
        words, rest = re.findall(r"\w+", title), iter(re.findall(r"\w+", title))
        assert all(word in rest for word in re.findall(r"\w+", left)), "words of the title in their order"
        assert len(re.findall(r"\w+", left)) <= len(words) - len(gone)
        assert not re.search(r"  |[\ue000\ue001]", left)
        broken = re.compile(r"[(\[]\s*[)\]]|,\s*,|\s,|^\W*[,|:]|[,|:]\s*$")
        assert broken.search(title.replace("\u200b", " ")) or not broken.search(left)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_text_has_claims_and_a_rest(title):
    claims = find_claims(title, BRANDS)
    left = remove_claims(title, claims)
    assert left is None or isinstance(left, str)


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "Nike ",
        "12 oz ",
        " ",
        "and ",
        ",",
        "S | ",
        "cotton and ",
        "\u202e",
        "8 x ",
        "size ",
        "- ",
        "\ue000",
    ],
)
def test_hostile_titles_take_no_time(piece):
    title = (piece * 4000)[:4000]
    started = time.process_time()
    claims = find_claims(title, BRANDS)
    remove_claims(title, claims)
    assert time.process_time() - started < 5


def test_marks_of_our_own_in_a_title_do_no_harm():
    title = "Nike \ue000Running\ue001 Shoes"
    assert remove_claims(title, find_claims(title, BRANDS)) == "Running Shoes"


def test_refusals():
    with pytest.raises(ValueError, match="does not stand at"):
        remove_claims("Red Mug", [Claim("brand", "Nike", 0, 4)])
    with pytest.raises(ValueError, match="must be one of"):
        is_supported(Claim("colour", "red", 0, 3), "red")
