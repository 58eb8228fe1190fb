"""Simulate how often the intervals of the comparison pages hold the truth, and how often their tests reject it.

Two thousand made-up studies for each design, from a fixed seed. Writes tests/data/analysis/comparison/coverage.json, which
tests/analysis/test_comparison.py holds against the promised levels. Takes about fifteen minutes on one core. Each kind has its own
random stream, so kinds that are named are simulated again and the others stay as they were stored.

    python tools/experiments/coverage_comparison.py [studies] [kind ...]
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from mmpc_analysis.analysis.association import COEFFICIENTS, correlation_interval, permutation_test
from mmpc_analysis.analysis.comparison import _contrasts, _moments, _other_views, pair_intervals
from mmpc_analysis.analysis.correlation import bootstrap_means, equal_means_p, expanded
from mmpc_analysis.analysis.decision import _choice
from mmpc_analysis.analysis.equivalence import correlation_equivalence_p, one_sided
from mmpc_analysis.analysis.multiplicity import holm
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


def found_in(values, strata, clusters, rng, reach=np.inf):
    "Contrasts of all pairs of six models; NaN where a model has no score."
    gaps = np.stack([values[:, i] - values[:, j] for i, j in PAIRS], axis=1)
    parts = []
    for c in np.unique(strata):
        here = gaps[strata == c]
        items = (~np.isnan(here)).sum(0)
        part = {"items": items, "left_out": len(here) - items, "failed": np.zeros(15, bool), "common": True}
        parts.append(part | _moments(here, clusters[strata == c], DRAWS, rng))
    return _contrasts([(str(i), str(j)) for i, j in PAIRS], parts, reach)


def differing_scores(rng, n, kind):
    "Scores of six exchangeable models that mostly agree, or hardly ever do and wildly."
    if kind == "heavy":
        return 0.1 * rng.standard_t(2, (n, 6))
    shared, own = rng.random((n, 1)), rng.random((n, 6))
    if kind == "binary":
        shared, own = shared.round(), 1 - shared.round()
    return np.where(rng.random((n, 6)) < (0.02 if kind == "binary" else 0.03), own, shared)


DESIGNS = {  # Listing groups in each category, most items in one, law of the scores, share missing
    "9 x 40 items": ([40] * 9, 1, "normal", 0.0),
    "14 items": ([14], 1, "normal", 0.0),
    "30 items, lopsided": ([30], 1, "lopsided", 0.0),
    "60 clusters of 1 to 4 items": ([60], 4, "normal", 0.0),
    "60 items, a fifth missing": ([60], 1, "normal", 0.2),
    "9 x 20 groups of 1 to 8 items": ([20] * 9, 8, "normal", 0.0),
    "200 items, heavy tails": ([200], 1, "heavy", 0.0),
    "200 items, models differ on 3%": ([200], 1, "sparse", 0.0),
    "200 items, 0 or 1, models differ on 2%": ([200], 1, "binary", 0.0),
}


def study(rng, sizes, most, law, missing):
    "One made-up study without any difference between models."
    groups = [rng.integers(1, most + 1, k) for k in sizes]
    clusters = np.repeat(np.arange(sum(sizes)), np.concatenate(groups))
    strata = np.repeat(np.arange(len(sizes)), [g.sum() for g in groups])
    if law in ("normal", "lopsided"):
        shared = rng.normal(0, 0.15, (sum(sizes), 6))[clusters] * (most > 1)
        values = answers(rng, np.zeros(6), len(clusters), law == "lopsided") + shared
    else:
        values = differing_scores(rng, len(clusters), law)
    values = np.where(rng.random(values.shape) < missing, np.nan, values)
    return found_in(values, strata, clusters, rng, 1.0 if law in ("sparse", "binary") else np.inf)


def differences(rng, studies):
    "Intervals and tests of paired differences, and the critical values of fifteen pairs."
    out = {}
    for name, design in DESIGNS.items():
        hits, critical, tied, items = {}, [], [], []
        for _ in range(studies):
            contrasts = study(rng, *design)
            found = pair_intervals(contrasts, 0.95)
            inside = np.array([found.low <= 0, found.high >= 0, found.low_joint <= 0, found.high_joint >= 0])
            inside |= np.isnan([found.low, found.high, found.low_joint, found.high_joint])
            hits.setdefault("interval of one pair", []).append(inside[:2, 0].all())
            hits.setdefault("joint intervals of fifteen pairs", []).append(inside[2:].all())
            hits.setdefault("a false claim by max-T", []).append(found.p_joint.min() <= 0.05)
            hits.setdefault("a false claim by Holm", []).append(holm(found.p_value).min() <= 0.05)
            hits.setdefault("a false claim uncorrected", []).append(found.p_value.min() <= 0.05)
            signed = _other_views(contrasts.units[0])[0]
            hits.setdefault("signed-rank test at 5%", []).append(signed <= 0.05)
            critical.append(found.critical)
            tied.append(np.mean([tie is not None for tie in contrasts.ties]))
            items.append(np.mean(contrasts.items / (contrasts.items + contrasts.left_out)))
        out[name] = {key: float(np.mean(v)) for key, v in hits.items()}
        known = np.array(critical)[np.isfinite(critical)]
        out[name]["near ties"], out[name]["items of a pair"] = float(np.mean(tied)), float(np.mean(items))
        places = ("least", "median", "most")
        out[name]["critical value"] = dict(zip(places, np.quantile(known, [0, 0.5, 1]).tolist(), strict=True))
        out[name]["critical value from 2.5 to 4"] = float(np.mean((known >= 2.5) & (known <= 4)))
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
        row = _choice(found, cost, [], 0.05, 0.95)
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
    path = Path(__file__).resolve().parents[2] / "tests/data/analysis/comparison/coverage.json"
    stored, wanted = json.loads(path.read_text("utf-8")), sys.argv[2:]
    kinds = (models_as_units, wrong_question, margins, differences, concordances, correlations)
    result = {
        "made_by": "tools/experiments/coverage_comparison.py",
        "studies": studies,
        "draws": DRAWS,
        "level": 0.95,
    }
    for number, kind in enumerate(kinds):
        if wanted and kind.__name__ not in wanted and stored["studies"] == studies:
            result[kind.__name__] = stored[kind.__name__]
            continue
        result[kind.__name__] = kind(np.random.default_rng([20261125, number]), studies)
        print(kind.__name__, json.dumps(result[kind.__name__], indent=1), flush=True)
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
