"Variance components against the analysis of variance, and power against the noncentral t."

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmpc_analysis.analysis.planning import (
    Components,
    components,
    detectable,
    detectable_difference,
    detectable_slope,
    plan,
    power_of_difference,
    power_of_scale,
)
from mmpc_analysis.tables import COMPLETIONS


def simulated(rng, n, sizes, families, of, slope=0.05, categories=1):
    "Scores drawn from the model with known components."
    hard = rng.normal(0, of.item, n) + np.arange(n) % categories
    rows = []
    for j, (size, family) in enumerate(zip(sizes, families, strict=True)):
        value = (
            slope * np.log10(size)
            + 0.3 * (family == "B")
            + rng.normal(0, of.model)
            + hard
            + rng.normal(0, of.residual, n)
        )
        part = pd.DataFrame(
            {"item_id": [f"i{i:05d}" for i in range(n)], "category": [f"c{i % categories}" for i in range(n)]}
        )
        rows.append(
            part.assign(
                task="image_to_text",
                model=f"m{j:02d}",
                family=family,
                parameters=size,
                metric="chrf",
                level="word",
                value=value,
                outcome="ok",
            )
        )
    return pd.concat(rows)


OF = Components(item=0.3, model=0.05, residual=0.1)


SIX = np.array([4.3e9, 12.2e9, 27.4e9, 8.3e9, 33.5e9, 73.4e9])


TWO = np.array(list("AAABBB"))


def test_components_are_unbiased_and_equal_anova():
    rng = np.random.default_rng(0)
    found = [components(simulated(rng, 40, SIX, TWO, OF, categories=4)) for _ in range(150)]
    squares = np.array([[c.item**2, c.model**2, c.residual**2] for c in found])
    wanted = np.array([0.09, 0.0025, 0.01])
    np.testing.assert_allclose(
        squares.mean(0), wanted, atol=4 * squares.std(0).max() / np.sqrt(150), rtol=0.15
    )
    scores = simulated(rng, 30, SIX, TWO, OF)
    wide = scores.pivot(index="item_id", columns="model", values="value").to_numpy()
    left = wide - wide.mean(0) - wide.mean(1, keepdims=True) + wide.mean()
    one = components(scores)
    assert one.residual == pytest.approx(np.sqrt((left**2).sum() / (29 * 5)), abs=1e-12)
    assert one.item == pytest.approx(np.sqrt(wide.mean(1).var(ddof=1) - one.residual**2 / 6), abs=1e-12)


def test_model_component_is_unknown_without_a_degree_of_freedom():
    rng = np.random.default_rng(0)
    assert np.isnan(components(simulated(rng, 30, SIX[:2], ["A", "A"], OF)).model)
    assert np.isnan(components(simulated(rng, 30, SIX[:3], ["A", "B", "C"], OF)).model)
    assert np.isnan(components(simulated(rng, 30, SIX, TWO, OF).assign(parameters=np.nan)).model)
    assert np.isfinite(components(simulated(rng, 30, SIX[:3], ["A"] * 3, OF)).model)


@pytest.mark.parametrize(("items", "difference"), [(10, 0.1), (60, 0.04), (500, 0.0)])
def test_power_of_a_difference_equals_the_noncentral_t(items, difference):
    shift, reach = difference / (2**0.5 * OF.residual / items**0.5), stats.t.ppf(0.975, items - 1)
    wanted = stats.nct.sf(reach, items - 1, shift) + stats.nct.cdf(-reach, items - 1, shift)
    assert power_of_difference(difference, items, OF, draws=40_000) == pytest.approx(wanted, abs=0.012)


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.3])
def test_power_of_scale_equals_the_noncentral_t(slope):
    x = np.log10(SIX) - np.array([np.log10(SIX)[f == TWO].mean() for f in TWO])
    scatter = np.sqrt(OF.model**2 + OF.residual**2 / 200)
    shift, reach = slope * np.sqrt(x @ x) / scatter, stats.t.ppf(0.975, 3)
    wanted = stats.nct.sf(reach, 3, shift) + (stats.nct.cdf(-reach, 3, shift) if shift < 10 else 0)
    assert power_of_scale(slope, SIX, TWO, 200, OF, draws=40_000) == pytest.approx(wanted, abs=0.012)


