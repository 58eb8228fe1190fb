"""What the probe finds, with scripted servers that obey, ignore and refuse, and with the real `transformers serve`."""

import importlib
import importlib.util
import json
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest
from conftest import ROOT
from scripted_server import Scripted, reply, scripted

pytest.importorskip("openai")

from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.server_line import ServerLine
from mmpc_analysis.completion.server_probe import probe_server
from mmpc_analysis.completion.server_requests import OPTIONAL, ServerProfile, profile_text, read_profile
from mmpc_analysis.completion.servers import ServerBackend

SERVE = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]


class Engine:
    """A server with habits of its own: what it refuses, ignores, enforces and sees."""

    def __init__(
        self, refuses=(), ignores=(), sees="tokens", draws=True, enforces=True, usage=True, json_alone=False
    ):
        self.refuses, self.ignores, self.sees = set(refuses), set(ignores), sees
        self.draws, self.enforces, self.usage, self.json_alone = draws, enforces, usage, json_alone

    def __call__(self, text, times, body):
        for name in self.refuses & set(body):
            return 422, {}, {"detail": f"Unexpected fields in the request: {{'{name}'}}"}
        given = {name: value for name, value in body.items() if name not in self.ignores}
        parts = body["messages"][-1]["content"]
        shown = [p["image_url"]["url"] for p in parts if p["type"] == "image_url"]
        if shown and self.sees == "refuses":
            return 400, {}, {"error": {"message": "this model reads no pictures"}}
        schema = given.get("response_format", {}).get("json_schema", {}).get("schema")
        said = "some words of mine" + (f" {len(shown[0])}" if shown and self.sees == "answers" else "")
        said = '{"title": "Blue Cup"}' if self.json_alone and "JSON" in text else said
        if schema and self.enforces:
            allowed = schema["properties"]["title"].get("enum", ["anything"])
            said = json.dumps({"title": allowed[0]})
        hot = self.draws and given.get("temperature", 0) > 1
        seed = given.get("seed", 0) if "seed" not in self.ignores else times
        said = f"{said} {seed}" if hot else said
        limit = given.get("max_completion_tokens", given.get("max_tokens", 1000))
        status, headers, told = reply(said, "length" if limit < 20 else "stop")
        told["choices"][0]["message"]["content"] = said
        if given.get("logprobs"):
            told["choices"][0]["logprobs"] = {"content": [{"logprob": -0.5}]}
        if given.get("n", 1) > 1:
            first = told["choices"][0]
            told["choices"] = [
                first | {"message": {"content": f"{said} {i}" * (hot or 1)}} for i in range(given["n"])
            ]
        pictures = (
            len(shown[0])
            if shown and self.sees == "tokens"
            else 256 * bool(shown)
            if self.sees == "fixed"
            else 0
        )
        told["usage"] = (
            {"prompt_tokens": 20 + pictures, "completion_tokens": min(limit, 9)} if self.usage else None
        )
        return status, headers, told


def probed(engine, model="", patience=1):
    with scripted(engine) as server:
        line = ServerLine(server.url, pause=0.01, timeout=5, patience=patience)
        return probe_server(line, model), server


def test_a_server_that_does_all_it_is_told():
    profile, _ = probed(Engine())
    assert (profile.model, profile.served, profile.models) == ("m", "m", ("m",))
    assert profile.limit == "max_completion_tokens" and profile.fields["logprobs"] == "honoured"
    assert (profile.pictures, profile.schema, profile.samples, profile.usage) == (
        "seen",
        "enforced",
        "n",
        True,
    )
    assert (
        set(profile.fields) >= {"temperature", "top_k", "repetition_penalty", "seed", "n"}
        and not profile.words
    )
    assert asdict(profile.offers) == {"logprobs": True, "samples": True, "scoring": False, "schema": True}


