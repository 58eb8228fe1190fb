"""Intervals, predictions and comparisons of mixed models: against lme4, against every score drawn, and by hand."""

import dataclasses
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import chi2, f

from mmpc_analysis.mixed.engines import (
    EngineError,
    check_fit,
    exact_estimates,
    model_columns,
    statsmodels_estimates,
)
from mmpc_analysis.mixed.exact import set_up, unpack
from mmpc_analysis.mixed.fit import fit_mixed
from mmpc_analysis.mixed.formulas import parse_formula
from mmpc_analysis.mixed.inference import (
    _share_bounds,
    diagnose,
    intraclass,
    likelihood_ratio,
    linear_contrasts,
    logit_scores,
    marginal_means,
    marginal_slopes,
    random_effects,
    residuals,
    variance_intervals,
)
from mmpc_analysis.mixed.minimum import solve
from mmpc_analysis.mixed.variances import (
    _mean_square,
    bootstrap,
    model_stratum,
    profile_intervals,
    simulate_problem,
)

DATA = ROOT / "tests" / "data" / "mixed"
SPEC = importlib.util.spec_from_file_location("mixed_tables", ROOT / "tools" / "fixtures" / "mixed_tables.py")
TABLES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TABLES)
LME4 = json.loads((DATA / "lme4.json").read_text("utf-8"))


def table_of(name):
    if "/" not in name:
        table = pd.read_csv(DATA / f"{name}.csv")
        return table.assign(temp=table["temp"].astype(float)) if name == "cake" else table
    made = LME4["made"][name.split("/")[0]]
    return TABLES.gaps(TABLES.simulate(made["items"], made["seed"], **made["settings"]), made["gaps"])


@pytest.mark.parametrize(
    "stored",
    [
        f
        for f in LME4["fits"]
        if f["reml"] and not f["singular"] and not f["name"].startswith(("large", "zeros"))
    ],
    ids=lambda f: f"{f['name']} {f['formula']}",
)
def test_predicted_effects_are_lme4s(stored):
    fit = fit_mixed(table_of(stored["name"]), stored["formula"])
    ours = random_effects(fit)
    ours["group"] = [":".join(sorted(g.split(":"))) for g in ours["group"]]
    checked = 0
    for group, columns in stored["ranef"].items():
        names = [":".join(sorted(str(n).split(":"))) for n in np.atleast_1d(stored["ranef_names"][group])]
        key = ":".join(sorted(group.split(":")))
        for term, values in columns.items():
            mine = ours[(ours["group"] == key) & (ours["term"] == term)]
            level = [
                ":".join(sorted(map(str, n if isinstance(n, tuple) else str(n).split(":"))))
                for n in mine["level"]
            ]
            mine = pd.Series(mine["value"].to_numpy(), index=level)
            spread = max(np.abs(mine).max(), 1e-12)
            np.testing.assert_allclose(mine[names], np.atleast_1d(values), atol=3e-4 * spread)
            checked += len(names)
    assert checked


@pytest.mark.parametrize(
    "stored",
    [
        f
        for f in LME4["fits"]
        if f["reml"] and not f["singular"] and not f["name"].startswith(("large", "zeros"))
    ],
    ids=lambda f: f"{f['name']} {f['formula']}",
)
def test_conditional_standard_deviations_are_lme4s(stored):
    ours = random_effects(fit_mixed(table_of(stored["name"]), stored["formula"]))
    ours["group"] = [":".join(sorted(g.split(":"))) for g in ours["group"]]
    ours["level"] = [
        sorted(map(str, n if isinstance(n, tuple) else str(n).split(":"))) for n in ours["level"]
    ]
    ours = ours.assign(level=ours["level"].str.join(":")).set_index(["group", "term", "level"])["sd"]
    for group, terms in stored["ranef_sd"].items():
        for term, said in terms.items():
            names = [":".join(sorted(str(n).split(":"))) for n in np.atleast_1d(said["level"])]
            mine = [ours[":".join(sorted(group.split(":"))), term, n] for n in names]
            np.testing.assert_allclose(mine, np.atleast_1d(said["sd"]), rtol=1e-3)


