"""Simulate how often intervals of means hold the truth, and how wide they are.

Two thousand made-up studies for each design, from fixed seeds, in fifty blocks; the hits of each block are kept, so that a test can redraw the first block of every
design and must find the same. Writes tests/data/scores/coverage_means.json. Takes about a minute on one core.

    python tools/experiments/coverage_means.py
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special, stats

from mmpc_analysis.scores import intervals

SEED, BLOCKS, STUDIES = 11, 50, 40
OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "scores" / "coverage_means.json"


@dataclass(frozen=True)
class Law:
    "How scores fall, as a function of a normal deviate, so that items of a group can be alike."

    value: Callable  # From normal deviates to scores
    mean: float  # Expected score
    low: float = 0.0  # Ends of the scale
    high: float = 1.0
    promise: str = "wide"  # strict: 93 to 97%; wide: never under 93%; none: shown, not promised


def beyond(deviate, share):
    "Uniform numbers for a share of the deviates, NaN for the others."
    above = (special.ndtr(deviate) - (1 - share)) / share
    return np.where(above > 0, above, np.nan)


def inflated(share):
    "A share of uniform scores, the others 0."
    return lambda e: np.nan_to_num(beyond(e, share))


def heads(share):
    return lambda e: (special.ndtr(e) > 1 - share).astype(float)


def long_tail(median, sigma):
    "Lognormal scores, cut off at 1, and their mean."
    edge = -np.log(median) / sigma
    mean = median * np.exp(sigma**2 / 2) * stats.norm.cdf(edge - sigma) + stats.norm.sf(edge)
    return (lambda e: np.minimum(1, median * np.exp(sigma * e))), float(mean)


def failing(e):
    "Four scores in five near 0.6, the others 0."
    return np.where(
        np.isnan(beyond(e, 0.8)), 0, 0.6 + 0.1 * special.ndtri(np.nan_to_num(beyond(e, 0.8), nan=0.5))
    )


LAWS = {
    "normal": Law(lambda e: 0.5 + 0.1 * e, 0.5, promise="strict"),
    "normal, low": Law(lambda e: 0.2 + 0.05 * e, 0.2, promise="strict"),
    "normal, no ends": Law(lambda e: 0.5 + 0.1 * e, 0.5, -np.inf, np.inf, "strict"),
    "9 in 10 are 0": Law(inflated(0.1), 0.05),
    "7 in 10 are 0": Law(inflated(0.3), 0.15),
    "0/1, half": Law(heads(0.5), 0.5),
    "0/1, 1 in 10": Law(heads(0.1), 0.1),
    "0/1, 1 in 50": Law(heads(0.02), 0.02),
    "lopsided": Law(*long_tail(0.1, 0.5)),
    "9 in 10 are 0, cosine": Law(inflated(0.1), 0.05, -1.0),
    "difference, 8 in 10 are 0": Law(
        lambda e: np.nan_to_num(beyond(e, 0.1)) - np.nan_to_num(beyond(-e, 0.1)) / 2, 0.025, -1.0
    ),
    "difference of 0/1": Law(lambda e: heads(0.15)(e) - heads(0.05)(-e), 0.1, -1.0),
    "long tail": Law(*long_tail(0.1, 1.0), promise="none"),
    "1 in 5 fails": Law(failing, 0.48, promise="none"),
}
GROUPED = [
    "normal",
    "9 in 10 are 0",
    "7 in 10 are 0",
    "0/1, half",
    "0/1, 1 in 10",
    "0/1, 1 in 50",
    "lopsided",
]
CATEGORIES = (4, 6, 9, 12, 20, 30, 45, 60, 101)  # Items of the pooled designs, 287 in all
MIX = {  # Laws of the categories in turn
    "normal": ["normal", "normal, low"],
    "9 in 10 and 7 in 10 are 0": ["9 in 10 are 0", "7 in 10 are 0"],
    "0/1": ["0/1, half", "0/1, 1 in 10", "0/1, 1 in 50"],
}


def designs():
    "Every design: name to laws by category, items by category, correlation inside a group, fewest groups."
    out = {}
    for name in LAWS:
        for n in (5, 10, 20, 40, 287):
            out[f"single|{name}|{n}"] = ([name], [n], None, intervals.FEWEST_GROUPS)
    for name in ("normal", "9 in 10 are 0", "0/1, half", "lopsided"):
        for n in (2, 3, 4):
            out[f"few|{name}|{n}"] = ([name], [n], None, 2)
    for name in GROUPED:
        for n in (20, 40, 287):
            for alike in (0.3, 0.8):
                out[f"grouped {alike}|{name}|{n}"] = ([name], [n], alike, intervals.FEWEST_GROUPS)
    for name, laws in MIX.items():
        for alike in (None, 0.3, 0.8):
            kinds = [laws[k % len(laws)] for k in range(len(CATEGORIES))]
            out[f"pooled {alike or 0}|{name}|287"] = (kinds, CATEGORIES, alike, intervals.FEWEST_GROUPS)
    return out


def group_sizes(rng, items):
    "Groups of 1 to 8 items."
    sizes = []
    while sum(sizes) < items:
        sizes.append(min(int(rng.integers(1, 9)), items - sum(sizes)))
    return sizes


def draw(rng, law, items, alike):
    "Sums and counts of the groups of one block, one column per study; groups that a study has not count 0."
    if alike is None:
        values = law.value(rng.standard_normal((items, STUDIES)))
        return values, np.ones_like(values)
    total, count = np.zeros((2, items, STUDIES))
    for study in range(STUDIES):
        sizes = group_sizes(rng, items)
        group = np.repeat(np.arange(len(sizes)), sizes)
        shared, own = rng.standard_normal(len(sizes)), rng.standard_normal(items)
        values = law.value(np.sqrt(alike) * shared[group] + np.sqrt(1 - alike) * own)
        total[: len(sizes), study] = np.bincount(group, values)
        count[: len(sizes), study] = sizes
    return total, count


def block(number, name, design):
    "Studies of one block with an interval, how many of them hold the truth, and their mean width."
    kinds, sizes, alike, fewest = design
    rng = np.random.default_rng([SEED, *name.encode(), number])
    laws = [LAWS[kind] for kind in kinds]
    parts = [draw(rng, law, items, alike) for law, items in zip(laws, sizes, strict=True)]
    total, count = (np.concatenate(x) for x in zip(*parts, strict=True))
    strata = np.repeat(np.arange(len(sizes)), [len(p[0]) for p in parts])
    truth = np.dot(sizes, [law.mean for law in laws]) / sum(sizes)
    before, intervals.FEWEST_GROUPS = intervals.FEWEST_GROUPS, fewest
    try:
        spread = intervals.mean_spread(total, count, strata)
        low, high, _ = intervals.mean_bounds(spread, laws[0].low, laws[0].high)
    finally:
        intervals.FEWEST_GROUPS = before
    given = np.isfinite(low)
    hits = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
    return (
        int(given.sum()),
        int(hits[given].sum()),
        float((high - low)[given].mean()) if given.any() else np.nan,
    )


def summary(blocks):
    "All blocks of a design as one row; the first block apart."
    given, hits, width = (np.array(x) for x in zip(*blocks, strict=True))
    share = hits.sum() / given.sum() if given.sum() else np.nan
    return {
        "given": int(given.sum()),
        "coverage": round(float(share), 4),
        "width": round(float(np.nansum(width * given) / max(given.sum(), 1)), 4),
        "first": [int(given[0]), int(hits[0]), None if np.isnan(width[0]) else round(float(width[0]), 9)],
    }


def others(values, low, high, rng, draws=399):
    "The bounds that other methods give for studies of single items."
    studies, n = values.shape
    mean, error = values.mean(1), values.std(1, ddof=1) / np.sqrt(n)
    t = stats.t.ppf(0.975, n - 1)
    picked = rng.integers(n, size=(studies, draws, n))
    drawn = np.take_along_axis(values[:, None, :].repeat(draws, 1), picked, axis=2)
    means, errors = drawn.mean(2), drawn.std(2, ddof=1) / np.sqrt(n)
    tail = stats.norm.cdf(-t)
    out = {"Student's t": (mean - t * error, mean + t * error)}
    out["percentiles"] = tuple(np.quantile(means, [0.025, 0.975], axis=1))
    out["percentiles, expanded"] = tuple(np.quantile(means, [tail, 1 - tail], axis=1))
    with np.errstate(all="ignore"):
        d = values - mean[:, None]
        speed = np.nan_to_num((d**3).sum(1) / (6 * (d**2).sum(1) ** 1.5))
        below = (means < mean[:, None]).mean(1) + (means == mean[:, None]).mean(1) / 2
        bias = stats.norm.ppf(np.clip(below, 1 / draws, 1 - 1 / draws))
        at = [stats.norm.cdf(bias + (bias + z) / (1 - speed * (bias + z))) for z in (-1.959964, 1.959964)]
        out["BCa"] = tuple(
            np.array([np.quantile(m, q) for m, q in zip(means, share, strict=True)]) for share in at
        )
        turned = np.where(errors > 0, (means - mean[:, None]) / errors, 0.0)
        quantiles = np.quantile(turned, [0.975, 0.025], axis=1)
    out["bootstrap t"] = tuple(np.clip(mean - q * error, low, high) for q in quantiles)
    z2, share = 1.959964**2, (mean - low) / (high - low)
    middle, half = (
        (share + z2 / 2 / n) / (1 + z2 / n),
        np.sqrt(z2 / n * (share * (1 - share) + z2 / 4 / n)) / (1 + z2 / n),
    )
    out["Wilson, for any score"] = (
        low + (high - low) * (middle - half),
        low + (high - low) * (middle + half),
    )
    spread = intervals.mean_spread(values.T, np.ones_like(values.T))
    out["effective binomial"] = intervals.mean_bounds(spread, low, high)[:2]
    return out


def compared(studies=500):
    "Coverage and width of each method, for the page."
    rows = []
    for name in ("normal", "9 in 10 are 0", "0/1, half", "0/1, 1 in 10", "0/1, 1 in 50", "lopsided"):
        for n in (5, 10, 40):
            rng, law = np.random.default_rng([SEED, n, *name.encode()]), LAWS[name]
            values = law.value(rng.standard_normal((studies, n)))
            for method, (low, high) in others(values, law.low, law.high, rng).items():
                hit = (low <= law.mean + 1e-12) & (law.mean - 1e-12 <= high)
                rows.append(
                    {
                        "law": name,
                        "n": n,
                        "method": method,
                        "coverage": round(float(hit.mean()), 3),
                        "width": round(float((high - low).mean()), 3),
                    }
                )
    return rows


def main():
    table = {
        name: summary([block(k, name, design) for k in range(BLOCKS)]) for name, design in designs().items()
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    text = {"seed": SEED, "studies": BLOCKS * STUDIES, "designs": table, "methods": compared()}
    lines = (
        json.dumps(text, ensure_ascii=False, indent=None).replace('}, "', '},\n"').replace("}, {", "},\n{")
    )
    OUT.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
