"""A study end to end: declared, run, stopped, run again, and on files of one's own."""

import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis import store, tables
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.purchases import simulate_interactions
from mmpc_analysis.completion.checkpoints import load_weights
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.completion.own_models import write_lineage
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.report.page import write_report
from mmpc_analysis.study.asked import cards_of
from mmpc_analysis.study.choices import (
    STANDINS,
    CatalogueChoice,
    CompletionChoice,
    MissingChoice,
    RecommendationChoice,
    ScoreChoice,
    Study,
)
from mmpc_analysis.study.declaration import read_study, study_from
from mmpc_analysis.study.forecast import forecast
from mmpc_analysis.study.readiness import check_run
from mmpc_analysis.study.stages import (
    LEAST_ITEMS,
    STAGES,
    _stages,
    _write_completions,
    run_analysis,
    run_comparison,
    run_conclusions,
    run_scoring,
    run_study,
    sizes_of_starts,
)
from mmpc_analysis.study.study_inputs import prepare_inputs, select_items

SMALL = Study(
    name="small",
    catalogue=CatalogueChoice(limit=14),
    missing=MissingChoice(rates=(0.5, 1.0)),
    completion=CompletionChoice(models=("standin-qwen-s", "standin-gemma-s"), batch_size=8),
    scores=ScoreChoice(metrics=("chrf", "token_f1", "mse", "ssim"), draws=200),
)


def table(out, declared):
    return store.read_shards(f"{out}/{declared.name}", declared)


