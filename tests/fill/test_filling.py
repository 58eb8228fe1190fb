"""From an export to an import: what is written, what is left alone, what is asked twice, and what a review makes of it."""

import json
import re
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from shop_engine import Engine, colour

from mmpc_analysis import store
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.protocol import Answer
from mmpc_analysis.fill.filling import fill, filled_titles, source_hash
from mmpc_analysis.fill.reviewed_fills import apply_review


class Knowing(Engine):
    "Writes the true title of a product, or a far one for every tenth, and is less sure of these."

    def __init__(self, titles, **more):
        super().__init__(**more)
        self.titles = titles

    def answer(self, r):
        n = colour(r)
        if r.answer_key == "answer":
            return super().answer(r)
        title, sure = (self.titles[n], -0.1) if n % 10 else ("Entirely other words", -3.0)
        return Answer(r.key, json.dumps({"title": title}), "stop", 9.0, 5.0, 0.5, sure - n / 1e5, 2 * sure)


TITLES = [f"Folding chair model number{chr(97 + k % 26)}{chr(97 + k // 26)}" for k in range(150)]


@pytest.fixture
def shop(tmp_path):
    "A CSV of 150 products, every fourth without a title, in a dialect of its own."
    rows = ["sku;name;colour;photo;note\r\n"]
    for k, title in enumerate(TITLES):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / f"{k}.png")
        rows.append(f'S{k:03};{"" if k % 4 == 0 else title};red;{k}.png;"kept, as ""is"""\r\n')
    path = tmp_path / "shop.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(rows).encode())
    return path


def run(shop, out="filled", engine=None, **more):
    engine = engine or Knowing(TITLES)
    chosen = {
        "risk": "title",
        "max_wrong": 0.05,
        "signals": ["logprob"],
        "progress": False,
        "backend": engine,
    }
    chosen |= {"columns": {"item_id": "sku", "image": "photo"}}
    return fill(shop, "standin-qwen-s", out=str(shop.parent / out), **(chosen | more)), engine


def test_gaps_are_filled_and_every_other_byte_stays(shop):
    before = shop.read_bytes()
    made, _ = run(shop)
    gaps = made.suggestions.query("not known").set_index("item_id")
    assert len(gaps) == 38 and made.promises.iloc[0]["promised"]
    filled = gaps[gaps["status"] == "filled"]
    assert len(filled) == 30 and all(filled.loc[i, "title"] == TITLES[int(i[1:])] for i in filled.index)
    assert all(int(i[1:]) % 10 == 0 for i in gaps.index[gaps["status"] == "withheld"])
    assert shop.read_bytes() == before
    (file,) = made.files
    lines, old = (Path(file.path).read_bytes().split(b"\r\n"), before.split(b"\r\n"))
    assert len(lines) == len(old) and lines[0].startswith(old[0] + b";title_source")
    for k, (new, was) in enumerate(zip(lines[1:-1], old[1:-1], strict=True)):
        if f"S{k:03}" in filled.index:
            head, tail = was.split(b";", 2)[0], was.split(b";", 2)[2]
            assert new.startswith(head + b";" + TITLES[k].encode() + b";" + tail)
        else:
            assert new.startswith(was) and set(new[len(was) :]) <= set(b";shop")
    again = load_catalogue(file.path, columns={"item_id": "sku", "image": "photo", "title": "name"})
    assert again.items.set_index("item_id")["title"].dropna().to_dict() == {
        **{f"S{k:03}": t for k, t in enumerate(TITLES) if k % 4}, **filled["title"].to_dict(),
    }  # fmt: skip


def test_the_folder_says_all_and_a_second_run_asks_nothing(shop):
    made, engine = run(shop)
    out, asked = Path(made.out), len(engine.seen)
    assert {
        "suggestions",
        "title_risks",
        "promises",
        "review.csv",
        "review.html",
        "report.html",
        "manifest.json",
    } <= {p.name for p in out.iterdir()}
    again, engine = run(shop, engine=engine)
    assert len(engine.seen) == asked
    pd.testing.assert_frame_equal(again.suggestions, made.suggestions)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["hash"] == source_hash(shop) and manifest["facts"]["seen"] == ["colour", "note"]


