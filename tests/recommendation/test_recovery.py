"Recovered fractions, the use of a modality and the link from quality to worth, against other computations."

import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from mmpc_analysis import tables
from mmpc_analysis.recommendation.recovery import (
    LEAST_USERS,
    item_gains,
    link,
    links,
    recover,
    users_by_condition,
)

sys.path.insert(0, str(ROOT / "tools" / "experiments"))
import null_recommenders as nulls

CONDITIONS = {
    ("none", 0.0, "oracle"): 0.6,
    ("text", 1.0, "zeros"): 0.3,
    ("text", 1.0, "shuffled"): 0.2,
    ("text", 1.0, "m"): 0.45,
}


SEEDS = (0, 1, 2, 3, 4)


def simulated(
    users=300, seed=0, means=CONDITIONS, seeds=SEEDS, recommender="vbpr", noise=0.3, training=0.0, taste=0.2
):
    "Users whose values are a taste of their own, the condition's mean, the luck of its training, and noise."
    rng, parts = np.random.default_rng(seed), []
    own = rng.normal(0, taste, users)
    for (modality, rate, fill), mean in means.items():
        for s in seeds:
            value = mean + own + rng.normal(0, training) + rng.normal(0, noise, users)
            parts.append(
                pd.DataFrame(
                    {
                        "user_id": [f"u{k:04d}" for k in range(users)],
                        "category": "all",
                        "recommender": recommender,
                    }
                ).assign(modality=modality, rate=rate, fill=fill, seed=s, metric="recall@20", value=value)
            )
    return pd.concat(parts, ignore_index=True)


def term(found, name, fill="m"):
    return found[(found["term"] == name) & (found["fill"] == fill)].iloc[0]


def test_the_numbers_are_those_of_a_plain_computation():
    table = simulated(training=0.02)
    wide = table.pivot(index=["user_id", "seed"], columns="fill", values="value")
    found = recover(table)
    gain = wide["m"] - wide["zeros"]
    row = term(found, "gain")
    assert row["estimate"] == pytest.approx(gain.mean(), abs=1e-12)
    share = gain.mean() / (wide["oracle"] - wide["zeros"]).mean()
    assert term(found, "recovered")["estimate"] == pytest.approx(share, abs=1e-12)
    use = (wide["oracle"] - wide["shuffled"]).mean()
    assert term(found, "use", "shuffled")["estimate"] == pytest.approx(use, abs=1e-12)
    of_user, of_training = (gain.groupby(level=level).mean() for level in ("user_id", "seed"))
    rest = (
        gain - of_user.reindex(gain.index, level=0) - of_training.reindex(gain.index, level=1) + gain.mean()
    )
    own = max(of_user.var() / 300 - (rest**2).sum() / (299 * 4) / 1500, 0)
    assert row["training_variance"] == pytest.approx(of_training.var() / 5, rel=1e-9)
    assert row["user_variance"] == pytest.approx(own, abs=1e-15)
    half = np.sqrt(stats.t.ppf(0.975, 4) ** 2 * of_training.var() / 5 + stats.t.ppf(0.975, 299) ** 2 * own)
    assert row[["low", "high"]].tolist() == pytest.approx([gain.mean() - half, gain.mean() + half], rel=1e-9)
    assert (row["n"], row["seeds"], row["unit"]) == (300, 5, "user and training")


def test_a_recommender_without_chance_is_judged_by_its_users():
    "Nearest neighbours trained once: the paired t-test over users; five equal tables say the same."
    table = simulated(recommender="itemknn", seeds=(0,))
    wide = table.pivot(index="user_id", columns="fill", values="value")
    test = stats.ttest_rel(wide["m"], wide["zeros"])
    five = pd.concat([table.assign(seed=s, recommender="one_of_ones_own") for s in SEEDS])
    for found in (recover(table), recover(five)):
        row = term(found, "gain")
        assert row["p_value"] == pytest.approx(test.pvalue, rel=1e-6)
        assert row[["low", "high"]].tolist() == pytest.approx(list(test.confidence_interval()), rel=1e-9)
        assert (row["unit"], row["verdict"]) == ("user", "better")


def test_one_training_claims_nothing():
    found = recover(simulated(seeds=(0,)))
    assert found[["low", "high", "p_value", "p_adjusted"]].isna().all(axis=None)
    assert set(found["verdict"]) == {"one training", "not given"} and found["seeds"].eq(1).all()
    assert "after one training its noise is unknown" in term(found, "recovered")["method"]
    assert found.loc[found["term"] != "recovered", "estimate"].notna().all()
    unknown = recover(simulated(seeds=(0,), recommender="one_of_ones_own"))
    assert set(unknown["verdict"]) == {"one training", "not given"}


