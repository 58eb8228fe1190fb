"Ranking: MMRec's evaluator, ranx on 3,000 users, a plain loop, blocks that must not matter, and scores made to mislead."

import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmpc_analysis.recommendation.ranking import (
    CUTS,
    RANKING_METRICS,
    Lists,
    _rounded,
    best_of,
    block_shape,
    coverage,
    hit_metrics,
    lists_of,
    novelty,
    rank,
    scored_users,
    top_items,
)
from mmpc_analysis.recommendation.splits import split_of_codes
from mmpc_analysis.store import hash_unit

DATA = ROOT / "tests" / "data"
MMREC = np.load(DATA / "recommendation" / "mmrec" / "evaluation.npz")
SMALL = np.load(DATA / "recommendation" / "mmrec" / "data_small.npz")
SAID = json.loads((DATA / "recommendation" / "mmrec" / "evaluation.json").read_text())
RANX = np.load(DATA / "recommendation" / "ranking" / "ranx.npz")


class Table:
    "A scorer that has all scores, for tests."

    def __init__(self, scores):
        self.scores = scores

    def score_block(self, users):
        return self.scores[users]


def mmrec_split():
    return split_of_codes(
        *(SMALL[part] for part in ("train", "valid", "test")), int(SMALL["n_users"]), int(SMALL["n_items"])
    )


def ranx_split():
    return split_of_codes(*(RANX[part].astype(int) for part in ("train", "valid", "test")), 3000, 400)


def vectors(rng, n_users, n_items, width=64, dtype=np.float32):
    return (rng.normal(size=(n, width)).astype(dtype) for n in (n_users, n_items))


# ---------------------------------------------------------------- other implementations


@pytest.mark.parametrize("part", ["valid", "test"])
def test_the_evaluator_of_mmrec(part):
    ranked = rank(Table(MMREC["scores"]), mmrec_split(), part, mask=("train",))
    order = np.argsort(MMREC[f"{part}/users"])
    assert np.array_equal(ranked.users, MMREC[f"{part}/users"][order])
    assert np.array_equal(ranked.top, MMREC[f"{part}/topk50_items"][order])
    assert np.array_equal(ranked.hits, MMREC[f"{part}/hits"][order])
    assert np.array_equal(ranked.held_out, MMREC[f"{part}/n_positives"][order])
    for metric in ("recall", "ndcg", "precision", "map"):
        got = np.column_stack([ranked.metrics[f"{metric}@{k}"] for k in CUTS])
        assert np.abs(got - MMREC[f"{part}/per_user/{metric}"][order]).max() <= 1e-12
    means = ranked.means()
    assert max(abs(means[name] - value) for name, value in SAID[part]["unrounded"].items()) <= 1e-12
    assert ranked.left_out == {"nothing_held_back": 0, "nothing_in_train": 1}


def test_many_held_back_as_mmrec_counts_them():
    got = hit_metrics(MMREC["block/hits"], MMREC["block/n_positives"])
    for metric in ("recall", "ndcg", "precision", "map"):
        theirs = MMREC[f"block/per_user/{metric}"]
        assert np.abs(np.column_stack([got[f"{metric}@{k}"] for k in CUTS]) - theirs).max() <= 1e-12
    assert (MMREC["block/n_positives"] > 50).any()


def test_masking_validation_too_is_what_we_do():
    split = mmrec_split()
    both, train = (rank(Table(MMREC["scores"]), split, mask=m) for m in (("train", "valid"), ("train",)))
    valid = {tuple(pair) for pair in split.valid.tolist()}
    taken = [
        sum((u, i) in valid for u, row in zip(r.users, r.top, strict=True) for i in row)
        for r in (both, train)
    ]
    assert taken == [0, 102]
    assert both.means()["recall@20"] > train.means()["recall@20"]


