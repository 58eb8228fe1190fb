"""Does the exact engine reach the lowest criterion that anybody reaches, on 500 tables of 5,400 to 540,000 rows?

Run from the top of the repository:
    python tools/experiments/mixed_criteria.py --who peers     # glmm and, on the two smallest sizes, mixedlm; needs both packages
    python tools/experiments/mixed_criteria.py --who exact     # the exact engine of this package
    python tools/experiments/mixed_criteria.py --who before    # the same under an older version of it, put first on PYTHONPATH
    python tools/experiments/mixed_criteria.py --precise       # peers that say less than the exact engine, looked into
    python tools/experiments/mixed_criteria.py --summary

Tables follow from their number alone (tools/fixtures/mixed_tables.py): six models in two families, nine categories, models that
differ by 0 to 0.015 and slopes of categories that differ by 0 to 0.01, every item answered by each model or 5% of the scores
missing. Each is fitted by REML and by maximum likelihood. A *false zero* is a fit that reports a variance of zero while a peer
reaches a criterion lower by more than 1e-5. Results go to tests/data/mixed/criteria.json after every ten tables; a second run
goes on where the first one stopped, and --who replaces what is there only with --anew. tests/mixed/test_minimum.py fits a fixed
share of the tables again, and compares the drawn scores, the criteria and the summary with what is stored.

A criterion is a sum over all rows, and a peer that does not centre them first rounds it: on 540,000 rows glmm's is off by up to
0.00004, in both directions. So where a peer says more than 1e-5 less than the exact engine, its fit is made again and the
criterion at the standard deviations that it reports is computed in long double (64 bits of mantissa where the processor has
them), from the rows and without the engine's own sums; that is then what the peer reached, stored as `in long double`.

glmm fits no `||` and no `0 + x`, so those two formulas are drawn at the two smallest sizes only and left to mixedlm, which takes
seconds to minutes on the others. glmm wants the random intercepts of items first.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
from mixed_tables import FORMULAS, gaps, simulate  # noqa: E402

FILE = ROOT / "tests" / "data" / "mixed" / "criteria.json"
SIZES = {100: 150, 300: 110, 1000: 120, 3000: 100, 10_000: 20}  # Items in a category, and how many tables
SD_MODEL = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.015)
SD_SLOPE = (0.01, 0.002, 0.0)
LEVELS = "value ~ log10p*family + (1|item) + (1+log10p|category)"
KINDS = {
    "C": FORMULAS["C"],
    "C, gaps": FORMULAS["C"],
    "E": LEVELS,
    "E and models": LEVELS + " + (1|model)",
    "C again": FORMULAS["C"],
    "B0": FORMULAS["B0"],
    "D": FORMULAS["D"],
}
SMALL = 300  # Largest tables that mixedlm fits here, for the formulas that glmm refuses
BOTH = 100  # Largest tables that both peers fit
STEP = 10


def tables() -> list[dict]:
    """What is drawn: number, items in a category, formula and true standard deviations of each table."""
    sizes = [items for items, count in SIZES.items() for _ in range(count)]
    made = []
    for k, items in enumerate(sizes):
        kind = list(KINDS)[k % len(KINDS)]
        kind = "C" if kind in ("B0", "D") and items > SMALL else kind
        made.append(
            {
                "table": k,
                "items": items,
                "kind": kind,
                "sd_model": SD_MODEL[k % 6],
                "sd_slope": SD_SLOPE[k % 5 % 3],
            }
        )
    return made


def draw(table: dict) -> pd.DataFrame:
    """The scores of a table."""
    frame = simulate(
        table["items"], 90_000 + table["table"], sd_model=table["sd_model"], sd_slope=table["sd_slope"]
    )
    return gaps(frame, 0.05 if "gaps" in table["kind"] else 0.0)


def exact(frame: pd.DataFrame, formula: str, reml: bool) -> dict:
    """Criterion of this package's exact engine, and how many variances it calls zero."""
    from mmpc_analysis.mixed.fit import fit_mixed

    fit = fit_mixed(frame, formula, reml=reml, engine="exact")
    sd = fit.components.query("kind == 'sd' and group != 'residual'")["value"]
    return {
        "criterion": fit.criterion,
        "zeros": int((sd < 1e-4 * fit.sigma).sum()),
        "singular": bool(fit.singular),
    }


