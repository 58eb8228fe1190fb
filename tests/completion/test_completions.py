"""The journal and `complete`: kills, resumption, failures, shared questions, memory."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.completion import completions as module
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.backends import ReplayBackend
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.completions import (
    answer_batches,
    complete,
    plan_questions,
    run_name,
)
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.completion.protocol import Answer
from mmpc_analysis.store import compact_lines, fixed_batches, read_shards, store_lines, stored_lines
from mmpc_analysis.tables import COMPLETIONS, validate

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
MODEL = "standin-gemma-s"


@pytest.fixture(scope="module")
def items():
    return (
        pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").head(60).reset_index(drop=True)
    )


@dataclass
class Parrot:
    "Answers at once, and remembers what it was asked."

    identity: str = "parrot"
    precision: str = "float32"
    batch_size: int = 8
    asked: list = field(default_factory=list)
    bad: tuple = ()  # Titles it fails on
    worst: bool = False  # Whether it cannot work at all

    def ask(self, requests):
        if self.worst:
            raise BackendError("no engine")
        said = [r.conversation[0]["content"][-1]["text"].split("Title: ")[-1] for r in requests]
        self.asked.append([r.key for r in requests])
        for text in said:
            if text in self.bad:
                raise RuntimeError(f"cannot do {text}")
        return [Answer(r.key, json.dumps({"prompt": text, "title": text}), "stop", 5.0, 3.0, 0.01)
                for r, text in zip(requests, said, strict=True)]  # fmt: skip


def run(items, out, backend, task="text_to_image", **more):
    return complete(items, MODEL, task, root=ROOT, out=str(out), backend=backend, progress=False, **more)


def timeless(rows):
    return rows.drop(columns="seconds").sort_values("item_id").reset_index(drop=True)


# ---------------------------------------------------------------- what is asked


def test_rows_are_a_valid_table_on_disk_and_in_hand(items, tmp_path):
    rows = run(items, tmp_path, Parrot())
    assert list(rows["item_id"]) == list(items["item_id"]) and (rows["outcome"] == "ok").all()
    assert list(rows["text"]) == [" ".join(t.split()) for t in items["title"]]
    stored = read_shards(f"{tmp_path}/completions", COMPLETIONS)
    pd.testing.assert_frame_equal(stored, validate(rows, COMPLETIONS))
    card = model_card(MODEL)
    assert set(rows["family"]) == {card.family} and set(rows["parameters"]) == {float(card.parameters)}


def test_only_hidden_modalities_are_asked_about(items, tmp_path):
    hidden = pd.DataFrame({"item_id": items["item_id"], "modality": ["text", "image", "image"] * 20})
    rows = run(items, tmp_path, Parrot(), hidden=hidden)
    assert set(rows["item_id"]) == set(items["item_id"][hidden["modality"] == "image"])
    nothing = run(items, tmp_path, Parrot(), hidden=hidden.iloc[:0])
    assert len(nothing) == 0 and list(nothing.columns)[:5] == list(COMPLETIONS.names)[:5]


def test_a_second_run_asks_nothing_and_gives_the_same(items, tmp_path):
    first, silent = run(items, tmp_path, Parrot()), Parrot()
    assert run(items, tmp_path, silent).equals(first) and silent.asked == []


def test_equal_questions_are_asked_once(items, tmp_path):
    twins = pd.concat([items, items.assign(item_id=items["item_id"] + "-twin")], ignore_index=True)
    parrot = Parrot()
    rows = run(twins, tmp_path, parrot)
    asked = [key for batch in parrot.asked for key in batch]
    assert len(asked) == len(set(asked)) == items["title"].nunique()
    assert rows["seconds"].sum() == pytest.approx(0.01 * len(asked))
    blind = Parrot()
    assert (
        len(run(items, tmp_path, blind, blind=True)) == 60
        and len(list(chain.from_iterable(blind.asked))) == 1
    )


def test_the_same_picture_under_two_names_is_one_question(items, tmp_path):
    for name in ("a.webp", "b.webp"):
        (tmp_path / name).write_bytes(Path(ROOT, items["image"][0]).read_bytes())
    two = items.head(2).assign(image=["a.webp", "b.webp"])
    keys = plan_questions(two, prompt_for("image_to_text", short=True), "e", str(tmp_path))["key"]
    assert keys.nunique() == 1


@pytest.mark.parametrize("change", ["title", "prompt", "identity", "tokens", "picture"])
def test_anything_that_can_change_the_answer_changes_the_key(items, tmp_path, change):
    task = "image_to_text" if change == "picture" else "text_to_image"
    prompt, one = prompt_for(task, short=True), items.head(1)
    (tmp_path / "p.webp").write_bytes(Path(ROOT, items["image"][0]).read_bytes())
    one = one.assign(image="p.webp")
    before = plan_questions(one, prompt, "engine", str(tmp_path))["key"][0]
    if change == "picture":
        (tmp_path / "p.webp").write_bytes(Path(ROOT, items["image"][1]).read_bytes())
    other = {
        "prompt": replace(prompt, text=prompt.text + "!"),
        "tokens": replace(prompt, max_new_tokens=65),
    }.get(change, prompt)
    one = one.assign(title="Another") if change == "title" else one
    engine = "other" if change == "identity" else "engine"
    assert plan_questions(one, other, engine, str(tmp_path))["key"][0] != before
    assert (
        plan_questions(items.head(1).assign(image="p.webp"), prompt, "engine", ROOT)["key"][0] != before
        or task != "image_to_text"
    )


def test_names_ids_and_other_columns_do_not(items, tmp_path):
    prompt = prompt_for("text_to_image", short=True)
    one, two = (
        items.head(3),
        items.head(3).assign(item_id=list("abc"), category="X", brand="Y", description="Z"),
    )
    assert list(plan_questions(one, prompt, "e", ROOT)["key"]) == list(
        plan_questions(two, prompt, "e", ROOT)["key"]
    )


def test_order_of_items_changes_neither_answers_nor_batches(items, tmp_path):
    one, two = Parrot(), Parrot()
    first = run(items, tmp_path / "a", one)
    second = run(items.sample(frac=1, random_state=0), tmp_path / "b", two)
    assert one.asked == two.asked
    assert timeless(first).equals(timeless(second))


def test_questions_of_similar_length_go_together(items, tmp_path):
    parrot = Parrot(batch_size=10)
    rows = run(items, tmp_path, parrot).set_index("key")["text"].str.len()
    lengths = [sorted(rows.loc[batch]) for batch in parrot.asked]
    assert all(a[0] >= b[-1] for a, b in pairwise(lengths))  # The longest first


# ---------------------------------------------------------------- failures


def test_one_bad_item_is_one_failed_row_and_is_asked_again(items, tmp_path):
    poison = items["title"][7]
    bad = Parrot(bad=(poison,), batch_size=32)
    rows = run(items, tmp_path, bad).set_index("item_id")
    assert rows["outcome"].value_counts().to_dict() == {"ok": 59, "engine_error": 1}
    failed = rows.loc[items["item_id"][7]]
    assert "cannot do" in failed["raw_text"] and pd.isna(failed["text"]) and pd.isna(failed["image"])
    good = Parrot()
    again = run(items, tmp_path, good)
    assert (again["outcome"] == "ok").all() and good.asked == [[failed["key"]]]


def test_unreadable_pictures_are_failed_rows(items, tmp_path):
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"not a picture")
    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 80).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-900])
    names = ["whole.png", "zero.png", "text.png", "cut.png", "missing.png", "../../etc/passwd", None, ""]
    some = items.head(len(names)).assign(image=names)
    parrot = Parrot()
    rows = complete(
        some,
        MODEL,
        "image_to_text",
        root=str(tmp_path),
        out=str(tmp_path / "run"),
        backend=parrot,
        progress=False,
    )
    assert list(rows["outcome"] == "engine_error") == [False] + [True] * 7
    assert rows["raw_text"].str.len().gt(5).all() and sum(map(len, parrot.asked)) == 1
    whole_again = complete(
        some.head(1),
        MODEL,
        "image_to_text",
        root=str(tmp_path),
        out=str(tmp_path / "run"),
        backend=Parrot(),
        progress=False,
    )
    assert len(whole_again) == 1


def test_missing_titles_are_failed_rows(items, tmp_path):
    rows = run(items.head(3).assign(title=["Mug", None, "  "]), tmp_path, Parrot())
    assert list(rows["outcome"]) == ["ok", "engine_error", "engine_error"]


def test_an_engine_that_cannot_work_ends_the_run_and_keeps_what_there_was(items, tmp_path):
    run(items.head(10), tmp_path, Parrot())
    with pytest.raises(BackendError, match="no engine"):
        run(items, tmp_path, Parrot(worst=True))
    rest = Parrot()
    run(items, tmp_path, rest)
    assert sum(map(len, rest.asked)) == 50


def test_a_failing_preparation_is_one_failed_row(items):
    class Staged(Parrot):
        def prepare(self, requests):
            if any(poison in r.conversation[0]["content"][-1]["text"] for r in requests):
                raise ValueError("no tensors")
            return requests

        def answer(self, prepared):
            return self.ask(prepared)

    poison = items["title"][3]
    staged = Staged(bad=(poison,))
    prompt = prompt_for("text_to_image", short=True)
    questions = plan_questions(items, prompt, "e", ROOT)
    rows = list(questions.itertuples(index=False))
    answers = [a for batch in answer_batches(staged, [rows[:30], rows[30:]], prompt, ROOT) for a in batch]
    assert [a.finish_reason for a in answers].count("error") == 1 and len(answers) == 60


@pytest.mark.parametrize("kept", [0, 64_000_000])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_picture_that_a_processor_refuses_is_one_failed_row(items, tmp_path, monkeypatch, kept, batch_size):
    monkeypatch.setattr(module, "KEPT_BYTES", kept)
    sizes = {
        "a.png": (64, 48),
        "long.png": (2400, 6),
        "tall.png": (6, 2400),
        "dot.png": (1, 1),
        "b.png": (48, 64),
    }
    for name, size in sizes.items():
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-900])  # Its header is whole
    names = [*sizes, "cut.png", None]
    some, known = items.head(len(names)).assign(image=names), [*names[:-1], "no picture"]
    where = {"root": str(tmp_path), "out": str(tmp_path / "run"), "progress": False, "batch_size": batch_size}
    rows = complete(some, "standin-qwen-s", "image_to_text", **where).set_index(pd.Index(known))
    failed = rows.index[rows["outcome"] == "engine_error"].tolist()
    assert failed == ["long.png", "tall.png", "cut.png", "no picture"]
    assert rows.loc[["long.png", "tall.png"], "raw_text"].str.contains("aspect ratio").all()
    assert "cannot be decoded" in rows.loc["cut.png", "raw_text"]
    alone = {**where, "out": str(tmp_path / "alone")}
    good = complete(
        some[[n in ("a.png", "dot.png", "b.png") for n in names]], "standin-qwen-s", "image_to_text", **alone
    )
    assert rows.loc[["a.png", "dot.png", "b.png"], "text"].tolist() == good["text"].tolist()
    # What failed is asked again, and nothing else: the long picture is cut to a size that it takes
    Image.effect_noise((600, 6), 80).convert("RGB").save(tmp_path / "long.png")
    parrot = Parrot(identity=load_backend("standin-qwen-s").identity)
    again = complete(some, "standin-qwen-s", "image_to_text", backend=parrot, **where).set_index(
        pd.Index(names)
    )
    assert sum(map(len, parrot.asked)) == 2 and again.loc["long.png", "outcome"] == "ok"
    assert again.loc["a.png", "text"] == rows.loc["a.png", "text"]


def test_a_long_picture_among_the_words_of_another_model(items, tmp_path):
    Image.effect_noise((2400, 6), 80).convert("RGB").save(tmp_path / "long.png")
    where = {"root": str(tmp_path), "out": str(tmp_path / "run"), "progress": False}
    rows = complete(items.head(1).assign(image="long.png"), MODEL, "image_to_text", **where)
    assert rows["outcome"].item() != "engine_error"  # Gemma takes any shape


@pytest.mark.parametrize("model", ["standin-qwen-s", MODEL])
def test_a_title_that_a_tokenizer_refuses_is_one_failed_row(items, tmp_path, model):
    titles = ["Red mug", "Mug \ud83d", "Blue cup"]
    some = items.head(3).assign(title=pd.Series(titles, dtype=object))
    where = {"root": ROOT, "out": str(tmp_path), "progress": False}
    rows = complete(some, model, "text_to_image", **where)
    assert (rows["outcome"] == "engine_error").tolist() == [False, True, False]
    assert "Error: " in rows["raw_text"][1] and len(read_shards(f"{tmp_path}/completions", COMPLETIONS)) == 3
    parrot = Parrot(identity=load_backend(model).identity)
    again = complete(some, model, "text_to_image", backend=parrot, **where)
    assert parrot.asked == [[rows["key"][1]]] and again["outcome"][1] == "ok"


def test_scaling_that_cannot_work_at_all_ends_the_run(items, tmp_path):
    class Broken(Parrot):
        def fit(self, picture):
            raise BackendError("no weights")

    with pytest.raises(BackendError, match="no weights"):
        run(items.head(3), tmp_path, Broken(), "image_to_text")


def test_no_truth_in_a_failed_row(items, tmp_path):
    rows = run(items, tmp_path, Parrot(bad=tuple(items["title"])))
    assert (rows["outcome"] == "engine_error").all() and rows["text"].isna().all()
    assert "error" not in set(rows["text"].dropna())


def test_text_that_cannot_be_stored_is_stored(items, tmp_path):
    class Odd(Parrot):
        def ask(self, requests):
            return [Answer(r.key, '{"prompt": "Mug \\ud83d"} \ud83d\x00', "stop") for r in requests]

    rows = run(items.head(2), tmp_path, Odd())
    assert set(rows["text"]) == {"Mug"}
    assert read_shards(f"{tmp_path}/completions", COMPLETIONS)["text"].tolist() == ["Mug", "Mug"]


# ---------------------------------------------------------------- kill and resume

WORKER = """
import json, sys, time
import pandas as pd
from mmpc_analysis.completion.protocol import Answer
from mmpc_analysis.completion.completions import complete

