"""Which rows are a product's, and what its other cells say: against the standard library's own reading of the exports."""

import csv
import gzip
import io
import json
import random
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.fill.file_rows import file_rows, product_places
from mmpc_analysis.fill.item_rows import item_rows
from mmpc_analysis.fill.product_cells import DERIVED_COLUMNS, hidden_columns, product_cells

EXPORTS = ROOT / "tests" / "data" / "catalogue" / "exports"
TRUTH = json.loads(gzip.decompress((EXPORTS / "truth.json.gz").read_bytes()))
NAMES = sorted(name for name in TRUTH)
PICTURE = "https://x.example/1.jpg"


def loaded(name):
    return load_catalogue(EXPORTS / name, check_pictures="none")


def csv_rows(name):
    "Line of the record's first line, and its cells, by the standard library alone."
    text = gzip.decompress((EXPORTS / name).read_bytes()).decode("utf-8-sig")
    reader = csv.reader(io.StringIO(text, newline=""))
    header, at, rows = next(reader), 2, []
    for cells in reader:
        rows.append((at, dict(zip(header, cells, strict=True))))
        at = reader.line_num + 1
    return rows


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("name", ["shopify.csv.gz", "shopify_legacy.csv.gz"])
def test_rows_of_a_handle_are_one_product(name):
    catalogue = loaded(name)
    ids, handle = set(catalogue.items["item_id"]), "URL handle" if "legacy" not in name else "Handle"
    rows = list(file_rows(EXPORTS / name, catalogue))
    expected = [
        (place, row[handle] if row[handle] in ids else None, row[handle]) for place, row in csv_rows(name)
    ]
    assert [(r.place, r.item_id, r.cells[handle]) for r in rows] == expected
    first = {}
    for place, item_id, _ in expected:
        first.setdefault(item_id, place)
    assert {r.item_id: r.place for r in rows if r.own} == {i: p for i, p in first.items() if i}


@pytest.mark.parametrize("name", ["woocommerce.csv.gz", "woocommerce_german.csv.gz"])
def test_variations_belong_to_the_product_that_they_name(name):
    catalogue = loaded(name)
    rows, ids = csv_rows(name), set(catalogue.items["item_id"])
    kind, sku, parent = (
        ("Typ", "Artikelnummer", "Übergeordnetes Produkt") if "german" in name else ("Type", "SKU", "Parent")
    )
    by_sku = {row[sku]: row["ID"] for _, row in rows if row[sku] and "variation" not in row[kind]}
    expected = []
    for place, row in rows:
        own = "variation" not in row[kind]
        product = row["ID"] if own else by_sku.get(row[parent], row[parent].removeprefix("id:"))
        expected.append((place, product if product in ids else None, own and product in ids))
    found = [(r.place, r.item_id, r.own) for r in file_rows(EXPORTS / name, catalogue)]
    assert found == expected and sum(own for _, _, own in found) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_every_item_has_one_own_row(name):
    catalogue = loaded(name)
    own = [row.item_id for row in file_rows(EXPORTS / name, catalogue) if row.own]
    assert sorted(own) == list(catalogue.items["item_id"])


def test_a_row_that_was_set_aside_is_no_product():
    frame = pd.DataFrame(
        [["1", "", ""], ["1", "Mug", PICTURE], ["1", "Cup", PICTURE], ["2", "Kite", PICTURE]],
        columns=["id", "title", "image"],
    )
    catalogue = load_catalogue(frame, check_pictures="none")  # Row 1 has neither, row 3 comes too late
    assert catalogue.items["title"].tolist() == ["Mug", "Kite"]
    assert [r.item_id for r in file_rows(frame, catalogue)] == [None, "1", None, "2"]


def test_items_without_ids_are_called_after_their_pictures():
    frame = pd.DataFrame(
        {"name": ["A", "B", "C"], "image": ["placeholder.png,https://x.example/blue-mug.jpg?v=1", "https://x.example/kite.png", ""],
         "weight": ["1 g", "2 g", "3 g"]}
    )  # fmt: skip
    catalogue = load_catalogue(frame, check_pictures="none")
    ids = list(catalogue.items["item_id"])
    rows = [r.item_id for r in file_rows(frame, catalogue)]
    assert sorted(filter(None, rows)) == ids and len(ids) >= 2
    cells = product_cells(frame, catalogue).set_index("item_id")
    assert cells.loc["kite", "weight"] == "2 g"


