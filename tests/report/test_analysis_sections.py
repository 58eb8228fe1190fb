"""The analysis tables against hand computations and other libraries, and every sentence against data made to contradict it."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from mmpc_analysis import store, tables
from mmpc_analysis.analysis import conclusions
from mmpc_analysis.report import leaderboard, power, variation
from mmpc_analysis.report.cost import cost_words
from mmpc_analysis.report.leaderboard import comparison_words
from mmpc_analysis.report.power import power_words
from mmpc_analysis.report.size import category_words, equality_words, scale_lines, scale_words, slope_forest
from mmpc_analysis.report.variation import variance_words

SIZES = {"a-s": 1e9, "a-m": 4e9, "a-l": 2e10, "b-s": 2e9, "b-m": 9e9, "b-l": 5e10}


def simulated(slope=0.1, model=0.0, items=40, categories=2, seed=0, sizes=SIZES, noise=0.1, metric="chrf"):
    "Scores of models whose mean rises by slope for ten times the parameters."
    rng, rows = np.random.default_rng(seed), []
    for category in range(categories):
        for item in range(items):
            hard = rng.normal(0, 0.1)
            for name, size in sizes.items():
                rows.append(
                    (
                        f"i{category}-{item:03d}",
                        f"c{category}",
                        name,
                        name[0],
                        size,
                        hard + slope * (np.log10(size) - 10),
                    )
                )
    frame = pd.DataFrame(rows, columns=["item_id", "category", "model", "family", "parameters", "value"])
    off = {name: rng.normal(0, model) for name in sizes}
    frame["value"] += 0.5 + frame["model"].map(off) + rng.normal(0, noise, len(frame))
    return frame.assign(task="image_to_text", metric=metric, level="word", outcome="ok")


def answered(scores, seconds=None):
    "Completions of those scores, with the time that each took."
    rows = scores[["item_id", "category", "task", "model", "family", "parameters", "outcome"]].copy()
    rows["seconds"] = rows["model"].map(seconds or {}).fillna(1.0)
    text = {
        "precision": "float32",
        "prompt": "p",
        "key": "k",
        "role": "model",
        "input_tokens": 10.0,
        "output_tokens": 5.0,
    }
    return tables.validate(rows.assign(**text), tables.COMPLETIONS)


# ---------------------------------------------------------------- tables


def slopes_by_hand(scores):
    "Least squares of the models' means on size and family, and of every item's scores on the same."
    wide = scores.pivot(index="item_id", columns="model", values="value")[list(SIZES)]
    x = np.column_stack(
        [[name[0] == f for name in SIZES] for f in "ab"] + [np.log10(list(SIZES.values()))]
    ).astype(float)
    weights = np.linalg.pinv(x)[-1]
    mean = wide.mean().to_numpy()
    rest = mean - x @ np.linalg.lstsq(x, mean, rcond=None)[0]
    general = np.sqrt((rest**2).sum() / 3 * np.linalg.inv(x.T @ x)[-1, -1])
    category = scores.groupby("item_id")["category"].first().reindex(wide.index)
    centred = wide.sub(wide.mean(axis=1), axis=0).to_numpy()
    design = np.column_stack([np.tile(x[:, 1:] - x[:, 1:].mean(0), (len(wide), 1))])
    left = centred.ravel() - design @ np.linalg.lstsq(design, centred.ravel(), rcond=None)[0]
    dof = len(wide) * 5 - 2
    these = np.sqrt((left**2).sum() / dof * (weights**2).sum() / len(wide))
    return weights @ mean, these, dof, general, category.nunique()


def test_slopes_are_least_squares_with_two_errors():
    scores = simulated(model=0.03, seed=4)
    found = conclusions.slope_table(scores).query("category == 'all'").set_index("question")
    slope, these, dof, general, _ = slopes_by_hand(scores)
    assert found["estimate"].to_numpy() == pytest.approx([slope, slope], rel=1e-6)
    assert found["standard_error"].to_dict() == pytest.approx(
        {"these_models": these, "scale_in_general": general}, rel=1e-4
    )
    assert found["dof"].to_dict() == pytest.approx({"these_models": dof, "scale_in_general": 3}, rel=1e-3)
    reach = student.ppf(0.975, 3) * general
    assert found.loc["scale_in_general", ["low", "high"]].tolist() == pytest.approx(
        [slope - reach, slope + reach], rel=1e-4
    )
    assert found["n"].to_dict() == {"these_models": 80, "scale_in_general": 6}


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
    assert said in " ".join(scale_words(slopes)) and "No slope" in scale_words(slopes)[0]
    for name, frame in made.items():
        assert frame.columns[: len(tables.TABLES[name].names)].tolist() == tables.TABLES[name].names


def averaged(scores):
    from mmpc_analysis.scores.averages import average

    return average(scores, draws=20)


def test_three_models_of_two_families_leave_nothing_to_say_in_general():
    scores = simulated(items=10, sizes={n: SIZES[n] for n in ("a-s", "a-l", "b-s")})
    slopes = conclusions.slope_table(scores).query("category == 'all'").set_index("question")
    assert np.isfinite(slopes["low"]["these_models"]) and np.isnan(slopes["low"]["scale_in_general"])
    assert "nothing can be said" in scale_words(slopes.reset_index())[1]
    assert "in general" not in " ".join(scale_words(slopes.reset_index()))


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


# ---------------------------------------------------------------- sentences

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


@pytest.mark.parametrize(
    ("these", "general", "among", "in_general", "together"),
    [
        (
            UP,
            OPEN,
            "larger models scored better",
            "no evidence about size in general",
            "whether other models would is open",
        ),
        (
            DOWN,
            OPEN,
            "larger models scored worse",
            "no evidence about size in general",
            "whether other models would is open",
        ),
        (UP, UP, "larger models scored better", "score better in general", "same answer"),
        (DOWN, DOWN, "larger models scored worse", "score worse in general", "same answer"),
        (
            OPEN,
            OPEN,
            "other products could turn the order",
            "no evidence about size in general",
            "is evidence that size makes no difference",
        ),
        (
            OPEN,
            UP,
            "other products could turn the order",
            "score better in general",
            "more closely than chance",
        ),
    ],
)
def test_scale_words_follow_both_answers(these, general, among, in_general, together):
    said = scale_words(size(these, general))
    for sentence, words in zip(said, (among, in_general, together), strict=False):
        assert words in sentence
    everything = {
        "larger models scored better", "larger models scored worse", "other products could turn the order",
        "no evidence about size", "score better in general", "score worse in general", "same answer",
        "whether other models would is open", "more closely than chance", "Neither answer is evidence",
    }  # fmt: skip
    text = " ".join(said)
    for words in everything:
        assert (words in text) == any(
            words in w or w in words
            for w in (
                among,
                in_general,
                together,
                "Neither answer is evidence" if these == general == OPEN else among,
            )
        ), words
    assert ("cannot show either" in text) == (general == OPEN)


def test_on_an_error_a_falling_line_means_better():
    assert "larger models scored better" in scale_words(size(DOWN, OPEN, metric="mse"))[0]
    assert "larger models scored worse" in scale_words(size(UP, OPEN, metric="mse"))[0]


def test_a_claim_rests_on_the_corrected_p_value():
    rows = size(UP, UP)
    rows["p_adjusted"] = 0.2
    assert "could turn the order" in scale_words(rows)[0] and "no evidence" in scale_words(rows)[1]
    assert "Holm, 2 tests" in scale_words(rows)[0]
    assert "larger" not in scale_words(rows.assign(p_adjusted=np.nan))[0]


def test_few_models_cannot_show_equality_and_many_can():
    few = pd.Series(slope("scale_in_general", 0.0, -0.1, 0.1, 0.9))
    assert "cannot show either" in equality_words(few) and "32 models" in equality_words(few)
    many = pd.Series(slope("scale_in_general", 1e-6, -0.1, 0.1, 0.9, models=400, families=2, dof=397.0))
    assert "is shown that the correlation" in equality_words(many)
    away = many.copy()
    away["estimate"] = 6 * away["standard_error"]
    assert "is not shown that the correlation" in equality_words(away)
    assert "cannot show" in equality_words(
        pd.Series(slope("scale_in_general", 0.0, -1, 1, 0.9, models=2, families=1))
    )


def forest(sides, general=OPEN):
    rows = [slope("these_models", *side, category=f"c{k}") for k, side in enumerate(sides)]
    return pd.DataFrame(
        rows + [slope("scale_in_general", *general, category=f"c{k}") for k in range(len(sides))]
    )


@pytest.mark.parametrize(
    ("sides", "counts", "ends"),
    [
        ([UP, UP, OPEN], "better in two, worse in none, and the slope is open in one", "overlap"),
        (
            [UP, DOWN, OPEN],
            "better in one, worse in one, and the slope is open in one",
            "lie apart, though the two were picked",
        ),
        ([OPEN, OPEN, OPEN], "better in none, worse in none, and the slope is open in three", "overlap"),
        ([DOWN, DOWN], "better in none, worse in two, and the slope is open in none", "overlap"),
    ],
)
def test_category_words_count_and_name_the_ends(sides, counts, ends):
    said = category_words(forest(sides))
    assert counts in said[0] and ends in said[2]
    assert ("overlap" in said[2]) != ("lie apart" in said[2])
    assert "as the sample it is better in none" in said[1]
    assert (
        "as the sample it is better in " + {2: "two", 3: "three"}[len(sides)]
        in category_words(forest(sides, UP))[1]
    )


def test_the_ends_of_the_forest_are_the_highest_and_the_lowest():
    said = category_words(forest([OPEN, DOWN, UP]))[2]
    assert "highest slope is that of c2" in said and "lowest that of c1" in said
    assert len(category_words(forest([UP]))) == 2  # One category has no ends
    assert "In no category" in category_words(forest([UP]).assign(estimate=np.nan))[0]


def varied(shares, low=0.0, high=0.03, estimate=0.01):
    rows = [
        PLACE | {"term": term, "share": s, "estimate": estimate, "low": low, "high": high, "n": 6}
        for term, s in shares.items()
    ]
    return pd.DataFrame(rows)


def test_variance_words_name_the_largest_two_and_the_models():
    said = variance_words(varied({"item": 0.6, "residual": 0.3, "model": 0.1}))
    assert "60% of the variance of chrf lies between products and 30% in one model on one product" in said[0]
    turned = variance_words(varied({"item": 0.05, "residual": 0.25, "model": 0.7}))
    assert "70% of the variance of chrf lies between models of one family and size and 25%" in turned[0]
    assert (
        "may not differ at all" in said[1] and "up to 0.03" in said[1] and "six models cannot tell" in said[1]
    )
    sure = variance_words(varied({"item": 0.6, "residual": 0.3, "model": 0.1}, low=0.005))[1]
    assert "may not differ" not in sure and "0.01 (0.005 to 0.03)" in sure
    assert "too few models" in variance_words(varied({"item": 1.0}).head(0))[0]


def pairs(*kinds, margin=0.02):
    "Comparisons: a pair told apart either way, equal, both, neither, or untested."
    ends = {
        "first": (0.1, 0.05, 0.15),
        "second": (-0.2, -0.3, -0.1),
        "equal": (0.0, -0.01, 0.01),
        "neither": (0.01, -0.05, 0.07),
    }
    ends |= {"both": (0.01, 0.005, 0.015), "untested": (0.0, np.nan, np.nan)}
    rows = []
    for k, kind in enumerate(kinds):
        at, low, high = ends[kind]
        verdict = "equivalent" if kind in ("equal", "both") else "undecided"
        row = PLACE | {
            "category": "all",
            "model": f"m{k}",
            "other": f"n{k}",
            "estimate": at,
            "low_joint": low,
            "high_joint": high,
        }
        rows.append(row | {"verdict": verdict, "margin": margin})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("kinds", "apart", "equal", "neither", "untested"),
    [
        (
            ("first", "equal", "neither"),
            "one is told apart",
            "One pair is shown to be equal",
            "One pair is neither",
            None,
        ),
        (
            ("neither", "neither"),
            "none are told apart",
            "No pairs are shown to be equal",
            "Two pairs are neither",
            None,
        ),
        (("both", "second"), "two are told apart", "One pair is shown to be equal", None, None),
        (
            ("untested", "equal"),
            "none are told apart",
            "One pair is shown to be equal",
            None,
            "One pair allows no test",
        ),
        (("untested", "untested"), "none are told apart", None, None, "Two pairs allow no test"),
    ],
)
def test_comparison_words_count_what_is_shown_and_what_is_not(kinds, apart, equal, neither, untested):
    text = " ".join(comparison_words(pairs(*kinds)))
    for words, found in (
        (apart, "told apart by"),
        (equal, "shown to be equal within"),
        (neither, "neither told apart"),
        (untested, "no test"),
    ):
        assert (found in text) == (words is not None) and (words or "") in text
    assert ("no equality" in text) == (neither is not None)


def test_the_largest_difference_is_told_from_the_better_side():
    assert "n1 over m1 by 0.2 (0.1 to 0.3)" in comparison_words(pairs("first", "second"))[0]
    assert "m0 over n0 by 0.1 (0.05 to 0.15)" in comparison_words(pairs("first", "neither"))[0]
    assert "most clearly" not in comparison_words(pairs("neither"))[0]
    assert "equal" not in " ".join(comparison_words(pairs("first", "neither", margin=np.nan)))


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
        "margin": 0.02,
        "best": "m0",
        "chosen": "m1",
        "cost": 1.0,
        "best_cost": 2.0,
        "unit": "machine hours",
        "risk": 0.01,
        "n": 40,
    }
    names = ["all", *(f"c{k}" for k in range(len(established) - 1))]
    return pd.DataFrame(
        [row | {"category": c, "established": e} for c, e in zip(names, established, strict=True)]
    )


def test_cost_words_name_the_frontier_and_the_decision():
    said = cost_words(priced([True, False, True]), decided(True, False, True))
    assert said[0].startswith(
        "By their means, cheapest first, m2, m0 stand on the frontier; for m1 another model"
    )
    assert "m1 is the cheapest model shown" in said[1] and "established in one of two" in said[2]
    assert "measured time of this machine" in said[3] and "drawing" not in said[3]
    other = cost_words(priced([True, True, True], "EUR"), decided(False, False, False))
    assert (
        "no model is beaten in both" in other[0]
        and "undecided" in other[1]
        and "established in none of two" in other[2]
    )
    assert "EUR by the price list" in other[3] and "machine" not in other[3]
    assert (
        "without drawing"
        in cost_words(priced([True], task="text_to_image"), decided(True).assign(task="text_to_image"))[-1]
    )
    assert "No cost is known" in cost_words(priced([True]).head(0), decided(True).head(0))[0]


def powered(least, **more):
    "Detectable effects of the designs (question, models, items)."
    rows = [
        PLACE
        | {
            "category": "all",
            "question": q,
            "models": m,
            "items": n,
            "effect": 0.0,
            "power": 0.05,
            "detectable": d,
        }
        for (q, m, n), d in least.items()
    ]
    return pd.DataFrame(rows)


DESIGNS = {
    ("these_models", 2, 100): 0.04, ("these_models", 2, 400): 0.02,
    ("scale_in_general", 6, 100): 0.05, ("scale_in_general", 6, 400): 0.045, ("scale_in_general", 12, 100): 0.03,
}  # fmt: skip


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        (0.03, "smaller than that"),
        (-0.03, "smaller than that"),
        (0.06, "at least as large"),
        (-0.06, "at least as large"),
    ],
)
def test_power_words_hold_the_observed_slope_against_what_can_be_seen(observed, words):
    slopes = size(UP, (observed, -1, 1, 0.5))
    said = power_words(powered(DESIGNS), slopes)
    assert (
        said[0]
        == "In chrf 80% of studies tell two models apart that differ by 0.04 on 100 products, or by 0.02 on 400 products."
    )
    assert (
        "six models need a slope of 0.05" in said[1]
        and "400 products 0.045" in said[1]
        and "12 models 0.03" in said[1]
    )
    assert (
        words in said[2]
        and (("miss it" in said[2]) == (abs(observed) < 0.05))
        and (("find it" in said[2]) == (abs(observed) >= 0.05))
    )


def test_power_words_of_a_study_without_a_degree_of_freedom():
    never = powered(DESIGNS | {("scale_in_general", 6, 100): np.inf, ("scale_in_general", 6, 400): np.inf})
    said = power_words(never, size(UP, UP))
    assert "find no effect however large" in said[1] and "400 products never" in said[1] and len(said) == 2
    two = {k: v for k, v in DESIGNS.items() if k[0] == "these_models"}
    assert len(power_words(powered(two), size(UP, UP))) == 1
    assert "cannot be simulated" in power_words(powered(DESIGNS).head(0), size(UP, UP))[0]


def test_sentences_of_two_metrics_are_refused():
    both = pd.concat([size(UP, UP), size(UP, UP, metric="mse")])
    for words in (scale_words, category_words, variance_words, comparison_words):
        with pytest.raises(ValueError, match="one task and one metric"):
            words(both)


def test_sentences_from_real_tables_agree_with_what_was_simulated():
    "No effect, a strong effect with equal models, and a strong effect among models that differ as much."
    said = {}
    for name, (rise, spread) in {"none": (0.0, 0.0), "law": (0.2, 0.0), "six": (0.1, 0.15)}.items():
        slopes = conclusions.slope_table(simulated(slope=rise, model=spread, items=60, seed=11))
        said[name] = " ".join(scale_words(slopes))
    assert "no evidence about size in general" in said["none"] and "scored better" not in said["none"]
    assert "Both questions get the same answer" in said["law"]
    assert (
        "no evidence about size in general" in said["six"] and "other products could turn" not in said["six"]
    )


# ---------------------------------------------------------------- figures


@pytest.fixture(scope="module")
def made():
    scores = simulated(items=15, model=0.05)
    averages = averaged(scores)
    return {
        n: m() for n, m in conclusions.conclusion_tables(scores, answered(scores), averages, draws=50).items()
    } | {"averages": averages}


def test_figures_show_the_tables_and_compute_nothing(made):
    at = ("image_to_text", "chrf")
    forest = slope_forest(made["slopes"], *at)
    for trace, question in zip(forest.data, ("these_models", "scale_in_general"), strict=True):
        rows = made["slopes"][made["slopes"]["question"] == question]
        assert list(trace.x) == rows["estimate"].tolist()
        assert np.add(trace.x, trace.error_x.array) == pytest.approx(rows["high"].to_numpy())
        assert np.subtract(trace.x, trace.error_x.arrayminus) == pytest.approx(rows["low"].to_numpy())
    bars = variation.variance_bars(made["variances"], *at).data[0]
    assert sorted(bars.x) == sorted(made["variances"]["estimate"])
    curves = power.power_curves(made["powers"], *at)
    assert sum(len(c.y) for c in curves.data) == len(made["powers"])
    assert sorted(y for c in curves.data for y in c.y) == sorted(made["powers"]["power"])


def test_the_two_questions_never_look_alike(made):
    forest = slope_forest(made["slopes"], "image_to_text", "chrf")
    looks = [(t.marker.symbol, t.marker.color, t.name) for t in forest.data]
    assert all(a != b for a, b in zip(*looks, strict=True))
    fans = [
        t
        for t in scale_lines(made["averages"], made["lines"], "image_to_text", "chrf").data
        if t.fill == "toself"
    ]
    assert {(f.line.width > 0) for f in fans} == {True, False} and len(fans) == 4
    assert [f.showlegend for f in fans] == [True, True, False, False]


def test_the_matrix_marks_what_the_table_shows(made):
    rows = made["comparisons"].query("category == 'all'").copy()
    figure = leaderboard.contrast_matrix(rows, "image_to_text", "chrf").data[0]
    names = list(figure.x)
    for _, row in rows.iterrows():
        i, j = names.index(row["model"]), names.index(row["other"])
        assert figure.z[i][j] == pytest.approx(row["estimate"]) and figure.z[j][i] == pytest.approx(
            -row["estimate"]
        )
        apart = row["low_joint"] > 0 or row["high_joint"] < 0
        assert ("*" in figure.text[i][j]) == apart == ("*" in figure.text[j][i])
        assert ("=" in figure.text[i][j]) == (row["verdict"] == "equivalent")
        assert list(figure.customdata[j][i]) == pytest.approx([-row["high_joint"], -row["low_joint"]])
    none = rows.assign(low_joint=np.nan, high_joint=np.nan, verdict="undecided")
    text = leaderboard.contrast_matrix(none, "image_to_text", "chrf").data[0].text
    assert not any("*" in cell or "=" in cell for row in text for cell in row)


def test_foreign_names_are_text(made):
    bad = "<a href='//x.example'>win</a>"
    frames = {n: f.replace({"a-s": bad, "c0": bad, "a": bad}) for n, f in made.items()}
    at = ("image_to_text", "chrf")
    drawn = [
        scale_lines(frames["averages"], frames["lines"], *at),
        slope_forest(frames["slopes"], *at),
        leaderboard.contrast_matrix(frames["comparisons"], *at),
    ]
    for figure in drawn:
        assert "<a" not in json.dumps(figure.to_dict(), default=str)
        assert figure.layout.title.text.split(" (")[0].endswith("?") and figure.layout.xaxis.title.text
