"""Levels are compared by what completions win: numbers that no rising change of a metric moves, and verdicts that outlive no choice of metric."""

import importlib.util
import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis import tables
from mmpc_analysis.analysis.claims import level_claims
from mmpc_analysis.analysis.levels import FEWEST_CONTESTED, level_contrast
from mmpc_analysis.metrics.cards import METRICS
from mmpc_analysis.report.level_contrasts import level_words
from mmpc_analysis.scores.contests import contest
from mmpc_analysis.tables import CLAIMS

SPEC = importlib.util.spec_from_file_location("levels_null", ROOT / "tools/experiments/levels_null.py")
NULL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(NULL)
STORED = json.loads(NULL.OUT.read_text(encoding="utf-8"))
CATALOGUE = str(ROOT / "mmpc_analysis/data/catalogue")
ITEMS = pd.read_csv(f"{CATALOGUE}/items.csv", dtype=str)
WORDS, MEANING = ["bleu", "chrf", "rouge_l", "token_f1", "jaccard"], ["minilm_cosine", "minilm_bertscore_f1"]
CHANGES = {
    "cube": lambda v: v**3,
    "exp": np.exp,
    "rank": lambda v: pd.Series(v).rank().to_numpy(),
    "turned": lambda v: -np.arctan(5 * v),
}


def lead(contrasts, category="all", metric=""):
    rows = contrasts.query("category == @category and metric == @metric and term == 'semantic over word'")
    return rows.set_index("model")


@pytest.fixture(scope="module")
def answers():
    "Two models: the title without its first word, and the title of the next item."
    some = ITEMS[ITEMS["split"] == "test"].groupby("category").head(3)
    about = {
        "task": "image_to_text", "family": "F", "parameters": 1e9, "precision": "float32", "role": "model", "prompt": "p", "base": "",
        "key": "k", "outcome": "ok", "image": None, "raw_text": "", "finish_reason": "stop",
        "input_tokens": 1, "output_tokens": 1, "seconds": 0.1,
    }  # fmt: skip
    titles = {"short": some["title"].str.split().str[-1], "next": some["title"].shift(-1).fillna("thing")}
    rows = [
        some[["item_id", "parent_id", "category"]].assign(model=m, text=t, **about) for m, t in titles.items()
    ]
    return pd.concat(rows, ignore_index=True)


def held(answers, metrics=(*WORDS, *MEANING)):
    return contest(answers, ITEMS, root=CATALOGUE, run=CATALOGUE, metrics=list(metrics))


@pytest.mark.parametrize("change", CHANGES)
def test_no_monotone_change_of_a_metric_moves_a_bit(answers, change, monkeypatch):
    "The case: cosine cubed. Its siblings: exp, ranks within a call, and an error that falls as the likeness rises, at either level."
    before = held(answers)
    for name in ("token_f1", "minilm_cosine"):
        card = METRICS[name]
        module, function = card.compute.split(":")
        compute = getattr(importlib.import_module(module), function)

        def changed(*given, compute=compute):
            return CHANGES[change](compute(*given))

        better = "lower" if change == "turned" else "higher"
        monkeypatch.setitem(METRICS, name, replace(card, compute=changed, better=better, failure=0))
    after = held(answers)
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    pd.testing.assert_frame_equal(level_contrast(before), level_contrast(after), check_exact=True)


def test_one_word_metric_alone_turns_nothing(answers):
    "The case: token F1 alone. Whatever is left out of a level, a verdict never goes from more to less."
    whole = held(answers)
    for metrics in (
        [*WORDS, *MEANING],
        ["token_f1", *MEANING],
        ["bleu", *MEANING],
        ["token_f1", "minilm_cosine"],
        [*WORDS, "minilm_cosine"],
    ):
        verdicts = lead(level_contrast(whole[whole["metric"].isin(metrics)]))["verdict"]
        assert not {"more", "less"} & set(verdicts) or len(metrics) == len(WORDS + MEANING)
        if "token_f1" in metrics and len(metrics) < 4:
            assert set(verdicts) <= {"one metric", "open"}


