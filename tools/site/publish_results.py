"""Copy the finished tables of a run to where the analysis page and the tutorials read them.

    python tools/site/publish_results.py [runs/demo] [--out nbs/results]
    python tools/site/publish_results.py --alignment      # only joins what tools/experiments/align_standins.py stored there

Averages, sets, effects, contrasts, scores, completions, the analysis tables with the claims, recovery and links,
certificates and the lengths of image prompts go along with the manifest; items,
pictures, rankings and the answers' raw text stay behind, so that the folder stays small enough to be committed. Of recovery and links only
the headline ranking metric is published, of recovery only all purchases together: the pages show no more, and the run has the rest.
Tables of an alignment that lie there are another experiment's; its claims and its facts, from alignment.json, are joined to those of the run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from mmpc_analysis import store, tables

HERE = Path(__file__).resolve().parents[2]

PUBLISHED = (
    *(tables.AVERAGES, tables.SETS, tables.EFFECTS, tables.CONTRASTS, tables.SCORES, tables.COMPLETIONS),
    *(tables.SLOPES, tables.LINES, tables.VARIANCES, tables.COMPARISONS, tables.DECISIONS, tables.FRONTIER),
    *(tables.POWERS, tables.RECOVERY, tables.LINKS, tables.FLOOR_GAINS, tables.LOST, tables.CLAIMS),
    *(tables.CERTIFICATES, tables.DRAWINGS),
)
ALIGNMENT = (
    *(
        tables.ALIGNMENTS,
        tables.ALIGNMENT_STEPS,
        tables.ALARMS,
        tables.ALIGNMENT_CHECKS,
        tables.ALIGNMENT_EFFECTS,
    ),
)
HEADLINE = "recall@20"  # The ranking metric of the pages


def cut(rows, table):
    "The rows and values of a table that the pages read."
    if table is tables.COMPLETIONS:
        return rows.assign(raw_text=None, image=None)
    if table is tables.CLAIMS:
        return rows[(rows["level"] != "ranking") | (rows["metric"] == HEADLINE)]
    if table in (tables.RECOVERY, tables.LINKS):
        rows = rows[rows["metric"] == HEADLINE]
        return rows[rows["category"] == "all"] if table is tables.RECOVERY else rows
    return rows


def join_alignment(folder: Path) -> int:
    "Put the claims and facts of the stored alignment beside those of the run, once however often it is done; how many claims there are."
    from mmpc_analysis.alignment.alignment_claims import ALIGNMENT_QUESTIONS, alignment_claims

    if not (folder / f"{tables.ALIGNMENTS.name}.parquet").exists():
        return 0
    found = {t.name: tables.validate(pd.read_parquet(folder / f"{t.name}.parquet"), t) for t in ALIGNMENT}
    claims = pd.read_parquet(folder / f"{tables.CLAIMS.name}.parquet")
    others = tables.validate(claims, tables.CLAIMS)
    others = others[~others["question"].isin(ALIGNMENT_QUESTIONS)]
    more = alignment_claims(found["alignment_effects"], found["alignment_checks"], found["alarms"])
    store.write_shard(
        pd.concat([others, more], ignore_index=True), tables.CLAIMS, str(folder), tables.CLAIMS.name
    )
    manifest = store.read_json(str(folder / "manifest.json"))
    manifest["alignment"] = store.read_json(str(folder / "alignment.json"))
    store.write_text(str(folder / "manifest.json"), json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return len(more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", default=HERE / "runs" / "demo")
    parser.add_argument("--out", type=Path, default=HERE / "nbs" / "results")
    parser.add_argument(
        "--alignment", action="store_true", help="join the stored alignment only; publish nothing"
    )
    args = parser.parse_args()
    if not args.alignment:
        publish(args.run, args.out)
    print(f"{join_alignment(args.out)} claims about alignment")


def publish(run: Path, out: Path) -> None:
    "Copy the tables and the manifest of a run."
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    for table in PUBLISHED:
        rows = cut(store.read_shards(str(run / table.name), table), table)
        store.write_shard(rows, table, str(out), table.name)
        print(
            f"{table.name}: {len(rows)} rows, {(out / f'{table.name}.parquet').stat().st_size / 1e3:.0f} kB"
        )
    store.write_text(str(out / "manifest.json"), json.dumps(manifest, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
