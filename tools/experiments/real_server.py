"""Do answers of a model behind `transformers serve` equal its answers in process? Two stand-ins, a few listings, one small JSON.

python tools/experiments/real_server.py                      # both stand-ins, to tests/data/completion/real_server.json
python tools/experiments/real_server.py --items 64 --out other.json
python tools/experiments/real_server.py --serve FOLDER PORT  # only the server, with Qwen's processor for pictures alone
python tools/experiments/real_server.py --serve FOLDER PORT --blind   # the same, but it drops pictures without a word
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = str(files("mmpc_analysis") / "data" / "catalogue")
PACKAGES = ["transformers", "torch", "fastapi", "uvicorn", "openai", "pillow"]


def serve(folder: str, port: str, blind: bool = False) -> None:
    """`transformers serve` with a processor for Qwen that needs no torchvision.

    A blind one has a bare tokenizer instead, as AutoProcessor falls back to where it finds no processor; then pictures are dropped in silence.
    """
    from transformers import AutoProcessor, AutoTokenizer
    from transformers.cli.transformers import main

    from mmpc_analysis.completion.checkpoints import register_processors

    register_processors()
    if blind:
        AutoProcessor.from_pretrained = AutoTokenizer.from_pretrained
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", port]
    sys.argv = ["transformers", "serve", folder, *options]
    main()


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(folder: str, blind: bool = False, wait: float = 600.0):
    """The address of a real server of a checkpoint, which ends with the block."""
    port, log = free_port(), tempfile.TemporaryFile()  # noqa: SIM115
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    command = [__file__, "--serve", folder, str(port), *["--blind"] * blind]
    process = subprocess.Popen(
        [sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, env=environment
    )
    until = time.monotonic() + wait
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"the server did not start: {log.read()[-2000:].decode()}") from None
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def questions(n: int) -> list:
    """Both tasks for the first test listings."""
    from mmpc_analysis.catalogue.pictures import open_image
    from mmpc_analysis.completion.prompts import conversation, prompt_for
    from mmpc_analysis.completion.protocol import Request

    items = pd.read_csv(f"{CATALOGUE}/items.csv", dtype=str).query("split == 'test'").head(n)
    title, prompt = (prompt_for(task, short=True) for task in ("image_to_text", "text_to_image"))
    asked = []
    for item in items.itertuples(index=False):
        picture = open_image(CATALOGUE, item.image)
        asked.append(
            Request(f"title {item.item_id}", conversation(title, image=True), picture, title.max_new_tokens)
        )
        asked.append(
            Request(
                f"prompt {item.item_id}", conversation(prompt, title=item.title), None, prompt.max_new_tokens
            )
        )
    return asked


def compare(model: str, n: int, blind: bool = False) -> dict:
    """What a stand-in says in process and behind the real server, and what the probe found."""
    from mmpc_analysis.completion.backend_choice import load_backend
    from mmpc_analysis.completion.models import find_weights, model_card
    from mmpc_analysis.completion.servers import ServerBackend

    asked, here = questions(n), load_backend(model)
    fitted = [
        r if r.image is None else type(r)(r.key, r.conversation, here.fit(r.image), r.max_new_tokens)
        for r in asked
    ]
    known = {a.key: a for a in here.ask(fitted)}
    folder = find_weights(model_card(model))
    with running(folder, blind) as address:
        began = time.perf_counter()
        engine = ServerBackend(address, folder, image_format="png", timeout=600)
        profile = asdict(engine.probed)
        probed = time.perf_counter() - began
        found, shown = {}, {}
        for form, requests in (("png", asked), ("png, fitted before", fitted), ("jpeg", asked)):
            began = time.perf_counter()
            answers = ServerBackend(
                address, profile=engine.probed, image_format=form.split(",")[0], timeout=600
            ).ask(requests)
            wall = time.perf_counter() - began
            found[form] = {a.key: a for a in answers}
            shown[form] = {
                task: {
                    "questions": sum(k.startswith(task) for k in known),
                    "equal answers": sum(k.startswith(task) and found[form][k].text == a.text for k, a in known.items()),
                    "equal reasons": sum(k.startswith(task) and found[form][k].finish_reason == a.finish_reason for k, a in known.items()),
                    "equal prompt tokens": sum(k.startswith(task) and found[form][k].input_tokens == a.input_tokens for k, a in known.items()),
                    "equal answer tokens": sum(k.startswith(task) and found[form][k].output_tokens == a.output_tokens for k, a in known.items()),
                }
                for task in ("title", "prompt")
            }  # fmt: skip
            shown[form] |= {
                "seconds": round(wall, 2),
                "shared seconds": round(sum(a.seconds for a in answers), 2),
            }
    profile |= {name: profile[name].replace(folder, "FOLDER") for name in ("model", "served")}
    profile["models"] = len(profile["models"])
    profile["words"] = {name: words.replace(folder, "FOLDER") for name, words in profile["words"].items()}
    return {"probe seconds": round(probed, 2), "profile": profile, "against in process": shown}


def blind_server(model: str) -> dict:
    """What the probe finds at the same server where it drops pictures in silence."""
    from mmpc_analysis.completion.models import find_weights, model_card
    from mmpc_analysis.completion.servers import ServerBackend

    folder = find_weights(model_card(model))
    with running(folder, blind=True) as address:
        return {"pictures": ServerBackend(address, folder, timeout=600).probed.pictures}


def main() -> None:
    """Read the arguments; serve, or compare and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="stand-in, may be repeated")
    parser.add_argument("--items", type=int, default=32, help="listings; each is asked twice")
    parser.add_argument("--out", default=str(ROOT / "tests" / "data" / "completion" / "real_server.json"))
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"), help="only serve a checkpoint")
    parser.add_argument("--blind", action="store_true", help="serve without pictures")
    given = parser.parse_args()
    if given.serve:
        serve(*given.serve, given.blind)
        return
    models = given.model or ["standin-gemma-s", "standin-qwen-s"]
    told = {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "items": given.items,
        "models": {model: compare(model, given.items) for model in models},
    }
    told["blind servers"] = {model: blind_server(model) for model in models}
    text = json.dumps(told, indent=1, sort_keys=True, default=lambda x: None if math.isnan(x) else x)
    Path(given.out).parent.mkdir(parents=True, exist_ok=True)
    Path(given.out).write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
