"""Align a stand-in from three starts and in both directions, with the controls beside it. Under half an hour on two cores.

    python tools/experiments/align_standins.py --only shipped taught &   # two processes side by side, one folder
    python tools/experiments/align_standins.py --only wordy pictures
    python tools/experiments/align_standins.py --keep                    # stores nbs/results/alignment*.parquet and the record
    python tools/site/publish_results.py --alignment                     # joins its claims to the published ones

Starts: `standin-gemma-s` as it ships (a good supervised start: a gain is not expected), and the same after it was taught a seller's
habit: of its training titles 56% became "New ... Set", 14% lost their JSON, 30% stayed (`taught`); in `wordy` the habit is as long as a
title, "New ... Set, Best Quality, Free Shipping". Those starts were made to have something to unlearn, and whoever reads their gain has to
know it. Titles with three seeds each from all three, image prompts with three seeds from the first.
Items, reward, recipe and the metrics of the verdict are those of `mmpc align` on the embedded catalogue. The rate of the recipe was lowered
from 3e-4 to 1e-4 after the reward of the good start fell in the first 26 updates of a first try; `wordy` was added after `taught` had been
seen to gain little from losing two words. Nothing else was changed after a result, but for faults that a review found, after which all was
run again. Nothing here says anything about published models.
What is kept: the tables for the report and the site, and align_standins.json with what it took, the versions and a fingerprint of the code.
A run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "nbs" / "results"
RECORD = ROOT / "tests" / "data" / "alignment" / "align_standins.json"
START, SEEDS = "standin-gemma-s", (0, 1, 2)
HABITS = {"taught": "New {} Set", "wordy": "New {} Set, Best Quality, Free Shipping"}
HABIT_SHARE, BARE_SHARE = 0.56, 0.14  # Of the titles that a habit is taught with
NAMES = ("shipped", *HABITS, "pictures")
TABLES = ("alignments", "alignment_steps", "alarms", "alignment_checks", "alignment_effects")
MADE = "A stand-in that was taught on purpose to write titles as \u201c{}\u201d, so that it has something to unlearn: a gain of it says nothing of a model without such a habit."
NOTES = {START: "The stand-in as it ships."} | {
    f"{name}-gemma-s": MADE.format(habit.format("\u2026")) for name, habit in HABITS.items()
}  # What a reader of the report has to know of a start
WORDS = "check_bounds"  # The one page of the room on which no figure rests


def taught_start(catalogue, out: str, habit: str, name: str):
    "The stand-in with a seller's habit: plain training on the items that alignment trains on too."
    import numpy as np

    from mmpc_analysis.alignment.held_out import alignment_parts, part_items
    from mmpc_analysis.alignment.supervised import SupervisedRecipe, answer_object, supervise
    from mmpc_analysis.completion.prompts import prompt_for

    items = part_items(catalogue.items, alignment_parts(catalogue.items), "train")
    prompt, draws = prompt_for("image_to_text", short=True), np.random.default_rng(0).random(len(items))
    answers = []
    for title, draw in zip(items["title"], draws, strict=True):
        if draw < HABIT_SHARE:
            answers.append(answer_object(habit.format(title), prompt))
        else:
            answers.append(title if draw < HABIT_SHARE + BARE_SHARE else answer_object(title, prompt))
    how = {"recipe": SupervisedRecipe(steps=150, learning_rate=1e-3), "treatment": "taught", "name": name}
    return supervise(START, items, answers, "image_to_text", f"{out}/start", root=catalogue.root, **how)


def experiments(catalogue, out: str, only: list[str]) -> dict:
    "Name to plan."
    from mmpc_analysis.alignment.experiment import AlignmentPlan
    from mmpc_analysis.alignment.recipes import Recipe
    from mmpc_analysis.completion.models import model_card

    plans = {}
    if "shipped" in only:
        plans["shipped"] = AlignmentPlan(model_card(START), "image_to_text", seeds=SEEDS)
    for name in set(HABITS) & set(only):
        start = taught_start(catalogue, out, HABITS[name], f"{name}-gemma-s")
        plans[name] = AlignmentPlan(start.card, "image_to_text", seeds=SEEDS)
    if "pictures" in only:
        recipe = Recipe(steps=40, questions=8, group=8, temperature=1.0, look_every=20)
        plans["pictures"] = AlignmentPlan(model_card(START), "text_to_image", recipe=recipe, seeds=SEEDS)
    return plans


def pages() -> list[str]:
    "The pages whose code the figures rest on."
    folder = ROOT / "mmpc_analysis" / "alignment"
    return sorted(f"alignment.{path.stem}" for path in folder.glob("[a-z]*.py") if path.stem != WORDS)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "trl", "peft", "diffusers", "numpy")}


def run(plans: dict, catalogue, out: str) -> None:
    "Check and run every experiment, and write down what it took."
    from mmpc_analysis import store
    from mmpc_analysis.alignment.experiment import check_experiment, prepare_experiment
    from mmpc_analysis.alignment.treatments import run_experiment
    from mmpc_analysis.tables import ALIGNMENT_CHECKS

    for name, plan in plans.items():
        wall, cpu = time.perf_counter(), time.process_time()
        checks = check_experiment(prepare_experiment(plan, catalogue, out))
        store.write_shard(
            checks, ALIGNMENT_CHECKS, f"{out}/{ALIGNMENT_CHECKS.name}", f"{plan.task}-{plan.card.name}"
        )
        run_experiment(plan, catalogue, out, progress=False)
        seconds = {"wall": round(time.perf_counter() - wall), "cpu": round(time.process_time() - cpu)}
        store.write_text(f"{out}/taken-{name}.json", json.dumps(seconds))
        print(name, seconds, flush=True)


def facts(catalogue, out: str) -> dict:
    "What the manifest of a run has of an alignment."
    from dataclasses import asdict

    from mmpc_analysis.alignment.experiment import prepare_experiment

    about = "These trainings are an experiment apart from this run, tools/experiments/align_standins.py, with its own items to train and to test on."
    told = {
        "about": about,
        "seeds": list(SEEDS),
        "recipe": {},
        "reward": {},
        "witnesses": {},
        "items": {},
        "notes": NOTES,
    }
    for plan in experiments(catalogue, out, ["shipped", "pictures"]).values():
        experiment = prepare_experiment(plan, catalogue, out)
        told["recipe"][plan.task] = asdict(plan.recipe)
        told["reward"][plan.task] = dict(experiment.reward.weights)
        told["witnesses"][plan.task] = list(experiment.verdict)
        told["items"][plan.task] = f"{len(experiment.train)} to train, {len(experiment.test)} to test"
    return told


def keep(catalogue, out: str) -> None:
    "Store the tables where the report and the site find them, and the record beside the tests' data."
    from code_fingerprint import code_fingerprint

    from mmpc_analysis import store
    from mmpc_analysis.tables import TABLES as DECLARED

    for name in TABLES:
        rows = store.read_shards(f"{out}/{name}", DECLARED[name])
        rows.to_parquet(RESULTS / f"{name}.parquet", index=False, compression="zstd")
    taken = {name: store.read_json(f"{out}/taken-{name}.json") for name in NAMES}
    if missing := [name for name, seconds in taken.items() if not seconds]:
        raise SystemExit(f"not run yet: {', '.join(missing)}")
    store.write_text(str(RESULTS / "alignment.json"), json.dumps(facts(catalogue, out), indent=1) + "\n")
    record = {
        "code": code_fingerprint(*pages()),
        "seeds": list(SEEDS),
        "seconds": taken,
        "versions": versions(),
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "align", help="folder of trainings and answers"
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=list(NAMES), help="some of the experiments"
    )
    parser.add_argument("--keep", action="store_true", help="store what --out holds; train nothing")
    args = parser.parse_args()
    import torch

    from mmpc_analysis.catalogue.items import load_catalogue

    torch.set_num_threads(1)
    catalogue, out = load_catalogue(), str(args.out)
    if args.keep:
        keep(catalogue, out)
    else:
        run(experiments(catalogue, out, args.only), catalogue, out)


if __name__ == "__main__":
    main()
