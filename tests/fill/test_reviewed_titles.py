"What people decided is what is written, unless the file's rules forbid it."

import numpy as np
import pandas as pd
import pytest

from mmpc_analysis.analysis.human_ratings import metric_agreement, read_ratings
from mmpc_analysis.fill.reviewed_titles import apply_reviews, review_ratings, reviewed_suggestions


def shop():
    rows = pd.DataFrame(
        {"item_id": list("abcdef"), "category": "Kites", "confidence": [0.9, 0.9, 0.9, 0.4, 0.4, np.nan]}
    )
    rows = rows.assign(known=False, model="m", precision="", prompt="p", key="k", outcome="ok")
    rows = rows.assign(
        suggestion=["Kite", "Bowl", "Mug", "Lamp Acme", "Vase", "Rug"],
        status=["filled"] * 3 + ["withheld"] * 3,
    )
    return rows.assign(
        title=["Kite", "Bowl", "Mug", "Lamp", "Vase", None], reason=[None] * 3 + ["unsure"] * 3
    )


def decided(**decisions):
    shown = shop().assign(shown=lambda t: t["title"].fillna(t["suggestion"])).set_index("item_id")
    rows = [
        {"item_id": item, "suggestion": shown["shown"][item], "status": shown["status"][item], "decision": what, "title": title}
        for item, (what, title) in decisions.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["item_id", "suggestion", "status", "decision", "title"])


def titles_of(frame):
    return dict(zip(frame["item_id"], frame["title"], strict=True))


def test_every_decision_on_either_kind_of_row():
    reviews = decided(
        a=("accept", None),
        b=("reject", None),
        c=("edit", " Blue mug "),
        d=("accept", None),
        e=("edit", "Tall vase"),
        f=("accept", None),
    )
    before = shop()
    titles = apply_reviews(before, reviews)
    assert titles_of(titles) == {"a": "Kite", "c": "Blue mug", "d": "Lamp", "e": "Tall vase", "f": "Rug"}
    assert set(titles["checked"]) == {"yes"}
    assert titles.set_index("item_id")["source"].to_dict() == {
        "a": "model",
        "c": "person",
        "d": "model",
        "e": "person",
        "f": "model",
    }
    assert titles.set_index("item_id")["confidence"].isna().to_dict() == {
        "a": False,
        "c": True,
        "d": False,
        "e": True,
        "f": True,
    }
    pd.testing.assert_frame_equal(before, shop())


def test_what_nobody_decided_is_as_before():
    titles = apply_reviews(shop(), decided(a=("open", None), d=("open", None)))
    assert titles_of(titles) == {"a": "Kite", "b": "Bowl", "c": "Mug"}
    assert set(titles["checked"]) == {"no"}
    assert titles_of(apply_reviews(shop(), decided())) == titles_of(titles)


@pytest.mark.parametrize(
    "title",
    [
        '=HYPERLINK("http://evil.example")',
        "\uff1d1+1",
        " +1",
        "@SUM(A1)",
        "a" * 151,
        "<b>Kite</b>",
        "Kite\x07",
    ],
)
def test_no_title_breaks_the_rules_of_its_file(title):
    rows = reviewed_suggestions(shop(), decided(e=("edit", title)), profile="google").set_index("item_id")
    assert rows["status"]["e"] == "withheld" and rows["reason"]["e"] not in (None, "unsure")
    assert "e" not in titles_of(apply_reviews(shop(), decided(e=("edit", title)), profile="google"))


def test_reviewers_who_disagree_fill_nothing():
    both = pd.concat(
        [decided(a=("accept", None)).assign(rater="ann"), decided(a=("reject", None)).assign(rater="bo")]
    )
    rows = reviewed_suggestions(shop(), both).set_index("item_id")
    assert rows["status"]["a"] == "withheld" and rows["reason"]["a"] == "reviewers disagree: 'Kite', rejected"
    same = pd.concat([decided(a=("edit", "Red kite")).assign(rater=rater) for rater in ("ann", "bo")])
    assert titles_of(apply_reviews(shop(), same))["a"] == "Red kite"


def test_reviews_of_another_run_are_refused():
    with pytest.raises(ValueError, match="was filled when it was reviewed and is withheld here"):
        apply_reviews(shop().assign(status="withheld"), decided(a=("accept", None)))
    with pytest.raises(ValueError, match="give the reviews of this run"):
        apply_reviews(shop(), decided(a=("accept", None)).assign(item_id="z"))


def test_reviews_are_ratings():
    n = 12
    rows = pd.concat([shop().head(1)] * n, ignore_index=True).assign(item_id=[f"i{k}" for k in range(n)])
    what = ["accept", "edit", "reject"] * 4
    reviews = pd.DataFrame(
        {"item_id": rows["item_id"], "suggestion": "Kite", "status": "filled", "decision": what}
    )
    reviews = reviews.assign(title=np.where(reviews["decision"].eq("edit"), "Kites", None), rater="")
    opened = pd.concat([reviews, reviews.head(1).assign(rater="bo", decision="open")])
    ratings = review_ratings(opened, rows)
    assert ratings["rating"].tolist() == [1.0, 0.5, 0.0] * 4 and set(ratings["rater"]) == {"one"}
    scores = rows[["item_id", "category", "model", "precision", "prompt"]].assign(
        parent_id=rows["item_id"], task="image_to_text", role="model", family="f", parameters=1e9, seed=0,
        metric="token_f1", level="word", value=ratings["rating"].to_numpy(), outcome="ok",
    )  # fmt: skip
    agreement = metric_agreement(scores, read_ratings(ratings, rater="rater"), draws=20)
    pooled = agreement[agreement["term"].eq("pooled_spearman")]
    assert pooled["estimate"].tolist() == [pytest.approx(1.0)] and pooled["n"].tolist() == [n]
