"Promises against MAPIE, a plain search and populations of known risk; and what the stored experiment must show."

import json
import sys
from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from mmpc_analysis import tables
from mmpc_analysis.fill import promises as page

sys.path.insert(0, str(ROOT / "tools" / "experiments"))
import fill_promise_oracles
import fill_promises as experiment
from code_fingerprint import code_fingerprint

ORACLES = json.loads((ROOT / "tests/data/fill/promise_oracles.json").read_text("utf-8"))
STORED = json.loads(experiment.OUT.read_text("utf-8"))


@pytest.mark.parametrize("max_wrong", [0.004, 0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("sure", [0.5, 0.75, 0.9, 0.99])
def test_the_fewest_needed_is_the_first_power_that_is_small_enough(max_wrong, sure):
    right, doubt = 1 - Fraction(str(max_wrong)), 1 - Fraction(str(sure))
    want = next(n for n in range(1, 10_000) if right**n <= doubt)
    assert page.fewest_needed(max_wrong, sure) == want


@pytest.mark.parametrize(("wrong", "accepted"), [(0, 1), (0, 45), (3, 80), (79, 80), (80, 80), (40, 1000)])
def test_the_bound_is_the_exact_one_sided_one(wrong, accepted):
    want = binomtest(wrong, accepted, alternative="less").proportion_ci(0.9, method="exact").high
    assert float(page.wrong_bound(wrong, accepted, 0.9)) == pytest.approx(want)


def test_a_bound_of_nothing_is_one():
    assert page.wrong_bound([0, 2], [0, 4], 0.9)[0] == 1.0


def by_hand(confidence, wrong, max_wrong, sure, thresholds, start):
    "The search as a plain loop over binomial tails."
    pairs = [(c, w) for c, w in zip(confidence, wrong, strict=True) if w == w]
    chosen, begun = None, False
    for t in thresholds:
        some = [w for c, w in pairs if c >= t]
        enough = (
            len(some) >= start * len(pairs) and (1 - max_wrong) ** len(some) <= 1 - sure and len(some) > 0
        )
        begun = begun or enough
        if begun and binom.cdf(sum(some), len(some), max_wrong) > 1 - sure + 1e-9:
            return chosen
        if begun:
            chosen = t
    return chosen


values = st.sampled_from([0.0, 0.2, 0.5, 0.55, 0.9, 0.99, 1.0, np.nan])


@settings(max_examples=150)
@given(
    st.lists(st.tuples(values, st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, np.nan])), max_size=120),
    st.sampled_from([0.05, 0.1, 0.3, 0.6]),
    st.sampled_from([0.8, 0.9]),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_the_search_is_a_plain_loop_over_binomial_tails(rows, max_wrong, sure, start):
    c, w = np.array(rows, dtype=float).reshape(-1, 2).T
    found = page.make_promise(c, w, max_wrong, sure, start)
    want = by_hand(c, w, max_wrong, sure, page.THRESHOLDS, start)
    assert found.promised == (want is not None) and (want is None or found.threshold == want)
    some = w[(c >= (want if want is not None else np.inf)) & ~np.isnan(w)]
    assert (found.accepted, found.wrong) == (len(some), some.sum())
    assert (found.known, found.unjudged) == ((~np.isnan(w)).sum(), np.isnan(w).sum())
    if found.promised:
        assert found.high <= max_wrong and found.share == some.mean()


@pytest.mark.parametrize("case", ORACLES["cases"][::2], ids=lambda case: f"case {case['seed']}")
def test_mapie_finds_the_same_threshold(case):
    confidence, wrong, max_wrong, sure = fill_promise_oracles.products(case["seed"])
    assert (max_wrong, sure) == (case["max_wrong"], case["sure"])
    found = page.make_promise(confidence, wrong, max_wrong, sure, thresholds=ORACLES["thresholds"])
    assert (None if np.isnan(found.threshold) else found.threshold) == case["laxest"]


def test_most_cases_of_the_oracle_have_a_threshold_and_some_have_none():
    found = [case["laxest"] is not None for case in ORACLES["cases"]]
    assert 0.5 < np.mean(found) < 0.95 and ORACLES["versions"]["mapie"]


def test_one_fewer_than_needed_promises_nothing_and_says_what_could_be():
    found = page.make_promise(np.full(44, 0.99), np.zeros(44))
    assert not found.promised and (found.accepted, found.needed) == (0, 45)
    assert found.smallest == pytest.approx(1 - 0.1 ** (1 / 44))
    assert page.make_promise(np.full(45, 0.99), np.zeros(45)).promised


@pytest.mark.parametrize(("wrong", "smallest"), [(0.0, 1 - 0.1 ** (1 / 300)), (1.0, 1.0)])
def test_all_right_and_all_wrong(wrong, smallest):
    found = page.make_promise(np.linspace(0, 1, 300), np.full(300, wrong))
    assert found.promised == (wrong == 0)
    if wrong == 0:
        assert (found.threshold, found.accepted) == (0.0, 300)
    assert page.make_promise(np.full(300, 0.3), np.full(300, wrong)).smallest == pytest.approx(smallest)


def test_nothing_known_promises_nothing():
    for c, w in (([], []), ([0.9] * 60, [np.nan] * 60), ([np.nan] * 60, [0.0] * 60)):
        found = page.make_promise(c, w)
        assert not found.promised and np.isnan(found.smallest)


def test_products_of_equal_confidence_are_accepted_together():
    "A threshold between ties would accept some of them by luck."
    c = np.repeat([0.95, 0.9], [60, 60])
    w = np.zeros(120)
    w[60:75] = 1
    found = page.make_promise(c, w, 0.1)
    assert (found.accepted, found.wrong) == (60, 0) and 0.9 < found.threshold <= 0.95


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_share_is_where_promises_begin(seed):
    rng = np.random.default_rng(seed)
    c = rng.beta(4, 1, int(rng.integers(30, 500))).round(int(rng.integers(1, 4)))
    w = (rng.random(len(c)) > c * 0.97).astype(float)
    smallest = page.make_promise(c, w).smallest
    assert page.make_promise(c, w, smallest * (1 + 1e-9)).promised
    assert not any(page.make_promise(c, w, a).promised for a in np.linspace(0.002, smallest * (1 - 1e-9), 60))


@pytest.mark.parametrize(
    ("wrong", "accepted", "filled"), [(0, 5, 3), (1, 9, 12), (2, 2, 4), (0, 30, 1), (3, 40, 60)]
)
def test_how_many_are_wrong_at_most_by_counting_subsets(wrong, accepted, filled):
    def few(total):
        "Chance that so few of the wrong ones are among the known ones."
        ways = sum(
            comb(total, k) * comb(accepted + filled - total, accepted - k)
            for k in range(wrong + 1)
            if total >= k
        )
        return Fraction(ways, comb(accepted + filled, accepted))

    want = max((x for x in range(filled + 1) if few(wrong + x) > Fraction(1, 10)), default=0)
    assert page.most_wrong(wrong, accepted, filled, 0.9) == want


def test_how_many_are_wrong_is_kept_as_often_as_it_says():
    rng, kept = np.random.default_rng(6), []
    for _ in range(2000):
        risk = rng.choice([0.02, 0.1, 0.4])
        known, gaps = rng.binomial(70, risk), rng.binomial(50, risk)
        kept.append(gaps <= page.most_wrong(known, 70, 50, 0.9))
    assert np.mean(kept) >= 0.9 - 3 * np.sqrt(0.09 / 2000)


def shop(n=120, gaps=30, groups=None):
    "Suggestions: known ones first, all right but the last two of category B."
    total = n + gaps
    rows = pd.DataFrame({"item_id": [f"i{k:03d}" for k in range(total)], "known": np.arange(total) < n})
    rows["category"], rows["confidence"] = np.where(np.arange(total) % 3 == 0, "B", "A"), 0.9
    rows["parent_id"] = rows["item_id"] if groups is None else groups
    rows = rows.assign(
        model="m", precision="", prompt="p", key="k", outcome="ok", title="t", status="withheld"
    )
    labels = pd.DataFrame({"item_id": rows["item_id"][:n], "risk": "number", "wrong": 0.0})
    return rows, labels


def test_a_table_of_promises_counts_what_it_says():
    rows, labels = shop()
    labels.loc[[3, 6], "wrong"], labels.loc[[0, 1], "wrong"] = 1.0, np.nan
    rows.loc[[125, 126], "title"] = None
    rows.loc[[9, 15, 18, 21, 127], "confidence"], labels.loc[[9, 15, 18, 21], "wrong"] = 0.1, 1.0
    found = page.promise_table(rows, labels, "number", max_wrong=0.06, barred={"i012", "i129"})
    assert found["category"].tolist() == ["all", "A", "B"]
    one, a, b = (found.iloc[k] for k in range(3))
    assert (one["known"], one["accepted"], one["wrong"], one["gaps"], one["filled"]) == (118, 113, 2, 30, 26)
    assert (a["known"], a["accepted"], a["wrong"], a["gaps"], a["filled"]) == (79, 79, 0, 20, 18)
    assert (b["known"], b["accepted"], b["wrong"], b["gaps"], b["filled"]) == (39, 34, 2, 10, 8)
    assert one["high"] == pytest.approx(binomtest(2, 113, alternative="less").proportion_ci(0.9).high)
    assert found["promised"].tolist() == [True, False, False]
    assert found["smallest"].notna().tolist() == [True, False, False]
    assert 0.1 < one["threshold"] <= 0.9 and found["threshold"].nunique() == 1


def test_a_table_without_a_promise_fills_nothing():
    rows, labels = shop(n=40)
    found = page.promise_table(rows, labels, "number")
    assert not found["promised"].any() and (found["filled"] == 0).all() and found["threshold"].isna().all()
    assert found["smallest"][0] == pytest.approx(1 - 0.1 ** (1 / 40))
    none = page.promise_table(rows[~rows["known"]], labels.head(0), "number")
    assert not none["promised"].any() and none["gaps"][0] == 30


def test_gaps_may_be_variants_of_one_product_and_known_ones_may_not():
    rows, labels = shop(groups=[f"g{min(k, 120)}" for k in range(150)])
    assert page.promise_table(rows, labels, "number")["filled"][0] == 30
    rows.loc[5, "parent_id"] = "g4"
    with pytest.raises(ValueError, match=r"'g4'.*keep one of each"):
        page.promise_table(rows, labels, "number")
    labels.loc[5, "wrong"] = np.nan  # Counts for nothing, so it may stay
    assert page.promise_table(rows, labels, "number")["known"][0] == 119


def test_a_category_called_all_is_not_mistaken_for_all():
    rows, labels = shop()
    rows["category"] = rows["category"].replace("A", "all")
    found = page.promise_table(rows, labels, "number")
    assert len(found) == 3 and found["category"].is_unique and found["gaps"].tolist()[0] == 30
    assert tables.validate(found, tables.PROMISES).equals(found)


@pytest.mark.parametrize("value", [0, 1, -0.1, 5, np.nan])
def test_shares_that_are_none_are_refused(value):
    for how in ({"max_wrong": value}, {"sure": value}):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            page.make_promise([0.9], [0.0], **how)


def frame(categories, confidence):
    return pd.DataFrame({"category": categories, "confidence": confidence})


def test_a_shift_is_told_with_what_differs():
    rng = np.random.default_rng(0)
    known = frame(np.repeat(["Hats", "Mugs"], [300, 100]), rng.random(400))
    told = page.shift_warning(known, frame(np.repeat(["Hats", "Mugs"], [20, 80]), rng.random(100)))
    assert "80% of them are of the category Mugs, against 25%" in told and "mean confidence" not in told
    told = page.shift_warning(known, frame(np.repeat(["Hats", "Mugs"], [75, 25]), rng.random(100) / 2))
    assert "mean confidence is 0.2" in told and "category" not in told


def test_a_shift_is_not_told_of_what_is_not_there():
    known = frame(["Hats"] * 50 + [None] * 5, [0.5] * 50 + [np.nan] * 5)
    for gaps in (known, known.head(0), known.tail(5), frame(["Hats"], [0.5])):
        assert page.shift_warning(known, gaps) == "" and page.shift_warning(gaps, known) == ""


def test_a_shift_is_told_falsely_no_more_often_than_the_level():
    told = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        kinds, c = (
            rng.choice(list("ABCDEFG"), 500, p=[0.5, 0.2, 0.1, 0.1, 0.06, 0.03, 0.01]),
            rng.random(500).round(2),
        )
        told.append(page.shift_warning(frame(kinds[:200], c[:200]), frame(kinds[200:], c[200:])) != "")
    assert np.mean(told) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


# ---------------------------------------------------------------- the stored experiment


def test_the_experiment_is_of_this_code():
    for part in ("code", "splits_code"):
        assert STORED[part] == code_fingerprint(*experiment.CODE), (
            "the pages on confidence and promises compute something else than when they were tried; run tools/experiments/fill_promises.py"
        )


ROWS = [(kind, name, row) for kind, rows in STORED["simulated"].items() for name, row in rows.items()]


@pytest.mark.parametrize(("kind", "name", "row"), ROWS, ids=lambda x: x if isinstance(x, str) else "")
def test_promises_are_broken_in_no_more_than_the_named_share(kind, name, row):
    assert row["broken"] <= row["limit"]


def test_all_populations_were_tried_and_many_came_close_to_the_named_share():
    "An experiment in which nothing can be broken shows nothing."
    names = {name.split(" | ")[0] for _, name, _ in ROWS}
    assert names == {*experiment.GIVEN, *experiment.FITTED}
    shares = [row["broken"] / (1 - float(name.rsplit(" | ", 1)[1])) for _, name, row in ROWS]
    assert max(shares) > 0.8 and np.mean(np.array(shares) > 0.3) > 0.2
    assert all(row["populations"] >= 2000 for kind, _, row in ROWS if kind == "given")


@pytest.mark.parametrize("name", [name for kind, name, _ in ROWS if kind == "given"][::4])
def test_some_populations_are_redrawn_exactly(name):
    kind, n, a, sure = name.split(" | ")
    rows = [experiment.given(kind, int(n), float(a), float(sure), k) for k in range(experiment.SHOWN)]
    assert experiment.summary(rows, float(sure))["first"] == STORED["simulated"]["given"][name]["first"]


@pytest.mark.parametrize("kind", list(experiment.FITTED))
def test_some_fitted_populations_are_redrawn_exactly(kind):
    rows = [experiment.fitted(kind, 60, 0.1, 0.9, k) for k in range(8)]
    assert (
        experiment.summary(rows, 0.9)["first"]
        == STORED["simulated"]["fitted"][f"{kind} | 60 | 0.1 | 0.9"]["first"][:8]
    )


def test_the_worst_start_that_was_found_does_not_break_the_promise():
    worst = STORED["worst_start"]
    assert worst["broken"] <= 1 - worst["sure"] and worst["tried"] >= 300


def test_a_shift_breaks_promises_and_only_a_visible_one_is_told():
    rows = STORED["shifts"]
    assert rows["none"]["broken"] <= 0.1 and rows["none"]["warned"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 500)
    assert (
        rows["odds four times as high, unseen"]["broken"] > 0.25
        and rows["odds four times as high, unseen"]["warned"] < 0.1
    )
    assert rows["mostly the hard category"]["warned"] > 0.95


def test_the_stand_ins_were_all_tried_and_their_filled_gaps_are_rarely_worse_than_wished():
    splits = STORED["splits"]
    assert set(splits["rows"]) == {f"{m} | {risk}" for m in experiment.STANDINS for risk in experiment.RISKS}
    assert splits["draws"] >= 500
    signals = pd.read_parquet(experiment.SIGNALS_FILE)
    for name, row in splits["rows"].items():
        model, risk = name.split(" | ")
        wrong = signals.loc[signals["model"] == model, f"wrong_{risk}"]
        assert row["base"] == pytest.approx(wrong.mean(), abs=1e-5) and row["judged"] == wrong.notna().sum()
        assert row["ways"]["promise"]["above"] <= 0.1 + 3 * np.sqrt(0.09 / splits["draws"])
        assert row["ways"]["always"]["coverage"] == 1