def test_two_trainings_claim_nothing_and_three_may():
    found = recover(simulated(seeds=(0, 1)))
    assert set(found["verdict"]) == {"too few trainings", "not given"} and found["low"].isna().all()
    assert "fewer than 3 trainings" in term(found, "recovered")["method"]
    assert term(recover(simulated(seeds=(0, 1, 2))), "gain")["verdict"] == "better"


def test_few_users_claim_nothing():
    found = recover(simulated(LEAST_USERS - 1))
    assert set(found["verdict"]) == {"too few users", "not given"} and found["low"].isna().all()
    assert "too few users" not in set(recover(simulated(LEAST_USERS))["verdict"])


def test_row_order_does_not_matter():
    table = simulated()
    other = recover(table.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(recover(table), other)


def test_an_affine_change_of_the_metric_leaves_the_fraction():
    table = simulated()
    moved = table.assign(value=table["value"] * 10 + 3)
    a, b = recover(table), recover(moved)
    for name in ("estimate", "low", "high"):
        assert term(a, "recovered")[name] == pytest.approx(term(b, "recovered")[name], rel=1e-6)


@pytest.mark.parametrize("training", [0.0, 0.03])
def test_the_fractions_interval_covers(training):
    "Truth is (0.45 - 0.3) / (0.6 - 0.3) = 0.5; 60 runs, binomial standard error 0.028."
    inside = []
    for seed in range(60):
        row = term(recover(simulated(100, seed, training=training, noise=0.15)), "recovered")
        if row["verdict"] != "not given":
            inside.append(row["low"] <= 0.5 <= row["high"])
    assert len(inside) > 45 and np.mean(inside) >= 0.95 - 2 * 0.028


@pytest.mark.parametrize("training", [0.0, 0.03])
def test_the_check_of_use_keeps_its_level(training):
    "A modality that is not used is called used or harmful in at most 5% of 80 runs, plus two errors of 2.4%."
    same, names = CONDITIONS | {("text", 1.0, "shuffled"): 0.6}, ("used", "harmful")
    found = [recover(simulated(100, seed, same, training=training)) for seed in range(80)]
    assert np.mean([term(rows, "use", "shuffled")["verdict"] in names for rows in found]) <= 0.05 + 2 * 0.0244


def test_training_noise_alone_makes_no_claim():
    "What was reported: identical conditions, told apart in 41% of pairs by their users alone."
    same = dict.fromkeys(CONDITIONS, 0.4)
    claims, by_users = [], []
    for seed in range(60):
        table = simulated(200, seed, same, training=0.04)
        claims.append(term(recover(table), "gain")["verdict"] in ("better", "worse"))
        wide = table.groupby(["user_id", "fill"])["value"].mean().unstack()
        by_users.append(stats.ttest_rel(wide["m"], wide["zeros"]).pvalue < 0.05)
    assert np.mean(claims) <= 0.05 + 2 * 0.028 and np.mean(by_users) > 0.3


@pytest.mark.parametrize(
    "means, why",
    [
        (CONDITIONS | {("text", 1.0, "shuffled"): 0.6}, "not shown to use"),
        (CONDITIONS | {("text", 1.0, "zeros"): 0.62}, "not shown to cost"),
        ({k: v for k, v in CONDITIONS.items() if k[2] != "shuffled"}, "not shown to use"),
    ],
)
def test_no_fraction_without_a_reason_to_believe_it(means, why):
    found = recover(simulated(means=means))
    row = term(found, "recovered")
    assert np.isnan(row[["estimate", "low", "high"]].astype(float)).all() and why in row["method"]
    assert row["verdict"] == "not given" and np.isfinite(term(found, "gain")["estimate"])


def test_claims_are_corrected_by_holm_and_categories_screened():
    means = CONDITIONS | {("text", 1.0, "n"): 0.32, ("text", 1.0, "o"): 0.31}
    pooled = simulated(means=means)
    both = pd.concat([pooled, pooled.assign(category="Toys")])
    found = recover(both)
    gains = found[(found["term"] == "gain") & (found["category"] == "all")]
    screened = found[(found["term"] == "gain") & (found["category"] == "Toys")]
    expected = stats.false_discovery_control(screened["p_value"])
    assert screened["p_adjusted"].to_numpy() == pytest.approx(expected)
    p = np.sort(gains["p_value"])
    assert gains["p_adjusted"].max() == pytest.approx(min(1, max(p * [3, 2, 1])), rel=1e-9)


def test_the_first_fill_is_ahead_only_of_those_it_is_told_from():
    means = CONDITIONS | {("text", 1.0, "n"): 0.448, ("text", 1.0, "same"): 0.45}
    table = simulated(means=means, noise=0.1, training=0.005, seed=4)
    copy = table[table["fill"] == "m"].assign(fill="same")
    found = recover(pd.concat([table[table["fill"] != "same"], copy]))
    leads = found[found["term"] == "lead"].set_index("against")
    assert set(leads["fill"]) == {"m"} and set(leads.index) == {"n", "same", "zeros"}
    assert leads["verdict"].to_dict() == {"zeros": "ahead", "n": "not shown", "same": "same"}
    assert set(found.loc[found["term"] != "lead", "against"]) == {""}
    assert (leads["estimate"] >= 0).all()


def test_a_first_fill_among_equals_is_rarely_called_ahead():
    "Five fills that differ by the luck of their trainings: one of them is first every time."
    means = CONDITIONS | {("text", 1.0, name): 0.3 for name in "abcd"} | {("text", 1.0, "m"): 0.3}
    ahead = []
    for seed in range(40):
        found = recover(simulated(60, seed, means, training=0.05))
        ahead.append("ahead" in set(found.loc[found["term"] == "lead", "verdict"]))
    assert np.mean(ahead) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 40)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda t: t[t["fill"] != "zeros"], "no floor 'zeros'"),
        (lambda t: t[t["fill"] != "oracle"], "no oracle"),
        (lambda t: t.iloc[1:], "the same users in every training"),
        (
            lambda t: t[(t["fill"] != "m") | (t["seed"] != 3)],
            "the same users in every training.* lacks 20 of 100",
        ),
        (lambda t: t.assign(value=t["value"].where(t.index != 7)), "lacks 1 of 100"),
        (lambda t: t.drop(columns="rate"), "no column 'rate'"),
    ],
)
def test_refuses_what_cannot_be_compared(spoil, message):
    with pytest.raises(ValueError, match=message):
        recover(spoil(simulated(20)))