def test_other_settings_take_the_old_import_away(shop):
    made, engine = run(shop)
    assert Path(made.files[0].path).exists()
    strict, _ = run(shop, engine=engine, max_wrong=0.001)
    assert not strict.files and not Path(made.files[0].path).exists()
    assert (
        not strict.promises.iloc[0]["promised"]
        and strict.suggestions.query("not known")["status"].eq("withheld").all()
    )


def test_pages_of_an_earlier_queue_go(shop):
    "A page of review that shows another run's titles would be decided in vain."
    made, engine = run(shop)
    (Path(made.out) / "review-2.html").write_text("of an earlier run")
    (Path(made.out) / "review-notes.html").write_text("a person's own")
    run(shop, engine=engine, sample=0)
    assert sorted(p.name for p in Path(made.out).glob("*.html")) == [
        "report.html", "review-notes.html", "review.html",
    ]  # fmt: skip


def test_a_person_is_told_what_the_confidence_is_about(shop):
    made, engine = run(shop)
    page = (Path(made.out) / "review.html").read_text("utf-8")
    lead = re.search(r'<p class="meaning">(.*?)</p>', page, re.S)[1]
    assert " ".join(re.sub(r"<[^>]+>", "", lead).split()) == (
        "The confidence is about one fault alone: The title shares too few words with the true title. "
        "You decide about the whole title."
    )
    queue = (Path(made.out) / "review.csv").read_text("utf-8-sig")
    assert "enough right words: " in queue and "likely right" not in queue
    run(shop, engine=engine, risk="number")
    assert "no wrong number: " in (Path(made.out) / "review.csv").read_text("utf-8-sig")


def test_titles_of_known_products_never_reach_the_engine(shop):
    class Spy(Knowing):
        def note(self, kind, *things):
            assert not any("Folding chair" in str(t) for t in things if kind == "ask")
            super().note(kind, *things)

    run(shop, engine=Spy(TITLES))


def test_a_shop_without_gaps_is_done(shop):
    shop.write_text(re.sub(r"(?m)^(S\d+);;", r"\1;A title;", shop.read_text("utf-8-sig")), "utf-8")
    made, engine = run(shop)
    assert not made.files and not engine.seen and "No title is missing." in made.notes[0]
    assert made.suggestions.empty and made.promises.empty


def test_a_review_makes_the_final_file(shop):
    made, _ = run(shop, sample=5)
    queue = pd.read_csv(Path(made.out, "review.csv"), dtype=str, keep_default_na=False)
    gaps = made.suggestions.query("not known").set_index("item_id")
    shown = queue["item_id"].map(gaps["status"])
    assert (shown == "filled").sum() == 5 and (shown == "withheld").sum() == 8
    withheld = queue.index[shown == "withheld"]
    sampled = queue.index[shown == "filled"]
    queue.loc[withheld[0], ["decision", "new_title"]] = ["edit", "A chair that somebody named"]
    queue.loc[withheld[1], "decision"] = "accept"
    queue.loc[withheld[2], ["decision", "new_title"]] = ["edit", "=cmd()"]
    queue.loc[sampled, "decision"] = ["reject", *["accept"] * 4]
    done = apply_review(made.out, queue)
    final = pd.read_csv(
        done.files[0].path, sep=";", dtype=str, encoding="utf-8-sig", keep_default_na=False
    ).set_index("sku")["name"]
    ids = queue["item_id"]
    assert final[ids[withheld[0]]] == "A chair that somebody named"
    assert final[ids[withheld[1]]] == "Entirely other words"
    assert final[ids[withheld[2]]] == "" and final[ids[sampled[0]]] == ""
    assert done.files[0].rows == 30 - 1 + 2
    found = json.loads(Path(done.out, "found.json").read_text("utf-8"))
    assert (found["error"]["reviewed"], found["error"]["wrong"], found["error"]["filled"]) == (5, 1, 30)
    assert Path(made.files[0].path).exists(), "the fill itself stays"
    assert store.read_json(f"{made.out}/manifest.json")["files"] == [Path(made.files[0].path).name]


