"MMPCBench's tables, and a walk that ends where scoring ends."

import os
import subprocess

import numpy as np
import pandas as pd
import pytest
from parity_cases import CATALOGUE, ITEMS, SOME
from PIL import Image

from mmpc_analysis.catalogue.pictures import ImageError
from mmpc_analysis.parity import mmpcbench_scores as mmpcbench
from mmpc_analysis.parity.walk import defect_table, mmpcbench_image_tables, mmpcbench_text_tables
from mmpc_analysis.scores.averages import average
from mmpc_analysis.scores.scoring import score
from mmpc_analysis.tables import models_only

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
