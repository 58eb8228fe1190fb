"""How far apart are the numbers of every stage on other processors and with another number of threads?

A small fixed study runs once for each setting, in a process of its own that is told to compute as on another processor: OpenBLAS, MKL, oneDNN, torch, numpy and the C
library each have a switch. Everything that a stage gives is compared with what it gives on this processor as it is. Writes tests/data/study/equal_numbers.json, and with
`--table` prints what CONTRIBUTING shows.

    python tools/experiments/equal_numbers.py
    python tools/experiments/equal_numbers.py --table
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "study" / "equal_numbers.json"
NEWER = "AVX512_ICL AVX512_SPR"  # What numpy has beyond AVX-512
HWCAPS = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512DQ,-AVX512BW"


def _processor(openblas: str, torch: str, mkl: str, onednn: str, numpy: str, libc: str) -> dict[str, str]:
    "Switches of every library that computes."
    return {
        "OPENBLAS_CORETYPE": openblas,
        "ATEN_CPU_CAPABILITY": torch,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "NPY_DISABLE_CPU_FEATURES": numpy,
        "GLIBC_TUNABLES": libc,
    }


SETTINGS = {
    "as it is": {},
    "AVX2": _processor("Haswell", "avx2", "AVX2", "AVX2", f"X86_V4 {NEWER}", HWCAPS),
    "AVX": _processor(
        "Sandybridge", "default", "AVX", "AVX", f"X86_V3 X86_V4 {NEWER}", f"{HWCAPS},-AVX2,-FMA"
    ),
    "SSE4.2": _processor(
        "Nehalem", "default", "SSE4_2", "SSE41", f"X86_V3 X86_V4 {NEWER}", f"{HWCAPS},-AVX2,-FMA,-AVX"
    ),
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
}
# What numbers may differ by, of the larger of 1 and the number; 0 is the same bits, None is no promise. Of single precision the widest sum of the encoders counts, of
# 1,536 products in the encoder of titles: 1536 u = 9.2e-5. In double precision 1e-12 covers every sum of 8,192 products. A minimum is found to 1e-6, as between engines;
# degrees of freedom come from second differences of a criterion about that minimum, and lose more;
# with two of them the bounds and p-values lose as much.
PROMISES = {
    "scores by words": 0.0,
    "scores of pixels": 1e-12,
    "scores by encoders of titles": 1e-4,
    "scores by encoders of pictures": 1e-4,
    "contests and levels": 1e-12,
    "metrics of sets": 1e-4,
    "averages": 1e-12,
    "comparisons, ranks and decisions": 1e-9,
    "averages and comparisons of scores by encoders": 1e-4,
    "effect sizes of scores by encoders": None,
    "mixed models": 1e-6,
    "slopes, variances and claims": 1e-6,
    "degrees of freedom of fits, bounds and p-values": 1e-4,
    "ranking of given vectors": 0.0,
    "recommenders without training": 0.0,
    "recommenders trained": None,
    "mean metrics of trained recommenders": None,
}
RESTING = ("low", "high", "p_value", "p_adjusted")  # Columns of fits that rest on degrees of freedom
SIZES = {"a-s": 1e9, "a-m": 4e9, "a-l": 2e10, "b-s": 2e9, "b-m": 9e9, "b-l": 5e10}


def made_up(items: pd.DataFrame, count: int) -> pd.DataFrame:
    "Answers of six models, which forget words and borrow others, the larger ones less; drawn are pictures of other items."
    from mmpc_analysis import tables

    rng = np.random.default_rng(7)
    pool = items[items["split"] == "test"].sort_values("item_id")
    some = pool.iloc[np.sort(rng.choice(len(pool), count, replace=False))]
    rows = []
    for item in some.itertuples():
        for model, size in SIZES.items():
            words, keep = item.title.split(), 0.4 + 0.05 * np.log10(size / 1e9)
            kept = [w for w in words if rng.random() < keep] or words[:1]
            other = pool.iloc[rng.integers(len(pool))]
            text = " ".join([*kept, *other["title"].split()[:2]])
            row = dict(item_id=item.item_id, category=item.category, parent_id=item.parent_id, model=model)
            row |= dict(
                family=model[0], parameters=size, role="model", precision="float32", prompt="p", key="k"
            )
            row |= dict(
                outcome="ok",
                seconds=0.1 + size / 1e10,
                input_tokens=40.0,
                output_tokens=float(len(text.split())),
            )
            rows.append(row | dict(task="image_to_text", text=text))
            rows.append(row | dict(task="text_to_image", image=other["image"]))
    return tables.validate(pd.DataFrame(rows), tables.COMPLETIONS)


def shop() -> tuple:
    "Purchases of two tastes, and features that show them."
    from mmpc_analysis.recommendation.splits import split_of_codes

    rng, users, items = np.random.default_rng(3), 60, 40
    taste = rng.random((users, items)) + 1.5 * (np.arange(users)[:, None] % 2 == np.arange(items) % 2)
    bought = np.argsort(-taste, axis=1)[:, :8]
    parts = [
        np.column_stack([np.repeat(np.arange(users), len(c)), bought[:, c].ravel()])
        for c in ([0, 1, 2, 3, 4, 5], [6], [7])
    ]
    kind = (np.arange(items) % 2)[:, None]
    features = {
        "text": rng.normal(size=(items, 48)) + kind,
        "image": rng.normal(size=(items, 64)) - kind,
    }
    return split_of_codes(*parts, users, items), features


def flat(*frames: pd.DataFrame) -> dict:
    "Numbers and words of tables by the name of their column."
    stage = {"numbers": {}, "words": {}}
    for frame in frames:
        details = [json.loads(text) for text in frame.get("detail", pd.Series(dtype=str)).dropna()]
        for row in details:
            for key, value in row.items():
                kind = "numbers" if isinstance(value, int | float) else "words"
                stage[kind].setdefault(f"detail, {key}", []).append(
                    value if kind == "numbers" else str(value)
                )
        for name in frame.columns.drop("detail", errors="ignore"):
            kind = "numbers" if pd.api.types.is_numeric_dtype(frame[name]) else "words"
            values = frame[name].astype(float) if kind == "numbers" else frame[name].map(str)
            stage[kind].setdefault(name, []).extend(values.tolist())
    return stage


def scored(items: int, encoders: bool) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    "Stages of scores; and of the metrics that have the same bits everywhere, the scores, for what comes after them."
    from mmpc_analysis.catalogue.items import load_catalogue
    from mmpc_analysis.metrics.cards import METRICS
    from mmpc_analysis.scores.scoring import score

    catalogue = load_catalogue()
    answers = made_up(catalogue.items, items)
    where = dict(root=catalogue.root, run=catalogue.root, progress=False)
    metrics = None if encoders else ["chrf", "token_f1", "mse", "psnr", "ssim"]
    scores = score(answers, catalogue.items, metrics=metrics, **where)
    encoder = scores["metric"].str.contains("minilm|effnet")
    level = scores["metric"].map(lambda name: METRICS[name].level)
    pixels, titles = level.isin(["pixel"]), scores["task"] == "image_to_text"
    stages = {
        "scores by words": flat(scores[titles & ~encoder]),
        "scores of pixels": flat(scores[pixels]),
    }
    if encoders:
        stages["scores by encoders of titles"] = flat(scores[titles & encoder])
        stages["scores by encoders of pictures"] = flat(scores[~titles & ~pixels])
    return stages, answers, scores


def encoded(answers: pd.DataFrame) -> dict:
    "Stages that need every answer at once."
    from mmpc_analysis.analysis.levels import level_contrast
    from mmpc_analysis.catalogue.items import load_catalogue
    from mmpc_analysis.scores.contests import contest
    from mmpc_analysis.scores.whole_sets import score_sets

    catalogue = load_catalogue()
    where = dict(root=catalogue.root, run=catalogue.root)
    contests = contest(answers[answers["task"] == "image_to_text"], catalogue.items, **where)
    return {
        "contests and levels": flat(contests, level_contrast(contests)),
        "metrics of sets": flat(score_sets(answers, catalogue.items, draws=50, **where)),
    }


FITS = {
    "value ~ log10p*family + (1|item_id) + (1|model)": ("exact", "mixedlm"),
    "value ~ log10p + category + (1|item_id)": ("exact", "mixedlm", "statsmodels"),
}
ENCODED = ("minilm_cosine", "effnet_cosine")
LATER = ("slopes", "variances", "claims", "effects", "lines", "powers")


def analysed(scores: pd.DataFrame, answers: pd.DataFrame) -> dict:
    "Stages of the analysis of word scores, which have the same bits everywhere; and the first two of encoders' scores, end to end."
    from mmpc_analysis.analysis.claims import analysis_tables
    from mmpc_analysis.analysis.comparison import compare
    from mmpc_analysis.mixed.fit import fit_mixed
    from mmpc_analysis.scores.averages import average

    encoder = scores["metric"].isin(ENCODED)
    later, scores = scores[encoder], scores[~encoder]
    means = average(scores)
    made = {name: make() for name, make in analysis_tables(scores, answers, means, draws=200).items()}
    fits = [
        fit_mixed(scores, formula, metric="chrf", engine=engine)
        for formula, engines in FITS.items()
        for engine in engines
    ]
    criteria = pd.DataFrame({"criterion": [f.criterion for f in fits]})
    stages = {}
    if len(later):
        stages["averages and comparisons of scores by encoders"] = flat(
            average(later), compare(later, draws=200)
        )
    return stages | {
        "averages": flat(means),
        "comparisons, ranks and decisions": flat(*(t for name, t in made.items() if name not in LATER)),
        "mixed models": flat(criteria, *(t for f in fits for t in (f.table, f.components))),
        "slopes, variances and claims": flat(*(t for name, t in made.items() if name in LATER)),
    }


def recommended(epochs: int) -> dict:
    "Stages of the recommendation: rankings of vectors drawn from a seed, and of vectors that were trained."
    from mmpc_analysis.recommendation.ranking import rank, top_items
    from mmpc_analysis.recommendation.training import RECOMMENDERS, Training, fit

    split, features = shop()
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(300, 64)).astype(np.float32), rng.normal(size=(901, 64)).astype(np.float32)
    given = [str(row) for row in top_items(*vectors, 50).tolist()]
    stages = {"ranking of given vectors": {"numbers": {}, "words": {"lists": given}}}
    training = Training(learning_rate=0.02, batch_size=64, epochs=epochs, patience=50, select="recall@5")
    for name in RECOMMENDERS:
        one = fit(name, split, features, training=training, progress=False)
        ranked = rank(one.scorer, split, "test", cuts=(5, 10))
        trained = "recommenders without training" if one.history.empty else "recommenders trained"
        stage = stages.setdefault(trained, {"numbers": {}, "words": {}})
        arrays = one.scorer if trained == "recommenders trained" else ()
        stage["numbers"] |= {f"{name}, mean {metric}": [value] for metric, value in ranked.means().items()}
        stage["numbers"] |= {f"{name}, vectors": [float(v) for a in arrays for v in a.ravel()]}
        stage["words"] |= {f"{name}, lists": [str(row) for row in ranked.top.tolist()]}
    return stages


def study(items: int = 24, epochs: int = 5, encoders: bool = True) -> dict:
    "Every stage, or without `encoders` those that take no neural network."
    stages, answers, scores = scored(items, encoders)
    same = scores[scores["metric"].isin(["chrf", "token_f1", *ENCODED])]
    titles = answers[answers["task"] == "image_to_text"]
    stages |= analysed(same, titles) | recommended(epochs)
    return stages | (encoded(answers) if encoders else {})


def run_under(setting: str, **what) -> dict:
    "The stages as a process of its own computes them under a setting."
    settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | SETTINGS[
        setting
    ]
    cleared = {name for each in SETTINGS.values() for name in each}
    kept = {name: value for name, value in os.environ.items() if name not in cleared}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stages.json"
        asked = [sys.executable, __file__, "--child", str(path), json.dumps(what)]
        done = subprocess.run(asked, env=kept | settings, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the study failed under {setting!r}: {done.stderr[-3000:]}")
        return json.loads(path.read_text())


def gaps(one: dict, other: dict) -> dict[str, dict]:
    "By how much two runs of the study differ, stage by stage, and in which columns."
    found = {}
    for stage in one:
        row = {"numbers": 0, "differ": 0, "words": 0, "columns": {}, "other_words": {}}
        for name, values in one[stage]["numbers"].items():
            a, b = np.array(values, float), np.array(other[stage]["numbers"][name], float)
            if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
                raise ValueError(f"{stage!r} has other rows, or other unknown numbers, in {name!r}")
            at = ~np.isnan(a) & (a != b)
            row["numbers"] += len(a)
            row["differ"] += int(at.sum())
            if at.any():
                gap = np.abs(a[at] - b[at])
                row["columns"][name] = float((gap / np.maximum(1, np.abs(a[at]))).max())
        for name, words in one[stage]["words"].items():
            pairs = list(zip(words, other[stage]["words"][name], strict=True))
            row["words"] += len(pairs)
            unequal = [pair for pair in pairs if pair[0] != pair[1]]
            if unequal:
                row["other_words"][name] = {"count": len(unequal), "first": unequal[0]}
        found[stage] = row
    return found


def row_of(stage: str, column: str) -> str:
    "The promise that a column of a stage is under."
    fitted = stage in ("mixed models", "slopes, variances and claims")
    if fitted and (column.endswith("dof") or column in RESTING):
        return "degrees of freedom of fits, bounds and p-values"
    if column == "d_z" and stage == "averages and comparisons of scores by encoders":
        return (
            "effect sizes of scores by encoders"  # A mean over a spread, and two models may have next to none
        )
    if stage == "recommenders trained" and ", mean " in column:
        return "mean metrics of trained recommenders"
    return stage


def largest(found: dict[str, dict]) -> dict[str, float]:
    "The largest gap under each promise."
    most = dict.fromkeys(PROMISES, 0.0)
    for stage, row in found.items():
        for column, gap in row["columns"].items():
            name = row_of(stage, column)
            most[name] = max(most[name], gap)
    return most


def broken(found: dict[str, dict]) -> list[str]:
    "Promises that the gaps between two runs break, words among them: verdicts, methods, ranks and lists."
    numbers = [f"{name}: {gap:.1e}" for name, gap in largest(found).items() if gap > (PROMISES[name] or 0.0)]
    words = [f"{stage}: {row['other_words']}" for stage, row in found.items() if row["other_words"]]
    return [text for text in numbers + words if PROMISES[text.split(":")[0]] is not None]


def table(stored: dict) -> str:
    "What CONTRIBUTING shows: for each promise the largest gap under every setting."
    names = [name for name in SETTINGS if name != "as it is"]
    most = {name: largest(stored["gaps"][name]) for name in names}
    lines = [
        f"| Numbers | {' | '.join(names)} | Other words | Promised |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    for row, promise in PROMISES.items():
        gaps = [f"{most[name][row]:.0e}" if most[name][row] else "same bits" for name in names]
        stages = [stored["gaps"][name].get(row) for name in names]
        words = ""
        if stages[0]:
            others = max(sum(c["count"] for c in stage["other_words"].values()) for stage in stages)
            words = f"{others} of {stages[0]['words']:,}" if stages[0]["words"] else words
        said = {0.0: "same bits", None: "nothing"}.get(promise) or f"{promise:.0e}"
        lines.append(f"| {row} | {' | '.join(gaps)} | {words} | {said} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="print the stored table and run nothing")
    parser.add_argument("--child", nargs=2, metavar=("PATH", "WHAT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        Path(asked.child[0]).write_text(json.dumps(study(**json.loads(asked.child[1]))))
        return
    if not asked.table:
        runs = {}
        for name in SETTINGS:
            runs[name] = run_under(name)
        import torch

        made = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
        found = {name: gaps(runs["as it is"], run) for name, run in runs.items() if name != "as it is"}
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps({"versions": made, "settings": SETTINGS, "gaps": found}, indent=1) + "\n")
    print(table(json.loads(OUT.read_text())))


if __name__ == "__main__":
    main()
