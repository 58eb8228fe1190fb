"""Build the documentation and analysis site: `python tools/site/build_site.py [--out _docs] [--quarto]`.

nbdev turns every notebook into a page, the bridge below makes those copies fit the renderer, smalldocs or Quarto draws
them from the one `_quarto.yml`, and a last pass adds the shared figure script. The sources are never changed.

Quarto is used when it is installed or asked for; without it smalldocs renders the same pages. The tests cover smalldocs.
"""

from __future__ import annotations

import argparse
import ast
import html
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PLOTLY = "application/vnd.plotly.v1+json"
NUMBER = re.compile(r"(?:^|(?<=/))\d+[a-zA-Z0-9]*_(?=[^/]*\.ipynb$)")
KINDS = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "sec": "Section"}
# What smalldocs says of options that are there for Quarto, and that it may ignore
IGNORED = ("format.html.html-math-method is ignored", ": output-file is not read by smalldocs")


class SiteError(Exception):
    "The site cannot be built as it stands; the message says why and what to do."


# ---------------------------------------------------------------- notebooks to pages


def process() -> Path:  # The folder `_proc`, with one processed copy per notebook
    "Let nbdev process every notebook: documentation of exported names, hidden cells out, links in."
    import fastcore.docments
    from nbdev import processors
    from nbdev.serve import proc_nbs

    processors._do_eval = needed
    fastcore.docments.signature = written_signature
    os.chdir(ROOT)
    (ROOT / "_proc").mkdir(exist_ok=True)
    return Path(proc_nbs(force=True, n_workers=0))


def written_signature(
    symbol,  # A function or class
    eval_str: bool = True,  # Whether to resolve annotations
) -> inspect.Signature:  # Its signature
    "Take annotations as written where their module is imported for type checkers only; nbdev alone stops there."
    try:
        return inspect.signature(symbol, eval_str=eval_str)
    except NameError:
        return inspect.signature(symbol)


def needed(
    cell,  # A notebook cell, as nbdev reads it
) -> bool:  # Whether a page cannot be documented without running it
    "Run exports and plain imports only; nbdev alone also runs any cell that happens to import something."
    if cell.cell_type != "code" or cell.directives_.get("eval:") == ["false"]:
        return False
    from nbdev.processors import _show_docs as show_docs

    exported = {"export", "exporti", "exports", "exec_doc"} & set(cell.directives_)
    statements = cell.parsed_() or []
    imports = bool(statements) and all(isinstance(s, ast.Import | ast.ImportFrom) for s in statements)
    return bool(exported or imports or show_docs(statements))


def plain_name(
    path: str,  # A notebook's path or link, such as `tutorials/10_shop.ipynb`
) -> str:  # The path without the stage number, as nbdev names the page
    "Take the number off a notebook's name."
    return NUMBER.sub("", path)


def source(
    cell: dict,  # A notebook cell
) -> str:  # Its source as one string
    "Join a cell's source, which may be stored as a list of lines."
    s = cell.get("source", "")
    return "".join(s) if isinstance(s, list) else s


def option(
    cell: dict,  # A code cell
    key: str,  # A Quarto option, such as `fig-cap`
) -> str | None:  # Its value, None where the cell does not set it
    "Read one `#| key: value` line of a cell."
    found = re.search(rf"^#\| *{key}: *(.+)$", source(cell), re.M)
    return yaml.safe_load(found[1]) if found else None


def outside_code(
    text: str,  # Markdown
    change,  # str -> str, applied to what is not code
) -> str:  # The Markdown with its prose changed and its code as it was
    "Change prose and leave fenced blocks and `inline code` alone."
    parts = re.split(r"(^```.*?^```[^\n]*$|`[^`\n]+`)", text, flags=re.M | re.S)
    return "".join(p if i % 2 else change(p) for i, p in enumerate(parts))


# ---------------------------------------------------------------- the bridge


