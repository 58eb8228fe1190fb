"""The analysis tables against hand computations and other libraries."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from simulated_scores import SIZES, answered, averaged, simulated

from mmpc_analysis import store, tables
from mmpc_analysis.analysis import conclusions
from mmpc_analysis.analysis.size_claims import size_claim


def slopes_by_hand(scores, parents):
    "Least squares of the models' means on size and family, and the same slope on every item, summed by listing group."
    wide = scores.pivot(index="item_id", columns="model", values="value")[list(SIZES)]
    x = np.column_stack(
        [[name[0] == f for name in SIZES] for f in "ab"] + [np.log10(list(SIZES.values()))]
    ).astype(float)
    weights = np.linalg.pinv(x)[-1]
    mean = wide.mean().to_numpy()
    rest = mean - x @ np.linalg.lstsq(x, mean, rcond=None)[0]
    general = np.sqrt((rest**2).sum() / 3 * np.linalg.inv(x.T @ x)[-1, -1])
    each = wide.to_numpy() @ weights  # The slope on every item
    sums = pd.Series(each - each.mean(), wide.index).groupby(parents.reindex(wide.index).to_numpy()).sum()
    these = np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(wide)
    return weights @ mean, these, len(sums), general


@pytest.mark.parametrize("size", [1, 4])
def test_slopes_are_least_squares_with_two_errors(size):
    scores = simulated(model=0.03, seed=4)
    number = scores["item_id"].str[-3:].astype(int) // size
    scores["parent_id"] = scores["category"] + number.astype(str)
    found = conclusions.slope_table(scores).query("category == 'all'").set_index("question")
    parents = scores.drop_duplicates("item_id").set_index("item_id")["parent_id"]
    slope, these, groups, general = slopes_by_hand(scores, parents)
    assert found["estimate"].to_numpy() == pytest.approx([slope, slope], rel=1e-6)
    assert found["standard_error"].to_dict() == pytest.approx(
        {"these_models": these, "scale_in_general": general}, rel=1e-4
    )
    assert found["dof"].to_dict() == pytest.approx(
        {"these_models": groups - 1, "scale_in_general": 3}, rel=1e-3
    )
    for question, error, dof in (("these_models", these, groups - 1), ("scale_in_general", general, 3)):
        reach = student.ppf(0.975, dof) * error
        bounds = found.loc[question, ["low", "high"]].tolist()
        assert bounds == pytest.approx([slope - reach, slope + reach], rel=1e-4)
    assert found["n"].to_dict() == {"these_models": 80 // size, "scale_in_general": 6}


def test_the_error_of_a_slope_is_statsmodels_clustered_one():
    "Unbalanced too: least squares with a dummy for every item, clustered by listing group."
    import statsmodels.formula.api as smf

    scores = simulated(items=15, seed=2).sample(frac=0.8, random_state=1)
    scores["parent_id"] = scores["item_id"].str[:-1]
    table = scores.assign(log10p=np.log10(scores["parameters"]))
    error, groups = conclusions.slope_error(table)
    codes = pd.factorize(table["parent_id"])[0]
    fit = smf.ols("value ~ C(item_id) + family + log10p", table).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}
    )
    assert groups == codes.max() + 1
    assert error == pytest.approx(fit.bse["log10p"] * (groups / (groups - 1)) ** 0.5, rel=1e-8)


def test_tables_do_not_depend_on_the_order_of_rows():
    scores = simulated(items=12)
    done = answered(scores)
    one = conclusions.slope_table(scores)
    assert store.fingerprint(
        conclusions.slope_table(scores.sample(frac=1, random_state=1))
    ) == store.fingerprint(one)
    two = [conclusions.comparison_table(s, draws=50) for s in (scores, scores.sample(frac=1, random_state=2))]
    assert store.fingerprint(two[0]) == store.fingerprint(two[1])
    costs = [
        conclusions.decision_table(scores, d, draws=50) for d in (done, done.sample(frac=1, random_state=3))
    ]
    pd.testing.assert_frame_equal(*(c.sort_values("category").reset_index(drop=True) for c in costs))


def test_the_line_turns_about_its_centre_by_the_slopes_interval():
    scores = simulated(model=0.02, seed=2)
    slopes = conclusions.slope_table(scores).query("category == 'all'").set_index("question")
    lines = conclusions.line_table(scores)
    for (question, family), fan in lines.groupby(["question", "family"]):
        mean = (
            scores[scores["family"] == family].groupby(["model", "parameters"])["value"].mean().reset_index()
        )
        x = np.log10(fan["parameters"].to_numpy()) - np.log10(mean["parameters"]).mean()
        assert fan["estimate"].to_numpy() == pytest.approx(
            mean["value"].mean() + slopes["estimate"][question] * x
        )
        assert (fan["high"] - fan["low"]).to_numpy() == pytest.approx(
            np.abs(x) * (slopes["high"] - slopes["low"])[question]
        )


def test_a_model_without_a_size_says_nothing_of_size_and_still_competes():
    scores = simulated(items=10)
    scores.loc[scores["model"] == "b-l", "parameters"] = np.nan
    assert set(conclusions.slope_table(scores)["models"]) == {5}
    pairs = conclusions.comparison_table(scores, draws=20)
    assert {"b-l"} <= {*pairs["model"], *pairs["other"]}


def test_items_that_one_model_lacks_are_left_out_for_all():
    scores = simulated(items=20)
    gap = scores["item_id"].isin(["i0-001", "i0-002"]) & (scores["model"] == "a-m")
    whole = conclusions.slope_table(scores[~scores["item_id"].isin(["i0-001", "i0-002"])])
    for part in (scores.assign(value=scores["value"].mask(gap)), scores[~gap]):
        pd.testing.assert_frame_equal(conclusions.slope_table(part), whole)


def test_variance_components_recover_what_was_simulated():
    scores = simulated(items=150, categories=4, noise=0.1, seed=7)
    found = conclusions.variance_table(scores).set_index("term")
    assert found["share"].sum() == pytest.approx(1)
    assert found["estimate"][["item", "residual"]].tolist() == pytest.approx([0.1, 0.1], rel=0.1)
    assert found["low"]["model"] == 0 and found["n"].to_dict()["category:model"] == 24


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s[s["model"].isin(["a-s", "b-s"])], "is not identified"),
        (lambda s: s[s["model"] == "a-s"], "is not identified"),
        (lambda s: s.assign(value=0.5), "constant"),
        (lambda s: s.assign(value=np.log10(s["parameters"]) / 20), "predicts every score exactly"),
        (lambda s: s[s["item_id"] == "i0-000"], "item has one value"),
    ],
)
def test_what_cannot_be_fitted_keeps_its_reason_and_never_raises(change, said):
    scores = change(simulated(items=8))
    makers = conclusions.conclusion_tables(scores, answered(scores), averaged(scores), draws=20)
    made = {name: make() for name, make in makers.items()}
    slopes = made["slopes"].query("category == 'all'")
    assert slopes["estimate"].isna().all() and slopes["method"].str.contains(said).all()
    assert made["lines"].empty and made["variances"].empty
    sizes = [size_claim(row) for _, row in slopes.iterrows()]
    assert {row["verdict"] for row in sizes} == {"no estimate"} and said in sizes[0]["method"]
    for name, frame in made.items():
        assert frame.columns[: len(tables.TABLES[name].names)].tolist() == tables.TABLES[name].names


def test_metrics_without_a_better_end_are_left_out():
    scores = pd.concat(
        [simulated(items=6), simulated(items=6, metric="length_ratio"), simulated(items=6, metric="mine")]
    )
    assert set(conclusions.directional_metrics(scores)["metric"]) == {"chrf"}
    for name, make in conclusions.conclusion_tables(
        scores, answered(simulated(items=6)), averaged(simulated(items=6)), draws=20
    ).items():
        assert set(make()["metric"]) == {"chrf"}, name


def test_no_comparison_ranks_models_by_a_ratio_of_lengths():
    from mmpc_analysis.analysis.comparison import compare, direction
    from mmpc_analysis.analysis.decision import cost_per_1000, frontier
    from mmpc_analysis.analysis.stability import rank_stability

    scores = pd.concat([simulated(items=8), simulated(items=8, metric="length_ratio")], ignore_index=True)
    means = averaged(scores)
    assert "length_ratio" in set(means["metric"])  # It is averaged, and that is all
    for found in (
        compare(scores, draws=20),
        rank_stability(scores, draws=20),
        frontier(means, cost_per_1000(answered(simulated(items=8)))),
    ):
        assert set(found["metric"]) == {"chrf"}
    with pytest.raises(ValueError, match="no better end"):
        direction("length_ratio")


def test_every_row_names_its_question():
    scores = simulated(items=10)
    for name, make in conclusions.conclusion_tables(
        scores, answered(scores), averaged(scores), draws=20
    ).items():
        made = make()
        assert set(made["question"]) <= {"these_models", "scale_in_general"} and len(made), name


def test_power_at_no_effect_is_the_level_and_rises_with_the_effect():
    powers = conclusions.power_table(simulated(model=0.02))
    none = powers[powers["effect"] == 0]["power"]
    assert len(none) == 6 and none.between(0.03, 0.07).all()
    for _, curve in powers.groupby(["question", "models", "items"]):
        assert (curve.sort_values("effect")["power"].diff().dropna() > -0.02).all()
        assert np.interp(curve["detectable"].iloc[0], curve["effect"], curve["power"]) == pytest.approx(
            0.8, abs=0.05
        )
