"""What a treatment changed: against hand, scipy and statsmodels, and that nothing is claimed of what cannot bear it."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from mmpc_analysis import tables
from mmpc_analysis.alignment.before_after import (
    LEAST_GROUPS,
    Outcomes,
    alignment_effects,
    changed_means,
    shared_scores,
)
from mmpc_analysis.analysis.multiplicity import holm
from mmpc_analysis.recommendation.crossed import crossed_means, crossed_p_value, squared_half_widths

TASK, METRIC = "image_to_text", "minilm_retrieval"
COVERAGE = json.loads((ROOT / "tests/data/alignment/alignment_null.json").read_text("utf-8"))["coverage"]


def scored(values, metric=METRIC, parents=None, categories=None, outcomes=None):
    "A SCORES table from model to (items,) values."
    n = len(next(iter(values.values())))
    items = pd.DataFrame({"item_id": [f"i{k:03d}" for k in range(n)]})
    items["parent_id"] = items["item_id"] if parents is None else [f"p{p}" for p in parents]
    items["category"] = "toys" if categories is None else categories
    rows = [
        items.assign(model=model, value=value, outcome=(outcomes or {}).get(model, "ok"))
        for model, value in values.items()
    ]
    return pd.concat(rows, ignore_index=True).assign(
        task=TASK, metric=metric, level="semantic", family="made"
    )


def treated(scores, base="start"):
    "The alignments that belong to models called base-treatment-seed."
    models = sorted(set(scores["model"]) - {base})
    parts = [model.removeprefix(f"{base}-").rsplit("-", 1) for model in models]
    frame = pd.DataFrame(parts, columns=["treatment", "seed"]).assign(model=models, base=base, task=TASK)
    return frame.assign(seed=frame["seed"].astype(int), items=10, steps=10, answers=10)


def effects_of(scores, trained_on=None, **how):
    "Pooled effects by treatment and what they are held against."
    kin = trained_on or dict.fromkeys(scores["metric"], "")
    found = alignment_effects(scores, treated(scores), kin, **how)
    return found[found["category"] == "all"].set_index(["treatment", "against"])


def gained(gain=0.1, seeds=3, n=120, sd=0.05, luck=0.002, rng=0, treatment="grpo", start=None):
    "Scores of a start and of a treatment that adds a gain."
    rng = np.random.default_rng(rng)
    start = rng.uniform(0.3, 0.5, n) if start is None else start
    found = {"start": start}
    for s in range(seeds):
        found[f"start-{treatment}-{s}"] = start + gain + rng.normal(0, luck) + rng.normal(0, sd, n)
    return found


# ---------------------------------------------------------------- the mean and its variance


def test_two_categories_by_hand():
    "Category x: groups a (1, 4) and b (1), mean 2; y: c (0) and d (2), mean 1. 3 + 1.5 + 2 + 2 = 8.5 over 5 squared."
    changes = np.array([1.0, 4, 1, 0, 2])[:, None]
    found = changed_means(
        Outcomes(changes, False),
        Outcomes(np.zeros((5, 1)), False),
        np.array(list("aabcd")),
        np.array(list("xxxyy")),
    )
    assert found.means[0] == pytest.approx(1.6)
    assert found.by_user[0, 0] == pytest.approx(8.5 / 25)
    assert found.by_training[0, 0] == 0


def test_groups_of_one_size_are_users_of_recommenders():
    "The same parts as crossed_means gives of the groups' means."
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 1)) + rng.normal(size=4) + rng.normal(size=(30, 4))
    items = np.repeat(values, 2, axis=0) + np.tile([0.5, -0.5], 30)[:, None]
    found = changed_means(
        Outcomes(items, True), Outcomes(np.zeros((60, 1)), False), np.repeat(np.arange(30), 2)
    )
    known = crossed_means(values[None])
    for name in ("means", "by_user", "by_training"):
        np.testing.assert_allclose(getattr(found, name), getattr(known, name), rtol=1e-9)


def test_the_variance_is_that_of_a_mixed_model_with_crossed_effects():
    "Restricted likelihood of balanced data gives the parts of the analysis of variance where none is negative."
    from statsmodels.regression.mixed_linear_model import MixedLM

    rng, (groups, seeds) = np.random.default_rng(3), (25, 5)
    values = (
        0.2
        + rng.normal(0, 0.3, (groups, 1))
        + rng.normal(0, 0.2, seeds)
        + rng.normal(0, 0.1, (groups, seeds))
    )
    long = pd.DataFrame(
        {
            "y": values.ravel(),
            "g": np.repeat(np.arange(groups), seeds),
            "s": np.tile(np.arange(seeds), groups),
        }
    )
    fit = MixedLM.from_formula(
        "y ~ 1",
        long,
        groups=np.ones(len(long)),
        re_formula="0",
        vc_formula={"g": "0 + C(g)", "s": "0 + C(s)"},
    ).fit()
    found = changed_means(Outcomes(values, True), Outcomes(np.zeros((groups, 1)), False), np.arange(groups))
    assert found.means[0] == pytest.approx(fit.params["Intercept"], rel=1e-6)
    assert found.by_user[0, 0] + found.by_training[0, 0] == pytest.approx(fit.bse["Intercept"] ** 2, rel=0.02)


def test_unequal_groups_are_weighed_as_a_bootstrap_of_groups_does():
    rng = np.random.default_rng(5)
    label = np.repeat(np.arange(80), rng.choice([1, 2, 6], 80))
    changes = rng.normal(0, 1, 80)[label] + rng.normal(0, 0.5, len(label))
    found = changed_means(
        Outcomes(changes[:, None], False), Outcomes(np.zeros((len(label), 1)), False), label
    )
    sums, sizes = np.bincount(label, changes), np.bincount(label)
    drawn = rng.integers(80, size=(4000, 80))
    boot = (sums[drawn].sum(1) / sizes[drawn].sum(1)).var()
    assert found.means[0] == pytest.approx(changes.mean())
    assert found.by_user[0, 0] == pytest.approx(boot, rel=0.1)
    assert found.by_user[0, 0] > 2 * changes.var(ddof=1) / len(changes)  # Items alone would be far too sure


def test_seeds_of_two_treatments_are_not_paired():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 40, 3))
    found, other = (
        changed_means(Outcomes(first, True), Outcomes(second[:, at], True), np.arange(40))
        for at in ([0, 1, 2], [2, 0, 1])
    )
    np.testing.assert_allclose(found.by_user, other.by_user)
    np.testing.assert_allclose(found.by_training, other.by_training)
    assert found.by_training[0, 0] == pytest.approx(sum(x.mean(0).var(ddof=1) / 3 for x in (first, second)))


# ---------------------------------------------------------------- against other programs


def test_without_chance_and_groups_it_is_the_paired_t_test():
    scores = scored(gained(0.02, 1, treatment="examples"))
    row = effects_of(scores).loc["examples", "before"]
    wide = scores.pivot(index="item_id", columns="model", values="value")
    found = stats.ttest_rel(wide["start-examples-0"], wide["start"])
    assert row["p_value"] == pytest.approx(found.pvalue, rel=1e-9)
    assert (row["low"], row["high"]) == pytest.approx(tuple(found.confidence_interval()), rel=1e-9)
    assert row["n"] == row["items"] == len(wide) and row["seeds"] == 1


def test_equivalence_is_the_two_one_sided_tests_of_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    scores = scored(gained(0.012, 1, sd=0.03, treatment="examples"))
    row = effects_of(scores, margins={METRIC: 0.02}).loc["examples", "before"]
    wide = scores.pivot(index="item_id", columns="model", values="value")
    known = ttost_paired(wide["start-examples-0"].to_numpy(), wide["start"].to_numpy(), -0.02, 0.02)[0]
    assert row["p_equivalent"] == pytest.approx(known, rel=1e-6)
    assert row["margin"] == 0.02


def test_the_p_value_and_the_interval_agree():
    for gain in (0.0, 0.005, 0.01, 0.02, 0.05):
        row = effects_of(scored(gained(gain, luck=0.004))).loc["grpo", "before"]
        assert (row["p_value"] < 0.05) == (row["low"] > 0 or row["high"] < 0)


# ---------------------------------------------------------------- which items


def test_failed_answers_count_and_lost_ones_do_not():
    values = gained(0.1)
    values["start-grpo-0"][:4] = 0.0
    outcomes = {
        "start-grpo-0": ["invalid"] * 4 + ["ok"] * 116,
        "start-grpo-1": ["ok"] * 118 + ["engine_error"] * 2,
    }
    values["start-examples-0"] = values["start"] + np.where(np.arange(120) == 50, np.nan, 0.0)
    found = effects_of(scored(values, outcomes=outcomes))
    assert (found["items"] == 117).all() and (found["left_out"] == 3).all()
    kept = np.r_[:50, 51:118]
    grpo = np.mean([values[f"start-grpo-{s}"][kept] for s in range(3)], axis=0)
    assert found.loc[("grpo", "before"), "estimate"] == pytest.approx((grpo - values["start"][kept]).mean())
    assert found.loc[("grpo", "before"), "after"] == pytest.approx(grpo.mean())


def test_a_model_whose_engine_lost_much_stands_apart_and_takes_no_items_from_others():
    values = gained(0.1) | {"start-examples-0": gained(0.1)["start"] + 0.1}
    outcomes = {"start-examples-0": ["engine_error"] * 20 + ["ok"] * 100}
    found = effects_of(scored(values, outcomes=outcomes))
    assert found.loc[("grpo", "before"), ["items", "verdict"]].tolist() == [120, "better"]
    row = found.loc["examples", "before"]
    assert row["items"] == 100 and row["verdict"] == "not shown" and "engine lost" in row["method"]
    assert np.isnan([row["p_value"], row["low"], row["p_equivalent"]]).all()
    assert found.loc[("grpo", "examples"), "verdict"] == "not shown"


def test_nothing_is_said_where_too_few_items_have_a_score():
    values = gained(0.1)
    values["start-grpo-2"][:40] = np.nan
    row = effects_of(scored(values)).loc["grpo", "before"]
    assert row["items"] == 80 and row["left_out"] == 40
    assert row["verdict"] == "not shown" and "less than 80%" in row["method"]


def test_items_without_a_value_for_anybody_are_not_lost():
    values = gained(0.1)
    for column in values.values():
        column[:60] = np.nan
    row = effects_of(scored(values)).loc["grpo", "before"]
    assert row["items"] == 60 and row["left_out"] == 0 and row["verdict"] == "better"


def test_a_start_that_was_scored_on_more_items_is_compared_on_the_treatments():
    scores = scored(gained(0.1))
    extra = scores[scores["model"] == "start"].assign(item_id=lambda f: "x" + f["item_id"], value=0.0)
    extra["parent_id"] = extra["item_id"]
    more = pd.concat([scores, extra], ignore_index=True)
    pd.testing.assert_frame_equal(effects_of(more), effects_of(scores))


def test_shared_scores_turn_what_is_better_lower():
    shared = shared_scores(
        scored({"start": np.full(12, 0.4), "start-grpo-0": np.full(12, 0.1)}, "example_copy"), "start"
    )
    assert (shared.values["start-grpo-0"] == -0.1).all() and shared.common.all() and not shared.apart


# ---------------------------------------------------------------- verdicts


def test_a_metric_that_is_better_lower_improves_when_it_falls():
    values = {name: value - 0.2 if "grpo" in name else value for name, value in gained(0.1).items()}
    row = effects_of(scored(values, "example_copy")).loc["grpo", "before"]
    assert row["estimate"] == pytest.approx(0.1, abs=0.01) and row["verdict"] == "better"
    assert row["after"] < row["before"]
    worse = effects_of(scored(gained(0.1), "example_copy")).loc["grpo", "before"]
    assert worse["estimate"] < 0 and worse["verdict"] == "worse" and worse["after"] > worse["before"]


@pytest.mark.parametrize("gain", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize("kind", ["reward", "same words", "same encoder"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_trained_metric_never_bears_a_verdict(gain, kind, seeds):
    found = effects_of(scored(gained(gain, seeds)), {METRIC: kind})
    assert set(found["verdict"]) == {"trained on"} and found["p_adjusted"].isna().all()
    assert np.isfinite(found[["estimate", "low", "high"]]).all(axis=None) and not found["witness"].any()


def test_one_seed_is_about_one_training_and_bears_no_verdict():
    values = gained(0.3, 1) | gained(0.3, 1, treatment="strip_filler", start=gained(0.3, 1)["start"])
    found = effects_of(scored(values))
    assert found.loc[("grpo", "before"), ["question", "verdict"]].tolist() == ["this_training", "one seed"]
    assert found.loc[("grpo", "strip_filler"), "verdict"] == "one seed"
    assert np.isnan(
        found.loc[("grpo", "before"), ["seed_variance", "p_value", "p_adjusted"]].astype(float)
    ).all()
    assert found.loc[("strip_filler", "before"), "verdict"] == "better"


def test_two_seeds_are_too_few():
    row = effects_of(scored(gained(0.3, 2))).loc["grpo", "before"]
    assert row["verdict"] == "not shown" and "fewer than 3 seeds" in row["method"] and np.isnan(row["low"])


def test_few_listing_groups_get_no_interval():
    parents = np.arange(120) % (LEAST_GROUPS - 1)
    row = effects_of(scored(gained(0.3), parents=parents)).loc["grpo", "before"]
    assert row["verdict"] == "not shown" and "listing groups" in row["method"] and np.isnan(row["low"])


def test_seeds_that_disagree_are_not_outvoted_by_many_items():
    rng, start = np.random.default_rng(0), np.full(2000, 0.4)
    values = {"start": start} | {
        f"start-grpo-{s}": start + g + rng.normal(0, 0.02, 2000) for s, g in enumerate((0.1, 0.02, -0.03))
    }
    row = effects_of(scored(values)).loc["grpo", "before"]
    assert row["verdict"] == "not shown" and row["seed_variance"] > 100 * row["item_variance"]
    assert (
        stats.ttest_rel(np.mean([values[f"start-grpo-{s}"] for s in range(3)], axis=0), start).pvalue < 1e-50
    )


def test_answers_that_stayed_the_same_are_judged_exactly():
    start = np.linspace(0.2, 0.6, 400)
    few = {"start": start[:100]} | {f"start-grpo-{s}": start[:100] for s in range(3)}
    many = {"start": start} | {f"start-grpo-{s}": start for s in range(3)}
    few, many = (effects_of(scored(values)).loc["grpo", "before"] for values in (few, many))
    assert (
        few["verdict"] == "not shown" and many["verdict"] == "equivalent"
    )  # 3 of 100 may still change, 3 of 400 hardly
    assert many["p_value"] == 1 and many["estimate"] == 0 and "nearly tied" in many["method"]


def test_a_few_answers_that_moved_are_no_proof():
    "Three items of 150 rose, so a t-test cannot be trusted; three signs can be equal by luck."
    start = np.full(150, 0.3)
    after = start + 0.6 * (np.arange(150) < 3)
    row = effects_of(scored({"start": start, "start-strip_filler-0": after})).loc["strip_filler", "before"]
    assert row["p_value"] >= 0.25 and row["verdict"] == "not shown" and row["low"] < 0 < row["high"]


def test_claims_are_corrected_over_metrics_and_treatments_and_controls_apart():
    rng, parts = np.random.default_rng(2), []
    for metric in (METRIC, "brand_hit", "example_copy"):
        values = gained(0.005, rng=rng.integers(100))
        values |= {"start-examples-0": values["start"] + rng.normal(0.004, 0.05, 120)}
        values |= {"start-strip_filler-0": values["start"] + rng.normal(0.008, 0.05, 120)}
        parts.append(scored(values, metric))
    scores = pd.concat(parts, ignore_index=True)
    kin = {METRIC: "", "brand_hit": "", "example_copy": "reward"}
    found = effects_of(scores, kin).reset_index()
    for held, tests in ((found["against"] == "before", 6), (found["against"] != "before", 4)):
        rows = found[held & (found["trained_on"] == "")]
        assert len(rows) == tests and set(rows["correction"]) == {f"holm, {tests} tests"}
        np.testing.assert_allclose(rows["p_adjusted"], holm(rows["p_value"].to_numpy(float)))
    named = effects_of(scores, kin, witnesses=[METRIC]).reset_index()
    assert set(named.loc[named["witness"], "metric"]) == {METRIC}
    screen = {
        "benjamini_hochberg, 9 tests",
        "benjamini_hochberg, 6 tests",
    }  # Three and two of all items; six and four of the category
    assert set(named.loc[named["metric"] == "brand_hit", "correction"]) == screen


def test_nothing_hangs_on_the_order_of_rows_or_seeds():
    scores = scored(
        gained(0.03), parents=np.arange(120) // 2, categories=np.where(np.arange(120) % 4 < 2, "a", "b")
    )
    shuffled = scores.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(effects_of(shuffled), effects_of(scores))
    swapped = scores.replace({"model": {"start-grpo-0": "start-grpo-2", "start-grpo-2": "start-grpo-0"}})
    pd.testing.assert_frame_equal(effects_of(swapped), effects_of(scores))


def test_categories_are_fixed_and_each_has_a_row():
    n = 120
    category = np.where(np.arange(n) < 60, "hats", "toys")
    values = gained(0.0, sd=0.02)
    for name in values:
        values[name] = values[name] + (0.2 * (category == "hats") if "grpo" in name else 0)
    scores = scored(values, categories=category)
    found = alignment_effects(scores, treated(scores), {METRIC: ""}).set_index("category")
    assert sorted(found.index) == ["all", "hats", "toys"]
    assert found.loc["all", "estimate"] == pytest.approx(found.loc[["hats", "toys"], "estimate"].mean())
    assert found.loc["all", "item_variance"] < 0.1 * 0.1**2 / n  # What lies between categories is no chance
    assert found.loc[["hats", "toys"], "correction"].str.startswith("benjamini").all()


def test_blind_runs_floors_and_undirected_metrics_are_left_out():
    scores = scored(gained(0.1))
    blind = scores[scores["model"] == "start"].assign(role="blind", value=0.0)
    length = scores.assign(metric="length_ratio", level="faithfulness")
    more = pd.concat([scores.assign(role="model"), blind, length.assign(role="model")], ignore_index=True)
    pd.testing.assert_frame_equal(effects_of(more, {METRIC: ""}), effects_of(scores))


def test_the_result_is_a_declared_table_and_nothing_gives_an_empty_one():
    scores = scored(gained(0.1))
    found = alignment_effects(scores, treated(scores), {METRIC: ""})
    assert list(found)[: len(tables.ALIGNMENT_EFFECTS.names)] == tables.ALIGNMENT_EFFECTS.names
    assert alignment_effects(scores, tables.empty(tables.ALIGNMENTS), {}).empty


# ---------------------------------------------------------------- coverage


@pytest.mark.parametrize("row", COVERAGE, ids=lambda row: row["law"])
def test_intervals_hold_the_truth_as_often_as_they_say(row):
    assert row["draws"] >= 2000
    assert row["groups and seeds"] >= 0.95 - 2.5 * np.sqrt(0.05 * 0.95 / row["draws"])


def test_forgetting_a_source_of_chance_does_not():
    for other in ("items alone", "seeds alone"):
        assert min(row[other] for row in COVERAGE if row.get(other) is not None) < 0.5


def test_changed_means_refuses_what_does_not_fit():
    good = Outcomes(np.zeros((3, 2)), True)
    with pytest.raises(ValueError, match="same items, got 3 and 2"):
        changed_means(good, Outcomes(np.zeros((2, 1)), False), np.arange(3))
    with pytest.raises(ValueError, match="finite"):
        changed_means(good, Outcomes(np.full((3, 1), np.nan), False), np.arange(3))
    alone = changed_means(Outcomes(np.ones((3, 1)), True), good, np.arange(3))
    assert np.isnan(alone.by_training[0, 0]) and np.isnan(crossed_p_value(alone))
    assert np.isnan(squared_half_widths(alone)[0, 0])