def prints(out, timed=True):
    """Fingerprint of every table of a run, the time of an answer aside, and where asked what rests on that time."""
    costs = () if timed else ("decisions", "frontier", "claims")
    made = {
        name: t
        for name, t in tables.TABLES.items()
        if name not in costs and store.shard_names(f"{out}/{name}")
    }
    found = {name: table(out, declared) for name, declared in made.items()}
    return {
        name: store.fingerprint(rows.drop(columns="seconds", errors="ignore")) for name, rows in found.items()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    lines = []
    run = run_study(SMALL, str(out), progress=False, say=lines.append)
    return out, run, lines


def test_a_run_ends_in_a_report_and_a_whole_set_of_tables(finished):
    out, run, lines = finished
    assert [line.split()[0] for line in lines] == list(STAGES)
    assert set(run.seconds) == set(STAGES)
    assert Path(run.report).stat().st_size > 100_000
    assert read_study(out / "study.toml") == SMALL
    completions = table(out, tables.COMPLETIONS)
    assert len(completions) == 14 * 2 * 2 * 2  # items, models, tasks, shown and blind
    assert set(completions["outcome"]) <= set(tables.OUTCOMES)
    drawn = completions[(completions["task"] == "text_to_image") & completions["outcome"].isin(tables.USABLE)]
    assert drawn["image"].map(lambda image: (out / image).is_file()).all()
    assert completions.loc[~completions["outcome"].isin(tables.USABLE), "image"].isna().all()


def test_floors_and_the_ceiling_stand_beside_the_models(finished):
    averages = table(finished[0], tables.AVERAGES)
    pooled = averages[averages["category"] == "all"]
    for task in tables.TASKS:
        here = pooled[pooled["task"] == task]
        models = {role: set(rows["model"]) for role, rows in here.groupby("role")}
        assert models["floor"] == {"shuffled", "template"} and models["ceiling"] == {"oracle"}
        assert models["model"] == models["blind"] == set(SMALL.completion.models)
    oracle = pooled[pooled["model"] == "oracle"].set_index("metric")["estimate"]
    assert oracle["token_f1"] == 1 and oracle["ssim"] == pytest.approx(1) and oracle["mse"] == 0
    assert (pooled["low"] <= pooled["estimate"] + 1e-12).all() and (
        pooled["estimate"] <= pooled["high"] + 1e-12
    ).all()


def test_hidden_rates_are_nested(finished):
    hidden = table(finished[0], tables.HIDDEN)
    for _, rows in hidden.groupby("modality"):
        ids = {rate: set(part["item_id"]) for rate, part in rows.groupby("rate")}
        assert ids[0.5] < ids[1.0] and len(ids[1.0]) == 14


def test_the_manifest_traces_every_table(finished):
    out = finished[0]
    manifest = json.loads((out / "manifest.json").read_text())
    for name, entry in manifest["tables"].items():
        assert entry["fingerprint"] == store.fingerprint(table(out, tables.TABLES[name]))
    assert set(manifest["models"]) == {*SMALL.completion.models, SMALL.drawing.generator}
    assert manifest["study"]["seed"] == 0 and manifest["versions"]["torch"]
    assert set(manifest["prompts"]) == {"title-short-1", "prompt-short-1"}
    assert manifest["schema"] == store.read_manifest(f"{out}/scores")["schema"] == tables.SCHEMA


def old_version(out):
    "Make a run look like one of schema 1: no version in its shards, manifests among them, journals in completions."
    for name in tables.TABLES:
        for path in store.shard_names(f"{out}/{name}").values():
            pd.read_parquet(path).to_parquet(path)
            (Path(path).parent / "manifest.json").write_text("{}")
    shutil.rmtree(out / "manifests")
    (out / "answers").rename(out / "completions" / "answers")


def test_a_run_of_another_version_is_refused_and_made_again(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    old_version(out)
    with pytest.raises(
        store.SchemaError, match=f"schema none.*schema 2; mmpc run {out}/study.toml --out {out} makes"
    ):
        run_study(SMALL, str(out), through="catalogue", progress=False, say=lambda line: None)
    with pytest.raises(store.SchemaError):
        table(out, tables.SCORES)
    run_study(SMALL, str(out), through="analysis", progress=False, say=lambda line: None, remake=True)
    assert prints(out, timed=False) == prints(finished[0], timed=False)
    assert list((out / "answers_of_schema_1").rglob("*.jsonl"))
    assert not list(out.glob("*/manifest.json")) and not (out / "completions" / "answers").exists()


def test_tables_open_in_pandas_polars_and_duckdb_as_they_lie(finished):
    import duckdb
    import polars

    out = finished[0]
    for name, declared in tables.TABLES.items():
        folder = out / name
        if not store.shard_names(str(folder)):
            continue
        rows = len(table(out, declared))
        assert all(path.suffix == ".parquet" for path in folder.iterdir()), name
        lying = duckdb.sql(f"select * from read_parquet('{folder}/*.parquet')").df()
        for frame in (pd.read_parquet(folder), polars.read_parquet(folder), lying):
            assert len(frame) == rows and list(frame.columns)[: len(declared.names)] == declared.names, name


def test_a_second_run_changes_nothing_and_asks_nothing(finished, monkeypatch):
    out = finished[0]
    before = prints(out)

    def refuse(*args, **kwargs):
        raise RuntimeError("a finished run asked again")

    monkeypatch.setattr("mmpc_analysis.completion.backends.TransformersBackend.ask", refuse)
    monkeypatch.setattr("mmpc_analysis.completion.checkpoints.load_engine", refuse)
    monkeypatch.setattr("mmpc_analysis.scores.scoring.score", refuse)
    run_study(SMALL, str(out), progress=False, say=lambda line: None)
    assert prints(out) == before


def test_every_run_carries_certificates(finished):
    rows = table(finished[0], tables.CERTIFICATES)
    assert set(zip(rows["model"], rows["task"], strict=True)) == {
        (model, task) for model in SMALL.completion.models for task in tables.TASKS
    }
    assert rows["n"].eq(14).all() and rows["counted"].eq(15).all()  # Fourteen items, and the blind question
    assert not rows[["differ", "uncompared", "miscounted", "changed", "errors"]].any().any()


def test_a_run_in_parts_equals_a_run_in_one(finished, tmp_path):
    for through in ("completions", "drawing", "scores", "analysis"):
        run_study(SMALL, str(tmp_path), through=through, progress=False, say=lambda line: None)
        assert not (tmp_path / "report.html").exists()
    assert prints(tmp_path, timed=False) == prints(finished[0], timed=False)


def test_a_run_keeps_what_it_concludes(finished):
    out, _, lines = finished
    for declared in (tables.SLOPES, tables.COMPARISONS, tables.DECISIONS, tables.FRONTIER, tables.POWERS):
        rows = table(out, declared)
        assert len(rows) and set(rows["question"]) <= {"these_models", "scale_in_general"}, declared.name
        assert set(rows["metric"]) <= {"token_f1", "ssim"}, "headline metrics only"
    slopes = table(out, tables.SLOPES)
    assert slopes["estimate"].isna().all() and slopes["method"].str.startswith("no fit: ").all()  # Two models
    assert "rows of conclusions" in lines[-2]


def test_conclusions_are_made_again_when_the_scores_change(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    other = replace(SMALL, scores=replace(SMALL.scores, draws=150))
    before = store.read_manifest(str(tmp_path / "run" / "comparisons"))["inputs"]
    run_study(other, str(tmp_path / "run"), through="analysis", progress=False, say=lambda line: None)
    assert store.read_manifest(str(tmp_path / "run" / "comparisons"))["inputs"] != before
    assert table(tmp_path / "run", tables.DECISIONS)["method"].str.contains("150 draws").all()


def test_another_study_in_the_same_folder_leaves_no_rows_behind(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    one = replace(SMALL, completion=replace(SMALL.completion, models=("standin-gemma-s",), blind=False))
    run_study(one, str(tmp_path / "run"), through="analysis", progress=False, say=lambda line: None)
    assert set(table(tmp_path / "run", tables.COMPLETIONS)["model"]) == {"standin-gemma-s"}
    assert "standin-qwen-s" not in set(table(tmp_path / "run", tables.AVERAGES)["model"])
    assert set(table(tmp_path / "run", tables.CERTIFICATES)["model"]) == {"standin-gemma-s"}


def own_files(folder: Path) -> Path:
    """Nine listings of the embedded catalogue as a shop might keep them: other names, one bad row, gaps."""
    source = files("mmpc_analysis") / "data" / "catalogue"
    items = pd.read_csv(source / "items.csv", dtype=str).iloc[::150]
    rows = items[["item_id", "title", "category"]].rename(
        columns={"item_id": "sku", "title": "product_name", "category": "department"}
    )
    rows["file"] = [Path(image).name for image in items["image"]]
    for image in items["image"]:
        shutil.copy(source / image, folder)
    rows.loc[rows.index[0], "product_name"] = None
    rows.loc[rows.index[1], "file"] = "../../etc/passwd"
    rows.to_csv(folder / "titles.csv", index=False)
    return folder


def test_files_of_ones_own_run_the_same_way(tmp_path):
    (tmp_path / "shop").mkdir()
    columns = {"item_id": "sku", "title": "product_name", "category": "department", "image": "file"}
    study = replace(
        SMALL,
        catalogue=CatalogueChoice(source=str(own_files(tmp_path / "shop")), columns=columns),
        completion=replace(SMALL.completion, models=("standin-gemma-s",)),
    )
    out = tmp_path / "run"
    run = run_study(study, str(out), progress=False, say=lambda line: None)
    assert Path(run.report).exists()
    aside = pd.read_csv(out / "set_aside.csv")
    hostile = aside[aside["kept"]]  # the cell is set aside, the item stays with its title
    assert hostile["column"].tolist() == ["image"] and len(aside) == 2  # and the picture that no row names
    completions = table(out, tables.COMPLETIONS)
    rows = len(pd.read_csv(tmp_path / "shop" / "titles.csv"))
    assert completions["item_id"].nunique() == rows - 2  # one without a picture, one without a title


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"completion": {"models": ["standin-qwen-x"]}}, "did you mean 'standin-qwen"),
        ({"completion": {"tasks": ["text_to_text"]}}, "completion.tasks must be among"),
        ({"scores": {"metrics": ["blue"]}}, "did you mean .bleu."),
        ({"missing": {"rates": [1.5]}}, r"must lie in \(0, 1\], got 1.5"),
        ({"missing": {"mechanism": "magic"}}, "missing.mechanism must be among"),
        ({"recommendation": {"fills": ["zeros", "multi_hop"]}}, "is called 'co_purchase_propagation' now"),
        ({"catalogue": {"split": "tset"}}, r"\(test, train, unseen\) or all"),
        ({"catalogue": {"source": "no/such/folder"}}, "no/such/folder"),
        ({"completion": {"models": ["mine"]}, "models": {"mine": {"source": "nowhere"}}}, "models.mine"),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_any_model_is_asked(given, message, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("a model was loaded")

    monkeypatch.setattr("mmpc_analysis.completion.checkpoints.load_engine", refuse)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_study(study_from(given), str(tmp_path), progress=False, say=lambda line: None)


def test_purchases_that_cannot_be_used_are_refused_before_anything_is_written(tmp_path):
    bought = tmp_path / "bought.csv"
    bought.write_text("user_id,item_id,timestamp\nu,elsewhere,1\nu,nowhere,2\n")
    for source, message in (
        ("none.csv", "must be a file, simulated or none"),
        (str(bought), "none of 2 purchases"),
    ):
        study = Study(recommendation=RecommendationChoice(interactions=source))
        with pytest.raises(ValueError, match=message):
            run_study(study, str(tmp_path / "run"), progress=False, say=lambda line: None)
        assert not (tmp_path / "run" / "study.toml").exists()


def test_nothing_is_read_simulated_or_fitted_twice(tmp_path, monkeypatch):
    from mmpc_analysis.analysis import conclusions
    from mmpc_analysis.catalogue import items, purchases
    from mmpc_analysis.study import study_inputs

    calls = Counter()

    def count(module, name, key=lambda *args: ""):
        function = getattr(module, name)

        def counted(*args, **kwargs):
            calls[name, key(*args)] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    def fit_key(rows, formula):
        return *(tuple(sorted(set(rows[name]))) for name in ("task", "metric", "category")), formula

    count(items, "load_catalogue")
    count(purchases, "simulate_interactions")
    count(study_inputs, "cards_of")
    count(study_inputs, "purchases_of")
    count(conclusions, "fit_mixed", fit_key)
    study = Study(
        catalogue=CatalogueChoice(limit=LEAST_ITEMS),
        missing=MissingChoice(mechanism="by_popularity", rates=(0.5,)),
        completion=CompletionChoice(models=STANDINS[:3], tasks=("image_to_text",), blind=False),
        scores=ScoreChoice(metrics=("token_f1",), draws=50),
        recommendation=RecommendationChoice(
            users=60, recommenders=("popularity",), fills=("zeros",), workers=1
        ),
    )
    run_study(study, str(tmp_path), progress=False, say=lambda line: None)
    assert len(table(tmp_path, tables.RECOVERY)) and len(table(tmp_path, tables.LINES))
    assert {name for name, _ in calls} >= {"load_catalogue", "simulate_interactions", "fit_mixed"}
    assert {key: times for key, times in calls.items() if times > 1} == {}
    assert len([name for name, _ in calls if name == "fit_mixed"]) > 5


def test_recommendations_are_kept_taken_up_again_and_forgotten(tmp_path):
    items = load_catalogue("embedded").items
    study = Study(
        catalogue=CatalogueChoice(limit=44),
        missing=MissingChoice(rates=(0.5,)),
        completion=CompletionChoice(models=("standin-gemma-s",), tasks=("image_to_text",), blind=False),
        scores=ScoreChoice(metrics=("token_f1", "chrf"), draws=50),
        recommendation=RecommendationChoice(
            interactions=str(tmp_path / "bought.csv"),
            recommenders=("vbpr", "popularity"),
            rates=(0.9,),
            fills=("zeros", "category_mean"),
            epochs=2,
            workers=1,
        ),
    )
    bought = simulate_interactions(select_items(items, study.catalogue), users=60)
    elsewhere = bought.head(9).assign(item_id="of another shop")
    pd.concat([bought, elsewhere]).to_csv(tmp_path / "bought.csv", index=False)

    out, lines = str(tmp_path / "run"), []
    run_study(study, out, through="recommendation", progress=False, say=lines.append)
    assert lines[-1].split()[0] == "recommendation" and "26 trainings for 60 users, 5 of each" in lines[-1]
    recovery = table(out, tables.RECOVERY)
    assert set(recovery["rate"]) == {0.0, 0.5, 1.0}  # Nothing was completed beyond a half
    gains = recovery[(recovery["term"] == "gain") & (recovery["category"] == "all")]
    assert set(gains["fill"]) == {"category_mean", "standin-gemma-s"}
    assert set(table(out, tables.LINKS)["content_metric"]) == {"token_f1", "chrf"}
    written = {path: os.stat(path).st_mtime_ns for path in store.shard_names(f"{out}/rankings").values()}
    assert len(written) == 26

    run_study(study, out, through="recommendation", progress=False, say=lines.append)
    assert {path: os.stat(path).st_mtime_ns for path in written} == written
    without = replace(study, recommendation=replace(study.recommendation, interactions="none"))
    run_study(without, out, through="recommendation", progress=False, say=lines.append)
    assert "nothing was recommended" in lines[-1]
    assert not any(store.shard_names(f"{out}/{name}") for name in ("rankings", "recovery", "links"))


def test_two_precisions_of_one_model_are_two_systems_all_the_way(finished, tmp_path):
    out = str(tmp_path / "run")
    shutil.copytree(finished[0], out)
    inputs, completions = prepare_inputs(SMALL, out), table(out, tables.COMPLETIONS)
    twin = completions[(completions["model"] == "standin-qwen-s") & (completions["role"] == "model")]
    worse = twin["text"].str.split().str[0]
    twin = twin.assign(precision="nf4", text=worse, seconds=2 * twin["seconds"])
    both = tables.validate(pd.concat([completions, twin], ignore_index=True), tables.COMPLETIONS)
    _write_completions(both, out)
    assert len(table(out, tables.COMPLETIONS)) == len(completions) + len(twin)
    scores = run_scoring(inputs, both, progress=False)
    assert scores.attrs["set_aside"] == []
    averages, _ = run_analysis(inputs, scores)
    sets, contrasts, _ = run_comparison(inputs, both, scores)
    found = run_conclusions(inputs, both, scores, averages)
    names = {"standin-qwen-s float32", "standin-qwen-s nf4", "standin-gemma-s"}
    pooled = averages.query("category == 'all' and metric == 'token_f1' and role == 'model'")
    assert set(tables.system_names(averages)[pooled.index]) == names and len(pooled) == 3
    for rows in (sets.query("role == 'model'"), contrasts.query("role == 'model'")):
        assert set(rows["model"]) == {"standin-qwen-s", "standin-gemma-s"}
        assert set(rows.loc[rows["model"] == "standin-qwen-s", "precision"]) == {"float32", "nf4"}
    pairs = found["comparisons"]
    assert {*pairs["model"], *pairs["other"]} == names == set(found["frontier"]["model"])
    row = pairs.query("category == 'all' and metric == 'token_f1' and other == 'standin-qwen-s nf4'")
    row = row[row["model"] == "standin-qwen-s float32"].iloc[0]
    mean = pooled[pooled["model"] == "standin-qwen-s"].set_index("precision")["estimate"]
    assert row["estimate"] == pytest.approx(mean["float32"] - mean["nf4"]) and row["estimate"] > 0
    page = Path(write_report(out)).read_text(encoding="utf-8")
    assert all(name in page for name in (*names, "blind standin-qwen-s"))


def test_a_second_wording_is_asked_of_every_model_and_the_first_is_not_asked_again(
    finished, tmp_path, monkeypatch
):
    from mmpc_analysis.completion.backends import TransformersBackend

    out, asked, real = str(tmp_path / "run"), [], TransformersBackend.answer
    shutil.copytree(finished[0], out)
    before = table(out, tables.COMPLETIONS)

    def answer(self, prepared):
        answers = real(self, prepared)
        asked.extend(a.key for a in answers)
        return answers

    monkeypatch.setattr(TransformersBackend, "answer", answer)
    own = {"plain": {"task": "image_to_text", "text": 'Write the title as JSON: {"title": "..."}'}}
    words = {"image_to_text": ("title-short-1", "plain")}
    study = replace(SMALL, completion=replace(SMALL.completion, prompts=words, own_prompts=own))
    run_study(study, out, progress=False, say=lambda line: None)
    found = table(out, tables.COMPLETIONS)
    titles = found[found["task"] == "image_to_text"]
    assert set(titles.groupby("model")["prompt"].agg(frozenset)) == {frozenset(words["image_to_text"])}
    assert set(asked) == set(titles.loc[titles["prompt"] == "plain", "key"])
    assert set(found[found["prompt"] != "plain"]["key"]) == set(before["key"])
    shares = table(out, tables.VARIANCES)
    effects = table(out, tables.EFFECTS).query("task == 'image_to_text' and scope == 'pooled'")
    assert set(effects["models"]) == {2} and set(shares["task"]) <= {"image_to_text", "text_to_image"}
    page = Path(f"{out}/report.html").read_text(encoding="utf-8")
    assert "Two models were asked" in page and "standin-qwen-s plain" in page
    assert "Each was asked in two wordings" in page and "Two models are two points" in page
    assert read_study(f"{out}/study.toml") == study
    assert max(Counter(asked).values()) == 2  # In its batch, and alone for the certificate
    before = len(asked)
    run_study(study, out, progress=False, say=lambda line: None)
    assert len(asked) == before


# ---------------------------------------------------------------- a model that was trained from another


START = "standin-gemma-s"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    "A LoRA adapter on a stand-in, as a training would leave it."
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    model = load_weights(find_weights(model_card(START)))
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear"))
    numbers = torch.Generator().manual_seed(0)
    for key, weight in model.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(weight, std=0.05, generator=numbers)
    model.save_pretrained(folder)
    write_lineage(folder, f"{START}-grpo-0", model_card(START), "adapter")
    return folder


def study_with(folder, **section):
    models = [START, "standin-gemma-m", "mine"]
    return study_from(
        {
            "name": "trained",
            "catalogue": {"limit": 10},
            "completion": {"models": models, "tasks": ["image_to_text"], "blind": False},
            "models": {"mine": {"source": str(folder), **section}},
            "scores": {"metrics": ["token_f1", "chrf"], "draws": 100},
        }
    )


@pytest.fixture(scope="module")
def finished_trained(adapter, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, run_study(study_with(adapter), str(out), progress=False, say=lambda line: None)


def test_it_goes_through_every_stage_with_its_base_beside_it(finished_trained):
    out, run = finished_trained
    completions = table(out, tables.COMPLETIONS)
    assert completions.groupby("model")["base"].agg(set).to_dict() == {
        START: {""}, "standin-gemma-m": {""}, "mine": {START},
    }  # fmt: skip
    assert set(completions["prompt"]) == {prompt_for("image_to_text", short=True).id}
    assert not completions["outcome"].eq("engine_error").any() and set(completions["family"]) == {"Gemma-3"}
    texts = completions.pivot(index="item_id", columns="model", values="raw_text")
    assert (texts["mine"] != texts[START]).any()
    for declared in (tables.SCORES, tables.AVERAGES):
        rows = table(out, declared).query("role == 'model'")
        assert set(rows.loc[rows["model"] == "mine", "base"]) == {START}
        assert set(rows.loc[rows["model"] != "mine", "base"]) == {""}
    pairs = table(out, tables.COMPARISONS)
    assert {*pairs["model"], *pairs["other"]} == {START, "standin-gemma-m", "mine"}
    assert "mine" in Path(run.report).read_text("utf-8")
    facts = json.loads((out / "manifest.json").read_text("utf-8"))["models"]["mine"]
    assert facts["base"] == START and not facts["embedded"] and "+" in facts["weights"]


def test_nothing_is_claimed_of_size_by_it(finished_trained):
    out, _ = finished_trained
    effects = table(out, tables.EFFECTS)
    assert effects.query("scope == 'pooled'")["models"].max() == 2
    slopes = table(out, tables.SLOPES)
    assert set(slopes["models"]) == {2}
    scores = table(out, tables.SCORES)
    sized = sizes_of_starts(scores)
    assert sized.loc[scores["base"].ne(""), "parameters"].isna().all()
    pd.testing.assert_frame_equal(sized[scores["base"].eq("")], scores[scores["base"].eq("")])
    alone = scores[scores["base"].eq("")]
    assert sizes_of_starts(alone) is alone


def test_it_is_forecast_as_the_stand_in_that_it_was(adapter):
    found = forecast(study_with(adapter))
    assert found.refusal == ""
    questions = found.questions.set_index("model")
    assert set(questions["prompt"]) == {prompt_for("image_to_text", short=True).id}
    assert set(found.pictures["name"]) == {"Gemma-3, stand-in"}
    place = found.places.set_index("model").loc["mine"]
    assert place["weights"] == "folder" and place["verdict"] == "fits"
    assert np.isclose(place["needs"], found.places.set_index("model").loc[START, "needs"])


def test_a_section_says_what_the_lineage_does_not(adapter):
    card = cards_of(study_with(adapter, family="mine", parameters=9))["mine"]
    assert (card.name, card.family, card.parameters, card.base, card.standin) == (
        "mine",
        "mine",
        9,
        START,
        True,
    )
    assert cards_of(study_with(adapter))["mine"].family == "Gemma-3"


def test_an_adapter_that_cannot_be_loaded_is_found_before_the_first_question(adapter, tmp_path, monkeypatch):
    study = study_with(adapter)
    check_run(study, str(tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        (ValueError, RuntimeError), match=r"models\.mine.*pip install 'mmpc_analysis\[align\]'"
    ):
        check_run(study, str(tmp_path / "out"))


def test_the_first_line_of_a_run_counts_the_products_with_gaps():
    items = pd.DataFrame(
        {"category": "Home", "title": [None] * 16 + ["Mug"] * 4, "image": ["a.png"] * 19 + [None]}
    )
    catalogue = SimpleNamespace(set_aside=[])
    inputs = SimpleNamespace(catalogue=catalogue, selected=items[16:], items=items, hidden=[1, 2])
    assert next(_stages(inputs, False)) == (
        "catalogue", "4 of 20 items, 2 hidden modalities, 16 have no title, 1 has no picture",
    )  # fmt: skip
