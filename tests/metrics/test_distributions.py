"""Distances of sets: other implementations' numbers, properties, and shards that merge bit for bit."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.metrics import distributions as dm

FIXTURES = json.loads((ROOT / "tests" / "data" / "metrics" / "picture_sets.json").read_text("utf-8"))
DISTANCES = (dm.frechet, lambda a, b: dm.kid(a, b).estimate, lambda a, b: dm.mmd(a, b).estimate)


def features(seed, n, width):
    "As in tools/fixtures/make_picture_fixtures.py."
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, width)), 0.2 + 1.1 * rng.standard_normal((n, width))


@pytest.mark.parametrize("size", sorted(FIXTURES["distributions"]))
def test_equals_another_implementation(size):
    n, width = map(int, size.split("x"))
    a, b = features(n, n, width)
    theirs = FIXTURES["distributions"][size]
    ours = {
        "frechet": dm.frechet(a, b),
        "kid": dm.kid(a, b).estimate,
        "cmmd": dm.mmd(a, b, biased=True).estimate,
        "mmd": dm.mmd(a, b).estimate,
    }
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("metric", [dm.kid, dm.mmd])
def test_the_jackknife_leaves_out_each_item_in_turn(metric, paired):
    a, b = features(3, 12, 5)
    found = metric(a, b, paired=paired)
    left = np.array(
        [metric(np.delete(a, i, 0), np.delete(b, i, 0), paired=paired).estimate for i in range(12)]
    )
    assert found.error == pytest.approx(np.sqrt(11 / 12 * ((left - left.mean()) ** 2).sum()), rel=1e-9)
    assert found.high - found.estimate == pytest.approx(1.959964 * found.error, rel=1e-6)


def test_the_interval_covers_the_truth():
    "Two samples of one distribution, whose distance is 0: of 300 intervals at 95 %, nearly all hold it."
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        found = dm.kid(rng.standard_normal((40, 4)) + 1, rng.standard_normal((40, 4)) + 1)
        held += found.low <= 0 <= found.high
    assert held / 300 > 0.9


def test_the_unbiased_distances_are_unbiased():
    rng = np.random.default_rng(1)
    values = np.array([[d(*rng.standard_normal((2, 10, 3))) for d in DISTANCES[1:]] for _ in range(400)])
    means, errors = values.mean(0), values.std(0) / 20
    assert (np.abs(means) < 4 * errors).all()
    biased = [dm.mmd(*rng.standard_normal((2, 10, 3)), biased=True).estimate for _ in range(50)]
    assert np.mean(biased) > 10 * errors[1], "the published estimate is above 0 for equal distributions"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 40))
def test_properties_of_distances(seed, n, width):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, width)), rng.standard_normal((n, width)) * 2
    size = np.abs(a).max() ** 2 * width + 1
    assert dm.frechet(a, a) <= 1e-7 * size and dm.frechet(a, b) >= 0
    assert dm.kid(a, a, paired=True).estimate == pytest.approx(0, abs=1e-9 * size**3)
    assert dm.mmd(a, a, paired=True).estimate == pytest.approx(0, abs=1e-9)
    assert dm.mmd(a, a, biased=True).estimate == pytest.approx(0, abs=1e-9)
    assert dm.mmd(a, b, biased=True).estimate >= -1e-9
    order = rng.permutation(n)
    for distance in DISTANCES:
        value = distance(a, b)
        assert distance(b, a) == pytest.approx(value, rel=1e-8, abs=1e-8)
        assert distance(a[order], b[rng.permutation(n)]) == pytest.approx(value, rel=1e-8, abs=1e-8)
    shifted = dm.frechet(a + 5, b + 5)
    assert shifted == pytest.approx(dm.frechet(a, b), rel=1e-6, abs=1e-6)


def test_more_pictures_than_features_and_fewer_agree_at_the_border():
    "Adding columns of zeros changes the branch and not the distance."
    a, b = features(0, 30, 20)
    wide = [np.hstack([x, np.zeros((30, 25))]) for x in (a, b)]
    assert dm.frechet(*wide) == pytest.approx(dm.frechet(a, b), rel=1e-10)


def test_constant_and_unequal_sets():
    a, _ = features(0, 20, 6)
    same = np.repeat(a[:1], 20, axis=0)
    assert dm.frechet(same, same) < 1e-30
    assert dm.frechet(a, same) == pytest.approx(((a.mean(0) - a[0]) ** 2).sum() + a.var(0, ddof=1).sum())
    assert np.isfinite(dm.frechet(a, a[:7]))
    zeros = np.zeros((5, 6))
    assert dm.mmd(zeros, zeros).estimate == 0 and dm.kid(zeros, zeros).estimate == 0


@pytest.mark.parametrize("shards", [1, 7, 50])
def test_shards_give_the_same_bits(shards):
    rng = np.random.default_rng(5)
    a, b = features(9, 150, 64)
    ids = [f"item {i}" for i in range(150)]
    whole = dm.feature_set(ids, a), dm.feature_set(ids, b)
    order = rng.permutation(150)
    merged = []
    for values in (a, b):
        pieces = np.array_split(order, shards)
        parts = [dm.feature_set([ids[i] for i in some], values[some]) for some in pieces]
        merged.append(dm.merge_features([parts[i] for i in rng.permutation(shards)]))
    for one, two in zip(whole, merged, strict=True):
        assert one.ids.tolist() == two.ids.tolist() and one.values.tobytes() == two.values.tobytes()
    one, two = (dm.compare_sets(r, {"m": d}, splits=2) for r, d in (whole, merged))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_sets_are_equal_and_coverage_is_told():
    real = dm.feature_set(list("abcdef"), np.arange(12.0).reshape(6, 2))
    gap = np.arange(12.0).reshape(6, 2) + 1
    gap[1] = np.nan
    models = {"m": dm.feature_set(list("abcdef"), gap), "k": dm.feature_set(list("abcde"), gap[:5] * 2)}
    same, others, coverage = dm.common_items(real, models)
    assert same.ids.tolist() == list("acde") == others["m"].ids.tolist() == others["k"].ids.tolist()
    assert coverage == {"m": pytest.approx(5 / 6), "k": pytest.approx(4 / 6)}
    table = dm.compare_sets(real, models, splits=1)
    assert (table["n"] == 4).all() and set(table["metric"]) == {"effnet_frechet", "effnet_kid", "effnet_mmd"}


def test_the_floor_puts_model_and_truth_in_the_same_place():
    a, b = features(4, 60, 10)
    for distance in DISTANCES:
        itself, other = dm.beside_floor(a, a, distance, 4), dm.beside_floor(a, b, distance, 4)
        assert itself.excess == pytest.approx(0, abs=1e-9) and itself.floor == other.floor
        assert other.excess == pytest.approx(other.halves - other.floor)
        assert dm.beside_floor(a, b, distance, 4) == other, "the same seed, the same splits"
        assert dm.beside_floor(a, b, distance, 4, seed=1) != other
    fresh = np.random.default_rng(77).standard_normal((60, 10))
    assert (
        abs(dm.beside_floor(a, fresh, dm.frechet, 20).excess) < 0.3 * dm.beside_floor(a, a, dm.frechet).floor
    )
