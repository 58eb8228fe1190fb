"""Do 95% intervals of mixed models cover the truth in 95 of 100 tables, and which test of scale keeps its 5%?

Run from the top of the repository: python tools/coverage_mixed.py [--draws 2000] [--profiles 2000] [--bootstrap 200]
Tables of 6 models x 9 categories x 1000 items are drawn in small (mixed_variances.simulate_problem, which
tests/test_mixed_inference.py compares with drawing every score), with models that differ by 0, 0.005 and 0.02 and no effect of
scale beyond that. Counts are written to tests/data/mixed/coverage.json after every fifty draws; a second run goes on where
the first one stopped. Profiles take longer than everything else together, bootstraps longer still, so either may cover fewer draws.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from mixed_tables import FORMULAS, simulate
from scipy.stats import t

from mmpc_analysis.exact_mixed import Solution, set_up, solve
from mmpc_analysis.formulas import parse_formula
from mmpc_analysis.mixed import Mixed, _effects, _strata, fit_mixed
from mmpc_analysis.mixed_engines import exact_estimates
from mmpc_analysis.mixed_inference import marginal_means, marginal_slopes
from mmpc_analysis.mixed_variances import bootstrap_intervals, profile_intervals, simulate_problem

FILE = Path(__file__).resolve().parents[1] / "tests" / "data" / "mixed" / "coverage.json"
SDS = (0.0, 0.005, 0.02)
ITEM, REST = 0.12, 0.15
SCALE = ("log10p", "family[Qwen2.5-VL]", "log10p:family[Qwen2.5-VL]")


def truth(sd_model: float) -> tuple[Mixed, Solution]:
    """A fit that stands for the truth: known standard deviations, and some coefficients."""
    fit = fit_mixed(simulate(1000, 77), FORMULAS["C"], engine="exact")
    problem = fit.solution.problem
    inner, outer = problem.inner[0].basis[0, 0], problem.outer[0].basis[0, 0]
    theta = np.array([ITEM / REST * abs(inner), sd_model / REST * abs(outer)])
    return fit, dataclasses.replace(fit.solution, theta=theta, sigma=REST)


def refit(fit: Mixed, solution: Solution, model: str) -> Mixed:
    """What a formula says of a drawn table, in the shape of a fit."""
    estimates = exact_estimates(solution)
    question = "scale_in_general" if model == "C" else "these_models"
    table = _effects(estimates, _strata(estimates, solution, question), fit.levels, fit.level)
    return dataclasses.replace(
        fit,
        question=question,
        formula=solution.problem.formula,
        table=table,
        components=estimates.components,
        sigma=estimates.sigma,
        estimates=estimates,
        solution=solution,
    )


def draw(fit: Mixed, true: Solution, sd: float, seed: int, profiles: int, bootstrap: int) -> dict[str, bool]:
    """One table: which intervals cover, which tests reject."""
    drawn = simulate_problem(true, np.random.default_rng([int(sd * 1e4), seed]))
    means = np.einsum("gmp,p->gm", drawn.fixed, drawn.start) + drawn.residual
    data = dataclasses.replace(drawn.data, means=means)
    fits = {}
    for model, parts in (("A", 1), ("C", 2)):
        formula = parse_formula(FORMULAS[model])
        fits[model] = refit(
            fit, solve(set_up(data, formula), starts=(np.maximum(true.theta[:parts], 0.01),)), model
        )
    return said_of(fits, fit, sd, seed < profiles, seed if seed < bootstrap else None)


def said_of(
    fits: dict[str, Mixed], true: Mixed, sd: float, profile: bool, bootstrap: int | None
) -> dict[str, bool]:
    """Whether each kind of interval covers and each test rejects, for one table."""
    c = fits["C"]
    known = true.table.set_index("term")["estimate"]
    rows = {m: f.table.set_index("term") for m, f in fits.items()}
    said = {}
    for m, name in (("C", "scale_in_general"), ("A", "these_models, read as scale")):
        row = rows[m].loc["log10p"]
        said[f"slope of scale: {name}"] = row["low"] <= known["log10p"] <= row["high"]
        statistic = (row["estimate"] - known["log10p"]) / row["standard_error"]
        said[f"rejects: {name}"] = 2 * t.sf(abs(statistic), row["dof"]) < 0.05
    effect = rows["C"].loc["category[Toys_and_Games]"]
    said["category: these_models"] = effect["low"] <= known["category[Toys_and_Games]"] <= effect["high"]
    for name, function, settings in (
        ("marginal mean by family", marginal_means, {"log10p": 10.0}),
        ("marginal slope by family", marginal_slopes, {}),
    ):
        row, value = function(c, **settings).iloc[-1], function(true, **settings)["estimate"].iloc[-1]
        said[name] = row["low"] <= value <= row["high"]
    values = {"item": ITEM, "model": sd, "residual": REST}
    if profile:
        for row in profile_intervals(c.solution).itertuples():
            said[f"profile: sd of {row.group}"] = row.low <= values[row.group] <= row.high
    if bootstrap is not None:
        for row in bootstrap_intervals(c.solution, 200, bootstrap).itertuples():
            said[f"bootstrap: sd of {row.group}"] = row.low <= values[row.group] <= row.high
    return {name: bool(value) for name, value in said.items()}


def go_on(sd: float, here: dict, until: int, profiles: int, bootstrap: int) -> dict:
    """Draw tables for one standard deviation until there are enough, and add up what they say."""
    fit, true = truth(sd)
    for seed in range(here["draws"], until):
        for name, value in draw(fit, true, sd, seed, profiles, bootstrap).items():
            count = here["counts"].setdefault(name, [0, 0])
            count[0] += value
            count[1] += 1
        here["draws"] = seed + 1
    return here


def main() -> None:
    """Go on drawing until the counts are full."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000, help="tables for each standard deviation")
    parser.add_argument(
        "--profiles", type=int, default=2000, help="tables whose profile intervals are made too"
    )
    parser.add_argument(
        "--bootstrap", type=int, default=0, help="tables whose bootstrap intervals are made too"
    )
    given = parser.parse_args()
    state = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    state = {str(sd): state.get(str(sd), {"draws": 0, "counts": {}}) for sd in SDS}
    with ProcessPoolExecutor(len(SDS)) as pool:
        for until in range(50, given.draws + 50, 50):
            jobs = [(sd, state[str(sd)], until, given.profiles, given.bootstrap) for sd in SDS]
            for sd, here in zip(SDS, pool.map(go_on, *zip(*jobs, strict=True)), strict=True):
                state[str(sd)] = here
            FILE.write_text(json.dumps(state, indent=1) + "\n", "utf-8")
    for sd, here in state.items():
        for name, (hits, n) in here["counts"].items():
            print(f"{sd:6} {name:45} {hits / n:.4f} of {n}")


if __name__ == "__main__":
    main()
