"""Train the embedded stand-ins from scratch on the embedded catalogue's training split.

    python tools/standins/train_standins.py                          # all seven, two processes side by side
    python tools/standins/train_standins.py --only standin-qwen-s    # one of them
    python tools/standins/train_standins.py --smoke --out /tmp/toy   # a few steps on toy pictures

Everything is seeded and runs with one thread a process, so that the same machine and versions give the same
weights. Each stand-in gets the same number of passes over the data, whatever its size. What came out, with
held-out scores and digests, is written to standins.json and to a README.md in each folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# One thread: two that share a core with other work wait for each other and are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The costly ones first, so that two processes end at about the same time.
NAMES = ["sd3", "gemma-l", "qwen-l", "gemma-m", "qwen-m", "gemma-s", "qwen-s"]
NAMES = [f"standin-{name}" for name in NAMES]
OUT = Path(__file__).resolve().parents[2] / "mmpc_analysis" / "data" / "standins"
FAMILIES = {"qwen": "Qwen2.5-VL", "gemma": "Gemma-3"}


def train_one(name: str, out: Path, root: Path | None, seed: int, smoke: bool) -> dict:
    """Train, save and examine one stand-in; returns its record for standins.json."""
    import torch
    from standin_cards import MEMORY, data_record, digests, examine_mllm, examine_sd3, versions, write_card
    from standin_data import read_split

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    train = read_split("train", root)
    held = {split: read_split(split, root, train) for split in (("test",) if smoke else ("test", "unseen"))}
    folder, start = out / name, time.time()

    def log(text: str) -> None:
        print(f"{time.time() - start:7.0f} s  {name}  {text}", flush=True)

    if name == "standin-sd3":
        from standin_sd3 import CALL, TOKENS, Drawing, count_sd3, draw, save_sd3, train_sd3

        recipe = Drawing(coder_epochs=1, text_epochs=1, epochs=1) if smoke else Drawing()
        model, cost = train_sd3(train, recipe, seed, log)
        row = {"family": "SD3", "role": "generator", "class": "StableDiffusion3Pipeline", "call": CALL}
        row |= {"note": MEMORY, "context": TOKENS} | count_sd3(model)
        save_sd3(model, folder)
        scores = {s: examine_sd3(draw(folder, rows.prompts), rows, train) for s, rows in held.items()}
    else:
        from standin_mllm import CONTEXT, Recipe, count_parameters, save_mllm, train_mllm

        _, family, size = name.split("-")
        recipe = Recipe(warm_epochs=1, epochs=1) if smoke else Recipe()
        model, processor, cost = train_mllm(family, size, train, recipe, seed, log)
        row = {"family": FAMILIES[family], "role": "mllm", "class": type(model).__name__, "size": size}
        row |= {"context": CONTEXT} | count_parameters(model)
        save_mllm(model, processor, folder)
        scores = {s: examine_mllm(folder, rows, train) for s, rows in held.items()}
    row |= cost | {
        "seed": seed,
        "threads": torch.get_num_threads(),
        "recipe": dataclasses.asdict(recipe),
        "data": data_record(train),
    }
    row |= {"versions": versions(), "sha256": digests(folder), "scores": scores}
    write_card(folder, name, row)
    log(f"done: {json.dumps(scores['test'])}")
    return row


def run_all(names: list[str], args: argparse.Namespace) -> None:
    """One process a stand-in, a few side by side; each record is kept as soon as it is there."""
    waiting, running = list(names), {}
    with tempfile.TemporaryDirectory() as notes:
        while waiting or running:
            while waiting and len(running) < args.jobs:
                name = waiting.pop(0)
                command = [sys.executable, __file__, "--only", name, "--record", f"{notes}/{name}.json"]
                command += [
                    "--out",
                    str(args.out),
                    "--seed",
                    str(args.seed),
                    *(["--smoke"] if args.smoke else []),
                ]
                command += ["--catalogue", str(args.catalogue)] if args.catalogue else []
                running[name] = subprocess.Popen(command)
            time.sleep(0.2)
            for name in [n for n, process in running.items() if process.poll() is not None]:
                if running.pop(name).returncode:
                    for process in running.values():
                        process.terminate()
                    raise SystemExit(f"training {name} failed; its message stands above")
                keep_record(args.out, name, json.loads(Path(f"{notes}/{name}.json").read_text("utf-8")))


def keep_record(out: Path, name: str, row: dict) -> None:
    """Put one stand-in's record into standins.json, sorted by name."""
    path = out / "standins.json"
    old = json.loads(path.read_text("utf-8"))["models"] if path.exists() else {}
    whole = {"about": _about(), "models": dict(sorted((old | {name: row}).items()))}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _about() -> str:
    from standin_cards import NOTHING

    return NOTHING


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, help="folder of the stand-ins' folders and standins.json"
    )
    parser.add_argument(
        "--catalogue", type=Path, help="folder with items.csv; default is the embedded catalogue"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument(
        "--smoke", action="store_true", help="a few steps on toy pictures, to see that it runs"
    )
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.smoke and args.out == OUT:
        parser.error("--smoke needs --out, so that no trained stand-in is overwritten")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.smoke and not args.catalogue:
        from standin_data import synthetic_catalogue

        args.catalogue = synthetic_catalogue(args.out / "catalogue")
    if args.record:
        row = train_one(args.only[0], args.out, args.catalogue, args.seed, args.smoke)
        args.record.write_text(json.dumps(row), encoding="utf-8")
    else:
        run_all(args.only, args)


if __name__ == "__main__":
    main()
