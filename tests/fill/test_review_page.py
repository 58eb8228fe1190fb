"""The review page in a real browser: the keyboard alone, a reload, hostile titles, a telephone, and the file that comes out."""

import functools
import http.server
import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from review_rows import HOSTILE, suggested

from mmpc_analysis.catalogue.tables_for_people import csv_for_people
from mmpc_analysis.fill.review_decisions import read_reviews
from mmpc_analysis.fill.review_page import review_page, write_review_pages
from mmpc_analysis.fill.review_queue import queue_for_people, review_queue
from mmpc_analysis.report.wording import share


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "A folder with pictures."
    root, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    for n in range(3):
        Image.fromarray(rng.integers(0, 255, (90, 60, 3), dtype=np.uint8)).save(root / f"{n}.png")
    return root


def shop_queue(titles, status="withheld", **more):
    count = len(titles)
    rows = suggested(titles, [status] * count, list(np.linspace(0.05, 0.95, count)), **more)
    return review_queue(
        rows.assign(image=[f"{n % 4}.png" for n in range(count)])
    )  # Every fourth is not there


@pytest.fixture(scope="module")
def queue():
    return shop_queue([f"Kite {n}" for n in range(6)], removed=["Acme", None] * 3)


@pytest.fixture
def opened(browser, shop, tmp_path):
    "Opens a page from the disk in a window of its own, and says what it complained of."
    contexts, said = [], []

    def open_page(queue, name="review.html", context=None, address=None, **options):
        if address is None:
            (tmp_path / name).write_text(review_page(queue, str(shop)), "utf-8")
        if context is None:
            context = browser.new_context(accept_downloads=True, **options)
            contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on(
            "request",
            lambda r: (
                said.append(r.url)
                if not r.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1"))
                else None
            ),
        )
        page.goto(address or (tmp_path / name).as_uri())
        page.wait_for_selector("#review:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def decisions(page):
    "Code to decision and title, as the browser keeps them."
    data = page.evaluate("Object.entries(localStorage)")
    return {
        code: (d["decision"], d["title"])
        for _, text in data
        for code, d in json.loads(text)["decisions"].items()
    }


def downloaded(page, tmp_path):
    with page.expect_download() as waiting:
        press(page, "d")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_accept_edit_reject_undo_jump_and_download_by_keyboard(opened, queue, tmp_path):
    page = opened(queue)

    def title():
        return page.inner_text("#suggestion")

    assert title() == queue["suggestion"][0]
    press(page, "a", "r")
    assert title() == queue["suggestion"][2]
    press(page, "e", "Control+a")
    page.keyboard.type("Arrow and a kite")  # a, r, e, u in an editor are letters
    press(page, "Enter")
    assert title() == queue["suggestion"][3]
    press(page, "a", "u")
    assert title() == queue["suggestion"][3] and page.is_hidden("#state")
    press(page, "ArrowLeft", "ArrowLeft")
    assert title() == queue["suggestion"][1] and page.inner_text("#state") == "rejected"
    press(page, "g", "6", "Enter")
    assert title() == queue["suggestion"][5]
    press(page, "e", "x", "Escape", "n")  # Left without saving; the next open row is the fourth
    assert title() == queue["suggestion"][3]
    assert page.inner_text("#count") == "3 of 6 decided"
    path = downloaded(page, tmp_path)
    assert path.name == "reviewed.csv"
    reviews = read_reviews(path, queue)
    assert reviews["decision"].tolist() == ["accept", "reject", "edit", "open", "open", "open"]
    assert reviews["title"][2] == "Arrow and a kite" and reviews["title"][0] == queue["suggestion"][0]
    assert reviews.attrs == {"notes": [], "aside": []}


def test_the_same_decision_again_is_no_step_to_undo(opened, queue):
    page = opened(queue)
    press(page, "a", "ArrowLeft", "a", "ArrowLeft", "u")
    assert decisions(page) == {} and page.is_disabled("#undo")


def test_decisions_survive_a_reload_and_so_does_undo(opened, queue):
    page = opened(queue)
    press(page, "a", "r")
    page.reload()
    page.wait_for_selector("#review:not([hidden])")
    assert page.inner_text("#count") == "2 of 6 decided"
    assert page.inner_text("#suggestion") == queue["suggestion"][2]  # It goes on where it was left
    press(page, "u", "u", "u")
    assert page.inner_text("#count") == "0 of 6 decided"
    assert decisions(page) == {}


def test_a_page_made_again_finds_its_decisions_and_another_queue_does_not(opened, queue):
    page = opened(queue)
    press(page, "a", "a")
    context = page.context
    assert opened(queue, "again.html", context).inner_text("#count") == "2 of 6 decided"
    other = shop_queue([f"Kite {n}" for n in range(5)] + ["Ball"])  # The same items, one with another title
    assert opened(other, context=context).inner_text("#count") == "0 of 6 decided"  # At the same address


def test_two_windows_do_not_overwrite_each_other(opened, queue):
    one = opened(queue)
    two = opened(queue, context=one.context)
    press(one, "a")
    two.wait_for_function("document.getElementById('count').textContent.startsWith('1 of')")
    press(two, "n", "r")
    one.wait_for_function("document.getElementById('count').textContent.startsWith('2 of')")
    assert sorted(d for d, _ in decisions(one).values()) == ["accept", "reject"]


def test_served_by_http_it_works_the_same(opened, queue, shop, tmp_path):
    (tmp_path / "review.html").write_text(review_page(queue, str(shop)), "utf-8")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *words: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = opened(queue, address=f"http://127.0.0.1:{server.server_address[1]}/review.html")
        press(page, "a")
        page.reload()
        page.wait_for_selector("#review:not([hidden])")
        assert page.inner_text("#count") == "1 of 6 decided"
        assert read_reviews(downloaded(page, tmp_path), queue)["decision"].tolist().count("accept") == 1
    finally:
        server.shutdown()
        server.server_close()


def test_without_storage_it_works_and_says_so(opened, queue, tmp_path):
    page = opened(queue)
    page.evaluate(
        "void (Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') })"
    )
    press(page, "a")
    assert page.is_visible("#unkept")
    assert read_reviews(downloaded(page, tmp_path), queue)["decision"].tolist().count("accept") == 1


def test_where_storage_is_forbidden_it_works_and_says_so(opened, queue, browser):
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
    )
    page = opened(queue, context=context)
    assert page.is_visible("#unkept")
    press(page, "a", "u", "r")
    assert page.inner_text("#counts") == "0 accepted, 0 edited, 1 rejected"
    page.close()
    context.close()


