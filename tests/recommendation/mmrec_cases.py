"What the tests of VBPR, BM3, FREEDOM and MMGCN against MMRec share: its small data set, and how close is close."

import numpy as np
from conftest import ROOT

from mmpc_analysis.recommendation.splits import split_of_codes

DATA = ROOT / "tests" / "data" / "recommendation" / "mmrec"


def small():
    "The small data set, and its split."
    data = np.load(DATA / "data_small.npz")
    parts = (data[part] for part in ("train", "valid", "test"))
    return data, split_of_codes(*parts, int(data["n_users"]), int(data["n_items"]))


def features_of(case, data):
    "The features of a case: both modalities, or the one that its name ends with; some rows zero where it says so."
    image = data["image_feat"].copy()
    if "zero" in case:
        image[data["zero_image_rows"]] = 0
    both = {"image": image, "text": data["text_feat"]}
    return {
        name: rows
        for name, rows in both.items()
        if not case.endswith(("image", "text")) or case.endswith(name)
    }


def close(ours, theirs, within=1e-10):
    assert np.abs(np.asarray(ours.detach()) - theirs).max() < within


def dumped(found, key):
    "A graph that MMRec dumped, as a dense array of 64 bits."
    shape = tuple(found[f"{key}/shape"])
    dense = np.zeros(shape)
    np.add.at(dense, tuple(found[f"{key}/indices"]), found[f"{key}/values"].astype(float))
    return dense


def dense(graph):
    return graph.matrix().to_dense().numpy()
