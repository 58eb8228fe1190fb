"""Hours and money against hand computations, and a timed sample of a stand-in."""

import math

import pandas as pd
import pytest
from scipy import stats

from mmpc_analysis.completion.models import ModelCard, model_card
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.completion.protocol import Answer
from mmpc_analysis.study.choices import CatalogueChoice, CompletionChoice, PriceChoice, Study
from mmpc_analysis.study.places import Machine
from mmpc_analysis.study.study_inputs import prepare_inputs
from mmpc_analysis.study.work import (
    PEAKS,
    WORK,
    bill,
    drawing_work,
    guess_drawing,
    guess_place,
    guess_seconds,
    mean_seconds,
    model_work,
    time_answers,
)

NAN = float("nan")
QUESTION = {"model": "m", "task": "image_to_text", "prompt": "p", "number": 7200}
QUESTION |= {"input_tokens": 500.0, "output_tokens": 100.0}
CPU = pd.Series({"model": "m", "verdict": "fits", "device": "cpu", "weights": "folder", "batch": 10})
CARD = ModelCard("m", "own", "mllm", 1_000_000_000, hub_id="org/m", revision="0" * 40)


def test_a_guess_by_hand():
    # 2 x 1e9 x 600 operations on a tenth of 4 cores of 64e9 a second, and 100 tokens of 20 ms in batches of 10
    row = model_work(dict(QUESTION), CPU, CARD, Machine(4, 8.0))
    seconds = 1.2e12 / (0.1 * 4 * 64e9) + 100 * 0.02 / 10
    assert seconds == pytest.approx(47.075)
    assert (row["how"], row["on"], row["hours"]) == ("guess", "4 cores", pytest.approx(2 * seconds))
    assert (row["low"], row["high"]) == (pytest.approx(row["hours"] / 3), pytest.approx(row["hours"] * 3))
    assert list(row) == list(WORK)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla T4", "T4"),
        ("Unheard of", "A100"),
    ],
)
def test_a_gpu_is_known_by_its_name(name, peak):
    row, machine = {"verdict": "fits", "device": "cuda"}, Machine(8, 64.0, ((name, 40.0),))
    assert guess_place(row, CARD, machine) == (f"one {peak}", PEAKS[peak])


def test_what_does_not_fit_is_reckoned_on_the_named_gpu():
    row = {"verdict": "does not fit", "device": "cpu"}
    assert guess_place(row, CARD, Machine(8, 64.0))[0] == "one A100"
    assert (
        guess_place({"verdict": "fits", "device": "cpu"}, model_card("standin-qwen-s"), Machine(8, 64.0))[0]
        == "1 core"
    )


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        (
            PriceChoice(0.25, 1.25),
            3.6 * 0.25 + 0.72 * 1.25,
        ),  # 7,200 x 500 and 7,200 x 100 tokens, in millions
        (PriceChoice(hour_price=2.0), 20.0),
        (PriceChoice(0.25, 1.25, 2.0), 3.6 * 0.25 + 0.72 * 1.25 + 20.0),
        (PriceChoice(0.0, 0.0), 0.0),
    ],
)
def test_money_by_hand(price, cost):
    assert bill(price, 7200 * 500, 7200 * 100, 10.0) == pytest.approx(cost)


def test_an_unknown_price_is_unknown_and_not_nothing():
    assert math.isnan(bill(None, 1e6, 1e6, 1.0)) and math.isnan(bill(PriceChoice(), 1e6, 1e6, 1.0))
    assert math.isnan(bill(PriceChoice(hour_price=2.0), 1e6, 1e6, NAN))


def test_a_server_has_a_bill_but_no_hours():
    served = pd.Series({"model": "m", "verdict": "not here", "device": "", "weights": "server", "batch": 8})
    row = model_work(
        dict(QUESTION), served, CARD, Machine(4, 8.0), price=PriceChoice(0.25, 1.25, currency="EUR")
    )
    assert (row["how"], row["on"], row["currency"]) == ("unknown", "server", "EUR")
    assert math.isnan(row["hours"]) and row["cost"] == pytest.approx(3.6 * 0.25 + 0.72 * 1.25)


