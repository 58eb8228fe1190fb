"""Build the embedded catalogue from pinned npm and Debian packages.

    python tools/catalogue/build_catalogue.py [--sources FOLDER] [--out mmpc_analysis/data/catalogue] [--check]

Needs npm, apt-get and `resvg-py` (pinned below). `--sources` keeps the downloaded packages, so that a second
build needs no network. `--check` builds into a temporary folder and compares every file with the committed one.
The result depends only on the pinned packages, `tools/catalogue/concepts.csv` and this file.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import html
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "mmpc_analysis" / "data" / "catalogue"
SIDE = 224
PINS = {"resvg-py": "0.5.0", "pillow": "13.0.0"}

# Each set is one designer's drawings. Sets of the same hand never stand on both sides of a split.
# title is the house style of that designer's listings; {a}, {b}, {c} are the concept's first keywords.
SETS = {
    "fluent-flat": {
        "package": "@iconify-json/fluent-emoji-flat@1.2.6",
        "hand": "fluent",
        "brand": "Fluent Flat",
        "title": "{brand} {name}, {a}, {b}",
    },
    "fluent-3d": {
        "package": "@iconify-json/fluent-emoji@1.2.7",
        "hand": "fluent",
        "brand": "Fluent 3D",
        "title": "{brand} {name} with {a} and {b}",
    },
    "noto": {
        "package": "@iconify-json/noto@1.2.9",
        "hand": "noto",
        "brand": "Noto",
        "title": "{brand} {name} - {a}, {b}, {c}",
    },
    "noto-classic": {
        "package": "@iconify-json/noto-v1@1.2.5",
        "hand": "noto",
        "brand": "Noto Classic",
        "title": "{brand} {name} - {a}",
    },
    "twemoji": {
        "package": "@iconify-json/twemoji@1.2.5",
        "hand": "twemoji",
        "brand": "Twemoji",
        "title": "{name} by {brand}, {a}, {b}",
    },
    "emojione": {
        "package": "@iconify-json/emojione@1.2.3",
        "hand": "emojione",
        "brand": "EmojiOne",
        "title": "{brand} {name} ({a}, {b})",
    },
    "fxemoji": {
        "package": "@iconify-json/fxemoji@1.2.2",
        "hand": "fxemoji",
        "brand": "FxEmoji",
        "title": "{name} by {brand}, {a}",
        "names": {
            "bookmark-tabs": "bookmarktab",
            "bullseye": "directhit",
            "clamp": "compression",
            "computer-disk": "minidisc",
            "computer-mouse": "threebuttonmouse",
            "control-knobs": "controlknob",
            "crayon": "lowerleftcrayon",
            "flashlight": "electrictorch",
            "floppy-disk": "blackhardshellfloppy",
            "fountain-pen": "lowerleftfountainpen",
            "framed-picture": "framewithpicture",
            "gem-stone": "gem",
            "hourglass-done": "hourglass",
            "joker": "playingcardblackjoker",
            "keyboard": "wiredkeyboard",
            "kitchen-knife": "hocho",
            "mahjong-red-dragon": "mahjong",
            "mantelpiece-clock": "manltepiececlock",
            "mobile-phone": "cellphone",
            "notebook-with-decorative-cover": "notebookdecorativecover",
            "optical-disk": "opticaldisc",
            "paintbrush": "lowerleftpaintbrush",
            "pen": "lowerleftpen",
            "pool-8-ball": "billiards",
            "red-paper-lantern": "izakayalantern",
            "scissors": "blackscissors",
            "spiral-calendar": "spiralcalendarpad",
            "studio-microphone": "studiomic",
            "telephone": "blacktelephone",
            "telephone-receiver": "telephonereceiver2",
            "video-camera": "handheldvideocamera",
            "videocassette": "videocasette",
        },
    },
}
NAMES = "emojibase-data@17.0.0"
CONSOLES = "retroarch-assets=1.7.6+git20221024+dfsg-3"
PHOTOS = "@vendure/create@2.3.4"

# Seen on the contact sheets and left out: not a thing that one can buy in its category.
NOT_PRODUCTS = {"bubbles"}
# Drawings that show another thing than their name says.
MISDRAWN = {
    "fxemoji-construction",
    "fxemoji-game-die",
    "fxemoji-linked-paperclips",
    "fxemoji-nail-polish",
    "fxemoji-window",
    "noto-classic-laptop",
}
UNSEEN_SHARE = 0.1  # of the concepts of each category


def draw(*parts: str) -> float:
    """A number in [0, 1) that depends on nothing but its parts."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
    return (int(digest[:16], 16) >> 11) / 2**53


