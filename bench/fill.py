"""How fast are suggestions with all their signals, and how much memory do they take? An engine that answers at once stands in for the model.

python bench/fill.py                      # asking: 2,000 products in both ways, and 100,000 in ours
python bench/fill.py --rows 20000         # as many products in ours
python bench/fill.py --whole              # the whole path from a shop's file to its import file, half of the titles missing
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.completion.answers import read_answer
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Answer, Offers, Request, Sampling, ScoredAnswer
from mmpc_analysis.fill.signals import SIGNALS, agreement, ask_suggestions
from mmpc_analysis.fill.title_lift import draw_distractors, lift_share, title_answer
from mmpc_analysis.fill.yes_questions import yes_prompt

MODEL, PROMPT = "standin-qwen-s", prompt_for("image_to_text", short=True)


class Instant:
    """An engine that answers at once, by the colour of the picture, and counts what it is asked."""

    identity, precision, batch_size = "instant", "float32", 64
    offers = Offers(logprobs=True, samples=True, scoring=True)

    def __init__(self):
        self.asked = 0

    def title(self, request) -> str:
        self.asked += 1
        return "Thing {} {} {}".format(*request.image.getpixel((0, 0)))

    def ask(self, requests):
        texts = [json.dumps({"title": self.title(r)}) for r in requests]
        return [
            Answer(r.key, t, "stop", 9.0, 9.0, 0.0, -0.5, -1.0) for r, t in zip(requests, texts, strict=True)
        ]

    def sample(self, requests, sampling):
        texts = [[json.dumps({"title": f"{self.title(r)} {i}"}) for i in range(sampling.n)] for r in requests]
        return [
            [Answer(r.key, t, "stop", seconds=0.0) for t in some]
            for r, some in zip(requests, texts, strict=True)
        ]

    def score(self, request, candidates, image=True):
        self.asked += len(candidates)
        seen = request.image.getpixel((0, 0)) if image else request.conversation
        values = [-int(sha256(f"{seen}{text}".encode()).hexdigest()[:6], 16) / 2**20 for text in candidates]
        return [ScoredAnswer(t, v, v / 2, 9) for t, v in zip(candidates, values, strict=True)]


def shop(folder: str, n: int) -> pd.DataFrame:
    """Products with a picture of one colour each, of which every other one has a title."""
    for at in range(n):
        path = f"{at // 1000}/{at}.png"
        (Path(folder) / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (at % 256, at // 256 % 256, at // 65536)).save(Path(folder) / path)
    numbers = np.arange(n)
    return pd.DataFrame(
        {
            "item_id": [f"B{at:06}" for at in numbers], "category": [f"c{at % 20}" for at in numbers],
            "title": [f"Known title {at} of some length, 12 cm, red" if at % 2 else None for at in numbers],
            "image": [f"{at // 1000}/{at}.png" for at in numbers], "parent_id": [f"P{at // 2}" for at in numbers],
        }
    )  # fmt: skip


def plain_loop(items: pd.DataFrame, root: str, engine: Instant, path: Path) -> dict[str, tuple]:
    """The obvious way: one product after the other, all its questions, a line appended to a file."""
    drawn, texts = draw_distractors(items, items), items["title"].tolist()
    yes, blind, said = yes_prompt("title", short=True), {}, {}
    bare = Request("bare", conversation(PROMPT), None, PROMPT.max_new_tokens, "title")
    for item, row in zip(items.itertuples(index=False), drawn, strict=True):
        picture = open_image(root, item.image)
        request = Request(
            item.item_id, conversation(PROMPT, image=True), picture, PROMPT.max_new_tokens, "title"
        )
        answer = engine.ask([request])[0]
        own = read_answer(answer.text, "title", answer.finish_reason).text
        samples = engine.sample([request], Sampling(4))[0]
        about = Request(
            item.item_id, conversation(yes, title=own, image=True), picture, yes.max_new_tokens, "answer"
        )
        odds = engine.score(about, ['{"answer": "yes"}', '{"answer": "no"}'])
        titles = [own, *(texts[at] for at in row if at >= 0)]
        shown = engine.score(request, [title_answer(t) for t in titles])
        new = [t for t in titles if t not in blind]
        scored = engine.score(bare, [title_answer(t) for t in new], image=False) if new else []
        blind |= {t: s.logprob for t, s in zip(new, scored, strict=True)}
        lifts = [s.logprob - blind[t] for t, s in zip(titles, shown, strict=True)]
        drawn_titles = [read_answer(a.text, "title", a.finish_reason).text for a in samples]
        agrees, rank = agreement(own, drawn_titles), lift_share(lifts[0], lifts[1:])
        said[item.item_id] = (
            answer.logprob,
            answer.least_logprob,
            agrees,
            odds[0].logprob - odds[1].logprob,
            rank,
        )
        with open(path, "a", encoding="utf-8") as file:
            file.write(
                json.dumps({"item_id": item.item_id, "title": own, "signals": said[item.item_id]}) + "\n"
            )
    return said


def whole_path(root: str, n: int, out: str) -> dict:
    """From a shop's file to its import file, in this process: rows, seconds, questions, memory before and at most."""
    from mmpc_analysis.fill.filling import fill

    source, engine = f"{out}/shop.csv", Instant()
    pd.read_parquet(f"{root}/items.parquet").head(n).to_csv(source, index=False)
    before, began = peak(), time.perf_counter()
    made = fill(source, MODEL, out=f"{out}/filled", root=root, backend=engine, progress=False)
    seconds, again = time.perf_counter() - began, time.perf_counter()
    told = {
        "way": "whole",
        "rows": n,
        "seconds": seconds,
        "asked": engine.asked,
        "before": before,
        "peak": peak(),
    }
    fill(source, MODEL, out=f"{out}/filled", root=root, backend=engine, progress=False)
    told |= {"again": time.perf_counter() - again, "asked again": engine.asked - told["asked"]}
    return told | {
        "suggested": len(made.suggestions),
        "filled": int(made.suggestions["status"].eq("filled").sum()),
    }