def peers(frame: pd.DataFrame, formula: str, reml: bool) -> dict:
    """Criteria of the packages that fit this table."""
    found, items = {}, len(frame) / 54
    if "||" not in formula and "0+" not in formula:
        import glmm

        columns = {name: frame[name] for name in frame}
        fit = glmm.fit(columns, formula, reml=reml, satterthwaite=False)
        found["glmm"] = -2 * float(fit.loglik)
    if items <= BOTH or not found:
        import mixedlm

        fit = mixedlm.lmer(formula, frame, REML=reml)
        found["mixedlm"] = float(fit.REMLcrit() if reml else fit.get_deviance())
    return found


def root_of(matrix: np.ndarray) -> np.ndarray:
    """Cholesky root in whatever precision the matrix has."""
    root = np.zeros_like(matrix)
    for j in range(len(matrix)):
        root[j, j] = np.sqrt(matrix[j, j] - (root[j, :j] ** 2).sum())
        for i in range(j + 1, len(matrix)):
            root[i, j] = (matrix[i, j] - (root[i, :j] * root[j, :j]).sum()) / root[j, j]
    return root


def inverse_of(root: np.ndarray) -> np.ndarray:
    """Inverse of a triangular root in its own precision."""
    inverse = np.zeros_like(root)
    for i in range(len(root)):
        inverse[i, i] = 1 / root[i, i]
        for j in range(i):
            inverse[i, j] = -(root[i, j:i] * inverse[j:i, j]).sum() / root[i, i]
    return inverse


def in_long_double(frame: pd.DataFrame, text: str, reml: bool, relative: dict[str, float]) -> float:
    """The criterion of items and models as random levels, at standard deviations relative to the residual's."""
    from mmpc_analysis.mixed.compression import compress
    from mmpc_analysis.mixed.exact import constants, set_up
    from mmpc_analysis.mixed.formulas import parse_formula

    wide, formula = np.longdouble, parse_formula(text)
    problem = set_up(compress(frame, formula), formula, reml)
    data, (item,), (model,) = problem.data, problem.inner, problem.outer
    sizes = [wide(relative[b.term.group[0]] * abs(b.basis[0, 0])) for b in (item, model)]
    effects, p = model.columns[..., 0].shape[-1], problem.fixed.shape[-1]
    whole, total = np.zeros((effects + p + 1,) * 2, dtype=wide), wide(0)
    for g, seen in enumerate(data.seen):
        scores = data.table[data.group == g][:, seen].astype(wide)
        mean, fixed = scores.mean(0), problem.fixed[g][seen].astype(wide)
        column = item.columns[g][seen, 0].astype(wide) * sizes[0]
        root = root_of(np.eye(len(column), dtype=wide) + np.outer(column, column))
        half = inverse_of(root)
        left = mean - fixed @ problem.start.astype(wide)
        parts = half @ np.column_stack([model.columns[g][seen, :, 0] * sizes[1], fixed, left])
        whole += len(scores) * parts.T @ parts
        whole[-1, -1] += ((half @ (scores - mean).T) ** 2).sum()
        total += 2 * len(scores) * np.log(np.diag(root)).sum()
    whole[np.arange(effects), np.arange(effects)] += 1
    logs = 2 * np.log(np.diag(root_of(whole)))
    dof = data.rows - (p if reml else 0)
    total += logs[: effects + (p if reml else 0)].sum()
    return float(
        total + dof * (1 + np.log(2 * wide(np.pi)) + logs[-1] - np.log(wide(dof))) + wide(constants(problem))
    )


def precise() -> None:
    """Look into every fit of glmm that claims more than 1e-5 less than the exact engine reached."""
    import glmm

    state = json.loads(FILE.read_text("utf-8"))
    known = {row["table"]: row for row in state["tables"]}
    for row in known.values():
        for name, fits in row["fits"].items():
            if "glmm" not in fits or fits["exact"]["criterion"] - fits["glmm"] <= 1e-5:
                continue
            frame, formula = draw(row), KINDS[row["kind"]]
            fit = glmm.fit({n: frame[n] for n in frame}, formula, reml=name == "REML", satterthwaite=False)
            sds = {group: float(fit.stddev_corr(k)[0][0]) for k, group in enumerate(("item", "model"))}
            relative = {group: sd / np.sqrt(fit.dispersion) for group, sd in sds.items()}
            fits["in long double"] = in_long_double(frame, formula, name == "REML", relative)
    write(state, known)


