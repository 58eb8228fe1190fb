"""Held-out scores of the stand-ins and the cards that state them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from pathlib import Path

import numpy as np
from standin_data import PIXELS, Listings, answer, data_fingerprint
from standin_mllm import ask, to_images

from mmpc_analysis.completion.answers import read_answer
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.metrics.images import effnet_features, patch_cosine, pooled_cosine
from mmpc_analysis.metrics.semantic import minilm_cosine
from mmpc_analysis.metrics.text_encoders import EncoderMissing
from mmpc_analysis.metrics.words import chrf, token_f1

NOTHING = (
    "A stand-in, trained from scratch in minutes on a thousand small drawings so that the package runs without a "
    "download. It proves nothing about the published models of its family, nor about what size does to them."
)

MEMORY = (
    "It knows the training pictures by heart: a prompt that names a product and a designer who did not draw it in "
    "the training split was answered there by the drawing of the designer with the nearest pictures. So a held-out "
    "pair gets a likeness of another designer's drawing, whatever the noise, and a product that training never saw "
    "gets some other product. The recipe was chosen on drawings held out inside the training split; the model that "
    "ships learnt from all of it."
)


def text_scores(candidates: list[str], references: list[str]) -> dict[str, np.ndarray]:
    """(n,) scores by the package's own metrics; MiniLM only where the `demo` extra is installed."""
    scores = {"token_f1": token_f1(references, candidates), "chrf": chrf(references, candidates)}
    with contextlib.suppress(EncoderMissing):
        scores["minilm_cosine"] = minilm_cosine(references, candidates)
    return scores


def shuffled(listings: Listings, seed: int = 0) -> np.ndarray:
    """(n,) for each item another one of its category, itself where it is alone."""
    rng = np.random.default_rng(seed)
    other = np.arange(len(listings))
    category = listings.items["category"].to_numpy()
    for name in np.unique(category):
        members = np.flatnonzero(category == name)
        turn = rng.permutation(members)
        other[turn] = np.roll(turn, 1)
    return other


def lead(ours: np.ndarray, theirs: np.ndarray, seed: int = 0, draws: int = 2000) -> list[float]:
    """Mean difference over items and its 95% bootstrap interval."""
    gap = ours - theirs
    rng = np.random.default_rng(seed)
    means = gap[rng.integers(0, len(gap), (draws, len(gap)))].mean(1)
    return [round(float(v), 4) for v in (gap.mean(), *np.quantile(means, [0.025, 0.975]))]


def read(raw: list[str], key: str) -> list[str]:
    """The texts of answers, empty for a failed one."""
    return [read_answer(text, key, "stop").text or "" for text in raw]


def examine_mllm(folder: Path, held: Listings, train: Listings) -> dict:
    """Scores on one held-out split, beside the floors and with the lead over each."""
    title, prompt = prompt_for("image_to_text", short=True), prompt_for("text_to_image", short=True)
    shown = read(
        ask(folder, [conversation(title, image=True)] * len(held), to_images(held.pictures)), "title"
    )
    blind = read(ask(folder, [conversation(title)], None), "title") * len(held)
    told = ask(folder, [conversation(prompt, title=t) for t in held.titles], None)
    ask(folder, [conversation(prompt)], None)
    others = [held.titles[i] for i in shuffled(held)]
    plain = [f"{c.replace('_', ' ')} product" for c in held.items["category"]]
    ours = text_scores(shown, held.titles)
    floors = {
        n: text_scores(t, held.titles)
        for n, t in (("blind", blind), ("shuffled", others), ("template", plain))
    }
    return {
        "n": len(held),
        "image_to_text": {m: round(float(v.mean()), 4) for m, v in ours.items()}
        | {
            "exact_name": _share(n.lower() in t.lower() for n, t in zip(held.names, shown, strict=True)),
            "exact_title": _share(a == b for a, b in zip(shown, held.titles, strict=True)),
            "designer": _share(b in t for b, t in zip(held.items["brand"], shown, strict=True)),
            "category": _share(np.array(categories(shown, train)) == held.items["category"].to_numpy()),
            "answered": _share(bool(t) for t in shown),
        },
        "floors": {n: {m: round(float(v.mean()), 4) for m, v in s.items()} for n, s in floors.items()},
        "lead": {n: {m: lead(ours[m], v) for m, v in s.items()} for n, s in floors.items()},
        "text_to_image": {
            "exact_prompt": _share(r == answer("prompt", p) for r, p in zip(told, held.prompts, strict=True)),
            "names_product": _share(n in r for n, r in zip(held.names, told, strict=True)),
            "answered": _share(bool(t) for t in read(told, "prompt")),
        },
    }


