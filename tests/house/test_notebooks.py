"""What a notebook has to be: what CONTRIBUTING asks of a page is checked here, not only advised.

A message says what to do. Where a rule makes a page worse, the notebook says why and the exception stands in EXCEPTIONS.
"""

import ast
import json
import re

import pytest
from notebooks import (
    HEAVY,
    MODULES,
    PACKAGE,
    Notebook,
    comments,
    every,
    first_line,
    imported,
    lines,
    module_level,
    modules,
    public,
    stand,
    text,
    undocumented,
    words,
)  # fmt: skip

LONGEST_CELL, PAGE = 40, 300  # Lines of code: no comments, docments, docstrings or blank lines
WORDS, KILOBYTES = 3, 400  # Words of prose per line of code; size of a stored notebook


# ---------------------------------------------------------------- the shape of a notebook


def test_there_are_notebooks_to_check():
    assert len(MODULES) >= 10, "the rules ran over nothing: are the notebooks in nbs/?"


@modules
def test_starts_with_a_title_and_a_question(notebook):
    first = text(notebook.cells[0]).strip()
    assert re.match(r"# \S.*\n+> \S[^\n]*\Z", first), (
        f"{notebook.name}: the first cell is `# Title` and `> one-line question`, nothing else; it is\n{first}"
    )


@every
def test_directives_come_first(notebook):
    wrong = []
    for code in notebook.code:
        rows = code.split("\n")
        head = next((i for i, row in enumerate(rows) if not row.startswith("#|")), len(rows))
        wrong += [row for row in rows[head:] if re.match(r"\s*#\|", row)]
        wrong += [
            row for row in rows[1:head] if re.match(r"#\| *(export|exporti|exports|default_exp)\b", row)
        ]
        wrong += [
            row
            for row in rows
            if re.match(r"\s*# +\| *(export|exporti|exports|default_exp|hide|eval)\b", row)
        ]
    stand(
        "directives",
        notebook,
        wrong,
        "a directive that is not at the top of its cell does nothing; move it to line 1:",
    )


@modules
def test_no_exported_cell_is_long(notebook):
    wrong = [f"{lines(c)} lines: {first_line(c)}" for c in notebook.exported if lines(c) > LONGEST_CELL]
    stand(
        "cell",
        notebook,
        wrong,
        f"split exported cells of more than {LONGEST_CELL} lines, each with its own reason and example:",
    )


@modules
def test_a_page_stays_a_page(notebook):
    count = sum(map(lines, notebook.exported))
    stand(
        "size",
        notebook,
        [count] if count > PAGE else [],
        f"more than {PAGE} lines of code; cut the page by its subject:",
    )


@modules
def test_prose_stands_beside_the_code(notebook):
    said, code = sum(map(words, notebook.prose)), sum(map(lines, notebook.exported))
    wrong = (
        [f"{said} words for {code} lines, {said / max(code, 1):.1f} a line"] if said < WORDS * code else []
    )
    stand(
        "prose",
        notebook,
        wrong,
        f"say why before each cell; fewer than {WORDS} words of prose per line of code:",
    )


@every
def test_links_lead_to_what_is_there(notebook):
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", "\n".join(notebook.prose), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose)
    wrong = [
        link
        for link in links
        if not re.match(r"[a-z]+:|attachment:", link) and not (notebook.path.parent / link).exists()
    ]
    stand("links", notebook, wrong, "a link names the file with its number, from the folder of its page:")


@every
def test_is_light_to_store(notebook):
    size = notebook.path.stat().st_size / 1e3
    stand(
        "weight",
        notebook,
        [f"{size:.0f} kB"] if size > KILOBYTES else [],
        f"show less, or smaller pictures; {KILOBYTES} kB is the limit:",
    )


