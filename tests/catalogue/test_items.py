"""Catalogues from strangers: hostile names, damaged pictures, odd files, and purchases that were planted."""

import contextlib
import gzip
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import stats

from mmpc_analysis.catalogue import listings, pictures
from mmpc_analysis.catalogue.items import changed_files, contact_sheet, embedded_folder, load_catalogue
from mmpc_analysis.catalogue.listings import AMAZON, cell_text, map_columns, read_listings, split_lines
from mmpc_analysis.catalogue.pictures import (
    ImageError,
    image_path,
    image_size,
    open_image,
    open_stored_image,
)
from mmpc_analysis.catalogue.purchases import (
    PreferenceModel,
    _probabilities,
    _shelf,
    simulate_interactions,
    user_preference,
)
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


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "image",
    [
        "../x.png", "a/../../x.png", "/etc/passwd", "~/x.png", "..\\x.png", "a\\..\\..\\x.png", "..", ".", "", "/",
        "C:\\x.png", "file:///etc/passwd", "http://127.0.0.1/x.png", "data:image/png;base64,AAAA", "s3://b/x.png",
        "x\0.png", "\ud800.png", "n" * 5000, "a/" * 3000 + "x.png", "\u202egnp.x", "inside", "link.png", "tunnel/x.png",
    ],
)  # fmt: skip
def test_hostile_paths_are_refused(tmp_path, image):
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    picture(tmp_path / "x.png")
    (root / "link.png").symlink_to(tmp_path / "x.png")
    (root / "tunnel").symlink_to(tmp_path)
    for function in (image_path, image_size, open_image, open_stored_image):
        with pytest.raises(ImageError, match=r"; |cannot be a path"):
            function(str(root), image)


def test_a_root_beside_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "root").mkdir()
    picture(tmp_path / "root-private" / "x.png")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root-private")
    with pytest.raises(ImageError, match="leads out"):
        image_path(str(tmp_path / "root"), "link/x.png")


def test_links_inside_and_a_linked_root_are_fine(tmp_path):
    picture(tmp_path / "real" / "x.png")
    (tmp_path / "real" / "y.png").symlink_to("x.png")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert open_image(str(tmp_path / "root"), "y.png").size == (6, 4)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is not there"):
        open_image(str(tmp_path), "pipe.png")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.lists(st.sampled_from(["..", ".", "a", "", "\\", "~"])).map("/".join))
)
def test_no_path_ever_leaves_the_root(tmp_path, image):
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (tmp_path / "a").touch()
    try:
        found = image_path(str(root), image)
    except ImageError:
        return
    assert Path(found).is_relative_to(root)


# ---------------------------------------------------------------- pixels


def pixels(root, image):
    return np.asarray(open_image(str(root), image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(tmp_path, orientation):
    upright = Image.new("RGB", (48, 32), "white")
    ImageDraw.Draw(upright).rectangle((0, 0, 23, 15), fill=(255, 0, 0))
    ImageDraw.Draw(upright).rectangle((24, 16, 47, 31), fill=(0, 0, 255))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path, "a.png"), np.asarray(upright))


def test_alpha_is_laid_on_white_in_every_form(tmp_path):
    picture(tmp_path / "rgba.png", colour=(255, 0, 0, 0), mode="RGBA")
    picture(tmp_path / "la.png", colour=(0, 51), mode="LA")
    palette = Image.new("P", (6, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "opaque.png")
    palette.save(tmp_path / "clear.png", transparency=1)
    palette.save(tmp_path / "clear.gif", transparency=1)
    picture(tmp_path / "keyed.png", colour=(9, 9, 9), transparency=(9, 9, 9))
    for image, colour in {
        "rgba.png": (255, 255, 255), "la.png": (204, 204, 204), "opaque.png": (10, 20, 30),
        "clear.png": (255, 255, 255), "clear.gif": (255, 255, 255), "keyed.png": (255, 255, 255),
    }.items():  # fmt: skip
        assert tuple(pixels(tmp_path, image)[0, 0]) == colour, image


def test_other_modes_become_rgb(tmp_path):
    picture(tmp_path / "cmyk.jpg", colour=(0, 255, 255, 0), mode="CMYK", quality=95)
    picture(tmp_path / "grey.png", colour=77, mode="L")
    picture(tmp_path / "one.png", colour=1, mode="1")
    Image.fromarray(np.full((4, 6), 257 * 60, dtype="uint16")).save(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 6), 257 * 60, dtype="uint16")).save(tmp_path / "deep.tif")
    red = pixels(tmp_path, "cmyk.jpg")[0, 0].astype(int)
    assert red[0] > 230 and red[1] < 30 and red[2] < 30
    for image, value in {"grey.png": 77, "one.png": 255, "deep.png": 60, "deep.tif": 60}.items():
        assert tuple(pixels(tmp_path, image)[0, 0]) == (value,) * 3, image


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert tuple(pixels(tmp_path, "a.gif")[0, 0]) == (255, 0, 0)


