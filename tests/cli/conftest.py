"""What the tests of the command line share: calling it, and a data set so small that every run takes seconds."""

from pathlib import Path

import pytest
from ended import Command, Ended
from stored_runs import copied, ran
from tiny_ratings import ROWS

from harness.cli import main
from harness.jobs.local import ProcessPool


@pytest.fixture
def harness(
    tmp_path: Path, jobs_here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`harness("run", "--seeds", "3")` runs the command in an empty folder, its jobs in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def jobs_in_processes(harness: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's jobs have processes of their own, as a user's have."""
    monkeypatch.setattr("harness.jobs.local.ProcessPool", ProcessPool)


@pytest.fixture(scope="session")
def two_quick_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that tests copy, and never write: the two quickest methods on the ratings, made once."""
    return ran(tmp_path_factory.mktemp("quick"), "--methods", "popularity,markov")


@pytest.fixture
def two_methods(harness: Command, two_quick_runs: Path, ratings: Path) -> None:
    """The folder of the test holds runs of popularity and of Markov, and all that they stand on."""
    copied(two_quick_runs, ratings.parent)


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """A ratings file in the Amazon format: 40 users with 6 interactions each, 13 items, no text."""
    path = tmp_path / "tiny.csv"
    path.write_text("\n".join(ROWS) + "\n")
    return path
