"""What code and documents cite exists. Oracle: the headings, rows and steps of docs/methods.md, the modules, the tests.

A citation is `METHODS B.1`, `METHODS A.3 to A.5`, `C.5 #10 and #12`, `METHODS A.3, step 2`, or a bare `D.1`.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pytest

from etegrec.config import ETEGRecConfig
from etegrec.method import METHOD
from harness.config import Config
from harness.interfaces import Contract

ROOT = Path(__file__).resolve().parents[1]
METHODS_PAGE, EQUATIONS_PAGE = ROOT / "docs" / "methods.md", ROOT / "docs" / "equations.md"
FOLDERS = ("harness", "baselines", "etegrec", "sweeps", "results", "tests", "docs")

HEADING = re.compile(r"^#{2,3} ([A-F](?:\.\d+)?)\b.*$", re.MULTILINE)
ROW = re.compile(r"^\| (\d+) \|.*$", re.MULTILINE)
STEP = re.compile(r"^(\d+)\. ", re.MULTILINE)

LINE_BREAK = re.compile(r"\n[ \t]*(?:# )?")
SECTIONS = re.compile(r"(?:(?<=METHODS )[A-Z]|(?<![\w.])[A-F])\.\d+\b")
CHAPTER = re.compile(r"METHODS ([A-Z])\b(?!\.\d)")
RANGE = re.compile(r"\b([A-F])\.(\d+) to \1\.(\d+)\b")
ROWS = re.compile(r"(?<![\w.])C\.5 (#\d+(?:(?:, | and | to |, and )#\d+)*)")
STEPS = re.compile(r"(?<![\w.])([A-F]\.\d+),? step (\d+)\b")


def sections(page: str) -> dict[str, str]:
    """The text under each heading that has a number, up to the next such heading."""
    headings = list(HEADING.finditer(page))
    ends = [heading.start() for heading in headings[1:]] + [len(page)]
    return {heading[1]: page[heading.end() : end] for heading, end in zip(headings, ends, strict=True)}


def targets(page: str) -> set[str]:
    """All that can be cited: `B`, `B.1`, `C.5 #10`, `C.3 step 2`."""
    texts = sections(page)
    rows = {f"C.5 #{row[1]}" for row in ROW.finditer(texts.get("C.5", ""))}
    steps = {f"{section} step {step[1]}" for section, text in texts.items() for step in STEP.finditer(text)}
    return {*texts, *rows, *steps}


def citations(text: str) -> Iterator[str]:
    """What a text cites, in the form of `targets`; a citation may be broken over two lines of a comment."""
    text = LINE_BREAK.sub(" ", text)
    yield from SECTIONS.findall(text)
    yield from CHAPTER.findall(text)
    for chapter, first, last in RANGE.findall(text):
        yield from (f"{chapter}.{number}" for number in range(int(first), int(last) + 1))
    for rows in ROWS.findall(text):
        yield from (f"C.5 {row}" for row in re.findall(r"#\d+", rows))
    for section, step in STEPS.findall(text):
        yield f"{section} step {step}"


def documents() -> list[Path]:
    """The files whose citations are checked."""
    inside = [path for folder in FOLDERS for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind)]
    return sorted([*inside, ROOT / "README.md", ROOT / "CHANGELOG.md"])


@cache
def cited() -> frozenset[tuple[str, str]]:
    """Every file and what it cites."""
    return frozenset(
        (str(path.relative_to(ROOT)), name) for path in documents() for name in citations(path.read_text())
    )


def test_every_citation_resolves_to_a_heading_a_row_or_a_step() -> None:
    known = targets(METHODS_PAGE.read_text())
    assert len(cited()) > 100  # the patterns find what there is
    assert {citation for citation in cited() if citation[1] not in known} == set()


@pytest.mark.parametrize("section", ["A.8", "B.1", "B.2", "C.3", "C.5", "D.1", "F"])
def test_a_heading_that_is_removed_is_missed(section: str) -> None:
    page = re.sub(rf"^#+ {re.escape(section)}\b.*\n", "", METHODS_PAGE.read_text(), flags=re.MULTILINE)
    assert section in {name for _, name in cited()} - targets(page)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as published (METHODS B.1, C.5 #13)", {"B.1", "C.5", "C.5 #13"}),
        ("(METHODS A.3\n    # to A.5)", {"A.3", "A.4", "A.5"}),
        ("METHODS C.5 #9 and #35", {"C.5", "C.5 #9", "C.5 #35"}),
        ("METHODS A.3, step 2; C.3 step 1", {"A.3", "A.3 step 2", "C.3", "C.3 step 1"}),
        ("the assumptions of METHODS F.", {"F"}),
        ("F.relu(x) * 3.5e-4; METHODS = 1", set()),
    ],
)
def test_citations_are_found_in_all_their_forms(text: str, expected: set[str]) -> None:
    assert set(citations(text)) == expected


def departures() -> list[list[str]]:
    """The cells of the rows of the table of C.5."""
    rows = ROW.finditer(sections(METHODS_PAGE.read_text())["C.5"])
    return [[cell.strip() for cell in row[0].strip("|").split(" | ")] for row in rows]


def test_departures_are_numbered_without_a_gap_and_have_all_columns() -> None:
    assert [int(row[0]) for row in departures()] == list(range(1, 40))
    assert {len(row) for row in departures()} == {6}


def switches() -> set[str]:
    """The config fields that the last column of C.5 names."""
    return {name for row in departures() for name in re.findall(r"`([^`]+)`", row[-1])}


def has_field(config: type[Config], name: str) -> bool:
    """Whether a config has a dotted field."""
    first, _, rest = name.partition(".")
    field = config.model_fields.get(first)
    return field is not None and (not rest or has_field(field.annotation, rest))  # type: ignore[arg-type]


def test_the_switches_of_the_departures_are_fields() -> None:
    ours = {name for name in switches() if not name.startswith("contract.")}
    assert {name for name in ours if not has_field(ETEGRecConfig, name)} == set()
    shared = {name.removeprefix("contract.") for name in switches() - ours}
    assert shared <= set(Contract.model_fields)


def changed(before: Config, after: Config) -> set[str]:
    """The dotted names of the fields that differ."""
    names = set()
    for name, value in dict(before).items():
        other = getattr(after, name)
        if isinstance(value, Config):
            names |= {f"{name}.{inner}" for inner in changed(value, other)}
        elif value != other:
            names.add(name)
    return names


@pytest.mark.parametrize("recipe", ["paper", "official"])
def test_a_recipe_changes_the_rows_that_the_page_names(recipe: str) -> None:
    (rows,) = re.findall(
        rf"`--recipe {recipe}`[^#]*rows ((?:#\d+,?\s+)*#\d+)", sections(METHODS_PAGE.read_text())["C.5"]
    )
    named = {int(number) for number in re.findall(r"\d+", rows)} - {21}  # decoding, which the command line sets
    default = METHOD.presets["paper"]
    fields = changed(default, METHOD.recipes[recipe](default))
    switched = {int(row[0]): set(re.findall(r"`([^`]+)`", row[-1])) for row in departures()}
    assert named == {number for number, names in switched.items() if names & fields}
    assert fields <= set().union(*switched.values())


def equations() -> list[str]:
    """The rows of the tables of docs/equations.md, their heads left out."""
    tables = re.findall(r"^\|[ -]*-{3,}.*\n((?:\|.*\n?)+)", EQUATIONS_PAGE.read_text(), re.MULTILINE)
    return [row for table in tables for row in table.splitlines()]


def quoted(row: str) -> tuple[list[str], list[str]]:
    """The functions and the tests that a row names."""
    names = re.findall(r"`([^` ]+)`", row)
    tests = [name for name in names if "::" in name]
    return [name for name in names if re.match(r"(?:harness|etegrec|baselines|results)\.\w", name)], tests


def imported(name: str) -> Any:
    """The module, class, function or method of a dotted name; ImportError or AttributeError where there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        return reduce(getattr, parts[length:], found)
    raise ModuleNotFoundError(name)


