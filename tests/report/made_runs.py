"Runs made up so that their truth is known: scores, floors and completions of models that behave in one way each."

import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from mmpc_analysis import store, tables

SIX = {"a-s": 1e9, "a-m": 4e9, "a-l": 2e10, "b-s": 2e9, "b-m": 9e9, "b-l": 5e10}
THREE = {name: SIX[name] for name in ("a-s", "a-m", "a-l")}
TWO = {name: SIX[name] for name in ("a-s", "a-l")}
LEVELS = {"chrf": "word", "minilm_cosine": "semantic", "length_ratio": "faithfulness"} | {
    "ssim": "pixel", "mse": "pixel", "lpips_alex": "patch", "effnet_cosine": "semantic",
}  # fmt: skip
TEXTS = {"chrf": 1.0, "minilm_cosine": 1.0}
PICTURES = {"ssim": 1.0, "lpips_alex": -1.0, "effnet_cosine": 1.0}
FLOORS = {"template": 0.15, "shuffled": 0.1, "oracle": 0.95}
_CATEGORIES = ("Cups", "Garden_Tools", "Toys")


def merit(model: str) -> float:
    "A model's skill where the larger ones of each family are better."
    return 0.5 + 0.1 * (np.log10(SIX[model]) - 10)


def made(
    models: dict[str, Callable | float],
    metrics: dict[str, float] = TEXTS,
    floors: dict[str, float] = FLOORS,
    items: int = 40,
    categories: int = 3,
    noise: float = 0.08,
    seed: int = 0,
) -> pd.DataFrame:
    "Scores of models with a skill each, in every category as many items; a metric of sign -1 is better when lower."
    rng, rows = np.random.default_rng(seed), []
    everyone = {m: (skill, "model") for m, skill in models.items()}
    everyone |= {f: (skill, "ceiling" if f == "oracle" else "floor") for f, skill in floors.items()}
    for metric, sign in metrics.items():
        for category in _CATEGORIES[:categories]:
            hard = rng.normal(0, 0.08, items)
            for name, (skill, role) in everyone.items():
                level = np.array([skill(category, k) if callable(skill) else skill for k in range(items)])
                value = np.clip(level + hard + rng.normal(0, noise, items), 0.01, 0.99)
                for k in range(items):
                    rows.append(
                        (
                            f"{category}-{k:03d}",
                            category,
                            name,
                            role,
                            metric,
                            value[k] if sign > 0 else 1 - value[k],
                        )
                    )
    frame = pd.DataFrame(rows, columns=["item_id", "category", "model", "role", "metric", "value"])
    frame["task"] = "text_to_image" if set(metrics) & {*PICTURES, "mse"} else "image_to_text"
    frame["level"] = frame["metric"].map(LEVELS)
    frame["family"] = frame["model"].str[0].where(frame["role"] == "model", "")
    frame["parameters"] = frame["model"].map(SIX)
    frame["parent_id"] = frame["item_id"].str[:-1] + (frame["item_id"].str[-1].astype(int) // 2).astype(str)
    return frame.assign(outcome="ok")


def lost(scores: pd.DataFrame, model: str, which: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    "The same where the engine of one model failed on some items."
    gone = scores["model"].eq(model) & which(scores)
    return scores.assign(
        value=scores["value"].mask(gone), outcome=scores["outcome"].mask(gone, "engine_error")
    )


def _number(scores: pd.DataFrame) -> pd.Series:
    "The place of an item in its category."
    return scores["item_id"].str[-3:].astype(int)


def _alike(scores: pd.DataFrame) -> pd.DataFrame:
    "Every model with the scores of the first."
    first = scores[scores["model"] == "a-s"].set_index(["item_id", "metric"])["value"]
    same = pd.Series(
        [first[key] for key in zip(scores["item_id"], scores["metric"], strict=True)], scores.index
    )
    return scores.assign(value=scores["value"].mask(scores["role"].eq("model"), same))


def _spoilt(scores: pd.DataFrame) -> pd.DataFrame:
    "Models alike, of which two are worse by something that varies."
    worse = scores["model"].map({"a-l": 0.1, "b-s": 0.3}).fillna(0.0)
    drop = worse * np.random.default_rng(2).uniform(0.5, 1.5, len(scores))
    return scores.assign(value=(scores["value"] - drop).clip(0.01))


def _hard_half() -> pd.DataFrame:
    "The worst model's engine fails on the hard half, so that its mean over what is left is the best."

    def skill(base):
        return lambda category, k: base - 0.3 * (k % 2)

    scores = made({"a-s": skill(0.5), "a-m": skill(0.55), "a-l": skill(0.6), "b-s": skill(0.52)})
    return lost(scores, "b-s", lambda rows: _number(rows) % 2 == 1)


def _prompts() -> pd.DataFrame:
    "Two wordings for every model, of which the second costs all of them something."
    scores = made({m: merit(m) for m in THREE})
    models = scores["role"].eq("model")
    drop = np.random.default_rng(1).normal(0.1, 0.05, models.sum())
    again = scores[models].assign(prompt="curt", value=lambda rows: (rows["value"] - drop).clip(0.01))
    return pd.concat([scores.assign(prompt=np.where(models, "plain", "")), again], ignore_index=True)


def _missing(scores: pd.DataFrame) -> pd.DataFrame:
    "The same where a fifth of the items was never asked, another fifth for every model."
    asked = [
        store.hash_unit(f"{i} {m}") > 0.2 for i, m in zip(scores["item_id"], scores["model"], strict=True)
    ]
    return scores[np.array(asked) | scores["role"].ne("model")]


RUNS = {
    "identical models": lambda: _alike(made(dict.fromkeys(THREE, 0.5))),
    "one model": lambda: made({"a-m": 0.5}),
    "one category": lambda: made({m: merit(m) for m in SIX}, categories=1),
    "all failed": lambda: made(dict.fromkeys(THREE, 0.5)).assign(
        outcome=lambda s: s["outcome"].mask(s["role"].eq("model"), "invalid"),
        value=lambda s: s["value"].mask(s["role"].eq("model"), 0.0),
    ),
    "hard half lost": _hard_half,
    "bigger worse": lambda: made({m: 1 - merit(m) for m in SIX}, PICTURES),
    "an error": lambda: made({m: merit(m) for m in THREE}, {"mse": -1.0}),
    "families crossed": lambda: made(
        {"a-s": 0.5, "a-m": 0.56, "a-l": 0.63, "b-s": 0.72, "b-m": 0.78, "b-l": 0.85}

    ).assign(parameters=lambda s: s["parameters"].where(s["family"] != "a", s["parameters"] * 100)),
    "one failed": lambda: made({m: merit(m) for m in THREE}).assign(
        outcome=lambda s: s["outcome"].mask(s["model"].eq("a-s"), "refused"),
        value=lambda s: s["value"].mask(s["model"].eq("a-s"), 0.0),
    ),
    "all lost a little": lambda: lost(lost(made({m: merit(m) for m in TWO}), "a-s", lambda s: _number(s) < 10), "a-l", lambda s: _number(s) > 29),
    "one of two lost": lambda: lost(made({m: merit(m) for m in TWO}), "a-s", lambda s: _number(s) < 10),
    "leader tied": lambda: _alike(made({"a-s": 0.6, "a-m": 0.6, "a-l": 0.55, "b-s": 0.3})).pipe(_spoilt),
    "all ties": lambda: made(dict.fromkeys(THREE, 0.5)).assign(value=0.5),
    "no floors": lambda: made({m: merit(m) for m in SIX}, PICTURES, floors={}),
    "directionless": lambda: made({m: merit(m) for m in THREE}, {"length_ratio": 1.0}),
    "below the template": lambda: made({m: merit(m) - 0.25 for m in THREE}, floors={"template": 0.6, "oracle": 0.95}),
    "two prompts": _prompts,
    "3% lost": lambda: lost(made({m: merit(m) for m in SIX}), "b-m", lambda s: _number(s) == 7),
    "30% lost": lambda: lost(made({m: merit(m) for m in SIX}), "b-l", lambda s: _number(s) % 10 < 3),
    "20% missing": lambda: _missing(made({m: merit(m) for m in SIX})),
    "two models": lambda: made({m: merit(m) for m in TWO}),
    "two alike in one category": lambda: made(dict.fromkeys(TWO, 0.5), categories=1, noise=0.01),
}  # fmt: skip


def scores_of(name: str) -> pd.DataFrame:
    "The scores of one made-up run, as declared."
    return tables.validate(RUNS[name](), tables.SCORES)


def completions_of(scores: pd.DataFrame) -> pd.DataFrame:
    "What was completed for those scores; larger models took longer."
    rows = scores[scores["role"] == "model"].drop_duplicates(["item_id", "task", *tables.SYSTEM]).copy()
    size = rows["parameters"].fillna(1e9)
    told = {"precision": "float32", "key": "k", "input_tokens": 10.0, "output_tokens": 5.0}
    rows = rows.assign(**told, seconds=size / 1e9, text="a cup", raw_text='{"title": "a cup"}')
    return tables.validate(rows, tables.COMPLETIONS)


def items_of(scores: pd.DataFrame) -> pd.DataFrame:
    "The items of those scores."
    items = scores.drop_duplicates("item_id")[["item_id", "parent_id", "category"]]
    return items.assign(title="a cup", split="test")


_BLOCK = "(?:p|li|h1|h2|h3|h5|td|th|caption|dt|dd|tr|summary|figcaption|footer|header|article)"


def texts_of(path: str) -> dict[str, list[str]]:
    "The text of every paragraph, item and heading of a report, by section."
    page = Path(path).read_text(encoding="utf-8")
    page = re.sub(r"<(script|style|svg|table)\b.*?</\1>", "", page, flags=re.S)
    found = {}
    for anchor, body in re.findall(r'<section id="([^"]+)".*?>(.*?)</section>', page, flags=re.S):
        blocks = re.findall(f"<{_BLOCK}[^>]*>(.*?)</{_BLOCK}>", body, flags=re.S)
        found[anchor] = [html.unescape(re.sub("<[^>]+>", "", b)).strip() for b in blocks]
    found["head"] = [html.unescape(re.sub("<[^>]+>", " ", page.split("<section")[0].split("<body")[-1]))]
    found["left out"] = [
        html.unescape(re.sub("<[^>]+>", "", b))
        for b in re.findall('<p class="quiet left-out">(.*?)</p>', page, flags=re.S)
    ]
    return found
