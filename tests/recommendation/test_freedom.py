"""FREEDOM against numbers that MMRec's own code gave (tests/data/recommendation/mmrec), and what must hold for any data."""

import json

import numpy as np
import pytest
import torch
from mmrec_cases import DATA, close, features_of, small

from mmpc_analysis.recommendation.freedom import FREEDOM, FREEDOMSettings, feature_vectors
from mmpc_analysis.recommendation.graphs import graph_of_edges, user_item_graph
from mmpc_analysis.recommendation.splits import split_of_codes

CASES = sorted(p.stem for p in DATA.glob("freedom_*.npz"))
SOUND = [case for case in CASES if not case.endswith("mmrec_bug")]
NAMES = {"users": "user_embedding.weight", "items": "item_id_embedding.weight"}
for _name in ("text", "image"):
    NAMES |= {
        _name: f"{_name}_embedding.weight",
        f"{_name}_weight": f"{_name}_trs.weight",
        f"{_name}_bias": f"{_name}_trs.bias",
    }


def started(case):
    "A model of 64 bits with MMRec's first numbers and our own graphs, the fixture and what its JSON says."
    found, said = np.load(DATA / f"{case}.npz"), json.loads((DATA / f"{case}.json").read_text("utf-8"))
    data, split = small()
    full = said["hyper_full"]
    names = (
        "embedding_size",
        "n_ui_layers",
        "n_mm_layers",
        "knn_k",
        "mm_image_weight",
        "dropout",
        "reg_weight",
    )
    model = FREEDOM(
        split, features_of(case, data), FREEDOMSettings(**{name: full[name] for name in names})
    ).double()
    theirs = {ours: NAMES[ours] for ours in model.state_dict()}
    model.load_state_dict({ours: torch.tensor(found[f"param/{name}"]) for ours, name in theirs.items()})
    model.names = theirs
    return model, found, said


def as_graph(found, key, symmetric=False):
    values, shape = found[f"{key}/values"], tuple(found[f"{key}/shape"])
    return graph_of_edges(*found[f"{key}/indices"], values, shape, symmetric, torch.float64)


def with_dumped_graphs(model, found):
    masked = "graph/masked_adj" if "graph/masked_adj/values" in found else "graph/norm_adj"
    model.graphs = {
        "purchases": as_graph(found, "graph/norm_adj", symmetric=True),
        "kept": as_graph(found, masked, symmetric=True),
        "items": as_graph(found, "graph/mm_adj"),
    }
    return model


def with_kept_edges(model, found):
    "Our own graphs, from data; only which edges were drawn is MMRec's."
    if "graph/kept_edges" in found:
        model.graphs["kept"] = user_item_graph(found["graph/kept_edges"].T, *model.shape, torch.float64)
    return model


def batch(found):
    return [torch.tensor(found[f"batch/{name}"], dtype=torch.int64) for name in ("users", "pos", "neg")]


def scores(model, found):
    users, items = model.vectors()
    return users[torch.tensor(found["predict/users"], dtype=torch.int64)] @ items.T


def check(model, found, said, within):
    close(scores(model, found), found["predict64/initial"], within)
    parts = model.losses(*batch(found))
    assert set(parts) == set(said["loss64"])
    for name, part in parts.items():
        assert part.shape == () and abs(part.item() - said["loss64"][name]) < within, name
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    parts["total"].backward()
    for ours, theirs in model.names.items():
        close(getattr(model, ours).grad, found[f"grad64/{theirs}"], within)
    optimiser.step()
    # Adam divides by the size of the gradient, so an error of a gradient near 0 comes out larger
    for ours, theirs in model.names.items():
        close(getattr(model, ours), found[f"after64/{theirs}"], within if within < 1e-9 else 1e-6)
    close(scores(model, found), found["predict64/after"], within)


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_one_step_and_scores_are_mmrecs(case):
    model, found, said = started(case)
    check(with_dumped_graphs(model, found), found, said, 1e-10)


@pytest.mark.parametrize("case", SOUND)
def test_they_are_with_graphs_of_our_own(case):
    model, found, said = started(case)
    check(with_kept_edges(model, found), found, said, 1e-7)


@pytest.mark.parametrize("case", SOUND)
def test_six_steps_on_one_batch_follow_mmrec(case):
    model, found, said = started(case)
    with_dumped_graphs(model, found)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for wanted in said["loss_trajectory64_6_steps_same_batch"]:
        optimiser.zero_grad()
        total = model.losses(*batch(found))["total"]
        assert abs(total.item() - wanted) < 1e-10
        total.backward()
        optimiser.step()


