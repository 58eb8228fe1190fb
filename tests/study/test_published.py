"""Published data as a study's source: which keys go together, what is kept, and what is refused before anybody is asked."""

import json
import os
from dataclasses import replace

import pandas as pd
import pytest

from mmpc_analysis.catalogue import amazon_2023, downloads, review_purchases
from mmpc_analysis.study.asked import check_study
from mmpc_analysis.study.choices import CatalogueChoice, RecommendationChoice
from mmpc_analysis.study.declaration import purchases_of, purchases_source, read_catalogue, study_from
from mmpc_analysis.study.published import check_raw_files, published_purchases, purchases_note, read_published
from mmpc_analysis.study.readiness import check_run
from mmpc_analysis.study.study_inputs import study_catalogue

GAMES = {"source": "amazon-2023", "categories": ["Video_Games"]}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    large = [{"large": "https://pictures.invalid/1.jpg", "thumb": "t", "variant": "MAIN"}]
    meta = [{"parent_asin": f"B{n}", "title": f"Joystick number {n}", "images": large} for n in range(8)]
    rows = [
        {"user_id": f"u{u}", "parent_asin": f"B{n}", "rating": 5.0, "timestamp": 10**12 + 1000 * n}
        for u in range(6)
        for n in range(6)
    ]
    for name, lines in (("meta_Video_Games", meta), ("Video_Games", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    ("catalogue", "message"),
    [
        ({"root": "pictures"}, "catalogue.root says how to read a file; name yours as catalogue.source"),
        ({"downloads": "x"}, "catalogue.downloads is of pictures that a catalogue names by address"),
        ({"folder": "raw"}, r"catalogue.folder is of a published data set \(amazon-2023\)"),
        (
            {"source": "a.csv", "categories": ["Video_Games"]},
            "catalogue.categories is of a published data set",
        ),
        ({"source": "a.csv", "per_category": 0}, "catalogue.per_category is of a published data set"),
        ({"source": "a.csv", "private": True}, "nothing is asked without catalogue.download = true"),
        ({"source": "a.csv", "profile": "shopfy"}, "catalogue.profile must be one of"),
        (GAMES | {"profile": "amazon-2023"}, "catalogue.profile says how to read a file of one's own"),
        (GAMES | {"encoding": "cp1252"}, "catalogue.encoding says how to read a file of one's own"),
        (GAMES | {"categories": ["Video Games"]}, "did you mean 'Video_Games'"),
        (GAMES | {"categories": ["Toys and games"]}, "did you mean 'Toys_and_Games'"),
        (GAMES | {"categories": ["xyz"]}, "got 'xyz'; it has All_Beauty, "),
        (GAMES | {"categories": ["Books", "Books"]}, "must name each once, got 'Books' twice"),
    ],
)
def test_keys_that_do_not_go_together_are_refused_by_name(catalogue, message):
    study = study_from({"catalogue": catalogue})
    with pytest.raises(ValueError, match=message):
        check_study(study)
    with pytest.raises(ValueError, match=message):
        read_catalogue(study.catalogue)


def test_keys_that_do_go_together_pass():
    for catalogue in (
        GAMES | {"folder": "raw", "root": "pictures", "download": True, "downloads": "d", "private": True},
        GAMES | {"folder": "raw", "categories": ["Books"]},
        {"source": "a.csv", "downloads": "fetched"},
        {"source": "a.csv", "root": "p", "encoding": "gb18030", "category": "Toys", "download": True},
    ):
        check_study(study_from({"catalogue": catalogue}))


def test_a_run_without_the_files_ends_before_anybody_is_asked(raw, tmp_path):
    study = study_from({"catalogue": GAMES, "completion": {"models": ["standin-gemma-s"]}})
    with pytest.raises(ValueError, match=r'write folder = "..." under \[catalogue\], or give --folder'):
        check_run(study, str(tmp_path / "run"))
    here = replace(study, catalogue=replace(study.catalogue, folder=str(raw)))
    check_raw_files(here.catalogue)
    (raw / "Video_Games.jsonl").unlink()
    with pytest.raises(ValueError, match="has no Video_Games"):
        check_run(here, str(tmp_path / "run"))
    check_raw_files(here.catalogue, reviews=False)


def counted(monkeypatch, module, name):
    calls, plain = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: (calls.append(name), plain(*a, **k))[1])
    return calls


