"What CONTRIBUTING promises of equal numbers on other processors holds, in what was stored and in a small study that runs anew."

import importlib.util
import json

import pytest
from conftest import ROOT

_SPEC = importlib.util.spec_from_file_location(
    "equal_numbers", ROOT / "tools" / "experiments" / "equal_numbers.py"
)
EQUAL = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(EQUAL)
STORED = json.loads(EQUAL.OUT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("setting", [name for name in EQUAL.SETTINGS if name != "as it is"])
def test_every_stage_held_its_promise(setting):
    found = STORED["gaps"][setting]
    assert STORED["settings"][setting] == EQUAL.SETTINGS[setting]
    assert set(found) <= set(EQUAL.PROMISES)
    assert not EQUAL.broken(found)
    for stage, row in found.items():
        assert row["numbers"] + row["words"] > 0, stage


def test_the_switches_reach_the_arithmetic():
    "Else equal numbers would show nothing: pixels, encoders and trainings differ in their last bits."
    for setting in ("AVX2", "AVX", "SSE4.2"):
        most = EQUAL.largest(STORED["gaps"][setting])
        for name in ("scores of pixels", "scores by encoders of titles", "recommenders trained"):
            assert most[name] > 0, (setting, name)


def test_contributing_shows_what_was_stored():
    assert EQUAL.table(STORED) in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_a_small_study_holds_its_promises_under_two_settings():
    "Without encoders: scores by words and pixels, averages, comparisons, mixed models, claims, and lists."
    here, there = (
        EQUAL.run_under(setting, items=12, epochs=2, encoders=False) for setting in ("as it is", "SSE4.2")
    )
    found = EQUAL.gaps(here, there)
    assert not EQUAL.broken(found)
    assert {"scores by words", "averages", "mixed models", "ranking of given vectors"} <= set(found)
    other = json.loads(json.dumps(here))
    other["averages"]["numbers"]["estimate"][0] += 1e-9
    other["comparisons, ranks and decisions"]["words"]["question"][0] = "another"
    assert len(EQUAL.broken(EQUAL.gaps(here, other))) == 2