@pytest.mark.parametrize(
    "kept", ["{", "null", "7", '{"decisions": null, "history": []}', '{"decisions": 1, "history": 2}']
)
def test_what_is_no_state_of_ours_is_passed_over(opened, queue, kept):
    page = opened(queue)
    page.evaluate("kept => localStorage.setItem(Object.keys(localStorage)[0], kept)", kept)
    page.reload()
    page.wait_for_selector("#review:not([hidden])")
    assert page.inner_text("#count") == "0 of 6 decided"
    press(page, "a")
    assert len(decisions(page)) == 1


def test_hostile_titles_are_text_and_the_file_is_the_queues_own(opened, tmp_path):
    hostile = shop_queue(HOSTILE, removed=list(HOSTILE), reason=HOSTILE[0]).assign(
        category=HOSTILE[0], other_cells=HOSTILE[0], item_id=list(HOSTILE)
    )
    page = opened(hostile)
    for row in hostile.itertuples():
        assert page.evaluate("document.getElementById('suggestion').textContent") == row.suggestion
        assert page.evaluate("document.querySelectorAll('#review img').length") == 1
        press(page, "ArrowRight")
    assert page.title() == "Titles to review"
    press(page, "g", "1", "Enter", *"ararararar")
    path = downloaded(page, tmp_path)
    expected = queue_for_people(hostile).assign(decision=["accept", "reject"] * 5)
    assert path.read_text("utf-8") == "\ufeff" + csv_for_people(
        expected
    )  # To the byte what the package writes
    assert read_reviews(path, hostile)["decision"].tolist() == ["accept", "reject"] * 5


