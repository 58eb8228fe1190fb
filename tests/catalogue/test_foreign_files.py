"""Files that are made to fill a memory, or damaged: refused early, in little memory, with a remedy."""

import gzip
import io
import os
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

from mmpc_analysis.catalogue.foreign_files import (
    Limits,
    TooLargeError,
    file_ending,
    file_text,
    foreign_chunks,
    open_foreign,
    text_lines,
)
from mmpc_analysis.catalogue.records import read_records
from mmpc_analysis.catalogue.text_encodings import TextEncoding

MEMBER = gzip.compress(b"a" * 70_000_000, 6)  # 68 kB
STARTS = {".xml": b"<rss><channel><item><title>", ".jsonl": b'{"id": "', ".json": b'[{"id": "'}


def bomb(path, count):
    "Seventy megabytes of one letter, so many times."
    path.write_bytes(gzip.compress(STARTS.get(file_ending(path), b"id,title\n")) + MEMBER * count)
    return path


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "a.json.gz", "a.xml.gz"])
def test_a_packed_bomb_is_refused_by_every_reader(tmp_path, name):
    path = bomb(tmp_path / name, 100)
    with pytest.raises(TooLargeError, match=r"more than 200 times|more than 16,777,216 (bytes|characters)"):
        for _ in read_records(path, limits=Limits()).rows(None):
            pass


linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak from /proc")


def peak(code, *paths):
    "Peak memory of a process of its own, MB beyond what it had after its imports, and seconds of the processor."
    text = f"""
import re, sys, time
from mmpc_analysis.catalogue.records import read_records
import charset_normalizer, openpyxl, pyarrow.parquet, defusedxml.ElementTree
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before, began = peak(), time.process_time()
{code}
print((peak() - before) / 1e3, time.process_time() - began)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", text, *map(str, paths)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return tuple(map(float, run.stdout.split()))


READ = """
for path in sys.argv[1:]:
    try:
        for _ in read_records(path).rows(None):
            pass
    except ValueError as error:
        assert "limits=Limits" in str(error), error
    else:
        raise SystemExit(f"{path} was read")
