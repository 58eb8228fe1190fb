"""How much faster do recommenders train and get judged than by the published protocol, and how much memory does the graph of items take?

OMP_NUM_THREADS=1 python bench/recommend.py                 # everything; the machine should be quiet
OMP_NUM_THREADS=1 python bench/recommend.py --part epoch    # evaluation, epoch or memory; may be repeated

3,000 simulated users buy 28,000 times among 1,500 items. FREEDOM is trained on them with its published settings (vectors of 64 numbers,
batches of 2,048), once with features as narrow as those of small encoders (text 64, image 128) and once as wide as in the published data
sets of Amazon reviews (text 384, image 4,096). The other way is a plain transcription of the published protocol: a loop over rows
for negatives, a loop over users for masks and hits, torch's sparse matrices for purchases and a dense graph of items. Both
ways first get the same numbers, negatives and kept purchases in double precision and must give the same losses and learn the same
arrays, and from the same vectors the same recall and NDCG for every user; else no time is taken. Then they run in turn, in single precision, each
with its own draws. Ratios are medians over the rounds, of processor seconds and of the clock.

Hits are counted twice by the other way: held-out items kept as arrays, as grouping a table leaves them, and as Python sets.
Memory is the peak of a process of its own that builds the graph of 200,000 items with text of 384 numbers and images of 1,280, features
included; comparing all pairs takes about half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmpc_analysis.recommendation.freedom import FREEDOM, FREEDOMSettings
from mmpc_analysis.recommendation.graphs import user_item_graph
from mmpc_analysis.recommendation.neighbours import item_graph
from mmpc_analysis.recommendation.ranking import CUTS, rank
from mmpc_analysis.recommendation.splits import Split, split_interactions
from mmpc_analysis.recommendation.training import (
    Training,
    epoch_batches,
    negative_table,
    score_vectors,
    start,
    train_epoch,
)

USERS, ITEMS, PURCHASES, TASTE = 3000, 1500, 28_000, 16
WIDTHS = {"narrow": {"text": 64, "image": 128}, "wide": {"text": 384, "image": 4096}}
GRAPH = {"text": 384, "image": 1280}  # Widths for the graph of items, text and image
COLUMNS = ["what", "gap", "ours", "other", "unit", "ratio (processor)", "lowest", "ratio (clock)", "asked"]


def race(
    what: str, gap: float, most: float, ours: Callable, other: Callable, repeats: int, asked: str
) -> tuple:
    """A row of the table: both ways in turn, once the gap between their numbers is known to be small."""
    if not gap <= most:
        raise SystemExit(f"{what}: the two ways differ by {gap:.2e}, more than {most:.0e}; no time was taken")
    ours(), other()
    seconds = np.empty((repeats, 2, 2))  # Round, way, processor or clock
    for k in range(repeats):
        for way in (0, 1) if k % 2 else (1, 0):
            began = time.process_time(), time.perf_counter()
            (ours, other)[way]()
            seconds[k, way] = time.process_time() - began[0], time.perf_counter() - began[1]
    ratio, (mine, others) = seconds[:, 1] / seconds[:, 0], np.median(seconds[..., 0], axis=0)
    processor, clock = np.median(ratio, axis=0)
    return (what, gap, mine, others, "s", processor, ratio[:, 0].min(), clock, asked)


def simulate(widths: dict[str, int], seed: int = 0) -> tuple[Split, dict[str, np.ndarray]]:
    """Users who buy what is near their taste, and features that show through noise what an item is like."""
    rng = np.random.default_rng(seed)
    users, items = (rng.normal(size=(n, TASTE)) for n in (USERS, ITEMS))
    worth = users @ items.T / 2 + rng.gumbel(size=(USERS, ITEMS)) - np.log1p(np.arange(ITEMS)) / 2
    counts = 5 + rng.multinomial(PURCHASES - 5 * USERS, np.full(USERS, 1 / USERS))
    order = np.argsort(-worth, axis=1)
    rows = pd.DataFrame(
        {
            "user_id": np.repeat([f"u{u:04d}" for u in range(USERS)], counts),
            "item_id": [f"i{i:04d}" for u in range(USERS) for i in order[u, : counts[u]]],
            "timestamp": rng.integers(10**9, size=PURCHASES),
        }
    )
    split = split_interactions(rows, items=[f"i{i:04d}" for i in range(ITEMS)])
    features = {
        name: (items @ rng.normal(size=(TASTE, width)) + 4 * rng.normal(size=(ITEMS, width))).astype(
            "float32"
        )
        for name, width in widths.items()
    }
    return split, features


# ---------------------------------------------------------------- the published protocol, plainly


def normalised(edges: torch.Tensor, n: int, dtype: torch.dtype) -> torch.Tensor:
    """Both directions of the purchases as torch's sparse matrix, weighed by degree."""
    degree = torch.bincount(edges.flatten(), minlength=n).to(dtype) + 1e-7
    values = (degree[edges[0]] * degree[edges[1]]) ** -0.5
    both = torch.cat([edges, edges.flip(0)], dim=1)
    return torch.sparse_coo_tensor(both, values.repeat(2), (n, n), check_invariants=False).coalesce()


