"""Whole grids through submitit's local executor. Oracle: equality to the byte with a run in this process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from jobs_here import run_here
from planted_runs import QUIET, stored, times, wait_until

from harness.data.prepare import load_dataset
from harness.experiment.place import Place
from harness.experiment.plan import Settings, make_plan
from harness.experiment.run import run_plan
from harness.methods import methods
from harness.testing import planted

pytest.importorskip("submitit", reason="submitit is an extra: pip install 'etegrec-harness[slurm]'")

METHODS = ("markov", "etegrec")
# More epochs than elsewhere: the grid is to be killed between the first checkpoint and the end.
TABLE = {**planted.shortened(methods()["etegrec"].tiny), "epochs": 16, "evaluate_every": 8}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.prepared(tmp_path_factory.mktemp("data") / "planted")


@pytest.fixture(scope="module")
def local_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run in this process."""
    root = tmp_path_factory.mktemp("local")
    settings = Settings(tables={"etegrec": TABLE})
    plan = make_plan(
        load_dataset(dataset), method_names=METHODS, ablation_names=[], seeds=[0], settings=settings
    )  # fmt: skip
    results = run_plan(plan, Place(dataset, root / "cache", root / "runs"), QUIET, execute=run_here)
    assert [result.outcome.status for result in results] == ["done"] * len(METHODS)
    return root


class Grid:
    """`harness run` with submitted jobs; all processes that it starts bear a mark in their environment."""

    def __init__(self, dataset: Path, root: Path):
        self.mark = f"HARNESS_TEST_MARK={uuid.uuid4().hex}"
        self.root = root
        config = root / "tiny.toml"
        config.write_text(tomli_w.dumps({"etegrec": TABLE}))
        self.command = [
            *(sys.executable, "-m", "harness", "run", "--dataset", str(dataset), "--methods", ",".join(METHODS)),
            *("--executor", "submitit", "--submitit-cluster", "local", "--jobs", "2", "--config", str(config)),
            *("--cache-dir", str(root / "cache"), "--runs-dir", str(root / "runs")),
        ]

    def start(self) -> subprocess.Popen[str]:
        name, value = self.mark.split("=")
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command, env={**os.environ, name: value}, stdout=pipe, stderr=pipe, text=True)

    def alive(self) -> list[int]:
        """Ids of all living processes that bear the mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = self.mark.encode() in (folder / "environ").read_bytes()
                is_zombie = ") Z " in (folder / "stat").read_text()
            except OSError:
                continue
            if is_ours and not is_zombie:
                found.append(int(folder.name))
        return found

    def kill(self) -> None:
        """Kills all of them; again, for those that were just being started."""
        while alive := self.alive():
            for process in alive:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)

    def epochs(self) -> list[dict]:
        """What the checkpoint of ETEGRec's alternating stage says of the epochs so far."""
        for path in self.root.glob("cache/etegrec/*.partial/resume/alternating.last.safetensors"):
            states = {int(state.name.split(".")[1]): state for state in path.parent.glob("alternating.*.json")}
            return json.loads(states[min(states)].read_text())["history"]
        return []


@pytest.fixture
def grid(dataset: Path, local_run: Path, tmp_path: Path) -> Iterator[Grid]:
    """A grid of which the shared stages are done already."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("the system does not show processes in /proc")
    for kind in ("sasrec", "sasrec-vectors", "tokenizer"):
        shutil.copytree(local_run / "cache" / kind, tmp_path / "cache" / kind)
    grid = Grid(dataset, tmp_path)
    yield grid
    grid.kill()


@pytest.mark.parametrize("victims", ["all", pytest.param("submitter", marks=pytest.mark.slow)])
def test_a_killed_grid_goes_on_to_the_bytes_of_a_local_run(grid: Grid, local_run: Path, victims: str) -> None:
    before = times(grid.root)
    submitter = grid.start()
    wait_until(lambda: grid.epochs() or submitter.poll() is not None, 300, "the first checkpoint")
    assert submitter.poll() is None, submitter.communicate()
    submitter.kill()
    submitter.wait()  # its pipes stay open, for its jobs have them too
    if victims == "all":
        grid.kill()
        done = grid.epochs()
        assert 1 <= len(done) < TABLE["epochs"]
    else:
        assert grid.alive()  # the jobs outlive it, and the new ones must come to terms with them
        done = grid.epochs()
    assert not list(grid.root.glob("runs/**/etegrec/**/ranks.parquet"))

    again = grid.start()
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, (out, err)
    assert "ETEGRec" in out
    assert before.items() <= times(grid.root).items()
    (history,) = grid.root.glob("cache/etegrec/*/history-alternating.json")
    rows = json.loads(history.read_text())
    assert rows[: len(done)] == done  # their seconds too: these epochs ran once, before the kill
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    reference = stored(local_run)
    assert len(reference) == 2 * len(METHODS)
    assert stored(grid.root) == reference
