"""A study's alignment: what may be asked for, what is kept, and what a run's report takes from it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmpc_analysis import store, tables
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.completion.own_models import own_model
from mmpc_analysis.study import alignment_stage
from mmpc_analysis.study.alignment_stage import alignment_plans, prepare_alignment
from mmpc_analysis.study.choices import AlignmentChoice, Study
from mmpc_analysis.study.command_line import app
from mmpc_analysis.study.declaration import read_study, study_toml

LITTLE = """
[alignment]
model = "standin-gemma-s"
seeds = 2
limit = 24
test = 12
controls = ["best_of_n", "strip_filler"]
metrics = ["token_f1", "chrf", "minilm_cosine"]
[alignment.recipe]
steps = 2
questions = 2
group = 4
look_items = 8
"""
BENCHMARK = """
[catalogue]
limit = 6
[missing]
rates = [1.0]
[completion]
models = ["standin-gemma-s"]
tasks = ["image_to_text"]
[scores]
metrics = ["token_f1"]
draws = 50
[recommendation]
interactions = "none"
"""
TABLES = ("alignments", "alignment_steps", "alarms", "alignment_effects", "alignment_checks")


def mmpc(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def prints(run):
    return {name: store.read_manifest(f"{run}/{name}")["fingerprint"] for name in (*TABLES, "claims")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A small benchmark, and the training of its model in the same folder."
    pytest.importorskip("trl")
    folder = tmp_path_factory.mktemp("aligned")
    file, run = folder / "little.toml", folder / "run"
    file.write_text(BENCHMARK + LITTLE)
    before = mmpc("run", file, "--out", run)
    assert before.exit_code == 0, before.stderr
    assert not (run / "alignments").exists(), "mmpc run trains nothing"
    done = mmpc("align", file, "--out", run)
    assert done.exit_code == 0, done.output
    return file, run, before.stdout, done.stdout


def test_run_says_in_one_line_that_align_trains(trained):
    _, run, before, _ = trained
    assert before.count("mmpc align") == 1 and "standin-gemma-s: mmpc align --out" in before
    assert "mmpc align" not in mmpc("report", "--out", run).stdout, "what is trained need not be asked for"


def test_tables_claims_manifest_and_report_tell_of_the_training(trained):
    _, run, _, _ = trained
    found = {name: store.read_shards(f"{run}/{name}", tables.TABLES[name]) for name in TABLES}
    by_treatment = found["alignments"].groupby("treatment")["seed"].nunique().to_dict()
    assert (by_treatment["grpo"], by_treatment["best_of_n"]) == (2, 2)
    assert set(found["alignment_effects"]["base"]) == {"standin-gemma-s"}
    claims = store.read_shards(f"{run}/claims", tables.CLAIMS)
    assert {"titles_aligned", "beats_control"} <= set(claims["question"])
    assert len(claims[~claims["rests_on"].str.startswith("alignment_effects")]), (
        "the other claims are still there"
    )
    kept = store.read_json(f"{run}/manifest.json")["alignment"]
    assert (kept["recipe"]["steps"], kept["seeds"], kept["profile"]) == (2, 2, "demo")
    assert kept["reward"]["image_to_text"]["word_f1"] == 8 and kept["witnesses"]["image_to_text"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="alignment"' in page and "strips filler" in page


def test_the_command_ends_with_the_verdict_and_the_models(trained):
    _, _, _, said = trained
    assert "stopped or killed, the same command goes on" in said
    assert "image_to_text of standin-gemma-s: With GRPO" in said
    source = said.split('source = "')[1].split('"')[0]
    card = own_model(source)
    assert (card.base, card.standin) == ("standin-gemma-s", True)
    assert f"[models.{card.name}]" in said


def test_a_finished_training_asks_and_makes_nothing_again(trained, monkeypatch):
    file, run, _, _ = trained
    before = prints(run)

    def fail(*_, **__):
        raise AssertionError("asked again")

    for name in ("check_experiment", "run_experiment", "complete", "load_backend"):
        for module in ("experiment", "treatments"):
            monkeypatch.setattr(f"mmpc_analysis.alignment.{module}.{name}", fail, raising=False)
    monkeypatch.setattr(alignment_stage, "check_experiment", fail)
    again = mmpc("align", file, "--out", run)
    assert again.exit_code == 0, again.output
    assert "finished before" in again.stdout and prints(run) == before


def test_a_benchmark_at_another_level_keeps_what_was_shown_at_the_trainings_own(trained, tmp_path):
    _, run, _, _ = trained
    copy = shutil.copytree(run, tmp_path / "copy")
    file = tmp_path / "other.toml"
    file.write_text((copy / "study.toml").read_text().replace("level = 0.95", "level = 0.8"))
    done = mmpc("run", file, "--out", copy)
    assert done.exit_code == 0, done.output
    told = [store.read_shards(f"{one}/claims", tables.CLAIMS) for one in (run, copy)]
    told = [
        rows[rows["rests_on"].str.startswith("alignment_effects")].reset_index(drop=True) for rows in told
    ]
    assert len(told[0]) and told[0].equals(told[1])


def test_another_study_in_the_folder_is_named_and_left_alone(trained):
    file, run, _, _ = trained
    before = (run / "study.toml").read_text()
    other = replace(read_study(file), seed=7)
    assert "is of another study; mmpc report --out" in alignment_stage.join_report(other, str(run))
    assert (run / "study.toml").read_text() == before


def test_another_reward_is_another_training(trained):
    file, run, _, _ = trained
    study = read_study(file)
    other = replace(study, alignment=replace(study.alignment, reward={"image_to_text": {"word_f1": 1.0}}))
    same, changed = (prepare_alignment(one, str(run))[0] for one in (study, other))
    assert alignment_stage._finished(str(run), same) and not alignment_stage._finished(str(run), changed)
    assert alignment_stage.experiment_key(same) == alignment_stage.experiment_key(
        prepare_alignment(study, "elsewhere")[0]
    )


def test_the_split_and_limit_of_the_benchmark_take_nothing_from_the_training():
    choice = AlignmentChoice("standin-gemma-s")
    study = Study(alignment=choice)
    small = replace(study, catalogue=replace(study.catalogue, split="test", limit=6))
    train = [prepare_alignment(one, "nowhere")[0].train["item_id"].tolist() for one in (study, small)]
    assert len(train[0]) > 500 and train[0] == train[1]


def test_the_check_prints_and_trains_nothing(tmp_path):
    (tmp_path / "s.toml").write_text(LITTLE)
    done = mmpc("align", tmp_path / "s.toml", "--check", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "training standin-gemma-s on titles" in done.stdout
    for word in ("sampled_accuracy", "learning_rate", "this study", "ours"):
        assert word in done.stdout
    assert not (tmp_path / "run" / "alignments").exists()
    rows = store.read_shards(f"{tmp_path}/run/alignment_checks", tables.ALIGNMENT_CHECKS)
    assert set(rows["base"]) == {"standin-gemma-s"}


def hopeless(_):
    row = ("image_to_text", "standin-gemma-s", "silent_groups", 0.98, 0.95, 1.0, 0.9, 24, "share", "hopeless")
    return tables.validate(
        pd.DataFrame([row], columns=tables.ALIGNMENT_CHECKS.names), tables.ALIGNMENT_CHECKS
    )


def test_a_hopeless_check_ends_with_a_code_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment_stage, "check_experiment", hopeless)
    (tmp_path / "s.toml").write_text(LITTLE)
    done = mmpc("align", tmp_path / "s.toml", "--check", "--out", tmp_path / "run")
    assert done.exit_code == 3 and "It is not worth training standin-gemma-s on titles" in done.stdout


def test_without_the_extra_the_check_still_works_and_training_says_what_to_install(tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec

    def find_spec(name, *more):
        return None if name in ("trl", "peft", "datasets") else real(name, *more)

    for module in ("alignment.experiment", "alignment.grpo", "study.alignment_stage"):
        monkeypatch.setattr(f"mmpc_analysis.{module}.find_spec", find_spec)
    (tmp_path / "s.toml").write_text(LITTLE)
    words = [tmp_path / "s.toml", "--out", tmp_path / "run"]
    checked = mmpc("align", *words, "--check")
    assert checked.exit_code == 0, checked.output
    assert "step_seconds" not in checked.stdout
    assert "time and memory of a step were not measured" in checked.stdout
    refused = mmpc("align", *words)
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1 and "pip install 'mmpc_analysis[align]'" in refused.stderr
    assert not (tmp_path / "run" / "alignments").exists()


def test_the_published_profile_says_in_words_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = mmpc("align", "--profile", "as-the-reference", "--check")
    assert done.exit_code == 2, done.output
    assert "its scripts load the base in NF4" in done.stdout and "the rank is ours" in done.stdout
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "qwen2.5-vl-7b cannot be aligned here" in done.stderr
    assert "is not on this machine" in done.stderr and "'nf4' needs a CUDA GPU" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('modle = "a"', "section [alignment] has no key 'modle'; did you mean 'model'?"),
        ("seeds = 0", "alignment.seeds must be at least 1, got 0"),
        ("limit = -1", "alignment.limit must be at least 0, got -1"),
        ('seeds = "3"', "alignment.seeds must be of type int, got '3'"),
        ("recipe = {step = 3}", "section [alignment.recipe] has no key 'step'; did you mean 'steps'?"),
        (
            "recipe = {colour = 3}",
            "section [alignment.recipe] has no key 'colour'; it knows steps, questions",
        ),
        ("recipe = {steps = 2.5}", "alignment.recipe.steps must be of type int, got 2.5"),
        ("recipe = {steps = true}", "alignment.recipe.steps must be of type int, got True"),
        ('recipe = {beta = "0"}', "alignment.recipe.beta must be of type float, got '0'"),
        ("recipe = {mask_truncated = 1}", "alignment.recipe.mask_truncated must be of type bool, got 1"),
        ("recipe = {group = 1}", "alignment.recipe: group must be at least 2"),
        ("recipe = 3", "alignment.recipe must be a table of keys and values, got 3"),
        ("reward = {image_to_text = {}}", "alignment.reward.image_to_text: a reward has one part or more"),
        (
            "reward = {image_to_text = {word_f2 = 1.0}}",
            "alignment.reward.image_to_text: a reward's part must",
        ),
        ("reward = {image_to_text = {word_f1 = -1}}", "the weight of 'word_f1' must be a number above 0"),
        (
            "reward = {image_to_text = {image_rank = 1}}",
            "alignment.reward.image_to_text: a reward's part must",
        ),
        ("reward = {titles = {word_f1 = 1}}", "alignment.reward must be among image_to_text, got 'titles'"),
        ('tasks = ["titles"]', "alignment.tasks must be among image_to_text, text_to_image, got 'titles'"),
        ('controls = ["prayer"]', "alignment.controls must be among supervised, best_of_n"),
        ('profile = "fast"', "alignment.profile must be one of demo, as-the-reference, got 'fast'"),
        ('hold_out = ["Notto"]', "there is no hand 'Notto' to hold out; did you mean 'Noto'?"),
        ('metrics = ["blue"]', "did you mean 'bleu'"),
        ('metrics = ["token_f1"]', "no metric of image_to_text is left to bear witness"),
        ('model = "standin-qwen-z"', "did you mean 'standin-qwen"),
        ('model = "standin-sd3"', "alignment.model must be a model that answers, got 'standin-sd3'"),
    ],
)
def test_a_mistake_in_the_section_is_named_in_one_line(text, message, tmp_path):
    model = "" if text.startswith("mod") else 'model = "standin-gemma-s"\n'
    (tmp_path / "s.toml").write_text(f"[alignment]\n{model}{text}\n")
    done = mmpc("align", tmp_path / "s.toml", "--check", "--out", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_study_without_the_section_is_told_to_name_a_model(tmp_path):
    (tmp_path / "s.toml").write_text("seed = 1\n")
    done = mmpc("align", tmp_path / "s.toml", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "alignment.model must name the model that is trained" in done.stderr


def test_a_section_survives_being_written_and_read(tmp_path):
    choice = AlignmentChoice(
        "standin-gemma-s",
        recipe={"steps": 3, "learning_rate": 1e-5, "mask_truncated": False, "loss": "dr_grpo"},
        reward={"image_to_text": {"word_f1": 1.0}},
        controls=(),
    )
    study = Study(alignment=choice)
    (tmp_path / "again.toml").write_text(study_toml(study))
    assert read_study(tmp_path / "again.toml") == study
    plan = alignment_plans(study)[0]
    assert plan.recipe == replace(Recipe(), steps=3, learning_rate=1e-5, mask_truncated=False, loss="dr_grpo")
    assert (plan.controls, plan.seeds, plan.hold_out) == ((), (0, 1, 2), None)


def test_a_model_of_a_section_may_be_trained_without_being_asked(tmp_path):
    text = '[models.mine]\ncard = "standin-qwen-s"\n[alignment]\nmodel = "mine"\n'
    (tmp_path / "s.toml").write_text(text)
    study = read_study(tmp_path / "s.toml")
    assert alignment_plans(study)[0].card.name == "standin-qwen-s"
    from mmpc_analysis.study.asked import check_study

    check_study(study)
    with pytest.raises(ValueError, match=r"\[models.mine\] must be of a model in completion.models"):
        check_study(replace(study, alignment=AlignmentChoice()))


def test_a_prompt_that_the_study_chooses_is_the_one_that_is_trained():
    study = Study(alignment=AlignmentChoice("standin-gemma-s"))
    chosen = replace(study.completion, prompts={"image_to_text": ("title-full-1",)})
    assert alignment_plans(study)[0].prompt is None
    assert alignment_plans(replace(study, completion=chosen))[0].prompt.id == "title-full-1"


def shop(folder):
    "Forty products of a shop: a title, a picture and a department, and no split."
    rng, rows = np.random.default_rng(0), ["sku,name,photo,category"]
    for place in range(40):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        Image.new("RGB", (64, 64), colour).save(folder / f"p{place}.png")
        rows.append(f"{place},Kite number {place},p{place}.png,Toys")
    (folder / "kites.csv").write_text("\n".join(rows))


def test_a_shops_own_catalogue_is_trained_on_and_says_what_comes_next(tmp_path, monkeypatch):
    pytest.importorskip("trl")
    shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = LITTLE.replace("steps = 2", "steps = 1").replace("seeds = 2", "seeds = 1")
    (tmp_path / "kites.toml").write_text('[catalogue]\nsource = "kites.csv"\n' + text)
    done = mmpc("align", "kites.toml", "--no-controls")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("kites: into runs/kites")
    assert "with one seed, so nothing is claimed" in done.stdout
    assert "mmpc run runs/kites/study.toml --out runs/kites makes one" in done.stdout
    rows = store.read_shards("runs/kites/alignments", tables.ALIGNMENTS)
    assert rows["treatment"].tolist() == ["grpo"] and not (tmp_path / "runs/kites/report.html").exists()
    assert json.loads((tmp_path / "runs/kites/alignment.json").read_text())["seeds"] == 1


def test_the_default_study_aligns_nothing_and_the_command_line_stays_light():
    assert Study().alignment.model == ""
    code = (
        "import sys\nfrom mmpc_analysis.study import command_line, alignment_stage\n"
        "print([name for name in ('trl', 'peft', 'datasets', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
