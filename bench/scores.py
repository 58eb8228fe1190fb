"""How much faster are the scores than the usual way to the same numbers, and does memory grow with the rows?

OMP_NUM_THREADS=1 python bench/scores.py                 # everything; the machine should be quiet
OMP_NUM_THREADS=1 python bench/scores.py --part parity   # parity, bertscore, frechet, pictures or memory; may be repeated
OMP_NUM_THREADS=1 python bench/scores.py --encoders 300  # calls per distinct text and picture, and items per second, of 300 items

With --encoders, two models' answers to some items are scored, compared as sets and contested: first a few of them one by one and in
batches, which must agree, then all of them, while every text and picture that meets an encoder is counted. What 100,000 items
would take is the same rate, no more: a rate of one's own machine, of its embedded encoders. --device names where they run.

Each comparison first checks that both ways give the same numbers and stops if they do not. Ratios are medians over interleaved
rounds, of processor seconds and of the clock. Titles, completions and pictures are those of the repository. Memory is the peak of
a process of its own that scores a table, against one that scores ten times the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from mmpc_analysis.catalogue.items import load_catalogue

COMPLETIONS = Path(__file__).resolve().parents[1] / "nbs" / "results" / "completions.parquet"
COLUMNS = ["what", "gap", "ours", "other", "unit", "ratio (processor)", "lowest", "ratio (clock)", "asked"]


def race(
    what: str, gap: float, most: float, ours: Callable, other: Callable, repeats: int, asked: float
) -> tuple:
    """A row of the table: both ways in turn, once the gap between their numbers is known to be small."""
    if not gap <= most:
        raise SystemExit(f"{what}: the two ways differ by {gap:.2e}, more than {most:.0e}; no time was taken")
    seconds = np.empty((repeats, 2, 2))  # Round, way, processor or clock
    for k in range(repeats):
        for way in (0, 1) if k % 2 else (1, 0):
            began = time.process_time(), time.perf_counter()
            (ours, other)[way]()
            seconds[k, way] = time.process_time() - began[0], time.perf_counter() - began[1]
    ratio, (mine, others) = seconds[:, 1] / seconds[:, 0], np.median(seconds[..., 0], axis=0)
    processor, clock = np.median(ratio, axis=0)
    return (what, gap, mine, others, "s", processor, ratio[:, 0].min(), clock, f">= {asked:g}")


def written() -> pd.DataFrame:
    """What the stand-ins wrote beside a picture, with the true title."""
    table = pd.read_parquet(COMPLETIONS, columns=["item_id", "task", "model", "role", "text"])
    table = table[(table["task"] == "image_to_text") & table["role"].eq("model") & table["text"].notna()]
    return table.merge(load_catalogue().items[["item_id", "title"]], on="item_id")


def one_pair(real: str, generated: str, bleu) -> tuple[float, ...]:
    """One pair as the reference scores it: clean, fit TF-IDF on the two texts, compare words, and BLEU with swapped roles."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

    first, second = (
        re.sub(r"\s+", " ", re.sub(r"[^a-zA-Z0-9\s]", " ", text.lower())).strip()
        for text in (real, generated)
    )
    if not first or not second:
        return (0.0,) * 5
    try:
        vectorizer = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), max_features=1000)
        rows = vectorizer.fit_transform([first, second])
        cosine = cosine_similarity(rows[0:1], rows[1:2])[0][0]
        near = 1 / (1 + euclidean_distances(rows[0:1], rows[1:2])[0][0])
    except ValueError:  # No word is left
        cosine = near = 0.0
    words, others = set(first.split()), set(second.split())
    shared = len(words & others) / len(words | others)
    return cosine, near, shared, shared, bleu.sentence_score(real, [generated]).score / 100


