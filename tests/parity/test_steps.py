"The steps of the walk against scikit-learn."

import numpy as np
import pandas as pd
import pytest
from parity_cases import SOME
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer

from mmpc_analysis.parity import mmpcbench_scores as mmpcbench
from mmpc_analysis.parity.steps import fitted_cosine, image_steps


def test_fitted_cosine_equals_scikit_learn():
    "With a vectoriser that also knows the candidates' words, whose idf is that of an unseen term."
    corpus = SOME["title"].tolist()
    candidates = [f"{t} unheard" for t in corpus[1:] + corpus[:1]]
    split = mmpcbench.mmpcbench_clean_text
    ours = fitted_cosine(corpus, candidates, corpus, lambda t: split(t).split())
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", norm=None, use_idf=False)
    counts = vectoriser.fit([split(t) for t in corpus + candidates]).transform([split(t) for t in corpus])
    idf = np.log((1 + len(corpus)) / (1 + (counts > 0).sum(axis=0))) + 1
    a, b = (
        vectoriser.transform([split(t) for t in texts]).toarray() * np.asarray(idf)
        for texts in (corpus, candidates)
    )
    expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "first_read"),
    [
        ("PNG", "reference"),
        ("JPEG", "reference"),
        ("GIF", "reference"),
        ("BMP", "reference"),
        ("WEBP", "formats"),
        ("TIFF", "formats"),
        ("AVIF", None),
        ("PPM", None),
    ],
)
@pytest.mark.parametrize("side", ["true", "drawn"])
def test_from_which_step_on_a_format_is_read(tmp_path, kind, first_read, side):
    "What MMPCBench skips is read from the second step on if a catalogue may hold it; AVIF is read by neither, and that is said."
    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.jpg", kind)
    Image.new("RGB", (40, 30), "navy").save(tmp_path / "other.png")
    true, drawn = ("one.jpg", "other.png") if side == "true" else ("other.png", "one.jpg")
    rows = pd.DataFrame(
        {"truth": [true], "image": [drawn], "outcome": ["ok"], "category": ["c"], "model": ["m"]}
    )
    unread = {}
    for steps in image_steps(rows, str(tmp_path), str(tmp_path), unread).values():
        names = [step.name for step in steps]
        read = [bool(np.isfinite(step.values).all()) for step in steps]
        start = len(names) if first_read is None else names.index(first_read)
        assert read == [k >= start for k in range(len(names))]
    assert sum(unread.values()) == (first_read is None)
    assert all("one.jpg" in reason for reason in unread)
