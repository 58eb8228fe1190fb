"""The built site in a real browser: links, console, no request off the host, figures, search, no sideways scroll.

SCREENSHOTS=folder pytest tests/site/test_site.py    writes a picture of every page, for people to look at.
"""

import http.server
import importlib.util
import json
import os
import re
import threading
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
from conftest import ROOT

PLOTLY = "application/vnd.plotly.v1+json"
# Elements that reach over the right edge of the screen and are in no box that scrolls by itself
CUT_OFF = """() => {
    const boxed = (e) => { for (let p = e; p && p !== document.body; p = p.parentElement) {
        if (/auto|scroll/.test(getComputedStyle(p).overflowX)) return true; } return false; };
    const page = document.documentElement.scrollWidth > innerWidth ? ["the page scrolls sideways"] : [];
    const wide = [...document.querySelectorAll("main *, header *, footer *")].filter((e) => {
        const r = e.getBoundingClientRect();
        return r.width > 0 && r.height > 0 && r.right > innerWidth + 1 && !boxed(e); });
    return [...page, ...wide.map((e) => e.tagName + "." + (e.getAttribute("class") || "") + " to " +
        Math.round(e.getBoundingClientRect().right))];
}"""
IS_DARK = """() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)
    .reduce((sum, part) => sum + Number(part), 0) < 300"""


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "Folder of the site, built from the notebooks as they stand."
    before = Path.cwd()
    yield tool("build_site").build(tmp_path_factory.mktemp("site") / "docs")
    os.chdir(before)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def serve(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def address(site):
    server = serve(site)
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Watch:
    "A browser window that remembers what went wrong in it."

    def __init__(self, browser, address, width=1280, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=width < 500
        )
        self.page, self.wrong = self.context.new_page(), []
        note = self.wrong.append
        self.page.on(
            "console", lambda m: note(f"console: {m.text}") if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda e: note(f"error: {e}"))
        self.page.on("response", lambda r: note(f"{r.status} for {r.url}") if r.status >= 400 else None)
        self.page.on(
            "request",
            lambda r: None if r.url.startswith((address, "data:", "blob:")) else note(f"asks {r.url}"),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


def pages(site):
    return sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html"))


def with_figures(site):
    found = [p for p in pages(site) if 'class="plotly-figure"' in (site / p).read_text("utf-8")]
    assert found, "no page of the site has a plotly figure; a site about an analysis needs one"
    return found


def drawn(page):
    "Scroll to every figure of a page and wait until it is there."
    boxes = page.locator(".plotly-figure").all()
    for box in boxes:
        box.scroll_into_view_if_needed()
        page.wait_for_function("e => e.dataset.drawn === 'true'", arg=box.element_handle(), timeout=20000)
    return boxes


# ---------------------------------------------------------------- without a browser


def test_every_notebook_has_a_page_and_a_place_in_the_sidebar(site):
    plain = tool("build_site").plain_name
    config = (ROOT / "_quarto.yml").read_text("utf-8")
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        name = path.relative_to(ROOT / "nbs").as_posix()
        if ".ipynb_checkpoints" in name or Path(name).name.startswith("_"):
            continue
        assert (site / plain(name)).with_suffix(".html").exists(), f"{name} has no page"
        assert f" {name}\n" in config, f"{name} is not in the sidebar of _quarto.yml: add it to a section"
        if path.name[0].isdigit():
            head = (path.parent / "index.ipynb").read_text("utf-8")
            assert f"]({path.name})" in head, f"{name} is not in the table of {path.parent.name}/index.ipynb"
        elif path.name == "index.ipynb" and path.parent.name != "nbs":
            start = (ROOT / "nbs" / "index.ipynb").read_text("utf-8")
            assert f"]({name})" in start, (
                f"the room {path.parent.name} is not in the table of nbs/index.ipynb"
            )


def test_every_internal_link_has_its_target(site):
    broken = []
    for page in pages(site):
        if page.startswith("runs/"):
            continue
        text = (site / page).read_text("utf-8")
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            target, anchor = urldefrag(urljoin(f"http://site/{page}", link.replace("&amp;", "&")))
            if urlparse(target).netloc != "site":
                continue
            path = site / unquote(urlparse(target).path.lstrip("/"))
            path = path / "index.html" if path.is_dir() else path
            if not path.exists():
                broken.append(f"{page}: {link}")
            elif (
                anchor and path.suffix == ".html" and f'id="{unquote(anchor)}"' not in path.read_text("utf-8")
            ):
                broken.append(f"{page}: {link} (no such anchor)")
    assert not broken, "links that lead nowhere:\n" + "\n".join(sorted(set(broken)))


def test_the_figure_script_is_one_file_on_pages_with_a_figure_only(site):
    figured = with_figures(site)
    assert len(list(site.rglob("plotly*.js"))) == 1, "plotly.js must be there once for the whole site"
    for page in pages(site):
        if page.startswith("runs/"):
            continue
        loads = "plotly.min.js" in (site / page).read_text("utf-8")
        assert loads == (page in figured), f"{page} {'loads' if loads else 'lacks'} the figure script"


def test_nothing_names_another_host_for_a_font_or_script(site):
    for path in [p for p in site.rglob("*") if p.suffix in (".css", ".html")]:
        text = path.read_text("utf-8")
        loads = re.findall(
            r'@import[^;]{0,80}https?:|<script[^>]+src="https?:|<link[^>]+stylesheet[^>]+href="https?:', text
        )
        assert not loads, f"{path.relative_to(site)} loads from the network: {loads}"


def test_the_copies_for_agents_hold_no_figure_data(site):
    for path in site.rglob("*.llms.md"):
        text = path.read_text("utf-8")
        assert "<math" not in text and '"hovertemplate"' not in text, (
            f"{path.name} holds MathML or figure data"
        )
    for entry in json.loads((site / "search.json").read_text("utf-8")):
        assert '"hovertemplate"' not in entry["text"], f"the search text of {entry['href']} holds figure data"


def test_no_tex_and_no_reference_is_left_unread(site):
    for page in pages(site):
        if page.startswith("runs/"):
            continue
        text = re.sub(r"<(pre|code|script)\b.*?</\1>", "", (site / page).read_text("utf-8"), flags=re.S)
        assert 'class="math' not in text or "<math" in text, f"{page}: maths is not MathML"
        left = re.findall(r"@(?:fig|tbl|eq|sec)-\w+|\\\(.{1,40}\\\)", text)
        assert not left, f"{page}: left as written: {left}"


# ---------------------------------------------------------------- every name leads to its page and its source


@pytest.fixture(scope="module")
def documented():
    "Public functions and classes of every module: name to (page, anchor as nbdev links it, source links that are right)."
    import ast

    from mmpc_analysis._modidx import d

    blob = f"{d['settings']['git_url']}/blob/{d['settings']['branch']}"
    found = {}
    for module, symbols in d["syms"].items():
        file = f"{module.replace('.', '/')}.py"
        for node in ast.parse((ROOT / file).read_text("utf-8")).body:
            kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            if isinstance(node, kinds) and not node.name.startswith("_"):
                here = f"{module.partition('.')[2].replace('.', '/')}.html#{node.name}"
                if not isinstance(node, ast.AsyncFunctionDef):  # Which nbdev's index leaves out
                    here = symbols[f"{module}.{node.name}"][0]
                page, anchor = urldefrag(here)
                starts = {node.lineno, *(mark.lineno for mark in node.decorator_list)}
                found[node.name] = (page, anchor, {f"{blob}/{file}#L{n}" for n in starts})
    assert len(found) > 500, "the index of nbdev names hardly anything; run nbdev-export"
    return found


def wrong_anchors(site, documented):
    "Names whose page does not exist, is not their module's, or lacks their heading."
    for name, (page, anchor, sources) in documented.items():
        own = all(f"mmpc_analysis/{page.removesuffix('.html')}.py#" in source for source in sources)
        text = (site / page).read_text("utf-8") if (site / page).exists() else ""
        if f'id="{anchor}"' not in text or not own:
            yield f"{name}: no {page}#{anchor}"


def wrong_sources(site, documented):
    "Headings of names whose source link is not the line of the exported module on which the name begins."
    link = re.compile(r'<a href="([^"]+)"[^>]*>source</a></p>\s*<h\d id="[^"]+"[^>]*>(?:<strong>)?([^<]+)')
    for page in pages(site):
        for address, name in link.findall((site / page).read_text("utf-8")):
            home, _, sources = documented.get(name, ("no module", "", set()))
            if page != home or address not in sources:
                yield f"{page}: {name} (of {home}) says its source is {address}"


def wrong_links(site, documented):
    "Names in prose that lead to another page than the one of the module that defines them."
    for page in pages(site):
        if page.startswith("runs/"):
            continue
        text = (site / page).read_text("utf-8")
        for link, name in re.findall(r'<a href="([^"]+)"[^>]*><code>([\w.]+)(?:\(\))?</code></a>', text):
            target, anchor = urldefrag(urljoin(f"http://site/{page}", link.replace("&amp;", "&")))
            name = name.rpartition(".")[2]
            home, place, _ = documented.get(name, ("no module", "", set()))
            if target != f"http://site/{home}" or anchor not in ("", place):
                yield f"{page}: `{name}` (of {home}) leads to {link}"


def test_every_public_name_stands_on_the_page_of_its_module(site, documented):
    wrong = list(wrong_anchors(site, documented))
    assert not wrong, "names that the page of their module does not document:\n" + "\n".join(wrong)


def test_every_source_link_is_the_line_of_the_exported_module(site, documented):
    wrong = list(wrong_sources(site, documented))
    assert not wrong, "source links that lead elsewhere:\n" + "\n".join(wrong)


def test_every_name_in_prose_leads_to_the_module_that_defines_it(site, documented):
    wrong = list(wrong_links(site, documented))
    assert not wrong, "names that lead elsewhere:\n" + "\n".join(wrong)


def test_a_wrong_name_link_or_source_is_caught(tmp_path, documented):
    home, anchor, sources = documented["holm"]
    other = documented["max_t"]
    good = f'<p><a href="{min(sources)}">source</a></p>\n<h3 id="{anchor}">holm</h3><a href="multiplicity.html#{anchor}"><code>holm</code></a>'
    (tmp_path / home).parent.mkdir(parents=True)
    for text, wrong in ((good, 0), (good.replace(min(sources), min(other[2])), 1), (good.replace("multiplicity.html#", "levels.html#"), 1), ("", 1)):  # fmt: skip
        (tmp_path / home).write_text(text, "utf-8")
        checks = (wrong_anchors, wrong_sources, wrong_links)
        one = {"holm": documented["holm"]}
        assert sum(len(list(check(tmp_path, one))) for check in checks) == wrong, text


def test_no_page_documents_a_dunder(site):
    wrong = [
        f"{page}: {name}"
        for page in pages(site)
        for name in re.findall(r'class="fu">(__\w+__)<', (site / page).read_text("utf-8"))
    ]
    assert not wrong, f"export it with `#| exporti`, which documents nothing: {wrong}"


def test_the_address_in_a_module_s_docstring_is_its_page(site):
    import ast

    from mmpc_analysis._modidx import d

    base = d["settings"]["doc_host"] + d["settings"]["doc_baseurl"] + "/"
    for module in d["syms"]:
        said = ast.get_docstring(ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")))
        address = re.search(r"^Docs: (\S+)$", said, re.M)[1]
        page = module.partition(".")[2].replace(".", "/") + ".html"
        assert address == f"{base}{page}.md" and (site / page).exists() and (site / f"{page}.md").exists(), (
            f"{module} says that its page is {address}; export again, or mend the name of its notebook"
        )


# ---------------------------------------------------------------- in a browser


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_the_screen_and_stay_quiet(site, address, browser, width):
    shots, problems = os.environ.get("SCREENSHOTS"), []
    with Watch(browser, address, width) as window:
        page = window.page
        for name in pages(site):
            page.emulate_media(color_scheme="light")
            page.goto(address + name)
            drawn(page)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(120)
                for _ in range(0 if name.startswith("runs/") else 40):  # A busy machine is slow to switch
                    if page.evaluate(IS_DARK) == (scheme == "dark"):
                        break
                    page.wait_for_timeout(120)
                wide, dark = page.evaluate(CUT_OFF), page.evaluate(IS_DARK)
                if wide:
                    problems.append(f"{name}: wider than {width} px and not to be scrolled to: {wide[:3]}")
                if not name.startswith("runs/") and dark != (scheme == "dark"):
                    problems.append(f"{name}: is {'dark' if dark else 'light'} where {scheme} is asked for")
                if shots:
                    Path(shots).mkdir(parents=True, exist_ok=True)
                    file = f"{name.replace('/', '-').removesuffix('.html')}-{width}-{scheme}.png"
                    page.screenshot(path=str(Path(shots) / file), full_page=True)
            problems += [f"{name}: {w}" for w in window.wrong]
            window.wrong.clear()
    assert not problems, "\n".join(problems)


def test_the_sidebar_can_be_read_in_the_dark(site, address, browser):
    contrast = """() => {
        const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map((v) => v / 255);
            const f = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
        const ground = (e) => { for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255,255,255)'; };
        return [...document.querySelectorAll('#quarto-sidebar a.sidebar-link')].map((a) => {
            const x = light(getComputedStyle(a).color), y = light(ground(a));
            return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); });
    }"""
    for scheme in ("light", "dark"):
        with Watch(browser, address, 1280, scheme) as window:
            window.page.goto(address + "tables.html")
            window.page.wait_for_timeout(300)
            ratios = window.page.evaluate(contrast)
            assert ratios and min(ratios) >= 4.5, (
                f"{scheme}: sidebar contrast is {min(ratios, default=0):.1f}, WCAG asks 4.5"
            )


def test_a_phone_opens_and_closes_the_contents(site, address, browser):
    with Watch(browser, address, 390) as window:
        window.page.goto(address + "tables.html")
        link = window.page.locator("#quarto-sidebar a[href$='completion/prompts.html']").first
        assert not link.evaluate("e => e.getBoundingClientRect().right > 0"), (
            "the contents cover a phone's screen"
        )
        window.page.locator(".quarto-btn-toggle").first.click()
        window.page.wait_for_timeout(400)
        assert not link.is_visible(), "rooms are folded but for the one that is read"
        window.page.locator("#quarto-sidebar .sidebar-item-container").filter(
            has=window.page.get_by_text("Completion", exact=True)
        ).locator(".sidebar-item-toggle").click()
        link.click()
        window.page.wait_for_url(re.compile(r"prompts\.html"))
        assert not window.wrong, window.wrong


def test_a_figure_answers_to_hover_zoom_and_legend(site, address, browser):
    with Watch(browser, address) as window:
        page, hovered, zoomed, toggled = window.page, False, False, False
        for name in with_figures(site):
            page.goto(address + name)
            for box in page.locator(".plotly-figure").all():
                box.scroll_into_view_if_needed()
                page.wait_for_function(
                    "e => e.dataset.drawn === 'true'", arg=box.element_handle(), timeout=20000
                )
                hovered = hovered or hover(page, box)
                zoomed = zoomed or zoom(page, box)
                toggled = toggled or toggle(page, box)
        assert hovered, "no figure shows a label under the mouse"
        assert zoomed, "no figure zooms when a box is drawn in it"
        assert toggled, "no figure hides a trace when its legend entry is clicked"
        assert not window.wrong, window.wrong


def hover(page, box):
    "Move over a figure until a label shows."
    box.scroll_into_view_if_needed()
    drag = box.locator(".nsewdrag").first.bounding_box()
    if drag is None:
        return False
    for k in range(1, 20):
        for j in (0.3, 0.5, 0.7):
            page.mouse.move(drag["x"] + drag["width"] * k / 20, drag["y"] + drag["height"] * j)
            page.wait_for_timeout(40)
            if box.locator(".hoverlayer .hovertext").count():
                return True
    return False


def zoom(page, box):
    "Draw a box in a figure and see whether an axis follows."
    ranges = "e => { const l = e.querySelector('.js-plotly-plot')._fullLayout; return [l.xaxis?.range, l.yaxis?.range].join(); }"
    drag = box.locator(".nsewdrag").first.bounding_box()
    before = box.evaluate(ranges)
    page.mouse.move(drag["x"] + drag["width"] * 0.2, drag["y"] + drag["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(drag["x"] + drag["width"] * 0.7, drag["y"] + drag["height"] * 0.7, steps=5)
    page.mouse.up()
    page.wait_for_timeout(600)
    return box.evaluate(ranges) != before


def toggle(page, box):
    "Click the first legend entry and see whether its trace goes."
    entries = box.locator(".legendtoggle")
    if entries.count() < 2:
        return False
    page.mouse.move(0, 0)
    entries.first.click()
    page.wait_for_timeout(800)
    return box.evaluate(
        "e => e.querySelector('.js-plotly-plot').data.some((t) => t.visible === 'legendonly')"
    )


def test_a_figure_fits_a_phone(site, address, browser):
    with Watch(browser, address, 390) as window:
        window.page.goto(address + with_figures(site)[0])
        box = window.page.locator(".plotly-figure").first
        box.scroll_into_view_if_needed()
        window.page.wait_for_function(
            "e => e.dataset.drawn === 'true'", arg=box.element_handle(), timeout=20000
        )
        wide = box.evaluate("e => e.querySelector('svg.main-svg').getBoundingClientRect().width")
        assert wide <= 390, f"the figure is {wide} px wide on a 390 px screen"


def test_no_word_of_a_figure_is_cut_off_on_a_phone(site, address, browser):
    cut = """e => { const box = e.getBoundingClientRect();
        return [...e.querySelectorAll('.xtitle, .ytitle, .textpoint text, .annotation-text')].filter((t) => {
            const r = t.getBoundingClientRect();
            return r.width > 0 && (r.left < box.left - 1 || r.right > box.right + 1); }).map((t) => t.textContent); }"""
    wrong = []
    with Watch(browser, address, 390) as window:
        for name in with_figures(site):
            window.page.goto(address + name)
            wrong += [f"{name}: {text!r}" for box in drawn(window.page) for text in box.evaluate(cut)]
    assert not wrong, "words of figures that a phone cuts off:\n" + "\n".join(wrong)


@pytest.mark.parametrize(("word", "home"), [("hash_unit", "store"), ("validate", "tables")])
def test_search_finds_a_function(site, address, browser, word, home):
    with Watch(browser, address) as window:
        window.page.goto(address + "index.html")
        window.page.locator(".smalldocs-search input, #quarto-search input").first.fill(word)
        link = window.page.locator(f"a[href*='{home}.html']").filter(has_text=re.compile(word))
        link.first.wait_for(timeout=5000)
        link.first.click()
        window.page.wait_for_url(re.compile(rf"{home}\.html"))
        assert not window.wrong, window.wrong


# ---------------------------------------------------------------- the bridge by itself


def cell(kind, text, outputs=()):
    extra = {"outputs": list(outputs), "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": text, **extra}


@pytest.fixture
def toy(tmp_path):
    "A small project with everything the bridge changes."
    spec = {
        "data": [{"type": "bar", "x": ["</script>"], "y": [1]}],
        "layout": {"title": {"text": "A <b>toy</b>"}},
    }
    shown = {"output_type": "display_data", "metadata": {}, "data": {PLOTLY: spec}}
    table = {
        "output_type": "execute_result", "metadata": {}, "execution_count": None,
        "data": {"text/html": '<table border="1" class="dataframe"><thead><tr><th></th><th>name</th><th>score</th></tr></thead>'
                              "<tbody><tr><th>0</th><td>a</td><td>-1.5e-3</td></tr></tbody></table>"},
    }  # fmt: skip
    cells = [
        cell("raw", "---\ntitle: Toy\ndescription: A toy\noutput-file: toy.html\n---"),
        cell("markdown", "## Scale {#sec-scale}\n\nSee @fig-toy, @eq-mean and @sec-scale, `@fig-code`, [x](https://example.org/base/other.html#y)."),
        cell("markdown", "Inline $x_i^2$.\n\n$$\\bar{x} = \\frac{1}{n}\\sum_i x_i$$ {#eq-mean}\n\n[next](10_other.ipynb)"),
        cell("code", "#| label: fig-toy\n#| fig-cap: Bars\nfigure", [shown]),
        cell("code", "table", [table]),
    ]  # fmt: skip
    config = (
        "project: {type: website, output-dir: _docs}\nformat: {html: {theme: cosmo, html-math-method: mathml}}\n"
        "website:\n  title: Toy\n  site-url: https://example.org/base\n  llms-txt: true\n"
        "  sidebar: {contents: [index.ipynb, deep/00_toy.ipynb, 99_absent.ipynb]}\n"
    )
    (tmp_path / "_quarto.yml").write_text(config)
    (tmp_path / "deep").mkdir()
    for name, body in (("index", [cell("markdown", "# Home")]), ("deep/00_toy", cells), ("deep/10_other", [cell("markdown", "# O {#y}")]), ("other", [cell("markdown", "# P {#y}")])):  # fmt: skip
        nb = {"cells": body, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(nb))
    return tmp_path


def test_the_bridge_on_a_small_project(toy):
    build = tool("build_site")
    figures = build.bridge(toy)
    out = build.render(toy)
    build.finish(out, figures, ROOT / "nbs" / "figures.js")
    html = (out / "deep" / "toy.html").read_text("utf-8")
    assert list(figures) == ["plotly-deep-toy-1"]
    assert 'href="#fig-toy">Figure 1</a>' in html and 'href="#eq-mean">Equation 1</a>' in html
    assert 'href="#sec-scale">Scale</a>' in html and "@fig-code" in html
    assert (
        "<figcaption>Figure 1: Bars</figcaption>" in html
        and 'id="fig-toy"' in html
        and 'id="eq-mean"' in html
    )
    assert 'href="../other.html#y"' in html and 'href="other.html"' in html
    assert html.count("<math") == 2 and "katex" not in html
    assert html.count("</script>") == html.count("<script") and "\\u003c/script" in html
    assert (
        'src="../site_libs/figures/plotly.min.js"' in html and (out / "site_libs/figures/figures.js").exists()
    )
    assert 'aria-label="A toy"' in html
    assert (
        '<td class="number">-1.5e-3</td>' in html
        and '<th class="number">score</th>' in html
        and "<td>a</td>" in html
    )
    assert "site_libs/figures" not in (out / "other.html").read_text("utf-8")
    assert "@import" not in (out / "site_libs/themes/cosmo.min.css").read_text("utf-8")
    assert "A toy (an interactive figure)" in (out / "deep" / "toy.llms.md").read_text("utf-8")
    assert "absent" not in html


def test_the_bridge_leaves_to_quarto_what_quarto_can_do(toy):
    figures = tool("build_site").bridge(toy, quarto=True)
    text = (toy / "deep" / "toy.ipynb").read_text("utf-8")
    assert (
        "@fig-toy" in text
        and "{#eq-mean}" in text
        and "#| fig-cap: Bars" in text
        and "figcaption" not in text
    )
    assert len(figures) == 1 and PLOTLY not in text and "data-figure" in text and "00_toy" not in text


def test_a_signature_shows_no_link_as_text():
    signature = (
        "```python\ndef f(\n    x:int, # As [`g`](deep/toy.html#g) wants it\n)\n```\n\nSee [`g`](toy.html#g)."
    )
    out = {"output_type": "display_data", "data": {"text/markdown": signature}}
    nb = {"cells": [cell("code", "show_doc(f)", [out])]}
    tool("build_site").unlink_signatures(nb)
    shown = nb["cells"][0]["outputs"][0]["data"]["text/markdown"]
    assert "# As `g` wants it" in shown and "See [`g`](toy.html#g)." in shown


def test_the_bridge_refuses_a_reference_without_its_label(toy):
    build = tool("build_site")
    nb = json.loads((toy / "index.ipynb").read_text())
    nb["cells"].append(cell("markdown", "See @fig-absent."))
    (toy / "index.ipynb").write_text(json.dumps(nb))
    with pytest.raises(build.SiteError, match=r"index\.ipynb: @fig-absent refers to no label"):
        build.bridge(toy)


def test_a_broken_link_stops_the_build(toy):
    build = tool("build_site")
    nb = json.loads((toy / "index.ipynb").read_text())
    nb["cells"].append(cell("markdown", "[gone](gone.ipynb)"))
    (toy / "index.ipynb").write_text(json.dumps(nb))
    build.bridge(toy)
    with pytest.raises(build.SiteError, match="broken link"):
        build.render(toy)


def test_a_folder_of_other_things_is_not_overwritten(tmp_path):
    build = tool("build_site")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(build.SiteError, match="neither empty nor a built site"):
        build.build(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_readme_shows_callouts_links_and_output():
    write = tool("readme").write
    nb = {"cells": [
        cell("raw", "---\ntitle: Toy\ndescription: A toy\n---"),
        cell("markdown", "::: {.callout-warning}\n## Mind\n\nthe [gap](tutorials/00_gap.ipynb#a)\n:::\n\n[web](https://a.b/c.html)"),
        cell("code", "#| label: x\n1 + 1", [{"output_type": "execute_result", "data": {"text/plain": "2"}}]),
    ]}  # fmt: skip
    text = write(nb, "https://site/")
    assert "# Toy\n" in text and "> A toy" in text
    assert "> [!WARNING]\n> **Mind**\n>\n> the [gap](https://site/tutorials/gap.html#a)" in text
    assert "[web](https://a.b/c.html)" in text and "```python\n1 + 1\n```\n\n```text\n2\n```" in text