@pytest.mark.parametrize("stored", [f for f in LME4["fits"] if f.get("profile")], ids=lambda f: f["name"])
def test_profiles_of_the_full_likelihood_are_lme4s(stored):
    fit = fit_mixed(table_of(stored["name"]), stored["formula"], reml=False)
    mine = profile_intervals(fit.solution, corrected=False)
    for row in mine.itertuples():
        group = ":".join(reversed(row.group.split(":")))
        name = "sigma" if row.group == "residual" else f"sd_(Intercept)|{group}"
        assert [row.low, row.high] == pytest.approx(
            stored["profile"][name], rel=2e-3, abs=2e-3 * row.estimate
        )


# ---------------------------------------------------------------- a table in small is a table

SMALL = TABLES.simulate(8, 31)
FIT = fit_mixed(SMALL, TABLES.FORMULAS["C"])


def test_drawing_in_small_is_drawing_every_score():
    "Means over draws of estimates, spread and components, drawn in small and score by score."
    true = dataclasses.replace(FIT.solution, theta=np.array([0.8, 0.3]), sigma=0.15)
    truth = exact_estimates(true).components.set_index("group")["value"]
    rng, formula = np.random.default_rng(5), parse_formula(TABLES.FORMULAS["C"])
    small = [exact_estimates(solve(simulate_problem(true, rng), starts=(1.0,))) for _ in range(150)]
    from mmpc_analysis.mixed.compression import compress

    whole = []
    n = len(SMALL) // 6
    for _ in range(150):
        value = rng.normal(size=(n, 1)) * truth["item"] + rng.normal(size=6) * truth["model"]
        value = value + 0.15 * rng.normal(size=(n, 6))
        whole.append(
            exact_estimates(solve(set_up(compress(SMALL.assign(value=value.ravel()), formula), formula)))
        )
    for k in range(3):
        a, b = (np.array([e.components["value"][k] for e in es]) for es in (small, whole))
        error = np.sqrt((a.var() + b.var()) / 150)
        assert abs(a.mean() - b.mean()) < 4 * error
        assert 0.7 < a.std() / b.std() < 1.4
    a, b = (np.array([e.values[1] for e in es]) for es in (small, whole))
    assert 0.75 < a.std() / b.std() < 1.35


def test_a_seed_gives_the_same_bootstrap():
    pd.testing.assert_frame_equal(bootstrap(FIT.solution, 3, seed=4), bootstrap(FIT.solution, 3, seed=4))


def test_correlated_effects_have_bootstrap_intervals():
    fit = fit_mixed(table_of("sleepstudy"), "Reaction ~ Days + (Days | Subject)")
    found = variance_intervals(fit, "bootstrap", draws=60).set_index(["group", "term", "other"])
    assert (found["low"] <= found["high"]).all()
    residual = found.loc[("residual", "", "")]
    assert residual["low"] < 25.59 < residual["high"]
    assert set(found["question"]) == {"this_table"}


# ---------------------------------------------------------------- means, slopes, shares


def test_marginal_means_and_slopes_are_differences_of_cell_means():
    "Balanced: the mean of a category over models and items is its mean score."
    means = marginal_means(FIT, by=("category",))
    balanced = SMALL.groupby("category", observed=True)["value"].mean()
    differences = means["estimate"] - means["estimate"].mean()
    np.testing.assert_allclose(differences, balanced - balanced.mean(), atol=1e-8)
    slopes = marginal_slopes(FIT)
    for family, row in zip(slopes["family"], slopes.itertuples(), strict=True):
        part = SMALL[SMALL["family"] == family].groupby("model", observed=True)
        x, y = part["log10p"].first(), part["value"].mean()
        assert row.estimate == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-6)


