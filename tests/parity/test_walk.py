"""Parity: MMPCBench's numbers to the digit, hostile input, and a walk that ends where scoring ends."""

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

import mmpc_analysis
from mmpc_analysis.catalogue.pictures import ImageError
from mmpc_analysis.parity import mmpcbench_scores as mmpcbench
from mmpc_analysis.parity.steps import fitted_cosine
from mmpc_analysis.parity.walk import defect_table, mmpcbench_image_tables, mmpcbench_text_tables
from mmpc_analysis.scores.averages import average
from mmpc_analysis.scores.scoring import score
from mmpc_analysis.tables import models_only

DATA = ROOT / "tests" / "data" / "parity"
PAIRS = json.loads((DATA / "text_pairs.json").read_text("utf-8"))
ADVERSARIAL = json.loads((DATA / "adversarial.json").read_text("utf-8"))["pairs"]
PICTURES = json.loads((DATA / "pictures.json").read_text("utf-8"))
CATALOGUE = Path(mmpc_analysis.__file__).parent / "data" / "catalogue"
ITEMS = pd.read_csv(CATALOGUE / "items.csv", dtype=str)


def as_columns(pairs):
    return [p["real"] for p in pairs], [p["generated"] for p in pairs]


# ---------------------------------------------------------------- texts


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


# ---------------------------------------------------------------- pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for name, data in PICTURES["files"].items():
        (path / name).write_bytes(base64.b64decode(data))
    return path


def digest(picture):
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()[:16]


def test_resize_equals_opencv_byte_for_byte():
    for seed, (h, w, height, width, expected) in enumerate(PICTURES["resize"]):
        noise = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
        assert digest(mmpcbench.resize_like_opencv(noise, width, height)) == expected, (h, w, height, width)


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


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    "Files that must not be decoded, under the names of pictures; whatever starts a process fails the test."
    (tmp_path / "vector.png").write_bytes(EPS)
    Image.new("1", (10_000, 10_000), 1).save(tmp_path / "many.png")  # Over the limit, under twice the limit
    Image.new("L", (10_000, 10_000)).save(tmp_path / "many.jpg")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "other.png", "PPM")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "good.png")
    started = []
    for module, name in ((subprocess, "Popen"), (os, "posix_spawn"), (os, "fork"), (os, "system")):
        monkeypatch.setattr(module, name, lambda *a, what=name, **k: started.append(what))
    yield tmp_path
    assert started == []


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", ["vector.png", "many.png", "many.jpg", "other.png"])
@pytest.mark.parametrize("any_format", [False, True])
def test_foreign_files_reach_no_decoder(foreign, name, any_format):
    with pytest.raises(ImageError, match=r"skips it|cannot be read as JPEG|over 89,478,485 pixels"):
        mmpcbench.load_like_opencv(str(foreign), name, any_format)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_walk_treats_a_refused_picture_as_unreadable_and_says_why(foreign):
    names = ["vector.png", "many.png", "good.png", "good.png"]
    items = pd.DataFrame({"item_id": list("abcd"), "category": "X", "image": names, "title": "t"})
    drawn = answers(items, task="text_to_image", image=["good.png", "good.png", "vector.png", "good.png"])
    folders = {"root": str(foreign), "run": str(foreign)}
    walk = defect_table(drawn, items, **folders)
    first = walk[(walk["metric"] == "mse") & (walk["category"] == "X")].set_index("name")
    assert first.loc[["reference", "formats", "size"], "n"].tolist() == [1, 1, 1]
    reasons = list(walk.attrs["unread"])
    assert sum(walk.attrs["unread"].values()) == 3
    assert any("over 89,478,485 pixels" in r for r in reasons) and any("read as JPEG" in r for r in reasons)
    tables = mmpcbench_image_tables(drawn, items, **folders)
    assert tables.detailed["valid_files"].tolist() == [1] and tables.failed.empty


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_resize_keeps_a_flat_picture_flat_within_a_byte(h, w, height, width, value):
    made = mmpcbench.resize_like_opencv(np.full((h, w, 3), value, dtype=np.uint8), width, height)
    assert made.shape == (height, width, 3) and np.abs(made.astype(int) - value).max() <= 1


# ---------------------------------------------------------------- MMPCBench's tables


def answers(items, model="m", task="image_to_text", **columns):
    rows = {
        "item_id": items["item_id"], "category": items["category"], "task": task, "model": model, "family": "F",
        "parameters": 1e9, "role": "model", "outcome": "ok", "text": items["title"], "image": None,
    }  # fmt: skip
    return pd.DataFrame(rows | columns).reset_index(drop=True)