def collect_figures(
    nb: dict,  # A processed notebook, changed in place
    page: str,  # Its plain name without suffix, which names its figures
    captions: bool,  # Whether the bridge writes the caption (Quarto writes its own)
) -> dict[str, str]:  # The JSON of each figure, by the id of its place in the page
    "Put a named place where each plotly figure is; `finish` fills it once the page is drawn."
    found: dict[str, str] = {}
    for cell in nb["cells"]:
        for out in cell.get("outputs", []):
            spec = out.get("data", {}).get(PLOTLY)
            if spec is None:
                continue
            name = f"plotly-{page.replace('/', '-')}-{len(found) + 1}"
            found[name] = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
            title = re.sub(r"<[^>]+>", " ", (spec.get("layout", {}).get("title") or {}).get("text", ""))
            label = html.escape(" ".join(title.split()) or "Figure")
            height = int(spec.get("layout", {}).get("height") or 450)
            place = (
                f'<div class="plotly-figure" id="{name}" data-figure="{name}" role="group" aria-label="{label}" '
                f'style="min-height:{height}px"><p class="plotly-words">{label} (an interactive figure)</p></div>'
            )
            caption = option(cell, "fig-cap") if captions else None
            if caption:
                place = (
                    f'<figure class="figure">{place}<figcaption>{html.escape(caption)}</figcaption></figure>'
                )
            out["data"] = {"text/html": place}
    return found


def find_labels(
    nb: dict,  # A processed notebook
) -> dict[str, str]:  # What a reference to each label says, such as {"fig-scale": "Figure 1"}
    "Number the labelled figures, tables and equations of a page in reading order; a section goes by its heading."
    names, counts = {}, dict.fromkeys(KINDS, 0)
    labelled = re.compile(r"\{#((fig|tbl|eq|sec)-[\w-]+)[^}]*\}|^#\| *label: *((fig|tbl)-[\w-]+)", re.M)
    for cell in nb["cells"]:
        text = source(cell)
        for m in labelled.finditer(text):
            label, kind = m[1] or m[3], m[2] or m[4]
            counts[kind] += 1
            names[label] = f"{KINDS[kind]} {counts[kind]}"
            if kind == "sec":
                names[label] = text[: m.start()].rsplit("\n", 1)[-1].strip("# ").strip() or names[label]
    return names


def number_references(
    nb: dict,  # A processed notebook, changed in place
    page: str,  # Its name, for the message
) -> None:
    "Write the numbers of cross-references, captions and equations, which smalldocs has not."
    names = find_labels(nb)

    def refer(m: re.Match) -> str:
        if m[1] not in names:
            raise SiteError(
                f"{page}: @{m[1]} refers to no label of this page; it has {', '.join(names) or 'none'}"
            )
        return f"[{names[m[1]]}](#{m[1]})"

    def prose(text: str) -> str:
        text = re.sub(
            r"!\[([^\]]*)\](\([^)]*\)\{#(fig-[\w-]+))", lambda m: f"![{names[m[3]]}: {m[1]}]{m[2]}", text
        )
        text = re.sub(r"^: (.*\{#(tbl-[\w-]+))", lambda m: f": {names[m[2]]}: {m[1]}", text, flags=re.M)
        text = re.sub(
            r"(\$\$.*?\$\$) *\{#(eq-[\w-]+)\}",
            lambda m: f"\n::: {{#{m[2]} .numbered-equation}}\n{m[1]}\n\n({names[m[2]].split()[-1]})\n:::\n",
            text,
            flags=re.S,
        )
        return re.sub(r"(?<![\w/@])@((?:fig|tbl|eq|sec)-[\w-]*\w)", refer, text)

    for cell in nb["cells"]:
        text, label = source(cell), option(cell, "label")
        if cell["cell_type"] == "markdown":
            cell["source"] = outside_code(text, prose)
        elif label in names:
            for key in ("fig-cap", "tbl-cap"):
                if caption := option(cell, key):
                    line = f"#| {key}: {json.dumps(f'{names[label]}: {caption}', ensure_ascii=False)}"
                    text = re.sub(rf"^#\| *{key}:.*$", lambda _, line=line: line, text, flags=re.M)
            cell["source"] = text


