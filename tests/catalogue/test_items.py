"""Catalogues from strangers: odd rows and folders, and the embedded catalogue."""

import gzip
import hashlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from mmpc_analysis.catalogue import pictures, profiles
from mmpc_analysis.catalogue.download_journal import append_journal
from mmpc_analysis.catalogue.embedded import changed_files, embedded_folder
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.listings import read_listings
from mmpc_analysis.catalogue.picture_checks import contact_sheet
from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.tables import ITEMS, PICTURES, validate

DATA = ROOT / "tests" / "data" / "catalogue"


def picture(path, size=(6, 4), colour=(200, 30, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def write(folder, text, name="items.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_a_catalogue_without_a_usable_item_shows_the_first_reason(tmp_path):
    with pytest.raises(ValueError, match=r"no usable item, 2 rows were set aside.*neither title nor picture"):
        load_catalogue(write(tmp_path, "id,title\n1,\n2,\n"))


# ---------------------------------------------------------------- rows


HOSTILE = [
    "../../etc/passwd",
    "a/b",
    "..",
    "CON",
    "-rf",
    "<script>",
    "ключ",
    "🧸",
    "a b",
    "x" * 200,
    "%00",
    "=1+1",
]


def test_odd_ids_are_kept_as_text_and_never_opened(tmp_path):
    picture(tmp_path.parent / f"{tmp_path.name}-passwd.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").mkdir()
    picture(tmp_path / "images" / "a" / "b.png")
    frame = pd.DataFrame({"id": HOSTILE, "title": "t"})
    catalogue = load_catalogue(frame, root=tmp_path)
    assert sorted(catalogue.items["item_id"]) == sorted(HOSTILE)
    assert catalogue.items["image"].isna().all()
    assert catalogue.set_aside.empty


@pytest.mark.parametrize("item_id", ["a\0b", "a\nb", "x" * 201, "\x1f", "a\x7f", ""])
def test_ids_that_no_table_should_hold_are_set_aside(tmp_path, item_id):
    frame = pd.DataFrame({"id": ["good", item_id], "title": "t"})
    catalogue = load_catalogue(frame, root=tmp_path)
    assert catalogue.items["item_id"].tolist() == ["good"]
    assert catalogue.set_aside["column"].tolist() == ["item_id"]


def test_the_first_usable_row_of_an_id_is_kept(tmp_path):
    path = write(tmp_path, "id,title\na,\na,First\na,Second\na,First\nb,B\n")
    catalogue = load_catalogue(path)
    assert catalogue.items["title"].tolist() == ["First", "B"]
    assert catalogue.set_aside["row"].tolist() == [2, 4, 5]
    assert "stands in row 3 already" in catalogue.set_aside["reason"][1]


def test_a_bad_picture_costs_the_cell_or_the_row(tmp_path):
    (tmp_path / "zero.jpg").touch()
    picture(tmp_path / "fine.png")
    path = write(
        tmp_path,
        "id,title,picture\na,A,zero.jpg\nb,,zero.jpg\nc,C,https://x.example/c.jpg\nd,,fine.png\ne,E,../fine.png\nf,F,none.png\n",
    )
    catalogue = load_catalogue(path)
    assert catalogue.items["item_id"].tolist() == ["a", "c", "d", "e", "f"]
    assert catalogue.items["image"].dropna().tolist() == ["fine.png"]
    aside = catalogue.set_aside.set_index("item_id")
    assert aside["kept"].to_dict() == {"a": True, "b": False, "e": True, "f": True}
    assert (aside["column"] == "image").all()
    assert catalogue.counts["addresses that were not fetched"] == 1
    assert "and were not fetched: 1; products without a picture for that reason: 1." in catalogue.note


def test_nothing_is_lost_between_items_and_set_aside(tmp_path):
    rng = np.random.default_rng(3)
    rows = ["id,title"] + [
        rng.choice([f"{i},T", f"{i},", ",T", f"{i},T,x", "0,T", f'{i},"T']) for i in range(300)
    ]
    catalogue = load_catalogue(write(tmp_path, "\n".join(rows)))
    whole = catalogue.set_aside[~catalogue.set_aside["kept"].astype(bool)]
    assert whole["row"].is_unique
    assert len(catalogue.items) + len(whole) == 300


def test_how_far_pictures_are_checked(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    (tmp_path / "text.png").write_text("text")
    path = write(tmp_path, "id,title,image\na,A,cut.png\nb,B,text.png\n")
    usable = {
        c: load_catalogue(path, check_pictures=c).items["image"].notna().tolist()
        for c in ("none", "header", "decode")
    }
    assert usable == {"none": [True, True], "header": [True, False], "decode": [False, False]}


def test_categories_are_filled_in_and_announced(tmp_path):
    path = write(tmp_path, "id,title\na,A\n")
    assert load_catalogue(path).items["category"].tolist() == ["unknown"]
    assert load_catalogue(path, category="Toys").items["category"].tolist() == ["Toys"]
    path = write(tmp_path, "id,title,category\na,A,Toys\nb,B,\nc,C,all\nd,D,All\n")
    catalogue = load_catalogue(path)
    assert catalogue.items["category"].tolist() == ["Toys", "unknown", "unknown", "All"]
    assert "'unknown': 2" in catalogue.note
    assert catalogue.set_aside[["row", "column", "kept"]].values.tolist() == [[4, "category", True]]
    with pytest.raises(ValueError, match="must not be 'all'"):
        load_catalogue(path, category="all")


# ---------------------------------------------------------------- folders and Amazon


def test_a_folder_with_titles_finds_pictures_by_name(tmp_path):
    for name in ("a/1.jpg", "a/2.png", "b/3.webp", ".hidden.jpg", "__MACOSX/._1.jpg"):
        picture(tmp_path / name)
    write(tmp_path, "sku,name\n1,One\n2,Two\n4,Four\n", "titles.csv")
    catalogue = load_catalogue(tmp_path)
    found = {i: (t, p) for i, t, p in catalogue.items[["item_id", "title", "image"]].astype(object).where(catalogue.items.notna(), None).itertuples(index=False)}  # fmt: skip
    assert found == {
        "1": ("One", "a/1.jpg"), "2": ("Two", "a/2.png"), "3": (None, "b/3.webp"), "4": ("Four", None),
    }  # fmt: skip
    assert "without a title: 1" in catalogue.note


def test_a_folder_with_file_names_for_ids(tmp_path):
    picture(tmp_path / "pictures" / "kite.jpg")
    write(tmp_path, "filename,title\nkite.jpg,A kite\n", "titles.csv")
    catalogue = load_catalogue(tmp_path)
    assert catalogue.items[["item_id", "title", "image"]].values.tolist() == [
        ["kite", "A kite", "pictures/kite.jpg"]
    ]


def test_a_folder_without_titles_and_pictures_of_one_name(tmp_path):
    picture(tmp_path / "a" / "1.jpg")
    picture(tmp_path / "b" / "1.jpg")
    catalogue = load_catalogue(tmp_path)
    assert catalogue.items["image"].tolist() == ["a/1.jpg"]
    assert "stands in row" in catalogue.set_aside["reason"].tolist()[0]


def test_a_folder_with_two_tables_asks_which(tmp_path):
    write(tmp_path, "id,title\n1,a\n", "a.csv")
    write(tmp_path, "id,title\n2,b\n", "b.csv")
    with pytest.raises(ValueError, match=r"several tables \(a.csv, b.csv\)"):
        load_catalogue(tmp_path)
    assert load_catalogue(tmp_path / "b.csv", root=tmp_path).items["item_id"].tolist() == ["2"]


def test_amazon_metadata(tmp_path):
    lines = (DATA / "meta_All_Beauty.jsonl").read_text(encoding="utf-8")
    write(tmp_path, lines, "meta_All_Beauty.jsonl")
    picture(tmp_path / "images" / "B000000001.jpg")
    catalogue = load_catalogue(tmp_path / "meta_All_Beauty.jsonl", category="All_Beauty")
    items = catalogue.items.set_index("item_id")
    assert set(items["category"]) == {"All_Beauty"}
    assert items.loc["B000000001", "image"] == "images/B000000001.jpg"
    assert items.loc["B000000001", "description"] == "Softens hair. For daily use."
    assert items.loc["B000000001", "keywords"] == "Paraben free, 12 oz"
    assert items["image"].isna().to_dict() == {"B000000001": False, "B000000002": True, "B000000003": True}
    assert pd.isna(items.loc["B000000002", "title"])  # The word None; its picture is an address, so it stays
    aside = catalogue.set_aside
    assert aside["item_id"].tolist() == ["B000000002", "B000000004"] and aside["column"][0] == "title"
    assert aside["kept"].tolist() == [True, False]
    assert catalogue.pictures.loc[catalogue.pictures["item_id"] == "B000000002", "image"].tolist() == [
        "https://images.example/2-hi.jpg"
    ]


def test_amazon_parquet_has_the_images_the_other_way_round(tmp_path):
    images = [{"hi_res": [None, "x"], "large": ["https://images.example/l.jpg", "y"], "thumb": ["t", "t"]}]
    frame = pd.DataFrame({"parent_asin": ["B1"], "title": ["T"], "images": images, "store": ["S"]})
    frame = frame.assign(description=[["d"]], features=[["f"]])
    frame.to_parquet(tmp_path / "a.parquet")
    rows = read_listings(tmp_path / "a.parquet", profile="amazon-2023").rows
    assert next(rows)[1]["image"] == "https://images.example/l.jpg"


def test_other_kinds_of_source_are_refused(tmp_path):
    (tmp_path / "a.doc").touch()
    with pytest.raises(ValueError, match=r"must end in \.csv"):
        load_catalogue(tmp_path / "a.doc")
    with pytest.raises(FileNotFoundError, match="give a file, a folder, or 'embedded'"):
        load_catalogue(tmp_path / "b.csv")


# ---------------------------------------------------------------- the embedded catalogue


def test_the_embedded_catalogue_opens_completely():
    catalogue = load_catalogue(check_hashes=True)
    validate(catalogue.items, ITEMS)
    assert catalogue.items["category"].nunique() == 9 and len(catalogue.items) > 1000
    assert catalogue.items[["title", "image", "split", "source", "licence"]].notna().all().all()
    sizes = {open_image(catalogue.root, image).size for image in catalogue.items["image"]}
    assert sizes == {(224, 224)}
    assert contact_sheet(catalogue, catalogue.items["item_id"].head(3)).mode == "RGB"


def test_splits_partition_the_embedded_catalogue():
    whole = load_catalogue().items
    parts = [load_catalogue(split=split).items["item_id"] for split in ("train", "test", "unseen")]
    assert sorted(pd.concat(parts)) == sorted(whole["item_id"])
    drawn = whole[whole["source"].str.contains("iconify")]
    trained = set(drawn.loc[drawn["split"] == "train", "parent_id"])
    assert set(drawn.loc[drawn["split"] == "test", "parent_id"]) <= trained
    assert not set(drawn.loc[drawn["split"] == "unseen", "parent_id"]) & trained


def test_a_changed_file_is_found(tmp_path):
    (tmp_path / "a").write_text("a")
    hashes = {name: hashlib.sha256(b"a").hexdigest() for name in ("a", "gone")}
    (tmp_path / "hashes.json").write_text(json.dumps(hashes))
    assert changed_files(tmp_path) == ["gone"]
    (tmp_path / "a").write_text("b")
    assert changed_files(tmp_path) == ["a", "gone"]
    assert changed_files(embedded_folder()) == []


def test_names_list_is_in_step_with_the_items_table():
    assert list(profiles.COLUMN_NAMES)[:2] == ["item_id", "title"]
    assert set(profiles.COLUMN_NAMES) == set(ITEMS.names)
    assert pictures.MAX_PIXELS == Image.MAX_IMAGE_PIXELS


# ---------------------------------------------------------------- pictures of whole catalogues


def coloured(path, colour="teal"):
    return picture(path, colour=colour)


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(file, "PNG")
    return file.getvalue()


def colours(catalogue):
    "The first pixel of every item's picture."
    return {
        item: open_image(catalogue.root, image).getpixel((0, 0))
        for item, image in catalogue.items[["item_id", "image"]].dropna().itertuples(index=False)
    }


RED, BLUE, LIME = (255, 0, 0), (0, 0, 255), (0, 255, 0)


# ---------------------------------------------------------------- inside the table


STRUCTS = {
    "a struct": lambda data: {"bytes": data, "path": None},
    "a struct with a path": lambda data: {"bytes": data, "path": "../../etc/x.png"},
    "a list of structs": lambda data: [
        {"bytes": data, "path": "1.png"},
        {"bytes": png("lime"), "path": "2.png"},
    ],
    "bytes": lambda data: data,
    "a list of bytes": lambda data: [data],
}


@pytest.mark.parametrize("form", STRUCTS)
def test_pictures_inside_parquet(tmp_path, form):
    table = pd.DataFrame({"id": ["a", "b", "c"], "title": ["A", None, "C"]})
    table["image"] = [STRUCTS[form](png("red")), STRUCTS[form](png("blue")), None]
    table.to_parquet(tmp_path / "shop.parquet")
    catalogue = load_catalogue(tmp_path / "shop.parquet")
    assert colours(catalogue) == {"a": RED, "b": BLUE}
    assert catalogue.root == str(tmp_path / "unpacked") and catalogue.set_aside.empty
    digest = hashlib.sha256(png("red")).hexdigest()
    assert catalogue.items["image"][0] == f"{digest[:2]}/{digest}.png"
    assert len(catalogue.pictures) == (4 if form == "a list of structs" else 2)
    files = sorted(p.name for p in (tmp_path / "unpacked").rglob("*.png"))
    again = load_catalogue(tmp_path)  # As a folder: what was unpacked makes no products
    assert again.items.equals(catalogue.items) and again.root == catalogue.root
    assert sorted(p.name for p in (tmp_path / "unpacked").rglob("*.png")) == files


def test_a_list_of_picture_structs_written_by_arrow(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [[{"bytes": png("red"), "path": "x/kite.png"}, {"bytes": png("blue"), "path": None}], [], None]
    table = pa.table({"image": pa.array(cells, pa.list_(kind)), "text": ["Kite", "Top", "Ball"]})
    parquet.write_table(table, tmp_path / "train.parquet")
    catalogue = load_catalogue(tmp_path / "train.parquet", columns={"title": "text"})
    assert catalogue.items[["item_id", "title"]].values.tolist() == [
        ["kite", "Kite"]
    ]  # Called after its picture
    assert colours(catalogue) == {"kite": RED} and len(catalogue.pictures) == 2
    assert catalogue.set_aside["column"].tolist() == ["item_id"] * 2  # Neither id nor picture to be called by


def test_bytes_that_are_no_picture_are_set_aside_and_the_next_picture_serves(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "title": ["A", None]})
    table["image"] = [
        [{"bytes": b"<html>", "path": "1.png"}, {"bytes": png("blue"), "path": None}],
        [{"bytes": b"x", "path": None}],
    ]
    catalogue = load_catalogue(table, root=tmp_path)
    assert colours(catalogue) == {"a": BLUE}
    assert catalogue.set_aside[["item_id", "column", "kept"]].values.tolist() == [
        ["a", "image", True],
        ["b", "image", False],
    ]
    assert catalogue.set_aside["reason"].str.contains("cannot be read as").all()


def test_bytes_and_files_in_one_catalogue_start_from_one_root(tmp_path):
    coloured(tmp_path / "b.png", "blue")
    table = pd.DataFrame(
        {
            "id": ["a", "b"],
            "title": ["A", "B"],
            "image": [{"bytes": png("red"), "path": None}, {"bytes": None, "path": "b.png"}],
        }
    )
    catalogue = load_catalogue(table, root=tmp_path)
    assert catalogue.root == str(tmp_path) and colours(catalogue) == {"a": RED, "b": BLUE}
    assert catalogue.items["image"][0].startswith("unpacked/")
    with pytest.raises(ValueError, match=r"is not inside it; move the folder there"):
        load_catalogue(table, root=tmp_path, unpack_to=tmp_path.parent / f"{tmp_path.name}-elsewhere")
    with pytest.raises(ValueError, match="say root=FOLDER"):
        load_catalogue(table)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "unpacked").write_text("a file")
    table = pd.DataFrame({"id": ["a"], "title": ["A"], "image": [png("red")]})
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(
        ValueError, match=r"cannot be written into .*unpacked.*name another folder as unpack_to"
    ):
        load_catalogue(tmp_path / "t.parquet")
    assert colours(load_catalogue(tmp_path / "t.parquet", unpack_to=tmp_path / "there")) == {"a": RED}


# ---------------------------------------------------------------- by address


def journal(folder, pictures, failed=()):
    rows = []
    for address, colour in pictures.items():
        data = png(colour)
        digest = hashlib.sha256(data).hexdigest()
        path = folder / digest[:2] / f"{digest}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append(
            {
                "address": address,
                "outcome": "stored",
                "image": f"{digest[:2]}/{digest}.png",
                "sha256": digest,
                "bytes": float(len(data)),
            }
        )
    rows += [{"address": a, "outcome": "failed", "reason": f"answered 404; {a}"} for a in failed]
    append_journal(folder, rows)


def feed(path, extra=""):
    path.write_text(
        "id\ttitle\timage_link\tadditional_image_link\tprice\n"
        "a\tMug\thttps://x.example/a.jpg\thttps://x.example/a2.jpg,https://x.example/a3.jpg\t3\n"
        "b\t\thttps://x.example/b.jpg\t\t4\n"
        f"c\tKite\thttps://x.example/c.jpg\t\t5\n{extra}"
    )
    return path


def test_a_google_feed_keeps_all_its_addresses_and_says_that_none_was_fetched(tmp_path):
    catalogue = load_catalogue(feed(tmp_path / "feed.tsv"))
    validate(catalogue.pictures, PICTURES)
    assert catalogue.pictures.values.tolist() == [
        ["a", 1, "https://x.example/a.jpg"], ["a", 2, "https://x.example/a2.jpg"], ["a", 3, "https://x.example/a3.jpg"],
        ["b", 1, "https://x.example/b.jpg"], ["c", 1, "https://x.example/c.jpg"],
    ]  # fmt: skip
    assert catalogue.items["item_id"].tolist() == ["a", "b", "c"] and catalogue.items["image"].isna().all()
    assert (
        "and were not fetched: 5; products without a picture for that reason: 3. mmpc fetch-pictures fetches them"
        in catalogue.note
    )
    assert "without a title: 1; without a picture: 3; with both: 0; with neither yet: 1." in catalogue.note
    assert "price" in catalogue.unused and "Columns that are not used: price." in catalogue.note
    assert catalogue.set_aside.empty  # An address that nobody has asked is no fault of its row


def test_a_feed_of_addresses_alone_can_be_read_before_they_are_fetched(tmp_path):
    path = tmp_path / "feed.csv"
    path.write_text("id,image\na,https://x.example/a.jpg\nb,https://x.example/b.jpg\n")
    catalogue = load_catalogue(path)
    assert catalogue.items["item_id"].tolist() == ["a", "b"] and catalogue.set_aside.empty
    assert catalogue.items[["title", "image"]].isna().all(axis=None)
    assert catalogue.pictures["image"].tolist() == ["https://x.example/a.jpg", "https://x.example/b.jpg"]


@pytest.mark.parametrize("form", ["addresses", "files", "one file, the rest addresses"])
def test_sixteen_products_without_a_title_never_vanish(tmp_path, form):
    picture(tmp_path / "p.png")
    cells = [
        "p.png" if form == "files" or (k == 3 and "one" in form) else f"https://x.example/{k}.jpg"
        for k in range(40)
    ]
    rows = [f"{k:02},{'' if k < 16 else f'Mug {k}'},{cell}" for k, cell in enumerate(cells)]
    path = write(tmp_path, "\n".join(["id,title,image", *rows, "98,,", "99,Only a title,"]))
    catalogue = load_catalogue(path)
    assert catalogue.items["item_id"].tolist() == [f"{k:02}" for k in range(40)] + ["99"]
    assert catalogue.items["title"].isna().sum() == 16
    assert catalogue.set_aside["item_id"].tolist() == ["98"]  # It names no picture at all
    files = {"addresses": 0, "files": 40}.get(form, 1)
    ending = "" if form == "files" else f"; with neither yet: {16 - (files == 1)}"
    both = {"files": 24}.get(form, 0)
    assert catalogue.note.endswith(
        f"Products: 41; without a title: 16; without a picture: {41 - files}; with both: {both}{ending}."
    )


def test_an_address_that_was_asked_in_vain_saves_no_product_without_a_title(tmp_path):
    journal(tmp_path / "downloaded", {}, ["https://x.example/b.jpg"])
    catalogue = load_catalogue(feed(tmp_path / "feed.tsv", "d\t\tnowhere.png\t\t1\n"))
    assert catalogue.items["item_id"].tolist() == ["a", "c"]
    assert catalogue.set_aside["item_id"].tolist() == ["b", "d"] and not catalogue.set_aside["kept"].any()


def test_fetched_addresses_become_pictures(tmp_path):
    journal(
        tmp_path / "downloaded",
        {"https://x.example/a2.jpg": "red", "https://x.example/b.jpg": "blue"},
        ["https://x.example/a.jpg"],
    )
    catalogue = load_catalogue(feed(tmp_path / "feed.tsv"))
    assert catalogue.items["item_id"].tolist() == ["a", "b", "c"]  # b has a picture now
    assert colours(catalogue) == {"a": RED, "b": BLUE}  # The second of a serves, since the first gave none
    assert catalogue.root == str(tmp_path / "downloaded")
    assert catalogue.set_aside[["item_id", "column", "kept"]].values.tolist() == [["a", "image", True]]
    assert "gave no picture: answered 404" in catalogue.set_aside["reason"][0]
    assert catalogue.counts["products whose picture is an address that was not fetched"] == 1
    named = catalogue.pictures.set_index(["item_id", "position"])["image"]
    assert named["c", 1] == "https://x.example/c.jpg" and named["b", 1] == catalogue.items["image"][1]


def test_a_folder_of_downloads_elsewhere_is_the_root_or_inside_it(tmp_path):
    shop, other = tmp_path / "shop", tmp_path / "fetched"
    shop.mkdir()
    journal(other, {"https://x.example/a.jpg": "red"})
    catalogue = load_catalogue(feed(shop / "feed.tsv"), downloads=other)
    assert catalogue.root == str(other) and colours(catalogue) == {"a": RED}
    coloured(shop / "k.png", "lime")
    with pytest.raises(ValueError, match=r"some pictures lie in .* and others in .*fetched"):
        load_catalogue(feed(shop / "feed.tsv", "d\tTop\tk.png\t\t1\n"), downloads=other)
    journal(shop / "downloaded", {"https://x.example/a.jpg": "blue"})
    both = load_catalogue(feed(shop / "feed.tsv", "d\tTop\tk.png\t\t1\n"))
    assert both.root == str(shop) and colours(both) == {"a": BLUE, "d": LIME}
    whole = load_catalogue(shop)  # What was downloaded is no loose picture
    assert whole.items["item_id"].tolist() == both.items["item_id"].tolist()


def test_a_journal_from_a_stranger_names_no_file_outside(tmp_path):
    coloured(tmp_path / "secret.png")
    append_journal(
        tmp_path / "shop" / "downloaded",
        [{"address": "https://x.example/a.jpg", "outcome": "stored", "image": "../../secret.png"}],
    )
    catalogue = load_catalogue(feed(tmp_path / "shop" / "feed.tsv"))
    assert catalogue.items["image"].isna().all()


def test_other_addresses_are_no_pictures_that_wait(tmp_path):
    table = pd.DataFrame(
        {"id": ["a", "b"], "title": ["A", "B"], "image": ["ftp://x.example/a.jpg", "s3://x/b.jpg"]}
    )
    catalogue = load_catalogue(table, root=tmp_path)
    assert catalogue.set_aside["reason"].str.contains("is an address").all() and len(catalogue.set_aside) == 2
    assert "addresses that were not fetched" not in catalogue.counts


# ---------------------------------------------------------------- several pictures, names, ids


def test_the_first_usable_picture_serves_and_all_are_kept(tmp_path):
    coloured(tmp_path / "2.png", "red")
    coloured(tmp_path / "3.png", "blue")
    (tmp_path / "1.png").write_text("no picture")
    table = pd.DataFrame({"id": ["a"], "title": ["A"], "image": [["1.png", "2.png", "3.png", "2.png"]]})
    catalogue = load_catalogue(table, root=tmp_path)
    assert colours(catalogue) == {"a": RED}
    assert catalogue.pictures["image"].tolist() == ["1.png", "2.png", "3.png"]
    assert catalogue.set_aside[["item_id", "column", "kept"]].values.tolist() == [["a", "image", True]]


def test_an_id_that_is_the_name_of_several_pictures_is_counted(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg", "2.jpg"):
        coloured(tmp_path / name)
    catalogue = load_catalogue(pd.DataFrame({"id": ["1", "2"], "title": ["A", "B"]}), root=tmp_path)
    assert catalogue.items["image"].tolist() == ["a/1.jpg", "2.jpg"]
    assert catalogue.counts["products whose id is the name of several pictures"] == 1


def test_a_shopify_export_is_one_product_a_handle(tmp_path):
    (tmp_path / "products.csv").write_text(
        "Handle,Title,Body (HTML),Vendor,Type,Image Src,Image Position,Variant SKU,Gift Card\n"
        "mug,Blue Mug,<p>Holds <b>0.3&nbsp;l</b></p>,Sky,Mugs,https://x.example/1.jpg,1,M1,false\n"
        "mug,,,,,https://x.example/2.jpg,2,M2,false\n"
        "kite,-,,N/A,Toys,https://x.example/no-image-2048-5e88c1b20e08.gif,1,K1,false\n"
    )
    catalogue = load_catalogue(tmp_path / "products.csv")
    assert catalogue.items[["item_id", "title", "description", "brand"]].values.tolist() == [
        ["mug", "Blue Mug", "Holds 0.3 l", "Sky"]
    ]
    assert catalogue.pictures["image"].tolist() == ["https://x.example/1.jpg", "https://x.example/2.jpg"]
    assert (
        catalogue.set_aside["item_id"].tolist() == ["kite", "kite"] and not catalogue.set_aside["kept"].any()
    )
    assert catalogue.counts["HTML tags in descriptions"] == 1 and catalogue.counts["placeholder titles"] == 1
    assert catalogue.unused == ("Gift Card",) and "Columns that are not used: Gift Card." in catalogue.note


def test_reviews_are_no_products(tmp_path):
    (tmp_path / "reviews.jsonl").write_text(
        '{"rating": 5, "title": "Great", "text": "I love it", "images": [], "asin": "B1", "parent_asin": "B1", "user_id": "u", "timestamp": 1}\n'
    )
    with pytest.raises(ValueError, match="reviews"):
        load_catalogue(tmp_path / "reviews.jsonl")


# ---------------------------------------------------------------- columns that are not found


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Artikelnr;Bezeichnung;Bild", ["no column can be the item_id", "Artikelnr, Bezeichnung, Bild", "--column item_id=NAME", "--column title=NAME"]),
        ("sku;Bezeichnung;Bild", ["--column title=NAME", "sku, Bezeichnung, Bild"]),
        ("артикул;название", ["артикул, название", "--column item_id=NAME"]),
    ],
)  # fmt: skip
def test_columns_that_are_not_found_give_the_line_to_type(tmp_path, header, said):
    path = tmp_path / "items.csv"
    path.write_text(
        f"{header}\n1;Becher;1.jpg\n".replace(";1.jpg", ";1.jpg" * (header.count(";") > 1)), "utf-8"
    )
    with pytest.raises(ValueError, match=said[0]) as error:
        load_catalogue(path)
    assert all(words in str(error.value) for words in said)


def test_a_column_of_titles_that_nobody_recognised_is_named_in_the_note(tmp_path):
    coloured(tmp_path / "1.jpg")
    (tmp_path / "items.csv").write_text("sku,photo,Bezeichnung\n1,1.jpg,Becher\n")
    catalogue = load_catalogue(tmp_path / "items.csv")
    assert (
        "No column was taken for the title; if it is one of Bezeichnung, say --column title=Bezeichnung."
        in catalogue.note
    )
    named = load_catalogue(tmp_path / "items.csv", columns={"title": "Bezeichnung"})
    assert named.items["title"].tolist() == ["Becher"] and "No column" not in named.note


def test_a_split_keeps_its_own_pictures(tmp_path):
    table = pd.DataFrame(
        {
            "id": ["a", "b"],
            "title": ["A", "B"],
            "split": ["train", "test"],
            "image": ["https://x.example/a", "https://x.example/b"],
        }
    )
    catalogue = load_catalogue(table, root=tmp_path, split="test")
    assert catalogue.pictures["item_id"].tolist() == ["b"]


# ---------------------------------------------------------------- exports of whole shops


EXPORTS = ROOT / "tests" / "data" / "catalogue" / "exports"
TRUTH = json.loads(gzip.decompress((EXPORTS / "truth.json.gz").read_bytes()))


@pytest.mark.parametrize("name", list(TRUTH))
def test_a_whole_export_is_a_catalogue_with_nothing_lost(name, tmp_path):
    source = EXPORTS / name
    catalogue = load_catalogue(source, root=tmp_path)
    truth = {row["id"]: row for row in TRUTH[name]}
    whole = catalogue.set_aside[~catalogue.set_aside["kept"].astype(bool)]
    items = catalogue.items.set_index("item_id")
    assert set(items.index) | set(whole["item_id"].dropna()) == set(truth) and not set(items.index) & set(
        whole["item_id"]
    )
    assert set(items.index) == {i for i, row in truth.items() if row["title"] or row["images"]}
    assert set(items.index[items["title"].isna()]) == {
        i for i, row in truth.items() if not row["title"] and row["images"]
    }
    for item_id, title in items["title"].dropna().items():
        assert title.split() == truth[item_id]["title"].split()
    for item_id, category in items["category"].items():
        assert category == (truth[item_id]["category"] or "unknown")
    named = catalogue.pictures.groupby("item_id")["image"].agg(list).to_dict()
    assert named == {i: row["images"] for i, row in truth.items() if row["images"]}
    assert f"without a picture: {len(items):,}; with both: 0" in catalogue.note


@pytest.mark.parametrize("image", [{"foo": "a.png"}, [{"caption": "a mug"}], {"alt": "Mug", "id": 7}])
def test_a_picture_named_in_no_known_way_is_no_silent_gap(tmp_path, image):
    catalogue = load_catalogue(
        write(tmp_path, json.dumps({"id": "1", "title": "Mug", "image": image}) + "\n", "a.jsonl")
    )
    assert catalogue.items["image"].isna().all() and catalogue.set_aside["column"].tolist() == ["image"]


@pytest.mark.parametrize(
    "image", [{"bytes": None, "path": None}, {"bytes": None, "format": "png"}, {"large": None}, [], {}, None]
)
def test_an_empty_picture_is_a_gap_without_a_complaint(tmp_path, image):
    catalogue = load_catalogue(
        write(tmp_path, json.dumps({"id": "1", "title": "Mug", "image": image}) + "\n", "a.jsonl")
    )
    assert catalogue.items["image"].isna().all() and catalogue.set_aside.empty


# ---------------------------------------------------------------- folders as they are


def test_a_folder_ignores_the_locks_of_open_workbooks_and_names_what_it_did_not_read(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "~$items.xlsx").write_bytes(b"x")
    (tmp_path / "feed.txt").write_text("id\ttitle\na\tMug\n")
    catalogue = load_catalogue(tmp_path)
    assert catalogue.items["title"].isna().tolist() == [True]
    assert "Not taken for a table: feed.txt; name the file itself if it is one." in catalogue.note
    assert load_catalogue(tmp_path / "feed.txt").items["title"].tolist() == ["Mug"]


def test_two_tables_are_refused_with_the_line_to_type(tmp_path):
    for name in ("a.csv", "b.tsv"):
        write(tmp_path, "id\ttitle\n1\tMug\n", name)
    with pytest.raises(
        ValueError, match=r"holds several tables \(a\.csv, b\.tsv\); name one of them, such as .*a\.csv"
    ):
        load_catalogue(tmp_path)


@pytest.mark.parametrize("text", ["id,title\n", "id,title\r\n,\r\n,\r\n"])
def test_a_header_without_rows_and_an_empty_folder_say_so(tmp_path, text):
    with pytest.raises(ValueError, match="no usable item, as it has no rows below its header"):
        load_catalogue(write(tmp_path, text))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no usable item, as it has no picture and no table"):
        load_catalogue(tmp_path / "empty")


def test_a_split_of_a_catalogue_without_any_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match="this catalogue has no splits; leave split out, got 'test'"):
        load_catalogue(write(tmp_path, "id,title\n1,Mug\n"), split="test")


