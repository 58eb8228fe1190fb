"""Which items are completed: a limit counts what can be hidden, pictures are fetched and decoded, nothing is lost."""

import os
from dataclasses import replace

import pandas as pd
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis import tables
from mmpc_analysis.catalogue.items import SET_ASIDE, Catalogue
from mmpc_analysis.catalogue.pictures import ImageError
from mmpc_analysis.study.choices import CatalogueChoice, Study
from mmpc_analysis.study.selection import (
    addresses_line,
    choose_items,
    item_addresses,
    select_items,
    undecodable_images,
)
from mmpc_analysis.study.study_inputs import prepare_inputs

MINE = CatalogueChoice(source="shop.csv")


def items_of(rows):
    frame = pd.DataFrame(rows, columns=["item_id", "title", "image"]).assign(category="Toys")
    return tables.validate(frame, tables.ITEMS)


def shop_of(rows, root, addresses=()):
    pictures = pd.DataFrame(addresses, columns=tables.PICTURES.names)
    return Catalogue(
        "shop", items_of(rows), str(root), pd.DataFrame(columns=SET_ASIDE), "", pictures=pictures
    )


def picture(path, colour="red", size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, colour).save(path)


def never(addresses):
    raise AssertionError(f"asked for {addresses}")


class Fetcher:
    "Stores every address whose path begins with good, fails the rest, and remembers what it was asked."

    def __init__(self, folder):
        self.folder, self.asked = folder, []

    def __call__(self, addresses):
        self.asked.append(list(addresses))
        rows = []
        for address in addresses:
            name = address.rsplit("/", 1)[1]
            if name.startswith("good"):
                picture(self.folder / f"aa/{name}.png")
                rows.append((address, "stored", f"aa/{name}.png", None, 1.0, 200.0, None))
            elif name.startswith("cut"):
                (self.folder / "aa").mkdir(parents=True, exist_ok=True)
                (self.folder / f"aa/{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
                rows.append((address, "stored", f"aa/{name}.png", None, 1.0, 200.0, None))
            else:
                outcome = "refused" if name.startswith("bad") else "failed"
                rows.append((address, outcome, None, None, None, 404.0, "answered 404"))
        return pd.DataFrame(rows, columns=tables.DOWNLOADS.names)


# ---------------------------------------------------------------- a limit


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_a_limit_counts_items_that_have_both_and_grows_without_a_change(kinds, limit, seed):
    rows = [(f"i{n}", "Kite" if t else None, "a.jpg" if p else None) for n, (t, p) in enumerate(kinds)]
    items, whole = items_of(rows), {f"i{n}" for n, (t, p) in enumerate(kinds) if t and p}
    few, more = (
        set(select_items(items, replace(MINE, limit=n), seed)["item_id"]) for n in (limit, limit + 1)
    )
    assert few <= more <= whole
    assert (len(few), len(more)) == (min(limit, len(whole)), min(limit + 1, len(whole)))
    assert select_items(items, MINE, seed)["item_id"].tolist() == items["item_id"].tolist()


def test_a_limit_does_not_depend_on_the_order_of_rows_nor_on_items_with_a_gap():
    rows = [(f"i{n}", "Kite", "a.jpg") for n in range(20)]
    gaps = [(f"g{n}", None, "a.jpg") for n in range(20)]
    choice = replace(MINE, limit=7)
    once = set(select_items(items_of(rows), choice)["item_id"])
    assert set(select_items(items_of([*gaps, *rows[::-1]]), choice)["item_id"]) == once


# ---------------------------------------------------------------- pictures


def test_what_does_not_decode_is_set_aside_and_another_takes_its_place(tmp_path):
    picture(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:50])
    rows = [(f"i{n}", "Kite", "cut.png" if n % 3 == 0 else "good.png") for n in range(12)]
    choice = replace(MINE, limit=6)
    chosen = choose_items(shop_of(rows, tmp_path), choice, str(tmp_path / "downloaded"), never)
    selected = select_items(chosen.items, choice)
    assert len(selected) == 6 and set(selected["image"]) == {"good.png"}
    assert set(chosen.set_aside["item_id"]) <= {"i0", "i3", "i6", "i9"} and len(chosen.items) == 12
    assert chosen.set_aside["kept"].all() and (chosen.set_aside["column"] == "image").all()
    assert chosen.items.set_index("item_id")["image"][chosen.set_aside["item_id"]].isna().all()


