"Costs by hand, choices by a plain loop, the risk by resampling, the frontier and its figure, and every sentence against data that deny it."

import re

import numpy as np
import pandas as pd
import pytest
from comparison_cases import make_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.analysis.adjusted_means import model_means
from mmpc_analysis.analysis.comparison import compare, sensitivity
from mmpc_analysis.analysis.decision import (
    DECISION_VERDICTS,
    beaten,
    cheapest,
    check_prices,
    cost_per_1000,
    decision_sentence,
    frontier,
    price_list,
)
from mmpc_analysis.analysis.equivalence import equivalence
from mmpc_analysis.analysis.stability import rank_agreement, rank_stability
from mmpc_analysis.report.cost import frontier_figure
from mmpc_analysis.scores.averages import average
from mmpc_analysis.scores.item_sets import headline_set
from mmpc_analysis.tables import COMPLETIONS, TableError


def make(values, seconds, metric="chrf", task="image_to_text", categories=None):
    "Scores and completions of models a, b, c … from an (items, models) array and a number of seconds per model."
    values = np.asarray(values, dtype=float)
    categories = categories or ["Mugs"] * len(values)
    scores, answers = [], []
    for j, second in enumerate(seconds):
        place = {
            "item_id": [f"i{i:04d}" for i in range(len(values))],
            "category": categories,
            "task": task,
            "outcome": "ok",
        }
        place |= {"model": "abcdefgh"[j], "family": "F", "parameters": 10.0 ** (9 + j)}
        scores.append(pd.DataFrame(place | {"metric": metric, "level": "word", "value": values[:, j]}))
        used = {"precision": "", "role": "model", "prompt": "", "key": ""}
        answers.append(
            pd.DataFrame(
                place | used | {"seconds": second, "input_tokens": 100.0 * (j + 1), "output_tokens": 10.0}
            )
        )
    return pd.concat(scores), pd.concat(answers).reindex(columns=COMPLETIONS.names)


def example(n=200, gaps=(0.1, 0.095, 0.0), seconds=(4.0, 0.5, 0.2), noise=0.05, seed=0, **more):
    rng = np.random.default_rng(seed)
    return make(
        rng.normal(0.5, 0.2, (n, 1)) + np.array(gaps) + rng.normal(0, noise, (n, len(gaps))), seconds, **more
    )


# ---------------------------------------------------------------- costs


def test_costs_by_hand():
    _, completions = example()
    table = cost_per_1000(completions).set_index("model")
    assert table["cost"].to_dict() == pytest.approx({"a": 4000 / 3600, "b": 500 / 3600, "c": 200 / 3600})
    assert set(table["unit"]) == {"machine hours"} and set(table["completions"]) == {200}
    prices = price_list(completions).assign(currency="EUR", source="made up", date="2026-11-25")
    prices["input_price"], prices["output_price"] = [1.0, 2.0, np.nan], [10.0, 20.0, np.nan]
    prices["hour_price"] = [np.nan, 3.6, np.nan]
    money = cost_per_1000(completions, prices).set_index("model")
    assert money.loc["a", "cost"] == pytest.approx(1000 * (100 * 1 + 10 * 10) / 1e6)
    assert money.loc["b", "cost"] == pytest.approx(1000 * (200 * 2 + 10 * 20) / 1e6 + 500 / 3600 * 3.6)
    assert np.isnan(money.loc["c", "cost"]) and set(money["unit"]) == {"EUR"}


def test_failed_answers_cost_blind_runs_and_engine_errors_do_not():
    _, completions = example()
    more = completions.head(3).assign(seconds=1e6, item_id=["x", "y", "z"])
    more["role"] = ["blind", "model", "model"]
    more["outcome"] = ["ok", "engine_error", "invalid"]
    table = cost_per_1000(pd.concat([completions, more])).set_index("model")
    assert (
        table.loc["a", "seconds"] == pytest.approx((200 * 4 + 1e6) / 201)
        and table.loc["a", "completions"] == 201
    )


