"""Import files of each platform: read again, imported into a simulated shop, and what may never be in one.

The exports are those of the readers' tests, with some titles blanked by the standard library's own writers. The simulators use nothing of the package.
"""

import csv
import gzip
import io
import json
import random
import re

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_simulators import GoogleFeed, ShopifyShop, WooShop, csv_rows, csv_text

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.fill.import_files import write_import

EXPORTS = ROOT / "tests" / "data" / "catalogue" / "exports"
TRUTH = json.loads(gzip.decompress((EXPORTS / "truth.json.gz").read_bytes()))
TABLES = ["shopify.csv.gz", "shopify_legacy.csv.gz", "woocommerce.csv.gz", "woocommerce_german.csv.gz"]
FEEDS = ["google.tsv.gz", "google.xml.gz"]
PROFILES = {
    "shopify.csv.gz": "shopify",
    "shopify_legacy.csv.gz": "shopify-legacy",
    "woocommerce.csv.gz": "woocommerce",
    "woocommerce_german.csv.gz": "woocommerce",
    "google.tsv.gz": "google",
    "google.xml.gz": "google",
}
TITLES = [
    "Blue pan",
    'Frying pan, 12" nonstick',
    "Crème brûlée dish, set of 2",
    "红色陶瓷马克杯",
    '"Deluxe" pan',
    "Salt; pepper\u00a0& co. <b>",
    "'Pro' drill",
    "007",
    "a:b",
    "M" * 150,
]


def text_of(name):
    return gzip.decompress((EXPORTS / name).read_bytes()).decode("utf-8")


def with_gaps(name, seed=0, share=0.2):
    "The export with some titles blanked."
    rng, text = random.Random(seed), text_of(name)
    if name.endswith(".xml.gz"):
        drop = lambda found: "" if rng.random() < share else found[0]  # noqa: E731
        return re.sub(
            r"(?<=</g:id>\n)<(?:g:)?title>(?:<!\[CDATA\[)?.*?(?:\]\]>)?</(?:g:)?title>\n", drop, text
        )
    if name.endswith(".tsv.gz"):
        header, *lines = (line.split("\t") for line in text.rstrip("\n").split("\n"))
        for cells in lines:
            cells[1] = "" if rng.random() < share else cells[1]
        return "\n".join("\t".join(cells) for cells in [header, *lines]) + "\n"
    header, rows = csv_rows(text)
    key = next(n for n in ("URL handle", "Handle", "ID") if n in header)
    products = list(dict.fromkeys(row[key] for row in rows))
    blank = set(rng.sample(products, int(share * len(products))))
    title = "Name" if "Name" in header else "Title"
    for row in rows:
        row[title] = "" if row[key] in blank else row[title]
    return ("\ufeff" if text.startswith("\ufeff") else "") + csv_text(header, rows)


def saved(tmp_path, name, text):
    path = tmp_path / name.removesuffix(".gz")
    path.write_bytes(text.encode("utf-8"))
    return path


def loaded(path, name):
    return load_catalogue(path, profile=PROFILES[name], check_pictures="none")


def titles_for(ids, texts=TITLES):
    texts = [texts[n % len(texts)] for n in range(len(ids))]
    rows = pd.DataFrame({"item_id": ids, "title": texts}, dtype="object")
    return rows.assign(model="m", confidence=0.9, checked="")


def gaps_of(catalogue):
    return list(catalogue.items.loc[catalogue.items["title"].isna(), "item_id"])


def shops(name, text):
    if name.startswith("shopify"):
        return [ShopifyShop(text)]
    return [WooShop(text, strips) for strips in (False, True)]


# ---------------------------------------------------------------- a round trip per platform


