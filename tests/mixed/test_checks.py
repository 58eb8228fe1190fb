"""What no formula can be asked of: refused by name, whichever engine was named."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.mixed.fit import fit_mixed
from mmpc_analysis.mixed.formulas import Unidentified

spec = importlib.util.spec_from_file_location("mixed_tables", ROOT / "tools" / "fixtures" / "mixed_tables.py")
TABLES = importlib.util.module_from_spec(spec)
spec.loader.exec_module(TABLES)
ENGINES = ["auto", "exact", "statsmodels"] + ["mixedlm"] * bool(importlib.util.find_spec("mixedlm"))

D = TABLES.simulate(8, 21)
D = D.assign(
    x=np.random.default_rng(0).normal(size=len(D)),
    g=(D["item"] % 7).astype(str),
    row=np.arange(len(D)).astype(str),
)
SIZES = D.rename(columns={"item": "item_id"}).drop(columns="log10p").assign(parameters=10 ** D["log10p"])
PLAIN = "value ~ log10p + (1|item)"


def with_one(column, value, frame=D):
    return frame.assign(**{column: frame[column].where(frame.index != 3, value)})


def few(count, **columns):
    return D.iloc[:count].assign(item=[0, 0, 1, 1][:count], **columns)


REFUSED = {
    "log10p of minus infinity": (with_one("log10p", -np.inf), PLAIN, "log10p is infinite in 1 of 432 rows"),
    "log10p of minus infinity throughout": (D.assign(log10p=-np.inf), PLAIN, "log10p is infinite in 432 of 432"),
    "parameters of infinity": (with_one("parameters", np.inf, SIZES), PLAIN, "log10p is infinite in 1 of 432"),
    "an infinite covariate": (with_one("x", np.inf), "value ~ x + (1|item)", "x is infinite"),
    "an infinite covariate that varies": (with_one("x", np.inf), "value ~ log10p + (1+x|item)", "x is infinite"),
    "an infinite score": (with_one("value", -np.inf), PLAIN, "value is infinite"),
    "numbers whose squares overflow": (D.assign(x=D["x"] * 1e200), "value ~ x + (1|item)", "x reaches .*another unit"),
    "numbers whose squares vanish": (D.assign(x=D["x"] * 1e-200), "value ~ x + (1|item)", "x reaches .*another unit"),
    "a constant covariate": (D.assign(x=3.0), "value ~ x + (1|item)", "x has one value, 3.0"),
    "a covariate constant but for rounding": (D.assign(x=1e9 + 1e-3 * D["x"]), "value ~ x + (1|item)", "x is a combination"),
    "a constant that varies over items": (D.assign(x=3.0), "value ~ log10p + (1+x|item)", "x has one value, 3.0"),
    "a factor that varies in rows without a score only": (
        D.assign(f=np.where(D["item"] == 0, "only", "rest"), value=D["value"].where(D["item"] != 0)),
        "value ~ f + (1|item)", "f has one value, rest",
    ),
    "a copy of a column": (D.assign(y=2 * D["log10p"] + 1), "value ~ log10p + y + (1|item)", r"y is a combination.*fit value ~ 1 \+ log10p \+"),
    "a copy of a group": (D.assign(copy="c" + D["item"].astype(str)), "value ~ log10p + (1|item) + (1|copy)", "over the same levels"),
    "a group written the other way round": (D, "value ~ log10p + (1|g:family) + (1|family:g)", "over the same levels"),
    "a slope twice": (D, "value ~ log10p + (1+x|g) + (0+x|g)", "lets x vary in two random terms"),
    "a perfect fit": (D.assign(value=2 * D["log10p"] + 1), PLAIN, "predicts every score exactly"),
    "a perfect fit with groups": (D.assign(value=2 * D["log10p"] + 0.1 * D["item"]), PLAIN, "predicts every score exactly"),
    "a fit perfect but for rounding": (D.assign(value=0.1 * D["item"] + 1e-13 * D["x"]), PLAIN, "predicts every score exactly"),
    "a constant score": (D.assign(value=0.5), PLAIN, "constant"),
    "one level of a group": (D[D["item"] == 0], PLAIN, "item has one value"),
    "one level of a factor": (D[D["family"] == "Gemma-3"], "value ~ family + log10p + (1|item)", "family has one value, Gemma-3"),
    "as many effects as rows": (few(4, a=[1.0, 2, 4, 9], b=[1.0, 3, 3, 3]), "value ~ x + a + b + (1|item)", "4 fixed effects for 4 rows"),
    "more effects than rows": (few(3, a=[1.0, 2, 4], b=[1.0, 3, 3]), "value ~ x + a + b + (1|item)", "4 fixed effects for 3 rows"),
    "a fixed level for every row": (D, "value ~ row + (1|item)", "432 fixed effects for 432 rows"),
    "a random level for every row": (D, "value ~ log10p + (1|row)", "a level for every row"),
    "an effect for every row of an item": (D, "value ~ 1 + (1+x+log10p+family+x:log10p+x:family|item)", "an effect for every row"),
    "items fixed and random": (D.astype({"item": str}), "value ~ item + (1|item)", "already held by fixed effects of item"),
    "a category fixed and random": (D, "value ~ g + (1|g)", "already held by fixed effects of g"),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_whatever_the_engine(name, engine):
    frame, formula, said = REFUSED[name]
    if engine == "statsmodels" and formula.count("|") > 1:
        said = f"{said}|one random term"
    with pytest.raises(ValueError, match=f"(?s){said}"):
        fit_mixed(frame, formula, engine=engine)


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="x must be real numbers"):
        fit_mixed(D.assign(x=D["x"] + 1j), "value ~ x + (1|item)")


def test_least_squares_refuses_them_too():
    for frame, said in ((with_one("x", np.inf), "x is infinite"), (D.assign(x=2.0), "x has one value")):
        with pytest.raises(ValueError, match=said):
            fit_mixed(frame, "value ~ x", engine="least_squares")
    with pytest.raises(Unidentified, match="432 fixed effects for 432 rows"):
        fit_mixed(D, "value ~ row")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_only_looks_hostile_is_fitted(engine):
    "Terms written twice, a label of infinity, numbers far from one, three rows, and variances of zero."
    plain = fit_mixed(D, PLAIN, engine=engine)
    twice = fit_mixed(D, "value ~ log10p + log10p + (1|item) + (1|item)", engine=engine)
    pd.testing.assert_frame_equal(plain.table, twice.table)
    far = fit_mixed(D.assign(x=D["x"] * 1e60), "value ~ x + (1|item)", engine=engine)
    near = fit_mixed(D, "value ~ x + (1|item)", engine=engine)
    np.testing.assert_allclose(far.table["statistic"], near.table["statistic"], rtol=1e-5)
    three = fit_mixed(few(3), "value ~ 1 + (1|item)", engine=engine)
    assert three.rows == 3 and three.singular
    noise = D.assign(value=np.random.default_rng(1).normal(size=len(D)))
    none = fit_mixed(noise, PLAIN, engine=engine)
    assert none.singular and "The variance of (Intercept) by item is estimated as zero." in none.notes


def test_a_group_may_be_called_infinity():
    labelled = D.assign(kind=np.where(D["item"] % 2 == 0, np.inf, 1.0))
    assert fit_mixed(labelled, "value ~ log10p + (1|kind) + (1|item)").levels["kind"] == 2
