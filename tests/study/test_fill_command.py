"""`mmpc fill` as a shop types it: what it reads, what it writes, how it ends, and what it never touches."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mmpc_analysis import store, tables
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.fill import filling
from mmpc_analysis.fill.fill_folders import check_folder, check_undecided
from mmpc_analysis.fill.filling import FillResult
from mmpc_analysis.fill.import_result import ImportFile
from mmpc_analysis.fill.picture_marks import read_mark
from mmpc_analysis.study.command_endings import CODES_OF_COMMANDS
from mmpc_analysis.study.command_line import app
from mmpc_analysis.study.fill_command import (
    check_settings,
    fill_engine,
    read_share,
)


def typed(*words, cwd="."):
    "The command in this process."
    with contextlib.chdir(cwd):
        return CliRunner().invoke(app, ["fill", *map(str, words)])


# ---------------------------------------------------------------- shares


@given(st.integers(1, 9999))
def test_a_percentage_and_its_fraction_are_the_same_share(n):
    fraction = f"0.{n:04d}"
    assert read_share(f"{n / 100:.2f}%", "--sure") == pytest.approx(float(fraction), abs=1e-12)
    assert read_share(fraction, "--sure") == float(fraction)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("5", "can be read in two ways; write 5%, or a number below 1"),
        ("1", "can be read in two ways; write 1%"),
        ("1.0", "can be read in two ways"),
        ("90", "write 90%"),
        ("0", "between 0% and 100%"), ("0%", "between 0% and 100%"), ("0.0", "between"), ("100%", "between"),
        ("150%", "between"),
        ("0,05", "must look like"), ("5,5%", "must look like"), ("5 percent", "must look like"), ("", "must look"),
        ("nan", "must look like"), ("inf", "must look like"), ("-5%", "must look like"), ("1e-2", "must look like"),
        ("5%%", "must look like"), ("\u0665%", "must look like"), ("0.05\n0.1", "must look like"), ("%", "must look like"),
    ],
)  # fmt: skip
def test_what_can_be_misread_is_refused(text, why):
    with pytest.raises(ValueError, match=why) as told:
        read_share(text, "--max-wrong")
    assert "--max-wrong" in str(told.value)


# ---------------------------------------------------------------- where results go


def test_results_never_lie_beside_the_shop_s_own_files(tmp_path):
    shop = tmp_path / "shop"
    (shop / "in").mkdir(parents=True)
    (shop / "items.csv").write_text("id\n1\n")
    (tmp_path / "link").symlink_to(shop)
    for source, out in (
        (shop / "items.csv", shop), (shop / "items.csv", tmp_path / "link"), (tmp_path / "link/items.csv", shop),
        (shop, shop), (shop, shop / "in"), (shop, shop / "in" / "filled"), (shop, tmp_path),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="where the shop's own files lie"):
            check_folder(str(source), str(out))
    with pytest.raises(ValueError, match="is a file"):
        check_folder(str(shop), str(_touched(tmp_path / "a.txt")))
    check_folder(str(shop / "items.csv"), str(shop / "filled"))
    check_folder("embedded", str(shop))


def _touched(path):
    path.write_text("")
    return path


def test_other_settings_are_refused_with_their_names_and_nothing_changes(tmp_path):
    first = {"source": "/a.csv", "max_wrong": 0.05, "columns": {"title": "name"}, "prompt": None}
    check_settings(str(tmp_path), first)
    kept = (tmp_path / "settings.json").read_bytes()
    check_settings(str(tmp_path), dict(reversed(first.items())))
    with pytest.raises(ValueError, match=r"max_wrong was 0\.05 and is 0\.1; columns was .*add --anew"):
        check_settings(str(tmp_path), first | {"max_wrong": 0.1, "columns": {}})
    assert (tmp_path / "settings.json").read_bytes() == kept
    check_settings(str(tmp_path), first | {"max_wrong": 0.1}, anew=True)
    assert json.loads((tmp_path / "settings.json").read_text())["max_wrong"] == 0.1


def test_a_queue_in_which_somebody_has_decided_is_not_made_again(tmp_path):
    check_undecided(str(tmp_path))
    (tmp_path / "review.csv").write_text("\ufeffsuggestion,decision\nKite,\nMug,  \n", encoding="utf-8")
    check_undecided(str(tmp_path))
    (tmp_path / "review.csv").write_text("\ufeffsuggestion,decision\nKite,accept\nMug,\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds 1 decisions of a person.*--reviewed"):
        check_undecided(str(tmp_path))


# ---------------------------------------------------------------- whom to ask


def test_one_model_is_named_and_how_it_is_reached():
    with pytest.raises(ValueError, match="got neither"):
        fill_engine()
    with pytest.raises(ValueError, match="got both"):
        fill_engine("standin-qwen-s", "runs/demo")
    with pytest.raises(ValueError, match="did you mean 'standin-qwen"):
        fill_engine("standin-qwen-z")
    card, engine, chosen = fill_engine(
        "standin-qwen-s", device="cpu", precision="", quantisation="", pixels=0
    )
    assert (card, engine["device"], chosen) == (model_card("standin-qwen-s"), "cpu", None)
    card, engine, _ = fill_engine("Qwen/Qwen2.5-VL-7B-Instruct", "", "http://localhost:9/v1")
    assert (
        card.name == "qwen2.5-vl-7b"
        and engine["server"] == "http://localhost:9/v1"
        and "device" not in engine
    )
    with pytest.raises(ValueError, match="runs elsewhere"):
        fill_engine("own", "", "http://localhost:9/v1", device="cuda")
    with pytest.raises(ValueError, match="leave --server out"):
        fill_engine("", "runs/demo", "http://localhost:9/v1")


# ---------------------------------------------------------------- with a fill that is known


def promise(**more):
    row = {"risk": "number", "category": "all", "max_wrong": 0.05, "sure": 0.9, "threshold": 0.8, "known": 60}
    row |= {"accepted": 50, "wrong": 0, "share": 0.0, "high": 0.045, "smallest": 0.04, "gaps": 3, "filled": 2}
    return tables.validate(pd.DataFrame([row | {"promised": True} | more]), tables.PROMISES)


NOTHING = {"threshold": float("nan"), "accepted": 0, "share": float("nan"), "high": float("nan"), "filled": 0}
NOTHING |= {"promised": False, "smallest": 0.0731}


def suggestions(statuses, outcomes=None):
    rows = [
        {"item_id": f"i{k}", "category": "Toys", "known": status == "known", "model": "standin-qwen-s",
         "precision": "float32", "prompt": "p", "key": str(k), "outcome": (outcomes or {}).get(k, "ok"),
         "status": status, "reason": "its confidence is under the threshold" if status == "withheld" else None,
         "seconds": 0.5}
        for k, status in enumerate(statuses)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).assign(parent_id=lambda x: x["item_id"])
    return tables.validate(
        frame.reindex(columns=tables.SUGGESTIONS.names).astype({"known": bool}), tables.SUGGESTIONS
    )


@pytest.fixture
def faked(monkeypatch, tmp_path):
    "A shop of one line, and a fill that gives what it is told to."
    (tmp_path / "shop.csv").write_text("id,title,image\n1,Kite,kite.png\n")
    calls = []

    def use(result=None, error=None):
        def fill(source, model, **how):
            calls.append((source, model, how))
            if error:
                raise error
            return FillResult(
                how["out"],
                *result,
                [ImportFile("filled/shop-filled.csv", "plain", 2, ["mind"])],
                ["a note"],
                9.0,
            )

        monkeypatch.setattr(filling, "fill", fill)
        return calls

    return use


GOOD = (suggestions(["filled", "filled", "withheld", "known", "known"]), promise())


def test_what_is_typed_reaches_the_fill(faked, tmp_path):
    calls = faked(GOOD)
    words = [
        "--max-wrong",
        "2.5%",
        "--of",
        "brand",
        "--sure",
        "0.95",
        "--known",
        77,
        "--samples",
        3,
        "--sample",
        9,
    ]
    words += [
        "--no-claims",
        "--seed",
        5,
        "--column",
        "title=name",
        "--profile",
        "plain",
        "--encoding",
        "cp1252",
    ]
    words += [
        "--root",
        ".",
        "--category",
        "Toys",
        "--prompt",
        "title-full-1",
        "--device",
        "cpu",
        "--out",
        "filled",
    ]
    done = typed("shop.csv", "-m", "standin-qwen-s", *words, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    ((source, model, how),) = calls
    assert (source, model) == ("shop.csv", model_card("standin-qwen-s"))
    wanted = {
        "max_wrong": 0.025,
        "risk": "brand",
        "sure": 0.95,
        "known": 77,
        "samples": 3,
        "sample": 9,
        "seed": 5,
    }
    wanted |= {
        "claims": False,
        "columns": {"title": "name"},
        "profile": "plain",
        "encoding": "cp1252",
        "root": ".",
    }
    wanted |= {
        "category": "Toys",
        "prompt": "title-full-1",
        "device": "cpu",
        "out": "filled",
        "benchmark": None,
    }
    assert {key: how[key] for key in wanted} == wanted


def test_signals_and_fetched_pictures_reach_the_fill(faked, tmp_path):
    calls = faked(GOOD)
    (tmp_path / "got").mkdir()
    words = ["--signal", "agreement", "--signal", "logprob", "--downloads", "got"]
    assert typed("shop.csv", "-m", "standin-qwen-s", *words, cwd=tmp_path).exit_code == 0
    assert (calls[0][2]["signals"], calls[0][2]["downloads"]) == (["logprob", "agreement"], "got")
    refused = typed(
        "shop.csv", "-m", "standin-qwen-s", cwd=tmp_path
    )  # Another set of signals is another fill
    assert refused.exit_code == 2 and "signals was" in refused.stderr
    typed("shop.csv", "-m", "standin-qwen-s", "--out", "all", cwd=tmp_path)
    assert calls[-1][2]["signals"] is None and "downloads" not in calls[-1][2]


def test_a_folder_that_is_older_than_an_option_goes_on(faked, tmp_path):
    faked(GOOD)
    assert typed("shop.csv", "-m", "standin-qwen-s", cwd=tmp_path).exit_code == 0
    settings = tmp_path / "filled/shop/settings.json"
    old = json.loads(settings.read_text())
    settings.write_text(json.dumps({k: v for k, v in old.items() if k not in ("signals", "downloads")}))
    assert typed("shop.csv", "-m", "standin-qwen-s", cwd=tmp_path).exit_code == 0


def test_it_ends_with_what_to_open_next(faked, tmp_path):
    faked(GOOD)
    (tmp_path / "my results").mkdir()
    (tmp_path / "my results/review.html").write_text("the queue")
    (tmp_path / "my results/manifest.json").write_text('{"risk": "number", "files": []}')
    done = typed("shop.csv", "-m", "standin-qwen-s", "--out", "my results", cwd=tmp_path)
    last = done.stdout.strip().splitlines()[-1]
    places = [
        last.index(word)
        for word in ("report.html", "review.html", "--reviewed", "upload filled/shop-filled.csv")
    ]
    assert last.startswith("Next: ") and places == sorted(places)
    assert "mmpc fill shop.csv --out 'my results' --reviewed reviewed.csv" in last
    told = json.loads(
        typed("shop.csv", "-m", "standin-qwen-s", "--out", "my results", "--json", cwd=tmp_path).stdout
    )
    assert len(told["next"]) == 3


def test_the_other_risks_are_told_in_one_line(faked, tmp_path):
    rows = suggestions(["filled", *["known"] * 4]).assign(confidence=[0.9, 0.9, 0.9, 0.9, 0.1])
    faked((rows, promise()))
    wrong = [0, 0, 0, 0, 1, 0, 1, 1]
    labels = pd.DataFrame(
        {"item_id": [f"i{k}" for k in (1, 2, 3, 4)] * 2, "risk": ["number"] * 4 + ["type"] * 4}
    )
    store.write_shard(
        labels.assign(wrong=wrong).astype({"wrong": float}),
        tables.TITLE_RISKS,
        str(tmp_path / "out/title_risks"),
    )
    (tmp_path / "out/manifest.json").write_text('{"risk": "number", "files": []}')
    done = typed("shop.csv", "-m", "standin-qwen-s", "--out", "out", cwd=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if "numbers alone" in line]
    assert "67% are nearer to another type of product than to their own" in line  # i1 and i3 of i1, i2 and i3
    told = json.loads(
        typed("shop.csv", "-m", "standin-qwen-s", "--out", "out", "--json", cwd=tmp_path).stdout
    )
    assert [(r["risk"], r["n"], r["wrong"]) for r in told["other_risks"]] == [("type", 3, 2)]


def test_a_fill_ends_with_0_and_tells_all(faked, tmp_path):
    faked(GOOD)
    done = typed("shop.csv", "-m", "standin-qwen-s", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["exit_code"], facts["problems"], facts["error"]) == (0, 0, [], None)
    assert (facts["gaps"], facts["known"], facts["filled"], sum(facts["withheld"].values())) == (3, 2, 2, 1)
    assert facts["promise"]["high"] == 0.045 and facts["promise"]["promised"] is True
    assert facts["files"] == [
        {"path": "filled/shop-filled.csv", "kind": "plain", "rows": 2, "notes": ["mind"], "left_out": {}}
    ]
    assert (
        facts["cost"]["wall_seconds"] == 9.0
        and facts["out"] == "filled/shop"
        and facts["notes"] == ["a note"]
    )
    said = typed("shop.csv", "-m", "standin-qwen-s", cwd=tmp_path).stdout
    assert "shop.csv: 3 products with a picture lack a title; 2 filled, 1 withheld for a person." in said
    assert (
        "Of 100 titles filled like this, at most 5" in said
        and "plain: filled/shop-filled.csv (2 titles)" in said
    )


def test_nothing_promised_ends_with_3_and_says_what_could_be(faked, tmp_path):
    faked((suggestions(["withheld", "withheld", "known"]), promise(**NOTHING)))
    done = typed("shop.csv", "-m", "standin-qwen-s", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["exit_code"], facts["filled"], len(facts["problems"])) == (3, 3, 0, 1)
    assert "Nothing can be promised" in facts["problems"][0] and "45" in facts["problems"][0]
    assert "A wish of 7.4%, named beforehand" in facts["problems"][0]
    assert facts["problems"][0].endswith("advice for other known products, and no promise for these.")
    assert "--max-wrong" not in facts["problems"][0]  # What was found by looking is not offered
    assert facts["promise"]["threshold"] is None and facts["promise"]["promised"] is False


def test_a_share_that_cannot_be_promised_at_all_is_not_offered(faked, tmp_path):
    faked((suggestions(["withheld", "known"]), promise(**NOTHING | {"smallest": 1.0})))
    done = typed("shop.csv", "-m", "standin-qwen-s", cwd=tmp_path)
    assert done.exit_code == 3 and "A wish of" not in done.stderr


def test_the_share_that_is_named_is_never_smaller_than_what_could_have_been_promised(faked, tmp_path):
    for k, smallest in enumerate((0.0731, 0.05, 0.300000001, 0.9894)):
        faked((suggestions(["withheld", "known"]), promise(**NOTHING | {"smallest": smallest})))
        done = typed("shop.csv", "-m", "standin-qwen-s", "--out", f"filled{k}", cwd=tmp_path)
        offered = done.stderr.split("A wish of ")[1].split(",")[0]
        assert read_share(offered, "--max-wrong") >= smallest - 1e-9
        assert read_share(offered, "--max-wrong") - smallest < 0.0011


def test_answers_that_an_engine_failed_to_give_end_with_3(faked, tmp_path):
    faked((suggestions(["filled", "withheld", "known"], {1: "engine_error", 2: "engine_error"}), promise()))
    done = typed("shop.csv", "-m", "standin-qwen-s", cwd=tmp_path)
    assert done.exit_code == 3
    assert "an engine failed on 2 of 3 products; the same command asks them again" in done.stderr


def test_a_shop_without_gaps_is_done(faked, tmp_path):
    faked((tables.empty(tables.SUGGESTIONS), tables.empty(tables.PROMISES)))
    done = typed("shop.csv", "-m", "standin-qwen-s", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "0 products with a picture lack a title" in done.stdout


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "What was answered is kept in filled/shop; the same command goes on."),
        (BackendError("no server at http://localhost:9/v1"), 2, "no server at"),
        (ValueError("no title is missing"), 2, "no title is missing"),
        (OSError("disk full"), 2, "disk full"),
        (KeyError("x"), 1, ""),
    ],
)
def test_how_it_ends_early(faked, tmp_path, error, code, said):
    faked(error=error)
    done = typed("shop.csv", "-m", "standin-qwen-s", "--json", cwd=tmp_path)
    assert (done.exit_code, json.loads(done.stdout)["exit_code"]) == (code, code)
    assert said in json.loads(done.stdout)["error"]


def test_the_same_command_goes_on_and_another_is_refused(faked, tmp_path):
    calls = faked(GOOD)
    words = ["shop.csv", "-m", "standin-qwen-s"]
    assert typed(*words, cwd=tmp_path).exit_code == typed(*words, cwd=tmp_path).exit_code == 0
    with open(tmp_path / "shop.csv", "a") as file:
        file.write("2,,b.png\n")  # The export has grown
    assert typed(*words, cwd=tmp_path).exit_code == 0 and len(calls) == 3
    for other in (["--max-wrong", "6%"], ["--of", "brand"], ["--known", "9"], ["--precision", "bfloat16"]):
        done = typed(*words, *other, cwd=tmp_path)
        assert done.exit_code == 2 and "was made with other settings" in done.stderr, other
    assert len(calls) == 3
    assert typed(*words, "--device", "cpu", cwd=tmp_path).exit_code == 0  # Where it runs changes no result
    assert typed(*words, "--max-wrong", "6%", "--anew", cwd=tmp_path).exit_code == 0
    shutil.copy(tmp_path / "shop.csv", tmp_path / "other.csv")
    done = typed(
        "other.csv", "-m", "standin-qwen-s", "--max-wrong", "6%", "--out", "filled/shop", cwd=tmp_path
    )
    assert done.exit_code == 2 and "source was" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name the model to ask with --model NAME"),
        (["-m", "standin-qwen-s", "--of", "colour"], "--of must be one of brand, number, type, title"),
        (["-m", "standin-qwen-s", "--max-wrong", "5"], "can be read in two ways; write 5%"),
        (["-m", "standin-qwen-s", "--sure", "90"], "--sure 90 can be read in two ways"),
        (["-m", "standin-qwen-s", "--column", "title"], "must look like title=product_name"),
        (["-m", "standin-qwen-s", "--out", "."], "where the shop's own files lie"),
        (["--from-run", "runs/typo"], "has no averages"),
        (["--reviewed", "typo.csv"], "there is no file of decisions at 'typo.csv'"),
        (["--reviewed", "shop.csv"], "there is no fill in"),
        (["-m", "standin-sd3"], "must be one that answers questions"),
        (["-m", "standin-qwen-s", "--signal", "logprobs"], "--signal must be one of logprob, least_logprob, agreement"),
        (["-m", "standin-qwen-s", "--downloads", "typo"], "no folder of fetched pictures at 'typo'"),
        (["-m", "standin-qwen-s", "--rater", "Ada"], "--rater speaks of a review; name its file with --reviewed"),
    ],
)  # fmt: skip
def test_a_person_can_help(words, said, tmp_path):
    (tmp_path / "shop.csv").write_text("id,title,image\n1,Kite,kite.png\n")
    done = typed("shop.csv", *words, "--json", cwd=tmp_path)
    assert done.exit_code == 2 and said in json.loads(done.stdout)["error"]


def test_the_refusal_of_a_risk_says_what_each_means(tmp_path):
    (tmp_path / "shop.csv").write_text("id,title,image\n1,Kite,kite.png\n")
    said = typed("shop.csv", "-m", "standin-qwen-s", "--of", "colour", cwd=tmp_path).stderr
    assert "an amount that the row contradicts" in said and not (tmp_path / "filled").exists()


def test_help_lists_risks_and_codes():
    said = " ".join(CliRunner().invoke(app, ["fill", "--help"]).stdout.split())
    assert "brand, number, type or title" in said and CODES_OF_COMMANDS["fill"][3] in said
    for option in (
        "--max-wrong",
        "--of",
        "--sure",
        "--from-run",
        "--reviewed",
        "--pictures",
        "--known",
        "--server",
    ):
        assert option in said


def test_a_run_names_the_model_and_its_numbers_go_into_the_report(faked, tmp_path):
    root = Path(__file__).resolve().parents[2] / "nbs" / "results"
    means, decided = (pd.read_parquet(root / f"{name}.parquet") for name in ("averages", "decisions"))
    store.write_shard(means, tables.AVERAGES, str(tmp_path / "run/averages"))
    store.write_shard(decided, tables.DECISIONS, str(tmp_path / "run/decisions"))
    calls = faked(GOOD)
    done = typed("shop.csv", "--from-run", "run", "--json", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    pooled = decided.query(
        "task == 'image_to_text' and category == 'all' and metric == 'minilm_cosine'"
    ).iloc[0]
    ((_, card, how),) = calls
    facts = json.loads(done.stdout)["benchmark"]
    assert card.name == pooled["chosen"] == facts["model"] and how["prompt"].id == "title-short-1"
    mine = means.query(
        "task == 'image_to_text' and category == 'all' and model == @card.name and role == 'model'"
    ).set_index("metric")
    for row in facts["numbers"]:
        assert [row[k] for k in ("estimate", "low", "high", "n")] == mine.loc[
            row["metric"], ["estimate", "low", "high", "n"]
        ].tolist()
    assert how["benchmark"]["numbers"] == facts["numbers"] and facts["cost"] == pooled["cost"]


# ---------------------------------------------------------------- a small shop, for real

WRONG = ["--max-wrong", "10%", "--of", "number", "--samples", "1", "--model", "standin-gemma-s"]


def state(folder):
    "Every file of a folder with its content."
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    "A shop of 80 test listings, every fourth without a title and a few without a picture, and what its command said."
    place = tmp_path_factory.mktemp("fill")
    os.makedirs(place / "shop")
    whole = load_catalogue(split="test")
    items = whole.items[whole.items["image"].notna() & whole.items["title"].notna()]
    items = items.drop_duplicates("parent_id").head(80)
    names = [os.path.basename(image) for image in items["image"]]
    for image in items["image"]:
        shutil.copy(os.path.join(whole.root, image), place / "shop")
    rows = pd.DataFrame(
        {"sku": items["item_id"], "name": items["title"], "photo": names, "category": items["category"]}
    )
    rows = rows.assign(note='=1+1, "kept"', price="7,50")
    rows.iloc[::4, 1] = ""
    rows.iloc[2::40, 2] = ""
    rows.to_csv(place / "shop" / "shop.csv", index=False, lineterminator="\r\n", encoding="utf-8-sig")
    before = state(place / "shop")
    done = typed("shop/shop.csv", *WRONG, "--pictures", "--device", "cpu", "--json", cwd=place)
    return place, rows, before, done


def test_the_shop_is_filled(filled):
    place, _, _, done = filled
    facts = json.loads(done.stdout)
    assert done.exit_code == 0, (done.stderr, facts)
    assert (facts["gaps"], facts["known"]) == (20, 58) and facts["promise"]["promised"] is True
    assert facts["filled"] + sum(facts["withheld"].values()) == 20 and facts["filled"] > 10
    assert facts["cost"]["output_tokens"] > 100 and facts["cost"]["seconds"] > 0
    for name in ("review.csv", "review.html", "report.html", "manifest.json", "settings.json"):
        assert (place / "filled/shop" / name).stat().st_size > 100


def test_nothing_of_the_shop_s_own_is_touched(filled):
    place, _, before, _ = filled
    assert state(place / "shop") == before


def test_the_import_file_differs_by_titles_alone(filled):
    place, _, _, done = filled
    (file,) = json.loads(done.stdout)["files"]
    new = pd.read_csv(place / file["path"], dtype=str, keep_default_na=False, encoding="utf-8-sig")
    old = pd.read_csv(place / "shop/shop.csv", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(new[old.columns].drop(columns="name"), old.drop(columns="name"))
    changed = new["name"] != old["name"]
    assert int(changed.sum()) == file["rows"] and (old["name"][changed] == "").all()
    raw, source = (place / file["path"]).read_bytes(), (place / "shop/shop.csv").read_bytes()
    kept = [line for line in source.split(b"\r\n")[1:] if line and b"," in line and not _gap(line)]
    assert len(kept) == 60 and all(line in raw for line in kept)


def _gap(line):
    return line.split(b",")[1] == b""


def test_pictures_are_marked_and_for_a_person(filled):
    place, rows, _, done = filled
    told = json.loads(done.stdout)["pictures"]
    lacking = set(rows.loc[(rows["photo"] == "") & (rows["name"] != ""), "sku"])
    table = pd.read_csv(place / told["table"], dtype=str)
    assert set(table["item_id"]) == lacking and told["drawn"] == len(lacking) == 2
    for file in table["file"]:
        assert read_mark((place / "filled/shop" / file).read_bytes()).drawn


def test_the_same_command_asks_nothing_again_in_a_process_of_its_own(filled):
    place, _, _, done = filled
    asked, first = state(place / "filled/shop/asked"), json.loads(done.stdout)
    (file,) = first["files"]
    before = (place / file["path"]).read_bytes()
    words = [
        str(Path(sys.executable).with_name("mmpc")),
        "fill",
        "shop/shop.csv",
        *WRONG,
        "--device",
        "cpu",
        "--json",
    ]
    again = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    facts = json.loads(again.stdout)  # One object and nothing else
    assert state(place / "filled/shop/asked") == asked and (place / file["path"]).read_bytes() == before
    assert {k: facts[k] for k in ("gaps", "filled", "withheld", "promise")} == {
        k: first[k] for k in ("gaps", "filled", "withheld", "promise")
    }


def test_a_person_s_decisions_make_the_final_file(filled):
    place = filled[0]
    shutil.copytree(place / "filled/shop", place / "decided")
    queue = pd.read_csv(place / "decided/review.csv", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    made = store.read_shards(str(place / "decided/suggestions"), tables.SUGGESTIONS)
    sure = queue["item_id"].isin(made.loc[made["status"] == "filled", "item_id"])
    edited, rejected = queue.loc[sure, "item_id"].iloc[:2]
    queue["decision"] = "accept"
    queue.loc[queue["item_id"] == edited, ["decision", "new_title"]] = ["edit", "A title of a person"]
    queue.loc[queue["item_id"] == rejected, "decision"] = "reject"
    queue.to_csv(place / "decisions.csv", index=False)
    final = typed(
        "shop/shop.csv",
        "--reviewed",
        "decisions.csv",
        "--rater",
        "Ada",
        "--out",
        "decided",
        "--json",
        cwd=place,
    )
    facts = json.loads(final.stdout)
    assert final.exit_code == 0, (final.stderr, facts)
    (file,) = facts["files"]
    new = pd.read_csv(place / file["path"], dtype=str, keep_default_na=False, encoding="utf-8-sig").set_index(
        "sku"
    )
    assert new["name"][edited] == "A title of a person" and new["name"][rejected] == ""
    assert facts["error_of_filled"]["reviewed"] == sure.sum() and facts["error_of_filled"]["wrong"] == 2
    assert new["title_source"].ne("").sum() == file["rows"]
    assert set(pd.read_csv(place / "decided/reviewed/ratings.csv")["rater"]) == {"Ada"}
    assert facts["next"][-1] == f"upload {file['path']}" and "reviewed/report.html" in facts["next"][0]


def test_where_nothing_can_be_promised_nothing_is_left_to_import(filled):
    place, _, _, done = filled
    shutil.copytree(place / "filled/shop", place / "strict")
    (file,) = json.loads(done.stdout)["files"]
    words = ["1%" if word == "10%" else word for word in WRONG]
    refused = typed("shop/shop.csv", *words, "--device", "cpu", "--out", "strict", cwd=place)
    assert refused.exit_code == 2 and (place / "strict" / os.path.basename(file["path"])).exists()
    strict = typed("shop/shop.csv", *words, "--device", "cpu", "--out", "strict", "--anew", cwd=place)
    assert strict.exit_code == 3 and "Nothing can be promised" in strict.stderr
    assert not (place / "strict" / os.path.basename(file["path"])).exists()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--pictures"], "--pictures belongs to the fill"),
        (["--anew"], "--anew belongs to the fill"),
        (["--max-wrong", "1%"], "--max-wrong was 0.05 when the titles were filled and is 0.01"),
        (["--of", "brand"], "--of was 'number' when the titles were filled and is 'brand'"),
        (["--max-wrong", "banana"], "--max-wrong must look like 5%"),
    ],
)
def test_a_review_does_not_pretend_to_change_what_was_promised(said, message, tmp_path):
    (tmp_path / "shop.csv").write_text("sku,title,image\na,,a.png\n")
    settings = {"max_wrong": 0.05, "risk": "number", "sure": 0.9, "model": "m"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text(json.dumps(settings))
    (tmp_path / "r.csv").write_text("item_id,decision\na,accept\n")
    done = typed("shop.csv", "--out", "out", "--reviewed", "r.csv", *said, cwd=tmp_path)
    assert done.exit_code == 2 and message in done.stderr


def test_settings_of_something_else_are_not_overwritten(tmp_path):
    (tmp_path / "settings.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is not of a fill, and would be overwritten"):
        check_settings(str(tmp_path), {"risk": "number"})
    assert (tmp_path / "settings.json").read_text() == "[1, 2]"
