"""A shop in which every title attacks the report, and its run."""

import html
from functools import cache

import pandas as pd
from PIL import Image

from mmpc_analysis.study.choices import CatalogueChoice, CompletionChoice, ScoreChoice, Study
from mmpc_analysis.study.stages import run_study

# As they are read from a file that writes < as &lt;: tags that stand there plainly are taken off before any report sees them
ATTACKS = [
    "<svg onload=\"document.title='owned'\">",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'><svg/onload=document.title='owned'>",
    "\u202etxet desrever\u202c kite",
    "kite " * 2000,
    "{{7*7}} ${7*7} %s {title}",
    "Ünïcödé 風箏 🪁",
    "Plain red kite",
]


CATEGORY = "Toys <b>& Games"


@cache
def hostile_run(make_folder):
    "A folder of pictures with a titles file, every title hostile, one row without anything, run to its report."
    shop, out = make_folder("shop"), make_folder("run")
    for place in range(len(ATTACKS)):
        Image.new("RGB", (90, 60), (200, 20 * place, 40)).save(shop / f"p{place}.png")
    rows = [
        (f"p{k}", html.escape(t, quote=False), f"p{k}.png", html.escape(CATEGORY))
        for k, t in enumerate(ATTACKS)
    ]
    rows.append(("p9", None, None, "<i>nothing</i>"))
    pd.DataFrame(rows, columns=["item_id", "title", "image", "category"]).to_csv(
        shop / "titles.csv", index=False
    )
    study = Study(
        name="hostile",
        catalogue=CatalogueChoice(source=str(shop)),
        completion=CompletionChoice(models=("standin-gemma-s", "standin-qwen-s"), batch_size=8),
        scores=ScoreChoice(metrics=("token_f1", "chrf", "ssim", "mse"), draws=50),
    )
    run_study(study, str(out), progress=False, say=lambda line: None)
    return shop, out, (out / "report.html").read_text(encoding="utf-8"), study
