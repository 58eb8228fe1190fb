"Adjusted means against statsmodels, and against the truth where answers are missing on hard items."

import numpy as np
import pandas as pd
import pytest
from comparison_cases import make_scores

from mmpc_analysis.analysis.adjusted_means import model_means
from mmpc_analysis.tables import AVERAGES, validate


def unbalanced(seed=0, items=90, models=5, missing="random", groups=1):
    "Models that gain 0.03 each, of which every score is missing with a chance of a fifth, or the first lacks the hardest."
    rng = np.random.default_rng(seed)
    hard = np.sort(rng.normal(0, 0.15, items))[::-1]
    values = 0.5 + hard[:, None] + 0.03 * np.arange(models) + rng.normal(0, 0.03, (items, models))
    if missing == "random":
        values[rng.random((items, models)) < 0.2] = np.nan
    else:
        for j in range(models):
            values[items - (j + 1) * items // models : items - j * items // models, j] = np.nan
    scores = make_scores(values, categories=["Mugs" if i % 3 else "Hats" for i in range(items)])
    parent = scores["item_id"].str[1:].astype(int) // (
        3 * groups
    )  # Groups of items of several categories would be refused
    own = scores["category"] + (parent.astype(str) if groups > 1 else scores["item_id"])
    return scores[scores["value"].notna()].assign(parent_id=own).reset_index(drop=True)


def test_means_equal_statsmodels_random_intercepts():
    import statsmodels.formula.api as smf

    scores = unbalanced()
    fit = smf.mixedlm("value ~ model + category", scores, groups="item_id").fit(reml=True)
    share = scores.drop_duplicates("item_id")["category"].eq("Mugs").mean()
    base = fit.params["Intercept"] + share * fit.params["category[T.Mugs]"]
    means = model_means(scores).query("category == 'all'").set_index("model")["estimate"]
    for model in "abcde":
        assert means[model] == pytest.approx(
            base + (0 if model == "a" else fit.params[f"model[T.{model}]"]), abs=1e-4
        )


@pytest.mark.parametrize("groups", [1, 2])
def test_who_lacks_the_hard_items_gains_nothing(groups):
    scores = unbalanced(missing="hard", groups=groups)
    own = scores.groupby("model")["value"].mean()
    table = model_means(scores)
    means = table.query("category == 'all'").set_index("model")
    assert own["a"] > own["b"] and means["estimate"].idxmin() == "a"
    assert np.diff(means["estimate"]) == pytest.approx([0.03] * 4, abs=0.02)
    assert (means["low"] < means["estimate"]).all() and (means["estimate"] < means["high"]).all()
    assert ("parent_id" in means["method"].iloc[0]) == (groups > 1)
    validate(table, AVERAGES)
    assert set(table["category"]) == {"all", "Hats", "Mugs"} and (means["n"] < 90).all()


def test_only_where_the_common_items_do_not_suffice():
    full = make_scores(np.random.default_rng(0).random((30, 3)))
    assert (
        model_means(full).empty and list(model_means(full).columns)[: len(AVERAGES.names)] == AVERAGES.names
    )
    every = model_means(full, every=True).query("category == 'all'").set_index("model")["estimate"]
    plain = full.groupby("model")["value"].mean()
    assert every.to_dict() == pytest.approx(plain.to_dict(), abs=1e-6)


def test_a_model_that_lost_too_much_has_no_row_unless_all_did():
    scores = unbalanced()
    lost = (scores["model"] == "a") & (scores["item_id"] > "i0045")
    errors = scores.assign(outcome=scores["outcome"].mask(lost, "engine_error"))
    assert set(model_means(errors)["model"]) == set("bcde")
    every = scores["item_id"].str[-1].eq("3")
    all_lost = model_means(scores.assign(outcome=scores["outcome"].mask(every, "engine_error")))
    rows = all_lost.query("category == 'all'")
    assert (
        set(rows["model"]) == set("abcde")
        and (rows["engine_error"] > 4).all()
        and (rows["coverage"] < 1).all()
    )


def test_one_model_and_no_spread_give_no_number():
    scores = unbalanced()
    assert model_means(scores[scores["model"] == "a"], every=True).empty
    flat = model_means(scores.assign(value=0.5)).query("category == 'all'")
    assert (flat["estimate"].isna() | (np.abs(flat["estimate"] - 0.5) < 1e-9)).all()


def test_intervals_hold_the_expected_scores():
    hits = []
    for seed in range(40):
        scores = unbalanced(seed, models=3).assign(category="Mugs", parent_id=lambda s: s["item_id"])
        row = model_means(scores, every=True).query("category == 'all' and model == 'c'").iloc[0]
        hits.append(row["low"] <= 0.56 <= row["high"])
    assert np.mean(hits) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 40)


def test_bounds_stay_in_the_range_of_the_metric():
    scores = unbalanced()
    table = model_means(scores.assign(value=(3 * scores["value"]).clip(0, 1)))
    assert table["high"].max() <= 1 and table["low"].min() >= 0


def test_row_order_changes_nothing():
    scores = unbalanced()
    one, two = model_means(scores), model_means(scores.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(one, two, rtol=1e-6)
