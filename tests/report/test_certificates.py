"""What a report says of certificates: the counts as they are, and a failed one at the head."""

import html
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hostile_shop import hostile_run
from report_tables import HOSTILE

from mmpc_analysis.report.certificates import (
    batch_words,
    certificate_notices,
    certificate_table,
    certificates,
    certified_models,
    token_words,
)
from mmpc_analysis.report.page import report_html
from mmpc_analysis.report.run import Run, read_run
from mmpc_analysis.tables import CERTIFICATES, COMPLETIONS, empty, validate

COUNTS = ("questions", "differ", "uncompared", "counted", "miscounted", "n", "changed", "errors")


def table(*rows):
    base = dict.fromkeys(COUNTS, 0) | {
        "task": "image_to_text",
        "precision": "float32",
        "prompt": "p",
        "key": "k",
    }
    base |= {"difference": "", "stopped": "", "share": np.nan, "high": np.nan, "model": "m"}
    return validate(pd.DataFrame([base | row for row in rows]), CERTIFICATES)


def words(*rows):
    (row,) = [row for _, row in certified_models(table(*rows)).iterrows()]
    return token_words(row), batch_words(row)


def text(piece):
    return html.unescape(re.sub("<[^>]+>", " ", piece))


def test_counts_of_tasks_and_prompts_are_added_up():
    """By hand: 2 of 40 and 0 of 24 are 2 of 64, of which the exact upper limit solves sum_{k<=2} C(64,k) p^k (1-p)^(64-k) = 0.05."""
    rows = table(
        {"questions": 20, "n": 40, "changed": 2}, {"questions": 25, "n": 24, "task": "text_to_image"}
    )
    (row,) = certified_models(rows).to_dict("records")
    assert (row["name"], row["questions"], row["n"], row["changed"]) == ("m", 45, 64, 2)
    p = row["high"]
    assert sum(c * p**k * (1 - p) ** (64 - k) for k, c in enumerate((1, 64, 2016))) == pytest.approx(0.05)
    both = words(
        {"questions": 20, "n": 40, "changed": 2}, {"questions": 25, "n": 24, "task": "text_to_image"}
    )
    assert both[0] == ["m was given exactly what its own processor makes in 45 of 45 questions."]
    assert both[1] == ["Batching changed 2 of 64 answers (at most 10% of all, with 95% confidence)."]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"questions": 1, "n": 1}, ["1 of 1 question.", "0 of 1 answer (at most 95% of all"]),
        ({"questions": 12, "differ": 5, "difference": "3 tokens for 2"}, ["something else than its own processor makes in 5 of 12 questions: 3 tokens for 2."]),
        ({"questions": 12, "counted": 8, "miscounted": 8}, ["exactly what its own processor makes in 12 of 12", "Its engine counted as many tokens in 0 of 8 questions."]),
        ({"counted": 8, "miscounted": 3, "n": 8}, ["does not show; its engine counted as many tokens as its processor makes in 5 of 8 questions."]),
        ({"n": 8}, ["which this machine does not have.", "Batching changed 0 of 8 answers (at most 32% of all"]),
        ({}, ["No answer was compared with the same question asked alone."]),
        ({"errors": 1}, ["No answer was compared", "failed on 1 question, which counts as neither"]),
        ({"questions": 4, "n": 3, "errors": 2, "uncompared": 2}, ["Of 2 more no tokens could be made.", "0 of 3 answers (at most 64%", "failed on 2 questions, which count as neither"]),
        ({"stopped": "the server is gone."}, ["could not be held against its own processor.", "More could not be compared: the server is gone."]),
        ({"n": 2000, "changed": 2000, "questions": 2000}, ["2,000 of 2,000 questions", "Batching changed 2,000 of 2,000 answers (at most 100% of all"]),
    ],
)  # fmt: skip
def test_every_case_has_its_sentence(row, said):
    tokens, batch = words(row)
    found = " ".join(tokens + batch)
    for sentence in said:
        assert sentence in found
    assert "nan" not in found and ".." not in found


def test_only_a_failed_certificate_is_at_the_head():
    fine = {"questions": 5, "counted": 5, "n": 5, "changed": 1}
    assert certificate_notices(table(fine)) == certificate_notices(empty(CERTIFICATES)) == []
    wrong = certificate_notices(
        table(fine, {"model": "x", "questions": 9, "differ": 2, "miscounted": 1, "counted": 9})
    )
    assert wrong == [
        "The numbers of x rest on prompts that are not what its processor makes, in 2 of 9 questions that were looked at."
    ]
    counted = certificate_notices(table({"model": "y", "counted": 9, "miscounted": 2}))
    assert (
        len(counted) == 1 and "y may rest on other prompts" in counted[0] and "2 of 9 questions" in counted[0]
    )


def test_two_precisions_are_two_models():
    rows = table(
        {"questions": 5}, {"questions": 5, "differ": 5, "precision": "nf4"}, {"model": "x", "questions": 5}
    )
    assert certified_models(rows)["name"].tolist() == ["m float32", "m nf4", "x"]
    assert "m nf4 rest" in certificate_notices(rows)[0] and len(certificate_notices(rows)) == 1
    assert "m nf4" in text(certificate_table(rows))


def test_foreign_words_stay_words():
    rows = table({"model": HOSTILE, "questions": 2, "differ": 2, "difference": HOSTILE, "stopped": HOSTILE})
    page = certificates(Run("", "", {"certificates": rows, "completions": empty(COMPLETIONS)}))
    assert "<script" not in page and "<a href" not in page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


def test_the_report_of_a_run_tells_it_and_a_failed_one_is_seen_first(run):
    found = read_run(str(run[1]))
    rows = found.tables["certificates"]
    assert len(rows) == 4 and not rows[["differ", "miscounted", "changed", "errors"]].any().any()
    assert "What the models were given" in run[2] and "rest on prompts" not in run[2]
    for model in ("standin-gemma-s", "standin-qwen-s"):
        n = rows.loc[rows["model"] == model, "questions"].sum()
        assert f"{model} was given exactly what its own processor makes in {n} of {n} questions." in text(
            run[2]
        )
    broken = rows.assign(differ=rows["differ"].mask(rows["model"] == "standin-qwen-s", 3))
    page = report_html(replace(found, tables=found.tables | {"certificates": broken}))
    head = text(page.split("<nav")[0])
    assert (
        "The numbers of standin-qwen-s rest on prompts that are not what its processor makes, in 6 of" in head
    )
    some = found.tables | {"certificates": rows[rows["model"] == "standin-gemma-s"]}
    assert "There is no certificate of standin-qwen-s." in text(report_html(replace(found, tables=some)))
