"Sentences about recommenders and completions: each is another one when the numbers are others."

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis import tables
from mmpc_analysis.recommendation.worth_claims import worth_claims
from mmpc_analysis.report.claim_words import claims_where
from mmpc_analysis.report.worth_words import gain_words, link_words, worth_sentence


def row(fill, term, estimate, verdict, half=0.05, seeds=5, rate=1.0, against="", recommender="vbpr", p=0.01):
    "One row of a recovery table."
    place = {"recommender": recommender, "modality": "text", "rate": rate, "fill": fill, "category": "all"}
    place |= {"metric": "recall@20", "question": "other_users", "term": term, "estimate": estimate, "n": 500}
    place |= {"low": estimate - half, "high": estimate + half, "p_value": p, "p_adjusted": p, "method": "m"}
    return place | {"verdict": verdict, "seeds": seeds, "against": against}


def claims(*rows, links=()):
    recovery = tables.validate(pd.DataFrame(list(rows)), tables.RECOVERY)
    keys = {
        "recommender": "vbpr",
        "modality": "text",
        "rate": 1.0,
        "metric": "recall@20",
        "n": 287,
        "method": "m",
    }
    keys |= {"question": "other_items", "term": "link", "p_value": np.nan}
    linked = [
        keys | {"content_metric": m, "estimate": e, "low": e - 0.1, "high": e + 0.1, "p_adjusted": p}
        for m, e, p in links
    ]
    found = tables.validate(pd.DataFrame(linked), tables.LINKS) if linked else tables.empty(tables.LINKS)
    return worth_claims(recovery, found)


USED = row("shuffled", "use", 0.2, "used")


@pytest.mark.parametrize(
    ("verdict", "start", "closed"),
    [
        ("used", "VBPR uses the titles:", False),
        ("harmful", "VBPR does worse with the true titles than", True),
        ("not shown", "VBPR was not shown to use the titles:", True),
        ("one training", "VBPR was trained once a condition", True),
        ("too few users", "VBPR has too few users", True),
        ("same", "VBPR ranks the same", True),
    ],
)
def test_use_is_said_as_it_was_judged(verdict, start, closed):
    said = worth_sentence(claims(row("shuffled", "use", 0.2, verdict)).iloc[0])
    assert said.startswith(start) and ("Nothing is said of completed titles" in said) == closed
    assert "nan" not in said and "{" not in said


def test_every_sentence_says_how_often_a_condition_was_trained():
    assert "500 users and five trainings of each condition" in worth_sentence(claims(USED).iloc[0])
    again = worth_sentence(claims(row("shuffled", "use", 0.2, "used", seeds=20)).iloc[0])
    assert "20 trainings of each condition" in again


def fills(*kinds):
    rows = [USED]
    for name, gain, verdict in kinds:
        rows += [row(name, "gain", gain, verdict), row(name, "recovered", 3 * gain, "given", half=0.1)]
    return claims(*rows)


def test_gains_are_counted_and_the_largest_of_those_shown_is_named():
    made = fills(
        ("a", 0.2, "better"),
        ("b", 0.25, "not shown"),
        ("c", 0.1, "better"),
        ("co_purchase_mean", 0.15, "better"),
    )
    first, second = gain_words(claims_where(made, "gain"))
    assert (
        "With 100% of the titles hidden" in first
        and "two of three models and from one of one cheaper fill" in first
    )
    assert second.startswith(
        "VBPR gains from a, 0.200 (0.150 to 0.250) over the floor, 60% (50% to 70%) of what was lost"
    )


def test_a_gain_that_was_not_shown_names_nobody():
    said = gain_words(claims_where(fills(("a", 0.2, "not shown"), ("random", 0.1, "not shown")), "gain"))
    assert len(said) == 1 and "none of one model and from none of one cheaper fill" in said[0]


def test_a_fill_worse_than_the_floor_is_called_so():
    said = gain_words(claims_where(fills(("a", -0.2, "worse")), "gain"))[0]
    assert "none of one model (with one it does worse)" in said


def test_one_training_claims_nothing():
    said = gain_words(claims_where(fills(("a", 0.5, "one training")), "gain"))
    assert said == ["VBPR was trained once a condition, so no gain from a is claimed."]


def test_through_a_recommender_that_reads_nothing_no_gain_is_told():
    rows = [
        row("shuffled", "use", 0.01, "not shown"),
        row("a", "gain", 0.5, "better"),
        row("a", "recovered", 0.6, "given"),
    ]
    made = claims(*rows, links=[("chrf", 0.5, 0.001)])
    assert set(made["question"]) == {"use"}


def test_only_the_largest_share_of_hidden_items_is_spoken_of():
    rows = [USED, row("a", "gain", 0.5, "better", rate=0.2), row("a", "recovered", 0.6, "given", rate=0.2)]
    rows += [row("a", "gain", 0.1, "not shown"), row("a", "recovered", 0.1, "given")]
    made = claims_where(claims(*rows), "gain")
    assert made["verdict"].tolist() == ["not shown"]


def test_a_fill_is_best_only_where_it_is_ahead_of_all():
    def leads(*verdicts):
        names = ["b", "c"][: len(verdicts)]
        rows = [
            row("a", "lead", 0.1 + k / 100, v, against=n)
            for k, (n, v) in enumerate(zip(names, verdicts, strict=True))
        ]
        return worth_sentence(claims_where(claims(USED, *rows), "lead").iloc[0])

    assert leads("ahead", "ahead").startswith(
        "Of three fills a serves the users of VBPR best: it is ahead of b, the next"
    )
    assert leads("not shown", "ahead").endswith("it is not told apart from b.")
    assert leads("not shown", "not shown").endswith("it is not told apart from b and c.")


@pytest.mark.parametrize(
    ("told", "start", "named"),
    [
        ([("chrf", 0.1, 0.01), ("bleu", 0.3, 0.01)], "Of two content metrics, two tell", "bleu tells"),
        ([("chrf", 0.1, 0.01), ("bleu", 0.3, 0.2)], "Of two content metrics, one tells", "chrf tells"),
        ([("chrf", 0.1, 0.9)], "Of one content metric, none tell", "chrf was not shown"),
        (
            [("chrf", -0.4, 0.01), ("bleu", -0.5, 0.01)],
            "Of two content metrics, none tell",
            "chrf was not shown",
        ),
        ([("chrf", 0.4, np.nan)], "Of one content metric, none tell", "chrf was not shown"),
    ],
)
def test_the_link_is_that_of_the_strongest_metric_that_stands(told, start, named):
    first, second = link_words(claims_where(claims(USED, links=told), "link"))
    assert first.startswith(start) and second.startswith(named)
    assert link_words(claims_where(claims(USED), "link")) == []