def test_more_items_do_not_stand_in_for_more_models():
    few, many = (power_of_scale(0.05, SIX, TWO, n, OF) for n in (1000, 1_000_000))
    assert many - few < 0.02
    twenty = np.geomspace(1e9, 1e11, 20)
    assert power_of_scale(0.05, twenty, ["A", "B"] * 10, 1000, OF) > many + 0.2
    assert power_of_difference(0.01, 20_000, OF) > 0.99 > power_of_difference(0.01, 500, OF)


def test_permutation_power_keeps_its_level_and_knows_its_limits():
    assert power_of_scale(0.0, SIX, TWO, 100, OF, "permutation", draws=4000) <= 0.05
    assert power_of_scale(9.0, SIX[:3], TWO[:3], 100, OF, "permutation", draws=200) == 0
    assert detectable_slope(SIX[:3], TWO[:3], 100, OF, test="permutation", draws=100) == np.inf
    assert np.isfinite(detectable_slope(SIX, TWO, 100, OF, draws=500))
    assert power_of_scale(1.0, SIX[:2], ["A", "A"], 100, OF) == 0


def test_detectable_effect_has_the_power_it_promises():
    for items in (20, 400):
        effect = detectable_difference(items, OF)
        assert power_of_difference(effect, items, OF) >= 0.8 > power_of_difference(effect * 0.99, items, OF)
    assert detectable(lambda e: float(e >= 3), 0.01) == pytest.approx(3, rel=1e-3)
    assert detectable(lambda e: 0.0, 1.0) == np.inf


def test_plan_multiplies_the_probe():
    rng = np.random.default_rng(0)
    probe = simulated(rng, 50, SIX, TWO, OF)
    filler = {
        "precision": "",
        "role": "model",
        "prompt": "",
        "key": "",
        "input_tokens": 100.0,
        "output_tokens": 10.0,
    }
    answers = probe.assign(**filler, seconds=np.tile(np.arange(1, 51) / 10, 6)).reindex(
        columns=COMPLETIONS.names
    )
    eaten = answers.head(1).assign(outcome="engine_error", seconds=1e9, item_id="x")
    blind = answers.head(1).assign(role="blind", seconds=1e9, item_id="y")
    table = plan(pd.concat([answers, eaten, blind]), probe, items=(50, 200), categories=3, draws=400)
    row = table.iloc[1]
    assert row["completions"] == 200 * 3 * 6
    assert row["hours"] == pytest.approx(200 * 3 * 6 * 2.55 / 3600)
    assert row["hours_high"] - row["hours"] == pytest.approx(
        1.96 * 600 * np.sqrt(6 * np.var(np.arange(1, 51) / 10, ddof=1) / 50) / 3600
    )
    assert (row["input_tokens"], row["output_tokens"]) == (360_000, 36_000)
    of = components(probe)
    assert row["these_models"] == detectable_difference(600, of, draws=400)
    assert row["scale_in_general"] == detectable_slope(SIX, TWO, 600, of, draws=400)
    known = plan(
        answers, probe, items=(50,), categories=3, of={"image_to_text": Components(0, np.nan, 0.1)}, draws=400
    )
    assert np.isnan(known["scale_in_general"]).all() and np.isfinite(known["these_models"]).all()
    with pytest.raises(ValueError, match="one metric for each task"):
        plan(answers, pd.concat([probe, probe.assign(metric="bleu")]))


def test_a_model_whose_engine_failed_takes_no_items_from_the_others():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.2, 400)
    rows = [
        (
            f"i{i:03d}",
            "M",
            "image_to_text",
            f"m{j}",
            "F",
            10.0**j,
            "chrf",
            "word",
            hard[i] + rng.normal(0, 0.1),
            "ok",
        )
        for j in range(4)
        for i in range(400)
    ]
    names = [
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
    scores = pd.DataFrame(rows, columns=names)
    lost = (scores["model"] == "m3") & (scores["item_id"] >= "i010")
    broken = scores.assign(
        value=scores["value"].mask(lost), outcome=scores["outcome"].mask(lost, "engine_error")
    )
    of = components(broken)
    assert of == components(scores[scores["model"] != "m3"])
    assert (of.item, of.residual) == pytest.approx((0.2, 0.1), rel=0.1)
    completions = broken.assign(
        precision="", role="model", prompt="", key="", seconds=1.0, input_tokens=1.0, output_tokens=1.0
    )
    table = plan(completions, broken, items=(50,), categories=1, draws=50)
    assert table["lost"].item() == pytest.approx(390 / 1600)
