"Made-up scores and R's numbers, for several tests of the room."

import json

import numpy as np
import pandas as pd
from conftest import ROOT
from hypothesis import strategies as st

DATA = ROOT / "tests" / "data" / "analysis" / "comparison"


R = json.loads((DATA / "r.json").read_text())


def make_scores(values, names="abcdefgh", metric="chrf", categories=None, outcome="ok", task="image_to_text"):
    "A scores table from an (items, models) array."
    values = np.asarray(values, dtype=float)
    categories = categories or ["Mugs"] * len(values)
    rows = [
        (
            f"i{i:04d}",
            categories[i],
            task,
            names[j],
            "AB"[j % 2],
            10.0 ** (9 + j / 2),
            metric,
            "word",
            v,
            outcome,
        )
        for i, row in enumerate(values)
        for j, v in enumerate(row)
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


SEEDS = st.integers(0, 10_000)
