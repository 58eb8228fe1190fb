"""The listings the stand-ins learn from, as texts, small pictures and vocabularies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

PIXELS = 64  # Edge of every picture a stand-in sees
VOCABULARY = 2000  # Entries of each tokenizer, special tokens and bytes included
CATALOGUE = Path(__file__).resolve().parents[2] / "mmpc_analysis" / "data" / "catalogue"


@dataclass(frozen=True)
class Listings:
    """Listings of one split: row i of every field is the same item."""

    items: pd.DataFrame  # The catalogue's columns
    pictures: np.ndarray  # (n, 3, PIXELS, PIXELS) uint8, on white
    titles: list[str]  # What the title task must answer
    prompts: list[str]  # What the prompt task must answer
    names: list[str]  # The products' bare names
    concepts: np.ndarray  # (n,) index of the concept, -1 where training has none
    designers: np.ndarray  # (n,) index of the designer (the brand), -1 where training has none

    def __len__(self) -> int:
        return len(self.items)


DRAWN = " as drawn in the "  # How the catalogue describes a drawing: name, designer's set, kind


def bare_name(title: str, brand: str, description: str) -> str:
    """The product's name, without the brand and the keywords around it."""
    if DRAWN in description:
        return description.split(DRAWN)[0]
    return title.split(",")[0].strip().removeprefix(brand).strip() or title.strip()


def image_prompt(name: str, brand: str, description: str, keywords: str) -> str:
    """The prompt from which the generator draws: name, two keywords, designer."""
    words = [word.strip() for word in keywords.split(",") if word.strip()][:2]
    kind, style = ("Drawing", f"{brand} style, on white") if DRAWN in description else ("Photo", brand)
    return ", ".join([f"{kind} of {name}", *words, style])


def small_picture(path: Path) -> np.ndarray:
    """A picture at the stand-ins' size, channels first."""
    with Image.open(path) as image:
        square = image.convert("RGB").resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def read_split(split: str, root: Path | None = None, like: Listings | None = None) -> Listings:
    """The listings of one split that have title and picture, numbered as in `like` where that is given."""
    root = root or CATALOGUE
    items = pd.read_csv(root / "items.csv", dtype=str, keep_default_na=False)
    items = items[(items["split"] == split) & (items["title"] != "") & (items["image"] != "")]
    items = items.sort_values("item_id").reset_index(drop=True)
    if items.empty:
        raise ValueError(f"{root / 'items.csv'} has no complete listing in split {split!r}")
    told = items[["title", "brand", "description", "keywords"]].to_numpy()
    names = [bare_name(title, brand, description) for title, brand, description, _ in told]
    prompts = [image_prompt(name, *row[1:]) for name, row in zip(names, told, strict=True)]
    pictures = np.stack([small_picture(root / image) for image in items["image"]])
    numbers = [_numbers(items[c], (like.items if like else items)[c]) for c in ("parent_id", "brand")]
    return Listings(items, pictures, items["title"].tolist(), prompts, names, *numbers)


def _numbers(values: pd.Series, known: pd.Series) -> np.ndarray:
    # Place of each value among the sorted known ones.
    place = {value: i for i, value in enumerate(sorted(set(known)))}
    return np.array([place.get(value, -1) for value in values])


def data_fingerprint(listings: Listings) -> str:
    """SHA-256 over ids, titles and small pictures: the same data, the same digest."""
    digest = hashlib.sha256()
    for item, title, picture in zip(
        listings.items["item_id"], listings.titles, listings.pictures, strict=True
    ):
        digest.update(json.dumps([item, title]).encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()


def answer(key: str, text: str) -> str:
    """The answer that a stand-in is taught to write."""
    return json.dumps({key: text}, ensure_ascii=False)


def learn_merges(
    texts: list[str],
    size: int,
    split,
    *,
    special: list[str] = (),
    ending: str | None = None,
    bytes_: bool = True,
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-pair vocabulary and its merges; no merge reaches over the borders `split` draws.

    Source: Sennrich et al. (2016), arXiv:1508.07909.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    suffix = {"end_of_word_suffix": ending} if ending else {}
    learner = Tokenizer(models.BPE(**suffix))
    learner.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()) if bytes_ else [],
        show_progress=False,
        **suffix,
    )
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def corpus(train: Listings, texts: list[str]) -> list[str]:
    """Everything the tokenizers learn from: answers, the task line, the fixed texts (often)."""
    answers = [answer("title", t) for t in train.titles] + [answer("prompt", p) for p in train.prompts]
    return answers + [f"Title: {t}" for t in train.titles] + texts * len(train)


def synthetic_catalogue(root: Path, concepts: int = 12, brands: int = 4, seed: int = 0) -> Path:
    """A toy catalogue of coloured shapes in the embedded catalogue's form, for smoke tests."""
    from PIL import ImageDraw

    rng = np.random.default_rng(seed)
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for c in range(concepts):
        colour, box = tuple(int(v) for v in rng.integers(0, 230, 3)), rng.integers(4, 20, 4)
        for b in range(brands):
            image = Image.new("RGB", (96, 96), "white")
            shape = ImageDraw.Draw(image)
            draw = (shape.ellipse, shape.rectangle)[c % 2]
            draw((box[0] + 3 * b, box[1], 90 - box[2], 90 - box[3] - 3 * b), fill=colour)
            name = f"pictures/toy-{c:02d}-{b}.webp"
            image.save(root / name, lossless=True)
            rows.append(
                dict(
                    item_id=f"toy-{c:02d}-{b}",
                    category=f"Category_{c % 3}",
                    title=f"Brand{b} Shape Number{c}, Toy, Colour{c % 3}",
                    image=name,
                    brand=f"Brand{b}",
                    description=f"Shape Number{c} as drawn in the Brand{b} set. Kind: toys.",
                    keywords="toy",
                    parent_id=f"shape-{c:02d}",
                    split="test" if (b + c) % brands == 0 else "train",
                )
            )
    pd.DataFrame(rows).to_csv(root / "items.csv", index=False)
    return root