@modules
def test_shows_results_and_refusals(notebook):
    shown = [c for c in notebook.cells if c["cell_type"] == "code" and c.get("outputs")]
    stand(
        "shows",
        notebook,
        [] if shown else ["no output is stored"],
        "run the notebook and save what it shows:",
    )
    raises = [ast.unparse(n) for n in ast.walk(notebook.tree) if isinstance(n, ast.Raise)]
    tested = any("test_fail" in c for c in notebook.code)
    advice = "it raises errors and shows none; add `#### What it refuses` with test_fail(..., contains=...):"
    stand("refusals", notebook, [] if tested else raises, advice)


@every
def test_stores_no_error(notebook):
    wrong = [f"{o['ename']}: {o['evalue']}" for o in notebook.outputs() if o["output_type"] == "error"]
    stand("errors", notebook, wrong, "a stored output is an error; run the notebook again:")


@every
def test_stores_figures_as_data_only(notebook):
    html = ["".join(o.get("data", {}).get("text/html", "")) for o in notebook.outputs()]
    wrong = [
        f"{len(h) / 1e3:.0f} kB of HTML" for h in html if re.search(r"<script|Plotly\.|plotly-graph-div", h)
    ]
    stand("figures", notebook, wrong, 'set plotly.io.renderers.default = "plotly_mimetype" and run again:')


@every
def test_stores_no_progress_bar(notebook):
    bar = re.compile(r"\d(it/s|s/it)|\?it/s|\d%\||widget-view\+json")
    wrong = [found[0] for o in notebook.outputs() if (found := bar.search(json.dumps(o)))]
    stand(
        "progress",
        notebook,
        wrong,
        "a stored output is a progress bar, which says nothing later; remove it, or pass progress=False:",
    )


@every
def test_writes_tex_with_one_backslash(notebook):
    prose = [re.sub(r"^```.*?^```|`[^`\n]*`", "", p, flags=re.M | re.S) for p in notebook.prose]
    maths = [m[0] for p in prose for m in re.finditer(r"\$\$.+?\$\$|\$[^$\n]+\$", p, re.S)]
    wrong = [broken for tex in maths for broken in re.findall(r"\\\\[A-Za-z]+", tex)]
    stand(
        "tex", notebook, wrong, "in TeX two backslashes end a line and the word is shown as it is; write one:"
    )


@every
def test_has_no_em_dash(notebook):
    wrong = [
        line for p in [*notebook.prose, *notebook.code] for line in p.split("\n") if "\N{EM DASH}" in line
    ]
    stand("dash", notebook, wrong, "write two sentences, a comma or a colon instead of an em dash:")


# ---------------------------------------------------------------- exported code


@modules
def test_every_parameter_return_and_field_is_explained(notebook):
    wrong = []
    for code in notebook.exported:
        said = comments(code)
        wrong += [w for name, node in public(ast.parse(code)) for w in undocumented(name, node, said)]
    stand(
        "docments",
        notebook,
        wrong,
        "one per line, each with `# (shape) meaning, unit`; without a comment are:",
    )


@modules
def test_every_public_name_has_a_docstring(notebook):
    wrong = []
    for name, node in [d for d in public(notebook.tree) if "." not in d[0]]:
        said = (ast.get_docstring(node) or "").strip().split("\n")[0]
        if len(said.split()) < 2 or said[-1] not in ".?":
            wrong.append(f"{name}: {said!r}")
    stand("docstring", notebook, wrong, "start with one line that ends in a full stop:")


@modules
def test_imports_nothing_heavy_at_the_top(notebook):
    wrong = [n for i in module_level(notebook.tree) for n in imported(i) if n.split(".")[0] in HEAVY]
    stand("imports", notebook, wrong, "import these inside the function that needs them:")