def unlink_signatures(
    nb: dict,  # A processed notebook, changed in place
) -> None:
    "Take links out of the signatures that nbdev shows: inside code a link would be read as it is written."
    link = re.compile(r"\[(`[^`\n]+`)\]\([^)\s]*\)")
    for cell in nb["cells"]:
        for out in cell.get("outputs", []):
            text = "".join(out.get("data", {}).get("text/markdown", ""))
            if "```" in text:
                fenced = re.compile(r"^```.*?^```", re.M | re.S)
                out["data"]["text/markdown"] = fenced.sub(lambda m: link.sub(r"\1", m[0]), text)


def relative_links(
    text: str,  # A processed notebook as JSON
    site: str,  # The published address, ending in a slash
    depth: int,  # Folders between the page and the site's top
) -> str:  # The same with links that also work from a local copy
    "Make links to the published site relative, and links to numbered notebooks plain."
    text = text.replace(site, "../" * depth)
    return re.sub(r"(?<=\]\()[^()\s\"]+\.ipynb", lambda m: plain_name(m[0]), text)


def bridge(
    folder: Path,  # Processed notebooks, `_quarto.yml` and assets; changed in place
    quarto: bool = False,  # Whether Quarto renders them, which numbers references and captions itself
) -> dict[str, str]:  # The JSON of every figure of the site, by the id of its place
    "Make processed notebooks fit the renderer."
    figures: dict[str, str] = {}
    config = yaml.safe_load((folder / "_quarto.yml").read_text("utf-8"))
    site = config["website"].get("site-url", "https://localhost").rstrip("/") + "/"
    for path in sorted(folder.rglob("*.ipynb")):
        rel = path.relative_to(folder)
        name = plain_name(rel.as_posix())
        nb = json.loads(relative_links(path.read_text("utf-8"), site, len(rel.parts) - 1))
        if not quarto:
            number_references(nb, name)
        unlink_signatures(nb)
        figures |= collect_figures(nb, name.removesuffix(".ipynb"), captions=not quarto)
        path.unlink()
        (folder / name).write_text(json.dumps(nb), "utf-8")
    if quarto:
        config["website"].pop("llms-txt", None)  # Quarto before 1.9 refuses the key
    bridge_config(folder, config)
    return figures


def bridge_config(
    folder: Path,  # The folder to render
    config: dict,  # Its `_quarto.yml`, changed in place and written back
) -> None:
    "Name the pages as they are called here, and leave out the run's report where no run was made."
    web, left_out = config["website"], set()

    def fit(entry):
        if isinstance(entry, list):
            return [e for e in map(fit, entry) if e is not None]
        if isinstance(entry, dict):
            entry = {
                k: fit(v) if k in ("contents", "menu", "href", "left", "right") else v
                for k, v in entry.items()
            }
            return None if "href" in entry and entry["href"] is None else entry
        if str(entry).endswith((".ipynb", ".html")) and "://" not in str(entry):
            name = plain_name(str(entry))
            if (folder / name).exists():
                return name
            left_out.add(name)
            return None
        return entry

    for bar in ("navbar", "sidebar"):
        if bar in web:
            web[bar] = fit(web[bar])
    for name in sorted(left_out):
        print(f"site: {name} is left out of the navigation: there is no such page", file=sys.stderr)
    config["project"]["output-dir"] = "_docs"
    (folder / "_quarto.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf-8")


# ---------------------------------------------------------------- rendering


def render(
    folder: Path,  # The bridged folder
    quarto: bool = False,  # Whether to call Quarto instead of smalldocs
    draft: bool = False,  # Whether to print smalldocs' warnings instead of stopping at them
) -> Path:  # The folder with the site
    "Render the site; anything the renderer warns of is an error, but for the options that only Quarto reads."
    if quarto:
        subprocess.run(["quarto", "render", "--no-execute"], cwd=folder, check=True)
        return folder / "_docs"
    from smalldocs.config import load
    from smalldocs.site import Site

    site = Site(load(folder), quiet=True)
    site.build()
    wrong = [w for w in site.warnings if not w.endswith(IGNORED)]
    if draft:
        print("".join(f"site: {w}\n" for w in wrong), end="", file=sys.stderr)
    elif wrong:
        raise SiteError("smalldocs warns; mend the pages or `_quarto.yml`:\n  " + "\n  ".join(wrong))
    return site.out


