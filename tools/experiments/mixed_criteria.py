"""Does the exact engine reach the lowest criterion that anybody reaches, on 500 tables of 5,400 to 540,000 rows?

Run from the top of the repository:
    python tools/experiments/mixed_criteria.py --who peers     # glmm and, on the two smallest sizes, mixedlm; needs both packages
    python tools/experiments/mixed_criteria.py --who exact     # the exact engine of this package
    python tools/experiments/mixed_criteria.py --who before    # the same under an older version of it, put first on PYTHONPATH
    python tools/experiments/mixed_criteria.py --summary

Tables follow from their number alone (tools/fixtures/mixed_tables.py): six models in two families, nine categories, models that
differ by 0 to 0.015 and slopes of categories that differ by 0 to 0.01, every item answered by each model or 5% of the scores
missing. Each is fitted by REML and by maximum likelihood. A *false zero* is a fit that reports a variance of zero while a peer
reaches a criterion lower by more than 1e-5. Results go to tests/data/mixed/criteria.json after every ten tables; a second run
goes on where the first one stopped, and --who replaces what is there only with --anew. tests/mixed/test_minimum.py fits a fixed
share of the tables again, and compares the drawn scores, the criteria and the summary with what is stored.

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
            others = [
                value for name, value in fits.items() if name in ("glmm", "mixedlm") and np.isfinite(value)
            ]
            if others and who in fits:
                above = fits[who]["criterion"] - min(others)
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
    parser.add_argument("--summary", action="store_true", help="print the summary of what is stored")
    parser.add_argument("--file", type=Path, default=FILE, help="where results are kept")
    given = parser.parse_args()
    globals()["FILE"] = given.file
    if given.who:
        run(given.who, given.anew)
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(summary(json.loads(FILE.read_text("utf-8"))))


if __name__ == "__main__":
    main()
