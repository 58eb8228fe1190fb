"""What auto takes, what it was estimated to cost, and what that cost when it was measured (tests/data/mixed/engines.json)."""

import dataclasses
import importlib.util
import json
import time

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.mixed import choice, fit
from mmpc_analysis.mixed.choice import HEAD_START, engine_costs, order_engines, table_shape
from mmpc_analysis.mixed.compression import compress
from mmpc_analysis.mixed.engines import EngineError
from mmpc_analysis.mixed.exact import set_up
from mmpc_analysis.mixed.fit import fit_mixed
from mmpc_analysis.mixed.formulas import parse_formula

spec = importlib.util.spec_from_file_location("mixed_tables", ROOT / "tools" / "fixtures" / "mixed_tables.py")
TABLES = importlib.util.module_from_spec(spec)
spec.loader.exec_module(TABLES)
MEASURED = json.loads((ROOT / "tests" / "data" / "mixed" / "engines.json").read_text("utf-8"))["tables"]
ENGINES = ("exact", "mixedlm", "statsmodels")
with_mixedlm = pytest.mark.skipif(importlib.util.find_spec("mixedlm") is None, reason="needs mixedlm")


def without_mixedlm(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None)


# ---------------------------------------------------------------- the estimates against the clock


@pytest.mark.parametrize("row", MEASURED, ids=lambda r: r["table"])
def test_what_was_taken_was_the_fastest_or_within_the_head_start(row):
    seconds = {e: row[e] for e in ENGINES if row.get(e) is not None}
    assert row["apart"] < 1e-6, "engines are compared only where they say the same"
    head = HEAD_START["scale_in_general" if "model)" in row["formula"] else "this_table"]
    least = min(seconds.values())
    reach = least + head if row["taken"] == "exact" else 1.5 * least + 0.1
    assert seconds[row["taken"]] <= reach


@pytest.mark.parametrize("row", MEASURED, ids=lambda r: r["table"])
def test_estimates_are_of_the_right_size(row):
    for engine in ENGINES:
        if row.get(engine) is not None and row[engine] > 0.1:
            assert 1 / 6 < row[f"{engine} estimated"] / row[engine] < 6


# ---------------------------------------------------------------- what auto does


@with_mixedlm
def test_schools_take_no_time_and_the_result_names_the_engine():
    "7,185 pupils in 160 schools: 21 seconds and 1.5 GB once, because the exact engine took whatever compressed."
    frame = TABLES.schools()
    fit_mixed(frame.head(300), "value ~ ses + (1|school)")  # Imports
    began = time.process_time()
    slopes = fit_mixed(frame, "value ~ ses + (1+ses|school)")
    assert time.process_time() - began < 4
    assert slopes.engine == "mixedlm, Satterthwaite"
    costs = slopes.costs.set_index("engine")
    assert costs["seconds"]["mixedlm"] < costs["seconds"]["statsmodels"] < 10
    assert fit_mixed(frame, "value ~ ses + (1+ses|school)", engine="mixedlm").costs is None


def test_without_mixedlm_the_next_cheapest_is_taken(monkeypatch):
    without_mixedlm(monkeypatch)
    frame = TABLES.schools(6000, 300)
    found = fit_mixed(frame, "value ~ ses + (1+ses|school)")
    assert found.engine.startswith("statsmodels")
    assert "not installed" in found.costs.set_index("engine")["obstacle"]["mixedlm"]


def test_where_only_mixedlm_could_fit_its_absence_is_said(monkeypatch):
    without_mixedlm(monkeypatch)
    with pytest.raises(ImportError, match=r"mmpc_analysis\[mixed\]"):
        fit_mixed(TABLES.ratings(20_000, 800, 200), "value ~ x + (1|rater) + (1|rated)")


@pytest.mark.parametrize("text", TABLES.FORMULAS.values())
def test_complete_tables_of_any_length_are_fitted_exactly(text):
    frame = TABLES.simulate(300, 1)
    found = fit_mixed(frame, text)
    assert found.engine.startswith("exact") and found.costs["seconds"][0] < 1


