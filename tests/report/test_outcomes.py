"""Outcomes are counted, and what was set aside is told."""

import re

import pandas as pd
import pytest
from hostile_shop import hostile_run
from report_tables import TASK, averages_table, row_of

from mmpc_analysis.report.outcomes import outcome_bars
from mmpc_analysis.tables import OUTCOMES


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


def test_outcomes_are_the_counts():
    averages = averages_table()
    figure = outcome_bars(averages, TASK)
    assert figure.layout.barnorm == "percent"
    for trace, outcome in zip(figure.data, OUTCOMES, strict=True):
        for name, count in zip(trace.y, trace.x, strict=True):
            model = name.split("  ")[0]
            assert count == row_of(averages, model)[outcome]
            assert name.endswith(f"{row_of(averages, model)['coverage']:.0%}")
    patterns = [trace.marker.pattern.shape for trace in figure.data]
    assert len(set(patterns)) == len(OUTCOMES)  # told apart without colour


def test_what_was_set_aside_is_counted_and_explained(run):
    _, out, page, _ = run
    aside = pd.read_csv(out / "set_aside.csv")
    assert len(aside) >= 1
    assert f"{len(aside)} row{'s were' if len(aside) != 1 else ' was'} set aside".replace(
        " w", " of the catalogue w", 1
    ) in re.sub("<[^>]+>", "", page)
    reason = str(aside["reason"].iloc[0])
    assert re.sub("[<>&'\"]", "", reason)[:20] in re.sub("[<>&'\"]", "", page)
