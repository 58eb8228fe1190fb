"""The report of a run on a hostile shop of one's own: escaped, complete, offline, and readable on a phone."""

import html
import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from conftest import ROOT
from hostile_shop import ATTACKS, CATEGORY, hostile_run

from mmpc_analysis import store, tables
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.report.components import Section
from mmpc_analysis.report.examples import examples_of_task
from mmpc_analysis.report.html import Safe
from mmpc_analysis.report.page import SECTIONS, report_html, write_report
from mmpc_analysis.report.run import read_run
from mmpc_analysis.study.stages import run_study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


def test_titles_are_text_and_never_markup(run):
    page = run[2]
    for attack in ATTACKS[:3]:
        assert attack not in page
    found = read_run(str(run[1]))
    named = found.tables["claims"].replace(
        {"subject": {"": "standin-qwen-s"}}
    )  # All score the same, so none is named
    cards = examples_of_task(replace(found, tables=found.tables | {"claims": named}), "image_to_text", 8)
    assert any(html.escape(attack) in cards for attack in ATTACKS[:3])  # shown, as text
    assert not any(attack in cards for attack in ATTACKS[:3])
    assert html.escape(CATEGORY) in page
    assert CATEGORY not in page and "<i>nothing</i>" not in page


def test_the_manifest_says_what_was_used(run):
    manifest = json.loads((run[1] / "manifest.json").read_text())
    assert manifest["root"] == str(run[0]) and manifest["generator"] == "standin-sd3"
    assert manifest["models"]["standin-gemma-s"]["used_precision"] == "float32"
    assert manifest["models"]["standin-gemma-s"]["stored_precision"] == "float16"
    assert manifest["simulated"] == []


def test_every_stand_in_is_named_as_one(run):
    words = re.sub("<[^>]+>", "", run[2])
    for name in ("standin-gemma-s", "standin-qwen-s", "standin-sd3"):
        assert name in words.split("prove nothing about the real models")[0]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_the_disk_quietly_and_fits(run, browser, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on(
        "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto((run[1] / "report.html").as_uri())
    page.wait_for_selector(".main-svg")
    for section in page.query_selector_all("main section"):
        section.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.title() != "owned"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)")
    page.close()


def test_every_anchor_and_figure_has_a_name_of_its_own(run):
    body = re.sub(r"<script.*?</script>", "", run[2], flags=re.S)
    names = re.findall(r'\bid="([^"]+)"', body)
    assert len(names) == len(set(names))
    links = re.findall(r'<a href="#([^"]+)"', body)
    assert set(links) <= set(names)
    assert links == [
        section.anchor
        for section in SECTIONS
        if section.anchor not in ("varying", "worth", "memory", "alignment")
    ]
    assert "this run has no variances" in body  # Two models leave no degree of freedom
    assert "this run has no recovery" in body  # A list of twenty says nothing of so few items
    assert "this run has no alignments" in body


def test_the_published_results_tell_both_questions(tmp_path):
    results = ROOT / "nbs" / "results"
    for path in results.glob("*.parquet"):
        declared = tables.TABLES[path.stem]
        store.write_shard(pd.read_parquet(path), declared, f"{tmp_path}/{path.stem}")
    store.write_shard(load_catalogue().items, tables.ITEMS, f"{tmp_path}/items")
    sections = tuple(s for s in SECTIONS if s.anchor in ("size", "varying", "against", "cost", "power"))
    html_page = report_html(read_run(str(tmp_path)), sections)
    words = html.unescape(re.sub("<[^>]+>", "", re.sub(r"<script.*?</script>", "", html_page, flags=re.S)))
    assert [s.anchor for s in sections] == re.findall(r'<section id="([^"]+)"', html_page)
    assert html_page.count('class="plot"') == 12
    assert words.count("With the models as the sample the interval is") == 2
    assert words.count("families cannot show either that size makes no difference") == 2
    for name, frame in ((n, pd.read_parquet(results / f"{n}.parquet")) for n in ("slopes", "comparisons")):
        one = frame[(frame["category"] == "all") & (frame["metric"] == "minilm_cosine")].iloc[0]
        assert f"{one['estimate']:.3f}".replace("-", "\u2212") in words, name
    assert "nan" not in re.findall(r"[a-z]+", words)


def test_tags_of_ours_are_never_shown_as_text(run):
    body = re.sub(r"<script.*?</script>", "", run[2], flags=re.S)
    for tag in ("bdi", "small", "span", "div", "section"):
        assert f"&lt;{tag}" not in body


def test_a_report_can_be_written_elsewhere_with_sections_of_ones_own(run, tmp_path):
    path = write_report(
        str(run[1]),
        out=str(tmp_path / "own.html"),
        sections=(Section("one", "One", lambda tables: Safe("<p>1</p>")),),
    )
    page = (tmp_path / "own.html").read_text(encoding="utf-8")
    assert path == str(tmp_path / "own.html") and page.count("<section") == 1
    assert "<script" not in page  # no figure, no plotly.js


def test_a_run_of_one_task_alone_is_a_whole_report(run):
    found = read_run(str(run[1]))
    one = {
        name: frame[frame["task"] == "image_to_text"] if "task" in frame else frame
        for name, frame in found.tables.items()
    }
    page = report_html(replace(found, tables=one))
    assert "Titles from pictures" in page and "Pictures from titles" not in page
    left_out = re.findall('left-out"><strong>(?:<bdi[^>]*>)?([^<]+)', page)
    worth = "What completions are worth to a recommender"  # Of too few items
    assert left_out == [
        "What varies",
        "What could have been seen",
        worth,
        "What the models knew by heart",  # Nobody was asked
        "Alignment",
        "Best and worst completions",
    ]  # Two models, and titles that never vary and score the same
    assert page.count("<section") == len(SECTIONS) - len(left_out)


def test_a_model_that_cannot_draw_is_refused_before_any_is_asked(run, tmp_path):
    study = replace(run[3], drawing=replace(run[3].drawing, generator="standin-gemma-s"))
    with pytest.raises(ValueError, match="generator must be a model that draws"):
        run_study(study, str(tmp_path), progress=False, say=lambda line: None)
    with pytest.raises(ValueError, match="did you mean 'standin-sd3'"):
        run_study(replace(study, drawing=replace(study.drawing, generator="standin-sd")), str(tmp_path))
