"The k-core and splits: against plain loops, brute force and MMRec's own split."

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.cores import k_core
from mmpc_analysis.catalogue.purchases import PARTS, read_interactions
from mmpc_analysis.recommendation.splits import (
    HOLD,
    Split,
    split_interactions,
    split_of_codes,
    training_purchases,
)
from mmpc_analysis.store import hash_unit
from mmpc_analysis.tables import TableError

MMREC = ROOT / "tests" / "data" / "recommendation" / "mmrec"

purchases = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=40
).map(
    lambda rows: pd.DataFrame(
        [(f"u{u}", f"i{i}", 1000 + t) for u, i, t in rows], columns=["user_id", "item_id", "timestamp"]
    )
)


def same(one: Split, two: Split) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("users", "items", *PARTS))


# ---------------------------------------------------------------- splits


def split_by_loop(rows, how):
    "The documented rule, one user at a time."
    parts = {part: [] for part in PARTS}
    for user in sorted(set(rows["user_id"])):
        earliest = {}
        for item, time in rows.loc[rows["user_id"] == user, ["item_id", "timestamp"]].itertuples(index=False):
            earliest[item] = min(time, earliest.get(item, time))
        bought = sorted(earliest, key=lambda item: (earliest[item], hash_unit("same time", user, item)))
        held = 0 if len(bought) < 3 else 1 if how == "leave_last_two" else max(1, len(bought) // 10)
        cut = len(bought) - 2 * held
        cells = bought[:cut], bought[cut : cut + held], bought[cut + held :]
        for part, items in zip(PARTS, cells, strict=True):
            parts[part] += [(user, item) for item in items]
    return parts


@settings(max_examples=150, deadline=None)
@given(purchases, st.sampled_from(sorted(HOLD)))
def test_a_split_is_the_documented_rule(rows, how):
    split, told = split_interactions(rows, how=how), split_by_loop(rows, how)
    for part in PARTS:
        got = [(split.users[u], split.items[i]) for u, i in getattr(split, part)]
        assert got == told[part]
    assert split.counts["repeated_purchases"] == len(rows) - sum(map(len, told.values()))


def test_long_histories_give_a_tenth_each():
    rows = pd.DataFrame({"user_id": "u", "item_id": [f"i{i:03d}" for i in range(57)], "timestamp": range(57)})
    split = split_interactions(rows, how="80/10/10")
    assert [len(getattr(split, part)) for part in PARTS] == [47, 5, 5]
    assert split.test[:, 1].tolist() == list(range(52, 57))


@settings(max_examples=100, deadline=None)
@given(purchases, st.randoms(use_true_random=False), st.sampled_from(sorted(HOLD)), st.integers(1, 3))
def test_the_order_of_rows_never_matters(rows, random, how, k):
    order = random.sample(range(len(rows)), len(rows))
    other = rows.iloc[order]
    before = other.copy()
    assert same(split_interactions(rows, how=how), split_interactions(other, how=how))
    sides = [k_core(r, k).sort_values(["user_id", "item_id", "timestamp"]).to_numpy() for r in (rows, other)]
    assert np.array_equal(*sides)
    pd.testing.assert_frame_equal(other, before)


def test_items_nobody_bought_stay_candidates():
    rows = pd.DataFrame({"user_id": ["a"], "item_id": ["z"], "timestamp": [0]})
    split = split_interactions(rows, items=pd.Series(["z", "b", "b"]))
    assert split.items.tolist() == ["b", "z"] and split.train.tolist() == [[0, 1]]
    assert split.counts["users_in_train_only"] == 1


def test_the_split_of_mmrec_is_taken_as_it_is(tmp_path):
    data = np.load(MMREC / "data_small.npz")
    lines = ["userID\titemID\trating\ttimestamp\tx_label"]
    lines += [
        f"{user:03d}\t{item:02d}\t5.0\t{row}\t{label}"
        for label, part in enumerate(PARTS)
        for row, (user, item) in enumerate(data[part])
    ]
    np.random.default_rng(0).shuffle(body := lines[1:])
    (tmp_path / "small.inter").write_text("\n".join([lines[0], *body]) + "\n")
    rows = read_interactions(tmp_path / "small.inter")
    items = [f"{i:02d}" for i in range(int(data["n_items"]))]
    split = split_interactions(rows, items=items, how="given")
    codes = split_of_codes(*(data[part] for part in PARTS), int(data["n_users"]), int(data["n_items"]))
    assert same(split, codes)


def test_a_given_pair_in_two_parts_stays_in_the_earlier():
    rows = pd.DataFrame(
        [("u", "a", 9, "train"), ("u", "a", 1, "test"), ("u", "b", 0, "valid")],
        columns=["user_id", "item_id", "timestamp", "part"],
    )
    split = split_interactions(rows, how="given")
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([[0, 0]], [[0, 1]], [])


def test_codes_are_kept_and_ids_sort_like_codes():
    split = split_of_codes(np.array([[11, 100], [2, 5]]), np.empty((0, 2), int), [[2, 7]], 12, 101)
    assert split.train.tolist() == [[2, 5], [11, 100]]
    assert (np.sort(split.items.astype(str)) == split.items).all() and len(split.items) == 101
    assert split_of_codes([], [], [], 0, 0).train.shape == (0, 2)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (([[0, 0], [0, 0]], [], []), "twice, in one part or in two"),
        (([[0, 0]], [[0, 0]], []), "twice, in one part or in two"),
        (([[0, 5]], [], []), "code 5 is no item"),
        (([[-1, 0]], [], []), "code -1 is no user"),
        (([[0, 1, 2]], [], []), r"must be \(n, 2\)"),
        (([0, 1], [], []), r"must be \(n, 2\)"),
        (([[0.5, 1]], [], []), "whole numbers"),
        (([["u", "i"]], [], []), "whole numbers"),
    ],
)
def test_codes_that_are_none_are_refused(parts, said):
    with pytest.raises(ValueError, match=said):
        split_of_codes(*parts, 2, 3)


