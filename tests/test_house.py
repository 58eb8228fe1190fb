"""The house rules, one small test each: what CONTRIBUTING asks of a notebook is checked here, not only advised.

A message says what to do. Where a rule makes a page worse, the notebook says why and the exception stands in EXCEPTIONS.
"""

import ast
import configparser
import hashlib
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mmpc_analysis"
HEAVY = {
    "PIL", "accelerate", "diffusers", "matplotlib", "plotly", "sacrebleu", "safetensors", "scipy", "skimage", "sklearn",
    "statsmodels", "torch", "torchvision", "transformers",
}  # fmt: skip
LONGEST_CELL, MEDIAN_CELL, PAGE = 40, 12, 360  # Exported lines; blank lines and docstrings are not counted
WORDS, KILOBYTES = 3, 400  # Words of prose per exported line; size of a stored notebook
# (rule, notebook) -> why the rule does not hold there
_DECLARED = "a declared table is a list of columns; its prose is the meaning column"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("median", "00_tables.ipynb"): _DECLARED,
    ("prose", "00_tables.ipynb"): _DECLARED,
    ("size", "00_tables.ipynb"): _DECLARED,
    ("median", "31_metrics.ipynb"): "a card is a row of a declared table",
}

# ---------------------------------------------------------------- reading notebooks


class Notebook:
    "A notebook as the rules see it."

    def __init__(self, path, folder=ROOT / "nbs"):
        self.path, self.name = path, path.relative_to(folder).as_posix()
        self.cells = json.loads(path.read_text("utf-8"))["cells"]
        self.code = [text(c) for c in self.cells if c["cell_type"] == "code"]
        self.exported = [body(c) for c in self.code if directive(c, "export|exporti|exports")]
        self.prose = [text(c) for c in self.cells if c["cell_type"] == "markdown"]
        found = re.search(r"^#\| *default_exp +(\S+)", "\n".join(self.code), re.M)
        self.module = found[1] if found else None
        number = re.match(r"(\d+)_", path.name)
        self.number = int(number[1]) if number else None

    @property
    def tree(self):
        return ast.parse("\n\n".join(self.exported))

    def outputs(self):
        return [o for c in self.cells for o in c.get("outputs", [])]


def text(cell):
    s = cell["source"]
    return "".join(s) if isinstance(s, list) else s


def directive(code, names):
    "Whether the leading directives of a cell hold one of the names."
    for line in code.split("\n"):
        if not line.startswith("#|"):
            return False
        if re.match(rf"#\| *({names})\b", line):
            return True
    return False


def body(code):
    return "\n".join(line for line in code.split("\n") if not line.startswith("#|")).strip("\n")


def lines(code):
    "Exported lines: what a reader must read as code, without directives, blank lines and docstrings."
    said = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            said |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(1 for n, line in enumerate(code.split("\n"), 1) if line.strip() and n not in said)


def words(prose):
    return len(re.findall(r"[^\W\d_][\w'-]*", re.sub(r"^```.*?^```", "", prose, flags=re.M | re.S)))


PATHS = sorted(
    p
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if not any(part[0] in "._" for part in p.relative_to(ROOT / "nbs").parts)
)
ALL = [Notebook(p) for p in PATHS]
MODULES = [n for n in ALL if n.module]
NUMBERS = {n.module: n.number for n in MODULES}

every = pytest.mark.parametrize("notebook", ALL, ids=lambda n: n.name)
modules = pytest.mark.parametrize("notebook", MODULES, ids=lambda n: n.name)


def stand(rule, notebook, wrong, advice):
    "Fail with every place of a notebook where a rule does not hold, unless an exception is on record."
    if wrong and (rule, notebook.name) not in EXCEPTIONS:
        places = "\n  ".join(str(w) for w in wrong)
        pytest.fail(f"{notebook.name}: {advice}\n  {places}", pytrace=False)


