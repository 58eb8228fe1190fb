"Made-up scores and R's numbers, for several tests of the room."

import numpy as np
import pandas as pd
from conftest import ROOT

from mmpc_analysis.analysis.association import (
    permutation_test,
)

DATA = ROOT / "tests" / "data" / "analysis"


MODELS = [
    ("a1", "A", 1e9),
    ("a2", "A", 4e9),
    ("a3", "A", 16e9),
    ("b1", "B", 2e9),
    ("b2", "B", 8e9),
    ("b3", "B", 32e9),
]


def make_scores(values, models=MODELS, metric="token_f1", categories=None, task="image_to_text"):
    "A scores table from an (items, models) array."
    values = np.asarray(values, dtype=float)
    categories = categories or ["Electronics"] * len(values)
    rows = [
        (f"i{i:04d}", categories[i], task, name, family, count, metric, "word", values[i, j], "ok")
        for i in range(len(values))
        for j, (name, family, count) in enumerate(models)
    ]
    columns = [
        "item_id",
        "category",
        "task",
        "model",
        "family",
        "parameters",
        "metric",
        "level",
        "value",
        "outcome",
    ]
    return pd.DataFrame(rows, columns=columns)


def permutation_p(x, y, coefficient="spearman"):
    return permutation_test(x, y, coefficient).p_value
