"Concordance against Friedman's statistic, and how firm a place is."

import numpy as np
import pandas as pd
import pytest
from correlation_cases import make_scores
from scipy import stats

from mmpc_analysis.analysis.stability import (
    _effects,
    _within_items,
    concordance,
    rank_agreement,
    rank_stability,
)


def test_concordance_equals_friedmans_statistic_with_and_without_ties():
    rng = np.random.default_rng(0)
    for ties in (False, True):
        for m, k in ((2, 3), (9, 6), (5, 4)):
            values = rng.integers(0, 4, (m, k)).astype(float) if ties else rng.normal(size=(m, k))
            wanted = stats.friedmanchisquare(*values.T).statistic / (m * (k - 1))
            assert concordance(values) == pytest.approx(wanted, abs=1e-12)
    assert concordance(np.arange(5.0)[None].repeat(3, 0)) == pytest.approx(1)
    assert np.isnan(concordance(np.ones((3, 5)))) and np.isnan(concordance(np.full((3, 5), np.nan)))


def test_agreement_tells_a_common_order_from_none():
    rng = np.random.default_rng(1)
    categories = sorted(["a", "b", "c", "d", "e"] * 30)
    common = rank_agreement(
        make_scores(rng.normal(size=(150, 6)) + 3 * np.arange(6), categories=categories), draws=199
    )
    none = np.repeat(rng.normal(size=(5, 6)), 30, axis=0) * 3 + rng.normal(size=(150, 6))
    none = rank_agreement(make_scores(none, categories=categories), draws=199)
    for table in (common, none):
        assert list(zip(table["question"], table["unit"], table["n"], strict=True)) == [
            ("these_models", "item", 150),
            ("categories_in_general", "category", 5),
        ]
        row = table.iloc[0]
        assert row["low"] <= row["estimate"] <= row["high"] and np.isnan(row["p_value"])
    assert common["estimate"].iloc[0] == pytest.approx(1) and common["p_value"].iloc[1] == 1 / 200
    assert none["estimate"].iloc[0] < 0.6 and none["p_value"].iloc[1] > 0.05


def test_agreement_p_is_uniform_where_categories_have_nothing_in_common():
    rng = np.random.default_rng(2)
    p = [
        rank_agreement(make_scores(rng.normal(size=(8, 6)), categories=list("aabbccdd")), draws=99)[
            "p_value"
        ].iloc[1]
        for _ in range(150)
    ]
    assert (np.array(p) <= 0.5).mean() == pytest.approx(0.5, abs=0.13)
    assert (np.array(p) <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_places_follow_the_direction_of_the_metric_and_the_noise():
    values = np.arange(6.0) + np.random.default_rng(0).normal(0, 1e-6, (20, 6))
    up, down = (
        rank_stability(make_scores(values)),
        rank_stability(make_scores(values, metric="mse", task="text_to_image")),
    )
    assert up["model"].tolist() == ["b3", "b2", "b1", "a3", "a2", "a1"] == down["model"].tolist()[::-1]
    assert (up["kept"] == 1).all() and (up["low"] == up["rank"]).all() and (up["high"] == up["rank"]).all()
    noise = rank_stability(make_scores(np.random.default_rng(0).normal(size=(20, 6))))
    assert noise["kept"].max() < 0.95 and (noise["low"] < noise["high"]).all()
    assert set(noise["question"]) == {"these_models"}


def test_stability_does_not_depend_on_row_order_or_other_categories():
    scores = make_scores(np.random.default_rng(0).normal(size=(40, 6)), categories=["a", "b"] * 20)
    one = rank_stability(scores, draws=50)
    two = rank_stability(scores.sample(frac=1, random_state=0), draws=50)
    pd.testing.assert_frame_equal(one, two)
    alone = rank_stability(scores[scores["category"] == "b"], draws=50)
    pd.testing.assert_frame_equal(alone, one[one["category"] == "b"].reset_index(drop=True))


@pytest.mark.parametrize("values", [np.ones((4, 6)), np.full((4, 6), np.nan)])
def test_no_concordance_where_all_is_tied_or_unknown(values):
    table = rank_agreement(make_scores(values, categories=list("abab")), draws=20)
    assert table["estimate"].isna().all() and table["method"].str.startswith("no concordance").all()


def test_who_lacks_the_hard_items_is_not_placed_higher():
    rng = np.random.default_rng(0)
    hard = np.linspace(0.3, -0.3, 60)[:, None]
    values = 0.5 + hard + np.arange(6) * 0.05 + rng.normal(0, 0.01, (60, 6))
    holes = values.copy()
    holes[40:, 0] = np.nan  # The worst model lacks the hardest third
    names = [rank_stability(make_scores(v), draws=50)["model"].tolist() for v in (values, holes)]
    assert names[0] == names[1] == ["b3", "b2", "b1", "a3", "a2", "a1"]
    assert np.nanmean(holes, 0)[0] > np.nanmean(holes, 0)[1]


def test_effects_of_unbalanced_scores_equal_least_squares():
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(1)
    values = rng.normal(size=(12, 1)) + rng.normal(size=(12, 4))
    values[rng.random((12, 4)) < 0.25] = np.nan
    sums = _within_items(values).mean(0, keepdims=True)
    found = _effects(sums, 4, 1.0)[0]
    frame = (
        pd.DataFrame(values)
        .melt(ignore_index=False, var_name="m", value_name="v")
        .reset_index(names="i")
        .dropna()
    )
    fit = smf.ols("v ~ C(m) + C(i)", frame).fit()
    wanted = np.array([0, *(fit.params[f"C(m)[T.{m}]"] for m in (1, 2, 3))])
    np.testing.assert_allclose(found - found[0], wanted, atol=1e-8)


def test_models_without_a_common_item_are_not_placed():
    values = np.random.default_rng(0).normal(size=(20, 2))
    values[:10, 0], values[10:, 1] = np.nan, np.nan
    assert rank_stability(make_scores(np.tile(values, 3)[:, [0, 0, 0, 1, 1, 1]]), draws=20).empty


def test_a_model_that_lost_too_much_to_its_engine_has_no_place():
    scores = make_scores(np.random.default_rng(0).normal(size=(40, 6)))
    lost = (scores["model"] == "a1") & (scores["item_id"] >= sorted(set(scores["item_id"]))[20])
    scores = scores.assign(outcome=scores["outcome"].mask(lost, "engine_error"))
    table = rank_stability(scores, draws=20)
    assert "a1" not in set(table["model"]) and len(table) == 5
    assert rank_agreement(scores, draws=20)["models"].eq(5).all()


def test_identical_models_share_a_place():
    values = np.random.default_rng(0).random((30, 1)).repeat(6, axis=1)
    table = rank_stability(make_scores(values), draws=50)
    assert (table["rank"] == 3.5).all() and (table["kept"] == 1).all()
    values[3, 2] = np.nan
    table = rank_stability(make_scores(values), draws=50)
    assert (table["rank"] == 3.5).all()
