"""The raw files of Amazon Reviews 2023 as a catalogue: against a plain reading of the same files, in every form, hostile rows included."""

import gzip
import importlib.util
import json
import os
import random
import shutil
import sys

import fsspec
import pandas as pd
import pytest
from conftest import ROOT
from fsspec.implementations.memory import MemoryFileSystem

from mmpc_analysis.catalogue import amazon_files
from mmpc_analysis.catalogue.amazon_2023 import large_pictures, load_amazon
from mmpc_analysis.catalogue.amazon_files import (
    AMAZON_CATEGORIES,
    amazon_fingerprint,
    amazon_rows,
    find_amazon_files,
)
from mmpc_analysis.catalogue.download_journal import append_journal
from mmpc_analysis.catalogue.items import Catalogue
from mmpc_analysis.store import hash_unit

sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
import make_amazon_files as make

TWO = ["All_Beauty", "Toys_and_Games"]


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    "The same two categories as plain lines in the hub's folders, as packed lines in one folder, and as shards of Parquet."
    folder = tmp_path_factory.mktemp("amazon")
    make.write_amazon(folder / "jsonl", TWO, 60, 300, form="jsonl", layout="hub")
    make.write_amazon(folder / "gz", TWO, 60, 300, form="jsonl.gz")
    make.write_amazon(folder / "parquet", TWO, 60, 300, form="parquet", shards=3)
    return folder


def plain_reading(folder, category, most, seed=0):
    "Ids of the sample and usable rows, the whole file in memory, by the words of the rule."
    usable = {}
    for line in gzip.decompress((folder / f"meta_{category}.jsonl.gz").read_bytes()).splitlines():
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict) or not isinstance(row.get("parent_asin"), str):
            continue
        title, images, item = row.get("title"), row.get("images"), row["parent_asin"]
        web = (
            [e["large"] for e in images if str(e.get("large")).startswith("http")]
            if isinstance(images, list)
            else []
        )
        odd = not isinstance(title, str) or len(title.strip()) < 5 or "\ud83d" in title or "\x00" in item
        if not odd and web and item not in usable:
            usable[item] = (title, web)
    ranked = sorted(usable, key=lambda item: hash_unit("amazon-2023", seed, item))
    return {item: usable[item] for item in ranked[: most or None]}


@pytest.mark.parametrize("most", [0, 1, 7, 40, 1000])
def test_the_sample_is_that_of_a_plain_reading(forms, most):
    catalogue = load_amazon(forms / "gz", TWO, most, seed=3)
    expected = {c: plain_reading(forms / "gz", c, most, 3) for c in TWO}
    by_category = catalogue.items.groupby("category")["item_id"].agg(set)
    assert by_category["All_Beauty"] == set(expected["All_Beauty"])
    assert by_category["Toys_and_Games"] == set(expected["Toys_and_Games"]) - set(expected["All_Beauty"])
    first = {item: web[0] for c in TWO[::-1] for item, (_, web) in expected[c].items()}
    assert dict(zip(catalogue.items["item_id"], catalogue.items["image"], strict=True)) == first
    assert list(catalogue.items["item_id"]) == sorted(first)
    assert isinstance(catalogue, Catalogue) and catalogue.profile == "amazon-2023"


def test_all_forms_say_the_same(forms):
    jsonl, packed, parquet = (load_amazon(forms / form, TWO, 25) for form in ("jsonl", "gz", "parquet"))
    pd.testing.assert_frame_equal(jsonl.items, packed.items)
    pd.testing.assert_frame_equal(jsonl.pictures, packed.pictures)
    assert jsonl.counts == packed.counts
    pd.testing.assert_frame_equal(jsonl.items, parquet.items)
    pd.testing.assert_frame_equal(jsonl.pictures, parquet.pictures)


