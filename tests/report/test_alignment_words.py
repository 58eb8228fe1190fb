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
    ahead_or_best,
    alarm_sentence,
    alarm_words,
    alignment_sentence,
    cheapest_words,
    check_value,
    check_words,
    control_words,
    metric_in_words,
    overall_words,
    seconds_text,
    trained_on_badge,
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


def test_several_alignments_are_counted_and_every_control_ahead_is_named():
    helped = claims_table(
        claim_row("titles_aligned", "better", 0.05, 0.01, "before"),
        claim_row(
            "pictures_aligned", "equivalent", 0.0, 0.01, "before", task=PICTURES, metric="effnet_retrieval"
        ),
    )
    ahead = controls(("strip_filler", -0.05, "worse"))
    first, second = overall_words(helped, ahead)
    assert (
        first
        == "Of two alignments by GRPO, one made the answers better and one changed them by less than would matter."
    )
    assert (
        second
        == "Controls did better than GRPO: a rule that strips filler (for the titles of standin-gemma-s)."
    )
    assert overall_words(helped, ahead[:0])[1] == "No control was shown to do better than GRPO."
    assert "all made them worse" in overall_words(helped.assign(verdict="worse"), ahead)[0]
    assert overall_words(helped[:0], ahead) == []


def test_the_cheapest_control_is_one_whose_cost_is_known():
    table = alignments_table()
    assert cheapest_words(table) == [
        "The cheapest control was a rule that strips filler, with 0.2 s of processor time; GRPO took 77 s."
    ]
    unknown = table.assign(cpu_seconds=table["cpu_seconds"].mask(table["treatment"] == "strip_filler"))
    assert "examples in the prompt, with 0.3 s" in cheapest_words(unknown)[0]
    assert cheapest_words(table.assign(cpu_seconds=np.nan)) == []
    assert cheapest_words(table[table["treatment"] == "grpo"]) == []
    one_lost = table.assign(cpu_seconds=table["cpu_seconds"].mask(table["model"] == "standin-gemma-s-grpo-1"))
    assert cheapest_words(one_lost) == []  # A mean over the seeds that are known would flatter


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
        "0.0000 s",
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