def test_a_picture_as_stored_is_upright_whole_and_in_its_own_mode(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "turned.png", size=(6, 4), colour=(9, 8, 7, 0), mode="RGBA", exif=exif)
    found = open_stored_image(str(tmp_path), "turned.png")
    (tmp_path / "turned.png").unlink()  # It needs its file no more
    assert found.mode == "RGBA" and found.size == (4, 6) and found.getpixel((0, 0)) == (9, 8, 7, 0)


def test_floating_point_pixels_are_refused(tmp_path):
    picture(tmp_path / "f.tif", colour=0.5, mode="F")
    with pytest.raises(ImageError, match="without a known range"):
        open_image(str(tmp_path), "f.tif")


def bomb(path, width, height):
    "A PNG whose header claims any size, with hardly any data."
    chunk = lambda kind, data: (  # noqa: E731
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, 10_000), (100_000, 100_000), (1, 89_478_486)])
def test_bombs_are_refused_by_their_header(tmp_path, size):
    bomb(tmp_path / "bomb.png", *size)
    with pytest.raises(ImageError, match="over 89,478,485 pixels; make it smaller"):
        image_size(str(tmp_path), "bomb.png")
    with pytest.raises(ImageError, match="over 89,478,485 pixels"):
        open_image(str(tmp_path), "bomb.png")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.jpg", b""),
        ("html.jpg", b"<html><body>404</body></html>"),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("vector.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("noise.webp", bytes(range(256)) * 4),
    ],
)
def test_what_is_no_picture_is_refused_by_its_header(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=r"is empty|cannot be read as JPEG"):
        image_size(str(tmp_path), name)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif"])
def test_a_file_cut_off_anywhere_is_a_picture_error_or_a_picture(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    refused = 0
    for cut in np.linspace(0, len(data) - 1, 40).astype(int):
        (tmp_path / f"cut.{suffix}").write_bytes(data[:cut])
        try:
            assert open_image(str(tmp_path), f"cut.{suffix}").mode == "RGB"
        except ImageError:
            refused += 1
    assert refused >= 35


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_flipped_bytes_never_raise_anything_else(tmp_path, data):
    suffix = data.draw(st.sampled_from(["png", "jpg", "webp", "gif", "bmp", "tif"]))
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if suffix in ("png", "jpg", "webp", "tif") else {}
    picture(path, size=(9, 7), **options)
    raw = bytearray(path.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)
    ):
        raw[place] = value
    path.write_bytes(bytes(raw))
    with contextlib.suppress(ImageError):
        assert open_image(str(tmp_path), path.name).mode == "RGB"


# ---------------------------------------------------------------- columns and cells


def test_columns_are_recognised_by_common_names():
    assert map_columns(["ASIN", "Product-Title", "Image URL", "Department", "Price"]) == {
        "item_id": "ASIN", "title": "Product-Title", "image": "Image URL", "category": "Department",
    }  # fmt: skip
    assert map_columns(["id", "name"], {"title": "id"}) == {"title": "id"}


def test_a_column_serves_once_unless_the_user_says_otherwise():
    assert map_columns(["file"], {"item_id": "file", "image": "file"}) == {"item_id": "file", "image": "file"}
    assert map_columns(["file"], {"item_id": "file"}) == {"item_id": "file"}


