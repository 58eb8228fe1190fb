"Sentences about alignments: each is another one when the numbers are others."

import numpy as np
import pandas as pd
import pytest
from alignment_tables import (
    CHECKS,
    PICTURES,
    alarms_table,
    alignments_table,
    checks_table,
    claim_row,
    claims_table,
)

from mmpc_analysis.report.alignment_words import (
    ALIGNMENT_WORDS,
    PRODUCTS,
    ahead_or_best,
    alarm_sentence,
    alarm_words,
    alignment_sentence,
    brief_verdict,
    cheapest_controls,
    cheapest_words,
    check_value,
    check_words,
    control_words,
    harmful_controls,
    metric_in_words,
    seconds_text,
    trained_on_badge,
    treatment_costs,
    treatment_name,
    treatment_order,
)

VERDICTS = ("better", "worse", "equivalent", "not shown", "one seed")


def said(question, verdict, estimate=0.05, half=0.04, other="before", **more):
    return alignment_sentence(
        claims_table(claim_row(question, verdict, estimate, half, other, **more)).iloc[0]
    )


def controls(*rows):
    return claims_table(*[claim_row("beats_control", v, gap, 0.01, name) for name, gap, v in rows])


def test_there_is_a_wording_for_every_verdict_of_every_question_and_for_no_other():
    questions = ("titles_aligned", "pictures_aligned", "beats_control")
    assert set(ALIGNMENT_WORDS) == {(q, v) for q in questions for v in VERDICTS}
    with pytest.raises(ValueError, match="no wording for 'trained on'"):
        said("titles_aligned", "trained on")


@pytest.mark.parametrize(
    ("verdict", "part"),
    [
        ("better", "With GRPO the titles of standin-gemma-s got better"),
        ("worse", "With GRPO the titles of standin-gemma-s got worse"),
        ("equivalent", "changed by less than the 0.020 that would matter"),
        ("not shown", "no change of the titles of standin-gemma-s was shown, nor that there is none"),
    ],
)
def test_what_was_judged_is_what_is_said(verdict, part):
    sentence = said("titles_aligned", verdict)
    assert part in sentence
    assert (
        "the gain in minilm retrieval is 0.050 (0.010 to 0.090), on 221 items in 160 listing groups, three seeds."
        in sentence
    )
    assert (
        sum(words in sentence for words in ("got better", "got worse", "would matter", "was shown, nor")) == 1
    )


def test_one_seed_has_no_number_to_be_quoted():
    for question, other in (("titles_aligned", "before"), ("beats_control", "examples")):
        sentence = said(question, "one seed", other=other, seeds=1)
        assert "one seed, so nothing is claimed" in sentence and "0.0" not in sentence


def test_pictures_are_pictures_and_another_treatment_has_its_own_name():
    drawn = said(
        "pictures_aligned", "worse", -0.05, task=PICTURES, metric="effnet_retrieval", treatment="supervised"
    )
    assert drawn.startswith(
        "With supervised fine-tuning the pictures of standin-gemma-s got worse: the gain in effnet retrieval is \u22120.050"
    )
    assert "lpips alex (lower is better)" in said(
        "pictures_aligned", "better", task=PICTURES, metric="lpips_alex"
    )
    assert metric_in_words("psnr") == "psnr"


@pytest.mark.parametrize(
    ("verdict", "start"),
    [
        ("better", "GRPO does better than a rule that strips filler: over it"),
        ("worse", "GRPO does worse than a rule that strips filler: over it"),
        ("equivalent", "GRPO and a rule that strips filler are shown to be equal within 0.020"),
        ("not shown", "GRPO and a rule that strips filler are not told apart"),
    ],
)
def test_a_control_is_held_against_the_training(verdict, start):
    assert said("beats_control", verdict, 0.01, 0.02, "strip_filler").startswith(start)


def test_what_would_mislead_is_said_beside_the_number():
    small = said("titles_aligned", "better", 0.01, 0.005, within_margin=True)
    assert small.endswith("That is less than the 0.020 that would matter.")
    assert "that would matter" not in said("titles_aligned", "better")
    harmful = said("beats_control", "better", other="examples", control_verdict="worse")
    assert harmful.endswith("By itself the control, examples in the prompt, made things worse.")
    assert "made things worse" not in said(
        "beats_control", "better", other="examples", control_verdict="better"
    )


def test_controls_are_counted_and_those_ahead_are_named_the_farthest_first():
    rows = controls(
        ("supervised", -0.02, "worse"), ("strip_filler", -0.05, "worse"), ("examples", 0.05, "better")
    )
    first, *rest = control_words(rows)
    assert first == "Of three controls held against GRPO, two do better than it and one does worse than it."
    assert [r.split(":")[0] for r in rest] == [
        "GRPO does worse than a rule that strips filler",
        "GRPO does worse than supervised fine-tuning",
    ]


