"The report of a fill says what its tables say, whatever they are, and holds together in a browser."

import html
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mmpc_analysis.fill.fill_report import fill_points, fill_report
from mmpc_analysis.fill.fill_words import (
    cost_of_fill,
    counted_share,
    filled_words,
    other_risk_words,
    other_risks,
    out_of,
    promise_words,
    withheld_reasons,
)
from mmpc_analysis.fill.promises import promise_table
from mmpc_analysis.fill.reviewed import FilledError
from mmpc_analysis.tables import SUGGESTIONS, TITLE_RISKS, empty

HOSTILE = [
    '<script>alert("x")</script>',
    "all",
    "A" * 300,
    "=1+1",
    "{0} {name} %s",
    "\u202eevil",
    "Kites & \"Bowls\" 'x'",
]


def made(known=200, gaps=40, max_wrong=0.05, rate=0.0, seed=0, categories=("Kites", "Bowls"), risk="number"):
    rng, n = np.random.default_rng(seed), known + gaps
    shop = pd.DataFrame({"item_id": [f"p{k}" for k in range(n)], "category": rng.choice(list(categories), n)})
    shop = shop.assign(
        confidence=rng.uniform(0.8, 0.99, n), known=np.arange(n) < known, model="m", precision="", prompt="p"
    )
    shop = shop.assign(
        key="k", outcome="ok", suggestion="Red kite", title="Red kite", status="known", reason=None
    )
    wrong = (rng.random(known) < rate).astype(float)
    labels = pd.DataFrame({"item_id": shop["item_id"][:known], "risk": risk, "wrong": wrong})
    promises = promise_table(shop, labels, risk, max_wrong)
    fine = shop["confidence"] >= promises["threshold"].iloc[0]
    shop.loc[~shop["known"], "status"] = np.where(fine, "filled", "withheld")[~shop["known"]]
    shop.loc[shop["status"].eq("withheld"), "reason"] = "its confidence is under the threshold"
    return shop, promises, labels


def words(page):
    text = re.sub(r"<script.*?</script>|<style.*?</style>|<details>.*?</details>", " ", page, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text.replace("<br>", " "))))


def test_the_promise_and_what_was_reached_are_the_tables_numbers():
    shop, promises, labels = made()
    said = words(fill_report(shop, promises, labels, {"file": "shop.csv"}))
    row = promises.iloc[0]
    assert "Of 100 titles filled like this, at most 5 name an amount that the row contradicts." in said
    assert "This is an average over all that is filled, with 90% certainty, for products like those" in said
    assert "for titles that can be judged." in said
    assert f"{row['accepted']} would have been filled; none of these" in said
    filled = int(shop["status"].eq("filled").sum())
    assert (filled == row["filled"] and f"{filled} were filled" in said) or "All of them were filled" in said
    assert "may differ" in said


