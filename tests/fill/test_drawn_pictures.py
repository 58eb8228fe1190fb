"""Drawn pictures: only where none is, marked, named safely, never over another file, nothing asked twice."""

import io
import os
from dataclasses import replace
from hashlib import sha256

import pandas as pd
import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.tables_for_people import read_people_csv
from mmpc_analysis.completion.backends import Answer
from mmpc_analysis.completion.models import ModelCard
from mmpc_analysis.fill.drawn_pictures import PICTURE_COLUMNS, fill_pictures, picture_gaps, picture_name
from mmpc_analysis.fill.picture_packets import read_packet

CARD = ModelCard("writer", "own", "mllm", None)
DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


class Writer:
    "Writes an image prompt about whatever it is asked, and remembers how often."

    identity, precision, batch_size = "writer-1", "float32", 8

    def __init__(self, bad=()):
        self.asked, self.bad = [], bad

    def ask(self, requests):
        answers = []
        for request in requests:
            text = str(request.conversation)
            self.asked.append(text)
            if any(word in text for word in self.bad):
                raise RuntimeError("cannot answer")
            answers.append(
                Answer(
                    request.key, f'{{"prompt": "A photo, {sha256(text.encode()).hexdigest()[:8]}"}}', "stop"
                )
            )
        return answers


class Brush:
    "Paints a square whose colour is a hash, and counts."

    def __init__(self, fails=False):
        self.drawn, self.fails = [], fails

    def __call__(self, prompts, seeds):
        if self.fails:
            raise RuntimeError("no paint")
        self.drawn += list(zip(prompts, seeds, strict=True))
        return [
            Image.new("RGB", (8, 8), tuple(sha256(f"{p}{s}".encode()).digest()[:3]))
            for p, s in zip(prompts, seeds, strict=True)
        ]


@pytest.fixture
def shop(tmp_path):
    "Seven products: with picture, without, without either, an address, a lost file, a variant of a shown listing, a formula."
    Image.new("RGB", (60, 60), "red").save(tmp_path / "kite.png")
    rows = [
        "sku,name,photo,category,parent_id",
        "kite,Kite,kite.png,Toys,k", "../../ball,Ball,,Toys,b", "bare,,,Toys,x",
        "far,Far lamp,https://shop.example/far.png,Toys,f", "gone,Gone lamp,gone.png,Toys,g",
        "kite-blue,Blue kite,,Toys,k", "=1+1,=2+3 Mug,,Toys,m",
    ]  # fmt: skip
    (tmp_path / "shop.csv").write_text("\n".join(rows))
    return load_catalogue(
        tmp_path / "shop.csv", columns={"image": "photo", "title": "name", "item_id": "sku"}
    )


def fill(shop, out, backend=None, brush=None, **more):
    how = {
        "backend": backend or Writer(),
        "draw_them": brush or Brush(),
        "progress": False,
        "drawing_device": "cpu",
    }
    return fill_pictures(shop, CARD, out=str(out), **(how | more))


def test_only_products_without_any_picture_get_one(shop):
    assert picture_gaps(shop)["item_id"].tolist() == ["../../ball", "=1+1"]


def test_a_product_without_title_or_with_a_picture_is_never_asked_about(shop, tmp_path):
    writer, brush = Writer(), Brush()
    done = fill(shop, tmp_path / "out", writer, brush)
    assert done.pictures["item_id"].tolist() == ["../../ball", "=1+1"] and len(brush.drawn) == 2
    asked = " ".join(writer.asked)
    assert "Ball" in asked and not any(word in asked for word in ("Kite", "kite", "lamp"))


def test_each_picture_lies_in_the_folder_and_says_what_it_is(shop, tmp_path):
    done = fill(shop, tmp_path / "out")
    files = sorted(os.listdir(tmp_path / "out" / "pictures"))
    assert files == sorted(os.path.basename(file) for file in done.pictures["file"]) and len(files) == 2
    for row in done.pictures.itertuples():
        data = (tmp_path / "out" / row.file).read_bytes()
        said = {
            node.tag.split("}")[1]: "".join(node.itertext()) for node in fromstring(read_packet(data)).iter()
        }
        assert (said["DigitalSourceType"], said["AISystemUsed"]) == (DRAWN, "standin-sd3")
        assert said["title"] == row.title
        with Image.open(io.BytesIO(data)) as image:
            colour = image.getpixel((0, 0))
        assert len(set(colour)) > 0 and image.size == (8, 8)