def dense_items(features: dict[str, torch.Tensor], shares: dict[str, float], k: int) -> torch.Tensor:
    """The graph of alike items with every cell of it."""
    total = 0.0
    for name, rows in features.items():
        unit = rows / rows.norm(dim=1, keepdim=True)
        near = (unit @ unit.T).topk(k, dim=1).indices
        graph = torch.zeros(len(rows), len(rows), dtype=rows.dtype).scatter_(1, near, 1.0)
        scale = (graph.sum(dim=1) + 1e-7) ** -0.5
        total = total + shares[name] * scale[:, None] * graph * scale
    return total


class Plain:
    """FREEDOM with torch's own sparse and dense matrices, and a loop over rows where the protocol has one."""

    def __init__(self, split: Split, features: dict, model: FREEDOM, dtype: torch.dtype):
        self.split, self.settings, self.dtype = split, model.settings, dtype
        self.arrays = {
            name: array.detach().clone().to(dtype).requires_grad_()
            for name, array in model.named_parameters()
        }
        self.adam = torch.optim.Adam(self.arrays.values(), lr=1e-3)
        self.edges = torch.from_numpy(split.train.T.copy())
        self.edges[1] += USERS
        self.n = USERS + ITEMS
        degree = torch.bincount(self.edges.flatten(), minlength=self.n) + 1e-7
        self.weights = (degree[self.edges[0]] * degree[self.edges[1]]) ** -0.5
        self.full = normalised(self.edges, self.n, dtype)
        image = self.settings.mm_image_weight
        rows = {name: torch.from_numpy(array).to(dtype) for name, array in features.items()}
        self.alike = dense_items(rows, {"image": image, "text": 1 - image}, self.settings.knn_k)
        self.draw = random.Random(0)
        self.seen = {}
        for user, item in split.train.tolist():
            self.seen.setdefault(user, set()).add(item)
        self.pool = sorted({item for items in self.seen.values() for item in items})

    def thin(self, kept: torch.Tensor | None = None) -> None:
        """The graph of an epoch."""
        if kept is None:
            kept = torch.multinomial(self.weights, int(len(self.weights) * (1 - self.settings.dropout)))
        self.kept = normalised(self.edges[:, kept], self.n, self.dtype)

    def vectors(self, graph: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Users and items after both graphs."""
        layer = torch.cat([self.arrays["users"], self.arrays["items"]])
        layers = [layer]
        for _ in range(self.settings.n_ui_layers):
            layer = torch.sparse.mm(graph, layer)
            layers.append(layer)
        users, items = torch.stack(layers, dim=1).mean(dim=1).split([USERS, ITEMS])
        alike = self.arrays["items"]
        for _ in range(self.settings.n_mm_layers):
            alike = self.alike @ alike
        return users, items + alike

    def loss(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""

        def pairwise(u, p, n):
            return -torch.nn.functional.logsigmoid((u * p).sum(dim=1) - (u * n).sum(dim=1)).mean()

        of_users, of_items = self.vectors(self.kept)
        u, total = of_users[users], 0.0
        for name in ("text", "image"):
            mapped = torch.nn.functional.linear(
                self.arrays[name], self.arrays[f"{name}_weight"], self.arrays[f"{name}_bias"]
            )
            total = total + pairwise(u, mapped[positives], mapped[negatives])
        return pairwise(u, of_items[positives], of_items[negatives]) + self.settings.reg_weight * total

    def step(self, batch: list[torch.Tensor]) -> float:
        """One step of Adam."""
        self.adam.zero_grad()
        loss = self.loss(*batch)
        loss.backward()
        self.adam.step()
        return loss.item()

    def negative_table(self, users: list[int]) -> list[int]:
        """One item for each row that its user does not have, row by row."""
        drawn = []
        for user in users:
            item = self.draw.choice(self.pool)
            while item in self.seen[user]:
                item = self.draw.choice(self.pool)
            drawn.append(item)
        return drawn

    def epoch(self, size: int) -> float:
        """All purchases once, in a new order."""
        self.thin()
        rows = torch.from_numpy(self.split.train)[torch.randperm(len(self.split.train))]
        losses = []
        for batch in rows.split(size):
            negatives = torch.tensor(self.negative_table(batch[:, 0].tolist()))
            losses.append(self.step([batch[:, 0], batch[:, 1], negatives]))
        return statistics.mean(losses)


class PlainJudge:
    """The test of every user: masks and hits by loops over users, everything else in one piece."""

    def __init__(self, split: Split, keep: Callable):
        users = sorted(set(split.test[:, 0].tolist()) & set(split.train[:, 0].tolist()))
        self.users = torch.tensor(users)
        mask = np.concatenate([split.train, split.valid])
        self.has = [mask[mask[:, 0] == user, 1] for user in users]
        self.held = [keep(split.test[split.test[:, 0] == user, 1]) for user in users]

    def __call__(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, np.ndarray]:
        scores = users[self.users] @ items.T
        rows, columns = [], []
        for row, has in enumerate(self.has):
            rows += [row] * len(has)
            columns += list(has)
        scores[rows, columns] = -1e10
        top = scores.topk(max(CUTS), dim=1).indices.numpy()
        hits = np.array([[item in held for item in row] for held, row in zip(self.held, top, strict=True)])
        m = np.array([len(held) for held in self.held])
        gain = 1 / np.log2(np.arange(2, max(CUTS) + 2))
        found, gained, ideal = hits.cumsum(axis=1), (hits * gain).cumsum(axis=1), gain.cumsum()
        recall = {f"recall@{k}": found[:, k - 1] / m for k in CUTS}
        return recall | {f"ndcg@{k}": gained[:, k - 1] / ideal[np.minimum(m, k) - 1] for k in CUTS}


# ---------------------------------------------------------------- the parts


def same_losses(split: Split, features: dict) -> float:
    """The largest gap between the losses of both ways, and the arrays learned, over one epoch in double precision."""
    training = Training(learning_rate=1e-3)
    model = FREEDOM(split, features, FREEDOMSettings(), seed=1).double()
    plain = Plain(split, features, model, torch.float64)
    run = start(model, training)
    kept = np.sort(np.random.default_rng(1).permutation(len(split.train))[: len(split.train) // 5])
    model.graphs["kept"] = user_item_graph(split.train[kept], USERS, ITEMS, torch.float64)
    plain.thin(torch.from_numpy(kept))
    gaps = []
    for batch in epoch_batches(split, negative_table(split), training.batch_size, 1, 1):
        run.adam.zero_grad()
        loss = model.losses(*batch)["total"]
        loss.backward()
        run.adam.step()
        gaps.append(abs(loss.item() - plain.step(batch)))
    learned = dict(model.named_parameters())
    gaps += [(learned[name] - array).abs().max().item() for name, array in plain.arrays.items()]
    return max(gaps)


def epoch(repeats: int) -> Iterator[tuple]:
    """One epoch of FREEDOM: draw, shuffle, negatives, steps."""
    for name, widths in WIDTHS.items():
        split, features = simulate(widths)
        gap, training = same_losses(split, features), Training()
        model, table = FREEDOM(split, features, FREEDOMSettings(), seed=2), negative_table(split)
        plain, run = Plain(split, features, model, torch.float32), start(model, training)
        numbers = iter(range(1, 10**6))

        def ours(split=split, model=model, table=table, run=run, numbers=numbers, size=training.batch_size):
            train_epoch(model, run.adam, epoch_batches(split, table, size, 2, next(numbers)))

        def other(plain=plain, size=training.batch_size):
            plain.epoch(size)

        what = f"epoch of FREEDOM, {len(split.train):,} rows, text {widths['text']}, image {widths['image']}"
        yield race(what, gap, 1e-9, ours, other, repeats, ">= 2" if name == "narrow" else "")


def evaluation(repeats: int) -> Iterator[tuple]:
    """One evaluation: vectors from the model, lists of 50 for every user, metrics at four cuts."""
    split, features = simulate(WIDTHS["narrow"])
    model = FREEDOM(split, features, FREEDOMSettings(), seed=3)
    run, table = start(model, Training()), negative_table(split)
    for number in range(3):
        train_epoch(model, run.adam, epoch_batches(split, table, 2048, 3, number + 1))
    plain = Plain(split, features, model, torch.float32)
    vectors = tuple(map(torch.from_numpy, score_vectors(model)))
    mine = rank(score_vectors(model), split).metrics

    def ours():
        rank(score_vectors(model), split)

    for keep, said, asked in ((np.asarray, "arrays", ">= 10"), (set, "sets", "")):
        judge = PlainJudge(split, keep)

        def other(judge=judge):
            with torch.no_grad():
                judge(*plain.vectors(plain.full))

        gap = max(np.abs(values - mine[name]).max() for name, values in judge(*vectors).items())
        what = f"evaluation, {len(judge.users):,} users, {ITEMS:,} items, other: {said}"
        yield race(what, gap, 1e-12, ours, other, repeats, asked)


def alone(items: int) -> float:
    """Peak memory of building the graph of so many items, MB; meant for a process of its own."""
    rng = np.random.default_rng(0)
    features = {name: rng.standard_normal((items, width), dtype=np.float32) for name, width in GRAPH.items()}
    edges = len(item_graph(features).columns)
    if not 10 * items <= edges <= 20 * items:
        raise SystemExit(f"a graph of {items} items with ten neighbours in two modalities has {edges} edges")
    # A child's ru_maxrss starts at its parent's size; Linux keeps its own peak too
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    own = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return (own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024])[0] / 1e6


def memory(repeats: int) -> Iterator[tuple]:
    """Peak memory of the graph of 200,000 items, once, and of 20,000."""
    peaks = []
    for items in (200_000, 20_000):
        run = [sys.executable, __file__, "--alone", str(items)]
        peaks.append(json.loads(subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout))
    width = ", ".join(f"{name} {size}" for name, size in GRAPH.items())
    what = f"peak of the graph of 200,000 items, {width}, other: 20,000"
    yield (what, np.nan, *peaks, "MB", peaks[0] / peaks[1], np.nan, np.nan, "< 4000")


PARTS = {"evaluation": evaluation, "epoch": epoch, "memory": memory}


def main() -> None:
    """Read the arguments and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds of each comparison")
    parser.add_argument("--alone", type=int, metavar="ITEMS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.alone:
        print(json.dumps(alone(given.alone)))
        return
    rows = [row for part in given.part or PARTS for row in PARTS[part](given.repeats)]
    with pd.option_context("display.width", 200, "display.max_columns", 20, "display.max_colwidth", 80):
        print(
            pd.DataFrame(rows, columns=COLUMNS).to_string(
                index=False, float_format="{:.3g}".format, na_rep=""
            )
        )


if __name__ == "__main__":
    main()
