"""The probe of memory within a run: asked once, kept in step with the study, and in the report."""

from dataclasses import replace

import pytest

from mmpc_analysis import store, tables
from mmpc_analysis.report.recall import memory
from mmpc_analysis.report.run import Run
from mmpc_analysis.study.choices import (
    CatalogueChoice,
    CompletionChoice,
    MemorisationChoice,
    MissingChoice,
    ScoreChoice,
    Study,
)
from mmpc_analysis.study.memorisation_stage import date_of
from mmpc_analysis.study.stages import run_study

STUDY = Study(
    name="memory",
    catalogue=CatalogueChoice(limit=60),
    missing=MissingChoice(rates=(1.0,)),
    completion=CompletionChoice(models=("standin-gemma-s",), tasks=("image_to_text",)),
    scores=ScoreChoice(metrics=("token_f1", "chrf"), draws=100),
    memorisation=MemorisationChoice(items=2, shop="Example", after="2022-03-01"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("run"))
    run_study(STUDY, out, through="scores", progress=False, say=lambda line: None)
    return out


def table(out, name):
    return store.read_shards(f"{out}/{name}", tables.TABLES[name])


def test_every_model_is_asked_both_ways_and_compared_by_date(run):
    probes, found = table(run, "probes"), table(run, "memorisation")
    assert probes.groupby(["category", "condition"])["item_id"].nunique().max() == 2
    assert set(found["condition"]) == {"blind", "wrong_picture", "after_date"}
    assert set(found.loc[found["condition"] == "after_date", "metric"]) == {"token_f1"}
    assert not found["shown"].any()  # A stand-in has read no identifier
    # Identifiers such as console-atari-2600 tell the title to whoever can read
    assert "cannot be told" in str(memory(Run(run, "", {"memorisation": found})))


def test_again_asks_nobody_and_a_study_without_it_leaves_nothing(run, monkeypatch):
    from mmpc_analysis.scores import memory_probe

    def nobody(*args):
        raise AssertionError("asked twice")

    with monkeypatch.context() as patch:
        patch.setattr(memory_probe, "_ask", nobody)
        before = table(run, "memorisation")
        run_study(STUDY, run, through="scores", progress=False, say=lambda line: None)
        assert table(run, "memorisation").equals(before)
    off = replace(STUDY, memorisation=MemorisationChoice())
    run_study(off, run, through="scores", progress=False, say=lambda line: None)
    assert not store.shard_names(f"{run}/memorisation") and not store.shard_names(f"{run}/probes")


@pytest.mark.parametrize("day", ["June 2024", "2024-13-01", "soon"])
def test_a_day_that_is_none_is_named(day):
    with pytest.raises(ValueError, match=r"memorisation\.after must be a day"):
        date_of(day)
