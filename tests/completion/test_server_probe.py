"""What the probe finds, with scripted servers that obey, ignore and refuse, and with the real `transformers serve`."""

import importlib
import importlib.util
import json
import sys
from dataclasses import asdict, replace

import pytest
from conftest import ROOT
from scripted_server import Scripted, reply, scripted

pytest.importorskip("openai")

from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.server_line import ServerLine
from mmpc_analysis.completion.server_probe import probe_server
from mmpc_analysis.completion.server_requests import OPTIONAL, profile_text, read_profile
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


def probed(engine, model=""):
    with scripted(engine) as server:
        line = ServerLine(server.url, pause=0.01, timeout=5, patience=1)
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
    [("tokens", True, "seen"), ("answers", True, "seen"), ("answers", False, "seen"), ("fixed", True, "seen"),
     ("nothing", True, "dropped"), ("nothing", False, "dropped"), ("refuses", True, "refused")],
)  # fmt: skip
def test_the_picture_canary(sees, usage, found):
    profile, _ = probed(Engine(sees=sees, usage=usage))
    assert profile.pictures == found and profile.usage == usage
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
        with pytest.raises(BackendError, match="must be named, and it lists a, b"):
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
