"""Scores and completions of models whose truth is known."""

from functools import cache

import numpy as np
import pandas as pd

from mmpc_analysis import tables
from mmpc_analysis.analysis import conclusions

SIZES = {"a-s": 1e9, "a-m": 4e9, "a-l": 2e10, "b-s": 2e9, "b-m": 9e9, "b-l": 5e10}


def simulated(slope=0.1, model=0.0, items=40, categories=2, seed=0, sizes=SIZES, noise=0.1, metric="chrf"):
    "Scores of models whose mean rises by slope for ten times the parameters."
    rng, rows = np.random.default_rng(seed), []
    for category in range(categories):
        for item in range(items):
            hard = rng.normal(0, 0.1)
            for name, size in sizes.items():
                rows.append(
                    (
                        f"i{category}-{item:03d}",
                        f"c{category}",
                        name,
                        name[0],
                        size,
                        hard + slope * (np.log10(size) - 10),
                    )
                )
    frame = pd.DataFrame(rows, columns=["item_id", "category", "model", "family", "parameters", "value"])
    off = {name: rng.normal(0, model) for name in sizes}
    frame["value"] += 0.5 + frame["model"].map(off) + rng.normal(0, noise, len(frame))
    return frame.assign(task="image_to_text", metric=metric, level="word", outcome="ok")


def answered(scores, seconds=None):
    "Completions of those scores, with the time that each took."
    rows = scores[["item_id", "category", "task", "model", "family", "parameters", "outcome"]].copy()
    rows["seconds"] = rows["model"].map(seconds or {}).fillna(1.0)
    text = {
        "precision": "float32",
        "prompt": "p",
        "key": "k",
        "role": "model",
        "input_tokens": 10.0,
        "output_tokens": 5.0,
    }
    return tables.validate(rows.assign(**text), tables.COMPLETIONS)


def averaged(scores):
    from mmpc_analysis.scores.averages import average

    return average(scores, draws=20)


@cache
def simulated_conclusions():
    "Every table of conclusions about one simulated study, and its averages."
    scores = simulated(items=15, model=0.05)
    averages = averaged(scores)
    makers = conclusions.conclusion_tables(scores, answered(scores), averages, draws=50)
    return {name: make() for name, make in makers.items()} | {"averages": averages}