def test_what_is_typed_cannot_run_and_is_warned_of(opened, queue, tmp_path):
    page = opened(queue)
    typed = ["=1+1", "'=1+1", "\u00a0@SUM(A1)", "\uff1dA1", "-5", '5" kite, red; "x"']
    warned = []
    for title in typed:
        press(page, "e", "Control+a")
        page.keyboard.insert_text(title)
        warned.append("can run as a formula" in page.inner_text("#warnings"))
        press(page, "Enter")
    assert warned == [True, True, True, True, False, False]
    reviews = read_reviews(downloaded(page, tmp_path), queue)
    assert reviews["title"].tolist() == ["=1+1", "'=1+1", "@SUM(A1)", "\uff1dA1", "-5", '5" kite, red; "x"']
    assert page.is_visible("#finished")


def test_a_title_over_the_limit_is_warned_of_while_it_is_typed(opened, queue):
    page = opened(queue)
    press(page, "e", "Control+a")
    page.keyboard.insert_text("\U0001fa81" * 150)  # Characters, not units of UTF-16
    assert page.inner_text("#length") == "150 of 150 characters" and page.inner_text("#warnings") == ""
    page.keyboard.type("ab")
    assert page.inner_text("#length") == "152 of 150 characters"
    assert page.inner_text("#warnings") == "Google Merchant takes 150 characters, this has 2 more."
    press(page, "Control+a", "Delete", "Enter")
    assert page.is_visible("#editor") and "no title yet" in page.inner_text("#warnings")
    press(page, "Escape")
    assert decisions(page) == {}


def test_an_edit_to_the_same_title_is_an_acceptance(opened, queue):
    page = opened(queue)
    press(page, "e", "End", "Space", "Enter")
    assert list(decisions(page).values()) == [("accept", "")]


def test_the_name_of_who_decides_goes_into_the_file(opened, queue, tmp_path):
    page = opened(queue)
    page.focus("#rater")
    page.keyboard.type("Ada r")
    page.focus("#suggestion")
    press(page, "a")
    assert set(read_reviews(downloaded(page, tmp_path), queue).query("decision == 'accept'")["rater"]) == {
        "Ada r"
    }


def test_keys_can_be_switched_off(opened, queue):
    page = opened(queue)
    page.focus("#keys")
    press(page, "Space", "a")
    assert decisions(page) == {}
    page.reload()
    page.wait_for_selector("#review:not([hidden])")
    press(page, "a")
    assert decisions(page) == {}
    page.focus("#accept")
    press(page, "Enter")
    assert list(decisions(page).values()) == [("accept", "")]


def test_keys_with_a_modifier_or_held_down_decide_nothing(opened, queue):
    page = opened(queue)
    press(page, "Control+a", "Alt+r")
    page.keyboard.down("a")
    page.keyboard.down("a")  # Held: the browser sends it again
    page.keyboard.up("a")
    assert len(decisions(page)) == 1


def test_the_list_shows_and_opens_rows(opened, queue):
    page = opened(queue)
    press(page, "a", "r")
    page.focus("#all summary")
    press(page, "Enter")
    page.wait_for_selector("#list li")  # Made when the list is opened
    assert page.locator("#list li:visible").count() == 6
    page.select_option("#filter", "reject")
    assert page.locator("#list li:visible").count() == 1
    page.focus("#list li:not([hidden]) button")
    press(page, "Enter")
    assert page.inner_text("#suggestion") == queue["suggestion"][1]


