"""Exports of 200 products for each platform, against what a person reads off them.

The truth was written beside the files by tools/fixtures/make_exports.py, from the list of products before it became rows. The products in BY_HAND were read off
the files by eye, column by column.
"""

import csv
import gzip
import html
import io
import json
import random
import tracemalloc
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.catalogue.product_rows import all_images, products, split_list, structured_text
from mmpc_analysis.catalogue.profiles import FILE_PROFILES, map_columns, recognise_profile, recognise_records
from mmpc_analysis.catalogue.records import Records, read_records

EXPORTS = ROOT / "tests" / "data" / "catalogue" / "exports"
TRUTH = json.loads(gzip.decompress((EXPORTS / "truth.json.gz").read_bytes()))
KINDS = {
    "shopify.csv.gz": "shopify",
    "shopify_legacy.csv.gz": "shopify-legacy",
    "woocommerce.csv.gz": "woocommerce",
    "woocommerce_german.csv.gz": "woocommerce",
    "google.tsv.gz": "google",
    "google.xml.gz": "google",
    "meta_amazon.jsonl.gz": "amazon-2023",
}
CDN = "https://cdn.shop.example/"


def text_of(name):
    return gzip.decompress((EXPORTS / name).read_bytes()).decode("utf-8")


def table(header, rows, kind="csv"):
    "Rows in memory as a reader of files gives them."
    lines = [(n, dict(zip(header, row, strict=True))) for n, row in enumerate(rows, 2)]
    return Records(kind, list(header), lambda wanted: iter(lines), [])


def in_memory(name):
    "The file by the standard library's own readers, so that nothing here hangs on ours."
    text = text_of(name)
    if name.endswith(".csv.gz"):
        header, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
        return table(header, rows)
    if name.endswith(".tsv.gz"):
        header, *rows = (line.split("\t") for line in text.rstrip("\n").split("\n"))
        return table(header, rows, "tsv")
    if name.endswith(".xml.gz"):
        rows = [rss_row(item) for item in ET.fromstring(text).iter("item")]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return Records("rss", names, lambda wanted: iter(enumerate(rows, 1)), [])
    rows = [json.loads(line) for line in text.splitlines()]
    return Records("jsonl", list(rows[0]), lambda wanted: iter(enumerate(rows, 1)), [])


def rss_row(element):
    "Names without g:, repeated elements as lists, nested ones as objects."
    row = {}
    for child in element:
        name, value = child.tag.rsplit("}")[-1], rss_row(child) if len(child) else child.text
        row[name] = (
            value
            if name not in row
            else [*(row[name] if isinstance(row[name], list) else [row[name]]), value]
        )
    return row


def found_in(records, columns=None, profile=None):
    kind, records = (profile, records) if profile else recognise_records(records)
    rows = list(products(records, kind, map_columns(records.names, columns, kind)))
    return (
        kind,
        [cells for _, cells, wrong in rows if not wrong],
        [wrong for _, _, wrong in rows if wrong],
        records,
    )


def seen(cells):
    "What a person sees of raw cells: entities as signs, blanks as one."
    title = " ".join(html.unescape(str(cells.get("title") or "")).split()) or None
    return {
        "id": cells["item_id"],
        "title": title,
        "category": cells.get("category") or None,
        "parent": cells.get("parent_id") or None,
        "images": cells["images"],
    }


def expected(name):
    return [row | {"title": " ".join(row["title"].split()) if row["title"] else None} for row in TRUTH[name]]


def by_id(rows):
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


# ---------------------------------------------------------------- all products of all platforms


@pytest.mark.parametrize("name", KINDS)
def test_all_products_titles_pictures_and_categories_of_an_export(name):
    kind, cells, wrong, _ = found_in(in_memory(name))
    assert kind.name == KINDS[name]
    assert len(TRUTH[name]) >= 200
    assert by_id([seen(c) for c in cells]) == by_id(expected(name))
    assert [c["image"] for c in cells] == [c["images"][0] if c["images"] else None for c in cells]
    lost = ["LOST-1", "LOST-2"] if kind.name == "woocommerce" else []
    assert len(wrong) == len(lost)


