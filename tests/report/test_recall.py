"""Words about memory: who, how, and never more than was shown."""

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.report.components import Absent
from mmpc_analysis.report.recall import date_words, memory, recall_words
from mmpc_analysis.report.run import Run

ROW = {
    "model": "a", "precision": "", "prompt": "p", "condition": "blind", "metric": "recall", "estimate": 0.5, "low": 0.45,
    "high": 0.55, "chance": 0.5, "items": 90, "groups": 80, "before": np.nan, "answered": 1.0, "shown": False,
}  # fmt: skip


def rows(*changes):
    return pd.DataFrame([ROW | change for change in changes])


def test_nobody_is_accused_without_a_bound():
    text = " ".join(recall_words(rows({}, {"condition": "wrong_picture", "estimate": 0.58, "high": 0.66})))
    assert "recalled titles" not in text and "Of a no memory is shown. At most 0.66" in text


def test_each_way_names_its_own_models():
    said = recall_words(
        rows(
            {"shown": True, "estimate": 0.9, "low": 0.8, "high": 0.95},
            {"condition": "wrong_picture"},
            {"model": "b"},
            {
                "model": "b",
                "condition": "wrong_picture",
                "shown": True,
                "estimate": 0.7,
                "low": 0.6,
                "high": 0.8,
            },
            {"model": "c"},
        )
    )
    assert said[0].startswith("Three models were asked")
    assert said[1].startswith("a recalled titles by its identifier alone") and "0.9 (0.8 to 0.95)" in said[1]
    assert said[2].startswith("b recalled titles by its identifier beside the picture")
    assert said[3].startswith("Of c no memory is shown") and len(said) == 4


@pytest.mark.parametrize(
    ("shown", "expected"), [(True, "completes newer products worse"), (False, "are not shown to be")]
)
def test_a_later_date_is_a_hint_and_no_proof(shown, expected):
    dated = rows(
        {
            "condition": "after_date",
            "metric": "chrf",
            "chance": 0.0,
            "estimate": -0.1,
            "low": -0.2,
            "high": -0.02,
            "before": 60,
            "shown": shown,
        }
    )
    text = " ".join(date_words(dated))
    assert expected in text and ("could make it too" in text) == shown and "30 products" in text


def test_a_hostile_name_is_escaped_and_a_run_without_it_says_so():
    hostile = rows({"model": "<script>alert(1)</script>", "low": np.nan, "high": np.nan})
    text = str(memory(Run("", "", {"memorisation": hostile})))
    assert "<script>" not in text and "no interval" in text
    with pytest.raises(Absent, match="no memorisation"):
        memory(Run("", "", {}))
