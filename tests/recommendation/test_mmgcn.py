"""MMGCN against numbers that MMRec's own code gave (tests/data/recommendation/mmrec), as it is and as it was meant, and for any data."""

import json

import numpy as np
import pytest
import torch
from mmrec_cases import DATA, small

from mmpc_analysis.recommendation.graphs import neighbour_graph
from mmpc_analysis.recommendation.mmgcn import MMGCN, MMGCNSettings, bipartite_sides
from mmpc_analysis.recommendation.splits import split_of_codes

FOUND = np.load(DATA / "mmgcn.npz")
CASES = json.loads((DATA / "mmgcn.json").read_text("utf-8"))["cases"]
FORGOTTEN = {"ids", "text_preference", "image_preference"}  # What MMRec never gives to its optimiser
NONE = np.empty((0, 2), dtype=int)


def theirs(name):
    "MMRec's name of one of our arrays."
    if name == "ids":
        return "id_embedding"
    modality, part = name.split("_", 1)
    net = f"{modality[0].replace('i', 'v')}_gcn"
    if part in ("weight", "bias"):
        return f"{net}.MLP.{part}"
    if part == "preference":
        return f"{net}.preference"
    if part.startswith("gather"):
        return f"{net}.conv_embed_{part[-1]}.weight"
    layer, kind = part.split("_")
    return f"{net}.{ {'own': 'linear_layer', 'mix': 'g_layer'}[layer[:-1]] }{layer[-1]}.{kind}"


def started(case, **settings):
    "A model of 64 bits with MMRec's first numbers."
    data, split = small()
    image = data["image_feat"].copy()
    if case == "zero":
        image[data["zero_image_rows"]] = 0
    features = {"image": image} if case == "image" else {"image": image, "text": data["text_feat"]}
    hyper = CASES[case]["hyper"]
    chosen = MMGCNSettings(hyper["embedding_size"], reg_weight=hyper["reg_weight"], **settings)
    model = MMGCN(split, features, chosen).double()
    first = {}
    for name in model.state_dict():
        own = f"{case}/param/{theirs(name)}"
        first[name] = torch.tensor(FOUND[own if own in FOUND else f"param/{theirs(name)}"])
    model.load_state_dict(first)
    return model


def batch():
    return [torch.tensor(FOUND[f"batch/{name}"], dtype=torch.int64) for name in ("users", "pos", "neg")]


def scores(model):
    users, items = model.vectors()
    return (users[torch.tensor(FOUND["predict/users"], dtype=torch.int64)] @ items.T).detach().numpy()


