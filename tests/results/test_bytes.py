"""Files are the same to the byte in every process. Oracle: processes whose sets and dictionaries hash differently."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_runs import write_made_up_run
from safetensors import safe_open
from torch import arange, ones

ROOT = Path(__file__).parents[2]


def write_one_of_each(folder: Path) -> None:
    """A prepared data set, codes with their keys, vectors, weights, JSON, and a whole run."""
    from harness.data.open import Source, open_dataset
    from harness.data.text.vectors import save_vectors
    from harness.generative.tokenizer.codes import CodeTable
    from harness.stages import write_json
    from harness.training.checkpoints import save_tensors

    folder.mkdir(parents=True)
    rows = [f"u{user},i{(user + step) % 13},5.0,{step}" for user in range(40) for step in range(6)]
    ratings = folder / "tiny.csv"
    ratings.write_text("\n".join(["user_id,parent_asin,rating,timestamp", *rows]) + "\n")
    open_dataset(Source(str(ratings)), folder / "cache")
    keys = [f"item-{number}" for number in range(50)]
    CodeTable.of(arange(150).reshape(50, 3) % 7, (7, 7, 7)).save(folder / "codes.safetensors", keys)
    save_vectors(folder, keys, ones(50, 4).numpy())
    save_tensors(folder / "weights.safetensors", {name: ones(3) for name in {*keys}})
    write_json(folder / "values.json", dict.fromkeys({*keys}, 1.5))
    write_made_up_run(folder / "runs", [1, 0, 3], health={"used_codes": [3, 4]})


def written(folder: Path, hash_seed: str) -> dict[str, str]:
    """The digest of each file, written by a process of its own."""
    script = f"import test_bytes, pathlib; test_bytes.write_one_of_each(pathlib.Path({str(folder)!r}))"
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "results")))
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=ROOT)
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this process writes, whose hash seed is any."""
    folder = tmp_path_factory.mktemp("ours") / "files"
    write_one_of_each(folder)
    return folder


def test_processes_write_the_same_bytes(ours: Path, tmp_path: Path) -> None:
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    theirs = written(tmp_path / "files", other)
    assert {Path(name).suffix for name in theirs} >= {".safetensors", ".json", ".parquet", ".toml"}
    assert theirs == digests(ours)


def test_no_file_of_tensors_has_several_entries_of_metadata(ours: Path) -> None:
    """The order of several differs from one write to the next, whatever the hash seed."""
    paths = [*ours.rglob("*.safetensors")]
    assert len(paths) == 3
    for path in paths:
        with safe_open(path, "pt") as file:
            assert len(file.metadata() or {}) <= 1, path
