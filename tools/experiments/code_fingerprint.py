"""A fingerprint of code that changes when what it computes may change, and not when words do.

Comments, docstrings, annotations and the names of local variables are left out; what is left of the syntax tree is hashed. A stored
figure that carries the fingerprint of the pages it came from is out of date as soon as one of them computes something else.

    python tools/experiments/code_fingerprint.py analysis mixed
"""

import ast
import hashlib
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "mmpc_analysis"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class _Stripped(ast.NodeTransformer):
    "A tree without docstrings and annotations, its local variables numbered."

    def __init__(self):
        self.locals = [{}]

    def _body(self, node):
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(getattr(first, "value", None), ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def visit_Module(self, node):
        return self.generic_visit(self._body(node))

    def visit_ClassDef(self, node):
        return self.generic_visit(self._body(node))

    def visit_FunctionDef(self, node):
        node.returns = None
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        taken = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
        taken |= {n for d in ast.walk(node) if isinstance(d, ast.Global | ast.Nonlocal) for n in d.names}
        order = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in names - taken]
        outer = self.locals[-1]
        new = {
            name: f"_{len(outer) + k}"
            for k, name in enumerate(dict.fromkeys(n for n in order if n not in outer))
        }
        self.locals.append(outer | new)
        node = self.generic_visit(self._body(node))
        self.locals.pop()
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        return self.generic_visit(ast.Assign([node.target], node.value or ast.Constant(None)))

    def visit_Name(self, node):
        node.id = self.locals[-1].get(node.id, node.id)
        return node


def source_fingerprint(
    source: str,  # Python
) -> str:  # 16 hexadecimal digits
    "The fingerprint of one module's code."
    tree = _Stripped().visit(ast.parse(source))
    return hashlib.sha256(ast.dump(tree, annotate_fields=False).encode()).hexdigest()[:16]


def code_fingerprint(
    *names: str,  # Rooms or modules of the package, such as mixed or scores.averages
) -> str:  # 16 hexadecimal digits
    "The fingerprint of rooms and modules together."
    paths = []
    for name in names:
        at = PACKAGE / name.replace(".", "/")
        paths += sorted(at.glob("*.py")) if at.is_dir() else [at.with_suffix(".py")]
    prints = [
        f"{path.relative_to(PACKAGE)} {source_fingerprint(path.read_text(encoding='utf-8'))}"
        for path in sorted(set(paths))
    ]
    return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16]


if __name__ == "__main__":
    print(code_fingerprint(*sys.argv[1:]))
