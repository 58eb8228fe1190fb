"The section on alignment: what it says first, what bears no verdict, and what it leaves out."

import html
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from alignment_tables import (
    BASE,
    PICTURES,
    TITLES,
    TREATMENTS,
    alarms_table,
    alignment_run,
    claim_row,
    claim_rows,
    claims_table,
    effect,
    effect_rows,
    effects_table,
    steps_table,
    with_place,
)
from report_tables import HOSTILE

from mmpc_analysis import tables
from mmpc_analysis.report.alignment import (
    alignment,
    alignment_claims_at,
    category_changes,
    start_note,
    verdict_words,
)
from mmpc_analysis.report.alignment_figures import (
    change_figure,
    curve_figure,
    curve_measures,
    over_seeds,
    seeds_words,
    step_units,
    treatment_labels,
    witness_metrics,
)
from mmpc_analysis.report.answer import alignment_points
from mmpc_analysis.report.components import Absent, Section, laid_out
from mmpc_analysis.report.html import markup, page


def without_data(piece):
    return re.sub(r"<script.*?</script>", "", str(piece), flags=re.S)


def paragraphs(piece):
    found = re.findall(r"<p[^>]*>(.*?)</p>", without_data(piece), flags=re.S)
    return [html.unescape(re.sub("<[^>]+>", "", p)).strip() for p in found]


def words(piece):
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", without_data(piece))).split())


def empty(name):
    return tables.empty(tables.TABLES[name])


# ---------------------------------------------------------------- what is said


def test_a_run_without_an_alignment_has_no_such_section():
    run = alignment_run(
        **{
            n: empty(n)
            for n in ("alignments", "alignment_steps", "alarms", "alignment_checks", "alignment_effects")
        }
    )
    with pytest.raises(Absent, match="this run has no alignments"):
        alignment(run)
    links, parts = laid_out(run, (Section("alignment", "Alignment", alignment),))
    assert links == "" and "<section" not in parts
    assert alignment_points(run, TITLES) == []
    assert alignment_points(replace(run, tables={"claims": run.tables["claims"]}), TITLES) == []


def test_a_control_that_did_better_is_in_the_first_paragraph():
    first = paragraphs(alignment(alignment_run()))[0]
    assert first.startswith("With GRPO the titles of standin-gemma-s got better")
    assert "one does better than it" in first and "GRPO does worse than supervised fine-tuning" in first
    turned = claims_table(claim_rows()[0], claim_row("beats_control", "better", 0.02, 0.01, "supervised"))
    first = paragraphs(alignment(alignment_run(claims=turned)))[0]
    assert "GRPO does better than supervised fine-tuning" in first and "does worse than" not in first.replace(
        "one does worse than it", ""
    )


def test_of_several_alignments_the_first_paragraph_has_a_sentence_each():
    run = with_place(with_place(alignment_run()), PICTURES, BASE)
    first = paragraphs(alignment(run))[0]
    for what in ("titles of standin-gemma-s", "titles of standin-qwen-s", "pictures of standin-gemma-s"):
        assert first.count(f"With GRPO the {what} got better (gain in") == 1
    assert first.count("supervised fine-tuning does better than it.") == 3
    names = re.findall(r'\bid="([^"]+)"', str(alignment(run)))
    assert len(names) == len(set(names))
    assert [len(alignment_points(run, task)) for task in (TITLES, PICTURES)] == [2, 1]
    assert all(p in first for task in (TITLES, PICTURES) for p in alignment_points(run, task))


def test_what_has_to_be_known_of_a_start_stands_beside_its_verdict():
    about = {
        "alignment": {"notes": {BASE: "It was taught a habit on purpose."}, "about": "An experiment apart."}
    }
    for run in (alignment_run(), with_place(alignment_run()), with_place(alignment_run(), PICTURES, BASE)):
        said = paragraphs(alignment(replace(run, manifest=about)))
        assert (
            said[0].count("It was taught a habit on purpose.") == 1
        )  # Once, also where both tasks are of one start
        assert said[1].startswith("An experiment apart. Stand-ins: standin-gemma-s")
        assert "habit" not in words(alignment(run))
        assert start_note(run, BASE) == [] and start_note(replace(run, manifest={}), BASE) == []
    for odd in (None, "x", {"notes": None}, {"notes": "x"}):
        assert start_note(replace(run, manifest={"alignment": odd}), BASE) == []


def test_of_several_alignments_figures_are_folded_and_of_one_they_are_not():
    for run, shown in ((alignment_run(), 2), (with_place(alignment_run()), 0)):
        body = str(alignment(run))
        text = re.sub(r"<details>.*?</details>", "", body, flags=re.S)
        assert text.count('class="plot"') == shown
        assert "a tripwire was crossed" in text and "The check before training found it" in text
        assert "the cheapest control is a rule that strips filler" in words(text)


