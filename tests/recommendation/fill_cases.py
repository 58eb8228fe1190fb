"A small made-up shop for the tests of fills."

import numpy as np

from mmpc_analysis.recommendation.visible_features import VisibleFeatures, mask


def world(seed=0, n=60, width=7, users=40):
    "Truth, the other modality, categories and purchases of a small shop; some items are twins in the other modality."
    rng = np.random.default_rng(seed)
    items = np.array([f"item-{i:04d}" for i in rng.permutation(10 * n)[:n]], dtype=object)
    truth = rng.standard_normal((n, width)).astype(np.float32)
    other = rng.standard_normal((n, 5)).astype(np.float32)
    other[n // 2 : n // 2 + 4], other[0], other[1] = other[0], 0, np.nan
    categories = np.array([f"c{i}" for i in rng.integers(0, 6, n)], dtype=object)
    purchases = np.stack([rng.integers(0, users, 4 * n), rng.integers(0, n - 5, 4 * n)], axis=1)
    return items, truth, other, categories, purchases


def shown_of(w, hidden):
    items, truth, other, categories, purchases = w
    return VisibleFeatures(items, mask(truth, hidden), other, categories, purchases)


def hidden_at(rate, n=60, seed=1):
    return np.random.default_rng(seed).random(n) < rate


def plain_counts(w):
    "Shared buyers by sets."
    buyers = [set() for _ in w[0]]
    for user, item in w[4]:
        buyers[item].add(user)
    return np.array([[0 if a is b else len(a & b) for b in buyers] for a in buyers], float)