def test_the_other_risks_among_the_accepted_stand_under_the_promise():
    "By hand: the accepted are those at the threshold that number could judge; brand is unknown for one of them."
    shop, promises, labels = made(max_wrong=0.05)
    known = shop[shop["known"]]
    labels.loc[5, "wrong"] = np.nan  # Not judged, so not among those that the promise counts
    promises = promise_table(shop, labels, "number", 0.05)
    threshold = promises["threshold"].iloc[0]
    accepted = [
        i for i, c in zip(known["item_id"], known["confidence"], strict=True) if c >= threshold and i != "p5"
    ]
    assert len(accepted) == promises["accepted"].iloc[0]
    title = pd.DataFrame({"item_id": known["item_id"], "risk": "title", "wrong": 1.0})
    title.loc[title["item_id"].isin(accepted[:40]), "wrong"] = 0.0
    brand = title.assign(risk="brand", wrong=0.0)
    brand.loc[brand["item_id"].eq(accepted[0]), "wrong"] = np.nan
    labels = pd.concat([labels, title, brand], ignore_index=True)
    found = other_risks(shop, labels, promises.iloc[0])
    n = len(accepted)
    assert found[["risk", "n", "wrong"]].values.tolist() == [["title", n, n - 40], ["brand", n - 1, 0]]
    for row in found.itertuples():
        exact = binomtest(row.wrong, row.n).proportion_ci(0.95)
        assert (row.low, row.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
        assert row.share == row.wrong / row.n
    said = words(fill_report(shop, promises, labels, {}))
    assert "What else was wrong among them" in said and f"{n - 40} of {n}" in said and f"0 of {n - 1}" in said
    assert "The promise is about numbers alone." in said and "share too few words with the true title" in said
    assert said.index("In short") < said.index("What else was wrong") < said.index("By category")


def test_without_a_threshold_or_other_risks_nothing_else_is_told():
    for known, more in ((30, True), (200, False)):
        shop, promises, labels = made(known=known)
        title = labels.assign(risk="title", wrong=1.0)
        labels = pd.concat([labels, title], ignore_index=True) if more else labels
        assert "What else was wrong" not in fill_report(shop, promises, labels, {})
        assert other_risk_words(other_risks(shop, labels, promises.iloc[0]), "number") == ""


def test_notes_do_not_run_together():
    shop, promises, labels = made()
    page = fill_report(shop, promises, labels, {"notes": ["lax.csv was read", "One stays.", "<b>x</b>"]})
    assert re.findall(r"<li><bdi[^>]*>(.*?)</bdi></li>", page)[-3:] == [
        "lax.csv was read.",
        "One stays.",
        "&lt;b&gt;x&lt;/b&gt;.",
    ]


def test_where_nothing_can_be_promised_nothing_reads_as_if_it_were():
    shop, promises, labels = made(known=30)
    said = words(fill_report(shop, promises, labels, {}))
    assert "None of them was filled" in said and "Nothing can be promised" in said
    assert "at least 45 surest known products without a fault" in said
    assert (
        "A wish of 7.4%, named beforehand, would have been kept by these 30 known products" in said
    )  # 1 - 0.1**(1/30) = 0.0739, rounded up
    assert "with 90% certainty, for products" not in said and "would have been filled" not in said
    promised = made(known=30, max_wrong=0.074)[1]
    assert promised["promised"].iloc[0]  # Asking for what the page offers works


def test_a_promise_that_fills_nothing():
    shop, promises, labels = made()
    shop.loc[~shop["known"], ["status", "reason"]] = ["withheld", "it begins with ="]
    points = " ".join(fill_points(shop, promises, {"written": "titles.csv", "queue": 40}))
    assert "No title was filled all the same" in points
    assert "titles.csv" not in points and "sample" not in points
    assert "It begins with =" in words(fill_report(shop, promises, labels, {}))


@pytest.mark.parametrize(("known", "gaps"), [(200, 1), (200, 0), (0, 5), (0, 0), (1, 1)])
def test_few_or_none(known, gaps):
    shop, promises, labels = made(known=known, gaps=gaps)
    said = words(
        fill_report(shop, promises, labels, {"seconds": np.nan, "price": None, "shift": "", "notes": []})
    )
    assert "nan" not in said.lower().split() and "None " not in said.replace("None of them", "")
    assert ("nothing to fill" in said) == (gaps == 0)
    if known == 0:
        assert "No product with a title could be judged" in said


def test_known_products_that_nobody_can_judge():
    shop, promises, labels = made()
    labels["wrong"] = np.nan
    shop["confidence"] = np.nan
    promises = promise_table(shop, labels, "number")
    said = words(
        fill_report(shop.assign(status=np.where(shop["known"], "known", "withheld")), promises, labels, {})
    )
    assert "there is nothing to show" in said and "No product with a title could be judged" in said


def test_contradicting_tables_are_told_by_the_suggestions():
    "People filled what could not be promised."
    shop, promises, labels = made(known=30)
    shop.loc[~shop["known"], "status"] = "filled"
    said = words(
        fill_report(
            shop.assign(checked=np.where(shop["known"], "no", "yes")), promises, labels, {"file": "a"}
        )
    )
    assert "All of them were filled" in said and "Nothing can be promised" in said
    assert "40 of the filled titles were accepted or written by a person" in said


def test_a_stranger_s_names_stay_text():
    shop, promises, labels = made(categories=[c for c in HOSTILE if c != "all"])
    shop["reason"] = shop["reason"].where(shop["known"], HOSTILE[0])
    facts = {
        "file": HOSTILE[0],
        "seen": HOSTILE,
        "hidden": {HOSTILE[0]: HOSTILE[0]},
        "notes": HOSTILE,
        "shift": HOSTILE[0],
        "created": HOSTILE[0],
    }
    facts["benchmark"] = {
        "run": HOSTILE[0],
        "sentence": HOSTILE[0],
        "numbers": [{"metric": HOSTILE[0], "estimate": np.nan, "low": np.nan, "high": np.nan, "n": 3}],
    }
    facts["pairs"] = pd.DataFrame({"reference": [HOSTILE[0]], "title": [None], "f1": [0.1], "wrong": [1.0]})
    page = fill_report(shop, promises, labels, facts)
    assert "<script>alert" not in page and HOSTILE[0] in words(page)


def test_reasons_are_counted_alike():
    reasons = [
        "it has 163 characters",
        "it has 171 characters",
        "names 'Acme'; other",
        "names 'Bolt'",
        "its confidence is under the threshold",
        None,
    ]
    rows = pd.DataFrame({"known": False, "status": "withheld", "reason": reasons})
    table = withheld_reasons(rows)
    assert sorted(table["n"]) == [1, 1, 2, 2] and table["n"].sum() == len(rows)
    many = pd.DataFrame(
        {"known": False, "status": "withheld", "reason": [f"reason {chr(97 + k)}" for k in range(20)]}
    )
    assert len(withheld_reasons(many)) == 6 and withheld_reasons(many)["n"].sum() == 20


def test_words_of_numbers():
    assert out_of(0.05) == (5, 100) and out_of(0.025) == (25, 1000) and out_of(1 / 3) == (3333, 10_000)
    assert counted_share(0, 0) == "\u2013"
    assert counted_share(5, 100) == "5.0% (1.6% to 11%)"  # R's binom.test(5, 100): 0.01643 to 0.11284
    assert (
        cost_of_fill({"seconds": 7200, "output_tokens": 1000})
        == "In all the model worked for 2 hours and wrote 1,000 tokens."
    )
    assert cost_of_fill({"price": 1.5, "currency": "EUR"}) == "This cost 1.50 EUR."
    row = made()[1].iloc[0]
    assert "at most 0 name" not in promise_words(row)[0]
    assert "would have" not in filled_words(empty(SUGGESTIONS))


def test_after_a_review_the_sample_is_told():
    shop, promises, _ = made()
    error = FilledError(0.1, 0.02, 0.27, 0.95, 40, 20, 3, 2, 0.1, 0.02, 0.27, 0.0, "exact")
    said = " ".join(fill_points(shop, promises, {"error": error, "queue": 9}))
    assert (
        "found 2 wrong" in said and "10% (2.0% to 27%)" in said and "3 of the sample are still open" in said
    )
    assert "wait for a person" not in said


def test_promises_without_a_whole_are_refused():
    shop, promises, _ = made()
    with pytest.raises(ValueError, match="has no row of the category 'all'"):
        fill_report(shop, promises[1:], empty(TITLE_RISKS), {})


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(browser, tmp_path, width):
    shop, promises, labels = made(
        known=300, gaps=100, rate=0.02, categories=[*HOSTILE[2:], *map(str, range(20))], risk="title"
    )
    pairs = pd.DataFrame(
        {
            "reference": "Red kite with a very long tail",
            "title": "Red kite",
            "f1": [0.4, 0.6],
            "wrong": [1.0, 0.0],
        }
    )
    facts = {
        "pairs": pairs,
        "seen": ["Vendor"],
        "hidden": {f"column {k}": "made from the title" for k in range(40)},
        "seconds": 90,
    }
    path = tmp_path / "report.html"
    path.write_text(
        fill_report(shop.assign(model="standin-qwen-l"), promises, labels, facts), encoding="utf-8"
    )
    page = browser.new_page(viewport={"width": width, "height": 900})
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:", "blob:")) else problems.append(request.url)
        ),
    )
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn='2']")
    assert not problems
    assert page.locator(".plot svg.main-svg").count() >= 2
    assert "Stand-in: standin-qwen-l" in page.inner_text("header")
    shown = page.inner_text("body")
    assert len(re.findall(r"[^\W\d_][\w'-]*", shown)) <= 700
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
