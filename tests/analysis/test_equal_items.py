"A model whose engine failed on the hard half leads nowhere: one made-up run through every function that compares models."

import numpy as np
import pandas as pd
import pytest
from comparison_cases import make_scores

from mmpc_analysis.analysis.adjusted_means import model_means
from mmpc_analysis.analysis.comparison import compare, sensitivity
from mmpc_analysis.analysis.decision import cheapest, cost_per_1000, decision_sentence
from mmpc_analysis.analysis.equivalence import equivalence
from mmpc_analysis.analysis.stability import rank_agreement, rank_stability
from mmpc_analysis.scores.item_sets import headline_set
from mmpc_analysis.tables import COMPLETIONS


def run(models=2, items=120, metric="chrf", lower=False):
    "Equally good models, of which the engine of the last failed on the hard half; easy items score 0.9, hard ones 0.1."
    rng = np.random.default_rng(5)
    easy = np.arange(items) < items // 2
    values = np.where(easy, 0.9, 0.1)[:, None] + rng.normal(0, 0.02, (items, models))
    values = 1 - values if lower else values
    scores = make_scores(
        values, categories=["Mugs" if i % 2 else "Hats" for i in range(items)], metric=metric
    )
    scores = scores.assign(role="model", prompt="", precision="", parent_id=scores["item_id"])
    lost = scores["model"].eq("abcdef"[models - 1]) & scores["item_id"].ge(f"i{items // 2:04d}")
    scores = scores.assign(
        value=scores["value"].mask(lost), outcome=scores["outcome"].mask(lost, "engine_error")
    )
    return scores


def completions_of(scores, seconds):
    place = [
        "item_id",
        "category",
        "task",
        "model",
        "family",
        "parameters",
        "outcome",
        "role",
        "prompt",
        "precision",
    ]
    rows = scores[place].drop_duplicates().assign(key="", input_tokens=1.0, output_tokens=1.0)
    return rows.assign(seconds=rows["model"].map(seconds)).reindex(columns=COMPLETIONS.names)


@pytest.mark.parametrize(
    ("models", "metric", "lower"), [(2, "chrf", False), (3, "chrf", False), (3, "mse", True)]
)
def test_no_function_says_that_the_lucky_one_leads(models, metric, lower):
    scores = run(models, metric=metric, lower=lower)
    lucky = "abcdef"[models - 1]
    own = scores.groupby("model")["value"].mean() * (-1 if lower else 1)
    assert own[lucky] > own.drop(lucky).max() + 0.3  # What a mean over what there is would say
    means = headline_set(scores)[0].groupby("model")["value"].mean()
    assert lucky not in means and means.max() - means.min() < 0.02
    pairs = compare(scores, draws=500).query("category == 'all'")
    of_lucky = pairs[pairs["other"].eq(lucky)]
    assert (pairs["estimate"].abs() < 0.02).all() and of_lucky["apart"].all() and len(of_lucky) == models - 1
    assert (of_lucky["items"] == 60).all() and not pairs[~pairs["other"].eq(lucky)]["apart"].any()
    assert (of_lucky["low_joint"] < 0.01).all() and (of_lucky["high_joint"] > -0.01).all()
    same = equivalence(scores, 0.03, draws=500).query("category == 'all'")
    assert set(same["verdict"]) == {"equivalent"}
    assert lucky not in set(rank_stability(scores, draws=50).get("model", []))
    assert rank_agreement(scores, draws=50)["models"].max() == models - 1
    assert lucky not in set(model_means(scores, every=True).get("model", []))
    costs = cost_per_1000(completions_of(scores, dict(zip("abc", (2.0, 3.0, 0.1), strict=True))))
    for _, row in cheapest(scores, costs, 0.03, draws=500).iterrows():
        assert row["chosen"] != lucky and row["best"] != lucky and row["apart"] == lucky
        assert f"lost to the engine: {lucky}." in decision_sentence(row)


def test_bounds_on_what_the_lost_answers_could_have_been_are_wide():
    rows = sensitivity(run(), "a", "b", draws=200).query("category == 'all'").set_index("rule")
    assert abs(rows.loc["failure value", "estimate"]) < 0.02 and rows.loc["failure value", "items"] == 60
    assert (
        rows.loc["against", "estimate"] == pytest.approx(-0.45, abs=0.02)
        and rows.loc["against", "items"] == 120
    )
    assert rows.loc["favour", "estimate"] == pytest.approx(0.05, abs=0.02)


def test_costs_are_of_answered_items_only():
    scores = run()
    seconds = completions_of(scores, {"a": 2.0, "b": 1.0})
    slow = seconds.assign(seconds=seconds["seconds"].mask(seconds["outcome"].eq("engine_error"), 600.0))
    pd.testing.assert_frame_equal(cost_per_1000(seconds), cost_per_1000(slow))
    assert cost_per_1000(slow).set_index("model").loc["b", "completions"] == 60