class Slow:
    identity, precision, batch_size = "slow", "float32", 5
    def ask(self, requests):
        with open(sys.argv[3], "a") as log:
            log.write(json.dumps([r.key for r in requests]) + "\\n")
        time.sleep(0.03)
        return [Answer(r.key, json.dumps({"prompt": r.key}), "stop", 1.0, 1.0, 0.006) for r in requests]

items = pd.read_parquet(sys.argv[1])
complete(items, "standin-gemma-s", "text_to_image", root=".", out=sys.argv[2], backend=Slow(), progress=False)
"""


def start(*arguments):
    return subprocess.Popen([sys.executable, "-c", WORKER, *map(str, arguments)], start_new_session=True)


def log_lines(path):
    return (
        [json.loads(line) for line in path.read_text().splitlines() if line.endswith("]")]
        if path.exists()
        else []
    )


def test_kill_9_loses_at_most_the_batch_in_flight(items, tmp_path):
    many = pd.concat(
        [items.assign(item_id=items["item_id"] + f"-{n}", title=items["title"] + f" {n}") for n in range(8)]
    )
    many.reset_index(drop=True).to_parquet(tmp_path / "items.parquet")
    assert start(tmp_path / "items.parquet", tmp_path / "whole", tmp_path / "whole.log").wait(300) == 0
    rng, kills, log = random.Random(7), 4, tmp_path / "cut.log"
    for _ in range(kills):
        before = len(log_lines(log))
        worker = start(tmp_path / "items.parquet", tmp_path / "cut", log)
        deadline = time.monotonic() + 120
        while len(log_lines(log)) == before and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        assert worker.poll() is None, "the worker ended before it was killed; give it more to do"
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        assert not (tmp_path / "cut" / "completions" / "text_to_image-standin-gemma-s.parquet").exists()
    assert start(tmp_path / "items.parquet", tmp_path / "cut", log).wait(300) == 0
    whole, cut = (read_shards(f"{tmp_path}/{name}/completions", COMPLETIONS) for name in ("whole", "cut"))
    pd.testing.assert_frame_equal(timeless(whole), timeless(cut))
    times = pd.Series([key for batch in log_lines(log) for key in batch]).value_counts()
    assert set(times.index) == set(whole["key"])
    assert (times - 1).sum() <= 5 * kills and times.max() <= 1 + kills
    assert [
        b for b in log_lines(tmp_path / "whole.log") if b not in log_lines(log)
    ] == []  # The same batches, whole
    assert not list((tmp_path / "cut").rglob("*.partial*"))[kills:]


def test_a_kill_while_compacting_does_no_harm(tmp_path):
    for n in range(4):
        store_lines(str(tmp_path), [{"key": f"{n}-{i}", "text": "x"} for i in range(3)])
    rows, parts = stored_lines(str(tmp_path))
    store_lines(str(tmp_path), [rows[key] for key in sorted(rows)], name="all")  # and here comes the kill
    assert stored_lines(str(tmp_path))[0] == rows and len(parts) == 4
    compact_lines(str(tmp_path))
    again, files_ = stored_lines(str(tmp_path))
    assert again == rows and len(files_) == 1


def test_a_half_written_file_is_not_read(items, tmp_path):
    first = run(items, tmp_path, Parrot())
    (folder,) = (tmp_path / "answers").iterdir()
    (folder / "abc.jsonl.12345678.partial").write_text('{"key": "x", "te')
    silent = Parrot()
    assert run(items, tmp_path, silent).equals(first) and silent.asked == []


def test_the_journal_lives_on_any_file_system():
    store_lines("memory://run/answers", [{"key": "a", "text": "é"}])
    store_lines("memory://run/answers", [{"key": "b", "text": "\u2028"}])
    compact_lines("memory://run/answers")
    rows, parts = stored_lines("memory://run/answers")
    assert rows == {"a": {"key": "a", "text": "é"}, "b": {"key": "b", "text": "\u2028"}} and len(parts) == 1


def test_complete_writes_to_any_file_system(items):
    rows = run(items.head(5), "memory://elsewhere", Parrot())
    assert len(read_shards("memory://elsewhere/completions", COMPLETIONS)) == len(rows) == 5


def test_fixed_batches_are_whole_after_any_prefix():
    keys = [f"{i:03d}" for i in range(103)]
    for done in range(0, 104, 10):
        assert fixed_batches(keys, set(keys[:done]), 10) == fixed_batches(keys, set(), 10)[done // 10 :]
    rng = np.random.default_rng(0)
    for _ in range(50):
        done = set(rng.choice(keys, rng.integers(0, 103), replace=False))
        left = fixed_batches(keys, done, 7)
        assert sorted(chain.from_iterable(left)) == sorted(set(keys) - done) and all(
            0 < len(b) <= 7 for b in left
        )


# ---------------------------------------------------------------- memory, order, progress


@pytest.mark.parametrize("kept", [0, 10_000, 64_000_000])
def test_pictures_in_memory_do_not_grow_with_the_catalogue(items, tmp_path, monkeypatch, kept):
    live, most, lock = set(), [], threading.Lock()
    ways = {name: getattr(module, name) for name in ("open_image", "decode_pixels")}
    used = dict.fromkeys(ways, 0)

    def watched(name, *given):
        picture = ways[name](*given)
        used[name] += 1
        with lock:
            live.add(id(picture))
            weakref.finalize(picture, live.discard, id(picture))
            most.append(len(live))
        return picture

    monkeypatch.setattr(module, "KEPT_BYTES", kept)
    for name in ways:
        monkeypatch.setattr(module, name, partial(watched, name))
    questions = plan_questions(items, prompt_for("image_to_text", short=True), "e", ROOT)
    assert questions["data"].dropna().map(len).sum() <= kept
    rows = complete(
        items,
        MODEL,
        "image_to_text",
        root=ROOT,
        out=str(tmp_path),
        backend=Parrot(batch_size=4),
        progress=False,
    )
    assert len(rows) == 60 and len(most) == 60 and max(most) <= 3 * 4
    assert [n > 0 for n in used.values()] == [kept < 64_000_000, kept > 0]


def test_the_bar_shows_rate_time_left_and_failures(items, tmp_path, capsys):
    complete(
        items, MODEL, "text_to_image", root=ROOT, out=str(tmp_path), backend=Parrot(bad=(items["title"][0],))
    )
    shown = capsys.readouterr().err
    assert (
        "standin-gemma-s text_to_image" in shown
        and "60/60" in shown
        and "item/s" in shown
        and "failed=1" in shown
    )
    complete(
        items, MODEL, "text_to_image", root=ROOT, out=str(tmp_path / "b"), backend=Parrot(), progress=False
    )
    assert capsys.readouterr().err == ""


def test_parts_of_a_catalogue_are_shards_that_add_up(items, tmp_path):
    whole = run(items, tmp_path / "whole", Parrot())
    for n, part in enumerate((items[:25], items[25:])):
        run(part, tmp_path / "parts", Parrot(), shard=f"{n:05d}")
    parts = read_shards(f"{tmp_path}/parts/completions", COMPLETIONS)
    pd.testing.assert_frame_equal(timeless(parts), timeless(whole))


@pytest.mark.parametrize("name", ["org/model", "../up", "a b:c", ".hidden", "ü"])
def test_run_names_are_file_names(name):
    made = run_name(name, "image_to_text", role="blind")
    assert "/" not in made and not made.startswith(".") and "-blind-" in made


def test_every_system_has_a_file_name_of_its_own():
    systems = [
        (model, task, precision, prompt, role)
        for model in ("m", "m-blind", "a/b", "a_b", "A_b")
        for task in ("image_to_text", "text_to_image")
        for precision in ("", "nf4", "float32")
        for prompt in ("", "p", "nf4")
        for role in ("model", "blind")
    ]
    assert len({run_name(*system).lower() for system in systems}) == len(systems)


def test_two_prompts_of_one_model_are_two_systems_on_disk(items, tmp_path):
    first = run(items, tmp_path, Parrot())
    other = replace(prompt_for("text_to_image"), id="another-1")
    second = run(items, tmp_path, Parrot(), prompt=other)
    assert len(list((tmp_path / "answers").iterdir())) == 2
    stored = read_shards(f"{tmp_path}/completions", COMPLETIONS)
    assert len(stored) == len(first) + len(second) and set(stored["prompt"]) == {
        *first["prompt"],
        "another-1",
    }


def test_batch_size_must_make_sense(items, tmp_path):
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        run(items, tmp_path, Parrot(), batch_size=-3)


# ---------------------------------------------------------------- the stand-ins themselves


@pytest.mark.parametrize("model", ["standin-qwen-s", "standin-gemma-s"])
@pytest.mark.parametrize("task", ["image_to_text", "text_to_image"])
def test_batches_of_any_size_give_the_same_table(items, tmp_path, model, task):
    backend = load_backend(model)
    tables = [complete(items.head(24), model, task, root=ROOT, out=str(tmp_path / str(n)), backend=backend, batch_size=n, progress=False)
              for n in (1, 5, 24)]  # fmt: skip
    for other in tables[1:]:
        pd.testing.assert_frame_equal(timeless(tables[0]), timeless(other))


def test_a_prompt_of_the_other_task_is_refused(items, tmp_path):
    for prompt in ("title-full-1", prompt_for("image_to_text")):
        with pytest.raises(ValueError, match="expected one for text_to_image"):
            run(items.head(2), tmp_path, Parrot(), prompt=prompt)


def test_an_old_run_can_be_replayed(items, tmp_path):
    backend = load_backend(MODEL)
    rows = complete(
        items.head(8),
        MODEL,
        "text_to_image",
        root=ROOT,
        out=str(tmp_path / "a"),
        backend=backend,
        progress=False,
    )
    (journal,) = (tmp_path / "a" / "answers").glob("*/*.jsonl")
    for stored in (rows, str(journal)):
        out = tmp_path / ("b" if isinstance(stored, str) else "c")
        again = complete(items.head(8), MODEL, "text_to_image", root=ROOT, out=str(out), progress=False,
                         backend=ReplayBackend(stored, backend.identity))  # fmt: skip
        pd.testing.assert_frame_equal(timeless(again), timeless(rows))


# ---------------------------------------------------------------- how sure a model was

SURE = ["logprob", "least_logprob"]


def journal(out):
    "Path and text of every file of answers of a run."
    return {path: path.read_text("utf-8") for path in Path(out).rglob("answers/*/*.jsonl")}


def test_log_probabilities_come_back_as_they_were(items, tmp_path):
    def ask(**more):
        return complete(
            items[:12], MODEL, "image_to_text", root=ROOT, out=str(tmp_path), progress=False, **more
        )

    rows = ask(logprobs=True)
    assert (rows["least_logprob"] <= rows["logprob"]).all() and (rows["logprob"] < 0).all()
    again = ask(logprobs=True)
    pd.testing.assert_frame_equal(again, rows)  # To the last bit, from the journal
    pd.testing.assert_frame_equal(ask(), rows)  # Answers are the same ones, so they are found without it too
    pd.testing.assert_frame_equal(read_shards(f"{tmp_path}/completions", COMPLETIONS)[SURE], rows[SURE])
    replay = ReplayBackend(next(iter(map(str, journal(tmp_path)))), load_backend(MODEL).identity)
    assert replay.offers.logprobs
    replayed = run(items[:12], tmp_path / "replayed", replay, "image_to_text")
    pd.testing.assert_frame_equal(replayed[SURE], rows[SURE])


def test_what_is_not_known_is_left_out_of_the_journal(items, tmp_path):
    rows = run(items[:8], tmp_path, Parrot())
    assert rows[SURE].isna().all(axis=None)
    lines = [line for text in journal(tmp_path).values() for line in text.splitlines()]

    def strict(constant):
        raise AssertionError(f"{constant} is no JSON")

    stored = [json.loads(line, parse_constant=strict) for line in lines]
    assert len(stored) == 8 and not any({*SURE} & {*line} for line in stored)
    parrot = Parrot()
    pd.testing.assert_frame_equal(run(items[:8], tmp_path, parrot), rows)
    assert parrot.asked == []


@pytest.mark.parametrize("old", ["without the fields", "with NaN as Python writes it", "one of each"])
def test_answers_of_old_runs_survive_a_resume(items, tmp_path, old):
    first = run(items[:6], tmp_path, Parrot())
    for i, (path, text) in enumerate(journal(tmp_path).items()):
        rows = [json.loads(line) for line in text.splitlines()]
        for n, row in enumerate(rows):
            if old.startswith("with NaN") or (old == "one of each" and (n + i) % 2):
                row |= {"input_tokens": float("nan"), "logprob": float("nan"), "least_logprob": float("nan")}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    class Sure(Parrot):
        def ask(self, requests):
            return [
                replace(a, logprob=-0.1, least_logprob=-0.30000000000000004) for a in super().ask(requests)
            ]

    sure = Sure()
    rows = run(items[:20], tmp_path, sure)
    assert sum(map(len, sure.asked)) == rows["key"].nunique() - first["key"].nunique()  # None twice
    new = ~rows["key"].isin(first["key"])
    assert rows.loc[~new, SURE].isna().all(axis=None) and new.any()
    assert (rows.loc[new, "least_logprob"] == -0.30000000000000004).all()
    parrot = Parrot()
    pd.testing.assert_frame_equal(run(items[:20], tmp_path, parrot)[SURE], rows[SURE])
    assert parrot.asked == []
    replay = ReplayBackend(str(next(iter(journal(tmp_path)))), "parrot")
    assert not replay.offers.logprobs
    told = [a.least_logprob for a in replay.answers.values() if a.least_logprob == a.least_logprob]
    assert told == [-0.30000000000000004] * int(rows.loc[new, "key"].nunique())


def test_what_a_power_cut_spoils_is_done_again(items, tmp_path):
    first = run(items, tmp_path, Parrot())
    (folder,) = (tmp_path / "answers").iterdir()
    whole = (folder / "all.jsonl").read_bytes()
    (folder / "all.jsonl").write_bytes(whole[:-40])
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "zeros.jsonl").write_bytes(b"\x00" * 100)
    parrot = Parrot()
    assert (
        timeless(run(items, tmp_path, parrot)).equals(timeless(first))
        and len(list(chain.from_iterable(parrot.asked))) == 1
    )
