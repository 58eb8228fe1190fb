"The grid of the Recommendation Benchmark on made-up items: what each cell sees, and what is run again."

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis import store, tables
from mmpc_analysis.recommendation.benchmark import (
    Benchmark,
    condition_keys,
    condition_lists,
    fill_condition,
    hidden_rows,
    models_of,
    per_user,
    rank_condition,
    run_grid,
    training_inputs,
)
from mmpc_analysis.recommendation.features import ItemFeatures
from mmpc_analysis.recommendation.grids import BASELINES, Condition, Grid, conditions
from mmpc_analysis.recommendation.recovery import not_filled, recover
from mmpc_analysis.recommendation.splits import split_interactions
from mmpc_analysis.recommendation.training import SMALL
from mmpc_analysis.report.recommendations import fallback_words
from mmpc_analysis.store import cached_table
from mmpc_analysis.study.asked import check_study
from mmpc_analysis.study.choices import RecommendationChoice, Study
from mmpc_analysis.study.stages import grid_of

GRID = Grid(("vbpr", "popularity"), ("text", "image"), (0.5,), ("zeros", "category_mean", "drop"), (0,))
ITEMS = np.array([f"i{k:02d}" for k in range(60)], dtype=object)


def bench(**more):
    "Sixty items, eighty users, random features; of one category there is a single item; model m failed at times."
    rng = np.random.default_rng(7)
    features = ItemFeatures(
        ITEMS, rng.normal(size=(60, 8)).astype(np.float32), rng.normal(size=(60, 6)).astype(np.float32)
    )
    rows = [(f"u{u:02d}", i, t) for u in range(80) for t, i in enumerate(rng.choice(ITEMS, 6, replace=False))]
    rows.append(("once", ITEMS[3], 0))
    bought = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    categories = np.array(["alone", *["A", "B", "C"] * 19, "A", "B"], dtype=object)
    hidden = {("text", 0.5): rng.random(60) < 0.5, ("image", 0.5): rng.random(60) < 0.5}
    made = rng.normal(size=(60, 8)).astype(np.float32)
    made[::3] = np.nan
    told = {"training": replace(SMALL, epochs=2), "completions": {("m", "text"): made}} | more
    return Benchmark(split_interactions(bought, ITEMS), categories, features, hidden, **told)


BENCH = bench()
CHOSEN = conditions(GRID, models_of(BENCH))
TEXT_ONLY = conditions(replace(GRID, recommenders=("vbpr",), modalities=("text",), fills=("zeros",)), {})
ONE = ("text", 0.5)


def with_truth(modality, rows, value=9.0):
    "The bench with other true vectors of some items."
    own = np.array(getattr(BENCH.features, modality))
    own[rows] = value * np.arange(1, len(np.atleast_1d(own[rows])) + 1)[:, None] + np.arange(own.shape[1])
    return replace(BENCH, features=replace(BENCH.features, **{modality: own}))


def changed(other, chosen=CHOSEN):
    "The cells whose keys differ."
    before, after = condition_keys(BENCH, chosen), condition_keys(other, chosen)
    return {cell for key, cell in after.items() if key not in before}


def test_cells_by_hand():
    texts = [("text", 0.5, f) for f in ("zeros", "category_mean", "drop", "m")] + [("text", 1.0, "shuffled")]
    images = [("image", 0.5, f) for f in ("zeros", "category_mean", "drop")] + [("image", 1.0, "shuffled")]
    expected = [Condition("vbpr", *c, 0) for c in [("none", 0.0, "oracle"), *texts, *images]]
    assert sorted([*expected, Condition("popularity", "none", 0.0, "none", 0)]) == CHOSEN


def test_what_needs_known_items_has_no_cell_at_rate_one():
    found = conditions(Grid(("bm3",), ("text",), (1.0,), ("zeros", "nearest_other_modality", "drop"), (3,)))
    assert {(c.rate, c.fill) for c in found} == {(0.0, "oracle"), (1.0, "shuffled"), (1.0, "zeros")}


