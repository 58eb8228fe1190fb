"""How fast is the exact mixed-model solver, against lme4 on the same table, and how does it grow?

python bench/mixed.py                 # both: ratios against lme4, then growth and memory
python bench/mixed.py --against       # 54,000 rows models A and C, 540,000 rows model C; needs Rscript with lme4
python bench/mixed.py --growth        # 54,000, 540,000 and 5,400,000 rows: seconds and peak memory
python bench/mixed.py --repeats 5

Each comparison first checks that both reach the same criterion. lme4 uses bobyqa, because its default stops short at
540,000 rows. Times are medians of processor seconds, runs of the two interleaved; reading the file is not counted on either
side, building the model is counted on both. Memory is the growth of the process's peak while fitting, over the table's own size.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
from mixed_tables import FORMULAS, simulate  # noqa: E402

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


def theirs(path: str, formula: str) -> tuple[float, float]:
    """The same of lme4, in a process of its own."""
    run = subprocess.run(["Rscript", "-e", R, path, formula], capture_output=True, text=True, check=True)
    criterion, seconds = run.stdout.split()[-2:]
    return float(criterion), float(seconds)


def against(repeats: int) -> pd.DataFrame:
    """Ratios of processor time, criterion checked first."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for items, model, least in ((1000, "A", 10), (1000, "C", 10), (10_000, "C", 50)):
            frame, path = simulate(items, 12), f"{folder}/{items}.csv"
            frame.to_csv(path, index=False, float_format="%.17g")
            ours(frame, FORMULAS[model])  # Imports and warm-up
            pairs = [(ours(frame, FORMULAS[model]), theirs(path, FORMULAS[model])) for _ in range(repeats)]
            mine, other = pairs[0][0][0], pairs[0][1][0]
            if abs(mine - other) > 1e-4:
                raise SystemExit(f"not the same model: criterion {mine:.6f} here, {other:.6f} in lme4")
            a, b = (statistics.median(p[k][1] for p in pairs) for k in (0, 1))
            rows.append((len(frame), model, mine, other, a, b, b / a, least))
    names = [
        "rows",
        "model",
        "criterion",
        "lme4 criterion",
        "seconds",
        "lme4 seconds",
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


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", action="store_true", help="against lme4 only")
    parser.add_argument("--growth", action="store_true", help="growth and memory only")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved runs of each side")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(alone(given.alone)))
        return
    both = not given.against and not given.growth
    with pd.option_context("display.width", 160, "display.max_columns", 20):
        if given.against or both:
            print(against(given.repeats).to_string(index=False))
        if given.growth or both:
            print(growth().to_string(index=False))


if __name__ == "__main__":
    main()