def parity(repeats: int) -> Iterator[tuple]:
    """The reference's text scores of 1,000 pairs: titles with completions, and whole listings with their neighbours."""
    from sacrebleu.metrics import BLEU
    from sacrebleu.tokenizers import tokenizer_13a, tokenizer_re

    from mmpc_analysis.parity.mmpcbench_scores import mmpcbench_text_scores

    logging.getLogger("sacrebleu").setLevel(
        logging.ERROR
    )  # It advises smoothing, which the reference has not
    bleu = BLEU(smooth_method="none", tokenize="13a")
    titles = written()[["title", "text"]].drop_duplicates().sample(1000, random_state=0)
    items = load_catalogue().items.sort_values(["category", "item_id"])
    listings = (items["title"] + ". " + items["description"].fillna("")).tolist()[:1001]

    for name, real, generated in (
        ("titles", titles["title"].tolist(), titles["text"].tolist()),
        ("listings", listings[:-1], listings[1:]),
    ):

        def loop(real=real, generated=generated):
            for tokenizer in (tokenizer_13a.Tokenizer13a, tokenizer_re.TokenizerRegexp):
                tokenizer.__call__.cache_clear()  # Every round starts cold
            return np.array([one_pair(r, g, bleu) for r, g in zip(real, generated, strict=True)])

        def ours(real=real, generated=generated):
            return mmpcbench_text_scores(real, generated).to_numpy()

        length = np.mean([len(text.split()) for text in real + generated])
        what = f"parity scores, 1,000 {name} of {length:.0f} words"
        yield race(what, np.abs(loop() - ours()).max(), 1e-9, ours, loop, repeats, 30)


def bert(repeats: int) -> Iterator[tuple]:
    """BERTScore of six models over the same references, by the embedded encoder."""
    if find_spec("bert_score") is None:
        print(
            "BERTScore is left out: run pip install bert-score==0.3.13 in a copy of this environment to compare"
        )
        return
    import torch
    from bert_score import BERTScorer

    from mmpc_analysis.metrics.semantic import bertscore
    from mmpc_analysis.metrics.text_encoders import minilm_folder

    weights, table = minilm_folder(), written()
    table = table[(table["text"].str.strip() != "")]
    models = [
        (some["text"].tolist(), some["title"].tolist()) for _, some in table.groupby("model", sort=True)
    ]
    said, true = ([text for model in models for text in model[side]] for side in (0, 1))
    scorer = BERTScorer(model_type=weights, num_layers=6, device="cpu")

    def loop(size: int = 64):
        with contextlib.redirect_stderr(io.StringIO()):
            return np.concatenate(
                [torch.stack(scorer.score(*m, batch_size=size)).numpy() for m in models], axis=1
            )

    def ours():
        scores = bertscore(true, said, weights)
        return np.stack([scores.precision, scores.recall, scores.f1])

    gap = np.abs(loop(1) - ours()).max()  # One pair at a time: in a batch, its padding moves the scores
    what = f"BERTScore, {len(models)} models, {len(said):,} pairs, bert-score {version('bert-score')}"
    yield race(what, gap, 1e-5, ours, loop, repeats, 1.5)


def distance(repeats: int) -> Iterator[tuple]:
    """Fréchet distance of two sets of 1,000 vectors of width 2,048, against the root of the product of covariances."""
    from scipy.linalg import sqrtm

    from mmpc_analysis.metrics.distributions import frechet

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1000, 2048)) * rng.random(2048)
    y = 0.1 + 1.1 * y

    def usual():
        s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        root = np.real(sqrtm(s @ t))
        return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * np.trace(root)

    theirs = usual()
    gap = abs(frechet(x, y) - theirs) / theirs
    what = "Fréchet distance, 1,000 x 2,048 (relative gap)"
    yield race(what, gap, 1e-5, lambda: frechet(x, y), usual, min(repeats, 3), 10)


