"""How fast is the exact mixed-model solver, against a peer on the same table, how does it grow, and which engine fits which table?

python bench/mixed.py                 # all three
python bench/mixed.py --against       # 54,000 rows models A and C, 540,000 rows model C, against lme4 (needs Rscript)
python bench/mixed.py --against --peer glmm        # or against glmm or mixedlm, where they are installed
python bench/mixed.py --growth        # 54,000, 540,000 and 5,400,000 rows: seconds and peak memory
python bench/mixed.py --engines       # every engine on tables of many shapes, and what auto takes
python bench/mixed.py --engines --store            # the same, written to tests/data/mixed/engines.json for the page that shows it
python bench/mixed.py --repeats 5

Each comparison first checks that both reach the same criterion, and with --engines the same coefficients. lme4 uses bobyqa,
because its default stops short at 540,000 rows. The ratio asked is that against lme4. An engine whose estimated cost is over
ten seconds is not run. Times are medians of processor seconds, runs of the two interleaved; reading the file is not counted on either
side, building the model is counted on both. Memory is the growth of the process's peak while fitting, over the table's own size.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
from mixed_tables import FORMULAS, lengths, ratings, schools, simulate  # noqa: E402

FILE = ROOT / "tests" / "data" / "mixed" / "engines.json"
LONGEST = 10  # Estimated seconds beyond which an engine is not run

R = """
suppressMessages(library(lme4)); args <- commandArgs(TRUE)
d <- read.csv(args[1], stringsAsFactors = TRUE); d$item <- factor(d$item)
t <- system.time(m <- lmer(as.formula(args[2]), d, control = lmerControl(optimizer = "bobyqa", calc.derivs = FALSE)))
cat(sprintf("%.10f %.6f\\n", REMLcrit(m), t[["user.self"]] + t[["sys.self"]]))
"""


def ours(frame: pd.DataFrame, formula: str) -> tuple[float, float]:
    """Criterion and processor seconds of one exact fit, degrees of freedom and all."""
    from mmpc_analysis.mixed.fit import fit_mixed

    began = time.process_time()
    fit = fit_mixed(frame, formula, engine="exact")
    return fit.criterion, time.process_time() - began


def theirs(peer: str, frame: pd.DataFrame, path: str, formula: str) -> tuple[float, float]:
    """The same of a peer; lme4 in a process of its own."""
    if peer == "glmm":
        import glmm

        began = time.process_time()
        fit = glmm.fit({name: frame[name] for name in frame}, formula)
        return -2 * float(fit.loglik), time.process_time() - began
    if peer == "mixedlm":
        import mixedlm

        began = time.process_time()
        fit = mixedlm.lmer(formula, frame)
        mixedlm.satterthwaite_df(fit)
        return float(fit.REMLcrit()), time.process_time() - began
    run = subprocess.run(["Rscript", "-e", R, path, formula], capture_output=True, text=True, check=True)
    criterion, seconds = run.stdout.split()[-2:]
    return float(criterion), float(seconds)


def against(repeats: int, peer: str) -> pd.DataFrame:
    """Ratios of processor time, criterion checked first."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for items, model, least in ((1000, "A", 10), (1000, "C", 10), (10_000, "C", 50)):
            frame, path = simulate(items, 12), f"{folder}/{items}.csv"
            frame.to_csv(path, index=False, float_format="%.17g")
            ours(frame, FORMULAS[model])  # Imports and warm-up
            pairs = [
                (ours(frame, FORMULAS[model]), theirs(peer, frame, path, FORMULAS[model]))
                for _ in range(repeats)
            ]
            mine, other = pairs[0][0][0], pairs[0][1][0]
            if abs(mine - other) > 1e-4:
                raise SystemExit(f"not the same model: criterion {mine:.6f} here, {other:.6f} in {peer}")
            a, b = (statistics.median(p[k][1] for p in pairs) for k in (0, 1))
            rows.append((len(frame), model, mine, other, a, b, b / a, least))
    names = [
        "rows",
        "model",
        "criterion",
        f"{peer} criterion",
        "seconds",
        f"{peer} seconds",
        "ratio",
        "ratio asked",
    ]
    return pd.DataFrame(rows, columns=names)


def alone(items: int) -> dict:
    """Seconds and peak memory of one fit; meant for a process of its own."""
    frame = simulate(items, 12)
    from mmpc_analysis.mixed.fit import fit_mixed

    fit_mixed(simulate(50, 1), FORMULAS["C"])  # Imports
    size = int(frame.memory_usage(deep=True).sum())
    before = _resident()
    _reset_peak()
    seconds = ours(frame, FORMULAS["C"])[1]
    return {
        "rows": len(frame),
        "seconds": seconds,
        "table MB": size / 1e6,
        "growth MB": (_peak() - before) / 1e6,
    }


def _status(name: str) -> int:
    """A field of the process's status, in bytes."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident() -> int:
    """Memory in use now, in bytes."""
    return _status("VmRSS")


def _peak() -> int:
    """Highest memory in use since the last reset, in bytes."""
    return _status("VmHWM")


def _reset_peak() -> None:
    """Forget the highest memory in use, where Linux lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
    except OSError as error:
        print(
            f"the peak cannot be reset ({error}); growth counts from the start of the process",
            file=sys.stderr,
        )


