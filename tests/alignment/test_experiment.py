"An experiment is split, rewarded and asked as its plan says, before anything is trained."

import pytest

from mmpc_analysis.alignment.experiment import AlignmentPlan, check_experiment, prepare_experiment, use_judge
from mmpc_analysis.alignment.recipes import Recipe
from mmpc_analysis.alignment.rewards import REWARD_PARTS, Reward
from mmpc_analysis.catalogue.items import Catalogue, load_catalogue
from mmpc_analysis.completion.models import model_card

SMALL = Recipe(steps=2, questions=2, group=4, look_items=6)


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue()


def plan_of(task="image_to_text", **more):
    return AlignmentPlan(model_card("standin-gemma-s"), task, **{"recipe": SMALL} | more)


def test_no_product_is_in_two_parts_and_no_hand_in_train_and_test(tmp_path, catalogue):
    one = prepare_experiment(plan_of(), catalogue, str(tmp_path))
    parts = {name: set(getattr(one, name)["item_id"]) for name in ("train", "test", "fresh")}
    for a in parts:
        for b in set(parts) - {a}:
            assert not parts[a] & parts[b], (a, b)
    assert set(one.look["item_id"]) <= parts["fresh"] and len(one.look) == 6
    assert set(one.train["split"]) == {"train"} and set(one.test["split"]) == {"test"} == set(
        one.fresh["split"]
    )
    assert not set(one.train["brand"]) & set(one.test["brand"])


def test_limits_are_nested_and_the_same_each_time(tmp_path, catalogue):
    ten, twenty = (prepare_experiment(plan_of(limit=n, test=n), catalogue, str(tmp_path)) for n in (10, 20))
    for name in ("train", "test"):
        small, large = (set(getattr(one, name)["item_id"]) for one in (ten, twenty))
        assert len(small) == 10 and small < large
    again = prepare_experiment(plan_of(limit=10, test=10), catalogue, str(tmp_path))
    assert again.train["item_id"].tolist() == ten.train["item_id"].tolist()


def test_a_catalogue_of_ones_own_is_split_by_listing_group(tmp_path, catalogue):
    rows = catalogue.items.drop(columns=["split", "brand"]).head(300)
    own = Catalogue("own", rows, catalogue.root, catalogue.set_aside, "")
    one = prepare_experiment(plan_of(), own, str(tmp_path))
    groups = [set(part["parent_id"]) for part in (one.train, one.look, one.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert one.brands == [] and one.fresh.equals(one.look)


def test_the_verdict_is_named_by_the_reward_alone(tmp_path, catalogue):
    words = prepare_experiment(plan_of(), catalogue, str(tmp_path))
    assert words.verdict == ("minilm_retrieval", "minilm_cosine")
    meaning = Reward("image_to_text", (("meaning", 1.0),))
    with_meaning = prepare_experiment(plan_of(reward=meaning), catalogue, str(tmp_path))
    assert not any("minilm" in name for name in with_meaning.verdict)
    with pytest.raises(ValueError, match="no metric of image_to_text is left"):
        both = Reward("image_to_text", (("meaning", 1.0), ("word_f1", 1.0)))
        prepare_experiment(plan_of(reward=both), catalogue, str(tmp_path))
    pictures = prepare_experiment(plan_of("text_to_image"), catalogue, str(tmp_path))
    assert all(name.startswith("standin_qwen_s_tower") for name in pictures.verdict)


def test_each_experiment_is_judged_by_its_own_generator(tmp_path, catalogue):
    one, two = (
        prepare_experiment(plan_of("text_to_image", steps=k), catalogue, str(tmp_path / str(k)))
        for k in (2, 3)
    )
    second = REWARD_PARTS["image_rank"].version
    use_judge(one)
    first = REWARD_PARTS["image_rank"].version
    use_judge(two)
    assert first != second == REWARD_PARTS["image_rank"].version
    use_judge(prepare_experiment(plan_of(), catalogue, str(tmp_path)))  # Titles need none
    assert REWARD_PARTS["image_rank"].version == second


def test_models_are_asked_as_they_are_trained(tmp_path, catalogue):
    asked = [
        prepare_experiment(plan_of(recipe=recipe), catalogue, str(tmp_path))
        for recipe in (
            SMALL,
            Recipe(lora_rank=8, quantisation="nf4"),
            Recipe(max_new_tokens=17, precision="bfloat16"),
        )
    ]
    assert [one.engine["precision"] for one in asked] == ["float32", None, "bfloat16"]
    assert [one.engine["quantisation"] for one in asked] == [None, "nf4", None]
    assert [one.prompt.max_new_tokens for one in asked] == [64, 64, 17]


@pytest.mark.parametrize("task", ["image_to_text", "text_to_image"])
def test_the_check_works_without_what_trains_and_leaves_the_time_out(tmp_path, catalogue, monkeypatch, task):
    import mmpc_analysis.alignment.experiment as page

    monkeypatch.setattr(page, "find_spec", lambda name: None)
    plan = plan_of(task, limit=30)
    rows = check_experiment(prepare_experiment(plan, catalogue, str(tmp_path)), items=8).set_index("measure")
    assert rows.loc["sampled_reward", "n"] == 8 and "step_seconds" not in rows.dropna(subset="value").index
    assert ("noise_share" in rows.index) == (task == "text_to_image")


def test_the_time_of_an_update_is_measured_where_it_can_be(tmp_path, catalogue):
    pytest.importorskip("trl")
    rows = check_experiment(prepare_experiment(plan_of(limit=12), catalogue, str(tmp_path)), items=6)
    seconds = rows.set_index("measure").loc["step_seconds", "value"]
    assert 0 < seconds < 60 and not list(tmp_path.glob("alignment/grpo"))  # Thrown away


def test_unknown_controls_are_refused(tmp_path, catalogue):
    with pytest.raises(
        ValueError, match=r"controls of text_to_image must be among .*title, got 'strip_filler'"
    ):
        prepare_experiment(plan_of("text_to_image", controls=("strip_filler",)), catalogue, str(tmp_path))
