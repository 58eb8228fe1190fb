"""Judge the lists of 3,000 simulated users with ranx, and store its number for every user.

Run from the top of the repository, in an environment with numpy and ranx: python tools/make_ranking_fixtures.py
Nothing here imports mmpc_analysis: what it writes must not depend on what it checks.

All vectors hold whole numbers and the last column breaks every tie, so that scores are exact and distinct in single precision, and
no library has to choose an order.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ranx import Qrels, Run, evaluate

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "data" / "ranking"
USERS, ITEMS, WIDTH, DEPTH = 3000, 400, 6, 50
CUTS = (5, 10, 20, 50)
METRICS = ("recall", "ndcg", "mrr", "hit_rate", "precision", "map")


def simulate(rng):
    "Vectors, and purchases that lean towards high scores."
    users = np.hstack([rng.integers(-6, 7, (USERS, WIDTH)), np.ones((USERS, 1), int)])
    items = np.hstack([rng.integers(-6, 7, (ITEMS, WIDTH)) * ITEMS, -np.arange(ITEMS)[:, None]])
    scores = users @ items.T
    parts = {"train": [], "valid": [], "test": []}
    for user in range(USERS):
        taste = scores[user] / (40 * ITEMS) + rng.gumbel(size=ITEMS)
        held = int(rng.choice([1, 2, 3, 8, 60], p=[0.4, 0.3, 0.15, 0.1, 0.05]))
        bought = np.argsort(-taste)[: held + 9]
        rng.shuffle(bought)
        for part, items_of in zip(parts, (bought[:8], bought[8:9], bought[9:]), strict=True):
            parts[part] += [(user, item) for item in items_of]
    return users, items, scores, {part: np.array(pairs) for part, pairs in parts.items()}


def main():
    users, items, scores, parts = simulate(np.random.default_rng(20))
    open_scores = scores.astype(float)
    for part in ("train", "valid"):
        open_scores[tuple(parts[part].T)] = -np.inf
    run, qrels = {}, {f"u{user:04d}": {} for user in range(USERS)}
    for user, item in parts["test"]:
        qrels[f"u{user:04d}"][f"i{item}"] = 1
    for user in range(USERS):
        best = sorted(range(ITEMS), key=lambda item, row=open_scores[user]: -row[item])[:DEPTH]
        run[f"u{user:04d}"] = {f"i{item}": float(open_scores[user, item]) for item in best}
    names = [f"{metric}@{k}" for metric in METRICS for k in CUTS]
    values = evaluate(Qrels(qrels), Run(run), names, return_mean=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        FOLDER / "ranx.npz",
        users=users.astype(np.int8),
        items=items.astype(np.int32),
        **{part: pairs.astype(np.int16) for part, pairs in parts.items()},
        **{name: np.asarray(values[name]) for name in names},
    )
    about = {
        "ranx": version("ranx"),
        "numpy": np.__version__,
        "users": USERS,
        "means": {name: float(np.mean(values[name])) for name in names},
        "map": "ranx divides map by the number of items held back, whatever the cut",
    }
    (FOLDER / "ranx.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    print(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