def test_an_unmeasured_token_count_gives_no_cost_and_not_nothing():
    _, completions = example()
    prices = price_list(completions).assign(
        currency="EUR", source="s", date="d", input_price=1.0, output_price=1.0
    )
    table = cost_per_1000(completions.assign(input_tokens=np.nan), prices)
    assert table["cost"].isna().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "a"}, "is listed twice"),
        ({"hour_price": -1.0}, "has a negative price"),
        ({"output_price": 1.0}, "one token price without the other"),
        ({"hour_price": 1.0, "source": " "}, "without currency, source and date"),
        ({"hour_price": 1.0, "date": None}, "without currency, source and date"),
        ({"hour_price": 1.0, "currency": ["EUR", "USD", "EUR"]}, "another currency than the first"),
    ],
)
def test_bad_price_lists_are_refused(change, said):
    prices = price_list(example()[1]).assign(currency="EUR", source="s", date="d")
    check_prices(prices)
    with pytest.raises(ValueError, match=said):
        check_prices(prices.assign(**change))
    with pytest.raises(ValueError, match="no column 'source'"):
        check_prices(prices.drop(columns="source"))


# ---------------------------------------------------------------- choices


def test_choice_by_a_plain_loop_over_the_table_of_pairs():
    for seed in range(12):
        scores, completions = example(60, (0.02, 0.03, 0.0, 0.01), (5, 4, 1, 2), seed=seed)
        costs = cost_per_1000(completions)
        found = cheapest(scores, costs, 0.025).query("category == 'all'").iloc[0]
        pairs = compare(scores).query("category == 'all'")
        low = {m: [] for m in "abcd"}
        for _, row in pairs.iterrows():
            low[row["model"]].append(row["low_joint"])
            low[row["other"]].append(-row["high_joint"])
        passed = [m for m in "abcd" if min(low[m]) > -0.025]
        price = costs.set_index("model")["cost"]
        means = scores.groupby("model")["value"].mean()
        assert found["best"] == means.idxmax() and found["good_enough"] == len(passed)
        assert found["established"] == bool(passed)
        assert found["chosen"] == (min(passed, key=lambda m: price[m]) if passed else found["best"])
        rivals = means.drop(found["chosen"])
        assert found["estimate"] == pytest.approx(means[found["chosen"]] - rivals.max(), abs=1e-12)
        assert found["low"] == pytest.approx(min(low[found["chosen"]]), abs=1e-12)
        assert found["cost"] == pytest.approx(price[found["chosen"]]) and found["question"] == "these_models"


def test_risk_is_the_share_of_resampled_shops_in_which_the_choice_was_wrong():
    scores, completions = example(40, (0.02, 0.0), (4.0, 0.5), noise=0.08, seed=3)
    row = cheapest(scores, cost_per_1000(completions), 0.03, draws=20_000).query("category == 'all'").iloc[0]
    wide = scores.pivot(index="item_id", columns="model", values="value").to_numpy()
    drawn = wide[np.random.default_rng(0).integers(40, size=(20_000, 40))].mean(1)
    j = "ab".index(row["chosen"])
    wanted = (drawn.max(1) - drawn[:, j] > 0.03).mean()
    assert wanted > 0.001 and row["risk"] == pytest.approx(wanted, abs=0.012)


def test_the_choice_gets_cheaper_with_the_margin_and_never_dearer():
    scores, completions = example(150, (0.1, 0.09, 0.05, 0.0), (8, 4, 2, 1))
    costs = cost_per_1000(completions)
    seen = [cheapest(scores, costs, m).query("category == 'all'").iloc[0] for m in (0.001, 0.03, 0.08, 0.5)]
    assert [row["chosen"] for row in seen] == ["a", "b", "c", "d"]
    assert [row["established"] for row in seen] == [False, True, True, True]


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_row_order_and_affine_changes_leave_the_choice(seed):
    scores, completions = example(50, (0.02, 0.01, 0.0), seed=seed)
    costs = cost_per_1000(completions)
    one = cheapest(scores, costs, 0.03, draws=200)
    shuffled = cheapest(
        scores.sample(frac=1, random_state=seed), costs.sample(frac=1, random_state=seed), 0.03, draws=200
    )
    pd.testing.assert_frame_equal(one, shuffled)
    scaled = cheapest(scores.assign(value=scores["value"] * 4 - 1), costs, 0.12, draws=200)
    names = ["best", "chosen", "established", "risk", "good_enough"]
    pd.testing.assert_frame_equal(one[names], scaled[names])


