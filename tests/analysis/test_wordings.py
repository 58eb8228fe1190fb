"""One model asked in several ways is one model, and what the wording is worth is right by other means."""

import numpy as np
import pandas as pd
import pytest
from simulated_scores import answered, averaged, simulated

from mmpc_analysis.analysis import conclusions
from mmpc_analysis.analysis.comparison import compare
from mmpc_analysis.analysis.correlation import checked_models, scale_effect
from mmpc_analysis.analysis.planning import components
from mmpc_analysis.analysis.wordings import (
    add_prompt_noise,
    checkpoint_scores,
    prompt_share,
    prompt_variances,
)
from mmpc_analysis.mixed.fit import fit_mixed
from mmpc_analysis.report.answer import what_was_run
from mmpc_analysis.report.run import Run
from mmpc_analysis.tables import COMPLETIONS, checkpoint_of, models_only, system_names, validate


def worded(prompts=("full", "short"), seed=0, wording=0.1, fare=0.05, own=0.05, noise=0.05, **how):
    "Every model asked in each wording: simulated scores, what a wording moves, and how a model fares with it."
    rng, scores = np.random.default_rng(seed + 100), simulated(model=own, seed=seed, **how)
    parts = []
    for prompt in prompts:
        moved = rng.normal(0, wording) + scores["model"].map(
            {m: rng.normal(0, fare) for m in scores["model"].unique()}
        )
        value = scores["value"] + moved + rng.normal(0, noise, len(scores))
        parts.append(scores.assign(value=value, prompt=prompt, precision="float32", role="model"))
    return pd.concat(parts, ignore_index=True)


def of(scores):
    return checkpoint_scores(checked_models(scores, "item_id", 1, 0.95))


def pooled(scores):
    return conclusions.slope_table(scores).query("category == 'all'").set_index("question")


def crossed(scores):
    "Standard deviations by statsmodels, with every crossed term, models fixed."
    from statsmodels.regression.mixed_linear_model import MixedLM

    table = scores.rename(columns={"item_id": "item"}).assign(one=1)
    terms = {"prompt": "0 + C(prompt)", "model_prompt": "0 + C(model):C(prompt)", "item": "0 + C(item)"}
    terms |= {"item_model": "0 + C(item):C(model)", "item_prompt": "0 + C(item):C(prompt)"}
    made = MixedLM.from_formula("value ~ C(model)", table, groups="one", vc_formula=terms)
    fit = made.fit(method=["lbfgs"], maxiter=500)
    return dict(zip(made.exog_vc.names, np.sqrt(fit.vcomp), strict=True)) | {"residual": fit.scale**0.5}


def test_a_second_wording_leaves_the_number_of_models_and_the_degrees_of_freedom():
    scores = worded(items=15)
    one, two = pooled(scores[scores["prompt"] == "full"]), pooled(scores)
    assert two["models"].tolist() == one["models"].tolist() == [6, 6]
    general = (one.loc["scale_in_general"], two.loc["scale_in_general"])
    assert general[1]["n"] == general[0]["n"] == 6
    assert general[1]["dof"] == pytest.approx(general[0]["dof"]) == 3
    assert "mean of 2 prompts" in general[1]["method"] and "prompts" not in general[0]["method"]


def test_the_slope_of_the_means_is_that_of_a_model_with_every_wording_at_random():
    scores = worded(("full", "short", "list"), items=15, seed=3)
    plain = scores[["category", "family", "parameters", "model", "value"]]
    plain = plain.assign(product=scores["item_id"], wording=scores["prompt"])
    whole = "value ~ log10p + family + category + (1|product) + (1|model) + (1|wording) + (1|model:wording)"
    term = fit_mixed(plain, whole).table.set_index("term").loc["log10p"]
    found = pooled(scores).loc["scale_in_general"]
    for name in ("estimate", "standard_error", "dof", "low", "high", "p_value"):
        assert found[name] == pytest.approx(term[name], rel=2e-3), name


