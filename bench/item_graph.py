"""Time and memory of the graph of alike items, on catalogues too large for a table of all pairs.

`python bench/item_graph.py --items 200000 --width 64` measures in a process of its own, so that the peak is that of the graph
and not of what ran before; `item_graph_memory` is the same from Python.
"""

import argparse
import json
import resource
import subprocess
import sys
import time


def measure(items: int, width: int, k: int, block: int, repeated: float) -> dict:
    "Peak memory of this process in bytes, before and after, and the seconds in between."
    import numpy as np
    import torch

    from mmpc_analysis.graphs import item_graph

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    features = np.random.default_rng(0).normal(size=(items, width)).astype(np.float32)
    features[: int(items * repeated)] = features.mean(0)
    item_graph({"text": features[:1000]}, k, block=block)
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    graph = item_graph({"text": features}, k, block=block)
    return {
        "items": items,
        "width": width,
        "k": k,
        "block": block,
        "repeated": repeated,
        "threads": torch.get_num_threads(),
        "edges": len(graph.values),
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": peak(),
        "peak_bytes_before": before,
        "all_pairs_bytes": items * items * 4,
    }


def item_graph_memory(
    items: int = 200_000,  # Items of the catalogue
    width: int = 64,  # Numbers in a row of features
    k: int = 10,  # Neighbours
    block: int = 256,  # Rows compared at a time
    repeated: float = 0.0,  # Share of items that have one and the same row
) -> dict:  # seconds, cpu_seconds, peak_bytes, peak_bytes_before (libraries and features), all_pairs_bytes and the settings
    "Build a graph of random items in a fresh process and measure it."
    asked = {"items": items, "width": width, "k": k, "block": block, "repeated": repeated}
    said = [sys.executable, __file__, "--here", *(f"--{name}={value}" for name, value in asked.items())]
    run = subprocess.run(said, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the measurement failed:\n{run.stderr}")
    return json.loads(run.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("items", 200_000), ("width", 64), ("k", 10), ("block", 256), ("repeated", 0.0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--here", action="store_true", help="measure in this process")
    given = vars(parser.parse_args())
    found = (measure if given.pop("here") else item_graph_memory)(**given)
    print(json.dumps(found, indent=1))
