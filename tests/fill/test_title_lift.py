"""Other titles for the rank of a lift: whose they are, in which order, and what the rank is."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpc_analysis.fill.title_lift import draw_distractors, lift_share, title_answer


def shop(n=60, categories=3, listings=20):
    return pd.DataFrame(
        {
            "item_id": [f"i{at}" for at in range(n)], "category": [f"c{at % categories}" for at in range(n)],
            "title": [f"title {at}" for at in range(n)], "parent_id": [f"p{at % listings}" for at in range(n)],
        }
    )  # fmt: skip


def texts(drawn, titles):
    return [[titles["title"][at] for at in row if at >= 0] for row in drawn]


def test_distractors_are_others_of_the_category_and_never_of_the_listing():
    items = shop()
    for row, item in zip(draw_distractors(items, items, 8), items.itertuples(), strict=True):
        chosen = items.iloc[row]
        assert len(set(chosen["title"])) == 8 and (chosen["category"] == item.category).all()
        assert item.item_id not in set(chosen["item_id"]) and item.parent_id not in set(chosen["parent_id"])


def test_other_categories_follow_where_one_has_too_few():
    items = shop(12, categories=4, listings=12)
    for row, item in zip(draw_distractors(items, items, 5), items.itertuples(), strict=True):
        assert [kind == item.category for kind in items["category"].iloc[row]] == [True] * 2 + [False] * 3
    few = draw_distractors(items, items, 20)
    assert ((few >= 0).sum(1) == 11).all() and (few[:, 11:] == -1).all()


def test_gaps_and_known_ones_are_served_alike():
    titles = shop()
    gap = titles.assign(title=None)
    assert (draw_distractors(gap, titles, 8) == draw_distractors(titles, titles, 8)).all()
    stranger = gap.assign(item_id="new " + gap["item_id"], parent_id=None)
    assert (draw_distractors(stranger, titles, 8) >= 0).all()


def test_the_order_of_rows_changes_nothing():
    items = shop()
    plain = texts(draw_distractors(items, items, 6), items)
    mixed = items.sample(frac=1, random_state=1).reset_index(drop=True)
    turned = texts(draw_distractors(mixed, mixed, 6), mixed)
    assert [plain[items["item_id"].tolist().index(i)] for i in mixed["item_id"]] == turned
    assert plain != texts(draw_distractors(items, items, 6, seed=1), items)


def test_titles_that_are_none_and_titles_twice_count_once():
    items = shop(6, categories=1, listings=6)
    titles = items.assign(title=["Mug", "Mug", "", None, " \n", "Kite"])
    assert [sorted(some) for some in texts(draw_distractors(items, titles, 5), titles)] == [["Kite", "Mug"]] * 5 + [["Mug"]]  # fmt: skip
    odd = items.assign(category=None, parent_id=float("nan"))
    assert ((draw_distractors(odd, odd, 9) >= 0).sum(1) == 5).all()


def test_every_title_is_drawn_about_equally_often():
    titles = shop(50, categories=1, listings=50)
    asked = pd.DataFrame({"item_id": [f"gap {at}" for at in range(4000)], "category": "c0"})
    counts = np.bincount(draw_distractors(asked, titles, 5).ravel(), minlength=50)
    # Of 4000 starts each title is passed by 5 of 50: mean 400, standard deviation sqrt(4000 * 0.1 * 0.9) = 19
    assert counts.min() > 400 - 5 * 19 and counts.max() < 400 + 5 * 19


@given(st.lists(st.floats(-5, 5), min_size=1), st.floats(-5, 5))
def test_the_rank_is_a_share(others, own):
    share = lift_share(own, np.array(others))
    assert 0 <= share <= 1
    assert share == pytest.approx(1 - lift_share(-own, -np.array(others)), abs=1e-12)
    assert share == pytest.approx(lift_share(own, np.array([*others, math.nan])), abs=0)


def test_a_rank_without_anything_to_compare_is_unknown():
    assert math.isnan(lift_share(math.nan, [1.0])) and math.isnan(lift_share(1.0, [])) and math.isnan(lift_share(1.0, [math.nan]))  # fmt: skip
    assert lift_share(2.0, [2.0, 2.0, 1.0, 3.0]) == 0.5


@pytest.mark.parametrize("title", ['Mug "big"', "Café \\ bar", "杯子", "</s>", "a\tb"])
def test_a_title_as_an_answer_is_that_title_again(title):
    text = title_answer(title)
    assert json.loads(text) == {"title": title} and "\n" not in text
    assert "\\u" not in text or title == "a\tb"  # A model writes letters, not their numbers


def test_columns_and_numbers_are_checked():
    items = shop(4)
    with pytest.raises(ValueError, match="titles has no column 'category'"):
        draw_distractors(items, items.drop(columns="category"))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        draw_distractors(items, items, 0)
