"""Word metrics: other implementations' numbers, properties, hostile texts, and counts that add up over shards."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmpc_analysis.metrics import faithfulness, semantic, words
from mmpc_analysis.metrics import words as tm
from mmpc_analysis.metrics.texts import clean_text, normal_text, split_characters, tokeniser, tokens
from mmpc_analysis.metrics.words import tfidf_cosine

DATA = ROOT / "tests" / "data" / "metrics"
FIXTURES = json.loads((DATA / "text.json").read_text(encoding="utf-8"))
MORE = json.loads((DATA / "words.json").read_text(encoding="utf-8"))
COUNTS = words.count_documents(MORE["tfidf"]["corpus"])


def tfidf(references, candidates, normalise=True):
    return tfidf_cosine(references, candidates, COUNTS, normalise)


def untouched(data):
    "Where neither normalisation nor a tokeniser of characters changes a text; all but two pairs."
    pairs = zip(data["references"], data["candidates"], strict=True)
    plain = [all(normal_text(t) == t and tokeniser(t) == "13a" for t in pair) for pair in pairs]
    assert sum(plain) == len(plain) - 2
    return np.array(plain)


WORDS = {
    name: getattr(tm, name)
    for name in (
        "bleu", "chrf", "rouge_1", "rouge_2", "rouge_l", "token_precision", "token_recall", "token_f1", "jaccard",
    )
} | {"tfidf_cosine": tfidf}  # fmt: skip
SYMMETRIC = ("rouge_1", "rouge_2", "rouge_l", "token_f1", "jaccard", "tfidf_cosine")
HOSTILE = [
    "",
    " \n\t\u3000",
    "🎸👩‍👩‍👧🏽",
    "\u202eתה קפה\u202c",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "\ud83d broken \udc00",
    "\x00\x01\x7f",
    "<script>alert(1)</script> & <skipped>",
    "x" * 100_000,
    "mug " * 25_000,
    "...,,,---",
    "9" * 3_000 + "ft",
]
title = st.text(st.sampled_from([*"ab 7.,-\ud800🎸é红"]), max_size=30) | st.text(max_size=30)

metrics = pytest.mark.parametrize("name", WORDS)


@pytest.mark.parametrize("name", sorted(FIXTURES["values"].keys() & WORDS.keys()))
def test_equals_another_implementation(name):
    ours = WORDS[name](FIXTURES["references"], FIXTURES["candidates"])
    stored = WORDS[name](FIXTURES["references"], FIXTURES["candidates"], normalise=False)
    assert ours.dtype == np.float64
    plain, other = untouched(FIXTURES), np.array(FIXTURES["values"][name])
    np.testing.assert_allclose(ours[plain], other[plain], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours[plain], stored[plain])
    same_words = np.array([tokeniser(text) == "13a" for text in FIXTURES["references"]])
    np.testing.assert_allclose(
        stored[same_words], other[same_words], rtol=0, atol=1e-9
    )  # Texts as they were stored


@pytest.mark.parametrize("name", MORE["values"])
def test_equals_the_formula_counted_another_way(name):
    ours = WORDS[name](MORE["references"], MORE["candidates"])
    plain = untouched(MORE)
    np.testing.assert_allclose(ours[plain], np.array(MORE["values"][name])[plain], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rouge_1", "rouge_2", "rouge_l"])
def test_equals_rouge_score_with_its_own_words(name):
    "On titles of plain English words both ways of splitting agree."
    plain = MORE["rouge_score"]
    ours = WORDS[name](plain["references"], plain["candidates"])
    assert len(ours) > 50
    np.testing.assert_allclose(ours, plain["values"][name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("values", [*FIXTURES["values"].items(), *MORE["values"].items()], ids=lambda v: v[0])
def test_fixtures_tell_good_from_bad(values):
    "A fixture of zeros and ones would prove little."
    name, values = values[0], np.array(values[1])
    least = (
        0.35 if name == "token_precision" else 0.5
    )  # Of every shortened title precision is 1, whatever the code does
    assert len(values) > 100 and ((values > 0.05) & (values < 0.95)).mean() > least


@metrics
def test_hostile_texts_get_a_score_in_range(name):
    start = time.process_time()
    pairs = [(a, b) for a in HOSTILE for b in HOSTILE]
    values = WORDS[name]([a for a, _ in pairs], [b for _, b in pairs])
    assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    assert time.process_time() - start < 60


@metrics
def test_missing_is_unknown_and_blank_is_zero(name):
    missing, metric = [None, float("nan"), pd.NA, np.nan], WORDS[name]
    assert np.isnan(metric(missing, ["mug"] * 4)).all() and np.isnan(metric(["mug"] * 4, missing)).all()
    same = metric(["red mug", " ", "\t", "red mug"], ["", "mug", "\n", "red mug"])
    assert same.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-12)


@metrics
def test_no_pairs_give_no_scores(name):
    values = WORDS[name]([], [])
    assert values.shape == (0,) and values.dtype == np.float64


@metrics
@pytest.mark.parametrize("shards", [1, 7, 50])
def test_shards_give_the_same_bits(name, shards):
    references, candidates = MORE["references"], MORE["candidates"]
    order = np.random.default_rng(shards).permutation(len(references))
    together, apart = WORDS[name](references, candidates), np.full(len(references), np.nan)
    for part in np.array_split(order, shards):
        apart[part] = WORDS[name]([references[i] for i in part], [candidates[i] for i in part])
    assert together.tobytes() == apart.tobytes()


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric(name):
    a, b = FIXTURES["references"], FIXTURES["candidates"]
    np.testing.assert_allclose(WORDS[name](a, b), WORDS[name](b, a), rtol=0, atol=1e-12)


@given(st.lists(st.tuples(title, title), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
@example([("a", "a b"), ("a b", "")])
def test_any_texts_are_in_range_and_the_same_text_is_best(pairs):
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    for name, metric in WORDS.items():
        values, best = metric(a, b), metric(a, a)
        assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1, name
        assert (values <= best + 1e-9).all() or name in ("token_precision", "token_recall"), name
        least = 2 if name == "rouge_2" else 1
        long_enough = [len(tokens(normal_text(clean_text(text)))) >= least for text in a]
        np.testing.assert_allclose(best[long_enough], 1.0, atol=1e-9, err_msg=name)
        np.testing.assert_array_equal(metric(a[::-1], b[::-1])[::-1], values, err_msg=name)


def test_precision_and_recall_make_f1():
    a, b = MORE["references"], MORE["candidates"]
    precision, recall, f1 = (WORDS[f"token_{name}"](a, b) for name in ("precision", "recall", "f1"))
    some = precision + recall > 0
    p, r = precision[some], recall[some]
    np.testing.assert_allclose(f1[some], 2 * p * r / (p + r), atol=1e-12)
    np.testing.assert_array_equal(recall, WORDS["token_precision"](b, a))


def test_reference_comes_first():
    "By hand: the short answer is right and pays exp(1 - 7/4); the long one has precisions 4/7, 3/6, 2/5, 1/4."
    full, short = "Noto guitar red six strings for beginners", "Noto guitar red six"
    assert tm.bleu([full], [short])[0] == pytest.approx(np.exp(1 - 7 / 4), abs=1e-9)
    assert tm.bleu([short], [full])[0] == pytest.approx((4 / 7 * 3 / 6 * 2 / 5 * 1 / 4) ** 0.25, abs=1e-9)
    assert tm.chrf([full], [short])[0] < tm.chrf([short], [full])[0]
    assert tm.token_precision([full], [short])[0] == 1 and tm.token_recall([full], [short])[0] == 4 / 7


def test_signatures_name_every_choice():
    signatures = tm.signatures()
    assert "case:mixed|eff:yes|tok:13a|smooth:exp|version:" in signatures["bleu"]
    assert "case:mixed|eff:no|tok:13a|smooth:exp|version:" in signatures["corpus_bleu"]
    assert "nc:6|nw:0|space:no|version:" in signatures["chrf"] == signatures["corpus_chrf"]
    assert set(WORDS) < set(signatures)
    assert all(text.endswith("|norm:nfc-marks-zw") for text in signatures.values())
    assert all(text.endswith("|norm:no") for text in tm.signatures(normalise=False).values())
    assert all("han:zh|unspaced:char" in signatures[name] for name in ("bleu", "corpus_bleu"))
    assert "han:char|unspaced:char" in signatures["token_f1"]


def test_words_are_split_as_documented():
    split = tokens("USB-C 7.5in., 1,000 x £3 _a_ \u00adsoft\u00ad ﬁx")
    assert split == ["usb", "c", "7.5in", "1,000", "x", "£3", "a", "soft", "fix"]


# ---------------------------------------------------------------- a corpus in shards


def same(one, two):
    return all(np.array_equal(getattr(one, n), getattr(two, n)) for n in one.__dataclass_fields__)


def test_corpus_scores_equal_sacrebleu():
    import sacrebleu

    counts = tm.count_corpus(MORE["references"], MORE["candidates"], normalise=False)
    [han] = [k for k, text in enumerate(MORE["references"]) if tokeniser(text) == "zh"]
    pair = MORE["references"][han], MORE["candidates"][han]
    split, blanks = tm.count_corpus([pair[0]], [pair[1]]), sacrebleu.BLEU().sentence_score(pair[1], [pair[0]])
    for name, was in (
        ("words", (blanks.sys_len, blanks.ref_len)),
        ("right", blanks.counts),
        ("written", blanks.totals),
    ):
        getattr(counts, name)[:] += np.array(was) - getattr(
            split, name
        )  # As sacrebleu's 13a splits the one title in Han characters
    assert tm.corpus_bleu(counts) == pytest.approx(MORE["corpus"]["bleu"], abs=1e-9)
    assert tm.corpus_chrf(counts) == pytest.approx(MORE["corpus"]["chrf"], abs=1e-9)
    assert 0.2 < tm.corpus_bleu(counts) < 0.9 and counts.pairs.tolist() == [len(MORE["references"]), 0]


@given(st.lists(st.tuples(title, title | st.none()), max_size=12), st.randoms())
@settings(max_examples=60, deadline=None)
def test_any_sharding_gives_the_counts_of_the_whole(pairs, random):
    import sacrebleu

    whole = tm.count_corpus([r for r, _ in pairs], [c for _, c in pairs])
    random.shuffle(pairs)
    cuts = sorted(random.randint(0, len(pairs)) for _ in range(3))
    shards = [pairs[a:b] for a, b in zip([0, *cuts], [*cuts, len(pairs)], strict=True)]
    parts = [tm.count_corpus([r for r, _ in s], [c for _, c in s]) for s in shards]
    assert same(whole, parts[0] + parts[1] + parts[2] + parts[3])
    known = [(normal_text(clean_text(r)), normal_text(clean_text(c))) for r, c in pairs if c is not None]
    assert whole.pairs.tolist() == [len(known), len(pairs) - len(known)]
    if known:
        r, c = [r for r, _ in known], [c for _, c in known]
        if all(tokeniser(text) == "13a" for text in r):
            other = min(sacrebleu.corpus_bleu(c, [r]).score / 100, 1)
            assert tm.corpus_bleu(whole) == pytest.approx(other, abs=1e-9)
        assert tm.corpus_chrf(whole) == pytest.approx(sacrebleu.corpus_chrf(c, [r]).score / 100, abs=1e-9)
    else:
        assert np.isnan(tm.corpus_bleu(whole)) and np.isnan(tm.corpus_chrf(whole))


def test_a_failed_answer_costs_the_corpus_and_an_unknown_one_does_not():
    true = ["Noto guitar with six strings", "Fluent violin with a bow"]
    whole, failed, unknown = (
        tm.corpus_bleu(tm.count_corpus(true, [true[0], c])) for c in (true[1], "", None)
    )
    assert whole == unknown == pytest.approx(1)
    assert failed == pytest.approx(np.exp(1 - 10 / 5), abs=1e-9)  # 10 words asked for, 5 written


# ---------------------------------------------------------------- TF-IDF


def test_tfidf_equals_scikit_learn():
    "With the whole vocabulary always; without it where every word of the candidate is known."
    stored, ours = MORE["tfidf"], tfidf(MORE["references"], MORE["candidates"])
    np.testing.assert_allclose(ours, stored["whole_vocabulary"], rtol=0, atol=1e-9)
    known = np.array([set(tokens(c)) <= COUNTS.containing.keys() for c in MORE["candidates"]])
    assert 30 < known.sum() < len(known)
    np.testing.assert_allclose(ours[known], np.array(stored["corpus_vocabulary"])[known], rtol=0, atol=1e-9)
    assert (ours[~known] <= np.array(stored["corpus_vocabulary"])[~known] + 1e-9).all()


def test_an_invented_word_costs():
    counts = words.count_documents(["red mug", "blue mug"])
    plain, more = tfidf_cosine(["red mug"] * 2, ["red mug", "red mug zyx"], counts)
    assert plain == pytest.approx(1, abs=1e-12) and more < 0.9


def test_counts_are_kept_and_added():
    parts = [words.count_documents(part) for part in np.array_split(np.array(MORE["tfidf"]["corpus"]), 7)]
    total = sum(parts[1:], parts[0])
    assert total == COUNTS and words.counts_from_json(words.counts_to_json(total)) == COUNTS
    a, b = MORE["references"], MORE["candidates"]
    assert (
        tfidf_cosine(a, b, words.counts_from_json(words.counts_to_json(total))).tobytes()
        == tfidf(a, b).tobytes()
    )


@given(st.lists(title | st.none(), max_size=6))
@settings(max_examples=50, deadline=None)
def test_any_corpus_survives_its_file(corpus):
    counts = words.count_documents(corpus)
    assert words.counts_from_json(words.counts_to_json(counts)) == counts
    assert np.isfinite(tfidf_cosine(["red a mug"], ["a mug"], counts)).all()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        (["a"], ["a", "b"], "same length, got 1 and 2"),
        ("a", ["a"], "got one str"),
        ([3], ["a"], "got int 3"),
        ([b"a"], ["a"], "got bytes"),
    ],
)
def test_refusals_say_what_to_do(references, candidates, message):
    for metric in (
        *WORDS.values(),
        tm.count_corpus,
        faithfulness.unsupported_numbers,
        faithfulness.length_ratio,
        semantic.minilm_cosine,
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            metric(references, candidates)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"texts": 1}', "keys texts and containing"), ('{"texts": 1, "containing": {"a": 2}}', "stands in 2 of 1"),
     ('{"texts": 1, "containing": {"a": 0.5}}', "stands in 0.5 of 1"), ("3", "must be an object")],
)  # fmt: skip
def test_counts_that_cannot_be_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        words.counts_from_json(text)


# ---------------------------------------------------------------- one form, and scripts without blanks

SAME = [  # Two spellings of one title
    ("LEGO® Star Wars™ X-Wing", "LEGO Star Wars X-Wing"),
    ("LEGO(R) Star Wars(TM) X-Wing", "LEGO Star Wars X-Wing"),
    ("Post-it℠ Notes ©", "Post-it Notes "),
    ("Crème brûlée dish", "Cre\u0300me bru\u0302le\u0301e dish"),
    ("한국 도자기 컵", "\u1112\u1161\u11ab\u1100\u116e\u11a8 도자기 컵"),
    ("Å ring, 5 Ω", "\u212b ring, 5 \u2126"),
    ("Red\u200bceramic\u200bmug", "Red ceramic mug"),
    ("Red cera\u00admic mug", "Red ceramic mug"),
    ("کتاب\u200cخانه بزرگ", "کتابخانه بزرگ"),  # noqa: RUF001
    ("\ufeffRed mug\u2060", "Red mug"),
    ("\u200eRed\u200f mug", "Red mug"),
]


@pytest.mark.parametrize("name", [name for name in WORDS if name != "rouge_2"])
@pytest.mark.parametrize("pair", SAME)
def test_spellings_that_nobody_sees_are_one_title(name, pair):
    for a, b in (pair, pair[::-1]):
        assert WORDS[name]([a], [b])[0] == pytest.approx(1, abs=1e-9)
        assert faithfulness.length_ratio([a], [b])[0] == 1
    counts = tm.count_corpus([pair[0]], [pair[1]])
    assert tm.corpus_chrf(counts) == pytest.approx(1, abs=1e-9)


@metrics
def test_the_stored_form_is_still_to_be_had(name):
    a, b = SAME[0]
    raw = WORDS[name]([a], [b], normalise=False)[0]
    assert raw < 0.95 and WORDS[name]([a], [a], normalise=False)[0] == pytest.approx(1, abs=1e-9)


def test_numbers_as_they_were_before_one_form():
    "By hand: of lego, star, warstm, x, wing and so on two words of five are apart, 3/5; NFD against NFC shares no word of BLEU."
    assert tm.token_f1(["LEGO® Star Wars™ X-Wing"], ["LEGO Star Wars X-Wing"], normalise=False)[0] == 0.6


@given(title)
@settings(max_examples=100, deadline=None)
def test_one_form_is_one_form(text):
    once = normal_text(clean_text(text))
    assert normal_text(once) == once or "(" in once
    assert text.isascii() is False or "(" in text or once == text


MUG = "红色陶瓷马克杯带盖", "红色陶瓷马克杯"


def test_han_titles_are_split_as_sacrebleu_does():
    import sacrebleu

    other = sacrebleu.BLEU(tokenize="zh", effective_order=True)
    for true, written in (
        MUG,
        MUG[::-1],
        ("小米手环8 NFC版, 黑色", "小米手环7 黑色"),
        ("不锈钢 500ml 保温杯", "保温杯 500ml"),
    ):
        expected = other.sentence_score(written, [true]).score / 100
        assert tm.bleu([true], [written])[0] == pytest.approx(expected, abs=1e-9)
        counts = tm.count_corpus([true], [written])
        corpus = sacrebleu.corpus_bleu([written], [[true]], tokenize="zh").score / 100
        assert tm.corpus_bleu(counts) == pytest.approx(corpus, abs=1e-9)
    assert tm.bleu([MUG[0]], [MUG[1]])[0] == pytest.approx(0.751, abs=5e-4)


def test_han_titles_by_hand():
    "Seven of nine characters, all in order: precision 1, recall 7/9, F1 14/16; length 7/9."
    for name in ("token_f1", "rouge_1", "rouge_l"):
        assert WORDS[name]([MUG[0]], [MUG[1]])[0] == pytest.approx(14 / 16, abs=1e-12), name
    assert WORDS["jaccard"]([MUG[0]], [MUG[1]])[0] == pytest.approx(7 / 9, abs=1e-12)
    assert faithfulness.length_ratio([MUG[0]], [MUG[1]])[0] == pytest.approx(7 / 9, abs=1e-12)


@pytest.mark.parametrize(
    ("true", "written", "marks"),
    [
        ("マグカップふたつき", "マグカップ", False),
        ("แกวนำสแดง", "แกวนำ", False),
        ("ຈອກນຳ", "ຈອກ", False),
        ("ពែងតែ", "ពែង", True),
    ],
)
def test_other_scripts_without_blanks_are_split_by_characters(true, written, marks):
    "sacrebleu's own tokeniser of characters agrees where no mark stands on a letter."
    import sacrebleu

    assert tokeniser(true) == "char"
    parts = split_characters(true).split()
    assert (len(parts) < len(true)) == marks
    if not marks:
        other = sacrebleu.BLEU(tokenize="char", effective_order=True).sentence_score(written, [true]).score
        assert tm.bleu([true], [written])[0] == pytest.approx(other / 100, abs=1e-9)
    assert "".join(parts) == true and len(parts) > 2
    for name in ("token_f1", "bleu", "rouge_l", "jaccard"):
        assert 0.3 < WORDS[name]([true], [written])[0] < 1, name


def test_marks_stay_with_their_letter_and_words_beside_them_stay_words():
    assert split_characters("น้ำ").split() == ["น้", "ำ"]
    assert split_characters("ក្រហម").split() == ["ក្រ", "ហ", "ម"]
    assert split_characters("မြန်မာ").split() == ["မြ", "န်", "မာ"]
    assert split_characters("ガラス Cup 300ml").split() == ["ガ", "ラ", "ス", "Cup", "300ml"]
    assert tokens("ノートPC, 15.6 in") == ["ノ", "ー", "ト", "pc", "15.6", "in"]  # noqa: RUF001
    assert [tokeniser(t) for t in ("머그컵", "قهوة", "नमस्ते", "чай", "9 ft")] == ["13a"] * 5


def test_the_reference_chooses_the_tokeniser():
    english, chinese = "Red ceramic mug", MUG[0]
    assert tm.bleu([english], [chinese])[0] < 0.2 and tm.bleu([chinese], [english])[0] < 0.2
    assert tm.bleu([english], [english + " 红色"])[0] == tm.bleu([english], [english + " X"])[0]


def test_share_of_titles_without_blanks():
    from mmpc_analysis.metrics.texts import unspaced_share

    assert unspaced_share([*MUG, "Red mug", "マグ", None]) == 3 / 4
    assert np.isnan(unspaced_share([None])) and unspaced_share(["Red"]) == 0
