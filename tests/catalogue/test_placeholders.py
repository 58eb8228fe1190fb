"""Cells that only say that there is nothing, and names that look like them."""

from collections import Counter

import pandas as pd
import pytest

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.placeholders import (
    PLACEHOLDERS,
    is_placeholder,
    is_placeholder_image,
    placeholder_words,
)
from mmpc_analysis.tables import ITEMS

NOTHING = [
    "N/A",
    "#N/A",
    "-",
    "--",
    "null",
    "none",
    "TBD",
    "untitled",
    "#REF!",
    "no title",
    "Default Title",
    ".",
    "n.a.",
]
SIBLINGS = [" N/a ", "NULL", "\u2014", "\uff0d", "(none)", "[No Title]", "#DIV/0!", "No  Name", "\u2026", "Not Available", "?", "NaN"]  # fmt: skip
REAL = [
    "None of the Above",
    "N/A Cable 3 m",
    "- 20 °C Freezer",
    "Null Pointer Mug",
    "TBD: The Game",
    "1",
    "A",
    "Unknown",
    "Not",
    "..e",
]


@pytest.mark.parametrize("text", NOTHING + SIBLINGS)
def test_titles_that_say_nothing(text):
    assert is_placeholder("title", text)
    assert not is_placeholder("title", text, ()) and not is_placeholder("item_id", text)


@pytest.mark.parametrize("text", REAL)
def test_titles_that_only_look_like_it(text):
    assert not is_placeholder("title", text)


def test_each_column_has_its_own_words():
    assert set(PLACEHOLDERS) <= set(ITEMS.names)
    asked = {
        "brand": "Unbranded",
        "category": "Uncategorized",
        "description": "No description",
        "title": "Untitled",
    }
    for column, text in asked.items():
        assert [c for c in asked if is_placeholder(c, text)] == [column]


@pytest.mark.parametrize(
    "image",
    ["no-image.png", "placeholder.jpg", "woocommerce-placeholder.png", "noimage", "NoImage.GIF", "no_photo.jpg", "N/A",
     "https://x.example/wp-content/uploads/woocommerce-placeholder-600x600.png?v=3", "media\\no-picture-available.svg",
     "//cdn.example/no-image-2048-5e88c1b20e087fb7bbe9.gif", "Image Not Found.jpg", "image_coming_soon_large.png",
     "product-placeholder@2x.png", "https://x.example/placeholder.jpg#top", "missing-image.webp"],
)  # fmt: skip
def test_pictures_of_nothing(image):
    assert is_placeholder_image(image) and not is_placeholder_image(image, ())


@pytest.mark.parametrize(
    "image",
    ["piano-image.png", "placeholder-cards-for-weddings.jpg", "no-imagination-poster.jpg", "camera-no-1.jpg", "techno-photo.jpg",
     "https://placeholder.example/mug.jpg", "no-image/mug.jpg", "image.jpg", "IMG_0042.jpg", "coming-soon-poster-film.jpg"],
)  # fmt: skip
def test_pictures_that_only_look_like_it(image):
    assert not is_placeholder_image(image)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "frame"])
def test_placeholders_are_missing_and_listed(tmp_path, form):
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "N/A"],
            "title": ["N/A", "#N/A", "Mug", "Kite", "Top"],
            "brand": ["-", "Sky", "TBD", "Sky", "unbranded"],
            "description": ["x", "x", "N/A", "x", "x"],
            "image": ["a.png", "b.png", "no-image.png", "woocommerce-placeholder-300x300.png", None],
        }
    )
    from PIL import Image

    for name in ("a", "b", "no-image"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    source = tmp_path / f"feed.{form}"
    if form == "csv":
        table.to_csv(source, index=False)
    elif form == "jsonl":
        table.to_json(source, orient="records", lines=True)
    elif form == "parquet":
        table.to_parquet(source)
    catalogue = load_catalogue(table if form == "frame" else source, root=tmp_path)
    items = catalogue.items.set_index("item_id")
    assert items["title"].isna().to_dict() == {"N/A": False, "a": True, "b": True, "c": False, "d": False}
    assert items["image"].dropna().to_dict() == {"a": "a.png", "b": "b.png"}
    assert items["brand"].dropna().to_dict() == {"b": "Sky", "d": "Sky"}
    aside = catalogue.set_aside
    assert aside[["item_id", "column"]].values.tolist() == [
        ["a", "title"],
        ["b", "title"],
        ["c", "image"],
        ["d", "image"],
    ]
    assert aside["kept"].all() and "'#N/A' only says" in aside["reason"][1]
    assert catalogue.counts["placeholder titles"] == 2 and catalogue.counts["placeholder brands"] == 3
    assert "titles 2 ('N/A' 1, '#N/A' 1)" in catalogue.note and "'no-image.png' 1" in catalogue.note
    kept = load_catalogue(table if form == "frame" else source, root=tmp_path, placeholders=())
    assert kept.items["title"].notna().all() and "placeholder titles" not in kept.counts
    assert kept.items.set_index("item_id")["image"]["c"] == "no-image.png"


def test_a_placeholder_file_of_a_folder_is_no_product(tmp_path):
    from PIL import Image

    for name in ("mug", "placeholder", "no-image-600x600"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    catalogue = load_catalogue(tmp_path)
    assert catalogue.items["item_id"].tolist() == ["mug"]
    assert catalogue.counts == {"placeholder files passed over": 2} and "passed over: 2" in catalogue.note


def test_the_commonest_are_named():
    found = {"titles": Counter({"N/A": 3, "-": 2, "?": 1, "x": 1, "y": 1, "z": 1})}
    assert placeholder_words(found, 2).startswith(
        "Taken as missing"
    ) and "'N/A' 3, '-' 2 and 4 others" in placeholder_words(found, 2)
    assert placeholder_words({}) == ""
