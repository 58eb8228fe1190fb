"An experiment from its plan to its tables: the same twice, and blind to the truth that it is judged by."

import importlib.util
import json

import pandas as pd
import pytest
from conftest import ROOT

pytest.importorskip("trl")

from mmpc_analysis.alignment.experiment import AlignmentPlan, prepare_experiment, use_judge
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.alignment.supervised import SupervisedRecipe
from mmpc_analysis.alignment.treatments import own_best, run_experiment
from mmpc_analysis.catalogue.items import Catalogue, load_catalogue
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.models import model_card

SMALL = {"limit": 20, "test": 12, "supervised": SupervisedRecipe(looks=2)}
RECIPE = Recipe(steps=2, questions=2, group=4, look_items=6)
METRICS = {"image_to_text": ("token_f1", "minilm_retrieval"), "text_to_image": ("ssim", "effnet_cosine")}


def plan_of(task, **more):
    card = model_card("standin-gemma-s")
    return AlignmentPlan(
        card, task, **{"recipe": RECIPE, "metrics": METRICS[task], "seeds": (0, 1)} | SMALL | more
    )


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue()


@pytest.fixture(scope="module", params=["image_to_text", "text_to_image"])
def ran(request, catalogue, tmp_path_factory):
    "A small experiment of a task, its folder and what it said."
    out, lines = str(tmp_path_factory.mktemp("experiment")), []
    found = run_experiment(plan_of(request.param), catalogue, out, progress=False, say=lines.append)
    return request.param, out, found, lines


def test_every_treatment_answers_the_same_items(ran):
    task, _, found, _ = ran
    scores = found["alignment_scores"]
    models = scores[scores["role"] == "model"]
    asked = models.groupby("model")["item_id"].agg(frozenset)
    assert len(set(asked)) == 1 and len(asked.iloc[0]) == 12
    own = {"image_to_text": "strip_filler", "text_to_image": "title"}[task]
    wanted = {f"standin-gemma-s-{t}-{s}" for t in ("grpo", "supervised", "best_of_n") for s in (0, 1)}
    wanted |= {"standin-gemma-s", "standin-gemma-s-examples-0", f"standin-gemma-s-{own}-0"}
    assert set(asked.index) == wanted
    bases = models.drop_duplicates("model").set_index("model")["base"]
    assert set(bases.drop("standin-gemma-s")) == {"standin-gemma-s"} and bases["standin-gemma-s"] == ""


def test_the_tables_are_those_of_the_run(ran):
    task, out, found, lines = ran
    for name in ("alignments", "alignment_steps", "alarms", "alignment_effects"):
        stored = pd.read_parquet(f"{out}/{name}/{task}-standin-gemma-s.parquet")
        assert len(stored) == len(found[name])
    costs = found["alignments"].set_index(["treatment", "seed"])
    assert costs.loc[("grpo", 0), "answers"] == 2 * 2 * 4 and (costs["answer_seconds"].dropna() >= 0).all()
    assert (costs.loc["supervised", "cpu_seconds"] > 0).all()
    assert "trained with 2 seeds" in lines[1]
    kin = found["alignment_effects"].drop_duplicates("metric").set_index("metric")["trained_on"]
    paid, untouched = {
        "image_to_text": ("token_f1", "minilm_retrieval"),
        "text_to_image": ("effnet_cosine", "ssim"),
    }[task]
    assert (kin[paid], kin[untouched]) == ("reward", "")


def test_a_second_run_asks_trains_and_draws_nothing(ran, catalogue, monkeypatch):
    "Controls are left out: they journal nothing and ask again."
    import mmpc_analysis.completion.backends as backends

    task, out, found, _ = ran

    def never(*given, **named):
        raise BackendError("a model was asked again")  # The one error that no batch survives

    monkeypatch.setattr(backends, "_generate_answers", never)
    again = run_experiment(plan_of(task, controls=()), catalogue, out, progress=False, say=lambda line: None)
    same = found["alignments"][found["alignments"]["treatment"] == "grpo"]
    pd.testing.assert_frame_equal(again["alignments"], same.reset_index(drop=True))
    names = ["standin-gemma-s", *same["model"]]
    scores = [
        table[table["model"].isin(names)].sort_values(["model", "metric", "item_id"], ignore_index=True)
        for table in (found["alignment_scores"], again["alignment_scores"])
    ]
    assert len(scores[0]) > 0
    pd.testing.assert_frame_equal(*scores)


def test_what_is_judged_by_is_not_learnt_from(tmp_path, catalogue):
    "Other true titles of the test items change no answer of any treatment."
    task = "image_to_text"  # An image prompt is written from the title itself
    one = prepare_experiment(plan_of(task), catalogue, str(tmp_path / "split"))
    items = catalogue.items.copy()
    judged = items["item_id"].isin(one.test["item_id"])
    items.loc[judged, "title"] = "Something else entirely"
    other = Catalogue("other", items, catalogue.root, catalogue.set_aside, "")
    plan = plan_of(task, seeds=(0,), controls=("best_of_n", "strip_filler", "examples"))
    texts = []
    for which, folder in ((catalogue, "as they are"), (other, "changed")):
        run_experiment(plan, which, str(tmp_path / folder), progress=False, say=lambda line: None)
        rows = pd.concat(
            map(pd.read_parquet, (tmp_path / folder / "alignment" / "completions").glob("*.parquet"))
        )
        texts.append(
            rows.sort_values(["model", "item_id"])[["model", "item_id", "text"]].reset_index(drop=True)
        )
    pd.testing.assert_frame_equal(*texts)


def test_a_models_own_best_prompts_are_drawn_once(tmp_path, catalogue, monkeypatch):
    import mmpc_analysis.alignment.treatments as page

    one = prepare_experiment(plan_of("text_to_image"), catalogue, str(tmp_path))
    use_judge(one)
    first, seconds = own_best(one, 0, 4)
    assert 0 < len(first) <= 4 and first["reward"].between(0, 1).all() and seconds > 0
    monkeypatch.setattr(page, "draw_answers", None)
    again, kept = own_best(one, 0, 4)
    pd.testing.assert_frame_equal(first, again)
    assert kept == seconds


# ---------------------------------------------------------------- the experiment whose results are committed


def tool(name):
    "A script of tools/experiments as a module."
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_results_are_of_the_present_code():
    record = json.loads((ROOT / "tests" / "data" / "alignment" / "align_standins.json").read_text("utf-8"))
    again = "run tools/experiments/align_standins.py; half an hour on two cores"
    pages = tool("align_standins").pages()
    assert len(pages) >= 20 and "alignment.grpo" in pages
    assert record["code"] == tool("code_fingerprint").code_fingerprint(*pages), (
        f"what a figure rests on has changed: {again}"
    )
    spent = sum(seconds["cpu"] for seconds in record["seconds"].values())
    assert record["seeds"] == [0, 1, 2] and spent < 2 * 75 * 60


def test_the_committed_tables_hold_every_start_with_every_seed():
    done = pd.read_parquet(ROOT / "nbs" / "results" / "alignments.parquet")
    grpo = done[done["treatment"] == "grpo"]
    starts = {("image_to_text", s) for s in ("standin-gemma-s", "taught-gemma-s", "wordy-gemma-s")}
    assert set(zip(grpo["task"], grpo["base"], strict=True)) == starts | {
        ("text_to_image", "standin-gemma-s")
    }
    assert all(sorted(seeds) == [0, 1, 2] for _, seeds in grpo.groupby(["task", "base"])["seed"])
