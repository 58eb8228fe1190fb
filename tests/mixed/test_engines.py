"""Every engine says the same: reference levels, and numbers to a millionth on tables of many shapes."""

import importlib.util
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.mixed.fit import fit_mixed
from mmpc_analysis.mixed.formulas import factor_levels

spec = importlib.util.spec_from_file_location("mixed_tables", ROOT / "tools" / "fixtures" / "mixed_tables.py")
TABLES = importlib.util.module_from_spec(spec)
spec.loader.exec_module(TABLES)
DATA = ROOT / "tests" / "data" / "mixed"
OTHERS = ["statsmodels"] + ["mixedlm"] * bool(importlib.util.find_spec("mixedlm"))

# ---------------------------------------------------------------- reference levels


def grouped(values, levels=None, seed=4):
    "Forty groups of six rows; a factor of three levels with effects of its own."
    rng = np.random.default_rng(seed)
    kind, group = rng.integers(0, 3, 240), np.repeat(np.arange(40), 6)
    value = rng.normal(size=40)[group] + np.array([0.3, -0.2, -0.6])[kind] + rng.normal(size=240)
    column = pd.Series(np.array(list(values), dtype=object)[kind])
    return pd.DataFrame(
        {"g": group, "value": value, "f": column if levels is None else pd.Categorical(column, *levels)}
    )


FACTORS = {
    "categories in an order of their own": (grouped("ABC", (["C", "A", "B"],)), ["C", "A", "B"]),
    "ordered categories": (grouped("ABC", (["B", "C", "A"], True)), ["B", "C", "A"]),
    "a first level that does not occur": (grouped("ABC", (["none", "B", "A", "C"],)), ["B", "A", "C"]),
    "text": (grouped("BCA"), ["A", "B", "C"]),
    "integers as categories": (grouped([10, 9, 2], ([10, 2, 9],)), [10, 2, 9]),
    "integers as objects": (grouped([10, 9, 2]), [2, 9, 10]),
    "booleans": (grouped([True, False, True]).astype({"f": bool}), [False, True]),
    "booleans as categories": (grouped([True, False, True], ([True, False],)), [True, False]),
    "nullable text": (grouped("BCA").astype({"f": "string"}), ["A", "B", "C"]),
}  # fmt: skip


def by_statsmodels(frame, levels):
    "statsmodels' formula interface, REML, with letters for the levels, whose order is then the alphabet's; its lbfgs can fail."
    import statsmodels.formula.api as smf

    letters = dict(zip(levels, "abc", strict=False))
    plain = frame.assign(f=frame["f"].astype(object).map(letters))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = smf.mixedlm("value ~ f", plain, groups=plain["g"]).fit(method=["bfgs"])
    return [fit.fe_params["Intercept"], *(fit.fe_params[f"f[T.{letters[level]}]"] for level in levels[1:])]


@pytest.mark.parametrize("engine", ["auto", "exact", *OTHERS, "least_squares"])
@pytest.mark.parametrize("name", FACTORS)
def test_the_reference_level_is_the_same_whatever_the_engine(name, engine):
    frame, levels = FACTORS[name]
    assert factor_levels(frame["f"]) == levels
    text = "value ~ f" if engine == "least_squares" else "value ~ f + (1|g)"
    fit = fit_mixed(frame, text, engine=engine)
    assert list(fit.estimates.names) == ["(Intercept)", *(f"f[{level}]" for level in levels[1:])]
    if engine == "least_squares":
        means = frame.assign(f=frame["f"].astype(object)).groupby("f")["value"].mean()
        expected = [means[levels[0]], *(means[level] - means[levels[0]] for level in levels[1:])]
        np.testing.assert_allclose(fit.estimates.values, expected, rtol=1e-9)
    else:
        np.testing.assert_allclose(fit.estimates.values, by_statsmodels(frame, levels), rtol=2e-5, atol=1e-7)


