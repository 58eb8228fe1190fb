"MMPCBench's numbers to the digit, and hostile input."

import base64
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parity_cases import DATA, PICTURES
from PIL import Image
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

from mmpc_analysis.parity import mmpcbench_scores as mmpcbench

PAIRS = json.loads((DATA / "text_pairs.json").read_text("utf-8"))


ADVERSARIAL = json.loads((DATA / "adversarial.json").read_text("utf-8"))["pairs"]


def as_columns(pairs):
    return [p["real"] for p in pairs], [p["generated"] for p in pairs]


@pytest.mark.parametrize("pairs", [PAIRS, ADVERSARIAL], ids=["given", "adversarial"])
@pytest.mark.parametrize("name", mmpcbench.TEXT_SCORES)
def test_text_scores_equal_other_implementations(pairs, name):
    ours = mmpcbench.mmpcbench_text_scores(*as_columns(pairs))[name]
    np.testing.assert_allclose(ours, [p[name] for p in pairs], rtol=0, atol=1e-9)


def test_bleu_in_order_equals_another_implementation():
    ours = mmpcbench.mmpcbench_bleu(*as_columns(ADVERSARIAL), swapped=False)
    empty = [
        not (mmpcbench.mmpcbench_clean_text(p["real"]) and mmpcbench.mmpcbench_clean_text(p["generated"]))
        for p in ADVERSARIAL
    ]
    np.testing.assert_allclose(
        np.where(empty, 0.0, ours), [p["bleu_in_order"] for p in ADVERSARIAL], rtol=0, atol=1e-9
    )


def test_fixtures_tell_good_from_bad():
    for pairs, least in ((PAIRS, 100), (ADVERSARIAL, 150)):
        for name in ("cosine", "jaccard", "bleu"):
            values = np.array([p[name] for p in pairs])
            assert ((values > 0.02) & (values < 0.98)).sum() > least / 2, name


def test_scores_do_not_depend_on_company():
    "A pair alone, and among 9,000 others that take more than one block."
    real, generated = as_columns(ADVERSARIAL)
    many = mmpcbench.mmpcbench_text_scores(real * 30, generated * 30)
    alone = pd.concat(
        [mmpcbench.mmpcbench_text_scores([r], [g]) for r, g in zip(real, generated, strict=True)]
    )
    np.testing.assert_allclose(many.iloc[-len(real) :], alone, rtol=0, atol=1e-12)


def test_stop_words_are_scikit_learns():
    assert mmpcbench.stop_words() == ENGLISH_STOP_WORDS and len(mmpcbench.stop_words()) == 318


def sklearn_pair(real, generated):
    "One vectoriser for one pair, as slow as it sounds."
    a, b = mmpcbench.mmpcbench_clean_text(real), mmpcbench.mmpcbench_clean_text(generated)
    if not a or not b:
        return 0.0, 0.0
    try:
        vectoriser = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), max_features=1000)
        rows = vectoriser.fit_transform([a, b])
    except ValueError:
        return 0.0, 0.0
    return cosine_similarity(rows)[0, 1], 1 / (1 + euclidean_distances(rows[:1], rows[1:])[0, 0])


@pytest.mark.parametrize("seed", range(6))
def test_ties_at_the_limit_fall_as_in_scikit_learn(seed):
    "Thousands of terms with the same count: which survive is decided by the same sort on the same machine."
    rng = np.random.default_rng(seed)
    texts = [" ".join(f"t{k}" for k in rng.integers(0, 1500, rng.integers(500, 2500))) for _ in range(2)]
    ours = mmpcbench.mmpcbench_text_scores(texts[:1], texts[1:]).iloc[0]
    np.testing.assert_allclose(ours[["cosine", "euclidean"]], sklearn_pair(*texts), rtol=0, atol=1e-9)


WORDS = st.sampled_from(
    ["red", "mug", "the", "of", "x", "7.5", "é", "红色", "oz", ",", "-", "&amp;", "<skipped>", "-\n", "a.b", "1,5", "...", "İ", "\x1e"]
)  # fmt: skip


TITLES = st.one_of(
    st.text(max_size=40), st.lists(WORDS, max_size=14).map(" ".join), st.lists(WORDS).map("".join)
)


@settings(max_examples=150, deadline=None)
@given(TITLES, TITLES)
def test_any_pair_equals_scikit_learn_and_sacrebleu(real, generated):
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    ours = mmpcbench.mmpcbench_text_scores([real], [generated]).iloc[0]
    np.testing.assert_allclose(
        ours[["cosine", "euclidean"]], sklearn_pair(real, generated), rtol=0, atol=1e-9
    )
    assert [" ".join(t) for t in mmpcbench._tokens_13a([real, generated])] == [
        Tokenizer13a()(t) for t in (real, generated)
    ]
    assert ours["jaccard"] == ours["overlap"] and 0 <= ours["bleu"] <= 1
    back = mmpcbench.mmpcbench_text_scores([generated], [real]).iloc[0]
    np.testing.assert_allclose(
        back[["cosine", "euclidean", "jaccard"]], ours[["cosine", "euclidean", "jaccard"]], rtol=0, atol=1e-12
    )


