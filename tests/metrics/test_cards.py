"""The table of cards: every reference leads somewhere, every need is known, and one's own metrics take part."""

from dataclasses import replace

import pandas as pd
import pytest

from mmpc_analysis.metrics.cards import (
    BUILT_IN_METRICS,
    ENCODERS,
    METRICS,
    NEEDS,
    Metric,
    encoder_cards,
    find_function,
    headline_metrics,
    list_metrics,
    lower_is_better,
    metric_card,
)
from mmpc_analysis.metrics.images import MULTISCALE_SIZE
from mmpc_analysis.metrics.own_metrics import register_metric


@pytest.fixture(autouse=True)
def restored():
    "The table as it was, whatever a test registers."
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


@pytest.mark.parametrize("name", sorted(BUILT_IN_METRICS))
def test_a_card_leads_to_its_function_and_asks_for_what_there_is(name):
    card = METRICS[name]
    assert card.name == name and callable(find_function(card.compute))
    assert all(card.task in NEEDS[need][0] for need in card.needs)
    assert card.encoder in {"", *ENCODERS}


def test_sizes_on_cards_are_those_of_the_functions():
    assert METRICS["ms_ssim"].size == MULTISCALE_SIZE


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_an_encoder_can_be_found(encoder):
    assert callable(find_function(ENCODERS[encoder].load))


def test_encoders_that_are_brought_along_have_cards_by_name():
    assert metric_card("clip@0123abcd_cosine").encoder == "clip@0123abcd"
    assert metric_card("dinov2_base_patch_cosine").needs == ("reference_maps", "candidate_maps")
    assert metric_card("lpips_alex@0123abcd").encoder == "lpips_alex@0123abcd"
    assert lower_is_better("lpips_alex@0123abcd") and not lower_is_better("no such metric")
    assert list(encoder_cards("mine", "image_to_text")) == ["mine_cosine"]
    assert [name for name in encoder_cards("mine", retrieval=True) if "retrieval" in name] == [
        "mine_retrieval",
        "mine_retrieval_back",
    ]


def own(name, **more):
    about = {
        "task": "image_to_text",
        "level": "word",
        "low": 0,
        "high": 1,
        "failure": 0,
        "formula": "made up",
    }
    return register_metric(Metric(name, **about | {"compute": len} | more))


def averages(*names):
    rows = [{"task": "image_to_text", "metric": name, "level": METRICS[name].level} for name in names]
    return pd.DataFrame(rows)


def test_a_leading_metric_of_ones_own_goes_before_the_packages():
    own("first"), own("second")
    assert headline_metrics(averages("first", "second", "token_f1"), "image_to_text") == ["token_f1"]
    own("second", leads=True)
    assert headline_metrics(averages("first", "second", "token_f1"), "image_to_text") == ["second"]
    own("third", leads=True)
    assert headline_metrics(averages("second", "third"), "image_to_text") == ["third"]
    own("second", headline=False)
    assert headline_metrics(averages("second", "first"), "image_to_text") == ["first"]


def test_levels_stand_from_fine_to_coarse():
    every = list_metrics().query("headline")
    for task, levels in {
        "image_to_text": ["token_f1", "minilm_cosine"],
        "text_to_image": ["ssim", "effnet_patch_cosine", "effnet_cosine"],
    }.items():
        assert headline_metrics(every.rename(columns={"name": "metric"}), task) == levels


def test_direction_is_asked_of_the_card():
    own("errors", better="lower")
    assert lower_is_better("errors") and not lower_is_better("chrf")
    assert replace(METRICS["errors"], better="higher") != METRICS["errors"]
