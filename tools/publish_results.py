"""Copy the finished tables of a run to where the analysis page and the tutorial read them.

    python tools/publish_results.py [runs/demo] [--out nbs/results]

Averages, sets, effects, contrasts, scores, completions and the seven analysis tables go along with the manifest; items, pictures and the
answers' raw text stay behind, so that the folder stays small enough to be committed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmpc_analysis import tables

HERE = Path(__file__).resolve().parent.parent

PUBLISHED = (
    *(tables.AVERAGES, tables.SETS, tables.EFFECTS, tables.CONTRASTS, tables.SCORES, tables.COMPLETIONS),
    *(tables.SLOPES, tables.LINES, tables.VARIANCES, tables.COMPARISONS, tables.DECISIONS, tables.FRONTIER),
    tables.POWERS,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", default=HERE / "runs" / "demo")
    parser.add_argument("--out", type=Path, default=HERE / "nbs" / "results")
    args = parser.parse_args()
    manifest = json.loads((args.run / "manifest.json").read_text(encoding="utf-8"))
    for table in PUBLISHED:
        rows = tables.read_shards(str(args.run / table.name), table)
        if table is tables.COMPLETIONS:
            rows = rows.assign(raw_text=None, image=None)
        tables.write_shard(rows, table, str(args.out), table.name)
        print(
            f"{table.name}: {len(rows)} rows, {(args.out / f'{table.name}.parquet').stat().st_size / 1e3:.0f} kB"
        )
    tables.write_text(str(args.out / "manifest.json"), json.dumps(manifest, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