@pytest.mark.parametrize("way", ["vectors", "blocks"])
def test_ranx_on_3000_users(way):
    users, items = RANX["users"].astype(np.float32), RANX["items"].astype(np.float32)
    scorer = (users, items) if way == "vectors" else Table(users.astype(int) @ items.astype(int).T)
    ranked = rank(scorer, ranx_split(), megabytes=3)
    assert np.array_equal(ranked.users, np.arange(3000))
    for metric in RANKING_METRICS:
        for k in CUTS:
            theirs = RANX[f"{metric}@{k}"]
            if metric == "map":  # ranx divides by all items held back, also where the cut is shorter
                theirs = theirs * ranked.held_out / np.minimum(ranked.held_out, k)
            assert np.abs(ranked.metrics[f"{metric}@{k}"] - theirs).max() <= 1e-12, (metric, k)


def by_loop(scores, split, part, mask, cuts):
    "The protocol as it is usually written: one user at a time."
    seen, held = {}, {}
    for name in mask:
        for user, item in getattr(split, name).tolist():
            seen.setdefault(user, set()).add(item)
    for user, item in getattr(split, part).tolist():
        held.setdefault(user, set()).add(item)
    trained = set(split.train[:, 0].tolist())
    result = {f"{m}@{k}": [] for m in RANKING_METRICS for k in cuts}
    for user in sorted(set(held) & trained):
        row = scores[user].astype(float)
        row[list(seen.get(user, ()))] = -np.inf
        drawn = [hash_unit("tie", item) for item in split.items]
        best = sorted(range(len(row)), key=lambda item: (-row[item], drawn[item]))[: max(cuts)]
        hits = [item in held[user] and row[item] > -np.inf for item in best]
        m = len(held[user])
        for k in cuts:
            cut = hits[:k]
            gained = sum(1 / np.log2(j + 2) for j, hit in enumerate(cut) if hit)
            ideal = sum(1 / np.log2(j + 2) for j in range(min(m, k)))
            precise = sum(sum(cut[: j + 1]) / (j + 1) for j, hit in enumerate(cut) if hit)
            result[f"recall@{k}"].append(sum(cut) / m)
            result[f"ndcg@{k}"].append(gained / ideal)
            result[f"mrr@{k}"].append(1 / (cut.index(True) + 1) if any(cut) else 0.0)
            result[f"hit_rate@{k}"].append(float(any(cut)))
            result[f"precision@{k}"].append(sum(cut) / k)
            result[f"map@{k}"].append(precise / min(m, k))
    return {name: np.array(values) for name, values in result.items()}


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=3, max_size=40),
    st.randoms(use_true_random=False),
    st.sampled_from(["valid", "test"]),
    st.integers(0, 2**32 - 1),
)
def test_a_plain_loop_with_ties_everywhere(pairs, random, part, seed):
    pairs = sorted(pairs)
    labels = [random.randrange(3) for _ in pairs]
    parts = [np.array([p for p, x in zip(pairs, labels, strict=True) if x == n] or []) for n in range(3)]
    split = split_of_codes(*parts, 7, 9)
    scores = np.random.default_rng(seed).integers(0, 3, (7, 9))
    mask = tuple(name for name in ("train", "valid") if name != part)
    told = by_loop(scores, split, part, mask, (1, 3, 9))
    if not len(told["recall@1"]):
        with pytest.raises(ValueError, match="no user can be judged"):
            rank(Table(scores), split, part, cuts=(1, 3, 9))
        return
    ranked = rank(Table(scores), split, part, cuts=(1, 3, 9))
    for name, values in told.items():
        assert np.abs(ranked.metrics[name] - values).max() <= 1e-12


# ---------------------------------------------------------------- lists


scores_with_ties = st.tuples(st.integers(1, 4), st.integers(1, 60)).flatmap(
    lambda shape: arrays(
        np.float32, shape, elements=st.sampled_from([-np.inf, -1, -0.0, 0.0, 0.5, 2, np.inf])
    )
)


@settings(max_examples=200, deadline=None)
@given(scores_with_ties, st.data())
@example(np.zeros((2, 40), np.float32), None)
def test_the_best_are_those_of_a_stable_sort(scores, data):
    k = data.draw(st.integers(1, scores.shape[1])) if data else 3
    before = scores.copy()
    columns, values = best_of(scores, k)
    assert np.array_equal(columns, np.argsort(-scores, axis=1, kind="stable")[:, :k])
    assert np.array_equal(values, np.take_along_axis(scores, columns, axis=1))
    assert np.array_equal(scores, before)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 6), st.data())
