"""Catalogues from strangers: odd rows and folders, and the embedded catalogue."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from mmpc_analysis.catalogue import pictures, profiles
from mmpc_analysis.catalogue.items import changed_files, contact_sheet, embedded_folder, load_catalogue
from mmpc_analysis.catalogue.listings import read_listings
from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.tables import ITEMS, validate

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
    assert aside["kept"].to_dict() == {"a": True, "b": False, "c": True, "e": True, "f": True}
    assert (aside["column"] == "image").all()
    assert aside.loc["c", "remedy"] == "download the picture and name its path here"


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
    aside = catalogue.set_aside.set_index("item_id")
    assert aside.index.tolist() == ["B000000002", "B000000004"]
    assert aside["kept"].tolist() == [True, False]
    assert aside.loc["B000000002", "reason"].startswith("'https://images.example/2-hi.jpg' is an address")


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
    import hashlib

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