def test_a_declaration_that_repeats_itself_makes_no_cell_twice():
    twice = replace(GRID, rates=(0.5, 0.5), seeds=(0, 0), fills=(*GRID.fills, "zeros"))
    assert conditions(twice, models_of(BENCH)) == CHOSEN


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"recommenders": ("svd",)}, "recommenders must be among"),
        ({"modalities": ("sound",)}, "modalities must be among"),
        ({"fills": ("oracle",)}, "fills must be among"),
        ({"rates": (0.0,)}, r"rates must lie in \(0, 1\]"),
        ({"rates": (20.0,)}, r"rates must lie in \(0, 1\]"),
        ({"rates": (float("nan"),)}, r"rates must lie in \(0, 1\]"),
        ({"seeds": ()}, "seeds not be empty"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        conditions(replace(GRID, **wrong))


def test_a_model_called_like_a_fill_is_refused():
    for name in ("zeros", "oracle", "shuffled", "none"):
        with pytest.raises(ValueError, match="call the model otherwise"):
            conditions(GRID, {"text": (name,)})


def test_parts_of_other_items_are_refused():
    with pytest.raises(ValueError, match="must be of the split's 60 items"):
        replace(BENCH, categories=BENCH.categories[1:])
    with pytest.raises(ValueError, match="must have 60 rows, got 59"):
        replace(BENCH, completions={("m", "text"): np.zeros((59, 8))})
    with pytest.raises(ValueError, match="must be of the split's 60 items"):
        replace(BENCH, features=replace(BENCH.features, items=np.array([f"j{k:02d}" for k in range(60)])))


def test_a_failed_completion_is_counted_and_never_the_truth():
    hidden, made = BENCH.hidden[ONE], BENCH.completions["m", "text"]
    failed = np.isnan(made).any(1)
    for fallback in ("zeros", "random"):
        found = fill_condition(replace(BENCH, fallback=fallback), Condition("vbpr", *ONE, "m", 0))
        assert (found.missing, found.fallback) == (hidden.sum(), (hidden & failed).sum())
        assert (found.values[hidden & failed] != BENCH.features.text[hidden & failed]).any(1).all()
    np.testing.assert_array_equal(found.values[hidden & ~failed], made[hidden & ~failed])
    np.testing.assert_array_equal(found.values[~hidden], BENCH.features.text[~hidden])


def test_hidden_truth_reaches_no_cell_but_the_yardsticks():
    "The other modality of another hidden share sees it too, since there it is not hidden."
    other = with_truth("text", BENCH.hidden[ONE])
    text = [c for c in CHOSEN if c.modality in ("text", "none")]
    assert {c.fill for c in changed(other, text)} == {"oracle", "shuffled"}
    for fill in ("zeros", "category_mean", "m", "drop"):
        cell = Condition("vbpr", *ONE, fill, 0)
        pd.testing.assert_frame_equal(rank_condition(other, cell), rank_condition(BENCH, cell))


def test_one_completion_changes_only_the_cells_of_its_model():
    made = BENCH.completions["m", "text"].copy()
    usable = np.flatnonzero(BENCH.hidden[ONE] & ~np.isnan(made).any(1))
    made[usable[0], 0] += 1
    assert changed(replace(BENCH, completions={("m", "text"): made})) == {Condition("vbpr", *ONE, "m", 0)}
    unused = BENCH.completions["m", "text"].copy()
    unused[~BENCH.hidden[ONE]] = 5
    assert changed(replace(BENCH, completions={("m", "text"): unused})) == set()


def test_one_feature_row_changes_the_cells_that_read_it_and_no_other():
    shown = np.flatnonzero(~BENCH.hidden[ONE])[0]
    assert changed(with_truth("text", [shown])) == {c for c in CHOSEN if c.recommender == "vbpr"}
    assert changed(replace(BENCH, training=replace(SMALL, epochs=3))) == set(CHOSEN)
    assert changed(replace(BENCH, settings={"popularity": {"x": 1}})) == {
        c for c in CHOSEN if c.recommender == "popularity"
    }


def test_items_that_never_had_a_title_are_not_hidden_ones():
    "They are zeros in every cell, are not dropped and are not counted."
    own = BENCH.features.text.copy()
    never = np.flatnonzero(~BENCH.hidden[ONE])[:2]
    own[never] = np.nan
    lacking = replace(BENCH, features=replace(BENCH.features, text=own))
    for fill in ("zeros", "category_mean", "m", "drop"):
        found = fill_condition(lacking, Condition("vbpr", *ONE, fill, 0))
        assert found.missing == BENCH.hidden[ONE].sum() and not found.dropped[never].any()
        assert not found.values[never].any()
    for cell in (Condition("vbpr", *ONE, "drop", 0), Condition("vbpr", "text", 1.0, "shuffled", 0)):
        assert np.isfinite(rank_condition(lacking, cell)["value"]).all()


def test_dropped_items_are_never_recommended():
    from mmpc_analysis.recommendation import benchmark as r
    from mmpc_analysis.recommendation.ranking import rank
    from mmpc_analysis.recommendation.training import fit

    split, features, dropped = training_inputs(BENCH, Condition("vbpr", *ONE, "drop", 0))
    assert (dropped == BENCH.hidden[ONE]).all()
    assert not dropped[split.train[:, 1]].any() and not dropped[split.valid[:, 1]].any()
    np.testing.assert_array_equal(split.test, BENCH.split.test)
    fitted = fit("vbpr", split, features, training=BENCH.training, progress=False)
    ranked = rank(r._scorer(fitted.scorer, dropped), split, "test", (20,))
    assert not dropped[ranked.top].any()


def test_dropping_leaves_the_users_and_gives_zero_to_those_who_lost_everything():
    user = BENCH.split.train[0, 0]
    hidden = BENCH.hidden[ONE].copy()
    hidden[BENCH.split.train[BENCH.split.train[:, 0] == user, 1]] = True
    poor = replace(BENCH, hidden={ONE: hidden})
    found = {f: rank_condition(poor, Condition("vbpr", *ONE, f, 0)) for f in ("drop", "zeros")}
    keys = ["user_id", "category", "metric"]
    rows = [set(map(tuple, f[keys].to_numpy())) for f in found.values()]
    assert rows[0] == rows[1] and len(rows[0]) == len(found["drop"]) == len(found["zeros"])
    assert (found["drop"].loc[found["drop"]["user_id"] == BENCH.split.users[user], "value"] == 0).all()


def test_where_nearly_everything_is_dropped_nobody_is_served():
    "A legal hiding that leaves nothing to train on must not end a run of hours."
    poor = replace(BENCH, hidden={ONE: np.arange(60) > 0})
    for recommender in ("vbpr", "bm3"):
        rows = rank_condition(poor, Condition(recommender, *ONE, "drop", 0))
        assert (rows["value"] == 0).all() and rows["user_id"].nunique() == 80


@pytest.mark.parametrize("name", ["recall", "coverage@20", "recall@", "recall@x"])
def test_a_metric_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="metrics must be one of"):
        replace(BENCH, metrics=(name,))