@cache
def named_tests(file: str) -> frozenset[str]:
    """The tests of a file, those of classes as `Class::test`."""
    body = ast.parse((ROOT / file).read_text()).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    methods = {
        f"{node.name}::{inner.name}"
        for node in body
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef)
    }
    return frozenset(name for name in functions | methods if name.split("::")[-1].startswith("test_"))


def test_the_functions_of_the_equations_can_be_imported() -> None:
    functions = {name for row in equations() for name in quoted(row)[0]}
    assert len(functions) > 10
    for name in functions:
        assert callable(imported(name)), name


@pytest.mark.parametrize("path", [path for path in documents() if path.suffix == ".md"], ids=lambda path: path.name)
def test_modules_and_functions_that_a_document_names_can_be_imported(path: Path) -> None:
    for name in re.findall(r"`((?:harness|baselines|etegrec|results|sweeps)(?:\.\w+){2,})`", path.read_text()):
        imported(name)  # names of one dot are groups of entry points too


def test_the_tests_of_the_equations_exist() -> None:
    named = {name for row in equations() for name in quoted(row)[1]}
    missing = {name for name in named if name.split("::", 1)[1] not in named_tests(name.split("::", 1)[0])}
    assert missing == set()


def test_every_equation_names_a_function_and_a_test() -> None:
    assert [row for row in equations() if not all(quoted(row))] == []
