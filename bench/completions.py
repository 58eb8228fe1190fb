"""How fast, how stable and how safe is `complete`? Each part prints a small table; all of them use shipped stand-ins.

python bench/completions.py                       # speed of one stand-in, both tasks
python bench/completions.py --model standin-qwen-l
python bench/completions.py --equality            # batched against single answers, every test item of every stand-in
python bench/completions.py --kills 10            # kill -9 at random moments, then compare with an uninterrupted run
python bench/completions.py --servers             # questions in flight at a slow server, and time per request at a fast one
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pandas as pd

from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.completion.answers import read_answer
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.certificate import certify
from mmpc_analysis.completion.checkpoints import silence_libraries, torch_threads
from mmpc_analysis.completion.completions import complete, load_requests, plan_questions
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Request
from mmpc_analysis.completion.server_requests import ServerProfile, chat_body, chat_messages
from mmpc_analysis.completion.servers import ServerBackend
from mmpc_analysis.store import read_shards
from mmpc_analysis.tables import COMPLETIONS, TASKS

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
STANDINS = [f"standin-{family}-{size}" for family in ("qwen", "gemma") for size in "sml"]


def test_items() -> pd.DataFrame:
    """The catalogue's test listings."""
    return pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").reset_index(drop=True)


def one_by_one(items: pd.DataFrame, backend, task: str, path: Path) -> dict[str, str]:
    """The reference's way: a loop at batch size 1 that appends a line to a file per item. Raw text by item."""
    prompt, said = prompt_for(task, short=True), {}
    for item in items.itertuples(index=False):
        picture = open_image(ROOT, item.image) if task == "image_to_text" else None
        title = item.title if task == "text_to_image" else None
        turns = conversation(prompt, title=title, image=picture is not None)
        answer = backend.ask([Request(item.item_id, turns, picture, prompt.max_new_tokens)])[0]
        text = read_answer(answer.text, prompt.answer_key, answer.finish_reason).text
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"image": item.item_id, "title": text, "raw_output": answer.text}) + "\n")
        said[item.item_id] = answer.text
    return said


def bare_generate(items: pd.DataFrame, backend, task: str) -> tuple[int, float]:
    """`model.generate` alone, on tensors made before the clock starts: same batches, same order. Questions and seconds."""
    import torch

    prompt = prompt_for(task, short=True)
    questions = (
        plan_questions(items, prompt, backend.identity, ROOT)
        .drop_duplicates("key")
        .sort_values(["size", "key"])
    )
    requests, _ = load_requests(list(questions.itertuples(index=False)), prompt, ROOT, backend.fit)
    size = backend.batch_size
    ready = [backend.prepare(requests[i : i + size]).inputs for i in range(0, len(requests), size)]
    began = time.perf_counter()
    with torch.inference_mode(), torch_threads(backend.threads):
        for inputs in ready:
            backend.engine.model.generate(**inputs, max_new_tokens=prompt.max_new_tokens)
    return len(requests), time.perf_counter() - began


def speed(name: str, repeats: int) -> pd.DataFrame:
    """Items per second of the three ways, medians over interleaved repeats."""
    items, rows = test_items(), []
    backend = load_backend(name)
    with silence_libraries():
        backend.ask(
            [Request("warm", conversation(prompt_for("text_to_image", short=True), title="Mug"), None, 4)]
        )
    for task in TASKS:
        ours, bare, loop = [], [], []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as out:
                began = time.perf_counter()
                table = complete(items, name, task, root=ROOT, out=out, backend=backend, progress=False)
                ours.append(len(table) / (time.perf_counter() - began))
            n, seconds = bare_generate(items, backend, task)
            bare.append(n / seconds)
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            said = one_by_one(items, backend, task, Path(out) / "answers.jsonl")
            loop.append(len(said) / (time.perf_counter() - began))
        same = (table.set_index("item_id")["raw_text"] == pd.Series(said)).mean()
        a, b, c = statistics.median(ours), statistics.median(loop), statistics.median(bare)
        best = max(x / y for x, y in zip(ours, bare, strict=True))
        rows.append(
            (
                name,
                task,
                len(items),
                same,
                a,
                b,
                a / b,
                c,
                statistics.median([x / y for x, y in zip(ours, bare, strict=True)]),
                best,
            )
        )
    names = [
        "model",
        "task",
        "items",
        "same",
        "complete/s",
        "loop/s",
        "x loop",
        "generate/s",
        "of generate",
        "best of",
    ]
    return pd.DataFrame(rows, columns=names)


def equality(models: list[str]) -> pd.DataFrame:
    """The share of answers that batching changes, over every test item."""
    items, rows = test_items(), []
    for name in models:
        backend = load_backend(name)
        for task in TASKS:
            with tempfile.TemporaryDirectory() as out:
                table = complete(items, name, task, root=ROOT, out=out, backend=backend, progress=False)
            found = certify(table, items, root=ROOT, backend=backend, sample=None)
            rows.append((name, task, found.n, found.changed, found.share, found.high))
            print(*rows[-1], flush=True)
    return pd.DataFrame(rows, columns=["model", "task", "questions", "changed", "share", "below (95%)"])