def peak() -> float:
    """Most memory that this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(way: str, root: str, n: int, out: str) -> dict:
    """One way in a process of its own: rows, seconds, questions, memory before and at most."""
    if way == "whole":
        return whole_path(root, n, out)
    items, engine = pd.read_parquet(f"{root}/items.parquet").head(n), Instant()
    before, began = peak(), time.perf_counter()
    if way == "loop":
        rows = pd.DataFrame(plain_loop(items, root, engine, Path(out) / "lines"), index=SIGNALS).T
    else:
        rows = ask_suggestions(items, MODEL, root=root, out=out, titles=items, backend=engine, progress=False)
        rows = rows.set_index("item_id")
    seconds = time.perf_counter() - began
    values = rows[list(SIGNALS)].to_numpy(dtype=float)
    told = {
        "way": way,
        "rows": n,
        "seconds": seconds,
        "asked": engine.asked,
        "before": before,
        "peak": peak(),
    }
    again = time.perf_counter()
    if way == "ours":
        ask_suggestions(items, MODEL, root=root, out=out, titles=items, backend=engine, progress=False)
        told |= {"again": time.perf_counter() - again, "asked again": engine.asked - told["asked"]}
    return told | {
        "values": sha256(np.round(values, 9).tobytes()).hexdigest(),
        "known": bool(np.isfinite(values).all()),
    }


def measure(way: str, root: str, n: int) -> dict:
    """A way, measured in a new process."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "--work", way, root, str(n), out]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told.splitlines()[-1])


def asking(small: int, rows: int) -> pd.DataFrame:
    """Both ways on a small shop, with equal numbers; ours on a large one."""
    with tempfile.TemporaryDirectory() as root:
        shop(root, max(small, rows)).to_parquet(f"{root}/items.parquet")
        loop, ours = measure("loop", root, small), measure("ours", root, small)
        if loop["values"] != ours["values"] or not ours["known"]:
            raise RuntimeError("the loop found other signals, so the two cannot be compared")
        large = [measure("ours", root, n) for n in (rows // 10, rows)]
    table = pd.DataFrame([loop, ours, *large])
    table["rows/s"] = table["rows"] / table["seconds"]
    table["x loop"] = table["rows/s"] / table["rows/s"][0]
    table["MB"], table["kB a row"] = table["peak"] - table["before"], 1000 * (table["peak"] - table["before"]) / table["rows"]  # fmt: skip
    names = ["way", "rows", "asked", "seconds", "rows/s", "x loop", "before", "peak", "MB", "kB a row", "again", "asked again"]  # fmt: skip
    return table[names]


def whole(rows: int) -> pd.DataFrame:
    """The whole path on a tenth of the products and on all."""
    with tempfile.TemporaryDirectory() as root:
        shop(root, rows).to_parquet(f"{root}/items.parquet")
        table = pd.DataFrame([measure("whole", root, n) for n in (rows // 10, rows)])
    table["rows/s"], table["MB"] = table["rows"] / table["seconds"], table["peak"] - table["before"]
    return table


def main() -> None:
    """Read the arguments and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="products of the large shop")
    parser.add_argument("--small", type=int, default=2_000, help="products of the shop for both ways")
    parser.add_argument("--whole", action="store_true", help="measure the whole path instead")
    parser.add_argument("--work", nargs=4, metavar=("WAY", "ROOT", "N", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.precision", 3)
    if given.work:
        way, root, n, out = given.work
        print(json.dumps(work(way, root, int(n), out)))
        return
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    table = whole(given.rows) if given.whole else asking(given.small, given.rows)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