@pytest.mark.parametrize(
    ("verdict", "part"),
    [
        ("worse", "got worse"),
        ("equivalent", "would matter"),
        ("not shown", "nor that there is none"),
        ("one seed", "nothing is claimed of the training"),
    ],
)
def test_contradicting_data_give_another_verdict(verdict, part):
    claims = claims_table(claim_row("titles_aligned", verdict, -0.05, 0.04, "before"))
    first = paragraphs(alignment(alignment_run(claims=claims)))[0]
    assert part in first and "got better" not in first


def test_a_metric_that_was_trained_on_is_never_in_the_verdict():
    paid = [
        claim_row("titles_aligned", "better", 0.5, 0.01, "before", metric=m)
        for m in ("token_f1", "minilm_cosine")
    ]
    run = alignment_run(claims=claims_table(*paid))
    assert alignment_claims_at(run, TITLES, BASE).empty
    first = paragraphs(alignment(run))[0]
    assert (
        first == "Nothing is claimed of the titles of standin-gemma-s after training."
        and alignment_points(run, TITLES) == []
    )
    both = alignment_run(claims=claims_table(*paid, *claim_rows()))
    assert set(alignment_claims_at(both, TITLES, BASE)["metric"]) == {"minilm_retrieval"}
    assert "token" not in paragraphs(alignment(both))[0]


def test_metrics_without_a_verdict_are_folded_and_marked():
    body = without_data(alignment(alignment_run()))
    shown = re.sub(r"<details>.*?</details>", "", body, flags=re.S)
    assert "token f1" not in words(shown) and "minilm retrieval" in words(shown)
    folded = next(
        d for d in re.findall(r"<details>(.*?)</details>", body, flags=re.S) if "bear no verdict" in d
    )
    cells = words(folded)
    assert cells.count("trained on (reward)") == cells.count("trained on (same encoder)") == len(TREATMENTS)
    for verdict in ("better", "not shown", "equivalent"):
        assert verdict not in cells


def test_where_everything_was_trained_on_nothing_is_claimed_and_everything_is_marked():
    effects = effects_table(*effect_rows()).assign(trained_on="same words", verdict="trained on")
    run = alignment_run(alignment_effects=effects)
    assert witness_metrics(effects) == []
    assert paragraphs(alignment(run))[0].startswith("Nothing is claimed")
    assert all(t.marker.symbol == "circle-open" for t in change_figure(effects, []).data[:-2])


def test_the_witness_that_is_spoken_of_is_retrieval_and_the_others_are_counted():
    run = alignment_run()
    more = claims_table(
        claim_row("titles_aligned", "worse", -0.1, 0.01, "before", metric="brand_hit"), *claim_rows()
    )
    said = verdict_words(replace(run, tables=run.tables | {"claims": more}), TITLES, BASE)
    assert (
        "minilm retrieval" in said[0]
        and said[1] == "Of two metrics that GRPO was not trained on, one is better and for one it is open."
    )
    reordered = effects_table(*effect_rows()[::-1])
    assert witness_metrics(reordered)[0] == "minilm_retrieval"


def test_a_training_that_was_stopped_is_told_with_its_verdict():
    claims = claims_table(claim_row("titles_aligned", "better", 0.05, 0.04, "before", stopped=1))
    assert (
        "A tripwire stopped one of the three trainings."
        in paragraphs(alignment(alignment_run(claims=claims)))[0]
    )


def test_another_treatment_is_spoken_of_only_where_grpo_was_not_run():
    other = claim_row("titles_aligned", "better", 0.07, 0.04, "before", treatment="supervised")
    both = alignment_run(claims=claims_table(other, *claim_rows()))
    assert set(alignment_claims_at(both, TITLES, BASE)["treatment"]) == {"grpo"}
    assert paragraphs(alignment(alignment_run(claims=claims_table(other))))[0].startswith(
        "With supervised fine-tuning"
    )


def test_stand_ins_prove_nothing_and_real_models_are_not_called_so():
    assert "Stand-ins: standin-gemma-s. These numbers" in words(alignment(alignment_run())).replace("  ", " ")
    real = {
        n: f.replace(BASE, "qwen2.5-vl-7b") if "base" in f else f for n, f in alignment_run().tables.items()
    }
    assert "Stand-ins" not in words(alignment(replace(alignment_run(), tables=real)))


