"""Simulate how often a level is said to be ahead of another where none is, and how often where one is.

Made-up studies from a fixed seed, each drawn by its own number, so that any of them can be drawn again alone. Two models are asked about items in listing
groups of one to eight; two semantic and three word metrics see one latent likeness, each through noise of its own, through a liking
of its own for some products (as distractors and as truths), and through a rising function of its own. Writes
tests/data/analysis/levels/null.json: for each condition the verdict of every study, a letter each. tests/analysis/test_levels.py holds the
shares against what is promised, and draws a fixed 2% again. Takes a few minutes on one core.

    python tools/experiments/levels_null.py ["name of a condition" ...]
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmpc_analysis.analysis.levels import level_contrast
from mmpc_analysis.metrics.cards import metric_card
from mmpc_analysis.scores.retrieval import CONTESTED

OUT = Path(__file__).parents[2] / "tests/data/analysis/levels/null.json"
METRICS = ("token_f1", "bleu", "chrf", "minilm_cosine", "minilm_bertscore_f1")
RISING = (np.exp, lambda x: x**3, np.tanh, lambda x: 5 * x - 2, np.arctan)
MODELS = ("a", "b")
LETTERS = {"more": "m", "less": "l", "depends on the metric": "d", "open": "o"}


@dataclass(frozen=True)
class Condition:
    "A made-up study, and what is false of it."

    groups: int = 80  # Listing groups
    items: int = 120  # Items in them
    noise: tuple[float, ...] = (1.0,) * 5  # Noise of each metric
    liking: float = 0.6  # Spread of what each metric likes, whoever is meant
    failed: float = 0.0  # Share of completions that fail
    lost: float = 0.0  # Share that the engine loses
    studies: int = 100  # How many are drawn
    false: str = "mld"  # Letters of verdicts that would be false


_LARGE = {"groups": 201, "items": 287}  # As many as the embedded catalogue's test split has
CONDITIONS = {
    "equal": Condition(studies=300),
    "equal, as large as the demo": Condition(**_LARGE, studies=50),
    "equal, 12 items": Condition(groups=10, items=12, studies=200),
    "equal, failures": Condition(failed=0.3, lost=0.1),
    "equal, no liking": Condition(liking=0.0, studies=40),
    "one pair equal": Condition(noise=(6.0, 6.0, 1.0, 1.0, 0.05), studies=150),
    "the metrics disagree": Condition(noise=(1.0, 1.0, 1.0, 0.2, 4.0), studies=50, false="ml"),
    "words noisier": Condition(noise=(2.0, 2.0, 2.0, 1.0, 1.0), studies=50, false="ld"),
    "words noisier, as large as the demo": Condition(
        **_LARGE, noise=(2.0, 2.0, 2.0, 1.0, 1.0), studies=20, false="ld"
    ),
    "words much noisier, as large as the demo": Condition(
        **_LARGE, noise=(3.0, 3.0, 3.0, 1.0, 1.0), studies=30, false="ld"
    ),
}


def made_up(condition: Condition, rng: np.random.Generator) -> pd.DataFrame:
    "Contests of one study."
    n, groups = condition.items, condition.groups
    extra = rng.permutation(np.repeat(np.arange(groups), 7))[: n - groups]
    group = np.sort(np.concatenate([np.arange(groups), extra]))
    count = min(CONTESTED, n - np.bincount(group).max())
    chosen = np.array([rng.choice(np.flatnonzero(group != g), count, False) for g in group])
    met = np.column_stack([np.arange(n), chosen])
    names = [f"i{k:03d}" for k in range(n)]
    ids = [json.dumps([names[j] for j in row]) for row in chosen]
    parents = [json.dumps([f"g{group[j]:03d}" for j in row]) for row in chosen]
    likeness = rng.normal(0, 1, (2, *met.shape)) + rng.normal(0, 0.5, groups)[group[met]]
    likeness[:, :, 0] += 1.5 + rng.normal(0, 0.7, (2, groups))[:, group]
    outcome = rng.choice(
        ["ok", "invalid", "engine_error"],
        (2, n),
        p=[1 - condition.failed - condition.lost, condition.failed, condition.lost],
    )
    parts = []
    for metric, noise, rising in zip(METRICS, condition.noise, RISING, strict=True):
        liked = rng.normal(0, condition.liking, groups)[group[met]]
        seen = rising(likeness / 4 + noise * rng.normal(0, 1, likeness.shape) / 4 + liked / 4)
        digits = (seen[:, :, :1] > seen[:, :, 1:]) * 1 + (seen[:, :, :1] >= seen[:, :, 1:])
        for k, model in enumerate(MODELS):
            failed = {"ok": None, "invalid": "1" * chosen.shape[1], "engine_error": ""}
            won = [
                "".join(map(str, row)) if failed[o] is None else failed[o]
                for row, o in zip(digits[k], outcome[k], strict=True)
            ]
            parts.append(
                pd.DataFrame(
                    {
                        "item_id": names, "parent_id": [f"g{g:03d}" for g in group], "category": "c", "task": "image_to_text",
                        "model": model, "role": "model", "precision": "", "prompt": "", "base": "", "family": "F", "parameters": 1e9,
                        "metric": metric, "level": metric_card(metric).level, "outcome": outcome[k],
                        "value": [(w.count("2") + w.count("1") / 2) / len(w) if w else np.nan for w in won],
                        "distractors": ids, "distractor_parents": parents, "won": won,
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def verdicts(name: str, study: int) -> str:
    "A letter for each model of one study."
    rng = np.random.default_rng([sorted(CONDITIONS).index(name), study])
    table = level_contrast(made_up(CONDITIONS[name], rng), draws=499)
    found = table[(table["category"] == "all") & (table["metric"] == "") & (table["term"] != "beaten")]
    return "".join(LETTERS[verdict] for verdict in found.sort_values("model")["verdict"])


def main() -> None:
    "Draw the conditions that are named, or all of them, and keep the others."
    found = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() and sys.argv[1:] else {}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or CONDITIONS:
        condition = CONDITIONS[name]
        drawn = [verdicts(name, k) for k in range(condition.studies)]
        wrong = np.mean([any(letter in condition.false for letter in letters) for letters in drawn])
        right = np.mean([letters.count("m") / len(MODELS) for letters in drawn])
        found[name] = asdict(condition) | {"verdicts": " ".join(drawn)}
        print(f"{name}: {wrong:.1%} with a false claim, 'more' of {right:.1%} of models", flush=True)
        ordered = {key: found[key] for key in CONDITIONS if key in found}
        OUT.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
