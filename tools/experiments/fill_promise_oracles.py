"""Thresholds that MAPIE finds for the same made-up known products, by learn-then-test with a fixed sequence.

Run where MAPIE is installed, which nothing else here needs; the package itself is not imported. Writes tests/data/fill/promise_oracles.json: for each case its seed, what was
asked for, the thresholds that were tried, and the laxest that MAPIE calls valid, null where it finds none. A test draws the same products and compares.

    python tools/experiments/fill_promise_oracles.py
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parents[2] / "tests/data/fill/promise_oracles.json"
TRIED = [round(float(t), 3) for t in np.arange(0.98, 0.3, -0.02)]


def products(
    seed: int,  # Number of the case
) -> tuple[np.ndarray, np.ndarray, float, float]:  # (n,) confidence, (n,) wrong, max_wrong, sure
    "Known products of one case."
    rng = np.random.default_rng([17, seed])
    n = int(rng.choice([60, 150, 400, 1000]))
    confidence = rng.beta(rng.uniform(2, 12), 1, n)
    if seed % 3 == 0:
        confidence = confidence.round(1)  # Heavy ties
    wrong = rng.random(n) < np.minimum((1 - confidence) * rng.uniform(0.3, 1.5), 1)
    return (
        confidence,
        wrong.astype(float),
        float(rng.choice([0.05, 0.1, 0.2, 0.3])),
        float(rng.choice([0.8, 0.9, 0.95])),
    )


def tried(
    confidence: np.ndarray,  # (n,) Confidence
    max_wrong: float,  # Largest share
    sure: float,  # Probability
) -> list[float]:  # From the first with a fifth of the products and enough of them for a flawless start
    "Thresholds in the order in which they are tried."
    fewest = next(m for m in range(1, 10_000) if (1 - max_wrong) ** m <= 1 - sure)
    accepted = [(confidence >= t).sum() for t in TRIED]
    least = max(fewest, 0.2 * len(confidence))
    return [t for t, count in zip(TRIED, accepted, strict=True) if count >= least]


def laxest(
    confidence: np.ndarray,  # (n,) Confidence
    wrong: np.ndarray,  # (n,) 1 where wrong
    max_wrong: float,  # Largest share
    sure: float,  # Probability
    order: list[float],  # Thresholds
) -> float | None:  # The last that MAPIE rejects in this order
    """What MAPIE's p-values of a binary risk and its fixed sequence give.

    MAPIE rounds risk times number up, so the risk is given a trifle below k / n: 3 / 49 * 49 is 3.0000000000000004 in floats and would count as 4.
    """
    from mapie.risk_control.fwer_control import FWERFixedSequenceTesting
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

    at = [confidence >= t for t in order]
    n, k = (
        np.array(counts, dtype=float)
        for counts in zip(*[(some.sum(), wrong[some].sum()) for some in at], strict=True)
    )
    p_values = compute_hoeffding_bentkus_p_value(k / n * (1 - 1e-12), n, max_wrong, binary=True)[:, 0]
    rejected = FWERFixedSequenceTesting(n_starts=1).run(p_values, 1 - sure)
    return order[int(rejected.max())] if len(rejected) else None


def main():
    cases = []
    for seed in range(200):
        confidence, wrong, max_wrong, sure = products(seed)
        order = tried(confidence, max_wrong, sure)
        found = laxest(confidence, wrong, max_wrong, sure, order) if order else None
        cases.append(
            {"seed": seed, "max_wrong": max_wrong, "sure": sure, "tried": len(order), "laxest": found}
        )
    versions = {name: version(name) for name in ("mapie", "numpy", "scipy")} | {
        "python": sys.version.split()[0]
    }
    OUT.write_text(
        json.dumps({"versions": versions, "thresholds": TRIED, "cases": cases}) + "\n", encoding="utf-8"
    )
    has = [case["laxest"] is not None for case in cases]
    print(len(cases), "cases,", sum(has), "with a threshold")


if __name__ == "__main__":
    main()