def test_a_run_that_was_never_scored_shows_its_training_and_claims_nothing():
    body = alignment(alignment_run(alignment_effects=empty("alignment_effects"), claims=empty("claims")))
    assert paragraphs(body)[0].startswith("Nothing is claimed") and str(body).count('class="plot"') == 1


def test_without_curves_alarms_and_checks_the_rest_stands():
    body = alignment(
        alignment_run(
            alignment_steps=empty("alignment_steps"),
            alarms=empty("alarms"),
            alignment_checks=empty("alignment_checks"),
        )
    )
    text = words(body)
    assert (
        str(body).count('class="plot"') == 1 and "tripwire" not in text and "Before the training" not in text
    )
    assert "got better" in text


def test_recipe_and_reward_are_told_where_the_manifest_has_them():
    text = words(alignment(alignment_run()))
    assert (
        "steps 80, questions 8, group 16, learning rate 0.0003" in text and "standin-gemma-s-grpo-2" in text
    )
    assert "learning rate" not in words(alignment(replace(alignment_run(), manifest={"alignment": None})))


# ---------------------------------------------------------------- tables and figures


def test_every_number_of_the_table_is_that_of_its_row():
    text = words(alignment(alignment_run()))
    for row in (r for _, r in effects_table(*effect_rows()).iterrows() if r["against"] == "before"):
        span = f"{row['estimate']:.3f} ({row['low']:.3f} to {row['high']:.3f})".replace("-", "\u2212")
        assert f"{row['after']:.3f}" in text and span in text


def test_a_lone_seed_is_told_and_has_no_interval():
    rows = [effect("grpo", "minilm_retrieval", 0.05, np.nan, "one seed", seeds=1, question="this_training")]
    claims = claims_table(claim_row("titles_aligned", "one seed", 0.05, np.nan, "before", seeds=1))
    run = alignment_run(
        alignment_effects=effects_table(*rows),
        claims=claims,
        alignment_steps=steps_table(seeds=1),
        alarms=empty("alarms"),
    )
    text = words(alignment(run))
    assert "made with one seed, so nothing is claimed" in text and "0.050 (no interval)" in text
    assert "nan" not in re.findall("[a-z]+", text)
    curves = curve_figure(steps_table(seeds=1), empty("alarms"), ["minilm_retrieval"])
    assert not [t for t in curves.data if t.fill == "toself"]  # One seed has no range


def test_the_figure_draws_each_change_with_its_interval_and_marks_what_was_trained_on():
    effects = effects_table(*effect_rows())
    figure = change_figure(effects, witness_metrics(effects))
    drawn = {
        (round(t.x[0], 9), round(t.x[0] - t.error_x.arrayminus[0], 9), t.marker.symbol)
        for t in figure.data
        if t.x[0] is not None
    }
    rows = effects[(effects["against"] == "before") & (effects["category"] == "all")]
    assert drawn == {
        (round(r["estimate"], 9), round(r["low"], 9), "circle-open" if r["trained_on"] else "circle")
        for _, r in rows.iterrows()
    }
    assert [a.text for a in figure.layout.annotations] == [
        "minilm retrieval",
        "brand hit",
        "token f1, trained on",
        "minilm cosine, trained on",
    ]
    bands = [s for s in figure.layout.shapes if s.type == "rect"]
    assert [(b.x0, b.x1) for b in bands] == [(-0.02, 0.02)] * 2  # No margin for what bears no verdict


def test_a_metric_that_was_not_named_as_a_witness_is_hollow_too():
    effects = effects_table(*effect_rows())
    effects["witness"] = effects["metric"] == "minilm_retrieval"
    assert witness_metrics(effects) == ["minilm_retrieval"]
    titles = [a.text for a in change_figure(effects, witness_metrics(effects)).layout.annotations]
    assert "brand hit, no witness" in titles
    assert "no witness" in words(alignment(alignment_run(alignment_effects=effects)))


def test_a_witness_that_a_control_was_trained_on_is_marked_in_that_control_s_cell():
    rows = effects_table(*effect_rows())
    own = (rows["treatment"] == "best_of_n") & (rows["metric"] == "brand_hit")
    rows = rows.assign(trained_on=rows["trained_on"].mask(own, "same words"))
    assert witness_metrics(rows) == ["minilm_retrieval", "brand_hit"]
    shown = re.sub(
        r"<details>.*?</details>",
        "",
        without_data(alignment(alignment_run(alignment_effects=rows))),
        flags=re.S,
    )
    assert words(shown).count("trained on (same words)") == 1


