"A curve survives a kill, and the tripwires know after it what they knew before."

import json
import math

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.alignment.curves import IN_PLACE, Recorder, last_checkpoint

WHO = {"task": "text_to_image", "base": "b", "treatment": "grpo", "seed": 0}


def recorder(folder, guarded=True, last=60):
    return Recorder(str(folder), WHO, None, None, 10, last, guarded)


def collapse(step):
    "A reward that falls to a fraction after it rose, as a learning rate too high makes it."
    rng = np.random.default_rng(step)
    return {"reward": (0.4 if step < 25 else 0.03) + rng.normal(0, 0.01), "entropy": 0.3, "gradient": 1.0}


def run_on(one, first, last):
    for step in range(first, last + 1):
        one.add(step, collapse(step))
        if not one.may_go_on():
            return step
    return None


@pytest.mark.parametrize("killed", [5, 20, 26, 30])
def test_the_same_tripwire_stops_a_resumed_run_at_the_same_step(tmp_path, killed):
    whole = recorder(tmp_path / "whole")
    stopped = run_on(whole, 1, 60)
    assert stopped and 25 < stopped < 60
    first = recorder(tmp_path / "killed")
    run_on(first, 1, killed)
    again = recorder(tmp_path / "killed")
    again.resume(killed - 2)  # The last checkpoint was two updates before
    assert max(again.steps()["step"]) == killed - 2
    assert run_on(again, killed - 1, 60) == stopped
    pd.testing.assert_frame_equal(again.alarms, whole.alarms)
    pd.testing.assert_frame_equal(again.steps(), whole.steps())


def test_unguarded_it_is_told_and_goes_on(tmp_path):
    one = recorder(tmp_path, guarded=False)
    assert run_on(one, 1, 60) is None and one.alarms["action"].eq("stopped").any()


def test_not_a_number_is_kept_and_stops_again_after_a_kill(tmp_path):
    one = recorder(tmp_path)
    one.add(1, {"reward": math.nan, "loss": 0.1, "kl": None})
    assert not one.may_go_on()
    again = recorder(tmp_path)
    again.resume(1)
    assert set(again.steps()["measure"]) == {"reward", "loss"} and not again.may_go_on()


def test_a_rank_is_not_what_the_tripwires_read(tmp_path):
    "The mean of ranks within groups never moves; what is ranked falls, and that is what stops."
    flat, seen = recorder(tmp_path / "flat"), recorder(tmp_path / "seen")
    for step in range(1, 61):
        falling = collapse(step)["reward"]
        flat.add(step, {"reward": 0.5})
        seen.add(step, {"reward": 0.5, IN_PLACE: falling})
    assert flat.may_go_on() and not seen.may_go_on()
    assert set(seen.steps()["measure"]) == {"reward", IN_PLACE}  # The curve keeps both


@pytest.mark.parametrize("name", ["plain", "with [brackets]", "with a blank"])
def test_half_a_checkpoint_is_removed_in_any_folder(tmp_path, name):
    folder = tmp_path / name
    assert last_checkpoint(folder) is None
    for step, text in ((9, "{}"), (10, "{}"), (100, '{"global_st'), (110, None)):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        if text is not None:
            (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    assert last_checkpoint(folder).endswith("checkpoint-10")  # By number, not by name
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_lines_of_a_step_are_one_file_that_is_written_over(tmp_path):
    one = recorder(tmp_path)
    one.add(3, {"reward": 0.1})
    one.add(3, {"reward": 0.2})
    (path,) = tmp_path.iterdir()
    assert path.name == "00000003.jsonl" and json.loads(path.read_text())["value"] == 0.2