def test_a_changed_file_is_refused_before_anything_is_written(shop):
    made, _ = run(shop)
    queue = pd.read_csv(Path(made.out, "review.csv"), dtype=str, keep_default_na=False)
    queue["decision"] = "accept"
    with shop.open("ab") as file:
        file.write(b"S999;New;red;1.png;x\r\n")
    with pytest.raises(ValueError, match="has changed since it was filled"):
        apply_review(made.out, queue)
    assert not Path(made.out, "reviewed").exists()


def test_a_moved_shop_can_be_named(shop, tmp_path):
    made, _ = run(shop)
    queue = pd.read_csv(Path(made.out, "review.csv"), dtype=str, keep_default_na=False)
    queue["decision"] = "accept"
    shutil.copytree(tmp_path, tmp_path.parent / (tmp_path.name + "-moved"))
    moved = tmp_path.parent / (tmp_path.name + "-moved") / "shop.csv"
    shop.unlink()
    done = apply_review(str(moved.parent / "filled"), queue, source=moved)
    assert done.files[0].rows == 38


def test_an_engine_that_fails_on_one_product_costs_that_one(shop):
    made, _ = run(shop, engine=Knowing(TITLES, fails={4, 5}))
    table = made.suggestions.set_index("item_id")
    assert table.loc["S004", "outcome"] == "engine_error" and table.loc["S004", "status"] == "withheld"
    assert table.loc["S004", "reason"] == "the model gave no title (engine_error)"
    assert made.promises.iloc[0]["promised"]


def test_refusals(shop):
    with pytest.raises(ValueError, match="risk must be one of brand"):
        run(shop, risk="taste")
    with pytest.raises(ValueError, match="max_wrong"):
        run(shop, max_wrong=5)
    assert filled_titles(run(shop)[0].suggestions)["checked"].eq("no").all()


def test_no_warning_escapes(shop):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(shop)


def test_a_new_threshold_withholds_what_is_under_it_and_keeps_what_people_decided(shop, monkeypatch):
    "Some rows of the sample are filled, reviewed, and under the new threshold."
    from mmpc_analysis.fill import reviewed_fills
    from mmpc_analysis.fill.new_thresholds import NewThreshold

    made, _ = run(shop)
    filled = made.suggestions.query("status == 'filled'").sort_values("confidence")
    bar = float(filled["confidence"].median())
    assert filled["confidence"].nunique() > 4
    found = NewThreshold(bar, bar, 0.05, 0.9, "reviews", 50, 1, 0.05, 50, 1, 10, 20, ())
    monkeypatch.setattr(reviewed_fills, "new_threshold", lambda *_, **__: found)
    queue = pd.read_csv(Path(made.out) / "review.csv", dtype=str, keep_default_na=False)
    under = filled.loc[filled["confidence"] < bar, "item_id"].tolist()
    queue.loc[queue["item_id"].eq(under[0]), "decision"] = "accept"
    rejected = filled["item_id"].iloc[-1]
    queue.loc[queue["item_id"].eq(rejected), "decision"] = "reject"
    assert {under[0], under[1], rejected} <= set(queue["item_id"])
    done = apply_review(made.out, queue, rethreshold=True)
    status = done.suggestions.set_index("item_id")["status"]
    assert status[under[0]] == "filled" and status[rejected] == "withheld"
    assert status[under[1:]].eq("withheld").all()
    assert any("Of 50 titles that tested it 1 were wrong, by reviews" in note for note in done.notes)
    left = apply_review(made.out, queue)
    assert left.suggestions.set_index("item_id")["status"][under[1]] == "filled"


def test_where_no_new_threshold_can_be_promised_that_is_said_and_the_first_stays(shop):
    made, _ = run(shop)
    queue = pd.read_csv(Path(made.out) / "review.csv", dtype=str, keep_default_na=False)
    queue["decision"] = "reject"
    done = apply_review(made.out, queue, rethreshold=True)
    assert any("so the first one still decides" in note for note in done.notes)