def test_a_split_checks_its_ids():
    none = np.empty((0, 2), dtype=int)
    with pytest.raises(ValueError, match="items must be sorted"):
        Split(np.array(["a"], object), np.array(["b", "a"], object), none, none, none)
    with pytest.raises(ValueError, match="sorted by user"):
        Split(*np.array([["a", "b"], ["a", "b"]], object), np.array([[1, 0], [0, 0]]), none, none)


# ---------------------------------------------------------------- the k-core


def is_core(pairs, k):
    return all(sum(p[end] == name for p in pairs) >= k for end in (0, 1) for name in {p[end] for p in pairs})


@settings(max_examples=80, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=11), st.integers(1, 3))
def test_the_core_is_the_largest_set_of_its_kind(pairs, k):
    rows = pd.DataFrame(
        [(f"u{u}", f"i{i}", 0) for u, i in pairs], columns=["user_id", "item_id", "timestamp"]
    )
    core = set(k_core(rows, k)[["user_id", "item_id"]].itertuples(index=False, name=None))
    assert is_core(core, k)
    every = sorted(set(rows[["user_id", "item_id"]].itertuples(index=False, name=None)))
    for size in range(len(core) + 1, len(every) + 1):
        assert not any(is_core(some, k) for some in combinations(every, size))


@settings(max_examples=60, deadline=None)
@given(purchases, st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_core_is_what_is_left_of_peeling_one_by_one(rows, k, random):
    left = set(rows[["user_id", "item_id"]].itertuples(index=False, name=None))
    while True:
        few = [
            (end, name)
            for end in (0, 1)
            for name in sorted({p[end] for p in left})
            if sum(p[end] == name for p in left) < k
        ]
        if not few:
            break
        end, name = random.choice(few)
        left = {p for p in left if p[end] != name}
    core = k_core(rows, k)
    assert set(core[["user_id", "item_id"]].itertuples(index=False, name=None)) == left
    kept = [p in left for p in rows[["user_id", "item_id"]].itertuples(index=False, name=None)]
    pd.testing.assert_frame_equal(core, rows[kept].reset_index(drop=True), check_dtype=False)


def test_a_core_holds_after_the_split():
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {"user_id": rng.integers(300, size=4000), "item_id": rng.integers(200, size=4000)}
    ).astype(str)
    split = split_interactions(k_core(rows.assign(timestamp=rng.integers(99, size=4000)), 8))
    pairs = np.concatenate([split.train, split.valid, split.test])
    assert len(pairs) and min(np.bincount(pairs[:, 0]).min(), np.bincount(pairs[:, 1]).min()) >= 8


