"""Faithfulness: claims worked out by hand, ranges under any text, and texts that try to slip through."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_words import HOSTILE

from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.metrics import faithfulness as fa

HALVES = ("3½", "3 ½", "3 1/2", "3-1/2", "3.5", "3.50", "3,5")
CLAIMS = {
    "5 ft": {("5", "ft")},
    "5-foot": {("5", "ft")},
    "5' tall": {("5", "ft")},
    '7.50" screen': {("7.5", "in")},
    "7,5 inches": {("7.5", "in")},
    "1,000 ml": {("1000", "ml")},
    "1,234,567 pcs": {("1234567", "pc")},
    "007 agent": {("7", "")},
    "0.0 %": {("0", "%")},
    "$20 or €3.5": {("20", "$"), ("3.5", "€")},
    "4K 3D B07X RTX4090 x2": {("4", "k"), ("3", "d"), ("2", "")},
    "8x10 in": {("8", "in"), ("10", "in")},
    "8in x 10in": {("8", "in"), ("10", "in")},
    "8 \u00d7 10 cm": {("8", "cm"), ("10", "cm")},
    "Six-Piece, twelve-pack": {("6", "pc"), ("12", "pack")},
    "all in one, someone, often": set(),
    "٣ kg": {("3", "kg")},
    "½ cup": {("0.5", "cup")},
    "3½ inch pan": {("3.5", "in")},
    "3 ½-inch pan": {("3.5", "in")},
    "3 1/2 in. pan": {("3.5", "in")},
    '3-1/2" pan': {("3.5", "in")},
    "3 and 1/2 inch pan": {("3.5", "in")},
    "3.50'' pan": {("3.5", "in")},
    "1/4 inch drive": {("0.25", "in")},
    '⅜" and 1⅝"': {("0.375", "in"), ("1.625", "in")},
    "⅓ cup, 2/3 cup": {("1/3", "cup"), ("2/3", "cup")},
    "1/2-3/4 in": {("0.5", "in"), ("0.75", "in")},
    "24/7, 50/50, 9/11/2001": {("24", ""), ("7", ""), ("50", ""), ("9", ""), ("11", ""), ("2001", "")},
    "Pack of 5": {("5", "pack")},
    "pack of five": {("5", "pack")},
    "5-Pack": {("5", "pack")},
    "5 pk": {("5", "pack")},
    "Set of 3": {("3", "pc")},
    "3-piece set": {("3", "pc")},
    "Box of 1,000": {("1000", "ct")},
    "5 packs of 10": {("5", "pack"), ("10", "")},
    "2 x 3 ft": {("2", "ft"), ("3", "ft")},
    "2 x 4 x 8 in": {("2", "in"), ("4", "in"), ("8", "in")},
    "6 x 330 ml": {("6", ""), ("330", "ml")},
    "10-12 inches": {("10", "in"), ("12", "in")},
    "10 to 12 oz": {("10", "oz"), ("12", "oz")},
    "10\u201312 years": {("10", "yr"), ("12", "yr")},
    "5'3\" tall": {("5", "ft"), ("3", "in")},
    "16.9 fl. oz, 16.9 fluid ounces": {("16.9", "floz")},
    "200 sq ft": {("200", "sqft")},
    "": set(),
}


@pytest.mark.parametrize("text", CLAIMS)
def test_claims_by_hand(text):
    assert fa.number_claims(text) == CLAIMS[text]


@pytest.mark.parametrize(
    ("reference", "candidate", "given", "share"),
    [
        ("Leash, 5 ft", "Leash, 5-foot", None, 0),
        ("Leash, 5 ft", "Leash, 60 in", None, 1),  # Nothing is converted
        ("Leash, 5 ft", "Leash, 5", None, 0),  # A bare number is content with the number
        ("Leash, 5", "Leash, 5 ft", None, 1),  # A unit that nobody gave
        ("Six strings", "6 strings", None, 0),
        *((f"Pan, {a} in", f"Pan, {b} inch", None, 0) for a in HALVES for b in HALVES),
        ("Pan, 3½ in", "Pan, 3 in", None, 1),
        ("Pan, 3½ in", "Pan, 2 in", None, 1),
        ("Drive, 1/4 in", "Drive, 4 inch", None, 1),
        ("Drive, 1/4 in", "Drive, 1 inch", None, 1),
        ("Drive, ¼ in", 'Drive, 0.25"', None, 0),
        ("Cups, pack of 5", "Cups, 5 pack", None, 0),
        ("Cups, 5 pack", "Cups, Pack of 5", None, 0),
        ("Cups, set of 3", "3-piece cups", None, 0),
        ("Cups, pack of 5", "Cups, pack of 6", None, 1),
        ("Screws, 1,000 ct", "Screws, 1000 count", None, 0),
        ("Rug, 2 x 3 ft", "Rug, 2' x 3'", None, 0),
        ("Rug, 2 x 3 ft", "Rug, 2 in x 3 ft", None, 1 / 2),
        ("Leash, 10-12 in", "Leash, 10 in to 12 in", None, 0),
        ("Leash", "Leash, 5 ft, 2 pack", "sold in a 2-pack", 1 / 2),
        ("Leash", "Leash, 5 ft 5 ft 5 ft, 2 pack, 3 lb", "5 ft", 2 / 3),  # Distinct claims
        ("Leash", "Leash without a number", None, 0),
        ("", "5 ft", None, 1),
        ("5 ft", " ", None, 0),
    ],
)
def test_unsupported_numbers_by_hand(reference, candidate, given, share):
    told = None if given is None else [given]
    assert fa.unsupported_numbers([reference], [candidate], told).tolist() == pytest.approx([share])


@pytest.mark.parametrize(
    ("brand", "candidate", "hit"),
    [
        ("Noto", "NOTO guitar", 1), ("Noto", "Notoriety", 0), ("Black & Decker", "Drill by black, decker", 1),
        ("Black Decker", "Decker Black", 0), ("Noto", "", 0), ("红色", "红色 汽车", 1), ("Crème", "cre\u0300me", 1),
        ("", "mug", None), (" ", "mug", None), (None, "mug", None), ("...", "mug", None), ("Noto", None, None),
    ],
)  # fmt: skip
def test_brand_hit_by_hand(brand, candidate, hit):
    value = fa.brand_hit([brand], [candidate])[0]
    assert np.isnan(value) if hit is None else value == hit


def test_the_example_is_that_of_the_prompt():
    shown = prompt_for("image_to_text").example
    assert fa.example_copy(["Guitar"], [shown]).tolist() == [1.0]
    assert fa.example_copy([shown], [shown]).tolist() == [0.0]  # It is the truth
    assert fa.example_copy(["Guitar"], [shown], example="a b c d").tolist() == [0.0]
    other = prompt_for("text_to_image").example
    assert fa.example_copy(["x"], ["White studio background, soft even light, guitar"], other)[0] == 6 / 7


def test_short_runs_are_nobody_s():
    assert fa.example_copy(["x"], ["Guitar, 5 ft, orange"], "leash 5 ft").tolist() == [0.0]
    assert fa.example_copy(["x"], ["a b x b c d e"], "a b c d").tolist() == [3 / 7]


METRICS = {
    "unsupported_numbers": fa.unsupported_numbers,
    "brand_hit": fa.brand_hit,
    "example_copy": fa.example_copy,
    "length_ratio": fa.length_ratio,
}


@pytest.mark.parametrize("name", METRICS)
def test_hostile_texts_get_a_value(name):
    pairs = [(a, b) for a in HOSTILE for b in HOSTILE]
    values = METRICS[name]([a for a, _ in pairs], [b for _, b in pairs])
    known = values[~np.isnan(values)]
    assert len(known) > len(pairs) / 2 and known.min() >= 0 and (known.max() <= 1 or name == "length_ratio")
    said = np.array([bool(a.strip()) and "mug" in a for a, _ in pairs])
    assert np.isfinite(values[said]).all()


@pytest.mark.parametrize("name", METRICS)
def test_missing_is_unknown(name):
    missing = [None, float("nan"), pd.NA, np.nan]
    assert np.isnan(METRICS[name](missing, ["mug 5"] * 4)).all()
    assert np.isnan(METRICS[name](["mug 5"] * 4, missing)).all()
    values = METRICS[name]([], [])
    assert values.shape == (0,) and values.dtype == np.float64


title = st.lists(
    st.sampled_from([*["5", "7.5", "ft", "in", "1,000", "$3", "six", "x", "pack", "guitar", "leash", "é"]]),
    max_size=6,
).map(" ".join)


@given(st.lists(st.tuples(title | st.text(max_size=12), title), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_the_truth_is_faithful_and_order_does_not_matter(pairs):
    a, b = [r for r, _ in pairs], [c for _, c in pairs]
    assert not fa.unsupported_numbers(a, a).any() and not fa.example_copy(a, a).any()
    assert set(fa.length_ratio(a, a)[~np.isnan(fa.length_ratio(a, a))]) <= {1.0}
    assert set(fa.brand_hit(a, a)[~np.isnan(fa.brand_hit(a, a))]) <= {1.0}
    for metric in METRICS.values():
        np.testing.assert_array_equal(metric(a[::-1], b[::-1])[::-1], metric(a, b))
    told = fa.unsupported_numbers(a, b, b)
    assert not told.any() and (fa.unsupported_numbers(a, b) >= told).all()


def test_given_must_fit():
    with pytest.raises(ValueError, match="one text per candidate, got 1 for 2"):
        fa.unsupported_numbers(["a", "b"], ["a", "b"], ["c"])