def test_levels_survive_gaps_and_a_missing_reference():
    "The first category occurs only in rows without a score, so the next one is the reference, for every engine."
    frame = grouped("ABC", (["C", "A", "B"],))
    frame = frame.assign(value=frame["value"].where(frame["f"] != "C"))
    names = {
        tuple(fit_mixed(frame, "value ~ f + (1|g)", engine=e).estimates.names) for e in ("exact", *OTHERS)
    }
    assert names == {("(Intercept)", "f[B]")}


def test_levels_of_slopes_and_interactions_are_the_same_too():
    frame = grouped("ABC", (["C", "A", "B"],)).assign(x=np.tile(np.arange(6.0), 40))
    fits = [fit_mixed(frame, "value ~ x*f + (0+f|g)", engine=e) for e in ("exact", *OTHERS)]
    for fit in fits:
        assert list(fit.estimates.names) == ["(Intercept)", "x", "f[A]", "f[B]", "x:f[A]", "x:f[B]"]
        assert fit.components["term"].tolist()[:3] == ["f[C]", "f[A]", "f[B]"]


# ---------------------------------------------------------------- the same numbers

STORED = {
    n: pd.read_csv(DATA / f"{n}.csv") for n in ("sleepstudy", "Dyestuff", "Dyestuff2", "Penicillin", "Pastes")
}
SCHOOLS = "value ~ ses + (1+ses|school)"
FIXTURES = {
    "sleepstudy": (STORED["sleepstudy"], "Reaction ~ Days + (Days|Subject)"),
    "sleepstudy, levels only": (STORED["sleepstudy"], "Reaction ~ Days + (1|Subject)"),
    "Dyestuff": (STORED["Dyestuff"], "Yield ~ 1 + (1|Batch)"),
    "Dyestuff2, a variance of zero": (STORED["Dyestuff2"], "Yield ~ 1 + (1|Batch)"),
    "Penicillin, crossed": (STORED["Penicillin"], "diameter ~ 1 + (1|plate) + (1|sample)"),
    "Pastes, nested": (STORED["Pastes"], "strength ~ 1 + (1|batch/cask)"),
    "pupils in schools": (TABLES.schools(1500, 60), SCHOOLS),
    "raters and rated": (TABLES.ratings(800, 60, 15), "value ~ x + (1|rater) + (1|rated)"),
    "a covariate of items, gaps": (
        TABLES.lengths(12, 3, 0.05),
        "value ~ log10p + length + (1|item) + (1|model)",
    ),
    "gaps": (TABLES.gaps(TABLES.simulate(20, 4, sd_model=0.03), 0.1), TABLES.FORMULAS["C"]),
    "models that are equal": (TABLES.simulate(20, 4, sd_model=0.0), TABLES.FORMULAS["C"]),
} | {f"model {k}": (TABLES.simulate(20, 3), text) for k, text in TABLES.FORMULAS.items()}


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("name", FIXTURES)
def test_engines_agree_to_a_millionth(name, engine, reml):
    "Coefficients relative to themselves, or to their errors where those are larger; errors to what an optimiser's own stop leaves."
    frame, text = FIXTURES[name]
    one = fit_mixed(frame, text, reml=reml, engine="exact")
    if engine == "statsmodels" and len(one.formula.random) > 1:
        with pytest.raises(ValueError, match="one random term"):
            fit_mixed(frame, text, reml=reml, engine=engine)
        return
    other = fit_mixed(frame, text, reml=reml, engine=engine)
    assert other.criterion == pytest.approx(one.criterion, abs=1e-6)
    error = np.sqrt(np.diag(one.estimates.covariance))
    values = one.estimates.values
    assert (np.abs(other.estimates.values - values) <= 1e-6 * np.maximum(np.abs(values), error)).all()
    np.testing.assert_allclose(np.sqrt(np.diag(other.estimates.covariance)), error, rtol=3e-5)
    assert other.sigma == pytest.approx(one.sigma, rel=3e-5)
