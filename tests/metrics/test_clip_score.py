"""CLIP score: a checkpoint made here, its own projections as the second opinion, and what cannot be scored."""

import json

import numpy as np
import pytest
from PIL import Image
from test_words import HOSTILE

from mmpc_analysis.metrics.semantic import FACTOR, PREFIX, clip_score
from mmpc_analysis.metrics.text_encoders import EncoderMissing

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (30 + 5 * i, 40, 3), dtype=np.uint8) for i in range(6)]
TEXTS = ["red mug", "a guitar", "violin and bow", "a guitar", "x", "kitchen knife " * 40]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    "A CLIP of two layers with random weights and a tokeniser of single letters."
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("clip")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    tokens = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    vocabulary, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    tokenizer = transformers.CLIPTokenizer(vocabulary, merges, model_max_length=77)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    words = shape | {"vocab_size": len(tokens), "eos_token_id": 53, "bos_token_id": 52, "pad_token_id": 53}
    eyes = shape | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(6)  # With this seed the cosines are positive, so that there is something to compare
    config = transformers.CLIPConfig(text_config=words, vision_config=eyes, projection_dim=16)
    prepare = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    for part in (transformers.CLIPModel(config).eval(), tokenizer, prepare):
        part.save_pretrained(folder)
    return str(folder)


def test_equals_the_model_s_own_forward_pass(weights):
    "One pair at a time, through CLIPModel's own projections."
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model, tokenizer = CLIPModel.from_pretrained(weights).eval(), AutoTokenizer.from_pretrained(weights)
    prepare = CLIPImageProcessorPil.from_pretrained(weights)
    expected = []
    for picture, text in zip(PICTURES, TEXTS, strict=True):
        given = tokenizer([PREFIX + text], return_tensors="pt", truncation=True, max_length=77)
        pixels = prepare(images=[Image.fromarray(picture)], return_tensors="pt")
        with torch.inference_mode():
            out = model(**given, **pixels)
        cosine = float(torch.nn.functional.cosine_similarity(out.text_embeds, out.image_embeds))
        expected.append(FACTOR * max(cosine, 0))
    ours = clip_score(PICTURES, TEXTS, weights)
    assert ours.dtype == np.float64 and len(np.unique(ours.round(6))) == 6 and ours.min() > 0.05
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("shards", [2, 6])
def test_shards_give_the_same_bits(weights, shards):
    together, apart = clip_score(PICTURES, TEXTS, weights), np.zeros(6)
    for part in np.array_split(np.array([3, 0, 5, 1, 4, 2]), shards):
        apart[part] = clip_score([PICTURES[i] for i in part], [TEXTS[i] for i in part], weights)
    assert together.tobytes() == apart.tobytes()


def test_pictures_come_as_arrays_or_images_of_any_mode(weights):
    array = clip_score(PICTURES[:1], TEXTS[:1], weights)
    image = Image.fromarray(PICTURES[0])
    assert clip_score([image], TEXTS[:1], weights) == array
    for mode in ("L", "RGBA", "P"):
        assert 0 <= clip_score([image.convert(mode)], TEXTS[:1], weights)[0] <= FACTOR


def test_hostile_texts_and_missing_pictures(weights):
    values = clip_score([PICTURES[0]] * len(HOSTILE), HOSTILE, weights)
    said = np.array([bool(text.strip()) for text in HOSTILE])
    assert np.isfinite(values).all() and not values[~said].any() and values.max() <= FACTOR
    missing = clip_score([None, PICTURES[0], None], ["mug", None, ""], weights)
    assert np.isnan(missing).all() and clip_score([], [], weights).shape == (0,)


def test_refusals(weights, tmp_path):
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="needs a CLIP checkpoint, got bert"):
        clip_score(PICTURES[:1], ["a"], str(tmp_path))
    with pytest.raises(EncoderMissing, match="no weights of its own"):
        clip_score(PICTURES[:1], ["a"])
    for texts in ("a", ["a", "b"]):
        with pytest.raises(ValueError, match="one text per picture"):
            clip_score(PICTURES[:1], texts, weights)
    with pytest.raises(ValueError, match="name@revision"):
        clip_score(PICTURES[:1], ["a"], "openai/clip-vit-base-patch32")
