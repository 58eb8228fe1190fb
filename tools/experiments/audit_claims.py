"""Audit the claims: simulate studies whose truth is known, and count how often what is claimed of it is false.

Every study is one made-up run: six models of two families and a floor, listing groups of one to four products, two or three categories,
scores in [0, 1]. All kinds of claims are made of it at once by `analysis_tables`, and each is held against its statement about the population
(`claims.STATEMENTS`, computed by `HOLDS` below). A share is the share of studies in which at least one claim of a kind is false; of claims about single
categories, which are a screen, the expected share of false ones. Writes tests/data/analysis/audit.json: the shares, a digest of every study's claims, from
which CI redraws a fixed fiftieth, and the fingerprint of the code that made them.

    python tools/experiments/audit_claims.py [studies of each world] [processes]
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

from mmpc_analysis import tables
from mmpc_analysis.analysis.claims import analysis_tables
from mmpc_analysis.analysis.headlines import headline_averages

CODE = ("analysis", "mixed", "scores.averages", "scores.intervals", "scores.item_sets")
SIZES = {"a-s": 1e9, "a-m": 4e9, "a-l": 2e10, "b-s": 2e9, "b-m": 9e9, "b-l": 5e10}
MODELS, LOG_SIZE = list(SIZES), np.log10(list(SIZES.values()))
FAMILY = np.array([name[0] for name in MODELS])
CENTRED = LOG_SIZE - np.array([LOG_SIZE[f == FAMILY].mean() for f in FAMILY])
MARGIN = 0.02
DRAWS = 199
STUDIES = 200
WORLDS = {
    "equal": {},  # Six equal models, a floor as good as they, no category harder than another
    "equal, many zeros": {"law": "zeros"},  # The same of scores that are mostly zero
    "at the margin": {
        "mean": [0, 0.02, 0.02, 0, 0.02, 0.02],
        "floor": 0.02,
        "groups": 120,
        "noise": 0.02,
    },  # Off by what just matters
    "models vary": {"model": 0.06, "floor": -0.05},  # Size does nothing in general; these models differ
    "apart": {
        "mean": [0, 0.02, 0.05, 0.02, 0.05, 0.1],
        "floor": -0.1,
        "hard": [0, 0, -0.15],
        "rise": [1, 1, 3],
    },  # There is something to find
}


def population(world, rng):
    "Expected score of every model in every category, of the floor, and the rise in general."
    k = len(world.get("hard", [0, 0]))
    mean = np.array(world.get("mean", [0.0] * 6)) + rng.normal(0, world.get("model", 0.0), 6)
    steep = np.array(world.get("rise", [1] * k), dtype=float)
    by_category = 0.4 + np.array(world.get("hard", [0] * k))[:, None] + mean * (steep / steep.mean())[:, None]
    general = 0.0 if "model" in world else float(CENTRED @ mean / (CENTRED @ CENTRED))
    return by_category, 0.4 + world.get("floor", 0.0) + np.array(world.get("hard", [0] * k)), general


def study(name, number):
    "Scores and completions of one made-up run, with its truth."
    world, rng = WORLDS[name], np.random.default_rng([list(WORLDS).index(name), number])
    mu, floor, general = population(world, rng)
    rows, noise, products = [], world.get("noise", 0.1), np.zeros(len(mu))
    for category in range(len(mu)):
        for group in range(world.get("groups", 60) // len(mu)):
            shared, own = rng.uniform(-0.1, 0.1), rng.uniform(-noise, noise, 7) * 0.6
            for item in range(rng.choice([1, 1, 1, 2, 4])):
                expected = np.append(mu[category], floor[category])
                if world.get("law") == "zeros":
                    value = (rng.random(7) < expected * 0.5 + shared) * rng.uniform(0.5, 1, 7)
                else:
                    value = expected + shared + own + rng.uniform(-noise, noise, 7)
                products[category] += 1
                place = {
                    "item_id": f"c{category}-{group}-{item}",
                    "parent_id": f"c{category}-{group}",
                    "category": f"c{category}",
                }
                rows += [
                    place | {"model": m, "value": v}
                    for m, v in zip([*MODELS, "template"], value, strict=True)
                ]
    scores = pd.DataFrame(rows).assign(
        task="image_to_text", metric="token_f1", level="word", outcome="ok", precision="", prompt=""
    )
    scores["role"] = np.where(scores["model"] == "template", "floor", "model")
    scores["family"], scores["parameters"] = scores["model"].str[0], scores["model"].map(SIZES)
    if world.get("law") == "zeros":
        mu, floor = mu * 0.375, floor * 0.375
    weights = products / products.sum()
    truth = {
        "mu": dict(zip(MODELS, weights @ mu, strict=True)),
        "floor": {"template": weights @ floor},
        "general": general,
    }
    truth |= {
        "categories": {f"c{c}": dict(zip(MODELS, row, strict=True)) for c, row in enumerate(mu)},
        "model": world.get("model", 0.0),
    }
    return tables.validate(scores, tables.SCORES), truth


def completions_of(scores):
    "The answers behind the scores; larger models take longer."
    kept = [
        "item_id",
        "parent_id",
        "category",
        "task",
        "model",
        "family",
        "parameters",
        "precision",
        "prompt",
        "role",
        "outcome",
    ]
    answers = scores.loc[scores["role"] == "model", kept].assign(
        key="k", input_tokens=10.0, output_tokens=5.0
    )
    return tables.validate(answers.assign(seconds=answers["parameters"] / 1e9), tables.COMPLETIONS)


def slope_of(mu):
    "The rise of these models for ten times the parameters, within families."
    return CENTRED @ np.array([mu[m] for m in MODELS]) / (CENTRED @ CENTRED)


def several(text):
    "Names that a claim lists."
    return [name for name in text.split(", ") if name]


def beats(mu, subject, others):
    "Whether a model is truly better than each of the others."
    return all(mu[subject] > mu[m] + 1e-12 for m in others if m != subject)


def near(mu, subject, other):
    "Whether two models truly differ by less than the margin."
    return abs(mu[subject] - mu[other]) < MARGIN - 1e-12


def floor_margin(mu, floor, subject):
    "Whether something is truly no more than the margin worse than every model."
    own = (mu | floor)[subject]
    return all(own > mu[m] - MARGIN + 1e-12 for m in MODELS if m != subject)


def spread(values):
    return np.ptp(list(values)) > 1e-12


HOLDS = {  # Question and verdict to whether the claim is true, from the claim, the means of its place, and the whole truth
    ("best", "best"): lambda c, mu, t: beats(mu, c.subject, MODELS),
    ("best", "best within margin"): lambda c, mu, t: beats(mu, c.subject, MODELS) and all(near(mu, c.subject, m) for m in MODELS),
    ("best", "among"): lambda c, mu, t: beats(mu, c.subject, set(MODELS) - set(several(c.other))),
    ("best", "equal"): lambda c, mu, t: np.ptp(list(mu.values())) < MARGIN - 1e-12,
    ("floor", "better"): lambda c, mu, t: all(mu[c.subject] > f + 1e-12 for f in t["floor"].values()),
    ("floor", "worse"): lambda c, mu, t: mu[c.subject] < t["floor"][c.other] - 1e-12,
    ("pair", "better"): lambda c, mu, t: mu[c.subject] > mu[c.other] + 1e-12,
    ("pair", "better within margin"): lambda c, mu, t: mu[c.subject] > mu[c.other] + 1e-12 and near(mu, c.subject, c.other),
    ("pair", "equal"): lambda c, mu, t: near(mu, c.subject, c.other),
    ("size", "better"): lambda c, mu, t: slope_of(mu) > 1e-12,
    ("size", "worse"): lambda c, mu, t: slope_of(mu) < -1e-12,
    ("size_in_general", "better"): lambda c, mu, t: t["general"] > 1e-12,
    ("size_in_general", "worse"): lambda c, mu, t: t["general"] < -1e-12,
    ("size_in_general", "no matter"): lambda c, mu, t: abs(t["general"]) < 1e-12,
    ("size_by_category", "differ"): lambda c, mu, t: spread([slope_of(m) for m in t["categories"].values()]),
    ("category", "hardest"): lambda c, mu, t: all(
        np.mean(list(m.values())) > np.mean(list(t["categories"][c.subject].values())) + 1e-12
        for name, m in t["categories"].items() if name != c.subject
    ),
    ("category", "differ"): lambda c, mu, t: spread([np.mean(list(m.values())) for m in t["categories"].values()]),
    ("variance", "differ"): lambda c, mu, t: t["model"] > 0 or spread(np.array([mu[m] for m in MODELS]) - fitted(mu)),
    ("cost", "good enough"): lambda c, mu, t: floor_margin(mu, t["floor"], c.subject),
    ("cost", "floor suffices"): lambda c, mu, t: floor_margin(mu, t["floor"], c.subject),
}  # fmt: skip


def fitted(mu):
    "What family and size alone say of each model."
    values = np.array([mu[m] for m in MODELS])
    return np.array([values[f == FAMILY].mean() for f in FAMILY]) + slope_of(mu) * CENTRED


def claims_of(name, number):
    "The claims of one made-up run that assert something, and whether each is true."
    scores, truth = study(name, number)
    averages = headline_averages(scores)
    how = {"draws": DRAWS, "seed": number, "margin": MARGIN}
    claims = analysis_tables(scores, completions_of(scores), averages, **how)["claims"]()
    claims = claims[["question", "category", "subject", "other", "verdict"]]
    asserted = claims[
        [key in HOLDS for key in zip(claims["question"], claims["verdict"], strict=True)]
    ].copy()
    asserted["holds"] = [
        bool(
            HOLDS[c.question, c.verdict](
                c, truth["mu"] if c.category == "all" else truth["categories"][c.category], truth
            )
        )
        for c in asserted.itertuples()
    ]
    digest = hashlib.sha256(claims.to_csv(index=False).encode()).hexdigest()[:8]
    return digest, asserted


def counted(asserted):
    "For each question, pooled and by category: claims, and false ones among them."
    place = np.where(asserted["category"] == "all", "", " by category")
    kind = asserted["question"] + place
    return {k: [len(part), int((~part["holds"]).sum())] for k, part in asserted.groupby(kind)}


def one(job):
    digest, asserted = claims_of(*job)
    return digest, counted(asserted)


def summary(results):
    "Per kind: studies that claim anything, and the share of false studies or of false claims."
    kinds = sorted({kind for _, counts in results for kind in counts})
    rows = {}
    for kind in kinds:
        counts = np.array([counts.get(kind, [0, 0]) for _, counts in results])
        screen = kind.endswith(" by category")
        wrong = counts[:, 1] / np.maximum(counts[:, 0], 1) if screen else counts[:, 1] > 0
        rows[kind] = {
            "claimed": float((counts[:, 0] > 0).mean()),
            "false": float(wrong.mean()),
            "studies": len(counts),
        }
    return rows


def main(studies=STUDIES, processes=2):
    out = Path(__file__).resolve().parents[2] / "tests/data/analysis/audit.json"
    jobs = [(name, number) for name in WORLDS for number in range(studies)]
    with get_context("spawn").Pool(processes) as pool:
        results = pool.map(one, jobs, chunksize=5)
    worlds = {name: [r for job, r in zip(jobs, results, strict=True) if job[0] == name] for name in WORLDS}
    stored = {
        "code": code_fingerprint(*CODE), "draws": DRAWS, "studies": studies,
        "shares": {name: summary(found) for name, found in worlds.items()},
        "digests": {name: " ".join(digest for digest, _ in found) for name, found in worlds.items()},
    }  # fmt: skip
    out.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    for name, kinds in stored["shares"].items():
        for kind, row in kinds.items():
            print(f"{name:20s} {kind:26s} claimed {row['claimed']:.3f} false {row['false']:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