def test_a_larger_sample_only_adds(forms):
    before = set()
    for most in (1, 2, 5, 13, 34, 0):
        items = set(load_amazon(forms / "gz", TWO, most).items["item_id"])
        assert before < items
        before = items
    other = set(load_amazon(forms / "gz", TWO, 13, seed=1).items["item_id"])
    assert other != set(load_amazon(forms / "gz", TWO, 13).items["item_id"])


def test_the_order_of_rows_and_of_categories_does_not_matter(forms, tmp_path):
    for category in TWO:
        lines = gzip.decompress((forms / "gz" / f"meta_{category}.jsonl.gz").read_bytes()).splitlines(
            keepends=True
        )
        keep = [line for line in lines if b"TWIN" not in line]  # Of two rows of a product the first counts
        random.Random(1).shuffle(keep)
        (tmp_path / f"meta_{category}.jsonl").write_bytes(b"".join(keep))
    shuffled = load_amazon(tmp_path, TWO[::-1], 30)
    plain = load_amazon(forms / "gz", TWO, 30)
    left = plain.items[~plain.items["item_id"].str.contains("TWIN")]
    assert set(left["item_id"]) <= set(shuffled.items["item_id"])
    both = shuffled.items.merge(left, on="item_id", suffixes=("", "_plain"))
    assert len(both) == len(left)
    assert (both["title"] == both["title_plain"]).all() and (both["category"] == both["category_plain"]).all()


def test_hostile_rows_are_set_aside_with_a_reason(forms):
    catalogue = load_amazon(forms / "gz", ["All_Beauty"], 0)
    aside = catalogue.set_aside
    ids = set(catalogue.items["item_id"])
    assert {f"H0All_{n:04d}" for n in (4, 11, 18, 19, 21)} | {"H0All_TWIN", "H0EVERYWHERE"} <= ids
    assert not {f"H0All_{n:04d}" for n in (1, 2, 3, 5, 6, 7, 8, 9, 10, 12, 13, 20)} & ids
    why = aside.set_index("item_id")["reason"]
    assert "fewer than 5 characters" in why["H0All_0003"] and "no large picture" in why["H0All_0010"]
    assert "earlier row" in why["H0All_TWIN"] and "control" in why["H0\x00NUL"]
    assert aside["reason"].str.startswith("meta_All_Beauty.jsonl.gz: ").all() and not aside["kept"].any()
    counts = catalogue.counts
    rows = [row for row in make.product_rows("All_Beauty", 60) if row != ""]
    assert counts["rows read"] == len(rows)
    assert counts["rows that could not be read"] == 4 and counts["further rows of a chosen product"] == 1
    left_out = sum(n for w, n in counts.items() if not w.startswith("rows read") and "kind" not in w)
    assert left_out == len(aside) == len(rows) - len(ids)
    by_id = catalogue.items.set_index("item_id")
    assert (
        by_id.loc["H0All_0019", "title"] == "Steel kettle & cup"
        and by_id.loc["H0All_0004", "title"] == "Lamps"
    )
    assert by_id.loc["H0All_TWIN", "title"] != "Another title altogether"
    assert any(item.startswith("00") for item in ids)
    assert {"H0All_0011", "H0All_0004"} <= set(catalogue.pictures["item_id"])


def test_a_product_of_two_categories_is_in_the_first_of_the_alphabet(forms):
    catalogue = load_amazon(forms / "gz", TWO[::-1], 0)
    assert catalogue.items.set_index("item_id").loc["H0EVERYWHERE", "category"] == "All_Beauty"
    assert catalogue.counts["chosen in two categories"] == 1
    where = catalogue.set_aside[catalogue.set_aside["item_id"] == "H0EVERYWHERE"]["reason"]
    assert where.tolist() == ["meta_Toys_and_Games.jsonl.gz: is in an earlier category, where it is used"]