def test_identical_answers_in_two_wordings_are_no_second_study():
    scores = simulated(items=12, model=0.05).assign(role="model", precision="", prompt="full")
    twice = pd.concat([scores, scores.assign(prompt="short")])
    for one, two in (
        (pooled(scores), pooled(twice)),
        (vars_of(scores), vars_of(twice).drop(["prompt", "model:prompt"])),
    ):
        numbers = ["estimate", "low", "high", "n"]
        pd.testing.assert_frame_equal(one[numbers], two[numbers], rtol=1e-6, check_dtype=False)
    assert components(twice) == components(scores)
    effects = [scale_effect(s, draws=50).drop(columns="p_alike") for s in (scores, twice)]
    pd.testing.assert_frame_equal(*effects)
    nothing = prompt_share(conclusions.variance_table(twice)).iloc[0]
    assert nothing["share"] == nothing["share_of_models"] == 0 and np.isnan(nothing["high"])


def vars_of(scores):
    return conclusions.variance_table(scores).set_index("term")


def test_wording_components_are_those_of_statsmodels_with_every_crossed_term():
    scores = worded(
        ("full", "short", "list"), items=10, categories=1, seed=5, sizes=dict.fromkeys("abcd", 1e9)
    )
    rng = np.random.default_rng(1)
    keys = scores["item_id"] + scores["model"], scores["item_id"] + scores["prompt"]
    for key in keys:  # What is hard for a model, and in a wording, is so every time
        scores["value"] += key.map({k: rng.normal(0, 0.1) for k in key.unique()})
    scores["parameters"] = scores["model"].map({"a": 1e9, "b": 2e9, "c": 3e9, "d": 4e9})
    known, found = crossed(scores), prompt_variances(of(scores)).set_index("term")["estimate"]
    assert known["model_prompt"] > 0.01 and known["prompt"] > 0.01
    assert found["model:prompt"] == pytest.approx(known["model_prompt"], rel=0.01)
    assert found["prompt"] == pytest.approx(known["prompt"], rel=0.01)
    assert found["residual"] == pytest.approx(known["residual"], rel=0.01)


def test_all_shares_are_of_one_score_in_one_wording():
    scores = worded(items=60, seed=2, wording=0.1, fare=0.04, own=0.05)
    found = vars_of(scores)
    assert found["share"].sum() == pytest.approx(1)
    assert (found["estimate"] ** 2 / (found["estimate"] ** 2).sum()).tolist() == pytest.approx(
        found["share"].tolist()
    )
    once = vars_of(scores[scores["prompt"] == "full"])["estimate"]
    assert found["estimate"]["residual"] == pytest.approx(once["residual"], rel=0.05)
    assert found["n"][["prompt", "model:prompt", "model"]].tolist() == [2, 12, 6]
    assert found["method"]["prompt"] == "chi-square, 1 degree of freedom"
    assert found["high"]["prompt"] > 20 * found["estimate"]["prompt"]
    read = prompt_share(conclusions.variance_table(scores)).iloc[0]
    assert read["share"] == found["share"]["prompt"] and read["low"] <= read["share"] <= read["high"]


def test_the_noise_of_wordings_in_a_slope_by_hand():
    scores = worded(("full", "short", "list"), items=20, seed=6, fare=0.1)
    given = of(scores)
    slope = pd.Series(
        {"estimate": 0.1, "standard_error": 0.01, "dof": 200.0, "low": 0, "high": 0, "p_value": 0}
    )
    sd = prompt_variances(given).set_index("term")["estimate"]["model:prompt"]
    sizes = scores.drop_duplicates("model").assign(x=lambda s: np.log10(s["parameters"]))
    within = sizes["x"] - sizes.groupby("family")["x"].transform("mean")
    more = sd**2 / 3 / (within**2).sum()
    found = add_prompt_noise(slope, given)
    assert found["standard_error"] == pytest.approx((0.01**2 + more) ** 0.5)
    assert found["dof"] == pytest.approx((0.01**2 + more) ** 2 / (0.01**4 / 200 + more**2 / 10))


