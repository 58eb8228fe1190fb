"""LPIPS: its own package's numbers with the same weights, honest names, batches beside pairs, and each picture once."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_images import mixed_pictures

from mmpc_analysis.metrics import batches
from mmpc_analysis.metrics import perceptual as pt
from mmpc_analysis.metrics.text_encoders import EncoderMissing

SETS = json.loads((ROOT / "tests" / "data" / "metrics" / "picture_sets.json").read_text("utf-8"))


def random_lpips(seed):
    "As in tools/fixtures/make_picture_fixtures.py."
    rng, state = np.random.default_rng(seed), {}
    shapes = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
    for i, (layer, out, into, side) in enumerate(shapes):
        scale = np.sqrt(2 / (into * side * side))
        state[f"features.{layer}.weight"] = (scale * rng.standard_normal((out, into, side, side))).astype(
            "f4"
        )
        state[f"features.{layer}.bias"] = (0.1 * rng.standard_normal(out)).astype("f4")
        state[f"lin{i}.model.1.weight"] = rng.random((1, out, 1, 1)).astype("f4")
    return state


@pytest.fixture(scope="module")
def lpips_file(tmp_path_factory):
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    save_file(random_lpips(0), path)
    return str(path)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_lpips_equals_its_own_package_with_the_same_weights(size, lpips_file):
    a, b = mixed_pictures(size, 5, size)
    network = pt.load_lpips(lpips_file, lpips_file)
    np.testing.assert_allclose(pt.lpips(network, a, b), SETS["lpips"][str(size)], rtol=0, atol=2e-6)
    np.testing.assert_allclose(
        pt.lpips(network, a / 255, b / 255), pt.lpips(network, a, b), rtol=0, atol=1e-6
    )
    order = [3, 0, 4, 1, 2]
    assert pt.lpips(network, a[order], b[order]).tolist() == pt.lpips(network, a, b)[order].tolist()


def test_lpips_is_told_red_from_blue(lpips_file):
    a, b = mixed_pictures(0, 4, 64)
    network = pt.load_lpips(lpips_file, lpips_file)
    assert np.abs(pt.lpips(network, a, b) - pt.lpips(network, a[..., ::-1], b[..., ::-1]))[1:].min() > 1e-3


def test_lpips_has_its_name_only_with_the_published_files(lpips_file, tmp_path, monkeypatch):
    import torch

    state = {name: torch.from_numpy(value) for name, value in random_lpips(0).items()}
    paths = [str(tmp_path / name) for name in ("alexnet-owt-7be5be79.pth", "alex.pth")]
    torch.save({k: v for k, v in state.items() if k[0] == "f"}, paths[0])
    torch.save({k: v for k, v in state.items() if k[0] == "l"}, paths[1])
    with pytest.raises(
        ValueError, match="neither safetensors nor the published file, whose hash begins 7be5be79"
    ):
        pt.load_lpips(*paths)
    for name, path in zip(("_ALEXNET", "_HEADS"), paths, strict=True):
        monkeypatch.setattr(pt, name, hashlib.sha256(Path(path).read_bytes()).hexdigest())
    assert pt.load_lpips(*paths).name == "lpips_alex"
    assert pt.load_lpips(paths[0], lpips_file).name.startswith("lpips_alex@")
    a, b = mixed_pictures(5, 3, 64)
    same = [pt.lpips(pt.load_lpips(*files), a, b).tolist() for files in (paths, (lpips_file, lpips_file))]
    assert same[0] == same[1]


def test_lpips_without_weights_is_a_reason(lpips_file, tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EncoderMissing, match="weights of AlexNet, found none at"):
        pt.load_lpips(None, lpips_file)
    save_file({"features.0.bias": np.zeros(64, "f4")}, tmp_path / "part.safetensors")
    with pytest.raises(EncoderMissing, match=r"lack features\.0\.weight"):
        pt.load_lpips(str(tmp_path / "part.safetensors"), str(tmp_path / "part.safetensors"))
    network = pt.load_lpips(lpips_file, lpips_file)
    assert pt.lpips(network, *np.zeros((2, 0, 64, 64, 3))).shape == (0,)
    with pytest.raises(ValueError, match="at least 31 x 31"):
        pt.lpips(network, *np.zeros((2, 1, 16, 16, 3)))
    unknown = np.full((2, 64, 64, 3), np.nan)
    unknown[1] = 0.5
    assert np.isnan(pt.lpips(network, unknown, unknown)).tolist() == [True, False]


# ---------------------------------------------------------------- batches and memory


def fresh(files, **more):
    "The network without what it remembers."
    network = pt.load_lpips(files, files)
    return pt.Perceptual(network.name, network.weights, **more)


@pytest.mark.parametrize("batch", [2, 7, 64])
def test_batches_agree_with_pairs_and_do_not_know_their_neighbours(batch, lpips_file):
    a, b = mixed_pictures(batch, 9, 64)
    alone = pt.lpips(fresh(lpips_file), a, b)
    together = pt.lpips(fresh(lpips_file, batch=batch), a, b)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    order = np.random.default_rng(batch).permutation(9)[:5]
    np.testing.assert_allclose(
        pt.lpips(fresh(lpips_file, batch=batch), a[order], b[order]), together[order], rtol=0, atol=1e-5
    )


def test_a_picture_meets_the_network_once_in_batches_and_a_pair_once_without(lpips_file, monkeypatch):
    a, b = mixed_pictures(3, 4, 64)
    seen = []
    layers = pt._unit_layers
    monkeypatch.setattr(pt, "_unit_layers", lambda w, p, d: seen.append(len(p)) or layers(w, p, d))
    first, second = np.concatenate([a, a, a]), np.concatenate([b, a, b])
    batched = fresh(lpips_file, batch=8)
    values = pt.lpips(batched, first, second)
    assert seen == [8]  # Seven different pictures: the first pair is one picture twice
    pt.lpips(batched, b, a)
    assert seen == [8]
    seen.clear()
    paired = fresh(lpips_file)
    np.testing.assert_allclose(pt.lpips(paired, first, second), values, rtol=0, atol=1e-5)
    assert len(seen) == 7  # Of 12 pairs, the 3 with themselves that are not the first's, and 4
    pt.lpips(paired, first, second)
    assert len(seen) == 7


def test_the_size_of_a_batch_is_a_network_of_its_own(lpips_file, monkeypatch):
    plain = pt.load_lpips(lpips_file, lpips_file)
    assert pt.load_lpips(lpips_file, lpips_file, "cpu") is plain and plain.batch == 0
    monkeypatch.setitem(batches.BATCHES, "cpu", 4)
    batched = pt.load_lpips(lpips_file, lpips_file, "cpu")
    assert batched is not plain and batched.batch == 4 and batched.name == plain.name
    assert batched.pairs is not plain.pairs


def test_memory_of_activations_is_bounded(lpips_file, monkeypatch):
    a, b = mixed_pictures(5, 6, 64)
    whole = pt.lpips(fresh(lpips_file, batch=3), a, b)
    small = fresh(lpips_file, batch=3, seen=batches.Memory(70_000), pairs=batches.Memory(2))
    np.testing.assert_allclose(pt.lpips(small, a, b), whole, rtol=0, atol=1e-6)
    assert len(small.seen) <= 2 and len(small.pairs) == 2