def test_an_error_of_columns_says_which_sheet_was_read(tmp_path):
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"what": ["made"], "when": ["May"]}).to_excel(book, sheet_name="About", index=False)
        pd.DataFrame({"id": ["1"], "title": ["Mug"]}).to_excel(book, sheet_name="Stock", index=False)
    with pytest.raises(
        ValueError, match=r"--column item_id=NAME.*has the sheets About, Stock; About was read"
    ):
        load_catalogue(tmp_path / "a.xlsx")


def test_ids_that_a_spreadsheet_shortened_are_counted(tmp_path):
    text = 'id,title\n4.00638E+12,Mug\n4.00638E+12,Pan\n"4,5E+10",Lamp\n1E5,Kite\n4006381333931,Top\n'
    catalogue = load_catalogue(write(tmp_path, text))
    assert "Ids that a spreadsheet has shortened to a form such as 4.00638E+12: 2." in catalogue.note
    assert catalogue.set_aside["remedy"].tolist() == ["show the ids as whole numbers and save again"]


def test_a_cell_of_another_encoding_is_set_aside_in_words(tmp_path):
    lines = [f"{k},Tässe {k}\n".encode() for k in range(30)]
    (tmp_path / "a.csv").write_bytes(b"".join([b"id,title\n", *lines, b"99,K\xe4se\n", b"K\xe4,Mug\n"]))
    aside = load_catalogue(tmp_path / "a.csv").set_aside
    assert aside["row"].tolist() == [32, 33]  # The first has neither title nor picture then
    assert (aside["reason"] == "holds bytes that are not in the file's encoding").all()