@settings(max_examples=80, deadline=None)
@given(TITLES, TITLES)
@example("0", "000:00:00")  # One text without words; the other's length is 1 but for the last bit
def test_euclidean_is_a_function_of_the_cosine(real, generated):
    """The squared distance is 2 - 2 cos of two rows of length 1, and 1 where a text has no words.

    Squares are compared, because a root makes 1e-8 of a last bit at distance 0. A row of n terms is divided by a root of n squares
    and its squares are added again: each of the two squared lengths and the two products is off by at most 2n + 4 roundings of
    eps / 2 for each normalisation, of which the cosine has two; together less than 8 (n + 4) eps.
    """
    ours = mmpcbench.mmpcbench_text_scores([real], [generated]).iloc[0]
    clean = [mmpcbench.mmpcbench_clean_text(t) for t in (real, generated)]
    words = [[w for w in t.split() if len(w) > 1 and w not in mmpcbench.stop_words()] for t in clean]
    if all(clean) and any(words):
        square = 2 - 2 * ours["cosine"] if all(words) else 1.0
        terms = 2 * sum(map(len, words))  # Words and neighbouring words
        slack = 8 * (terms + 4) * np.finfo(float).eps
        assert (1 / ours["euclidean"] - 1) ** 2 == pytest.approx(square, rel=0, abs=slack)
    else:
        assert ours["euclidean"] == 0.0  # Nothing was measured, so nothing is rounded


def test_hostile_texts():
    texts = [
        None,
        np.nan,
        7,
        "",
        " \n",
        "\ud83d broken \udc00 mug of red tea",
        "\x00",
        "x" * 200_000,
        "mug " * 50_000,
        "<b>&lt;",
    ]
    pairs = [(a, b) for a in texts for b in texts]
    values = mmpcbench.mmpcbench_text_scores([a for a, _ in pairs], [b for _, b in pairs])
    assert np.isfinite(values.to_numpy()).all() and values.to_numpy().min() >= 0
    broken = texts[5]
    assert (
        mmpcbench.mmpcbench_text_scores([broken], [broken])["bleu"].item() == 0.0
    )  # Cannot be written as UTF-8
    assert mmpcbench.mmpcbench_text_scores([broken], [broken])["cosine"].item() == pytest.approx(1.0)
    assert mmpcbench.mmpcbench_text_scores([], []).shape == (0, 5)
    assert "bertscore" in mmpcbench.mmpcbench_text_scores([], []).attrs["absent"]


def digest(picture):
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()[:16]


def test_resize_equals_opencv_byte_for_byte():
    for seed, (h, w, height, width, expected) in enumerate(PICTURES["resize"]):
        noise = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
        assert digest(mmpcbench.resize_like_opencv(noise, width, height)) == expected, (h, w, height, width)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for name, data in PICTURES["files"].items():
        (path / name).write_bytes(base64.b64decode(data))
    return path


@pytest.mark.parametrize("name", sorted(PICTURES["files"]))
def test_decoding_equals_opencv_byte_for_byte(folder, name):
    picture = mmpcbench.load_like_opencv(str(folder), name)
    assert [list(picture.shape), digest(picture)] == PICTURES["decoded"][name]


def test_picture_scores_equal_scikit_image_on_opencvs_pictures(folder):
    pairs = [(real, generated) for real, generated, _ in PICTURES["pairs"]]
    ours = mmpcbench.mmpcbench_image_scores(str(folder), str(folder), pairs)
    assert ours["reason"].isna().all()
    for name in ("psnr", "ssim", "mse"):
        expected = [values[name] for *_, values in PICTURES["pairs"]]
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-9)


def test_ssim_of_small_pictures_has_a_smaller_window():
    for h, w, expected in PICTURES["small"]:
        noise = np.random.default_rng(h * 100 + w)
        real, generated = (noise.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((h, w), (16, 16)))
        ours = mmpcbench.score_pixels(real[..., ::-1], generated[..., ::-1])  # OpenCV's order is BGR
        assert [ours[n] for n in expected] == pytest.approx(list(expected.values()), abs=1e-9)


@pytest.mark.parametrize("side", [1, 2])
def test_a_tiny_picture_is_the_crash_it_is(tmp_path, side):
    Image.new("RGB", (9, side)).save(tmp_path / "tiny.png")
    ours = mmpcbench.mmpcbench_image_scores(str(tmp_path), str(tmp_path), [("tiny.png", "tiny.png")]).iloc[0]
    assert ours["reason"] == mmpcbench.CRASH and ours[list(mmpcbench.IMAGE_SCORES)].isna().all()


def test_headers_pairs_and_bgr(tmp_path):
    Image.new("RGB", (70, 80), "red").save(tmp_path / "a.PNG", "PNG")
    Image.new("RGB", (70, 80), "red").save(tmp_path / "b.jpg", "WEBP")
    Image.new("RGB", (70, 80), "red").save(tmp_path / "c.webp")
    Image.new("RGB", (60, 80), "red").save(tmp_path / "small.png")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    root = str(tmp_path)
    assert mmpcbench.paired_names(root, root) == ["a.PNG", "b.jpg", "cut.jpg", "small.png"]
    seen = []
    pairs = [
        ("a.PNG", "a.PNG"),
        ("b.jpg", "a.PNG"),
        ("cut.jpg", "a.PNG"),
        ("small.png", "a.PNG"),
        ("../x", "a.PNG"),
    ]
    ours = mmpcbench.mmpcbench_image_scores(root, root, pairs, lpips=lambda a, b: seen.append((a, b)) or 0.25)
    assert ours["lpips"].iloc[0] == 0.25 and ours["lpips"].iloc[1:].isna().all() and len(seen) == 1
    assert seen[0][0][0, 0].tolist() == [-1, -1, 1]  # Red, handed over as blue
    assert np.isinf(ours["psnr"].iloc[0])
    assert ours["reason"].notna().tolist() == [False, True, True, False, True]
    assert set(ours.attrs["absent"]) == {"clip", "fid"}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_resize_keeps_a_flat_picture_flat_within_a_byte(h, w, height, width, value):
    made = mmpcbench.resize_like_opencv(np.full((h, w, 3), value, dtype=np.uint8), width, height)
    assert made.shape == (height, width, 3) and np.abs(made.astype(int) - value).max() <= 1
