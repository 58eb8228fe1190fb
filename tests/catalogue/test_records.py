"""Records: JSON of every shape, Parquet with pictures inside, and one answer whatever the kind of file."""

import gzip
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis.catalogue.foreign_files import Limits, TooLargeError
from mmpc_analysis.catalogue.records import READERS, json_records, read_records

ITEMS = [
    {"id": "007", "title": "Flöte"},
    {"id": "b", "title": 'Pan 12", "XL"'},
    {"id": "c", "title": "红色杯"},
]


def rows(path, **kwargs):
    return [row for _, row in read_records(path, **kwargs).rows(None)]


def saved(path, kind):
    frame = pd.DataFrame(ITEMS)
    if kind in ("csv", "tsv", "txt"):
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    elif kind == "xlsx":
        frame.to_excel(path, index=False)
    elif kind in ("jsonl", "ndjson", "json"):
        frame.to_json(path, orient="records", lines=kind != "json", force_ascii=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        items = "".join(f"<item><id>{row['id']}</id><title>{row['title']}</title></item>" for row in ITEMS)
        path.write_text(f"<rss><channel>{items}</channel></rss>", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind", ["csv", "tsv", "txt", "xlsx", "jsonl", "ndjson", "json", "parquet", "xml", "rss"]
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind):
    assert f".{kind}" in READERS
    path = saved(tmp_path / f"a.{kind}", kind)
    records = read_records(path)
    assert records.names == ["id", "title"] and rows(path) == ITEMS
    packed = tmp_path / f"b.{kind}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    if kind not in ("xlsx", "parquet"):
        assert rows(packed) == ITEMS


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "xml"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_every_kind_of_text_in_a_named_encoding(tmp_path, kind, encoding):
    path = saved(tmp_path / f"a.{kind}", kind)
    text = path.read_text(encoding="utf-8")
    path.write_bytes(text.encode(encoding))
    assert rows(path, encoding=encoding) == ITEMS
    if encoding in ("utf-8-sig", "utf-16"):
        assert rows(path) == ITEMS


def test_json_lines_of_another_encoding_name_the_remedy(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"id": "茶"}\n{"id": "b"}\n'.encode("gb18030"))
    found = rows(tmp_path / "a.jsonl")
    assert found[0].startswith("is not UTF-8") and "--encoding" in found[0] and found[1] == {"id": "b"}
    with pytest.raises(ValueError, match="that Python knows"):
        rows(tmp_path / "a.jsonl", encoding="klingon")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"id": 1}, {"id": 2}]', [{"id": 1}, {"id": 2}]),
        ('\n[\n {"id":\n 1},\n\n 7, {"id": 2}\n]\n', [{"id": 1}, "is a int, expected an object", {"id": 2}]),
        ('{"id": 1}\n\n{"id": 2}\n', [{"id": 1}, {"id": 2}]),
        ('{"products": [{"id": 1}], "page": 1}\n\n', [{"id": 1}]),
        ('{"id": "a", "images": [{"src": "a.jpg"}]}', [{"id": "a", "images": [{"src": "a.jpg"}]}]),
        (
            '{"images": [{"src": "a"}]}\n{"images": [{"src": "b"}]}',
            [{"images": [{"src": "a"}]}, {"images": [{"src": "b"}]}],
        ),
        ('{"products":\n [{"id": 1}, null],\n "page": 1}', [{"id": 1}, "is a NoneType, expected an object"]),
        ("[]", []),
        ("", []),
        ("[" + ", ".join(['{"id": "' + "x" * 70_000 + '"}'] * 5) + "]", [{"id": "x" * 70_000}] * 5),
    ],
)
def test_json_files_of_every_shape(tmp_path, text, found):
    (tmp_path / "a.json").write_text(text)
    assert rows(tmp_path / "a.json") == found