# ---------------------------------------------------------------- after rendering

FIGURE = re.compile(r'(<div class="plotly-figure"[^>]*data-figure="([^"]+)"[^>]*>)')
MATHS = re.compile(r'(<span class="math (inline|display)">)\\[(\[](.*?)\\[)\]]</span>', re.S)
KATEX = re.compile(r"<link[^>]*katex[^>]*>|<script[^>]*katex[^>]*></script>")
NUMERIC = re.compile(r"[-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|inf)%?|NaN|")
FONTS = re.compile(r"""@import\s+(?:url\(["']?https?://[^)]*\)|["']https?://[^"']*["'])[^;]*;""")


def mathml(
    text: str,  # A page's HTML
    page: str,  # Its name, for the message
) -> str:  # The page with MathML, which browsers draw without a script
    "Turn the TeX that smalldocs leaves to a script from the network into MathML."
    from latex2mathml.converter import convert

    def draw(m: re.Match) -> str:
        tex = html.unescape(m[3]).strip()
        try:
            return f"{m[1]}{convert(tex, display='inline' if m[2] == 'inline' else 'block')}</span>"
        except Exception as e:
            raise SiteError(
                f"{page}: latex2mathml cannot read {tex!r} ({type(e).__name__}); write it more simply"
            ) from e

    return KATEX.sub("", MATHS.sub(draw, text))


