"Item sets counted by hand, and models that lose items to their engine."

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.scores.item_sets import headline_set, lost_items, shared_items
from mmpc_analysis.tables import TableError


def table(values, outcomes=None, role="model", metric="chrf", prompt="p"):
    "Scores of models a, b, c ... from an (items, models) array; None where an item was not asked."
    values, rows = np.asarray(values, dtype=object), []
    for j, name in enumerate("abcdefgh"[: values.shape[1]] if role == "model" else [role]):
        for i, value in enumerate(values[:, j]):
            outcome = "ok" if outcomes is None else outcomes[i][j]
            if value is not None:
                rows.append((f"i{i:03d}", name, float(value), outcome))
    frame = pd.DataFrame(rows, columns=["item_id", "model", "value", "outcome"])
    about = {"category": "Mugs", "task": "image_to_text", "role": role, "family": "F", "metric": metric}
    return frame.assign(level="word", prompt="" if role == "floor" else prompt, precision="", **about)


def with_losses(lost, models=2, items=100):
    "Equally good models; model b's engine lost the last items."
    hard = np.linspace(1, 0, items)[:, None].repeat(models, axis=1)
    hard[items - lost :, 1] = np.nan
    return table(hard, [["engine_error" if np.isnan(v) else "ok" for v in row] for row in hard])


def test_the_four_kinds_by_hand():
    nan = np.nan
    values = [[0.5, nan, 0.2], [0.5, nan, None], [0.5, 0.0, nan], [nan, nan, nan]]
    outcomes = [
        ["ok", "engine_error", "ok"],
        ["ok", "invalid", "ok"],
        ["ok", "refused", "engine_error"],
        ["ok"] * 3,
    ]
    found = lost_items(table(values, outcomes)).set_index("model")
    assert found["answered"].to_dict() == {"a": 3, "b": 1, "c": 1}
    assert found["lost"].to_dict() == {"a": 0, "b": 1, "c": 1}
    assert found["unknown"].to_dict() == {
        "a": 1,
        "b": 2,
        "c": 1,
    }  # b failed at a metric without a failure value
    assert found["unasked"].to_dict() == {"a": 0, "b": 0, "c": 1}
    assert found["share"].tolist() == pytest.approx([0, 1 / 4, 1 / 3]) and found["asked"].tolist() == [
        4,
        4,
        3,
    ]


@pytest.mark.parametrize(("lost", "inside"), [(0, True), (5, True), (6, False), (50, False), (100, False)])
def test_over_a_twentieth_lost_stands_apart(lost, inside):
    scores = with_losses(lost)
    found = shared_items(scores)
    assert ("b" in found.models) == inside and found.left_out == (() if inside else ("b",))
    assert len(found.items) == (100 - lost if inside else 100) and not found.use_mixed
    headline, sets = headline_set(scores)
    means = headline.groupby("model")["value"].mean()
    assert means.nunique() == 1  # Equally good, whoever is shown
    assert set(headline["model"]) == ({"a", "b"} if inside else {"a"})
    assert sets["left_out"].item() == ("" if inside else "b") and sets["items"].item() == len(found.items)


def test_a_loss_counts_whatever_number_stands_beside_it():
    scores = with_losses(50)
    for value in (0.0, 1.0):
        filled = scores.assign(value=scores["value"].fillna(value))
        assert shared_items(filled).left_out == ("b",) and lost_items(filled)["lost"].tolist() == [0, 50]


def test_failures_of_its_own_keep_a_model_in_and_its_items_common():
    values = np.full((40, 2), 0.5)
    values[20:, 1] = 0.0
    found = shared_items(table(values, [["ok", "invalid" if i >= 20 else "ok"] for i in range(40)]))
    assert found.models == ("a", "b") and len(found.items) == found.of == 40


def test_items_that_a_metric_knows_nothing_about_do_not_make_the_common_set_small():
    values = np.full((100, 2), np.nan)
    values[:20] = 0.5  # A fifth of the products has a brand
    found = shared_items(table(values, metric="brand_hit"))
    assert (len(found.items), found.of, found.share, found.use_mixed) == (20, 20, 1.0, False)
    nothing = shared_items(table(np.full((9, 2), np.nan)))
    assert nothing.of == 0 and np.isnan(nothing.share) and not nothing.use_mixed


@pytest.mark.parametrize(("missing", "mixed"), [(0.05, False), (0.2, True)])
def test_unasked_items_at_random_need_the_mixed_model_when_they_are_many(missing, mixed):
    rng = np.random.default_rng(0)
    values = rng.random((60, 5)).astype(object)
    values[rng.random((60, 5)) < missing] = None
    found = shared_items(table(values), least=0.7)
    complete = sum(all(v is not None for v in row) for row in values)
    assert len(found.items) == complete and found.left_out == () and found.use_mixed == mixed


def test_where_everybody_lost_too_much_only_the_mixed_model_is_left():
    values = np.random.default_rng(0).random((40, 2))
    outcomes = [["engine_error" if i % 4 == j else "ok" for j in range(2)] for i in range(40)]
    found = shared_items(table(values, outcomes))
    assert found.models == () and found.left_out == ("a", "b") and found.items == () and found.use_mixed
    assert headline_set(table(values, outcomes))[0].empty


def test_floors_and_ceiling_are_cut_to_the_items_and_choose_none():
    scores = with_losses(4)
    floor = table(np.full((110, 1), 0.3), role="floor")
    gap = table(np.full((50, 1), 1.0), role="ceiling")
    headline, sets = headline_set(pd.concat([scores, floor, gap]))
    counts = headline.groupby("model")["item_id"].nunique()
    assert counts.to_dict() == {"a": 96, "b": 96, "ceiling": 50, "floor": 96} and sets["of"].item() == 100
    assert headline_set(floor)[0].empty and headline_set(floor)[1].empty


def test_two_prompts_are_two_systems_and_blind_runs_are_counted_but_choose_nothing():
    full, short = with_losses(50), with_losses(0).assign(prompt="q")
    both = pd.concat([full, short, short.assign(role="blind", outcome="engine_error", value=np.nan)])
    lost = lost_items(both).set_index("model")
    assert lost.loc["b p", "lost"] == 50 and lost.loc["b q", "lost"] == 0
    assert lost.loc[lost["role"] == "blind", "lost"].tolist() == [100, 100]
    headline, sets = headline_set(both)
    assert sets["left_out"].item() == "b p" and sets["models"].item() == 3
    kept = headline[headline["role"] == "model"].groupby(["model", "prompt"]).size()
    assert kept.to_dict() == {("a", "p"): 100, ("a", "q"): 100, ("b", "q"): 100}


def test_tasks_and_metrics_have_their_own_items():
    one, two = with_losses(50), with_losses(0).assign(metric="bleu")
    sets = headline_set(pd.concat([one, two]))[1].set_index("metric")
    assert sets["models"].to_dict() == {"bleu": 2, "chrf": 1}
    with pytest.raises(ValueError, match="one task and one metric"):
        shared_items(pd.concat([one, two]))
    with pytest.raises(TableError, match="no column 'outcome'"):
        lost_items(one.drop(columns="outcome"))


def test_row_order_changes_nothing():
    scores = with_losses(4)
    shuffled = scores.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(lost_items(scores), lost_items(shuffled))
    assert shared_items(scores) == shared_items(shuffled)
