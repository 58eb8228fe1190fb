"""Write what R says about the statistics of the comparison pages, as JSON with versions.

Needs Rscript and the R package BayesFactor (Debian: r-base-core, r-cran-bayesfactor) and mpmath. Run once from the project's
root; the tests read the files and need neither.

    python tools/make_comparison_fixtures.py
"""

import json
import subprocess
from pathlib import Path

import mpmath as mp
import numpy as np

ROOT = Path(__file__).resolve().parents[1] / "tests" / "data"
FAMILIES = ["a", "a", "a", "b", "b", "b"]


def vector(values):
    "Numbers as an R vector, to the last digit."
    return "c(" + ",".join("NA" if np.isnan(v) else repr(float(v)) for v in values) + ")"


def ask(lines):
    "Run R lines, each of which prints numbers, and return them as lists."
    code = "options(digits=17)\nsuppressMessages(library(BayesFactor))\n"
    code += (
        'say <- function(x) cat("@ ", paste(sprintf("%.17g", as.numeric(x)), collapse=" "), "\\n", sep="")\n'
    )
    code += "\n".join(f"say({line})" for line in lines)
    run = subprocess.run(
        ["R", "--vanilla", "--no-echo"], input=code, capture_output=True, text=True, check=True
    )
    rows = [row[2:] for row in run.stdout.splitlines() if row.startswith("@ ")]
    answers = [[float("nan") if v in ("NA", "NaN") else float(v) for v in row.split()] for row in rows]
    if len(answers) != len(lines):
        raise ValueError(f"R answered {len(answers)} of {len(lines)} questions: {run.stderr}")
    return answers


def correlations(rng):
    "Coefficients and exact p-values of R's cor.test, and correlations of residuals."
    cases = []
    for n in (4, 6, 6, 7, 8):
        cases += [{"x": rng.normal(size=n).tolist(), "y": rng.normal(size=n).tolist()} for _ in range(4)]
    lines = []
    for c in cases:
        x, y = vector(c["x"]), vector(c["y"])
        for method in ("pearson", "spearman", "kendall"):
            lines.append(f'with(cor.test({x},{y},method="{method}",exact=TRUE), c(estimate, p.value))')
    answers = iter(ask(lines))
    for c in cases:
        for method in ("pearson", "spearman", "kendall"):
            c[method], c[f"p_{method}"] = next(answers)
    return cases


def partial(rng):
    "Correlation of what a regression on family leaves, of numbers and of ranks; Kendall over pairs of one family."
    cases = [{"x": rng.normal(size=6).tolist(), "y": rng.normal(size=6).tolist()} for _ in range(10)]
    f = "factor(c(" + ",".join(f"'{v}'" for v in FAMILIES) + "))"
    lines = []
    for c in cases:
        x, y = vector(c["x"]), vector(c["y"])
        lines.append(f"cor(resid(lm({x}~{f})),resid(lm({y}~{f})))")
        lines.append(f"cor(resid(lm(rank({x})~{f})),resid(lm(rank({y})~{f})))")
        lines.append(
            f"mean(c(cor({x}[1:3],{y}[1:3],method='kendall'),cor({x}[4:6],{y}[4:6],method='kendall')))"
        )
    answers = iter(ask(lines))
    for c in cases:
        c["pearson"], c["spearman"], c["kendall"] = next(answers)[0], next(answers)[0], next(answers)[0]
    return cases


def adjusted(rng):
    "R's p.adjust."
    cases = [{"p": rng.uniform(0, s, size=n).tolist()} for n, s in ((1, 1), (7, 0.1), (25, 0.3))]
    cases.append({"p": [0.01, 0.01, float("nan"), 0.5, 0.03, 1.0]})
    answers = iter(ask([f'p.adjust({vector(c["p"])},"{m}")' for c in cases for m in ("holm", "BH")]))
    for c in cases:
        c["holm"], c["benjamini_hochberg"] = next(answers), next(answers)
    return cases


def wilcoxon(rng):
    "R's signed-rank test: exact, and with ties and zeros by the normal approximation without correction."
    cases = [{"d": rng.normal(0.3, 1, size=n).tolist(), "exact": True} for n in (5, 9, 20, 40)]
    cases += [{"d": rng.integers(-3, 5, size=n).astype(float).tolist(), "exact": False} for n in (12, 30, 80)]
    lines = [f"suppressWarnings(wilcox.test({vector(c['d'])},correct=FALSE))$p.value" for c in cases]
    for c, answer in zip(cases, ask(lines), strict=True):
        c["p_value"] = answer[0]
    return cases


def bayes_factors():
    "JZS Bayes factors of R's BayesFactor, as natural logarithms in favour of a difference or a slope."
    t = [
        {"t": t, "n": n, "scale": s}
        for t in (0.0, 0.5, 2.24, -3.1, 8.0)
        for n in (6, 80, 900)
        for s in (0.5**0.5, 1.0)
    ]
    r = [{"r": r, "n": n} for r in (0.0, 0.3, 0.8, 0.99) for n in (4, 6, 30)]
    lines = [f"ttest.tstat(t={c['t']!r},n1={c['n']},rscale={c['scale']!r})$bf" for c in t]
    lines += [f"linearReg.R2stat(N={c['n']},p=1,R2={c['r']!r}^2)$bf" for c in r]
    for c, answer in zip(t + r, ask(lines), strict=True):
        c["log_bf10"] = answer[0]
    return {"t": t, "r": r}


def normal_correlation():
    "P(R >= r) under bivariate normality, from Hotelling's density in r at 30 digits."
    mp.mp.dps = 30
    cases = []
    for n in (3, 4, 5, 6, 12, 40):
        for rho in (-0.9, 0.0, 0.4, 0.95):
            for r in (-0.5, 0.1, 0.8, 0.97):
                scale = (n - 2) * mp.gamma(n - 1) / (mp.sqrt(2 * mp.pi) * mp.gamma(n - mp.mpf(1) / 2))

                def density(a, n=n, rho=rho, scale=scale):
                    x, p = mp.sin(a), mp.mpf(rho)
                    bell = (1 - p**2) ** (mp.mpf(n - 1) / 2) * mp.cos(a) ** (n - 3)
                    return (
                        scale
                        * bell
                        / (1 - p * x) ** (n - mp.mpf(3) / 2)
                        * mp.hyp2f1(0.5, 0.5, n - mp.mpf(1) / 2, (1 + p * x) / 2)
                    )

                tail = mp.quad(density, mp.linspace(mp.asin(mp.mpf(r)), mp.pi / 2, 9))
                cases.append({"n": n, "rho": rho, "r": r, "above": float(tail)})
    return cases


def main():
    "Write both files."
    rng = np.random.default_rng(20261125)
    versions = ask(
        [
            "as.numeric(c(R.version$major, R.version$minor))",
            "as.numeric(unlist(packageVersion('BayesFactor')))",
        ]
    )
    made = {
        "R": ".".join(f"{v:g}" for v in versions[0]),
        "BayesFactor": ".".join(f"{v:g}" for v in versions[1]),
        "mpmath": mp.__version__,
    }
    one = {
        "partial": partial(rng),
        "cor_test": correlations(rng),
        "normal": normal_correlation(),
        "families": FAMILIES,
    }
    two = {"p_adjust": adjusted(rng), "wilcoxon": wilcoxon(rng), "bayes_factors": bayes_factors()}
    for folder, content in (("correlation", one), ("comparison", two)):
        text = json.dumps(
            {"made_with": made, "made_by": "tools/make_comparison_fixtures.py"} | content, indent=1
        )
        (ROOT / folder / "r.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
