"""The study that the package is named after, as it ships: read, forecast without data, and run end to end with stand-in weights."""

import http.server
import importlib.util
import json
import re
import threading
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT

from mmpc_analysis import store, tables
from mmpc_analysis.catalogue import amazon_2023, review_purchases
from mmpc_analysis.completion import completions
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.study.asked import check_study
from mmpc_analysis.study.choices import MemorisationChoice
from mmpc_analysis.study.declaration import read_study, shipped_studies, study_from, study_toml
from mmpc_analysis.study.forecast import forecast
from mmpc_analysis.study.forecast_words import forecast_text
from mmpc_analysis.study.places import Machine
from mmpc_analysis.study.stages import STAGES, run_study

NINE = [
    "All_Beauty",
    "Toys_and_Games",
    "Video_Games",
    "Home_and_Kitchen",
    "Electronics",
    "Industrial_and_Scientific",
    "Office_Products",
    "Musical_Instruments",
    "Arts_Crafts_and_Sewing",
]
SIX = ["qwen2.5-vl-7b", "qwen2.5-vl-32b", "qwen2.5-vl-72b", "gemma-3-4b", "gemma-3-12b", "gemma-3-27b"]
# Metrics of embeddings are proven elsewhere, and take most of the time
METRICS = ["chrf", "token_f1", "mse", "ssim"]
SERVER = Machine(32, 256.0, (("NVIDIA A100", 79.0),), lambda folder: 10_000.0)


def table(out, declared):
    return store.read_shards(f"{out}/{declared.name}", declared)


