"""The `mmpc` command as a person types it."""

import subprocess
import sys
from pathlib import Path

import pytest

MMPC = str(Path(sys.executable).with_name("mmpc"))


def mmpc(*words, cwd=None):
    return subprocess.run([MMPC, *words], capture_output=True, text=True, cwd=cwd, timeout=300)


def test_help_names_every_verb():
    shown = mmpc("--help")
    assert shown.returncode == 0
    for verb in ["run", "catalogue", "complete", "draw", "score", "analyse", "report", "models", "doctor"]:
        assert f" {verb} " in shown.stdout


@pytest.mark.parametrize(
    "verb", ["run", "catalogue", "complete", "draw", "score", "analyse", "report", "models"]
)
def test_every_verb_explains_itself(verb):
    shown = mmpc(verb, "--help")
    assert shown.returncode == 0 and "Usage" in shown.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom mmpc_analysis.command_line import app\n"
        "CliRunner().invoke(app, ['run', '--help'])\n"
        "print([name for name in ('pandas', 'torch', 'scipy', 'plotly', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_models_lists_published_and_embedded_ones():
    shown = mmpc("models")
    assert shown.returncode == 0
    for name in ("qwen2.5-vl-72b", "gemma-3-27b", "standin-qwen-l", "standin-gemma-s", "standin-sd3"):
        assert name in shown.stdout


def test_doctor_finds_what_is_here():
    shown = mmpc("doctor")
    assert shown.returncode == 0
    assert "found    torch" in shown.stdout and "standin-qwen-s" in shown.stdout


def test_catalogue_counts_the_embedded_items():
    shown = mmpc("catalogue")
    assert shown.returncode == 0
    assert "Musical_Instruments" in shown.stdout and "0 rows set aside" in shown.stdout


def test_catalogue_says_what_it_set_aside(tmp_path):
    (tmp_path / "mine.csv").write_text("sku,name,category\n1,Kite,Toys\n1,Kite again,Toys\n2,,Toys\n")
    shown = mmpc("catalogue", str(tmp_path / "mine.csv"), "--aside", str(tmp_path / "aside.csv"))
    assert shown.returncode == 0, shown.stderr
    assert "1 items, 2 rows set aside" in shown.stdout
    assert (tmp_path / "aside.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "no.toml"], "there is no study file 'no.toml'"),
        (["run", "--model", "standin-qwen-z"], "did you mean 'standin-qwen"),
        (["run", "--catalogue", "nowhere"], "nowhere"),
        (["run", "--catalogue", "x.csv", "--column", "title"], "--column must look like"),
        (["catalogue", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_2(words, message, tmp_path):
    shown = mmpc(*words, cwd=tmp_path)
    assert shown.returncode == 2
    assert message in shown.stderr and "Traceback" not in shown.stderr


def test_an_unknown_key_is_named_with_a_suggestion(tmp_path):
    (tmp_path / "study.toml").write_text('[completion]\nmodel = ["standin-qwen-s"]\n')
    shown = mmpc("run", "study.toml", cwd=tmp_path)
    assert shown.returncode == 2
    assert "section [completion] has no key 'model'; did you mean 'models'?" in shown.stderr


def test_stages_pick_up_where_the_run_stands(tmp_path):
    study = (
        "[catalogue]\nlimit = 6\n[completion]\nmodels = ['standin-gemma-s']\n"
        "[scores]\nmetrics = ['chrf', 'mse']\ndraws = 50\n"
    )
    (tmp_path / "study.toml").write_text(study)
    first = mmpc("complete", "study.toml", "--out", "here", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert not (tmp_path / "here" / "scores").exists()
    asked = {
        path: path.read_bytes() for path in (tmp_path / "here" / "completions" / "answers").rglob("*.jsonl")
    }
    second = mmpc("report", "--out", "here", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "here" / "report.html").exists()
    assert asked and all(path.read_bytes() == data for path, data in asked.items())