@pytest.mark.parametrize("name", TABLES + FEEDS)
def test_reading_what_was_written_gives_the_same_products_with_their_titles(tmp_path, name):
    path = saved(tmp_path, name, with_gaps(name))
    catalogue = loaded(path, name)
    titles = titles_for(gaps_of(catalogue))
    assert len(titles) > 15
    written = write_import(path, catalogue, titles, tmp_path / "out")
    again = loaded(written.path, name)
    assert written.rows == len(titles) and written.kind == PROFILES[name].removesuffix("-legacy")
    expected = {i: " ".join(t.replace("<b>", "").split()) for i, t in titles[["item_id", "title"]].to_numpy()}
    assert dict(again.items[["item_id", "title"]].to_numpy()) == expected


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_import_changes_those_titles_and_nothing_else(tmp_path, name, seed):
    text = with_gaps(name, seed)
    path = saved(tmp_path, name, text)
    catalogue = loaded(path, name)
    titles = titles_for(gaps_of(catalogue))
    written = write_import(path, catalogue, titles, tmp_path / "out")
    wanted = dict(titles[["item_id", "title"]].to_numpy())
    with open(written.path, "rb") as file:
        data = file.read()
    for shop in shops(name, text):
        before = shop.cells()
        shop.upload(data)
        title, key = ("Name", "ID") if name.startswith("woo") else ("Title", shop.key)
        changed = [
            (old[key], column, new[column])
            for old, new in zip(before, shop.cells(), strict=True)
            for column in shop.header
            if old[column] != new[column]
        ]
        assert not shop.added and not getattr(shop, "skipped", [])
        assert sorted(changed) == sorted((i, title, t) for i, t in wanted.items())