def test_contrasts_repeat_the_table():
    same = linear_contrasts(FIT, np.eye(len(FIT.table)), list(FIT.table["term"]))
    for column in ("estimate", "standard_error", "dof", "low", "p_value"):
        np.testing.assert_allclose(same[column], FIT.table[column], rtol=1e-9)
    for column in ("question", "method", "n"):
        assert same[column].tolist() == FIT.table[column].tolist()


def test_a_comparison_within_models_is_not_about_scale():
    rows = np.zeros((2, len(FIT.table)))
    rows[0, 3], rows[1, 1] = 1, 1  # A category against the reference, and the slope of size
    found = linear_contrasts(FIT, rows, ["category", "slope"])
    assert found["question"].tolist() == ["these_models", "scale_in_general"]
    assert found["n"].tolist() == [FIT.levels["item"], 6]


@pytest.mark.parametrize("seed", [5, 6, 8, 9])
def test_slopes_rest_on_models_also_where_their_variance_is_zero(seed):
    "The slope of one family is a line through three mean scores, with the spread of both families' about their lines."
    frame = TABLES.simulate(30, seed, sd_model=0.0)
    slopes = marginal_slopes(fit_mixed(frame, TABLES.FORMULAS["C"]))
    models = frame.groupby("model", observed=True).agg(
        y=("value", "mean"), x=("log10p", "first"), f=("family", "first")
    )
    fits = {f: np.polyfit(g["x"], g["y"], 1) for f, g in models.groupby("f", observed=True)}
    rest = sum(
        ((g["y"] - np.polyval(fits[f], g["x"])) ** 2).sum() for f, g in models.groupby("f", observed=True)
    )
    for row in slopes.itertuples():
        x = models.loc[models["f"] == row.family, "x"]
        assert row.standard_error == pytest.approx(np.sqrt(rest / 2 / ((x - x.mean()) ** 2).sum()), rel=1e-4)
        assert row.dof == pytest.approx(2, abs=1e-2)


def test_shares_add_up():
    shares = intraclass(fit_mixed(table_of("Dyestuff"), "Yield ~ 1 + (1 | Batch)"))
    assert shares["share"].tolist() == pytest.approx(
        [42.00060**2 / (42.00060**2 + 49.51010**2), 49.51010**2 / (42.00060**2 + 49.51010**2)], rel=1e-5
    )


def test_residuals_are_scores_less_everything():
    "lme4's residuals of Penicillin have the standard deviation that its fitted values leave, by hand from its own effects."
    frame = table_of("Penicillin")
    fit = fit_mixed(frame, "diameter ~ 1 + (1 | plate) + (1 | sample)")
    effects = random_effects(fit).set_index(["group", "level"])["value"]
    mean = fit.table["estimate"].iloc[0]
    by_hand = [
        r.diameter - mean - effects["plate", r.plate] - effects["sample", r.sample]
        for r in frame.itertuples()
    ]
    table = residuals(fit)
    np.testing.assert_allclose(np.sort(table.ravel()), np.sort(by_hand), atol=1e-10)
    assert np.isfinite(diagnose(fit, bounds=(0, 50))).all()


def test_logit_moves_only_the_ends():
    frame = pd.DataFrame({"value": [0.0, 0.5, 0.9, 1.0, np.nan]})
    moved = logit_scores(frame)["value"]
    assert moved[1] == 0
    assert moved[0] == pytest.approx(np.log(0.05 / 0.95))
    assert moved[3] == pytest.approx(np.log(0.95 / 0.05))
    assert np.isnan(moved[4])
    assert frame["value"][0] == 0


# ---------------------------------------------------------------- likelihood ratios


