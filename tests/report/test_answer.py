"""The reports of made-up runs whose truth is known, held sentence by sentence against their claims and tables."""

import functools
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import PICTURES, RUNS, completions_of, items_of, scores_of, texts_of

from mmpc_analysis.metrics.cards import headline_metrics
from mmpc_analysis.report.claim_words import claim_sentence
from mmpc_analysis.report.own_runs import report_scores
from mmpc_analysis.report.run import read_run
from mmpc_analysis.report.wording import significant
from mmpc_analysis.tables import tasks_of

# What each run has to answer on its coarsest headline metric, question by question; none where nothing may be said
VERDICTS = {
    "identical models": {"best": "same", "pair": "same", "cost": "all equal", "size": "no estimate", "floor": "better"},
    "one model": {"best": "one model", "pair": None, "size": None, "size_in_general": None, "cost": "one model"},
    "one category": {"best": "among", "size": "better", "category": None, "size_by_category": None, "cost": "good enough"},
    "all failed": {"best": "all failed", "pair": "all failed", "category": None, "cost": "all failed", "size": "no estimate"},
    "hard half lost": {"best": "best", "cost": "good enough", "size": "better", "lost": "apart"},
    "bigger worse": {"size": "worse", "size_in_general": "worse", "cost": "good enough"},
    "an error": {"best": "best", "floor": "better", "size": "better", "cost": "good enough"},
    "families crossed": {"best": "best", "size": "better", "size_in_general": "better"},
    "all ties": {"best": "same", "pair": "same", "floor": "open", "cost": "floor the same", "category": None},
    "no floors": {"best": "among", "floor": None, "size": "better"},
    "directionless": {"best": "no direction", "pair": None, "size": None, "category": None, "cost": None, "lost": None},
    "below the template": {"best": "best", "floor": "worse", "cost": "floor suffices"},
    "two prompts": {"best": "best", "size": "better"},
    "3% lost": {"lost": "counted", "size": "better"},
    "30% lost": {"lost": "apart", "size": "better"},
    "20% missing": {"size": "better", "lost": None, "category": "too few"},
    "one failed": {"best": "best", "lost": None},
    "all lost a little": {"lost": "counted", "best": "best", "pair": "better", "cost": None},
    "one of two lost": {"lost": "apart", "best": "one model", "pair": None, "cost": "one model"},
    "leader tied": {"best": "among"},
    "two models": {"best": "best", "pair": "better", "size": "better", "size_in_general": "no estimate", "cost": "good enough"},
    "two alike in one category": {"best": "equal", "pair": "equal", "size": "open", "category": None, "cost": "good enough"},
}  # fmt: skip

SAID = {
    "identical models": [
        "the three models have the same score on every product",
        "All three models are better than every floor",
        "a-s is the cheapest",
    ],
    "one model": ["a-m is the only model that can be compared", "One model is one point. No correlation"],
    "hard half lost": ["60 of 120 answers of b-s were lost to its engine, so it stands apart"],
    "bigger worse": ["within a family the larger ones scored worse", "a-s is the cheapest model"],
    "an error": ["(mse, lower is better) a-l scores best", "change the mse (lower is better) by \u2212"],
    "families crossed": ["within a family the larger ones scored better"],
    "directionless": ["neither end is the better one, so no model is called best"],
    "below the template": ["a-l is worse than the floor template", "No model is needed: the floor template"],
    "20% missing": ["The means are those of a mixed model, as under 80% of the products"],
    "one failed": ["a-m and a-l stand on the frontier"],
    "all failed": [
        "no model gave a usable answer, so none is called best",
        "none is called better than another",
    ],
    "all ties": ["All three models are neither shown to be better than every floor nor worse than one"],
    "3% lost": ["3 of 120 answers of b-m were lost to its engine; they count neither for it nor against it"],
    "two models": ["a-l scores best", "it is ahead of a-s by", "a-l is better than a-s by"],
    "leader tied": ["a-m and a-s have the best mean", "a-m is not told apart from a-s"],
}
NEVER = {
    "identical models": ["has the best mean", "more items", "stand on the frontier"],
    "one model": ["every other model", "order of these models", "frontier", "of size"],
    "all failed": ["frontier", "best mean", "hardest", "neither told apart"],
    "hard half lost": ["b-s scores best", "b-s has the best", "b-s stand", "over b-s"],
    "all ties": ["has the best mean", "shown to be equal within", "shown to be no more"],
    "one category": ["Of one category", "hardest", "By category"],
    "30% lost": ["b-l scores best", "b-l has the best", "over b-l", "that of b-l", "b-l stand"],
    "directionless": ["best completions", "scores best", "the best of", "resemble the truth"],
    "no floors": ["floor template", "shuffled"],
    "two models": ["every other model", "pairs of models"],
    "one of two lost": ["a-l scores best", "a-s stand", "frontier"],
    "leader tied": ["has the best mean"],
}  # fmt: skip
EVERYWHERE = ["comes first", "own level", "p = unknown", "no fit", "unknown", "look for", "none it is", "better in none", "worse in none",
              "1 degrees", "one model leave", "of one pair of", "of one pairs", "\n0 of ", "0 rows", "In none of the bootstrap", "(1 |", "1 rows"]  # fmt: skip


@functools.cache
def folder(name, home):
    scores = scores_of(name)
    given = {"completions": completions_of(scores), "items": items_of(scores)}
    path = report_scores(scores, f"{home}/{name.replace(' ', '-').replace('%', '')}", draws=100, **given)
    return read_run(str(Path(path).parent)), path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return str(tmp_path_factory.mktemp("made"))


