"""Simulate how often the intervals of the comparison pages hold the truth, and how often their tests reject it.

Two thousand made-up studies for each design, from a fixed seed. Writes tests/data/analysis/comparison/coverage.json, which
tests/analysis/test_comparison.py holds against the promised levels. Takes about ten minutes on one core.

    python tools/experiments/coverage_comparison.py [studies]
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from mmpc_analysis.analysis.association import COEFFICIENTS, correlation_interval, permutation_test
from mmpc_analysis.analysis.comparison import Contrasts, _moments, _other_views, _studentised
from mmpc_analysis.analysis.correlation import bootstrap_means, equal_means_p, expanded
from mmpc_analysis.analysis.decision import _choice
from mmpc_analysis.analysis.equivalence import correlation_equivalence_p, one_sided
from mmpc_analysis.analysis.multiplicity import holm, max_t
from mmpc_analysis.analysis.stability import concordance

SIZE = np.log10([4.3e9, 12.2e9, 27.4e9, 8.3e9, 33.5e9, 73.4e9])
FAMILY = np.array(list("AAABBB"))
APART = np.array([0.1, 0.3, 0.2, 0.6, 0.5, 0.7])  # Mean scores of six models that differ clearly
NEAR = np.array([0.50, 0.52, 0.51, 0.53, 0.505, 0.54])  # and of six that hardly do
DRAWS = 399
PAIRS = [(i, j) for i in range(6) for j in range(i + 1, 6)]


def answers(rng, truth, n, lopsided=False):
    "Scores of six models on n items that they share."
    hard = rng.normal(0, 0.2, (n, 1))
    noise = rng.exponential(0.15, (n, 6)) - 0.15 if lopsided else rng.normal(0, 0.15, (n, 6))
    return truth + hard + noise


def correlations(rng, studies):
    "Intervals of size and score over items."
    out = {}
    for name, truth, sizes in (
        ("apart, 9 x 40", APART, [40] * 9),
        ("apart, 30", APART, [30]),
        ("near, 9 x 40", NEAR, [40] * 9),
        ("near, 30", NEAR, [30]),
    ):
        strata, n = np.repeat(np.arange(len(sizes)), sizes), sum(sizes)
        hits = {}
        for _ in range(studies):
            values = answers(rng, truth, n)
            drawn, mean = bootstrap_means(values, np.arange(n), DRAWS, rng, strata), values.mean(0)
            for within in (None, FAMILY):
                whole = equal_means_p(mean, drawn, np.zeros(6) if within is None else FAMILY) > 0.05
                for term, measure in COEFFICIENTS.items():
                    low, high = np.nanquantile(measure(SIZE, drawn, within), expanded(0.95, n - len(sizes)))
                    bare = low - 1e-9 <= measure(SIZE, truth, within) <= high + 1e-9
                    key = term + ("" if within is None else " within families")
                    hits.setdefault(key, []).append(bool(whole or bare))
                    hits.setdefault(
                        key + ", without the rule for models that cannot be told apart", []
                    ).append(bool(bare))
        out[name] = {key: float(np.mean(v)) for key, v in hits.items()}
    return out


def concordances(rng, studies):
    "Intervals of Kendall's W over items."
    out = {}
    for name, spread in (("the same order", 0.0), ("orders that differ", 0.15)):
        truth = APART + np.random.default_rng(5).normal(0, spread, (9, 6))
        target, hits = float(concordance(truth)), []
        for _ in range(studies // 4):
            parts = [bootstrap_means(answers(rng, row, 40), np.arange(40), DRAWS, rng) for row in truth]
            low, high = np.nanquantile(concordance(np.stack(parts, 1)), [0.025, 0.975])
            hits.append(low - 1e-9 <= target <= high + 1e-9)
        out[f"{name}, W = {target:.2f}"] = float(np.mean(hits))
    return out


def models_as_units(rng, studies):
    "Exact intervals and tests with models as the sample."
    out = {}
    for rho in (0.0, 0.5, 0.9):
        hits = []
        for _ in range(studies):
            x = rng.normal(size=6)
            y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=6)
            low, high = correlation_interval(stats.pearsonr(x, y).statistic, 6)
            hits.append(low <= rho <= high)
        out[f"exact interval of r, six models, rho = {rho}"] = float(np.mean(hits))
    p = {"pooled": [], "within families": []}
    for _ in range(studies):
        y = rng.normal(size=6)
        p["pooled"].append(permutation_test(SIZE, y, "spearman").p_value)
        p["within families"].append(
            permutation_test(SIZE, y + 5 * (FAMILY == "B"), "pearson", FAMILY).p_value
        )
    for name, values in p.items():
        out[f"permutation test at 5%, {name}"] = float((np.array(values) <= 0.05).mean())
    edge = [
        correlation_equivalence_p(
            stats.pearsonr(x := rng.normal(size=60), 0.3 * x + np.sqrt(0.91) * rng.normal(size=60)).statistic,
            60,
            0.3,
        )
        for _ in range(studies)
    ]
    out["equivalence of a correlation at its bound, 60 models"] = float((np.array(edge) <= 0.05).mean())
    return out


def found_in(values, strata, clusters, rng):
    "Contrasts of all pairs of six models."
    gaps = np.stack([values[:, i] - values[:, j] for i, j in PAIRS], axis=1)
    parts = [_moments(gaps[strata == c], clusters[strata == c], DRAWS, rng) for c in np.unique(strata)]
    labels = np.unique(clusters)
    units = np.stack([gaps[clusters == k].mean(0) for k in labels]) if len(labels) < len(gaps) else gaps
    return Contrasts(
        tuple((str(i), str(j)) for i, j in PAIRS), *_studentised(parts, units), units, len(gaps), 0
    )


def differences(rng, studies):
    "Intervals and tests of paired differences."
    out = {}
    designs = {
        "9 x 40 items": ([40] * 9, 1, False),
        "14 items": ([14], 1, False),
        "30 items, lopsided": ([30], 1, True),
        "60 clusters of 1 to 4 items": ([60], 4, False),
    }
    for name, (sizes, most, lopsided) in designs.items():
        hits = {}
        for _ in range(studies):
            groups = [rng.integers(1, most + 1, k) for k in sizes]
            clusters = np.repeat(np.arange(sum(sizes)), np.concatenate(groups))
            strata = np.repeat(np.arange(len(sizes)), [g.sum() for g in groups])
            shared = rng.normal(0, 0.15, (sum(sizes), 6))[clusters] * (most > 1)
            found = found_in(
                answers(rng, np.zeros(6), len(clusters), lopsided) + shared, strata, clusters, rng
            )
            t = found.estimate / found.error
            alone, joint = max_t(t[:1], found.t[:, :1]), max_t(t, found.t)
            each = np.array([max_t(t[[j]], found.t[:, [j]]).p_adjusted[0] for j in range(15)])
            hits.setdefault("interval of one pair", []).append(abs(t[0]) <= alone.critical)
            hits.setdefault("joint intervals of fifteen pairs", []).append(np.abs(t).max() <= joint.critical)
            hits.setdefault("a false claim by max-T", []).append(joint.p_adjusted.min() <= 0.05)
            hits.setdefault("a false claim by Holm", []).append(holm(each).min() <= 0.05)
            hits.setdefault("a false claim uncorrected", []).append(each.min() <= 0.05)
            hits.setdefault("signed-rank test at 5%", []).append(_other_views(found.units[:, 0])[0] <= 0.05)
        out[name] = {key: float(np.mean(v)) for key, v in hits.items()}
    return out


def margins(rng, studies):
    "Equivalence, non-inferiority and the choice of a model, where the truth lies exactly on the margin."
    kinds = {
        "non-inferiority at the margin": [],
        "equivalence at the margin": [],
        "a model chosen that is on the margin": [],
    }
    models = [str(i) for i in range(6)]
    import pandas as pd

    cost = pd.Series(np.arange(6.0) + 1, models)
    for _ in range(studies):
        values = answers(rng, np.array([0.0, 0, 0, 0, 0, 0.05]), 100)
        found = found_in(values, np.zeros(100), np.arange(100), rng)
        at = PAIRS.index((0, 5))
        not_worse, not_better = one_sided(found, 0.05)
        kinds["non-inferiority at the margin"].append(not_worse[at] <= 0.05)
        kinds["equivalence at the margin"].append(max(not_worse[at], not_better[at]) <= 0.05)
        row = _choice(found, models, cost, 0.05, 0.95)
        kinds["a model chosen that is on the margin"].append(row["established"] and row["chosen"] != "5")
    return {key: float(np.mean(v)) for key, v in kinds.items()}


def wrong_question(rng, studies):
    "An item-only test asked whether scale matters in general, where it does not and models merely differ."
    out = {}
    x = SIZE - np.array([SIZE[f == FAMILY].mean() for f in FAMILY])
    for spread in (0.0, 0.005, 0.02):
        items, models = [], []
        for _ in range(studies):
            n, truth = 1000, rng.normal(0, spread, 6)
            noise = rng.normal(
                0, 0.15 / np.sqrt(n), 6
            )  # the residual's part in six means of a thousand items
            means = truth + noise
            centred = means - np.array([means[f == FAMILY].mean() for f in FAMILY])
            slope = x @ centred / (x @ x)
            items.append(abs(slope) / (0.15 / np.sqrt(n) / np.sqrt(x @ x)) > 1.959964)
            error = np.sqrt(((centred - slope * x) ** 2).sum() / 3 / (x @ x))
            models.append(abs(slope / error) > stats.t.ppf(0.975, 3))
        out[f"models' own sd {spread:g}"] = {
            "items as the only unit": float(np.mean(items)),
            "models as the unit": float(np.mean(models)),
        }
    return out


def main():
    "Simulate every kind and write the file."
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    kinds = (models_as_units, wrong_question, margins, differences, concordances, correlations)
    result = {
        "made_by": "tools/experiments/coverage_comparison.py",
        "studies": studies,
        "draws": DRAWS,
        "level": 0.95,
    }
    for number, kind in enumerate(kinds):
        result[kind.__name__] = kind(np.random.default_rng([20261125, number]), studies)
        print(kind.__name__, json.dumps(result[kind.__name__], indent=1), flush=True)
    path = Path(__file__).resolve().parents[2] / "tests/data/analysis/comparison/coverage.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