def test_where_no_control_is_ahead_the_best_of_them_is_told_of():
    rows = controls(
        ("examples", 0.05, "better"), ("strip_filler", -0.01, "not shown"), ("supervised", 0.2, "one seed")
    )
    first, second = control_words(rows)
    assert (
        "does better" not in first and "one is not told apart from it" in first and "with one seed" in first
    )
    assert second.startswith("GRPO and a rule that strips filler are not told apart")
    assert ahead_or_best(controls(("examples", 0.05, "one seed"))).empty
    assert control_words(rows[:0]) == []


def brief(verdict="better", rows=(("strip_filler", -0.05, "worse", "better"),), table=None, **more):
    aligned = claims_table(claim_row("titles_aligned", verdict, 0.05, 0.01, "before", **more)).iloc[0]
    rows = [claim_row("beats_control", v, gap, 0.01, name, control_verdict=own) for name, gap, v, own in rows]
    held = claims_table(*rows) if rows else claims_table(claim_row("beats_control", "worse", 0, 0, "x"))[:0]
    return brief_verdict(aligned, held, alignments_table() if table is None else table)


def test_one_sentence_has_the_change_the_cheapest_control_and_whoever_else_is_ahead():
    both = [("strip_filler", -0.05, "not shown", "better"), ("supervised", -0.02, "worse", "better")]
    assert brief(rows=both) == (
        "With GRPO the titles of standin-gemma-s got better (gain in minilm retrieval 0.050, 0.040 to 0.060); "
        "over the cheapest control (a rule that strips filler) it gains \u22120.050 (\u22120.060 to \u22120.040), not told apart; "
        "supervised fine-tuning does better than it."
    )
    assert brief(rows=both[:1]).endswith("not told apart; no control is shown to do better.")
    ahead = brief(rows=[("strip_filler", -0.05, "worse", "better")])
    assert ahead.endswith("(\u22120.060 to \u22120.040), which is worse.") and "no control" not in ahead
    assert brief(rows=()).endswith("(gain in minilm retrieval 0.050, 0.040 to 0.060).")
    assert ", by less than would matter (gain" in brief(within_margin=True)
    alone = brief("one seed", [("strip_filler", 0.1, "one seed", "one seed")])
    assert "0.050" not in alone and "0.100" not in alone and "with one seed, from which nothing" in alone


@pytest.mark.parametrize(
    ("verdict", "part"),
    [
        ("better", "got better"),
        ("worse", "got worse"),
        ("equivalent", "changed by less than the 0.020"),
        ("not shown", "nor that there is none"),
    ],
)
def test_the_one_sentence_changes_with_the_verdict(verdict, part):
    assert part in brief(verdict, [("strip_filler", 0.05, "better", "worse")])


def test_a_control_that_did_harm_is_not_what_a_training_is_held_against():
    rows = [("strip_filler", 0.5, "better", "worse"), ("examples", 0.01, "not shown", "not shown")]
    said = brief(rows=rows)
    assert "over the cheapest control that did no harm (examples in the prompt) it gains 0.010" in said
    assert "0.500" not in said
    only = brief(rows=rows[:1], table=alignments_table().query("treatment in ['grpo', 'strip_filler']"))
    assert (
        "the cheapest control, which made things worse (a rule that strips filler), it gains"
        in only.replace(") it", "), it")
    )
    held = [claim_row("beats_control", v, g, 0.1, n, control_verdict=own) for n, g, v, own in rows]
    assert harmful_controls(claims_table(*held)) == {"strip_filler"}
    first = cheapest_words(alignments_table(), harmful={"strip_filler"})[0]
    assert "but it made things worse; the cheapest that did no harm is examples in the prompt: 3.3 s" in first


def test_nothing_before_is_not_cheap_where_every_product_is_asked_many_times():
    table = alignments_table()
    table["cpu_seconds"] = table["cpu_seconds"].where(table["treatment"] != "best_of_n", 0.0)
    costs = treatment_costs(table)
    assert costs.loc["best_of_n", ["before", "answers", "total"]].tolist() == pytest.approx([0, 24, 24])
    assert costs.loc["grpo"].tolist() == pytest.approx([77, 3, 80]) and PRODUCTS == 1000
    assert cheapest_controls(table) == ["strip_filler"]
    assert cheapest_words(table) == [
        "For 1,000 products the cheapest control is a rule that strips filler, by processor time: 3.2 s (0.2 s before, 3.0 s for the answers); "
        "GRPO takes 80 s (77 s before, 3.0 s for the answers)."
    ]
    few = table[table["treatment"].isin(["grpo", "best_of_n"])]
    assert cheapest_controls(few) == ["best_of_n"]