@given(
    st.one_of(
        st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text()), st.booleans(), st.binary()
    )
)
def test_a_cell_is_text_that_utf8_can_store_or_refused(value):
    try:
        text = cell_text(value, ", ")
    except ValueError:
        return
    assert text is None or (text == text.strip() and text and text.encode())


def test_ids_and_titles_stay_the_text_they_are(tmp_path):
    path = write(tmp_path, "id,title\n007,None\n0008,NA\n9e5,null\n1.0,nan\ntrue,N/A\n")
    items = load_catalogue(path).items
    assert dict(zip(items["item_id"], items["title"], strict=True)) == {
        "007": "None", "0008": "NA", "9e5": "null", "1.0": "nan", "true": "N/A",
    }  # fmt: skip


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("encoding", "noted"), [("utf-8", False), ("utf-8-sig", False), ("utf-16", False), ("cp1252", True)]
)
def test_encodings(tmp_path, encoding, noted):
    catalogue = load_catalogue(
        write(tmp_path, "sku;titel\nä1;Flöte\n", encoding=encoding), columns={"title": "titel"}
    )
    assert catalogue.items["title"].tolist() == ["Flöte"]
    assert ("Windows-1252" in catalogue.note) is noted


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(tmp_path, separator, newline):
    rows = [["sku", "name", "brand"], ["1", '"a, b; c"', "x"], ["2", "d", ""]]
    path = write(tmp_path, newline.join(separator.join(row) for row in rows))
    items = load_catalogue(path).items
    assert items["title"].tolist() == ["a, b; c", "d"]
    assert items["brand"].isna().tolist() == [False, True]


def test_a_tsv_is_split_by_tabs_whatever_its_header_holds(tmp_path):
    path = write(tmp_path, "id\ttitle, in full, as sold\n1\tKite\n", "items.tsv")
    assert load_catalogue(path, columns={"title": "title, in full, as sold"}).items["title"].tolist() == [
        "Kite"
    ]


def test_an_unclosed_quote_costs_one_line(tmp_path):
    lines = ["id,title"] + [f"{i},Title {i}" for i in range(500)]
    lines[201] = '200,"Title 200'
    catalogue = load_catalogue(write(tmp_path, "\n".join(lines)))
    assert len(catalogue.items) == 499
    assert catalogue.set_aside["row"].tolist() == [202]
    assert catalogue.set_aside["kept"].tolist() == [False]


def test_a_table_aligned_with_blanks_is_read():
    lines = [
        'sku  ,"name"  , brand \r\n',
        '1    ,"a, b"  , x\r\n',
        '2    ,"c"     ,"y" \r\n',
        '3,"d" e,z\r\n',
        '4 , "f", g',
    ]
    found = dict(split_lines(lines, ","))
    assert [cell.strip() for cell in found[1]] == ["sku", "name", "brand"]
    assert [cell.strip() for cell in found[2]] == ["1", "a, b", "x"]
    assert [cell.strip() for cell in found[3]] == ["2", "c", "y"]
    assert "cannot be split" in found[4] and found[5] == ["4 ", "f", "g"]


def test_a_file_of_nothing_but_trouble_is_read_in_time(tmp_path):
    import time

    lines = ["id,title"] + ['1,"a" b', "2,a,b"] * 30_000
    start = time.perf_counter()
    assert sum(isinstance(cells, str) for _, cells in split_lines(lines, ",")) == 60_000
    assert time.perf_counter() - start < 10


def test_lines_over_lines_and_wrong_widths():
    lines = [
        "id,title\n",
        '1,"two\n',
        'lines"\n',
        "\n",
        "2,a,b\n",
        "3\n",
        '4,"say ""hi"""\n',
        '5,"x"y\n',
        "6,z\n",
    ]
    found = dict(split_lines(lines, ","))
    assert found[2] == ["1", "two\nlines"]
    assert found[5] == "has 3 cells, the header has 2"
    assert found[6] == "has 1 cells, the header has 2"
    assert found[7] == ["4", 'say "hi"']
    assert found[8].startswith("cannot be split")
    assert found[9] == ["6", "z"]
    assert set(found) == {1, 2, 5, 6, 7, 8, 9}


