"""What a section is made of: paragraphs, lists, facts, tables, figures, listings; each gives its HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from results.report.html import Html, data_uri, element, joined, unbroken

MANY_COLUMNS = 6  # a table with more may be wider than the text


class Block(Protocol):
    """A piece of a section."""

    def html(self) -> Html:
        """The block's markup."""
        ...


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str

    def html(self) -> Html:
        """A <p>."""
        return element("p", unbroken(self.text))


@dataclass(frozen=True)
class Heading:
    """A heading below the section's own."""

    text: str

    def html(self) -> Html:
        """An <h3>."""
        return element("h3", self.text)


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]
    is_fine_print: bool = False

    def html(self) -> Html:
        """A <ul>; nothing for no items."""
        if not self.items:
            return Html()
        items = [element("li", unbroken(item)) for item in self.items]
        return element("ul", *items, class_="notes" if self.is_fine_print else None)


@dataclass(frozen=True)
class Facts:
    """Names and their values."""

    pairs: tuple[tuple[str, str], ...]

    def html(self) -> Html:
        """A <dl>."""
        rows = [element("div", element("dt", name), element("dd", value)) for name, value in self.pairs]
        return element("dl", *rows)


@dataclass(frozen=True)
class Listing:
    """Text in a fixed width, lines kept."""

    text: str

    def html(self) -> Html:
        """A <pre>, which is scrolled by keyboard too where it is wider than the page."""
        return element("pre", element("code", unbroken(self.text)), tabindex="0")


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when asked for, and always in print."""

    title: str
    blocks: tuple[Block, ...]

    def html(self) -> Html:
        """A <details>."""
        return element("details", element("summary", self.title), *[block.html() for block in self.blocks])


@dataclass(frozen=True)
class DataColumn:
    """A heading; numbers stand to the right, and are sorted from the greatest at first."""

    name: str
    is_number: bool = True


def data_columns(*names: str, text: Sequence[str] = ()) -> tuple[DataColumn, ...]:
    """Columns with these headings: numbers, except those named in `text`."""
    return tuple(DataColumn(name, is_number=name not in text) for name in names)


@dataclass(frozen=True)
class DataCell:
    """What is printed, and what sorting and the csv file see: `value`, full precision; None is unknown."""

    text: str
    value: float | str | None = None
    aside: str = ""  # in small print beside the text: ± 0.0012
    below: str = ""  # in small print on a line of its own: an interval
    hint: str | None = None
    is_best: bool = False
    is_second: bool = False
    is_starred: bool = False
    is_code: bool = False
    is_long: bool = False  # wrapped


@dataclass(frozen=True)
class DataRow:
    """A row's label and cells, and lines in small print that stay below it when the table is sorted."""

    label: str
    cells: tuple[DataCell, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class DataTable:
    """A table that can be sorted by any column and had as csv; `foot` stays at its end."""

    name: str  # of the csv file, without its ending; unique on a page
    caption: str
    corner: str
    columns: tuple[DataColumn, ...]
    rows: tuple[DataRow, ...]
    foot: tuple[DataRow, ...] = ()
    notes: tuple[str, ...] = ()
    csv: str | None = None  # what the file holds; None: the cells' values

    def html(self) -> Html:
        """A <figure> with the table in a box of its own, its notes and a link to the csv file."""
        caption_id = f"caption-{anchor(self.name)}"
        table = element(
            "table",
            element("thead", element("tr", *self._headings())),
            # A body per row: sorting moves a row and the lines below it together.
            *[element("tbody", *_table_lines(row)) for row in self.rows],
            *([element("tfoot", *[line for row in self.foot for line in _table_lines(row)])] if self.foot else []),
            aria_labelledby=caption_id,
            data_sortable=len(self.rows) > 1,
        )
        kind = "scroll wide" if len(self.columns) >= MANY_COLUMNS else "scroll"
        return element(
            "figure",
            element("figcaption", self.caption, id=caption_id),
            element("div", table, class_=kind, tabindex="0", role="region", aria_labelledby=caption_id),
            Bullets(self.notes, is_fine_print=True).html(),
            _download(self.name, self.csv if self.csv is not None else self.values_csv()),
        )

    def values_csv(self) -> str:
        """The cells' values in full precision, one line per row; an empty field is unknown."""
        lines = [[self.corner, *(column.name for column in self.columns)]]
        lines += [[row.label, *(_csv_value(cell) for cell in row.cells)] for row in (*self.rows, *self.foot)]
        return as_csv(lines)

    def _headings(self) -> list[Html]:
        corner = element("th", self.corner, scope="col", data_kind="text")
        return [
            corner,
            *[
                element(
                    "th",
                    column.name,
                    scope="col",
                    class_="number" if column.is_number else None,
                    data_kind="number" if column.is_number else "text",
                )
                for column in self.columns
            ],
        ]


@dataclass(frozen=True)
class Picture:
    """A figure: an SVG that stands alone, or the reason why there is none; its data as csv in either case."""

    name: str  # of the csv file, without its ending; unique on a page
    caption: str
    svg: str | None
    csv: str
    notes: tuple[str, ...] = ()
    why_missing: str = ""

    def html(self) -> Html:
        """A <figure>; the SVG is an image of its own, so that its styles and ids stay inside it."""
        caption_id = f"caption-{anchor(self.name)}"
        image = None if self.svg is None else element("img", src=data_uri(self.svg, "image/svg+xml"), alt=self.caption)
        shown = (
            element("p", self.why_missing, class_="missing")
            if image is None
            else element("div", image, class_="scroll", tabindex="0", role="region", aria_labelledby=caption_id)
        )
        return element(
            "figure",
            shown,
            element("figcaption", self.caption, id=caption_id),
            Bullets(self.notes, is_fine_print=True).html(),
            _download(self.name, self.csv),
            class_="picture",
        )


@dataclass(frozen=True)
class Download:
    """A link to a file that lies in the page itself."""

    file: str
    content: str
    media_type: str = "text/plain"

    def html(self) -> Html:
        """An <a download>."""
        return element("a", self.file, href=data_uri(self.content, self.media_type), download=self.file)


@dataclass(frozen=True)
class Downloads:
    """Several files in one line."""

    label: str
    files: tuple[Download, ...]

    def html(self) -> Html:
        """A <p> with the links."""
        return element("p", self.label, " ", joined([file.html() for file in self.files], " · "), class_="files")


def anchor(text: str) -> str:
    """The text as an id: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def as_csv(lines: Sequence[Sequence[str]]) -> str:
    """The lines as csv."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def _download(name: str, content: str) -> Html:
    return Downloads("Data:", (Download(f"{anchor(name)}.csv", content, "text/csv"),)).html()


def _csv_value(cell: DataCell) -> str:
    if cell.value is None:
        return ""
    return repr(cell.value) if isinstance(cell.value, float) else str(cell.value)


def _table_lines(row: DataRow) -> list[Html]:
    label = element("th", row.label, scope="row", data_value=row.label)
    main = element("tr", label, *[_table_cell(cell) for cell in row.cells])
    return [main, *[_small_line(label, texts) for label, texts in row.lines]]


def _small_line(label: str, texts: Sequence[str]) -> Html:
    return element(
        "tr",
        element("th", label, scope="row"),
        *[element("td", text, class_="number") for text in texts],
        class_="small",
    )


def _table_cell(cell: DataCell) -> Html:
    kind = "long" if cell.is_long else None if isinstance(cell.value, str) else "number"
    text: str | Html = element("code", unbroken(cell.text)) if cell.is_code else cell.text
    text = element("strong", text) if cell.is_best else element("u", text) if cell.is_second else text
    parts = [text]
    if cell.aside:
        parts.append(element("span", cell.aside, class_="aside"))
    if cell.is_starred:
        parts.append(element("sup", "*"))
    if cell.below:
        parts.append(element("span", cell.below, class_="below"))
    return element(
        "td",
        *parts,
        class_=kind,
        title=cell.hint,
        data_value=None if cell.value is None else _csv_value(cell),
    )
