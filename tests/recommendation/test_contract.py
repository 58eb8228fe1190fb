"The contract of a recommender: kept by the built-in ones, and every way to break it is named."

import json
import runpy
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from conftest import ROOT

from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.purchases import simulate_interactions
from mmpc_analysis.recommendation.benchmark import condition_keys, make_benchmark, run_grid
from mmpc_analysis.recommendation.collaborative import BPR, BPRSettings, Recommender, VBPRSettings, popularity
from mmpc_analysis.recommendation.contract import (
    RecommenderError,
    all_scores,
    check_recommender,
    least_recall,
    toy_shop,
)
from mmpc_analysis.recommendation.grids import Grid, conditions
from mmpc_analysis.recommendation.ranking import rank
from mmpc_analysis.recommendation.training import (
    BUILT_IN_RECOMMENDERS,
    RECOMMENDERS,
    RecommenderCard,
    Training,
    fit,
    register_recommender,
)
from mmpc_analysis.tables import COMPLETIONS, empty

HOW_TO = ROOT / "nbs" / "tutorials" / "own_recommender.ipynb"


@pytest.fixture
def registry():
    "Recommenders that are registered in a test are gone after it."
    before = dict(RECOMMENDERS)
    yield RECOMMENDERS
    RECOMMENDERS.clear()
    RECOMMENDERS.update(before)


def own(make, uses_features=False, settings=None, **more):
    return RecommenderCard("own", "Own", "", uses_features, settings, make, **more)


def profile(split, features, settings, seed):
    "A user is the sum of the features of what the user bought."
    items = np.hstack([features["text"], features["image"]])
    bought = np.zeros((len(split.users), len(split.items)))
    bought[tuple(split.train.T)] = 1
    return bought @ items, items


class Blocks:
    "Any matrix of scores, block by block."

    def __init__(self, scores):
        self.scores = scores

    def score_block(self, users):
        return self.scores[users]