def test_no_unmarked_copy_is_left(shop, tmp_path):
    fill(shop, tmp_path / "out")
    pictures = list((tmp_path / "out").rglob("*.png"))
    assert len(pictures) == 4 and all(DRAWN.encode() in p.read_bytes() for p in pictures)


def test_the_table_is_for_people_and_runs_nothing(shop, tmp_path):
    done = fill(shop, tmp_path / "out")
    with open(done.file, encoding="utf-8", newline="") as file:
        text = file.read()
    assert "\n'=1+1,'=2+3 Mug," in text
    read = read_people_csv(text)
    assert read.columns.tolist() == PICTURE_COLUMNS and read["item_id"].tolist() == ["../../ball", "=1+1"]
    assert set(read["source"]) == {DRAWN} and set(read["model"]) == {"writer"}
    assert read["prompt"].tolist() == done.pictures["prompt"].tolist()


def test_nothing_is_asked_or_drawn_twice(shop, tmp_path):
    first = fill(shop, tmp_path / "out")
    writer, brush = Writer(), Brush()
    again = fill(shop, tmp_path / "out", writer, brush)
    assert (writer.asked, brush.drawn, again.kept) == ([], [], 0)
    pd.testing.assert_frame_equal(first.pictures, again.pictures)


def test_a_picture_that_a_person_put_there_stays(shop, tmp_path):
    done = fill(shop, tmp_path / "out")
    place = tmp_path / "out" / done.pictures["file"][0]
    place.write_bytes(b"a photograph")
    assert fill(shop, tmp_path / "out").kept == 1
    assert fill(shop, tmp_path / "out", seed=7).kept == 2
    assert place.read_bytes() == b"a photograph"


def test_a_link_in_the_way_is_not_followed(shop, tmp_path):
    name = picture_name("=1+1")
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "out" / "pictures" / name).symlink_to(tmp_path / "precious")
    assert fill(shop, tmp_path / "out").kept == 1
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_a_broken_link_in_the_way_is_left_alone(shop, tmp_path):
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "out" / "pictures" / picture_name("=1+1")).symlink_to(tmp_path / "nowhere")
    assert fill(shop, tmp_path / "out").kept == 1
    assert not (tmp_path / "nowhere").exists()


def test_failures_are_counted_with_their_reason_and_asked_again(shop, tmp_path):
    done = fill(shop, tmp_path / "out", Writer(bad=("Ball",)))
    assert done.pictures["item_id"].tolist() == ["=1+1"] and done.failed == 1
    assert done.lost["item_id"].tolist() == ["../../ball"] and "cannot answer" in done.lost["reason"][0]
    assert len(fill(shop, tmp_path / "out").pictures) == 2


def test_a_generator_that_fails_loses_no_prompt(shop, tmp_path):
    done = fill(shop, tmp_path / "out", brush=Brush(fails=True))
    assert (len(done.pictures), done.failed) == (0, 2)
    writer = Writer()
    assert len(fill(shop, tmp_path / "out", writer).pictures) == 2 and writer.asked == []


def test_a_shop_without_gaps_writes_nothing(shop, tmp_path):
    full = replace(shop, items=shop.items[shop.items["item_id"] == "kite"])
    done = fill(full, tmp_path / "out")
    assert (len(done.pictures), done.file, (tmp_path / "out").exists()) == (0, "", False)


@given(st.lists(st.text(max_size=60), unique=True, max_size=30))
def test_names_are_safe_and_different_for_every_system(names):
    files = [picture_name(name) for name in names]
    assert len({file.lower() for file in files}) == len(names)
    for file in files:
        assert file.isascii() and len(file) < 70 and file == os.path.basename(file) and file.lower() == file
        assert (
            not set(file) & set('<>:"/\\|?*% ') and not file.startswith((".", "-")) and file.endswith(".png")
        )
        assert file.split(".")[0] not in {"con", "nul", "aux", "prn"} and file.count(".") == 1


def test_long_identifiers_that_begin_alike_differ():
    assert picture_name("a" * 500) != picture_name("a" * 501)
    assert picture_name("A") != picture_name("a")


def test_a_table_of_somebody_else_is_not_overwritten_and_nobody_is_asked(shop, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/pictures.csv").write_text("my,notes\n1,2\n")
    writer = Writer()
    with pytest.raises(ValueError, match="was not written by a fill and would be overwritten"):
        fill(shop, tmp_path / "out", writer)
    assert (tmp_path / "out/pictures.csv").read_text() == "my,notes\n1,2\n" and writer.asked == []
