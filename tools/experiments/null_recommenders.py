"""How often is something claimed of features that can make no difference? Trainings on noise, and studies drawn from them.

    python tools/experiments/null_recommenders.py --train   # writes tests/data/recommendation/null_pool.parquet, a quarter of an hour
    python tools/experiments/null_recommenders.py           # draws the studies and writes null_recommenders.json beside it, minutes

The pool: 500 simulated users of 80 items, each judged by one purchase. Every recommender is trained with 64 seeds on the true features
(`true`), twice on titles that are noise (`noise_titles`), and twice on true features of which the titles of eight items in ten were
hidden and filled with noise (`noise_fill`). Noise is drawn anew for each seed and copy, so the two copies of a seed can be exchanged: each
null holds exactly, whatever the users and the seeds are. LightGCN reads no features; for it there is one condition.
What is kept of a training is the place of each user's held-out purchase, 1 to 20, 0 beyond; recall and NDCG at any cut follow from it.
"""

from __future__ import annotations

import argparse
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", action="store_true", help="train the pool anew")
    if parser.parse_args().train:
        train()


if __name__ == "__main__":
    main()
