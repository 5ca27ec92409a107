"""`harness clean`. Oracles: files put on disk by the test, and those that lie there afterwards."""

import json
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from harness.experiment import leftovers
from harness.stages import IN_USE, alive, is_held


@pytest.fixture
def littered(harness, two_methods) -> tuple[dict[str, Path], set[str]]:
    """A finished run of two methods; and one folder in each state that `clean` knows, by what the test calls it;
    and what lay there before them."""
    (finished,) = Path("runs").glob("*/popularity/full/*/seed=0")
    (fit,) = Path("cache/markov").glob("*/stage.json")
    (data,) = (path for path in Path("cache/prepared").iterdir() if path.is_dir())
    pristine = _tree()
    made = {
        "unfinished run": finished.with_name("seed=7"),
        "damaged run": finished.with_name("seed=8"),
        "stale run": Path("runs", finished.parts[1][:-9], *finished.parts[2:]),  # where the version before wrote it
        "unfinished stage": fit.parent.with_name(f"{'a' * 16}.partial"),
        "damaged stage": fit.parent.with_name("b" * 16),
        "stale stage": fit.parent.with_name("c" * 16),
        "unused stage": fit.parent.with_name("d" * 16),
        "unfinished data": data.with_name(".tiny.0123abcd.tmp"),
        "damaged data": data.with_name("tiny-damaged"),
        "stale data": data.with_name("tiny-stale"),
        "unused data": data.with_name("tiny-unused"),
    }
    for what, folder in made.items():
        shutil.copytree({"run": finished, "stage": fit.parent, "data": data}[what.split()[1]], folder)
    (made["unfinished run"] / "DONE").unlink()
    (made["damaged run"] / "ranks.parquet").write_bytes(b"PAR1")
    _change(made["stale run"] / "run.json", created="2001-01-01T00:00:00+00:00")
    table = next(made["damaged stage"].glob("*.safetensors"))
    table.write_bytes(table.read_bytes()[:-1])
    _change(made["stale stage"] / "stage.json", version=0)
    _change(made["unused stage"] / "stage.json", seed=99)
    (made["damaged data"] / "items.parquet").write_bytes(b"PAR1")
    _change(made["stale data"] / "meta.json", layout=0)
    _change(made["unused data"] / "meta.json", fingerprint="f" * 32)
    return made, pristine


def _change(path: Path, **fields: object) -> None:
    """Other values in a JSON file: a run's DONE is told its size, as earlier versions did."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    if (path.parent / "DONE").exists():
        sizes = json.loads((path.parent / "DONE").read_text())
        (path.parent / "DONE").write_text(json.dumps(sizes | {path.name: path.stat().st_size}))


def test_clean_lists_and_removes_what_serves_nothing_and_no_more(harness, littered):
    littered, pristine = littered
    before, printed = _tree(), harness("table", "overall").out
    listed = json.loads(harness("clean", "--json").out)
    expected = {(kind.split()[1], kind.split()[0], str(path)) for kind, path in littered.items()}
    assert {(one["what"], one["state"], one["path"]) for one in listed["leftovers"]} == expected
    assert _tree() == before  # dry by default
    for one in listed["leftovers"]:
        assert one["size"] == sum(path.stat().st_size for path in Path(one["path"]).rglob("*") if path.is_file())
    told = harness("clean", "--only", "unfinished")
    assert "3 to remove" in told.err
    assert "stale" not in told.out
    wrong = harness("clean", "--only", "old")
    assert (wrong.code, "damaged" in wrong.error) == (2, True)

    # What others hold stays: a run, a stage, and whatever is whole while a process works with the cache.
    held = [littered["unfinished run"] / ".lock", littered["unfinished stage"].with_name(f"{'a' * 16}.lock")]
    with FileLock(held[0]), FileLock(held[1]), alive(Path("cache", IN_USE)):
        ended = harness("clean", "--remove")
    left = {name for name, path in littered.items() if path.exists()}
    assert left == {"unfinished run", "unfinished stage", "unused stage", "unused data"}
    assert "removed 7 of 11, " in ended.err
    assert "freed; 4 held" in ended.err

    freed = json.loads(harness("clean", "--remove", "--json").out)["freed_bytes"]
    assert freed > 0
    assert _tree() == pristine
    assert "nothing to clean" in harness("clean").err
    assert harness("table", "overall").out == printed
    assert (
        "0 stages to compute for 0 cells"
        in harness("run", "--dataset", "tiny.csv", "--methods", "popularity,markov", "--dry-run").out
    )


def _tree() -> set[str]:
    return {str(path) for top in ("runs", "cache") for path in Path(top).rglob("*") if path.suffix != ".lock"}


def test_an_interrupted_removal_is_listed_and_ended(tmp_path):
    run = tmp_path / "runs/tiny-01234567/sasrec/full/abc/seed=0.removed"
    run.mkdir(parents=True)
    (run / "DONE").write_text("{}")
    (found,) = leftovers.find_leftovers(tmp_path / "runs", tmp_path / "cache")
    assert (found.state, found.size) == ("damaged", 2)
    assert leftovers.remove([found], tmp_path / "runs") == ([found], 2)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_file_with_a_second_name_frees_nothing(tmp_path):
    run = tmp_path / "runs/tiny-01234567/sasrec/full/abc/seed=0"
    run.mkdir(parents=True)
    (run / "weights.safetensors").write_bytes(b"0" * 100)
    os.link(run / "weights.safetensors", tmp_path / "kept.safetensors")
    (run / "run.json").write_bytes(b"0" * 10)
    (found,) = leftovers.find_leftovers(tmp_path / "runs", tmp_path / "cache")
    assert found.size == 110
    assert leftovers.remove([found], tmp_path / "runs")[1] == 10


def test_a_process_that_works_holds_a_lock_that_ends_with_it(tmp_path):
    with alive(tmp_path) as me:
        assert is_held(tmp_path / f"{me}.lock")
    assert list(tmp_path.iterdir()) == []
    assert not is_held(tmp_path / "never.lock")
    assert not (tmp_path / "never.lock").exists()
