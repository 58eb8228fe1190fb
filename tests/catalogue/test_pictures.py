"""Pictures from strangers: hostile paths, damaged files, and every form that a pixel can have."""

import contextlib
import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mmpc_analysis.catalogue.pictures import (
    ImageError,
    decode_pixels,
    image_path,
    image_size,
    open_image,
    open_stored_image,
    read_image_file,
    read_images,
)
from mmpc_analysis.store import write_bytes


def picture(path, size=(6, 4), colour=(200, 30, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
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


# ---------------------------------------------------------------- folders that are on no disk


@pytest.mark.parametrize("root", ["memory://{}/run", "file://{}", "{}/run [v1]* é", "file://{}/a b [c]"])
def test_a_picture_is_the_same_in_every_kind_of_folder(tmp_path, root):
    root = root.format(tmp_path)
    data = picture(tmp_path / "plain" / "x.png", mode="RGBA", colour=(1, 200, 30, 90)).read_bytes()
    write_bytes(f"{root}/pictures/x.png", data)
    plain = str(tmp_path / "plain")
    assert image_size(root, "pictures/x.png") == (6, 4)
    assert read_image_file(root, "pictures\\x.png") == (data, (6, 4))
    assert open_image(root, "pictures/x.png").tobytes() == open_image(plain, "x.png").tobytes()
    assert open_stored_image(root, "pictures/x.png").mode == "RGBA"
    stacks, why = read_images(root, ["pictures/x.png", "pictures/y.png", None], (8,))
    assert why == [
        None,
        "'pictures/y.png' is not there; add the picture or leave its cell empty",
        "there is no picture",
    ]
    assert stacks[8][0].tobytes() == read_images(plain, ["x.png"], (8,))[0][8][0].tobytes()


@pytest.mark.parametrize(
    "image",
    ["../x.png", "a/../../x.png", "/secret/x.png", "~/x.png", "..\\x.png", "..", ".", "", "/", "memory://secret/x.png",
     "file:///etc/passwd", "x\0.png", "\ud800.png", "inside", "none.png"],
)  # fmt: skip
def test_hostile_paths_are_refused_in_a_bucket_too(tmp_path, image):
    root = f"memory://{tmp_path.name}/root"
    write_bytes(f"memory://{tmp_path.name}/x.png", picture(tmp_path / "x.png").read_bytes())
    write_bytes("memory://secret/x.png", (tmp_path / "x.png").read_bytes())
    write_bytes(f"{root}/inside/y.png", (tmp_path / "x.png").read_bytes())
    for function in (image_path, image_size, open_image, open_stored_image, read_image_file):
        with pytest.raises(ImageError, match=r"; |cannot be a path"):
            function(root, image)


def test_damage_in_a_bucket_is_told_as_on_a_disk(tmp_path):
    root, whole = f"memory://{tmp_path.name}/d", picture(tmp_path / "x.png", (60, 40)).read_bytes()
    for name, data in (("empty.png", b""), ("cut.png", whole[:60]), ("text.png", b"no picture")):
        write_bytes(f"{root}/{name}", data)
        picture(tmp_path / "d" / name).write_bytes(data)
        said = []
        for folder in (root, str(tmp_path / "d")):
            with pytest.raises(ImageError) as error:
                open_image(folder, name)
            said.append(str(error.value))
        assert said[0] == said[1]


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


# ---------------------------------------------------------------- pictures that ask for time


def jpeg(**options):
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 128).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif_segments(count, between=b""):
    "A JPEG with many notes of a camera, whose lengths Pillow adds up one by one."
    note = b"\xff\xe1\x00\x0aExif\x00\x00ab"
    return b"\xff\xd8" + (note + between) * count + jpeg()[2:]


@pytest.mark.parametrize("between", [b"", b"\xff", b"junk", b"\xff\xd8", b"\xff\x00", b"\xff\xd9"])
def test_a_jpeg_of_very_many_segments_is_refused(tmp_path, between):
    (tmp_path / "a.jpg").write_bytes(exif_segments(1_200, between))
    for read in (image_size, open_image, read_image_file):
        with pytest.raises(ImageError, match="more than 1,000 segments"):
            read(str(tmp_path), "a.jpg")


def test_a_jpeg_with_a_large_profile_and_a_camera_s_notes_is_a_picture(tmp_path):
    data = jpeg(icc_profile=bytes(5_000_000), exif=b"Exif\x00\x00" + bytes(60_000), comment=b"x" * 60_000)
    (tmp_path / "a.jpg").write_bytes(data)
    assert open_image(str(tmp_path), "a.jpg").size == image_size(str(tmp_path), "a.jpg") == (64, 64)


@pytest.mark.parametrize("source", ["path", "bytes"])
def test_a_jpeg_that_goes_over_its_pixels_for_ever_is_refused(tmp_path, source):
    data = jpeg(progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    good, bad = (data[:-2] + scan * count + data[-2:] for count in (20, 300))
    (tmp_path / "a.jpg").write_bytes(good)
    assert open_image(str(tmp_path), "a.jpg").size == (64, 64)
    (tmp_path / "a.jpg").write_bytes(bad)
    with pytest.raises(ImageError, match="goes over its pixels more than 200 times"):
        decode_pixels(bad, "a.jpg") if source == "bytes" else open_image(str(tmp_path), "a.jpg")


def test_bytes_of_another_format_are_not_taken_for_passes(tmp_path):
    noise = np.frombuffer(b"\xff\xda\x00" * 64 * 64, dtype="uint8").reshape(64, 64, 3)
    Image.fromarray(noise).save(tmp_path / "a.bmp")
    assert open_image(str(tmp_path), "a.bmp").getpixel((3, 3)) == (0xFF, 0xDA, 0)


@pytest.mark.parametrize("part", ["a/", "../", "a/../", "./", "~/"])
def test_a_path_of_a_million_parts_is_not_walked(tmp_path, part):
    started = time.process_time()
    for root in (str(tmp_path), "memory://nowhere"):
        with pytest.raises(ImageError, match="longer than any path"):
            image_path(root, part * 300_000)
    assert time.process_time() - started < 5
