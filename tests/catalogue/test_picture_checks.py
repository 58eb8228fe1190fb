"""A sheet of pictures for people: one for each item that is asked for, in that order."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.picture_checks import contact_sheet


@pytest.fixture
def catalogue(tmp_path):
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    rows = [("a", "Kite", "red.png"), ("b", "Ball", "blue.png"), ("c", "Cup", None)]
    return load_catalogue(pd.DataFrame(rows, columns=["id", "title", "image"]), root=tmp_path)


def test_pictures_stand_in_the_order_asked_for_and_a_gap_keeps_its_place(catalogue):
    sheet = np.asarray(contact_sheet(catalogue, ["b", "c", "a"], columns=3, size=40)).astype(int)
    third = sheet.shape[1] // 3
    centres = [sheet[20, third * place + third // 2] for place in range(3)]
    assert centres[0][2] > 200 and centres[0][0] < 50 and centres[2][0] > 200 and centres[2][2] < 50
    assert np.ptp(centres[1]) < 20  # Grey


def test_an_item_that_is_not_there_is_named(catalogue):
    with pytest.raises(ValueError, match="item 'z' is not in catalogue"):
        contact_sheet(catalogue, ["a", "z"])