def test_files_are_read_once_for_as_long_as_they_are_the_same(raw, tmp_path, monkeypatch):
    choice = CatalogueChoice(source="amazon-2023", folder=str(raw), categories=("Video_Games",))
    calls, run = counted(monkeypatch, amazon_2023, "load_amazon"), str(tmp_path / "run")
    first, again = read_published(choice, out=run), read_published(choice, out=run)
    assert len(calls) == 1 and len(first.items) == 8
    pd.testing.assert_frame_equal(again.items, first.items)
    pd.testing.assert_frame_equal(again.pictures, first.pictures)
    assert (again.name, again.root, again.note, again.counts, again.mapping, again.unused) == (
        first.name, first.root, first.note, first.counts, first.mapping, first.unused,
    )  # fmt: skip
    assert len(read_published(replace(choice, per_category=3), out=run).items) == 3
    assert len(calls) == 2
    with open(raw / "meta_Video_Games.jsonl", "a") as file:
        file.write(
            json.dumps(
                {"parent_asin": "B9", "title": "Late one", "images": [{"large": "https://x.invalid/9"}]}
            )
            + "\n"
        )
    assert len(read_published(choice, out=run).items) == 9


def test_with_buyers_only_what_people_bought_is_drawn(raw, tmp_path):
    choice = CatalogueChoice(
        source="amazon-2023", folder=str(raw), categories=("Video_Games",), per_category=6
    )
    any_of_eight = read_published(choice, out=str(tmp_path / "run"))
    bought = read_published(replace(choice, buyers=True), out=str(tmp_path / "run"))
    assert len(any_of_eight.items) == 6 and set(any_of_eight.items["item_id"]) != {f"B{n}" for n in range(6)}
    assert set(bought.items["item_id"]) == {f"B{n}" for n in range(6)}  # Nobody reviewed B6 and B7


def test_half_of_what_is_kept_is_not_taken_for_the_whole(raw, tmp_path, monkeypatch):
    choice = CatalogueChoice(source="amazon-2023", folder=str(raw), categories=("Video_Games",))
    calls, run = counted(monkeypatch, amazon_2023, "load_amazon"), tmp_path / "run"
    whole = read_published(choice, out=str(run))
    os.remove(run / "source" / "facts.json")  # As if it was stopped before the last file
    again = read_published(choice, out=str(run))
    assert len(calls) == 2 and again.counts == whole.counts


def test_reviews_are_purchases_and_are_read_once(raw, tmp_path, monkeypatch):
    study = study_from({"catalogue": GAMES | {"folder": str(raw)}})
    calls, run = counted(monkeypatch, review_purchases, "amazon_purchases"), str(tmp_path / "run")
    assert purchases_source(study) == "amazon-2023"
    items = read_catalogue(study.catalogue).items
    bought = [purchases_of(study, items, run) for _ in range(2)]
    assert len(calls) == 1 and len(bought[0]) == 36  # Six people, six products each
    pd.testing.assert_frame_equal(*bought)
    assert (
        purchases_of(replace(study, recommendation=RecommendationChoice(interactions="none")), items) is None
    )


