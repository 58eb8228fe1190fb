"""Does the GPU path run, how fast, in how much memory, and do answers depend on the batch? At most ten minutes on one GPU.

python bench/gpu.py                          # stand-ins, and random models of the true 4B and 7B shapes; writes gpu.json
python bench/gpu.py --tiny --device cpu      # the same steps with small random models, as tried where there is no GPU
python bench/gpu.py --only gemma-3-4b --out results.json

Random weights answer nonsense, at the speed and in the memory of trained ones of the same shape. Where there is no GPU it says so
and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.backends import TransformersBackend
from mmpc_analysis.completion.checkpoints import (
    Engine,
    greedy_settings,
    limit_pixels,
    load_processor,
    special_tokens,
)
from mmpc_analysis.completion.devices import BackendError, resolve_device
from mmpc_analysis.completion.memory import memory_estimate, model_shape, published_shapes
from mmpc_analysis.completion.models import find_weights, model_card
from mmpc_analysis.completion.pixels import PIXEL_BUDGETS
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Request

TITLE, NEW_TOKENS, LIMIT = prompt_for("image_to_text"), 32, 540  # Seconds after which no further part begins
HUB = {"gemma-3-4b": "google/gemma-3-4b-it", "qwen2.5-vl-7b": "Qwen/Qwen2.5-VL-7B-Instruct"}


def config_of(name: str, tiny: bool):
    """The configuration of a model's true shape, or of a small one of the same architecture."""
    from transformers import Gemma3Config, Qwen2_5_VLConfig

    shape = published_shapes()[HUB[name]]
    heads = 8 if name.startswith("gemma") else 28
    layers, depth = (2, 2) if tiny else (shape.layers, None)
    text = {
        "vocab_size": shape.vocabulary,
        "num_hidden_layers": layers,
        "num_key_value_heads": shape.kv_heads,
    }
    text |= {"hidden_size": shape.hidden, "intermediate_size": shape.inner, "num_attention_heads": heads}
    if tiny:
        text |= {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 2_000,
        }
    seen = {
        "hidden_size": 64 if tiny else shape.vision_hidden,
        "intermediate_size": 128 if tiny else shape.vision_inner,
        "patch_size": 14,
    }
    if name.startswith("gemma"):
        text["head_dim"] = 16 if tiny else shape.head_dim
        seen |= {
            "num_hidden_layers": depth or 27,
            "num_attention_heads": 4 if tiny else 16,
            "image_size": 896,
            "vision_use_head": False,
        }
        return Gemma3Config(text_config=text, vision_config=seen, mm_tokens_per_image=256)
    sections = [2, 3, 3] if tiny else [16, 24, 24]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    seen |= {"depth": depth or 32, "num_heads": 4 if tiny else 16, "out_hidden_size": text["hidden_size"]}
    seen["fullatt_block_indexes"] = [1] if tiny else [7, 15, 23, 31]
    return Qwen2_5_VLConfig(text_config=text, vision_config=seen)


def random_backend(name: str, device: str, dtype: str, tiny: bool) -> TransformersBackend:
    """A backend with random weights of a model's shape, and the stand-in's tokenizer with published picture sizes."""
    import torch
    from transformers import AutoModelForImageTextToText

    gemma = name.startswith("gemma")
    processor = load_processor(find_weights(model_card("standin-gemma-s" if gemma else "standin-qwen-s")))
    images = processor.image_processor
    images.patch_size = 14
    edges = {"height": 896, "width": 896} if gemma else {"shortest_edge": 3_136, "longest_edge": 12_845_056}
    images.size = type(images.size)(**edges)
    if gemma:
        processor.image_seq_length = 256
        processor.full_image_sequence = re.sub(
            rf"({re.escape(processor.image_token)})+",
            processor.image_token * 256,
            processor.full_image_sequence,
        )
    budget = PIXEL_BUDGETS["Gemma-3" if gemma else "Qwen2.5-VL"]
    limit_pixels(images, budget)
    config, tokenizer = config_of(name, tiny), processor.tokenizer
    config.image_token_id = processor.image_token_id
    if not gemma:
        starts = [
            tokenizer.convert_tokens_to_ids(t)
            for t in ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
        ]
        config.vision_start_token_id, config.vision_end_token_id, config.video_token_id = starts
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = AutoModelForImageTextToText.from_config(config).eval()
    finally:
        torch.set_default_dtype(before)
    settings = greedy_settings(model.generation_config, tokenizer)
    settings.min_new_tokens = NEW_TOKENS  # Random weights would end anywhere
    settings.eos_token_id = [tokenizer.eos_token_id]
    model.generation_config = settings
    source = find_weights(model_card("standin-gemma-s" if gemma else "standin-qwen-s"))
    backend = TransformersBackend(
        source, device=device, dtype=dtype, batch_size=64, pixels=budget, memory=10**12
    )
    vars(backend)["engine"] = Engine(processor, model, special_tokens(tokenizer))
    return backend