@pytest.mark.parametrize("case", SOUND)
def test_in_32_bits_too(case):
    model, found, said = started(case)
    with_dumped_graphs(model, found).to(torch.float32)
    parts = model.losses(*batch(found))
    parts["total"].backward()
    assert all(abs(part.item() - said["loss"][name]) < 1e-6 for name, part in parts.items())
    for ours, theirs in model.names.items():
        close(getattr(model, ours).grad, found[f"grad/{theirs}"], 1e-6)


def test_zero_rows_do_not_break_the_graph_as_in_mmrec():
    model, found, _ = started("freedom_zero_mmrec_bug")
    data, _ = small()
    gone = data["zero_image_rows"]
    intact = np.setdiff1d(np.arange(80), gone)
    only_image = FREEDOM(small()[1], {"image": features_of("zero", data)["image"]})
    shares = only_image.graphs["items"].matrix().to_dense().numpy()
    assert (shares[np.ix_(intact, gone)] == 0).all()  # In MMRec's graph half of this weight is here
    bug = as_graph(found, "graph/image").matrix().to_dense().numpy()
    np.testing.assert_allclose(bug[np.ix_(intact, gone)].sum(1), 0.5, atol=1e-6)
    parts = with_kept_edges(model, found).losses(*batch(found))
    parts["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.isfinite(scores(model, found)).all()
    assert np.abs(scores(model, found).detach().numpy() - found["predict64/initial"]).max() > 1e-3


def test_every_fixture_is_there():
    assert {
        "freedom_both",
        "freedom_image",
        "freedom_text",
        "freedom_nodrop",
        "freedom_zero_mmrec_bug",
    } <= set(CASES)


# ---------------------------------------------------------------- for any data


def a_model(seed=0, n_users=60, n_items=50, dropout=0.8, **kwargs):
    rng = np.random.default_rng(5)
    pairs = np.unique(np.stack([rng.integers(n_users, size=500), rng.integers(n_items, size=500)], 1), axis=0)
    none = np.empty((0, 2), dtype=int)
    features = {"text": rng.normal(size=(n_items, 12)), "image": rng.normal(size=(n_items, 20))}
    split = split_of_codes(pairs, none, none, n_users, n_items)
    return FREEDOM(split, features, FREEDOMSettings(8, dropout=dropout), seed=seed, **kwargs), features, split


def test_one_seed_is_one_model_and_leaves_global_chance_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two, other = a_model(3)[0], a_model(3)[0], a_model(4)[0]
    for model in (one, two, other):
        model.start_epoch()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert torch.equal(one.graphs["kept"].columns, two.graphs["kept"].columns)
    assert not torch.equal(one.graphs["kept"].columns, other.graphs["kept"].columns)
    assert not torch.equal(one.users, other.users)


def test_an_epoch_goes_on_from_the_state_of_the_generator():
    model = a_model()[0]
    state = model.generator.get_state()
    model.start_epoch()
    first = model.graphs["kept"]
    model.start_epoch()
    assert not torch.equal(first.columns, model.graphs["kept"].columns)
    model.generator.set_state(state)
    model.start_epoch()
    assert torch.equal(first.columns, model.graphs["kept"].columns)
    assert torch.equal(first.values, model.graphs["kept"].values)


def test_the_epochs_graph_has_the_models_precision_and_the_number_of_edges():
    model = a_model()[0].double()
    model.start_epoch()
    assert model.graphs["kept"].values.dtype == torch.float64
    assert len(model.graphs["kept"].values) == 2 * int(len(model.pairs) * (1 - 0.8))


def test_without_dropout_nothing_is_drawn():
    model = a_model(dropout=0.0)[0]
    state = model.generator.get_state()
    model.start_epoch()
    assert model.graphs["kept"] is model.graphs["purchases"]
    assert torch.equal(model.generator.get_state(), state)


def test_features_are_learned_but_neither_changed_where_they_came_from_nor_in_the_graph():
    model, features, _ = a_model()
    before = {name: rows.copy() for name, rows in features.items()}
    graph = model.graphs["items"].values.clone()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    batch = [torch.arange(n, n + 30) for n in (0, 5, 20)]
    model.losses(*batch)["total"].backward()
    optimiser.step()
    for name, rows in features.items():
        np.testing.assert_array_equal(rows, before[name])
        assert np.abs(getattr(model, name).detach().numpy() - rows).max() > 0.05
    assert torch.equal(model.graphs["items"].values, graph)


def test_the_batch_decides_which_way_features_are_mapped_not_what_comes_out():
    model = a_model()[0].double()
    few, many = torch.tensor([3, 3, 8]), torch.tensor([3, 3, 8, *range(50)])
    weights = torch.tensor(np.random.default_rng(0).normal(size=(3, 8)))
    grads = []
    for codes in (few, many):
        model.zero_grad()
        (feature_vectors(model, "image", codes)[:3] * weights).sum().backward()
        grads.append([p.grad.clone() for p in (model.image, model.image_weight, model.image_bias)])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, atol=1e-13, rtol=0)