def test_where_nobody_bought_enough_there_are_no_purchases_and_the_note_says_why(raw, tmp_path):
    choice = CatalogueChoice(source="amazon-2023", folder=str(raw), categories=("Video_Games",))
    few = read_published(choice).items.head(2)
    found = published_purchases(choice, few, str(tmp_path / "run"))
    assert found.empty and "0 people and 0 products are left" in purchases_note(str(tmp_path / "run"))
    study = study_from({"catalogue": GAMES | {"folder": str(raw)}})
    assert purchases_of(study, few, str(tmp_path / "again")) is None
    assert purchases_note(str(tmp_path / "nowhere")) == ""


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"catalogue": {"buyers": True}}, "catalogue.buyers"),
        ({"recommendation": {"interactions": "amazon-2023"}}, "recommendation.interactions"),
        ({"missing": {"mechanism": "by_popularity"}}, "missing.mechanism"),
        ({"memorisation": {"after": "2023-01-01", "items": 1}}, "memorisation.after"),
        ({}, ""),
    ],
)
def test_what_asks_for_purchases_is_refused_before_a_picture_is_fetched(
    raw, tmp_path, monkeypatch, sections, key
):
    "The catalogue's own items have no core; whoever asked for none goes on to the pictures."
    about = GAMES | {"folder": str(raw), "download": True} | sections.get("catalogue", {})
    study = study_from(sections | {"catalogue": about})
    lines = (raw / "Video_Games.jsonl").read_text().splitlines(keepends=True)
    (raw / "Video_Games.jsonl").write_text("".join(lines[:12]))  # Two people, six products each
    fetched = []

    def asked(addresses, *args, **kwargs):
        fetched.append(addresses)
        raise RuntimeError("on the way to the pictures")

    monkeypatch.setattr(downloads, "fetch_pictures", asked)
    if key == "catalogue.buyers":  # The sample itself is empty
        with pytest.raises(ValueError, match="have no people with 5 products that 5 people each have"):
            study_catalogue(study, str(tmp_path / "run"))
    elif key:
        with pytest.raises(
            ValueError, match=rf"{key} asks for purchases, and the reviews in .* hold none.*0 people"
        ):
            study_catalogue(study, str(tmp_path / "run"))
    else:
        with pytest.raises(RuntimeError, match="on the way to the pictures"):
            study_catalogue(study, str(tmp_path / "run"))
    assert bool(fetched) == (not key)


def test_the_purchases_of_fewer_items_are_the_core_of_what_is_kept(raw, tmp_path, monkeypatch):
    "As if the reviews of those items alone had been read, and without reading them again."
    study, run = study_from({"catalogue": GAMES | {"folder": str(raw)}}), str(tmp_path / "run")
    items = read_catalogue(study.catalogue).items
    calls = counted(monkeypatch, review_purchases, "amazon_purchases")
    five = items[items["item_id"].isin([f"B{n}" for n in range(5)])]
    found, whole = (purchases_of(study, rows, run) for rows in (five, items))
    assert len(calls) == 1 and (len(found), len(whole)) == (30, 36)
    alone = review_purchases.amazon_purchases(str(raw), ["Video_Games"], list(five["item_id"]))
    assert found.reset_index(drop=True)[["user_id", "item_id"]].equals(alone[["user_id", "item_id"]])


def test_a_category_without_buyers_is_named_with_what_to_do(raw, tmp_path):
    for kind in ("meta_", ""):
        text = (raw / f"{kind}Video_Games.jsonl").read_text().replace('"B', '"C')
        lines = text.splitlines(keepends=True)
        (raw / f"{kind}All_Beauty.jsonl").write_text("".join(lines if kind else lines[:12]))
    choice = CatalogueChoice(source="amazon-2023", folder=str(raw), categories=("Video_Games", "All_Beauty"))
    assert len(read_published(choice).items) == 16
    with pytest.raises(
        ValueError, match=r"none of 6 ids .*meta_All_Beauty.jsonl.*leave All_Beauty out.*buyers = false"
    ):
        read_published(replace(choice, buyers=True))


def test_the_note_says_how_products_were_chosen(raw):
    choice = CatalogueChoice(
        source="amazon-2023", folder=str(raw), categories=("Video_Games",), per_category=6
    )
    assert "at most 6 products by a hash of seed 3 and id" in read_published(choice, 3).note
    assert "all products" in read_published(replace(choice, per_category=0)).note
    assert "a sample of people liked" in read_published(replace(choice, buyers=True)).note


def test_the_command_line_names_the_raw_files_of_a_shipped_study(raw, tmp_path):
    from typer.testing import CliRunner

    from mmpc_analysis.study.command_line import app

    short = CliRunner().invoke(app, ["run", "mmpcbench", "--out", str(tmp_path / "a")])
    assert short.exit_code != 0 and "give --folder" in short.output
    partly = CliRunner().invoke(app, ["run", "mmpcbench", "--folder", str(raw), "--out", str(tmp_path / "a")])
    assert partly.exit_code != 0 and "has no meta_All_Beauty" in partly.output  # One category of nine