def test_a_row_shows_its_picture_or_why_there_is_none(opened, queue):
    page = opened(queue)
    for row in queue.itertuples():
        if row.picture == "3.png":
            assert page.is_hidden("#picture") and "3.png" in page.inner_text("#absent")
        else:
            assert page.evaluate("document.getElementById('picture').decode().then(() => true)")
            assert page.get_attribute("#picture", "alt") == f"Picture of the product in row {row.row}"
        assert page.is_visible("#reasons-part") == bool(row.reasons)
        assert (
            page.inner_text("#likely") == f"{row.likely[0].upper()}{row.likely[1:]} ({share(row.confidence)})"
        )
        press(page, "ArrowRight")


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark"), (320, "light")])
def test_it_fits_a_screen_and_a_telephone(opened, width, scheme):
    hostile = shop_queue([*HOSTILE, "w" * 300, "Kite"])
    page = opened(hostile, viewport={"width": width, "height": 800}, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == (scheme == "light")
    page.click("#all summary")
    for _ in range(len(hostile)):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        press(page, "e")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        press(page, "Escape", "ArrowRight")
    for name in ("accept", "edit", "reject", "undo", "next", "previous"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= width


def test_nothing_in_the_page_tells_the_sample(shop):
    rows = suggested([f"Kite {n}" for n in range(8)], ["filled", "withheld"] * 4, [0.7] * 8)
    rows["reason"] = [None, "confidence 0.70 is below the threshold 0.75"] * 4
    made = review_queue(rows.assign(image="0.png"), sample=2)
    page = review_page(made, str(shop))
    data = json.loads(re.search(r'id="review-data">(.*?)</script>', page, re.S)[1])
    assert not {"status", "probability"} & set(data["rows"][0])
    shown = pd.DataFrame(data["rows"]).drop(columns=["row", "suggestion", "item_id", "code"])
    assert len(shown.drop_duplicates()) == 1
    assert "withheld" not in page and "threshold" not in page


def test_a_long_queue_becomes_several_pages(browser, shop, tmp_path):
    made = shop_queue([f"Kite {n}" for n in range(7)])
    paths = write_review_pages(made, str(shop), str(tmp_path), rows=3)
    assert [p.rsplit("/")[-1] for p in paths] == ["review.html", "review-2.html", "review-3.html"]
    context, files = browser.new_context(accept_downloads=True), []
    for path in paths:
        page = context.new_page()
        page.goto(f"file://{path}")
        page.wait_for_selector("#review:not([hidden])")
        assert page.inner_text("#place").endswith("of 7")
        press(page, "a")
        files.append(downloaded(page, tmp_path))
    context.close()
    assert [file.name for file in files] == ["reviewed.csv", "reviewed-2.csv", "reviewed-3.csv"]
    reviews = read_reviews(files, made)
    assert reviews["decision"].tolist() == ["accept", "open", "open"] * 2 + ["accept"]
    few = write_review_pages(made, str(shop), str(tmp_path / "few"), rows=3, pages=2)
    words = "rows 4 to 6 of 7. The rows after 6 stand in review.csv alone"
    assert len(few) == 2 and words in Path(few[1]).read_text("utf-8")
    assert write_review_pages(made.head(0), str(shop), str(tmp_path / "none")) == []


def test_five_thousand_rows_open_soon(opened):
    made = shop_queue([f"Kite {n}" for n in range(5000)])
    start = time.perf_counter()
    page = opened(made)
    assert time.perf_counter() - start < 20
    press(page, "g", *"4999", "Enter", "a")
    assert page.inner_text("#suggestion") == made["suggestion"][4999]
    page.click("#all summary")
    page.wait_for_selector("#list li")
    assert page.locator("#list li").count() == 5000


def test_without_scripts_it_points_to_the_file(browser, shop, queue):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(review_page(queue, str(shop)))
    assert "review.csv beside it holds the same rows" in page.inner_text("body")
    context.close()


def test_what_is_refused(queue, shop, tmp_path):
    with pytest.raises(ValueError, match="nothing to review"):
        review_page(queue.head(0), str(shop))
    with pytest.raises(ValueError, match="rows and pages must be 1 or more, got 0 and 5"):
        write_review_pages(queue, str(shop), str(tmp_path), rows=0)