@pytest.mark.parametrize("name", FEEDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_supplemental_feed_adds_titles_and_nothing_else(tmp_path, name, seed):
    text = with_gaps(name, seed)
    path = saved(tmp_path, name, text)
    catalogue = loaded(path, name)
    titles = titles_for(gaps_of(catalogue))
    written = write_import(path, catalogue, titles, tmp_path / "out")
    wanted = dict(titles[["item_id", "title"]].to_numpy())
    feed = GoogleFeed(text)
    before, shown = feed.cells(), {i: feed.title(i) for i in feed.products}
    assert all(shown[i] is None for i in wanted)
    with open(written.path, "rb") as file:
        feed.supplement(file.read())
    after = feed.cells()
    assert {i: feed.title(i) for i in feed.products} == shown | wanted
    for row in after.values():
        row.pop("structured_title", None)
    for row in before.values():
        row.pop("structured_title", None)
    assert before == after
    assert written.path.endswith(".xml" if name == "google.xml.gz" else ".tsv")


def test_a_blank_cell_in_the_simulated_shops_would_overwrite():
    "The simulators themselves: they notice what a careless file does."
    shop = ShopifyShop("Handle,Title,Vendor,Variant SKU\na,A,North,1\n")
    shop.upload(b"Handle,Title,Vendor\na,A,\nb,B,\n")
    assert shop.cells()[0]["Vendor"] == "" and len(shop.added) == 1
    with pytest.raises(AssertionError, match="variants are replaced"):
        shop.upload(b"Handle,Title,Variant SKU\na,A,1\n")
    with pytest.raises(AssertionError, match="missing headers"):
        shop.upload(b"handle,Title\na,A\n")
    woo = WooShop("ID,SKU,Name,Tags\n1,S,,x\n", strips=False)
    woo.upload(b"\xef\xbb\xbfSKU,Name,Tags\ns,'=A,\nT,B,\n")
    assert woo.cells() == [{"ID": "1", "SKU": "s", "Name": "'=A", "Tags": ""}] and len(woo.skipped) == 1
    feed = GoogleFeed("id\ttitle\nG\tMug\n")
    feed.supplement(b'id\tstructured_title\nG\ttrained_algorithmic_media:"Cup"\n')
    assert feed.title("G") == "Mug"
    with pytest.raises(AssertionError, match="151 characters"):
        feed.supplement(b"id\tstructured_title\nG\ttrained_algorithmic_media:" + b"M" * 151)


@pytest.mark.parametrize("name", TABLES + FEEDS)
def test_the_file_is_as_small_as_it_can_be(tmp_path, name):
    path = saved(tmp_path, name, with_gaps(name))
    catalogue = loaded(path, name)
    written = write_import(path, catalogue, titles_for(gaps_of(catalogue)[:2]), tmp_path / "out")
    with open(written.path, encoding="utf-8") as file:
        text = file.read()
    headers = {
        "shopify.csv.gz": "URL handle,Title",
        "shopify_legacy.csv.gz": "Handle,Title",
        "woocommerce.csv.gz": "\ufeffID,Name",
        "woocommerce_german.csv.gz": "\ufeffID,Name",
        "google.tsv.gz": "id\tstructured_title",
    }
    if name in headers:
        assert text.split("\n")[0] == headers[name] and text.count("\n") == 3
    else:
        assert text.count("<item>") == 2 and "<g:title>" not in text


# ---------------------------------------------------------------- never in it


@pytest.mark.parametrize("name", TABLES + FEEDS)
def test_a_product_with_a_title_is_refused_and_nothing_is_written(tmp_path, name):
    path = saved(tmp_path, name, with_gaps(name))
    catalogue = loaded(path, name)
    titled = catalogue.items.loc[catalogue.items["title"].notna(), "item_id"].iloc[3]
    for ids, complaint in (
        ([titled], "of a product that has a title"),
        (["no such id"], "of no product in the catalogue"),
        (gaps_of(catalogue)[:1] * 2, "that repeats a product"),
    ):
        with pytest.raises(ValueError, match=complaint):
            write_import(path, catalogue, titles_for([*gaps_of(catalogue)[1:3], *ids]), tmp_path / "out")
    with pytest.raises(ValueError, match="without a title"):
        write_import(path, catalogue, titles_for(gaps_of(catalogue)[:2], ["Mug", " \t"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", TABLES + FEEDS)
def test_every_text_is_written_faithfully_or_left_out_with_a_note(tmp_path, name):
    path = saved(tmp_path, name, with_gaps(name))
    catalogue = loaded(path, name)
    hostile = ["=1+1", "+49", "-x", "@home", "\uff1dx", "'=x", "\u200b=x", "a\nb", "a\tb", "a\x00b", "\ud800", "M" * 256,
               "\ufffe", "x\u2028y", "<![CDATA[ ]]>", "&amp;", "\\", "\\n", '""', "trained_algorithmic_media:x", "a,b;c|d"]  # fmt: skip
    ids = gaps_of(catalogue)
    for start in range(0, len(hostile), 5):  # Notes name five
        some = hostile[start : start + 5]
        titles = titles_for(ids[: len(some)], some)
        written = write_import(path, catalogue, titles, tmp_path / "out")
        with open(written.path, "rb") as file:
            data = file.read()
        notes, found = " ".join(written.notes), {}
        if name in TABLES:
            shop = shops(name, with_gaps(name))[-1]
            shop.upload(data)
            key, title = (shop.key, "Title") if name.startswith("shop") else ("ID", "Name")
            found = {row[key]: row[title] for row in shop.cells() if row[title]}
        else:
            feed = GoogleFeed(with_gaps(name))
            feed.supplement(data)
            found = {i: feed.title(i) for i in feed.products}
        for item_id, text in titles[["item_id", "title"]].to_numpy():
            assert found.get(item_id) in (text, None)
            assert (found.get(item_id) is None) == (item_id in notes), (item_id, text, written.notes)
    assert written.rows == 1


def test_google_takes_150_characters_and_no_more(tmp_path):
    for name in FEEDS:
        path = saved(tmp_path, name, with_gaps(name))
        catalogue = loaded(path, name)
        ids = gaps_of(catalogue)[:3]
        written = write_import(
            path, catalogue, titles_for(ids, ["M" * 151, "W" * 150, "Ü" * 150]), tmp_path / "out"
        )
        assert written.rows == 2 and any("150" in n and ids[0] in n for n in written.notes)
        again = loaded(written.path, name)
        assert again.items["title"].str.len().tolist() == [150, 150]


THREE = pd.DataFrame({"id": ["a1", "b2", "c3"], "title": "", "image_link": "https://x.example/1.jpg"})
OF_THREE = load_catalogue(THREE, profile="google", check_pictures="none")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=160).filter(str.strip),
        min_size=1,
        max_size=3,
    )
)
def test_any_title_survives_or_is_named(tmp_path, texts):
    titles = titles_for(["a1", "b2", "c3"][: len(texts)], texts)
    written = write_import(THREE, OF_THREE, titles, tmp_path)
    feed = GoogleFeed("id\tlink\na1\tx\nb2\tx\nc3\tx\n")
    with open(written.path, "rb") as file:
        feed.supplement(file.read())
    for item_id, text in titles[["item_id", "title"]].to_numpy():
        named = any(item_id in note for note in written.notes)
        assert feed.title(item_id) == (None if named else text.strip())


# ---------------------------------------------------------------- what the file says beyond the catalogue


def in_memory(columns, *rows, profile, **more):
    frame = pd.DataFrame(rows, columns=columns)
    return frame, load_catalogue(frame, profile=profile, check_pictures="none", **more)


PICTURE = "https://x.example/1.jpg"
SHOPIFY = ["Handle", "Title", "Body (HTML)", "Image Src", "Variant SKU"]


def test_a_placeholder_is_replaced_and_said(tmp_path):
    frame, catalogue = in_memory(
        SHOPIFY,
        ["a", "Untitled", "", PICTURE, ""],
        ["b", "Fresh stock", "", PICTURE, ""],
        profile="shopify-legacy",
    )
    written = write_import(frame, catalogue, titles_for(["a"]), tmp_path)
    assert written.rows == 1 and "Placeholders that the import replaces: 1 (Untitled)." in written.notes
    frame, catalogue = in_memory(
        SHOPIFY, ["b", "Fresh stock", "", PICTURE, ""], profile="shopify-legacy", placeholders=["fresh stock"]
    )
    assert write_import(frame, catalogue, titles_for(["b"]), tmp_path).rows == 1


def test_a_title_on_another_row_is_not_overwritten(tmp_path):
    frame, catalogue = in_memory(
        SHOPIFY, ["a", "n/a", "", PICTURE, ""], ["a", "Mug", "", "", ""], profile="shopify-legacy"
    )
    assert catalogue.items["title"].isna().all()
    written = write_import(frame, catalogue, titles_for(["a"]), tmp_path)
    assert written.rows == 0 and "nothing is overwritten" in " ".join(written.notes)
    assert "nothing to upload" in written.notes[0]


def test_a_title_that_nobody_can_read_is_not_overwritten(tmp_path):
    lines = [f"{n},,https://x.example/{n}.jpg,Ünder {n}\n".encode() for n in range(40)]
    lines[3] = b"3,Caf\xe9,https://x.example/3.jpg,x\n"
    path = tmp_path / "shop.csv"
    path.write_bytes(b"Handle,Title,Image Src,Vendor\n" + b"".join(lines))
    catalogue = load_catalogue(path, profile="shopify-legacy", check_pictures="none")
    assert "3" in gaps_of(catalogue)
    written = write_import(path, catalogue, titles_for(["3", "4"]), tmp_path / "out")
    assert written.rows == 1 and any("cannot be read" in n and "(3)" in n for n in written.notes)


def test_a_file_that_has_changed_is_not_overwritten(tmp_path):
    frame, catalogue = in_memory(SHOPIFY, ["a", "", "", PICTURE, ""], profile="shopify-legacy")
    written = write_import(frame.assign(Title="Mug"), catalogue, titles_for(["a"]), tmp_path)
    assert written.rows == 0 and "'Title' of the file says something" in " ".join(written.notes)
    with pytest.raises(ValueError, match="was not read from this file"):
        write_import(frame.drop(columns="Handle"), catalogue, titles_for(["a"]), tmp_path)
    with pytest.raises(ValueError, match="'a', which no row of the file holds"):
        write_import(frame.assign(Handle="z"), catalogue, titles_for(["a"]), tmp_path)


def test_shopify_products_without_a_handle_are_named(tmp_path):
    frame = pd.DataFrame(
        [["a", "", "", PICTURE, "S-1"], ["", "", "", PICTURE, "S-2"]], columns=[*SHOPIFY[:4], "Variant SKU"]
    )
    catalogue = load_catalogue(
        frame, profile="shopify-legacy", columns={"item_id": "Variant SKU"}, check_pictures="none"
    )
    written = write_import(frame, catalogue, titles_for(["S-1", "S-2"]), tmp_path)
    assert (tmp_path / "import-shopify.csv").read_text() == "Handle,Title\na,Blue pan\n"
    assert any("no Handle" in note and "(S-2)" in note for note in written.notes)


def test_handles_that_differ_by_case_are_ambiguous(tmp_path):
    frame, catalogue = in_memory(
        SHOPIFY,
        ["Kite", "", "", PICTURE, ""],
        ["kite", "A kite", "", PICTURE, ""],
        profile="shopify-legacy",
    )
    with pytest.raises(ValueError, match="'Handle' more than once"):
        write_import(frame, catalogue, titles_for(["Kite"]), tmp_path)
    written = write_import(frame, catalogue, titles_for(["Kite"]), tmp_path, strict=False)
    assert written.rows == 0 and any("(Kite)" in note for note in written.notes)


def test_the_titles_of_markets_are_other_columns(tmp_path):
    frame, catalogue = in_memory(
        ["Title / Germany", "Handle", "Title", "Image Src", "Price / Germany"],
        ["Becher", "a", "", PICTURE, "1"],
        profile="shopify-legacy",
    )
    write_import(frame, catalogue, titles_for(["a"]), tmp_path)
    assert (tmp_path / "import-shopify.csv").read_text() == "Handle,Title\na,Blue pan\n"


WOO = ["ID", "Type", "SKU", "Name", "Images", "Parent", "Categories"]


def test_woocommerce_by_sku_where_there_is_no_id(tmp_path):
    rows = [["", "simple", "S", "", PICTURE, "", ""], ["", "simple", "+T", "", PICTURE, "", ""]]
    frame, catalogue = in_memory(WOO, *rows, profile="woocommerce")
    written = write_import(frame, catalogue, titles_for(["S", "+T"]), tmp_path)
    assert (tmp_path / "import-woocommerce.csv").read_bytes() == b"\xef\xbb\xbfSKU,Name\nS,Blue pan\n"
    assert any("would run the cell that names them" in n and "(+T)" in n for n in written.notes)
    frame, catalogue = in_memory(WOO[1:], *(row[1:] for row in rows), profile="woocommerce")
    write_import(frame, catalogue, titles_for(["S"]), tmp_path)
    assert (tmp_path / "import-woocommerce.csv").read_bytes() == b"\xef\xbb\xbfSKU,Name\nS,Blue pan\n"


@pytest.mark.parametrize("second", ["s", "S"])
@pytest.mark.parametrize("kind", ["simple", "variation"])
def test_a_sku_of_two_rows_names_no_product(tmp_path, second, kind):
    frame, catalogue = in_memory(
        WOO,
        ["", "simple", "S", "", PICTURE, "", ""],
        ["8", kind, second, "Mug", PICTURE, "id:8", ""],
        profile="woocommerce",
    )
    with pytest.raises(ValueError, match="'SKU' more than once"):
        write_import(frame, catalogue, titles_for(["S"]), tmp_path)


def test_an_id_that_is_no_number_is_none_to_woocommerce(tmp_path):
    frame, catalogue = in_memory(
        WOO,
        ["id:7", "simple", "S", "", PICTURE, "", ""],
        ["0", "simple", "", "", PICTURE, "", ""],
        profile="woocommerce",
    )
    written = write_import(frame, catalogue, titles_for(["id:7", "0"]), tmp_path)
    assert (tmp_path / "import-woocommerce.csv").read_bytes() == b"\xef\xbb\xbfSKU,Name\nS,Blue pan\n"
    assert any("no ID and no SKU" in note and "(0)" in note for note in written.notes)


def test_the_name_of_a_variation_is_no_title_of_its_product(tmp_path):
    frame, catalogue = in_memory(
        WOO,
        ["7", "variable", "S", "", PICTURE, "", ""],
        ["8", "variation", "S-1", "Mug - Red", PICTURE, "S", ""],
        profile="woocommerce",
    )
    assert write_import(frame, catalogue, titles_for(["7"]), tmp_path).rows == 1


def test_a_placeholder_that_google_would_prefer_has_to_be_cleared(tmp_path):
    columns = ["id", "title", "structured_title", "image_link"]
    frame, catalogue = in_memory(
        columns,
        ["1", "n/a", "", PICTURE],
        ["2", "", 'default:"n/a"', PICTURE],
        ["3", "", "", PICTURE],
        profile="google",
    )
    written = write_import(frame, catalogue, titles_for(["1", "2", "3"]), tmp_path)
    assert written.rows == 2 and any("clear it in the feed" in n and "(1)" in n for n in written.notes)
    frame, catalogue = in_memory(columns, ["1", "", 'default:"Mug"', PICTURE], profile="google")
    with pytest.raises(ValueError, match="of a product that has a title"):
        write_import(frame, catalogue, titles_for(["1"]), tmp_path)


def test_an_id_that_stands_twice_in_a_feed_is_ambiguous(tmp_path):
    frame, catalogue = in_memory(
        ["id", "title", "image_link"], ["1", "", PICTURE], ["1", "Mug", PICTURE], profile="google"
    )
    with pytest.raises(ValueError, match="'id' more than once"):
        write_import(frame, catalogue, titles_for(["1"]), tmp_path)


def test_woocommerce_reads_an_id_as_a_number_so_zeros_before_it_name_another_product(tmp_path):
    rows = [["0112", "simple", "S", "", PICTURE, "", ""], ["112", "simple", "T", "Mug", PICTURE, "", ""]]
    frame, catalogue = in_memory(WOO, *rows, profile="woocommerce")
    with pytest.raises(ValueError, match="'ID' more than once"):
        write_import(frame, catalogue, titles_for(["0112"]), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["a\tb", "a\nb", '"a', "a\u2028b"])
def test_a_key_that_would_be_read_as_another_row_or_cell_is_left_out(tmp_path, key):
    frame, catalogue = in_memory(
        ["id", "title", "image_link"], [key, "", PICTURE], ["b", "", PICTURE], profile="google"
    )
    ids = catalogue.items["item_id"].tolist()
    written = write_import(frame, catalogue, titles_for(ids), tmp_path)
    lines = (tmp_path / "import-google.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["id", "b"]
    said = any("would cut the cell that names them" in n for n in written.notes)
    assert written.rows == 1 and said == (len(ids) == 2), "a reader may have set the row aside"


# ---------------------------------------------------------------- files and folders


def test_the_source_may_be_packed_in_another_encoding_or_in_a_folder(tmp_path):
    name = "woocommerce_german.csv.gz"
    text = with_gaps(name).removeprefix("\ufeff")
    text = "".join(c if c.encode("cp1252", "ignore") else "?" for c in text)
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "shop.csv.gz").write_bytes(gzip.compress(text.encode("cp1252")))
    catalogue = load_catalogue(folder, profile="woocommerce", encoding="cp1252", check_pictures="none")
    titles = titles_for(gaps_of(catalogue), ["Crème"])
    written = write_import(folder, catalogue, titles, tmp_path / "out", encoding="cp1252")
    with open(written.path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ID"] for row in rows] == sorted(titles["item_id"]) and {row["Name"] for row in rows} == {
        "Crème"
    }


def test_no_titles_make_a_file_of_a_header(tmp_path):
    for name in TABLES + FEEDS:
        path = saved(tmp_path, name, with_gaps(name))
        written = write_import(path, loaded(path, name), titles_for([]), tmp_path / "out")
        assert written.rows == 0 and "nothing to upload" in written.notes[0]
        with open(written.path, encoding="utf-8") as file:
            text = file.read()
        assert "<item>" not in text and (name in FEEDS or len(text.splitlines()) == 1)


def test_the_file_that_was_read_is_never_written_over(tmp_path):
    path = tmp_path / "import-shopify.csv"
    path.write_text(f"Handle,Title,Body (HTML),Image Src\na,,,{PICTURE}\n")
    before = path.read_bytes()
    catalogue = load_catalogue(path, check_pictures="none")
    with pytest.raises(ValueError, match="is never written over"):
        write_import(path, catalogue, titles_for(["a"]), tmp_path)
    assert path.read_bytes() == before


def test_the_same_titles_make_the_same_bytes(tmp_path):
    for name in TABLES + FEEDS:
        path = saved(tmp_path, name, with_gaps(name))
        catalogue = loaded(path, name)
        titles = titles_for(gaps_of(catalogue))
        first, second = (
            write_import(path, catalogue, rows, tmp_path / folder)
            for rows, folder in ((titles, "one"), (titles.sample(frac=1, random_state=1), "two"))
        )
        with open(first.path, "rb") as one, open(second.path, "rb") as two:
            assert one.read() == two.read()


def test_another_kind_of_file_comes_back_whole(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text(f"sku,name,image,price\n1,Mug,{PICTURE},3\n2,,{PICTURE},4\n")
    catalogue = load_catalogue(path, check_pictures="none")
    written = write_import(path, catalogue, titles_for(["2"]), tmp_path / "out")
    assert written.kind == "plain" and written.rows == 1
    with open(written.path, newline="") as file:
        rows = list(csv.reader(io.StringIO(file.read())))
    assert [row[:4] for row in rows[1:]] == [["1", "Mug", PICTURE, "3"], ["2", "Blue pan", PICTURE, "4"]]


def test_a_title_that_a_person_wrote_is_not_called_a_machines(tmp_path):
    columns = ["id", "title", "image_link"]
    frame, catalogue = in_memory(columns, ["1", "", PICTURE], ["2", "", PICTURE], profile="google")
    titles = titles_for(["1", "2"])
    titles["model"] = titles["model"].mask(titles["item_id"] == "2")
    written = write_import(frame, catalogue, titles, tmp_path)
    kinds = [
        line.split("\t")[1].split(":")[0]
        for line in (tmp_path / "import-google.tsv").read_text("utf-8").splitlines()[1:]
    ]
    assert kinds == ["trained_algorithmic_media", "default"] and written.rows == 2
