"""Small shops that import files by their platforms' documented rules.

Nothing of mmpc_analysis is used. A shop is made from its own export and gives all its cells again, so that what an import changed can be counted cell by cell.

Shopify, help.shopify.com, Using CSV files to import and export products: header names are case-sensitive; to update, Handle and Title are required;
a row belongs to the product with its handle; a column that is absent is kept, a cell that is present and blank overwrites; columns of variants need the
option columns beside them, or the variants are replaced by one.
WooCommerce, includes/import/class-wc-product-csv-importer.php and abstract-wc-product-importer.php: with `update existing`, a row whose ID or SKU is known
updates that product and any other is skipped; only mapped columns are set, blank ones too. The apostrophe before = + - @ is taken off some columns and,
by that code, not off names; other importers take it off everywhere, so `strips` says which of the two this shop is.
Google, support.google.com/merchants/answer/6324415: a supplemental feed adds attributes to products of the main feed by id; of title and structured_title
the title is shown; content has 1 to 150 characters.
"""

import copy
import csv
import io
import xml.etree.ElementTree as ET

G = "{http://base.google.com/ns/1.0}"


def csv_rows(text):
    "Header and rows of a CSV text, as dicts."
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows = list(reader)
    assert all(None not in row and None not in row.values() for row in rows), "a row of another width"
    return list(reader.fieldnames), rows


def csv_text(header, rows, newline="\n"):
    out = io.StringIO()
    writer = csv.DictWriter(out, header, lineterminator=newline)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


class ShopifyShop:
    "Products by handle, each with its rows."

    OF_VARIANTS = ("variant ", "sku", "price", "weight value", "option", "barcode", "inventory")

    def __init__(self, export):
        self.header, self.rows = csv_rows(export)
        self.key = "URL handle" if "URL handle" in self.header else "Handle"
        self.added = []

    def upload(self, data, overwrite=True):
        header, rows = csv_rows(data.decode("utf-8"))
        assert not data.startswith(b"\xef\xbb\xbf"), "the first header would begin with a mark"
        assert len(data) <= 15_000_000, "Shopify takes at most 15 MB"
        assert self.key in header and "Title" in header, f"missing headers: {header}"
        unknown = set(header) - set(self.header)
        assert not unknown, f"headers that Shopify does not know: {unknown}"
        if any(name.lower().startswith(self.OF_VARIANTS) for name in header):
            assert {"Option1 Name", "Option1 Value"} <= {name.title() for name in header}, (
                "variants are replaced"
            )
        seen = set()
        for row in rows:
            handle = row[self.key]
            mine = [r for r in self.rows if r[self.key] == handle] if handle else []
            if not mine:
                self.added.append(row)
            elif overwrite and handle not in seen:
                mine[0].update({name: value for name, value in row.items() if name != self.key})
            seen.add(handle)

    def cells(self):
        return copy.deepcopy(self.rows)


class WooShop:
    "Products and variations, each a row."

    def __init__(self, export, strips):
        self.header, self.rows = csv_rows(export)
        self.strips, self.added, self.skipped = strips, [], []
        self.id, self.name = "ID", "Name"
        self.sku = next(name for name in ("SKU", "Artikelnummer") if name in self.header)

    def _found(self, column, value, fold=str):
        return [row for row in self.rows if value and fold(row[column]) == fold(value)]

    def upload(self, data, update=True):
        assert data.startswith(b"\xef\xbb\xbf"), "WooCommerce's own exports have a mark"
        header, rows = csv_rows(data.decode("utf-8"))
        used = [name for name in header if name in self.header]
        assert used == header, f"columns that would have to be mapped by hand: {set(header) - set(used)}"
        for row in rows:
            product_id = row.get(self.id, "")
            found = self._found(self.id, product_id) or self._found(self.sku, row.get(self.sku), str.casefold)
            if not found or not update:
                self.skipped.append(row)
                continue
            assert len(found) == 1, f"{row} names {len(found)} products"
            for name in used:
                value = row[name]
                if self.strips and value[:2] in ("'=", "'+", "'-", "'@"):
                    value = value[1:]
                if name != self.id:
                    found[0][name] = value

    def cells(self):
        return copy.deepcopy(self.rows)


def structured(cell):
    "Parts of a structured title in a text feed, read letter by letter."
    source, colon, rest = cell.partition(":")
    assert colon and source in ("trained_algorithmic_media", "default", ""), cell
    if not rest.startswith('"'):
        assert '"' not in rest and ":" not in rest, f"quotes are needed in {cell}"
        return source, rest
    text, at = "", 1
    while True:
        if rest[at : at + 2] == '""':
            text, at = text + '"', at + 2
        elif rest[at] == '"':
            assert at == len(rest) - 1, f"something stands behind the quotes in {cell}"
            return source, text
        else:
            text, at = text + rest[at], at + 1


class GoogleFeed:
    "Products of a main feed by id, each with its attributes."

    def __init__(self, feed):
        self.products = dict(self._items(feed))

    @staticmethod
    def _items(feed):
        if feed.lstrip().startswith("<"):
            root = ET.fromstring(feed)
            assert root.tag == "rss" and root.get("version") == "2.0"
            for item in root.iter("item"):
                row = {}
                for child in item:
                    parts = {part.tag.removeprefix(G): part.text for part in child}
                    row.setdefault(child.tag.removeprefix(G), []).append(parts or child.text)
                yield row["id"][0], row
            return
        header, *lines = feed.removesuffix("\n").split("\n")
        for line in lines:
            cells = line.split("\t")
            assert len(cells) == len(header.split("\t")), f"a row of another width: {line!r}"
            row = {name: [cell] for name, cell in zip(header.split("\t"), cells, strict=True) if cell}
            yield row["id"][0], row

    @staticmethod
    def _content(value):
        source, text = (
            (value.get("digital_source_type"), value["content"])
            if isinstance(value, dict)
            else structured(value)
        )
        assert 1 <= len(text) <= 150, f"{len(text)} characters"
        return source, text

    def supplement(self, data):
        assert not data.startswith(b"\xef\xbb\xbf")
        for item_id, row in self._items(data.decode("utf-8")):
            assert set(row) <= {"id", "structured_title"}, f"more than titles: {set(row)}"
            assert self._content(row["structured_title"][0])[0] == "trained_algorithmic_media"
            assert item_id in self.products, f"Google knows no product {item_id!r}"
            self.products[item_id].update(row)

    def title(self, item_id):
        row = self.products[item_id]
        if row.get("title", [""])[0]:
            return row["title"][0]
        return self._content(row["structured_title"][0])[1] if "structured_title" in row else None

    def cells(self):
        return copy.deepcopy(self.products)