def test_a_control_whose_time_is_unknown_is_not_the_cheapest():
    table = alignments_table()
    unknown = table.assign(answer_seconds=table["answer_seconds"].mask(table["treatment"] == "strip_filler"))
    first, second = cheapest_words(unknown)
    assert "cheapest control is examples in the prompt" in first
    assert second.startswith("What 1,000 products cost with a rule that strips filler is not known")
    assert "no control is called" not in second
    (served,) = cheapest_words(table.assign(answer_seconds=np.nan))
    assert served == (
        "What 1,000 products cost with any treatment is not known, since not all of the time was measured, as where a server answers, "
        "so no control is called the cheapest."
    )
    assert cheapest_words(table[table["treatment"] == "grpo"]) == []
    one_lost = table.assign(cpu_seconds=table["cpu_seconds"].mask(table["model"] == "standin-gemma-s-grpo-1"))
    first, second = cheapest_words(one_lost)  # A mean over the seeds that are known would flatter
    assert "GRPO takes" not in first and second.startswith("What 1,000 products cost with GRPO is not known")


def test_names_and_marks():
    assert (
        treatment_name("my_own_way") == "my own way"
        and treatment_name("title") == "the title itself as the prompt"
    )
    assert treatment_order(pd.Series(["title", "zz", "grpo", "supervised"])) == [
        "grpo",
        "supervised",
        "title",
        "zz",
    ]
    assert trained_on_badge("") == "" and trained_on_badge("same words") == "trained on (same words)"
    assert [*map(seconds_text, (0, 0.25, 9.96, 12.4, 5000))] == [
        "0 s",
        "0.2 s",
        "10.0 s",
        "12 s",
        "5,000 s",
    ]


def test_an_alarm_says_who_when_what_and_whether_it_stopped():
    warned, stopped = (row for _, row in alarms_table({}, {"action": "stopped", "step": 60}).iterrows())
    text = "With GRPO of standin-gemma-s, seed 1, the tripwire \u201csilent most\u201d warned at step 34: 0.720 was measured, held against 0.700."
    assert alarm_sentence(warned) == text
    assert "stopped the training at step 60" in alarm_sentence(stopped)
    broken = alarms_table({"value": np.nan, "bound": np.nan, "tripwire": "not_a_number"}).iloc[0]
    assert alarm_sentence(broken).endswith("at step 34: what was measured is no number.")
    with pytest.raises(ValueError, match="must be warned or stopped, got 'slept'"):
        alarm_sentence(warned.replace("warned", "slept"))


def test_alarms_are_counted_by_training_and_silence_is_said():
    alarms = alarms_table({}, {"step": 50, "tripwire": "length"}, {"seed": 2, "action": "stopped"})
    first, *rest = alarm_words(alarms, 3)
    assert (
        first == "In two of three trainings a tripwire was crossed, and one was stopped by one."
        and len(rest) == 3
    )
    assert (
        alarm_words(alarms[:2], 3)[0]
        == "In one of three trainings a tripwire was crossed, and none was stopped by one."
    )
    assert alarm_words(alarms[:0], 3) == ["No tripwire was crossed in three trainings."]
    assert alarm_words(alarms[:0], 0) == []
    assert alarm_words(alarms, 0)[0].startswith("In two of two trainings")  # Alarms without curves


def test_the_worst_verdict_of_the_check_decides():
    assert check_words(checks_table()) == [
        "The check before training found it doubtful: silent groups 55%, held against 30%."
    ]
    hopeless = checks_table([*CHECKS, ("invalid", 0.95, 0.92, 0.98, 0.9, 48, "share", "hopeless")])
    assert check_words(hopeless) == [
        "The check before training found it hopeless: invalid 95%, held against 90%."
    ]
    fine = checks_table([c for c in CHECKS if c[-1] != "doubtful"])
    assert check_words(fine) == [
        "The check before training found nothing against it in two measures, which promises no gain."
    ]
    assert check_words(checks_table([c for c in CHECKS if c[-1] == "told"])) == []
    many = checks_table([(f"m{k}", 0.5, 0.4, 0.6, 0.7, 9, "share", "doubtful") for k in range(5)])
    assert check_words(many)[0].endswith("; and two more.") and "m3" not in check_words(many)[0]


def test_numbers_of_the_check_have_their_unit():
    assert [check_value(*v) for v in ((0.5, "share"), (1.2, "ratio"), (0.92, "s"), (2, "GB"), (0.21, "reward"), (np.nan, "s"))] == [
        "50%", "120%", "0.920 s", "2.0 GB", "0.210", "\u2013",
    ]  # fmt: skip