def study(**chances):
    "Contests of 60 items with ten others each, won with a chance by each metric."
    rng, rows = np.random.default_rng(0), []
    for metric, chance in chances.items():
        rows += [
            (f"i{k:02d}", metric, "".join(np.where(rng.random(10) < chance, "2", "0"))) for k in range(60)
        ]
    table = pd.DataFrame(rows, columns=["item_id", "metric", "won"])
    others = {f"i{k:02d}": json.dumps([f"i{(k + s) % 60:02d}" for s in range(1, 11)]) for k in range(60)}
    about = {
        "category": "c",
        "task": "image_to_text",
        "model": "m",
        "role": "model",
        "precision": "",
        "prompt": "",
        "family": "F",
    }
    table = table.assign(
        **about, parameters=1e9, outcome="ok", level=table["metric"].map(lambda m: METRICS[m].level)
    )
    table["distractors"] = table["distractor_parents"] = table["item_id"].map(others)
    return table.assign(value=table["won"].str.count("2") / 10)


@pytest.mark.parametrize(
    ("chances", "verdict"),
    [
        ({"token_f1": 0.6, "bleu": 0.6, "minilm_cosine": 0.9, "minilm_bertscore_f1": 0.9}, "more"),
        ({"token_f1": 0.9, "bleu": 0.9, "minilm_cosine": 0.6, "minilm_bertscore_f1": 0.6}, "less"),
        (
            {"token_f1": 0.5, "bleu": 0.95, "minilm_cosine": 0.75, "minilm_bertscore_f1": 0.75},
            "depends on the metric",
        ),
        ({"token_f1": 0.6, "bleu": 0.88, "minilm_cosine": 0.9, "minilm_bertscore_f1": 0.9}, "open"),
        ({"token_f1": 0.6, "minilm_cosine": 0.9, "minilm_bertscore_f1": 0.9}, "one metric"),
    ],
)
def test_every_verdict_has_its_numbers_and_its_words(chances, verdict):
    contrasts = level_contrast(study(**chances))
    tables.validate(contrasts, tables.CONTRASTS)
    whole = lead(contrasts).iloc[0]
    pairs = contrasts.query("category == 'all' and term == 'semantic over word' and metric != ''")
    assert whole["verdict"] == verdict and len(pairs) == (len(chances) - 2) * 2
    assert whole["estimate"] == pytest.approx(pairs["estimate"].mean())
    assert (
        (pairs["critical"] >= 1.9).all()
        and whole["low"] <= pairs["estimate"].min()
        and pairs["estimate"].max() <= whole["high"]
    )
    words = " ".join(level_words(contrasts, pd.DataFrame(level_claims(contrasts)), "image_to_text"))
    said = {
        "more": "one holds off more of them by meaning than at the word level", "less": "one holds off fewer",
        "depends on the metric": "for one the answer depends", "open": "cannot be told apart", "one metric": "nothing is said of levels",
    }  # fmt: skip
    assert [verdict == name for name in said] == [text in words for text in said.values()]


def test_metrics_that_order_everything_alike_are_one_voice():
    "The squared error and its logarithm are one metric, whatever they are called."
    table = study(token_f1=0.6, minilm_cosine=0.9, minilm_bertscore_f1=0.9)
    twin = table[table["metric"] == "token_f1"].assign(metric="jaccard")
    assert lead(level_contrast(pd.concat([table, twin])))["verdict"].tolist() == ["one metric"]


def test_nothing_is_said_where_nothing_is_known():
    table = study(token_f1=0.6, bleu=0.6, minilm_cosine=0.9, minilm_bertscore_f1=0.9)
    few = table[table["item_id"].str[1:].astype(int) < FEWEST_CONTESTED - 1]
    assert (
        lead(level_contrast(few))["verdict"].tolist() == ["too few"]
        and lead(level_contrast(few))["low"].isna().all()
    )
    alone = level_contrast(table[table["level"] == "word"])
    assert level_words(alone, pd.DataFrame(level_claims(alone), columns=CLAIMS.names), "image_to_text") == []
    lost = table.assign(won="", value=np.nan)
    assert level_contrast(lost).empty and level_contrast(table.head(0)).empty


def test_failures_pull_every_level_to_chance_and_no_level_ahead():
    table = study(token_f1=0.9, bleu=0.9, minilm_cosine=0.9, minilm_bertscore_f1=0.9)
    failed = table["item_id"].str[1:].astype(int) % 2 == 0
    half = table.assign(won=table["won"].where(~failed, "1" * 10), value=table["value"].where(~failed, 0.5))
    before, after = (
        level_contrast(t).query("category == 'all' and term == 'beaten'").set_index("metric")["estimate"]
        for t in (table[~failed], half)
    )
    assert np.allclose(after, (before + 0.5) / 2)
    gone = half.assign(won=half["won"].where(~failed, ""), value=half["value"].where(~failed))
    rows = level_contrast(gone).query("category == 'all' and term == 'beaten' and metric == ''")
    assert rows["items"].tolist() == [30, 30] and rows["n"].tolist() == [30, 30]


