"""A made table of suggestions, some of them hostile."""

import pandas as pd

HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\">",
    '=HYPERLINK("http://evil.example","click")',
    "\u202eRed kite\u202c \u200f\u05e2\u05e4\u05d9\u05e4\u05d5\u05df",
    '5" kite, "large"; red',
    "\u041a\u0430\u0439\u0442, \u98a8\u7b8f \U0001fa81",
    "'@SUM(A1)",
    "\t=1+1",
    "{0} ${x} %s __proto__ constructor",
    "-5",
    "long " * 60,
)


def suggested(titles, statuses, confidences=None, items=None, **more):
    "As the table of suggestions, one row for each title."
    count = len(titles)
    rows = pd.DataFrame({"item_id": items or [f"{n:03d}" for n in range(count)], "title": list(titles)})
    rows = rows.assign(category="Kites", known=False, image=None, model="m", precision="float32", prompt="p")
    rows = rows.assign(key=rows["item_id"], outcome="ok", suggestion=rows["title"], status=list(statuses))
    return rows.assign(confidence=confidences or [0.5] * count, **more)