# -- sources ------------------------------------------------------------------------------------------------


def fetch(spec: str, folder: Path) -> Path:
    """Path of a pinned package, downloaded with its own client unless it is there already."""
    debian = "=" in spec
    stem = spec.split("=")[0] if debian else spec.lstrip("@").replace("/", "-").rpartition("@")[0]
    pinned = spec.split("=")[1] if debian else spec.rpartition("@")[2]
    pattern = f"{stem}_*.deb" if debian else f"{stem}-{pinned}.tgz"
    if not list(folder.glob(pattern)):
        command = ["apt-get", "download", spec] if debian else ["npm", "pack", "--silent", spec]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob(pattern))[0]


def members(path: Path, wanted: str) -> dict[str, bytes]:
    """Contents of the archive members whose name matches a pattern."""
    debian = path.suffix == ".deb"
    unpacked = ["dpkg-deb", "--fsys-tarfile", str(path)]
    data = subprocess.run(unpacked, check=True, capture_output=True).stdout if debian else path.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = [m for m in archive.getmembers() if m.isfile() and re.search(wanted, m.name)]
        return {m.name: archive.extractfile(m).read() for m in found}


def one(path: Path, wanted: str):
    """The only JSON member that matches."""
    (content,) = members(path, wanted).values()
    return json.loads(content)


# -- names --------------------------------------------------------------------------------------------------


def words(folder: Path, concepts: list[dict], icons: dict[str, dict]) -> dict[str, dict]:
    """Name, keywords and subgroup of each concept, from the Unicode annotations in emojibase."""
    path = fetch(NAMES, folder)
    data = {entry["hexcode"].replace("-FE0F", "").lower(): entry for entry in one(path, r"/en/data\.json$")}
    groups = {g["order"]: g["message"] for g in one(path, r"/en/messages\.json$")["subgroups"]}
    codes = {}
    for code, name in one(fetch(SETS["twemoji"]["package"], folder), r"package/chars\.json$").items():
        codes.setdefault(name, code.replace("-fe0f", ""))
    facts = {}
    for row in concepts:
        slug = row["concept"]
        entry = data[codes[slug]]
        name = titled(entry["label"])
        spoken = set(re.findall(r"[a-z0-9]+", name.lower()))
        tags = [t for t in entry.get("tags", []) if re.fullmatch(r"[A-Za-z0-9 '-]{3,24}", t)]
        tags = [t.lower() for t in tags if not set(t.lower().split()) & spoken]
        facts[slug] = {"name": name, "tags": list(dict.fromkeys(tags)), "group": groups[entry["subgroup"]]}
    return facts


def titled(text: str) -> str:
    """Title case with small words in lower case."""
    small = {"of", "and", "with", "for", "the", "without", "on"}
    parts = re.sub(r"[\u201c\u201d\"\u2019]", "", text).split()
    return " ".join(
        p if p.isupper() else p if i and p in small else p[:1].upper() + p[1:] for i, p in enumerate(parts)
    )


def title(style: str, brand: str, fact: dict, category: str) -> str:
    """A listing title in a designer's house style; missing keywords are filled with the category."""
    spare = [category.replace("_", " ").lower(), "classic", "gift"]
    pool = list(dict.fromkeys([*fact["tags"], *[s for s in spare if s not in fact["name"].lower()]]))
    return style.format(brand=brand, name=fact["name"], a=pool[0], b=pool[1], c=pool[2])


# -- pictures -----------------------------------------------------------------------------------------------


