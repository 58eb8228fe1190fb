"""Servers behind the OpenAI protocol: what is sent, what comes back, and where patience ends."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Request
from mmpc_analysis.completion.servers import ServerBackend

TITLE, PROMPT = prompt_for("image_to_text", short=True), prompt_for("text_to_image", short=True)


# ---------------------------------------------------------------- servers


class Script(BaseHTTPRequestHandler):
    "Answers with a scripted list of (status, headers, body); the last one stays."

    replies, seen = [], []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Script.seen.append((self.path, dict(self.headers), json.loads(body)))
        code, headers, body = Script.replies.pop(0) if len(Script.replies) > 1 else Script.replies[0]
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture()
def server(monkeypatch):
    monkeypatch.setenv("MMPC_API_KEY", "secret-key-123")
    Script.replies, Script.seen = [], []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1"
    httpd.shutdown()
    httpd.server_close()


def reply(text="Mug", reason="stop", **usage):
    choice = {"message": {"content": text}, "finish_reason": reason}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()


QUESTION = Request("k", conversation(PROMPT, title="Red Mug"), None, 17)


def test_server_gets_the_question_and_the_key(server):
    Script.replies = [reply(prompt_tokens=9, completion_tokens=2)]
    picture = Image.new("RGB", (8, 8), "red")
    answer = ServerBackend(server, "m").ask([Request("k", conversation(TITLE, image=True), picture, 17)])[0]
    path, headers, body = Script.seen[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret-key-123"
    assert body["temperature"] == 0 and body["max_tokens"] == 17 and body["model"] == "m"
    image, text = body["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,") and text["text"] == TITLE.text
    assert (answer.text, answer.finish_reason, answer.input_tokens, answer.output_tokens) == (
        "Mug",
        "stop",
        9,
        2,
    )


@pytest.mark.parametrize(
    "reason,expected", [("length", "length"), ("content_filter", "filter"), ("eos", "stop"), (None, "stop")]
)
def test_server_reasons(server, reason, expected):
    Script.replies = [reply(reason=reason)]
    assert ServerBackend(server, "m").ask([QUESTION])[0].finish_reason == expected


@pytest.mark.parametrize("bad", [(503, {}, b""), (429, {"Retry-After": "0"}, b""), (500, {}, b"x"), (200, {}, b"not json"),
                                 (200, {}, b"{}"), (200, {}, b'{"choices": []}'), (200, {}, b'{"choices": [{"message": null}]}')])  # fmt: skip
def test_server_trouble_passes(server, bad):
    Script.replies = [bad, bad, reply()]
    assert ServerBackend(server, "m", pause=0.001).ask([QUESTION])[0].text == "Mug"
    assert len(Script.seen) == 3


def test_server_patience_ends_in_an_error_answer(server):
    Script.replies = [(503, {}, b"")]
    answer = ServerBackend(server, "m", pause=0.001, tries=3).ask([QUESTION])[0]
    assert answer.finish_reason == "error" and "HTTP 503" in answer.text and len(Script.seen) == 3


def test_a_bad_request_fails_alone_and_at_once(server):
    Script.replies = [(400, {}, b"too long"), reply()]
    answers = ServerBackend(server, "m", batch_size=1, pause=0.001).ask([QUESTION, QUESTION])
    assert [a.finish_reason for a in answers] == ["error", "stop"] and len(Script.seen) == 2


@pytest.mark.parametrize("code", [401, 403, 404, 302, 307, 308])
def test_a_wrong_key_or_address_ends_the_run_without_showing_the_key(server, code):
    Script.replies = [(code, {"Location": server + "/elsewhere"}, b"secret-key-123")]
    with pytest.raises(BackendError) as error:
        ServerBackend(server, "m").ask([QUESTION])
    assert "secret" not in str(error.value) and "MMPC_API_KEY" in str(error.value)
    assert error.value.__cause__ is None and len(Script.seen) == 1


def test_a_server_that_is_not_there():
    answer = ServerBackend("http://127.0.0.1:9/v1", "m", pause=0.001, tries=2, timeout=2).ask([QUESTION])[0]
    assert answer.finish_reason == "error" and "127.0.0.1:9" in answer.text


def test_a_server_that_never_answers():
    import socket
    import time

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        answer = ServerBackend(url, "m", timeout=0.2, tries=2, pause=0.001).ask([QUESTION])[0]
    assert answer.finish_reason == "error" and time.monotonic() - began < 10


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host/v1", "https://user:pass@host/v1", "https://host/v1?key=pass", ""]
)
def test_addresses_that_are_refused(url):
    with pytest.raises(ValueError, match="url must be") as error:
        ServerBackend(url, "m")
    assert "user:pass" not in str(error.value)


def test_identity_has_no_key(server):
    backend = ServerBackend(server, "m", revision="abc")
    assert "secret" not in backend.identity + repr(backend) and "abc" in backend.identity
