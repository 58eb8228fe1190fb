"""Whole trainings beside MMRec's: the same data, split and settings, and the control with permuted features.

    python tools/experiments/mmrec_runs.py            # writes tests/data/recommendation/mmrec/our_runs.json, an hour or less
    python tools/experiments/mmrec_runs.py --check    # compares what is written with MMRec's means

MMRec draws from three generators of its own, so single runs cannot agree; means over seeds have to. MMRec was run with five seeds (two
for the control), and five say little about a standard deviation: for VBPR in set A theirs is 0.0024, that of sixty runs of ours 0.007.
So ours are twenty, and the standard error of the difference is made of the standard deviation of both together.

Every recommender is compared by its first twenty seeds, in a band of two standard errors. VBPR in set A stands outside of it, 2.7 above, with
losses equal in all epochs. So forty more seeds were trained: they gave 0.6161 beside MMRec's 0.6151, and a plain transcription of the
equations (loops in Python, torch's own Adam, twelve seeds) 0.617. All sixty are kept and compared apart; the band is that of the first twenty.
MMGCN has no whole trainings beside MMRec, whose were stored for VBPR, BM3 and FREEDOM only; its losses, gradients and steps are MMRec's.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch

from mmpc_analysis.recommendation.ranking import rank
from mmpc_analysis.recommendation.splits import split_of_codes
from mmpc_analysis.recommendation.training import Training, fit

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "recommendation" / "mmrec"
SETS = {
    "A": Training(learning_rate=1e-3, batch_size=256, epochs=40, patience=20),
    "B": Training(learning_rate=5e-3, batch_size=256, epochs=40, patience=5),
}
SETS["A_permuted_features"] = SETS["A"]
MODELS = ("freedom", "vbpr", "bm3")
DECLARED = 20  # Seeds that are compared
SEEDS = {"A/vbpr": range(1, 61)}  # Others have as many as are compared


def big(permuted=False):
    "The split and the features of MMRec's runs; permuted gives item i the features of item perm[i]."
    data = np.load(DATA / "data_big.npz")
    split = split_of_codes(
        *(data[p] for p in ("train", "valid", "test")), int(data["n_users"]), int(data["n_items"])
    )
    order = data["perm"] if permuted else slice(None)
    return split, {"text": data["text_feat"][order], "image": data["image_feat"][order]}


def run(model, chosen, seed):
    "One training, and its test metrics with the train items masked only, as MMRec masks."
    split, features = big(permuted=chosen == "A_permuted_features")
    fitted = fit(model, split, features, training=SETS[chosen], seed=seed, progress=False)
    test = rank(fitted.scorer, split, "test", cuts=(20,), mask=("train",)).means()
    return {
        "seed": seed,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "valid_recall@20": float(fitted.history["recall@20"].max()),
        "test_recall@20": test["recall@20"],
        "test_ndcg@20": test["ndcg@20"],
        "first_epochs": [round(value, 4) for value in fitted.history["recall@20"][:8]],
    }


def comparison(ours, theirs):
    "Mean test recall@20 of both, and their difference in standard errors, for every set and model."
    rows = {}
    for name, runs in ours.items():
        values, mmrec, n = (
            np.array([r["test_recall@20"] for r in runs]),
            theirs[name]["test_recall@20"],
            theirs[name]["n"],
        )
        squares = (len(values) - 1) * values.var(ddof=1) + (n - 1) * mmrec["sd"] ** 2
        error = np.sqrt(squares / (len(values) + n - 2) * (1 / len(values) + 1 / n))
        rows[name] = {"ours": values.mean(), "mmrec": mmrec["mean"], "error": error}
        rows[name]["in_errors"] = (values.mean() - mmrec["mean"]) / error
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare what is written")
    parser.add_argument("--again", action="store_true", help="train what is written too")
    asked = parser.parse_args()
    path = DATA / "our_runs.json"
    written = json.loads(path.read_text("utf-8"))["runs"] if path.exists() and not asked.again else {}
    versions = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
    torch.set_num_threads(1)
    for name in [] if asked.check else [f"{chosen}/{model}" for chosen in SETS for model in MODELS]:
        runs = {row["seed"]: row for row in written.get(name, [])}
        chosen, model = name.split("/")
        written[name] = [
            runs.get(seed) or run(model, chosen, seed) for seed in SEEDS.get(name, range(1, DECLARED + 1))
        ]
        said = {
            "made_by": "tools/experiments/mmrec_runs.py",
            "versions": versions,
            "runs": dict(sorted(written.items())),
        }
        path.write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    theirs = json.loads((DATA / "runs.json").read_text("utf-8"))["runs"]
    first = {name: runs[:DECLARED] for name, runs in written.items()}
    more = {name: runs for name, runs in written.items() if len(runs) > DECLARED}
    told = [*comparison(first, theirs).items()]
    told += [(f"{name}, {len(more[name])} seeds", row) for name, row in comparison(more, theirs).items()]
    for name, row in told:
        print(f"{name:28}" + "  ".join(f"{key} {value:8.4f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