def test_nan_is_found_wherever_it_stands(m, k, data):
    scores = np.random.default_rng(m).normal(size=(3, m))
    place = data.draw(st.tuples(st.integers(0, 2), st.integers(0, m - 1)))
    scores[place] = np.nan
    with pytest.raises(ValueError, match="a score is NaN"):
        best_of(scores, min(k, m))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 63, 48), (257, 65, 700), (700, 3001, 64)])
def test_no_budget_changes_a_bit(dtype, shape):
    rng = np.random.default_rng(1)
    *shape, width = shape
    users, items = vectors(rng, *shape, width=width, dtype=dtype)
    items[shape[1] // 2 :: 7] = items[0]  # Items that are exactly alike, far apart
    k = min(50, shape[1])
    lists = [top_items(users, items, k, megabytes=mb) for mb in (1e-6, 2, 7, 64, 4000)]
    for other in lists[1:]:
        assert np.array_equal(lists[0], other)
    some = top_items(users[::-1], items, k)[::-1]
    assert np.array_equal(some, lists[0])
    assert np.array_equal(np.concatenate([top_items(users[i : i + 1], items, k) for i in range(0, shape[0], 50)]), lists[0][::50])  # fmt: skip
    alike = np.flatnonzero((items == items[0]).all(axis=1))
    for row in lists[0]:
        at = row[np.isin(row, alike)]
        assert np.array_equal(at, np.sort(at)), "items with one vector stand in the order of their codes"


KERNELS = """
import numpy as np
from mmpc_analysis.recommendation.ranking import top_items
rng = np.random.default_rng(1)
for dtype in (np.float32, np.float64):
    for width in (48, 64, 448):
        users, items = (rng.normal(size=(n, width)).astype(dtype) for n in (300, 901))
        items[450::7] = items[0]
        print(top_items(users, items, 50).tolist())
"""


def test_no_processor_changes_a_bit():
    """OpenBLAS multiplies as on another processor when told to; other libraries do not listen and must agree all the same.

    Every x86 processor of the last ten years can do all of these. Single precision in plain products fails here.
    """
    told = {}
    for kernels in ("", "Nehalem", "Sandybridge", "Haswell"):
        for threads in ("1", "2"):
            setting = {
                "OPENBLAS_CORETYPE": kernels,
                "OMP_NUM_THREADS": threads,
                "OPENBLAS_NUM_THREADS": threads,
            }
            others = {key: value for key, value in os.environ.items() if key not in setting}
            setting = {key: value for key, value in setting.items() if value}
            run = subprocess.run(
                [sys.executable, "-c", KERNELS],
                env=others | setting,
                capture_output=True,
                text=True,
                check=True,
            )
            told[kernels, threads] = run.stdout
    assert len(told["", "1"].splitlines()) == 6
    assert len(set(told.values())) == 1, "the lists depend on the processor or on the number of threads"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 3, 63, 64, 65, 500, 4096]), st.integers(0, 2**32 - 1), st.booleans())
@example(64, 0, True)
@example(4096, 0, True)
def test_every_sum_is_exact(width, seed, large):
    "Against whole fractions; `large` has all numbers just below a power of two, which needs every digit there is."
    rng = np.random.default_rng(seed)
    users, items = (
        (1 - rng.random((n, width)) / 1e5) * 2.0 ** rng.integers(-30, 30, (n, 1))
        if large
        else rng.normal(size=(n, width)) * 2.0 ** rng.integers(-30, 30, (n, width))
        for n in (2, 3)
    )
    users, items = users.astype(np.float32), items.astype(np.float32)
    left, right = _rounded(users), _rounded(items)
    order = rng.permutation(width)
    for scores in (left @ right.T, left[:, order] @ right[:, order].T, np.einsum("ud,id->ui", left, right)):
        for u in range(2):
            for i in range(3):
                whole = sum(Fraction(a) * Fraction(b) for a, b in zip(left[u], right[i], strict=True))
                assert Fraction(scores[u, i]) == whole
    bits = (53 - (width - 1).bit_length()) // 2
    room = np.abs(users).max(1)[:, None] * np.abs(right).sum(1) + np.abs(users).sum(1)[:, None] * np.abs(
        items
    ).max(1)
    gap = np.abs(left @ right.T - users.astype(float) @ items.astype(float).T)
    assert (gap <= room * 2.0**-bits * (1 + 1e-6)).all()


