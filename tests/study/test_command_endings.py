"""How commands end: codes, one line, one JSON object, pipes that close, and Ctrl-C."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mmpc_analysis import Answer
from mmpc_analysis.completion.backend_choice import register_backend
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.models import _REGISTERED
from mmpc_analysis.study import alignment_stage
from mmpc_analysis.study.command_endings import (
    CODES_OF_COMMANDS,
    EXIT_CODES,
    CommandGroup,
    ending,
    exit_code_text,
    json_line,
    plain_value,
)
from mmpc_analysis.study.command_line import COMMANDS, app
from mmpc_analysis.tables import ALARMS, empty, validate

SHARED = ["command", "exit_code", "error", "problems", "seconds"]
MMPC = str(Path(sys.executable).with_name("mmpc"))


def mmpc(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def strict(text):
    "The one object of a line; NaN and infinity are no JSON."

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert text.endswith("\n") and text.count("\n") == 1, text
    assert text.isascii()
    return json.loads(text, parse_constant=refuse)


# ---------------------------------------------------------------- what ends how


def raising(problem):
    small = typer.Typer(cls=CommandGroup, rich_markup_mode=None, add_completion=False)

    @small.command("weigh")
    def weigh(as_json: bool = typer.Option(False, "--json")) -> None:
        with ending("weigh", as_json) as result:
            result.facts["seen"] = 1
            result.kept = "Weigh again."
            print("printed by somebody")
            result.say("said")
            if problem is not None:
                raise problem

    small.command("other")(lambda: None)
    return small


ENDS = [
    (None, 0, None),
    (ValueError("grams must be\n  at least 0"), 2, "grams must be at least 0"),
    (FileNotFoundError("no file"), 2, "no file"),
    (PermissionError(13, "denied", "x.csv"), 2, "denied"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 2, "invalid"),
    (BackendError("no weights"), 2, "no weights"),
    (KeyboardInterrupt(), 130, "stopped. Weigh again."),
    (typer.Exit(3), 3, None),
    (BrokenPipeError(), 141, None),
    (ConnectionResetError("the server left"), 2, "the server left"),
    (KeyError("grams"), 1, "defect: KeyError('grams')"),
    (RuntimeError("odd"), 1, "defect: RuntimeError('odd')"),
]


@pytest.mark.parametrize(("problem", "code", "error"), ENDS)
def test_each_end_has_its_code_and_one_line(problem, code, error):
    assert code in EXIT_CODES
    done = CliRunner().invoke(raising(problem), ["weigh"])
    assert done.exit_code == code
    assert done.stdout == "printed by somebody\nsaid\n"
    if code == 1:  # A defect keeps its traceback
        assert done.exception is problem and done.stderr == ""
    else:
        assert done.stderr.count("\n") == (error is not None) and (error or "") in done.stderr


@pytest.mark.parametrize(("problem", "code", "error"), ENDS)
def test_each_end_is_one_object_where_that_is_asked_for(problem, code, error):
    done = CliRunner().invoke(raising(problem), ["weigh", "--json"])
    facts = strict(done.stdout)
    assert list(facts) == [*SHARED, "seen"]
    assert (facts["command"], facts["exit_code"], done.exit_code) == ("weigh", code, code)
    assert (facts["error"] is None) == (error is None) and (error or "") in (facts["error"] or "")
    assert "printed by somebody" in done.stderr and "said" in done.stderr


def test_done_in_part_is_a_code_and_a_line():
    small = typer.Typer(rich_markup_mode=None, add_completion=False)

    @small.command()
    def weigh() -> None:
        with ending("weigh", as_json=True) as result:
            result.lack("2 of 3 were weighed")

    done = CliRunner().invoke(small, [])
    facts = strict(done.stdout)
    assert done.exit_code == 3 and facts["problems"] == ["2 of 3 were weighed"] and facts["error"] is None
    assert done.stderr == "mmpc: 2 of 3 were weighed\n"


@pytest.mark.parametrize("words", [["weigh", "--gram"], ["weigh", "surplus"], ["nobody"], []])
def test_a_wrong_call_is_answered_in_json_too(words):
    done = CliRunner().invoke(raising(None), [*words, "--json"])
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"]) == (2, 2) and facts["error"] and list(facts) == SHARED
    assert facts["command"] == ("weigh" if "weigh" in words else "") and "Usage" in done.stderr
    plain = CliRunner().invoke(raising(None), words or ["--no"])
    assert plain.exit_code == 2 and plain.stdout == ""


# ---------------------------------------------------------------- what JSON can say

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=12))  # fmt: skip
def test_any_value_becomes_json(value):
    text = json_line({"value": value}) + "\n"
    found = strict(text)["value"]
    if isinstance(value, float):
        assert found == value if math.isfinite(value) else found is None
    if isinstance(value, str):
        found.encode("utf-8")  # No half of a pair of surrogates is left
        assert found == value or any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, int | list):
        assert len(found) == len(value) if isinstance(value, list) else found == value


def test_numbers_tables_and_paths_are_what_they_are_to_a_reader():
    table = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "x": [np.nan, np.inf], "s": ["a", None]})
    given = {
        "int": np.int64(3), "float": np.float32("nan"), "bool": np.bool_(True), "array": np.array([[1.5, np.nan]]),
        "table": table, "path": Path("a/b"), "pair": ("a", {"b": {1: np.float64(0.5)}}), "when": pd.NaT, "pile": "x\ud83d\ude00\udc00",
    }  # fmt: skip
    assert plain_value(given) == {
        "int": 3, "float": None, "bool": True, "array": [[1.5, None]], "path": "a/b", "when": None,
        "table": [{"n": 1, "x": None, "s": "a"}, {"n": None, "x": None, "s": None}],
        "pair": ["a", {"b": {"1": 0.5}}], "pile": "x\N{GRINNING FACE}\ufffd",
    }  # fmt: skip


# ---------------------------------------------------------------- every command of mmpc

STUDY = (
    "[catalogue]\nlimit = 4\n[completion]\nmodels = ['{model}']\ntasks = ['image_to_text']\nblind = false\n"
    "[missing]\nrates = [1.0]\n[scores]\nmetrics = ['chrf']\ndraws = 20\n"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "s.toml").write_text(STUDY.format(model="standin-gemma-s"))
    return folder / "s.toml", folder / "run"


STAGES = {"run": 7, "complete": 2, "draw": 3, "score": 4, "recommend": 5, "analyse": 6, "report": 7}
OF_RUNS = {"study", "out", "stages", "report", "items", "gaps", "set_aside", "answers", "left_out"}
OTHERS = {
    "catalogue": {"catalogue", "root", "profile", "columns", "unused", "cleaned", "note", "items", "gaps", "categories", "splits",
                  "addresses", "set_aside", "reasons"},
    "models": {"models"},
    "doctor": {"python", "system", "libraries", "missing", "accelerator", "models"},
    "align": {"study", "out", "model", "claims", "alarms", "models", "next"},
}  # fmt: skip
# A command of another file is tested there; whoever adds one says where.
ELSEWHERE = {"fetch-pictures", "fill"}


def test_every_command_is_tested_here():
    assert set(COMMANDS) - ELSEWHERE == {*STAGES, *OTHERS}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_has_json_and_its_codes_in_its_help(verb):
    shown = mmpc(verb, "--help")
    assert shown.exit_code == 0 and "--json" in shown.stdout
    assert " ".join(exit_code_text(verb).split()) in " ".join(shown.stdout.split())
    assert set(CODES_OF_COMMANDS.get(verb, {})) <= set(EXIT_CODES)


@pytest.mark.parametrize("verb", STAGES)
def test_every_stage_prints_the_facts_of_its_run(verb, study):
    done = mmpc(verb, study[0], "--out", study[1], "--json")
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"], facts["error"]) == (0, 0, None), done.stderr
    assert list(facts)[:5] == SHARED and set(facts) == {*SHARED, *OF_RUNS}
    assert facts["command"] == verb and facts["out"] == str(study[1]) and facts["study"] == "s"
    assert len(facts["stages"]) == STAGES[verb] and facts["stages"][0]["stage"] == "catalogue"
    assert all(set(stage) == {"stage", "said", "seconds"} for stage in facts["stages"])
    assert facts["items"] == {"catalogue": 1385, "completed": 4, "hidden": 4}
    answers = facts["answers"]["image_to_text"]["standin-gemma-s"]
    assert sum(answers.values()) == 4 and facts["gaps"]["no_title"] == 0
    if verb in ("run", "report"):
        assert Path(facts["report"]).is_file()
    assert "catalogue" in done.stderr, "what is said is said on the error stream"


@pytest.mark.parametrize("verb", ["catalogue", "models", "doctor"])
def test_every_command_that_looks_prints_what_it_saw(verb):
    done = mmpc(verb, "--json")
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"]) == (0, 0)
    assert set(facts) == {*SHARED, *OTHERS[verb]}
    if verb != "catalogue":
        assert "standin-sd3" in {row["name"] for row in facts["models"]}


def trained(alarms):
    row = {"task": "image_to_text", "base": "standin-gemma-s", "treatment": "grpo", "seed": 1, "step": 40}
    rows = [row | {"tripwire": t, "value": float("nan"), "bound": 1.0, "action": a} for t, a in alarms]
    return {"alignments": None, "alarms": validate(pd.DataFrame(rows), ALARMS) if rows else empty(ALARMS)}


@pytest.mark.parametrize(
    ("alarms", "code"), [([], 0), ([("length", "warned")], 0), ([("length", "warned"), ("kl", "stopped")], 3)]
)
def test_align_is_done_in_part_where_a_guard_stopped_it(alarms, code, tmp_path, monkeypatch):
    monkeypatch.setattr(alignment_stage, "run_alignment_stage", lambda study, out, say: trained(alarms))
    monkeypatch.setattr(alignment_stage, "verdict_text", lambda found, level: "one\ntwo")
    monkeypatch.setattr(alignment_stage, "models_text", lambda folders: "models")
    nothing = pd.DataFrame(columns=["task", "model", "treatment", "source"])
    monkeypatch.setattr(alignment_stage, "aligned_folders", lambda rows, out: nothing)
    done = mmpc("align", "--out", tmp_path / "run", "--json")
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"]) == (code, code), done.stderr
    assert set(facts) == {*SHARED, *OTHERS["align"]} and facts["claims"] == ["one", "two"]
    assert len(facts["alarms"]) == len(alarms) and all(row["value"] is None for row in facts["alarms"])
    assert [("kl" in line and "step 40" in line) for line in facts["problems"]] == [True] * (code == 3)


@pytest.mark.parametrize(("verdict", "code"), [("fine", 0), ("doubtful", 0), ("hopeless", 3)])
def test_a_check_that_finds_no_hope_is_code_3(verdict, code, tmp_path, monkeypatch):
    row = {"task": "image_to_text", "base": "b", "measure": "hours", "value": 1.0, "verdict": verdict}
    checks = pd.DataFrame([row])
    monkeypatch.setattr(alignment_stage, "check_alignment_stage", lambda study, out: checks)
    monkeypatch.setattr(alignment_stage, "check_text", lambda rows: "figures")
    done = mmpc("align", "--check", "--out", tmp_path / "run", "--json")
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"], facts["checks"]) == (code, code, [row])


@pytest.mark.parametrize(
    "words",
    [
        ["run", "no.toml"], ["complete", "--model", "standin-z"], ["draw", "--out", "typo"], ["score", "--out", "typo"],
        ["recommend", "--out", "typo"], ["analyse", "--out", "typo"], ["report", "--out", "typo"], ["catalogue", "no\u202e'.csv"],
        ["doctor", "--study", "no.toml"], ["align", "no.toml"], ["models", "surplus"], ["run", "--column", "x", "-c", "y.csv"],
        ["catalogue", "--split", "tset"], ["catalogue", "--limit", "3"], ["run", "--limit", "many"],
    ],
)  # fmt: skip
def test_a_mistake_is_one_object_and_one_line(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = mmpc(*words, "--json")
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"], facts["command"]) == (2, 2, words[0])
    assert list(facts)[:5] == SHARED and facts["error"] and "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir()), "a mistake writes nothing"


def test_a_study_that_cannot_run_is_code_2_with_its_problems(tmp_path):
    (tmp_path / "s.toml").write_text('[completion]\nmodels = ["qwen2.5-vl-72b"]\n[catalogue]\nlimit = 6\n')
    done = mmpc("doctor", "--study", tmp_path / "s.toml", "--json")
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"], facts["can_run"]) == (2, 2, False)
    assert facts["problems"] and facts["items"] == 6 and facts["places"][0]["model"] == "qwen2.5-vl-72b"


def test_doctor_is_code_1_where_the_demonstration_cannot_run(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "plotly" else find(name))
    done = mmpc("doctor", "--json")
    facts = strict(done.stdout)
    assert (done.exit_code, facts["exit_code"]) == (1, 1) and "pip install plotly" in facts["error"]
    assert facts["missing"]["plotly"] and done.stderr.strip().endswith("cannot run here: pip install plotly")


# ---------------------------------------------------------------- engines that fail


class Moody:
    "Answers all but every second product, until it is in a better mood."

    identity, precision, batch_size, fails = "moody 1", "exact", 8, True

    def ask(self, requests):
        return [
            Answer(r.key, "boom" if self.fails and n % 2 else '{"title": "Mug"}', "error" if self.fails and n % 2 else "stop", 1.0, 1.0, 0.0)
            for n, r in enumerate(requests)
        ]  # fmt: skip


def test_engine_errors_are_done_in_part_until_they_are_asked_again(tmp_path):
    register_backend("moody", Moody)
    try:
        (tmp_path / "s.toml").write_text(STUDY.format(model="moody"))
        words = ["complete", tmp_path / "s.toml", "--out", tmp_path / "run", "--json"]
        done = mmpc(*words)
        facts = strict(done.stdout)
        lost = facts["answers"]["image_to_text"]["moody"].get("engine_error", 0)
        assert 0 < lost < 4 and (done.exit_code, facts["exit_code"], facts["error"]) == (3, 3, None)
        assert f"the engine failed on {lost} of 4 questions" in facts["problems"][-1]
        Moody.fails = False
        again = mmpc(*words)
        assert again.exit_code == 0 and strict(again.stdout)["answers"]["image_to_text"]["moody"] == {"ok": 4}
    finally:
        Moody.fails = True
        _REGISTERED.pop("moody", None)


# ---------------------------------------------------------------- what is declared is what is told


def test_help_names_every_code():
    shown = " ".join(mmpc("--help").stdout.split())
    assert all(f"{code} {meaning}" in shown for code, meaning in EXIT_CODES.items())


@pytest.mark.parametrize("page", ["23_command_endings", "40_command_line"])
def test_the_pages_have_a_row_for_every_code(page):
    cells = json.loads((ROOT / "nbs" / "study" / f"{page}.ipynb").read_text("utf-8"))["cells"]
    prose = "".join("".join(c["source"]) + "\n" for c in cells if c["cell_type"] == "markdown")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", prose, re.M)] == list(EXIT_CODES)


# ---------------------------------------------------------------- real processes

SLOW = """
import time
from mmpc_analysis import Answer, register_backend

