"""The quick start runs as it is printed. Oracle: the page itself, whose commands and output it gives, numbers apart."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "quick-start.md"
# The last bits of a fit, its seconds, and which of two close values is best are a machine's.
NUMBER = re.compile(r"([+-]?\d[\d,.]*(?<![,.])|[+-]?\.\d+)[¹²]?")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def steps() -> list[tuple[str, str]]:
    """Each command of the page, and what it prints."""
    text = "".join(blocks("console"))
    return re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)


def folded(text: str) -> str:
    """The text with every number `#`, and every run of white space, or of a table's rule, one sign."""
    return " ".join(re.sub("─+", "─", NUMBER.sub("#", text)).split())


def agrees(printed: str, page: str) -> bool:
    """Whether the page shows what was printed; `…` stands for anything."""
    pattern = ".*".join(re.escape(part.strip()) for part in folded(page).split("…"))
    return re.fullmatch(pattern.replace(".*", r"\s*.*?\s*") + r"\s*.*", folded(printed), re.DOTALL) is not None


def test_the_pages_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (code,) = blocks("python")
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(PAGE.parents[1])}

    def run(*command: str) -> str:
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    run("-c", code)
    commands = [command for command, _ in steps()]
    assert [command.split()[1] for command in commands] == ["data", "run", "table", "compare", "figure", "report"]
    assert [word for command in commands for word in command.split() if word.startswith("-")] == ["--dataset"]
    for command, shown in steps():
        printed = run("-m", *shlex.split(command))
        assert agrees(printed, shown), f"$ {command}\n{printed}"
    assert (tmp_path / "report-ratings.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("printed", "page", "is_shown"),
    [
        ("a 1.25 b\n ─── \nc", "a -7 b\n─\nc", True),
        ("Markov 0.7094¹", "Markov 0.7031²", True),
        ("done in 3.2 s, x\ny", "done in …\ny", True),
        ("one two three", "one … three", True),
        ("one two", "one three", False),
        ("first\nsecond", "second", False),
        ("NDCG@10 by .36", "NDCG@5 by …", True),
        ("Markov wins", "SASRec wins", False),
    ],
)
def test_pages_are_compared_in_all_but_numbers_and_gaps(printed: str, page: str, is_shown: bool) -> None:
    assert agrees(printed, page) == is_shown
