"""Pixel budgets: tokens against the library's own processors, and what a model is shown."""

import json
import random
import shutil
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.backends import TransformersBackend
from mmpc_analysis.completion.checkpoints import fit_image, fitted_size, limit_pixels, load_processor
from mmpc_analysis.completion.completions import complete
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.completion.pixels import (
    PICTURE_RULES,
    PIXEL_BUDGETS,
    image_tokens,
    read_picture_rule,
    scale_down,
    seen_size,
)
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Request

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
TITLE = prompt_for("image_to_text", short=True)
QWEN, GEMMA = PICTURE_RULES["Qwen2.5-VL"], PICTURE_RULES["Gemma-3"]


def published(family):
    "An image processor of the library with the published sizes."
    if family == "Gemma-3":
        from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

        return Gemma3ImageProcessorPil(size={"height": 896, "width": 896})
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=14, merge_size=2, size={"shortest_edge": 3136, "longest_edge": 12_845_056}
    )


def changed(folder, name, **sizes):
    "Everything of a stand-in but its weights, with an image processor of other sizes."
    copy = shutil.copytree(find_weights(model_card(name)), folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))  # fmt: skip
    settings = json.loads((copy / "processor_config.json").read_text())
    settings["image_processor"] |= sizes
    (copy / "processor_config.json").write_text(json.dumps(settings))
    return str(copy)


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("pixels", [None, 1_003_520, 200_704])
def test_sizes_are_the_library_s_own_rule(pixels):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    rng = random.Random(0)
    for _ in range(5_000):
        wide, high = (int(10 ** rng.uniform(0, 4.2)) for _ in range(2))
        if max(wide, high) > 200 * min(wide, high):
            with pytest.raises(ValueError, match="at most 200 times as long"):
                seen_size((wide, high), QWEN, pixels)
        else:
            expected = smart_resize(high, wide, 28, QWEN.least, pixels or QWEN.most)[::-1]
            assert seen_size((wide, high), QWEN, pixels) == expected


@pytest.mark.parametrize("size", [(300, 300), (1000, 400), (37, 1500), (1, 1), (1600, 1200)])
@pytest.mark.parametrize("pixels", [None, 1_003_520, 50_176])
def test_tokens_are_those_of_the_published_processor(size, pixels):
    processor = published("Qwen2.5-VL")
    limit_pixels(processor, pixels)
    grid = processor([[fit_image(Image.new("RGB", size), processor, pixels)]], return_tensors="pt")[
        "image_grid_thw"
    ]
    assert image_tokens(size, QWEN, pixels) == int(grid[0].prod()) // 4


def test_one_large_photograph_costs_what_was_measured():
    assert image_tokens((4624, 3468), QWEN) == 16_170
    assert image_tokens((4624, 3468), QWEN, PIXEL_BUDGETS["Qwen2.5-VL"]) <= 1_280
    assert image_tokens((4624, 3468), GEMMA) == image_tokens((10, 10), GEMMA) == 256


@pytest.mark.parametrize("name", ["standin-qwen-s", "standin-gemma-s"])
@pytest.mark.parametrize("size", [(224, 224), (64, 64), (900, 300), (20, 31)])
def test_tokens_are_those_in_a_prompt_of_a_stand_in(name, size):
    source = find_weights(model_card(name))
    processor, rule = load_processor(source), read_picture_rule(source)
    turns = [conversation(TITLE, image=True)]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    made = processor(text=text, images=[[Image.new("RGB", size)]], return_tensors="pt")
    types = made["mm_token_type_ids" if "mm_token_type_ids" in made else "token_type_ids"]
    assert image_tokens(size, rule) == int(types.sum())


@pytest.mark.parametrize("name", ["standin-qwen-s", "standin-gemma-s"])
def test_a_rule_is_read_from_either_file(tmp_path, name):
    source = changed(tmp_path, name)
    expected = read_picture_rule(source)
    settings = json.loads((tmp_path / "model" / "processor_config.json").read_text())
    images = settings.pop("image_processor")
    if "merge_size" in images:
        edges = images.pop("size")
        images |= {"min_pixels": edges["shortest_edge"], "max_pixels": edges["longest_edge"]}
    (tmp_path / "model" / "processor_config.json").write_text(json.dumps(settings))
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(images))
    assert read_picture_rule(source) == expected is not None
    (tmp_path / "model" / "preprocessor_config.json").unlink()
    assert read_picture_rule(source) is None


# ---------------------------------------------------------------- what a model is shown


@pytest.mark.parametrize(
    "size", [(4000, 3000), (3000, 4000), (5000, 20), (1, 90_000), (777, 1003), (9000, 9000)]
)
@pytest.mark.parametrize("pixels", [1, 100, 200_704, 1_003_520])
def test_scaling_down_keeps_the_shape_and_the_budget(size, pixels):
    made = scale_down(Image.new("RGB", size), pixels).size
    assert made[0] * made[1] <= max(pixels, 1) and min(made) >= 1
    if min(made) > 20:
        assert made[0] / made[1] == pytest.approx(size[0] / size[1], rel=0.05)
        assert made[0] * made[1] > 0.9 * min(pixels, size[0] * size[1])


def test_no_processor_is_handed_a_large_picture():
    "Also where it must see a picture as it is: crops, and sizes that it would scale twice."
    for family in PIXEL_BUDGETS:
        processor, budget = published(family), PIXEL_BUDGETS[family]
        limit_pixels(processor, budget)
        for size in ((4624, 3468), (9000, 300), (300, 9000), (5000, 5000), (12_000, 61)):
            made = fit_image(Image.new("RGB", size), processor, budget)
            assert made.width * made.height <= budget, (family, size)
            assert fit_image(made, processor, budget) is made
    crops = published("Gemma-3")
    crops.do_pan_and_scan = True
    assert fit_image(Image.new("RGB", (4000, 3000)), crops, 802_816).size[0] in (1033, 1034, 1035)