@pytest.mark.parametrize(
    "name", ["shopify.csv.gz", "shopify_legacy.csv.gz", "woocommerce.csv.gz", "woocommerce_german.csv.gz"]
)
def test_the_readers_of_files_give_the_same(name):
    _, cells, _, _ = found_in(read_records(EXPORTS / name))
    assert by_id([seen(c) for c in cells]) == by_id(expected(name))


@pytest.mark.parametrize(
    "name", ["shopify.csv.gz", "shopify_legacy.csv.gz", "meta_amazon.jsonl.gz", "google.xml.gz"]
)
def test_where_nobody_sorted_the_file_products_come_in_its_order(name):
    _, cells, _, _ = found_in(in_memory(name))
    assert [c["item_id"] for c in cells] == [row["id"] for row in TRUTH[name]]


@pytest.mark.parametrize("name", KINDS)
def test_no_row_without_a_title_becomes_a_product_of_its_own(name):
    _, cells, _, _ = found_in(in_memory(name))
    assert (
        sum(seen(c)["title"] is None for c in cells) == sum(row["title"] is None for row in TRUTH[name]) > 0
    )


# Read off the files by eye, not computed: id, title, category, first picture, how many pictures
BY_HAND = {
    "shopify.csv.gz": [
        ("desk-lamp-001", "Oak Desk Lamp No. 1", "Home & Garden > Lighting", CDN + "files/desk-lamp-001-1.jpg?v=171", 2),
        ("shirt-002", "Steel Shirt No. 2", "Clothing > Shirts", CDN + "files/shirt-002-1.jpg?v=171", 4),
        ("running-shoe-003", 'Frying Pan 12" Nonstick', "Clothing > Men's Shoes", CDN + "files/running-shoe-003-1.jpg?v=171", 3),
        ("pan-000", "Blue Pan No. 0", "Home & Garden > Kitchen > Pans", None, 0),
        ("kite-004", "Large Kite No. 4", "Toys > Kites, Gliders", CDN + "files/kite-004-1.jpg?v=171", 2),
        ("shampoo-007", "=2 Mugs, one price", "Beauty > Hair Care", CDN + "files/shampoo-007-1.jpg?v=171", 1),
        ("running-shoe-011", "Oak Running Shoe No. 11", "Clothing > Men's Shoes", CDN + "files/running-shoe-011-1.jpg?v=171", 4),
        ("kite-012", "+1 Gift Wrap", "Toys > Kites, Gliders", CDN + "files/kite-012-0-own.jpg", 1),
        ("dog-treats-013", "Soft Dog Treats No. 13", "Pet Food", CDN + "files/dog-treats-013-1.jpg?v=171", 3),
    ],
    "woocommerce_german.csv.gz": [
        ("1002", "Steel Shirt No. 2", "Clothing > Shirts", CDN + "files/shirt-002-1.jpg?v=171", 4),
        ("1004", "Large Kite No. 4", "Toys > Kites, Gliders", CDN + "files/kite-004-1.jpg?v=171", 2),
        ("1005", "Crème Dog Treats No. 5", "Pet Food", CDN + "files/dog-treats-005-1.jpg?v=171", 3),
        ("1007", "=2 Mugs, one price", "Beauty > Hair Care", CDN + "files/shampoo-007-1.jpg?v=171", 1),
        ("1033", None, "Home & Garden > Lighting", CDN + "files/desk-lamp-033-1.jpg?v=171", 2),
    ],
    "google.tsv.gz": [
        ("V002-1", 'Steel Shirt No. 2 Size 8"', "Clothing > Shirts", CDN + "files/shirt-002-1-own.jpg", 4),
        ("V012-1", "+1 Gift Wrap Red", "Toys > Kites, Gliders", None, 0),
        ("G006", "Matt Black Drill No. 6", "1217", CDN + "files/drill-006-1.jpg?v=171", 4),
        ("G033", "A Lighting product", "Home & Garden > Lighting", CDN + "files/desk-lamp-033-1.jpg?v=171", 2),
        ("V050-1", None, "Clothing > Shirts", CDN + "files/shirt-050-1-own.jpg", 3),
    ],
    "meta_amazon.jsonl.gz": [
        ("B000000003", 'Frying Pan 12" Nonstick', None, CDN + "files/running-shoe-003-1.jpg?v=171", 3),
        ("B000000016", None, None, None, 0),
        ("B000000004", "Large Kite No. 4", None, CDN + "files/kite-004-1.jpg?v=171", 2),
        ("B000000033", None, None, CDN + "files/desk-lamp-033-1.jpg?v=171", 2),
    ],
}  # fmt: skip
BY_HAND |= {
    "shopify_legacy.csv.gz": BY_HAND["shopify.csv.gz"],
    "woocommerce.csv.gz": BY_HAND["woocommerce_german.csv.gz"],
    "google.xml.gz": BY_HAND["google.tsv.gz"],
}  # The same rows, seen to be the same in these files


