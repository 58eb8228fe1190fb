"The lower bounds of settings.ini are those that the core tests were run at, and all of them passed."

import importlib.util
import json

import pytest
from conftest import ROOT
from packaging.version import Version

_SPEC = importlib.util.spec_from_file_location(
    "lower_bounds", ROOT / "tools" / "experiments" / "lower_bounds.py"
)
BOUNDS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(BOUNDS)
GROUPS = BOUNDS.settings()
AGAIN = "run tools/experiments/lower_bounds.py"


@pytest.fixture(scope="module")
def stored():
    return json.loads(BOUNDS.OUT.read_text(encoding="utf-8"))


def test_the_stored_run_is_of_the_present_requirements(stored):
    assert stored["requirements"] == BOUNDS.fingerprint(GROUPS), f"a bound was changed and not tried: {AGAIN}"
    other = {group: list(names) for group, names in GROUPS.items()}
    other["requirements"][0] = other["requirements"][0] + ".1"
    assert BOUNDS.fingerprint(other) != stored["requirements"]


def test_what_was_installed_stands_at_its_bound(stored):
    asked = BOUNDS.bounds(GROUPS)
    assert set(stored["versions"]) == {*asked, *BOUNDS.EXCEPTED}
    wrong = {
        n: (stored["versions"][n], b)
        for n, b in asked.items()
        if Version(stored["versions"][n]) != Version(b)
    }
    assert not wrong, f"installed and asked for differ: {wrong}; {AGAIN}"
    needed = {"openai", "bitsandbytes", "trl", "peft", "datasets"}
    assert needed <= {*asked}, "the extras `server`, `gpu` and `align` name what they need"


def test_everything_was_imported_and_passed(stored):
    assert stored["failed"] == []
    assert list(stored["passed"]) == list(BOUNDS.CORE), f"other tests than the core ones were run: {AGAIN}"
    assert all(count > 0 for count in stored["passed"].values()), stored["passed"]
    assert all((ROOT / file).is_file() for file in BOUNDS.CORE)
    assert stored["modules_imported"] > 100


@pytest.mark.parametrize(
    ("requirement", "bound"),
    [
        ("numpy>=2", ("numpy", "2")),
        ("Rouge_Score>=0.1.2", ("rouge-score", "0.1.2")),
        ("json.repair==0.40", ("json-repair", "0.40")),
    ],
)
def test_a_bound_is_read_from_a_requirement(requirement, bound):
    assert BOUNDS.bounds({"requirements": [requirement]}) == dict([bound])


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy~=2.0"])
def test_a_requirement_without_a_lower_bound_is_refused(requirement):
    with pytest.raises(ValueError, match="must name its lower bound"):
        BOUNDS.bounds({"requirements": [requirement]})