def test_without_a_limit_all_are_looked_at_and_what_has_nothing_else_goes(tmp_path):
    picture(tmp_path / "good.png")
    rows = [
        ("a", "Kite", "good.png"),
        ("b", None, "lost.png"),
        ("c", "Ball", "lost.png"),
        ("d", None, "good.png"),
    ]
    chosen = choose_items(shop_of(rows, tmp_path), MINE, str(tmp_path / "downloaded"), never)
    assert chosen.items["item_id"].tolist() == ["a", "c", "d"]
    assert chosen.set_aside.set_index("item_id")["kept"].to_dict() == {"b": False, "c": True}


def test_a_picture_is_decoded_once_until_its_file_changes(tmp_path, monkeypatch):
    from mmpc_analysis.study import selection

    picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    looked, plain = [], selection.open_image
    monkeypatch.setattr(
        selection, "open_image", lambda root, image: (looked.append(image), plain(root, image))
    )
    for _ in range(2):
        assert undecodable_images(str(tmp_path), ["a.png", "b.png"], str(tmp_path / "run")) == {}
    assert sorted(looked) == ["a.png", "b.png"]
    (tmp_path / "a.png").write_bytes(b"no picture at all")
    assert list(undecodable_images(str(tmp_path), ["a.png", "b.png"], str(tmp_path / "run"))) == ["a.png"]
    assert sorted(looked) == ["a.png", "a.png", "b.png"]


def test_what_was_not_sound_is_looked_at_again(tmp_path, monkeypatch):
    "A plugin that was installed, or leave to read, changes nothing in the file."
    from mmpc_analysis.study import selection

    picture(tmp_path / "a.png")
    plain, able = selection.open_image, []

    def no_codec(root, image):
        if not able:
            raise ImageError(f"{image!r} cannot be decoded; install a codec")
        return plain(root, image)

    monkeypatch.setattr(selection, "open_image", no_codec)
    found = undecodable_images(str(tmp_path), ["a.png"], str(tmp_path / "run"))
    assert found == {"a.png": "'a.png' cannot be decoded; install a codec"}
    able.append(True)
    assert undecodable_images(str(tmp_path), ["a.png"], str(tmp_path / "run")) == {}


def test_a_file_that_changes_within_its_size_and_time_is_looked_at_again(tmp_path):
    picture(tmp_path / "a.png")
    facts, run = os.stat(tmp_path / "a.png"), str(tmp_path / "run")
    assert undecodable_images(str(tmp_path), ["a.png"], run) == {}
    (tmp_path / "a.png").write_bytes(b"x" * facts.st_size)
    os.utime(tmp_path / "a.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert list(undecodable_images(str(tmp_path), ["a.png"], run)) == ["a.png"]


def test_good_headers_are_not_good_pictures(tmp_path):
    picture(tmp_path / "whole.png")
    for name in ("cut.png", "cut.jpg"):
        PIL.Image.effect_noise((40, 40), 90).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:700])
    PIL.Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tif")
    names = ["float.tif", "whole.png", "cut.jpg", "cut.png"]
    found = undecodable_images(str(tmp_path), names)
    assert list(found) == ["float.tif", "cut.jpg", "cut.png"]
    assert all("cannot be decoded" in reason for reason in found.values())
    rows = [("a", "A", "whole.png"), ("b", "B", "cut.png"), ("c", None, "cut.jpg")]
    chosen = choose_items(shop_of(rows, tmp_path), MINE, str(tmp_path / "downloaded"), never)
    assert set(chosen.set_aside["remedy"]) == {"save it again"}  # Said once, not in the reason too
    assert not chosen.set_aside["reason"].str.contains("save it again").any()


# ---------------------------------------------------------------- addresses


def address(kind, n=0):
    return f"https://shop.example/{kind}{n}"


def test_nothing_is_fetched_unasked(tmp_path):
    rows, where = (
        [("a", "Kite", None), ("b", "Ball", None)],
        [("a", 1, address("good")), ("b", 1, address("bad"))],
    )
    shop = shop_of(rows, tmp_path, where)
    chosen = choose_items(shop, MINE, str(tmp_path / "downloaded"), never)
    assert chosen.items["image"].isna().all() and chosen.set_aside.empty
    line = addresses_line(chosen, MINE)
    assert (
        line.startswith("2 pictures are addresses; mmpc fetch-pictures shop.csv")
        and "download = true" in line
    )
    assert addresses_line(chosen, replace(MINE, download=True)) == ""


