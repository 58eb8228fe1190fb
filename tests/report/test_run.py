"""Reading a run."""

import pytest
from hostile_shop import hostile_run

from mmpc_analysis.report.run import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no averages"):
        read_run(str(tmp_path))


def test_the_true_pictures_are_the_shops_own(run):
    shop, out, page, _ = run
    assert read_run(str(out)).root == str(shop)
    assert page.count("Real picture:") > 0
    assert "data:image" in page