class Slow:
    identity, precision, batch_size = "slow 1", "exact", 1

    def ask(self, requests):
        time.sleep(0.5)
        return [Answer(r.key, '{"title": "Mug"}', "stop", 1.0, 1.0, 0.0) for r in requests]

register_backend("slow", Slow)
"""


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_ctrl_c_keeps_what_was_answered_and_says_so(as_json, tmp_path):
    (tmp_path / "slowly.py").write_text(SLOW)
    (tmp_path / "s.toml").write_text(STUDY.format(model="slow").replace("limit = 4", "limit = 40"))
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    around = os.environ | {"MMPC_PLUGINS": "slowly", "PYTHONPATH": paths}
    words = [MMPC, "complete", "s.toml", "--out", "run", *as_json]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=tmp_path, env=around, start_new_session=True, **pipes)
    stop = time.monotonic() + 60
    while not list((tmp_path / "run").rglob("*.jsonl")) and time.monotonic() < stop:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to all processes of the command
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in complaint, complaint
    last = complaint.strip().split("\n")[-1]
    assert last == "mmpc: stopped. The same command goes on where it stood; what was made is kept in run."
    kept = sum(len(f.read_text().splitlines()) for f in (tmp_path / "run").rglob("*.jsonl"))
    assert 1 <= kept < 40
    if as_json:
        facts = strict(said)
        assert (facts["exit_code"], facts["out"], len(facts["stages"])) == (130, "run", 1)


def test_a_reader_that_left_ends_a_command_quietly():
    for words in (["models"], ["models", "--json"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([MMPC, *words], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
        os.close(write)
        assert done.returncode == 141
        assert (
            "Broken pipe" not in done.stderr
            and "Traceback" not in done.stderr
            and "Exception" not in done.stderr
        )


def test_a_pipe_into_another_program_works(tmp_path):
    (tmp_path / "shop.csv").write_text(
        'sku,name\n1,"A ""big"" kite, \x1b[31mred"\n2,風箏\n', encoding="utf-8"
    )
    line = f"'{MMPC}' catalogue shop.csv --json | '{sys.executable}' -m json.tool"
    around = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=around, capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout)["items"] == 2, done.stderr


def test_what_goes_wrong_is_told_without_control_characters(capsys):
    with pytest.raises(typer.Exit), ending("doctor") as result:
        result.lack("a \x1b[2J title\x9b31m")
        raise ValueError("the file has the columns \x1b]0;owned\x07, \u202eid")
    told = capsys.readouterr().err
    assert "title" in told and "owned" in told
    assert not any(sign in told for sign in ("\x1b]", "\x1b[2J", "\x9b", "\x07", "\u202e"))
