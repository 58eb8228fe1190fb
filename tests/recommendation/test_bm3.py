"""BM3 against numbers that MMRec's own code gave (tests/data/recommendation/mmrec), and what must hold for any data."""

import json

import numpy as np
import pytest
import torch
from mmrec_cases import DATA, close, features_of, small

from mmpc_analysis.recommendation.bm3 import BM3, BM3Settings, disagreement
from mmpc_analysis.recommendation.graphs import graph_of_edges

CASES = sorted(p.stem for p in DATA.glob("bm3_*.npz"))
NAMES = {
    "users": "user_embedding.weight",
    "items": "item_id_embedding.weight",
    "predictor_weight": "predictor.weight",
    "predictor_bias": "predictor.bias",
    "text": "text_embedding.weight",
    "text_weight": "text_trs.weight",
    "text_bias": "text_trs.bias",
    "image": "image_embedding.weight",
    "image_weight": "image_trs.weight",
    "image_bias": "image_trs.bias",
}
PARTS = {
    "user": "user_online_vs_item_target(loss_ui)",
    "item": "item_online_vs_user_target(loss_iu)",
    "text_align": "text_vs_item(loss_t)",
    "text_mask": "text_vs_text(loss_tv)",
    "image_align": "image_vs_item(loss_v)",
    "image_mask": "image_vs_image(loss_vt)",
    "reg": "reg_unweighted",
    "total": "total",
}
MASKS = {"users": "user_target", "items": "item_target", "text": "text_target", "image": "image_target"}


def started(case, dumped_graph=True):
    "A model of 64 bits with MMRec's first numbers and masks, the fixture, and what its JSON says."
    found, said = np.load(DATA / f"{case}.npz"), json.loads((DATA / f"{case}.json").read_text("utf-8"))
    data, split = small()
    names = ("embedding_size", "n_layers", "dropout", "reg_weight", "cl_weight")
    chosen = BM3Settings(**{name: said["hyper"][name] for name in names})
    model = BM3(split, features_of(case, data), chosen)
    for name in model.modalities:
        np.testing.assert_array_equal(getattr(model, name).detach().numpy(), found[f"param/{NAMES[name]}"])
    model.double()
    assert set(model.state_dict()) == {ours for ours, theirs in NAMES.items() if f"param/{theirs}" in found}
    model.load_state_dict({ours: torch.tensor(found[f"param/{NAMES[ours]}"]) for ours in model.state_dict()})
    if dumped_graph:
        model.graphs["purchases"] = dumped(found)
    if chosen.dropout:
        masks = {ours: torch.tensor(found[f"dropout_keep/{theirs}"]) for ours, theirs in MASKS.items()}
        model.keep_mask = lambda name, rows, like: masks[name][rows]
    return model, found, said


def dumped(found):
    (rows, columns), values, shape = (
        found[f"graph/norm_adj/{name}"] for name in ("indices", "values", "shape")
    )
    return graph_of_edges(rows, columns, values, tuple(shape), dtype=torch.float64)


def batch(found):
    return [torch.tensor(found[f"batch/{name}"], dtype=torch.int64) for name in ("users", "pos")]


def scores(model, found):
    users = torch.tensor(found["predict/users"], dtype=torch.int64)
    of_users, of_items = model.vectors()
    return of_users[users] @ of_items.T


def test_every_fixture_is_there():
    assert {"bm3_l1", "bm3_l1_drop0.3", "bm3_image", "bm3_text", "bm3_zero"} <= set(CASES)


