"""A server whose every reply is written down beforehand, for tests of what a client makes of it."""

import json
import os
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def reply(text="Mug", reason="stop", **more):
    """A good reply; `usage`, `logprobs`, or anything else of the choice or the message."""
    message = {"content": text} | more.pop("message", {})
    usage = more.pop("usage", {"prompt_tokens": 9, "completion_tokens": 2})
    choice = {"message": message, "finish_reason": reason} | more.pop("choice", {})
    return 200, {}, {"model": "m", "choices": [choice], "usage": usage} | more


class Scripted:
    """Answers by a function of the body and of how often this very question was asked, and counts what is in flight.

    A reply is (status, headers, body); `hang` never answers, `cut` breaks off in the middle, `reset` drops the line.
    """

    def __init__(self, script):
        self.script, self.seen, self.headers = script, [], []
        self.flying = self.most = 0
        self.samples, self.lock, self.released = [], threading.Lock(), threading.Event()
        self.asked = {}
        self.server = None

    def question(self, body):
        parts = body["messages"][-1]["content"]
        return parts if isinstance(parts, str) else " ".join(p.get("text", "") for p in parts)

    def start(self, port=0):
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # Else headers and body lie 40 ms apart

            def do_GET(self):
                self.tell(200, {}, {"data": [{"id": "m"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = scripted.question(body)
                with scripted.lock:
                    scripted.seen.append((self.path, body))
                    scripted.headers.append(dict(self.headers))
                    scripted.asked[text] = scripted.asked.get(text, 0) + 1
                    times = scripted.asked[text]
                    scripted.flying += 1
                    scripted.most = max(scripted.most, scripted.flying)
                    scripted.samples.append((time.perf_counter(), scripted.flying))
                try:
                    told = scripted.script(text, times, body)
                    self.act(told)
                finally:
                    with scripted.lock:
                        scripted.flying -= 1
                        scripted.samples.append((time.perf_counter(), scripted.flying))

            def act(self, told):
                if told == "hang":
                    scripted.released.wait(60)
                elif told == "reset":
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    os.close(self.connection.detach())
                    self.close_connection = True
                elif told == "cut":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"choices": [{"mess')
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.tell(*told)

            def tell(self, code, headers, body):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (OSError, ValueError):
                    self.close_connection = True

            def log_message(self, *args):
                pass

        ThreadingHTTPServer.request_queue_size = 64
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def stop(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self):
        return self.server.server_port

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def average_in_flight(self, frm=0.1, to=0.9):
        """Time average of what was in flight in the middle of the run."""
        begin, end = self.samples[0][0], self.samples[-1][0]
        low, high = begin + frm * (end - begin), begin + to * (end - begin)
        total = 0.0
        for (t, n), (after, _) in zip(self.samples, self.samples[1:], strict=False):
            total += n * max(0.0, min(after, high) - max(t, low))
        return total / (high - low)


@contextmanager
def scripted(script):
    server = Scripted(script).start()
    try:
        yield server
    finally:
        server.stop()