def test_scale_in_general_is_asked_of_the_exact_engine():
    "Only it counts degrees of freedom between models, so it may take longer."
    frame = TABLES.lengths(100, 12, 0.05)
    text = "value ~ log10p*family + length + (1|item)"
    for formula, question in ((text, "these_models"), (text + " + (1|model)", "scale_in_general")):
        found = fit_mixed(frame, formula)
        assert found.question == question and found.engine.startswith("exact")
    slow = found.costs.assign(seconds=[100.0, 0.1, 1.0])
    assert order_engines(slow, "scale_in_general")[0] == "exact"
    assert order_engines(slow, "these_models")[-1] == "exact"


def test_a_fit_that_fails_its_checks_is_replaced_and_said(monkeypatch):
    frame = TABLES.schools(1200, 300)
    monkeypatch.setattr(fit, "order_engines", lambda costs, question: ["mixedlm", "exact"])

    def broken(columns, reml):
        raise EngineError("mixedlm reports a criterion that cannot be")

    monkeypatch.setattr(fit, "mixedlm_estimates", broken)
    found = fit_mixed(frame, "value ~ ses + (1|school)")
    assert found.engine.startswith("exact") and "mixedlm reports a criterion that cannot be" in found.notes
    with pytest.raises(EngineError, match="cannot be"):
        fit_mixed(frame, "value ~ ses + (1|school)", engine="mixedlm")


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    "text", [*TABLES.FORMULAS.values(), "value ~ log10p + length + (1+length|model) + (1|item)"]
)
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_shape_is_what_the_exact_engine_will_meet(text, share):
    formula, frame = parse_formula(text), TABLES.lengths(6, 2, share)
    data = compress(frame, formula)
    shape, problem = table_shape(frame, formula, data), set_up(data, formula)
    assert (shape.rows, shape.fixed) == (data.rows, len(problem.names))
    assert (shape.groups, shape.columns) == data.seen.shape
    assert shape.size == sum(b.columns[0, 0].size for b in problem.outer) + len(problem.names) + 1
    assert shape.common == problem.common
    assert shape.largest == frame.groupby(list(formula.random[0].group), observed=True).size().max()


def test_more_rows_levels_or_effects_never_cost_less():
    formula = parse_formula("value ~ ses + (1+ses|school)")
    tables = [TABLES.schools(n, s) for n, s in ((1000, 40), (2000, 40), (4000, 80))]
    costs = [
        engine_costs(table_shape(t, formula, compress(t, formula)))["seconds"].to_numpy() for t in tables
    ]
    assert (np.diff(costs, axis=0) > 0).all()


def test_memory_is_a_reason_too():
    formula = parse_formula("value ~ ses + (1|school)")
    table = TABLES.schools(3000, 2)
    shape = table_shape(table, formula, None)
    costs = engine_costs(shape, "too many columns").set_index("engine")
    assert costs["obstacle"]["exact"] == "too many columns" and np.isnan(costs["seconds"]["exact"])
    assert "dense matrices" in costs["obstacle"]["statsmodels"]
    wide = engine_costs(dataclasses.replace(shape, rows=10**9)).set_index("engine")["obstacle"]
    assert "MB" in wide["mixedlm"] and "MB" in wide["exact"]
    with pytest.raises(ValueError, match=r"no engine fits.*exact: .*MB"):
        order_engines(wide.to_frame().assign(seconds=1.0).reset_index(), "this_table")


def test_costs_are_a_table_with_every_engine():
    frame = TABLES.schools(600, 30)
    costs = fit_mixed(frame, "value ~ ses + (1|school)").costs
    assert costs["engine"].tolist() == list(ENGINES)
    assert isinstance(costs, pd.DataFrame) and (costs["seconds"] > 0).all() and (costs["megabytes"] > 0).all()
