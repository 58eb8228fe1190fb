"""Sentences about quality and cost, against data made to contradict them."""

import pandas as pd
from slope_rows import PLACE

from mmpc_analysis.analysis.claims import cost_claim
from mmpc_analysis.report.cost import cost_words
from mmpc_analysis.tables import CLAIMS, validate


def priced(on, unit="machine hours", task="image_to_text"):
    rows = [
        PLACE
        | {
            "task": task,
            "category": "all",
            "model": f"m{k}",
            "cost": float(3 - k),
            "unit": unit,
            "on_frontier": side,
        }
        for k, side in enumerate(on)
    ]
    return pd.DataFrame(rows)


def decided(*established):
    row = PLACE | {
        "margin": 0.02, "best": "m0", "chosen": "m1", "cost": 1.0, "best_cost": 2.0, "unit": "machine hours", "risk": 0.01,
        "n": 40, "good_enough": 1, "unpriced": 0, "estimate": -0.01, "low": -0.015, "method": "made",
    }  # fmt: skip
    names = ["all", *(f"c{k}" for k in range(len(established) - 1))]
    rows = [
        row | {"category": c, "established": e, "verdict": "established" if e else "undecided"}
        for c, e in zip(names, established, strict=True)
    ]
    return validate(pd.DataFrame([cost_claim(pd.Series(r)) for r in rows]), CLAIMS)


def test_cost_words_name_the_frontier_and_the_decision():
    said = cost_words(priced([True, False, True]), decided(True, False, True))
    assert said[0].startswith(
        "By their means, cheapest first, m2 and m0 stand on the frontier; for m1 another model"
    )
    assert "m1 is the cheapest model shown" in said[1] and "made in one of two" in said[2]
    assert "measured time of this machine" in said[3] and "drawing" not in said[3]
    other = cost_words(priced([True, True, True], "EUR"), decided(False, False, False))
    assert (
        "no model is beaten in both" in other[0] and "Undecided" in other[1] and "in none of two" in other[2]
    )
    assert "EUR by the price list" in other[3] and "machine" not in other[3]
    drawn = cost_words(priced([True], task="text_to_image"), decided(True).assign(task="text_to_image"))
    assert "without drawing" in drawn[-1]
    assert "No cost is known" in cost_words(priced([True]).head(0), decided(True).head(0))[0]