def first_line(code):
    return next((line for line in body(code).split("\n") if line.strip()), "")


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
def test_exported_cells_are_short(notebook):
    middle = statistics.median([lines(c) for c in notebook.exported] or [0])
    wrong = [f"{lines(c)} lines: {first_line(c)}" for c in notebook.exported if lines(c) > MEDIAN_CELL]
    advice = f"the median exported cell has {middle:g} lines, {MEDIAN_CELL} is the rule; the longer ones are"
    stand("median", notebook, wrong if middle > MEDIAN_CELL else [], advice)


@modules
def test_a_page_stays_a_page(notebook):
    count = sum(map(lines, notebook.exported))
    stand(
        "size",
        notebook,
        [count] if count > PAGE else [],
        f"more than {PAGE} exported lines; split the page in two:",
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
        f"say why before each cell; fewer than {WORDS} words of prose per exported line:",
    )


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
    assert shown, f"{notebook.name}: no output is stored; run the notebook and save what it shows"
    raises = [n for n in ast.walk(notebook.tree) if isinstance(n, ast.Raise)]
    assert not raises or any("test_fail" in c for c in notebook.code), (
        f"{notebook.name}: it raises errors and shows none; add `#### What it refuses` with test_fail(..., contains=...)"
    )


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
def test_has_no_em_dash(notebook):
    wrong = [
        line for p in [*notebook.prose, *notebook.code] for line in p.split("\n") if "\N{EM DASH}" in line
    ]
    stand("dash", notebook, wrong, "write two sentences, a comma or a colon instead of an em dash:")


# ---------------------------------------------------------------- exported code


def public(tree):
    "Public functions, methods and classes of a module's source, with their dotted names."
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name[0] != "_":
                        yield f"{node.name}.{inner.name}", inner


def comments(code):
    "Line numbers that carry a comment with words in it."
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return {t.start[0] for t in tokens if t.type == tokenize.COMMENT and re.search(r"\w", t.string)}


def is_dataclass(node):
    names = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any((n.id if isinstance(n, ast.Name) else getattr(n, "attr", "")) == "dataclass" for n in names)


def undocumented(name, node, said):
    "Parameters, returns and fields of a definition that no comment explains."
    if isinstance(node, ast.ClassDef):
        fields = [s for s in node.body if isinstance(s, ast.AnnAssign)] if is_dataclass(node) else []
        return [f"{name}.{f.target.id}" for f in fields if not said & set(range(f.lineno, f.end_lineno + 1))]
    a = node.args
    args = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
    args = [x for x in args if x.arg not in ("self", "cls")]
    ends = sorted([x.lineno for x in args] + [node.returns.lineno if node.returns else node.body[0].lineno])
    wrong = []
    for arg in args:
        until = min([e for e in ends if e > arg.lineno], default=arg.lineno + 1)
        shared = sum(x.lineno == arg.lineno for x in args) > 1
        if shared or not said & set(range(arg.lineno, until)):
            wrong.append(f"{name}({arg.arg})")
    returns = node.returns
    if returns is not None and not (isinstance(returns, ast.Constant) and returns.value is None):
        if not said & set(range(returns.lineno, node.body[0].lineno)):
            wrong.append(f"{name} -> {ast.unparse(returns)}")
    elif returns is None and any(isinstance(n, ast.Return) and n.value for n in ast.walk(node)):
        wrong.append(f"{name} -> (no annotation)")
    return wrong


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


def module_level(tree):
    "Import statements that run when a module is imported, without those for type checkers only."
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt | ast.ExceptHandler)]


def imported(node):
    return [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]


@modules
def test_imports_nothing_heavy_at_the_top(notebook):
    wrong = [n for i in module_level(notebook.tree) for n in imported(i) if n.split(".")[0] in HEAVY]
    stand("imports", notebook, wrong, "import these inside the function that needs them:")


