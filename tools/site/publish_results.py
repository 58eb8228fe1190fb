"""Copy the finished tables of a run to where the analysis page and the tutorials read them.

    python tools/site/publish_results.py [runs/demo] [--out nbs/results]

Averages, sets, effects, contrasts, scores, completions, the analysis tables with the claims, recovery and links,
certificates and the lengths of image prompts go along with the manifest; items,
pictures, rankings and the answers' raw text stay behind, so that the folder stays small enough to be committed. Of recovery and links only
the headline ranking metric is published, of recovery only all purchases together: the pages show no more, and the run has the rest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmpc_analysis import store, tables

HERE = Path(__file__).resolve().parents[2]

PUBLISHED = (
    *(tables.AVERAGES, tables.SETS, tables.EFFECTS, tables.CONTRASTS, tables.SCORES, tables.COMPLETIONS),
    *(tables.SLOPES, tables.LINES, tables.VARIANCES, tables.COMPARISONS, tables.DECISIONS, tables.FRONTIER),
    *(tables.POWERS, tables.RECOVERY, tables.LINKS, tables.FLOOR_GAINS, tables.LOST, tables.CLAIMS),
    *(tables.CERTIFICATES, tables.DRAWINGS),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", default=HERE / "runs" / "demo")
    parser.add_argument("--out", type=Path, default=HERE / "nbs" / "results")
    args = parser.parse_args()
    manifest = json.loads((args.run / "manifest.json").read_text(encoding="utf-8"))
    for table in PUBLISHED:
        rows = cut(store.read_shards(str(args.run / table.name), table), table)
        store.write_shard(rows, table, str(args.out), table.name)
        print(
            f"{table.name}: {len(rows)} rows, {(args.out / f'{table.name}.parquet').stat().st_size / 1e3:.0f} kB"
        )
    store.write_text(str(args.out / "manifest.json"), json.dumps(manifest, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
