"Tables of a run that are kept, and when they are made again."

import pandas as pd
import pytest

from mmpc_analysis import store, tables
from mmpc_analysis import store as resume
from mmpc_analysis.store import cached_table


class Maker:
    "Makes a table and counts how often."

    def __init__(self, **more):
        self.made, self.more = 0, more

    def __call__(self):
        self.made += 1
        frame = pd.DataFrame({"item_id": ["a", "b"], "category": ["Toys", "Tools"]})
        frame.attrs = {"left_out": 3} | self.more
        return frame


def ask(out, make, inputs=(1, {"seed": 0})):
    return cached_table(str(out), tables.ITEMS, list(inputs), make)


def test_the_same_question_is_answered_from_disk_with_its_notes(tmp_path):
    make = Maker()
    first, second = ask(tmp_path, make), ask(tmp_path, make)
    assert make.made == 1
    pd.testing.assert_frame_equal(first, second)
    assert first.attrs == second.attrs == {"left_out": 3}


@pytest.mark.parametrize("other", [(2, {"seed": 0}), (1, {"seed": 1}), (1,), ("1", {"seed": 0})])
def test_another_question_is_not(tmp_path, other):
    make = Maker()
    ask(tmp_path, make)
    ask(tmp_path, make, other)
    assert make.made == 2


def test_another_version_is_another_question(tmp_path, monkeypatch):
    make = Maker()
    ask(tmp_path, make)
    monkeypatch.setattr(resume, "__version__", "0.0.0")
    ask(tmp_path, make)
    assert make.made == 2


@pytest.mark.parametrize("spoil", ["value", "rows", "gone", "manifest", "extra"])
def test_a_table_changed_on_disk_is_made_again(tmp_path, spoil):
    make, folder = Maker(), str(tmp_path / "items")
    whole = ask(tmp_path, make)
    (shard,) = (tmp_path / "items").glob("*.parquet")
    if spoil == "value":
        store.write_shard(whole.assign(category="Other"), tables.ITEMS, folder)
    elif spoil == "rows":
        store.write_shard(whole[:1], tables.ITEMS, folder)
    elif spoil == "gone":
        shard.unlink()
    elif spoil == "manifest":
        (manifest,) = (tmp_path / "manifests").glob("*.json")
        manifest.unlink()
    else:
        store.write_shard(whole.assign(item_id=["c", "d"]), tables.ITEMS, folder, "extra")
    again = ask(tmp_path, make)
    assert make.made == 2
    pd.testing.assert_frame_equal(again, whole)
    pd.testing.assert_frame_equal(ask(tmp_path, make), whole)
    assert make.made == 2


def test_a_file_cut_short_is_made_again(tmp_path):
    make = Maker()
    whole = ask(tmp_path, make)
    (shard,) = (tmp_path / "items").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:40])
    pd.testing.assert_frame_equal(ask(tmp_path, make), whole)
    assert make.made == 2


def test_what_is_not_its_declaration_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="no column 'category'"):
        ask(tmp_path, lambda: pd.DataFrame({"item_id": ["a"]}))
    assert not list(tmp_path.rglob("*.parquet"))


def test_another_schema_is_another_question_and_another_table(tmp_path, monkeypatch):
    make, folder = Maker(), str(tmp_path / "items")
    ask(tmp_path, make)
    monkeypatch.setattr(resume, "SCHEMA", tables.SCHEMA + 1)
    with pytest.raises(
        store.SchemaError, match=f"written with schema {tables.SCHEMA}.*--out {tmp_path} makes"
    ):
        store.read_shards(folder, tables.ITEMS)
    ask(tmp_path, make)
    assert make.made == 2 and len(store.read_shards(folder, tables.ITEMS)) == 2


@pytest.mark.parametrize("place", ["", "memory://opened/run"])
def test_a_table_lies_alone_in_its_folder(tmp_path, place):
    import polars

    run = place or str(tmp_path / "run")
    whole = store.cached_table(run, tables.ITEMS, [1], Maker())
    assert store.list_files(f"{run}/items", "") == store.list_files(f"{run}/items", ".parquet")
    manifest = store.read_manifest(f"{run}/items")
    assert (manifest["rows"], manifest["schema"]) == (2, tables.SCHEMA)
    assert store.read_json(f"{run}/manifests/items.json") == manifest
    if not place:
        frames = (pd.read_parquet(f"{run}/items"), polars.read_parquet(f"{run}/items").to_pandas())
        assert [frame["item_id"].tolist() for frame in frames] == [whole["item_id"].tolist()] * 2