def test_the_default_budget_of_gemma_changes_no_pixel():
    processor, picture = published("Gemma-3"), Image.effect_noise((1200, 900), 80).convert("RGB")
    made = fit_image(picture, processor, PIXEL_BUDGETS["Gemma-3"])
    assert np.array_equal(made, picture.resize((896, 896), processor.resample))
    less = fit_image(picture, processor, 200_704)
    assert less.size == (896, 896) and np.asarray(less).std() < 0.8 * np.asarray(made).std()  # Detail is gone
    assert fit_image(less, processor, 200_704) is less


def test_a_picture_of_the_model_s_size_is_within_its_budget_too():
    processor, picture = published("Gemma-3"), Image.effect_noise((896, 896), 80).convert("RGB")
    made = fit_image(picture, processor, 200_704)
    assert made is not picture and np.asarray(made).std() < 0.8 * np.asarray(picture).std()


def test_a_smaller_limit_of_the_checkpoint_stays():
    for name in ("standin-qwen-s", "standin-gemma-s"):
        plain, limited = (load_backend(name, pixels=p) for p in (None, 10_000_000))
        picture = open_image(ROOT, "pictures/console-atari-2600.webp")
        assert plain.identity == limited.identity == TransformersBackend(plain.source).identity
        assert np.array_equal(plain.fit(picture), limited.fit(picture)) and plain.fit(picture).size == (
            64,
            64,
        )


def test_a_budget_is_refused_below_what_every_picture_is_scaled_up_to():
    with pytest.raises(ValueError, match="pixels must be at least 3,136, to which this model"):
        limit_pixels(published("Qwen2.5-VL"), 3_000)


# ---------------------------------------------------------------- identity and records


def test_a_budget_is_in_the_identity_where_it_changes_anything():
    seven = {
        p: load_backend("qwen2.5-vl-7b", pixels=p).identity for p in (None, 200_704, 12_845_056, 20_000_000)
    }
    assert seven[None].endswith("|1003520 pixels") and seven[200_704].endswith("|200704 pixels")
    assert "pixels" not in seven[12_845_056] + seven[20_000_000]  # Its own limit
    four = {p: load_backend("gemma-3-4b", pixels=p).identity for p in (None, 200_704, 900_000)}
    assert "pixels" not in four[None] + four[900_000] and four[200_704].endswith("|200704 pixels")
    small = {p: load_backend("standin-gemma-s", pixels=p).identity for p in (None, 1_024, 4_096)}
    assert small[None] == small[4_096] != small[1_024]


def test_a_budget_changes_the_tensors_of_an_area_model(tmp_path):
    wide = changed(tmp_path, "standin-qwen-s", size={"shortest_edge": 1024, "longest_edge": 65_536})
    whole, cut = (load_processor(wide).image_processor for _ in range(2))
    limit_pixels(cut, 16_384)
    picture = open_image(ROOT, "pictures/console-atari-2600.webp")
    assert fitted_size(picture.size, whole) == (224, 224) and fitted_size(picture.size, cut) == (128, 128)
    made = [p([[fit_image(picture, p)]], return_tensors="pt")["pixel_values"] for p in (whole, cut)]
    assert [len(tensor) for tensor in made] == [14 * 14, 8 * 8] and torch.isfinite(made[1]).all()


def test_asking_fits_pictures_that_nobody_fitted():
    backend = load_backend("standin-gemma-s", pixels=256)
    picture = open_image(ROOT, "pictures/console-atari-2600.webp")
    raw = Request("k", conversation(TITLE, image=True), picture, 8)
    fitted = Request("k", conversation(TITLE, image=True), backend.fit(picture), 8)
    one, two = backend.prepare([raw]).inputs, backend.prepare([fitted]).inputs
    assert all(torch.equal(one[name], two[name]) for name in one)
    plain = load_backend("standin-gemma-s").prepare([raw]).inputs
    assert not torch.equal(one["pixel_values"], plain["pixel_values"])


# ---------------------------------------------------------------- pictures that one engine cannot take


def bomb(path):
    "A small file whose header states 40,000 by 40,000 pixels."
    import struct
    import zlib

    Image.new("L", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 40_000, 40_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(bytes(data))


MADE = {
    "2400 x 6": ((2400, 6), "aspect ratio"),
    "6 x 2400": ((6, 2400), "aspect ratio"),
    "1 x 5000": ((1, 5000), "aspect ratio"),
    "5000 x 1": ((5000, 1), "aspect ratio"),
    "bomb": (None, "is over 89,478,485 pixels; make it smaller"),
    "nearly too long": ((2000, 10), None),
    "nearly too long once it is rounded": ((12_000, 61), None),
    "36 megapixels": ((6000, 6000), None),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_picture_that_one_engine_cannot_take_is_one_row(tmp_path, kind):
    size, reason = MADE[kind]
    items = pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").head(3)
    for name in ("a.png", "c.png"):
        Image.effect_noise((60, 40), 80).convert("RGB").save(tmp_path / name)
    if size:
        Image.new("L", size, 90).save(tmp_path / "b.png")
    else:
        bomb(tmp_path / "b.png")
    where = {"root": str(tmp_path), "out": str(tmp_path / "run"), "progress": False}
    rows = complete(
        items.assign(image=["a.png", "b.png", "c.png"]), "standin-qwen-s", "image_to_text", **where
    )
    assert (rows["outcome"] == "engine_error").tolist() == [False, bool(reason), False]
    if reason:
        assert reason in rows["raw_text"].iloc[1]
