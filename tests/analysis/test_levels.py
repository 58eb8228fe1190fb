"""Shares of the way from floor to ceiling: what they must not depend on, and sentences that must not outlive their numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis import tables
from mmpc_analysis.analysis.levels import level_contrast
from mmpc_analysis.metrics.cards import METRICS
from mmpc_analysis.report.level_contrasts import level_words

TITLES = {"token_f1": "word", "minilm_cosine": "semantic"}


def made_up(shares, items=40, seed=0, spread=0.05):
    "Scores whose floor is 0.2 and ceiling 1; a model's share is given by model and metric."
    rng, rows = np.random.default_rng(seed), []
    for metric in TITLES:
        for k in range(items):
            rows += [(f"i{k}", metric, "oracle", "", 1.0), (f"i{k}", metric, "shuffled", "", 0.2)]
            rows += [
                (f"i{k}", metric, model, "made-up", 0.2 + 0.8 * share[metric] + rng.normal(0, spread))
                for model, share in shares.items()
            ]
    table = pd.DataFrame(rows, columns=["item_id", "metric", "model", "family", "value"])
    level = table["metric"].map(TITLES)
    category = np.where(table["item_id"].str[1:].astype(int) % 2, "Mugs", "Hats")
    role = table["model"].map({"oracle": "ceiling", "shuffled": "floor"}).fillna("model")
    place = {"level": level, "category": category, "task": "image_to_text"}
    return table.assign(**place, role=role, outcome="ok", parameters=1e9)


def pooled(effects, term="share", metric=""):
    rows = effects.query("category == 'all' and term == @term and metric == @metric")
    return rows.set_index(["model", "level"])["estimate"]


MEANING = {"a": {"token_f1": 0.2, "minilm_cosine": 0.6}, "b": {"token_f1": 0.1, "minilm_cosine": 0.4}}


def test_shares_are_what_they_were_made_of():
    effects = level_contrast(made_up(MEANING))
    tables.validate(effects, tables.CONTRASTS)
    for (model, level), estimate in pooled(effects).items():
        metric = next(name for name, its in TITLES.items() if its == level)
        assert estimate == pytest.approx(MEANING[model][metric], abs=0.03)
    leads = effects.query("category == 'all' and term == 'semantic over word'").set_index("model")
    assert (leads["low"] > 0).all() and leads.loc["a", "estimate"] == pytest.approx(0.4, abs=0.04)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-5, 5), st.integers(0, 9))
def test_shares_ignore_scale_shift_and_order_of_rows(scale, shift, seed):
    scores = made_up(MEANING, items=8)
    changed = scores.assign(value=scores["value"] * scale + shift).sample(frac=1, random_state=seed)
    before, after = (level_contrast(table, draws=20) for table in (scores, changed))
    pd.testing.assert_series_equal(pooled(before), pooled(after), atol=1e-9)


def test_intervals_widen_with_fewer_items():
    wide, narrow = (
        level_contrast(made_up(MEANING, items=n, spread=0.3)).query("category == 'all' and metric == ''")
        for n in (10, 160)
    )
    assert (wide["high"] - wide["low"]).mean() > 2 * (narrow["high"] - narrow["low"]).mean()


def test_the_sentence_turns_with_the_numbers():
    words = level_words(level_contrast(made_up(MEANING)), "image_to_text")
    assert words.startswith("a recovers") and "Of 2 models, 2 recover more in meaning" in words
    turned = {m: {"token_f1": s["minilm_cosine"], "minilm_cosine": s["token_f1"]} for m, s in MEANING.items()}
    assert "0 recover more in meaning than at the word level, 2 less" in level_words(
        level_contrast(made_up(turned)), "image_to_text"
    )
    same = {m: {"token_f1": 0.3, "minilm_cosine": 0.3} for m in "ab"}
    assert "2 cannot be told apart" in level_words(
        level_contrast(made_up(same, items=12, spread=0.4)), "image_to_text"
    )


def test_nothing_is_said_where_nothing_is_known():
    one = made_up(MEANING, items=1)
    assert level_words(level_contrast(one), "image_to_text") == ""
    detail = made_up(MEANING).query("metric == 'token_f1'").assign(metric="rouge_1")
    assert not METRICS["rouge_1"].headline and level_contrast(detail).empty
    tables.validate(level_contrast(detail), tables.CONTRASTS)


def test_an_engine_error_leaves_its_item_out_for_its_model_alone():
    scores = made_up(MEANING)
    broken = (scores["model"] == "a") & (scores["item_id"] == "i3")
    effects = level_contrast(scores.assign(value=scores["value"].mask(broken)))
    counts = effects.query("category == 'all' and metric == '' and term == 'share'").set_index("model")["n"]
    assert set(counts["a"]) == {39} and set(counts["b"]) == {40}