class Logged:
    """A backend that writes down what it is asked before it asks."""

    def __init__(self, backend, log: str):
        self.backend, self.log = backend, log
        self.identity, self.precision, self.batch_size = backend.identity, backend.precision, 16
        self.prepare, self.fit = backend.prepare, backend.fit

    def note(self, requests) -> None:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps([r.key for r in requests]) + "\n")

    def answer(self, prepared):
        self.note(prepared.requests)
        return self.backend.answer(prepared)

    def ask(self, requests):
        self.note(requests)
        return self.backend.ask(requests)


def work(name: str, out: str, log: str) -> None:
    """One uninterrupted run of both tasks, logged."""
    backend = Logged(load_backend(name), log)
    for task in TASKS:
        complete(test_items(), name, task, root=ROOT, out=out, backend=backend, progress=False)


def kills(name: str, times: int, seed: int) -> pd.DataFrame:
    """Kill a run at random moments, finish it, and compare it with one that was left alone."""
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp())

    def start(which: str) -> subprocess.Popen:
        arguments = ["--model", name, "--work", str(folder / which), str(folder / f"{which}.log")]
        return subprocess.Popen([sys.executable, __file__, *arguments], start_new_session=True)

    def asked(which: str) -> list[str]:
        path = folder / f"{which}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [key for line in lines if line.endswith("]") for key in json.loads(line)]

    if start("whole").wait():
        raise RuntimeError("the uninterrupted run failed; see its message above")
    done = 0
    for _ in range(times):
        before, worker = len(asked("cut")), start("cut")
        while len(asked("cut")) == before and worker.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.4))
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGKILL)
            done += 1
        worker.wait()
    if start("cut").wait():
        raise RuntimeError("the resumed run failed; see its message above")
    whole, cut = (read_shards(f"{folder / which}/completions", COMPLETIONS) for which in ("whole", "cut"))
    plain = [
        t.drop(columns="seconds").sort_values(["task", "item_id"]).reset_index(drop=True)
        for t in (whole, cut)
    ]
    counts = pd.Series(asked("cut")).value_counts()
    row = (name, done, plain[0].equals(plain[1]), len(cut), len(counts), int((counts - 1).sum()), 16 * done)
    return pd.DataFrame(
        [row], columns=["model", "kills", "tables equal", "rows", "questions", "asked again", "allowed"]
    )