def test_an_item_that_one_metric_does_not_know_counts_at_no_level():
    table = study(token_f1=0.9, bleu=0.9, minilm_cosine=0.9, minilm_bertscore_f1=0.9)
    hole = (table["item_id"] == "i07") & (table["metric"] == "bleu")
    assert set(level_contrast(table.assign(won=table["won"].mask(hole, "")))["items"]) == {59}


def test_rows_in_any_order_and_shards_give_the_same_table():
    table = study(token_f1=0.7, bleu=0.6, minilm_cosine=0.9, minilm_bertscore_f1=0.8)
    whole = level_contrast(table)
    pd.testing.assert_frame_equal(
        level_contrast(table.sample(frac=1, random_state=3)), whole, check_exact=True
    )
    odd = table["item_id"].str[1:].astype(int) % 2 == 1
    pd.testing.assert_frame_equal(
        level_contrast(pd.concat([table[odd], table[~odd]])), whole, check_exact=True
    )


def test_errors_are_those_of_data_on_pairs():
    "The estimator of Aronow, Samii & Assenova, written out over all pairs of duels that share a listing group."
    table = study(token_f1=0.6, minilm_cosine=0.8)
    table["parent_id"] = "g" + (table["item_id"].str[1:].astype(int) // 3).astype(str)
    group = dict(zip(table["item_id"], table["parent_id"], strict=True))
    table["distractor_parents"] = table["distractors"].map(
        lambda d: json.dumps([group[j] for j in json.loads(d)])
    )
    row = level_contrast(table).query("category == 'all' and metric == 'minilm_cosine over token_f1'").iloc[0]
    wide = table.pivot(index="item_id", columns="metric", values="won")
    gap = (
        np.array(
            [
                [int(a) - int(b) for a, b in zip(x, y, strict=True)]
                for x, y in zip(wide["minilm_cosine"], wide["token_f1"], strict=True)
            ]
        )
        / 2
    )
    others = (
        table.drop_duplicates("item_id")
        .set_index("item_id")["distractor_parents"][wide.index]
        .map(json.loads)
    )
    mean, n = gap.mean(), len(gap)
    pull = {}
    for item, some, met in zip(wide.index, gap, others, strict=True):
        pull[group[item]] = pull.get(group[item], 0) + (some.mean() - mean) / n
        for value, name in zip(some, met, strict=True):
            pull[name] = pull.get(name, 0) + (value - some.mean()) / (n * len(some))
    twice = sum(((some - some.mean()) ** 2).sum() / (n * len(some)) ** 2 for some in gap)
    both = sum(v**2 for v in pull.values())
    error = np.sqrt(max(both - twice, both / 2) * 20 / 19)
    assert row["n"] == 20 and (row["high"] - row["low"]) / 2 / row["critical"] == pytest.approx(
        error, rel=1e-9
    )


# ---------------------------------------------------------------- how often it is wrong


@pytest.mark.parametrize("name", NULL.CONDITIONS)
def test_a_false_claim_is_rare(name):
    "At most 5% and two Monte Carlo errors of the studies that were drawn, whichever claim is false in them."
    found = STORED[name]
    asked = json.loads(json.dumps(asdict(NULL.CONDITIONS[name])))
    assert {key: found[key] for key in asked} == asked
    drawn = found["verdicts"].split()
    wrong = np.mean([any(letter in found["false"] for letter in letters) for letters in drawn])
    assert len(drawn) == found["studies"] and wrong <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(drawn))


@pytest.mark.parametrize("name", NULL.CONDITIONS)
def test_the_stored_studies_are_those_of_the_code(name):
    "A fixed 2% drawn again, verdict by verdict."
    drawn = STORED[name]["verdicts"].split()
    assert [NULL.verdicts(name, k) for k in range(0, len(drawn), 50)] == drawn[::50]


def test_a_clear_lead_is_seen():
    letters = STORED["words much noisier, as large as the demo"]["verdicts"].replace(" ", "")
    assert letters.count("m") / len(letters) > 0.8
