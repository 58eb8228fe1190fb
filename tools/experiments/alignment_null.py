"""How often is something false claimed of a training? Simulated studies whose truth is known, with items in groups and three seeds.

    python tools/experiments/alignment_null.py [studies of each world] [processes]

Writes tests/data/alignment/alignment_null.json, in six and a half minutes of processor time on a busy machine.

Coverage: tables of changes, items in listing groups of one to eight, with variance from groups, items, seeds, and what an item does with one
seed alone. Counted is how often the 95% interval of `changed_means` holds the true change, and of two ways that forget a source of chance.
Claims: whole studies, from scores to `alignment_claims`, of 150 items in about 110 groups, a start, GRPO, supervised fine-tuning and best of n with three
seeds each, examples and a rule without seeds. A share is the share of families of tests,
one for each task, in which at least one claim of a kind is false. The first
world in which nothing changed is the plain one; in the others seeds matter more than items, answers are right or wrong, few answers change at all, or
everything changed by exactly the margin. In the last there is something to find.
"""

import hashlib
import json
import os
import sys
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from code_fingerprint import code_fingerprint

from mmpc_analysis.alignment.alignment_claims import ALIGNMENT_STATEMENTS, alignment_claims
from mmpc_analysis.alignment.before_after import Outcomes, alignment_effects, changed_means
from mmpc_analysis.recommendation.crossed import crossed_p_value, squared_half_widths

FILE = Path(__file__).resolve().parents[2] / "tests" / "data" / "alignment" / "alignment_null.json"
CODE = (
    "alignment.before_after", "alignment.alignment_claims", "recommendation.crossed", "scores.intervals",
    "analysis.near_ties", "analysis.multiplicity",
)  # fmt: skip
DRAWS, STUDIES, SEEDS, MARGIN = 2000, 150, 3, 0.02

# ---------------------------------------------------------------- coverage

LAWS = {  # Standard deviations of groups, items, seeds, and the rest; groups; seeds
    "items vary": (0.2, 0.2, 0.0, 0.0, 110, 3),
    "items and rest": (0.1, 0.1, 0.0, 0.3, 110, 3),
    "seeds vary": (0.0, 0.0, 0.05, 0.1, 110, 3),
    "all vary": (0.15, 0.15, 0.03, 0.2, 110, 3),
    "all vary, five seeds": (0.15, 0.15, 0.03, 0.2, 110, 5),
    "all vary, fifteen groups": (0.15, 0.15, 0.03, 0.2, 15, 3),
    "without seeds": (0.2, 0.2, 0.0, 0.0, 110, 1),
}


def group_sizes(groups, rng):
    "Items of every group: most have one, a few have many."
    return rng.choice([1, 1, 1, 1, 2, 2, 3, 8], size=groups)


def one_table(law, rng):
    "Changes of items after seeds around a true change of zero, and their groups."
    of_group, of_item, of_seed, rest, groups, seeds = LAWS[law]
    label = np.repeat(np.arange(groups), group_sizes(groups, rng))
    n = len(label)
    values = rng.normal(0, of_group, groups)[label][:, None] + rng.normal(0, of_item, n)[:, None]
    return values + rng.normal(0, of_seed, seeds) + rng.normal(0, rest, (n, seeds)), label


def intervals(values, label, level=0.95):
    "Whether each way's interval holds zero."
    from scipy.special import stdtrit

    n, seeds = values.shape
    found = changed_means(Outcomes(values, seeds > 1), Outcomes(np.zeros((n, 1)), False), label)
    half = float(np.sqrt(squared_half_widths(found, level)).item())
    assert (crossed_p_value(found) < 1 - level) == (abs(found.means[0]) > half)
    held = {"groups and seeds": half}
    held["items alone"] = stdtrit(n - 1, (1 + level) / 2) * values.mean(axis=1).std(ddof=1) / np.sqrt(n)
    if seeds > 1:
        held["seeds alone"] = (
            stdtrit(seeds - 1, (1 + level) / 2) * values.mean(axis=0).std(ddof=1) / np.sqrt(seeds)
        )
    return {name: abs(found.means[0]) <= width for name, width in held.items()}


def coverage(law, draws=DRAWS):
    "Shares of intervals that hold the truth."
    rng = np.random.default_rng(list(LAWS).index(law))
    found = pd.DataFrame([intervals(*one_table(law, rng)) for _ in range(draws)])
    row = {"law": law, "groups": LAWS[law][4], "seeds": LAWS[law][5]}
    row |= {name: float(found[name].mean()) for name in found}
    own = row["groups and seeds"]
    return row | {"standard error": float(np.sqrt(own * (1 - own) / draws)), "draws": draws}