@pytest.mark.parametrize("name", KINDS)
def test_a_few_products_as_a_person_reads_them_off(name):
    rows = by_id([seen(c) for c in found_in(in_memory(name))[1]])
    for item_id, title, category, first, count in BY_HAND[name]:
        row = rows[item_id]
        assert (row["title"], row["category"], len(row["images"])) == (title, category, count)
        assert (row["images"] or [None])[0] == first


def test_the_other_cells_of_a_product():
    _, cells, _, _ = found_in(in_memory("woocommerce.csv.gz"))
    shirt = {c["item_id"]: c for c in cells}["1002"]
    assert shirt["keywords"] == ["new", "sale, last chance"] and shirt["brand"] == "L'Atelier"
    assert shirt["description"].split("\n")[1:] == [
        '<ul><li>"Crème", tested</li>',
        "<li>Weight: 64 g</li></ul>",
    ]
    empty = {c["item_id"]: c for c in cells}["1005"]  # Description and short description: "" and "For you."
    assert empty["description"] == "For you." and empty["brand"] is None
    _, cells, _, _ = found_in(in_memory("shopify.csv.gz"))
    shirt = {c["item_id"]: c for c in cells}["shirt-002"]
    assert shirt["keywords"] == "new, sale, last chance" and shirt["brand"] == "L'Atelier"
    assert shirt["description"].count("\n") == 2


def test_rows_are_counted_and_nothing_is_lost():
    records = in_memory("shopify.csv.gz")
    rows = [row for _, row in records.rows(None)]
    first = {row["URL handle"]: n for n, row in reversed(list(enumerate(rows)))}
    more = [row for n, row in enumerate(rows) if first[row["URL handle"]] != n]
    variants = sum(bool(row["Option1 value"] or row["SKU"]) for row in more)
    _, _, _, read = found_in(in_memory("shopify.csv.gz"))
    note = f"Rows that belong to the product of another row: variants {variants:,}, further pictures {len(more) - variants:,}."
    assert note in read.notes
    assert any(
        n.startswith("Kept, though the shop does not show them: draft 7, archived 7") for n in read.notes
    ), read.notes
    _, _, wrong, read = found_in(in_memory("woocommerce.csv.gz"))
    assert sorted(w[""] for w in wrong) == [
        "is a variation of 'id:99999', which this file does not hold; export its product too",
        "is a variation without a parent; export its product too",
    ]
    assert any("several categories 33" in note for note in read.notes), (
        read.notes
    )  # 200 numbers, k % 6 == 5: 33


# ---------------------------------------------------------------- markets, orders, headers