@settings(deadline=None)
@given(st.lists(st.text(alphabet='a,"\n\r;é', max_size=12), min_size=1, max_size=30))
def test_every_line_is_a_record_a_complaint_or_blank(texts):
    import io

    lines = list(io.StringIO("h,i\n" + "\n".join(texts), newline=""))
    seen = [line for line, _ in split_lines(lines, ",")]
    assert seen == sorted(set(seen))
    covered, at = set(), 0
    for line, cells in split_lines(lines, ","):
        height = (
            1
            if isinstance(cells, str)
            else 1
            + sum(c.replace("\r\n", "\n").count("\n") + c.replace("\r\n", "").count("\r") for c in cells)
        )
        covered |= set(range(line, line + height))
        at = line
    assert at <= len(lines)
    assert all(not lines[n - 1].strip("\r\n") for n in set(range(1, len(lines) + 1)) - covered)


def test_json_lines_say_what_is_wrong_with_each_line(tmp_path):
    rows = [
        '{"sku": 7, "name": "Seven", "tags": ["red", "soft"]}',
        "{broken",
        "[1, 2]",
        '"text"',
        "",
        '{"sku": "b", "name": ["a", "list"], "image": null}',
        '{"sku": "c", "name": "half \\ud83d"}',
        '{"sku": {"x": 1}, "name": "n"}',
        '{"sku": "d", "name": NaN}',
        "[" * 100_000,
        '{"sku": "e", "name": 1984, "price": 3}',
    ]
    catalogue = load_catalogue(write(tmp_path, "\n".join(rows), "items.jsonl"))
    assert catalogue.items["item_id"].tolist() == ["7", "e"]
    assert catalogue.items["keywords"].tolist()[0] == "red, soft"
    assert catalogue.items["title"].tolist() == ["Seven", "1984"]
    aside = catalogue.set_aside.set_index("row")
    assert aside.index.tolist() == [2, 3, 4, 6, 7, 8, 9, 10]
    assert aside["reason"].str.len().gt(0).all() and aside["remedy"].str.len().gt(0).all()
    assert "expected an object" in aside.loc[4, "reason"]
    assert aside.loc[6, "column"] == "title" and "is a list" in aside.loc[6, "reason"]
    assert not aside["kept"].any()


def test_gzip_and_a_damaged_gzip(tmp_path):
    text = "".join(json.dumps({"id": str(i), "title": f"T{i}"}) + "\n" for i in range(5000)).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    assert len(load_catalogue(tmp_path / "a.jsonl.gz").items) == 5000
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text)[:-2000])
    with pytest.raises(ValueError, match="copy it again"):
        load_catalogue(tmp_path / "b.jsonl.gz")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"id,title\n1,a\n"))
    assert len(load_catalogue(tmp_path / "c.csv.gz").items) == 1
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(text)[:-2000])
    with pytest.raises(ValueError, match="copy it again"):
        load_catalogue(tmp_path / "d.csv.gz")


def test_parquet_keeps_ids_and_reads_lists(tmp_path):
    frame = pd.DataFrame(
        {"sku": [7, 8], "title": ["a", None], "features": [["x", "y"], []], "photo": [None, "p.png"]}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    picture(tmp_path / "p.png")
    items = load_catalogue(tmp_path / "a.parquet").items
    assert items["item_id"].tolist() == ["7", "8"]
    assert items["keywords"].tolist()[0] == "x, y" and items["keywords"].isna()[1]
    assert items["image"].tolist()[1] == "p.png"
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-50])
    with pytest.raises(ValueError):
        load_catalogue(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no header"),
        ("a,a\n1,2\n", "column 'a' twice"),
        ("price\n3\n", "no column can be the item_id"),
    ],
)
def test_a_file_without_a_sense_says_so(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        load_catalogue(write(tmp_path, text))


def test_a_frame_with_a_column_twice_says_so():
    with pytest.raises(ValueError, match="a column twice among id, title, title"):
        load_catalogue(pd.DataFrame([["1", "a", "b"]], columns=["id", "title", "title"]))


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
    catalogue = load_catalogue(tmp_path / "meta_All_Beauty.jsonl", columns=AMAZON, category="All_Beauty")
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
    _, rows, _ = read_listings(tmp_path / "a.parquet", AMAZON)
    assert next(rows)[1]["image"] == "https://images.example/l.jpg"


def test_other_kinds_of_source_are_refused(tmp_path):
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match=r"must end in \.csv"):
        load_catalogue(tmp_path / "a.xlsx")
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


