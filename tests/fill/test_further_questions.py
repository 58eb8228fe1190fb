"""Further questions: pictures in memory, threads, and scores that are checked before they count."""

import gc

import pandas as pd
import pytest
from PIL import Image
from shop_engine import Engine, colour, shop

from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.prompts import prompt_for
from mmpc_analysis.completion.protocol import Request, ScoredAnswer
from mmpc_analysis.fill.further_questions import Way, ask_further, score_batch

PROMPT = prompt_for("image_to_text", short=True)


def questions(items):
    return pd.DataFrame({"key": items["item_id"], "image": items["image"]})


def test_no_more_pictures_are_open_than_two_batches(tmp_path):
    items, most = shop(tmp_path, 20), []

    def look(rows, requests):
        gc.collect()
        most.append(sum(isinstance(x, Image.Image) and x.size == (8, 8) for x in gc.get_objects()))
        return [{"seen": colour(request)} for request in requests]

    found = ask_further(Engine(), questions(items), Way(lambda row: PROMPT, look), root=str(tmp_path), folder=str(tmp_path / "run"))  # fmt: skip
    assert {key: line["seen"] for key, line in found.items()} == {f"B{at:03}": at for at in range(20)}
    assert (
        len(most) == 5 and min(most) >= 4 and max(most) <= 3 * Engine.batch_size
    )  # Two, and one that is let go of


def test_batches_are_the_same_after_an_interruption(tmp_path):
    items, batches = shop(tmp_path, 10), []

    def look(rows, requests):
        batches.append([request.key for request in requests])
        if len(batches) == 2:
            raise BackendError("gone")
        return [{} for _ in requests]

    way, where = Way(lambda row: PROMPT, look), {"root": str(tmp_path), "folder": str(tmp_path / "run")}
    with pytest.raises(BackendError):
        ask_further(Engine(), questions(items), way, **where)
    ask_further(Engine(), questions(items), way, **where)
    assert batches[2:] == [batches[1], [f"B00{at}" for at in (8, 9)]]
    assert len(list((tmp_path / "run").glob("*.jsonl"))) == 1


def test_an_interruption_by_hand_keeps_what_was_found(tmp_path):
    items, calls = shop(tmp_path, 10), []

    def look(rows, requests):
        calls.append(len(requests))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [{} for _ in requests]

    way, where = Way(lambda row: PROMPT, look), {"root": str(tmp_path), "folder": str(tmp_path / "run")}
    with pytest.raises(KeyboardInterrupt):
        ask_further(Engine(), questions(items), way, **where)
    ask_further(Engine(), questions(items), way, **where)
    assert calls == [4, 4, 2, 2]


class Together(Engine):
    def __init__(self, shift=0.0, error=None):
        super().__init__()
        self.shift, self.error = shift, error

    def score_many(self, requests, candidates):
        if self.error:
            raise self.error
        self.together = len(requests)
        return [
            [ScoredAnswer(s.text, s.logprob + self.shift, s.least_logprob, s.tokens) for s in Engine().score(r, c)]
            for r, c in zip(requests, candidates, strict=True)
        ]  # fmt: skip


def asked(n=3):
    return [Request(str(at), [], Image.new("RGB", (8, 8), (at, 0, 0))) for at in range(n)], [["a", "b"]] * n


def test_scores_that_are_read_together_count_where_the_first_one_agrees():
    expected = [Engine().score(r, c) for r, c in zip(*asked(), strict=True)]
    engine = Together(shift=0.2)  # 0.04 nats for each of five tokens: rounding
    assert [s.logprob - 0.2 for s in score_batch(engine, *asked())[2]] == pytest.approx(
        [s.logprob for s in expected[2]]
    )
    assert engine.together == 3 and {seen for _, seen, _ in engine.seen} == {0}
    for engine in (
        Together(shift=0.3),
        Together(shift=float("nan")),
        Together(error=TypeError("no such past")),
    ):
        assert score_batch(engine, *asked()) == expected
        assert len(engine.seen) == 6  # Each question once


def test_a_full_memory_and_a_lost_engine_are_told():
    for error in (MemoryError(), BackendError("gone")):
        with pytest.raises(type(error)):
            score_batch(Together(error=error), *asked())