def test_shuffled_rows_are_the_same_products():
    name = "woocommerce.csv.gz"
    rows = [row for _, row in csv_rows(name)]
    random.Random(3).shuffle(rows)
    frame = pd.DataFrame(rows)
    one, two = loaded(name), load_catalogue(frame, profile="woocommerce", check_pictures="none")
    before, after = product_cells(EXPORTS / name, one), product_cells(frame, two)
    assert set(before.columns) == set(after.columns)
    for column in before.columns:
        parts = [
            {i: set((text or "").split(" | ")) for i, text in zip(t["item_id"], t[column], strict=True)}
            for t in (before, after)
        ]
        assert parts[0] == parts[1], column


# ---------------------------------------------------------------- cells of the exports


def test_cells_of_shopify_are_those_of_all_rows_of_a_handle():
    name = "shopify_legacy.csv.gz"
    catalogue = loaded(name)
    cells = product_cells(EXPORTS / name, catalogue)
    by_handle = defaultdict(list)
    for _, row in csv_rows(name):
        by_handle[row["Handle"]].append(row)
    assert list(cells["item_id"]) == list(catalogue.items["item_id"])
    for column in ("Option1 Value", "Variant Price", "Vendor", "Tags", "Price / Germany"):
        for item_id, text in zip(cells["item_id"], cells[column], strict=True):
            values = dict.fromkeys(row[column] for row in by_handle[item_id] if row[column])
            assert text == (" | ".join(values) or None), (item_id, column)


