"""Score seeded pictures and features with other implementations than ours, and store the numbers for the tests.

Run from the top of the repository, in a virtual environment of its own: python tools/make_picture_fixtures.py
It needs numpy, scipy, scikit-image, scikit-learn, torch, torchvision, lpips, torchmetrics and pytorch-msssim.
Nothing here imports mmpc_analysis: what it writes must not depend on what it checks. Inputs are drawn from seeds, by the same
few lines as in the tests, so that only the numbers are stored.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "data" / "metrics"
CONVOLUTIONS = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))


def pictures(seed, n, size):
    "Pairs from equal to unrelated: smooth pictures, the second mixed with another one and with noise."
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, n, 8, 8, 3)).repeat(size // 8, axis=2).repeat(size // 8, axis=3)
    share = np.linspace(0, 1, n)[:, None, None, None]
    drawn = (1 - share) * coarse[0] + share * coarse[1] + 0.1 * share * rng.standard_normal(coarse[0].shape)
    return [np.rint(255 * np.clip(p, 0, 1)).astype(np.uint8) for p in (coarse[0], drawn)]


def features(seed, n, width):
    "Two clouds that differ in mean and in scale."
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, width)), 0.2 + 1.1 * rng.standard_normal((n, width))


def random_lpips(seed):
    "AlexNet and heads, named as torchvision and lpips name them."
    rng, state = np.random.default_rng(seed), {}
    for i, (layer, out, into, side) in enumerate(CONVOLUTIONS):
        scale = np.sqrt(2 / (into * side * side))
        state[f"features.{layer}.weight"] = (scale * rng.standard_normal((out, into, side, side))).astype(
            "f4"
        )
        state[f"features.{layer}.bias"] = (0.1 * rng.standard_normal(out)).astype("f4")
        state[f"lin{i}.model.1.weight"] = rng.random((1, out, 1, 1)).astype("f4")
    return state


def planes(batch):
    return torch.from_numpy(np.moveaxis(batch, -1, 1) / 255.0)


def multiscale():
    "With the window in double precision. torchmetrics takes the contrast over a padded picture, so it is another metric."
    import pytorch_msssim

    offsets = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = (window / window.sum()).repeat(3, 1, 1, 1)
    found = {}
    for size in (176, 208):
        x, y = map(planes, pictures(size, 6, size))
        found[str(size)] = pytorch_msssim.ms_ssim(
            x, y, data_range=1.0, size_average=False, win=window
        ).tolist()
    return found


def perceptual():
    import lpips

    state = {name: torch.from_numpy(value) for name, value in random_lpips(0).items()}
    network = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    layers = {str(layer): i for i, (layer, *_) in enumerate(CONVOLUTIONS)}
    for name in network.state_dict():
        part = name.split(".")
        if part[0] == "net":  # net.slice2.3.weight is features.3.weight of torchvision
            assert part[2] in layers
    ours = {
        k: state[f"features.{k.split('.')[2]}.{k.split('.')[3]}"]
        for k in network.state_dict()
        if k.startswith("net.")
    }
    heads = {k: v for k, v in state.items() if k.startswith("lin")}
    heads |= {f"lins.{k[3]}{k[4:]}": v for k, v in heads.items()}
    report = network.load_state_dict(ours | heads, strict=False)
    assert not report.unexpected_keys and set(report.missing_keys) <= {
        "scaling_layer.shift",
        "scaling_layer.scale",
    }
    found = {}
    for size in (32, 64, 128):
        x, y = (planes(p).float() for p in pictures(size, 5, size))
        with torch.no_grad():
            found[str(size)] = [
                network(a[None], b[None], normalize=True).item() for a, b in zip(x, y, strict=True)
            ]
    return found


def frechet(a, b):
    "The definition with a matrix square root; where the covariances are singular, the root of the symmetric form."
    from scipy.linalg import sqrtm

    first, second = np.cov(a.T), np.cov(b.T)
    if len(a) > a.shape[1] + 1:
        shared = np.trace(np.real(sqrtm(first @ second)))
    else:
        values, vectors = np.linalg.eigh(first)
        root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
        squares = np.linalg.eigvalsh(root @ second @ root)
        shared = np.sqrt(squares[squares > 1e-10]).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * shared)


def distributions():
    from sklearn.metrics.pairwise import rbf_kernel
    from torchmetrics.image.kid import poly_mmd

    found = {}
    for n, width in ((300, 40), (60, 40), (41, 40), (30, 40)):
        a, b = features(n, n, width)
        unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        kernels = [
            rbf_kernel(x, y, gamma=1 / 200) for x, y in ((unit_a, unit_a), (unit_b, unit_b), (unit_a, unit_b))
        ]
        off = [(k.sum() - np.trace(k)) / (n * (n - 1)) for k in kernels[:2]]
        found[f"{n}x{width}"] = {
            "frechet": frechet(a, b),
            "kid": poly_mmd(torch.from_numpy(a), torch.from_numpy(b)).item(),
            "cmmd": float(1000 * (kernels[0].mean() + kernels[1].mean() - 2 * kernels[2].mean())),
            "mmd": float(1000 * (sum(off) - 2 * kernels[2].mean())),
        }
    return found


def main():
    sources = ("numpy", "scipy", "scikit-learn", "torch", "lpips", "torchmetrics", "pytorch-msssim")
    made = {"ms_ssim": multiscale(), "lpips": perceptual(), "distributions": distributions()}
    path = FIXTURES / "picture_sets.json"
    path.write_text(
        json.dumps({"versions": {s: version(s) for s in sources}} | made, indent=1) + "\n", encoding="utf-8"
    )
    print("wrote", path.name)


if __name__ == "__main__":
    main()
