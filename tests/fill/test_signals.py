"""Signals of a suggestion: worked out by hand, asked once, whatever happens in between."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scripted_server import reply, scripted
from shop_engine import ALL, Engine, ask, likelihood, shop

from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.protocol import Offers
from mmpc_analysis.fill.signals import SIGNALS, agreement, ask_suggestions, offered_signals, sure_backend

NUMBERS = [*SIGNALS, "seconds"]


@pytest.fixture
def products(tmp_path):
    return shop(tmp_path), tmp_path


# ---------------------------------------------------------------- what the numbers are


def test_the_signals_are_those_of_a_hand_computation(products):
    items, folder = products
    rows = ask(items, folder, Engine(), distractors=3).set_index("item_id")
    assert rows.index.tolist() == items["item_id"].tolist()
    for at, row in enumerate(rows.itertuples()):
        if at == 7:  # It declined
            assert row.outcome == "refused" and pd.isna(row.suggestion)
            assert all(math.isnan(getattr(row, name)) for name in SIGNALS)
            continue
        own = f"Red thing {at}"
        assert (row.outcome, row.suggestion, row.logprob, row.least_logprob) == ("ok", own, -0.25, -0.5)
        # Words red, thing, N: against itself 1, against blue thing N 2/3, unusable 0, itself 1
        assert row.agreement == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
        yes = likelihood(at, '{"answer": "yes"}') - likelihood(at, '{"answer": "no"}')
        assert row.yes == pytest.approx(yes, abs=1e-12)


def test_the_rank_is_that_of_the_titles_that_were_scored(products):
    items, folder = products
    engine = Engine()
    rows = ask(items, folder, engine, signals="lift_rank", distractors=3)
    for at, row in enumerate(rows.itertuples()):
        given = [json.loads(t)["title"] for kind, seen, t in engine.seen if (kind, seen) == ("score", at)]
        if at == 7:
            assert given == [] and math.isnan(row.lift_rank)
            continue
        lifts = [likelihood(at, json.dumps({"title": t})) - likelihood("blind", json.dumps({"title": t})) for t in given]  # fmt: skip
        assert given[0] == f"Red thing {at}" and len(set(given)) == 4
        assert row.lift_rank == pytest.approx(np.mean([lifts[0] > other for other in lifts[1:]]))


def test_seconds_are_those_of_all_questions(products):
    items, folder = products
    first = ask(items, folder, Engine(), out="a", signals=["logprob"])
    assert first["seconds"].tolist() == [0.5] * 10
    second = ask(items, folder, Engine(), out="b", signals=["agreement"])
    assert second["seconds"].tolist() == [1.5 if at != 7 else 0.5 for at in range(10)]
    slow = ask(items, folder, Engine(pause=0.05), out="c", signals=["lift_rank"])
    assert (slow["seconds"].drop(7) > 0.55).all() and slow["seconds"][7] == 0.5


def test_agreement_counts_what_cannot_be_used():
    assert agreement("red kite", ["red kite"] * 3 + [None]) == 0.75
    assert agreement("red kite", [None, ""]) == 0
    assert math.isnan(agreement(None, ["red kite"])) and math.isnan(agreement("red kite", []))


# ---------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("offers", "signals", "kinds", "given"),
    [
        (ALL, None, {"ask", "sample", "score"}, set(SIGNALS)),
        (ALL, ("logprob", "agreement"), {"ask", "sample"}, {"logprob", "agreement"}),
        (ALL, (), {"ask"}, set()),
        (Offers(), None, {"ask"}, {"yes"}),
        (Offers(samples=True), None, {"ask", "sample"}, {"agreement", "yes"}),
        (Offers(scoring=True), ("lift_rank", "logprob"), {"ask", "score"}, {"lift_rank"}),
    ],
)
def test_only_what_is_wanted_and_offered_is_asked(products, offers, signals, kinds, given):
    items, folder = products
    engine = Engine(offers)
    rows = ask(items, folder, engine, signals=signals)
    assert {kind for kind, *_ in engine.seen} == kinds
    assert {name for name in SIGNALS if rows[name].notna().any()} == given
    assert rows["suggestion"].notna().sum() == 9


def test_an_engine_that_only_answers_is_asked_for_its_yes(products):
    items, folder = products
    rows = ask(items, folder, Engine(Offers()))
    assert rows["yes"].drop(7).tolist() == [-1.0 if at % 3 else 1.0 for at in range(10) if at != 7]
    rows = ask(items, folder, Engine(Offers(logprobs=True), identity="surer"))
    odds = np.log(np.exp(-0.5) / (1 - np.exp(-0.5)))  # Its least likely token has a log-probability of -0.5
    assert rows["yes"].drop(7).tolist() == pytest.approx(
        [-odds if at % 3 else odds for at in range(10) if at != 7]
    )


def test_titles_without_a_picture_are_asked_once_each(products):
    items, folder = products
    engine = Engine()
    ask(items, folder, engine, distractors=4)
    blind = Counter(
        text for kind, seen, *rest in engine.seen if (kind, seen) == ("score", "blind") for text in rest
    )
    assert set(blind.values()) == {1} and len(blind) == 9 + 10  # Suggestions, and every title of the shop


# ---------------------------------------------------------------- nothing twice


def test_nothing_is_asked_again_and_the_table_is_the_same(products):
    items, folder = products
    first, again = ask(items, folder, Engine()), Engine()
    pd.testing.assert_frame_equal(ask(items, folder, again), first)
    assert again.seen == []
    mixed = items.sample(frac=1, random_state=3).reset_index(drop=True)
    turned = ask(mixed, folder, again, titles=items).set_index("item_id").loc[items["item_id"]].reset_index()
    pd.testing.assert_frame_equal(turned, first)
    assert again.seen == []


def test_what_was_left_out_is_asked_later_and_nothing_else(products):
    items, folder = products
    first = Engine()
    ask(items, folder, first, signals=("agreement",))
    second = Engine()
    ask(items, folder, second)
    assert {kind for kind, *_ in second.seen} == {"score"} and {kind for kind, *_ in first.seen} == {
        "ask",
        "sample",
    }


def test_a_changed_picture_is_asked_anew_and_only_that_one(products):
    items, folder = products
    ask(items, folder, Engine())
    Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / "3.png")
    engine = Engine()
    rows = ask(items, folder, engine)
    assert rows["suggestion"][3] == "Red thing 200"
    assert {seen for _, seen, *_ in engine.seen} == {200, "blind"}
    blind = [text for kind, seen, *rest in engine.seen if seen == "blind" for text in rest]
    assert blind == ['{"title": "Red thing 200"}']


def test_another_engine_is_asked_everything(products):
    items, folder = products
    first, other = Engine(), Engine(identity="another")
    ask(items, folder, first)
    ask(items, folder, other)
    assert Counter(other.seen) == Counter(first.seen)


def test_another_seed_draws_anew_and_another_title_is_scored_anew(products):
    items, folder = products
    ask(items, folder, Engine(), seed=1)
    engine = Engine()
    ask(items, folder, engine, seed=2, signals=("agreement", "yes"))
    assert {(kind, seed) for kind, _, _, seed in engine.seen} == {("sample", 2)} and len(engine.seen) == 9
    changed = items.assign(title=items["title"].where(items["item_id"] != "B004", "A new title"))
    ask(items, folder, engine := Engine(), seed=1, titles=changed)
    blind = [text for kind, seen, *rest in engine.seen if seen == "blind" for text in rest]
    assert blind == ['{"title": "A new title"}'] and {kind for kind, *_ in engine.seen} == {"score"}


# ---------------------------------------------------------------- failures


def test_a_question_that_fails_is_one_row_and_asked_again(products):
    items, folder = products
    rows = ask(items, folder, Engine(fails={4}))
    assert rows["outcome"][4] == "engine_error" and rows["suggestion"].notna().sum() == 8
    engine = Engine()
    rows = ask(items, folder, engine)
    assert rows["suggestion"].notna().sum() == 9 and {seen for _, seen, *_ in engine.seen} == {4, "blind"}


def test_a_further_question_that_fails_costs_one_signal(products):
    items, folder = products
    ask(items, folder, Engine(), signals=())
    rows = ask(items, folder, Engine(fails={4}))
    lost = rows.loc[4, ["agreement", "yes", "lift_rank"]]
    assert lost.isna().all() and rows["logprob"][4] == -0.25
    assert rows[["agreement", "yes", "lift_rank"]].notna().sum().tolist() == [8, 8, 8]
    engine = Engine()
    rows = ask(items, folder, engine)
    assert rows[list(SIGNALS)].notna().sum().tolist() == [9] * 5
    assert {seen for _, seen, *_ in engine.seen} == {4}


@pytest.mark.parametrize("stops", [1, 3, 4, 5, 8, 14])
def test_an_engine_that_is_gone_stops_everything_and_nothing_is_lost(products, stops):
    items, folder = products
    whole = Engine()
    expected = ask(items, folder, whole, out="whole")
    first = Engine(stops=stops)
    with pytest.raises(BackendError, match="gone"):
        ask(items, folder, first)
    second = Engine()
    rows = ask(items, folder, second)
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), expected.drop(columns="seconds"))
    again = Counter(first.seen) + Counter(second.seen) - Counter(whole.seen)
    batch = 9 * Engine.batch_size  # Four questions, each with nine titles
    assert first.seen and sum(again.values()) < batch


def test_a_kill_loses_a_batch_at_most(tmp_path):
    rng, log = random.Random(0), tmp_path / "log"
    expected = ask(items := shop(tmp_path), tmp_path, whole := Engine(), out="whole")
    command = [sys.executable, str(Path(__file__).with_name("shop_engine.py")), str(tmp_path), str(log)]
    asked, killed = lambda: log.read_text().splitlines() if log.exists() else [], 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])}  # fmt: skip
    for _ in range(4):
        before, worker = len(asked()), subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while len(asked()) <= before and worker.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.25))
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGKILL)
            killed += 1
        worker.wait()
    last = Engine()
    rows = ask(items, tmp_path, last)
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), expected.drop(columns="seconds"))
    lines = Counter(tuple(json.loads(line)) for line in asked() if line.endswith("]")) + Counter(last.seen)
    assert killed >= 2 and set(lines) == set(whole.seen)
    most = killed * Engine.batch_size * 9  # Texts in a batch of four questions: nine titles each
    assert sum(lines.values()) - len(whole.seen) <= most


# ---------------------------------------------------------------- hostile shops


def test_products_without_a_readable_picture_have_no_suggestion(products):
    items, folder = products
    (folder / "2.png").write_bytes(b"no picture")
    items = items.assign(image=items["image"].where(items["item_id"] != "B005", None))
    rows = ask(items, folder, Engine())
    assert rows["outcome"][[2, 5]].tolist() == ["engine_error"] * 2
    assert rows.loc[[2, 5], list(SIGNALS)].isna().all(axis=None) and rows["suggestion"].notna().sum() == 7


def test_a_shop_without_known_titles_has_no_rank(products):
    items, folder = products
    for titles in (items.head(0), items.assign(title=None)):
        rows = ask(items, folder, Engine(), titles=titles)
        assert rows["lift_rank"].isna().all() and rows["yes"].notna().sum() == 9


def test_no_products_are_no_rows(products):
    items, folder = products
    rows = ask(items.head(0), folder, Engine(), titles=items)
    assert len(rows) == 0 and list(rows) == ["item_id", "key", "outcome", "suggestion", *SIGNALS, "model", "precision", "prompt", "seconds"]  # fmt: skip


def test_unknown_signals_are_named(products):
    items, folder = products
    with pytest.raises(ValueError, match="some of logprob, .* got 'luck'"):
        ask(items, folder, engine := Engine(), signals=("luck",))
    assert engine.seen == []


# ---------------------------------------------------------------- engines of this package


def test_a_stand_in_gives_every_signal(tmp_path):
    from importlib.resources import files

    root = str(files("mmpc_analysis") / "data" / "catalogue")
    items = pd.read_csv(f"{root}/items.csv", dtype=str)
    some = items.query("split == 'test'").iloc[[0, 40, 80]].reset_index(drop=True)
    where = {"root": root, "out": str(tmp_path), "titles": items, "progress": False, "distractors": 3}
    rows = ask_suggestions(some, "standin-qwen-s", **where)
    assert rows.loc[rows["suggestion"].notna(), list(SIGNALS)].notna().all(axis=None)
    bare = load_backend("standin-qwen-s")
    plain = ask_suggestions(some, "standin-qwen-s", backend=bare, signals=("logprob", "yes"), **where)
    assert plain["logprob"].isna().all() and plain["yes"].equals(rows["yes"])
    sure = ask_suggestions(some, "standin-qwen-s", signals=("logprob",), **where)
    assert sure["logprob"].equals(rows["logprob"])  # Plain answers did not hide the surer ones


def test_a_server_gives_what_it_was_probed_for(tmp_path):
    pytest.importorskip("openai")
    from mmpc_analysis.completion.server_requests import ServerProfile

    items = shop(tmp_path, 3)

    def script(text, times, body):
        told = (
            '{"answer": "yes"}'
            if "right" in text
            else '{"title": "Mug %s"}' % ("red" if body["temperature"] else "blue")
        )
        sure = {"logprobs": {"content": [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.3}]}}
        return reply(told, choice=sure if body.get("logprobs") else {})

    card = model_card("standin-qwen-s")
    able = {"fields": {"logprobs": "honoured"}, "samples": "seeds"}
    for profile, expected in (({}, {"yes"}), (able, {"logprob", "least_logprob", "agreement", "yes"})):
        with scripted(script) as server:
            told = ServerProfile("m", served="m", pictures="seen", **profile)
            engine = sure_backend(card, server=server.url, profile=told)
            where = {"root": str(tmp_path), "out": str(tmp_path / f"run {len(profile)}"), "titles": items}
            rows = ask_suggestions(items, card, backend=engine, samples=2, progress=False, **where)
            asked = len(server.seen)
            again = ask_suggestions(items, card, backend=engine, samples=2, progress=False, **where)
            assert len(server.seen) == asked == (3 + 2 * 3 + 3 if profile else 6) and again.equals(rows)
        assert {name for name in SIGNALS if rows[name].notna().any()} == expected
        if profile:
            assert rows["agreement"].tolist() == [0.5] * 3 and rows["logprob"].tolist() == pytest.approx(
                [-0.2] * 3
            )
            assert rows["yes"].tolist() == pytest.approx(
                [math.log(math.exp(-0.3) / (1 - math.exp(-0.3)))] * 3
            )
        else:
            assert rows["yes"].tolist() == [1.0] * 3
    assert offered_signals(engine, ("lift_rank", "yes")) == ("yes",)
    assert sure_backend(card, ("yes",)).logprobs is False and sure_backend(card).logprobs is True