def test_lower_is_better_chooses_the_lower():
    scores, completions = example(200, (0.0, 0.005, 0.2), metric="mse", task="text_to_image")
    row = cheapest(scores, cost_per_1000(completions), 0.03).query("category == 'all'").iloc[0]
    assert (row["best"], row["chosen"]) == ("a", "b")


def test_unpriced_models_can_be_best_but_not_chosen():
    scores, completions = example()
    costs = cost_per_1000(completions)
    costs.loc[costs["model"] == "a", "cost"] = np.nan
    row = cheapest(scores, costs, 0.03).query("category == 'all'").iloc[0]
    assert (row["best"], row["chosen"], row["unpriced"]) == ("a", "b", 1) and np.isnan(row["best_cost"])
    assert "a scored best and has no known cost" in decision_sentence(row)
    alone = costs.assign(cost=[np.nan, np.nan, 1.0])
    row = cheapest(scores, alone, 0.03).query("category == 'all'").iloc[0]
    assert not row["established"] and row["chosen"] == "a"
    with pytest.raises(ValueError, match="no cost is known"):
        cheapest(scores, costs.assign(cost=np.nan), 0.03)


@pytest.mark.parametrize(
    "values", [np.ones((3, 3)), np.random.default_rng(0).normal(size=(3, 3))], ids=["constant", "noise"]
)
def test_nothing_is_chosen_from_three_items(values):
    scores, completions = make(values, (4, 1, 2))
    rows = cheapest(scores, cost_per_1000(completions), 0.5, draws=50)
    assert not rows["established"].any() and (rows["chosen"] == rows["best"]).all()
    assert set(rows["verdict"]) == {"undecided"}
    assert all("undecided" in decision_sentence(row) for _, row in rows.iterrows())


def with_floor(scores, values, name="template", role="floor"):
    "The same scores with a floor beside them."
    one = scores[scores["model"] == "a"]
    about = {
        "model": name,
        "role": role,
        "family": "",
        "parameters": np.nan,
        "value": values,
        "outcome": "ok",
    }
    return pd.concat([scores.assign(role=scores.get("role", "model")), one.assign(**about)])


@pytest.mark.parametrize("models", [2, 6])
def test_identical_models_are_established_and_the_cheapest_chosen(models):
    values = np.random.default_rng(0).random((40, 1)).repeat(models, axis=1)
    scores, completions = make(values, [4.0, 0.5, 3, 2, 5, 6][:models])
    rows = cheapest(scores, cost_per_1000(completions), 0.01, draws=50)
    assert set(rows["verdict"]) == {"all_equal"} and rows["established"].all()
    assert set(rows["chosen"]) == {"b"} and set(rows["best"]) == {"b"} and (rows["risk"] == 0).all()
    text = decision_sentence(rows.iloc[-1])
    assert "same score on each of 40 units" in text and "b is the cheapest" in text and "nan" not in text


def test_two_identical_best_are_decided():
    rng = np.random.default_rng(0)
    good = rng.normal(0.5, 0.1, (80, 1))
    values = np.hstack([good, good - 0.2 + rng.normal(0, 0.02, (80, 1)), good])
    scores, completions = make(values, (4.0, 0.2, 1.0))
    row = cheapest(scores, cost_per_1000(completions), 0.05).query("category == 'all'").iloc[0]
    assert (row["verdict"], row["chosen"], row["established"], row["good_enough"]) == (
        "established",
        "c",
        True,
        2,
    )
    assert row["estimate"] == 0 and row["low"] == 0


@pytest.mark.parametrize("metric", ["chrf", "mse"])
@pytest.mark.parametrize("gap", [-0.2, -0.015, -0.001])
def test_a_model_below_the_free_template_is_never_chosen(metric, gap):
    rng = np.random.default_rng(0)
    sign = 1 if metric == "chrf" else -1
    floor = rng.normal(0.5, 0.1, 300)
    values = floor[:, None] + sign * (gap + rng.normal(0, 0.01, (300, 2)))
    scores, completions = make(values, (4.0, 0.5), metric=metric)
    costs = cost_per_1000(completions)
    assert cheapest(scores, costs, 0.05).iloc[-1]["established"]  # Without the floor a model was good enough
    row = cheapest(with_floor(scores, floor), costs, 0.05).query("category == 'all'").iloc[0]
    assert (row["verdict"], row["chosen"], row["cost"], row["established"]) == (
        "floor_suffices",
        "template",
        0.0,
        True,
    )
    assert "no model is needed. template, a floor that costs nothing" in decision_sentence(row)
    noisy = with_floor(scores, floor + rng.normal(0, 1.5, 300))
    undecided = cheapest(noisy, costs, 0.05).query("category == 'all'").iloc[0]
    assert undecided["verdict"] == "undecided" or undecided["chosen"] == "template"