def render(icon: dict, box: tuple[int, int]) -> Image.Image:
    """An icon on white, centred with a margin of one sixteenth."""
    import resvg_py

    w, h = icon.get("width", box[0]), icon.get("height", box[1])
    left, top = icon.get("left", 0), icon.get("top", 0)
    m = max(w, h) / 16
    view = f"{left - m - (max(w, h) - w) / 2} {top - m - (max(w, h) - h) / 2} {max(w, h) + 2 * m} {max(w, h) + 2 * m}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE * 2}" height="{SIDE * 2}" viewBox="{view}">{icon["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True))
    return Image.open(io.BytesIO(png)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def square(data: bytes, crop: bool) -> Image.Image:
    """A photo as a square: the middle of it, or all of it on its own background."""
    photo = Image.open(io.BytesIO(data)).convert("RGB")
    w, h = photo.size
    side = min(w, h) if crop else max(w, h)
    canvas = Image.new("RGB", (side, side), photo.getpixel((2, 2)))
    canvas.paste(photo, ((side - w) // 2, (side - h) // 2))
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=6)
    return buffer.getvalue()


# -- listings -----------------------------------------------------------------------------------------------


def split_concepts(listed: dict[str, list[dict]]) -> None:
    """Give every drawing its split.

    Per category a tenth of the concepts is `unseen`, all hands. Of every other concept drawn by two hands or
    more, one hand is `test` and the others are `train`; a concept of one hand is `train`.
    """
    by_category: dict[str, list[str]] = {}
    for concept, rows in listed.items():
        by_category.setdefault(rows[0]["category"], []).append(concept)
    for concepts in by_category.values():
        ranked = sorted(concepts, key=lambda c: draw("unseen", c))
        unseen = set(ranked[: max(1, round(UNSEEN_SHARE * len(ranked)))])
        for concept in concepts:
            rows = listed[concept]
            hands = sorted({row["hand"] for row in rows}, key=lambda hand: draw("test", concept, hand))
            for row in rows:
                seen = "test" if len(hands) > 1 and row["hand"] == hands[0] else "train"
                row["split"] = "unseen" if concept in unseen else seen


def drawings(folder: Path) -> list[dict]:
    """One listing per concept and emoji set."""
    concepts = [r for r in csv.DictReader((HERE / "concepts.csv").open()) if r["concept"] not in NOT_PRODUCTS]
    icons = {key: one(fetch(s["package"], folder), r"package/icons\.json$") for key, s in SETS.items()}
    facts = words(folder, concepts, icons)
    rows = []
    for concept in concepts:
        slug, category = concept["concept"], concept["category"]
        for key, style in SETS.items():
            icon = find_icon(icons[key], slug, style.get("names", {}))
            if icon is None or f"{key}-{slug}" in MISDRAWN:
                continue
            fact = facts[slug]
            rows.append(
                {
                    "item_id": f"{key}-{slug}",
                    "category": category,
                    "title": title(style["title"], style["brand"], fact, category),
                    "brand": style["brand"],
                    "description": f"{fact['name']} as drawn in the {style['brand']} set. Kind: {fact['group']}.",
                    "keywords": ", ".join(fact["tags"]),
                    "parent_id": slug,
                    "source": style["package"],
                    "licence": LICENCES[key],
                    "hand": style["hand"],
                    "picture": render(icon, (icons[key].get("width", 16), icons[key].get("height", 16))),
                }
            )
    return rows


def find_icon(icons: dict, slug: str, names: dict[str, str]) -> dict | None:
    """The icon of a concept, through the set's own aliases and older names."""
    name = names.get(slug) or icons.get("aliases", {}).get(slug, {}).get("parent", slug)
    return icons["icons"].get(name) or icons["icons"].get(slug.replace("-", ""))


LICENCES = {
    "fluent-flat": "MIT",
    "fluent-3d": "MIT",
    "noto": "Apache-2.0",
    "noto-classic": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "emojione": "CC-BY-4.0",
    "fxemoji": "Apache-2.0",
}
HANDHELD = {"Lynx", "Game Boy", "Game Boy Advance", "Game Boy Color", "DS", "Game Gear"}


def consoles(folder: Path) -> list[dict]:
    """The console photos of retroarch-assets, one listing each."""
    rows = []
    for path, data in sorted(members(fetch(CONSOLES, folder), r"/blurred-consoles/[^/]+\.png$").items()):
        maker, _, name = Path(path).stem.partition(" - ")
        name = name.replace("Gamecube", "GameCube").removeprefix(maker).strip()
        kind = "handheld console" if name in HANDHELD else "home console"
        rows.append(
            {
                "item_id": "console-" + slugged(f"{maker} {name}"),
                "category": "Video_Games",
                "title": f"{maker} {name}, {kind}, retro video game system",
                "brand": maker,
                "description": f"{maker} {name}, a {kind}, photographed on a grey ground.",
                "keywords": f"console, {kind}, retro, video game",
                "parent_id": "console-" + slugged(f"{maker} {name}"),
                "source": CONSOLES,
                "licence": "CC-BY-4.0",
                "hand": "retroarch",
                "picture": square(data, crop=False),
            }
        )
    return rows


PHOTO_CATEGORIES = {"Electronics": "Electronics", "Home & Garden": "Home_and_Kitchen"}


def photos(folder: Path) -> list[dict]:
    """The product photos of the Vendure demo shop whose department is one of the nine categories."""
    path = fetch(PHOTOS, folder)
    pictures = {Path(name).name: data for name, data in members(path, r"/assets/images/.*\.jpg$").items()}
    (table,) = members(path, r"/assets/products\.csv$").values()
    rows = []
    for row in csv.reader(io.StringIO(table.decode("utf-8"))):
        name, _, text, picture, facets = (cell.strip() for cell in row[:5])
        labels = [facet.split(":", 1) for facet in facets.split("|") if ":" in facet]
        department = next((value for key, value in labels if key == "category"), None)
        if not name or department not in PHOTO_CATEGORIES:
            continue
        brand = next((value.title() for key, value in labels if key == "brand"), "Vendure")
        tags = [value.lower() for key, value in labels if key in ("category", "color", "plant type")]
        rows.append(
            {
                "item_id": "photo-" + slugged(name),
                "category": PHOTO_CATEGORIES[department],
                "title": name if brand.lower() in name.lower() else f"{brand} {name}",
                "brand": brand,
                "description": html.unescape(re.sub(r"<[^>]+>", " ", text)).strip(),
                "keywords": ", ".join(dict.fromkeys(tags)),
                "parent_id": "photo-" + slugged(name),
                "source": PHOTOS,
                "licence": "MIT",
                "hand": "vendure",
                "picture": square(pictures[picture], crop=True),
            }
        )
    return rows


def slugged(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


# -- output -------------------------------------------------------------------------------------------------

FIELDS = ["item_id", "category", "title", "image", "brand", "description", "keywords", "parent_id", "split"]
FIELDS += ["source", "licence"]


def attribution(rows: list[dict], packages: dict[str, str]) -> str:
    """The credits, from the rows that were kept."""
    credits = {
        SETS["fluent-flat"][
            "package"
        ]: "Fluent Emoji (flat), Copyright Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        SETS["fluent-3d"][
            "package"
        ]: "Fluent Emoji (3D), Copyright Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        SETS["noto"][
            "package"
        ]: "Noto Emoji, Copyright Google Inc, https://github.com/googlefonts/noto-emoji",
        SETS["noto-classic"][
            "package"
        ]: "Noto Emoji (version 1), Copyright Google Inc, https://github.com/googlefonts/noto-emoji",
        SETS["twemoji"][
            "package"
        ]: "Twemoji, Copyright Twitter, Inc and other contributors, https://github.com/jdecked/twemoji",
        SETS["emojione"][
            "package"
        ]: "EmojiOne 2 (EmojiTwo), Copyright Ranks.com and contributors, https://github.com/EmojiTwo/emojitwo",
        SETS["fxemoji"][
            "package"
        ]: "FxEmojis, Copyright Mozilla Foundation, https://github.com/mozilla/fxemoji",
        CONSOLES: "RetroArch assets, Copyright 2010-2022 The RetroArch Team, https://github.com/libretro/retroarch-assets",
        PHOTOS: "Vendure demo shop, Copyright Vendure contributors, https://github.com/vendure-ecommerce/vendure; photos by the photographers named below, from Unsplash",
    }
    lines = [
        "# Attribution",
        "",
        "The pictures of the embedded catalogue are the work of others, rendered here at 224 pixels on white (drawings)",
        "or cut to a square (photos) and saved as WebP. Titles and descriptions of drawings are composed by",
        "`tools/catalogue/build_catalogue.py` from Unicode annotations (emojibase-data, MIT, Copyright Miles Johnson).",
        "None of the authors endorses this use.",
        "",
        "| package | work | licence | listings |",
        "|---|---|---|---|",
    ]
    for source, credit in credits.items():
        mine = [row for row in rows if row["source"] == source]
        lines.append(f"| `{source}` | {credit} | {mine[0]['licence']} | {len(mine)} |")
    lines += [
        "",
        "Licence texts: MIT https://opensource.org/license/mit ; Apache-2.0 https://www.apache.org/licenses/LICENSE-2.0 ;",
        "CC-BY-4.0 https://creativecommons.org/licenses/by/4.0/ .",
        "",
        "SHA-256 of the packages the catalogue was built from:",
        "",
        *[f"- `{name}` {digest}" for name, digest in sorted(packages.items())],
        "",
        f"Rendered with {', '.join(f'{name} {pin}' for name, pin in PINS.items())}.",
        "",
    ]
    return "\n".join(lines)


def build(out: Path, sources: Path) -> list[dict]:
    """Write the whole catalogue and return its rows."""
    for name, pin in PINS.items():
        if version(name) != pin:
            sys.exit(
                f"{name} must be {pin} for the same pictures, found {version(name)}; pip install {name}=={pin}"
            )
    drawn, photographed = drawings(sources), consoles(sources) + photos(sources)
    listed: dict[str, list[dict]] = {}
    for row in drawn:
        listed.setdefault(row["parent_id"], []).append(row)
    split_concepts(listed)
    for row in photographed:
        row["split"] = "unseen" if draw("unseen", row["parent_id"]) < 2 * UNSEEN_SHARE else "train"
    rows = sorted(drawn + photographed, key=lambda row: row["item_id"])
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for old in (out / "pictures").glob("*.webp"):
        old.unlink()
    hashes = {}
    for row in rows:
        row["image"] = f"pictures/{row['item_id']}.webp"
        data = webp(row["picture"])
        (out / row["image"]).write_bytes(data)
        hashes[row["image"]] = hashlib.sha256(data).hexdigest()
    with (out / "items.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    specs = [s["package"] for s in SETS.values()] + [NAMES, CONSOLES, PHOTOS]
    packages = {spec: hashlib.sha256(fetch(spec, sources).read_bytes()).hexdigest() for spec in specs}
    (out / "ATTRIBUTION.md").write_text(attribution(rows, packages), encoding="utf-8")
    for name in ("items.csv", "ATTRIBUTION.md"):
        hashes[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    (out / "hashes.json").write_text(json.dumps(hashes, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sources", type=Path, help="folder that keeps the downloaded packages")
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--check", action="store_true", help="compare with the committed catalogue instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sources = args.sources or Path(scratch) / "sources"
        sources.mkdir(parents=True, exist_ok=True)
        out = Path(scratch) / "catalogue" if args.check else args.out
        rows = build(out, sources)
        if args.check:
            ours, theirs = ((f / "hashes.json").read_text() for f in (out, args.out))
            sys.exit(0 if ours == theirs else "the committed catalogue differs from what its sources give")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    count = {s: sum(row["split"] == s for row in rows) for s in ("train", "test", "unseen")}
    print(f"{len(rows)} listings, {count}, {size / 1e6:.1f} MB in {args.out}")


if __name__ == "__main__":
    main()