def test_a_slope_that_another_wording_turns_is_not_established():
    scores = worded(items=40, wording=0, fare=0, own=0, slope=0.0, noise=0.02)
    tilt = 0.1 * (np.log10(scores["parameters"]) - 10)
    scores["value"] += tilt.where(scores["prompt"] == "full", -0.6 * tilt)
    alone, both = pooled(scores[scores["prompt"] == "full"]), pooled(scores)
    assert alone["p_value"]["these_models"] < 1e-6
    assert both["low"]["these_models"] < 0 < both["high"]["these_models"]


def test_two_precisions_of_one_checkpoint_do_not_count_twice():
    scores = simulated(items=15, model=0.05).assign(role="model", precision="float32", prompt="full")
    coarse = scores[scores["model"].isin(["a-l", "b-l"])].assign(
        precision="nf4", value=lambda s: s["value"] - 0.1
    )
    both = pd.concat([scores, coarse], ignore_index=True)
    one, two = pooled(scores), pooled(both)
    numbers = ["estimate", "low", "high", "dof", "n", "models"]
    pd.testing.assert_frame_equal(one[numbers], two[numbers])
    assert two["method"].str.contains("left out 2 of 8 systems").all()
    assert components(both) == components(scores)
    assert set(scale_effect(both, draws=20).query("scope == 'pooled'")["models"]) == {6}
    only = pd.concat([scores[~scores["model"].isin(["a-l"])], coarse[coarse["model"] == "a-l"]])
    assert pooled(only)["models"].tolist() == [6, 6]  # One is there in four bits alone, and counts


def test_every_checkpoint_in_two_precisions_is_its_mean_over_them():
    scores = simulated(items=12, model=0.05).assign(role="model", precision="float32", prompt="full")
    both = pd.concat([scores, scores.assign(precision="nf4", value=scores["value"] - 0.1)])
    found = of(both)
    assert found.note == "mean over the systems of each model" and found.prompts == ("full",)
    means = both.groupby(["item_id", "model"])["value"].mean()
    assert found.scores.set_index(["item_id", "model"])["value"].sort_index().tolist() == pytest.approx(
        means.tolist()
    )


def test_a_column_may_say_that_two_models_are_one_checkpoint():
    scores = simulated(items=10, model=0.05)
    again = scores[scores["model"] == "a-s"].assign(model="a-s tuned")
    table = pd.concat([scores, again]).assign(checkpoint=lambda s: s["model"].str.split().str[0])
    assert pooled(table)["models"].tolist() == [6, 6]
    assert pooled(table.drop(columns="checkpoint"))["models"].tolist() == [7, 7]
    assert "a-s has several sizes" in of(table.assign(parameters=np.arange(len(table)) + 1e9)).refusal


@pytest.mark.parametrize(
    "keep",
    [
        lambda s: (
            (s["prompt"] == "full") == s["model"].str.endswith("l")
        ),  # The large ones in another wording
        lambda s: (s["prompt"] == "full") == (s["family"] == "a"),  # A family in another wording
        lambda s: (s["prompt"] == "full") == (s["model"] != "a-s"),  # One model in another wording
    ],
)
def test_models_that_share_no_wording_have_no_slope_and_the_reason_names_them(keep):
    scores = worded(items=10)
    scores = scores[keep(scores)]
    makers = conclusions.conclusion_tables(scores, done(scores), averaged(scores), draws=20)
    made = {name: make() for name, make in makers.items()}
    assert made["slopes"]["estimate"].isna().all()
    assert made["slopes"]["method"].str.contains("share no prompt").all()
    assert made["slopes"]["method"].str.contains("a-s with short|a-s with full").all()
    assert (
        made["lines"].empty
        and made["variances"].empty
        and made["powers"]["question"].eq("these_models").all()
    )
    effects = scale_effect(scores, draws=20)
    assert (
        effects["estimate"].isna().all()
        and effects["method"].str.contains("size cannot be told from wording").all()
    )
    assert np.isnan(components(scores).model)
    named = set(made["comparisons"]["model"]) | set(made["comparisons"]["other"])
    assert all(name.endswith((" full", " short")) for name in named) and len(named) == 6