def test_a_floor_within_the_margin_of_a_better_model_suffices_and_one_beyond_does_not():
    rng = np.random.default_rng(0)
    scores, completions = example(300, (0.1, 0.095, 0.0), noise=0.02)
    costs, best = cost_per_1000(completions), scores.loc[scores["model"] == "a", "value"].to_numpy()
    near = cheapest(with_floor(scores, best - 0.01 + rng.normal(0, 0.02, 300)), costs, 0.03).iloc[-1]
    far = cheapest(with_floor(scores, best - 0.2 + rng.normal(0, 0.02, 300)), costs, 0.03).iloc[-1]
    assert (near["verdict"], near["chosen"], near["best"], near["cost"]) == (
        "floor_suffices",
        "template",
        "a",
        0.0,
    )
    assert (far["verdict"], far["chosen"], far["unpriced"]) == ("established", "b", 0)


@pytest.mark.parametrize(("name", "role"), [("oracle", "ceiling"), ("a", "blind")])
def test_the_ceiling_and_blind_runs_are_no_candidates(name, role):
    scores, completions = example(100, (0.1, 0.095, 0.0), noise=0.02)
    costs = cost_per_1000(completions)
    plain, more = (cheapest(s, costs, 0.03, draws=200) for s in (scores, with_floor(scores, 1.0, name, role)))
    pd.testing.assert_frame_equal(plain, more)


@pytest.mark.parametrize("floor", [True, False])
def test_all_failed_is_no_choice(floor):
    scores, completions = make(np.zeros((40, 3)), (4, 1, 2))
    scores = scores.assign(outcome="invalid")
    scores = with_floor(scores, np.random.default_rng(0).random(40)) if floor else scores
    rows = cheapest(scores, cost_per_1000(completions), 0.02, draws=50)
    assert set(rows["verdict"]) == {"all_failed"} and not rows["established"].any()
    assert decision_sentence(rows.iloc[0]).endswith(
        "nothing to choose. No model gave a single usable completion."
    )
    one = scores["outcome"].mask((scores["model"] == "a") & (scores["item_id"] == "i0003"), "ok")
    assert "all_failed" not in set(
        cheapest(scores.assign(outcome=one), cost_per_1000(completions), 0.02, draws=50)["verdict"]
    )


def test_a_single_model_is_said_to_be_the_only_one():
    scores, completions = example(100, (0.1, 0.0), (4.0, 0.5), noise=0.02)
    one = scores.query("model == 'a'")
    costs, value = cost_per_1000(completions), one["value"].to_numpy()
    rng = np.random.default_rng(0)
    for lead, verdict, shown in (
        (0.2, "one_model", True),
        (-0.2, "floor_suffices", True),
        (0.0, "one_model", False),
    ):
        noise = rng.normal(0, 0.4 if lead == 0 else 0.02, 100)
        row = cheapest(with_floor(one, value - lead + noise), costs, 0.001 if lead == 0 else 0.03).iloc[-1]
        assert (row["verdict"], row["established"]) == (verdict, shown)
        text = decision_sentence(row)
        if verdict == "one_model":
            assert row["chosen"] == "a" and "a is the only model" in text
            assert ("is not shown to be better" in text) == (not shown) and "cheapest" not in text


def test_a_model_that_its_engine_failed_stands_apart_and_is_named():
    scores, completions = example(100, (0.0, 0.0, 0.0), (4.0, 0.5, 0.2), noise=0.02)
    lost = (scores["model"] == "c") & (scores["item_id"] >= "i0050")
    scores = scores.assign(
        value=scores["value"].mask(lost), outcome=scores["outcome"].mask(lost, "engine_error")
    )
    row = cheapest(scores, cost_per_1000(completions), 0.05).query("category == 'all'").iloc[0]
    assert (row["chosen"], row["apart"], row["items"]) == ("b", "c", 100)
    assert "lost to the engine: c." in decision_sentence(row)
    few = (scores["model"] == "c") & scores["item_id"].between("i0050", "i0052")
    mild = example(100, (0.0, 0.0, 0.0), (4.0, 0.5, 0.2), noise=0.02)[0]
    mild = mild.assign(value=mild["value"].mask(few), outcome=mild["outcome"].mask(few, "engine_error"))
    row = cheapest(mild, cost_per_1000(completions), 0.05).query("category == 'all'").iloc[0]
    assert (row["chosen"], row["apart"], row["items"]) == ("c", "", 97)


