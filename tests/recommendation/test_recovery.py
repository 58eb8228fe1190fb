"Recovered fractions, the use of a modality and the link from quality to worth, against other computations."

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmpc_analysis import tables
from mmpc_analysis.recommendation.recovery import item_gains, link, links, recover, users_by_condition

CONDITIONS = {
    ("none", 0.0, "oracle"): 0.6,
    ("text", 1.0, "zeros"): 0.3,
    ("text", 1.0, "shuffled"): 0.2,
    ("text", 1.0, "m"): 0.45,
}


def simulated(users=300, seed=0, means=CONDITIONS, seeds=(0,), recommender="vbpr", noise=0.3):
    "Users whose values under each condition are a taste of their own plus the condition's mean plus noise."
    rng, parts = np.random.default_rng(seed), []
    own = rng.normal(0, 0.2, users)
    for (modality, rate, fill), mean in means.items():
        for s in seeds:
            value = mean + own + rng.normal(0, noise, users)
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
    table = simulated()
    wide = table.pivot(index="user_id", columns="fill", values="value")
    found = recover(table, draws=400, seed=3)
    gain = wide["m"] - wide["zeros"]
    assert term(found, "gain")["estimate"] == pytest.approx(gain.mean(), abs=1e-12)
    assert term(found, "gain")["p_value"] == pytest.approx(
        stats.ttest_rel(wide["m"], wide["zeros"]).pvalue, rel=1e-9
    )
    share = gain.mean() / (wide["oracle"] - wide["zeros"]).mean()
    assert term(found, "recovered")["estimate"] == pytest.approx(share, abs=1e-12)
    use = (wide["oracle"] - wide["shuffled"]).mean()
    assert term(found, "use", "shuffled")["estimate"] == pytest.approx(use, abs=1e-12)
    low, high = term(found, "gain")[["low", "high"]]
    half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert low == pytest.approx(gain.mean() - half, abs=half / 4)
    assert high == pytest.approx(gain.mean() + half, abs=half / 4)


def test_seeds_are_averaged_within_users():
    two = simulated(seeds=(0, 1))
    mean = two.groupby(["user_id", "modality", "rate", "fill"], as_index=False)["value"].mean()
    mean = mean.assign(category="all", recommender="vbpr", metric="recall@20", seed=0)
    left, right = recover(two, draws=50), recover(mean, draws=50)
    pd.testing.assert_frame_equal(left, right, rtol=1e-12)


def test_row_order_does_not_matter():
    table = simulated()
    other = recover(table.sample(frac=1, random_state=1), draws=50)
    pd.testing.assert_frame_equal(recover(table, draws=50), other)


def test_an_affine_change_of_the_metric_leaves_the_fraction():
    table = simulated()
    moved = table.assign(value=table["value"] * 10 + 3)
    a, b = recover(table, draws=80), recover(moved, draws=80)
    for name in ("estimate", "low", "high"):
        assert term(a, "recovered")[name] == pytest.approx(term(b, "recovered")[name], rel=1e-9)


def test_the_fractions_interval_covers():
    "Truth is (0.45 - 0.3) / (0.6 - 0.3) = 0.5; 150 runs, binomial standard error 0.018."
    inside = []
    for seed in range(150):
        row = term(recover(simulated(250, seed), draws=200, seed=seed), "recovered")
        inside.append(row["low"] <= 0.5 <= row["high"])
    assert 0.90 <= np.mean(inside) <= 0.99


def test_the_check_of_use_keeps_its_level():
    "With a modality that is not used the check passes by its lower bound in about 2.5% of runs."
    same = CONDITIONS | {("text", 1.0, "shuffled"): 0.6}
    passed = []
    for seed in range(150):
        found = recover(simulated(250, seed, same), draws=200, seed=seed)
        passed.append(term(found, "use", "shuffled")["low"] > 0)
    assert np.mean(passed) <= 0.09  # 150 runs


@pytest.mark.parametrize(
    "means, why",
    [
        (CONDITIONS | {("text", 1.0, "shuffled"): 0.6}, "not shown to use"),
        (CONDITIONS | {("text", 1.0, "zeros"): 0.62}, "not shown to cost"),
        ({k: v for k, v in CONDITIONS.items() if k[2] != "shuffled"}, "not shown to use"),
    ],
)
def test_no_fraction_without_a_reason_to_believe_it(means, why):
    row = term(recover(simulated(means=means), draws=100), "recovered")
    assert np.isnan(row[["estimate", "low", "high"]].astype(float)).all() and why in row["method"]
    assert np.isfinite(term(recover(simulated(means=means), draws=100), "gain")["estimate"])


def test_claims_are_corrected_by_holm_and_categories_screened():
    means = CONDITIONS | {("text", 1.0, "n"): 0.32, ("text", 1.0, "o"): 0.31}
    pooled = simulated(means=means)
    both = pd.concat([pooled, pooled.assign(category="Toys")])
    found = recover(both, draws=50)
    gains = found[(found["term"] == "gain") & (found["category"] == "all")]
    expected = stats.false_discovery_control(
        found[(found["term"] == "gain") & (found["category"] == "Toys")]["p_value"]
    )
    assert found[(found["term"] == "gain") & (found["category"] == "Toys")][
        "p_adjusted"
    ].to_numpy() == pytest.approx(expected)
    p = np.sort(gains["p_value"])
    assert gains["p_adjusted"].max() == pytest.approx(min(1, max(p * [3, 2, 1])), rel=1e-9)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda t: t[t["fill"] != "zeros"], "no floor 'zeros'"),
        (lambda t: t[t["fill"] != "oracle"], "no oracle"),
        (lambda t: t.iloc[1:], "the same users"),
        (lambda t: t.drop(columns="rate"), "no column 'rate'"),
    ],
)
def test_refuses_what_cannot_be_compared(spoil, message):
    with pytest.raises(ValueError, match=message):
        recover(spoil(simulated(20)), draws=10)


def test_no_rankings_make_no_rows():
    assert recover(tables.empty(tables.RANKINGS)).empty


def test_one_user_has_no_interval():
    found = recover(simulated(1), draws=10)
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
    table = simulated(4, means={("text", 1.0, "zeros"): 0.0, ("text", 1.0, "m"): 0.0})
    wide = table.pivot(index="user_id", columns="fill", values="value")
    bought = pd.DataFrame({"user_id": ["u0000", "u0001", "u0002", "gone"], "item_id": ["a", "a", "b", "b"]})
    gains = item_gains(table, bought)
    first = (wide["m"] - wide["zeros"]).loc[["u0000", "u0001"]].mean()
    assert gains.loc["a", "m"] == pytest.approx(first) and list(gains.index) == ["a", "b"]


def test_links_look_only_at_hidden_items_and_turn_errors_round():
    rng = np.random.default_rng(0)
    users, items = [f"u{k:04d}" for k in range(200)], [f"i{k % 20:02d}" for k in range(200)]
    worth = dict(zip(sorted(set(items)), rng.normal(size=20), strict=True))
    base = simulated(200, means={("text", 0.5, "zeros"): 0.0}, noise=0.0)
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
    with pytest.raises(ValueError, match=r"lacks 1 of 5"):
        users_by_condition(table.drop(index=table.index[-1]))