def test_a_variance_at_its_edge_has_the_mixture_null():
    small = fit_mixed(SMALL, TABLES.FORMULAS["A"])
    test = likelihood_ratio(small, FIT)
    assert test["statistic"] == pytest.approx(max(small.criterion - FIT.criterion, 0))
    p = chi2.sf(test["statistic"], 1) / 2 if test["statistic"] > 0 else 1.0
    assert test["p_value"] == pytest.approx(p)


def test_fixed_effects_are_compared_on_the_full_likelihood():
    "sleepstudy without Days: 1775.4760 against 1751.9393 of lme4, deviances on the full likelihood."
    frame = table_of("sleepstudy")
    fits = [fit_mixed(frame, f"Reaction ~ {x} + (1 + Days | Subject)") for x in ("1", "Days")]
    test = likelihood_ratio(*fits)
    assert test["statistic"] == pytest.approx(23.5365, abs=2e-3)
    assert test["dof"] == 1
    assert test["p_value"] == pytest.approx(chi2.sf(23.5365, 1), rel=2e-3)


@pytest.mark.parametrize(
    "other",
    [
        "value ~ log10p + (1|item)",
        "value ~ log10p*family + category + (1|category:model) + (1|item) + (1|model)",
    ],
)
def test_formulas_that_are_not_nested_are_refused(other):
    large = fit_mixed(SMALL, other)
    with pytest.raises(ValueError, match="nested"):
        likelihood_ratio(large, fit_mixed(SMALL, "value ~ family + (1|item)"))


# ---------------------------------------------------------------- guards of foreign fits


def test_a_wrong_foreign_fit_is_not_believed():
    columns = model_columns(table_of("sleepstudy"), parse_formula("Reaction ~ Days + (1 | Subject)"))
    right = statsmodels_estimates(columns)
    turn = columns.triangle / columns.scale
    covariance, variance = turn @ right.covariance @ turn.T, (right.sigma / columns.scale) ** 2
    inner = [np.array([[(right.components["value"][0] / columns.scale) ** 2]])]
    moved = 2 * np.log(np.abs(np.diag(columns.triangle))).sum() + 2 * 178 * np.log(columns.scale)
    check_fit(columns, right.criterion - moved, covariance, inner, variance, True, "x")
    for wrong in (
        (right.criterion - moved + 400, covariance, inner, variance),
        (right.criterion - moved - 900, covariance, inner, variance),
        (right.criterion - moved, covariance * 42, inner, variance),
        (right.criterion - moved, covariance / 42, inner, variance),
        (right.criterion - moved, covariance * np.nan, inner, variance),
    ):
        with pytest.raises(EngineError):
            check_fit(columns, *wrong, True, "x")


# ---------------------------------------------------------------- few levels


def dense(frame, theta):
    "Model C written out in full: fixed columns, models' columns, and the covariance without models, in residual variances."
    d = frame.dropna(subset="value")
    qwen = (d["family"] == "Qwen2.5-VL").to_numpy(dtype=float)
    x = d["log10p"].to_numpy()
    dummies = pd.get_dummies(d["category"], drop_first=True).to_numpy(dtype=float)
    fixed = np.column_stack([np.ones(len(d)), x, qwen, x * qwen, dummies])
    models = pd.get_dummies(d["model"]).to_numpy(dtype=float)
    items = pd.get_dummies(d["item"]).to_numpy(dtype=float)
    return d["value"].to_numpy(), fixed, models, np.eye(len(d)) + theta**2 * items @ items.T