@pytest.fixture(scope="module")
def amazon_files():
    "The generator of made-up files in the layout of Amazon Reviews 2023."
    spec = importlib.util.spec_from_file_location(
        "make_amazon_files", ROOT / "tools/fixtures/make_amazon_files.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    "A folder that a server of this machine serves, its address, and what it was asked for."
    folder, asked = tmp_path_factory.mktemp("served"), []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def on_standins(given, folder):
    "The shipped study with nothing replaced but what a small machine without the data needs."
    smallest = {"qwen": "standin-qwen-s", "gemma": "standin-gemma-s"}
    weights = {}
    for name in SIX:
        standin, published = model_card(smallest[re.match("[a-z]+", name)[0]]), model_card(name)
        weights[name] = {
            "source": find_weights(standin),
            "family": published.family,
            "parameters": published.parameters,
        }
    prompts = {
        "image_to_text": ["title-short-1"],
        "text_to_image": ["prompt-short-1"],
    }  # Stand-ins read 512 tokens
    changes = {
        "models": weights,
        "catalogue": {"folder": str(folder), "per_category": 5, "buyers": False, "private": True},
        "missing": {"rates": [0.1, 0.3]},  # A question takes as long as it takes
        "completion": {"quantisation": "", "device": "cpu", "batch_size": 64, "prompts": prompts},
        "drawing": {"generator": "standin-sd3", "batch_size": 32, "device": "cpu"},
        "scores": {"draws": 50, "device": "cpu", "metrics": METRICS},
        "memorisation": {"items": 1},
        "recommendation": {"seeds": 1, "epochs": 1, "rates": [1.0], "fills": ["zeros"], "workers": 1},
    }
    return {
        key: value | changes.get(key, {}) if isinstance(value, dict) else value
        for key, value in given.items()
    } | {"models": weights}


@pytest.fixture(scope="module")
def finished(amazon_files, served, tmp_path_factory):
    pictures, address, _ = served
    raw, out, lines = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("run"), []
    how = {"pictures": pictures, "named_by_item": False, "address": address}
    amazon_files.write_amazon(raw, products=10, reviews=400, users=40, **how)
    given = tomllib.loads(shipped_studies()["mmpcbench"].read_text(encoding="utf-8"))
    study = study_from({"name": "mmpcbench"} | on_standins(given, raw))
    run = run_study(study, str(out), progress=False, say=lines.append)
    return out, run, lines, study


def test_the_file_is_a_study_that_can_be_checked_and_survives_its_own_writing(tmp_path):
    study = read_study("mmpcbench")
    check_study(study)
    (tmp_path / "copy.toml").write_text(study_toml(study), encoding="utf-8")
    assert read_study(tmp_path / "copy.toml") == study
    assert study.catalogue.categories == tuple(NINE) and study.completion.models == tuple(SIX)
    assert (study.missing.rates, study.recommendation.rates) == ((0.2, 0.5, 0.8, 1.0),) * 2
    assert set(study.recommendation.recommenders) == {"vbpr", "bm3", "freedom", "mmgcn"}
    assert (study.drawing.generator, study.drawing.steps) == ("sd3.5-large-turbo", 4)
    assert study.completion.tasks == tuple(tables.TASKS) and study.completion.quantisation == "nf4"


def test_a_bare_name_is_the_shipped_study_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mmpcbench").mkdir()  # Somebody's data
    assert (
        read_study("mmpcbench") == read_study(Path("mmpcbench")) == read_study(shipped_studies()["mmpcbench"])
    )
    Path("mmpcbench").rmdir()
    Path("mmpcbench").write_text('name = "mine"')
    assert read_study("mmpcbench").name == "mine"
    with pytest.raises(
        FileNotFoundError, match=r"there is no study file 'mmpcbech'.*comes with the package: mmpcbench"
    ):
        read_study("mmpcbech")


def test_its_needs_are_told_without_its_data():
    found = forecast(read_study("mmpcbench"), machine=SERVER)
    assert (found.items, found.fetched, found.unread) == (9000, 9000, "amazon-2023")
    asked = found.questions.groupby(["task", "model"])["questions"].sum()
    assert set(asked["text_to_image"]) == {9001} and len(asked) == 12  # Every item, and blind once
    assert set(asked["image_to_text"]) == {
        9001 + 2 * 100 * 9
    }  # A hundred of each category by name, in two ways
    with_picture = found.work[found.work["task"] == "image_to_text"].set_index("model")["input_tokens"]
    silent = replace(read_study("mmpcbench"), memorisation=MemorisationChoice())
    without = forecast(silent, machine=SERVER).work
    without = without[without["task"] == "image_to_text"].set_index("model")["input_tokens"]
    # 900 questions of 10,801 show no picture, of 256 tokens to Gemma and 324 to Qwen
    for name in SIX:
        tokens = 256 if "gemma" in name else 324
        assert without[name] - with_picture[name] == pytest.approx(tokens * 900 / 10_801)
    assert found.questions["drawings"].sum() == 9000 * 6 * 2
    assert found.work["hours"].notna().all() and (found.work["how"] == "guess").all()
    disk = found.disk.set_index("what")
    assert disk["gb"]["fetched pictures"] == pytest.approx(9000 * 50_000 / 1e9)
    assert disk["gb"]["pictures"] == pytest.approx(108_000 * 1024**2 * 1.5 / 1e9)
    text = " ".join(forecast_text(found).split())
    assert "118,812 questions (10,800 of them about products by name)" in text
    assert "At most 9,000 pictures are fetched" in text and "amazon-2023 was not read" in text
    assert f"time and memory of the {found.trainings:,} trainings (vbpr, bm3, freedom, mmgcn)" in text
    assert max(map(len, forecast_text(found).split("\n"))) <= 80


def test_a_forecast_of_all_items_says_that_their_number_is_unknown():
    study = read_study("mmpcbench")
    every = replace(study, catalogue=replace(study.catalogue, per_category=0))
    assert (
        "how many amazon-2023 has is not known before it is read" in forecast(every, machine=SERVER).refusal
    )


def test_the_whole_path_ends_in_a_report(finished):
    out, run, _, study = finished
    assert set(run.seconds) == set(STAGES) and Path(run.report).stat().st_size > 100_000
    hidden, answered = table(out, tables.HIDDEN), table(out, tables.COMPLETIONS)
    assert set(hidden["rate"]) == {0.1, 0.3} and set(table(out, tables.ITEMS)["category"]) == set(NINE)
    assert set(answered["model"]) == set(SIX) and set(answered["task"]) == set(tables.TASKS)
    assert answered["outcome"].isin(tables.USABLE).mean() > 0.5
    rankings = table(out, tables.RANKINGS)
    assert set(rankings["recommender"]) == {"vbpr", "bm3", "freedom", "mmgcn"}
    assert read_study(out / "study.toml") == study
    probes = table(out, tables.PROBES)
    assert set(probes["model"]) == set(SIX) and probes["item_id"].nunique() <= 9


def test_the_report_says_who_bought_and_how_products_were_chosen(finished):
    out = finished[0]
    manifest = json.loads((out / "manifest.json").read_text())
    note = manifest["purchases_note"]
    assert re.search(r"people who liked one of 45 products, .* people and \d+ products are left", note)
    assert "at most 5 products by a hash of seed 42 and id" in manifest["catalogue"]["note"]
    assert "people who liked one of 45 products" in (out / "report.html").read_text()


def test_what_was_fetched_is_what_is_completed(finished, served):
    out, asked = finished[0], served[2]
    items = table(out, tables.ITEMS)
    pictured = items[items["image"].notna()]
    # Two hostile products may name one picture, and a picture that is refused is asked for all the same
    assert pictured["image"].nunique() <= len(set(asked)) <= 9 * 5 == len(items)
    assert pictured["image"].map(lambda image: (out / "downloaded" / image).is_file()).all()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["gaps"] == {"without_title": 0, "without_image": len(items) - len(pictured)}
    assert manifest["purchases"] == "amazon-2023"


def test_going_on_reads_and_asks_nothing_again(finished, served, monkeypatch):
    out, _, _, study = finished
    for module, name in (
        (amazon_2023, "load_amazon"),
        (review_purchases, "amazon_purchases"),
        (completions, "ask_open"),
    ):
        monkeypatch.setattr(module, name, lambda *a, name=name, **k: pytest.fail(f"{name} was called again"))
    before, asked = store.fingerprint(table(out, tables.COMPLETIONS)), len(served[2])
    run_study(study, str(out), through="drawing", progress=False, say=str)
    assert store.fingerprint(table(out, tables.COMPLETIONS)) == before
    assert len(served[2]) == asked