HIDDEN = {
    "shopify.csv.gz": {"Title", "URL handle", "Product image URL", "Image position", "Image alt text", "Variant image URL", "SEO title"},
    "shopify_legacy.csv.gz": {"Title", "Handle", "Image Src", "Image Position", "Image Alt Text", "Variant Image", "SEO Title", "Variant SKU", "Variant Barcode"},
    "woocommerce.csv.gz": {"ID", "Name", "Images", "Parent", "SKU", "GTIN, UPC, EAN, or ISBN"},
    "woocommerce_german.csv.gz": {"ID", "Name", "Bilder", "Übergeordnetes Produkt", "Artikelnummer"},
    "google.tsv.gz": {"id", "title", "structured_title", "link", "image_link", "additional_image_link", "item_group_id"},
    "google.xml.gz": {"id", "title", "structured_title", "link", "image_link", "additional_image_link", "item_group_id"},
    "meta_amazon.jsonl.gz": {"parent_asin", "title", "images"},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_says_the_title_or_was_made_of_it_is_left_out(name):
    catalogue = loaded(name)
    cells = product_cells(EXPORTS / name, catalogue)
    assert HIDDEN[name] <= set(cells.attrs["hidden"]) and not HIDDEN[name] & set(cells.columns)
    titles = dict(zip(catalogue.items["item_id"], catalogue.items["title"], strict=True))
    handles = [row["id"] for row in TRUTH["shopify.csv.gz"]]
    for column in cells.columns[1:]:
        for item_id, text in zip(cells["item_id"], cells[column], strict=True):
            title = titles[item_id]
            assert not text or not isinstance(title, str) or title not in text, (column, text)
            assert not text or not any(handle in text for handle in handles), (column, text)


def test_weights_of_descriptions_are_there_to_support():
    for name, column in (
        ("shopify.csv.gz", "Description"),
        ("woocommerce_german.csv.gz", "Beschreibung"),
        ("google.tsv.gz", "description"),
        ("google.xml.gz", "description"),
        ("meta_amazon.jsonl.gz", "description"),
    ):
        cells = product_cells(EXPORTS / name, loaded(name))
        weighty = cells[column].str.contains(r"Weight: \d+ g$", na=False)
        assert weighty.sum() > 50, (name, cells[column].head().tolist())
        assert not cells[column].str.contains("<|&amp;|\\\\n", na=False).any(), name


def test_details_of_amazon_are_one_text():
    cells = product_cells(EXPORTS / "meta_amazon.jsonl.gz", loaded("meta_amazon.jsonl.gz"))
    row = cells[cells["item_id"] == "B000000002"].iloc[0]
    assert row["details"] == "Item model number: M2" and row["features"] == "new, sale, last chance"
    assert row["categories"] == "Clothing, Shirts"


# ---------------------------------------------------------------- names and values


@pytest.mark.parametrize(
    ("profile", "name", "hidden"),
    [
        ("plain", "slug", True),
        ("plain", "meta_title_en", True),
        ("plain", "Product URL", True),
        ("plain", "FILENAME", True),
        ("plain", "Handle material", False),
        ("plain", "material", False),
        ("plain", "curl_type", False),
        ("plain", "linked_colour", False),
        ("shopify", "Title / Österreich", True),
        ("shopify", "Title tag (product.metafields.global.title_tag)", True),
        ("shopify", "Handle material (product.metafields.custom.handle_material)", False),
        ("shopify-legacy", "Option1 Name", False),
        ("shopify-legacy", "Option1 Linked To", True),
        ("woocommerce", "Meta: _yoast_wpseo_focuskw", True),
        ("woocommerce", "Meta: rank_math_title", True),
        ("woocommerce", "Name der Eigenschaft 1", False),
        ("woocommerce", "Attribute 1 name", False),
        ("woocommerce", "Weight (kg)", False),
        ("google", "g:mobile_link", True),
        ("google", "short_title", True),
        ("google", "display ads title", True),
        ("google", "product_highlight", False),
    ],
)
def test_columns_that_were_made_of_a_title(profile, name, hidden):
    found = hidden_columns([name, "sku"], profile, {"item_id": "sku"})
    assert (name in found) == hidden and found["sku"] == "the id"


def test_numbers_of_articles_support_nothing_and_those_of_makers_do():
    names = [
        "id",
        "sku",
        "Variant SKU",
        "Variant Barcode",
        "gtin",
        "EAN",
        "mpn",
        "Item model number",
        "ocean",
        "cup",
        "upc",
    ]
    found = hidden_columns(names, "plain", {"item_id": "id"})
    assert set(names) - set(found) == {"mpn", "Item model number", "ocean", "cup"}


def test_every_pattern_has_a_reason():
    assert {"", "shopify", "woocommerce", "google"} == set(DERIVED_COLUMNS)
    assert all(pattern == pattern.lower() and why for each in DERIVED_COLUMNS.values() for pattern, why in each.items())  # fmt: skip


def test_a_copy_of_the_title_under_another_name_is_seen_by_its_values():
    titles = [f"Mug {n} blue" for n in range(10)]
    frame = pd.DataFrame(
        {
            "sku": [str(n) for n in range(10)],
            "title": [*titles[:8], "", ""],
            "image": PICTURE,
            "bezeichnung": [f"MUG-{n}: BLUE." for n in range(10)],
            "half": [*titles[:4], *["other"] * 6],
            "less": [*titles[:3], *["other"] * 7],
            "page": [f"https://shop.example/mug-{n}" for n in range(10)],
            "file": [f"mug-{n}.jpg" for n in range(10)],
            "few": [*["https://shop.example/x"] * 5, *["steel"] * 5],
        }
    )
    catalogue = load_catalogue(frame, check_pictures="none", columns={"image": "image"})
    cells = product_cells(frame, catalogue)
    assert set(cells.columns) == {"item_id", "less", "few"}
    assert cells.attrs["hidden"]["bezeichnung"] == "says the title itself for 8 of 8 products"
    assert "addresses" in cells.attrs["hidden"]["page"]


def test_hostile_cells():
    rows = [
        {"id": "1", "title": "Mug", "image": PICTURE, "a": {"x": [1, None, {"y": True}], "z": None}, "b": [["n"], []], "c": b"\x00"},
        {"id": "2", "title": "Cup", "image": PICTURE, "a": None, "b": float("nan"), "c": np.int64(3)},
        {"id": "3", "title": "Pot", "image": PICTURE, "a": " N/A ", "b": pd.NA, "c": "\ud800", "item_id": "x", "d": "a\n\tb"},
        {"id": "4", "title": "Pan", "image": PICTURE, "a": "<script>500 ml</script>5 &lt; 6", "c": 1.0, "d": "\u200b"},
    ]  # fmt: skip
    frame = pd.DataFrame(rows, dtype="object")
    catalogue = load_catalogue(frame, check_pictures="none", columns={"item_id": "id"})
    cells = product_cells(frame, catalogue).set_index("item_id")
    assert cells["a"].tolist() == ["x: 1, y: true", None, None, "5 < 6"]
    assert cells.get("b").tolist() == ["n", None, None, None]
    assert cells["c"].tolist() == [None, "3", None, "1"]
    assert cells["d"].tolist() == [None, None, "a b", None]
    assert cells["item_id (of the file)"].tolist() == [None, None, "x", None]


def test_the_embedded_catalogue_has_its_own_columns():
    catalogue = load_catalogue()
    cells = product_cells("embedded", catalogue)
    assert list(cells["item_id"]) == list(catalogue.items["item_id"])
    assert cells["category"].tolist() == catalogue.items["category"].tolist()
    assert "title" not in cells and "image" not in cells


def test_a_folder_with_a_table_and_one_without(tmp_path):
    from PIL import Image

    for name in ("mug.png", "kite.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    bare = load_catalogue(tmp_path)
    assert product_cells(tmp_path, bare).to_dict("list") == {"item_id": ["kite", "mug"]}
    (tmp_path / "shop.csv").write_text("id,title,image,colour\nm,Mug,mug.png,blue\n")
    catalogue = load_catalogue(tmp_path)
    cells = product_cells(tmp_path, catalogue).set_index("item_id")
    assert cells.loc["m", "colour"] == "blue" and cells.loc["kite", "colour"] is None


def test_inputs_are_left_as_they_were():
    frame = pd.DataFrame({"id": ["1"], "title": ["Mug"], "image": [PICTURE], "tags": [["a", "b"]]})
    before, catalogue = frame.copy(deep=True), load_catalogue(frame, check_pictures="none")
    items = catalogue.items.copy(deep=True)
    product_cells(frame, catalogue)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(catalogue.items, items)


def test_another_file_is_refused(tmp_path):
    frame = pd.DataFrame({"id": ["1"], "title": ["Mug"], "image": [PICTURE]})
    catalogue = load_catalogue(frame, check_pictures="none")
    with pytest.raises(ValueError, match="no column id, title"):
        product_cells(pd.DataFrame({"image": [PICTURE]}), catalogue)


# ---------------------------------------------------------------- readers and writers agree


def nameless_table(rng):
    "A table without ids whose picture cells are of every kind, with rows that say nothing and names that come again."
    cells = [
        "https://x.example/a.jpg?v=1",
        "https://x.example/b.jpg, https://x.example/a.jpg",
        "https://x.example/no-image.png",
        "https://x.example/placeholder.png, https://x.example/c.jpg",
        "",
        None,
        7,
        ["pics/d.png", "pics/e.png"],
        {"bytes": b"\x89PNG one", "path": None},
        {"bytes": b"\x89PNG two", "path": "f.png"},
        {"what": "is this"},
        "pics\\g.png",
        "N/A",
    ]
    titles = ["Mug", "", None, "N/A", "Kite", "-"]
    n = 30
    return pd.DataFrame(
        {"title": [rng.choice(titles) for _ in range(n)], "image": [rng.choice(cells) for _ in range(n)]}
    )


@pytest.mark.parametrize("seed", range(8))
def test_every_reader_of_the_file_finds_the_same_products(seed, tmp_path):
    shop = nameless_table(random.Random(seed))
    catalogue = load_catalogue(shop, check_pictures="none", unpack_to=tmp_path, require_items=False)
    ids = catalogue.items["item_id"].tolist()
    places = product_places(shop, catalogue)
    assert sorted(places.values()) == ids and len(ids) > 3
    assert {row.place: row.item_id for row in file_rows(shop, catalogue) if row.own} == places
    untitled = catalogue.items.loc[catalogue.items["title"].isna(), "item_id"].tolist()
    found = item_rows(shop, catalogue, untitled)
    assert found.places == {place: item_id for place, item_id in places.items() if item_id in untitled}
    titles = catalogue.items.set_index("item_id")["title"].dropna()
    for place, item_id in places.items():  # By position, which no reader has a say in
        said = shop["title"].iloc[place - 1]
        assert titles.get(item_id) == (said if said in ("Mug", "Kite") else None)