def test_categories_agree_with_the_whole():
    rows = rank_condition(BENCH, Condition("popularity", "none", 0.0, "none", 0))
    pooled = rows[rows["category"] == "all"].set_index(["user_id", "metric"])["value"]
    parts = rows[rows["category"] != "all"]
    assert set(parts["category"]) <= set(BENCH.categories)
    held = pd.Series(BENCH.categories[BENCH.split.test[:, 1]], BENCH.split.users[BENCH.split.test[:, 0]])
    one = parts[~parts.duplicated(["user_id", "metric"], keep=False)]
    assert (
        len(one)
        and (
            one["value"].to_numpy()
            == pooled.loc[list(zip(one["user_id"], one["metric"], strict=True))].to_numpy()
        ).all()
    )
    for (user, metric), value in pooled.items():
        if metric == "recall@20":
            mine = parts[(parts["user_id"] == user) & (parts["metric"] == metric)]
            weights = held.loc[[user]].value_counts()[mine["category"]].to_numpy()
            assert np.average(mine["value"], weights=weights) == pytest.approx(value, abs=1e-12)


def test_per_user_by_hand():
    "One user, two held-out purchases of two categories, one of them found in the first place."
    from mmpc_analysis.recommendation.ranking import rank
    from mmpc_analysis.recommendation.splits import Split

    pairs = np.array([[0, 0]])
    split = Split(np.array(["u"]), np.array(list("abcd")), pairs, pairs[:0], np.array([[0, 1], [0, 2]]))
    ranked = rank((np.ones((1, 1)), np.array([[0], [3], [1], [2]])), split, "test", (1,))
    found = per_user(ranked, split, np.array(list("xxyy")), ("recall@1", "hit_rate@1")).set_index(
        ["category", "metric"]
    )
    assert found["value"].to_dict() == {
        ("all", "recall@1"): 0.5, ("all", "hit_rate@1"): 1.0, ("x", "recall@1"): 1.0,
        ("x", "hit_rate@1"): 1.0, ("y", "recall@1"): 0.0, ("y", "hit_rate@1"): 0.0,
    }  # fmt: skip


