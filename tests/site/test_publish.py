"Claims and facts of a stored alignment stand beside those of the run, once."

import importlib.util
import json
import shutil
import sys

import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis import store, tables
from mmpc_analysis.catalogue.items import load_catalogue

sys.path.insert(0, str(ROOT / "tests" / "report"))
from alignment_tables import BASE, alarms_table, alignment_run, effect_rows, effects_table

NAMES = ("alignments", "alignment_steps", "alarms", "alignment_checks", "alignment_effects")


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(tmp_path):
    "The published claims and manifest without an alignment, and the tables of a made-up one."
    for name in ("claims.parquet", "manifest.json"):
        shutil.copy(ROOT / "nbs" / "results" / name, tmp_path)
    claims = pd.read_parquet(tmp_path / "claims.parquet")
    own = claims[~claims["rests_on"].str.startswith("alignment_effects")]
    store.write_shard(own, tables.CLAIMS, str(tmp_path), "claims")
    rows = effects_table(*effect_rows())
    open_ones = rows.assign(verdict=rows["verdict"].where(rows["trained_on"] != "", "not shown"))
    found = alignment_run(alignment_effects=open_ones, alarms=alarms_table()).tables
    for name in NAMES:
        store.write_shard(found[name], tables.TABLES[name], str(tmp_path), name)
    (tmp_path / "alignment.json").write_text(json.dumps({"notes": {BASE: "As it ships."}}), "utf-8")
    return tmp_path


def test_claims_and_facts_are_joined_once_however_often_it_is_done(results):
    publish, before = tool("publish_results"), pd.read_parquet(results / "claims.parquet")
    counts = [publish.join_alignment(results) for _ in range(2)]
    after = pd.read_parquet(results / "claims.parquet")
    assert (
        counts[0] == counts[1] == len(after) - len(before) == 2 + 4
    )  # Two witnesses, and four controls in one
    new = after[after["rests_on"].str.startswith("alignment_effects")]
    assert set(new["question"]) == {"titles_aligned", "beats_control"} and set(new["verdict"]) == {
        "not shown"
    }
    pd.testing.assert_frame_equal(after.drop(new.index).reset_index(drop=True), before.reset_index(drop=True))
    manifest = json.loads((results / "manifest.json").read_text("utf-8"))
    assert manifest["alignment"]["notes"] == {BASE: "As it ships."} and "study" in manifest


def test_without_an_alignment_nothing_is_joined(results):
    (results / "alignments.parquet").unlink()
    before = (results / "claims.parquet").read_bytes()
    assert tool("publish_results").join_alignment(results) == 0
    assert (results / "claims.parquet").read_bytes() == before


def test_the_site_s_report_tells_of_the_published_alignment(results, tmp_path):
    tool("publish_results").join_alignment(results)
    run, site = tmp_path / "run", tool("build_site")
    run.mkdir()
    (run / "report.html").write_text("as it was", "utf-8")
    assert site.report_page(run / "report.html", results) == "as it was"  # No run lies beside it
    for name in ("averages", "claims", "completions"):
        rows = pd.read_parquet(ROOT / "nbs" / "results" / f"{name}.parquet")
        store.write_shard(
            rows[~rows.get("rests_on", rows["task"]).str.startswith("alignment_effects")],
            tables.TABLES[name],
            str(run / name),
        )
    store.write_shard(load_catalogue().items, tables.ITEMS, str(run / "items"))
    (run / "manifest.json").write_text("{}", "utf-8")
    page = site.report_page(run / "report.html", results)
    assert '<section id="alignment"' in page and "As it ships." in page
    assert page.count("With GRPO no change of the titles of standin-gemma-s was shown") >= 2
    (results / "alignments.parquet").unlink()
    assert site.report_page(run / "report.html", results) == "as it was"