def test_a_fraction_repeats_the_verdict_of_its_gain():
    means = CONDITIONS | {("text", 1.0, "n"): 0.301, ("text", 1.0, "worse"): 0.2}
    found = recover(simulated(means=means, noise=0.1))
    for fill, verdict in (("m", "better"), ("n", "not shown"), ("worse", "worse")):
        assert term(found, "gain", fill)["verdict"] == term(found, "recovered", fill)["verdict"] == verdict
    assert np.isfinite(term(found, "recovered", "n")["estimate"])


def test_no_rankings_make_no_rows():
    assert recover(tables.empty(tables.RANKINGS)).empty


def test_one_user_has_no_interval():
    found = recover(simulated(1))
    assert found["low"].isna().all() and found["n"].eq(1).all()


def test_link_is_spearman_over_the_pairs():
    rng = np.random.default_rng(5)
    x = pd.DataFrame(rng.normal(size=(40, 3)), columns=list("abc"))
    y = pd.DataFrame(x.to_numpy() + rng.normal(0, 2, size=(40, 3)), columns=list("abc"))
    row = link(x, y, draws=400)
    assert row["estimate"] == pytest.approx(
        stats.spearmanr(x.to_numpy().ravel(), y.to_numpy().ravel())[0], abs=1e-12
    )
    assert row["low"] < row["estimate"] < row["high"]


def test_link_of_noise_keeps_its_level_where_models_of_an_item_agree():
    "Gains of an item are shared by all models, so pairs taken as independent would find too much."
    rejected = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        item = rng.normal(size=(30, 1)), rng.normal(size=(30, 1))
        x = pd.DataFrame(item[0] + rng.normal(0, 0.1, (30, 4)))
        y = pd.DataFrame(item[1] + rng.normal(0, 0.1, (30, 4)))
        rejected.append(link(x, y, draws=199, seed=seed)["p_value"] <= 0.05)
    assert 0.005 <= np.mean(rejected) <= 0.10


def test_item_gains_are_means_over_buyers():
    table = simulated(4, means={("text", 1.0, "zeros"): 0.0, ("text", 1.0, "m"): 0.0}, seeds=(0,))
    wide = table.pivot(index="user_id", columns="fill", values="value")
    bought = pd.DataFrame({"user_id": ["u0000", "u0001", "u0002", "gone"], "item_id": ["a", "a", "b", "b"]})
    gains = item_gains(table, bought)
    first = (wide["m"] - wide["zeros"]).loc[["u0000", "u0001"]].mean()
    assert gains.loc["a", "m"] == pytest.approx(first) and list(gains.index) == ["a", "b"]