# ---------------------------------------------------------------- simulated purchases


def shelf(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "item_id": [f"i{k:03d}" for k in range(n)],
            "category": rng.choice(list("ABC"), n),
            "parent_id": rng.choice([None, *"pqrstuv"], n),
            "brand": rng.choice(["x", "y", None], n),
        }
    )


def planted(items, users, seed, preferences):
    "Probabilities of the first purchase, per user."
    ids, traits, popularity = _shelf(items, seed)
    rng = lambda user: np.random.default_rng([seed, user])  # noqa: E731
    return {
        u: pd.Series(_probabilities(traits, popularity, rng(u), preferences), index=ids) for u in range(users)
    }


def test_user_preference_is_what_the_simulation_uses():
    items = shelf()
    assert user_preference(items, 3, seed=5).equals(
        planted(items, 4, 5, PreferenceModel())[3].rename("probability")
    )


def test_purchases_do_not_depend_on_row_order_or_on_further_users():
    items = shelf()
    base = simulate_interactions(items, users=50, seed=4)
    mixed = items.sample(frac=1, random_state=1)
    assert base.equals(simulate_interactions(mixed, users=50, seed=4))
    more = simulate_interactions(items, users=80, seed=4)
    assert base.equals(more[more["user_id"].isin(base["user_id"])].reset_index(drop=True))
    assert not base.equals(simulate_interactions(items, users=50, seed=5))


def test_purchases_are_marked_sorted_and_unique(tmp_path):
    bought = simulate_interactions(shelf(), users=100, seed=2)
    assert bought.attrs["simulated"] is True and bought["simulated"].all()
    assert not bought.duplicated(["user_id", "item_id"]).any()
    assert (bought.groupby("user_id")["timestamp"].diff().dropna() > 0).all()
    assert bought.groupby("user_id").size().min() >= 5
    bought.to_parquet(tmp_path / "b.parquet")
    assert pd.read_parquet(tmp_path / "b.parquet")["simulated"].all()
    assert simulate_interactions(shelf(3), users=4).groupby("user_id").size().tolist() == [3, 3, 3, 3]


def test_first_purchases_follow_the_planted_probabilities():
    items, users = shelf(), 3000
    bought = simulate_interactions(items, users=users, seed=11)
    first = bought.groupby("user_id")["item_id"].first()
    expected = sum(planted(items, users, 11, PreferenceModel()).values())
    observed = first.value_counts().reindex(expected.index, fill_value=0)
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    flat = expected.sum() / len(expected)
    assert stats.chisquare(observed, np.full(len(expected), flat)).pvalue < 1e-6


@pytest.mark.parametrize(
    ("trait", "weight", "others"),
    [("category_weight", 1.5, (0.75, 2.5)), ("concept_weight", 1.0, (0.3, 2.0)), ("designer_weight", 0.8, (0.0, 1.8)), ("popularity_share", 0.3, (0.1, 0.6))],
)  # fmt: skip
def test_the_planted_weights_are_the_likeliest(trait, weight, others):
    items, users = shelf(), 1500
    truth = PreferenceModel(**{"designer_weight": 0.8, trait: weight})
    first = (
        simulate_interactions(items, users=users, seed=7, preferences=truth)
        .groupby("user_id")["item_id"]
        .first()
    )

    def likelihood(value):
        chances = planted(items, users, 7, PreferenceModel(**{"designer_weight": 0.8, trait: value}))
        return sum(np.log(chances[user][item]) for user, item in enumerate(first))

    best = likelihood(weight)
    assert all(best > likelihood(value) + 2 for value in others)


def test_items_without_concept_or_designer_still_sell():
    items = shelf().assign(parent_id=None, brand=None)
    assert len(simulate_interactions(items, users=10)) >= 50


def test_names_list_is_in_step_with_the_items_table():
    assert list(listings.COLUMN_NAMES)[:2] == ["item_id", "title"]
    assert set(listings.COLUMN_NAMES) == set(ITEMS.names)
    assert pictures.MAX_PIXELS == Image.MAX_IMAGE_PIXELS