@pytest.mark.parametrize(
    "name",
    [
        "top_k",
        "repetition_penalty",
        "seed",
        "logprobs",
        "n",
        "response_format",
        "temperature",
        "max_completion_tokens",
    ],
)
def test_a_refused_field_is_known_with_the_servers_words_and_never_sent(name):
    profile, _ = probed(Engine(refuses=[name]))
    refused = profile.schema if name == "response_format" else profile.fields[name]
    assert refused == "refused" and (name in ("n",) or "Unexpected fields" in profile.words[name])
    with scripted(Engine(refuses=[name])) as server:
        from test_servers import some

        engine = ServerBackend(server.url, profile=profile, pause=0.01)
        assert {a.finish_reason for a in engine.ask([replace(r, answer_key="title") for r in some(3)])} <= {
            "stop",
            "length",
        }
    assert not any(name in body for _, body in server.seen) and not engine.dropped


@pytest.mark.parametrize(
    "name,found",
    [
        ("response_format", ("schema", "ignored")),
        ("max_completion_tokens", ("limit", "max_tokens")),
        ("n", ("samples", "seeds")),
    ],
)
def test_an_ignored_field_is_found_out(name, found):
    profile, _ = probed(Engine(ignores=[name]))
    assert getattr(profile, found[0]) == found[1]


def test_json_by_luck_is_no_enforced_schema():
    profile, _ = probed(Engine(enforces=False, json_alone=True))
    assert profile.schema == "ignored" and not profile.offers.schema


def test_logprobs_that_never_come_are_not_offered():
    profile, _ = probed(Engine(ignores=["logprobs"]))
    assert profile.fields["logprobs"] == "ignored" and not profile.offers.logprobs


def test_answers_that_never_differ_are_not_drawn():
    profile, _ = probed(Engine(draws=False, ignores=["n"]))
    assert profile.samples == "" and not profile.offers.samples


@pytest.mark.parametrize(
    "sees,usage,found",
    [("tokens", True, "seen"), ("answers", True, "dropped"), ("answers", False, "seen"), ("fixed", True, "seen"),
     ("nothing", True, "dropped"), ("nothing", False, "dropped"), ("refuses", True, "refused")],
)  # fmt: skip
def test_the_picture_canary(sees, usage, found):
    profile, _ = probed(Engine(sees=sees, usage=usage))
    assert profile.pictures == found and profile.usage == usage and "in two ways" not in str(profile.words)
    assert ServerBackend("http://h/v1", profile=profile).sees_images == (found == "seen")


def test_the_older_and_the_newer_limit():
    newer, _ = probed(Engine(refuses=["max_tokens"]))
    older, _ = probed(Engine(refuses=["max_completion_tokens"]))
    assert (newer.limit, older.limit) == ("max_completion_tokens", "max_tokens")


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_a_wrong_key_model_or_address_is_found_before_the_first_question(code, monkeypatch):
    monkeypatch.setenv("MMPC_API_KEY", "secret-key-1")
    told = {"error": {"message": "unknown model 'x' for secret-key-1"}}
    with scripted(lambda *_: (code, {}, told)) as server:
        engine = ServerBackend(server.url, "x", pause=0.01, patience=1)
        with pytest.raises(BackendError, match=rf"HTTP {code}: unknown model 'x'.*MMPC_API_KEY") as error:
            _ = engine.identity
    assert "secret" not in str(error.value)


def test_a_server_of_many_models_wants_a_name():
    class Many(Scripted):
        pass

    with scripted(Engine()) as server:
        handler = server.server.RequestHandlerClass
        handler.do_GET = lambda self: self.tell(200, {}, {"data": [{"id": "a"}, {"id": "b"}]})
        with pytest.raises(
            BackendError, match=r'must be named, and it lists a, b.*served = "\.\.\.".*--model HUB_ID'
        ):
            probe_server(server.url)
        assert probe_server(server.url, "b").model == "b"


def test_a_server_is_probed_once():
    with scripted(Engine()) as server:
        engine = ServerBackend(server.url, pause=0.01)
        first, before = engine.identity, len(server.seen)
        assert engine.identity == first and engine.offers.schema and len(server.seen) == before < 30


def test_a_profile_survives_the_disk_and_has_no_address(tmp_path, monkeypatch):
    monkeypatch.setenv("MMPC_API_KEY", "secret-key-1")
    profile, server = probed(Engine(refuses=["top_k"]))
    text = profile_text(profile)
    assert read_profile(text) == profile and "127.0.0.1" not in text and "secret" not in text
    assert str(server.port) not in text


