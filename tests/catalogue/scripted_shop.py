"""A server of scripted answers for tests of downloads, and a network in which names stand for what a test says.

Written on sockets of asyncio rather than on http.server, because most answers here are ones that no proper server gives.
"""

import asyncio
import contextlib
import io
import threading
from collections import Counter

import numpy as np

from mmpc_analysis.catalogue.addresses import Network

PUBLIC, PRIVATE = "93.184.215.14", "10.0.0.5"


def picture(number, kind="PNG", side=24):
    "A picture like no other number's."
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), dtype="uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def answer(body=b"", status=200, kind="image/png", length=None, **headers):
    "The bytes of an answer of HTTP; a length that is False is not sent."
    lines = [f"HTTP/1.1 {status} Told", f"Content-Type: {kind}"] if kind else [f"HTTP/1.1 {status} Told"]
    if length is not False:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


class Shop:
    "Answers by path, and notes what was asked; an unknown path is 404."

    def __init__(self, script=None):
        self.script = (
            script or {}
        )  # Path: bytes, a list of bytes for one asking after the other, or a coroutine function
        self.heads, self.asked, self.flying, self.most = [], Counter(), Counter(), Counter()

    async def talk(self, reader, writer):
        host, noted = None, False
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1]
            host = next(line[6:] for line in head.split("\r\n") if line.lower().startswith("host: "))
            self.heads.append(head)
            self.asked[path] += 1
            self.flying[host] += 1
            noted = True
            self.most[host] = max(self.most[host], self.flying[host])
            told = self.script.get(path, answer(status=404))
            if isinstance(told, list):
                told = told[min(self.asked[path], len(told)) - 1]
            if isinstance(told, bytes):
                writer.write(told)
            else:
                await told(writer)
            await writer.drain()
        if noted:
            self.flying[host] -= 1
        with contextlib.suppress(ConnectionError):
            writer.close()


@contextlib.contextmanager
def served(shop):
    "The shop behind a port of this machine, in a loop and a thread of its own."
    loop, port = asyncio.new_event_loop(), []
    ready = threading.Event()

    async def begin():
        server = await asyncio.start_server(shop.talk, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()

    loop.create_task(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ready.wait()
    shop.port, shop.url = port[0], f"http://127.0.0.1:{port[0]}"
    try:
        yield shop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))


class Names:
    "A network of two servers: whatever public number is connected to is `outside`, any other is `inside`."

    def __init__(self, outside, inside, names=None):
        self.outside, self.inside, self.names = (
            outside,
            inside,
            names or {},
        )  # Name: numbers, or lists of them in turn
        self.connected, self.looked_up = [], Counter()

    async def look_up(self, host, port):
        self.looked_up[host] += 1
        numbers = self.names.get(host, [host] if host[0].isdigit() or ":" in host else [PUBLIC])
        if isinstance(numbers[0], list):
            numbers = numbers[min(self.looked_up[host], len(numbers)) - 1]
        return numbers

    async def connect(self, number, port, timeout):
        import httpcore

        self.connected.append(number)
        there = self.outside if number == PUBLIC else self.inside
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", there.port, timeout=timeout)

    @property
    def network(self):
        return Network(self.look_up, self.connect)
