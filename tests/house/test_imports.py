"""Where modules stand and what they import: one room after the other, light at the top, one home for every public name."""

import ast
import json
import time
from collections import defaultdict

import pytest
from notebooks import HEAVY, MODULES, PACKAGE, PLACES, ROOMS, modules, place, python, stand

FILES = {
    p.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    for p in PACKAGE.rglob("*.py")
    if p.name not in ("__init__.py", "_modidx.py", "__main__.py")
}


def sources(node):
    "The modules that an import statement names, each with the names taken from it."
    if isinstance(node, ast.Import):
        return [
            (a.name.removeprefix("mmpc_analysis."), [])
            for a in node.names
            if a.name.startswith("mmpc_analysis.")
        ]
    if not (node.module or "").startswith("mmpc_analysis"):
        return []
    base = node.module.removeprefix("mmpc_analysis").lstrip(".")
    inside = [(f"{base}.{a.name}".lstrip("."), a.name) for a in node.names]
    found = [(full, []) for full, _ in inside if full in PLACES]
    names = [name for full, name in inside if full not in PLACES and name != "__version__"]
    return found + ([(base, names)] if names else [])


def imports(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]


@modules
def test_imports_only_from_rooms_before_and_smaller_numbers(notebook):
    wrong = []
    for node in imports(notebook.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            wrong.append(f"{ast.unparse(node)} (write the absolute name)")
        for module, _ in sources(node):
            if module not in PLACES:
                wrong.append(
                    f"{ast.unparse(node)} (no notebook; import from the module, not from a room or the root)"
                )
            elif PLACES[module] >= notebook.place:
                wrong.append(ast.unparse(node))
    stand(
        "order",
        notebook,
        wrong,
        f"rooms stand in the order {', '.join(ROOMS)}, pages by number; later ones are",
    )


@modules
def test_imports_no_private_name_of_another_page(notebook):
    wrong = [
        f"{module}.{name}"
        for node in imports(notebook.tree)
        for module, names in sources(node)
        for name in names
        if name.startswith("_")
    ]
    stand("private", notebook, wrong, "what two pages need is public; give these a name without underscore:")


@pytest.mark.parametrize("later", ["report", "study"])
def test_nothing_but_the_report_and_the_study_imports_parity(later):
    users = {
        n.module.split(".")[0]
        for n in MODULES
        for i in imports(n.tree)
        for m, _ in sources(i)
        if m.startswith("parity.")
    }
    assert users <= {"parity", "report", "study"}, f"parity is for the report; {users} import it"


def test_mixed_imports_the_ground_only():
    found = {m for n in MODULES if n.room == "mixed" for i in imports(n.tree) for m, _ in sources(i)}
    wrong = {m for m in found if "." in m and not m.startswith("mixed.")}
    assert not wrong, f"mixed models could be released alone; they import {sorted(wrong)}"


@modules
def test_a_page_is_called_after_its_module(notebook):
    room, _, stem = notebook.module.rpartition(".")
    want = f"{room}/" * bool(room) + f"{notebook.number:02d}_{stem}.ipynb"
    assert notebook.name == want, f"{notebook.module} is exported by {want}, not by {notebook.name}"
    assert not room or room in ROOMS, f"there is no room {room}; ROOMS in notebooks.py has {', '.join(ROOMS)}"


def test_pages_have_modules_and_numbers_of_their_own():
    homes, numbers = defaultdict(list), defaultdict(list)
    for n in MODULES:
        homes[n.module].append(n.name)
        numbers[n.room, n.number].append(n.name)
    wrong = [names for names in [*homes.values(), *numbers.values()] if len(names) > 1]
    assert not wrong, (
        f"the last of two pages with one module wins without a word, and numbers order a room: {wrong}"
    )


def test_every_module_has_its_notebook():
    lost, missing = FILES - set(PLACES), set(PLACES) - FILES
    assert not lost, f"export deletes nothing; without a notebook are {sorted(lost)}: delete them"
    assert not missing, f"without a module: {sorted(missing)}; run nbdev-export"
    shadows = {m for m in FILES if "." not in m and (PACKAGE / m).is_dir()}
    assert not shadows, f"a room hides the module of its name: {shadows}"
    bare = [room for room in ROOMS if not (PACKAGE / room / "__init__.py").exists()]
    assert not bare, f"without __init__.py a wheel drops {bare}"


def test_no_module_is_a_drawer():
    drawers = {"utils", "util", "helpers", "common", "misc", "tools"}
    names = {part for module in PLACES for part in module.split(".")}
    assert not names & drawers, f"name {names & drawers} after what it holds"


def test_public_names_are_unique():
    homes = defaultdict(list)
    for n in MODULES:
        for node in n.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                homes[node.name].append(n.module)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for name in {x.id for t in targets for x in ast.walk(t) if isinstance(x, ast.Name)}:
                    homes[name].append(n.module)
    twice = {name: places for name, places in homes.items() if len(set(places)) > 1 and name[0] != "_"}
    assert not twice, f"a link of the documentation leads to the first of two; rename one of each: {twice}"


# Each module alone in a process of its own, which need not read pandas again: the processes are copies of one that did.
ALONE = """
import importlib, json, os, sys
import numpy, pandas
def tops():
    return sorted({name.split(".")[0] for name in sys.modules})
found = {"": tops()}
for module in sys.argv[1:]:
    read, write = os.pipe()
    if not os.fork():
        os.close(read)
        try:
            importlib.import_module(f"mmpc_analysis.{module}".rstrip("."))
            said = tops()
        except BaseException as problem:
            said = repr(problem)
        with os.fdopen(write, "w") as end:
            json.dump(said, end)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as end:
        found[module] = json.load(end)
    os.wait()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def brought():
    "What every module brings when it alone is imported, and what numpy and pandas bring, under the empty name."
    return json.loads(python(ALONE, *sorted(PLACES)))


def test_numpy_and_pandas_bring_nothing_heavy(brought):
    assert {"numpy", "pandas"} <= set(brought[""]) and "mmpc_analysis" not in brought[""]
    assert not HEAVY & set(brought[""]), "modules cannot be told from what they were copied from"


@pytest.mark.parametrize("module", sorted(PLACES))
def test_a_module_imports_light(module, brought):
    found = brought[module]
    assert isinstance(found, list) and "mmpc_analysis" in found, f"import mmpc_analysis.{module}: {found}"
    heavy = HEAVY & set(found)
    assert not heavy, f"import mmpc_analysis.{module} brings {sorted(heavy)}; import them where used"


def test_a_heavy_import_is_caught():
    "scipy is brought by the second alone: what one brings is not found with the next."
    found = json.loads(
        python(ALONE.replace("mmpc_analysis.", ""), "json", "scipy.stats", "csv", "no_such_module")
    )
    assert [bool(HEAVY & set(found[name])) for name in ("json", "scipy.stats", "csv")] == [False, True, False]
    assert "no_such_module" in found["no_such_module"] and isinstance(found["no_such_module"], str)


def test_the_root_is_lazy():
    found = python("import sys, mmpc_analysis; print(*sys.modules)").split()
    early = [m for m in found if m.startswith("mmpc_analysis.") or m in ("numpy", "pandas")]
    assert not early, f"import mmpc_analysis brings {early}; use a module __getattr__ (PEP 562)"
    names = python(
        "import mmpc_analysis as m; print(*[n for n in m.__all__ if getattr(m, n, None) is None])"
    ).split()
    assert not names, f"mmpc_analysis.__all__ promises {names}, which are not there"
    twice = ({*ROOMS} | {p.stem for p in PACKAGE.glob("*.py")}) & set(
        python("import mmpc_analysis as m; print(*m.__all__)").split()
    )
    assert not twice, f"{sorted(twice)} name a room too, which wins once it is imported; leave them out"
    shown = python("import mmpc_analysis as m; print(*(set(m.__all__) - set(dir(m))))").split()
    assert not shown, f"dir(mmpc_analysis) hides {shown}; define __dir__"


def test_homes_of_the_root_are_where_names_are_defined():
    import mmpc_analysis

    defined = {n.module: {name for node in n.tree.body for name in bound(node)} for n in MODULES}
    lazy = {
        n.module for n in MODULES if "def __getattr__" in ast.unparse(n.tree)
    }  # Made when first asked for
    homes = [(module, name) for name, module in mmpc_analysis._NAMES.items() if module not in lazy]
    wrong = [f"{module}.{name}" for module, name in homes if name not in defined.get(module, ())]
    assert not wrong, f"_HOMES in mmpc_analysis/__init__.py names other places than their own: {wrong}"


def bound(node):
    "Names that a statement of a module defines."
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return {x.id for t in targets for x in ast.walk(t) if isinstance(x, ast.Name)}


def test_the_root_imports_in_a_tenth_of_a_second():
    def seconds(code):
        start = time.perf_counter()
        python(code)
        return time.perf_counter() - start

    pairs = [(seconds("pass"), seconds("import mmpc_analysis")) for _ in range(7)]
    extra = min(b for _, b in pairs) - min(a for a, _ in pairs)
    assert extra <= 0.1, f"import mmpc_analysis takes {extra:.2f} s more than bare Python; 0.1 s is the limit"


# ---------------------------------------------------------------- the rules can fail


def toy(tmp_path, code, module="metrics.words", number=10):
    "A page with one exported cell."
    from notebooks import Notebook

    folder = tmp_path / module.split(".")[0]
    folder.mkdir()
    path = folder / f"{number}_{module.split('.')[1]}.ipynb"
    rows = [f"#| default_exp {module}", f"#| export\n{code}"]
    path.write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": r, "outputs": []} for r in rows]}), "utf-8"
    )
    return Notebook(path, tmp_path)


BAD = [
    ("from mmpc_analysis.scores.scoring import score", "later ones are"),  # A later room
    ("from mmpc_analysis.metrics.faithfulness import brand_hit", "later ones are"),  # A larger number
    ("from mmpc_analysis.metrics.words import jaccard", "later ones are"),  # Itself
    ("from mmpc_analysis.metrics import images", "later ones are"),  # A module of the room
    ("from mmpc_analysis import score", "no notebook"),  # The root, which is for users
    ("from .cards import METRICS", "absolute name"),
]


@pytest.mark.parametrize(("code", "said"), BAD, ids=[code for code, _ in BAD])
def test_the_order_catches_a_bad_import(tmp_path, code, said):
    with pytest.raises(pytest.fail.Exception, match=said):
        test_imports_only_from_rooms_before_and_smaller_numbers(toy(tmp_path, code))


def test_the_order_accepts_rooms_before_and_smaller_numbers(tmp_path):
    good = "from mmpc_analysis import tables\nfrom mmpc_analysis.metrics.cards import METRICS"
    test_imports_only_from_rooms_before_and_smaller_numbers(toy(tmp_path, good))
    assert (
        place("tables", 0) < place("store", 1) < place("catalogue.pictures", 0) < place("metrics.words", 10)
    )


def test_a_private_import_is_caught(tmp_path):
    with pytest.raises(pytest.fail.Exception, match=r"metrics\.cards\._ORDER"):
        test_imports_no_private_name_of_another_page(
            toy(tmp_path, "from mmpc_analysis.metrics.cards import _ORDER")
        )


def test_a_wrong_file_name_is_caught(tmp_path):
    page = toy(tmp_path, "x = 1")
    page.module = "metrics.other"
    with pytest.raises(AssertionError, match="exported by metrics/10_other"):
        test_a_page_is_called_after_its_module(page)