# ---------------------------------------------------------------- claims

METRICS = {
    "image_to_text": {"minilm_retrieval": "", "brand_hit": "", "example_copy": "", "chrf": "reward"},
    "text_to_image": {"effnet_retrieval": "", "ms_ssim": "", "effnet_patch_cosine": "reward"},
}
TREATMENTS = {
    "image_to_text": ("grpo", "supervised", "best_of_n", "examples", "strip_filler"),
    "text_to_image": ("grpo", "best_of_n", "title"),
}
ONCE = ("examples", "strip_filler", "title")
PLAIN = {"of_group": 0.1, "of_item": 0.15, "of_seed": 0.006, "rest": 0.2}
WORLDS = {
    "nothing changed": {"categories": 3},
    "nothing, seeds matter": {"of_group": 0.03, "of_item": 0.03, "of_seed": 0.03, "rest": 0.05},
    "nothing, right or wrong": {"law": "binary", "categories": 3},
    "nothing, few answers move": {"law": "few"},
    "by the margin": {"of_group": 0.04, "of_item": 0.03, "of_seed": 0.002, "rest": 0.03, "gain": "margin"},
    "better titles, same pictures": {"of_group": 0.03, "of_item": 0.03, "of_seed": 0.002, "rest": 0.03, "gain": "titles"},
}  # fmt: skip


def gains(world):
    "The true change of every task, metric and treatment, positive where better."
    found = {}
    for task, metrics in METRICS.items():
        for k, metric in enumerate(metrics):
            for j, treatment in enumerate(TREATMENTS[task]):
                gain = 0.0
                if (
                    world.get("gain") == "margin"
                ):  # GRPO off the start by the margin, and off every control by it too
                    gain = MARGIN * (-1) ** k * (1 if treatment == "grpo" else 2 * (j % 2))
                if world.get("gain") == "titles" and task == "image_to_text" and treatment == "grpo":
                    gain = 0.1
                found[task, metric, treatment] = gain
    return found


def changes(world, gain, label, seeds, rng):
    "Changes of all items by one treatment."
    groups, n = label.max() + 1, len(label)
    if world.get("law") == "few":
        moved = rng.random((groups, 1))[label] < 0.05
        return gain + moved * rng.choice([-1, 1], (groups, 1))[label] * rng.uniform(0.1, 1, (n, seeds))
    sds = PLAIN | world
    values = (
        gain
        + rng.normal(0, sds["of_group"], groups)[label][:, None]
        + rng.normal(0, sds["of_item"], n)[:, None]
    )
    return values + rng.normal(0, sds["of_seed"], seeds) + rng.normal(0, sds["rest"], (n, seeds))


def right_or_wrong(label, treatments, rng):
    "Scores of 0 and 1 of the start and of treatments that are right equally often."
    groups, n = label.max() + 1, len(label)
    skill = 0.8 * rng.normal(size=groups)[label] + 0.8 * rng.normal(size=n)
    noise = np.sqrt(0.5**2 + 0.5**2 + 0.05**2)
    found = {"start": (skill + noise * rng.normal(size=n) > 0.6)[:, None].astype(float)}
    for treatment in treatments:
        seeds = 1 if treatment in ONCE else SEEDS
        own, luck = 0.5 * rng.normal(size=(n, 1)), 0.05 * rng.normal(size=seeds) * (seeds > 1)
        found[treatment] = (skill[:, None] + own + luck + 0.5 * rng.normal(size=(n, seeds)) > 0.6).astype(
            float
        )
    return found


