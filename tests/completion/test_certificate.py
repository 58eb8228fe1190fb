"""Certificates: batches against single questions, engines that fail, servers that count, and runs that are taken up again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from starts import BOS, WRITTEN, with_start

from mmpc_analysis import store
from mmpc_analysis.completion import inputs
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.backends import ReplayBackend, TransformersBackend
from mmpc_analysis.completion.certificate import (
    certificate_row,
    certify,
    certify_run,
    keep_certificates,
    upper_limit,
)
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.completions import complete
from mmpc_analysis.completion.models import ModelCard, model_card
from mmpc_analysis.completion.prompts import own_prompt
from mmpc_analysis.completion.protocol import Answer
from mmpc_analysis.completion.tokenisation import one_step
from mmpc_analysis.tables import CERTIFICATES, validate

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
MODEL = "standin-gemma-s"


@pytest.fixture(scope="module")
def items():
    return (
        pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").head(60).reset_index(drop=True)
    )


@pytest.fixture(scope="module")
def engine():
    return load_backend(MODEL)


@dataclass
class Server:
    "Answers with the title, counts tokens as it is told, and remembers what it was asked."

    identity: str = "server"
    precision: str = "server"
    batch_size: int = 8
    count: Callable = lambda request: float("nan")
    fails: Callable = lambda request: None
    asked: list = field(default_factory=list)

    def ask(self, requests):
        for request in requests:
            self.asked.append(request.key)
            self.fails(request)
        said = [r.conversation[0]["content"][-1]["text"].split("Title: ")[-1] for r in requests]
        return [Answer(r.key, json.dumps({"prompt": text, "title": text}), "stop", self.count(r), 3.0, 0.01)
                for r, text in zip(requests, said, strict=True)]  # fmt: skip


def run(items, out, backend, task="text_to_image", **more):
    return complete(items, MODEL, task, root=ROOT, out=str(out), backend=backend, progress=False, **more)


def row_of(certificate):
    return validate(pd.DataFrame([certificate_row(certificate)]), CERTIFICATES).iloc[0]


def test_certificate_counts_changed_answers(items, tmp_path):
    backend = load_backend(MODEL)
    rows = complete(
        items.head(20), MODEL, "image_to_text", root=ROOT, out=str(tmp_path), backend=backend, progress=False
    )
    fine = certify(rows, items, root=ROOT, backend=backend, sample=6)
    assert (fine.n, fine.changed, fine.share) == (6, 0, 0.0) and 0 < fine.high < 0.5
    assert certify(rows, items, root=ROOT, backend=backend, sample=6, seed=0).answers.equals(fine.answers)
    tampered = rows.assign(raw_text=["?"] * 5 + list(rows["raw_text"][5:]))
    broken = certify(tampered, items, root=ROOT, backend=backend, sample=None)
    assert (broken.n, broken.changed) == (20, 5) and broken.share == 0.25


def test_certificate_of_a_prompt_of_ones_own(items, tmp_path):
    own = own_prompt("mine", "text_to_image", 'Say {"prompt": "..."}')
    rows = run(items.head(4), tmp_path, Server(), prompt=own)
    with pytest.raises(ValueError, match="there is no prompt 'mine'"):
        certify(rows, items, root=ROOT, backend=Server())
    assert certify(rows, items, root=ROOT, backend=Server(), prompt=own).changed == 0


def test_certificate_refuses_another_run(items, tmp_path):
    rows = run(items.head(4), tmp_path, Server())
    with pytest.raises(ValueError, match="have another key"):
        certify(rows, items, root=ROOT, backend=Server(identity="another"))
    with pytest.raises(ValueError, match="certify_run takes several"):
        certify(pd.concat([rows, rows.assign(task="image_to_text")]), items, root=ROOT, backend=Server())


def test_upper_limit_covers_as_it_says():
    rng, share, n = np.random.default_rng(3), 0.1, 40
    limits = [upper_limit(int(k), n) for k in rng.binomial(n, share, 4000)]
    assert np.mean(np.array(limits) >= share) >= 0.94


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("adds_special", "template"), [(True, WRITTEN), (False, "")], ids=["doubled", "missing"]
)
@pytest.mark.parametrize("family", BOS)
def test_a_run_in_two_steps_has_a_certificate_that_fails(tmp_path, items, monkeypatch, family, adds_special, template):  # fmt: skip
    source = with_start(tmp_path, family, True, template)
    shutil.copy(Path(model_card(f"standin-{family}-s").folder, "model.safetensors"), source)
    card = ModelCard("mine", "own", "mllm", None, folder=str(source), embedded=True)
    found = []
    for way in ("right", "naive"):
        if way == "naive":
            monkeypatch.setattr(inputs, "begin_once", lambda texts, tokenizer: (texts, adds_special))
        backend = TransformersBackend(str(source))
        parts = [complete(items.head(5), card, task, root=ROOT, out=str(tmp_path / way), backend=backend, progress=False)
                 for task in ("image_to_text", "text_to_image")]  # fmt: skip
        found.append(
            certify_run(backend, pd.concat(parts), items, root=ROOT, out=str(tmp_path / way), card=card)
        )
    right, naive = found
    assert right["questions"].tolist() == [12, 11] and right["n"].tolist() == [
        5,
        5,
    ]  # With the blind question and probes
    assert (
        not right[["differ", "miscounted", "uncompared", "errors"]].any().any()
        and right["counted"].eq(5).all()
    )
    assert (naive["differ"] == naive["questions"]).all() and (naive["miscounted"] == 5).all()
    assert naive["difference"].str.contains("the first that differs is number").all()


def test_tokens_that_a_server_counts_are_held_against_what_is_due(items, tmp_path, engine):
    def due(request):
        return float(one_step(request, engine.engine.processor, engine.engine.special)["input_ids"].shape[1])

    for name, count, wrong in (
        ("right", due, 0),
        ("two starts", lambda r: due(r) + 1, 6),
        ("no pictures", lambda r: due(r) - 16, 6),
        ("silent", lambda r: float("nan"), None),
    ):
        server = Server(identity=name, count=count)
        rows = run(items.head(6), tmp_path / name, server, "image_to_text")
        row = row_of(certify(rows, items, root=ROOT, backend=server))
        assert (row["questions"], row["differ"], row["n"], row["changed"]) == (0, 0, 6, 0)
        assert (row["counted"], row["miscounted"]) == ((0, 0) if wrong is None else (6, wrong))
    assert row["difference"] == "" and np.isclose(row["high"], 1 - 0.05 ** (1 / 6))


def test_the_blind_question_is_counted_too(items, tmp_path, engine):
    parts = [run(items.head(4), tmp_path, engine, blind=blind) for blind in (False, True)]
    row = row_of(certify(pd.concat(parts), items, root=ROOT, backend=engine))
    assert (row["counted"], row["miscounted"], row["n"]) == (5, 0, 4)


def test_an_item_without_a_picture_was_no_question(items, tmp_path, engine):
    gaps = items.head(5).assign(image=lambda rows: rows["image"].mask(rows.index < 2))
    rows = run(gaps, tmp_path, engine, "image_to_text")
    assert rows["outcome"].eq("engine_error").sum() == 2
    row = row_of(certify(rows, gaps, root=ROOT, backend=engine))
    assert (row["n"], row["errors"], row["counted"]) == (3, 0, 3)


# ---------------------------------------------------------------- engine errors


def fail_on(keys, error=RuntimeError):
    def fails(request):
        if request.key in keys:
            raise error(f"cannot do {request.key}")

    return fails


def test_a_single_question_that_fails_is_neither_same_nor_changed(items, tmp_path):
    rows = run(items.head(8), tmp_path, Server())
    bad = list(rows["key"][:3])
    found = certify(rows, items, root=ROOT, backend=Server(fails=fail_on(bad)))
    assert (found.n, found.changed, found.errors, found.stopped) == (5, 0, 3, "")
    assert set(found.answers.loc[found.answers["state"] == "error", "key"]) == set(bad)
    tampered = rows.assign(raw_text=rows["raw_text"].mask(rows.index.isin([0, 4, 5]), "?"))
    again = certify(tampered, items, root=ROOT, backend=Server(fails=fail_on(bad)))
    assert (again.n, again.changed, again.errors) == (5, 2, 3) and again.share == 0.4


def test_a_question_that_failed_in_its_batch_is_not_asked_again(items, tmp_path):
    titles = list(items["title"][:8])
    bad = {titles[1], titles[6]}
    keys = run(items.head(8), tmp_path / "first", Server())["key"]
    rows = run(items.head(8), tmp_path, Server(fails=fail_on([keys[1], keys[6]])))
    assert rows["outcome"].eq("engine_error").sum() == len(bad)
    server = Server()
    found = certify(rows, items, root=ROOT, backend=server)
    assert (found.n, found.errors) == (6, 2) and not {keys[1], keys[6]} & set(server.asked)
    few = certify(rows, items, root=ROOT, backend=Server(), sample=6)
    assert (few.n, few.errors) == (6, 0)  # Answered questions come first


def test_an_engine_that_answers_nothing_or_says_error_is_counted(items, tmp_path):
    rows = run(items.head(4), tmp_path, Server())

    class Mute(Server):
        def ask(self, requests):
            return []

    class Sorry(Server):
        def ask(self, requests):
            return [Answer(r.key, "HTTP 500", "error") for r in requests]

    for backend in (Mute(), Sorry()):
        row = row_of(certify(rows, items, root=ROOT, backend=backend))
        assert (row["n"], row["changed"], row["errors"], row["stopped"]) == (0, 0, 4, "")
        assert np.isnan(row["share"]) and np.isnan(row["high"])


def test_an_engine_that_dies_has_a_certificate_that_says_so(items, tmp_path):
    rows = run(items.head(8), tmp_path, Server())
    server = Server()

    def dies(request):
        if len(server.asked) > 3:
            raise BackendError("the server is gone")

    server.fails = dies
    found = certify(rows, items, root=ROOT, backend=server)
    assert (found.n, found.changed, found.errors, found.stopped) == (3, 0, 0, "the server is gone")
    assert len(server.asked) == 4  # Nothing is asked of a dead engine
    assert row_of(found)["stopped"] == "the server is gone"


def test_an_engine_that_cannot_be_loaded_has_one_too(items, tmp_path, engine):
    rows = run(items.head(3), tmp_path, engine)
    folder = shutil.copytree(engine.source, tmp_path / "model")
    (folder / "tokenizer.json").write_text("{")
    broken = TransformersBackend(str(folder))
    vars(broken)["identity"] = engine.identity
    found = certify(rows, items, root=ROOT, backend=broken)
    assert found.n == 0 and "could not be loaded" in found.stopped and row_of(found)["questions"] == 0


def test_a_replay_is_not_held_against_itself(items, tmp_path, engine):
    rows = run(items.head(3), tmp_path, engine)
    row = row_of(certify(rows, items, root=ROOT, backend=ReplayBackend(rows, engine.identity)))
    assert row["n"] == 0 and "replay" in row["stopped"]


# ---------------------------------------------------------------- a run


def test_a_run_has_a_row_for_each_task_and_prompt_and_asks_once(items, tmp_path):
    own = [own_prompt(name, "text_to_image", f'{name}: {{"prompt": "..."}}') for name in ("curt", "long")]
    server = Server()
    parts = [
        run(items.head(6), tmp_path, server, prompt=prompt, blind=blind)
        for prompt in own
        for blind in (False, True)
    ]
    parts.append(run(items.head(6), tmp_path, server, "image_to_text"))
    server.asked.clear()
    given = {"root": ROOT, "out": str(tmp_path), "sample": 4}
    first = certify_run(server, pd.concat(parts), items, prompts=own, **given)
    assert set(zip(first["task"], first["prompt"], strict=True)) == {("text_to_image", "curt"), ("text_to_image", "long"), ("image_to_text", "title-short-1")}  # fmt: skip
    assert first["n"].tolist() == [4, 4, 4] and len(server.asked) == 12
    server.asked.clear()
    again = certify_run(server, pd.concat(parts), items, prompts=own, **given)
    pd.testing.assert_frame_equal(again, first)
    assert server.asked == []
    pd.testing.assert_frame_equal(
        store.read_shards(f"{tmp_path}/certificates", CERTIFICATES).sort_values("key", ignore_index=True),
        first.sort_values("key", ignore_index=True),
    )
    changed = pd.concat([parts[0].assign(raw_text="?"), *parts[1:]])
    third = certify_run(server, changed, items, prompts=own, **given)
    assert third["changed"].tolist() == [4, 0, 0] and len(server.asked) == 4  # One row is made again
    keep_certificates(parts[-1], str(tmp_path))
    assert len(store.read_shards(f"{tmp_path}/certificates", CERTIFICATES)) == 1
    assert store.read_manifest(f"{tmp_path}/certificates")["rows"] == 1
    with pytest.raises(ValueError, match="there is no prompt 'curt'"):
        certify_run(server, pd.concat(parts), items, root=ROOT, out=str(tmp_path / "new"))


def test_a_certificate_that_was_stopped_is_tried_again(items, tmp_path):
    rows = run(items.head(4), tmp_path, Server())
    given = {"root": ROOT, "out": str(tmp_path)}
    dead = Server(fails=fail_on(rows["key"].tolist(), BackendError))
    assert certify_run(dead, rows, items, **given)["stopped"].str.startswith("cannot do").all()
    assert certify_run(Server(), rows, items, **given)[["n", "stopped"]].iloc[0].tolist() == [4, ""]


def test_a_remote_run_keeps_its_certificates(items, tmp_path):
    rows = run(items.head(3), tmp_path, Server())
    for _ in range(2):
        server = Server()
        row = certify_run(server, rows, items, root=ROOT, out="memory://certified/run")
    assert row["n"].tolist() == [3] and server.asked == []


def test_nothing_asked_is_no_certificate(items, tmp_path):
    rows = run(items.head(2), tmp_path, Server(), blind=True)
    assert certify_run(Server(), rows, items, root=ROOT, out=str(tmp_path)).empty
    assert certify_run(Server(), rows.iloc[:0], items, root=ROOT, out=str(tmp_path)).empty
    keep_certificates(rows, str(tmp_path))
    assert not (tmp_path / "certificates").exists()
