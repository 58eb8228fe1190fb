"""Drawing: the same noise for every model, each picture once, and nothing lost to a kill."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.completions import complete
from mmpc_analysis.completion.drawing import (
    absent_parts,
    call_settings,
    draw,
    draw_batch,
    image_seed,
    load_generator,
    plan_drawings,
    png_bytes,
    store_image,
)
from mmpc_analysis.completion.models import find_weights, model_card, own_model
from mmpc_analysis.scores.averages import paired_difference
from mmpc_analysis.scores.scoring import score
from mmpc_analysis.store import read_shards
from mmpc_analysis.tables import COMPLETIONS, validate

GENERATOR = "standin-sd3"
ROOT = files("mmpc_analysis") / "data" / "catalogue"


def table(texts, models=("a",), outcome="ok", task="text_to_image"):
    rows = [
        {"item_id": f"item-{i}", "category": "Toys_and_Games", "task": task, "model": model, "family": "F", "parameters": 1.0,
         "precision": "float32", "role": "model", "prompt": "p", "key": f"{model}-{i}", "outcome": outcome,
         "text": text, "image": None, "raw_text": text, "finish_reason": "stop"}
        for model in models for i, text in enumerate(texts)
    ]  # fmt: skip
    return validate(pd.DataFrame(rows), COMPLETIONS)


class Brush:
    "Paints a square whose colour is a hash of prompt and seed, and remembers its batches."

    def __init__(self, bad=()):
        self.batches, self.bad = [], bad

    def __call__(self, prompts, seeds):
        self.batches.append(list(zip(prompts, seeds, strict=True)))
        if set(prompts) & set(self.bad):
            raise RuntimeError("cannot draw")
        return [Image.new("RGB", (4, 4), tuple(hashlib.sha256(f"{p}{s}".encode()).digest()[:3]))
                for p, s in zip(prompts, seeds, strict=True)]  # fmt: skip


def paint(completions, out, brush, **more):
    return draw(completions, str(out), draw_them=brush, progress=False, **more)


def drawings(brush):
    return [pair for batch in brush.batches for pair in batch]


# ---------------------------------------------------------------- which noise


def test_seeds_depend_on_item_and_study_only():
    plan = plan_drawings(table(["mug", "cup"], models=("a", "b")), "g", seed=3)
    assert plan["seed"].tolist()[:2] == plan["seed"].tolist()[2:]
    assert plan_drawings(table(["mug", "cup"]), "g", seed=4)["seed"].tolist() != plan["seed"].tolist()[:2]


def test_a_seed_is_the_same_on_every_machine():
    expected = int(hashlib.sha256(b"picture\x1f0\x1fmug").hexdigest()[:15], 16)
    assert image_seed(0, "mug") == expected < 2**60


def test_seeds_spread_and_do_not_collide():
    seeds = [image_seed(0, f"item-{i}") for i in range(5000)]
    assert len(set(seeds)) == 5000 and abs(np.mean(np.array(seeds, dtype=float) / 2**60) - 0.5) < 0.02


def test_agreeing_models_share_a_picture_and_it_is_drawn_once(tmp_path):
    brush = Brush()
    drawn = paint(table(["mug", "cup"], models=("a", "b", "c")), tmp_path, brush)
    assert len(drawings(brush)) == 2 and drawn["image"].nunique() == 2
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


# ---------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("outcome", ["truncated", "invalid", "refused", "engine_error"])
def test_failed_prompts_draw_nothing_and_keep_their_outcome(tmp_path, outcome):
    brush = Brush()
    failed = table([None, None], outcome=outcome)
    drawn = paint(pd.concat([table(["mug"], models=("z",)), failed]), tmp_path, brush)
    assert drawn["image"].notna().tolist() == [True, False, False]
    assert drawn["outcome"].tolist() == ["ok", outcome, outcome] and len(drawings(brush)) == 1


def test_titles_are_not_drawn(tmp_path):
    brush = Brush()
    both = pd.concat([table(["Red Mug"], task="image_to_text"), table(["a red mug"])], ignore_index=True)
    drawn = paint(both, tmp_path, brush)
    assert [p for p, _ in drawings(brush)] == ["a red mug"] and drawn["image"].notna().tolist() == [
        False,
        True,
    ]
    assert drawn.drop(columns="image").equals(validate(both, COMPLETIONS).drop(columns="image"))
    assert len(read_shards(f"{tmp_path}/completions", COMPLETIONS)) == 1


def test_the_input_is_not_changed_and_nothing_is_fine(tmp_path):
    given = table(["mug"])
    before = given.copy()
    paint(given, tmp_path, Brush())
    pd.testing.assert_frame_equal(given, before)
    assert len(paint(given.head(0), tmp_path / "none", Brush())) == 0


def test_one_bad_prompt_is_one_failed_row_and_is_drawn_again(tmp_path):
    texts = [f"thing {i}" for i in range(9)]
    drawn = paint(table(texts), tmp_path, Brush(bad=("thing 4",)), batch_size=9)
    assert drawn["outcome"].tolist() == ["ok"] * 4 + ["engine_error"] + ["ok"] * 4
    assert drawn["image"].isna().tolist() == [i == 4 for i in range(9)] and drawn["text"][4] == "thing 4"
    brush = Brush()
    again = paint(table(texts), tmp_path, brush)
    assert [p for p, _ in drawings(brush)] == ["thing 4"] and (again["outcome"] == "ok").all()


# ---------------------------------------------------------------- stored once


def test_names_are_the_hash_of_the_bytes(tmp_path):
    picture = Image.new("RGB", (5, 5), "red")
    name = store_image(picture, str(tmp_path))
    data = (tmp_path / name).read_bytes()
    assert name == f"pictures/{hashlib.sha256(data).hexdigest()}.png" and data == png_bytes(picture)
    stamp = (tmp_path / name).stat().st_mtime_ns
    assert store_image(picture, str(tmp_path)) == name and (tmp_path / name).stat().st_mtime_ns == stamp
    assert Image.open(tmp_path / name).tobytes() == picture.tobytes()


def test_a_second_run_draws_nothing(tmp_path):
    texts = [f"thing {i}" for i in range(20)]
    first, brush = paint(table(texts), tmp_path, Brush(), batch_size=6), Brush()
    assert paint(table(texts), tmp_path, brush).equals(first) and brush.batches == []
    new = Brush()
    paint(table([*texts[:10], "another"]), tmp_path, new)
    assert [p for p, _ in drawings(new)] == ["another"]


def test_a_removed_picture_is_drawn_again(tmp_path):
    texts = [f"thing {i}" for i in range(5)]
    first = paint(table(texts), tmp_path, Brush())
    (tmp_path / first["image"][2]).unlink()
    brush = Brush()
    assert paint(table(texts), tmp_path, brush)["image"].tolist() == first["image"].tolist()
    assert [p for p, _ in drawings(brush)] == ["thing 2"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 2}])
def test_another_seed_or_number_of_steps_draws_anew(tmp_path, change):
    paint(table(["mug"]), tmp_path, Brush())
    brush = Brush()
    paint(table(["mug"]), tmp_path, brush, **change)
    assert len(drawings(brush)) == 1


def test_pictures_go_to_any_file_system():
    drawn = draw(table(["mug", "cup"]), "memory://drawn", draw_them=Brush(), progress=False)
    stored = read_shards("memory://drawn/completions", COMPLETIONS)
    assert stored["image"].tolist() == drawn["image"].tolist()
    silent = Brush()
    draw(table(["mug", "cup"]), "memory://drawn", draw_them=silent, progress=False)
    assert silent.batches == []


WORKER = """
import json, sys, time
sys.path[:0] = sys.argv[3].split(":")
import pandas as pd
from test_drawing import Brush, table
from mmpc_analysis.completion.drawing import draw