@contextmanager
def slow_server(mean: float):
    """The address of a server of exponential latencies, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("slow_server.py")), "--mean", str(mean)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def flight(url: str) -> tuple[int, float, list[float]]:
    """Most in flight, its time average from a tenth to nine tenths of the run, and the latencies as questions came."""
    with urllib.request.urlopen(f"{url}/flight") as reply:
        told = json.load(reply)
    times, flying = zip(*told["events"], strict=True)
    low, high = (times[0] + part * (times[-1] - times[0]) for part in (0.1, 0.9))
    spans = zip(flying, times, times[1:], strict=False)
    area = sum(n * max(0.0, min(after, high) - max(at, low)) for n, at, after in spans)
    return max(flying), area / (high - low), told["waits"]


def ideal_seconds(waits: list[float], limit: int) -> float:
    """How long a run takes whose places are filled again at once, and that does nothing else."""
    free = [0.0] * limit
    for wait in waits:
        heapq.heapreplace(free, free[0] + wait)
    return max(free)


def barrier_seconds(waits: list[float], limit: int) -> float:
    """How long a run takes that waits for the slowest of every batch."""
    return sum(max(waits[i : i + limit]) for i in range(0, len(waits), limit))


def server_questions(task: str, backend: ServerBackend) -> list[Request]:
    """One request for each different test item."""
    prompt = prompt_for(task, short=True)
    planned = plan_questions(test_items(), prompt, backend.identity, ROOT).drop_duplicates("key")
    return load_requests(list(planned.itertuples(index=False)), prompt, ROOT, backend.fit)[0]


def bare_client(url: str, bodies: list[dict], limit: int) -> tuple[list[str], float]:
    """The openai client as anybody would use it: a semaphore and a gather. Texts, and seconds without its construction."""
    import openai

    async def run():
        client, places = openai.AsyncOpenAI(base_url=url, api_key="none"), asyncio.Semaphore(limit)

        async def one(body):
            async with places:
                said = await client.chat.completions.create(**body)
                return said.choices[0].message.content

        began = time.perf_counter()
        texts = await asyncio.gather(*map(one, bodies))
        seconds = time.perf_counter() - began
        await client.close()
        return texts, seconds

    return asyncio.run(run())


def bare_bodies(backend: ServerBackend, requests: list[Request]) -> list[dict]:
    """What a bare client sends for them: the same, with what it has no name for in `extra_body`."""
    bodies = []
    for request in requests:
        messages = chat_messages(request, backend.pixels, backend.image_format)
        body = chat_body(backend.probed, request, messages)
        extra = {name: body.pop(name) for name in ("top_k", "repetition_penalty") if name in body}
        bodies.append(body | {"extra_body": extra})
    return bodies


def in_flight(limit: int, mean: float) -> pd.DataFrame:
    """Questions in flight at a server of exponential latencies: `complete`, and a bare client beside it."""
    task, rows = "text_to_image", []
    with slow_server(mean) as url, tempfile.TemporaryDirectory() as out:
        profile = ServerProfile("m", served="m", pictures="seen")
        backend = ServerBackend(url, "m", batch_size=limit, profile=profile)
        requests = server_questions(task, backend)
        bodies = bare_bodies(backend, requests)
        backend.ask(requests[:limit])  # Warm: the first answer waits for imports
        flight(url)
        for way in ("complete", "openai"):
            began = time.perf_counter()
            if way == "openai":
                bare_client(url, bodies, limit)
            else:
                complete(test_items(), "standin-qwen-m", task, root=ROOT, out=out, backend=backend, progress=False)  # fmt: skip
            seconds = time.perf_counter() - began
            most, average, waits = flight(url)
            ideal, barriers = ideal_seconds(waits, limit), barrier_seconds(waits, limit)
            rows.append((way, len(waits), limit, most, average, sum(waits) / barriers, seconds, ideal, seconds / ideal, barriers))  # fmt: skip
    names = ["way", "questions", "limit", "most", "in flight", "with barriers", "seconds", "ideal", "x ideal", "barriers take"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def overhead(limit: int, repeats: int) -> pd.DataFrame:
    """Milliseconds per request at a server without latency, medians over interleaved repeats; pictures are encoded by both."""
    rows = []
    with slow_server(0) as url:
        profile = ServerProfile("m", served="m", pictures="seen")
        backend = ServerBackend(url, "m", batch_size=limit, profile=profile)
        for task in ("text_to_image", "image_to_text"):
            requests, ours, bare, whole = server_questions(task, backend), [], [], []
            backend.ask(requests[:limit])
            bare_client(url, bare_bodies(backend, requests[:limit]), limit)
            for _ in range(repeats):
                began = time.perf_counter()
                said = [answer.text for answer in backend.ask(requests)]
                ours.append((time.perf_counter() - began) / len(requests))
                began = time.perf_counter()
                bodies = bare_bodies(backend, requests)
                making = time.perf_counter() - began
                texts, seconds = bare_client(url, bodies, limit)
                bare.append((making + seconds) / len(requests))
                if texts != said:
                    raise RuntimeError("the bare client got other answers, so the two cannot be compared")
                with tempfile.TemporaryDirectory() as out:
                    began = time.perf_counter()
                    complete(test_items(), "standin-qwen-m", task, root=ROOT, out=out, backend=backend, progress=False)  # fmt: skip
                    whole.append((time.perf_counter() - began) / len(requests))
            ratio = statistics.median(x / y for x, y in zip(ours, bare, strict=True))
            medians = [1000 * statistics.median(x) for x in (ours, bare, whole)]
            rows.append((task, len(requests), len(set(said)), *medians[:2], ratio, medians[2]))
    names = ["task", "requests", "answers", "server engine ms", "openai ms", "x openai", "complete ms"]
    return pd.DataFrame(rows, columns=names)


def main() -> None:
    """Read the arguments and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="stand-in, may be repeated (speed: standin-qwen-m)")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats of the speed measurement")
    parser.add_argument("--equality", action="store_true", help="compare batched with single answers")
    parser.add_argument("--kills", type=int, default=0, help="how often to kill a run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    parser.add_argument("--servers", action="store_true", help="measure how a server is asked")
    parser.add_argument("--limit", type=int, default=8, help="questions in flight (servers)")
    parser.add_argument("--mean", type=float, default=0.25, help="mean latency of the slow server, s")
    parser.add_argument("--work", nargs=2, metavar=("OUT", "LOG"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.precision", 3)
    if given.work:
        work(given.model[0], *given.work)
    elif given.equality:
        print(equality(given.model or STANDINS).to_string(index=False))
    elif given.kills:
        print(kills((given.model or ["standin-gemma-s"])[0], given.kills, given.seed).to_string(index=False))
    elif given.servers:
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(in_flight(given.limit, given.mean).to_string(index=False), end="\n\n")
        print(overhead(given.limit, given.repeats).to_string(index=False))
    else:
        tables = [speed(name, given.repeats) for name in given.model or ["standin-qwen-m"]]
        print(pd.concat(tables).to_string(index=False))


if __name__ == "__main__":
    main()