def growth() -> pd.DataFrame:
    """Seconds and memory from 54,000 to 5,400,000 rows, each in a process of its own."""
    rows = []
    for items in (1000, 10_000, 100_000):
        run = [sys.executable, __file__, "--alone", str(items)]
        rows.append(json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout))
    table = pd.DataFrame(rows)
    table["times the table"] = table["growth MB"] / table["table MB"] + 1
    table["seconds per million"] = table["seconds"] / table["rows"] * 1e6
    return table


SHAPES = {
    "complete": (lambda: simulate(1000, 12), FORMULAS["C"]),
    "complete, longer": (lambda: simulate(10_000, 12), FORMULAS["C"]),
    "complete, slopes of categories": (lambda: simulate(1000, 12), FORMULAS["E"]),
    "complete, items only": (lambda: simulate(100, 12), FORMULAS["A"]),
    "covariate of items": (lambda: lengths(1000, 12), "value ~ log10p*family + length + (1|item)"),
    "covariate of items, gaps": (lambda: lengths(300, 12, 0.05), "value ~ log10p*family + length + (1|item)"),
    "the same, models random": (
        lambda: lengths(300, 12, 0.05),
        "value ~ log10p + length + (1|item) + (1|model)",
    ),
    "pupils in schools": (schools, "value ~ ses + (1|school)"),
    "pupils in schools, slopes": (schools, "value ~ ses + (1+ses|school)"),
    "pupils in more schools": (lambda: schools(7185, 700), "value ~ ses + (1|school)"),
    "more pupils in schools": (lambda: schools(70_000), "value ~ ses + (1+ses|school)"),
    "raters and rated": (ratings, "value ~ x + (1|rater) + (1|rated)"),
    "more raters and rated": (lambda: ratings(20_000, 800, 200), "value ~ x + (1|rater) + (1|rated)"),
}


def engines(repeats: int) -> pd.DataFrame:
    """Seconds of every engine that can fit a table, the largest difference between them, and what auto takes."""
    from mmpc_analysis.mixed.fit import fit_mixed

    rows = []
    for name, (make, formula) in SHAPES.items():
        frame = make()
        auto = fit_mixed(frame, formula)
        able = auto.costs[(auto.costs["obstacle"] == "") & (auto.costs["seconds"] < LONGEST)][
            "engine"
        ].tolist()
        fits, seconds = {}, {engine: [] for engine in able}
        for _ in range(repeats):
            for engine in able:
                began = time.process_time()
                fits[engine] = fit_mixed(frame, formula, engine=engine)
                seconds[engine].append(time.process_time() - began)
        row = {
            "table": name,
            "rows": len(frame),
            "formula": str(auto.formula),
            "taken": auto.engine.split(",")[0].split()[0],
        }
        row |= {engine: statistics.median(s) for engine, s in seconds.items()}
        row |= {f"{r.engine} estimated": r.seconds for r in auto.costs.itertuples() if r.engine in able}
        rows.append(row | {"apart": max(apart(auto, fit) for fit in fits.values())})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def apart(one, other) -> float:
    """How far two fits are apart: criterion relative to itself, coefficients relative to themselves or their errors."""
    error = np.sqrt(np.diag(one.estimates.covariance))
    values = np.abs(one.estimates.values - other.estimates.values) / np.maximum(
        np.abs(one.estimates.values), error
    )
    return float(max(values.max(), abs(one.criterion / other.criterion - 1)))


def store(table: pd.DataFrame) -> None:
    """Write measured seconds for the page that shows them."""
    packages = ("mixedlm", "statsmodels", "numpy", "scipy", "pandas")
    versions = {name: importlib.metadata.version(name) for name in packages}
    rows = [{k: None if v != v else v for k, v in row.items()} for row in table.to_dict("records")]
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    FILE.write_text(f'{{"versions": {json.dumps(versions)},\n "tables": [\n{lines}\n]}}\n', "utf-8")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", action="store_true", help="against a peer only")
    parser.add_argument("--peer", choices=("lme4", "glmm", "mixedlm"), default="lme4", help="against whom")
    parser.add_argument("--growth", action="store_true", help="growth and memory only")
    parser.add_argument("--engines", action="store_true", help="every engine on tables of many shapes only")
    parser.add_argument("--store", action="store_true", help="write what --engines measured for the page")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved runs of each side")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(alone(given.alone)))
        return
    every = not (given.against or given.growth or given.engines)
    with pd.option_context("display.width", 160, "display.max_columns", 20):
        if given.against or every:
            print(against(given.repeats, given.peer).to_string(index=False))
        if given.growth or every:
            print(growth().to_string(index=False))
        if given.engines or every:
            measured = engines(given.repeats)
            print(measured.to_string(index=False))
            if given.store:
                store(measured)


if __name__ == "__main__":
    main()