class Slow(Brush):
    def __call__(self, prompts, seeds):
        with open(sys.argv[2], "a") as log:
            log.write(json.dumps(list(prompts)) + "\\n")
        time.sleep(0.05)
        return super().__call__(prompts, seeds)

draw(table([f"thing {i}" for i in range(200)]), sys.argv[1], draw_them=Slow(), batch_size=5, progress=False)
"""


def start(out, log):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(out), str(log), os.pathsep.join(sys.path)], start_new_session=True
    )


def log_lines(path):
    return (
        [json.loads(line) for line in path.read_text().splitlines() if line.endswith("]")]
        if path.exists()
        else []
    )


def test_kill_9_loses_at_most_the_batch_in_flight(tmp_path):
    whole = paint(table([f"thing {i}" for i in range(200)]), tmp_path / "whole", Brush(), batch_size=5)
    rng, log, kills = random.Random(5), tmp_path / "log", 2
    for _ in range(kills):
        before, worker = len(log_lines(log)), start(tmp_path / "cut", log)
        while len(log_lines(log)) == before and worker.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.6))
        assert worker.poll() is None, "the worker ended before it was killed"
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    assert start(tmp_path / "cut", log).wait(300) == 0
    cut = read_shards(f"{tmp_path}/cut/completions", COMPLETIONS)
    pd.testing.assert_frame_equal(cut, read_shards(f"{tmp_path}/whole/completions", COMPLETIONS))
    times = pd.Series([text for batch in log_lines(log) for text in batch]).value_counts()
    assert len(times) == 200 and (times - 1).sum() <= 5 * kills
    names = [sorted(p.name for p in (tmp_path / n / "pictures").glob("*.png")) for n in ("whole", "cut")]
    assert names[0] == names[1] and len(whole) == 200


# ---------------------------------------------------------------- the stand-in generator


@pytest.fixture(scope="module")
def pipeline():
    return load_generator(find_weights(model_card(GENERATOR)))


def prompts_of(n):
    items = pd.read_csv(str(ROOT / "items.csv"), dtype=str)
    return [f"{title.split(',')[0]}, on white" for title in items["title"].iloc[:: len(items) // n][:n]]


def test_pictures_do_not_depend_on_their_batch(pipeline):
    texts, settings = prompts_of(7), call_settings(model_card(GENERATOR))
    seeds = [image_seed(0, text) for text in texts]
    together = [np.asarray(p, dtype=int) for p in draw_batch(pipeline, texts, seeds, settings)]
    alone = [
        np.asarray(draw_batch(pipeline, [t], [s], settings)[0], dtype=int)
        for t, s in zip(texts, seeds, strict=True)
    ]
    assert max(np.abs(a - b).max() for a, b in zip(together, alone, strict=True)) <= 2
    assert together[0].shape == (64, 64, 3) and np.ptp(together[0]) > 20


def test_the_same_batch_is_the_same_to_the_last_bit(pipeline):
    texts, settings = prompts_of(5), call_settings(model_card(GENERATOR))
    one, two = (draw_batch(pipeline, texts, [1, 2, 3, 4, 5], settings) for _ in range(2))
    assert [p.tobytes() for p in one] == [p.tobytes() for p in two]


def test_the_seed_matters(pipeline):
    settings = call_settings(model_card(GENERATOR))
    one, two = draw_batch(pipeline, ["Red Apple"] * 2, [1, 2], settings)
    assert one.tobytes() != two.tobytes()


def test_the_stand_in_is_called_with_four_steps_and_no_guidance():
    for name in (GENERATOR, "sd3.5-large-turbo"):
        settings = call_settings(model_card(name))
        assert settings["num_inference_steps"] == 4 and settings["guidance_scale"] == 0.0
    assert call_settings(model_card(GENERATOR), steps=2)["num_inference_steps"] == 2


def test_a_third_text_encoder_that_is_not_there_is_named(tmp_path):
    source = find_weights(model_card(GENERATOR))
    absent = absent_parts(source)
    assert all(value is None for value in absent.values())
    assert {"text_encoder_3", "tokenizer_3"} <= set(absent)
    assert absent_parts("owner/name") == {}


def test_a_copy_elsewhere_draws_the_same_and_reuses_the_drawings(tmp_path):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    texts = table(prompts_of(3))
    first = draw(texts, str(tmp_path / "run"), progress=False)
    settings = dict(model_card(GENERATOR).call)
    silent = Brush()
    again = draw(texts, str(tmp_path / "run"), weights=str(copy), draw_them=silent, progress=False)
    assert (
        again["image"].tolist() == first["image"].tolist()
        and silent.batches == []
        and isinstance(settings, dict)
    )


def test_a_generator_without_weights_ends_the_run(tmp_path):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    shutil.rmtree(copy / "transformer")
    card = own_model(str(copy), parameters=1, role="generator")
    with pytest.raises(BackendError, match="could not be loaded"):
        draw(table(["mug"]), str(tmp_path / "run"), generator=card, progress=False)


def test_drawn_pictures_are_nearer_than_shuffled_ones(tmp_path):
    # Prompts by a language model for every third held-out drawing of a product that training has seen.
    items = pd.read_csv(str(ROOT / "items.csv"), dtype=str, keep_default_na=False)
    asked = items[items["split"] == "test"].iloc[::3]
    assert set(asked["parent_id"]) <= set(items.loc[items["split"] == "train", "parent_id"])
    written = complete(
        asked, "standin-qwen-l", "text_to_image", root=str(ROOT), out=str(tmp_path), progress=False
    )
    drawn = draw(written, str(tmp_path), progress=False)
    metrics = ["mse", "psnr", "ssim", "effnet_cosine", "effnet_patch_cosine"]
    scores = score(drawn, items, root=str(ROOT), run=str(tmp_path), metrics=metrics, progress=False)
    lead = paired_difference(scores, others=["shuffled"]).query("scope == 'all'").set_index("metric")
    assert set(lead.index) == set(metrics) and (lead["n"] >= 90).all()
    assert (lead["low"] > 0).all(), lead[["estimate", "low", "high"]]
    assert (
        lead.loc["effnet_cosine", "estimate"] > 0.05 and lead.loc["psnr", "estimate"] > 2
    )  # 2.76 dB measured


def test_the_bar(tmp_path, capsys):
    draw(table(["mug", "cup"]), str(tmp_path), draw_them=Brush())
    assert "standin-sd3" in capsys.readouterr().err
