"""Metrics of one's own: the contract catches what breaks it, the package keeps it, and the how-to does what it says."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

import mmpc_analysis
from mmpc_analysis.metrics.cards import BUILT_IN_METRICS, ENCODERS, METRICS, Metric, metric_card
from mmpc_analysis.metrics.own_metrics import check_metric, metric_keys, register_encoder, register_metric
from mmpc_analysis.metrics.texts import score_pairs
from mmpc_analysis.metrics.words import jaccard

ABOUT = {"task": "image_to_text", "level": "word", "low": 0, "high": 1, "failure": 0, "formula": "made up"}
CARD = Metric("own", compute=jaccard, **ABOUT)
PIXELS = Metric("own", compute=len, **ABOUT | {"task": "text_to_image", "level": "pixel"})
EXTRA = {"weights", "encoder"}
PLAIN = [n for n in sorted(BUILT_IN_METRICS) if not METRICS[n].of_sets and not EXTRA & set(METRICS[n].needs)]


@pytest.fixture(autouse=True)
def restored():
    "The tables as they were, whatever a test registers."
    before = dict(METRICS), dict(ENCODERS)
    yield
    for table, rows in zip((METRICS, ENCODERS), before, strict=True):
        table.clear()
        table.update(rows)


@pytest.mark.parametrize("name", PLAIN)
def test_the_packages_metrics_keep_their_promises(name):
    seen = check_metric(name).set_index("check")["seen"]
    assert list(seen.index) == ["range", "rows", "inputs", "unknown", "direction"]


def test_nothing_that_needs_no_extra_is_left_out():
    assert len(PLAIN) == 24


# ---------------------------------------------------------------- what the contract catches


def closeness(references, candidates):
    "Near 1 for pictures that are alike."
    return [1 - np.abs(a.astype(float) - b).mean() / 255 for a, b in zip(references, candidates, strict=True)]


def shared_state():
    seen = []

    def compute(references, candidates):
        seen.extend(candidates)
        return jaccard(references, candidates) / len(seen)

    return compute


def rewrite(references, candidates):
    candidates[:] = [text and text.lower() for text in candidates]
    return jaccard(references, candidates)


def at_once(references, candidates):
    values = jaccard(references, candidates)
    return values / np.nanmax(values, initial=1e-9)


BROKEN = {
    "out of range": (lambda r, c: 100 * jaccard(r, c), r"expected values in \[0, 1\], got .*scale the values"),
    "one value": (lambda r, c: float(np.nanmean(jaccard(r, c))), "expected 8 values, got shape"),
    "too few": (lambda r, c: jaccard(r, c)[1:], "expected 8 values, got shape"),
    "not numbers": (lambda r, c: ["good"] * len(r), "expected numbers, got"),
    "all the same": (lambda r, c: 0 * jaccard(r, c), "expected products to differ, got 0.0 for all"),
    "share of the batch": (lambda r, c: jaccard(r, c) / max(1, len(r)), "alone too, got"),
    "share of the best": (at_once, "alone too, got"),
    "state": (shared_state(), "a second time too, got"),
    "chance": (lambda r, c: np.random.default_rng().random(len(r)), "a second time too, got"),
    "place in the batch": (lambda r, c: jaccard(r, c) / (1 + np.arange(len(r))), "in reverse too, got"),
    "no rows": (lambda r, c: jaccard(r, c) if r else [0.5], "expected 0 values, got shape"),
    "inputs": (rewrite, "expected candidates to stay as it was given, got it changed; work on a copy"),
    "0 for unknown": (lambda r, c: np.nan_to_num(jaccard(r, c)), "expected NaN where references is missing, got 0.0"),
    "upside down": (lambda r, c: 1 - jaccard(r, c), "expected identical inputs to score best"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_metric_is_caught(kind):
    compute, message = BROKEN[kind]
    with pytest.raises(ValueError, match=f"metric 'own': .*{message}"):
        check_metric(replace(CARD, compute=compute))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"failure": 1}, "expected failure to be worse than identical inputs, got 1; take the worst end"),
        ({"better": "lower", "failure": 1}, "expected identical inputs to score best"),
        ({"low": 1}, r"expected low must be below high, got \(1, 1\)"),
    ],
)
def test_a_card_that_says_too_much_is_caught(change, message):
    with pytest.raises(ValueError, match=message):
        check_metric(replace(CARD, **change))


def test_pictures_are_checked_too():
    check_metric(replace(PIXELS, compute=closeness))
    check_metric(replace(PIXELS, compute=closeness, size=32, needs=("candidates", "references")))
    with pytest.raises(ValueError, match="identical inputs to score best"):
        check_metric(replace(PIXELS, compute=closeness, better="lower", failure=1))


def test_samples_of_ones_own_replace_those_that_are_made_up():
    colours = {"red", "blue"}

    def same_colour(references, candidates):
        return score_pairs(references, candidates, lambda r, c: float(r.split()[0] in colours & {*c.split()}))

    card = replace(CARD, compute=same_colour, better="higher")
    with pytest.raises(ValueError, match=r"references=.*candidates="):
        check_metric(card)
    seen = check_metric(card, references=["red mug", "blue hat"], candidates=["a red one", "a red one"])
    assert seen["seen"].iloc[0] == "0 to 1 in [0, 1]"
    with pytest.raises(ValueError, match="expected samples of one length"):
        check_metric(card, references=["red mug"])
    with pytest.raises(ValueError, match="expected samples of references, candidates, got prices"):
        check_metric(card, prices=[1.0])


# ---------------------------------------------------------------- registering


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "chrf"}, "one of the package's own; give yours another name"),
        ({"name": "My Metric"}, "name must be lower case letters, digits and _, got 'My Metric'"),
        ({"task": "titles"}, "task must be one of image_to_text, text_to_image, got 'titles'"),
        ({"level": "tone"}, "level must be one of word, .*, got 'tone'"),
        ({"high": 0}, "low must be below high"),
        ({"better": "more"}, "better must be higher, lower or neither, got 'more'"),
        ({"failure": -1}, r"failure must be NaN or in \[0, 1\], got -1"),
        ({"needs": ()}, "needs must be among references, candidates, items"),
        ({"needs": ("reference_maps",)}, "needs must be among references, candidates, items"),
        ({"needs": ("candidate_vectors",)}, "encoder must be one of minilm, .*, got ''"),
        ({"of_sets": True}, "of_sets must be False"),
        ({"compute": "jaccard"}, "compute must be a function or module:function, got 'jaccard'"),
    ],
)
def test_a_card_that_cannot_be_true_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        register_metric(replace(CARD, **change))
    assert METRICS.keys() == BUILT_IN_METRICS


def test_what_is_no_card_is_refused_and_names_of_encoders_are_kept():
    with pytest.raises(TypeError, match="takes a Metric, got str"):
        register_metric("jaccard")
    for name in ("effnet", "clip", "dinov2", "minilm"):
        with pytest.raises(ValueError, match="one of the package's own"):
            register_encoder(name, len)


def test_a_key_changes_with_code_values_taken_along_card_and_version():
    def made(weight):
        return lambda references, candidates: weight * jaccard(references, candidates)

    def key(**change):
        register_metric(replace(CARD, **change))
        return metric_keys(["own", "jaccard", "no such metric"])

    keys = [key(), key(compute=made(1.0)), key(compute=made(0.5)), key(compute=made(0.5), high=2)]
    keys += [key(compute=made(0.5), version="1"), key(compute=made(1.0), version="2")]
    keys += [key(compute="mmpc_analysis.metrics.words:jaccard")]
    assert all(len(found) == 1 and found[0].startswith("own@") for found in keys)
    assert len({found[0] for found in keys}) == len(keys)
    assert key(compute=made(0.5), version="1") == key(compute=made(1.0), version="1")
    assert key(compute=made(0.5)) == key(compute=made(0.5))
    assert metric_keys(BUILT_IN_METRICS) == []


def test_everything_stands_at_the_root():
    for name in ("Metric", "register_metric", "register_encoder", "check_metric"):
        assert name in mmpc_analysis.__all__ and callable(getattr(mmpc_analysis, name))


# ---------------------------------------------------------------- the how-to


def test_the_how_to_takes_twenty_lines_and_does_what_it_says():
    cells = json.loads((ROOT / "nbs/tutorials/own_metric.ipynb").read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = [
        line for line in "\n".join(code).split("\n") if line.strip() and not line.lstrip().startswith("#")
    ]
    assert len(lines) <= 20
    names = {}
    for cell in code:
        exec(compile(cell, "own_metric.ipynb", "exec"), names)
    assert metric_card("opening") is names["card"]
    means = names["averages"].set_index(["metric", "model"])["estimate"]
    assert means["opening", "oracle"] == 1 and means["opening", "shuffled"] < 0.5
    assert set(means.index.get_level_values("metric")) == {"opening", "token_f1"}
    assert names["averages"]["low"].le(names["averages"]["estimate"]).all()
