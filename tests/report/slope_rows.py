"""Rows of the table of slopes, as sentences read them."""

import pandas as pd

PLACE = {"task": "image_to_text", "metric": "chrf", "level": "word"}


def slope(question, estimate, low, high, p, category="all", dof=3.0, models=6, families=2, metric="chrf"):
    row = PLACE | {
        "metric": metric,
        "category": category,
        "question": question,
        "estimate": estimate,
        "low": low,
        "high": high,
    }
    row |= {
        "p_value": p,
        "p_adjusted": p,
        "dof": dof,
        "models": models,
        "families": families,
        "correction": "holm, 2 tests",
    }
    return row | {"standard_error": (high - low) / 6.4, "n": 6, "term": "log10p", "method": "exact"}


def size(these, general, **more):
    "Pooled slopes of both questions: (estimate, low, high, p)."
    return pd.DataFrame([slope("these_models", *these, **more), slope("scale_in_general", *general, **more)])


UP, OPEN, DOWN = (0.1, 0.05, 0.15, 0.001), (0.01, -0.1, 0.12, 0.4), (-0.1, -0.15, -0.05, 0.001)
