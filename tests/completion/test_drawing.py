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
    draw,
    draw_in_parts,
    image_seed,
    plan_drawings,
    png_bytes,
    store_image,
)
from mmpc_analysis.completion.generators import load_generator
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.completion.own_models import own_model
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
    return draw(completions, str(out), draw_them=brush, progress=False, **{"device": "cpu"} | more)


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

draw(table([f"thing {i}" for i in range(200)]), sys.argv[1], draw_them=Slow(), batch_size=5, progress=False, device="cpu")
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


# ---------------------------------------------------------------- too large for the memory


class SmallGpu(Brush):
    "Runs out of memory above a number of pictures, with one of the errors that torch raises."

    def __init__(self, most, error=MemoryError, bad=()):
        super().__init__(bad)
        self.most, self.error = most, error

    def __call__(self, prompts, seeds):
        if len(prompts) > self.most:
            self.batches.append(list(zip(prompts, seeds, strict=True)))
            raise self.error
        return super().__call__(prompts, seeds)


OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})  # As torch.cuda.OutOfMemoryError is called
ERRORS = [
    RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    OutOfMemoryError("of another backend"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved_once_and_for_all(tmp_path, error):
    gpu, texts = SmallGpu(3, error), [f"thing {i}" for i in range(24)]
    with pytest.warns(UserWarning, match="8 pictures at once do not fit the memory, 4 from here on") as said:
        drawn = paint(table(texts), tmp_path / "small", gpu, batch_size=8)
    assert [len(batch) for batch in gpu.batches] == [8, 4] + [
        2
    ] * 12  # 2 * 12 = 24 pictures, two failed attempts
    words = [str(w.message) for w in said if "fit the memory" in str(w.message)]  # Others may warn meanwhile
    assert [word.split(", ")[1] for word in words] == ["4 from here on", "2 from here on"]
    whole = paint(table(texts), tmp_path / "large", Brush(), batch_size=8)
    assert drawn["image"].tolist() == whole["image"].tolist() and (drawn["outcome"] == "ok").all()


def test_a_picture_that_does_not_fit_alone_ends_the_run_and_keeps_what_was_drawn(tmp_path):
    texts = [f"thing {i}" for i in range(6)]
    paint(table(texts[:2]), tmp_path, Brush())
    with pytest.warns(UserWarning, match="1 from here on"), pytest.raises(BackendError, match="offload"):
        paint(table(texts), tmp_path, SmallGpu(0), batch_size=2)
    rest = Brush()
    paint(table(texts), tmp_path, rest)
    assert sorted(prompt for prompt, _ in drawings(rest)) == texts[2:]


def test_a_bad_prompt_does_not_shrink_the_batches(tmp_path):
    gpu, texts = SmallGpu(99, bad=("thing 4",)), [f"thing {i}" for i in range(24)]
    drawn = paint(table(texts), tmp_path, gpu, batch_size=8)
    assert (drawn["outcome"] == "engine_error").sum() == 1
    assert sorted(len(batch) for batch in gpu.batches)[-3:] == [8, 8, 8]


def test_a_bad_prompt_on_a_small_gpu_costs_its_own_row_only(tmp_path):
    gpu, texts = SmallGpu(4, bad=("thing 4",)), [f"thing {i}" for i in range(16)]
    with pytest.warns(UserWarning, match="4 from here on"):
        drawn = paint(table(texts), tmp_path, gpu, batch_size=8)
    assert drawn["outcome"].tolist() == ["engine_error" if i == 4 else "ok" for i in range(16)]


def test_what_fits_is_remembered_by_whoever_draws():
    sizes = []

    def small(prompts, seeds):
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise MemoryError
        return list(prompts)

    parts = draw_in_parts(small, "g")
    with pytest.warns(UserWarning):
        assert parts(["a", "b", "c"], [1, 2, 3]) == ["a", "b", "c"]
    assert parts(["d", "e"], [4, 5]) == ["d", "e"] and sizes == [3, 1, 1, 1, 1, 1]


# ---------------------------------------------------------------- parts of a catalogue, names of generators


def two_shards(out, items, **more):
    how = {"task": "text_to_image", "root": str(ROOT), "out": str(out), "progress": False, "device": "cpu"}
    return [
        complete(part, "standin-qwen-s", shard=name, **how, **more)
        for name, part in (("one", items.iloc[:3]), ("two", items.iloc[3:]))
    ]


@pytest.fixture(scope="module")
def eight_items():
    return pd.read_csv(str(ROOT / "items.csv"), dtype=str).query("split == 'test'").iloc[::40].head(8)


def content(out):
    rows = read_shards(f"{out}/completions", COMPLETIONS).drop(columns="seconds")
    return rows.sort_values("item_id", ignore_index=True)


@pytest.mark.parametrize("how", ["together", "one by one", "one part only", "twice"])
def test_parts_of_a_catalogue_add_up_to_the_whole(tmp_path, eight_items, how):
    whole = complete(
        eight_items, "standin-qwen-s", "text_to_image", root=str(ROOT), out=str(tmp_path / "whole"), progress=False,
        device="cpu",
    )  # fmt: skip
    paint(whole, tmp_path / "whole", Brush())
    first, second = two_shards(tmp_path / "parts", eight_items)
    both = pd.concat([first, second], ignore_index=True)
    asked = {
        "together": [both],
        "one by one": [second, first],
        "one part only": [second],
        "twice": [both, first],
    }
    for part in asked[how]:
        paint(part, tmp_path / "parts", Brush())
    expected = content(tmp_path / "whole")
    if how == "one part only":
        expected["image"] = expected["image"].where(expected["item_id"].isin(second["item_id"]))
    pd.testing.assert_frame_equal(content(tmp_path / "parts"), expected)
    assert len(list((tmp_path / "parts" / "completions").glob("*.parquet"))) == 2


def test_a_part_that_was_never_stored_is_added_and_nothing_is_lost(tmp_path):
    rows = table([f"thing {i}" for i in range(6)])
    paint(rows.head(4), tmp_path, Brush())
    paint(rows.tail(3), tmp_path, Brush())  # One of them again
    stored = read_shards(f"{tmp_path}/completions", COMPLETIONS)
    assert stored["item_id"].tolist() == rows["item_id"].tolist() and stored["image"].notna().all()


@pytest.mark.parametrize(
    "names", [("my model", "my_model"), ("a/b", "a_b"), ("Größe", "Größe "), ("..", ".")]
)
def test_two_generators_never_share_a_folder(tmp_path, names):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    cards = [own_model(str(copy), parameters=1, role="generator", name=name) for name in names]
    for card in cards:
        paint(table(["mug", "cup"]), tmp_path / "run", Brush(), generator=card, batch_size=1)
    folders = sorted((tmp_path / "run" / "pictures" / "drawings").iterdir())
    assert len(folders) == 2 and [len(list(folder.iterdir())) for folder in folders] == [1, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "run"}
    for card in cards:
        silent = Brush()
        paint(table(["mug", "cup"]), tmp_path / "run", silent, generator=card)
        assert silent.batches == []


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"precision": "float32"}, {"device": "auto"}])
def test_another_precision_draws_anew_and_another_name_of_it_does_not(tmp_path, change):
    paint(table(["mug"]), tmp_path, Brush())
    brush = Brush()
    paint(table(["mug"]), tmp_path, brush, **change)
    assert len(drawings(brush)) == (change.get("precision") == "bfloat16")


