"""Mixed models against lme4 and lmerTest (tests/data/mixed/lme4.json), and what must hold for any table."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.mixed.engines import Estimates
from mmpc_analysis.mixed.exact import stencil, unpack, values_at
from mmpc_analysis.mixed.fit import fit_mixed, to_latex, to_markdown
from mmpc_analysis.mixed.formulas import Unidentified, parse_formula

DATA = ROOT / "tests" / "data" / "mixed"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "fixtures" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = tool("mixed_tables")
FORMULAS, simulate = TABLES.FORMULAS, TABLES.simulate
LME4 = json.loads((DATA / "lme4.json").read_text("utf-8"))


def table_of(name):
    "The table that a stored fit was made on."
    if "/" not in name:
        table = pd.read_csv(DATA / f"{name}.csv")
        return table.assign(temp=table["temp"].astype(float)) if name == "cake" else table
    made = LME4["made"][name.split("/")[0]]
    frame = simulate(made["items"], made["seed"], **made["settings"])
    return TABLES.gaps(frame, made["gaps"])


def r_name(term):
    return term.replace("[", "").replace("]", "")


@pytest.mark.parametrize(
    "stored", LME4["fits"], ids=lambda f: f"{f['name']} {f['formula']} {'REML' if f['reml'] else 'ML'}"
)
def test_the_exact_engine_says_what_lme4_says(stored):
    fit = fit_mixed(table_of(stored["name"]), stored["formula"], reml=stored["reml"], engine="exact")
    said: Estimates = fit.estimates
    assert fit.rows == stored["rows"]
    assert fit.criterion == pytest.approx(stored["criterion"], abs=1e-5)
    assert fit.singular == stored["singular"]
    order = [stored["term"].index(r_name(name)) for name in said.names]
    value, error, dof = (
        np.array(stored[k], dtype=float)[order] for k in ("estimate", "standard_error", "dof")
    )
    np.testing.assert_allclose(np.sqrt(np.diag(said.covariance)), error, rtol=1e-4)
    # bobyqa stops where the criterion no longer changes in double precision, which is good to about 5e-6 of a standard
    # error in coefficients that hang on the random effects; the others agree to 1e-6 of themselves.
    assert (np.abs(said.values - value) <= np.maximum(1e-6 * np.abs(value), 1e-5 * error)).all()
    flat = (
        stored["name"] == "zeros/E"
    )  # A ridge of the criterion, on which lme4 stops a few percent of theta away
    np.testing.assert_allclose(said.dof, dof, rtol=0.03 if flat else 0.01)
    # Along a ridge bobyqa can stop a little above the minimum; where it visibly did, its components are that much off.
    short = stored["criterion"] - fit.criterion > 1e-8
    rel = 1e-3 if flat else 5e-4 if short else 1e-4
    assert components_of(fit) == pytest.approx(stored_components(stored), rel=rel, abs=2e-5)


def components_of(fit):
    rows = fit.components.itertuples()
    names = {(":".join(sorted(r.group.split(":"))), r.term, r.other): r.value for r in rows}
    return names


def stored_components(stored):
    found = {}
    for group, first, second, value in zip(
        stored["group"], stored["first"], stored["second"], stored["sd"], strict=True
    ):
        group = "residual" if group == "Residual" else ":".join(sorted(group.removesuffix(".1").split(":")))
        found[group, first or "", second or ""] = value
    return found


def test_known_values_of_the_literature():
    "Criteria printed in lme4's documentation and papers, to the digits printed there."
    sleep = fit_mixed(table_of("sleepstudy"), "Reaction ~ Days + (Days | Subject)")
    assert sleep.criterion == pytest.approx(1743.6283, abs=5e-5)
    assert sleep.table["estimate"].tolist() == pytest.approx([251.405, 10.467], abs=5e-4)
    assert sleep.table["dof"].tolist() == pytest.approx([17.0, 17.0], abs=1e-2)
    assert fit_mixed(table_of("Pastes"), "strength ~ 1 + (1 | batch/cask)").criterion == pytest.approx(
        246.9907, abs=5e-5
    )


@pytest.mark.parametrize("name", ["small/B0", "gaps/B0", "zeros/E", "small/C"])
def test_the_minimum_is_one(name):
    "At the reported parameters the gradient vanishes and the Hessian is positive, more sharply than lme4's own end."
    fit = fit_mixed(table_of(name), FORMULAS[name.split("/")[1]])
    problem, theta = fit.solution.problem, fit.solution.theta
    step = 1e-3 * np.maximum(np.abs(theta), 1e-2)
    values = values_at(problem, unpack(problem, stencil(theta, step))).profiled
    assert (values[1:] > values[0] - 1e-9).all()


# ---------------------------------------------------------------- the two questions


def test_scale_and_these_models_have_one_estimate_and_two_errors():
    "The point of the page: same slope, different question, different error."
    frame = simulate(1000, 3, sd_model=0.02)
    a, c = (fit_mixed(frame, FORMULAS[k]) for k in "AC")
    assert (a.question, c.question) == ("these_models", "scale_in_general")
    rows = [f.table.set_index("term").loc["log10p"] for f in (a, c)]
    assert rows[0]["estimate"] == pytest.approx(rows[1]["estimate"], rel=1e-6)
    assert rows[1]["dof"] == pytest.approx(2, abs=1e-3)
    assert rows[0]["dof"] > 10_000
    assert rows[1]["standard_error"] > 3 * rows[0]["standard_error"]
    assert (rows[0]["n"], rows[1]["n"]) == (9000, 6)
    assert set(a.table["question"]) == {"these_models"}
    assert set(c.table["question"]) == {"these_models", "scale_in_general"}


def means_fit(frame):
    "Least squares of the six mean scores on size and family, by hand."
    models = frame.groupby("model", observed=True).agg(
        y=("value", "mean"), x=("log10p", "first"), f=("family", "first")
    )
    f = (models["f"] == "Qwen2.5-VL").to_numpy(dtype=float)
    x = models["x"].to_numpy()
    matrix = np.column_stack([np.ones(6), x, f, x * f])
    beta, rss, *_ = np.linalg.lstsq(matrix, models["y"].to_numpy(), rcond=None)
    error = np.sqrt(np.diag(np.linalg.inv(matrix.T @ matrix)) * rss[0] / 2)
    return beta, error


@pytest.mark.parametrize(("seed", "sd"), [(1, 0.02), (5, 0.0), (6, 0.0), (8, 0.0), (9, 0.0)])
def test_models_as_the_unit_is_least_squares_of_their_means(seed, sd):
    "Whether or not their variance is estimated as zero, the row of scale has the error and dof of six means."
    frame = simulate(30, seed, sd_model=sd)
    row = fit_mixed(frame, FORMULAS["C"]).table.set_index("term")
    beta, error = means_fit(frame)
    for k, name in enumerate(["log10p", "family[Qwen2.5-VL]", "log10p:family[Qwen2.5-VL]"], 1):
        assert row.loc[name, "question"] == "scale_in_general"
        assert row.loc[name, "estimate"] == pytest.approx(beta[k], rel=1e-6)
        assert row.loc[name, "standard_error"] == pytest.approx(error[k], rel=1e-4)
        assert row.loc[name, "dof"] == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize(
    "stored", [f for f in LME4["fits"] if f["reml"] and "(1|model)" in f["formula"].replace(" ", "")],
    ids=lambda f: f"{f['name']} {f['formula']}",
)  # fmt: skip
def test_lmertests_degrees_of_freedom_are_to_be_had_by_name(stored):
    "By name in every row; and by default wherever a row rests on models or on items alone, unless models seem equal."
    frame = table_of(stored["name"])
    named = fit_mixed(frame, stored["formula"], dof="satterthwaite").table
    order = [stored["term"].index(r_name(name)) for name in named["term"]]
    dof = np.array(stored["dof"], dtype=float)[order]
    np.testing.assert_allclose(named["dof"], dof, rtol=0.01)
    table = fit_mixed(frame, stored["formula"]).table
    within = table["question"] == "these_models"
    np.testing.assert_allclose(table["dof"][within], dof[within], rtol=0.01)
    if not stored["singular"]:
        np.testing.assert_allclose(table["dof"], dof, rtol=0.02)
        np.testing.assert_allclose(table["standard_error"], named["standard_error"], rtol=1e-6)


def test_models_named_within_families_are_models():
    frame = simulate(20, 5, sd_model=0.02)
    one, other = (
        fit_mixed(frame, f"value ~ log10p*family + (1|item) + (1|{g})") for g in ("model", "family:model")
    )
    assert other.question == "scale_in_general"
    assert one.table[["question", "n"]].equals(other.table[["question", "n"]])
    for column in ("estimate", "standard_error", "dof"):
        np.testing.assert_allclose(one.table[column], other.table[column], rtol=1e-6)


def test_how_degrees_of_freedom_are_counted_is_said():
    frame = simulate(30, 6, sd_model=0.0)
    ours, theirs = (fit_mixed(frame, FORMULAS["C"], dof=d) for d in ("between_models", "satterthwaite"))
    assert "counted between models" in ours.words and "counted between models" not in theirs.words
    assert ours.table.set_index("term").loc["log10p", "method"] == "exact, between models"
    clear = fit_mixed(simulate(30, 1, sd_model=0.05), FORMULAS["C"], dof="satterthwaite")
    assert "counted by Satterthwaite" in clear.words


def test_a_slope_of_these_models_says_so():
    assert "no evidence that scale matters in general" in fit_mixed(simulate(20, 1), FORMULAS["A"]).words


# ---------------------------------------------------------------- properties

SMALL = simulate(12, 21)
BASE = fit_mixed(SMALL, FORMULAS["E"])


def same(fit, other=BASE, scale=1.0, shift=0.0):
    np.testing.assert_allclose(fit.table["dof"], other.table["dof"], rtol=1e-3)
    np.testing.assert_allclose(
        fit.table["standard_error"], other.table["standard_error"] * abs(scale), rtol=1e-5
    )
    moved = np.zeros(len(other.table))
    moved[0] = shift
    tolerance = 1e-5 * other.table["standard_error"].max() * abs(scale)
    np.testing.assert_allclose(
        fit.table["estimate"], other.table["estimate"] * scale + moved, rtol=1e-6, atol=tolerance
    )
    assert fit.sigma == pytest.approx(other.sigma * abs(scale), rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(seed):
    same(fit_mixed(SMALL.sample(frac=1, random_state=seed), FORMULAS["E"]))


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_names_do_not_matter(random):
    items = list(range(len(SMALL)))
    random.shuffle(items)
    named = SMALL.assign(
        item=[f"i-{items[i]}" for i in SMALL["item"]], model=SMALL["model"].astype(str).str[::-1]
    )
    named["category"] = SMALL["category"].astype(str).str[::-1]
    same(fit_mixed(named, FORMULAS["E"]))


@settings(max_examples=25, deadline=None)
@given(st.floats(-8, 8), st.booleans(), st.floats(-1e4, 1e4))
def test_affine_changes_of_the_score_carry_over(power, turned, shift):
    scale = 10**power * (-1 if turned else 1)
    fit = fit_mixed(SMALL.assign(value=SMALL["value"] * scale + shift * abs(scale)), FORMULAS["E"])
    same(fit, scale=scale, shift=shift * abs(scale))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["A", "C", "E"]))
def test_gaps_agree_with_statsmodels_or_mixedlm_free_least_squares(seed, model):
    "The criterion never exceeds that of least squares, whatever rows are gone."
    rng = np.random.default_rng(seed)
    frame = SMALL.assign(value=SMALL["value"].where(rng.random(len(SMALL)) > 0.3))
    fit = fit_mixed(frame, FORMULAS[model])
    zero = [
        np.zeros((1, len(b.names), len(b.names)))
        for b in (*fit.solution.problem.inner, *fit.solution.problem.outer)
    ]
    problem = fit.solution.problem
    from mmpc_analysis.mixed.exact import constants

    assert fit.criterion <= values_at(problem, zero).profiled[0] + constants(problem) + 1e-8
    assert fit.rows + fit.left_out == len(frame)


# ---------------------------------------------------------------- hard cases


def refused(contains, frame, formula="C", error=ValueError, **more):
    with pytest.raises(error, match=contains):
        fit_mixed(frame, FORMULAS.get(formula, formula), **more)


def test_what_cannot_be_fitted_is_refused_with_a_way_on():
    d = SMALL
    two = d[d["model"].isin(["gemma-3-4b", "qwen2.5-vl-72b"])]
    refused("constant", d.assign(value=0.3))
    refused("constant", d.assign(value=0.0))
    refused("predicts every score exactly", d.assign(value=2 * d["log10p"] + 1))
    refused("predicts every score exactly", d.assign(value=2 * d["log10p"] + 0.1 * d["item"]))
    refused("predicts every score exactly", d.assign(value=d["model"].cat.codes * 0.1 + d["item"] % 7))
    refused("3 pairs of item and model", pd.concat([d, d.head(3)]))
    refused("nothing to fit", d.assign(value=np.nan))
    refused("nothing to fit", d.iloc[:0])
    refused("infinite", d.assign(value=d["value"].where(d.index != 3, np.inf)))
    refused(
        r"fit value ~ 1 \+ log10p \+ family \+ log10p:family",
        d[d["category"] == "Electronics"],
        error=Unidentified,
    )
    refused(r"fit value ~ 1 \+ log10p \+ category", d[d["family"] == "Gemma-3"], error=Unidentified)
    refused(r"fit value ~ 1 \+ log10p \+ category \+ \(1 \| item\)", two, error=Unidentified)
    refused("already held by fixed effects of model", two, "value ~ log10p + category + (1|item) + (1|model)")
    refused(
        r"\(0 \+ log10p \| category\)", d, "value ~ log10p*family + category + (1+log10p|category) + (1|item)"
    )
    refused("cannot be told from the residual", d[d["model"] == "gemma-3-4b"], "value ~ category + (1|item)")
    refused("must be numbers", d.assign(value="a"), error=TypeError)
    refused("no column 'log10p'", d.drop(columns="log10p"))
    refused("engine must be one of", d, engine="lme4")


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_tiny_and_huge_scores(scale):
    for model in FORMULAS.values():
        one, other = fit_mixed(SMALL, model), fit_mixed(SMALL.assign(value=SMALL["value"] * scale), model)
        same(other, one, scale=scale)


def test_complete_cases_and_all_scores_are_two_fits():
    frame = SMALL.assign(value=SMALL["value"].where(SMALL.index % 50 != 3))
    kept, whole = fit_mixed(frame, FORMULAS["C"]), fit_mixed(frame, FORMULAS["C"], missing="complete")
    assert kept.left_out == frame["value"].isna().sum()
    complete = frame[frame.groupby("item")["value"].transform("count") == 6]
    assert whole.criterion == pytest.approx(fit_mixed(complete, FORMULAS["C"]).criterion, abs=1e-8)
    assert whole.rows == len(complete) < kept.rows


def test_scores_tables_are_fitted_as_they_are():
    "Columns of tables.SCORES, floors and unknown sizes among them."
    scores = SMALL.rename(columns={"item": "item_id"}).astype({"item_id": str}).drop(columns="log10p")
    scores = scores.assign(parameters=10 ** SMALL["log10p"], metric="chrf", task="image_to_text")
    floor = scores[scores["model"] == "gemma-3-4b"].astype({"model": str, "family": str})
    floor = floor.assign(model="template", role="floor", family="", parameters=np.nan)
    proper = scores.astype({"model": str, "family": str}).assign(role="model")
    mixed = pd.concat([proper, floor], ignore_index=True)
    assert fit_mixed(mixed, FORMULAS["C"]).criterion == pytest.approx(
        fit_mixed(SMALL, FORMULAS["C"]).criterion, abs=1e-6
    )
    refused("choose it with metric=", pd.concat([mixed, mixed.assign(metric="rouge")]))
    two = pd.concat([mixed, mixed.assign(metric="rouge", value=0.5)])
    assert fit_mixed(two, FORMULAS["C"], metric="chrf").rows == len(SMALL)


def test_without_random_terms_errors_are_clustered_by_item():
    fit = fit_mixed(SMALL, "value ~ log10p*family + category")
    assert (fit.question, fit.engine) == ("these_models", "least squares, errors clustered by 108 items")
    from statsmodels.formula.api import ols

    reference = ols("value ~ log10p*family + category", SMALL).fit(
        cov_type="cluster", cov_kwds={"groups": SMALL["item"]}
    )
    error = reference.bse.rename(lambda n: n.replace("[T.", "["))
    names = fit.table["term"].str.replace("(Intercept)", "Intercept", regex=False)
    np.testing.assert_allclose(fit.table["standard_error"], error[names], rtol=1e-6)


def test_tables_for_papers_carry_the_question():
    fit = fit_mixed(SMALL, FORMULAS["C"])
    assert to_markdown(fit).count("scale_in_general") >= 3
    text = to_latex(fit)
    assert text.count(r"scale\_in\_general") >= 3
    assert text.count("&") - text.count(r"\&") == 6 * (len(fit.table) + 1)


# ---------------------------------------------------------------- formulas and the other engines


@given(st.text(alphabet="abx01+-*/:|()~ ._", max_size=25))
def test_any_text_is_read_or_refused(text):
    try:
        formula = parse_formula(text)
    except ValueError:
        return
    assert parse_formula(str(formula)) == formula


def test_statsmodels_agrees_and_mixedlm_too_where_it_is_installed():
    frame = table_of("sleepstudy")
    exact = fit_mixed(frame, "Reaction ~ Days + (Days | Subject)")
    theirs = fit_mixed(frame, "Reaction ~ Days + (Days | Subject)", engine="statsmodels")
    engines = [theirs]
    if importlib.util.find_spec("mixedlm"):
        engines.append(fit_mixed(frame, "Reaction ~ Days + (Days | Subject)", engine="mixedlm"))
        np.testing.assert_allclose(engines[-1].table["dof"], exact.table["dof"], rtol=1e-2)
    else:
        refused(
            "mmpc_analysis\\[mixed\\]",
            frame,
            "Reaction ~ Days + (Days | Subject)",
            error=ImportError,
            engine="mixedlm",
        )
    for fit in engines:
        assert fit.criterion == pytest.approx(exact.criterion, abs=1e-4)
        np.testing.assert_allclose(fit.table["estimate"], exact.table["estimate"], rtol=1e-6)
        np.testing.assert_allclose(fit.table["standard_error"], exact.table["standard_error"], rtol=1e-4)
