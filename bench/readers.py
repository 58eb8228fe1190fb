"""How many products a second does each reader read, and in how much memory, beside the plain library of its format?

OMP_NUM_THREADS=1 python bench/readers.py                # 100,000 products; the machine should be quiet
OMP_NUM_THREADS=1 python bench/readers.py --rows 5000    # a small try
OMP_NUM_THREADS=1 python bench/readers.py --only csv xlsx

The products are generated: an id, a title, a description of three sentences, a category, a brand, a price and an address of a picture, with
quotes, separators, line ends and letters beyond ASCII where a format can hold them. Each reader and each peer runs in a process of its own, which
reads the file twice: once for the time and the memory, and once for a hash of all cells. Where the hashes differ, no time counts. Memory is what the
process took at its peak beyond what it had after its imports. Neither side keeps a row.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

NAMES = ["id", "title", "description", "category", "brand", "price", "image_link"]
KINDS = {
    "csv": "csv.DictReader",
    "tsv": "csv.DictReader",
    "jsonl": "json.loads",
    "jsonl.gz": "json.loads",
    "parquet": "pyarrow iter_batches",
    "xlsx": "openpyxl read-only",
    "xml": "ElementTree iterparse",
}
GOOGLE = "http://base.google.com/ns/1.0"


def products(rows: int, plain: bool) -> Iterator[list[str]]:
    """Products that differ, with what makes tables hard unless a format holds plain text only."""
    rng = random.Random(0)
    words = [
        "kite",
        "mug",
        "café",
        "Flöte",
        "red",
        "blue",
        "ceramic",
        "wooden",
        "handle",
        "lid",
        "large",
        "small",
        "茶壶",
        "кружка",
        "garden",
        "steel",
    ]
    for n in range(rows):
        title = " ".join(rng.choices(words, k=6))
        text = ". ".join(" ".join(rng.choices(words, k=18)) for _ in range(3))
        if not plain and n % 7 == 0:
            title, text = f'{title}, 12" "XL"', text.replace(". ", ".\n")
        yield [
            f"{n:07d}",
            title,
            text,
            rng.choice(words),
            rng.choice(words),
            f"{rng.random() * 99:.2f} EUR",
            f"https://a.example/{n}.jpg",
        ]


def write(kind: str, rows: int, path: Path) -> None:
    """The products as a file of one kind."""
    table = products(rows, plain=kind == "tsv")
    if kind in ("csv", "tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="," if kind == "csv" else "\t").writerows([NAMES, *table])
    elif kind.startswith("jsonl"):
        with (gzip.open if kind.endswith("gz") else open)(path, "wt", encoding="utf-8") as file:
            file.writelines(
                json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=False) + "\n" for row in table
            )
    elif kind == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(
            pa.table(dict(zip(NAMES, zip(*table, strict=True), strict=True))), path, row_group_size=20_000
        )
    elif kind == "xlsx":
        from openpyxl import Workbook

        book = Workbook(write_only=True)
        sheet = book.create_sheet("Products")
        for row in [NAMES, *table]:
            sheet.append(row)
        book.save(path)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'<rss version="2.0" xmlns:g="{GOOGLE}"><channel><title>Shop</title>\n')
            for row in table:
                cells = "".join(
                    f"<g:{name}>{escape(cell)}</g:{name}>" for name, cell in zip(NAMES, row, strict=True)
                )
                file.write(f"<item>{cells}</item>\n")
            file.write("</channel></rss>")


def ours(kind: str, path: Path) -> Iterator[dict]:
    """Rows by the reader of this package."""
    from mmpc_analysis.catalogue.records import read_records

    return (row for _, row in read_records(path).rows(NAMES))


def peer(kind: str, path: Path) -> Iterator[dict]:
    """Rows by the plain library of the format."""
    if kind in ("csv", "tsv"):
        file = open(path, newline="", encoding="utf-8")  # noqa: SIM115
        yield from csv.DictReader(file, delimiter="," if kind == "csv" else "\t")
    elif kind.startswith("jsonl"):
        yield from map(json.loads, (gzip.open if kind.endswith("gz") else open)(path, "rb"))
    elif kind == "parquet":
        from pyarrow import parquet

        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    elif kind == "xlsx":
        from openpyxl import load_workbook

        rows = load_workbook(path, read_only=True).worksheets[0].iter_rows(values_only=True)
        names = next(rows)
        yield from (dict(zip(names, row, strict=True)) for row in rows)
    else:
        from xml.etree.ElementTree import iterparse

        for _, node in iterparse(path):
            if node.tag == "item":
                yield {child.tag.rpartition("}")[2]: child.text for child in node}
                node.clear()


def peak() -> float:
    """Peak memory of this process, MB; what getrusage says may be the parent's."""
    return float(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3


def measure(way: str, kind: str, path: Path) -> None:
    """Print the hash of all cells, rows, seconds and peak memory of one way to read."""
    import charset_normalizer  # noqa: F401
    import defusedxml.ElementTree  # noqa: F401
    import openpyxl  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import mmpc_analysis.catalogue.records  # noqa: F401

    read = ours if way == "ours" else peer
    before = peak()
    began, count = (time.process_time(), time.perf_counter()), 0
    for _ in read(kind, path):
        count += 1
    seconds = time.process_time() - began[0], time.perf_counter() - began[1]
    memory = peak() - before
    digest = hashlib.sha256()
    for row in read(kind, path):
        digest.update("\x1f".join(str(row[name]) for name in NAMES).encode() + b"\x1e")
    print(json.dumps([digest.hexdigest(), count, *seconds, memory]))


def main() -> None:
    """Write the files, read each in both ways, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="products of each file")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS), help="kinds of file")
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "KIND", "PATH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        return measure(asked.measure[0], asked.measure[1], Path(asked.measure[2]))
    print(f"{asked.rows:,} products; processor seconds; memory beyond the imports\n")
    print("| file | MB | rows/s | seconds | peak MB | peer | rows/s | seconds | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in asked.only:
            path = Path(folder) / f"products.{kind}"
            write(kind, asked.rows, path)
            found = []
            for way in ("ours", "peer"):
                command = [sys.executable, __file__, "--measure", way, kind, str(path)]
                found.append(
                    json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                )
            if found[0][:2] != found[1][:2] or found[0][1] != asked.rows:
                raise SystemExit(f"{kind}: the two ways give different rows; no time counts")
            (_, rows, mine, _, memory), (_, _, other, _, most) = found
            size = path.stat().st_size / 1e6
            print(
                f"| {kind} | {size:.1f} | {rows / mine:,.0f} | {mine:.2f} | {memory:.0f} | {KINDS[kind]} | {rows / other:,.0f} | {other:.2f} | {most:.0f} |",
                flush=True,
            )
            path.unlink()


if __name__ == "__main__":
    main()