def test_fields_that_may_be_left_out_are_those_that_are_tried():
    profile, _ = probed(Engine())
    assert set(OPTIONAL) - {"response_format"} == set(profile.fields)


def real_server():
    missing = " and ".join(SERVE)
    if missing:
        pytest.skip(f"transformers serve needs {missing}")
    sys.path.insert(0, str(ROOT / "tools" / "experiments"))
    return importlib.import_module("real_server")


def test_the_real_transformers_serve_answers_as_in_process():
    found = real_server().compare("standin-gemma-s", 3)
    profile, shown = found["profile"], found["against in process"]["png, fitted before"]
    known = profile["pictures"], profile["schema"], profile["fields"]["top_k"]
    assert known == ("seen", "ignored", "refused")
    for task in ("title", "prompt"):
        counts = [n for name, n in shown[task].items() if name != "questions"]
        assert counts == [3] * 4


def test_a_real_server_that_drops_pictures_is_found_out():
    with pytest.raises(BackendError, match="must see pictures, and they are dropped"):
        real_server().compare("standin-gemma-s", 1, blind=True)


STORED = ROOT / "tests" / "data" / "completion" / "real_server.json"


def test_the_stored_results_of_the_real_server():
    stored = json.loads(STORED.read_text())
    assert (
        set(stored["models"]) == {"standin-gemma-s", "standin-qwen-s"} and stored["versions"]["transformers"]
    )
    for found in stored["models"].values():
        assert found["profile"]["pictures"] == "seen" and found["profile"]["schema"] == "ignored"
        for task in ("title", "prompt"):
            counts = found["against in process"]["png, fitted before"][task]
            assert set(counts.values()) == {stored["items"]}
    assert stored["blind servers"] == {model: {"pictures": "dropped"} for model in stored["models"]}


def busy(name, times=10**9, told=(503, {}, {"error": "overloaded"})):
    """A server that is too busy for the first questions with one field."""
    engine, seen = Engine(), []

    def script(text, n, body):
        if name in body:
            seen.append(body)
            if len(seen) <= times:
                return told
        return engine(text, n, body)

    return script


PASSING = [(503, {}, {"error": "overloaded"}), (429, {}, b"slow down"), (500, {}, b"oops"), "reset", "cut"]


@pytest.mark.parametrize(
    "name,told",
    [("top_k", told) for told in PASSING]
    + [(name, PASSING[0]) for name in ("response_format", "n", "max_completion_tokens", "seed")],
)
def test_what_passes_is_no_refusal(name, told):
    calm, _ = probed(Engine(), patience=20)
    profile, _ = probed(busy(name, 2, told), patience=20)
    assert profile == calm and not profile.words


@pytest.mark.parametrize("told", [*PASSING, "hang"])
def test_what_never_passes_ends_the_probe(told):
    began = time.monotonic()
    with pytest.raises(BackendError, match="no item was asked yet") as error:
        probed(busy("top_k", told=told))
    assert "top_k" in str(error.value) and "stored" not in str(error.value) and time.monotonic() - began < 8


def test_a_wait_that_the_server_asks_for_is_kept():
    told = 429, {"Retry-After": "1"}, b""
    assert probed(busy("top_k", 2, told), patience=2)[0].fields["top_k"] == "accepted"


@pytest.mark.parametrize("code", [401, 402, 403])
def test_a_key_that_ends_during_the_probe_is_no_refused_field(code):
    with pytest.raises(BackendError, match=f"HTTP {code}: no credit"):
        probed(busy("top_k", told=(code, {}, {"error": "no credit"})))


def test_a_500_that_says_never_is_a_refusal():
    never = 500, {}, {"error": {"message": "image input is not supported - hint: provide the mmproj"}}

    def script(text, n, body):
        shown = any(part["type"] == "image_url" for part in body["messages"][-1]["content"])
        return never if shown else Engine()(text, n, body)

    assert probed(script)[0].pictures == "refused"