def test_a_model_of_unknown_size_has_no_guess():
    row = model_work(dict(QUESTION), CPU, ModelCard("m", "own", "mllm", None), Machine(4, 8.0))
    assert row["how"] == "unknown" and math.isnan(row["hours"])


def test_what_was_measured_replaces_every_guess():
    timed = pd.DataFrame(
        {
            "batch": [1, 1, 2],
            "seconds": [0.5, 0.5, 1.5],
            "input_tokens": [300, 300, 600],
            "output_tokens": [10, 20, 30],
        }
    )
    row = model_work(dict(QUESTION), CPU, CARD, Machine(4, 8.0), timed, PriceChoice(1.0, 1.0))
    assert (row["how"], row["hours"]) == ("measured", pytest.approx(7200 * 1.0 / 3600))
    assert (row["input_tokens"], row["output_tokens"]) == (400, 20)
    assert row["cost"] == pytest.approx(7200 * 420 / 1e6)


def test_the_interval_is_students():
    each = [0.9, 1.1, 1.3, 1.2]
    timed = pd.DataFrame({"batch": [1, 2, 3, 4], "seconds": each})
    low, high = stats.t.interval(0.95, 3, loc=sum(each) / 4, scale=stats.sem(each))
    assert mean_seconds(timed) == (pytest.approx(1.125), pytest.approx(low), pytest.approx(high))
    mean, low, high = mean_seconds(timed[:1])
    assert mean == 0.9 and math.isnan(low) and math.isnan(high)


class Counting:
    "An engine that answers at once and remembers how it was asked."

    identity, precision, batch_size = "counting|1", "float32", 8

    def __init__(self):
        self.sizes = []

    def ask(self, requests):
        self.sizes.append(len(requests))
        return [Answer(r.key, '{"title": "Kite"}', "stop", 30.0, 6.0) for r in requests]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    study = Study(
        catalogue=CatalogueChoice(limit=40), completion=CompletionChoice(models=("standin-gemma-s",))
    )
    return prepare_inputs(study, str(tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize(("n", "sizes"), [(40, [8] * 4), (8, [2] * 4), (4, [1] * 4), (2, [1, 1])])
def test_a_sample_is_four_batches_and_the_first_does_not_count(inputs, n, sizes):
    engine = Counting()
    timed = time_answers(
        engine, inputs.selected.head(n), prompt_for("image_to_text", short=True), inputs.catalogue.root
    )
    assert engine.sizes == sizes and len(timed) == sum(sizes[1:])
    assert (timed["input_tokens"] == 30).all() and (timed["seconds"] > 0).all() and (timed["batch"] > 0).all()


def test_failed_answers_are_no_measurement(inputs):
    class Failing(Counting):
        def ask(self, requests):
            raise RuntimeError("no")

    timed = time_answers(
        Failing(), inputs.selected, prompt_for("image_to_text", short=True), inputs.catalogue.root
    )
    assert timed.empty
    assert model_work(dict(QUESTION), CPU, CARD, Machine(4, 8.0), timed)["how"] == "guess"


def test_drawing_by_hand():
    turbo = model_card("sd3.5-large-turbo")
    # 1024 / 16 = 64 positions a side, 4 steps, 2 operations a parameter; and 20 ms a step
    seconds = 2 * 8_056_627_520 * 64**2 * 4 / 31.2e12 + 0.08
    assert guess_drawing(turbo, 4, PEAKS["A100"]) == pytest.approx(seconds)
    place = {"model": "g", "verdict": "fits", "device": "cuda", "batch": 4}
    row = drawing_work(1000, place, turbo, 4, Machine(8, 64.0, (("NVIDIA A100", 79.0),)))
    assert (row["task"], row["how"], row["hours"]) == (
        "drawing",
        "guess",
        pytest.approx(seconds * 1000 / 3600),
    )
    assert guess_seconds(NAN, 1, 1, 1e12) != 0