@modules
def test_imports_only_from_smaller_numbers(notebook):
    wrong = []
    for node in [n for n in ast.walk(notebook.tree) if isinstance(n, ast.Import | ast.ImportFrom)]:
        if isinstance(node, ast.ImportFrom) and node.level:
            wrong.append(f"{ast.unparse(node)} (write the absolute name)")
        for name in imported(node):
            parts = name.split(".")
            if parts[0] == "mmpc_analysis":
                names = parts[1:2] or [a.name for a in node.names]
                wrong += [
                    f"{ast.unparse(node)}"
                    for m in names
                    if NUMBERS.get(m, -1) >= notebook.number and m != "__version__"
                ]
                wrong += [
                    f"{ast.unparse(node)} (no notebook)"
                    for m in names
                    if m not in NUMBERS and m != "__version__"
                ]
    stand(
        "order", notebook, wrong, f"a stage imports only from earlier stages; this one is {notebook.number}:"
    )


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
            names = [f"{node.module}.{a.name}" for a in node.names]
            pillow |= {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" == "PIL.Image"}
        else:
            continue
        yield from (
            n for n in names if n == "PIL.Image.open" or f"{n}.".startswith(tuple(f"{r}." for r in READERS))
        )
        yield from (n for n in names if n.rsplit(".", 1)[-1] in OPENERS)
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]:
        if node.attr in OPENERS or (node.attr == "open" and ast.unparse(node.value) in pillow):
            yield ast.unparse(node)


@modules
def test_opens_no_picture_but_at_the_door(notebook):
    wrong = [] if notebook.module == "pictures" else list(opened(notebook.tree))
    stand(
        "door", notebook, wrong, "read pictures with mmpc_analysis.pictures, which knows formats and limits:"
    )


def test_the_door_is_the_one_place_and_every_module_is_looked_at():
    found = {p.name: list(opened(ast.parse(p.read_text("utf-8")))) for p in PACKAGE.rglob("*.py")}
    assert {name: places for name, places in found.items() if places} == {"pictures.py": ["Image.open"]}


@modules
def test_makes_no_pattern_of_a_folder_s_name(notebook):
    calls = [n.func for n in ast.walk(notebook.tree) if isinstance(n, ast.Call)]
    wrong = [ast.unparse(f) for f in calls if isinstance(f, ast.Attribute) and f.attr in ("glob", "iglob")]
    stand("glob", notebook, wrong, "list files with tables.list_files: a folder may be named 'run [v1]':")


# ---------------------------------------------------------------- the package


def test_no_module_is_a_drawer():
    drawers = {"utils", "util", "helpers", "common", "misc", "tools"}
    names = {n.module for n in MODULES} | {p.stem for p in PACKAGE.glob("*.py")}
    assert not names & drawers, f"name {names & drawers} after what it holds"


def test_every_module_has_its_notebook():
    files = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "_modidx", "__main__"}
    assert files == set(NUMBERS), (
        f"without a notebook: {sorted(files - set(NUMBERS))}; without a module: {sorted(set(NUMBERS) - files)}; run nbdev-export"
    )
    assert len(set(NUMBERS.values())) == len(NUMBERS), f"two notebooks share a number: {NUMBERS}"


def python(code, cwd=ROOT):
    run = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("module", sorted(NUMBERS))
def test_a_module_imports_light(module):
    found = python(
        f"import sys, mmpc_analysis.{module}; print(*{{m.split('.')[0] for m in sys.modules}})"
    ).split()
    assert not HEAVY & set(found), (
        f"import mmpc_analysis.{module} brings {sorted(HEAVY & set(found))}; import them where used"
    )


