"""Tables of an alignment, made up: numbers as a small run could give them, none of them measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mmpc_analysis import tables
from mmpc_analysis.report.run import Run

TITLES, PICTURES, BASE = "image_to_text", "text_to_image", "standin-gemma-s"
WITNESSES = {"minilm_retrieval": ("semantic", 0.62), "brand_hit": ("faithfulness", 0.31)}
REWARDED = {"token_f1": ("word", 0.111, "reward"), "minilm_cosine": ("semantic", 0.402, "same encoder")}
# Treatment: seeds, steps, answers, processor seconds, change and half its interval
TREATMENTS = {
    "grpo": (3, 80, 10240, 76.0, 0.05, 0.04, "better"),
    "supervised": (3, 400, 0, 75.0, 0.07, 0.04, "better"),
    "best_of_n": (3, 0, 1768, 0.4, 0.03, 0.035, "not shown"),
    "examples": (1, 0, 0, 0.3, -0.002, 0.01, "equivalent"),
    "strip_filler": (1, 0, 0, 0.2, 0.06, 0.03, "better"),
}
AGAINST = {
    "supervised": (-0.02, 0.015, "worse"),
    "best_of_n": (0.02, 0.045, "not shown"),
    "examples": (0.052, 0.04, "better"),
    "strip_filler": (-0.01, 0.01, "not shown"),
}


def effect(treatment, metric, estimate, half, verdict, before=0.6, **more):
    "One row of the effects."
    optional = [c.name for c in tables.ALIGNMENT_EFFECTS.columns if not c.required]
    base = dict.fromkeys(optional, np.nan) | {"task": TITLES, "category": "all", "level": "semantic"}
    base |= {"base": BASE, "against": "before", "trained_on": "", "question": "change", "term": "made up"}
    base |= {"metric": metric, "treatment": treatment, "estimate": estimate, "low": estimate - half}
    base |= {"high": estimate + half, "n": 160, "method": "made up", "before": before, "verdict": verdict}
    return base | {"after": before + estimate, "seeds": 3, "margin": 0.02} | more


def effects_table(*rows):
    return tables.validate(pd.DataFrame(list(rows)), tables.ALIGNMENT_EFFECTS)


def effect_rows(categories=("Food", "Tools", "Toys")):
    "Every treatment in every metric, of all items and by category, and GRPO against each control."
    rows = []
    for name, (seeds, _, _, _, change, half, verdict) in TREATMENTS.items():
        for k, (metric, (level, before)) in enumerate(WITNESSES.items()):
            more = {"seeds": seeds, "before": before, "level": level}
            rows.append(
                effect(name, metric, change * (1 - 0.4 * k), half, verdict if k == 0 else "not shown", **more)
            )
        for metric, (level, before, kind) in REWARDED.items():
            more = {"seeds": seeds, "before": before, "level": level, "trained_on": kind}
            rows.append(effect(name, metric, 3 * change, half, "trained on", **more))
        for k, category in enumerate(categories):
            more = {"category": category, "seeds": seeds, "before": 0.55 + 0.05 * k, "n": 54}
            rows.append(
                effect(name, "minilm_retrieval", change + 0.02 * (k - 1), 1.7 * half, "not shown", **more)
            )
    for name, (gap, half, verdict) in AGAINST.items():
        rows.append(effect("grpo", "minilm_retrieval", gap, half, verdict, before=0.67 - gap, against=name))
    return rows


def claim_row(question, verdict, estimate, half, other="", task=TITLES, metric="minilm_retrieval", **detail):
    "One claim about an alignment."
    facts = {
        "base": BASE,
        "treatment": "grpo",
        "seeds": 3,
        "margin": 0.02,
        "items": 221,
        "within_margin": False,
    } | detail
    row = {"question": question, "task": task, "category": "all", "metric": metric, "level": "semantic"}
    row |= {
        "subject": f"{facts['base']}-{facts['treatment']}",
        "other": other,
        "verdict": verdict,
        "estimate": estimate,
        "p_value": np.nan,
    }
    row |= {
        "low": estimate - half,
        "high": estimate + half,
        "n": 160,
        "unit": "listing groups",
        "method": "made up",
    }
    return row | {"rests_on": "alignment_effects", "detail": json.dumps(facts)}


def claims_table(*rows):
    return tables.validate(pd.DataFrame(list(rows)), tables.CLAIMS)


def claim_rows():
    "What the effects bear."
    rows = [claim_row("titles_aligned", "better", 0.05, 0.04, "before")]
    return rows + [claim_row("beats_control", v, gap, half, name) for name, (gap, half, v) in AGAINST.items()]


def alignments_table():
    "One row a treatment and seed."
    rows = []
    for name, (seeds, steps, answers, seconds, *_) in TREATMENTS.items():
        for seed in range(seeds):
            rows.append({
                "task": TITLES, "base": BASE, "treatment": name, "seed": seed, "model": f"{BASE}-{name}-{seed}", "items": 1024,
                "steps": steps, "answers": answers, "cpu_seconds": seconds + seed, "answer_seconds": 0.003 * (8 if name == "best_of_n" else 1),
                "gigabytes": 0.9, "stopped": "", "fingerprint": f"{name}{seed}c0ffee",
            })  # fmt: skip
    return tables.validate(pd.DataFrame(rows), tables.ALIGNMENTS)


def steps_table(seeds=3, steps=80, seed=0):
    "Curves of a training that works: the reward rises, entropy and distinct answers fall a little."
    rng, rows = np.random.default_rng(seed), []
    for run in range(seeds):
        for step in range(steps + 1):
            done = 1 - np.exp(-step / 15)
            told = {
                "reward": 0.2 + 0.14 * done + rng.normal(0, 0.02),
                "entropy": 0.34 - 0.06 * done + rng.normal(0, 0.01),
            }
            told["distinct"] = 0.62 - 0.1 * done + rng.normal(0, 0.02)
            if step % 10 == 0:
                told |= {
                    "look/minilm_retrieval": 0.61 + 0.05 * done + rng.normal(0, 0.008),
                    "look/distinct": 0.8 - 0.06 * done,
                }
            place = {"task": TITLES, "base": BASE, "treatment": "grpo", "seed": run, "step": step}
            rows += [
                place | {"measure": m, "value": v} for m, v in told.items() if step or m.startswith("look/")
            ]
    return tables.validate(pd.DataFrame(rows), tables.ALIGNMENT_STEPS)


def alarms_table(*rows):
    base = {
        "task": TITLES,
        "base": BASE,
        "treatment": "grpo",
        "seed": 1,
        "step": 34,
        "tripwire": "silent_most",
    }
    base |= {"value": 0.72, "bound": 0.7, "action": "warned"}
    return tables.validate(pd.DataFrame([base | row for row in rows or ({},)]), tables.ALARMS)


CHECKS = (
    ("greedy_accuracy", 0.295, 0.24, 0.35, np.nan, 48, "share", "told"),
    ("reward_kept", 0.63, 0.55, 0.71, 0.6, 48, "ratio", "fine"),
    ("silent_groups", 0.55, 0.45, 0.65, 0.3, 48, "share", "doubtful"),
    ("head_room", 0.21, 0.16, 0.26, 0.05, 48, "reward", "fine"),
    ("step_seconds", 0.92, np.nan, np.nan, np.nan, 1, "s", "told"),
    ("step_gigabytes", 0.9, np.nan, np.nan, np.nan, 1, "GB", "told"),
)


def checks_table(rows=CHECKS):
    names = ["measure", "value", "low", "high", "bound", "n", "unit", "verdict"]
    frame = pd.DataFrame(rows, columns=names).assign(task=TITLES, base=BASE)
    return tables.validate(frame, tables.ALIGNMENT_CHECKS)


MANIFEST = {"alignment": {
    "recipe": {"steps": 80, "questions": 8, "group": 16, "learning_rate": 0.0003, "temperature": 0.8},
    "reward": {"token_f1": 1.0, "aggregation": "sum_then_normalize"},
}}  # fmt: skip


def alignment_run(**replaced):
    "A run that holds an alignment, perhaps with other tables."
    found = {name: tables.empty(table) for name, table in tables.TABLES.items()}
    found |= {"alignments": alignments_table(), "alignment_steps": steps_table(), "alarms": alarms_table()}
    found |= {"alignment_checks": checks_table(), "alignment_effects": effects_table(*effect_rows())}
    found |= {"claims": claims_table(*claim_rows())}
    return Run("", "", found | replaced, MANIFEST)


def with_place(run, task=TITLES, base="standin-qwen-s"):
    "The same run with a second alignment, of another model or task, whose numbers are the same."
    more, pictures = {}, {"minilm_retrieval": "effnet_retrieval", "titles_aligned": "pictures_aligned"}
    for name in (
        "alignments",
        "alignment_steps",
        "alarms",
        "alignment_checks",
        "alignment_effects",
        "claims",
    ):
        rows = run.tables[name]
        own = rows["base"] == BASE if "base" in rows else rows["detail"].str.contains(BASE)
        rows = rows[own & (rows["task"] == TITLES)].assign(task=task)
        for column in {"base", "detail", "subject"} & set(rows):
            rows[column] = rows[column].str.replace(BASE, base)
        rows = rows.replace(pictures) if task == PICTURES else rows
        more[name] = pd.concat([run.tables[name], rows], ignore_index=True)
    return replace(run, tables=run.tables | more)


RESULTS = Path(__file__).resolve().parents[2] / "nbs" / "results"
SHOWN = ("wordy-gemma-s", BASE)  # The start that pages show, the first that there is


def published_run(folder=RESULTS):
    "What is published of the experiment; None where it is not there yet."
    if not (folder / "alignments.parquet").exists():
        return None
    found = {name: tables.empty(table) for name, table in tables.TABLES.items()}
    for name in {path.stem for path in folder.glob("*.parquet")} & set(found):
        found[name] = tables.validate(pd.read_parquet(folder / f"{name}.parquet"), tables.TABLES[name])
    return Run("", "", found, json.loads((folder / "manifest.json").read_text(encoding="utf-8")))


def what_is_shown():
    "A run for the pages, the task and start that they show of it, and a sentence that says where it came from."
    if (run := published_run()) is None:
        return (
            alignment_run(),
            (TITLES, BASE),
            "What is drawn here is made up too. Nothing in it was measured.",
        )
    bases = run.tables["alignments"].query("task == @TITLES")["base"].unique()
    base = next(name for name in (*SHOWN, *bases) if name in bases)
    note = (run.manifest.get("alignment") or {}).get("notes", {}).get(base, "")
    about = f"What is drawn here are titles of `{base}` in the published experiment, `tools/experiments/align_standins.py`."
    return run, (TITLES, base), f"{about} {note}".strip()