def test_links_look_only_at_hidden_items_and_turn_errors_round():
    rng = np.random.default_rng(0)
    users, items = [f"u{k:04d}" for k in range(200)], [f"i{k % 20:02d}" for k in range(200)]
    worth = dict(zip(sorted(set(items)), rng.normal(size=20), strict=True))
    base = simulated(200, means={("text", 0.5, "zeros"): 0.0}, noise=0.0, seeds=(0,))
    parts = [base]
    for m, scale in (("m", 1.0), ("n", 2.0)):
        own = base.set_index("user_id")["value"] + [worth[i] * scale for i in items]
        parts.append(base.assign(fill=m, value=own.to_numpy()))
    scores = pd.DataFrame(
        [(i, m, worth[i] * s) for i in worth for m, s in (("m", 1.0), ("n", 2.0))],
        columns=["item_id", "model", "good"],
    )
    both = pd.concat(
        [
            scores.assign(metric="chrf", value=scores["good"]),
            scores.assign(metric="mse", value=-scores["good"]),
        ]
    )
    both = both.assign(
        category="c", task="image_to_text", family="f", parameters=1.0, level="word", outcome="ok"
    )
    hidden = pd.DataFrame({"item_id": sorted(worth)[:12], "modality": "text", "rate": 0.5})
    bought = pd.DataFrame({"user_id": users, "item_id": items})
    found = links(pd.concat(parts), bought, both, hidden, draws=99).set_index("content_metric")
    assert found["n"].eq(12).all()
    assert found["estimate"].to_numpy() == pytest.approx(1.0)


def test_paired_names_what_is_missing():
    table = simulated(5)
    with pytest.raises(ValueError, match=r"lacks 1 of 25"):
        users_by_condition(table.drop(index=table.index[-1]))


# ---------------------------------------------------------------- features that can make no difference


STORED = json.loads(nulls.SHARES.read_text("utf-8"))
ROWS = pd.DataFrame(STORED["rows"])
POOL = nulls.read_pool()
FALSE = ROWS[ROWS["null"] != "true titles"]


def test_the_pool_is_whole():
    assert set(POOL) == set(nulls.cells())
    assert all(places.shape == (nulls.SEEDS, nulls.USERS) for places in POOL.values())
    assert nulls.SEEDS >= 60 and all(
        len(np.unique(places, axis=0)) == nulls.SEEDS for places in POOL.values()
    )


def test_every_recommender_and_null_has_its_shares():
    asked = {(name, null, kind) for name, null, kinds in nulls.cases() for kind in kinds}
    assert set(ROWS[["recommender", "null", "claim"]].itertuples(index=False, name=None)) == asked
    assert ROWS["draws"].eq(nulls.DRAWS).all()
    assert (ROWS["claimed_in"].map(len) / ROWS["draws"] == ROWS["share"]).all()


def test_false_claims_are_at_most_five_in_a_hundred():
    "Each share at most 5% plus two Monte Carlo errors."
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / nulls.DRAWS)
    assert (FALSE["share"] <= limit).all(), FALSE[FALSE["share"] > limit].drop(columns="claimed_in")


@pytest.mark.parametrize("case", list(nulls.cases()), ids=lambda case: f"{case[0]}, {case[1]}")
def test_the_first_two_in_a_hundred_draws_give_the_stored_claims(case):
    recommender, null, kinds = case
    draws = range(nulls.DRAWS // 50)
    again = nulls.draw_studies(POOL, recommender, null, draws)
    rows = ROWS[(ROWS["recommender"] == recommender) & (ROWS["null"] == null)].set_index("claim")
    stored = {kind: [d for d in rows.loc[kind, "claimed_in"] if d in draws] for kind in kinds}
    assert {kind: again[kind] for kind in kinds} == stored


@pytest.mark.parametrize("draw", range(3))
@pytest.mark.parametrize("null", nulls.NULLS)
def test_the_table_of_a_run_claims_what_the_study_claims(null, draw):
    "The studies skip the tables; through `recover` the verdicts are the same."
    values = nulls.null_study(POOL, "freedom", null, draw)
    rows = [
        pd.DataFrame({"user_id": [f"u{k:03d}" for k in range(len(own))], "value": own[:, s]}).assign(
            modality=place[0], rate=place[1], fill=place[2], seed=s
        )
        for place, own in values.items()
        for s in range(own.shape[1])
    ]
    table = pd.concat(rows).assign(category="all", recommender="freedom", metric="recall@10")
    found = recover(table)
    verdicts = {term: set(part["verdict"]) for term, part in found.groupby("term")}
    own = term(found, "recovered")
    told = {
        "use": bool(verdicts["use"] & {"used", "harmful"}),
        "gain": bool(verdicts["gain"] & {"better", "worse"}),
        "recovered": bool(verdicts["recovered"] & {"better", "worse"}),
        "interval": bool(own["low"] > 0 or own["high"] < 0),
        "lead": "ahead" in verdicts["lead"],
    }
    assert nulls.null_claims(values) == told


def test_five_trainings_find_what_is_there():
    "True titles against noise: a recommender that reads titles much is found out in most studies."
    power = ROWS[ROWS["null"] == "true titles"].set_index("recommender")["share"]
    assert set(power.index) == {"vbpr", "bm3", "freedom", "mmgcn"} and power["freedom"] > 0.5