@pytest.mark.parametrize(("share", "seed"), [(0.0, 5), (0.2, 6), (0.2, 11)])
def test_the_stratum_of_models_is_generalised_least_squares_written_out(share, seed):
    "Levels of models as fixed effects, their noise, and what their variance adds to every coefficient, from dense matrices."
    frame = TABLES.gaps(TABLES.simulate(6, seed, sd_model=0.0), share)
    fit = fit_mixed(frame, TABLES.FORMULAS["C"])
    item, model, rest = fit.components["value"]
    y, fixed, models, covariance = dense(frame, item / rest)
    inverse = np.linalg.inv(covariance)
    middle = np.linalg.inv(fixed.T @ inverse @ fixed)
    left = inverse - inverse @ fixed @ middle @ fixed.T @ inverse
    value, vectors = np.linalg.eigh(models.T @ left @ models)
    free = value > 1e-8 * value.max()
    levels = vectors[:, free].T @ models.T @ left @ y / value[free]
    found = model_stratum(fit.solution)
    assert found.dof == free.sum() == 2
    assert found.own == pytest.approx(model**2, abs=1e-12)
    assert found.fitted == pytest.approx(model**2 + rest**2 * (1 / value[free]).mean(), rel=1e-6)
    if model == 0:
        assert found.variance == pytest.approx((levels**2).mean(), rel=1e-5)
    wider = covariance + (model**2 + found.fitted) / rest**2 * models @ models.T
    now = covariance + model**2 / rest**2 * models @ models.T
    gain = [np.linalg.inv(fixed.T @ np.linalg.inv(c) @ fixed) * rest**2 for c in (now, wider)]
    order = [fit.estimates.names.index(n) for n in ("log10p", "family[Qwen2.5-VL]")]
    expected = ((gain[1] - gain[0]) / found.fitted)[[1, 2], [1, 2]]
    np.testing.assert_allclose(found.share[order, order], expected, rtol=1e-5)


@pytest.mark.parametrize("seed", [5, 6, 8, 9])
def test_the_criterion_knows_the_noise_and_the_mean_square(seed):
    "From its two derivatives at the fit, zero or not, what the means of a complete table say."
    fit = fit_mixed(TABLES.simulate(30, seed, sd_model=0.0), TABLES.FORMULAS["C"])
    problem, theta = fit.solution.problem, fit.solution.theta
    noise, square = _mean_square(
        problem, unpack(problem, theta[None]), 1, fit.solution.sigma / problem.data.scale
    )
    stratum = model_stratum(fit.solution)
    assert noise * fit.sigma**2 == pytest.approx(fit.sigma**2 / 270, rel=1e-2)
    assert square == pytest.approx(stratum.variance / fit.sigma**2, rel=1e-2, abs=0.01 * noise)


def test_the_interval_of_a_variance_with_two_degrees_of_freedom_is_an_integral():
    "A profile interval of the models' variance, against the same criterion of a mean square by hand."
    fit = fit_mixed(TABLES.simulate(200, 4, sd_model=0.03), TABLES.FORMULAS["C"])
    row = variance_intervals(fit).set_index("group").loc["model"]
    noise = fit.sigma**2 / 1800
    square, limit = row["estimate"] ** 2 + noise, chi2.ppf(0.95, 1) * 2 * 0.5772156649 / 2
    for edge, bracket in (("low", (1e-9, square)), ("high", (square, 400 * square))):
        v = brentq(lambda v: np.log(v / square) + square / v - 1 - limit, *bracket)
        assert row[edge] == pytest.approx(np.sqrt(max(v - noise, 0)), rel=5e-3)


@pytest.mark.parametrize("method", ["profile", "bootstrap"])
def test_a_variance_of_zero_has_an_upper_bound_above_its_noise(method):
    for seed in (5, 6, 8, 9):
        fit = fit_mixed(TABLES.simulate(30, seed, sd_model=0.0), TABLES.FORMULAS["C"])
        row = variance_intervals(fit, method, draws=79).set_index("group").loc["model"]
        assert row["low"] <= row["estimate"] < row["high"] < np.inf
        assert row["high"] > 0.99 * fit.sigma / np.sqrt(270)