def _share(flags) -> float:
    return round(float(np.mean(list(flags))), 4)


def categories(titles: list[str], train: Listings) -> list[str]:
    """The category of the longest training name that a title contains, empty for none."""
    known = {n.lower(): c for n, c in zip(train.names, train.items["category"], strict=True)}
    names = sorted(known, key=lambda n: (-len(n), n))
    return [next((known[n] for n in names if n in title.lower()), "") for title in titles]


def examine_sd3(drawn: np.ndarray, held: Listings, train: Listings) -> dict:
    """How near drawn pictures are to the true ones, beside another true picture of the category."""
    turn = shuffled(held)
    true, other = held.pictures, held.pictures[turn]
    ours, theirs = (((p / 255.0 - true / 255.0) ** 2).mean((1, 2, 3)) for p in (drawn, other))
    scores = {
        "n": len(held),
        "psnr": round(float((-10 * np.log10(np.maximum(ours, 1e-6))).mean()), 3),
        "psnr_shuffled": round(float((-10 * np.log10(np.maximum(theirs, 1e-6))).mean()), 3),
        "mse_lead_over_shuffled": lead(theirs, ours),
    }
    with contextlib.suppress(EncoderMissing):
        seen, made, known = (picture_features(p) for p in (true, drawn, train.pictures))
        near, far = pooled_cosine(seen, made), pooled_cosine(seen, seen[turn])
        near_patch, far_patch = patch_cosine(seen, made), patch_cosine(seen, seen[turn])
        alike = _unit_pooled(made) @ _unit_pooled(known).T
        scores |= {
            "effnet_cosine": round(float(near.mean()), 4),
            "effnet_cosine_shuffled": round(float(far.mean()), 4),
            "effnet_lead_over_shuffled": lead(near, far),
            "effnet_patch_cosine": round(float(near_patch.mean()), 4),
            "effnet_patch_cosine_shuffled": round(float(far_patch.mean()), 4),
            "effnet_patch_lead_over_shuffled": lead(near_patch, far_patch),
            "nearer_than_shuffled": _share(near > far),
            "concept_of_nearest_training_picture": _share(train.concepts[alike.argmax(1)] == held.concepts),
        }
    return scores


def picture_features(pictures: np.ndarray) -> np.ndarray:
    """(n, places, 1280) EfficientNet-Lite0 features, at twice the size."""
    large = [np.asarray(p.resize((2 * PIXELS, 2 * PIXELS))) for p in to_images(pictures)]
    return effnet_features(np.stack(large))


def _unit_pooled(features: np.ndarray) -> np.ndarray:
    # (n, 1280) mean over places, of unit length.
    pooled = features.mean(1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def data_record(train: Listings) -> dict:
    """Which listings were learnt from."""
    return {
        "split": "train",
        "listings": len(train),
        "concepts": int(train.concepts.max()) + 1,
        "designers": int(train.designers.max()) + 1,
        "fingerprint": data_fingerprint(train),
    }


def versions() -> dict[str, str]:
    """What the weights were made with."""
    from importlib.metadata import version

    names = ("torch", "transformers", "diffusers", "tokenizers", "safetensors", "numpy", "pillow")
    return {"python": platform.python_version()} | {n: version(n) for n in names}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each weight file."""
    files = sorted(folder.rglob("*.safetensors"))
    return {str(f.relative_to(folder).as_posix()): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def write_card(folder: Path, name: str, row: dict) -> None:
    """The README.md of one stand-in."""
    shown = {k: v for k, v in row.items() if k not in ("scores", "sha256", "versions", "recipe", "files")}
    lines = ["---", "license: apache-2.0", "---", "", f"# {name}", "", NOTHING, "", "## What it is", ""]
    lines += [f"- {key}: {value}" for key, value in shown.items()]
    lines += ["", "## How it was made", "", "```json", json.dumps(row["recipe"], indent=1), "```", ""]
    lines += [f"Versions: {', '.join(f'{k} {v}' for k, v in row['versions'].items())}."]
    lines += ["", "## Held-out scores", "", "```json", json.dumps(row["scores"], indent=1), "```", ""]
    lines += ["## Files", "", *(f"- `{f}` sha256 `{d}`" for f, d in row["sha256"].items()), ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
