"""Backends of one's own: what `check_backend` finds, what a registered name reaches, and the how-to as it stands."""

import ast
import itertools
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis import Answer, canary_requests, check_backend, load_backend, register_backend
from mmpc_analysis.completion.backend_contract import BackendContractError
from mmpc_analysis.completion.backends import ReplayBackend
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.models import list_models, model_card, weights_id
from mmpc_analysis.completion.protocol import Offers, ScoredAnswer

PROMISES = [
    "batch_size", "one answer each", "known words", "answers", "tokens", "same again", "any order", "any batch",
    "limit", "errors stay alone", "pictures are read", "titles are read", "identity", "precision",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    "What a test registers is gone after it."
    from mmpc_analysis.completion import models

    monkeypatch.setattr(models, "_REGISTERED", dict(models._REGISTERED))


class Honest:
    "Keeps every promise: says what it sees, word by word."

    identity, precision, batch_size = "honest 1", "float32", 4

    def ask(self, requests):
        return [self.one(request, batch=len(requests), place=i) for i, request in enumerate(requests)]

    def one(self, request, **around):
        question = request.conversation[-1]["content"][-1]["text"]
        seen = "nothing" if request.image is None else str(request.image.resize((1, 1)).getpixel((0, 0)))
        words = [*seen.split(), *question.split()[-3:], "end"]
        cut = words[: request.max_new_tokens]
        why = "stop" if cut == words else "length"
        return Answer(request.key, " ".join(cut), why, len(question.split()), len(cut), 0.01)


def test_an_honest_backend_keeps_every_promise():
    found = check_backend(Honest())
    assert list(found["promise"]) == PROMISES and list(found.columns) == ["promise", "expected", "got"]


def test_a_stand_in_keeps_every_promise():
    found = check_backend(load_backend("standin-qwen-s"), canary_requests(short=True))
    offered = ["offers samples", "offers scoring"]
    assert list(found["promise"]) == [*PROMISES[:8], "halves", *PROMISES[8:12], *offered, *PROMISES[12:]]


def test_a_stand_in_that_tells_log_probabilities_keeps_that_too():
    found = check_backend(load_backend("standin-gemma-s", logprobs=True), canary_requests(short=True, n=2))
    assert {"offers logprobs", "offers samples", "offers scoring"} <= set(found["promise"])


def test_a_replay_keeps_every_promise_about_what_it_has():
    requests = canary_requests(n=2)
    rows = [(a.key, a.text, a.finish_reason, a.input_tokens, a.output_tokens, a.seconds) for a in Honest().ask(requests)]  # fmt: skip
    names = ["key", "raw_text", "finish_reason", "input_tokens", "output_tokens", "seconds"]
    replay = ReplayBackend(pd.DataFrame(rows, columns=names), identity="honest 1")
    assert list(check_backend(replay, requests)["promise"]) == PROMISES
    with pytest.raises(BackendContractError, match="5 errors of 5, the first: no stored answer has this key"):
        check_backend(replay, [replace(request, key=request.key + "!") for request in requests])


class TextOnly(Honest):
    sees_images = False

    def one(self, request, **around):
        assert request.image is None or request.image.size == (2400, 6)
        return super().one(request)


def test_a_backend_that_claims_no_pictures_is_asked_about_none():
    assert "pictures are read" not in set(check_backend(TextOnly())["promise"])


def test_order_is_free_and_unknown_counts_are_said():
    class Turned(Honest):
        def ask(self, requests):
            return [replace(a, input_tokens=float("nan")) for a in super().ask(requests)[::-1]]

    found = check_backend(Turned()).set_index("promise")
    assert found.loc["tokens", "got"] == "9 answers that nobody counted"


# ---------------------------------------------------------------- broken ones, each in one way


class Loses(Honest):
    def ask(self, requests):
        return super().ask(requests)[1:]


class Renames(Honest):
    def one(self, request, **around):
        return replace(super().one(request), key=request.key.upper())


class Strings(Honest):
    def ask(self, requests):
        return [answer.text for answer in super().ask(requests)]


class Raises(Honest):
    def ask(self, requests):
        raise RuntimeError("no engine")


class OtherWords(Honest):
    def one(self, request, **around):
        return replace(super().one(request), finish_reason="eos")


class Draws(Honest):
    counter = itertools.count()

    def one(self, request, **around):
        return replace(super().one(request), text=f"draw {next(self.counter)} of {request.key}")


class SeesTheBatch(Honest):
    def one(self, request, batch, place):
        answer = super().one(request)
        return replace(answer, text=answer.text + " .") if batch > 1 and place == 0 else answer


class CountsPadding(Honest):
    def ask(self, requests):
        answers = super().ask(requests)
        return [replace(a, input_tokens=max(b.input_tokens for b in answers)) for a in answers]


class CountsWrongly(Honest):
    def one(self, request, **around):
        return replace(super().one(request), output_tokens=request.max_new_tokens + 1)


class NeverCuts(Honest):
    def one(self, request, **around):
        return super().one(replace(request, max_new_tokens=64))


class CutsInSilence(Honest):
    def one(self, request, **around):
        return replace(super().one(request), finish_reason="stop")


class OneSpoilsAll(Honest):
    def ask(self, requests):
        try:
            return super().ask(requests)
        except KeyError as error:
            return [Answer(request.key, str(error), "error") for request in requests]


class GivesUp(Honest):
    def one(self, request, **around):
        if request.image is not None and request.image.width > 1000:
            raise BackendError("a picture is too long")
        return super().one(request)


class BreaksForGood(Honest):
    broken = False

    def one(self, request, **around):
        self.broken |= request.image is not None and request.image.width > 1000
        if self.broken:
            raise ValueError("out of order")
        return super().one(request)


class Blind(Honest):
    def one(self, request, **around):
        return super().one(replace(request, image=None))


class Deaf(Honest):
    def one(self, request, **around):
        turn = [{"role": "user", "content": [{"type": "text", "text": request.conversation[-1]["content"][-1]["text"][:40]}]}]  # fmt: skip
        return super().one(replace(request, conversation=turn))


class Addressed(Honest):
    identity = property(lambda self: f"engine {object.__repr__(self)}")


class Moody(Honest):
    counter = itertools.count()
    identity = property(lambda self: f"engine {next(self.counter)}")


class Silent(Honest):
    precision = None


class Endless(Honest):
    batch_size = 0


class OtherHalves(Honest):
    def prepare(self, requests):
        return requests

    def answer(self, prepared):
        return [replace(answer, text="half") for answer in self.ask(prepared)]


BROKEN = {
    Loses: ("one answer each", "8 answers, and the first key that is missing"),
    Renames: ("one answer each", "missing, twice or foreign is 'BLIND'"),
    Strings: ("one answer each", "a list of 9 Answer objects"),
    Raises: ("one answer each", "RuntimeError: no engine"),
    OtherWords: ("known words", "finish_reason 'eos'"),
    Draws: ("same again", "decode greedily"),
    SeesTheBatch: ("any batch", "9 changed; for"),
    CountsPadding: ("any batch", "let no answer depend on its batch"),
    CountsWrongly: ("tokens", "stop at max_new_tokens"),
    NeverCuts: ("limit", "with finish_reason 'stop'"),
    CutsInSilence: ("limit", "with finish_reason 'stop'"),
    OneSpoilsAll: ("errors stay alone", "catch the error of one request"),
    GivesUp: ("errors stay alone", "BackendError: a picture is too long"),
    BreaksForGood: ("errors stay alone", "lost"),
    Blind: ("pictures are read", "pass request.image to the model"),
    Deaf: ("titles are read", "pass the conversation's text to the model"),
    Addressed: ("identity", "the same at any time and in any process"),
    Moody: ("identity", "'engine 0', then 'engine 1'"),
    Silent: ("precision", "got None"),
    Endless: ("batch_size", "got 0"),
    OtherHalves: ("halves", "by prepare and answer"),
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_promise_is_named_with_what_came_and_what_to_do(kind):
    promise, got = BROKEN[kind]
    with pytest.raises(BackendContractError) as error:
        check_backend(kind())
    head, *lines = str(error.value).split("\n  ")
    assert re.fullmatch(rf"{kind.__name__} breaks \d+ of \d+ promises", head)
    assert all(re.match(r"[\w ]+: expected .+, got .+; .+", line) for line in lines)
    named = {line.split(":")[0]: line for line in lines}
    assert promise in named and got in named[promise]
    assert kind in (Draws, SeesTheBatch, CountsPadding) or list(named) == [promise]


# ---------------------------------------------------------------- what is offered beyond


class Able(Honest):
    "Offers everything and keeps it: each word has a log-probability by its length."

    offers = Offers(logprobs=True, samples=True, scoring=True, schema=True)

    def sure(self, words, seen=False):
        return [-0.1 * len(word) - 0.01 * seen for word in words] or [-0.1]

    def one(self, request, **around):
        answer = super().one(request)
        if request.answer_key:
            answer = replace(answer, text=json.dumps({request.answer_key: answer.text}))
        rows = self.sure(answer.text.split(), request.image is not None)
        return replace(answer, logprob=sum(rows) / len(rows), least_logprob=min(rows))

    def sample(self, requests, sampling):
        return [[self.drawn(r, n, place=i) for n in range(sampling.n)] for i, r in enumerate(requests)]

    def drawn(self, request, n, place):
        answer = self.one(request)
        return replace(answer, text=f"{answer.text} {n}")

    def score(self, request, candidates, image=True):
        return [self.scored(request, text, image) for text in candidates]

    def scored(self, request, text, image):
        rows = self.sure(text.split(), image and request.image is not None)
        return ScoredAnswer(text, sum(rows), min(rows), len(rows))


def test_an_able_backend_keeps_what_it_offers():
    found = check_backend(Able())
    offered = [f"offers {what}" for what in ("logprobs", "samples", "scoring", "schema")]
    assert list(found["promise"]) == [*PROMISES[:12], *offered, *PROMISES[12:]]


@pytest.mark.parametrize("offers", [None, Offers()])
def test_whoever_offers_nothing_is_asked_for_nothing(offers):
    kind = type("Modest", (Able,), {"offers": offers, "sample": None, "score": None})
    assert list(check_backend(kind())["promise"]) == PROMISES


class TextOnlyAble(Able):
    sees_images = False


def test_scores_without_pictures_need_not_differ_by_them():
    assert "offers scoring" in set(check_backend(TextOnlyAble())["promise"])


class OffersAText(Honest):
    offers = "logprobs"


class OffersWithoutScore(Honest):
    offers = Offers(scoring=True)


class OffersWithoutSample(Honest):
    offers = Offers(samples=True)


class TellsNothing(Able):
    def one(self, request, **around):
        return replace(super().one(request), logprob=math.nan, least_logprob=math.nan)


class TellsProbabilities(Able):
    def one(self, request, **around):
        answer = super().one(request)
        return replace(answer, logprob=math.exp(answer.logprob), least_logprob=math.exp(answer.least_logprob))


class TellsTheSum(Able):
    def one(self, request, **around):
        answer = super().one(request)
        return replace(answer, logprob=answer.logprob * answer.output_tokens)


class TellsNoLeast(Able):
    def one(self, request, **around):
        return replace(super().one(request), least_logprob=0.0)


class DrawsOne(Able):
    def sample(self, requests, sampling):
        return [answers[:1] for answers in super().sample(requests, sampling)]


class DrawsByPlace(Able):
    def drawn(self, request, n, place):
        return replace(super().drawn(request, n, place), text=f"{n} at {place}")


class DrawsAFlatList(Able):
    def sample(self, requests, sampling):
        return list(itertools.chain(*super().sample(requests, sampling)))


class DrawsForOthers(Able):
    def drawn(self, request, n, place):
        return replace(super().drawn(request, n, place), key="k")


class DrawsWithProbabilities(Able):
    def drawn(self, request, n, place):
        return replace(super().drawn(request, n, place), logprob=0.5)


class ScoresAbove(Able):
    def scored(self, request, text, image):
        score = super().scored(request, text, image)
        return replace(score, logprob=-score.logprob)


class ScoresByMean(Able):
    def scored(self, request, text, image):
        score = super().scored(request, text, image)
        return replace(score, logprob=score.logprob / score.tokens)


class ScoresNumbers(Able):
    def scored(self, request, text, image):
        return super().scored(request, text, image).logprob


class ScoresTheFirst(Able):
    def score(self, request, candidates, image=True):
        return super().score(request, candidates[:1], image)


class ScoresTurned(Able):
    def score(self, request, candidates, image=True):
        return super().score(request, candidates[::-1], image)


class ScoresBlindly(Able):
    def scored(self, request, text, image):
        return super().scored(request, text, False)


class ScoresOtherwise(Able):
    def scored(self, request, text, image):
        score = super().scored(request, text, image)
        return replace(score, logprob=2 * score.logprob)


class FreeForm(Able):
    def one(self, request, **around):
        return super().one(replace(request, answer_key=""))


class OtherForm(Able):
    def one(self, request, **around):
        return super().one(replace(request, answer_key="title" * bool(request.answer_key)))


BROKEN_OFFERS = {
    OffersAText: ("offers", "got 'logprobs'; name what it can do"),
    OffersWithoutScore: ("offers scoring", "'OffersWithoutScore' object has no attribute 'score'"),
    OffersWithoutSample: ("offers samples", "'OffersWithoutSample' object has no attribute 'sample'"),
    TellsNothing: ("offers logprobs", "9 of 9 otherwise; for 'blind' nan and nan"),
    TellsProbabilities: ("offers logprobs", "fill both from the natural logarithms"),
    TellsTheSum: ("offers logprobs", "9 of 9 otherwise"),
    TellsNoLeast: ("offers logprobs", "9 of 9 otherwise"),
    DrawsOne: ("offers samples", "with n answers to each"),
    DrawsByPlace: ("offers samples", "others in another order"),
    DrawsAFlatList: ("offers samples", "is not iterable"),
    DrawsForOthers: ("offers samples", "('k', "),
    DrawsWithProbabilities: ("offers samples", "a log-probability above 0"),
    ScoresAbove: ("offers scoring", "logprob at most least_logprob at most 0"),
    ScoresByMean: ("offers scoring", "sum the natural logarithms"),
    ScoresNumbers: ("offers scoring", "expected score(request, candidates, image)"),
    ScoresTheFirst: ("offers scoring", "[ScoredAnswer(text="),
    ScoresTurned: ("offers scoring", "[ScoredAnswer(text="),
    ScoresBlindly: ("offers scoring", "the same with and without the picture"),
    ScoresOtherwise: ("offers scoring", "for an answer that was written at"),
    FreeForm: ("offers schema", "enforce it, or set schema to False"),
    OtherForm: ("offers schema", """{"title": """),
}


@pytest.mark.parametrize("kind", BROKEN_OFFERS, ids=lambda kind: kind.__name__)
def test_a_broken_offer_is_named_with_what_came_and_what_to_do(kind):
    promise, got = BROKEN_OFFERS[kind]
    with pytest.raises(BackendContractError) as error:
        check_backend(kind())
    named = {line.split(":")[0]: line for line in str(error.value).split("\n  ")[1:]}
    assert promise in named and got in named[promise]
    wrong_numbers = {"offers samples", "offers scoring"} if kind.__name__.startswith("Tells") else set()
    assert set(named) <= {promise, *wrong_numbers}  # What is told wrongly shows wherever it is told


# ---------------------------------------------------------------- by name


def test_a_registered_name_is_found_everywhere():
    card = register_backend("honest", Honest, family="rules", parameters=1000, licence="none")
    assert model_card("honest") == card and (card.family, card.role, card.parameters) == (
        "rules",
        "mllm",
        1000,
    )
    assert isinstance(load_backend("honest"), Honest) and weights_id(card) == "honest 1"
    row = list_models().set_index("name").loc["honest"]
    assert row["weights"] == "own" and row["found"] and pd.isna(row["memory_gb"])
    assert register_backend("honest", Honest).parameters is None  # A second call replaces the first


def test_names_and_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"got 'gemma-3-4b', which ships with the package; choose another"):
        register_backend("gemma-3-4b", Honest)
    register_backend("honest", Honest)
    with pytest.raises(
        ValueError, match="takes neither weights nor quantisation, precision or pixels; leave them out"
    ):
        load_backend("honest", quantisation="nf4")


PLUGIN = """
from mmpc_analysis import Answer, register_backend

class Echo:
    identity, precision, batch_size = "echo 1", "exact", 8

    def ask(self, requests):
        return [Answer(r.key, '{"title": "Mug %d"}' % sum(r.image.resize((1, 1)).getpixel((0, 0))) if r.image else "",
                       "stop", 3.0, 2.0, 0.0) for r in requests]

register_backend("echo", Echo)
"""


def test_a_study_on_the_command_line_takes_it(tmp_path):
    (tmp_path / "echoes.py").write_text(PLUGIN)
    (tmp_path / "study.toml").write_text(
        "[catalogue]\nlimit = 6\n[completion]\nmodels = ['echo']\ntasks = ['image_to_text']\n"
        "[scores]\nmetrics = ['chrf']\ndraws = 50\n"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    around = os.environ | {"MMPC_PLUGINS": "echoes", "PYTHONPATH": paths}
    mmpc = str(Path(sys.executable).with_name("mmpc"))

    def run(*words, **more):
        return subprocess.run([mmpc, *words], cwd=tmp_path, env=around | more, capture_output=True, text=True, timeout=300)  # fmt: skip

    shown = run("models")
    assert shown.returncode == 0 and re.search(r"echo +own +answers .* on this machine", shown.stdout), shown
    done = run("run", "study.toml", "--out", "here")
    assert done.returncode == 0, done.stderr
    rows = pd.concat(map(pd.read_parquet, (tmp_path / "here" / "completions").glob("*.parquet")))
    assert set(rows["model"]) == {"echo"} and (rows["outcome"] == "ok").sum() == 6
    assert rows["parameters"].isna().all()
    lost = run("models", MMPC_PLUGINS="no_such_module")
    assert "MMPC_PLUGINS must name modules that Python finds, got 'no_such_module'" in lost.stderr


# ---------------------------------------------------------------- the how-to


def how_to():
    "The code that a reader of the how-to types, cell by cell."
    cells = json.loads((ROOT / "nbs" / "tutorials" / "own_backend.ipynb").read_text("utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code" and not "".join(c["source"]).startswith("#| hide")]  # fmt: skip


def test_the_how_to_runs_as_it_stands(tmp_path):
    names = {"out": str(tmp_path)}
    *before, last = how_to()
    for code in before:
        exec(code, names)
    tree = ast.parse(last)
    final = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "how-to", "exec"), names)
    rows = eval(compile(final, "how-to", "eval"), names)
    assert list(rows["outcome"]) == ["ok"] * 6 and rows["text"].nunique() > 1


def test_the_how_to_takes_at_most_twenty_lines():
    rows = "\n".join(how_to()).split("\n")
    assert sum(bool(row.strip()) and not row.lstrip().startswith("#") for row in rows) <= 20
