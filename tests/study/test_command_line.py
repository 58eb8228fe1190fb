"""The `mmpc` command as a person types it."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmpc_analysis.study.choices import Study
from mmpc_analysis.study.command_line import app
from mmpc_analysis.study.command_options import choose_study
from mmpc_analysis.study.declaration import read_study, run_folder


def typed(*words):
    "The command as a process of its own, as a person types it."
    mmpc = str(Path(sys.executable).with_name("mmpc"))
    return subprocess.run([mmpc, *words], capture_output=True, text=True, timeout=300)


def mmpc(*words, cwd=None):
    "The same command in this process, which need not import everything again."
    with contextlib.chdir(cwd or "."):
        return CliRunner().invoke(app, [str(word) for word in words])


def test_help_names_every_verb():
    shown = typed("--help")
    assert shown.returncode == 0
    for verb in ["run", "catalogue", "complete", "draw", "score", "analyse", "report", "models", "doctor"]:
        assert f" {verb} " in shown.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom mmpc_analysis.study.command_line import app\n"
        "CliRunner().invoke(app, ['run', '--help'])\n"
        "print([name for name in ('pandas', 'mmpc_analysis.study.declaration', 'torch', 'scipy', 'plotly', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_models_lists_published_and_embedded_ones():
    shown = mmpc("models")
    assert shown.exit_code == 0
    for name in ("qwen2.5-vl-72b", "gemma-3-27b", "standin-qwen-l", "standin-gemma-s", "standin-sd3"):
        assert name in shown.stdout


def test_doctor_finds_what_is_here():
    shown = mmpc("doctor")
    assert shown.exit_code == 0
    assert "found    torch" in shown.stdout and "standin-qwen-s" in shown.stdout


def test_catalogue_counts_the_embedded_items():
    shown = mmpc("catalogue")
    assert shown.exit_code == 0
    assert "Musical_Instruments" in shown.stdout and "0 rows or cells set aside" in shown.stdout


def test_catalogue_says_what_it_set_aside(tmp_path):
    (tmp_path / "mine.csv").write_text("sku,name,category\n1,Kite,Toys\n1,Kite again,Toys\n2,,Toys\n")
    shown = mmpc("catalogue", str(tmp_path / "mine.csv"), "--aside", str(tmp_path / "aside.csv"))
    assert shown.exit_code == 0, shown.stderr
    assert "1 products, 2 rows or cells set aside" in shown.stdout
    assert (tmp_path / "aside.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "no.toml"], "there is no study file 'no.toml'"),
        (["run", "--model", "standin-qwen-z"], "did you mean 'standin-qwen"),
        (["run", "--catalogue", "nowhere"], "nowhere"),
        (["run", "--catalogue", "x.csv", "--column", "title"], "--column must look like"),
        (["catalogue", "nowhere.csv"], "nowhere.csv"),
        (["catalogue", "x.csv", "--profile", "amazn"], "profile must be one of plain"),
        (["catalogue", "--category", "Toys"], "or with --catalogue"),
        (["run", "--limit", "-1"], "catalogue.limit must be at least 0, got -1"),
        (["run", "--model", "standin-sd3"], "must be models that answer, got 'standin-sd3'"),
        (["run", "."], "is a folder, not a study file"),
        (["run", "--prompt", "title-long-1"], "there is no prompt 'title-long-1'; did you mean"),
        (["report"], "there is no run in 'runs/demo'"),
        (["score", "--out", "typo"], "there is no run in 'typo'"),
        (["run", "--model", "gemma-3-4b", "--limit", "1", "--out", "far"], "is not on this machine"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_2(words, message, tmp_path):
    shown = mmpc(*words, cwd=tmp_path)
    assert shown.exit_code == 2
    assert message in shown.stderr and "Traceback" not in shown.stderr
    assert shown.stderr.count("mmpc: ") == 1 and shown.stderr.strip().split("\n")[-1].startswith("mmpc: ")


def test_an_unknown_key_is_named_with_a_suggestion(tmp_path):
    (tmp_path / "study.toml").write_text('[completion]\nmodel = ["standin-qwen-s"]\n')
    shown = mmpc("run", "study.toml", cwd=tmp_path)
    assert shown.exit_code == 2
    assert "section [completion] has no key 'model'; did you mean 'models'?" in shown.stderr


def test_stages_pick_up_where_the_run_stands(tmp_path):
    study = (
        "[catalogue]\nlimit = 6\n[completion]\nmodels = ['standin-gemma-s']\n"
        "[scores]\nmetrics = ['chrf', 'mse']\ndraws = 50\n"
    )
    (tmp_path / "study.toml").write_text(study)
    first = mmpc("complete", "study.toml", "--out", "here", cwd=tmp_path)
    assert first.exit_code == 0, first.stderr
    assert not (tmp_path / "here" / "scores").exists()
    asked = {path: path.read_bytes() for path in (tmp_path / "here" / "answers").rglob("*.jsonl")}
    second = mmpc("report", "--out", "here", cwd=tmp_path)
    assert second.exit_code == 0, second.stderr
    assert (tmp_path / "here" / "report.html").exists()
    assert asked and all(path.read_bytes() == data for path, data in asked.items())


# ---------------------------------------------------------------- where a run lies, and what it reads


def test_help_answers_at_once():
    took = []
    for _ in range(3):
        start = time.perf_counter()
        typed("--help")
        took.append(time.perf_counter() - start)
    assert min(took) < 1


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("demo", "runs/demo"),
        ("My shop (2026)", "runs/My-shop-2026"),
        ("../../etc/passwd", "runs/etc-passwd"),
        ("..", None),
        ("", None),
        ("a\x00b\n", "runs/a-b"),
        ("/abs", "runs/abs"),
        ("v1.2", "runs/v1.2"),
        ("Ünïcödé", "runs/Unicode"),
        ("風箏", None),
        ("x" * 500, None),
    ],
)
def test_a_name_never_leads_out_of_runs(name, folder):
    found = run_folder(name)
    assert folder in (None, found)
    head, tail = found.split("/")
    assert head == "runs" and tail and not tail.startswith(".") and len(tail) <= 70
    assert tail.replace("-", "").replace("_", "").replace(".", "").isalnum() and tail.isascii()


def test_different_names_that_lose_their_letters_keep_different_folders():
    assert len({run_folder(name) for name in ("風箏", "箱子", "", "..")}) == 4


def test_a_run_lies_in_a_folder_after_its_catalogue_or_its_file(tmp_path):
    (tmp_path / "toys.toml").write_text("seed = 1")
    assert read_study(tmp_path / "toys.toml").name == "toys"
    (tmp_path / "toys.toml").write_text('name = "other"')
    assert read_study(tmp_path / "toys.toml").name == "other"
    assert choose_study(None, None, kept=False).name == "demo"
    assert choose_study(None, None, kept=False, source="up/my.csv").name == "my"
    assert choose_study(tmp_path / "toys.toml", None, source="my.csv").name == "my"


def test_a_catalogue_on_the_command_line_replaces_the_studys_whole(tmp_path):
    (tmp_path / "s.toml").write_text(
        '[catalogue]\nsource = "a.csv"\nsplit = "test"\nlimit = 5\ncolumns = {title = "t"}'
    )
    kept = choose_study(tmp_path / "s.toml", None, category="Toys", columns=["item_id=sku"]).catalogue
    assert (kept.source, kept.columns, kept.category) == ("a.csv", {"title": "t", "item_id": "sku"}, "Toys")
    other = choose_study(tmp_path / "s.toml", None, source="b.csv").catalogue
    assert (other.source, other.split, other.columns, other.limit) == ("b.csv", "", {}, 5)
    assert (
        choose_study(tmp_path / "s.toml", None, source="embedded").catalogue.split == Study().catalogue.split
    )


def shop(folder):
    "Four products as a shop might keep them: no department, and a column that is called like one."
    from PIL import Image

    rows = ["sku,name,photo,category"]
    for place, colour in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (80, 80), colour).save(folder / f"p{place}.png")
        rows.append(f"{place},A {colour} kite,p{place}.png,shelf {place}")
    (folder / "kites.csv").write_text("\n".join(rows))
    return folder / "kites.csv"


def test_a_shops_own_file_runs_into_a_folder_of_its_own(tmp_path):
    path = shop(tmp_path)
    words = ["--column", "category=", "--category", "Kites", "--model", "standin-gemma-s"]
    shown = mmpc("run", "--catalogue", str(path), *words, cwd=tmp_path)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.startswith("kites: 1 models, into runs/kites")
    assert (tmp_path / "runs" / "kites" / "report.html").exists()
    assert not (tmp_path / "runs" / "demo").exists()
    kept = read_study(tmp_path / "runs" / "kites" / "study.toml")
    assert kept.catalogue.columns == {"category": ""} and kept.catalogue.category == "Kites"
    again = mmpc("report", "--out", "runs/kites", cwd=tmp_path)
    assert again.exit_code == 0 and again.stdout.startswith("kites: 1 models, into runs/kites")
    assert "Kites" in (tmp_path / "runs" / "kites" / "report.html").read_text(encoding="utf-8")


def test_a_run_is_found_again_in_a_folder_of_any_name(tmp_path):
    (tmp_path / "shop [v1]").mkdir()
    path = shop(tmp_path / "shop [v1]")
    (tmp_path / "small.toml").write_text("[scores]\nmetrics = ['chrf']\ndraws = 20\n")
    words = ["run", "small.toml", "-c", str(path), "--column", "category=", "--category", "Kites"]
    words += ["-m", "standin-gemma-s"]
    for times in (1, 2):
        shown = mmpc(*words, "--out", "run [v1]", "-n", "3", cwd=tmp_path)
        assert shown.exit_code == 0, shown.stderr
        asked = "standin-gemma-s image_to_text" in shown.stderr
        assert asked == (times == 1), "what was answered is not asked again"
    (tmp_path / "run [v1]" / "report.html").unlink()
    again = mmpc("report", "--out", "run [v1]", cwd=tmp_path)
    assert again.exit_code == 0 and (tmp_path / "run [v1]" / "report.html").exists(), again.stderr


def test_amazons_layout_reads_its_item_metadata(tmp_path):
    row = {"parent_asin": "B01", "title": "Kite", "store": "Skyline", "main_category": "Toys", "images": []}
    (tmp_path / "meta.jsonl").write_text(
        json.dumps(row | {"features": ["tin"], "description": ["flies"]}) + "\n"
    )
    words = ["--profile", "amazon-2023", "--category", "All_Beauty"]
    shown = mmpc("catalogue", str(tmp_path / "meta.jsonl"), *words)
    assert shown.exit_code == 0, shown.stderr
    assert "item_id from parent_asin" in shown.stdout and "brand from store" in shown.stdout
    assert "All_Beauty" in shown.stdout and "from main_category" not in shown.stdout


def test_the_same_can_be_said_in_the_study_file(tmp_path):
    row = {
        "parent_asin": "B01",
        "title": "Kite",
        "store": "Skyline",
        "images": [],
        "features": [],
        "description": [],
    }
    (tmp_path / "meta.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "s.toml").write_text(
        '[catalogue]\nsource = "meta.jsonl"\nprofile = "amazon-2023"\ncategory = "All_Beauty"'
    )
    shown = mmpc("run", "s.toml", cwd=tmp_path)
    assert shown.exit_code == 2  # read, but its one item has no picture
    assert "of 1 items 1 have a title, 0 a picture and none both" in shown.stderr


def test_models_are_told_in_words():
    shown = mmpc("models").stdout
    assert "draws" in shown and "answers" in shown and "GB" in shown and "embedded" in shown
    assert "True" not in shown and "False" not in shown


def test_the_command_line_chooses_prompts(tmp_path):
    base = tmp_path / "study.toml"
    base.write_text('[completion.prompts]\ntext_to_image = ["prompt-full-1"]\n')
    chosen = choose_study(base, None, prompts=["title-full-1", "title-short-1"]).completion.prompts
    assert chosen == {"text_to_image": ("prompt-full-1",), "image_to_text": ("title-full-1", "title-short-1")}
    assert choose_study(base, None).completion.prompts == {"text_to_image": ("prompt-full-1",)}
    assert choose_study(base, None, prompts=["prompt-short-1"]).completion.prompts == {
        "text_to_image": ("prompt-short-1",)
    }