def test_renaming_users_and_items_renames_scores():
    model, features, split = a_model(dropout=0.0)
    rng = np.random.default_rng(0)
    users, items = rng.permutation(60), rng.permutation(50)  # New code of each old one
    none = np.empty((0, 2), dtype=int)
    moved = split_of_codes(
        np.stack([users[split.train[:, 0]], items[split.train[:, 1]]], 1), none, none, 60, 50
    )
    inverse = np.argsort(items)
    other = FREEDOM(
        moved, {name: rows[inverse] for name, rows in features.items()}, FREEDOMSettings(8, dropout=0.0)
    )
    state = {name: array.clone() for name, array in model.state_dict().items()}
    state["users"] = state["users"][torch.tensor(np.argsort(users))]
    for name in ("items", "text", "image"):
        state[name] = state[name][torch.tensor(inverse)]
    other.load_state_dict(state)
    one, two = ((u @ i.T).detach().numpy() for u, i in (model.vectors(), other.vectors()))
    np.testing.assert_allclose(two[np.ix_(users, items)], one, atol=1e-6)


def test_neighbours_are_kept_by_content(tmp_path):
    model, features, split = a_model(folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    a_model(seed=9, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    features["text"][0, 0] += 1
    changed = FREEDOM(split, features, FREEDOMSettings(8), folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    fresh = FREEDOM(split, features, FREEDOMSettings(8))
    assert torch.equal(changed.graphs["items"].matrix().to_dense(), fresh.graphs["items"].matrix().to_dense())
    assert not torch.equal(
        changed.graphs["items"].matrix().to_dense(), model.graphs["items"].matrix().to_dense()
    )


def test_it_learns_who_likes_what():
    "Two kinds of users and of items; purchases stay within a kind. After training, so do the scores."
    rng = np.random.default_rng(0)
    kind_u, kind_i = np.arange(80) % 2, np.arange(40) % 2
    pairs = np.array(
        [(u, i) for u in range(80) for i in rng.choice(np.flatnonzero(kind_i == kind_u[u]), 6, replace=False)]
    )
    none = np.empty((0, 2), dtype=int)
    features = {"text": np.eye(2)[kind_i] + 0.1 * rng.normal(size=(40, 2))}
    model = FREEDOM(split_of_codes(pairs, none, none, 80, 40), features, FREEDOMSettings(8))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        model.start_epoch()
        negatives = torch.tensor(rng.integers(40, size=len(pairs)))
        optimiser.zero_grad()
        model.losses(*torch.tensor(pairs.T), negatives)["total"].backward()
        optimiser.step()
    users, items = (v.detach().numpy() for v in model.vectors())
    right = kind_u[:, None] == kind_i
    table = users @ items.T
    ahead = (table[:, :, None] > table[:, None, :])[right[:, :, None] & ~right[:, None, :]]
    assert ahead.mean() > 0.95


def test_names_do_not_choose_the_hubs_among_equal_items():
    "Titles filled with one vector for all: the ten that get every edge are not the first ten names."
    pairs = np.column_stack([np.arange(40), np.arange(40)])
    split = split_of_codes(pairs, pairs[:0], pairs[:0], 40, 40)
    model = FREEDOM(split, {"text": np.ones((40, 3), np.float32)}, FREEDOMSettings(8, knn_k=6))
    graph = model.graphs["items"].matrix().to_dense().numpy() > 0
    hubs = np.argsort(-graph.sum(axis=0), kind="stable")[:5]
    assert graph[:, hubs].sum() > 150 and set(hubs) != set(range(5)) and 8 < hubs.mean() < 32
