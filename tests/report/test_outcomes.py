"""Outcomes are counted, and what was set aside is told."""

import re

import pandas as pd
import pytest
from hostile_shop import hostile_run
from report_tables import TASK, averages_table, row_of

from mmpc_analysis.report.outcomes import cut_prompt_table, cut_prompt_words, outcome_bars, outcomes
from mmpc_analysis.report.run import Run
from mmpc_analysis.tables import DRAWINGS, OUTCOMES, TABLES, empty, validate


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


# ---------------------------------------------------------------- image prompts that were cut


def drawings(rows, encoders=2, limit=20.0):
    "Prompts by item, model, how many encoders cut them, and what was read and written."
    frame = pd.DataFrame(rows, columns=["item_id", "model", "cut_by", "read", "whole"])
    told = {"category": "Home", "role": "model", "precision": "float32", "prompt": "p", "generator": "g"}
    return validate(frame.assign(encoders=encoders, tokens=9.0, limit=limit, **told), DRAWINGS)


CASES = {
    "none": ([("mug", "a", 0, "r", "r")], ["The generator reads up to 20 tokens of an image prompt, and no prompt is longer."]),
    "one": (
        [("mug", "a", 2, "r", "w"), ("cup", "a", 0, "s", "s")],
        ["The generator reads up to 20 tokens of an image prompt: of two prompts, one is longer and was drawn without "
         "what came after."],
    ),
    "some encoders": (
        [("mug", "a", 1, "r", "w"), ("cup", "a", 0, "s", "s")],
        ["The generator reads up to 20 tokens of an image prompt, and no prompt is longer.",
         "One prompt is cut by some of its text encoders only."],
    ),
    "shared": (
        [("mug", "a", 2, "r", "w"), ("mug", "b", 2, "r", "v"), ("cup", "a", 2, "r", "u")],
        ["The generator reads up to 20 tokens of an image prompt: of three prompts, three are longer and were drawn "
         "without what came after.",
         "Two prompts differ from another about the same product only after the cut, so that both have one picture."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_cut_prompts_are_said(case):
    rows, expected = CASES[case]
    assert cut_prompt_words(drawings(rows)) == expected
    assert bool(cut_prompt_table(drawings(rows))) == (case != "none")


def test_unknown_lengths_and_no_prompts_are_not_called_short():
    unknown = drawings([("mug", "a", 0, None, None)], encoders=0, limit=float("nan"))
    assert cut_prompt_words(unknown) == ["How much of an image prompt the generator reads is not known."]
    assert cut_prompt_words(empty(DRAWINGS)) == [] and str(cut_prompt_table(empty(DRAWINGS))) == ""


def test_the_section_says_it_below_the_image_prompts_only():
    frames = {name: empty(table) for name, table in TABLES.items()}
    averages, rows = averages_table(), drawings(CASES["shared"][0])
    page = {}
    for task in ("text_to_image", "image_to_text"):
        run = Run("", "", frames | {"averages": averages.assign(task=task), "drawings": rows}, {})
        page[task] = str(outcomes(run))
    assert (
        "three are longer" in page["text_to_image"]
        and "tokens of an image prompt" not in page["image_to_text"]
    )
    without = Run("", "", {k: v for k, v in frames.items() if k != "drawings"} | {"averages": averages}, {})
    assert "tokens of an image prompt" not in str(outcomes(without))  # A run of an older version
