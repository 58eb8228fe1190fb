"""Install every requirement at its lower bound into an environment of its own, import every module, and run the core tests.

    python tools/experiments/lower_bounds.py                  # everything in a temporary folder, some minutes
    python tools/experiments/lower_bounds.py --venv FOLDER    # keep the environment, and mend it package by package
    python tools/experiments/lower_bounds.py --venv FOLDER --tests tests/test_store.py    # try; nothing is stored

What settings.ini names is installed as `name==bound`: the requirements and the extras that are needed to run something (`demo`, `mixed`,
`server`, `gpu`, `align`). What they need in turn is whatever pip finds. torch is the one exception: it takes the newest that tools/constraints.txt
allows, because the build of its lower bound for CPUs alone lies in no common registry, and the other brings gigabytes of CUDA.
pytest, hypothesis and polars come on top for the tests. `bitsandbytes` is only imported: it works on a GPU alone.

What was found lies in tests/data/house/lower_bounds.json, and tests/house/test_lower_bounds.py asks that it is of the present bounds.
"""

from __future__ import annotations

import argparse
import configparser
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "data" / "house" / "lower_bounds.json"
GROUPS = ("requirements", *(f"{extra}_requirements" for extra in ("demo", "mixed", "server", "gpu", "align")))
EXCEPTED = ("torch",)
ON_TOP = ("pytest>=8", "hypothesis>=6.100", "polars>=1.20")
IMPORTED = (
    "bitsandbytes",
    "openai",
    "diffusers",
    "accelerate",
    "mixedlm",
    "datasets",
    "peft",
    "trl",
    "transformers.models.auto.modeling_auto",
)

CORE = (
    "tests/test_tables.py",
    "tests/test_store.py",
    "tests/catalogue/test_items.py",
    "tests/catalogue/test_listings.py",
    "tests/completion/test_answers.py",
    "tests/completion/test_prompts.py",
    "tests/completion/test_backends.py",
    "tests/completion/test_own_models.py",
    "tests/completion/test_drawing.py",
    "tests/metrics/test_words.py",
    "tests/scores/test_averages.py",
    "tests/scores/test_measures.py",
    "tests/mixed/test_minimum.py",
    "tests/analysis/test_equivalence.py",
    "tests/recommendation/test_graphs.py",
    "tests/recommendation/test_splits.py",
    "tests/report/test_wording.py",
    "tests/study/test_declaration.py",
)


def settings(root: Path = ROOT) -> dict[str, list[str]]:
    "The requirements of each group, as settings.ini writes them."
    parser = configparser.ConfigParser(delimiters=["="], interpolation=None)
    parser.read(root / "settings.ini", "utf-8")
    return {group: parser["DEFAULT"].get(group, "").split() for group in GROUPS}


def name_of(requirement: str) -> str:
    "The name of a package, as registries write it."
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def bounds(groups: dict[str, list[str]]) -> dict[str, str]:
    "Name to lower bound, of everything but what is excepted."
    found = {}
    for requirement in (one for group in groups.values() for one in group):
        name, wanted = name_of(requirement), re.fullmatch(r"[\w.-]+(>=|==)([\w.]+)(?:,\S*)?", requirement)
        if not wanted:
            raise ValueError(
                f"a requirement must name its lower bound as name>=1.2 or name==1.2, got {requirement!r}"
            )
        if name not in EXCEPTED:
            found[name] = wanted[2]
    return found


def fingerprint(groups: dict[str, list[str]]) -> str:
    "SHA-256 of the requirements, in their order."
    return hashlib.sha256(json.dumps(groups).encode()).hexdigest()


def run(*command: str | Path) -> subprocess.CompletedProcess:
    "Run a command, and stop with its words where it fails."
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment())
    if done.returncode:
        raise SystemExit(
            f"{' '.join(map(str, command[:6]))} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return done


def install(venv: Path, groups: dict[str, list[str]]) -> Path:
    "An environment with everything at its lower bound; its Python."
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
    file = ROOT / "tools" / "constraints.txt"
    rows = file.read_text("utf-8").split("\n")
    limits = [row for row in rows if row[:1].isalpha() and name_of(row) in EXCEPTED]
    asked = [one for group in groups.values() for one in group if name_of(one) in EXCEPTED]
    pins = [f"{name}=={bound}" for name, bound in bounds(groups).items()]
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *pins,
        *asked,
        *limits,
        *ON_TOP,
    )
    return python


IMPORTS = """
import importlib, json, pkgutil, sys, mmpc_analysis
names = [m.name for m in pkgutil.walk_packages(mmpc_analysis.__path__, "mmpc_analysis.") if not m.name.endswith("__main__")]
for name in [*names, *sys.argv[1:]]:
    importlib.import_module(name)
from diffusers import AutoPipelineForText2Image
from openai import AsyncOpenAI
from peft import LoraConfig, PeftModel
from trl import GRPOConfig, GRPOTrainer, SFTTrainer
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
print(json.dumps(names))
"""
VERSIONS = (
    "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
)


def environment() -> dict[str, str]:
    "How the package is found and kept quiet: from this tree, on one thread, without a network."
    calm = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return os.environ | calm | {"PYTHONPATH": str(ROOT)}


def tests(python: Path, files: list[str], folder: Path) -> dict:
    "Run some test files: how many passed of each, and what did not."
    told = folder / "tests.xml"
    command = (
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        f"--junitxml={told}",
        *files,
    )
    shown = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    if not told.exists():
        raise SystemExit(f"pytest could not run:\n{shown.stdout[-4000:]}\n{shown.stderr[-2000:]}")
    passed, failed, skipped = dict.fromkeys(files, 0), [], 0
    for case in ET.parse(told).iter("testcase"):
        home = case.get("classname", "").replace(".", "/") + ".py"
        if case.find("skipped") is not None:
            skipped += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{home}::{case.get('name')}")
        else:
            passed[home] = passed.get(home, 0) + 1
    if failed:
        print(shown.stdout[-20000:])
    return {"passed": passed, "failed": failed, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venv", type=Path, help="folder of an environment that is kept")
    parser.add_argument(
        "--tests", nargs="*", help="test files instead of the core ones; then nothing is stored"
    )
    chosen = parser.parse_args()
    groups, started = settings(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        python = install((chosen.venv or Path(folder) / "venv").resolve(), groups)
        names = [*bounds(groups), *EXCEPTED]
        versions = json.loads(run(python, "-c", VERSIONS, *names).stdout)
        modules = json.loads(run(python, "-c", IMPORTS, *IMPORTED).stdout.strip().split("\n")[-1])
        found = tests(python, list(chosen.tests or CORE), Path(folder))
        version = run(python, "-c", "import platform; print(platform.python_version())").stdout.strip()
    stored = {
        "date": datetime.date.today().isoformat(),
        "requirements": fingerprint(groups),
        "python": version,
        "versions": versions,
        "excepted": list(EXCEPTED),
        "modules_imported": len(modules),
        "imported": list(IMPORTED),
        **found,
        "seconds": round(time.perf_counter() - started),
    }
    print(json.dumps(stored, indent=1))
    if not chosen.tests:
        OUT.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if found["failed"]:
        raise SystemExit(
            f"{len(found['failed'])} tests fail at the lower bounds: raise a bound in settings.ini, or mend the code"
        )


if __name__ == "__main__":
    main()
