"""What a script is told of a run."""

import pytest

from mmpc_analysis.study.run_facts import lacking_extras, lost_answers, run_facts

PIP = "minilm needs a package; run pip install 'mmpc_analysis[demo]'"


def test_lost_answers_are_told_for_each_task_and_system():
    answers = {
        "image_to_text": {"a": {"ok": 5, "invalid": 2}, "b": {"ok": 1, "engine_error": 3}},
        "text_to_image": {"b": {"engine_error": 4}},
    }
    lines = lost_answers(answers)
    assert [("3 of 4" in line, "4 of 4" in line) for line in lines] == [(True, False), (False, True)]
    assert lines[0].startswith("image_to_text of b") and lines[1].startswith("text_to_image of b")
    assert lost_answers({}) == lost_answers({"image_to_text": {"a": {"refused": 9}}}) == []


@pytest.mark.parametrize(
    ("left_out", "lines"),
    [
        ([], []),
        ([{"metric": "clip_score", "reason": "it needs CLIP; give its folder"}], []),
        ([{"metric": m, "reason": PIP} for m in ("x", "y")], [f"left out: x, y; {PIP}"]),
        (
            [{"metric": "x", "reason": PIP}, {"metric": "y", "reason": PIP.replace("demo", "gpu")}],
            [f"left out: x; {PIP}", f"left out: y; {PIP.replace('demo', 'gpu')}"],
        ),
    ],
)
def test_what_pip_can_bring_is_told_once_for_each_reason(left_out, lines):
    assert lacking_extras(left_out) == lines


def test_a_folder_without_a_run_has_nothing(tmp_path):
    facts = run_facts("none", str(tmp_path / "no"))
    assert facts["report"] is None and facts["answers"] == {} and facts["left_out"] == []
    assert facts["items"] == {"catalogue": 0, "completed": 0, "hidden": 0} and not (tmp_path / "no").exists()
