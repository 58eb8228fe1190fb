"""Score adversarial pairs, resizes and decoded files with other implementations, and store the numbers for the parity tests.

Run from the top of the repository: python tools/make_parity_fixtures.py
It needs scikit-learn, sacrebleu, nltk, opencv-python-headless, scikit-image and pillow; no part of mmpc_analysis is used,
since what it writes must not depend on what it checks. tests/data/parity/text_pairs.json is not made here: its 120 pairs come
from aws-samples/retail-demo-store (MIT-0), with 14 edge cases, scored with scikit-learn 1.7.2 and sacrebleu 2.6.0.
"""

import base64
import hashlib
import io
import json
import re
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from nltk.translate.bleu_score import sentence_bleu
from PIL import Image
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "data" / "parity"

HARD = [
    ("Crème Brûlée Torch 12.5\" Steel", "creme brulee torch 12,5 inch steel"),
    ("USB-C cable, 2m; black & white", "usb c cable &amp; 2 m black &quot;white&quot;"),
    ("&lt;b&gt;Bold&lt;/b&gt; mug set of four", "<b>Bold</b> mug set of four"),
    ("&amp;lt; nested", "&lt; nested"), ("a <skipped> b c d e", "a b c d e"),
    ("It's 50% off: $3.99! Buy now.", "Its 50 % off $ 3.99 buy now"),
    ("well-\nknown brand of tea set", "wellknown brand of tea set"),
    ("tabs\tand\nnewlines\r\nin a title", "tabs and newlines in a title"),
    ("1,000 pieces 3.5.2 v2-4 10-pack", "1,000 pieces 3.5.2 v2-4 10 pack"),
    ("dots... and,, commas.,. 5...5", "dots... and,, commas.,. 5...5"),
    ("mug mug mug mug mug mug", "mug mug mug"), ("mug", "mug"), ("red toy car", "red toy car"), ("x y z w", "x y z w"),
    ("the and of is", "is of and the"), ("the and of is", "red toy car"), ("red toy car", "to be or not to be"),
    ("红色 玩具 汽车 大号", "红色 玩具 汽车 大号"), ("红色 toy 汽车", "toy"), ("ספל תה", "red mug"), ("🎸 guitar 🎸", "guitar"),
    ("İstanbul kebab K 5", "istanbul kebab k 5"), ("ﬁne ﬂour", "fine flour"), ("№ 5 ② ½", "no 5 2 1/2"),
    ("nbsp\u00a0between\u2009thin\x1cfs", "nbsp between thin fs"), ("record\x1eborder . , a", "record border . , a"),
    ("", "red mug"), ("red mug", ""), ("...", "..."), ("error", "error"), ("None", "none"), ("nan", "N/A"),
    ("A" * 3000, "a" * 3000), ("Steel Bottle " * 400, "Steel Bottle " * 3),
]  # fmt: skip


def random_pairs(rng):
    "Titles that share words in every amount, with the characters that tokenisers trip over."
    words = [
        "red",
        "mug",
        "the",
        "of",
        "x",
        "7.5",
        "Steel",
        "bottle",
        "é",
        "红色",
        "and",
        "24",
        "oz",
        ",",
        ".",
        "-",
        "set",
        "2-pack",
        "&amp;",
        "a.b",
        "1,5",
        "I'm",
    ]
    pairs = []
    for _ in range(300):
        real = [words[i] for i in rng.integers(0, len(words), rng.integers(1, 30))]
        made = [
            w if rng.random() < 0.8 else words[rng.integers(len(words))] for w in real if rng.random() < 0.9
        ]
        pairs.append((" ".join(real), " ".join(made)))
    return pairs


def long_pairs(rng):
    "More than 1,000 terms, with counts such that no tie lies across the limit: 400 words with all their pairs often."
    words = [f"w{i:03d}" for i in range(300)]
    common = " ".join(words) + " "
    rare = " ".join(f"r{i:04d}" for i in range(250))
    text = (
        common * 2 + rare
    )  # 300 words and 299 or 300 neighbours come twice; 250 + 250 terms once: 1,100 terms
    return [(text, common), (text, common * 3), (common, common)]


def clean(text):
    return re.sub(r"\s+", " ", re.sub(r"[^a-zA-Z0-9\s]", " ", text.lower())).strip()


def bleu(prediction, reference):
    "sacrebleu without smoothing, and NLTK on the same tokens; they must agree."
    metric = BLEU(smooth_method="none", effective_order=False)
    theirs = metric.corpus_score([prediction], [[reference]]).score / 100
    a, b = (Tokenizer13a()(text).split() for text in (prediction, reference))
    nltks = sentence_bleu([b], a) if len(a) >= 4 and theirs > 0 else 0.0
    if abs(theirs - nltks) > 1e-9:
        raise SystemExit(f"sacrebleu {theirs} and NLTK {nltks} differ on {prediction!r} and {reference!r}")
    return nltks


def score_pair(real, generated):
    a, b = clean(real), clean(generated)
    if not a or not b:
        return dict.fromkeys(("cosine", "euclidean", "jaccard", "overlap", "bleu", "bleu_in_order"), 0.0)
    vectoriser = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), max_features=1000)
    try:
        rows = vectoriser.fit_transform([a, b])
        cosine = float(cosine_similarity(rows[0:1], rows[1:2])[0, 0])
        euclidean = float(1 / (1 + euclidean_distances(rows[0:1], rows[1:2])[0, 0]))
    except ValueError:
        cosine = euclidean = 0.0
    x, y = set(a.split()), set(b.split())
    jaccard = len(x & y) / len(x | y)
    return {
        "cosine": cosine, "euclidean": euclidean, "jaccard": jaccard, "overlap": jaccard,
        "bleu": bleu(real, generated), "bleu_in_order": bleu(generated, real),
    }  # fmt: skip


