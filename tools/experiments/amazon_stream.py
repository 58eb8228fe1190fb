"""How much memory and time do the raw files of Amazon Reviews 2023 take, gigabyte after gigabyte?

A stream of made-up reviews goes through a pipe into `amazon_purchases`, and made-up products into `load_amazon`. The writer is another
process that repeats lines with new identifiers, faster than they are read. Prints the peak memory of the reader at every step.

    python tools/experiments/amazon_stream.py --gigabytes 2 --products 300000 --out results.json
"""

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = ("It came in a plain box and does what it says, though the lid is loose. " * 8)[:420]


def review_block(rng, ids, people, lines=20_000):
    "Some megabytes of reviews, as the data set writes them."
    rows = []
    for _ in range(lines):
        item = rng.choice(ids)
        row = {
            "rating": float(rng.choice((5, 5, 5, 4, 4, 3, 2, 1))),
            "title": "Does what it says",
            "text": TEXT[: rng.randrange(20, 420)],
            "images": [],
            "asin": item,
            "parent_asin": item,
            "user_id": f"A{rng.randrange(people):027d}",
            "timestamp": rng.randrange(1_262_304_000_000, 1_693_526_400_000),
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        rows.append(json.dumps(row))
    return ("\n".join(rows) + "\n").encode()


def write_reviews(path, size, ids, people):
    "Reviews into a pipe: a few blocks, with other people each time they come again."
    rng = random.Random(0)
    blocks = [review_block(rng, ids, people) for _ in range(4)]
    sent = turn = 0
    with open(path, "wb", buffering=0) as pipe:
        while sent < size:
            block = blocks[turn % 4].replace(b'"user_id": "A0000000', b'"user_id": "A%07d' % (turn // 4))
            pipe.write(block)
            sent, turn = sent + len(block), turn + 1


def write_products(path, count):
    "Products into a pipe."
    sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
    from make_amazon_files import product

    lines = [
        json.dumps(product("Electronics", n) | {"parent_asin": "@@@@@@@@@@"}) + "\n" for n in range(2000)
    ]
    with open(path, "wb") as pipe:
        for n in range(count):
            pipe.write(lines[n % 2000].replace("@@@@@@@@@@", f"B{n:09d}").encode())


def from_pipe(folder, name, write, *given):
    "Start a process that writes into a pipe of that name."
    path = folder / name
    os.mkfifo(path)
    child = os.fork()
    if not child:
        try:
            write(path, *given)
        finally:
            os._exit(0)
    return child


def peak():
    "Most memory this process has taken so far, MB."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(read, child):
    "What a reader gives, and its seconds: by the clock, and of a processor."
    start, worked = time.perf_counter(), time.process_time()
    answer = read()
    os.waitpid(child, 0)
    return answer, time.perf_counter() - start, time.process_time() - worked


def watch(steps, bytes_read):
    "Note the memory every quarter of a second until told to stop."
    stop, curve = threading.Event(), []

    def look():
        while not stop.wait(0.25):
            gigabytes = bytes_read() / 1e9
            if len(curve) < len(steps) and gigabytes >= steps[len(curve)]:
                curve.append({"gigabytes": round(gigabytes, 2), "peak_mb": round(peak())})

    threading.Thread(target=look, daemon=True).start()
    return stop, curve


def main(options):
    from mmpc_analysis.catalogue import amazon_files
    from mmpc_analysis.catalogue.amazon_2023 import load_amazon
    from mmpc_analysis.catalogue.buyer_sample import buyer_sample
    from mmpc_analysis.catalogue.review_purchases import amazon_purchases

    results = {"idle_mb": round(peak())}
    folder = Path(tempfile.mkdtemp())
    if options.products:
        child = from_pipe(folder, "meta_Electronics.jsonl", write_products, options.products)
        catalogue, seconds, worked = measure(lambda: load_amazon(folder, ["Electronics"]), child)
        results["products"] = {
            "rows": catalogue.counts["rows read"],
            "chosen": len(catalogue.items),
            "rows_a_second": round(options.products / seconds),
            "rows_a_processor_second": round(options.products / worked),
            "peak_mb": round(peak()),
        }
    all_ids = [f"B{n:09d}" for n in range(options.ids)]
    wanted = all_ids[:: max(1, options.ids // options.wanted)]
    read, opened = [0], amazon_files._opened

    class Counted:
        "An open pipe that says how much of it was read."

        def __init__(self, file):
            self.file = file

        def readline(self, limit):
            line = self.file.readline(limit)
            read[0] += len(line)
            return line

        def __enter__(self):
            return self

        def __exit__(self, *problem):
            self.file.close()

    amazon_files._opened = lambda path: (
        Counted(opened(path)) if path.endswith("Electronics.jsonl") else opened(path)
    )
    size = int(options.gigabytes * 1e9)
    child = from_pipe(folder, "Electronics.jsonl", write_reviews, size, all_ids, options.people)
    stop, curve = watch([0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9.9], lambda: read[0])
    rows, seconds, worked = measure(lambda: amazon_purchases(folder, ["Electronics"], wanted), child)
    stop.set()
    results["reviews"] = {
        "gigabytes": round(read[0] / 1e9, 2),
        "wanted_products": len(wanted),
        "rows_a_second": round(rows.attrs["counts"]["rows read"] / seconds),
        "gigabytes_a_minute": round(read[0] / 1e9 / seconds * 60, 2),
        "gigabytes_a_processor_minute": round(read[0] / 1e9 / worked * 60, 2),
        "peak_mb": round(peak()),
        "curve": curve,
        "counts": rows.attrs["counts"],
    }
    if options.draw:
        (folder / "Electronics.jsonl").unlink()
        child = from_pipe(folder, "Electronics.jsonl", write_reviews, size, all_ids, options.people)
        ids, seconds, worked = measure(lambda: buyer_sample(folder, ["Electronics"]), child)
        results["draw"] = {
            "chosen": len(ids),
            "rows_a_processor_second": round(rows.attrs["counts"]["rows read"] / worked),
            "peak_mb": round(peak()),
        }
    text = json.dumps(results, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--products", type=int, default=300_000, help="rows of products, 0 for none")
    parser.add_argument("--ids", type=int, default=1_000_000, help="products that are reviewed")
    parser.add_argument("--wanted", type=int, default=9000, help="of these, how many are asked for")
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--draw", action="store_true", help="draw products by their buyers too")
    parser.add_argument("--out", type=Path)
    main(parser.parse_args())
