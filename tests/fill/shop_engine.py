"""An engine whose every answer is worked out from the picture and the words, and a shop for it; run as a program it is slow, to be killed."""

import json
import sys
import time
from hashlib import sha256
from pathlib import Path

import pandas as pd
from PIL import Image

from mmpc_analysis.completion.protocol import Answer, Offers, ScoredAnswer

ALL = Offers(logprobs=True, samples=True, scoring=True)


def shop(folder, n=10):
    "Products whose picture is one colour, two of each listing group, with known titles."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(n):
        Image.new("RGB", (8, 8), (at % 256, at // 256, 0)).save(folder / f"{at}.png")
    return pd.DataFrame(
        {
            "item_id": [f"B{at:03}" for at in range(n)], "category": [("Toys", "Home")[at % 2] for at in range(n)],
            "title": [f"Known thing {at}" for at in range(n)], "image": [f"{at}.png" for at in range(n)],
            "parent_id": [f"P{at // 4}" for at in range(n)],
        }
    )  # fmt: skip


def colour(request):
    red, green, _ = request.image.getpixel((0, 0))
    return red + 256 * green


def words(request):
    return request.conversation[0]["content"][-1]["text"]


def likelihood(seen, text):
    "A log-probability that is drawn by hash: between -20 and 0."
    return -20 * int(sha256(f"{seen}|{text}".encode()).hexdigest()[:8], 16) / 2**32


class Engine:
    "Counts whatever it is asked; `fails` are colours at which it breaks, `stops` the number of calls before it breaks for good."

    precision, batch_size = "float32", 4

    def __init__(self, offers=ALL, identity="engine", fails=(), stops=None, log=None, pause=0.0):
        self.offers, self.identity, self.fails, self.stops = offers, identity, set(fails), stops
        self.log, self.pause, self.seen, self.calls = log, pause, [], 0

    def note(self, kind, *things):
        from mmpc_analysis.completion.checkpoints import BackendError

        self.calls += 1
        if self.stops is not None and self.calls > self.stops:
            raise BackendError("the engine is gone")
        time.sleep(self.pause)
        self.seen += [(kind, *thing) for thing in things]
        if self.log:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write("".join(json.dumps([kind, *thing]) + "\n" for thing in things))

    def check(self, requests):
        if any(r.image is not None and colour(r) in self.fails for r in requests):
            raise RuntimeError("cannot")

    def ask(self, requests):
        self.check(requests)
        self.note("ask", *((colour(r), words(r)) for r in requests))
        return [self.answer(r) for r in requests]

    def answer(self, r):
        n, sure = colour(r), (-0.25, -0.5) if self.offers.logprobs else ()
        if r.answer_key == "answer":
            return Answer(
                r.key, '{"answer": "%s"}' % ("no" if n % 3 else "yes"), "stop", 9.0, 5.0, 0.5, *sure
            )
        text = "I cannot see it, sorry." if n == 7 else json.dumps({"title": f"Red thing {n}"})
        return Answer(r.key, text, "stop", 9.0, 5.0, 0.5, *sure)

    def sample(self, requests, sampling):
        self.check(requests)
        self.note("sample", *((colour(r), sampling.n, sampling.seed) for r in requests))
        texts = ("Red thing {}", "Blue thing {}", "no title", "Red thing {}")
        told = [
            [texts[(i + sampling.seed) % 4].format(colour(r)) for i in range(sampling.n)] for r in requests
        ]
        return [
            [Answer(r.key, t if t == "no title" else json.dumps({"title": t}), "stop", seconds=0.25) for t in some]
            for r, some in zip(requests, told, strict=True)
        ]  # fmt: skip

    def score(self, request, candidates, image=True):
        seen = colour(request) if image else "blind"
        self.check([request] if image else [])
        self.note("score", *((seen, text) for text in candidates))
        values = [likelihood(seen, text) for text in candidates]
        return [ScoredAnswer(t, v, v / 2, 5) for t, v in zip(candidates, values, strict=True)]


def ask(items, folder, engine, out="run", **more):
    from mmpc_analysis.fill.signals import ask_suggestions

    settings = {"titles": items, "root": str(folder), "out": str(Path(folder) / out), "progress": False}
    return ask_suggestions(items, "standin-qwen-s", backend=engine, **(settings | more))


if __name__ == "__main__":
    where, log = sys.argv[1:]
    ask(shop(Path(where)), where, Engine(log=log, pause=0.02))
