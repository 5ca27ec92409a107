"""Commands print what the pages show. Oracle: the pages themselves, numbers apart.

The quick start runs in processes of its own, as a reader would; the other pages ask of the runs that it left.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import DOCS, ROOT, agrees, blocks, steps

from harness.cli import main

QUICK_START = DOCS / "quick-start.md"
OTHERS = [page for page in sorted(DOCS.glob("*.md")) if page != QUICK_START and steps(page)]


def run(folder: Path, *command: str) -> str:
    """What a Python process prints, errors among it."""
    own = ("HARNESS_RUNS_DIR", "HARNESS_CACHE_DIR", "HARNESS_STUDIES_DIR", "HARNESS_STORAGE")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment |= {"COLUMNS": "100", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "user-cache")}
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quick start was followed; each command printed what it shows."""
    pytest.importorskip("matplotlib")
    made = tmp_path_factory.mktemp("quick-start")
    (code,) = blocks(QUICK_START, "python")
    run(made, "-c", code)
    for command, shown in steps(QUICK_START):
        printed = run(made, "-m", *shlex.split(command))
        assert agrees(printed, shown), f"$ {command}\n{printed}"
    return made


def test_the_quick_start_leads_from_a_file_to_a_report_with_one_option(folder: Path) -> None:
    commands = [command for command, _ in steps(QUICK_START)]
    assert [command.split()[1] for command in commands] == ["data", "run", "table", "compare", "figure", "report"]
    assert [word for command in commands for word in command.split() if word.startswith("-")] == ["--dataset"]
    assert (folder / "report-ratings.html").stat().st_size > 10_000


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
def test_a_pages_commands_print_what_the_page_shows(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    for command, shown in steps(page):
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        assert agrees(out, shown), f"$ {command}\n{out}"


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
