"""Tripwires: planted collapses and hacks are caught, healthy runs are left alone, each wire speaks once."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.alignment.tripwires import (
    TRIPWIRES,
    Tripwire,
    TripwireWatch,
    check_tripwires,
    idle_tripwires,
    repeated_share,
    tripwire_sentence,
    tripwire_table,
)
from mmpc_analysis.tables import ALARMS, ALIGNMENT_STEPS, TableError

STEPS, EVERY, WITNESS = 80, 10, "minilm_retrieval"


def history(curves, seed=0):
    "Rows of a run; a curve is a list of steps 1, 2, ... or a dictionary by step."
    rows = []
    for measure, values in curves.items():
        values = values if isinstance(values, dict) else dict(enumerate(values, 1))
        rows += [("image_to_text", "toy", "grpo", seed, step, measure, v) for step, v in values.items()]
    return pd.DataFrame(rows, columns=list(ALIGNMENT_STEPS.names))


def looks(value):
    return {step: float(value(step)) for step in range(0, STEPS + 1, EVERY)}


def healthy(
    rng, start=(0.22, 0.34), tokens=(14, 11), entropy=(0.34, 0.28), silent=0.2, distinct=0.6, items=64
):
    "A run as the notes describe it: noisy reward, filler gone within twelve steps."
    t, early = np.arange(1, STEPS + 1) / STEPS, np.exp(-np.arange(STEPS) / 4)
    right, at = rng.random(items) < 0.3, {}
    for step in range(0, STEPS + 1, EVERY):
        right = np.where(rng.random(items) < 0.2, rng.random(items) < 0.3, right)
        at[step] = right.mean()
    return {
        "reward": np.clip(start[0] + (start[1] - start[0]) * t + rng.normal(0, 0.1, STEPS), 0, 1),
        "tokens": tokens[1] + (tokens[0] - tokens[1]) * early + rng.normal(0, 0.5, STEPS),
        "words": 4 + early + rng.normal(0, 0.3, STEPS),
        "truth_words": {0: 4.0},
        "copied": 0.03 + 0.1 * early + rng.normal(0, 0.01, STEPS),
        "repeated": np.abs(rng.normal(0.02, 0.01, STEPS)),
        "invalid": np.clip(0.14 * early + rng.normal(0.005, 0.01, STEPS), 0, 1),
        "truncated": np.abs(rng.normal(0.002, 0.004, STEPS)),
        "distinct": 0.4 - 0.1 * t + rng.normal(0, 0.05, STEPS),
        "silent_groups": rng.binomial(8, silent, STEPS) / 8,
        "entropy": entropy[0] + (entropy[1] - entropy[0]) * t + rng.normal(0, 0.02, STEPS),
        "kl": np.abs(rng.normal(0.05, 0.05, STEPS)),
        "gradient": rng.lognormal(0, 0.5, STEPS),
        "look/distinct": looks(lambda _: rng.binomial(items, distinct) / items),
        f"look/{WITNESS}": at,
    }


def check(curves, **more):
    return check_tripwires(history(curves), witnesses=[WITNESS], **more)


def ramp(low, high, first=10, last=50):
    return low + (high - low) * np.clip((np.arange(1, STEPS + 1) - first) / (last - first), 0, 1)


# ---------------------------------------------------------------- planted


def collapse(rng, distinct, titles, items, entropy):
    "The reported collapse: few titles, entropy down, shorter answers, a reward that rises all the while."
    gone = 1 / (1 + np.exp(-(np.arange(0, STEPS + 1) - 40) / 5))
    return {
        "reward": np.linspace(0.087, 0.119, STEPS) + rng.normal(0, 0.02, STEPS),
        "entropy": entropy[0] + (entropy[1] - entropy[0]) * gone[1:],
        "tokens": 10.2 - 1.5 * gone[1:],
        "look/distinct": looks(lambda step: distinct + (titles / items - distinct) * gone[step]),
    }


PLANTED = [
    ("three titles of 221", "few_answers", lambda r: collapse(r, 0.35, 3, 221, (1.2, 0.41)), (30, 60)),
    ("one title of 64", "few_answers", lambda r: collapse(r, 0.7, 1, 64, (0.34, 0.1)), (30, 60)),
    ("a tenth of the titles", "few_answers", lambda r: collapse(r, 0.9, 6, 64, (0.8, 0.5)), (30, 60)),
    ("one answer only", "entropy_gone", lambda r: {"entropy": ramp(0.34, 0.0)}, (35, 60)),
    ("sure within a few steps", "entropy_gone", lambda r: {"entropy": ramp(0.34, 0.01, 6, 10)}, (10, 20)),
    ("sure from 2 nats", "entropy_gone", lambda r: {"entropy": ramp(2.0, 0.05)}, (35, 60)),
    ("all groups silent", "silent_all", lambda r: {"silent_groups": ramp(0.2, 1.0)}, (35, 60)),
    ("all silent from the start", "silent_all", lambda r: {"silent_groups": [1.0] * STEPS}, (5, 5)),
    ("nearly all silent", "silent_all", lambda r: {"silent_groups": ramp(0.5, 0.95, 40, 60)}, (50, 70)),
    ("copies the example", "copied", lambda r: {"copied": ramp(0.03, 0.7)}, (15, 35)),
    ("copies half of it", "copied", lambda r: {"copied": ramp(0.1, 0.5, 40, 60)}, (45, 65)),
    ("copies at once", "copied", lambda r: {"copied": ramp(0.0, 0.6, 8, 9)}, (10, 14)),
    ("endless titles", "length", lambda r: {"tokens": ramp(11, 61), "words": ramp(4, 29)}, (15, 40)),
    ("endless at once", "length", lambda r: {"tokens": ramp(11, 128, 7, 8), "words": ramp(4, 60, 7, 8)}, (10, 14)),
    ("endless, truth unknown", "length", lambda r: {"tokens": ramp(11, 90), "truth_words": {}}, (25, 60)),
    ("repeats the brand", "repeated", lambda r: {"repeated": ramp(0.02, 0.5)}, (15, 40)),
    ("brand twice", "repeated", lambda r: {"repeated": ramp(0.0, 0.25, 30, 60)}, (40, 65)),
    ("brand again and again", "repeated", lambda r: {"repeated": ramp(0.05, 0.9, 8, 12)}, (10, 16)),
    ("no object any more", "invalid", lambda r: {"invalid": ramp(0.01, 0.9)}, (15, 40)),
    ("a third invalid", "invalid", lambda r: {"invalid": ramp(0.0, 0.35)}, (30, 60)),
    ("invalid at once", "invalid", lambda r: {"invalid": ramp(0.1, 1.0, 6, 7)}, (10, 12)),
    ("never ends", "truncated", lambda r: {"truncated": ramp(0.0, 1.0)}, (15, 40)),
    ("a third never ends", "truncated", lambda r: {"truncated": ramp(0.0, 0.35)}, (30, 60)),
    ("never ends at once", "truncated", lambda r: {"truncated": ramp(0.05, 1.0, 6, 7)}, (10, 12)),
    ("left the start", "kl_far", lambda r: {"kl": ramp(0.0, 20.0)}, (15, 40)),
    ("left it at once", "kl_far", lambda r: {"kl": ramp(0.0, 9.0, 3, 4)}, (5, 10)),
    ("left it late", "kl_far", lambda r: {"kl": ramp(0.1, 7.0, 60, 70)}, (62, 75)),
    ("ruined by the learning rate", "reward_falls", lambda r: {"reward": 0.09 + 0.25 * (np.arange(STEPS) < 25) + r.normal(0, 0.05, STEPS)}, (27, 40)),
    ("ruined early", "reward_falls", lambda r: {"reward": 0.02 + 0.3 * (np.arange(STEPS) < 12) + r.normal(0, 0.05, STEPS)}, (15, 30)),
    ("ruined late", "reward_falls", lambda r: {"reward": 0.05 + 0.5 * (np.arange(STEPS) < 60) + r.normal(0, 0.1, STEPS)}, (62, 75)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wire", "make", "when"), PLANTED, ids=[row[0] for row in PLANTED])
def test_what_was_planted_is_stopped_in_time(name, wire, make, when):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        alarms = check(healthy(rng) | make(rng))
        row = alarms.query("action == 'stopped'").iloc[0]
        assert row["tripwire"] == wire, (name, alarms)
        assert when[0] <= row["step"] <= when[1], (name, alarms)


def gamed(rng, after, reward=(0.3, 0.7), before=0.6, error=None):
    curves = {"reward": ramp(*reward) + rng.normal(0, 0.1, STEPS)}
    curves[f"look/{WITNESS}"] = looks(lambda step: before + (after - before) * min(1, step / 30))
    return curves | ({f"look_se/{WITNESS}": looks(lambda _: error)} if error else {})


@pytest.mark.parametrize("more", [{"after": 0.2}, {"after": 0.35}, {"after": 0.54, "error": 0.015}])
def test_a_witness_that_falls_while_the_reward_rises_stops(more):
    rng = np.random.default_rng(0)
    alarms = check(healthy(rng) | gamed(rng, **more)).set_index("tripwire")
    assert alarms.loc["untrained_falls", "action"] == "stopped"
    assert 30 <= alarms.loc["untrained_falls", "step"] <= 60


@pytest.mark.parametrize(
    "more",
    [{"after": 0.5}, {"after": 0.7}, {"after": 0.2, "reward": (0.5, 0.5)}, {"after": 0.55, "error": 0.03}],
)
def test_a_witness_that_falls_little_or_alone_does_not_stop(more):
    rng = np.random.default_rng(0)
    assert "untrained_falls" not in set(check(healthy(rng) | gamed(rng, **more))["tripwire"])


def test_one_bad_look_is_not_enough_and_lower_may_be_better():
    rng = np.random.default_rng(0)
    dip = gamed(rng, 0.6)
    dip[f"look/{WITNESS}"][50] = dip[f"look/{WITNESS}"][60] = 0.1
    assert "untrained_lower" not in set(check(healthy(rng) | dip)["tripwire"])
    error = {"look/lpips_alex": looks(lambda s: 0.3 + s / 100), "reward": gamed(rng, 0.6)["reward"]}
    raised = check_tripwires(history(error), witnesses=["lpips_alex"])
    assert "untrained_falls" in set(raised["tripwire"])
    better = error | {"look/lpips_alex": looks(lambda s: 0.9 - s / 100)}
    assert not len(check_tripwires(history(better), witnesses=["lpips_alex"]))


def test_more_witnesses_need_more_evidence():
    rng = np.random.default_rng(0)
    curves = gamed(rng, 0.37)  # 3.7 standard errors
    assert "untrained_falls" in set(check_tripwires(history(curves), witnesses=[WITNESS])["tripwire"])
    names = [WITNESS, *(f"other_{i}" for i in range(9))]
    assert "untrained_falls" not in set(check_tripwires(history(curves), witnesses=names)["tripwire"])


# ---------------------------------------------------------------- false alarms


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"start": (0.38, 0.38), "tokens": (11, 11), "entropy": (0.34, 0.22), "silent": 0.45},
        {"start": (0.05, 0.5), "tokens": (14, 10.5), "entropy": (1.2, 0.8), "silent": 0.13},
    ],
    ids=["style corrected", "nothing happens", "learns fast"],
)
def test_healthy_runs_are_rarely_stopped(kind):
    rng = np.random.default_rng(7)
    stopped = sum("stopped" in set(check(healthy(rng, **kind))["action"]) for _ in range(150))
    assert stopped <= 3  # At a true rate of 0.5% more than 3 of 150 come once in 150 times


def test_a_long_run_with_a_flat_reward_is_not_stopped_for_its_length():
    "The best of many stretches is luck: five standard errors of two small samples stopped a quarter of such runs."
    rng = np.random.default_rng(8)
    wires = [TRIPWIRES["reward_falls"]]
    runs = [history({"reward": np.clip(rng.normal(0.2, 0.1, 500), 0, 1)}) for _ in range(60)]
    assert sum(len(check_tripwires(run, wires)) for run in runs) <= 2


def test_filler_that_is_dropped_and_titles_that_should_grow_trip_nothing():
    early = np.exp(-np.arange(STEPS) / 4)
    dropped = {"tokens": 10.5 + 3.5 * early, "copied": 0.03 + 0.2 * early, "words": 4 + 2 * early}
    assert not len(check(dropped))
    growing = {"tokens": ramp(6, 18), "words": ramp(2, 6), "truth_words": {0: 10.0}}
    assert not len(check(growing))
    assert "length" in set(check(growing | {"truth_words": {0: 2.0}})["tripwire"])


def test_single_jumps_trip_nothing():
    for measure, value in (
        ("copied", 0.9),
        ("tokens", 20.0),
        ("kl", 50.0),
        ("invalid", 0.9),
        ("entropy", 0.0),
    ):
        curves = healthy(np.random.default_rng(3))
        curves[measure][40] = value
        assert measure not in " ".join(check(curves).query("action == 'stopped'")["tripwire"])


# ---------------------------------------------------------------- how it is asked


def test_step_by_step_is_the_whole_history():
    rng = np.random.default_rng(5)
    for make in (PLANTED[0][2], PLANTED[9][2], PLANTED[27][2], lambda r: gamed(r, 0.2)):
        rows = history(healthy(rng) | make(rng))
        watch = TripwireWatch((WITNESS,))
        pieces = [check_tripwires(part, watch=watch) for _, part in rows.groupby("step")]
        whole = check_tripwires(rows.sample(frac=1, random_state=0), witnesses=[WITNESS])
        pieces = pd.concat([p for p in pieces if len(p)], ignore_index=True)
        pd.testing.assert_frame_equal(pieces, whole)
        assert list(whole.columns) == list(ALARMS.names)


def test_what_comes_later_changes_no_alarm():
    rng = np.random.default_rng(6)
    rows = history(healthy(rng) | ({"copied": ramp(0.03, 0.7)}))
    whole, early = check_tripwires(rows), check_tripwires(rows.query("step <= 40"))
    pd.testing.assert_frame_equal(early, whole.query("step <= 40"))


def test_a_wire_speaks_once():
    for curves in ({"copied": ramp(0.0, 1.0)}, {"copied": [0.0] * 10 + ([0.9] * 10 + [0.0] * 10) * 2}):
        alarms = check(curves)
        assert alarms["tripwire"].tolist() == ["copied"]
    both = history({"loss": [math.nan] * 5, "reward": [math.inf] * 5, "gradient": [math.nan] * 5})
    assert check_tripwires(both)["step"].tolist() == [1]


@pytest.mark.parametrize(
    ("measure", "value"), [("loss", math.nan), ("gradient", math.inf), ("reward", math.nan)]
)
def test_what_is_not_a_number_stops_at_once(measure, value):
    curves = healthy(np.random.default_rng(0))
    curves[measure] = [*list(curves.get(measure, [1.0] * STEPS))[:19], value, *[1.0] * 60]
    row = check(curves).iloc[0]
    assert (row["tripwire"], row["step"], row["action"]) == ("not_a_number", 20, "stopped")
    assert "not a number" in tripwire_sentence(row) and "nan" not in tripwire_sentence(row)


def test_what_was_not_measured_trips_nothing_and_is_named():
    assert not len(check({"copied": [math.nan] * STEPS, "reward": [0.3] * STEPS}))
    rows = history({"copied": [math.nan] * 3, "reward": [0.3] * 3, "look/a": {0: 0.5}})
    idle = idle_tripwires(rows)
    assert "copied" in idle and "untrained_falls" in idle and "reward_falls" not in idle
    assert "untrained_falls" not in idle_tripwires(rows, witnesses=["a"])
    every = history(healthy(np.random.default_rng(0)))
    assert idle_tripwires(every, witnesses=[WITNESS]) == []


def test_bounds_can_be_moved_and_wires_added():
    curves = {"copied": ramp(0.0, 0.3)}
    strict = replace(TRIPWIRES["copied"], bound=0.05)
    steps = [check_tripwires(history(curves), [w])["step"].iloc[0] for w in (strict, TRIPWIRES["copied"])]
    assert steps[0] < steps[1]

    def high(wire, watch):
        seen = watch.curve("memory")
        return (seen[-1], wire.bound) if seen and seen[-1] > wire.bound else None

    own = Tripwire("memory", ("memory",), "memory above {bound:g} GB", 8.0, "warned", "It swells.", high)
    alarms = check_tripwires(history({"memory": [1.0, 9.0]}), [own])
    assert alarms["step"].tolist() == [2]
    assert tripwire_sentence(alarms.iloc[0], [own]).startswith(
        "At step 2 a warning was given: memory above 8 GB (9,"
    )


def test_every_card_reads_in_plain_words():
    table = tripwire_table()
    assert table["tripwire"].tolist() == list(TRIPWIRES) and set(table["action"]) == {"warned", "stopped"}
    assert not table["rule"].str.contains("{", regex=False).any() and table["why"].str.endswith(".").all()
    for wire in TRIPWIRES.values():
        row = {"tripwire": wire.name, "step": 7, "value": 1.0, "bound": 2.0, "action": wire.action}
        assert tripwire_sentence(row).startswith("At step 7 ")


def test_refusals():
    two = pd.concat([history({"reward": [0.1]}), history({"reward": [0.1]}, seed=1)])
    with pytest.raises(ValueError, match="one run, got 2"):
        check_tripwires(two)
    watch = TripwireWatch()
    check_tripwires(history({"reward": [0.1, 0.2]}), watch=watch)
    with pytest.raises(ValueError, match="one run, got 2"):
        check_tripwires(history({"reward": {3: 0.1}}, seed=1), watch=watch)
    with pytest.raises(ValueError, match="in order"):
        check_tripwires(history({"reward": {1: 0.1}}), watch=watch)
    with pytest.raises(TableError, match="measure"):
        check_tripwires(history({"reward": [0.1]}).drop(columns="measure"))
    assert not len(check_tripwires(history({})))


def test_words_that_repeat():
    assert repeated_share("Acme Acme leash by Acme") == pytest.approx(0.4)
    assert repeated_share("Acme leash") == 0
    assert math.isnan(repeated_share(None)) and math.isnan(repeated_share(" - "))
