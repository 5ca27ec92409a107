"""A `Table` as LaTeX, for the packages booktabs and graphicx."""

import re

from results.tables.content import Table, TableCell, Unit
from results.tables.marks import UNKNOWN, groups_of, lines_below, marked, notes_of, units_of, with_sections


def to_latex(table: Table) -> str:
    """A floating table: best \\textbf, second \\underline, notes below in small print; no wider than its column.

    A table with groups of columns takes both columns of a two-column page.
    """
    width = 1 + len(table.columns)
    environment = "table*" if groups_of(table) else "table"
    heading = " & ".join(_latex(name) for name in [table.corner, *(column.name for column in table.columns)])
    notes = " \\\\\n".join(_latex(note) for note in notes_of(table))
    opening = rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}"
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
        rf"\begin{{{environment}}}",
        r"\centering\small",
        rf"\caption{{{_latex(table.caption)}}}",
        rf"\label{{tab:{_slug(table.caption)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{" + opening,
        r"\toprule",
        *_group_heading(table),
        heading + r" \\",
        r"\midrule",
        *_body(table, width),
        r"\bottomrule",
        r"\end{tabular}}",
        *([r"\par\smallskip", rf"\parbox{{\linewidth}}{{\raggedright\scriptsize {notes}}}"] if notes else []),
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def _group_heading(table: Table) -> list[str]:
    """A line of group names, and a rule below each."""
    groups = groups_of(table)
    if not groups:
        return []
    names = [rf"\multicolumn{{{count}}}{{c}}{{{_latex(group)}}}" for group, count in groups]
    rules, first = [], 2
    for _, count in groups:
        rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    return [" & ".join(["", *names]) + r" \\", "".join(rules)]


def _body(table: Table, width: int) -> list[str]:
    body: list[str] = []
    for row, opened in with_sections(table):
        units = units_of(table, row)
        if row.apart or (opened and body):
            body.append(r"\midrule")
        if opened:
            body.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_latex(opened)}}}}} \\")
        cells = [_latex_cell(cell, unit) for cell, unit in zip(row.cells, units, strict=True)]
        body.append(" & ".join([_latex(row.label), *cells]) + r" \\")
        for label, texts in lines_below(row, units):
            body.append(" & ".join([rf"\quad\textit{{{_latex(label)}}}", *map(_latex_number, texts)]) + r" \\")
    return body


def _slug(caption: str) -> str:
    """A label that \\ref takes: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")


def _latex_cell(cell: TableCell, unit: Unit) -> str:
    best, second, plus_minus = r"\textbf{{{}}}", r"\underline{{{}}}", r"{\scriptsize$\,\pm\,$"
    text = marked(cell, unit, best, second, plus_minus, "")
    text += ("}" if cell.std is not None else "") + ("$^{*}$" if cell.significant else "")
    return _latex_number(text)


def _latex_number(text: str) -> str:
    """A printed value with a true minus sign and an escaped per cent sign."""
    text = "$-$" + text[1:] if text.startswith("-") else text
    return text.replace("%", r"\%").replace(UNKNOWN, "--")


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "[": "{[}",  # after \\ or a rule it would open an optional argument
        "]": "{]}",
        "|": r"\textbar{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "*": "$^{*}$",
        "±": r"$\pm$",
        "≠": r"$\neq$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "×": r"$\times$",
        "→": r"$\rightarrow$",
        "λ": r"$\lambda$",
        "μ": r"$\mu$",
        "…": r"\ldots{}",
        "–": "--",
    }
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)
