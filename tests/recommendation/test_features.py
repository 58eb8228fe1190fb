"""Features: encoded once, kept by content, noticed when damaged, and never a vector for a failed completion."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.recommendation import features
from mmpc_analysis.recommendation.features import (
    ItemFeatures,
    completion_features,
    encode_once,
    image_features,
    item_features,
    read_vectors,
    text_features,
    write_vectors,
)
from mmpc_analysis.recommendation.fills import fill_features
from mmpc_analysis.recommendation.visible_features import VisibleFeatures, mask
from mmpc_analysis.store import hash_key
from mmpc_analysis.tables import OUTCOMES, USABLE


class Encoder:
    "Vectors that are a function of the content, and a record of what was asked for."

    def __init__(self, contents):
        self.contents, self.asked = contents, []

    def __call__(self, places):
        self.asked += [self.contents[p] for p in places]
        return np.array([vector(self.contents[p]) for p in places], np.float32)


def vector(content):
    return np.frombuffer(hashlib.sha256(content.encode()).digest()[:12], np.uint8).astype(np.float32)


def names(n, start=0):
    return [f"content-{k}" for k in range(start, start + n)]


def asked(contents, folder):
    "What has to be encoded for these contents; the result is checked."
    encoder = Encoder(contents)
    found = encode_once(contents, encoder, 12, str(folder))
    want = [np.full(12, np.nan) if c is None else vector(c) for c in contents]
    np.testing.assert_array_equal(found, np.array(want, np.float32).reshape(len(contents), 12))
    return encoder.asked


# ---------------------------------------------------------------- kept by content


def test_each_content_is_encoded_once_ever(tmp_path):
    first = names(30)
    assert asked([*first, *first[::-1], None], tmp_path) == first
    assert asked([*first[::-1], None], tmp_path) == []
    assert asked(names(35), tmp_path) == names(5, 30)
    assert asked([], tmp_path) == [] and asked([None], tmp_path) == []


def test_many_contents_make_few_files_and_memory_maps(tmp_path, monkeypatch):
    assert len(asked(names(5000), tmp_path)) == 5000
    files = list(tmp_path.iterdir())
    assert len(files) == 2 * -(-5000 // features._LOT) and not [f for f in files if "partial" in f.name]
    some = next(iter(read_vectors(str(tmp_path)).values()))
    while not isinstance(some, np.memmap) and some.base is not None:
        some = some.base
    assert isinstance(some, np.memmap) or type(some).__name__ == "mmap"


@pytest.mark.parametrize(
    "how", ["cut", "flip", "gone", "empty", "index cut", "index swapped", "index of another", "index list"]
)
def test_a_damaged_file_is_made_again_and_nothing_else(tmp_path, how):
    lots = [names(4), names(4, 4), names(4, 8)]
    for lot in lots:
        asked(lot, tmp_path)
    by_first = {json.loads(p.read_text())["contents"][0]: p for p in tmp_path.glob("*.json")}
    index = by_first[lots[1][0]]
    array = index.with_suffix(".npy")
    said = json.loads(index.read_text())
    if how == "cut":
        os.truncate(array, array.stat().st_size - 3)
    if how == "flip":
        data = bytearray(array.read_bytes())
        data[-1] ^= 1
        array.write_bytes(data)
    if how == "gone":
        array.unlink()
    if how == "empty":
        array.write_bytes(b"")
    if how == "index cut":
        index.write_bytes(index.read_bytes()[:-2])
    if how == "index swapped":
        index.write_text(json.dumps(said | {"contents": said["contents"][::-1]}))
    if how == "index of another":
        shutil.copy(by_first[lots[0][0]], index)
    if how == "index list":
        index.write_text("[1, 2]")
    assert asked(names(12), tmp_path) == lots[1]
    assert asked(names(12), tmp_path) == []


def test_a_foreign_file_in_the_folder_is_no_harm(tmp_path):
    asked(names(3), tmp_path)
    (tmp_path / "notes.json").write_text('{"sha256": "0", "contents": ["content-0"]}')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    assert asked(names(3), tmp_path) == []


def test_an_array_of_objects_is_not_opened(tmp_path):
    array = np.empty(1, dtype=object)
    array[0] = {"a": 1}
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    digest = hashlib.sha256((tmp_path / "x.npy").read_bytes()).hexdigest()
    stem = hash_key(digest, "content-0")
    (tmp_path / "x.npy").rename(tmp_path / f"{stem}.npy")
    (tmp_path / f"{stem}.json").write_text(json.dumps({"sha256": digest, "contents": ["content-0"]}))
    assert asked(names(1), tmp_path) == names(1)


@pytest.mark.parametrize("folder", ["memory://shop/features", "memory://run [v1]/a*b", "run [v1]/x?y"])
def test_a_folder_elsewhere_and_of_any_name_works_alike(tmp_path, folder):
    folder = folder if "://" in folder else f"{tmp_path}/{folder}"
    assert asked(names(7), folder) == names(7)
    assert asked(names(9), folder) == names(2, 7)


def slow(folder):
    def encode_images(places):
        time.sleep(0.05)
        return np.array([vector(f"content-{p}") for p in places], np.float32)

    features._LOT = 10
    encode_once(names(2000), encode_images, 12, folder)


def test_killed_at_any_moment_it_loses_one_lot(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=slow, args=(str(tmp_path),))
    process.start()
    while len(list(tmp_path.glob("*.json"))) < 5 and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = len(read_vectors(str(tmp_path)))
    assert 50 <= kept < 2000 and kept % 10 == 0
    assert len(asked(names(2000), tmp_path)) == 2000 - kept


def test_two_that_keep_the_same_are_no_harm(tmp_path):
    for order in (names(4), names(4)[::-1]):
        write_vectors(str(tmp_path), order, np.array([vector(c) for c in order]))
    assert len(list(tmp_path.glob("*.npy"))) == 2 and asked(names(4), tmp_path) == []


# ---------------------------------------------------------------- titles and pictures


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "Six listings whose pictures may be changed."
    root = tmp_path_factory.mktemp("shop")
    loaded = load_catalogue("embedded", split="test")
    items = loaded.items.iloc[:6].reset_index(drop=True)
    for image in items["image"]:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(loaded.root) / image, root / image)
    return items, root


@pytest.fixture
def lots(monkeypatch):
    "How many contents were encoded, in each call that did."
    seen, real = [], features.write_vectors
    monkeypatch.setattr(
        features,
        "write_vectors",
        lambda f, c, v: seen.append((Path(f).name.split("-")[0], len(c))) or real(f, c, v),
    )
    return seen


def test_the_vectors_are_those_of_the_encoders(shop):
    from mmpc_analysis.catalogue.pictures import read_images
    from mmpc_analysis.metrics.picture_encoders import encode_images, load_effnet
    from mmpc_analysis.metrics.text_encoders import embed_texts

    items, root = shop
    found, rows = item_features(items, str(root)), items.sort_values("item_id")
    np.testing.assert_allclose(found.text, embed_texts(list(rows["title"])), atol=1e-6)
    effnet = load_effnet()
    pooled = encode_images(
        effnet, read_images(str(root), list(rows["image"]), (effnet.size,))[0][effnet.size]
    ).pooled
    np.testing.assert_allclose(found.image, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-6)
    assert list(found.items) == sorted(items["item_id"])


def test_only_what_changed_is_encoded_again(shop, tmp_path, lots):
    items, root = shop
    folder = str(tmp_path)
    first = item_features(items, str(root), folder=folder)
    assert sorted(lots) == [("image", 6), ("text", 6)]
    lots.clear()
    again = item_features(items.sample(frac=1, random_state=0), str(root), folder=folder)
    assert (
        not lots
        and again.text.tobytes() == first.text.tobytes()
        and again.image.tobytes() == first.image.tobytes()
    )
    place = root / items["image"][2]
    before = place.read_bytes()
    os.rename(place, root / "renamed.webp")
    moved = items.assign(image=items["image"].where(items.index != 2, "renamed.webp"))
    assert (
        item_features(moved, str(root), folder=folder).image.tobytes() == first.image.tobytes() and not lots
    )
    Image.effect_noise((50, 50), 60).convert("RGB").save(place, "PNG")
    changed = item_features(items, str(root), folder=folder)
    place.write_bytes(before)
    assert lots == [("image", 1)]
    differs = (changed.image != first.image).any(1)
    assert list(changed.items[differs]) == [items["item_id"][2]]
    lots.clear()
    retitled = items.assign(title=items["title"].where(items.index != 4, "a thing of another kind"))
    assert (
        list((item_features(retitled, str(root), folder=folder).text != first.text).any(1)).count(True) == 1
    )
    assert lots == [("text", 1)]


def test_a_change_that_keeps_name_and_length_is_noticed(tmp_path, lots):
    place, found = tmp_path / "a.bmp", []
    for shade in (10, 200):
        Image.new("RGB", (40, 40), (shade, 0, 0)).save(place)
        os.utime(place, (0, 0))
        found.append(image_features(str(tmp_path), ["a.bmp"], folder=str(tmp_path / "kept")))
    assert len(lots) == 2 and (found[0] != found[1]).any()


def test_what_was_scored_in_the_same_process_is_not_encoded_again(shop, monkeypatch):
    from mmpc_analysis.catalogue.pictures import read_images
    from mmpc_analysis.metrics import picture_encoders
    from mmpc_analysis.metrics.picture_encoders import pooled_features

    items, root = shop
    effnet, images = picture_encoders.load_effnet(), list(items["image"])
    features.encode_width(effnet)
    pooled_features(effnet, read_images(str(root), images, (effnet.size,))[0][effnet.size])
    monkeypatch.setattr(picture_encoders, "encode_images", lambda *_: pytest.fail("encoded twice"))
    assert np.isfinite(image_features(str(root), images)).all()


def test_what_is_missing_or_broken_has_no_vector(shop, tmp_path):
    items, root = shop
    data = (root / items["image"][0]).read_bytes()
    (root / "cut.webp").write_bytes(data[: len(data) // 3])
    (root / "text.png").write_text("no picture")
    (root / "empty.png").write_bytes(b"")
    images = [
        items["image"][0],
        None,
        "",
        "nowhere.png",
        "text.png",
        "empty.png",
        "../outside.png",
        "https://a.b/c.png",
        np.nan,
    ]
    found = image_features(str(root), images, folder=str(tmp_path))
    assert np.isnan(found).all(1).tolist() == [False] + [True] * 8
    texts = text_features(["mug", None, "", "  \n", np.nan, pd.NA, "mug"], folder=str(tmp_path))
    assert np.isnan(texts).all(1).tolist() == [False, True, True, True, True, True, False]
    assert (texts[0] == texts[6]).all()


def test_a_header_without_pixels_has_no_vector_and_is_no_black_picture(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[:300])
    for _ in range(2):  # Also when it is read from what was kept
        found = image_features(str(tmp_path), ["a.png", "b.png"], folder=str(tmp_path / "kept"))
        assert np.isnan(found).all(1).tolist() == [False, True]


def test_a_picture_that_changes_in_between_is_an_error(shop, monkeypatch):
    items, root = shop
    monkeypatch.setattr(features, "_content", lambda root, image: "0" * 32)
    with pytest.raises(ValueError, match="changed while it was read; run again"):
        image_features(str(root), [items["image"][0]])


def test_odd_texts_are_encoded():
    found = text_features(["mug", "\ud800 lone", "x" * 100_000, "<script>alert(1)</script>", "杯子", "\x00"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_another_encoder_has_a_folder_of_its_own(shop, tmp_path):
    from mmpc_analysis.metrics.text_encoders import minilm_folder

    copy = tmp_path / "copy"
    shutil.copytree(minilm_folder(), copy)
    one = text_features(["mug"], folder=str(tmp_path / "kept"))
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    text_features(["mug"], str(copy), folder=str(tmp_path / "kept"))
    assert len(list((tmp_path / "kept").iterdir())) == 2 and one.shape == (1, 384)


# ---------------------------------------------------------------- ViT


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    "A ViT with random weights, with and without a pooling layer, whole and with a gap."
    import torch
    from safetensors.torch import load_file, save_file

    from mmpc_analysis.completion.checkpoints import hide_broken_torchvision

    hide_broken_torchvision()
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    shape = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32
    )
    network = ViTModel(ViTConfig(**shape)).eval()
    network.save_pretrained(folder / "pooling")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / "pooling")
    for name, lost in (("plain", "pooler"), ("gap", "encoder.layer.1")):
        shutil.copytree(folder / "pooling", folder / name)
        path = folder / name / "model.safetensors"
        state = {
            k: v
            for k, v in load_file(path).items()
            if lost not in k and (name == "plain" or "layers.1." not in k)
        }
        save_file(state, path, {"format": "pt"})
    return folder, network


def test_vit_gives_its_class_token(vit, tmp_path):
    import torch

    folder, network = vit
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = image_features(str(tmp_path), ["a.png"], str(folder / "pooling"))
    values = torch.from_numpy(picture.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        token = network(pixel_values=values).last_hidden_state[0, 0].numpy()
    np.testing.assert_allclose(found[0], token / np.linalg.norm(token), atol=1e-5)
    plain = image_features(str(tmp_path), ["a.png"], str(folder / "plain"))
    np.testing.assert_array_equal(plain, found)


def test_a_vit_that_is_not_whole_is_refused(vit):
    from mmpc_analysis.metrics.text_encoders import EncoderMissing

    with pytest.raises(EncoderMissing, match="lacks the weights"):
        features.load_vit(str(vit[0] / "gap"))


def test_dinov2_comes_from_its_own_page(tmp_path):
    from test_picture_encoders import random_dinov2

    random_dinov2(tmp_path / "dino")
    Image.effect_noise((48, 48), 50).save(tmp_path / "a.png")
    found = image_features(str(tmp_path), ["a.png"], str(tmp_path / "dino"))
    assert (
        features.vision_encoder(str(tmp_path / "dino")).name.startswith("dinov2@")
        and np.isfinite(found).all()
    )


# ---------------------------------------------------------------- items and completions


def test_items_must_be_sorted_and_once():
    one = np.ones((2, 3), np.float32)
    for items in (["b", "a"], ["a", "a"]):
        with pytest.raises(ValueError, match="sorted and each there once"):
            ItemFeatures(np.array(items, dtype=object), one, one)
    for wrong in (one[:1], one[0]):
        with pytest.raises(ValueError, match="image must have a row for each of 2 items"):
            ItemFeatures(np.array(["a", "b"], dtype=object), one, wrong)


def answers_of(items, **columns):
    given = {
        "item_id": list(items),
        "task": "image_to_text",
        "model": "m",
        "role": "model",
        "outcome": "ok",
        "text": "a mug",
        "image": None,
    }
    return pd.DataFrame(given | columns)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_a_usable_completion_has_a_vector(outcome):
    items = np.array(["a", "b"], dtype=object)
    found = completion_features(answers_of(items, outcome=[outcome, "ok"]), items, "none")["m", "text"]
    assert np.isnan(found).all(1).tolist() == [outcome not in USABLE, False]


def test_a_failed_completion_takes_the_fallback_and_never_the_truth():
    items = np.array(list("abcd"), dtype=object)
    truth = text_features(["red mug", "green hat", "blue car", "white dog"])
    answers = answers_of(
        items, outcome=["refused", "ok", "ok", "truncated"], text=["red mug", None, "a car", "white dog"]
    )
    vectors = completion_features(answers, items, "none")["m", "text"]
    hidden = np.ones(4, bool)
    found = fill_features(VisibleFeatures(items, mask(truth, hidden)), "completion", vectors)
    assert found.fallback == 3 and (found.values[[0, 1, 3]] == 0).all()
    np.testing.assert_array_equal(found.values[2], text_features(["a car"])[0])


def test_drawn_pictures_are_found_in_the_run(tmp_path):
    items = np.array(list("abc"), dtype=object)
    (tmp_path / "drawn").mkdir()
    for name, shade in (("a", 10), ("b", 200)):
        Image.effect_noise((64, 64), shade).save(tmp_path / "drawn" / f"{name}.png")
    answers = answers_of(
        items,
        task="text_to_image",
        image=["drawn/a.png", "drawn/b.png", None],
        outcome=["ok", "repaired", "ok"],
    )
    found = completion_features(answers, items[::-1], str(tmp_path), folder=str(tmp_path / "kept"))
    assert list(found) == [("m", "image")] and np.isnan(found["m", "image"]).all(1).tolist() == [
        True,
        False,
        False,
    ]
    want = image_features(str(tmp_path), ["drawn/b.png", "drawn/a.png"])
    np.testing.assert_array_equal(found["m", "image"][1:], want)


def test_blind_answers_and_strangers_are_left_out():
    items = np.array(["a", "b"], dtype=object)
    answers = pd.concat(
        [
            answers_of(["a", "x"]),
            answers_of(items, role="blind", text="blind"),
            answers_of(["b"], model="n", text="a hat"),
        ]
    )
    found = completion_features(answers, items, "none")
    assert sorted(found) == [("m", "text"), ("n", "text")]
    assert np.isnan(found["m", "text"]).all(1).tolist() == [False, True]
    np.testing.assert_array_equal(found["n", "text"][1], text_features(["a hat"])[0])


def test_a_model_of_which_every_answer_failed_is_there_and_empty():
    items = np.array(["a", "b"], dtype=object)
    found = completion_features(answers_of(items, outcome="engine_error"), items, "none")
    assert np.isnan(found["m", "text"]).all() and found["m", "text"].shape == (2, 384)


def test_answers_that_contradict_each_other_are_refused():
    items = np.array(["a"], dtype=object)
    with pytest.raises(ValueError, match="m has two completions of 'a'"):
        completion_features(pd.concat([answers_of(items)] * 2), items, "none")
    with pytest.raises(ValueError, match="task must be one of image_to_text, text_to_image, got 'x'"):
        completion_features(answers_of(items, task="x"), items, "none")
