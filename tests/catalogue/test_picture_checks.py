"""Pictures that have a good header and no pixels."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.catalogue.embedded import SET_ASIDE
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.picture_checks import undecodable


@pytest.fixture
def catalogue(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype="uint8")
    for name in ("whole.png", "cut.png", "cut.jpg", "float.tif"):
        Image.fromarray(noise).save(tmp_path / name)
    for name in ("cut.png", "cut.jpg"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:900])
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tif")
    rows = {
        "a": ("A", "whole.png"),
        "b": ("B", "cut.png"),
        "c": (None, "cut.jpg"),
        "d": ("D", None),
        "e": (None, "float.tif"),
    }
    table = pd.DataFrame([(i, *r) for i, r in rows.items()], columns=["id", "title", "image"])
    return load_catalogue(table, root=tmp_path)


def test_every_picture_that_cannot_be_decoded_is_named_with_its_reason(catalogue):
    assert catalogue.items["image"].notna().tolist() == [
        True,
        True,
        True,
        False,
        True,
    ]  # Their headers are good
    found = undecodable(catalogue, ["e", "d", "c", "b", "a"])
    assert found.columns.tolist() == SET_ASIDE
    assert found["item_id"].tolist() == ["e", "c", "b"] and found["kept"].tolist() == [False, False, True]
    assert (
        found["reason"].str.contains("cannot be decoded").all() and (found["remedy"] == "save it again").all()
    )


def test_only_the_items_that_are_asked_for_are_opened(catalogue):
    assert undecodable(catalogue, ["a", "d"]).empty and undecodable(catalogue, []).empty
    with pytest.raises(ValueError, match="item 'z' is not in catalogue"):
        undecodable(catalogue, ["a", "z"])