def test_many_rows_of_one_reason_are_counted_and_some_listed(tmp_path):
    good = {"parent_asin": "G", "title": "A good one", "images": [{"large": "https://x.invalid/1.jpg"}]}
    rows = [good, *({"parent_asin": f"N{n}", "title": None} for n in range(1000))]
    (tmp_path / "meta_Electronics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    catalogue = load_amazon(tmp_path, ["Electronics"])
    assert (
        catalogue.counts["titles that are too short or no text"] == 1000 and len(catalogue.set_aside) == 100
    )


def test_every_large_picture_is_named_the_first_one_first():
    entries = [
        {"large": None, "hi_res": "http://h"},
        {"large": "ftp://f"},
        {"large": "https://a"},
        {"large": "https://b"},
    ]
    assert large_pictures(entries) == ["https://a", "https://b", "http://h"]
    assert large_pictures({k: [e.get(k) for e in entries] for k in ("large", "hi_res")}) == large_pictures(
        entries
    )
    assert large_pictures({"large": ["http://a", None], "hi_res": []}) == ["http://a"]
    for odd in (
        3,
        "http://a",
        [None, 4, "x"],
        {"large": "http://a"},
        [{"large": ["http://a"]}],
        [{"large": "http://a\n"}],
    ):
        assert large_pictures(odd) == []


def test_the_day_an_item_came_is_kept(forms):
    catalogue = load_amazon(forms / "gz", ["All_Beauty"], 0)
    days = catalogue.items.set_index("item_id")["first_available"]
    row = make.product("All_Beauty", 0)
    written = pd.Timestamp(row["details"]["Date First Available"])
    assert days[row["parent_asin"]] == written.strftime("%Y-%m-%d") and days["H0All_0021"] is None


# ---------------------------------------------------------------- pictures


def test_pictures_beside_the_files_take_the_place_of_addresses(tmp_path):
    make.write_amazon(tmp_path, TWO, 5, 10, pictures=tmp_path / "images")
    broken = make.product_id("All_Beauty", 0)
    (tmp_path / "images" / f"{broken}.jpg").write_bytes(b"no picture")
    catalogue = load_amazon(tmp_path, TWO)
    images = catalogue.items.set_index("item_id")["image"]
    assert pd.isna(images[broken]) and images.drop(broken).str.startswith("images/").all()
    assert all(os.path.isfile(os.path.join(catalogue.root, image)) for image in images.dropna())
    assert "replace the file" in catalogue.set_aside.set_index("item_id").loc[broken, "remedy"]


def test_downloads_are_resolved_by_address(tmp_path):
    make.write_amazon(tmp_path / "raw", ["All_Beauty"], 4, 10, hostile=False)
    make.write_pictures(tmp_path / "served", "All_Beauty", 4, named_by_item=False, hostile=False)
    store, rows = tmp_path / "store", []
    for number in range(3):
        name = make.picture_name(make.product_id("All_Beauty", number), 1)
        image = f"{number:02x}/{str(number) * 64}.jpg"
        (store / image).parent.mkdir(parents=True)
        shutil.copy(tmp_path / "served" / name, store / image)
        facts = {
            "outcome": "stored",
            "image": image,
            "sha256": "",
            "bytes": 1.0,
            "status": 200.0,
            "reason": None,
        }
        rows.append({"address": f"{make.ADDRESS}/{name}", **facts})
    append_journal(store, rows)
    catalogue = load_amazon(tmp_path / "raw", ["All_Beauty"], downloads=store)
    assert catalogue.root == str(store) and catalogue.items["image"].notna().sum() == 3
    gone = catalogue.items.set_index("item_id").loc[make.product_id("All_Beauty", 3), "image"]
    assert pd.isna(gone) and catalogue.set_aside["reason"].tolist() == ["was not fetched"]
    (tmp_path / "raw" / "images").mkdir()
    make.write_pictures(tmp_path / "raw" / "images", "All_Beauty", 1, hostile=False)
    with pytest.raises(ValueError, match="put the downloads into a folder inside"):
        load_amazon(tmp_path / "raw", ["All_Beauty"], downloads=store)
    shutil.move(store, tmp_path / "raw" / "downloaded")
    mixed = load_amazon(tmp_path / "raw", ["All_Beauty"], downloads=tmp_path / "raw" / "downloaded")
    assert mixed.root == str(tmp_path / "raw")
    assert sorted(mixed.items["image"].dropna().str.split("/").str[0]) == [
        "downloaded",
        "downloaded",
        "images",
    ]


def test_an_id_that_is_a_path_leads_nowhere(tmp_path):
    (tmp_path / "raw").mkdir()
    row = {
        "parent_asin": "../outside",
        "title": "A good one",
        "images": [{"large": "https://x.invalid/1.jpg"}],
    }
    (tmp_path / "raw" / "meta_Electronics.jsonl").write_text(json.dumps(row))
    make.write_pictures(tmp_path, "All_Beauty", 1, hostile=False)
    (tmp_path / f"{make.product_id('All_Beauty', 0)}.jpg").rename(tmp_path / "outside.jpg")
    catalogue = load_amazon(tmp_path / "raw", ["Electronics"])
    assert catalogue.items["image"].isna().all() and "leads out" in catalogue.set_aside.loc[0, "reason"]


# ---------------------------------------------------------------- files


def test_the_nine_are_those_of_the_study_in_its_order():
    assert list(AMAZON_CATEGORIES) == make.NINE


def test_files_in_a_file_system_elsewhere(forms):
    memory = fsspec.filesystem("memory")
    memory.put(str(forms / "gz"), "/amazon", recursive=True)
    try:
        far, near = load_amazon("memory://amazon", TWO, 20), load_amazon(forms / "gz", TWO, 20)
        pd.testing.assert_frame_equal(far.items, near.items)
        key = amazon_fingerprint("memory://amazon", TWO)
        assert key == amazon_fingerprint("memory://amazon", TWO[::-1])
        memory.pipe_file("/amazon/All_Beauty.jsonl.gz", b"other")
        assert amazon_fingerprint("memory://amazon", TWO) != key
    finally:
        memory.rm("/amazon", recursive=True)


def test_a_fingerprint_is_of_the_files_that_are_read(forms, tmp_path):
    shutil.copytree(forms / "gz", tmp_path / "a", copy_function=shutil.copy2)
    key = amazon_fingerprint(tmp_path / "a", TWO)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert amazon_fingerprint(tmp_path / "b", TWO) == key
    reviews = amazon_fingerprint(tmp_path / "b", TWO, ["reviews"])
    os.utime(tmp_path / "b" / "meta_All_Beauty.jsonl.gz", (1, 1))
    assert amazon_fingerprint(tmp_path / "b", TWO) != key
    assert (
        amazon_fingerprint(tmp_path / "b", TWO, ["reviews"])
        == reviews
        != amazon_fingerprint(tmp_path / "b", TWO[:1])
    )


def test_missing_files_are_named_with_what_is_there(forms, tmp_path):
    with pytest.raises(ValueError, match=r"has no meta_Video_Games, Video_Games.*All_Beauty"):
        find_amazon_files(forms / "gz", ["All_Beauty", "Video_Games"])
    with pytest.raises(ValueError, match="there is no file"):
        find_amazon_files(tmp_path)
    shutil.copytree(forms / "parquet", tmp_path / "p")
    next((tmp_path / "p" / "raw_meta_All_Beauty").glob("*00001-of*")).unlink()
    with pytest.raises(ValueError, match=r"lacks raw_meta_All_Beauty/full-00001-of-00003\.parquet"):
        find_amazon_files(tmp_path / "p", TWO)


@pytest.mark.parametrize(
    "path",
    ["meta_Toys_and_Games.jsonl", "raw/meta_categories/meta_Toys_and_Games.jsonl.gz", "meta_categories/meta_Toys_and_Games.jsonl",
     "raw_meta_Toys_and_Games/full/0000.parquet", "raw_meta_Toys_and_Games/full-00000-of-00001.parquet", "meta_Toys_and_Games.parquet"],
)  # fmt: skip
def test_every_layout_is_found_and_nothing_else(tmp_path, path):
    for name in (
        path,
        "meta_Toys_and_Games_Small.jsonl",
        "Toys_and_Games.jsonl",
        "images/meta_Toys_and_Games.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_amazon_files(tmp_path, ["Toys_and_Games"], ["meta"])["Toys_and_Games"]
    assert found.meta == (str(tmp_path / path),) and found.reviews == (
        str(tmp_path / "Toys_and_Games.jsonl"),
    )


def test_two_forms_of_one_file_are_read_once(forms, tmp_path):
    for form in ("gz", "jsonl", "parquet"):
        shutil.copytree(forms / form, tmp_path, dirs_exist_ok=True)
    both, one = load_amazon(tmp_path, TWO, 20), load_amazon(forms / "gz", TWO, 20)
    assert both.counts == one.counts


@pytest.mark.parametrize("form", ["gz", "parquet"])
def test_a_damaged_file_is_an_error_that_names_it(forms, tmp_path, form):
    shutil.copytree(forms / form, tmp_path / "cut")
    path = find_amazon_files(tmp_path / "cut", ["All_Beauty"])["All_Beauty"].meta[0]
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) * 2 // 3)
    with pytest.raises(ValueError, match=r"is damaged after [\d,]+ rows .*; fetch it again"):
        load_amazon(tmp_path / "cut", ["All_Beauty"])


def test_an_endless_line_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(amazon_files, "LONGEST_LINE", 1000)
    text = b'{"parent_asin": "A"}\n{"title": "' + b"x" * 50_000 + b'"}\n{"parent_asin": "B"}'
    (tmp_path / "meta_A.jsonl.gz").write_bytes(gzip.compress(text))
    rows = dict(amazon_rows(str(tmp_path / "meta_A.jsonl.gz")))
    assert rows == {1: {"parent_asin": "A"}, 2: "is longer than 1,000 bytes", 3: {"parent_asin": "B"}}


def test_a_byte_order_mark_and_a_nul_change_nothing(tmp_path):
    (tmp_path / "meta_A.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{\x00"a": 2}\n{"a": "\\u0000"}\n')
    rows = dict(amazon_rows(str(tmp_path / "meta_A.jsonl")))
    assert rows[1] == {"a": 1} and rows[2].startswith("is not JSON") and rows[3] == {"a": "\0"}


def test_reviews_in_the_place_of_products_are_refused(forms, tmp_path):
    shutil.copy(forms / "gz" / "All_Beauty.jsonl.gz", tmp_path / "meta_All_Beauty.jsonl.gz")
    with pytest.raises(ValueError, match="holds reviews, expected products"):
        load_amazon(tmp_path, ["All_Beauty"])


class SilentServer(MemoryFileSystem):
    "A web server that does not list what it has."

    protocol = "https"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("https://").strip("/")

    def ls(self, path, detail=True, **kwargs):
        raise FileNotFoundError(path)


def test_files_on_a_web_server_that_does_not_list_them(forms, monkeypatch):
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "https", SilentServer)
    try:
        server = SilentServer()
        server.put(str(forms / "jsonl"), "/shop.invalid", recursive=True)
        far, near = load_amazon("https://shop.invalid", TWO, 10), load_amazon(forms / "jsonl", TWO, 10)
        pd.testing.assert_frame_equal(far.items, near.items)
        with pytest.raises(ValueError, match="has no meta_Electronics"):
            find_amazon_files("https://shop.invalid", ["Electronics"], ["meta"])
    finally:
        fsspec.filesystem("memory").rm("/shop.invalid", recursive=True)


def test_a_file_system_that_is_not_installed_is_named():
    with pytest.raises(ValueError, match=r"'nosuch://bucket' cannot be opened"):
        find_amazon_files("nosuch://bucket")
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(ValueError, match="s3fs"):
            find_amazon_files("s3://bucket/amazon")