def same(ours, key, within=1e-10):
    "Whether an array is MMRec's, of which a large one is stored by some rows and by the sum over all."
    ours = ours.detach().numpy()
    if key in FOUND:
        return np.abs(ours - FOUND[key]).max() < within
    rows = FOUND[f"{key}@rows"]
    picked = ours[:: max(1, len(ours) // 8)]
    return (
        max(np.abs(picked - rows).max(), np.abs(ours.sum(0) - FOUND[f"{key}@sum"]).max() / len(ours)) < within
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("frozen_tables", [False, True])
def test_losses_gradients_one_step_and_scores_are_mmrecs(case, frozen_tables):
    model = started(case, frozen_tables=frozen_tables)
    np.testing.assert_allclose(scores(model), FOUND[f"{case}/predict64/initial"], atol=1e-10, rtol=0)
    parts = model.losses(*batch())
    wanted = CASES[case]["loss64"]
    for name, said in (("bpr", "bpr"), ("reg", "reg_unweighted"), ("total", "total")):
        assert parts[name].shape == () and abs(parts[name].item() - wanted[said]) < 1e-10, name
    parts["total"].backward()
    learned = {name: array for name, array in model.named_parameters() if array.requires_grad}
    tables = FORGOTTEN & set(model.state_dict())
    assert set(model.state_dict()) - set(learned) == (tables if frozen_tables else set())
    for name, array in learned.items():
        assert same(array.grad, f"{case}/grad64/{theirs(name)}"), name
    before = {name: array.clone() for name, array in model.state_dict().items()}
    torch.optim.Adam(model.parameters(), lr=1e-3).step()
    for name, array in model.named_parameters():
        if name not in learned:
            assert torch.equal(array, before[name])
        elif f"{case}/after64/{theirs(name)}" in FOUND or f"{case}/after64/{theirs(name)}@sum" in FOUND:
            assert same(array, f"{case}/after64/{theirs(name)}"), name
        else:
            assert case != "both" and name in FORGOTTEN, name  # Only this case stores them after the step
    # MMRec scores with the vectors from before the step ("after" equals "initial"); these are the fresh ones
    key = "after_fresh_forward" if frozen_tables else "after_fixed_fresh_forward"
    np.testing.assert_allclose(scores(model), FOUND[f"{case}/predict64/{key}"], atol=1e-10, rtol=0)
    assert np.array_equal(FOUND[f"{case}/predict64/after"], FOUND[f"{case}/predict64/initial"])
    assert np.abs(scores(model) - FOUND[f"{case}/predict64/after"]).max() > 1e-6


@pytest.mark.parametrize("case", CASES)
def test_six_steps_on_one_batch_follow_mmrec_with_frozen_tables(case):
    model = started(case, frozen_tables=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for wanted in CASES[case]["loss_trajectory64_6_steps_same_batch"]:
        optimiser.zero_grad()
        total = model.losses(*batch())["total"]
        assert abs(total.item() - wanted) < 1e-10
        total.backward()
        optimiser.step()


def test_the_weight_of_the_regulariser_matters_unless_the_tables_are_frozen():
    "MMRec's gradients of mmgcn_both and mmgcn_reg0 are equal; ours differ in what is regularised, and only there."
    for frozen_tables in (True, False):
        grads = []
        for case in ("both", "reg0"):
            model = started(case, frozen_tables=frozen_tables)
            model.losses(*batch())["total"].backward()
            grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        differ = {name for name in grads[0] if not torch.equal(grads[0][name], grads[1][name])}
        assert differ == (set() if frozen_tables else {"ids", "image_preference"})


def test_zero_rows_give_finite_numbers():
    model = started("zero")
    model.losses(*batch())["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    _, split = small()
    blank = MMGCN(split, {"text": np.zeros((80, 4))}, MMGCNSettings(8))
    parts = blank.losses(*batch())
    parts["total"].backward()
    assert torch.isfinite(parts["total"]) and all(torch.isfinite(p.grad).all() for p in blank.parameters())


def test_the_mean_over_neighbours_has_mmrecs_edges():
    data, _ = small()
    graph = neighbour_graph(data["train"], 120, 80, torch.float64)
    to, at = FOUND["graph/edge_index"]
    assert {*zip(to.tolist(), at.tolist(), strict=True)} == {
        *zip(*(a.tolist() for a in graph.matrix().coalesce().indices()), strict=True)
    }
    to_users, to_items = bipartite_sides(graph, 120)
    whole = graph.matrix().to_dense()
    assert torch.equal(to_users.matrix().to_dense(), whole[:120, 120:])
    assert torch.equal(to_items.matrix().to_dense(), whole[120:, :120])
    assert torch.equal(to_users.transpose.matrix().to_dense(), whole[:120, 120:].T)
    assert torch.equal(to_items.transpose.matrix().to_dense(), whole[120:, :120].T)


# ---------------------------------------------------------------- for any data


def plain(model, features):
    "The published layers written out, all nodes at once, dense."
    import torch.nn.functional as F

    n_users, n_items = model.shape
    mean = torch.zeros(n_users + n_items, n_users + n_items, dtype=torch.float64)
    mean[:n_users, n_users:] = model.graphs["to_users"].matrix().to_dense()
    mean[n_users:, :n_users] = model.graphs["to_items"].matrix().to_dense()
    total = 0
    for name in model.modalities:
        z = torch.tensor(features[name].astype(np.float32)).double()
        if name == "image":
            z = z @ model.image_weight.T + model.image_bias
        x = F.normalize(torch.cat([getattr(model, f"{name}_preference"), z]))
        for layer in range(1, model.settings.n_layers + 1):
            own, mix = (f"{name}_{part}{layer}" for part in ("own", "mix"))
            h = F.leaky_relu(mean @ (x @ getattr(model, f"{name}_gather{layer}")))
            r = (
                F.leaky_relu(x @ getattr(model, f"{own}_weight").T + getattr(model, f"{own}_bias"))
                + model.ids
            )
            x = F.leaky_relu(
                torch.cat([h, r], 1) @ getattr(model, f"{mix}_weight").T + getattr(model, f"{mix}_bias")
            )
        total = total + x
    return total / len(model.modalities)


@pytest.mark.parametrize(("n_users", "n_items"), [(40, 15), (15, 40), (20, 20)])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_either_order_of_the_product_is_the_published_one(n_users, n_items, n_layers):
    rng = np.random.default_rng(n_users)
    pairs = np.unique(np.stack([rng.integers(n_users, size=90), rng.integers(n_items, size=90)], 1), axis=0)
    features = {"text": rng.normal(size=(n_items, 9)), "image": rng.normal(size=(n_items, 13))}
    split = split_of_codes(pairs, NONE, NONE, n_users, n_items)
    model = MMGCN(split, features, MMGCNSettings(6, n_layers, image_latent=7), seed=1).double()
    ours, wanted = torch.cat(model.vectors()), plain(model, features)
    upstream = torch.tensor(rng.normal(size=ours.shape))
    names, arrays = zip(*model.named_parameters(), strict=True)
    np.testing.assert_allclose(ours.detach(), wanted.detach(), atol=1e-13, rtol=0)
    grads = [torch.autograd.grad(out, arrays, upstream) for out in (ours, wanted)]
    for name, one, two in zip(names, *grads, strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=0, msg=name)


def test_layers_are_as_many_as_asked_for():
    data, split = small()
    names = [
        set(MMGCN(split, {"text": data["text_feat"]}, MMGCNSettings(4, n)).state_dict()) for n in (1, 2, 4)
    ]
    assert [sum("gather" in name for name in found) for found in names] == [1, 2, 4]


def test_one_seed_is_one_model_and_leaves_global_chance_alone():
    data, split = small()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two, other = (MMGCN(split, {"text": data["text_feat"]}, MMGCNSettings(4), seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.ids, other.ids)


def test_features_are_neither_learned_nor_stored_nor_changed():
    data, split = small()
    text = data["text_feat"].copy()
    model = MMGCN(split, {"text": text}, MMGCNSettings(4))
    assert "text" not in model.state_dict() and not model.text.requires_grad
    model.losses(*batch())["total"].backward()
    torch.optim.Adam(model.parameters(), lr=0.1).step()
    np.testing.assert_array_equal(text, data["text_feat"])
    np.testing.assert_array_equal(model.text.numpy(), data["text_feat"])


def test_first_numbers_have_the_variance_they_should():
    n_users, n_items = 400, 300
    pairs = np.array([[0, 0]])
    features = {"image": np.ones((n_items, 100)), "text": np.ones((n_items, 200))}
    model = MMGCN(split_of_codes(pairs, NONE, NONE, n_users, n_items), features)
    for name, variance in {
        "ids": 2 / (700 + 64),
        "image_preference": 2 / (400 + 256),
        "text_gather1": 2 / (200 + 200),
        "text_own1_weight": 2 / (200 + 64),
        "image_mix1_weight": 2 / (256 + 64 + 64),
        "image_mix2_weight": 1 / (3 * 128),  # Uniform between -1/sqrt(128) and 1/sqrt(128)
        "image_weight": 1 / (3 * 100),
    }.items():
        assert abs(getattr(model, name).var().item() / variance - 1) < 0.06, name
