"How often features that can make no difference are claimed to: the stored pool of trainings, drawn from again."

import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.recommendation.recovery import recover

sys.path.insert(0, str(ROOT / "tools" / "experiments"))
import null_recommenders as nulls

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
    shares = found[found["term"] == "recovered"]
    told = {
        "use": bool(verdicts["use"] & {"used", "harmful"}),
        "gain": bool(verdicts["gain"] & {"better", "worse"}),
        "recovered": bool(((shares["low"] > 0) | (shares["high"] < 0)).any()),
        "lead": "ahead" in verdicts["lead"],
    }
    assert nulls.null_claims(values) == told


def test_five_trainings_find_what_is_there():
    "True titles against noise: a recommender that reads titles much is found out in most studies."
    power = ROWS[ROWS["null"] == "true titles"].set_index("recommender")["share"]
    assert set(power.index) == {"vbpr", "bm3", "freedom", "mmgcn"} and power["freedom"] > 0.5
