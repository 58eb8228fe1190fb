"""Write README.md from nbs/index.ipynb: `python tools/site/readme.py`; with `--check`, only say whether it is in step."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
NOTE = "<!-- Written by tools/site/readme.py from nbs/index.ipynb; edit the notebook. -->"
ALERTS = {"note": "NOTE", "tip": "TIP", "warning": "WARNING", "important": "IMPORTANT", "caution": "CAUTION"}


def alert(
    m: re.Match,  # A callout of Quarto, `::: {.callout-kind}` to `:::`
) -> str:  # The same as an alert of GitHub
    "Turn a callout into a block quote that GitHub shows as an alert."
    heading = re.search(r"^#+ +(.*)\n+", m[2].lstrip())
    body = m[2].strip()
    if heading:
        body = f"**{heading[1]}**\n\n{body[heading.end() :].strip()}"
    return "\n".join(f"> {line}".rstrip() for line in [f"[!{ALERTS[m[1]]}]", *body.split("\n")])


def prose(
    text: str,  # A Markdown cell
    site: str,  # The published address, ending in a slash
) -> str:  # Markdown as GitHub reads it
    "Write callouts as alerts, and links to notebooks as links to their pages."
    text = re.sub(r"^::: *\{\.callout-(\w+)[^}]*\}\n(.*?)^:::$", alert, text, flags=re.M | re.S)
    page = r"\]\((?!https?://)((?:[^()\s]*/)?)(?:\d+\w*?_)?([^()/\s]+)\.(?:ipynb|html)(#[^)\s]*)?\)"
    return re.sub(page, lambda m: f"]({site}{m[1]}{m[2]}.html{m[3] or ''})", text)


def output(
    out: dict,  # One stored output
) -> str:  # It as Markdown, empty where it has no text
    "Show an output as Markdown where it is Markdown, else as text."
    data = out.get("data", {})
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    text = "".join(out.get("text") or data.get("text/plain") or "").rstrip()
    return f"```text\n{text}\n```" if text else ""


def write(
    nb: dict,  # The index notebook, processed by nbdev
    site: str,  # The published address, ending in a slash
) -> str:  # The text of README.md
    "Turn the index into a README."
    parts = []
    for cell in nb["cells"]:
        text = "".join(cell["source"]).strip()
        if cell["cell_type"] == "raw" and text.startswith("---"):
            front = yaml.safe_load(text.strip("-"))
            parts += [f"# {front['title']}", NOTE, f"> {front['description']}"]
        elif cell["cell_type"] == "markdown" and not text.startswith("<!--"):
            parts.append(prose(text, site))
        elif cell["cell_type"] == "code":
            code = "\n".join(line for line in text.split("\n") if not line.startswith("#|")).strip()
            if code and "#| echo: false" not in text:
                parts.append(f"```python\n{code}\n```")
            parts += [output(o) for o in cell.get("outputs", [])]
    return "\n\n".join(p for p in parts if p) + "\n"


def readme() -> str:  # The text that README.md should have
    "Process the index as nbdev does and write it as a README."
    from fastcore.nbio import read_nb
    from nbdev.config import get_config
    from nbdev.processors import FilterDefaults

    os.chdir(ROOT)
    config = get_config()
    nb = read_nb(ROOT / "nbs" / "index.ipynb")
    FilterDefaults()(nb)
    return write(nb, f"{config.doc_host}{config.doc_baseurl}/")


def main() -> int:  # 0 when README.md is written or in step, 1 when it is out of step
    "Read the command line; write or check."
    parser = argparse.ArgumentParser(description="Write README.md from nbs/index.ipynb.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when README.md is out of step"
    )
    args = parser.parse_args()
    path, text = ROOT / "README.md", readme()
    if not args.check:
        path.write_text(text, "utf-8")
    elif not path.exists() or path.read_text("utf-8") != text:
        print(
            "README.md is not what nbs/index.ipynb says: run `python tools/site/readme.py`", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
