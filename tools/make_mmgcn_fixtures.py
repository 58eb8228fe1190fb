"""Make tests/data/mmrec/mmgcn.npz, a small part of what MMRec's own code gave for MMGCN.

`python tools/make_mmgcn_fixtures.py FOLDER` reads mmgcn_both, _reg0, _zero and _image (.npz and .json) from a folder of dumps of MMRec at
commit e775373b3ab1354a92165b0885ce4ab3dc4d7497 (torch 2.13.0, torch_geometric 2.8.1, 64 bits from first numbers of 32 bits). The four start
alike, so first numbers are stored once, in full, and the id_embedding of the case that differs beside them. Of a large gradient, and of a large array after
the step, every eighth part of the rows is stored, and the sum over all rows, which no wrong row escapes.

After one step of Adam the arrays that MMRec trains are the same whether the three that it forgets are trained or not, since a first step
looks at nothing but its own gradient; this is checked here and stored once, as after64.
"""

import json
import sys
from pathlib import Path

import numpy as np

CASES = ("both", "reg0", "zero", "image")
LARGE = 4096
TO = Path(__file__).resolve().parents[1] / "tests" / "data" / "mmrec"


def thinned(key: str, array: np.ndarray) -> dict[str, np.ndarray]:
    if array.size <= LARGE:
        return {key: array}
    return {f"{key}@rows": array[:: max(1, len(array) // 8)], f"{key}@sum": array.sum(axis=0)}


def main(folder: Path) -> None:
    dumps = {case: np.load(folder / f"mmgcn_{case}.npz") for case in CASES}
    both = dumps["both"]
    stored = {key: both[key] for key in both if key.startswith(("param/", "batch/", "predict/users"))}
    stored |= {
        f"param/{key.split('/', 1)[1]}": both[key]
        for key in both
        if key.startswith("nonparam/") and "result" not in key
    }
    stored["graph/edge_index"] = both["graph/edge_index"]
    said = {}
    for case, found in dumps.items():
        for key in (k for k in found if k.startswith(("param/", "batch/", "graph/", "predict/users"))):
            assert np.array_equal(found[key], both[key]), (case, key)
        for key in (k for k in found if k.startswith("nonparam/") and "result" not in k):
            name = key.split("/", 1)[1]
            if not np.array_equal(found[key], stored[f"param/{name}"]):
                stored[f"{case}/param/{name}"] = found[key]
        for key in found:
            kind, _, name = key.partition("/")
            if kind in ("grad64", "nonparam_grad64"):
                stored |= thinned(f"{case}/grad64/{name}", found[key])
            if kind == "predict64":
                stored[f"{case}/{key}"] = found[key]
            if kind == "after_fixed64" or (kind == "after64" and f"after_fixed64/{name}" not in found):
                stored |= thinned(f"{case}/after64/{name}", found[key])
            if kind == "after64" and f"after_fixed64/{name}" in found:
                assert np.array_equal(found[key], found[f"after_fixed64/{name}"]), (case, key)
        told = json.loads((folder / f"mmgcn_{case}.json").read_text("utf-8"))
        said[case] = {k: v for k, v in told.items() if k in ("hyper", "loss64") or "trajectory64" in k}
    np.savez_compressed(TO / "mmgcn.npz", **stored)
    (TO / "mmgcn.json").write_text(json.dumps({"about": __doc__, "cases": said}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