def test_the_mean_ends_where_the_first_seed_does():
    steps = steps_table()
    cut = steps[~((steps["seed"] == 2) & (steps["step"] > 30))]
    rows = cut[cut["measure"] == "reward"]
    assert over_seeds(rows).index.max() == 30
    at = rows[rows["step"] == 7]["value"]
    half = 4.302653 * at.std() / 3**0.5  # Student's t with two degrees of freedom
    assert over_seeds(rows).loc[7].tolist() == pytest.approx([at.mean(), at.mean() - half, at.mean() + half])
    assert over_seeds(rows[rows["seed"] < 2]).loc[7, "high"] - over_seeds(rows[rows["seed"] < 2]).loc[
        7, "mean"
    ] == pytest.approx(
        12.7062 * rows[(rows["step"] == 7) & (rows["seed"] < 2)]["value"].std() / 2**0.5, rel=1e-4
    )
    figure = curve_figure(cut, empty("alarms"), ["minilm_retrieval"])
    thick = [t for t in figure.data if t.line.width == 3 and t.xaxis == "x"]
    thin = [t for t in figure.data if t.line.width == 1 and t.xaxis == "x"]
    assert max(thick[0].x) == 30 and sorted(max(t.x) for t in thin) == [30, 80, 80]


def test_the_band_is_an_interval_and_one_seed_has_none():
    steps = steps_table()
    assert "Band: 95% t-interval" in seeds_words(steps)
    one = steps[steps["seed"] == 0]
    assert "Band" not in seeds_words(
        one
    ) and "Of GRPO there is one seed, so there is no band." in seeds_words(one)
    assert over_seeds(one[one["measure"] == "reward"])[["low", "high"]].isna().all(axis=None)
    both = pd.concat([steps, one.assign(treatment="supervised")])
    assert "Band: 95%" in seeds_words(both) and "Of supervised fine-tuning there is one seed" in seeds_words(
        both
    )


def test_seeds_that_were_looked_at_after_different_steps_have_a_mean():
    rows = pd.DataFrame(
        {"seed": [0, 0, 1, 1, 1], "step": [0, 10, 0, 5, 20], "value": [0.0, 1.0, 0.0, 1.0, 4.0]}
    )
    assert over_seeds(rows)["mean"].to_dict() == {
        0: 0.0,
        5: 0.75,
        10: pytest.approx(1.5),
    }  # 1 and 2 at step 10


def test_treatments_with_other_numbers_of_steps_are_drawn_over_their_share():
    steps = steps_table()
    other = steps.assign(treatment="supervised", step=steps["step"] * 10)
    assert step_units(steps).to_dict() == {"grpo": 1}
    both = pd.concat([steps, other])
    assert step_units(both).to_dict() == {"grpo": 80, "supervised": 800}
    figure = curve_figure(both, alarms_table(), ["minilm_retrieval"])
    assert {max(t.x) for t in figure.data if t.line.width == 3} == {1.0}
    assert [t.x[0] for t in figure.data if t.mode == "markers"] == [34 / 80]
    assert "GRPO 80 and supervised fine-tuning 800" in seeds_words(both)


def test_a_rank_gives_way_to_what_it_ranks():
    steps = steps_table()
    more = pd.concat([steps, steps[steps["measure"] == "reward"].assign(measure="image_similarity")])
    assert next(iter(curve_measures(more, []))) == "image_similarity" and "reward" not in curve_measures(
        more, []
    )
    assert "flat by construction" in seeds_words(more) and "flat by construction" not in seeds_words(steps)


def test_alarms_are_marks_on_their_own_seed():
    steps, alarms = (
        steps_table(),
        alarms_table({}, {"seed": 2, "step": 60, "action": "stopped"}, {"step": 999}),
    )
    figure = curve_figure(steps, alarms, [])
    marks = {t.name: (t.x[0], t.y[0]) for t in figure.data if t.mode == "markers"}
    reward = steps[steps["measure"] == "reward"].set_index(["seed", "step"])["value"]
    assert marks == {"a tripwire warned": (34, reward[1, 34]), "a tripwire stopped": (60, reward[2, 60])}
    assert "at step 999" in words(alignment(alignment_run(alarms=alarms)))  # Off the curve, and still told


def test_curves_choose_a_witness_and_say_where_there_is_none():
    steps = steps_table()
    assert list(curve_measures(steps, ["brand_hit", "minilm_retrieval"])) == [
        "reward",
        "look/minilm_retrieval",
        "look/distinct",
        "entropy",
    ]
    renamed = steps.assign(measure=steps["measure"].replace("look/minilm_retrieval", "look/token_f1"))
    assert curve_measures(renamed, ["minilm_retrieval"])["look/token_f1"].endswith("no witness")
    bare = steps[~steps["measure"].str.startswith("look/")]
    assert list(curve_measures(bare, [])) == ["reward", "distinct", "entropy"]
    assert curve_measures(steps[:0], []) == {}