def rewritten(name, rename=str, order=None, extra=()):
    "The export with other headers, another order and columns of its own."
    records = in_memory(name)
    names = list(records.names)
    if order is not None:
        random.Random(order).shuffle(names)
    rows = [[row[n] for n in names] + ["x"] * len(extra) for _, row in records.rows(None)]
    return table([rename(n) for n in names] + list(extra), rows)


CSVS = [name for name in KINDS if name.endswith((".csv.gz", ".tsv.gz"))]


@pytest.mark.parametrize("name", CSVS)
@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_columns_does_not_matter(name, order):
    kind, cells, _, _ = found_in(rewritten(name, order=order))
    assert kind.name == KINDS[name] and by_id([seen(c) for c in cells]) == by_id(expected(name))


@pytest.mark.parametrize("name", CSVS)
@pytest.mark.parametrize(
    "rename",
    [str.upper, lambda n: "\ufeff" + n.lower().replace("_", " "), lambda n: f" {n.replace(' ', '_')} "],
)
def test_case_punctuation_and_marks_do_not_matter(name, rename):
    kind, cells, _, _ = found_in(rewritten(name, rename))
    assert kind.name == KINDS[name] and by_id([seen(c) for c in cells]) == by_id(expected(name))


@pytest.mark.parametrize("name", CSVS)
@pytest.mark.parametrize(
    "extra",
    [
        ("Price / United States", "Included / Österreich", "Compare At Price / International"),
        (
            "Title tag (product.metafields.global.title_tag)",
            "Image (product.metafields.custom.image)",
            "Meta: image",
            "Attribute 9 name",
        ),
    ],
)
def test_columns_of_markets_and_metafields_are_left_alone(name, extra):
    kind, cells, _, _ = found_in(rewritten(name, order=3, extra=extra))
    assert kind.name == KINDS[name] and by_id([seen(c) for c in cells]) == by_id(expected(name))


@pytest.mark.parametrize(
    "title", ["Kite\nwith a tail", 'Two "quoted"\r\nlines, and a comma', "\n\nLate title"]
)
def test_a_title_over_lines_is_one_title(tmp_path, title):
    out = io.StringIO()
    csv.writer(out).writerows([["Handle", "Title", "Body (HTML)", "Image Src", "Image Position"], ["a", title, "<p>\n</p>", "1.jpg", "1"],
                               ["a", "", "", "2.jpg", "2"], ["b", "Mug", "", "", ""]])  # fmt: skip
    (tmp_path / "export.csv").write_bytes(out.getvalue().encode())
    _, cells, _, _ = found_in(read_records(tmp_path / "export.csv"))
    assert [(c["item_id"], c["title"], c["images"]) for c in cells] == [
        ("a", title, ["1.jpg", "2.jpg"]),
        ("b", "Mug", []),
    ]


# ---------------------------------------------------------------- Shopify, case by case

HEADER = [
    "Handle",
    "Title",
    "Body (HTML)",
    "Type",
    "Option1 Value",
    "Variant SKU",
    "Image Src",
    "Image Position",
    "Variant Image",
    "Status",
]


def shop(*rows, header=HEADER):
    return found_in(table(header, [[*row, *[""] * (len(header) - len(row))] for row in rows]))


@pytest.mark.parametrize(
    ("positions", "order"),
    [
        (("1", "2", "3"), "abc"),
        (("3", "1", "2"), "bca"),
        (("10", "9", ""), "bac"),  # 9 is before 10, and none at all comes last
        (("2", "2", "1"), "cab"),  # Equal positions stay in the order of the file
        (("x", "1.0", " 2 "), "bca"),
        (("nan", "-1", "0"), "bca"),
    ],
)
def test_pictures_are_in_the_order_of_their_positions(positions, order):
    rows = [
        ["h", "T"[: n == 0], "", "", "", "", f"{c}.jpg", p]
        for n, (c, p) in enumerate(zip("abc", positions, strict=True))
    ]
    (_, (product,), _, _) = shop(*rows)
    assert product["images"] == [f"{c}.jpg" for c in order] and product["image"] == f"{order[0]}.jpg"


