"""Pictures that go into a page: once each, within a budget, and told where they are missing."""

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmpc_analysis.fill.review_pictures import review_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Six pictures of noise, a flat one, a broken file and a file outside the folder."
    outer = tmp_path_factory.mktemp("pictures")
    root, rng = outer / "shop", np.random.default_rng(0)
    root.mkdir()
    for n in range(6):
        Image.fromarray(rng.integers(0, 255, (500, 250, 3), dtype=np.uint8)).save(root / f"{n}.png")
    Image.new("RGBA", (20, 10), (255, 0, 0, 0)).save(root / "clear.png")
    (root / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(outer / "secret.png")
    return str(root)


def sizes(found):
    return [Image.open(BytesIO(b64decode(uri.split(",")[1]))).size for uri in found.uris]


def test_each_picture_stands_there_once_and_small(folder):
    found = review_pictures(["0.png", "clear.png", "0.png"], folder)
    assert found.shown == [0, 1, 0] and found.absent == ["", "", ""]
    assert sizes(found) == [(160, 320), (20, 10)]  # 250 x 500 scaled by 320 / 500; a small one stays small
    clear = Image.open(BytesIO(b64decode(found.uris[1].split(",")[1]))).convert("RGB")
    assert min(clear.getpixel((5, 5))) > 240  # What is transparent is white


def test_rows_without_a_picture_say_why(folder):
    found = review_pictures([None, "", "broken.png", "none.png", "../secret.png", "1.png"], folder)
    assert found.shown == [None] * 5 + [0]
    assert found.absent[:2] == ["This product has no picture."] * 2
    assert all(words.startswith("No picture: ") for words in found.absent[2:5])


@pytest.mark.parametrize("budget", [10**7, 200_000, 100_000, 40_000, 5_000, 0])
def test_the_budget_is_kept(folder, budget):
    names = [f"{n}.png" for n in range(6)]
    found = review_pictures(names, folder, budget)
    assert sum(len(uri.split(",")[1]) for uri in found.uris) <= budget
    assert found.shown == [n if n < len(found.uris) else None for n in range(6)]
    for name, place, words in zip(names, found.shown, found.absent, strict=True):
        assert (words == "") if place is not None else words.endswith(f"Its file is {name}")


def test_pictures_become_smaller_before_any_is_left_out(folder):
    names = [f"{n}.png" for n in range(6)]
    large = sum(len(uri) for uri in review_pictures(names, folder).uris)
    found = review_pictures(names, folder, large // 2)
    assert found.side < 320 and len(found.uris) == 6
    assert {max(size) for size in sizes(found)} == {found.side}


def test_a_budget_below_nothing_is_refused(folder):
    with pytest.raises(ValueError, match="0 or more bytes"):
        review_pictures(["0.png"], folder, -1)
