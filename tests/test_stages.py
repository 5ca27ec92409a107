"""Stages. Oracles: what a key must and must not name, counted builds, and what the operating system reports."""

import errno
import functools
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.artifacts import build_tokenizer
from harness.config import Config
from harness.errors import StageError
from harness.interfaces import Contract, Need
from harness.methods import methods, stage_of
from harness.stages import RESUME_FOLDER, Stage, StageStore, full_disk_as_one_line, locked, read_json, write_json


class Size(Config):
    """A config with one field."""

    width: int = 3


def build(*_: Any) -> None:
    """Stands for a stage's computation; the tests count their own."""


def stage(**changes: Any) -> Stage:
    return Stage(**{"kind": "table", "config": Size(), "build": build, "dataset": "d" * 16, "seed": 0, **changes})


def fit_stage(name: str, *, dataset: str = "d" * 16, seed: int = 0, precision: str = "fp32", **contract: Any) -> Stage:
    conditions = {"contract": Contract(**contract).model_dump(mode="json"), "precision": precision}
    return stage_of(Need(name, methods()[name].presets["lite"]), dataset=dataset, seed=seed, conditions=conditions)


def keys(fitted: Stage) -> dict[str, str]:
    return {each.kind: each.key for each in fitted.with_ancestors()}


def test_equal_content_has_an_equal_key_whatever_computes_it() -> None:
    assert stage().key == stage().key
    assert stage(config=Size(width=3), build=print, inputs={}).key == stage().key
    assert len(stage().key) == 16
    assert set(stage().key) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"config": Size(width=4)},
        {"dataset": "e" * 16},
        {"seed": 1},
        {"version": 2},
        {"inputs": {"below": stage(seed=1)}},
        {"conditions": {"precision": "bf16"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_the_result_changes_the_key(change: dict[str, Any]) -> None:
    assert stage(**change).key != stage().key


def test_a_change_far_below_changes_every_key_above_it() -> None:
    def chain(width: int) -> list[Stage]:
        bottom = stage(config=Size(width=width))
        middle = stage(kind="middle", inputs={"bottom": bottom})
        return [bottom, middle, stage(kind="top", inputs={"middle": middle})]

    assert all(ours.key != theirs.key for ours, theirs in zip(chain(3), chain(4), strict=True))


def test_ancestors_come_first_and_once() -> None:
    bottom = stage()
    sides = [stage(kind=kind, inputs={"bottom": bottom}) for kind in ("left", "right")]
    top = stage(kind="top", inputs={"left": sides[0], "right": sides[1]})
    assert [each.kind for each in top.with_ancestors()] == ["table", "left", "right", "top"]


def test_lite_etegrec_and_tiger_sas_share_item_vectors_and_tokenizer() -> None:
    ours, theirs = keys(fit_stage("etegrec")), keys(fit_stage("tiger-sas"))
    for kind in ("sasrec-vectors", "tokenizer"):
        assert ours[kind] == theirs[kind]
    assert ours["etegrec"] != theirs["tiger-sas"]


def test_tiger_and_letter_share_text_vectors() -> None:
    assert keys(fit_stage("tiger"))["text-vectors"] == keys(fit_stage("letter"))["text-vectors"]


def test_text_vectors_serve_all_seeds_and_what_is_drawn_serves_one() -> None:
    ours, theirs = keys(fit_stage("tiger")), keys(fit_stage("tiger", seed=1))
    assert ours["text-vectors"] == theirs["text-vectors"]
    assert ours["tokenizer"] != theirs["tokenizer"]
    assert ours["tiger"] != theirs["tiger"]


def test_the_contract_names_fitted_methods_apart_and_not_what_they_share() -> None:
    ours, theirs = keys(fit_stage("etegrec")), keys(fit_stage("etegrec", num_beams=50))
    assert ours["etegrec"] != theirs["etegrec"]
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"sasrec", "sasrec-vectors", "tokenizer"}


@pytest.mark.parametrize("change", [{"dataset": "e" * 16}, {"precision": "bf16"}], ids=["dataset", "precision"])
def test_data_set_and_precision_change_all_keys(change: dict[str, Any]) -> None:
    ours, theirs = keys(fit_stage("letter")), keys(fit_stage("letter", **change))
    assert not set(ours.values()) & set(theirs.values())


def test_times_name_only_what_reads_them_apart() -> None:
    def key(name: str, times: str) -> str:
        need = Need(name, methods()[name].presets["lite"])
        return stage_of(need, dataset="d" * 16, seed=0, conditions={"precision": "fp32", "times": times}).key

    assert key("hstu", "a" * 16) != key("hstu", "b" * 16)
    assert key("sasrec", "a" * 16) == key("sasrec", "b" * 16) == fit_stage("sasrec").key


def test_a_build_travels_to_other_processes_by_name() -> None:
    fitted = fit_stage("etegrec")
    (tokenizer,) = (each for each in fitted.with_ancestors() if each.kind == "tokenizer")
    assert tokenizer.build is build_tokenizer
    assert isinstance(fitted.build, functools.partial)


def counted(calls: list[Path], content: str = "made") -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        (folder / "result").write_text(content)
        (folder / RESUME_FOLDER).mkdir()
        return {"seconds": 1.5}

    return make


def test_a_stage_is_computed_once_and_used_from_then_on(tmp_path: Path) -> None:
    store, calls = StageStore(tmp_path), []
    assert not store.is_done(stage())
    folder = store.compute(stage(), counted(calls))
    assert store.compute(stage(), counted(calls, "again")) == folder == tmp_path / "table" / stage().key
    assert [call.name for call in calls] == [f"{stage().key}.partial"]
    assert (folder / "result").read_text() == "made"
    assert store.is_done(stage())


def test_a_finished_stage_keeps_its_record_and_no_checkpoint(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    below = stage(kind="below")
    above = stage(inputs={"part": below})
    folder = store.compute(above, counted([]))
    assert sorted(path.name for path in folder.iterdir()) == ["result", "stage.json"]
    assert not list(tmp_path.rglob("*.partial"))
    assert store.record(above) == {
        "kind": "table",
        "key": above.key,
        "version": 1,
        "config": {"width": 3},
        "dataset": "d" * 16,
        "seed": 0,
        "inputs": {"part": f"below/{below.key}"},
        "effort": 1.0,
        "seconds": 1.5,
    }


def test_a_json_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text("[1]")
    assert read_json(tmp_path / "stage.json", list) == [1]
    with pytest.raises(StageError, match=r"stage\.json: must hold a dict, but holds a list; delete the file's folder"):
        read_json(tmp_path / "stage.json")


def test_a_failed_stage_is_not_done_and_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    store = StageStore(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("checkpoint")
        raise StageError("a loss must be finite, but it is not; lower the rate")

    with pytest.raises(StageError, match="a loss must be finite"):
        store.compute(stage(), fail)
    assert not store.is_done(stage())
    folder = store.compute(stage(), counted([]))
    assert (folder / "half").read_text() == "checkpoint"


def compute_slowly(root: Path, mark: Path) -> None:
    """Computes the stage in a process of its own, and leaves the process's id where it did the work itself."""

    def make(folder: Path) -> dict[str, Any]:
        time.sleep(0.5)
        (mark / str(os.getpid())).touch()
        return {}

    StageStore(root).compute(stage(), make)


def test_two_processes_compute_a_stage_once_and_both_use_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.mkdir()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=compute_slowly, args=(tmp_path / "cache", mark)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(mark.iterdir())) == 1
    assert StageStore(tmp_path / "cache").is_done(stage())


def test_a_stage_that_another_process_computes_is_one_line_where_waiting_ends(tmp_path: Path) -> None:
    store, calls = StageStore(tmp_path), []
    lock = store.folder(stage()).with_name(f"{stage().key}.lock")
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(StageError) as raised:
        store.compute(stage(), counted(calls), wait_seconds=0.05)
    assert not calls
    line = str(raised.value)
    assert "\n" not in line
    assert "one process at a time may work on table" in line
    assert str(lock) in line
    assert "give the same command again" in line
    store.compute(stage(), counted(calls))
    assert len(calls) == 1


def test_a_lock_is_free_after_an_error_inside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / ".lock"
    with pytest.raises(KeyError), locked(path, "a run", wait_seconds=0):
        raise KeyError
    with locked(path, "a run", wait_seconds=0):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["full", "quota", "inside safetensors"],
)
def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path, error: Exception) -> None:
    def make(folder: Path) -> dict[str, Any]:
        raise error

    store = StageStore(tmp_path)
    with pytest.raises(StageError) as raised:
        store.compute(stage(), make)
    line = str(raised.value)
    assert "\n" not in line
    assert str(store.folder(stage())) in line
    assert "free some space" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full to write to")
def test_the_systems_own_full_device_is_recognised() -> None:
    with pytest.raises(StageError, match="it is full"), full_disk_as_one_line(Path("/dev/full")):
        Path("/dev/full").write_text("x")


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_as_one_line(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    write_json(path, {"a": [1, 2]})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": [1, 2]}


def test_json_that_is_cut_short_is_one_line_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    path.write_text('{\n "a": [1,\n')
    with pytest.raises(StageError) as raised:
        read_json(path)
    assert str(raised.value).startswith(f"{path}:3: must be whole JSON")
    assert "\n" not in str(raised.value)