@pytest.fixture(params=RUNS)
def made(request, home):
    run, path = folder(request.param, home)
    return request.param, run, path, texts_of(path)


def headline(run):
    [task] = tasks_of(run.tables["averages"])
    return headline_metrics(run.tables["averages"], task)[-1]


def numbers_of(text):
    return re.findall("\u2212?" + r"\d+(?:[.,]\d+)*(?:e" + "\u2212?" + r"\d+)?", text)


def test_every_question_has_its_verdict(made):
    name, run, *_ = made
    claims = run.tables["claims"]
    claims = claims[(claims["metric"] == headline(run)) & (claims["category"] == "all")]
    for question, verdict in VERDICTS[name].items():
        found = set(claims.loc[claims["question"] == question, "verdict"])
        assert found == ({verdict} if verdict else set()), question


def test_what_has_to_be_said_is_said_and_nothing_false(made):
    name, _, _, texts = made
    text = "\n".join(
        line for anchor, lines in texts.items() if anchor not in ("provenance", "reading") for line in lines
    )
    for words in SAID.get(name, ()):
        assert words in text, words
    for words in (*NEVER.get(name, ()), *EVERYWHERE):
        assert words not in text, words


def test_no_sentence_is_empty_or_malformed(made):
    *_, texts = made
    for anchor, lines in texts.items():
        for line in (line for line in lines if anchor not in ("provenance", "head")):
            assert not re.search(r"\bnan\b|\binf\b|[{}]|  |\.\.|,,| \.| ,|\(\)|\bNone\b(?! of)", line), (
                anchor,
                line,
            )
    assert [line for line in texts["short"] if line.endswith(".")]


def test_the_short_answer_says_nothing_that_no_section_says(made):
    *_, texts = made
    rest = " ".join(line for anchor, lines in texts.items() if anchor != "short" for line in lines)
    for line in (line for line in texts["short"] if line.endswith(".")):
        for sentence in re.split(r"(?<=[a-z)\]]\.) (?=[A-Zab])", line):
            assert sentence in rest, sentence


def test_numbers_of_a_sentence_stand_in_its_claim(made):
    _, run, *_ = made
    for _, row in run.tables["claims"].iterrows():
        known, detail = (
            [row[k] for k in ("estimate", "low", "high", "n", "p_value")],
            json.loads(row["detail"]),
        )
        known += [v for v in detail.values() if isinstance(v, int | float)]
        written = {
            form
            for v in known
            if v is not None
            for form in (significant(v), significant(v, 2), f"{v:,.0f}", f"{v:.2%}"[:-1])
        }
        written |= {f"{v:.3g}" for v in known if v is not None}
        names = f"{row['subject']} {row['other']} {detail.get('correction', '')} 0.001 80 1,000 "
        said = set(numbers_of(claim_sentence(row))) - set(numbers_of(names))
        assert said <= written, (claim_sentence(row), said - written)


def test_who_lost_too_much_stands_apart_everywhere(made):
    name, run, path, texts = made
    page = html.unescape(re.sub("<[^>]+>", " ", Path(path).read_text(encoding="utf-8")))
    gone = {"hard half lost": "b-s", "30% lost": "b-l", "one of two lost": "a-s"}.get(name)
    assert ("(apart)" in page) == (gone is not None)
    if gone:
        assert f"{gone} (apart)" in page and any(
            f"answers of {gone} were lost" in line for line in texts["outcomes"]
        )
        assert gone not in set(run.tables["frontier"]["model"])
        claims = run.tables["claims"]
        compared = claims[claims["question"].isin(["best", "pair", "cost"])]
        assert not (compared["subject"].eq(gone) | compared["other"].eq(gone)).any()


def test_outcomes_count_what_engines_lost(made):
    _, run, path, _ = made
    section = re.search('<section id="outcomes".*?</section>', Path(path).read_text(encoding="utf-8"), re.S)[
        0
    ]
    table = html.unescape(re.sub("<[^>]+>", " ", re.search("<table.*?</table>", section, re.S)[0]))
    averages = (
        run.tables["averages"]
        .query("category == 'all' and role == 'model'")
        .drop_duplicates(["model", "prompt"])
    )
    scores = scores_of(made[0]).query("role == 'model'").drop_duplicates(["item_id", "model", "prompt"])
    assert averages["engine_error"].sum() == scores["outcome"].eq("engine_error").sum()
    for lost in averages.loc[averages["engine_error"] > 0, "engine_error"]:
        assert re.search(rf"\b{lost}\b", table)


def test_the_truth_of_made_runs_is_what_they_were_made_for():
    for name in RUNS:
        scores = scores_of(name)
        assert np.isfinite(scores.loc[scores["outcome"] != "engine_error", "value"]).all()
    crossed = scores_of("families crossed").query("metric == 'chrf' and role == 'model'")
    means = crossed.groupby(["family", "parameters"])["value"].mean()
    assert means["a"].is_monotonic_increasing and means["b"].is_monotonic_increasing
    assert np.corrcoef(np.log10(means.index.get_level_values(1)), means)[0, 1] < 0
    half = (
        scores_of("hard half lost")
        .query("metric == 'chrf' and role == 'model'")
        .groupby("model")["value"]
        .mean()
    )
    assert half.idxmax() == "b-s"  # Its engine failed where all are worse
    assert set(scores_of("bigger worse")["metric"]) == set(PICTURES)