def test_whoever_answers_does_not_draw_and_whoever_draws_does_not_answer(tmp_path, eight_items):
    how = {"root": str(ROOT), "out": str(tmp_path / "run"), "progress": False}
    with pytest.raises(ValueError, match="one that answers questions, got the generator 'standin-sd3'"):
        complete(eight_items, GENERATOR, "text_to_image", **how)
    with pytest.raises(ValueError, match="a model that draws, got the mllm 'standin-gemma-s'"):
        paint(table(["mug"]), tmp_path / "run", Brush(), generator="standin-gemma-s")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- folders of any kind


@pytest.fixture(scope="module")
def four_drawn(tmp_path_factory, eight_items):
    "Completions of four items, drawn in a plain folder, and their scores."
    return drawn_and_scored(eight_items, str(tmp_path_factory.mktemp("plain")))


def drawn_and_scored(items, out):
    how = {"root": str(ROOT), "progress": False}
    asked = {"task": "text_to_image", "out": out, "device": "cpu", **how}
    drawn = draw(complete(items.head(4), "standin-qwen-s", **asked), out, device="cpu", progress=False)
    again = Brush()
    paint(complete(items.head(4), "standin-qwen-s", **asked), out, again)
    assert again.batches == []
    return drawn, score(drawn, items, run=out, metrics=["psnr", "ssim"], **how)