CHILD = """
import sys, time
sys.path[:0] = {tests!r}
import test_benchmark as t
from mmpc_analysis.recommendation import benchmark as r
plain = r.rank_condition
def slow(bench, cell):
    time.sleep(0.25)
    return plain(bench, cell)
r.rank_condition = slow
r.run_grid(t.BENCH, t.CHOSEN, {out!r}, workers=1, progress=False)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "The table of an uninterrupted run and its folder."
    out = str(tmp_path_factory.mktemp("whole") / "rankings")
    return run_grid(BENCH, CHOSEN, out, progress=False), out


def test_a_killed_run_goes_on_where_it_was(tmp_path, whole):
    out = str(tmp_path / "rankings")
    code = CHILD.format(tests=sys.path, out=out)
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        for _ in range(2000):
            if len(store.shard_names(out)) >= 2 or child.poll() is not None:
                break
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = {path: os.stat(path).st_mtime_ns for path in store.shard_names(out).values()}
    assert 2 <= len(before) < len(CHOSEN)
    found = run_grid(BENCH, CHOSEN, out, progress=False)
    pd.testing.assert_frame_equal(found, whole[0])
    assert {path: os.stat(path).st_mtime_ns for path in before} == before
    assert len(store.shard_names(out)) == len(CHOSEN)


def test_two_workers_make_the_table_of_one(tmp_path, whole):
    found = run_grid(BENCH, CHOSEN, str(tmp_path / "rankings"), workers=2, progress=False)
    pd.testing.assert_frame_equal(found, whole[0], check_exact=True)


def test_a_smaller_grid_forgets_and_a_run_leaves_the_threads_alone(tmp_path, whole):
    import torch

    out, before = str(tmp_path / "rankings"), torch.get_num_threads()
    for few in (TEXT_ONLY, TEXT_ONLY[:1]):
        found = run_grid(BENCH, few, out, progress=False)
        assert set(store.shard_names(out)) == set(condition_keys(BENCH, few))
        assert len(found[["fill", "modality"]].drop_duplicates()) == len(few)
    assert torch.get_num_threads() == before


def test_the_table_can_be_answered_from(whole):
    found = recover(whole[0])
    assert {"mean", "use", "gain", "recovered", "lead"} == set(found["term"])
    pooled = found[found["category"] == "all"]
    assert set(pooled["verdict"]) == {"one training", "estimated", "not given"}, "trained once"
    assert len(hidden_rows(BENCH)) == sum(h.sum() for h in BENCH.hidden.values())


def test_without_features_there_is_one_cell_and_no_gain(tmp_path):
    only = conditions(replace(GRID, recommenders=("popularity",)), models_of(BENCH))
    found = recover(run_grid(BENCH, only, str(tmp_path / "rankings"), progress=False))
    assert len(only) == 1 and set(found["term"]) == {"mean"}


def test_rates_above_what_was_completed_are_cut():
    study = Study()
    study = replace(
        study,
        missing=replace(study.missing, rates=(0.2, 0.4)),
        recommendation=RecommendationChoice(rates=(0.1, 0.5, 1.0), seeds=2),
        completion=replace(study.completion, tasks=("image_to_text",)),
    )
    grid = grid_of(study)
    assert (grid.rates, grid.modalities, grid.seeds) == ((0.1, 0.4), ("text",), (0, 1))
    both = replace(study, recommendation=replace(study.recommendation, both=True))
    assert grid_of(both).modalities == ("text", "both") and "both" not in grid_of(Study()).modalities


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"fallback": "category_mean"}, "recommendation.fallback must be among zeros, random"),
        ({"fills": ("category_mean", "zeros")}, "recommendation.fills must begin with zeros or random"),
        ({"fills": ("oracle",)}, "recommendation.fills must be among"),
        ({"recommenders": ("svd",)}, "recommendation.recommenders must be among"),
        ({"rates": (0.0,)}, "recommendation.rates must be above 0"),
        ({"learning_rate": float("nan")}, "recommendation.learning_rate must be above 0"),
        ({"epochs": 0}, "recommendation.epochs must be at least 1"),
    ],
)
def test_a_study_is_refused_before_any_model_runs(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_study(replace(Study(), recommendation=RecommendationChoice(**wrong)))


def test_a_study_may_ask_for_every_baseline_and_for_both():
    fills = tuple(sorted(BASELINES, key=lambda f: f != "zeros"))
    check_study(replace(Study(), recommendation=RecommendationChoice(fills=fills, both=True)))
    assert {"co_purchase_pagerank", "co_purchase_heat", "drop"} <= set(fills)
    assert not {"co_purchase_pagerank", "co_purchase_heat"} & set(Study().recommendation.fills), (
        "not by default"
    )


def test_what_could_not_be_filled_is_counted_for_the_report(tmp_path):
    hidden, failed = BENCH.hidden[ONE], np.isnan(BENCH.completions["m", "text"]).any(axis=1)
    rows = {row["fill"]: row for row in not_filled(BENCH, CHOSEN)}
    assert rows["m"]["fallback"] == (hidden & failed).sum() and rows["m"]["missing"] == hidden.sum()
    assert "zeros" not in rows and "drop" not in rows
    assert fallback_words(str(tmp_path)) == []
    frame = tables.empty(tables.RECOVERY)
    frame.attrs["fallback"] = [rows["m"]]
    cached_table(str(tmp_path), tables.RECOVERY, [], lambda: frame)
    told = f"m {rows['m']['fallback']} of {hidden.sum()} titles at 50%."
    assert fallback_words(str(tmp_path))[0].endswith(told)


# ---------------------------------------------------------------- both modalities, and who may be recommended


def with_both(**more):
    "The bench with a third mask, under which an item loses title and picture."
    hidden = BENCH.hidden | {("both", 0.5): np.random.default_rng(3).random(60) < 0.5}
    return replace(BENCH, hidden=hidden, **more)


def test_both_are_filled_from_what_is_left_and_no_model_takes_part():
    bench = with_both()
    grid = replace(GRID, modalities=("text", "both"), fills=(*GRID.fills, "nearest_other_modality"))
    chosen = conditions(grid, models_of(bench))
    both = [c for c in chosen if c.modality == "both"]
    assert [c.fill for c in both] == ["category_mean", "drop", "nearest_other_modality", "zeros", "shuffled"]
    hid = bench.hidden["both", 0.5]
    _, features, _ = training_inputs(bench, both[3])
    for modality, truth in (("text", BENCH.features.text), ("image", BENCH.features.image)):
        assert not features[modality][hid].any()
        np.testing.assert_array_equal(features[modality][~hid], truth[~hid])
    nearest = fill_condition(bench, both[2], "text")
    assert nearest.fallback == nearest.missing == hid.sum(), "what resembles it cannot be seen either"
    means = fill_condition(bench, both[0], "image").values
    for item in np.flatnonzero(hid):
        same = ~hid & (bench.categories == bench.categories[item])
        wanted = BENCH.features.image[same if same.any() else ~hid].mean(axis=0)
        np.testing.assert_allclose(means[item], wanted, atol=1e-6)
    rows = {row["fill"]: row for row in not_filled(bench, both)}
    assert (
        rows["nearest_other_modality"]["fallback"]
        == rows["nearest_other_modality"]["missing"]
        == 2 * hid.sum()
    )
    for modality in ("", "both", "sound"):
        with pytest.raises(ValueError, match="modality must be text or image, which the condition hides"):
            fill_condition(bench, both[0], modality)


def test_the_truth_of_both_reaches_no_cell_but_the_yardsticks():
    bench = with_both()
    hid = bench.hidden["both", 0.5]
    lies = {m: np.where(hid[:, None], 9, getattr(BENCH.features, m)) for m in ("text", "image")}
    other = replace(bench, features=replace(BENCH.features, **lies))
    chosen = conditions(replace(GRID, recommenders=("vbpr",), modalities=("both",)))
    before, after = condition_keys(bench, chosen), condition_keys(other, chosen)
    assert {c.fill for k, c in after.items() if k not in before} == {"oracle", "shuffled"}
    cell = Condition("vbpr", "both", 0.5, "category_mean", 0)
    pd.testing.assert_frame_equal(rank_condition(bench, cell), rank_condition(other, cell))


def test_a_grid_of_both_can_be_answered_from(tmp_path):
    bench = with_both()
    grid = replace(GRID, recommenders=("vbpr",), modalities=("both",))
    found = recover(run_grid(bench, conditions(grid), str(tmp_path / "rankings"), progress=False))
    assert set(found.loc[found["term"] == "gain", "modality"]) == {"both"}
    assert set(found.loc[found["term"] == "gain", "fill"]) == {"category_mean", "drop"}


def test_the_purchases_of_both_dropped_leave_the_training():
    bench = with_both()
    split, _, dropped = training_inputs(bench, Condition("vbpr", "both", 0.5, "drop", 0))
    assert (dropped == bench.hidden["both", 0.5]).all() and not dropped[split.train[:, 1]].any()
    assert not dropped[split.valid[:, 1]].any() and np.array_equal(split.test, bench.split.test)


def test_keys_of_before_do_not_know_that_there_are_candidates():
    "Runs that lie on disk are not trained again; another set of candidates is another result."
    chosen = CHOSEN[:3]
    assert set(condition_keys(with_both(), chosen)) == set(condition_keys(BENCH, chosen))
    some = np.arange(60) % 2 == 0
    keys = [set(condition_keys(replace(BENCH, candidates=c), chosen)) for c in (None, some, ~some)]
    assert not keys[0] & keys[1] and not keys[1] & keys[2]


def test_only_candidates_are_recommended_and_only_they_can_be_hits():
    some = np.zeros(60, bool)
    some[:12] = True
    bench = replace(BENCH, candidates=some)
    for cell in (
        Condition("vbpr", "none", 0.0, "oracle", 0),
        Condition("popularity", "none", 0.0, "none", 0),
    ):
        lists = condition_lists(bench, cell)
        assert set(lists.top[lists.top >= 0]) <= set(range(12)) and (lists.top[:, 12:] == -1).all()
        held = {tuple(pair) for pair in BENCH.split.test}
        hits = [
            (u, i) for u, row, hit in zip(lists.users, lists.top, lists.hits, strict=True) for i in row[hit]
        ]
        assert hits and set(hits) <= held
        assert len(hits) == sum(u in set(lists.users) and i < 12 for u, i in held), (
            "every candidate is in the list of 20"
        )
        recall = (
            rank_condition(bench, cell).query("category == 'all' and metric == 'recall@20'")["value"].mean()
        )
        assert recall == pytest.approx(len(hits) / len(lists.users))
    for wrong in (some[1:], some.astype(int)):
        with pytest.raises(ValueError, match="candidates must be 60 booleans"):
            replace(BENCH, candidates=wrong)


def test_where_fewer_items_are_left_than_a_list_is_long_a_dropped_one_is_no_hit():
    "It stands behind all others, and is struck out: whoever bought it later is a miss."
    left = np.arange(60) < 25  # Of which users know some, so that lists of 20 cannot be filled
    poor = replace(BENCH, hidden={ONE: ~left}, metrics=("recall@30",))
    cell = Condition("vbpr", *ONE, "drop", 0)
    lists = condition_lists(poor, cell)
    assert set(lists.top[lists.top >= 0]) <= set(np.flatnonzero(left)) and (lists.top == -1).any()
    served = {BENCH.split.users[u] for u in lists.users}
    later = {BENCH.split.users[u]: i for u, i in BENCH.split.test}
    rows = rank_condition(poor, cell).query("category == 'all'").set_index("user_id")["value"]
    assert len(rows) == 80
    for user, item in later.items():
        assert rows[user] == (user in served and left[item]), "everything that is left is listed"


# ---------------------------------------------------------------- trainings, and what decides the mask


def test_a_condition_is_trained_with_every_seed_and_one_without_chance_once():
    grid = Grid(("vbpr", "popularity", "itemknn", "bpr"), ("text",), (0.5,), ("zeros",), (3, 4, 5))
    seeds = {}
    for condition in conditions(grid):
        seeds.setdefault((condition.recommender, condition.fill), []).append(condition.seed)
    assert seeds.pop(("popularity", "none")) == seeds.pop(("itemknn", "none")) == [3]
    assert len(seeds) == 4 and all(found == [3, 4, 5] for found in seeds.values())
    assert len(Grid().seeds) >= 5 and Study().recommendation.seeds >= 5


def given(purchases):
    "The same purchases with their parts in the file, the judging ones first, so that the order cannot help."
    parts = np.select([purchases["timestamp"] == 5, purchases["timestamp"] == 4], ["test", "valid"], "train")
    return purchases.assign(part=parts).sort_values("timestamp", ascending=False)


def test_what_judges_does_not_decide_what_is_hidden_by_popularity(monkeypatch):
    "Other purchases in validation and test, the same in training: the same titles are hidden."
    from mmpc_analysis.recommendation import benchmark as r
    from mmpc_analysis.study.study_inputs import _what_was_known, hide_items

    rng = np.random.default_rng(1)
    items = pd.DataFrame({"item_id": ITEMS, "category": "A", "title": "t", "image": "i.png"})
    rows = [
        (f"u{u:02d}", i, t) for u in range(80) for t, i in enumerate(rng.choice(ITEMS[:40], 6, replace=False))
    ]
    bought = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    last = bought["timestamp"] >= 4
    other = bought.assign(item_id=bought["item_id"].where(~last, rng.choice(ITEMS[40:], len(bought))))
    other = (
        other.drop_duplicates(["user_id", "item_id"]).groupby("user_id").filter(lambda mine: len(mine) == 6)
    )
    bought = bought[bought["user_id"].isin(other["user_id"])]
    features = ItemFeatures(ITEMS, rng.normal(size=(60, 4)), rng.normal(size=(60, 4)))
    monkeypatch.setattr(r, "item_features", lambda *a, **k: features)
    grid = Grid(("vbpr",), ("text", "image", "both"), (0.5,))
    asked = (tables.empty(tables.COMPLETIONS), grid, "", "", "by_popularity")
    for how, change in (("leave_last_two", lambda t: t), ("given", given)):
        masks = [r.make_benchmark(items, change(p), *asked, how=how).hidden for p in (bought, other)]
        for modality in grid.modalities:
            made = [mask[modality, 0.5] for mask in masks]
            assert np.array_equal(*made) and 0 < made[0].sum() < 60
    made = [mask[ONE] for mask in masks]
    study = replace(Study(), missing=replace(Study().missing, mechanism="by_popularity", rates=(0.5,)))
    for purchases in (bought, other, given(bought), given(other)):
        hidden = hide_items(study, items, _what_was_known(study, purchases))
        assert set(hidden.loc[hidden["modality"] == "text", "item_id"]) == set(ITEMS[made[0]])
    assert _what_was_known(Study(), bought) is None and _what_was_known(study, None) is None