@pytest.mark.parametrize(("dumped_graph", "within"), [(True, 1e-10), (False, 1e-7)])
@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_one_step_and_scores_are_mmrecs(case, dumped_graph, within):
    model, found, said = started(case, dumped_graph)
    close(scores(model, found), found["predict64/initial"], within)
    cost = model.losses(*batch(found))
    for ours, theirs in PARTS.items():
        assert (ours in cost) == (theirs in said["loss64"])
        if ours in cost:
            assert cost[ours].item() == pytest.approx(said["loss64"][theirs], abs=within)
    adam = torch.optim.Adam(model.parameters(), lr=said["hyper"]["learning_rate"])
    cost["total"].backward()
    for ours in model.state_dict():
        close(getattr(model, ours).grad, found[f"grad64/{NAMES[ours]}"], within)
    adam.step()
    for ours in model.state_dict():
        close(getattr(model, ours), found[f"after64/{NAMES[ours]}"], within)
    close(scores(model, found), found["predict64/after"], within)


@pytest.mark.parametrize("case", CASES)
def test_six_steps_cost_what_they_cost_mmrec(case):
    model, found, said = started(case)
    adam, costs = torch.optim.Adam(model.parameters(), lr=1e-3), []
    for _ in range(6):
        adam.zero_grad()
        total = model.losses(*batch(found))["total"]
        total.backward()
        adam.step()
        costs.append(total.item())
    assert costs == pytest.approx(said["loss_trajectory64_6_steps_same_batch"], abs=1e-10)


def test_first_numbers_have_mmrecs_spread_and_are_the_seeds():
    data, split = small()
    features = {"text": data["text_feat"], "image": data["image_feat"]}
    one, two, other = (BM3(split, features, seed=seed) for seed in (1, 1, 2))
    for name in NAMES:
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert not torch.equal(one.users, other.users)
    assert one.items.abs().max().item() == pytest.approx((6 / (80 + 64)) ** 0.5, rel=0.01)
    assert one.predictor_weight.var().item() == pytest.approx(2 / 128, rel=0.1)
    assert one.image_weight.var().item() == pytest.approx(2 / (64 + 24), rel=0.1)
    assert one.text_bias.abs().max().item() == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("dropout", [0.3, 0.8])
def test_what_is_dropped_has_its_share_and_nothing_else_moves(dropout):
    data, split = small()
    model = BM3(split, {"text": data["text_feat"]}, BM3Settings(dropout=dropout), seed=4)
    kept = model.keep_mask("users", ..., torch.zeros(2000, 64)).double()
    assert kept.mean().item() == pytest.approx(1 - dropout, abs=0.005)
    before = [v.clone() for v in model.vectors()]
    state = model.generator.get_state()
    model.losses(torch.arange(5), torch.arange(5))
    assert not torch.equal(state, model.generator.get_state())
    assert all(torch.equal(a, b) for a, b in zip(before, model.vectors(), strict=True))


def test_a_row_that_occurs_twice_has_one_mask():
    data, split = small()
    model = BM3(split, {"text": data["text_feat"]}, BM3Settings(dropout=0.5), seed=4)
    asked = []
    drawn = model.keep_mask
    model.keep_mask = lambda name, rows, like: asked.append((name, rows)) or drawn(name, rows, like)
    model.losses(torch.tensor([3, 3, 9]), torch.tensor([7, 2, 7]))
    assert {name: rows.tolist() for name, rows in asked} == {
        "users": [3, 9],
        "items": [2, 7],
        "text": [2, 7],
    }


def test_all_zero_features_train_without_nan():
    _, split = small()
    model = BM3(split, {"text": np.zeros((80, 16)), "image": np.zeros((80, 24))}, BM3Settings(8))
    adam, pairs = torch.optim.Adam(model.parameters(), lr=0.1), torch.tensor(split.train)
    for _ in range(20):
        adam.zero_grad()
        total = model.losses(pairs[:, 0], pairs[:, 1])["total"]
        total.backward()
        adam.step()
    assert total.isfinite() and all(p.isfinite().all() for p in model.parameters())


def test_a_target_gets_no_gradient():
    online, target = (
        torch.randn(3, 4, generator=torch.Generator().manual_seed(s), requires_grad=True) for s in (1, 2)
    )
    disagreement(online, target).backward()
    assert target.grad is None and online.grad.abs().sum() > 0
