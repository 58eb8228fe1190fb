"""`mmpc catalogue` as a person reads it, and as a script does."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from mmpc_analysis.catalogue.items import SET_ASIDE, load_catalogue
from mmpc_analysis.study import catalogue_command as page
from mmpc_analysis.study.command_line import app
from mmpc_analysis.study.run_facts import gap_counts
from mmpc_analysis.tables import ITEMS, PICTURES, validate


def catalogue(*words):
    done = CliRunner().invoke(app, ["catalogue", *map(str, words)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.fixture
def shop(tmp_path):
    "A shop of five products: two categories, two gaps, one split, one row too many, one picture that is away."
    from PIL import Image

    for name in ("kite", "ball", "mug"):
        Image.new("RGB", (60, 60), "red").save(tmp_path / f"{name}.png")
    rows = [
        "sku,name,photo,category,split,stock,shelf",
        "1,Kite,kite.png,Toys,test,4,a", "2,,ball.png,Toys,train,4,a", "3,Mug,mug.png,Home,test,4,b",
        "4,Bell,,Home,train,4,b", "5,Rug,gone.png,Home,train,4,b", "5,Rug,,Home,train,4,b",
    ]  # fmt: skip
    (tmp_path / "shop.csv").write_text("\n".join(rows))
    return tmp_path / "shop.csv"


def items_of(rows):
    frame = pd.DataFrame(rows, columns=["item_id", "category", "title", "image"])
    return validate(frame.reindex(columns=ITEMS.names).astype("object"), ITEMS)


def test_products_with_gaps_are_counted_in_all_and_by_category(shop):
    facts = json.loads(catalogue(shop, "--json"))
    assert facts["items"] == 5
    assert facts["gaps"] == {
        "items": 5, "titles": 4, "pictures": 3, "both": 2, "no_title": 1, "no_picture": 2,
    }  # fmt: skip
    home, toys = facts["categories"]
    assert (home["category"], home["items"], home["both"], home["no_picture"]) == ("Home", 3, 1, 2)
    assert (toys["category"], toys["items"], toys["both"], toys["no_title"]) == ("Toys", 2, 1, 1)
    said = catalogue(shop)
    assert (
        "2 of 5 products have both, so one can be hidden and compared; 1 have no title and 2 no picture."
        in said
    )


def test_what_was_not_used_is_listed_with_the_option_that_uses_it(shop):
    facts, said = json.loads(catalogue(shop, "--json")), catalogue(shop)
    assert facts["unused"] == ["stock", "shelf"] and facts["profile"] == "plain"
    assert "Not used, 2 columns: stock, shelf; --column title=NAME uses one." in said
    assert "Read as plain; --profile NAME reads it as another kind of file." in said
    used = json.loads(catalogue(shop, "--column", "brand=shelf", "--json"))
    assert used["unused"] == ["stock"] and used["columns"]["brand"] == "shelf"


def test_rows_set_aside_are_told_by_their_remedy(shop):
    facts, said = json.loads(catalogue(shop, "--json")), catalogue(shop)
    assert facts["set_aside"] == 2 == sum(row["rows"] for row in facts["reasons"])
    kept = {row["column"]: row["kept"] for row in facts["reasons"]}
    assert kept == {"image": True, "item_id": False}
    assert said.index("2 rows or cells set aside") < said.index("1 in column image, first in row 6")
    assert "the product is kept without it" in said and "--aside FILE writes them all" in said


def test_many_rows_of_one_kind_are_one_line():
    rows = [(n, str(n), "title", f"stands in row {n - 1}", "keep one", n % 2 == 0) for n in range(2, 1002)]
    rows.append((5000, None, None, "has 3 cells for 2", "mend the line", False))
    aside = pd.DataFrame(rows, columns=SET_ASIDE)
    table, lines = page.aside_table(aside), page.aside_lines(aside)
    assert table["rows"].tolist() == [500, 500, 1] and len(lines) == 5
    assert lines[1].startswith(
        "  500 in column title, first in row 2: stands in row 1; keep one; the product is kept"
    )
    assert lines[3] == "  1 rows, first in row 5000: has 3 cells for 2; mend the line"
    assert page.aside_lines(aside[:0]) == []
    reasons = [(n, None, f"c{n:02}", "is odd", "mend it", True) for n in range(40)]
    assert page.aside_lines(pd.DataFrame(reasons, columns=SET_ASIDE))[-2:] == [
        "  and 30 more kinds.", "  --aside FILE writes them all.",
    ]  # fmt: skip


@pytest.mark.parametrize("categories", [1, 20, 21, 300])
def test_many_categories_are_summed_and_none_is_lost(categories):
    items = items_of(
        [(f"{n}-{k}", f"c{n:03}", "t", None) for n in range(categories) for k in range(1 + n % 2)]
    )
    lines = "\n".join(page.gap_lines(items)).split("\n")
    table = [line for line in lines if line.startswith(("c", "all")) or line.split()[1:2] == ["more"]]
    counts = [int(line.rsplit(maxsplit=6)[1].replace(",", "")) for line in table]
    assert counts[-1] == len(items) == sum(counts[:-1])
    assert len(table) == min(categories, 20) + (categories > 20) + 1
    assert (f"\n{categories - 20} more " in "\n".join(table)) == (categories > 20)
    assert page.gap_table(items)["items"].tolist()[-1] == len(items)


def test_pictures_that_are_elsewhere_are_counted_with_the_line_that_fetches_them(shop):
    loaded = load_catalogue(shop)
    rows = [("4", 0, "https://shop.example/4.jpg"), ("4", 1, "https://shop.example/4b.jpg"), ("1", 0, "https://shop.example/1.jpg"),
            ("5", 0, "gone.png"), ("9", 0, "https://shop.example/9.jpg")]  # fmt: skip
    away = replace(loaded, pictures=validate(pd.DataFrame(rows, columns=PICTURES.names), PICTURES))
    assert page.picture_addresses(away) == 1, "4 has only an address; 1 has a picture here"


def test_options_say_how_a_file_is_read(shop, tmp_path):
    assert json.loads(catalogue(shop, "--split", "test", "--json"))["items"] == 2
    assert json.loads(catalogue(shop, "--split", "all", "--json"))["splits"] == {"train": 3, "test": 2}
    (tmp_path / "elsewhere").mkdir()
    facts = json.loads(catalogue(shop, "--root", tmp_path / "elsewhere", "--json"))
    assert facts["gaps"]["pictures"] == 0 and facts["root"] == str(tmp_path / "elsewhere")
    (tmp_path / "cp.csv").write_bytes("sku,name,category\n1,Müsli,Größe\n".encode("cp850"))
    told = json.loads(catalogue(tmp_path / "cp.csv", "--encoding", "cp850", "--json"))
    assert [row["category"] for row in told["categories"]] == ["Größe"]


def test_words_of_a_shop_move_no_terminal(tmp_path):
    evil = "Toys \x1b[2J\x1b]0;owned\x07 \u202eabc"
    pd.DataFrame({"sku": ["1"], "name": ["Kite"], "category": [evil], "\x1b[31mred": ["x"]}).to_csv(
        tmp_path / "s.csv", index=False
    )
    said = catalogue(tmp_path / "s.csv")
    assert "Kite" not in said and not set(said) & {"\x1b", "\x07", "\u202e", "\r"}
    facts = catalogue(tmp_path / "s.csv", "--json")
    assert facts.isascii() and json.loads(facts)["items"] == 1


def test_gaps_of_products_are_counts_of_what_is_not_there():
    rows = [("1", "a", "t", "p"), ("2", "a", None, "p"), ("3", "a", "t", None), ("4", "b", None, "p")]
    assert gap_counts(items_of(rows)) == {
        "items": 4, "titles": 2, "pictures": 3, "both": 1, "no_title": 2, "no_picture": 1,
    }  # fmt: skip
    assert set(gap_counts(items_of(rows)[:0]).values()) == {0}


def test_placeholders_are_kept_where_that_is_asked_for(shop):
    shop.write_text("sku,name,photo\n1,N/A,kite.png\n2,TBD,ball.png\n3,Mug,mug.png\n")
    said = json.loads(catalogue(shop, "--json"))
    assert said["gaps"]["no_title"] == 2 and "placeholders = false under [catalogue]" in said["note"]
    assert json.loads(catalogue(shop, "--json", "--keep-placeholders"))["gaps"]["no_title"] == 0


def test_a_shop_whose_pictures_are_all_away_says_how_many_have_no_title(shop):
    rows = [f"{k},{'' if k < 16 else 'Mug'},https://shop.example/{k}.jpg" for k in range(40)]
    shop.write_text("\n".join(["sku,name,photo", *rows, "77,Bell,ftp://shop.example/bell.jpg"]))
    said = json.loads(catalogue(shop, "--json"))
    assert (said["gaps"]["items"], said["gaps"]["no_title"], said["addresses"]) == (41, 16, 40)
    assert "16 have no title and 41 no picture" in catalogue(shop)