def test_the_root_is_lazy():
    found = python("import sys, mmpc_analysis; print(*sys.modules)").split()
    early = [m for m in found if m.startswith("mmpc_analysis.") or m in ("numpy", "pandas")]
    assert not early, f"import mmpc_analysis brings {early}; use a module __getattr__ (PEP 562)"
    names = python(
        "import mmpc_analysis as m; print(*[n for n in m.__all__ if getattr(m, n, None) is None])"
    ).split()
    assert not names, f"mmpc_analysis.__all__ promises {names}, which are not there"
    modules = {p.stem for p in PACKAGE.glob("*.py")}
    twice = modules & set(python("import mmpc_analysis as m; print(*m.__all__)").split())
    assert not twice, f"{sorted(twice)} name a module too, which wins once it is imported; leave them out"
    shown = python("import mmpc_analysis as m; print(*(set(m.__all__) - set(dir(m))))").split()
    assert not shown, f"dir(mmpc_analysis) hides {shown}; define __dir__"


def test_the_root_imports_in_a_tenth_of_a_second():
    def seconds(code):
        start = time.perf_counter()
        python(code)
        return time.perf_counter() - start

    pairs = [(seconds("pass"), seconds("import mmpc_analysis")) for _ in range(7)]
    extra = min(b for _, b in pairs) - min(a for a, _ in pairs)
    assert extra <= 0.1, f"import mmpc_analysis takes {extra:.2f} s more than bare Python; 0.1 s is the limit"


def test_the_version_is_the_same_everywhere():
    settings = configparser.ConfigParser(delimiters=["="], interpolation=None)
    settings.read(ROOT / "settings.ini", "utf-8")
    version = settings["DEFAULT"]["version"]
    assert python("import mmpc_analysis; print(mmpc_analysis.__version__)").strip() == version
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    section = re.search(rf"^## +\[?v?{re.escape(version)}\]?.*?\n(.*?)(?=^## |\Z)", changes, re.M | re.S)
    assert section, f"CHANGELOG.md has no section `## {version}`"
    assert words(section[1]) >= 20, f"CHANGELOG.md says too little of {version}: what can one do with it?"


def test_pyproject_tells_nbdev_what_settings_say():
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", "utf-8")
    told, declared = settings["DEFAULT"], tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    nbdev, project = declared["tool"]["nbdev"], declared["project"]
    wrong = {k: v for k, v in nbdev.items() if str(v) != told.get(k, "").replace("true", "True")}
    assert not wrong, (
        f"[tool.nbdev] and settings.ini differ: {wrong}; settings.ini is the place to change them"
    )
    assert project["name"] == told["lib_name"]
    urls = {"Repository": told["git_url"], "Documentation": told["doc_host"] + told["doc_baseurl"]}
    assert project["urls"] == urls, f"[project.urls] differs from settings.ini: {urls}"
    fixed = set(project) - {"name", "dynamic", "urls"}
    assert not fixed, (
        f"pyproject.toml fixes {fixed}: name them in `dynamic`, settings.ini and setup.py say them"
    )


@pytest.mark.parametrize(
    "file", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", ".ci/run"]
)
def test_the_project_has(file):
    path = ROOT / file
    assert path.exists() and path.stat().st_size > 100, f"{file} is missing or empty"


# ---------------------------------------------------------------- in step


