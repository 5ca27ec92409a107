"""The benchmark as a smoke run, and its judgement of numbers. Oracles: the list of rows asked for, arithmetic by hand.

How fast it is depends on the machine, so no test looks at that.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from importlib import util

import pytest

from harness.bench.measure import Row
from harness.bench.peer import started_peer
from harness.bench.workload import QUICK, Setup
from harness.cli import bench as command
from harness.data.open import Source, open_dataset
from harness.errors import StageError

ROWS = {
    "ETEGRec recommender training": "samples/s",
    "tokenizer epoch step": "samples/s",
    "beam-20 evaluation": "users/s",
    "RQ-VAE pre-training": "samples/s",
    "SASRec training": "targets/s",
    "SASRec full ranking": "users/s",
    "peak memory": "MiB",
}
WITH_PEER = {"ETEGRec recommender training", "beam-20 evaluation", "peak memory"}


def test_a_quick_run_measures_every_part_and_the_peer(tmp_path):
    pytest.importorskip("transformers")
    # A process of its own: the command changes the threads and the allocator for good.
    line = [sys.executable, "-m", "harness", "bench", "--quick", "--json", "--threads", "1", "--peer-batch", "10"]
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {row["what"]: row["unit"] for row in found["rows"]} == ROWS
    assert all(row["ours"] > 0 for row in found["rows"])
    assert {row["what"] for row in found["rows"] if row["ratio"] is not None} == WITH_PEER
    assert all(row["ratio"] > 0 for row in found["rows"] if row["what"] in WITH_PEER)
    assert all(row["reached"] is None for row in found["rows"])  # the aims are for the paper's sizes
    assert any("pieces of 10" in note for note in found["notes"])


def test_without_transformers_one_line_says_so_and_the_peer_is_left_out(harness, monkeypatch):
    measured = []

    def measure(setup, report):
        measured.append(setup)
        return [Row("beam-20 evaluation", "users/s", 90.0)]

    monkeypatch.setattr("harness.bench.measure.measure", measure)
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    ended = harness("bench", "--quick")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "note: the peer is left out, for transformers is not installed; pip install 'etegrec-harness[bench]'"
    ]
    assert [setup.with_peer for setup in measured] == [False]
    assert "ratio" not in ended.out.partition("beam-20")[0]
    assert "transformers" not in ended.out


def test_a_peer_that_dies_is_told_with_a_remedy(ratings, tmp_path):
    pytest.importorskip("transformers")
    folder = open_dataset(Source(str(ratings)), tmp_path / "cache")
    with started_peer(Setup(folder, threads=1, sizes=QUICK)) as peer:
        assert peer("training", 0) > 0
        (process,) = multiprocessing.active_children()
        process.kill()
        process.join()
        with pytest.raises(StageError, match=r"ended \(exit code -9\).*--peer-batch 64"):
            peer("training", 1)


def test_an_aim_is_reached_by_the_number_and_by_the_ratio():
    fast = Row("beam-20 evaluation", "users/s", 80.0, 10.0, aim=60, aim_ratio=4)
    assert (fast.ratio, fast.reached) == (8.0, True)
    assert fast._replace(peer=40.0).reached is False
    assert fast._replace(ours=59.0).reached is False
    assert fast._replace(peer=None).reached is True
    small = Row("peak memory", "MiB", 2000.0, 8000.0, aim=3072)
    assert (small.ratio, small.reached) == (4.0, True)
    assert small._replace(ours=3072.0).reached is False
    assert command._aim(fast) == "≥ 60, ≥ 4 ×"
