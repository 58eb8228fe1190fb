"""Agreement with people: scipy's coefficients, a direct count of pairs, and intervals that hold."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr

from mmpc_analysis import tables
from mmpc_analysis.analysis.human_ratings import metric_agreement, read_ratings
from mmpc_analysis.metrics.cards import METRICS
from mmpc_analysis.scores.own_scores import from_scores


@pytest.fixture(autouse=True)
def known_metrics():
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


def study(items=15, noise=1.0, seed=0, groups=1, models=4, decimals=1):
    rng, rows = np.random.default_rng(seed), []
    for k in range(items):
        for m in range(models):
            quality = 0.4 * m + rng.normal()
            close = np.round(quality + rng.normal(0, noise), decimals)
            seen = np.clip(np.round(3 + quality + rng.normal(0, 0.7, 3)), 1, 5)
            rows.append((f"q{k:03d}", f"g{k // groups:03d}", f"m{m}", close, *seen))
    return pd.DataFrame(rows, columns=["item", "group", "model", "close", "ann", "ben", "cem"])


def both(table, raters=("ann", "ben", "cem"), **how):
    scores = from_scores(table, value="close", parent="group", **{"bounds": None} | how)
    long = table.melt(["item", "model"], list(raters), "who", "rating")
    return scores, read_ratings(long, rater="who")


def rows_of(scores, ratings, **how):
    found = metric_agreement(scores, ratings, **{"draws": 50} | how)
    return found[found["metric"] != "raters"].set_index("term")


def test_coefficients_are_scipy_s():
    table = study()
    rows = rows_of(*both(table))
    people = table[["ann", "ben", "cem"]].mean(axis=1)
    assert rows["estimate"]["pooled_spearman"] == pytest.approx(spearmanr(table["close"], people).statistic)
    assert rows["estimate"]["pooled_kendall"] == pytest.approx(kendalltau(table["close"], people).statistic)
    for term, of in (("within_spearman", spearmanr), ("within_kendall", kendalltau)):
        each = [of(part["close"], people[part.index]).statistic for _, part in table.groupby("item")]
        assert rows["estimate"][term] == pytest.approx(np.nanmean(each))
        assert rows["n"][term] == np.isfinite(each).sum()
        assert rows["undefined"][term] == np.isnan(each).sum()


def counted(table, people, threshold=0.0):
    right = []
    for _, part in table.groupby("item"):
        for i, j in combinations(part.index, 2):
            gap, seen = part["close"][i] - part["close"][j], people[i] - people[j]
            right.append((0 if abs(gap) <= threshold else np.sign(gap)) == np.sign(seen))
    return np.mean(right)


def test_pairs_are_counted_and_ties_calibrated():
    table = study()
    people = table[["ann", "ben", "cem"]].mean(axis=1)
    rows = rows_of(*both(table))
    assert rows["n"]["pairwise_accuracy"] == 15 * 6
    assert rows["estimate"]["pairwise_accuracy"] == pytest.approx(counted(table, people))
    gaps = {abs(a - b) for _, p in table.groupby("item") for a, b in combinations(p["close"], 2)}
    best = max(counted(table, people, gap) for gap in gaps)
    assert rows["estimate"]["pairwise_accuracy_calibrated"] == pytest.approx(best)
    threshold = rows["threshold"]["pairwise_accuracy_calibrated"]
    assert counted(table, people, threshold) == pytest.approx(best)


def test_more_is_more_agreement_whichever_way_the_metric_counts():
    table = study()
    higher = rows_of(*both(table))
    lower = rows_of(*both(table.assign(close=-table["close"]), direction="lower"))
    turned = rows_of(*both(table.assign(close=-table["close"]), direction="higher"))
    assert lower["estimate"].to_numpy() == pytest.approx(higher["estimate"].to_numpy())
    assert turned["estimate"]["pooled_kendall"] == pytest.approx(-higher["estimate"]["pooled_kendall"])


def test_ranks_do_not_see_a_monotone_change():
    table = study()
    plain, cubed = (rows_of(*both(t)) for t in (table, table.assign(close=table["close"] ** 3)))
    ranked = [t for t in plain.index if t != "pairwise_accuracy_calibrated"]
    columns = ["estimate", "low", "high"]
    assert np.allclose(plain.loc[ranked, columns], cubed.loc[ranked, columns])


def test_names_of_items_do_not_matter():
    table = study()
    names = dict(
        zip(table["item"].unique(), np.random.default_rng(0).permutation(table["item"].unique()), strict=True)
    )
    estimates = [rows_of(*both(t))["estimate"] for t in (table, table.assign(item=table["item"].map(names)))]
    assert np.allclose(*estimates)


def test_raters_are_held_against_the_others():
    table = study()
    found = metric_agreement(*both(table), draws=50)
    raters = found[found["metric"] == "raters"].set_index("term")
    people = ["ann", "ben", "cem"]
    want = np.mean(
        [kendalltau(table[p], table[[q for q in people if q != p]].mean(axis=1)).statistic for p in people]
    )
    assert raters["estimate"]["pooled_kendall"] == pytest.approx(want)
    assert set(found["raters"]) == {3} and raters["low"].notna().all()
    assert (metric_agreement(*both(table, raters=["ann"]), draws=20)["metric"] != "raters").all()


def test_groups_are_drawn_whole():
    table = study(items=40, groups=4)
    clustered, alone = (rows_of(*both(table), cluster=c) for c in ("parent_id", "item_id"))
    assert set(clustered["clusters"]) == {10} and set(alone["clusters"]) == {40}
    assert np.allclose(clustered["estimate"], alone["estimate"])
    few = rows_of(*both(study(items=7)))
    assert few[["low", "high"]].isna().all(axis=None) and few["method"].str.contains("too few").all()


def test_constant_scores_have_no_coefficient():
    rows = rows_of(*both(study().assign(close=0.5)))
    assert rows.loc[["pooled_spearman", "pooled_kendall", "within_spearman"], "estimate"].isna().all()
    assert rows["undefined"]["within_kendall"] == 15


def test_unrated_and_unscored_answers_take_no_part():
    table = study()
    scores, ratings = both(table.assign(close=table["close"].where(table.index != 3)))
    rows = rows_of(scores, ratings[ratings["item_id"] != "q001"])
    assert rows["n"]["pooled_kendall"] == len(table) - 1 - 4 and set(rows["items"]) == {14}
    scores = scores.assign(task="image_to_text")
    assert len(
        metric_agreement(scores, ratings.assign(task="text_to_image").assign(task="image_to_text"), draws=5)
    )
    with pytest.raises(ValueError, match="no rating belongs to a score"):
        metric_agreement(scores, ratings.assign(task="text_to_image"), draws=5)


def test_a_directionless_metric_is_left_out():
    scores, ratings = both(study(), direction="neither", metric="words")
    with pytest.raises(ValueError, match=r"no rating belongs to a score"):
        metric_agreement(scores, ratings, draws=5)


@pytest.mark.parametrize(("column", "value", "said"), [("ann", np.inf, "row 2: expected a finite number, got inf"), ("ann", "good", "row 2: expected a finite number, got 'good'")])  # fmt: skip
def test_ratings_that_are_none_are_refused(column, value, said):
    table = study().astype({"ann": object})
    table.loc[2, column] = value
    with pytest.raises(tables.TableError, match=said):
        read_ratings(table, rating="ann")


def test_an_empty_rating_is_unknown_and_counted():
    table = study()
    table.loc[[1, 5], "ann"] = np.nan
    ratings = read_ratings(table, rating="ann")
    assert len(ratings) == len(table) - 2 and ratings.attrs == {"unknown": 2}


def test_intervals_hold():
    "Of 60 studies of 30 items the interval of the pairs' share and of the mean within items holds the truth in most."
    terms = ["pairwise_accuracy", "within_kendall"]
    truth = rows_of(*both(study(items=3000, seed=99), raters=["ann"]), draws=1)["estimate"][terms]
    held = pd.DataFrame(0, index=terms, columns=["inside"])
    for seed in range(60):
        rows = rows_of(*both(study(items=30, seed=seed), raters=["ann"]), draws=80).loc[terms]
        held["inside"] += ((rows["low"] <= truth) & (truth <= rows["high"])).astype(int)
    assert (held["inside"] / 60).between(0.866, 1).all()  # 95% less three Monte Carlo errors