def test_only_pictures_of_items_that_are_kept_are_fetched(tmp_path):
    rows = [(f"i{n}", "Kite", None) for n in range(30)]
    where = [(f"i{n}", 1, address("good" if n % 2 else "miss", n)) for n in range(30)]
    fetch, choice = Fetcher(tmp_path / "down"), replace(MINE, download=True, limit=5)
    chosen = choose_items(shop_of(rows, tmp_path, where), choice, str(tmp_path / "down"), fetch)
    selected = select_items(chosen.items, choice)
    assert len(selected) == 5 and chosen.items["image"].notna().sum() == 5
    asked = [one for part in fetch.asked for one in part]
    assert len(asked) == len(set(asked)) == 5 + len(chosen.set_aside) < 30
    assert chosen.root == str(tmp_path / "down")
    fewer = choose_items(
        shop_of(rows, tmp_path, where), replace(choice, limit=3), str(tmp_path / "down"), fetch
    )
    assert set(select_items(fewer.items, replace(choice, limit=3))["item_id"]) < set(selected["item_id"])


def test_the_first_picture_counts_and_one_address_is_asked_once(tmp_path):
    rows = [("a", "Kite", None), ("b", "Ball", None)]
    where = [("a", 2, address("other")), ("a", 1, address("good")), ("b", 1, address("good"))]
    shop, fetch = shop_of(rows, tmp_path, where), Fetcher(tmp_path / "down")
    assert item_addresses(shop).to_dict() == {"a": address("good"), "b": address("good")}
    choose_items(shop, replace(MINE, download=True), str(tmp_path / "down"), fetch)
    assert fetch.asked == [[address("good")]]


def test_a_fetched_picture_that_does_not_decode_is_told_as_such(tmp_path):
    rows, where = (
        [("a", "Kite", None), ("b", "Ball", None)],
        [("a", 1, address("cut")), ("b", 1, address("bad"))],
    )
    chosen = choose_items(
        shop_of(rows, tmp_path, where),
        replace(MINE, download=True),
        str(tmp_path / "down"),
        Fetcher(tmp_path / "down"),
    )
    advice = chosen.set_aside.set_index("item_id")
    assert "answered 404" in advice["reason"]["b"] and advice["remedy"]["b"] == "mend the address"
    assert "404" not in advice["reason"]["a"] and advice["remedy"]["a"] == "save it again"


def test_downloads_beside_pictures_of_ones_own_lie_inside_their_folder(tmp_path):
    picture(tmp_path / "own.png")
    rows, where = [("a", "Kite", "own.png"), ("b", "Ball", None)], [("b", 1, address("good"))]
    choice = replace(MINE, download=True)
    inside = tmp_path / "more" / "down"
    chosen = choose_items(shop_of(rows, tmp_path, where), choice, str(inside), Fetcher(inside))
    assert chosen.root == str(tmp_path) and chosen.items["image"].tolist() == [
        "own.png",
        "more/down/aa/good0.png",
    ]
    with pytest.raises(
        ValueError, match=r"catalogue\.downloads must lie inside the folder of the other pictures"
    ):
        choose_items(shop_of(rows, tmp_path / "more", where), choice, str(tmp_path / "else"), never)


def test_a_word_about_a_picture_that_is_there_by_now_is_taken_back(tmp_path):
    shop = shop_of([("a", "Kite", None), ("b", "Ball", None)], tmp_path, [("a", 1, address("good"))])
    aside = [
        (1, "a", "image", "is an address", "fetch it", True),
        (2, "b", "image", "is a tiff", "save it", True),
    ]
    shop = replace(shop, set_aside=pd.DataFrame(aside, columns=SET_ASIDE))
    chosen = choose_items(
        shop, replace(MINE, download=True), str(tmp_path / "down"), Fetcher(tmp_path / "down")
    )
    assert chosen.set_aside["item_id"].tolist() == ["b"]


def test_a_catalogue_of_addresses_counts_all_its_items_where_a_limit_leaves_none(tmp_path):
    rows = [f"{k},{'' if k < 16 else 'Mug'},https://shop.example/{k}.jpg" for k in range(20)]
    (tmp_path / "shop.csv").write_text("\n".join(["id,title,image", *rows]))
    study = Study(catalogue=CatalogueChoice(source=str(tmp_path / "shop.csv"), limit=6))
    with pytest.raises(
        ValueError, match="of 20 items 4 have a title, 0 a picture and none both; 20 pictures are addresses"
    ):
        prepare_inputs(study, str(tmp_path / "out"))