def test_a_change_that_single_precision_sees_is_seen():
    "Two items that differ in the last but one digit of one number stand in the order of their scores."
    for at in range(64):
        items = np.ones((2, 64), np.float32)
        items[1, at] += 2.0**-22
        assert top_items(np.ones((1, 64)), items.astype(np.float64), 2).tolist() == [[1, 0]]
        assert top_items(-np.ones((1, 64)), items.astype(np.float64), 2).tolist() == [[0, 1]]


def test_masks_hold_in_every_block():
    rng = np.random.default_rng(2)
    users, items = vectors(rng, 300, 900)
    has = rng.random((300, 900)) < 0.3
    has[7] = True
    has[8, 4:] = True
    masked = Lists(np.concatenate([[0], np.cumsum(has.sum(axis=1))]), np.nonzero(has)[1])
    lists = [top_items(users, items, 20, masked, mb) for mb in (1e-6, 64)]
    assert np.array_equal(*lists)
    for row, top in enumerate(lists[0]):
        assert not has[row, top[top >= 0]].any()
        assert (top >= 0).sum() == min(20, (~has[row]).sum())
    assert (lists[0][7] == -1).all() and (lists[0][8, 4:] == -1).all()


def test_lists_of_users_in_any_order():
    pairs = np.array([[2, 5], [0, 1], [2, 4], [1, 9]])
    lists = lists_of(pairs, np.array([2, 0, 3]), 4)
    assert lists.starts.tolist() == [0, 2, 3, 3] and lists.codes.tolist() == [5, 4, 1]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.floats(1e-6, 1e6))
def test_a_block_keeps_to_its_budget(n_items, megabytes):
    down, across = block_shape(n_items, megabytes)
    assert down % 128 == 0 and across % 64 == 0 and min(down, across) > 0
    assert down * across * 32 <= max(megabytes * 1e6, 128 * 64 * 32)


def test_a_million_users_never_meet_all_items():
    rng = np.random.default_rng(3)
    users, items = vectors(rng, 6000, 30_000, width=8)
    tracemalloc.start()
    lists = top_items(users, items, 10, megabytes=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lists.shape == (6000, 10)
    assert peak < 20e6 < users.shape[0] * items.shape[0] * 4 / 30, f"{peak / 1e6:.0f} MB at the peak"


def test_tensors_halves_and_views_are_taken_and_not_changed():
    import torch

    rng = np.random.default_rng(4)
    users, items = vectors(rng, 20, 30)
    split = split_of_codes([[u, u] for u in range(20)], [], [[u, u + 1] for u in range(20)], 20, 30)
    told = rank((users, items), split)
    tensors = torch.nn.Parameter(torch.from_numpy(users)), torch.from_numpy(items)
    assert np.array_equal(rank(tensors, split).top, told.top)
    half = rank((users.astype(np.float16), items.astype(np.float16)), split)
    assert half.top.shape == (20, 50) and (half.top[:, 29:] == -1).all()
    table = users @ items.T
    table.flags.writeable = False
    assert np.array_equal(rank(Table(table), split).users, told.users)


# ---------------------------------------------------------------- users, metrics, beyond


def test_who_is_judged_is_counted():
    split = split_of_codes([[0, 0], [1, 0]], [], [[0, 1], [2, 1]], 4, 2)
    users, left_out = scored_users(split, "test")
    assert users.tolist() == [0] and left_out == {"nothing_held_back": 2, "nothing_in_train": 1}
    with pytest.raises(ValueError, match="no user can be judged by valid"):
        scored_users(split, "valid")


def test_a_part_is_never_masked_by_itself():
    split = split_of_codes([[0, 0]], [[0, 1]], [[0, 2]], 1, 4)
    table = Table(np.array([[4.0, 3, 2, 1]]))
    assert rank(table, split, "valid", cuts=(4,)).top.tolist() == [[1, 2, 3, -1]]
    assert rank(table, split, "valid", cuts=(4,), mask=()).top.tolist() == [[0, 1, 2, 3]]
    assert rank(table, split, "test", cuts=(4,), mask=("test", "train")).top.tolist() == [[1, 2, 3, -1]]


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 12))), st.integers(0, 3))
def test_metrics_lie_between_0_and_1_and_a_perfect_list_is_1(hits, more):
    held = hits.sum(axis=1) + more
    values = hit_metrics(hits, held, cuts=(1, hits.shape[1]))
    for name, column in values.items():
        assert np.array_equal(np.isnan(column), held == 0), name
        assert ((column[held > 0] >= 0) & (column[held > 0] <= 1 + 1e-12)).all(), name
    perfect = -np.sort(-hits.astype(int), axis=1)
    best = hit_metrics(perfect, perfect.sum(axis=1), cuts=(hits.shape[1],))
    for name, column in best.items():
        if not name.startswith("precision"):
            assert np.allclose(column[perfect[:, 0] > 0], 1, atol=1e-12), name


