"""A chat server of exponential latencies, for `completions.py --servers`, which starts it in a process of its own.

python bench/slow_server.py --mean 0.25           # prints its port; GET /v1/flight tells what was in flight, and forgets it
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import time


class Slow:
    """Answers every question with words of its own, after a wait of its own, and notes what is in flight."""

    def __init__(self, mean: float):
        self.mean, self.flying, self.events, self.waits = mean, 0, [], []

    def note(self, change: int) -> None:
        """A question came, or its answer leaves."""
        self.flying += change
        self.events.append((time.perf_counter(), self.flying))

    def flight(self) -> dict:
        """What was in flight when, and the waits in the order in which questions came; then a new page."""
        told = {"events": self.events, "waits": self.waits}
        self.events, self.waits = [], []
        return told

    async def chat(self, body: bytes) -> dict:
        """One answer, which depends on every byte of the messages, pictures too."""
        self.note(1)
        digest = hashlib.sha256(json.dumps(json.loads(body)["messages"]).encode()).hexdigest()[:12]
        self.waits.append(random.Random(digest).expovariate(1 / self.mean) if self.mean else 0.0)
        if self.mean:
            await asyncio.sleep(self.waits[-1])
        text = json.dumps(dict.fromkeys(("title", "description", "prompt"), f"Answer {digest}"))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        told = {"id": digest, "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return told | {"usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}}

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept open as long as the client likes."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                size = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
                body = await reader.readexactly(int(size.group(1))) if size else b""
                asked = head.startswith("POST")
                told = await self.chat(body) if asked else self.flight()
                data = json.dumps(told).encode()
                if asked:
                    self.note(-1)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)  # fmt: skip
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def serve(mean: float) -> None:
    """Serve until the process ends, and print the port."""
    server = await asyncio.start_server(Slow(mean).talk, "127.0.0.1", 0, limit=2**26)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mean", type=float, default=0.25, help="mean latency, s; 0 for none")
    asyncio.run(serve(parser.parse_args().mean))