@pytest.mark.parametrize("model", ["", "m"])
def test_a_server_that_hangs_ends_within_the_patience_of_the_probe(model, monkeypatch):
    monkeypatch.setattr("mmpc_analysis.completion.server_probe.PROBE_PATIENCE", 2.0)
    with scripted(lambda *_: "hang") as server:
        server.server.RequestHandlerClass.do_GET = lambda self: self.act("hang")
        began = time.monotonic()
        with pytest.raises(BackendError, match="check the address") as error:
            probe_server(ServerLine(server.url, timeout=120), model)
        assert time.monotonic() - began < 4 and "stored" not in str(error.value)
    assert not [t for t in threading.enumerate() if t.name == "server-probe"]


def test_fields_that_are_refused_together_are_dropped():
    def script(text, n, body):
        if {"temperature", "repetition_penalty"} <= set(body):
            return 400, {}, {"detail": "unsupported parameter: 'repetition_penalty' with temperature"}
        return Engine()(text, n, body)

    assert "repetition_penalty" in probed(script)[0].dropped


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("sees,usages", [("nothing", None), ("tokens", "seen")])
def test_answers_that_change_by_themselves_show_no_picture(sees, usages, usage):
    count = iter(range(1000))

    def script(text, n, body):
        told = Engine(sees=sees, usage=usage)(text, n, body)
        told[2]["choices"][0]["message"]["content"] += f" {next(count)}"
        return told

    profile = probed(script)[0]
    assert profile.pictures == ("seen" if usages and usage else "dropped")
    assert ("in two ways" in profile.words.get("pictures", "")) == (not usage)


@pytest.mark.parametrize("name", ["temperature", "seed"])
@pytest.mark.parametrize("several", [True, False])
def test_a_refused_field_is_asked_about_once(name, several):
    engine = Engine(refuses=[name], ignores=[] if several else ["n"])
    profile, server = probed(engine)
    assert sum(name in body for _, body in server.seen) == 1
    assert profile.schema == "enforced" and name not in profile.dropped


def test_a_dead_server_is_no_server_without_a_name():
    with scripted(Engine()) as server:
        url = server.url
    with pytest.raises(
        BackendError,
        match=f"{url[:-3]} answered no reply.*check the address and the key in the variable MMPC_API_KEY",
    ):
        probe_server(ServerLine(url, patience=1))


@pytest.mark.parametrize(
    "code,match",
    [
        (401, "check the address and the key"),
        (403, "check the address"),
        (404, "must be named, and its list could not be read"),
        (503, "HTTP 503"),
    ],
)
def test_a_list_that_is_refused(code, match):
    with scripted(Engine()) as server:
        server.server.RequestHandlerClass.do_GET = lambda self: self.tell(code, {}, {"error": "no"})
        with pytest.raises(BackendError, match=match):
            probe_server(ServerLine(server.url, patience=1))
        assert probe_server(server.url, "m").models == ()


PROFILES = [
    ServerProfile("m"),
    ServerProfile("m/ä", "served", ("a", "b"), "max_completion_tokens", {"top_k": "refused", "n": "honoured"}, "seen",
                  "enforced", "n", False, {"top_k": 'no "top_k" \\ \n ünïcode'}, ("seed",)),
]  # fmt: skip


@pytest.mark.parametrize("profile", [*PROFILES, None])
def test_a_profile_that_is_given_back_asks_nothing(profile):
    with scripted(Engine(refuses=["top_k"])) as server:
        probing = load_backend("gemma-3-4b", server=server.url, served="m")
        profile = profile or probing.probed
        text, before = profile_text(profile), len(server.seen)
        engine = load_backend("gemma-3-4b", server=server.url, served="m", profile=read_profile(text))
        assert engine.profile == profile and profile_text(engine.profile) == text == profile_text(
            engine.probed
        )
        told = engine.identity, engine.offers, engine.sees_images
        assert len(server.seen) == before and "m" in told[0]
        if profile is probing.__dict__.get("probed"):
            assert told == (probing.identity, probing.offers, probing.sees_images)
