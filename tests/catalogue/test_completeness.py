"""How many products lack a title or a picture: against a count by hand and by another way."""

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.catalogue.completeness import completeness, gap_sentence
from mmpc_analysis.catalogue.items import load_catalogue


def test_against_a_loop_over_the_items():
    rng = np.random.default_rng(1)
    items = pd.DataFrame({"category": rng.choice(["a", "b", "c"], 500)}).astype(object)
    items["title"] = [None if x < 0.3 else "t" for x in rng.random(500)]
    items["image"] = [None if x < 0.2 else "i" for x in rng.random(500)]
    found = completeness(items)
    assert found.index.tolist() == ["a", "b", "c", "all"] and found.index.name == "category"
    for name, row in found.iterrows():
        some = [r for r in items.itertuples() if name in ("all", r.category)]
        assert row["items"] == len(some)
        assert row["titles"] == sum(pd.notna(r.title) for r in some) == row["items"] - row["no_title"]
        assert row["pictures"] == sum(pd.notna(r.image) for r in some) == row["items"] - row["no_picture"]
        assert row["both"] == sum(pd.notna(r.title) and pd.notna(r.image) for r in some)


def test_a_shop_with_16_products_without_a_title_says_so(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    titles = ["", "N/A", "<br>", "\u200b"] * 4 + [f"Mug {k}" for k in range(24)]
    rows = [f"{k},{title},{'p.png' if k % 4 else ''}" for k, title in enumerate(titles)]
    rows += [f"x{k},,p.png" for k in range(4)]  # Of the 16, four had no picture either
    (tmp_path / "shop.csv").write_text("\n".join(["sku,title,picture", *rows]), "utf-8")
    catalogue = load_catalogue(tmp_path / "shop.csv")
    assert completeness(catalogue.items).loc["all"].tolist() == [40, 24, 34, 18, 16, 6]
    assert "without a title: 16; without a picture: 6; with both: 18." in catalogue.note
    lost = catalogue.set_aside[~catalogue.set_aside["kept"].astype(bool)]
    assert lost["item_id"].tolist() == ["0", "4", "8", "12"]
    assert (lost["reason"] == "has neither title nor picture").all()


def test_an_empty_table_has_no_gaps_and_a_table_without_columns_is_refused():
    empty = pd.DataFrame({"category": [], "title": [], "image": []}, dtype=object)
    assert completeness(empty).loc["all"].tolist() == [0] * 6
    assert gap_sentence(empty).startswith("Products: 0;")
    with pytest.raises(ValueError, match="no column 'title'; it has category, image"):
        completeness(empty.drop(columns="title"))
