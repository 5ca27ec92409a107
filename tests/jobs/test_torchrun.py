"""Two processes against one. Oracles: the gradients, ranks and files of a single process; what processes lie in /proc.

Each process is a real one, over gloo; all that the comparisons need is made by one pair of them.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed_cases as cases
import numpy as np
import pytest
import tomli_w
import torch
import torch.distributed as dist

from harness import distributed
from harness.cli.app import app, exit_code
from harness.config import merged
from harness.data.dataset import Dataset
from harness.distributed import ALONE
from harness.errors import StageError, UsageError
from harness.experiment.plan import Settings, make_plan
from harness.interfaces import Contract, Need
from harness.jobs.torchrun import World
from harness.methods import methods, stage_of
from harness.testing import planted

LAUNCHER = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": "2", "RANK": "1"}
SASREC = {**methods()["sasrec"].tiny, "epochs": 40, "patience": 60}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    return cases.together(tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process finds."""
    return cases.alone(tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("name", cases.GRADIENT_CASES)
def test_the_gradients_of_every_step_are_those_of_one_process(
    pair: list[dict[str, Any]], single: dict[str, Any], name: str
) -> None:
    expected = single["gradients"][name]
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for step in expected for gradient in step)
    for found in (one["gradients"][name] for one in pair):
        assert len(found) == len(expected) >= 2
        for step, expected_step in zip(found, expected, strict=True):
            assert [g is None for g in step] == [g is None for g in expected_step]
            for gradient, expected_gradient in zip(step, expected_step, strict=True):
                if gradient is not None:
                    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-5)


def test_both_processes_see_the_same_gradients_to_the_bit(pair: list[dict[str, Any]]) -> None:
    first, second = (one["gradients"] for one in pair)
    for name, steps in first.items():
        for step, other in zip(steps, second[name], strict=True):
            assert all(a is None or torch.equal(a, b) for a, b in zip(step, other, strict=True))


@pytest.mark.parametrize("name", ["generator", "sasrec", "one user"])
def test_a_shared_evaluation_equals_that_of_one_process_to_the_bit(
    pair: list[dict[str, Any]], single: dict[str, Any], name: str
) -> None:
    expected = single["evaluations"][name]
    for found in (one["evaluations"][name] for one in pair):
        assert [a.dtype for a in found] == [a.dtype for a in expected]
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_weights_codes_and_history_are_the_same_in_both_processes_after_every_epoch(
    pair: list[dict[str, Any]],
) -> None:
    first, second = (one["whole"] for one in pair)
    assert len(first.states) == 5
    for state, other in zip(first.states, second.states, strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in state.items())
    assert first.history == second.history
    assert [row["measures"].get("codes_changed") is not None for row in first.history] == [True, False] * 2
    assert [row["score"] is not None for row in first.history] == [False, True] * 2


def test_each_process_draws_dropout_masks_of_its_own_and_the_first_draws_those_of_one_process(
    pair: list[dict[str, Any]], single: dict[str, Any]
) -> None:
    first, second = (one["whole"].seeds for one in pair)
    assert first == single["whole"].seeds
    assert not set(first) & set(second)


def test_losses_of_an_epoch_are_those_of_one_process(pair: list[dict[str, Any]], single: dict[str, Any]) -> None:
    # The first epoch is the tokenizer's: no dropout.
    expected = single["whole"].history[0]
    found = pair[0]["whole"].history[0]
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-4)


def test_an_interrupted_training_goes_on_in_all_processes(pair: list[dict[str, Any]]) -> None:
    for one in pair:
        assert len(one["cut"].states) == 4
        assert len(one["continued"].states) < len(one["whole"].states)
        assert one["continued"].history == one["whole"].history
        assert all(
            torch.equal(tensor, one["whole"].states[-1][name]) for name, tensor in one["continued"].states[-1].items()
        )


def plan_keys(dataset: Dataset, processes: int) -> dict[str, str]:
    plan = make_plan(
        dataset,
        method_names=["markov", "tiger", "sasrec", "etegrec"],
        ablation_names=[],
        seeds=[0],
        settings=Settings(tables={name: method.tiny for name, method in methods().items()}, processes=processes),
    )
    return {stage.kind + ("" if stage.seed == 0 else "?"): stage.key for stage in plan.stages}


def test_several_processes_name_what_they_share_and_nothing_else() -> None:
    dataset = planted.planted_dataset()
    one, two = plan_keys(dataset, 1), plan_keys(dataset, 2)
    differ = {kind for kind in one if one[kind] != two[kind]}
    assert {"tiger", "sasrec", "etegrec", "sasrec-vectors"} <= differ
    assert differ.isdisjoint({"markov", "text-vectors"})
    conditions = {"contract": Contract().model_dump(mode="json"), "precision": "fp32"}
    config = merged(methods()["sasrec"].presets["lite"], methods()["sasrec"].tiny)
    plain = stage_of(Need("sasrec", config), dataset=dataset.fingerprint, seed=0, conditions=conditions)
    assert one["sasrec"] == plain.key


def test_a_process_alone_exchanges_nothing() -> None:
    rows, tensor = np.arange(3), torch.ones(2)
    assert ALONE.gather_rows(rows, rows) is rows
    assert ALONE.from_main(tensor) is tensor
    assert list(range(5))[ALONE.own] == list(range(5))
    ALONE.barrier()
    assert World.of_environment() == World()


