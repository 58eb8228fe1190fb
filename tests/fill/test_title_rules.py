"""Title rules: each kept and broken, at its bound, and by hostile titles."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.profiles import FILE_PROFILES
from mmpc_analysis.completion.prompts import PROMPTS
from mmpc_analysis.fill.title_rules import TITLE_RULES, check_title

LONG = "kite with line and reel in red "  # 31 characters


@pytest.mark.parametrize(
    "title",
    [
        "=1+1", "+49 kite", "-5", "@SUM(A1)", " =1+1", '"=1+1"', "'=1", "\u00a0=1", "\u200b=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20SUM", "\t=1", "|calc",
        "<b>Kite</b>", "<script>alert(1)</script>", "Kite <img src=x onerror=alert(1)>", "Kite &amp; line", "Kite &#x3c;", "\uff1cb\uff1eKite", "javascript:alert(1)", "<!-- Kite -->", "Kite</title", "<svg/onload=x>",
        "Kite\u202eetik", "\u2066Kite\u2069", "Ki\u200bte", "Ki\u2060te", "\ufeffKite", "Kite\x00", "Kite\x1b[31m", "Kite\nline", "Kite\r", "Ki\u00adte", "Kite \u200e", "Kite \ufffd", "Kite \ud800", "Kite \ue000", "Kite\u2028line", "Ki\u200dte", "\U000e0041Kite",
        "", "   ", None, "n/a", "Untitled", "PRODUCT TITLE", "TBD", "123", "- - -", "\U0001f600", "...",
        "blue blue blue kite", "red kite red kite red kite", "Kite, kite; KITE!",
        "Kite from example.com", "https://evil.example", "Kite www.shop", "mail me@shop.example now",
        "Kite FREE SHIPPING", "Kite 20% off", "Buy now: kite", "Kite!!!", "Kite $5 off", "Best price kite", "Kite, limited time", "Kite \uff26\uff32\uff25\uff25 shipping",
        LONG * 5,
        "a" * 10_000, "kite " * 2_000,
    ],
)  # fmt: skip
def test_withheld_from_every_file(title):
    for profile in FILE_PROFILES:
        assert check_title(title, profile)


@pytest.mark.parametrize(
    "title",
    [
        "Kite", "Kite, 5 < 10 m", "I <3 kites", "M&M's & friends", "Nike\u00ae Air 90", "R&D; Kit", "Salt & Pepper Mill", "50-60 cm kite", "Kite = fun", "Off-Road Kite", "Sailing Kite",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u06a9\u062a\u0627\u0628", "\u05e2\u05e4\u05d9\u05e4\u05d5\u05df \u200fABC", "\u98a8\u7b5d", "\u0915\u094d\u200d\u0937 \u092a\u0924\u0902\u0917", "K\u00fcche", "caf\u00e9", "Kite 'n' Line",
        "New York New York Poster", "Kite (red)", "T. rex kite", "Dr. Martens boots", "St. Moritz kite", "Free Standing Shelf", "Lead-Free Crystal", "Discoverer Kite", "Kite!", "Title Boxing Gloves",
    ],
)  # fmt: skip
def test_kept(title):
    for profile in FILE_PROFILES:
        assert check_title(title, profile) is None


def test_lengths_at_their_bounds():
    fits = (LONG * 5)[:145] + " reel"
    assert len(fits) == 150
    assert "repeats" in check_title(LONG * 5)  # Said three times and more, before its length is looked at
    words = " ".join(f"w{n:02d}" for n in range(100))
    assert check_title(words[:150].strip()) is None
    assert check_title(words[:149] + "xx") == "has 151 characters, Google takes 150"
    for profile in ("shopify", "shopify-legacy"):
        assert check_title(words[:255] + "x", profile) == "has 256 characters, Shopify takes 255"
        assert "Google" in check_title(words[:254] + "x", profile)


def test_google_s_own_rules_are_google_s():
    for title, reason in (
        ("RED KITE WITH LINE", "capitals"),
        ("Kite \U0001f600", "catches the eye"),
        ("\u2605 Kite \u2605", "catches the eye"),
    ):
        assert reason in check_title(title, "google")
        assert check_title(title, "woocommerce") is None
    for title in ("LEGO set", "NASA ESA", "HP 305XL", "Nike\u00ae kite", "20\u00b0 kite", "\u98a8\u7b5d"):
        assert check_title(title, "google") is None


def test_a_profile_may_be_given_itself():
    assert "capitals" in check_title("RED KITE WITH LINE", FILE_PROFILES["google"])


def test_the_prompt_s_example_is_no_title():
    shown = [p.example for p in PROMPTS.values() if p.task == "image_to_text" and p.example]
    assert shown
    for example in shown:
        assert check_title(example) and check_title(example.upper()) and check_title(f"{example}.")
    assert check_title("Blue Garden Kite", examples=["blue garden kite"]) == "repeats the prompt's example"
    assert check_title("Blue Garden Kite", examples=[]) is None
    assert check_title("Blue Garden Kite", examples=[""]) is None


def test_each_rule_has_a_source_and_is_broken_by_a_title_of_its_own():
    broken = {
        "formula": "=1", "unseen": "Ki\u200bte", "html": "<b>", "nothing": "n/a", "loop": "a a a", "address": "www.x", "shopify_length": "x" * 256,
        "google_length": "x" * 151, "promotion": "Kite on sale", "capitals": "RED KITE LINE", "gimmick": "\u2605",
    }  # fmt: skip
    assert set(broken) == set(TITLE_RULES)
    for name, rule in TITLE_RULES.items():
        assert rule.name == name and rule.source and rule.asks.endswith(".")
        assert rule.find(broken[name]) and rule.find("Red kite") is None
        assert set(rule.profiles) <= set(FILE_PROFILES)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=170))
def test_what_may_be_written_is_seen_and_begins_no_formula(title):
    if check_title(title) is None:
        assert 0 < len(title) <= 150 and title.strip()[0] not in "=+-@" and "\n" not in title
        assert not any(
            unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") or c in "\u202e\u2066\u200b" for c in title
        )


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "&", "a ", "www.", "a@", "1% ", "(", "\u200d", "buy ", "!", "a.b-"]
)
def test_hostile_titles_take_no_time(piece):
    title = "x" + (piece * 10_000)[:10_000]
    started = time.process_time()
    for rule in TITLE_RULES.values():
        rule.find(title)
    assert time.process_time() - started < 3


def test_a_file_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="profile must be one of"):
        check_title("Kite", "ebay")