@modules
def test_has_no_star_import_and_no_fastcore(notebook):
    nodes = [n for n in ast.walk(notebook.tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    wrong = [ast.unparse(n) for n in nodes if any(a.name == "*" for a in n.names)]
    wrong += [
        ast.unparse(n) for n in nodes if any(m.split(".")[0] in ("fastcore", "nbdev") for m in imported(n))
    ]
    stand("star", notebook, wrong, "name what is imported, and keep fastcore to cells that only test:")


@modules
def test_raises_named_errors(notebook):
    wrong = []
    for node in ast.walk(notebook.tree):
        if isinstance(node, ast.Assert):
            wrong.append(f"assert {ast.unparse(node.test)}: raise ValueError with what came and what to do")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            wrong.append("bare except: name the error")
        if isinstance(node, ast.ExceptHandler) and swallows(node):
            wrong.append(f"except {ast.unparse(node.type)}: pass swallows every error")
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(raised, ast.Name) and raised.id in ("Exception", "BaseException", "AssertionError"):
                wrong.append(f"raise {raised.id}: use ValueError, TypeError or a named error")
        wrong += list(print_and_leave(node))
    stand("raise", notebook, wrong, "errors are raised with a name and a remedy:")


def swallows(handler):
    broad = isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    idle = [
        s
        for s in handler.body
        if not (isinstance(s, ast.Pass) or isinstance(getattr(s, "value", 0), ast.Constant))
    ]
    return broad and not idle


def print_and_leave(node):
    "Yield each print that is followed by a return of nothing."
    for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
        for one, two in zip(block or [], (block or [])[1:], strict=False) if isinstance(block, list) else []:
            call = one.value if isinstance(one, ast.Expr) else None
            printed = (
                isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"
            )
            empty = isinstance(two, ast.Return) and (two.value is None or ast.unparse(two.value) == "None")
            if printed and empty:
                yield f"{ast.unparse(one)} and then return: raise instead"


@modules
def test_has_no_global_random_state_and_no_unsafe_loading(notebook):
    source = ast.unparse(notebook.tree)
    wrong = re.findall(r"np\.random\.(?!default_rng|Generator|SeedSequence|PCG64)\w+", source)
    wrong += re.findall(r"\bpickle\b|trust_remote_code=True", source)
    for call in [n for n in ast.walk(notebook.tree) if isinstance(n, ast.Call)]:
        name = ast.unparse(call.func)
        plain = not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
        if name in ("eval", "exec", "os.system") or (name == "torch.load" and plain):
            wrong.append(ast.unparse(call))
    stand(
        "safety",
        notebook,
        wrong,
        "pass rng = np.random.default_rng(seed); load safetensors only; run no foreign code:",
    )


OPENERS = {
    "imread",
    "imdecode",
    "load_image",
    "load_images",
    "read_image",
    "decode_image",
    "decode_jpeg",
    "decode_png",
}
READERS = ("cv2", "imageio", "skimage.io", "torchvision.io", "PIL.ImageFile", "PIL.EpsImagePlugin")


def opened(tree):
    "Yield whatever opens a picture: Pillow under any name it is imported by, and readers of other libraries."
    pillow = {"PIL.Image"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            pillow |= {a.asname for a in node.names if a.name == "PIL.Image" and a.asname}
            pillow |= {f"{a.asname}.Image" for a in node.names if a.name == "PIL" and a.asname}
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").startswith("mmpc_analysis") or node.level:
                continue  # The door itself
            names = [f"{node.module}.{a.name}" for a in node.names]
            pillow |= {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" == "PIL.Image"}
        else:
            continue
        yield from (
            n for n in names if n == "PIL.Image.open" or f"{n}.".startswith(tuple(f"{r}." for r in READERS))
        )
        yield from (n for n in names if n.rsplit(".", 1)[-1] in OPENERS)
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]:
        door = ast.unparse(node.value) == "pictures"
        if (node.attr in OPENERS and not door) or (node.attr == "open" and ast.unparse(node.value) in pillow):
            yield ast.unparse(node)


@modules
def test_opens_no_picture_but_at_the_door(notebook):
    wrong = [] if notebook.module == "catalogue.pictures" else list(opened(notebook.tree))
    stand(
        "door",
        notebook,
        wrong,
        "read pictures with mmpc_analysis.catalogue.pictures, which knows formats and limits:",
    )


def test_the_door_is_the_one_place_and_every_module_is_looked_at():
    found = {
        p.relative_to(PACKAGE).as_posix(): list(opened(ast.parse(p.read_text("utf-8"))))
        for p in PACKAGE.rglob("*.py")
    }
    assert {name: places for name, places in found.items() if places} == {
        "catalogue/pictures.py": ["Image.open"]
    }


@modules
def test_makes_no_pattern_of_a_folder_s_name(notebook):
    calls = [n.func for n in ast.walk(notebook.tree) if isinstance(n, ast.Call)]
    wrong = [ast.unparse(f) for f in calls if isinstance(f, ast.Attribute) and f.attr in ("glob", "iglob")]
    stand("glob", notebook, wrong, "list files with store.list_files: a folder may be named 'run [v1]':")


# ---------------------------------------------------------------- the rules can fail

GOOD = '#| export\ndef rate(\n    x: float,  # Share, in [0, 1]\n) -> float:  # The same\n    "Give a share back."\n    return x'
BAD = [
    (test_starts_with_a_title_and_a_question, "x", "", "first cell is"),
    (test_directives_come_first, "# why\n#| export\nx = 1", "", "not at the top"),
    (test_directives_come_first, "#| hide\n#| export\nx = 1", "", "not at the top"),
    (test_no_exported_cell_is_long, "#| export\n" + "x = 1\n" * 41, "", "41 lines: x = 1"),
    (test_a_page_stays_a_page, "#| export\n" + "x = 1\n" * 301, "", "more than 300"),
    (test_prose_stands_beside_the_code, "#| export\n" + "x = 1\n" * 20, "", "fewer than 3 words"),
    (test_links_lead_to_what_is_there, "link", "", r"\.\./fill/signals\.ipynb"),
    (test_is_light_to_store, "x = 1\n" * 80_000, "", "400 kB is the limit"),
    (test_shows_results_and_refusals, "1", "", "no output is stored"),
    (test_shows_results_and_refusals, "#| export\nraise ValueError", "text", "shows none"),
    (test_stores_no_error, "1 / 0", "error", "ZeroDivisionError"),
    (test_stores_figures_as_data_only, "fig", "html", "plotly_mimetype"),
    (test_stores_no_progress_bar, "bar", "bar", "progress bar"),
    (test_stores_no_progress_bar, "bar", "widget", "progress bar"),
    (test_writes_tex_with_one_backslash, "tex", "", r"beta"),
    (test_has_no_em_dash, "# one \u2014 two", "", "two sentences"),
    (test_every_parameter_return_and_field_is_explained, GOOD.replace("  # Share, in [0, 1]", ""), "", r"rate\(x\)"),
    (test_every_parameter_return_and_field_is_explained, GOOD.replace("  # The same", ""), "", "rate -> float"),
    (test_every_parameter_return_and_field_is_explained, "#| export\ndef f(x, y): return x  # One line", "", r"f\(x\)"),
    (test_every_parameter_return_and_field_is_explained, "#| export\n@dataclass\nclass A:\n    x: int", "", r"A\.x"),
    (test_every_public_name_has_a_docstring, GOOD.replace('    "Give a share back."\n', ""), "", "rate: ''"),
    (test_imports_nothing_heavy_at_the_top, "#| export\ntry:\n    import torch.nn\nexcept ImportError:\n    raise", "", "torch"),
    (test_has_no_star_import_and_no_fastcore, "#| export\nfrom math import *", "", "import \\*"),
    (test_has_no_star_import_and_no_fastcore, "#| export\nfrom fastcore.test import test_eq", "", "fastcore"),
    (test_raises_named_errors, "#| export\nassert x", "", "assert x"),
    (test_raises_named_errors, "#| export\ntry: x\nexcept: pass", "", "bare except"),
    (test_raises_named_errors, "#| export\ntry: x\nexcept Exception: pass", "", "swallows"),
    (test_raises_named_errors, "#| export\nraise Exception('x')", "", "raise Exception"),
    (test_raises_named_errors, "#| export\ndef f():\n    print('no')\n    return None", "", "raise instead"),
    (test_has_no_global_random_state_and_no_unsafe_loading, "#| export\nnp.random.seed(0)", "", "seed"),
    (test_has_no_global_random_state_and_no_unsafe_loading, "#| export\ntorch.load(p)", "", r"torch\.load"),
    (test_opens_no_picture_but_at_the_door, "#| export\nfrom PIL import Image as I\nI.open(p)", "", r"I\.open"),
    (test_opens_no_picture_but_at_the_door, "#| export\nimport PIL.Image\nPIL.Image.open(p)", "", r"PIL\.Image\.open"),
    (test_opens_no_picture_but_at_the_door, "#| export\nfrom PIL.Image import open", "", r"PIL\.Image\.open"),
    (test_opens_no_picture_but_at_the_door, "#| export\nfrom skimage import io\nio.imread(p)", "", "skimage.io"),
    (test_opens_no_picture_but_at_the_door, "#| export\nimport cv2", "", "cv2"),
    (test_makes_no_pattern_of_a_folder_s_name, "#| export\nfs.glob(f'{name}/*.json')", "", r"fs\.glob"),
]  # fmt: skip
SHOWN = {
    "text": {"output_type": "stream", "name": "stdout", "text": "1"},
    "error": {
        "output_type": "error",
        "ename": "ZeroDivisionError",
        "evalue": "division by zero",
        "traceback": [],
    },
    "bar": {
        "output_type": "stream",
        "name": "stderr",
        "text": "Loading:  40%|####      | 2/5 [00:01<?, 3.1it/s]",
    },
    "widget": {
        "output_type": "display_data",
        "data": {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}},
        "metadata": {},
    },
    "html": {
        "output_type": "display_data",
        "data": {"text/html": "<script>Plotly.newPlot()</script>"},
        "metadata": {},
    },
}


def small_notebook(folder, code, shown):
    rows = [
        ("markdown", "# Toy\n\n> " + ("Why?" if code != "x" else "Why?\n\nBecause.")),
        ("code", "#| default_exp toy"),
        ("markdown", "A share goes in and comes out, so that the rules have a page which they accept. " * 2),
        ("code", GOOD),
        ("code", code),
    ]
    rows += [("markdown", r"A line of slope $\\beta$.")] * (code == "tex")
    rows += [("markdown", "Some [signals](../fill/signals.ipynb#x).")] * (code == "link")
    cells = [{"cell_type": kind, "source": source, "metadata": {}, "outputs": []} for kind, source in rows]
    cells[3]["outputs"] = [SHOWN["text"]] if code == GOOD else []
    cells[4]["outputs"] = [SHOWN[shown]] if shown else []
    path = folder / "05_toy.ipynb"
    path.write_text(json.dumps({"cells": cells}), "utf-8")
    return Notebook(path, folder)


@pytest.mark.parametrize(
    "rule", sorted({b[0] for b in BAD}, key=lambda f: f.__name__), ids=lambda f: f.__name__
)
def test_a_rule_accepts_a_good_page(tmp_path, rule):
    rule(small_notebook(tmp_path, GOOD, ""))


@pytest.mark.parametrize(
    ("rule", "code", "shown", "said"), BAD, ids=[f"{b[0].__name__}-{i}" for i, b in enumerate(BAD)]
)
def test_a_rule_catches_a_bad_page(tmp_path, rule, code, shown, said):
    with pytest.raises((AssertionError, pytest.fail.Exception), match=said):
        rule(small_notebook(tmp_path, code, shown))
