"""Numbers and names as text, and what no sentence may speak of."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slope_rows import UP, size

from mmpc_analysis.report.variation import variance_words
from mmpc_analysis.report.wording import label, number


@given(st.text())
def test_a_label_is_short_and_has_no_markup(name):
    import html

    shown = label(name)
    assert "<" not in shown and ">" not in shown
    assert len(html.unescape(shown)) <= 34
    assert not any(ord(c) < 32 for c in shown)


@pytest.mark.parametrize(
    ("value", "spread", "shown"),
    [
        (0.41, 1, "0.410"),
        (-0.41, 1, "\u22120.410"),
        (12.34, 50, "12.3"),
        (12345.6, 1e5, "12,346"),
        (np.inf, 1, "\u2013"),
    ],
)
def test_numbers_have_the_decimals_of_their_column(value, spread, shown):
    assert number(value, spread) == shown


def test_sentences_of_two_metrics_are_refused():
    both = pd.concat([size(UP, UP), size(UP, UP, metric="mse")])
    with pytest.raises(ValueError, match="one task and one metric"):
        variance_words(both)
