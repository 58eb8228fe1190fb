"""VBPR against numbers that MMRec's own code gave (tests/data/mmrec), and what must hold for any data."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrec_cases import DATA, close, features_of, small

from mmpc_analysis.recommendation.collaborative import VBPR, VBPRSettings, guarded_bpr_loss

CASES = sorted(p.stem for p in DATA.glob("vbpr_*.npz"))
NAMES = {
    "users": "u_embedding",
    "items": "i_embedding",
    "weight": "item_linear.weight",
    "bias": "item_linear.bias",
}


def started(case):
    "A model of 64 bits with MMRec's first numbers, the fixture and what its JSON says."
    found, said = np.load(DATA / f"{case}.npz"), json.loads((DATA / f"{case}.json").read_text("utf-8"))
    data, split = small()
    chosen = VBPRSettings(
        embedding_size=said["hyper"]["embedding_size"], reg_weight=said["hyper"]["reg_weight"]
    )
    model = VBPR(split, features_of(case, data), chosen).double()
    model.load_state_dict({ours: torch.tensor(found[f"param/{theirs}"]) for ours, theirs in NAMES.items()})
    return model, found, said


def batch(found):
    return [torch.tensor(found[f"batch/{name}"], dtype=torch.int64) for name in ("users", "pos", "neg")]


def test_every_fixture_is_there():
    assert {"vbpr_both", "vbpr_image", "vbpr_text", "vbpr_zero"} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_features_are_laid_out_as_in_mmrec(case):
    model, found, _ = started(case)
    np.testing.assert_array_equal(model.features.float().numpy(), found["buffer/item_raw_features"])


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_one_step_and_scores_are_mmrecs(case):
    model, found, said = started(case)
    assert set(model.state_dict()) == set(NAMES)
    users = torch.tensor(found["predict/users"], dtype=torch.int64)

    def scores():
        of_users, of_items = model.vectors()
        return of_users[users] @ of_items.T

    close(scores(), found["predict64/initial"])
    cost = model.losses(*batch(found))
    for ours, theirs in {"bpr": "bpr", "reg": "reg_unweighted", "total": "total"}.items():
        assert cost[ours].item() == pytest.approx(said["loss64"][theirs], abs=1e-10)
    adam = torch.optim.Adam(model.parameters(), lr=said["hyper"]["learning_rate"])
    cost["total"].backward()
    for ours, theirs in NAMES.items():
        close(getattr(model, ours).grad, found[f"grad64/{theirs}"])
    adam.step()
    for ours, theirs in NAMES.items():
        close(getattr(model, ours), found[f"after64/{theirs}"])
    close(scores(), found["predict64/after"])


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


def test_single_precision_is_mmrecs_to_its_own_rounding():
    model, found, said = started("vbpr_both")
    cost = model.to(torch.float32).losses(*batch(found))
    assert cost["total"].item() == pytest.approx(said["loss"]["total"], abs=1e-6)


def test_first_numbers_have_mmrecs_spread_and_are_the_seeds():
    data, split = small()
    features = {"text": data["text_feat"]}
    one, two, other = (VBPR(split, features, seed=seed) for seed in (1, 1, 2))
    for name in NAMES:
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert not torch.equal(one.users, other.users)
    assert one.users.var().item() == pytest.approx(2 / (120 + 128), rel=0.05)
    assert one.items.abs().max().item() == pytest.approx((6 / (80 + 64)) ** 0.5, rel=0.01)
    assert one.weight.var().item() == pytest.approx(2 / (64 + 16), rel=0.15)
    assert not one.bias.any()


def test_the_global_generator_is_left_alone():
    data, split = small()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    VBPR(split, {"text": data["text_feat"]})
    assert torch.equal(before, torch.get_rng_state())


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(80)), st.integers(0, 2**31 - 1))
def test_renaming_the_items_renames_the_gradients(order, seed):
    data, split = small()
    order, features = np.array(order), {"text": data["text_feat"].astype(float)}
    place = torch.tensor(np.argsort(order))
    one = VBPR(split, features, VBPRSettings(4), seed=seed).double()
    two = VBPR(split, {"text": features["text"][order]}, VBPRSettings(4), seed=seed).double()
    with torch.no_grad():
        two.items.copy_(one.items[torch.tensor(order)])
    rng = np.random.default_rng(seed)
    users, p, n = (torch.tensor(rng.integers(m, size=30)) for m in (120, 80, 80))
    ours, theirs = one.losses(users, p, n), two.losses(users, place[p], place[n])
    assert ours["total"].item() == pytest.approx(theirs["total"].item(), abs=1e-12)
    ours["total"].backward(), theirs["total"].backward()
    close(one.items.grad[torch.tensor(order)], two.items.grad.numpy(), 1e-12)
    close(one.weight.grad, two.weight.grad.numpy(), 1e-12)


def test_the_guard_bounds_the_loss_and_its_gradient():
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    cost = guarded_bpr_loss(far)
    cost.backward()
    assert cost.item() == pytest.approx(-np.log(1e-10) / 2, rel=1e-6) and far.grad.isfinite().all()


def test_all_zero_features_train_without_nan():
    _, split = small()
    model = VBPR(split, {"text": np.zeros((80, 16)), "image": np.zeros((80, 24))}, VBPRSettings(8))
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    pairs = torch.tensor(split.train)
    for step in range(20):
        adam.zero_grad()
        total = model.losses(pairs[:, 0], pairs[:, 1], (pairs[:, 1] + 1 + step) % 80)["total"]
        total.backward()
        adam.step()
    assert total.isfinite() and all(p.isfinite().all() for p in model.parameters())
