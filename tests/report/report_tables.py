"""A table of averages with everything that figures have to draw, and what is read off a figure."""

import numpy as np
import pandas as pd

from mmpc_analysis.tables import AVERAGES, OUTCOMES, system_names, validate

TASK = "text_to_image"


METRICS = {"ssim": "pixel", "effnet_patch_cosine": "patch", "effnet_cosine": "semantic"}


MODELS = {
    "qwen2.5-vl-7b": ("qwen2.5-vl-7b", "model", "Qwen2.5-VL", 7e9),
    "qwen2.5-vl-72b": ("qwen2.5-vl-72b", "model", "Qwen2.5-VL", 72e9),
    "gemma-3-4b": ("gemma-3-4b", "model", "Gemma-3", 4e9),
    "blind gemma-3-4b": ("gemma-3-4b", "blind", "Gemma-3", 4e9),
    "template": ("template", "floor", "", np.nan),
    "shuffled": ("shuffled", "floor", "", np.nan),
    "oracle": ("oracle", "ceiling", "", np.nan),
}


HOSTILE = "<script>alert(1)</script><a href='//x.example'>\u202egnp</a>"


def averages_table(models=MODELS, categories=("all", "Toys_and_Games", "All_Beauty"), seed=0):
    "An averages table with asymmetric intervals and counts that differ from row to row."
    rng, rows = np.random.default_rng(seed), []
    for model, role, family, parameters in models.values():
        for category in categories:
            counts = rng.integers(1, 20, len(OUTCOMES))
            for metric, level in METRICS.items():
                value = rng.uniform(0.2, 0.8)
                low, high = value - rng.uniform(0.01, 0.1), value + rng.uniform(0.01, 0.1)
                usable = counts[:2].sum() / counts.sum()
                place = (TASK, model, role, "", "", "", family, parameters, category, metric, level)
                rows.append((*place, value, low, high, counts.sum(), usable, *counts))
    names = [name for name in AVERAGES.names if name not in ("groups", "method", "item_set")]
    return validate(pd.DataFrame(rows, columns=names), AVERAGES)


def row_of(averages, model, metric="ssim", category="all"):
    found = averages[
        (system_names(averages) == model)
        & (averages["metric"] == metric)
        & (averages["category"] == category)
    ]
    assert len(found) == 1
    return found.iloc[0]


def error_ends(error, values):
    return np.asarray(values) - error.arrayminus, np.asarray(values) + error.array


def unknown(averages):
    return averages.assign(estimate=np.nan, low=np.nan, high=np.nan, coverage=np.nan)