def test_categories_are_of_witnesses_and_each_is_there():
    effects = effects_table(*effect_rows())
    text = words(category_changes(effects, "minilm_retrieval"))
    assert (
        all(name in text for name in ("Food", "Tools", "Toys"))
        and category_changes(effects, "brand_hit") == ""
    )


# ---------------------------------------------------------------- hostile names, and the page


def hostile_tables():
    "Every text that a run may choose for itself is an attack."
    run, found = alignment_run(), {}
    for name, frame in run.tables.items():
        found[name] = frame.replace(
            {
                BASE: HOSTILE,
                "Food": HOSTILE,
                "silent_most": HOSTILE,
                "strip_filler": HOSTILE,
                "brand_hit": HOSTILE,
                "silent_groups": HOSTILE,
            }
        )
    found["alignments"] = found["alignments"].assign(model=HOSTILE, fingerprint="<b>x</b>", stopped=HOSTILE)
    for name in ("detail", "subject"):
        found["claims"][name] = found["claims"][name].str.replace(
            BASE, json.dumps(HOSTILE)[1:-1] if name == "detail" else HOSTILE
        )
    return replace(run, tables=found, manifest={"alignment": {HOSTILE: {HOSTILE: [HOSTILE]}}})


def test_hostile_names_are_text():
    body = str(alignment(hostile_tables()))
    assert "<script>alert" not in body and "<a href" not in body and "<b>x" not in body
    assert "&lt;script&gt;alert(1)" in body
    effects = hostile_tables().tables["alignment_effects"]
    for figure in (
        change_figure(effects, witness_metrics(effects)),
        curve_figure(steps_table().assign(treatment=HOSTILE), alarms_table({"treatment": HOSTILE}), []),
    ):
        text = json.dumps(figure.to_plotly_json(), default=list)
        assert "<script" not in text and "<a href" not in text and "&lt;script" in text
    assert len(set(treatment_labels([HOSTILE + "a", HOSTILE + "b"]).values())) == 2


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "run", [lambda: with_place(alignment_run(), PICTURES, BASE), hostile_tables], ids=["two", "hostile"]
)
def test_it_fits_a_screen_and_a_telephone(browser, tmp_path, width, run):
    links, parts = laid_out(run(), (Section("alignment", "Alignment", alignment),))
    path = tmp_path / "page.html"
    path.write_text(
        page("Report", markup('<nav><ul>{l}</ul></nav><main id="main">{p}</main>', l=links, p=parts)).replace(
            "<details>", "<details open>"
        ),
        encoding="utf-8",
    )
    opened, noise = browser.new_page(viewport={"width": width, "height": 900}), []
    opened.on("console", lambda m: noise.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda e: noise.append(str(e)))
    opened.goto(path.as_uri())
    opened.wait_for_selector("html[data-drawn]")
    assert noise == [] and opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.evaluate("document.querySelectorAll('.plot .main-svg').length") >= 4
    opened.close()


def test_claims_of_an_alignment_leave_every_other_section_as_it_was():
    from conftest import ROOT

    from mmpc_analysis.report.page import SECTIONS
    from mmpc_analysis.report.run import Run

    folder = ROOT / "nbs" / "results"
    found = {n: tables.empty(t) for n, t in tables.TABLES.items()}
    found |= {
        p.stem: tables.validate(pd.read_parquet(p), tables.TABLES[p.stem])
        for p in folder.glob("*.parquet")
        if not p.stem.startswith("al")  # alignments and alarms, of an experiment of their own
    }
    found["claims"] = found["claims"][~found["claims"]["rests_on"].str.startswith("alignment_effects")]
    reads_claims = ("scores", "levels", "categories", "scale", "size", "varying", "against", "cost", "worth")
    others = tuple(s for s in SECTIONS if s.anchor in reads_claims)
    more = found | {"claims": pd.concat([found["claims"], claims_table(*claim_rows())], ignore_index=True)}
    assert laid_out(Run(str(folder), "", found), others) == laid_out(Run(str(folder), "", more), others)
    short = next(s for s in SECTIONS if s.anchor == "short").body
    aligned = Run(
        str(folder), "", more | {n: alignment_run().tables[n] for n in ("alignments", "alignment_effects")}
    )
    before, after = (str(short(r)) for r in (Run(str(folder), "", found), aligned))
    assert before == str(short(Run(str(folder), "", more)))  # Claims alone, without the effects they rest on
    point = next(p for p in re.findall("<li>.*?</li>", after) if "GRPO" in p)
    assert after.replace(point, "") == before
