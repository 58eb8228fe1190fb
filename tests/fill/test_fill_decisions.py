"""Every gap is filled or withheld for one reason, and known products are judged as gaps would be."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from mmpc_analysis.fill.fill_decisions import decide_fills, known_risks, suggestion_rows
from mmpc_analysis.fill.gap_rows import GapRows
from mmpc_analysis.fill.risks import RISKS, Risk, register_risk
from mmpc_analysis.fill.signals import SIGNALS
from mmpc_analysis.metrics.text_encoders import EncoderMissing


def study(n=300, gaps=60, seed=0, wrong=0.2):
    "Suggestions that are wrong where the signal is low, among known products and gaps alike; the truth beside them."
    rng = np.random.default_rng(seed)
    sure = rng.normal(size=n)
    bad = sure + rng.normal(scale=0.3, size=n) < np.quantile(sure, wrong)
    titles = [f"Oak chair {k}" for k in range(n)]
    said = [t if not b else "Plastic bucket" for t, b in zip(titles, bad, strict=True)]
    ids = [f"p{k:04}" for k in range(n)]
    known = np.arange(n) >= gaps
    items = pd.DataFrame({
        "item_id": ids, "category": np.where(np.arange(n) % 3, "Home", "Toys"),
        "title": [t if k else None for t, k in zip(titles, known, strict=True)], "image": "x.png", "brand": None,
        "description": None, "keywords": None, "parent_id": ids,
    })  # fmt: skip
    asked = pd.DataFrame({
        "item_id": ids, "key": ids, "outcome": "ok", "suggestion": said, "logprob": sure,
        **dict.fromkeys(SIGNALS[1:], np.nan), "model": "m", "precision": "float32", "prompt": "p", "seconds": 0.5,
    })  # fmt: skip
    rows = GapRows(items[~known], items[known], items[known], items[["item_id"]], (), {}, [])
    return rows, asked, bad[:gaps]


def decide(rows, asked, check=lambda title: None, titles=None, **choices):
    titles = asked.set_index("item_id")["suggestion"] if titles is None else titles
    made = suggestion_rows(rows, asked, pd.DataFrame({"title": titles, "removed": None}))
    return decide_fills(rows, made, check, **({"risk": "title", "max_wrong": 0.1} | choices))


def test_what_is_filled_is_right_more_often_than_what_is_not():
    rows, asked, bad = study()
    made = decide(rows, asked)
    assert made.promises.iloc[0]["promised"]
    gaps = made.suggestions.query("not known").sort_values("item_id")
    filled = gaps["status"].eq("filled").to_numpy()
    assert 10 < filled.sum() < 60 and bad[filled].mean() < 0.1 < bad[~filled].mean()
    assert (gaps["confidence"].to_numpy()[filled] >= made.promises.iloc[0]["threshold"]).all()
    assert gaps.loc[~filled, "reason"].unique().tolist() == ["its confidence is under the threshold"]
    assert gaps.loc[filled, "reason"].isna().all()


def test_a_title_that_breaks_a_rule_is_withheld_and_teaches_nothing():
    "Rules bar a tenth of all rows; known ones among them are not counted, neither as right nor as wrong."
    rows, asked, _ = study()
    barred = asked["item_id"].str[-1] == "7"
    titles = asked.set_index("item_id")["suggestion"].where(~barred.to_numpy(), "=BAD()")
    made = decide(rows, asked, lambda t: "would run in a spreadsheet" if t[0] == "=" else None, titles)
    table = made.suggestions.set_index("item_id")
    gone = table[table.index.str[-1] == "7"]
    assert gone["confidence"].isna().all()
    assert gone.query("not known")["reason"].unique().tolist() == ["would run in a spreadsheet"]
    judged = made.labels.query("risk == 'title'").set_index("item_id")["wrong"]
    able = table.query("known").drop(index=[i for i in gone.index if table.loc[i, "known"]])
    accepted = able.index[able["confidence"] >= made.promises.iloc[0]["threshold"]]
    assert (
        made.promises.iloc[0]["accepted"] == len(accepted)
        and made.promises.iloc[0]["wrong"] == judged[accepted].sum()
    )


def test_reasons_name_the_first_thing_in_the_way():
    rows, asked, _ = study()
    asked.loc[0, ["suggestion", "outcome"]] = [None, "refused"]
    titles = asked.set_index("item_id")["suggestion"].copy()
    titles["p0001"] = None
    table = decide(rows, asked, titles=titles).suggestions.set_index("item_id")
    assert table.loc["p0000", "reason"] == "the model gave no title (refused)"
    assert table.loc["p0001", "reason"] == "too little is left without the claims that nothing supports"


def test_with_too_few_known_products_nothing_is_filled():
    rows, asked, _ = study(n=90, gaps=60)
    made = decide(rows, asked, max_wrong=0.05)
    row = made.promises.iloc[0]
    assert not row["promised"] and row["filled"] == 0 and 0.05 < row["smallest"] <= 1
    reasons = set(made.suggestions.query("not known")["reason"])
    assert reasons == {"at most 5.0% wrong cannot be promised"}


def test_a_shop_without_known_products_withholds_everything():
    rows, asked, _ = study(n=30, gaps=30)
    made = decide(rows, asked)
    assert made.suggestions["status"].eq("withheld").all() and not made.promises["promised"].any()


def test_all_risks_are_judged_and_one_that_cannot_be_is_told():
    rows, asked, _ = study(n=80, gaps=10)
    made = suggestion_rows(
        rows, asked, pd.DataFrame({"title": asked.set_index("item_id")["suggestion"], "removed": None})
    )

    def no_encoder(titles, references, cells, known_titles):
        raise EncoderMissing("install the extra")

    before = dict(RISKS)
    try:
        register_risk(Risk("taste", "is ugly", no_encoder))
        labels, notes = known_risks(rows, made, "title")
        assert {"brand", "number", "title"} <= set(labels["risk"]) and "taste" not in set(labels["risk"])
        assert any("The risk taste was not judged: install the extra" in note for note in notes)
        with pytest.raises(EncoderMissing):
            known_risks(rows, made, "taste")
    finally:
        RISKS.clear()
        RISKS.update(before)


def test_judging_sees_hidden_cells_and_support_does_not_need_them():
    "A number that only a hidden cell states is no contradiction of the row."
    rows, asked, _ = study(n=70, gaps=10)
    ids = asked["item_id"]
    cells = pd.DataFrame({"item_id": ids, "net": "12 oz"})
    rows = GapRows(rows.gaps, rows.known, rows.titled, cells, (), {"net": "hidden"}, [])
    titles = pd.DataFrame({"title": [f"Oak chair {k} 12 oz" for k in range(70)], "removed": None}, index=ids)
    labels, _ = known_risks(rows, suggestion_rows(rows, asked, titles), "number")
    assert labels.query("risk == 'number'")["wrong"].eq(0).all()
    titles["title"] = [f"Oak chair {k} 16 oz" for k in range(70)]
    labels, _ = known_risks(rows, suggestion_rows(rows, asked, titles), "number")
    assert labels.query("risk == 'number'")["wrong"].eq(1).all()


# ---------------------------------------------------------------- the whole way, in shops whose truth is known


def made_up(kind, n, m, seed, share=0.1):
    "Signals, chance of being wrong, and titles of n known products and m gaps; most lie a little above the share."
    rng = np.random.default_rng([seed, n, *kind.encode()])
    signals, level = rng.normal(size=(n + m, len(SIGNALS))), np.log(1.1 * share / (1 - 1.1 * share))
    chance = np.full(n + m, 1.1 * share)
    if kind == "nothing said":
        signals[:] = np.nan
    if kind == "always the same":
        signals[:] = 1.0
    if kind in ("useful", "unjudged", "barred"):
        chance = 1 / (1 + np.exp(-level - 1 + 2 * signals[:, 0]))
    if kind == "often missing":
        gone = rng.random(n + m) < 0.3
        chance = np.where(gone, 1.5 * chance, 1 / (1 + np.exp(-level + 0.7 * signals[:, 0])))
        signals[gone, 0] = np.nan
    said = np.where(rng.random(n + m) < chance, "x wrong", "x right").astype(object)
    if kind == "unjudged":
        said[rng.random(n + m) < 0.2] = "x silent"
    if kind == "barred":  # Wrong titles break a rule more often
        said = np.where(rng.random(n + m) < np.where(said == "x wrong", 0.5, 0.1), "=x", said)
        chance = 0.5 * chance / (0.5 * chance + 0.9 * (1 - chance))
    return signals, chance, said


def simulated(kind, n, m, seed, share=0.1):
    "What is decided of a made-up shop, and the chance of each filled title that can be judged to be wrong."
    signals, chance, said = made_up(kind, n, m, seed, share)
    ids, known = [f"p{k:05}" for k in range(n + m)], np.arange(n + m) < n
    items = pd.DataFrame({"item_id": ids, "category": "a", "title": np.where(known, "x", None), "image": "x.png", "parent_id": ids})  # fmt: skip
    told = dict(zip(SIGNALS, signals.T, strict=True)) | {
        "model": "m",
        "precision": "f",
        "prompt": "p",
        "seconds": 1.0,
    }
    asked = pd.DataFrame({"item_id": ids, "key": ids, "outcome": "ok", "suggestion": said, **told})
    rows = GapRows(items[~known], items[known], items[known], items[["item_id"]], (), {}, [])
    made = decide(
        rows, asked, lambda t: "it would run" if t[0] == "=" else None, risk="word", max_wrong=share
    )
    filled = made.suggestions.set_index("item_id").loc[ids, "status"].eq("filled").to_numpy()
    return made, chance[filled & (said != "x silent")]


@pytest.fixture
def word_risk():
    "A risk that titles tell of themselves, and no other, so that a shop is decided quickly."
    before = dict(RISKS)
    RISKS.clear()
    truth = {"x wrong": 1.0, "x right": 0.0}
    register_risk(
        Risk("word", "says so", lambda titles, *_: np.array([truth.get(title, np.nan) for title in titles]))
    )
    yield
    RISKS.clear()
    RISKS.update(before)


@pytest.mark.parametrize("kind", ["noise", "nothing said", "useful", "unjudged", "barred"])
def test_a_shop_is_promised_too_much_no_more_often_than_was_said(word_risk, kind):
    """Sixteen shops each, of which 10% may be broken: more than five would be seen by chance once in a hundred times.

    A promise is broken where the mean chance of the filled titles to be wrong is above the share; as many as can be judged count.
    """
    shops = [simulated(kind, *size, seed) for size in ((100, 60), (300, 60)) for seed in range(8)]
    broken = [bool(len(chance)) and chance.mean() > 0.1 + 1e-12 for _, chance in shops]
    filled = sum(len(chance) for _, chance in shops)
    assert binom.sf(sum(broken) - 1, len(shops), 0.1) > 0.01
    assert filled > 0 or kind not in ("useful", "unjudged", "barred")


def test_nothing_is_said_of_a_difference_that_is_none(word_risk):
    "Signals that say nothing: known ones by their own regression and gaps by the mean would look unlike every time."
    for kind in ("nothing said", "always the same"):
        warned = [bool(simulated(kind, 100, 100, seed)[0].shift) for seed in range(6)]
        assert binom.sf(sum(warned) - 1, len(warned), 0.05) > 0.01


def test_a_real_difference_is_said():
    rows, asked, _ = study(n=400, gaps=100)
    asked.loc[:99, "logprob"] -= 1
    assert "their mean confidence is" in decide(rows, asked).shift


def test_titles_that_nobody_can_judge_are_said_to_be_promised_nothing(word_risk):
    made, _ = simulated("unjudged", 300, 200, 0, share=0.2)
    row, table = made.promises.iloc[0], made.suggestions
    sure = table[table["known"] & (table["confidence"] >= row["threshold"])]
    silent = int(sure["title"].eq("x silent").sum())
    assert row["promised"] and silent > 10 and row["accepted"] == len(sure) - silent
    assert (
        f"Of {len(sure)} known products whose title would be filled, {silent} cannot be judged"
        in made.notes[0]
    )
    assert f"({silent / len(sure):.0%})" in made.notes[0]
    assert not simulated("useful", 300, 200, 0, share=0.2)[0].notes


def test_variants_among_the_filled_are_said():
    rows, asked, _ = study()
    rows.gaps["parent_id"] = [f"g{k // 4}" for k in range(60)]
    made = decide(rows, asked)
    filled = made.suggestions.query("status == 'filled'")
    groups = filled["parent_id"].nunique()
    assert groups < len(filled)
    assert f"The {len(filled)} filled titles are of {groups} listing groups" in made.notes[0]


def test_a_gap_without_a_signal_that_every_known_product_has_is_withheld():
    rows, asked, _ = study()
    asked["yes"] = asked["logprob"]
    before = decide(rows, asked).suggestions.set_index("item_id")
    one = before.index[before["status"].eq("filled")][0]
    asked.loc[asked["item_id"] == one, "yes"] = np.nan
    made = decide(rows, asked).suggestions.set_index("item_id")
    assert made.loc[one, "status"] == "withheld" and np.isnan(made.loc[one, "confidence"])
    assert made.loc[one, "reason"].startswith("the engine did not say how sure the model is")
    assert made.drop(index=one)["status"].equals(before.drop(index=one)["status"])
    asked.loc[70:90, "yes"] = np.nan  # Some known ones lack it too: then it is learnt what that says
    assert not decide(rows, asked).suggestions["reason"].eq(made.loc[one, "reason"]).any()


def test_the_title_that_is_written_is_judged_and_not_the_one_before_claims_went(word_risk):
    rows, asked, _ = study(n=100, gaps=10)
    asked["suggestion"] = "x wrong"
    made = decide(rows, asked, titles=pd.Series("x right", index=asked["item_id"]), risk="word")
    assert made.labels["wrong"].eq(0).all() and made.promises.iloc[0]["promised"]


def test_a_token_of_no_probability_is_a_missing_signal():
    rows, asked, _ = study()
    asked.loc[asked["item_id"].isin(["p0003", "p0100", "p0101"]), "logprob"] = -np.inf
    made = decide(rows, asked)
    assert made.suggestions.set_index("item_id").loc["p0100", "confidence"] >= 0