def test_positions_may_be_numbers_of_a_spreadsheet():
    rows = [
        ["h", "T", "", "", "", "", "b.jpg", 2.0],
        ["h", "", "", "", "", "", "a.jpg", np.int64(1)],
        ["h", None, None, None, None, None, "c.jpg", np.nan],
    ]
    (_, (product,), _, _) = shop(*rows)
    assert product["images"] == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_picture_of_a_variant_comes_after_and_once():
    rows = [["h", "T", "", "", "Red", "s", "a.jpg", "2", "red.jpg"], ["h", "", "", "", "Blue", "t", "b.jpg", "1", "a.jpg"],
            ["h", "", "", "", "Tan", "u", "", "", "red.jpg"]]  # fmt: skip
    (_, (product,), _, records) = shop(*rows)
    assert product["images"] == ["b.jpg", "a.jpg", "red.jpg"]
    assert records.notes == ["Rows that belong to the product of another row: variants 2."]


def test_a_title_on_a_later_row_counts_and_a_second_one_is_noted():
    _, cells, _, records = shop(["a", ""], ["b", "B"], ["a", "A"], ["a", "Other"], ["c", " "])
    assert [(c["item_id"], c["title"]) for c in cells] == [("a", "A"), ("b", "B"), ("c", None)]
    assert "Of these the first is used: several titles 1." in records.notes


def test_rows_without_a_handle_are_not_one_product():
    rows = list(
        products(
            table(HEADER, [["", "A", *[""] * 8], [" ", "B", *[""] * 8]]),
            FILE_PROFILES["shopify-legacy"],
            {"item_id": "Handle", "title": "Title"},
        )
    )
    assert [(place, cells["title"], cells["item_id"]) for place, cells, _ in rows] == [
        (2, "A", None),
        (3, "B", None),
    ]


def test_who_wants_the_sku_for_an_id_still_gets_products():
    records = table(
        HEADER,
        [["h", "T", "", "", "Red", "s-1", "", "", "", ""], ["h", "", "", "", "Blue", "s-2", "", "", "", ""]],
    )
    _, cells, _, _ = found_in(records, {"item_id": "Variant SKU"}, FILE_PROFILES["shopify-legacy"])
    assert [(c["item_id"], c["title"]) for c in cells] == [("s-1", "T")]


def test_a_row_that_could_not_be_split_keeps_its_complaint():
    lines = [
        (2, dict.fromkeys(HEADER, "") | {"Handle": "a", "Title": "A"}),
        (3, "has 2 cells, the header has 10"),
    ]
    records = Records("csv", HEADER, lambda wanted: iter(lines), [])
    found = list(products(records, recognise_profile(HEADER), {"item_id": "Handle", "title": "Title"}))
    assert (3, {}, {"": "has 2 cells, the header has 10"}) in found and len(found) == 2


