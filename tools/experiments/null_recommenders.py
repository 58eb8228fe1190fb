"""How often is something claimed of features that can make no difference? Trainings on noise, and studies drawn from them.

    python tools/experiments/null_recommenders.py --train   # writes tests/data/recommendation/null_pool.parquet, a quarter of an hour
    python tools/experiments/null_recommenders.py           # draws the studies and writes null_recommenders.json beside it, minutes

The pool: 500 simulated users of 80 items, each judged by one purchase. Every recommender is trained with 64 seeds on the true features
(`true`), twice on titles that are noise (`noise_titles`), and twice on true features of which the titles of eight items in ten were
hidden and filled with noise (`noise_fill`). Noise is drawn anew for each seed and copy, so the two copies of a seed can be exchanged: each
null holds exactly, whatever the users and the seeds are. LightGCN reads no features; for it there is one condition.
Studies: a thousand for every recommender and null, of 250 of the users and five seeds of the pool, with fixed numbers of the draws. With identical
features every condition is the true one, trained with other seeds; with noise fills the floor and three fills are noise; with noise titles
the titles and their shuffled control are. True titles against noise are no null: what is found there is the power of five trainings.
What is kept of a training is the place of each user's held-out purchase, 1 to 20, 0 beyond; recall and NDCG at any cut follow from it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

POOL = Path(__file__).resolve().parents[2] / "tests" / "data" / "recommendation" / "null_pool.parquet"
USERS, ITEMS, KINDS, SEEDS, PLACES = 500, 80, 6, 64, 20
WIDTHS = {"text": 24, "image": 32}
RECOMMENDERS = ("vbpr", "bm3", "freedom", "mmgcn", "lightgcn")
HIDDEN_SHARE = 0.8
COLUMNS = ["recommender", "condition", "copy", "seed", "places"]
SHARES = POOL.with_name("null_recommenders.json")
NULLS = (
    "identical features",
    "noise fills",
    "noise titles",
    "true titles",
)  # The last is none: what is found is power
KINDS_OF_CLAIMS = ("use", "gain", "recovered", "interval", "lead")
DRAWS, TRAININGS, CUT = 1000, 5, 10  # Studies of each case, trainings of a condition, length of the lists


def shop():
    "The split, and features in which an item's kind shows through noise."
    from mmpc_analysis.catalogue.purchases import SHOP_PREFERENCES, simulate_interactions
    from mmpc_analysis.recommendation.splits import split_interactions

    rng, kind = np.random.default_rng(0), np.arange(ITEMS) % KINDS
    items = pd.DataFrame(
        {
            "item_id": [f"i{k:03d}" for k in range(ITEMS)],
            "category": [f"c{k}" for k in kind],
            "parent_id": [f"p{k // 2}" for k in range(ITEMS)],
            "brand": [f"b{k % 7}" for k in range(ITEMS)],
        }
    )
    features = {
        name: (rng.normal(size=(KINDS, width))[kind] + rng.normal(size=(ITEMS, width))).astype("float32")
        for name, width in WIDTHS.items()
    }
    bought = simulate_interactions(items, USERS, 1, SHOP_PREFERENCES)
    return split_interactions(bought, items["item_id"]), features


def noisy(features, condition, seed, copy):
    "The features of a training: noise as long as the true titles, for all items or for the hidden ones."
    rng = np.random.default_rng([seed, copy, len(condition)])
    text = features["text"]
    noise = (text.std() * rng.normal(size=text.shape)).astype("float32")
    hidden = {
        "true": np.zeros(ITEMS, bool),
        "noise_titles": np.ones(ITEMS, bool),
        "noise_fill": np.random.default_rng(1).permutation(ITEMS) < HIDDEN_SHARE * ITEMS,
    }[condition]
    return features | {"text": np.where(hidden[:, None], noise, text)}


def cells():
    "What is trained: recommender, condition and copy."
    for name in RECOMMENDERS:
        yield name, "true", 0
        if name != "lightgcn":
            yield from ((name, c, copy) for c in ("noise_titles", "noise_fill") for copy in (0, 1))


def train():
    "The pool."
    import torch

    from mmpc_analysis.recommendation.ranking import rank
    from mmpc_analysis.recommendation.training import Training, fit, recommender_card

    torch.set_num_threads(1)
    small = Training(learning_rate=1e-2, batch_size=512, epochs=16, patience=3, select="recall@10")
    big = replace(small, batch_size=1024, epochs=12)
    sizes = {name: recommender_card(name).settings(embedding_size=32) for name in RECOMMENDERS}
    sizes["mmgcn"] = replace(sizes["mmgcn"], n_layers=2, image_latent=32)
    (split, features), began = shop(), time.process_time()
    pool = pd.read_parquet(POOL) if POOL.exists() else pd.DataFrame(columns=COLUMNS)
    there = set(zip(pool["recommender"], pool["condition"], pool["copy"], strict=True))
    for name, condition, copy in (cell for cell in cells() if cell not in there):
        how = {"settings": sizes[name], "training": big if name == "mmgcn" else small, "progress": False}
        rows = []
        for seed in range(SEEDS):
            fitted = fit(name, split, noisy(features, condition, seed, copy), seed=seed, **how)
            ranked = rank(fitted.scorer, split, "test", (PLACES,))
            place = np.where(ranked.hits.any(axis=1), ranked.hits.argmax(axis=1) + 1, 0).astype("uint8")
            rows.append((name, condition, copy, seed, place.tobytes()))
        pool = pd.concat([pool, pd.DataFrame(rows, columns=COLUMNS)], ignore_index=True)
        pool.to_parquet(POOL, compression="zstd", compression_level=19, index=False)
        print(f"{name} {condition} {copy}: {time.process_time() - began:.0f} s", flush=True)


# ---------------------------------------------------------------- studies


def read_pool():
    "Recommender, condition and copy: (seeds, users) places of the held-out purchases."
    found = {}
    for key, rows in pd.read_parquet(POOL).groupby(["recommender", "condition", "copy"]):
        rows = rows.sort_values("seed")
        found[key] = np.stack([np.frombuffer(places, np.uint8) for places in rows["places"]])
    return found


def null_study(pool, recommender, null, draw):
    "Recall of half of the users after five trainings, (250, 5), by condition, in which features can make no difference."
    rng = np.random.default_rng([draw, RECOMMENDERS.index(recommender), NULLS.index(null)])
    users = rng.choice(USERS, USERS // 2, replace=False)
    seeds = rng.choice(SEEDS, 4 * TRAININGS, replace=False).reshape(4, TRAININGS)
    swap = rng.integers(2, size=(2, TRAININGS))

    def hits(condition, which, copies=0):
        places = np.stack([pool[recommender, condition, copy] for copy in (0, 1) if copy <= np.max(copies)])
        own = places[np.broadcast_to(copies, which.shape), which][:, users]
        return ((own > 0) & (own <= CUT)).T.astype(float)

    true = {name: hits("true", seeds[k]) for k, name in enumerate(("oracle", "shuffled", "zeros", "m"))}
    if null == "noise titles":
        for name, copies in (("oracle", swap[0]), ("shuffled", 1 - swap[0])):
            true[name] = hits("noise_titles", seeds[0], copies)
    if null == "true titles":
        true["shuffled"] = hits("noise_titles", seeds[0], 0 * swap[0])
    if null == "noise fills":
        true["shuffled"] = hits("noise_titles", seeds[0], 0 * swap[0])
        for name, k, copies in (
            ("zeros", 0, swap[0]),
            ("m", 0, 1 - swap[0]),
            ("n", 1, swap[1]),
            ("o", 1, 1 - swap[1]),
        ):
            true[name] = hits("noise_fill", seeds[k], copies)
    where = {"oracle": ("none", 0.0, "oracle")}
    return {where.get(name, ("text", 1.0, name)): values for name, values in true.items()}


def null_claims(values):
    "Which kinds of claims a study makes of features; each of them is false."
    from mmpc_analysis.analysis.multiplicity import holm
    from mmpc_analysis.recommendation.recovery import _leads, _of_one

    rows = _of_one(values, "zeros", 0.95, True)
    gains = np.array([row["p_value"] for row in rows if row["term"] == "gain"])
    shown = np.zeros(len(gains), bool)
    shown[np.isfinite(gains)] = holm(gains[np.isfinite(gains)]) < 0.05
    shares = [row for row in rows if row["term"] == "recovered"]
    given = np.array([np.isfinite(row["estimate"]) for row in shares])
    own = next(row for row in shares if row["fill"] == "m")
    leads = [row["p_adjusted"] for row in _leads(values, 0.95, True)]
    return {
        "use": next(row["p_value"] for row in rows if row["term"] == "use") < 0.05,
        "gain": bool(shown.any()),
        "recovered": bool((shown & given).any()),
        "interval": bool(own["low"] > 0 or own["high"] < 0),
        "lead": bool((np.array(leads) < 0.05).any()),
    }


def cases():
    "Recommender, null, and the kinds of claims that are false under it."
    for name in RECOMMENDERS:
        yield name, "identical features", KINDS_OF_CLAIMS
        if name != "lightgcn":
            yield name, "noise fills", KINDS_OF_CLAIMS[1:]
            yield name, "noise titles", ("use",)
            yield name, "true titles", ("use",)


def draw_studies(pool, recommender, null, draws):
    "The draws, among the given ones, in which each kind of claim was made."
    found = {kind: [] for kind in KINDS_OF_CLAIMS}
    for draw in draws:
        for kind, claimed in null_claims(null_study(pool, recommender, null, draw)).items():
            found[kind] += [draw] if claimed else []
    return found


def write_shares():
    "Shares of false claims, and in which draws they were made."
    pool, rows = read_pool(), []
    for recommender, null, kinds in cases():
        found = draw_studies(pool, recommender, null, range(DRAWS))
        for kind in kinds:
            row = {"recommender": recommender, "null": null, "claim": kind, "share": len(found[kind]) / DRAWS}
            rows.append(row | {"draws": DRAWS, "claimed_in": found[kind]})
            print(row, flush=True)
    how = {"users": USERS // 2, "trainings": TRAININGS, "metric": f"recall@{CUT}", "seeds": SEEDS}
    text = ",\n".join(json.dumps(row) for row in rows)
    SHARES.write_text(f'{{"how": {json.dumps(how)}, "rows": [\n{text}\n]}}\n', "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", action="store_true", help="train the pool, or what it lacks")
    train() if parser.parse_args().train else write_shares()


if __name__ == "__main__":
    main()
