"""Fit mixed models with R's lme4 and lmerTest, and store what they say for the tests.

Run from the top of the repository: python tools/make_mixed_fixtures.py
It needs Rscript with lme4, lmerTest and jsonlite (Debian: r-cran-lme4 r-cran-lmertest r-cran-jsonlite).
Classic tables come from lme4 itself; made-up ones follow from a seed (mixed_tables.py) and go to R as temporary files.
Nothing here imports mmpc_analysis: what it writes must not depend on what it checks.
"""

import json
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from mixed_tables import FORMULAS, gaps, simulate

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "data" / "mixed"
CLASSIC = [
    ("sleepstudy", "Reaction ~ Days + (Days|Subject)"),
    ("sleepstudy", "Reaction ~ Days + (Days||Subject)"),
    ("Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)"),
    ("Pastes", "strength ~ 1 + (1|batch/cask)"),
    ("Dyestuff", "Yield ~ 1 + (1|Batch)"),
    ("Dyestuff2", "Yield ~ 1 + (1|Batch)"),
    ("cake", "angle ~ temp * recipe + (1|replicate)"),
]
# name -> (items a category, seed, settings, share of rows taken out): regular, with gaps, and with variances that are zero
MADE = {
    "small": (100, 11, {}, 0.0),
    "large": (1000, 12, {}, 0.0),
    "gaps": (40, 13, {}, 0.1),
    "zeros": (30, 14, {"sd_model": 0.0, "sd_slope": 0.0, "sd_item_slope": 0.0, "sigma": 0.5}, 0.0),
}


def job(name, path, formula, reml=True):
    "One fit that R is asked for; profiles of variances are lme4's on the full likelihood, so only there."
    profile = not reml and name in ("Penicillin", "Pastes", "Dyestuff")
    return {"name": name, "data": str(path), "formula": formula, "reml": reml, "profile": profile}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = sorted({name for name, _ in CLASSIC})
    write = "; ".join(f"data({n}); write.csv({n}, '{FOLDER / n}.csv', row.names=FALSE)" for n in names)
    subprocess.run(["Rscript", "-e", f"suppressMessages(library(lme4)); {write}"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            job(name, FOLDER / f"{name}.csv", formula, reml)
            for name, formula in CLASSIC
            for reml in (True, False)
        ]
        for name, (items, seed, settings, share) in MADE.items():
            path = f"{folder}/{name}.csv"
            gaps(simulate(items, seed, **settings), share).to_csv(path, index=False, float_format="%.17g")
            for model, formula in FORMULAS.items():
                jobs.append(job(f"{name}/{model}", path, formula))
            if name == "small":
                jobs.append(job(f"{name}/C", path, FORMULAS["C"], False))
        (Path(folder) / "jobs.json").write_text(json.dumps(jobs), "utf-8")
        script = ROOT / "tools" / "make_mixed_fixtures.R"
        subprocess.run(["Rscript", script, f"{folder}/jobs.json", f"{folder}/out.json"], check=True)
        out = json.loads(Path(f"{folder}/out.json").read_text("utf-8"))
    out["versions"] |= {"numpy": version("numpy")}
    out["made"] = {
        name: dict(zip(("items", "seed", "settings", "gaps"), v, strict=True)) for name, v in MADE.items()
    }
    (FOLDER / "lme4.json").write_text(json.dumps(out, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