def test_a_long_chain_peels_to_nothing():
    chain = [(f"u{i:04d}", f"i{j:04d}", 0) for i in range(600) for j in (i, i + 1)]
    rows = pd.DataFrame(chain, columns=["user_id", "item_id", "timestamp"])
    assert k_core(rows, 2).empty and len(k_core(rows, 1)) == len(rows)


# ---------------------------------------------------------------- refusals


def test_what_is_missing_is_named_not_guessed():
    rows = pd.DataFrame({"user_id": [None], "item_id": ["i"], "timestamp": [1]})
    with pytest.raises(TableError, match="user_id"):
        split_interactions(rows)
    with pytest.raises(TableError, match="no column 'timestamp'"):
        k_core(rows[["user_id", "item_id"]])


# ---------------------------------------------------------------- ties, and what was known in training


def one_date(users=300, items=100, each=8, dates=1):
    "Purchases of each user on few dates, in an order of items that a file may have."
    rng = np.random.default_rng(5)
    rows = [
        (f"u{u:03d}", f"i{i:03d}", 1_700_000_000 + 86_400 * int(rng.integers(dates)))
        for u in range(users)
        for i in sorted(rng.choice(items, each, replace=False))
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def last_quarter(split, ids):
    "Which share of the test purchases is of the last quarter of the ids."
    late = set(sorted(ids)[-len(ids) // 4 :])
    return np.mean([split.items[item] in late for item in split.test[:, 1]])


@pytest.mark.parametrize("dates", [1, 2], ids=["all on one date", "on two dates"])
@pytest.mark.parametrize("how", ["leave_last_two", "80/10/10"])
def test_names_do_not_decide_what_is_tested(dates, how):
    "About a quarter, whatever the items are called; 300 test purchases, standard error 2.5%. It was 79%, and 0.3% after renaming."
    rows = one_date(dates=dates)
    ids = sorted(set(rows["item_id"]))
    turned = dict(zip(ids, reversed(ids), strict=True))
    dealt = dict(zip(ids, np.random.default_rng(0).permutation(ids), strict=True))
    for names in (dict(zip(ids, ids, strict=True)), turned, dealt):
        split = split_interactions(rows.assign(item_id=rows["item_id"].map(names)), how=how)
        assert last_quarter(split, ids) == pytest.approx(0.25, abs=0.075)


def test_ties_do_not_depend_on_the_order_of_a_file():
    rows = one_date(users=40)
    rows["part"] = np.where(
        np.arange(len(rows)) % 8 < 6, "train", np.where(np.arange(len(rows)) % 8 == 6, "valid", "test")
    )
    for how in (*HOLD, "given"):
        other = split_interactions(rows.sample(frac=1, random_state=3), how=how)
        assert same(split_interactions(rows, how=how), other)


def test_a_tie_is_decided_for_each_user_apart():
    "Two users with the same three items at the same time: the hash is of user and item, so their orders differ for some."
    rows = pd.DataFrame(
        [(f"u{u:02d}", item, 5) for u in range(30) for item in "abc"],
        columns=["user_id", "item_id", "timestamp"],
    )
    tested = split_interactions(rows).test[:, 1]
    assert (np.bincount(tested, minlength=3) >= 4).all()


def test_times_that_differ_are_still_in_order():
    rows = one_date(users=30, dates=1)
    rows["timestamp"] += np.arange(len(rows))[::-1]
    split = split_interactions(rows)
    first = rows.groupby("user_id").head(1)["item_id"].to_numpy()
    assert (split.items[split.test[:, 1]] == first).all()


@pytest.mark.parametrize("how", ["leave_last_two", "80/10/10", "given"])
def test_what_trains_is_what_the_split_trains_on(how):
    rows = one_date(users=50, dates=5).assign(part="train")
    rows.loc[rows.index % 4 == 0, "part"] = "test"
    split, known = split_interactions(rows, how=how), training_purchases(rows, how)
    pairs = np.column_stack([split.users[split.train[:, 0]], split.items[split.train[:, 1]]])
    assert (known.to_numpy() == pairs).all() and len(known) < len(rows)
