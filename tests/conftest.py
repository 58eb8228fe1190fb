"""What several test files use."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
settings.register_profile("patient", deadline=None)  # A busy machine is no wrong answer
settings.load_profile("patient")


@pytest.fixture(scope="session")
def browser():
    "Headless Chromium; where CI promises one, its absence is a failure."
    names = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = os.environ.get("CHROMIUM") or next(names, "/usr/bin/chromium")
    missing = None
    if not Path(path).exists():
        missing = f"no browser at {path}: install chromium, or name one in the variable CHROMIUM"
    elif importlib.util.find_spec("playwright") is None:
        missing = "no playwright: pip install playwright"
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True, scope="module")
def registries_as_they_were():
    "What a file of tests registers is gone after it: models, parts of rewards, metrics and encoders of its own."
    from mmpc_analysis.alignment.rewards import REWARD_PARTS
    from mmpc_analysis.completion import models
    from mmpc_analysis.metrics.cards import ENCODERS, METRICS

    registries = (REWARD_PARTS, ENCODERS, METRICS, models._REGISTERED)
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)