@pytest.mark.parametrize("kind", ["memory", "file", "brackets"])
def test_a_run_in_any_folder_is_completed_drawn_and_scored(tmp_path, eight_items, four_drawn, kind):
    out = {
        "memory": f"memory://bucket-{tmp_path.name}/run", "file": f"file://{tmp_path}/a run",
        "brackets": str(tmp_path / "run [v1]* {x}"),
    }[kind]  # fmt: skip
    drawn, scores = drawn_and_scored(eight_items, out)
    assert drawn["outcome"].eq("ok").all() and drawn["image"].notna().all()
    assert drawn["image"].tolist() == four_drawn[0]["image"].tolist()
    of_model = scores.query("model == 'standin-qwen-s'")
    assert len(of_model) == 8 and of_model["value"].notna().all() and of_model["outcome"].eq("ok").all()
    pd.testing.assert_frame_equal(scores, four_drawn[1])


def test_a_picture_that_went_missing_from_a_bucket_fails_one_row_and_says_why(
    tmp_path, eight_items, four_drawn
):
    out = f"memory://lost-{tmp_path.name}/run"
    drawn = draw(four_drawn[0], out, device="cpu", progress=False)
    import fsspec

    fs, folder = fsspec.core.url_to_fs(out)
    fs.rm_file(f"{folder}/{drawn['image'][1]}")
    fs.pipe_file(f"{folder}/{drawn['image'][2]}", b"")
    scores = score(drawn, eight_items, root=str(ROOT), run=out, metrics=["psnr"], progress=False)
    lost = scores.query("model == 'standin-qwen-s'").set_index("item_id").loc[drawn["item_id"], "outcome"]
    assert lost.tolist() == ["ok", "engine_error", "engine_error", "ok"]
    reasons = str(scores.attrs["set_aside"])
    assert "is not there" in reasons and "is empty (0 bytes)" in reasons


# ---------------------------------------------------------------- the stand-in generator


def prompts_of(n):
    items = pd.read_csv(str(ROOT / "items.csv"), dtype=str)
    return [f"{title.split(',')[0]}, on white" for title in items["title"].iloc[:: len(items) // n][:n]]


def test_a_copy_elsewhere_draws_the_same_and_reuses_the_drawings(tmp_path):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    texts = table(prompts_of(3))
    first = draw(texts, str(tmp_path / "run"), progress=False)
    assert load_generator.cache_info().currsize == 0  # Its memory is free for what follows
    silent = Brush()
    again = draw(texts, str(tmp_path / "run"), weights=str(copy), draw_them=silent, progress=False)
    assert again["image"].tolist() == first["image"].tolist() and silent.batches == []


@pytest.mark.parametrize("broken", ["removed", "cut", "foreign"])
def test_a_generator_without_whole_weights_ends_the_run_before_it_draws(tmp_path, broken):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    card, brush = own_model(str(copy), parameters=1, role="generator"), Brush()
    if broken == "removed":
        shutil.rmtree(copy / "transformer")
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if broken == "cut" else b"<html>" * 99)
    with pytest.raises(ValueError, match="transformer"):
        paint(table(["mug"]), tmp_path / "run", brush, generator=card)
    assert brush.batches == [] and not (tmp_path / "run").exists()


def test_a_pipeline_that_nobody_knows_ends_the_run(tmp_path):
    copy = shutil.copytree(find_weights(model_card(GENERATOR)), tmp_path / "copy")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "NoSuchPipeline"}))
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
