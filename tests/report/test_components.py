"""The contract of a section: what is absent, broken or not escaped."""

import pytest
from hostile_shop import hostile_run

from mmpc_analysis.report.components import Section, needed
from mmpc_analysis.report.html import markup
from mmpc_analysis.report.page import SECTIONS, report_html
from mmpc_analysis.report.run import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp)


def test_a_section_without_its_table_is_left_out_with_a_sentence(run):
    ranks = Section(
        "ranks", "Rankings", lambda tables: markup("<p>{n}</p>", n=len(needed(tables, "rankings")))
    )
    page = report_html(read_run(str(run[1])), (*SECTIONS, ranks))
    assert "is left out, because" in page and "this run has no rankings" in page
    assert 'href="#ranks"' not in page and 'id="ranks"' not in page
    assert 'id="provenance"' in page  # the others stand


def test_a_section_that_breaks_stops_the_report(run):
    def broken(tables):
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"):
        report_html(read_run(str(run[1])), (Section("broken", "Broken", broken),))


def test_what_a_section_forgets_to_escape_is_escaped(run):
    plain = Section("plain", "<b>Plain</b>", lambda tables: "<img src=x onerror=alert(1)>")
    page = report_html(read_run(str(run[1])), (plain,))
    assert "<img src=x" not in page and "&lt;img src=x" in page and "<b>Plain" not in page
