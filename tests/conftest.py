"""What holds for every test: one thread for each process, no folder of the user's; the real data sets, if present."""

import os

# Before torch is loaded, here and in processes that tests start. Threads that wait for each other spin: with two each,
# two workers on two cores spent several times the CPU. One is also the default of `--threads`.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes is the machine's, and says nothing of the code. What is set for CI stays.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("scientific2018")` is that data set's folder; the test is skipped where it is absent."""
    base = Path(os.environ.get("HARNESS_TEST_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (base / name).exists():
            pytest.skip(f"real data set '{name}' is not in {base}; set HARNESS_TEST_DATA to its parent folder")
        return base / name

    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_folders_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test or fixture, and no process that it starts, may write into the runs, cache and studies of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "user-cache"))
        for name in ("HARNESS_RUNS_DIR", "HARNESS_CACHE_DIR", "HARNESS_STUDIES_DIR", "HARNESS_STORAGE"):
            patch.delenv(name, raising=False)
        yield
