"""Tables: validation, keys that are the same everywhere, shards that are whole or absent."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpc_analysis.store import (
    compact_lines,
    fingerprint,
    hash_key,
    hash_unit,
    list_files,
    read_manifest,
    read_shards,
    remove_shards,
    shard_names,
    store_lines,
    stored_lines,
    write_bytes,
    write_manifest,
    write_shard,
)
from mmpc_analysis.tables import ITEMS, SCORES, TABLES, TableError, empty, validate


def scores(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": [f"i{k}" for k in range(n)],
            "category": "Toys",
            "task": "image_to_text",
            "model": "m",
            "family": "f",
            "metric": "chrf",
            "level": "word",
            "value": np.linspace(0, 1, n),
            "outcome": "ok",
        }
    )


def test_hashes_are_sha256_of_the_joined_parts():
    digest = hashlib.sha256(b"7\x1fabc").hexdigest()
    assert hash_key(7, "abc") == digest[:32]
    assert hash_unit(7, "abc") == (int(digest[:16], 16) >> 11) / 2**53


def test_hashes_do_not_depend_on_the_hash_seed():
    code = "from mmpc_analysis.store import hash_unit; print(repr(hash_unit(0, 'item')))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert seen == {f"{hash_unit(0, 'item')!r}\n"}


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_draws_lie_in_the_half_open_unit_interval(parts):
    assert 0 <= hash_unit(*parts) < 1


def test_draws_are_uniform():
    draws = np.array([hash_unit("seed", i) for i in range(20_000)])
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert (
        (counts - 1000) ** 2 / 1000
    ).sum() < 43.8  # 0.999 quantile of chi-squared with 19 degrees of freedom


@given(st.permutations(range(6)))
def test_fingerprint_ignores_the_order_of_rows_and_columns(order):
    frame = scores(6)
    shuffled = frame.iloc[list(order)][list(reversed(frame.columns))]
    assert fingerprint(shuffled) == fingerprint(frame)


@pytest.mark.parametrize("column", ["value", "item_id", "outcome"])
def test_fingerprint_sees_every_value(column):
    frame = scores(4)
    other = frame.copy()
    other.loc[2, column] = 0.123 if column == "value" else "x"
    assert fingerprint(other) != fingerprint(frame)


def test_fingerprint_tells_missing_from_text():
    frame = scores(2).assign(outcome=["ok", None])
    assert fingerprint(frame) != fingerprint(frame.assign(outcome=["ok", "None"]))


def test_a_round_trip_changes_nothing(tmp_path):
    frame = validate(scores(50), SCORES)
    for start in range(0, 50, 17):
        write_shard(frame[start : start + 17], SCORES, str(tmp_path), f"part-{start:05d}")
    pd.testing.assert_frame_equal(read_shards(str(tmp_path), SCORES), frame)
    manifest = write_manifest(str(tmp_path), SCORES, seed=3)
    assert manifest == read_manifest(str(tmp_path))
    assert (manifest["rows"], manifest["seed"], len(manifest["shards"])) == (50, 3, 3)
    assert manifest["fingerprint"] == fingerprint(frame)


def test_an_object_store_path_works(tmp_path):
    frame = validate(scores(3), SCORES)
    write_shard(frame, SCORES, "memory://run/scores")
    pd.testing.assert_frame_equal(read_shards("memory://run/scores", SCORES), frame)


ODD = ["run [v1]", "a*b", "x?y", "[!a]", "{a,b}", "100% #1"]


@pytest.mark.parametrize("place", ["", "memory://odd"])
@pytest.mark.parametrize("name", ODD)
def test_a_folder_has_whatever_name_its_owner_likes(tmp_path, place, name):
    folder = f"{place or tmp_path}/{name}/scores"
    write_shard(scores(2), SCORES, folder, "part-00000")
    write_shard(scores(3)[2:], SCORES, folder, "part-00001")
    other = f"{place or tmp_path}/run v/scores"  # What the first name would match as a pattern
    write_shard(scores(1), SCORES, other)
    assert list(shard_names(folder)) == ["part-00000", "part-00001"] and len(read_shards(folder, SCORES)) == 3
    assert write_manifest(folder, SCORES) == read_manifest(folder)
    remove_shards(folder, {"part-00001"})
    assert list(shard_names(folder)) == ["part-00001"] and len(read_shards(other, SCORES)) == 1
    store_lines(f"{folder}/answers", [{"key": "a"}])
    store_lines(f"{folder}/answers", [{"key": "b"}])
    compact_lines(f"{folder}/answers")
    rows, files = stored_lines(f"{folder}/answers")
    assert sorted(rows) == ["a", "b"] and len(files) == 1


def test_only_files_of_a_folder_are_listed(tmp_path):
    (tmp_path / "a.parquet.12345678.partial").touch()
    write_shard(scores(1), SCORES, str(tmp_path / "deeper"))
    path = write_shard(scores(1), SCORES, str(tmp_path), "b")
    assert [os.path.basename(found) for found in list_files(str(tmp_path), ".parquet")] == ["b.parquet"]
    assert list_files(path, ".parquet") == list_files(str(tmp_path / "nowhere"), ".parquet") == []


def test_every_empty_table_is_valid_and_survives_the_disk(tmp_path):
    for table in TABLES.values():
        write_shard(empty(table), table, str(tmp_path / table.name))
        assert read_shards(str(tmp_path / table.name), table).columns.tolist() == table.names
    with pytest.raises(FileNotFoundError, match="no shard of scores in"):
        read_shards(str(tmp_path / "absent"), SCORES)


def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file.bin"
    write_bytes(str(path), b"0" * 1000)
    code = (
        "import sys\nfrom mmpc_analysis.store import write_bytes\n"
        "print('ready', flush=True)\ni = 0\n"
        "while True:\n    i += 1\n    write_bytes(sys.argv[1], str(i % 10).encode() * (10**6 + i))\n"
    )
    for pause in (0.0, 0.02, 0.05, 0.11):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        data = path.read_bytes()
        assert len(set(data)) == 1 and (len(data) == 1000 or len(data) > 10**6)


def test_extra_columns_and_attributes_are_kept():
    frame = scores(2).assign(note="x")
    frame.attrs["seed"] = 4
    checked = validate(frame, SCORES)
    assert checked.columns[-1] == "note" and checked.attrs == {"seed": 4}
    assert "parameters" in checked and checked["parameters"].isna().all()
    assert "parameters" not in frame


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="metric"), "no column 'metric'"),
        (lambda f: f.assign(value=["a", 0.1, 0.2]), "column 'value', row 0"),
        (lambda f: f.assign(outcome=["ok", None, "ok"]), "column 'outcome', row 1"),
        (lambda f: f.assign(item_id="same"), "repeats item_id='same'"),
        (lambda f: f.assign(item_id=[1, 2, 3]), "so that 007 stays 007"),
    ],
)
def test_refusals_name_the_column_and_the_row(change, message):
    with pytest.raises(TableError, match=message.replace("[", r"\[")):
        validate(change(scores(3)), SCORES)


def test_the_embedded_items_keep_the_declaration():
    from importlib.resources import files

    path = files("mmpc_analysis") / "data" / "catalogue"
    frame = pd.read_csv(path / "items.csv", dtype=str, keep_default_na=False).replace("", None)
    items = validate(frame, ITEMS)
    hashes = json.loads((path / "hashes.json").read_text())
    assert items["item_id"].is_unique and len(items) > 1000
    for image in items["image"]:
        assert hashlib.sha256((path / image).read_bytes()).hexdigest() == hashes[image]


def test_splits_of_the_embedded_items_never_share_a_hand():
    from importlib.resources import files

    items = pd.read_csv(files("mmpc_analysis") / "data" / "catalogue" / "items.csv", dtype=str)
    hand = {"Fluent Flat": "Fluent", "Fluent 3D": "Fluent", "Noto": "Noto", "Noto Classic": "Noto"}
    items["hand"] = items["brand"].map(lambda b: hand.get(b, b))
    test, train = items[items["split"] == "test"], items[items["split"] == "train"]
    assert set(test["parent_id"]) <= set(train["parent_id"])
    pairs = [set(map(tuple, part[["parent_id", "hand"]].to_numpy())) for part in (test, train)]
    assert not pairs[0] & pairs[1]
    assert not set(items[items["split"] == "unseen"]["parent_id"]) & set(train["parent_id"])
    assert test["category"].nunique() == 9