@pytest.mark.parametrize(
    "text",
    ['[{"id": 1}, {"id": 2]', '[{"id": 1}, {"id', '[{"id": 1}, {"id": 2}', '[{"id": 1}, ' + "[" * 50_000],
)
def test_a_list_that_breaks_off_keeps_what_came_before(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    found = rows(tmp_path / "a.json")
    assert found[0] == {"id": 1} and found[-1].startswith("ends the list")


def test_a_long_line_costs_itself(tmp_path):
    lines = ['{"id": 1}', '{"id": "' + "x" * 1000 + '"}', '{"id": 2}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = list(json_records(tmp_path / "a.jsonl", limits=Limits(line=100)))
    assert found == [(1, {"id": 1}), (2, "is longer than 100 characters"), (3, {"id": 2})]
    lines[1] = '{"id": "' + "x" * 200_000 + '"}'
    (tmp_path / "a.json").write_text("[" + ",".join(lines) + "]")
    with pytest.raises(TooLargeError, match="object 2 of the list has more than 100,000"):
        rows(tmp_path / "a.json", limits=Limits(line=100_000))
    assert [row["id"] for row in rows(tmp_path / "a.json")] == [1, "x" * 200_000, 2]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak from /proc")
def test_a_stream_through_a_pipe_takes_the_memory_of_a_line(tmp_path):
    code = """
import json, os, re, sys, threading
from mmpc_analysis.catalogue.records import json_records
os.mkfifo(sys.argv[1])
line = json.dumps({"user_id": "u", "text": "x" * 900}).encode() + b"\\n"
def write():
    with open(sys.argv[1], "wb") as pipe:
        for _ in range(150):
            pipe.write(line * 1000)
threading.Thread(target=write).start()
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = peak()
count = sum(len(row) == 2 for _, row in json_records(sys.argv[1]))
print(count, (peak() - before) / 1e3)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.jsonl")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    count, memory = run.stdout.split()
    assert count == "150000" and float(memory) < 50  # 140 MB came through


# ---------------------------------------------------------------- Parquet


@pytest.mark.parametrize("many", [False, True])
def test_pictures_inside_a_parquet_file_come_as_they_were_stored(tmp_path, many):
    import pyarrow as pa
    from pyarrow import parquet

    one = {"bytes": b"\xff\xd8" + bytes(2000), "path": "a.jpg"}
    values = [[one, {"bytes": b"x", "path": None}] if many else one, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"id": ["1", "2"], "image": pa.array(values, pa.list_(kind) if many else kind)})
    parquet.write_table(table, tmp_path / "a.parquet")
    records = read_records(tmp_path / "a.parquet")
    assert records.names == ["id", "image"]
    assert list(records.rows(["image", "id"])) == [
        (1, {"image": values[0], "id": "1"}),
        (2, {"image": None, "id": "2"}),
    ]


def test_rows_of_several_groups_are_numbered_on_and_only_wanted_columns_are_read(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    titles = [None if n % 7 == 0 else f"T{n % 5}" for n in range(2500)]
    table = pa.table({"id": range(2500), "title": titles, "zeros": pa.array([bytes(100_000)] * 2500)})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    found = list(read_records(tmp_path / "a.parquet").rows(["title", "id"]))
    assert [place for place, _ in found] == list(range(1, 2501))
    assert [row["title"] for _, row in found] == titles and found[-1][1] == {"title": titles[-1], "id": 2499}


def test_a_damaged_parquet_file_is_named(tmp_path):
    pd.DataFrame({"id": [str(n) for n in range(5000)]}).to_parquet(tmp_path / "a.parquet", compression="zstd")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    (tmp_path / "b.parquet").write_bytes(data[:-50])
    with pytest.raises(ValueError, match=r"b\.parquet is damaged"):
        read_records(tmp_path / "b.parquet")
    data[3000:3060] = bytes(255 - b for b in data[3000:3060])
    (tmp_path / "c.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"c\.parquet is damaged after row 0"):
        list(read_records(tmp_path / "c.parquet").rows(None))
    (tmp_path / "d.parquet").write_text("id,title")
    with pytest.raises(ValueError, match=r"d\.parquet is damaged, or no Parquet file"):
        read_records(tmp_path / "d.parquet")


def test_a_file_that_is_not_there_stays_what_it_is(tmp_path):
    for ending in READERS:
        with pytest.raises(FileNotFoundError):
            list(read_records(tmp_path / f"none{ending}").rows(None))


def test_an_object_store_is_read_as_a_disk_is():
    import fsspec

    for kind in ("jsonl", "parquet", "xlsx"):
        with fsspec.open(f"memory://shop/b.{kind}", "wb") as file:
            import pathlib
            import tempfile

            file.write(saved(pathlib.Path(tempfile.mkdtemp()) / f"a.{kind}", kind).read_bytes())
        assert rows(f"memory://shop/b.{kind}") == ITEMS
    assert json.dumps(ITEMS)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_row_of_separators_alone_is_a_blank_line(tmp_path, separator):
    lines = ["id,title", "1,Kite", ",", "  , ", '"",', "2,Pan", ",", "", ","]
    (tmp_path / "a.csv").write_text("\r\n".join(lines).replace(",", separator) + "\r\n", encoding="utf-8-sig")
    found = list(read_records(tmp_path / "a.csv").rows(None))
    assert found == [(2, {"id": "1", "title": "Kite"}), (6, {"id": "2", "title": "Pan"})]


def test_a_cell_under_no_name_keeps_its_row(tmp_path):
    (tmp_path / "a.csv").write_text("id,title,\n1,Kite,\n,,x\n")
    assert list(read_records(tmp_path / "a.csv").rows(None))[1] == (3, {"id": "", "title": ""})
