"""What the pages name exists. Oracles: the command line's own parser, the readers of files, the file system."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from doc_pages import BLOCK, DOCS, PAGES, ROOT, blocks, files

from harness.cli import main
from harness.cli.app import app
from harness.cli.values import completed
from harness.evaluation.list_files import read_lists

DATA = DOCS / "data.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = ("amazon", "etegrec", "letter", "minionerec", "recbole", "s3rec")  # of data.md, a data set each


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `harness` command of the page's shell blocks, and of the rest of its text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for code in blocks(page, "sh") for part in code.split("; ") for line in part.splitlines()]
    lines += re.findall(r"`(harness [^`…|]+)`", BLOCK.sub("", text).replace("\n", " "))
    for line in lines:
        words = shlex.split(line, comments=True)
        if "harness" in words:
            words = words[words.index("harness") + 1 :]
            yield words[: words.index(">")] if ">" in words else words


def parsed(words: list[str]) -> None:
    """Reads a command's words as `harness` would, and runs nothing; the parser's error for a word that it refuses."""
    name, command, context, rest = "harness", typer.main.get_command(app), None, completed(words)
    while rest and hasattr(command, "resolve_command"):
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]
        if not rest:  # a group that does something by itself
            return
        name, command, rest = command.resolve_command(context, rest)
    if rest:  # a command's name alone is no whole call
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_taken_by_the_parser(page: Path) -> None:
    for words in commands(page):
        if not {"--help", "--version", "--install-completion"} & set(words):
            parsed(words)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them of plain words."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_line_of_a_paragraph_begins_like_a_heading(page: Path) -> None:
    """The site takes `#12, and so on` for one, where GitHub asks for a space."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    assert not re.findall(r"^#+[^# ].*$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not link.startswith(("http://", "https://")):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_sites_navigation() -> None:
    named = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert named == {page.name for page in DOCS.glob("*.md")}


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:`|^)make ([\w-]+)", page.read_text(), re.MULTILINE)}
    assert {"install", "test", "docs"} <= named <= targets


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example files of docs/data.md."""
    for name, content in files(DATA).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def described(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"])
    out, err = capsys.readouterr()
    assert not ended.value.code, err
    return json.loads(out)


def test_the_example_files_of_each_format_are_recognised_and_read(
    examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {name: described(capsys, "data", "describe", name) for name in FOLDERS}
    formats = {name: content["source"]["format"] for name, content in found.items()}
    assert formats == {name: name for name in FOLDERS} | {"amazon": "amazon2023", "etegrec": "etegrec-jsonl"}
    # By hand: the first items of each file, counted.
    assert {name: (content["users"], content["items"]) for name, content in found.items()} == {
        "amazon": (1, 3),
        "etegrec": (1, 4),
        "letter": (2, 3),
        "minionerec": (1, 4),
        "recbole": (1, 3),
        "s3rec": (2, 3),
    }


def test_the_example_tables_texts_codes_and_lists_are_read(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = described(capsys, "data", "describe", "tables/ratings.csv", "--metadata", "tables/items.csv")
    assert (table["users"], table["items"], table["interactions"]) == (2, 4, 6)
    codes = described(capsys, "codes", "describe", "codes/Pots.index.json", "--dataset", "letter")
    assert "Pots.index.json" in json.dumps(codes)
    assert read_lists(examples / "lists" / "lists.csv").rows() == [("ann", "m3", 1, None), ("ann", "m1", 2, None)]
