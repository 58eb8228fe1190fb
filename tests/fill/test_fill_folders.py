"""Nothing that a fill did not write is written over, whatever it is called and whenever it comes; and two fills do not mix."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from test_filling import TITLES, Knowing, run
from test_filling import shop as shop

from mmpc_analysis.completion.checkpoints import BackendError
from mmpc_analysis.fill.fill_folders import begin_results, check_undecided, one_fill
from mmpc_analysis.fill.reviewed_fills import apply_review


def everything(folder):
    "All files of a folder with their bytes."
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def decided(out, decision="accept"):
    queue = pd.read_csv(Path(out, "review.csv"), dtype=str, keep_default_na=False)
    return queue.assign(decision=decision)


@pytest.mark.parametrize("name", ["review.csv", "report.html", "review.html", "manifest.json", "promises"])
def test_a_folder_with_results_of_something_else_is_left_alone(shop, name):
    out = shop.parent / "filled"
    out.mkdir()
    (out / name).write_text('{"stages": ["asked"]}')
    before = everything(shop.parent)
    with pytest.raises(ValueError, match="would be overwritten"):
        run(shop)
    assert everything(shop.parent) == before


def test_the_folder_of_the_shop_is_not_written_into_from_python_either(shop):
    before = everything(shop.parent)
    with pytest.raises(ValueError, match="where the shop's own files lie"):
        run(shop, out=".")
    (shop.parent / "links").mkdir()
    (shop.parent / "links" / "shop.csv").symlink_to(shop)
    for out in ("links", "."):
        with pytest.raises(ValueError, match="where the shop's own files lie"):
            run(shop.parent / "links" / "shop.csv", out=f"../{out}", root=str(shop.parent))
    assert {p: b for p, b in everything(shop.parent).items() if "links" not in p.parts} == before


def test_an_import_file_that_somebody_else_wrote_stays(shop):
    out = shop.parent / "filled"
    out.mkdir()
    (out / "shop-filled.csv").write_text("by hand")
    with pytest.raises(ValueError, match="was not written by a fill"):
        run(shop)
    assert (out / "shop-filled.csv").read_text() == "by hand"
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("suggestion,decision,new_title\nKite,accept,\n", "utf-8-sig"),
        ("suggestion;decision;new_title\nKäse;accept;\n", "cp1252"),
        ("suggestion\tdecision\tnew_title\nKite\t\tA better one\n", "utf-16"),
        ("suggestion,decision,new_title\nKite,,A better one\n", "utf-8"),
        ("suggestion,Decision\nKite,reject\n", "utf-8"),
    ],
)
def test_decisions_in_any_dialect_are_not_written_over(tmp_path, text, encoding):
    (tmp_path / "review.csv").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match="holds 1 decisions of a person"):
        check_undecided(str(tmp_path))


def test_python_keeps_decisions_too(shop):
    made, engine = run(shop)
    file = Path(made.out, "review.csv")
    decided(made.out).to_csv(file, index=False)
    before = everything(made.out)
    with pytest.raises(ValueError, match="decisions of a person"):
        run(shop, engine=engine)
    assert everything(made.out) == before


class Meddling(Knowing):
    "Something happens to the shop's files while the model is asked."

    def __init__(self, titles, meddle):
        super().__init__(titles)
        self.meddle = meddle

    def answer(self, r):
        self.meddle()
        return super().answer(r)


def test_a_file_that_changes_while_it_is_filled_is_not_filled(shop):
    made, _ = run(shop, max_wrong=0.2)
    before = {p: b for p, b in everything(made.out).items() if "asked" not in p.parts}
    new = shop.read_bytes().replace(b";red;8.png", b";blue;8.png")
    engine = Meddling(TITLES, lambda: shop.write_bytes(new))
    engine.identity = "another"  # So that it is asked
    with pytest.raises(ValueError, match="has changed while it was filled"):
        run(shop, engine=engine, max_wrong=0.2)
    assert {p: b for p, b in everything(made.out).items() if "asked" not in p.parts} == before


def test_decisions_that_come_while_the_model_is_asked_stay(shop):
    made, _ = run(shop)
    queue = decided(made.out)
    engine = Meddling(TITLES, lambda: queue.to_csv(Path(made.out, "review.csv"), index=False))
    engine.identity = "another"
    with pytest.raises(ValueError, match="decisions of a person"):
        run(shop, engine=engine)
    assert decided(made.out).equals(queue)


def test_a_second_fill_of_the_same_folder_is_refused_while_the_first_runs(shop):
    refused = []

    def second():
        if not refused:
            with pytest.raises(ValueError, match="another fill is writing"):
                run(shop)
            refused.append(True)

    made, _ = run(shop, engine=Meddling(TITLES, second))
    assert refused and len(made.files) == 1
    with one_fill(made.out), pytest.raises(ValueError, match="another fill is writing"):
        apply_review(made.out, decided(made.out))


def test_the_lock_ends_with_its_process(tmp_path):
    program = (
        "import os, sys, signal\nfrom mmpc_analysis.fill.fill_folders import one_fill\n"
        "with one_fill(sys.argv[1]):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ended.returncode != 0 and (tmp_path / "lock").exists()
    with one_fill(str(tmp_path)):
        pass


def test_an_unfinished_fill_is_not_reviewed_and_its_import_file_goes(shop):
    made, engine = run(shop)
    queue, file = decided(made.out), Path(made.files[0].path)
    begin_results(made.out, ["shop-filled.csv"], "title")
    assert not file.exists()
    file.write_text("half of another promise")
    with pytest.raises(ValueError, match="has not been finished"):
        apply_review(made.out, queue)
    strict, _ = run(shop, engine=engine, max_wrong=0.001)
    assert not strict.files and not file.exists()


def test_a_second_review_leaves_no_file_of_the_first(shop):
    made, _ = run(shop, max_wrong=0.001)  # Nothing is filled, so that all depends on the decisions
    queue = decided(made.out)
    stray = queue.head(1).assign(item_id="nobody", code="q000000000000")
    first = apply_review(made.out, pd.concat([queue, stray], ignore_index=True))
    assert Path(first.files[0].path).exists() and Path(first.out, "set_aside.csv").exists()
    second = apply_review(made.out, decided(made.out, "reject"))
    assert not second.files and not Path(first.files[0].path).exists()
    assert not Path(first.out, "set_aside.csv").exists()


def test_decisions_that_were_set_aside_are_mended_elsewhere(shop):
    made, _ = run(shop)
    first = apply_review(made.out, decided(made.out))
    file = Path(first.out, "set_aside.csv")
    decided(made.out, "reject").to_csv(file, index=False)
    before = everything(made.out)
    with pytest.raises(ValueError, match="would be written over"):
        apply_review(made.out, str(file))
    assert everything(made.out) == before


def test_a_review_of_nothing_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="there is no fill"):
        apply_review(str(tmp_path / "nowhere"), [])
    assert not (tmp_path / "nowhere").exists()


def test_a_manifest_that_is_broken_is_nobodys(shop):
    made, _ = run(shop)
    Path(made.out, "manifest.json").write_text('{"risk": "ti')
    with pytest.raises(ValueError, match="is not of a fill"):
        run(shop)


def test_a_file_outside_that_a_manifest_names_is_not_taken_away(shop):
    made, engine = run(shop)
    told = json.loads(Path(made.out, "manifest.json").read_text("utf-8"))
    Path(made.out, "manifest.json").write_text(json.dumps(told | {"files": ["../shop.csv", "../0.png"]}))
    os.remove(made.files[0].path)
    run(shop, engine=engine)
    assert shop.exists() and (shop.parent / "0.png").exists()


def test_an_engine_that_goes_away_again_and_again_is_asked_nothing_twice(shop):
    whole, engine = run(shop, out="whole", signals=None)
    seen, goes = [], 0
    while True:
        part = Knowing(TITLES, stops=engine.calls // 3)
        try:
            made, _ = run(shop, engine=part, signals=None)
        except BackendError:
            assert not Path(shop.parent, "filled", "shop-filled.csv").exists()
            continue
        finally:
            seen, goes = seen + part.seen, goes + 1
        break
    extra = Counter(map(str, seen)) - Counter(map(str, engine.seen))
    again = {(kind, thing[0]) for kind, *thing in seen if extra[str((kind, *thing))]}
    assert goes > 2 and set(map(str, seen)) == set(map(str, engine.seen))
    assert len(again) <= 4 * (goes - 1), "no more than the batch in which it went away"
    pd.testing.assert_frame_equal(
        made.suggestions.drop(columns="seconds"), whole.suggestions.drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(made.promises, whole.promises)
    assert Path(made.files[0].path).read_bytes() == Path(whole.files[0].path).read_bytes()


def test_a_disk_that_is_full_at_the_report_leaves_nothing_to_be_taken_for_finished(shop, monkeypatch):
    made, engine = run(shop)
    queue, before = decided(made.out), Path(made.files[0].path).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("mmpc_analysis.fill.filling.write_fill_report", full)
        run(shop, engine=engine, max_wrong=0.2)
    with pytest.raises(ValueError, match="has not been finished"):
        apply_review(made.out, queue)
    again, _ = run(shop, engine=engine)
    assert Path(again.files[0].path).read_bytes() == before