def test_only_a_lost_model_has_a_known_cost():
    scores, completions = example(100, (0.0, 0.0), (4.0, 0.5))
    lost = (scores["model"] == "b") & (scores["item_id"] >= "i0050")
    scores = with_floor(
        scores.assign(value=scores["value"].mask(lost), outcome=scores["outcome"].mask(lost, "engine_error")),
        0.0,
    )
    costs = cost_per_1000(completions).assign(cost=[np.nan, 1.0])
    row = cheapest(scores, costs, 0.03).iloc[-1]
    assert (row["verdict"], row["chosen"], row["unpriced"], row["apart"]) == ("one_model", "a", 1, "b")


def test_metrics_without_a_direction_give_no_decision():
    scores, completions = example(60)
    both = pd.concat([scores, scores.assign(metric="length_ratio", value=5.0)])
    assert set(cheapest(both, cost_per_1000(completions), 0.03, draws=50)["metric"]) == {"chrf"}
    assert cheapest(scores.assign(metric="length_ratio"), cost_per_1000(completions), 0.03).empty


def test_one_model_unknown_scores_and_duplicates():
    scores, completions = example()
    costs = cost_per_1000(completions)
    assert cheapest(scores.query("model == 'a'"), costs, 0.1).empty
    assert cheapest(scores.assign(value=np.nan), costs, 0.1).empty
    with pytest.raises(TableError, match="repeats item_id"):
        cheapest(pd.concat([scores, scores.head(1)]), costs, 0.1)
    with pytest.raises(ValueError, match="margin must be positive"):
        cheapest(scores, costs, -0.1)
    with pytest.raises(ValueError, match="names no 'chrf'"):
        cheapest(scores, costs, {"bleu": 0.1})
    assert len(cheapest(scores, costs, {"chrf": 0.1}, draws=20))


# ---------------------------------------------------------------- words

ROW = {
    "category": "Home_and_Kitchen",
    "metric": "chrf",
    "best": "a",
    "chosen": "b",
    "established": True,
    "cost": 0.14,
    "best_cost": 1.1,
    "unit": "EUR",
    "margin": 0.03,
    "risk": 0.012,
    "n": 200,
}


@pytest.mark.parametrize("established", [True, False])
@pytest.mark.parametrize("chosen", ["a", "b"])
@pytest.mark.parametrize("best_cost", [1.1, np.nan])
@pytest.mark.parametrize("category", ["Home_and_Kitchen", "all"])
def test_sentence_says_what_its_row_says_and_nothing_else(established, chosen, best_cost, category):
    text = decision_sentence(
        pd.Series(
            ROW | {"established": established, "chosen": chosen, "best_cost": best_cost, "category": category}
        )
    )
    assert text.startswith("All products, chrf" if category == "all" else "Home and Kitchen, chrf")
    assert ("undecided" in text) == (not established)
    assert ("is the cheapest model shown" in text) == established
    assert ("EUR" in text) == established and ("1.20%" in text) == established
    assert ("against 1.1 of a" in text) == (established and chosen == "b" and np.isfinite(best_cost))
    assert ("no known cost" in text) == (established and chosen == "b" and np.isnan(best_cost))
    assert "nan" not in text and "0.03" in text


@pytest.mark.parametrize("verdict", DECISION_VERDICTS)
def test_every_verdict_has_its_own_words(verdict):
    shown = verdict in ("established", "all_equal", "floor_suffices")
    row = ROW | {"verdict": verdict, "established": shown, "apart": "z" if verdict == "undecided" else ""}
    text = decision_sentence(pd.Series(row))
    assert text.startswith("Home and Kitchen, chrf: ") and "nan" not in text and text.endswith(".")
    assert bool(re.search(r"\bb\b", text)) == (
        verdict in ("established", "all_equal", "floor_suffices", "one_model")
    )
    assert ("EUR" in text) == (verdict in ("established", "all_equal"))
    assert ("lost to the engine: z" in text) == (verdict == "undecided")


