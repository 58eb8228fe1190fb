"""What a filler may see: parts that fit, and a truth that is gone."""

import numpy as np
import pytest

from mmpc_analysis.recommendation.visible_features import VisibleFeatures, mask


def test_what_is_hidden_is_gone_and_the_truth_stays():
    truth = np.arange(8, dtype=np.float64).reshape(4, 2)
    seen = mask(truth, np.array([True, False, True, False]))
    assert np.isnan(seen[[0, 2]]).all() and seen.dtype == np.float32
    np.testing.assert_array_equal(seen[[1, 3]], truth[[1, 3]])
    assert truth.sum() == 28, "the truth itself is not changed"


@pytest.mark.parametrize("hidden", [np.array([1, 0, 0]), np.array([True, False]), np.array([[True] * 3])])
def test_a_mask_of_another_kind_is_refused(hidden):
    with pytest.raises(ValueError, match="hidden must be 3 booleans"):
        mask(np.ones((3, 2)), hidden)


@pytest.mark.parametrize("name", ["other", "categories", "purchases"])
def test_a_part_that_was_not_given_is_named(name):
    shown = VisibleFeatures(np.array(["a"], dtype=object), np.ones((1, 1), np.float32))
    with pytest.raises(ValueError, match=f"this fill needs {name}; give them"):
        shown.part(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"own": np.ones((3, 2))}, "own must have a row for each of 4"),
        ({"own": np.full((4, 2), np.inf)}, "not infinite"),
        ({"own": np.ones(4)}, "own must be \\(items, width\\)"),
        ({"other": np.ones((5, 2))}, "other must have a row"),
        ({"categories": np.array(["a"])}, "categories must have a row"),
        ({"purchases": np.array([[0, 4]])}, "codes from 0 to 3"),
        ({"purchases": np.array([[-1, 0]])}, "codes from 0 to 3"),
        ({"purchases": np.array([[0.0, 1.0]])}, "whole numbers"),
        ({"purchases": np.array([1, 2, 3])}, "whole numbers"),
        ({"items": np.array(list("abca"), dtype=object)}, "1 of 4 ids repeat"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, said):
    given = {"items": np.array(list("abcd"), dtype=object), "own": np.ones((4, 2), np.float32)} | change
    with pytest.raises(ValueError, match=said):
        VisibleFeatures(**given)