def test_coverage_and_novelty_by_hand():
    split = split_of_codes([[u, u % 2] for u in range(4)], [], [[u, 4] for u in range(4)], 4, 6)
    ranked = rank(Table(np.tile([0.0, 0, 5, 4, 3, -np.inf], (4, 1))), split, cuts=(3, 6))
    assert coverage(ranked, 6, 3) == 3 / 6
    assert novelty(ranked, split, 3).tolist() == [2.0] * 4  # log2(4 / 1): nobody bought them
    assert coverage(ranked, 6, 6) == 5 / 6
    assert np.allclose(
        novelty(ranked, split, 6), (3 * 2 + 1) / 4
    )  # and one of items 0 and 1, bought by 2 of 4
    with pytest.raises(ValueError, match="k must lie from 1 to 6"):
        novelty(ranked, split, 0)


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        ((np.ones((3, 2)), np.ones((4, 2))), "the split has"),
        ((np.ones((2, 2)), np.ones((4, 3))), "same d"),
        ((np.ones((2, 2)), np.full((4, 2), np.nan)), "item 0 is not finite"),
        ((np.full((2, 1), 1e38, np.float32), np.full((4, 1), 1e38, np.float32)), None),
        (Table(np.ones((2, 3))), r"score_block must give \(2, 4\)"),
        (Table(np.full((2, 4), np.nan)), "a score is NaN"),
    ],
)
def test_scores_that_are_none_are_refused(scorer, said):
    split = split_of_codes([[0, 0], [1, 0]], [], [[0, 1], [1, 2]], 2, 4)
    if said is None:  # Scores that overflow to infinity are all alike, and ties have an order
        with np.errstate(over="ignore"):
            assert rank(scorer, split, cuts=(3,)).top.tolist() == [[1, 2, 3]] * 2
        return
    with pytest.raises(ValueError, match=said):
        rank(scorer, split)


@pytest.mark.parametrize(
    ("hits", "held", "cuts", "said"),
    [
        ([[1]], [0], (1,), "1 hits and 0 items"),
        ([[1]], [1], (2,), "cuts must lie from 1 to 1"),
        ([[1]], [1], (), "cuts must lie"),
        ([[1]], [1], (0,), "cuts must lie"),
        ([1], [1], (1,), r"\(n, K\)"),
        ([[1]], [1, 2], (1,), r"\(n, K\)"),
    ],
)
def test_hits_that_do_not_fit_are_refused(hits, held, cuts, said):
    with pytest.raises(ValueError, match=said):
        hit_metrics(hits, held, cuts)


def test_five_times_faster_than_a_loop():
    users, items = RANX["users"].astype(np.float32), RANX["items"].astype(np.float32)
    split, seconds = ranx_split(), {"ours": [], "loop": []}
    for _ in range(3):
        began = time.process_time()
        ours = rank((users, items), split).metrics
        seconds["ours"].append(time.process_time() - began)
        began = time.process_time()
        loop = by_loop(users @ items.T, split, "test", ("train", "valid"), CUTS)
        seconds["loop"].append(time.process_time() - began)
    assert max(np.abs(ours[name] - loop[name]).max() for name in loop) <= 1e-12
    ratio = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
    assert ratio >= 5, f"only {ratio:.1f} times faster than one user at a time"