def kinds(split, features, settings, seed):
    "Scores by how often a user bought an item of a kind, as a block."
    counts = np.zeros((len(split.users), 4))
    np.add.at(counts, (split.train[:, 0], split.train[:, 1] % 4), 1)
    return Blocks(np.tile(counts, (1, len(split.items) // 4)))


# ---------------------------------------------------------------- who keeps it


@pytest.mark.parametrize("name", BUILT_IN_RECOMMENDERS)
def test_the_built_in_ones_keep_it(name):
    found = check_recommender(name)
    assert len(found) == 6 and found["seen"].str.len().min() > 0


def test_one_of_ones_own_keeps_it_by_vectors_and_by_blocks():
    assert "others give other scores" in check_recommender(own(profile, True))["seen"].tolist()
    assert "none are given" in check_recommender(own(kinds))["seen"].tolist()


def test_one_that_is_trained_keeps_it_with_settings_of_its_own():
    @dataclass(frozen=True)
    class Width:
        width: int = 16

    def make(split, features, settings, seed):
        return BPR(split, settings=BPRSettings(settings.width), seed=seed)

    check_recommender(own(make, settings=Width), settings=Width(32))
    with pytest.raises(RecommenderError, match="own failed on the toy shop: TypeError: own takes Width"):
        check_recommender(own(make, settings=Width), settings=BPRSettings())


def test_nothing_is_registered_by_a_check():
    check_recommender(own(profile, True))
    assert "own" not in RECOMMENDERS


# ---------------------------------------------------------------- who breaks it


def too_few_items(split, features, settings, seed):
    return np.ones((120, 2)), np.ones((47, 2))


def items_by_users(split, features, settings, seed):
    return np.ones((48, 2)), np.ones((120, 2))


def no_vectors(split, features, settings, seed):
    return np.ones(120)


def divides_by_length(split, features, settings, seed):
    with np.errstate(all="ignore"):
        rows = features["text"] / np.linalg.norm(features["text"], axis=1, keepdims=True)
    return profile(split, features | {"text": rows}, settings, seed)


def global_numpy(split, features, settings, seed):
    return np.random.normal(size=(120, 4)), np.random.normal(size=(48, 4))  # noqa: NPY002


def global_torch(split, features, settings, seed):
    return torch.randn(120, 4), torch.randn(48, 4)


def counts_the_test(split, features, settings, seed):
    return popularity(replace(split, train=split.test, test=split.train[:0]))


def reads_nothing(split, features, settings, seed):
    return kinds(split, None, settings, seed)


def guesses(split, features, settings, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(120, 4)), rng.normal(size=(48, 4))


def worst_first(split, features, settings, seed):
    return Blocks(-popularity(split).score_block(np.arange(120)))


def changes_features(split, features, settings, seed):
    features["text"] *= 2
    return profile(split, features, settings, seed)


def changes_split(split, features, settings, seed):
    split.train[:] = split.train[:, :1]
    return np.ones((120, 1)), np.ones((48, 1))


def needs_texts(split, features, settings, seed):
    if not features["text"].any():
        raise KeyError("no text")
    return profile(split, features, settings, seed)


class ByPlace(Blocks):
    def score_block(self, users):
        return self.scores[: len(users)]


@pytest.mark.parametrize(
    ("make", "reads", "message"),
    [
        (too_few_items, False, r"own, the toy shop: there must be \(120, 48\) scores, .* got \(120, 47\)"),
        (items_by_users, False, r"got \(48, 120\)"),
        (no_vectors, False, "make must give a Recommender, two arrays of vectors or an object"),
        (divides_by_length, True, "scores are no numbers, such as that of user"),
        (global_numpy, False, "the same seed gives other scores"),
        (global_torch, False, "the same seed gives other scores"),
        (counts_the_test, False, "scores depend on the test purchases; learn from split.train"),
        (reads_nothing, True, "uses_features is True, and other features change no score"),
        (guesses, False, "of the purchases, it must find over"),
        (worst_first, False, "of the purchases, it must find over"),
        (changes_features, True, "changes its split or features in place"),
        (changes_split, False, "changes its split or features in place"),
        (needs_texts, True, "own failed on no item with a text: KeyError"),
        (lambda *_: ByPlace(kinds(toy_shop()[0], None, None, 0).scores), False, "alike in every block"),
    ],
)
def test_what_breaks_it_is_named(make, reads, message):
    with pytest.raises(RecommenderError, match=message):
        check_recommender(own(make, reads))


def test_a_training_that_learns_backwards_is_named():
    class Backwards(BPR):
        def losses(self, users, positives, negatives):
            return super().losses(users, negatives, positives)

    with pytest.raises(RecommenderError, match="it must find over"):
        check_recommender(own(lambda s, f, o, seed: Backwards(s, seed=seed)))


def test_a_model_without_losses_is_named():
    with pytest.raises(RecommenderError, match="ValueError: optimizer got an empty parameter list"):
        check_recommender(own(lambda s, f, o, seed: Recommender(seed)))


# ---------------------------------------------------------------- the toy shop


def test_the_toy_shop_is_what_the_page_says():
    split, features = toy_shop()
    kind = np.arange(48) % 4
    assert np.bincount(split.train[:, 0]).tolist() == [4] * 120
    assert len(split.valid) == len(split.test) == 120
    assert split.train[:, 1].max() < 44 and not features["image"][40:44].any()
    fitting = kind[split.train[:, 1]] == split.train[:, 0] % 4
    assert fitting[split.train[:, 1] >= 8].all()


def test_chance_stays_below_what_must_be_beaten():
    split, rng = toy_shop()[0], np.random.default_rng(0)
    shares = [
        rank((rng.normal(size=(120, 8)), rng.normal(size=(48, 8))), split, cuts=(5,)).means()["recall@5"]
        for _ in range(200)
    ]
    least = least_recall(split, np.zeros((120, 48)))
    assert abs(np.mean(shares) - 5 / 43) < 0.01 and np.max(shares) <= least < 0.25


def test_minus_infinity_says_never_and_infinity_says_nothing():
    split = toy_shop()[0]
    scores = np.zeros((120, 48))
    scores[:, 3] = -np.inf
    assert all_scores(Blocks(scores), split)[0, 3] == -np.inf
    with pytest.raises(
        RecommenderError, match="120 scores are no numbers, such as that of user 0 for item 3"
    ):
        all_scores(Blocks(np.abs(scores)), split)


# ---------------------------------------------------------------- registered


def test_a_registered_one_is_fitted_by_its_name(registry):
    split, features = toy_shop()
    register_recommender(own(profile, True))
    fitted = fit("own", split, features)
    assert fitted.name == "own" and np.array_equal(fitted.scorer[1][:, :12], features["text"])
    with pytest.raises(ValueError, match="a row for each of 48 items"):
        fit("own", split, {"text": features["text"][1:]})
    with pytest.raises(ValueError, match="give an array for text, image or both"):
        fit("own", split)


def test_names_that_are_taken_or_no_name_are_refused(registry):
    for name in ("vbpr", "My own", ""):
        with pytest.raises(ValueError, match="small letters"):
            register_recommender(replace(own(profile), name=name))
    with pytest.raises(TypeError, match="a RecommenderCard"):
        register_recommender(profile)


def test_a_checkpoint_of_another_version_is_refused(registry, tmp_path):
    split, _ = toy_shop()

    def make(split, features, settings, seed):
        return BPR(split, settings=settings, seed=seed)

    asked = {"training": Training(epochs=2), "progress": False, "checkpoint": str(tmp_path)}
    fit(own(make, settings=BPRSettings), split, **asked)
    with pytest.raises(ValueError, match="holds a training of other data"):
        fit(own(make, settings=BPRSettings, version="2"), split, **asked)


def test_a_grid_takes_it_in_processes_of_its_own_and_a_version_trains_anew(registry, tmp_path):
    catalogue = load_catalogue("embedded", split="test")
    items = catalogue.items.iloc[::4]
    purchases = simulate_interactions(items, users=100, seed=1)

    def blocks(split, features, settings, seed):
        users, rows = profile(split, features, settings, seed)
        return Blocks(users @ rows.T)

    register_recommender(own(blocks, True))
    grid = Grid(("own", "popularity"), ("text",), (0.5,), ("zeros", "drop"), (0,))
    benchmark = make_benchmark(items, purchases, empty(COMPLETIONS), grid, catalogue.root, str(tmp_path))
    chosen = conditions(grid)
    alone = run_grid(benchmark, chosen, str(tmp_path / "alone"), 1, progress=False)
    both = run_grid(benchmark, chosen, str(tmp_path / "both"), 2, progress=False)
    order = ["recommender", "fill", "user_id", "category", "metric"]
    assert alone.sort_values(order)["value"].tolist() == both.sort_values(order)["value"].tolist()
    assert set(alone["fill"]) == {"none", "oracle", "shuffled", "zeros", "drop"}
    before = condition_keys(benchmark, chosen)
    register_recommender(own(profile, True, version="2"))
    after = condition_keys(benchmark, chosen)
    assert {c.recommender for key, c in after.items() if key not in before} == {"own"}


def test_a_built_in_keeps_its_settings():
    check_recommender("vbpr", VBPRSettings(16))


# ---------------------------------------------------------------- the how-to


def test_the_how_to_runs_and_has_twenty_lines_at_most(registry, tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "tests" / "house"))
    from notebooks import lines

    cells = [c for c in json.loads(HOW_TO.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    sources = ["".join(c["source"]) for c in cells]
    shown = [s for s in sources if not s.startswith("#| hide")]
    assert sum(map(lines, shown)) <= 20
    script = tmp_path / "how_to.py"
    script.write_text("\n\n".join(sources), encoding="utf-8")
    monkeypatch.chdir(HOW_TO.parent)
    found = runpy.run_path(str(script))
    assert "profile" in registry and set(found["rankings"]["recommender"]) == {"profile", "popularity"}


@pytest.mark.parametrize("name", ["bpr", "vbpr"])
def test_a_card_that_denies_its_chance_is_refused(name):
    with pytest.raises(RecommenderError, match="chance is False and another seed gives other scores"):
        check_recommender(replace(RECOMMENDERS[name], chance=False))


@pytest.mark.parametrize("chance", [True, False])
def test_one_without_chance_may_say_so_or_not(chance):
    assert len(check_recommender(own(profile, uses_features=True, chance=chance)))