def reached(fits: dict) -> float:
    """The lowest criterion that a peer reached; NaN where none did."""
    own = {name: fits[name] for name in ("glmm", "mixedlm") if np.isfinite(fits.get(name, np.nan))}
    if "in long double" in fits:
        own["glmm"] = fits["in long double"]
    return min(own.values(), default=np.nan)


def run(who: str, anew: bool) -> None:
    """Go on fitting until every table has its fits."""
    state = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {"versions": {}, "tables": []}
    known = {row["table"]: row for row in state["tables"]}
    names = ("glmm", "mixedlm") if who == "peers" else ("mmpc_analysis",)
    versions = {name: importlib.metadata.version(name) for name in names if who == "peers"}
    state["versions"] |= versions | {"numpy": np.__version__}
    for k, table in enumerate(tables()):
        row = known.setdefault(table["table"], table | {"fits": {}})
        mine = (
            "glmm" if who == "peers" and "glmm" in str(row["fits"]) else "mixedlm" if who == "peers" else who
        )
        if not anew and all(mine in row["fits"].get(r, {}) for r in ("REML", "ML")):
            continue
        frame = draw(table)
        row |= {
            "rows": len(frame),
            "mean": float(frame["value"].mean()),
            "sd": float(frame["value"].std(ddof=0)),
        }
        for reml in (True, False):
            fits = row["fits"].setdefault("REML" if reml else "ML", {})
            formula = KINDS[table["kind"]]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fits |= peers(frame, formula, reml) if who == "peers" else {who: exact(frame, formula, reml)}
        if k % STEP == STEP - 1:
            write(state, known)
    write(state, known)


def write(state: dict, known: dict) -> None:
    """Store what is known, a table a line, beside what other runs have stored of it since."""
    rows = ",\n".join("  " + json.dumps(known[k]) for k in sorted(known))
    FILE.write_text(f'{{"versions": {json.dumps(state["versions"])},\n "tables": [\n{rows}\n]}}\n', "utf-8")


def compared(state: dict, who: str = "exact") -> pd.DataFrame:
    """One row for each fit: how far it is above the best peer, and whether its zero is false."""
    rows = []
    for table in state["tables"]:
        for criterion, fits in table["fits"].items():
            if who in fits and np.isfinite(reached(fits)):
                above = fits[who]["criterion"] - reached(fits)
                false = above > 1e-5 and fits[who]["zeros"] + fits[who]["singular"] > 0
                rows.append((table["rows"], table["items"] * 54, table["kind"], criterion, above, false))
    return pd.DataFrame(rows, columns=["rows", "size", "kind", "criterion", "above", "false zero"])


def summary(state: dict) -> pd.DataFrame:
    """Fits, worst differences and false zeros by size, before and now."""
    parts = {}
    for who in ("before", "exact"):
        found = compared(state, who)
        by = found.groupby("size")
        parts[who] = pd.DataFrame(
            {"fits": by.size(), "worst above": by["above"].max(), "worse by 1e-5": by["above"].agg(lambda a: int((a > 1e-5).sum())),
             "false zeros": by["false zero"].sum(), "peers worse by 1e-5": by["above"].agg(lambda a: int((a < -1e-5).sum()))}
        )  # fmt: skip
    return pd.concat(parts, axis=1)


def main() -> None:
    """Fit, or print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--who", choices=("peers", "exact", "before"), help="whose fits to make")
    parser.add_argument("--anew", action="store_true", help="fit again what is stored")
    parser.add_argument("--precise", action="store_true", help="look into peers that say less")
    parser.add_argument("--summary", action="store_true", help="print the summary of what is stored")
    parser.add_argument("--file", type=Path, default=FILE, help="where results are kept")
    given = parser.parse_args()
    globals()["FILE"] = given.file
    if given.who:
        run(given.who, given.anew)
    if given.precise:
        precise()
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(summary(json.loads(FILE.read_text("utf-8"))))


if __name__ == "__main__":
    main()
