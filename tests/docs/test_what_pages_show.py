"""Commands print what the pages show. Oracle: the pages themselves, numbers apart.

The other pages ask of the runs that the quick start left.
"""

import io
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from doc_pages import DOCS, agrees, blocks, steps
from jobs_here import JobsHere

from harness.cli import main

QUICK_START = DOCS / "quick-start.md"
OTHERS = [page for page in sorted(DOCS.glob("*.md")) if page != QUICK_START and steps(page)]


def printed(command: str) -> str:
    """What the command prints, errors among it; it must end well."""
    with io.StringIO() as said, redirect_stdout(said), redirect_stderr(said):
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
        assert not ended.value.code, said.getvalue()
        return said.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quick start was followed; each command printed what it shows."""
    pytest.importorskip("matplotlib")
    made = tmp_path_factory.mktemp("quick-start")
    (code,) = blocks(QUICK_START, "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.jobs.local.ProcessPool", JobsHere)
        patch.setenv("COLUMNS", "100")
        patch.chdir(made)
        exec(code, {})
        for command, shown in steps(QUICK_START):
            said = printed(command)
            assert agrees(said, shown), f"$ {command}\n{said}"
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