def align_numbers(
    text: str,  # A page's HTML
) -> str:  # The page with the class `number` on columns of numbers
    "Mark the columns of pandas tables that hold only numbers, so that they align at the right."

    def table(m: re.Match) -> str:
        rows = [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", r, re.S) for r in m[0].split("</tr>")]
        body = [r for r, raw in zip(rows, m[0].split("</tr>"), strict=True) if "<td" in raw]
        wide = {len(r) for r in body}
        if len(wide) != 1:
            return m[0]
        numeric = [all(NUMERIC.fullmatch(v.strip()) for v in column) for column in zip(*body, strict=True)]
        return "</tr>".join(mark(r, numeric) for r in m[0].split("</tr>"))

    def mark(row: str, numeric: list[bool]) -> str:
        if len(re.findall(r"<t[hd]\b", row)) != len(numeric):
            return row
        kinds = iter(numeric)
        return re.sub(r"<(t[hd])\b", lambda c: f'<{c[1]} class="number"' if next(kinds) else c[0], row)

    return re.sub(r'<table[^>]*class="dataframe.*?</table>', table, text, flags=re.S)


def finish(
    out: Path,  # The rendered site, changed in place
    figures: dict[str, str],  # The JSON of each figure, by the id of its place
    script: Path,  # The script that draws them
) -> None:
    "Fill in the figures, add the shared script to the pages that have one, and cut what would leave the host."
    for path in sorted(out.rglob("*.html")):
        if path.relative_to(out).parts[0] == "runs":
            continue
        text = align_numbers(mathml(path.read_text("utf-8"), path.name))
        places = FIGURE.findall(text)
        if places:
            text = FIGURE.sub(
                lambda m: f'{m[1]}<script type="application/json">{figures[m[2]]}</script>', text
            )
            up = "../" * (len(path.relative_to(out).parts) - 1)
            tags = "".join(
                f'<script defer src="{up}site_libs/figures/{n}"></script>'
                for n in ("plotly.min.js", script.name)
            )
            text = text.replace("</head>", tags + "</head>", 1)
        path.write_text(text, "utf-8")
    for path in out.rglob("*.css"):
        path.write_text(FONTS.sub("", path.read_text("utf-8")), "utf-8")
    for path in out.rglob(
        "*.llms.md"
    ):  # A module's docstring, written by nbdev, names its page's text `page.html.md`
        shutil.copy(path, path.with_name(path.name.replace(".llms.md", ".html.md")))
    if figures:
        from plotly.offline import get_plotlyjs

        libs = out / "site_libs" / "figures"
        libs.mkdir(parents=True, exist_ok=True)
        (libs / "plotly.min.js").write_text(get_plotlyjs(), "utf-8")
        shutil.copy(script, libs)
    (out / ".nojekyll").touch()


def report_page(
    report: Path,  # The report of a run, in the run's folder
    results: Path = ROOT / "nbs" / "results",  # What is published
) -> str:  # Its HTML
    "A run's report, with the alignment that is published where the run itself has none."
    text = report.read_text("utf-8")
    if not (results / "alignments.parquet").exists() or not (report.parent / "averages").is_dir():
        return text
    from dataclasses import replace

    import pandas as pd

    from mmpc_analysis.report.page import report_html
    from mmpc_analysis.report.run import read_run
    from mmpc_analysis.tables import TABLES, validate

    run = read_run(str(report.parent))
    if len(run.tables["alignments"]):
        return text
    names = ("alignments", "alignment_steps", "alarms", "alignment_checks", "alignment_effects", "claims")
    found = {name: validate(pd.read_parquet(results / f"{name}.parquet"), TABLES[name]) for name in names}
    claims = found["claims"][found["claims"]["rests_on"].str.startswith("alignment_effects")]
    found["claims"] = pd.concat([run.tables["claims"], claims], ignore_index=True)
    facts = json.loads((results / "manifest.json").read_text("utf-8")).get("alignment", {})
    return report_html(replace(run, tables=run.tables | found, manifest=run.manifest | {"alignment": facts}))


def build(
    out: Path,  # Where the site goes; a site that is already there is replaced
    quarto: bool = False,  # Whether Quarto renders
    draft: bool = False,  # Whether to go on where the renderer warns
    report: Path = ROOT / "runs" / "demo" / "report.html",  # A run's report, shown as a page where it exists
) -> Path:  # The same folder
    "Build the whole site."
    if out.exists() and any(out.iterdir()) and not (out / "site_libs").is_dir():
        raise SiteError(f"{out} is neither empty nor a built site; give another folder, or empty it yourself")
    folder = process()
    if report.exists():
        (folder / "runs").mkdir(exist_ok=True)
        (folder / "runs" / "demo.html").write_text(report_page(report), "utf-8")
    figures = bridge(folder, quarto)
    rendered = render(folder, quarto, draft)
    finish(rendered, figures, ROOT / "nbs" / "figures.js")
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(rendered, out)
    pages = sum(1 for _ in out.rglob("*.html"))
    print(f"{out}: {pages} pages, {len(figures)} figures, rendered by {'Quarto' if quarto else 'smalldocs'}")
    return out


def main() -> int:  # 0 when the site stands, 1 when not
    "Read the command line and build."
    parser = argparse.ArgumentParser(description="Build the site from the notebooks.")
    parser.add_argument("--out", type=Path, default=ROOT / "_docs", help="folder of the site (default _docs)")
    parser.add_argument(
        "--quarto", action="store_true", help="render with Quarto (the default where it is installed)"
    )
    parser.add_argument(
        "--smalldocs", action="store_true", help="render with smalldocs even where Quarto is installed"
    )
    parser.add_argument(
        "--draft", action="store_true", help="print the renderer's warnings instead of stopping at them"
    )
    args = parser.parse_args()
    quarto = args.quarto or (shutil.which("quarto") is not None and not args.smalldocs)
    if quarto and shutil.which("quarto") is None:
        print(
            "site: there is no quarto on the PATH; leave out --quarto to render with smalldocs",
            file=sys.stderr,
        )
        return 1
    try:
        build(args.out.resolve(), quarto, args.draft)
    except SiteError as e:
        print(f"site: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