def spoiled(items, seed=0):
    "Answers with words lost and added, and every kind of outcome."
    rng = np.random.default_rng(seed)
    texts = []
    for title in items["title"]:
        words = [w for w in title.split() if rng.random() < 0.7] + ["extra"] * int(rng.integers(0, 3))
        texts.append(" ".join(words))
    outcome = rng.choice(
        ["ok", "ok", "ok", "repaired", "invalid", "truncated", "refused", "engine_error"], len(items)
    )
    usable = np.isin(outcome, ["ok", "repaired"])
    return outcome, [t if u else None for t, u in zip(texts, usable, strict=True)]


SOME = ITEMS.groupby("category").head(25).reset_index(drop=True)
OUTCOME, TEXT = spoiled(SOME)
MIXED = answers(SOME, outcome=OUTCOME, text=TEXT)


def test_tables_hold_population_deviations_and_means_of_means():
    tables = mmpcbench_text_tables(MIXED, SOME)
    one = tables.detailed.iloc[0]
    part = MIXED[MIXED["category"] == one["category"]]
    stored = [t if t else "error" for t in part["text"]]
    values = mmpcbench.mmpcbench_text_scores(
        SOME.set_index("item_id").loc[part["item_id"], "title"].tolist(), stored
    )
    assert one["bleu_score_mean"] == pytest.approx(values["bleu"].mean(), abs=1e-12)
    assert one["cosine_sim_std"] == pytest.approx(np.std(values["cosine"]), abs=1e-12)
    summary = tables.summary.iloc[0]
    assert summary["bleu_score_std"] == pytest.approx(np.std(tables.detailed["bleu_score_mean"]), abs=1e-12)
    assert summary["total_items_processed"] == len(SOME) and summary["categories_evaluated"] == 9


def test_strict_asks_for_a_thousand_items_and_all_answers():
    items = pd.DataFrame(
        {"item_id": [f"i{k:04d}" for k in range(1000)], "category": "Toys", "title": "red toy car"}
    )
    full = answers(items)
    assert mmpcbench_text_tables(full, items, strict=True).failed.empty
    short = mmpcbench_text_tables(full.iloc[1:], items, strict=True)
    assert short.detailed.empty and "1 real items" in short.failed["error"].item()
    few = mmpcbench_text_tables(full.iloc[1:], items.iloc[1:], strict=True)
    assert "expected 1000" in few.failed["error"].item()
    assert len(mmpcbench_text_tables(full.iloc[1:], items).detailed) == 1


# ---------------------------------------------------------------- the walk


def last(walk):
    return walk.loc[walk.groupby(["model", "category", "metric"])["step"].idxmax()]


def check_end(walk, completions, items, task, metrics, **folders):
    "The walk ends at what scoring and averaging say, per category and pooled, with bounds."
    scores = score(completions, items, metrics=list(metrics), progress=False, **folders)
    means = average(models_only(scores))
    both = last(walk).merge(means, on=["task", "model", "category", "metric"], suffixes=("", "_ours"))
    assert (
        len(both) == len(metrics) * (completions["category"].nunique() + 1) * completions["model"].nunique()
    )
    for ours, theirs in (("value", "estimate"), ("low", "low_ours"), ("high", "high_ours"), ("n", "n_ours")):
        np.testing.assert_allclose(both[ours], both[theirs], rtol=0, atol=1e-12)


def test_the_text_walk_ends_at_our_scores():
    walk = defect_table(MIXED, ITEMS)
    check_end(
        walk, MIXED, ITEMS, "image_to_text", ("bleu", "jaccard"), root=str(CATALOGUE), run=str(CATALOGUE)
    )
    renamed = walk[walk["metric"] == "cosine"].assign(metric="tfidf_cosine")
    check_end(
        renamed, MIXED, ITEMS, "image_to_text", ("tfidf_cosine",), root=str(CATALOGUE), run=str(CATALOGUE)
    )


def test_the_text_walk_starts_at_mmpcbenchs_tables():
    walk = defect_table(MIXED, SOME)
    first, tables = walk[walk["step"] == 0], mmpcbench_text_tables(MIXED, SOME)
    for metric, name in (("bleu", "bleu_score"), ("cosine", "cosine_sim"), ("euclidean", "euclidean_sim")):
        part = first[first["metric"] == metric].set_index("category")
        detailed = tables.detailed.set_index("category")
        np.testing.assert_allclose(part.loc[detailed.index, "value"], detailed[f"{name}_mean"], atol=1e-12)
        np.testing.assert_allclose(part.loc[detailed.index, "sd"], detailed[f"{name}_std"], atol=1e-12)
        assert part.loc["all", "value"] == pytest.approx(tables.summary[f"{name}_mean"].item(), abs=1e-12)
        assert part.loc["all", "sd"] == pytest.approx(tables.summary[f"{name}_std"].item(), abs=1e-12)