def study(name, number):
    "Scores and alignments of one made-up study."
    world, rng = WORLDS[name], np.random.default_rng([list(WORLDS).index(name), number])
    sizes, rows, runs = rng.choice([1, 1, 1, 1, 2, 3], size=110), [], []
    label = np.repeat(np.arange(110), sizes)[:150]
    items = pd.DataFrame(
        {"item_id": [f"i{k:03d}" for k in range(len(label))], "parent_id": [f"p{g:03d}" for g in label]}
    )
    items["category"] = [f"c{g % world.get('categories', 1)}" for g in label]
    for task, metrics in METRICS.items():
        for metric in metrics:
            sign = -1 if metric == "example_copy" else 1
            if world.get("law") == "binary":
                values = right_or_wrong(label, TREATMENTS[task], rng)
            else:
                start = (
                    0.4 + 0.1 * rng.normal(size=label.max() + 1)[label] + 0.1 * rng.normal(size=len(label))
                )
                values = {"start": start[:, None]}
                for treatment in TREATMENTS[task]:
                    gain, once = sign * gains(world)[task, metric, treatment], treatment in ONCE
                    here = world | {"of_seed": 0.0} if once else world
                    values[treatment] = values["start"] + changes(
                        here, gain, label, 1 if once else SEEDS, rng
                    )
            for treatment, own in values.items():
                for s, column in enumerate(own.T):
                    model = treatment if treatment == "start" else f"start-{treatment}-{s}"
                    rows.append(items.assign(task=task, metric=metric, model=model, value=column))
        runs += [
            (task, "start", treatment, s, f"start-{treatment}-{s}", 100, 80, 1000)
            for treatment in TREATMENTS[task] for s in range(1 if treatment in ONCE else SEEDS)
        ]  # fmt: skip
    columns = ["task", "base", "treatment", "seed", "model", "items", "steps", "answers"]
    scores = pd.concat(rows, ignore_index=True).assign(
        level="semantic", outcome="ok", family="made", role="model"
    )
    return scores, pd.DataFrame(runs, columns=columns)


def holds(claim, truth, margin):
    "Whether a claim that asserts something is true."
    gain = truth[claim.task, claim.metric, "grpo"]
    off = gain - (0.0 if claim.other == "before" else truth[claim.task, claim.metric, claim.other])
    return {"better": off > 1e-12, "worse": off < -1e-12, "equivalent": abs(off) < margin - 1e-12}[
        claim.verdict
    ]


def claims_of(name, number):
    "The claims of one study that assert something, and whether each is true."
    scores, runs = study(name, number)
    kin = {metric: kind for metrics in METRICS.values() for metric, kind in metrics.items()}
    effects = alignment_effects(scores, runs, kin, margins=dict.fromkeys(kin, MARGIN))
    found = alignment_claims(effects, categories=True)
    keys = pd.Series(list(zip(found["question"], found["verdict"], strict=True)), index=found.index)
    found = found[keys.isin(list(ALIGNMENT_STATEMENTS))]
    truth = gains(WORLDS[name])
    return found.assign(holds=[holds(c, truth, MARGIN) for c in found.itertuples()])


def digest(claims):
    "A few digits that change when a study makes other claims."
    told = claims[["question", "category", "metric", "other", "verdict", "holds"]]
    return hashlib.sha256(told.to_csv(index=False).encode()).hexdigest()[:8]


def shares(name, studies):
    "For each kind of claim: share of families of tests, one for each task of a study, that make one, and a false one."
    found = [claims[claims["task"] == task] for claims in studies for task in METRICS]
    kinds = [(q, v, False) for q, v in ALIGNMENT_STATEMENTS]
    kinds += [
        (q, v, True) for q, v in ALIGNMENT_STATEMENTS if v != "equivalent" and "categories" in WORLDS[name]
    ]
    rows = []
    for question, verdict, single in kinds:
        families = found[:: len(METRICS)] if question == "titles_aligned" else found
        families = found[1 :: len(METRICS)] if question == "pictures_aligned" else families
        own = [c[(c["question"] == question) & (c["verdict"] == verdict)] for c in families]
        own = [c[(c["category"] != "all") == single] for c in own]
        false = float(np.mean([(~c["holds"]).any() for c in own]))
        row = {"world": name, "question": question, "verdict": verdict, "of categories": single}
        row |= {"claimed": float(np.mean([len(c) > 0 for c in own])), "false": false}
        rows.append(
            row | {"standard error": float(np.sqrt(false * (1 - false) / len(own))), "families": len(own)}
        )
    return rows


def main(studies=STUDIES, processes=2):
    stored = {"code": code_fingerprint(*CODE)}
    with get_context("spawn").Pool(processes) as pool:
        stored["coverage"] = pool.map(coverage, LAWS, chunksize=1)
        jobs = [(name, number) for name in WORLDS for number in range(studies)]
        found = pool.starmap(claims_of, jobs, chunksize=5)
    by_world = {name: found[k * studies : (k + 1) * studies] for k, name in enumerate(WORLDS)}
    stored["claims"] = [row for name, own in by_world.items() for row in shares(name, own)]
    stored["first"] = {name: digest(own[0]) for name, own in by_world.items()}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(stored["coverage"]).to_string(), pd.DataFrame(stored["claims"]).to_string(), sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
