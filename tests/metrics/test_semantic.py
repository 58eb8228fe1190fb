"""Meaning: the numbers of bert-score 0.3.13, a CLIP made here, the same bits in any shards, and texts that would break them."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_words import HOSTILE

from mmpc_analysis.metrics import batches
from mmpc_analysis.metrics import semantic as bs
from mmpc_analysis.metrics import text_encoders as te
from mmpc_analysis.metrics.semantic import FACTOR, PREFIX, clip_score
from mmpc_analysis.metrics.text_encoders import EncoderMissing

FIXTURES = json.loads((ROOT / "tests" / "data" / "metrics" / "bertscore.json").read_text(encoding="utf-8"))
REFERENCES, CANDIDATES = FIXTURES["references"], FIXTURES["candidates"]
BATCHED = "minilm layer 6 in batches of 64"


@pytest.fixture(scope="module")
def maker():
    "The script that made the fixtures, for its small network and its baseline file."
    spec = importlib.util.spec_from_file_location(
        "make_text_fixtures", ROOT / "tools" / "fixtures" / "make_text_fixtures.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(name, folder, maker):
    weights = maker.write_small_roberta(folder) if name.startswith("roberta") else None
    counts = bs.token_documents(REFERENCES, weights, False) if "idf" in name else None
    baseline = maker.write_baseline(folder / "baseline.tsv") if "rescaled" in name else None
    layer = int(name.split()[2])
    options = {
        "layer": layer,
        "counts": counts,
        "baseline": baseline,
        "normalise": False,
    }  # Texts as bert-score read them
    scores = bs.bertscore(REFERENCES, CANDIDATES, weights, **options)
    return dict(zip("PRF", (scores.precision, scores.recall, scores.f1), strict=True))


@pytest.mark.parametrize("name", sorted(FIXTURES["values"].keys() - {BATCHED}))
def test_equals_bert_score(name, tmp_path, maker):
    found = ours(name, tmp_path, maker)
    assert FIXTURES["versions"]["bert-score"] == "0.3.13"
    for key, stored in FIXTURES["values"][name].items():
        np.testing.assert_allclose(
            found[key], stored, rtol=0, atol=2e-6, err_msg=key
        )  # 6e-7 measured: single precision, added in another order


def test_the_fixtures_hold_what_breaks_others():
    assert sum(not r.strip() or not c.strip() for r, c in zip(REFERENCES, CANDIDATES, strict=True)) >= 4
    assert any("  " in r.strip() for r in REFERENCES) and max(map(len, CANDIDATES)) > 3_000
    f1 = np.array(FIXTURES["values"]["minilm layer 6"]["F"])
    assert len(f1) > 80 and ((f1 > 0.1) & (f1 < 0.95)).mean() > 0.5


def test_differs_from_batched_bert_score_only_where_its_padding_shows():
    """In batches bert-score pads with zeros, so a best match below 0 becomes 0 wherever there is padding.

    Everywhere else the numbers are the same; where they differ, bert-score's are the higher ones.
    """
    stored = {key: np.array(part) for key, part in FIXTURES["values"][BATCHED].items()}
    scores = bs.bertscore(REFERENCES, CANDIDATES)
    gap = np.stack([stored["P"] - scores.precision, stored["R"] - scores.recall])
    assert gap.min() > -2e-6 and 0 < (gap > 1e-5).any(axis=0).sum() < len(REFERENCES) / 4
    encoder = te.load_text_encoder(te.minilm_folder())
    for i in np.flatnonzero((gap > 1e-5).any(axis=0)):
        ids = te.token_ids([REFERENCES[i], CANDIDATES[i]], encoder)
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in te.encode_tokens(ids, encoder))
        assert min((a @ b.T).max(axis=1)[1:-1].min(), (a @ b.T).max(axis=0)[1:-1].min()) < 0


# ---------------------------------------------------------------- the same bits


def bits(scores):
    return np.stack([scores.precision, scores.recall, scores.f1])


@pytest.mark.parametrize("shards", [1, 7, 50])
def test_shards_give_the_same_bits(shards):
    counts = bs.token_documents(REFERENCES)
    for options in ({}, {"layer": 4, "counts": counts}):
        together = bits(bs.bertscore(REFERENCES, CANDIDATES, **options))
        apart = np.full_like(together, np.nan)
        order = np.random.default_rng(shards).permutation(len(REFERENCES))
        encoder = te.load_text_encoder(te.minilm_folder(), options.get("layer"))
        for part in np.array_split(order, shards):
            encoder.read.clear()  # Else they would be the same bits because they are the same arrays
            some = bs.bertscore([REFERENCES[i] for i in part], [CANDIDATES[i] for i in part], **options)
            apart[:, part] = bits(some)
        assert together.tobytes() == apart.tobytes()


def test_blocks_give_the_same_bits(monkeypatch):
    whole = bits(bs.bertscore(REFERENCES, CANDIDATES))
    monkeypatch.setattr(bs, "_BLOCK", 5)
    memory = te.load_text_encoder(te.minilm_folder()).read
    memory.clear()
    monkeypatch.setattr(memory, "most", 0)
    assert bits(bs.bertscore(REFERENCES, CANDIDATES)).tobytes() == whole.tobytes()


def test_each_distinct_text_is_encoded_once_however_many_models(monkeypatch):
    seen = []
    monkeypatch.setattr(
        te, "encode_tokens", lambda ids, e, f=te.encode_tokens: seen.append(len(ids)) or f(ids, e)
    )
    te.load_text_encoder(te.minilm_folder()).read.clear()
    references = ["red mug", "blue car", "old guitar"]
    models = [["a red mug", "a car", "guitar"], ["mug", "a car", "a red mug"], [None, " ", "mug"]]
    candidates = [text for model in models for text in model]
    bs.bertscore(references * 3, candidates)
    assert seen == [7]  # Three references and the four distinct answers, a, mug, car and guitar
    for metric in (bs.minilm_bertscore_precision, bs.minilm_bertscore_recall, bs.minilm_bertscore_f1):
        metric(references * 3, candidates)
    assert seen == [7, 0]  # The second time nothing is left to encode


def test_counts_add_up():
    parts = [bs.token_documents(REFERENCES[i::3]) for i in range(3)]
    assert parts[0] + parts[1] + parts[2] == bs.token_documents(REFERENCES)


# ---------------------------------------------------------------- properties


title = st.lists(st.sampled_from(["red", "mug", "guitar", "7.5", "é", "🎸", " ", ""]), max_size=6).map(
    " ".join
)


@given(st.lists(st.tuples(title, title | st.text(max_size=12)), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_range_identity_and_symmetry(pairs):
    a, b = [r for r, _ in pairs], [c for _, c in pairs]
    there, back, same = bs.bertscore(a, b), bs.bertscore(b, a), bs.bertscore(a, a)
    assert np.isfinite(bits(there)).all() and np.abs(bits(there)).max() <= 1
    # Sums of 384 products of unit vectors in double precision: 384 * 2**-53 each way, 9e-14 in all
    np.testing.assert_allclose(there.precision, back.recall, rtol=0, atol=1e-12)
    np.testing.assert_allclose(there.f1, back.f1, rtol=0, atol=1e-12)
    said = np.array([bool(text.strip()) for text in a], dtype=float)
    np.testing.assert_allclose(bits(same), np.stack([said] * 3), atol=1e-6)


def test_hostile_texts_get_a_score():
    pairs = [(a, b) for a in HOSTILE for b in HOSTILE[::3]]
    scores = bits(bs.bertscore([a for a, _ in pairs], [b for _, b in pairs]))
    assert np.isfinite(scores).all() and np.abs(scores).max() <= 1
    marks = bs.bertscore(["mug", "[SEP] [CLS]", "\u200b"], ["[SEP]", "mug", "mug"])
    assert marks.f1.tolist() == [0, 0, 0]


def test_missing_is_unknown_and_blank_is_zero():
    missing = [None, float("nan"), pd.NA, np.nan]
    for metric in (bs.minilm_bertscore_precision, bs.minilm_bertscore_recall, bs.minilm_bertscore_f1):
        assert np.isnan(metric(missing, ["mug"] * 4)).all() and np.isnan(metric(["mug"] * 4, missing)).all()
        assert metric(["mug", " ", "mug"], ["", "mug", "mug"]).tolist() == pytest.approx([0, 0, 1], abs=1e-6)
        values = metric([], [])
        assert values.shape == (0,) and values.dtype == np.float64


def test_a_result_is_the_caller_s_to_change():
    first = bs.minilm_bertscore_f1(["red mug"], ["mug"])
    kept = first.copy()
    first[:] = 7
    assert bs.minilm_bertscore_f1(["red mug"], ["mug"]) == kept


def test_the_signature_names_every_choice(tmp_path, maker):
    baseline = maker.write_baseline(tmp_path / "baseline.tsv")
    made = bs.bertscore(
        ["a"], ["a"], layer=4, counts=bs.token_documents(["a", "b"]), baseline=baseline
    ).signature
    assert made.startswith("bertscore|bert|layer:4|width:384|reads:512|weights:")
    assert made.endswith("|idf:2|rescaled:yes|norm:nfc-marks-zw")
    assert bs.bertscore(["a"], ["a"], normalise=False).signature.endswith("|norm:no")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layer": 0}, "between 1 and 6"), ({"layer": 7}, "between 1 and 6"), ({"layer": 2.0}, "between 1 and 6"),
     ({"weights": "a/b"}, "name@revision")],
)  # fmt: skip
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        bs.bertscore(["a"], ["a"], **options)


def test_a_baseline_of_another_layer_is_refused(tmp_path):
    path = tmp_path / "baseline.tsv"
    path.write_text("LAYER,P,R,F\n2,0.1,0.1,0.1\n3,0.2,0.2,0.2\n")
    with pytest.raises(ValueError, match="no layer 6; it has 2, 3"):
        bs.bertscore(["a"], ["a"], baseline=path)


# ---------------------------------------------------------------- CLIP score

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
def test_shards_give_the_same_bits_by_clip(weights, shards):
    together, apart = clip_score(PICTURES, TEXTS, weights), np.zeros(6)
    for part in np.array_split(np.array([3, 0, 5, 1, 4, 2]), shards):
        bs._clip.cache_clear()  # Else the second time would be looked up
        apart[part] = clip_score([PICTURES[i] for i in part], [TEXTS[i] for i in part], weights)
    assert together.tobytes() == apart.tobytes()


def test_clip_encodes_each_text_and_picture_once_over_calls(weights, monkeypatch):
    seen = {"texts": [], "pictures": []}
    for what, name in (("texts", "_text_vectors"), ("pictures", "_picture_vectors")):
        encode = getattr(bs, name)
        monkeypatch.setattr(
            bs, name, lambda c, given, w=what, f=encode: seen[w].append(len(given)) or f(c, given)
        )
    bs._clip.cache_clear()
    again = [Image.fromarray(PICTURES[0]), PICTURES[1].copy()]  # The same pixels in other hands
    first = clip_score([PICTURES[0], PICTURES[0], PICTURES[1]], ["a guitar", "red mug", "a guitar"], weights)
    second = clip_score([*again, PICTURES[2]], ["red mug", "a guitar", "x"], weights)
    assert seen == {"texts": [2, 1], "pictures": [2, 1]}
    assert second[:2].tolist() == first[1:].tolist()


@pytest.mark.parametrize("size", [2, 5])
def test_clip_in_batches_agrees(weights, monkeypatch, size):
    "As on a graphics card, on the processor; also one picture and text alone."
    one_by_one = clip_score(PICTURES, TEXTS, weights)
    monkeypatch.setitem(batches.BATCHES, "cpu", size)
    np.testing.assert_allclose(clip_score(PICTURES, TEXTS, weights), one_by_one, rtol=0, atol=1e-5)
    for i in (0, 5):
        bs._clip.cache_clear()
        alone = clip_score(PICTURES[i : i + 1], TEXTS[i : i + 1], weights)
        np.testing.assert_allclose(alone, one_by_one[i : i + 1], rtol=0, atol=1e-5)


def test_bertscore_in_batches_agrees(monkeypatch):
    passes = bits(bs.bertscore(REFERENCES, CANDIDATES))
    monkeypatch.setitem(batches.BATCHES, "cpu", 8)
    np.testing.assert_allclose(bits(bs.bertscore(REFERENCES, CANDIDATES)), passes, rtol=0, atol=1e-5)


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


def test_refusals_by_clip(weights, tmp_path):
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


def test_spellings_that_nobody_sees_mean_the_same():
    pairs = [
        ("LEGO® Star Wars™ X-Wing", "LEGO Star Wars X-Wing"),
        ("Red\u200bmug", "Red mug"),
        ("Cre\u0300me", "Crème"),
    ]
    a, b = zip(*pairs, strict=True)
    assert bs.minilm_cosine(a, b).tolist() == pytest.approx([1] * 3, abs=1e-6)
    assert bs.minilm_bertscore_f1(a, b).tolist() == pytest.approx([1] * 3, abs=1e-6)
    assert bs.embedding_cosine(a[:2], b[:2], normalise=False).max() < 0.99