def test_changes_add_up_and_every_step_is_there():
    walk = defect_table(MIXED, SOME)
    for (_, _, metric), part in walk.groupby(["model", "category", "metric"]):
        assert part["step"].tolist() == list(range(len(part)))
        if metric not in ("overlap", "euclidean"):
            assert part["change"].sum() == pytest.approx(
                part["value"].iloc[-1] - part["value"].iloc[0], abs=1e-12
            )
        else:
            assert part["name"].iloc[-1] == "dropped" and np.isnan(part["value"].iloc[-1])


def test_the_walk_does_not_depend_on_the_order_of_rows():
    again = defect_table(MIXED.sample(frac=1, random_state=1), SOME.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(defect_table(MIXED, SOME), again, atol=1e-9, rtol=0)


def draw(items, folder):
    "Drawn pictures of several sizes; the first is the true one, some are missing."
    names = []
    for i, (item, image) in enumerate(zip(items["item_id"], items["image"], strict=True)):
        with Image.open(CATALOGUE / image) as stored:
            picture = stored.convert("RGB")
        picture = picture if i % 9 == 0 else picture.resize((40 + i, 60)).resize((128, 100))
        if i % 4 != 3:
            picture.save(folder / f"{item}.png")
        names.append(f"{item}.png" if i % 4 != 3 else None)
    return names


def test_the_picture_walk_ends_at_our_scores(tmp_path):
    items = ITEMS[ITEMS["category"].isin(["Video_Games", "All_Beauty"])].groupby("category").head(12)
    names = draw(items, tmp_path)
    outcome = ["ok" if n else ("engine_error" if i % 8 == 3 else "invalid") for i, n in enumerate(names)]
    drawn = answers(items, task="text_to_image", image=names, outcome=outcome)
    folders = {"root": str(CATALOGUE), "run": str(tmp_path)}
    walk = defect_table(drawn, ITEMS, **folders)
    check_end(walk, drawn, ITEMS, "text_to_image", ("psnr", "ssim", "mse"), **folders)
    start = walk[(walk["step"] == 0)]
    assert start["value"].isna().all() and (start["n"] == 0).all()  # The catalogue's pictures are WebP
    formats = walk[(walk["name"] == "formats") & (walk["metric"] == "psnr")]
    assert np.isinf(formats["value"]).any()  # Every ninth picture is the true one


def test_a_crash_takes_its_category_and_no_other(tmp_path):
    items = pd.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "category": ["X", "X", "Y"],
            "image": ["a.png", "b.png", "c.png"],
            "title": "t",
        }
    )
    for name, size in (("a", (2, 9)), ("b", (20, 20)), ("c", (20, 20))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    drawn = answers(items, task="text_to_image", image=["c.png"] * 3)
    folders = {"root": str(tmp_path), "run": str(tmp_path)}
    walk = defect_table(drawn, items, **folders)
    mse = walk[walk["metric"] == "mse"].set_index(["category", "step"])["value"]
    assert np.isnan(mse["X", 0]) and mse["Y", 0] == 0.0 and mse["X", 2] == 0.0
    tables = mmpcbench_image_tables(drawn, items, **folders)
    assert tables.failed["error"].tolist() == [mmpcbench.CRASH] and tables.detailed["category"].tolist() == [
        "Y"
    ]


def test_what_cannot_be_compared_is_counted():
    odd = pd.concat([
        MIXED, MIXED.head(2), MIXED.head(1).assign(item_id="nowhere"), MIXED.head(1).assign(model="oracle"),
        MIXED.head(3).assign(role="blind"), MIXED.tail(1).assign(model="n", outcome="lost"),
    ])  # fmt: skip
    walk = defect_table(odd, SOME)
    assert sum(walk.attrs["set_aside"]["image_to_text"].values()) == 8
    pd.testing.assert_frame_equal(walk, defect_table(MIXED, SOME))
    assert "bertscore" in walk.attrs["absent"]
    assert defect_table(MIXED.iloc[:0], SOME).empty


def test_fitted_cosine_equals_scikit_learn():
    "With a vectoriser that also knows the candidates' words, whose idf is that of an unseen term."
    corpus = SOME["title"].tolist()
    candidates = [f"{t} unheard" for t in corpus[1:] + corpus[:1]]
    split = mmpcbench.mmpcbench_clean_text
    ours = fitted_cosine(corpus, candidates, corpus, lambda t: split(t).split())
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", norm=None, use_idf=False)
    counts = vectoriser.fit([split(t) for t in corpus + candidates]).transform([split(t) for t in corpus])
    idf = np.log((1 + len(corpus)) / (1 + (counts > 0).sum(axis=0))) + 1
    a, b = (
        vectoriser.transform([split(t) for t in texts]).toarray() * np.asarray(idf)
        for texts in (corpus, candidates)
    )
    expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)