def pictures(repeats: int) -> Iterator[tuple]:
    """SSIM and PSNR of 1,000 pairs of catalogue pictures at 64 pixels, against a loop over scikit-image."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    from mmpc_analysis.catalogue.pictures import PIXEL_SIZE, read_images
    from mmpc_analysis.metrics.images import psnr, ssim

    catalogue = load_catalogue()
    paths = catalogue.items.sort_values(["category", "item_id"])["image"].tolist()[:1001]
    stack = read_images(str(catalogue.root), paths, [PIXEL_SIZE])[0][PIXEL_SIZE]
    true, drawn = stack[:-1].copy(), stack[1:].copy()
    paper = dict(data_range=255, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False)
    ways = {
        "SSIM": (ssim, lambda x, y: structural_similarity(x, y, **paper)),
        "PSNR": (psnr, lambda x, y: peak_signal_noise_ratio(x, y, data_range=255)),
    }
    for name, (function, usual) in ways.items():

        def loop(usual=usual):
            return np.array([usual(x, y) for x, y in zip(true, drawn, strict=True)])

        def ours(function=function):
            return function(true, drawn)

        gap = np.abs(loop() - ours()).max()
        yield race(f"{name}, 1,000 pairs of 64 x 64", gap, 1e-6, ours, loop, repeats, 3)


def many(n: int, task: str) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """A catalogue of n items, real ones over and over under new ids, and one completion of each: its neighbour's."""
    catalogue = load_catalogue()
    items = catalogue.items.sample(frac=1, random_state=0)
    items = items.iloc[np.arange(n) % len(items)].reset_index(drop=True)
    items["item_id"] = [f"{i}-{k}" for k, i in enumerate(items["item_id"])]
    said = items.sort_values(["category", "item_id"]).assign(
        task=task, model="neighbour", family="none", outcome="ok"
    )
    said = said.assign(parameters=1e9, role="model", text=None)
    if task == "image_to_text":
        said = said.assign(text=np.roll(said["title"], 1), image=None)
    else:
        said = said.assign(image=np.roll(said["image"], 1))
    return said, items, str(catalogue.root)


def alone(task: str, n: int) -> float:
    """Peak memory of scoring n completions, MB; meant for a process of its own."""
    from mmpc_analysis.scores.scoring import score

    said, items, root = many(n, task)
    table = score(said, items, root=root, run=root, progress=False)
    if table.attrs["set_aside"] or table["item_id"].nunique() != n:
        raise SystemExit(f"not every completion was scored: {table.attrs['set_aside'][:3]}")
    # A child's ru_maxrss starts at its parent's size; Linux keeps its own peak too
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    own = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return (own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024])[0] / 1e6


def memory(repeats: int) -> Iterator[tuple]:
    """Peak memory of scoring some completions, and ten times as many; medians of as many processes as rounds, at most 3."""
    for task, n, what in (("image_to_text", 300, "titles"), ("text_to_image", 60, "pictures")):
        peaks = []
        for _ in range(min(repeats, 3)):
            runs = [[sys.executable, __file__, "--alone", task, str(k)] for k in (n, 10 * n)]
            done = [subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True) for run in runs]
            peaks.append([json.loads(run.stdout) for run in done])
        few, all_ = (statistics.median(peak[k] for peak in peaks) for k in (0, 1))
        name = f"peak of scoring {10 * n:,} {what}, other: {n}"
        yield (name, np.nan, all_, few, "MB", all_ / few, np.nan, np.nan, "< 1.2")


def answers(items: pd.DataFrame, task: str, shifts: tuple[int, ...]) -> pd.DataFrame:
    """Models that answer each item with another one's truth, in the words of the completions table."""
    column, parts = ("text" if task == "image_to_text" else "image"), []
    for shift in shifts:
        truth = np.roll(items["title" if column == "text" else "image"], shift)
        some = pd.DataFrame({"item_id": items["item_id"], "category": items["category"], "task": task})
        some = some.assign(model=f"m{shift}", family="F", parameters=1e9, precision="float32", role="model")
        some = some.assign(prompt="p", outcome="ok", raw_text="", finish_reason="stop", text=None, image=None)
        some["key"] = some["item_id"] + f"-{shift}"
        parts.append(some.assign(**{column: [f"{t} {shift}" if column == "text" else t for t in truth]}))
    return pd.concat(parts, ignore_index=True)


@contextlib.contextmanager
def counting() -> Iterator[dict]:
    """Count what meets the embedded encoders: texts by their tokens, pictures by their pixels."""
    from collections import Counter
    from hashlib import sha256

    from mmpc_analysis.metrics import picture_encoders as pe
    from mmpc_analysis.metrics import text_encoders as te

    seen = {"image_to_text": Counter(), "text_to_image": Counter()}
    texts, alone, many = te.encode_tokens, pe._effnet_pass, pe._effnet_batch

    def count_texts(ids, encoder):
        seen["image_to_text"].update(map(tuple, ids))
        return texts(ids, encoder)

    def count_one(network, picture):
        seen["text_to_image"][sha256(picture.tobytes()).digest()] += 1
        return alone(network, picture)

    def count_many(network, device, pictures):
        seen["text_to_image"].update({sha256(picture.tobytes()).digest() for picture in pictures})
        return many(network, device, pictures)

    te.encode_tokens, pe._effnet_pass, pe._effnet_batch = count_texts, count_one, count_many
    te._load.cache_clear(), pe._effnet.cache_clear()
    try:
        yield seen
    finally:
        te.encode_tokens, pe._effnet_pass, pe._effnet_batch = texts, alone, many


