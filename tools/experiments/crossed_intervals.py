"""Which interval of a mean over users and trainings holds, with the few trainings that anybody makes?

    python tools/experiments/crossed_intervals.py   # writes tests/data/recommendation/crossed.json, two minutes

Tables without an effect are drawn from two sources of chance, users and trainings, and a rest: in normal numbers, and as differences of
two hits (-1, 0 or 1) whose chances users and trainings shift. Each method claims an effect or not at 5%; what is kept is the share of false
claims. Every cell has a seed of its own, and its draws come in blocks that do not depend on how many are asked for, so that the first
2% can be drawn again exactly.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

FILE = Path(__file__).resolve().parents[2] / "tests" / "data" / "recommendation" / "crossed.json"
SIZES = [(users, trainings) for users in (10, 100, 300) for trainings in (2, 3, 5, 10)]
LAWS = [
    ("normal", 0.0, 0.0), ("normal", 1.0, 0.0), ("normal", 0.0, 0.1), ("normal", 0.3, 0.03), ("normal", 0.3, 0.1),
    ("normal", 1.0, 0.03), ("hits", 0.0, 0.0), ("hits", 0.0, 0.03), ("hits", 0.1, 0.03),
]  # fmt: skip  # Law, standard deviation of users and of trainings; the rest has 1, or what hits have
DRAWS, BLOCK = 1000, 20
BOOTSTRAPS = 99


def tables(law, of_users, of_trainings, users, trainings, rng):
    "A block of tables without an effect, (draws, users, trainings)."
    shape = (BLOCK, users, trainings)
    if law == "normal":
        parts = rng.normal(size=(BLOCK, users, 1)), rng.normal(size=(BLOCK, 1, trainings))
        return of_users * parts[0] + of_trainings * parts[1] + rng.normal(size=shape)
    liking, sides = rng.beta(0.3, 0.7, size=(BLOCK, users, 1)), []
    for _ in range(2):
        shift = of_users * rng.normal(size=(BLOCK, users, 1)) + of_trainings * rng.normal(
            size=(BLOCK, 1, trainings)
        )
        sides.append(rng.random(shape) < np.clip(liking + shift, 0, 1))
    return sides[0].astype(float) - sides[1]


def parts_of(y):
    "Means, and the three mean squares over the number of values: users, trainings, rest."
    _, users, trainings = y.shape
    of_user, of_training = y.mean(axis=2), y.mean(axis=1)
    mean = of_user.mean(axis=1)
    rest = y - of_user[:, :, None] - of_training[:, None] + mean[:, None, None]
    rest = (rest**2).sum(axis=(1, 2)) / ((users - 1) * (trainings - 1) * users * trainings)
    return mean, of_user.var(axis=1, ddof=1) / users, of_training.var(axis=1, ddof=1) / trainings, rest


def quantile(df):
    "The two-sided 5% quantile of Student's t."
    return stdtrit(np.maximum(df, 1.0), 0.975)


def welch(parts):
    "Satterthwaite's degrees of freedom of a sum of variances, each with its own."
    total = sum(v for v, _ in parts)
    return total**2 / np.maximum(sum(v**2 / df for v, df in parts), 1e-300)


def claims(y, rng):
    "Which tables each method claims an effect of."
    (_, users, trainings), (mean, of_users, of_trainings, rest) = y.shape, parts_of(y)
    own, u, s = np.maximum(of_users - rest, 0), users - 1, trainings - 1
    spread = of_users**2 / u + rest**2 / (u * s)
    df = (own + of_trainings) ** 2 / np.maximum(of_trainings**2 / s + spread, 1e-300)
    half = {
        "users only": quantile(u) * np.sqrt(of_users),
        "trainings only": quantile(s) * np.sqrt(of_trainings),
        "Satterthwaite": quantile(df) * np.sqrt(own + of_trainings),
        "Banerjee": np.sqrt(quantile(s) ** 2 * of_trainings + quantile(u) ** 2 * own),
        "double-counting sum": quantile(welch([(of_users, u), (of_trainings, s)]))
        * np.sqrt(of_users + of_trainings),
    }
    found = {name: np.abs(mean) > width for name, width in half.items()}
    found["pigeonhole bootstrap"] = np.array([outside(table, rng) for table in y])
    return found


def outside(table, rng):
    "Whether zero lies outside the percentile interval of users and trainings drawn with replacement."
    users, trainings = table.shape
    of_users = rng.multinomial(users, np.full(users, 1 / users), size=BOOTSTRAPS) / users
    of_trainings = rng.multinomial(trainings, np.full(trainings, 1 / trainings), size=BOOTSTRAPS) / trainings
    means = ((of_users @ table) * of_trainings).sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return not low <= 0 <= high


def cell(size, law, draws=DRAWS):
    "The number of claims of each method, from draws that are the first of all."
    (users, trainings), (name, *sds) = size, law
    rng = np.random.default_rng([users, trainings, LAWS.index(law)])
    counts = []
    for _ in range(draws // BLOCK):
        y = tables(name, *sds, users, trainings, rng)
        counts.append({method: int(claimed.sum()) for method, claimed in claims(y, rng).items()})
    return {method: [count[method] for count in counts] for method in counts[0]}


def main():
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    rows = []
    for users, trainings in SIZES:
        for law in LAWS:
            key = {"users": users, "trainings": trainings, "law": law[0], "sds": law[1:], "draws": DRAWS}
            for method, counts in cell((users, trainings), law).items():
                row = key | {"method": method, "share": sum(counts) / DRAWS, "first": counts[0]}
                rows.append(row)
        print(users, trainings, flush=True)
    text = ",\n".join(json.dumps(row) for row in rows)
    FILE.write_text(f'{{"block": {BLOCK}, "rows": [\n{text}\n]}}\n', "utf-8")


if __name__ == "__main__":
    main()
