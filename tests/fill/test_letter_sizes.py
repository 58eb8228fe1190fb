"""Sizes in letters, and letters that are none."""

import pytest

from mmpc_analysis.fill.letter_sizes import letter_sizes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("T-Shirt XL", ["xl"]),
        ("T-Shirt 3XL red", ["3xl"]),
        ("T-Shirt xl red", []),  # Small letters alone may be anything
        ("T-Shirt, xl, red", ["xl"]),
        ("Gloves (L)", ["l"]),
        ("Gloves - M - blue", ["m"]),
        ("Shirt, size S", ["s"]),
        ("Size: medium shirt", ["m"]),
        ("Extra Large", ["xl"]),
        ("x-large", ["xl"]),
        ("S | M | L | XL", ["s", "m", "l", "xl"]),
        ("Socks S/M", ["s", "m"]),
        ("Socks S-XL", ["s", "xl"]),
        ("one size", ["one size"]),
        ("L", ["l"]),
        ("Large Bag", []),
        ("Bag Large", []),
        ("S Hook", []),
        ("L'Oreal", []),
        ("Tesla Model S", []),
        ("AXL", []),
        ("M&M's", []),
        ("5 M", []),
        ("", []),
    ],
)
def test_sizes(text, sizes):
    assert [size for size, _, _ in letter_sizes(text)] == sizes


def test_places():
    text = "Shirt, extra large, size M"
    assert [text[a:b] for _, a, b in letter_sizes(text)] == ["extra large", "size M"]