def test_wordings_that_only_some_models_were_asked_in_are_left_out_of_scale():
    scores = worded(("full", "short", "list"), items=12)
    part = scores[(scores["prompt"] != "list") | (scores["family"] == "a")]
    numbers = ["estimate", "low", "high", "dof"]
    one, two = pooled(scores[scores["prompt"] != "list"]), pooled(part)
    pd.testing.assert_frame_equal(one[numbers], two[numbers])
    assert two["method"].str.contains("left out 3 of 15 systems").all()


def test_order_of_rows_and_names_of_prompts_decide_nothing():
    scores = worded(items=10)
    turned = scores.sample(frac=1, random_state=1).replace({"prompt": {"full": "z", "short": "a"}})
    numbers = ["estimate", "low", "high", "dof"]
    pd.testing.assert_frame_equal(pooled(scores)[numbers], pooled(turned)[numbers], rtol=1e-9)
    shares = [vars_of(s)[["estimate", "share"]] for s in (scores, turned)]
    pd.testing.assert_frame_equal(*shares, rtol=1e-5)


def done(scores):
    "Completions of scores with their prompts."
    rows = answered(scores.drop_duplicates(["item_id", "model"])).drop(columns=["prompt", "precision"])
    who = scores[["item_id", "model", "prompt", "precision"]]
    return validate(rows.merge(who, on=["item_id", "model"]), COMPLETIONS)


def test_names_carry_the_prompt_where_a_task_has_several():
    one = pd.DataFrame(
        {"task": "t", "model": ["m", "n"], "prompt": ["full", "full"], "role": "model", "precision": ""}
    )
    assert system_names(one).tolist() == ["m", "n"]
    two = one.assign(prompt=["full", "short"])
    assert system_names(two).tolist() == ["m full", "n short"]
    assert models_only(models_only(two))["model"].tolist() == ["m full", "n short"]
    assert checkpoint_of(models_only(models_only(two))).tolist() == ["m", "n"]
    assert system_names(two.assign(task=["t", "u"])).tolist() == ["m", "n"]  # Another task has other prompts
    floor = two.assign(prompt=["full", ""], role=["model", "floor"])
    assert system_names(floor).tolist() == ["m", "n"]


def test_pairs_of_one_model_in_two_wordings_are_told_apart_by_name():
    found = compare(worded(items=8, sizes={"a-s": 1e9}), draws=20).query("category == 'all'")
    assert found[["model", "other"]].to_numpy().tolist() == [["a-s full", "a-s short"]]


def test_the_report_says_how_models_were_asked():
    scores = worded(items=4)
    same = str(what_was_run(Run("", "", {"completions": done(scores)})))
    assert "Six models were asked" in same and "Each was asked in two wordings" in same
    apart = scores[(scores["prompt"] == "full") == scores["model"].str.endswith("l")]
    assert "Not all models were asked in the same words" in str(
        what_was_run(Run("", "", {"completions": done(apart)}))
    )
    one = scores[scores["prompt"] == "full"]
    assert "words" not in str(what_was_run(Run("", "", {"completions": done(one)})))


def test_a_wording_that_moves_all_scores_alike_is_a_variance_without_noise():
    scores = simulated(items=6, model=0.05).assign(role="model", precision="", prompt="full")
    moved = pd.concat([scores, scores.assign(prompt="short", value=scores["value"] - 0.2)])
    found = prompt_variances(of(moved)).set_index("term")
    assert found["estimate"].tolist() == pytest.approx([0.2 / 2**0.5, 0, 0]) and found["low"]["prompt"] > 0
    assert vars_of(moved)["share"].sum() == pytest.approx(1)