def encoders(n: int, device: str) -> Iterator[dict]:
    """Calls per distinct input, and items per second, of each encoder metric alone and of all stages together."""
    from mmpc_analysis.metrics import batches
    from mmpc_analysis.metrics.cards import METRICS
    from mmpc_analysis.scores.contests import contest
    from mmpc_analysis.scores.measures import available_metrics
    from mmpc_analysis.scores.scoring import score
    from mmpc_analysis.scores.whole_sets import score_sets

    catalogue = load_catalogue()
    some = catalogue.items.sample(n, random_state=0).sort_values("item_id")
    places = {"root": str(catalogue.root), "run": str(catalogue.root)}
    names = [name for name in available_metrics()[0] if METRICS[name].encoder]
    for task in ("image_to_text", "text_to_image"):
        rows, mine = answers(some, task, (1, 2)), [name for name in names if METRICS[name].task == task]
        few, how = rows[rows["item_id"].isin(some["item_id"].head(10))], {"metrics": mine, "progress": False}
        values = []
        for batch in (0, 16):
            batches.BATCHES["cpu"] = batch
            with counting():
                values.append(score(few, some, **how, **places)["value"].to_numpy())
        batches.BATCHES["cpu"] = 0
        gap = np.nanmax(np.abs(values[0] - values[1]))
        if not gap <= 1e-5:
            raise SystemExit(f"{task}: batches differ by {gap:.2e} from one by one; no time was taken")
        for name in mine:
            with counting() as seen:
                began = now()
                score(rows, catalogue.items, metrics=[name], progress=False, device=device, **places)
                yield rate(name, n, now() - began, seen[task], gap)
        with counting() as seen:
            stages = {"score": partial(score, rows, catalogue.items, device=device, **how, **places)}
            if task == "text_to_image":
                stages["sets"] = partial(score_sets, rows, catalogue.items, draws=20, device=device, **places)
            stages["contest"] = partial(contest, rows, catalogue.items, metrics=mine, device=device, **places)
            for stage, make in stages.items():
                began = now()
                make()
                yield rate(f"{task}: {stage}, all", n, now() - began, seen[task], gap)


def now() -> np.ndarray:
    """Processor seconds of this process, and the clock."""
    return np.array([time.process_time(), time.perf_counter()])


def rate(what: str, n: int, seconds: np.ndarray, seen: dict, gap: float) -> dict:
    """A row of the table of encoders."""
    calls, distinct = sum(seen.values()), len(seen)
    return {
        "what": what, "gap in batches": gap, "calls": calls, "distinct": distinct, "calls/distinct": calls / max(distinct, 1),
        "processor s": seconds[0], "clock s": seconds[1], "items/s (processor)": n / seconds[0],
        "hours for 100,000 (processor)": 1e5 / n * seconds[0] / 3600,
    }  # fmt: skip


PARTS = {"parity": parity, "bertscore": bert, "frechet": distance, "pictures": pictures, "memory": memory}


def main() -> None:
    """Read the arguments and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds of each comparison")
    parser.add_argument("--alone", nargs=2, metavar=("TASK", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--encoders", type=int, metavar="N", help="count and time the encoders on N items")
    parser.add_argument(
        "--device", default="cpu", help="where the encoders of --encoders run: cpu, cuda or auto"
    )
    given = parser.parse_args()
    if given.encoders:
        with pd.option_context("display.width", 200, "display.max_columns", 20):
            print(
                pd.DataFrame(encoders(given.encoders, given.device)).to_string(
                    index=False, float_format="{:.3g}".format
                )
            )
        return
    if given.alone:
        print(json.dumps(alone(given.alone[0], int(given.alone[1]))))
        return
    rows = [row for part in given.part or PARTS for row in PARTS[part](given.repeats)]
    if not rows:
        return
    with pd.option_context("display.width", 200, "display.max_columns", 20, "display.max_colwidth", 80):
        print(
            pd.DataFrame(rows, columns=COLUMNS).to_string(
                index=False, float_format="{:.3g}".format, na_rep=""
            )
        )


if __name__ == "__main__":
    main()
