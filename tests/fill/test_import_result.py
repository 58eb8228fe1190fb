"""What the writers of import files share: which titles they take, where they write, and that half a file is none."""

import os

import pandas as pd
import pytest

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.fill.import_result import ImportFile, import_path, titles_to_import, written_whole


@pytest.fixture
def catalogue(tmp_path):
    rows = {
        "id": list("abc"),
        "title": ["Kite", None, None],
        "image": [f"https://a.b/{c}.jpg" for c in "abc"],
    }
    return load_catalogue(pd.DataFrame(rows), root=tmp_path)


def titles(**cells):
    return pd.DataFrame(
        {"item_id": ["b"], "title": ["Blue"], "model": "m", "confidence": 0.9, "checked": False} | cells
    )


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"item_id": ["x"]}, "of no product in the catalogue, the first 'x'"),
        ({"item_id": ["a"]}, "of a product that has a title, the first 'a'"),
        ({"title": [None]}, "without a title, the first 'b'"),
        ({"title": ["  "]}, "without a title"),
        ({"item_id": ["b", "b"], "title": ["1", "2"]}, "that repeats a product, the first 'b'"),
    ],
)
def test_titles_that_do_not_fit_are_refused(catalogue, cells, reason):
    with pytest.raises(ValueError, match=reason):
        titles_to_import(titles(**cells), catalogue)


@pytest.mark.parametrize(
    "title", ["=1+1", "@SUM(A1)", "\uff1d1", "a\nb", "a\x00b", "a\x85b", "a\u2028b", "a\ud800"]
)
def test_hostile_titles_are_left_out_and_told(catalogue, title):
    table = titles(item_id=["b", "c"], title=pd.Series([title, "Kite 5 m - red"], dtype="object"))
    kept, notes = titles_to_import(table, catalogue)
    assert kept["item_id"].tolist() == ["c"]
    assert len(notes) == 1 and " b; edit" in notes[0]


@pytest.mark.parametrize("name", ["", ".", "..", "../a.csv", "a/b.csv", "a\\b.csv", "a\nb.csv"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is no name for a file"):
        import_path("shop.csv", tmp_path, name)


def test_a_source_is_not_written_over_by_any_name(tmp_path):
    source = tmp_path / "shop.csv"
    source.write_text("id\n")
    os.link(source, tmp_path / "other.csv")
    for name in ("shop.csv", "other.csv"):
        with pytest.raises(ValueError, match="is never written over"):
            import_path(source, tmp_path, name)
    with pytest.raises(ValueError, match="is a file, and a folder is needed"):
        import_path(source, source)


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), written_whole(str(path)) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["a.csv"]
    with written_whole(str(path)) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole" and os.listdir(tmp_path) == ["a.csv"]


def test_a_result_does_not_change():
    with pytest.raises(AttributeError):
        ImportFile("a", "plain", 1, []).rows = 2
