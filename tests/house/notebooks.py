"""The notebooks as the house rules see them, and the message of a rule that does not hold."""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize

import pytest
from conftest import ROOT

NBS, PACKAGE = ROOT / "nbs", ROOT / "mmpc_analysis"
# The rooms in the order of the data: a module imports from rooms before its own, and from smaller numbers in its own
ROOMS = (
    "catalogue", "completion", "metrics", "scores", "parity", "mixed", "analysis", "recommendation", "alignment", "report",
    "fill", "study",
)  # fmt: skip
HEAVY = {
    "PIL", "accelerate", "datasets", "diffusers", "matplotlib", "peft", "plotly", "sacrebleu", "safetensors", "scipy", "skimage", "sklearn",
    "statsmodels", "torch", "torchvision", "transformers", "trl",
}  # fmt: skip
# (rule, notebook) -> why the rule does not hold there
_DECLARED = "a declared table is a list of columns; its prose is the meaning column"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("prose", "00_tables.ipynb"): _DECLARED,
    ("size", "00_tables.ipynb"): _DECLARED,
}


def place(module, number):
    "Where a module stands: its room's place, then its number; the ground comes first."
    room, _, _ = module.rpartition(".")
    return (ROOMS.index(room) + 1 if room else 0, number)


class Notebook:
    "A notebook as the rules see it."

    def __init__(self, path, folder=NBS):
        self.path, self.name = path, path.relative_to(folder).as_posix()
        self.cells = json.loads(path.read_text("utf-8"))["cells"]
        self.code = [text(c) for c in self.cells if c["cell_type"] == "code"]
        self.exported = [body(c) for c in self.code if directive(c, "export|exporti|exports")]
        self.prose = [text(c) for c in self.cells if c["cell_type"] == "markdown"]
        found = re.search(r"^#\| *default_exp +(\S+)", "\n".join(self.code), re.M)
        self.module = found[1] if found else None
        number = re.match(r"(\d+)_", path.name)
        self.number = int(number[1]) if number else None
        self.room = self.name.rpartition("/")[0]
        self.place = place(self.module, self.number) if self.module and number else None

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
    "Lines of code: without directives, blank lines, comments, docstrings and the docments of a signature."
    rows = code.split("\n")
    counted = {n for n, row in enumerate(rows, 1) if row.strip() and not row.lstrip().startswith("#")}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not isinstance(node, ast.ClassDef):
                counted -= set(range(node.lineno + 1, node.body[0].lineno))
            if ast.get_docstring(node, clean=False) is not None:
                counted -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(counted)


def words(prose):
    return len(re.findall(r"[^\W\d_][\w'-]*", re.sub(r"^```.*?^```", "", prose, flags=re.M | re.S)))


PATHS = sorted(
    p for p in NBS.rglob("*.ipynb") if not any(part[0] in "._" for part in p.relative_to(NBS).parts)
)
ALL = [Notebook(p) for p in PATHS]
MODULES = [n for n in ALL if n.module]
PLACES = {n.module: n.place for n in MODULES}

every = pytest.mark.parametrize("notebook", ALL, ids=lambda n: n.name)
modules = pytest.mark.parametrize("notebook", MODULES, ids=lambda n: n.name)


def stand(rule, notebook, wrong, advice):
    "Fail with every place of a notebook where a rule does not hold, unless an exception is on record."
    if wrong and (rule, notebook.name) not in EXCEPTIONS:
        places = "\n  ".join(str(w) for w in wrong)
        pytest.fail(f"{notebook.name}: {advice}\n  {places}", pytrace=False)


def first_line(code):
    return next((line for line in body(code).split("\n") if line.strip()), "")


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


def python(code, *words, cwd=ROOT):
    "What a fresh Python prints."
    run = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