def test_shares_of_a_balanced_one_way_table_have_the_interval_of_f():
    "Dyestuff: six batches of five. The exact interval of Searle turns the ratio of mean squares round by quantiles of F."
    frame = table_of("Dyestuff")
    row = intraclass(fit_mixed(frame, "Yield ~ 1 + (1 | Batch)")).set_index("group").loc["Batch"]
    groups = frame.groupby("Batch")["Yield"]
    ratio = 5 * groups.mean().var() / groups.var().mean()
    edges = [ratio / f.ppf(q, 5, 24) for q in (0.975, 0.025)]
    exact = [(e - 1) / (e + 4) for e in edges]
    assert [row["low"], row["high"]] == pytest.approx(exact, abs=0.06)
    assert row["low"] <= row["share"] <= row["high"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1), st.floats(0, 20)), min_size=2, max_size=5))
def test_bounds_of_shares_solve_their_equation(parts):
    "Between 0 and 1 around the share, and where numerator and denominator are just as far apart as their bounds."
    value = np.array([p[0] for p in parts]) + np.eye(len(parts))[-1]
    low, high = value * [p[1] for p in parts], value + [p[2] for p in parts]
    least, most = _share_bounds(value, low, high)
    share = value / value.sum()
    assert (least >= 0).all() and (most <= 1).all()
    assert (least <= share + 1e-9).all() and (share <= most + 1e-9).all()
    for k in range(len(value)):
        rest = np.arange(len(value)) != k
        for bound, reach, against in (
            (least[k], value[k] - low[k], (high - value)[rest]),
            (most[k], high[k] - value[k], (value - low)[rest]),
        ):
            if 1e-6 < bound < 1 - 1e-6:
                ratio = bound / (1 - bound)
                gap = (value[k] - ratio * value[rest].sum()) ** 2
                assert gap == pytest.approx(reach**2 + ratio**2 * (against**2).sum(), rel=1e-5, abs=1e-9)


# ---------------------------------------------------------------- coverage

COVERAGE = json.loads((DATA / "coverage.json").read_text("utf-8"))
COUNTED = [
    pytest.param(study, sd, name, count, id=f"{study}, {sd}, {name}")
    for study, parts in COVERAGE.items()
    for sd, part in parts.items()
    for name, count in part["counts"].items()
]


@pytest.mark.parametrize(("study", "sd", "name", "count"), [c for c in COUNTED if c.values[3]["band"]])
def test_every_interval_and_test_stays_in_its_band(study, sd, name, count):
    "Strictly, where so many tables were drawn that chance cannot move a right share out; else give or take two standard errors."
    (low, high), n = count["band"], count["n"]
    enough = n >= (5000 if name == "rejects: scale_in_general" else 2000)
    slack = 0 if enough else 2 * np.sqrt(0.05 * 0.95 / n)
    assert low - slack <= count["hits"] / n <= high + slack


def test_bands_are_those_that_were_asked_for():
    for study, sd, name, count in (c.values for c in COUNTED):
        if "alone" in name or study == "correlated":
            assert count["band"] is None
        elif name.startswith("rejects"):
            assert count["band"] == ([0.03, 0.07] if study == "formulas" else [0.04, 0.06])
        else:
            edge = sd == "0.0" and name in (
                "profile: sd of model",
                "bootstrap: sd of model",
                "share of model",
            )
            assert count["band"] == [0.93, 1.0 if edge else 0.97]
        assert count["n"] >= {"effects": 2000, "profile": 2000, "correlated": 60}.get(study, 150)
    assert set(COVERAGE) == {"effects", "formulas", "profile", "bootstrap", "correlated"}
    for study, parts in COVERAGE.items():
        assert set(parts) == ({"0.0"} if study == "correlated" else {"0.0", "0.005", "0.02"})


def test_items_alone_fail_the_same_check():
    shares = {
        sd: part["counts"]["rejects: items alone, read as scale"] for sd, part in COVERAGE["effects"].items()
    }
    shares = {sd: c["hits"] / c["n"] for sd, c in shares.items()}
    assert 0.04 <= shares["0.0"] <= 0.06
    assert shares["0.005"] > 0.5
    assert shares["0.02"] > 0.8