@pytest.fixture(scope="module")
def exported_again(tmp_path_factory):
    "A copy of the project in which the notebooks were cleaned and exported anew."
    copy = tmp_path_factory.mktemp("export")
    for name in ("settings.ini", "pyproject.toml", "_quarto.yml"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(
        ROOT / "nbs", copy / "nbs", symlinks=True, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    shutil.copytree(PACKAGE, copy / "mmpc_analysis", ignore=shutil.ignore_patterns("data", "__pycache__"))
    python("from nbdev.clean import nbdev_clean; nbdev_clean()", copy)
    python("from nbdev.doclinks import nbdev_export; nbdev_export()", copy)
    return copy


def test_modules_are_what_the_notebooks_export(exported_again):
    old = {p.name: p.read_text("utf-8") for p in PACKAGE.glob("*.py")}
    new = {p.name: p.read_text("utf-8") for p in (exported_again / "mmpc_analysis").glob("*.py")}
    wrong = sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
    assert not wrong, f"{wrong} are not what the notebooks export: edit the notebooks, then run nbdev-export"


def test_notebooks_are_clean(exported_again):
    wrong = [n.name for n in ALL if (exported_again / "nbs" / n.name).read_bytes() != n.path.read_bytes()]
    assert not wrong, f"{wrong} hold metadata that nbdev_clean takes out: run nbdev-clean"


def test_the_readme_is_what_the_index_says():
    run = subprocess.run(
        [sys.executable, "tools/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


# ---------------------------------------------------------------- the tree


def tracked():
    "Files that are or would be committed."
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
            "\0"
        )
    except (OSError, subprocess.CalledProcessError):
        return [p for p in ROOT.rglob("*") if p.is_file() and ".venv" not in p.parts]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine():
    places = [
        "/" + p
        for p in (
            "work/",
            "root/",
            "tmp/nbs",
            "opt/pypi",
            "home/[a-z]+/",
            "Users/[A-Za-z]+/",
            "tmp/[a-z]+src",
        )
    ]
    hosts = r"(?:index[-_]url|registry|find-links|GOPROXY)\W{1,4}https?://(?!pypi\.org|registry\.npmjs\.org)[\w.:-]+"
    pattern = re.compile("|".join([rf"(?<![\w.~}}-]){p}" for p in places] + [hosts]))
    wrong = []
    for path in tracked():
        raw = path.read_bytes()
        if b"\0" in raw[:4096] or path == Path(__file__).resolve():
            continue
        found = sorted({m[0] for m in pattern.finditer(raw.decode("utf-8", "replace"))})
        wrong += [f"{path.relative_to(ROOT)}: {f}" for f in found]
    assert not wrong, (
        "these hold only on one machine; use relative paths and plain package names:\n" + "\n".join(wrong)
    )


def test_no_file_is_too_big_to_clone():
    big = {p.relative_to(ROOT).as_posix(): p.stat().st_size / 1e6 for p in tracked()}
    wrong = {k: f"{v:.0f} MB" for k, v in big.items() if v > 25}
    assert not wrong, f"files over 25 MB: {wrong}"
    assert sum(big.values()) < 80, f"the tree holds {sum(big.values()):.0f} MB; 80 MB is the limit"


def test_no_pickle_is_shipped():
    bad = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
    wrong = [p.relative_to(ROOT).as_posix() for p in tracked() if p.suffix in bad]
    assert not wrong, (
        f"weights are safetensors, tables Parquet or CSV; these can run code when loaded: {wrong}"
    )


# ---------------------------------------------------------------- embedded data

CATALOGUE = PACKAGE / "data" / "catalogue"
STANDINS = PACKAGE / "data" / "standins"


def test_the_catalogue_says_where_it_comes_from():
    said = (CATALOGUE / "ATTRIBUTION.md").read_text("utf-8")
    rows = [row.split(",") for row in (CATALOGUE / "items.csv").read_text("utf-8").splitlines()[:1]]
    assert {"item_id", "source", "licence"} <= set(rows[0]), "items.csv needs the columns source and licence"
    import pandas as pd

    items = pd.read_csv(CATALOGUE / "items.csv", dtype=str)
    assert items["licence"].notna().all(), "every item has a licence"
    missing = sorted(name for name in items["source"].unique() if name not in said)
    assert not missing, f"ATTRIBUTION.md does not name {missing}"


def test_the_catalogue_is_what_its_manifest_says():
    hashes = json.loads((CATALOGUE / "hashes.json").read_text("utf-8"))
    hashes = hashes.get("files", hashes)
    have = {p.relative_to(CATALOGUE).as_posix() for p in CATALOGUE.rglob("*") if p.is_file()}
    pictures = {p for p in have if p.startswith("pictures/")}
    assert pictures <= set(hashes), (
        f"not in hashes.json: {sorted(pictures - set(hashes))[:5]}; run tools/build_catalogue.py"
    )
    wrong = [
        n
        for n, h in hashes.items()
        if n not in have or hashlib.sha256((CATALOGUE / n).read_bytes()).hexdigest() != h
    ]
    assert not wrong, (
        f"{len(wrong)} files are not what hashes.json says, such as {wrong[:5]}; run tools/build_catalogue.py"
    )


def test_every_standin_has_a_card_that_says_what_it_is():
    folders = sorted(p for p in STANDINS.iterdir() if p.is_dir())
    assert len(folders) >= 7, f"six models and a generator are shipped, there are {[p.name for p in folders]}"
    cards = json.loads((STANDINS / "standins.json").read_text("utf-8"))["models"]
    unfinished = [name for name, card in cards.items() if card.get("preliminary")]
    assert not unfinished, f"not trained to the end, run tools/train_standins.py: {unfinished}"
    assert set(cards) == {f.name for f in folders}, (
        "standins.json and the folders beside it name different models"
    )
    for folder in folders:
        assert list(folder.rglob("*.safetensors")), f"{folder.name} has no safetensors"
        said = (folder / "README.md").read_text("utf-8").lower() if (folder / "README.md").exists() else ""
        for word in ("stand-in", "seed", "nothing about"):
            assert word in said, (
                f"{folder.name}/README.md does not say {word!r}: data, seed, cost, scores, and that it proves nothing about the real model"
            )


# ---------------------------------------------------------------- the rules can fail

GOOD = '#| export\ndef rate(\n    x: float,  # Share, in [0, 1]\n) -> float:  # The same\n    "Give a share back."\n    return x'
BAD = [
    (test_starts_with_a_title_and_a_question, "x", "", "first cell is"),
    (test_directives_come_first, "# why\n#| export\nx = 1", "", "not at the top"),
    (test_directives_come_first, "#| hide\n#| export\nx = 1", "", "not at the top"),
    (test_no_exported_cell_is_long, "#| export\n" + "x = 1\n" * 41, "", "41 lines: x = 1"),
    (test_exported_cells_are_short, "#| export\n" + "x = 1\n" * 21, "", "median exported cell has 12.5"),
    (test_a_page_stays_a_page, "#| export\n" + "x = 1\n" * 361, "", "more than 360"),
    (test_prose_stands_beside_the_code, "#| export\n" + "x = 1\n" * 20, "", "fewer than 3 words"),
    (test_is_light_to_store, "x = 1\n" * 80_000, "", "400 kB is the limit"),
    (test_shows_results_and_refusals, "1", "", "no output is stored"),
    (test_shows_results_and_refusals, "#| export\nraise ValueError", "text", "shows none"),
    (test_stores_no_error, "1 / 0", "error", "ZeroDivisionError"),
    (test_stores_figures_as_data_only, "fig", "html", "plotly_mimetype"),
    (test_has_no_em_dash, "# one \u2014 two", "", "two sentences"),
    (test_every_parameter_return_and_field_is_explained, GOOD.replace("  # Share, in [0, 1]", ""), "", r"rate\(x\)"),
    (test_every_parameter_return_and_field_is_explained, GOOD.replace("  # The same", ""), "", "rate -> float"),
    (test_every_parameter_return_and_field_is_explained, "#| export\ndef f(x, y): return x  # One line", "", r"f\(x\)"),
    (test_every_parameter_return_and_field_is_explained, "#| export\n@dataclass\nclass A:\n    x: int", "", r"A\.x"),
    (test_every_public_name_has_a_docstring, GOOD.replace('    "Give a share back."\n', ""), "", "rate: ''"),
    (test_imports_nothing_heavy_at_the_top, "#| export\ntry:\n    import torch.nn\nexcept ImportError:\n    raise", "", "torch"),
    (test_imports_only_from_smaller_numbers, "#| export\nfrom mmpc_analysis.prompts import PROMPTS", "", "this one is 5"),
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