def resize_fixtures(rng):
    "Hashes of OpenCV's bilinear resize of seeded noise, over every kind of ratio."
    sizes = [tuple(map(int, rng.integers(1, 120, 4))) for _ in range(200)]
    sizes += [(h, w, 2 * h, 2 * w) for h, w in ((1, 1), (1, 9), (17, 30))]
    sizes += [(2 * h, 2 * w, h, w) for h, w in ((1, 1), (1, 9), (17, 30))]
    sizes += [(1024, 1024, 500, 333), (300, 200, 7, 299), (64, 64, 299, 299)]
    rows = []
    for seed, (h, w, height, width) in enumerate(sizes):
        noise = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
        made = cv2.resize(noise, (width, height))
        rows.append([h, w, height, width, hashlib.sha256(made.tobytes()).hexdigest()[:16]])
    return rows


def files_of_every_kind(rng):
    "Small files that decoders might treat differently: name, bytes."
    soft = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((37, 23), Image.BICUBIC)
    alpha = Image.fromarray(rng.integers(0, 256, (23, 37), dtype=np.uint8))
    clear, grey = soft.copy(), soft.convert("L")
    clear.putalpha(alpha)
    grey.putalpha(alpha)
    deep = Image.fromarray(rng.integers(0, 65536, (23, 37)).astype(np.uint16))
    kinds = {
        "rgb.png": (soft, {}), "rgba.png": (clear, {}), "la.png": (grey, {}), "l.png": (soft.convert("L"), {}),
        "p.png": (soft.convert("P"), {}), "clear_p.png": (soft.convert("P"), {"transparency": 3}),
        "one.png": (soft.convert("1"), {}), "deep.png": (deep, {}), "grey.jpg": (soft.convert("L"), {}),
        "cmyk.jpg": (soft.convert("CMYK"), {}), "progressive.jpg": (soft, {"progressive": True}),
        "bmp.jpg": (soft, {"format": "BMP"}), "gif.jpg": (soft.convert("P"), {"format": "GIF"}),
    }  # fmt: skip
    kinds |= {f"sub{s}.jpg": (soft, {"quality": 75, "subsampling": s}) for s in (0, 1, 2)}
    for orientation in range(1, 9):
        note = Image.Exif()
        note[0x112] = orientation
        kinds[f"turned{orientation}.jpg"] = (soft, {"exif": note.tobytes()})
    for name, (picture, options) in kinds.items():
        buffer = io.BytesIO()
        picture.save(buffer, **({"format": "PNG" if name.endswith("png") else "JPEG"} | options))
        yield name, buffer.getvalue()


def picture_scores(real, generated):
    "As documented: squashed to the true one's size, float32 in [0, 1], scikit-image's defaults."
    if real.shape != generated.shape:
        generated = cv2.resize(generated, (real.shape[1], real.shape[0]))
    a, b = real.astype(np.float32) / 255, generated.astype(np.float32) / 255
    side = min(real.shape[:2])
    window = 7 if side >= 7 else side if side % 2 else side - 1
    return {
        "psnr": float(peak_signal_noise_ratio(a, b, data_range=1.0)),
        "ssim": float(structural_similarity(a, b, data_range=1.0, channel_axis=-1, win_size=window)),
        "mse": float(mean_squared_error(a, b)),
    }


def picture_fixtures(rng):
    files = dict(files_of_every_kind(rng))
    decoded = {n: cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_COLOR) for n, d in files.items()}
    pairs, names = [], sorted(files)
    for real, generated in zip(names, names[1:] + names[:1], strict=True):
        pairs.append([real, generated, picture_scores(decoded[real], decoded[generated])])
    small = []
    for h, w in ((3, 9), (4, 9), (5, 5), (6, 20), (7, 7)):
        noise = np.random.default_rng(h * 100 + w)
        real = noise.integers(0, 256, (h, w, 3), dtype=np.uint8)
        generated = noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        small.append([h, w, picture_scores(real, generated)])
    return {
        "files": {n: base64.b64encode(d).decode() for n, d in files.items()},
        "decoded": {
            n: [list(p.shape), hashlib.sha256(p[..., ::-1].tobytes()).hexdigest()[:16]]
            for n, p in decoded.items()
        },
        "pairs": pairs,
        "small": small,
        "resize": resize_fixtures(rng),
    }


def main():
    rng = np.random.default_rng(0)
    pairs = HARD + random_pairs(rng) + long_pairs(rng)
    names = ("scikit-learn", "sacrebleu", "nltk", "opencv-python-headless", "scikit-image", "pillow", "numpy")
    versions = {name: version(name) for name in names}
    texts = [{"real": r, "generated": g} | score_pair(r, g) for r, g in pairs]
    FIXTURES.mkdir(parents=True, exist_ok=True)
    contents = {
        "adversarial": {"versions": versions, "pairs": texts},
        "pictures": {"versions": versions} | picture_fixtures(rng),
    }
    for name, content in contents.items():
        path = FIXTURES / f"{name}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print("wrote", path.name, path.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
