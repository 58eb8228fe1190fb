"The steps of the walk against scikit-learn."

import numpy as np
from parity_cases import SOME
from sklearn.feature_extraction.text import TfidfVectorizer

from mmpc_analysis.parity import mmpcbench_scores as mmpcbench
from mmpc_analysis.parity.steps import fitted_cosine


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