def questions(n: int, size: tuple[int, int]) -> list[Request]:
    """Different pictures with one question."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (n, 12, 16, 3), dtype=np.uint8)
    pictures = [Image.fromarray(c).resize(size, 3) for c in coarse]
    return [Request(str(i), conversation(TITLE, image=True), p, NEW_TOKENS) for i, p in enumerate(pictures)]


def peak(device: str) -> float:
    """Most GB that torch held since the last call; NaN on a CPU."""
    import torch

    if device == "cpu":
        return float("nan")
    held = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return held


def measure(
    name: str, backend: TransformersBackend, batches: tuple[int, ...], size: tuple[int, int], shape
) -> list[dict]:
    """Speed, memory and changed answers at several batch sizes, against one question at a time."""
    asked, rows, alone = questions(max(batches), size), [], {}
    backend.answer(backend.prepare(asked[:1]))  # Warm
    for batch in (1, *batches):
        peak(backend.device)
        began, said = time.perf_counter(), {}
        for first in range(0, len(asked) if batch > 1 else min(8, len(asked)), batch):
            answers = backend.answer(backend.prepare(asked[first : first + batch]))
            said |= {a.key: a.text for a in answers}
        seconds = time.perf_counter() - began
        alone = alone or said
        estimate = memory_estimate(shape, batch, size, new_tokens=NEW_TOKENS, precision=backend.precision, pixels=backend.pixels) if shape else None  # fmt: skip
        rows.append({
            "model": name, "device": backend.device, "precision": backend.precision, "batch": batch, "questions": len(said),
            "per_second": len(said) / seconds, "input_tokens": answers[0].input_tokens,
            "peak_gb": peak(backend.device), "estimated_gb": estimate.total / 1e9 if estimate else None,
            "compared": len(alone), "changed": sum(said[key] != text for key, text in alone.items()),
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Run what fits into the time and write it down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="*", default=["standins", *HUB])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    given = parser.parse_args()
    try:
        device = resolve_device(given.device)
    except BackendError as error:
        print(f"no GPU: not run ({error})")
        return
    import torch
    import transformers

    began, rows, left = time.monotonic(), [], []
    dtype, batches = (
        given.precision or ("float32" if device == "cpu" else "bfloat16"),
        (2, 4) if given.tiny else (8, 32),
    )
    for part in given.only:
        if time.monotonic() - began > LIMIT / 2 and part != given.only[0]:
            left.append(part)
            continue
        if part == "standins":
            for name in ("standin-qwen-s", "standin-gemma-s"):
                for precision in dict.fromkeys(("float32", dtype)):
                    backend = load_backend(name, device=device, precision=precision)
                    rows += measure(name, backend, batches, (224, 224), model_shape(backend.source))
                    backend.close()
            continue
        backend = random_backend(part, device, dtype, given.tiny)
        shape = None if given.tiny else replace(published_shapes()[HUB[part]])
        rows += measure(
            part + (" (tiny)" if given.tiny else ""),
            backend,
            batches,
            (1200, 900) if not given.tiny else (300, 200),
            shape,
        )
        backend.close()
    where = torch.cuda.get_device_name() if device != "cpu" else "cpu"
    facts = {
        "machine": where,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }
    facts |= {"seconds": time.monotonic() - began, "left_out": left, "rows": rows}
    given.out.write_text(json.dumps(facts, indent=1))
    print(f"{facts['seconds']:.0f} s on {where}; {len(rows)} rows in {given.out}")


if __name__ == "__main__":
    main()
