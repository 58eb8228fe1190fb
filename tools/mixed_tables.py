"""Made-up score tables for checking mixed models: six models in two families, nine categories, every item answered by each.

The numbers follow from the seed alone (numpy's PCG64), so that R and Python see the same table without storing it.
"""

import numpy as np
import pandas as pd

CATEGORIES = (
    "All_Beauty", "Arts_Crafts_and_Sewing", "Electronics", "Home_and_Kitchen", "Industrial_and_Scientific",
    "Musical_Instruments", "Office_Products", "Toys_and_Games", "Video_Games",
)  # fmt: skip
MODELS = (
    ("gemma-3-4b", "Gemma-3", 4.3e9), ("gemma-3-12b", "Gemma-3", 12.2e9), ("gemma-3-27b", "Gemma-3", 27.4e9),
    ("qwen2.5-vl-7b", "Qwen2.5-VL", 8.3e9), ("qwen2.5-vl-32b", "Qwen2.5-VL", 33.5e9), ("qwen2.5-vl-72b", "Qwen2.5-VL", 73.4e9),
)  # fmt: skip
FORMULAS = {
    "A": "value ~ log10p*family + category + (1|item)",
    "B0": "value ~ log10p*family + category + (1|item) + (0+log10p|category)",
    "C": "value ~ log10p*family + category + (1|item) + (1|model)",
    "D": "value ~ log10p*family + category + (1+log10p||item)",
    "E": "value ~ log10p*family + (1+log10p|category) + (1|item)",
}


def simulate(items, seed, sd_item=0.12, sd_model=0.015, sd_slope=0.01, sd_item_slope=0.01, sigma=0.15):
    "A table of `items` a category: item, category, model, family, log10p, value. Rows go item by item."
    rng = np.random.default_rng(seed)
    n, m = items * len(CATEGORIES), len(MODELS)
    size = np.log10([p for *_, p in MODELS])
    family = np.array([f == "Qwen2.5-VL" for _, f, _ in MODELS])
    category = np.repeat(np.arange(len(CATEGORIES)), items)
    level = rng.normal(0.45, 0.05, len(CATEGORIES))[category][:, None]
    slope = 0.02 + rng.normal(0, sd_slope, len(CATEGORIES))[category][:, None]
    skill = rng.normal(0, sd_model, m) + 0.03 * family + 0.01 * family * (size - 10)
    hard = rng.normal(0, sd_item, (n, 1)) + rng.normal(0, sd_item_slope, (n, 1)) * (size - 10)
    value = level + slope * (size - 10) + skill + hard + rng.normal(0, sigma, (n, m))
    item, model = np.divmod(np.arange(n * m), m)
    return pd.DataFrame(
        {
            "item": item,
            "category": pd.Categorical.from_codes(category[item], list(CATEGORIES)),
            "model": pd.Categorical.from_codes(model, [name for name, *_ in MODELS]),
            "family": pd.Categorical.from_codes(family[model].astype(int), ["Gemma-3", "Qwen2.5-VL"]),
            "log10p": size[model],
            "value": value.ravel(),
        }
    )


def gaps(frame, share):
    "Take every so-manieth row out, in a pattern that depends on nothing random."
    return frame if not share else frame[(frame.index * 7919) % 1000 >= share * 1000]