def test_memory_holds_one_product_at_a_time():
    body, kind = "<p>" + "x" * 20_000 + "</p>", FILE_PROFILES["shopify-legacy"]

    def rows(wanted):
        for n in range(9_000):
            cells = {"Handle": f"h{n // 3}"} | ({"Title": "T", "Body (HTML)": body} if n % 3 == 0 else {})
            yield n, dict.fromkeys(HEADER, "") | cells

    found = products(Records("csv", HEADER, rows, []), kind, map_columns(HEADER, profile=kind))
    tracemalloc.start()
    count = sum(cells["description"] == body for _, cells, _ in found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3_000
    assert peak < 40e6, f"{peak / 1e6:.0f} MB for 60 MB of descriptions"  # At most 16 MiB wait in memory


# ---------------------------------------------------------------- WooCommerce, case by case

WOO = ["ID", "Type", "SKU", "Name", "Published", "Categories", "Tags", "Images", "Parent", "Description"]


def woo(*rows, header=WOO):
    return found_in(table(header, [[*row, *[""] * (len(header) - len(row))] for row in rows]))


@pytest.mark.parametrize("parent", ["S", "id:7", "ID: 7", "7"])
@pytest.mark.parametrize("first", [True, False])
def test_a_variation_finds_its_parent_wherever_it_stands(parent, first):
    rows = [
        ["7", "variable", "S", "Shirt", "1", "A > B, C", "", "s.jpg"],
        ["8", "variation", "S-1", "Shirt - S", "1", "", "", "v.jpg", parent],
    ]
    kind, cells, wrong, _ = woo(*(rows if first else rows[::-1]))
    assert kind.name == "woocommerce" and not wrong
    assert [(c["item_id"], c["title"], c["category"], c["images"]) for c in cells] == [
        ("7", "Shirt", "A > B", ["s.jpg", "v.jpg"])
    ]


def test_a_sku_that_looks_like_anothers_id():
    rows = [
        ["7", "variable", "8", "A"],
        ["8", "variable", "7", "B"],
        ["9", "variation", "", "", "", "", "", "v.jpg", "7"],
        ["10", "variation", "", "", "", "", "", "w.jpg", "id:7"],
    ]
    _, cells, _, _ = woo(*rows)
    assert [(c["title"], c["images"]) for c in cells] == [("A", ["w.jpg"]), ("B", ["v.jpg"])]


def test_a_variation_of_a_variation_is_set_aside():
    _, cells, wrong, _ = woo(
        ["7", "variable", "S", "A"],
        ["8", "variation", "V", "", "", "", "", "", "S"],
        ["9", "variation", "W", "", "", "", "", "", "V"],
    )
    assert len(cells) == 1 and "is a variation of 'V'" in wrong[0][""]


@pytest.mark.parametrize(
    ("cell", "title"),
    [
        ("'=2 Mugs", "=2 Mugs"),
        ("'-20 °C", "-20 °C"),
        ("'@home", "@home"),
        ("'n Roll", "'n Roll"),
        ("''=x", "''=x"),
    ],
)
def test_an_apostrophe_of_the_exporter_is_taken_off_and_no_other(cell, title):
    assert woo(["7", "simple", "S", cell])[1][0]["title"] == title


def test_written_line_ends_and_lists():
    row = [
        "7",
        "simple",
        "S",
        "A",
        "1",
        r"Toys > Kites\, Gliders, Sale",
        r"a, b\, c",
        r"https://x/1.jpg, https://x/w_1\,h_2/2.jpg",
        "",
        r"one\ntwo C:\\new",
    ]
    product = woo(row)[1][0]
    assert product["category"] == "Toys > Kites, Gliders" and product["keywords"] == ["a", "b, c"]
    assert product["images"] == ["https://x/1.jpg", "https://x/w_1,h_2/2.jpg"]
    assert product["description"] == "one\ntwo C:\\new"


@pytest.mark.parametrize("type_name", ["Typ produktu", "Тип", "种类"])
def test_woocommerce_in_an_unknown_language_is_known_by_what_type_says(type_name):
    header = ["ID", type_name, "SKU", "Jméno", "Obrázky", "Nadřazený"]
    rows = [
        ["7", "variable", "S", "Košile", "a.jpg, b.jpg", ""],
        ["8", "variation", "S-1", "Košile - S", "c.jpg", "S"],
    ]
    columns = {"title": "Jméno", "image": "Obrázky", "parent_id": "Nadřazený"}
    kind, records = recognise_records(table(header, rows))
    found = list(products(records, kind, map_columns(header, columns, kind)))
    assert kind.name == "woocommerce" and len(found) == 1
    assert (found[0][1]["title"], found[0][1]["images"]) == ("Košile", ["a.jpg", "b.jpg", "c.jpg"])


# ---------------------------------------------------------------- Google, Amazon, datasets


@pytest.mark.parametrize(
    ("structured", "title"),
    [
        ('trained_algorithmic_media:"Red mug, 12"" high"', 'Red mug, 12" high'),
        ("trained_algorithmic_media:Red mug", "Red mug"),
        ('default: "Red: mug"', "Red: mug"),
        ({"digital_source_type": "trained_algorithmic_media", "content": "Red mug"}, "Red mug"),
        ([{"digital_source_type": "default", "content": "Red mug"}], "Red mug"),
        ("Mug: red", "Mug: red"),
    ],
)
def test_a_structured_title_serves_where_there_is_no_other(structured, title):
    assert structured_text(structured) == title
    header = ["id", "title", "structured_title", "image_link"]
    _, cells, _, records = found_in(
        table(header, [["1", "", structured, "a.jpg"], ["2", "Own", structured, "b.jpg"]])
    )
    assert [c["title"] for c in cells] == [title, "Own"]
    assert records.notes == ["Titles from structured_title, where there is no other: structured titles 1."]


def test_a_supplemental_feed_has_titles_alone():
    kind, cells, _, _ = found_in(
        table(["id", "structured_title"], [["1", 'trained_algorithmic_media:"Mug"']])
    )
    assert kind.name == "google" and cells[0]["title"] == "Mug"


def test_a_title_that_reads_like_a_structured_one_is_left_alone():
    _, cells, _, _ = found_in(table(["id", "title", "image_link"], [["1", "default: the game", "a.jpg"]]))
    assert cells[0]["title"] == "default: the game"


def test_both_forms_of_amazons_pictures_are_the_same():
    lines = [
        {"hi_res": None, "large": "l1", "thumb": "t1", "variant": "MAIN"},
        {"hi_res": "h2", "large": "l2", "thumb": "t2", "variant": "PT01"},
    ]
    parquet = {key: [line[key] for line in lines] for key in lines[0]}
    assert all_images(lines) == all_images(parquet) == ["l1", "h2"]
    assert all_images({key: np.array(value, dtype=object) for key, value in parquet.items()}) == ["l1", "h2"]
    frame = pd.DataFrame({"parent_asin": ["B1"], "title": ["Mug"], "store": ["S"], "images": [parquet]})
    _, cells, _, _ = found_in(read_records(frame))
    assert cells[0]["images"] == ["l1", "h2"]


def test_parquet_with_pictures_inside(tmp_path):
    image = [{"bytes": b"one", "path": "a.png"}, {"bytes": b"two", "path": None}]
    frame = pd.DataFrame({"id": ["1", "2"], "text": ["Mug", "Cup"], "image": image, "label": [3, 4]})
    frame.to_parquet(tmp_path / "train.parquet")
    kind, cells, _, _ = found_in(read_records(tmp_path / "train.parquet"))
    assert kind.name == "datasets"
    assert [(c["title"], c["category"], c["image"]) for c in cells] == [
        ("Mug", 3, image[0]),
        ("Cup", 4, image[1]),
    ]
    pd.DataFrame({"id": ["1"], "images": [image]}).to_parquet(tmp_path / "several.parquet")
    kind, cells, _, _ = found_in(read_records(tmp_path / "several.parquet"))
    assert kind.name == "datasets" and cells[0]["images"] == image


def test_a_plain_table_is_what_it_was():
    kind, cells, _, records = found_in(
        table(["sku", "name", "image", "price"], [["1", "Mug, red", "a,b.jpg", "3"], ["1", "", "", ""]])
    )
    assert kind.name == "plain" and records.notes == []
    assert cells == [
        {"item_id": "1", "title": "Mug, red", "image": "a,b.jpg", "images": ["a,b.jpg"]},
        {"item_id": "1", "title": None, "image": None, "images": []},
    ]


@pytest.mark.parametrize("text", ["", ",", " , ", "\\,", "a", "a,b", r"a\,b,c"])
def test_lists_that_are_joined_again_are_the_same(text):
    parts = split_list(text)
    assert split_list(", ".join(part.replace(",", "\\,") for part in parts)) == parts
    assert all(part == part.strip() and part for part in parts)
