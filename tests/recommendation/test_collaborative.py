"""The floors, VBPR and what all recommenders share, against MMRec's own numbers, dense computations, scikit-learn, scipy's distributions and the papers' formulas."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrec_cases import DATA, close, features_of, small
from scipy.stats import kstest
from sklearn.metrics.pairwise import cosine_similarity

from mmpc_analysis.recommendation.collaborative import (
    BPR,
    VBPR,
    BPRSettings,
    ItemKNNSettings,
    LightGCN,
    LightGCNSettings,
    TensorModule,
    VBPRSettings,
    batch_rows,
    bpr_loss,
    co_purchases,
    feature_tensors,
    guarded_bpr_loss,
    item_knn,
    linear_uniform,
    popularity,
    xavier_normal,
    xavier_uniform,
)
from mmpc_analysis.recommendation.ranking import rank
from mmpc_analysis.recommendation.splits import Split, split_of_codes
from mmpc_analysis.store import hash_unit

NOTHING = np.empty((0, 2), dtype=int)
CASES = sorted(p.stem for p in DATA.glob("vbpr_*.npz"))
NAMES = {
    "users": "u_embedding",
    "items": "i_embedding",
    "weight": "item_linear.weight",
    "bias": "item_linear.bias",
}


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def shop(seed=0, users=30, items=20, share=0.2):
    "A split of a random shop, and its dense purchase matrix."
    bought = np.random.default_rng(seed).random((users, items)) < share
    return split_of_codes(np.argwhere(bought), NOTHING, NOTHING, users, items), bought.astype(float)


# ---------------------------------------------------------------- first numbers


@pytest.mark.parametrize(("rows", "columns"), [(300, 50), (50, 300), (1, 9000)])
def test_initialisers_have_the_distributions_they_name(rows, columns):
    spread = np.sqrt(2 / (rows + columns))
    bound = np.sqrt(3) * spread
    assert kstest(xavier_normal(rows, columns, draw(1)).ravel().numpy() / spread, "norm").pvalue > 1e-3
    numbers = xavier_uniform(rows, columns, draw(2)).ravel().numpy()
    assert kstest(numbers, "uniform", args=(-bound, 2 * bound)).pvalue > 1e-3
    weight, bias = linear_uniform(rows, columns, draw(3))
    bound = columns**-0.5
    assert kstest(weight.ravel().numpy(), "uniform", args=(-bound, 2 * bound)).pvalue > 1e-3
    assert bias.abs().max() <= bound and tuple(bias.shape) == (rows,)


def test_linear_uniform_is_torchs_own_start():
    "torch draws from its global generator; with that one seeded the two are equal number by number."
    before = torch.get_rng_state()
    torch.manual_seed(11)
    layer = torch.nn.Linear(7, 5)
    torch.set_rng_state(before)
    weight, bias = linear_uniform(5, 7, draw(11))
    assert torch.equal(weight, layer.weight) and torch.equal(bias, layer.bias)


# ---------------------------------------------------------------- arrays and features


def test_a_copy_of_a_model_is_independent():
    split, _ = shop()
    model = LightGCN(split, settings=LightGCNSettings(4), seed=1)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.users.add_(1)
    assert torch.equal(model.users + 1, twin.users) and twin.settings == model.settings
    assert torch.equal(torch.rand(3, generator=model.generator), torch.rand(3, generator=twin.generator))


def test_what_is_kept_is_neither_learned_nor_stored():
    box = TensorModule()
    box.learn(one=torch.ones(2))
    box.keep(two=torch.ones(3))
    box.double()
    assert [n for n, _ in box.named_parameters()] == ["one"] == list(box.state_dict())
    assert box.two.dtype == torch.float64 and isinstance(box.one, torch.nn.Parameter)
    with pytest.raises(AttributeError, match="three"):
        box.three  # noqa: B018


def test_features_are_copied_and_ordered_and_refused():
    rows = {"image": np.ones((3, 2)), "text": np.zeros((3, 1), dtype=np.float32)}
    found = feature_tensors(rows, 3)
    found["image"].zero_(), found["text"].add_(1)
    assert rows["image"].all() and not rows["text"].any() and list(found) == ["text", "image"]
    for bad in (np.inf, -np.inf, np.nan, 1e300):
        with (
            pytest.raises(ValueError, match="not finite for 1 items, such as row 2"),
            np.errstate(over="ignore"),
        ):
            feature_tensors({"text": np.array([[1.0], [2.0], [bad]])}, 3)
    with pytest.raises(ValueError, match="shape"):
        feature_tensors({"text": np.ones((3, 0))}, 3)
    with pytest.raises(ValueError):
        feature_tensors({"text": np.array([["a"], ["b"], ["c"]])}, 3)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(10, 40))
def test_touched_rows_are_dealt_back_to_their_places(codes, n):
    table, codes = torch.arange(float(n)), torch.tensor(codes)
    rows, places = batch_rows(codes, n)
    assert torch.equal(table[rows][places], codes.float())
    assert len(table[rows]) == (n if len(codes) >= n else len(set(codes.tolist())))


# ---------------------------------------------------------------- floors


def test_popularity_counts_train_only():
    split = split_of_codes(np.array([[0, 1], [1, 1], [1, 2]]), np.array([[0, 2]]), np.array([[0, 0]]), 2, 4)
    scores = popularity(split).score_block(np.array([1, 0, 1]))
    assert scores.tolist() == [[0, 2, 1, 0]] * 3
    scores[0] = 9
    assert popularity(split).score_block(np.array([0])).max() == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25), st.integers(1, 30), st.floats(0.02, 0.9))
def test_neighbours_are_scikit_learns_whatever_the_block(seed, k, block, share):
    split, bought = shop(seed, 15, 20, share)
    cosine = cosine_similarity(bought.T)
    np.fill_diagonal(cosine, 0)
    found = co_purchases(split, k, block).toarray()
    for row, all_of_it in zip(found, cosine, strict=True):
        order = np.lexsort((np.arange(20), -all_of_it.round(12)))[:k]
        expected = np.zeros(20)
        expected[order] = all_of_it[order]
        np.testing.assert_allclose(np.sort(row), np.sort(expected), atol=1e-12)
        np.testing.assert_allclose(row[row > 0], all_of_it[row > 0], atol=1e-12)
    users = np.arange(15)
    scores = item_knn(split, ItemKNNSettings(k)).score_block(users)
    np.testing.assert_allclose(scores, bought @ found, atol=1e-12)


def test_ties_among_neighbours_go_to_the_smaller_hash_of_the_id():
    split = split_of_codes(np.array([[0, i] for i in range(6)]), NOTHING, NOTHING, 1, 6)
    found = co_purchases(split, 2, block=4).toarray()
    order = sorted(range(6), key=lambda item: hash_unit("tie", split.items[item]))
    expected = [sorted([other for other in order if other != item][:2]) for item in range(6)]
    assert [np.flatnonzero(row).tolist() for row in found] == expected


# ---------------------------------------------------------------- learned models


def test_bpr_gradients_are_the_papers():
    "Rendle et al. (2009), theorem 4.1 and section 4.3: each triple pulls by 1 - sigmoid(x), here over the batch."
    split, _ = shop()
    model = BPR(split, settings=BPRSettings(5, reg_weight=0.3), seed=2).double()
    rng = np.random.default_rng(4)
    u, p, n = (rng.integers(m, size=16) for m in (30, 20, 20))
    users, items = (a.detach().numpy() for a in (model.users, model.items))
    of_users, of_items, cost = np.zeros_like(users), np.zeros_like(items), 0
    for a, b, c in zip(u, p, n, strict=True):
        ahead = users[a] @ (items[b] - items[c])
        pull = 1 / (1 + np.exp(ahead))
        of_users[a] += -pull * (items[b] - items[c]) + 0.3 * users[a]
        of_items[b] += -pull * users[a] + 0.3 * items[b]
        of_items[c] += pull * users[a] + 0.3 * items[c]
        cost += np.log1p(np.exp(-ahead)) + 0.15 * (
            users[a] @ users[a] + items[b] @ items[b] + items[c] @ items[c]
        )
    parts = model.losses(*map(torch.tensor, (u, p, n)))
    parts["total"].backward()
    assert parts["total"].item() == pytest.approx(cost / 16, abs=1e-12)
    np.testing.assert_allclose(model.users.grad.numpy(), of_users / 16, atol=1e-12)
    np.testing.assert_allclose(model.items.grad.numpy(), of_items / 16, atol=1e-12)


def test_the_loss_is_torchs_log_sigmoid():
    one, two, three = (torch.randn(40, 6, generator=draw(s), dtype=torch.float64) * 5 for s in (1, 2, 3))
    expected = -torch.nn.functional.logsigmoid((one * two).sum(1) - (one * three).sum(1)).mean()
    assert bpr_loss(one, two, three).item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_lightgcn_is_the_dense_computation(layers):
    split, bought = shop(3)
    model = LightGCN(split, settings=LightGCNSettings(6, layers, 0.2), seed=2).double()
    adjacency = torch.zeros(50, 50, dtype=torch.float64)
    adjacency[:30, 30:] = torch.tensor(bought)
    adjacency = adjacency + adjacency.T
    scale = (adjacency.sum(1) + 1e-7).rsqrt()
    graph = scale[:, None] * adjacency * scale
    start = torch.cat([model.users, model.items]).detach().requires_grad_()
    layer = total = start
    for _ in range(layers):
        layer = graph @ layer
        total = total + layer
    flowed = total / (layers + 1)
    u, p, n = (
        torch.tensor(np.random.default_rng(s).integers(m, size=25)) for s, m in enumerate((30, 20, 20))
    )
    x = (flowed[u] * (flowed[30 + p] - flowed[30 + n])).sum(1)
    squares = sum((start[rows] ** 2).sum() for rows in (u, 30 + p, 30 + n)) / 2 / 25
    expected = -torch.log(torch.sigmoid(x)).mean() + 0.2 * squares
    expected.backward()
    cost = model.losses(u, p, n)["total"]
    cost.backward()
    assert cost.item() == pytest.approx(expected.item(), abs=1e-7)
    ours = torch.cat([model.users.grad, model.items.grad])
    assert (ours - start.grad).abs().max() < 1e-7
    assert (torch.cat(model.vectors()) - flowed).abs().max() < 1e-7


def test_an_empty_shop_has_models_too():
    split = split_of_codes(NOTHING, NOTHING, NOTHING, 3, 4)
    assert not item_knn(split).score_block(np.arange(3)).any()
    assert not popularity(split).score_block(np.arange(3)).any()
    model = LightGCN(split, settings=LightGCNSettings(2))
    assert all(v.isfinite().all() for v in model.vectors())


# ---------------------------------------------------------------- VBPR against MMRec


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


# ---------------------------------------------------------------- equal items


def renamed(split, new):
    "The same purchases with other ids of the items."
    order = np.argsort(new)
    place = np.argsort(order)
    parts = [
        np.column_stack([part[:, 0], place[part[:, 1]]]) for part in (split.train, split.valid, split.test)
    ]
    return Split(split.users, np.array(new, dtype=object)[order], *parts)


@pytest.mark.parametrize("scorer", [popularity, lambda s: item_knn(s, ItemKNNSettings(3))])
def test_names_do_not_choose_among_items_that_are_equal(scorer):
    "Items bought equally often: a quarter of the lists is of the last quarter of the ids, whatever they are called."
    users, items = 80, 80
    pairs = [np.column_stack([np.arange(users), (np.arange(users) + k) % items]) for k in (0, 1, 2)]
    plain = split_of_codes(*pairs, users, items)
    shares = []
    for names in (plain.items, plain.items[::-1], np.random.default_rng(1).permutation(plain.items)):
        split = renamed(plain, names)
        top = rank(scorer(split), split, cuts=(20,)).top
        shares.append(np.mean(top >= 60))
    assert all(0.1 <= share <= 0.45 for share in shares), shares


def test_neighbours_that_are_equal_are_not_the_first_by_name():
    "One item is bought with thirty others once each; ten neighbours are kept, not the ten first names."
    train = np.array([pair for user in range(30) for pair in ((user, 0), (user, user + 1))])
    split = split_of_codes(train, train[:0], train[:0], 30, 31)
    kept = co_purchases(split, 10)[[0]].nonzero()[1]
    assert len(kept) == 10 and set(kept) != set(range(1, 11)) and kept.mean() > 8