def test_what_torchrun_cannot_give_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    with pytest.raises(UsageError, match="unset that variable"):
        World.of_environment()
    with pytest.raises(UsageError, match="cpu or cuda, but got mps"):
        World().device("mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="a GPU of its own, but there are 1"):
        World(1, 2, 1).device("cuda")


def test_processes_on_gpus_use_one_each_and_tell_hosts_what_hosts_must_know(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(current=device))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: asked.update(options, backend=backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: asked.update(destroyed=True))
    monkeypatch.setattr(World, "store", dist.HashStore())
    world = World(1, 2, 1)
    device = world.device("cuda")
    assert (device, asked["current"]) == (torch.device("cuda", 1), 1)
    with world.joined("job", device) as group:
        assert (group.rank, group.size) == (1, 2)
    assert asked["backend"] == "cpu:gloo,cuda:nccl"
    assert asked["device_id"] == device
    assert asked["timeout"].total_seconds() <= 30 * 60
    assert asked.pop("destroyed")
    with pytest.raises(ZeroDivisionError), world.joined("job", device):
        _ = 1 / 0
    assert "destroyed" not in asked  # NCCL would wait for processes that are gone


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("Connection closed by peer [127.0.0.1]:1\nat file.cc", "but one has ended; give the same"),
        ("Timed out waiting 1200000ms for recv operation", "but one has not answered for minutes; give the same"),
        ("Watchdog caught collective operation timeout: WorkNCCL", "but one has not answered for minutes"),
    ],
)
def test_a_lost_process_and_a_silent_one_are_told_as_what_they_are(
    monkeypatch: pytest.MonkeyPatch, error: str, told: str
) -> None:
    monkeypatch.setattr(distributed, "LOST_PEER_SECONDS", 0)
    with pytest.raises(StageError, match=told) as caught, distributed.telling_lost_peers():
        raise RuntimeError(error)
    assert "\n" not in str(caught.value)


def test_a_device_without_memory_is_no_lost_process() -> None:
    with pytest.raises(torch.OutOfMemoryError), distributed.telling_lost_peers():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_torchrun_starts_no_command_that_works_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHER.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="started 'harness ls'"):
        app(["ls"], standalone_mode=False)


def test_torchrun_submits_nothing_to_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (LAUNCHER | {"LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("harness.jobs.torchrun.end_when_others_end", lambda: None)
    with pytest.raises(UsageError, match="one process, but torchrun started 2; leave out one of the two") as error:
        app(["run", "--executor", "submitit"], standalone_mode=False)
    assert exit_code(error.value) == 2
    assert not list(tmp_path.iterdir())


class Launched:
    """`torchrun -m harness run` with two processes, whose descendants are known by a mark in their environment."""

    def __init__(self, dataset: Path, root: Path, *options: str):
        self.mark = f"HARNESS_TEST_MARK={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        (root / "tiny.toml").write_text(tomli_w.dumps({"sasrec": SASREC}))
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
                *("-m", "harness", "run", "--dataset", str(dataset), "--methods", "sasrec", "--device", "cpu"),
                *("--config", str(root / "tiny.toml")),
                *("--cache-dir", str(root / "cache"), "--runs-dir", str(root / "runs"), *options),
            ],
            env={**os.environ, name: value, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def alive(self, *marks: str) -> list[int]:
        """Ids of all living processes that bear our mark and the given ones."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                is_zombie = ") Z " in (folder / "stat").read_text()
            except OSError:
                continue
            if all(mark.encode() in environment for mark in (self.mark, *marks)) and not is_zombie:
                found.append(int(folder.name))
        return found


@contextmanager
def launched(dataset: Path, root: Path, *options: str) -> Iterator[Launched]:
    command = Launched(dataset, root, *options)
    try:
        yield command
    finally:
        for process in command.alive():
            os.kill(process, signal.SIGKILL)
        command.process.communicate()


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds} seconds"
        time.sleep(0.01)


def told(err: str) -> list[str]:
    """The lines of ours; torchrun adds a report of its own."""
    return [line for line in err.splitlines() if "error: " in line and "torch" not in line]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not show processes in /proc")
def test_torchrun_ends_with_one_line_when_a_process_is_killed_and_goes_on_when_told_again(tmp_path: Path) -> None:
    dataset = planted.prepared(tmp_path / "data")

    def checkpoints() -> list[Path]:
        return list(tmp_path.glob("cache/sasrec/*.partial/resume/sasrec.last.safetensors"))

    with launched(dataset, tmp_path) as command:
        wait_until(lambda: checkpoints() or command.process.poll() is not None, 180, "the first checkpoint")
        assert command.process.poll() is None, command.process.communicate()
        for process in command.alive("RANK=1"):
            os.kill(process, signal.SIGKILL)
        _, err = command.process.communicate(timeout=60)
        assert command.process.returncode not in (0, None)
        assert len(told(err)) == 1, err
        assert "one has ended; give the" in told(err)[0]
        wait_until(lambda: not command.alive(), 60, "the end of the workers")
    (states,) = ([*path.parent.glob("sasrec.*.json")] for path in checkpoints())
    done = json.loads(min(states).read_text())["history"]
    assert 1 <= len(done) < SASREC["epochs"]

    with launched(dataset, tmp_path) as command:
        out, err = command.process.communicate(timeout=300)
        assert command.process.returncode == 0, (out, err)
    assert out.count("Overall performance") == 1
    (history,) = tmp_path.glob("cache/sasrec/*/history-sasrec.json")
    rows = json.loads(history.read_text())
    assert rows[: len(done)] == done  # their seconds too: these epochs ran once, before the kill
    assert [row["epoch"] for row in rows] == list(range(1, SASREC["epochs"] + 1))
    assert json.loads((history.parent / "stage.json").read_text())["processes"] == 2
    assert len(list(tmp_path.glob("runs/**/ranks.parquet"))) == 1
