"""`mmpc align` as a person types it: which study it means, and how it ends."""

import pytest
from typer.testing import CliRunner

from mmpc_analysis.study import alignment_stage
from mmpc_analysis.study.alignment_command import choose_alignment
from mmpc_analysis.study.command_line import app
from mmpc_analysis.study.declaration import read_study
from mmpc_analysis.tables import ALARMS, empty


def test_help_names_the_options():
    done = CliRunner().invoke(app, ["align", "--help"])
    assert done.exit_code == 0
    for word in ("--check", "--profile", "--no-controls", "--seeds", "--limit", "--task", "--model", "--out"):
        assert word in done.output


def test_options_change_what_the_file_says(tmp_path):
    (tmp_path / "s.toml").write_text(
        '[alignment]\nmodel = "standin-qwen-s"\nseeds = 5\ncontrols = ["examples"]\nlimit = 9\n'
    )
    kept = choose_alignment(tmp_path / "s.toml", None).alignment
    assert (kept.model, kept.seeds, kept.controls, kept.limit) == ("standin-qwen-s", 5, ("examples",), 9)
    other = choose_alignment(
        tmp_path / "s.toml", None, "standin-gemma-m", ["text_to_image"], "", 2, 3, controls=False
    ).alignment
    assert (other.model, other.tasks, other.seeds, other.limit) == (
        "standin-gemma-m",
        ("text_to_image",),
        2,
        3,
    )
    assert other.controls == ()


def test_without_a_file_the_runs_own_study_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choose_alignment(None, None).alignment.model == "standin-gemma-s"
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "study.toml").write_text('name = "mine"\nseed = 4\n')
    found = choose_alignment(None, "here")
    assert (found.name, found.seed, found.alignment.model) == ("mine", 4, "standin-gemma-s")
    (tmp_path / "here" / "study.toml").write_text('[catalogue]\nsource = "shop.csv"\n')
    assert choose_alignment(None, "here").alignment.model == "", "which model is no detail of one's own shop"


def test_being_stopped_says_that_the_same_command_goes_on(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(alignment_stage, "run_alignment_stage", stopped)
    done = CliRunner().invoke(app, ["align", "--out", str(tmp_path / "run")])
    assert done.exit_code == 130 and "The same command goes on where it stood" in done.stderr


@pytest.mark.parametrize("words", [["--seeds", "-1"], ["--limit", "-3"], ["--seeds", "many"]])
def test_a_number_that_is_none_is_refused(words):
    assert CliRunner().invoke(app, ["align", *words]).exit_code == 2


def test_a_study_of_a_run_keeps_the_section(tmp_path, monkeypatch):
    asked = {}

    def nothing(study, out, say):
        asked["study"] = study
        return {"alignments": None, "alarms": empty(ALARMS)}

    monkeypatch.setattr(alignment_stage, "run_alignment_stage", nothing)
    monkeypatch.setattr(alignment_stage, "verdict_text", lambda found, level: "verdict")
    monkeypatch.setattr(alignment_stage, "models_text", lambda folders: "models")
    monkeypatch.setattr(alignment_stage, "aligned_folders", lambda rows, out: None)
    run = tmp_path / "run"
    done = CliRunner().invoke(app, ["align", "--out", str(run), "--seeds", "2"])
    assert done.exit_code == 0, done.output
    assert "verdict\n\nmodels\n\nThere is no benchmark" in done.stdout
    assert read_study(run / "study.toml") == asked["study"] and asked["study"].alignment.seeds == 2