def test_a_title_that_nobody_has_seen_is_not_called_checked(shop):
    "The words that travel from the tables to the file mean what they say."
    made, _ = run(shop)
    final = pd.read_csv(made.files[0].path, sep=";", dtype=str, encoding="utf-8-sig", keep_default_na=False)
    filled = final[final["title_source"] == "model"]
    assert len(filled) == 30 and set(filled["title_checked"]) == {"no"}
    queue = pd.read_csv(Path(made.out, "review.csv"), dtype=str, keep_default_na=False)
    queue.loc[0, ["decision", "new_title"]] = ["edit", "A chair that somebody named"]
    done = apply_review(made.out, queue)
    final = pd.read_csv(
        done.files[0].path, sep=";", dtype=str, encoding="utf-8-sig", keep_default_na=False
    ).set_index("sku")
    row = final.loc[queue.loc[0, "item_id"]]
    assert (row["title_source"], row["title_model"], row["title_checked"]) == ("person", "", "yes")


def test_titles_of_loose_pictures_are_kept_beside_the_file(shop):
    "A folder holds a picture that no row names; its title goes into a list, which stays, and goes with the next fill."
    folder = shop.parent / "folder"
    folder.mkdir()
    shutil.copy(shop, folder / "products.csv")
    for k in range(150):
        shutil.copy(shop.parent / f"{k}.png", folder / f"{k}.png")
    Image.new("RGB", (8, 8), (3, 0, 1)).save(folder / "loose.png")
    made, engine = run(folder, out="of-folder", columns={"item_id": "sku", "image": "photo"})
    out = Path(made.out)
    if made.suggestions.set_index("item_id").loc["loose", "status"] == "filled":
        listed = pd.read_csv(out / "titles.csv", dtype=str)
        assert listed["item_id"].tolist() == ["loose"]
        assert all(str(out) in note for note in made.files[0].notes if "titles.csv" in note)
        run(
            folder,
            out="of-folder",
            engine=engine,
            max_wrong=0.001,
            columns={"item_id": "sku", "image": "photo"},
        )
        assert not (out / "titles.csv").exists() and not list(out.glob("*filled*"))
    else:
        raise AssertionError(made.suggestions.set_index("item_id").loc["loose"])


def test_what_a_file_cannot_take_is_withheld_everywhere(tmp_path):
    "Two products of one id: neither is in the file, so neither counts as filled, and both wait in the queue."
    rows = ["ID,Type,SKU,Name,Published,Is featured?,Categories,Images,Parent\n"]
    for k, title in enumerate(TITLES):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / f"{k}.png")
        name = "" if k % 4 == 0 else title
        rows.append(f"{'01' if k == 4 else k + 1 if k else 1},simple,,{name},1,0,Chairs,{k}.png,\n")
    shop = tmp_path / "woo.csv"
    shop.write_text("".join(rows))
    made, _ = run(shop, columns=None)
    gaps = made.suggestions.query("not known").set_index("item_id")
    lost = gaps[gaps["reason"].fillna("").str.startswith("the file cannot take it")]
    assert set(lost.index) <= {"1", "01"} and len(lost) >= 1
    assert made.files[0].rows == (gaps["status"] == "filled").sum() == made.promises.iloc[0]["filled"]
    queue = pd.read_csv(Path(made.out, "review.csv"), dtype=str, keep_default_na=False)
    assert set(lost.index) <= set(queue["item_id"])


def test_a_new_fill_takes_the_reviewed_file_away(shop):
    made, engine = run(shop)
    queue = pd.read_csv(Path(made.out, "review.csv"), dtype=str, keep_default_na=False)
    done = apply_review(made.out, queue.assign(decision="accept"))
    assert Path(done.files[0].path).exists()
    run(shop, engine=engine, max_wrong=0.2)
    assert not Path(done.files[0].path).exists()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"max_wrong": 5}, "max_wrong"), ({"sure": 0}, "sure"), ({"sample": -1}, "sample must be at least 0"),
        ({"samples": -2}, "samples must be at least 0"), ({"options": {"cutt": 1}}, "has no option 'cutt'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(shop, choice, message):
    engine = Knowing(TITLES)
    with pytest.raises(ValueError, match=message):
        run(shop, engine=engine, **choice)
    assert not engine.seen


def test_no_drawn_answers_means_no_agreement(shop):
    made, engine = run(shop, samples=0, signals=["logprob", "agreement"])
    assert made.suggestions["agreement"].isna().all() and not any(
        kind == "sample" for kind, *_ in engine.seen
    )
