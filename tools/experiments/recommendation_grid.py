"""Train the whole grid of the recommendation benchmark on the completions of a finished run.

    python tools/experiments/recommendation_grid.py runs/demo --out runs/grid              # every cell; run it again to go on
    python tools/experiments/recommendation_grid.py runs/demo --out runs/grid --share 0.01 # a hundredth of the cells, to plan

The grid is `Grid()`: four recommenders, both modalities, rates 0.2 to 1.0, every baseline and five seeds, with every model whose
completions the run has. Each cell is one shard of OUT/rankings and is not trained again. Recovery and links end as OUT/recovery.parquet
and OUT/links.parquet, what it cost as OUT/grid.json: a session for every time the tool was started, because a grid that was killed and
taken up again has more than one, and their sum. A session that was killed with SIGKILL is missing from that sum.

Recommenders are trained as the run's study declares, so that cells mean the same as in its report; --training small takes the
benchmark's own `SMALL` and `BIG_STEPS` instead, with larger and fewer steps.

With --share every Nth cell of each recommender is trained in this process and timed, nothing is kept but OUT/plan.json, and the
whole grid's processor time is the mean of each recommender times its cells.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # A cell is small: more threads only wait for each other

import numpy as np
import pandas as pd
import torch

from mmpc_analysis import __version__, store, tables
from mmpc_analysis.recommendation import benchmark as r
from mmpc_analysis.recommendation.grids import Grid, conditions
from mmpc_analysis.recommendation.recovery import links, recover
from mmpc_analysis.study import stages
from mmpc_analysis.study.declaration import purchases_of, read_catalogue, read_study
from mmpc_analysis.study.study_inputs import select_items

PACKAGES = {
    "mmpc_analysis": __version__,
    "torch": torch.__version__,
    "numpy": np.__version__,
    "pandas": pd.__version__,
}


def bench_of(run, grid, training):
    "The study of a run, and all that the grid's cells share."
    study = read_study(f"{run}/study.toml")
    if max(study.missing.rates) < max(grid.rates):
        raise SystemExit(
            f"{run} completed a share of {max(study.missing.rates):g}; the grid needs {max(grid.rates):g}"
        )
    items = store.read_shards(f"{run}/items", tables.ITEMS)
    selected = select_items(items, study.catalogue, study.seed)
    purchases = purchases_of(study, selected)
    if purchases is None:
        raise SystemExit(
            f"the study of {run} has no purchases; set recommendation.interactions in its study.toml"
        )
    completions = store.read_shards(f"{run}/completions", tables.COMPLETIONS)
    where = (read_catalogue(study.catalogue).root, str(run), study.missing.mechanism, study.seed)
    how = (
        stages.training_choices(study) if training == "study" else {"fallback": study.recommendation.fallback}
    )
    return study, r.make_benchmark(selected, purchases, completions, grid, *where, **how)


def every_nth(chosen, n):
    "Every nth cell of each recommender, at least one of each."
    by_name = {}
    for cell in chosen:
        by_name.setdefault(cell.recommender, []).append(cell)
    return [cell for mine in by_name.values() for cell in mine[n // 2 if len(mine) > n // 2 else 0 :: n]]


def plan(bench, chosen, share, out):
    "Train a sample, and say what the whole grid would cost."
    sample, rows = every_nth(chosen, max(1, round(1 / share))), []
    torch.set_num_threads(1)
    r.rank_condition(bench, sample[0])  # The first training of a process pays for imports
    for k, cell in enumerate(sample, 1):
        start, wall = time.process_time(), time.perf_counter()
        r.rank_condition(bench, cell)
        spent = {"cpu_seconds": time.process_time() - start, "wall_seconds": time.perf_counter() - wall}
        rows.append({"recommender": cell.recommender} | spent)
        print(f"{k}/{len(sample)} {spent['cpu_seconds']:6.2f} s  {cell}", flush=True)
    costs = pd.DataFrame(rows).groupby("recommender")["cpu_seconds"].agg(["mean", "max", "size"])
    costs["cells"] = pd.Series(Counter(cell.recommender for cell in chosen))
    costs["cpu_minutes"] = costs["mean"] * costs["cells"] / 60
    print(costs.round(2).to_string())
    total = float(costs["cpu_minutes"].sum())
    print(f"{len(chosen)} cells would take {total:.1f} minutes of processor time")
    told = {
        "cells": len(chosen),
        "training": str(bench.training),
        "trainings": str(bench.trainings),
        "cpu_minutes": total,
        "recommenders": costs.to_dict("index"),
        "versions": PACKAGES,
    }
    store.write_text(f"{out}/plan.json", json.dumps(told, indent=1) + "\n")


def cpu_seconds():
    "Processor time of this process and of the workers that have ended."
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in (own, workers))


def train(bench, chosen, out, workers):
    "The rankings of every cell; the workers are ended so that their processor time is known."
    from joblib.externals.loky import get_reusable_executor

    try:
        return r.run_grid(bench, chosen, f"{out}/rankings", workers)
    finally:
        if workers != 1:
            get_reusable_executor().shutdown(wait=True)


def evaluate(bench, study, rankings, scores, out):
    "Recovery and links, one recommender after the other: the whole grid's rankings are some million rows."
    how = {"floor": "zeros", "draws": study.scores.draws, "seed": study.seed, "level": study.scores.level}
    held, hidden, found = r.held_out(bench), r.hidden_rows(bench), {"recovery": [], "links": []}
    for _, mine in rankings.groupby("recommender"):
        found["recovery"].append(recover(mine, how["floor"], how["level"]))
        found["links"].append(links(mine, held, scores, hidden, **how))
    for name, parts in found.items():
        rows = pd.concat(parts, ignore_index=True)
        store.write_shard(tables.validate(rows, tables.TABLES[name]), tables.TABLES[name], str(out), name)
    return {name: sum(map(len, parts)) for name, parts in found.items()}


def write_costs(out, session, facts):
    "Add a session to OUT/grid.json."
    path = Path(out) / "grid.json"
    sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"] if path.exists() else []
    sessions.append(session)
    sums = {k: sum(s[k] for s in sessions) for k in ("wall_seconds", "cpu_seconds", "trained")}
    told = facts | sums | {"sessions": sessions, "versions": PACKAGES | {"python": platform.python_version()}}
    store.write_text(str(path), json.dumps(told, indent=1) + "\n")
    return sums


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of rankings, recovery, links and costs"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="cells at the same time; 0 for one per processor"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="below 1: train this share of the cells to plan, keep none"
    )
    parser.add_argument(
        "--training", choices=("study", "small"), default="study", help="how recommenders are trained"
    )
    args = parser.parse_args()
    if not 0 < args.share <= 1:
        parser.error(f"--share must lie in (0, 1], got {args.share:g}")
    wall, cpu, grid = time.perf_counter(), cpu_seconds(), Grid()
    study, bench = bench_of(args.run, grid, args.training)
    chosen = conditions(grid, r.models_of(bench))
    print(f"{len(chosen)} cells, {len(bench.split.users)} users, {len(bench.split.items)} items", flush=True)
    if args.share < 1:
        return plan(bench, chosen, args.share, args.out)
    out, before, facts = (
        args.out,
        len(store.shard_names(f"{args.out}/rankings")),
        {"cells": len(chosen), "grid": str(grid)},
    )
    facts |= {"run": args.run.name, "training": str(bench.training), "trainings": str(bench.trainings)}
    facts |= {"processors": os.cpu_count(), "workers": args.workers or os.cpu_count()}
    try:
        rankings = train(bench, chosen, out, args.workers)
        scores = store.read_shards(f"{args.run}/scores", tables.SCORES)
        facts |= evaluate(bench, study, rankings, scores, out)
    finally:  # An interrupted session is counted as well
        trained = len(store.shard_names(f"{out}/rankings")) - before
        spent = {
            "wall_seconds": time.perf_counter() - wall,
            "cpu_seconds": cpu_seconds() - cpu,
            "trained": trained,
        }
        sums = write_costs(out, spent, facts)
    print(
        f"{len(chosen)} cells: {sums['wall_seconds']:.0f} s wall, {sums['cpu_seconds']:.0f} s processor time"
    )


if __name__ == "__main__":
    main()
