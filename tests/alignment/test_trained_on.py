"""Who may bear witness: kinship by cards, for any reward, any metric and encoders that join later."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.alignment import trained_on as tr
from mmpc_analysis.alignment.rewards import (
    REWARD_PARTS,
    Reward,
    RewardPart,
    default_reward,
    register_reward_part,
)
from mmpc_analysis.metrics.cards import ENCODERS, METRICS, Metric, encoder_cards, metric_card
from mmpc_analysis.metrics.own_metrics import given_metric, register_encoder, register_metric

TITLES = default_reward("image_to_text")
WORD = [name for name, card in METRICS.items() if card.level == "word"]
MINILM = [name for name, card in METRICS.items() if card.encoder == "minilm"]
EFFNET = [name for name, card in METRICS.items() if card.encoder == "effnet"]
PIXEL = [name for name, card in METRICS.items() if card.level == "pixel"]


def paid(*names, task="image_to_text"):
    return Reward(task, tuple((name, 1.0) for name in names))


@pytest.fixture(autouse=True)
def tables():
    "What a test registers is gone after it."
    before = [(table, dict(table)) for table in (REWARD_PARTS, METRICS, ENCODERS)]
    yield
    for table, rows in before:
        table.clear()
        table.update(rows)


@pytest.fixture
def drawn():
    "A part as pictures are rewarded, and a reward by it."
    register_reward_part(RewardPart("rank", "text_to_image", "", len, ("effnet_cosine",), encoder="effnet"))
    return Reward("text_to_image", (("rank", 8.0), ("bounded_length", 1.0), ("novelty", 1.0)))


# ---------------------------------------------------------------- kin, by hand


@pytest.mark.parametrize("part", ["word_precision", "word_recall", "word_f1"])
def test_a_part_of_words_presses_on_all_that_reads_the_truth_s_letters(part):
    own = set(REWARD_PARTS[part].metrics)
    reasons = {name: tr.trained_on(paid(part), name) for name in METRICS}
    assert {name for name, why in reasons.items() if why == "reward"} == own
    kin = {name for name, why in reasons.items() if why == "same words"}
    assert kin == (set(WORD) | {"unsupported_numbers", "example_copy", "brand_hit", "length_ratio"}) - own
    assert {"bleu", "chrf", "corpus_bleu", "corpus_chrf", "tfidf_cosine", "jaccard", "rouge_l"} <= kin
    assert not any(reasons[name] for name in [*MINILM, *EFFNET, *PIXEL, "clip_score"])


@pytest.mark.parametrize(
    ("part", "pressed"),
    [
        ("faithfulness", {"unsupported_numbers": "reward", "brand_hit": "reward"}),
        ("bounded_length", {"length_ratio": "reward"}),
        ("no_copy", {"example_copy": "reward"}),
        ("meaning", dict.fromkeys(MINILM, "same encoder") | {"minilm_cosine": "reward"}),
    ],
)
def test_a_part_presses_on_this_and_nothing_else(part, pressed):
    found = {name: tr.trained_on(paid(part), name) for name in METRICS}
    assert {name: why for name, why in found.items() if why} == pressed


def test_an_encoder_takes_its_patches_cosines_retrieval_and_distances_along_and_leaves_pixels(drawn):
    reasons = {name: tr.trained_on(drawn, name) for name in METRICS}
    assert {n for n, why in reasons.items() if why in ("reward", "same encoder")} == {*EFFNET, "length_ratio"}
    assert reasons["effnet_cosine"] == "reward"
    assert {
        reasons[n]
        for n in ("effnet_patch_cosine", "effnet_retrieval", "effnet_frechet", "effnet_kid", "effnet_mmd")
    } == {"same encoder"}
    assert not any(reasons[name] for name in [*PIXEL, "lpips_alex"])


def test_the_nearest_kinship_is_told():
    assert tr.trained_on(paid("word_precision", "word_f1"), "token_f1") == "reward"
    assert tr.trained_on(paid("word_precision"), "token_f1") == "same words"
    register_reward_part(RewardPart("both", "image_to_text", "", len, words=True, encoder="minilm"))
    assert tr.trained_on(paid("both"), "minilm_retrieval") == "same encoder"


def test_an_under_declared_part_is_caught_by_the_metrics_that_it_lists():
    register_reward_part(RewardPart("shy", "text_to_image", "", len, ("effnet_retrieval",)))
    assert tr.trained_on(paid("shy", task="text_to_image"), "effnet_cosine") == "same encoder"
    register_reward_part(RewardPart("terse", "image_to_text", "", len, ("chrf",)))
    assert tr.trained_on(paid("terse"), "bleu") == "same words"


def test_pixel_metrics_are_one_measurement():
    register_reward_part(RewardPart("sharp", "text_to_image", "", len, ("ssim",)))
    assert {tr.trained_on(paid("sharp", task="text_to_image"), name) for name in PIXEL} == {"reward"}
    assert tr.trained_on(paid("sharp", task="text_to_image"), "effnet_cosine") == ""


@pytest.mark.parametrize(
    ("rewarded", "metric", "why"),
    [
        ("clip@0123abcd", "clip@ffff0000_cosine", "same encoder"),
        ("clip@0123abcd", "clip@0123abcd_patch_cosine", "same encoder"),
        ("clip@0123abcd", "clip_score", "same encoder"),
        ("clip", "dinov2@0123_cosine", ""),
        ("effnet@0123", "effnet_retrieval", "same encoder"),
        ("effnet", "effnet@0123_cosine", "same encoder"),
        ("lpips_alex", "lpips_alex@0123", "same encoder"),
        ("effnet", "lpips_alex", ""),
    ],
)
def test_weights_of_one_family_are_kin(rewarded, metric, why):
    register_reward_part(RewardPart("seen", "text_to_image", "", len, encoder=rewarded))
    assert tr.trained_on(paid("seen", task="text_to_image"), metric) == why


def test_towers_of_two_families_are_not_kin_though_their_names_begin_alike():
    for name in ("tower_qwen", "tower_gemma"):
        register_encoder(name, len)
    register_reward_part(RewardPart("seen", "text_to_image", "", len, encoder="tower_qwen"))
    seen = paid("seen", task="text_to_image")
    assert tr.trained_on(seen, "tower_qwen_retrieval") == "same encoder"
    assert tr.trained_on(seen, "tower_gemma_retrieval") == ""
    assert tr.verdict_metrics(seen) == ["effnet_retrieval", "tower_gemma_retrieval"]


# ---------------------------------------------------------------- own metrics


def own(name, level, needs=("references", "candidates"), **rest):
    return register_metric(
        Metric(name, "image_to_text", level, 0, 1, 0, "", compute=len, needs=needs, **rest)
    )


@pytest.mark.parametrize(
    ("level", "needs", "why"),
    [
        ("word", ("references", "candidates"), "same words"),
        ("word", ("items", "candidates"), "same words"),
        ("faithfulness", ("references", "candidates"), "same words"),
        ("faithfulness", ("brands", "candidates"), "same words"),
        ("faithfulness", ("items", "candidates"), ""),
        ("semantic", ("images", "candidates"), ""),
    ],
)
def test_a_registered_metric_is_judged_by_its_card(level, needs, why):
    own("mine_alone", level, needs)
    assert tr.trained_on(TITLES, "mine_alone") == why
    assert ("mine_alone" in tr.witnesses(TITLES)) == (why == "")


def test_a_judge_whose_points_come_from_elsewhere_bears_witness_for_its_own_task():
    given_metric("judge_points", bounds=(0, 10), task="image_to_text")
    assert "judge_points" in tr.witnesses(paid("word_f1", "meaning"))
    assert tr.verdict_metrics(paid("word_f1", "meaning")) == ["judge_points"]


def test_an_own_encoder_of_titles_takes_its_metrics_along():
    names = register_encoder("letters", lambda: len, task="image_to_text")
    register_reward_part(RewardPart("like", "image_to_text", "", len, encoder="letters"))
    assert {tr.trained_on(paid("like"), name) for name in names} == {"same encoder"}
    assert tr.witnesses(paid("like"))[0] == "minilm_retrieval"
    assert tr.verdict_metrics(paid("word_f1", "meaning"))[0] == "letters_retrieval"


# ---------------------------------------------------------------- properties over all rewards


PARTS = [name for name, part in REWARD_PARTS.items() if part.task in ("", "image_to_text")]
ENCODED = st.sampled_from(
    ["", "minilm", "effnet", "clip", "clip@0123", "dinov2@0123", "effnet@0123", "lpips_alex", "letters"]
)
LISTED = st.lists(st.sampled_from(list(METRICS)), max_size=2, unique=True).map(tuple)
BROUGHT = [
    "clip@0123_cosine",
    "clip@abcd_patch_cosine",
    "dinov2@0123_cosine",
    "effnet@9999_cosine",
    "lpips_alex@0123",
]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["image_to_text", "text_to_image"]),
    st.lists(st.tuples(LISTED, st.booleans(), ENCODED), min_size=1, max_size=3),
    st.randoms(),
)
def test_no_witness_shares_an_encoder_a_metric_or_words_with_a_part(task, cards, random):
    ENCODERS["letters"] = replace(ENCODERS["minilm"], name="letters")
    for name, card in encoder_cards("letters", "image_to_text", retrieval=True).items():
        METRICS[name] = card
    for k, (metrics, words, encoder) in enumerate(cards):
        register_reward_part(RewardPart(f"part_{k}", task, "", len, metrics, words, encoder))
    reward = paid(*(f"part_{k}" for k in range(len(cards))), task=task)
    names = [*METRICS, *BROUGHT]
    able = tr.witnesses(reward, names)
    for name in able:
        card = metric_card(name)
        for metrics, words, encoder in cards:
            used = {encoder, *(metric_card(m).encoder for m in metrics)} - {""}
            assert name not in metrics
            assert card.encoder not in used
            assert not card.encoder or card.encoder.split("@")[0] not in {e.split("@")[0] for e in used}
            assert not (words and card.level == "word")
        assert (card.task, tr.trained_on(reward, name), card.of_sets) == (task, "", False)
        assert card.better in ("higher", "lower")
    random.shuffle(names)
    assert set(tr.witnesses(reward, names)) == set(able)
    if able:
        resting = tr.verdict_metrics(reward, names)
        assert 1 <= len(resting) <= 2 and set(resting) <= set(able)
        assert resting == tr.verdict_metrics(reward, iter(names))
    else:
        with pytest.raises(ValueError, match="is left to bear witness"):
            tr.verdict_metrics(reward, names)


@pytest.mark.parametrize("more", range(1, 4))
def test_more_parts_never_free_a_metric(more):
    for names in combinations(PARTS, more):
        pressed = {m for m in METRICS if tr.trained_on(paid(*names), m)}
        assert pressed == set().union(*({m for m in METRICS if tr.trained_on(paid(n), m)} for n in names))


# ---------------------------------------------------------------- order and verdict


def test_retrieval_comes_first_then_meaning_then_the_rest(drawn):
    register_encoder("tower", len)
    kinds = [tr._kind(metric_card(name)) for name in tr.witnesses(drawn)]
    assert kinds == sorted(kinds) and set(kinds) == {0, 1, 2}
    assert tr.witnesses(TITLES) == [
        "minilm_retrieval", "minilm_retrieval_back", "minilm_cosine", "minilm_bertscore_f1", "minilm_bertscore_precision", "minilm_bertscore_recall",
    ]  # fmt: skip
    assert tr.witnesses(paid("meaning"))[0] == "token_f1"  # Leads its level


def test_weights_that_nobody_has_are_no_witness_unless_named():
    assert "clip_score" not in tr.witnesses(TITLES)
    assert tr.witnesses(TITLES, ["clip_score", "token_f1"]) == ["clip_score"]


@pytest.mark.parametrize(
    ("names", "resting"),
    [
        (None, ["minilm_retrieval", "minilm_cosine"]),
        (["minilm_cosine", "minilm_retrieval_back"], ["minilm_retrieval_back", "minilm_cosine"]),
        (["minilm_cosine", "clip_score", "minilm_retrieval"], ["minilm_retrieval", "clip_score"]),
        (["minilm_retrieval", "minilm_retrieval_back"], ["minilm_retrieval", "minilm_retrieval_back"]),
        (["minilm_cosine", "bleu", "ssim"], ["minilm_cosine"]),
    ],
)
def test_the_verdict_rests_on_two_at_most_and_on_another_encoder_where_there_is_one(names, resting):
    assert tr.verdict_metrics(TITLES, names) == resting


def test_pictures_are_judged_by_another_tower_else_by_pixels(drawn):
    assert tr.verdict_metrics(drawn) == ["ssim", "lpips_alex"]
    register_encoder("tower_gemma", len)
    assert tr.verdict_metrics(drawn) == ["tower_gemma_retrieval", "tower_gemma_cosine"]
    register_encoder("tower_qwen", len)
    assert tr.verdict_metrics(drawn) == ["tower_gemma_retrieval", "tower_qwen_retrieval"]


def test_the_error_says_who_is_trained_on_and_what_to_do():
    with pytest.raises(ValueError) as error:
        tr.verdict_metrics(paid("word_f1", "meaning"), ["bleu", "minilm_cosine", "token_f1"])
    for said in (
        "of word_f1, meaning",
        "bleu (same words)",
        "minilm_cosine (reward)",
        "token_f1 (reward)",
        "register_encoder",
        "leave the part",
    ):
        assert said in str(error.value)
    with pytest.raises(ValueError, match="trained on are none"):
        tr.verdict_metrics(TITLES, ["ssim"])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="did you mean 'bleu'"):
        tr.trained_on(TITLES, "blue")
    with pytest.raises(ValueError, match="drawn_part makes it"):
        tr.witnesses(default_reward("text_to_image"))


def test_the_table_says_the_same_as_the_functions(drawn):
    for reward in (TITLES, drawn, paid("meaning"), paid("word_f1", "meaning")):
        table = tr.witness_table(reward).set_index("metric")
        able = tr.witnesses(reward)
        assert table[table["place"] > 0].sort_values("place").index.tolist() == able
        assert set(table[table["verdict"]].index) == set(tr.verdict_metrics(reward) if able else [])
        assert table["trained_on"].to_dict() == {name: tr.trained_on(reward, name) for name in table.index}
        assert not (table["trained_on"].ne("") & table["verdict"]).any()
