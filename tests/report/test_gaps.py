"""A report counts what it does not speak of."""

import re

import pandas as pd
import pytest
from hostile_shop import hostile_run

from mmpc_analysis.report.gaps import gap_piece, gap_words, gaps_by_category, lacking_metrics
from mmpc_analysis.report.run import Run


def items(titles, images, categories=None):
    names = categories or ["Toys"] * len(titles)
    return pd.DataFrame({"category": names, "title": titles, "image": images})


def text(piece):
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", str(piece)))


@pytest.mark.parametrize(
    ("titles", "images", "first"),
    [
        (["t"] * 212, ["p"] * 212, "All 212 products of the catalogue have a title and a picture."),
        (["t"], ["p"], "The one product of the catalogue has a title and a picture."),
        ([None] * 16 + ["t"] * 196, ["p"] * 209 + [None] * 3, "Of 212 products of the catalogue 16 have no title and 3 have no picture."),
        (["t", None], ["p", "p"], "Of 2 products of the catalogue 1 has no title."),
        (["t"] * 1200, [None] * 1200, "Of 1,200 products of the catalogue 1,200 have no picture."),
    ],
)  # fmt: skip
def test_products_with_gaps_are_counted_in_a_sentence(titles, images, first):
    assert gap_words(items(titles, images))[0] == first


def test_gaps_are_shown_by_category_with_the_most_first():
    names = [f"c{n:02}" for n in range(20) for _ in range(n + 1)]
    table = str(gaps_by_category(items([None] * len(names), ["p"] * len(names), names)))
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", table)
    assert [re.sub("<[^>]+>", "", name) for name, _ in rows] == [f"c{n:02}" for n in range(19, 7, -1)]
    assert text(rows[0][1]).split() == ["20", "20", "0"] and "the 12 with the most of 20" in table
    whole = items(["t", None], ["p", "p"], ["full", "gap"])
    assert "full" not in gaps_by_category(whole) and "gap" in gaps_by_category(whole)
    assert gaps_by_category(items(["t"], ["p"])) == ""


def test_words_of_a_shop_and_of_a_path_are_escaped():
    evil = "<script>alert(1)</script>"
    assert "<script" not in gaps_by_category(items([None], ["p"], [evil]))
    assert "<script" not in lacking_metrics([{"metric": "x", "reason": f"no file at {evil}"}])


def test_metrics_that_lack_an_extra_are_named_with_the_line_that_brings_it():
    pip = "needs MiniLM; run pip install 'mmpc_analysis[demo]'"
    skipped = [{"metric": "minilm_cosine", "reason": pip}, {"metric": "minilm_rank", "reason": pip},
               {"metric": "clip_score", "reason": "it needs CLIP"}, {"metric": "shuffled of image_to_text", "reason": "3 of 9 items"}]  # fmt: skip
    shown = text(lacking_metrics(skipped))
    assert "minilm cosine and minilm rank" in shown and shown.count("pip install") == 1
    assert re.search(r"clip score ?: it needs CLIP ?\.", shown) and "shuffled" not in shown
    assert lacking_metrics([]) == "" == lacking_metrics(skipped[3:])


def test_a_run_without_a_catalogue_says_nothing_of_gaps():
    assert gap_piece(Run("", "", {}, {})) == "" == gap_piece(Run("", "", {"items": items([], [])}, {}))


def test_every_report_of_a_study_counts_its_products(tmp_path_factory):
    _, _, page, _ = hostile_run(tmp_path_factory.mktemp)
    section = text(re.search('<section id="aside".*?</section>', page, re.S)[0])
    assert "All 8 products of the catalogue have a title and a picture." in section
