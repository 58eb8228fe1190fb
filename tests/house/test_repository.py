"""The package and its tree: modules and notebooks in step, light imports, one version, no machine, no pickle, data with its origin."""

import ast
import configparser
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from notebooks import ALL, MODULES, NBS, PACKAGE, ROOMS, python, text, words


def test_the_version_is_the_same_everywhere():
    settings = configparser.ConfigParser(delimiters=["="], interpolation=None)
    settings.read(ROOT / "settings.ini", "utf-8")
    version = settings["DEFAULT"]["version"]
    assert python("import mmpc_analysis; print(mmpc_analysis.__version__)").strip() == version
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    section = re.search(rf"^## +\[?v?{re.escape(version)}\]?.*?\n(.*?)(?=^## |\Z)", changes, re.M | re.S)
    assert section, f"CHANGELOG.md has no section `## {version}`"
    assert words(section[1]) >= 20, f"CHANGELOG.md says too little of {version}: what can one do with it?"


def test_pyproject_tells_nbdev_what_settings_say():
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", "utf-8")
    told, declared = settings["DEFAULT"], tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    nbdev, project = declared["tool"]["nbdev"], declared["project"]
    wrong = {k: v for k, v in nbdev.items() if str(v) != told.get(k, "").replace("true", "True")}
    assert not wrong, (
        f"[tool.nbdev] and settings.ini differ: {wrong}; settings.ini is the place to change them"
    )
    assert project["name"] == told["lib_name"]
    urls = {"Repository": told["git_url"], "Documentation": told["doc_host"] + told["doc_baseurl"]}
    assert project["urls"] == urls, f"[project.urls] differs from settings.ini: {urls}"
    fixed = set(project) - {"name", "dynamic", "urls"}
    assert not fixed, (
        f"pyproject.toml fixes {fixed}: name them in `dynamic`, settings.ini and setup.py say them"
    )


@pytest.mark.parametrize(
    "file", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", ".ci/run"]
)
def test_the_project_has(file):
    path = ROOT / file
    assert path.exists() and path.stat().st_size > 100, f"{file} is missing or empty"