"""


def workbook_bomb(path):
    "A workbook whose shared texts are half a gigabyte of one letter."
    from openpyxl import Workbook

    file = io.BytesIO()
    book = Workbook()
    book.active.append(["id", "title"])
    book.save(file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            if "sharedStrings" not in member:
                new.writestr(member, old.read(member))
        with new.open("xl/sharedStrings.xml", "w") as texts:
            texts.write(b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>')
            for _ in range(200):
                texts.write(b"a" * 1_000_000)
            texts.write(b"</t></si></sst>")
    return path


@linux
def test_bombs_take_little_memory_and_time(tmp_path):
    paths = [bomb(tmp_path / f"a.{kind}.gz", 100) for kind in ("csv", "jsonl", "xml")]
    assert sum(path.stat().st_size for path in paths) < 25e6  # 7 GB each
    memory, seconds = peak(READ, *paths, workbook_bomb(tmp_path / "a.xlsx"))
    assert memory < 250 and seconds < 15


@linux
def test_repeated_texts_of_a_parquet_file_stay_one_text(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    long = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["a" * 1_000_000]))
    parquet.write_table(
        pa.table({"id": [str(n) for n in range(20_000)], "title": long}),
        tmp_path / "a.parquet",
    )
    assert (tmp_path / "a.parquet").stat().st_size < 1e6  # Twenty gigabytes of text
    code = "rows = [row for _, row in read_records(sys.argv[1]).rows(['title', 'id'])]\nassert len(rows) == 20_000 and len(rows[-1]['title']) == 1_000_000"
    memory, seconds = peak(code, tmp_path / "a.parquet")
    assert memory < 300 and seconds < 30


def test_a_column_chunk_that_unpacks_to_gigabytes_is_refused(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    zeros = pa.array([bytes(5_000_000)] * 20, pa.binary())
    parquet.write_table(
        pa.table({"id": list(map(str, range(20))), "image": zeros}),
        tmp_path / "a.parquet",
        compression="zstd",
        use_dictionary=False,
    )
    records = read_records(tmp_path / "a.parquet")
    with pytest.raises(TooLargeError, match="row group 1 unpacks to more than 200 times"):
        list(records.rows(["id", "image"]))
    records = read_records(tmp_path / "a.parquet")
    assert [row["id"] for _, row in records.rows(["id"])] == list(map(str, range(20)))
    records = read_records(tmp_path / "a.parquet", limits=Limits(ratio=1e6))
    assert sum(len(row["image"]) for _, row in records.rows(["image"])) == 100_000_000


def test_a_limit_can_be_raised_and_a_dull_file_is_read(tmp_path):
    dull = b"id,title\n" + b"1,The very same title of a product\n" * 2_500_000  # 88 MB, packs to 1:400
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(dull, 9))
    with pytest.raises(TooLargeError, match=r"limits=Limits\(ratio=...\)"):
        sum(map(len, foreign_chunks(tmp_path / "a.csv.gz")))
    assert sum(map(len, foreign_chunks(tmp_path / "a.csv.gz", Limits(ratio=2000)))) == len(dull)
    (tmp_path / "a.csv").write_bytes(dull)
    assert sum(map(len, foreign_chunks(tmp_path / "a.csv"))) == len(
        dull
    )  # What is not packed has no such limit


def test_damage_is_said_once_and_in_one_way(tmp_path):
    whole = gzip.compress(os.urandom(100_000))
    flipped = bytearray(whole)
    flipped[50_000:50_060] = bytes(255 - b for b in flipped[50_000:50_060])
    for name, data in {
        "cut": whole[:-2000],
        "flipped": bytes(flipped),
        "none": b"id,title\n1,Kite\n",
        "empty": b"",
    }.items():
        (tmp_path / f"{name}.csv.gz").write_bytes(data)
        if name == "empty":
            assert list(foreign_chunks(tmp_path / "empty.csv.gz")) == []
            continue
        with pytest.raises(ValueError, match=rf"{name}.csv.gz is damaged .*copy it again"):
            list(foreign_chunks(tmp_path / f"{name}.csv.gz"))


def test_a_packed_file_without_the_ending_is_unpacked(tmp_path):
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"id,title\n1,Kite\n"))
    assert [row for _, row in read_records(tmp_path / "a.csv").rows(None)] == [{"id": "1", "title": "Kite"}]


def test_an_address_that_fsspec_knows_is_opened(tmp_path):
    import fsspec

    with fsspec.open("memory://shop/a.csv.gz", "wb") as file:
        file.write(gzip.compress("id,title\n1,Flöte\n".encode()))
    with open_foreign("memory://shop/a.csv.gz") as file:
        assert file.read() == "id,title\n1,Flöte\n".encode()
    assert [row for _, row in read_records("memory://shop/a.csv.gz").rows(None)] == [
        {"id": "1", "title": "Flöte"}
    ]


def test_a_line_and_a_text_have_limits(tmp_path):
    (tmp_path / "a.csv").write_text("id,title\n1," + "a" * 100 + "\n")
    with pytest.raises(TooLargeError, match="more than 50 characters in line 2"):
        list(text_lines(tmp_path / "a.csv", TextEncoding("utf-8"), Limits(line=50)))
    with pytest.raises(TooLargeError, match="more than 60 bytes"):
        file_text(tmp_path / "a.csv", [], limits=Limits(held=60))


def test_a_pipe_cannot_be_walked_twice(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="is a pipe"):
        read_records(tmp_path / "a.csv")


def test_the_ending_of_an_address_is_that_of_its_path():
    names = ["https://a.example/feed.xml?x=b.csv", "s3://a/b.JSONL.GZ", "dir.csv/a.parquet", "a?b.csv"]
    assert [file_ending(name) for name in names] == [".xml", ".jsonl", ".parquet", ".csv"]