def test_a_risk_that_was_never_seen_is_not_called_zero():
    text = decision_sentence(pd.Series(ROW | {"risk": 0.0}))
    assert "In none of the bootstrap draws" in text and "0%" not in text


# ---------------------------------------------------------------- the frontier


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_beaten_by_definition(points):
    good, cost = (np.array(v, float) for v in zip(*points, strict=True))
    found = beaten(good, cost)
    for k, (g, c) in enumerate(points):
        wanted = any(a >= g and b <= c and (a > g or b < c) for a, b in points)
        assert found[k] == wanted
    assert not found.all()


def test_frontier_keeps_models_proper_of_known_cost_and_turns_with_the_metric():
    scores, completions = example(metric="mse", task="text_to_image")
    costs = cost_per_1000(completions)
    floor = scores.query("model == 'a'").assign(model="template", family="", parameters=np.nan, role="floor")
    scores = scores.assign(role="model")
    table = (
        frontier(average(pd.concat([scores, floor]), draws=50), costs)
        .query("category == 'all'")
        .set_index("model")
    )
    assert set(table.index) == {"a", "b", "c"} and set(table["question"]) == {"these_models"}
    assert table["on_frontier"].to_dict() == {"a": False, "b": False, "c": True}
    assert "a" not in set(frontier(average(scores, draws=50), costs[costs["model"] != "a"])["model"])


def test_figure_shows_the_table_and_computes_nothing():
    scores, completions = example(gaps=(0.1, 0.05, 0.09), seconds=(4.0, 2.0, 0.5))
    table = frontier(average(scores, draws=50), cost_per_1000(completions))
    figure = frontier_figure(table, "image_to_text", "chrf", lambda m: {"a": "#111111"}.get(m, "#222222"))
    line, *points = figure.data
    rows = table.query("category == 'all'").sort_values("cost")
    assert [p.name for p in points] == rows["model"].tolist()
    for point, (_, row) in zip(points, rows.iterrows(), strict=True):
        assert (point.x[0], point.y[0]) == (row["cost"], row["estimate"])
        assert point.y[0] + point.error_y.array[0] == pytest.approx(row["high"])
        assert point.marker.symbol == ("circle" if row["on_frontier"] else "circle-open")
        assert point.marker.color == ("#111111" if row["model"] == "a" else "#222222")
    assert list(line.x) == rows[rows["on_frontier"]]["cost"].tolist()
    assert figure.layout.title.text.endswith("(chrf, all products)") and "?" in figure.layout.title.text
    assert (
        "machine hours" in figure.layout.xaxis.title.text
        and "higher is better" in figure.layout.yaxis.title.text
    )


def test_figure_escapes_foreign_names():
    scores, completions = example(20)
    bad = "<a href='//x.example'>win</a>"
    rename = {"a": bad}
    table = frontier(
        average(scores.replace({"model": rename}), draws=20),
        cost_per_1000(completions.replace({"model": rename})),
    )
    text = frontier_figure(table, "image_to_text", "chrf", lambda m: "#111111").to_json()
    assert "<a" not in re.sub(r"\\u003c", "<", text)


# ---------------------------------------------------------------- an engine that failed on the hard half


def half_lost(models=2, items=120, metric="chrf", lower=False):
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
    scores = half_lost(models, metric=metric, lower=lower)
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
    rows = sensitivity(half_lost(), "a", "b", draws=200).query("category == 'all'").set_index("rule")
    assert abs(rows.loc["failure value", "estimate"]) < 0.02 and rows.loc["failure value", "items"] == 60
    assert (
        rows.loc["against", "estimate"] == pytest.approx(-0.45, abs=0.02)
        and rows.loc["against", "items"] == 120
    )
    assert rows.loc["favour", "estimate"] == pytest.approx(0.05, abs=0.02)


def test_costs_are_of_answered_items_only():
    scores = half_lost()
    seconds = completions_of(scores, {"a": 2.0, "b": 1.0})
    slow = seconds.assign(seconds=seconds["seconds"].mask(seconds["outcome"].eq("engine_error"), 600.0))
    pd.testing.assert_frame_equal(cost_per_1000(seconds), cost_per_1000(slow))
    assert cost_per_1000(slow).set_index("model").loc["b", "completions"] == 60