@pytest.fixture(scope="module")
def exported_again(tmp_path_factory):
    "A copy of the project in which the notebooks were cleaned and exported anew."
    copy = tmp_path_factory.mktemp("export")
    for name in ("settings.ini", "pyproject.toml", "_quarto.yml"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(NBS, copy / "nbs", symlinks=True, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(PACKAGE, copy / "mmpc_analysis", ignore=shutil.ignore_patterns("data", "__pycache__"))
    python("from nbdev.clean import nbdev_clean; nbdev_clean()", cwd=copy)
    python("from nbdev.doclinks import nbdev_export; nbdev_export()", cwd=copy)
    return copy


def test_modules_are_what_the_notebooks_export(exported_again):
    def modules(folder):
        return {p.relative_to(folder).as_posix(): p.read_text("utf-8") for p in folder.rglob("*.py")}

    old, new = modules(PACKAGE), modules(exported_again / "mmpc_analysis")
    wrong = sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
    assert not wrong, f"{wrong} are not what the notebooks export: edit the notebooks, then run nbdev-export"


def test_notebooks_are_clean(exported_again):
    wrong = [n.name for n in ALL if (exported_again / "nbs" / n.name).read_bytes() != n.path.read_bytes()]
    assert not wrong, f"{wrong} hold metadata that nbdev_clean takes out: run nbdev-clean"


def test_the_readme_is_what_the_index_says():
    run = subprocess.run(
        [sys.executable, "tools/site/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


# ---------------------------------------------------------------- the tree


def tracked():
    "Files that are or would be committed."
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
            "\0"
        )
    except (OSError, subprocess.CalledProcessError):
        return [p for p in ROOT.rglob("*") if p.is_file() and ".venv" not in p.parts]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine():
    places = [
        "/" + p
        for p in (
            "work/",
            "root/",
            "tmp/nbs",
            "opt/pypi",
            "home/[a-z]+/",
            "Users/[A-Za-z]+/",
            "tmp/[a-z]+src",
        )
    ]
    hosts = r"(?:index[-_]url|registry|find-links|GOPROXY)\W{1,4}https?://(?!pypi\.org|registry\.npmjs\.org)[\w.:-]+"
    pattern = re.compile("|".join([rf"(?<![\w.~}}-]){p}" for p in places] + [hosts]))
    wrong = []
    for path in tracked():
        raw = path.read_bytes()
        if b"\0" in raw[:4096] or path == Path(__file__).resolve():
            continue
        found = sorted({m[0] for m in pattern.finditer(raw.decode("utf-8", "replace"))})
        wrong += [f"{path.relative_to(ROOT)}: {f}" for f in found]
    assert not wrong, (
        "these hold only on one machine; use relative paths and plain package names:\n" + "\n".join(wrong)
    )


def test_no_file_is_too_big_to_clone():
    big = {p.relative_to(ROOT).as_posix(): p.stat().st_size / 1e6 for p in tracked()}
    wrong = {k: f"{v:.0f} MB" for k, v in big.items() if v > 25}
    assert not wrong, f"files over 25 MB: {wrong}"
    assert sum(big.values()) < 80, f"the tree holds {sum(big.values()):.0f} MB; 80 MB is the limit"


def test_no_pickle_is_shipped():
    bad = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
    wrong = [p.relative_to(ROOT).as_posix() for p in tracked() if p.suffix in bad]
    assert not wrong, (
        f"weights are safetensors, tables Parquet or CSV; these can run code when loaded: {wrong}"
    )


def test_the_house_in_contributing_is_the_house():
    picture = re.search(r"```text\n(ground.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.S)[1]
    told, room = {}, None
    for row in picture.splitlines():
        head, pages = row[:16].strip(), row[16:].split()
        room = head or room
        told.setdefault(room, []).extend(pages)
    there = {room: [] for room in ("ground", *ROOMS)}
    for n in sorted(MODULES, key=lambda n: n.place):
        there[n.room or "ground"].append(n.path.stem.split("_", 1)[1])
    assert told == there, "draw the house in CONTRIBUTING.md as it stands"
    assert list(told) == ["ground", *ROOMS], "the rooms stand in another order"


@pytest.mark.parametrize("room", ROOMS)
def test_the_head_of_a_room_lists_its_pages_with_their_questions(room):
    cells = json.loads((NBS / room / "index.ipynb").read_text("utf-8"))["cells"]
    head = "\n".join("".join(c["source"]) for c in cells)
    for n in [n for n in MODULES if n.room == room]:
        question = re.search(r"^> (.+)", text(n.cells[0]), re.M)[1]
        row = f"| [{n.path.stem.split('_', 1)[1]}]({n.path.name}) | {question} |"
        assert row in head, f"nbs/{room}/index.ipynb lacks the row\n{row}"


@pytest.mark.parametrize("tool", sorted((ROOT / "tools").rglob("*.py")), ids=lambda p: p.stem)
def test_tools_and_benches_find_their_folders(tool):
    names = {"Path": Path, "__file__": str(tool)}
    for node in ast.walk(ast.parse(tool.read_text("utf-8"))):
        if isinstance(node, ast.Assign) and re.search(
            r"Path\(__file__\)|^\(?(ROOT|HERE|DATA)\b", ast.unparse(node.value)
        ):
            if "/" not in ast.unparse(node.value) and "__file__" not in ast.unparse(node.value):
                continue
            if {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)} - set(names):
                continue  # It needs what only a run knows
            path = eval(compile(ast.Expression(node.value), str(tool), "eval"), names)
            names[node.targets[0].id] = path
            assert path.exists(), (
                f"{tool.relative_to(ROOT)}: {node.targets[0].id} leads to {path}, which is not there"
            )


def test_tests_stand_where_their_page_stands():
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    homes = {p.relative_to(ROOT / "tests").as_posix() for p in files}
    pages = {f"{n.room}/test_{n.module.split('.')[-1]}.py".lstrip("/") for n in MODULES}
    others = {h for h in homes if h.startswith(("house/", "site/")) or h == "test_root.py"}
    others |= {f"study/test_{p.stem}.py" for p in (PACKAGE / "data" / "studies").glob("*.toml")}  # As shipped
    assert homes <= pages | others, (
        f"tests/<room>/test_<module>.py is the rule; there is no such page for {homes - pages - others}"
    )
    stems = [p.stem for p in files]
    assert len(set(stems)) == len(stems), "pytest wants unique names of test files"
    assert not list((ROOT / "tests").rglob("__init__.py")), (
        "tests are no package; the names of files are unique"
    )


# ---------------------------------------------------------------- embedded data

CATALOGUE = PACKAGE / "data" / "catalogue"
STANDINS = PACKAGE / "data" / "standins"


def test_the_catalogue_says_where_it_comes_from():
    said = (CATALOGUE / "ATTRIBUTION.md").read_text("utf-8")
    rows = [row.split(",") for row in (CATALOGUE / "items.csv").read_text("utf-8").splitlines()[:1]]
    assert {"item_id", "source", "licence"} <= set(rows[0]), "items.csv needs the columns source and licence"
    import pandas as pd

    items = pd.read_csv(CATALOGUE / "items.csv", dtype=str)
    assert items["licence"].notna().all(), "every item has a licence"
    missing = sorted(name for name in items["source"].unique() if name not in said)
    assert not missing, f"ATTRIBUTION.md does not name {missing}"


def test_the_catalogue_is_what_its_manifest_says():
    hashes = json.loads((CATALOGUE / "hashes.json").read_text("utf-8"))
    hashes = hashes.get("files", hashes)
    have = {p.relative_to(CATALOGUE).as_posix() for p in CATALOGUE.rglob("*") if p.is_file()}
    pictures = {p for p in have if p.startswith("pictures/")}
    assert pictures <= set(hashes), (
        f"not in hashes.json: {sorted(pictures - set(hashes))[:5]}; run tools/catalogue/build_catalogue.py"
    )
    wrong = [
        n
        for n, h in hashes.items()
        if n not in have or hashlib.sha256((CATALOGUE / n).read_bytes()).hexdigest() != h
    ]
    assert not wrong, (
        f"{len(wrong)} files are not what hashes.json says, such as {wrong[:5]}; run tools/catalogue/build_catalogue.py"
    )


def test_every_standin_has_a_card_that_says_what_it_is():
    folders = sorted(p for p in STANDINS.iterdir() if p.is_dir())
    assert len(folders) >= 7, f"six models and a generator are shipped, there are {[p.name for p in folders]}"
    cards = json.loads((STANDINS / "standins.json").read_text("utf-8"))["models"]
    unfinished = [name for name, card in cards.items() if card.get("preliminary")]
    assert not unfinished, f"not trained to the end, run tools/standins/train_standins.py: {unfinished}"
    assert set(cards) == {f.name for f in folders}, (
        "standins.json and the folders beside it name different models"
    )
    for folder in folders:
        assert list(folder.rglob("*.safetensors")), f"{folder.name} has no safetensors"
        said = (folder / "README.md").read_text("utf-8").lower() if (folder / "README.md").exists() else ""
        for word in ("stand-in", "seed", "nothing about"):
            assert word in said, (
                f"{folder.name}/README.md does not say {word!r}: data, seed, cost, scores, and that it proves nothing about the real model"
            )
