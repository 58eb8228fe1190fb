"""Pictures that are called nearly as their files are, and those that lie in the table."""

import hashlib
import io
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.picture_search import PictureFolder, find_images, find_picture, unpack_picture
from mmpc_analysis.catalogue.pictures import ImageError, image_path


def picture(path, colour="teal"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour).save(path)
    return path


def png(colour="teal", kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(file, kind)
    return file.getvalue()


@pytest.fixture
def shop(tmp_path):
    root = tmp_path / "shop"
    for name in (
        "photos/Été.JPG",
        "a b+c.png",
        "deep/down/mug.jpg",
        "100% wool.png",
        "sub dir/kite.png",
        "ﬁn.png",
    ):
        picture(root / name)
    picture(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    return root


def folder(root):
    return PictureFolder(str(root), find_images(str(root), True))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("photos/Été.JPG", "photos/Été.JPG"),
        ("photos/été.jpg", "photos/Été.JPG"),
        ("PHOTOS\\ÉTÉ.JPG", "photos/Été.JPG"),
        ("photos/%C3%89t%C3%A9.JPG", "photos/Été.JPG"),
        ("photos/E%CC%81te%CC%81.jpg", "photos/Été.JPG"),
        ("sub dir/../a b+c.png", "a b+c.png"),
        ("gone/../a b+c.png", "a b+c.png"),
        ("./a%20b+c.png", "a b+c.png"),
        ("/sub%20dir/kite.png", "sub dir/kite.png"),
        ("100% wool.png", "100% wool.png"),
        ("100%25%20wool.png", "100% wool.png"),
        ("mug.JPG", "deep/down/mug.jpg"),
        ("C:\\Users\\shop\\Mug.jpg", "deep/down/mug.jpg"),
    ],
)
def test_a_picture_named_otherwise_is_found(shop, named, found, form):
    path = find_picture(folder(shop), unicodedata.normalize(form, named))
    assert path == found and image_path(str(shop), path)


def test_the_other_way_round_and_by_the_folders_own_path(shop):
    picture(shop / unicodedata.normalize("NFD", "crème.png"))
    assert find_picture(folder(shop), "crème.png") == unicodedata.normalize("NFD", "crème.png")
    assert find_picture(folder(shop), f"{shop}/sub dir/kite.png") == "sub dir/kite.png"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("../secret.png", "leads out of the folder"), ("sub dir/../../secret.png", "leads out"), ("out/secret.png", "leads out"),
        ("OUT/Secret.png", "leads out"), ("link.png", "leads out"), ("LINK.png", "leads out"), ("%2e%2e/secret.png", "is not there"),
        ("..%5csecret.png", "is not there"), ("/etc/passwd", "is not there"), ("~/secret.png", "leads out"), ("photos/mug.jpg", "is not there"),
        ("", "is not there"), (".", "is not there"), ("sub dir", "is not there"), ("x\0.png", "cannot be a path"), ("%00", "is not there"),
        ("n" * 5000, "is longer than any path"), ("a/" * 3000 + "x", "is longer than any path"), ("\ud800.png", "cannot be a path"),
    ],
)  # fmt: skip
def test_what_is_not_there_or_outside_is_told(shop, named, said):
    with pytest.raises(ImageError, match=said):
        find_picture(folder(shop), named)


def test_one_of_several_is_never_guessed(shop):
    picture(shop / "Case.png")
    picture(shop / "CASE.png")
    assert find_picture(folder(shop), "Case.png") == "Case.png"
    with pytest.raises(ImageError, match=r"but CASE\.png and Case\.png are; write one of them"):
        find_picture(folder(shop), "case.png")
    picture(shop / "other" / "mug.jpg")
    with pytest.raises(ImageError, match=r"deep/down/mug\.jpg and other/mug\.jpg"):
        find_picture(folder(shop), "mug.jpg")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.sampled_from(["..", ".", "out", "OUT", "secret.png", "%2e%2e", "", "\\", "link.png", "x"])
    ).map("/".join)
)
def test_no_search_ever_leaves_the_root(shop, named):
    try:
        found = find_picture(folder(shop), named)
    except ImageError:
        return
    raise AssertionError(
        f"{named!r} was found as {found!r}, and every one of these leads out or is not there"
    )


def test_the_catalogue_counts_what_it_found_otherwise(tmp_path):
    picture(tmp_path / "photos" / "Été.JPG")
    picture(tmp_path / "x.jpg")
    (tmp_path / "items.csv").write_text(
        "id,title,image\na,A,photos/été.jpg\nb,B,sub dir/../x.jpg\nc,C,x.jpg\nd,D,y.jpg\n"
    )
    catalogue = load_catalogue(tmp_path / "items.csv")
    assert catalogue.items["image"].fillna("").tolist() == ["photos/Été.JPG", "x.jpg", "x.jpg", ""]
    assert catalogue.counts["pictures found under another spelling"] == 2
    assert catalogue.set_aside[["item_id", "column", "kept"]].values.tolist() == [["d", "image", True]]


# ---------------------------------------------------------------- which folders are searched


def test_folders_that_the_package_fills_are_not_searched(tmp_path):
    for name in ("a.png", "downloaded/ab/x.png", "unpacked/cd/y.png", "more/z.JPEG", ".b.png", "note.txt"):
        picture(tmp_path / name.replace("note.txt", "n.png"))
    left_out = (str(tmp_path / "downloaded"), str(tmp_path / "more" / ".." / "unpacked"))
    assert find_images(str(tmp_path), True, left_out) == ["a.png", "more/z.JPEG", "n.png"]


# ---------------------------------------------------------------- pictures in the table


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tif"), ("BMP", "bmp")],
)
def test_a_picture_is_stored_once_by_its_content(tmp_path, kind, ending):
    data = png(kind=kind)
    path = unpack_picture(str(tmp_path), data, "x")
    digest = hashlib.sha256(data).hexdigest()
    assert path == f"{digest[:2]}/{digest}.{ending}" and (tmp_path / path).read_bytes() == data
    before = (tmp_path / path).stat().st_mtime_ns
    assert unpack_picture(str(tmp_path), data, "y") == path and (tmp_path / path).stat().st_mtime_ns == before
    (tmp_path / path).write_bytes(b"half")
    assert (tmp_path / unpack_picture(str(tmp_path), data, "x")).read_bytes() == data


def test_a_telephones_picture_with_a_second_view_is_a_jpeg(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (6, 4))])
    assert unpack_picture(str(tmp_path), file.getvalue(), "x").endswith(".jpg")


@pytest.mark.parametrize("data", [b"<svg/>", b"%!PS-Adobe", b"", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_picture_are_never_written(tmp_path, data):
    with pytest.raises(ImageError, match=r"cannot be read as|is empty"):
        unpack_picture(str(tmp_path / "new"), data, "row 3")
    assert not (tmp_path / "new").exists()
